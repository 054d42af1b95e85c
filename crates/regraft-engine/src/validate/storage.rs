//! The results of a validation as they are stored in the ledger.

use std::time::Duration;

use regraft_ledger::ValidationRecord;
use regraft_pg::Session;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::options::ValidationType;
use super::report::{Advice, Check, Checked, EntityValidation, Validation};
use crate::error::Result;

/// A validated entity with the time that its proofs took.
#[derive(Debug, Serialize, Deserialize)]
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
