//! `ex2.approx` and `lg2.approx` in a form that runs as vectors: polynomials in f64, rounded once to f32.
//!
//! PTX allows 2 ulp for `ex2` and 2^-22 for `lg2`; these are within one half ulp and a hair. They are written out, and not
//! taken from the machine's mathematical library, so that a kernel gives the same bits on every machine.

/// Flushes a subnormal to zero.
#[inline(always)]
pub fn flush(a: u32) -> u32 {
    if a & 0x7F80_0000 == 0 { a & 0x8000_0000 } else { a }
}

/// 2^a.
#[inline(always)]
pub fn exp2(a: u32) -> u32 {
    let x = f32::from_bits(a) as f64;
    // Beyond this everything is 0 or infinite; a NaN goes through `max` and `min` as a number and is put back below.
    #[allow(clippy::manual_clamp)] // `clamp` would keep the NaN
    let bounded = x.max(-300.0).min(300.0);
    // 1.5 · 2^52: adding it rounds to an integer, which then stands in the lower bits.
    const SHIFT: f64 = 6755399441055744.0;
    let shifted = bounded + SHIFT;
    let f = bounded - (shifted - SHIFT);
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    // Taylor's series of 2^f; |f| ≤ 1/2, so the first term left out is 2·10^-13.
    const C: [f64; 11] = [
        1.0,
        std::f64::consts::LN_2,
        0.24022650695910072,
        0.05550410866482158,
        0.009618129107628477,
        0.0013333558146428443,
        0.00015403530393381608,
        1.525273380405984e-5,
        1.3215486790144307e-6,
        1.0178086009239699e-7,
        7.054911620801123e-9,
    ];
    let mut p = C[10];
    for c in C[..10].iter().rev() {
        p = p * f + c;
    }
    let y = if x.is_nan() { f64::NAN } else { p * scale };
    (y as f32).to_bits()
}

/// log2(a).
#[inline(always)]
pub fn log2(a: u32) -> u32 {
    let x = f32::from_bits(a) as f64;
    // A subnormal f32 is a normal f64: exponent and mantissa can be taken apart. The mantissa lies around 1.
    let bits = x.to_bits();
    let offset = bits.wrapping_sub(0x3FE6_A09E_667F_3BCD);
    let exponent = (offset as i64 >> 52) as i32 as f64;
    let m = f64::from_bits(bits.wrapping_sub(offset & (0xFFF << 52)));
    // log2(m) = 2/ln 2 · artanh(s), s = (m − 1)/(m + 1), |s| ≤ 0.172: the first term left out is s^15/15 ≈ 2·10^-13.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0))))));
    let y = exponent + s * series * 2.885390081777927;
    let y = if x == 0.0 {
        f64::NEG_INFINITY
    } else if x == f64::INFINITY {
        x
    } else if x < 0.0 || x.is_nan() {
        f64::NAN
    } else {
        y
    };
    (y as f32).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_half_an_ulp_and_a_hair() {
        let mut worst = [0f64; 2];
        for i in (0..=u32::MAX).step_by(10007) {
            let x = f32::from_bits(i);
            for (k, (got, want)) in [(f32::from_bits(exp2(i)), (x as f64).exp2()), (f32::from_bits(log2(i)), (x as f64).log2())].into_iter().enumerate() {
                if want.is_nan() || (want as f32).is_infinite() || want == 0.0 {
                    assert!(got.to_bits() == (want as f32).to_bits() || (got.is_nan() && want.is_nan()), "{k}: {x} gives {got}, want {want}");
                    continue;
                }
                let ulp = (want.abs() as f32).max(f32::MIN_POSITIVE).to_bits();
                let ulp = (f32::from_bits(ulp + 1) - f32::from_bits(ulp)) as f64;
                worst[k] = worst[k].max((got as f64 - want).abs() / ulp);
            }
        }
        assert!(worst[0] < 0.501 && worst[1] < 0.501, "{worst:?}");
    }
}
