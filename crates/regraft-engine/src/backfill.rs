//! `backfill`: fills columns of rows that are in place already, such as columns that the project has
//! gained since.
//!
//! A row is written only where the column is NULL or still holds what the ledger agreed on: what
//! the application has written since stays, and is told.

mod batch;

use std::sync::Arc;

use regraft_ledger::{Account, Checkpoint, Mode, NewRun, OpenRun, Phase, Run, RunStatus};
use regraft_pg::Session;
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::Deriver;
use crate::load::{BatchRange, merged, partition, planned_ranges};
use crate::migrate::{
    check_same_secret, check_secret, install_ledger, lock, parent_keys, resolved, run_detail,
};
use crate::model::{EntityModel, Model, OutputRule};
use crate::receipt::require_ledger;
use crate::snapshot::Snapshot;
use crate::transaction;
use crate::unfinished;
use batch::Filler;

/// What a backfill came to.
#[derive(Debug, Clone, Serialize)]
pub struct Backfilled {
    /// Its run id; `None` in a dry run.
    pub run_id: Option<String>,
    /// The entity.
    pub entity: String,
    /// The columns.
    pub columns: Vec<String>,
    /// Rows in place: `updated` were written, the others `unchanged`; of these
    /// `detail.changed_in_target` were left because the application has written them, and those
    /// under `detail.reasons` because the column can't take what the source gives.
    pub account: Account,
    /// Up to five legacy ids of rows that were left.
    pub examples: Vec<String>,
}

/// Fills columns of an entity's rows that are in place. A backfill of the same columns that was
/// left unfinished is taken up.
///
/// # Errors
/// A column that the project doesn't map or that is part of a cycle, an unfinished other run
/// ([`Kind::Usage`]); whatever else stops a migration.
pub async fn backfill(
    context: &Context,
    entity: &str,
    columns: &[String],
    dry_run: bool,
) -> Result<Backfilled> {
    let source = context.connect_source().await?;
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let all = resolved(context, &source, &target).await?;
    let model = all
        .entities
        .get(entity)
        .ok_or_else(|| Error::new(Kind::Usage, format!("no entity `{entity}`")))?;
    check_columns(model, columns)?;
    let selection = context
        .project
        .select(&[entity.to_owned()], false)
        .map_err(|e| Error::new(Kind::Usage, e.to_string()))?;
    check_secret(context, &all, &selection)?;
    drop(source);
    if dry_run {
        target.batch_execute("begin").await?;
    }
    install_ledger(&target, dry_run).await?;
    lock(context, &target).await?;
    check_same_secret(context, &target).await?;
    let snapshot = Snapshot::take(context).await?;
    let mut work = Work {
        context,
        target: &target,
        snapshot: &snapshot,
        model,
        columns,
        dry_run,
        examples: Vec::new(),
    };
    let mut detail = run_detail(
        context,
        &selection,
        &all,
        &crate::migrate::MigrateOptions::default(),
        &snapshot.position,
    );
    detail["backfilled"] = json!({ "entity": entity, "columns": columns });
    if let Some(secret) = &context.settings.secret {
        detail["secret_check"] = json!(Deriver::secret_check(secret));
    }
    let run = work.open_run(&detail).await?;
    let done = work.run(&all, &run).await.map_err(|e| e.in_entity(entity));
    let status = match &done {
        Ok(_) => RunStatus::Done,
        Err(error) if error.kind() == Kind::Interrupted => RunStatus::Interrupted,
        Err(_) => RunStatus::Failed,
    };
    if !dry_run {
        let recorded = regraft_ledger::finish_run(&*target, run.run_no, status).await;
        if done.is_ok() {
            recorded?;
        }
    }
    let account = done?;
    let examples = std::mem::take(&mut work.examples);
    if dry_run {
        target.batch_execute("rollback").await?;
    }
    Ok(Backfilled {
        run_id: (!dry_run).then_some(run.run_id),
        entity: entity.to_owned(),
        columns: columns.to_vec(),
        account,
        examples,
    })
}

fn check_columns(model: &EntityModel, columns: &[String]) -> Result<()> {
    for column in columns {
        let output = model.outputs.iter().find(|o| o.column == *column);
        let why = match output.map(|o| &o.rule) {
            None => {
                let known: Vec<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
                return Err(Error::new(
                    Kind::Usage,
                    format!("`{}` maps no column `{column}`", model.name),
                )
                .hint(format!("it maps {}", known.join(", "))));
            }
            Some(OutputRule::Key | OutputRule::LegacyId { .. }) => "is what a row is known by",
            Some(
                OutputRule::Reference { later: true, .. }
                | OutputRule::ReferenceBy { later: true, .. },
            ) => "is part of a cycle of references, which only a migration fills in",
            Some(_) => continue,
        };
        return Err(Error::new(
            Kind::Usage,
            format!("column `{column}` of `{}` {why}", model.name),
        ));
    }
    Ok(())
}

