//! Samples for training, decoded ahead of the device on several threads.
//!
//! The [`Loader`] visits the rows of a data set epoch after epoch, in an order that the seed decides (see
//! [`super::order`]), and hands them out in exactly that order whatever the number of workers and however long each row takes.
//!
//! The thread that calls [`Loader::next`] gives out the work: at most `queue` rows are being decoded or wait decoded at a time.
//! Workers sleep until there is work, the caller sleeps until the next row in the order is there. Nobody else keeps state, so a
//! [`DataPosition`] is two numbers, and to continue from there means to compute the epoch's order again and to skip its beginning.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

pub use super::bad::{BadSamples, LISTED};

use super::balance::Balance;
use super::contained::said;
use super::folder::Dataset;
use super::order;
use super::sample::Sample;
use super::sizes::MediaSizes;
use trimodal_base::{Error, Result};

/// Rows that are looked at after a bad one, so that the message can list more of them.
const LOOK_ON: usize = 1000;

/// Where in the data a run is. Part of a checkpoint.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DataPosition {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Rows of this epoch already handed out or skipped.
    pub visited: u64,
}

/// One visit of a row: what makes it differ from others of the same row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visit {
    /// The epoch, counted from 0; where classes are balanced, the row's round: see [`super::balance`].
    pub epoch: u64,
    /// The row's number in the data set.
    pub row: u64,
}

/// What happens at a sample that cannot be decoded or used.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "lowercase")]
pub enum OnBadSample {
    /// An error that lists the first ten.
    #[default]
    Stop,
    /// It is named and counted ([`Loader::bad`]), and the run continues.
    Skip,
}

/// How to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoaderOptions {
    /// What decides the order.
    pub seed: u64,
    /// Threads that decode, at least one. They change nothing but the speed.
    pub workers: usize,
    /// The most rows that are being decoded or wait decoded at a time.
    pub queue: usize,
    /// Rows in the buffer that shards are shuffled in. A table is always shuffled as a whole.
    pub shuffle_buffer: usize,
    /// Memory for samples that stay decoded, in bytes: a data set that fits is decoded once.
    pub cache_bytes: u64,
    /// What happens at a bad sample.
    pub on_bad_sample: OnBadSample,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
        LoaderOptions { seed: 0, workers, queue: 256, shuffle_buffer: 10_000, cache_bytes: 1 << 30, on_bad_sample: OnBadSample::Stop }
    }
}

/// The order of an epoch.
fn order_of(shards: &[Vec<usize>], block_bytes: Option<&[u64]>, options: &LoaderOptions, epoch: u64) -> Vec<usize> {
    match block_bytes {
        Some(bytes) => order::windows(shards, bytes, options.seed, epoch),
        None => order::epoch(shards, options.seed, epoch, options.shuffle_buffer),
    }
}

/// One sample of the order.
#[derive(Debug)]
pub struct LoadedSample<T> {
    /// The epoch that it belongs to: how often the row was visited before. Where classes are balanced, its round: see [`super::balance`].
    pub epoch: u64,
    /// The row's number in the data set.
    pub index: u64,
    /// What was made of the sample for this visit.
    pub item: Arc<T>,
    /// Where a run continues that has used this sample.
    pub after: DataPosition,
    /// Whether the next visit belongs to another epoch.
    pub last_of_epoch: bool,
}

/// What a worker does with a row.
type Work<S> = dyn Fn(usize) -> Result<S> + Send + Sync;

/// What is handed out at a visit, made of what is kept of the row.
type Show<S, T> = dyn Fn(&Arc<S>, Visit) -> Result<Arc<T>> + Send + Sync;

/// How samples are visited: see [`Loader::visits`].
struct Visits<S, T> {
    show: Box<Show<S, T>>,
    /// Whether that is work for a worker.
    anew: bool,
}

