//! A demo's directory, and what is settled before its first process.

use super::janitor::Janitor;
use super::layout::Layout;
use super::{DemoError, Options, control, directory, io_error, preflight, state};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A directory that a demo holds. Dropping it gives it up, and deletes it unless it is to be kept.
pub(crate) struct Place {
    janitor: Option<Janitor>,
    /// Held as long as the demo runs.
    _lock: Flock<File>,
}

impl Place {
    /// Makes the directory or takes it up again, locks it, tells others of it, and hires a janitor, who will detach what is
    /// mounted at `mount`.
    pub(crate) fn take(dir: &Path, is_kept: bool, mount: &Path) -> Result<Place, DemoError> {
        let made = if is_kept { directory::make_or_keep(dir) } else { directory::make_fresh(dir) };
        made.map_err(io_error(dir))?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(io_error(&path))?;
        let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            return Err(DemoError::InUse(dir.to_owned()));
        };
        let running = state::Running { pid: std::process::id(), dir: dir.to_owned() };
        let state = state::announce(&running).map_err(io_error(dir))?;
        let socket = control::socket(dir);
        let to_delete: &[&Path] = if is_kept { &[&state, &socket] } else { &[&state, dir] };
        let janitor = Janitor::hire(mount, to_delete).map_err(io_error(dir))?;
        Ok(Place { janitor: Some(janitor), _lock: lock })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(janitor) = self.janitor.take() {
            janitor.dismiss();
        }
    }
}

/// The directory of a demo, where it was asked to be or in the system's place for temporary files.
pub(crate) fn directory(asked: Option<&PathBuf>) -> Result<PathBuf, DemoError> {
    let pid = std::process::id();
    let dir = asked.cloned().unwrap_or_else(|| std::env::temp_dir().join(format!("auriga-demo-{pid}")));
    // The processes and PostgreSQL are told of it, and work elsewhere.
    std::path::absolute(&dir).map_err(io_error(&dir))
}

/// The fixed facts of a demo.
pub(crate) fn layout(options: Options) -> Result<Layout, DemoError> {
    let dir = directory(options.dir.as_ref())?;
    // Regions have one authority.
    let of_all = if options.region.is_some() { dir.parent().unwrap_or(&dir) } else { &dir };
    let certificates = (!options.plaintext).then(|| of_all.join("certificates"));
    let cluster = options.region.as_ref().map_or("demo".to_owned(), |region| super::region::name(region.number));
    Ok(Layout {
        dir,
        network: options.network,
        port: options.port,
        cluster,
        postgres: options.postgres,
        mount: options.mount,
        trace: options.trace,
        trace_inputs_mib: options.trace_inputs_mib,
        groups: options.groups,
        allocation_limit: options.allocation_limit,
        scrub_journal_s: options.scrub_journal_s,
        readers: options.readers,
        reader_settings: options.reader_settings,
        watched: options.watched && options.readers > 0,
        spares: if options.watched && options.readers > 0 { options.spares } else { 0 },
        heals: options.heals,
        region: options.region,
        certificates,
    })
}

/// Looks whether demos can run here, together.
pub(crate) fn check<'a>(layouts: impl IntoIterator<Item = &'a Layout>) -> Result<(), DemoError> {
    let mut problems: Vec<String> = Vec::new();
    for problem in layouts.into_iter().flat_map(preflight::problems) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(DemoError::Missing(problems)) }
}

/// Saves folders of logs of an attempt whose directory is about to be deleted.
pub(crate) fn put_logs_aside(dir: &Path, folders: &[&str], source: DemoError) -> DemoError {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let to = dir.with_file_name(format!("{name}-logs"));
    let mut moved = Ok(());
    for folder in folders {
        let there = if let [_] = folders { to.clone() } else { to.join(folder.replace('/', "-")) };
        let made = if folders.len() > 1 { std::fs::create_dir_all(&to) } else { Ok(()) };
        moved = moved.and(made.and_then(|()| std::fs::rename(dir.join(folder), there)));
    }
    match moved {
        Ok(()) => DemoError::Begun { source: Box::new(source), logs: to },
        Err(error) => {
            tracing::warn!(%error, from = %dir.display(), "the logs can't be kept");
            source
        }
    }
}
