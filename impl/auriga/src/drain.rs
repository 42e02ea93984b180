//! `auriga drain`: moves every member of the volume off one storage process, healthy or lost, or takes that back.
//!
//! It looks first, and refuses what would put two copies of a group on one process, or leave a zone with one. The volume's
//! writer carries each move out, and refuses what would not be safe.

use auriga_admin::config::{self, StorageAddress};
use auriga_admin::{instance, storage};
use auriga_control::config::ControlConfig;
use auriga_http::Method;
use auriga_instance::node::InstanceRole;
use auriga_instance::node::membership::{Replace, Replaced, Undo};
use auriga_net::admin::Access;
use auriga_net::tls::CertifiedRole;
use auriga_protocol::{MemberId, PgId};
use auriga_volume::{GroupShown, MemberShown};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two looks while members move.
const PAUSE: Duration = Duration::from_secs(1);
/// Without any progress for so long, it is given up; what was begun goes on.
const NO_PROGRESS: Duration = Duration::from_secs(120);
/// How long the writer may take to begin a move.
const PATIENCE: Duration = Duration::from_secs(10);

type Failure = Box<dyn Error>;

/// A cluster whose storage processes are known by name.
pub struct Place {
    storage: Vec<StorageAddress>,
    instances: Vec<SocketAddr>,
    access: Access,
}

/// The volume as its writer sees it.
struct Seen {
    writer: SocketAddr,
    groups: Vec<GroupShown>,
    /// Segments on each process that answers.
    loads: BTreeMap<SocketAddr, usize>,
}

/// A move: who goes, and where who comes is to live.
type Move = (PgId, MemberId, SocketAddr);

/// Does it, and waits until no member lives there any more.
///
/// # Errors
/// It is refused, or the writer does not answer.
pub fn run(place: &Place, name: &str, onto: Option<&str>, undo: bool) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let from = place.named(name)?.clone();
        let seen = place.look().await?;
        if undo {
            return place.undo(&seen, &from).await;
        }
        let moves = place.plan(&seen, &from, onto)?;
        if moves.is_empty() && !seen.lives(&from) {
            println!("{name} holds no member of the volume");
            return Ok(ExitCode::SUCCESS);
        }
        place.carry_out(&from, moves).await
    })
}

impl Place {
    /// The cluster of a controller's configuration, or of a running demo.
    ///
    /// # Errors
    /// There is none.
    pub fn find(file: Option<&Path>, dir: Option<PathBuf>) -> Result<Place, Failure> {
        let Some(file) = file else { return of_demo(dir) };
        let config: ControlConfig = config::read(file)?;
        let access = Access { cluster: storage::cluster_id(&config.cluster), credentials: config.credentials()? };
        let instances = config.instances.iter().map(|instance| instance.admin).collect();
        Ok(Place { storage: config.storage, instances, access })
    }

