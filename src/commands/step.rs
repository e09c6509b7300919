//! `trimodal step`: one sample walked through one training step.

use super::terminal::{Paint, line, painted};
use super::{ColumnArguments, DeviceArguments, WidthArguments};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::files::shown::{shown, shown_path};
use trimodal::numbers::{self, percent};
use trimodal::trace::{Access, ModelPart, Phase, Span, SpanKind, Trace};
use trimodal::train::ModelFolder;
use trimodal::train::walkthrough::{Modality, Walkthrough, walk_through};
use trimodal::{DType, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal step my-model my-data
  trimodal step my-model my-data --sample 7 --values 8 --all
  trimodal step my-model my-data --html step.html
  trimodal step my-model my-data --wide | less -S      long lines are not broken
  trimodal step my-model my-data --device emulator     the CUDA kernels themselves, without a GPU

What it shows, in order: the picture, its patches and the numbers that they become; the waveform, its mel frames; the token matrix, \
a letter for each row; which row may look at which; then every kernel of the step with the shapes that it reads and writes, the first \
numbers of what it wrote, and its file and line: forward, the loss of each word, the gradients on the way back, AdamW's update. \
Only the first layer is shown in full; the others do the same with other numbers (--all shows them).

The model's files stay as they are. No word is hidden from the sample, and the update is the first one: the moments begin at zero.";

/// Walk one sample through one training step and show every number on the way
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Step {
    /// A run or a model folder, as `train` and `demo` write them
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The data set
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Which row of the data set, from 0
    #[arg(long, value_name = "I", default_value_t = 0)]
    sample: usize,
    /// How many numbers of each tensor to print
    #[arg(long, value_name = "K", default_value_t = 5)]
    values: usize,
    /// Write a page to this file instead, with every layer: one self-contained HTML file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show every layer, not only the first
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    width: WidthArguments,
    #[command(flatten)]
    columns: ColumnArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// The most columns that a drawing has.
const COLUMNS: usize = 64;

impl Step {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.html.is_some()
    }

    pub fn run(self) -> Result<ExitCode> {
        let device = self.device.open()?;
        let model = ModelFolder::open(&self.run, &device, DType::F32)?;
        let dataset = self.columns.open(&self.data)?;
        let walked = walk_through(model, &dataset, self.sample, self.values.max(1))?;
        if let Some(path) = &self.html {
            report::step_page(&walked)?.write(path)?;
            line(format!("wrote {}: open it in a browser", shown_path(path)));
            return Ok(ExitCode::SUCCESS);
        }
        let page = Page { paint: Paint::stdout(), walk: &walked, values: self.values.max(1), all: self.all, width: self.width.columns() };
        painted(page.text().trim_end());
        Ok(ExitCode::SUCCESS)
    }
}

/// What is printed.
struct Page<'a> {
    paint: Paint,
    walk: &'a Walkthrough,
    values: usize,
    all: bool,
    /// Columns of a line.
    width: usize,
}

