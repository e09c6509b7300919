//! The kernels for sm_90a in the emulator, against plain f64: every layout, epilogue and rung, grouped heads, intervals, and sizes that fill
//! no tile.

use trimodal::emulator::{Argument, Buffer, MapType, Options, Program, Swizzle, TensorMap, run};

/// A program of `kernels/ptx/sm_90a/`.
fn program(stem: &str) -> Program {
    let path = format!("{}/kernels/ptx/sm_90a/{stem}.ptx", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    Program::new(&path, &text).unwrap_or_else(|e| panic!("{e}"))
}

/// The bits of the nearest bf16, ties to even.
fn bf16_bits(x: f64) -> u16 {
    let bits = (x as f32).to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn rounded(x: f64) -> f64 {
    f32::from_bits((bf16_bits(x) as u32) << 16) as f64
}

/// Numbers from `low` to `high` in steps of 1 / `per`.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }

    fn list(&mut self, count: usize, low: i64, high: i64, per: f64) -> Vec<f64> {
        (0..count).map(|_| (low + self.next((high - low + 1) as u64) as i64) as f64 / per).collect()
    }
}

/// A buffer in device memory that knows its type.
struct Memory {
    buffer: Buffer,
    dtype: MapType,
    count: usize,
}

impl Memory {
    fn new(dtype: MapType, values: &[f64]) -> Memory {
        let memory = Memory::unwritten(dtype, values.len());
        let bytes: Vec<u8> = match dtype {
            MapType::Bf16 => values.iter().flat_map(|&x| bf16_bits(x).to_le_bytes()).collect(),
            MapType::F32 => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
        };
        memory.buffer.write(0, &bytes);
        memory
    }

    /// Reading what nobody has written is a finding.
    fn unwritten(dtype: MapType, count: usize) -> Memory {
        let buffer = Buffer::new(count * dtype.bytes());
        buffer.forget();
        Memory { buffer, dtype, count }
    }

    fn read(&self) -> Vec<f64> {
        let mut bytes = vec![0; self.count * self.dtype.bytes()];
        self.buffer.read(0, &mut bytes);
        match self.dtype {
            MapType::Bf16 => bytes.chunks_exact(2).map(|b| f32::from_bits((u16::from_le_bytes([b[0], b[1]]) as u32) << 16) as f64).collect(),
            MapType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        }
    }

    fn bytes(&self) -> usize {
        self.count * self.dtype.bytes()
    }

    fn pointer<'a>(&'a self, name: &'a str) -> Argument<'a> {
        Argument::Buffer { buffer: &self.buffer, bytes: self.bytes(), name }
    }

    fn mapped<'a>(&'a self, name: &'a str, map: &'a TensorMap) -> Argument<'a> {
        Argument::Map { buffer: &self.buffer, bytes: self.bytes(), name, map }
    }
}

/// A map of dense rows with boxes of 64 rows and 128 bytes.
fn map_of(dtype: MapType, sizes: &[usize]) -> TensorMap {
    let mut strides = vec![sizes[0] * dtype.bytes()];
    for size in &sizes[1..sizes.len() - 1] {
        strides.push(strides.last().unwrap() * size);
    }
    let mut box_sizes = vec![1; sizes.len()];
    box_sizes[0] = 128 / dtype.bytes() as u32;
    *box_sizes.last_mut().unwrap() = 64;
    TensorMap {
        address: 0,
        dtype,
        sizes: sizes.iter().map(|&s| s as u64).collect(),
        strides: strides.iter().map(|&s| s as u64).collect(),
        box_sizes,
        swizzle: Swizzle::B128,
    }
}

