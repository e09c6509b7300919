//! Lanes whose addresses lead to the same memory, and how those addresses lie to each other.

use super::finding::Place;
use super::lanes::FULL;

/// How the lanes' addresses lie to each other. The first two are most of what kernels do, and quick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All the same.
    Uniform,
    /// All 32 lanes, one after the other without gaps.
    Row,
    Any,
}

/// Where the lanes of an access lead.
pub struct Group {
    pub place: Place,
    pub shape: Shape,
    /// Byte offsets; lanes that are not in `mask` have the offset of one that is.
    pub offsets: [u32; 32],
    /// Lanes whose access is allowed.
    pub mask: u32,
    /// Lanes that this group answers for, allowed or not.
    pub taken: u32,
}

/// The group of lanes whose offsets are all in bounds and aligned.
#[inline(always)]
pub fn within(offsets: &[u32; 32], mask: u32, size: u32, align: u32, place: Place, limit: u64) -> Option<Group> {
    let (mut bits, mut least, mut most, mut gaps) = (0u32, u32::MAX, 0u32, 0u32);
    for i in 0..32 {
        bits |= offsets[i];
        least = least.min(offsets[i]);
        most = most.max(offsets[i]);
        gaps |= offsets[i].wrapping_sub(offsets[0]) ^ (i as u32 * size);
    }
    if bits & (align - 1) != 0 || most as u64 + size as u64 > limit {
        return None;
    }
    let shape = match (least == most, gaps == 0 && mask == FULL) {
        (true, _) => Shape::Uniform,
        (_, true) => Shape::Row,
        _ => Shape::Any,
    };
    Some(Group { place, shape, offsets: *offsets, mask, taken: mask })
}
