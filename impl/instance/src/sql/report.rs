//! The report that functions in SQL read.

use crate::health::Phase;
use crate::node::{InstanceRole, InstanceStatus};
use auriga_protocol::{Lsn, VolumeEpoch};
use auriga_region::port::{Heard as HeardRegion, ReportedRole};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// What Aurora calls the writer's session.
const MASTER: &str = "MASTER_SESSION_ID";

/// What another instance has said last.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What.
    pub status: InstanceStatus,
    /// When.
    pub at: SystemTime,
}

/// The report of an instance that says `own`, and has heard `others`, and its region's process.
pub(super) fn of(own: &InstanceStatus, others: &[Heard], region: Option<&HeardRegion>) -> Value {
    let others: Vec<&Heard> = others.iter().filter(|heard| heard.status.name != own.name).collect();
    let everyone = || std::iter::once(own).chain(others.iter().map(|heard| &heard.status));
    // Where two say that they write, the one with the higher volume epoch has fenced the other.
    let writer = everyone().filter(|status| volume_epoch(status).is_some()).max_by_key(|status| volume_epoch(status));
    let writer = writer.map(|status| status.name.as_str());
    let is_writer = |status: &InstanceStatus| writer == Some(status.name.as_str());
    let mut instances = vec![row(own, is_writer(own), None)];
    instances.extend(others.iter().map(|heard| row(&heard.status, is_writer(&heard.status), Some(heard.at))));
    let volume = everyone().find(|status| is_writer(status)).and_then(|status| status.volume.as_ref());
    json!({
        "name": own.name,
        "version": env!("CARGO_PKG_VERSION"),
        "instances": instances,
        "volume": volume.map(|volume| {
            let members: BTreeSet<u8> = volume.writer.members.iter().map(|member| member.member.0).collect();
            json!({ "disks": volume.writer.members.len(), "nodes": members.len() })
        }),
        "commit_p50_micros": own.mount.map(|mount| mount.sync_p50_micros),
        "region": region.map(|heard| format!("region-{}", heard.report.region)),
        "regions": region.map_or_else(Vec::new, regions),
    })
}

/// The rows of `aurora_global_db_status`: the region of this instance, and if it is the primary, every other one.
fn regions(heard: &HeardRegion) -> Vec<Value> {
    let report = &heard.report;
    let is_primary = report.role == ReportedRole::Primary;
    let row = |region: u16, lsn: Lsn, lag_ms: Option<i64>, at: Option<SystemTime>| {
        json!({
            "aws_region": format!("region-{region}"),
            "highest_lsn_written": lsn.0,
            "lag_ms": lag_ms,
            "calculated_at": at.map(|at| since_1970(at).as_secs_f64()),
        })
    };
    // Aurora's row of a primary: no lag, calculated in 1970.
    let (lag_ms, at) = if is_primary { (Some(-1), Some(SystemTime::UNIX_EPOCH)) } else { (None, None) };
    let own = row(report.region, report.durable, lag_ms, at);
    let secondaries = report.secondaries.iter().map(|secondary| {
        let lag_ms = i64::try_from(secondary.lag_ms).unwrap_or(i64::MAX);
        row(secondary.region, secondary.arrived, Some(lag_ms), Some(heard.at))
    });
    std::iter::once(own).chain(secondaries).collect()
}

fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// How old what a reader in a secondary shows is; -1 where the writer is the primary's, as in Aurora.
fn visibility_lag_ms(status: &InstanceStatus, is_writer: bool) -> Option<i64> {
    if is_writer {
        return Some(-1);
    }
    let published = status.reader.and_then(|reader| reader.published_at_ms);
    let now = u64::try_from(since_1970(SystemTime::now()).as_millis()).unwrap_or(u64::MAX);
    let lag = published.map(|at| now.saturating_sub(at)).or(status.lag_ms);
    lag.map(|lag| i64::try_from(lag).unwrap_or(i64::MAX))
}

