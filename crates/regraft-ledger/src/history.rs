//! The runs of an entity over time.

use std::collections::BTreeMap;

use regraft_pg::Result;
use serde::Serialize;
use tokio_postgres::GenericClient;

/// What a run did to one entity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntityRun {
    /// The run's id.
    pub run_id: String,
    /// Its command.
    pub command: String,
    /// How the entity stands in it: `running`, `interrupted`, `failed`, `done` or `rolled_back`.
    pub status: String,
    /// How the run as a whole stands.
    pub run_status: String,
    /// When the entity was begun; RFC 3339, UTC.
    pub started_at: String,
    /// Seconds from its start to its end, pauses of a run that was taken up again among them.
    pub seconds: Option<f64>,
    /// Source rows it went through.
    pub source_rows: i64,
    /// Of these, rows in quarantine or blocked by a parent.
    pub left_behind: i64,
    /// What the run failed of, if it did and nobody has finished it since: `kind`, `message`, `code`
    /// (SQLSTATE), `entity`, `batch`, `legacy_ids`, `hint`.
    pub error: Option<serde_json::Value>,
}

/// The runs that were about an entity, latest first: those of the last `days` days where that is
/// given, and at most `limit`.
pub async fn entity_runs(
    client: &impl GenericClient,
    entity: &str,
    days: Option<i32>,
    limit: i64,
) -> Result<Vec<EntityRun>> {
    let rows = client
        .query(
            "select e.run_id, e.command, e.status, r.status,
                    to_char(e.started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                    extract(epoch from e.finished_at - e.started_at)::float8,
                    e.source_rows, e.quarantined + e.blocked,
                    case when r.status <> 'done' then r.detail -> 'error' end
             from regraft.migration_control e
             join regraft.migration_control r on r.run_no = e.run_no and r.entity = '' and r.batch = 0
             where e.entity = $1 and e.batch = 0
               and ($2::int4 is null or e.started_at >= now() - $2 * interval '1 day')
             order by e.run_no desc limit $3",
            &[&entity, &days, &limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| EntityRun {
            run_id: row.get(0),
            command: row.get(1),
            status: row.get(2),
            run_status: row.get(3),
            started_at: row.get(4),
            seconds: row.get(5),
            source_rows: row.get(6),
            left_behind: row.get(7),
            error: row.get(8),
        })
        .collect())
}

/// How many source rows each entity had when a migration last finished it.
pub async fn last_source_rows(client: &impl GenericClient) -> Result<BTreeMap<String, i64>> {
    let rows = client
        .query(
            "select distinct on (entity) entity, source_rows from regraft.migration_control
             where entity <> '' and batch = 0 and status = 'done' and command = 'migrate'
             order by entity, run_no desc",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A run of a job that carried an entity over, perhaps among others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRun {
    /// The job's name.
    pub job: String,
    /// Its run in `migration_control`.
    pub run_id: String,
    /// `completed`, `failed` or `cancelled`.
    pub status: String,
    /// When it was begun; RFC 3339, UTC.
    pub started_at: String,
    /// Seconds it took.
    pub seconds: f64,
    /// Rows inserted, updated or deleted, of all its entities.
    pub records_synced: i64,
    /// Source rows per second that it went through, of all its entities.
    pub rows_per_second: Option<f64>,
    /// Memory of the process when it ended, in bytes.
    pub memory_bytes: Option<i64>,
    /// The most memory of the process while it ran, in bytes.
    pub peak_memory_bytes: Option<i64>,
    /// Jobs that were due and waited for a process when it ended.
    pub queue_depth: Option<i64>,
}

/// The runs of jobs in the last `days` days that carried an entity over, latest first and at most
/// `limit`. Figures are as they were measured then; older programs measured fewer.
pub async fn job_runs(
    client: &impl GenericClient,
    entity: &str,
    days: i32,
    limit: i64,
) -> Result<Vec<JobRun>> {
    let rows = client
        .query(
            "select j.job_name, h.run_id, h.status,
                    to_char(h.started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                    coalesce((h.performance_metrics ->> 'duration_ms')::float8 / 1000,
                             extract(epoch from h.completed_at - h.started_at)::float8),
                    h.records_synced,
                    (h.performance_metrics ->> 'rows_per_second')::float8,
                    (h.performance_metrics ->> 'memory_bytes')::int8,
                    (h.performance_metrics ->> 'peak_memory_bytes')::int8,
                    (h.performance_metrics ->> 'queue_depth')::int8
             from regraft.sync_run_history h
             join regraft.synchronization_jobs j on j.job_id = h.job_id
             where h.status <> 'running' and h.started_at >= now() - $2::int4 * interval '1 day'
               and h.run_id in (select e.run_id from regraft.migration_control e
                                where e.entity = $1 and e.batch = 0)
             order by h.started_at desc limit $3",
            &[&entity, &days, &limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| JobRun {
            job: row.get(0),
            run_id: row.get(1),
            status: row.get(2),
            started_at: row.get(3),
            seconds: row.get(4),
            records_synced: row.get(5),
            rows_per_second: row.get(6),
            memory_bytes: row.get(7),
            peak_memory_bytes: row.get(8),
            queue_depth: row.get(9),
        })
        .collect())
}
