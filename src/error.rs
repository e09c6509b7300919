//! One error type, grouped by who must act.
//!
//! Every message says what was expected, what was found, where, and what to do.

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
        /// What was there.
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
    #[error("{}{}: {what}", path.display(), at.as_ref().map(|a| format!(", {a}")).unwrap_or_default())]
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
    /// The operating system refused to read or write.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `write`, `create`, …
        doing: &'static str,
        /// The system's own word.
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
        /// The driver's word.
        what: String,
    },
    /// The device's memory does not suffice.
    #[error("device {device}: out of memory: {asked} bytes asked for {what}{}; try a smaller batch or model", free.map(|f| format!(", {f} free")).unwrap_or_default())]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// What the memory was for.
        what: String,
        /// The size asked for, in bytes.
        asked: u64,
        /// What is free, in bytes, where the device tells.
        free: Option<u64>,
    },
    /// The emulator saw a kernel do what it must not: a fault of ours.
    #[error("emulator: {kernel}: {}", findings.join("\n  "))]
    Findings {
        /// The kernel.
        kernel: String,
        /// One line or two each: what, and where.
        findings: Vec<String>,
    },

    // ── the training run ─────────────────────────────────────────────────────────────────────────────────────────
    /// The loss or a gradient is not a finite number.
    #[error("step {step}: {what} is not finite; nothing of this step was saved, the last checkpoint is whole: try a lower learning rate")]
    NonFinite {
        /// The step, counted from 1.
        step: usize,
        /// The loss, or the name of the first tensor that went bad.
        what: String,
    },
    /// The user asked to stop (ctrl-C).
    #[error("stopped at your word after step {step}")]
    Interrupted {
        /// The last whole step.
        step: usize,
    },
}

impl Error {
    /// A [`Error::Mismatch`], from anything that prints.
    pub fn mismatch(op: &'static str, tensor: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Error::Mismatch { op, tensor, expected: expected.to_string(), found: found.to_string() }
    }

    /// A [`Error::File`] about the file as a whole.
    pub fn file(path: impl Into<PathBuf>, what: impl ToString) -> Self {
        Error::File { path: path.into(), at: None, what: what.to_string() }
    }

    /// A [`Error::File`] about one place in the file.
    pub fn file_at(path: impl Into<PathBuf>, at: impl ToString, what: impl ToString) -> Self {
        Error::File { path: path.into(), at: Some(at.to_string()), what: what.to_string() }
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
