//! Handing batches out: they go into a queue from which workers on any host take them. What is done
//! is asked of the ledger alone: a batch counts when its transaction has committed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use regraft_ledger::Offer;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use super::Engine;
use crate::context::interrupted;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::keys::LegacyId;
use crate::load::{BatchRange, EntityLoad};
use crate::pacing::Turn;
use crate::work_queue::{Work, WorkKind, WorkQueue};

/// How long to wait before looking again which batches are done.
const AGAIN: Duration = Duration::from_millis(100);

/// A batch as it waits in the queue: what finds its rows and its offer, and nothing of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OfferedBatch {
    /// The run.
    pub(super) run_id: String,
    /// Its number in the ledger.
    pub(super) run_no: i32,
    /// The entity.
    pub(super) entity: String,
    /// The snapshot of the source that the run reads.
    pub(super) snapshot: String,
    /// The epoch of the entity's checkpoint.
    pub(super) epoch: i64,
    /// Number within the entity and run, from 1.
    pub(super) batch: i32,
    /// First legacy id.
    pub(super) low: String,
    /// Last legacy id.
    pub(super) high: String,
    /// Source rows between them, before filters.
    pub(super) rows: i64,
    /// Of these, rows that pass every filter.
    pub(super) kept: i64,
    /// Rows dropped, by filter.
    pub(super) filtered: BTreeMap<String, i64>,
}

impl OfferedBatch {
    fn of(load: &EntityLoad, snapshot: &str, range: &BatchRange) -> Self {
        Self {
            run_id: load.run_id.clone(),
            run_no: load.run_no,
            entity: load.model.name.clone(),
            snapshot: snapshot.to_owned(),
            epoch: load.checkpoint.epoch,
            batch: range.number,
            low: range.low.to_string(),
            high: range.high.to_string(),
            rows: range.rows,
            kept: range.kept,
            filtered: range.filtered.clone(),
        }
    }

    fn work(&self) -> Work {
        Work {
            key: format!("{}/{}/{}", self.run_id, self.entity, self.batch),
            part_of: self.run_id.clone(),
            group: format!("{}/{}", self.run_id, self.entity),
            kind: WorkKind::Batch,
            detail: json!(self),
        }
    }
}

/// Hands batches out and waits until all are done.
///
/// # Errors
/// What a worker could not get past; a stop was asked for. Nobody writes batches of this entity any
/// more then.
pub(super) async fn run(
    engine: &Engine<'_>,
    queue: &dyn WorkQueue,
    load: &Arc<EntityLoad>,
    ranges: &[BatchRange],
) -> Result<()> {
    let (target, run_no, entity) = (&engine.target, load.run_no, load.model.name.as_str());
    let offer = Offer {
        epoch: load.checkpoint.epoch,
        snapshot: engine.snapshot.id().to_owned(),
        legacy_ids: load
            .model
            .only
            .as_ref()
            .map(|ids| ids.iter().map(LegacyId::to_string).collect()),
    };
    regraft_ledger::put_offer(&***target, run_no, entity, &offer).await?;
    let batches: Vec<_> = ranges
        .iter()
        .map(|range| OfferedBatch::of(load, engine.snapshot.id(), range))
        .collect();
    let mut waiting: HashMap<i32, OfferedBatch> = HashMap::new();
    waiting.extend(batches.iter().map(|batch| (batch.batch, batch.clone())));
    // Under a budget a batch is handed out when its turn has come, whoever will take it.
    let (at_once, in_turn) = match engine.context.settings.budget.is_set() {
        true => (Vec::new(), VecDeque::from(batches)),
        false => (batches, VecDeque::new()),
    };
    let work = at_once.iter().map(OfferedBatch::work).collect();
    let done = match queue.put(work, load.serial).await {
        Ok(()) => wait(engine, (queue, load), &mut waiting, in_turn).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        let left = waiting.values().map(OfferedBatch::work).collect();
        // The fence below holds without it: what stays in the queue is found withdrawn.
        let _ = queue.withdraw(left).await;
    }
    let fenced = done.is_err();
    let withdrawn = regraft_ledger::withdraw_offer(&***target, run_no, entity, fenced).await;
    done?;
    Ok(withdrawn?)
}

async fn wait(
    engine: &Engine<'_>,
    (queue, load): (&dyn WorkQueue, &EntityLoad),
    waiting: &mut HashMap<i32, OfferedBatch>,
    mut in_turn: VecDeque<OfferedBatch>,
) -> Result<()> {
    let (target, run_no, entity) = (&engine.target, load.run_no, load.model.name.as_str());
    let mut turns: HashMap<i32, Turn> = HashMap::new();
    while !waiting.is_empty() {
        let is_next = !in_turn.is_empty() && turns.len() < engine.pool.size();
        tokio::select! {
            () = engine.context.cancel.cancelled() => return Err(interrupted()),
            turn = engine.context.pace.turn(), if is_next => {
                if let Some(batch) = in_turn.pop_front() {
                    turns.insert(batch.batch, turn);
                    queue.put(vec![batch.work()], load.serial).await?;
                }
                continue;
            }
            () = sleep(AGAIN) => {}
        }
        let numbers: Vec<i32> = waiting.keys().copied().collect();
        let (done, error) =
            regraft_ledger::offer_progress(&***target, run_no, entity, &numbers).await?;
        for (batch, rows) in done {
            waiting.remove(&batch);
            turns.remove(&batch);
            engine.context.events.send(Event::RowsDone {
                entity: entity.to_owned(),
                batch: Some(batch),
                rows: rows.unsigned_abs(),
            });
        }
        if let Some(noted) = error {
            return Err(Error::from_note(&noted));
        }
    }
    Ok(())
}
