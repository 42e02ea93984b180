use auriga_model::checking::Checkable;
use auriga_model::volume::*;
use auriga_model::world::Budgets;
use auriga_model::{log_recovery, notation};
use stateright::Model;
fn main() {
    let mut scale = log_recovery::six();
    scale.budgets = Budgets { writers: 2, submits: 1, ..Budgets::default() };
    scale.begins_open = true;
    let model = Volume::new(scale);
    let mut seed: u64 = std::env::args().nth(1).map_or(1, |s| s.parse().unwrap());
    let mut w = model.init_states().remove(0);
    for f in &w.network {
        println!("   init net: {:?} {}", f.envelope.to, notation::message(&f.envelope.message));
    }
    loop {
        let mut steps = vec![];
        model.actions(&w, &mut steps);
        let mut nexts: Vec<_> =
            steps.into_iter().filter_map(|s| model.next_state(&w, s.clone()).map(|n| (s, n))).collect();
        if nexts.is_empty() {
            break;
        }
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (s, n) = nexts.swap_remove((seed >> 33) as usize % nexts.len());
        println!("{}   [{} enabled]", model.line(&w, &s), nexts.len() + 1);
        w = n;
    }
    for f in &w.network {
        println!("   left: {:?}->{:?} {}", f.envelope.from, f.envelope.to, notation::message(&f.envelope.message));
    }
}
