//! An exercise: what is cut out of a shader, and which exercise a file is.

use super::{CHAPTERS, Chapter, EXERCISES};
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
    /// The exercise of this id, or the first that is about this shader: `5`, `0.2`, `rms_norm`.
    pub fn find(what: &str) -> Option<&'static Exercise> {
        let of_id = EXERCISES.iter().find(|exercise| exercise.id == what);
        of_id.or_else(|| EXERCISES.iter().find(|exercise| exercise.stem == what || what.parse() == Ok(exercise.chapter)))
    }

    /// The exercise that a file is, where `stem` is the shader whose place it takes ([`crate::device::wgpu::Replaced`]): the one that its mark
    /// names; where the mark was removed, the only one outside of whose lines the file is that shader. `None`: somebody's own shader.
    pub fn of(stem: &str, source: &str) -> Option<&'static Exercise> {
        let of_stem = || EXERCISES.iter().filter(|exercise| exercise.stem == stem);
        if let Some(id) = source.lines().find_map(|line| line.trim_start().strip_prefix(MARK)?.split(" ──").next()) {
            if let Some(exercise) = of_stem().find(|exercise| exercise.id == id) {
                return Some(exercise);
            }
        }
        let text = plain(source);
        let mut alike = of_stem().filter(|exercise| exercise.answer(&text).is_some());
        alike.next().filter(|_| alike.next().is_none())
    }

    /// Whether a file is the exercise as it was given.
    pub fn is_as_given(&self, source: &str) -> bool {
        let given = plain(&self.text());
        self.answer(&plain(source)) == self.answer(&given)
    }

    /// Its chapter.
    pub fn chapter(&self) -> &'static Chapter {
        CHAPTERS.iter().find(|chapter| chapter.number == self.chapter).unwrap_or_else(|| panic!("exercise {}: no chapter {}", self.id, self.chapter))
    }

    /// The one after it.
    pub fn next(&self) -> Option<&'static Exercise> {
        EXERCISES.iter().skip_while(|exercise| exercise.id != self.id).nth(1)
    }

    /// What it is called among all: `Exercise 5 of 13`; of a chapter with several: `Exercise 0.2, the chapter's second of 3`.
    pub fn name(&self) -> String {
        let siblings: Vec<&Exercise> = EXERCISES.iter().filter(|exercise| exercise.chapter == self.chapter).collect();
        match siblings.iter().position(|exercise| exercise.id == self.id) {
            Some(at) if siblings.len() > 1 => format!("Exercise {} ({} of the chapter's {})", self.id, at + 1, siblings.len()),
            _ => format!("Exercise {} of {}", self.id, CHAPTERS.last().map_or(0, |chapter| chapter.number)),
        }
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
    fn around(&self) -> (&'static str, &'static str, &'static str) {
        let shader = self.shader();
        let at = shader.find(self.cut).unwrap_or_else(|| panic!("{}.wgsl has no {:?}", self.stem, self.cut));
        let begin = shader[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = shader[at + self.cut.len()..].find('\n').map_or(shader.len(), |length| at + self.cut.len() + length + 1);
        (&shader[..begin], &shader[begin..end], &shader[end..])
    }

    /// What a file has in the place of those lines, if it is the shader everywhere else. `text` as [`plain`] gives it.
    fn answer<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (before, _, after) = self.around();
        text.strip_prefix(&*plain(before))?.strip_suffix(&*plain(after))
    }
}

/// A file without its marks, and with line endings that say nothing about it.
fn plain(source: &str) -> String {
    source.lines().filter(|line| !line.trim_start().starts_with(MARK.trim_end())).flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_as_its_exercise() {
        for exercise in EXERCISES {
            let named = |source: &str| Exercise::of(exercise.stem, source).map(|exercise| exercise.id);
            let given = exercise.text();
            let unmarked: String = given.split_inclusive('\n').filter(|line| !line.contains(MARK)).collect();
            for file in [&given, &unmarked, &given.replace('\n', "\r\n"), &given.replacen(exercise.put, "something_else", 1)] {
                assert_eq!(named(file), Some(exercise.id));
            }
            assert!(exercise.is_as_given(&given) && exercise.is_as_given(&unmarked) && exercise.is_as_given(&given.replace('\n', "\r\n")));
            assert!(!exercise.is_as_given(exercise.shader()) && !exercise.is_as_given(&given.replacen(exercise.put, exercise.cut, 1)));
            // Solved, the mark taken away: nobody can say which of a shader's exercises it was, if it has several.
            let only = EXERCISES.iter().filter(|other| other.stem == exercise.stem).count() == 1;
            assert_eq!(named(exercise.shader()), only.then_some(exercise.id));
            assert_eq!(named(&format!("// my own\n{}", exercise.shader())), None);
            assert_eq!(Exercise::find(exercise.id), Some(exercise));
        }
    }
}