/// Samples in the order of the seed, epoch after epoch, without end: of each row an `S` is decoded once and kept, as far as the cache goes,
/// and each visit is handed a `T` made of it.
pub struct Loader<T, S = T> {
    rows: u64,
    shards: Vec<Vec<usize>>,
    /// Where these are blocks that are decoded together: the bytes of each.
    block_bytes: Option<Vec<u64>>,
    balance: Option<Balance>,
    options: LoaderOptions,
    weigh: fn(&S) -> u64,
    cache: HashMap<usize, Arc<S>>,
    cached_bytes: u64,
    bad_rows: HashSet<usize>,
    bad: BadSamples,
    /// The next row to hand out, and its number since the start.
    head: DataPosition,
    handed: u64,
    /// The next row to give to the workers, its number since the start, and the order of its epoch.
    tail: DataPosition,
    given: u64,
    order: Vec<usize>,
    /// Where classes are balanced, the round of each visit of that order; else it is the epoch.
    rounds: Vec<u64>,
    /// What is decoded or being decoded: `ahead[i]` belongs to number `handed + i`; `None` is still with a worker.
    ahead: std::collections::VecDeque<Ahead<T, S>>,
    visits: Arc<Visits<S, T>>,
    workers: Workers<T, S>,
}

struct Ahead<T, S> {
    row: usize,
    at: DataPosition,
    round: u64,
    done: Option<Result<Made<T, S>>>,
}

/// What is kept of a row, and what its visit is handed.
type Made<T, S> = (Arc<S>, Arc<T>);

/// A visit to prepare.
struct Job<S> {
    /// Its number since the start.
    number: u64,
    visit: Visit,
    /// What was kept of the row.
    kept: Option<Arc<S>>,
}

struct Workers<T, S> {
    /// `None` once the loader is being dropped: the workers' channel is then closed.
    jobs: Option<Sender<Job<S>>>,
    done: Receiver<(u64, Result<Made<T, S>>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + Sync + 'static> Loader<T> {
    /// Starts the workers. `rows` are the numbers of the rows to visit (those of the training split, say), `make` turns a
    /// decoded sample into what training needs, on the worker; its errors count as bad samples. `weigh` gives the bytes that an
    /// item keeps in memory.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no row, a row's number is not in the data set, or `from` is beyond the end of an epoch;
    /// [`Error::BadSamples`] where the data set has broken rows and bad samples stop the run.
    pub fn start(
        dataset: Arc<Dataset>,
        rows: Vec<usize>,
        sizes: MediaSizes,
        options: LoaderOptions,
        from: DataPosition,
        make: impl Fn(Sample) -> Result<T> + Send + Sync + 'static,
        weigh: fn(&T) -> u64,
    ) -> Result<Self> {
        Loader::visits(dataset, rows, sizes, false, options, from, make, weigh, |kept, _| Ok(kept.clone()), false)
    }
}

impl<T: Send + Sync + 'static, S: Send + Sync + 'static> Loader<T, S> {
    /// As [`Loader::start`], where each visit is shown something of its own. `make` turns a decoded sample, with what is transparent in its
    /// picture where `alpha` asks for that, into what is kept; `show` makes of it what is handed out, on the worker if it does so `anew` at
    /// each visit.
    ///
    /// # Errors
    /// As [`Loader::start`]. Those of `show` count as bad samples.
    pub fn visits(
        dataset: Arc<Dataset>,
        rows: Vec<usize>,
        sizes: MediaSizes,
        alpha: bool,
        options: LoaderOptions,
        from: DataPosition,
        make: impl Fn(Sample) -> Result<S> + Send + Sync + 'static,
        weigh: fn(&S) -> u64,
        show: impl Fn(&Arc<S>, Visit) -> Result<Arc<T>> + Send + Sync + 'static,
        anew: bool,
    ) -> Result<Self> {
        let broken = dataset.bad().clone();
        if broken.count > 0 && options.on_bad_sample == OnBadSample::Stop {
            return Err(Error::BadSamples { count: broken.count, first: broken.first });
        }
        let mut shards: Vec<Vec<usize>> = Vec::new();
        let mut last = None;
        for &row in &rows {
            let Some(data) = dataset.rows().get(row) else {
                return Err(Error::Usage(format!("row {row} is not in the data set, which has {}", dataset.rows().len())));
            };
            if last != Some(data.shard()) {
                shards.push(Vec::new());
                last = Some(data.shard());
            }
            shards.last_mut().expect("one was pushed").push(row);
        }
        let block_bytes = dataset.block_bytes().map(|bytes| {
            let block = |rows: &Vec<usize>| dataset.rows()[rows[0]].shard().map_or(0, |block| bytes[block]);
            shards.iter().map(block).collect()
        });
        let mut options = options;
        if last == Some(None) {
            options.shuffle_buffer = usize::MAX; // a table
        }
        let work = move |row: usize| {
            let row = &dataset.rows()[row];
            let sample = if alpha { dataset.sample_with_alpha(row, &sizes)? } else { dataset.sample(row, &sizes)? };
            make(sample).map_err(|error| dataset.error(row, error))
        };
        let visits = Visits { show: Box::new(show), anew };
        let mut loader = Self::with_work(shards, block_bytes, options, from, Arc::new(work), weigh, visits)?;
        loader.bad = broken;
        Ok(loader)
    }

