//! One sample's way through a training step, as a page; and how its numbers are written.

use super::page::{Card, Cell, Item, Page, picture_png, spectrogram_png};
use super::trace_shapes;
use crate::data::sound::wav;
use crate::error::Result;
use crate::markup::svg::{Pen, Svg, Words};
use crate::model::config::{Stem, VisionConfig};
use crate::numbers;
use crate::ops::local_histogram;
use crate::trace::{Access, ModelPart, Phase, Span, SpanKind, twins};
use crate::train::walkthrough::{Modality, Walkthrough};

/// A walkthrough as one self-contained page: the sample, the token matrix, who sees whom, every kernel with its shapes, numbers and place, the
/// loss of each word.
///
/// # Errors
/// Where the picture or the spectrogram cannot be drawn.
pub fn step_page(walk: &Walkthrough) -> Result<Page> {
    let report = walk.report;
    let lead = format!("“{}” goes through one training step on {}: from its files to the loss, and back to every weight.", walk.text, walk.step.device);
    let mut page = Page::new("One sample, one step", &lead);
    sample(&mut page, walk)?;
    page.section("The token matrix");
    let (n, d) = (walk.rows.len(), walk.config.hidden_size);
    page.figure(
        &strip(walk),
        &format!(
            "{n} rows of {d} numbers, one for each mark, {}, frame and word, in order. From here on nothing knows which row came from where.",
            walk.part_of_picture()
        ),
    );
    let kinds: Vec<Vec<Cell>> = walk.kinds().iter().map(|(kind, rows)| vec![kind.name().into(), rows.len().to_string().into(), ranges(rows).into()]).collect();
    page.table("Where the rows come from", &["rows of", "how many", "which"], &kinds);
    page.section("Who sees whom");
    page.figure(
        &visible(walk),
        "Row i (down) looks at row j (across) where it is coloured: words and frames at what is before them, a picture's rows at each other.",
    );
    for phase in [Phase::Forward, Phase::Loss, Phase::Backward, Phase::Update] {
        page.section(match phase {
            Phase::Forward => "Forward",
            Phase::Loss => "The loss",
            Phase::Backward => "Backward",
            _ => "The update",
        });
        for (_, part, spans) in walk.step.groups().into_iter().filter(|(of, ..)| *of == phase) {
            let kernels: Vec<&Span> = spans.into_iter().filter(|s| s.kind == SpanKind::Kernel && touches(s)).collect();
            let items: Vec<Item> = kernels.iter().map(|span| item(span)).collect();
            let caption = format!("{phase}, {part}: {} launches", kernels.len());
            if matches!(part, ModelPart::Rows | ModelPart::Output | ModelPart::Layer(0)) {
                page.heading(&caption);
                page.items(&items);
            } else {
                page.folded(&caption, |page| page.items(&items));
            }
        }
        if phase == Phase::Loss {
            let rows: Vec<Vec<Cell>> = walk
                .losses()
                .map(|(reads, says, loss)| {
                    vec![
                        says.into(),
                        reads.into(),
                        numbers::loss(loss).into(),
                        Cell::Share { share: (-loss).exp(), mark: Some(1.0 / walk.config.vocab_size as f64) },
                    ]
                })
                .collect();
            page.table("Word by word: −ln p is its loss, the mark is chance", &["is to say", "having read", "−ln p, nats", "p"], &rows);
        }
    }
    let [gflop, formula] = [walk.step.products(), walk.step.formula.unwrap_or(0)].map(|flops| format!("{:.3} GFLOP", flops as f64 / 1e9));
    page.facts([
        ("loss", format!("{}, the mean over its words", numbers::loss(report.loss.into()))),
        ("gradient norm", numbers::digits(report.gradient_norm.into(), 4)),
        ("learning rate", format!("{:.2e}, AdamW's first step: the moments begin at zero", report.learning_rate)),
        ("products", format!("{gflop} by launch, {formula} by 6 · parameters · rows + attention")),
    ]);
    Ok(page)
}

