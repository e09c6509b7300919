//! A shader of the user's instead of one of the crate's: for those who learn by changing one.

use super::{SHADERS, Shader};
use crate::error::{Error, Result};
use crate::files::read::text;
use ::wgpu::naga;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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
    /// Reads a file, and finds the shader whose place it takes: the one with the same entry points, and where several have these, with
    /// the same names of what is bound, and if need be of the sizes.
    ///
    /// # Errors
    /// A file that cannot be read, is not valid WGSL (with the line), or takes the place of none of the crate's shaders.
    pub fn read(path: &Path) -> Result<Self> {
        let source = text(path, LIMIT)?;
        let module = valid(path, &source)?;
        let stem = place_of(SHADERS, &module).map_err(|what| Error::file(path, what))?;
        Ok(Replaced { stem, source })
    }
}

/// A shader's module, if it is valid.
///
/// # Errors
/// [`Error::File`] with the line.
fn valid(path: &Path, source: &str) -> Result<naga::Module> {
    let wrong = |line: Option<u32>, what: String| Error::file_at(path, format!("line {}", line.unwrap_or(1)), format!("not valid WGSL: {what}"));
    let module =
        naga::front::wgsl::parse_str(source).map_err(|error| wrong(error.location(source).map(|place| place.line_number), error.message().to_string()))?;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::SUBGROUP).validate(&module).map_err(|error| {
        let causes = std::iter::successors(std::error::Error::source(error.as_inner()), |error| error.source()).map(|cause| format!(": {cause}"));
        wrong(error.location(source).map(|place| place.line_number), format!("{}{}", error.as_inner(), causes.collect::<String>()))
    })?;
    Ok(module)
}

/// Holds every shader of the crate to the rules of WGSL, once, before any of them runs: whoever edits one is told file and line.
///
/// # Errors
/// [`Error::File`] of the first one that is not valid.
pub(super) fn all_valid() -> Result<()> {
    static WRONG: OnceLock<Option<(PathBuf, String)>> = OnceLock::new();
    let wrong = WRONG.get_or_init(|| {
        SHADERS.par_iter().find_map_first(|shader| {
            let path = PathBuf::from(format!("shaders/{}.wgsl", shader.stem));
            match valid(&path, shader.source) {
                Err(Error::File { at, what, .. }) => Some((path, at.map_or(String::new(), |at| at + ": ") + &what)),
                Err(other) => Some((path, other.to_string())),
                Ok(_) => None,
            }
        })
    });
    wrong.as_ref().map_or(Ok(()), |(path, what)| Err(Error::file(path, what)))
}

/// The stem of the shader that a module may replace, or what was expected of it.
fn place_of(shaders: &[Shader], module: &naga::Module) -> std::result::Result<&'static str, String> {
    let listed = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    let files = |shaders: &[&Shader]| shaders.iter().map(|shader| format!("{}.wgsl", shader.stem)).collect::<Vec<_>>().join(", ");
    let entries: BTreeSet<&str> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
    let (alike, others): (Vec<&Shader>, Vec<_>) = shaders.iter().partition(|shader| shader.entries.iter().map(|e| e.name).collect::<BTreeSet<_>>() == entries);
    match alike[..] {
        [] => Err(format!("expected the entry points of one of {}; found the entry points of none of them: {}", files(&others), listed(entries))),
        [one] => Ok(one.stem),
        _ => {
            let bound = module.global_variables.iter().filter(|(_, variable)| variable.binding.is_some());
            let bound: BTreeSet<&str> = bound.filter_map(|(_, variable)| variable.name.as_deref()).collect();
            let binds = |shader: &Shader| shader.entries.iter().flat_map(|entry| entry.bindings).map(|b| b.name).collect::<BTreeSet<_>>();
            let alike_bound: Vec<&Shader> = alike.iter().copied().filter(|shader| binds(shader) == bound).collect();
            match alike_bound[..] {
                [] => Err(format!("{} have its entry points: expected the buffer names of one of them, found {}", files(&alike), listed(bound))),
                [one] => Ok(one.stem),
                _ => {
                    let own = sizes(module);
                    let same = |shader: &&&Shader| naga::front::wgsl::parse_str(shader.source).is_ok_and(|module| sizes(&module) == own);
                    let found = || own.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                    let what = || format!("{} have its entry points and buffers: expected the sizes of one of them, found {}", files(&alike_bound), found());
                    alike_bound.iter().find(same).map(|shader| shader.stem).ok_or_else(what)
                }
            }
        }
    }
}

/// The names of what is in a module's structures: a call's sizes.
fn sizes(module: &naga::Module) -> BTreeSet<String> {
    let members = module.types.iter().filter_map(|(_, of)| if let naga::TypeInner::Struct { members, .. } = &of.inner { Some(members) } else { None });
    members.flatten().filter_map(|member| member.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::shader::{Access, Binding, Entry};

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
        assert!(error("@compute @workgroup_size(1)\nfn other() {}").contains("found the entry points of none of them: other"));
        assert!(error("fn f() {\n  let x = ;\n}").contains("mine.wgsl, line 2: not valid WGSL: "));
        assert!(error("fn f() -> f32 {\n  return 1u;\n}").contains("line "));
    }

    /// Two operations may have the same entry points: what they bind tells them apart.
    #[test]
    fn files_with_the_same_entries_are_known_by_what_they_bind() {
        const fn forward(bindings: &'static [Binding]) -> Entry {
            Entry { name: "forward", bindings }
        }
        const X: Binding = Binding { name: "x", access: Access::Read };
        const Y: Binding = Binding { name: "y", access: Access::Read };
        let shaders =
            [("one", &[const { forward(&[X]) }][..]), ("two", &[const { forward(&[X, Y]) }])].map(|(stem, entries)| Shader { stem, source: "", entries });
        let sources = ["x", "x, y"].map(|names| {
            let bound = names.split(", ").enumerate().map(|(i, name)| format!("@group(0) @binding({i}) var<storage> {name}: array<f32>;\n"));
            format!("{}@compute @workgroup_size(1)\nfn forward() {{\n  _ = x[0];\n}}", bound.collect::<String>())
        });
        let place = |source: &str| place_of(&shaders, &naga::front::wgsl::parse_str(source).unwrap());
        assert_eq!(sources.each_ref().map(|source| place(source)), [Ok("one"), Ok("two")]);
        let neither = place(&sources[1].replace("var<storage> y", "var<storage> z")).unwrap_err();
        assert_eq!(neither, "one.wgsl, two.wgsl have its entry points: expected the buffer names of one of them, found x, z");
    }
}
