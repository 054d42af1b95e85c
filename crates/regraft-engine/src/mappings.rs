//! `mappings rebuild`: the mappings of entities, computed again from the source, proven on the
//! target, and put in the place of what the ledger holds.

mod proof;

use regraft_ledger::{Account, BatchRecord, MappingDrift, MappingIndex, NewRun, Run, RunStatus};
use regraft_pg::Session;
use regraft_project::Selection;
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::failpoints;
use crate::keys::Deriver;
use crate::load::{BatchRange, partition};
use crate::migrate::{check_same_secret, check_secret, install_ledger, lock, resolved};
use crate::model::{EntityModel, Model};
use crate::snapshot::Snapshot;
use crate::transaction;
use crate::unfinished;
use crate::validate::Finding;
use proof::{Proof, prove};

/// The rows of entities that were merged into others by a rule, for review.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn merged_rows(
    context: &Context,
    selection: &Selection,
    limit: i64,
) -> Result<Vec<regraft_ledger::MergedRow>> {
    let target = context.connect_target().await?;
    crate::receipt::require_ledger(&target).await?;
    let entities: Vec<String> = selection
        .entities()
        .iter()
        .map(|step| step.entity.clone())
        .collect();
    Ok(regraft_ledger::merged_rows(&*target, &entities, limit).await?)
}

/// What came of rebuilding mappings.
#[derive(Debug, Clone, Serialize)]
pub struct MappingsRebuilt {
    /// The run that wrote them; none where nothing was written.
    pub run_id: Option<String>,
    /// Whether all of it was rolled back, as asked for.
    pub dry_run: bool,
    /// Whether every entity was proven.
    pub proven: bool,
    /// Whether every mapping was right already.
    pub nothing_to_do: bool,
    /// Entity by entity, parents first.
    pub entities: Vec<MappingsEntity>,
}

/// What came of one entity.
#[derive(Debug, Clone, Serialize)]
pub struct MappingsEntity {
    /// The entity.
    pub entity: String,
    /// Rows of its table.
    pub table_rows: u64,
    /// Rows that were traced to their source row.
    pub proven: u64,
    /// Rows of the source that are merged into those by a rule.
    pub merged: u64,
    /// Rows that name no legacy id and have no source row: the application's own.
    pub own: u64,
    /// Mappings that were right, and stay as they are.
    pub right: u64,
    /// Mappings that were wrong, and go.
    pub wrong: u64,
    /// Mappings that were missing, and are written.
    pub missing: u64,
    /// Rows that can't be mapped. While there are any, nothing of the entity is written.
    pub findings: Vec<Finding>,
}

impl MappingsEntity {
    fn changes(&self) -> bool {
        self.findings.is_empty() && self.wrong + self.missing > 0
    }
}

/// Rebuilds the mappings of the selected entities, each in one transaction, as a run of its own.
/// Nothing is written for an entity with rows that can't be mapped. No row of a target table is
/// touched.
///
/// # Errors
/// The project doesn't fit, or an unfinished run of another command is in the way ([`Kind::Usage`]); random keys
/// without a column for the legacy id; a server that can't be reached; another process at work.
pub async fn rebuild_mappings(
    context: &Context,
    selection: &Selection,
    dry_run: bool,
) -> Result<MappingsRebuilt> {
    let source = context.connect_source().await?;
    let target = context.connect_target().await?;
    let model = resolved(context, &source, &target).await?;
    check_secret(context, &model, selection)?;
    // Nothing is known of mappings that were lost, and a join row by row is what the server would
    // take for the cheapest. Compiling the statements costs more than running them.
    target
        .batch_execute("set work_mem = '64MB'; set enable_nestloop = off")
        .await?;
    if dry_run {
        target.batch_execute("begin").await?;
    }
    install_ledger(&target, dry_run).await?;
    lock(context, &target).await?;
    check_same_secret(context, &target).await?;
    unfinished::refuse_others(&target, &context.project, "mappings").await?;
    let mut work = Rebuild {
        context,
        model: &model,
        snapshot: Snapshot::take(source).await?,
        target: &target,
        selection,
        dry_run,
        run: None,
    };
    let result = work.entities().await;
    if let Some(run) = &work.run {
        let run_id = run.run_id.clone();
        context.events.run_finished(run_id, result.as_ref().err());
    }
    // Every entity that was written is whole, so the run is done even where a later one failed.
    if let Some(run) = &work.run
        && !target.is_closed()
    {
        failpoints::reach(failpoints::BEFORE_FINISH)?;
        regraft_ledger::finish_run(&*target, run.run_no, RunStatus::Done).await?;
    }
    if result.is_ok() && !dry_run {
        close_earlier(&target, selection, work.run.as_ref()).await?;
    }
    let run_id = work.run.map(|run| run.run_id);
    if dry_run && !target.is_closed() {
        target.batch_execute("rollback").await?;
    }
    let entities = result?;
    Ok(MappingsRebuilt {
        run_id: run_id.filter(|_| !dry_run),
        dry_run,
        proven: entities.iter().all(|entity| entity.findings.is_empty()),
        nothing_to_do: entities
            .iter()
            .all(|entity| entity.findings.is_empty() && !entity.changes()),
        entities,
    })
}

