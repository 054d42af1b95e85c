//! What a validation found.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::distribution::ColumnDistribution;
use super::options::Method;

/// How many legacy ids are kept of a finding: as many can be looked at again.
pub(super) const KEPT: usize = 10_000;

/// The outcome of a validation: what was proven, what was found, and what could not be checked.
#[derive(Debug, Clone, Serialize)]
pub struct Validation {
    /// Its id in `regraft.migration_validation_reports`.
    pub validation_id: String,
    /// Entity by entity, parents first.
    pub entities: Vec<EntityValidation>,
    /// The checks of the migration as a whole: `entities`, `runs`, `quarantine` and `catalog` in
    /// the final validation, and `invariants` where the selection has any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub migration: Vec<Check>,
    /// The invariants that were checked, in the order of their files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<InvariantOutcome>,
    /// What nobody looked at, by name and with the reason.
    pub not_checked: Vec<String>,
    /// What is no fault, but good to know before users come.
    pub advice: Vec<String>,
    /// Whether it came to its end: false when the time was over, or a privilege missing.
    pub complete: bool,
    /// Whether it is complete and every check of every entity passed.
    pub passed: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// The checks of one entity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntityValidation {
    /// The entity.
    pub entity: String,
    /// Rows of its source query as it is now, before filters.
    pub rows: u64,
    /// `account`, `counts`, `mapping`, `references`, `columns` and `performance`, as far as they
    /// were asked for.
    pub checks: Vec<Check>,
    /// How its rows were compared: [`Method::Stream`] or [`Method::Sums`]; `None` where they were not.
    pub method: Option<Method>,
    /// Columns that were fetched row by row though the others were compared by sums: the servers
    /// can't bring both sides into one form to hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetched_columns: Vec<String>,
    /// How the values of each column are distributed, as they should be and as they are. Empty
    /// where rows were compared by sums and the table is not known to be the entity's alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<ColumnDistribution>,
    /// Differences that were gone when their rows were looked at again in later views of both
    /// databases: somebody was writing.
    pub transient: u64,
    /// How many of the rows that differ the source has changed since they were moved; `None` where
    /// that was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_since: Option<u64>,
    /// Seconds they took.
    pub seconds: f64,
}

/// The name of a check, one of a few.
pub(super) type CheckName = &'static str;

/// One check of one entity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// - `account`: every source row is mapped, in quarantine or dropped by a filter, once, and the
    ///   ledger's figures say the same;
    /// - `counts`: every mapping leads to a row of the target table, and every row has a mapping;
    /// - `mapping`: one legacy id, one key, and the row agrees on the legacy id it came from;
    /// - `references`: every edge of the source goes between the mapped ends;
    /// - `columns`: every mapped column holds what recomputing it from the source gives;
    /// - `performance`: the table has the indexes and statistics that queries need.
    ///
    /// Of the migration as a whole:
    /// - `entities`: every entity of the project was migrated by a run that finished;
    /// - `runs`: no run is unfinished, and every account of every run balances;
    /// - `quarantine`: what is left behind is within the project's limit;
    /// - `queries`: the project's own queries are answered within their limits;
    /// - `catalog`: the target declares what it did when the latest migration finished;
    /// - `invariants`: the project's own figures are the same in both databases.
    #[serde(deserialize_with = "known_name")]
    pub name: CheckName,
    /// Whether nothing was found.
    pub passed: bool,
    /// What was looked at: source rows (`account`), rows of the table (`counts`), mappings
    /// (`mapping`), references that are not NULL (`references`), rows compared (`columns`);
    /// entities, runs, rows in quarantine, tables and groups for those of the migration.
    pub looked_at: u64,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// One kind of difference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong, with the column, filter or run it is about; never a value of a row.
    pub what: String,
    /// How many rows.
    pub rows: u64,
    /// The first legacy ids, as many as were asked for; a key of the target, marked as such, where
    /// there is none.
    pub examples: Vec<String>,
}

/// The names of the checks of an entity.
const NAMES: [&str; 6] = [
    "account",
    "counts",
    "mapping",
    "references",
    "columns",
    "performance",
];

fn known_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(from)?;
    let known = NAMES.into_iter().find(|known| *known == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("there is no check {name:?}")))
}

impl Check {
    /// The same with further findings.
    pub(super) fn with(self, findings: Vec<Finding>) -> Self {
        let all = self.findings.into_iter().chain(findings).collect();
        Self::new(self.name, self.looked_at, all)
    }

    /// A check with what it found.
    pub(super) fn new(name: &'static str, looked_at: u64, findings: Vec<Finding>) -> Self {
        Self {
            name,
            passed: findings.is_empty(),
            looked_at,
            findings,
        }
    }

    /// Rows of all findings together.
    pub(super) fn rows_found(&self) -> u64 {
        self.findings.iter().map(|finding| finding.rows).sum()
    }
}

/// Counts rows and keeps the first few of their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Rows so far.
    pub(super) rows: u64,
    examples: Vec<String>,
}

impl Tally {
    /// Rows that were counted elsewhere.
    pub(super) fn of(rows: u64, examples: Vec<String>) -> Self {
        Self { rows, examples }
    }

