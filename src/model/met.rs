//! What a model has met: how many samples training has shown it, by what they had. Who never met a picture without a sound has not learned what
//! to say to one.

use serde::{Deserialize, Serialize};

/// Samples that training has shown a model, by what they had; as often as they were shown. A number that is not there is not known: of a
/// model that something else has trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Words alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<u64>,
    /// A picture without a sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<u64>,
    /// A sound without a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<u64>,
    /// A picture and a sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub both: Option<u64>,
}

impl Met {
    /// What a new model has met.
    pub const NOTHING: Met = Met { words: Some(0), picture: Some(0), sound: Some(0), both: Some(0) };

    /// What a model has met of which nothing is written down: whatever it has eyes and ears for.
    pub fn unknown(eyes: bool, ears: bool) -> Self {
        let none = |may: bool| (!may).then_some(0);
        Met { words: None, picture: none(eyes), sound: none(ears), both: none(eyes && ears) }
    }

    /// Adds what else it has met; what is not known stays so.
    pub fn add(&mut self, more: Met) {
        for (count, more) in [(&mut self.words, more.words), (&mut self.picture, more.picture), (&mut self.sound, more.sound), (&mut self.both, more.both)] {
            *count = count.zip(more).map(|(count, more)| count + more);
        }
    }

    /// Says that it never met such a thing, where that is known.
    pub fn never(&self, picture: bool, sound: bool) -> Option<&'static str> {
        let none = |count: Option<u64>| count == Some(0);
        let some = |count: Option<u64>| count.is_some_and(|count| count > 0);
        // Who was not trained at all has no reason more.
        if ![self.words, self.picture, self.sound, self.both].into_iter().any(|count| count != Some(0)) {
            return None;
        }
        match (picture, sound) {
            (true, false) if none(self.picture) && some(self.both) => Some("it never met a picture without a sound"),
            (true, false) if none(self.picture) => Some("it never met a picture"),
            (false, true) if none(self.sound) && some(self.both) => Some("it never met a sound without a picture"),
            (false, true) if none(self.sound) => Some("it never met a sound"),
            (true, true) if none(self.both) => Some("it never met a picture together with a sound"),
            (false, false) if none(self.words) => Some("it never met words without a picture or a sound"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_stays_unknown_and_is_not_written() {
        let more = Met { words: Some(1), picture: Some(2), sound: Some(3), both: Some(4) };
        let mut met = Met::NOTHING;
        met.add(more);
        assert_eq!(met, more);
        let mut adopted = Met::unknown(true, false);
        adopted.add(more);
        assert_eq!(adopted, Met { words: None, picture: None, sound: Some(3), both: Some(4) });
        assert_eq!(serde_json::to_string(&adopted).unwrap(), r#"{"sound":3,"both":4}"#);
        assert_eq!(serde_json::from_str::<Met>(r#"{"sound":3,"both":4}"#).unwrap(), adopted);
    }

    #[test]
    fn what_was_never_met_is_said_where_it_is_known() {
        let pairs = Met { both: Some(7), ..Met::NOTHING };
        assert_eq!(pairs.never(true, false), Some("it never met a picture without a sound"));
        assert_eq!(pairs.never(false, true), Some("it never met a sound without a picture"));
        assert_eq!((pairs.never(true, true), pairs.never(false, false)), (None, Some("it never met words without a picture or a sound")));
        let alone = Met { picture: Some(3), ..Met::NOTHING };
        assert_eq!((alone.never(true, false), alone.never(false, true)), (None, Some("it never met a sound")));
        assert_eq!(alone.never(true, true), Some("it never met a picture together with a sound"));
        for (picture, sound) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(Met::NOTHING.never(picture, sound), None, "a model that was not trained");
            assert_eq!(Met::unknown(true, true).never(picture, sound), None);
        }
    }
}
