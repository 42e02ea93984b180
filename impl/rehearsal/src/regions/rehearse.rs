//! `auriga rehearse regions`: in each round something of a global database fails, or its role moves, or both at once, at
//! random moments, under load. At a round's end everything is whole again, and what clients miss is exactly what a region
//! names as lost.

use super::GlobalDemo;
use super::lost::Missing;
use crate::bank::Bank;
use crate::bank::verify::{Verdict, verify};
use crate::demo::WRITER;
use crate::demo::control::Action;
use crate::demo::layout::STORAGE;
use crate::demo::region::name;
use crate::rehearse::{Length, check};
use crate::tour::{TourError, postgres};
use auriga_admin::member::State;
use auriga_protocol::RegionId;
use auriga_protocol::global::{Operation, Outcome};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Clients of the bank.
const CLIENTS: usize = 8;
/// Rounds between two runs of `pg_amcheck`.
const CHECK_EVERY: u32 = 10;
/// How often an operation that failed is begun again, when everything is whole.
const ATTEMPTS: u32 = 5;
/// What was acknowledged is written down within this time.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// What happens in a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// The processes of one region or of both are killed, but for storage, or an instance is.
    Processes,
    /// Storage processes of a region are killed.
    Storage,
    /// The network is cut, and healed.
    Cut,
    /// The role moves as planned, while something is killed, or the network cut.
    Switchover,
    /// Whoever moves the role is killed in the middle.
    Controller,
    /// The primary's region is killed, and another one takes over.
    Failover,
    /// The primary can't be reached, and goes on.
    Left,
    /// A switchover and a failover at one time.
    Both,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Processes,
        Kind::Storage,
        Kind::Cut,
        Kind::Switchover,
        Kind::Controller,
        Kind::Failover,
        Kind::Left,
        Kind::Both,
    ];

    /// Whether acknowledged commits may be lost, if they are named.
    fn may_lose(self) -> bool {
        matches!(self, Kind::Failover | Kind::Left | Kind::Both)
    }
}

struct Rehearsal<'a> {
    demo: &'a GlobalDemo,
    bank: Bank,
    random: fastrand::Rng,
    primary: u16,
    kinds: Vec<Kind>,
    lost: usize,
}

/// Runs rounds until `length`, or until asked to stop. Returns whether nothing was lost unnamed or unexplained.
///
/// # Errors
/// Something did not come back, or `pg_amcheck` found something.
pub fn run(demo: &GlobalDemo, length: Length, seed: u64, stop: &Receiver<()>) -> Result<bool, TourError> {
    println!("regions, seed {seed}");
    let primary = demo.watcher().primary().unwrap_or(1);
    let server = demo.postgres(primary);
    demo.runtime().block_on(Bank::create(server)).map_err(postgres("creating the bank"))?;
    let bank = demo.runtime().block_on(async { Bank::open(vec![server], CLIENTS, seed) });
    let random = fastrand::Rng::with_seed(seed);
    let mut rehearsal = Rehearsal { demo, bank, random, primary, kinds: Vec::new(), lost: 0 };
    let (mut bad_rounds, mut round, started) = (0, 0, Instant::now());
    while !length.reached(round, started.elapsed()) {
        if stop.try_recv().is_ok() {
            println!("stopped after {round} rounds");
            break;
        }
        round += 1;
        let begun = Instant::now();
        let (what, missing) = rehearsal.round()?;
        let verdict = rehearsal.verify()?;
        bad_rounds += u32::from(!verdict.is_clean());
        println!(
            "round {round:<3} {what:<60} {:>5.1} s  acknowledged {:>7}  named as lost {:>4}  lost {}  unexplained {}  wrong balances {}",
            begun.elapsed().as_secs_f64(),
            verdict.acknowledged,
            missing.commits,
            verdict.lost,
            verdict.unexplained,
            verdict.wrong_balances
        );
        if round % CHECK_EVERY == 0 {
            rehearsal.check()?;
        }
    }
    demo.runtime().block_on(rehearsal.bank.close());
    let verdict = rehearsal.verify()?;
    bad_rounds += u32::from(!verdict.is_clean());
    rehearsal.check()?;
    println!(
        "{} commits acknowledged and there, {} lost by failovers and named, {} lost, {} unexplained, {} wrong balances in the final \
         database; {bad_rounds} bad rounds",
        verdict.acknowledged, rehearsal.lost, verdict.lost, verdict.unexplained, verdict.wrong_balances
    );
    Ok(bad_rounds == 0)
}

