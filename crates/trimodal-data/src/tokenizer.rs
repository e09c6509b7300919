//! Captions to numbers and back: byte-level BPE, trained on the captions, in the format of the `tokenizers` crate.

use std::collections::HashSet;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizedString, Normalizer, PostProcessor, PostProcessorWrapper, TokenizerBuilder};

use super::contained::contained;
use trimodal_base::read::contents;
use trimodal_base::warn::warn_once;
use trimodal_base::{Error, Result};

/// The special tokens, in the order of their ids (0, 1, …) in a tokenizer that [`Tokenizer::train`] made.
pub const SPECIAL: [&str; 9] = ["<bos>", "<eos>", "<boi>", "<eoi>", "<boa>", "<eoa>", "<image>", "<audio>", "<hide>"];

/// No real tokenizer file is larger than this; GPT-2's has 1.4 MB.
const FILE_LIMIT: u64 = 256 << 20;

/// An id is a row of a table in memory; no real vocabulary has four million.
const VOCABULARY_LIMIT: usize = 1 << 22;

/// The ids of the special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// Start of a sample.
    pub bos: u32,
    /// End of a caption.
    pub eos: u32,
    /// Beginning of a picture.
    pub boi: u32,
    /// End of a picture.
    pub eoi: u32,
    /// Beginning of a sound.
    pub boa: u32,
    /// End of a sound.
    pub eoa: u32,
    /// Placeholder of a picture's row.
    pub image: u32,
    /// Placeholder of a sound's row.
    pub audio: u32,
    /// A caption word that is hidden from the input while training.
    pub hide: u32,
}

/// A trained tokenizer whose vocabulary holds the [special tokens](SPECIAL).
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: Special,
    vocabulary: usize,
    /// Ids below `vocabulary` that no token has, in order.
    holes: Vec<u32>,
    /// The BPE dropout that its file asked for, and that it was read without.
    dropout: Option<f64>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary", &self.vocabulary).field("special", &self.special).finish()
    }
}

