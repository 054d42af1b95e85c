//! `backfill`: fills columns of rows that are in place already, such as columns that the project has
//! gained since, under the rules of a differential migration.
//!
//! Of every row only the named columns are looked at. What both sides agreed on for the others
//! stays, and so does the fingerprint of a row that has something else to be looked at: a later
//! differential migration finds it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use regraft_ledger::{Account, Checkpoint, DifferingFilter, Mode, Phase};
use regraft_project::{Policy, Selection};
use serde::Serialize;
use serde_json::json;

use super::examine::{Examiner, in_place};
use super::tally::Tally;
use super::update::Updater;
use super::way::EntityWay;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::{Deriver, LegacyId};
use crate::load::{keys_of, merged, partition};
use crate::migrate::{
    Engine, MigrateOptions, ModeChoice, Task, create_partitions, parent_keys, plan_entity,
    resolved, with_engine,
};
use crate::model::{EntityModel, OutputRule};
use crate::receipt::require_ledger;
use crate::transaction;

/// Legacy ids that are shown of rows that were left.
const EXAMPLES: usize = 5;

/// What is to be filled in, and how.
#[derive(Debug, Clone, Default)]
pub struct BackfillOptions {
    /// The columns.
    pub columns: Vec<String>,
    /// Who wins where both sides have changed; `None` for what the project says, or else nobody.
    pub policy: Option<Policy>,
    /// Do everything inside a transaction that is rolled back.
    pub dry_run: bool,
}

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
    /// `detail.changed_in_target` keep what somebody has written in the target,
    /// `detail.conflicts` have to be decided on, and those under `detail.reasons` can't become what
    /// the source says.
    pub account: Account,
    /// Rows that both sides don't agree on in the end: noted for a decision, or changed by somebody
    /// while they were looked at.
    pub open: i64,
    /// Up to five of their legacy ids.
    pub examples: Vec<String>,
}

/// Fills columns of an entity's rows that are in place. A backfill of the same columns that was
/// left unfinished is taken up.
///
/// # Errors
/// A column that the project doesn't map or that a row is known by, an unfinished other run
/// ([`Kind::Usage`]); whatever else stops a migration.
pub async fn backfill(
    context: &Context,
    entity: &str,
    options: &BackfillOptions,
) -> Result<Backfilled> {
    let way = way(context, entity, options).await?;
    let selection = context
        .project
        .select(&[entity.to_owned()], false)
        .map_err(|e| Error::new(Kind::Usage, e.to_string()))?;
    let task = Task::Backfill(json!({
        "entity": entity,
        "columns": options.columns,
        "policy": options.policy.map(Policy::as_str),
    }));
    let migrate = MigrateOptions {
        dry_run: options.dry_run,
        mode: ModeChoice::InPlace,
        plan_hash: None,
        only_resume: None,
    };
    let work = async |engine: &Engine<'_>, selection: &Selection| {
        create_partitions(engine, selection).await?;
        let filled = fill(engine, entity, &way).await;
        filled.map_err(|e| e.in_entity(entity))
    };
    let (filled, outcome) = with_engine(context, &selection, &migrate, &task, work).await?;
    Ok(Backfilled {
        run_id: (!options.dry_run).then_some(outcome.receipt.run_id),
        entity: entity.to_owned(),
        columns: options.columns.clone(),
        account: filled.account,
        open: filled.open,
        examples: filled.examples,
    })
}

/// In which way the columns are filled in, found before anything is begun.
async fn way(context: &Context, entity: &str, options: &BackfillOptions) -> Result<EntityWay> {
    let source = context.connect_source().await?;
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let all = resolved(context, &source, &target).await?;
    let (Some(model), Some(project)) = (all.entities.get(entity), context.project.entity(entity))
    else {
        return Err(Error::new(Kind::Usage, format!("no entity `{entity}`")));
    };
    check_columns(model, &options.columns)?;
    let way = EntityWay::new(model, &project.changes, options.policy, None)?;
    Ok(way.only(&options.columns))
}

