//! What was done, read from the ledger and from nowhere else.

mod explanation;

use regraft_ledger::{Account, Checkpoint, Run, RunReason, RunStatus, WorkerSeen};
use regraft_pg::Session;
use regraft_project::{Project, Selection};
use serde::{Deserialize, Serialize};

use crate::bulk::Dropped;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::pacing::RecordedPace;
use crate::unfinished::finishing_command;

pub use explanation::{Explanation, Figure, explain};

/// The account of a run: every source row in exactly one bucket.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Receipt {
    /// The run's id.
    pub run_id: String,
    /// Its command.
    pub command: String,
    /// `running`, `interrupted`, `failed`, `done` or `rolled_back`.
    pub status: String,
    /// The project's name.
    pub project: String,
    /// SHA-256 of the project as it was.
    pub project_hash: String,
    /// Hash of the source's catalog as it was.
    pub source_catalog: Option<String>,
    /// Hash of the target's catalog as it was.
    pub target_catalog: Option<String>,
    /// Hash of the plan that was carried out.
    pub plan_hash: Option<String>,
    /// The program that did it.
    pub program_version: String,
    /// The way of loading that was asked for: `auto`, `bulk` or `in-place`.
    pub mode: Option<String>,
    /// Source rows per transaction that were asked for.
    pub batch_size: Option<i64>,
    /// Batches side by side that were asked for.
    pub workers: Option<i64>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: Option<String>,
    /// Seconds from start to end.
    pub seconds: Option<f64>,
    /// The source's snapshot that was read.
    pub snapshot: Option<String>,
    /// Its entities, in the order they were moved.
    pub entities: Vec<EntityReceipt>,
    /// The sum of their accounts.
    pub total: Account,
    /// Source rows per second of the whole run.
    pub rows_per_second: Option<f64>,
    /// Shares of the rows, each with its denominator.
    pub rates: Vec<Rate>,
    /// Why rows stayed behind.
    pub reasons: Vec<RunReason>,
    /// What was taken away, for a rollback.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<Undone>,
    /// Whether all of it was rolled back, as asked for.
    pub dry_run: bool,
}

/// A share of the rows: no percentage without its denominator.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    /// `in place`, `left behind` or `filtered`.
    pub rate: &'static str,
    /// The rows that are.
    pub rows: i64,
    /// Of what: `source rows`, or `rows to move`, which are those that no filter drops.
    pub denominator: &'static str,
    /// How many rows that is.
    pub denominator_rows: i64,
    /// The share in percent; none of nothing.
    pub percent: Option<f64>,
}

/// What a rollback took away of one entity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// The entity.
    pub entity: String,
    /// The table.
    pub target_table: String,
    /// Rows deleted from it.
    pub rows: u64,
    /// Rows in which was put back what had been overwritten.
    #[serde(default)]
    pub put_back: u64,
    /// Rows that had been deleted and came back.
    #[serde(default)]
    pub brought_back: u64,
    /// Rows that were left as they were.
    #[serde(default)]
    pub left: u64,
    /// Entries of the quarantine deleted.
    pub quarantine: u64,
    /// The runs that had written them.
    pub runs: Vec<String>,
}

/// The account of an entity in a run.
#[derive(Debug, Clone, Serialize)]
pub struct EntityReceipt {
    /// The entity.
    pub entity: String,
    /// The table it fills.
    pub target_table: String,
    /// How it stands.
    pub status: String,
    /// `bulk` or `in-place`.
    pub mode: String,
    /// Batches committed.
    pub batches: u64,
    /// Its account.
    pub account: Account,
    /// Seconds from its start to its end.
    pub seconds: Option<f64>,
    /// Source rows per second.
    pub rows_per_second: Option<f64>,
}

/// Where things stand.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Whether the target has a ledger.
    pub ledger_installed: bool,
    /// The runs that were begun and not finished, of every command, oldest first.
    pub unfinished: Vec<UnfinishedRun>,
    /// The selected entities.
    pub entities: Vec<EntityStatus>,
    /// Processes that take batches of runs that are handed out.
    pub workers: Vec<WorkerSeen>,
}

/// A run that was begun and not finished.
#[derive(Debug, Clone, Serialize)]
pub struct UnfinishedRun {
    /// Its id.
    pub run_id: String,
    /// Its command.
    pub command: String,
    /// `running`, `interrupted` or `failed`.
    pub status: String,
    /// Whether a process is at work on it.
    pub working: bool,
    /// How its rate has changed, where it was held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<RecordedPace>,
    /// What to type to have it finished.
    pub finish: String,
    /// Entities of it that are not done.
    pub left: Vec<String>,
    /// Where its entities stand.
    pub entities: Vec<Checkpoint>,
    /// Tables whose indexes and constraints are still off.
    pub indexes_off: Vec<String>,
}

