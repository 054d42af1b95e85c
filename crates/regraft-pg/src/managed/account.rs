//! The operating system's user that a server runs as: PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, ErrorKind, Result};

/// Who the server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// Whoever this process runs as.
    Own,
    /// Somebody else, because this process runs as root.
    Other { uid: u32, gid: u32 },
}

/// Nobody, on every system that matters.
const NOBODY: u32 = 65534;

impl Account {
    /// Root hands over to the user `postgres`, or to nobody where there is none.
    pub(super) fn choose() -> Self {
        // SAFETY: geteuid has no arguments, touches no memory and can't fail.
        let own = unsafe { libc::geteuid() };
        if own != 0 {
            return Self::Own;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = user_named("postgres", &users).unwrap_or((NOBODY, NOBODY));
        Self::Other { uid, gid }
    }

    /// Makes a command run as this account, apart from our terminal: an interrupt typed there is
    /// for us, and what becomes of the server is our decision.
    pub(super) fn apply(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command.process_group(0).current_dir("/");
        for name in [
            "PGDATA",
            "PGPORT",
            "PGHOST",
            "PGUSER",
            "PGOPTIONS",
            "PGPASSWORD",
        ] {
            command.env_remove(name);
        }
    }

    /// Gives a file or directory to this account.
    pub(super) fn own(self, path: &Path) -> Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid), Some(gid)).map_err(|error| {
                Error::io(
                    format_args!("changing the owner of {}", path.display()),
                    &error,
                )
            }),
        }
    }

    /// Checks that this account can enter every directory above `path`; root could, but the
    /// account may not.
    pub(super) fn check_way_to(self, path: &Path) -> Result<()> {
        let Self::Other { uid, gid } = self else {
            return Ok(());
        };
        for dir in path
            .ancestors()
            .skip(1)
            .filter(|dir| !dir.as_os_str().is_empty())
        {
            let metadata = fs::metadata(dir)
                .map_err(|error| Error::io(format_args!("reading {}", dir.display()), &error))?;
            let needed = match metadata {
                _ if metadata.uid() == uid => 0o100,
                _ if metadata.gid() == gid => 0o010,
                _ => 0o001,
            };
            if metadata.mode() & needed == 0 {
                return Err(Error::new(
                    ErrorKind::Install,
                    format!(
                        "PostgreSQL can't run as root, and the user it would run as (uid {uid}) \
                         can't enter {}",
                        dir.display()
                    ),
                )
                .with_hint(
                    "choose a directory that every user can enter, such as one below /tmp",
                ));
            }
        }
        Ok(())
    }
}

fn user_named(name: &str, users: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0::/:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:104:A,,:/v:/b\n";
        assert_eq!(user_named("postgres", users), Some((101, 104)));
        assert_eq!(user_named("nobody", users), None);
        assert_eq!(user_named("bad", "bad:x:a:b"), None);
    }

    #[test]
    fn a_closed_directory_on_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let stranger = Account::Other {
            uid: 54321,
            gid: 54321,
        };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let error = stranger.check_way_to(&dir.path().join("data")).unwrap_err();
        assert!(
            error.message().contains(&dir.path().display().to_string()),
            "{error}"
        );
        assert!(Account::Own.check_way_to(&dir.path().join("data")).is_ok());
        assert!(stranger.check_way_to(Path::new("/tmp/x")).is_ok());
    }
}
