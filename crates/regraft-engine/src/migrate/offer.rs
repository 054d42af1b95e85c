//! Handing batches out: they go into a queue from which workers on any host take them. What is done
//! is asked of the ledger alone: a batch counts when its transaction has committed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use regraft_ledger::Offer;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::Engine;
use crate::context::interrupted;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::keys::LegacyId;
use crate::load::{BatchRange, EntityLoad};

/// How long to wait before looking again which batches are done.
const AGAIN: Duration = Duration::from_millis(100);

/// A batch as it waits in the queue: what finds its rows and its offer, and nothing of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedBatch {
    /// The run.
    pub run_id: String,
    /// Its number in the ledger.
    pub run_no: i32,
    /// The entity.
    pub entity: String,
    /// The epoch of the entity's checkpoint.
    pub epoch: i64,
    /// Number within the entity and run, from 1.
    pub batch: i32,
    /// First legacy id.
    pub low: String,
    /// Last legacy id.
    pub high: String,
    /// Source rows between them, before filters.
    pub rows: i64,
    /// Of these, rows that pass every filter.
    pub kept: i64,
    /// Rows dropped, by filter.
    pub filtered: BTreeMap<String, i64>,
}

impl OfferedBatch {
    fn of(load: &EntityLoad, range: &BatchRange) -> Self {
        Self {
            run_id: load.run_id.clone(),
            run_no: load.run_no,
            entity: load.model.name.clone(),
            epoch: load.checkpoint.epoch,
            batch: range.number,
            low: range.low.to_string(),
            high: range.high.to_string(),
            rows: range.rows,
            kept: range.kept,
            filtered: range.filtered.clone(),
        }
    }

    /// A name that no other batch has at the same time.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.run_id, self.entity, self.batch)
    }
}

/// What a queue's operations give back.
pub type Queued<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A queue that outlives the process which fills it, and that hands each batch to one worker at a
/// time, and to another one when that is lost.
pub trait BatchQueue: fmt::Debug + Send + Sync {
    /// Puts batches in. With `one_by_one` no two of them are handed out at a time.
    ///
    /// # Errors
    /// The queue can't be reached.
    fn put(&self, batches: Vec<OfferedBatch>, one_by_one: bool) -> Queued<'_>;

    /// Takes out those of these batches that nobody has taken yet.
    ///
    /// # Errors
    /// The queue can't be reached.
    fn withdraw(&self, batches: Vec<OfferedBatch>) -> Queued<'_>;
}

/// Hands batches out and waits until all are done.
///
/// # Errors
/// What a worker could not get past; a stop was asked for. Nobody writes batches of this entity any
/// more then.
pub(super) async fn run(
    engine: &Engine<'_>,
    queue: &dyn BatchQueue,
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
        .map(|range| OfferedBatch::of(load, range))
        .collect();
    let mut waiting: HashMap<i32, OfferedBatch> = HashMap::new();
    waiting.extend(batches.iter().map(|batch| (batch.batch, batch.clone())));
    let done = match queue.put(batches, load.serial).await {
        Ok(()) => wait(engine, entity, &mut waiting).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        let left = waiting.into_values().collect();
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
    entity: &str,
    waiting: &mut HashMap<i32, OfferedBatch>,
) -> Result<()> {
    let (target, run_no) = (&engine.target, engine.run.run_no);
    while !waiting.is_empty() {
        tokio::select! {
            () = engine.context.cancel.cancelled() => return Err(interrupted()),
            () = sleep(AGAIN) => {}
        }
        let numbers: Vec<i32> = waiting.keys().copied().collect();
        let (done, error) =
            regraft_ledger::offer_progress(&***target, run_no, entity, &numbers).await?;
        for (batch, rows) in done {
            waiting.remove(&batch);
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
