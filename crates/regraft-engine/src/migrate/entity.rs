//! One entity of a run, from its first batch to its account.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use regraft_ledger::{Checkpoint, MappingIndex, Mode, Phase};
use regraft_pg::Session;
use regraft_project::EntityStep;
use tokio::try_join;

use super::prepare::refuse_without_index;
use super::{Engine, ModeChoice, parent_keys, workers};
use crate::bulk::{self, Dropped};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::failpoints;
use crate::keys::{Deriver, KeyMap, LegacyId};
use crate::load::{
    BatchRange, Classifier, Doubles, EntityLoad, Merged, Reason, add_dropped, dropped, duplicates,
    foreign_conditions, merged, order_decides, partition, planned_ranges, write_merged,
};
use crate::model::{EntityModel, Model};
use crate::transaction;

/// From so many rows on, bringing indexes back costs less than keeping them up to date.
const BULK_FROM: i64 = 1_000;

/// Loads an entity up to the point where only its cycle has to be linked. `None` where an earlier process of this run has done all of it.
pub(crate) async fn load(
    engine: &Engine<'_>,
    step: &EntityStep,
) -> Result<Option<Arc<EntityLoad>>> {
    let name = step.entity.as_str();
    let model =
        engine.model.entities.get(name).ok_or_else(|| {
            Error::new(Kind::Internal, "the entity was not resolved").in_entity(name)
        })?;
    let in_entity = |error: Error| error.in_entity(name);
    let (before, planned) = try_join!(
        checkpoint(engine, name),
        planned_ranges(&engine.target, engine.run.run_no, model),
    )
    .map_err(in_entity)?;
    if before.as_ref().is_some_and(|c| c.phase == Phase::Done) {
        return Ok(None);
    }
    let ranges = partition(
        &engine.source,
        model,
        engine.context.settings.batch_size,
        &planned,
    )
    .await
    .map_err(in_entity)?;
    let load = open(engine, model, before, &ranges)
        .await
        .map_err(in_entity)?;
    engine.context.events.send(Event::EntityStarted {
        entity: name.to_owned(),
        rows: ranges.iter().map(|r| r.rows).sum::<i64>().unsigned_abs(),
        batches: ranges.len() as u64,
        mode: load.checkpoint.mode.as_str(),
    });
    workers::run(engine, &load, ranges)
        .await
        .map_err(in_entity)?;
    if load.checkpoint.phase != Phase::Merging {
        settle(engine, &load).await.map_err(in_entity)?;
        write_merged(&engine.source, &engine.target, &load)
            .await
            .map_err(in_entity)?;
    }
    Ok(Some(load))
}

/// Makes everything ready for the batches: mode, mapping table, checkpoint, parents' keys.
pub(crate) async fn open(
    engine: &Engine<'_>,
    model: &EntityModel,
    before: Option<Checkpoint>,
    ranges: &[BatchRange],
) -> Result<Arc<EntityLoad>> {
    let started = Instant::now();
    let rows: i64 = ranges.iter().map(|r| r.rows).sum();
    let standing = Standing::read(engine, model, !ranges.is_empty()).await?;
    let loading_in_bulk = before.as_ref().is_some_and(|c| c.mode == Mode::Bulk);
    if !loading_in_bulk {
        refuse_without_index(model, standing.index)?;
    }
    let mode = match &before {
        Some(checkpoint) => checkpoint.mode,
        None => {
            let table = (standing.table_is_empty, standing.has_existing());
            let options = engine.options;
            let (choice, dry_run) = (options.mode, options.dry_run);
            choose_mode(engine.model, model, choice, dry_run, table, rows)?
        }
    };
    let fresh = before.is_none();
    let (checkpoint, off) = plan(engine, model, mode, ranges, rows).await?;
    let mut load = assemble(engine, model, standing, checkpoint, off, !ranges.is_empty()).await?;
    load.all_off = fresh;
    load.started = started;
    if mode == Mode::Bulk && !load.offered {
        load.doubles = Doubles::watch(&load.model, rows).map(Arc::new);
    }
    Ok(Arc::new(load))
}

