//! The PTX that ships: which files there are, what their entries take, and whether a launch fits.
//!
//! CUDA and the emulator both come here, so that a launch is checked in one place: its arguments against the `.entry`
//! signature, its buffers against the shapes of the kernel's header, its grid against the limit.

use super::{Hopper, Launch, TensorMap};
use crate::contract::Header;
use crate::dtype::DType;
use crate::error::{Error, Result};
use ptx_emulator::parse;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A compiled file, as `build.rs` found it.
#[derive(Debug)]
pub struct Compiled {
    /// The stem of `kernels/<stem>.cu`.
    pub stem: &'static str,
    /// `sm_80`: any GPU from 8.0 on; `sm_90a`: 9.0 alone.
    pub architecture: &'static str,
    /// The PTX file's path in the repository.
    pub file: &'static str,
    /// See [`Compiled::text`]. A function, and never inlined: 16 MB of PTX as constants would be copied into what the compiler tells
    /// every crate above about this one.
    text: fn() -> &'static str,
    /// The CUDA C++ that it was compiled from.
    pub source: &'static str,
}

/// Every compiled file.
pub static COMPILED: &[Compiled] = include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// The architecture of what `kernels/hopper/` is compiled to.
const HOPPER: &str = "sm_90a";

/// The oldest GPU that any of the kernels runs on.
pub const OLDEST: u32 = 80;

impl Compiled {
    /// The PTX.
    pub fn text(&self) -> &'static str {
        (self.text)()
    }

    /// The file of a stem that runs on any GPU from [`OLDEST`] on.
    pub fn portable(stem: &str) -> Option<&'static Compiled> {
        COMPILED.iter().find(|c| c.stem == stem && c.architecture != HOPPER)
    }

    /// The file of a stem in `kernels/hopper/`, for GPUs of compute capability 9.0 and no others.
    pub fn hopper(stem: &str) -> Option<&'static Compiled> {
        COMPILED.iter().find(|c| c.stem == stem && c.architecture == HOPPER)
    }

    /// The file of a launch. If there is none, the launcher is wrong.
    pub(crate) fn of(launch: &Launch, hopper: Option<&Hopper>) -> &'static Compiled {
        let stem = launch.kernel.0;
        let found = if hopper.is_some() { Compiled::hopper(stem) } else { Compiled::portable(stem) };
        found.unwrap_or_else(|| panic!("no PTX of {stem}.cu"))
    }

    /// The ISA version that a driver must know, as `.version` says: (8, 4).
    pub fn isa(&self) -> Option<(u32, u32)> {
        let line = self.text().lines().find_map(|l| l.strip_prefix(".version "))?;
        let (major, minor) = line.trim().split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}

/// A compiled file that was read: its entries' signatures, and what its header promises.
pub struct Module {
    /// The file.
    pub compiled: &'static Compiled,
    /// What the header says.
    pub contract: Header,
    signatures: HashMap<String, Signature>,
}

/// What an `.entry` takes.
#[derive(Debug)]
pub struct Signature {
    /// Its name.
    pub name: String,
    /// Threads of a block: exactly these are launched.
    pub threads: u32,
    /// One per parameter: the bytes of a struct by value, or `None` for a pointer.
    pub parameters: Vec<Option<usize>>,
    /// Bytes of static shared memory.
    pub shared: usize,
}

