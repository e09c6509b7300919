//! Damaged PTX: the parser and the decoder refuse it or take it, but never panic and never take more memory than the text
//! deserves. `TRIMODAL_FUZZ=1000000` sets how many files; the default is what a test run can afford.

use ptx_emulator::Program;

const TEXTS: [&str; 2] = [
    "//\n.version 8.4\n.target sm_80\n.address_size 64\n.global .align 4 .b8 table[8] = {65, 144, 67, 60, 153, 149, 98, 219};\n.const .align 4 .f32 c[2] = {0f3F800000, 0f40000000};\n\
     .visible .entry a(\n\t.param .u64 a_param_0,\n\t.param .u64 .ptr .global .align 16 a_param_1,\n\t.param .align 4 .b8 a_param_2[8]\n)\n.maxntid 256, 1, 1\n.minnctapersm 2\n{\n\
     \t.reg .pred \t%p<9>;\n\t.reg .b16 \t%rs<9>;\n\t.reg .f32 \t%f<9>;\n\t.reg .b32 \t%r<20>;\n\t.reg .b64 \t%rd<20>;\n\t.shared .align 16 .b8 tile[1024];\n\t.local .align 8 .b8 \t__local_depot0[32];\n\
     \t.loc\t1 12 5, function_name $L__info_string0, inlined_at 1 16 3\n\tld.param.u64 \t%rd1, [a_param_0];\n\tld.param.u32 %r1, [a_param_2+4];\n\tcvta.to.global.u64 \t%rd2, %rd1;\n\tmov.u32 \t%r2, %tid.x;\n\tmov.u32 %r3, tile;\n\
     \tsetp.ge.u32 \t%p1, %r2, %r1;\n\t@%p1 bra \t$L__BB0_2;\n\tmul.wide.u32 \t%rd3, %r2, 4;\n\tadd.s64 \t%rd4, %rd2, %rd3;\n\tld.global.nc.L1::no_allocate.L2::128B.f32 \t%f1, [%rd4+-4];\n\tfma.rn.f32 %f2, %f1, 0f3F000000, %f1;\n\
     \t{ cvt.rn.bf16x2.f32 %r6, %f1, %f2;}\n\t{.reg .b16 c;\n mov.b16 c, 0x8000U;\n fma.rn.bf16 %rs4,%rs5,%rs5,c;}\n\tst.global.v2.f32 \t[%rd4], {%f2, %f1};\n$L__BB0_2:\n\tshfl.sync.bfly.b32 \t%r7|%p2, %r6, 16, 31, -1;\n\
     \tvote.sync.ballot.b32 %r8, !%p2, -1;\n\tsetp.lt.and.f32 %p3|%p4, %f1, %f2, !%p1;\n\tmov.b32 {%rs1, %rs2}, %r8;\n\tbar.sync \t0;\n\tret;\n}\n\t.file\t1 \"kernels/a.cu\"\n\t.section\t.debug_str\n\t{\n$L__info_string0:\n.b8 95,90,0\n\t}\n",
    ".version 8.4\n.target sm_80, debug\n.address_size 64\n.extern .func vprintf(.param .b32 x);\n.func (.param .b32 r) f(.param .b32 x)\n{\n ret;\n}\n.entry b(.param .u64 p)\n.reqntid 32\n{\n.reg .pred p, q;\n.reg .b32 %r<40>;\n.reg .f32 %f<20>;\n.reg .b64 %rd<9>;\n.shared .align 16 .b8 s[2][64][40];\n\
     mov.u32 %r1, s;\ncp.async.cg.shared.global [%r1], [%rd1], 16, %r2;\ncp.async.commit_group;\ncp.async.wait_group 1;\nldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r10,%r11,%r12,%r13}, [%r1+32];\n\
     mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r10,%r11,%r12,%r13}, {%r14,%r15}, {%f1,%f2,%f3,%f4};\nmma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1,%f2,%f3,%f4}, {%r10,%r11,%r12,%r13}, {%r14,%r15}, {%f1,%f2,%f3,%f4};\n\
     lop3.b32 %r3, %r1, %r2, %r3, 0x96;\nprmt.b32 %r4, %r1, %r2, 0x5410;\nbfi.b32 %r5, %r4, %r3, 8, 8;\nshf.l.wrap.b32 %r6, %r5, %r4, 7;\natom.global.cas.b32 %r7, [%rd1], %r5, %r6;\nred.shared.add.u32 [%r1], 1;\ncvt.rzi.s32.f32 %r8, %f1;\nex2.approx.ftz.f32 %f5, %f1;\ndiv.full.f32 %f6, %f5, %f1;\n\
     ts: .branchtargets L0, L1;\nbrx.idx %r8, ts;\nL0: bar.warp.sync 0xffffffff;\nL1: redux.sync.max.u32 %r9, %r8, -1;\n@!p exit;\nselp.f32 %f7, 0d3FF0000000000000, %f6, q;\ntrap;\n}\n",
];

#[test]
fn damaged_ptx_never_panics() {
    let count: u64 = std::env::var("TRIMODAL_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    for text in TEXTS {
        Program::new("whole.ptx", text).unwrap_or_else(|e| panic!("{e}"));
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    let taken: u64 = std::thread::scope(|scope| {
        let work: Vec<_> =
            (0..threads).map(|t| scope.spawn(move || (t..count).step_by(threads as usize).filter(|&i| survives(&damage(i))).count() as u64)).collect();
        work.into_iter().map(|w| w.join().expect("a damaged file made the parser panic")).sum()
    });
    println!("{count} damaged files: {taken} taken, {} refused", count - taken);
}

/// Whether a text is taken; then what is made of a kernel before it first runs must go well, too.
fn survives(text: &str) -> bool {
    Program::new("damaged.ptx", text).is_ok_and(|program| {
        program.tracked();
        true
    })
}

/// A text with one to five wounds, the same for the same number.
fn damage(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % n.max(1)
    };
    const ODD: [&str; 28] = [
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ";",
        ",",
        ":",
        "|",
        "!",
        "@",
        "<",
        ">",
        "-",
        "=",
        "%",
        "\"",
        "/*",
        "0x",
        "0f",
        "18446744073709551615",
        "99999999999999999999",
        "\u{fc}",
        "\0",
        ".reg .b32 %r<4294967295>;",
        ".align 3",
        "[2147483648][2147483648]",
    ];
    let mut bytes = TEXTS[random(2)].as_bytes().to_vec();
    for _ in 0..1 + random(5) {
        let (a, n) = (random(bytes.len()), random(12));
        let b = (a + n).min(bytes.len());
        match random(7) {
            0 => drop(bytes.drain(a..b)),
            1 => {
                let piece = bytes[a..b].to_vec();
                let at = random(bytes.len());
                bytes.splice(at..at, piece);
            }
            2 => bytes[a] ^= 1 << random(8),
            3 => bytes[a] = random(256) as u8,
            4 => drop(bytes.splice(a..a, ODD[random(ODD.len())].bytes())),
            5 => bytes.truncate(a.max(1)),
            // Words change places: what is well formed but makes no sense.
            _ => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let words: Vec<&str> = text.split_inclusive([' ', '\n', '\t', ',']).collect();
                let (x, y) = (random(words.len()), random(words.len()));
                let mut words = words;
                words.swap(x, y);
                bytes = words.concat().into_bytes();
            }
        }
        if bytes.is_empty() {
            bytes.push(b' ');
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
