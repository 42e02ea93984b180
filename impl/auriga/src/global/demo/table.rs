//! Where the regions of a demo stand, as a person reads it.

use auriga_admin::instance;
use auriga_admin::member::{Role, State, region_name};
use auriga_instance::health::Phase;
use auriga_instance::node::InstanceRole;
use auriga_protocol::global::RegionRole;
use auriga_rehearsal::regions::GlobalShown;
use auriga_rehearsal::regions::wan::LineShown;
use auriga_rehearsal::regions::watching::StandingShown;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use std::net::SocketAddr;

/// Everything that is shown.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The regions, in the order of their numbers.
    pub regions: Vec<RegionShown>,
    /// The network between them.
    pub lines: Vec<LineShown>,
}

/// One region.
#[derive(Debug, Serialize)]
pub struct RegionShown {
    /// Its number.
    pub region: u16,
    /// Where it stands; `None` where it does not answer.
    pub standing: Option<StandingShown>,
    /// Storage processes that run, of six.
    pub storage_up: usize,
    /// Who writes its volume.
    pub owner: String,
    /// Where its PostgreSQL listens.
    pub postgres: SocketAddr,
    /// What its instance does.
    pub instance: String,
}

impl Report {
    /// Whether any region has answered.
    pub fn is_answered(&self) -> bool {
        self.regions.iter().any(|region| region.standing.is_some())
    }
}

/// Asks the instances, too.
pub async fn gather(shown: GlobalShown) -> Report {
    let mut regions = Vec::new();
    for ((region, layout), members) in shown.layout.numbers().zip(&shown.layout.regions).zip(&shown.members) {
        let up = |role| members.iter().filter(|member| member.role == role && member.state == State::Up).count();
        let asked = match layout.access() {
            Ok(access) => instance::status(layout.admin_address(0), &access, instance::PATIENCE).await.ok(),
            Err(_) => None,
        };
        let standing = shown.standings.get(&region).cloned();
        let writes = asked.as_ref().is_some_and(|status| status.role == InstanceRole::Writer);
        let owner = match (writes, &standing) {
            (true, _) => "its instance".to_owned(),
            (false, Some(standing)) if standing.role != RegionRole::Primary => "the region's process".to_owned(),
            (false, _) => "nobody".to_owned(),
        };
        let instance = match &asked {
            Some(status) if status.role == InstanceRole::Writer && status.health.phase == Phase::Ready => "writes",
            Some(status) if status.reader.as_ref().is_some_and(|reader| reader.lets_clients_in) => "reads",
            Some(status) if status.role == InstanceRole::Reader && status.turn.is_none() => "waits",
            Some(_) => "is starting",
            None if up(Role::Instance) == 0 => "DOWN",
            None => "SILENT",
        };
        regions.push(RegionShown {
            region,
            standing,
            storage_up: up(Role::Storage),
            owner,
            postgres: SocketAddr::new(layout.instance_host(0), layout.port),
            instance: instance.to_owned(),
        });
    }
    Report { regions, lines: shown.lines }
}

/// The table of regions, and a line for each network between two.
pub fn render(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "region",
        "role",
        "global epoch",
        "durable",
        "behind",
        "late",
        "storage",
        "volume's writer",
        "instance",
        "psql",
    ]);
    let newest =
        report.regions.iter().filter_map(|region| region.standing.as_ref()).map(|it| it.tip.global_epoch).max();
    for region in &report.regions {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let standing = region.standing.as_ref();
        let role = standing.map_or("SILENT".to_owned(), |it| {
            let is_old = newest.is_some_and(|newest| newest > it.tip.global_epoch);
            format!("{}{}", role(it.role), if is_old { " of a lineage that has been left" } else { "" })
        });
        let cells = [
            region_name(region.region),
            role,
            or_dash(standing.map(|it| it.tip.global_epoch.number.to_string())),
            or_dash(standing.map(|it| it.durable.to_string())),
            or_dash(standing.and_then(|it| it.behind).map(|behind| format!("{behind} LSNs"))),
            or_dash(standing.and_then(|it| it.behind_ms).map(|ms| format!("{ms} ms"))),
            format!("{} of 6", region.storage_up),
            region.owner.clone(),
            region.instance.clone(),
            format!("-h {} -p {}", region.postgres.ip(), region.postgres.port()),
        ];
        table.add_row(cells.iter().enumerate().map(|(column, text)| {
            let right = (2..=5).contains(&column);
            Cell::new(text).set_alignment(if right { CellAlignment::Right } else { CellAlignment::Left })
        }));
    }
    let mut text = table.to_string();
    for line in &report.lines {
        let (first, second) = line.between;
        let state = if line.is_cut { "CUT" } else { "whole" };
        text.push_str(&format!(
            "\n{} – {}  {state}, {} ms there and back; {} there, {} back so far",
            region_name(first),
            region_name(second),
            line.round_trip_ms,
            crate::status::table::bytes(line.there),
            crate::status::table::bytes(line.back),
        ));
    }
    text
}

fn role(role: RegionRole) -> &'static str {
    match role {
        RegionRole::Primary => "primary",
        RegionRole::HandedOn => "fenced",
        RegionRole::Secondary => "secondary",
    }
}
