//! What a tour shows, and counts over its steps.

use crate::bank::ledger::Ledger;
use crate::bank::verify::Verdict;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A step under way.
pub struct Step {
    number: &'static str,
    title: &'static str,
    begun: Instant,
    /// Commits when it began.
    acknowledged: u64,
}

/// A step that was done, and is to be judged.
pub struct Acted {
    step: Step,
    took: Duration,
    longest_wait: Duration,
    told: BTreeMap<String, u64>,
}

impl Step {
    /// Begins a step: what clients saw before does not count for it.
    pub fn begin(number: &'static str, title: &'static str, ledger: &Ledger) -> Step {
        let (begun, acknowledged) = (Instant::now(), ledger.acknowledged());
        ledger.take_observations();
        Step { number, title, begun, acknowledged }
    }

    /// Ends it: what clients see from now on does not count for it.
    pub fn acted(self, ledger: &Ledger) -> Acted {
        let (longest_wait, told) = ledger.take_observations();
        Acted { took: self.begun.elapsed(), longest_wait, told, step: self }
    }
}

/// What a tour has counted.
#[derive(Default)]
pub struct Tally {
    failures: u64,
    /// What clients were told.
    told: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a step that was judged, and shows it.
    pub fn judged(&mut self, acted: Acted, ledger: &Ledger, verdict: &Verdict, remarks: &[String]) {
        self.failures += verdict.lost + verdict.unexplained + verdict.wrong_balances;
        row(&acted, ledger.acknowledged() - acted.step.acknowledged, verdict, remarks);
        for (text, times) in acted.told {
            *self.told.entry(text).or_default() += times;
        }
    }

    /// Shows the end. Returns whether everything was as it should be.
    pub fn end(&self, ledger: &Ledger, took: Duration) -> bool {
        if !self.told.is_empty() {
            println!("\nwhat clients were told over the whole tour:");
            for (text, times) in &self.told {
                println!("{times:>6} × {text}");
            }
        }
        let outcome = match self.failures {
            0 => "0 lost, every balance explained".to_owned(),
            n => format!("{n} LOST OR UNEXPLAINED"),
        };
        let acknowledged = ledger.acknowledged();
        println!("\n{acknowledged} commits acknowledged, {outcome}; {:.0} s in all", took.as_secs_f64());
        self.failures == 0
    }
}

/// The columns' names.
pub fn header() {
    println!("{:<57}{:>8}{:>14}{:>14}{:>6}", "step", "took", "acknowledged", "longest wait", "lost");
}

/// One step, and what was seen in it.
fn row(acted: &Acted, acknowledged: u64, verdict: &Verdict, remarks: &[String]) {
    println!(
        "{:<2} {:<54}{:>8}{:>14}{:>14}{:>6}",
        acted.step.number,
        acted.step.title,
        format!("{:.1} s", acted.took.as_secs_f64()),
        acknowledged,
        format!("{} ms", acted.longest_wait.as_millis()),
        verdict.lost
    );
    for remark in remarks {
        println!("     {remark}");
    }
    if verdict.unexplained > 0 || verdict.wrong_balances > 0 {
        println!(
            "     UNEXPLAINED: {} rows that no client was promised, {} wrong balances",
            verdict.unexplained, verdict.wrong_balances
        );
    }
}
