//! A cluster on disk: made by `initdb`, configured by us, deleted by us.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::installation::Installation;
use super::marker;
use super::server::SUPERUSER;
use crate::error::{Error, ErrorKind, Result};

/// The directories of one server.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Holds the marker, and below it all else but sockets whose path would be too long.
    pub(super) dir: PathBuf,
    pub(super) socket_dir: PathBuf,
}

/// The longest path that the address of a Unix socket can hold.
const LONGEST_SOCKET_PATH: usize = 107;

impl Layout {
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgresql.log")
    }

    /// The directories of a server that exists.
    pub(super) fn of(dir: &Path, socket_dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: absolute(dir)?,
            socket_dir: socket_dir.to_path_buf(),
        })
    }

    /// Makes the directories, for this account alone.
    ///
    /// # Errors
    ///
    /// `Settings` if there is something in `dir` already.
    pub(super) fn make(dir: &Path, account: Account) -> Result<Self> {
        let dir = absolute(dir)?;
        if dir.join(marker::FILE).exists() {
            return Err(Error::new(
                ErrorKind::Settings,
                format!("{} holds a server already", dir.display()),
            )
            .with_hint(
                "stop that one first (`regraft demo --stop`), or choose another directory",
            ));
        }
        if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::new(
                ErrorKind::Settings,
                format!("{} is not empty", dir.display()),
            )
            .with_hint("choose a directory that is empty or doesn't exist yet"));
        }
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| Error::io(format_args!("making {}", parent.display()), &error))?;
        }
        account.check_way_to(&dir)?;
        make_private(&dir, account)?;
        let mut socket_dir = dir.join("socket");
        if socket_dir.as_os_str().len() + "/.s.PGSQL.65535".len() > LONGEST_SOCKET_PATH {
            socket_dir = std::env::temp_dir().join(format!("regraft-{}", &random_hex()[..12]));
        }
        make_private(&socket_dir, account)?;
        Ok(Self { dir, socket_dir })
    }

    /// Deletes what this program put there, the marker last but for the directory itself, which
    /// goes if it is empty then.
    pub(super) fn delete(&self) -> Result<()> {
        let data = self.data();
        for dir in [data.as_path(), &self.socket_dir] {
            gone(fs::remove_dir_all(dir), dir)?;
        }
        for file in [self.log(), self.dir.join(marker::FILE)] {
            gone(fs::remove_file(&file), &file)?;
        }
        match fs::remove_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
            outcome => gone(outcome, &self.dir),
        }
    }
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir)
        .map_err(|error| Error::io(format_args!("resolving {}", dir.display()), &error))
}

fn gone(outcome: std::io::Result<()>, path: &Path) -> Result<()> {
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(
            format_args!("deleting {}", path.display()),
            &error,
        )),
        _ => Ok(()),
    }
}

fn make_private(dir: &Path, account: Account) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io(format_args!("making {}", dir.display()), &error));
        }
        _ => {}
    }
    account.own(dir)
}

/// 128 random bits in hexadecimal, from the operating system.
pub(super) fn random_hex() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Runs `initdb` and writes the configuration.
pub(super) fn create(
    layout: &Layout,
    installation: &Installation,
    account: Account,
    password: &str,
    settings: &[(String, String)],
) -> Result<()> {
    let password_file = layout.dir.join("password");
    write_private(&password_file, password, account)?;
    // The locale is not on every system under this name; C orders and compares the same.
    let outcome = initdb(layout, installation, account, &password_file, "C.UTF-8")
        .or_else(|_| initdb(layout, installation, account, &password_file, "C"));
    gone(fs::remove_file(&password_file), &password_file)?;
    outcome?;
    let mut text = String::from("\n# regraft\n");
    for (name, value) in settings {
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    let file = layout.data().join("postgresql.conf");
    fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .and_then(|mut configuration| configuration.write_all(text.as_bytes()))
        .map_err(|error| Error::io(format_args!("writing {}", file.display()), &error))
}

fn initdb(
    layout: &Layout,
    installation: &Installation,
    account: Account,
    password_file: &Path,
    locale: &str,
) -> Result<()> {
    let mut command = Command::new(installation.bin_dir.join("initdb"));
    account.apply(&mut command);
    let output = command
        .arg("--pgdata")
        .arg(layout.data())
        .arg("--pwfile")
        .arg(password_file)
        .arg(format!("--locale={locale}"))
        .arg(format!("--username={SUPERUSER}"))
        .args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::io("running initdb", &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said
        .lines()
        .find(|line| line.contains("error:"))
        .or(said.lines().last());
    Err(Error::new(
        ErrorKind::Install,
        format!("initdb failed: {}", reason.unwrap_or("it doesn't say why")),
    ))
}

fn write_private(path: &Path, text: &str, account: Account) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::io(format_args!("writing {}", path.display()), &error))?;
    account.own(path)
}

/// The configuration that every server of ours gets before the caller's own: reachable from this
/// machine only, ready for logical replication (a cluster that has a slot would not start without),
/// and room for wide schemas. An ephemeral one need not survive a crash of the machine.
pub(super) fn base_settings(socket_dir: &Path, ephemeral: bool) -> Vec<(String, String)> {
    let socket_dir = socket_dir.display().to_string();
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", socket_dir.as_str()),
        ("unix_socket_permissions", "0700"),
        ("password_encryption", "scram-sha-256"),
        ("max_connections", "100"),
        ("wal_level", "logical"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
        ("max_prepared_transactions", "10"),
        ("max_locks_per_transaction", "256"),
        ("max_wal_size", "2GB"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("lc_messages", "C"),
        ("logging_collector", "off"),
        ("cluster_name", "regraft"),
    ];
    if ephemeral {
        // `synchronous_commit` stays on: a crash of the server alone must not lose a commit.
        settings.extend([("fsync", "off"), ("full_page_writes", "off")]);
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    settings.into_iter().map(owned).collect()
}
