//! A differential migration: entity by entity, parents first, what is new goes in and what has
//! changed is written; then, children first, what the source has no more goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use regraft_ledger::{Account, BatchRecord, Phase};
use regraft_pg::Session;
use regraft_pg::catalog::Catalog;
use regraft_project::{Deletes, EntityStep, Policy, Selection};
use serde_json::json;

use super::awaited;
use super::cursor;
use super::cycle::{Held, can_come_back, leave_referred};
use super::deletion::{Deletion, lock_rows, returned, take_away, take_away_together};
use super::detect::{Detected, Look, detect, range_of};
use super::examine::{Examiner, edits};
use super::grouping::{self, Grouping};
use super::tally::{Count, EntityDifferential, Tally};
use super::update::Updater;
use super::way::EntityWay;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::{Deriver, LegacyId};
use crate::load::{BatchRange, DROPPED, EntityLoad, Merged, kept_condition, merged, write_merged};
use crate::migrate::{
    Engine, checkpoint, components, create_partitions, open_entity, parent_keys, run_batches,
};
use crate::model::EntityModel;
use crate::source_load::SourceLoad;
use crate::transaction;

/// An entity on its way.
struct Work<'a> {
    model: &'a EntityModel,
    way: &'a EntityWay,
    load: Arc<EntityLoad>,
    detected: Detected,
    /// Whether all rows of the source were looked at, and not only those its cursor points out.
    complete: bool,
    /// The highest value of its cursor, if it has one.
    mark: Option<String>,
    /// Rows in place to be looked at column by column.
    touched: Vec<LegacyId>,
    /// Of the rows that the source has no more, those that stay because somebody has changed them.
    edited: HashSet<LegacyId>,
    grouping: Grouping,
    /// Of the rows that the source has no more, those that stay because others refer to them.
    held: Vec<LegacyId>,
    tally: Tally,
    batch: i32,
    /// Rows that both sides don't agree on in the end.
    unsettled: HashSet<LegacyId>,
}

/// Carries over what has changed in the selected entities.
pub(super) async fn run(
    engine: &Engine<'_>,
    selection: &Selection,
    ways: &BTreeMap<String, EntityWay>,
    every_row: bool,
) -> Result<Vec<EntityDifferential>> {
    create_partitions(engine, selection).await?;
    let source_load = SourceLoad::new(engine.context).await?;
    source_load.limit(&engine.source).await?;
    let looking = (every_row, &source_load);
    let mut all: Vec<Work<'_>> = Vec::new();
    for component in components(selection) {
        let done = all.len();
        for step in component {
            engine.context.stop_requested()?;
            let work = begin(engine, step, ways, looking)
                .await
                .map_err(|e| e.in_entity(&step.entity))?;
            all.extend(work);
        }
        let loads: Vec<Arc<EntityLoad>> = all[done..]
            .iter()
            .map(|work| Arc::clone(&work.load))
            .collect();
        let (context, model) = (engine.context, engine.model);
        crate::link::link(context, model, &engine.source, &engine.target, &loads).await?;
        let (going, arrived) = (going(&all), arrived(&all[done..]));
        for work in &mut all[done..] {
            update(engine, work, &going, &arrived).await?;
        }
    }
    if all.iter().any(|work| !work.detected.deleted.is_empty()) {
        let catalog = Catalog::read(&**engine.target, &[]).await?;
        for work in all.iter_mut().rev() {
            delete(engine, work, &catalog).await?;
        }
        delete_cycles(engine, &mut all, &catalog).await?;
    }
    close_all(engine, all).await
}

