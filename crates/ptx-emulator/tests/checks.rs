//! What the emulator finds, and that it finds nothing where nothing is wrong: every kind of finding has a kernel with the
//! fault and a twin without it.

use ptx_emulator::{Argument, Buffer, Error, Kind, Options, Program, Report, run};

/// A kernel of `threads` threads with two buffers `x` (`%d1`) and `y` (`%d2`) and a number (`%r1`); `%r2` is the thread,
/// `%d3` four times the thread, `%r3` the block.
fn ptx(threads: u32, shared: u32, body: &str) -> String {
    format!(
        ".version 8.4\n.target sm_80\n.address_size 64\n\
         .visible .entry k(.param .u64 px, .param .u64 py, .param .u32 pn)\n.maxntid {threads}, 1, 1\n{{\n\
         .reg .pred %p<20>;\n.reg .b16 %h<20>;\n.reg .b32 %r<60>;\n.reg .f32 %f<60>;\n.reg .b64 %d<40>;\n\
         .shared .align 16 .b8 s[{shared}];\n.local .align 16 .b8 l[64];\n\
         ld.param.u64 %d1, [px];\nld.param.u64 %d2, [py];\nld.param.u32 %r1, [pn];\n\
         cvta.to.global.u64 %d1, %d1;\ncvta.to.global.u64 %d2, %d2;\n\
         mov.u32 %r2, %tid.x;\nmov.u32 %r3, %ctaid.x;\nmul.wide.u32 %d3, %r2, 4;\nshl.b32 %r4, %r2, 2;\nmov.u32 %r5, s;\nadd.s32 %r5, %r5, %r4;\n\
         {body}\nret;\n}}\n"
    )
}

struct Run {
    report: Report,
    y: Vec<u32>,
}

fn launch(threads: u32, grid: u32, body: &str) -> Run {
    let text = ptx(threads, 4096, body);
    let program = Program::new("test.ptx", &text).unwrap_or_else(|e| panic!("{e}"));
    let (x, y) = (Buffer::new(4096), Buffer::new(4096));
    let data: Vec<u8> = (0..1024u32).flat_map(u32::to_le_bytes).collect();
    x.write(0, &data);
    y.forget();
    let arguments = [
        Argument::Buffer { buffer: &x, bytes: 4096, name: "x" },
        Argument::Buffer { buffer: &y, bytes: 4096, name: "y" },
        Argument::Bytes(&7u32.to_le_bytes()),
    ];
    let report = run(&program, "k", grid, &arguments, &Options { threads: 2, ..Options::default() }).unwrap_or_else(|e| panic!("{e}"));
    let mut bytes = vec![0; 4096];
    y.read(0, &mut bytes);
    Run { report, y: bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect() }
}

#[track_caller]
fn finds(kind: Kind, threads: u32, grid: u32, body: &str) -> String {
    let report = launch(threads, grid, body).report;
    let Some(found) = report.findings.iter().find(|f| f.kind == kind) else { panic!("expected {kind:?}, found {:?}", report.findings) };
    found.to_string()
}

#[track_caller]
fn clean(threads: u32, grid: u32, body: &str) -> Vec<u32> {
    let run = launch(threads, grid, body);
    let lines: Vec<String> = run.report.findings.iter().map(|f| f.to_string()).collect();
    assert!(lines.is_empty(), "expected no findings:\n{}", lines.join("\n"));
    run.y
}

const ADDRESS: &str = "add.s64 %d4, %d1, %d3; add.s64 %d5, %d2, %d3;";

#[test]
fn out_of_bounds() {
    let load = |offset: i64| format!("{ADDRESS} ld.global.u32 %r6, [%d4+{offset}]; st.global.u32 [%d5], %r6;");
    clean(32, 1, &load(4096 - 128));
    let text = finds(Kind::OutOfBounds, 32, 1, &load(4096 - 124));
    assert!(text.contains("thread 31 reads bytes 4096..4100 of `x`, which has 4096 bytes in use"), "{text}");
    // A negative index is named after the buffer it was meant for, not after its neighbour.
    let text = finds(Kind::OutOfBounds, 32, 1, &format!("{ADDRESS} mov.u32 %r6, 1; st.global.u32 [%d5+-4], %r6;"));
    assert!(text.contains("thread 0 writes bytes -4..0 of `y`"), "{text}");
    let text = finds(Kind::OutOfBounds, 32, 1, "mov.u64 %d4, 16; ld.global.u32 %r6, [%d4];");
    assert!(text.contains("null pointer"), "{text}");
    finds(Kind::OutOfBounds, 32, 1, "st.shared.u32 [%r5+4000], %r2;");
    clean(32, 1, "st.shared.u32 [%r5+3968], %r2;");
    finds(Kind::OutOfBounds, 32, 1, "mov.u64 %d4, l; st.local.u32 [%d4+64], %r2;");
    clean(32, 1, "mov.u64 %d4, l; st.local.u32 [%d4+60], %r2;");
}

