//! `auriga accept-loss`: the way out where the journals of a zone and one more were lost (R-REJOIN-8, decision 0068).
//!
//! It looks first, and prints what it found. It does nothing until the volume's identity is typed. Each segment judges by
//! itself whether it accepts what it is told.

use auriga_admin::config::{InstanceConfig, members};
use auriga_admin::storage::{self, identity_text, volume_config};
use auriga_admin::trust;
use auriga_net::admin::{Access, AdminRequest, holdings};
use auriga_protocol::identity::{Answers, Found, find};
use auriga_protocol::membership::Step;
use auriga_protocol::segment::{AcceptedLoss, Seen, SegmentStatus, propose};
use auriga_protocol::{Held, MemberId, MemberSet, Membership, PgId, SegmentId, VolumeId};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a process may take to have the segments that it lacks, and the survivors to count.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

type Failure = Box<dyn Error>;

/// Does it, and says what was found and done.
///
/// # Errors
/// Nothing was done, or not all, and why.
pub fn run(config: &InstanceConfig, lost: &[String], identity: Option<&str>) -> Result<ExitCode, Failure> {
    trust::of_instance(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let place = Place::of(config)?;
        let volume = place.look().await?;
        let lost = place.named(lost)?;
        println!("volume {} is {}", config.volume, identity_text(volume.id));
        let mut losses = BTreeMap::new();
        for (pg, group) in &volume.groups {
            place.print(*pg, group);
            let loss = propose(&group.membership, lost, &group.seen);
            losses.insert(*pg, loss.map_err(|why| format!("nothing was done: {pg}: {why}"))?);
        }
        explain(&volume, lost);
        match identity {
            Some(typed) if typed == identity_text(volume.id) => {
                place.accept(&volume, &losses).await?;
                Ok(ExitCode::SUCCESS)
            }
            Some(typed) => Err(format!("nothing was done: {typed} is not the identity of this volume").into()),
            None => {
                println!("nothing was done. If all of this is so, type the same command with the volume's identity:");
                println!("  --identity {}", identity_text(volume.id));
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

/// The cluster that is looked at.
struct Place {
    access: Access,
    label: u64,
    pinned: Option<VolumeId>,
    membership: Membership,
    members: BTreeMap<MemberId, (String, SocketAddr)>,
}

struct Volume {
    id: VolumeId,
    groups: BTreeMap<PgId, Group>,
}

struct Group {
    membership: Step,
    seen: Seen,
}

impl Place {
    fn of(config: &InstanceConfig) -> Result<Place, Failure> {
        let addresses = members(config.storage.iter().map(|storage| storage.address));
        let name = |address| config.storage.iter().find(|storage| storage.address == address);
        let named =
            |(member, address)| (member, (name(address).map_or_else(String::new, |it| it.name.clone()), address));
        Ok(Place {
            access: trust::access(&config.cluster, config.tls.as_ref())?,
            label: config.volume,
            pinned: storage::identity_of(config)?,
            membership: volume_config(config)?.writer.membership,
            members: addresses.into_iter().map(named).collect(),
        })
    }

    /// What all processes hold and say now.
    async fn look(&self) -> Result<Volume, Failure> {
        let mut answers = Answers::new();
        let mut statuses = BTreeMap::new();
        for (member, (_, address)) in &self.members {
            answers.insert(*member, holdings(*address, &self.access).await.ok());
            if let Ok(status) = storage::status(*address, &self.access).await {
                statuses.extend(status.segments.into_iter().map(|(id, status)| ((*member, id), status)));
            }
        }
        let id = match find(self.label, self.pinned, &self.membership.quorum, &answers) {
            Found::One(id, _) => id,
            other => return Err(format!("nothing was done: volume {} is not found: {other:?}", self.label).into()),
        };
        let held: Vec<Held> = answers.into_values().flatten().flatten().filter(|held| held.id.volume == id).collect();
        let groups = held.iter().map(|held| held.id.pg).collect::<std::collections::BTreeSet<PgId>>();
        let group = |pg: PgId| {
            let of_group = held.iter().filter(|held| held.id.pg == pg);
            let newest = of_group.map(|held| &held.membership).max_by_key(|step| (step.volume_epoch, step.epochs()));
            let membership = newest.cloned().unwrap_or_else(|| Step::first(self.membership.clone()));
            let status = |member| statuses.get(&(member, SegmentId { volume: id, pg, member })).cloned();
            let seen = membership.members().iter().map(|member| (member, status(member))).collect();
            (pg, Group { membership, seen })
        };
        Ok(Volume { id, groups: groups.into_iter().map(group).collect() })
    }

    /// The members that the operator names.
    fn named(&self, names: &[String]) -> Result<MemberSet, Failure> {
        let member = |name: &String| {
            let found = self.members.iter().find(|(_, (known, _))| known == name);
            found.map(|(member, _)| *member).ok_or_else(|| format!("{name}: no such storage process"))
        };
        Ok(names.iter().map(member).collect::<Result<MemberSet, String>>()?)
    }

    fn print(&self, pg: PgId, group: &Group) {
        println!("{pg}:");
        for (member, status) in &group.seen {
            let name = self.members.get(member).map_or("?", |(name, _)| name.as_str());
            let said = match status {
                None => "does not answer, or has no such segment".to_owned(),
                Some(SegmentStatus { rejoining: true, .. }) => "lost its journal".to_owned(),
                Some(SegmentStatus { unregistered, promised, installed, scl, vdl, .. }) => {
                    let counts = if *unregistered { "asks peers" } else { "counts" };
                    format!(
                        "{counts}; complete through {scl}, durable through {vdl}; promised {promised}, installed {installed}"
                    )
                }
            };
            println!("  {name:<12} {member}  {said}");
        }
    }

    /// The survivors first: an answer that was given before the fence was promised is of no use to the lost.
    async fn accept(&self, volume: &Volume, losses: &BTreeMap<PgId, AcceptedLoss>) -> Result<(), Failure> {
        for survivors in [true, false] {
            for (pg, loss) in losses {
                for (member, status) in &volume.groups[pg].seen {
                    if loss.lost.contains(*member) == survivors {
                        continue;
                    }
                    let told = self.tell(SegmentId { volume: volume.id, pg: *pg, member: *member }, *loss).await;
                    match told {
                        Ok(()) => println!("{pg} {member}: accepted"),
                        Err(why) if survivors || status.is_some() => {
                            return Err(format!("not all was done: {why}. Type the same command again").into());
                        }
                        Err(why) => println!("{pg} {member}: {why}. It rejoins once the others count"),
                    }
                }
            }
        }
        println!(
            "start the instance. The lost get their segments back from the others once it has recovered the volume"
        );
        Ok(())
    }

    async fn tell(&self, id: SegmentId, loss: AcceptedLoss) -> Result<(), String> {
        let (_, address) = self.members.get(&id.member).ok_or_else(|| format!("{id} is of no process"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match storage::ask(*address, &self.access, AdminRequest::AcceptLoss { id, label: self.label, loss }).await {
                Ok(_) => return Ok(()),
                Err(storage::AskError::Refused { why, .. }) => return Err(why),
                Err(error) if Instant::now() >= until => return Err(error.to_string()),
                Err(storage::AskError::Unreachable { .. }) if loss.lost.contains(id.member) => {
                    return Err("does not answer".to_owned());
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// What follows from what was found, for the one who decides.
fn explain(volume: &Volume, lost: MemberSet) {
    let survivors = || {
        let of = |group: &Group| {
            group.seen.clone().into_iter().filter(|(member, _)| !lost.contains(*member)).collect::<Vec<_>>()
        };
        volume.groups.values().flat_map(of).filter_map(|(_, status)| status)
    };
    let durable = survivors().map(|status| status.vdl).max().unwrap_or_default();
    println!();
    println!("to accept means:");
    println!("- the journals of {lost:?} are gone for good. If one of their directories comes back, it counts as lost");
    println!(
        "- whoever is not named has its latest directory, not an old copy of it. Only you can know: those who were to"
    );
    println!("  witness it are the lost. An old copy among them loses what was acknowledged since");
    println!(
        "- if that is so, nothing that was acknowledged is lost: a commit is on four of six, so on one of these three."
    );
    println!("  Writers had told them that everything through {durable} is durable; recovery finds what follows");
    println!("- commits that were under way and not acknowledged may be gone");
    println!("- an instance that is running is fenced, and must recover");
    println!();
}
