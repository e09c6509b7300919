//! How to run.

/// Which thread to trace.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// Its block.
    pub block: u32,
    /// Its place in the block.
    pub thread: u32,
}

/// How to run.
///
/// ```
/// use ptx_emulator::{Options, Trace};
/// // Counts instructions and traffic, and records what thread 7 of block 0 does.
/// let options = Options { stats: true, trace: Some(Trace { block: 0, thread: 7 }), ..Options::default() };
/// # assert_eq!(options.most_findings, 8);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Record the instructions of one thread.
    pub trace: Option<Trace>,
    /// Count instructions and traffic.
    pub stats: bool,
    /// Threads of this machine to use; 0: rayon's choice.
    pub threads: usize,
    /// Thread instructions a block may take before it counts as endless.
    pub budget: u64,
    /// How many findings are kept in words.
    pub most_findings: usize,
    /// Bytes of `.extern .shared` memory, whose size the launch gives.
    pub dynamic_shared: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { trace: None, stats: false, threads: 0, budget: 1 << 33, most_findings: 8, dynamic_shared: 0 }
    }
}
