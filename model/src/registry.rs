//! The scopes: every model at every size that is checked, by name.
//!
//! To add one: a function that makes the model, and an entry `Scope::new(name, set, pinned, about, make)` in the list
//! that your module contributes to [`all`].

use crate::checking::{self, CheckOptions, Checkable, Failure, Verdict};
use stateright::{Expectation, Property};
use std::fmt::Debug;
use std::hash::Hash;
use std::net::SocketAddr;

/// When a scope is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    /// In every CI run: all of them together take less than ten minutes on two cores.
    Quick,
    /// Every night: hours.
    Nightly,
    /// Never seen to its end. To be searched by name, for as long as memory lasts; its defects are caught within it.
    Unfinished,
}

/// One model at one size.
pub struct Scope {
    /// As on the command line.
    pub name: &'static str,
    /// When it is checked.
    pub set: Set,
    /// The exact number of unique states; `None` only for what is unfinished.
    pub pinned: Option<usize>,
    /// What it covers, in one line.
    pub about: &'static str,
    runner: Box<dyn Runner>,
}

impl Scope {
    /// A scope of the model that `make` makes.
    pub fn new<M: Checkable>(
        name: &'static str,
        set: Set,
        pinned: Option<usize>,
        about: &'static str,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Scope
    where
        M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
        M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
    {
        Scope { name, set, pinned, about, runner: Box::new(Making(make)) }
    }

    /// Checks the scope completely.
    pub fn check(&self, options: &CheckOptions) -> Verdict {
        self.runner.check(self.name, options)
    }

    /// The shortest counterexample (or example) of a property that has one.
    pub fn shortest(&self, property: &'static str) -> Failure {
        self.runner.shortest(property)
    }

    /// The names of the properties that must always hold.
    pub fn always(&self) -> Vec<&'static str> {
        self.runner.always()
    }

    /// Opens stateright's explorer in the browser; serves until the process is stopped.
    pub fn explore(&self, address: SocketAddr) {
        self.runner.explore(address);
    }

    /// What is to be said of the verdict in few words, the pinned count included.
    pub fn judge(&self, verdict: &Verdict) -> Result<&'static str, String> {
        if let Some(failure) = &verdict.failure {
            return Err(format!("FALLS: {}", failure.property));
        }
        if !verdict.never_shown.is_empty() {
            return Err(format!("vacuous, never shown: {}", verdict.never_shown.join(", ")));
        }
        match self.pinned {
            Some(pinned) if pinned != verdict.unique => Err(format!(
                "{} states where {pinned} are pinned: the protocol or the model has changed; if on purpose, pin anew",
                verdict.unique
            )),
            _ => Ok("holds"),
        }
    }
}

trait Runner: Send + Sync {
    fn check(&self, name: &str, options: &CheckOptions) -> Verdict;
    fn shortest(&self, property: &'static str) -> Failure;
    fn always(&self) -> Vec<&'static str>;
    fn explore(&self, address: SocketAddr);
}

struct Making<F>(F);

impl<M: Checkable, F: Fn() -> M + Send + Sync> Runner for Making<F>
where
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    fn check(&self, name: &str, options: &CheckOptions) -> Verdict {
        checking::check(&self.0, name, options)
    }

    fn shortest(&self, property: &'static str) -> Failure {
        checking::shortest(&self.0, property)
    }

    fn always(&self) -> Vec<&'static str> {
        let always = |property: &Property<M>| matches!(property.expectation, Expectation::Always);
        (self.0)().properties().iter().filter(|property| always(property)).map(|property| property.name).collect()
    }

    fn explore(&self, address: SocketAddr) {
        (self.0)().checker().serve(address);
    }
}

/// Every scope, in the order in which `check` runs them.
pub fn all() -> Vec<Scope> {
    let mut scopes = Vec::new();
    scopes.extend(crate::log_recovery::scopes());
    scopes.extend(crate::reads::scopes());
    scopes.extend(crate::readers::scopes());
    scopes.extend(crate::promotion::scopes());
    scopes.extend(crate::global::scopes());
    scopes.extend(crate::membership::scopes());
    scopes
}

/// The scopes that `wanted` names: a set (`quick`; `nightly`, which includes quick) or one scope.
///
/// # Errors
/// When there is no such scope; the text lists those that there are.
pub fn select(wanted: &str) -> Result<Vec<Scope>, String> {
    let mut scopes = all();
    let names: Vec<&str> = scopes.iter().map(|scope| scope.name).collect();
    match wanted {
        "quick" => scopes.retain(|scope| scope.set == Set::Quick),
        "nightly" => scopes.retain(|scope| scope.set != Set::Unfinished),
        name if names.contains(&name) => scopes.retain(|scope| scope.name == name),
        name => return Err(format!("no scope {name}; there are: quick, nightly, {}", names.join(", "))),
    }
    Ok(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = all().iter().map(|scope| scope.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    #[test]
    fn whatever_is_run_to_its_end_has_its_count_pinned() {
        for scope in all() {
            assert_eq!(scope.pinned.is_none(), scope.set == Set::Unfinished, "{}", scope.name);
        }
    }
}
