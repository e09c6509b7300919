//! The kinds of machine that run our kernels: real ones through wgpu or CUDA, and the PTX emulator; and one that only writes down what
//! it would run.

#[cfg(feature = "cuda")]
use super::cuda;
#[cfg(feature = "emulator")]
use super::emulator;
#[cfg(feature = "wgpu")]
use super::wgpu;
use super::{Buffer, Hopper, Language, Launch, dry};
use crate::dtype::DType;
use crate::error::Result;
use crate::observe;
use std::fmt;
use std::sync::Arc;

/// Whatever runs our kernels. Cheap to clone.
#[derive(Clone)]
pub enum Gpu {
    /// A GPU (or a software driver) through Vulkan, Metal or DX12: the shaders in `shaders/`.
    #[cfg(feature = "wgpu")]
    Wgpu(Arc<wgpu::Context>),
    /// An NVIDIA GPU through its driver: the PTX in `kernels/ptx/`.
    #[cfg(feature = "cuda")]
    Cuda(Arc<cuda::Context>),
    /// The same PTX on the CPU, slowly, with every memory access checked.
    #[cfg(feature = "emulator")]
    Emulator(Arc<emulator::Machine>),
    /// Nothing runs: launches are written down, to be replayed elsewhere ([`crate::golden`]).
    #[doc(hidden)]
    Dry(Arc<dry::DryRecorder>),
}

/// Of the emulator: enough that tiles are shared out, few enough that a block gets several.
const EMULATED_MULTIPROCESSORS: usize = 4;

