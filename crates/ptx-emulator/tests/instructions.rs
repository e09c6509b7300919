//! Each class of instructions against a computation on the host, on random values and on those where mistakes hide:
//! zeros of both signs, subnormals, infinities, NaNs, the ends of every integer type; in full warps and in part of one.

use half::{bf16, f16};
use ptx_emulator::{Argument, Buffer, Options, Program, run};

/// Values of every kind in the bits of a u64.
fn values() -> Vec<u64> {
    let mut values: Vec<u64> = vec![
        0,
        1,
        2,
        3,
        7,
        31,
        32,
        33,
        63,
        64,
        127,
        128,
        255,
        0x7FFF,
        0x8000,
        0xFFFF,
        0x7F80,
        0xFF80,
        0x7FC0,
        0x3F80,
        0x3F80_BF80,
        0x0001_8001,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        0xFFFF_FFFE,
        0x7F80_0000,
        0xFF80_0000,
        0x7FC0_0000,
        0x0080_0000,
        0x007F_FFFF,
        0x8000_0001,
        0x3F80_0000,
        0xBF80_0000,
        0x4B00_0001,
        0x3F00_0000,
        0x3FC0_0000,
        0x4020_0000,
        0x7F7F_FFFF,
        u64::MAX,
        1 << 63,
        (1 << 63) - 1,
        1 << 40,
        0x3FF0_0000_0000_0000,
        0x7FF0_0000_0000_0000,
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Plain bits, small numbers, and floats near one.
    for _ in 0..40 {
        let r = random();
        values.extend([r, r & 0xFF, 0x3F00_0000 | (r & 0x80FF_FFFF), (0x3F00_3F00 | (r & 0x80FF_80FF)) & 0xFFFF_FFFF]);
    }
    values
}

/// A kernel that runs `body` on a, b, c: as `%da`…, `%ra`…, `%fa`…, `%ha`…, `%ea`… (f64); it leaves its result in `%dr`.
/// Only threads below `%r1` run it.
fn program(body: &str) -> Program {
    let text = format!(
        ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 py, .param .u32 pn)\n.maxntid 96, 1, 1\n{{\n\
         .reg .pred %p<20>, p, q;\n.reg .b16 %h<20>, %ha, %hb, %hc, %hr, %hs;\n.reg .b32 %r<60>, %ra, %rb, %rc, %rr, %rs;\n.reg .f32 %f<60>, %fa, %fb, %fc, %fr;\n.reg .b64 %d<40>, %da, %db, %dc, %dr;\n.reg .f64 %ea, %eb, %ec, %er;\n\
         ld.param.u32 %r1, [pn];\nmov.u32 %r2, %tid.x;\nmov.u32 %r3, %ctaid.x;\nmad.lo.u32 %r2, %r3, 96, %r2;\nsetp.ge.u32 %p1, %r2, %r1;\n@%p1 bra END;\nmul.wide.u32 %d9, %r2, 8;\n\
         ld.param.u64 %d1, [pa];\nadd.s64 %d1, %d1, %d9;\nld.global.u64 %da, [%d1];\nld.param.u64 %d1, [pb];\nadd.s64 %d1, %d1, %d9;\nld.global.u64 %db, [%d1];\nld.param.u64 %d1, [pc];\nadd.s64 %d1, %d1, %d9;\nld.global.u64 %dc, [%d1];\n\
         cvt.u32.u64 %ra, %da;\ncvt.u32.u64 %rb, %db;\ncvt.u32.u64 %rc, %dc;\nmov.b32 %fa, %ra;\nmov.b32 %fb, %rb;\nmov.b32 %fc, %rc;\ncvt.u16.u32 %ha, %ra;\ncvt.u16.u32 %hb, %rb;\ncvt.u16.u32 %hc, %rc;\nmov.b64 %ea, %da;\nmov.b64 %eb, %db;\nmov.b64 %ec, %dc;\n\
         {body}\nld.param.u64 %d1, [py];\nadd.s64 %d1, %d1, %d9;\nst.global.u64 [%d1], %dr;\nEND:\nret;\n}}\n"
    );
    Program::new("test.ptx", &text).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn check(body: &str, same: impl Fn(u64, u64, u64, u64) -> Result<(), String>) {
    let values = values();
    let n = values.len();
    let program = program(body);
    let buffer = |v: &dyn Fn(usize) -> u64| {
        let b = Buffer::new(8 * n);
        b.write(0, &(0..n).flat_map(|i| v(i).to_le_bytes()).collect::<Vec<u8>>());
        b
    };
    for (sb, sc) in [(0, 1), (1, 5), (7, 3), (19, 50), (37, 29), (64, 111), (101, 17), (150, 88)] {
        let (a, b, c, y) = (buffer(&|i| values[i]), buffer(&|i| values[(i + sb) % n]), buffer(&|i| values[(i * 7 + sc) % n]), Buffer::new(8 * n));
        y.forget();
        let bind = |buffer, name| Argument::Buffer { buffer, bytes: 8 * n, name };
        let arguments = [bind(&a, "a"), bind(&b, "b"), bind(&c, "c"), bind(&y, "y"), Argument::Bytes(&(n as u32).to_le_bytes())];
        let report = run(&program, "k", n.div_ceil(96) as u32, &arguments, &Options { threads: 1, ..Options::default() }).unwrap();
        assert!(report.findings.is_empty(), "{body}: {}", report.findings[0]);
        for i in 0..n {
            let mut bytes = [0; 8];
            y.read(8 * i, &mut bytes);
            let (a, b, c) = (values[i], values[(i + sb) % n], values[(i * 7 + sc) % n]);
            if let Err(want) = same(a, b, c, u64::from_le_bytes(bytes)) {
                panic!("{body}\na {a:#x}, b {b:#x}, c {c:#x}: got {:#x}, want {want}", u64::from_le_bytes(bytes));
            }
        }
    }
}

#[track_caller]
fn bits(body: &str, want: impl Fn(u64, u64, u64) -> u64) {
    check(body, |a, b, c, got| if got == want(a, b, c) { Ok(()) } else { Err(format!("{:#x}", want(a, b, c))) });
}

/// A 32-bit integer result in `%rr`.
#[track_caller]
fn word(body: &str, want: impl Fn(u32, u32, u32) -> u32) {
    bits(&format!("{body} cvt.u64.u32 %dr, %rr;"), |a, b, c| want(a as u32, b as u32, c as u32) as u64);
}

#[track_caller]
fn short(body: &str, want: impl Fn(u16, u16, u16) -> u16) {
    bits(&format!("{body} cvt.u64.u16 %dr, %hr;"), |a, b, c| want(a as u16, b as u16, c as u16) as u64);
}

/// An f32 result in `%fr`: bit-equal, any NaN for a NaN.
#[track_caller]
fn float(body: &str, want: impl Fn(f32, f32, f32) -> f32) {
    check(&format!("{body} mov.b32 %rr, %fr; cvt.u64.u32 %dr, %rr;"), |a, b, c, got| {
        let f = |v: u64| f32::from_bits(v as u32);
        let (want, got) = (want(f(a), f(b), f(c)), f(got));
        if want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan()) { Ok(()) } else { Err(format!("{want:?} ({:#x}), not {got:?}", want.to_bits())) }
    });
}