impl Page<'_> {
    /// Foreign text is shown before it is measured; what `strong` names is painted after: colours have no width.
    fn wrapped(&self, text: &str, indent: usize, strong: &str) -> String {
        let text = report::wrapped(text, self.width, indent);
        if strong.is_empty() { text } else { text.replacen(strong, &self.paint.strong(strong), 1) }
    }

    /// The most columns of a drawing.
    fn columns(&self) -> usize {
        COLUMNS.min(self.width)
    }

    fn text(&self) -> String {
        let walk = self.walk;
        let name = shown(&walk.name);
        let head = format!("{name}: {:?}\n({})  on {}\n", walk.text, shown(&walk.origin), shown(&walk.step.device));
        let mut text = self.wrapped(&head, 2, &name);
        text += &self.picture();
        text += &self.sound();
        text += &self.rows();
        text += &self.visible();
        text += &self.steps();
        text += &self.losses();
        text += &self.end();
        text
    }

    fn head(&self, title: &str) -> String {
        let title = format!("── {title} ──");
        self.wrapped(&format!("\n{title}\n"), 3, &title)
    }

    /// Pixels → patches.
    fn picture(&self) -> String {
        let (Some(pixels), Some(vision)) = (&self.walk.pixels, &self.walk.config.vision_config) else { return String::new() };
        let (side, patch) = (vision.image_size, vision.patch_size);
        let mut text = self.head("The picture: pixels → patches → rows");
        let across = side.min(self.columns());
        let down = across.div_ceil(2);
        for y in 0..down {
            for x in 0..across {
                let at = (y * side / down * side + x * side / across) * 3;
                text += &self.shade(&pixels[at..at + 3]);
            }
            text.push('\n');
        }
        let (patches, width) = (vision.patch_grid().pow(2), self.walk.config.hidden_size);
        let embedded = match &vision.stem {
            None => format!(
                "{patches} rows of {width}\n{}",
                report::counts(vision, width).trim_start().replace(". ", ".\n") + if vision.histograms.is_empty() { "" } else { "\n" }
            ),
            Some(stem) => format!(
                "{0} × {0} × {1}\n{2}\n",
                vision.patch_grid(),
                stem.width,
                (report::convolutions(vision, stem, width) + &report::counts(vision, width)).replace(". ", ".\n")
            ),
        };
        let first: Vec<u8> = pixels[..3 * patch.min(3)].to_vec();
        let normalised: Vec<f64> = first.iter().map(|&x| (x as f64 / 255.0 - 0.5) / 0.5).collect();
        let said = format!(
            "{side} × {side} pixels of 3 bytes → {patches} patches of {patch} × {patch} × 3 = {} numbers → {embedded}\
             the first patch begins {} → (x/255 − 0.5)/0.5 = {}\n",
            patch * patch * 3,
            first.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            report::digits(&normalised)
        );
        text + &self.wrapped(&said, 2, "")
    }

    /// A pixel: in colour for eyes, as a shade in plain text.
    fn shade(&self, rgb: &[u8]) -> String {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
        let light = (2 * r + 5 * g + b) / 8;
        let plain = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'][(255 - light) as usize * 9 / 255];
        // The 6 × 6 × 6 cube of a terminal with 256 colours.
        let cube = 16 + 36 * (r * 5 / 255) + 6 * (g * 5 / 255) + b * 5 / 255;
        let coloured = self.paint.tint(cube as u8, "█");
        if coloured == "█" { plain.to_string() } else { coloured }
    }

    /// Waveform → mel frames → rows.
    fn sound(&self) -> String {
        let (Some(wave), Some(mel), Some(audio)) = (&self.walk.waveform, &self.walk.mel, &self.walk.config.audio_config) else { return String::new() };
        let mut text = self.head("The sound: waveform → mel frames → rows");
        let bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let per = wave.len().div_ceil(self.columns()).max(1);
        let loudness: Vec<f32> = wave.chunks(per).map(|c| c.iter().fold(0f32, |m, x| m.max(x.abs()))).collect();
        let most = loudness.iter().copied().fold(1e-6, f32::max);
        text.extend(loudness.iter().map(|l| bars[(l / most * 7.0) as usize]));
        let some: Vec<f64> = wave.iter().take(self.values).map(|&x| x as f64).collect();
        text += &self.wrapped(&format!("\n{} samples at {} Hz, the first {}\n\n", wave.len(), audio.sample_rate, report::digits(&some)), 2, "");
        let (frames, mels) = (audio.frames(), audio.num_mel_bins);
        let (low, high) = mel.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
        let (down, across) = (mels.div_ceil(4), frames.min(self.columns()));
        for row in (0..down).rev() {
            for column in 0..across {
                let value = mel[column * frames / across * mels + row * mels / down];
                text.push([' ', '░', '▒', '▓', '█'][((value - low) / (high - low).max(1e-6) * 4.0).round() as usize]);
            }
            text.push('\n');
        }
        let some: Vec<f64> = mel.iter().take(self.values).map(|&x| x as f64).collect();
        let (first, layers, rows, width) = (report::digits(&some), audio.layers, audio.rows(), self.walk.config.hidden_size);
        let said = format!(
            "{frames} frames of {mels} mel bands (low below, time to the right), the first {first}\n\
             {layers} convolutions, each with a GELU → {rows} rows of {width}\n"
        );
        text += &self.wrapped(&said, 2, "");
        if let Some(hearing) = &self.walk.hearing {
            hearing.spans.iter().filter(|s| s.kind == SpanKind::Kernel).for_each(|span| text += &self.span(span));
        }
        text
    }

    /// The token matrix.
    fn rows(&self) -> String {
        let mut text = self.head(&format!("The token matrix: one row for each mark, {}, frame and word", self.walk.part_of_picture()));
        for line in self.walk.rows.chunks(self.columns()) {
            line.iter().for_each(|row| text += &self.paint.tint(colour(row.modality), &letter(row.modality).to_string()));
            text.push('\n');
        }
        for (kind, of) in self.walk.kinds() {
            let tokens: Vec<&str> = of.iter().map(|&i| self.walk.rows[i].token.as_str()).filter(|token| !token.is_empty()).collect();
            let plain = format!("{}  {:3} {}, rows {}  {}\n", letter(kind), of.len(), kind.name(), report::ranges(&of), shown(&tokens.join(" ")));
            // The letter is the first character of the line.
            let line = self.wrapped(&plain, 7, "");
            text += &(self.paint.tint(colour(kind), &letter(kind).to_string()) + &line[letter(kind).len_utf8()..]);
        }
        let (n, d) = (self.walk.rows.len(), self.walk.config.hidden_size);
        text + &self.wrapped(&format!("together [{n}, {d}]; from here on nothing knows which row came from where\n"), 2, "")
    }

    /// Which row may look at which.
    fn visible(&self) -> String {
        let mut text = self.head("visible: row i (down) looks at row j (across)");
        let n = self.walk.rows.len();
        let cells = n.min(self.columns());
        let sees =
            |i: usize, j: usize| i < cells && (self.walk.visible[i * n / cells][0]..self.walk.visible[i * n / cells][1]).contains(&((j * n / cells) as i32));
        for pair in (0..cells).step_by(2) {
            text.extend((0..cells).map(|j| match (sees(pair, j), sees(pair + 1, j)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => '·',
            }));
            text.push('\n');
        }
        text + &self.wrapped("Words and frames see what is before them, a picture's rows see each other: a block on the diagonal.\n", 2, "")
    }

    /// Every launch.
    fn steps(&self) -> String {
        let mut text = String::new();
        for (phase, part, spans) in self.walk.step.groups() {
            if matches!(phase, Phase::Clear | Phase::Report) {
                continue;
            }
            text += &self.head(&format!("{phase}: {part}"));
            let hidden = matches!(part, ModelPart::Layer(i) if i > 0) && !self.all;
            if phase == Phase::Load {
                spans.iter().for_each(|span| text += &self.wrapped(&format!("  upload  {}\n", moved(span)), 10, ""));
                continue;
            }
            if hidden {
                let kernels = spans.iter().filter(|s| s.kind == SpanKind::Kernel).count();
                text += &self.wrapped(&format!("  {kernels} launches as in layer 0, with other numbers (--all shows them)\n"), 4, "");
                continue;
            }
            let update = phase == Phase::Update && !self.all;
            let mut seen: Vec<&str> = Vec::new();
            for span in spans.iter().filter(|s| s.kind == SpanKind::Kernel && report::touches(s)) {
                // One update is like the other.
                if update && seen.contains(&span.name.as_str()) {
                    continue;
                }
                seen.push(&span.name);
                text += &self.span(span);
            }
            if update {
                let kernels = spans.iter().filter(|s| s.kind == SpanKind::Kernel).count();
                text += &self.wrapped(&format!("  {kernels} launches in all, one of each kind is shown (--all shows them)\n"), 4, "");
            }
        }
        text
    }

    fn span(&self, span: &Span) -> String {
        let what = if span.what.is_empty() { String::new() } else { format!("  {}", shown(&span.what)) };
        let mut text = self.wrapped(&format!("  {}{what}\n", span.name), 6, &span.name);
        let mut fact = |fact: &str| text += &self.wrapped(&format!("      {fact}\n"), 10, "");
        fact(&shown(&report::trace_shapes(span)));
        for operand in span.operands.iter().filter(|o| o.access != Access::Read) {
            if let Some(values) = &operand.values {
                let name = operand.tensor.as_deref().unwrap_or(&operand.name);
                let more = if operand.shape.iter().product::<usize>() > values.first.len() { " …" } else { "" };
                let (first, mean, rms) = (report::digits(&values.first), report::digit(values.mean), report::digit(values.rms));
                fact(&format!("{} = {first}{more}  (mean {mean}, rms {rms})", shown(name)));
            }
        }
        fact(&report::places(span).join("  "));
        text
    }

    /// The loss, word by word.
    fn losses(&self) -> String {
        let mut text = self.head("The loss, word by word");
        let row = |(reads, says, loss): (&str, &str, f64)| vec![reads.to_string(), says.to_string(), numbers::loss(loss), percent((-loss).exp())];
        let rows: Vec<Vec<String>> = self.walk.losses().map(row).collect();
        text += &report::fitted_table(&[("reads", 0), ("is to say", 0), ("−ln p, nats", 0), ("p", 0)], &rows, self.width);
        text
    }

    fn end(&self) -> String {
        let Trace { formula, .. } = self.walk.step;
        let report = self.walk.report;
        let launches = self.walk.step.spans.iter().filter(|s| s.kind == SpanKind::Kernel).count();
        let said = format!(
            "\nloss {} (the mean), gradient norm {}, learning rate {:.2e}; {launches} launches, {:.3} GFLOP in products ({:.3} by formula)\n",
            numbers::loss(report.loss.into()),
            numbers::digits(report.gradient_norm.into(), 4),
            report.learning_rate,
            self.walk.step.products() as f64 / 1e9,
            formula.unwrap_or(0) as f64 / 1e9
        );
        self.wrapped(&said, 2, "")
    }
}

fn moved(span: &Span) -> String {
    let operand = span.operands.last();
    operand.map_or(String::new(), |o| format!("{} {} {:?}", o.tensor.as_deref().unwrap_or(&o.name), o.dtype, o.shape))
}

fn letter(modality: Modality) -> char {
    match modality {
        Modality::Mark => '|',
        Modality::Patch | Modality::Place => 'P',
        Modality::Whole => 'A',
        Modality::Frame => 'F',
        Modality::Read => 'w',
        Modality::Word => 'W',
    }
}

fn colour(modality: Modality) -> u8 {
    match modality {
        Modality::Mark => 244,
        Modality::Patch | Modality::Place => 172,
        Modality::Whole => 130,
        Modality::Frame => 37,
        Modality::Read => 103,
        Modality::Word => 69,
    }
}