impl Gpu {
    /// The language of the kernels that it runs.
    pub fn language(&self) -> Language {
        match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(_) => Language::Wgsl,
            #[cfg(feature = "cuda")]
            Gpu::Cuda(_) => Language::Ptx,
            #[cfg(feature = "emulator")]
            Gpu::Emulator(_) => Language::Ptx,
            Gpu::Dry(recorder) => recorder.language(),
        }
    }

    /// Elements of the widest access that the kernels make: a vec4 in WGSL, 16 bytes in CUDA.
    pub(crate) fn elements_per_access(&self, dtype: DType) -> usize {
        match self.language() {
            Language::Wgsl => 4,
            Language::Ptx => 16 / dtype.size(),
        }
    }

    /// Launches a kernel; it may run later. An error that happens then is reported by the next call that waits.
    pub(crate) fn launch(&self, launch: Launch) -> Result<()> {
        self.observed(&launch, None, || match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(context) => context.launch(launch),
            #[cfg(feature = "cuda")]
            Gpu::Cuda(context) => context.launch(launch),
            #[cfg(feature = "emulator")]
            Gpu::Emulator(machine) => machine.launch(launch),
            Gpu::Dry(recorder) => recorder.launch(launch, None),
        })
    }

    /// Launches a kernel of `kernels/hopper/`, as [`Gpu::launch`] does the portable ones.
    ///
    /// # Panics
    /// Where [`Gpu::has_hopper`] is false.
    pub(crate) fn launch_hopper(&self, launch: Launch, hopper: Hopper) -> Result<()> {
        self.observed(&launch, Some(&hopper), || match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(_) => unreachable!("WGSL has no Hopper kernels"),
            #[cfg(feature = "cuda")]
            Gpu::Cuda(context) => context.launch_hopper(launch, hopper),
            #[cfg(feature = "emulator")]
            Gpu::Emulator(machine) => machine.launch_hopper(launch, hopper),
            Gpu::Dry(recorder) => recorder.launch(launch, Some(hopper)),
        })
    }

    /// Runs a launch, and tells whoever observes this thread.
    fn observed(&self, launch: &Launch, hopper: Option<&Hopper>, run: impl FnOnce() -> Result<()>) -> Result<()> {
        if launch.groups == 0 { run() } else { observe::launch(|| launch.record(hopper), run) }
    }

    /// Whether it can run the kernels in `kernels/hopper/`.
    pub(crate) fn has_hopper(&self) -> bool {
        match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(_) => false,
            #[cfg(feature = "cuda")]
            Gpu::Cuda(context) => context.capability() == 90,
            #[cfg(feature = "emulator")]
            Gpu::Emulator(_) => true,
            Gpu::Dry(recorder) => recorder.language() == Language::Ptx,
        }
    }

    /// Blocks that run at the same time if each fills a multiprocessor: the grid of a persistent kernel.
    pub(crate) fn multiprocessors(&self) -> usize {
        match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(_) => 1, // it does not say
            #[cfg(feature = "cuda")]
            Gpu::Cuda(context) => context.multiprocessors(),
            #[cfg(feature = "emulator")]
            Gpu::Emulator(_) => EMULATED_MULTIPROCESSORS,
            Gpu::Dry(_) => EMULATED_MULTIPROCESSORS,
        }
    }

    /// Waits until everything that was launched has run, and reports errors that happened meanwhile.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(context) => context.synchronize(),
            #[cfg(feature = "cuda")]
            Gpu::Cuda(context) => context.synchronize(),
            #[cfg(feature = "emulator")]
            Gpu::Emulator(_) => Ok(()), // a launch returns when it has run
            Gpu::Dry(_) => Ok(()),
        }
    }

    pub(super) fn same(&self, other: &Gpu) -> bool {
        match (self, other) {
            #[cfg(feature = "wgpu")]
            (Gpu::Wgpu(a), Gpu::Wgpu(b)) => Arc::ptr_eq(a, b),
            #[cfg(feature = "cuda")]
            (Gpu::Cuda(a), Gpu::Cuda(b)) => Arc::ptr_eq(a, b),
            #[cfg(feature = "emulator")]
            (Gpu::Emulator(a), Gpu::Emulator(b)) => Arc::ptr_eq(a, b),
            (Gpu::Dry(a), Gpu::Dry(b)) => Arc::ptr_eq(a, b),
            #[allow(unreachable_patterns)] // with every feature off there is one kind
            _ => false, // of different kinds
        }
    }

    pub(super) fn allocate(&self, elements: usize, dtype: DType) -> Result<Buffer> {
        if dtype == DType::F64 {
            return Err(crate::Error::Device { device: self.to_string(), what: "f64 is available on the CPU device only".into() });
        }
        match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(context) => Ok(Buffer::Wgpu(context.allocate(elements, dtype)?)),
            #[cfg(feature = "cuda")]
            Gpu::Cuda(context) => Ok(Buffer::Cuda(context.allocate(elements, dtype)?)),
            #[cfg(feature = "emulator")]
            Gpu::Emulator(machine) => Ok(Buffer::Emulator(machine.allocate(elements, dtype)?)),
            Gpu::Dry(_) => Ok(Buffer::Dry(dry::DryBuffer::zeros(elements, dtype)?)),
        }
    }

    /// Bytes of memory that the threads of a group share.
    pub(crate) fn shared_bytes(&self) -> usize {
        match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(context) => context.limits().max_compute_workgroup_storage_size as usize,
            #[cfg(feature = "cuda")]
            Gpu::Cuda(_) => 48 << 10,
            #[cfg(feature = "emulator")]
            Gpu::Emulator(_) => 48 << 10,
            Gpu::Dry(recorder) => recorder.shared_bytes(),
        }
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            #[cfg(feature = "wgpu")]
            Gpu::Wgpu(context) => write!(f, "wgpu ({})", context.name()),
            #[cfg(feature = "cuda")]
            Gpu::Cuda(context) => write!(f, "cuda ({})", context.name()),
            #[cfg(feature = "emulator")]
            Gpu::Emulator(_) => f.write_str("emulator (PTX on the CPU)"),
            Gpu::Dry(_) => f.write_str("a recorder of launches"),
        }
    }
}
