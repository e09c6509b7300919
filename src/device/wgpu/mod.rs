//! The wgpu device: adapters, buffers, and a recorder that turns launches into few command buffers.
//!
//! Launches are recorded into one compute pass of one command encoder, and submitted when the host reads something,
//! when a buffer that the pass may use is overwritten from the host, or after [`FLUSH_AFTER`] launches. Within a pass
//! wgpu orders dispatches that touch the same buffer.

mod adapter;
mod recorder;
mod replaced;
mod stopwatch;

pub use super::shader::{Access, Binding, Entry, SHADERS, Shader};
pub use adapter::{Adapter, AdapterKind, adapters};
pub use replaced::Replaced;

use super::Launch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use recorder::LaunchRecorder;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use stopwatch::Stopwatch;

/// A software driver can hang on a broken shader: after this long, waiting ends with an error.
const WAIT: Duration = Duration::from_secs(120);

/// How shaders are compiled.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// Lets naga clamp indices and bound loops. Off by default: our kernels are tested for staying inside their buffers
    /// (`trimodal check` fills what comes after them), and the clamps cost time in every inner loop.
    pub bounds_checks: bool,
    /// A shader that replaces one of ours; it always gets the clamps.
    pub replaced: Option<Replaced>,
}

#[allow(clippy::derivable_impls)] // the default is a decision, worth a line of its own
impl Default for ContextOptions {
    fn default() -> Self {
        ContextOptions { bounds_checks: false, replaced: None }
    }
}

/// An opened adapter with its queue, pipelines and pending launches.
pub struct Context {
    adapter: Adapter,
    options: ContextOptions,
    device: ::wgpu::Device,
    queue: ::wgpu::Queue,
    fault: Arc<Mutex<Option<Fault>>>,
    recorder: Mutex<LaunchRecorder>,
    next_buffer: AtomicU64,
}

/// What the driver reported outside of any call.
enum Fault {
    Lost(String),
    OutOfMemory,
    Other(String),
}

impl Context {
    /// Opens the adapter whose name contains `name` (in any case), or the most capable one.
    ///
    /// # Errors
    /// [`Error::Device`] where there is none; it lists the ones that exist.
    pub fn open(name: Option<&str>, options: ContextOptions) -> Result<Context> {
        let all = adapters();
        let found = match name {
            Some(name) => all.iter().find(|a| a.name.to_lowercase().contains(&name.to_lowercase())),
            None => all.first(),
        };
        match found {
            Some(adapter) => Self::open_listed(adapter, options),
            None if all.is_empty() => Err(Error::Device {
                device: "wgpu".into(),
                what: "no Vulkan, Metal or DX12 adapter on this machine; install a driver \
                       (a software one: Debian's mesa-vulkan-drivers) or use --device cpu"
                    .into(),
            }),
            None => Err(Error::Device {
                device: "wgpu".into(),
                what: format!(
                    "expected a part of an adapter's name, found {:?}; the adapters are: {}",
                    name.unwrap_or_default(),
                    all.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ")
                ),
            }),
        }
    }

