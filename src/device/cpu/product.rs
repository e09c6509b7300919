//! The CPU's matrix product: the `gemm` crates' tiles, held to one order of sums.
//!
//! Every element of `c` is the sum over k of `a[i, k] · b[k, j]`, one term after the other, in pieces of [`PIECE`] terms that are added
//! to `c` in turn: the same bits whatever the width of the processor's registers and the sizes of its caches. Left to itself the
//! library would add as many partial sums as a register has lanes where `m · n ≤ 256`, `m = 1` or `n = 1`, and cut k by the first-level
//! cache that it finds. Where both operands lie along k and `c` is that small, [`dots`] has an order of its own.

use super::{LANES, Real, fold, multiply_add};
use gemm_common::Parallelism;
use multiversion::multiversion;
use multiversion::target::target_cfg_f;

/// `m, n, k, c, its column and row stride, whether c is read, a, its strides, b, its strides, alpha (of c), beta (of a · b)`, three flags
/// that are for complex numbers, and how many threads it may use.
#[rustfmt::skip]
pub type GemmKernel<T> = unsafe fn(
    usize, usize, usize, *mut T, isize, isize, bool, *const T, isize, isize, *const T, isize, isize, T, T, bool, bool, bool, Parallelism,
);

/// Terms that are added up before the sum goes to `c`. The library takes no fewer on any processor; on one with a larger cache it
/// would take more.
const PIECE: usize = 512;

/// One operand of [`gemm`]: a matrix with strides, over a slice.
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A row-major matrix with `cols` columns.
    pub fn rows(data: &'a [T], cols: usize) -> Self {
        Mat { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose of a row-major matrix that is stored with `cols` columns.
    pub fn transposed(data: &'a [T], cols: usize) -> Self {
        Mat { data, row_stride: 1, col_stride: cols }
    }

    fn check(&self, rows: usize, cols: usize) {
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * self.row_stride + (cols - 1) * self.col_stride;
            assert!(last < self.data.len(), "a [{rows}, {cols}] operand reaches past its slice");
        }
    }
}

/// `c[m, n] = beta · c + a[m, k] · b[k, n]` on the calling thread. `c` is row-major with rows `c_stride` apart; with `beta` 0 it is
/// written without being read.
///
/// # Panics
/// If an operand's slice is too short.
pub fn gemm<T: Real>(m: usize, n: usize, k: usize, a: Mat<T>, b: Mat<T>, beta: T, c: &mut [T], c_stride: usize) {
    if m == 0 || n == 0 {
        return;
    }
    a.check(m, k);
    b.check(k, n);
    Mat { data: c, row_stride: c_stride, col_stride: 1 }.check(m, n);
    assert!(n <= c_stride || m == 1, "rows of c overlap");
    if k > 0 && a.col_stride == 1 && b.row_stride == 1 && (m == 1 || n == 1 || m * n <= SMALL) {
        return dots([m, n, k], a, b, beta, c, c_stride);
    }
    let kernel = T::gemm_kernel();
    let (c, c_rows) = (c.as_mut_ptr(), c_stride as isize);
    let mut beta = beta;
    let mut first = 0;
    loop {
        let piece = PIECE.min(k - first);
        let at = |operand: Mat<T>, along_k: usize| operand.data[if piece > 0 { first * along_k } else { 0 }..].as_ptr();
        let (a_at, a_columns, a_rows) = (at(a, a.col_stride), a.col_stride as isize, a.row_stride as isize);
        let (b_at, b_columns, b_rows) = (at(b, b.row_stride), b.col_stride as isize, b.row_stride as isize);
        // The first of the three flags, the conjugate of c, changes nothing in a real number, and the library takes no short cut with it.
        let (read, one) = (beta != T::zero(), T::one());
        // SAFETY: every element that the three operands reach is inside its slice, checked above; c is borrowed mutably, so it
        // aliases neither a nor b; no stride is negative, and that of c's rows in the kernel's eyes is the smaller one.
        unsafe {
            if c_rows > 1 {
                // It writes by columns: cᵀ = bᵀ · aᵀ.
                kernel(n, m, piece, c, c_rows, 1, read, b_at, b_rows, b_columns, a_at, a_rows, a_columns, beta, one, true, false, false, Parallelism::None);
            } else {
                kernel(m, n, piece, c, 1, c_rows, read, a_at, a_columns, a_rows, b_at, b_columns, b_rows, beta, one, true, false, false, Parallelism::None);
            }
        }
        first += piece;
        if first == k {
            return;
        }
        beta = one;
    }
}

