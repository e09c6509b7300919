//! The emulator as a device: the PTX that ships, run on the CPU with every memory access checked.
//!
//! It takes the launches that CUDA takes. A launch returns when it has run; a kernel that did something forbidden is an
//! [`Error::Findings`], whatever it computed.

use super::ptx::{self, Compiled};
use super::{Buffer, Hopper, Launch, TensorMap, View};
use crate::dtype::DType;
use crate::error::{Error, Result};
use ptx_emulator::{self as emulator, Argument, Options, Program};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs PTX on the CPU. See [`crate::device::Gpu::Emulator`].
#[derive(Default)]
pub struct Machine {
    programs: Mutex<HashMap<&'static str, Arc<Program>>>,
    record: Mutex<Option<EmulatorRecording>>,
}

/// What [`Machine::record`] collects.
struct EmulatorRecording {
    options: Options,
    runs: Vec<EmulatedLaunch>,
}

/// One recorded launch.
pub struct EmulatedLaunch {
    /// `rms_norm.forward_bf16`.
    pub kernel: String,
    /// The PTX file.
    pub file: &'static str,
    /// Blocks.
    pub blocks: usize,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory, static and dynamic.
    pub shared: usize,
    /// What the emulator saw.
    pub report: emulator::Report,
}

/// Memory of the emulated GPU.
pub(crate) struct EmulatorBuffer {
    memory: emulator::Buffer,
    machine: Arc<Machine>,
}

impl Machine {
    /// A machine with empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn allocate(self: &Arc<Self>, elements: usize, dtype: DType) -> Result<EmulatorBuffer> {
        let bytes = ptx::bytes(elements, dtype);
        // The emulator's memory is the host's, which must not end the program by running out.
        if Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
            return Err(Error::OutOfMemory { device: "emulator".into(), what: format!("a tensor of {elements} {dtype}"), asked: bytes as u64, free: None });
        }
        Ok(EmulatorBuffer { memory: emulator::Buffer::new(bytes), machine: self.clone() })
    }

    /// Runs launches with these options from now on, and keeps what they report. Findings are then kept, too, and are not an error.
    pub fn record(&self, options: Options) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(EmulatorRecording { options, runs: Vec::new() });
    }

    /// What was recorded since; recording ends.
    pub fn recorded(&self) -> Vec<EmulatedLaunch> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Vec::new(), |r| r.runs)
    }

    /// Runs this PTX in place of what ships of a stem: for tests that seed faults and look whether they are found.
    ///
    /// # Errors
    /// [`Error::Device`] where the emulator does not know something in it.
    pub fn replace(&self, stem: &str, text: &str) -> Result<()> {
        let compiled = Compiled::portable(stem).ok_or_else(|| Error::Usage(format!("no PTX of kernels/{stem}.cu")))?;
        let program = Program::new(compiled.file, text).map_err(|e| Error::Device { device: "emulator".into(), what: e.to_string() })?;
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).insert(compiled.file, Arc::new(program));
        Ok(())
    }

    pub(crate) fn launch(&self, launch: Launch) -> Result<()> {
        self.launch_with(launch, None)
    }

    pub(crate) fn launch_hopper(&self, launch: Launch, hopper: Hopper) -> Result<()> {
        self.launch_with(launch, Some(hopper))
    }

    fn launch_with(&self, launch: Launch, hopper: Option<Hopper>) -> Result<()> {
        if launch.groups == 0 {
            return Ok(());
        }
        let (stem, _) = launch.kernel;
        let compiled = Compiled::of(&launch, hopper.as_ref());
        let module = ptx::module(compiled);
        let signature = module.check(&launch, hopper.as_ref())?;
        let kernel = format!("{stem}.{}", signature.name);
        let named = module.contract.entry(&signature.name).map_or(&[][..], |e| &e.buffers);
        let name = |i: usize| named.get(i).map_or("a buffer", |b| b.name.as_str());
        let (maps, shared) = hopper.map_or((&[][..], 0), |h| (h.maps, h.shared));
        let encoded: Vec<emulator::TensorMap> = maps.iter().map(encode).collect();
        let mut arguments = Vec::with_capacity(maps.len() + launch.buffers.len() + 1);
        for (map, encoded) in maps.iter().zip(&encoded) {
            let (buffer, bytes) = memory(stem, map.tensor)?;
            arguments.push(Argument::Map { buffer, bytes, name: name(arguments.len()), map: encoded });
        }
        for tensor in launch.buffers {
            arguments.push(match tensor {
                None => Argument::Null,
                Some(tensor) => {
                    let (buffer, bytes) = memory(stem, *tensor)?;
                    Argument::Buffer { buffer, bytes, name: name(arguments.len()) }
                }
            });
        }
        arguments.push(Argument::Bytes(launch.dims));
        let program = self.program(compiled)?;
        let recorded = self.record.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or_else(Options::default, |r| r.options.clone());
        let options = Options { dynamic_shared: shared, ..recorded };
        let report = emulator::run(&program, &signature.name, launch.groups as u32, &arguments, &options)
            .map_err(|e| Error::Device { device: "emulator".into(), what: format!("{kernel}: {e}") })?;
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = &mut *record {
            record.runs.push(EmulatedLaunch {
                kernel,
                file: compiled.file,
                blocks: launch.groups,
                threads: signature.threads,
                shared: signature.shared + shared,
                report,
            });
            return Ok(());
        }
        match report.findings.as_slice() {
            [] => Ok(()),
            findings => Err(Error::Findings { kernel, findings: findings.iter().map(ToString::to_string).collect() }),
        }
    }

    fn program(&self, compiled: &'static Compiled) -> Result<Arc<Program>> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(compiled.file) {
            return Ok(program.clone());
        }
        let program = Program::new(compiled.file, compiled.text()).map_err(|e| Error::Device { device: "emulator".into(), what: e.to_string() })?;
        Ok(programs.entry(compiled.file).or_insert(Arc::new(program)).clone())
    }
}

