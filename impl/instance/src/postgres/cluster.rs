//! The database cluster in PGDATA: created once on a new volume, and given the settings that our storage makes safe.
//!
//! `initdb` works in `pgdata.new`, which is renamed to `pgdata` when it is whole and durable. So a crash in the middle
//! of it leaves no half-made cluster: the next start throws `pgdata.new` away and begins again.

use super::find::Installation;
use super::user::RunAs;
use crate::on_mount::die_with_parent;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who may connect, decided when the cluster is created (`pg_hba.conf` is the owner's to edit afterwards).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authentication {
    /// Anyone who reaches the port is who they say: only for instances that listen on loopback alone.
    TrustLoopback,
    /// SCRAM, with the superuser's first password read from this file.
    Password(PathBuf),
}

/// Why there is no usable cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or directory on the volume or beside it.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// `initdb` failed; the last lines that it wrote follow.
    #[error("initdb failed ({status}):\n{output}")]
    Initdb {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// `PG_VERSION` does not hold a number.
    #[error("{} holds {content:?}, which is no PostgreSQL version", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it holds.
        content: String,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Io { what, path, source }
}

/// The database cluster within `root` (the mount).
#[derive(Clone, Debug)]
pub struct Cluster {
    root: PathBuf,
}

impl Cluster {
    /// The cluster that is, or will be, in `root`.
    pub fn in_root(root: &Path) -> Cluster {
        Cluster { root: root.to_owned() }
    }

    /// PGDATA.
    pub fn data(&self) -> PathBuf {
        self.root.join("pgdata")
    }

    /// Major version of the existing cluster; `None` on a new volume.
    ///
    /// # Errors
    /// The file can't be read, or holds no version.
    pub fn major(&self) -> Result<Option<u32>, ClusterError> {
        let path = self.data().join("PG_VERSION");
        match std::fs::read_to_string(&path) {
            Ok(content) => match content.trim().parse() {
                Ok(major) => Ok(Some(major)),
                Err(_) => Err(ClusterError::Version { path, content }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("reading", &path)(error)),
        }
    }

    /// Creates the cluster on a new volume, all or nothing. `locale` is a name that the system knows, such as `C` or
    /// `en_US.UTF-8`, or `icu:` and one of ICU's, such as `icu:de-DE`; the environment's where absent.
    ///
    /// # Errors
    /// `initdb` failed, or the volume did.
    pub fn create(
        &self,
        pg: &Installation,
        user: &RunAs,
        auth: &Authentication,
        locale: Option<&str>,
    ) -> Result<(), ClusterError> {
        let making = self.root.join("pgdata.new");
        match std::fs::remove_dir_all(&making) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("removing", &making)(error)),
            _ => {}
        }
        std::fs::create_dir(&making).map_err(io_error("creating", &making))?;
        user.own(&making).map_err(io_error("changing the owner of", &making))?;
        self.initdb(pg, user, auth, locale, &making)?;

        let conf = making.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&conf).map_err(io_error("reading", &conf))?;
        text.push_str("\n# Settings that this storage makes safe, rewritten at every start; later lines here win.\n");
        text.push_str("include 'auriga.conf'\n");
        std::fs::write(&conf, text).map_err(io_error("writing", &conf))?;
        self.write_settings_in(&making, user)?;

        // One fsync is enough for everything before it: the volume's log is one order.
        sync(&making)?;
        std::fs::rename(&making, self.data()).map_err(io_error("renaming", &making))?;
        sync(&self.root)
    }

    fn initdb(
        &self,
        pg: &Installation,
        user: &RunAs,
        auth: &Authentication,
        locale: Option<&str>,
        at: &Path,
    ) -> Result<(), ClusterError> {
        let mut command = Command::new(pg.bin.join("initdb"));
        command.arg("-D").arg(at).args(["--username=postgres", "--encoding=UTF8", "--no-sync"]);
        command.args(locale_arguments(locale));
        match auth {
            Authentication::TrustLoopback => command.args(["--auth=trust"]),
            Authentication::Password(file) => {
                command.args(["--auth-local=peer", "--auth-host=scram-sha-256"]).arg("--pwfile").arg(file)
            }
        };
        // initdb looks up its working directory, which the other user may not be allowed to see.
        user.apply(&mut command).current_dir("/").stdin(Stdio::null());
        die_with_parent(&mut command);
        let output = command.output().map_err(io_error("running", &pg.bin.join("initdb")))?;
        if output.status.success() {
            return Ok(());
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = text.lines().collect();
        Err(ClusterError::Initdb { status: output.status, output: lines[lines.len().saturating_sub(15)..].join("\n") })
    }

    /// Readies the existing cluster for this instance: our settings, and directories where earlier versions had links to
    /// the local disk. (What need not last is kept there by the mount.)
    ///
    /// # Errors
    /// The volume's.
    pub fn prepare(&self, user: &RunAs) -> Result<(), ClusterError> {
        self.write_settings_in(&self.data(), user)?;
        for name in FORMER_LINKS {
            let path = self.data().join(name);
            if std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink()) {
                std::fs::remove_file(&path).map_err(io_error("removing", &path))?;
                std::fs::create_dir(&path).map_err(io_error("creating", &path))?;
                user.own(&path).map_err(io_error("changing the owner of", &path))?;
                let private = std::fs::Permissions::from_mode(0o700);
                std::fs::set_permissions(&path, private).map_err(io_error("closing", &path))?;
            }
        }
        Ok(())
    }

    fn write_settings_in(&self, data: &Path, user: &RunAs) -> Result<(), ClusterError> {
        let path = data.join("auriga.conf");
        if std::fs::read_to_string(&path).is_ok_and(|there| there == SETTINGS) {
            return Ok(());
        }
        std::fs::write(&path, SETTINGS).map_err(io_error("writing", &path))?;
        user.own(&path).map_err(io_error("changing the owner of", &path))
    }
}

