//! `trimodal devices`: what this machine can compute on.

use super::WidthArguments;
use super::terminal::{Paint, document, line, painted};
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use trimodal::files::shown::shown;
use trimodal::numbers::{bytes, thousands};
use trimodal::{Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal devices
  trimodal devices --json
  trimodal demo --adapter radeon     use the adapter whose name contains this

An adapter is what a driver offers through Vulkan, Metal or DX12. Software adapters (such as llvmpipe) run shaders on \
the processor: good for testing shaders, but slower than `--device cpu` for everything else, so `auto` never takes one.";

/// List the devices of this machine, with their limits, and say which one `auto` takes and why
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Devices {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    width: WidthArguments,
}

/// What the listing says.
#[derive(Serialize)]
struct Listing {
    auto: String,
    why: String,
    devices: Vec<Listed>,
    /// Devices that this build knows and this machine lacks.
    absent: Vec<Absent>,
}

#[derive(Serialize)]
struct Absent {
    device: &'static str,
    why: String,
}

#[derive(Serialize)]
struct Listed {
    /// What `--device` takes.
    device: &'static str,
    name: String,
    /// discrete, integrated, virtual, software; processor for the CPU device.
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    auto: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    features: Vec<String>,
}

/// The limits that decide what fits and which rungs of the kernels may run.
#[derive(Serialize)]
struct Limits {
    storage_binding_bytes: u64,
    buffer_bytes: u64,
    storage_buffers_per_stage: u64,
    workgroup_memory_bytes: u64,
    workgroup_invocations: u64,
    workgroups_per_dimension: u64,
    subgroup_sizes: Option<[u32; 2]>,
}

impl Devices {
    pub fn run(self) -> Result<ExitCode> {
        let listing = listing();
        if self.json {
            document(&(serde_json::to_string_pretty(&listing).expect("strings and numbers") + "\n"));
        } else {
            print(&listing, self.width.columns());
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn listing() -> Listing {
    let (cuda, absent) = match cuda() {
        Ok(found) => (Some(found), Vec::new()),
        Err(why) => (None, vec![Absent { device: "cuda", why }]),
    };
    let adapters = adapters();
    let chosen = adapters.iter().position(|(hardware, _)| *hardware).filter(|_| cuda.is_none());
    let (auto, why) = match (&cuda, chosen) {
        (Some(cuda), _) => (format!("cuda ({})", cuda.name), "it is an NVIDIA GPU, and its driver loads our PTX".into()),
        (None, Some(index)) => {
            let adapter = &adapters[index].1;
            let others = if adapters.len() > 1 { ", the most capable one here" } else { "" };
            (format!("wgpu ({})", adapter.name), format!("it is a GPU ({}){others}", adapter.kind))
        }
        _ if !cfg!(feature = "wgpu") => ("cpu".into(), "this build leaves wgpu out (cargo feature `wgpu`)".into()),
        _ if adapters.is_empty() => ("cpu".into(), "there is no Vulkan, Metal or DX12 adapter".into()),
        _ => ("cpu".into(), "there is no GPU, only software adapters, and they are slower than the CPU device".into()),
    };
    let cpu = Listed {
        device: "cpu",
        name: processor(),
        kind: "processor".into(),
        backend: None,
        driver: None,
        auto: cuda.is_none() && chosen.is_none(),
        limits: None,
        features: vec!["f32".into(), "f64 (the oracle)".into()],
    };
    let emulator = Listed {
        device: "emulator",
        name: "our own PTX interpreter, on the processor".into(),
        kind: "emulator".into(),
        backend: None,
        driver: None,
        auto: false,
        limits: None,
        features: vec!["f32".into(), "bf16".into(), "memory checks".into()],
    };
    let mut devices = vec![cpu];
    devices.extend(cuda);
    devices.extend(adapters.into_iter().enumerate().map(|(i, (_, adapter))| Listed { auto: chosen == Some(i), ..adapter }));
    devices.push(emulator);
    Listing { auto, why, devices, absent }
}

/// Threads that the CPU device uses.
fn processor() -> String {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("this machine's processor, {threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// The NVIDIA GPU that `--device cuda` takes, or why there is none.
#[cfg(feature = "cuda")]
fn cuda() -> std::result::Result<Listed, String> {
    use trimodal::Error;
    let found = trimodal::device::cuda::Context::probe().map_err(|e| match e {
        Error::Device { what, .. } => what,
        other => other.to_string(),
    })?;
    let version = format!("{}.{}", found.capability / 10, found.capability % 10);
    Ok(Listed {
        device: "cuda",
        name: found.name,
        kind: format!("compute capability {version}, {} multiprocessors, {}", found.multiprocessors, bytes(found.total_bytes as u64)),
        backend: Some("PTX".into()),
        driver: Some(format!("CUDA {}.{}", found.driver.0, found.driver.1)),
        auto: true,
        limits: None,
        features: vec!["f32".into(), "bf16".into()],
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> std::result::Result<Listed, String> {
    Err("this build leaves it out (cargo feature `cuda`)".into())
}

#[cfg(not(feature = "wgpu"))]
fn adapters() -> Vec<(bool, Listed)> {
    Vec::new()
}

/// Every adapter, and whether it is a GPU.
#[cfg(feature = "wgpu")]
fn adapters() -> Vec<(bool, Listed)> {
    let listed = |adapter: &trimodal::device::wgpu::Adapter| {
        let (limits, features) = (adapter.limits(), adapter.features());
        let named = [
            (wgpu::Features::SUBGROUP, "subgroups"),
            (wgpu::Features::SHADER_F16, "f16"),
            (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
            (wgpu::Features::IMMEDIATES, "immediates"),
        ];
        Listed {
            device: "wgpu",
            name: adapter.name.clone(),
            kind: adapter.kind.to_string(),
            backend: Some(adapter.backend.clone()),
            driver: Some(adapter.driver.clone()),
            auto: false,
            limits: Some(Limits {
                storage_binding_bytes: limits.max_storage_buffer_binding_size,
                buffer_bytes: limits.max_buffer_size,
                storage_buffers_per_stage: limits.max_storage_buffers_per_shader_stage as u64,
                workgroup_memory_bytes: limits.max_compute_workgroup_storage_size as u64,
                workgroup_invocations: limits.max_compute_invocations_per_workgroup as u64,
                workgroups_per_dimension: limits.max_compute_workgroups_per_dimension as u64,
                subgroup_sizes: adapter.subgroup_sizes(),
            }),
            features: named.into_iter().filter(|(f, _)| features.contains(*f)).map(|(_, name)| name.to_string()).collect(),
        }
    };
    trimodal::device::wgpu::adapters().iter().map(|a| (a.is_hardware(), listed(a))).collect()
}

/// Where the facts of a device begin.
const INDENT: usize = 11;

fn print(listing: &Listing, width: usize) {
    let paint = Paint::stdout();
    // Names come from drivers. They are shown before they are measured, and painted after: colours have no width.
    let strong = |text: String, name: &str| if text.contains(name) { text.replacen(name, &paint.strong(name), 1) } else { text };
    for device in &listing.devices {
        let how = match &device.backend {
            Some(backend) => format!("{}, {backend}", device.kind),
            None => device.kind.clone(),
        };
        let name = shown(&device.name);
        let mark = if device.auto { "*" } else { " " };
        let text = report::wrapped(&format!("{mark} {:<8} {name}  ({})", device.device, shown(&how)), width, INDENT);
        let text = strong(text, &name);
        painted(if device.auto { text.replacen('*', &paint.good("*"), 1) } else { text });
        let mut facts = Vec::new();
        if let Some(driver) = device.driver.as_ref().filter(|d| !d.is_empty()) {
            facts.push(format!("driver {}", shown(driver)));
        }
        if let Some(limits) = &device.limits {
            facts.push(format!("one tensor up to {}", bytes(limits.storage_binding_bytes)));
            facts.push(format!(
                "workgroups of {} threads with {}, {} storage buffers, {} groups per dimension",
                limits.workgroup_invocations,
                bytes(limits.workgroup_memory_bytes),
                limits.storage_buffers_per_stage,
                thousands(limits.workgroups_per_dimension)
            ));
            if let Some([min, max]) = limits.subgroup_sizes {
                facts.push(if min == max { format!("subgroups of {min}") } else { format!("subgroups of {min} to {max}") });
            }
        }
        facts.push(format!("features: {}", if device.features.is_empty() { "none of ours".into() } else { device.features.join(", ") }));
        for fact in facts {
            line(report::wrapped(&format!("{}{fact}", " ".repeat(INDENT)), width, INDENT + 2));
        }
    }
    for absent in &listing.absent {
        line(report::wrapped(&format!("  {:<8} is not here: {}", absent.device, shown(&absent.why)), width, INDENT));
    }
    line("");
    let auto = shown(&listing.auto);
    painted(strong(report::wrapped(&format!("`--device auto` takes {auto}: {}.", shown(&listing.why)), width, 0), &auto));
}