/// The memory of a tensor, and its bytes.
fn memory<'a>(stem: &'static str, tensor: View<'a>) -> Result<(&'a emulator::Buffer, usize)> {
    match tensor.buffer {
        Buffer::Emulator(buffer) => Ok((&buffer.memory, tensor.bytes())),
        _ => Err(Error::mismatch(stem, "a buffer", "a tensor on the emulator", format!("one on {}", tensor.device))),
    }
}

fn encode(map: &TensorMap) -> emulator::TensorMap {
    let element = map.tensor.dtype.size();
    emulator::TensorMap {
        address: 0,
        dtype: if map.tensor.dtype == DType::Bf16 { emulator::MapType::Bf16 } else { emulator::MapType::F32 },
        sizes: map.dims.iter().map(|d| d.size as u64).collect(),
        strides: map.dims[1..].iter().map(|d| (d.stride * element) as u64).collect(),
        box_sizes: map.dims.iter().map(|d| d.box_size as u32).collect(),
        swizzle: emulator::Swizzle::B128,
    }
}

impl EmulatorBuffer {
    /// Marks its bytes as never written.
    pub(crate) fn forget(&self) {
        self.memory.forget();
    }

    pub(crate) fn upload(&self, bytes: &[u8]) -> Result<()> {
        self.memory.write(0, bytes);
        Ok(())
    }

    pub(crate) fn download(&self, bytes: &mut [u8]) -> Result<()> {
        self.memory.read(0, bytes);
        Ok(())
    }

    pub(crate) fn clear(&self) -> Result<()> {
        self.memory.clear();
        Ok(())
    }

    pub(crate) fn copy_from(&self, from: &EmulatorBuffer, bytes: usize) -> Result<()> {
        if !Arc::ptr_eq(&self.machine, &from.machine) {
            return Err(Error::mismatch("copy", "from", "a tensor on the same device", "one on another emulator"));
        }
        self.memory.copy_from(&from.memory, bytes);
        Ok(())
    }
}
