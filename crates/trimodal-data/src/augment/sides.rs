//! Captions that name a side: a mirrored picture would make them untrue.

/// The words that name a side, or a sense of rotation, unless others are chosen.
pub const WORDS: &str = "left, right, leftward, rightward, clockwise, counterclockwise, anticlockwise, \
links, rechts, gauche, droite, izquierda, derecha, 左, 右";

/// Words after which a picture is not mirrored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sides(Vec<String>);

impl Sides {
    /// Words with commas between them; none for no word.
    pub fn new(words: &str) -> Self {
        Sides(words.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()).collect())
    }

    /// Whether a text has one of the words: in small or capital letters, whole (`bright` does not name a side, `right-hand` does). Scripts
    /// that have no spaces between words name it anywhere.
    pub fn named_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let whole = |word: &String| text.split(|c: char| !c.is_alphanumeric()).any(|found| found == word);
        let spaceless = |word: &String| word.chars().all(|c| ('\u{2e80}'..='\u{9fff}').contains(&c)) && text.contains(word.as_str());
        self.0.iter().any(|word| whole(word) || spaceless(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_in_any_case_and_scripts_without_spaces() {
        let sides = Sides::new(WORDS);
        for text in ["an arrow to the Left", "RIGHT-HAND side", "left", "a cat (right)", "ein Pfeil nach rechts", "一只猫在左边", "turning counterclockwise."]
        {
            assert!(sides.named_in(text), "{text}");
        }
        for text in ["a bright cat", "a leftover", "", "copyright", "a cat upside down", "lefty"] {
            assert!(!sides.named_in(text), "{text}");
        }
        assert!(!Sides::new("").named_in("left") && !Sides::new(" , ,").named_in("left"));
        assert!(Sides::new("East, west").named_in("the WEST wing") && !Sides::new("east").named_in("left"));
    }
}
