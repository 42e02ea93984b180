//! What goes wrong in a run: a list made before it begins, so that it can be read, kept in a file, and shrunk.
//!
//! Some faults are skipped when they come, because Auriga doesn't promise to survive them together: a journal loses
//! entries at one member of a group at a time (R-REJOIN-1), base pages are unsound at two members of a group at most.

use super::settings::{COPIES, Settings, ZONES};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Something at a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timed<T> {
    /// Microseconds from the start.
    pub at: u64,
    /// The event.
    #[serde(flatten)]
    pub what: T,
}

/// Which segments a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// One segment: group and member.
    Segment(u16, u8),
    /// A storage node: the same member of every group.
    Node(u8),
    /// An Availability Zone: two members of every group.
    Zone(u8),
}

/// Which entries a damaged journal loses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lose {
    /// All of them.
    All,
    /// This many of the last.
    Last(usize),
    /// Every entry whose number hashes, with this salt, to an even number.
    Some(u64),
}

/// Something that goes wrong. Times are in microseconds; `keep` is how many pending appends survive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are explained above, once")]
pub enum Fault {
    /// Processes stop, and start again later.
    Crash { target: Target, keep: usize, down: u64 },
    /// A process stops; its journal is found damaged when it starts again.
    Amnesia { group: u16, member: u8, lose: Lose, down: u64 },
    /// A process stops, its disk is lost, and its segment is made again on an empty one.
    Remake { group: u16, member: u8, down: u64 },
    /// Copies of processes' directories are made.
    Copy { target: Target },
    /// A process stops; the copy of its directory is put back before it starts again.
    Restore { group: u16, member: u8, down: u64 },
    /// Processes do nothing for a while, then go on with what has come in.
    Freeze { target: Target, time: u64 },
    /// Fsyncs and tasks take `factor` times as long.
    SlowDisk { target: Target, factor: u64, time: u64 },
    /// No space for records.
    DiskFull { target: Target, time: u64 },
    /// A base page fails its checksum from now on.
    RotPage { group: u16, member: u8, nth: usize },
    /// A process stops; its base pages are gone when it starts again.
    LosePages { group: u16, member: u8, down: u64 },
    /// No message passes between these and everyone else, in one direction or both.
    Cut { target: Target, inward: bool, outward: bool, time: u64 },
    /// The newest writer and these segments can't reach each other.
    CutWriter { from: Target, time: u64 },
    /// Messages to and from these take longer.
    SlowNetwork { target: Target, extra: u64, time: u64 },
    /// More messages get lost and doubled.
    Lossy { permille: u16, time: u64 },
    /// The newest writer stops; a new one starts later.
    CrashWriter { down: u64 },
    /// The newest writer does nothing for a while; a new one starts meanwhile.
    FreezeWriter { time: u64, successor: u64 },
    /// One more writer starts and competes.
    Compete { writers: u8 },
    /// Two writers die in a row: the second in the middle of its recovery.
    CrashInRecovery { first: u64, second: u64 },
}

impl Fault {
    /// Its name, for counters and traces.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Crash { target: Target::Zone(_), .. } => "lose-zone",
            Fault::Crash { .. } => "crash",
            Fault::Amnesia { .. } => "amnesia",
            Fault::Remake { .. } => "remake",
            Fault::Copy { .. } => "copy",
            Fault::Restore { .. } => "restore",
            Fault::Freeze { .. } => "freeze",
            Fault::SlowDisk { .. } => "slow-disk",
            Fault::DiskFull { .. } => "disk-full",
            Fault::RotPage { .. } => "rot-page",
            Fault::LosePages { .. } => "lose-pages",
            Fault::Cut { .. } => "cut",
            Fault::CutWriter { .. } => "cut-writer",
            Fault::SlowNetwork { .. } => "slow-network",
            Fault::Lossy { .. } => "lossy",
            Fault::CrashWriter { .. } => "crash-writer",
            Fault::FreezeWriter { .. } => "freeze-writer",
            Fault::Compete { .. } => "compete",
            Fault::CrashInRecovery { .. } => "crash-in-recovery",
        }
    }
}

