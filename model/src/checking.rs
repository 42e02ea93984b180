//! Running a model: one wrapper round stateright's breadth-first checker that knows its traps.
//!
//! - The search is bounded by the scope, never by time: stateright reports an unfinished timed run as a success.
//! - stateright does not promise the shortest counterexample (a later discovery overwrites an earlier one), so
//!   [`shortest`] searches again, one step deeper each time, until the property falls.
//! - States are told apart by 64-bit fingerprints: with n states, a collision hides one with odds of about n²/2⁶⁵.
//!
//! Next: `registry.rs` (the scopes), `report.rs` (progress line and table).

use crate::report::Progress;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// A model that can tell its steps to a person.
pub trait Checkable: Model + Send + Sync + 'static
where
    Self::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    Self::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    /// One line of a trace, in the field's notation: `w1@e2 → A Write 1..2 vdl=0`.
    fn line(&self, before: &Self::State, action: &Self::Action) -> String;

    /// A step as commands of a script (see `script.rs`); `None`: what leads to the initial state. Empty where there is
    /// no bench to replay it.
    fn script(&self, _step: Option<(&Self::State, &Self::Action)>) -> Vec<String> {
        Vec::new()
    }

    /// A line about the state at the end of a counterexample: what exactly was broken.
    fn last_word(&self, _state: &Self::State) -> String {
        String::new()
    }

    /// Counts the states whose actions were asked for: with it the progress line can show the frontier.
    fn expanded(&self) -> Option<&AtomicUsize> {
        None
    }
}

/// How to run.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Threads of the checker, at least 1.
    pub threads: usize,
    /// Whether to show a progress line on standard error.
    pub progress: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions { threads: 2, progress: false }
    }
}

/// A path to a state, told step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// One line for each step.
    pub lines: Vec<String>,
    /// What was broken at its end.
    pub last_word: String,
    /// The same as a script: see `script.rs`.
    pub script: Vec<String>,
}

/// A property that fell.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The property's name.
    pub property: &'static str,
    /// The shortest way to it.
    pub trace: Trace,
}

/// What a complete run, or one that was stopped by a failure, has found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Unique states.
    pub unique: usize,
    /// States generated, repeats included.
    pub generated: usize,
    /// Longest distance from the start, in steps.
    pub depth: usize,
    /// Wall-clock time.
    pub elapsed: Duration,
    /// Resident memory that the run added at its peak, in bytes.
    pub memory: usize,
    /// Number of `always` properties.
    pub always: usize,
    /// `sometimes` properties that no state showed: the checks beside them may be vacuous.
    pub never_shown: Vec<&'static str>,
    /// The property that fell, if any.
    pub failure: Option<Failure>,
}

impl Verdict {
    /// Whether every `always` held and every `sometimes` was shown.
    pub fn holds(&self) -> bool {
        self.failure.is_none() && self.never_shown.is_empty()
    }
}

/// Checks the whole space of the model; stops early only at a failure.
pub fn check<M: Checkable>(make: &dyn Fn() -> M, name: &str, options: &CheckOptions) -> Verdict
where
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let start = Instant::now();
    let memory_before = resident_bytes();
    let mut memory = 0;
    let mut progress = Progress::new(name, options.progress);
    let mut checker = make().checker().threads(options.threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs();
    let handles = checker.handles();
    let mut nap = Duration::from_millis(2);
    while handles.iter().any(|handle| !handle.is_finished()) {
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(250));
        memory = memory.max(resident_bytes().saturating_sub(memory_before));
        let unique = checker.unique_state_count();
        progress.show(unique, checker.max_depth(), checker.model().expanded());
    }
    progress.clear();
    for handle in handles {
        if let Err(panic) = handle.join() {
            std::panic::resume_unwind(panic);
        }
    }
    let properties = checker.model().properties();
    let shown: BTreeSet<&str> = checker.discoveries().into_keys().collect();
    let is_failure = |expectation: &Expectation| expectation.discovery_is_failure();
    let failed = properties.iter().find(|p| is_failure(&p.expectation) && shown.contains(p.name));
    let never_shown = properties.iter().filter(|p| !is_failure(&p.expectation) && !shown.contains(p.name));
    Verdict {
        unique: checker.unique_state_count(),
        generated: checker.state_count(),
        depth: checker.max_depth().saturating_sub(1),
        elapsed: start.elapsed(),
        memory,
        always: properties.iter().filter(|p| is_failure(&p.expectation)).count(),
        never_shown: never_shown.map(|p| p.name).collect(),
        failure: failed.map(|p| shortest(make, p.name)),
    }
}

/// The shortest path to a discovery of `property`, which must exist: deepens the search one step at a time.
///
/// # Panics
/// When the model has no property of that name. Does not return when there is no discovery.
pub fn shortest<M: Checkable>(make: &dyn Fn() -> M, property: &'static str) -> Failure
where
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    // stateright skips states at the target depth itself, and counts the initial state as depth 1.
    for depth in 2.. {
        let wanted = HasDiscoveries::AnyOf([property].into());
        let checker = make().checker().target_max_depth(depth).finish_when(wanted).spawn_bfs().join();
        if let Some(path) = checker.discovery(property) {
            return Failure { property, trace: tell(checker.model(), path) };
        }
    }
    unreachable!("the loop above has no end")
}

/// Tells a path step by step.
pub fn tell<M: Checkable>(model: &M, path: Path<M::State, M::Action>) -> Trace
where
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let mut trace = Trace { script: model.script(None), ..Trace::default() };
    for (state, action) in path.into_vec() {
        match action {
            Some(action) => {
                trace.lines.push(model.line(&state, &action));
                trace.script.extend(model.script(Some((&state, &action))));
            }
            None => trace.last_word = model.last_word(&state),
        }
    }
    trace
}

/// Memory of this process, in bytes; zero where /proc does not tell.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()));
    pages.unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;
    use stateright::Property;

    /// Counts by one or two up to ten; nine is forbidden.
    struct Counting;

    impl Model for Counting {
        type State = u32;
        type Action = u32;

        fn init_states(&self) -> Vec<u32> {
            vec![0]
        }

        fn actions(&self, state: &u32, actions: &mut Vec<u32>) {
            actions.extend((1..=2).filter(|step| state + step <= 10));
        }

        fn next_state(&self, state: &u32, step: u32) -> Option<u32> {
            Some(state + step)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always("never nine", |_, state| *state != 9),
                Property::always("below ten thousand", |_, state| *state < 10_000),
                Property::sometimes("five is reached", |_, state| *state == 5),
                Property::sometimes("twelve is reached", |_, state| *state == 12),
            ]
        }
    }

    impl Checkable for Counting {
        fn line(&self, before: &u32, step: &u32) -> String {
            format!("{before} + {step}")
        }

        fn last_word(&self, state: &u32) -> String {
            format!("ends at {state}")
        }
    }

    #[test]
    fn the_shortest_counterexample_is_told() {
        let verdict = check(&|| Counting, "counting", &CheckOptions { threads: 1, progress: false });
        let failure = verdict.failure.expect("nine is reachable");
        assert_eq!((failure.property, failure.trace.lines.len()), ("never nine", 5));
        assert_eq!(failure.trace.last_word, "ends at 9");
    }

    #[test]
    fn what_is_never_shown_is_told() {
        let verdict = check(&|| Counting, "counting", &CheckOptions { threads: 1, progress: false });
        assert_eq!(verdict.never_shown, ["twelve is reached"]);
        assert!(!verdict.holds());
    }
}
