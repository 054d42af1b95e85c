//! Where checkpoints stand, and setting one back to what is committed.

use regraft_ledger::{CheckpointOfRun, LockHolder, Mode, OpenRun, Phase};
use regraft_pg::Session;
use regraft_project::Project;
use serde::Serialize;
use uuid::Uuid;

use crate::bulk::Dropped;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::migrate::lock;
use crate::receipt::{require_ledger, table_of};
use crate::transaction;
use crate::unfinished::finishing_command;

/// How the run of a checkpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointProgress {
    /// Its run is finished.
    Done,
    /// Its run was begun and not finished, and no process is at work on it.
    Unfinished,
    /// Its run is not finished, and a process is at work on it.
    Working,
}

/// A checkpoint: how far an entity has come in a run.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointState {
    /// Its id, for `analyzer reset-checkpoint`.
    pub id: Uuid,
    /// Its run.
    pub run_id: String,
    /// The command of its run.
    pub command: String,
    /// The entity.
    pub entity: String,
    /// The table that the entity fills.
    pub target_table: String,
    /// How its run stands.
    pub state: CheckpointProgress,
    /// The server process that holds its run while a process is at work on it.
    pub server_process: Option<i32>,
    /// What the ledger says of its run: `running`, `interrupted`, `failed`, `done` or `rolled_back`.
    pub run_status: String,
    /// What the entity is going through.
    pub phase: Phase,
    /// How the entity is loaded.
    pub mode: Mode,
    /// Who may write: a process with an older epoch can't commit.
    pub epoch: i64,
    /// Batches committed.
    pub batches_done: i32,
    /// Batches that are planned and not done.
    pub batches_left: i64,
    /// Source rows of the batches committed.
    pub rows_done: i64,
    /// Source rows to go through, as counted at the start.
    pub rows_total: i64,
    /// Highest legacy id of the batch that was committed last.
    pub last_legacy_id: Option<String>,
    /// When its run began; RFC 3339, UTC.
    pub started_at: String,
    /// When it last moved; RFC 3339, UTC.
    pub moved_at: String,
    /// Indexes and constraints that are off the table, by name.
    pub taken_off: Vec<String>,
    /// What to type to have its run finished; `None` when it is.
    pub finish: Option<String>,
}

impl CheckpointState {
    /// Source rows gone through in percent of those to go through, 0 to 100.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no exactness")]
    pub fn percent_of_rows(&self) -> f64 {
        if self.phase == Phase::Done || self.state == CheckpointProgress::Done {
            return 100.0;
        }
        let total = self.rows_total.max(1) as f64;
        (100.0 * self.rows_done as f64 / total).clamp(0.0, 100.0)
    }

    /// Whether a run can go on from here.
    pub fn can_resume(&self) -> bool {
        self.state == CheckpointProgress::Unfinished
    }
}

/// Checkpoints, and who is at work.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointOverview {
    /// Whether the target has a ledger.
    pub ledger_installed: bool,
    /// The process that is at work on the target; one of them where there are several.
    pub at_work: Option<LockHolder>,
    /// The checkpoints, latest run first.
    pub checkpoints: Vec<CheckpointState>,
}

/// The checkpoints of all entities, or of one.
///
/// # Errors
/// A target that can't be reached.
pub async fn checkpoint_status(
    context: &Context,
    entity: Option<&str>,
) -> Result<CheckpointOverview> {
    let target = context.connect_target().await?;
    let at_work = regraft_ledger::run_lock_holder(&*target).await?;
    let ledger_installed = regraft_ledger::installed_version(&*target).await?.is_some();
    let mut checkpoints = Vec::new();
    if ledger_installed {
        checkpoints = states(&target, &context.project, entity).await?;
    }
    Ok(CheckpointOverview {
        ledger_installed,
        at_work,
        checkpoints,
    })
}

/// The checkpoints of an entity, or all, as they stand.
pub(super) async fn states(
    target: &Session,
    project: &Project,
    entity: Option<&str>,
) -> Result<Vec<CheckpointState>> {
    let open = regraft_ledger::open_runs(&**target).await?;
    let found = regraft_ledger::checkpoints_of_runs(&**target, entity).await?;
    let states = found.into_iter();
    Ok(states
        .map(|checkpoint| state(project, &open, checkpoint))
        .collect())
}

