//! A stand-in for a controller, where the demo has none: where no instance writes, one that has just been started is promoted.

use super::layout::{ADMIN_PORT, Layout};
use auriga_admin::instance::{self, PATIENCE, TURN_PATIENCE};
use auriga_instance::node::{InstanceRole, InstanceStatus};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long the instance may take to answer for the first time.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Promotes the instance with this number as soon as it answers, unless its role is fixed, another one writes, or others see
/// to that: a controller, or the demo of several regions. Returns at once.
pub(super) fn promote_unless_written(runtime: &Handle, layout: &Layout, number: u8) {
    if layout.watched || layout.region.is_some() || !layout.roles_change(number) {
        return;
    }
    let layout = layout.clone();
    runtime.spawn(async move {
        if let Err(error) = promote(&layout, number).await {
            tracing::warn!(number, error, "an instance was not promoted");
        }
    });
}

async fn promote(layout: &Layout, number: u8) -> Result<(), String> {
    let access = layout.access().map_err(|error| error.to_string())?;
    let admin = |number| SocketAddr::new(layout.instance_host(number), ADMIN_PORT);
    let deadline = Instant::now() + ANSWER_LIMIT;
    while let Err(error) = instance::status(admin(number), &access, PATIENCE).await {
        if Instant::now() >= deadline {
            return Err(error.to_string());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    for other in (0..=layout.readers).filter(|other| *other != number) {
        if instance::status(admin(other), &access, PATIENCE).await.is_ok_and(|status| writes(&status)) {
            return Ok(());
        }
    }
    instance::promote(admin(number), &access, TURN_PATIENCE).await.map(|_| ()).map_err(|error| error.to_string())
}

/// Whether the instance writes, or is about to.
fn writes(status: &InstanceStatus) -> bool {
    status.role != InstanceRole::Reader || status.turn.is_some()
}
