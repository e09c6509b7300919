//! A CUDA driver made of the emulator: the few functions of `libcuda.so` that `src/device/cuda/` calls, so that the whole CUDA
//! device (arguments, streams, staging, faults) runs in tests on machines without a GPU.
//!
//! Cargo builds it as a shared library; `tests/cuda_device.rs` gives it the name `libcuda.so` and puts it where the program looks
//! first. It is asynchronous in one respect, the one that matters: a fault shows up at the next call that waits.
//!
//! What it pretends to be is read from the environment: `FAKE_CUDA_VERSION` (12040), `FAKE_CUDA_CAPABILITY` (89; with 90
//! it runs the Hopper kernels, and `FAKE_CUDA_WRONG_MAPS` lets them see other tensors than they were given),
//! `FAKE_CUDA_MEMORY` (bytes), `FAKE_CUDA_GPUS` (1), `FAKE_CUDA_FAULT_AT` (the launch, from 1, that ends in an illegal address),
//! `FAKE_CUDA_REFUSE_PTX` (modules are refused as of an unknown version), `FAKE_CUDA_REFUSE_CAPTURE` (a capture ends in an error),
//! `FAKE_CUDA_GRAPH_LOG` (a file that gets a line with the number of nodes for each launch of a graph).

#![allow(non_snake_case, clippy::missing_safety_doc)]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use trimodal::emulator::{self, Argument, MapType, Options, Program, Swizzle, TensorMap, parse};

type Status = c_int;
const SUCCESS: Status = 0;
const INVALID_VALUE: Status = 1;
const OUT_OF_MEMORY: Status = 2;
const UNSUPPORTED_PTX: Status = 222;
const NOT_FOUND: Status = 500;
const CAPTURE_UNSUPPORTED: Status = 900;
const ILLEGAL_ADDRESS: Status = 700;

/// Addresses: an allocation's number, shifted, and the offset in it.
const SHIFT: u32 = 40;

fn offset(address: u64) -> usize {
    (address & ((1 << SHIFT) - 1)) as usize
}

#[derive(Default)]
struct Driver {
    buffers: HashMap<u64, (Arc<emulator::Buffer>, usize)>,
    next: u64,
    used: usize,
    launches: usize,
    streams: usize,
    /// The stream whose work is written down instead of run, and that work.
    capture: Option<(usize, Vec<Node>)>,
    /// What every call that waits answers from now on.
    broken: Option<Status>,
}

/// What a stream does.
#[derive(Clone)]
enum Node {
    Kernel { function: usize, grid: c_uint, shared: usize, arguments: Vec<Held> },
    Copy { to: u64, from: u64, bytes: usize },
    Set { address: u64, value: u8, bytes: usize },
}

struct Module {
    program: Program,
    parsed: parse::Module,
}

/// When it was recorded: launches run at once, so that this is when everything before it was done.
type Event = Mutex<Option<Instant>>;

struct Function {
    module: *const Module,
    entry: usize,
}

fn driver() -> MutexGuard<'static, Driver> {
    static DRIVER: OnceLock<Mutex<Driver>> = OnceLock::new();
    DRIVER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

impl Driver {
    fn status(&self) -> Status {
        self.broken.unwrap_or(SUCCESS)
    }

    /// Does it now or, on a stream that is captured, writes it down.
    fn submit(&mut self, stream: *mut c_void, node: Node) -> Status {
        match &mut self.capture {
            Some((captured, nodes)) if *captured == stream.addr() => {
                nodes.push(node);
                SUCCESS
            }
            _ => self.run(&node),
        }
    }

    fn run(&mut self, node: &Node) -> Status {
        match *node {
            Node::Kernel { function, grid, shared, ref arguments } => self.kernel(function, grid, shared, arguments),
            Node::Copy { to, from, bytes } => match (self.buffer(to), self.buffer(from)) {
                (Some((buffer, size)), Some((source, available))) if offset(to) + bytes <= size && offset(from) + bytes <= available => {
                    if [to, from].map(offset) == [0; 2] {
                        buffer.copy_from(&source, bytes); // with what nobody wrote
                    } else {
                        let mut data = vec![0; bytes];
                        source.read(offset(from), &mut data);
                        buffer.write(offset(to), &data);
                    }
                    self.status()
                }
                _ => INVALID_VALUE,
            },
            Node::Set { address, value, bytes } => match self.buffer(address) {
                Some((buffer, size)) if offset(address) + bytes <= size => {
                    buffer.write(offset(address), &vec![value; bytes]);
                    self.status()
                }
                _ => INVALID_VALUE,
            },
        }
    }

