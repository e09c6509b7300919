//! Loads, stores, atomics, `cp.async` and `ldmatrix`.

use super::super::arith::Type;
use super::super::integer;
use super::super::ops::*;
use super::opcodes::{NO_OPERANDS, Parts};
use super::{Decoded, Decoder, file};
use crate::parse::Operand;

impl Decoder<'_> {
    pub(super) fn load_store(&mut self, store: bool, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        p.hints();
        let memory = p.memory();
        let count = p.one(|v| match v {
            "v2" => Some(2u8),
            "v4" => Some(4),
            _ => None,
        });
        p.has("L2::cache_hint");
        p.done()?;
        if matches!(kind, Type::Predicate | Type::Tf32) {
            return Err("a type that cannot be loaded or stored".into());
        }
        let (address, value) = match (store, o) {
            (true, [address, value] | [address, value, _]) | (false, [value, address] | [value, address, _]) => (address, value),
            _ => return Err(NO_OPERANDS.into()),
        };
        if store && matches!(memory, Memory::Param | Memory::Const) {
            return Err("expected a space that can be written".into());
        }
        let parts = match (value, count) {
            (Operand::Vector(parts), count) if parts.len() == count.unwrap_or(1) as usize => &parts[..],
            (Operand::Vector(_), _) | (_, Some(_)) => return Err("expected as many registers as the vector has elements".into()),
            (value, None) => std::slice::from_ref(value),
        };
        let (base, offset) = self.address(address, memory)?;
        let fixed = match address {
            Operand::Address(base, offset) if memory == Memory::Param => match &**base {
                // What is out of bounds or misaligned goes the long way, which says so.
                Operand::Symbol(name) => self.symbols.get(name.as_str()).and_then(|&at| u32::try_from((at as i64).wrapping_add(*offset)).ok()),
                _ => None,
            },
            _ => None,
        };
        let sign = if let Type::Signed(n @ (8 | 16)) = kind { n as u8 } else { 0 };
        let mut access = Address {
            memory,
            base,
            offset,
            width: (kind.bits() / 8) as u8,
            count: count.unwrap_or(1),
            sign: 0,
            slots: [(File::Bit, 0); 4],
            fixed,
            number: None,
        };
        for (slot, part) in access.slots.iter_mut().zip(parts) {
            // Registers may be wider than what is loaded or stored.
            *slot = match part {
                Operand::Register(r) => {
                    let found = self.register(*r);
                    if found.0 == File::Bit || (kind.bits() == 64 && found.0 == File::Word) || self.entry.registers[*r as usize].bits < kind.bits() {
                        return Err(format!("expected a register of at least {} bits, found {}", kind.bits(), self.name(*r)));
                    }
                    if sign != 0 && !store {
                        // Sign-extended to the register's width, and kept zero-extended above it.
                        access.sign = sign | if self.entry.registers[*r as usize].bits == 16 { 1 } else { 0 };
                    }
                    found
                }
                Operand::Sink if !store => (file(kind), self.fresh(file(kind))),
                part if store => (file(kind), self.from(part, kind)?),
                _ => return Err("expected a register".into()),
            };
        }
        self.push(if store { Op::Store(Box::new(access)) } else { Op::Load(Box::new(access)) });
        Ok(())
    }

    pub(super) fn atomic(&mut self, red: bool, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        p.hints();
        let memory = p.memory();
        if kind.is_float() {
            return Err("floating-point atomics are banned here: their order, and so their sum, changes from run to run".into());
        }
        let name = p.rest.pop().ok_or("expected an operation")?;
        p.done()?;
        if !matches!(kind.bits(), 32 | 64) || !matches!(memory, Memory::Global | Memory::Shared | Memory::Generic) {
            return Err("an atomic that is not supported".into());
        }
        let update = integer::atomic(name, kind).ok_or_else(|| format!("`{name}` is not known"))?;
        let (old, address, rest) = match (red, o) {
            (true, [address, rest @ ..]) => (None, address, rest),
            (false, [old, address, rest @ ..]) => (Some((file(kind), self.to(old, file(kind))?)), address, rest),
            _ => return Err(NO_OPERANDS.into()),
        };
        let (a, b) = match (rest, name == "cas") {
            ([a], false) => (self.from(a, kind)?, None),
            ([a, b], true) => (self.from(a, kind)?, Some(self.from(b, kind)?)),
            _ => return Err(NO_OPERANDS.into()),
        };
        let (base, offset) = self.address(address, memory)?;
        let at = Address { memory, base, offset, width: (kind.bits() / 8) as u8, count: 1, sign: 0, slots: [(file(kind), a); 4], fixed: None, number: None };
        self.push(Op::Atomic(Box::new(Atomic { at, update, a: (file(kind), a), b: b.map_or((File::Bit, 0), |b| (file(kind), b)), old })));
        Ok(())
    }

    pub(super) fn cp_async(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        if !p.has("async") {
            return Err("expected `cp.async`".into());
        }
        if p.has("commit_group") || p.has("wait_all") || p.has("wait_group") {
            let op = match o {
                [] if p.rest.is_empty() => None,
                [Operand::Integer(n)] if p.rest.is_empty() => Some(*n as u32),
                _ => return Err(NO_OPERANDS.into()),
            };
            // Told apart by the operand and, without one, by the name: see the caller's opcode.
            return self.cp_group(op);
        }
        p.hints();
        if !p.has("global") || !(p.has("shared") || p.has("shared::cta")) {
            return Err("expected `cp.async` from `.global` to `.shared`".into());
        }
        p.done()?;
        let [to, from, Operand::Integer(bytes @ (4 | 8 | 16)), rest @ ..] = o else { return Err("expected two addresses and 4, 8 or 16 bytes".into()) };
        let (base, offset) = self.address(to, Memory::Shared)?;
        let access = |memory, base, offset| Address {
            memory,
            base,
            offset,
            width: *bytes as u8,
            count: 1,
            sign: 0,
            slots: [(File::Bit, 0); 4],
            fixed: None,
            number: None,
        };
        let to = access(Memory::Shared, base, offset);
        let (base, offset) = self.address(from, Memory::Global)?;
        let from = access(Memory::Global, base, offset);
        let (mut source_bytes, mut ignore) = (None, None);
        match rest {
            [] => {}
            [Operand::Register(r)] if self.entry.registers[*r as usize].bits == 1 => ignore = Some(self.register(*r).1),
            [size] => source_bytes = Some(self.from(size, Type::Bits(32))?),
            _ => return Err(NO_OPERANDS.into()),
        }
        self.push(Op::CpAsync(Box::new(CpAsync { to, from, bytes: *bytes as u8, source_bytes, ignore })));
        Ok(())
    }

    pub(super) fn cp_group(&mut self, n: Option<u32>) -> Decoded<()> {
        self.push(match n {
            Some(n) => Op::CpWait(Some(n)),
            None if self.current.ends_with("commit_group") => Op::CpCommit,
            None if self.current.ends_with("wait_all") => Op::CpWait(None),
            None => return Err(NO_OPERANDS.into()),
        });
        Ok(())
    }

    pub(super) fn ldmatrix(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let known = p.has("sync") & p.has("aligned") & p.has("m8n8") & p.has("b16");
        let transposed = p.has("trans");
        let count = p.one(|x| match x {
            "x1" => Some(1u8),
            "x2" => Some(2),
            "x4" => Some(4),
            _ => None,
        });
        let memory = p.memory();
        p.done()?;
        let ([Operand::Vector(parts), address], Some(count), true, Memory::Shared | Memory::Generic) = (o, count, known, memory) else {
            return Err("expected `ldmatrix.sync.aligned.m8n8.x1|x2|x4[.trans].shared.b16`".into());
        };
        if parts.len() != count as usize {
            return Err("expected as many registers as matrices".into());
        }
        let (base, offset) = self.address(address, memory)?;
        let mut slots = [0; 4];
        for (slot, part) in slots.iter_mut().zip(parts) {
            *slot = self.to(part, File::Word)?;
        }
        let at = Address { memory, base, offset, width: 16, count: 1, sign: 0, slots: [(File::Bit, 0); 4], fixed: None, number: None };
        self.push(Op::LdMatrix(Box::new(LdMatrix { at, count, transposed, slots })));
        Ok(())
    }
}
