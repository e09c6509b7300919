//! Gathering rows of a table: `y[row[i]] = table[id[i]]`.
//!
//! It puts words into the token matrix, gathers and scatters rows, and fills the key/value cache while generating.
//!
//! Backward: `dtable[v] += Σ dy[row[i]]` over the entries `i` with `id[i] = v`. The host sorts the entries by id once per
//! batch ([`plan`], a counting sort), so that every element of `dtable` is summed by one thread, in the order of the entries.

use super::case::{Case, Compare, Draw, GradientCase, Kind, Operand, Output};
use super::field::DimsField;
use super::{Call, Op, Pass, Sizes, activation, on_real, rows_per_task, size, statistic, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Language, Launch, View, variant};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::{DType, Tensor};
use bytemuck::bytes_of;
use multiversion::multiversion;
use rayon::prelude::*;

const OP: &str = "embedding";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[Pass { name: "forward", kernel: (OP, "forward") }, Pass { name: "backward", kernel: (OP, "backward") }],
    cases,
    sized,
    gradients,
    fields: FIELDS,
};

/// Where the numbers of [`Dims`] come from that are not sizes of an operand.
const FIELDS: &[DimsField] = &[DimsField::option("has_row", "1 where row says which row an entry belongs to; 0: entry i belongs to row i")];

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    entries: u32,
    columns: u32,
    vocabulary: u32,
    rows: u32,
    has_row: u32,
    padding: [u32; 3],
}

impl Dims {
    /// `table` and `y` (or their gradients) as rows of D, the shorter of their row lengths.
    fn new(entries: usize, table: &Tensor, y_name: &'static str, y: &Tensor, has_row: bool) -> Result<Self> {
        let columns = table.row_len().min(y.row_len());
        if columns == 0 || !table.row_len().is_multiple_of(columns) || !y.row_len().is_multiple_of(columns) {
            return Err(Error::mismatch(OP, y_name, format!("rows of {} elements", table.row_len().max(1)), y.shape()));
        }
        size(OP, "entries · columns", entries.saturating_mul(columns))?;
        Ok(Dims {
            entries: size(OP, "entries", entries)?,
            columns: size(OP, "columns", columns)?,
            vocabulary: size(OP, "vocabulary", table.len() / columns)?,
            rows: size(OP, "rows", y.len() / columns)?,
            has_row: has_row as u32,
            padding: [0; 3],
        })
    }
}

/// `y[row[i]] = table[id[i]]`; entries whose id or row is −1 are skipped, and rows of `y` that no entry names are left alone.
///
/// Shapes: `table [V, D]`, `id [M]` i32, `row [M]` i32 (`None`: row `i`), `y [N, D]`; a `[C, F, D]` beside a `[N, D]` counts as
/// `[C · F, D]`, while two of `[N, H, d]` have rows of `H · d`. The rows of one call are distinct (of
/// equal ones, which entry wins is not defined). dtype f32 (f64 on the CPU, bf16 where the device has it).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::embedding;
///
/// let table = Tensor::from_slice(&Device::Cpu, [2, 2], &[1f32, 2.0, 3.0, 4.0])?; // [V, D]
/// let id = Tensor::from_slice(&Device::Cpu, [3], &[1, -1, 0])?; // [M]
/// let mut y = Tensor::zeros(&Device::Cpu, [3, 2], DType::F32)?; // [N, D]
/// embedding::forward(&table, &id, None, &mut y)?;
/// assert_eq!(y.read::<f32>()?, [3.0, 4.0, 0.0, 0.0, 1.0, 2.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit; on the CPU also for an id or a row outside its table
/// (a GPU skips those: the host does not see them).
pub fn forward(table: &Tensor, id: &Tensor, row: Option<&Tensor>, y: &mut Tensor) -> Result<()> {
    gather(table, id, row, y, true)
}