/// Elements of `c` for which the tiles do not pay: they would pack an operand to use it hardly more than once.
const SMALL: usize = 256;

/// `c = beta · c + a · b` where both operands lie along k. Term k goes to partial sum k mod 16, on every processor, and the partial sums
/// are added by halves. One element after the other: several at a time were compiled to a third of the speed.
#[multiversion(targets = "simd")]
fn dots<T: Real>([m, n, k]: [usize; 3], a: Mat<T>, b: Mat<T>, beta: T, c: &mut [T], c_stride: usize) {
    let fused = target_cfg_f!(target_feature = "fma");
    for column in 0..n {
        let (w, w_rest) = b.data[column * b.col_stride..][..k].as_chunks::<LANES>();
        for row in 0..m {
            let (x, x_rest) = a.data[row * a.row_stride..][..k].as_chunks::<LANES>();
            let mut sums = [T::zero(); LANES];
            for (x, w) in x.iter().zip(w) {
                for lane in 0..LANES {
                    sums[lane] = multiply_add(fused, x[lane], w[lane], sums[lane]);
                }
            }
            for ((sum, &x), &w) in sums.iter_mut().zip(x_rest).zip(w_rest) {
                *sum = multiply_add(fused, x, w, *sum);
            }
            let (sum, c) = (fold(sums), &mut c[row * c_stride + column]);
            *c = if beta == T::zero() { sum } else { beta * *c + sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gemm_transposes_and_accumulates() {
        let a = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
        let mut c = [1.0; 4];
        gemm(2, 2, 3, Mat::rows(&a, 3), Mat::transposed(&a, 3), 1.0, &mut c, 2);
        assert_eq!(c, [15.0, 33.0, 33.0, 78.0]);
        gemm(2, 2, 0, Mat::rows(&a, 3), Mat::rows(&a, 2), 0.0, &mut c, 2);
        assert_eq!(c, [0.0; 4]);
        gemm(2, 2, 0, Mat::rows(&a[..0], 0), Mat::rows(&a[..0], 2), 1.0, &mut c, 2);
        assert_eq!(c, [0.0; 4]);
    }

    /// Numbers whose sums depend on the order in which they are added.
    fn drawn(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| (next() - 0.5) * (next() * 12.0).exp2()).collect()
    }

    /// The order that this module's first lines promise, written out.
    fn in_order(k: usize, beta: f32, c: f32, term: impl Fn(usize) -> (f32, f32), in_lanes: bool) -> f32 {
        if in_lanes {
            let mut lanes = [0f32; 16];
            (0..k).for_each(|i| lanes[i % 16] = term(i).0.mul_add(term(i).1, lanes[i % 16]));
            for width in [8, 4, 2, 1] {
                (0..width).for_each(|l| lanes[l] += lanes[l + width]);
            }
            return if beta == 0.0 { lanes[0] } else { beta * c + lanes[0] };
        }
        let mut total = if beta == 0.0 { 0.0 } else { c };
        for first in (0..k).step_by(512) {
            let sum = (first..k.min(first + 512)).fold(0f32, |sum, i| term(i).0.mul_add(term(i).1, sum));
            total = if first == 0 && beta == 0.0 { sum } else { total + sum };
        }
        total
    }

    /// Bytes of first-level cache that a run of this test is told; the library reads them where the system says them.
    const FAKED: &str = "TRIMODAL_TEST_FAKED_CACHE";

    /// To the bit, for leftovers of every tile, for vectors, and for a k beyond the pieces of any cache.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn sums_have_one_order_on_every_processor() {
        if let Ok(told) = std::env::var(FAKED) {
            assert_eq!(gemm_common::cache::CACHE_INFO[0].cache_bytes, told.parse::<usize>().expect("bytes"), "the faked cache is what the library finds");
        }
        #[cfg(target_arch = "x86_64")]
        if !std::arch::is_x86_feature_detected!("fma") {
            return eprintln!("NOT CHECKED: the order of sums: this processor has no fused multiply-add");
        }
        let mut checked = 0;
        for (m, n) in [(1, 1), (1, 7), (1, 64), (2, 1), (65, 1), (2, 3), (4, 64), (16, 16), (17, 15), (17, 16), (33, 31), (65, 70)] {
            for k in [1, 2, 3, 15, 16, 17, 192, 511, 512, 513, 1024, 1025, 2100] {
                let (a, b, old) = (drawn(m * k, 1), drawn(k * n, 2), drawn(m * n, 3));
                for (a_by_k, b_by_k) in [(true, true), (true, false), (false, true), (false, false)] {
                    for beta in [0.0, 1.0] {
                        let left = if a_by_k { Mat::rows(&a, k) } else { Mat::transposed(&a, m) };
                        let right = if b_by_k { Mat::transposed(&b, k) } else { Mat::rows(&b, n) };
                        let mut c = old.clone();
                        gemm(m, n, k, left, right, beta, &mut c, n);
                        let along_k = left.col_stride == 1 && right.row_stride == 1;
                        for (at, &found) in c.iter().enumerate() {
                            let (row, column) = (at / n, at % n);
                            let term = |i: usize| {
                                (left.data[row * left.row_stride + i * left.col_stride], right.data[i * right.row_stride + column * right.col_stride])
                            };
                            let expected = in_order(k, beta, old[at], term, along_k && (m == 1 || n == 1 || m * n <= 256));
                            assert_eq!(
                                found.to_bits(),
                                expected.to_bits(),
                                "m {m} n {n} k {k} beta {beta}, a along k {a_by_k}, b along k {b_by_k}: element {at}"
                            );
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert!(checked > 500_000, "{checked}");
    }

    /// The test above again, each time in a process that sees other caches: files mounted over the system's, for it alone.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn sums_have_one_order_with_any_cache() {
        use std::process::Command;
        let this = "device::cpu::product::tests::sums_have_one_order_on_every_processor";
        if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
            return eprintln!("NOT CHECKED: the order of sums with faked caches: this system lets no process mount for itself (unshare -rm)");
        }
        for (first, second) in [(32, 256), (48, 1024), (64, 512), (96, 2048), (128, 8192)] {
            let folder = tempfile::tempdir().expect("a folder");
            for (index, (level, kib, ways)) in [(1, first, 8), (2, second, 16), (3, 16 * second, 16)].into_iter().enumerate() {
                let place = folder.path().join(format!("cpu0/cache/index{index}"));
                std::fs::create_dir_all(&place).expect("a folder");
                let size = format!("{kib}K");
                for (name, text) in [
                    ("level", level.to_string()),
                    ("type", "Data".into()),
                    ("size", size),
                    ("ways_of_associativity", ways.to_string()),
                    ("coherency_line_size", "64".into()),
                    ("shared_cpu_list", "0".into()),
                ] {
                    std::fs::write(place.join(name), text).expect("a file");
                }
            }
            let run = Command::new("unshare")
                .args(["-rm", "sh", "-c", "mount --bind \"$1\" /sys/devices/system/cpu && exec \"$2\" --exact \"$3\"", "sh"])
                .arg(folder.path())
                .arg(std::env::current_exe().expect("this test"))
                .arg(this)
                .env(FAKED, (first << 10).to_string())
                .output()
                .expect("unshare");
            let text = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success() && text.contains("1 passed"), "{first} KiB and {second} KiB: {text}{}", String::from_utf8_lossy(&run.stderr));
        }
    }
}
