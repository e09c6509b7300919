//! Comparisons, selections, conversions and moves.

use super::super::arith::{self, Convert, Type, compare_lane};
use super::super::ops::*;
use super::opcodes::{NO_OPERANDS, Parts, compare};
use super::{Decoded, Decoder, LOCAL, PARAM, SHARED, file};
use crate::parse::Operand;
use std::sync::Arc;

impl Decoder<'_> {
    pub(super) fn setp(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        let ftz = p.has("ftz");
        let how = p.one(|c| compare(c, matches!(kind, Type::Unsigned(_)))).ok_or("expected a comparison")?;
        let combine = p.one(|c| ["and", "or", "xor"].into_iter().find(|k| *k == c));
        p.done()?;
        if matches!(kind, Type::F16x2 | Type::Bf16x2 | Type::Predicate) {
            return Err("a type that is not supported here".into());
        }
        let (d, a, b, c) = match (o, combine) {
            ([d, a, b], None) => (d, a, b, None),
            ([d, a, b, c], Some(_)) => (d, a, b, Some(c)),
            _ => return Err(NO_OPERANDS.into()),
        };
        let (d, not) = match d {
            Operand::Pair(d, q) => (self.to(&Operand::Register(*d), File::Bit)?, q.map(|q| self.to(&Operand::Register(q), File::Bit)).transpose()?),
            Operand::Sink => (self.fresh(File::Bit), None),
            d => (self.to(d, File::Bit)?, None),
        };
        let s = [self.from(a, kind)?, self.from(b, kind)?];
        let c = c.map(|c| self.from(c, Type::Predicate)).transpose()?;
        // Where more than one result follows, the comparison goes to a register of its own first.
        let first = if c.is_some() || not.is_some() { self.fresh(File::Bit) } else { d };
        let s = [first, s[0], s[1]];
        let op = match kind {
            Type::F32 if !ftz => Op::SetF(how, s),
            Type::Signed(32) => Op::SetS32(how, s),
            Type::Unsigned(_) | Type::Bits(_) if kind.bits() <= 32 => Op::SetU32(how, s),
            Type::Signed(64) => Op::SetS64(how, s),
            Type::Unsigned(64) | Type::Bits(64) => Op::SetU64(how, s),
            _ => Op::Each(Box::new(((File::Bit, first), [(file(kind), s[1]), (file(kind), s[2]), (File::Bit, 0)], compare_lane(how, kind, ftz)))),
        };
        self.push(op);
        let with = |s: [u16; 3]| match combine {
            Some("and") => Op::AndBit(s),
            Some("or") => Op::OrBit(s),
            _ => Op::XorBit(s),
        };
        match (c, not) {
            (None, None) => {}
            (None, Some(q)) => {
                self.push(Op::MovBit([d, first]));
                self.push(Op::NotBit([q, first]));
            }
            (Some(c), None) => self.push(with([d, first, c])),
            (Some(c), Some(q)) => {
                let other = self.fresh(File::Bit);
                self.push(Op::NotBit([other, first]));
                let result = self.fresh(File::Bit);
                self.push(with([result, first, c]));
                self.push(with([q, other, c]));
                self.push(Op::MovBit([d, result]));
            }
        }
        Ok(())
    }

    /// `set.lt.u32.f32 d, a, b`: all ones (or 1.0) where true.
    pub(super) fn set(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        let to = p.kind()?;
        let ftz = p.has("ftz");
        let how = p.one(|c| compare(c, matches!(kind, Type::Unsigned(_)))).ok_or("expected a comparison")?;
        p.done()?;
        let yes = match to {
            Type::F32 => 1f32.to_bits() as u64,
            Type::Bf16 => 0x3F80,
            Type::F16 => 0x3C00,
            Type::Unsigned(32) | Type::Signed(32) | Type::Bits(32) => 0xFFFF_FFFF,
            Type::Unsigned(16) | Type::Signed(16) | Type::Bits(16) => 0xFFFF,
            _ => return Err("a type that is not supported here".into()),
        };
        let compare = compare_lane(
            how,
            match kind {
                Type::F16x2 => Type::F16,
                Type::Bf16x2 => Type::Bf16,
                k => k,
            },
            ftz,
        );
        let f: Lane = match kind {
            Type::F16x2 | Type::Bf16x2 => {
                let one = yes & 0xFFFF;
                Arc::new(move |a, b, _| (compare(a & 0xFFFF, b & 0xFFFF, 0) * one) | ((compare(a >> 16, b >> 16, 0) * one) << 16))
            }
            _ => Arc::new(move |a, b, _| compare(a, b, 0) * yes),
        };
        if o.len() != 3 {
            return Err(NO_OPERANDS.into());
        }
        self.each(o, to, [kind; 3], None, f)
    }

    pub(super) fn cvta(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        let to = p.has("to");
        let memory = p.memory();
        p.done()?;
        if kind.bits() != 64 {
            return Err("expected a 64-bit address".into());
        }
        let window = match memory {
            Memory::Shared => SHARED,
            Memory::Local => LOCAL,
            Memory::Param => PARAM,
            Memory::Global | Memory::Const => 0,
            Memory::Generic => return Err("expected a space".into()),
        };
        let [d, a] = self.slots(o, [kind; 2])?;
        let window = self.constant(File::Long, window);
        self.push(if to { Op::Sub64([d, a, window]) } else { Op::Add64([d, a, window]) });
        Ok(())
    }

    pub(super) fn cvt(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let from = p.kind()?;
        let to = p.kind()?;
        let (ftz, saturate, relu) = (p.has("ftz"), p.has("sat"), p.has("relu"));
        let integer = p.one(|m| {
            Some(match m {
                "rni" => Round::Nearest,
                "rzi" => Round::Zero,
                "rmi" => Round::Down,
                "rpi" => Round::Up,
                _ => return None,
            })
        });
        let rounding = p.rounding();
        p.done()?;
        let round = rounding.unwrap_or(Round::Nearest);
        if from.is_float() && !to.is_float() && integer.is_none() {
            return Err("expected `.rni`, `.rzi`, `.rmi` or `.rpi`".into());
        }
        if matches!(from, Type::F16x2 | Type::Bf16x2) || to == Type::Predicate || from == Type::Predicate {
            return Err("a conversion that is not supported".into());
        }
        if matches!(to, Type::F16x2 | Type::Bf16x2) {
            if o.len() != 3 || from != Type::F32 {
                return Err("expected two f32 sources".into());
            }
            if to == Type::Bf16x2 && round == Round::Nearest && !relu {
                let s = self.slots(o, [to, from, from])?;
                self.push(Op::Bf16x2FromF(s));
                return Ok(());
            }
            return self.each(o, to, [from; 3], None, Convert { from, to, integer, round, ftz, saturate, relu }.lane());
        }
        let [d, a] = o else { return Err(NO_OPERANDS.into()) };
        // A register may be wider than the type it is read or written as (PTX ISA, table "relaxed type checking").
        let a_slot = match a {
            Operand::Register(r) => self.register(*r),
            a => (file(from), self.from(a, from)?),
        };
        let Operand::Register(d) = d else { return Err("expected a register as the destination".into()) };
        let d_slot = self.register(*d);
        let d_bits = self.entry.registers[*d as usize].bits;
        if a_slot.0 == File::Bit || d_slot.0 == File::Bit || (from.bits() == 64 && a_slot.0 == File::Word) || (to.bits() == 64 && d_slot.0 == File::Word) {
            return Err("expected registers at least as wide as the types".into());
        }
        let (d, a) = (d_slot.1, a_slot.1);
        let exact = (d_slot.0 == File::Long) == (to.bits() == 64) && (a_slot.0 == File::Long) == (from.bits() == 64);
        let unsigned = |t: Type| matches!(t, Type::Unsigned(_) | Type::Bits(_));
        let op = match (to, from) {
            _ if !exact || saturate || ftz || relu => None,
            (Type::Unsigned(64) | Type::Signed(64), Type::Unsigned(32) | Type::Bits(32)) => Some(Op::ZeroExtend([d, a])),
            (Type::Unsigned(64) | Type::Signed(64), Type::Signed(32)) => Some(Op::SignExtend([d, a])),
            (Type::Unsigned(32) | Type::Signed(32), _) if !from.is_float() && from.bits() == 64 => Some(Op::Low32([d, a])),
            (Type::Unsigned(32) | Type::Signed(32), _) if !from.is_float() && from.bits() == 32 => Some(Op::Mov32([d, a])),
            (Type::Unsigned(32) | Type::Signed(32), Type::Unsigned(16)) => Some(Op::Low16([d, a])),
            (Type::Unsigned(16) | Type::Signed(16), _) if d_bits == 16 && !from.is_float() && matches!(from.bits(), 16 | 32) => Some(Op::Low16([d, a])),
            (Type::F32, Type::Signed(32)) if round == Round::Nearest => Some(Op::FFromS32([d, a])),
            (Type::F32, Type::Unsigned(32 | 16)) if round == Round::Nearest => Some(Op::FFromU32([d, a])),
            (Type::F32, Type::F32) if integer.is_some() => integer.map(|i| Op::RoundF([d, a], i)),
            (Type::Signed(32), Type::F32) => integer.map(|i| Op::S32FromF([d, a], i)),
            (Type::F32, Type::Bf16) => Some(Op::FFromBf16([d, a])),
            (Type::Bf16, Type::F32) if round == Round::Nearest => Some(Op::Bf16FromF([d, a])),
            _ => None,
        };
        let op = op.unwrap_or_else(|| {
            let f = Convert { from, to, integer, round, ftz, saturate, relu }.lane();
            let bits = to.bits();
            // A signed result fills a wider register with its sign.
            let f: Lane = if d_bits > bits && !unsigned(to) && !to.is_float() {
                Arc::new(move |a, b, c| arith::cut(arith::signed(f(a, b, c), bits) as u64, d_bits))
            } else {
                f
            };
            Op::Each(Box::new((d_slot, [a_slot, (File::Bit, 0), (File::Bit, 0)], f)))
        });
        self.push(op);
        Ok(())
    }

    pub(super) fn mov(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        p.done()?;
        let [d, a] = o else { return Err(NO_OPERANDS.into()) };
        let (half, long) = (Type::Bits(kind.bits() / 2), kind.bits() == 64);
        match (d, a) {
            (Operand::Vector(_), Operand::Vector(_)) => Err(NO_OPERANDS.into()),
            (Operand::Vector(parts), a) => {
                let a = self.from(a, kind)?;
                match (&parts[..], long) {
                    ([low, high], _) if kind.bits() >= 32 => {
                        // Through a register of its own: a part may be the source itself.
                        let low_slot = self.to(low, file(half))?;
                        let high_slot = self.to(high, file(half))?;
                        let ops =
                            if long { [Op::Low32([low_slot, a]), Op::High32([high_slot, a])] } else { [Op::Low16([low_slot, a]), Op::High16([high_slot, a])] };
                        ops.into_iter().for_each(|op| self.push(op));
                        Ok(())
                    }
                    ([q0, q1, q2, q3], true) => {
                        let (low, high) = (self.fresh(File::Word), self.fresh(File::Word));
                        self.push(Op::Low32([low, a]));
                        self.push(Op::High32([high, a]));
                        for (part, from, is_high) in [(q0, low, false), (q1, low, true), (q2, high, false), (q3, high, true)] {
                            let slot = self.to(part, File::Word)?;
                            self.push(if is_high { Op::High16([slot, from]) } else { Op::Low16([slot, from]) });
                        }
                        Ok(())
                    }
                    _ => Err("a vector of this size is not supported".into()),
                }
            }
            (d, Operand::Vector(parts)) => {
                let d = self.to(d, file(kind))?;
                match (&parts[..], long) {
                    ([low, high], _) if kind.bits() >= 32 => {
                        let s = [d, self.from(low, half)?, self.from(high, half)?];
                        self.push(if long { Op::Pack32(s) } else { Op::Pack16(s) });
                        Ok(())
                    }
                    ([q0, q1, q2, q3], true) => {
                        let quarter = Type::Bits(16);
                        let s = [self.from(q0, quarter)?, self.from(q1, quarter)?, self.from(q2, quarter)?, self.from(q3, quarter)?];
                        let (low, high) = (self.fresh(File::Word), self.fresh(File::Word));
                        self.push(Op::Pack16([low, s[0], s[1]]));
                        self.push(Op::Pack16([high, s[2], s[3]]));
                        self.push(Op::Pack32([d, low, high]));
                        Ok(())
                    }
                    _ => Err("a vector of this size is not supported".into()),
                }
            }
            _ => {
                let s = self.slots(o, [kind; 2])?;
                self.push(match file(kind) {
                    File::Bit => Op::MovBit(s),
                    File::Word => Op::Mov32(s),
                    File::Long => Op::Mov64(s),
                });
                Ok(())
            }
        }
    }
}
