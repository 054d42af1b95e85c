//! Checkpoints with the runs they are of, and setting one back to what is committed.

use regraft_pg::Result;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use crate::checkpoint::{COLUMNS, Checkpoint, read};

/// A checkpoint with what the ledger says of its run.
#[derive(Debug, Clone)]
pub struct CheckpointOfRun {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its run's id.
    pub run_id: String,
    /// Its run's command.
    pub command: String,
    /// `running`, `interrupted`, `failed`, `done` or `rolled_back`.
    pub run_status: String,
    /// When its run began; RFC 3339, UTC.
    pub started_at: String,
    /// When it last moved; RFC 3339, UTC.
    pub moved_at: String,
    /// Batches that are planned and not done.
    pub batches_left: i64,
}

/// The checkpoints of all runs, or those of an entity; latest run first.
pub async fn checkpoints_of_runs(
    client: &impl GenericClient,
    entity: Option<&str>,
) -> Result<Vec<CheckpointOfRun>> {
    let condition = "($1::text is null or c.entity = $1)";
    let rows = client.query(&select(condition), &[&entity]).await?;
    rows.iter().map(read_with_run).collect()
}

/// The checkpoint with this id.
pub async fn find_checkpoint(
    client: &impl GenericClient,
    id: Uuid,
) -> Result<Option<CheckpointOfRun>> {
    let row = client.query_opt(&select("c.id = $1"), &[&id]).await?;
    row.as_ref().map(read_with_run).transpose()
}

/// What setting back a checkpoint did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointReset {
    /// The epoch that holds now.
    pub epoch: i64,
    /// Batches that were in some state between, and are to be done now.
    pub batches_set_back: u64,
}

/// Raises the epoch of a checkpoint, so that whoever still holds the old one can't commit any more,
/// and has those of its batches that are not done count as planned. Touches no row of the target. The
/// caller holds the lock of those who write, and a transaction.
pub async fn reset_checkpoint(
    client: &impl GenericClient,
    checkpoint: &Checkpoint,
) -> Result<CheckpointReset> {
    let row = client
        .query_one(
            "update regraft.migration_checkpoints
             set epoch = epoch + 1, updated_at = clock_timestamp() where id = $1 returning epoch",
            &[&checkpoint.id],
        )
        .await?;
    let batches_set_back = client
        .execute(
            "update regraft.migration_control set status = 'pending', finished_at = null
             where run_no = $1 and entity = $2 and batch > 0
               and status in ('running', 'interrupted', 'failed')",
            &[&checkpoint.run_no, &checkpoint.entity],
        )
        .await?;
    Ok(CheckpointReset {
        epoch: row.get(0),
        batches_set_back,
    })
}

fn select(condition: &str) -> String {
    let columns: Vec<String> = COLUMNS
        .split(',')
        .map(|column| format!("c.{}", column.trim()))
        .collect();
    format!(
        "select {}, r.run_id, r.command, r.status,
                to_char(r.started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                to_char(c.updated_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                (select count(*) from regraft.migration_control b
                 where b.run_no = c.run_no and b.entity = c.entity and b.batch > 0
                   and b.status not in ('done', 'rolled_back'))
         from regraft.migration_checkpoints c
         join regraft.migration_control r on r.run_no = c.run_no and r.entity = '' and r.batch = 0
         where {condition} order by c.run_no desc, c.entity",
        columns.join(", ")
    )
}

fn read_with_run(row: &tokio_postgres::Row) -> Result<CheckpointOfRun> {
    let after = COLUMNS.split(',').count();
    Ok(CheckpointOfRun {
        checkpoint: read(row)?,
        run_id: row.get(after),
        command: row.get(after + 1),
        run_status: row.get(after + 2),
        started_at: row.get(after + 3),
        moved_at: row.get(after + 4),
        batches_left: row.get(after + 5),
    })
}
