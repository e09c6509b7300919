//! What a step is fed: samples in a shuffled order, with words hidden, packed into batches.

use super::examples::{self, Example, placeholders};
use super::recipe::Recipe;
use super::sequence::sequence;
use super::visits::{Kept, Visitor};
use crate::data::augment::Augmentation;
use crate::data::balance::Balance;
use crate::data::loader::{BadSamples, DataPosition, LoadedSample, Loader, LoaderOptions, Visit};
use crate::data::tokenizer::Special;
use crate::data::{Dataset, Tokenizer};
use crate::error::Result;
use crate::model::Config;
use crate::model::batch::{Batch, Packer};
use std::sync::Arc;

/// Draws batches without end: every epoch in another order, every visit augmented in another way, with other words hidden. Samples are
/// decoded and augmented ahead on other threads.
pub struct Batches {
    loader: Loader<Example, Kept>,
    config: Config,
    special: Special,
    recipe: Recipe,
    /// A sample that did not fit into the last batch.
    held: Option<LoadedSample<Example>>,
}

impl Batches {
    /// Starts at a place in the data. `rows` are the numbers of the data set's rows to train on, `augmentation` what varies between visits.
    ///
    /// # Errors
    /// As [`Loader::start`]. A sample that does not fit the model is a bad sample.
    pub fn start(
        dataset: Arc<Dataset>,
        rows: Vec<usize>,
        config: &Config,
        tokenizer: &Tokenizer,
        recipe: Recipe,
        augmentation: Augmentation,
        options: LoaderOptions,
        from: DataPosition,
    ) -> Result<Self> {
        let visitor = Arc::new(Visitor::new(config, tokenizer, recipe.rows, augmentation)?);
        let (anew, alpha, keeper) = (visitor.augments(), visitor.wants_alpha(), visitor.clone());
        let make = move |sample| keeper.keep(sample);
        let show = move |kept: &Arc<Kept>, visit| visitor.show(kept, visit);
        let loader = Loader::visits(dataset, rows, examples::sizes(config), alpha, options, from, make, Kept::bytes, show, anew)?;
        Ok(Batches { loader, config: config.clone(), special: tokenizer.special(), recipe, held: None })
    }

    /// As [`Batches::start`] with samples that are in memory already.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no sample.
    pub fn of(examples: Arc<Vec<Example>>, config: &Config, tokenizer: &Tokenizer, recipe: Recipe) -> Result<Self> {
        // A sample is copied, not decoded: one thread suffices, and nothing is worth a cache.
        let options = LoaderOptions { seed: recipe.seed, workers: 1, queue: 64, cache_bytes: 0, ..LoaderOptions::default() };
        let loader = Loader::of(examples.len(), options, move |i| Ok(Kept::same(examples[i].clone())), Kept::bytes, |kept, _| Ok(kept.example()))?;
        Ok(Batches { loader, config: config.clone(), special: tokenizer.special(), recipe, held: None })
    }

    /// The same, from epochs that visit each class equally often. To be asked for before the first batch.
    ///
    /// # Errors
    /// As [`Loader::balanced`].
    pub fn balanced(self, balance: Balance) -> Result<Self> {
        Ok(Batches { loader: self.loader.balanced(balance)?, ..self })
    }

    /// The next batch, and the place in the data after its last sample: samples in the epoch's order until one does not fit.
    ///
    /// # Errors
    /// As [`Loader::next`].
    pub fn draw(&mut self) -> Result<(Batch, DataPosition)> {
        let packer = Packer { config: &self.config, budget: self.recipe.rows, placeholders: placeholders(&self.special) };
        let (mut batch, mut after) = (Batch::default(), DataPosition::default());
        loop {
            let loaded = match self.held.take() {
                Some(loaded) => loaded,
                None => self.loader.next()?,
            };
            let visit = Visit { epoch: loaded.epoch, row: loaded.index };
            let sequence = sequence(&loaded.item, visit, self.recipe, &self.config, &self.special);
            if !packer.add(&mut batch, &sequence)? {
                self.held = Some(loaded);
                return Ok((batch, after));
            }
            after = loaded.after;
            // A batch may end with its epoch: a small data set must not appear in it twice.
            if loaded.last_of_epoch {
                return Ok((batch, after));
            }
        }
    }

