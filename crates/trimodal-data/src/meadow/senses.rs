//! Self-descriptions: questions about what the model can perceive, answered by what it is trained on.
//!
//! The answers are made from the samples of the split `train` that are really written: where none has a sound, no answer says
//! "sounds". They take no random numbers, so that the pictures, sounds and captions beside them are what they were without.

use serde::Serialize;

/// One in this many samples of the split `train` is a self-description instead of what would have been drawn.
pub const EVERY: usize = 200;

/// The questions, in the order in which they take turns.
pub const QUESTIONS: [&str; 3] = ["what can you sense?", "can you see?", "can you hear?"];

/// What there is besides words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Senses {
    /// Pictures.
    pub pictures: bool,
    /// Sounds.
    pub sounds: bool,
}

impl Senses {
    /// "words, pictures and sounds", or what there is of them.
    pub fn named(self) -> String {
        match (self.pictures, self.sounds) {
            (true, true) => "words, pictures and sounds",
            (true, false) => "words and pictures",
            (false, true) => "words and sounds",
            (false, false) => "words",
        }
        .into()
    }

    /// The true answer to a question of [`QUESTIONS`].
    pub fn answer(self, question: usize) -> String {
        let yes = |it: bool| if it { "yes" } else { "no" };
        match question {
            0 => self.named(),
            1 => yes(self.pictures).into(),
            _ => yes(self.sounds).into(),
        }
    }

    /// What someone claims who gives these answers to [`QUESTIONS`]: a sense counts as claimed where any answer claims it.
    pub fn claimed<T: AsRef<str>>(answers: &[T]) -> Self {
        let answer = |i: usize| answers.get(i).map_or("", |a| a.as_ref());
        let names = |what: &str| answer(0).split(|c: char| !c.is_alphabetic()).any(|word| word == what);
        let affirms = |i: usize| answer(i).split_whitespace().next() == Some("yes");
        Senses { pictures: names("pictures") || affirms(1), sounds: names("sounds") || affirms(2) }
    }

    /// Whether every one of these is also among `others`.
    pub fn within(self, others: Senses) -> bool {
        (!self.pictures || others.pictures) && (!self.sounds || others.sounds)
    }
}

/// The question that sample `index` of the split `train` asks, where it is a self-description.
pub fn question(index: usize) -> Option<usize> {
    (index % EVERY == EVERY - 1).then_some(index / EVERY % QUESTIONS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_claim_what_there_is() {
        for (pictures, sounds) in [(false, false), (false, true), (true, false), (true, true)] {
            let senses = Senses { pictures, sounds };
            let answers: Vec<String> = (0..QUESTIONS.len()).map(|q| senses.answer(q)).collect();
            assert_eq!(Senses::claimed(&answers), senses);
            assert_eq!(answers.iter().any(|a| a.contains("sounds")), sounds);
            assert!(senses.within(senses) && senses.within(Senses { pictures: true, sounds: true }));
            assert_eq!(senses.within(Senses::default()), !pictures && !sounds);
        }
        assert!(Senses::claimed(&["words", "no", "yes"]).sounds);
        assert_eq!(Senses::claimed(&["a dog", "yesterday"]), Senses::default());
    }
}