/// [`forward`] by one element per GPU thread or, where the row allows it, by several neighbours (`wide`); the CPU has one way.
fn gather(table: &Tensor, id: &Tensor, row: Option<&Tensor>, y: &mut Tensor, wide: bool) -> Result<()> {
    let dtype = activation(OP, "table", table)?;
    let dims = Dims::new(id.len(), table, "y", y, row.is_some())?;
    let elements = dims.entries as usize * dims.columns as usize;
    let call = Call::new(OP, "forward", table.device())
        .reads_some("table", table, table.shape(), dtype, elements)?
        .reads("id", id, id.shape(), DType::I32)?
        .reads_if("row", row, [id.len()], DType::I32)?
        .writes_some("y", y, y.shape(), dtype, elements)?;
    if row.is_none() && dims.entries > dims.rows {
        return Err(Error::mismatch(OP, "id", format!("at most {} entries (the rows of y)", dims.rows), id.len()));
    }
    let call = call.begin(|| Work::new(0u64));
    match call.device() {
        Device::Cpu => {
            check_rows("id", id.cpu::<i32>(), dims.vocabulary as usize)?;
            if let Some(row) = row {
                check_rows("row", row.cpu::<i32>(), dims.rows as usize)?;
            }
            on_real!(dtype, forward_cpu::<T>(dims, table, id, row, y));
        }
        Device::Gpu(gpu) => launch_forward(gpu, wide, dtype, dims, &views([Some(table), Some(id), row, Some(&*y)]))?,
    }
    call.end([&*y]);
    Ok(())
}

/// `dtable[v] += Σ_j dy[sorted_row[j]]` for `j` in `start[v]..start[v + 1]`, in that order.
///
/// Shapes: `dy [N, D]` (or `[C, F, D]`), `sorted_row [M]` and `start [V + 1]` i32 as [`plan`] makes them, `dtable [V, D]`. dtype f32 (f64 on
/// the CPU, `dy` also bf16 where the device has it; `dtable` is then f32).
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit; on the CPU also for a start or a row outside its table.
pub fn backward(dy: &Tensor, sorted_row: &Tensor, start: &Tensor, dtable: &mut Tensor) -> Result<()> {
    let dtype = activation(OP, "dy", dy)?;
    let dims = Dims::new(sorted_row.len(), dtable, "dy", dy, false)?;
    if dims.columns as usize != dtable.row_len() {
        return Err(Error::mismatch(OP, "dtable", format!("rows of {} elements", dims.columns), dtable.shape()));
    }
    let elements = dims.entries as usize * dims.columns as usize;
    let call = Call::new(OP, "backward", dy.device())
        .reads_some("dy", dy, dy.shape(), dtype, elements)?
        .reads("sorted_row", sorted_row, sorted_row.shape(), DType::I32)?
        .reads("start", start, [dtable.rows() + 1], DType::I32)?
        .updates("dtable", dtable, dtable.shape(), statistic(dtype))?
        .begin(|| Work::new(elements));
    match call.device() {
        Device::Cpu => {
            check_rows("sorted_row", sorted_row.cpu::<i32>(), dims.rows as usize)?;
            let start = start.cpu::<i32>();
            let ordered = start.windows(2).all(|w| w[0] <= w[1]);
            if !ordered || start[0] < 0 || start[dtable.rows()] as usize > sorted_row.len() {
                return Err(Error::mismatch(OP, "start", format!("numbers that rise within 0..={}", sorted_row.len()), format!("{start:?}")));
            }
            on_real!(dtype, backward_cpu::<T>(dy, sorted_row.cpu::<i32>(), start, dtable));
        }
        Device::Gpu(gpu) => launch_backward(gpu, dtype, dims, &views([dy, sorted_row, start, dtable]))?,
    }
    call.end([&*dtable]);
    Ok(())
}

