//! Instructions of an entry → [`Step`]s: names become slots, opcodes become operations, labels become indices.
//!
//! Everything that the emulator does not know is refused here, with file, line and text, before anything runs.

use super::arith::{Type, cut};
use super::kernel::*;
use super::ops::*;
use super::{access, flow};
use crate::parse::{Entry, Error, Instruction, Module, Operand, Space, line_of};
use std::collections::HashMap;
use std::sync::Arc;

mod hopper;
mod memory;
mod opcodes;
mod values;
mod warps;

/// The bytes of the module's `.global` and `.const` variables, and where each starts.
pub fn module_data(module: &Module) -> (Vec<u8>, HashMap<&str, u64>) {
    let (mut data, mut places) = (Vec::new(), HashMap::new());
    for v in module.variables.iter().filter(|v| v.space != Space::Shared) {
        let start = data.len().next_multiple_of(v.align.max(1));
        data.resize(start, 0);
        data.extend_from_slice(&v.data);
        data.resize(start + v.size, 0);
        places.insert(v.name.as_str(), start as u64);
    }
    (data, places)
}

pub(super) struct Decoder<'m> {
    module: &'m Module,
    entry: &'m Entry,
    /// What a symbol's address is: shared, local and parameters from 0, module variables in their window.
    symbols: HashMap<&'m str, u64>,
    /// Register → its slot, given when it is first named.
    slots: Vec<Option<Slot>>,
    constants: HashMap<(File, u64), u16>,
    /// Addresses of parameters, by where they lie: constants, but not numbers.
    parameters: HashMap<u64, u16>,
    specials: HashMap<Special, u16>,
    counts: [usize; 3],
    steps: Vec<Step>,
    guard: (u16, bool),
    /// The opcode being decoded.
    current: String,
}

/// Failures without their place; `decode` adds it.
type Decoded<T> = Result<T, String>;