/// Finds out what has changed and moves what is new. `None` where an earlier process of this run
/// has done all of the entity.
async fn begin<'a>(
    engine: &Engine<'a>,
    step: &EntityStep,
    ways: &'a BTreeMap<String, EntityWay>,
    (every_row, source_load): (bool, &SourceLoad<'_>),
) -> Result<Option<Work<'a>>> {
    let name = step.entity.as_str();
    let (Some(model), Some(way)) = (engine.model.entities.get(name), ways.get(name)) else {
        return Err(Error::new(Kind::Internal, "the entity was not resolved"));
    };
    let before = checkpoint(engine, name).await?;
    if before.as_ref().is_some_and(|c| c.phase == Phase::Done) {
        return Ok(None);
    }
    let (source, target) = (&engine.source, &engine.target);
    let merged = merged(source, model).await?;
    let look = Look {
        revisited: revisited(engine, model).await?,
        run: Some((engine.run.run_no, engine.resumed)),
        every_row,
        cursor: match every_row {
            true => None,
            false => cursor::reach(target, model, way).await?,
        },
    };
    let mut detected = detect(source, target, model, &merged, &look, source_load).await?;
    let mut tally = Tally::default();
    tally.found.entity = name.to_owned();
    tally.found.source_rows = detected.source_rows;
    tally.found.rows_read = detected.read;
    tally.found.new = Count::of(&detected.new);
    tally.found.gaps = Count::of(&detected.left);
    tally.found.deleted = Count::of(&detected.deleted);
    let waiting = match engine.resumed {
        true => leave_tried(engine, model, &merged, &mut detected).await?,
        false => Vec::new(),
    };
    let returned = returned(target, model, way, &detected.deleted).await?;
    tally.found.returned = Count::of(&returned);
    let policy = way.row_policy();
    let grouping = Grouping::look(target, model, &merged, &detected.deleted, policy).await?;
    grouping.sort_out(&mut detected, &mut tally.found);
    take_anew(engine, model, &grouping.regrouped, "gone").await?;
    detected.new.extend_from_slice(&grouping.regrouped);
    let mut touched: HashSet<LegacyId> = detected.changed.iter().cloned().collect();
    touched.extend(returned);
    let mut unsettled: HashSet<LegacyId> = detected.unreadable.iter().cloned().collect();
    unsettled.extend(grouping.open());
    if way.looks_at_target() {
        tally.found.target_looked_at = true;
        let open = grouping.open();
        let gone: HashSet<&LegacyId> = detected.deleted.iter().chain(&open).collect();
        let edits = edits(target, model, way, None).await?;
        touched.extend(edits.edited.into_iter().filter(|id| !gone.contains(id)));
        let missing: Vec<LegacyId> = edits
            .gone
            .into_iter()
            .filter(|id| !gone.contains(id))
            .collect();
        tally.found.deleted_in_target = Count::of(&missing);
        if policy == Policy::SourceWins {
            for id in &missing {
                touched.remove(id);
            }
            // Who was merged into such a row follows it.
            let missing = [grouping.members(&missing), missing].concat();
            take_anew(engine, model, &missing, policy.as_str()).await?;
            detected.new.extend(missing);
        } else {
            unsettled.extend(missing);
        }
    }
    detected.new.sort_unstable();
    detected.new.dedup();
    let in_place_now = detected.unchanged;
    tally.found.unchanged = in_place_now
        - touched
            .iter()
            .filter(|id| detected.changed.binary_search(id).is_err())
            .count() as i64;
    let mut touched: Vec<LegacyId> = touched.into_iter().collect();
    touched.sort_unstable();
    let deleted = detected.deleted.as_slice();
    let edited = if deleted.is_empty() || policy == Policy::SourceWins {
        HashSet::new()
    } else {
        let edits = edits(target, model, way, Some(deleted)).await?;
        edits.edited.into_iter().collect()
    };
    let batch = transaction::run(target, engine.options.dry_run, async || {
        Ok(regraft_ledger::plan_anew(&***target, engine.run.run_no, name).await?)
    })
    .await?;
    let (load, batch) = insert(engine, model, (&detected, waiting), before, batch).await?;
    Ok(Some(Work {
        model,
        way,
        load,
        detected,
        complete: look.cursor.is_none(),
        mark: cursor::highest(source, model, way).await?,
        touched,
        edited,
        grouping,
        held: Vec::new(),
        tally,
        batch,
        unsettled,
    }))
}

