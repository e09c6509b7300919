//! What came with sm_90: bulk copies, mbarriers, `wgmma`, clusters. Each works as the PTX ISA says, and each mistake that a GPU lets
//! pass in silence is found, while its twin without the mistake is not blamed.

use half::bf16;
use ptx_emulator::{Argument, Buffer, Kind, MapType, Options, Program, Report, Swizzle, TensorMap, run};

/// A kernel with two tensor maps (`%d1`, `%d2`), two buffers (`%d3`, `%d4`) and 64 KiB of shared memory, which starts at `%r1`; `%r2`
/// is the thread, `%p1` is true in all but the first, `%r3` the rank in the cluster.
fn ptx(threads: u32, cluster: u32, body: &str) -> String {
    let of_clusters = if cluster > 1 { format!(".explicitcluster\n.reqnctapercluster {cluster}, 1, 1\n") } else { String::new() };
    format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 s[];\n\
         .visible .entry k(.param .align 64 .b8 mx[128], .param .align 64 .b8 my[128], .param .u64 px, .param .u64 py)\n.maxntid {threads}, 1, 1\n{of_clusters}{{\n\
         .reg .pred %p<20>;\n.reg .b16 %h<9>;\n.reg .b32 %r<90>;\n.reg .f32 %f<200>;\n.reg .b64 %d<40>;\n\
         mov.b64 %d1, mx;\ncvta.param.u64 %d1, %d1;\nmov.b64 %d2, my;\ncvta.param.u64 %d2, %d2;\nld.param.u64 %d3, [px];\nld.param.u64 %d4, [py];\n\
         mov.u32 %r1, s;\nmov.u32 %r2, %tid.x;\nsetp.ne.u32 %p1, %r2, 0;\nmov.u32 %r3, %cluster_ctarank;\n\
         {body}\nret;\n}}\n"
    )
}

struct Launch {
    threads: u32,
    grid: u32,
    cluster: u32,
    x: Vec<u8>,
    y_bytes: usize,
    map_x: TensorMap,
    map_y: TensorMap,
}

/// A tensor of `rows` rows and a box of it.
fn map(dtype: MapType, rows: u64, columns: u64, pitch: u64, box_sizes: [u32; 2], swizzle: Swizzle) -> TensorMap {
    TensorMap { address: 0, dtype, sizes: vec![columns, rows], strides: vec![pitch], box_sizes: box_sizes.to_vec(), swizzle }
}