impl Tokenizer {
    /// Trains byte-level BPE on the captions: the [special tokens](SPECIAL) first, then the 256 bytes, then merges up to
    /// `max_vocabulary` tokens. Every pair of symbols that occurs is merged while there is room, so that every word of a
    /// small set of captions becomes one token. `cat` at the start of a text and ` cat` within it are the same token.
    ///
    /// The same captions give the same tokenizer, on every machine.
    ///
    /// # Errors
    /// No captions, or `max_vocabulary` below 265 (special tokens and bytes).
    pub fn train<'a>(captions: impl IntoIterator<Item = &'a str>, max_vocabulary: usize) -> Result<Self> {
        let least = SPECIAL.len() + 256;
        if max_vocabulary < least {
            return Err(Error::Usage(format!("a tokenizer needs room for at least {least} tokens, {max_vocabulary} were allowed")));
        }
        let captions: Vec<&str> = captions.into_iter().collect();
        if captions.iter().all(|caption| caption.trim().is_empty()) {
            return Err(Error::Usage("there are no captions to train a tokenizer on".into()));
        }
        let failed = |error: tokenizers::Error| Error::Usage(format!("cannot train a tokenizer: {error}"));
        let byte_level = ByteLevel::new(true, true, true);
        let mut inner = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .with_pre_tokenizer(Some(byte_level))
            .with_post_processor(Some(byte_level))
            .with_decoder(Some(byte_level))
            .build()
            .map_err(failed)?;
        let mut trainer = BpeTrainer::builder()
            .vocab_size(max_vocabulary)
            .min_frequency(0)
            .show_progress(false)
            .special_tokens(SPECIAL.iter().map(|token| AddedToken::from(*token, true)).collect())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
            .build();
        inner.train(&mut trainer, captions.into_iter()).map_err(failed)?;
        let text = inner.to_string(false).map_err(failed)?;
        Self::from_bytes(text.as_bytes()).map_err(|what| Error::Usage(format!("cannot train a tokenizer: {what}")))
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// A missing or damaged file, or a vocabulary without our [special tokens](SPECIAL).
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = contents(path, FILE_LIMIT)?;
        let tokenizer = Self::from_bytes(&bytes).map_err(|what| Error::file(path, what))?;
        say_cleared(path, &tokenizer);
        Ok(tokenizer)
    }

    /// Takes any `tokenizer.json` (a Qwen3 folder's, for example) and gives it the [special tokens](SPECIAL) that it does not have,
    /// at the end of its vocabulary. What it has keeps its id; a token of its own that happens to mean the same
    /// (`<|endoftext|>`) does not replace one of ours.
    ///
    /// # Errors
    /// A damaged file, or a vocabulary that is too large.
    pub fn adopt(bytes: &[u8]) -> Result<Adopted> {
        Self::adopted(bytes).map_err(Error::Usage)
    }

    /// [`Tokenizer::adopt`] out of a file.
    ///
    /// # Errors
    /// As there, with the file's name.
    pub fn adopt_file(path: &Path) -> Result<Adopted> {
        let adopted = Self::adopted(&contents(path, FILE_LIMIT)?).map_err(|what| Error::file(path, what))?;
        say_cleared(path, &adopted.tokenizer);
        Ok(adopted)
    }

    fn adopted(bytes: &[u8]) -> std::result::Result<Adopted, String> {
        let (mut inner, dropout) = read(bytes)?;
        let last = inner.get_vocab(true).into_values().max();
        let (kept, added): (Vec<&str>, Vec<&str>) = SPECIAL.iter().copied().partition(|token| inner.token_to_id(token).is_some());
        inner.add_special_tokens(&SPECIAL.map(|token| AddedToken::from(token, true)));
        // The crate counts tokens to find the next id; in a vocabulary with holes the new tokens would get ids that are taken.
        if let Some(token) = added.iter().find(|token| inner.token_to_id(token).is_none_or(|id| last.is_some_and(|last| id <= last))) {
            return Err(format!("no id is free for {token} at the end of the vocabulary, which has holes in its ids"));
        }
        let text = inner.to_string(false).map_err(|error| format!("cannot write the tokenizer: {error}"))?;
        Ok(Adopted { tokenizer: Tokenizer { dropout, ..Self::from_bytes(text.as_bytes())? }, added, kept })
    }

    /// The contents of `tokenizer.json`, for the caller to write (atomically, with the rest of the model's folder).
    ///
    /// # Errors
    /// None in practice: a tokenizer that was trained or loaded can be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.inner.to_string(true).map(String::into_bytes).map_err(|error| Error::Usage(format!("cannot write the tokenizer: {error}")))
    }

    /// The contents of `tokenizer_config.json`, with which `transformers`' `AutoTokenizer` takes `tokenizer.json` as it is. Without it,
    /// the class that belongs to the model's type builds the tokenizer anew, and splits texts in its own way.
    ///
    /// `longest`: the rows that a sample may have. Batches are padded on the left with `<eos>`, as generating needs it; the attention mask
    /// says what is padding.
    pub fn transformers_config(&self, longest: usize) -> String {
        // Where the pre-tokenizer has this switch, `transformers` sets it to false unless it is told otherwise.
        let state = serde_json::to_value(self.inner.get_pre_tokenizer()).unwrap_or_default();
        let mut config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[0],
            "eos_token": SPECIAL[1],
            "pad_token": SPECIAL[1],
            "padding_side": "left",
            "model_max_length": longest,
            "clean_up_tokenization_spaces": false,
        });
        if let Some(space) = state["add_prefix_space"].as_bool() {
            config["add_prefix_space"] = space.into();
        }
        serde_json::to_string_pretty(&config).expect("strings and numbers") + "\n"
    }

    fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        let (inner, dropout) = read(bytes)?;
        let mut ids = [0; SPECIAL.len()];
        for (id, token) in ids.iter_mut().zip(SPECIAL) {
            *id = inner.token_to_id(token).ok_or_else(|| {
                format!(
                    "the vocabulary has no special token {token}; expected a tokenizer.json that trimodal wrote (it needs {}); \
                     `trimodal train --from` adds them to a model of others",
                    SPECIAL.join(" ")
                )
            })?;
        }
        if let Some(i) = (1..ids.len()).find(|i| ids[..*i].contains(&ids[*i])) {
            return Err(format!("the special token {} shares its id {} with another", SPECIAL[i], ids[i]));
        }
        let [bos, eos, boi, eoi, boa, eoa, image, audio, hide] = ids;
        // Ids may have holes, so the table needs the largest id, not the number of tokens.
        let mut taken: Vec<u32> = inner.get_vocab(true).into_values().collect();
        taken.sort_unstable();
        taken.dedup();
        let vocabulary = taken.last().map_or(0, |id| *id as usize + 1);
        if vocabulary > VOCABULARY_LIMIT {
            return Err(format!("expected ids below {VOCABULARY_LIMIT}, found {}", vocabulary - 1));
        }
        let mut left = taken.into_iter().peekable();
        let holes = (0..vocabulary as u32).filter(|id| left.next_if_eq(id).is_none()).collect();
        Ok(Tokenizer { inner, special: Special { bos, eos, boi, eoi, boa, eoa, image, audio, hide }, vocabulary, holes, dropout })
    }

    /// The number of rows that an embedding table needs: the largest id plus one.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The BPE dropout that the file asked for. It is cleared when a tokenizer is read: with it, the same text would have other ids each
    /// time, and two runs of the same seed would differ.
    pub fn cleared_dropout(&self) -> Option<f64> {
        self.dropout
    }

    /// Whether a token has this id.
    pub fn knows(&self, id: u32) -> bool {
        (id as usize) < self.vocabulary && self.holes.binary_search(&id).is_err()
    }

    /// The ids of a model's output layer of `rows` rows that no token has: holes in the vocabulary, and the rows beyond it.
    pub fn absent(&self, rows: usize) -> Vec<u32> {
        self.holes.iter().copied().chain(self.vocabulary as u32..rows as u32).filter(|id| (*id as usize) < rows).collect()
    }

    /// The ids of the special tokens.
    pub fn special(&self) -> Special {
        self.special
    }

    /// The token of an id, as it is in the vocabulary (`Ġcat` for ` cat`).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids of a text, without `<bos>` or `<eos>`.
    ///
    /// # Errors
    /// A part of the text that no token covers, and a special token inside the text (`<image>` typed into a caption would
    /// stand for a row that does not exist); the message names it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // What a file asks for may also fail first when it is used.
        let encode = || self.inner.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).map_err(|error| error.to_string());
        let ids = contained(encode).map_err(|error| Error::Usage(format!("cannot encode {text:?}: {error}")))?;
        if let Some(token) = SPECIAL.iter().find(|token| text.contains(*token)) {
            return Err(Error::Usage(format!("the text {text:?} contains the special token {token}; write it differently")));
        }
        // A tokenizer with unknown characters drops them or replaces them without a word: what comes back must be the text, or
        // what the tokenizer's own normalisation makes of it (Qwen's composes accents). Where it puts spaces does not matter.
        let back = self.decode(&ids)?;
        if letters(&back).eq(letters(text)) {
            return Ok(ids);
        }
        if let Some(normalizer) = self.inner.get_normalizer() {
            let mut normal = NormalizedString::from(text);
            if normalizer.normalize(&mut normal).is_ok() && letters(&back).eq(letters(normal.get())) {
                return Ok(ids);
            }
        }
        let (mut left, mut right) = (text.split_whitespace(), back.split_whitespace());
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Err(Error::Usage(format!("the tokenizer does not keep {text:?}: it gives back {back:?}"))),
                (Some(a), Some(b)) if a == b => {}
                (word, _) => return Err(Error::Usage(format!("the tokenizer has no tokens for {:?} in {text:?}", word.unwrap_or("its end")))),
            }
        }
    }

    /// The text of some ids, without special tokens and without the space that encoding put before the first word.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocabulary) {
            return Err(Error::Usage(format!("token {id} is beyond the vocabulary of {}", self.vocabulary)));
        }
        let decode = || self.inner.decode(ids, true).map_err(|error| error.to_string());
        let text = contained(decode).map_err(|error| Error::Usage(format!("cannot decode {ids:?}: {error}")))?;
        Ok(text.strip_prefix(' ').map(str::to_string).unwrap_or(text))
    }
}

