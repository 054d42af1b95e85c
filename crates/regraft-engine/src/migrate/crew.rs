//! A worker's part of other processes' runs: it joins the snapshot of a run and moves the batches that
//! it is given, under the same checkpoint and in the same way as the process that offered them.

use std::collections::HashMap;
use std::sync::Arc;

use regraft_pg::Session;
use tokio::sync::{Mutex, OnceCell};
use tokio::try_join;

use super::workers::{Pool, once};
use super::{Engine, MigrateOptions, OfferedBatch, entity, resolved};
use crate::context::{Context, interrupted};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::load::{BatchRange, EntityLoad, Worker, parse_id};
use crate::model::Model;
use crate::snapshot::Snapshot;

/// Entities that are kept ready, the ones used last.
const READY: usize = 8;

/// A worker's connections and what it knows of the runs that it takes part in.
pub(crate) struct BatchCrew {
    context: Context,
    /// By their numbers and the snapshots that they read: who goes on with a run reads another one.
    joined: Mutex<HashMap<RunView, Arc<OnceCell<Joined>>>>,
}

/// The number of a run, and the snapshot that it reads.
type RunView = (i32, String);

/// A run that a worker takes part in.
struct Joined {
    options: MigrateOptions,
    model: Model,
    run: regraft_ledger::Run,
    snapshot: Arc<Snapshot>,
    target: Arc<Session>,
    pool: Arc<Pool>,
    ready: Mutex<Vec<Ready>>,
}

/// An entity whose batches can be moved: its name, the epoch, and what they share.
type Ready = ((String, i64), Arc<OnceCell<Arc<EntityLoad>>>);

impl BatchCrew {
    /// A crew with connections to nothing yet. It takes as many batches side by side as the settings
    /// have workers.
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            joined: Mutex::default(),
        }
    }

    /// Moves a batch: its source rows, or `None` when it is not to be moved any more. A fault that may
    /// pass is returned for somebody to try again, unless this is the `last` attempt; whatever else
    /// stands in the way ends the run that the batch is of.
    ///
    /// # Errors
    /// A fault that may pass; a project, program or secret other than the run's ([`Kind::Usage`]).
    pub(crate) async fn carry_out(&self, batch: &OfferedBatch, last: bool) -> Result<Option<i64>> {
        let error = match self.attempt(batch).await {
            Ok(moved) => return Ok(moved),
            Err(error) => {
                error
                    .in_entity(&batch.entity)
                    .in_batch(batch.batch, &batch.low, &batch.high)
            }
        };
        // The connections of the attempt may be what it failed of.
        let target = self.context.connect_target().await?;
        if !is_wanted(&target, batch).await? {
            return Ok(None);
        }
        let passing = error
            .database()
            .is_some_and(regraft_pg::Error::is_transient)
            || matches!(
                error.kind(),
                Kind::Unreachable | Kind::Interrupted | Kind::Busy
            );
        if error.kind() == Kind::Usage || (passing && !last) {
            return Err(error);
        }
        let (run_no, entity, note) = (batch.run_no, &batch.entity, error.to_note());
        regraft_ledger::fail_offer(&*target, run_no, entity, batch.epoch, &note).await?;
        Ok(None)
    }

    async fn attempt(&self, batch: &OfferedBatch) -> Result<Option<i64>> {
        let view = (batch.run_no, batch.snapshot.clone());
        let place = {
            let mut joined = self.joined.lock().await;
            // Whoever holds a snapshot keeps the source from cleaning up.
            joined.retain(|other, run| *other == view || Arc::strong_count(run) > 1);
            Arc::clone(joined.entry(view.clone()).or_default())
        };
        let joining = place.get_or_try_init(|| Joined::join(&self.context, batch));
        let joined = joining.await?;
        let moved = joined.carry_out(&self.context, batch).await;
        let target_lost = joined.target.is_closed();
        if moved.is_err() && (target_lost || joined.snapshot.session.is_closed()) {
            // The next batch joins anew.
            let mut all = self.joined.lock().await;
            if all.get(&view).is_some_and(|run| Arc::ptr_eq(run, &place)) {
                all.remove(&view);
            }
        }
        moved
    }

    /// Leaves the runs that have nothing to hand out any more: a snapshot keeps the source from
    /// cleaning up.
    pub(crate) async fn leave_finished(&self) {
        let mut joined = self.joined.lock().await;
        let views: Vec<RunView> = joined.keys().cloned().collect();
        for view in views {
            let Some(place) = joined.get(&view) else {
                continue;
            };
            let offered = match place.get() {
                Some(run) if Arc::strong_count(place) == 1 => {
                    regraft_ledger::is_offered(&**run.target, view.0, &view.1).await
                }
                _ => continue,
            };
            // A connection that has ended says the same.
            if !offered.unwrap_or(false) {
                joined.remove(&view);
            }
        }
    }
}

