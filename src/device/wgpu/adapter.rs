//! Which adapters there are, and which of them is a GPU.

use std::fmt;

/// The kind of an adapter, from the most to the least capable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AdapterKind {
    /// A graphics card.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU passed through to a virtual machine, or one that does not say what it is.
    Virtual,
    /// A driver that runs shaders on the processor: good for tests, never chosen automatically.
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            AdapterKind::Discrete => "discrete",
            AdapterKind::Integrated => "integrated",
            AdapterKind::Virtual => "virtual",
            AdapterKind::Software => "software",
        })
    }
}

/// An adapter of this machine.
#[derive(Clone)]
pub struct Adapter {
    /// Its name, as the driver gives it.
    pub name: String,
    /// Its kind.
    pub kind: AdapterKind,
    /// `Vulkan`, `Metal` or `Dx12`.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    pub(super) raw: ::wgpu::Adapter,
}

impl Adapter {
    /// Whether it is a GPU and not a software driver.
    pub fn is_hardware(&self) -> bool {
        self.kind != AdapterKind::Software
    }

    /// Its limits.
    pub fn limits(&self) -> ::wgpu::Limits {
        self.raw.limits()
    }

    /// Its features.
    pub fn features(&self) -> ::wgpu::Features {
        self.raw.features()
    }

    /// The smallest and largest subgroup, where shaders may use subgroup operations.
    pub fn subgroup_sizes(&self) -> Option<[u32; 2]> {
        let info = self.raw.get_info();
        self.features().contains(::wgpu::Features::SUBGROUP).then_some([info.subgroup_min_size, info.subgroup_max_size])
    }
}

/// All adapters, the most capable first.
pub fn adapters() -> Vec<Adapter> {
    let instance = ::wgpu::Instance::new(::wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut all: Vec<Adapter> = pollster::block_on(instance.enumerate_adapters(::wgpu::Backends::PRIMARY))
        .into_iter()
        .map(|raw| {
            let info = raw.get_info();
            let kind = match info.device_type {
                ::wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                ::wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                ::wgpu::DeviceType::VirtualGpu | ::wgpu::DeviceType::Other => AdapterKind::Virtual,
                ::wgpu::DeviceType::Cpu => AdapterKind::Software,
            };
            let driver = format!("{} {}", info.driver, info.driver_info).trim().to_string();
            Adapter { name: info.name, kind, backend: format!("{:?}", info.backend), driver, raw }
        })
        .collect();
    all.sort_by_key(|a| a.kind); // stable: the system's own order within a kind
    all
}