/// Where an entity stands.
#[derive(Debug, Clone, Serialize)]
pub struct EntityStatus {
    /// The entity.
    pub entity: String,
    /// The table it fills.
    pub target_table: String,
    /// Rows that have a mapping.
    pub mapped: i64,
    /// Rows in quarantine.
    pub quarantined: i64,
    /// Rows blocked by a parent.
    pub blocked: i64,
    /// Rows that were taken out of the quarantine for good.
    pub dropped: i64,
    /// The last run that was about it.
    pub last_run: Option<String>,
    /// How that run stands.
    pub last_status: Option<String>,
}

/// The receipt of a run; `last` stands for the latest migration.
///
/// # Errors
/// An unknown run, named with those that there are.
pub async fn receipt(context: &Context, run_id: &str) -> Result<Receipt> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    if run_id != "last" {
        return read(&target, &context.project, run_id).await;
    }
    let last = regraft_ledger::list_runs(&*target, 100)
        .await?
        .into_iter()
        .find(|run| run.command == "migrate");
    match last {
        Some(run) => read(&target, &context.project, &run.run_id).await,
        None => Err(
            Error::new(Kind::Usage, "there is no migration in this target yet")
                .hint("see `regraft plan`, then `regraft migrate`"),
        ),
    }
}

/// The receipt of a run over an open connection.
pub(crate) async fn read(target: &Session, project: &Project, run_id: &str) -> Result<Receipt> {
    let Some(run) = regraft_ledger::find_run(&**target, run_id).await? else {
        return Err(unknown_run(target, run_id).await?);
    };
    let field = |name: &str| run.detail.get(name);
    let text = |name: &str| field(name).and_then(|v| v.as_str()).map(str::to_owned);
    let number = |name: &str| field(name).and_then(serde_json::Value::as_i64);
    let entities = entity_receipts(target, project, run.run_no).await?;
    let undone = match field("undone") {
        Some(list) => Vec::<Undone>::deserialize(list).map_err(|e| unreadable(&run.run_id, &e))?,
        None => Vec::new(),
    };
    Ok(Receipt {
        project: text("project").unwrap_or_default(),
        project_hash: text("project_hash").unwrap_or_default(),
        source_catalog: text("source_catalog"),
        target_catalog: text("target_catalog"),
        plan_hash: text("plan_hash"),
        program_version: text("program_version").unwrap_or_default(),
        mode: text("mode"),
        batch_size: number("batch_size"),
        workers: number("workers"),
        snapshot: text("snapshot"),
        reasons: regraft_ledger::reasons_of_run(&**target, &run.run_id).await?,
        rates: rates(&run.account),
        rows_per_second: rate(run.account.source_rows, run.seconds),
        undone,
        run_id: run.run_id,
        command: run.command,
        status: run.status.as_str().to_owned(),
        started_at: run.started_at,
        finished_at: run.finished_at,
        seconds: run.seconds,
        total: run.account,
        entities,
        dry_run: false,
    })
}

async fn entity_receipts(
    target: &Session,
    project: &Project,
    run_no: i32,
) -> Result<Vec<EntityReceipt>> {
    let checkpoints = regraft_ledger::checkpoints(&**target, run_no).await?;
    let mut entities = Vec::new();
    for record in regraft_ledger::entity_records(&**target, run_no).await? {
        let checkpoint = checkpoints.iter().find(|c| c.entity == record.entity);
        entities.push(EntityReceipt {
            target_table: table_of(project, &record.entity),
            status: record.status,
            mode: checkpoint.map_or_else(String::new, |c| c.mode.as_str().to_owned()),
            batches: checkpoint.map_or(0, |c| c.batches_done.unsigned_abs().into()),
            rows_per_second: rate(record.account.source_rows, record.seconds),
            seconds: record.seconds,
            account: record.account,
            entity: record.entity,
        });
    }
    Ok(entities)
}

fn unreadable(run_id: &str, error: &serde_json::Error) -> Error {
    Error::new(
        Kind::Internal,
        format!("what run `{run_id}` undid can't be read from the ledger: {error}"),
    )
    .hint("the ledger may be of another version of this program: use the one that wrote it")
}