/// Ends earlier rebuildings that died, where this one went through all that they were about. What
/// they wrote is whole: each entity is one transaction.
async fn close_earlier(target: &Session, selection: &Selection, this: Option<&Run>) -> Result<()> {
    let done: Vec<&str> = selection
        .entities()
        .iter()
        .map(|step| step.entity.as_str())
        .collect();
    for open in regraft_ledger::open_runs(&**target).await? {
        let run = &open.run;
        let other = this.is_none_or(|this| this.run_no != run.run_no);
        if run.command == "mappings"
            && other
            && unfinished::entities(run).all(|entity| done.contains(&entity))
        {
            regraft_ledger::finish_run(&**target, run.run_no, RunStatus::Done).await?;
        }
    }
    Ok(())
}

struct Rebuild<'a> {
    context: &'a Context,
    model: &'a Model,
    snapshot: Snapshot,
    target: &'a Session,
    selection: &'a Selection,
    dry_run: bool,
    /// Begun when there is something to write.
    run: Option<Run>,
}

impl Rebuild<'_> {
    async fn entities(&mut self) -> Result<Vec<MappingsEntity>> {
        let mut done = Vec::new();
        for step in self.selection.entities() {
            let Some(model) = self.model.entities.get(&step.entity) else {
                continue;
            };
            self.context.stop_requested()?;
            let entity = self
                .entity(model)
                .await
                .map_err(|error| error.in_entity(&model.name))?;
            done.push(entity);
        }
        Ok(done)
    }

    /// One entity in one transaction: candidates, proof, comparison, and what has to change.
    async fn entity(&mut self, model: &EntityModel) -> Result<MappingsEntity> {
        let size = self.context.settings.batch_size;
        let ranges = partition(&self.snapshot.session, model, size, &[]).await?;
        let target = self.target;
        let begun = self.run.take();
        let (outcome, run) = transaction::run(target, self.dry_run, async || {
            regraft_ledger::create_partition(&**target, &model.name).await?;
            let proof = prove(
                self.context,
                self.model,
                &self.snapshot.session,
                target,
                model,
                &ranges,
            )
            .await?;
            let drift = regraft_ledger::mapping_drift(&**target, &model.name).await?;
            let outcome = outcome(model, proof, drift);
            let mut run = begun.clone();
            if outcome.changes() {
                run = Some(self.replace(model, &ranges, &outcome, run).await?);
            }
            if outcome.findings.is_empty() {
                self.attach_index(model).await?;
            }
            Ok((outcome, run))
        })
        .await?;
        self.run = run;
        Ok(outcome)
    }

    async fn replace(
        &self,
        model: &EntityModel,
        ranges: &[BatchRange],
        outcome: &MappingsEntity,
        run: Option<Run>,
    ) -> Result<Run> {
        let target = self.target;
        let run = match run {
            Some(run) => run,
            None => self.begin().await?,
        };
        let name = model.name.as_str();
        regraft_ledger::replace_mappings(&**target, name, model.numeric, run.run_no).await?;
        let after = regraft_ledger::mapping_drift(&**target, name).await?;
        if after.wrong != 0 || after.missing != 0 {
            return Err(Error::new(
                Kind::Internal,
                format!(
                    "after rebuilding, {} mappings were wrong and {} missing",
                    after.wrong, after.missing
                ),
            ));
        }
        let rows = i64::try_from(outcome.proven + outcome.merged).unwrap_or(i64::MAX);
        let record = BatchRecord {
            batch: 1,
            low_key: ranges
                .first()
                .map_or_else(String::new, |r| r.low.to_string()),
            high_key: ranges
                .last()
                .map_or_else(String::new, |r| r.high.to_string()),
            account: Account {
                source_rows: rows,
                unchanged: rows,
                ..Account::default()
            },
        };
        let (number, id) = (run.run_no, run.run_id.as_str());
        regraft_ledger::record_batch(&**target, number, id, "mappings", name, &record).await?;
        regraft_ledger::record_entity(&**target, number, id, "mappings", name, "done").await?;
        Ok(run)
    }

    async fn begin(&self) -> Result<Run> {
        let steps = self.selection.entities().iter();
        let mut detail = json!({
            "entities": steps.map(|step| step.entity.as_str()).collect::<Vec<_>>(),
            "project": self.context.project.manifest().name,
            "project_hash": self.context.project.hash(),
            "snapshot": self.snapshot.position,
            "program_version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(secret) = &self.context.settings.secret {
            detail["secret_check"] = json!(Deriver::secret_check(secret));
        }
        let new = NewRun {
            command: "mappings",
            detail: &detail,
        };
        let run = regraft_ledger::begin_run(&**self.target, &new).await?;
        let steps = self.selection.entities().iter();
        self.context.events.send(Event::RunStarted {
            run_id: run.run_id.clone(),
            resumed: false,
            entities: steps.map(|step| step.entity.clone()).collect(),
            backend: self.target.backend_pid(),
        });
        Ok(run)
    }

    /// The index that makes loading idempotent may be what was lost.
    async fn attach_index(&self, model: &EntityModel) -> Result<()> {
        let index = regraft_ledger::mapping_index(&**self.target, &model.name).await?;
        if index != MappingIndex::Present {
            regraft_ledger::attach_index(&**self.target, &model.name, model.numeric).await?;
        }
        Ok(())
    }
}

fn outcome(model: &EntityModel, proof: Proof, drift: MappingDrift) -> MappingsEntity {
    MappingsEntity {
        entity: model.name.clone(),
        table_rows: proof.table_rows,
        proven: proof.proven,
        merged: proof.merged,
        own: proof.own,
        right: drift.right.unsigned_abs(),
        wrong: drift.wrong.unsigned_abs(),
        missing: drift.missing.unsigned_abs(),
        findings: proof.findings,
    }
}
