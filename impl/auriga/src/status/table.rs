//! The status as a person reads it.

use super::gather::{Instance, Report, Storage};
use auriga_admin::member::{Described, State};
use auriga_admin::terminal::wrapped;
use auriga_instance::node::{InstanceRole, ReaderShown, RpoShown};
use auriga_net::admin::{Condition, NodeStatus};
use auriga_protocol::segment::SegmentStatus;
use auriga_protocol::writer::MemberStatus;
use auriga_protocol::{Lsn, MemberId, PgId, SegmentId, VolumeId};
use comfy_table::{Cell, CellAlignment, Table, presets};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How many of an instance's last role changes are shown, the newest first.
const TRANSITIONS_SHOWN: usize = 3;

/// The instances, the segments, and the rates, for a terminal that is `columns` wide.
pub fn render(report: &Report, columns: Option<usize>) -> String {
    let mut text = String::new();
    for instance in &report.instances {
        text.push_str(&instance_lines(instance));
    }
    for watcher in &report.watchers {
        let state = if watcher.state == State::Up { "up" } else { absent(watcher.state) };
        text.push_str(&format!("{:<10}{}  {}\n", watcher.name, watcher.address, with_faults(state, watcher)));
    }
    let fold = |text: &str| columns.map_or(text.to_owned(), |columns| wrapped(text, columns));
    let mut text = fold(text.trim_end());
    text.push_str("\n\n");
    text.push_str(&fitting(report, columns));
    for remark in moves(report).into_iter().chain(remarks(report)) {
        text.push_str(&format!("\n{}", fold(&remark)));
    }
    if let Some(rates) = &report.rates {
        let per = rates.sent_per_transaction.map_or("–".to_owned(), |n| format!("{n:.0} bytes per transaction"));
        let line = format!(
            "{:.0} transactions/s · {}/s to storage, {per} over all six copies · {}/s of pages read from storage",
            rates.transactions,
            bytes(rates.sent as u64),
            bytes(rates.pages_received as u64),
        );
        text.push_str(&format!("\n\n{}", fold(&line)));
    }
    text
}

fn instance_lines(instance: &Instance) -> String {
    let member = &instance.member;
    let at = member.postgres.map(|a| a.to_string()).unwrap_or_default();
    let Some(status) = &instance.status else {
        return format!("{:<10}{at}  {}\n", member.name, with_faults(absent(member.state), member));
    };
    let phase = with_faults(&format!("{:?}", status.health.phase).to_lowercase(), member);
    let mut text = format!("{:<10}{at}  {phase}", member.name);
    if let Some(progress) = &status.health.progress {
        text.push_str(&format!("  {progress}"));
    }
    if let Some(volume) = &status.volume {
        let sent = volume.log_bytes_sent;
        let volume = &volume.writer;
        let pgcl: Vec<String> = volume.pgcl.iter().map(|(pg, lsn)| format!("{pg} {lsn}")).collect();
        text.push_str(&format!(
            "  volume epoch {}  VDL {}  VCL {}  PGCL {}  allocated {}  in flight {}",
            volume.volume_epoch,
            volume.vdl,
            volume.vcl,
            pgcl.join(", "),
            volume.allocated,
            bytes(volume.in_flight_weight),
        ));
        text.push_str(&format!("\n{:10}{} of redo records sent", "", bytes(sent)));
    }
    if let Some(reader) = &status.reader {
        text.push_str(&reader_lines(reader, status.lag_ms));
    }
    if let Some(lowest) = status.followers.iter().map(|follower| follower.needs).min() {
        let follow = match status.followers.len() {
            1 => "1 reader follows".to_owned(),
            more => format!("{more} readers follow"),
        };
        text.push_str(&format!(", {follow} (read point {lowest} is kept)"));
    }
    if let Some(mount) = &status.mount {
        text.push_str(&format!(
            ", {} pages read from storage, cache {} of {}, memory of the mount {}",
            status.pages_read(),
            bytes(mount.cached_bytes),
            bytes(mount.cache_limit_bytes),
            bytes(status.rss_bytes),
        ));
    }
    text.push_str(&format!("\n{:10}{}", "", named(status.role)));
    if !status.az.is_empty() {
        text.push_str(&format!(", AZ {}, promotion tier {}", status.az, status.tier));
    }
    if let Some(lag) = status.lag_ms {
        text.push_str(&format!(", {lag} ms behind its writer"));
    }
    if let Some(rpo) = &status.rpo {
        text.push_str(&format!("\n{:10}{}", "", bound_on_lag(rpo)));
    }
    for change in status.transitions.iter().rev().take(TRANSITIONS_SHOWN) {
        text.push_str(&format!("\n{:10}{}  {}: {}", "", time(change.at_ms), named(change.role), change.why));
    }
    text.push('\n');
    text
}

