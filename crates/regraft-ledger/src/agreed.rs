//! Ranges of legacy ids that both sides agree on, and what tells that they still do.

use regraft_pg::Result;
use regraft_pg::quote;
use tokio_postgres::GenericClient;

/// Ranges are of 2 to the power of so many legacy ids.
pub const RANGE_BITS: u32 = 7;

/// What the source said of a range when all of its rows were agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedRange {
    /// Its number: the legacy ids without their last [`RANGE_BITS`] bits.
    pub range: i64,
    /// Rows before filters.
    pub source_rows: i64,
    /// Rows that pass every filter, each with a mapping.
    pub kept_rows: i64,
    /// The sum of their hashes, in decimal digits.
    pub source_sum: String,
}

/// The ranges of an entity that are agreed on: those that were recorded for the same source query
/// (`layout`) and whose mappings nobody has written since.
pub async fn agreed_ranges(
    client: &impl GenericClient,
    entity: &str,
    layout: &str,
) -> Result<Vec<AgreedRange>> {
    let rows = client
        .query(
            &format!(
                "select a.range, a.source_rows, a.kept_rows, a.source_sum::text
                 from regraft.migration_agreed_ranges a
                 left join (select legacy_id::bigint >> {RANGE_BITS} as range, count(*) as rows,
                                   max(greatest(run_no, agreed_run)) as newest
                            from {} group by 1) m using (range)
                 where a.entity = $1 and a.layout = $2
                   and coalesce(m.rows, 0) = a.kept_rows and coalesce(m.newest, 0) <= a.run_no
                 order by 1",
                partition(entity)
            ),
            &[&entity, &layout],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| AgreedRange {
            range: row.get(0),
            source_rows: row.get(1),
            kept_rows: row.get(2),
            source_sum: row.get(3),
        })
        .collect())
}

/// The ranges in which an entity has mappings.
pub async fn mapped_ranges(client: &impl GenericClient, entity: &str) -> Result<Vec<i64>> {
    let rows = client
        .query(
            &format!(
                "select distinct legacy_id::bigint >> {RANGE_BITS} from {} order by 1",
                partition(entity)
            ),
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Records ranges as agreed on by a run, in place of what was recorded of them.
pub async fn agree_on_ranges(
    client: &impl GenericClient,
    entity: &str,
    layout: &str,
    run_no: i32,
    ranges: &[AgreedRange],
) -> Result<()> {
    for ranges in ranges.chunks(20_000) {
        let numbers: Vec<i64> = ranges.iter().map(|r| r.range).collect();
        let rows: Vec<i64> = ranges.iter().map(|r| r.source_rows).collect();
        let kept: Vec<i64> = ranges.iter().map(|r| r.kept_rows).collect();
        let sums: Vec<&str> = ranges.iter().map(|r| r.source_sum.as_str()).collect();
        client
            .execute(
                "insert into regraft.migration_agreed_ranges
                   (entity, range, source_rows, kept_rows, source_sum, run_no, layout)
                 select $1, r.range, r.source_rows, r.kept_rows, r.source_sum::numeric, $2, $3
                 from unnest($4::int8[], $5::int8[], $6::int8[], $7::text[])
                   r (range, source_rows, kept_rows, source_sum)
                 on conflict (entity, range) do update set
                   source_rows = excluded.source_rows, kept_rows = excluded.kept_rows,
                   source_sum = excluded.source_sum, run_no = excluded.run_no,
                   layout = excluded.layout",
                &[&entity, &run_no, &layout, &numbers, &rows, &kept, &sums],
            )
            .await?;
    }
    Ok(())
}

/// Forgets ranges of an entity: what is in them is not agreed on any more.
pub async fn disagree_on_ranges(
    client: &impl GenericClient,
    entity: &str,
    ranges: &[i64],
) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_agreed_ranges where entity = $1 and range = any ($2)",
            &[&entity, &ranges],
        )
        .await?;
    Ok(())
}

fn partition(entity: &str) -> String {
    quote::qualified(crate::SCHEMA, &crate::partition_name(entity))
}
