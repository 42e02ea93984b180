//! Asks PostgreSQL whether it takes the settings that it is to have, before anything is started.

use super::find::Installation;
use super::user::RunAs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Why the settings can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// PostgreSQL's own words.
    #[error("PostgreSQL does not take a setting: {0}")]
    Refused(String),
    /// It was built for pages of another size.
    #[error(
        "{program} was built for pages of {size} bytes; a volume keeps pages of {PAGE_SIZE} bytes whole, and no others"
    )]
    PageSize {
        /// The program.
        program: String,
        /// What it says.
        size: String,
    },
    /// It could not be asked.
    #[error("asking {program} about settings: {source}")]
    Io {
        /// The program.
        program: String,
        /// How it failed.
        source: io::Error,
    },
}

/// Bytes of a page.
const PAGE_SIZE: usize = 8192;

/// Checks that pages have the volume's size, and names and values. (What depends on other settings, or on the machine, shows at the start only.)
///
/// # Errors
/// PostgreSQL does not take them.
pub fn check(pg: &Installation, user: &RunAs, settings: &[(String, String)]) -> Result<(), SettingsError> {
    let program = pg.bin.join("postgres");
    let mut command = Command::new(&program);
    // To be asked for a setting's value it needs no data directory.
    command.args(["-D", "/", "-C", "block_size", "-c", "config_file=/dev/null"]);
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    user.apply(&mut command).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    let output =
        command.output().map_err(|source| SettingsError::Io { program: program.display().to_string(), source })?;
    if !output.status.success() {
        return Err(SettingsError::Refused(complaint(&String::from_utf8_lossy(&output.stderr))));
    }
    same_page_size(&program, String::from_utf8_lossy(&output.stdout).trim())
}

fn same_page_size(program: &Path, size: &str) -> Result<(), SettingsError> {
    match size.parse() == Ok(PAGE_SIZE) {
        true => Ok(()),
        false => Err(SettingsError::PageSize { program: program.display().to_string(), size: size.to_owned() }),
    }
}

/// The error and the hint among the lines that PostgreSQL wrote.
fn complaint(text: &str) -> String {
    let part = |kind: &str| text.lines().find_map(|line| Some(line.split_once(kind)?.1.trim()));
    match (part("FATAL:"), part("HINT:")) {
        (Some(error), Some(hint)) => format!("{error} ({hint})"),
        (Some(error), None) => error.to_owned(),
        (None, _) => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::find;

    #[test]
    fn what_postgresql_does_not_take_is_said_in_its_own_words() {
        let pg = find::find(None).unwrap_or_else(|error| panic!("{error}")).remove(0);
        let user = RunAs::resolve(None).unwrap();
        let check = |name: &str, value: &str| check(&pg, &user, &[(name.to_owned(), value.to_owned())]);
        check("shared_buffers", "16MB").unwrap();
        super::check(&pg, &user, &[]).unwrap();
        let other = same_page_size(Path::new("/opt/postgres"), "4096").unwrap_err().to_string();
        assert!(other.contains("/opt/postgres was built for pages of 4096 bytes"), "{other}");
        let told = |name, value| check(name, value).unwrap_err().to_string();
        assert!(told("shared_buffers", "lots").contains("invalid value for parameter \"shared_buffers\": \"lots\""));
        assert!(told("shared_bufers", "16MB").contains("unrecognized configuration parameter \"shared_bufers\""));
    }
}