/// A tokenizer that was adopted.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// With all [special tokens](SPECIAL).
    pub tokenizer: Tokenizer,
    /// Those that it did not have.
    pub added: Vec<&'static str>,
    /// Those that it had, with the ids that it gave them.
    pub kept: Vec<&'static str>,
}

/// Reads a `tokenizer.json` of any kind that does not make the program panic, and the dropout that was cleared.
fn read(bytes: &[u8]) -> std::result::Result<(tokenizers::Tokenizer, Option<f64>), String> {
    // The crate's own reader panics on some damaged files ("Helper", "Precompiled"), so the JSON is checked first.
    let unreadable = |error: String| format!("not a readable tokenizer.json: {error}");
    let mut json: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    if mentions(&json["normalizer"], "Precompiled") {
        return Err("its normalizer is of the kind Precompiled, which is not supported; byte-level BPE tokenizers are".into());
    }
    let model = json.get_mut("model").and_then(|model| model.get_mut("dropout"));
    let dropout = model.map(serde_json::Value::take).and_then(|dropout| dropout.as_f64()).filter(|dropout| *dropout != 0.0);
    let cleared = dropout.map(|_| json.to_string().into_bytes());
    let bytes = cleared.as_deref().unwrap_or(bytes);
    let mut inner = contained(|| tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())).map_err(unreadable)?;
    // A file may ask for truncation or padding; the packed batch has neither.
    let _ = inner.with_truncation(None);
    inner.with_padding(None);
    // Nor are its own special tokens put around a text: ours are. `AutoTokenizer` would put them there.
    if inner.get_post_processor().is_some_and(|processor| processor.added_tokens(false) > 0) {
        inner.with_post_processor(None::<PostProcessorWrapper>);
    }
    Ok((inner, dropout))
}

