//! Finding a volume by the number that people give it.

use super::VolumeConfig;
use super::asking::ask_all;
use super::create::held_by;
use auriga_protocol::identity::{Found, find};
use auriga_protocol::{Shape, VolumeId};
use std::time::Instant;

/// Why a volume is not opened.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Everybody has answered: there is none.
    #[error("there is no volume {0} on these storage processes: make it with `auriga create-volume`")]
    Nothing(u64),
    /// Too few have answered.
    #[error(
        "volume {label} is not known yet, because too few storage processes answer: no answer from {silent}. Are they \
         running? `auriga status` shows which answer"
    )]
    Unheard {
        /// By which number.
        label: u64,
        /// Who is silent, and why.
        silent: String,
    },
    /// What they hold is not clear.
    #[error(
        "it is not clear what volume {label} is, so nothing is opened: {holders}{wanted}. Three copies of one volume are \
         needed. Has a directory of another cluster been put in the place of one of ours? Put the right ones back"
    )]
    Unclear {
        /// By which number.
        label: u64,
        /// Who holds what.
        holders: String,
        /// Which one is wanted, where that is known.
        wanted: String,
    },
    /// Its shape is another one.
    #[error(
        "volume {label} ({volume}) was made with {stored}, and this instance is configured for {wanted}: what is fixed \
         when a volume is made must be the same for every instance of it"
    )]
    Shape {
        /// By which number.
        label: u64,
        /// Its identity.
        volume: VolumeId,
        /// As it was made.
        stored: Shape,
        /// As it is wanted.
        wanted: Shape,
    },
}

/// Finds the volume that `config.label` means, by asking the processes what they hold; where `pinned` names its identity,
/// no other is meant. Answers the identity.
///
/// # Errors
/// There is none, it isn't clear which, it has another shape, or too few answer by `deadline`.
pub async fn find_volume(
    config: &VolumeConfig,
    pinned: Option<VolumeId>,
    deadline: Instant,
) -> Result<VolumeId, FindError> {
    let (label, quorum) = (config.label, &config.writer.membership.quorum);
    let look = |answers: &_| find(label, pinned, quorum, answers);
    let heard = ask_all(config, deadline, |answers| !matches!(look(answers), Found::Unheard(_))).await;
    match look(&heard.answers) {
        Found::One(volume, charter) if charter == config.charter() => Ok(volume),
        Found::One(volume, charter) => {
            Err(FindError::Shape { label, volume, stored: charter.shape, wanted: config.writer.shape() })
        }
        Found::Unheard(silent) => Err(FindError::Unheard { label, silent: heard.silent(config, silent.iter()) }),
        Found::Nothing => Err(FindError::Nothing(label)),
        Found::Unclear(volumes) => Err(FindError::Unclear {
            label,
            holders: held_by(config, &volumes),
            wanted: pinned.map_or_else(String::new, |volume| format!("; wanted is {volume}")),
        }),
    }
}
