//! Makes a failing plan small: the fewest faults that still break the same rule (delta debugging, Zeller 2002), then
//! the calmest settings.

use super::{Failure, Plan, run};

/// A smaller plan that breaks the same rule, with its failure.
pub fn shrink(plan: &Plan, failure: &Failure) -> (Plan, Failure) {
    let mut best = (plan.clone(), failure.clone());
    let still_fails = |candidate: &Plan| run(candidate, None).failure.filter(|other| other.rule == failure.rule);
    let mut chunk = best.0.faults.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < best.0.faults.len() {
            let mut candidate = best.0.clone();
            let end = (at + chunk).min(candidate.faults.len());
            candidate.faults.drain(at..end);
            match still_fails(&candidate) {
                Some(failure) => best = (candidate, failure),
                None => at += chunk,
            }
        }
        chunk /= 2;
    }
    for calm in [calm_network, one_group, short] {
        let mut candidate = best.0.clone();
        calm(&mut candidate, &best.1);
        if let Some(failure) = Some(&candidate).filter(|it| **it != best.0).and_then(still_fails) {
            best = (candidate, failure);
        }
    }
    best
}

fn calm_network(plan: &mut Plan, _: &Failure) {
    plan.settings.loss_permille = 0;
    plan.settings.duplicate_permille = 0;
}

fn one_group(plan: &mut Plan, _: &Failure) {
    plan.settings.groups = 1;
}

/// Nothing after the failure matters.
fn short(plan: &mut Plan, failure: &Failure) {
    plan.settings.length = plan.settings.length.min(failure.at);
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::Defect;

    #[test]
    fn a_shrunk_plan_breaks_the_same_rule_with_no_more_faults() {
        let failing = (0..2000).find_map(|seed| {
            let plan = Plan::from_seed(seed).with_defect(Some(Defect::AckBeforeDurable));
            run(&plan, None).failure.map(|failure| (plan, failure))
        });
        let (plan, failure) = failing.expect("the planted defect is found");
        let (small, again) = shrink(&plan, &failure);
        assert!(small.faults.len() <= plan.faults.len());
        assert_eq!(again.rule, failure.rule);
        assert_eq!(run(&small, None).failure, Some(again), "the shrunk plan replays");
    }
}
