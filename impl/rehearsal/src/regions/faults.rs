//! What `auriga inject` does to whole regions, to the network between them, and to members of a region.

use super::wan::Wan;
use crate::demo::Members;
use crate::demo::cluster::ClusterError;
use crate::demo::control::Action;
use crate::demo::faults::Outcome;
use crate::demo::region::{name, parse};

/// What is meant by a target.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    /// A whole region: `2`, or `region-2`.
    Region(u16),
    /// What two regions have between them: `1-2`.
    Line(u16, u16),
    /// Something of a region: `2/az-b`, or `region-2/writer`.
    Below(u16, String),
}

impl Target {
    fn read(text: &str, regions: u16) -> Result<Target, ClusterError> {
        let known = |number: &u16| (1..=regions).contains(number);
        let region = |text: &str| parse(text).ok().filter(known);
        let read = match text.split_once('/') {
            Some((of, below)) => region(of).map(|number| Target::Below(number, below.to_owned())),
            None => region(text).map(Target::Region).or_else(|| {
                let (first, second) = text.split_once('-')?;
                let (first, second) = (region(first)?, region(second)?);
                (first != second).then_some(Target::Line(first.min(second), first.max(second)))
            }),
        };
        let there_are = || {
            let regions: Vec<String> = (1..=regions).map(name).collect();
            let lines = "two of them (1-2: the network between), members of one (region-1/writer, region-1/az-a, …)";
            format!("{}, {lines}", regions.join(", "))
        };
        read.ok_or_else(|| ClusterError::Unknown(text.to_owned(), there_are()))
    }
}

/// Does `action` to what `target` stands for.
///
/// # Errors
/// No such target, or it did not work.
pub(super) fn inject(
    regions: &[Members],
    wan: &Wan,
    (target, action, ms): (&str, Action, u32),
) -> Result<Outcome, ClusterError> {
    match (Target::read(target, regions.len() as u16)?, action) {
        (Target::Below(number, below), _) => {
            let outcome = regions[usize::from(number) - 1].inject(&below, action, ms)?;
            let full = |member: String| format!("{}/{member}", name(number));
            Ok(Outcome {
                done: outcome.done.into_iter().map(full).collect(),
                not_done: outcome.not_done.into_iter().map(|(member, why)| (full(member), why)).collect(),
            })
        }
        (Target::Region(number), Action::Partition | Action::Wan) => {
            Ok(network(wan, action, ms, |(first, second)| first == number || second == number))
        }
        (Target::Region(number), Action::Heal) => {
            let mut outcome = network(wan, action, ms, |(first, second)| first == number || second == number);
            let inside = regions[usize::from(number) - 1].inject("all", action, ms)?;
            outcome.done.extend(inside.done.iter().map(|member| format!("{}/{member}", name(number))));
            if !outcome.done.is_empty() {
                outcome.not_done.clear();
            }
            Ok(outcome)
        }
        (Target::Region(number), _) => whole(&regions[usize::from(number) - 1], number, action, ms),
        (Target::Line(first, second), Action::Partition | Action::Heal | Action::Wan) => {
            Ok(network(wan, action, ms, |between| between == (first, second)))
        }
        (Target::Line(..), _) => {
            let why = "the network between two regions can be cut (partition), healed (heal), and be late (wan --ms)";
            Err(ClusterError::Admin(why.to_owned()))
        }
    }
}

fn whole(region: &Members, number: u16, action: Action, ms: u32) -> Result<Outcome, ClusterError> {
    if action == Action::Kill {
        region.kill_all();
        return Ok(Outcome { done: vec![name(number)], not_done: Vec::new() });
    }
    let target = if action == Action::Slow { "storage" } else { "all" };
    let outcome = region.inject(target, action, ms)?;
    Ok(match outcome.done.is_empty() {
        false => Outcome { done: vec![name(number)], not_done: Vec::new() },
        true => Outcome { done: Vec::new(), not_done: outcome.not_done.into_iter().take(1).collect() },
    })
}

fn network(wan: &Wan, action: Action, ms: u32, is_meant: impl Fn((u16, u16)) -> bool) -> Outcome {
    let called = |(first, second): (u16, u16)| format!("{first}-{second}");
    let all: Vec<String> = wan.shown().iter().map(|line| line.between).filter(|at| is_meant(*at)).map(called).collect();
    let (changed, why) = match action {
        Action::Wan => (wan.set_round_trip(ms, is_meant), ""),
        Action::Partition => (wan.set_cut(true, is_meant), "it is cut already"),
        _ => (wan.set_cut(false, is_meant), "it is not cut"),
    };
    let done: Vec<String> = changed.into_iter().map(called).collect();
    let not_done = all.into_iter().filter(|line| !done.contains(line)).map(|line| (line, why.to_owned())).collect();
    Outcome { done, not_done }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_lines_and_members_are_told_apart() {
        let read = |text: &str| Target::read(text, 2).ok();
        assert_eq!((read("2"), read("region-2")), (Some(Target::Region(2)), Some(Target::Region(2))));
        assert_eq!((read("1-2"), read("2-1")), (Some(Target::Line(1, 2)), Some(Target::Line(1, 2))));
        assert_eq!(read("region-1/az-b"), Some(Target::Below(1, "az-b".to_owned())));
        assert_eq!((read("3"), read("1-1"), read("az-b"), read("3/a1")), (None, None, None, None));
    }
}
