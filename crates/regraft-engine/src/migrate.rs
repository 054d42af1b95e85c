//! `migrate`: the run as a whole.

mod claim;
mod crew;
mod entity;
mod lanes;
mod offer;
mod options;
mod prepare;
mod redrive;
mod workers;

use std::collections::HashMap;
use std::sync::Arc;

use regraft_ledger::{Mode, Run, RunStatus};
use regraft_pg::Session;
use regraft_pg::catalog::Catalog;
use regraft_pg::copy::Rows;
use regraft_project::{Budget, Selection};
use serde::Serialize;
use serde_json::json;
use tokio::sync::RwLock;
use tokio::try_join;
use uuid::Uuid;

pub(crate) use claim::{Claim, tables_of};
pub(crate) use crew::BatchCrew;
pub(crate) use entity::{
    checkpoint, choose_mode, is_empty, open as open_entity, plan as plan_entity,
};
pub(crate) use lanes::{components, create_partitions};
use offer::OfferedBatch;
pub use options::{MigrateOptions, ModeChoice};
pub(crate) use prepare::{
    changed_since, check_same_secret, check_secret, install_ledger, lock, resolved,
};
pub use redrive::{Gone, Retried, retry_quarantine};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::failpoints;
use crate::keys::{KeyMap, KeyMapBuilder, LegacyId};
use crate::load::DROPPED;
use crate::model::{EntityModel, Model};
use crate::pacing::watch;
use crate::receipt::{Receipt, require_ledger};
use crate::snapshot::Snapshot;
use workers::Pool;
pub(crate) use workers::run as run_batches;

/// What a migration came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The account.
    pub receipt: Receipt,
    /// Every row was in place, filtered or in quarantine already: nothing was written.
    pub nothing_to_do: bool,
    /// Whether quarantine stayed within the project's limit for every entity.
    pub within_budget: bool,
    /// The entities where it did not.
    pub over_budget: Vec<String>,
}

/// A run at work.
pub(crate) struct Engine<'a> {
    pub(crate) context: &'a Context,
    pub(crate) options: &'a MigrateOptions,
    pub(crate) model: &'a Model,
    pub(crate) run: Run,
    pub(crate) resumed: bool,
    pub(crate) snapshot: Arc<Snapshot>,
    /// The source connection that coordinates.
    pub(crate) source: Arc<Session>,
    /// The target connection that coordinates; in a dry run the only one.
    pub(crate) target: Arc<Session>,
    pub(crate) pool: Arc<Pool>,
    /// Held for reading by every batch, for writing by whoever takes foreign keys off a table: that
    /// locks the parents too, and batches of other entities lock them one by one.
    pub(crate) gate: Arc<RwLock<()>>,
}

/// Moves the selected entities. An earlier migration or retry that was left unfinished is taken up
/// and finished first, as part of this one.
///
/// # Errors
/// The project or its plan doesn't fit, or a run of another command is unfinished
/// ([`Kind::Usage`]); a server can't be reached; another
/// process is at work ([`Kind::Busy`]); data stands in the way; a stop was asked for
/// ([`Kind::Interrupted`]). Whatever was committed by then stays, is in the ledger, and is where
/// the next run goes on.
pub async fn migrate(
    context: &Context,
    selection: &Selection,
    options: &MigrateOptions,
) -> Result<Outcome> {
    if !options.dry_run {
        redrive::finish_unfinished(context).await?;
    }
    run(context, selection, options, &Task::Migrate).await
}

async fn run(
    context: &Context,
    selection: &Selection,
    options: &MigrateOptions,
    task: &Task,
) -> Result<Outcome> {
    let work =
        async |engine: &Engine<'_>, selection: &Selection| lanes::run(engine, selection).await;
    let ((), outcome) = with_engine(context, selection, options, task, work).await?;
    Ok(outcome)
}

/// What a run is to do.
pub(crate) enum Task {
    /// Move whatever isn't there yet.
    Migrate,
    /// Move these rows, all of which are in quarantine.
    Retry(redrive::Rows),
    /// Carry over what has changed, in the way that is described here.
    Differential(serde_json::Value),
    /// Fill in columns of rows in place, those that are described here.
    Backfill(serde_json::Value),
}