/// What [`backward`] needs to know of a batch: `(sorted_row [M], start [V + 1])`, where `sorted_row[start[v]..start[v + 1]]`
/// are the rows of the entries with id `v`, in the order of the entries. `row[i]` is the row of entry `i`.
///
/// Entries that [`forward`] skips (a negative id or row) or refuses (an id beyond the vocabulary) are left out; the end of
/// `sorted_row` is filled up with −1.
///
/// ```
/// use trimodal::ops::embedding::plan;
///
/// // Word 1 stands in rows 0 and 2, word 0 in row 1, word 2 nowhere.
/// assert_eq!(plan(&[1, 0, 1], &[0, 1, 2], 3), (vec![1, 0, 2], vec![0, 1, 3, 3]));
/// ```
///
/// # Panics
/// If `id` and `row` differ in length.
pub fn plan(id: &[i32], row: &[i32], vocabulary: usize) -> (Vec<i32>, Vec<i32>) {
    assert_eq!(id.len(), row.len(), "one row for each id");
    let entries = || id.iter().zip(row).filter(|(id, row)| **id >= 0 && (**id as usize) < vocabulary && **row >= 0);
    let mut start = vec![0i32; vocabulary + 1];
    for (&id, _) in entries() {
        start[id as usize + 1] += 1;
    }
    for v in 0..vocabulary {
        start[v + 1] += start[v];
    }
    let mut next = start.clone();
    let mut sorted_row = vec![-1; id.len()];
    for (&id, &row) in entries() {
        sorted_row[next[id as usize] as usize] = row;
        next[id as usize] += 1;
    }
    (sorted_row, start)
}

