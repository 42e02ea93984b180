//! What the tour shows.

use crate::bank::verify::Verdict;
use std::collections::BTreeMap;
use std::time::Duration;

/// The outcome of one step.
pub struct Row {
    pub number: &'static str,
    pub title: &'static str,
    pub took: Duration,
    pub acknowledged: u64,
    pub longest_wait: Duration,
    pub verdict: Verdict,
    pub remarks: Vec<String>,
}

/// The columns' names.
pub fn header() {
    println!("{:<57}{:>8}{:>14}{:>14}{:>6}", "step", "took", "acknowledged", "longest wait", "lost");
}

/// One step, and what was seen in it.
pub fn row(row: &Row) {
    println!(
        "{:<2} {:<54}{:>8}{:>14}{:>14}{:>6}",
        row.number,
        row.title,
        format!("{:.1} s", row.took.as_secs_f64()),
        row.acknowledged,
        format!("{} ms", row.longest_wait.as_millis()),
        row.verdict.lost
    );
    for remark in &row.remarks {
        println!("     {remark}");
    }
    let verdict = &row.verdict;
    if verdict.unexplained > 0 || verdict.wrong_balances > 0 {
        println!(
            "     UNEXPLAINED: {} rows that no client was promised, {} wrong balances",
            verdict.unexplained, verdict.wrong_balances
        );
    }
}

/// The end.
pub fn end(told: &BTreeMap<String, u64>, acknowledged: u64, failures: u64, took: Duration) {
    if !told.is_empty() {
        println!("\nwhat clients were told over the whole tour:");
        for (text, times) in told {
            println!("{times:>6} × {text}");
        }
    }
    let outcome = match failures {
        0 => "0 lost, every balance explained".to_owned(),
        n => format!("{n} LOST OR UNEXPLAINED"),
    };
    println!("\n{acknowledged} commits acknowledged, {outcome}; {:.0} s in all", took.as_secs_f64());
}
