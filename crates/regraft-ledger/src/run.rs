//! Runs: one execution each of a command that may write.

use regraft_pg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::GenericClient;

use crate::Account;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process works on it, or died while it did.
    Running,
    /// Stopped at a checkpoint on request.
    Interrupted,
    /// Stopped by an error; can be resumed.
    Failed,
    /// Finished, with a balanced account.
    Done,
    /// Undone.
    RolledBack,
}

impl RunStatus {
    /// As it is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "interrupted" => Self::Interrupted,
            "failed" => Self::Failed,
            "done" => Self::Done,
            "rolled_back" => Self::RolledBack,
            _ => Self::Running,
        }
    }
}

/// A run as the ledger has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Short number.
    pub run_no: i32,
    /// Its id, such as `migrate_20261122_101500_3f2a`.
    pub run_id: String,
    /// The command.
    pub command: String,
    /// How it stands.
    pub status: RunStatus,
    /// What it was started with: entities, hashes, snapshot, program version.
    pub detail: Value,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: Option<String>,
    /// Seconds it took.
    pub seconds: Option<f64>,
    /// The sum of its entities' accounts.
    pub account: Account,
}

/// What a run is started with.
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    /// The command: `migrate`, `rollback`.
    pub command: &'a str,
    /// Entities, hashes, snapshot, program version.
    pub detail: &'a Value,
}

/// Begins a run, in a transaction of the caller, who holds the [`crate::run_lock`] or a share of it: the
/// next number is its alone. Its id is made from the server's clock (UTC). The run is held by this
/// session from now on ([`crate::hold_run`]).
///
/// What other runs that are not finished yet write may be seen by this one or not: the lowest of their
/// numbers is noted, so that whoever asks later what has come since this run goes back that far.
pub async fn begin_run(client: &impl GenericClient, new: &NewRun<'_>) -> Result<Run> {
    crate::lock::one_at_a_time(client).await?;
    let row = client
        .query_one(
            "insert into regraft.migration_control (run_no, run_id, command, status, detail)
             select coalesce(max(run_no), 0) + 1,
                    $1 || to_char(clock_timestamp() at time zone 'UTC', '_YYYYMMDD_HH24MISS_')
                       || left(replace(gen_random_uuid()::text, '-', ''), 4),
                    $1, 'running',
                    $2 || coalesce(jsonb_build_object('oldest_beside',
                      min(run_no) filter (where entity = '' and batch = 0
                        and status in ('running', 'interrupted', 'failed'))), '{}')
             from regraft.migration_control
             returning run_no",
            &[&new.command, new.detail],
        )
        .await?;
    let run_no: i32 = row.get(0);
    crate::hold_run(client, run_no).await?;
    by_number(client, run_no).await
}

async fn by_number(client: &impl GenericClient, run_no: i32) -> Result<Run> {
    let row = client
        .query_one(&format!("{SELECT} and c.run_no = $1"), &[&run_no])
        .await?;
    read(client, &row).await
}

/// Ends a run, or marks it as running again. What it had failed of before is forgotten once it is done.
pub async fn finish_run(client: &impl GenericClient, run_no: i32, status: RunStatus) -> Result<()> {
    client
        .execute(
            "update regraft.migration_control
             set status = $2, finished_at = case when $2 = 'running' then null else clock_timestamp() end,
                 detail = case when $2 = 'done' then detail - 'error' else detail end
             where run_no = $1 and entity = '' and batch = 0",
            &[&run_no, &status.as_str()],
        )
        .await?;
    Ok(())
}

/// Replaces one field of a run's detail.
pub async fn set_run_detail(
    client: &impl GenericClient,
    run_no: i32,
    field: &str,
    value: &Value,
) -> Result<()> {
    client
        .execute(
            "update regraft.migration_control set detail = jsonb_set(detail, array[$2::text], $3)
             where run_no = $1 and entity = '' and batch = 0",
            &[&run_no, &field, value],
        )
        .await?;
    Ok(())
}

