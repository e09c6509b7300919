//! `trimodal learn`: the guide's chapters, their exercises and pictures.

use super::markdown;
use super::terminal::{self, Paint, line, painted};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trimodal::files::shown::{quoted, shown, shown_path};
use trimodal::files::write_file_atomic;
use trimodal::learn::{CHAPTERS, Chapter, EXERCISES, Exercise, MARK};
use trimodal::report::whole_words;
use trimodal::{Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal learn                                 the chapters
  trimodal learn 5                               the fifth, as wide as this terminal (LEARN.md holds them all); also: learn read 5
  trimodal learn exercise 5 --to mine.wgsl       a shader with a piece cut out, for you to put back
  trimodal check --shader mine.wgsl              … and checks it: fails until it is right
  trimodal learn hint 5                          a first thought; `trimodal learn hint 5 2` is the next
  trimodal learn pictures --to pictures          the guide's pictures, drawn again

No GPU is needed: without one, `check` uses a software driver (Debian: mesa-vulkan-drivers).";

/// How training works, kernel by kernel: chapters 0 to 13, each with an exercise that `check` judges
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Learn {
    /// The chapter to read: its number, or its shader's name
    chapter: Option<String>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Print a chapter
    Read {
        /// Its number, or its shader's name
        chapter: String,
    },
    /// Write a chapter's exercise: a shader with a piece cut out
    Exercise {
        /// Its number, or its shader's name
        #[arg(value_name = "N")]
        exercise: String,
        /// The WGSL file to write; an existing one is not touched
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Print a hint for an exercise, one step at a time
    Hint {
        /// The exercise's number, or its shader's name
        #[arg(value_name = "N")]
        exercise: String,
        /// Which hint: 1 is a first thought, the last is nearly the line itself
        #[arg(value_name = "STEP", default_value_t = 1)]
        step: usize,
    },
    /// Draw the guide's pictures as SVG
    Pictures {
        /// The folder to write them into
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

impl Learn {
    pub fn run(self) -> Result<ExitCode> {
        match self.what {
            None => match self.chapter {
                None => list(),
                Some(chapter) => read(chapter_of(&chapter)?),
            },
            Some(What::Read { chapter }) => read(chapter_of(&chapter)?),
            Some(What::Exercise { exercise, to }) => write(exercise_of(&exercise)?, &to)?,
            Some(What::Hint { exercise, step }) => hint(exercise_of(&exercise)?, step)?,
            Some(What::Pictures { to }) => pictures(&to)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn chapter_of(what: &str) -> Result<&'static Chapter> {
    Chapter::find(what).ok_or_else(|| {
        let (first, last) = (CHAPTERS.first().map_or(0, |c| c.number), CHAPTERS.last().map_or(0, |c| c.number));
        let stems: Vec<&str> = CHAPTERS.iter().map(|chapter| chapter.stem).collect();
        Error::Usage(format!("no chapter {what:?}: expected {first} to {last}, or one of {}", stems.join(", ")))
    })
}

fn exercise_of(what: &str) -> Result<&'static Exercise> {
    Exercise::find(what).ok_or_else(|| {
        let ids: Vec<&str> = EXERCISES.iter().map(|exercise| exercise.id).collect();
        Error::Usage(format!("no exercise {what:?}: expected one of {}, or the name of its shader", ids.join(", ")))
    })
}

/// Lines longer than this are hard to read, however wide the terminal is.
const WIDEST: usize = 100;

fn read(chapter: &Chapter) {
    let text = markdown::shown(chapter.text(), terminal::width().min(WIDEST), Paint::stdout());
    painted(text.trim_end());
}

fn list() {
    let rows: Vec<Vec<String>> =
        CHAPTERS.iter().map(|chapter| vec![chapter.number.to_string(), chapter.title().to_string(), chapter.stem.to_string()]).collect();
    line(report::table(&["", "chapter", "kernel"], &rows).trim_end());
    line("");
    line("`trimodal learn 0` begins; `trimodal learn exercise 0.1 --to mine.wgsl` gives its first exercise.");
}

#[cfg(feature = "wgpu")]
fn write(exercise: &Exercise, to: &Path) -> Result<()> {
    // An existing file may be the user's solution.
    if to.exists() {
        return Err(Error::file(to, "already exists: give another name, or move it away"));
    }
    let text = exercise.text();
    write_file_atomic(to, &text)?;
    let at = text.lines().position(|line| line.contains(MARK)).map_or(1, |line| line + 1);
    painted(format!("{} {}", Paint::stdout().strong(&format!("Exercise {}.", exercise.id)), exercise.task));
    line(format!("It is in line {at} of {}. When you have fixed it, run: `trimodal check --shader {}`", shown_path(to), quoted(to)));
    line(format!("If you are stuck: `trimodal learn hint {}`", exercise.id));
    Ok(())
}

#[cfg(not(feature = "wgpu"))]
fn write(_: &Exercise, _: &Path) -> Result<()> {
    Err(Error::Usage("exercises are WGSL, which this build leaves out: build with --features wgpu".into()))
}

fn hint(exercise: &Exercise, step: usize) -> Result<()> {
    let Exercise { id, hints, .. } = exercise;
    let Some(hint) = step.checked_sub(1).and_then(|at| hints.get(at)) else {
        return Err(Error::Usage(format!("exercise {id} has hints 1 to {}, not {step}", hints.len())));
    };
    let width = terminal::width();
    let head = format!("Exercise {id}, hint {step} of {}.", hints.len());
    let text = whole_words(&format!("{head} {hint}"), width, "", "");
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    // The head alone is painted: it fits the first line of any terminal.
    painted(first.strip_prefix(&head).map_or_else(|| first.to_string(), |tail| format!("{}{}", Paint::stdout().strong(&head), shown(tail))));
    if !rest.is_empty() {
        line(rest);
    }
    let next = match step < hints.len() {
        true => format!("When that is not enough: `trimodal learn hint {id} {}`", step + 1),
        false => format!("That was the last one. `trimodal learn read {}` derives it.", exercise.chapter),
    };
    line(whole_words(&next, width, "", ""));
    Ok(())
}

fn pictures(to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(Error::io(to, "create"))?;
    for (name, svg) in report::lessons::all()? {
        let path = to.join(name);
        write_file_atomic(&path, svg)?;
    }
    line(format!("{} pictures in {}", CHAPTERS.len(), shown_path(to)));
    Ok(())
}
