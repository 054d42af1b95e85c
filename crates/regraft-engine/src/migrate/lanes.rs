//! Entities side by side: each goes as soon as all that it waits for is done and a lane is free.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use regraft_project::{EntityStep, Selection};

use super::{Engine, entity};
use crate::error::Result;
use crate::model::Model;
use crate::transaction;

/// Moves all selected entities.
///
/// # Errors
/// The first error of any entity; whatever else is at work is dropped, and its open transactions
/// with it.
pub(crate) async fn run(engine: &Engine<'_>, selection: &Selection) -> Result<()> {
    create_partitions(engine, selection).await?;
    let components = components(selection);
    let lanes = open(engine, components.len()).await?;
    let mut queue = Queue::new(engine.model, &components);
    let mut free: Vec<usize> = (0..lanes.len()).rev().collect();
    let mut at_work = FuturesUnordered::new();
    loop {
        while let Some(&lane) = free.last() {
            let Some(next) = queue.next() else { break };
            free.pop();
            let (engine, steps) = (&lanes[lane], &components[next]);
            at_work.push(async move { (lane, next, component(engine, steps).await) });
        }
        let Some((lane, done, result)) = at_work.next().await else {
            return Ok(());
        };
        result?;
        queue.done(done);
        free.push(lane);
    }
}

/// Creating a partition locks the whole table of mappings, so that it is done beforehand.
pub(crate) async fn create_partitions(engine: &Engine<'_>, selection: &Selection) -> Result<()> {
    transaction::run(&engine.target, engine.options.dry_run, async || {
        for step in selection.entities() {
            regraft_ledger::create_partition(&**engine.target, &step.entity).await?;
        }
        Ok(())
    })
    .await
}

/// As many lanes as there are workers: engines with coordinating connections of their own. A dry run
/// has one, inside its transaction.
async fn open<'a>(engine: &Engine<'a>, components: usize) -> Result<Vec<Engine<'a>>> {
    if engine.options.dry_run {
        return Ok(vec![
            engine.lane(Arc::clone(&engine.source), Arc::clone(&engine.target)),
        ]);
    }
    let mut lanes = Vec::new();
    for _ in 0..engine.pool.size().min(components) {
        let source = Arc::new(engine.snapshot.join(engine.context).await?);
        let target = Arc::new(engine.context.connect_target().await?);
        // The log of the server keeps the order of commits: the run's last one waits for all.
        target
            .batch_execute("set work_mem = '64MB'; set synchronous_commit = off")
            .await?;
        lanes.push(engine.lane(source, target));
    }
    Ok(lanes)
}

/// The entities in groups: those of a cycle of references go together.
pub(crate) fn components(selection: &Selection) -> Vec<Vec<&EntityStep>> {
    let mut components: Vec<Vec<&EntityStep>> = Vec::new();
    for step in selection.entities() {
        match components.last_mut() {
            Some(last) if last[0].component == step.component => last.push(step),
            _ => components.push(vec![step]),
        }
    }
    components
}

async fn component(engine: &Engine<'_>, steps: &[&EntityStep]) -> Result<()> {
    let mut loads = Vec::new();
    for step in steps {
        engine.context.stop_requested()?;
        loads.extend(entity::load(engine, step).await?);
    }
    crate::link::link(
        engine.context,
        engine.model,
        &engine.source,
        &engine.target,
        &loads,
    )
    .await?;
    for load in &loads {
        entity::finish(engine, load).await?;
    }
    Ok(())
}

/// What waits for what.
struct Queue {
    /// For each component the earlier ones that it waits for; `None` once it was begun.
    waits: Vec<Option<BTreeSet<usize>>>,
}

impl Queue {
    /// A component waits for the entities it refers to, and for those that fill a table it fills
    /// too: of equal rows the first entity's are to stay.
    fn new(model: &Model, components: &[Vec<&EntityStep>]) -> Self {
        let parents = |step: &EntityStep| {
            let model = model.entities.get(&step.entity);
            model.map(|m| m.parents()).unwrap_or_default()
        };
        let table = |step: &EntityStep| {
            let model = model.entities.get(&step.entity);
            model.map(|m| m.table.sql_name())
        };
        let waits_for = |step: &EntityStep, earlier: &EntityStep| {
            parents(step).contains(&earlier.entity.as_str()) || table(step) == table(earlier)
        };
        let waits = components
            .iter()
            .enumerate()
            .map(|(i, component)| {
                let earlier = components[..i].iter().enumerate();
                let waits = earlier.filter(|(_, earlier)| {
                    component
                        .iter()
                        .any(|step| earlier.iter().any(|e| waits_for(step, e)))
                });
                Some(waits.map(|(i, _)| i).collect())
            })
            .collect();
        Self { waits }
    }

    /// The first that waits for nothing any more.
    fn next(&mut self) -> Option<usize> {
        let next = self
            .waits
            .iter()
            .position(|waits| waits.as_ref().is_some_and(BTreeSet::is_empty))?;
        self.waits[next] = None;
        Some(next)
    }

    fn done(&mut self, component: usize) {
        for waits in self.waits.iter_mut().flatten() {
            waits.remove(&component);
        }
    }
}
