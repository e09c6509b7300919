//! What the lanes of a warp, or the warps of a block, do together.

use super::super::arith::Type;
use super::super::ops::*;
use super::opcodes::{NO_OPERANDS, Parts};
use super::{Decoded, Decoder, file};
use crate::parse::Operand;

impl Decoder<'_> {
    pub(super) fn barrier(&mut self, name: &str, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        if name == "bar" && p.has("warp") {
            if !p.has("sync") {
                return Err("expected `bar.warp.sync`".into());
            }
            p.done()?;
            let [members] = o else { return Err(NO_OPERANDS.into()) };
            let members = self.from(members, Type::Bits(32))?;
            self.push(Op::WarpBarrier(members));
            return Ok(());
        }
        p.has("cta");
        p.has("aligned");
        let arrive = p.has("arrive");
        if !arrive && !p.has("sync") {
            return Err(format!("expected `{name}.sync` or `{name}.arrive`: reductions at barriers are not supported"));
        }
        p.done()?;
        let (a, b) = match o {
            [_] if arrive => return Err(NO_OPERANDS.into()),
            [a] => (self.from(a, Type::Bits(32))?, self.constant(File::Word, 0)),
            [a, b] => (self.from(a, Type::Bits(32))?, self.from(b, Type::Bits(32))?),
            _ => return Err(NO_OPERANDS.into()),
        };
        self.push(if arrive { Op::BarrierArrive(a, b) } else { Op::Barrier(a, b) });
        Ok(())
    }

    pub(super) fn shuffle(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        if !p.has("sync") || kind.bits() != 32 {
            return Err("expected `shfl.sync` of 32 bits".into());
        }
        let mode = p.one(|m| {
            Some(match m {
                "up" => ShuffleMode::Up,
                "down" => ShuffleMode::Down,
                "bfly" => ShuffleMode::Bfly,
                "idx" => ShuffleMode::Idx,
                _ => return None,
            })
        });
        p.done()?;
        let [d, a, b, c, members] = o else { return Err(NO_OPERANDS.into()) };
        let (d, bit) = match d {
            Operand::Pair(d, bit) => (self.to(&Operand::Register(*d), File::Word)?, bit.map(|b| self.to(&Operand::Register(b), File::Bit)).transpose()?),
            d => (self.to(d, File::Word)?, None),
        };
        let u32s = Type::Bits(32);
        let shuffle = Shuffle {
            mode: mode.ok_or("expected a mode")?,
            d,
            p: bit,
            a: self.from(a, u32s)?,
            b: self.from(b, u32s)?,
            c: self.from(c, u32s)?,
            members: self.from(members, u32s)?,
        };
        self.push(Op::Shuffle(Box::new(shuffle)));
        Ok(())
    }

    pub(super) fn vote(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        if !p.has("sync") {
            return Err("expected `vote.sync`".into());
        }
        let mode = p.one(|m| {
            Some(match m {
                "all" => VoteMode::All,
                "any" => VoteMode::Any,
                "uni" => VoteMode::Uni,
                "ballot" => VoteMode::Ballot,
                _ => return None,
            })
        });
        p.done()?;
        let mode = mode.ok_or("expected a mode")?;
        let [d, a, members] = o else { return Err(NO_OPERANDS.into()) };
        if (mode == VoteMode::Ballot) != (kind == Type::Bits(32)) {
            return Err("expected `.ballot.b32` or `.pred`".into());
        }
        let (not, a) = match a {
            Operand::Not(r) => (true, &Operand::Register(*r)),
            a => (false, a),
        };
        let a = self.from(a, Type::Predicate)?;
        let members = self.from(members, Type::Bits(32))?;
        let d = (file(kind), self.to(d, file(kind))?);
        self.push(Op::Vote(mode, d, a, not, members));
        Ok(())
    }

    pub(super) fn redux(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        let is_signed = kind == Type::Signed(32);
        if !p.has("sync") || kind.bits() != 32 || kind.is_float() {
            return Err("expected `redux.sync` of 32-bit integers".into());
        }
        let what = p.one(|m| {
            Some(match m {
                "add" => Reduction::Add,
                "min" if is_signed => Reduction::MinS,
                "max" if is_signed => Reduction::MaxS,
                "min" => Reduction::MinU,
                "max" => Reduction::MaxU,
                "and" => Reduction::And,
                "or" => Reduction::Or,
                "xor" => Reduction::Xor,
                _ => return None,
            })
        });
        p.done()?;
        let s = self.slots(o, [kind, kind, Type::Bits(32)])?;
        self.push(Op::Redux(what.ok_or("expected an operation")?, s));
        Ok(())
    }

    pub(super) fn mma(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let c = p.kind()?;
        let b = p.kind()?;
        let a = p.kind()?;
        let d = p.kind()?;
        let known = p.has("sync") & p.has("aligned") & p.has("row") & p.has("col");
        let k = p.one(|s| match s {
            "m16n8k4" => Some(4u8),
            "m16n8k8" => Some(8),
            "m16n8k16" => Some(16),
            _ => None,
        });
        p.done()?;
        let element = match a {
            Type::Bf16 => Element::Bf16,
            Type::F16 => Element::F16,
            Type::Tf32 => Element::Tf32,
            _ => return Err("expected elements of type bf16, f16 or tf32".into()),
        };
        let half = d == Type::F16;
        let shapes: &[u8] = if element == Element::Tf32 { &[4, 8] } else { &[8, 16] };
        let (Some(k), true, [Operand::Vector(vd), Operand::Vector(va), Operand::Vector(vb), Operand::Vector(vc)]) =
            (k.filter(|k| shapes.contains(k)), known, o)
        else {
            return Err("expected `mma.sync.aligned.m16n8k….row.col` in a shape that is supported".into());
        };
        if a != b || c != d || !(d == Type::F32 || (half && element == Element::F16)) {
            return Err("a combination of types that is not supported".into());
        }
        let mut m = Mma { element, k, half, d: [0; 4], a: [0; 4], b: [0; 2], c: [0; 4] };
        let (na, nb, nc) = m.registers();
        if va.len() != na || vb.len() != nb || vc.len() != nc || vd.len() != nc {
            return Err(format!("expected {na}, {nb} and {nc} registers for A, B and C"));
        }
        let word = Type::Bits(32);
        let c_kind = if half { word } else { Type::F32 };
        for (slot, part) in m.a.iter_mut().zip(va).chain(m.b.iter_mut().zip(vb)) {
            *slot = self.from(part, word)?;
        }
        for (slot, part) in m.c.iter_mut().zip(vc) {
            *slot = self.from(part, c_kind)?;
        }
        for (slot, part) in m.d.iter_mut().zip(vd) {
            *slot = self.to(part, File::Word)?;
        }
        self.push(Op::Mma(Box::new(m)));
        Ok(())
    }
}