fn intervals(pairs: &[[usize; 2]]) -> Buffer {
    let bytes: Vec<u8> = pairs.iter().flatten().flat_map(|&x| (x as i32).to_le_bytes()).collect();
    let buffer = Buffer::new(bytes.len());
    buffer.write(0, &bytes);
    buffer
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[track_caller]
fn launch(program: &Program, entry: &str, grid: usize, shared: usize, arguments: &[Argument]) {
    let options = Options { dynamic_shared: shared, ..Options::default() };
    let report = run(program, entry, grid as u32, arguments, &options).unwrap_or_else(|e| panic!("{e}"));
    let lines: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
    assert!(lines.is_empty(), "{entry}, grid {grid}: expected no findings:\n{}", lines.join("\n"));
}

// ── matmul ───────────────────────────────────────────────────────────────────────────────────────────────────────────

struct Product {
    rung: &'static str,
    layout: &'static str,
    c: MapType,
    m: usize,
    n: usize,
    k: usize,
    flags: u32,
    grid: usize,
}

/// Small integers: every sum is exact, so that every bit must be right.
fn check_product(program: &Program, case: &Product) {
    let &Product { rung, layout, c: dtype, m, n, k, flags, grid } = case;
    let mut numbers = Numbers(m as u64 * 31 + n as u64 * 7 + k as u64);
    let (a, b) = (numbers.list(m * k, -4, 4, 1.0), numbers.list(n * k, -4, 4, 1.0));
    let (bias, residual, before) = (numbers.list(n, -9, 9, 1.0), numbers.list(m * n, -9, 9, 1.0), numbers.list(m * n, -9, 9, 1.0));
    let (a_sizes, b_sizes) = (if layout == "tn" { [m, k] } else { [k, m] }, if layout == "nt" { [k, n] } else { [n, k] });
    let (a_map, b_map, c_map) = (map_of(MapType::Bf16, &a_sizes), map_of(MapType::Bf16, &b_sizes), map_of(dtype, &[n, m]));
    let (a_memory, b_memory) = (Memory::new(MapType::Bf16, &a), Memory::new(MapType::Bf16, &b));
    let (bias_memory, residual_memory) = (Memory::new(dtype, &bias), Memory::new(dtype, &residual));
    let c = if flags & 4 != 0 { Memory::new(dtype, &before) } else { Memory::unwritten(dtype, m * n) };
    let dims = words(&[m as u32, n as u32, k as u32, flags, 1, k as u32, 0, 0]);
    let bias_pointer = if flags & 1 != 0 { bias_memory.pointer("bias") } else { Argument::Null };
    let residual_pointer = if flags & 2 != 0 { residual_memory.pointer("residual") } else { Argument::Null };
    let mut arguments = vec![a_memory.mapped("a", &a_map), b_memory.mapped("b", &b_map)];
    if rung != "wgmma" {
        arguments.push(c.mapped("c", &c_map));
    }
    arguments.extend([bias_pointer, residual_pointer, c.pointer("c"), Argument::Bytes(&dims)]);
    let suffix = if dtype == MapType::F32 { "bf16" } else { "bf16_bf16" };
    let shared = if rung == "wgmma" { 131_136 } else { 229_504 };
    launch(program, &format!("{rung}_{layout}_{suffix}"), grid, shared, &arguments);

    let out = c.read();
    for row in 0..m {
        for column in 0..n {
            let mut sum = 0.0;
            for i in 0..k {
                sum += a[if layout == "tn" { i * m + row } else { row * k + i }] * b[if layout == "nt" { column * k + i } else { i * n + column }];
            }
            for (flag, extra) in [(1, bias[column]), (2, residual[row * n + column]), (4, before[row * n + column])] {
                sum += if flags & flag != 0 { extra } else { 0.0 };
            }
            let expected = if dtype == MapType::Bf16 { rounded(sum) } else { sum };
            let got = out[row * n + column];
            assert!(got == expected, "{rung}_{layout}_{suffix} {m}×{n}×{k} flags {flags}: c[{row}, {column}] is {got}, expected {expected}");
        }
    }
}

fn check_rung(rung: &'static str, grids: &[usize], tile: [usize; 2]) {
    let program = program("matmul");
    for (index, layout) in ["nt", "nn", "tn"].into_iter().enumerate() {
        for (which, c) in [MapType::F32, MapType::Bf16].into_iter().enumerate() {
            // Less than a tile; tails in all of M, N and K; enough of K for the pipeline to go round.
            for (i, (m, n, k)) in [(8usize, 8usize, 8usize), (200, 328, 72), (72, 264, 520)].into_iter().enumerate() {
                let flags = [0, 7, 4, 3, 1, 6, 2, 5][(index + which * 3 + i * 2) % 8];
                let grid = if rung == "wgmma" { m.div_ceil(tile[0]) * n.div_ceil(tile[1]) } else { grids[i % grids.len()] };
                check_product(&program, &Product { rung, layout, c, m, n, k, flags, grid });
            }
        }
    }
}

#[test]
fn matmul_wgmma() {
    check_rung("wgmma", &[], [128, 128]);
}

#[test]
fn matmul_specialised() {
    check_rung("specialised", &[1, 3], [128, 256]);
}

#[test]
fn matmul_specialised_small() {
    check_rung("specialised_small", &[2, 4], [128, 128]);
}

#[test]
fn matmul_persistent() {
    check_rung("persistent", &[2, 4], [256, 256]);
}

// ── attention ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Sizes, and what rows see.
struct Case {
    d: usize,
    compiled: usize,
    heads: usize,
    kv_heads: usize,
    keys: usize,
    visible: Vec<[usize; 2]>,
}

impl Case {
    fn all() -> Vec<Case> {
        let causal = |n: usize| (0..n).map(|i| [0, i + 1]).collect::<Vec<_>>();
        // Two samples packed one after the other, the second with a picture of which each row sees the whole; then unused rows that
        // see nothing.
        let mut packed: Vec<[usize; 2]> = (0..150).map(|i| [0, i + 1]).collect();
        packed.extend((150..330).map(|i| [150, if i < 230 { 230 } else { i + 1 }]));
        packed.extend([[0, 0]; 10]);
        let window = (0..5).map(|i| [40 + i, 301 + i]).collect();
        let case = |d, compiled, heads, kv_heads, keys, visible| Case { d, compiled, heads, kv_heads, keys, visible };
        vec![
            case(64, 64, 2, 1, 300, causal(300)),
            case(64, 64, 1, 1, 340, packed.clone()),
            case(40, 64, 2, 2, 305, window),
            case(128, 128, 2, 1, 340, packed),
            case(96, 128, 1, 1, 130, vec![[0, 130]; 70]),
        ]
    }

    fn dims(&self) -> Vec<u8> {
        words(&[self.visible.len() as u32, self.keys as u32, self.heads as u32, self.kv_heads as u32, self.scale().to_bits(), self.d as u32, 0, 0])
    }

    fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    fn inputs(&self) -> [Vec<f64>; 4] {
        let mut numbers = Numbers(self.d as u64 + self.keys as u64);
        let (q, kv) = (self.visible.len() * self.heads * self.d, self.keys * self.kv_heads * self.d);
        [q, kv, kv, q].map(|count| numbers.list(count, -64, 64, 32.0))
    }

    /// Of row `row` and head `head`: probabilities of the keys it sees, and lse.
    fn probabilities(&self, q: &[f64], k: &[f64], row: usize, head: usize) -> (Vec<f64>, f64) {
        let d = self.d;
        let of = |x: &[f64], r: usize, heads: usize, h: usize| x[(r * heads + h) * d..][..d].to_vec();
        let query = of(q, row, self.heads, head);
        let kv_head = head / (self.heads / self.kv_heads);
        let scores: Vec<f64> = (self.visible[row][0]..self.visible[row][1])
            .map(|key| query.iter().zip(of(k, key, self.kv_heads, kv_head)).map(|(a, b)| a * b).sum::<f64>() * self.scale() as f64)
            .collect();
        if scores.is_empty() {
            return (scores, -1e30);
        }
        let maximum = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|s| (s - maximum).exp()).sum();
        (scores.iter().map(|s| (s - maximum).exp() / total).collect(), maximum + total.ln())
    }

    fn map(&self, heads: usize, rows: usize) -> TensorMap {
        map_of(MapType::Bf16, &[self.d, heads, rows])
    }
}

