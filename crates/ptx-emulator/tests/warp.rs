//! What the lanes of a warp do together: `mma` and `ldmatrix` against plain loops, exchanges, divergence; and what is
//! counted and traced.

use half::{bf16, f16};
use ptx_emulator::{Argument, Buffer, Class, Options, Program, Report, Trace, run};

/// A kernel of one warp (or `threads`) over words `x` → words `y`; `%r2` is the thread, `%d1` and `%d2` the buffers,
/// `%d4` and `%d5` this thread's word in each.
fn launch(threads: u32, body: &str, x: &[u32], outputs: usize, options: &Options) -> (Vec<u32>, Report) {
    let text = format!(
        ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 px, .param .u64 py)\n.maxntid {threads}, 1, 1\n{{\n\
         .reg .pred %p<20>;\n.reg .b16 %h<20>;\n.reg .b32 %r<60>;\n.reg .f32 %f<60>;\n.reg .b64 %d<40>;\n.shared .align 16 .b8 s[4096];\n\
         ld.param.u64 %d1, [px];\nld.param.u64 %d2, [py];\nmov.u32 %r2, %tid.x;\nmul.wide.u32 %d3, %r2, 4;\nadd.s64 %d4, %d1, %d3;\nadd.s64 %d5, %d2, %d3;\n{body}\nret;\n}}\n"
    );
    let program = Program::new("test.ptx", &text).unwrap_or_else(|e| panic!("{e}"));
    let (bx, by) = (Buffer::new(4 * x.len()), Buffer::new(4 * outputs));
    bx.write(0, &x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let arguments = [Argument::Buffer { buffer: &bx, bytes: 4 * x.len(), name: "x" }, Argument::Buffer { buffer: &by, bytes: 4 * outputs, name: "y" }];
    let report = run(&program, "k", 1, &arguments, options).unwrap();
    let lines: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
    assert!(lines.is_empty(), "{body}\n{}", lines.join("\n"));
    let mut bytes = vec![0; 4 * outputs];
    by.read(0, &mut bytes);
    (bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect(), report)
}

fn words(threads: u32, body: &str, x: &[u32], outputs: usize) -> Vec<u32> {
    launch(threads, body, x, outputs, &Options::default()).0
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / 8388608.0 - 1.0
        })
        .collect()
}

/// Rows and columns of the elements of a lane, in order, from the tables of PTX ISA 9.7.14.5.
struct Layout {
    a: fn(usize, usize, usize) -> (usize, usize),
    b: fn(usize, usize, usize) -> (usize, usize),
}

