//! A newer lineage is adopted: what the lost suffix changed is written as it was before it.

use super::{Disk, DiskError, PATIENCE};
use crate::page::is_region_page;
use crate::source::Unread;
use auriga_page::Delta;
use auriga_protocol::global::{Adopting, Position, RegionEntry};
use auriga_protocol::{Change, Lsn, PageId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Pages that one mini-transaction of an adoption writes.
const PAGES_AT_ONCE: usize = 64;

impl Disk {
    /// R-GLOBAL-5: each page that the lost suffix changed is written as it was before it. To do it again does no harm. The last
    /// mini-transaction brings the new lineage.
    pub(super) async fn finish_adoption(&mut self, adopting: Adopting) -> Result<(), DiskError> {
        let Adopting { lineage, kept, lost } = adopting;
        let (pages, end) = self.changed_after(lost.above).await?;
        let point = self.source.point(lost.above).await?;
        tracing::info!(
            suffix = %lost.suffix, pages = pages.len(), above = %lost.above, through = %end,
            "writing what the lost suffix changed as it was before it"
        );
        let pages: Vec<PageId> = pages.into_iter().collect();
        for some in pages.chunks(PAGES_AT_ONCE) {
            let mut changes = Vec::new();
            for page in some {
                let before = self.source.page(*page, &point).await?;
                let content = if before.is_zero() { Delta::zero() } else { Delta::full(before.content()) };
                changes.push(Change { page: *page, payload: content });
            }
            self.submit(changes)?;
        }
        let position = Position { global_epoch: lineage.tip().global_epoch, lsn: kept };
        let entry = RegionEntry::Adopted { lineage, kept, lost: Some(lost.suffix) };
        let state = self.after(&entry, Some(lost));
        self.write(state, Some(position), Vec::new()).await?;
        self.written = 0;
        Ok(())
    }

    /// The pages of the database that were changed after `above`, and through where.
    async fn changed_after(&self, above: Lsn) -> Result<(BTreeSet<PageId>, Lsn), DiskError> {
        let (mut pages, mut at) = (BTreeSet::new(), above);
        let deadline = Instant::now() + PATIENCE;
        while at < self.last {
            let read = match self.source.read(at).await {
                Ok(read) => read,
                Err(Unread::Unreachable | Unread::Unrecovered) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            for one in read {
                at = one.lsn;
                pages.extend(one.records.iter().map(|record| record.page).filter(|page| !is_region_page(*page)));
            }
            if at < self.last {
                if Instant::now() >= deadline {
                    return Err(Unread::Unreachable.into());
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        Ok((pages, at))
    }
}
