//! Mappings: legacy id -> UUID, with the fingerprints last agreed on.

use regraft_pg::Result;
use regraft_pg::copy::Writer;
use regraft_pg::quote;
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// One mapping to be written.
#[derive(Debug, Clone, Copy)]
pub struct MappingRow<'a> {
    /// The legacy id in its text form.
    pub legacy_id: &'a str,
    /// The key in the target.
    pub new_id: Uuid,
    /// XXH3-128 of the source row.
    pub source_fingerprint: u128,
    /// 32 bits of XXH3 per mapped column.
    pub column_fingerprints: &'a [u8],
    /// The run that wrote the row.
    pub run_no: i32,
    /// The batch that wrote the row.
    pub batch: i32,
}

/// The name of an entity's partition, within PostgreSQL's 63 bytes (entity names are checked to
/// be at most 40 characters of ASCII by the project).
pub fn partition_name(entity: &str) -> String {
    format!("migration_mappings_{entity}")
}

pub(crate) fn partition(entity: &str) -> String {
    quote::qualified(crate::SCHEMA, &partition_name(entity))
}

/// The condition that a mapping is one of the legacy ids in a parameter (`$4`), which are texts, as the
/// index of the mappings answers it.
pub(crate) fn among(numeric: bool, mapping: &str, parameter: &str) -> String {
    if numeric {
        format!("{mapping}.legacy_id::bigint = any ({parameter}::text[]::bigint[])")
    } else {
        format!("{mapping}.legacy_id = any ({parameter}::text[])")
    }
}

/// Creates an entity's partition, without its index.
pub async fn create_partition(client: &impl GenericClient, entity: &str) -> Result<()> {
    client
        .batch_execute(&format!(
            "create table if not exists {} partition of regraft.migration_mappings for values in ({})",
            partition(entity),
            quote::literal(entity)
        ))
        .await?;
    Ok(())
}

/// Whether an entity has a partition.
pub async fn partition_exists(client: &impl GenericClient, entity: &str) -> Result<bool> {
    let row = client
        .query_one("select to_regclass($1) is not null", &[&partition(entity)])
        .await?;
    Ok(row.get(0))
}

/// Drops an entity's partition when it is empty, as after a rollback.
pub async fn drop_partition(client: &impl GenericClient, entity: &str) -> Result<()> {
    client
        .batch_execute(&format!("drop table if exists {}", partition(entity)))
        .await?;
    Ok(())
}

/// The statement that creates the unique index which makes loading an entity idempotent. Numbers
/// are indexed as numbers, so that a key range of the source is a range here too.
pub fn key_index_statement(entity: &str, numeric: bool) -> String {
    format!(
        "create unique index if not exists {} on {} ({})",
        quote::ident(&format!("{}_key", partition_name(entity))),
        partition(entity),
        key_expression(numeric)
    )
}

fn key_expression(numeric: bool) -> &'static str {
    if numeric {
        "(legacy_id::bigint)"
    } else {
        "legacy_id"
    }
}

/// Creates the unique index of an entity's mappings, if it isn't there.
pub async fn attach_index(client: &impl GenericClient, entity: &str, numeric: bool) -> Result<()> {
    client
        .batch_execute(&key_index_statement(entity, numeric))
        .await?;
    Ok(())
}

/// The state of the unique index on an entity's mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingIndex {
    /// There are no mappings and no index.
    Empty,
    /// The index is there and valid.
    Present,
    /// There are mappings, but no valid unique index on the legacy id.
    Missing,
}

/// Looks for the unique index that makes loading an entity idempotent, by what it does and not by
/// its name.
pub async fn mapping_index(client: &impl GenericClient, entity: &str) -> Result<MappingIndex> {
    if !partition_exists(client, entity).await? {
        return Ok(MappingIndex::Empty);
    }
    let present: bool = client
        .query_one(
            "select exists (select 1 from pg_index
               where indrelid = $1::text::regclass and indisunique and indisvalid and indpred is null
                 and indnkeyatts = 1
                 and pg_get_indexdef(indexrelid, 1, true) in ('legacy_id', 'legacy_id::bigint', '(legacy_id::bigint)'))",
            &[&partition(entity)],
        )
        .await?
        .get(0);
    if present {
        return Ok(MappingIndex::Present);
    }
    let any: bool = client
        .query_one(
            &format!("select exists (select 1 from {})", partition(entity)),
            &[],
        )
        .await?
        .get(0);
    Ok(if any {
        MappingIndex::Missing
    } else {
        MappingIndex::Empty
    })
}

/// The COPY statement that takes mappings of an entity.
pub fn copy_statement(entity: &str) -> String {
    format!(
        "copy {} (entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch) \
         from stdin (format binary)",
        partition(entity)
    )
}

/// Appends a mapping to a block for [`copy_statement`].
pub fn encode(block: &mut Writer, entity: &str, row: &MappingRow<'_>) {
    block.tuple(7);
    encode_fields(block, entity, row);
}

fn encode_fields(block: &mut Writer, entity: &str, row: &MappingRow<'_>) {
    block.field(entity.as_bytes());
    block.field(row.legacy_id.as_bytes());
    block.field(row.new_id.as_bytes());
    block.field(&row.source_fingerprint.to_be_bytes());
    block.field(row.column_fingerprints);
    block.field(&row.run_no.to_be_bytes());
    block.field(&row.batch.to_be_bytes());
}

