//! Three first kernels, which chapter 0 of [the guide](crate::learn) reads line by line: what a thread, a workgroup, shared memory, a barrier
//! and a tile are. No model calls them, and the benchmark does not time them: the operations that do such work in earnest are
//! [`rms_norm`](super::rms_norm) and [`matmul`](super::matmul).
//!
//! `z = x + y`, element by element; `y[i] = Σ_j x[i, j]`, the sum of each row; `C = A · B` in tiles of 4 × 4.
//!
//! There is no backward pass, because nothing is trained with them. (It would be: `dx = dz`, `dy = dz`; `dx[i, j] = dy[i]`;
//! `dA = dC · Bᵀ`, `dB = Aᵀ · dC`.)

use super::case::{Case, Compare, Draw, GradientCase, Kind, Output};
use super::{Call, Op, Pass, Sizes, exactly, on_real, real, size, views};
use crate::device::cpu::Real;
use crate::device::{Device, Gpu, Launch, View};
use crate::error::{Error, Result};
use crate::observe::Work;
use crate::tensor::Tensor;
use bytemuck::bytes_of;

const OP: &str = "primer";
/// Its files and passes, its cases.
pub const OPERATION: Op = Op {
    name: OP,
    files: &[OP],
    passes: &[
        Pass { name: "add", kernel: (OP, "add") },
        Pass { name: "row_sum", kernel: (OP, "row_sum") },
        Pass { name: "tile_product", kernel: (OP, "tile_product") },
    ],
    cases,
    sized,
    gradients,
    fields: &[],
};
/// Threads of a workgroup of `add` and `row_sum`.
const BLOCK: usize = 64;
/// Rows and columns of a tile of `tile_product`.
const SIDE: usize = 4;

/// The sizes of one call, as the kernels read them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Dims {
    m: u32,
    n: u32,
    k: u32,
    padding: u32,
}

impl Dims {
    fn new(m: usize, n: usize, k: usize) -> Result<Self> {
        Ok(Dims { m: size(OP, "M", m)?, n: size(OP, "N", n)?, k: size(OP, "K", k)?, padding: 0 })
    }
}

/// `z = x + y`, element by element.
///
/// Shapes: all three alike. dtype f32 (f64 on the CPU).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::primer;
///
/// let x = Tensor::from_slice(&Device::Cpu, [3], &[1f32, 2.0, 3.0])?;
/// let mut z = Tensor::zeros(&Device::Cpu, [3], DType::F32)?;
/// primer::add(&x, &x, &mut z)?;
/// assert_eq!(z.read::<f32>()?, [2.0, 4.0, 6.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a length, dtype or device does not fit.
pub fn add(x: &Tensor, y: &Tensor, z: &mut Tensor) -> Result<()> {
    let dtype = real(OP, "x", x)?;
    let dims = Dims::new(1, x.len(), 0)?;
    let call = Call::new(OP, "add", x.device())
        .reads("x", x, x.shape(), dtype)?
        .reads("y", y, x.shape(), dtype)?
        .writes("z", z, x.shape(), dtype)?
        .begin(|| Work::new(x.len()));
    match call.device() {
        Device::Cpu => on_real!(dtype, add_cpu::<T>(x, y, z)),
        Device::Gpu(gpu) => launch(gpu, "add", dims, &views([x, y, z]), x.len().div_ceil(BLOCK))?,
    }
    call.end([&*z]);
    Ok(())
}

/// The sum of each row: `x [M, N]` → `y [M]`.
///
/// dtype f32 (f64 on the CPU).
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::primer;
///
/// let x = Tensor::from_slice(&Device::Cpu, [2, 3], &[1f32, 2.0, 3.0, 10.0, 20.0, 30.0])?; // [M, N]
/// let mut y = Tensor::zeros(&Device::Cpu, [2], DType::F32)?;
/// primer::row_sum(&x, &mut y)?;
/// assert_eq!(y.read::<f32>()?, [6.0, 60.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn row_sum(x: &Tensor, y: &mut Tensor) -> Result<()> {
    let dtype = real(OP, "x", x)?;
    let dims = Dims::new(x.rows(), x.row_len(), 0)?;
    let call = Call::new(OP, "row_sum", x.device()).reads("x", x, x.shape(), dtype)?.writes("y", y, exactly([x.rows()]), dtype)?.begin(|| Work::new(x.len()));
    match call.device() {
        Device::Cpu => on_real!(dtype, row_sum_cpu::<T>(dims, x, y)),
        Device::Gpu(gpu) => launch(gpu, "row_sum", dims, &views([x, y]), x.rows())?,
    }
    call.end([&*y]);
    Ok(())
}

