//! Cells of tables in `specs/` that are filled by programs: what stands between `<!-- kind:id -->` and `<!-- / -->`.

pub use crate::cells::{cell, fill};
use auriga_protocol::Defect;
use std::path::{Path, PathBuf};

/// The techniques that `specs/defects-by-technique.md` compares: the cell's kind and the column's title.
pub const TECHNIQUES: [(&str, &str); 4] =
    [("model", "model"), ("simulation", "simulation"), ("tla", "TLA+"), ("trace", "trace check")];

/// The table of planted defects by technique.
pub fn defects_by_technique() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/defects-by-technique.md")
}

/// The table with a row for each planted defect; cells that `text` has already are kept.
pub fn with_every_defect(text: &str) -> String {
    let titles: Vec<_> = TECHNIQUES.iter().map(|(_, title)| *title).collect();
    let mut table = String::from(INTRODUCTION);
    table += &format!("| defect | rule | {} |\n|---|---|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for defect in Defect::ALL {
        table += &format!("| `{}` | {} |", defect.slug(), defect.rule());
        for (kind, _) in TECHNIQUES {
            let kept = cell(text, kind, defect.slug()).unwrap_or("—");
            table += &format!(" <!-- {kind}:{} -->{kept}<!-- / --> |", defect.slug());
        }
        table.push('\n');
    }
    table
}

const INTRODUCTION: &str = "\
# Planted defects, by the technique that finds them

Each defect of `impl/protocol/src/defect.rs` is planted alone, and each technique says whether it finds it, how, and at
what cost. A technique that finds everything makes the others no less useful: they fail in different ways.

- **model**: the property and the smallest scope of `model/` (`cargo run --profile fast -p auriga-model -- defects`).
- **simulation**: how many seeds until it is found, and by which rule
  (`cargo run --profile fast -p auriga-conformance -- defects`).
- **TLA+**: the configuration of `specs/tla/` in which TLC finds the same mistake, made there on purpose.
- **trace check**: whether the notes of a simulated run alone show it, less what kills took with them (the same command).
  What real processes show is in [README.md](README.md), *The rules, on the real cluster*.

Cells are written by those commands (`--write`); edit nothing between the marks.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_filled_and_kept() {
        let text = with_every_defect("");
        let filled = fill(&text, "simulation", "no-fence", "3 seeds");
        assert_eq!(cell(&filled, "simulation", "no-fence"), Some("3 seeds"));
        assert_eq!(cell(&filled, "model", "no-fence"), Some("—"));
        assert_eq!(with_every_defect(&filled), filled, "rewriting keeps what is there");
        assert_eq!(fill(&text, "simulation", "no-such", "x"), text);
    }
}