#[test]
fn a_load_out_of_bounds_is_zero_and_a_store_is_dropped() {
    let run = launch(32, 1, &format!("{ADDRESS} ld.global.u32 %r6, [%d4+4032]; add.s32 %r6, %r6, 1; st.global.u32 [%d5], %r6; st.global.u32 [%d5+4092], %r6;"));
    assert_eq!(run.report.findings.len(), 2);
    // The store hits the last word from lane 0 only.
    assert_eq!((run.y[15], run.y[16], run.y[31], run.y[1023]), (1024, 1, 1, 1009));
    assert_eq!(run.report.more, 15 + 30);
}

#[test]
fn misaligned() {
    let store = |by: u32| format!("{ADDRESS} st.global.u32 [%d5+{by}], %r2;");
    clean(32, 1, &store(4));
    let text = finds(Kind::Misaligned, 32, 1, &store(2));
    assert!(text.contains("4 bytes at offset 2 of `y`"), "{text}");
    finds(Kind::Misaligned, 2, 1, "ld.global.v4.u32 {%r6, %r7, %r8, %r9}, [%d1+4];");
    clean(2, 1, "ld.global.v4.u32 {%r6, %r7, %r8, %r9}, [%d1+16];");
}

#[test]
fn reads_of_what_nobody_wrote() {
    let text = finds(Kind::Unwritten, 32, 1, "ld.shared.u32 %r6, [%r5];");
    assert!(text.contains("bytes 0..4 of shared memory, which nobody wrote"), "{text}");
    clean(32, 1, "st.shared.u32 [%r5], %r2; ld.shared.u32 %r6, [%r5];");
    finds(Kind::Unwritten, 32, 1, "add.s64 %d5, %d2, %d3; ld.global.u32 %r6, [%d5];");
    clean(32, 1, "add.s64 %d5, %d2, %d3; st.global.u32 [%d5], %r2; ld.global.u32 %r6, [%d5];");
    finds(Kind::Unwritten, 32, 1, "mov.u64 %d4, l; st.local.u16 [%d4], %r2; ld.local.u32 %r6, [%d4];");
    clean(32, 1, "mov.u64 %d4, l; st.local.u16 [%d4], %r2; st.local.u16 [%d4+2], %r2; ld.local.u32 %r6, [%d4];");
    // Shared memory is new in every block.
    finds(Kind::Unwritten, 32, 4, "setp.ne.u32 %p1, %r3, 0; @%p1 bra L; st.shared.u32 [%r5], %r2; L: ld.shared.u32 %r6, [%r5];");
}

/// Thread t writes word t and reads word 63 − t.
fn exchange(between: &str) -> String {
    format!(
        "st.shared.u32 [%r5], %r2; {between} mov.u32 %r7, s; sub.s32 %r6, 63, %r2; shl.b32 %r6, %r6, 2; add.s32 %r7, %r7, %r6; \
         ld.shared.u32 %r8, [%r7]; add.s64 %d5, %d2, %d3; st.global.u32 [%d5], %r8;"
    )
}