    /// As [`Loader::visits`] without a data set: `make` gives sample `i` of `count`, and no work is needed to `show` it. They are shuffled as a
    /// whole.
    ///
    /// # Errors
    /// [`Error::Usage`] where `count` is 0.
    pub fn of(
        count: usize,
        options: LoaderOptions,
        make: impl Fn(usize) -> Result<S> + Send + Sync + 'static,
        weigh: fn(&S) -> u64,
        show: impl Fn(&Arc<S>, Visit) -> Result<Arc<T>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let options = LoaderOptions { shuffle_buffer: usize::MAX, ..options };
        let visits = Visits { show: Box::new(show), anew: false };
        Self::with_work(vec![(0..count).collect()], None, options, DataPosition::default(), Arc::new(make), weigh, visits)
    }

    fn with_work(
        shards: Vec<Vec<usize>>,
        block_bytes: Option<Vec<u64>>,
        options: LoaderOptions,
        from: DataPosition,
        work: Arc<Work<S>>,
        weigh: fn(&S) -> u64,
        visits: Visits<S, T>,
    ) -> Result<Self> {
        let rows = shards.iter().map(Vec::len).sum::<usize>() as u64;
        if rows == 0 {
            return Err(Error::Usage("there is no sample to train on".into()));
        }
        if from.visited > rows {
            let what = format!("cannot continue at sample {} of an epoch of {rows}: the data set has become smaller", from.visited);
            return Err(Error::Usage(what));
        }
        let at = if from.visited == rows { DataPosition { epoch: from.epoch + 1, visited: 0 } } else { from };
        let order = order_of(&shards, block_bytes.as_deref(), &options, at.epoch);
        let visits = Arc::new(visits);
        let workers = Workers::start(options.workers.max(1), work, visits.clone())?;
        Ok(Loader {
            rows,
            shards,
            block_bytes,
            balance: None,
            options,
            weigh,
            cache: HashMap::new(),
            cached_bytes: 0,
            bad_rows: HashSet::new(),
            bad: BadSamples::default(),
            head: at,
            handed: 0,
            tail: at,
            given: 0,
            order,
            rounds: Vec::new(),
            ahead: Default::default(),
            visits,
            workers,
        })
    }

    /// The same rows, so many of each class in an epoch as of any other. To be asked for before the first sample.
    ///
    /// # Errors
    /// [`Error::Usage`] where these are not the loader's rows, or are in shards or Parquet files.
    pub fn balanced(mut self, balance: Balance) -> Result<Self> {
        if self.block_bytes.is_some() || self.shards.len() > 1 || self.options.shuffle_buffer != usize::MAX {
            return Err(Error::Usage("classes cannot be balanced in shards and Parquet files, which are read from front to back".into()));
        }
        if balance.rows() as u64 != self.rows {
            return Err(Error::Usage(format!("classes of {} rows cannot be balanced in a data set of {}", balance.rows(), self.rows)));
        }
        self.balance = Some(balance);
        self.begin_epoch();
        Ok(self)
    }

    /// Puts the rows of the epoch of `tail` in order.
    fn begin_epoch(&mut self) {
        let epoch = self.tail.epoch;
        match &self.balance {
            Some(balance) => (self.order, self.rounds) = balance.epoch(self.options.seed, epoch).into_iter().unzip(),
            None => self.order = order_of(&self.shards, self.block_bytes.as_deref(), &self.options, epoch),
        }
    }

