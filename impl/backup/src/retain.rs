//! What is removed from a backup, and in which order: whatever is interrupted, nothing that is there needs what is not.

use crate::catalog::Catalog;
use crate::format::names;
use crate::store::{Store, StoreError};
use auriga_points::Stamp;
use auriga_protocol::Lsn;
use std::time::Duration;

/// Removes what no restore to an instant within the last `keep` needs, and what is left of base images that were never whole.
/// `taking`: the base image that is being taken. Returns how many objects were removed.
pub(crate) fn retain(
    store: &Store,
    catalog: &Catalog,
    (now, keep): (Stamp, Duration),
    taking: Option<Lsn>,
) -> Result<usize, StoreError> {
    let oldest = oldest_kept(catalog, now, keep);
    let is_base = |begin: Lsn| catalog.bases.iter().any(|base| base.begin == begin);
    let is_kept = |begin: Lsn| Some(begin) == taking || (is_base(begin) && oldest.is_none_or(|oldest| begin >= oldest));
    let gone = |name: &String| names::base_of(name).is_some_and(|begin| !is_kept(begin));
    let mut removed: Vec<String> = store.list(names::BASE)?.into_iter().filter(gone).collect();
    // The manifest first: what has none is no base image.
    removed.sort_by_key(|name| (names::of_base(name).is_none(), name.clone()));
    let from = oldest.map(|oldest| taking.map_or(oldest, |taking| oldest.min(taking)));
    let is_needed = |through: Lsn| from.is_none_or(|from| through > from);
    let log = store.list(names::LOG)?;
    let unneeded = log.iter().filter(|name| names::of_log(name).is_some_and(|(_, through)| !is_needed(through)));
    removed.extend(unneeded.cloned());
    for name in &removed {
        store.remove(name)?;
    }
    Ok(removed.len())
}

/// The youngest base image from before what is to be kept; `None`: everything is kept.
fn oldest_kept(catalog: &Catalog, now: Stamp, keep: Duration) -> Option<Lsn> {
    let since = now.0.saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX));
    let before = catalog.bases.iter().filter(|base| base.ended <= since);
    before.map(|base| base.begin).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Base, BasePart, Head, Identity};
    use auriga_protocol::VolumeId;

    const VOLUME: VolumeId = VolumeId(1);

    fn base(store: &Store, begin: u64, ended: i64) {
        let part = BasePart { volume: VOLUME, begin: Lsn(begin), part: 0, at: Lsn(begin), pages: Vec::new() };
        let sum = store.put(&names::part(Lsn(begin), 0), &part).unwrap();
        let begin = Lsn(begin);
        let base = Base { volume: VOLUME, begin, through: begin, ended, parts: vec![sum], pages: 0 };
        store.put(&names::base(begin), &base).unwrap();
    }

    fn log(store: &Store, above: u64, through: u64) {
        // What is in it does not matter here.
        store.put(&names::log(Lsn(above), Lsn(through)), &Head { volume: VOLUME, through: Lsn(0), read: 0 }).unwrap();
    }

    #[test]
    fn what_is_kept_needs_nothing_that_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_str().unwrap()).unwrap();
        store.put(names::IDENTITY, &Identity { volume: VOLUME, began: 0 }).unwrap();
        for (begin, ended) in [(10, 100), (20, 200), (30, 300)] {
            base(&store, begin, ended);
            log(&store, begin, begin + 10);
        }
        // A base image that was begun and left, and one that is being taken.
        let part = BasePart { volume: VOLUME, begin: Lsn(25), part: 0, at: Lsn(25), pages: Vec::new() };
        store.put(&names::part(Lsn(25), 0), &part).unwrap();
        store.put(&names::part(Lsn(35), 0), &BasePart { begin: Lsn(35), ..part }).unwrap();
        let run = |now| {
            let catalog = Catalog::read(&store).unwrap().unwrap();
            retain(&store, &catalog, (Stamp(now), Duration::from_micros(50)), Some(Lsn(35))).unwrap();
            let catalog = Catalog::read(&store).unwrap().unwrap();
            let bases: Vec<u64> = catalog.bases.iter().map(|base| base.begin.0).collect();
            (bases, catalog.log.keys().map(|above| above.0).collect::<Vec<_>>())
        };
        assert_eq!(run(100), (vec![10, 20, 30], vec![10, 20, 30]), "an instant before the first one is not promised");
        assert_eq!(run(200), (vec![10, 20, 30], vec![10, 20, 30]), "150 to 200 needs the first one");
        assert_eq!(run(250), (vec![20, 30], vec![20, 30]));
        assert_eq!(run(9999), (vec![30], vec![30]), "the last one stays");
        assert_eq!(store.list(names::BASE).unwrap().len(), 3, "parts of the last one, and of what is being taken");
    }
}
