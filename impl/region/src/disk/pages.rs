//! Reads what a volume says of its region: through the writer, as a reader, or from storage without being either.

use super::{DiskError, PATIENCE};
use crate::page::{decode_position, decode_state, position_page, state_page, state_pages};
use crate::source::Source;
use auriga_page::PageImage;
use auriga_protocol::global::{Position, RegionState};
use auriga_protocol::{Lsn, PageId};
use auriga_volume::{PageRead, ReaderVolume, RemoteVolume, Volume, VolumeError};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// Reads state and position; `None`: never written.
pub(super) async fn read_pages<E, F>(
    read: impl Fn(PageId) -> F,
) -> Result<(Option<RegionState>, Option<Position>), DiskError>
where
    F: Future<Output = Result<PageImage, E>>,
    DiskError: From<E>,
{
    let position = decode_position(read(position_page()).await?.content())?;
    let first = read(state_page(0)).await?;
    let mut pages = Vec::new();
    for part in 0..state_pages(first.content())? {
        pages.push(read(state_page(part)).await?.content().to_vec());
    }
    let state = if pages.is_empty() { None } else { Some(decode_state(&pages)?) };
    Ok((state, position))
}

/// Reads a page of an open volume.
pub(super) async fn read(volume: &Arc<RemoteVolume>, page: PageId) -> Result<PageImage, VolumeError> {
    let (done, waiting) = oneshot::channel();
    let tell = move |result| {
        let _ = done.send(result); // The reader waits, unless this life has ended.
    };
    volume.read(page, Instant::now() + PATIENCE, Box::new(tell));
    waiting.await.unwrap_or(Err(VolumeError::Closed)).map(|read| read.page)
}

/// Reads what a volume says of its region, through the volume that was opened. `None`: nothing, it is no region's.
///
/// # Errors
/// It can't be read.
pub async fn state_of(volume: &Arc<RemoteVolume>) -> Result<Option<RegionState>, DiskError> {
    Ok(read_pages(|page| read(volume, page)).await?.0)
}

/// Reads what a volume says of its region, as of a point that a reader holds. `None`: nothing, it is no region's.
///
/// # Errors
/// It can't be read.
pub async fn state_at(volume: &dyn ReaderVolume, at: Lsn) -> Result<Option<RegionState>, DiskError> {
    let read = |page| {
        let (done, waiting) = oneshot::channel();
        let tell = move |result: Result<PageRead, VolumeError>| {
            let _ = done.send(result); // The reader waits, unless this life has ended.
        };
        volume.read(page, at, Instant::now() + PATIENCE, Box::new(tell));
        async { waiting.await.unwrap_or(Err(VolumeError::Closed)).map(|read| read.page) }
    };
    Ok(read_pages(read).await?.0)
}

/// Looks at what a volume says of its region, without becoming its writer. `None`: nothing yet.
///
/// # Errors
/// Too few segments answer.
pub async fn look(source: &Source) -> Result<Option<RegionState>, DiskError> {
    let point = source.newest().await?;
    Ok(read_pages(|page| source.page(page, &point)).await?.0)
}
