//! The ledger in figures, for those who watch it from outside.

use regraft_pg::Result;
use tokio_postgres::GenericClient;

/// How many jobs wait for a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SyncQueue {
    /// Jobs that are due and not at work.
    pub waiting: i64,
    /// Seconds that the first of them has been due for; 0 where none is.
    pub oldest_seconds: f64,
}

/// What there is to watch.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Jobs by their status.
    pub jobs: Vec<(String, i64)>,
    /// Jobs that wait for a process.
    pub queue: SyncQueue,
    /// Seconds since a run of the job last completed, by its name; without jobs that never did.
    pub since_success: Vec<(String, f64)>,
    /// Rows that somebody has to decide on, by entity.
    pub open_differences: Vec<(String, i64)>,
    /// Rows in quarantine or blocked by a parent, by entity.
    pub open_quarantine: Vec<(String, i64)>,
    /// Runs that were begun and are not finished, those at work among them.
    pub unfinished_runs: i64,
}

const QUEUE: &str = "select count(*),
       coalesce(extract(epoch from clock_timestamp() - min(next_run_at)), 0)::float8
     from regraft.synchronization_jobs
     where status = 'scheduled' and next_run_at <= clock_timestamp()";

/// How many jobs wait for a process, by the clock of the database.
pub async fn sync_queue(client: &impl GenericClient) -> Result<SyncQueue> {
    let row = client.query_one(QUEUE, &[]).await?;
    Ok(SyncQueue {
        waiting: row.get(0),
        oldest_seconds: row.get(1),
    })
}

/// Everything that there is to watch, by the clock of the database.
pub async fn observe(client: &impl GenericClient) -> Result<Observed> {
    Ok(Observed {
        jobs: counts(
            client,
            "select status, count(*) from regraft.synchronization_jobs group by 1",
        )
        .await?,
        queue: sync_queue(client).await?,
        since_success: since_success(client).await?,
        open_differences: counts(
            client,
            "select entity, count(*) from regraft.data_differentials
             where legacy_id is not null and not resolved group by 1",
        )
        .await?,
        open_quarantine: counts(
            client,
            "select entity, count(*) from regraft.migration_quarantine where state = 'open' group by 1",
        )
        .await?,
        unfinished_runs: client
            .query_one(
                "select count(*) from regraft.migration_control
                 where entity = '' and batch = 0 and status in ('running', 'interrupted', 'failed')",
                &[],
            )
            .await?
            .get(0),
    })
}

async fn counts(client: &impl GenericClient, sql: &str) -> Result<Vec<(String, i64)>> {
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn since_success(client: &impl GenericClient) -> Result<Vec<(String, f64)>> {
    let rows = client
        .query(
            "select j.job_name,
                    extract(epoch from clock_timestamp() - last.completed_at)::float8
             from regraft.synchronization_jobs j
             join lateral (
               select completed_at from regraft.sync_run_history r
               where r.job_id = j.job_id and r.status = 'completed'
               order by r.started_at desc limit 1) last on true",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
