//! `trimodal describe`: says what is in pictures, sounds, or both.

use super::DeviceArguments;
use super::progress::{advance, progress};
use super::terminal::{self, line, note, print, warning};
use clap::Args;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tempfile::NamedTempFile;
use trimodal::data::{Content, Limits};
pub(super) use trimodal::describe::example;
use trimodal::describe::{Answer, Describer};
use trimodal::files::shown::{shown, shown_path};
use trimodal::files::temporary::Temporary;
use trimodal::interpret::explain::explain;
use trimodal::model::generate::Sampling;
use trimodal::numbers::percent;
use trimodal::report::page::Page;
use trimodal::train::{Choices, ModelFolder, Ranking};
use trimodal::{DType, Error, Result};

const EXAMPLES: &str = "\
Examples:
  trimodal describe my-model --image cat.jpg
  trimodal describe my-model --image cat.jpg --audio purr.wav
  trimodal describe my-model --image cat.jpg --image dog.jpg --audio purr.wav
  trimodal describe my-model --audio purr.wav --prompt \"a fluffy\"
  trimodal describe my-model --image cat.jpg --temperature 0.8 --top-p 0.9 --seed 7
  trimodal describe my-model --image cat.jpg --choices captions.txt --top 3
  trimodal describe my-model --image cat.jpg --audio purr.wav --explain why.html
  trimodal describe my-model --image cat.jpg --verify
  curl -s https://example.org/cat.jpg | trimodal describe my-model --image - --json

Pictures (PNG, JPEG, WebP) are scaled and cropped to the model's size, sounds (WAV, FLAC, MP3, Ogg Vorbis, of any rate) resampled, mixed to one channel \
and cut to the model's length. `-` is standard input; its content decides whether it is a picture or a sound, whichever option names it. The \
model knows only the words that it was trained on.

Several files are described one after the other, a line each. If there are as many pictures as sounds, they are paired in the order \
given; a single one is paired with each of the others.

--choices answers from a list: a text file with one caption on each line. No text is made; the model says how likely it finds each caption with its end (times, if it was trained with `training.contrastive`, how likely the picture and the sound alone make each caption of the list), and the captions are printed in that order with their probabilities, which sum to 1 over the list. A run of that kind has such a list: RUN/captions.txt. What picture, sound and --prompt have in common is computed once, and so is what captions begin with. With --prompt, a caption is what follows the prompt.

