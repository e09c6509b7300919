//! Answering from a list: how likely each of some given answers is after a prompt, end of text included, by the forward pass of
//! [`super::generate`].
//!
//! The prompt (picture, sound, words) goes through once, and its keys and values stay in the cache. The answers come after it as a tree:
//! in the order of their ids, so that an answer finds what it has in common with the one before it in the cache, and only the rest goes
//! through. An answer overwrites the rest of the one before. Several answers go through at once, of several prompts or, where these are
//! few, of several stretches of the list, each of which then has a copy of the prompt's keys and values. A row serves all words that some
//! answer has after it: a list of `A` answers of up to `W` words takes as many rows as the tree has nodes, at most `A · W`.

use super::batch::{Packer, Sequence};
use super::config::Config;
use super::contrast;
use super::generate::Generator;
use super::impression;
use super::parameters::Parameters;
use super::score::{WordLosses, picks};
use crate::error::{Error, Result};
use std::ops::{ControlFlow, Range};

/// A node of the tree of some answers: all that begin with the same words.
struct Node {
    /// The last of these words.
    word: u32,
    /// How many words these are.
    depth: usize,
    /// The answer that ends here, if one does.
    ends: Option<usize>,
}

/// A stretch of the list, as a tree.
struct Tree {
    /// The root, which stands for the prompt, then each answer's new nodes.
    nodes: Vec<Node>,
    /// Of each answer, in order: the nodes that it does not share with the one before. Never empty, because no answer is the beginning of
    /// the one before it.
    passes: Vec<Range<usize>>,
    /// Of each node: those one word further.
    next: Vec<Vec<usize>>,
}

impl Tree {
    /// Of the answers at these places, which are in the order of their ids.
    fn new(answers: &[Vec<u32>], places: &[usize]) -> Self {
        let mut tree = Tree { nodes: vec![Node { word: 0, depth: 0, ends: None }], passes: Vec::new(), next: vec![Vec::new()] };
        let mut path = vec![0];
        for &place in places {
            let words = &answers[place];
            let shared = words.iter().zip(&path[1..]).take_while(|(word, node)| tree.nodes[**node].word == **word).count();
            path.truncate(shared + 1);
            let first = tree.nodes.len();
            for (depth, &word) in words.iter().enumerate().skip(shared) {
                let (parent, here) = (path[depth], tree.nodes.len());
                tree.nodes.push(Node { word, depth: depth + 1, ends: None });
                tree.next.push(Vec::new());
                tree.next[parent].push(here);
                path.push(here);
            }
            tree.nodes[path[words.len()]].ends = Some(place);
            tree.passes.push(first..tree.nodes.len());
        }
        tree
    }
}

/// Answers on their way through the model: one prompt's stretch of the list, and its place in the cache.
struct Slot<'t> {
    tree: &'t Tree,
    prompt: usize,
    /// Its first row of the cache, and the first that its answers see.
    first: usize,
    seen: usize,
    /// Rows of the prompt.
    rows: usize,
    /// The log-probability of each node's words.
    log_p: Vec<f64>,
}

/// Buffers for scoring lists of answers. Allocated once, used for any number of prompts and lists that fit.
pub struct Chooser {
    passes: Generator,
    losses: WordLosses,
    slots: usize,
    length: usize,
}

impl Chooser {
    /// Allocates for `slots` answers at once, of up to `length` rows with their prompts (at most as many as the model takes), on the device
    /// and in the dtype of the parameters.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the device has no room for it.
    pub fn new(config: &Config, p: &Parameters, slots: usize, length: usize) -> Result<Self> {
        let (slots, length) = (slots.max(1), length.min(config.max_position_embeddings).max(1));
        let picks = picks(config, slots * length);
        let passes = Generator::allocate(config, p, slots, length, config.num_hidden_layers, picks)?;
        Ok(Chooser { passes, losses: WordLosses::new(p, picks)?, slots, length })
    }

    /// Whether this many prompts at once fit, and prompts and answers of this length together.
    pub fn fits(&self, prompts: usize, length: usize) -> bool {
        prompts <= self.slots && length <= self.length
    }

