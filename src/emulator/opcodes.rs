//! Opcode by opcode: what `ld.global.nc.v4.f32` and its like mean.

use super::super::arith::{Convert, Float, How, Round, Type, compare_lane, float_lane};
use super::super::integer;
use super::super::ops::*;
use super::super::parse::{Instruction, Operand};
use super::{Decoded, Decoder, LOCAL, PARAM, SHARED, file};
use std::sync::Arc;

/// The parts of an opcode, taken one by one; what is left over at the end is not known.
struct Parts<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    /// Takes a modifier out, wherever it stands.
    fn has(&mut self, modifier: &str) -> bool {
        let found = self.rest.iter().position(|p| *p == modifier);
        found.map(|i| self.rest.remove(i)).is_some()
    }

    /// Takes the first that `f` knows.
    fn one<T>(&mut self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (i, value) = self.rest.iter().enumerate().find_map(|(i, p)| f(p).map(|v| (i, v)))?;
        self.rest.remove(i);
        Some(value)
    }

    /// Takes the type, which is the last part.
    fn kind(&mut self) -> Decoded<Type> {
        let kind = self.rest.last().and_then(|p| Type::named(p)).ok_or("expected a type at the end of the opcode")?;
        self.rest.pop();
        Ok(kind)
    }

    fn done(self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("`.{}` is not known here", self.rest.join("."))) }
    }

    fn rounding(&mut self) -> Option<Round> {
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
    fn hints(&mut self) {
        const HINTS: [&str; 22] = [
            "weak", "relaxed", "acquire", "release", "acq_rel", "volatile", "mmio", "sys", "gpu", "cta", "cluster", "ca", "cg", "cs", "lu", "cv", "wb", "wt",
            "nc", "unified", "aligned", "level",
        ];
        self.rest.retain(|p| !HINTS.contains(p) && !p.starts_with("L1::") && !(p.starts_with("L2::") && *p != "L2::cache_hint"));
    }

    fn memory(&mut self) -> Memory {
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

fn compare(part: &str, is_unsigned: bool) -> Option<Compare> {
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

const NO_OPERANDS: &str = "expected other operands";

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
            "membar" | "fence" | "prefetch" | "prefetchu" | "nanosleep" | "pmevent" => {
                // They order or hint; the emulator runs one order that all of them allow.
                self.push(Op::Nop);
                Ok(())
            }
            "bar" | "barrier" => self.barrier(name, p, o),
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
    fn each(&mut self, o: &[Operand], to: Type, from: [Type; 3], last: Option<Slot>, f: Lane) -> Decoded<()> {
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

    fn slots<const N: usize>(&mut self, o: &[Operand], kinds: [Type; N]) -> Decoded<[u16; N]> {
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

    fn arithmetic(&mut self, name: &str, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn float(&mut self, name: &str, kind: Type, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn integer(&mut self, name: &str, kind: Type, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn integer_lane(
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

    fn testp(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn setp(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
    fn set(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
                Arc::new(move |a, b, _| compare(a & 0xFFFF, b & 0xFFFF, 0) * one | (compare(a >> 16, b >> 16, 0) * one) << 16)
            }
            _ => Arc::new(move |a, b, _| compare(a, b, 0) * yes),
        };
        if o.len() != 3 {
            return Err(NO_OPERANDS.into());
        }
        self.each(o, to, [kind; 3], None, f)
    }

    fn cvta(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn cvt(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
                Arc::new(move |a, b, c| super::super::arith::cut(super::super::arith::signed(f(a, b, c), bits) as u64, d_bits))
            } else {
                f
            };
            Op::Each(Box::new((d_slot, [a_slot, (File::Bit, 0), (File::Bit, 0)], f)))
        });
        self.push(op);
        Ok(())
    }

    fn mov(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn load_store(&mut self, store: bool, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
        let mut access = Access {
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

    fn barrier(&mut self, name: &str, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
        if !p.has("sync") {
            return Err(format!("expected `{name}.sync`: arrivals and reductions at barriers are not supported"));
        }
        p.done()?;
        let (a, b) = match o {
            [a] => (self.from(a, Type::Bits(32))?, self.constant(File::Word, 0)),
            [a, b] => (self.from(a, Type::Bits(32))?, self.from(b, Type::Bits(32))?),
            _ => return Err(NO_OPERANDS.into()),
        };
        self.push(Op::Barrier(a, b));
        Ok(())
    }

    fn shuffle(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn vote(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn redux(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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

    fn atomic(&mut self, red: bool, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
        let at = Access { memory, base, offset, width: (kind.bits() / 8) as u8, count: 1, sign: 0, slots: [(file(kind), a); 4], fixed: None, number: None };
        self.push(Op::Atomic(Box::new(Atomic { at, update, a: (file(kind), a), b: b.map_or((File::Bit, 0), |b| (file(kind), b)), old })));
        Ok(())
    }

    fn cp_async(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
        let access = |memory, base, offset| Access {
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

    fn cp_group(&mut self, n: Option<u32>) -> Decoded<()> {
        self.push(match n {
            Some(n) => Op::CpWait(Some(n)),
            None if self.current.ends_with("commit_group") => Op::CpCommit,
            None if self.current.ends_with("wait_all") => Op::CpWait(None),
            None => return Err(NO_OPERANDS.into()),
        });
        Ok(())
    }

    fn ldmatrix(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
        let at = Access { memory, base, offset, width: 16, count: 1, sign: 0, slots: [(File::Bit, 0); 4], fixed: None, number: None };
        self.push(Op::LdMatrix(Box::new(LdMatrix { at, count, transposed, slots })));
        Ok(())
    }

    fn mma(&mut self, mut p: Parts, o: &[Operand]) -> Decoded<()> {
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