    /// The next sample of the order; waits until it is decoded.
    ///
    /// # Errors
    /// [`Error::BadSamples`] at a bad sample where those stop the run; [`Error::Usage`] where a whole epoch had no good sample;
    /// a worker's panic, as a bad sample.
    #[allow(clippy::should_implement_trait)] // endless and fallible: an Iterator would promise otherwise
    pub fn next(&mut self) -> Result<LoadedSample<T>> {
        let mut skipped = 0;
        loop {
            self.fill();
            self.wait_for(0)?;
            let Ahead { row, round, done, .. } = self.pop();
            match done.expect("waited for") {
                Ok((kept, item)) => {
                    self.keep(row, &kept);
                    let last_of_epoch = self.skip_to_end_of_epoch()?;
                    return Ok(LoadedSample { epoch: round, index: row as u64, item, after: self.head, last_of_epoch });
                }
                Err(error) => {
                    self.note(row, error);
                    if self.options.on_bad_sample == OnBadSample::Stop {
                        return Err(self.list()?);
                    }
                    skipped += 1;
                    if skipped >= self.rows {
                        return Err(Error::BadSamples { count: self.bad.count, first: self.bad.first.clone() });
                    }
                }
            }
        }
    }

    /// The bad samples so far.
    pub fn bad(&self) -> BadSamples {
        self.bad.clone()
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Gives out work until `queue` rows are ahead.
    fn fill(&mut self) {
        while self.ahead.len() < self.options.queue.max(1) {
            self.give();
        }
    }

    fn give(&mut self) {
        if self.tail.visited == self.rows {
            self.tail = DataPosition { epoch: self.tail.epoch + 1, visited: 0 };
            self.begin_epoch();
        }
        let row = self.order[self.tail.visited as usize];
        let round = self.rounds.get(self.tail.visited as usize).copied().unwrap_or(self.tail.epoch);
        let visit = Visit { epoch: round, row: row as u64 };
        let kept = self.cache.get(&row).cloned();
        let done = match &kept {
            Some(kept) if !self.visits.anew => Some((self.visits.show)(kept, visit).map(|item| (kept.clone(), item))),
            _ => None,
        };
        if done.is_none()
            && let Some(jobs) = &self.workers.jobs
        {
            // Workers end only with the loader; a failure shows when their result is waited for.
            let _ = jobs.send(Job { number: self.given, visit, kept });
        }
        self.ahead.push_back(Ahead { row, at: self.tail, round, done });
        self.tail.visited += 1;
        self.given += 1;
    }

    /// Waits until `ahead[i]` is decoded.
    fn wait_for(&mut self, i: usize) -> Result<()> {
        while self.ahead[i].done.is_none() {
            let Ok((number, result)) = self.workers.done.recv() else {
                return Err(Error::Usage("the threads that decode samples have ended: this is a bug in trimodal, please report it".into()));
            };
            // A row that was handed out or dropped is not waited for.
            if let Some(ahead) = number.checked_sub(self.handed).and_then(|i| self.ahead.get_mut(i as usize)) {
                ahead.done = Some(result);
            }
        }
        Ok(())
    }

    fn pop(&mut self) -> Ahead<T, S> {
        let ahead = self.ahead.pop_front().expect("filled");
        self.handed += 1;
        self.head = DataPosition { epoch: ahead.at.epoch, visited: ahead.at.visited + 1 };
        if self.head.visited == self.rows {
            self.head = DataPosition { epoch: self.head.epoch + 1, visited: 0 };
        }
        ahead
    }

    /// Whether no good row of this epoch is left after the one that was popped; bad ones at its end are skipped.
    fn skip_to_end_of_epoch(&mut self) -> Result<bool> {
        while self.head.visited > 0 && self.options.on_bad_sample == OnBadSample::Skip {
            if self.ahead.is_empty() {
                self.give();
            }
            self.wait_for(0)?;
            if matches!(self.ahead[0].done, Some(Ok(_))) {
                break;
            }
            let Ahead { row, done, .. } = self.pop();
            if let Some(Err(error)) = done {
                self.note(row, error);
            }
        }
        Ok(self.head.visited == 0)
    }

    /// Keeps an item that fits into the cache.
    fn keep(&mut self, row: usize, item: &Arc<S>) {
        if self.cache.contains_key(&row) {
            return;
        }
        let bytes = (self.weigh)(item);
        if let Some(sum) = self.cached_bytes.checked_add(bytes).filter(|sum| *sum <= self.options.cache_bytes) {
            self.cached_bytes = sum;
            self.cache.insert(row, item.clone());
        }
    }

    fn note(&mut self, row: usize, error: Error) {
        if self.bad_rows.insert(row) {
            self.bad.add(error);
        }
    }

    /// The error after a bad sample: looks for more of them first, within the epoch.
    fn list(&mut self) -> Result<Error> {
        for _ in 0..LOOK_ON {
            if self.bad.first.len() >= LISTED || self.head.visited == 0 {
                break;
            }
            self.fill();
            self.wait_for(0)?;
            let Ahead { row, done, .. } = self.pop();
            if let Some(Err(error)) = done {
                self.note(row, error);
            }
        }
        Ok(Error::BadSamples { count: self.bad.count, first: self.bad.first.clone() })
    }
}

impl<T: Send + Sync + 'static, S: Send + Sync + 'static> Workers<T, S> {
    fn start(count: usize, work: Arc<Work<S>>, visits: Arc<Visits<S, T>>) -> Result<Self> {
        let (jobs, queue) = channel::<Job<S>>();
        let (results, done) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Workers { jobs: Some(jobs), done, stop, threads: Vec::new() };
        for i in 0..count {
            let (queue, results, stop, work, visits) = (queue.clone(), results.clone(), workers.stop.clone(), work.clone(), visits.clone());
            let run = move || {
                loop {
                    // The lock is held while waiting: one worker waits for work, the others for the lock.
                    let job = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
                    let Ok(Job { number, visit, kept }) = job else { return };
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let row = visit.row as usize;
                    let made = || {
                        let kept = kept.map_or_else(|| work(row).map(Arc::new), Ok)?;
                        let item = (visits.show)(&kept, visit)?;
                        Ok((kept, item))
                    };
                    let result = catch_unwind(AssertUnwindSafe(made)).unwrap_or_else(|panic| Err(panicked(row, &*panic)));
                    if results.send((number, result)).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("decode {i}")).spawn(run);
            workers.threads.push(thread.map_err(|error| Error::Usage(format!("cannot start thread {i} of {count} to decode samples: {error}")))?);
        }
        Ok(workers)
    }
}

fn panicked(row: usize, panic: &(dyn Any + Send)) -> Error {
    Error::Usage(format!("row {row} of the data set: this is a bug in trimodal, please report it: {}", said(panic).unwrap_or("no message")))
}

impl<T, S> Drop for Workers<T, S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    const OPTIONS: LoaderOptions = LoaderOptions { seed: 5, workers: 3, queue: 8, shuffle_buffer: 6, cache_bytes: 0, on_bad_sample: OnBadSample::Stop };

