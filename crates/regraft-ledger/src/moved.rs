//! Which rows of an entity were moved, for whoever computes figures over them.

use regraft_pg::{Result, quote};
use tokio_postgres::GenericClient;

/// The mappings of the rows of an entity that have a row of their own in the target, as something
/// to select `legacy_id` (text) and `new_id` from. Rows that were merged into others are not among
/// them. Empty where there is no ledger.
pub async fn moved_rows(client: &impl GenericClient, entity: &str) -> Result<String> {
    let exists = crate::partition_exists(client, entity).await?;
    Ok(if exists {
        let partition = quote::qualified(crate::SCHEMA, &crate::partition_name(entity));
        format!("(select legacy_id, new_id from {partition} where merged_into is null)")
    } else {
        "(select null::text as legacy_id, null::uuid as new_id where false)".to_owned()
    })
}

/// The legacy ids of an entity's rows that have no row of their own in the target: in quarantine,
/// blocked, or merged into another.
pub async fn left_behind(client: &impl GenericClient, entity: &str) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select legacy_id from regraft.migration_quarantine where entity = $1 and state <> 'resolved'
             union all
             select legacy_id from regraft.migration_mappings where entity = $1 and merged_into is not null",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Those of `ids` that are mapped, each with the legacy id of the row it stands for now: its own,
/// or that of the row it was merged into.
pub async fn stand_for(
    client: &impl GenericClient,
    entity: &str,
    ids: &[String],
) -> Result<Vec<(String, String)>> {
    let rows = client
        .query(
            "select m.legacy_id, coalesce(m.merged_into, m.legacy_id)
             from unnest($2::text[]) as given (id)
             join regraft.migration_mappings m on m.legacy_id = given.id collate \"C\" and m.entity = $1",
            &[&entity, &ids],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The legacy id of the row of an entity with this key, in its text form, if there is one.
pub async fn legacy_id_of(
    client: &impl GenericClient,
    entity: &str,
    key: &str,
) -> Result<Option<String>> {
    let row = client
        .query_opt(
            "select legacy_id from regraft.migration_mappings
             where entity = $1 and new_id::text = $2 and merged_into is null limit 1",
            &[&entity, &key],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}
