//! `auriga rehearse`: the same crash again and again, at random moments, under load.
//!
//! Each round crashes something while the bank's clients work, brings it back, and compares the database with what
//! the clients remember. At intervals and at the end, PostgreSQL's own checker (`pg_amcheck`) reads every table and
//! index.

mod apart;
mod byte_flips;
mod directories;
mod disk_full;
pub mod failovers;
mod healing;
mod operators;
mod power_cut;
pub mod readers;
pub mod repair;

use crate::bank::Bank;
use crate::bank::verify::{Verdict, verify};
use crate::demo::layout::STORAGE;
use crate::demo::{Demo, WRITER};
use crate::instances;
use crate::tour::{TourError, postgres};
use crate::volatile_disk::VolatileDisk;
use auriga_instance::postgres::find;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Clients of the bank.
const CLIENTS: usize = 8;
/// Rounds between two runs of `pg_amcheck`.
const CHECK_EVERY: u32 = 10;
/// Commits have resumed within this time.
const RESUME_LIMIT: Duration = Duration::from_secs(60);
/// Storage processes have caught up within this time.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// What to crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Scenario {
    /// SIGKILL of the instance; each time it comes back on an empty directory
    InstanceKills,
    /// SIGKILL of one to three storage processes; with three killed, commits wait until one is back
    StorageKills,
    /// SIGKILL of every process at once
    Everything,
    /// One of these at random, or SIGKILL of an Availability Zone
    Mixed,
    /// Everything, or one AZ, loses power: storage is on disks that forget what was not synchronised
    PowerCut,
    /// A second instance takes over from one that works on, over slow storage; the first must find out and end
    Takeovers,
    /// The instance dies when its last records have reached one AZ only; its successor annuls them without that AZ
    LostTails,
    /// One or two storage processes stand still (SIGSTOP) for a moment, and go on with what has waited for them
    Stalls,
    /// The disks of one, two, three or all six storage processes are full for a while: commits go on, or wait; none fails
    DiskFull,
    /// One bit changes in a file of a storage process, live or stopped; it must be harmless, or found and healed
    ByteFlips,
    /// Directories of one or two storage processes are deleted, broken, exchanged, replaced by old copies or another
    /// cluster's; in every eighth round those of three to five, when nothing may be served that is not whole
    Operators,
    /// An Availability Zone is away for a while under a bulk load, and comes back; no commit may wait long
    Healing,
    /// Each storage process is killed and started again in turn, under a bulk load; no commit may wait long
    RollingRestart,
    /// Readers, the writer or storage fail under a mixed load; then every table of two readers is compared with a plain
    /// streaming standby's that is paused at the same position
    Readers,
    /// The writer is killed, frozen, loses its Availability Zone, or is asked to hand over: a reader takes over, and clients that
    /// know one address go on
    Failovers,
    /// A storage process is lost for good, or comes back late; the controller has a spare take over, with a second failure in
    /// the middle
    Repair,
    /// Of several regions: a region, its processes or the network between fail, and the role moves, planned and unplanned, with
    /// processes that die in the middle; what is lost is exactly what is named
    Regions,
}

impl Scenario {
    /// Whether storage is on disks that can be cut off, or filled.
    pub fn needs_volatile_disk(self) -> bool {
        matches!(self, Scenario::PowerCut | Scenario::DiskFull)
    }
}

/// How long to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// So many rounds.
    Rounds(u32),
    /// Until a round ends after this time.
    Time(Duration),
}

impl Length {
    /// So many minutes.
    pub fn minutes(minutes: u32) -> Length {
        Length::Time(Duration::from_secs(u64::from(minutes) * 60))
    }

    pub(crate) fn reached(self, rounds: u32, time: Duration) -> bool {
        match self {
            Length::Rounds(limit) => rounds >= limit,
            Length::Time(limit) => time >= limit,
        }
    }
}

