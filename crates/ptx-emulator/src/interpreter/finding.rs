//! What the emulator found wrong, in words.

use super::kernel::Kernel;
use super::ops::Op;
use crate::parse::{Entry, Module};
use std::fmt;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An address outside of every buffer, or past the bytes in use of the one it came from.
    OutOfBounds,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// A read of bytes that nobody wrote.
    Unwritten,
    /// Two threads touch the same bytes with nothing between them that orders them, one of them writing.
    Race,
    /// Bytes of a `cp.async` touched before it was waited for.
    MissingWait,
    /// A barrier that some threads of the block never reach.
    Barrier,
    /// A `.sync` instruction that some of its lanes never reach.
    WarpSync,
    /// A register read before anything was put into it.
    Register,
    /// A store to memory that cannot be written.
    ReadOnly,
    /// `trap`.
    Trap,
    /// What stores wrote, read by a bulk copy or a `wgmma` without `fence.proxy.async` in between.
    Proxy,
    /// A register that a `wgmma` uses, touched while it may, or used by it without `wgmma.fence` after being touched.
    Wgmma,
    /// An mbarrier that is not initialised, or that gets more arrivals or bytes than it expects.
    Mbarrier,
    /// Waits that nothing can end.
    Deadlock,
    /// A block of a cluster that may end before what others do to it has happened.
    Ended,
}

/// A finding as the machine notes it; it becomes a [`Finding`].
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub kind: Kind,
    pub pc: u32,
    pub block: u32,
    pub thread: u32,
    pub place: Place,
    pub address: u64,
    pub offset: i64,
    pub size: u32,
    pub write: bool,
    /// Lanes of the warp, where a kind is about several.
    pub lanes: u32,
    pub other: Option<Other>,
    /// The finding in words, by the places that it names.
    pub list: Vec<(u32, String)>,
}

impl Note {
    /// A note about no memory.
    pub fn new(kind: Kind, pc: u32, block: u32, thread: u32) -> Note {
        Note { kind, pc, block, thread, place: Place::None, address: 0, offset: 0, size: 0, write: false, lanes: 0, other: None, list: Vec::new() }
    }
}

/// The other side of a race or of a barrier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Other {
    pub block: u32,
    /// `u32::MAX`: several threads.
    pub thread: u32,
    pub pc: u32,
    pub write: bool,
}

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    None,
    Buffer(u16),
    Shared,
    Local,
    Param,
    Module,
}

/// One thing that is wrong in a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The kernel.
    pub kernel: String,
    /// What is wrong.
    pub kind: Kind,
    /// `kernels/x.cu:61`, innermost inlined function first, if the PTX has line information.
    pub source: Option<String>,
    /// The place in the kernel itself, where `source` is in an inlined function.
    pub inlined_at: Option<String>,
    /// The file of the PTX and the line in it.
    pub ptx: String,
    /// The line in the PTX.
    pub line: u32,
    /// The block.
    pub block: u32,
    /// The thread in it.
    pub thread: u32,
    /// The address, if the finding is about memory.
    pub address: u64,
    /// The buffer or memory that it is in.
    pub buffer: String,
    /// Where in it.
    pub offset: i64,
    /// How many bytes.
    pub size: u32,
    /// What happened, in words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}; ", self.kernel, self.what)?;
        if let Some(source) = &self.source {
            write!(f, "{source}")?;
            if let Some(outer) = &self.inlined_at {
                write!(f, " (inlined at {outer})")?;
            }
            write!(f, ", ")?;
        }
        write!(f, "{}:{}, block {}, thread {}", self.ptx, self.line, self.block, self.thread)
    }
}

/// What a launch adds to what the kernel says.
pub struct Names<'a> {
    /// The arguments and their bytes in use.
    pub buffers: Vec<(&'a str, usize)>,
    /// Bytes of shared memory.
    pub shared: usize,
}