    fn named(&self, name: &str) -> Result<&StorageAddress, Failure> {
        let known = || self.storage.iter().map(|storage| storage.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.storage.iter().find(|storage| storage.name == name);
        found.ok_or_else(|| format!("no storage process is called {name:?}; there are: {}", known()).into())
    }

    fn name_of(&self, address: SocketAddr) -> String {
        let found = self.storage.iter().find(|storage| storage.address == address);
        found.map_or_else(|| address.to_string(), |storage| storage.name.clone())
    }

    async fn look(&self) -> Result<Seen, Failure> {
        let mut writers = Vec::new();
        for address in &self.instances {
            let Ok(status) = instance::status(*address, &self.access, instance::PATIENCE).await else { continue };
            if let (InstanceRole::Writer, Some(volume)) = (status.role, status.volume) {
                writers.push((volume.writer.volume_epoch, *address, volume.groups));
            }
        }
        let writer = writers.into_iter().max_by_key(|(epoch, ..)| *epoch);
        let (_, writer, groups) = writer.ok_or("nothing was done: no instance writes the volume now")?;
        let mut loads = BTreeMap::new();
        for process in &self.storage {
            if let Ok(status) = storage::status(process.address, &self.access).await {
                loads.insert(process.address, status.segments.len());
            }
        }
        Ok(Seen { writer, groups, loads })
    }

    /// What is to be moved, and where: nothing is begun unless all of it can be.
    fn plan(&self, seen: &Seen, from: &StorageAddress, onto: Option<&str>) -> Result<Vec<Move>, Failure> {
        let onto = onto.map(|name| self.named(name)).transpose()?;
        if let Some(onto) = onto
            && onto.az != from.az
        {
            return Err(format!(
                "nothing was done: {} is in AZ {}, and {} in AZ {}: one zone would be left with fewer copies",
                onto.name, onto.az, from.name, from.az
            )
            .into());
        }
        let mut loads = seen.loads.clone();
        let mut moves = Vec::new();
        for group in &seen.groups {
            for member in seen.staying(group, from.address) {
                let free = |process: &&StorageAddress| {
                    process.az == from.az
                        && onto.is_none_or(|onto| onto.name == process.name)
                        && group.members.iter().all(|other| other.home != Some(process.address))
                };
                let load = |process: &StorageAddress| Some((*loads.get(&process.address)?, process.address));
                let best = self.storage.iter().filter(free).filter_map(load).min();
                let (_, home) = best.ok_or_else(|| {
                    let whom = onto.map_or_else(|| "no other process".to_owned(), |onto| onto.name.clone());
                    format!(
                        "nothing was done: {whom} of AZ {} answers and has no copy of {}: two copies of a group are never \
                         on one process",
                        from.az, group.pg
                    )
                })?;
                *loads.entry(home).or_default() += 1;
                moves.push((group.pg, member.member, home));
            }
        }
        Ok(moves)
    }

    async fn carry_out(&self, from: &StorageAddress, mut moves: Vec<Move>) -> Result<ExitCode, Failure> {
        let (mut last, mut since) = (String::new(), Instant::now());
        loop {
            let Ok(seen) = self.look().await else {
                println!("no instance writes the volume now: waiting for one");
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            moves.retain(|(pg, old, _)| seen.groups.iter().any(|group| group.pg == *pg && group.has(*old)));
            for (pg, old, home) in &moves {
                let changes =
                    |group: &&GroupShown| group.pg == *pg && group.under_way.iter().any(|(gone, _)| gone == old);
                if seen.groups.iter().any(|group| changes(&group)) {
                    continue;
                }
                let ask = Replace { pg: *pg, old: *old, home: *home };
                match self.ask_writer(seen.writer, "/replace", &ask).await {
                    Ok(Replaced { new: Some(new) }) => {
                        println!(
                            "{pg}: member {old} on {} gives way to member {new} on {}",
                            from.name,
                            self.name_of(*home)
                        );
                    }
                    Ok(_) => {}
                    Err(why) => println!("{pg}: not begun yet: {why}"),
                }
            }
            if !seen.lives(from) {
                println!("{} holds no member of the volume any more", from.name);
                return Ok(ExitCode::SUCCESS);
            }
            let progress = seen.progress(from);
            if progress != last {
                println!("{progress}");
                (last, since) = (progress, Instant::now());
            }
            if since.elapsed() > NO_PROGRESS {
                return Err(format!("no progress for {} s; what was begun goes on", NO_PROGRESS.as_secs()).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn undo(&self, seen: &Seen, from: &StorageAddress) -> Result<ExitCode, Failure> {
        let mut undone = 0;
        for group in &seen.groups {
            for (old, new) in &group.under_way {
                if group.members.iter().any(|member| member.member == *old && member.home == Some(from.address)) {
                    self.ask_writer(seen.writer, "/undo-replace", &Undo { pg: group.pg, new: *new }).await?;
                    println!("{}: member {old} stays on {}", group.pg, from.name);
                    undone += 1;
                }
            }
        }
        if undone == 0 {
            println!("nothing is being moved off {}", from.name);
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn ask_writer(
        &self,
        writer: SocketAddr,
        path: &str,
        ask: &(impl serde::Serialize + Sync),
    ) -> Result<Replaced, String> {
        let mut client = auriga_http::Client::new(writer, &self.access, CertifiedRole::Instance);
        client.ask(Method::POST, path, Some(ask), PATIENCE).await.map_err(|error| error.to_string())
    }
}

trait Has {
    fn has(&self, member: MemberId) -> bool;
}

impl Has for GroupShown {
    fn has(&self, member: MemberId) -> bool {
        self.members.iter().any(|shown| shown.member == member)
    }
}

impl Seen {
    /// The members of a group that live there, and are neither going nor coming.
    fn staying(&self, group: &GroupShown, home: SocketAddr) -> Vec<MemberShown> {
        let changes = |member: MemberId| group.under_way.iter().any(|(old, new)| [*old, *new].contains(&member));
        let lives = |member: &&MemberShown| member.home == Some(home) && !changes(member.member);
        group.members.iter().filter(lives).cloned().collect()
    }

    fn lives(&self, from: &StorageAddress) -> bool {
        self.groups.iter().flat_map(|group| &group.members).any(|member| member.home == Some(from.address))
    }

    fn progress(&self, from: &StorageAddress) -> String {
        let lines = self.groups.iter().flat_map(|group| {
            let of = move |number: MemberId| group.members.iter().find(move |member| member.member == number);
            let highest = group.members.iter().map(|member| member.scl).max().unwrap_or_default();
            group.under_way.iter().filter_map(move |(old, new)| {
                let (gone, joiner) = (of(*old)?, of(*new)?);
                let state =
                    if joiner.hydrated { "hydrated".to_owned() } else { format!("{} of {highest}", joiner.scl) };
                (gone.home == Some(from.address)).then(|| format!("{}: member {new}: {state}", group.pg))
            })
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(feature = "rehearsal")]
fn of_demo(dir: Option<PathBuf>) -> Result<Place, Failure> {
    use auriga_rehearsal::demo::control::{self, Ask, Reply};
    match control::ask(&auriga_rehearsal::cli::find_demo(dir)?, &Ask::Describe)? {
        Reply::Described { layout, .. } => Ok(Place {
            storage: layout.fleet(),
            instances: (0..=layout.readers).map(|number| layout.admin_address(number)).collect(),
            access: layout.access()?,
        }),
        _ => Err("this demo has several regions: name one with --dir".into()),
    }
}

#[cfg(not(feature = "rehearsal"))]
fn of_demo(_: Option<PathBuf>) -> Result<Place, Failure> {
    Err("this program was built without the demo: name a controller's configuration with --config".into())
}
