//! The self-test of a copy: the examples of this repository, which replay golden vectors in plain wgpu, plain cudarc, plain Python, and
//! a browser.

use super::Language;

/// What both Rust packages share.
const SHARED: [(&str, &str); 2] =
    [("mod.rs", include_str!("../../examples/vendored/mod.rs")), ("contract.rs", include_str!("../../examples/vendored/contract.rs"))];
const WGPU: &str = include_str!("../../examples/vendor_wgpu.rs");
const CUDARC: &str = include_str!("../../examples/vendor_cudarc.rs");
const PYTHON: [(&str, &str); 2] =
    [("replay.py", include_str!("../../examples/vendor_python/replay.py")), ("contract.py", include_str!("../../examples/vendor_python/contract.py"))];
const WEB: [(&str, &str); 5] = [
    ("index.html", include_str!("../../examples/vendored/index.html")),
    ("gpu.js", include_str!("../../examples/web/gpu.js")),
    ("golden.js", include_str!("../../examples/web/golden.js")),
    ("contract.js", include_str!("../../examples/web/contract.js")),
    ("safetensors.js", include_str!("../../examples/web/safetensors.js")),
];

/// Its files: for WGSL a small Rust package and a page, for CUDA another package and a Python script. The package also builds `launch.rs`,
/// where the folder has one.
pub(super) fn files(language: Language, launch_in_rust: bool) -> Vec<(String, String)> {
    let (package, example, depends, more) = match language {
        Language::Wgsl => (
            "self_test/wgpu",
            WGPU,
            "wgpu = { version = \"30\", default-features = false, features = [\"std\", \"vulkan\", \"metal\", \"dx12\", \"wgsl\"] }\npollster = \"1\"\n",
            WEB.map(|(name, text)| (format!("self_test/web/{name}"), text)).to_vec(),
        ),
        Language::Cuda | Language::Ptx => (
            "self_test/cudarc",
            CUDARC,
            "cudarc = { version = \"0.19\", default-features = false, features = [\"std\", \"driver\", \"nvrtc\", \"dynamic-loading\", \"cuda-12040\"] }\n",
            PYTHON.map(|(name, text)| (format!("self_test/{name}"), text)).to_vec(),
        ),
    };
    // Few packages, and nothing that makes them slow to compile: the test itself takes a second.
    let launch = if launch_in_rust { "\n[[bin]]\nname = \"launch\"\npath = \"../../launch.rs\"\n" } else { "" };
    let manifest = format!(
        "[package]\nname = \"self_test\"\nversion = \"0.1.0\"\nedition = \"2024\"\ndefault-run = \"self_test\"\n\n\
         [[bin]]\nname = \"self_test\"\npath = \"src/main.rs\"\n{launch}\n[workspace]\n\n[dependencies]\n{depends}safetensors = {{ version = \"0.8\", default-features = false, features = [\"alloc\"] }}\nserde_json = \"1\"\n\n\
         [profile.dev]\ndebug = false\nincremental = false\n"
    );
    let mut files = vec![(format!("{package}/Cargo.toml"), manifest), (format!("{package}/src/main.rs"), example.into())];
    files.extend(SHARED.map(|(name, text)| (format!("{package}/src/vendored/{name}"), text.into())));
    files.extend(more.into_iter().map(|(path, text)| (path, text.into())));
    files
}
