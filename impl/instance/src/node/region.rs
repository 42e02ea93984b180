//! What a region's volume says of its region, asked of storage now and then: whether its instances may write.
//!
//! Nobody is fenced by asking. It is for those who watch, and for an instance that would fence its region's process for
//! nothing; whether an instance may write is found out once it is the volume's writer (R-GLOBAL-10).

use super::NodeError;
use super::env::Env;
use super::shown::RegionShown;
use auriga_protocol::VolumeId;
use auriga_region::disk::DiskError;
use auriga_region::source::{Source, Unread};
use auriga_volume::{VolumeConfig, find_volume};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How long the volume may take to be found, each time.
const FIND_LIMIT: Duration = Duration::from_secs(20);
/// How long an instance that is to write asks first. Then it finds out as the volume's writer.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// Between two questions of those.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Keeps what is shown of the region current, as long as the instance lives.
pub(super) fn watch(env: &Env, config: VolumeConfig, identity: Option<VolumeId>) {
    let shown = Arc::downgrade(&env.shown);
    env.runtime.spawn(async move {
        let volume = loop {
            match find_volume(&config, identity, Instant::now() + FIND_LIMIT).await {
                Ok(volume) => break volume,
                Err(_) => sleep(ASK_EVERY).await, // Whoever needs the volume says what is missing.
            }
        };
        let source = Source::start(&VolumeConfig { volume, ..config });
        while let Some(shown) = shown.upgrade() {
            if let Ok(Some(state)) = auriga_region::look(&source).await {
                let (region, primary) = (state.region.0, state.lineage.tip().primary.0);
                let shown_now = RegionShown { region, primary, may_write: state.grants().is_ok() };
                shown.parts().region = Some(shown_now);
            }
            drop(shown);
            sleep(ASK_EVERY).await;
        }
    });
}

/// Looks whether instances may write a volume, before it is opened. Where that can't be known soon, they may try.
///
/// # Errors
/// They may not.
pub(super) async fn look_first(config: &VolumeConfig) -> Result<(), NodeError> {
    let source = Source::start(config);
    let until = Instant::now() + LOOK_LIMIT;
    loop {
        match auriga_region::look(&source).await {
            Ok(Some(state)) => return state.grants().map_err(NodeError::NotPrimary),
            Err(DiskError::Unread(Unread::Unreachable)) if Instant::now() < until => sleep(LOOK_AGAIN).await,
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}
