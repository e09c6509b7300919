//! Tensor maps: how a tensor is laid out in global memory and which box of it one bulk copy moves.

use super::kernel::MAX_SHARED;
use crate::parse::{Param, ParamKind};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// 16 bits.
    Bf16,
    /// 32 bits.
    F32,
}

impl MapType {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            MapType::Bf16 => 2,
            MapType::F32 => 4,
        }
    }
}

/// How the 16-byte parts of a box's rows are exchanged in shared memory: bits 7 and up of an address are added, without
/// carry, to bits 4 and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Rows as they are.
    None,
    /// Inside 32 bytes: bit 7 onto bit 4.
    B32,
    /// Inside 64 bytes: two bits.
    B64,
    /// Inside 128 bytes: three bits.
    B128,
}

impl Swizzle {
    /// Bytes inside of which parts are exchanged: the longest row that a box may have.
    pub fn span(self) -> usize {
        match self {
            Swizzle::None => 1 << 16,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// Where the byte at an address goes.
    #[inline(always)]
    pub fn apply(self, address: u32) -> u32 {
        let bits = match self {
            Swizzle::None => return address,
            Swizzle::B32 => 1,
            Swizzle::B64 => 3,
            Swizzle::B128 => 7,
        };
        address ^ ((address >> 7 & bits) << 4)
    }
}

/// What `cuTensorMapEncodeTiled` is told: element strides of 1, no interleaving, zeros outside of the tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Where the tensor starts: bytes from the start of the buffer in [`Argument::Map`](crate::Argument::Map), an address in the 128 bytes.
    pub address: u64,
    /// The type of its elements.
    pub dtype: MapType,
    /// Elements along each of 1 to 5 dimensions, innermost first.
    pub sizes: Vec<u64>,
    /// Bytes from one element to the next along dimensions 1 and up.
    pub strides: Vec<u64>,
    /// Elements of the box that one copy moves, innermost first.
    pub box_sizes: Vec<u32>,
    /// How the box is laid out in shared memory.
    pub swizzle: Swizzle,
}

/// The first eight bytes of an encoded map.
const MAGIC: u64 = u64::from_le_bytes(*b"tensrmap");

impl TensorMap {
    /// What the driver would refuse, in words.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let n = self.sizes.len();
        if !(1..=5).contains(&n) || self.strides.len() != n - 1 || self.box_sizes.len() != n {
            return Err(format!("1 to 5 sizes, one stride fewer, as many box sizes: got {n}, {} and {}", self.strides.len(), self.box_sizes.len()));
        }
        if !self.address.is_multiple_of(16) {
            return Err(format!("an address that is a multiple of 16, got {:#x}", self.address));
        }
        if let Some(size) = self.sizes.iter().find(|&&s| s == 0 || s > 1 << 32) {
            return Err(format!("sizes of 1 to 2^32, got {size}"));
        }
        if let Some(stride) = self.strides.iter().find(|&&s| s == 0 || s % 16 != 0 || s >= 1 << 40) {
            return Err(format!("strides that are multiples of 16 below 2^40, got {stride}"));
        }
        if let Some(size) = self.box_sizes.iter().find(|&&s| !(1..=256).contains(&s)) {
            return Err(format!("a box of 1 to 256 elements along every dimension, got {size}"));
        }
        if self.box_bytes() > MAX_SHARED {
            return Err(format!("a box of at most {} bytes, got {}", MAX_SHARED, self.box_bytes()));
        }
        let row = self.box_sizes[0] as usize * self.dtype.bytes();
        if !row.is_multiple_of(16) || row > self.swizzle.span() {
            return Err(format!("rows of the box in multiples of 16 bytes, at most as long as the swizzle's span, got {row} bytes for {:?}", self.swizzle));
        }
        Ok(())
    }

    /// Bytes of a box in shared memory.
    pub fn box_bytes(&self) -> usize {
        self.box_sizes.iter().map(|&n| n as usize).product::<usize>() * self.dtype.bytes()
    }

    /// Bytes from the tensor's first to after its last.
    pub fn extent(&self) -> u64 {
        let ends = self.sizes[1..].iter().zip(&self.strides).map(|(size, stride)| (size - 1).saturating_mul(*stride));
        ends.fold(self.sizes[0].saturating_mul(self.dtype.bytes() as u64), u64::saturating_add)
    }

    /// The 128 bytes that a kernel gets. Only its driver knows the format of a GPU's; these are the emulator's.
    pub fn encode(&self) -> [u8; 128] {
        let mut words = [0u64; 16];
        words[0] = MAGIC;
        words[1] = self.address;
        let swizzle = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].iter().position(|s| *s == self.swizzle).unwrap_or(0) as u64;
        words[2] = self.sizes.len() as u64 | (self.dtype.bytes() as u64) << 8 | swizzle << 16;
        words[3..].iter_mut().zip(&self.sizes).for_each(|(w, v)| *w = *v);
        words[8..].iter_mut().zip(&self.strides).for_each(|(w, v)| *w = *v);
        words[12..].iter_mut().zip(self.box_sizes.chunks(2)).for_each(|(w, v)| *w = v[0] as u64 | (v.get(1).copied().unwrap_or(0) as u64) << 32);
        let mut bytes = [0; 128];
        bytes.chunks_exact_mut(8).zip(words).for_each(|(b, w)| b.copy_from_slice(&w.to_le_bytes()));
        bytes
    }

    /// What [`TensorMap::encode`] was given; nothing if these are not its bytes.
    pub fn decode(bytes: &[u8; 128]) -> Option<TensorMap> {
        let mut words = [0u64; 16];
        words.iter_mut().zip(bytes.chunks_exact(8)).for_each(|(w, b)| *w = b.iter().rev().fold(0, |w, &b| w << 8 | b as u64));
        let n = (words[2] & 0xFF) as usize;
        if words[0] != MAGIC || !(1..=5).contains(&n) {
            return None;
        }
        let dtype = match words[2] >> 8 & 0xFF {
            2 => MapType::Bf16,
            4 => MapType::F32,
            _ => return None,
        };
        let swizzle = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].get((words[2] >> 16) as usize).copied()?;
        let box_sizes = (0..n).map(|i| (words[12 + i / 2] >> (32 * (i % 2))) as u32).collect();
        let map = TensorMap { address: words[1], dtype, sizes: words[3..3 + n].to_vec(), strides: words[8..8 + n - 1].to_vec(), box_sizes, swizzle };
        map.check().is_ok().then_some(map)
    }
}

/// Whether a parameter has the shape of a `CUtensorMap`.
pub fn is_map(param: &Param) -> bool {
    param.kind == ParamKind::Bytes && param.size == 128 && param.align >= 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_its_128_bytes() {
        for (n, swizzle) in [(1, Swizzle::None), (2, Swizzle::B32), (3, Swizzle::B64), (5, Swizzle::B128)] {
            let map = TensorMap {
                address: 0x30_0000_0040,
                dtype: if n == 3 { MapType::F32 } else { MapType::Bf16 },
                sizes: (0..n).map(|i| 100 + i).collect(),
                strides: (1..n).map(|i| 1024 * i).collect(),
                box_sizes: vec![8; n as usize],
                swizzle,
            };
            assert_eq!(TensorMap::decode(&map.encode()), Some(map));
        }
        assert_eq!(TensorMap::decode(&[0; 128]), None);
    }
}
