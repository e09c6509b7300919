//! Arithmetic one lane at a time, on bits: everything that the interpreter does not do with vectors.
//!
//! Every floating-point result is computed in f64, rounded to odd (so that a second rounding is right in every mode)
//! and then rounded once to its format. That makes f16, bf16 and f32 in all rounding modes the same few lines.

use super::ops::{Compare, Lane, Round};
use std::sync::Arc;

/// A PTX type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Bits(u32),
    Unsigned(u32),
    Signed(u32),
    F16,
    Bf16,
    F16x2,
    Bf16x2,
    F32,
    F64,
    Tf32,
    Predicate,
}

impl Type {
    /// Reads `f32`, `u16`, `b64`, `pred`, …
    pub fn named(name: &str) -> Option<Type> {
        use Type::*;
        Some(match name {
            "b8" => Bits(8),
            "b16" => Bits(16),
            "b32" => Bits(32),
            "b64" => Bits(64),
            "u8" => Unsigned(8),
            "u16" => Unsigned(16),
            "u32" => Unsigned(32),
            "u64" => Unsigned(64),
            "s8" => Signed(8),
            "s16" => Signed(16),
            "s32" => Signed(32),
            "s64" => Signed(64),
            "f16" => F16,
            "bf16" => Bf16,
            "f16x2" => F16x2,
            "bf16x2" => Bf16x2,
            "f32" => F32,
            "f64" => F64,
            "tf32" => Tf32,
            "pred" => Predicate,
            _ => return None,
        })
    }

    pub fn bits(self) -> u32 {
        match self {
            Type::Bits(n) | Type::Unsigned(n) | Type::Signed(n) => n,
            Type::F16 | Type::Bf16 => 16,
            Type::F16x2 | Type::Bf16x2 | Type::F32 | Type::Tf32 => 32,
            Type::F64 => 64,
            Type::Predicate => 1,
        }
    }

    pub fn is_float(self) -> bool {
        !matches!(self, Type::Bits(_) | Type::Unsigned(_) | Type::Signed(_) | Type::Predicate)
    }
}

/// `bits` low bits of `v`, sign-extended.
pub fn signed(v: u64, bits: u32) -> i64 {
    ((v << (64 - bits)) as i64) >> (64 - bits)
}

/// `bits` low bits of `v`.
pub fn cut(v: u64, bits: u32) -> u64 {
    if bits >= 64 { v } else { v & ((1 << bits) - 1) }
}

/// Rounds to `precision` bits with exponents `least..=most`, exactly as IEEE 754 says.
fn narrow(x: f64, precision: i32, least: i32, most: i32, round: Round) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = ((x.to_bits() >> 52 & 0x7FF) as i32 - 1023).max(least);
    let ulp = power_of_two(exponent - precision + 1);
    let q = x / ulp;
    let q = match round {
        Round::Nearest => q.round_ties_even(),
        Round::Zero => q.trunc(),
        Round::Down => q.floor(),
        Round::Up => q.ceil(),
        Round::Away => q.round(),
    };
    let largest = power_of_two(most) * (2.0 - power_of_two(1 - precision));
    let result = q * ulp;
    if result.abs() <= largest {
        return result;
    }
    let stays = match round {
        Round::Zero => true,
        Round::Down => x > 0.0,
        Round::Up => x < 0.0,
        _ => false,
    };
    (if stays { largest } else { f64::INFINITY }).copysign(x)
}

/// 2^e for every normal exponent of f64 (what f32 and narrower formats need stays inside).
fn power_of_two(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// `s + e`, where `e` is what rounding lost: the neighbour of `s` with an odd last bit, unless `e` is zero.
fn odd(s: f64, e: f64) -> f64 {
    if e == 0.0 || !s.is_finite() || e.is_nan() || s.to_bits() & 1 == 1 {
        return s;
    }
    f64::from_bits(if (e > 0.0) == (s > 0.0) { s.to_bits() + 1 } else { s.to_bits() - 1 })
}

/// a + b, rounded to odd (Knuth's two-sum gives the error).
pub fn add_odd(a: f64, b: f64) -> f64 {
    let s = a + b;
    let t = s - a;
    odd(s, (a - (s - t)) + (b - t))
}

fn div_odd(a: f64, b: f64) -> f64 {
    let q = a / b;
    let rest = (-q).mul_add(b, a);
    odd(q, if rest == 0.0 || !q.is_finite() || b.is_infinite() { 0.0 } else { rest * b.signum() })
}

fn sqrt_odd(a: f64) -> f64 {
    let q = a.sqrt();
    let rest = (-q).mul_add(q, a);
    odd(q, if q == 0.0 || !q.is_finite() { 0.0 } else { rest })
}

/// The value that `bits` mean in a floating-point type of one element.
pub fn decode(bits: u64, kind: Type) -> f64 {
    match kind {
        Type::F32 => f32::from_bits(bits as u32) as f64,
        Type::Tf32 => f32::from_bits(bits as u32 & !0x1FFF) as f64,
        Type::Bf16 => f32::from_bits((bits as u32) << 16) as f64,
        Type::F16 => half::f16::from_bits(bits as u16).to_f64(),
        _ => f64::from_bits(bits),
    }
}

/// The nearest bits of `x` in a floating-point type of one element; a NaN becomes PTX's canonical one.
pub fn encode(x: f64, kind: Type, round: Round) -> u64 {
    match kind {
        Type::F32 if x.is_nan() => 0x7FFF_FFFF,
        Type::F16 | Type::Bf16 if x.is_nan() => 0x7FFF,
        Type::F32 if round == Round::Nearest => (x as f32).to_bits() as u64,
        Type::F32 => (narrow(x, 24, -126, 127, round) as f32).to_bits() as u64,
        Type::Tf32 if x.is_nan() => 0x7FFF_FFFF,
        Type::Tf32 => (narrow(x, 11, -126, 127, round) as f32).to_bits() as u64,
        Type::Bf16 => ((narrow(x, 8, -126, 127, round) as f32).to_bits() >> 16) as u64,
        Type::F16 => half::f16::from_f32(narrow(x, 11, -14, 15, round) as f32).to_bits() as u64,
        _ => x.to_bits(),
    }
}

/// What a floating-point instruction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    Add,
    Sub,
    Mul,
    Div,
    Fma,
    Min,
    Max,
    Neg,
    Abs,
    Sqrt,
    Rcp,
    Rsqrt,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
}

