//! A PTX file, parsed and decoded.

use super::decode;
use super::kernel::{Access, Kernel};
use crate::parse::{self, Error as ParseError, Module};
use std::sync::OnceLock;

/// A parsed and decoded PTX file.
///
/// ```
/// let text = ".version 8.4\n.target sm_80\n.visible .entry nothing(.param .u64 x)\n.maxntid 32\n{\nret;\n}\n";
/// let program = ptx_emulator::Program::new("nothing.ptx", text)?;
/// assert_eq!(program.module().entries[0].name, "nothing");
/// assert!(!program.access("nothing").expect("has this entry")[0].writes);
/// # Ok::<(), ptx_emulator::ParseError>(())
/// ```
pub struct Program {
    pub(super) module: Module,
    kernels: Vec<Kernel>,
    /// What [`decode::prepare`] makes of each kernel when it is first needed.
    prepared: Vec<OnceLock<Kernel>>,
    pub(super) data: Vec<u8>,
}

impl Program {
    /// Parses and decodes `text`; `file` is for messages. Whatever the emulator does not know is an error here.
    pub fn new(file: &str, text: &str) -> Result<Program, ParseError> {
        let module = parse::parse(file, text)?;
        let kernels = module.entries.iter().map(|e| decode::decode(&module, e)).collect::<Result<Vec<_>, _>>()?;
        let prepared = kernels.iter().map(|_| OnceLock::new()).collect();
        let data = decode::module_data(&module).0;
        Ok(Program { module, kernels, prepared, data })
    }

    /// What was parsed.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What an entry may do with the buffer of each of its parameters: certain where it says no.
    pub fn access(&self, entry: &str) -> Option<&[Access]> {
        self.kernels.iter().position(|k| k.name == entry).map(|i| &self.kernel(i).access[..])
    }

    /// Entries in which some register may be read before anything was put into it, as far as one can see without running
    /// them. They run more slowly, because every register's lanes are watched.
    pub fn tracked(&self) -> Vec<&str> {
        (0..self.kernels.len()).map(|i| self.kernel(i)).filter(|k| k.uses.is_some()).map(|k| k.name.as_str()).collect()
    }

    pub(super) fn kernel(&self, index: usize) -> &Kernel {
        self.prepared[index].get_or_init(|| decode::prepare(&self.module.entries[index], &self.kernels[index]))
    }

    /// The entry of a name.
    pub fn entry(&self, name: &str) -> Option<&parse::Entry> {
        self.module.entries.iter().find(|e| e.name == name)
    }
}
