//! An NVIDIA GPU through its driver: `cudarc` loads it when the program runs, nothing of CUDA is needed to build.
//!
//! One stream for all work, in order, and a second one for batches that are uploaded ahead. Memory comes from the device's
//! stream-ordered pool. Modules are loaded when one of their kernels is first launched, the best one that the GPU runs. A fault
//! that leaves the driver's context broken is remembered: everything after it says so.

mod fault;
mod graph;
mod staging;
mod timer;

use super::ptx::{self, Compiled};
use super::{Buffer, Hopper, Launch, TensorMap, View};
use crate::dtype::DType;
use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use fault::{FaultKind, kind, say};
pub(crate) use graph::Graph;
use staging::Staging;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub(crate) use timer::Mark;

/// The driver that the PTX needs: CUDA 12.4 (R550, February 2024), the first that loads PTX ISA 8.4.
const DRIVER_NEEDED: (i32, i32) = (12, 4);
/// The most arguments of a kernel: tensor maps, buffers and the `Dims`.
const MAX_ARGUMENTS: usize = 16;

/// An opened GPU.
pub struct Context {
    name: String,
    capability: u32,
    driver: (i32, i32),
    total_bytes: usize,
    multiprocessors: usize,
    device: sys::CUdevice,
    context: sys::CUcontext,
    pub(crate) stream: sys::CUstream,
    /// Uploads of the next batch, beside the kernels of this one.
    ahead: sys::CUstream,
    functions: Mutex<HashMap<(bool, &'static str, String), Function>>,
    modules: Mutex<HashMap<&'static str, sys::CUmodule>>,
    staging: Mutex<Staging>,
    lost: Mutex<Option<String>>,
    /// Operations whose Hopper kernels have been tested here, and whether they are right.
    trusted: Mutex<HashMap<&'static str, bool>>,
}

// SAFETY: the handles are names that the driver gave out; it takes them from any thread in which the context is current, and
// every call below makes it current first (`enter`). Our own state is behind mutexes.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// A loaded entry.
#[derive(Clone, Copy)]
struct Function {
    raw: sys::CUfunction,
    module: &'static ptx::Module,
}

/// What [`Context::probe`] found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The GPU's name.
    pub name: String,
    /// Its compute capability: 9.0 is 90.
    pub capability: u32,
    /// The CUDA version of the driver.
    pub driver: (i32, i32),
    /// Its memory.
    pub total_bytes: usize,
    /// Streaming multiprocessors.
    pub multiprocessors: i32,
}

impl Context {
    /// The GPU that [`Context::open`] would take, or why there is none.
    ///
    /// # Errors
    /// [`Error::Device`]: no driver, no GPU, a driver or a GPU that is too old.
    pub fn probe() -> Result<Found> {
        Self::find().map(|(_, found)| found)
    }

