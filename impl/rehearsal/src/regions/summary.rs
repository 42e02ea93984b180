//! What a person sees when a demo of several regions is up.

use super::layout::GlobalLayout;
use crate::demo::region::name;
use crate::demo::summary::{ToTry, finished};

/// What to try.
pub const TO_TRY: [ToTry; 8] = [
    ("status --global", "where each region stands, and how late it is"),
    ("switchover --to 2", "planned: nothing is lost"),
    ("inject partition 1-2", "nothing gets through between them; `inject heal 1-2` ends it"),
    ("inject kill 2", "a whole region is gone"),
    ("failover --to 1 --allow-data-loss", "what had not arrived there is lost to it"),
    ("inject restart 2", "it comes back, names what it lost, and follows without a copy"),
    ("global lost --region 2", "what that was"),
    ("inject wan 1-2 --ms 200", "the other side of the world"),
];

/// A box with the lines to paste.
pub(super) fn boxed(layout: &GlobalLayout, primary: u16, is_kept: bool, columns: Option<usize>) -> String {
    let count = layout.regions.len();
    let mut lines = vec![
        format!("Auriga: one database over {count} regions, each with six copies in three Availability Zones"),
        String::new(),
    ];
    lines.extend(layout.numbers().zip(&layout.regions).map(|(number, region)| {
        let what = if number == primary { "the primary" } else { "a secondary, which reads" };
        format!("{:<9} psql -h {} -p {} -U postgres   ({what})", name(number), region.instance_host(0), region.port)
    }));
    lines.extend(layout.numbers().zip(&layout.regions).filter(|(number, _)| *number != primary).map(
        |(number, region)| {
            let to = region.forwarding_endpoint();
            format!(
                "forward-{number} psql -h {} -p {} -U postgres   (reads in {}, writes in the primary)",
                to.ip(),
                to.port(),
                name(number)
            )
        },
    ));
    let storage = layout.regions.iter().map(|region| {
        let [a, b, c] = region.network;
        format!("{a}.{b}.{c}.1 to .6")
    });
    lines.push(format!("storage   {}", storage.collect::<Vec<_>>().join(" · ")));
    let wan = layout.wan;
    lines.push(format!("network   {} ms there and back, {} Mbit/s each way", wan.round_trip_ms, wan.megabits));
    lines.push(format!("logs      {}/region-*/logs", layout.dir.display()));
    lines.extend([String::new(), "try, in another terminal:".to_owned()]);
    finished(lines, &TO_TRY, (&layout.dir, is_kept), columns)
}