    /// The bad samples that were skipped.
    pub fn bad(&self) -> BadSamples {
        self.loader.bad()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::meadow::{self, MeadowOptions, words};
    use crate::data::{Limits, OpenOptions};
    use crate::train::{Settings, setup};
    use std::ops::ControlFlow;

    /// What the visits of three epochs teach of Meadow: a picture without colours and no word for one, or both. And never a species in a
    /// colour that is held out for it: the pairs of the test stay new, whatever is done to the samples.
    #[test]
    fn no_visit_teaches_a_colour_that_it_does_not_show_or_a_pair_that_is_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let options = MeadowOptions { samples: 120, test_samples: 1, ..Default::default() };
        meadow::write(folder.path(), &options, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let dataset = Arc::new(Dataset::open_with(folder.path(), &OpenOptions { limits: Limits::default(), ..Default::default() }).unwrap());
        let mut settings = Settings::preset("meadow").unwrap();
        settings.set_all(&["color_blind=0.5".into(), "color_jitter=0".into(), "rows=128".into()]).unwrap();
        let tokenizer = setup::tokenizer(&settings, &dataset).unwrap();
        let config = settings.model_config_for(&tokenizer);
        let rows = setup::trained_rows(&settings, &dataset);
        let augmentation = setup::augmentation(&settings, &dataset).unwrap();
        let mut batches = Batches::start(
            dataset.clone(),
            rows.clone(),
            &config,
            &tokenizer,
            setup::recipe(&settings),
            augmentation,
            settings.loading(),
            DataPosition::default(),
        )
        .unwrap();
        let (mut grey, mut colourful, mut seen) = (0, 0, 0);
        while seen < 3 * rows.len() {
            let (batch, _) = batches.draw().unwrap();
            seen += batch.samples;
            // A sample and its learned words, at a time: 128 rows hold two at most.
            let starts: Vec<usize> = (0..batch.rows()).filter(|&row| batch.position[row] == 0).chain([batch.rows()]).collect();
            let mut pictures = batch.pixels.chunks_exact(48 * 48 * 3);
            for (range, name) in starts.windows(2).zip(&batch.names) {
                let range = range[0]..range[1];
                let learned: Vec<u32> = range.clone().filter(|&row| batch.target[row] >= 0).map(|row| batch.target[row] as u32).collect();
                let said = words::parse(&tokenizer.decode(&learned).unwrap());
                let truth = words::parse(dataset.rows().iter().find(|row| &row.name == name).and_then(|row| row.text.as_deref()).unwrap());
                if let (Some(species), Some(colour)) = (truth[0], said[1]) {
                    let pair = words::Attributes { species, colour, ..words::HEADLINE };
                    assert!(!pair.held_out_colour(), "{name} teaches a pair that is held out");
                }
                if !range.clone().any(|row| batch.embed_id[row] < 0 && batch.patch_row.contains(&(row as i32))) {
                    continue;
                }
                let pixels = pictures.next().unwrap();
                let no_colour = pixels.as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b);
                assert!(!(no_colour && said[1].is_some()), "{name} teaches a colour that it does not show");
                assert_eq!(no_colour, said[1].is_none() && truth[1].is_some(), "{name}");
                (grey, colourful) = (grey + no_colour as usize, colourful + !no_colour as usize);
            }
        }
        assert!(grey > 100 && colourful > 100, "{grey} visits without colours, {colourful} with");
    }

