//! What a tensor is made of: the type of its elements, and its shape.

use half::{bf16, f16};
use std::fmt;

/// The type of a tensor's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DType {
    /// 64-bit float: the oracle's type, on the CPU device only.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit float with f32's range.
    Bf16,
    /// IEEE half precision.
    F16,
    /// 32-bit signed integer: ids, rows, positions, intervals.
    I32,
    /// Byte: pixels.
    U8,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::Bf16 | DType::F16 => 2,
            DType::U8 => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::U8 => "u8",
        })
    }
}

/// A Rust type that can be a tensor's element.
pub trait Element: bytemuck::Pod + Send + Sync + PartialEq + fmt::Debug {
    /// The dtype it is.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty = $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(f64 = F64, f32 = F32, bf16 = Bf16, f16 = F16, i32 = I32, u8 = U8);

/// Up to four sizes, the slowest-varying first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub(crate) sizes: [usize; 4],
    pub(crate) rank: u8,
}

impl Shape {
    /// The sizes.
    pub fn dims(&self) -> &[usize] {
        &self.sizes[..self.rank as usize]
    }

    /// The product of the sizes; 1 for a scalar, and `usize::MAX` where it does not fit (no tensor has such a shape).
    pub fn len(&self) -> usize {
        product(self.dims())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The product of the sizes, or `None` where it does not fit.
    pub fn checked_len(&self) -> Option<usize> {
        // A zero anywhere makes the tensor empty however large the other sizes are.
        if self.dims().contains(&0) {
            return Some(0);
        }
        self.dims().iter().try_fold(1usize, |product, &size| product.checked_mul(size))
    }
}

/// Saturating: a zero anywhere makes it zero, however large the other sizes are.
pub(crate) fn product(sizes: &[usize]) -> usize {
    sizes.iter().fold(1, |product: usize, &size| product.saturating_mul(size))
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.dims().fmt(f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        assert!(dims.len() <= 4, "a shape has at most 4 sizes, found {}", dims.len());
        let mut sizes = [1; 4];
        sizes[..dims.len()].copy_from_slice(dims);
        Shape { sizes, rank: dims.len() as u8 }
    }
}

impl<const R: usize> From<[usize; R]> for Shape {
    fn from(dims: [usize; R]) -> Self {
        const { assert!(R <= 4, "a shape has at most 4 sizes") };
        dims.as_slice().into()
    }
}

impl<const R: usize> PartialEq<[usize; R]> for Shape {
    fn eq(&self, other: &[usize; R]) -> bool {
        self.dims() == other
    }
}