/// How it computes.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub round: Round,
    pub ftz: bool,
    pub saturate: bool,
    /// `.NaN`: a NaN wins in `min` and `max`.
    pub nan: bool,
    pub relu: bool,
}

/// One element.
fn float(what: Float, kind: Type, how: How, a: u64, b: u64, c: u64) -> u64 {
    // Signs are bits: neg and abs keep NaNs as they are.
    let sign = 1u64 << (kind.bits() - 1);
    match what {
        Float::Neg if !how.ftz => return a ^ sign,
        Float::Abs if !how.ftz => return a & !sign,
        _ => {}
    }
    let flush = |x: f64| if how.ftz && x.abs() < f32::MIN_POSITIVE as f64 { 0f64.copysign(x) } else { x };
    let (a, b, c) = (flush(decode(a, kind)), flush(decode(b, kind)), flush(decode(c, kind)));
    let wide = kind == Type::F64;
    let smaller = |a: f64, b: f64| a < b || (a == b && a.is_sign_negative());
    let x = match what {
        Float::Add if wide => a + b,
        Float::Sub if wide => a - b,
        Float::Div if wide => a / b,
        Float::Sqrt if wide => a.sqrt(),
        Float::Fma if wide => a.mul_add(b, c),
        Float::Add => zero_sum(a, b, how.round).unwrap_or_else(|| add_odd(a, b)),
        Float::Sub => zero_sum(a, -b, how.round).unwrap_or_else(|| add_odd(a, -b)),
        // Products of at most 24 bits are exact in f64.
        Float::Mul => a * b,
        Float::Fma => zero_sum(a * b, c, how.round).unwrap_or_else(|| add_odd(a * b, c)),
        Float::Div => div_odd(a, b),
        Float::Sqrt => sqrt_odd(a),
        Float::Rcp => div_odd(1.0, a),
        Float::Min | Float::Max if a.is_nan() || b.is_nan() => match (how.nan, a.is_nan()) {
            (true, _) => f64::NAN,
            (_, true) => b,
            _ => a,
        },
        Float::Min => {
            if smaller(a, b) {
                a
            } else {
                b
            }
        }
        Float::Max => {
            if smaller(a, b) {
                b
            } else {
                a
            }
        }
        Float::Neg => -a,
        Float::Abs => a.abs(),
        Float::Rsqrt => 1.0 / a.sqrt(),
        Float::Ex2 => a.exp2(),
        Float::Lg2 => a.log2(),
        Float::Sin => a.sin(),
        Float::Cos => a.cos(),
        Float::Tanh => a.tanh(),
    };
    // `.sat` clamps before rounding cannot matter: 0 and 1 are representable. A NaN becomes 0.
    let x = if how.saturate { if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) } } else { x };
    let x = if how.relu && x < 0.0 { 0.0 } else { x };
    let bits = encode(x, kind, how.round);
    if how.ftz && kind == Type::F32 { encode(flush(decode(bits, kind)), kind, Round::Nearest) } else { bits }
}

/// An exact zero from x + (−x) is −0 when rounding down, else +0.
fn zero_sum(a: f64, b: f64, round: Round) -> Option<f64> {
    (round == Round::Down && a == -b && a != 0.0).then_some(-0.0)
}

/// The lane function of a floating-point instruction, packed types included.
pub fn float_lane(what: Float, kind: Type, how: How) -> Lane {
    let half = match kind {
        Type::F16x2 => Type::F16,
        Type::Bf16x2 => Type::Bf16,
        _ => return Arc::new(move |a, b, c| float(what, kind, how, a, b, c)),
    };
    Arc::new(move |a, b, c| {
        let low = float(what, half, how, a & 0xFFFF, b & 0xFFFF, c & 0xFFFF);
        let high = float(what, half, how, a >> 16 & 0xFFFF, b >> 16 & 0xFFFF, c >> 16 & 0xFFFF);
        low | high << 16
    })
}