/// An f32 result within `ulp` of the truth, computed in f64.
#[track_caller]
fn near(body: &str, ulp: f64, want: impl Fn(f64) -> f64) {
    check(&format!("{body} mov.b32 %rr, %fr; cvt.u64.u32 %dr, %rr;"), |a, _, _, got| {
        let (want, got) = (want(f32::from_bits(a as u32) as f64), f32::from_bits(got as u32));
        let rounded = want as f32;
        let step = if rounded.is_finite() {
            (f32::from_bits(rounded.abs().max(f32::MIN_POSITIVE).to_bits() + 1) as f64 - rounded.abs().max(f32::MIN_POSITIVE) as f64).abs()
        } else {
            0.0
        };
        if rounded.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan()) || (got as f64 - want).abs() <= ulp * step {
            Ok(())
        } else {
            Err(format!("{want:e}, not {got:e}"))
        }
    });
}

#[test]
fn integers_of_32_bits() {
    word("add.s32 %rr, %ra, %rb;", |a, b, _| a.wrapping_add(b));
    word("sub.s32 %rr, %ra, %rb;", |a, b, _| a.wrapping_sub(b));
    word("add.sat.s32 %rr, %ra, %rb;", |a, b, _| (a as i32).saturating_add(b as i32) as u32);
    word("sub.sat.s32 %rr, %ra, %rb;", |a, b, _| (a as i32).saturating_sub(b as i32) as u32);
    word("mul.lo.s32 %rr, %ra, %rb;", |a, b, _| a.wrapping_mul(b));
    word("mul.hi.u32 %rr, %ra, %rb;", |a, b, _| ((a as u64 * b as u64) >> 32) as u32);
    word("mul.hi.s32 %rr, %ra, %rb;", |a, b, _| ((a as i32 as i64 * b as i32 as i64) >> 32) as u32);
    word("mad.lo.s32 %rr, %ra, %rb, %rc;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    word("mad.hi.u32 %rr, %ra, %rb, %rc;", |a, b, c| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c));
    word("div.u32 %rr, %ra, %rb;", |a, b, _| a.checked_div(b).unwrap_or(u32::MAX));
    word("div.s32 %rr, %ra, %rb;", |a, b, _| if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 });
    word("rem.u32 %rr, %ra, %rb;", |a, b, _| a.checked_rem(b).unwrap_or(a));
    word("rem.s32 %rr, %ra, %rb;", |a, b, _| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 });
    word("min.s32 %rr, %ra, %rb;", |a, b, _| (a as i32).min(b as i32) as u32);
    word("max.s32 %rr, %ra, %rb;", |a, b, _| (a as i32).max(b as i32) as u32);
    word("min.u32 %rr, %ra, %rb;", |a, b, _| a.min(b));
    word("max.u32 %rr, %ra, 77;", |a, _, _| a.max(77));
    word("abs.s32 %rr, %ra;", |a, _, _| (a as i32).wrapping_abs() as u32);
    word("neg.s32 %rr, %ra;", |a, _, _| a.wrapping_neg());
    word("sad.s32 %rr, %ra, %rb, %rc;", |a, b, c| ((a as i32 as i64 - b as i32 as i64).unsigned_abs() as u32).wrapping_add(c));
    word("sad.u32 %rr, %ra, %rb, %rc;", |a, b, c| a.abs_diff(b).wrapping_add(c));
}

