//! Checkpoints: where each entity of a run stands, and the epoch that fences its writers.

use regraft_pg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// How an entity is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Indexes and constraints are taken off and brought back at the end.
    Bulk,
    /// The table stays as it is.
    InPlace,
}

impl Mode {
    /// As it is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::InPlace => "in-place",
        }
    }
}

/// What an entity is going through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Batches are being written.
    Loading,
    /// Indexes and constraints come back, and what they refuse is taken out.
    Settling,
    /// Rows that are merged into others have their mappings.
    Merging,
    /// References inside a cycle are being filled in.
    Linking,
    /// Nothing is left to do.
    Done,
}

impl Phase {
    /// As it is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Settling => "settling",
            Self::Merging => "merging",
            Self::Linking => "linking",
            Self::Done => "done",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "settling" => Self::Settling,
            "merging" => Self::Merging,
            "linking" => Self::Linking,
            "done" => Self::Done,
            _ => Self::Loading,
        }
    }
}

/// A checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its own id.
    pub id: Uuid,
    /// The run.
    pub run_no: i32,
    /// The entity.
    pub entity: String,
    /// Who may write: a writer whose epoch is older is refused.
    pub epoch: i64,
    /// How the entity is loaded.
    pub mode: Mode,
    /// What it is going through.
    pub phase: Phase,
    /// Batches committed.
    pub batches_done: i32,
    /// Source rows of those batches.
    pub rows_done: i64,
    /// Source rows to go through, as counted at the start.
    pub rows_total: i64,
    /// Highest legacy id of the batch committed last.
    pub last_key: Option<String>,
    /// What was taken off the table and must come back.
    pub dropped: Value,
}

/// Opens the checkpoint of an entity in a run, or takes over the one an earlier process left:
/// its epoch rises by one, so that a process that still holds the old one can't commit any more.
pub async fn open_checkpoint(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    mode: Mode,
    rows_total: i64,
) -> Result<Checkpoint> {
    let row = client
        .query_typed_one(
            &format!(
                "insert into regraft.migration_checkpoints (run_no, entity, epoch, mode, phase, rows_total)
                 values ($1, $2, 1, $3, 'loading', $4)
                 on conflict (run_no, entity) do update set
                   epoch = migration_checkpoints.epoch + 1,
                   rows_total = excluded.rows_total + migration_checkpoints.rows_done,
                   updated_at = clock_timestamp()
                 returning {COLUMNS}"
            ),
            &[
                (&run_no, Type::INT4),
                (&entity, Type::TEXT),
                (&mode.as_str(), Type::TEXT),
                (&rows_total, Type::INT8),
            ],
        )
        .await?;
    read(&row)
}

/// Raises the epoch of every checkpoint of a run: whoever wrote under the old ones is fenced off.
pub async fn take_over(client: &impl GenericClient, run_no: i32) -> Result<()> {
    client
        .execute(
            "update regraft.migration_checkpoints set epoch = epoch + 1, updated_at = clock_timestamp()
             where run_no = $1",
            &[&run_no],
        )
        .await?;
    Ok(())
}