/// Makes everything ready for batches that another process has planned, under its checkpoint.
pub(super) async fn join(
    engine: &Engine<'_>,
    model: &EntityModel,
    checkpoint: Checkpoint,
) -> Result<Arc<EntityLoad>> {
    let standing = Standing::read(engine, model, true).await?;
    let off: Vec<Dropped> =
        serde_json::from_value(checkpoint.dropped.clone()).map_err(|_| unreadable_record())?;
    let mut load = assemble(engine, model, standing, checkpoint, off, true).await?;
    load.offered = true;
    Ok(Arc::new(load))
}

/// What the batches of an entity share, as soon as its checkpoint is open. `moves` tells whether there
/// are any.
async fn assemble(
    engine: &Engine<'_>,
    model: &EntityModel,
    standing: Standing,
    checkpoint: Checkpoint,
    off: Vec<Dropped>,
    moves: bool,
) -> Result<EntityLoad> {
    let mode = checkpoint.mode;
    let has_existing = standing.has_existing();
    let merged = Arc::new(merged(&engine.source, model).await?);
    let mut losers = match mode == Mode::InPlace && moves {
        true => losers(engine, model, &standing, &merged).await?,
        false => HashMap::new(),
    };
    add_dropped(&mut losers, standing.dropped);
    let mut model = model.clone();
    bulk::complete(&mut model.table, &off);
    let (run, settings) = (&engine.run, &engine.context.settings);
    Ok(EntityLoad {
        started: Instant::now(),
        run_no: run.run_no,
        run_id: run.run_id.clone(),
        command: run.command.clone(),
        deriver: deriver(engine, &model),
        serial: mode == Mode::InPlace && order_decides(&model),
        model: Arc::new(model),
        parents: standing.parents,
        losers: Arc::new(losers),
        merged,
        doubles: None,
        gate: Arc::clone(&engine.gate),
        has_existing,
        first_quarantine: !standing.any_quarantine,
        quarantined: standing.quarantined,
        nested: engine.options.dry_run,
        refused: AtomicU32::new(0),
        dropped: off,
        all_off: false,
        offered: settings.queue.is_some() && !engine.options.dry_run,
        checkpoint,
    })
}

fn deriver(engine: &Engine<'_>, model: &EntityModel) -> Option<Deriver> {
    let secret = engine.context.settings.secret.as_ref();
    secret.map(|secret| Deriver::new(secret, &model.name))
}

/// Rows that lose to an earlier one under a unique constraint of the table.
async fn losers(
    engine: &Engine<'_>,
    model: &EntityModel,
    standing: &Standing,
    merged: &Arc<Merged>,
) -> Result<HashMap<LegacyId, Vec<Reason>>> {
    let mut classifier = Classifier::new(
        Arc::new(model.clone()),
        deriver(engine, model),
        standing.parents.clone(),
        foreign_conditions(engine.model, model),
        false,
        engine.options.dry_run,
    )?;
    classifier.merge(Arc::clone(merged));
    classifier.refuse(standing.dropped.clone());
    duplicates(&engine.source, &engine.target, &mut classifier).await
}

/// Plans an entity's batches, opens its checkpoint, and for a bulk load takes off what comes off
/// its table, all in one transaction. `rows` are those of the source that will be gone through.
pub(crate) async fn plan(
    engine: &Engine<'_>,
    model: &EntityModel,
    mode: Mode,
    ranges: &[BatchRange],
    rows: i64,
) -> Result<(Checkpoint, Vec<Dropped>)> {
    let (target, run, name) = (&engine.target, &engine.run, model.name.as_str());
    let (run_no, run_id, command) = (run.run_no, run.run_id.as_str(), run.command.as_str());
    let texts: Vec<(i32, String, String)> = ranges
        .iter()
        .map(|r| (r.number, r.low.to_string(), r.high.to_string()))
        .collect();
    let _alone = match mode {
        Mode::Bulk => Some(engine.gate.write().await),
        Mode::InPlace => None,
    };
    let offers = engine.context.settings.queue.is_some();
    let planned = transaction::run(target, engine.options.dry_run, async || {
        if mode == Mode::Bulk && offers {
            regraft_ledger::close_gate(&***target).await?;
        }
        if mode == Mode::InPlace {
            regraft_ledger::attach_index(&***target, name, model.numeric).await?;
        }
        // They are carried out in this order; only the waiting for answers is shared.
        let (_, _, checkpoint) = try_join!(
            regraft_ledger::plan_batches(&***target, run_no, run_id, command, name, &texts),
            regraft_ledger::record_entity(&***target, run_no, run_id, command, name, "running"),
            regraft_ledger::open_checkpoint(&***target, run_no, name, mode, rows),
        )?;
        let off: Vec<Dropped> =
            serde_json::from_value(checkpoint.dropped.clone()).map_err(|_| unreadable_record())?;
        if mode == Mode::Bulk && off.is_empty() && checkpoint.phase == Phase::Loading {
            let off = bulk::take_off(target, &model.table, &checkpoint).await?;
            return Ok((checkpoint, off));
        }
        Ok((checkpoint, off))
    })
    .await?;
    if !planned.1.is_empty() {
        failpoints::reach(failpoints::AFTER_DROP)?;
    }
    Ok(planned)
}

