//! A shader of the user's in the place of one of the crate's: for those who learn by changing one.

use super::{SHADERS, Shader};
use crate::data::safe::text;
use crate::error::{Error, Result};
use ::wgpu::naga;
use std::collections::BTreeSet;
use std::path::Path;

/// The largest file that is read, in bytes: forty times the largest of the crate's.
const LIMIT: u64 = 1 << 20;

/// WGSL that takes the place of one of [`SHADERS`], with the same entry points and bindings.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Of the shader whose place it takes.
    pub stem: &'static str,
    /// The WGSL.
    pub source: String,
}

impl Replaced {
    /// Reads a file, and finds the shader whose place it takes: the one with the same entry points.
    ///
    /// # Errors
    /// A file that cannot be read, is not valid WGSL (with the line), or has the entry points of none of the crate's shaders.
    pub fn read(path: &Path) -> Result<Self> {
        let source = text(path, LIMIT)?;
        let module = naga::front::wgsl::parse_str(&source).map_err(|error| {
            let at = error.location(&source).map_or(1, |place| place.line_number);
            Error::file_at(path, format!("line {at}"), format!("not valid WGSL: {}", error.message()))
        })?;
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::SUBGROUP).validate(&module).map_err(|error| {
            let at = error.location(&source).map_or(1, |place| place.line_number);
            let causes = std::iter::successors(std::error::Error::source(error.as_inner()), |error| error.source()).map(|cause| format!(": {cause}"));
            Error::file_at(path, format!("line {at}"), format!("not valid WGSL: {}{}", error.as_inner(), causes.collect::<String>()))
        })?;
        let names: BTreeSet<&str> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
        let shader = SHADERS.iter().find(|shader| entries(shader) == names).ok_or_else(|| {
            let found: Vec<&str> = names.iter().copied().collect();
            let known: Vec<String> = SHADERS.iter().map(|shader| format!("{}.wgsl", shader.stem)).collect();
            let what = format!("expected the entry points of one of {}; found those of none: {}", known.join(", "), found.join(", "));
            Error::file(path, what)
        })?;
        Ok(Replaced { stem: shader.stem, source })
    }
}

fn entries(shader: &Shader) -> BTreeSet<&'static str> {
    shader.entries.iter().map(|entry| entry.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.wgsl");
        let read = |source: &str| {
            std::fs::write(&path, source).unwrap();
            Replaced::read(&path)
        };
        for shader in SHADERS {
            assert_eq!(read(shader.source).unwrap().stem, shader.stem);
        }
        let error = |source: &str| read(source).unwrap_err().to_string();
        assert!(error("@compute @workgroup_size(1)\nfn other() {}").contains("found those of none: other"));
        assert!(error("fn f() {\n  let x = ;\n}").contains("mine.wgsl, line 2: not valid WGSL: "));
        assert!(error("fn f() -> f32 {\n  return 1u;\n}").contains("line "));
    }
}
