//! Opcode by opcode: what `ld.global.nc.v4.f32` and its like mean.

use super::super::arith::{Float, How, Type, float_lane};
use super::super::integer;
use super::super::ops::*;
use super::{Decoded, Decoder, LOCAL, PARAM, SHARED, file};
use crate::parse::{Instruction, Operand};
use std::sync::Arc;

/// The parts of an opcode, taken one by one; what is left over at the end is not known.
pub(super) struct Parts<'a> {
    pub(super) rest: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    /// Takes a modifier out, wherever it is.
    pub(super) fn has(&mut self, modifier: &str) -> bool {
        let found = self.rest.iter().position(|p| *p == modifier);
        found.map(|i| self.rest.remove(i)).is_some()
    }

    /// Takes the first that `f` knows.
    pub(super) fn one<T>(&mut self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (i, value) = self.rest.iter().enumerate().find_map(|(i, p)| f(p).map(|v| (i, v)))?;
        self.rest.remove(i);
        Some(value)
    }

    /// Takes the type, which is the last part.
    pub(super) fn kind(&mut self) -> Decoded<Type> {
        let kind = self.rest.last().and_then(|p| Type::named(p)).ok_or("expected a type at the end of the opcode")?;
        self.rest.pop();
        Ok(kind)
    }

    pub(super) fn done(self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("`.{}` is not known here", self.rest.join("."))) }
    }

    pub(super) fn rounding(&mut self) -> Option<Round> {
        self.one(|p| {
            Some(match p {
                "rn" => Round::Nearest,
                "rz" => Round::Zero,
                "rm" => Round::Down,
                "rp" => Round::Up,
                "rna" => Round::Away,
                _ => return None,
            })
        })
    }

    /// Modifiers that change neither what is loaded nor what is stored: order, scope and caching.
    pub(super) fn hints(&mut self) {
        const HINTS: [&str; 22] = [
            "weak", "relaxed", "acquire", "release", "acq_rel", "volatile", "mmio", "sys", "gpu", "cta", "cluster", "ca", "cg", "cs", "lu", "cv", "wb", "wt",
            "nc", "unified", "aligned", "level",
        ];
        self.rest.retain(|p| !(HINTS.contains(p) || p.starts_with("L1::") || p.starts_with("L2::") && *p != "L2::cache_hint"));
    }

    pub(super) fn memory(&mut self) -> Memory {
        self.one(|p| {
            Some(match p {
                "global" => Memory::Global,
                "shared" | "shared::cta" => Memory::Shared,
                "local" => Memory::Local,
                "param" | "param::entry" => Memory::Param,
                "const" => Memory::Const,
                _ => return None,
            })
        })
        .unwrap_or(Memory::Generic)
    }
}

pub(super) fn compare(part: &str, is_unsigned: bool) -> Option<Compare> {
    Some(match part {
        "eq" => Compare::Eq,
        "ne" => Compare::Ne,
        "lt" => Compare::Lt,
        "le" => Compare::Le,
        "gt" => Compare::Gt,
        "ge" => Compare::Ge,
        "lo" if is_unsigned => Compare::Lt,
        "ls" if is_unsigned => Compare::Le,
        "hi" if is_unsigned => Compare::Gt,
        "hs" if is_unsigned => Compare::Ge,
        "equ" => Compare::Equ,
        "neu" => Compare::Neu,
        "ltu" => Compare::Ltu,
        "leu" => Compare::Leu,
        "gtu" => Compare::Gtu,
        "geu" => Compare::Geu,
        "num" => Compare::Num,
        "nan" => Compare::Nan,
        _ => return None,
    })
}

pub(super) const NO_OPERANDS: &str = "expected other operands";

