//! What the ledger holds against calling a migration finished.

use regraft_pg::Result;
use tokio_postgres::GenericClient;

/// Accounts that don't balance, and those of entities whose finished batches add up to something
/// else, of all runs that count: (run id, entity, rows that are too many or too few).
pub async fn unbalanced(client: &impl GenericClient) -> Result<Vec<(String, String, i64)>> {
    let rows = client
        .query(
            "with entry as (
               select run_no, run_id, entity, batch, source_rows,
                      inserted + updated + unchanged + merged + filtered + quarantined + blocked as accounted
               from regraft.migration_control where entity <> '' and status = 'done'),
             batches as (
               select run_no, entity, sum(source_rows)::bigint as source_rows, sum(accounted)::bigint as accounted
               from entry where batch > 0 group by run_no, entity)
             select e.run_id, e.entity,
                    greatest(abs(e.source_rows - e.accounted), abs(e.source_rows - coalesce(b.source_rows, 0)),
                             abs(e.accounted - coalesce(b.accounted, 0)))
             from entry e left join batches b using (run_no, entity)
             where e.batch = 0 and (e.source_rows <> e.accounted
               or e.source_rows <> coalesce(b.source_rows, 0) or e.accounted <> coalesce(b.accounted, 0))
             union all
             select run_id, entity, abs(source_rows - accounted) from entry
             where batch > 0 and source_rows <> accounted
             order by 1, 2",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

/// Tables whose indexes or constraints a run has taken off and not brought back, as (run id,
/// entity).
pub async fn taken_off(client: &impl GenericClient) -> Result<Vec<(String, String)>> {
    let rows = client
        .query(
            "select r.run_id, c.entity
             from regraft.migration_checkpoints c
             join regraft.migration_control r on r.run_no = c.run_no and r.entity = '' and r.batch = 0
             where c.dropped <> '[]' order by c.run_no, c.entity",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What the ledger has of an entity's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The entity.
    pub entity: String,
    /// Rows that have a mapping.
    pub mapped: i64,
    /// Rows that are in quarantine or blocked, those that were dropped among them.
    pub left_behind: i64,
    /// Rows that were dropped.
    pub dropped: i64,
}

/// What the ledger has of the rows of each entity.
pub async fn standing(client: &impl GenericClient) -> Result<Vec<Standing>> {
    let rows = client
        .query(
            "select entity, sum(mapped)::bigint, sum(stopped)::bigint, sum(dropped)::bigint from (
               select entity, count(*) as mapped, 0 as stopped, 0 as dropped
               from regraft.migration_mappings group by entity
               union all
               select entity, 0, count(*), count(*) filter (where state = 'dropped')
               from regraft.migration_quarantine where state <> 'resolved' group by entity
             ) all_rows group by entity order by entity",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Standing {
            entity: row.get(0),
            mapped: row.get(1),
            left_behind: row.get(2),
            dropped: row.get(3),
        })
        .collect())
}

/// The entities that a finished run is about, whether it found rows or not.
pub async fn finished_entities(client: &impl GenericClient) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select distinct e.entity from regraft.migration_control e
             where e.entity <> '' and e.batch = 0 and e.status = 'done' and e.command = 'migrate'
             order by e.entity",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The target's catalog as the latest finished migration left it: (run id, hash).
pub async fn recorded_catalog(client: &impl GenericClient) -> Result<Option<(String, String)>> {
    let row = client
        .query_opt(
            "select run_id, detail ->> 'target_catalog' from regraft.migration_control
             where entity = '' and batch = 0 and command = 'migrate' and status = 'done'
               and detail ? 'target_catalog'
             order by run_no desc limit 1",
            &[],
        )
        .await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}
