//! Entities that are examined by workers: who asks, and what came of it.

use regraft_pg::Result;
use serde_json::Value;
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// Asks for entities to be examined. What nobody has fetched for a day is forgotten.
pub async fn offer_proofs(
    client: &impl GenericClient,
    validation_id: Uuid,
    entities: &[&str],
) -> Result<()> {
    client
        .execute(
            "with old as (
               delete from regraft.migration_proofs where offered_at < clock_timestamp() - interval '1 day'
             )
             insert into regraft.migration_proofs (validation_id, entity) select $1, unnest($2::text[])",
            &[&validation_id, &entities],
        )
        .await?;
    Ok(())
}

/// Whether somebody waits for an entity to be examined.
pub async fn is_proof_wanted(
    client: &impl GenericClient,
    validation_id: Uuid,
    entity: &str,
) -> Result<bool> {
    let row = client
        .query_one(
            "select exists (select from regraft.migration_proofs
                            where validation_id = $1 and entity = $2 and answer is null)",
            &[&validation_id, &entity],
        )
        .await?;
    Ok(row.get(0))
}

/// Tells what came of an entity; what came first stays.
pub async fn answer_proof(
    client: &impl GenericClient,
    validation_id: Uuid,
    entity: &str,
    answer: &Value,
) -> Result<()> {
    client
        .execute(
            "update regraft.migration_proofs set answer = $3
             where validation_id = $1 and entity = $2 and answer is null",
            &[&validation_id, &entity, answer],
        )
        .await?;
    Ok(())
}

/// What came of the entities that are examined: by name.
pub async fn answered_proofs(
    client: &impl GenericClient,
    validation_id: Uuid,
) -> Result<Vec<(String, Value)>> {
    let rows = client
        .query(
            "select entity, answer from regraft.migration_proofs
             where validation_id = $1 and answer is not null",
            &[&validation_id],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Asks no more.
pub async fn withdraw_proofs(client: &impl GenericClient, validation_id: Uuid) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_proofs where validation_id = $1",
            &[&validation_id],
        )
        .await?;
    Ok(())
}
