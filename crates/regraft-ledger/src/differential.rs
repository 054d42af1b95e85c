//! What comparisons of both sides found: summaries of entities, and rows to be decided on.

use regraft_pg::Result;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

/// The id of a comparison that writes nothing: made from the server's clock (UTC).
pub async fn new_analysis_id(client: &impl GenericClient) -> Result<String> {
    let row = client
        .query_one(
            "select to_char(clock_timestamp() at time zone 'UTC', '\"analysis_\"YYYYMMDD_HH24MISS_')
                    || left(replace(gen_random_uuid()::text, '-', ''), 4)",
            &[],
        )
        .await?;
    Ok(row.get(0))
}

/// Records what a comparison came to for an entity, in place of what the same one recorded before.
pub async fn record_differential(
    client: &impl GenericClient,
    operation_id: &str,
    entity: &str,
    rows: i64,
    detail: &Value,
) -> Result<()> {
    client
        .execute(
            "delete from regraft.data_differentials
             where operation_id = $1 and entity = $2 and comparison_type = 'summary'",
            &[&operation_id, &entity],
        )
        .await?;
    client
        .execute(
            "insert into regraft.data_differentials
               (operation_id, entity, comparison_type, record_count, detail)
             values ($1, $2, 'summary', $3, $4)",
            &[&operation_id, &entity, &rows, detail],
        )
        .await?;
    Ok(())
}

/// A row that is to be noted for somebody to decide on.
#[derive(Debug, Clone)]
pub struct Noted {
    /// `conflict`, `deleted_in_source`, `deleted_in_target`, `merged_in_source` or `refused`.
    pub comparison_type: &'static str,
    /// Its legacy id.
    pub legacy_id: String,
    /// Why, without values.
    pub detail: Value,
}

/// Notes rows as open, in place of what was open for the same rows.
pub async fn note_rows(
    client: &impl GenericClient,
    operation_id: &str,
    entity: &str,
    rows: &[Noted],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let kinds: Vec<&str> = rows.iter().map(|row| row.comparison_type).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.legacy_id.as_str()).collect();
    let details: Vec<&Value> = rows.iter().map(|row| &row.detail).collect();
    client
        .execute(
            "insert into regraft.data_differentials
               (operation_id, entity, comparison_type, legacy_id, new_id, detail)
             select $1, $2, r.kind, r.id, m.new_id, r.detail
             from unnest($3::text[], $4::text[], $5::jsonb[]) r (kind, id, detail)
             left join regraft.migration_mappings m on m.entity = $2 and m.legacy_id = r.id
             on conflict (entity, legacy_id) where legacy_id is not null and not resolved do update set
               operation_id = excluded.operation_id, comparison_type = excluded.comparison_type,
               new_id = excluded.new_id, columns = excluded.columns, detail = excluded.detail,
               created_at = excluded.created_at",
            &[&operation_id, &entity, &kinds, &ids, &details],
        )
        .await?;
    Ok(())
}

/// Closes open rows: decided on by a strategy, or `gone` because the sides agree again. Values that
/// were kept for the decision are dropped with it.
pub async fn close_rows(
    client: &impl GenericClient,
    entity: &str,
    ids: &[String],
    strategy: &str,
) -> Result<u64> {
    Ok(client
        .execute(
            "update regraft.data_differentials
             set resolved = true, resolved_at = clock_timestamp(), resolution_strategy = $3,
                 detail = detail - 'columns'
             where entity = $1 and legacy_id = any ($2) and not resolved",
            &[&entity, &ids, &strategy],
        )
        .await?)
}

/// Closes the open rows of an entity that a comparison of all its rows has not found again, of the
/// kinds that a comparison alone can find.
pub async fn close_others(
    client: &impl GenericClient,
    entity: &str,
    operation_id: &str,
) -> Result<u64> {
    Ok(client
        .execute(
            "update regraft.data_differentials
             set resolved = true, resolved_at = clock_timestamp(), resolution_strategy = 'gone',
                 detail = detail - 'columns'
             where entity = $1 and legacy_id is not null and not resolved and operation_id <> $2
               and comparison_type in ('conflict', 'merged_in_source')",
            &[&entity, &operation_id],
        )
        .await?)
}

/// The legacy ids of an entity's open rows.
pub async fn differing_ids(client: &impl GenericClient, entity: &str) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select legacy_id from regraft.data_differentials
             where entity = $1 and legacy_id is not null and not resolved",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A row to be decided on, as it is kept.
#[derive(Debug, Clone, Serialize)]
pub struct Differing {
    /// Its id.
    pub id: Uuid,
    /// The comparison that found it last.
    pub operation_id: String,
    /// The entity.
    pub entity: String,
    /// `conflict`, `deleted_in_source`, `deleted_in_target`, `merged_in_source` or `refused`.
    pub comparison_type: String,
    /// The row's legacy id.
    pub legacy_id: String,
    /// The row's key in the target.
    pub new_id: Option<Uuid>,
    /// The columns at stake.
    pub columns: Vec<String>,
    /// By column what each side says; of a refusal its reasons.
    pub detail: Value,
    /// RFC 3339.
    pub found_at: String,
}

/// Which open rows are meant; all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct DifferingFilter {
    /// These entities; empty for all.
    pub entities: Vec<String>,
    /// This row.
    pub id: Option<Uuid>,
    /// Rows with this legacy id.
    pub legacy_id: Option<String>,
    /// Rows that this comparison found.
    pub operation_id: Option<String>,
}

const OPEN: &str = "legacy_id is not null and not resolved
    and (cardinality($1::text[]) = 0 or entity = any ($1)) and ($2::uuid is null or id = $2)
    and ($3::text is null or legacy_id = $3) and ($4::text is null or operation_id = $4)";

