//! The roofline (Williams, Waterman and Patterson 2009): what a device can do at best for so many operations and bytes.

use serde::{Deserialize, Serialize};

/// The best of several runs of kernels that do nothing else. Absent: the device or its language has no such thing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes read plus bytes written per second by a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_bytes_per_second: Option<f64>,
    /// Bytes read plus bytes written per second by an update in place; on a processor, whose copy also fetches the lines that it overwrites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_bytes_per_second: Option<f64>,
    /// Floating-point operations per second by fused multiply-adds in f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f32_flops_per_second: Option<f64>,
    /// Floating-point operations per second by bf16 products on tensor cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16_flops_per_second: Option<f64>,
    /// Bytes per second read from the memory that a group of threads shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_bytes_per_second: Option<f64>,
}

impl Ceilings {
    /// The roofline: the seconds that so many operations and bytes need at best, and which of the two takes longer. `bf16`: the
    /// products are in bf16, on tensor cores where there are some. `None` where neither ceiling is known.
    pub fn least(&self, flops: u64, bytes: Option<u64>, bf16: bool) -> Option<(f64, &'static str)> {
        let peak = self.bf16_flops_per_second.filter(|_| bf16).or(self.f32_flops_per_second);
        let compute = peak.map(|peak| flops as f64 / peak);
        let memory = self.copy_bytes_per_second.zip(bytes).map(|(bandwidth, bytes)| bytes as f64 / bandwidth);
        let least = memory.into_iter().chain(compute).reduce(f64::max)?;
        Some((least, if memory > compute { "memory" } else { "compute" }))
    }

    fn each(&self) -> [Option<f64>; 5] {
        [self.copy_bytes_per_second, self.update_bytes_per_second, self.f32_flops_per_second, self.bf16_flops_per_second, self.shared_bytes_per_second]
    }

    /// The higher one of each kind: what can be reached is what was reached once.
    pub fn larger(&self, other: &Ceilings) -> Ceilings {
        let larger = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        let [copy, update, f32, bf16, shared] = std::array::from_fn(|i| larger(self.each()[i], other.each()[i]));
        Ceilings {
            copy_bytes_per_second: copy,
            update_bytes_per_second: update,
            f32_flops_per_second: f32,
            bf16_flops_per_second: bf16,
            shared_bytes_per_second: shared,
        }
    }

    /// How far the ceiling that moved most is from where it was before, in per cent of that: −20 where the device has become slower.
    /// `None` where no kind was measured in both.
    pub fn drift(&self, after: &Ceilings) -> Option<f64> {
        let moved = self.each().into_iter().zip(after.each()).filter_map(|(before, after)| Some(100.0 * (after? / before? - 1.0)));
        moved.reduce(|a, b| if b.abs() > a.abs() { b } else { a })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_most_is_the_drift() {
        let of = |copy, f32| Ceilings { copy_bytes_per_second: Some(copy), f32_flops_per_second: Some(f32), ..Default::default() };
        assert_eq!(of(10.0, 100.0).drift(&of(11.0, 80.0)).map(f64::round), Some(-20.0));
        let larger = of(10.0, 100.0).larger(&of(11.0, 80.0));
        assert_eq!((larger.copy_bytes_per_second, larger.f32_flops_per_second, larger.bf16_flops_per_second), (Some(11.0), Some(100.0), None));
        assert_eq!(of(1.0, 1.0).drift(&Ceilings::default()), None);
        assert_eq!(of(1.0, 1.0).larger(&Ceilings::default()).copy_bytes_per_second, Some(1.0));
    }
}
