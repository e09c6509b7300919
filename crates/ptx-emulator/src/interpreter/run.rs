//! From arguments to a report.

use super::buffer::Buffer;
use super::finding::{self, Finding};
use super::grid::{self, Outcome};
use super::kernel::{Access, MAX_SHARED};
use super::launch::{Bound, Launch};
use super::options::Options;
use super::program::Program;
use super::stats::{self, Stats};
use super::tensor_map::{self, TensorMap};
use super::trace::{self, TraceLine};
use crate::parse::{self, ParamKind};
use std::sync::Mutex;

/// One argument of a launch, in the order of the parameters.
#[derive(Clone, Copy)]
pub enum Argument<'a> {
    /// A pointer to the start of a buffer.
    Buffer {
        /// The buffer.
        buffer: &'a Buffer,
        /// Bytes in use: what comes after them is out of bounds.
        bytes: usize,
        /// Its name in findings.
        name: &'a str,
    },
    /// A tensor map: a parameter of 128 bytes, through which bulk copies go to a buffer.
    Map {
        /// The buffer; the map's address is an offset in it.
        buffer: &'a Buffer,
        /// Bytes in use.
        bytes: usize,
        /// Its name in findings.
        name: &'a str,
        /// The tensor in it, and the box.
        map: &'a TensorMap,
    },
    /// A null pointer.
    Null,
    /// A number or a struct by value, little-endian.
    Bytes(&'a [u8]),
}

/// The result of a launch.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong with the kernel, by block and line; each kind once per instruction.
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub more: u64,
    /// What was counted, if [`Options::stats`] asked for it.
    pub stats: Stats,
    /// What the traced thread did.
    pub trace: Vec<TraceLine>,
}