/// Puts a note into words.
pub fn finding(note: &Note, module: &Module, entry: &Entry, kernel: &Kernel, names: &Names) -> Finding {
    let instruction = |pc: u32| &entry.instructions[kernel.source[pc as usize] as usize];
    let source = |pc: u32| {
        let loc = entry.locs.get(instruction(pc).loc? as usize)?;
        let name = |(file, line, _): (u32, u32, u32)| format!("{}:{line}", module.files.get(&file).map_or("?", |f| f));
        Some((name(loc.at), loc.inlined.map(name)))
    };
    let at = |pc: u32| source(pc).map_or(format!("line {}", instruction(pc).line), |(s, _)| s);
    let buffer = match note.place {
        Place::Buffer(i) => format!("`{}`", names.buffers.get(i as usize).map_or("?", |n| n.0)),
        Place::Shared => {
            let within = kernel.shared_variables.iter().find(|(_, start, end)| (*start as i64..*end as i64).contains(&note.offset));
            match within {
                Some((name, start, _)) if *start > 0 || kernel.shared_variables.len() > 1 => {
                    format!("shared memory ({name} + {})", note.offset - *start as i64)
                }
                _ => "shared memory".into(),
            }
        }
        Place::Local => "local memory".into(),
        Place::Param => "the parameters".into(),
        Place::Module => "a constant of the module".into(),
        Place::None => "no buffer".into(),
    };
    let range = format!("bytes {}..{}", note.offset, note.offset + note.size as i64);
    let does = if note.write { "writes" } else { "reads" };
    let thread = note.thread;
    let mut list = note.list.iter();
    let said = list.next().map(|(pc, text)| {
        let place = |pc: u32| if pc == note.pc { String::new() } else { format!(" at {}", at(pc)) };
        list.fold(format!("{text}{}", place(*pc)), |said, (pc, text)| format!("{said}; {text} at {}", at(*pc)))
    });
    let what = match note.kind {
        _ if said.is_some() => said.unwrap_or_default(),
        Kind::OutOfBounds => match note.place {
            Place::None if note.address < 1 << 40 => {
                format!("out of bounds: thread {thread} {does} {} bytes through a null pointer (address {:#x})", note.size, note.address)
            }
            Place::None => format!("out of bounds: thread {thread} {does} {} bytes at address {:#x}, which is in no buffer", note.size, note.address),
            Place::Buffer(i) => {
                let used = names.buffers.get(i as usize).map_or(0, |n| n.1);
                format!("out of bounds: thread {thread} {does} {range} of {buffer}, which has {used} bytes in use")
            }
            Place::Shared => format!("out of bounds: thread {thread} {does} {range} of shared memory, which has {} bytes", names.shared),
            Place::Local => format!("out of bounds: thread {thread} {does} {range} of local memory, which has {} bytes", kernel.local_bytes),
            _ => format!("out of bounds: thread {thread} {does} {range} of {buffer}"),
        },
        Kind::Misaligned => {
            format!("misaligned: thread {thread} {does} {} bytes at offset {} of {buffer}, which is not a multiple of {}", note.size, note.offset, note.size)
        }
        Kind::Unwritten => format!("thread {thread} reads {range} of {buffer}, which nobody wrote"),
        Kind::Race => {
            let other = note.other.unwrap_or(Other { block: note.block, thread: u32::MAX, pc: note.pc, write: true });
            let who = if other.thread == u32::MAX { "several threads".into() } else { format!("thread {}", other.thread) };
            let (who, between) = if other.block == note.block {
                (who, "with no barrier between them")
            } else {
                (format!("{who} of block {}", other.block), "and nothing orders blocks")
            };
            let did = match (&kernel.steps[other.pc as usize].op, other.write) {
                (Op::Bulk(_), true) => "had a bulk copy write",
                (Op::Bulk(_), false) => "lets a bulk copy read",
                (Op::Wgmma(_), _) => "let a wgmma read",
                (_, true) => "wrote",
                (_, false) => "read",
            };
            let between = if kernel.asynchronous && other.block == note.block { "with nothing between that orders them" } else { between };
            format!("race in {buffer}: thread {thread} {does} {range} that {who} {did} at {}, {between}", at(other.pc))
        }
        Kind::MissingWait => {
            let other = note.other.map_or(String::new(), |o| format!(" that thread {} issued at {}", o.thread, at(o.pc)));
            let bulk = kernel.asynchronous || note.other.is_some_and(|o| matches!(kernel.steps[o.pc as usize].op, Op::Bulk(_)));
            let copy = if bulk { "bulk copy" } else { "cp.async" };
            format!("missing {copy} wait: thread {thread} {does} {range} of {buffer} while a {copy}{other} is in flight to them")
        }
        Kind::Barrier => match note.other {
            Some(o) => format!(
                "barrier that not all threads of the block reach: thread {thread} waits here, thread {} {} at {}",
                o.thread,
                if o.write { "waits" } else { "has exited" },
                at(o.pc)
            ),
            None => format!("barrier that not all threads of the block reach: thread {thread} waits here"),
        },
        Kind::WarpSync => match note.other {
            Some(o) => format!(
                "warp-wide instruction that not all of its lanes reach: lanes {:#010x} wait here, lane {} is at {}",
                note.lanes,
                o.thread % 32,
                at(o.pc)
            ),
            None => format!("warp-wide instruction whose lanes name different members, or not themselves (lanes {:#010x})", note.lanes),
        },
        Kind::Register => format!("thread {thread} uses a register that nothing was put into"),
        Kind::ReadOnly => format!("thread {thread} writes {range} of {buffer}, which cannot be written"),
        Kind::Trap => format!("thread {thread} executes trap"),
        Kind::Proxy => {
            let other = note.other.map_or(String::new(), |o| format!(" stored at {}", at(o.pc)));
            format!("missing fence.proxy.async: {range} of {buffer} are read asynchronously for thread {thread}; what was{other} need not be visible there")
        }
        kind => format!("{kind:?}: thread {thread}"),
    };
    let (source, inlined_at) = source(note.pc).map_or((None, None), |(s, o)| (Some(s), o));
    let short = module.file.rsplit('/').next().unwrap_or(&module.file).to_string();
    Finding {
        kernel: entry.name.clone(),
        kind: note.kind,
        source,
        inlined_at,
        ptx: short,
        line: instruction(note.pc).line,
        block: note.block,
        thread,
        address: note.address,
        buffer,
        offset: note.offset,
        size: note.size,
        what,
    }
}