/// The product of two matrices: `a [M, K]`, `b [K, N]` → `c [M, N]`.
///
/// dtype f32 (f64 on the CPU). [`matmul`](super::matmul::matmul) is the fast one.
///
/// ```
/// use trimodal::{DType, Device, Tensor};
/// use trimodal::ops::primer;
///
/// let a = Tensor::from_slice(&Device::Cpu, [1, 2], &[1f32, 2.0])?; // [M, K]
/// let b = Tensor::from_slice(&Device::Cpu, [2, 2], &[1f32, 0.0, 10.0, 1.0])?; // [K, N]
/// let mut c = Tensor::zeros(&Device::Cpu, [1, 2], DType::F32)?;
/// primer::tile_product(&a, &b, &mut c)?;
/// assert_eq!(c.read::<f32>()?, [21.0, 2.0]);
/// # Ok::<(), trimodal::Error>(())
/// ```
///
/// # Errors
/// [`Error::Mismatch`] where a shape, dtype or device does not fit.
pub fn tile_product(a: &Tensor, b: &Tensor, c: &mut Tensor) -> Result<()> {
    let dtype = real(OP, "a", a)?;
    let ([m, k], [_, n]) = (matrix("a", a)?, matrix("b", b)?);
    let dims = Dims::new(m, n, k)?;
    let call = Call::new(OP, "tile_product", a.device())
        .reads("a", a, exactly([m, k]), dtype)?
        .reads("b", b, exactly([k, n]), dtype)?
        .writes("c", c, exactly([m, n]), dtype)?
        .begin(|| Work::product(2 * m * n * k));
    match call.device() {
        Device::Cpu => on_real!(dtype, product_cpu::<T>(dims, a, b, c)),
        Device::Gpu(gpu) => launch(gpu, "tile_product", dims, &views([a, b, c]), m.div_ceil(SIDE) * n.div_ceil(SIDE))?,
    }
    call.end([&*c]);
    Ok(())
}

/// The sides of a matrix.
fn matrix(name: &'static str, tensor: &Tensor) -> Result<[usize; 2]> {
    <[usize; 2]>::try_from(tensor.shape().dims()).map_err(|_| Error::mismatch(OP, name, "a matrix [rows, columns]", tensor.shape()))
}

// ── CPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn add_cpu<T: Real>(x: &Tensor, y: &Tensor, z: &mut Tensor) {
    for ((z, &x), &y) in z.cpu_mut::<T>().iter_mut().zip(x.cpu::<T>()).zip(y.cpu::<T>()) {
        *z = x + y;
    }
}

fn row_sum_cpu<T: Real>(dims: Dims, x: &Tensor, y: &mut Tensor) {
    let (x, n) = (x.cpu::<T>(), dims.n as usize);
    for (row, y) in y.cpu_mut::<T>().iter_mut().enumerate() {
        *y = super::sum(x[row * n..][..n].iter().copied());
    }
}

fn product_cpu<T: Real>(dims: Dims, a: &Tensor, b: &Tensor, c: &mut Tensor) {
    let (a, b, n, depth) = (a.cpu::<T>(), b.cpu::<T>(), dims.n as usize, dims.k as usize);
    for (at, c) in c.cpu_mut::<T>().iter_mut().enumerate() {
        *c = super::sum((0..depth).map(|k| a[at / n * depth + k] * b[k * n + at % n]));
    }
}

// ── GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn launch(gpu: &Gpu, entry: &'static str, dims: Dims, buffers: &[Option<View>], groups: usize) -> Result<()> {
    gpu.launch(Launch { kernel: (OP, entry), constants: &[], buffers, variant: "", dims: bytes_of(&dims), groups })
}