/// The mappings among some legacy ids.
pub async fn mapped_among(
    client: &impl GenericClient,
    entity: &str,
    numeric: bool,
    ids: &[String],
) -> Result<Vec<(String, u128)>> {
    let key = if numeric {
        "legacy_id::bigint = any ($2::text[]::bigint[])"
    } else {
        "legacy_id = any ($2)"
    };
    let sql = format!(
        "select legacy_id, source_fingerprint from regraft.migration_mappings where entity = $1 and {key}"
    );
    let rows = client.query(&sql, &[&entity, &ids]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get::<_, Uuid>(1).as_u128()))
        .collect())
}

/// The COPY statement that takes mappings of merged rows.
pub fn copy_merged_statement(entity: &str) -> String {
    format!(
        "copy {} (entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch, \
         merged_into) from stdin (format binary)",
        partition(entity)
    )
}

/// Appends the mapping of a row that was merged into another, for [`copy_merged_statement`].
pub fn encode_merged(block: &mut Writer, entity: &str, row: &MappingRow<'_>, into: &str) {
    block.tuple(8);
    encode_fields(block, entity, row);
    block.field(into.as_bytes());
}

/// How many mappings a run wrote: of rows of their own, and of rows merged into others.
pub async fn mapped_by_run(
    client: &impl GenericClient,
    entity: &str,
    run_no: i32,
) -> Result<(i64, i64)> {
    let row = client
        .query_one(
            "select count(*) filter (where merged_into is null), count(merged_into)
             from regraft.migration_mappings where entity = $1 and run_no = $2",
            &[&entity, &run_no],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// A row that was merged into another.
#[derive(Debug, Clone, serde::Serialize)]
pub struct MergedRow {
    /// The entity.
    pub entity: String,
    /// The row's legacy id.
    pub legacy_id: String,
    /// The legacy id of the row it was merged into.
    pub merged_into: String,
    /// The key of that row, which both are mapped to.
    pub key: Uuid,
}

/// Merged rows of some entities, those that became one together.
pub async fn merged_rows(
    client: &impl GenericClient,
    entities: &[String],
    limit: i64,
) -> Result<Vec<MergedRow>> {
    let rows = client
        .query(
            "select entity, legacy_id, merged_into, new_id from regraft.migration_mappings
             where entity = any ($1) and merged_into is not null
             order by entity, merged_into, legacy_id limit $2",
            &[&entities, &limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| MergedRow {
            entity: row.get(0),
            legacy_id: row.get(1),
            merged_into: row.get(2),
            key: row.get(3),
        })
        .collect())
}

/// How many rows other runs merged into rows that these runs wrote.
pub async fn merged_into_others(
    client: &impl GenericClient,
    entity: &str,
    runs: &[i32],
) -> Result<i64> {
    let row = client
        .query_one(
            "select count(*) from regraft.migration_mappings m
             where m.entity = $1 and m.merged_into is not null and m.run_no <> all ($2)
               and exists (select from regraft.migration_mappings o
                           where o.entity = $1 and o.legacy_id = m.merged_into and o.run_no = any ($2))",
            &[&entity, &runs],
        )
        .await?;
    Ok(row.get(0))
}

/// The query that lists an entity's mappings as (legacy id, UUID) in key order; the legacy id is
/// a bigint where `numeric`, else text; all of them, or those that one run wrote.
pub fn mapping_select(entity: &str, numeric: bool, run_no: Option<i32>) -> String {
    let key = if numeric {
        "legacy_id::bigint"
    } else {
        "legacy_id"
    };
    let of_run = run_no.map_or(String::new(), |run| format!(" where run_no = {run}"));
    format!(
        "select {key}, new_id from {}{of_run} order by 1",
        partition(entity)
    )
}

/// The mappings of an entity between two legacy ids (both included).
pub async fn mapped_rows(
    client: &impl GenericClient,
    entity: &str,
    numeric: bool,
    low: &str,
    high: &str,
) -> Result<Vec<(String, Uuid, u128)>> {
    let key = if numeric {
        "legacy_id::bigint"
    } else {
        "legacy_id"
    };
    let cast = if numeric {
        "::text::bigint"
    } else {
        "::text collate \"C\""
    };
    let rows = client
        .query(
            &format!(
                "select legacy_id, new_id, source_fingerprint from {} \
                 where {key} >= $1{cast} and {key} <= $2{cast}",
                partition(entity)
            ),
            &[&low, &high],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let fingerprint: Uuid = row.get(2);
            (row.get(0), row.get(1), fingerprint.as_u128())
        })
        .collect())
}

/// Deletes the mappings that a run wrote for an entity, but those of rows that a rollback leaves
/// ([`crate::create_left`]); how many.
pub async fn delete_of_run(client: &impl GenericClient, entity: &str, run_no: i32) -> Result<u64> {
    Ok(client
        .execute(
            &format!(
                "delete from {} m where m.run_no = $1 and {}",
                partition(entity),
                crate::NOT_LEFT
            ),
            &[&run_no],
        )
        .await?)
}

/// The query for the legacy ids (`key`, an expression) and source fingerprints of an entity's
/// mappings under a condition, in key order.
pub fn fingerprints_where(entity: &str, key: &str, condition: &str) -> String {
    format!(
        "select {key}, source_fingerprint from {} where {condition} order by 1",
        partition(entity)
    )
}

/// The query for the legacy ids and source fingerprints of an entity's mappings in these ranges of
/// ids, each looked up by itself; in key order where the ranges are. `ranges` are rows
/// `regraft_range (first)`, whose last id is `last` above the first.
pub fn fingerprints_in_ranges(entity: &str, ranges: &str, last: i64) -> String {
    format!(
        "select m.* from {ranges} cross join lateral (
           select legacy_id::bigint, source_fingerprint from {}
           where legacy_id::bigint >= regraft_range.first
             and legacy_id::bigint <= regraft_range.first + {last} order by 1) m",
        partition(entity)
    )
}
