//! The writer is lost in one of several ways, and another instance takes over, while clients know one address only.

use super::Rehearsal;
use crate::instances;
use crate::tour::TourError;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Readers of the demo.
pub const READERS: u8 = 2;

/// What happens to the writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// SIGKILL; its directory is deleted.
    Kill,
    /// SIGSTOP, until another one writes.
    Freeze,
    /// SIGKILL, together with both storage processes of its Availability Zone.
    Zone,
    /// Somebody asks for it.
    Planned,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Kill, Kind::Freeze, Kind::Zone, Kind::Planned];
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Kill => "writer killed",
            Kind::Freeze => "writer frozen",
            Kind::Zone => "writer's AZ lost",
            Kind::Planned => "asked for",
        })
    }
}

/// How long clients waited, by what had happened.
#[derive(Debug, Default)]
pub struct Waits(BTreeMap<Kind, Vec<Duration>>);

impl Waits {
    fn note(&mut self, kind: Kind, wait: Duration) {
        self.0.entry(kind).or_default().push(wait);
    }

    /// Shows them, where there are any.
    pub fn show(&mut self) {
        if self.0.is_empty() {
            return;
        }
        println!("{:<20}{:>8}{:>12}{:>12}{:>12}", "no commit for", "rounds", "p50", "p99", "most");
        for (kind, waits) in &mut self.0 {
            waits.sort();
            let at = |share: usize| waits[(waits.len() * share).div_ceil(100).saturating_sub(1)].as_millis();
            let shown = [at(50), at(99), at(100)].map(|wait| format!("{wait} ms"));
            println!("{:<20}{:>8}{:>12}{:>12}{:>12}", kind.to_string(), waits.len(), shown[0], shown[1], shown[2]);
        }
    }
}

impl Rehearsal<'_> {
    /// One failover, and everything whole again afterwards.
    pub(super) fn fail_over(&mut self, round: u32) -> Result<String, TourError> {
        // Each kind equally often, in another order each time.
        if (round - 1).is_multiple_of(Kind::ALL.len() as u32) {
            self.kinds = Kind::ALL.to_vec();
            self.random.shuffle(&mut self.kinds);
        }
        let kind = self.kinds.pop().unwrap_or(Kind::Kill);
        let before = instances::whole(self.demo)?;
        let zone = instances::zone_of(self.demo, &before);
        self.bank.ledger().take_observations();
        match kind {
            Kind::Kill => self.demo.cluster().0.kill(&before)?,
            Kind::Freeze => self.demo.cluster().0.process(&before)?.freeze(),
            Kind::Zone => zone.iter().try_for_each(|name| self.demo.cluster().0.kill(name))?,
            Kind::Planned => {
                instances::fail_over(self.demo, None)?;
            }
        }
        let after = instances::successor(self.demo, &before)?;
        self.wait_for_commits()?;
        let (wait, _) = self.bank.ledger().take_observations();
        self.waits.note(kind, wait);
        match kind {
            Kind::Kill => self.demo.start(&before)?,
            Kind::Freeze => self.demo.cluster().0.process(&before)?.resume(),
            Kind::Zone => zone.iter().try_for_each(|name| self.demo.start(name))?,
            Kind::Planned => {}
        }
        instances::whole(self.demo)?;
        Ok(format!("{kind}: {before} to {after}, {} ms without a commit", wait.as_millis()))
    }
}
