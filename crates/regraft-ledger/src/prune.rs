//! Removing records of what is over.
//!
//! A run goes whole, or stays whole. It stays while anything leans on it: a row that it wrote or a
//! merge it made, the account that the databases are held against, the columns that fingerprints are
//! of, a row in quarantine, a conflict. Mappings and cursors always stay. What is removed besides are
//! before-images, settled differences, results of validations, and the history of jobs.

use regraft_pg::Result;
use serde::Serialize;
use tokio_postgres::GenericClient;

/// What says in a run's detail that before-images were removed which undoing it might need.
pub const IMAGES_REMOVED: &str = "images_removed";

/// What says in a batch's detail how many of its rows were deleted by runs whose before-images are
/// removed.
pub const DELETED_SINCE: &str = "deleted_since";

/// How many records were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Runs, with all that is recorded of their entities and batches.
    pub runs: i64,
    /// Records of runs, their entities and their batches.
    pub run_records: i64,
    /// Before-images of rows.
    pub before_images: i64,
    /// Differences that are settled, and summaries of comparisons.
    pub differences: i64,
    /// Results of validations.
    pub validation_results: i64,
    /// Runs of jobs.
    pub job_runs: i64,
}

impl Pruned {
    /// Whether there was nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Removes what ended more than so many days ago and nothing leans on. `marks` are the columns that
/// tell which rows are deleted, as (entity, column): what runs wrote there is still asked for.
///
/// The caller holds the run lock, and a transaction.
pub async fn prune(
    client: &impl GenericClient,
    days: f64,
    marks: &[(String, String)],
) -> Result<Pruned> {
    let horizon = horizon(client, days).await?;
    let mut pruned = Pruned {
        before_images: before_images(client, horizon, marks).await?,
        differences: settled(client, days).await?,
        validation_results: validations(client, days).await?,
        job_runs: job_runs(client, days).await?,
        ..Pruned::default()
    };
    candidates(client, horizon).await?;
    lean_on_later(client).await?;
    let (runs, records) = unneeded(client).await?;
    (pruned.runs, pruned.run_records) = (runs, records);
    pruned.differences += summaries(client, days).await?;
    Ok(pruned)
}

/// The last run up to which all have ended, more than so many days ago; 0 for none.
async fn horizon(client: &impl GenericClient, days: f64) -> Result<i32> {
    let row = client
        .query_one(
            "with run as (
               select run_no, status in ('done', 'rolled_back')
                      and coalesce(finished_at, started_at) < clock_timestamp() - $1 * interval '1 day' as over
               from regraft.migration_control where entity = '' and batch = 0)
             select coalesce((select min(run_no) - 1 from run where not over),
                             (select max(run_no) from run), 0)",
            &[&days],
        )
        .await?;
    Ok(row.get(0))
}

/// Removes before-images, and notes what the accounts still need of them. The latest one that is
/// about a mark stays, and one of a row that has another key since: those who refer to it are yet to
/// be told.
async fn before_images(
    client: &impl GenericClient,
    horizon: i32,
    marks: &[(String, String)],
) -> Result<i64> {
    let entities: Vec<&str> = marks.iter().map(|(entity, _)| entity.as_str()).collect();
    let columns: Vec<&str> = marks.iter().map(|(_, column)| column.as_str()).collect();
    let row = client
        .query_one(
            &format!(
                "with gone as (
                   delete from regraft.migration_changes c
                   where c.run_no <= $1
                     and not exists (
                       select from unnest($2::text[], $3::text[]) mark (entity, name)
                       where mark.entity = c.entity and c.operation = 'update'
                         and c.columns @> array[mark.name]
                         and not exists (
                           select from regraft.migration_changes later
                           where later.entity = c.entity and later.legacy_id = c.legacy_id
                             and later.run_no > c.run_no and later.operation = 'update'
                             and later.columns @> array[mark.name]))
                     and not (c.operation = 'delete' and exists (
                       select from regraft.migration_mappings m
                       where m.entity = c.entity and m.legacy_id = c.legacy_id and m.new_id <> c.new_id))
                   returning c.entity, c.operation, c.written_run, c.written_batch),
                 deleted as (
                   select entity, written_run, written_batch, count(*) as rows from gone
                   where operation = 'delete' and written_run is not null group by 1, 2, 3),
                 noted as (
                   update regraft.migration_control b
                   set detail = jsonb_set(b.detail, '{{{DELETED_SINCE}}}',
                         to_jsonb(coalesce((b.detail ->> '{DELETED_SINCE}')::bigint, 0) + d.rows))
                   from deleted d
                   where b.run_no = d.written_run and b.entity = d.entity and b.batch = d.written_batch)
                 select count(*) from gone"
            ),
            &[&horizon, &entities, &columns],
        )
        .await?;
    let removed: i64 = row.get(0);
    client
        .execute(
            &format!(
                "update regraft.migration_control
                 set detail = detail || '{{\"{IMAGES_REMOVED}\": true}}'
                 where entity = '' and batch = 0 and run_no <= $1 and status = 'done'
                   and not detail ? '{IMAGES_REMOVED}'"
            ),
            &[&horizon],
        )
        .await?;
    Ok(removed)
}

async fn settled(client: &impl GenericClient, days: f64) -> Result<i64> {
    let removed = client
        .execute(
            "delete from regraft.data_differentials
             where resolved and resolved_at < clock_timestamp() - $1 * interval '1 day'",
            &[&days],
        )
        .await?;
    Ok(signed(removed))
}