/// Draws a run's faults: none to a dozen, in the first nine tenths of its length.
pub fn generate(rng: &mut Rng, settings: &Settings) -> Vec<Timed<Fault>> {
    let count = rng.usize(..14).saturating_sub(1);
    let when = |rng: &mut Rng| rng.u64(5_000..settings.length * 9 / 10);
    let mut faults: Vec<_> = (0..count).map(|_| Timed { at: when(rng), what: draw(rng, settings) }).collect();
    let start = when(rng);
    if settings.blank && rng.bool() {
        // In the middle of the founding, or right after it.
        let (group, member) = (rng.u16(..settings.groups), rng.u8(..COPIES));
        let what = Fault::Remake { group, member, down: rng.u64(..20_000) };
        faults.push(Timed { at: rng.u64(..30_000), what });
    }
    match rng.u8(..12) {
        0 => faults.extend(forget_behind_a_lag(rng, settings, start)),
        1 => faults.extend(two_halves(rng, start)),
        2 | 3 => faults.extend(go_back_behind_a_lag(rng, settings, start)),
        4 => faults.extend(go_back(rng, settings, start)),
        _ => {}
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// A zone lags behind; a member of another zone forgets; and when it has just rejoined, a new writer can reach only
/// it and those that lagged. Chance alone rarely aims so well.
fn forget_behind_a_lag(rng: &mut Rng, settings: &Settings, start: u64) -> Vec<Timed<Fault>> {
    let (zone, lag, aside) = (rng.u8(..ZONES), rng.u64(10_000..50_000), rng.u64(20_000..80_000));
    let (group, member) = (rng.u16(..settings.groups), (zone * 2 + 2 + rng.u8(..4)) % COPIES);
    let back = start + lag;
    let returns = rng.u64(500..5_000);
    let moment = back + rng.u64(2_000..60_000);
    let at = |at, what| Timed { at, what };
    let forgets = match rng.bool() {
        true => Fault::Amnesia { group, member, lose: draw_lose(rng), down: returns },
        false => Fault::Remake { group, member, down: returns },
    };
    let cut = |target, time| Fault::Cut { target, inward: true, outward: true, time };
    let others = (0..COPIES).filter(|other| *other != member && other / 2 != zone);
    let mut faults = vec![
        at(start, cut(Target::Zone(zone), lag)),
        at(back - rng.u64(..lag / 2), forgets),
        at(moment + 1, Fault::CrashWriter { down: rng.u64(..2_000) }),
    ];
    faults.extend(others.map(|other| at(moment, cut(Target::Segment(group, other), aside))));
    faults
}

/// A copy is made, the member starts again or not, and the copy is put back.
fn go_back(rng: &mut Rng, settings: &Settings, start: u64) -> Vec<Timed<Fault>> {
    let (group, member, down) = (rng.u16(..settings.groups), rng.u8(..COPIES), rng.u64(500..40_000));
    let target = Target::Segment(group, member);
    let back = start + rng.u64(5_000..100_000);
    let mut faults = vec![
        Timed { at: start, what: Fault::Copy { target } },
        Timed { at: back, what: Fault::Restore { group, member, down } },
    ];
    if rng.bool() {
        let crash = Fault::Crash { target, keep: rng.usize(..4), down: rng.u64(500..5_000) };
        faults.push(Timed { at: rng.u64(start..back), what: crash });
    }
    faults
}

/// As [`forget_behind_a_lag`], but the member goes back in time: what it forgets it said in a later life than the copy's.
fn go_back_behind_a_lag(rng: &mut Rng, settings: &Settings, start: u64) -> Vec<Timed<Fault>> {
    let mut faults = forget_behind_a_lag(rng, settings, start);
    let Some((group, member, at)) = faults.iter_mut().find_map(|fault| match fault.what {
        Fault::Amnesia { group, member, down, .. } | Fault::Remake { group, member, down } => {
            fault.what = Fault::Restore { group, member, down };
            Some((group, member, fault.at))
        }
        _ => None,
    }) else {
        return faults;
    };
    let target = Target::Segment(group, member);
    let before = rng.u64(..at);
    faults.push(Timed { at: before, what: Fault::Copy { target } });
    if rng.bool() {
        let crash = Fault::Crash { target, keep: 9, down: rng.u64(500..5_000) };
        faults.push(Timed { at: rng.u64(before..at), what: crash });
    }
    faults
}

/// Two candidates, each of which reaches only half of the copies: neither may open before that ends.
fn two_halves(rng: &mut Rng, start: u64) -> Vec<Timed<Fault>> {
    let mut members: Vec<u8> = (0..COPIES).collect();
    rng.shuffle(&mut members);
    let (one, other) = members.split_at(usize::from(COPIES) / 2);
    let time = rng.u64(10_000..80_000);
    let cut = |at: u64, from: &[u8]| {
        let from: Vec<_> = from.iter().map(|member| Target::Node(*member)).collect();
        from.into_iter().map(move |from| Timed { at, what: Fault::CutWriter { from, time } })
    };
    let mut faults = vec![
        Timed { at: start, what: Fault::CrashWriter { down: 0 } },
        Timed { at: start + 2, what: Fault::Compete { writers: 1 } },
    ];
    faults.extend(cut(start + 1, one).chain(cut(start + 3, other)));
    faults
}

fn draw(rng: &mut Rng, settings: &Settings) -> Fault {
    let (group, member) = (rng.u16(..settings.groups), rng.u8(..COPIES));
    let target = match rng.u8(..4) {
        0 => Target::Node(member),
        1 => Target::Zone(rng.u8(..ZONES)),
        _ => Target::Segment(group, member),
    };
    let time = rng.u64(2_000..80_000);
    let down = time;
    match rng.u8(..28) {
        0..=3 => Fault::Crash { target, keep: rng.usize(..4), down },
        4 => Fault::Crash { target: Target::Zone(rng.u8(..ZONES)), keep: rng.usize(..3), down },
        5 | 6 => Fault::Amnesia { group, member, lose: draw_lose(rng), down },
        7 => Fault::Freeze { target, time },
        8 => Fault::SlowDisk { target, factor: rng.u64(5..50), time },
        9 => Fault::DiskFull { target, time },
        10 => Fault::RotPage { group, member, nth: rng.usize(..8) },
        11 => Fault::LosePages { group, member, down },
        12 | 13 => Fault::Cut { target, inward: rng.bool(), outward: rng.bool(), time },
        14 | 15 => Fault::CutWriter { from: target, time },
        16 => Fault::SlowNetwork { target, extra: rng.u64(1_000..30_000), time },
        17 => Fault::Lossy { permille: rng.u16(50..500), time },
        18 | 19 => Fault::CrashWriter { down: rng.u64(..20_000) },
        20 | 21 => Fault::FreezeWriter { time, successor: rng.u64(..20_000) },
        22 => Fault::Compete { writers: rng.u8(1..3) },
        23 | 24 => Fault::Remake { group, member, down },
        25 => Fault::Copy { target },
        26 => Fault::Restore { group, member, down },
        _ => Fault::CrashInRecovery { first: rng.u64(..10_000), second: rng.u64(200..20_000) },
    }
}

fn draw_lose(rng: &mut Rng) -> Lose {
    match rng.u8(..3) {
        0 => Lose::All,
        1 => Lose::Last(rng.usize(1..8)),
        _ => Lose::Some(rng.u64(..)),
    }
}