/// Decodes one entry.
pub fn decode(module: &Module, entry: &Entry) -> Result<Kernel, Error> {
    let place = |line: u32, what: String| Error { file: module.file.clone(), line, what, text: line_of(&module.text, line).into() };
    let mut symbols = HashMap::new();
    symbols.extend(module_data(module).1.into_iter().map(|(name, at)| (name, MODULE + at)));
    let mut shared_variables = Vec::new();
    let (mut shared_bytes, mut local_bytes) = (0usize, 0usize);
    let (of_known_size, dynamic): (Vec<_>, Vec<_>) = module.variables.iter().chain(&entry.variables).partition(|v| !v.dynamic);
    for v in of_known_size.into_iter().chain(dynamic) {
        let end = match v.space {
            Space::Shared => &mut shared_bytes,
            Space::Local => &mut local_bytes,
            _ => continue,
        };
        *end = end.next_multiple_of(v.align.max(1));
        symbols.insert(v.name.as_str(), *end as u64);
        if v.space == Space::Shared {
            shared_variables.push((v.name.clone(), *end, if v.dynamic { usize::MAX } else { *end + v.size }));
        }
        *end += v.size;
        if *end > 1 << 26 {
            return Err(place(v.line, format!("expected variables that fit into a block, found `{}` of {} bytes", v.name, v.size)));
        }
    }
    symbols.extend(entry.params.iter().map(|p| (p.name.as_str(), p.offset as u64)));
    let Some(block) = entry.max_threads else {
        return Err(place(
            entry.line,
            format!("expected `.maxntid` (__launch_bounds__) at entry `{}`, found none: the emulator launches exactly that many threads", entry.name),
        ));
    };
    if block.iter().any(|&n| n == 0 || n > 1024) || block.iter().product::<u32>() > 1024 {
        return Err(place(entry.line, format!("expected a block of 1 to 1024 threads, found {block:?}")));
    }

    let cluster = entry.cluster.map_or(1, |c| c[0]);
    if let Some(shape) = entry.cluster
        && (shape[1..] != [1, 1] || !(1..=16).contains(&shape[0]))
    {
        return Err(place(entry.line, format!("expected a cluster of 1 to 16 blocks in x, found {shape:?}")));
    }

    // Slot 0 of the predicates is always true.
    let mut decoder = Decoder {
        module,
        entry,
        symbols,
        slots: vec![None; entry.registers.len()],
        constants: HashMap::from([((File::Bit, 1), 0)]),
        parameters: HashMap::new(),
        specials: HashMap::new(),
        counts: [0, 0, 1],
        steps: Vec::new(),
        guard: (0, false),
        current: String::new(),
    };
    let (mut source, mut starts) = (Vec::new(), Vec::with_capacity(entry.instructions.len() + 1));
    for (index, instruction) in entry.instructions.iter().enumerate() {
        starts.push(decoder.steps.len() as u32);
        decoder.instruction(instruction).map_err(|what| place(instruction.line, what))?;
        source.resize(decoder.steps.len(), index as u32);
    }
    // Falling off the end is `ret`.
    starts.push(decoder.steps.len() as u32);
    decoder.steps.push(Step { op: Op::Exit, guard: (0, false) });
    source.push(entry.instructions.len().saturating_sub(1) as u32);
    if entry.instructions.is_empty() {
        return Err(place(entry.line, format!("expected instructions in entry `{}`, found none", entry.name)));
    }
    // Branches name instructions so far; now steps.
    for step in &mut decoder.steps {
        match &mut step.op {
            Op::Branch(target) => *target = starts[*target as usize],
            Op::BranchIndex(_, targets) => *targets = targets.iter().map(|&t| starts[t as usize]).collect(),
            _ => {}
        }
    }
    let parameters = decoder.parameters.iter().map(|(&at, &slot)| ((File::Long, slot), at));
    let constants = decoder.constants.iter().map(|(&(file, value), &slot)| ((file, slot), value)).chain(parameters.clone()).collect();
    let addresses = parameters.collect();
    let [words, longs, bits] = decoder.counts;
    if decoder.counts.iter().any(|&n| n > u16::MAX as usize) {
        return Err(place(entry.line, format!("expected at most 65535 registers in entry `{}`, found more", entry.name)));
    }
    let mut kernel = Kernel {
        cluster,
        asynchronous: cluster > 1 || decoder.steps.iter().any(|s| s.op.is_asynchronous()),
        wgmma_slots: Vec::new(),
        touches: Vec::new(),
        shared_granule: 0,
        shared_loads: 0,
        uses: None,
        watched: Vec::new(),
        access: Vec::new(),
        name: entry.name.clone(),
        source,
        words,
        longs,
        bits,
        constants,
        specials: decoder.specials.iter().map(|(&s, &slot)| (slot, s)).collect(),
        registers: decoder.slots.iter().map(|s| s.unwrap_or((File::Bit, 0))).collect(),
        steps: decoder.steps,
        shared_bytes,
        local_bytes,
        block,
        parameters: entry.params.iter().map(|p| p.offset).collect(),
        addresses,
        shared_variables,
    };
    if kernel.asynchronous && kernel.steps.iter().any(|s| matches!(s.op, Op::CpAsync(_))) {
        return Err(place(entry.line, format!("expected bulk copies or `cp.async` in entry `{}`, found both", entry.name)));
    }
    for step in kernel.steps.iter_mut().filter(|_| !kernel.asynchronous) {
        if let Op::Load(access) = &mut step.op
            && access.memory == Memory::Shared
            && access.base.0 == File::Word
        {
            access.number = Some(kernel.shared_loads as u16);
            kernel.shared_loads += 1;
        }
    }
    Ok(kernel)
}

/// What takes longer than decoding and is needed only to run: the flow of values through the kernel.
pub fn prepare(entry: &Entry, kernel: &Kernel) -> Kernel {
    let mut kernel = kernel.clone();
    kernel.shared_granule = access::shared_granule(&kernel);
    kernel.access = access::access(entry, &kernel);
    flow::undefined(&mut kernel);
    flow::share_slots(&mut kernel);
    flow::touches(&mut kernel);
    kernel
}

/// The file of registers that hold a type.
fn file(kind: Type) -> File {
    match kind.bits() {
        1 => File::Bit,
        64 => File::Long,
        _ => File::Word,
    }
}