/// Checks that every number is −1 or below `limit`.
fn check_rows(name: &'static str, numbers: &[i32], limit: usize) -> Result<()> {
    match numbers.iter().position(|&n| n < -1 || n >= 0 && n as usize >= limit) {
        None => Ok(()),
        Some(at) => Err(Error::mismatch(OP, name, format!("numbers below {limit}, or −1"), format!("{} at {at}", numbers[at]))),
    }
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn forward_cpu<T: Real>(dims: Dims, table: &Tensor, id: &Tensor, row: Option<&Tensor>, y: &mut Tensor) {
    let columns = dims.columns as usize;
    let (table, id) = (table.cpu::<T>(), id.cpu::<i32>());
    let from = |id: i32| &table[id as usize * columns..(id as usize + 1) * columns];
    match row {
        // Rows named at will are copied one after the other: a copy of this size is done before threads are woken.
        Some(row) => {
            let y = y.cpu_mut::<T>();
            for (&id, &row) in id.iter().zip(row.cpu::<i32>()) {
                if id >= 0 && row >= 0 {
                    y[row as usize * columns..][..columns].copy_from_slice(from(id));
                }
            }
        }
        None => {
            let rows = rows_per_task(columns);
            y.cpu_mut::<T>().par_chunks_mut(rows * columns).zip(id.par_chunks(rows)).for_each(|(y, id)| {
                for (y, &id) in y.chunks_exact_mut(columns).zip(id) {
                    if id >= 0 {
                        y.copy_from_slice(from(id));
                    }
                }
            });
        }
    }
}

fn backward_cpu<T: Real>(dy: &Tensor, sorted_row: &[i32], start: &[i32], dtable: &mut Tensor) {
    let columns = dtable.row_len();
    let dy = dy.cpu::<T>();
    let rows = rows_per_task(columns);
    dtable.cpu_mut::<T>().par_chunks_mut(rows * columns).zip(start[..start.len() - 1].par_chunks(rows)).enumerate().for_each(|(task, (dtable, first))| {
        for (v, dtable) in dtable.chunks_exact_mut(columns).enumerate() {
            let end = start[task * rows + v + 1];
            add_rows(dy, &sorted_row[first[v] as usize..end as usize], dtable);
        }
    });
}

#[multiversion(targets = "simd")]
fn add_rows<T: Real>(dy: &[T], rows: &[i32], total: &mut [T]) {
    let columns = total.len();
    for &row in rows.iter().filter(|row| **row >= 0) {
        for (total, &dy) in total.iter_mut().zip(&dy[row as usize * columns..]) {
            *total += dy;
        }
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch_forward(gpu: &Gpu, wide: bool, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let elements = dims.entries as usize * dims.columns as usize;
    let each = gpu.elements_per_access(dtype);
    let wide = wide && (dims.columns as usize).is_multiple_of(each);
    let (entry, groups) = if wide { ("forward_vec4", elements.div_ceil(256 * each)) } else { ("forward", elements.div_ceil(256)) };
    gpu.launch(Launch { kernel: (OP, entry), constants: &[], buffers, variant: variant(dtype), dims: bytes_of(&dims), groups })
}

fn launch_backward(gpu: &Gpu, dtype: DType, dims: Dims, buffers: &[Option<View>]) -> Result<()> {
    let (rows, columns) = (dims.vocabulary as usize, dims.columns as usize);
    let groups = match gpu.language() {
        Language::Wgsl => (rows * columns).div_ceil(256),
        Language::Ptx => (rows * columns.div_ceil(gpu.elements_per_access(dtype))).div_ceil(256),
    };
    gpu.launch(Launch { kernel: (OP, "backward"), constants: &[], buffers, variant: variant(dtype), dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// `(entries M, columns D, vocabulary V, rows N)`
#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize, usize)] = &[
    (0, 8, 3, 4), (1, 1, 1, 1), (1, 2, 5, 1), (2, 3, 1, 7), (3, 31, 4, 3), (5, 32, 9, 8), (7, 33, 2, 11), (31, 4, 31, 32), (32, 5, 7, 33),
    (33, 64, 65, 33), (63, 7, 3, 64), (64, 63, 64, 65), (65, 65, 17, 127), (127, 16, 450, 128), (128, 17, 13, 129), (129, 12, 127, 130),
    (257, 1, 257, 300), (101, 127, 29, 101), (13, 128, 31, 40), (17, 129, 37, 17), (3, 1021, 5, 6), (2, 4099, 3, 2), (1009, 24, 101, 1013),
    (513, 40, 1, 600), (256, 96, 999, 256), (4, 20_011, 5, 5),
];

/// The oracle cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &shape in SHAPES {
        for seed in 0..2 {
            add_cases(&mut cases, shape, seed);
        }
    }
    cases.extend(sized(&Sizes::DEMO));
    cases
}

/// The cases at a model's sizes.
pub fn sized(s: &Sizes) -> Vec<Case> {
    let mut cases = Vec::new();
    add_cases(&mut cases, (s.rows, s.width, s.vocabulary, s.rows), 0);
    cases
}

fn add_cases(cases: &mut Vec<Case>, shape: (usize, usize, usize, usize), seed: usize) {
    let (entries, columns, vocabulary, rows) = shape;
    for with_row in [false, true] {
        for wide in [false, true] {
            if wide && columns % 4 != 0 {
                continue;
            }
            cases.push(forward_case(shape, with_row, seed, wide));
        }
    }
    let label = format!("M={entries} D={columns} V={vocabulary} N={rows} #{seed}");
    let mut draw = Draw::new(&label);
    let (id, row) = entries_of(&mut draw, entries, vocabulary, rows);
    let (sorted_row, start) = plan(&id, &row, vocabulary);
    // Small integers: every order of summation gives the same bits.
    let inputs = vec![
        draw.integers("dy", [rows, columns], 8).mixed(),
        Operand::ints("sorted_row", [entries], sorted_row),
        Operand::ints("start", [vocabulary + 1], start),
    ];
    let outputs = vec![Output::updated(draw.integers("dtable", [vocabulary, columns], 8))];
    let case = Case::new("backward", &label, inputs, outputs, Compare::Exact, |i, o| backward(&i[0], &i[1], &i[2], &mut o[0])).naive(|i, o| {
        on_real!(i[0].dtype(), naive_backward::<T>(i, o));
        Ok(())
    });
    cases.push(case.flops((entries * columns) as u64));
}

fn forward_case((entries, columns, vocabulary, rows): (usize, usize, usize, usize), with_row: bool, seed: usize, wide: bool) -> Case {
    let label = format!("M={entries} D={columns} V={vocabulary} N={rows} #{seed}{}", if with_row { " row" } else { "" });
    let mut draw = Draw::new(&label);
    let (id, row) = entries_of(&mut draw, entries, vocabulary, rows);
    // A row of the table is read once, however often it is asked for.
    let written = id.iter().zip(&row).filter(|&(&id, &row)| id >= 0 && (row >= 0 || !with_row)).count();
    let mut distinct: Vec<i32> = id.iter().copied().filter(|&id| id >= 0).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let table = draw.normals("table", [vocabulary, columns], 1.0).mixed().touching(distinct.len() * columns);
    let mut inputs = vec![table, Operand::ints("id", [entries], id)];
    if with_row {
        inputs.push(Operand::ints("row", [entries], row));
    }
    let before = Operand::lazy("y", [rows, columns], Kind::Mixed, move || (0..rows * columns).map(|i| (i % 251) as f64).collect());
    let entry = if wide { "forward:vec4" } else { "forward:scalar" };
    Case::new(entry, label, inputs, vec![Output::partial(before, written * columns)], Compare::Exact, move |i, o| {
        gather(&i[0], &i[1], i.get(2), &mut o[0], wide)
    })
    .naive(|i, o| {
        on_real!(i[0].dtype(), naive_forward::<T>(i, o));
        Ok(())
    })
}

/// Ids (about one in eight is −1, small ones are frequent) and distinct rows in any order (some −1).
fn entries_of(draw: &mut Draw, entries: usize, vocabulary: usize, rows: usize) -> (Vec<i32>, Vec<i32>) {
    let mut id_of = || {
        let most = draw.below(vocabulary);
        if draw.below(8) == 0 { -1 } else { draw.below(most + 1) as i32 }
    };
    let id = (0..entries).map(|_| id_of()).collect();
    let mut row: Vec<i32> = (0..rows as i32).chain(std::iter::repeat(-1)).take(entries.max(rows)).collect();
    for i in (1..row.len()).rev() {
        row.swap(i, draw.below(i + 1));
    }
    row.truncate(entries);
    (id, row)
}

fn naive_forward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (columns, table, id) = (inputs[0].row_len(), inputs[0].cpu::<T>(), inputs[1].cpu::<i32>());
    for i in 0..id.len() {
        let to = inputs.get(2).map_or(i as i32, |row| row.cpu::<i32>()[i]);
        for c in (0..columns).filter(|_| id[i] >= 0 && to >= 0) {
            outputs[0].cpu_mut::<T>()[to as usize * columns + c] = table[id[i] as usize * columns + c];
        }
    }
}

fn naive_backward<T: Real>(inputs: &[Tensor], outputs: &mut [Tensor]) {
    let (columns, dy, sorted_row, start) = (inputs[0].row_len(), inputs[0].cpu::<T>(), inputs[1].cpu::<i32>(), inputs[2].cpu::<i32>());
    for v in 0..start.len() - 1 {
        for j in start[v]..start[v + 1] {
            for c in 0..columns {
                outputs[0].cpu_mut::<T>()[v * columns + c] += dy[sorted_row[j as usize] as usize * columns + c];
            }
        }
    }
}

/// The gradient checks.
pub fn gradients() -> Vec<GradientCase> {
    [(1, 1, 1, 1), (5, 3, 4, 6), (9, 2, 3, 9)]
        .into_iter()
        .map(|(entries, columns, vocabulary, rows)| {
            let label = format!("M={entries} D={columns} V={vocabulary} N={rows}");
            let mut draw = Draw::new(&label);
            let (id, row) = entries_of(&mut draw, entries, vocabulary, rows);
            let (sorted_row, start) = plan(&id, &row, vocabulary);
            GradientCase {
                inputs: vec![
                    draw.normals("table", [vocabulary, columns], 1.0),
                    Operand::ints("id", [entries], id),
                    Operand::ints("row", [entries], row),
                    Operand::ints("sorted_row", [entries], sorted_row),
                    Operand::ints("start", [vocabulary + 1], start),
                ],
                wrt: vec![0],
                label,
                forward: Box::new(move |i| {
                    let mut y = Tensor::zeros(i[0].device(), [rows, columns], i[0].dtype())?;
                    forward(&i[0], &i[1], Some(&i[2]), &mut y)?;
                    Ok(vec![y])
                }),
                backward: Box::new(|i, d| {
                    let [mut dtable] = super::zeros_like([&i[0]])?;
                    backward(&d[0], &i[3], &i[4], &mut dtable)?;
                    Ok(vec![dtable])
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op, test_devices};

    #[test]
    fn a_plan_sorts_stably_and_leaves_out_what_is_unused() {
        let (sorted_row, start) = plan(&[2, 0, -1, 2, 1, 0, 9], &[5, 4, 3, 2, -1, 0, 1], 4);
        assert_eq!(start, [0, 2, 2, 4, 4]);
        assert_eq!(sorted_row, [4, 0, 5, 2, -1, -1, -1]);
        assert_eq!(plan(&[], &[], 2), (vec![], vec![0, 0, 0]));
    }

    #[test]
    fn rows_go_where_they_are_told() {
        let table = Tensor::from_slice(&Device::Cpu, [2, 2], &[1f32, 2.0, 3.0, 4.0]).unwrap();
        let id = Tensor::from_slice(&Device::Cpu, [3], &[1, -1, 0]).unwrap();
        let row = Tensor::from_slice(&Device::Cpu, [3], &[2, 1, 0]).unwrap();
        let mut y = Tensor::from_slice(&Device::Cpu, [3, 2], &[9f32; 6]).unwrap();
        forward(&table, &id, Some(&row), &mut y).unwrap();
        assert_eq!(y.read::<f32>().unwrap(), [1.0, 2.0, 9.0, 9.0, 3.0, 4.0]);
    }

    #[test]
    fn frames_of_clips_are_rows() {
        for device in test_devices() {
            let frames = Tensor::from_slice(&device, [2, 2, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
            let id = Tensor::from_slice(&device, [4], &[0, 1, 2, 3]).unwrap();
            let row = Tensor::from_slice(&device, [4], &[2, -1, 0, 1]).unwrap();
            let mut x = Tensor::from_slice(&device, [3, 2], &[0f32; 6]).unwrap();
            forward(&frames, &id, Some(&row), &mut x).unwrap();
            assert_eq!(x.read::<f32>().unwrap(), [5.0, 6.0, 7.0, 8.0, 1.0, 2.0]);
            // And back: the gradient's rows, gathered into frames.
            let mut back = Tensor::from_slice(&device, [2, 2, 2], &[0f32; 8]).unwrap();
            forward(&x, &row, None, &mut back).unwrap();
            assert_eq!(back.read::<f32>().unwrap(), [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0]);
        }
    }

    #[test]
    fn on_a_gpu_what_lies_outside_is_skipped() {
        for device in test_devices().into_iter().filter(|d| !matches!(d, Device::Cpu)) {
            let table = Tensor::from_slice(&device, [2, 1], &[1f32, 2.0]).unwrap();
            let id = Tensor::from_slice(&device, [4], &[0, 2, 1_000_000_000, 1]).unwrap();
            let row = Tensor::from_slice(&device, [4], &[0, 1, 2, 1_000_000_000]).unwrap();
            let mut y = Tensor::from_slice(&device, [3, 1], &[9f32; 3]).unwrap();
            forward(&table, &id, Some(&row), &mut y).unwrap();
            assert_eq!(y.read::<f32>().unwrap(), [1.0, 9.0, 9.0]);
        }
    }

    #[test]
    fn ids_beyond_the_table_are_refused() {
        let table = Tensor::zeros(&Device::Cpu, [2, 2], DType::F32).unwrap();
        let id = Tensor::from_slice(&Device::Cpu, [2], &[0, 2]).unwrap();
        let mut y = Tensor::zeros(&Device::Cpu, [2, 2], DType::F32).unwrap();
        let error = forward(&table, &id, None, &mut y).unwrap_err();
        assert_eq!(error.to_string(), "embedding: id: expected numbers below 2, or −1, found 2 at 1");
        let mut short = Tensor::zeros(&Device::Cpu, [1, 2], DType::F32).unwrap();
        assert!(forward(&table, &id, None, &mut short).unwrap_err().to_string().contains("at most 1 entries"));
    }

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        assert_drawn(8, (0usize..200, 1usize..80, 1usize..90, 0usize..50), |(entries, columns, vocabulary, more)| {
            let mut cases = Vec::new();
            add_cases(&mut cases, (entries, columns, vocabulary, entries + more), 0);
            cases
        });
    }
}