/// The checkpoints of a run.
pub async fn checkpoints(client: &impl GenericClient, run_no: i32) -> Result<Vec<Checkpoint>> {
    let rows = client
        .query(
            &format!(
                "select {COLUMNS} from regraft.migration_checkpoints where run_no = $1 order by entity"
            ),
            &[&run_no],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// The checkpoints of an entity in all runs, latest run first.
pub async fn checkpoints_of(client: &impl GenericClient, entity: &str) -> Result<Vec<Checkpoint>> {
    let rows = client
        .query(
            &format!(
                "select {COLUMNS} from regraft.migration_checkpoints where entity = $1 order by run_no desc"
            ),
            &[&entity],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Advances a checkpoint by one batch, in the transaction of that batch.
///
/// # Errors
/// [`ErrorKind::LockNotAvailable`] when the epoch has moved on: another process has taken the run
/// over, and this transaction must not commit.
pub async fn advance(
    client: &impl GenericClient,
    checkpoint: &Checkpoint,
    rows: i64,
    last_key: &str,
) -> Result<()> {
    let changed = client
        .execute_typed(
            "update regraft.migration_checkpoints
             set batches_done = batches_done + 1, rows_done = rows_done + $4, last_key = $5,
                 updated_at = clock_timestamp()
             where run_no = $1 and entity = $2 and epoch = $3",
            &[
                (&checkpoint.run_no, Type::INT4),
                (&checkpoint.entity, Type::TEXT),
                (&checkpoint.epoch, Type::INT8),
                (&rows, Type::INT8),
                (&last_key, Type::TEXT),
            ],
        )
        .await?;
    fenced(changed, &checkpoint.entity)
}

/// Moves a checkpoint to another phase, under the same fence.
pub async fn set_phase(
    client: &impl GenericClient,
    checkpoint: &Checkpoint,
    phase: Phase,
) -> Result<()> {
    let changed = client
        .execute_typed(
            "update regraft.migration_checkpoints set phase = $4, updated_at = clock_timestamp()
             where run_no = $1 and entity = $2 and epoch = $3",
            &[
                (&checkpoint.run_no, Type::INT4),
                (&checkpoint.entity, Type::TEXT),
                (&checkpoint.epoch, Type::INT8),
                (&phase.as_str(), Type::TEXT),
            ],
        )
        .await?;
    fenced(changed, &checkpoint.entity)
}

/// Notes what is taken off the table (or, with an empty list, that all of it is back), under the
/// same fence, in the transaction that does it.
pub async fn set_dropped(
    client: &impl GenericClient,
    checkpoint: &Checkpoint,
    dropped: &Value,
) -> Result<()> {
    let changed = client
        .execute_typed(
            "update regraft.migration_checkpoints set dropped = $4, updated_at = clock_timestamp()
             where run_no = $1 and entity = $2 and epoch = $3",
            &[
                (&checkpoint.run_no, Type::INT4),
                (&checkpoint.entity, Type::TEXT),
                (&checkpoint.epoch, Type::INT8),
                (dropped, Type::JSONB),
            ],
        )
        .await?;
    fenced(changed, &checkpoint.entity)
}

/// Notes that all that was taken off the table is back, in the transaction that brought it back, and
/// moves the checkpoint past loading; under the same fence.
pub async fn settled(client: &impl GenericClient, checkpoint: &Checkpoint) -> Result<()> {
    let changed = client
        .execute_typed(
            "update regraft.migration_checkpoints
             set phase = 'settling', dropped = '[]', updated_at = clock_timestamp()
             where run_no = $1 and entity = $2 and epoch = $3",
            &[
                (&checkpoint.run_no, Type::INT4),
                (&checkpoint.entity, Type::TEXT),
                (&checkpoint.epoch, Type::INT8),
            ],
        )
        .await?;
    fenced(changed, &checkpoint.entity)
}

fn fenced(changed: u64, entity: &str) -> Result<()> {
    if changed == 1 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::LockNotAvailable,
        format!(
            "another process has taken this run over (entity {entity}): nothing of this batch was \
             written; see `regraft status`"
        ),
    ))
}

pub(crate) const COLUMNS: &str = "id, run_no, entity, epoch, mode, phase, batches_done, rows_done, rows_total, \
                       last_key, dropped";

pub(crate) fn read(row: &tokio_postgres::Row) -> Result<Checkpoint> {
    let mode: String = row.get(4);
    let phase: String = row.get(5);
    Ok(Checkpoint {
        id: row.get(0),
        run_no: row.get(1),
        entity: row.get(2),
        epoch: row.get(3),
        mode: if mode == "bulk" {
            Mode::Bulk
        } else {
            Mode::InPlace
        },
        phase: Phase::parse(&phase),
        batches_done: row.get(6),
        rows_done: row.get(7),
        rows_total: row.get(8),
        last_key: row.get(9),
        dropped: row.get(10),
    })
}