struct Rehearsal<'a> {
    demo: &'a Demo,
    bank: Bank,
    server: SocketAddr,
    /// The number of the instance that PostgreSQL is on.
    instance: usize,
    random: fastrand::Rng,
    flips: byte_flips::Counts,
    /// Kinds of failovers that are to come.
    kinds: Vec<failovers::Kind>,
    waits: failovers::Waits,
    repairs: repair::Repairs,
}

/// Runs rounds of `scenario` until `length`, or until asked to stop. Returns whether nothing was lost or unexplained.
///
/// # Errors
/// A process did not come back, or `pg_amcheck` found something.
pub fn run(
    demo: &Demo,
    scenario: Scenario,
    length: Length,
    seed: u64,
    lying_disk: bool,
    stop: &Receiver<()>,
) -> Result<bool, TourError> {
    match length {
        Length::Rounds(rounds) => println!("{scenario:?}, {rounds} rounds, seed {seed}"),
        Length::Time(time) => println!("{scenario:?}, {} s, seed {seed}", time.as_secs()),
    }
    if scenario == Scenario::Readers {
        return readers::run(demo, length, seed, stop);
    }
    let server = match scenario {
        Scenario::Failovers | Scenario::Repair => demo.layout().writer_endpoint(),
        _ => demo.postgres(0),
    };
    demo.runtime().block_on(Bank::create(server)).map_err(postgres("creating the bank"))?;
    let bank = demo.runtime().block_on(async { Bank::open(vec![server], CLIENTS, seed) });
    if lying_disk {
        power_cut::lie(demo)?;
    }
    let mut rehearsal = Rehearsal {
        demo,
        bank,
        server,
        instance: 0,
        random: fastrand::Rng::with_seed(seed),
        flips: byte_flips::Counts::default(),
        kinds: Vec::new(),
        waits: failovers::Waits::default(),
        repairs: repair::Repairs::default(),
    };
    let (mut bad_rounds, mut round, started) = (0, 0, Instant::now());
    while !length.reached(round, started.elapsed()) {
        if stop.try_recv().is_ok() {
            println!("stopped after {round} rounds");
            break;
        }
        round += 1;
        let begun = Instant::now();
        let what = rehearsal.round(scenario, round)?;
        let mut verdict = rehearsal.verify()?;
        if scenario == Scenario::Failovers {
            verdict.add(&instances::verify_readers(demo, rehearsal.bank.ledger())?.0);
        }
        bad_rounds += u32::from(!verdict.is_clean());
        show(round, &what, begun.elapsed(), &verdict);
        if round % CHECK_EVERY == 0 {
            rehearsal.check_database()?;
        }
    }
    demo.runtime().block_on(rehearsal.bank.close());
    let verdict = rehearsal.verify()?;
    bad_rounds += u32::from(!verdict.is_clean());
    rehearsal.check_database()?;
    if scenario == Scenario::Failovers {
        rehearsal.check_readers()?;
    }
    rehearsal.flips.show();
    rehearsal.waits.show();
    rehearsal.repairs.show();
    println!(
        "{} commits acknowledged, {} lost, {} unexplained, {} wrong balances in the final database; {bad_rounds} bad rounds",
        verdict.acknowledged, verdict.lost, verdict.unexplained, verdict.wrong_balances
    );
    Ok(bad_rounds == 0)
}

fn disk(demo: &Demo) -> Result<&VolatileDisk, TourError> {
    demo.disk().ok_or_else(|| TourError::Unexpected("this scenario has no volatile disks".to_owned()))
}

fn show(round: u32, what: &str, took: Duration, verdict: &Verdict) {
    println!(
        "round {round:<3} {what:<44} {:>5.1} s  acknowledged {:>8}  lost {}  unexplained {}  wrong balances {}",
        took.as_secs_f64(),
        verdict.acknowledged,
        verdict.lost,
        verdict.unexplained,
        verdict.wrong_balances
    );
}