--json prints one JSON document per line: `image` and `audio` (the files, where given), `prompt`, `text` (with the prompt), \
`tokens` and `token_ids` (what the model made), `finish` (\"end\": the model ended the text; \"length\": it was stopped at \
--max-tokens or at the length that it was built for; \"list\": the text was chosen with --choices), `device`; with --choices also `choices`: \
`text`, `probability` and `log_probability` (in nats, among everything that the model could say) of every caption, the most likely first.

Where the model says nothing, a warning says so, and why where that is known: a model that was only shown pictures together with sounds has not \
learned what to say to a picture alone (`training.modality_dropout` teaches it). There is then no line of words (of several files: `(nothing)`), the `text` of \
--json is empty and the exit code is 1. `never_met` says in --json what the question shows that training never did, if that is so: an answer is then a guess.

--explain writes a page that shows where each word comes from: the attention of every layer and head over the picture and the \
spectrogram, and the gradient of the word's log-probability with respect to the pixels and the mel frames. What a model counts in a picture \
(`model.histograms`) has no gradient: the pixels' is then of what else is seen of them. What is shown of a word \
is what the row before it took in: that is where the word was made. The page is one file that needs no network.";

/// Say what is in pictures, sounds, or both
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Describe {
    /// A run or a model folder, as `train` and `demo` write them
    #[arg(value_name = "RUN")]
    model: PathBuf,
    /// Pictures: PNG, JPEG or WebP, or - for standard input
    #[arg(long, value_name = "F")]
    image: Vec<PathBuf>,
    /// Sounds: WAV, FLAC, MP3 or Ogg Vorbis, or - for standard input (a WAV from a pipe, `ffmpeg -i in -f wav -`, too)
    #[arg(long, value_name = "F")]
    audio: Vec<PathBuf>,
    /// The words that the text begins with
    #[arg(long, value_name = "T")]
    prompt: Option<String>,
    /// 0: always the most likely word; higher: less likely words too; 1: each word as often as the model expects it
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// With a temperature: only the K most likely words, 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// With a temperature: only the most likely words that together have this probability, 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f32,
    /// With a temperature: the seed of the choice; the same seed gives the same text
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// At most this many tokens for each
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// Answer from a list: a file with one caption on each line, which are ranked
    #[arg(long, value_name = "FILE", conflicts_with_all = ["temperature", "top_k", "top_p", "seed", "max_tokens"])]
    choices: Option<PathBuf>,
    /// With --choices: print the N most likely captions (--json has them all)
    #[arg(long, value_name = "N", default_value_t = 5, requires = "choices")]
    top: usize,
    /// Print JSON, one document per line: the text and its tokens
    #[arg(long)]
    json: bool,
    /// First check that the model's files are as they were saved
    #[arg(long)]
    verify: bool,
    /// Write a page that shows where each word comes from, laid over the picture and the spectrogram
    #[arg(long, value_name = "OUT.html")]
    explain: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What the page of `--explain` begins with.
const LEAD: &str = "Each word is made from the row of the token matrix before it. Choose a word: the overlays show how much of that row's \
attention each patch (or place) of the picture and each frame of the sound got, in any layer and head, and how the word's log-probability changes with \
each pixel and each mel value. The weights are those of the model's own kernels, recomputed from the log-sum-exp that they saved.";

/// Descriptions that are made at a time: words appear as they are made, so that more would only make the first ones later.
const AT_ONCE: usize = 8;

impl Describe {
    /// Whether it writes a file.
    pub(super) fn makes_something(&self) -> bool {
        self.explain.is_some()
    }

    pub fn run(self) -> Result<ExitCode> {
        let prompt = self.prompt.as_deref().unwrap_or_default().trim();
        // Not left to clap: it would ask for --image alone.
        if self.image.is_empty() && self.audio.is_empty() && prompt.is_empty() {
            return Err(Error::Usage("nothing to describe: expected --image FILE, --audio FILE or both".into()));
        }
        if self.explain.is_some() && self.image.is_empty() && self.audio.is_empty() {
            return Err(Error::Usage("--explain: there is no picture or sound to show attention on: expected --image FILE, --audio FILE or both".into()));
        }
        let sampling = self.sampling()?;
        let (images, sounds, _stdin) = inputs(&self.image, &self.audio)?;
        let tasks = pairs(&images, &sounds)?;
        if self.verify {
            super::verify(&self.model)?;
        }
        let device = self.device.open()?;
        let model = ModelFolder::open(&self.model, &device, DType::F32)?;
        let choices = self.choices.as_deref().map(|path| Choices::open(path, &model.tokenizer)).transpose()?;
        let mut describer = Describer::new(&model, AT_ONCE);
        let (mut nothing, mut guessed) = (false, BTreeSet::new());
        let mut page = self.explain.as_ref().map(|_| Page::new("Where each word comes from", LEAD));
        for tasks in tasks.chunks(AT_ONCE) {
            let questions = tasks
                .iter()
                .map(|(image, sound)| {
                    let path = |input: &Option<&Input>| input.map(|i| i.path.clone());
                    let question = describer.question(path(image).as_deref(), path(sound).as_deref(), prompt);
                    question.map_err(|e| [image, sound].into_iter().flatten().fold(e, |e, input| input.named(e)))
                })
                .collect::<Result<Vec<_>>>()?;
            let several = images.len().max(sounds.len()) > 1;
            let (answers, rankings) = match &choices {
                None => {
                    let mut writer = Lines { several, next: 0, said: true, tasks };
                    let answers = describer.answer(&questions, sampling, self.max_tokens, |i, text| {
                        if !self.json {
                            writer.text(i, text);
                        }
                    })?;
                    if !self.json {
                        writer.finish();
                    }
                    (answers, Vec::new())
                }
                Some(choices) => {
                    let bar = progress("ranking");
                    let rankings = describer.choose(&questions, choices, &mut |done, total| advance(&bar, done, total));
                    bar.finish_and_clear();
                    let rankings = rankings?;
                    let chosen = |(question, ranking): (_, &Ranking)| describer.chosen(question, choices, ranking.best());
                    (questions.iter().zip(&rankings).map(chosen).collect::<Result<_>>()?, rankings)
                }
            };
            let rankings = choices.as_ref().map(|choices| rankings.iter().map(move |ranking| (choices, ranking)));
            let mut rankings = rankings.into_iter().flatten();
            for (((image, sound), answer), question) in tasks.iter().zip(&answers).zip(&questions) {
                let ranking = rankings.next();
                let never_met = describer.never_met(question);
                if self.json {
                    terminal::document(&(document(&model, *image, *sound, prompt, answer, ranking, never_met, &device.to_string())? + "\n"));
                } else if let Some((choices, ranking)) = ranking {
                    if several {
                        line(format!("{}:", shown(&name(&(*image, *sound)))));
                    }
                    for &place in ranking.best_first.iter().take(self.top) {
                        line(format!("{:>9}  {}", percent(ranking.probabilities[place]), shown(&choices.texts()[place])));
                    }
                }
                if answer.is_nothing() {
                    nothing = true;
                    warning(format!("{}: {}", shown(&name(&(*image, *sound))), why_nothing(answer, never_met)));
                } else if let Some(never_met) = never_met.filter(|what| guessed.insert(*what)) {
                    warning(format!("this model may guess: {never_met} (training.modality_dropout)"));
                }
                if let Some(page) = &mut page {
                    page.section(&name(&(*image, *sound)));
                    page.text(&if answer.is_nothing() { "(nothing)".into() } else { format!("“{}”", answer.text) });
                    page.explanation(&explain(&model, question, answer)?)?;
                }
            }
        }
        if let (Some(page), Some(path)) = (&page, &self.explain) {
            page.write(path)?;
            note(format!("where each word comes from: {}", shown_path(path)));
        }
        Ok(if nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, seed: self.seed };
        sampling.check().map_err(|e| Error::Usage(format!("--{}", e.to_string().replacen('_', "-", 1))))?;
        if self.top == 0 {
            return Err(Error::Usage("--top: expected at least 1".into()));
        }
        if self.max_tokens == 0 {
            return Err(Error::Usage("--max-tokens: expected at least 1".into()));
        }
        Ok(sampling)
    }
}

/// A file to describe, by the name that the user gave it.
struct Input {
    name: String,
    path: PathBuf,
}

impl Input {
    fn new(path: &Path) -> Self {
        Input { name: path.display().to_string(), path: path.to_path_buf() }
    }

    /// Errors about standard input say so instead of naming the temporary file.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::File { path, at, what } if path == self.path => Error::File { path: self.name.clone().into(), at, what },
            other => other,
        }
    }
}