fn check_columns(model: &EntityModel, columns: &[String]) -> Result<()> {
    for column in columns {
        let output = model.outputs.iter().find(|o| o.column == *column);
        match output.map(|o| &o.rule) {
            None => {
                let known: Vec<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
                return Err(Error::new(
                    Kind::Usage,
                    format!("`{}` maps no column `{column}`", model.name),
                )
                .hint(format!("it maps {}", known.join(", "))));
            }
            Some(OutputRule::Key | OutputRule::LegacyId { .. }) => {
                return Err(Error::new(
                    Kind::Usage,
                    format!(
                        "column `{column}` of `{}` is what a row is known by",
                        model.name
                    ),
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What filling in came to.
struct Filled {
    account: Account,
    open: i64,
    examples: Vec<String>,
}

async fn fill(engine: &Engine<'_>, entity: &str, way: &EntityWay) -> Result<Filled> {
    let (source, target) = (&engine.source, &engine.target);
    let model = &engine.model.entities[entity];
    let done = done(engine, model).await?;
    let size = engine.context.settings.batch_size;
    let ranges = partition(source, model, size, &[]).await?;
    let rows = ranges.iter().map(|range| range.rows).sum();
    let batch = transaction::run(target, engine.options.dry_run, async || {
        regraft_ledger::forget_agreed_ranges(&***target, entity).await?;
        Ok(regraft_ledger::plan_anew(&***target, engine.run.run_no, entity).await?)
    })
    .await?;
    let (checkpoint, _) = plan_entity(engine, model, Mode::InPlace, &[], rows).await?;
    engine.context.events.send(Event::EntityStarted {
        entity: entity.to_owned(),
        rows: rows.unsigned_abs(),
        batches: ranges.len() as u64,
        mode: "in-place",
    });
    let mut examiner = examiner(engine, model, way).await?;
    let mut updater = Updater {
        engine,
        entity,
        checkpoint: &checkpoint,
        way,
        batch,
        accounted: false,
    };
    let (mut tally, mut lost, mut examples) = (Tally::default(), 0, Vec::new());
    for range in &ranges {
        engine.context.stop_requested()?;
        let said = keys_of(source, model, &range.to_rows()).await?;
        let mut ids = in_place(target, model, &said).await?;
        ids.retain(|id| !done.iter().any(|range| range.contains(id)));
        let updated = updater.run(&mut examiner, &ids, &mut tally).await?;
        lost += updated.lost;
        examples.extend(updated.unsettled.iter().map(LegacyId::to_string));
        examples.truncate(EXAMPLES);
        engine.context.events.send(Event::RowsDone {
            entity: entity.to_owned(),
            batch: None,
            rows: range.rows.unsigned_abs(),
        });
    }
    let (account, noted) = close(engine, entity, &checkpoint).await?;
    Ok(Filled {
        account,
        open: noted + lost,
        examples,
    })
}

async fn examiner<'w>(
    engine: &Engine<'_>,
    model: &EntityModel,
    way: &'w EntityWay,
) -> Result<Examiner<'w>> {
    let (context, target) = (engine.context, &engine.target);
    let parents = parent_keys(context, target, engine.model, model).await?;
    let secret = context.settings.secret.as_ref();
    let deriver = secret.map(|secret| Deriver::new(secret, &model.name));
    let merged = Arc::new(merged(&engine.source, model).await?);
    Examiner::new(target, model, deriver, parents, merged, way).await
}

/// The rows that an earlier process of this run has looked at.
async fn done(engine: &Engine<'_>, model: &EntityModel) -> Result<Vec<RangeInclusive<LegacyId>>> {
    let target = &engine.target;
    let batches = regraft_ledger::done_batches(&***target, engine.run.run_no, &model.name).await?;
    let id = |text: String| LegacyId::parse(model.numeric, text);
    let ranges = batches.into_iter();
    Ok(ranges
        .filter_map(|batch| Some(id(batch.low_key)?..=id(batch.high_key)?))
        .collect())
}

/// Closes the entity; its account, and how many rows this run has noted for a decision.
async fn close(
    engine: &Engine<'_>,
    entity: &str,
    checkpoint: &Checkpoint,
) -> Result<(Account, i64)> {
    let (target, run) = (&engine.target, &engine.run);
    let filter = DifferingFilter {
        entities: vec![entity.to_owned()],
        operation_id: Some(run.run_id.clone()),
        ..DifferingFilter::default()
    };
    let (account, open) = transaction::run(target, engine.options.dry_run, async || {
        regraft_ledger::set_phase(&***target, checkpoint, Phase::Done).await?;
        let (number, id, command) = (run.run_no, run.run_id.as_str(), run.command.as_str());
        let account =
            regraft_ledger::record_entity(&***target, number, id, command, entity, "done").await?;
        let open = regraft_ledger::count_differing(&***target, &filter).await?;
        Ok((account, open))
    })
    .await?;
    let noted = open.iter().map(|(_, _, rows)| rows).sum();
    engine.context.events.send(Event::EntityFinished {
        entity: entity.to_owned(),
        inserted: account.updated.unsigned_abs(),
        left: i64::unsigned_abs(noted),
        seconds: 0.0,
    });
    Ok((account, noted))
}
