//! An exercise: a shader with a piece cut out.

use crate::device::shader::Shader;

/// What the line above a piece that was cut out begins with; the exercise's id follows: `// ── exercise 5 ──`.
pub const MARK: &str = "// ── exercise ";

/// What an exercise takes out of a shader. Several may take a piece each out of the same one.
#[derive(PartialEq, Eq, Debug)]
pub struct Exercise {
    /// What it is called: its chapter's number (`5`), or where a chapter has several, that and its own (`0.2`).
    pub id: &'static str,
    /// The number of its chapter.
    pub chapter: usize,
    /// The shader's stem.
    pub stem: &'static str,
    /// What is cut out of `shaders/<stem>.wgsl`: it occurs there once.
    pub cut: &'static str,
    /// What replaces it: valid WGSL, but wrong.
    pub put: &'static str,
    /// What to think of.
    pub task: &'static str,
    /// Which cases judge it, by their entry and rung, of the operation that its shader belongs to ([`crate::ops::of_file`]): those of the
    /// piece that is missing. [`crate::check`] runs them first.
    pub entries: &'static [&'static str],
    /// From the first thought to nearly the line itself.
    pub hints: &'static [&'static str],
}

impl Exercise {
    /// Whether a file is the exercise as it was given.
    pub fn is_as_given(&self, source: &str) -> bool {
        let given = plain(&self.text());
        self.answer(&plain(source)) == self.answer(&given)
    }

    /// The shader as it is.
    pub fn shader(&self) -> &'static str {
        Shader::find(self.stem).unwrap_or_else(|| panic!("no shader {}.wgsl", self.stem)).source
    }

    /// The shader with the piece cut out, and the task above the line.
    pub fn text(&self) -> String {
        let (before, line, after) = self.around();
        let indent = " ".repeat(line.len() - line.trim_start().len());
        format!("{before}{indent}{MARK}{} ──  {}\n{}{after}", self.id, self.task, line.replacen(self.cut, self.put, 1))
    }

    /// The shader before the lines that the piece stands in, those lines, and what follows.
    pub(super) fn around(&self) -> (&'static str, &'static str, &'static str) {
        let shader = self.shader();
        let at = shader.find(self.cut).unwrap_or_else(|| panic!("{}.wgsl has no {:?}", self.stem, self.cut));
        let begin = shader[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = shader[at + self.cut.len()..].find('\n').map_or(shader.len(), |length| at + self.cut.len() + length + 1);
        (&shader[..begin], &shader[begin..end], &shader[end..])
    }

    /// What a file has in the place of those lines, if it is the shader everywhere else. `text` as [`plain`] gives it.
    pub(super) fn answer<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (before, _, after) = self.around();
        text.strip_prefix(&*plain(before))?.strip_suffix(&*plain(after))
    }
}

/// A file without its marks, and with line endings that say nothing about it.
pub(super) fn plain(source: &str) -> String {
    source.lines().filter(|line| !line.trim_start().starts_with(MARK.trim_end())).flat_map(|line| [line.trim_end(), "\n"]).collect()
}
