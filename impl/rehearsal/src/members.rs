//! Who is in the volume's groups, and whether all of them are there: for what replaces storage processes.

use crate::demo::Demo;
use crate::demo::layout::Layout;
use crate::tour::TourError;
use auriga_admin::config::StorageAddress;
use auriga_admin::instance;
use auriga_volume::GroupShown;
use std::time::{Duration, Instant};

/// Every group is whole again within this time.
const WHOLE_LIMIT: Duration = Duration::from_secs(180);
/// A replacement is begun within this time.
const BEGUN_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The volume's groups, as the instance that writes shows them.
pub(crate) fn groups(demo: &Demo) -> Option<Vec<GroupShown>> {
    let layout = demo.layout();
    let asked = (0..=layout.readers).filter_map(|number| {
        let asked = instance::status(layout.admin_address(number), demo.access(), instance::PATIENCE);
        demo.runtime().block_on(asked).ok()?.volume
    });
    asked.max_by_key(|volume| volume.writer.volume_epoch).map(|volume| volume.groups)
}

/// Waits until a member that lived there is being replaced, or has been. Returns where the new one lives.
pub(crate) fn wait_until_begun(demo: &Demo, victim: &StorageAddress) -> Result<Option<String>, TourError> {
    let deadline = Instant::now() + BEGUN_LIMIT;
    loop {
        for group in groups(demo).unwrap_or_default() {
            let home = |number| group.members.iter().find(|member| member.member == number)?.home;
            if let Some((_, new)) = group.under_way.iter().find(|(old, _)| home(*old) == Some(victim.address)) {
                let fleet = demo.layout().fleet();
                return Ok(fleet.into_iter().find(|process| Some(process.address) == home(*new)).map(|it| it.name));
            }
            if !group.members.is_empty() && group.members.iter().all(|member| member.home != Some(victim.address)) {
                return Ok(None);
            }
        }
        if Instant::now() >= deadline {
            let why = format!("nobody began to replace {} within {} s", victim.name, BEGUN_LIMIT.as_secs());
            return Err(TourError::Unexpected(why));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until each group has six members, two in each zone, on processes that answer, none of them `without`, and
/// each has what the highest had a moment before.
pub(crate) fn wait_until_whole(demo: &Demo, without: Option<&StorageAddress>) -> Result<(), TourError> {
    let deadline = Instant::now() + WHOLE_LIMIT;
    let mut target = None;
    loop {
        let groups = groups(demo).unwrap_or_default();
        let is_well = |group: &GroupShown| {
            let mut zones: Vec<String> = group.members.iter().filter_map(|member| zone(demo, member.home)).collect();
            zones.sort();
            let away = without.map(|process| process.address);
            group.under_way.is_empty()
                && zones == ["a", "a", "b", "b", "c", "c"]
                && group.members.iter().all(|member| member.silent_ms == 0 && (away.is_none() || member.home != away))
        };
        if !groups.is_empty() && groups.iter().all(is_well) {
            let scls = groups.iter().flat_map(|group| &group.members).map(|member| member.scl.0);
            let (lowest, highest) = (scls.clone().min().unwrap_or(0), scls.max().unwrap_or(0));
            if lowest >= *target.get_or_insert(highest) {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            let why = format!("the volume is not whole within {} s: {groups:?}", WHOLE_LIMIT.as_secs());
            return Err(TourError::Unexpected(why));
        }
        std::thread::sleep(PAUSE);
    }
}

fn zone(demo: &Demo, home: Option<std::net::SocketAddr>) -> Option<String> {
    let fleet = demo.layout().fleet();
    fleet.into_iter().find(|process| Some(process.address) == home).map(|process| Layout::az(&process.name))
}