    /// Opens one adapter of [`adapters`].
    pub fn open_listed(adapter: &Adapter, options: ContextOptions) -> Result<Context> {
        replaced::all_valid()?;
        let fail = |what: String| Error::Device { device: adapter.name.clone(), what };
        let wanted = ::wgpu::Features::SUBGROUP | ::wgpu::Features::SHADER_F16 | ::wgpu::Features::TIMESTAMP_QUERY;
        let (device, queue) = pollster::block_on(adapter.raw.request_device(&::wgpu::DeviceDescriptor {
            label: Some("trimodal"),
            required_features: adapter.raw.features() & wanted,
            required_limits: adapter.raw.limits(),
            ..Default::default()
        }))
        .map_err(|e| fail(format!("cannot be opened: {e}")))?;

        let fault = Arc::new(Mutex::new(None));
        let report = {
            let fault = fault.clone();
            move |new: Fault| {
                // The first fault is the cause; later ones follow from it.
                fault.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(new);
            }
        };
        let lost = report.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != ::wgpu::DeviceLostReason::Destroyed {
                lost(Fault::Lost(message));
            }
        });
        device.on_uncaptured_error(Arc::new(move |error| {
            report(match error {
                ::wgpu::Error::OutOfMemory { .. } => Fault::OutOfMemory,
                other => Fault::Other(other.to_string()),
            })
        }));
        let recorder = Mutex::new(LaunchRecorder::new(&device));
        Ok(Context { adapter: adapter.clone(), options, device, queue, fault, recorder, next_buffer: AtomicU64::new(0) })
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.adapter.name
    }

    /// The adapter.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The limits that the device grants.
    pub fn limits(&self) -> ::wgpu::Limits {
        self.device.limits()
    }

    /// Whether shaders may use subgroup operations.
    pub fn has_subgroups(&self) -> bool {
        self.device.features().contains(::wgpu::Features::SUBGROUP)
    }

    pub(crate) fn allocate(self: &Arc<Self>, elements: usize, dtype: DType) -> Result<WgpuBuffer> {
        if dtype == DType::F64 {
            return Err(Error::Device { device: self.name().into(), what: "f64 is available on the CPU device only".into() });
        }
        // WebGPU copies whole words and binds no empty buffer; 16 bytes also let a vec4 view exist.
        let bytes = (elements as u64 * dtype.size() as u64).next_multiple_of(16).max(16);
        let limit = self.limits().max_storage_buffer_binding_size;
        if bytes > limit {
            return Err(Error::TooLarge {
                what: format!("a tensor of {elements} {dtype} on {}: bytes of one storage binding", self.name()),
                size: bytes as u128,
                limit: limit as u128,
            });
        }
        let raw = self.device.create_buffer(&::wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: ::wgpu::BufferUsages::STORAGE | ::wgpu::BufferUsages::COPY_SRC | ::wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.check(|| (format!("a tensor of {elements} {dtype}"), bytes))?;
        Ok(WgpuBuffer { id: self.next_buffer.fetch_add(1, Ordering::Relaxed), raw, bytes, gpu: self.clone() })
    }

    pub(crate) fn upload(&self, to: &WgpuBuffer, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut recorder = self.recorder();
        // A write lands before the next submission: launches already recorded must be submitted first.
        recorder.flush(self);
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(&to.raw, 0, &bytes[..whole]);
        if whole < bytes.len() {
            let mut word = [0; 4];
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(&to.raw, whole as u64, &word);
        }
        drop(recorder);
        self.check(|| ("an upload".into(), bytes.len() as u64))
    }

    pub(crate) fn download(&self, from: &WgpuBuffer, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let size = (bytes.len() as u64).next_multiple_of(4);
        let staging = self.device.create_buffer(&::wgpu::BufferDescriptor {
            label: Some("download"),
            size,
            usage: ::wgpu::BufferUsages::MAP_READ | ::wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut recorder = self.recorder();
        recorder.encoder(&self.device).copy_buffer_to_buffer(&from.raw, 0, &staging, 0, size);
        recorder.flush(self);
        drop(recorder);
        self.fetch(&staging, bytes)
    }

    /// Waits for everything that was submitted and copies the contents of a mappable buffer.
    fn fetch(&self, staging: &::wgpu::Buffer, bytes: &mut [u8]) -> Result<()> {
        let slice = staging.slice(..);
        let mapped = Arc::new(Mutex::new(None));
        slice.map_async(::wgpu::MapMode::Read, {
            let mapped = mapped.clone();
            move |result| *mapped.lock().unwrap_or_else(|e| e.into_inner()) = Some(result)
        });
        self.wait()?;
        match mapped.lock().unwrap_or_else(|e| e.into_inner()).take() {
            Some(Ok(())) => {}
            Some(Err(e)) => return Err(Error::Device { device: self.name().into(), what: format!("a result cannot be read back: {e}") }),
            None => return Err(Error::Device { device: self.name().into(), what: "a result was not ready after waiting".into() }),
        }
        let view = slice.get_mapped_range().map_err(|e| Error::Device { device: self.name().into(), what: format!("a result cannot be mapped: {e}") })?;
        bytes.copy_from_slice(&view[..bytes.len()]);
        Ok(())
    }

    pub(crate) fn clear(&self, buffer: &WgpuBuffer) -> Result<()> {
        self.recorder().encoder(&self.device).clear_buffer(&buffer.raw, 0, None);
        Ok(())
    }

    pub(crate) fn copy(&self, from: &WgpuBuffer, to: &WgpuBuffer, bytes: usize) -> Result<()> {
        let bytes = (bytes as u64).next_multiple_of(4).min(from.bytes).min(to.bytes);
        self.recorder().encoder(&self.device).copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, bytes);
        Ok(())
    }

    /// Records one launch. See [`Launch`].
    pub(crate) fn launch(&self, launch: Launch) -> Result<()> {
        let full = self.recorder().stopwatch.as_ref().is_some_and(Stopwatch::full);
        if full {
            self.empty_stopwatch()?;
        }
        self.recorder().launch(self, launch)?;
        self.check(|| ("a launch".into(), 0))
    }

    /// Submits what was recorded and waits for it.
    pub fn synchronize(&self) -> Result<()> {
        self.recorder().flush(self);
        self.wait()
    }

    fn recorder(&self) -> MutexGuard<'_, LaunchRecorder> {
        // A panic while recording leaves at worst an unsubmitted pass: the recorder stays usable.
        self.recorder.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn wait(&self) -> Result<()> {
        let polled = self.device.poll(::wgpu::PollType::Wait { submission_index: None, timeout: Some(WAIT) });
        self.check(|| ("pending work".into(), 0))?;
        polled.map(|_| ()).map_err(|e| Error::DeviceLost { device: self.name().into(), what: format!("no answer within {} s: {e}", WAIT.as_secs()) })
    }

    /// Turns a fault that the driver reported meanwhile into an error. `asked` says what memory was asked for.
    fn check(&self, asked: impl FnOnce() -> (String, u64)) -> Result<()> {
        let mut fault = self.fault.lock().unwrap_or_else(|e| e.into_inner());
        match &*fault {
            None => Ok(()),
            // A lost device stays lost: every later call says so too.
            Some(Fault::Lost(what)) => Err(Error::DeviceLost { device: self.name().into(), what: what.clone() }),
            Some(Fault::OutOfMemory) => {
                *fault = None;
                let (what, asked) = asked();
                Err(Error::OutOfMemory { device: self.name().into(), what, asked, free: None })
            }
            Some(Fault::Other(_)) => match fault.take() {
                Some(Fault::Other(what)) => Err(Error::Device { device: self.name().into(), what }),
                _ => Ok(()),
            },
        }
    }
}

/// A storage buffer. Dropping it also drops the cached bind groups that name it.
pub(crate) struct WgpuBuffer {
    id: u64,
    raw: ::wgpu::Buffer,
    bytes: u64,
    gpu: Arc<Context>,
}

impl WgpuBuffer {
    pub(crate) fn gpu(&self) -> &Context {
        &self.gpu
    }
}

impl Drop for WgpuBuffer {
    fn drop(&mut self) {
        self.gpu.recorder().forget(self.id);
    }
}
