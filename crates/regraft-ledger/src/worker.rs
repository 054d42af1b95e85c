//! Workers: processes that take batches, as they tell of themselves.

use regraft_pg::Result;
use serde::Serialize;
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// A worker that was heard of lately.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerSeen {
    /// Host and process.
    pub name: String,
    /// Batches that it takes side by side.
    pub slots: i32,
    /// How long it has been there, in seconds.
    pub up_seconds: f64,
    /// How long ago it was last heard of, in seconds.
    pub silent_seconds: f64,
    /// The run that its last batch was of.
    pub run_id: Option<String>,
    /// Batches that it has moved.
    pub batches: i64,
    /// Source rows of these.
    pub rows: i64,
}

/// Tells that a worker is there, and what it has moved in all.
pub async fn note_worker(
    client: &impl GenericClient,
    worker_id: Uuid,
    name: &str,
    slots: i32,
    (run_id, batches, rows): (Option<&str>, i64, i64),
) -> Result<()> {
    client
        .execute(
            "insert into regraft.migration_workers (worker_id, name, slots, run_id, batches, rows)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (worker_id) do update set
               seen_at = clock_timestamp(), run_id = excluded.run_id,
               batches = excluded.batches, rows = excluded.rows",
            &[&worker_id, &name, &slots, &run_id, &batches, &rows],
        )
        .await?;
    Ok(())
}

/// Forgets a worker that has left, and those that were not heard of for a day.
pub async fn forget_worker(client: &impl GenericClient, worker_id: Uuid) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_workers
             where worker_id = $1 or seen_at < clock_timestamp() - interval '1 day'",
            &[&worker_id],
        )
        .await?;
    Ok(())
}

/// The workers that have not left, by name. A ledger of an earlier version has none.
pub async fn workers_seen(client: &impl GenericClient) -> Result<Vec<WorkerSeen>> {
    if crate::installed_version(client)
        .await?
        .is_none_or(|version| version < 5)
    {
        return Ok(Vec::new());
    }
    let rows = client
        .query(
            "select name, slots, extract(epoch from clock_timestamp() - started_at)::float8,
                    extract(epoch from clock_timestamp() - seen_at)::float8, run_id, batches, rows
             from regraft.migration_workers order by name, started_at",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| WorkerSeen {
            name: row.get(0),
            slots: row.get(1),
            up_seconds: row.get(2),
            silent_seconds: row.get(3),
            run_id: row.get(4),
            batches: row.get(5),
            rows: row.get(6),
        })
        .collect())
}
