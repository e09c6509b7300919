//! Which exercise is meant, and which one a file is.

use super::chapters::CHAPTERS;
use super::exercises::{Exercise, MARK, plain};
use super::tasks::EXERCISES;

impl Exercise {
    /// The exercise of this id, or the first that is about this shader: `5`, `0.2`, `rms_norm`.
    pub fn find(what: &str) -> Option<&'static Exercise> {
        let of_id = EXERCISES.iter().find(|exercise| exercise.id == what);
        of_id.or_else(|| EXERCISES.iter().find(|exercise| exercise.stem == what || what.parse() == Ok(exercise.chapter)))
    }

    /// The exercise that a file is, where `stem` is the shader whose place it takes (`Replaced` of the wgpu device): the one that its mark
    /// names; where the mark was removed, the only one outside of whose lines the file is that shader. `None`: somebody's own shader.
    pub fn of(stem: &str, source: &str) -> Option<&'static Exercise> {
        let of_stem = || EXERCISES.iter().filter(|exercise| exercise.stem == stem);
        let marked = source.lines().find_map(|line| line.trim_start().strip_prefix(MARK)?.split(" ──").next());
        if let Some(exercise) = marked.and_then(|id| of_stem().find(|exercise| exercise.id == id)) {
            return Some(exercise);
        }
        let text = plain(source);
        let mut alike = of_stem().filter(|exercise| exercise.answer(&text).is_some());
        alike.next().filter(|_| alike.next().is_none())
    }

    /// The one after it.
    pub fn next(&self) -> Option<&'static Exercise> {
        EXERCISES.iter().skip_while(|exercise| exercise.id != self.id).nth(1)
    }

    /// What it is called among all: `Exercise 5 of 13`; of a chapter with several: `Exercise 0.2 (2 of the chapter's 3)`.
    pub fn name(&self) -> String {
        let siblings: Vec<&Exercise> = EXERCISES.iter().filter(|exercise| exercise.chapter == self.chapter).collect();
        match siblings.iter().position(|exercise| exercise.id == self.id) {
            Some(at) if siblings.len() > 1 => format!("Exercise {} ({} of the chapter's {})", self.id, at + 1, siblings.len()),
            _ => format!("Exercise {} of {}", self.id, CHAPTERS.last().map_or(0, |chapter| chapter.number)),
        }
    }
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
            let (before, _, after) = exercise.around();
            let other = format!("{before}    something = else;\n{after}");
            for file in [&given, &unmarked, &given.replace('\n', "\r\n"), &other] {
                assert_eq!(named(file), Some(exercise.id));
            }
            assert!(exercise.is_as_given(&given) && exercise.is_as_given(&unmarked) && exercise.is_as_given(&given.replace('\n', "\r\n")));
            assert!(!exercise.is_as_given(exercise.shader()) && !exercise.is_as_given(&other));
            // Solved, the mark taken away: nobody can say which of a shader's exercises it was, if it has several.
            let only = EXERCISES.iter().filter(|other| other.stem == exercise.stem).count() == 1;
            assert_eq!(named(exercise.shader()), only.then_some(exercise.id));
            assert_eq!(named(&format!("// my own\n{}", exercise.shader())), None);
            assert_eq!(Exercise::find(exercise.id), Some(exercise));
        }
    }
}
