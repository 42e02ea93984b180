//! Feeds everything that reads bytes from outside with bytes that nobody meant: of peers, disks, traces, people.
//!
//! **What must hold.** Whatever the bytes are, a value or an error comes of them: no panic, and neither time nor memory
//! out of proportion to their length.
//!
//! **How.** [`Hunt`] changes inputs of a target's corpus at random, and keeps those of which something new comes: a target
//! says what came of an input in a few words. That stands in for coverage, which a stable compiler does not measure. So
//! a corpus holds one sound input of every kind. Where a checksum guards what lies behind it, the target makes it right.
//!
//! The same seed gives the same inputs. What once failed lies in `fuzz/found/`, and every test run feeds it again.

pub mod memory;
pub mod mutate;
pub mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use targets::Target;

/// Longest time for one input: a thousand times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of an input.
const LENGTH_MAX: usize = 1 << 16;
/// Most bytes of memory for one input. What it claims to hold is no reason to make room for it.
const MEMORY_MAX: usize = 256 << 20;
/// Most inputs that are kept for further changes.
const KEPT_MAX: usize = 4096;

/// What a hunt found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What went wrong.
    pub what: String,
    /// The input.
    pub input: Vec<u8>,
}

/// Since when which input is fed.
type Watched = Option<(Instant, Vec<u8>)>;

/// A search in one target.
pub struct Hunt {
    target: Box<dyn Target>,
    rng: fastrand::Rng,
    kept: Vec<Vec<u8>>,
    known: std::collections::HashSet<String>,
    /// Inputs so far.
    pub inputs: u64,
    watched: Arc<Mutex<Watched>>,
}

impl Hunt {
    /// A search that begins with the target's corpus.
    pub fn new(target: Box<dyn Target>, seed: u64) -> Hunt {
        let kept = target.corpus();
        assert!(!kept.is_empty(), "a target without a sound input finds nothing");
        let (rng, known, watched) = (fastrand::Rng::with_seed(seed), Default::default(), Default::default());
        Hunt { target, rng, kept, known, inputs: 0, watched }
    }

    /// Kinds of outcomes so far.
    pub fn outcomes(&self) -> usize {
        self.known.len()
    }

    /// From now on a thread ends the process where an input takes too long, and says which.
    pub fn watch(&self, told: impl Fn(&Failure) + Send + 'static) {
        let watched = self.watched.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let running = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((since, input)) = &*running
                    && since.elapsed() > PATIENCE
                {
                    told(&Failure { what: format!("not done within {PATIENCE:?}"), input: input.clone() });
                    std::process::exit(1);
                }
            }
        });
    }

    /// Feeds the corpus, then changed inputs while `goes_on`, until one fails.
    ///
    /// # Errors
    /// The first failure.
    pub fn run(&mut self, mut goes_on: impl FnMut(u64) -> bool) -> Result<(), Failure> {
        for input in self.kept.clone() {
            self.feed(&input)?;
        }
        while goes_on(self.inputs) {
            let chosen = self.rng.usize(..self.kept.len());
            let mut input = self.kept[chosen].clone();
            let other = &self.kept[self.rng.usize(..self.kept.len())];
            mutate::mutate(&mut self.rng, &mut input, other);
            input.truncate(LENGTH_MAX);
            self.feed(&input)?;
        }
        Ok(())
    }

    /// Feeds one input.
    ///
    /// # Errors
    /// What went wrong.
    pub fn feed(&mut self, input: &[u8]) -> Result<(), Failure> {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), input.to_vec()));
        let before = memory::begin();
        let target = &mut self.target;
        let outcome = catch_unwind(AssertUnwindSafe(|| target.run(input)));
        let taken = memory::peak().saturating_sub(before);
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.inputs += 1;
        let failure = |what: String| Failure { what, input: input.to_vec() };
        let outcome = outcome.map_err(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            failure(format!("panic: {}", said.unwrap_or_default()))
        })?;
        if taken > MEMORY_MAX {
            return Err(failure(format!("{taken} bytes of memory for {} bytes", input.len())));
        }
        let kind: String = outcome.chars().filter(|c| !c.is_ascii_digit()).take(160).collect();
        if self.known.insert(kind) && self.kept.len() < KEPT_MAX {
            self.kept.push(input.to_vec());
        }
        Ok(())
    }
}

/// Bytes from hexadecimal digits; `None`: they are none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.trim().chars().map(|c| c.to_digit(16)).collect();
    digits.map(|digits| {
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect()
    })
}
