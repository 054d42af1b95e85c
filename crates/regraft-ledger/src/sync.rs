//! Jobs that run by the clock, and the history of their runs.
//!
//! Every function that depends on the time is told the time, so that the clock of the caller counts;
//! the service goes by the database's.

use jiff::Timestamp;
use regraft_pg::Result;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

/// A job.
#[derive(Debug, Clone, Serialize)]
pub struct SyncJob {
    /// Its id.
    pub job_id: Uuid,
    /// Its name.
    pub name: String,
    /// The schedule as it was written.
    pub schedule: String,
    /// The time zone that it goes by.
    pub timezone: String,
    /// The entities that it carries over, as they were named.
    pub entities: Vec<String>,
    /// The policy for conflicts; `None` for the project's.
    pub conflict_resolution: Option<String>,
    /// What becomes of rows that the source has no more; `None` for the project's.
    pub deletes: Option<String>,
    /// Rows per batch.
    pub max_records: i32,
    /// Seconds that a run may take.
    pub time_limit: i64,
    /// `scheduled`, `running`, `paused` or `cancelled`.
    pub status: String,
    /// When it is due; `None` while it isn't.
    pub next_run_at: Option<Timestamp>,
    /// When its last run began.
    pub last_run_at: Option<Timestamp>,
    /// Whether it is due because its last run was cut off.
    pub is_retry: bool,
    /// Rises with each run.
    pub lease_epoch: i64,
    /// The process that runs it.
    pub leased_by: Option<String>,
    /// Until when that process counts as alive.
    pub leased_until: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A job to be created.
#[derive(Debug, Clone)]
pub struct NewSyncJob<'a> {
    /// Its name.
    pub name: &'a str,
    /// The schedule as it was written.
    pub schedule: &'a str,
    /// Its time zone.
    pub timezone: &'a str,
    /// What it carries over.
    pub entities: &'a [String],
    /// The policy for conflicts, if one was asked for.
    pub conflict_resolution: Option<&'a str>,
    /// What becomes of rows that the source has no more, if it was said.
    pub deletes: Option<&'a str>,
    /// Rows per batch, 1,000 to 100,000.
    pub max_records: i32,
    /// Seconds that a run may take.
    pub time_limit: i64,
}

/// A run of a job.
#[derive(Debug, Clone, Serialize)]
pub struct SyncRun {
    /// Its id.
    pub sync_run_id: Uuid,
    /// The job's id.
    pub job_id: Uuid,
    /// The job's name.
    pub job_name: String,
    /// `scheduled`, `manual` or `retry`.
    pub run_type: String,
    /// The time of the schedule that it is the run of.
    pub due_at: Option<Timestamp>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Its run in `migration_control`.
    pub run_id: Option<String>,
    /// Rows inserted, updated or deleted.
    pub records_synced: i64,
    /// Rows that could not be moved.
    pub records_failed: i64,
    /// Rows that somebody has to decide on.
    pub conflicts: i64,
    /// Why it failed, or was cut off.
    pub error_summary: Option<String>,
    /// Durations and rates.
    pub performance_metrics: Value,
    /// The process that ran it.
    pub worker: String,
    /// How its rate has changed, where it was held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<Value>,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct SyncRunEnd {
    /// `completed`, `failed` or `cancelled`.
    pub status: &'static str,
    /// Its run in `migration_control`.
    pub run_id: Option<String>,
    /// Rows inserted, updated or deleted.
    pub records_synced: i64,
    /// Rows that could not be moved.
    pub records_failed: i64,
    /// Rows that somebody has to decide on.
    pub conflicts: i64,
    /// Why it failed, or was cut off.
    pub error_summary: Option<String>,
    /// The entities that it carried over.
    pub entities: Vec<String>,
    /// Durations and rates.
    pub metrics: Value,
}

