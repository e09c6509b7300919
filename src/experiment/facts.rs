//! Facts that only text states, and the samples of the transfer experiment around them.
//!
//! There are two kinds, one for each modality: whether an animal is a pet (a picture shows which animal it is) and whether an action is loud
//! (a sound lets one hear which action it is). Of each kind a seed holds out two subjects, one for each answer. What is asked about
//! pictures and sounds while training is never asked about these two; only text says whether they are.
//!
//! `flipped` reverses the facts about the two that are held out, and nothing else. Whoever guesses from what the others have in common
//! answers as before and is wrong; only a model that uses the facts changes its answer.

use crate::data::Sample;
use crate::data::meadow::words::{ACTION, Attributes, SPECIES};
use crate::data::meadow::{self, Plan};
use serde::{Deserialize, Serialize};

/// What facts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// Animals, which pictures show: "a cat is a pet".
    Pet,
    /// Actions, which sounds let one hear: "purring is not loud".
    Loud,
}

/// Whether each of Meadow's animals is a pet: three of six, without a look or a place in common.
const PET: [bool; 6] = [true, true, false, false, true, false];
/// Whether each action is loud.
const LOUD: [bool; 6] = [false, false, true, true, true, false];
/// Pairs to hold out, one for each answer; seeds take turns. Each subject is in one of them.
const HELD: [[[usize; 2]; 2]; 3] = [[[0, 5], [1, 2]], [[1, 3], [0, 3]], [[4, 2], [5, 4]]];

impl FactKind {
    /// Both.
    pub const ALL: [FactKind; 2] = [FactKind::Pet, FactKind::Loud];

    /// What it is asked about.
    pub fn modality(self) -> &'static str {
        match self {
            FactKind::Pet => "pictures",
            FactKind::Loud => "sounds",
        }
    }

    /// The question.
    pub fn question(self) -> &'static str {
        match self {
            FactKind::Pet => "is it a pet?",
            FactKind::Loud => "is it loud?",
        }
    }

    /// The word of a subject.
    pub fn subject(self, subject: usize) -> &'static str {
        match self {
            FactKind::Pet => SPECIES[subject],
            FactKind::Loud => ACTION[subject],
        }
    }

    /// The subject of some attributes.
    pub fn of(self, attributes: &Attributes) -> usize {
        match self {
            FactKind::Pet => attributes.species,
            FactKind::Loud => attributes.action,
        }
    }
}

/// Which samples a variant of the experiment trains on, and how it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Facts as sentences, the question straight after the picture or sound.
    Plain,
    /// Also text-only questions about all subjects; the question comes after a caption and sees it, and the picture or sound as well.
    Seen,
    /// The same, but the question and its answer are cut off from picture and sound: what they know of it are the words of the
    /// caption, which in the test are the model's own.
    Words,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 3] = [Variant::Plain, Variant::Seen, Variant::Words];

    /// Its name in files.
    pub fn key(self) -> &'static str {
        match self {
            Variant::Plain => "plain",
            Variant::Seen => "seen",
            Variant::Words => "words",
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Plain => "asked straight",
            Variant::Seen => "asked after a caption",
            Variant::Words => "asked about its own words only",
        }
    }
}

/// What a sample is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A picture, a sound or both with their caption.
    Caption,
    /// A fact as a sentence.
    Fact,
    /// The question about a caption, without picture and sound; of any subject.
    TextQuestion,
    /// The question about a picture or sound; never of a subject that is held out.
    Question,
}

/// A sample before it is tokenised: `question` comes after its prompt, cut off from picture and sound.
pub struct Drawn {
    /// The sample.
    pub sample: Sample,
    /// The question where it is cut off; where it is not, it is part of the sample's prompt.
    pub question: Option<String>,
    /// What it is for.
    pub role: Role,
    /// For all but captions: what kind of fact, about which subject.
    pub about: Option<(FactKind, usize)>,
}

/// The facts of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// The seed of the samples and of the subjects that are held out.
    pub seed: u64,
    /// Whether the facts about those are reversed.
    pub flipped: bool,
}

impl World {
    /// The two subjects of a kind that are held out.
    pub fn held_out(&self, kind: FactKind) -> [usize; 2] {
        HELD[(self.seed % HELD.len() as u64) as usize][kind as usize]
    }