impl Rehearsal<'_> {
    fn round(&mut self, scenario: Scenario, round: u32) -> Result<String, TourError> {
        self.work();
        match scenario {
            Scenario::InstanceKills => self.kill_instance(),
            Scenario::StorageKills => self.kill_storage(),
            Scenario::Everything => self.kill_everything(),
            Scenario::Mixed => match self.random.u8(..8) {
                0..3 => self.kill_instance(),
                3..6 => self.kill_storage(),
                6 => self.kill_zone(),
                _ => self.kill_everything(),
            },
            Scenario::Takeovers => self.take_over(),
            Scenario::LostTails => self.lose_tail(),
            Scenario::Stalls => self.stall(),
            Scenario::PowerCut => self.cut_power(),
            Scenario::DiskFull => self.fill_disks(),
            Scenario::ByteFlips => self.flip_byte(),
            Scenario::Operators => self.operate(round),
            Scenario::Healing => self.heal_zone(),
            Scenario::RollingRestart => self.restart_rolling(),
            Scenario::Readers | Scenario::Regions => Err(TourError::Unexpected("it has rounds of its own".to_owned())),
            Scenario::Failovers => self.fail_over(round),
            Scenario::Repair => self.repair(round),
        }
    }

    /// Lets the clients work for a random while.
    fn work(&mut self) {
        std::thread::sleep(Duration::from_millis(self.random.u64(300..2500)));
    }

    fn kill_instance(&mut self) -> Result<String, TourError> {
        let begun = Instant::now();
        self.demo.cluster().0.kill(WRITER)?;
        self.demo.start(WRITER)?;
        let ready = begun.elapsed();
        self.wait_for_commits()?;
        Ok(format!("{WRITER} killed; ready after {} ms", ready.as_millis()))
    }

    fn kill_storage(&mut self) -> Result<String, TourError> {
        let mut names = STORAGE.to_vec();
        self.random.shuffle(&mut names);
        // Mostly a write quorum stays; sometimes only a read quorum, and commits must wait.
        let victims = if self.random.u8(..) < 64 { 3 } else { self.random.usize(1..=2) };
        self.kill_and_restart(&names[..victims])
    }

    fn kill_zone(&mut self) -> Result<String, TourError> {
        let zone = self.random.usize(..STORAGE.len() / 2);
        self.kill_and_restart(&STORAGE[2 * zone..2 * zone + 2])
    }

    fn kill_and_restart(&mut self, killed: &[&str]) -> Result<String, TourError> {
        for name in killed {
            self.demo.cluster().0.kill(name)?;
            std::thread::sleep(Duration::from_millis(self.random.u64(0..300)));
        }
        self.work();
        for name in killed {
            self.demo.start(name)?;
            std::thread::sleep(Duration::from_millis(self.random.u64(0..300)));
        }
        self.wait_for_commits()?;
        // "At least three stay" counts copies that have everything: let the ones that are back catch up.
        self.wait_until_caught_up()?;
        Ok(format!("{} killed", killed.join(" ")))
    }

    fn kill_everything(&mut self) -> Result<String, TourError> {
        self.demo.cluster().0.kill_all();
        let ready = self.start_everything()?;
        Ok(format!("all seven killed; ready after {} ms", ready.as_millis()))
    }

    /// Starts all seven at once; answers how long it took until PostgreSQL was ready. Commits have then resumed, too.
    fn start_everything(&self) -> Result<Duration, TourError> {
        let begun = Instant::now();
        for name in STORAGE {
            self.demo.cluster().0.start(name)?;
        }
        self.demo.start(WRITER)?;
        let ready = begun.elapsed();
        self.wait_for_commits()?;
        Ok(ready)
    }

    fn wait_for_commits(&self) -> Result<(), TourError> {
        let before = self.bank.ledger().acknowledged();
        let deadline = Instant::now() + RESUME_LIMIT;
        while self.bank.ledger().acknowledged() == before {
            if Instant::now() >= deadline {
                return Err(TourError::Unexpected(format!("no commit within {} s", RESUME_LIMIT.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until every segment's SCL has passed the highest one of now.
    fn wait_until_caught_up(&self) -> Result<(), TourError> {
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        let mut target = None;
        loop {
            let lowest_and_highest = self.scls();
            if let Some((lowest, highest)) = lowest_and_highest
                && lowest >= *target.get_or_insert(highest)
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(TourError::Unexpected(format!(
                    "storage has not caught up within {} s: {lowest_and_highest:?}",
                    CATCH_UP_LIMIT.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Lowest and highest SCL, when all six answer and none is still fetching pages or its past.
    fn scls(&self) -> Option<(u64, u64)> {
        let layout = self.demo.layout();
        let mut scls = Vec::new();
        for index in 0..STORAGE.len() {
            let asked = auriga_admin::storage::status(layout.storage_address(index), self.demo.access());
            for (_, segment) in self.demo.runtime().block_on(asked).ok()?.segments {
                if segment.hydrating || segment.rejoining || segment.unregistered {
                    return None;
                }
                scls.push(segment.scl.0);
            }
        }
        Some((*scls.iter().min()?, *scls.iter().max()?))
    }

    /// What a member has logged so far.
    fn log(&self, name: &str) -> Result<String, TourError> {
        let path = self.demo.layout().log(name);
        std::fs::read_to_string(&path).map_err(|error| TourError::Unexpected(format!("{}: {error}", path.display())))
    }

    fn verify(&self) -> Result<Verdict, TourError> {
        self.demo
            .runtime()
            .block_on(verify(self.server, self.bank.ledger()))
            .map_err(postgres("comparing the database with the clients' ledger"))
    }

    /// Reads every table and index with PostgreSQL's own checker.
    fn check_database(&self) -> Result<(), TourError> {
        self.check(self.server, "", &["--install-missing", "--parent-check"])
    }

    /// The same on each reader, once it shows what the writer has now. The check of parents takes locks that a standby does
    /// not have.
    fn check_readers(&self) -> Result<(), TourError> {
        for name in instances::verify_readers(self.demo, self.bank.ledger())?.2 {
            self.check(self.demo.postgres(instances::number(self.demo, &name)), &format!(" on {name}"), &[])?;
        }
        Ok(())
    }

    fn check(&self, server: SocketAddr, whose: &str, options: &[&str]) -> Result<(), TourError> {
        check(self.demo, server, whose, options)
    }
}

/// Has PostgreSQL's own checker read every table and index of `server`.
pub(crate) fn check(demo: &Demo, server: SocketAddr, whose: &str, options: &[&str]) -> Result<(), TourError> {
    let unexpected = |text: String| TourError::Unexpected(text);
    let found = find::find(demo.layout().postgres.bin.as_deref()).map_err(|e| unexpected(e.to_string()))?;
    let program = found[0].bin.join("pg_amcheck");
    let begun = Instant::now();
    let output = Command::new(&program)
        .args(["--heapallindexed", "-U", "postgres", "-d", "postgres"])
        .args(["-h", &server.ip().to_string(), "-p", &server.port().to_string()])
        .args(options)
        .output()
        .map_err(|error| unexpected(format!("running {}: {error}", program.display())))?;
    let text = [output.stdout, output.stderr].concat();
    match output.status.success() {
        true => {
            println!("          pg_amcheck{whose}: clean, in {:.1} s", begun.elapsed().as_secs_f64());
            Ok(())
        }
        false => Err(unexpected(format!("pg_amcheck{whose} found:\n{}", String::from_utf8_lossy(&text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_for_so_many_rounds_or_so_long() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert!(Length::Rounds(0).reached(0, Duration::ZERO));
        assert!(!Length::Rounds(2).reached(1, 9 * minute) && Length::Rounds(2).reached(2, second));
        assert!(!Length::minutes(1).reached(900, minute - second) && Length::minutes(1).reached(0, minute));
    }
}