/// How a job has done so far.
#[derive(Debug, Clone, Serialize)]
pub struct SyncSummary {
    /// Rows that its runs inserted, updated or deleted.
    pub records_synced: i64,
    /// Runs that have ended.
    pub runs: i64,
    /// Of these, the completed ones, in percent; `None` where none has ended.
    pub success_rate: Option<f64>,
    /// Milliseconds that a completed run takes on average.
    pub average_duration_ms: Option<f64>,
}

/// A run to begin, under a new lease.
#[derive(Debug, Clone)]
pub struct SyncLease<'a> {
    /// `scheduled`, `manual` or `retry`.
    pub run_type: &'a str,
    /// The time of the schedule that it is the run of.
    pub due_at: Option<Timestamp>,
    /// When the job is due after it.
    pub next_run_at: Option<Timestamp>,
    /// Who runs it.
    pub worker: &'a str,
    /// Now.
    pub now: Timestamp,
    /// How long the lease holds.
    pub until: Timestamp,
}

const JOB: &str = "job_id, job_name, schedule, timezone, entities_to_sync, conflict_resolution, deletes, \
                   max_records_per_batch, time_limit_seconds, status, next_run_at, last_run_at, is_retry, \
                   lease_epoch, leased_by, leased_until, created_at";

fn read_job(row: &Row) -> SyncJob {
    let entities: Value = row.get(4);
    let names = entities.as_array().into_iter().flatten();
    SyncJob {
        job_id: row.get(0),
        name: row.get(1),
        schedule: row.get(2),
        timezone: row.get(3),
        entities: names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        conflict_resolution: row.get(5),
        deletes: row.get(6),
        max_records: row.get(7),
        time_limit: row.get(8),
        status: row.get(9),
        next_run_at: row.get(10),
        last_run_at: row.get(11),
        is_retry: row.get(12),
        lease_epoch: row.get(13),
        leased_by: row.get(14),
        leased_until: row.get(15),
        created_at: row.get(16),
    }
}