/// Leaves out rows that an earlier process of this run has tried to move, or has merged into others
/// without having mapped them yet: they are in its account. Those that are still to be mapped.
async fn leave_tried(
    engine: &Engine<'_>,
    model: &EntityModel,
    merged: &Merged,
    detected: &mut Detected,
) -> Result<Vec<LegacyId>> {
    let (target, run_no) = (&engine.target, engine.run.run_no);
    let done = regraft_ledger::done_batches(&***target, run_no, &model.name).await?;
    let id = |text: String| LegacyId::parse(model.numeric, text);
    let (mut tried, mut met) = (Vec::new(), Vec::new());
    for batch in done {
        let (Some(low), Some(high)) = (id(batch.low_key), id(batch.high_key)) else {
            continue;
        };
        if batch.account.quarantined + batch.account.blocked > 0 {
            tried.push(low.clone()..=high.clone());
        }
        if batch.account.merged > 0 {
            met.push(low..=high);
        }
    }
    let is_in = |ranges: &[RangeInclusive<LegacyId>], id: &LegacyId| {
        ranges.iter().any(|range| range.contains(id))
    };
    detected.left.retain(|id| !is_in(&tried, id));
    let was_met = |id: &LegacyId| merged.contains_key(id) && is_in(&met, id);
    let new = std::mem::take(&mut detected.new).into_iter();
    let (waiting, new) = new.partition(was_met);
    detected.new = new;
    Ok(waiting)
}

/// Takes rows out of the mappings, which are then moved anew; what was noted of them is closed. Their
/// ranges are to be looked at again: a row that stays behind is in none that is agreed on.
async fn take_anew(
    engine: &Engine<'_>,
    model: &EntityModel,
    ids: &[LegacyId],
    strategy: &str,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let (target, name) = (&engine.target, model.name.as_str());
    let texts: Vec<String> = ids.iter().map(LegacyId::to_string).collect();
    let ranges: Vec<i64> = ids.iter().filter_map(range_of).collect();
    transaction::run(target, engine.options.dry_run, async || {
        take_away(target, model, (engine.run.run_no, 0), &texts).await?;
        regraft_ledger::close_rows(&***target, name, &texts, strategy).await?;
        regraft_ledger::forget_ranges(&***target, name, &ranges).await?;
        Ok(())
    })
    .await
}

/// Rows that somebody has to decide on, which may be of one mind again, and rows with an optional
/// reference to a parent that has come since they were last looked at.
async fn revisited(engine: &Engine<'_>, model: &EntityModel) -> Result<HashSet<LegacyId>> {
    let (source, target) = (&engine.source, &engine.target);
    let open = regraft_ledger::differing_ids(&***target, &model.name).await?;
    let mut revisited: HashSet<LegacyId> = open
        .into_iter()
        .filter_map(|id| LegacyId::parse(model.numeric, id))
        .collect();
    let since = regraft_ledger::looked_at_by(&***target, &model.name, engine.run.run_no).await?;
    for (parent, field) in model.optional_references() {
        let Some(parent) = engine.model.entities.get(parent) else {
            continue;
        };
        let arrived = regraft_ledger::mapped_since(&***target, &parent.name, since).await?;
        for part in arrived.chunks(20_000) {
            revisited.extend(naming(source, model, field, part).await?);
        }
    }
    Ok(revisited)
}

/// Moves the rows that are not in place, as any migration does. Those that are waiting are part of
/// others, and have only to be mapped.
async fn insert(
    engine: &Engine<'_>,
    model: &EntityModel,
    (detected, waiting): (&Detected, Vec<LegacyId>),
    before: Option<regraft_ledger::Checkpoint>,
    last: i32,
) -> Result<(Arc<EntityLoad>, i32)> {
    let mut ids: Vec<LegacyId> = [detected.new.as_slice(), &detected.left].concat();
    ids.sort_unstable();
    ids.dedup();
    let size = engine.context.settings.batch_size as usize;
    let size = engine.context.pace.rows(size);
    let mut ranges = Vec::new();
    for (part, number) in ids.chunks(size).zip(last + 1..) {
        let rows = part.len() as i64;
        if let (Some(low), Some(high)) = (part.first(), part.last()) {
            ranges.push(BatchRange {
                number,
                low: low.clone(),
                high: high.clone(),
                rows,
                kept: rows,
                filtered: BTreeMap::new(),
            });
        }
    }
    let last = last + ranges.len() as i32;
    let is_nothing = ids.is_empty() && waiting.is_empty();
    let mut model = model.clone();
    model.only = Some(Arc::new(ids));
    let mut load = open_entity(engine, &model, before, &ranges).await?;
    awaited::note(engine, &mut load).await?;
    engine.context.events.send(Event::EntityStarted {
        entity: model.name.clone(),
        rows: ranges.iter().map(|r| r.rows).sum::<i64>().unsigned_abs(),
        batches: ranges.len() as u64,
        mode: load.checkpoint.mode.as_str(),
    });
    run_batches(engine, &load, ranges).await?;
    widen(&mut load, waiting)?;
    if !is_nothing {
        write_merged(&engine.source, &engine.target, &load).await?;
    }
    if engine.resumed && !model.later_columns().is_empty() {
        // Rows that earlier processes of this run have moved may still wait for the references
        // inside their cycle.
        let (target, before) = (&engine.target, engine.run.run_no - 1);
        let moved = regraft_ledger::mapped_since(&***target, &model.name, before).await?;
        let moved = moved.into_iter();
        let moved = moved.filter_map(|id| LegacyId::parse(model.numeric, id));
        widen(&mut load, moved.collect())?;
    }
    Ok((load, last))
}