/// The run of a command that was begun and not finished, if there is one.
pub async fn unfinished_run(client: &impl GenericClient, command: &str) -> Result<Option<Run>> {
    let row = client
        .query_opt(
            &format!(
                "{SELECT} and c.command = $1 and c.status in ('running', 'interrupted', 'failed')
                 order by c.run_no desc limit 1"
            ),
            &[&command],
        )
        .await?;
    match row {
        Some(row) => Ok(Some(read(client, &row).await?)),
        None => Ok(None),
    }
}

/// What the secret of the latest run that had one, and that is not undone, is recognised by.
pub async fn last_secret_check(client: &impl GenericClient) -> Result<Option<String>> {
    let row = client
        .query_opt(
            "select detail ->> 'secret_check' from regraft.migration_control
             where entity = '' and batch = 0 and status <> 'rolled_back' and detail ? 'secret_check'
             order by run_no desc limit 1",
            &[],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// A run that was begun and not finished.
#[derive(Debug, Clone)]
pub struct OpenRun {
    /// The run.
    pub run: Run,
    /// Entities of it that are not done: for a rollback, those that still have rows of the runs it
    /// undoes.
    pub left: Vec<String>,
    /// The server process that holds it while a process is at work on it.
    pub server_process: Option<i32>,
}

impl OpenRun {
    /// Whether a process is at work on it.
    pub fn at_work(&self) -> bool {
        self.server_process.is_some()
    }
}

/// The runs of every command that were begun and not finished, oldest first.
pub async fn open_runs(client: &impl GenericClient) -> Result<Vec<OpenRun>> {
    let rows = client
        .query(
            &format!(
                "{SELECT} and c.status in ('running', 'interrupted', 'failed') order by c.run_no"
            ),
            &[],
        )
        .await?;
    let held = crate::lock::held_runs(client).await?;
    let mut open = Vec::with_capacity(rows.len());
    for row in &rows {
        let run = read(client, row).await?;
        let server_process = held.holder(run.run_no);
        let left = if run.command == "rollback" {
            left_to_undo(client, run.run_no).await?
        } else {
            not_done(client, run.run_no).await?
        };
        open.push(OpenRun {
            run,
            left,
            server_process,
        });
    }
    Ok(open)
}

/// The entities that a run was begun for, or has begun, and has not done.
async fn not_done(client: &impl GenericClient, run_no: i32) -> Result<Vec<String>> {
    let rows = client
        .query(
            "with run as (
               select detail from regraft.migration_control where run_no = $1 and entity = '' and batch = 0)
             select named.entity from (
               select jsonb_array_elements_text(detail -> 'entities') as entity from run
               where jsonb_typeof(detail -> 'entities') = 'array'
               union
               select entity from regraft.migration_control where run_no = $1 and entity <> '' and batch = 0) named
             where not exists (
               select from regraft.migration_control e
               where e.run_no = $1 and e.entity = named.entity and e.batch = 0
                 and e.status in ('done', 'rolled_back'))
             order by 1",
            &[&run_no],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The entities of a rollback in which the runs it undoes still count.
async fn left_to_undo(client: &impl GenericClient, run_no: i32) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select distinct e.entity
             from regraft.migration_control r
             cross join lateral jsonb_each(r.detail -> 'undoes') part (entity, runs)
             join regraft.migration_control e
               on e.entity = part.entity and e.batch = 0 and e.status <> 'rolled_back'
                 and part.runs @> to_jsonb(e.run_no)
             where r.run_no = $1 and r.entity = '' and r.batch = 0 order by 1",
            &[&run_no],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The run with this id.
pub async fn find_run(client: &impl GenericClient, run_id: &str) -> Result<Option<Run>> {
    let row = client
        .query_opt(&format!("{SELECT} and c.run_id = $1"), &[&run_id])
        .await?;
    match row {
        Some(row) => Ok(Some(read(client, &row).await?)),
        None => Ok(None),
    }
}

/// All runs, latest first.
pub async fn list_runs(client: &impl GenericClient, limit: i64) -> Result<Vec<Run>> {
    let rows = client
        .query(
            &format!("{SELECT} order by c.run_no desc limit $1"),
            &[&limit],
        )
        .await?;
    let mut runs = Vec::with_capacity(rows.len());
    for row in &rows {
        runs.push(read(client, row).await?);
    }
    Ok(runs)
}

/// The runs that wrote rows of an entity which are still there, latest first: (run number, rows).
pub async fn runs_that_wrote(client: &impl GenericClient, entity: &str) -> Result<Vec<(i32, i64)>> {
    let rows = client
        .query(
            "select run_no, count(*) from regraft.migration_mappings
             where entity = $1 and merged_into is null group by 1 order by 1 desc",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Of which columns the fingerprints of an entity's mappings are, by the number of the run that noted
/// them.
pub async fn layouts(
    client: &impl GenericClient,
    entity: &str,
) -> Result<std::collections::HashMap<i32, Vec<String>>> {
    let rows = client
        .query(
            "select run_no, array(select jsonb_array_elements_text(detail -> 'columns' -> $1))
             from regraft.migration_control
             where entity = '' and batch = 0 and detail -> 'columns' ? $1",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The entities that a run touched, in the order it began them.
pub async fn entities_of_run(client: &impl GenericClient, run_no: i32) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select entity from regraft.migration_control
             where run_no = $1 and entity <> '' and batch = 0 order by started_at, entity",
            &[&run_no],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

const SELECT: &str = "select c.run_no, c.run_id, c.command, c.status, c.detail,
    to_char(c.started_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
    to_char(c.finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
    extract(epoch from c.finished_at - c.started_at)::float8
  from regraft.migration_control c where c.entity = '' and c.batch = 0";

async fn read(client: &impl GenericClient, row: &tokio_postgres::Row) -> Result<Run> {
    let run_no: i32 = row.get(0);
    let status: String = row.get(3);
    let mut account = Account::default();
    for record in crate::account::entity_records(client, run_no).await? {
        account.add(&record.account);
    }
    Ok(Run {
        run_no,
        run_id: row.get(1),
        command: row.get(2),
        status: RunStatus::parse(&status),
        detail: row.get(4),
        started_at: row.get(5),
        finished_at: row.get(6),
        seconds: row.get(7),
        account,
    })
}

/// Reads a document of the ledger into its type.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| {
        Error::new(
            ErrorKind::Protocol,
            format!("an entry of the ledger can't be read: {e}"),
        )
    })
}

/// Marks an entity of some runs as rolled back: its batches no longer count, and nothing of it is
/// taken off the table any more.
pub async fn mark_entity_rolled_back(
    client: &impl GenericClient,
    entity: &str,
    runs: &[i32],
) -> Result<()> {
    client
        .execute(
            "update regraft.migration_control set status = 'rolled_back'
             where entity = $1 and run_no = any ($2)",
            &[&entity, &runs],
        )
        .await?;
    client
        .execute(
            "delete from regraft.migration_checkpoints where entity = $1 and run_no = any ($2)",
            &[&entity, &runs],
        )
        .await?;
    Ok(())
}

/// Marks a run as rolled back when no entity of it is left.
pub async fn close_if_undone(client: &impl GenericClient, run_no: i32) -> Result<()> {
    client
        .execute(
            "update regraft.migration_control r set status = 'rolled_back'
             where run_no = $1 and entity = '' and batch = 0
               and not exists (select 1 from regraft.migration_control e
                 where e.run_no = $1 and e.entity <> '' and e.batch = 0 and e.status <> 'rolled_back')",
            &[&run_no],
        )
        .await?;
    Ok(())
}
