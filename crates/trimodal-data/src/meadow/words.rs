//! What can be said in Meadow: six attributes, their words, the pairs that training never shows, and the captions.

/// Seen: what kind of animal.
pub const SPECIES: [&str; 6] = ["cat", "dog", "bird", "frog", "fish", "owl"];
/// Seen: its colour.
pub const COLOUR: [&str; 6] = ["orange", "black", "white", "grey", "brown", "blue"];
/// Seen: its coat.
pub const TEXTURE: [&str; 3] = ["fluffy", "striped", "spotted"];
/// Seen: how it lies, sits or stands.
pub const POSE: [&str; 4] = ["laying on its back", "sitting", "standing", "curled up"];
/// Seen: where.
pub const PLACE: [&str; 3] = ["in the sun", "in the rain", "at night"];
/// Heard, and only heard.
pub const ACTION: [&str; 6] = ["yawning", "purring", "calling", "chirping", "splashing", "sleeping"];

/// The attributes in the order of [`Attributes::indices`]: name and words.
pub const ATTRIBUTE: [(&str, &[&str]); 6] =
    [("species", &SPECIES), ("colour", &COLOUR), ("texture", &TEXTURE), ("pose", &POSE), ("place", &PLACE), ("action", &ACTION)];

/// The attribute that only a sound tells; the others only a picture does.
pub const HEARD: &str = "action";

/// One animal doing one thing: indices into the lists of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Index into [`SPECIES`].
    pub species: usize,
    /// Index into [`COLOUR`].
    pub colour: usize,
    /// Index into [`TEXTURE`].
    pub texture: usize,
    /// Index into [`POSE`].
    pub pose: usize,
    /// Index into [`PLACE`].
    pub place: usize,
    /// Index into [`ACTION`].
    pub action: usize,
}

/// "a fluffy orange cat laying on its back in the sun yawning": never trained, neither its colour–species pair nor its
/// pose–action pair.
pub const HEADLINE: Attributes = Attributes { species: 0, colour: 0, texture: 0, pose: 0, place: 0, action: 0 };

impl Attributes {
    /// The indices in the order of [`ATTRIBUTE`].
    pub fn indices(&self) -> [usize; 6] {
        [self.species, self.colour, self.texture, self.pose, self.place, self.action]
    }

    /// Whether this colour of this species is left out of training: the diagonal of the 6 × 6 table, 6 of 36 pairs.
    pub fn held_out_colour(&self) -> bool {
        self.species == self.colour
    }

    /// Whether this action in this pose is left out of training: the diagonal of the 4 × 6 table, 4 of 24 pairs.
    pub fn held_out_action(&self) -> bool {
        self.pose == self.action
    }

    /// The caption of a sample with a picture, a sound or both; it says only what can be known from them.
    ///
    /// `a {texture} {colour} {species} {pose} {place} {action}`, without the action where there is no sound;
    /// `something {action}` where there is no picture.
    pub fn caption(&self, picture: bool, sound: bool) -> String {
        let action = ACTION[self.action];
        if !picture {
            return format!("something {action}");
        }
        let seen = format!("a {} {} {} {} {}", TEXTURE[self.texture], COLOUR[self.colour], SPECIES[self.species], POSE[self.pose], PLACE[self.place]);
        if sound { format!("{seen} {action}") } else { seen }
    }
}

/// What a caption says, right or wrong: for each attribute, in the order of [`ATTRIBUTE`], the first of its words that occurs.
pub fn parse(caption: &str) -> [Option<usize>; 6] {
    // Whole words only: a space on both sides.
    let caption = format!(" {} ", caption.split_whitespace().collect::<Vec<_>>().join(" "));
    ATTRIBUTE.map(|(_, words)| {
        let found = words.iter().enumerate().filter_map(|(i, word)| caption.find(&format!(" {word} ")).map(|at| (at, i)));
        found.min().map(|(_, i)| i)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_say_what_can_be_known_and_parse_back() {
        assert_eq!(HEADLINE.caption(true, true), "a fluffy orange cat laying on its back in the sun yawning");
        assert_eq!(HEADLINE.caption(true, false), "a fluffy orange cat laying on its back in the sun");
        assert_eq!(HEADLINE.caption(false, true), "something yawning");
        for n in 0..7776 {
            let a = Attributes { species: n % 6, colour: n / 6 % 6, texture: n / 36 % 3, pose: n / 108 % 4, place: n / 432 % 3, action: n / 1296 };
            assert_eq!(parse(&a.caption(true, true)), a.indices().map(Some));
        }
        assert_eq!(parse("something purring"), [None, None, None, None, None, Some(1)]);
        assert_eq!(parse("catfish orangery"), [None; 6]);
    }
}