/// Lets an entity be about more rows.
fn widen(load: &mut Arc<EntityLoad>, more: Vec<LegacyId>) -> Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    let busy = || Error::new(Kind::Internal, "the batches are still at work");
    let load = Arc::get_mut(load).ok_or_else(busy)?;
    let mut model = EntityModel::clone(&load.model);
    let only = model.only.as_deref().into_iter().flatten();
    let mut ids: Vec<LegacyId> = only.cloned().chain(more).collect();
    ids.sort_unstable();
    ids.dedup();
    model.only = Some(Arc::new(ids));
    load.model = Arc::new(model);
    Ok(())
}

/// The rows of each entity that will be deleted.
fn going(all: &[Work<'_>]) -> HashMap<String, Vec<LegacyId>> {
    let mirrored = all.iter().filter(|w| w.way.deletes == Deletes::Mirror);
    mirrored
        .map(|work| {
            let deleted = work.detected.deleted.iter();
            let going = deleted.filter(|id| !work.edited.contains(id)).cloned();
            (work.model.name.clone(), going.collect())
        })
        .collect()
}

/// The rows of each entity that were to be moved.
fn arrived(component: &[Work<'_>]) -> HashMap<String, Vec<LegacyId>> {
    let of = |work: &Work<'_>| [work.detected.new.as_slice(), &work.detected.left].concat();
    component
        .iter()
        .map(|work| (work.model.name.clone(), of(work)))
        .collect()
}

/// The parents of an entity that have got another key since it was last looked at.
async fn rekeyed(
    engine: &Engine<'_>,
    model: &EntityModel,
) -> Result<HashMap<String, Vec<LegacyId>>> {
    let target = &engine.target;
    let since = regraft_ledger::looked_at_by(&***target, &model.name, engine.run.run_no).await?;
    let mut rekeyed = HashMap::new();
    for parent in model.parents() {
        let numeric = engine.model.entities.get(parent).is_some_and(|p| p.numeric);
        let ids = regraft_ledger::rekeyed_since(&***target, parent, since).await?;
        let ids = ids
            .into_iter()
            .filter_map(|id| LegacyId::parse(numeric, id));
        rekeyed.insert(parent.to_owned(), ids.collect());
    }
    Ok(rekeyed)
}

/// Rows of the source with one of these references to one of these parents.
pub(super) async fn children_of(
    source: &Session,
    model: &EntityModel,
    references: Vec<(&str, usize)>,
    parents: &HashMap<String, Vec<LegacyId>>,
) -> Result<Vec<LegacyId>> {
    let mut children = Vec::new();
    for (parent, field) in references {
        for part in parents
            .get(parent)
            .into_iter()
            .flat_map(|ids| ids.chunks(20_000))
        {
            let ids: Vec<String> = part.iter().map(LegacyId::to_string).collect();
            children.extend(naming(source, model, field, &ids).await?);
        }
    }
    Ok(children)
}

/// Rows of the source with one of these values in a field.
async fn naming(
    source: &Session,
    model: &EntityModel,
    field: usize,
    values: &[String],
) -> Result<Vec<LegacyId>> {
    let sql = format!(
        "select {} from {}\nwhere {} and ({})::text = any ($1)",
        model.key_value(),
        model.from,
        kept_condition(model),
        model.fields[field].sql,
    );
    let rows = source
        .query(&sql, &[&values])
        .await
        .map_err(|e| Error::from(source.error(e)))?;
    let ids = rows.iter();
    Ok(ids
        .map(|row| LegacyId::from_row(model.numeric, row, 0))
        .collect())
}

/// Writes what has changed in rows in place. A parent that will be deleted counts as gone; of the
/// parents inside a cycle, some have come only after the rows that name them were looked for.
async fn update(
    engine: &Engine<'_>,
    work: &mut Work<'_>,
    going: &HashMap<String, Vec<LegacyId>>,
    arrived: &HashMap<String, Vec<LegacyId>>,
) -> Result<()> {
    let (source, target, model) = (&engine.source, &engine.target, work.model);
    let mut named = children_of(source, model, model.references(), going).await?;
    let linked: HashSet<&LegacyId> = arrived.get(&model.name).into_iter().flatten().collect();
    let waited = children_of(source, model, model.optional_references(), arrived).await?;
    named.extend(waited.into_iter().filter(|id| !linked.contains(id)));
    named.extend(
        children_of(
            source,
            model,
            model.references(),
            &rekeyed(engine, model).await?,
        )
        .await?,
    );
    named.retain(|id| !work.grouping.is_merged(id));
    if !named.is_empty() {
        let texts: Vec<String> = named.iter().map(LegacyId::to_string).collect();
        let in_place =
            regraft_ledger::mapped_among(&***target, &model.name, model.numeric, &texts).await?;
        let in_place = in_place
            .into_iter()
            .filter_map(|(id, _)| LegacyId::parse(model.numeric, id));
        work.touched.extend(in_place);
        work.touched.sort_unstable();
        work.touched.dedup();
    }
    if work.touched.is_empty() {
        return Ok(());
    }
    let mut parents = parent_keys(engine.context, target, engine.model, model).await?;
    for (parent, keys) in &mut parents {
        if let (Some(ids), Some(keys)) = (going.get(parent), Arc::get_mut(keys)) {
            keys.stop(ids);
        }
    }
    let secret = engine.context.settings.secret.as_ref();
    let deriver = secret.map(|secret| Deriver::new(secret, &model.name));
    let merged = Arc::clone(&work.load.merged);
    let mut examiner = Examiner::new(target, model, deriver, parents, merged, work.way).await?;
    let mut updater = Updater {
        engine,
        entity: &model.name,
        checkpoint: &work.load.checkpoint,
        way: work.way,
        batch: work.batch,
        accounted: false,
    };
    let (again, first) = accounted(engine, work).await?;
    let mut refused = Vec::new();
    for (ids, is_accounted) in [(first, false), (again, true)] {
        updater.accounted = is_accounted;
        let updated = updater.run(&mut examiner, &ids, &mut work.tally).await?;
        refused.extend(updated.refused);
        work.unsettled.extend(updated.unsettled);
    }
    work.batch = updater.batch;
    work.tally.found.refused = Count::of(&refused);
    engine.context.events.send(Event::RowsDone {
        entity: model.name.clone(),
        batch: None,
        rows: work.touched.len() as u64,
    });
    Ok(())
}

/// The rows to be looked at: those that are in this run's account, because they have come with it or an
/// earlier process of it has looked at them, and the others.
async fn accounted(engine: &Engine<'_>, work: &Work<'_>) -> Result<(Vec<LegacyId>, Vec<LegacyId>)> {
    let (name, run) = (&work.model.name, &engine.run);
    let mut before: HashSet<String> = HashSet::new();
    if engine.resumed {
        for part in work.touched.chunks(20_000) {
            let texts: Vec<String> = part.iter().map(LegacyId::to_string).collect();
            let run = (run.run_no, run.run_id.as_str());
            let found = regraft_ledger::accounted_in(&**engine.target, name, run, &texts).await?;
            before.extend(found);
        }
    }
    let detected = &work.detected;
    let came = |id: &LegacyId| {
        let came = [&detected.new, &detected.left];
        came.into_iter().any(|ids| ids.binary_search(id).is_ok())
    };
    let touched = work.touched.iter().cloned();
    Ok(touched.partition(|id| came(id) || before.contains(&id.to_string())))
}

fn deletion<'w>(engine: &'w Engine<'_>, work: &'w Work<'_>) -> Deletion<'w> {
    Deletion {
        engine,
        model: work.model,
        way: work.way,
        checkpoint: &work.load.checkpoint,
        ids: &work.detected.deleted,
    }
}

async fn delete(engine: &Engine<'_>, work: &mut Work<'_>, catalog: &Catalog) -> Result<()> {
    let mut batch = work.batch;
    let (deleted, held) = deletion(engine, work)
        .run(catalog, &mut batch)
        .await
        .map_err(|e| e.in_entity(&work.model.name))?;
    work.batch = batch;
    work.held = held;
    // A row that is only marked is still in place, and another way may be taken with it: its range is
    // not agreed on.
    let done: HashSet<LegacyId> = match work.way.deletes {
        Deletes::Mirror => deleted.into_iter().collect(),
        Deletes::Soft | Deletes::Ignore => HashSet::new(),
    };
    let left = work.detected.deleted.iter().filter(|id| !done.contains(id));
    work.unsettled.extend(left.cloned());
    Ok(())
}

/// Closes all entities, or none: a process that goes on with this run looks at all of them in its own
/// snapshot, and children must not be of a later one than their parents.
async fn close_all(engine: &Engine<'_>, all: Vec<Work<'_>>) -> Result<Vec<EntityDifferential>> {
    let closed = transaction::run(&engine.target, engine.options.dry_run, async || {
        let mut closed = Vec::new();
        for work in all {
            let name = work.model.name.as_str();
            closed.push(close(engine, work).await.map_err(|e| e.in_entity(name))?);
        }
        Ok(closed)
    })
    .await?;
    let mut entities = Vec::new();
    for (found, account) in closed {
        engine.context.events.send(Event::EntityFinished {
            entity: found.entity.clone(),
            inserted: (account.inserted + account.updated).unsigned_abs(),
            left: (account.quarantined + account.blocked + account.detail.conflicts).unsigned_abs(),
            seconds: 0.0,
        });
        entities.push(found);
    }
    Ok(entities)
}

/// Deletes rows of several tables that hold each other, all at once. Those that could not be brought
/// back, because none of them could come first, stay.
async fn delete_cycles(engine: &Engine<'_>, all: &mut [Work<'_>], catalog: &Catalog) -> Result<()> {
    let target = &engine.target;
    let with_held = all.iter().filter(|work| !work.held.is_empty());
    let mut held: Vec<Held<'_>> = with_held
        .map(|work| Held {
            model: work.model,
            ids: work.held.clone(),
        })
        .collect();
    let models: Vec<&EntityModel> = held.iter().map(|held| held.model).collect();
    if models.len() < 2 || !can_come_back(catalog, &models) {
        return Ok(());
    }
    transaction::run(target, engine.options.dry_run, async || {
        for held in &held {
            lock_rows(target, held.model, &held.ids).await?;
        }
        leave_referred(target, catalog, &mut held).await?;
        held.retain(|held| !held.ids.is_empty());
        let works: Vec<&Work<'_>> = held
            .iter()
            .filter_map(|held| all.iter().find(|work| work.model.name == held.model.name))
            .collect();
        let parts: Vec<(&EntityModel, i32, &[LegacyId])> = held
            .iter()
            .zip(&works)
            .map(|(held, work)| (held.model, work.batch + 1, held.ids.as_slice()))
            .collect();
        take_away_together(target, engine.run.run_no, &parts).await?;
        for (held, work) in held.iter().zip(works) {
            let deletion = deletion(engine, work);
            deletion.close(&held.ids).await?;
            let done = held.ids.len();
            deletion.record(work.batch + 1, &held.ids, done).await?;
        }
        Ok(())
    })
    .await?;
    for held in held {
        for work in all
            .iter_mut()
            .filter(|work| work.model.name == held.model.name)
        {
            work.batch += 1;
            work.unsettled.retain(|id| !held.ids.contains(id));
        }
    }
    Ok(())
}

/// Closes an entity: the rows that nobody had to touch are added to its account, which must
/// balance, and the ranges that both sides agree on are noted.
async fn close(engine: &Engine<'_>, work: Work<'_>) -> Result<(EntityDifferential, Account)> {
    let (target, run, name) = (&engine.target, &engine.run, work.model.name.as_str());
    let open = regraft_ledger::stopped_ids(&***target, name).await?;
    let mut unsettled = work.unsettled;
    unsettled.extend(
        open.into_iter()
            .filter_map(|id| LegacyId::parse(work.model.numeric, id)),
    );
    let unsettled: HashSet<i64> = unsettled.iter().filter_map(range_of).collect();
    let (agreed, not): (Vec<_>, Vec<_>) = work
        .detected
        .ranges
        .iter()
        .cloned()
        .partition(|range| !unsettled.contains(&range.range));
    let mut not: Vec<i64> = not.into_iter().map(|range| range.range).collect();
    let (kept, empty): (Vec<i64>, Vec<i64>) = work
        .detected
        .ranges_gone
        .iter()
        .partition(|range| unsettled.contains(range));
    not.extend(kept);
    rest(engine, &work.load, &work.detected, work.batch + 1).await?;
    regraft_ledger::set_phase(&***target, &work.load.checkpoint, Phase::Done).await?;
    let why = "the source has the row no more, or a filter drops it";
    let gone = work.detected.left_and_gone.as_slice();
    let policy = work.way.row_policy();
    grouping::note(target, name, &run.run_id, &work.grouping, policy).await?;
    regraft_ledger::close_quarantine(&***target, name, gone, why).await?;
    let layout = &work.detected.layout;
    regraft_ledger::agree_on_ranges(&***target, name, layout, run.run_no, &agreed).await?;
    regraft_ledger::disagree_on_ranges(&***target, name, layout, run.run_no, &not).await?;
    regraft_ledger::forget_ranges(&***target, name, &empty).await?;
    let look = (run.run_no, work.complete, work.mark);
    cursor::note(target, &engine.snapshot, work.model, work.way, look).await?;
    let found = work.tally.found;
    let (rows, detail) = (found.source_rows, json!(found));
    regraft_ledger::record_differential(&***target, &run.run_id, name, rows, &detail).await?;
    let (number, id, command) = (run.run_no, run.run_id.as_str(), run.command.as_str());
    let account =
        regraft_ledger::record_entity(&***target, number, id, command, name, "done").await?;
    Ok((found, account))
}

/// Records the rows that nobody had to touch as a batch of their own, so that the account is of all
/// rows of the source.
async fn rest(
    engine: &Engine<'_>,
    load: &EntityLoad,
    detected: &Detected,
    batch: i32,
) -> Result<()> {
    let (target, run) = (&engine.target, &engine.run);
    let entity = load.model.name.as_str();
    let done = regraft_ledger::done_batches(&***target, run.run_no, entity).await?;
    let counted: i64 = done.iter().map(|batch| batch.account.source_rows).sum();
    // An earlier process of this run may have seen rows that are gone by now.
    let (quarantined, blocked) = detected.dropped;
    let unchanged = (detected.kept() - counted - quarantined - blocked).max(0);
    let filtered = detected.source_rows - detected.kept();
    let mut account = Account {
        source_rows: unchanged + quarantined + blocked + filtered,
        unchanged,
        quarantined,
        blocked,
        filtered,
        ..Account::default()
    };
    if quarantined + blocked > 0 {
        let reasons = &mut account.detail.reasons;
        reasons.insert(DROPPED.to_owned(), quarantined + blocked);
    }
    account.detail.filters.clone_from(&detected.filtered);
    let record = BatchRecord {
        batch,
        low_key: String::new(),
        high_key: String::new(),
        account,
    };
    regraft_ledger::record_batch(
        &***target,
        run.run_no,
        &run.run_id,
        &run.command,
        entity,
        &record,
    )
    .await?;
    let rows = record.account.source_rows;
    regraft_ledger::advance(&***target, &load.checkpoint, rows, "").await?;
    Ok(())
}