/// The bound on the lag of secondary regions, and whether commits wait for it.
fn bound_on_lag(rpo: &RpoShown) -> String {
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    let nearest =
        rpo.least_lag_ms.map_or("there is none".to_owned(), |lag| format!("the nearest is {} late", seconds(lag)));
    let passes = match rpo.waits_ms {
        Some(ms) => format!("COMMITS WAIT since {}", seconds(ms)),
        None => "commits pass".to_owned(),
    };
    format!("{passes}: a secondary region must be within {} (rds.global_db_rpo); {nearest}", seconds(rpo.bound_ms))
}

/// A role in a word.
fn named(role: InstanceRole) -> &'static str {
    match role {
        InstanceRole::Writer => "writer",
        InstanceRole::Reader => "reader",
        InstanceRole::Switching => "switching",
    }
}

/// A time, to the second.
fn time(ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(ms / 1000).unwrap_or(0)).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

fn reader_lines(reader: &ReaderShown, lag_ms: Option<u64>) -> String {
    let follows = if reader.follows { "follows" } else { "LOOKS FOR" };
    let clients = match lag_ms {
        Some(lag_ms) if reader.lets_clients_in => format!("  lag {lag_ms} ms"),
        _ => "  lets no client in yet".to_owned(),
    };
    let published = reader.published_at_ms.map_or(String::new(), |at_ms| format!("  as of {}", time(at_ms)));
    format!(
        "  {follows} the writer of volume epoch {}  read point {}  behind {}{clients}{published}\n{:10}{} waiting for replay, overlay {}, \
         {} on disk, {} pages read from storage, {} cuts",
        reader.volume_epoch,
        reader.read_point,
        reader.behind(),
        "",
        bytes(reader.waiting_bytes),
        bytes(reader.overlay_bytes),
        bytes(reader.spilled_bytes),
        reader.pages_read,
        reader.cuts,
    )
}

const COLUMNS: [&str; 12] =
    ["AZ", "process", "state", "segment", "SCL", "behind", "epoch", "read", "append", "received", "on disk", "memory"];

/// The columns that a narrow terminal goes without, the first one first.
const DISPENSABLE: [&str; 8] = ["memory", "received", "on disk", "append", "read", "epoch", "segment", "behind"];

/// The widest table of segments that fits.
fn fitting(report: &Report, columns: Option<usize>) -> String {
    let mut without = 0;
    loop {
        let table = segments(report, &DISPENSABLE[..without]).to_string();
        let width = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        if columns.is_none_or(|columns| width <= columns) || without == DISPENSABLE.len() {
            return table;
        }
        without += 1;
    }
}

fn segments(report: &Report, without: &[&str]) -> Table {
    let shown: Vec<usize> = (0..COLUMNS.len()).filter(|&column| !without.contains(&COLUMNS[column])).collect();
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(shown.iter().map(|&column| COLUMNS[column]));
    let mut highest: BTreeMap<(VolumeId, PgId), Lsn> = BTreeMap::new();
    for (id, segment) in report.storage.iter().filter_map(|s| s.status.as_ref()).flat_map(|s| &s.segments) {
        let scl = highest.entry((id.volume, id.pg)).or_default();
        *scl = segment.scl.max(*scl);
    }
    for storage in &report.storage {
        let member = &storage.member;
        let Some(status) = &storage.status else {
            table.add_row([member.az.as_str(), &member.name, &with_faults(absent(member.state), member)]);
            continue;
        };
        if status.segments.is_empty() {
            let state = if is_spare(report, storage) { "spare" } else { without_segments(status) };
            table.add_row([member.az.as_str(), &member.name, &with_faults(state, member)]);
        }
        for (id, segment) in &status.segments {
            let seen = seen_by_writer(report, *id);
            let cells = [
                member.az.clone(),
                member.name.clone(),
                with_faults(if status.warnings.is_empty() { condition(segment, seen) } else { "refused" }, member),
                format!("{}/{}", id.pg, id.member),
                segment.scl.to_string(),
                (highest[&(id.volume, id.pg)].0 - segment.scl.0).to_string(),
                segment.installed.to_string(),
                seen.map_or("–".to_owned(), |m| format!("{} µs", m.read_latency.0)),
                format!("{} µs", status.disk.append_micros_mean),
                bytes(received(storage)),
                bytes(status.disk.used_bytes),
                bytes(status.rss_bytes),
            ];
            table.add_row(shown.iter().map(|&column| {
                let alignment = if column < 4 { CellAlignment::Left } else { CellAlignment::Right };
                Cell::new(&cells[column]).set_alignment(alignment)
            }));
        }
    }
    table
}