/// The latest validation stays, however old it is.
async fn validations(client: &impl GenericClient, days: f64) -> Result<i64> {
    let removed = client
        .execute(
            "delete from regraft.migration_validation_reports
             where generated_at < clock_timestamp() - $1 * interval '1 day'
               and validation_id <> (select validation_id from regraft.migration_validation_reports
                                     order by generated_at desc, id limit 1)",
            &[&days],
        )
        .await?;
    Ok(signed(removed))
}

/// The last three runs of each job stay, and the last one that completed.
async fn job_runs(client: &impl GenericClient, days: f64) -> Result<i64> {
    let removed = client
        .execute(
            "delete from regraft.sync_run_history h using (
               select sync_run_id,
                      row_number() over (partition by job_id order by started_at desc) as latest,
                      row_number() over (partition by job_id, status order by started_at desc) as of_status
               from regraft.sync_run_history where status <> 'running') n
             where n.sync_run_id = h.sync_run_id and n.latest > 3
               and not (h.status = 'completed' and n.of_status = 1)
               and h.completed_at < clock_timestamp() - $1 * interval '1 day'",
            &[&days],
        )
        .await?;
    Ok(signed(removed))
}

/// Notes the runs that may go as far as other runs are concerned. Those stay that others are told
/// from: the last of all (its number must not be given again), the last of each command, as a whole
/// and in each entity, the one whose account must fit the databases with all after it, those that
/// merged rows, and those that rebuilt mappings.
async fn candidates(client: &impl GenericClient, horizon: i32) -> Result<()> {
    client
        .batch_execute("drop table if exists pg_temp.regraft_old")
        .await?;
    client
        .execute(
            "create temp table regraft_old on commit drop as
             select r.run_no, r.run_id, r.detail -> 'columns' as columns
             from regraft.migration_control r
             where false",
            &[],
        )
        .await?;
    client
        .execute(
            "with entry as (
               select * from regraft.migration_control where batch = 0),
             current as (
               select entity, max(run_no) as run_no from entry
               where entity <> '' and status = 'done' and command in ('migrate', 'differential') group by 1),
             last as (
               select max(run_no) as run_no from entry where status = 'done' group by entity, command)
             insert into regraft_old
             select r.run_no, r.run_id, r.detail -> 'columns'
             from entry r
             where r.entity = '' and r.run_no <= $1 and r.status in ('done', 'rolled_back')
               and r.command <> 'mappings'
               and r.run_no <> (select max(run_no) from entry)
               and r.run_no not in (select run_no from last)
               and r.run_no is distinct from (
                 select max(run_no) from entry
                 where entity = '' and status <> 'rolled_back' and detail ? 'secret_check')
               and not exists (
                 select from entry e left join current c on c.entity = e.entity
                 where e.run_no = r.run_no and e.entity <> '' and e.status <> 'rolled_back'
                   and (e.merged > 0 or c.run_no is null or e.run_no >= c.run_no))",
            &[&horizon],
        )
        .await?;
    Ok(())
}

/// Fingerprints that a run noted which may go are of the same columns as those of the last
/// differential migration of the entity, which found nothing else to note: they count as noted by it.
async fn lean_on_later(client: &impl GenericClient) -> Result<()> {
    client
        .execute(
            "with later as (
               select distinct on (e.entity) e.entity, e.run_no, r.detail -> 'columns' -> e.entity as columns
               from regraft.migration_control e
               join regraft.migration_control r on r.run_no = e.run_no and r.entity = '' and r.batch = 0
               where e.entity <> '' and e.batch = 0 and e.status = 'done' and e.command = 'differential'
               order by e.entity, e.run_no desc)
             update regraft.migration_mappings m set agreed_run = l.run_no
             from regraft_old o, later l
             where m.agreed_run = o.run_no and l.entity = m.entity and l.run_no > o.run_no
               and o.columns -> m.entity = l.columns",
            &[],
        )
        .await?;
    Ok(())
}

/// Removes the noted runs that no row leans on: how many, and how many records.
async fn unneeded(client: &impl GenericClient) -> Result<(i64, i64)> {
    client
        .execute(
            "delete from regraft_old o
             where o.run_no in (select run_no from regraft.migration_mappings
                                union select agreed_run from regraft.migration_mappings
                                union select run_no from regraft.migration_changes
                                union select agreed_run from regraft.migration_changes
                                union select written_run from regraft.migration_changes
                                union select run_no from regraft.migration_quarantine where state <> 'resolved')
                or o.run_id in (select operation_id from regraft.data_differentials
                                where legacy_id is not null and not resolved)",
            &[],
        )
        .await?;
    let row = client
        .query_one(
            "with gone as (
               delete from regraft.migration_control c using regraft_old o
               where c.run_no = o.run_no returning c.entity, c.batch),
             checkpoints as (
               delete from regraft.migration_checkpoints c using regraft_old o where c.run_no = o.run_no)
             select count(*) filter (where entity = '' and batch = 0), count(*) from gone",
            &[],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// Summaries of comparisons whose run is not there stay only where they are the entity's latest.
async fn summaries(client: &impl GenericClient, days: f64) -> Result<i64> {
    let removed = client
        .execute(
            "delete from regraft.data_differentials d
             where d.legacy_id is null and d.created_at < clock_timestamp() - $1 * interval '1 day'
               and not exists (select from regraft.migration_control r
                               where r.run_id = d.operation_id and r.entity = '' and r.batch = 0)
               and exists (select from regraft.data_differentials l
                           where l.entity = d.entity and l.legacy_id is null and l.created_at > d.created_at)",
            &[&days],
        )
        .await?;
    Ok(signed(removed))
}

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
