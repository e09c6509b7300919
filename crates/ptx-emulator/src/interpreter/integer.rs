//! Integer arithmetic one lane at a time, for the operations and widths that the interpreter has no vector form of.

use super::arith::{Type, cut, signed};
use super::ops::Lane;
use std::sync::Arc;

/// The lane function of an integer instruction named as in PTX, with its modifiers joined (`mul.hi`, `shf.l.wrap`).
pub fn lane(name: &str, kind: Type, saturate: bool) -> Option<Lane> {
    let bits = kind.bits();
    let is_signed = matches!(kind, Type::Signed(_));
    let value = move |a: u64| if is_signed { signed(a, bits) as i128 } else { cut(a, bits) as i128 };
    let wrap = move |v: i128| cut(v as u64, bits);
    let clamp = move |v: i128| wrap(v.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1));
    Some(match name {
        "add" if saturate => Arc::new(move |a, b, _| clamp(value(a) + value(b))),
        "sub" if saturate => Arc::new(move |a, b, _| clamp(value(a) - value(b))),
        "add" => Arc::new(move |a, b, _| cut(a.wrapping_add(b), bits)),
        "sub" => Arc::new(move |a, b, _| cut(a.wrapping_sub(b), bits)),
        "mul.lo" => Arc::new(move |a, b, _| cut(a.wrapping_mul(b), bits)),
        // Unsigned 64-bit products need all 128 bits.
        "mul.hi" if !is_signed => Arc::new(move |a, b, _| ((cut(a, bits) as u128 * cut(b, bits) as u128) >> bits) as u64),
        "mul.hi" => Arc::new(move |a, b, _| wrap((value(a) * value(b)) >> bits)),
        "mad.lo" => Arc::new(move |a, b, c| cut(a.wrapping_mul(b).wrapping_add(c), bits)),
        "mad.hi" if !is_signed => Arc::new(move |a, b, c| cut((((cut(a, bits) as u128 * cut(b, bits) as u128) >> bits) as u64).wrapping_add(c), bits)),
        "mad.hi" if saturate => Arc::new(move |a, b, c| clamp(((value(a) * value(b)) >> bits) + value(c))),
        "mad.hi" => Arc::new(move |a, b, c| wrap(((value(a) * value(b)) >> bits) + value(c))),
        "mul.wide" => Arc::new(move |a, b, _| cut((value(a) * value(b)) as u64, 2 * bits)),
        "mad.wide" => Arc::new(move |a, b, c| cut(((value(a) * value(b)) as u64).wrapping_add(c), 2 * bits)),
        // By zero: the result is not specified.
        "div" => Arc::new(move |a, b, _| if cut(b, bits) == 0 { cut(u64::MAX, bits) } else { wrap(value(a) / value(b)) }),
        "rem" => Arc::new(move |a, b, _| if cut(b, bits) == 0 { a } else { wrap(value(a) % value(b)) }),
        "min" => Arc::new(move |a, b, _| wrap(value(a).min(value(b)))),
        "max" => Arc::new(move |a, b, _| wrap(value(a).max(value(b)))),
        "abs" => Arc::new(move |a, _, _| wrap(value(a).abs())),
        "neg" => Arc::new(move |a, _, _| wrap(-value(a))),
        "sad" => Arc::new(move |a, b, c| cut(wrap((value(a) - value(b)).abs()).wrapping_add(c), bits)),
        "and" => Arc::new(move |a, b, _| a & b),
        "or" => Arc::new(move |a, b, _| a | b),
        "xor" => Arc::new(move |a, b, _| a ^ b),
        "not" => Arc::new(move |a, _, _| cut(!a, bits)),
        "cnot" => Arc::new(move |a, _, _| (a == 0) as u64),
        "shl" => Arc::new(move |a, b, _| if b >= bits as u64 { 0 } else { cut(a << b, bits) }),
        "shr" => Arc::new(move |a, b, _| wrap(value(a) >> b.min(if is_signed { bits as u64 - 1 } else { bits as u64 }))),
        "popc" => Arc::new(|a, _, _| a.count_ones() as u64),
        "clz" => Arc::new(move |a, _, _| a.leading_zeros() as u64 - (64 - bits as u64)),
        "brev" => Arc::new(move |a, _, _| a.reverse_bits() >> (64 - bits)),
        "bfind" | "bfind.shiftamt" => {
            let amount = name == "bfind.shiftamt";
            Arc::new(move |a, _, _| {
                let v = if is_signed && signed(a, bits) < 0 { cut(!a, bits) } else { cut(a, bits) };
                let Some(top) = v.checked_ilog2() else { return 0xFFFF_FFFF };
                (if amount { bits - 1 - top } else { top }) as u64
            })
        }
        "bfe" => Arc::new(move |a, b, c| {
            let (start, length) = (b & 0xFF, c & 0xFF);
            // Bits past the top are copies of the sign bit of the field (PTX ISA, bfe).
            let top = if !is_signed || length == 0 { 0 } else { a >> (start + length - 1).min(bits as u64 - 1) & 1 };
            (0..bits as u64).fold(0, |d, i| {
                let bit = if i < length && start + i < bits as u64 { a >> (start + i) & 1 } else { top };
                d | bit << i
            })
        }),
        // c holds start and length: see the decoder.
        "bfi" => Arc::new(move |a, b, c| {
            let (start, length) = (c & 0xFF, c >> 8 & 0xFF);
            if start >= bits as u64 {
                return b;
            }
            let field = cut(if length >= 64 { u64::MAX } else { (1 << length) - 1 } << start, bits);
            (b & !field) | (a << start & field)
        }),
        "shf.l.wrap" => Arc::new(|a, b, c| (b << 32 | a) << (c & 31) >> 32 & 0xFFFF_FFFF),
        "shf.l.clamp" => Arc::new(|a, b, c| if c >= 32 { a } else { (b << 32 | a) << c >> 32 & 0xFFFF_FFFF }),
        "shf.r.wrap" => Arc::new(|a, b, c| (b << 32 | a) >> (c & 31) & 0xFFFF_FFFF),
        "shf.r.clamp" => Arc::new(|a, b, c| (b << 32 | a) >> c.min(32) & 0xFFFF_FFFF),
        "prmt" => Arc::new(|a, b, c| permute(a, b, std::array::from_fn(|i| (c >> (4 * i) & 15) as u32))),
        "prmt.f4e" => Arc::new(|a, b, c| permute(a, b, std::array::from_fn(|i| ((c & 3) as u32 + i as u32) & 7))),
        "prmt.b4e" => Arc::new(|a, b, c| permute(a, b, std::array::from_fn(|i| ((c & 3) as u32).wrapping_sub(i as u32) & 7))),
        "prmt.rc8" => Arc::new(|a, b, c| permute(a, b, [(c & 3) as u32; 4])),
        "prmt.ecl" => Arc::new(|a, b, c| permute(a, b, std::array::from_fn(|i| (i as u32).max((c & 3) as u32)))),
        "prmt.ecr" => Arc::new(|a, b, c| permute(a, b, std::array::from_fn(|i| (i as u32).min((c & 3) as u32)))),
        "prmt.rc16" => Arc::new(|a, b, c| permute(a, b, [(c & 1) as u32 * 2, (c & 1) as u32 * 2 + 1, (c & 1) as u32 * 2, (c & 1) as u32 * 2 + 1])),
        "dp4a.u32.u32" => Arc::new(|a, b, c| cut((0..4).fold(c, |s, i| s + (a >> (8 * i) & 255) * (b >> (8 * i) & 255)), 32)),
        "dp4a.s32.s32" => Arc::new(|a, b, c| cut((0..4).fold(c, |s, i| s.wrapping_add((signed(a >> (8 * i), 8) * signed(b >> (8 * i), 8)) as u64)), 32)),
        _ => return None,
    })
}

/// Four bytes of `b:a` picked by selectors; bit 3 of a selector replicates the byte's sign.
fn permute(a: u64, b: u64, selectors: [u32; 4]) -> u64 {
    let bytes = b << 32 | a;
    selectors.iter().enumerate().fold(0, |d, (i, s)| {
        let byte = bytes >> (8 * (s & 7)) & 255;
        let byte = if s & 8 != 0 { if byte & 128 != 0 { 255 } else { 0 } } else { byte };
        d | byte << (8 * i)
    })
}

/// The new value of an integer atomic from its old value and its operands.
pub fn atomic(name: &str, kind: Type) -> Option<Lane> {
    let bits = kind.bits();
    Some(match name {
        "add" | "min" | "max" | "and" | "or" | "xor" => return lane(name, kind, false),
        "exch" => Arc::new(|_, a, _| a),
        "cas" => Arc::new(move |old, a, b| if cut(old, bits) == cut(a, bits) { b } else { old }),
        "inc" => Arc::new(|old, a, _| if old >= a { 0 } else { old + 1 }),
        "dec" => Arc::new(|old, a, _| if old == 0 || old > a { a } else { old - 1 }),
        _ => return None,
    })
}