/// One `mma`: `per` elements per register, `store` puts a number into its bits, `load` takes it out.
fn mma(name: &str, k: usize, per: usize, layout: Layout, half_sum: bool, store: fn(f32) -> u32, load: fn(u32) -> f32) {
    let (a, b, c) = (numbers(16 * k, 1), numbers(k * 8, 2), numbers(16 * 8, 3));
    let bits = 32 / per;
    let (na, nb, nc) = (16 * k / 32 / per, 8 * k / 32 / per, if half_sum { 2 } else { 4 });
    let mut x = vec![0u32; 32 * (na + nb + nc)];
    let to_half = |v: f32| f16::from_f32(v).to_bits() as u32;
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        let at = |register: usize| register * 32 + lane;
        for i in 0..na * per {
            let (row, column) = (layout.a)(g, t, i);
            x[at(i / per)] |= store(a[row * k + column]) << (bits * (i % per));
        }
        for i in 0..nb * per {
            let (row, column) = (layout.b)(g, t, i);
            x[at(na + i / per)] |= store(b[row * 8 + column]) << (bits * (i % per));
        }
        for i in 0..4 {
            let (row, column) = (g + 8 * (i / 2), 2 * t + i % 2);
            let v = c[row * 8 + column];
            if half_sum {
                x[at(na + nb + i / 2)] |= to_half(v) << (16 * (i % 2));
            } else {
                x[at(na + nb + i)] = v.to_bits();
            }
        }
    }
    let list = |first: usize, n: usize, of: &str| (first..first + n).map(|i| format!("%{of}{i}")).collect::<Vec<_>>().join(", ");
    let mut body = String::new();
    let sum = if half_sum { "r" } else { "f" };
    for i in 0..na + nb {
        body += &format!("ld.global.u32 %r{}, [%d4+{}];\n", 10 + i, 128 * i);
    }
    for i in 0..nc {
        body += &format!("ld.global.b32 %{sum}{}, [%d4+{}];\n", 30 + i, 128 * (na + nb + i));
    }
    body +=
        &format!("mma.sync.aligned.{name} {{{}}}, {{{}}}, {{{}}}, {{{}}};\n", list(40, nc, sum), list(10, na, "r"), list(10 + na, nb, "r"), list(30, nc, sum));
    for i in 0..nc {
        body += &format!("st.global.b32 [%d5+{}], %{sum}{};\n", 128 * i, 40 + i);
    }
    let y = words(32, &body, &x, 32 * nc);
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
            let v = |x: f32| load(store(x)) as f64;
            let start = if half_sum { f16::from_f32(c[row * 8 + column]).to_f64() } else { c[row * 8 + column] as f64 };
            let want = (0..k).fold(start, |s, j| s + v(a[row * k + j]) * v(b[j * 8 + column]));
            let got =
                if half_sum { f16::from_bits((y[(i / 2) * 32 + lane] >> (16 * (i % 2))) as u16).to_f64() } else { f32::from_bits(y[i * 32 + lane]) as f64 };
            assert!((want - got).abs() <= if half_sum { 2e-3 } else { 1e-6 } * want.abs().max(1.0), "{name} [{row}, {column}]: {got}, want {want}");
        }
    }
}

#[test]
fn mma_in_every_shape() {
    let bf = (|v: f32| bf16::from_f32(v).to_bits() as u32, |b: u32| bf16::from_bits(b as u16).to_f32());
    let hf = (|v: f32| f16::from_f32(v).to_bits() as u32, |b: u32| f16::from_bits(b as u16).to_f32());
    // The hardware ignores the lower 13 bits: so does `load`.
    let tf = (|v: f32| v.to_bits(), |b: u32| f32::from_bits(b & !0x1FFF));
    let k16 = || Layout {
        a: |g, t, i| (if i < 2 || (4..6).contains(&i) { g } else { g + 8 }, 2 * t + (i & 1) + if i >= 4 { 8 } else { 0 }),
        b: |g, t, i| (2 * t + (i & 1) + if i >= 2 { 8 } else { 0 }, g),
    };
    let k8 = || Layout { a: |g, t, i| (if i < 2 { g } else { g + 8 }, 2 * t + (i & 1)), b: |g, t, i| (2 * t + i, g) };
    mma("m16n8k16.row.col.f32.bf16.bf16.f32", 16, 2, k16(), false, bf.0, bf.1);
    mma("m16n8k16.row.col.f32.f16.f16.f32", 16, 2, k16(), false, hf.0, hf.1);
    mma("m16n8k16.row.col.f16.f16.f16.f16", 16, 2, k16(), true, hf.0, hf.1);
    mma("m16n8k8.row.col.f32.bf16.bf16.f32", 8, 2, k8(), false, bf.0, bf.1);
    mma("m16n8k8.row.col.f32.f16.f16.f32", 8, 2, k8(), false, hf.0, hf.1);
    mma("m16n8k8.row.col.f16.f16.f16.f16", 8, 2, k8(), true, hf.0, hf.1);
    let t8 = Layout { a: |g, t, i| (if i % 2 == 0 { g } else { g + 8 }, if i < 2 { t } else { t + 4 }), b: |g, t, i| (t + 4 * i, g) };
    mma("m16n8k8.row.col.f32.tf32.tf32.f32", 8, 1, t8, false, tf.0, tf.1);
    let t4 = Layout { a: |g, t, i| (g + 8 * i, t), b: |g, t, _| (t, g) };
    mma("m16n8k4.row.col.f32.tf32.tf32.f32", 4, 1, t4, false, tf.0, tf.1);
}

