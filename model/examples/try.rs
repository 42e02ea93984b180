use auriga_model::checking::{check, Options};
use auriga_model::volume::*;
use auriga_model::world::Budgets;
use auriga_model::{log_recovery, reductions::Reductions, report};
fn main() {
    let arg = |name: &str, default: u8| std::env::var(name).ok().map_or(default, |v| v.parse().unwrap());
    let mut scale = match arg("V", 3) { 3 => log_recovery::three(), 4 => log_recovery::four(), _ => log_recovery::six() };
    scale.budgets = Budgets { writers: arg("W", 2), submits: arg("L", 1), crashes: arg("C", 0), zone_crashes: arg("Z", 0), retries: arg("R", 0), gossips: arg("G", 0), coalesces: arg("CO", 0), reads: arg("RD", 0), duplicates: arg("D", 0) };
    scale.groups = arg("PG", 1).into();
    if scale.groups == 2 { scale.workload = vec![vec![page(0), page(1)]]; }
    scale.epochs = arg("E", 2).into();
    scale.synchronous = arg("SYNC", 1) == 1;
    scale.begins_open = arg("OPEN", 0) == 1;
    scale.reductions = Reductions { symmetry: arg("SYM", 1) == 1, acknowledgements_at_once: arg("ACK", 1) == 1, drop_spent: arg("SPENT", 1) == 1, crash_keeps_nothing: arg("KEEP", 1) == 1 };
    let verdict = check(&|| Volume::new(scale.clone()), "try", &Options { threads: arg("T", 2).into(), progress: true });
    println!("unique {} gen {} depth {} {:.1}s {} B/state never {:?}", report::grouped(verdict.unique), verdict.generated, verdict.depth, verdict.elapsed.as_secs_f64(), verdict.memory / verdict.unique, verdict.never_shown);
    if let Some(f) = verdict.failure { println!("{}", report::render_failure(&f)); }
}