/// The module of a file; read once.
pub fn module(compiled: &'static Compiled) -> &'static Module {
    static MODULES: Mutex<Vec<&'static Module>> = Mutex::new(Vec::new());
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = modules.iter().find(|m| std::ptr::eq(m.compiled, compiled)) {
        return found;
    }
    // As many as there are files, for the life of the process.
    let module: &'static Module = Box::leak(Box::new(Module::read(compiled)));
    modules.push(module);
    module
}

impl Module {
    fn read(compiled: &'static Compiled) -> Module {
        let parsed = parse::parse(compiled.file, compiled.text()).expect("build.rs has parsed it");
        let signatures = parsed
            .entries
            .iter()
            .map(|entry| {
                let parameters = entry.params.iter().map(|p| (p.kind != parse::ParamKind::Pointer).then_some(p.size)).collect();
                let threads = entry.max_threads.map_or(0, |t| t.iter().product());
                (entry.name.clone(), Signature { name: entry.name.clone(), threads, parameters, shared: entry.shared_bytes(&parsed) })
            })
            .collect();
        Module { compiled, contract: Header::parse(compiled.source), signatures }
    }

    /// The entries, by name.
    pub fn signatures(&self) -> impl Iterator<Item = &Signature> {
        self.signatures.values()
    }

    /// The signature of the entry that a launch means, if the launch fits it.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a buffer that is smaller than the header says, [`Error::TooLarge`] for a grid beyond CUDA's limit.
    ///
    /// # Panics
    /// Where the launcher and the kernel do not belong together: no such entry, other arguments.
    pub(crate) fn check(&self, launch: &Launch, hopper: Option<&Hopper>) -> Result<&Signature> {
        let maps = hopper.map_or(&[][..], |h| h.maps);
        let (stem, entry) = launch.kernel;
        let name = format!("{entry}{}", launch.variant);
        let file = self.compiled.file;
        let signature = self.signatures.get(&name).unwrap_or_else(|| panic!("{file} has no entry {name}"));
        for map in maps {
            if let Some(problem) = map.problem() {
                panic!("{file}: {name}: a tensor map: {problem}");
            }
        }
        let (dims, parameters) = signature.parameters.split_last().unwrap_or_else(|| panic!("{file}: {name} takes nothing"));
        let given = maps.iter().map(|_| Some(TensorMap::BYTES)).chain(launch.buffers.iter().map(|_| None));
        assert!(
            parameters.iter().copied().eq(given) && *dims == Some(launch.dims.len()),
            "{file}: {name} takes {:?}, the launcher gives {} tensor maps, {} buffers and {} bytes of dims",
            signature.parameters,
            maps.len(),
            launch.buffers.len(),
            launch.dims.len(),
        );
        assert!(signature.threads > 0, "{file}: {name} does not say its block size");
        if launch.groups > i32::MAX as usize {
            return Err(Error::TooLarge { what: format!("blocks of {stem}.{name}"), size: launch.groups as u128, limit: i32::MAX as u128 });
        }
        if let Some(documented) = self.contract.entry(&name) {
            let values = self.contract.values(launch.dims);
            let tensors = maps.iter().map(|m| Some(m.tensor)).chain(launch.buffers.iter().copied());
            for (buffer, tensor) in documented.buffers.iter().zip(tensors) {
                let Some(tensor) = tensor else { continue };
                let needed = buffer.extent(&values).unwrap_or_else(|e| panic!("kernels/{stem}.cu:{}: `{e}` is not a name that the Dims define", buffer.line));
                // Words of any kind may be in a u32 buffer.
                let size = if buffer.dtypes.iter().any(|d| d == "u32") { 4 } else { tensor.dtype.size() };
                let has = tensor.bytes() as u64;
                if needed.saturating_mul(size as u64) > has {
                    let shape: Vec<String> = buffer.shape.iter().map(ToString::to_string).collect();
                    let expected = format!("`{}` [{}]: {needed} elements", buffer.name, shape.join(", "));
                    return Err(Error::mismatch(stem, "a buffer", expected, tensor.shape));
                }
                let known = ["u32".to_string(), tensor.dtype.to_string()];
                assert!(
                    buffer.dtypes.iter().any(|d| known.contains(d)),
                    "{file}: {name}: `{}` is {:?}, the launcher gives {}",
                    buffer.name,
                    buffer.dtypes,
                    tensor.dtype
                );
            }
        }
        Ok(signature)
    }
}

/// Bytes that a tensor of so many elements takes on a PTX device: at least 16, so that it has an address.
pub(super) fn bytes(elements: usize, dtype: DType) -> usize {
    (elements * dtype.size()).next_multiple_of(16).max(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_portable_file() {
        for file in crate::ops::OPS.iter().flat_map(|op| op.files) {
            assert!(Compiled::portable(file).is_some_and(|c| c.architecture == "sm_80"), "{file}");
        }
        for compiled in COMPILED.iter().filter(|c| c.architecture == HOPPER) {
            assert!(Compiled::portable(compiled.stem).is_some(), "{}: other GPUs have no kernel of this stem", compiled.file);
        }
    }

    #[test]
    fn every_file_can_be_loaded_by_a_driver_of_2024() {
        for compiled in COMPILED {
            assert!(compiled.isa().is_some_and(|isa| isa <= (8, 4)), "{}: {:?}", compiled.file, compiled.isa());
        }
    }
}
