//! A run's plan: everything that is decided before it begins. A seed gives a plan; the plan gives the run.

use super::faults::{Fault, Timed, generate};
use auriga_protocol::{Defect, Defects, Geometry, Micros, SegmentConfig, WriterConfig};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Copies of a protection group; two in each Availability Zone.
pub const COPIES: u8 = 6;
/// Availability Zones.
pub const ZONES: u8 = 3;

/// What differs from run to run, besides the faults. Times are in microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Protection groups, 1 to 3.
    pub groups: u16,
    /// Pages that the workload touches.
    pub pages: u64,
    /// How long faults and workload go on.
    pub length: u64,
    /// Mean pause between two requests of a client.
    pub think: u64,
    /// Of 100 requests, how many are reads.
    pub reads_percent: u8,
    /// Least and greatest one-way delay of the network.
    pub delay: (u64, u64),
    /// Of 1,000 messages, how many get lost all the time.
    pub loss_permille: u16,
    /// Of 1,000 messages, how many arrive twice.
    pub duplicate_permille: u16,
    /// Least and greatest time that an fsync takes.
    pub fsync: (u64, u64),
    /// LAL.
    pub allocation_limit: u64,
    /// `WriterConfig::in_flight_weight_max`.
    pub in_flight_weight_max: usize,
    /// `WriterConfig::batch_weight_max`.
    pub batch_weight_max: usize,
    /// `WriterConfig::retry_every`.
    pub retry_every: u64,
    /// `WriterConfig::linger`.
    #[serde(default)]
    pub linger: u64,
    /// `SegmentConfig::log_weight_max`.
    pub log_weight_max: usize,
    /// `SegmentConfig::coalesce_weight`.
    pub coalesce_weight: usize,
    /// `SegmentConfig::coalesce_every`.
    pub coalesce_every: u64,
    /// `SegmentConfig::gossip_every`.
    pub gossip_every: u64,
    /// `SegmentConfig::push_weight_max`.
    pub push_weight_max: usize,
    /// `SegmentConfig::hydrate_pages_max`.
    pub hydrate_pages_max: usize,
    /// `SegmentConfig::scrub_every`.
    pub scrub_every: u64,
    /// `SegmentConfig::renew_life_every`.
    #[serde(default)]
    pub renew_life_every: u64,
    /// Whether a restart finds the journal cleaned: trimmed to the floor, the newest entry of each kind only.
    pub cleaned: bool,
    /// How often a member of some group is replaced; zero: never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replace_every: u64,
    /// Whether the volume is new: its members have no journals, and have still to found it.
    #[serde(default)]
    pub blank: bool,
}

/// Everything that is decided before a run begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Where randomness during the run begins.
    pub seed: u64,
    /// What differs from run to run.
    pub settings: Settings,
    /// What goes wrong, by time.
    pub faults: Vec<Timed<Fault>>,
    /// Planted on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect: Option<Defect>,
}

impl Plan {
    /// The plan of a seed.
    pub fn from_seed(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(super::payload::mix(seed));
        let settings = Settings::random(&mut rng);
        let faults = generate(&mut rng, &settings);
        Plan { seed, settings, faults, defect: None }
    }

    /// The same plan with a defect planted in every machine.
    #[must_use]
    pub fn with_defect(self, defect: Option<Defect>) -> Plan {
        Plan { defect, ..self }
    }

    fn defects(&self) -> Defects {
        self.defect.map_or(Defects::NONE, Defects::plant)
    }

    /// The segments' configuration.
    pub fn segment_config(&self) -> SegmentConfig {
        let settings = &self.settings;
        SegmentConfig {
            log_weight_max: settings.log_weight_max,
            coalesce_weight: settings.coalesce_weight,
            coalesce_every: Micros(settings.coalesce_every),
            coalesce_weight_max: settings.coalesce_weight.max(1000),
            coalesce_leaves: settings.coalesce_weight / 2,
            gossip_every: Micros(settings.gossip_every),
            push_weight_max: settings.push_weight_max,
            hydrate_pages_max: settings.hydrate_pages_max,
            hydrate_look_max: 2 * settings.hydrate_pages_max,
            scrub_every: Micros(settings.scrub_every),
            scrub_pages: 2,
            renew_life_every: Micros(settings.renew_life_every),
            reads_max: 8,
            defects: self.defects(),
        }
    }

    /// The writers' configuration.
    pub fn writer_config(&self) -> WriterConfig {
        let settings = &self.settings;
        WriterConfig {
            geometry: Geometry { groups: settings.groups, extent_blocks: 1 },
            allocation_limit: settings.allocation_limit,
            in_flight_weight_max: settings.in_flight_weight_max,
            batch_weight_max: settings.batch_weight_max,
            retry_every: Micros(settings.retry_every),
            linger: Micros(settings.linger),
            reads_max: 4,
            defects: self.defects(),
            ..WriterConfig::default()
        }
    }
}

/// Weight of one of the simulation's records, bytes.
const RECORD: usize = 168;

impl Settings {
    fn random(rng: &mut Rng) -> Settings {
        let slow_network = rng.u8(..8) == 0;
        let lossy = rng.u8(..3) == 0;
        let retry_every = rng.u64(4_000..20_000);
        let mut settings = Settings {
            groups: *pick(rng, &[1, 1, 2, 3]),
            pages: rng.u64(2..7),
            length: rng.u64(100_000..400_000),
            think: rng.u64(500..6_000),
            reads_percent: rng.u8(10..60),
            delay: if slow_network { (500, 8_000) } else { (50, 1_000) },
            loss_permille: if lossy { rng.u16(1..100) } else { 0 },
            duplicate_permille: if lossy { rng.u16(0..60) } else { 0 },
            fsync: *pick(rng, &[(100, 600), (100, 3_000), (500, 10_000)]),
            allocation_limit: *pick(rng, &[4, 8, 32, 256]),
            in_flight_weight_max: RECORD * *pick(rng, &[4, 16, 1000]),
            batch_weight_max: RECORD * *pick(rng, &[1, 3, 100]),
            retry_every,
            // Not a number of its own, so that a seed's other numbers stay what they were.
            linger: if retry_every.is_multiple_of(2) { 0 } else { retry_every / 8 },
            log_weight_max: RECORD * *pick(rng, &[16, 64, 1000]),
            coalesce_weight: RECORD * *pick(rng, &[4, 8, 100]),
            coalesce_every: rng.u64(5_000..60_000),
            gossip_every: rng.u64(5_000..25_000),
            push_weight_max: RECORD * *pick(rng, &[1, 3, 100]),
            hydrate_pages_max: *pick(rng, &[1, 2, 64]),
            scrub_every: rng.u64(10_000..40_000),
            renew_life_every: rng.u64(10_000..80_000),
            cleaned: rng.bool(),
            replace_every: 0,
            blank: rng.u8(..4) == 0,
        };
        // Not a number of its own, either.
        let changes = settings.think % 3 == 1 && !settings.blank;
        settings.replace_every = if changes { 8 * settings.think + 2 * settings.retry_every } else { 0 };
        settings
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn pick<'a, T>(rng: &mut Rng, options: &'a [T]) -> &'a T {
    &options[rng.usize(..options.len())]
}