fn unreadable_record() -> Error {
    Error::new(
        Kind::Internal,
        "the record of what was taken off can't be read",
    )
}

/// Where an earlier process of this run left an entity.
pub(crate) async fn checkpoint(engine: &Engine<'_>, name: &str) -> Result<Option<Checkpoint>> {
    let all = regraft_ledger::checkpoints(&**engine.target, engine.run.run_no).await?;
    Ok(all.into_iter().find(|c| c.entity == name))
}

/// What the target has of an entity before its first batch.
struct Standing {
    index: MappingIndex,
    /// Whether earlier runs moved rows of it.
    has_rows: bool,
    table_is_empty: bool,
    /// Its rows that are in quarantine.
    quarantined: HashSet<String>,
    /// Whether any of its rows has ever been there.
    any_quarantine: bool,
    parents: HashMap<String, Arc<KeyMap>>,
    /// Its rows that somebody has taken out of the quarantine for good.
    dropped: HashMap<LegacyId, Vec<Reason>>,
}

impl Standing {
    /// Whether rows that earlier runs moved can be found.
    fn has_existing(&self) -> bool {
        self.index == MappingIndex::Present && self.has_rows
    }

    /// Asks for all of it at once: for a small entity waiting for answers is most of the work.
    /// The keys of parents only matter where there is something to move.
    async fn read(engine: &Engine<'_>, model: &EntityModel, moves: bool) -> Result<Self> {
        let (target, name) = (&engine.target, model.name.as_str());
        let (index, has_rows, table_is_empty, quarantined, any_quarantine, dropped, parents) = try_join!(
            async { Ok(regraft_ledger::mapping_index(&***target, name).await?) },
            earlier_rows(engine, model),
            is_empty(target, model),
            async { Ok(regraft_ledger::stopped_ids(&***target, name).await?) },
            async { Ok(regraft_ledger::any_quarantine(&***target, name).await?) },
            dropped(target, model),
            async {
                match moves {
                    true => parent_keys(engine.context, target, engine.model, model).await,
                    false => Ok(HashMap::new()),
                }
            },
        )?;
        Ok(Self {
            index,
            has_rows,
            table_is_empty,
            quarantined: quarantined.into_iter().collect(),
            any_quarantine,
            parents,
            dropped,
        })
    }
}

/// Whether a table has no rows at all.
pub(crate) async fn is_empty(target: &Session, model: &EntityModel) -> Result<bool> {
    let table = model.table.sql_name();
    let query = format!("select not exists (select 1 from {table})");
    Ok(target.query_one(&query, &[]).await?.get(0))
}

/// Whether earlier runs moved rows of this entity.
async fn earlier_rows(engine: &Engine<'_>, model: &EntityModel) -> Result<bool> {
    let row = engine
        .target
        .query_one(
            "select exists (select 1 from regraft.migration_mappings where entity = $1 and run_no <> $2)",
            &[&model.name, &engine.run.run_no],
        )
        .await?;
    Ok(row.get(0))
}