    /// Whether a call that waits, or that the driver does not take between other calls, may come on this stream now.
    fn may_wait(&self, stream: *mut c_void) -> Status {
        match &self.capture {
            Some((captured, _)) if *captured == stream.addr() => CAPTURE_UNSUPPORTED,
            _ => self.status(),
        }
    }

    fn buffer(&self, address: u64) -> Option<(Arc<emulator::Buffer>, usize)> {
        self.buffers.get(&(address >> SHIFT)).filter(|(_, bytes)| offset(address) < *bytes).cloned()
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_: c_uint) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    unsafe { *version = setting("FAKE_CUDA_VERSION", 12040) as c_int };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    unsafe { *count = setting("FAKE_CUDA_GPUS", 1) as c_int };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Status {
    unsafe { *device = ordinal };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _: c_int) -> Status {
    let text = b"Emulated GPU\0";
    if (length as usize) < text.len() {
        return INVALID_VALUE;
    }
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _: c_int) -> Status {
    let capability = setting("FAKE_CUDA_CAPABILITY", 89);
    let found = match attribute {
        75 => capability / 10, // COMPUTE_CAPABILITY_MAJOR
        76 => capability % 10, // COMPUTE_CAPABILITY_MINOR
        16 => 2,               // MULTIPROCESSOR_COUNT
        13 => 1_000_000,       // CLOCK_RATE, in kHz
        38 => 65_536,          // L2_CACHE_SIZE
        _ => 0,
    };
    unsafe { *value = found as c_int };
    SUCCESS
}

fn total_bytes() -> usize {
    setting("FAKE_CUDA_MEMORY", 1 << 30)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _: c_int) -> Status {
    unsafe { *bytes = total_bytes() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    unsafe {
        *free = total_bytes().saturating_sub(driver().used);
        *total = total_bytes();
    }
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _: c_int) -> Status {
    unsafe { *context = std::ptr::without_provenance_mut(1) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(_: c_int) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(_: *mut c_void) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut *mut c_void, _: c_uint) -> Status {
    let mut driver = driver();
    driver.streams += 1;
    unsafe { *stream = std::ptr::without_provenance_mut(driver.streams) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(_: *mut c_void) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: *mut c_void) -> Status {
    driver().may_wait(stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: *mut c_void, _: *mut c_void, _: c_uint) -> Status {
    driver().may_wait(stream) // no event of ours is recorded in the capture that would wait for it
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(event: *mut *mut c_void, _: c_uint) -> Status {
    unsafe { *event = Box::into_raw(Box::<Event>::default()).cast() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventDestroy_v2(event: *mut c_void) -> Status {
    drop(unsafe { Box::from_raw(event.cast::<Event>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventRecord(event: *mut c_void, _: *mut c_void) -> Status {
    let event: &Event = unsafe { &*event.cast() };
    *event.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, start: *mut c_void, end: *mut c_void) -> Status {
    let [start, end] = [start, end].map(|event| *unsafe { &*event.cast::<Event>() }.lock().unwrap_or_else(PoisonError::into_inner));
    let Some((start, end)) = start.zip(end) else { return INVALID_VALUE };
    unsafe { *milliseconds = end.duration_since(start).as_secs_f32() * 1e3 };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(_: *mut c_void) -> Status {
    driver().status()
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(_: *mut c_void) -> Status {
    driver().status()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut *mut c_void, _: c_int) -> Status {
    unsafe { *pool = std::ptr::without_provenance_mut(1) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAttribute(_: *mut c_void, _: c_int, _: *mut c_void) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemPoolGetAttribute(_: *mut c_void, _: c_int, value: *mut u64) -> Status {
    unsafe { *value = driver().used as u64 }; // reserved and used alike: the pool holds nothing back
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(_: *mut c_void, _: usize) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, _: *mut c_void) -> Status {
    let mut driver = driver();
    if driver.used + bytes > total_bytes() {
        return OUT_OF_MEMORY;
    }
    driver.used += bytes;
    driver.next += 1;
    let number = driver.next;
    let buffer = emulator::Buffer::new(bytes);
    buffer.forget(); // a driver does not clear what it hands out
    driver.buffers.insert(number, (Arc::new(buffer), bytes));
    unsafe { *address = number << SHIFT };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, _: *mut c_void) -> Status {
    let mut driver = driver();
    match driver.buffers.remove(&(address >> SHIFT)) {
        None => INVALID_VALUE,
        Some((_, bytes)) => {
            driver.used -= bytes;
            driver.status()
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(memory: *mut *mut c_void, bytes: usize, _: c_uint) -> Status {
    let words: Box<[u64]> = vec![0; bytes.div_ceil(8) + 1].into();
    let words = Box::leak(words);
    words[0] = words.len() as u64; // its own size, for the free
    unsafe { *memory = words.as_mut_ptr().add(1).cast() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(memory: *mut c_void) -> Status {
    unsafe {
        let first = memory.cast::<u64>().sub(1);
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, *first as usize)));
    }
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void) -> Status {
    let driver = driver();
    if driver.may_wait(stream) == CAPTURE_UNSUPPORTED {
        return CAPTURE_UNSUPPORTED; // a real driver takes it, and every replay then copies what lies in `from` by that time
    }
    match driver.buffer(to) {
        Some((buffer, size)) if offset(to) + bytes <= size => {
            buffer.write(offset(to), unsafe { std::slice::from_raw_parts(from.cast(), bytes) });
            driver.status()
        }
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void) -> Status {
    let driver = driver();
    if driver.may_wait(stream) == CAPTURE_UNSUPPORTED {
        return CAPTURE_UNSUPPORTED;
    }
    match driver.buffer(from) {
        Some((buffer, size)) if offset(from) + bytes <= size => {
            buffer.read(offset(from), unsafe { std::slice::from_raw_parts_mut(to.cast(), bytes) });
            driver.status()
        }
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void) -> Status {
    driver().submit(stream, Node::Copy { to, from, bytes })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(address: u64, value: u8, bytes: usize, stream: *mut c_void) -> Status {
    driver().submit(stream, Node::Set { address, value, bytes })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(stream: *mut c_void, _: c_uint) -> Status {
    driver().capture = Some((stream.addr(), Vec::new()));
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void) -> Status {
    match driver().capture.take() {
        Some((captured, nodes)) if captured == stream.addr() && setting("FAKE_CUDA_REFUSE_CAPTURE", 0) == 0 => {
            unsafe { *graph = Box::into_raw(Box::new(nodes)).cast() };
            SUCCESS
        }
        _ => CAPTURE_UNSUPPORTED,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphInstantiateWithFlags(exec: *mut *mut c_void, graph: *mut c_void, _: u64) -> Status {
    let nodes: &Vec<Node> = unsafe { &*graph.cast() };
    unsafe { *exec = Box::into_raw(Box::new(nodes.clone())).cast() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphDestroy(graph: *mut c_void) -> Status {
    drop(unsafe { Box::from_raw(graph.cast::<Vec<Node>>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphExecDestroy(exec: *mut c_void) -> Status {
    drop(unsafe { Box::from_raw(exec.cast::<Vec<Node>>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphLaunch(exec: *mut c_void, _: *mut c_void) -> Status {
    let nodes: &Vec<Node> = unsafe { &*exec.cast() };
    if let Some(path) = std::env::var_os("FAKE_CUDA_GRAPH_LOG") {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{} nodes", nodes.len()));
    }
    let mut driver = driver();
    nodes.iter().map(|node| driver.run(node)).find(|&status| status != SUCCESS).unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) -> Status {
    if setting("FAKE_CUDA_REFUSE_PTX", 0) != 0 {
        return UNSUPPORTED_PTX;
    }
    let Ok(text) = unsafe { CStr::from_ptr(image.cast()) }.to_str() else { return INVALID_VALUE };
    let (Ok(program), Ok(parsed)) = (Program::new("image", text), parse::parse("image", text)) else { return UNSUPPORTED_PTX };
    unsafe { *module = Box::into_raw(Box::new(Module { program, parsed })).cast() };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(_: *mut c_void) -> Status {
    SUCCESS // functions point into it: leaked
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(function: *mut *mut c_void, module: *mut c_void, name: *const c_char) -> Status {
    let module: *const Module = module.cast();
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let Some(entry) = unsafe { &*module }.parsed.entries.iter().position(|e| e.name == name) else { return NOT_FOUND };
    unsafe { *function = Box::into_raw(Box::new(Function { module, entry })).cast() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: *mut c_void,
    grid: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: *mut c_void,
    parameters: *mut *mut c_void,
    _: *mut *mut c_void,
) -> Status {
    let number = function.expose_provenance();
    let function: &Function = unsafe { &*function.cast() };
    let module = unsafe { &*function.module };
    let entry = &module.parsed.entries[function.entry];
    let threads = entry.max_threads.map_or(0, |t| t.iter().product::<u32>());
    if [grid_y, grid_z, block_y, block_z] != [1; 4] || block != threads {
        return INVALID_VALUE;
    }
    let mut driver = driver();
    // What the parameters say: the driver copies them before the call returns.
    let mut arguments = Vec::new();
    for (index, parameter) in entry.params.iter().enumerate() {
        let value = unsafe { *parameters.add(index) };
        arguments.push(match parameter.kind {
            parse::ParamKind::Pointer => match unsafe { *value.cast::<u64>() } {
                0 => Held::Null,
                address => match driver.buffer(address) {
                    Some((buffer, bytes)) => Held::Buffer { buffer, start: offset(address), end: bytes },
                    None => return INVALID_VALUE,
                },
            },
            parse::ParamKind::Bytes => {
                let bytes = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), parameter.size) };
                match bytes.try_into().ok().and_then(TensorMap::decode) {
                    None => Held::Bytes(bytes.to_vec()),
                    Some(map) => match driver.buffer(map.address) {
                        Some((buffer, bytes)) => Held::Map { buffer, bytes, map: TensorMap { address: offset(map.address) as u64, ..map } },
                        None => return INVALID_VALUE,
                    },
                }
            }
        });
    }
    // A part of an allocation ends where the next one begins that this kernel gets, at the latest.
    let starts: Vec<_> =
        arguments.iter().filter_map(|a| if let Held::Buffer { buffer, start, .. } = a { Some((Arc::as_ptr(buffer), *start)) } else { None }).collect();
    for argument in &mut arguments {
        if let Held::Buffer { buffer, start, end } = argument {
            let behind = starts.iter().filter(|(other, at)| *other == Arc::as_ptr(buffer) && at > start).map(|(_, at)| *at);
            *end = behind.chain([*end]).min().expect("its own end");
        }
    }
    driver.submit(stream, Node::Kernel { function: number, grid, shared: shared as usize, arguments })
}

impl Driver {
    fn kernel(&mut self, function: usize, grid: c_uint, shared: usize, held: &[Held]) -> Status {
        self.launches += 1;
        if self.launches == setting("FAKE_CUDA_FAULT_AT", 0) {
            self.broken = Some(ILLEGAL_ADDRESS);
        }
        if self.broken.is_some() {
            return SUCCESS; // whoever waits will hear of it
        }
        let function: &Function = unsafe { &*std::ptr::with_exposed_provenance(function) };
        let module = unsafe { &*function.module };
        // The emulator's arguments are whole buffers: a part becomes one for as long as the kernel runs.
        let parts: Vec<Option<emulator::Buffer>> = held
            .iter()
            .map(|held| match *held {
                Held::Buffer { ref buffer, start, end } if (start, end) != (0, buffer.bytes()) => {
                    let mut data = vec![0; end - start];
                    buffer.read(start, &mut data);
                    let part = emulator::Buffer::new(data.len());
                    part.write(0, &data);
                    Some(part)
                }
                _ => None,
            })
            .collect();
        let arguments: Vec<Argument> = held
            .iter()
            .zip(&parts)
            .map(|(held, part)| match held {
                Held::Null => Argument::Null,
                Held::Buffer { buffer, start, end } => Argument::Buffer { buffer: part.as_ref().unwrap_or(buffer), bytes: end - start, name: "a buffer" },
                Held::Map { buffer, bytes, map } => Argument::Map { buffer, bytes: *bytes, name: "a tensor map", map },
                Held::Bytes(bytes) => Argument::Bytes(bytes),
            })
            .collect();
        let options = Options { dynamic_shared: shared, ..Options::default() };
        match emulator::run(&module.program, &module.parsed.entries[function.entry].name, grid, &arguments, &options) {
            Ok(report) if report.findings.is_empty() => {}
            Ok(report) => {
                for finding in &report.findings {
                    eprintln!("fake driver: {finding}");
                }
                self.broken = Some(ILLEGAL_ADDRESS);
            }
            Err(e) => {
                eprintln!("fake driver: {e}");
                self.broken = Some(ILLEGAL_ADDRESS);
            }
        }
        for (held, part) in held.iter().zip(&parts) {
            if let (Held::Buffer { buffer, start, end }, Some(part)) = (held, part) {
                let mut data = vec![0; end - start];
                part.read(0, &mut data);
                buffer.write(*start, &data);
            }
        }
        SUCCESS
    }
}

/// An argument, which keeps what it points to alive.
#[derive(Clone)]
enum Held {
    Null,
    Buffer { buffer: Arc<emulator::Buffer>, start: usize, end: usize },
    Map { buffer: Arc<emulator::Buffer>, bytes: usize, map: TensorMap },
    Bytes(Vec<u8>),
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(_: *mut c_void, _: c_int, _: c_int) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuTensorMapEncodeTiled(
    encoded: *mut [u8; 128],
    dtype: c_uint,
    rank: c_uint,
    address: *mut c_void,
    sizes: *const u64,
    strides: *const u64,
    box_sizes: *const c_uint,
    _: *const c_uint,
    interleave: c_uint,
    swizzle: c_uint,
    _: c_uint,
    fill: c_uint,
) -> Status {
    let rank = rank as usize;
    let dtype = match dtype {
        7 => MapType::F32,
        9 => MapType::Bf16,
        _ => return INVALID_VALUE,
    };
    let swizzle = match swizzle {
        0 => Swizzle::None,
        1 => Swizzle::B32,
        2 => Swizzle::B64,
        3 => Swizzle::B128,
        _ => return INVALID_VALUE,
    };
    if !(1..=5).contains(&rank) || interleave != 0 || fill != 0 {
        return INVALID_VALUE;
    }
    let mut map = unsafe {
        TensorMap {
            address: address as u64,
            dtype,
            sizes: std::slice::from_raw_parts(sizes, rank).to_vec(),
            strides: std::slice::from_raw_parts(strides, rank - 1).to_vec(),
            box_sizes: std::slice::from_raw_parts(box_sizes, rank).to_vec(),
            swizzle,
        }
    };
    if setting("FAKE_CUDA_WRONG_MAPS", 0) != 0 {
        map.sizes[rank - 1] = map.sizes[rank - 1].div_ceil(2); // the rest comes as zeros, and is not written
    }
    if map.check().is_err() {
        return INVALID_VALUE;
    }
    unsafe { *encoded = map.encode() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(error: Status, text: *mut *const c_char) -> Status {
    let name = match error {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        UNSUPPORTED_PTX => c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
        CAPTURE_UNSUPPORTED => c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        _ => c"CUDA_ERROR_INVALID_VALUE",
    };
    unsafe { *text = name.as_ptr() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(error: Status, text: *mut *const c_char) -> Status {
    let what = match error {
        OUT_OF_MEMORY => c"out of memory",
        UNSUPPORTED_PTX => c"the provided PTX was compiled with an unsupported toolchain.",
        ILLEGAL_ADDRESS => c"an illegal memory access was encountered",
        CAPTURE_UNSUPPORTED => c"operation not permitted when stream is capturing",
        _ => c"invalid argument",
    };
    unsafe { *text = what.as_ptr() };
    SUCCESS
}