impl Task {
    /// The command that its runs are recorded under.
    fn command(&self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Retry(_) => "retry",
            Self::Differential(_) => "differential",
            Self::Backfill(_) => "backfill",
        }
    }

    /// In which way it is done, and under which name that is recorded with its runs.
    fn way(&self) -> Option<(&'static str, &serde_json::Value)> {
        match self {
            Self::Migrate | Self::Retry(_) => None,
            Self::Differential(way) => Some(("differential", way)),
            Self::Backfill(way) => Some(("backfilled", way)),
        }
    }
}

/// Does `work` as a run of its own, or as part of the one that was left unfinished, and closes it.
///
/// # Errors
/// What stands in the way of a run; whatever `work` returns.
pub(crate) async fn with_engine<T>(
    context: &Context,
    selection: &Selection,
    options: &MigrateOptions,
    task: &Task,
    work: impl AsyncFnOnce(&Engine<'_>, &Selection) -> Result<T>,
) -> Result<(T, Outcome)> {
    let (source, target) = try_join!(context.connect_source(), context.connect_target())?;
    let target = Arc::new(target);
    if matches!(task, Task::Differential(_)) {
        require_ledger(&target).await?;
    }
    let mut model = resolved(context, &source, &target).await?;
    redrive::restrict(&mut model, task)?;
    prepare::check_plan_hash(context, selection, options, &model)?;
    check_secret(context, &model, selection)?;
    let how = (options, task);
    prepare::check_ready(&source, &target, &model, selection, how, &context.project).await?;
    // Finding equal rows among millions is done by hashing, where the memory allows it.
    target.batch_execute("set work_mem = '64MB'").await?;
    if options.dry_run {
        target.batch_execute("begin").await?;
    }
    prepare::install_ledger(&target, options.dry_run).await?;
    let how = (task, options.dry_run);
    let claim = claim::claim(context, &target, selection, &model, how).await?;
    prepare::check_same_secret(context, &target).await?;
    let snapshot = Snapshot::take(source).await?;
    let (run, selection, resumed) = prepare::open_run(
        context,
        &target,
        selection,
        &model,
        (options, task, &claim),
        &snapshot.position,
    )
    .await?;
    let watched = watch(context, Some(run.run_no)).await?;
    let snapshot = Arc::new(snapshot);
    let pool = Pool::new(context, options, &snapshot, &target);
    if !matches!(task, Task::Differential(_)) && context.settings.queue.is_none() {
        pool.open().await?;
    }
    let engine = Engine {
        context,
        options,
        model: &model,
        run,
        resumed,
        source: Arc::clone(&snapshot.session),
        snapshot,
        target,
        pool: Arc::new(pool),
        gate: Arc::default(),
    };
    let result = engine.work(&selection, work).await;
    drop(watched);
    engine.close(result).await
}

impl<'a> Engine<'a> {
    /// The same run over other coordinating connections.
    fn lane(&self, source: Arc<Session>, target: Arc<Session>) -> Engine<'a> {
        Engine {
            run: self.run.clone(),
            snapshot: Arc::clone(&self.snapshot),
            source,
            target,
            pool: Arc::clone(&self.pool),
            gate: Arc::clone(&self.gate),
            ..*self
        }
    }

    async fn work<T>(
        &self,
        selection: &Selection,
        work: impl AsyncFnOnce(&Engine<'_>, &Selection) -> Result<T>,
    ) -> Result<T> {
        self.context.events.send(Event::RunStarted {
            run_id: self.run.run_id.clone(),
            resumed: self.resumed,
            entities: selection
                .entities()
                .iter()
                .map(|s| s.entity.clone())
                .collect(),
            backend: self.target.backend_pid(),
        });
        let done = work(self, selection).await?;
        if self.may_change_catalog().await? {
            self.check_catalog().await?;
        }
        failpoints::reach(failpoints::BEFORE_FINISH)?;
        Ok(done)
    }

    /// Whether this run may have left the target's catalog otherwise than it was. What carries changes
    /// over takes nothing off a table, unless it is one that it fills for the first time.
    async fn may_change_catalog(&self) -> Result<bool> {
        if self.run.command == "migrate" {
            return Ok(true);
        }
        let checkpoints = regraft_ledger::checkpoints(&**self.target, self.run.run_no).await?;
        Ok(checkpoints.iter().any(|c| c.mode == Mode::Bulk))
    }

    /// After a run the target's catalog equals what it was, or the run has failed.
    async fn check_catalog(&self) -> Result<()> {
        let before = self
            .run
            .detail
            .get("target_catalog")
            .and_then(|v| v.as_str());
        let now = Catalog::read(&**self.target, &[]).await?.hash();
        match before {
            Some(before) if before != now => Err(Error::new(
                Kind::Data,
                "the target's catalog is not what it was before the run: tables, constraints, \
                 indexes or triggers differ",
            )
            .hint(
                "see `regraft schema diff`; if the change was yours, run the same command again",
            )),
            _ => Ok(()),
        }
    }

    async fn close<T>(self, result: Result<T>) -> Result<(T, Outcome)> {
        let (context, run_id) = (self.context, self.run.run_id.clone());
        let done = self.recorded(result).await;
        context.events.run_finished(run_id, done.as_ref().err());
        done
    }

    async fn recorded<T>(self, result: Result<T>) -> Result<(T, Outcome)> {
        let status = match &result {
            Ok(_) => RunStatus::Done,
            Err(error) if error.kind() == Kind::Interrupted => RunStatus::Interrupted,
            Err(_) => RunStatus::Failed,
        };
        if self.options.dry_run {
            return self.close_dry_run(result).await;
        }
        // After an error the connection may be gone; the run then stays "running" in the ledger,
        // which the next process reads as unfinished all the same.
        let recorded = regraft_ledger::finish_run(&**self.target, self.run.run_no, status).await;
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                self.note(&error).await;
                return Err(error);
            }
        };
        recorded?;
        let receipt =
            crate::receipt::read(&self.target, &self.context.project, &self.run.run_id).await?;
        Ok((done, outcome(self.context, receipt)))
    }

    /// Keeps what the run failed of, for whoever looks at it later, where the target can be reached
    /// still. No value of a row is in it.
    async fn note(&self, error: &Error) {
        let (run_no, noted) = (self.run.run_no, error.to_note());
        // The error itself is what matters.
        let _ = regraft_ledger::set_run_detail(&**self.target, run_no, "error", &noted).await;
    }

    async fn close_dry_run<T>(self, result: Result<T>) -> Result<(T, Outcome)> {
        let done = result?;
        regraft_ledger::finish_run(&**self.target, self.run.run_no, RunStatus::Done).await?;
        let mut receipt =
            crate::receipt::read(&self.target, &self.context.project, &self.run.run_id).await?;
        receipt.dry_run = true;
        self.target.batch_execute("rollback").await?;
        Ok((done, outcome(self.context, receipt)))
    }
}

