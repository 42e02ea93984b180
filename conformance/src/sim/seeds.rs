//! Seeds that once failed, kept in `conformance/seeds/` as the plans that showed the failure: each must pass now.

use super::Plan;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A kept plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptSeed {
    /// What was wrong, and what mended it.
    pub why: String,
    /// The plan that showed it.
    pub plan: Plan,
}

/// Where they are kept.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// Keeps a plan; answers its file.
///
/// # Errors
/// When the file can't be written.
pub fn keep(folder: &Path, why: &str, plan: Plan) -> Result<PathBuf, String> {
    let path = folder.join(format!("seed-{}.json", plan.seed));
    let kept = KeptSeed { why: why.to_owned(), plan: Plan { defect: None, ..plan } };
    let json = serde_json::to_string_pretty(&kept).map_err(|error| error.to_string())?;
    std::fs::write(&path, json + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Reads every kept plan, by file name.
///
/// # Errors
/// When the folder can't be read, or a file is no plan.
pub fn read_all(folder: &Path) -> Result<Vec<(String, KeptSeed)>, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut kept = Vec::new();
    for file in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = file.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).map_err(unreadable)?;
            let seed = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            kept.push((path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(), seed));
        }
    }
    kept.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(kept)
}