/// What standard input held, as a file that lives as long as this.
type StandardInput = (NamedTempFile, Temporary);

/// The pictures and the sounds; standard input becomes a temporary file, which lives as long as the third.
fn inputs(images: &[PathBuf], sounds: &[PathBuf]) -> Result<(Vec<Input>, Vec<Input>, Option<StandardInput>)> {
    let dash = Path::new("-");
    let named = |paths: &[PathBuf]| -> Vec<Input> { paths.iter().filter(|p| *p != dash).map(|p| Input::new(p)).collect() };
    let (mut pictures, mut heard) = (named(images), named(sounds));
    let at = |paths: &[PathBuf]| paths.iter().position(|p| p == dash);
    let place = match (at(images), at(sounds)) {
        (None, None) => return Ok((pictures, heard, None)),
        _ if images.iter().chain(sounds).filter(|p| *p == dash).count() > 1 => {
            return Err(Error::Usage("standard input (-) can only be read once: expected one `-`, found several".into()));
        }
        places => places,
    };
    let (file, content) = standard_input()?;
    let input = Input { name: "standard input".into(), path: file.path().to_path_buf() };
    // Where the option says what it is, its place in the order counts.
    match (content, place) {
        (Content::Picture, (Some(i), _)) => pictures.insert(i, input),
        (Content::Sound, (_, Some(i))) => heard.insert(i, input),
        (Content::Picture, _) => pictures.push(input),
        (Content::Sound, _) => heard.push(input),
    }
    let held = Temporary::hold(file.path());
    Ok((pictures, heard, Some((file, held))))
}

fn standard_input() -> Result<(NamedTempFile, Content)> {
    let name = Path::new("standard input");
    let limit = Limits::default().file_bytes;
    let mut head = Vec::new();
    let mut stdin = std::io::stdin().lock();
    (&mut stdin).take(12).read_to_end(&mut head).map_err(Error::io(name, "read"))?;
    let Some(content) = Content::of(&head) else {
        let expected = || format!("expected {} or {}, found nothing", Content::Picture.words(), Content::Sound.words());
        return Err(Error::file(name, if head.is_empty() { expected() } else { Content::refusal(&head) }));
    };
    let mut file = NamedTempFile::new().map_err(Error::io(std::env::temp_dir(), "create a file in"))?;
    file.write_all(&head).map_err(Error::io(file.path(), "write"))?;
    let copied = std::io::copy(&mut stdin.take(limit), &mut file).map_err(Error::io(name, "read"))?;
    if copied == limit {
        return Err(Error::file(name, format!("expected at most {limit} bytes, found more")));
    }
    file.flush().map_err(Error::io(file.path(), "write"))?;
    Ok((file, content))
}

type Task<'a> = (Option<&'a Input>, Option<&'a Input>);

/// The files of a task.
fn name(task: &Task) -> String {
    let names: Vec<&str> = [task.0, task.1].into_iter().flatten().map(|input| input.name.as_str()).collect();
    names.join(" + ")
}