impl Rehearsal<'_> {
    /// One round; answers what happened, and what was lost.
    fn round(&mut self) -> Result<(String, Missing), TourError> {
        if self.kinds.is_empty() {
            self.kinds.extend(Kind::ALL);
            self.random.shuffle(&mut self.kinds);
        }
        let kind = self.kinds.pop().unwrap_or(Kind::Cut);
        let mut before = BTreeMap::new();
        if kind.may_lose() {
            for number in self.demo.layout().numbers() {
                before.insert(number, self.demo.lost(number)?);
            }
        }
        self.pause(300..1500);
        let (from, to) = (self.primary, self.another());
        let what = match kind {
            Kind::Processes => self.kill_processes(),
            Kind::Storage => self.kill_storage(),
            Kind::Cut => self.cut(),
            Kind::Switchover => self.switch_over(to),
            Kind::Controller => self.kill_controller(to),
            Kind::Failover => self.fail_over(from, to),
            Kind::Left => self.leave(from, to),
            Kind::Both => self.both(to),
        }?;
        let is_planned = matches!(kind, Kind::Switchover | Kind::Controller);
        self.make_whole(is_planned.then_some(to))?;
        let missing = self.demo.take_missing(self.primary, self.bank.ledger())?;
        self.lost += missing.commits;
        if missing.commits > 0 {
            if !kind.may_lose() {
                let text = format!("{} acknowledged commits are gone, and {what} loses none", missing.commits);
                return Err(TourError::Unexpected(text));
            }
            let loser = self.another();
            self.demo.compare_lost(loser, &before[&loser], &missing)?;
        }
        Ok((what, missing))
    }

    fn another(&self) -> u16 {
        self.demo.layout().numbers().find(|number| *number != self.primary).unwrap_or(self.primary)
    }

    fn pause(&mut self, ms: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.random.u64(ms)));
    }

    fn inject(&self, region: u16, target: &str, action: Action) -> Result<(), TourError> {
        self.demo.region(region).members().inject(target, action, 0)?;
        Ok(())
    }

    /// Kills a process of a region. Returns what it was.
    fn kill_one(&mut self) -> Result<String, TourError> {
        let region = self.random.u16(1..=self.demo.layout().regions.len() as u16);
        let victim = match self.random.u8(..4) {
            0 => WRITER.to_owned(),
            1 => STORAGE[self.random.usize(..STORAGE.len())].to_owned(),
            _ => name(region),
        };
        self.inject(region, &victim, Action::Kill)?;
        Ok(format!("{}/{victim}", name(region)))
    }

    fn kill_processes(&mut self) -> Result<String, TourError> {
        let regions: Vec<u16> = self.demo.layout().numbers().collect();
        let mut killed = Vec::new();
        for region in regions {
            if self.random.bool() {
                self.inject(region, &name(region), Action::Kill)?;
                killed.push(name(region));
            }
        }
        if killed.is_empty() || self.random.bool() {
            self.inject(self.primary, WRITER, Action::Kill)?;
            killed.push(format!("{}/{WRITER}", name(self.primary)));
        }
        self.pause(0..2000);
        Ok(format!("killed {}", killed.join(" ")))
    }

    fn kill_storage(&mut self) -> Result<String, TourError> {
        let region = self.random.u16(1..=self.demo.layout().regions.len() as u16);
        let mut names = STORAGE.to_vec();
        self.random.shuffle(&mut names);
        // With three killed nothing is acknowledged, or nothing arrives.
        let victims = self.random.usize(1..=3);
        for victim in &names[..victims] {
            self.inject(region, victim, Action::Kill)?;
        }
        self.pause(200..2500);
        Ok(format!("killed {}/{}", name(region), names[..victims].join(" ")))
    }

    fn cut(&mut self) -> Result<String, TourError> {
        self.demo.wan().set_cut(true, |_| true);
        self.pause(200..4000);
        self.demo.wan().set_cut(false, |_| true);
        Ok("network cut and healed".to_owned())
    }

    fn switch_over(&mut self, to: u16) -> Result<String, TourError> {
        let demo = self.demo;
        let (outcome, what) = std::thread::scope(|scope| {
            let moved = scope.spawn(|| demo.operate(to, Operation::Switchover { target: RegionId(to) }));
            self.pause(0..600);
            let disturbed = match self.random.u8(..4) {
                0 => Ok("undisturbed".to_owned()),
                1 => {
                    self.demo.wan().set_cut(true, |_| true);
                    self.pause(100..2000);
                    self.demo.wan().set_cut(false, |_| true);
                    Ok("network cut".to_owned())
                }
                _ => self.kill_one().and_then(|killed| {
                    self.pause(0..1500);
                    self.start_what_is_down()?;
                    Ok(format!("killed {killed}"))
                }),
            };
            (moved.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), disturbed)
        });
        let what = what?;
        let ended = match outcome {
            Ok(Outcome::Moved { .. } | Outcome::AlreadyPrimary(_)) => "",
            Ok(_) | Err(_) => ", begun again",
        };
        Ok(format!("switchover to {}, {what}{ended}", name(to)))
    }

    /// The command is a controller that keeps nothing.
    fn kill_controller(&mut self, to: u16) -> Result<String, TourError> {
        let unexpected = |error: std::io::Error| TourError::Unexpected(format!("auriga switchover: {error}"));
        let program = std::env::current_exe().map_err(unexpected)?;
        let mut command = Command::new(program);
        command.args(["switchover", "--to", &to.to_string(), "--dir"]).arg(&self.demo.layout().dir);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.pause(50..900);
        let child = child.as_mut().map_err(|error| TourError::Unexpected(format!("auriga switchover: {error}")))?;
        child.kill().map_err(unexpected)?;
        child.wait().map_err(unexpected)?;
        self.pause(0..1000);
        Ok(format!("switchover to {}, its controller killed", name(to)))
    }

    fn fail_over(&mut self, from: u16, to: u16) -> Result<String, TourError> {
        let is_cut = self.random.bool();
        if is_cut {
            // So that something has not arrived.
            self.demo.wan().set_cut(true, |_| true);
            self.pause(100..1000);
        }
        self.demo.kill(from);
        self.take_over(to)?;
        self.bank.set_servers(vec![self.demo.postgres(to)]);
        self.pause(0..2000);
        Ok(format!("{} killed{}, failover to {}", name(from), if is_cut { " and cut off" } else { "" }, name(to)))
    }

    fn take_over(&self, to: u16) -> Result<(), TourError> {
        match self.demo.operate(to, Operation::Failover { target: RegionId(to) })? {
            Outcome::Moved { .. } | Outcome::AlreadyPrimary(_) => Ok(()),
            outcome => Err(TourError::Unexpected(format!("a failover ended as {outcome:?}"))),
        }
    }

    fn leave(&mut self, from: u16, to: u16) -> Result<String, TourError> {
        self.demo.wan().set_cut(true, |_| true);
        self.pause(0..1000);
        self.take_over(to)?;
        self.pause(0..2500);
        self.bank.set_servers(vec![self.demo.postgres(to)]);
        Ok(format!("{} left behind, failover to {}", name(from), name(to)))
    }

    fn both(&mut self, to: u16) -> Result<String, TourError> {
        let demo = self.demo;
        let first = self.random.bool();
        let later = Duration::from_millis(self.random.u64(0..500));
        std::thread::scope(|scope| {
            let planned = scope.spawn(move || {
                std::thread::sleep(if first { Duration::ZERO } else { later });
                demo.operate(to, Operation::Switchover { target: RegionId(to) })
            });
            std::thread::sleep(if first { later } else { Duration::ZERO });
            // Either may overtake the other.
            let _ = demo.operate(to, Operation::Failover { target: RegionId(to) });
            let _ = planned.join();
        });
        Ok(format!("switchover and failover to {} at one time", name(to)))
    }

    fn start_what_is_down(&self) -> Result<(), TourError> {
        for number in self.demo.layout().numbers() {
            let region = self.demo.region(number);
            for member in region.members().describe().into_iter().filter(|member| member.state == State::Down) {
                region.launch(&member.name).map_err(crate::demo::DemoError::from)?;
            }
        }
        Ok(())
    }

    /// Heals and starts everything, finishes what was begun towards `to`, and waits until clients work and all follow.
    fn make_whole(&mut self, to: Option<u16>) -> Result<(), TourError> {
        self.demo.wan().set_cut(false, |_| true);
        self.start_what_is_down()?;
        if let Some(to) = to {
            let mut attempts = 0;
            loop {
                match self.demo.operate(to, Operation::Switchover { target: RegionId(to) }) {
                    Ok(Outcome::Moved { .. } | Outcome::AlreadyPrimary(_)) => break,
                    Ok(_) | Err(_) if attempts < ATTEMPTS => attempts += 1,
                    outcome => {
                        let text = format!("everything is whole, and a switchover ends as {outcome:?}");
                        return Err(TourError::Unexpected(text));
                    }
                }
            }
        }
        self.primary = self
            .demo
            .wait_for("primary", || self.demo.watcher().primary().filter(|now| to.is_none_or(|to| *now == to)))?;
        self.bank.set_servers(vec![self.demo.postgres(self.primary)]);
        self.demo.wait_until_followed(self.primary)?;
        self.demo.wait_until_fenced(self.another())?;
        std::thread::sleep(TOLD_WITHIN);
        let before = self.bank.ledger().acknowledged();
        self.demo.wait_for("commit", || (self.bank.ledger().acknowledged() > before).then_some(()))
    }

    fn verify(&self) -> Result<Verdict, TourError> {
        let compared = verify(self.demo.postgres(self.primary), self.bank.ledger());
        let compared = self.demo.runtime().block_on(compared);
        let mut verdict = compared.map_err(postgres("comparing the primary with the clients' ledger"))?;
        for other in self.demo.layout().numbers().filter(|number| *number != self.primary) {
            verdict.add(&self.demo.verify_secondary(self.primary, other, self.bank.ledger())?);
        }
        Ok(verdict)
    }

    fn check(&self) -> Result<(), TourError> {
        let options = ["--install-missing", "--parent-check"];
        check(self.demo.region(self.primary), self.demo.postgres(self.primary), "", &options)
    }
}
