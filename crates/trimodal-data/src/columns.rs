//! Which column of a table is the picture, the sound, the words: `--columns image=img,text=caption`.

use std::str::FromStr;

/// What a column can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Pictures.
    Image,
    /// Sounds.
    Audio,
    /// Captions.
    Text,
    /// Words before the caption, which are read and not learned.
    Prompt,
    /// The split that a row belongs to.
    Split,
}

impl Part {
    const ALL: [Part; 5] = [Part::Image, Part::Audio, Part::Text, Part::Prompt, Part::Split];

    /// The name that a column has where nobody says otherwise.
    pub fn name(self) -> &'static str {
        match self {
            Part::Image => "image",
            Part::Audio => "audio",
            Part::Text => "text",
            Part::Prompt => "prompt",
            Part::Split => "split",
        }
    }
}

/// Which columns are read, where they are not called `image`, `audio`, `text`, `prompt` and `split`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnChoice(Vec<(Part, String)>);

impl ColumnChoice {
    /// The column that the user chose; `Some("")` where there is to be none, `None` where its own name is looked for.
    pub fn get(&self, part: Part) -> Option<&str> {
        self.0.iter().find(|(chosen, _)| *chosen == part).map(|(_, name)| name.as_str())
    }

    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for ColumnChoice {
    type Err = String;

    /// `image=img,text=caption`; nothing after the = leaves that part out.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut chosen: Vec<(Part, String)> = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (part, name) = pair.split_once('=').ok_or_else(|| format!("{pair:?}: expected PART=COLUMN, as in image=img,text=caption"))?;
            let names = || Part::ALL.map(Part::name).join(", ");
            let part =
                Part::ALL.into_iter().find(|known| known.name() == part.trim()).ok_or_else(|| format!("{:?}: expected one of {}", part.trim(), names()))?;
            if chosen.iter().any(|(before, _)| *before == part) {
                return Err(format!("{} is given twice", part.name()));
            }
            chosen.push((part, name.trim().to_string()));
        }
        Ok(ColumnChoice(chosen))
    }
}

impl std::fmt::Display for ColumnChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(part, name)| format!("{}={name}", part.name())).collect();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_mistakes_named() {
        let choice: ColumnChoice = "image=img, text=answer.text ,audio=".parse().unwrap();
        assert_eq!([Part::Image, Part::Text, Part::Audio, Part::Prompt].map(|part| choice.get(part)), [Some("img"), Some("answer.text"), Some(""), None]);
        assert_eq!(choice.to_string().parse(), Ok(choice));
        assert!("".parse::<ColumnChoice>().unwrap().is_empty());
        for (text, word) in [("img", "PART=COLUMN"), ("picture=img", "image, audio, text, prompt, split"), ("text=a,text=b", "text is given twice")] {
            assert!(text.parse::<ColumnChoice>().unwrap_err().contains(word), "{text}");
        }
    }
}