/// Creates a job, due first at `next`; `None` where there is one of that name.
pub async fn create_sync_job(
    client: &impl GenericClient,
    job: &NewSyncJob<'_>,
    now: Timestamp,
    next: Timestamp,
) -> Result<Option<SyncJob>> {
    let row = client
        .query_opt(
            &format!(
                "insert into regraft.synchronization_jobs
                   (job_name, schedule, timezone, entities_to_sync, conflict_resolution, deletes,
                    max_records_per_batch, time_limit_seconds, created_at, next_run_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                 on conflict (job_name) do nothing returning {JOB}"
            ),
            &[
                &job.name,
                &job.schedule,
                &job.timezone,
                &Value::from(job.entities),
                &job.conflict_resolution,
                &job.deletes,
                &job.max_records,
                &job.time_limit,
                &now,
                &next,
            ],
        )
        .await?;
    Ok(row.as_ref().map(read_job))
}

/// All jobs, or those with a status, by name.
pub async fn sync_jobs(client: &impl GenericClient, status: Option<&str>) -> Result<Vec<SyncJob>> {
    let rows = client
        .query(
            &format!(
                "select {JOB} from regraft.synchronization_jobs
                 where $1::text is null or status = $1 order by job_name"
            ),
            &[&status],
        )
        .await?;
    Ok(rows.iter().map(read_job).collect())
}

/// The job with this name or id; with `lock` it is locked until the transaction ends.
pub async fn sync_job(
    client: &impl GenericClient,
    name: Option<&str>,
    id: Option<Uuid>,
    lock: bool,
) -> Result<Option<SyncJob>> {
    let locked = if lock { "for update" } else { "" };
    let row = client
        .query_opt(
            &format!(
                "select {JOB} from regraft.synchronization_jobs
                 where job_name = $1 or job_id = $2 {locked}"
            ),
            &[&name, &id],
        )
        .await?;
    Ok(row.as_ref().map(read_job))
}

/// The job that has been due for longest, locked until the transaction ends. Those of `passed_over` are
/// left, and those that another process is about to take.
pub async fn lock_due_sync_job(
    client: &impl GenericClient,
    now: Timestamp,
    passed_over: &[Uuid],
) -> Result<Option<SyncJob>> {
    let row = client
        .query_opt(
            &format!(
                "select {JOB} from regraft.synchronization_jobs
                 where status = 'scheduled' and next_run_at <= $1 and job_id <> all ($2)
                 order by next_run_at, job_name limit 1 for update skip locked"
            ),
            &[&now, &passed_over],
        )
        .await?;
    Ok(row.as_ref().map(read_job))
}

/// When the next job is due, those of `passed_over` apart.
pub async fn next_sync_job_due(
    client: &impl GenericClient,
    passed_over: &[Uuid],
) -> Result<Option<Timestamp>> {
    let row = client
        .query_one(
            "select min(next_run_at) from regraft.synchronization_jobs
             where status = 'scheduled' and job_id <> all ($1)",
            &[&passed_over],
        )
        .await?;
    Ok(row.get(0))
}

/// Begins a run of a job that is locked: the job is the worker's from now on. The run's id and the
/// lease's epoch.
pub async fn begin_sync_run(
    client: &impl GenericClient,
    job_id: Uuid,
    lease: &SyncLease<'_>,
) -> Result<(Uuid, i64)> {
    let row = client
        .query_one(
            "with leased as (
               update regraft.synchronization_jobs
               set status = 'running', status_after_run = 'scheduled', stop_asked = false, is_retry = false,
                   next_run_at = $2, last_run_at = $3, lease_epoch = lease_epoch + 1, leased_by = $4,
                   leased_until = $5
               where job_id = $1 returning job_id, lease_epoch)
             insert into regraft.sync_run_history
               (job_id, run_type, due_at, started_at, worker, lease_epoch)
             select job_id, $6,
                    (select $7::timestamptz where not exists (select from regraft.sync_run_history h
                       where h.job_id = $1 and h.due_at = $7 and h.run_type = 'scheduled')),
                    $3, $4, lease_epoch
             from leased
             returning sync_run_id, lease_epoch",
            &[
                &job_id,
                &lease.next_run_at,
                &lease.now,
                &lease.worker,
                &lease.until,
                &lease.run_type,
                &lease.due_at,
            ],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// Prolongs a lease; whether the run is asked to stop. `None` where the lease is another's by now,
/// or the job is gone.
pub async fn prolong_sync_lease(
    client: &impl GenericClient,
    (job_id, epoch): (Uuid, i64),
    until: Timestamp,
) -> Result<Option<bool>> {
    let row = client
        .query_opt(
            "update regraft.synchronization_jobs set leased_until = $3
             where job_id = $1 and lease_epoch = $2 and status = 'running' returning stop_asked",
            &[&job_id, &epoch, &until],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Notes which run of the ledger a job's run is, and the server process that holds its lock.
pub async fn note_sync_run(
    client: &impl GenericClient,
    (job_id, epoch): (Uuid, i64),
    run_id: &str,
    backend: i32,
) -> Result<()> {
    client
        .execute(
            "update regraft.sync_run_history
             set run_id = $3, backend_pid = $4,
                 backend_start = (select backend_start from pg_stat_activity where pid = $4)
             where job_id = $1 and lease_epoch = $2 and status = 'running'",
            &[&job_id, &epoch, &run_id, &backend],
        )
        .await?;
    Ok(())
}

/// Gives a job up that can't be run: it is paused, with a failed run that says why.
pub async fn give_up_sync_job(
    client: &impl GenericClient,
    job_id: Uuid,
    worker: &str,
    now: Timestamp,
    reason: &str,
) -> Result<()> {
    client
        .execute(
            "with paused as (
               update regraft.synchronization_jobs set status = 'paused', next_run_at = null
               where job_id = $1 returning job_id, lease_epoch)
             insert into regraft.sync_run_history
               (job_id, run_type, started_at, completed_at, status, error_summary, worker, lease_epoch)
             select job_id, 'scheduled', $3, $3, 'failed', $4, $2, lease_epoch from paused",
            &[&job_id, &worker, &now, &reason],
        )
        .await?;
    Ok(())
}

/// Ends a run under its lease and gives the job back: with `again` it is due at that time once more,
/// because it was cut off. Whether the lease still held; if not, nothing was recorded.
pub async fn end_sync_run(
    client: &impl GenericClient,
    (job_id, epoch): (Uuid, i64),
    end: &SyncRunEnd,
    now: Timestamp,
    again: Option<Timestamp>,
) -> Result<bool> {
    let changed = client
        .execute(
            "with given_back as (
               update regraft.synchronization_jobs
               set status = status_after_run, leased_by = null, leased_until = null, stop_asked = false,
                   next_run_at = case when status_after_run = 'scheduled' then coalesce($11, next_run_at) end,
                   is_retry = $11::timestamptz is not null
               where job_id = $1 and lease_epoch = $2 and status = 'running' returning job_id)
             update regraft.sync_run_history r
             set status = $3, completed_at = greatest($4, r.started_at), run_id = coalesce($5, r.run_id), records_synced = $6,
                 records_failed = $7, conflicts = $8, error_summary = $9, entities_processed = $10,
                 performance_metrics = $12
             from given_back where r.job_id = given_back.job_id and r.lease_epoch = $2 and r.status = 'running'",
            &[
                &job_id,
                &epoch,
                &end.status,
                &now,
                &end.run_id,
                &end.records_synced,
                &end.records_failed,
                &end.conflicts,
                &end.error_summary,
                &Value::from(end.entities.as_slice()),
                &again,
                &end.metrics,
            ],
        )
        .await?;
    Ok(changed > 0)
}

/// Takes jobs from processes that have not been heard of for longer than their lease holds: their
/// runs have failed, for the reason given, and the jobs are due again. A process that is frozen may
/// hold the lock of its run still: the server process that has it is ended. The jobs' names.
pub async fn recover_sync_jobs(
    client: &impl GenericClient,
    now: Timestamp,
    reason: &str,
) -> Result<Vec<String>> {
    let rows = client
        .query(
            "with gone as (
               select job_id from regraft.synchronization_jobs
               where status = 'running' and leased_until < $1 for update skip locked),
             given_back as (
               update regraft.synchronization_jobs j
               set status = status_after_run, leased_by = null, leased_until = null, stop_asked = false,
                   lease_epoch = lease_epoch + 1,
                   next_run_at = case when status_after_run = 'scheduled' then $1 end, is_retry = true
               from gone where j.job_id = gone.job_id returning j.job_id, j.job_name),
             failed as (
               update regraft.sync_run_history r
               set status = 'failed', completed_at = greatest($1, r.started_at), error_summary = $2
               from given_back where r.job_id = given_back.job_id and r.status = 'running'
               returning r.job_id, r.backend_pid, r.backend_start)
             select job_name, pg_terminate_backend(a.pid)
             from given_back join failed using (job_id)
             left join pg_stat_activity a
               on a.pid = failed.backend_pid and a.backend_start = failed.backend_start
             order by 1",
            &[&now, &reason],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Sets how a job that isn't running stands, and when it is due.
pub async fn set_sync_job(
    client: &impl GenericClient,
    job_id: Uuid,
    status: &str,
    next: Option<Timestamp>,
) -> Result<()> {
    client
        .execute(
            "update regraft.synchronization_jobs set status = $2, next_run_at = $3, is_retry = false
             where job_id = $1 and status <> 'running'",
            &[&job_id, &status, &next],
        )
        .await?;
    Ok(())
}

/// Says what a running job becomes after its run, and whether the run is to stop.
pub async fn set_sync_job_after_run(
    client: &impl GenericClient,
    job_id: Uuid,
    status: &str,
    stop: bool,
) -> Result<()> {
    client
        .execute(
            "update regraft.synchronization_jobs
             set status_after_run = $2, stop_asked = stop_asked or $3
             where job_id = $1 and status = 'running'",
            &[&job_id, &status, &stop],
        )
        .await?;
    Ok(())
}

/// Deletes a job with its history.
pub async fn delete_sync_job(client: &impl GenericClient, job_id: Uuid) -> Result<()> {
    client
        .execute(
            "delete from regraft.synchronization_jobs where job_id = $1",
            &[&job_id],
        )
        .await?;
    Ok(())
}

/// The latest runs, of one job or of all, the last begun first.
pub async fn sync_runs(
    client: &impl GenericClient,
    job_id: Option<Uuid>,
    most: i64,
) -> Result<Vec<SyncRun>> {
    let rows = client
        .query(
            "select r.sync_run_id, r.job_id, j.job_name, r.run_type, r.due_at, r.started_at,
                    r.completed_at, r.status, r.run_id, r.records_synced, r.records_failed, r.conflicts,
                    r.error_summary, r.performance_metrics, r.worker, m.detail -> 'pace'
             from regraft.sync_run_history r join regraft.synchronization_jobs j using (job_id)
             left join regraft.migration_control m
               on m.run_id = r.run_id and m.entity = '' and m.batch = 0
             where $1::uuid is null or r.job_id = $1
             order by r.started_at desc, r.lease_epoch desc limit $2",
            &[&job_id, &most],
        )
        .await?;
    let read = |row: &Row| SyncRun {
        sync_run_id: row.get(0),
        job_id: row.get(1),
        job_name: row.get(2),
        run_type: row.get(3),
        due_at: row.get(4),
        started_at: row.get(5),
        completed_at: row.get(6),
        status: row.get(7),
        run_id: row.get(8),
        records_synced: row.get(9),
        records_failed: row.get(10),
        conflicts: row.get(11),
        error_summary: row.get(12),
        performance_metrics: row.get(13),
        worker: row.get(14),
        pace: row.get(15),
    };
    Ok(rows.iter().map(read).collect())
}

/// How a job has done so far.
pub async fn sync_summary(client: &impl GenericClient, job_id: Uuid) -> Result<SyncSummary> {
    let row = client
        .query_one(
            "select coalesce(sum(records_synced), 0)::bigint, count(*) filter (where status <> 'running'),
                    100.0::float8 * count(*) filter (where status = 'completed')
                      / nullif(count(*) filter (where status <> 'running'), 0),
                    avg(extract(epoch from completed_at - started_at)) filter (where status = 'completed')::float8 * 1000
             from regraft.sync_run_history where job_id = $1",
            &[&job_id],
        )
        .await?;
    Ok(SyncSummary {
        records_synced: row.get(0),
        runs: row.get(1),
        success_rate: row.get(2),
        average_duration_ms: row.get(3),
    })
}

/// How all jobs stand.
#[derive(Debug, Clone)]
pub struct SyncStanding {
    /// How many there are.
    pub jobs: i64,
    /// Those with a run whose process is not heard of any more.
    pub abandoned: Vec<String>,
    /// Those that have been due for more than five minutes.
    pub overdue: Vec<String>,
    /// Those that are scheduled and whose last run has failed.
    pub failing: Vec<String>,
}

/// How all jobs stand, by the clock of the database.
pub async fn sync_standing(client: &impl GenericClient) -> Result<SyncStanding> {
    let row = client
        .query_one(
            "select count(*),
               array(select job_name from regraft.synchronization_jobs
                     where status = 'running' and leased_until < clock_timestamp() order by 1),
               array(select job_name from regraft.synchronization_jobs
                     where status = 'scheduled' and next_run_at < clock_timestamp() - interval '5 minutes'
                     order by 1),
               array(select job_name from regraft.synchronization_jobs j
                     where status in ('scheduled', 'running')
                       and (select r.status from regraft.sync_run_history r
                            where r.job_id = j.job_id and r.status <> 'running'
                            order by r.started_at desc limit 1) = 'failed'
                     order by 1)
             from regraft.synchronization_jobs",
            &[],
        )
        .await?;
    Ok(SyncStanding {
        jobs: row.get(0),
        abandoned: row.get(1),
        overdue: row.get(2),
        failing: row.get(3),
    })
}