#[test]
fn races_in_shared_memory() {
    let text = finds(Kind::Race, 64, 1, &exchange(""));
    assert!(text.contains("race in shared memory") && text.contains("with no barrier between them"), "{text}");
    let y = clean(64, 1, &exchange("bar.sync 0;"));
    assert!((0..64).all(|t| y[t] == 63 - t as u32));
    // A barrier of the warp does not order two warps.
    finds(Kind::Race, 64, 1, &exchange("bar.warp.sync 0xffffffff;"));
    // A read, then a write by another, needs a barrier as well.
    let reuse = |between: &str| format!("{} {between} st.shared.u32 [%r5], %r2;", exchange("bar.sync 0;"));
    finds(Kind::Race, 64, 1, &reuse(""));
    clean(64, 1, &reuse("bar.sync 0;"));
    // Two writers.
    finds(Kind::Race, 64, 1, "mov.u32 %r6, s; st.shared.u32 [%r6], %r2;");
    clean(64, 1, "mov.u32 %r6, s; setp.eq.u32 %p1, %r2, 5; @%p1 st.shared.u32 [%r6], %r2;");
}

/// The same inside a warp: lane t writes word t, reads word t ^ 1.
fn neighbours(between: &str) -> String {
    format!("st.shared.u32 [%r5], %r2; {between} xor.b32 %r6, %r5, 4; ld.shared.u32 %r8, [%r6]; add.s64 %d5, %d2, %d3; st.global.u32 [%d5], %r8;")
}

#[test]
fn races_inside_a_warp() {
    finds(Kind::Race, 32, 1, &neighbours(""));
    let y = clean(32, 1, &neighbours("bar.warp.sync -1;"));
    assert!((0..32).all(|t| y[t] == t as u32 ^ 1));
    // shfl is no barrier for memory.
    finds(Kind::Race, 32, 1, &neighbours("shfl.sync.bfly.b32 %r9|%p1, %r2, 1, 0x1f, -1;"));
    // Pairs that meet are ordered; other pairs are not.
    let pairs = |members: &str| format!("and.b32 %r10, %r2, 30; mov.u32 %r11, {members}; shl.b32 %r11, %r11, %r10; bar.warp.sync %r11;");
    clean(32, 1, &neighbours(&pairs("3")));
    let far = neighbours(&pairs("3")).replace("xor.b32 %r6, %r5, 4", "xor.b32 %r6, %r5, 8");
    finds(Kind::Race, 32, 1, &far);
    // Lanes 0 and 1 meet, then 1 and 2, so 0 comes before 2.
    let chain = |last: u32| {
        format!(
            "setp.ne.u32 %p1, %r2, 0; @%p1 bra A; st.shared.u32 [%r5], %r2; bar.warp.sync 3; bra E; \
             A: setp.ne.u32 %p1, %r2, 1; @%p1 bra B; bar.warp.sync 3; bar.warp.sync {}; bra E; \
             B: setp.ne.u32 %p1, %r2, 2; @%p1 bra E; bar.warp.sync {}; mov.u32 %r6, s; ld.shared.u32 %r7, [%r6]; E:",
            last, last
        )
    };
    clean(3, 1, &chain(6));
}

#[test]
fn halves_of_a_word_belong_to_two_threads() {
    clean(
        64,
        1,
        "mov.u32 %r6, s; shl.b32 %r7, %r2, 1; add.s32 %r6, %r6, %r7; cvt.u16.u32 %h1, %r2; st.shared.u16 [%r6], %h1; bar.sync 0; ld.shared.u32 %r8, [s+4];",
    );
    let global = |by: u32| {
        format!(
            "shl.b32 %r7, %r2, 1; mad.lo.s32 %r7, %r3, {by}, %r7; cvt.u64.u32 %d4, %r7; add.s64 %d4, %d2, %d4; cvt.u16.u32 %h1, %r2; st.global.u16 [%d4], %h1;"
        )
    };
    // Blocks of 33 threads meet inside a word.
    clean(33, 4, &global(66));
    finds(Kind::Race, 33, 4, &global(64));
}