    fn find() -> Result<(sys::CUdevice, Found)> {
        let absent = |what: String| Error::Device { device: "cuda".into(), what };
        // SAFETY: only tries to load the library, which has no other requirement than to be NVIDIA's.
        if !unsafe { sys::is_culib_present() } {
            return Err(absent(
                "no NVIDIA driver on this machine (libcuda.so / nvcuda.dll cannot be loaded); install NVIDIA's driver, \
                 or use --device wgpu or cpu; --device emulator runs the same kernels without a GPU"
                    .into(),
            ));
        }
        result::init().map_err(|e| absent(format!("the driver does not start: {}", say(e))))?;
        let mut version = 0;
        // SAFETY: the pointer is to a live integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|e| absent(format!("the driver does not report its version: {}", say(e))))?;
        let driver = (version / 1000, version % 1000 / 10);
        if driver < DRIVER_NEEDED {
            return Err(absent(format!(
                "the driver is too old: it supports CUDA {}.{}, and our PTX needs {}.{} (driver 550, of February 2024); update it, or use --device wgpu",
                driver.0, driver.1, DRIVER_NEEDED.0, DRIVER_NEEDED.1
            )));
        }
        let count = result::device::get_count().map_err(|e| absent(format!("GPUs cannot be counted: {}", say(e))))?;
        let mut too_old = Vec::new();
        for ordinal in 0..count {
            let device = result::device::get(ordinal).map_err(|e| absent(say(e)))?;
            let name = result::device::get_name(device).map_err(|e| absent(say(e)))?;
            // SAFETY: the device is the driver's own, for all three calls.
            let attribute = |which| unsafe { result::device::get_attribute(device, which) }.map_err(|e| absent(format!("{name}: {}", say(e))));
            let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            let capability = (major * 10 + minor) as u32;
            if capability < ptx::OLDEST {
                too_old.push(format!("{name} ({major}.{minor})"));
                continue;
            }
            let multiprocessors = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
            // SAFETY: as above.
            let total_bytes = unsafe { result::device::total_mem(device) }.map_err(|e| absent(format!("{name}: {}", say(e))))?;
            return Ok((device, Found { name, capability, driver, total_bytes, multiprocessors }));
        }
        Err(absent(match too_old.as_slice() {
            [] => "there is a driver, but it shows no GPU (see nvidia-smi and CUDA_VISIBLE_DEVICES)".into(),
            old => {
                format!("{}: too old: our PTX needs compute capability 8.0 (Ampere, 2020) or later; --device wgpu runs the same model there", old.join(", "))
            }
        }))
    }