/// What is described together with what.
fn pairs<'a>(images: &'a [Input], sounds: &'a [Input]) -> Result<Vec<Task<'a>>> {
    let count = images.len().max(sounds.len()).max(1);
    let each = |inputs: &'a [Input]| -> Option<Vec<Option<&'a Input>>> {
        match inputs {
            [] => Some(vec![None; count]),
            [one] => Some(vec![Some(one); count]),
            many if many.len() == count => Some(many.iter().map(Some).collect()),
            _ => None,
        }
    };
    let (Some(images), Some(sounds)) = (each(images), each(sounds)) else {
        return Err(Error::Usage(format!(
            "{} pictures and {} sounds: expected as many of each (they are paired), or one of either (it is paired with each of the others)",
            images.len(),
            sounds.len()
        )));
    };
    Ok(images.into_iter().zip(sounds).collect())
}

/// Why an answer has no words, as far as that is known.
fn why_nothing(answer: &Answer, never_met: Option<&str>) -> String {
    let how = match (answer.ids.len(), answer.ended) {
        (0, true) => "the model says nothing: it ended at once".to_string(),
        (0, false) => "the model says nothing: there is no room for a word".into(),
        (tokens, _) => format!("the model says nothing: none of its {tokens} tokens is a word"),
    };
    match never_met {
        Some(never_met) => format!("{how}; {never_met} (training.modality_dropout shows it one)"),
        None => how,
    }
}

/// The words as they come, a line for each task, which begins with its files where there are several.
struct Lines<'a> {
    several: bool,
    next: usize,
    /// Whether the task before the next has words.
    said: bool,
    tasks: &'a [Task<'a>],
}

impl Lines<'_> {
    fn text(&mut self, task: usize, text: &str) {
        self.begin(task);
        self.said = true;
        print(&shown(text));
    }

    fn begin(&mut self, task: usize) {
        while self.next <= task {
            self.end();
            self.said = false;
            if self.several {
                print(&format!("{}: ", shown(&name(&self.tasks[self.next]))));
            }
            self.next += 1;
        }
    }

    /// Ends the line that was begun. A single answer without words has none: the warning says so.
    fn end(&self) {
        match (self.next, self.said) {
            (0, _) => {}
            (_, true) => print("\n"),
            (_, false) if self.several => print("(nothing)\n"),
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.begin(self.tasks.len() - 1);
        self.end();
    }
}

fn document(
    model: &ModelFolder,
    image: Option<&Input>,
    sound: Option<&Input>,
    prompt: &str,
    answer: &Answer,
    ranking: Option<(&Choices, &Ranking)>,
    never_met: Option<&str>,
    device: &str,
) -> Result<String> {
    let tokens: Vec<_> = answer.ids.iter().map(|&id| model.tokenizer.decode(&[id])).collect::<Result<_>>()?;
    let mut document = serde_json::json!({
        "prompt": prompt, "text": answer.text, "tokens": tokens, "token_ids": answer.ids,
        "finish": if ranking.is_some() { "list" } else if answer.ended { "end" } else { "length" }, "device": device,
    });
    if let Some(never_met) = never_met {
        document["never_met"] = never_met.into();
    }
    if let Some((choices, ranking)) = ranking {
        let of = |&place: &usize| {
            serde_json::json!({
                "text": choices.texts()[place], "probability": ranking.probabilities[place], "log_probability": ranking.log_probabilities[place],
            })
        };
        document["choices"] = ranking.best_first.iter().map(of).collect();
    }
    for (key, input) in [("image", image), ("audio", sound)] {
        if let Some(input) = input {
            document[key] = input.name.as_str().into();
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<Input> {
        names.iter().map(|name| Input::new(Path::new(name))).collect()
    }

    #[test]
    fn what_goes_with_what() {
        let of = |images: &[&str], sounds: &[&str]| {
            let (images, sounds) = (files(images), files(sounds));
            let pairs = pairs(&images, &sounds)?;
            let name = |input: Option<&Input>| input.map_or("", |i| i.name.as_str()).to_string();
            Ok::<_, Error>(pairs.into_iter().map(|(image, sound)| name(image) + "+" + &name(sound)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[], &[]).unwrap(), ["+"]);
        assert_eq!(of(&["a", "b"], &[]).unwrap(), ["a+", "b+"]);
        assert_eq!(of(&[], &["x"]).unwrap(), ["+x"]);
        assert_eq!(of(&["a", "b"], &["x", "y"]).unwrap(), ["a+x", "b+y"]);
        assert_eq!(of(&["a"], &["x", "y"]).unwrap(), ["a+x", "a+y"]);
        assert_eq!(of(&["a", "b", "c"], &["x"]).unwrap(), ["a+x", "b+x", "c+x"]);
        assert!(of(&["a", "b", "c"], &["x", "y"]).unwrap_err().to_string().starts_with("3 pictures and 2 sounds: expected"));
    }
}
