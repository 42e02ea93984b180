//! Making a volume: an empty segment on every member's node, for every protection group.
//!
//! Whether it may be made is decided by [`plan_creation`]; every process is asked first.

use super::VolumeConfig;
use super::asking::{Heard, ask_all};
use auriga_driver::random;
use auriga_net::admin::{AdminError, AdminReply, AdminRequest, ask};
use auriga_protocol::identity::{Unmade, plan_creation};
use auriga_protocol::quorum::MemberSet;
use auriga_protocol::segment::SegmentStatus;
use auriga_protocol::{MemberId, PgId, SegmentId, VolumeId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one node may take over one segment.
const PATIENCE: Duration = Duration::from_secs(5);

/// Draws the identity of a volume that is about to be made: those of two clusters are never the same.
pub fn fresh_volume_id() -> VolumeId {
    VolumeId(random::draw())
}

/// Why a volume was not made, or not completely: then asking again goes on where this ended.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The membership names a member that `members` has no address for.
    #[error("no address for member {0}")]
    NoAddress(MemberId),
    /// Not every process answered.
    #[error(
        "nothing was made: a volume is made only when every storage process answers, since one that is silent may hold a \
         copy of it. No answer from {0}"
    )]
    Silent(String),
    /// It exists.
    #[error(
        "nothing was made: volume {label} exists already: {holders}. A process that lost its directory gets its segments \
         back by itself when it is started; to make another volume, choose another number"
    )]
    Exists {
        /// By which number.
        label: u64,
        /// Who holds what, for a person to read.
        holders: String,
    },
    /// A node did not answer any more.
    #[error("the node of {segment} did not answer: {error}")]
    Unanswered {
        /// For which segment.
        segment: SegmentId,
        /// Why.
        error: AdminError,
    },
    /// The segments are there, and have not all found each other.
    #[error(
        "the volume was made, and does not work yet: {segment} waits for the others, all of which must be up and reach each \
         other once. They go on by themselves"
    )]
    NotFounded {
        /// One that waits.
        segment: SegmentId,
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

/// Makes the volume that `config` describes; answers its identity, which is that of an earlier making that was cut short
/// where there was one.
///
/// # Errors
/// When some process does not answer by `deadline`, or any holds a segment of such a volume: nothing was made then.
pub async fn create_volume(config: &VolumeConfig, deadline: Instant) -> Result<VolumeId, CreateError> {
    let membership = &config.writer.membership;
    for member in membership.quorum.members().iter() {
        config.members.get(&member).ok_or(CreateError::NoAddress(member))?;
    }
    let all = |answers: &auriga_protocol::identity::Answers| {
        membership.quorum.members().iter().all(|member| answers.contains_key(&member))
    };
    let heard = ask_all(config, deadline, all).await;
    let planned = plan_creation(&config.charter(), membership, &heard.answers);
    let volume = planned.map_err(|unmade| explain(unmade, config, &heard))?.unwrap_or(config.volume);
    for pg in config.writer.geometry.group_ids() {
        for member in membership.quorum.members().iter() {
            create_segment(config, SegmentId { volume, pg, member }, deadline).await?;
        }
    }
    for member in membership.quorum.members().iter() {
        until_founded(config, volume, member, deadline).await?;
    }
    Ok(volume)
}

fn explain(unmade: Unmade, config: &VolumeConfig, heard: &Heard) -> CreateError {
    match unmade {
        Unmade::Silent(members) => CreateError::Silent(heard.silent(config, members.iter())),
        Unmade::Exists(volumes) => CreateError::Exists { label: config.label, holders: held_by(config, &volumes) },
    }
}

/// Says for a person who holds what.
pub(super) fn held_by(config: &VolumeConfig, volumes: &BTreeMap<VolumeId, MemberSet>) -> String {
    let address = |member| config.members.get(&member).map(ToString::to_string).unwrap_or_default();
    let line = |(volume, members): (&VolumeId, &MemberSet)| {
        let addresses: Vec<String> = members.iter().map(address).collect();
        format!("{} of its copies ({volume}) at {}", addresses.len(), addresses.join(", "))
    };
    volumes.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// Waits until each segment of a member counts (R-REJOIN-7).
async fn until_founded(
    config: &VolumeConfig,
    volume: VolumeId,
    member: MemberId,
    deadline: Instant,
) -> Result<(), CreateError> {
    loop {
        let answer = ask(config.members[&member], config.access(), &AdminRequest::Status, PATIENCE).await;
        let waiting = match &answer {
            Ok(AdminReply::Status(status)) => {
                let waits = |(id, status): &&(SegmentId, SegmentStatus)| {
                    id.volume == volume && (status.rejoining || status.unregistered)
                };
                status.segments.iter().find(waits).map(|(id, _)| *id)
            }
            _ => Some(SegmentId { volume, pg: PgId(0), member }),
        };
        let Some(segment) = waiting else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(CreateError::NotFounded { segment });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn create_segment(config: &VolumeConfig, segment: SegmentId, deadline: Instant) -> Result<(), CreateError> {
    let (membership, charter) = (config.writer.membership.clone(), config.charter());
    let request = AdminRequest::CreateSegment { id: segment, membership, charter };
    loop {
        match ask(config.members[&segment.member], config.access(), &request, PATIENCE).await {
            Ok(AdminReply::Refused(reason)) => return Err(CreateError::Refused { segment, reason }),
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(CreateError::Unanswered { segment, error }),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