/// What is expected, and the sum of the absolute values of what was summed up: what rounding to bf16 on the way is relative to.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    absolute: f64,
}

impl Sum {
    fn add(&mut self, x: f64) {
        self.value += x;
        self.absolute += x.abs();
    }
}

#[track_caller]
fn check_sums(what: &str, got: &[f64], expected: &[Sum]) {
    assert_eq!(got.len(), expected.len());
    for (i, (&got, sum)) in got.iter().zip(expected).enumerate() {
        // A factor rounded to bf16 (2⁻⁸ of each term), the result too, and some of f32's rounding.
        let bound = 1.05 / 128.0 * sum.absolute + 1e-6;
        assert!((got - sum.value).abs() <= bound, "{what}: element {i} is {got}, expected {} ± {bound}", sum.value);
    }
}

fn check_forward(rung: &str, rows_of: fn(usize) -> usize, shared_of: fn(usize) -> usize) {
    let program = program("attention");
    for case in Case::all() {
        let [q, k, v, _] = case.inputs();
        let (rows, heads, d) = (case.visible.len(), case.heads, case.d);
        let [q_memory, k_memory, v_memory] = [&q, &k, &v].map(|x| Memory::new(MapType::Bf16, x));
        let (o, lse) = (Memory::unwritten(MapType::Bf16, q.len()), Memory::unwritten(MapType::F32, rows * heads));
        let (q_map, kv_map) = (case.map(heads, rows), case.map(case.kv_heads, case.keys));
        let (visible, dims) = (intervals(&case.visible), case.dims());
        let arguments = [
            q_memory.mapped("q", &q_map),
            k_memory.mapped("k", &kv_map),
            v_memory.mapped("v", &kv_map),
            o.mapped("o", &q_map),
            Argument::Buffer { buffer: &visible, bytes: rows * 8, name: "visible" },
            lse.pointer("lse"),
            Argument::Bytes(&dims),
        ];
        let entry = format!("{rung}_d{}_bf16", case.compiled);
        launch(&program, &entry, rows.div_ceil(rows_of(case.compiled)) * heads, shared_of(case.compiled), &arguments);

        let mut expected = vec![Sum::default(); q.len()];
        let lse = lse.read();
        for row in 0..rows {
            for head in 0..heads {
                let (p, lse_expected) = case.probabilities(&q, &k, row, head);
                let got = lse[row * heads + head];
                assert!((got - lse_expected).abs() <= 2e-6 * lse_expected.abs().max(4.0), "{entry}: lse[{row}, {head}] is {got}, expected {lse_expected}");
                let kv_head = head / (heads / case.kv_heads);
                for (key, p) in (case.visible[row][0]..).zip(p) {
                    for c in 0..d {
                        expected[(row * heads + head) * d + c].add(p * v[(key * case.kv_heads + kv_head) * d + c]);
                    }
                }
            }
        }
        check_sums(&format!("{entry}, d {d}: o"), &o.read(), &expected);
    }
}