/// The open rows under a filter, the first `limit` of them by entity and legacy id.
pub async fn open_differing(
    client: &impl GenericClient,
    filter: &DifferingFilter,
    limit: i64,
) -> Result<Vec<Differing>> {
    let rows = client
        .query(
            &format!(
                "select id, operation_id, entity, comparison_type, legacy_id, new_id, columns, detail,
                        to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
                 from regraft.data_differentials where {OPEN}
                 order by entity, length(legacy_id), legacy_id limit $5"
            ),
            &[
                &filter.entities,
                &filter.id,
                &filter.legacy_id,
                &filter.operation_id,
                &limit,
            ],
        )
        .await?;
    Ok(rows.iter().map(differing).collect())
}

fn differing(row: &Row) -> Differing {
    Differing {
        id: row.get(0),
        operation_id: row.get(1),
        entity: row.get(2),
        comparison_type: row.get(3),
        legacy_id: row.get(4),
        new_id: row.get(5),
        columns: row.get(6),
        detail: row.get(7),
        found_at: row.get(8),
    }
}

/// Open rows under a filter by entity and kind.
pub async fn count_differing(
    client: &impl GenericClient,
    filter: &DifferingFilter,
) -> Result<Vec<(String, String, i64)>> {
    let rows = client
        .query(
            &format!(
                "select entity, comparison_type, count(*) from regraft.data_differentials
                 where {OPEN} group by 1, 2 order by 1, 2"
            ),
            &[
                &filter.entities,
                &filter.id,
                &filter.legacy_id,
                &filter.operation_id,
            ],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

/// The latest comparison, or the one of this id: its id and its summaries by entity.
pub async fn summaries(
    client: &impl GenericClient,
    operation_id: Option<&str>,
) -> Result<Option<(String, Vec<(String, Value)>)>> {
    let rows = client
        .query(
            "select operation_id, entity, detail from regraft.data_differentials
             where comparison_type = 'summary' and operation_id = coalesce($1,
               (select operation_id from regraft.data_differentials
                where comparison_type = 'summary' order by created_at desc limit 1))
             order by created_at, entity",
            &[&operation_id],
        )
        .await?;
    let id = rows.first().map(|row| row.get(0));
    Ok(id.map(|id| {
        let entities = rows.iter().map(|row| (row.get(1), row.get(2))).collect();
        (id, entities)
    }))
}

/// Forgets what was planned and not begun of an entity in a run, so that it can be planned anew;
/// the highest number among its batches.
pub async fn plan_anew(client: &impl GenericClient, run_no: i32, entity: &str) -> Result<i32> {
    client
        .execute(
            "delete from regraft.migration_control
             where run_no = $1 and entity = $2 and batch > 0 and status = 'pending'",
            &[&run_no, &entity],
        )
        .await?;
    let row = client
        .query_one(
            "select coalesce(max(batch), 0) from regraft.migration_control
             where run_no = $1 and entity = $2",
            &[&run_no, &entity],
        )
        .await?;
    Ok(row.get(0))
}

/// The run up to which an entity has been looked at before this one: what runs up to it have written
/// was there when all rows of the entity were last looked at. 0 for none.
///
/// It is the latest run that has looked at them, or an earlier one, where others were not finished when
/// that one began: what these wrote may have come too late for it.
pub async fn looked_at_by(client: &impl GenericClient, entity: &str, before: i32) -> Result<i32> {
    let row = client
        .query_one(
            "select coalesce(max(least(e.run_no, (r.detail ->> 'oldest_beside')::int4 - 1)), 0)
             from regraft.migration_control e
             join regraft.migration_control r on r.run_no = e.run_no and r.entity = '' and r.batch = 0
             where e.entity = $1 and e.batch = 0 and e.status = 'done' and e.run_no < $2
               and e.command in ('migrate', 'differential')",
            &[&entity, &before],
        )
        .await?;
    Ok(row.get(0))
}

/// Of some rows, those that are in a run's account by now: it has written or agreed on them, or left
/// them open.
pub async fn accounted_in(
    client: &impl GenericClient,
    entity: &str,
    (run_no, run_id): (i32, &str),
    ids: &[String],
) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select legacy_id from regraft.migration_mappings
             where entity = $1 and legacy_id = any ($4) and coalesce(agreed_run, run_no) = $2
             union
             select legacy_id from regraft.data_differentials
             where entity = $1 and legacy_id = any ($4) and operation_id = $3 and not resolved",
            &[&entity, &run_no, &run_id, &ids],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The legacy ids of an entity that runs after this one have mapped.
pub async fn mapped_since(
    client: &impl GenericClient,
    entity: &str,
    run_no: i32,
) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select legacy_id from regraft.migration_mappings where entity = $1 and run_no > $2",
            &[&entity, &run_no],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The legacy ids of an entity that have another key now than a run after this one has taken from
/// them: rows that refer to them hold the old one.
pub async fn rekeyed_since(
    client: &impl GenericClient,
    entity: &str,
    run_no: i32,
) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select distinct c.legacy_id from regraft.migration_changes c
             join regraft.migration_mappings m on m.entity = $1 and m.legacy_id = c.legacy_id
             where c.entity = $1 and c.run_no > $2 and c.operation = 'delete' and m.new_id <> c.new_id",
            &[&entity, &run_no],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Whether any run has merged rows of an entity.
pub async fn ever_merged(client: &impl GenericClient, entity: &str) -> Result<bool> {
    let row = client
        .query_one(
            "select exists (select from regraft.migration_control
                            where entity = $1 and batch = 0 and merged > 0)",
            &[&entity],
        )
        .await?;
    Ok(row.get(0))
}
