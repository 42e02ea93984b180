//! The black-box suite: drives storage nodes over the network by the wire protocol alone, as a writer would, and
//! compares what they answer with what the rules demand. The nodes may be anybody's implementation.
//!
//! Each scenario makes itself a volume of its own on the nodes, and is named by the invariant that it observes. It sees
//! answers, not disks: what only a crash or a bad disk can show is for the simulation and the trace check.
//!
//! `link.rs` is one writer's connections to one node; `scenarios.rs` is what is checked.

mod link;
mod scenarios;

use auriga_net::handshake::ClusterId;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Instant;

/// What a scenario found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verdict {
    /// The invariant, as in `specs/invariants.md`.
    pub invariant: &'static str,
    /// The rules that it exercises.
    pub rules: &'static str,
    /// What must be so.
    pub statement: &'static str,
    /// Which node.
    pub address: SocketAddr,
    /// `None`: it is so.
    pub failure: Option<String>,
    /// Milliseconds it took.
    pub took_ms: u64,
}

/// Every scenario: the invariant that it observes and the rules that it exercises.
pub fn statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    scenarios::ALL.iter().map(|scenario| (scenario.invariant, scenario.rules))
}

/// What was found of one invariant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Judged {
    /// As in `specs/invariants.md`.
    pub invariant: &'static str,
    /// Whether every scenario that observes it passed, on every node.
    pub holds: bool,
    /// The scenarios.
    pub verdicts: Vec<Verdict>,
}

/// The verdicts by invariant, in the order in which the invariants first come up.
pub fn by_invariant(verdicts: Vec<Verdict>) -> Vec<Judged> {
    let mut judged: Vec<Judged> = Vec::new();
    for verdict in verdicts {
        let invariant = verdict.invariant;
        let known = judged.iter().position(|of| of.invariant == invariant).unwrap_or_else(|| {
            judged.push(Judged { invariant, holds: true, verdicts: Vec::new() });
            judged.len() - 1
        });
        judged[known].holds &= verdict.failure.is_none();
        judged[known].verdicts.push(verdict);
    }
    judged
}

/// For people: a line for each invariant, and below it one for each of its scenarios.
pub fn to_text(judged: &[Judged]) -> String {
    let mark = |holds| if holds { "holds" } else { "FAILS" };
    let mut text = String::new();
    for Judged { invariant, holds, verdicts } in judged {
        text += &format!("{} {invariant}\n", mark(*holds));
        for Verdict { rules, statement, address, failure, took_ms, .. } in verdicts {
            text += &format!("      {} {statement} ({rules}) {address} {took_ms} ms\n", mark(failure.is_none()));
            text.extend(failure.iter().map(|failure| format!("            {failure}\n")));
        }
    }
    text
}

/// Runs every scenario against every node.
pub async fn run(addresses: &[SocketAddr], cluster: ClusterId) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for address in addresses {
        for scenario in scenarios::ALL {
            let began = Instant::now();
            let failure = scenario.run(*address, cluster).await.err();
            verdicts.push(Verdict {
                invariant: scenario.invariant,
                rules: scenario.rules,
                statement: scenario.statement,
                address: *address,
                failure,
                took_ms: began.elapsed().as_millis() as u64,
            });
        }
    }
    verdicts
}