    /// Whether it is so, as the text of this world says.
    pub fn fact(&self, kind: FactKind, subject: usize) -> bool {
        let usual = if kind == FactKind::Pet { PET[subject] } else { LOUD[subject] };
        usual ^ (self.flipped && self.held_out(kind).contains(&subject))
    }

    /// `yes` or `no`.
    pub fn answer(&self, kind: FactKind, subject: usize) -> &'static str {
        if self.fact(kind, subject) { "yes" } else { "no" }
    }

    /// The fact as a sentence in two parts, "a cat is" and "a pet", "purring is" and "not loud": the first is read, the second learned
    /// (the words of what is learned may be hidden from the model, those of what is read never are).
    pub fn sentence(&self, kind: FactKind, subject: usize) -> (String, String) {
        let (word, not) = (kind.subject(subject), if self.fact(kind, subject) { "" } else { "not " });
        match kind {
            FactKind::Pet => (format!("{} {word} is", if word == "owl" { "an" } else { "a" }), format!("{not}a pet")),
            FactKind::Loud => (format!("{word} is"), format!("{not}loud")),
        }
    }

    /// Sample `index` of the training data. Of twenty, ten are captions, two (without text-only questions, six) are facts, four are
    /// questions about a picture or a sound, and four are questions about text; the two kinds take turns.
    pub fn train(&self, variant: Variant, index: usize) -> Drawn {
        let kind = FactKind::ALL[index / 20 % 2];
        match index % 20 {
            0..10 => {
                let plan = meadow::plan(self.seed, 0, index);
                let sample = meadow::sample(&plan, self.seed, 0, index);
                Drawn { sample, question: None, role: Role::Caption, about: None }
            }
            10..14 => {
                let plan = self.plan(0, index, |a| !self.held_out(kind).contains(&kind.of(a)));
                Drawn { role: Role::Question, ..self.asked(variant, kind, &plan, 0, index, true) }
            }
            14..18 if variant != Variant::Plain => {
                let plan = self.plan(0, index, |_| true);
                Drawn { role: Role::TextQuestion, ..self.asked(variant, kind, &plan, 0, index, false) }
            }
            _ => {
                let subject = (index / 40 + index % 20) % 6;
                let (prompt, text) = self.sentence(kind, subject);
                let sample = Sample { name: format!("fact-{index:06}"), text, prompt: Some(prompt), ..empty() };
                Drawn { sample, question: None, role: Role::Fact, about: Some((kind, subject)) }
            }
        }
    }

    /// Test sample `index`: the question about a picture or a sound of a subject that is held out (or, to see whether the question was
    /// learned at all, of one that is not), the subjects of either answer taking turns. Its prompt holds no caption yet.
    pub fn test(&self, kind: FactKind, held_out: bool, index: usize) -> (Plan, Sample) {
        let held = self.held_out(kind);
        let subjects: Vec<usize> = (0..6).filter(|s| held.contains(s) == held_out).collect();
        let plan = self.plan(1, index, |a| kind.of(a) == subjects[index % subjects.len()]);
        let plan = Plan { picture: kind == FactKind::Pet, sound: kind == FactKind::Loud, ..plan };
        let sample = meadow::sample(&plan, self.seed, 1, index);
        (plan, Sample { text: self.answer(kind, kind.of(&plan.attributes)).into(), ..sample })
    }

    /// What a test or a question is about: the first of Meadow's own plans that is accepted, so that pairs are as in training.
    fn plan(&self, split: usize, index: usize, accept: impl Fn(&Attributes) -> bool) -> Plan {
        // A try succeeds with probability 1/6 at the least.
        (0..).map(|i| meadow::plan(self.seed, split, index + 1_000_000 * i)).find(|plan| accept(&plan.attributes)).expect("there are endless plans")
    }

    fn asked(&self, variant: Variant, kind: FactKind, plan: &Plan, split: usize, index: usize, perceived: bool) -> Drawn {
        let plan = Plan { picture: kind == FactKind::Pet, sound: kind == FactKind::Loud, ..*plan };
        let subject = kind.of(&plan.attributes);
        let sample = match perceived {
            true => meadow::sample(&plan, self.seed, split, index),
            false => Sample { name: format!("text-{index:06}"), ..empty() },
        };
        let (prompt, question) = prompt(variant, kind, &plan.attributes.caption(plan.picture, plan.sound));
        let sample = Sample { text: self.answer(kind, subject).into(), prompt: Some(prompt), ..sample };
        Drawn { sample, question, role: Role::Question, about: Some((kind, subject)) }
    }
}

