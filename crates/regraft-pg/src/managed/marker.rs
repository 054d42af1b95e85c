//! The file that says a directory is a server of ours, and all it takes to find that server again.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The file's name within the server's directory.
pub(super) const FILE: &str = "regraft-server.toml";

/// The format that this program writes, and the only one it reads.
const FORMAT: u32 = 1;

/// What the file holds. Nothing is ever deleted in a directory without one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) format: u32,
    pub(super) name: String,
    pub(super) bin_dir: PathBuf,
    pub(super) socket_dir: PathBuf,
    /// 0 until the server has started for the first time.
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
}

impl Marker {
    pub(super) fn new(name: &str, bin_dir: &Path, socket_dir: &Path, password: String) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            bin_dir: bin_dir.to_path_buf(),
            socket_dir: socket_dir.to_path_buf(),
            port: 0,
            user: super::server::SUPERUSER.to_owned(),
            password,
        }
    }

    /// Reads the marker of a directory.
    ///
    /// # Errors
    ///
    /// `Settings` if there is none, or one of another format.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::new(
                ErrorKind::Settings,
                format!(
                    "{} is not a server of this program: it has no {FILE}",
                    dir.display()
                ),
            ),
            _ => Error::io(format_args!("reading {}", path.display()), &error),
        })?;
        // The parser's message would quote the line, and one of them is the password.
        let marker: Self = toml::from_str(&text).map_err(|_| {
            Error::new(
                ErrorKind::Settings,
                format!("{} is malformed", path.display()),
            )
        })?;
        if marker.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Settings,
                format!(
                    "{} has format {}; this program knows {FORMAT}",
                    path.display(),
                    marker.format
                ),
            )
            .with_hint("use the version of regraft that made it"));
        }
        Ok(marker)
    }

    /// Writes the marker, readable by its owner only.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let text = toml::to_string(self).map_err(|_| {
            Error::new(
                ErrorKind::Io,
                format!("{} could not be written", path.display()),
            )
        })?;
        let incoming = dir.join(format!("{FILE}.new"));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&incoming)
            .and_then(|mut file| {
                file.write_all(b"# A PostgreSQL server that regraft made and will delete.\n")?;
                file.write_all(text.as_bytes())
            })
            .and_then(|()| fs::rename(&incoming, &path));
        written.map_err(|error| Error::io(format_args!("writing {}", path.display()), &error))
    }
}