/// The epoch as of which an instance writes the volume.
fn volume_epoch(status: &InstanceStatus) -> Option<VolumeEpoch> {
    let writes = status.role == InstanceRole::Writer && status.health.phase != Phase::Fenced;
    status.volume.as_ref().filter(|_| writes).map(|volume| volume.writer.volume_epoch)
}

/// A row of `aurora_replica_status`.
fn row(status: &InstanceStatus, is_writer: bool, heard_at: Option<SystemTime>) -> Value {
    let (reader, volume) = (status.reader.as_ref(), status.volume.as_ref().map(|volume| &volume.writer));
    let vdl = reader.map(|reader| reader.vdl).or(volume.map(|volume| volume.vdl));
    let read_point = reader.map(|reader| reader.read_point).or(vdl);
    json!({
        "server_id": status.name,
        "session_id": if is_writer { MASTER.to_owned() } else { session(status) },
        "durable_lsn": vdl.map(|lsn| lsn.0),
        "highest_lsn_rcvd": vdl.map(|lsn| lsn.0),
        "current_read_lsn": read_point.map(|lsn| lsn.0),
        "cur_replay_latency_in_usec": status.lag_ms.map(|ms| ms.saturating_mul(1000).min(i32::MAX as u64)),
        "is_current": true,
        "visibility_lag_in_msec": visibility_lag_ms(status, is_writer),
        "last_transport_error": 0,
        "heard_at": heard_at.map(|at| since_1970(at).as_secs_f64()),
        "replica_lag_in_msec": status.lag_ms.filter(|_| !is_writer),
        "log_buffer_sequence_number": 0,
        "oldest_read_view_lsn": read_point.map(|lsn| lsn.0),
        "read_ios": status.pages_read(),
        "cpu": status.load_percent,
    })
}

/// A number of its own for each process, in the form of Aurora's.
fn session(status: &InstanceStatus) -> String {
    // FNV-1a: the same for the same name and process, wherever it is computed.
    let bytes = status.name.bytes().chain(status.pid.to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let [a, b, c, d] = [hash >> 32, (hash >> 16) & 0xffff, hash & 0xffff, u64::from(status.pid)];
    format!("{a:08x}-{b:04x}-{c:04x}-0000-{d:012x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthReport;

    fn status(name: &str, role: &str, lag_ms: Option<u64>) -> InstanceStatus {
        let text = json!({
            "name": name, "role": role, "pid": 7, "postgres": "127.0.0.1:5432", "volume": null, "mount": null,
            "rss_bytes": 0, "lag_ms": lag_ms,
            "health": HealthReport { phase: Phase::Ready, since_ms: 0, restarts: 0, progress: None },
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn its_own_row_comes_first_and_says_not_when_it_was_heard() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(2500);
        let heard = |name, lag_ms| Heard { status: status(name, "reader", lag_ms), at };
        let others = [heard("reader-1", Some(12)), heard("reader-2", None), heard("mine", Some(1))];
        let report = of(&status("mine", "reader", Some(3)), &others, None);
        let names: Vec<&str> =
            report["instances"].as_array().unwrap().iter().map(|i| i["server_id"].as_str().unwrap()).collect();
        assert_eq!(names, ["mine", "reader-1", "reader-2"], "what others say of it does not count");
        let rows = &report["instances"];
        assert_eq!((&rows[0]["heard_at"], &rows[1]["heard_at"]), (&Value::Null, &json!(2.5)));
        assert_eq!((&rows[0]["replica_lag_in_msec"], &rows[2]["replica_lag_in_msec"]), (&json!(3), &Value::Null));
        assert_eq!(rows[1]["cur_replay_latency_in_usec"], 12_000);
        assert_ne!(rows[0]["session_id"], rows[1]["session_id"]);
        assert_eq!(report["volume"], Value::Null, "no writer is known");
    }
}
