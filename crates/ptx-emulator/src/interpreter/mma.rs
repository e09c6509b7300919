//! `mma.sync`: D = A·B + C on fragments spread over a warp. A is 16×k by rows, B is k×8 by columns.
//!
//! Layouts: PTX ISA 8.4, section 9.7.14.5 "Matrix multiply-accumulate operation using mma instruction", the tables of
//! m16n8k4, m16n8k8 and m16n8k16.
//!
//! Products are exact, and so is their sum over up to eight k in f64, near enough: one rounding to f32 per eight k. Real
//! tensor cores add the products of a step aligned to the largest and cut off below; no specification says how.

use super::arith::{Type, decode, encode};
use super::lanes::{FULL, Registers};
use super::ops::{Element, Mma, Round};

/// Runs one `mma` for a full warp.
#[inline(always)]
pub fn mma(registers: &mut Registers, m: &Mma) {
    let k = m.k as usize;
    let (mut a, mut b, mut c) = ([[0f64; 16]; 16], [[0f64; 8]; 16], [[0f32; 8]; 16]);
    let (na, nb, _) = m.registers();
    for (register, &slot) in m.a[..na].iter().enumerate() {
        let words = registers.words(slot);
        for lane in 0..32 {
            let (group, thread) = (lane / 4, lane % 4);
            // Registers alternate between the rows `group` and `group + 8`, then move on by half of k.
            let row = group + 8 * (register % 2);
            if m.element == Element::Tf32 {
                a[row][thread + 4 * (register / 2)] = value(m.element, words[lane]);
            } else {
                let column = 2 * thread + 8 * (register / 2);
                a[row][column] = value(m.element, words[lane] & 0xFFFF);
                a[row][column + 1] = value(m.element, words[lane] >> 16);
            }
        }
    }
    for (register, &slot) in m.b[..nb].iter().enumerate() {
        let words = registers.words(slot);
        for lane in 0..32 {
            let (group, thread) = (lane / 4, lane % 4);
            if m.element == Element::Tf32 {
                b[thread + 4 * register][group] = value(m.element, words[lane]);
            } else {
                let row = 2 * thread + 8 * register;
                b[row][group] = value(m.element, words[lane] & 0xFFFF);
                b[row + 1][group] = value(m.element, words[lane] >> 16);
            }
        }
    }
    if m.half {
        for (register, &slot) in m.c[..2].iter().enumerate() {
            for (lane, &word) in registers.words(slot).iter().enumerate() {
                let (row, column) = (lane / 4 + 8 * register, 2 * (lane % 4));
                c[row][column] = value(Element::F16, word & 0xFFFF) as f32;
                c[row][column + 1] = value(Element::F16, word >> 16) as f32;
            }
        }
    } else {
        for (register, &slot) in m.c.iter().enumerate() {
            for (lane, &word) in registers.words(slot).iter().enumerate() {
                c[lane / 4 + 8 * (register / 2)][2 * (lane % 4) + register % 2] = f32::from_bits(word);
            }
        }
    }
    for start in (0..k).step_by(8) {
        for row in 0..16 {
            let mut sum = [0f64; 8];
            for n in 0..8 {
                sum[n] = c[row][n] as f64;
            }
            for i in start..(start + 8).min(k) {
                let x = a[row][i];
                for n in 0..8 {
                    sum[n] = x.mul_add(b[i][n], sum[n]);
                }
            }
            for n in 0..8 {
                c[row][n] = sum[n] as f32;
            }
        }
    }
    if m.half {
        for (register, &slot) in m.d[..2].iter().enumerate() {
            let words = std::array::from_fn(|lane| {
                let (row, column) = (lane / 4 + 8 * register, 2 * (lane % 4));
                let bits = |x: f32| encode(x as f64, Type::F16, Round::Nearest) as u32;
                bits(c[row][column]) | bits(c[row][column + 1]) << 16
            });
            registers.set_words(slot, FULL, &words);
        }
    } else {
        for (register, &slot) in m.d.iter().enumerate() {
            let words = std::array::from_fn(|lane| c[lane / 4 + 8 * (register / 2)][2 * (lane % 4) + register % 2].to_bits());
            registers.set_words(slot, FULL, &words);
        }
    }
}

#[inline(always)]
fn value(element: Element, bits: u32) -> f64 {
    match element {
        Element::Bf16 => f32::from_bits(bits << 16) as f64,
        // The lower 13 bits of a tf32 are ignored.
        Element::Tf32 => f32::from_bits(bits & !0x1FFF) as f64,
        Element::F16 => decode(bits as u64, Type::F16),
    }
}
