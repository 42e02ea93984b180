//! `auriga set-aside`: moves the directory of a storage process out of the way, where its store is refused.
//!
//! It looks first. A store that is sound, and of the volumes that its peers have, stays where it is. Nothing is deleted:
//! what was moved can be moved back.

use auriga_admin::config::{StorageConfig, members};
use auriga_admin::storage::cluster_id;
use auriga_admin::trust;
use auriga_net::admin::holdings;
use auriga_protocol::identity::{Answers, Stranger, strangers};
use auriga_protocol::segment::{Entry, Survived};
use auriga_protocol::{Held, MemberId, SegmentId};
use auriga_storage::open_store;
use auriga_store::disk::RealDirectory;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Does it, and says what was found and done.
///
/// # Errors
/// Nothing was moved, and why.
pub fn run(config: &StorageConfig) -> Result<ExitCode, Box<dyn Error>> {
    let directory = &config.directory;
    let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    if entries.flatten().all(|entry| entry.file_name() == "lock") {
        return Err(format!("{} is empty: there is nothing to move", directory.display()).into());
    }
    // Released again at once: opening the store takes it.
    RealDirectory::lock(directory).map_err(|error| {
        format!("nothing was moved: {} is in use ({error}): stop its process first", directory.display())
    })?;
    let found = look(config)?;
    let aside = aside(directory)?;
    std::fs::rename(directory, &aside)?;
    File::open(aside.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    println!("found: {found}");
    println!("moved {} to {}", directory.display(), aside.display());
    println!(
        "start the process (auriga storage): it gets its segments back from its peers; that takes four of the other five, \
         and until then it does not count"
    );
    Ok(ExitCode::SUCCESS)
}

/// Why the directory may be moved.
fn look(config: &StorageConfig) -> Result<String, Box<dyn Error>> {
    let options = auriga_store::StoreOptions::new(cluster_id(&config.cluster).0, &config.name);
    let survived = match open_store(&config.directory, options) {
        Err(found) => return Ok(found),
        Ok(opened) => opened.survived,
    };
    let own: Vec<Held> = survived.iter().filter_map(|(id, survived)| held(*id, survived)).collect();
    let addresses = members(config.members.iter().copied());
    let me = addresses.iter().find(|(_, address)| **address == config.listen).map(|(member, _)| *member);
    let me = me.ok_or("its own address is not among `members`")?;
    let access = trust::access(&config.cluster, config.tls.as_ref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = async {
        let mut answers = Answers::new();
        for (member, address) in addresses.iter().filter(|(member, _)| **member != me) {
            answers.insert(*member, holdings(*address, &access).await.ok());
        }
        answers
    };
    judge(me, &own, &runtime.block_on(ask)).map_err(Into::into)
}

/// Whether a store that can be opened may be moved all the same.
fn judge(me: MemberId, own: &[Held], peers: &Answers) -> Result<String, String> {
    let strangers = strangers(me, own, peers);
    let name = |Stranger { label, here, meant, .. }: &Stranger| {
        format!("{here} as volume {label}, which is another cluster's: its peers hold {meant}")
    };
    let volumes = |held: &Held| held.id.to_string();
    if strangers.is_empty() {
        let held: Vec<String> = own.iter().map(volumes).collect();
        return Err(format!(
            "nothing was moved: the store is sound, and its peers know nothing that contradicts it. It holds {}",
            if held.is_empty() { "no segment".to_owned() } else { held.join(", ") }
        ));
    }
    match own.iter().find(|held| strangers.iter().all(|stranger| stranger.here != held.id.volume)) {
        Some(ours) => Err(format!("nothing was moved: {} is of a volume of this cluster", ours.id)),
        None => Ok(strangers.iter().map(name).collect::<Vec<_>>().join("; ")),
    }
}

/// What a segment would say that it holds.
fn held<P: auriga_protocol::Payload>(id: SegmentId, survived: &Survived<P>) -> Option<Held> {
    let newest = |wanted: fn(&Entry<P>) -> bool| survived.entries.iter().rev().find(|entry| wanted(entry));
    let of_members = newest(|entry| matches!(entry, Entry::Membership(_) | Entry::Step(_)));
    let membership = of_members.and_then(Entry::step)?;
    let Some(Entry::Charter(charter)) = newest(|entry| matches!(entry, Entry::Charter(_))) else { return None };
    Some(Held { id, charter: *charter, membership, written: true })
}

/// Where to: beside it, under a name that is free.
fn aside(directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let name = directory.file_name().ok_or("the directory has no name")?.to_string_lossy();
    let path = |number: u32| directory.with_file_name(format!("{name}.set-aside-{seconds}-{number}"));
    Ok((0..).map(path).find(|path| !path.exists()).unwrap_or_else(|| path(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::quorum::QuorumSet;
    use auriga_protocol::{Charter, Membership, PgId, VolumeId, WriterConfig};

    fn held_by(volume: u64, member: u8) -> Held {
        let id = SegmentId { volume: VolumeId(volume), pg: PgId(0), member: MemberId(member) };
        let charter = Charter { label: 1, shape: WriterConfig::default().shape() };
        Held {
            id,
            charter,
            membership: auriga_protocol::membership::Step::first(Membership::initial(QuorumSet::aurora())),
            written: true,
        }
    }

    #[test]
    fn what_is_sound_stays_and_what_is_anothers_goes() {
        let peers: Answers = (1..6).map(|member| (MemberId(member), Some(vec![held_by(5, member)]))).collect();
        let sound = judge(MemberId(0), &[held_by(5, 0)], &peers).unwrap_err();
        assert!(sound.contains("the store is sound"), "{sound}");
        let silent = judge(MemberId(0), &[held_by(6, 0)], &Answers::new()).unwrap_err();
        assert!(silent.contains("nothing was moved"), "who does not know does not move: {silent}");
        let strange = judge(MemberId(0), &[held_by(6, 0)], &peers).unwrap();
        assert!(strange.contains("v6") && strange.contains("v5"), "{strange}");
        let mixed = judge(
            MemberId(0),
            &[held_by(6, 0), Held { charter: Charter { label: 2, ..held_by(7, 0).charter }, ..held_by(7, 0) }],
            &peers,
        );
        assert!(mixed.unwrap_err().contains("v7/pg0/A"));
    }
}
