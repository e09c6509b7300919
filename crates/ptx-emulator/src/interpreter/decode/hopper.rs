//! What came with sm_90: mbarriers, bulk copies, `wgmma`, clusters.

use super::super::arith::Type;
use super::super::kernel::PARAM;
use super::super::ops::*;
use super::opcodes::{NO_OPERANDS, Parts};
use super::{Decoded, Decoder};
use crate::parse::Operand;
use std::sync::Arc;

const WORD: Type = Type::Bits(32);
const LONG: Type = Type::Bits(64);

/// An address of `width` bytes without registers for data.
fn access(memory: Memory, (base, offset): (Slot, i64), width: u8) -> Address {
    Address { memory, base, offset, width, count: 1, sign: 0, slots: [(File::Bit, 0); 4], fixed: None, number: None }
}

impl Decoder<'_> {
    /// An address in shared memory, of this block or of another one in the cluster.
    fn shared(&mut self, operand: &Operand, memory: Memory, width: u8) -> Decoded<Address> {
        Ok(access(memory, self.address(operand, memory)?, width))
    }

    pub(super) fn mbarrier(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        if !p.kind().is_ok_and(|k| k == LONG) {
            return Err("expected `.b64`".into());
        }
        let relaxed = p.has("relaxed");
        p.hints();
        let cluster = p.has("shared::cluster");
        let memory = if cluster { Memory::Shared } else { p.memory() };
        if !matches!(memory, Memory::Shared | Memory::Generic) {
            return Err("expected an mbarrier in shared memory".into());
        }
        let name = if p.rest.is_empty() { "" } else { p.rest.remove(0) };
        let what = match name {
            "init" => Phase::Init,
            "inval" => Phase::Inval,
            "expect_tx" => Phase::Expect,
            "arrive" if p.has("expect_tx") => Phase::ArriveExpect,
            "arrive" => Phase::Arrive,
            // The one may wait before it answers, the other does not: a kernel that is right takes either answer.
            "test_wait" | "try_wait" => {
                if p.has("parity") {
                    Phase::WaitParity
                } else {
                    Phase::WaitState
                }
            }
            _ => return Err(format!("`mbarrier.{name}` is not known")),
        };
        p.done()?;
        let (to, at, value) = match (what, o) {
            (Phase::Init | Phase::Expect, [at, value]) => (None, at, Some(value)),
            (Phase::Inval, [at]) => (None, at, None),
            (Phase::Arrive, [to, at]) => (Some(to), at, None),
            (Phase::Arrive | Phase::ArriveExpect, [to, at, value]) => (Some(to), at, Some(value)),
            // A time limit is a hint.
            (Phase::WaitParity | Phase::WaitState, [to, at, value] | [to, at, value, _]) => (Some(to), at, Some(value)),
            _ => return Err(NO_OPERANDS.into()),
        };
        let wait = matches!(what, Phase::WaitParity | Phase::WaitState);
        let to = match to {
            None | Some(Operand::Sink) => None,
            Some(to) => {
                let file = if wait { File::Bit } else { File::Long };
                Some((file, self.to(to, file)?))
            }
        };
        let kind = if what == Phase::WaitState { LONG } else { WORD };
        let value = value.map(|v| self.from(v, kind)).transpose()?.map(|v| (super::file(kind), v));
        let at = self.shared(at, memory, 8)?;
        self.push(Op::Mbarrier(Box::new(Mbarrier { what, at, relaxed, value, to })));
        Ok(())
    }

    /// `cp.async.bulk…` and `cp.reduce.async.bulk…`
    pub(super) fn bulk(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let reduce = p.has("reduce");
        p.has("async");
        p.has("bulk");
        if p.has("commit_group") {
            p.done()?;
            self.push(Op::BulkCommit);
            return if o.is_empty() { Ok(()) } else { Err(NO_OPERANDS.into()) };
        }
        if p.has("wait_group") {
            p.has("read");
            p.done()?;
            let [Operand::Integer(n)] = o else { return Err(NO_OPERANDS.into()) };
            self.push(Op::BulkWait(*n as u32));
            return Ok(());
        }
        if p.has("prefetch") {
            self.push(Op::Nop);
            return Ok(());
        }
        let tensor = p.has("tensor");
        let dimensions = p.one(|x| x.strip_suffix('d').and_then(|n| n.parse::<usize>().ok()).filter(|n| (1..=5).contains(n)));
        let (multicast, hint) = (p.has("multicast::cluster"), p.has("L2::cache_hint"));
        let (load, store) = (p.has("mbarrier::complete_tx::bytes"), p.has("bulk_group"));
        p.has("tile");
        let add = p.has("add");
        let kind = if reduce && !tensor { Some(p.kind()?) } else { None };
        let spaces: Vec<&str> = std::mem::take(&mut p.rest);
        let known =
            matches!((load, store, &spaces[..]), (true, false, ["shared::cluster" | "shared::cta", "global"]) | (false, true, ["global", "shared::cta"]));
        if !known || tensor != dimensions.is_some() || reduce != add || (reduce && load) || kind.is_some_and(|k| k != Type::F32) || (multicast && !load) {
            return Err("a bulk copy that is not supported: between global memory and the shared memory of this block or, by multicast, of others".into());
        }
        let mut o = o.to_vec();
        if hint {
            // How long a line stays in the cache changes nothing.
            let hint = o.pop().ok_or(NO_OPERANDS)?;
            self.from(&hint, LONG)?;
        }
        let multicast = if multicast { Some(self.multicast(&o.pop().ok_or(NO_OPERANDS)?)?) } else { None };
        let barrier = if load { Some(self.shared(&o.pop().ok_or(NO_OPERANDS)?, Memory::Shared, 8)?) } else { None };
        let bytes = if tensor { None } else { Some(self.from(&o.pop().ok_or(NO_OPERANDS)?, WORD)?) };
        let [first, second] = &o[..] else { return Err(NO_OPERANDS.into()) };
        let (shared, global) = if load { (first, second) } else { (second, first) };
        let (global, coordinates) = match global {
            Operand::Tensor(map, parts) if tensor => {
                if Some(parts.len()) != dimensions {
                    return Err("expected as many coordinates as dimensions".into());
                }
                let coordinates = parts.iter().map(|c| self.from(c, Type::Signed(32))).collect::<Decoded<Vec<_>>>()?;
                let base = match &**map {
                    Operand::Symbol(name) => match self.symbols.get(name.as_str()) {
                        Some(&at) => self.parameter(PARAM + at),
                        None => return Err(format!("`{name}` is not declared")),
                    },
                    map => self.from(map, LONG)?,
                };
                (access(Memory::Generic, ((File::Long, base), 0), 128), coordinates)
            }
            global if !tensor => (access(Memory::Global, self.address(global, Memory::Global)?, 16), Vec::new()),
            _ => return Err("expected `[map, {coordinates}]`".into()),
        };
        let shared = self.shared(shared, Memory::Shared, 16)?;
        let way = if load {
            Way::Load
        } else if reduce {
            Way::Reduce
        } else {
            Way::Store
        };
        self.push(Op::Bulk(Box::new(Bulk { way, shared, global, coordinates, bytes, barrier, multicast })));
        Ok(())
    }

    fn multicast(&mut self, mask: &Operand) -> Decoded<u16> {
        self.from(mask, Type::Bits(16))
    }

    pub(super) fn wgmma(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let name = if p.rest.is_empty() { "" } else { p.rest.remove(0) };
        if !(p.has("sync") & p.has("aligned")) {
            return Err("expected `.sync.aligned`".into());
        }
        match (name, o) {
            ("fence", []) => self.push(Op::WgmmaFence),
            ("commit_group", []) => self.push(Op::WgmmaCommit),
            ("wait_group", [Operand::Integer(n)]) => self.push(Op::WgmmaWait(*n as u32)),
            ("mma_async", _) => return self.wgmma_product(p, o),
            _ => return Err(NO_OPERANDS.into()),
        }
        p.done()
    }

    fn wgmma_product(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let n = p.one(|s| s.strip_prefix("m64n")?.strip_suffix("k16")?.parse::<usize>().ok()).filter(|n| n % 8 == 0 && (8..=256).contains(n));
        let Some(n) = n.filter(|_| p.rest == ["f32", "bf16", "bf16"]) else {
            return Err("expected `wgmma.mma_async.sync.aligned.m64n{8..256}k16.f32.bf16.bf16`".into());
        };
        let [Operand::Vector(vd), a, b, scale, negate_a, negate_b, rest @ ..] = o else { return Err(NO_OPERANDS.into()) };
        if vd.len() != n / 2 {
            return Err(format!("expected {} accumulators, found {}", n / 2, vd.len()));
        }
        let sign = |operand: &Operand| match operand {
            Operand::Integer(1) => Ok(false),
            Operand::Integer(-1) => Ok(true),
            _ => Err("expected 1 or -1 for the sign of A and B".to_string()),
        };
        let major = |operand: &Operand| match operand {
            Operand::Integer(n @ (0 | 1)) => Ok(*n == 1),
            _ => Err("expected 0 or 1 for the major dimension of A and B".to_string()),
        };
        let (a, transposed) = match (a, rest) {
            (Operand::Vector(parts), [b]) if parts.len() == 4 => {
                let mut slots = [0; 4];
                for (slot, part) in slots.iter_mut().zip(parts) {
                    *slot = self.from(part, WORD)?;
                }
                (Left::Registers(slots), [false, major(b)?])
            }
            (Operand::Vector(_), _) => return Err(NO_OPERANDS.into()),
            (a, [ta, tb]) => (Left::Shared(self.from(a, LONG)?), [major(ta)?, major(tb)?]),
            _ => return Err(NO_OPERANDS.into()),
        };
        let b = self.from(b, LONG)?;
        let scale = self.from(scale, Type::Predicate)?;
        let negate = [sign(negate_a)?, sign(negate_b)?];
        let d = vd.iter().map(|d| self.to(d, File::Word)).collect::<Decoded<Vec<_>>>()?;
        self.push(Op::Wgmma(Box::new(Wgmma { n, d, a, b, scale, negate, transposed })));
        Ok(())
    }

    pub(super) fn stmatrix(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let known = p.has("sync") & p.has("aligned") & p.has("m8n8") & p.has("b16");
        let transposed = p.has("trans");
        let count = p.one(|x| ["x1", "x2", "", "x4"].iter().position(|n| *n == x).map(|n| n as u8 + 1));
        let memory = p.memory();
        p.done()?;
        let ([address, Operand::Vector(parts)], Some(count), true, Memory::Shared | Memory::Generic) = (o, count, known, memory) else {
            return Err("expected `stmatrix.sync.aligned.m8n8.x1|x2|x4[.trans].shared.b16`".into());
        };
        if parts.len() != count as usize {
            return Err("expected as many registers as matrices".into());
        }
        let at = self.shared(address, memory, 16)?;
        let mut slots = [0; 4];
        for (slot, part) in slots.iter_mut().zip(parts) {
            *slot = self.from(part, WORD)?;
        }
        self.push(Op::StMatrix(Box::new(LdMatrix { at, count, transposed, slots })));
        Ok(())
    }

    pub(super) fn setmaxnreg(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let known = (p.has("inc") | p.has("dec")) & p.has("sync") & p.has("aligned") & p.has("u32");
        p.done()?;
        match o {
            [Operand::Integer(n)] if known && (24..=256).contains(n) && n % 8 == 0 => self.push(Op::Nop),
            _ => return Err("expected `setmaxnreg.inc|dec.sync.aligned.u32` with 24 to 256 registers, a multiple of 8".into()),
        }
        Ok(())
    }

    pub(super) fn cluster_barrier(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        p.has("cluster");
        p.has("aligned");
        let (arrive, wait) = (p.has("arrive"), p.has("wait"));
        p.has("relaxed");
        p.has("release");
        p.has("acquire");
        p.done()?;
        if arrive == wait || !o.is_empty() {
            return Err("expected `barrier.cluster.arrive` or `barrier.cluster.wait`".into());
        }
        self.push(if arrive { Op::ClusterArrive } else { Op::ClusterWait });
        Ok(())
    }

    pub(super) fn elect(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let known = p.has("sync");
        p.done()?;
        let (to, [_, members]) = (o.first(), o) else { return Err(NO_OPERANDS.into()) };
        let (d, leads) = match to {
            Some(Operand::Pair(d, Some(leads))) if known => (self.to(&Operand::Register(*d), File::Word)?, *leads),
            Some(Operand::Second(leads)) if known => (self.fresh(File::Word), *leads),
            _ => return Err("expected `elect.sync d|p, members`".into()),
        };
        let leads = self.to(&Operand::Register(leads), File::Bit)?;
        let members = self.from(members, WORD)?;
        self.push(Op::Elect(d, leads, members));
        Ok(())
    }

    /// The address of the same byte in another block of the cluster: its rank, plus one, lies above the 24 bits of the address.
    pub(super) fn mapa(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        if !p.has("shared::cluster") || kind != Type::Unsigned(32) {
            return Err("expected `mapa.shared::cluster.u32`".into());
        }
        p.done()?;
        self.each(o, kind, [kind; 3], None, Arc::new(|at, rank, _| (at & 0xFF_FFFF) | (rank + 1) << 24))
    }
}