    /// Of each prompt: the log-probability of each answer after it, with `end` after the answer, in nats. It is over all of the output
    /// layer, as in training. For a model that was trained to tell captions from pictures and sounds alone ([`Config::contrastive`]) the
    /// logarithm of how likely that finds each answer, among these, is added where the prompt has a picture or a sound. `answers`: their ids,
    /// none empty and no two the same. `progress(done)` is told how many answers have been scored, of `prompts.len() · answers.len()`, and
    /// may stop the work.
    ///
    /// # Errors
    /// [`Error::Usage`] for more prompts than were allocated for, an empty prompt, answers that are empty, the same or too long for the
    /// room after a prompt, or a word beyond the vocabulary; [`Error::Interrupted`] where `progress` says so.
    pub fn run(
        &mut self,
        p: &Parameters,
        packer: &Packer,
        prompts: &[Sequence],
        answers: &[Vec<u32>],
        end: u32,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f64>>> {
        let order = self.check(packer.config, prompts, answers, end)?;
        if prompts.is_empty() || answers.is_empty() {
            return Ok(vec![Vec::new(); prompts.len()]);
        }
        // Where there are fewer prompts than slots, each prompt has several, with a stretch of the list each.
        let stretches = (self.slots / prompts.len()).clamp(1, order.len());
        let trees: Vec<Tree> = order.chunks(order.len().div_ceil(stretches)).map(|places| Tree::new(answers, places)).collect();
        let mut slots = Vec::with_capacity(prompts.len() * trees.len());
        for (prompt, sequence) in prompts.iter().enumerate() {
            for tree in &trees {
                let first = slots.len() * self.length;
                let seen = first + sequence.cut.map_or(0, |cut| cut.from);
                slots.push(Slot { tree, prompt, first, seen, rows: sequence.rows.len(), log_p: vec![0.0; tree.nodes.len()] });
            }
        }
        let mut scores = vec![vec![0.0; answers.len()]; prompts.len()];
        let told = self.prefill(p, &Packer { budget: self.slots * self.length, ..*packer }, prompts, trees.len(), &slots)?;
        // The root of every tree is the last row of its prompt.
        let roots: Vec<(usize, usize, i32)> = slots.iter().enumerate().map(|(slot, of)| (slot, 0, of.prompt as i32)).collect();
        self.take(p, &mut slots, &roots, end, &mut scores)?;
        let mut done = 0;
        for pass in 0..trees.iter().map(|tree| tree.passes.len()).max().unwrap_or(0) {
            if progress(done).is_break() {
                return Err(Error::Interrupted { step: 0 });
            }
            let nodes = self.decode(p, &slots, pass)?;
            self.take(p, &mut slots, &nodes, end, &mut scores)?;
            done += slots.iter().filter(|slot| pass < slot.tree.passes.len()).count();
        }
        for (scores, words) in scores.iter_mut().zip(told) {
            let told = words.map_or(Vec::new(), |words| contrast::log_probabilities(&words, answers));
            scores.iter_mut().zip(told).for_each(|(score, told)| *score += told);
        }
        let _ = progress(done);
        Ok(scores)
    }

    /// The answers' places in the order of their ids.
    fn check(&self, config: &Config, prompts: &[Sequence], answers: &[Vec<u32>], end: u32) -> Result<Vec<usize>> {
        if prompts.len() > self.slots {
            return Err(Error::Usage(format!("{} prompts at once: allocated for {}", prompts.len(), self.slots)));
        }
        if let Some(empty) = prompts.iter().position(|prompt| prompt.rows.is_empty()) {
            return Err(Error::Usage(format!("prompt {empty} is empty")));
        }
        let longest = prompts.iter().map(|prompt| prompt.rows.len()).max().unwrap_or(0);
        for (i, words) in answers.iter().enumerate() {
            if words.is_empty() {
                return Err(Error::Usage(format!("answer {i} has no words")));
            }
            if longest + words.len() > self.length {
                let what = format!("answer {i} has {} tokens, after a prompt of {longest} rows: allocated for {} together", words.len(), self.length);
                return Err(Error::Usage(what));
            }
            if let Some(id) = words.iter().chain([&end]).find(|id| **id as usize >= config.vocab_size) {
                return Err(Error::Usage(format!("token {id}: the vocabulary has {}", config.vocab_size)));
            }
        }
        let mut order: Vec<usize> = (0..answers.len()).collect();
        order.sort_by(|a, b| answers[*a].cmp(&answers[*b]));
        match order.windows(2).find(|pair| answers[pair[0]] == answers[pair[1]]) {
            Some(pair) => Err(Error::Usage(format!("answers {} and {} are the same", pair[0].min(pair[1]), pair[0].max(pair[1])))),
            None => Ok(order),
        }
    }

    /// Runs the prompts in one pass; each prompt's keys and values go to all of its `copies` slots. Gives what each prompt's picture and sound
    /// alone tell of all words, if the model was trained to tell captions by that.
    fn prefill(&mut self, p: &Parameters, packer: &Packer, prompts: &[Sequence], copies: usize, slots: &[Slot]) -> Result<Vec<Option<Vec<f64>>>> {
        let batch = packer.pack(prompts)?;
        self.passes.embed(p, &batch)?;
        let config = packer.config;
        let told = if config.contrastive { impression::words(config.rms_norm_eps, p, &batch, &self.passes.x)? } else { vec![None; prompts.len()] };
        let (mut visible, mut pick, mut cache_row) = (Vec::new(), Vec::new(), Vec::new());
        let mut packed = 0;
        for (prompt, sequence) in prompts.iter().enumerate() {
            let shift = slots[prompt * copies].first as i32 - packed as i32;
            visible.extend(batch.visible[packed..packed + sequence.rows.len()].iter().map(|seen| seen.map(|edge| edge + shift)));
            packed += sequence.rows.len();
            pick.push(packed as i32 - 1);
        }
        for copy in 0..copies {
            for (prompt, sequence) in prompts.iter().enumerate() {
                let first = slots[prompt * copies + copy].first;
                cache_row.extend((first..first + sequence.rows.len()).map(|row| row as i32));
            }
        }
        let pass = self.passes.pass(&batch.position, &visible, &cache_row, &pick)?;
        self.passes.decoder(p, &pass)?;
        Ok(told)
    }

    /// Runs what is new in answer number `pass` of every slot; returns the slot, the node and the row of each.
    fn decode(&mut self, p: &Parameters, slots: &[Slot], pass: usize) -> Result<Vec<(usize, usize, i32)>> {
        let (mut nodes, mut ids, mut position, mut cache_row, mut visible) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (number, slot) in slots.iter().enumerate() {
            for node in slot.tree.passes.get(pass).cloned().unwrap_or_default() {
                let Node { word, depth, .. } = slot.tree.nodes[node];
                let place = slot.rows + depth - 1;
                nodes.push((number, node, ids.len() as i32));
                ids.push(word as i32);
                position.push(place as i32);
                cache_row.push((slot.first + place) as i32);
                visible.push([slot.seen as i32, (slot.first + place + 1) as i32]);
            }
        }
        self.passes.words(p, &ids)?;
        let pick: Vec<i32> = (0..ids.len() as i32).collect();
        let pass = self.passes.pass(&position, &visible, &cache_row, &pick)?;
        self.passes.decoder(p, &pass)?;
        Ok(nodes)
    }

    /// Takes from the rows of these nodes what comes after them: the words of the nodes one further, and the end of the answers.
    fn take(&mut self, p: &Parameters, slots: &mut [Slot], nodes: &[(usize, usize, i32)], end: u32, scores: &mut [Vec<f64>]) -> Result<()> {
        let (mut row, mut target, mut meant) = (Vec::new(), Vec::new(), Vec::new());
        for &(slot, node, at) in nodes {
            let tree = slots[slot].tree;
            let further = tree.next[node].iter().map(|&next| (tree.nodes[next].word, Some(next)));
            for (word, next) in further.chain(tree.nodes[node].ends.map(|_| (end, None))) {
                row.push(at);
                target.push(word as i32);
                meant.push((slot, node, next));
            }
        }
        let picks = self.losses.capacity();
        let mut losses = Vec::with_capacity(row.len());
        for (row, target) in row.chunks(picks).zip(target.chunks(picks)) {
            losses.extend(self.losses.run(p, &mut self.passes, row, target)?);
        }
        for ((slot, node, next), loss) in meant.into_iter().zip(losses) {
            let Slot { tree, prompt, log_p, .. } = &mut slots[slot];
            match (next, tree.nodes[node].ends) {
                (Some(next), _) => log_p[next] = log_p[node] - loss,
                (None, Some(answer)) => scores[*prompt][answer] = log_p[node] - loss,
                (None, None) => unreachable!("an end belongs to an answer"),
            }
        }
        Ok(())
    }
}

/// Answers in the order of their log-probabilities, the most likely first; of equally likely ones the first of the list. A number that is
/// none comes last.
pub fn best_first(log_probabilities: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..log_probabilities.len()).collect();
    let of = |i: usize| if log_probabilities[i].is_nan() { f64::NEG_INFINITY } else { log_probabilities[i] };
    order.sort_by(|&a, &b| of(b).total_cmp(&of(a))); // stable
    order
}

