//! The embedded shader table, written by `build.rs` from the files in `shaders/`: it is in every build, whatever runs the kernels.

use crate::error::{Error, Result};

/// One file of `shaders/`.
#[derive(Debug)]
pub struct Shader {
    /// The file's name without `.wgsl`: the op.
    pub stem: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// Its entry points.
    pub entries: &'static [Entry],
}

/// One entry point of a shader.
#[derive(Debug)]
pub struct Entry {
    /// The function's name.
    pub name: &'static str,
    /// What it binds in group 0, by binding number. The last one is the uniform `dims`.
    pub bindings: &'static [Binding],
}

/// One buffer that an entry point uses.
#[derive(Debug)]
pub struct Binding {
    /// The variable's name.
    pub name: &'static str,
    /// What the shader does with it.
    pub access: Access,
}

/// What a shader does with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A uniform: the kernel's `Dims`.
    Uniform,
    /// `storage, read`.
    Read,
    /// `storage, read_write`.
    ReadWrite,
}

/// Every shader of the crate.
pub static SHADERS: &[Shader] = include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

impl Shader {
    /// The shader of this stem.
    pub fn find(stem: &str) -> Option<&'static Shader> {
        SHADERS.iter().find(|s| s.stem == stem)
    }
}

/// A shader's source with `const NAME: u32 = …;` lines replaced.
///
/// # Errors
/// [`Error::Mismatch`] where there is not exactly one such line for a name.
pub(crate) fn with_constants(stem: &'static str, source: &str, constants: &[(&str, u32)]) -> Result<String> {
    let mut source = source.to_string();
    for (name, value) in constants {
        let start = format!("const {name}: u32 = ");
        let lines: Vec<usize> = source.match_indices(&start).map(|(at, _)| at + start.len()).collect();
        let place = if let [at] = lines[..] { source[at..].find(';').map(|length| at..at + length) } else { None };
        let Some(place) = place else {
            return Err(Error::mismatch(stem, "WGSL", format!("one line `{start}…;`"), format!("{} of them", lines.len())));
        };
        source.replace_range(place, &format!("{value}u"));
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_replaced_by_exact_line() {
        let source = "const TILE: u32 = 64u;\nconst TILE_K: u32 = 16u; // why\n";
        assert_eq!(with_constants("x", source, &[("TILE", 32)]).unwrap(), "const TILE: u32 = 32u;\nconst TILE_K: u32 = 16u; // why\n");
        assert_eq!(with_constants("x", source, &[("TILE_K", 8)]).unwrap(), "const TILE: u32 = 64u;\nconst TILE_K: u32 = 8u; // why\n");
        assert!(with_constants("x", source, &[("TILE_Q", 8)]).unwrap_err().to_string().contains("0 of them"));
    }
}
