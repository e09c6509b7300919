//! What is compiled in: of the many decoders of `image` only PNG's, JPEG's and WebP's, of `symphonia`'s those that are read, from crates.io
//! and nowhere else. Licences and advisories
//! are `cargo deny`'s, which `scripts/test` runs where it is installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Decoders and bindings that must not come in, not even as somebody's default.
const UNWANTED: [&str; 16] = [
    "avif-parse",
    "dav1d",
    "exr",
    "gif",
    "jpeg-decoder",
    "libwebp-sys",
    "openssl-sys",
    "qoi",
    "ravif",
    "symphonia-codec-aac",
    "symphonia-format-isomp4",
    "symphonia-format-mkv",
    "symphonia-format-riff",
    "tiff",
    "webp",
    "zip",
];

/// The packages of this repository.
const OURS: [&str; 5] = ["kernel-contract", "ptx-emulator", "trimodal", "trimodal-base", "trimodal-data"];

/// Who takes the kernels alone builds few packages, and none that reads data or draws plots.
#[test]
fn kernels_alone_need_few_packages() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", "trimodal", "--no-default-features", "--edges", "normal,build", "--prefix", "none", "--no-dedupe"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let packages: BTreeSet<&str> = tree.lines().map(|line| line.split(" (").next().unwrap_or(line)).collect();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package.split(' ').next()).collect();
    assert!(packages.len() <= 60, "{} packages, at most 60: {packages:?}", packages.len());
    for unwanted in
        ["clap", "csv", "hound", "image", "indicatif", "naga", "rubato", "safetensors", "symphonia", "tar", "tempfile", "tokenizers", "trimodal-data", "wgpu"]
    {
        assert!(!names.contains(unwanted), "{unwanted} came in: `cargo tree -p trimodal --no-default-features --invert {unwanted}` says by whom");
    }
    assert!(names.contains("trimodal") && names.contains("kernel-contract"), "the tree was not understood: {tree}");
    println!("{} packages", packages.len());
}

#[test]
fn only_png_jpeg_and_webp_decoders_are_compiled_in() {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--all-features", "--edges", "features", "--package", "trimodal", "--invert", "image", "--prefix", "none"])
        .current_dir(root)
        .output()
        .expect("cargo");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let features: BTreeSet<&str> = tree.lines().filter_map(|line| line.strip_prefix("image feature \"")).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(features, BTreeSet::from(["jpeg", "png", "webp"]), "{tree}");
}

#[test]
fn the_lock_file_has_no_unwanted_crate_and_one_source() {
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).expect("Cargo.lock");
    let mut crates = 0;
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| package.lines().find_map(|line| line.strip_prefix(&format!("{key} = \""))).map(|rest| rest.trim_end_matches('"'));
        let name = field("name").expect("a name");
        crates += 1;
        assert!(!UNWANTED.contains(&name), "{name} came in: `cargo tree --invert {name}` says by whom");
        match field("source") {
            None => assert!(OURS.contains(&name), "{name} comes from a path"),
            Some(source) => {
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
                assert!(field("checksum").is_some(), "{name} has no checksum");
            }
        }
    }
    assert!(crates > 50, "Cargo.lock was not understood");
}