#[test]
fn races_in_global_memory() {
    let write = |stride: u32| format!("mad.lo.s32 %r6, %r3, {stride}, %r2; mul.wide.u32 %d4, %r6, 4; add.s64 %d4, %d2, %d4; st.global.u32 [%d4], %r2;");
    clean(32, 16, &write(32));
    let text = finds(Kind::Race, 32, 16, &write(31));
    assert!(text.contains("race in `y`") && text.contains("nothing orders blocks"), "{text}");
    // One block reads what another writes.
    let read = "setp.eq.u32 %p1, %r3, 0; add.s64 %d5, %d2, %d3; @%p1 st.global.u32 [%d5], %r2; @!%p1 ld.global.u32 %r6, [%d5];";
    assert!(launch(32, 2, read).report.findings.iter().any(|f| matches!(f.kind, Kind::Race | Kind::Unwritten)));
    // Inside a block a barrier orders.
    let inside = |between: &str| {
        format!(
            "add.s64 %d5, %d2, %d3; st.global.u32 [%d5], %r2; {between} xor.b32 %r6, %r2, 63; mul.wide.u32 %d4, %r6, 4; add.s64 %d4, %d2, %d4; ld.global.u32 %r7, [%d4];"
        )
    };
    finds(Kind::Race, 64, 1, &inside(""));
    clean(64, 1, &inside("bar.sync 0;"));
    // Atomics do not race with each other, but with plain accesses.
    let counts = clean(
        64,
        8,
        "setp.ne.u32 %p1, %r3, 99; mov.u32 %r6, 1; and.b32 %r7, %r2, 3; add.s32 %r7, %r7, 0; red.shared.add.u32 [s+64], %r6;"
            .replace("red.shared.add.u32 [s+64], %r6;", "")
            .as_str(),
    );
    assert_eq!(counts[0], 0);
}

#[test]
fn atomics() {
    let body = |tail: &str| {
        format!(
            "setp.eq.u32 %p1, %r2, 0; mov.u32 %r6, 0; @%p1 st.shared.u32 [s], %r6; bar.sync 0; atom.shared.add.u32 %r7, [s], 2; {tail} bar.sync 0; ld.shared.u32 %r8, [s]; add.s64 %d5, %d2, %d3; st.global.u32 [%d5], %r8;"
        )
    };
    assert_eq!(clean(64, 1, &body(""))[5], 128);
    finds(Kind::Race, 64, 1, &body("ld.shared.u32 %r9, [s];"));
    let text = ptx(32, 16, "red.global.add.f32 [%d1], %f1;");
    let error = Program::new("t.ptx", &text).err().unwrap().to_string();
    assert!(error.contains("floating-point atomics are banned"), "{error}");
}

#[test]
fn missing_waits() {
    let copy = |wait: &str| {
        format!(
            "shl.b32 %r6, %r2, 4; mov.u32 %r7, s; add.s32 %r7, %r7, %r6; cvt.u64.u32 %d4, %r6; add.s64 %d4, %d1, %d4; \
             cp.async.cg.shared.global [%r7], [%d4], 16; cp.async.commit_group; {wait} ld.shared.u32 %r8, [%r7+4]; add.s64 %d5, %d2, %d3; st.global.u32 [%d5], %r8;"
        )
    };
    let text = finds(Kind::MissingWait, 32, 1, &copy(""));
    assert!(text.contains("while a cp.async that thread 0 issued"), "{text}");
    finds(Kind::MissingWait, 32, 1, &copy("cp.async.wait_group 1;"));
    assert_eq!(clean(32, 1, &copy("cp.async.wait_group 0;"))[7], 29);
    clean(32, 1, &copy("cp.async.wait_all;"));
    // After the wait the bytes are there for the thread that waited, for others after a barrier.
    let shared = |between: &str| copy(&format!("cp.async.wait_all; {between} mov.u32 %r9, 496; sub.s32 %r7, %r9, %r6;"));
    finds(Kind::Race, 32, 1, &shared(""));
    clean(32, 1, &shared("bar.sync 0;"));
    // A copy over bytes that others still read.
    let early = |between: &str| {
        format!(
            "st.shared.u32 [%r5], %r2; bar.sync 0; xor.b32 %r6, %r5, 4; ld.shared.u32 %r7, [%r6]; {between} add.s64 %d4, %d1, %d3; cp.async.ca.shared.global [%r5], [%d4], 4; cp.async.wait_all;"
        )
    };
    finds(Kind::Race, 32, 1, &early(""));
    clean(32, 1, &early("bar.sync 0;"));
}

