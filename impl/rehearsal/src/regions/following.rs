//! A stand-in for a controller in each region, where a region has none: the instance of the region that is the primary is
//! promoted.

use super::layout::GlobalLayout;
use super::watching::Watcher;
use crate::demo::region::name;
use auriga_admin::instance::{self, PATIENCE, TURN_PATIENCE};
use auriga_instance::node::{InstanceRole, InstanceStatus};
use auriga_net::admin::Access;
use std::sync::Arc;
use std::time::Duration;

/// How often the regions are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Has an instance follow the role, as long as it is polled.
pub(super) async fn follow(layout: GlobalLayout, access: Vec<Access>, watcher: Arc<Watcher>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // One that was the primary in a lineage before is older: it hears of the newest one, or a person makes it that.
        let Some(number) = watcher.primary() else { continue };
        let index = usize::from(number).saturating_sub(1);
        let (Some(region), Some(access)) = (layout.regions.get(index), access.get(index)) else { continue };
        if region.watched {
            continue;
        }
        let admin = region.admin_address(0);
        let waits = |status: &InstanceStatus| status.role == InstanceRole::Reader && status.turn.is_none();
        if !instance::status(admin, access, PATIENCE).await.is_ok_and(|status| waits(&status)) {
            continue;
        }
        tracing::info!(region = name(number), "its instance is promoted");
        // Storage has the last word; this is tried again.
        if let Err(error) = instance::promote(admin, access, TURN_PATIENCE).await {
            tracing::warn!(region = name(number), %error, "its instance was not promoted");
        }
    }
}