fn outcome(context: &Context, receipt: Receipt) -> Outcome {
    let budget = context.project.manifest().limits.quarantine;
    let over_budget: Vec<String> = receipt
        .entities
        .iter()
        .filter(|entity| {
            // That a row is dropped was decided by people.
            let reasons = &entity.account.detail.reasons;
            let dropped = reasons.get(DROPPED).copied().unwrap_or(0);
            let left = entity.account.quarantined + entity.account.blocked - dropped;
            match budget {
                Budget::Rows(rows) => left.unsigned_abs() > rows,
                #[expect(clippy::cast_precision_loss, reason = "a share needs no exactness")]
                Budget::Fraction(share) => left as f64 > share * entity.account.source_rows as f64,
            }
        })
        .map(|entity| entity.entity.clone())
        .collect();
    Outcome {
        nothing_to_do: receipt.total.inserted == 0 && receipt.total.updated == 0,
        within_budget: over_budget.is_empty(),
        over_budget,
        receipt,
    }
}

/// The keys of an entity's migrated rows, and which of its rows are in quarantine.
pub(crate) async fn load_keys(
    target: &Session,
    entity: &str,
    numeric: bool,
    budget: usize,
) -> Result<KeyMap> {
    let mut builder = KeyMapBuilder::new(numeric, budget);
    if regraft_ledger::partition_exists(&**target, entity).await? {
        add_mapped(target, entity, numeric, &mut builder).await?;
    }
    for id in regraft_ledger::stopped_ids(&**target, entity).await? {
        builder.add_stopped(&ledger_id_text(numeric, id)?);
    }
    builder.finish()
}