/// Whether `a` stands in this relation to `b`.
pub fn compares<T: PartialOrd>(how: Compare, a: T, b: T) -> bool {
    use Compare::*;
    let ordered = a.partial_cmp(&b).is_some();
    match how {
        Eq => a == b,
        Ne => ordered && a != b,
        Lt => a < b,
        Le => a <= b,
        Gt => a > b,
        Ge => a >= b,
        Equ => !ordered || a == b,
        Neu => a != b,
        Ltu => !ordered || a < b,
        Leu => !ordered || a <= b,
        Gtu => !ordered || a > b,
        Geu => !ordered || a >= b,
        Num => ordered,
        Nan => !ordered,
    }
}

/// A comparison of any type of one element.
pub fn compare_lane(how: Compare, kind: Type, ftz: bool) -> Lane {
    let bits = kind.bits();
    if kind.is_float() {
        let flush = move |x: f64| if ftz && x.abs() < f32::MIN_POSITIVE as f64 { 0.0 } else { x };
        return Arc::new(move |a, b, _| compares(how, flush(decode(a, kind)), flush(decode(b, kind))) as u64);
    }
    match kind {
        Type::Signed(_) => Arc::new(move |a, b, _| compares(how, signed(a, bits), signed(b, bits)) as u64),
        _ => Arc::new(move |a, b, _| compares(how, cut(a, bits), cut(b, bits)) as u64),
    }
}

/// `cvt`: from, to, rounding of the fraction to an integer (`integer`), rounding of the result.
#[derive(Clone, Copy, Debug)]
pub struct Convert {
    pub from: Type,
    pub to: Type,
    pub integer: Option<Round>,
    pub round: Round,
    pub ftz: bool,
    pub saturate: bool,
    pub relu: bool,
}

impl Convert {
    fn run(&self, a: u64) -> u64 {
        let bits = self.to.bits();
        if !self.from.is_float() {
            let v: i128 = if let Type::Signed(n) = self.from { signed(a, n) as i128 } else { cut(a, self.from.bits()) as i128 };
            if !self.to.is_float() {
                return cut(if self.saturate { clamp_integer(v, self.to) } else { v } as u64, bits);
            }
            // 64-bit integers do not fit into f64: round to odd first.
            let near = v as f64;
            let lost = v - near as i128;
            let x = if self.to == Type::F64 { near } else { odd(near, lost as f64) };
            let x = if self.saturate { x.clamp(0.0, 1.0) } else { x };
            return encode(x, self.to, self.round);
        }
        let x = decode(a, self.from);
        let flush = |x: f64, of: Type| if self.ftz && of == Type::F32 && x.abs() < f32::MIN_POSITIVE as f64 { 0f64.copysign(x) } else { x };
        let x = flush(x, self.from);
        let x = match self.integer {
            None => x,
            Some(Round::Nearest) => x.round_ties_even(),
            Some(Round::Zero) => x.trunc(),
            Some(Round::Down) => x.floor(),
            Some(Round::Up) => x.ceil(),
            Some(Round::Away) => x.round(),
        };
        if !self.to.is_float() {
            // Out of range clamps, a NaN is 0 (PTX ISA, cvt): except that to 64 bits it is 2^63.
            if x.is_nan() {
                return if bits == 64 { 1 << 63 } else { 0 };
            }
            return cut(clamp_integer(x as i128, self.to) as u64, bits);
        }
        let x = if self.saturate { if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) } } else { x };
        let x = if self.relu && x < 0.0 { 0.0 } else { x };
        let bits = encode(x, self.to, self.round);
        if self.ftz && self.to == Type::F32 { encode(flush(decode(bits, self.to), self.to), self.to, Round::Nearest) } else { bits }
    }

    /// The conversion as a lane function; packed targets take two f32 and put the first into the upper half.
    pub fn lane(self) -> Lane {
        let half = match self.to {
            Type::Bf16x2 => Type::Bf16,
            Type::F16x2 => Type::F16,
            _ => return Arc::new(move |a, _, _| self.run(a)),
        };
        let one = Convert { to: half, ..self };
        Arc::new(move |a, b, _| one.run(a) << 16 | one.run(b))
    }
}

fn clamp_integer(v: i128, to: Type) -> i128 {
    let bits = to.bits();
    match to {
        Type::Signed(_) => v.clamp(-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        _ => v.clamp(0, (1i128 << bits) - 1),
    }
}

/// The nearest bf16, ties to even; a NaN becomes 0x7FFF.
#[inline(always)]
pub fn bf16(a: u32) -> u32 {
    if f32::from_bits(a).is_nan() { 0x7FFF } else { (a + 0x7FFF + (a >> 16 & 1)) >> 16 }
}
