//! What a validation found, and its record in the ledger.

use std::collections::HashSet;
use std::time::Duration;

use regraft_ledger::ValidationRecord;
use regraft_pg::Session;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::distribution::ColumnDistribution;
use super::invariants::{Checked, InvariantOutcome};
use super::options::{Method, ValidationType};
use super::performance::Advice;
use crate::error::Result;

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
#[derive(Debug, Clone, Serialize)]
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
    /// How the values of each column are distributed, as they should be and as they are; only
    /// where rows were streamed: equal sums mean equal distributions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<ColumnDistribution>,
    /// Differences that were gone when their rows were looked at again in later views of both
    /// databases: somebody was writing.
    pub transient: u64,
    /// Seconds they took.
    pub seconds: f64,
}

/// One check of one entity.
#[derive(Debug, Clone, Serialize)]
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
    pub name: &'static str,
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
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What is wrong, with the column, filter or run it is about; never a value of a row.
    pub what: String,
    /// How many rows.
    pub rows: u64,
    /// The first legacy ids, as many as were asked for; a key of the target, marked as such, where
    /// there is none.
    pub examples: Vec<String>,
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

    fn rows_found(&self) -> u64 {
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

/// A validated entity with the time that its proofs took.
pub(super) struct Timed {
    pub(super) validation: EntityValidation,
    pub(super) completeness: Duration,
    /// References and columns are looked at in one pass.
    pub(super) pass: Duration,
    pub(super) performance: Duration,
    /// What is no fault but good to know.
    pub(super) advice: Advice,
}

impl Timed {
    /// The records of this entity: type, checks that belong to it, time.
    fn records(&self) -> [(ValidationType, &'static [&'static str], Duration); 4] {
        [
            (
                ValidationType::CompletenessCheck,
                &["account", "counts", "mapping"],
                self.completeness,
            ),
            (
                ValidationType::RelationshipIntegrity,
                &["references"],
                self.pass,
            ),
            (ValidationType::DataIntegrity, &["columns"], self.pass),
            (
                ValidationType::PerformanceCheck,
                &["performance"],
                self.performance,
            ),
        ]
    }
}

/// The checks of the migration as a whole, if there are any, and the time they took.
pub(super) struct Whole<'a> {
    pub(super) checks: &'a [Check],
    pub(super) took: Duration,
    pub(super) invariants: &'a Checked,
    /// The check of the project's queries, with the time it took.
    pub(super) queries: Option<(&'a Check, Duration)>,
}

/// The validation itself, as it is stored.
pub(super) struct Summary<'a> {
    pub(super) validation: &'a Validation,
    /// Entities that could not be examined to the end.
    pub(super) unfinished: u64,
    /// What it was: project, program, what was asked for.
    pub(super) context: Value,
    /// Results older than this are deleted.
    pub(super) keep_days: u32,
}

impl Summary<'_> {
    /// Differences found; an entity that was not finished counts as one.
    fn discrepancies(&self) -> u64 {
        let of_entities = self.validation.entities.iter().flat_map(|e| &e.checks);
        let checks = of_entities.chain(&self.validation.migration);
        self.unfinished + checks.map(Check::rows_found).sum::<u64>()
    }

    async fn store(&self, target: &Session, validation_id: Uuid) -> Result<()> {
        let rows: u64 = self.validation.entities.iter().map(|e| e.rows).sum();
        let mut context = self.context.clone();
        context["validation"] = json!(self.validation);
        let record = ValidationRecord {
            validation_id,
            validation_type: regraft_ledger::SUMMARY,
            entity: "",
            records_validated: i64::try_from(rows).unwrap_or(i64::MAX),
            discrepancies: i64::try_from(self.discrepancies()).unwrap_or(i64::MAX),
            details: &json!([]),
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds for people")]
            milliseconds: (self.validation.seconds * 1000.0) as i64,
            context: &context,
        };
        regraft_ledger::record_validation(&**target, &record).await?;
        regraft_ledger::delete_validations_before(&**target, self.keep_days).await?;
        Ok(())
    }
}

/// Stores the results, all of them or none.
pub(super) async fn record(
    target: &Session,
    validation_id: Uuid,
    entities: &[Timed],
    whole: &Whole<'_>,
    summary: &Summary<'_>,
) -> Result<()> {
    target.batch_execute("begin").await?;
    summary.store(target, validation_id).await?;
    if !whole.checks.is_empty() {
        let checks: Vec<&Check> = whole.checks.iter().collect();
        record_one(
            target,
            validation_id,
            "",
            "final_check",
            &checks,
            whole.took,
        )
        .await?;
    }
    if let Some(check) = &whole.invariants.check {
        let took = whole.invariants.took();
        record_one(target, validation_id, "", "data_integrity", &[check], took).await?;
    }
    if let Some((check, took)) = whole.queries {
        let of = ValidationType::PerformanceCheck.as_str();
        record_one(target, validation_id, "", of, &[check], took).await?;
    }
    for timed in entities {
        for (validation_type, names, took) in timed.records() {
            let entity = &timed.validation;
            let checks: Vec<&Check> = entity
                .checks
                .iter()
                .filter(|check| names.contains(&check.name))
                .collect();
            if checks.is_empty() {
                continue;
            }
            record_one(
                target,
                validation_id,
                &entity.entity,
                validation_type.as_str(),
                &checks,
                took,
            )
            .await?;
        }
    }
    Ok(target.batch_execute("commit").await?)
}

async fn record_one(
    target: &Session,
    validation_id: Uuid,
    entity: &str,
    validation_type: &str,
    checks: &[&Check],
    took: Duration,
) -> Result<()> {
    let details: Vec<_> = checks
        .iter()
        .flat_map(|check| check.findings.iter().map(|finding| (check.name, finding)))
        .map(|(check, f)| json!({ "check": check, "what": f.what, "rows": f.rows, "examples": f.examples }))
        .collect();
    let most = checks
        .iter()
        .map(|check| check.looked_at)
        .max()
        .unwrap_or(0);
    let found: u64 = checks.iter().map(|check| check.rows_found()).sum();
    let record = ValidationRecord {
        validation_id,
        validation_type,
        entity,
        records_validated: i64::try_from(most).unwrap_or(i64::MAX),
        discrepancies: i64::try_from(found).unwrap_or(i64::MAX),
        details: &json!(details),
        milliseconds: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
        context: &json!({}),
    };
    Ok(regraft_ledger::record_validation(&**target, &record).await?)
}