/// The keys of every entity that a model refers to, as the ledger has them.
pub(crate) async fn parent_keys(
    context: &Context,
    target: &Session,
    all: &Model,
    model: &EntityModel,
) -> Result<HashMap<String, Arc<KeyMap>>> {
    let mut parents = HashMap::new();
    for parent in model.parents() {
        let Some(parent_model) = all.entities.get(parent) else {
            continue;
        };
        let budget = context.settings.key_memory;
        let keys = load_keys(target, parent, parent_model.numeric, budget).await?;
        parents.insert(parent.to_owned(), Arc::new(keys));
    }
    Ok(parents)
}

/// Adds the keys of an entity's mapped rows to a map that is being built.
pub(crate) async fn add_mapped(
    target: &Session,
    entity: &str,
    numeric: bool,
    builder: &mut KeyMapBuilder,
) -> Result<()> {
    let query = regraft_ledger::mapping_select(entity, numeric, None);
    add_rows(target, &query, numeric, builder).await
}

/// The keys of the rows of an entity that one run wrote.
pub(crate) async fn keys_of_run(
    target: &Session,
    model: &EntityModel,
    run_no: i32,
    budget: usize,
) -> Result<KeyMap> {
    let mut builder = KeyMapBuilder::new(model.numeric, budget);
    let query = regraft_ledger::mapping_select(&model.name, model.numeric, Some(run_no));
    add_rows(target, &query, model.numeric, &mut builder).await?;
    builder.finish()
}

async fn add_rows(
    target: &Session,
    query: &str,
    numeric: bool,
    builder: &mut KeyMapBuilder,
) -> Result<()> {
    let mut rows = Rows::of(target, query, 2).await?;
    while let Some(row) = rows.next().await? {
        let id = LegacyId::from_field(numeric, row.get(0)).ok_or_else(unreadable)?;
        let key = row.get(1).and_then(|key| Uuid::from_slice(key).ok());
        builder.add(&id, key.ok_or_else(unreadable)?)?;
    }
    Ok(())
}

fn unreadable() -> Error {
    Error::new(Kind::Internal, "a mapping of the ledger can't be read")
}

/// A legacy id from its text form in the ledger.
pub(crate) fn ledger_id_text(numeric: bool, text: String) -> Result<LegacyId> {
    LegacyId::parse(numeric, text).ok_or_else(unreadable)
}

/// What a run is started with, for its record.
pub(crate) fn run_detail(
    context: &Context,
    selection: &Selection,
    model: &Model,
    options: &MigrateOptions,
    position: &str,
) -> serde_json::Value {
    let entities: Vec<&str> = selection
        .entities()
        .iter()
        .map(|s| s.entity.as_str())
        .collect();
    let columns: HashMap<&str, Vec<&str>> = selection
        .entities()
        .iter()
        .filter_map(|step| model.entities.get(&step.entity))
        .map(|m| {
            (
                m.name.as_str(),
                m.fingerprinted().map(|o| o.column.as_str()).collect(),
            )
        })
        .collect();
    json!({
        "entities": entities,
        "project": context.project.manifest().name,
        "project_hash": context.project.hash(),
        "project_files": context.project.file_hashes(),
        "source_catalog": model.source_catalog_hash,
        "source_tables": model.source_tables,
        "target_catalog": model.target_catalog.hash(),
        "target_tables": model.target_catalog.table_hashes(),
        "plan_hash": crate::plan::hash(&context.project, selection, model),
        "columns": columns,
        "batch_size": context.settings.batch_size,
        "workers": context.settings.workers,
        "mode": options.mode.as_str(),
        "snapshot": position,
        "program_version": env!("CARGO_PKG_VERSION"),
    })
}
