//! Where a member goes that is to be replaced.

use super::{Asked, GroupSeen, Healer, Process};
use crate::controller::Millis;
use std::net::SocketAddr;

impl Healer {
    /// The best process to take over a member of `group` from `lost`: of the same AZ, answering, without any member of the
    /// group; of those, the one with the fewest segments, then the fewest bytes.
    pub(super) fn best(&self, now: Millis, group: &GroupSeen, lost: &Process) -> Option<SocketAddr> {
        let load = |process: &Process| {
            let seen = self.seen.get(&process.name)?;
            seen.serves_since().filter(|since| now.since(*since) >= self.limits.returned_ms)?;
            let (segments, bytes) = seen.load()?;
            // What is on its way there counts as if it had come.
            let to_come = |asked: &&Asked| matches!(asked, Asked::Replace { home, .. } if *home == process.address);
            Some((segments + self.asked.values().filter(to_come).count(), bytes, process.name.clone()))
        };
        let is_free = |process: &&Process| group.members.iter().all(|member| member.home != process.address);
        let of_zone = self.processes.iter().filter(|process| process.az == lost.az && process.name != lost.name);
        let loaded = of_zone.filter(is_free).filter_map(|process| Some((load(process)?, process.address)));
        loaded.min().map(|(_, address)| address)
    }
}
