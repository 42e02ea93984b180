//! The global database of a running demo, where no configuration is named.

use super::Failure;
use auriga_region::LinkConfig;
use std::path::PathBuf;
use std::process::ExitCode;

#[cfg(not(feature = "rehearsal"))]
const WITHOUT: &str = "this program was built without the demo: name a region's configuration with --config";

#[cfg(feature = "rehearsal")]
mod table;

/// How the regions of a demo are asked from within one of them.
#[cfg(feature = "rehearsal")]
pub fn link(dir: Option<PathBuf>, within: u16) -> Result<LinkConfig, Failure> {
    shown(dir)?.layout.within(within)
}

/// The configurations of the region's processes: of one region, or of all.
#[cfg(feature = "rehearsal")]
pub fn configs(dir: Option<PathBuf>, region: Option<u16>) -> Result<Vec<PathBuf>, Failure> {
    use auriga_admin::member::region_name;
    let layout = shown(dir)?.layout;
    let meant: Vec<u16> = layout.numbers().filter(|number| region.is_none_or(|region| region == *number)).collect();
    let at = |number: u16| {
        let layout = layout.region(number).ok_or_else(|| format!("there is no {}", region_name(number)))?;
        Ok(layout.dir.join("config").join(format!("{}.toml", region_name(number))))
    };
    match (&meant[..], region) {
        ([], Some(region)) => Err(format!("there is no {}", region_name(region)).into()),
        _ => meant.into_iter().map(at).collect(),
    }
}

/// Shows where the regions of a demo stand.
#[cfg(feature = "rehearsal")]
pub fn status(dir: Option<PathBuf>, json: bool) -> Result<ExitCode, Failure> {
    let shown = shown(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(table::gather(shown));
    match json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => println!("{}", table::render(&report)),
    }
    Ok(if report.is_answered() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(feature = "rehearsal")]
fn shown(dir: Option<PathBuf>) -> Result<auriga_rehearsal::regions::GlobalShown, Failure> {
    use auriga_rehearsal::demo::control::{self, Ask, Reply};
    match control::ask(&auriga_rehearsal::cli::find_demo(dir)?, &Ask::Describe)? {
        Reply::Regions(shown) => Ok(*shown),
        _ => Err("this demo is one region: start one of several with `auriga demo --global`".into()),
    }
}

#[cfg(not(feature = "rehearsal"))]
pub fn link(_: Option<PathBuf>, _: u16) -> Result<LinkConfig, Failure> {
    Err(WITHOUT.into())
}

#[cfg(not(feature = "rehearsal"))]
pub fn configs(_: Option<PathBuf>, _: Option<u16>) -> Result<Vec<PathBuf>, Failure> {
    Err(WITHOUT.into())
}

#[cfg(not(feature = "rehearsal"))]
pub fn status(_: Option<PathBuf>, _: bool) -> Result<ExitCode, Failure> {
    Err(WITHOUT.into())
}