    /// Four shards of 10, 1, 12 and 7 rows, or one table of 30.
    fn shards(table: bool) -> Vec<Vec<usize>> {
        if table { vec![(0..30).collect()] } else { vec![(0..10).collect(), vec![10], (11..23).collect(), (23..30).collect()] }
    }

    fn options(table: bool) -> LoaderOptions {
        LoaderOptions { shuffle_buffer: if table { usize::MAX } else { 6 }, ..OPTIONS }
    }

    /// Every visit is handed what was kept.
    fn same() -> Visits<usize, usize> {
        Visits { show: Box::new(|kept, _| Ok(kept.clone())), anew: false }
    }

    fn loader(table: bool, options: LoaderOptions, from: DataPosition, work: impl Fn(usize) -> Result<usize> + Send + Sync + 'static) -> Loader<usize> {
        Loader::with_work(shards(table), None, options, from, Arc::new(work), |_| 1, same()).unwrap()
    }

    fn bad(rows: &'static [usize]) -> impl Fn(usize) -> Result<usize> {
        move |row| if rows.contains(&row) { Err(Error::Usage(format!("row {row} is bad"))) } else { Ok(row) }
    }

    type Seen = (u64, u64, usize, DataPosition, bool);

    fn take(loader: &mut Loader<usize>, n: usize) -> Vec<Seen> {
        (0..n).map(|_| loader.next().map(|v| (v.epoch, v.index, *v.item, v.after, v.last_of_epoch)).unwrap()).collect()
    }

