//! Whole numbers from random bits, and a seed from a name: the same everywhere, because runs and data sets depend on them.

/// 32 random bits as a number in 0 … n − 1, for n up to 2³². The bias of n/2³² is far below what a data set could show.
pub fn below(bits: u32, n: usize) -> usize {
    ((bits as u64 * n as u64) >> 32) as usize
}

/// FNV-1a, 64 bits. Names that differ in one letter have hashes that are near each other.
pub fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_is_reached_and_none_above() {
        assert_eq!((below(0, 6), below(u32::MAX, 6), below(u32::MAX, 1), below(u32::MAX, 1 << 32)), (0, 5, 0, u32::MAX as usize));
    }

    /// Noll's test vectors.
    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!((fnv1a(""), fnv1a("a"), fnv1a("foobar")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8));
    }
}