    /// What the visits of three epochs teach where a picture or a sound is hidden: of a row with both the words of what is shown, and no other. What
    /// else varies is as without, and a share of nothing changes nothing.
    #[test]
    fn no_visit_teaches_a_word_that_only_the_hidden_one_tells() {
        let folder = tempfile::tempdir().unwrap();
        meadow::write(folder.path(), &MeadowOptions { samples: 120, test_samples: 1, ..Default::default() }, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let dataset = Arc::new(Dataset::open_with(folder.path(), &OpenOptions { limits: Limits::default(), ..Default::default() }).unwrap());
        let row_of = |name: &str| dataset.rows().iter().find(|row| row.name == name).unwrap();
        let draw = |sets: &[&str]| {
            let mut settings = Settings::preset("meadow").unwrap();
            settings.set_all(&["color_blind=0", "color_jitter=0.25", "rows=128"].map(String::from)).unwrap();
            settings.set_all(&sets.iter().map(|set| set.to_string()).collect::<Vec<_>>()).unwrap();
            let tokenizer = setup::tokenizer(&settings, &dataset).unwrap();
            let config = settings.model_config_for(&tokenizer);
            let (rows, recipe) = (setup::trained_rows(&settings, &dataset), setup::recipe(&settings));
            let (augmentation, from) = (setup::augmentation(&settings, &dataset).unwrap(), DataPosition::default());
            let mut batches = Batches::start(dataset.clone(), rows.clone(), &config, &tokenizer, recipe, augmentation, settings.loading(), from).unwrap();
            // Each visit by itself: its row, whether it shows a picture and a sound, its learned words, its pixels.
            let mut visits: Vec<(String, bool, bool, String, Vec<u8>)> = Vec::new();
            while visits.len() < 3 * rows.len() {
                let (batch, _) = batches.draw().unwrap();
                let starts: Vec<usize> = (0..batch.rows()).filter(|&row| batch.position[row] == 0).chain([batch.rows()]).collect();
                let mut pictures = batch.pixels.chunks_exact(48 * 48 * 3);
                for (range, name) in starts.windows(2).zip(&batch.names) {
                    let range = range[0] as i32..range[1] as i32;
                    let (picture, sound) = (batch.patch_row.iter().any(|row| range.contains(row)), batch.frame_row.iter().any(|row| range.contains(row)));
                    let learned: Vec<u32> = batch.target[range.start as usize..range.end as usize].iter().filter(|id| **id >= 0).map(|id| *id as u32).collect();
                    let pixels = if picture { pictures.next().unwrap().to_vec() } else { Vec::new() };
                    visits.push((name.clone(), picture, sound, tokenizer.decode(&learned).unwrap(), pixels));
                }
            }
            visits
        };
        let (plain, hiding) = (draw(&[]), draw(&["modality_dropout=0.6"]));
        assert!(plain == draw(&["modality_dropout=0"]) && hiding == draw(&["modality_dropout=0.6", "workers=1", "cache_bytes=0"]));
        let mut counts = [0; 3];
        for (name, picture, sound, said, _) in &hiding {
            let row = row_of(name);
            let (had, text) = ((row.may_have_picture(), row.may_have_sound()), row.text.as_deref().unwrap());
            let (truth, said) = (words::parse(text), words::parse(said));
            if had != (true, true) {
                assert_eq!(((*picture, *sound), said), (had, truth), "{name}: only what has both is shown in part");
                continue;
            }
            let shown = |attribute: usize| if attribute == 5 { *sound } else { *picture };
            assert_eq!(said, [0, 1, 2, 3, 4, 5].map(|of| truth[of].filter(|_| shown(of))), "{name}");
            counts[match (*picture, *sound) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => panic!("{name} shows nothing"),
            }] += 1;
        }
        let share = |i: usize| counts[i] as f64 / counts.iter().sum::<i32>() as f64;
        assert!((share(0) - 0.4).abs() < 0.1 && (share(1) - 0.3).abs() < 0.1 && (share(2) - 0.3).abs() < 0.1, "{counts:?}");
        // The light on a picture that is shown is the one that it is shown in without; the order of an epoch's visits too.
        let seen: Vec<_> = hiding.iter().zip(&plain).filter(|(hiding, _)| hiding.1).collect();
        assert!(seen.len() > 100 && seen.iter().filter(|(hiding, plain)| hiding.2 == plain.2).all(|(hiding, plain)| hiding.4 == plain.4));
        // Nobody says which words these are: all are taught.
        std::fs::remove_file(folder.path().join("meadow.json")).unwrap();
        let undeclared = draw(&["modality_dropout=0.6"]);
        assert!(undeclared.iter().any(|(name, picture, sound, ..)| row_of(name).may_have_picture() && row_of(name).may_have_sound() && picture != sound));
        assert!(undeclared.iter().all(|(name, _, _, said, _)| said.split_whitespace().eq(row_of(name).text.as_deref().unwrap().split_whitespace())));
    }
}