    #[test]
    fn the_same_order_with_any_number_of_workers_and_any_speed() {
        for table in [true, false] {
            let expected = take(&mut loader(table, LoaderOptions { workers: 1, queue: 1, ..options(table) }, DataPosition::default(), Ok), 100);
            for (workers, queue, cache_bytes) in [(1, 8, 0), (8, 3, 0), (8, 64, 0), (2, 8, 12), (8, 64, 1000)] {
                let uneven = |row: usize| {
                    std::thread::sleep(Duration::from_micros((row as u64 * 7919) % 500));
                    Ok(row)
                };
                let options = LoaderOptions { workers, queue, cache_bytes, ..options(table) };
                assert_eq!(take(&mut loader(table, options, DataPosition::default(), uneven), 100), expected, "{workers} workers, queue {queue}");
            }
            let mut first: Vec<usize> = expected[..30].iter().map(|seen| seen.2).collect();
            first.sort_unstable();
            assert_eq!(first, (0..30).collect::<Vec<_>>());
            assert!(expected[29].4 && expected.iter().filter(|seen| seen.4).count() == 3);
            assert_eq!(expected[29].3, DataPosition { epoch: 1, visited: 0 });
        }
    }

    #[test]
    fn it_continues_at_every_position_as_if_it_had_not_stopped() {
        for table in [true, false] {
            for on_bad_sample in [OnBadSample::Stop, OnBadSample::Skip] {
                let rows: &[usize] = if on_bad_sample == OnBadSample::Skip { &[0, 7, 10, 22, 29] } else { &[] };
                let options = LoaderOptions { on_bad_sample, ..options(table) };
                let whole = take(&mut loader(table, options, DataPosition::default(), bad(rows)), 100);
                for (i, seen) in whole.iter().enumerate().take(70) {
                    let again = take(&mut loader(table, options, seen.3, bad(rows)), 99 - i);
                    assert_eq!(again, whole[i + 1..], "{i}: {:?}", seen.3);
                }
            }
        }
        let beyond = Loader::with_work(shards(true), None, OPTIONS, DataPosition { epoch: 0, visited: 31 }, Arc::new(Ok), |_| 1, same());
        assert!(beyond.err().unwrap().to_string().contains("smaller"));
    }

    #[test]
    fn classes_are_balanced_whatever_the_workers_and_wherever_it_continues() {
        // Two classes: rows 0 to 2, and the other 27.
        let balance = || Balance::new((0..30).map(|row| (row, Some(row < 3))));
        let balanced = |options, from| loader(true, options, from, Ok).balanced(balance()).unwrap();
        let whole = take(&mut balanced(options(true), DataPosition::default()), 100);
        for epoch in whole.chunks_exact(30) {
            assert_eq!(epoch.iter().filter(|seen| seen.2 < 3).count(), 15);
            assert_eq!(epoch.iter().filter(|seen| seen.4).count(), 1);
        }
        // A row's visits are told apart: those of one epoch, too.
        assert_eq!(whole.iter().map(|seen| (seen.0, seen.2)).collect::<HashSet<_>>().len(), 100);
        for anew in [false, true] {
            let show = |kept: &Arc<usize>, visit: Visit| Ok(Arc::new(1000 * visit.epoch as usize + **kept));
            let (visits, options) = (Visits { show: Box::new(show), anew }, LoaderOptions { cache_bytes: 1000, ..options(true) });
            let shown = Loader::with_work(shards(true), None, options, DataPosition::default(), Arc::new(Ok), |_| 1, visits).unwrap();
            let shown = take(&mut shown.balanced(balance()).unwrap(), 100);
            assert!(shown.iter().zip(&whole).all(|(shown, seen)| shown.2 == 1000 * seen.0 as usize + seen.2), "each visit knows its round");
        }
        for (workers, queue, cache_bytes) in [(1, 1, 0), (8, 64, 12), (8, 3, 1000)] {
            let options = LoaderOptions { workers, queue, cache_bytes, ..options(true) };
            assert_eq!(take(&mut balanced(options, DataPosition::default()), 100), whole);
        }
        for (i, seen) in whole.iter().enumerate().take(70) {
            assert_eq!(take(&mut balanced(options(true), seen.3), 99 - i), whole[i + 1..], "{i}: {:?}", seen.3);
        }
        let shards = loader(false, options(false), DataPosition::default(), Ok).balanced(balance());
        assert!(shards.err().unwrap().to_string().contains("read from front to back"));
        let fewer = loader(true, options(true), DataPosition::default(), Ok).balanced(Balance::new([(0, Some(0))]));
        assert!(fewer.err().unwrap().to_string().contains("classes of 1 rows"));
    }

