//! Making a volume: an empty segment on every member's node, for every protection group.

use super::VolumeConfig;
use auriga_net::admin::{AdminError, AdminReply, AdminRequest, ask};
use auriga_protocol::{MemberId, SegmentId};
use std::time::{Duration, Instant};

/// How long one node may take over one segment.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a volume was not made completely. Asking again goes on where this ended.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The membership names a member that `members` has no address for.
    #[error("no address for member {0}")]
    NoAddress(MemberId),
    /// A node did not answer.
    #[error("the node of {segment} did not answer: {error}")]
    Unanswered {
        /// For which segment.
        segment: SegmentId,
        /// Why.
        error: AdminError,
    },
    /// A node refused.
    #[error("the node of {segment} refused: {reason}")]
    Refused {
        /// Which segment.
        segment: SegmentId,
        /// Why.
        reason: String,
    },
}

/// Makes the volume that `config` describes. Every member must answer: a volume begins with all its copies.
///
/// # Errors
/// When some node does not answer by `deadline`, or refuses.
pub async fn create_volume(config: &VolumeConfig, deadline: Instant) -> Result<(), CreateError> {
    let membership = &config.writer.membership;
    for pg in config.writer.geometry.group_ids() {
        for member in membership.quorum.members().iter() {
            let segment = SegmentId { volume: config.volume, pg, member };
            let address = *config.members.get(&member).ok_or(CreateError::NoAddress(member))?;
            let request = AdminRequest::CreateSegment { id: segment, membership: membership.clone() };
            let reply = loop {
                match ask(address, config.cluster, &request, PATIENCE).await {
                    Ok(reply) => break reply,
                    Err(error) if Instant::now() >= deadline => {
                        return Err(CreateError::Unanswered { segment, error });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            if let AdminReply::Refused(reason) = reply {
                return Err(CreateError::Refused { segment, reason });
            }
        }
    }
    Ok(())
}