struct Work<'a> {
    context: &'a Context,
    target: &'a Session,
    snapshot: &'a Snapshot,
    model: &'a EntityModel,
    columns: &'a [String],
    dry_run: bool,
    examples: Vec<String>,
}

impl Work<'_> {
    /// Takes up the backfill that was left unfinished, or begins one.
    async fn open_run(&self, detail: &serde_json::Value) -> Result<Run> {
        let project = &self.context.project;
        unfinished::refuse_others(self.target, project, "backfill").await?;
        let unfinished = regraft_ledger::unfinished_run(&**self.target, "backfill").await?;
        let Some(run) = unfinished else {
            return transaction::run(self.target, self.dry_run, async || {
                let new = NewRun {
                    command: "backfill",
                    detail,
                };
                Ok(regraft_ledger::begin_run(&**self.target, &new).await?)
            })
            .await;
        };
        if run.detail.get("backfilled") != detail.get("backfilled")
            || run.detail.get("project_hash") != detail.get("project_hash")
            || self.dry_run
        {
            let open = OpenRun {
                run,
                left: Vec::new(),
            };
            let finish = unfinished::finishing_command(project, &open);
            return Err(unfinished::refused(project, &open).hint(format!(
                "finish it first, with the project as it was: `{finish}`"
            )));
        }
        transaction::run(self.target, false, async || {
            regraft_ledger::take_over(&**self.target, run.run_no).await?;
            Ok(regraft_ledger::finish_run(&**self.target, run.run_no, RunStatus::Running).await?)
        })
        .await?;
        Ok(run)
    }

    async fn run(&mut self, all: &Model, run: &Run) -> Result<Account> {
        let (target, model) = (self.target, self.model);
        let planned = planned_ranges(target, run.run_no, model).await?;
        let size = self.context.settings.batch_size;
        let source = &self.snapshot.session;
        let ranges = partition(source, model, (size, 1), &planned).await?;
        let checkpoint = self.open_checkpoint(run, &ranges).await?;
        self.context.events.send(Event::EntityStarted {
            entity: model.name.clone(),
            rows: ranges.iter().map(|r| r.rows).sum::<i64>().unsigned_abs(),
            batches: ranges.len() as u64,
            mode: "in-place",
        });
        let mut filler = Filler::new(model, self.columns, self.transformer(all).await?, {
            regraft_ledger::layouts(&**target, &model.name).await?
        });
        for range in &ranges {
            self.context.stop_requested()?;
            let filled = transaction::run(target, self.dry_run, async || {
                filler.fill(source, target, run, &checkpoint, range).await
            })
            .await;
            let left = filled.map_err(|error| {
                error.in_batch(
                    range.number,
                    &range.low.to_string(),
                    &range.high.to_string(),
                )
            })?;
            self.examples.extend(left);
            self.examples.truncate(5);
            self.context.events.send(Event::RowsDone {
                entity: model.name.clone(),
                rows: range.rows.unsigned_abs(),
            });
        }
        let account = transaction::run(target, self.dry_run, async || {
            regraft_ledger::set_phase(&**target, &checkpoint, Phase::Done).await?;
            Ok(regraft_ledger::record_entity(
                &**target,
                run.run_no,
                &run.run_id,
                &run.command,
                &model.name,
                "done",
            )
            .await?)
        })
        .await?;
        self.context.events.send(Event::EntityFinished {
            entity: model.name.clone(),
            inserted: account.updated.unsigned_abs(),
            left: account.detail.changed_in_target.unsigned_abs(),
            seconds: 0.0,
        });
        Ok(account)
    }

    async fn open_checkpoint(&self, run: &Run, ranges: &[BatchRange]) -> Result<Checkpoint> {
        let name = &self.model.name;
        let texts: Vec<(i32, String, String)> = ranges
            .iter()
            .map(|r| (r.number, r.low.to_string(), r.high.to_string()))
            .collect();
        let rows = ranges.iter().map(|r| r.rows).sum();
        transaction::run(self.target, self.dry_run, async || {
            let (target, command) = (self.target, run.command.as_str());
            regraft_ledger::create_partition(&**target, name).await?;
            regraft_ledger::plan_batches(&**target, run.run_no, &run.run_id, command, name, &texts)
                .await?;
            regraft_ledger::record_entity(
                &**target,
                run.run_no,
                &run.run_id,
                command,
                name,
                "running",
            )
            .await?;
            Ok(
                regraft_ledger::open_checkpoint(&**target, run.run_no, name, Mode::InPlace, rows)
                    .await?,
            )
        })
        .await
    }

    async fn transformer(&self, all: &Model) -> Result<crate::load::Transformer> {
        let model = self.model;
        let parents = parent_keys(self.context, self.target, all, model).await?;
        let secret = self.context.settings.secret.as_ref();
        let deriver = secret.map(|s| Deriver::new(s, &model.name));
        let mut transformer = crate::load::Transformer::new(
            Arc::new(model.clone()),
            deriver,
            parents,
            Arc::default(),
        )?;
        transformer.merged = Arc::new(merged(&self.snapshot.session, model).await?);
        Ok(transformer)
    }
}