/// A state, and the faults that were injected.
fn with_faults(state: &str, member: &Described) -> String {
    let parts: Vec<&str> = std::iter::once(state).chain(member.faults.iter().map(String::as_str)).collect();
    parts.join(", ")
}

/// What a process does that has no segment.
fn without_segments(status: &NodeStatus) -> &'static str {
    match status.condition {
        Condition::Refused { .. } => "refused",
        Condition::Blank { .. } | Condition::Serving => "blank",
    }
}

/// What a person must know or do, a line for each process of which there is something.
fn remarks(report: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    for storage in &report.storage {
        let name = &storage.member.name;
        remarks.extend(storage.silent_because.iter().map(|why| format!("{name}: no answer: {why}")));
        let Some(status) = &storage.status else { continue };
        match &status.condition {
            Condition::Refused { found, advice } => remarks.push(format!("{name}: refused: {found}. {advice}")),
            Condition::Blank { .. } if is_spare(report, storage) => {}
            Condition::Blank { answered, peers } => remarks.push(format!(
                "{name}: blank: it holds no segment, and asks its peers what it should have; {answered} of {peers} answer"
            )),
            Condition::Serving => {}
        }
        remarks.extend(status.warnings.iter().map(|warning| format!("{name}: {warning}")));
    }
    remarks
}

/// Whether no member of the volume lives there, as its writer says.
fn is_spare(report: &Report, storage: &Storage) -> bool {
    let volume = || report.serving()?.status.as_ref()?.volume.as_ref();
    volume().is_some_and(|volume| {
        !volume.groups.iter().flat_map(|group| &group.members).any(|member| member.home == Some(storage.member.address))
    })
}

/// Who comes and who goes, and how far who comes is; a line for each.
fn moves(report: &Report) -> Vec<String> {
    let name = |home: Option<SocketAddr>| {
        let found = report.storage.iter().find(|storage| Some(storage.member.address) == home);
        found.map_or_else(|| home.map(|home| home.to_string()).unwrap_or_default(), |found| found.member.name.clone())
    };
    let pages = |home: Option<SocketAddr>| {
        let found = report.storage.iter().find(|storage| Some(storage.member.address) == home);
        found.and_then(|storage| storage.status.as_ref()).map_or(0, |status| status.disk.pages)
    };
    let volume = report.serving().and_then(|serving| serving.status.as_ref()).and_then(|status| status.volume.as_ref());
    let groups = volume.into_iter().flat_map(|volume| &volume.groups);
    groups
        .flat_map(|group| {
            let home = |number| group.members.iter().find(|member| member.member == number).and_then(|it| it.home);
            let hydrated = |number| group.members.iter().any(|member| member.member == number && member.hydrated);
            group.under_way.iter().map(move |(old, new)| {
                let state =
                    if hydrated(*new) { "hydrated".to_owned() } else { format!("{} pages there", pages(home(*new))) };
                let (pg, gone, joiner) = (group.pg, name(home(*old)), name(home(*new)));
                format!("{pg}: member {old} on {gone} gives way to member {new} on {joiner}: {state}")
            })
        })
        .collect()
}

/// How the writer sees a segment.
fn seen_by_writer(report: &Report, id: SegmentId) -> Option<&MemberStatus> {
    let volume = report.serving()?.status.as_ref()?.volume.as_ref()?;
    let same = |member: MemberId, m: &MemberStatus| m.member == member && m.pg == id.pg;
    volume.writer.members.iter().find(|m| same(id.member, m))
}

fn condition(segment: &SegmentStatus, seen: Option<&MemberStatus>) -> &'static str {
    match segment {
        SegmentStatus { contradiction: Some(_), .. } => "CONTRADICTED",
        SegmentStatus { retired: true, .. } => "retired",
        _ if seen.is_some_and(|seen| seen.joining) => "joining",
        SegmentStatus { rejoining: true, .. } => "rejoining",
        SegmentStatus { unregistered: true, .. } => "asks peers",
        SegmentStatus { hydrating: true, .. } => "hydrating",
        SegmentStatus { disk_full: true, .. } => "disk full",
        SegmentStatus { damaged_pages: 1.., .. } => "healing",
        _ => "up",
    }
}

fn absent(state: State) -> &'static str {
    match state {
        State::Up => "SILENT",
        State::Frozen => "FROZEN",
        State::Down => "DOWN",
    }
}

fn received(storage: &Storage) -> u64 {
    storage.status.iter().flat_map(|s| &s.traffic).map(|t| t.received.bytes).sum()
}

/// `1234567` → `1.2 MB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_shown_with_units() {
        assert_eq!([999, 1_000, 1_500_000, 2_000_000_000].map(bytes), ["999 B", "1.0 kB", "1.5 MB", "2.00 GB"]);
    }
}