impl Launch {
    fn new(threads: u32) -> Launch {
        let x: Vec<u8> = (0..4096u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let any = map(MapType::F32, 32, 32, 128, [32, 8], Swizzle::B128);
        Launch { threads, grid: 1, cluster: 1, x, y_bytes: 16384, map_x: any.clone(), map_y: any }
    }

    fn run(&self, body: &str) -> (Report, Vec<u8>) {
        let program = Program::new("test.ptx", &ptx(self.threads, self.cluster, body)).unwrap_or_else(|e| panic!("{e}"));
        let (x, y) = (Buffer::new(self.x.len()), Buffer::new(self.y_bytes));
        x.write(0, &self.x);
        let arguments = [
            Argument::Map { buffer: &x, bytes: x.bytes(), name: "x", map: &self.map_x },
            Argument::Map { buffer: &y, bytes: y.bytes(), name: "y", map: &self.map_y },
            Argument::Buffer { buffer: &x, bytes: x.bytes(), name: "x" },
            Argument::Buffer { buffer: &y, bytes: y.bytes(), name: "y" },
        ];
        let options = Options { dynamic_shared: 65536, budget: 1 << 24, ..Options::default() };
        let report = run(&program, "k", self.grid, &arguments, &options).unwrap_or_else(|e| panic!("{e}"));
        let mut bytes = vec![0; self.y_bytes];
        y.read(0, &mut bytes);
        (report, bytes)
    }

    #[track_caller]
    fn clean(&self, body: &str) -> Vec<u8> {
        let (report, y) = self.run(body);
        let lines: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
        assert!(lines.is_empty(), "expected no findings:\n{}", lines.join("\n"));
        y
    }

    #[track_caller]
    fn finds(&self, kind: Kind, body: &str) -> String {
        let report = self.run(body).0;
        let lines: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
        let Some(found) = report.findings.iter().find(|f| f.kind == kind) else { panic!("expected {kind:?}, found\n{}", lines.join("\n")) };
        found.to_string()
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The mbarrier at `s + 49152 + 8·i`, for `count` arrivals; then everybody meets.
fn init(barriers: &[u32]) -> String {
    let each = |(i, count): (usize, &u32)| format!("mbarrier.init.shared::cta.b64 [%r1+{}], {count};\n", 49152 + 8 * i);
    let all: String = barriers.iter().enumerate().map(each).collect();
    format!("@%p1 bra I;\n{all}fence.mbarrier_init.release.cluster;\nI: bar.sync 0;\n")
}

/// All threads of those who run this wait; in a scope of its own, so that labels may come again.
fn wait(barrier: u32, parity: &str) -> String {
    let at = 49152 + 8 * barrier;
    format!("{{\n.reg .pred q;\nW: mbarrier.try_wait.parity.shared::cta.b64 q, [%r1+{at}], {parity};\n@q bra D;\nbra W;\nD:\n}}\n")
}

/// The first thread sends for the box at (`x`, `y`) to `s + to`, and expects `bytes`.
fn load(to: u32, x: i32, y: i32, bytes: u32) -> String {
    format!(
        "@%p1 bra L{to};\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1+49152], {bytes};\nmov.u32 %r10, {x};\nmov.u32 %r11, {y};\nadd.s32 %r12, %r1, 49152;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1+{to}], [%d1, {{%r10, %r11}}], [%r12];\nL{to}:\n"
    )
}

/// Thread t copies the words t, t + threads, … of the first 1024 bytes of shared memory to y.
fn copy(threads: u32, from: u32) -> String {
    let word = |i: u32| {
        let at = 4 * i * threads;
        format!("ld.shared.u32 %r8, [%r7+{}];\nst.global.u32 [%d9+{at}], %r8;\n", from + at)
    };
    let all: String = (0..256 / threads).map(word).collect();
    format!("shl.b32 %r6, %r2, 2;\nadd.s32 %r7, %r1, %r6;\nmul.wide.u32 %d8, %r2, 4;\nadd.s64 %d9, %d4, %d8;\n{all}")
}

/// Where element (`row`, `column`) of a box of 128-byte rows lies, in bytes.
fn swizzled(row: usize, byte: usize) -> usize {
    row * 128 + ((byte / 16) ^ (row % 8)) * 16 + byte % 16
}

#[test]
fn a_box_comes_swizzled_and_zeros_from_outside() {
    let launch = Launch { map_x: map(MapType::F32, 30, 40, 160, [32, 8], Swizzle::B128), ..Launch::new(128) };
    for (x, y) in [(0, 0), (8, 22), (16, 24), (-5, -3), (39, 29), (100, 0)] {
        let out = floats(&launch.clean(&format!("{}{}{}{}", init(&[1]), load(0, x, y, 1024), wait(0, "0"), copy(128, 0))));
        for row in 0..8i32 {
            for column in 0..32i32 {
                let (i, j) = (y + row, x + column);
                let want = if (0..30).contains(&i) && (0..40).contains(&j) { (i * 40 + j) as f32 } else { 0.0 };
                assert_eq!(out[swizzled(row as usize, 4 * column as usize) / 4], want, "({x}, {y}): row {row}, column {column}");
            }
        }
    }
    // Other swizzles, and bf16: the same bytes, elsewhere.
    for (swizzle, bits) in [(Swizzle::None, 0), (Swizzle::B32, 1), (Swizzle::B64, 3)] {
        let width = [32, 0, 0, 64][bits].max(if bits == 1 { 32 } else { 0 }) as u32;
        let launch = Launch { map_x: map(MapType::Bf16, 32, 256, 512, [width / 2, 1024 / width], swizzle), ..Launch::new(128) };
        let out = launch.clean(&format!("{}{}{}{}", init(&[1]), load(0, 0, 0, 1024), wait(0, "0"), copy(128, 0)));
        for at in 0..1024 {
            let (row, byte) = (at / width as usize, at % width as usize);
            let lies = at ^ ((at >> 7 & bits) << 4);
            assert_eq!(out[lies], launch.x[row * 512 + byte], "{swizzle:?} {at}");
        }
    }
}

#[test]
fn maps_are_checked_and_known_to_be_read_or_written() {
    let body = format!("{}{}{}", init(&[1]), load(0, 0, 0, 1024), wait(0, "0"));
    let body = body + &store("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group", 0, 0, "cp.async.bulk.wait_group.read 0;");
    let program = Program::new("test.ptx", &ptx(128, 1, &body)).unwrap();
    let access: Vec<(bool, bool)> = program.access("k").unwrap().iter().map(|a| (a.reads, a.writes)).collect();
    assert_eq!(access, [(true, false), (false, true), (false, false), (false, false)]);
    Launch::new(128).clean(&body);
    let good = Launch::new(128).map_x;
    assert!(good.check().is_ok());
    let bad = [
        TensorMap { address: 8, ..good.clone() },
        TensorMap { strides: vec![136], ..good.clone() },
        TensorMap { sizes: vec![0, 32], ..good.clone() },
        TensorMap { box_sizes: vec![3, 8], ..good.clone() },
        TensorMap { box_sizes: vec![64, 8], ..good.clone() },
        TensorMap { box_sizes: vec![32, 257], ..good.clone() },
        TensorMap { strides: vec![], ..good.clone() },
    ];
    for map in bad {
        assert!(map.check().is_err(), "{map:?}");
    }
}

#[test]
fn loads_that_nobody_waits_for() {
    let launch = Launch::new(128);
    let with = |bytes: u32, wait: &str| format!("{}{}{wait}{}", init(&[1]), load(0, 0, 0, bytes), copy(128, 0));
    launch.clean(&with(1024, &wait(0, "0")));
    let text = launch.finds(Kind::MissingWait, &with(1024, ""));
    assert!(text.contains("while a bulk copy that thread 0 issued at line"), "{text}");
    launch.finds(Kind::MissingWait, &with(1024, &wait(0, "1")));
    // One warp waits, the others read.
    let first = format!("setp.ge.u32 %p2, %r2, 32;\n@%p2 bra S;\n{}S:\n", wait(0, "0"));
    launch.finds(Kind::MissingWait, &with(1024, &first));
    launch.clean(&with(1024, &format!("{first}bar.sync 0;\n")));
    // The bytes must be those that come.
    let text = launch.finds(Kind::Deadlock, &with(1040, &wait(0, "0")));
    assert!(text.contains("deadlock: warp 0 waits for the phase of parity 0 of the mbarrier at s + 49152, which lacks 0 of 1 arrivals and 16 bytes"), "{text}");
    let text = launch.finds(Kind::Mbarrier, &with(1008, &wait(0, "0")));
    assert!(text.contains("16 bytes more than expected"), "{text}");
    // Where they go must be a multiple of 128.
    launch.finds(Kind::Misaligned, &format!("{}{}{}", init(&[1]), load(64, 0, 0, 1024), wait(0, "0")));
    // Too many arrivals, and an mbarrier that is none.
    launch.finds(Kind::Mbarrier, &format!("{}mbarrier.arrive.shared::cta.b64 _, [%r1+49152], 2;\n", init(&[3])));
    launch.finds(Kind::Mbarrier, "mbarrier.arrive.shared::cta.b64 _, [%r1+49152];\n");
    launch.clean(&format!("{}mbarrier.arrive.shared::cta.b64 %d20, [%r1+49152];\n", init(&[128])));
    // Used before it can be known to be initialised.
    let early = init(&[128]).replace("bar.sync 0;", "");
    launch.finds(Kind::Mbarrier, &format!("{early}mbarrier.arrive.shared::cta.b64 _, [%r1+49152];\n"));
}

#[test]
fn loads_over_what_is_still_read() {
    let launch = Launch::new(128);
    let twice = |between: &str| {
        let second = load(0, 0, 8, 1024).replace("L0", "M0");
        format!("{}{}{}{}{between}{second}{}{}", init(&[1]), load(0, 0, 0, 1024), wait(0, "0"), copy(128, 0), wait(0, "1"), copy(128, 0))
    };
    launch.clean(&twice("bar.sync 0;\n"));
    let text = launch.finds(Kind::Race, &twice(""));
    assert!(text.contains("race in shared memory: thread 0 writes"), "{text}");
    // Two loads in flight to the same place.
    let both = load(0, 0, 0, 2048) + &load(0, 0, 8, 0).replace("L0", "M0");
    launch.finds(Kind::MissingWait, &format!("{}{both}{}", init(&[2]), wait(0, "0")));
}

#[test]
fn one_dimension_without_a_map() {
    let launch = Launch::new(64);
    let body = |bytes: u32| {
        format!(
            "{}@%p1 bra L;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1+49152], 1024;\nadd.s32 %r12, %r1, 49152;\nadd.s64 %d5, %d3, 64;\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d5], {bytes}, [%r12];\nL:\n{}\
             @%p1 bra M;\nadd.s64 %d6, %d4, 4096;\ncp.async.bulk.global.shared::cta.bulk_group [%d6], [%r1], 1024;\n\
             cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%d6], [%r1], 512;\ncp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\nM:\n",
            init(&[1]),
            wait(0, "0")
        )
    };
    let out = floats(&launch.clean(&body(1024)));
    for i in 0..256 {
        assert_eq!(out[1024 + i], (16 + i) as f32 * if i < 128 { 2.0 } else { 1.0 });
    }
    launch.finds(Kind::Misaligned, &body(1020));
}

/// Every thread writes its words of a tile of 8 rows of 128 bytes, in place: word w of the tile is w + 1.
const FILL: &str = "shl.b32 %r6, %r2, 2;\nadd.s32 %r7, %r1, %r6;\nadd.s32 %r8, %r2, 1;\ncvt.rn.f32.u32 %f1, %r8;\nst.shared.f32 [%r7], %f1;\nadd.s32 %r8, %r8, 128;\ncvt.rn.f32.u32 %f1, %r8;\nst.shared.f32 [%r7+512], %f1;\n";

/// The first thread stores the tile at (`x`, `y`).
fn store(opcode: &str, x: i32, y: i32, end: &str) -> String {
    format!("@%p1 bra T;\nmov.u32 %r10, {x};\nmov.u32 %r11, {y};\n{opcode} [%d2, {{%r10, %r11}}], [%r1];\ncp.async.bulk.commit_group;\n{end}\nT:\n")
}

#[test]
fn boxes_go_out_clipped() {
    let launch = Launch { map_y: map(MapType::F32, 20, 40, 160, [32, 8], Swizzle::B128), ..Launch::new(128) };
    let fence = "fence.proxy.async.shared::cta;\nbar.sync 0;\n";
    let (put, add) = ("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group", "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group");
    let end = "cp.async.bulk.wait_group.read 0;";
    for (x, y) in [(0, 0), (16, 15), (-4, -2), (40, 0)] {
        for times in [1.0, 3.0] {
            let mut body = format!("{FILL}{fence}{}", store(put, x, y, end));
            if times > 1.0 {
                (0..2).for_each(|i| body += &store(add, x, y, end).replace('T', &format!("T{i}")));
            }
            let out = floats(&launch.clean(&body));
            for i in 0..20i32 {
                for j in 0..40i32 {
                    let (row, column) = (i - y, j - x);
                    let inside = (0..8).contains(&row) && (0..32).contains(&column);
                    let want = if inside { (swizzled(row as usize, 4 * column as usize) / 4 + 1) as f32 * times } else { 0.0 };
                    assert_eq!(out[(i * 40 + j) as usize], want, "({x}, {y}): row {i}, column {j}");
                }
            }
        }
    }
    let text = launch.finds(Kind::Proxy, &format!("{FILL}bar.sync 0;\n{}", store(put, 0, 0, end)));
    assert!(text.contains("missing fence.proxy.async"), "{text}");
    launch.finds(Kind::Race, &format!("{FILL}fence.proxy.async.shared::cta;\n{}", store(put, 0, 0, end)));
    // The source is written again: after the wait, and after a barrier that carries it to the others.
    let again = |end: &str, between: &str| format!("{FILL}{fence}{}{between}{FILL}", store(put, 0, 0, end));
    launch.clean(&again(end, "bar.sync 0;\n"));
    launch.finds(Kind::Race, &format!("{}@!%p1 cp.async.bulk.wait_group.read 0;\n", again("", "bar.sync 0;\n")));
    launch.finds(Kind::Race, &again(end, ""));
    let text = launch.finds(Kind::MissingWait, &format!("{FILL}{fence}{}", store(put, 0, 0, "")));
    assert!(text.contains("ends while its bulk store is in flight"), "{text}");
}

#[test]
fn a_multicast_reaches_both_blocks_of_a_cluster() {
    let launch = Launch { cluster: 2, grid: 4, ..Launch::new(128) };
    let meet = "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";
    let first = init(&[1]).replace("bar.sync 0;", meet);
    let send = "@%p1 bra L;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1+49152], 1024;\nsetp.ne.u32 %p3, %r3, 0;\n@%p3 bra L;\nmov.u32 %r10, 0;\nmov.u32 %r13, %clusterid.x;\nshl.b32 %r11, %r13, 3;\n\
         add.s32 %r12, %r1, 49152;\nmov.u16 %h1, 3;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%d1, {%r10, %r11}], [%r12], %h1;\nL:\n";
    let out = "mov.u32 %r14, %ctaid.x;\nmul.wide.u32 %d10, %r14, 1024;\nadd.s64 %d4, %d4, %d10;\n";
    let out = floats(&launch.clean(&format!("{first}{send}{}{out}{}", wait(0, "0"), copy(128, 0))));
    for block in 0..4 {
        for at in 0..256 {
            let (row, byte) = (at / 32, at % 32 * 4);
            assert_eq!(out[block * 256 + swizzled(row, byte) / 4], (block / 2 * 256 + at) as f32, "block {block}");
        }
    }
    // Not all arrive, and a block that nobody waits for.
    launch.finds(Kind::Deadlock, &format!("{first}@%p1 bra L;\nsetp.ne.u32 %p3, %r3, 0;\n@%p3 bra L;\nbarrier.cluster.arrive;\nL:\nbarrier.cluster.wait;\n"));
    launch.finds(Kind::Ended, &format!("{first}{send}"));
}

#[test]
fn arrivals_at_another_block() {
    let launch = Launch { cluster: 2, grid: 2, ..Launch::new(64) };
    let meet = "barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\n";
    let first = init(&[64]).replace("bar.sync 0;", meet);
    // Each thread arrives at the other block's mbarrier.
    let arrive = "xor.b32 %r20, %r3, 1;\nadd.s32 %r21, %r1, 49152;\nmapa.shared::cluster.u32 %r22, %r21, %r20;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r22];\n";
    launch.clean(&format!("{first}{arrive}{}", wait(0, "0")));
    launch.clean(&format!("{first}{arrive}{meet}"));
    let text = launch.finds(Kind::Ended, &format!("{first}{arrive}"));
    assert!(text.contains("may end before this arrival at its mbarrier"), "{text}");
    // The other block must know of the mbarrier.
    launch.finds(Kind::Mbarrier, &format!("{}{arrive}{meet}", init(&[64])));
}

/// Warp 0 brings tiles into two stages, warps 4 to 7 add up what is in them: six tiles of 1024 bytes.
fn pipeline(free: &str, first_parity: u32, release: &str) -> String {
    format!(
        "{}setp.ge.u32 %p2, %r2, 128;\n@%p2 bra CONSUMER;\nsetmaxnreg.dec.sync.aligned.u32 40;\nsetp.ge.u32 %p4, %r2, 32;\n@%p4 bra END;\nelect.sync _|%p3, -1;\n@!%p3 bra END;\n\
         mov.u32 %r30, 0;\nmov.u32 %r31, 0;\nmov.u32 %r32, {first_parity};\n\
         P: shl.b32 %r33, %r31, 10;\nadd.s32 %r33, %r33, %r1;\nshl.b32 %r34, %r31, 3;\nadd.s32 %r34, %r34, %r1;\nadd.s32 %r34, %r34, 49152;\n{free}\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r34], 1024;\nmov.u32 %r10, 0;\nshl.b32 %r11, %r30, 3;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r33], [%d1, {{%r10, %r11}}], [%r34];\n\
         xor.b32 %r31, %r31, 1;\nsetp.eq.u32 %p5, %r31, 0;\n@%p5 xor.b32 %r32, %r32, 1;\nadd.s32 %r30, %r30, 1;\nsetp.lt.u32 %p6, %r30, 6;\n@%p6 bra P;\nbra END;\n\
         CONSUMER: setmaxnreg.inc.sync.aligned.u32 232;\nmov.u32 %r30, 0;\nmov.u32 %r31, 0;\nmov.u32 %r32, 0;\nmov.f32 %f1, 0f00000000;\nand.b32 %r36, %r2, 127;\nshl.b32 %r36, %r36, 3;\n\
         C: shl.b32 %r33, %r31, 10;\nadd.s32 %r33, %r33, %r1;\nshl.b32 %r34, %r31, 3;\nadd.s32 %r34, %r34, %r1;\n\
         {{\n.reg .pred q;\nW: mbarrier.try_wait.parity.shared::cta.b64 q, [%r34+49152], %r32;\n@!q bra W;\n}}\n\
         add.s32 %r35, %r33, %r36;\nld.shared.v2.f32 {{%f2, %f3}}, [%r35];\nadd.f32 %f1, %f1, %f2;\nadd.f32 %f1, %f1, %f3;\n{release}\
         xor.b32 %r31, %r31, 1;\nsetp.eq.u32 %p5, %r31, 0;\n@%p5 xor.b32 %r32, %r32, 1;\nadd.s32 %r30, %r30, 1;\nsetp.lt.u32 %p6, %r30, 6;\n@%p6 bra C;\n\
         cvt.u64.u32 %d9, %r36;\nadd.s64 %d9, %d4, %d9;\nst.global.f32 [%d9], %f1;\nEND:\n",
        init(&[1, 1, 128, 128])
    )
}

#[test]
fn producers_and_consumers() {
    let launch = Launch { map_x: map(MapType::F32, 128, 32, 128, [32, 8], Swizzle::B128), ..Launch::new(256) };
    let free = "{\n.reg .pred q;\nW: mbarrier.try_wait.parity.shared::cta.b64 q, [%r34+16], %r32;\n@!q bra W;\n}\n";
    let release = "mbarrier.arrive.release.cta.shared::cta.b64 _, [%r34+49168];\n";
    let out = floats(&launch.clean(&pipeline(free, 1, release)));
    for thread in 0..128 {
        let (row, byte) = (thread / 16, thread % 16 * 8);
        let at = |tile: usize| tile * 256 + row * 32 + ((byte / 16) ^ (row % 8)) * 4 + byte % 16 / 4;
        let want: f32 = (0..6).map(|tile| (2 * at(tile) + 1) as f32).sum();
        assert_eq!(out[2 * thread], want, "thread {thread}");
    }
    // Nobody asks whether a stage is free; or asks for the phase before.
    let raced = |body: &str| {
        let kinds: Vec<Kind> = launch.run(body).0.findings.iter().map(|f| f.kind).collect();
        assert!(kinds.iter().any(|k| matches!(k, Kind::Race | Kind::MissingWait)), "{kinds:?}");
    };
    raced(&pipeline("", 1, release));
    raced(&pipeline(&free.replace("%r32;", "1;"), 1, release));
    // The first wait is for a phase that has not begun.
    let text = launch.finds(Kind::Deadlock, &pipeline(free, 0, release));
    assert!(text.contains("warp 0 waits for the phase of parity 0 of the mbarrier at s + 49168") && text.contains("warp 4 waits"), "{text}");
    launch.finds(Kind::Deadlock, &pipeline(free, 1, ""));
    launch.finds(Kind::Deadlock, &pipeline(free, 1, &format!("setp.eq.u32 %p7, %r2, 128;\n@!%p7 {release}")));
    // A stage is given back before it is read.
    let early = pipeline(free, 1, release);
    let early = early.replace(release, "").replace("add.s32 %r35, %r33, %r36;", &format!("{release}add.s32 %r35, %r33, %r36;"));
    raced(&early);
}

#[test]
fn barriers_for_a_part_of_the_block() {
    let launch = Launch::new(96);
    // Warp 0 writes and continues, warp 1 waits for it and reads, warp 2 has nothing to do with it.
    let body = |arrive: &str, sync: &str| {
        format!(
            "shl.b32 %r6, %r2, 2;\nadd.s32 %r7, %r1, %r6;\nsetp.ge.u32 %p2, %r2, 64;\n@%p2 bra END;\nsetp.ge.u32 %p2, %r2, 32;\n@%p2 bra B;\nst.shared.u32 [%r7], %r2;\n{arrive}bra END;\n\
             B: {sync}ld.shared.u32 %r8, [%r7+-128];\nmul.wide.u32 %d8, %r2, 4;\nadd.s64 %d9, %d4, %d8;\nst.global.u32 [%d9], %r8;\nEND:\n"
        )
    };
    let out = launch.clean(&body("bar.arrive 1, 64;\n", "bar.sync 1, 64;\n"));
    assert_eq!(out[4 * 40], 8);
    launch.clean(&body("bar.sync 1, 64;\n", "bar.sync 1, 64;\n"));
    launch.finds(Kind::Race, &body("bar.arrive 1, 64;\n", ""));
    let text = launch.finds(Kind::Deadlock, &body("bar.arrive 2, 64;\n", "bar.sync 1, 64;\n"));
    assert!(text.contains("warp 1 waits for barrier 1 of 64 threads"), "{text}");
}

/// Matrix storage as CUTLASS's canonical layouts have it: the byte where element (`outer`, `k`) lies. `width` is the swizzle's, in
/// pieces of 16 bytes.
fn lies(transposed: bool, width: usize, leading: usize, stride: usize, outer: usize, k: usize) -> usize {
    let at = if transposed {
        let (piece, within) = (outer / 8, outer % 8);
        let groups = if width == 1 { piece * stride + k / 8 * leading } else { piece / width * leading + k / 8 * stride };
        groups + piece % width * 16 + k % 8 * 16 * width + within * 2
    } else {
        let pieces = if width == 1 { k / 8 * leading } else { k / 8 * 16 };
        outer / 8 * stride + outer % 8 * 16 * width + pieces + k % 8 * 2
    };
    let bits = [0, 0, 1, 0, 3, 0, 0, 0, 7][width];
    at ^ ((at >> 7 & bits) << 4)
}

fn descriptor(start: u64, width: usize, leading: usize, stride: usize) -> u64 {
    let code = [0, 0, 3, 0, 2, 0, 0, 0, 1][width] as u64;
    start >> 4 | (leading as u64 >> 4) << 16 | (stride as u64 >> 4) << 32 | code << 62
}

/// Brings 48 KiB of x into shared memory, multiplies, and stores the accumulators: register i of a thread at word 128·i + thread.
/// `fence` comes before the product, `end` after it; A is in registers where `a` is none.
fn product(n: usize, a: Option<u64>, b: u64, majors: &str, scale: u32, fence: &str, end: &str) -> String {
    let names: Vec<String> = (0..n / 2).map(|i| format!("%f{i}")).collect();
    let set: String = (0..n / 2).map(|i| format!("cvt.rn.f32.u32 %f{i}, %r2;\n")).collect();
    let put: String = (0..n / 2).map(|i| format!("st.global.f32 [%d9+{}], %f{i};\n", 512 * i)).collect();
    // A in registers: thread t has bf16 of 1, 2, 3, … by its place.
    let left = if a.is_some() { "%d20".into() } else { "{%r40, %r41, %r42, %r43}".to_string() };
    format!(
        "{}@%p1 bra L;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1+49152], 49152;\nadd.s32 %r12, %r1, 49152;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d3], 49152, [%r12];\nL:\n{}\
         shl.b32 %r44, %r2, 4;\nmul.wide.u32 %d12, %r2, 16;\nadd.s64 %d12, %d3, %d12;\nld.global.v4.u32 {{%r40, %r41, %r42, %r43}}, [%d12];\n\
         {set}mov.b64 %d20, {};\nmov.b64 %d21, {b};\n{fence}{{\n.reg .pred p;\nsetp.ne.b32 p, {scale}, 0;\n\
         wgmma.mma_async.sync.aligned.m64n{n}k16.f32.bf16.bf16 {{{}}}, {left}, %d21, p, 1, 1, {majors};\n}}\n\
         wgmma.commit_group.sync.aligned;\n{end}mul.wide.u32 %d8, %r2, 4;\nadd.s64 %d9, %d4, %d8;\n{put}",
        init(&[1]),
        wait(0, "0"),
        a.unwrap_or(0),
        names.join(", ")
    )
}

const FENCE: &str = "wgmma.fence.sync.aligned;\n";
const WAIT: &str = "wgmma.wait_group.sync.aligned 0;\n";

/// 48 KiB of bf16 whose products and sums are exact.
fn small() -> Vec<bf16> {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        bf16::from_f32(((state >> 24) % 9) as f32 - 4.0)
    };
    (0..24576).map(|_| next()).collect()
}

#[test]
fn wgmma_reads_every_layout() {
    let memory = small();
    let x: Vec<u8> = memory.iter().flat_map(|v| v.to_le_bytes()).collect();
    let at = |start: usize, byte: usize| memory[(start + byte) / 2].to_f64();
    for n in [8usize, 64, 136, 256] {
        let launch = Launch { x: x.clone(), y_bytes: 512 * n / 2, map_x: map(MapType::F32, 8, 32, 128, [32, 8], Swizzle::B128), ..Launch::new(128) };
        let launch = Launch { map_y: map(MapType::F32, 1, 32, 128, [32, 1], Swizzle::B128), ..launch };
        for width in [1usize, 2, 4, 8] {
            for majors in 0..5 {
                let (ta, tb, registers) = (majors & 1 == 1, majors & 2 == 2, majors == 4);
                // Strides that keep A below 16 KiB and B in the 32 KiB behind it.
                let place = |transposed: bool| match (transposed, width) {
                    (false, 1) => (128, 256),
                    (true, 1) => (128, 256),
                    (false, _) => (16, 128 * width),
                    (true, _) => (256 * width, 128 * width),
                };
                let ((la, sa), (lb, sb)) = (place(ta), place(tb));
                // Row 1 of the accumulators starts at 5.
                let scale = (width == 8) as u32;
                let a = (!registers).then(|| descriptor(0, width, la, sa));
                let names = if registers { format!("{}", tb as u32) } else { format!("{}, {}", ta as u32, tb as u32) };
                let body = product(n, a, descriptor(16384, width, lb, sb), &names, scale, FENCE, WAIT);
                let out = floats(&launch.clean(&body));
                for thread in 0..128 {
                    for i in 0..n / 2 {
                        let (lane, warp) = (thread % 32, thread / 32);
                        let (row, column) = (16 * warp + lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2);
                        let sum: f64 = (0..16)
                            .map(|k| {
                                let left = if registers {
                                    let (r, c) = (row % 16, k);
                                    let holder = 32 * warp + r % 8 * 4 + c % 8 / 2;
                                    at(0, 16 * holder + 4 * (r / 8 + 2 * (c / 8)) + 2 * (c % 2))
                                } else {
                                    at(0, lies(ta, width, la, sa, row, k))
                                };
                                left * at(16384, lies(tb, width, lb, sb, column, k))
                            })
                            .sum();
                        let want = sum + if scale == 1 { thread as f64 } else { 0.0 };
                        assert_eq!(out[128 * i + thread] as f64, want, "n {n}, width {width}, majors {majors}, row {row}, column {column}");
                    }
                }
            }
        }
    }
}

#[test]
fn wgmma_and_its_registers() {
    let x: Vec<u8> = small().iter().flat_map(|v| v.to_le_bytes()).collect();
    let launch = Launch { x, ..Launch::new(128) };
    let b = descriptor(16384, 8, 16, 1024);
    let by = |a: Option<u64>, fence: &str, end: &str| product(64, a, b, if a.is_some() { "0, 0" } else { "0" }, 1, fence, end);
    let a = Some(descriptor(0, 8, 16, 1024));
    launch.clean(&by(a, FENCE, WAIT));
    launch.clean(&by(None, FENCE, WAIT));
    let text = launch.finds(Kind::Wgmma, &by(a, "", WAIT));
    assert!(text.contains("without any wgmma.fence"), "{text}");
    let text = launch.finds(Kind::Wgmma, &by(a, &format!("{FENCE}add.f32 %f3, %f3, %f4;\n"), WAIT));
    assert!(text.contains("touched after the last wgmma.fence"), "{text}");
    launch.clean(&by(a, &format!("{FENCE}mov.f32 %f3, 0f00000000;\n"), WAIT));
    let text = launch.finds(Kind::Wgmma, &by(a, FENCE, ""));
    assert!(text.contains("reads an accumulator of a wgmma that it has not waited for"), "{text}");
    launch.finds(Kind::Wgmma, &by(a, FENCE, "wgmma.wait_group.sync.aligned 1;\n"));
    let text = launch.finds(Kind::Wgmma, &by(None, FENCE, &format!("mov.u32 %r41, %r2;\n{WAIT}")));
    assert!(text.contains("overwrites a register of A"), "{text}");
    launch.clean(&by(None, FENCE, &format!("{WAIT}mov.u32 %r41, %r2;\n")));
    // A tile that does not start where its swizzle does.
    launch.finds(Kind::Misaligned, &by(Some(descriptor(128, 8, 16, 1024)), FENCE, WAIT));
    launch.clean(&by(Some(descriptor(32, 8, 16, 1024)), FENCE, WAIT));
    launch.finds(Kind::OutOfBounds, &by(Some(descriptor(64512, 8, 16, 1024)), FENCE, WAIT));
    // A warp that does not take part.
    let alone = by(a, FENCE, WAIT).replace("wgmma.commit_group", "setp.ge.u32 %p9, %r2, 96;\n@%p9 bra OUT;\nwgmma.commit_group") + "OUT:\n";
    let text = launch.finds(Kind::Deadlock, &alone);
    assert!(text.contains("other warps of its warpgroup"), "{text}");
}

#[test]
fn wgmma_on_what_stores_wrote() {
    let x: Vec<u8> = small().iter().flat_map(|v| v.to_le_bytes()).collect();
    let launch = Launch { x, ..Launch::new(128) };
    let b = descriptor(16384, 8, 16, 1024);
    // The threads write A themselves, over what came.
    let with = |between: &str| {
        let write = "mov.u32 %r50, 1065369472;\nmad.lo.u32 %r51, %r2, 64, %r1;\nst.shared.v4.u32 [%r51], {%r50, %r50, %r50, %r50};\nst.shared.v4.u32 [%r51+16], {%r50, %r50, %r50, %r50};\n\
             st.shared.v4.u32 [%r51+32], {%r50, %r50, %r50, %r50};\nst.shared.v4.u32 [%r51+48], {%r50, %r50, %r50, %r50};\n";
        product(64, Some(descriptor(0, 8, 16, 1024)), b, "0, 0", 1, &format!("{write}{between}{FENCE}"), WAIT)
    };
    launch.clean(&with("fence.proxy.async;\nbar.sync 0;\n"));
    launch.finds(Kind::Proxy, &with("bar.sync 0;\n"));
    launch.finds(Kind::Proxy, &with("bar.sync 0;\n").replace("ret;", "fence.proxy.async;\nret;"));
    launch.finds(Kind::Race, &with("fence.proxy.async;\n").replace("mad.lo.u32 %r51, %r2, 64", "xor.b32 %r52, %r2, 64;\nmad.lo.u32 %r51, %r52, 64"));
    // Written again while the product may still read it.
    let after = |end: &str| {
        let write = "mad.lo.u32 %r51, %r2, 64, %r1;\nst.shared.u32 [%r51], %r2;\n";
        product(64, Some(descriptor(0, 8, 16, 1024)), b, "0, 0", 1, FENCE, &end.replace("WRITE", write))
    };
    launch.clean(&after(&format!("{WAIT}bar.sync 0;\nWRITE")));
    launch.finds(Kind::Race, &after(&format!("WRITE{WAIT}")));
}

#[test]
fn stmatrix_is_ldmatrix_backwards() {
    let launch = Launch::new(32);
    for transposed in ["", ".trans"] {
        let body = format!(
            "shl.b32 %r6, %r2, 4;\nadd.s32 %r7, %r1, %r6;\nshl.b32 %r10, %r2, 1;\nadd.s32 %r20, %r10, 1;\nshl.b32 %r20, %r20, 16;\nor.b32 %r10, %r10, %r20;\n\
             add.s32 %r11, %r10, 4194368;\nadd.s32 %r12, %r11, 4194368;\nadd.s32 %r13, %r12, 4194368;\n\
             stmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 [%r7], {{%r10, %r11, %r12, %r13}};\nbar.sync 0;\nmov.u32 %r60, 0;\n\
             {}fence.proxy.async;\n@%p1 bra E;\nmbarrier.init.shared::cta.b64 [%r1+49152], 1;\nE:\n",
            (0..4)
                .map(|i| format!(
                    "ld.shared.u32 %r8, [%r7+{}];\nmad.lo.u32 %r9, %r2, 16, {};\ncvt.u64.u32 %d8, %r9;\nadd.s64 %d8, %d4, %d8;\nst.global.u32 [%d8], %r8;\n",
                    4 * i,
                    4 * i
                ))
                .collect::<String>()
        );
        let out = launch.clean(&body);
        let half = |i: usize| u16::from_le_bytes([out[2 * i], out[2 * i + 1]]) as usize;
        for (matrix, row, column) in (0..256).map(|i| (i / 64, i / 8 % 8, i % 8)) {
            // Element (row, column) of a matrix is 64·matrix + 8·row + column: that is how lanes got them.
            let (r, c) = if transposed.is_empty() { (row, column) } else { (column, row) };
            assert_eq!(half(64 * matrix + 8 * row + column), 64 * matrix + 8 * r + c, "{transposed} matrix {matrix}, row {row}, column {column}");
        }
    }
}