impl Decoder<'_> {
    pub(super) fn opcode(&mut self, instruction: &Instruction) -> Decoded<()> {
        let mut rest = instruction.opcode.split('.');
        let name = rest.next().unwrap_or("");
        let mut p = Parts { rest: rest.collect() };
        let o = &instruction.operands[..];
        match name {
            "mov" => self.mov(p, o),
            "ld" | "ldu" | "st" => self.load_store(name == "st", p, o),
            "cvta" => self.cvta(p, o),
            "cvt" => self.cvt(p, o),
            "setp" => self.setp(p, o),
            "set" => self.set(p, o),
            "selp" => {
                let kind = p.kind()?;
                p.done()?;
                let [d, a, b, c] = o else { return Err(NO_OPERANDS.into()) };
                let s = [self.to(d, file(kind))?, self.from(a, kind)?, self.from(b, kind)?, self.from(c, Type::Predicate)?];
                self.push(if file(kind) == File::Long { Op::Select64(s) } else { Op::Select32(s) });
                Ok(())
            }
            "slct" => {
                p.has("ftz");
                let by = p.kind()?;
                let kind = p.kind()?;
                p.done()?;
                let [_, _, _, c] = o else { return Err(NO_OPERANDS.into()) };
                let c = self.from(c, by)?;
                let f: Lane = if by == Type::F32 {
                    Arc::new(|a, b, c| if f32::from_bits(c as u32) >= 0.0 { a } else { b })
                } else {
                    Arc::new(|a, b, c| if c as i32 >= 0 { a } else { b })
                };
                self.each(&o[..3], kind, [kind, kind, kind], Some((file(by), c)), f)
            }
            "bra" => {
                p.has("uni");
                p.done()?;
                let [target] = o else { return Err(NO_OPERANDS.into()) };
                let target = self.label(target)?;
                self.push(Op::Branch(target));
                Ok(())
            }
            "brx" => {
                p.has("uni");
                if !p.has("idx") {
                    return Err("expected `brx.idx`".into());
                }
                p.done()?;
                let [index, list] = o else { return Err(NO_OPERANDS.into()) };
                let (index, list) = (self.from(index, Type::Bits(32))?, self.targets(list)?);
                self.push(Op::BranchIndex(index, list));
                Ok(())
            }
            "ret" | "exit" => {
                p.has("uni");
                p.done()?;
                self.push(Op::Exit);
                Ok(())
            }
            "trap" => {
                p.done()?;
                self.push(Op::Trap);
                Ok(())
            }
            "fence" if p.rest.starts_with(&["proxy", "async"]) => {
                self.push(Op::ProxyFence);
                Ok(())
            }
            "membar" | "fence" | "prefetch" | "prefetchu" | "nanosleep" | "pmevent" | "griddepcontrol" => {
                // They order or hint; the emulator runs one order that all of them allow.
                self.push(Op::Nop);
                Ok(())
            }
            "barrier" if p.rest.first() == Some(&"cluster") => self.cluster_barrier(p, o),
            "bar" | "barrier" => self.barrier(name, p, o),
            "mbarrier" => self.mbarrier(p, o),
            "wgmma" => self.wgmma(p, o),
            "stmatrix" => self.stmatrix(p, o),
            "setmaxnreg" => self.setmaxnreg(p, o),
            "elect" => self.elect(p, o),
            "mapa" => self.mapa(p, o),
            "cp" if p.rest.starts_with(&["async", "bulk"]) || p.rest.starts_with(&["reduce", "async", "bulk"]) => self.bulk(p, o),
            "shfl" => self.shuffle(p, o),
            "vote" => self.vote(p, o),
            "activemask" => {
                p.kind()?;
                p.done()?;
                let [d] = o else { return Err(NO_OPERANDS.into()) };
                let d = self.to(d, File::Word)?;
                self.push(Op::ActiveMask(d));
                Ok(())
            }
            "redux" => self.redux(p, o),
            "atom" | "red" => self.atomic(name == "red", p, o),
            "cp" => self.cp_async(p, o),
            "ldmatrix" => self.ldmatrix(p, o),
            "mma" => self.mma(p, o),
            "isspacep" => {
                let memory = p.memory();
                p.done()?;
                let window = match memory {
                    Memory::Shared => SHARED..SHARED + (1 << 40),
                    Memory::Local => LOCAL..LOCAL + (1 << 40),
                    Memory::Param => PARAM..PARAM + (1 << 40),
                    Memory::Global => 0..SHARED,
                    _ => return Err("expected a space that is supported".into()),
                };
                self.each(o, Type::Predicate, [Type::Bits(64); 3], None, Arc::new(move |a, _, _| window.contains(&a) as u64))
            }
            "call" => Err("a function that was not inlined is not supported: mark it __forceinline__".into()),
            _ => self.arithmetic(name, p, o),
        }
    }

    /// A lane operation: destination, then up to three sources (`last` replaces the third).
    pub(super) fn each(&mut self, o: &[Operand], to: Type, from: [Type; 3], last: Option<Slot>, f: Lane) -> Decoded<()> {
        let [d, sources @ ..] = o else { return Err(NO_OPERANDS.into()) };
        if sources.is_empty() || sources.len() + last.is_some() as usize > 3 {
            return Err(NO_OPERANDS.into());
        }
        let mut slots = [(File::Bit, 0); 3];
        for (i, source) in sources.iter().enumerate() {
            slots[i] = (file(from[i]), self.from(source, from[i])?);
        }
        if let Some(last) = last {
            slots[2] = last;
        }
        let d = (file(to), self.to(d, file(to))?);
        self.push(Op::Each(Box::new((d, slots, f))));
        Ok(())
    }

    pub(super) fn slots<const N: usize>(&mut self, o: &[Operand], kinds: [Type; N]) -> Decoded<[u16; N]> {
        if o.len() != N {
            return Err(NO_OPERANDS.into());
        }
        let mut slots = [0; N];
        for i in 1..N {
            slots[i] = self.from(&o[i], kinds[i])?;
        }
        slots[0] = self.to(&o[0], file(kinds[0]))?;
        Ok(slots)
    }

    pub(super) fn arithmetic(&mut self, name: &str, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        if name == "dp4a" {
            let full = format!("dp4a.{}", p.rest.join("."));
            let f = integer::lane(&full, Type::Bits(32), false).ok_or("`dp4a` with these types is not known")?;
            return self.each(o, Type::Bits(32), [Type::Bits(32); 3], None, f);
        }
        if name == "prmt" {
            let mode = p.one(|m| ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"].into_iter().find(|k| *k == m));
            p.kind()?;
            p.done()?;
            let full = mode.map_or("prmt".to_string(), |m| format!("prmt.{m}"));
            let f = integer::lane(&full, Type::Bits(32), false).ok_or("a mode of `prmt` that is not known")?;
            return self.each(o, Type::Bits(32), [Type::Bits(32); 3], None, f);
        }
        if name == "testp" {
            return self.testp(p, o);
        }
        let kind = p.kind()?;
        if kind.is_float() { self.float(name, kind, p, o) } else { self.integer(name, kind, p, o) }
    }

    pub(super) fn float(&mut self, name: &str, kind: Type, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let (ftz, saturate, nan, relu) = (p.has("ftz"), p.has("sat"), p.has("NaN"), p.has("relu"));
        let (approximate, full) = (p.has("approx"), p.has("full"));
        let rounding = p.rounding();
        let plain = !ftz && !saturate && !nan && !relu && kind == Type::F32 && matches!(rounding, None | Some(Round::Nearest));
        let round = rounding.unwrap_or(Round::Nearest);
        if name == "copysign" {
            p.done()?;
            let sign = 1u64 << (kind.bits() - 1);
            return self.each(o, kind, [kind; 3], None, Arc::new(move |a, b, _| (a & sign) | (b & !sign)));
        }
        let what = match name {
            "add" => Float::Add,
            "sub" => Float::Sub,
            "mul" => Float::Mul,
            "div" => Float::Div,
            "fma" | "mad" => Float::Fma,
            "min" => Float::Min,
            "max" => Float::Max,
            "neg" => Float::Neg,
            "abs" => Float::Abs,
            "sqrt" => Float::Sqrt,
            "rcp" => Float::Rcp,
            "rsqrt" => Float::Rsqrt,
            "ex2" => Float::Ex2,
            "lg2" => Float::Lg2,
            "sin" => Float::Sin,
            "cos" => Float::Cos,
            "tanh" => Float::Tanh,
            _ => return Err(format!("`{name}` is not known")),
        };
        p.done()?;
        if (approximate || full)
            && !matches!(what, Float::Div | Float::Sqrt | Float::Rcp | Float::Rsqrt | Float::Ex2 | Float::Lg2 | Float::Sin | Float::Cos | Float::Tanh)
        {
            return Err(format!("`{name}` has no `.approx`"));
        }
        if !approximate && matches!(what, Float::Rsqrt | Float::Ex2 | Float::Lg2 | Float::Sin | Float::Cos | Float::Tanh) {
            return Err(format!("expected `{name}.approx`"));
        }
        if kind == Type::F64 && (round != Round::Nearest || approximate) || matches!(kind, Type::Tf32) {
            return Err("a rounding or type that is not supported".into());
        }
        if plain {
            let op = match what {
                Float::Add => Op::AddF(self.slots(o, [kind; 3])?),
                Float::Sub => Op::SubF(self.slots(o, [kind; 3])?),
                Float::Mul => Op::MulF(self.slots(o, [kind; 3])?),
                Float::Div => Op::DivF(self.slots(o, [kind; 3])?),
                Float::Fma => Op::FmaF(self.slots(o, [kind; 4])?),
                Float::Min => Op::MinF(self.slots(o, [kind; 3])?),
                Float::Max => Op::MaxF(self.slots(o, [kind; 3])?),
                Float::Neg => Op::NegF(self.slots(o, [kind; 2])?),
                Float::Abs => Op::AbsF(self.slots(o, [kind; 2])?),
                Float::Sqrt => Op::SqrtF(self.slots(o, [kind; 2])?),
                Float::Rcp => Op::RcpF(self.slots(o, [kind; 2])?),
                Float::Rsqrt => Op::RsqrtF(self.slots(o, [kind; 2])?),
                Float::Ex2 => Op::Ex2F(self.slots(o, [kind; 2])?, false),
                Float::Lg2 => Op::Lg2F(self.slots(o, [kind; 2])?),
                _ => return self.each(o, kind, [kind; 3], None, float_lane(what, kind, How { round, ftz, saturate, nan, relu })),
            };
            self.push(op);
            return Ok(());
        }
        if kind == Type::F32 && ftz && !saturate && approximate && matches!(what, Float::Ex2 | Float::Rcp) {
            let s = self.slots(o, [kind; 2])?;
            self.push(if what == Float::Ex2 { Op::Ex2F(s, true) } else { Op::RcpFtz(s) });
            return Ok(());
        }
        // The number of operands must be right: a missing one would read as zero.
        let sources = match what {
            Float::Fma => 3,
            Float::Add | Float::Sub | Float::Mul | Float::Div | Float::Min | Float::Max => 2,
            _ => 1,
        };
        if o.len() != sources + 1 {
            return Err(NO_OPERANDS.into());
        }
        self.each(o, kind, [kind; 3], None, float_lane(what, kind, How { round, ftz, saturate, nan, relu }))
    }

    pub(super) fn integer(&mut self, name: &str, kind: Type, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let word = kind.bits() == 32;
        let long = kind.bits() == 64;
        let is_signed = matches!(kind, Type::Signed(_));
        if kind == Type::Predicate {
            p.done()?;
            let op = match name {
                "not" => Op::NotBit(self.slots(o, [kind; 2])?),
                "and" => Op::AndBit(self.slots(o, [kind; 3])?),
                "or" => Op::OrBit(self.slots(o, [kind; 3])?),
                "xor" => Op::XorBit(self.slots(o, [kind; 3])?),
                _ => return Err(format!("`{name}.pred` is not known")),
            };
            self.push(op);
            return Ok(());
        }
        let saturate = p.has("sat");
        let mode = p.one(|m| ["lo", "hi", "wide", "shiftamt"].into_iter().find(|k| *k == m));
        let turn = if name == "shf" { p.one(|m| ["l", "r"].into_iter().find(|k| *k == m)) } else { None };
        let clamp = if name == "shf" { p.one(|m| ["wrap", "clamp"].into_iter().find(|k| *k == m)) } else { None };
        p.done()?;
        let (u32s, longs) = (Type::Bits(32), Type::Bits(64));
        let op = match (name, mode) {
            ("lop3", None) if word => {
                let [rest @ .., Operand::Integer(table)] = o else { return Err(NO_OPERANDS.into()) };
                Op::Lop3(self.slots(rest, [kind; 4])?, *table as u8)
            }
            ("add", None) if word && !saturate => Op::Add32(self.slots(o, [kind; 3])?),
            ("sub", None) if word && !saturate => Op::Sub32(self.slots(o, [kind; 3])?),
            ("mul", Some("lo")) if word => Op::Mul32(self.slots(o, [kind; 3])?),
            ("mul", Some("hi")) if word && !is_signed => Op::MulHiU32(self.slots(o, [kind; 3])?),
            ("mad", Some("lo")) if word => Op::Mad32(self.slots(o, [kind; 4])?),
            ("mul", Some("wide")) if word && is_signed => Op::MulWideS(self.slots(o, [longs, kind, kind])?),
            ("mul", Some("wide")) if word => Op::MulWideU(self.slots(o, [longs, kind, kind])?),
            ("mad", Some("wide")) if word && is_signed => Op::MadWideS(self.slots(o, [longs, kind, kind, longs])?),
            ("mad", Some("wide")) if word => Op::MadWideU(self.slots(o, [longs, kind, kind, longs])?),
            ("and", None) if !long => Op::And32(self.slots(o, [kind; 3])?),
            ("or", None) if !long => Op::Or32(self.slots(o, [kind; 3])?),
            ("xor", None) if !long => Op::Xor32(self.slots(o, [kind; 3])?),
            ("not", None) if word => Op::Not32(self.slots(o, [kind; 2])?),
            ("neg", None) if word => Op::Neg32(self.slots(o, [kind; 2])?),
            ("abs", None) if word => Op::Abs32(self.slots(o, [kind; 2])?),
            ("shl", None) if word => Op::Shl32(self.slots(o, [kind, kind, u32s])?),
            ("shr", None) if word && is_signed => Op::ShrS32(self.slots(o, [kind, kind, u32s])?),
            ("shr", None) if word => Op::ShrU32(self.slots(o, [kind, kind, u32s])?),
            ("min", None) if word && is_signed => Op::MinS32(self.slots(o, [kind; 3])?),
            ("max", None) if word && is_signed => Op::MaxS32(self.slots(o, [kind; 3])?),
            ("min", None) if word => Op::MinU32(self.slots(o, [kind; 3])?),
            ("max", None) if word => Op::MaxU32(self.slots(o, [kind; 3])?),
            ("add", None) if long && !saturate => Op::Add64(self.slots(o, [kind; 3])?),
            ("sub", None) if long && !saturate => Op::Sub64(self.slots(o, [kind; 3])?),
            ("mul", Some("lo")) if long => Op::Mul64(self.slots(o, [kind; 3])?),
            ("and", None) => Op::And64(self.slots(o, [kind; 3])?),
            ("or", None) => Op::Or64(self.slots(o, [kind; 3])?),
            ("xor", None) => Op::Xor64(self.slots(o, [kind; 3])?),
            ("shl", None) if long => Op::Shl64(self.slots(o, [kind, kind, u32s])?),
            ("shr", None) if long && is_signed => Op::ShrS64(self.slots(o, [kind, kind, u32s])?),
            ("shr", None) if long => Op::ShrU64(self.slots(o, [kind, kind, u32s])?),
            _ => return self.integer_lane(name, mode, turn, clamp, kind, saturate, o),
        };
        if saturate {
            return Err("`.sat` is not known here".into());
        }
        self.push(op);
        Ok(())
    }

    pub(super) fn integer_lane(
        &mut self,
        name: &str,
        mode: Option<&str>,
        turn: Option<&str>,
        clamp: Option<&str>,
        kind: Type,
        saturate: bool,
        o: &[Operand],
    ) -> Decoded<()> {
        let full = [Some(name), mode, turn, clamp].into_iter().flatten().collect::<Vec<_>>().join(".");
        let f = integer::lane(&full, kind, saturate).ok_or_else(|| format!("`{full}` is not known"))?;
        let u32s = Type::Bits(32);
        let twice = Type::Bits(2 * kind.bits());
        let (to, from, sources) = match full.as_str() {
            "popc" | "clz" | "bfind" | "bfind.shiftamt" => (u32s, [kind; 3], 1),
            "abs" | "neg" | "not" | "cnot" | "brev" => (kind, [kind; 3], 1),
            "shl" | "shr" => (kind, [kind, u32s, u32s], 2),
            "bfe" => (kind, [kind, u32s, u32s], 3),
            "mul.wide" => (twice, [kind; 3], 2),
            "mad.wide" => (twice, [kind, kind, twice], 3),
            "mad.lo" | "mad.hi" | "sad" => (kind, [kind; 3], 3),
            "bfi" => {
                // Four sources: start and length become one.
                let [d, a, b, start, length] = o else { return Err(NO_OPERANDS.into()) };
                let (start, length) = (self.from(start, u32s)?, self.from(length, u32s)?);
                let both = self.fresh(File::Word);
                let join: Lane = Arc::new(|a, b, _| (a & 0xFF) | (b & 0xFF) << 8);
                self.push(Op::Each(Box::new(((File::Word, both), [(File::Word, start), (File::Word, length), (File::Bit, 0)], join))));
                return self.each(&[d.clone(), a.clone(), b.clone()], kind, [kind; 3], Some((File::Word, both)), f);
            }
            _ if full.starts_with("shf") => (u32s, [u32s; 3], 3),
            _ => (kind, [kind; 3], 2),
        };
        if o.len() != sources + 1 {
            return Err(NO_OPERANDS.into());
        }
        self.each(o, to, from, None, f)
    }

    pub(super) fn testp(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
        let kind = p.kind()?;
        let test: fn(std::num::FpCategory) -> bool = match p.rest.pop() {
            Some("finite") => |c| !matches!(c, std::num::FpCategory::Nan | std::num::FpCategory::Infinite),
            Some("infinite") => |c| c == std::num::FpCategory::Infinite,
            Some("number") => |c| c != std::num::FpCategory::Nan,
            Some("notanumber") => |c| c == std::num::FpCategory::Nan,
            Some("normal") => |c| c == std::num::FpCategory::Normal,
            Some("subnormal") => |c| c == std::num::FpCategory::Subnormal,
            _ => return Err("expected a property that `testp` knows".into()),
        };
        p.done()?;
        let f: Lane = match kind {
            Type::F32 => Arc::new(move |a, _, _| test(f32::from_bits(a as u32).classify()) as u64),
            Type::F64 => Arc::new(move |a, _, _| test(f64::from_bits(a).classify()) as u64),
            _ => return Err("expected `.f32` or `.f64`".into()),
        };
        self.each(o, Type::Predicate, [kind; 3], None, f)
    }
}
