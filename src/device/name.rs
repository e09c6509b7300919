//! What a device is called where people read it.

use super::Device;

impl Device {
    /// What it is, with the name of the processor or the GPU: `cpu (AMD EPYC 7B13)`, `wgpu (llvmpipe (LLVM 15.0.7, 256 bits))`. Never `auto`.
    pub fn described(&self) -> String {
        match self {
            Device::Cpu => format!("cpu ({})", cpu_info("model name").unwrap_or_else(|| std::env::consts::ARCH.into())),
            Device::Gpu(_) => self.to_string(),
        }
    }
}

/// The first value of a key of `/proc/cpuinfo`; `None` where there is no such file, or no value.
pub(crate) fn cpu_info(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key))?;
    Some(line.split_once(':')?.1.trim().to_string()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_a_name() {
        let name = Device::Cpu.described();
        let inside = name.strip_prefix("cpu (").and_then(|rest| rest.strip_suffix(')')).expect("cpu (…)");
        assert!(!inside.trim().is_empty() && inside != "auto", "{name}");
        assert_eq!(cpu_info("no such key"), None);
    }
}