fn state(project: &Project, open: &[OpenRun], found: CheckpointOfRun) -> CheckpointState {
    let checkpoint = found.checkpoint;
    let run = open.iter().find(|open| open.run.run_id == found.run_id);
    CheckpointState {
        state: match run {
            None => CheckpointProgress::Done,
            Some(run) if run.at_work() => CheckpointProgress::Working,
            Some(_) => CheckpointProgress::Unfinished,
        },
        server_process: run.and_then(|run| run.server_process),
        finish: run.map(|run| finishing_command(project, run)),
        target_table: table_of(project, &checkpoint.entity),
        taken_off: taken_off(&checkpoint.dropped),
        id: checkpoint.id,
        run_id: found.run_id,
        command: found.command,
        entity: checkpoint.entity,
        run_status: found.run_status,
        phase: checkpoint.phase,
        mode: checkpoint.mode,
        epoch: checkpoint.epoch,
        batches_done: checkpoint.batches_done,
        batches_left: found.batches_left,
        rows_done: checkpoint.rows_done,
        rows_total: checkpoint.rows_total,
        last_legacy_id: checkpoint.last_key,
        started_at: found.started_at,
        moved_at: found.moved_at,
    }
}

fn taken_off(dropped: &serde_json::Value) -> Vec<String> {
    let dropped = serde_json::from_value::<Vec<Dropped>>(dropped.clone()).unwrap_or_default();
    dropped.into_iter().map(|part| part.name).collect()
}

/// What setting back a checkpoint came to.
#[derive(Debug, Clone, Serialize)]
pub struct ResetDone {
    /// The checkpoint as it stands now.
    pub checkpoint: CheckpointState,
    /// The epoch that held before: a process that has it can't commit any more.
    pub epoch_before: i64,
    /// Batches that were neither planned nor done, and are planned again.
    pub batches_set_back: u64,
}

/// The checkpoint with this id, if it may be set back.
///
/// # Errors
/// [`Kind::Usage`] for an id that no checkpoint has, or one whose run is done; [`Kind::Busy`] while
/// a process is at work on the target.
pub async fn checkpoint_to_reset(context: &Context, id: Uuid) -> Result<CheckpointState> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let checkpoint = resettable(context, &target, id).await?;
    match regraft_ledger::run_lock_holder(&*target).await? {
        None => Ok(checkpoint),
        // It may have just died: then its connection is gone in a moment.
        Some(_) => lock(context, &target).await.map(|()| checkpoint),
    }
}

/// Sets a checkpoint back to what is committed: its epoch rises, so that whoever still holds it can't
/// commit, and batches that are not done are to be done again. No row is touched.
///
/// # Errors
/// Those of [`checkpoint_to_reset`].
pub async fn reset_checkpoint(context: &Context, id: Uuid) -> Result<ResetDone> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    lock(context, &target).await?;
    let before = resettable(context, &target, id).await?;
    // Somebody who lost the lock and hangs may have the checkpoint in an open transaction.
    target.batch_execute("set lock_timeout = '5s'").await?;
    let reset = transaction::run(&target, false, async || {
        let Some(found) = regraft_ledger::find_checkpoint(&*target, id).await? else {
            return Err(unknown(id));
        };
        Ok(regraft_ledger::reset_checkpoint(&*target, &found.checkpoint).await?)
    });
    let reset = reset.await.map_err(|error| match error.kind() {
        Kind::Busy => held(&before),
        _ => error,
    })?;
    Ok(ResetDone {
        checkpoint: resettable(context, &target, id).await?,
        epoch_before: before.epoch,
        batches_set_back: reset.batches_set_back,
    })
}

async fn resettable(context: &Context, target: &Session, id: Uuid) -> Result<CheckpointState> {
    let Some(found) = regraft_ledger::find_checkpoint(&**target, id).await? else {
        return Err(unknown(id));
    };
    let open = regraft_ledger::open_runs(&**target).await?;
    let checkpoint = state(&context.project, &open, found);
    if checkpoint.state != CheckpointProgress::Done {
        return Ok(checkpoint);
    }
    let (run, status) = (&checkpoint.run_id, &checkpoint.run_status);
    Err(Error::new(
        Kind::Usage,
        format!(
            "the run of this checkpoint is {}: {run} has nothing left to go on with",
            status.replace('_', " ")
        ),
    )
    .in_entity(&checkpoint.entity)
    .hint(format!(
        "`regraft rollback --run {run}` undoes it; `regraft differential migrate {}` carries over what has changed since",
        checkpoint.entity
    )))
}

fn held(checkpoint: &CheckpointState) -> Error {
    let entity = &checkpoint.entity;
    Error::new(
        Kind::Busy,
        "a process that is no longer in charge has this checkpoint in an open transaction",
    )
    .in_entity(entity)
    .hint(format!(
        "try again when it has gone on or died; `regraft analyzer debug --entity {entity}` names its server process"
    ))
}

fn unknown(id: Uuid) -> Error {
    Error::new(
        Kind::Usage,
        format!("there is no checkpoint with the id {id} in this target"),
    )
    .hint("`regraft analyzer checkpoint-status --all` lists them with their ids")
}
