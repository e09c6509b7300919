//! What is compiled in: of the many decoders of `image` only PNG's and JPEG's, from crates.io and nowhere else. Licences and advisories
//! are `cargo deny`'s, which `scripts/test` runs where it is installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Decoders and bindings that must not come in, not even as somebody's default.
const UNWANTED: [&str; 14] =
    ["avif-parse", "dav1d", "exr", "gif", "image-webp", "jpeg-decoder", "libwebp-sys", "openssl-sys", "qoi", "ravif", "symphonia", "tiff", "webp", "zip"];

#[test]
fn only_png_and_jpeg_decoders_are_compiled_in() {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--all-features", "--edges", "features", "--invert", "image", "--prefix", "none"])
        .current_dir(root)
        .output()
        .expect("cargo");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let features: BTreeSet<&str> = tree.lines().filter_map(|line| line.strip_prefix("image feature \"")).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(features, BTreeSet::from(["jpeg", "png"]), "{tree}");
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
            None => assert_eq!(name, "trimodal", "{name} comes from a path"),
            Some(source) => {
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
                assert!(field("checksum").is_some(), "{name} has no checksum");
            }
        }
    }
    assert!(crates > 50, "Cargo.lock was not understood");
}