#[test]
fn ldmatrix_in_every_form() {
    // Four matrices of 8 rows of 8 halves; row r of matrix m starts at 16 · (8 m + r), its element c is 1000 m + 10 r + c.
    let x: Vec<u32> = (0..128u32)
        .map(|w| {
            let (m, r, c) = (w / 32, w / 4 % 8, w % 4 * 2);
            (1000 * m + 10 * r + c) | (1000 * m + 10 * r + c + 1) << 16
        })
        .collect();
    let fill = "ld.global.v4.u32 {%r10, %r11, %r12, %r13}, [%d6]; mov.u32 %r6, s; shl.b32 %r7, %r2, 4; add.s32 %r6, %r6, %r7; st.shared.v4.u32 [%r6], {%r10, %r11, %r12, %r13}; bar.sync 0;";
    let address = "shl.b32 %r7, %r2, 4; cvt.u64.u32 %d7, %r7; add.s64 %d6, %d1, %d7;";
    for (count, registers) in [(1, "{%r20}"), (2, "{%r20, %r21}"), (4, "{%r20, %r21, %r22, %r23}")] {
        for transposed in [false, true] {
            let trans = if transposed { ".trans" } else { "" };
            let stores: String = (0..count).map(|m| format!("st.global.u32 [%d5+{}], %r{};", 128 * m, 20 + m)).collect();
            let y = words(32, &format!("{address} {fill} ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {registers}, [%r6]; {stores}"), &x, 128);
            for m in 0..count {
                for lane in 0..32u32 {
                    let (r, c) = (lane / 4, lane % 4 * 2);
                    let element = |r: u32, c: u32| 1000 * m as u32 + if transposed { 10 * c + r } else { 10 * r + c };
                    assert_eq!(y[m * 32 + lane as usize], element(r, c) | element(r, c + 1) << 16, "x{count}{trans} matrix {m} lane {lane}");
                }
            }
        }
    }
}

