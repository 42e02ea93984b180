//! Whom PostgreSQL runs as. It refuses to run as root, and rightly.

use nix::unistd::{Gid, Uid, User, geteuid};
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The account that owns PGDATA and runs `postgres`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunAs {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Whether that is another user than this process's.
    switch: bool,
}

/// Why no account can be used.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Not in the password file.
    #[error("there is no user {0:?} on this machine")]
    Unknown(String),
    /// PostgreSQL won't.
    #[error("PostgreSQL refuses to run as root: name another user")]
    Root,
    /// Only root may become another user.
    #[error("only root can run PostgreSQL as another user ({wanted:?}); this process is {is:?}")]
    NotRoot {
        /// Whom the configuration names.
        wanted: String,
        /// Who we are.
        is: String,
    },
    /// The password file could not be read.
    #[error("reading the user database: {0}")]
    Lookup(#[from] nix::Error),
}

impl RunAs {
    /// `wanted`, if given. Otherwise: this process's user, or, for root, `postgres` (which packages create) or `nobody`.
    ///
    /// # Errors
    /// No such user, root, or a switch of user without being root.
    pub fn resolve(wanted: Option<&str>) -> Result<RunAs, UserError> {
        let me = geteuid();
        let user = match wanted {
            Some(name) => User::from_name(name)?.ok_or_else(|| UserError::Unknown(name.to_owned()))?,
            None if !me.is_root() => User::from_uid(me)?.ok_or_else(|| UserError::Unknown(me.to_string()))?,
            None => match User::from_name("postgres")? {
                Some(user) => user,
                None => User::from_name("nobody")?.ok_or_else(|| UserError::Unknown("nobody".to_owned()))?,
            },
        };
        if user.uid.is_root() {
            return Err(UserError::Root);
        }
        if !me.is_root() && user.uid != me {
            return Err(UserError::NotRoot { wanted: user.name, is: me.to_string() });
        }
        Ok(RunAs { switch: user.uid != me, name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// Makes `command` run as this user.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if self.switch {
            // Supplementary groups are dropped by the standard library when root sets another uid.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives a file or directory to this user.
    ///
    /// # Errors
    /// Returns the operating system's error.
    pub fn own(&self, path: &Path) -> std::io::Result<()> {
        if self.switch {
            nix::unistd::chown(path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_never_chosen() {
        assert!(matches!(RunAs::resolve(Some("root")), Err(UserError::Root)));
        assert!(matches!(RunAs::resolve(Some("no-such-user-here")), Err(UserError::Unknown(_))));
        assert_ne!(RunAs::resolve(None).unwrap().uid, 0);
    }
}