/// How likely each answer is if it must be one of the list: the softmax of their log-probabilities.
pub fn probabilities(log_probabilities: &[f64]) -> Vec<f64> {
    let largest = log_probabilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = log_probabilities.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_share_what_they_begin_with() {
        let answers: Vec<Vec<u32>> = vec![vec![5, 7], vec![5], vec![5, 7, 9], vec![6], vec![5, 8]];
        let tree = Tree::new(&answers, &[1, 0, 2, 4, 3]);
        let nodes: Vec<_> = tree.nodes.iter().map(|n| (n.word, n.depth, n.ends)).collect();
        assert_eq!(nodes, [(0, 0, None), (5, 1, Some(1)), (7, 2, Some(0)), (9, 3, Some(2)), (8, 2, Some(4)), (6, 1, Some(3))]);
        assert_eq!(tree.passes, [1..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!(tree.next, [vec![1, 5], vec![2, 4], vec![3], vec![], vec![], vec![]]);
    }

    #[test]
    fn ties_go_to_the_first_of_the_list() {
        assert_eq!(best_first(&[-2.0, -1.0, f64::NAN, -1.0, -3.0]), [1, 3, 0, 4, 2]);
        let shares = probabilities(&[-1000.0, -1000.0 + 3f64.ln()]);
        assert!((shares[0] - 0.25).abs() < 1e-12 && (shares[1] - 0.75).abs() < 1e-12, "{shares:?}");
        assert!(probabilities(&[]).is_empty());
    }
}