/// Why a launch did not happen, or did not end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The PTX has no such entry.
    #[error("{file}: no entry `{entry}`: expected one of {known}")]
    NoEntry {
        /// The PTX file.
        file: String,
        /// What was asked for.
        entry: String,
        /// The entries that it has.
        known: String,
    },
    /// An argument does not fit its parameter.
    #[error("{entry}: parameter {index} (`{name}`): expected {expected}, got {got}")]
    Argument {
        /// The entry.
        entry: String,
        /// Which parameter, from 0.
        index: usize,
        /// Its name in the PTX.
        name: String,
        /// What it takes.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The number of arguments is wrong.
    #[error("{entry}: expected {expected} arguments, got {got}")]
    Count {
        /// The entry.
        entry: String,
        /// How many it takes.
        expected: usize,
        /// How many there were.
        got: usize,
    },
    /// A block that does not end within its budget.
    #[error("{entry}: block {block} has not ended after {budget} thread instructions; it is at {file}:{line}: `{text}`")]
    Endless {
        /// The entry.
        entry: String,
        /// The block.
        block: u32,
        /// [`Options::budget`].
        budget: u64,
        /// The PTX file.
        file: String,
        /// The line where it was.
        line: u32,
        /// The text of that line.
        text: String,
    },
    /// Blocks that do not fill their clusters, or too much shared memory.
    #[error("{entry}: expected {expected}, got {got}")]
    Shape {
        /// The entry.
        entry: String,
        /// What it takes.
        expected: String,
        /// What was given.
        got: usize,
    },
    /// Rayon could not start threads.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why not.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Runs `entry` with `grid` blocks of exactly the threads that it declares.
///
/// Arguments are given in the order of the parameters, one each. What is wrong with the *kernel* is in the [`Report`]; an error is
/// about the *call*.
///
/// ```
/// use ptx_emulator::{Argument, Buffer, Kind, Options, Program, run};
///
/// // y[t] = x[t], of 64 threads; but y has room for 63.
/// let text = "
///     .version 8.4
///     .target sm_80
///     .address_size 64
///     .visible .entry copy(.param .u64 x, .param .u64 y)
///     .maxntid 64, 1, 1
///     {
///         .reg .b32 %r<3>;
///         .reg .b64 %rd<6>;
///         ld.param.u64 %rd1, [x];
///         ld.param.u64 %rd2, [y];
///         mov.u32 %r1, %tid.x;
///         mul.wide.u32 %rd3, %r1, 4;
///         add.s64 %rd4, %rd1, %rd3;
///         add.s64 %rd5, %rd2, %rd3;
///         ld.global.u32 %r2, [%rd4];
///         st.global.u32 [%rd5], %r2;
///         ret;
///     }";
/// let program = Program::new("copy.ptx", text)?;
/// let (x, y) = (Buffer::new(256), Buffer::new(252));
/// let arguments = [Argument::Buffer { buffer: &x, bytes: 256, name: "x" }, Argument::Buffer { buffer: &y, bytes: 252, name: "y" }];
/// let report = run(&program, "copy", 1, &arguments, &Options::default())?;
/// assert_eq!(report.findings[0].kind, Kind::OutOfBounds);
/// assert_eq!((report.findings[0].line, report.findings[0].thread), (17, 63));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// No such entry, arguments that do not fit its parameters, blocks that do not fill its clusters, too much shared memory, or a
/// block that does not end within [`Options::budget`].
pub fn run(program: &Program, entry: &str, grid: u32, arguments: &[Argument], options: &Options) -> Result<Report, Error> {
    let module = &program.module;
    let Some(index) = module.entries.iter().position(|e| e.name == entry) else {
        let known = module.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::NoEntry { file: module.file.clone(), entry: entry.into(), known });
    };
    let (entry, kernel) = (&module.entries[index], program.kernel(index));
    if arguments.len() != entry.params.len() {
        return Err(Error::Count { entry: entry.name.clone(), expected: entry.params.len(), got: arguments.len() });
    }
    let shape = |expected: String, got: usize| Err(Error::Shape { entry: entry.name.clone(), expected, got });
    if !grid.is_multiple_of(kernel.cluster) {
        return shape(format!("blocks in multiples of {}, its cluster", kernel.cluster), grid as usize);
    }
    let shared_bytes = kernel.shared_bytes + options.dynamic_shared;
    if shared_bytes > MAX_SHARED.max(kernel.shared_bytes) {
        return shape(format!("at most {MAX_SHARED} bytes of shared memory"), shared_bytes);
    }
    let mut params = vec![0u8; entry.params.last().map_or(0, |p| p.offset + p.size)];
    let (mut buffers, mut maps) = (Vec::new(), Vec::new());
    for (i, (param, argument)) in entry.params.iter().zip(arguments).enumerate() {
        let wrong = |expected: String, got: String| Err(Error::Argument { entry: entry.name.clone(), index: i, name: param.name.clone(), expected, got });
        let kind = match param.kind {
            ParamKind::Pointer => "a buffer or 8 bytes".to_string(),
            ParamKind::Bytes => format!("{} bytes", param.size),
        };
        let (mut bound, mut found) = (None, None);
        let address = ((i as u64 + 1) << 40).to_le_bytes();
        let encoded;
        let bytes: &[u8] = match *argument {
            Argument::Map { .. } if !tensor_map::is_map(param) => return wrong(kind, "a tensor map".into()),
            Argument::Map { buffer, bytes, name, map } => {
                if let Err(what) = map.check() {
                    return wrong(format!("a tensor map with {what}"), "another".into());
                }
                if bytes > buffer.bytes() || bytes > u32::MAX as usize || map.address.saturating_add(map.extent()) > bytes as u64 {
                    return wrong(format!("a tensor inside of the {bytes} bytes in use of `{name}`"), format!("{} bytes at {}", map.extent(), map.address));
                }
                bound = Some(Bound { buffer, bytes, name, same: i as u16, granule: None, least: 0, shadow_bytes: 0 });
                encoded = TensorMap { address: ((i as u64 + 1) << 40) + map.address, ..map.clone() }.encode();
                found = Some(map.clone());
                &encoded
            }
            Argument::Buffer { .. } | Argument::Null if param.kind != ParamKind::Pointer => return wrong(kind, "a buffer".into()),
            Argument::Buffer { buffer, bytes, name } => {
                if bytes > buffer.bytes() || bytes > u32::MAX as usize {
                    return wrong(format!("at most {} bytes in use of `{name}`", buffer.bytes().min(u32::MAX as usize)), format!("{bytes}"));
                }
                bound = Some(Bound { buffer, bytes, name, same: i as u16, granule: None, least: 0, shadow_bytes: 0 });
                &address
            }
            Argument::Null => &[0; 8],
            Argument::Bytes(bytes) => bytes,
        };
        if bytes.len() != param.size || i >= 200 {
            return wrong(kind, format!("{} bytes", bytes.len()));
        }
        params[param.offset..param.offset + param.size].copy_from_slice(bytes);
        buffers.push(bound);
        maps.push(found);
    }
    share(&mut buffers, &kernel.access);
    let words = |bytes: &[u8]| bytes.chunks(4).map(|c| u32::from_le_bytes(std::array::from_fn(|i| c.get(i).copied().unwrap_or(0)))).collect::<Vec<_>>();
    let launch = Launch {
        kernel,
        grid,
        buffers,
        maps,
        shared_bytes,
        dynamic: options.dynamic_shared as u32,
        params_bytes: params.len(),
        params: words(&params),
        module_bytes: program.data.len(),
        module: words(&program.data),
        budget: options.budget,
        trace: options.trace,
        counted: options.stats,
        names: if options.trace.is_some() { trace::names(entry) } else { Vec::new() },
        wide: Mutex::new(()),
    };
    let outcome = if options.threads == 0 {
        grid::run(&launch)
    } else {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
        pool.map_err(|source| Error::Threads { threads: options.threads, source })?.install(|| grid::run(&launch))
    };
    launch.buffers.iter().flatten().for_each(|b| b.buffer.count());
    let Outcome { notes, tracer, counts } = outcome.map_err(|(block, pc)| {
        let line = entry.instructions[kernel.source[pc as usize] as usize].line;
        Error::Endless {
            entry: entry.name.clone(),
            block,
            budget: options.budget,
            file: module.file.clone(),
            line,
            text: parse::line_of(&module.text, line).into(),
        }
    })?;
    let mut list: Vec<_> = notes.first.values().collect();
    list.sort_by_key(|n| (n.block, n.pc, n.kind));
    let buffers = launch.buffers.iter().map(|b| b.as_ref().map_or(("null", 0), |b| (b.name, b.bytes))).collect();
    let names = finding::Names { buffers, shared: shared_bytes };
    let more = notes.more + list.len().saturating_sub(options.most_findings) as u64;
    let findings = list.iter().take(options.most_findings).map(|n| finding::finding(n, module, entry, kernel, &names)).collect();
    Ok(Report { findings, more, trace: tracer.lines(module, entry, kernel), stats: stats::stats(entry, kernel, &counts) })
}

/// Which buffers need a shadow: those that the kernel may write, under whatever name.
fn share(buffers: &mut [Option<Bound>], access: &[Access]) {
    for i in 0..buffers.len() {
        let Some(bound) = &buffers[i] else { continue };
        let same = (0..i).find(|&j| buffers[j].as_ref().is_some_and(|b| std::ptr::eq(b.buffer, bound.buffer))).unwrap_or(i);
        let bytes = bound.bytes;
        let least = access[i].least;
        let granule = access[i].writes.then_some(least);
        buffers[i].as_mut().expect("just looked").same = same as u16;
        let first = buffers[same].as_mut().expect("it is the same buffer");
        first.shadow_bytes = first.shadow_bytes.max(bytes);
        first.least = if first.least == 0 { least } else { first.least.min(if least == 0 { 4 } else { least }) };
        first.granule = first.granule.or(granule);
    }
    for bound in buffers.iter_mut().flatten() {
        bound.granule = bound.granule.map(|_| bound.least.max(1).trailing_zeros());
    }
}
