//! Ranges of legacy ids that both sides agree on, and what tells that they still do.

use regraft_pg::Result;
use tokio_postgres::GenericClient;

use crate::mapping::partition;

/// Ranges are of 2 to the power of so many legacy ids.
pub const RANGE_BITS: u32 = 6;

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

/// A range that has rows in the source or in the mappings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRange {
    /// Its number.
    pub range: i64,
    /// What the source said when all of its rows were agreed on, if they are.
    pub agreed: Option<AgreedRange>,
}

/// The ranges of an entity in which rows are known, with what was agreed on under the same source
/// query (`layout`). `run` is the run that asks, with whether it was begun by an earlier process.
///
/// What the ranges themselves say is taken at its word where every run that touched the entity since
/// the last differential migration is known to have kept it right; else the mappings are gone
/// through, which tell whether anybody has written any since.
pub async fn known_ranges(
    client: &impl GenericClient,
    entity: &str,
    layout: &str,
    run: Option<(i32, bool)>,
) -> Result<Vec<KnownRange>> {
    let sql = if are_current(client, entity, run).await? {
        "select range, source_rows, kept_rows, case when layout = $2 then source_sum::text end
         from regraft.migration_agreed_ranges where entity = $1"
            .to_owned()
    } else {
        format!(
            "select coalesce(a.range, m.range), a.source_rows, a.kept_rows,
                    case when a.layout = $2 and coalesce(m.rows, 0) = a.kept_rows
                          and coalesce(m.newest, 0) <= a.run_no then a.source_sum::text end
             from (select * from regraft.migration_agreed_ranges where entity = $1) a
             full join (select legacy_id::bigint >> {RANGE_BITS} as range, count(*) as rows,
                               max(greatest(run_no, agreed_run)) as newest
                        from {} group by 1) m on m.range = a.range",
            partition(entity)
        )
    };
    let rows = client.query(&sql, &[&entity, &layout]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let range = row.get(0);
            let sum: Option<String> = row.get(3);
            let agreed = sum.map(|source_sum| AgreedRange {
                range,
                source_rows: row.get(1),
                kept_rows: row.get(2),
                source_sum,
            });
            KnownRange { range, agreed }
        })
        .collect())
}

/// Whether nobody but differential migrations that came to their end has touched an entity since its
/// ranges were written. Whoever deletes mappings forgets all ranges of the entity.
async fn are_current(
    client: &impl GenericClient,
    entity: &str,
    run: Option<(i32, bool)>,
) -> Result<bool> {
    let fresh = match run {
        Some((run_no, false)) => run_no,
        _ => 0,
    };
    let row = client
        .query_one(
            "with last as (
               select coalesce(max(run_no), 0) as run_no from regraft.migration_control
               where entity = $1 and batch = 0 and command = 'differential' and status = 'done' and run_no <> $2)
             select exists (select from regraft.migration_agreed_ranges where entity = $1)
                and not exists (
                  select from regraft.migration_control c, last
                  where c.entity = $1 and c.run_no > last.run_no and c.run_no <> $2)",
            &[&entity, &fresh],
        )
        .await?;
    Ok(row.get(0))
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

/// Records that a run has looked at ranges of an entity which hold rows that are not agreed on.
pub async fn disagree_on_ranges(
    client: &impl GenericClient,
    entity: &str,
    layout: &str,
    run_no: i32,
    ranges: &[i64],
) -> Result<()> {
    client
        .execute(
            "insert into regraft.migration_agreed_ranges
               (entity, range, source_rows, kept_rows, source_sum, run_no, layout)
             select $1, range, 0, 0, null, $2, $3 from unnest($4::int8[]) range
             on conflict (entity, range) do update set
               source_rows = 0, kept_rows = 0, source_sum = null, run_no = excluded.run_no,
               layout = excluded.layout",
            &[&entity, &run_no, &layout, &ranges],
        )
        .await?;
    Ok(())
}

/// Forgets ranges of an entity: there are no rows in them any more, or they are to be looked at again.
pub async fn forget_ranges(
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