#[test]
fn cp_async_fills_with_zeros() {
    let y = clean(
        8,
        1,
        "shl.b32 %r6, %r2, 4; mov.u32 %r7, s; add.s32 %r7, %r7, %r6; cvt.u64.u32 %d4, %r6; add.s64 %d4, %d1, %d4; add.s64 %d4, %d4, 16; shl.b32 %r8, %r2, 1; \
         cp.async.cg.shared.global [%r7], [%d4], 16, %r8; cp.async.wait_all; ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r7]; \
         cvt.u64.u32 %d6, %r6; add.s64 %d5, %d2, %d6; st.global.v4.u32 [%d5], {%r10, %r11, %r12, %r13};",
    );
    for t in 0..8u32 {
        for i in 0..16 {
            let byte = y[(4 * t + i / 4) as usize].to_le_bytes()[i as usize % 4];
            let source = (4 * t + 4 + i / 4).to_le_bytes()[i as usize % 4];
            assert_eq!(byte, if i < 2 * t { source } else { 0 }, "thread {t} byte {i}");
        }
    }
}

#[test]
fn barriers_that_not_all_reach() {
    let text = finds(Kind::Barrier, 64, 1, "setp.lt.u32 %p1, %r2, 32; @%p1 bra E; bar.sync 0; E:");
    assert!(text.contains("thread 32 waits here, thread 0 has exited"), "{text}");
    clean(64, 1, "setp.lt.u32 %p1, %r2, 32; @%p1 bra E; add.s32 %r6, %r2, 1; E: bar.sync 0;");
    // Half of a warp at another barrier.
    finds(Kind::Barrier, 32, 1, "setp.lt.u32 %p1, %r2, 16; @%p1 bra A; bar.sync 0; bra E; A: bar.sync 1; E:");
    // A barrier for half of the block.
    clean(64, 1, "setp.lt.u32 %p1, %r2, 32; @%p1 bar.sync 1, 32; bar.sync 0;");
}

#[test]
fn warp_wide_instructions_that_not_all_reach() {
    let text =
        finds(Kind::WarpSync, 32, 1, "setp.lt.u32 %p1, %r2, 16; @%p1 bra E; shfl.sync.bfly.b32 %r6, %r2, 1, 0x1f, -1; bar.sync 0; bra F; E: bar.sync 0; F:");
    assert!(text.contains("lanes 0xffff0000 wait here"), "{text}");
    clean(32, 1, "setp.lt.u32 %p1, %r2, 16; @%p1 bra E; shfl.sync.bfly.b32 %r6, %r2, 1, 0x1f, 0xffff0000; E: bar.sync 0;");
    // Threads that have ended are not waited for.
    clean(32, 1, "setp.lt.u32 %p1, %r2, 16; @%p1 ret; vote.sync.ballot.b32 %r6, %p1, -1;");
    // A lane that does not name itself.
    finds(Kind::WarpSync, 32, 1, "shfl.sync.bfly.b32 %r6, %r2, 1, 0x1f, 0xffff;");
    // Lanes meet at different bar.warp.sync.
    clean(32, 1, "setp.lt.u32 %p1, %r2, 16; @%p1 bra A; bar.warp.sync -1; bra E; A: bar.warp.sync -1; E: bar.sync 0;");
}

#[test]
fn registers_that_nothing_was_put_into() {
    let text = finds(Kind::Register, 32, 1, "add.s64 %d5, %d2, %d3; add.s32 %r7, %r6, 1; st.global.u32 [%d5], %r7;");
    assert!(text.contains("uses a register that nothing was put into"), "{text}");
    clean(32, 1, "add.s64 %d5, %d2, %d3; mov.u32 %r6, 4; add.s32 %r7, %r6, 1; st.global.u32 [%d5], %r7;");
    // On one path only; what is chosen counts, not what is at hand.
    let path = |store: &str| format!("setp.lt.u32 %p1, %r2, 16; @%p1 mov.u32 %r6, 4; add.s64 %d5, %d2, %d3; selp.u32 %r8, %r6, %r2, %p1; {store}");
    finds(Kind::Register, 32, 1, &path("st.global.u32 [%d5], %r6;"));
    clean(32, 1, &path("st.global.u32 [%d5], %r8;"));
    clean(32, 1, &path("@%p1 st.global.u32 [%d5], %r6;"));
}

#[test]
fn trap_and_read_only_memory() {
    finds(Kind::Trap, 32, 1, "trap;");
    finds(Kind::ReadOnly, 32, 1, "mov.u64 %d4, pn; cvta.param.u64 %d4, %d4; st.u32 [%d4], %r2;");
}

