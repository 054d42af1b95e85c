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
    /// `final_check` for the migration as a whole.
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
                discrepancies_found, discrepancy_details, execution_time_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &record.validation_id,
                &record.validation_type,
                &record.entity,
                &record.records_validated,
                &(record.discrepancies == 0),
                &record.discrepancies,
                record.details,
                &record.milliseconds,
            ],
        )
        .await?;
    Ok(())
}