#[test]
fn attention_forward_wgmma() {
    check_forward("forward_wgmma", |_| 128, |d| if d == 64 { 82_048 } else { 163_968 });
}

#[test]
fn attention_forward_overlapped() {
    check_forward("forward_overlapped", |d| if d == 64 { 192 } else { 128 }, |d| if d == 64 { 90_240 } else { 163_968 });
}

#[test]
fn attention_backward() {
    let program = program("attention_backward");
    for case in Case::all() {
        let [q, k, v, d_o] = case.inputs();
        let (rows, heads, kv_heads, d) = (case.visible.len(), case.heads, case.kv_heads, case.d);
        let per = heads / kv_heads;

        // The formulas of the header, and what each sum is relative to.
        let (mut dq, mut dk, mut dv) = (vec![Sum::default(); q.len()], vec![Sum::default(); k.len()], vec![Sum::default(); k.len()]);
        let (mut lse, mut delta) = (vec![0.0; rows * heads], vec![0.0; rows * heads]);
        let mut visible_by = vec![[rows, 0]; case.keys];
        for row in 0..rows {
            for head in 0..heads {
                let (p, row_lse) = case.probabilities(&q, &k, row, head);
                lse[row * heads + head] = row_lse;
                let own = (row * heads + head) * d;
                let others: Vec<usize> = (case.visible[row][0]..case.visible[row][1]).map(|key| (key * kv_heads + head / per) * d).collect();
                let dp: Vec<f64> = others.iter().map(|&at| (0..d).map(|c| d_o[own + c] * v[at + c]).sum()).collect();
                let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                delta[row * heads + head] = mean;
                for ((&at, p), dp) in others.iter().zip(&p).zip(&dp) {
                    let ds = p * (dp - mean) * case.scale() as f64;
                    for c in 0..d {
                        dq[own + c].add(ds * k[at + c]);
                        dk[at + c].add(ds * q[own + c]);
                        dv[at + c].add(p * d_o[own + c]);
                    }
                }
            }
            for key in case.visible[row][0]..case.visible[row][1] {
                visible_by[key] = [visible_by[key][0].min(row), row + 1];
            }
        }

        let [q_memory, k_memory, v_memory, d_o_memory] = [&q, &k, &v, &d_o].map(|x| Memory::new(MapType::Bf16, x));
        let [dq_memory, dk_memory, dv_memory] = [q.len(), k.len(), k.len()].map(|count| Memory::unwritten(MapType::Bf16, count));
        let (lse, delta) = (Memory::new(MapType::F32, &lse), Memory::new(MapType::F32, &delta));
        let (q_map, kv_map) = (case.map(heads, rows), case.map(kv_heads, case.keys));
        let (visible, visible_by, dims) = (intervals(&case.visible), intervals(&visible_by), case.dims());
        let maps = [q_memory.mapped("q", &q_map), k_memory.mapped("k", &kv_map), v_memory.mapped("v", &kv_map), d_o_memory.mapped("d_o", &q_map)];
        let stats = [lse.pointer("lse"), delta.pointer("delta"), Argument::Buffer { buffer: &visible, bytes: rows * 8, name: "visible" }];

        let entry = format!("dkv_d{}_bf16", case.compiled);
        let mut arguments = maps.to_vec();
        arguments.extend([dk_memory.mapped("dk", &kv_map), dv_memory.mapped("dv", &kv_map)]);
        arguments.extend(stats);
        arguments.extend([Argument::Buffer { buffer: &visible_by, bytes: case.keys * 8, name: "visible_by" }, Argument::Bytes(&dims)]);
        launch(&program, &entry, case.keys.div_ceil(128) * kv_heads, if case.compiled == 64 { 67_648 } else { 133_184 }, &arguments);
        check_sums(&format!("{entry}, d {d}: dk"), &dk_memory.read(), &dk);
        check_sums(&format!("{entry}, d {d}: dv"), &dv_memory.read(), &dv);

        let entry = format!("dq_rows_d{}_bf16", case.compiled);
        let mut arguments = maps.to_vec();
        arguments.push(dq_memory.mapped("dq", &q_map));
        arguments.extend(stats);
        arguments.push(Argument::Bytes(&dims));
        launch(&program, &entry, rows.div_ceil(128) * heads, if case.compiled == 64 { 98_368 } else { 196_672 }, &arguments);
        check_sums(&format!("{entry}, d {d}: dq"), &dq_memory.read(), &dq);
    }
}
