//! Results of validations.

use regraft_pg::Result;
use serde_json::Value;
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// The result of one check of one entity.
#[derive(Debug, Clone)]
pub struct ValidationRecord<'a> {
    /// The validation it is part of.
    pub validation_id: Uuid,
    /// What was checked: `completeness_check`, `data_integrity`, `relationship_integrity`, or
    /// `final_check` for the migration as a whole; `summary` for the validation itself.
    pub validation_type: &'a str,
    /// The entity; empty for the migration as a whole.
    pub entity: &'a str,
    /// Rows looked at.
    pub records_validated: i64,
    /// Differences found.
    pub discrepancies: i64,
    /// The differences by name, without row values.
    pub details: &'a Value,
    /// Milliseconds it took.
    pub milliseconds: i64,
    /// Of a summary: what the validation was, and its whole result.
    pub context: &'a Value,
}

/// The type of the record of a validation as a whole.
pub const SUMMARY: &str = "summary";

/// A validation as it is stored.
#[derive(Debug, Clone)]
pub struct StoredValidation {
    /// Its id.
    pub validation_id: Uuid,
    /// When it was stored; RFC 3339, UTC.
    pub generated_at: String,
    /// Whether it passed.
    pub passed: bool,
    /// Differences found; an entity that could not be examined counts as one.
    pub discrepancies: i64,
    /// The record's context.
    pub context: Value,
}

/// The validations that are stored, latest first.
pub async fn stored_validations(client: &impl GenericClient) -> Result<Vec<StoredValidation>> {
    let rows = client
        .query(
            "select validation_id,
                    to_char(generated_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                    validation_passed, discrepancies_found, context
             from regraft.migration_validation_reports
             where validation_type = $1 order by generated_at desc, id",
            &[&SUMMARY],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| StoredValidation {
            validation_id: row.get(0),
            generated_at: row.get(1),
            passed: row.get(2),
            discrepancies: row.get(3),
            context: row.get(4),
        })
        .collect())
}

/// Deletes the results of validations that are older than so many days; how many records these
/// were.
pub async fn delete_validations_before(client: &impl GenericClient, days: u32) -> Result<u64> {
    Ok(client
        .execute(
            "delete from regraft.migration_validation_reports
             where generated_at < now() - $1::int8 * interval '1 day'",
            &[&i64::from(days)],
        )
        .await?)
}

/// Stores a result.
pub async fn record_validation(
    client: &impl GenericClient,
    record: &ValidationRecord<'_>,
) -> Result<()> {
    client
        .execute(
            "insert into regraft.migration_validation_reports
               (validation_id, validation_type, entity, records_validated, validation_passed,
                discrepancies_found, discrepancy_details, execution_time_ms, context)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                &record.validation_id,
                &record.validation_type,
                &record.entity,
                &record.records_validated,
                &(record.discrepancies == 0),
                &record.discrepancies,
                record.details,
                &record.milliseconds,
                record.context,
            ],
        )
        .await?;
    Ok(())
}

/// The runs that were not finished when a validation began: what it says is about the time before
/// them. Oldest first.
pub async fn runs_since_validation(
    client: &impl GenericClient,
    validation_id: Uuid,
) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select r.run_id from regraft.migration_control r
             join regraft.migration_validation_reports v on v.validation_id = $1 and v.validation_type = $2
             where r.entity = '' and r.batch = 0
               and (r.finished_at is null
                    or r.finished_at > v.generated_at - v.execution_time_ms * interval '1 millisecond')
             order by r.run_no",
            &[&validation_id, &SUMMARY],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The target's time; RFC 3339, UTC.
pub async fn now(client: &impl GenericClient) -> Result<String> {
    let row = client
        .query_one(
            "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
            &[],
        )
        .await?;
    Ok(row.get(0))
}
