//! A planted defect, to prove that what judges runs of the real cluster can fail.
//!
//! Only a build with the feature `planted-defects` can have one, and then only when the variable
//! `AURIGA_PLANTED_DEFECT` names it. Any other build has no code that reads the variable. `conformance/planted.sh` makes
//! such a build, in a folder of its own.

use auriga_protocol::Defects;

/// The defect's name, such as `write-quorum-three`.
#[cfg(feature = "planted-defects")]
const VARIABLE: &str = "AURIGA_PLANTED_DEFECT";

/// The defect that this process shall have.
///
/// # Errors
/// There is none of that name.
#[cfg(feature = "planted-defects")]
pub fn defects() -> Result<Defects, String> {
    use auriga_protocol::Defect;
    let Ok(slug) = std::env::var(VARIABLE) else {
        return Ok(Defects::NONE);
    };
    let known = Defect::ALL.iter().find(|defect| defect.slug() == slug);
    let defect = *known.ok_or_else(|| format!("{VARIABLE}: no defect is called {slug:?}"))?;
    tracing::warn!(slug, rule = defect.rule(), "a defect is planted in this process");
    Ok(Defects::plant(defect))
}

/// None.
///
/// # Errors
/// Never.
#[cfg(not(feature = "planted-defects"))]
pub fn defects() -> Result<Defects, String> {
    Ok(Defects::NONE)
}
