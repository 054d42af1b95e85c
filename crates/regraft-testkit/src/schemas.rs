//! Random projects: a legacy schema with random rows, a target schema and the rules between them,
//! and an oracle in plain SQL that says what a migration must come to.

mod code;
mod document;
mod generator;
mod oracle;
mod table;
mod value;
mod writing;

use std::path::Path;

use crate::dice::Dice;
use crate::rehearsal::Rehearsal;
use table::Table;

/// A random project.
#[derive(Debug)]
pub struct RandomProject {
    seed: u64,
    tables: Vec<Table>,
}

impl RandomProject {
    /// The project that a seed gives.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            tables: generator::tables(&mut Dice::seeded(seed)),
        }
    }

    /// What gives the same project again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether every entity can be loaded in bulk.
    pub fn allows_bulk(&self) -> bool {
        self.tables.iter().all(|table| table.partitions == 0)
    }

    /// Rows of all its tables.
    pub fn rows(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len()).sum()
    }

    /// Writes the project's folder.
    pub fn write(&self, folder: &Path) {
        writing::write(&self.tables, folder);
    }

    /// What is not in the target as the oracle says it must be; empty when nothing is wrong.
    pub fn judge(&self, rehearsal: &Rehearsal<'_>) -> Vec<String> {
        oracle::judge(&self.tables, rehearsal)
    }
}
