//! Rebuilding the mappings of an entity out of rows that were proven elsewhere.
//!
//! The rows come by way of a temporary table, [`PROVEN`]: the caller fills it, marks what holds,
//! and has the mappings replaced by it in the same transaction.

use regraft_pg::Result;
use regraft_pg::copy::Writer;
use tokio_postgres::GenericClient;

use crate::mapping::partition;
use uuid::Uuid;

/// The temporary table: `legacy_id`, `new_id` (NULL where it isn't known beforehand),
/// `source_fingerprint`, `column_fingerprints`, `reason` (why the row could not be moved, NULL for
/// none), `merged_into` (the legacy id of the row it is part of, NULL for a row of its own) and
/// `proven`.
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
               column_fingerprints bytea not null, reason text, merged_into text collate \"C\",
               proven boolean not null default false)"
        ))
        .await?;
    Ok(())
}

/// The COPY statement that takes rows of the temporary table.
pub fn proven_copy_statement() -> String {
    format!(
        "copy {PROVEN} (legacy_id, new_id, source_fingerprint, column_fingerprints, reason, merged_into) \
         from stdin (format binary)"
    )
}

/// A row of the source, as what it should be in the target.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candidate<'a> {
    /// Its legacy id in text form.
    pub legacy_id: &'a str,
    /// Its key; `None` where only the target knows it.
    pub new_id: Option<Uuid>,
    /// XXH3-128 of the source row.
    pub source_fingerprint: u128,
    /// 32 bits of XXH3 per mapped column; none of a merged row.
    pub column_fingerprints: &'a [u8],
    /// Why it can't be moved.
    pub reason: Option<&'a str>,
    /// The legacy id of the row that it is part of.
    pub merged_into: Option<&'a str>,
}

/// Appends a row to a block for [`proven_copy_statement`].
pub fn encode_proven(block: &mut Writer, row: &Candidate<'_>) {
    block.tuple(6);
    block.field(row.legacy_id.as_bytes());
    block.optional(row.new_id.as_ref().map(|id| id.as_bytes().as_slice()));
    block.field(&row.source_fingerprint.to_be_bytes());
    block.field(row.column_fingerprints);
    block.optional(row.reason.map(str::as_bytes));
    block.optional(row.merged_into.map(str::as_bytes));
}

/// Proves the rows that are merged into a row which is proven itself: they have its key.
pub async fn prove_merged(client: &impl GenericClient) -> Result<()> {
    client
        .batch_execute(&format!(
            "update {PROVEN} p set proven = true, new_id = s.new_id from {PROVEN} s
             where p.merged_into is not null and s.legacy_id = p.merged_into
               and s.merged_into is null and s.proven"
        ))
        .await?;
    Ok(())
}

/// Mappings of merged rows which by the source are rows of their own now, and have none in the
/// target: how many, and the lowest legacy ids, `most` of them. Only the mapping tells what became
/// of them.
pub async fn no_longer_merged(
    client: &impl GenericClient,
    entity: &str,
    most: i64,
) -> Result<(i64, Vec<String>)> {
    let rows = client
        .query(
            &format!(
                "select m.legacy_id, count(*) over () from {} m join {PROVEN} p using (legacy_id)
                 where m.merged_into is not null and p.merged_into is null and not p.proven
                 order by length(m.legacy_id), m.legacy_id limit $1",
                partition(entity)
            ),
            &[&most],
        )
        .await?;
    let found = rows.first().map_or(0, |row| row.get(1));
    Ok((found, rows.iter().map(|row| row.get(0)).collect()))
}

/// The mappings that are right, as places in the partition.
fn right(entity: &str) -> String {
    format!(
        "select place from (
           select m.ctid as place, row_number() over (partition by m.legacy_id order by m.ctid) as nth
           from {} m join {PROVEN} p on p.legacy_id = m.legacy_id and p.new_id = m.new_id
           where p.proven and octet_length(m.column_fingerprints) = octet_length(p.column_fingerprints)
             and m.merged_into is not distinct from p.merged_into
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
                 and octet_length(p.column_fingerprints) = octet_length(m.column_fingerprints)
                 and p.merged_into is not distinct from m.merged_into);
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
                "update regraft.migration_quarantine q
                 set state = 'resolved', last_tried_at = now(), closed_at = now(), note = null
                 from {PROVEN} p
                 where q.entity = $1 and q.state <> 'resolved' and p.proven and p.legacy_id = q.legacy_id"
            ),
            &[&entity],
        )
        .await?;
    crate::forget_agreed_ranges(client, entity).await
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
                  b.inserted + b.merged - (select count(*) from {partition} m where m.run_no = b.run_no and m.batch = b.batch) as room
           from regraft.migration_control b
           where b.entity = $1 and b.batch > 0 and b.command = 'migrate' and b.status = 'done'
             and b.inserted + b.merged > 0),
         hits as materialized (
           select m.legacy_id, min(b.run_no) as run_no, min(b.batch) as batch
           from batches b join missing m on {id} >= {low} and {id} <= {high}
           group by m.legacy_id having count(*) = 1),
         full_batches as (
           select h.run_no, h.batch from hits h join batches b using (run_no, batch)
           group by h.run_no, h.batch, b.room having count(*) > b.room)
         insert into {partition}
           (entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch, merged_into)
         select $1, m.legacy_id, m.new_id, m.source_fingerprint, m.column_fingerprints,
                coalesce(h.run_no, $2), coalesce(h.batch, 1), m.merged_into
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