impl Decoder<'_> {
    fn fresh(&mut self, file: File) -> u16 {
        let count = &mut self.counts[file as usize];
        *count += 1;
        // More than 65535 is refused at the end: wrapping until then is harmless.
        (*count - 1) as u16
    }

    fn push(&mut self, op: Op) {
        self.steps.push(Step { op, guard: self.guard });
    }

    fn constant(&mut self, file: File, value: u64) -> u16 {
        if let Some(&slot) = self.constants.get(&(file, value)) {
            return slot;
        }
        let slot = self.fresh(file);
        self.constants.insert((file, value), slot);
        slot
    }

    /// The address of a parameter.
    fn parameter(&mut self, address: u64) -> u16 {
        if let Some(&slot) = self.parameters.get(&address) {
            return slot;
        }
        let slot = self.fresh(File::Long);
        self.parameters.insert(address, slot);
        slot
    }

    fn register(&mut self, register: u32) -> Slot {
        if let Some(slot) = self.slots[register as usize] {
            return slot;
        }
        let file = match self.entry.registers[register as usize].bits {
            1 => File::Bit,
            64 => File::Long,
            _ => File::Word,
        };
        let slot = (file, self.fresh(file));
        self.slots[register as usize] = Some(slot);
        slot
    }

    fn name(&self, register: u32) -> String {
        let r = &self.entry.registers[register as usize];
        format!("{} of {} bits", r.name, r.bits)
    }

    /// A destination in `file`.
    fn to(&mut self, operand: &Operand, file: File) -> Decoded<u16> {
        match operand {
            Operand::Register(r) => match self.register(*r) {
                (found, slot) if found == file => Ok(slot),
                _ => Err(format!("expected a destination in {file:?} registers, found {}", self.name(*r))),
            },
            Operand::Sink => Ok(self.fresh(file)),
            _ => Err("expected a register as the destination".into()),
        }
    }

    /// A source of a type: a register, a number, an address or a special register.
    fn from(&mut self, operand: &Operand, kind: Type) -> Decoded<u16> {
        let want = file(kind);
        match operand {
            Operand::Register(r) => match self.register(*r) {
                (found, slot) if found == want => Ok(slot),
                _ => Err(format!("expected a source of {} bits, found {}", kind.bits(), self.name(*r))),
            },
            Operand::Integer(n) if kind == Type::Predicate => Ok(self.constant(File::Bit, (*n != 0) as u64)),
            Operand::Integer(n) if !kind.is_float() || matches!(kind, Type::F16x2 | Type::Bf16x2) => Ok(self.constant(want, cut(*n as u64, kind.bits()))),
            // `mul.f32 %f1, %f2, 0f…` is the rule; a bare integer in a float's place is not PTX.
            Operand::F32(bits) if kind.bits() == 32 => Ok(self.constant(want, *bits as u64)),
            Operand::F64(bits) if kind.bits() == 64 => Ok(self.constant(want, *bits)),
            Operand::F64(bits) if kind == Type::F32 => Ok(self.constant(want, (f64::from_bits(*bits) as f32).to_bits() as u64)),
            Operand::Symbol(name) => self.symbol(name, kind),
            Operand::Not(r) if kind == Type::Predicate => {
                let (_, slot) = self.register(*r);
                let d = self.fresh(File::Bit);
                // Whether the instruction runs or not, its negated source may be computed.
                self.steps.push(Step { op: Op::NotBit([d, slot]), guard: (0, false) });
                Ok(d)
            }
            _ => Err(format!("expected a source of type {kind:?}")),
        }
    }

    fn symbol(&mut self, name: &str, kind: Type) -> Decoded<u16> {
        if let Some(&address) = self.symbols.get(name) {
            return match file(kind) {
                File::Long if self.entry.params.iter().any(|p| p.name == name) => Ok(self.parameter(address)),
                File::Long => Ok(self.constant(File::Long, address)),
                File::Word if address <= u32::MAX as u64 => Ok(self.constant(File::Word, address)),
                _ => Err(format!("expected a 64-bit register for the address of `{name}`")),
            };
        }
        let zero = ["%ctaid.y", "%ctaid.z", "%cluster_ctaid.y", "%cluster_ctaid.z", "%clusterid.y", "%clusterid.z"].contains(&name);
        let one = ["%nctaid.y", "%nctaid.z", "%cluster_nctaid.y", "%cluster_nctaid.z", "%nclusterid.y", "%nclusterid.z"].contains(&name);
        if zero || one {
            return Ok(self.constant(file(kind), one as u64));
        }
        if name == "WARP_SZ" {
            return Ok(self.constant(file(kind), 32));
        }
        let special = match name {
            "%tid.x" => Special::ThreadX,
            "%tid.y" => Special::ThreadY,
            "%tid.z" => Special::ThreadZ,
            "%ctaid.x" => Special::BlockX,
            "%ntid.x" => Special::SizeX,
            "%ntid.y" => Special::SizeY,
            "%ntid.z" => Special::SizeZ,
            "%nctaid.x" => Special::GridX,
            "%laneid" => Special::Lane,
            "%warpid" => Special::Warp,
            "%nwarpid" => Special::Warps,
            "%lanemask_eq" => Special::MaskEq,
            "%lanemask_lt" => Special::MaskLt,
            "%lanemask_le" => Special::MaskLe,
            "%lanemask_gt" => Special::MaskGt,
            "%lanemask_ge" => Special::MaskGe,
            "%cluster_ctarank" | "%cluster_ctaid.x" => Special::ClusterRank,
            "%cluster_nctarank" | "%cluster_nctaid.x" => Special::ClusterSize,
            "%clusterid.x" => Special::Cluster,
            "%nclusterid.x" => Special::Clusters,
            "%dynamic_smem_size" => Special::DynamicShared,
            _ => return Err(format!("`{name}` is neither declared nor a special register that is supported")),
        };
        if file(kind) == File::Bit {
            return Err(format!("expected a predicate, found `{name}`"));
        }
        let slot = match self.specials.get(&special) {
            Some(&slot) => slot,
            None => {
                let slot = self.fresh(File::Word);
                self.specials.insert(special, slot);
                slot
            }
        };
        if file(kind) == File::Word {
            return Ok(slot);
        }
        let d = self.fresh(File::Long);
        self.steps.push(Step { op: Op::ZeroExtend([d, slot]), guard: (0, false) });
        Ok(d)
    }

    /// `[address]` of `access`: base and offset.
    fn address(&mut self, operand: &Operand, memory: Memory) -> Decoded<(Slot, i64)> {
        let Operand::Address(base, offset) = operand else { return Err("expected an address in brackets".into()) };
        let slot = match &**base {
            Operand::Register(r) => self.register(*r),
            Operand::Symbol(name) => match self.symbols.get(name.as_str()) {
                Some(&at) => {
                    let at = if memory == Memory::Generic { self.generic(name, at) } else { at };
                    (File::Long, self.constant(File::Long, at))
                }
                None => return Err(format!("`{name}` is not declared")),
            },
            Operand::Integer(n) => (File::Long, self.constant(File::Long, *n as u64)),
            _ => return Err("expected a register or a name in the address".into()),
        };
        if slot.0 == File::Bit || (slot.0 == File::Word && matches!(memory, Memory::Global | Memory::Generic | Memory::Const)) {
            return Err("expected a 64-bit address".into());
        }
        Ok((slot, *offset))
    }

    /// The generic address of a variable that is named in a generic access.
    fn generic(&self, name: &str, at: u64) -> u64 {
        let variable = self.entry.variables.iter().chain(&self.module.variables).find(|v| v.name == name);
        match variable.map(|v| v.space) {
            Some(Space::Shared) => SHARED + at,
            Some(Space::Local) => LOCAL + at,
            None => PARAM + at,
            _ => at,
        }
    }

    fn label(&self, operand: &Operand) -> Decoded<u32> {
        let Operand::Symbol(name) = operand else { return Err("expected a label".into()) };
        match self.entry.labels.get(name) {
            Some(&at) => Ok(at as u32),
            None => Err(format!("expected a label, found `{name}`, which this entry does not have")),
        }
    }

    fn instruction(&mut self, instruction: &Instruction) -> Decoded<()> {
        self.guard = (0, false);
        if let Some((not, register)) = instruction.guard {
            match self.register(register) {
                (File::Bit, slot) => self.guard = (slot, not),
                _ => return Err(format!("expected a predicate as the guard, found {}", self.name(register))),
            }
        }
        self.current.clone_from(&instruction.opcode);
        self.opcode(instruction)
    }

    fn targets(&self, operand: &Operand) -> Decoded<Arc<[u32]>> {
        let Operand::Symbol(name) = operand else { return Err("expected the label of `.branchtargets`".into()) };
        let Some(list) = self.entry.targets.get(name) else { return Err(format!("expected `.branchtargets` at `{name}`")) };
        list.iter().map(|l| self.label(&Operand::Symbol(l.clone()))).collect()
    }
}
