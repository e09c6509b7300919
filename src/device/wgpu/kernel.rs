//! The embedded kernel table, written by `build.rs` from what lies in `shaders/`.

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
    /// Threads of one workgroup, as the file stands (a variant may override the `const` behind it).
    pub workgroup: [u32; 3],
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

    /// The source with `const NAME: u32 = …;` lines replaced.
    ///
    /// # Panics
    /// If a name does not stand on exactly one such line: the names are the launchers', not the user's.
    pub fn with_constants(&self, constants: &[(&str, u32)]) -> String {
        let mut source = self.source.to_string();
        for (name, value) in constants {
            let start = format!("const {name}: u32 = ");
            assert_eq!(source.matches(&start).count(), 1, "{}.wgsl has no single line `{start}…`", self.stem);
            let at = source.find(&start).expect("just counted") + start.len();
            let end = at + source[at..].find(';').expect("a WGSL constant ends in `;`");
            source.replace_range(at..end, &format!("{value}u"));
        }
        source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_replaced_by_exact_line() {
        let shader = Shader { stem: "x", source: "const TILE: u32 = 64u;\nconst TILE_K: u32 = 16u; // why\n", entries: &[] };
        assert_eq!(shader.with_constants(&[("TILE", 32)]), "const TILE: u32 = 32u;\nconst TILE_K: u32 = 16u; // why\n");
        assert_eq!(shader.with_constants(&[("TILE_K", 8)]), "const TILE: u32 = 64u;\nconst TILE_K: u32 = 8u; // why\n");
    }
}