impl Joined {
    async fn join(context: &Context, batch: &OfferedBatch) -> Result<Self> {
        let (source, target) = try_join!(context.connect_source(), context.connect_target())?;
        let target = Arc::new(target);
        let (run_no, entity, epoch) = (batch.run_no, &batch.entity, batch.epoch);
        let run = regraft_ledger::find_run(&**target, &batch.run_id).await?;
        let offer = regraft_ledger::find_offer(&**target, run_no, entity, epoch).await?;
        let (Some(run), Some(offer)) = (run, offer) else {
            return Err(taken_back());
        };
        let snapshot = Snapshot::joined(source, &offer.snapshot).await?;
        let model = resolved(context, &snapshot.session, &target).await?;
        check_same(context, &run, &model)?;
        super::check_same_secret(context, &target).await?;
        target.batch_execute("set work_mem = '64MB'").await?;
        let (options, snapshot) = (MigrateOptions::default(), Arc::new(snapshot));
        let pool = Arc::new(Pool::new(context, &options, &snapshot, &target));
        Ok(Self {
            options,
            model,
            run,
            snapshot,
            target,
            pool,
            ready: Mutex::default(),
        })
    }

    fn engine<'a>(&'a self, context: &'a Context) -> Engine<'a> {
        Engine {
            context,
            options: &self.options,
            model: &self.model,
            run: self.run.clone(),
            resumed: true,
            source: Arc::clone(&self.snapshot.session),
            snapshot: Arc::clone(&self.snapshot),
            target: Arc::clone(&self.target),
            pool: Arc::clone(&self.pool),
            gate: Arc::default(),
        }
    }

    async fn carry_out(&self, context: &Context, batch: &OfferedBatch) -> Result<Option<i64>> {
        let place = self.place(batch).await;
        let opening = place.get_or_try_init(|| self.open(context, batch));
        let load = opening.await?;
        let worker = tokio::select! {
            () = context.cancel.cancelled() => return Err(interrupted()),
            worker = self.pool.take() => worker?,
        };
        let moved = tokio::select! {
            // Dropping the batch closes its connections, and with them its transaction.
            () = context.cancel.cancelled() => {
                self.pool.lost();
                return Err(interrupted());
            }
            moved = self.moved(context, load, batch, &worker) => moved,
        };
        if worker.source.is_closed() || worker.target.is_closed() {
            self.pool.lost();
        } else {
            self.pool.put(worker);
        }
        moved
    }

    async fn moved(
        &self,
        context: &Context,
        load: &EntityLoad,
        batch: &OfferedBatch,
        worker: &Worker,
    ) -> Result<Option<i64>> {
        let (target, checkpoint) = (&worker.target, load.checkpoint.id);
        regraft_ledger::end_batch_of_others(&***target, checkpoint, batch.batch).await?;
        if !is_wanted(target, batch).await? {
            return Ok(None);
        }
        let range = BatchRange {
            number: batch.batch,
            low: parse_id(&load.model, batch.low.clone())?,
            high: parse_id(&load.model, batch.high.clone())?,
            rows: batch.rows,
            kept: batch.kept,
            filtered: batch.filtered.clone(),
        };
        let record = once(context, load, &range, worker).await?;
        context.events.send(Event::RowsDone {
            entity: load.model.name.clone(),
            batch: Some(record.batch),
            rows: record.account.source_rows.unsigned_abs(),
        });
        Ok(Some(record.account.source_rows))
    }

    /// Where an entity is kept ready; the one that was used longest ago makes room.
    async fn place(&self, batch: &OfferedBatch) -> Arc<OnceCell<Arc<EntityLoad>>> {
        let key = (batch.entity.clone(), batch.epoch);
        let mut ready = self.ready.lock().await;
        if let Some(at) = ready.iter().position(|(other, _)| *other == key) {
            let used = ready.remove(at);
            ready.push(used);
        } else {
            ready.push((key, Arc::default()));
        }
        if ready.len() > READY {
            ready.remove(0);
        }
        Arc::clone(&ready[ready.len() - 1].1)
    }

    async fn open(&self, context: &Context, batch: &OfferedBatch) -> Result<Arc<EntityLoad>> {
        let (target, run_no, entity) = (&self.target, batch.run_no, batch.entity.as_str());
        let model = self.model.entities.get(entity).ok_or_else(taken_back)?;
        let offer = regraft_ledger::find_offer(&***target, run_no, entity, batch.epoch).await?;
        let engine = self.engine(context);
        let checkpoint = super::checkpoint(&engine, entity).await?;
        let (Some(offer), Some(checkpoint)) = (offer, checkpoint) else {
            return Err(taken_back());
        };
        if checkpoint.epoch != batch.epoch {
            return Err(taken_back());
        }
        let mut model = model.clone();
        if let Some(ids) = offer.legacy_ids {
            let ids: Result<Vec<_>> = ids.into_iter().map(|id| parse_id(&model, id)).collect();
            model.only = Some(Arc::new(ids?));
        }
        entity::join(&engine, &model, checkpoint).await
    }
}

async fn is_wanted(target: &Session, batch: &OfferedBatch) -> Result<bool> {
    let (run_no, entity, epoch) = (batch.run_no, batch.entity.as_str(), batch.epoch);
    Ok(regraft_ledger::is_batch_wanted(&**target, run_no, entity, epoch, batch.batch).await?)
}

/// What is said of a batch that is nobody's to do any more. Nobody is told.
fn taken_back() -> Error {
    Error::new(Kind::Busy, "the batch was taken back")
}

/// Refuses to work on a run that was begun with another project, source or program.
fn check_same(context: &Context, run: &regraft_ledger::Run, model: &Model) -> Result<()> {
    let differs = super::changed_since(context, run, model, false);
    if differs.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!(
            "run {} was begun with other things than this worker has: {} differs",
            run.run_id,
            differs.join(" and ")
        ),
    )
    .hint("give every worker the same program, the same project folder and the same source"))
}