fn sample(page: &mut Page, walk: &Walkthrough) -> Result<()> {
    page.section("The sample");
    let (vision, audio) = (walk.config.vision_config.as_ref(), walk.config.audio_config.as_ref());
    let picture = walk.pixels.as_ref().zip(vision).map(|(pixels, v)| picture_png(pixels, v.image_size, v.image_size)).transpose()?;
    let spectrogram = walk.mel.as_ref().zip(audio).map(|(mel, audio)| spectrogram_png(mel, audio.num_mel_bins)).transpose()?;
    let wav = walk.waveform.as_ref().zip(audio).map(|(wave, audio)| {
        let heard: Vec<i16> = wave.iter().map(|s| (s.clamp(-1.0, 1.0) * i16::MAX as f32) as i16).collect();
        wav(&heard, audio.sample_rate as u32)
    });
    let wav = wav.transpose()?;
    page.gallery(&[Card { name: &walk.name, picture, wav, spectrogram, said: &walk.text, ..Card::default() }]);
    if let (Some(pixels), Some(v)) = (&walk.pixels, vision) {
        let (side, patch, width) = (v.image_size, v.patch_size, walk.config.hidden_size);
        page.heading("Pixels → patches → rows");
        let embedded = match &v.stem {
            None => format!("a row of {width} of each."),
            Some(stem) => format!("{} numbers of each. {}", stem.width, convolutions(v, stem, width)),
        };
        let counted = counts(v, width);
        page.text(&format!(
            "{side} × {side} pixels of three bytes are {} patches of {patch} × {patch} × 3 = {} numbers, each (x/255 − 0.5)/0.5; the patch embedding makes \
             {embedded}{counted}",
            v.patch_grid().pow(2),
            patch * patch * 3
        ));
        let first = &pixels[..3 * patch.min(3)];
        let normalised: Vec<f64> = first.iter().map(|&x| (x as f64 / 255.0 - 0.5) / 0.5).collect();
        let bytes: Vec<String> = first.iter().map(ToString::to_string).collect();
        page.lines("the first patch", &format!("the first patch begins  {}\nwhich become            {}", bytes.join(" "), digits(&normalised)));
    }
    if let (Some(wave), Some(mel), Some(audio)) = (&walk.waveform, &walk.mel, audio) {
        page.heading("Waveform → mel frames → rows");
        page.text(&format!(
            "{} samples at {} Hz become {} frames of {} mel bands, and {} convolutions make {} rows of them.",
            wave.len(),
            audio.sample_rate,
            audio.frames(),
            audio.num_mel_bins,
            audio.layers,
            audio.rows()
        ));
        let some = |values: &[f32]| digits(&values.iter().take(8).map(|&x| x as f64).collect::<Vec<_>>());
        page.lines("the first numbers", &format!("the waveform begins    {}\nthe first frame begins {}", some(wave), some(mel)));
    }
    Ok(())
}

/// From embedded patches to rows of this width, in words.
pub fn convolutions(vision: &VisionConfig, stem: &Stem, width: usize) -> String {
    let depth = stem.convolutions.len();
    let pictures: Vec<String> = (0..=depth).map(|layer| format!("{0} × {0} × {1}", stem.side(vision.patch_grid(), layer), stem.channels(layer))).collect();
    let (places, last) = (vision.grid().pow(2), stem.channels(depth));
    let each = if stem.places { format!("The {last} numbers of each of the {places} places become a row of {width}; all") } else { "All".into() };
    let more = if stem.places { "one more row" } else { "one row" };
    format!(
        "Convolutions of 3 × 3, each of which reads the picture normalised and ends with a GELU, make {} of them (what comes out is added to what went in, \
         where both have the same shape). {each} {} numbers together become {more} of {width}, of the picture as a whole.",
        pictures.join(" → "),
        places * last
    )
}

/// What is counted in a picture and becomes of it, in words: a sentence behind others, or nothing.
pub fn counts(vision: &VisionConfig, width: usize) -> String {
    let [first, others @ ..] = &vision.histograms[..] else { return String::new() };
    let grids = others.iter().fold(format!("{first} × {first}"), |all, grid| format!("{all}, {grid} × {grid}"));
    let numbers = local_histogram::cells(&vision.histograms) * local_histogram::BINS;
    let what = if vision.stem.is_some() { "are added to that row" } else { "become a row" };
    format!(" Colours and directions of edges, counted in the cells of {grids}, are {numbers} numbers that {what} of {width}, of the picture as a whole.")
}