#[test]
fn bits_of_32() {
    word("and.b32 %rr, %ra, %rb;", |a, b, _| a & b);
    word("or.b32 %rr, %ra, %rb;", |a, b, _| a | b);
    word("xor.b32 %rr, %ra, -2;", |a, _, _| a ^ 0xFFFF_FFFE);
    word("not.b32 %rr, %ra;", |a, _, _| !a);
    word("cnot.b32 %rr, %ra;", |a, _, _| (a == 0) as u32);
    word("shl.b32 %rr, %ra, %rb;", |a, b, _| a.checked_shl(b).unwrap_or(0));
    word("shr.u32 %rr, %ra, %rb;", |a, b, _| a.checked_shr(b).unwrap_or(0));
    word("shr.s32 %rr, %ra, %rb;", |a, b, _| ((a as i32) >> b.min(31)) as u32);
    word("popc.b32 %rr, %ra;", |a, _, _| a.count_ones());
    word("clz.b32 %rr, %ra;", |a, _, _| a.leading_zeros());
    word("brev.b32 %rr, %ra;", |a, _, _| a.reverse_bits());
    word("bfind.u32 %rr, %ra;", |a, _, _| a.checked_ilog2().unwrap_or(u32::MAX));
    word("bfind.s32 %rr, %ra;", |a, _, _| (if (a as i32) < 0 { !a } else { a }).checked_ilog2().unwrap_or(u32::MAX));
    word("bfind.shiftamt.u32 %rr, %ra;", |a, _, _| a.checked_ilog2().map_or(u32::MAX, |t| 31 - t));
    word("bfe.u32 %rr, %ra, %rb, %rc;", |a, b, c| {
        let (s, n) = (b & 255, c & 255);
        let field = (a as u64) >> s.min(63);
        (if n >= 32 { field } else { field & ((1 << n) - 1) }) as u32
    });
    word("bfe.s32 %rr, %ra, 5, 9;", |a, _, _| ((a << 18) as i32 >> 23) as u32);
    word("bfe.s32 %rr, %ra, 28, 9;", |a, _, _| (a as i32 >> 28) as u32);
    word("bfi.b32 %rr, %ra, %rb, 7, 12;", |a, b, _| (b & !(0xFFF << 7)) | (a & 0xFFF) << 7);
    word("bfi.b32 %rr, %ra, %rb, %rc, 5;", |a, b, c| {
        let s = c & 255;
        if s >= 32 { b } else { (b & !(31 << s)) | (a & 31) << s }
    });
    word("lop3.b32 %rr, %ra, %rb, %rc, 0x96;", |a, b, c| a ^ b ^ c);
    word("lop3.b32 %rr, %ra, %rb, %rc, 0xE8;", |a, b, c| (a & b) | (b & c) | (a & c));
    word("lop3.b32 %rr, %ra, %rb, %rc, 0xF8;", |a, b, c| a | (b & c));
    word("shf.l.wrap.b32 %rr, %ra, %rb, %rc;", |a, b, c| ((((b as u64) << 32 | a as u64) << (c & 31)) >> 32) as u32);
    word("shf.r.wrap.b32 %rr, %ra, %rb, %rc;", |a, b, c| (((b as u64) << 32 | a as u64) >> (c & 31)) as u32);
    word("shf.l.clamp.b32 %rr, %ra, %rb, %rc;", |a, b, c| ((((b as u64) << 32 | a as u64) << c.min(32)) >> 32) as u32);
    word("shf.r.clamp.b32 %rr, %ra, %rb, %rc;", |a, b, c| (((b as u64) << 32 | a as u64) >> c.min(32)) as u32);
    word("prmt.b32 %rr, %ra, %rb, %rc;", |a, b, c| {
        let bytes = (b as u64) << 32 | a as u64;
        (0..4).fold(0, |d, i| {
            let s = c >> (4 * i) & 15;
            let byte = (bytes >> (8 * (s & 7))) as u8;
            d | ((if s & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte }) as u32) << (8 * i)
        })
    });
    word("dp4a.u32.u32 %rr, %ra, %rb, %rc;", |a, b, c| (0..4).fold(c, |s, i| s.wrapping_add((a >> (8 * i) & 255) * (b >> (8 * i) & 255))));
}

