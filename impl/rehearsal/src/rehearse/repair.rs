//! A storage process is lost for good, and the controller has another one of its zone take over, while clients write;
//! sometimes a second failure falls into the middle, or the old one comes back.

use super::Rehearsal;
use crate::demo::watchers::CONTROL;
use crate::instances;
use crate::members::{groups, wait_until_begun, wait_until_whole};
use crate::tour::TourError;
use auriga_admin::config::StorageAddress;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Readers of the demo.
pub const READERS: u8 = 1;

/// What happens beside the loss.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Nothing.
    Lost,
    /// The writer is killed in the middle.
    Writer,
    /// The controller is killed in the middle, and started again.
    Control,
    /// The one that takes over is killed in the middle, and started again.
    Joiner,
    /// Another member is killed in the middle, and started again.
    Another,
    /// The old one comes back in the middle, with its directory.
    BackBefore,
    /// The old one comes back after the end, with its directory.
    BackAfter,
}

impl Kind {
    const ALL: [Kind; 7] =
        [Kind::Lost, Kind::Writer, Kind::Control, Kind::Joiner, Kind::Another, Kind::BackBefore, Kind::BackAfter];

    fn keeps_directory(self) -> bool {
        matches!(self, Kind::BackBefore | Kind::BackAfter)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Lost => "lost for good",
            Kind::Writer => "and the writer killed",
            Kind::Control => "and control killed",
            Kind::Joiner => "and the joiner killed",
            Kind::Another => "and another killed",
            Kind::BackBefore => "back before the end",
            Kind::BackAfter => "back after the end",
        })
    }
}

/// How long it took until every group was whole, and how many commits there were, by what had happened.
#[derive(Debug, Default)]
pub struct Repairs {
    done: BTreeMap<Kind, Vec<(Duration, f64, f64)>>,
    /// Kinds that are to come.
    to_come: Vec<Kind>,
}

impl Repairs {
    /// Shows them, where there are any.
    pub fn show(&mut self) {
        if self.done.is_empty() {
            return;
        }
        println!(
            "{:<24}{:>8}{:>12}{:>12}{:>14}{:>14}",
            "repair", "rounds", "median", "most", "tps before", "tps meanwhile"
        );
        for (kind, repairs) in &mut self.done {
            repairs.sort_by_key(|(took, ..)| *took);
            let at = |index: usize| format!("{:.1} s", repairs[index].0.as_secs_f64());
            let mean =
                |of: fn(&(Duration, f64, f64)) -> f64| repairs.iter().map(of).sum::<f64>() / repairs.len() as f64;
            println!(
                "{:<24}{:>8}{:>12}{:>12}{:>14.0}{:>14.0}",
                kind.to_string(),
                repairs.len(),
                at(repairs.len() / 2),
                at(repairs.len() - 1),
                mean(|(_, before, _)| *before),
                mean(|(_, _, meanwhile)| *meanwhile),
            );
        }
    }
}

impl Rehearsal<'_> {
    /// One loss, and every group whole again afterwards.
    pub(super) fn repair(&mut self, round: u32) -> Result<String, TourError> {
        // Each kind equally often, in another order each time.
        if (round as usize - 1).is_multiple_of(Kind::ALL.len()) {
            self.repairs.to_come = Kind::ALL.to_vec();
            self.random.shuffle(&mut self.repairs.to_come);
        }
        let kind = self.repairs.to_come.pop().unwrap_or(Kind::Lost);
        wait_until_whole(self.demo, None)?;
        let groups =
            groups(self.demo).ok_or_else(|| TourError::Unexpected("no instance shows the volume".to_owned()))?;
        let lives = |process: &StorageAddress| {
            groups.iter().flat_map(|group| &group.members).any(|member| member.home == Some(process.address))
        };
        let mut with_members: Vec<StorageAddress> = self.demo.layout().fleet().into_iter().filter(lives).collect();
        self.random.shuffle(&mut with_members);
        let victim = with_members[0].clone();
        let another = with_members.iter().find(|process| process.az != victim.az).cloned();
        let before = self.rate_for(Duration::from_secs(2));
        let (begun, acknowledged) = (Instant::now(), self.bank.ledger().acknowledged());
        self.demo.cluster().0.kill(&victim.name)?;
        if !kind.keeps_directory() {
            self.demo.cluster().0.forget_storage(&victim.name)?;
        }
        let joiner = wait_until_begun(self.demo, &victim)?;
        match kind {
            Kind::Lost | Kind::BackAfter => {}
            Kind::Writer => {
                let writer = instances::writer(self.demo)?;
                self.demo.cluster().0.kill(&writer)?;
                instances::successor(self.demo, &writer)?;
                self.demo.start(&writer)?;
            }
            Kind::Control => {
                self.demo.cluster().0.kill(CONTROL)?;
                std::thread::sleep(Duration::from_millis(self.random.u64(0..2000)));
                self.demo.cluster().0.start(CONTROL)?;
            }
            Kind::Joiner => self.kill_for_a_moment(joiner.as_deref())?,
            Kind::Another => self.kill_for_a_moment(another.as_ref().map(|process| process.name.as_str()))?,
            Kind::BackBefore => self.demo.start(&victim.name)?,
        }
        let without = if kind == Kind::BackBefore { None } else { Some(&victim) };
        wait_until_whole(self.demo, without)?;
        let took = begun.elapsed();
        let commits = self.bank.ledger().acknowledged() - acknowledged;
        let meanwhile = commits as f64 / took.as_secs_f64();
        self.repairs.done.entry(kind).or_default().push((took, before, meanwhile));
        // It is the zone's spare from now on; with its directory, it finds out that its member has left.
        self.demo.start(&victim.name)?;
        self.wait_for_commits()?;
        Ok(format!("{} {kind}: whole after {:.1} s", victim.name, took.as_secs_f64()))
    }

    fn kill_for_a_moment(&mut self, name: Option<&str>) -> Result<(), TourError> {
        let Some(name) = name else { return Ok(()) };
        self.demo.cluster().0.kill(name)?;
        std::thread::sleep(Duration::from_millis(self.random.u64(0..2000)));
        Ok(self.demo.start(name)?)
    }

    fn rate_for(&self, time: Duration) -> f64 {
        let before = self.bank.ledger().acknowledged();
        std::thread::sleep(time);
        (self.bank.ledger().acknowledged() - before) as f64 / time.as_secs_f64()
    }
}