/// A launch: its kernel and what it is about; what it reads and writes, the first numbers that it wrote, and where it is defined.
fn item(span: &Span) -> Item<'_> {
    let written = span.operands.iter().filter(|o| o.access != Access::Read).filter_map(|o| {
        let values = o.values.as_ref()?;
        Some(format!("{} = {} … (rms {})", o.name, digits(&values.first), digit(values.rms)))
    });
    let lines = [trace_shapes(span)].into_iter().chain(written).chain([places(span).join("  ")]).collect();
    Item { name: &span.name, about: &span.what, lines }
}

/// Where a span's kernel is defined; for the CPU's code also where the GPUs' kernels are.
pub fn places(span: &Span) -> Vec<String> {
    let mut places = vec![span.source.clone()];
    if let (true, Some((op, pass))) = (span.source.starts_with("src/"), span.name.split_once('.')) {
        places.extend(twins(op, pass));
    }
    places
}

/// Whether there is anything that it reads or writes: a sample without a sound leaves the convolutions nothing.
pub fn touches(span: &Span) -> bool {
    span.operands.iter().any(|o| o.access != Access::Read && o.bytes > 0) && span.operands.first().is_some_and(|o| !o.shape.contains(&0))
}

/// The colour of a row, for light and dark pages alike.
fn colour(modality: Modality) -> &'static str {
    match modality {
        Modality::Mark => "#7a828b",
        Modality::Patch | Modality::Place => "#d07d2b",
        Modality::Whole => "#b3502a",
        Modality::Frame => "#2b9a8d",
        Modality::Read => "#8d7bc2",
        Modality::Word => "#3d7fd0",
    }
}

/// The token matrix as a strip.
fn strip(walk: &Walkthrough) -> String {
    let n = walk.rows.len();
    let kinds = walk.kinds();
    let width = (8 * n).max(150 * kinds.len()) as f64;
    let mut svg = Svg::default();
    let each = width / n.max(1) as f64;
    for (i, row) in walk.rows.iter().enumerate() {
        svg.rect((i as f64 * each, 0.0, 0.9 * each, 30.0), Pen::fill(colour(row.modality)));
    }
    for (i, (kind, _)) in kinds.iter().enumerate() {
        let x = (i as f64 * width / kinds.len() as f64).floor();
        svg.rect((x, 44.0, 14.0, 14.0), Pen::fill(colour(*kind)));
        svg.text((x + 20.0, 56.0), kind.short(), Words::START);
    }
    svg.figure((width, 64.0), 14.0)
}

/// `visible` as a matrix; at its left what each row is.
fn visible(walk: &Walkthrough) -> String {
    let n = walk.rows.len() as f64;
    let mut svg = Svg::default();
    for (i, interval) in walk.visible.iter().enumerate() {
        let [start, end] = interval.map(|row| row.max(0) as f64);
        let (y, pen) = (i as f64 + 1.0, Pen::fill(colour(walk.rows[i].modality)));
        svg.rect((start + 3.0, y, end - start, 0.92), pen);
        svg.rect((0.5, y, 1.5, 0.92), pen);
    }
    svg.figure((n + 4.0, n + 2.0), 1.0)
}

/// `0–1, 38, 52–60`: numbers in order, their runs shortened.
pub fn ranges(of: &[usize]) -> String {
    let runs = of.chunk_by(|a, b| a + 1 == *b);
    runs.map(|run| if run.len() == 1 { run[0].to_string() } else { format!("{}–{}", run[0], run[run.len() - 1]) }).collect::<Vec<_>>().join(", ")
}

/// Numbers with a space between them: see [`digit`].
pub fn digits(values: &[f64]) -> String {
    values.iter().map(|&v| digit(v)).collect::<Vec<_>>().join(" ")
}

/// A number with about four significant digits.
pub fn digit(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if !(1e-3..1e5).contains(&v) => format!("{value:.2e}"),
        v if v >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_numbers_are_short() {
        assert_eq!(ranges(&[0, 1, 5, 7, 8, 9]), "0–1, 5, 7–9");
        assert_eq!(digits(&[0.0, 0.5, -123.456, 1e-9, 2e6]), "0 0.5000 -123.5 1.00e-9 2.00e6");
    }
}
