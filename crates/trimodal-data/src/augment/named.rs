//! Where a caption names something: the words of a list, such as the values of an attribute.

use std::ops::Range;

/// Words and phrases that are looked for in captions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named(Vec<Vec<String>>);

/// The words of a text in small letters, each with the bytes that it is at.
fn words(text: &str) -> Vec<(String, Range<usize>)> {
    let mut words: Vec<(String, Range<usize>)> = Vec::new();
    for (at, letter) in text.char_indices().filter(|(_, letter)| letter.is_alphanumeric()) {
        match words.last_mut().filter(|(_, range)| range.end == at) {
            Some((word, range)) => {
                word.extend(letter.to_lowercase());
                range.end = at + letter.len_utf8();
            }
            None => words.push((letter.to_lowercase().collect(), at..at + letter.len_utf8())),
        }
    }
    words
}

impl Named {
    /// These words or phrases; one without a letter is none.
    pub fn new<'a>(phrases: impl IntoIterator<Item = &'a str>) -> Self {
        let each = phrases.into_iter().map(|phrase| words(phrase).into_iter().map(|(word, _)| word).collect::<Vec<_>>());
        Named(each.filter(|phrase| !phrase.is_empty()).collect())
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of a text at which one of them stands, whole, in small or capital letters.
    pub fn ranges(&self, text: &str) -> Vec<Range<usize>> {
        let words = words(text);
        let mut found = Vec::new();
        for from in 0..words.len() {
            let here = |phrase: &&Vec<String>| words[from..].len() >= phrase.len() && phrase.iter().zip(&words[from..]).all(|(word, (own, _))| word == own);
            if let Some(longest) = self.0.iter().filter(here).map(Vec::len).max() {
                found.push(words[from].1.start..words[from + longest - 1].1.end);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found_where_they_stand() {
        let named = Named::new(["orange", "light blue", "blue", "?"]);
        let at = |text: &'static str| named.ranges(text).into_iter().map(|range| &text[range]).collect::<Vec<_>>();
        assert_eq!(at("a fluffy ORANGE cat, in light-blue; bluebells"), ["ORANGE", "light-blue", "blue"]);
        assert_eq!(at("an oranges-only shop"), Vec::<&str>::new());
        assert_eq!(at("blue"), ["blue"]);
        assert!(at("").is_empty() && Named::default().ranges("blue").is_empty() && Named::new(["", "!"]).is_empty());
    }
}