/// What comes before the answer: the part that sees everything, and the part that is cut off.
pub fn prompt(variant: Variant, kind: FactKind, caption: &str) -> (String, Option<String>) {
    match variant {
        Variant::Plain => (kind.question().into(), None),
        Variant::Seen => (format!("{caption} {}", kind.question()), None),
        Variant::Words => (caption.into(), Some(kind.question().into())),
    }
}

fn empty() -> Sample {
    Sample {
        name: String::new(),
        origin: "the transfer experiment".into(),
        picture: None,
        alpha: None,
        sound: None,
        text: String::new(),
        prompt: None,
        split: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::meadow::words::parse;
    use std::collections::HashSet;

    const WORLDS: [World; 3] = [World { seed: 0, flipped: false }, World { seed: 1, flipped: false }, World { seed: 2, flipped: false }];

    #[test]
    fn each_seed_holds_out_one_of_either_answer_and_three_seeds_all() {
        for kind in FactKind::ALL {
            let all: HashSet<usize> = WORLDS.iter().flat_map(|world| world.held_out(kind)).collect();
            assert_eq!(all.len(), 6);
            for world in WORLDS {
                let [one, other] = world.held_out(kind);
                assert_ne!(world.fact(kind, one), world.fact(kind, other));
            }
        }
        assert_eq!(WORLDS[0].sentence(FactKind::Pet, 5), ("an owl is".into(), "not a pet".into()));
        assert_eq!(WORLDS[0].sentence(FactKind::Loud, 2), ("calling is".into(), "loud".into()));
    }

    /// The flip reverses every statement about what is held out, and changes nothing else, not a byte.
    #[test]
    fn flipping_reverses_the_facts_and_nothing_else() {
        for (world, variant) in WORLDS.into_iter().flat_map(|world| Variant::ALL.map(|variant| (world, variant))) {
            let flipped = World { flipped: true, ..world };
            let mut reversed = 0;
            for index in 0..400 {
                let (usual, turned) = (world.train(variant, index), flipped.train(variant, index));
                assert_eq!((usual.role, usual.about, &usual.question), (turned.role, turned.about, &turned.question));
                let held = usual.about.is_some_and(|(kind, subject)| world.held_out(kind).contains(&subject));
                assert_eq!(usual.sample.text != turned.sample.text, held, "{index}: {}", usual.sample.text);
                assert_eq!(Sample { text: String::new(), ..usual.sample }, Sample { text: String::new(), ..turned.sample });
                reversed += usize::from(held);
            }
            assert!(reversed > 20, "{variant:?}: {reversed}");
            for kind in FactKind::ALL {
                for index in 0..20 {
                    let ((_, usual), (_, turned)) = (world.test(kind, true, index), flipped.test(kind, true, index));
                    assert!(usual.text != turned.text && usual.picture == turned.picture && usual.sound == turned.sound);
                    assert_eq!(world.test(kind, false, index).1, flipped.test(kind, false, index).1);
                }
            }
        }
    }

    /// Nothing that can be seen or heard says whether what is held out is so: neither a question nor a sentence beside it.
    #[test]
    fn facts_about_what_is_held_out_stand_in_text_only() {
        for (world, variant) in WORLDS.into_iter().flat_map(|world| Variant::ALL.map(|variant| (world, variant))) {
            let (mut stated, mut asked, mut shown) = (HashSet::new(), HashSet::new(), HashSet::new());
            for index in 0..2000 {
                let Drawn { sample, role, about, .. } = world.train(variant, index);
                let perceived = sample.picture.is_some() || sample.sound.is_some();
                assert_eq!(perceived, matches!(role, Role::Caption | Role::Question), "{index}");
                let Some((kind, subject)) = about else {
                    let [species, .., action] = parse(&sample.text);
                    shown.extend(species.map(|s| (FactKind::Pet, s)).into_iter().chain(action.map(|a| (FactKind::Loud, a))));
                    continue;
                };
                if perceived {
                    assert!(!world.held_out(kind).contains(&subject), "{index}: {}", sample.text);
                    assert_eq!((sample.picture.is_some(), sample.sound.is_some()), (kind == FactKind::Pet, kind == FactKind::Loud));
                    asked.insert((kind, subject));
                } else {
                    stated.insert((kind, subject));
                }
            }
            assert_eq!((stated.len(), asked.len(), shown.len()), (12, 8, 12), "{variant:?}");
        }
    }
}
