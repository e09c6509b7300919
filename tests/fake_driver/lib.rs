//! A CUDA driver made of the emulator: the few functions of `libcuda.so` that `src/device/cuda/` calls, so that the whole CUDA
//! device (arguments, streams, staging, faults) runs in tests on machines without a GPU.
//!
//! Cargo builds it as a shared library; `tests/cuda_device.rs` gives it the name `libcuda.so` and puts it where the program looks
//! first. It is asynchronous in one respect, the one that matters: a fault shows up at the next call that waits.
//!
//! What it pretends to be is read from the environment: `FAKE_CUDA_VERSION` (12040), `FAKE_CUDA_CAPABILITY` (90),
//! `FAKE_CUDA_MEMORY` (bytes), `FAKE_CUDA_GPUS` (1), `FAKE_CUDA_FAULT_AT` (the launch, from 1, that ends in an illegal address),
//! `FAKE_CUDA_REFUSE_PTX` (modules are refused as of an unknown version).

#![allow(non_snake_case, clippy::missing_safety_doc)]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use trimodal::emulator::{self, Argument, Options, Program, parse};

type Status = c_int;
const SUCCESS: Status = 0;
const INVALID_VALUE: Status = 1;
const OUT_OF_MEMORY: Status = 2;
const UNSUPPORTED_PTX: Status = 222;
const NOT_FOUND: Status = 500;
const ILLEGAL_ADDRESS: Status = 700;

/// Addresses: an allocation's number, shifted.
const SHIFT: u32 = 40;

#[derive(Default)]
struct Driver {
    buffers: HashMap<u64, (Arc<emulator::Buffer>, usize)>,
    next: u64,
    used: usize,
    launches: usize,
    /// What every call that waits answers from now on.
    broken: Option<Status>,
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

    fn buffer(&self, address: u64) -> Option<(Arc<emulator::Buffer>, usize)> {
        self.buffers.get(&(address >> SHIFT)).filter(|(_, bytes)| (address & ((1 << SHIFT) - 1)) < *bytes as u64).cloned()
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
    let capability = setting("FAKE_CUDA_CAPABILITY", 90);
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
    unsafe { *stream = std::ptr::without_provenance_mut(1) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(_: *mut c_void) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(_: *mut c_void) -> Status {
    driver().status()
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(_: *mut c_void, _: *mut c_void, _: c_uint) -> Status {
    SUCCESS
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
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, _: *mut c_void) -> Status {
    let driver = driver();
    let offset = (to & ((1 << SHIFT) - 1)) as usize;
    match driver.buffer(to) {
        Some((buffer, size)) if offset + bytes <= size => {
            buffer.write(offset, unsafe { std::slice::from_raw_parts(from.cast(), bytes) });
            driver.status()
        }
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, _: *mut c_void) -> Status {
    let driver = driver();
    match driver.buffer(from) {
        Some((buffer, size)) if bytes <= size => {
            buffer.read(0, unsafe { std::slice::from_raw_parts_mut(to.cast(), bytes) });
            driver.status()
        }
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, _: *mut c_void) -> Status {
    let driver = driver();
    match (driver.buffer(to), driver.buffer(from)) {
        (Some((to, size)), Some((from, available))) if bytes <= size && bytes <= available => {
            to.copy_from(&from, bytes);
            driver.status()
        }
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(address: u64, value: u8, bytes: usize, _: *mut c_void) -> Status {
    let driver = driver();
    match driver.buffer(address) {
        Some((buffer, size)) if bytes <= size => {
            buffer.write(0, &vec![value; bytes]);
            driver.status()
        }
        _ => INVALID_VALUE,
    }
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
    _: *mut c_void,
    parameters: *mut *mut c_void,
    _: *mut *mut c_void,
) -> Status {
    let function: &Function = unsafe { &*function.cast() };
    let module = unsafe { &*function.module };
    let entry = &module.parsed.entries[function.entry];
    let threads = entry.max_threads.map_or(0, |t| t.iter().product::<u32>());
    if [grid_y, grid_z, block_y, block_z] != [1; 4] || shared != 0 || block != threads {
        return INVALID_VALUE;
    }
    let mut driver = driver();
    driver.launches += 1;
    if driver.launches == setting("FAKE_CUDA_FAULT_AT", 0) {
        driver.broken = Some(ILLEGAL_ADDRESS);
    }
    if driver.broken.is_some() {
        return SUCCESS; // whoever waits will hear of it
    }
    // What the parameters say, kept alive beside the arguments that borrow it.
    let mut held = Vec::new();
    for (index, parameter) in entry.params.iter().enumerate() {
        let value = unsafe { *parameters.add(index) };
        held.push(match parameter.kind {
            parse::ParamKind::Pointer => match unsafe { *value.cast::<u64>() } {
                0 => Held::Null,
                address => match driver.buffer(address) {
                    Some((buffer, bytes)) if address & ((1 << SHIFT) - 1) == 0 => Held::Buffer(buffer, bytes),
                    _ => return INVALID_VALUE,
                },
            },
            _ => Held::Bytes(unsafe { std::slice::from_raw_parts(value.cast::<u8>(), parameter.size) }.to_vec()),
        });
    }
    let arguments: Vec<Argument> = held
        .iter()
        .map(|held| match held {
            Held::Null => Argument::Null,
            Held::Buffer(buffer, bytes) => Argument::Buffer { buffer, bytes: *bytes, name: "a buffer" },
            Held::Bytes(bytes) => Argument::Bytes(bytes),
        })
        .collect();
    match emulator::run(&module.program, &entry.name, grid, &arguments, &Options::default()) {
        Ok(report) if report.findings.is_empty() => {}
        Ok(report) => {
            for finding in &report.findings {
                eprintln!("fake driver: {finding}");
            }
            driver.broken = Some(ILLEGAL_ADDRESS);
        }
        Err(e) => {
            eprintln!("fake driver: {e}");
            driver.broken = Some(ILLEGAL_ADDRESS);
        }
    }
    SUCCESS
}

enum Held {
    Null,
    Buffer(Arc<emulator::Buffer>, usize),
    Bytes(Vec<u8>),
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(error: Status, text: *mut *const c_char) -> Status {
    let name = match error {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        UNSUPPORTED_PTX => c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
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
        _ => c"invalid argument",
    };
    unsafe { *text = what.as_ptr() };
    SUCCESS
}