/// The mode an entity of so many source rows is loaded in, given whether its table is empty and
/// whether earlier runs moved rows of it.
///
/// # Errors
/// Bulk mode asked for a table that holds rows; a table that holds rows of others, unless in-place
/// was asked for.
pub(crate) fn choose_mode(
    all: &Model,
    model: &EntityModel,
    choice: ModeChoice,
    dry_run: bool,
    (empty, has_existing): (bool, bool),
    rows: i64,
) -> Result<Mode> {
    let table = &model.table;
    // Such a table is loaded in place whatever was asked for: what was asked for is meant for all
    // that is selected, and the plan says which way each entity goes. Of entities that share a table
    // the first finds it empty, and the others wait until it is done.
    if (all.shares_table(model) && !empty) || table.kind == "p" {
        return Ok(Mode::InPlace);
    }
    match choice {
        ModeChoice::InPlace => Ok(Mode::InPlace),
        ModeChoice::Bulk if !empty => Err(Error::new(
            Kind::Usage,
            format!(
                "table {} is not empty: it can't be loaded in bulk mode",
                table.name
            ),
        )
        .hint("use --mode in-place, or auto")),
        ModeChoice::Auto if !empty && !has_existing => Err(Error::new(
            Kind::Data,
            format!(
                "table {} is not empty, and what is in it was not put there by regraft",
                table.name
            ),
        )
        .hint("empty it, or load beside what is there with --mode in-place")),
        ModeChoice::Auto | ModeChoice::Bulk if !empty || dry_run => Ok(Mode::InPlace),
        ModeChoice::Bulk => Ok(Mode::Bulk),
        ModeChoice::Auto if rows >= BULK_FROM => Ok(Mode::Bulk),
        ModeChoice::Auto => Ok(Mode::InPlace),
    }
}

/// Brings back what a bulk load took off.
async fn settle(engine: &Engine<'_>, load: &Arc<EntityLoad>) -> Result<()> {
    if load.checkpoint.mode != Mode::Bulk {
        return Ok(());
    }
    // This entity's batches are done: whoever is idle helps to build indexes, if they take long
    // enough.
    let mut helpers = if bulk::is_small(load) {
        Vec::new()
    } else {
        engine.pool.spare()
    };
    if let Some(one_too_many) = helpers.pop() {
        engine.pool.put(one_too_many);
    }
    let mut sessions = vec![Arc::clone(&engine.target)];
    sessions.extend(helpers.iter().map(|w| Arc::clone(&w.target)));
    tokio::select! {
        // A large index takes minutes: what is being built is cancelled, and built again by the
        // process that goes on.
        () = engine.context.cancel.cancelled() => {
            for session in &sessions {
                session.cancel_token().cancel().await?;
            }
            // The request may come late, and end this statement in place of the one that was at work.
            for _ in 0..3 {
                if engine.target.batch_execute("rollback").await.is_ok() {
                    break;
                }
            }
            return Err(crate::context::interrupted());
        }
        done = bulk::bring_back(engine.context, &engine.source, &sessions, load) => done?,
    }
    for helper in helpers {
        engine.pool.put(helper);
    }
    Ok(())
}

/// Closes an entity: its account must balance, and every mapping must have its row.
pub(crate) async fn finish(engine: &Engine<'_>, load: &EntityLoad) -> Result<()> {
    let model = &load.model;
    let target = &engine.target;
    let account = transaction::run(target, load.nested, async || {
        let (run_id, command) = (&load.run_id, &engine.run.command);
        let (run_no, name) = (load.run_no, &model.name);
        let ((), account) = try_join!(
            regraft_ledger::set_phase(&***target, &load.checkpoint, Phase::Done),
            regraft_ledger::record_entity(&***target, run_no, run_id, command, name, "done"),
        )?;
        Ok(account)
    })
    .await
    .map_err(|error| error.in_entity(&model.name))?;
    let (mapped, merged) =
        regraft_ledger::mapped_by_run(&***target, &model.name, load.run_no).await?;
    if mapped != account.inserted || merged != account.merged || !account.balances() {
        return Err(Error::new(
            Kind::Internal,
            format!(
                "the account says {} rows were inserted and {} merged, the mappings {mapped} and {merged}",
                account.inserted, account.merged
            ),
        )
        .in_entity(&model.name)
        .hint(format!("see `regraft receipt {}`", load.run_id)));
    }
    engine.context.events.send(Event::EntityFinished {
        entity: model.name.clone(),
        inserted: account.inserted.unsigned_abs(),
        left: (account.quarantined + account.blocked).unsigned_abs(),
        seconds: load.started.elapsed().as_secs_f64(),
    });
    Ok(())
}