/// The shares of an account.
fn rates(total: &Account) -> Vec<Rate> {
    let in_place = total.inserted + total.updated + total.unchanged + total.merged;
    let left_behind = total.quarantined + total.blocked;
    let to_move = total.source_rows - total.filtered;
    [
        ("in place", in_place, "rows to move", to_move),
        ("left behind", left_behind, "rows to move", to_move),
        ("filtered", total.filtered, "source rows", total.source_rows),
    ]
    .into_iter()
    .map(|(rate, rows, denominator, denominator_rows)| Rate {
        rate,
        rows,
        denominator,
        denominator_rows,
        percent: percent(rows, denominator_rows),
    })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no exactness")]
fn percent(rows: i64, of: i64) -> Option<f64> {
    (of != 0).then(|| 100.0 * rows as f64 / of as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no exactness")]
fn rate(rows: i64, seconds: Option<f64>) -> Option<f64> {
    seconds.filter(|s| *s > 0.0).map(|s| rows as f64 / s)
}

async fn unknown_run(target: &Session, run_id: &str) -> Result<Error> {
    let known: Vec<String> = regraft_ledger::list_runs(&**target, 5)
        .await?
        .into_iter()
        .map(|r| r.run_id)
        .collect();
    let error = Error::new(
        Kind::Usage,
        format!("there is no run `{run_id}` in this target"),
    );
    Ok(if known.is_empty() {
        error.hint("nothing was migrated yet")
    } else {
        error.hint(format!("the latest are {}", known.join(", ")))
    })
}

/// Refuses a target without a ledger.
pub(crate) async fn require_ledger(target: &Session) -> Result<()> {
    if regraft_ledger::installed_version(&**target)
        .await?
        .is_some()
    {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        "nothing was ever migrated to this target: it has no ledger",
    )
    .hint("see `regraft plan`, then `regraft migrate`; or check TARGET_DB_NAME"))
}

pub(crate) fn table_of(project: &Project, entity: &str) -> String {
    project
        .entity(entity)
        .map_or_else(String::new, |e| e.target.table.value.clone())
}

/// All runs, latest first.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn runs(context: &Context, limit: i64) -> Result<Vec<Run>> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    Ok(regraft_ledger::list_runs(&*target, limit).await?)
}

/// Where the selected entities and the unfinished runs stand.
///
/// # Errors
/// A target that can't be reached.
pub async fn status(context: &Context, selection: &Selection) -> Result<Status> {
    let target = context.connect_target().await?;
    let installed = regraft_ledger::installed_version(&*target).await?.is_some();
    let mut status = Status {
        ledger_installed: installed,
        unfinished: Vec::new(),
        entities: Vec::new(),
        workers: Vec::new(),
    };
    if !installed {
        for step in selection.entities() {
            status.entities.push(untouched(context, &step.entity));
        }
        return Ok(status);
    }
    status.unfinished = unfinished(&target, &context.project).await?;
    status.workers = regraft_ledger::workers_seen(&*target).await?;
    let runs = regraft_ledger::list_runs(&*target, 1_000).await?;
    for step in selection.entities() {
        status
            .entities
            .push(entity_status(context, &target, &runs, &step.entity).await?);
    }
    Ok(status)
}

fn untouched(context: &Context, entity: &str) -> EntityStatus {
    EntityStatus {
        entity: entity.to_owned(),
        target_table: table_of(&context.project, entity),
        mapped: 0,
        quarantined: 0,
        blocked: 0,
        dropped: 0,
        last_run: None,
        last_status: None,
    }
}

/// The runs that were begun and not finished, oldest first.
pub(crate) async fn unfinished(target: &Session, project: &Project) -> Result<Vec<UnfinishedRun>> {
    let open = regraft_ledger::open_runs(&**target).await?;
    let mut unfinished = Vec::with_capacity(open.len());
    for open in open {
        let entities = regraft_ledger::checkpoints(&**target, open.run.run_no).await?;
        let off = |c: &&Checkpoint| {
            serde_json::from_value::<Vec<Dropped>>(c.dropped.clone()).is_ok_and(|d| !d.is_empty())
        };
        unfinished.push(UnfinishedRun {
            working: open.at_work(),
            finish: finishing_command(project, &open),
            indexes_off: entities
                .iter()
                .filter(off)
                .map(|c| table_of(project, &c.entity))
                .collect(),
            run_id: open.run.run_id,
            command: open.run.command,
            status: open.run.status.as_str().to_owned(),
            pace: RecordedPace::of(&open.run.detail),
            left: open.left,
            entities,
        });
    }
    Ok(unfinished)
}

async fn entity_status(
    context: &Context,
    target: &Session,
    runs: &[Run],
    entity: &str,
) -> Result<EntityStatus> {
    let row = target
        .query_one(
            "select (select count(*) from regraft.migration_mappings where entity = $1),
                    count(*) filter (where bucket = 'quarantined' and state = 'open'),
                    count(*) filter (where bucket = 'blocked' and state = 'open'),
                    count(*) filter (where state = 'dropped')
             from regraft.migration_quarantine where entity = $1",
            &[&entity],
        )
        .await?;
    let mut last = None;
    for run in runs
        .iter()
        .filter(|run| run.status != RunStatus::RolledBack)
    {
        if regraft_ledger::entities_of_run(&**target, run.run_no)
            .await?
            .iter()
            .any(|e| e == entity)
        {
            last = Some(run);
            break;
        }
    }
    Ok(EntityStatus {
        mapped: row.get(0),
        quarantined: row.get(1),
        blocked: row.get(2),
        dropped: row.get(3),
        last_run: last.map(|run| run.run_id.clone()),
        last_status: last.map(|run| run.status.as_str().to_owned()),
        ..untouched(context, entity)
    })
}