#[test]
fn an_endless_loop_ends() {
    let text = ptx(32, 16, "L:\nadd.s32 %r6, %r2, 1;\nbra L;");
    let program = Program::new("t.ptx", &text).unwrap();
    let x = Buffer::new(16);
    let buffer = Argument::Buffer { buffer: &x, bytes: 16, name: "x" };
    let error = run(&program, "k", 1, &[buffer, buffer, Argument::Bytes(&[0; 4])], &Options { budget: 100_000, ..Options::default() }).unwrap_err();
    assert!(matches!(&error, Error::Endless { text, .. } if text == "bra L;"), "{error}");
}

#[test]
fn arguments_are_checked() {
    let program = Program::new("t.ptx", &ptx(32, 16, "")).unwrap();
    let x = Buffer::new(16);
    let buffer = Argument::Buffer { buffer: &x, bytes: 16, name: "x" };
    let error = |arguments: &[Argument]| run(&program, "k", 1, arguments, &Options::default()).unwrap_err().to_string();
    assert!(error(&[buffer, buffer]).contains("expected 3 arguments, got 2"));
    assert!(error(&[buffer, buffer, Argument::Bytes(&[0; 8])]).contains("parameter 2 (`pn`): expected 4 bytes, got 8 bytes"));
    assert!(error(&[buffer, buffer, buffer]).contains("expected 4 bytes, got a buffer"));
    let long = Argument::Buffer { buffer: &x, bytes: 17, name: "x" };
    assert!(error(&[buffer, long, Argument::Bytes(&[0; 4])]).contains("at most 16 bytes in use of `x`"));
    assert!(run(&program, "j", 1, &[], &Options::default()).unwrap_err().to_string().contains("no entry `j`: expected one of k"));
}

#[test]
fn what_is_not_known_is_named() {
    let refused = |line: &str| Program::new("t.ptx", &ptx(32, 16, &format!("\n{line}\n"))).err().map(|e| e.to_string());
    for line in [
        "frob.b32 %r1, %r2;",
        "add.rx.f32 %f1, %f2, %f3;",
        "ld.global.u128 %d1, [%d2];",
        "shfl.bfly.b32 %r1, %r2, 1, 31;",
        "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r1}, {%f1};",
        "call f;",
        "bra nowhere;",
        "add.s32 %r1, %r2;",
        "mov.u32 %r1, %clock;",
        "tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, {%f1,%f2}];",
        "add.f32 %r1, %d1, %f1;",
    ] {
        let error = refused(line).unwrap_or_else(|| panic!("`{line}` was taken"));
        assert!(error.starts_with("t.ptx:2") && error.contains(&format!("`{line}`")), "{error}");
    }
}

#[test]
fn access_of_parameters() {
    let access = |body: &str| {
        let a = Program::new("t.ptx", &ptx(32, 64, body)).unwrap().access("k").unwrap().to_vec();
        [(a[0].reads, a[0].writes), (a[1].reads, a[1].writes)]
    };
    assert_eq!(access(&format!("{ADDRESS} ld.global.u32 %r6, [%d4]; st.global.u32 [%d5], %r6;")), [(true, false), (false, true)]);
    assert_eq!(access(&format!("{ADDRESS} ld.global.u32 %r6, [%d5]; st.shared.u32 [s], %r6;")), [(false, false), (true, false)]);
    // One of both.
    assert_eq!(access("setp.eq.u32 %p1, %r1, 0; selp.b64 %d4, %d1, %d2, %p1; st.global.u32 [%d4], %r6;"), [(false, true), (false, true)]);
    // A pointer that went through memory, and one that came from nowhere.
    assert_eq!(access("mov.u64 %d4, l; st.local.u64 [%d4], %d2; ld.local.u64 %d5, [%d4]; st.global.u32 [%d5], %r6;"), [(false, false), (false, true)]);
    assert_eq!(access("ld.global.u64 %d4, [%d1]; st.global.u32 [%d4], %r6;"), [(true, true), (false, true)]);
    // A generic address of shared memory.
    assert_eq!(access("mov.u64 %d4, s; cvta.shared.u64 %d4, %d4; st.u32 [%d4], %r6;"), [(false, false); 2]);
}