#[test]
fn integers_of_64_and_16_bits() {
    bits("add.s64 %dr, %da, %db;", |a, b, _| a.wrapping_add(b));
    bits("sub.s64 %dr, %da, %db;", |a, b, _| a.wrapping_sub(b));
    bits("mul.lo.s64 %dr, %da, %db;", |a, b, _| a.wrapping_mul(b));
    bits("mul.hi.u64 %dr, %da, %db;", |a, b, _| ((a as u128 * b as u128) >> 64) as u64);
    bits("mul.hi.s64 %dr, %da, %db;", |a, b, _| ((a as i64 as i128 * b as i64 as i128) >> 64) as u64);
    bits("mad.lo.s64 %dr, %da, %db, %dc;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    bits("div.u64 %dr, %da, %db;", |a, b, _| a.checked_div(b).unwrap_or(u64::MAX));
    bits("rem.s64 %dr, %da, %db;", |a, b, _| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 });
    bits("mul.wide.u32 %dr, %ra, %rb;", |a, b, _| (a as u32 as u64) * (b as u32 as u64));
    bits("mul.wide.s32 %dr, %ra, %rb;", |a, b, _| (a as i32 as i64 * b as i32 as i64) as u64);
    bits("mad.wide.u32 %dr, %ra, %rb, %dc;", |a, b, c| ((a as u32 as u64) * (b as u32 as u64)).wrapping_add(c));
    bits("mad.wide.s32 %dr, %ra, -3, %dc;", |a, _, c| ((a as i32 as i64 * -3) as u64).wrapping_add(c));
    bits("shl.b64 %dr, %da, %rb;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    bits("shr.s64 %dr, %da, %rb;", |a, b, _| (a as i64 >> (b as u32).min(63)) as u64);
    bits("shr.u64 %dr, %da, %rb;", |a, b, _| a.checked_shr(b as u32).unwrap_or(0));
    bits("min.s64 %dr, %da, %db;", |a, b, _| (a as i64).min(b as i64) as u64);
    bits("max.u64 %dr, %da, %db;", |a, b, _| a.max(b));
    bits("popc.b64 %rr, %da; cvt.u64.u32 %dr, %rr;", |a, _, _| a.count_ones() as u64);
    bits("clz.b64 %rr, %da; cvt.u64.u32 %dr, %rr;", |a, _, _| a.leading_zeros() as u64);
    bits("bfi.b64 %dr, %da, %db, 20, 30;", |a, b, _| (b & !(0x3FFF_FFFF << 20)) | (a & 0x3FFF_FFFF) << 20);
    bits("not.b64 %dr, %da;", |a, _, _| !a);
    short("add.s16 %hr, %ha, %hb;", |a, b, _| a.wrapping_add(b));
    short("sub.s16 %hr, %ha, %hb;", |a, b, _| a.wrapping_sub(b));
    short("mul.lo.s16 %hr, %ha, %hb;", |a, b, _| a.wrapping_mul(b));
    short("mad.lo.s16 %hr, %ha, %hb, %hc;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    bits("shl.b16 %hr, %ha, %rb; cvt.u64.u16 %dr, %hr;", |a, b, _| if b as u32 >= 16 { 0 } else { (a << (b as u32)) & 0xFFFF });
    short("shr.s16 %hr, %ha, 3;", |a, _, _| ((a as i16) >> 3) as u16);
    short("min.s16 %hr, %ha, %hb;", |a, b, _| (a as i16).min(b as i16) as u16);
    short("max.u16 %hr, %ha, %hb;", |a, b, _| a.max(b));
    short("neg.s16 %hr, %ha;", |a, _, _| a.wrapping_neg());
    short("not.b16 %hr, %ha;", |a, _, _| !a);
    word("mul.wide.u16 %rr, %ha, %hb;", |a, b, _| (a as u16 as u32) * (b as u16 as u32));
    word("mul.wide.s16 %rr, %ha, %hb;", |a, b, _| (a as i16 as i32 * b as i16 as i32) as u32);
}

#[test]
fn comparisons_and_selections() {
    let yes = "selp.b32 %rr, 1, 0, p;";
    for (name, f) in [
        ("eq", (|o| o == Some(std::cmp::Ordering::Equal)) as fn(Option<std::cmp::Ordering>) -> bool),
        ("lt", |o| o == Some(std::cmp::Ordering::Less)),
        ("ge", |o| matches!(o, Some(std::cmp::Ordering::Equal | std::cmp::Ordering::Greater))),
        ("ne", |o| o.is_some() && o != Some(std::cmp::Ordering::Equal)),
    ] {
        word(&format!("setp.{name}.s32 p, %ra, %rb; {yes}"), |a, b, _| f((a as i32).partial_cmp(&(b as i32))) as u32);
        word(&format!("setp.{name}.u32 p, %ra, %rb; {yes}"), |a, b, _| f(a.partial_cmp(&b)) as u32);
        word(&format!("setp.{name}.s16 p, %ha, %hb; {yes}"), |a, b, _| f((a as i16).partial_cmp(&(b as i16))) as u32);
        word(&format!("setp.{name}.f32 p, %fa, %fb; {yes}"), |a, b, _| f(f32::from_bits(a).partial_cmp(&f32::from_bits(b))) as u32);
        word(&format!("setp.{name}u.f32 p, %fa, %fb; {yes}"), |a, b, _| {
            let o = f32::from_bits(a).partial_cmp(&f32::from_bits(b));
            (o.is_none() || f(o)) as u32
        });
        bits(&format!("setp.{name}.s64 p, %da, %db; {yes} cvt.u64.u32 %dr, %rr;"), |a, b, _| f((a as i64).partial_cmp(&(b as i64))) as u64);
        bits(&format!("setp.{name}.f64 p, %ea, %eb; {yes} cvt.u64.u32 %dr, %rr;"), |a, b, _| f(f64::from_bits(a).partial_cmp(&f64::from_bits(b))) as u64);
    }
    word(&format!("setp.num.f32 p, %fa, %fb; {yes}"), |a, b, _| (!f32::from_bits(a).is_nan() && !f32::from_bits(b).is_nan()) as u32);
    word(&format!("setp.nan.f32 p, %fa, %fb; {yes}"), |a, b, _| (f32::from_bits(a).is_nan() || f32::from_bits(b).is_nan()) as u32);
    word("setp.lt.u32 %p2, %rc, 100; setp.lt.and.s32 p|q, %ra, %rb, %p2; selp.b32 %rr, 1, 0, p; selp.b32 %rs, 2, 0, q; or.b32 %rr, %rr, %rs;", |a, b, c| {
        let (x, c) = ((a as i32) < (b as i32), c < 100);
        (x && c) as u32 | ((!x && c) as u32 * 2)
    });
    word("setp.lt.u32 p, %rc, 100; setp.lt.xor.s32 p, %ra, %rb, !p; selp.b32 %rr, 1, 0, p;", |a, b, c| (((a as i32) < (b as i32)) ^ (c >= 100)) as u32);
    word("setp.lt.s32 p, %ra, %rb; @p bra A; mov.u32 %rr, 5; bra B; A: mov.u32 %rr, 6; B:", |a, b, _| if (a as i32) < (b as i32) { 6 } else { 5 });
    word("mov.u32 %rr, 1; setp.lt.s32 p, %ra, %rb; @!p add.s32 %rr, %rr, %rc;", |a, b, c| if (a as i32) < (b as i32) { 1 } else { c.wrapping_add(1) });
    word("set.lt.u32.s32 %rr, %ra, %rb;", |a, b, _| if (a as i32) < (b as i32) { u32::MAX } else { 0 });
    word("slct.u32.s32 %rr, %ra, %rb, %rc;", |a, b, c| if c as i32 >= 0 { a } else { b });
    bits("setp.gt.u32 p, %rc, 50; selp.b64 %dr, %da, %db, p;", |a, b, c| if c as u32 > 50 { a } else { b });
    word(
        "setp.lt.s32 p, %ra, 9; setp.gt.s32 q, %rb, 9; and.pred %p2, p, q; or.pred %p3, p, q; xor.pred %p4, %p2, %p3; not.pred %p5, %p4; mov.pred %p6, %p5; selp.b32 %rr, 1, 0, %p6;",
        |a, b, _| (((a as i32) < 9) == ((b as i32) > 9)) as u32,
    );
}

#[test]
fn arithmetic_of_f32() {
    float("add.f32 %fr, %fa, %fb;", |a, b, _| a + b);
    float("sub.rn.f32 %fr, %fa, %fb;", |a, b, _| a - b);
    float("mul.f32 %fr, %fa, 0f40490FDB;", |a, _, _| a * std::f32::consts::PI);
    float("fma.rn.f32 %fr, %fa, %fb, %fc;", |a, b, c| a.mul_add(b, c));
    float("div.rn.f32 %fr, %fa, %fb;", |a, b, _| a / b);
    float("sqrt.rn.f32 %fr, %fa;", |a, _, _| a.sqrt());
    float("rcp.rn.f32 %fr, %fa;", |a, _, _| 1.0 / a);
    float("neg.f32 %fr, %fa;", |a, _, _| -a);
    float("abs.f32 %fr, %fa;", |a, _, _| a.abs());
    let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    float("add.ftz.f32 %fr, %fa, %fb;", |a, b, _| flush(flush(a) + flush(b)));
    float("fma.rn.ftz.f32 %fr, %fa, %fb, %fc;", |a, b, c| flush(flush(a).mul_add(flush(b), flush(c))));
    float("add.sat.f32 %fr, %fa, %fb;", |a, b, _| if (a + b).is_nan() { 0.0 } else { (a + b).clamp(0.0, 1.0) });
    float("copysign.f32 %fr, %fa, %fb;", |a, b, _| b.copysign(a));
    let zero_aware = |a: f32, b: f32, max: bool| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => {
            if a.is_sign_negative() == max {
                b
            } else {
                a
            }
        }
        _ => {
            if (a < b) == max {
                b
            } else {
                a
            }
        }
    };
    float("min.f32 %fr, %fa, %fb;", |a, b, _| zero_aware(a, b, false));
    float("max.f32 %fr, %fa, %fb;", |a, b, _| zero_aware(a, b, true));
    float("max.NaN.f32 %fr, %fa, %fb;", |a, b, _| if a.is_nan() || b.is_nan() { f32::NAN } else { zero_aware(a, b, true) });
    // Directed rounding against intervals: the neighbour that lies on the right side of the exact sum.
    let directed = |exact: f64, up: bool| {
        let near = exact as f32;
        match (near as f64).partial_cmp(&exact) {
            Some(std::cmp::Ordering::Less) if up => near.next_up(),
            Some(std::cmp::Ordering::Greater) if !up => near.next_down(),
            _ => near,
        }
    };
    float("mul.rm.f32 %fr, %fa, %fb;", |a, b, _| directed(a as f64 * b as f64, false));
    float("mul.rp.f32 %fr, %fa, %fb;", |a, b, _| directed(a as f64 * b as f64, true));
    float("mul.rz.f32 %fr, %fa, %fb;", |a, b, _| directed(a as f64 * b as f64, (a as f64 * b as f64) < 0.0));
}

#[test]
fn approximations_are_within_their_bounds() {
    near("ex2.approx.f32 %fr, %fa;", 1.0, |a| a.exp2());
    near("lg2.approx.f32 %fr, %fa;", 1.0, |a| a.log2());
    near("rsqrt.approx.f32 %fr, %fa;", 1.0, |a| 1.0 / a.sqrt());
    near("sqrt.approx.f32 %fr, %fa;", 1.0, |a| a.sqrt());
    near("rcp.approx.f32 %fr, %fa;", 1.0, |a| 1.0 / a);
    near("tanh.approx.f32 %fr, %fa;", 1.0, |a| a.tanh());
    near("sin.approx.f32 %fr, %fa;", 1.0, |a| a.sin());
    near("cos.approx.f32 %fr, %fa;", 1.0, |a| a.cos());
    float("div.approx.f32 %fr, %fa, %fb;", |a, b, _| a / b);
    float("div.full.f32 %fr, %fa, %fb;", |a, b, _| a / b);
    let flush = |x: f64| if x.abs() < f32::MIN_POSITIVE as f64 { 0f64.copysign(x) } else { x };
    near("ex2.approx.ftz.f32 %fr, %fa;", 1.0, |a| flush(flush(a).exp2()));
    near("rcp.approx.ftz.f32 %fr, %fa;", 1.0, |a| flush(1.0 / flush(a)));
}

#[test]
fn half_precision() {
    let b = |v: u16| bf16::from_bits(v).to_f32();
    let canonical = |x: f32| if x.is_nan() { 0x7FFF } else { bf16::from_f32(x).to_bits() };
    // Through f64: products and sums of bf16 are exact there but for sums far apart, where rounding twice is harmless.
    let exact = |x: f64| if x.is_nan() { 0x7FFF } else { bf16::from_f64(x).to_bits() };
    short("fma.rn.bf16 %hr, %ha, %hb, %hc;", move |x, y, z| {
        let (p, z) = (b(x) as f64 * b(y) as f64, b(z) as f64);
        let s = p + z;
        let lost = if s.is_finite() {
            let t = s - p;
            (p - (s - t)) + (z - t)
        } else {
            0.0
        };
        // A tie of bf16 that is only a tie because f64 rounded is broken by what was lost.
        exact(if lost != 0.0 && s.to_bits() & 1 == 0 { f64::from_bits(if (lost > 0.0) == (s > 0.0) { s.to_bits() + 1 } else { s.to_bits() - 1 }) } else { s })
    });
    short("max.bf16 %hr, %ha, %hb;", move |x, y, _| {
        let (p, q) = (b(x), b(y));
        if p.is_nan() {
            if q.is_nan() { 0x7FFF } else { y }
        } else if q.is_nan() {
            x
        } else if p == q {
            if p.is_sign_negative() { y } else { x }
        } else if p > q {
            x
        } else {
            y
        }
    });
    short("neg.bf16 %hr, %ha;", |x, _, _| x ^ 0x8000);
    word("fma.rn.bf16x2 %rr, %ra, %rb, %rc;", move |x, y, z| {
        let one = |s: u32| {
            let p = (b((x >> s) as u16) as f64) * (b((y >> s) as u16) as f64);
            let z = b((z >> s) as u16) as f64;
            let sum = p + z;
            let lost = if sum.is_finite() {
                let t = sum - p;
                (p - (sum - t)) + (z - t)
            } else {
                0.0
            };
            exact(if lost != 0.0 && sum.to_bits() & 1 == 0 {
                f64::from_bits(if (lost > 0.0) == (sum > 0.0) { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
            } else {
                sum
            }) as u32
        };
        one(0) | one(16) << 16
    });
    word("cvt.rn.bf16x2.f32 %rr, %fa, %fb;", move |a, b, _| (canonical(f32::from_bits(a)) as u32) << 16 | canonical(f32::from_bits(b)) as u32);
    let h = |v: u16| f16::from_bits(v).to_f32();
    let to_h = |x: f32| if x.is_nan() { 0x7FFF } else { f16::from_f32(x).to_bits() };
    short("add.f16 %hr, %ha, %hb;", move |x, y, _| to_h(h(x) + h(y)));
    short("mul.f16 %hr, %ha, %hb;", move |x, y, _| to_h(h(x) * h(y)));
    float("cvt.f32.f16 %fr, %ha;", move |a, _, _| h(a.to_bits() as u16));
    word("mov.b32 {%h1, %h2}, %ra; mov.b32 %rr, {%h2, %h1};", |a, _, _| a.rotate_left(16));
    float("mov.b32 %fr, {0, %ha};", move |a, _, _| b(a.to_bits() as u16));
    bits("mov.b64 {%r10, %r11}, %da; mov.b64 %dr, {%r11, %r10};", |a, _, _| a.rotate_left(32));
    bits("mov.b64 {%h1, %h2, %h3, %h4}, %da; mov.b64 %dr, {%h4, %h3, %h2, %h1};", |a, _, _| {
        (0..4).fold(0, |d, i| d | (a >> (16 * i) & 0xFFFF) << (48 - 16 * i))
    });
    bits("cvt.rn.bf16.f32 %hr, %fa; cvt.u64.u16 %dr, %hr;", move |a, _, _| canonical(f32::from_bits(a as u32)) as u64);
    bits("cvt.rn.f16.f32 %hr, %fa; cvt.u64.u16 %dr, %hr;", move |a, _, _| to_h(f32::from_bits(a as u32)) as u64);
}

#[test]
fn conversions() {
    bits("cvt.s64.s32 %dr, %ra;", |a, _, _| a as i32 as i64 as u64);
    bits("cvt.u64.u32 %dr, %ra;", |a, _, _| a as u32 as u64);
    bits("cvt.s64.s16 %dr, %ha;", |a, _, _| a as i16 as i64 as u64);
    word("cvt.u32.u16 %rr, %ha;", |a, _, _| a & 0xFFFF);
    word("cvt.s32.s16 %rr, %ha;", |a, _, _| a as i16 as i32 as u32);
    word("cvt.s32.s8 %rr, %ra;", |a, _, _| a as i8 as i32 as u32);
    word("cvt.u32.u8 %rr, %ra;", |a, _, _| a & 0xFF);
    word("cvt.sat.u8.s32 %rr, %ra;", |a, _, _| (a as i32).clamp(0, 255) as u32);
    float("cvt.rn.f32.s32 %fr, %ra;", |a, _, _| a.to_bits() as i32 as f32);
    float("cvt.rn.f32.u32 %fr, %ra;", |a, _, _| a.to_bits() as f32);
    float("cvt.rz.f32.u32 %fr, %ra;", |a, _, _| {
        let exact = a.to_bits();
        let near = exact as f32;
        if near as f64 > exact as f64 { near.next_down() } else { near }
    });
    float("cvt.rn.f32.u16 %fr, %ha;", |a, _, _| a.to_bits() as u16 as f32);
    float("cvt.rn.f32.s8 %fr, %ra;", |a, _, _| a.to_bits() as i8 as f32);
    check("cvt.rn.f32.s64 %fr, %da; mov.b32 %rr, %fr; cvt.u64.u32 %dr, %rr;", |a, _, _, got| {
        if f32::from_bits(got as u32) == a as i64 as f32 { Ok(()) } else { Err(format!("{}", a as i64 as f32)) }
    });
    for (mode, f) in [("rni", f32::round_ties_even as fn(f32) -> f32), ("rzi", f32::trunc), ("rmi", f32::floor), ("rpi", f32::ceil)] {
        float(&format!("cvt.{mode}.f32.f32 %fr, %fa;"), |a, _, _| f(a));
        word(&format!("cvt.{mode}.s32.f32 %rr, %fa;"), |a, _, _| f(f32::from_bits(a)) as i32 as u32);
        word(&format!("cvt.{mode}.u32.f32 %rr, %fa;"), |a, _, _| f(f32::from_bits(a)) as u32);
        bits(&format!("cvt.{mode}.s64.f32 %dr, %fa;"), |a, _, _| {
            let x = f32::from_bits(a as u32);
            if x.is_nan() { 1 << 63 } else { f(x) as i64 as u64 }
        });
    }
    float("cvt.sat.f32.f32 %fr, %fa;", |a, _, _| if a.is_nan() { 0.0 } else { a.clamp(0.0, 1.0) });
    check("cvt.f64.f32 %er, %fa; mov.b64 %dr, %er;", |a, _, _, got| {
        let want = f32::from_bits(a as u32) as f64;
        if want.to_bits() == got || (want.is_nan() && f64::from_bits(got).is_nan()) { Ok(()) } else { Err(format!("{want}")) }
    });
    check("cvt.rn.f32.f64 %fr, %ea; mov.b32 %rr, %fr; cvt.u64.u32 %dr, %rr;", |a, _, _, got| {
        let (want, got) = (f64::from_bits(a) as f32, f32::from_bits(got as u32));
        if want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan()) { Ok(()) } else { Err(format!("{want}")) }
    });
    word("cvt.rna.tf32.f32 %rr, %fa; and.b32 %rr, %rr, 0x1FFF; setp.nan.f32 p, %fa, %fa; selp.b32 %rr, 0, %rr, p;", |_, _, _| 0);
}

#[test]
fn doubles() {
    let check = |body: &str, f: &dyn Fn(f64, f64, f64) -> f64| {
        check(&format!("{body} mov.b64 %dr, %er;"), |a, b, c, got| {
            let want = f(f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
            if want.to_bits() == got || (want.is_nan() && f64::from_bits(got).is_nan()) { Ok(()) } else { Err(format!("{want}")) }
        });
    };
    check("add.f64 %er, %ea, %eb;", &|a, b, _| a + b);
    check("mul.rn.f64 %er, %ea, %eb;", &|a, b, _| a * b);
    check("fma.rn.f64 %er, %ea, %eb, %ec;", &|a, b, c| a.mul_add(b, c));
    check("div.rn.f64 %er, %ea, %eb;", &|a, b, _| a / b);
    check("sqrt.rn.f64 %er, %ea;", &|a, _, _| a.sqrt());
}