fn sync(path: &Path) -> Result<(), ClusterError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(io_error("syncing", path))
}

/// Directories in PGDATA that earlier versions replaced by links.
const FORMER_LINKS: [&str; 2] = ["base/pgsql_tmp", "pg_stat_tmp"];

/// What `initdb` is told of the locale.
fn locale_arguments(locale: Option<&str>) -> Vec<String> {
    match locale.map(|locale| (locale, locale.strip_prefix("icu:"))) {
        None if environment_is_usable() => Vec::new(),
        None => {
            tracing::warn!(
                "the locale of the environment (LC_ALL, LANG) is not there, or not for UTF-8: using C instead"
            );
            vec!["--locale=C".to_owned()]
        }
        Some((_, Some(icu))) => vec!["--locale-provider=icu".to_owned(), format!("--icu-locale={icu}")],
        Some((system, None)) => vec![format!("--locale={system}")],
    }
}

/// Whether `initdb` will take the environment's locale together with UTF-8.
fn environment_is_usable() -> bool {
    // SAFETY: the helper that creates a cluster has one thread, and both strings are constants.
    let codeset = unsafe {
        if libc::setlocale(libc::LC_ALL, c"".as_ptr()).is_null() {
            return false;
        }
        std::ffi::CStr::from_ptr(libc::nl_langinfo(libc::CODESET))
    };
    // The latter is what C and POSIX say; PostgreSQL takes those for any encoding.
    [c"UTF-8", c"ANSI_X3.4-1968"].contains(&codeset)
}

/// Settings that are right on this storage and wrong elsewhere. They are given on the command line, not written into
/// PGDATA: a base backup takes the files of PGDATA along, to where a page can be torn. The instance's own settings win.
pub const ON_THE_COMMAND_LINE: [(&str, &str); 11] = [
    // A page write is one mini-transaction of the volume's log: all of it survives or none, so pages can't be torn.
    ("full_page_writes", "off"),
    // A new WAL segment is sparse. Filling it with zeros would send 16 MiB of nothing to six segments, and recycling an
    // old one would make each write a difference from stale bytes.
    ("wal_init_zero", "off"),
    ("wal_recycle", "off"),
    // fdatasync waits for the Volume Durable LSN. There is no kernel cache whose write-back would need nudging.
    ("wal_sync_method", "fdatasync"),
    ("checkpoint_flush_after", "0"),
    ("bgwriter_flush_after", "0"),
    ("backend_flush_after", "0"),
    ("wal_writer_flush_after", "0"),
    // Whatever an open volume shows is durable: a recovery need not open and synchronise each file first.
    ("recovery_init_sync_method", "syncfs"),
    // A tablespace elsewhere is refused: it would not be on the next machine. With LOCATION '' one is made in PGDATA.
    ("allow_in_place_tablespaces", "on"),
    // A recovery says each second how far it is. The instance's health shows it.
    ("log_startup_progress_interval", "1s"),
];

/// The file that PGDATA includes: settings that suit this storage and do no harm elsewhere.
pub const SETTINGS: &str = "\
# Written by auriga at every start. To change one of these, set it in postgresql.conf after the include, or use
# ALTER SYSTEM. What is right on this storage alone (full_page_writes = off, for example) is not in any file: auriga
# gives it on the command line, and the settings in its configuration win over that.

# A checkpoint writes differences, not pages, so it may be frequent; recovery after a crash is then short. Measured on
# two cores with one client that only updates: with 2GB and a target of 0.9, recovery took 14 s and the load 180000 rows
# a second; with these, 5 s and 157000. Transactions of a few rows are not slowed: for them the time comes first.
checkpoint_timeout = 30s
max_wal_size = 256MB
checkpoint_completion_target = 0.5
checkpoint_warning = 0

# An fsync that failed means that a newer writer has taken over, or that the quorum is gone past its deadline.
# PostgreSQL must then stop and recover, never try the same pages again.
data_sync_retry = off

# To the supervisor, which keeps it on the instance's own disk, not on the volume.
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] '
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_is_of_icu_of_the_system_or_the_environment() {
        assert_eq!(locale_arguments(Some("C")), ["--locale=C"]);
        assert_eq!(locale_arguments(Some("icu:de-DE")), ["--locale-provider=icu", "--icu-locale=de-DE"]);
    }

    #[test]
    fn what_a_base_backup_takes_along_is_safe_elsewhere() {
        for (name, _) in ON_THE_COMMAND_LINE {
            assert!(!SETTINGS.contains(&format!("\n{name} =")), "{name}");
        }
    }
}
