//! The roofline (Williams, Waterman and Patterson 2009): what a device can do at best for so many operations and bytes.

use serde::{Deserialize, Serialize};

/// The best of several runs of kernels that do nothing else. Absent: the device or its language has no such thing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes read plus bytes written per second by a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_bytes_per_second: Option<f64>,
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
}
