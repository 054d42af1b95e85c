//! Rebuilding the mappings of an entity out of rows that were proven elsewhere.
//!
//! The rows come by way of a temporary table, [`PROVEN`]: the caller fills it, marks what holds,
//! and has the mappings replaced by it in the same transaction.

use regraft_pg::Result;
use regraft_pg::copy::Writer;
use regraft_pg::quote;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use crate::{SCHEMA, partition_name};

/// The temporary table: `legacy_id`, `new_id` (NULL where it isn't known beforehand),
/// `source_fingerprint`, `column_fingerprints`, `reason` (why the row could not be moved, NULL for
/// none) and `proven`.
pub const PROVEN: &str = "pg_temp.regraft_proven";

/// How the mappings of an entity differ from the proven rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MappingDrift {
    /// Mappings that are right and stay as they are.
    pub right: i64,
    /// Mappings that lead to a wrong row, to none, come twice, or have fingerprints of another
    /// layout.
    pub wrong: i64,
    /// Proven rows without a right mapping.
    pub missing: i64,
}

/// Creates the empty temporary table, in place of one that is there.
pub async fn create_proven(client: &impl GenericClient) -> Result<()> {
    client
        .batch_execute(&format!(
            "drop table if exists {PROVEN};
             create temp table regraft_proven (
               legacy_id text collate \"C\" not null, new_id uuid, source_fingerprint uuid not null,
               column_fingerprints bytea not null, reason text, proven boolean not null default false)"
        ))
        .await?;
    Ok(())
}

/// The COPY statement that takes rows of the temporary table.
pub fn proven_copy_statement() -> String {
    format!(
        "copy {PROVEN} (legacy_id, new_id, source_fingerprint, column_fingerprints, reason) \
         from stdin (format binary)"
    )
}

/// Appends a row to a block for [`proven_copy_statement`].
pub fn encode_proven(
    block: &mut Writer,
    legacy_id: &str,
    new_id: Option<Uuid>,
    source_fingerprint: u128,
    column_fingerprints: &[u8],
    reason: Option<&str>,
) {
    block.tuple(5);
    block.field(legacy_id.as_bytes());
    block.optional(new_id.as_ref().map(|id| id.as_bytes().as_slice()));
    block.field(&source_fingerprint.to_be_bytes());
    block.field(column_fingerprints);
    block.optional(reason.map(str::as_bytes));
}

fn partition(entity: &str) -> String {
    quote::qualified(SCHEMA, &partition_name(entity))
}

/// The mappings that are right, as places in the partition.
fn right(entity: &str) -> String {
    format!(
        "select place from (
           select m.ctid as place, row_number() over (partition by m.legacy_id order by m.ctid) as nth
           from {} m join {PROVEN} p on p.legacy_id = m.legacy_id and p.new_id = m.new_id
           where p.proven and octet_length(m.column_fingerprints) = octet_length(p.column_fingerprints)
         ) found where nth = 1",
        partition(entity)
    )
}

/// Compares the mappings of an entity with the proven rows. Its partition must exist.
pub async fn mapping_drift(client: &impl GenericClient, entity: &str) -> Result<MappingDrift> {
    let row = client
        .query_one(
            &format!(
                "select (select count(*) from ({}) r), (select count(*) from {}),
                        (select count(*) from {PROVEN} where proven)",
                right(entity),
                partition(entity)
            ),
            &[],
        )
        .await?;
    let (right, all, proven): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    Ok(MappingDrift {
        right,
        wrong: all - right,
        missing: proven - right,
    })
}

/// Replaces the mappings that are not right by the proven rows, and resolves the quarantine of rows
/// that turn out to be in place.
///
/// A mapping is given to the batch of an earlier migration where the ledger leaves no doubt which
/// one wrote the row: a single finished batch has it in its range, and fewer mappings than rows.
/// All others are given to `run_no`.
pub async fn replace_mappings(
    client: &impl GenericClient,
    entity: &str,
    numeric: bool,
    run_no: i32,
) -> Result<()> {
    let partition = partition(entity);
    client
        .batch_execute(&format!(
            "delete from {partition} m where not exists (
               select from {PROVEN} p
               where p.proven and p.legacy_id = m.legacy_id and p.new_id = m.new_id
                 and octet_length(p.column_fingerprints) = octet_length(m.column_fingerprints));
             delete from {partition} m using (
               select ctid as place, row_number() over (partition by legacy_id order by ctid) as nth
               from {partition}) d
             where d.nth > 1 and m.ctid = d.place"
        ))
        .await?;
    client
        .execute(&replacement(&partition, numeric), &[&entity, &run_no])
        .await?;
    client
        .execute(
            &format!(
                "update regraft.migration_quarantine q set state = 'resolved', last_tried_at = now()
                 from {PROVEN} p
                 where q.entity = $1 and q.state = 'open' and p.proven and p.legacy_id = q.legacy_id"
            ),
            &[&entity],
        )
        .await?;
    Ok(())
}

/// The statement that adds the proven rows that have no mapping.
fn replacement(partition: &str, numeric: bool) -> String {
    let as_key = |id: &str| {
        if numeric {
            format!("({id})::bigint")
        } else {
            id.to_owned()
        }
    };
    format!(
        "with missing as materialized (
           select p.* from {PROVEN} p
           where p.proven and not exists (select from {partition} m where m.legacy_id = p.legacy_id)),
         batches as materialized (
           select b.run_no, b.batch, b.low_key, b.high_key,
                  b.inserted - (select count(*) from {partition} m where m.run_no = b.run_no and m.batch = b.batch) as room
           from regraft.migration_control b
           where b.entity = $1 and b.batch > 0 and b.command = 'migrate' and b.status = 'done' and b.inserted > 0),
         hits as materialized (
           select m.legacy_id, min(b.run_no) as run_no, min(b.batch) as batch
           from batches b join missing m on {id} >= {low} and {id} <= {high}
           group by m.legacy_id having count(*) = 1),
         full_batches as (
           select h.run_no, h.batch from hits h join batches b using (run_no, batch)
           group by h.run_no, h.batch, b.room having count(*) > b.room)
         insert into {partition} (entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch)
         select $1, m.legacy_id, m.new_id, m.source_fingerprint, m.column_fingerprints,
                coalesce(h.run_no, $2), coalesce(h.batch, 1)
         from missing m left join (
           select * from hits where (run_no, batch) not in (select run_no, batch from full_batches)
         ) h using (legacy_id)",
        id = as_key("m.legacy_id"),
        low = as_key("b.low_key"),
        high = as_key("b.high_key"),
    )
}

/// The finished runs that rebuilt the mappings of an entity.
pub async fn rebuilding_runs(client: &impl GenericClient, entity: &str) -> Result<Vec<i32>> {
    let rows = client
        .query(
            "select run_no from regraft.migration_control
             where entity = $1 and batch = 0 and command = 'mappings' and status = 'done'",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
