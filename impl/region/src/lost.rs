//! What a failover lost, as the region that lost it keeps it.

use crate::disk::{Disk, DiskError};
use crate::page::is_of_database;
use crate::source::{Source, Unread};
use auriga_protocol::RegionId;
use auriga_protocol::global::KeptSuffix;
use auriga_volume::VolumeConfig;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long to wait before storage is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A lost suffix, and how much it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Its name, and where it lies.
    pub suffix: KeptSuffix,
    /// What is in it; `None`: it is not kept any more.
    pub amount: Option<Amount>,
}

/// How much a lost suffix is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Mini-transactions that change the database.
    pub mini_transactions: u64,
    /// Pages of the database that they change.
    pub pages: u64,
    /// Bytes of redo.
    pub bytes: u64,
}

/// Asks a region's storage, through `source`, for the last suffix that the region lost; `None`: none. Nobody is fenced by asking.
///
/// # Errors
/// Too few segments answer by `deadline`, or what they say of the region can't be read.
pub async fn last(
    source: &Arc<Source>,
    region: RegionId,
    first: RegionId,
    config: &VolumeConfig,
    deadline: Instant,
) -> Result<Option<Lost>, DiskError> {
    let state = loop {
        match Disk::look(region, first, config, source.clone()).await {
            Ok(disk) => break disk.state(),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(ASK_AGAIN).await,
        }
    };
    let Some(suffix) = state.lost else { return Ok(None) };
    let (mut at, mut amount, mut pages) = (suffix.above, Amount::default(), BTreeSet::new());
    while at < suffix.through {
        let read = match source.read(at).await {
            Ok(read) => read,
            Err(Unread::TooFar { .. }) => return Ok(Some(Lost { suffix, amount: None })),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(Unread::Unreachable | Unread::Unrecovered) => Vec::new(),
        };
        if read.is_empty() {
            if Instant::now() >= deadline {
                return Err(Unread::Unreachable.into());
            }
            sleep(ASK_AGAIN).await;
        }
        for one in read.into_iter().take_while(|one| one.lsn <= suffix.through) {
            at = one.lsn;
            let of_database = one.records.iter().filter(|record| is_of_database(record.page));
            let bytes: usize = of_database.clone().map(|record| record.payload.len()).sum();
            amount.mini_transactions += u64::from(bytes > 0);
            amount.bytes += bytes as u64;
            pages.extend(of_database.map(|record| record.page));
        }
    }
    amount.pages = pages.len() as u64;
    Ok(Some(Lost { suffix, amount: Some(amount) }))
}
