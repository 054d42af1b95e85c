//! `regraft.toml`: what holds for the project as a whole.

use indexmap::IndexMap;

use crate::source_files::Spanned;

/// The project's manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Version of the project format.
    pub version: u32,
    /// The project's name.
    pub name: String,
    /// What the migration is about.
    pub description: Option<String>,
    /// What the bundled demo builds its source from.
    pub source: ManifestSource,
    /// What is known about the target as a whole.
    pub target: ManifestTarget,
    /// What a run may leave behind and still be a success.
    pub limits: Limits,
    /// Defaults for how a run works.
    pub run: RunSettings,
    /// What becomes of the results of validations.
    pub validation: ValidationSettings,
    /// Named lists of entities and other groups, in file order, as written (not expanded).
    pub groups: IndexMap<String, Vec<Spanned<String>>>,
}

/// The `[source]` table.
#[derive(Debug, Clone, Default)]
pub struct ManifestSource {
    /// SQL files that create the legacy schema, in order.
    pub schema: Vec<String>,
    /// SQL files that fill it, in order.
    pub generator: Vec<String>,
}

/// The `[target]` table.
#[derive(Debug, Clone)]
pub struct ManifestTarget {
    /// SQL files that create the target schema, in order.
    pub schema: Vec<String>,
    /// PostgreSQL schema of target tables that are named without one.
    pub namespace: String,
}

/// The `[limits]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// How much of an entity may be in quarantine or blocked.
    pub quarantine: Budget,
}

/// How many rows of an entity may stay behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// At most this many rows.
    Rows(u64),
    /// At most this part of the entity's source rows, from 0 to 1.
    Fraction(f64),
}

/// The `[run]` table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunSettings {
    /// Source rows per batch.
    pub batch_size: Option<u32>,
    /// Batches moved at the same time.
    pub workers: Option<u32>,
}

/// The `[validation]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationSettings {
    /// Days for which results are kept.
    pub keep_days: u32,
}

impl Default for ValidationSettings {
    fn default() -> Self {
        ValidationSettings { keep_days: 90 }
    }
}