    /// Opens the first NVIDIA GPU that runs our PTX. `CUDA_VISIBLE_DEVICES` chooses among several.
    ///
    /// # Errors
    /// [`Error::Device`]: no driver, no GPU, a driver or a GPU that is too old; each says what is needed.
    pub fn open() -> Result<Self> {
        let (device, found) = Self::find()?;
        let fail = |e: DriverError| Error::Device { device: found.name.clone(), what: format!("cannot be opened: {}", say(e)) };
        // SAFETY: the device is the driver's own; the context is released when `self` is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(fail)?;
        // SAFETY: it has just been retained.
        unsafe { result::ctx::set_current(context) }.map_err(fail)?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(fail)?;
        let ahead = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(fail)?;
        let opened = Context {
            name: found.name,
            capability: found.capability,
            driver: found.driver,
            total_bytes: found.total_bytes,
            multiprocessors: found.multiprocessors.max(1) as usize,
            device,
            context,
            stream,
            ahead,
            functions: Mutex::default(),
            modules: Mutex::default(),
            staging: Mutex::default(),
            lost: Mutex::default(),
            trusted: Mutex::default(),
        };
        // Freed memory stays in the pool: a run that allocates the same again need not ask the system.
        let keep = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is the device's own; the attribute takes a u64, and the driver only reads it.
        unsafe { result::mem_pool::set_attribute(opened.pool()?, threshold, (&raw const keep).cast_mut().cast()) }
            .map_err(|e| opened.failed(e, "setting up its memory pool"))?;
        Ok(opened)
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its compute capability: 9.0 is 90.
    pub fn capability(&self) -> u32 {
        self.capability
    }

    /// Its streaming multiprocessors.
    pub fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    /// Whether an operation's Hopper kernels give the right results here: runs `test` once, and says so where they do not.
    pub(crate) fn trusts(&self, op: &'static str, test: impl FnOnce() -> Result<()>) -> bool {
        *lock(&self.trusted).entry(op).or_insert_with(|| {
            if std::env::var_os("TRIMODAL_HOPPER").is_some_and(|v| v == "off") {
                return false;
            }
            let result = test();
            if let Err(e) = &result {
                trimodal_base::shown::warn(format!("{}: {op} uses its portable kernels, because the Hopper kernels fail their test: {e}", self.name));
            }
            result.is_ok()
        })
    }

    /// Its memory: (free, total) bytes. What our pool holds and does not use counts as free.
    pub fn memory(&self) -> Result<(u64, u64)> {
        self.enter()?;
        let (free, _) = result::mem_get_info().map_err(|e| self.failed(e, "asking for its free memory"))?;
        let read = |which| -> Result<u64> {
            let mut value = 0u64;
            // SAFETY: the pool is the device's own and both attributes are a u64.
            unsafe { result::mem_pool::get_attribute(self.pool()?, which, (&raw mut value).cast()) }.map_err(|e| self.failed(e, "asking its memory pool"))?;
            Ok(value)
        };
        let reserved = read(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        let used = read(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
        Ok((free as u64 + reserved.saturating_sub(used), self.total_bytes as u64))
    }

    fn pool(&self) -> Result<sys::CUmemoryPool> {
        // SAFETY: the device is the driver's own.
        unsafe { result::device::get_default_mem_pool(self.device) }.map_err(|e| self.failed(e, "asking for its memory pool"))
    }

    /// Makes the context current in this thread; refuses where it is broken.
    pub(crate) fn enter(&self) -> Result<()> {
        if let Some(what) = &*lock(&self.lost) {
            return Err(Error::DeviceLost { device: self.name.clone(), what: what.clone() });
        }
        // SAFETY: retained in `open`, released in `drop`.
        unsafe { result::ctx::set_current(self.context) }.map_err(|e| self.failed(e, "entering its context"))
    }

    /// The error for what the driver answered; remembers it if nothing works afterwards.
    fn failed(&self, error: DriverError, doing: &str) -> Error {
        match kind(error) {
            FaultKind::Sticky => {
                let what = format!("{} while {doing}", say(error));
                let what = lock(&self.lost).get_or_insert(what).clone(); // the first is the cause
                Error::DeviceLost { device: self.name.clone(), what }
            }
            FaultKind::Memory => Error::OutOfMemory { device: self.name.clone(), what: doing.into(), asked: 0, free: None },
            FaultKind::Version => Error::Device {
                device: self.name.clone(),
                what: format!(
                    "{}: the driver supports CUDA {}.{}, and our PTX needs {}.{} or later; update it, or use --device wgpu",
                    say(error),
                    self.driver.0,
                    self.driver.1,
                    DRIVER_NEEDED.0,
                    DRIVER_NEEDED.1
                ),
            },
            FaultKind::Other => Error::Device { device: self.name.clone(), what: format!("{} while {doing}", say(error)) },
        }
    }

    /// Memory of zeros.
    pub(crate) fn allocate(self: &Arc<Self>, elements: usize, dtype: DType) -> Result<CudaBuffer> {
        self.enter()?;
        let bytes = ptx::bytes(elements, dtype);
        let ask = || {
            // SAFETY: the stream lives as long as `self`; the memory is freed on the same stream when the buffer is dropped.
            unsafe { result::malloc_async(self.stream, bytes) }
        };
        let address = match ask() {
            // What other sizes left in the pool may be in the way: give it back and try once more.
            Err(e) if kind(e) == FaultKind::Memory => {
                self.synchronize()?;
                // SAFETY: the pool is the device's own.
                unsafe { result::mem_pool::trim_to(self.pool()?, 0) }.map_err(|e| self.failed(e, "trimming its memory pool"))?;
                ask()
            }
            other => other,
        };
        let address = address.map_err(|e| match kind(e) {
            FaultKind::Memory => Error::OutOfMemory {
                device: self.name.clone(),
                what: format!("a tensor of {elements} {dtype}"),
                asked: bytes as u64,
                free: self.memory().ok().map(|(free, _)| free),
            },
            _ => self.failed(e, "allocating"),
        })?;
        let memory = Arc::new(Allocation { address, context: self.clone() });
        let buffer = CudaBuffer { address, bytes, context: self.clone(), uploading: Mutex::default(), copying: Mutex::default(), memory };
        buffer.clear()?;
        Ok(buffer)
    }

    /// Launches a kernel on the stream.
    pub(crate) fn launch(&self, launch: Launch) -> Result<()> {
        self.launch_with(launch, None)
    }

    /// Launches a kernel of `kernels/hopper/` on the stream.
    pub(crate) fn launch_hopper(&self, launch: Launch, hopper: Hopper) -> Result<()> {
        self.launch_with(launch, Some(hopper))
    }

    fn launch_with(&self, launch: Launch, hopper: Option<Hopper>) -> Result<()> {
        if launch.groups == 0 {
            return Ok(());
        }
        self.enter()?;
        let function = self.function(&launch, hopper)?;
        let signature = function.module.check(&launch, hopper.as_ref())?;
        let (maps, shared) = hopper.map_or((&[][..], 0), |h| (h.maps, h.shared));
        let maps = maps.iter().map(|map| self.encode(&launch, map)).collect::<Result<Vec<_>>>()?;
        let mut addresses = [0u64; MAX_ARGUMENTS];
        for (address, tensor) in addresses.iter_mut().zip(launch.buffers) {
            if let Some(tensor) = tensor {
                *address = self.address(&launch, *tensor)?;
            }
        }
        let mut arguments = [std::ptr::null_mut::<c_void>(); MAX_ARGUMENTS];
        let given = maps.len() + launch.buffers.len();
        let values = maps.iter().map(|map| (&raw const *map).cast()).chain(addresses.iter().map(|address| (&raw const *address).cast::<c_void>()));
        for (argument, value) in arguments.iter_mut().zip(values.take(given)) {
            *argument = value.cast_mut();
        }
        arguments[given] = launch.dims.as_ptr().cast_mut().cast();
        // SAFETY: the function belongs to a module that is never unloaded while `self` lives. `check` has compared the number
        // and kinds of the arguments with the `.entry` signature and the buffers' sizes with the shapes that the kernel's header
        // states, which `check --device emulator` has held it to. The driver copies the arguments before it returns. Buffers
        // outlive the launch: they are freed on this stream, after it.
        unsafe {
            let arguments = &mut arguments[..=given];
            result::launch_kernel(function.raw, (launch.groups as u32, 1, 1), (signature.threads, 1, 1), shared as u32, self.stream, arguments)
        }
        .map_err(|e| self.failed(e, &format!("launching {}.{}{}", launch.kernel.0, launch.kernel.1, launch.variant)))
    }

    /// The address of a tensor of this GPU; the stream waits for an upload of it that is under way.
    fn address(&self, launch: &Launch, tensor: View) -> Result<sys::CUdeviceptr> {
        match &tensor.buffer {
            Buffer::Cuda(buffer) if std::ptr::eq(&*buffer.context, self) => {
                buffer.settle()?;
                Ok(buffer.address)
            }
            _ => Err(Error::mismatch(launch.kernel.0, "a buffer", format!("a tensor on cuda ({})", self.name), format!("one on {}", tensor.device))),
        }
    }

    /// The 128 bytes that a kernel takes for a tensor map.
    fn encode(&self, launch: &Launch, map: &TensorMap) -> Result<sys::CUtensorMap> {
        let address = self.address(launch, map.tensor)?;
        let dtype = match map.tensor.dtype {
            DType::F32 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            DType::Bf16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            other => unreachable!("no kernel takes {other} through the TMA"),
        };
        let element = map.tensor.dtype.size();
        let sizes: Vec<u64> = map.dims.iter().map(|d| d.size as u64).collect();
        let strides: Vec<u64> = map.dims[1..].iter().map(|d| (d.stride * element) as u64).collect();
        let boxes: Vec<u32> = map.dims.iter().map(|d| d.box_size as u32).collect();
        let mut encoded = std::mem::MaybeUninit::<sys::CUtensorMap>::uninit();
        // SAFETY: the arrays are as long as the rank says (`check` has seen to 1 to 5 dimensions), and the driver writes the whole
        // map where it returns success.
        unsafe {
            sys::cuTensorMapEncodeTiled(
                encoded.as_mut_ptr(),
                dtype,
                sizes.len() as u32,
                address as *mut c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                [1u32; 5].as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
            .result()
            .map(|()| encoded.assume_init())
        }
        .map_err(|e| self.failed(e, &format!("describing a tensor {} to the TMA", map.tensor.shape)))
    }

    fn function(&self, launch: &Launch, hopper: Option<Hopper>) -> Result<Function> {
        let (stem, entry) = launch.kernel;
        let key = (hopper.is_some(), stem, format!("{entry}{}", launch.variant));
        let mut functions = lock(&self.functions);
        if let Some(function) = functions.get(&key) {
            return Ok(*function);
        }
        let compiled = Compiled::of(launch, hopper.as_ref());
        let module = self.module(compiled)?;
        let entry = &key.2;
        let failed = |e: DriverError, doing: &str| self.failed(e, &format!("{doing} {entry} of {}", compiled.file));
        let name = CString::new(entry.as_str()).expect("a name without zeros");
        // SAFETY: the module is loaded and stays so.
        let raw = unsafe { result::module::get_function(module, name) }.map_err(|e| failed(e, "looking for"))?;
        let read = ptx::module(compiled);
        if hopper.is_some() {
            let room = Hopper::MAX_SHARED - read.signatures().find(|s| s.name == *entry).map_or(0, |s| s.shared);
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function has just been found.
            unsafe { sys::cuFuncSetAttribute(raw, most, room as i32) }.result().map_err(|e| failed(e, "making room in shared memory for"))?;
        }
        let function = Function { raw, module: read };
        functions.insert(key, function);
        Ok(function)
    }

    fn module(&self, compiled: &'static Compiled) -> Result<sys::CUmodule> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(compiled.file) {
            return Ok(*module);
        }
        let text = CString::new(compiled.text()).expect("PTX is text without zeros");
        // SAFETY: the image is a string that ends with a zero, which is how the driver takes PTX.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.map_err(|e| self.failed(e, &format!("loading {}", compiled.file)))?;
        modules.insert(compiled.file, module);
        Ok(module)
    }

    /// Waits until everything that was launched has run.
    pub fn synchronize(&self) -> Result<()> {
        self.enter()?;
        for stream in [self.stream, self.ahead] {
            // SAFETY: it lives as long as `self`.
            unsafe { result::stream::synchronize(stream) }.map_err(|e| self.failed(e, "running kernels"))?;
        }
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A broken context cannot be cleaned up, and a leak ends with the process: errors are of no use here.
        if self.enter().is_err() {
            return;
        }
        let _ = self.synchronize();
        lock(&self.staging).free();
        for (_, module) in lock(&self.modules).drain() {
            // SAFETY: loaded once, unloaded once; nothing runs any more.
            let _ = unsafe { result::module::unload(module) };
        }
        // SAFETY: created in `open`; nothing runs on them any more.
        unsafe {
            let _ = result::stream::destroy(self.stream);
            let _ = result::stream::destroy(self.ahead);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// Memory on the GPU.
pub(crate) struct CudaBuffer {
    pub(crate) address: sys::CUdeviceptr,
    bytes: usize,
    context: Arc<Context>,
    /// Set while an upload ahead may still be under way: what the stream must wait for before it touches the buffer.
    uploading: Mutex<Option<staging::Event>>,
    /// Set while it may still be copied from: what an upload ahead must wait for before it writes the buffer.
    copying: Mutex<Option<staging::Event>>,
    /// The memory that it is all or a part of.
    memory: Arc<Allocation>,
}

/// Memory to give back.
struct Allocation {
    pub(crate) address: sys::CUdeviceptr,
    context: Arc<Context>,
}

impl CudaBuffer {
    /// A part of it, which keeps the memory alive. It starts at a multiple of 16 bytes.
    pub(crate) fn part(&self, start: usize, elements: usize, dtype: DType) -> CudaBuffer {
        let (offset, bytes) = (start * dtype.size(), ptx::bytes(elements, dtype));
        assert!(offset.is_multiple_of(16) && offset + bytes <= self.bytes, "{bytes} bytes from {offset} of {}", self.bytes);
        CudaBuffer {
            address: self.address + offset as u64,
            bytes,
            context: self.context.clone(),
            uploading: Mutex::default(),
            copying: Mutex::default(),
            memory: self.memory.clone(),
        }
    }

    /// Copies bytes to the device after everything launched so far; the host need not wait for it.
    pub(crate) fn upload(&self, bytes: &[u8]) -> Result<()> {
        self.context.enter()?;
        self.settle()?;
        lock(&self.context.staging).upload(self.address, bytes, self.context.stream).map_err(|e| self.context.failed(e, "uploading")).map(drop)
    }

    /// As [`CudaBuffer::upload`], beside the kernels that run: for a buffer that none of them uses. A copy from it may be under way.
    pub(crate) fn upload_ahead(&self, bytes: &[u8]) -> Result<()> {
        self.context.enter()?;
        self.settle()?;
        if let Some(copied) = lock(&self.copying).take() {
            copied.hold(self.context.ahead).map_err(|e| self.context.failed(e, "waiting for a copy"))?;
        }
        let done = lock(&self.context.staging).upload(self.address, bytes, self.context.ahead).map_err(|e| self.context.failed(e, "uploading"))?;
        *lock(&self.uploading) = done;
        Ok(())
    }

    /// Lets the stream wait for an upload ahead, if there was one.
    pub(crate) fn settle(&self) -> Result<()> {
        match lock(&self.uploading).take() {
            None => Ok(()),
            Some(event) => event.hold(self.context.stream).map_err(|e| self.context.failed(e, "waiting for an upload")),
        }
    }

    /// Waits for everything launched so far and copies bytes to the host.
    pub(crate) fn download(&self, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.context.enter()?;
        self.settle()?;
        assert!(bytes.len() <= self.bytes, "a download of {} bytes from {}", bytes.len(), self.bytes);
        // SAFETY: the copy stays inside the allocation (asserted), and `bytes` is not touched before the stream has been waited
        // for below, whatever happens.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, self.address, self.context.stream) };
        // SAFETY: the stream lives as long as the context.
        let waited = unsafe { result::stream::synchronize(self.context.stream) };
        copied.and(waited).map_err(|e| self.context.failed(e, "running kernels and reading their result back"))
    }

    /// Fills it with zeros.
    pub(crate) fn clear(&self) -> Result<()> {
        self.context.enter()?;
        self.settle()?;
        // SAFETY: exactly the allocation.
        unsafe { result::memset_d8_async(self.address, 0, self.bytes, self.context.stream) }.map_err(|e| self.context.failed(e, "clearing memory"))
    }

    /// Copies bytes from another buffer of the same GPU.
    pub(crate) fn copy_from(&self, from: &CudaBuffer, bytes: usize) -> Result<()> {
        if !Arc::ptr_eq(&self.context, &from.context) {
            return Err(Error::mismatch("copy", "from", "a tensor on the same device", "one on another GPU"));
        }
        self.context.enter()?;
        self.settle()?;
        from.settle()?;
        assert!(bytes <= self.bytes && bytes <= from.bytes, "a copy of {bytes} bytes from {} to {}", from.bytes, self.bytes);
        // SAFETY: inside both allocations (asserted), on the stream that both are used on.
        unsafe { result::memcpy_dtod_async(self.address, from.address, bytes, self.context.stream) }.map_err(|e| self.context.failed(e, "copying"))?;
        let copied = staging::Event::here(self.context.stream).map_err(|e| self.context.failed(e, "copying"))?;
        *lock(&from.copying) = Some(copied);
        Ok(())
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // The memory may be freed next, on the stream. An error would come again at the next call.
            let _ = self.settle();
        }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated on this stream, freed once, after everything that uses it. An error would come again at the next call.
            let _ = unsafe { result::free_async(self.address, self.context.stream) };
        }
    }
}

/// A panic while something of ours was locked leaves it usable: every change to it is made whole or not at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