    #[test]
    fn bad_samples_stop_the_run_with_a_list_or_are_skipped_and_counted() {
        for table in [true, false] {
            let mut stops = loader(table, options(table), DataPosition::default(), bad(&[3, 4, 5]));
            let error = loop {
                match stops.next() {
                    Ok(_) => {}
                    Err(error) => break error.to_string(),
                }
            };
            for part in ["3 bad samples", "row 3 is bad", "row 4 is bad", "row 5 is bad"] {
                assert!(error.contains(part), "{error}");
            }
            let mut skips = loader(table, LoaderOptions { on_bad_sample: OnBadSample::Skip, ..options(table) }, DataPosition::default(), bad(&[3, 4, 5]));
            let seen = take(&mut skips, 54);
            assert!(seen.iter().all(|seen| ![3, 4, 5].contains(&seen.2)));
            assert_eq!((skips.bad().count, skips.bad().first.len()), (3, 3));
            assert_eq!(seen.iter().filter(|seen| seen.4).count(), 2);
        }
    }

    #[test]
    fn a_list_is_of_ten_and_all_bad_is_an_error() {
        let all = |row: usize| -> Result<usize> { Err(Error::Usage(format!("row {row} is bad"))) };
        for on_bad_sample in [OnBadSample::Stop, OnBadSample::Skip] {
            let mut loader = loader(true, LoaderOptions { on_bad_sample, ..options(true) }, DataPosition::default(), all);
            match loader.next() {
                Err(Error::BadSamples { count, first }) => {
                    assert_eq!((count, first.len()), (if on_bad_sample == OnBadSample::Stop { 10 } else { 30 }, 10));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(Loader::with_work(vec![], None, OPTIONS, DataPosition::default(), Arc::new(Ok), |_: &usize| 1, same()).is_err());
    }

    #[test]
    fn a_panic_is_an_error_that_names_the_row() {
        let panics = |row: usize| if row == 17 { panic!("at the disco") } else { Ok(row) };
        let mut loader = loader(true, LoaderOptions { on_bad_sample: OnBadSample::Skip, ..options(true) }, DataPosition::default(), panics);
        assert_eq!(take(&mut loader, 29).len(), 29);
        assert!(loader.bad().first[0].contains("row 17") && loader.bad().first[0].contains("disco"));
    }

    #[test]
    fn no_more_is_decoded_than_the_queue_holds_and_the_cache_spares_the_rest() {
        let count = Arc::new(AtomicU64::new(0));
        let counted = |count: &Arc<AtomicU64>| {
            let count = count.clone();
            move |row: usize| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(row)
            }
        };
        let mut bounded = loader(true, options(true), DataPosition::default(), counted(&count));
        take(&mut bounded, 5);
        std::thread::sleep(Duration::from_millis(50));
        assert!(count.load(Ordering::SeqCst) <= 5 + 8);
        drop(bounded);
        count.store(0, Ordering::SeqCst);
        let mut cached = loader(true, LoaderOptions { cache_bytes: 30, ..options(true) }, DataPosition::default(), counted(&count));
        take(&mut cached, 300);
        // A row that is decoded ahead twice before it is handed out once counts twice.
        assert!(count.load(Ordering::SeqCst) <= 30 + 8, "{count:?}");
    }

    #[test]
    fn dropping_it_ends_the_workers() {
        let slow = |row: usize| {
            std::thread::sleep(Duration::from_millis(20));
            Ok(row)
        };
        let mut loader = loader(true, LoaderOptions { queue: 1000, ..options(true) }, DataPosition::default(), slow);
        loader.next().unwrap();
        let start = Instant::now();
        drop(loader); // 1,000 rows of work lie in the queue: seven seconds
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