    /// Counts one more row.
    pub(super) fn add(&mut self, id: impl FnOnce() -> String) {
        self.rows += 1;
        if self.examples.len() < KEPT {
            self.examples.push(id());
        }
    }

    /// The legacy ids of all of them; `None` when there are too many to look at again.
    pub(super) fn ids(&self) -> Option<&[String]> {
        (self.rows == self.examples.len() as u64).then_some(&self.examples)
    }

    /// Leaves out the rows that a later look did not count; how many these are.
    pub(super) fn confirm(&mut self, later: Option<&Self>) -> u64 {
        if self.ids().is_none() {
            return 0;
        }
        let still: HashSet<&String> = later.iter().flat_map(|tally| &tally.examples).collect();
        self.examples.retain(|id| still.contains(id));
        let gone = self.rows - self.examples.len() as u64;
        self.rows -= gone;
        gone
    }

    /// The finding, unless nothing was counted.
    pub(super) fn finding(&self, what: impl Into<String>) -> Option<Finding> {
        (self.rows > 0).then(|| Finding {
            what: what.into(),
            rows: self.rows,
            examples: self.examples.clone(),
        })
    }
}

/// Tallies by what they are of.
#[derive(Debug, Clone)]
pub(super) struct Tallies<K>(BTreeMap<K, Tally>);

impl<K> Default for Tallies<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K> IntoIterator for Tallies<K> {
    type Item = (K, Tally);
    type IntoIter = std::collections::btree_map::IntoIter<K, Tally>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Ord + Copy> Tallies<K> {
    /// Counts one more row.
    pub(super) fn add(&mut self, of: K, id: impl FnOnce() -> String) {
        self.0.entry(of).or_default().add(id);
    }

    /// Adds a tally of what nothing was counted of so far.
    pub(super) fn insert(&mut self, of: K, tally: Tally) {
        self.0.insert(of, tally);
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &Tally)> {
        self.0.iter().map(|(of, tally)| (*of, tally))
    }

    /// What rows were counted of.
    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.iter()
            .filter(|(_, tally)| tally.rows > 0)
            .map(|(of, _)| of)
    }

    /// The legacy ids of all of them; `None` where there are too many to look at again.
    pub(super) fn ids(&self) -> Option<Vec<String>> {
        let ids: Option<Vec<&[String]>> = self.0.values().map(Tally::ids).collect();
        Some(ids?.concat())
    }

    /// Leaves out what a later look at the same legacy ids did not find; how much that is.
    pub(super) fn confirm(&mut self, later: &Self) -> u64 {
        let tallies = self.0.iter_mut();
        tallies
            .map(|(of, tally)| tally.confirm(later.0.get(of)))
            .sum()
    }
}

/// What came of one invariant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvariantOutcome {
    /// Its name.
    pub name: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `entity` where it is written through one, `queries` for a pair of queries.
    pub form: String,
    /// The entities it is about; empty for all.
    pub entities: Vec<String>,
    /// `exact`, or how far figures may be apart: `within 0.01`, `within 0.5%`.
    pub tolerance: String,
    /// Groups that either side has.
    pub groups: u64,
    /// Groups that differ; 1 where it could not be computed.
    pub differences: u64,
    /// Whether none does.
    pub passed: bool,
    /// Groups that differed and did not when it was computed again in later views of both
    /// databases: somebody was writing.
    #[serde(default)]
    pub transient: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// The invariants of the selected entities, and the check `invariants` that they make up; none
/// where the selection has none.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) check: Option<Check>,
    pub(super) outcomes: Vec<InvariantOutcome>,
}

impl Checked {
    /// The time it took.
    pub(super) fn took(&self) -> Duration {
        let seconds = self.outcomes.iter().map(|outcome| outcome.seconds).sum();
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

/// What is no fault but good to know.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Advice {
    /// Tables whose statistics autovacuum will see to.
    pub(super) stale: Vec<String>,
    /// Tables with many dead rows that autovacuum will see to.
    pub(super) bloated: Vec<String>,
    /// Indexes that nobody uses, after their entities.
    pub(super) unused: Vec<String>,
    /// Rows that differ and that the source has changed since they were moved, by entity.
    pub(super) changed: Vec<String>,
}

impl Advice {
    /// Adds what is good to know of another table.
    pub(super) fn add(&mut self, other: Self) {
        self.stale.extend(other.stale);
        self.bloated.extend(other.bloated);
        self.unused.extend(other.unused);
        self.changed.extend(other.changed);
    }

    /// One remark for each thing to do.
    pub(super) fn remarks(self) -> Vec<String> {
        let stale = (!self.stale.is_empty()).then(|| {
            format!(
                "statistics: missing or old on {}; until autovacuum has taken them queries may be planned badly, or run `analyze`",
                self.stale.join(", ")
            )
        });
        let bloated = (!self.bloated.is_empty()).then(|| {
            format!(
                "dead rows: many in {}; autovacuum will clean them away, or run `vacuum`",
                self.bloated.join(", ")
            )
        });
        self.changed
            .into_iter()
            .chain(stale)
            .chain(bloated)
            .chain(self.unused)
            .collect()
    }
}