// ── Cases ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The oracle cases: below, at and above a block and a tile, the smallest first.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [0, 1, 5, 63, 64, 65, 127, 128, 129, 1000, 4099].into_iter().map(add_case).collect();
    let rows = [(0, 3), (3, 0), (1, 1), (2, 5), (3, 63), (2, 64), (5, 65), (4, 127), (3, 128), (2, 129), (7, 1000), (1, 4099)];
    cases.extend(rows.into_iter().map(|(m, n)| row_sum_case(m, n)));
    let products =
        [(0, 4, 4), (4, 0, 4), (4, 4, 0), (1, 1, 1), (4, 4, 4), (4, 4, 8), (3, 5, 2), (5, 3, 7), (8, 8, 8), (9, 4, 13), (4, 13, 9), (33, 17, 65), (1, 64, 31)];
    cases.extend(products.into_iter().map(|(m, n, k)| product_case(m, n, k)));
    cases
}

/// None: no model calls them, so that there is no size at which their time would tell anything.
pub fn sized(_: &Sizes) -> Vec<Case> {
    Vec::new()
}

fn add_case(n: usize) -> Case {
    let label = format!("N={n}");
    let mut draw = Draw::new(&label);
    let inputs = vec![draw.normals("x", [n], 1.0), draw.normals("y", [n], 1.0)];
    // One addition, correctly rounded everywhere.
    Case::new("add", label, inputs, vec![Output::overwritten("z", [n], Kind::Real)], Compare::Ulp(0.5), |i, o| add(&i[0], &i[1], &mut o[0])).flops(n as u64)
}

fn row_sum_case(m: usize, n: usize) -> Case {
    let label = format!("M={m} N={n}");
    // Small integers, here and below: every sum is exact, in any order.
    let inputs = vec![Draw::new(&label).integers("x", [m, n], 9)];
    Case::new("row_sum", label, inputs, vec![Output::overwritten("y", [m], Kind::Real)], Compare::Exact, |i, o| row_sum(&i[0], &mut o[0])).flops((m * n) as u64)
}

fn product_case(m: usize, n: usize, k: usize) -> Case {
    let label = format!("M={m} N={n} K={k}");
    let mut draw = Draw::new(&label);
    let inputs = vec![draw.integers("a", [m, k], 4), draw.integers("b", [k, n], 4)];
    let outputs = vec![Output::overwritten("c", [m, n], Kind::Real)];
    Case::new("tile_product", label, inputs, outputs, Compare::Exact, |i, o| tile_product(&i[0], &i[1], &mut o[0])).flops((2 * m * n * k) as u64)
}

/// There is no backward pass.
pub fn gradients() -> Vec<GradientCase> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_drawn, assert_op, test_devices};
    use crate::tensor::DType;

    #[test]
    fn every_case_on_every_device() {
        assert_op(OP);
    }

    /// Shapes beyond the list.
    #[test]
    fn any_shape() {
        assert_drawn(8, (0usize..40, 1usize..200, 1usize..40), |(m, n, k)| vec![add_case(m * n), row_sum_case(m, n), product_case(m, n % 40 + 1, k)]);
    }

    #[test]
    fn known_values() {
        for device in test_devices() {
            let tensor = |shape: &[usize], values: &[f32]| Tensor::from_slice(&device, shape, values).unwrap();
            let a = tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let b = tensor(&[3, 2], &[7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
            let [mut z, mut c] = [[2, 3], [2, 2]].map(|shape| Tensor::zeros(&device, shape, DType::F32).unwrap());
            let mut y = Tensor::zeros(&device, [2], DType::F32).unwrap();
            add(&a, &a, &mut z).unwrap();
            row_sum(&a, &mut y).unwrap();
            tile_product(&a, &b, &mut c).unwrap();
            assert_eq!(z.read::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
            assert_eq!(y.read::<f32>().unwrap(), [6.0, 15.0]);
            assert_eq!(c.read::<f32>().unwrap(), [58.0, 64.0, 139.0, 154.0]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap();
        let say = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(say(add(&zeros(&[3]), &zeros(&[4]), &mut zeros(&[3]))), "primer: y: expected [3], found [4]");
        assert_eq!(say(row_sum(&zeros(&[3, 2]), &mut zeros(&[2]))), "primer: y: expected [3], found [2]");
        assert_eq!(say(tile_product(&zeros(&[3, 2]), &zeros(&[3, 2]), &mut zeros(&[3, 2]))), "primer: b: expected [2, 2], found [3, 2]");
        assert_eq!(say(tile_product(&zeros(&[3]), &zeros(&[3, 2]), &mut zeros(&[3, 2]))), "primer: a: expected a matrix [rows, columns], found [3]");
    }
}
