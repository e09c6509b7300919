//! One error type, grouped by who must act.
//!
//! Every message says what was expected, what was found, where, and what to do.

use crate::shown::shown_path;
use std::path::PathBuf;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, grouped by who must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ── the caller's code ────────────────────────────────────────────────────────────────────────────────────────
    /// A tensor does not fit the operation: shape, dtype or device.
    #[error("{op}: {tensor}: expected {expected}, found {found}")]
    Mismatch {
        /// The operation that refused, for example `matmul`.
        op: &'static str,
        /// The tensor or the argument.
        tensor: &'static str,
        /// What would have been right.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A size does not fit the kernels' 32-bit indices or the machine's memory.
    #[error("{what}: {size} is more than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        size: u128,
        /// What is allowed.
        limit: u128,
    },

    // ── the user's input ─────────────────────────────────────────────────────────────────────────────────────────
    /// A file of the user's is missing, damaged or not what it should be.
    #[error("{}{}: {what}", shown_path(path), at.as_ref().map(|a| format!(", {a}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// Where in it: `line 3`, `byte 128`, `tensor model.norm.weight`.
        at: Option<String>,
        /// What is wrong and what to do.
        what: String,
    },
    /// Samples of a data set that cannot be read or used.
    #[error("{count} bad {}: {}", if *count == 1 { "sample" } else { "samples" }, list(first, *count))]
    BadSamples {
        /// How many were met before the work stopped.
        count: u64,
        /// The first ten: where, and what is wrong.
        first: Vec<String>,
    },
    /// An argument, a setting or a prompt makes no sense.
    #[error("{0}")]
    Usage(String),

    // ── the machine ──────────────────────────────────────────────────────────────────────────────────────────────
    /// The operating system could not read or write.
    #[error("{}: cannot {doing}: {source}", shown_path(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `write`, `create`, …
        doing: &'static str,
        /// The system's own message.
        source: std::io::Error,
    },
    /// No such device, or the device cannot do what was asked.
    #[error("device {device}: {what}")]
    Device {
        /// The device's name.
        device: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// The device stopped working; nothing on it can be used again.
    #[error("device {device} was lost: {what}; restart the program: the last checkpoint is whole")]
    DeviceLost {
        /// The device's name.
        device: String,
        /// The driver's message.
        what: String,
    },
    /// The device does not have enough memory.
    #[error("device {device}: out of memory: {asked} bytes asked for {what}{}; try a smaller batch or model", free.map(|f| format!(", {f} free")).unwrap_or_default())]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// What the memory was for.
        what: String,
        /// The size asked for, in bytes.
        asked: u64,
        /// What is free, in bytes, where the device reports it.
        free: Option<u64>,
    },
    /// The emulator saw a kernel do something forbidden: a fault of ours.
    #[error("emulator: {kernel}: {}", findings.join("\n  "))]
    Findings {
        /// The kernel.
        kernel: String,
        /// One line or two each: what, and where.
        findings: Vec<String>,
    },

    // ── the training run ─────────────────────────────────────────────────────────────────────────────────────────
    /// The loss or a gradient is not a finite number.
    #[error(
        "step {step}: {what} is not finite{}; nothing of this step was saved, the last checkpoint is whole: \
         try a lower learning rate, and look at these samples",
        in_samples(samples)
    )]
    NonFinite {
        /// The step, counted from 1.
        step: usize,
        /// The first tensor that is not finite, in the order of the computation.
        what: String,
        /// The names of the batch's samples.
        samples: Vec<String>,
    },
    /// The user asked to stop (ctrl-C).
    #[error("stopped after step {step}, as you asked (ctrl-C)")]
    Interrupted {
        /// The last whole step.
        step: usize,
    },
}

/// `, in the batch of a.png, b.png and 7 more`: ten names at most.
fn in_samples(samples: &[String]) -> String {
    const MAX: usize = 10;
    let named: Vec<&str> = samples.iter().map(|name| if name.is_empty() { "a sample without a name" } else { name }).collect();
    match named.as_slice() {
        [] => String::new(),
        all if all.len() <= MAX => format!(", in the batch of {}", all.join(", ")),
        all => format!(", in the batch of {} and {} more", all[..MAX].join(", "), all.len() - MAX),
    }
}

/// Other people's parsers quote what they found, megabytes of it, and some messages have line breaks: this makes one line, and leaves
/// out the middle of a long one.
fn sentence(what: impl ToString) -> String {
    const MAX: usize = 1_000;
    let what = what.to_string();
    let what = if what.contains(['\n', '\r']) { what.split_whitespace().collect::<Vec<_>>().join(" ") } else { what };
    if what.len() <= MAX {
        return what;
    }
    let boundary = |at: usize| (0..=at).rev().find(|at| what.is_char_boundary(*at)).unwrap_or(0);
    format!("{} … {}", &what[..boundary(MAX / 2)], &what[boundary(what.len() - MAX / 4)..])
}

impl Error {
    /// A [`Error::Mismatch`], from anything that prints.
    pub fn mismatch(op: &'static str, tensor: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Error::Mismatch { op, tensor, expected: expected.to_string(), found: found.to_string() }
    }

    /// A [`Error::File`] about the file as a whole.
    pub fn file(path: impl Into<PathBuf>, what: impl ToString) -> Self {
        Error::File { path: path.into(), at: None, what: sentence(what) }
    }

    /// A [`Error::File`] about one place in the file.
    pub fn file_at(path: impl Into<PathBuf>, at: impl ToString, what: impl ToString) -> Self {
        Error::File { path: path.into(), at: Some(sentence(at)), what: sentence(what) }
    }

    /// Wraps an [`std::io::Error`] with the path and the action: `.map_err(Error::io(path, "read"))`.
    pub fn io(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { path, doing, source }
    }
}

/// Some of `count` messages, numbered where they are several.
fn list(messages: &[String], count: u64) -> String {
    if let [only] = messages {
        return only.clone();
    }
    let numbered: Vec<String> = messages.iter().enumerate().map(|(i, message)| format!("({}) {message}", i + 1)).collect();
    let rest = count.saturating_sub(messages.len() as u64);
    numbered.join("; ") + &if rest > 0 { format!("; and {rest} more") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_samples_are_named_and_the_rest_counted() {
        let message = |n: usize| Error::NonFinite { step: 7, what: "the loss".into(), samples: (0..n).map(|i| format!("{i}.png")).collect() }.to_string();
        assert!(message(0).starts_with("step 7: the loss is not finite; nothing"), "{}", message(0));
        assert!(message(2).contains("in the batch of 0.png, 1.png;"), "{}", message(2));
        assert!(message(13).contains("8.png, 9.png and 3 more;"), "{}", message(13));
    }

    #[test]
    fn what_a_parser_quotes_becomes_one_line_of_a_bearable_length() {
        assert_eq!(Error::file("a", "two\n  lines").to_string(), "a: two lines");
        let long = Error::file_at("a", "line 3", format!("ä{}ö", "ü".repeat(1 << 20))).to_string();
        assert!(long.starts_with("a, line 3: äü") && long.ends_with("üö") && long.contains(" … ") && long.len() < 1_000, "{}", long.len());
    }
}
