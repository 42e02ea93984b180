//! What is in a backup, as far as names and manifests say.

use crate::format::{Base, Head, Identity, names};
use crate::store::{Store, StoreError};
use auriga_protocol::Lsn;
use std::collections::BTreeMap;

/// What is in a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Catalog {
    /// Of which volume it is.
    pub identity: Identity,
    /// Base images that are whole, the oldest first.
    pub bases: Vec<Base>,
    /// Objects of the log: through, by above. Of several that begin at one place, the longest.
    pub log: BTreeMap<Lsn, Lsn>,
    /// How far the log was backed up.
    pub head: Option<Head>,
}

impl Catalog {
    /// Reads what is there; `None`: nothing.
    ///
    /// # Errors
    /// The store fails, or a manifest is damaged.
    pub fn read(store: &Store) -> Result<Option<Catalog>, StoreError> {
        let Some((identity, _)) = store.find::<Identity>(names::IDENTITY)? else { return Ok(None) };
        let mut bases = Vec::new();
        for name in store.list(names::BASE)?.iter().filter(|name| names::of_base(name).is_some()) {
            bases.push(store.get::<Base>(name)?.0);
        }
        bases.sort_by_key(|base| base.begin);
        let mut log = BTreeMap::new();
        for (above, through) in store.list(names::LOG)?.iter().filter_map(|name| names::of_log(name)) {
            let longest = log.entry(above).or_insert(through);
            *longest = through.max(*longest);
        }
        let head = store.find::<Head>(names::HEAD)?.map(|(head, _)| head);
        Ok(Some(Catalog { identity, bases, log, head }))
    }

    /// The objects of the log from `begin` on that follow each other, and where the last one ends.
    pub fn chain(&self, begin: Lsn) -> (Vec<(Lsn, Lsn)>, Lsn) {
        let (mut objects, mut at) = (Vec::new(), begin);
        while let Some(through) = self.log.get(&at).filter(|through| **through > at) {
            objects.push((at, *through));
            at = *through;
        }
        (objects, at)
    }

    /// Where the log goes on: the end of the last object; `None`: there is none.
    pub fn end(&self) -> Option<Lsn> {
        self.log.values().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::VolumeId;

    #[test]
    fn the_log_goes_as_far_as_nothing_is_missing() {
        let log = [(5, 7), (7, 9), (12, 20)].map(|(above, through)| (Lsn(above), Lsn(through)));
        let identity = Identity { volume: VolumeId(1), began: 0 };
        let catalog = Catalog { identity, bases: Vec::new(), log: log.into(), head: None };
        assert_eq!(catalog.chain(Lsn(5)), (log[..2].to_vec(), Lsn(9)));
        assert_eq!(catalog.chain(Lsn(9)), (Vec::new(), Lsn(9)));
        assert_eq!(catalog.chain(Lsn(6)), (Vec::new(), Lsn(6)), "an object is taken whole");
        assert_eq!(catalog.end(), Some(Lsn(20)));
    }
}