#[test]
fn exchanges() {
    let x: Vec<u32> = (0..32).map(|i| i * i + 3).collect();
    let shuffle = |text: &str| {
        words(32, &format!("ld.global.u32 %r6, [%d4]; {text} selp.u32 %r9, 1000000, 0, %p1; add.s32 %r8, %r8, %r9; st.global.u32 [%d5], %r8;"), &x, 32)
    };
    let expect = |f: &dyn Fn(i32) -> (i32, bool)| {
        (0..32)
            .map(|i| {
                let (from, ok) = f(i);
                x[if ok { from } else { i } as usize] + ok as u32 * 1_000_000
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(shuffle("shfl.sync.bfly.b32 %r8|%p1, %r6, 5, 0x1f, -1;"), expect(&|i| (i ^ 5, true)));
    assert_eq!(shuffle("shfl.sync.up.b32 %r8|%p1, %r6, 3, 0, -1;"), expect(&|i| (i - 3, i >= 3)));
    assert_eq!(shuffle("shfl.sync.down.b32 %r8|%p1, %r6, 3, 0x1f, -1;"), expect(&|i| (i + 3, i + 3 < 32)));
    assert_eq!(shuffle("shfl.sync.idx.b32 %r8|%p1, %r6, 7, 0x1f, -1;"), expect(&|_| (7, true)));
    // Segments of 8: c holds (32 − 8) << 8 above the clamp.
    assert_eq!(shuffle("shfl.sync.down.b32 %r8|%p1, %r6, 3, 0x181f, -1;"), expect(&|i| (i + 3, i % 8 + 3 < 8)));
    assert_eq!(shuffle("shfl.sync.up.b32 %r8|%p1, %r6, 3, 0x1800, -1;"), expect(&|i| (i - 3, i % 8 >= 3)));
    assert_eq!(shuffle("shfl.sync.idx.b32 %r8|%p1, %r6, 9, 0x181f, -1;"), expect(&|i| (i / 8 * 8 + 1, true)));
    let one = |text: &str| words(32, &format!("ld.global.u32 %r6, [%d4]; setp.gt.u32 %p1, %r6, 100; {text} st.global.u32 [%d5], %r8;"), &x, 32);
    let ballot = (0..32).fold(0, |b, i| b | ((x[i] > 100) as u32) << i);
    assert_eq!(one("vote.sync.ballot.b32 %r8, %p1, -1;"), vec![ballot; 32]);
    assert_eq!(one("vote.sync.ballot.b32 %r8, !%p1, -1;"), vec![!ballot; 32]);
    assert_eq!(
        one("vote.sync.any.pred %p2, %p1, -1; vote.sync.all.pred %p3, %p1, -1; selp.u32 %r8, 1, 0, %p2; selp.u32 %r9, 2, 0, %p3; or.b32 %r8, %r8, %r9;"),
        vec![1; 32]
    );
    for (op, want) in [
        ("add.s32", x.iter().sum::<u32>()),
        ("min.u32", 3),
        ("max.s32", 31 * 31 + 3),
        ("and.b32", x.iter().fold(u32::MAX, |a, b| a & b)),
        ("or.b32", x.iter().fold(0, |a, b| a | b)),
        ("xor.b32", x.iter().fold(0, |a, b| a ^ b)),
    ] {
        assert_eq!(one(&format!("redux.sync.{op} %r8, %r6, -1;")), vec![want; 32], "{op}");
    }
    // Tiles of 8 lanes name themselves: one instruction, four groups.
    let tiles = one("and.b32 %r10, %r2, 24; mov.u32 %r11, 0xff; shl.b32 %r11, %r11, %r10; redux.sync.add.u32 %r8, %r6, %r11;");
    assert_eq!(tiles[9], x[8..16].iter().sum::<u32>());
    assert_eq!(one("setp.lt.u32 %p2, %r2, 12; mov.u32 %r8, 0; @%p2 activemask.b32 %r8;")[3], 0xFFF);
}

#[test]
fn divergence() {
    // Nested conditions, loops of different lengths, early ends; by thread, against the same on the host.
    let body = "ld.global.u32 %r6, [%d4]; mov.u32 %r8, 0; setp.eq.u32 %p1, %r6, 13; @%p1 ret;\n\
        L: setp.eq.u32 %p2, %r6, 0; @%p2 bra E; and.b32 %r7, %r6, 1; setp.eq.u32 %p3, %r7, 1; @%p3 bra ODD;\n\
        shr.u32 %r6, %r6, 1; add.s32 %r8, %r8, 1; setp.gt.u32 %p4, %r8, 40; @%p4 bra E; bra L;\n\
        ODD: sub.s32 %r6, %r6, 1; add.s32 %r8, %r8, 100; and.b32 %r9, %r6, 2; setp.ne.u32 %p5, %r9, 0; @%p5 add.s32 %r8, %r8, 1000; bra L;\n\
        E: st.global.u32 [%d5], %r8;";
    let x: Vec<u32> = (0..64).map(|i| i * 37 % 113).collect();
    let want = |mut v: u32| {
        if v == 13 {
            return 0;
        }
        let mut n = 0;
        while v != 0 {
            if v & 1 == 1 {
                v -= 1;
                n += 100 + if v & 2 != 0 { 1000 } else { 0 };
            } else {
                v >>= 1;
                n += 1;
                if n > 40 {
                    break;
                }
            }
        }
        n
    };
    assert_eq!(words(64, body, &x, 64), x.iter().map(|&v| want(v)).collect::<Vec<_>>());
    // A switch.
    let switch = "ld.global.u32 %r6, [%d4]; and.b32 %r6, %r6, 3; T: .branchtargets A, B, A, C;\nbrx.idx %r6, T;\nA: mov.u32 %r8, 10; bra E;\nB: mov.u32 %r8, 11; bra E;\nC: mov.u32 %r8, 13;\nE: add.s32 %r8, %r8, %r6; st.global.u32 [%d5], %r8;";
    assert_eq!(words(64, switch, &x, 64), x.iter().map(|v| [10, 12, 12, 16][*v as usize & 3]).collect::<Vec<_>>());
    // All lanes are together again after the condition, or the vote would wait forever.
    words(
        32,
        "setp.lt.u32 %p1, %r2, 7; @%p1 bra A; add.s32 %r6, %r2, 1; bra B; A: add.s32 %r6, %r2, 2; B: shfl.sync.bfly.b32 %r7, %r6, 1, 0x1f, -1;",
        &[0; 32],
        32,
    );
}

#[test]
fn what_is_counted() {
    let counted = Options { stats: true, ..Options::default() };
    let stats = |body: &str| launch(32, body, &vec![0; 4096], 4096, &counted).1.stats;
    // A row of 32 words is four sectors; a column is 32.
    let row = stats("ld.global.f32 %f1, [%d4]; fma.rn.f32 %f1, %f1, %f1, %f1; st.global.f32 [%d5], %f1;");
    assert_eq!((row.loads.bytes, row.loads.sectors, row.stores.sectors, row.flops), (128, 4, 4, 64));
    assert_eq!(row.loads.efficiency(), 1.0);
    let column = stats("mul.wide.u32 %d6, %r2, 128; add.s64 %d6, %d1, %d6; ld.global.f32 %f1, [%d6];");
    assert_eq!((column.loads.bytes, column.loads.sectors), (128, 32));
    assert_eq!(column.loads.efficiency(), 0.125);
    // Banks: a row has no conflict, a stride of 2 has one, of 32 has 31; one word for all has none; a float4 takes four.
    let banks = |by: u32, kind: &str| {
        let value = if kind == "v4.u32" { "{%r6, %r6, %r6, %r6}" } else { "%r6" };
        let b = stats(&format!("mov.u32 %r6, 0; mov.u32 %r7, s; mad.lo.u32 %r7, %r2, {by}, %r7; st.shared.{kind} [%r7], {value};")).banks;
        (b.accesses, b.conflicts)
    };
    assert_eq!((banks(4, "u32"), banks(8, "u32"), banks(128, "u32"), banks(16, "v4.u32")), ((1, 0), (1, 1), (1, 31), (4, 0)));
    let broadcast = stats("mov.u32 %r6, 0; setp.eq.u32 %p1, %r2, 0; @%p1 st.shared.u32 [s], %r6; bar.sync 0; ld.shared.u32 %r7, [s];");
    assert_eq!(broadcast.banks.conflicts, 0);
    let of = |class: Class| broadcast.classes.iter().find(|c| c.0 == class).map_or((0, 0), |c| (c.1.warps, c.1.threads));
    assert_eq!((of(Class::Shared), of(Class::Barrier), of(Class::Tensor)), ((2, 33), (1, 32), (0, 0)));
    let tensor = stats(
        "mov.u32 %r6, 0; mov.f32 %f1, 0f00000000; mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, {%r6, %r6}, {%r6}, {%f1, %f1, %f1, %f1};",
    );
    assert_eq!(tensor.tensor_flops, 2 * 16 * 8 * 8);
    assert!(tensor.to_string().contains("2048 of them on tensor cores"), "{tensor}");
}

#[test]
fn a_trace_shows_values() {
    let options = Options { trace: Some(Trace { block: 0, thread: 3 }), ..Options::default() };
    let trace = launch(
        32,
        "\nld.global.f32 %f1, [%d4];\nfma.rn.f32 %f1, %f1, %f1, %f1;\nsetp.gt.f32 %p1, %f1, 0f00000000;\n@%p1 st.global.f32 [%d5], %f1;",
        &[2.5f32.to_bits(); 32],
        32,
        &options,
    )
    .1
    .trace;
    let lines: Vec<String> = trace.iter().map(|t| t.to_string()).collect();
    assert!(lines.iter().any(|l| l.contains("fma.rn.f32 %f1, %f1, %f1, %f1;    // %f1 = 8.75")), "{}", lines.join("\n"));
    let fma = trace.iter().find(|t| t.text.starts_with("fma")).unwrap();
    assert_eq!(fma.values[0], ("%f1".to_string(), 2.5f32.to_bits() as u64, 8.75f32.to_bits() as u64));
    assert!(lines.last().unwrap().contains("ret;"), "{}", lines.join("\n"));
}
