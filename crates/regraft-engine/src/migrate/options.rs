//! How a migration is to be done.

use std::str::FromStr;

/// Options of [`crate::migrate`].
#[derive(Debug, Clone, Default)]
pub struct MigrateOptions {
    /// Do everything inside a transaction that is rolled back.
    pub dry_run: bool,
    /// Bulk, in-place, or what fits.
    pub mode: ModeChoice,
    /// Refuse unless the plan has this hash.
    pub plan_hash: Option<String>,
    /// Only go on with this run, which was left unfinished; refuse when it is none any more.
    pub only_resume: Option<String>,
}

/// Which mode an entity is loaded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModeChoice {
    /// Bulk for a first load of many rows into an empty table, in-place otherwise.
    #[default]
    Auto,
    /// Bulk wherever the table is empty; refused otherwise.
    Bulk,
    /// In place, into tables that may hold rows of others.
    InPlace,
}

impl ModeChoice {
    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Bulk => "bulk",
            Self::InPlace => "in-place",
        }
    }
}

impl FromStr for ModeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "bulk" => Ok(Self::Bulk),
            "in-place" => Ok(Self::InPlace),
            _ => Err(format!("`{text}` is none of auto, bulk, in-place")),
        }
    }
}