fn say_cleared(path: &Path, tokenizer: &Tokenizer) {
    if let Some(dropout) = tokenizer.dropout {
        warn_once(format!("{}: its BPE dropout of {dropout} is cleared, so that the same text always has the same ids", path.display()));
    }
}

/// Letters without the spaces between them, as the crates' tokenizers write spaces too.
fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_whitespace() && *c != '\u{2581}')
}

/// Whether some object in `json` has this `type`.
fn mentions(json: &serde_json::Value, kind: &str) -> bool {
    match json {
        serde_json::Value::Object(map) => map.get("type").is_some_and(|value| value == kind) || map.values().any(|value| mentions(value, kind)),
        serde_json::Value::Array(values) => values.iter().any(|value| mentions(value, kind)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTIONS: [&str; 4] = ["a fluffy orange cat", "a cat at night", "something yawning", "a zyzzyva once"];

    #[test]
    fn every_word_is_one_token_even_the_rare_ones() {
        let tokenizer = Tokenizer::train(CAPTIONS, 1024).unwrap();
        for caption in CAPTIONS {
            let ids = tokenizer.encode(caption).unwrap();
            assert_eq!(ids.len(), caption.split(' ').count(), "{caption}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), caption);
        }
        assert_eq!(tokenizer.encode("cat").unwrap(), tokenizer.encode(" cat").unwrap());
        assert_eq!(tokenizer.encode("a cat").unwrap()[1], tokenizer.encode("cat").unwrap()[0]);
    }

    #[test]
    fn special_tokens_come_first_and_survive_the_file() {
        let tokenizer = Tokenizer::train(CAPTIONS, 1024).unwrap();
        let special = Special { bos: 0, eos: 1, boi: 2, eoi: 3, boa: 4, eoa: 5, image: 6, audio: 7, hide: 8 };
        assert_eq!(tokenizer.special(), special);
        let bytes = tokenizer.to_bytes().unwrap();
        let again = Tokenizer::from_bytes(&bytes).unwrap();
        assert_eq!(again.special(), special);
        assert_eq!(again.vocabulary(), tokenizer.vocabulary());
        assert_eq!(again.to_bytes().unwrap(), bytes);
        assert_eq!(again.encode("a fluffy zyzzyva").unwrap(), tokenizer.encode("a fluffy zyzzyva").unwrap());
        assert_eq!(Tokenizer::train(CAPTIONS, 1024).unwrap().to_bytes().unwrap(), bytes);
        assert_eq!(tokenizer.decode(&[0, tokenizer.encode("cat").unwrap()[0], 1]).unwrap(), "cat");
    }

    #[test]
    fn words_never_met_become_bytes_and_come_back() {
        let tokenizer = Tokenizer::train(CAPTIONS, 1024).unwrap();
        for text in ["Überraschung!", "猫", "a cat, 3 dogs", "", "🐈\u{200d}⬛", "x\ty"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert!(ids.iter().all(|id| *id >= 9 && (*id as usize) < tokenizer.vocabulary()));
        }
    }

    #[test]
    fn special_tokens_in_a_text_are_refused() {
        let tokenizer = Tokenizer::train(CAPTIONS, 1024).unwrap();
        for text in ["<image>", "a <eos> cat", "a cat<hide>"] {
            assert!(tokenizer.encode(text).unwrap_err().to_string().contains('<'), "{text}");
        }
    }

    #[test]
    fn a_foreign_tokenizer_is_refused_by_name() {
        let tokenizer = Tokenizer::train(CAPTIONS, 1024).unwrap();
        let text = String::from_utf8(tokenizer.to_bytes().unwrap()).unwrap().replace("<boa>", "<other>");
        assert!(Tokenizer::from_bytes(text.as_bytes()).unwrap_err().contains("<boa>"));
        for length in [0, 1, 10, text.len() / 2, text.len() - 1] {
            assert!(Tokenizer::from_bytes(&text.as_bytes()[..length]).is_err());
        }
        assert!(Tokenizer::train([], 1024).is_err());
        assert!(Tokenizer::train(CAPTIONS, 100).is_err());
    }

    #[test]
    fn no_special_tokens_of_others_are_put_around_a_text() {
        let mut json: serde_json::Value = serde_json::from_slice(&foreign()).unwrap();
        let plain = Tokenizer::adopt(&foreign()).unwrap().tokenizer;
        let start = json["added_tokens"].as_array().unwrap().iter().find(|token| token["content"] == "<|im_start|>").unwrap()["id"].clone();
        let special = serde_json::json!({ "SpecialToken": { "id": "<|im_start|>", "type_id": 0 } });
        json["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [special, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<|im_start|>": { "id": "<|im_start|>", "ids": [start], "tokens": ["<|im_start|>"] } },
        });
        let adopted = Tokenizer::adopt(json.to_string().as_bytes()).unwrap().tokenizer;
        assert_eq!(adopted.encode("a cat").unwrap(), plain.encode("a cat").unwrap());
        assert_eq!(adopted.inner.encode("a cat", true).unwrap().get_ids(), plain.encode("a cat").unwrap());
    }

    #[test]
    fn ids_without_a_token_are_known() {
        let tokenizer = Tokenizer::train(CAPTIONS, 1024).unwrap();
        let tokens = tokenizer.vocabulary();
        assert_eq!((tokenizer.absent(tokens), tokenizer.absent(tokens + 2)), (vec![], vec![tokens as u32, tokens as u32 + 1]));
        let mut json: serde_json::Value = serde_json::from_slice(&tokenizer.to_bytes().unwrap()).unwrap();
        let last = tokens as u64 - 1;
        json["model"]["vocab"].as_object_mut().unwrap().values_mut().filter(|id| id.as_u64() == Some(last)).for_each(|id| *id = (last + 3).into());
        let holes = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        assert_eq!((holes.vocabulary(), holes.absent(tokens + 3)), (tokens + 3, vec![last as u32, last as u32 + 1, last as u32 + 2]));
        assert!(holes.knows(last as u32 + 3) && !holes.knows(last as u32) && !holes.knows(last as u32 + 4) && holes.knows(0));
    }

    #[test]
    fn an_unknown_character_is_named() {
        // A tokenizer without the 256 bytes: letters of "cat" only.
        let tokenizer = Tokenizer::train(["cat"], 1024).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&tokenizer.to_bytes().unwrap()).unwrap();
        json["model"]["vocab"].as_object_mut().unwrap().retain(|token, _| token != "z");
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        assert!(tokenizer.encode("cat").is_ok());
        assert!(tokenizer.encode("a zebra cat").unwrap_err().to_string().contains("zebra"));
    }

    /// As Qwen3's: byte-level BPE without a space before the first word, accents composed, special tokens of its own at the end.
    fn foreign() -> Vec<u8> {
        let byte_level = ByteLevel::new(false, true, true);
        let mut inner = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(Some(tokenizers::normalizers::unicode::NFC))
            .with_pre_tokenizer(Some(byte_level))
            .with_post_processor(Some(byte_level))
            .with_decoder(Some(byte_level))
            .build()
            .unwrap();
        let alphabet = ByteLevel::alphabet().into_iter().collect::<HashSet<char>>();
        let mut trainer = BpeTrainer::builder().vocab_size(400).min_frequency(0).show_progress(false).initial_alphabet(alphabet).build();
        inner.train(&mut trainer, CAPTIONS.iter()).unwrap();
        inner.add_special_tokens(&["<|endoftext|>", "<|im_start|>", "<eos>"].map(|token| AddedToken::from(token, true)));
        inner.to_string(false).unwrap().into_bytes()
    }

    #[test]
    fn an_adopted_tokenizer_keeps_its_ids_and_gets_ours_at_the_end() {
        let bytes = foreign();
        assert!(Tokenizer::from_bytes(&bytes).is_err());
        let before = read(&bytes).unwrap().0.get_vocab(true);
        let Adopted { tokenizer, added, kept } = Tokenizer::adopt(&bytes).unwrap();
        assert_eq!((added.len(), kept), (SPECIAL.len() - 1, vec!["<eos>"]));
        for (token, id) in &before {
            assert_eq!(tokenizer.token(*id).as_deref(), Some(token.as_str()));
        }
        assert_eq!(tokenizer.vocabulary(), before.len() + added.len());
        let special = tokenizer.special();
        assert_eq!((special.bos as usize, special.hide as usize), (before.len(), before.len() + 7));
        assert_ne!(special.eos, before["<|endoftext|>"]);
        // Written and read again it is the same, and adopting it once more changes nothing.
        let written = tokenizer.to_bytes().unwrap();
        assert_eq!(Tokenizer::from_bytes(&written).unwrap().special(), special);
        assert!(Tokenizer::adopt(&written).unwrap().added.is_empty());
        assert!(Tokenizer::adopt(b"{}").is_err() && Tokenizer::adopt(b"").is_err());
    }

    #[test]
    fn texts_come_back_without_a_space_in_front_and_with_accents_composed() {
        let tokenizer = Tokenizer::adopt(&foreign()).unwrap().tokenizer;
        for text in ["cat", " cat", "a  cat\n\n  at night ", "don't!", "猫 🐈", "", "   ", "caf\u{e9}"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.inner.decode(&ids, true).unwrap(), text);
        }
        // e and an accent become one letter.
        assert_eq!(tokenizer.encode("cafe\u{301}").unwrap(), tokenizer.encode("caf\u{e9}").unwrap());
        assert!(tokenizer.encode("a <image>").is_err());
        assert!(tokenizer.encode("a <|im_start|> cat").is_err());
    }
}
