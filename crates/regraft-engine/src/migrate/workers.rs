//! Workers: pairs of connections that take batches from one queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regraft_ledger::BatchRecord;
use regraft_pg::Session;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Engine, MigrateOptions, offer};
use crate::context::{Context, interrupted};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::load::{BatchRange, EntityLoad, Worker, process};
use crate::snapshot::Snapshot;

/// The workers of a run, shared by the entities that are at work side by side: each batch takes
/// the one that has been idle for longest.
pub(crate) struct Pool {
    idle: tokio::sync::Mutex<UnboundedReceiver<Worker>>,
    back: UnboundedSender<Worker>,
    size: usize,
    /// How many of them have no connections yet.
    unopened: AtomicUsize,
    context: Context,
    snapshot: Arc<Snapshot>,
    /// The run's own connection, which is the only worker's in a dry run.
    of_dry_run: Option<Arc<Session>>,
}

impl Pool {
    /// As many workers as the settings say, which get their connections when they are first needed; in
    /// a dry run one, on the run's own connection.
    pub(crate) fn new(
        context: &Context,
        options: &MigrateOptions,
        snapshot: &Arc<Snapshot>,
        target: &Arc<Session>,
    ) -> Self {
        let (back, idle) = unbounded_channel();
        let size = if options.dry_run {
            1
        } else {
            context.settings.workers.max(1)
        };
        Self {
            idle: idle.into(),
            back,
            size,
            unopened: size.into(),
            context: context.clone(),
            snapshot: Arc::clone(snapshot),
            of_dry_run: options.dry_run.then(|| Arc::clone(target)),
        }
    }

    /// Gives every worker its connections now.
    ///
    /// # Errors
    /// A server that can't be reached.
    pub(crate) async fn open(&self) -> Result<()> {
        while self.claim() {
            self.put(self.worker().await?);
        }
        Ok(())
    }

    /// Whether there was a worker without connections, which is the caller's now.
    fn claim(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        let claimed = self.unopened.fetch_update(Relaxed, Relaxed, one_less);
        claimed.is_ok()
    }

    async fn worker(&self) -> Result<Worker> {
        Ok(Worker {
            source: self.snapshot.join(&self.context).await?,
            target: match &self.of_dry_run {
                Some(target) => Arc::clone(target),
                None => Arc::new(loading_session(&self.context).await?),
            },
        })
    }

    /// How many there are.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(super) async fn take(&self) -> Result<Worker> {
        if let Some(worker) = self
            .idle
            .try_lock()
            .ok()
            .and_then(|mut idle| idle.try_recv().ok())
        {
            return Ok(worker);
        }
        if self.claim() {
            return self.worker().await;
        }
        let worker = self.idle.lock().await.recv().await;
        worker.ok_or_else(|| Error::new(Kind::Internal, "no worker is left"))
    }

    /// Gives a worker back.
    pub(crate) fn put(&self, worker: Worker) {
        // The other end lives as long as this one.
        let _ = self.back.send(worker);
    }

    /// Tells that a worker which was taken won't come back: another one gets connections.
    pub(super) fn lost(&self) {
        self.unopened.fetch_add(1, Relaxed);
    }

    /// Workers that are idle right now.
    pub(crate) fn spare(&self) -> Vec<Worker> {
        let mut spare = Vec::new();
        if let Ok(mut idle) = self.idle.try_lock() {
            while let Ok(worker) = idle.try_recv() {
                spare.push(worker);
            }
        }
        spare
    }
}

/// A target connection for loading. Its commits don't wait for the disk: a server crash can only
/// take back whole batches together with their checkpoints, and the run's last commit waits for
/// all of them.
async fn loading_session(context: &Context) -> Result<Session> {
    let session = context.connect_target().await?;
    session
        .batch_execute("set synchronous_commit = off; set work_mem = '64MB'")
        .await?;
    Ok(session)
}

/// Moves batches side by side until none is left, or hands them out where there is a queue for that.
///
/// # Errors
/// The first error of any batch; the others are stopped at their next clean point.
pub(crate) async fn run(
    engine: &Engine<'_>,
    load: &Arc<EntityLoad>,
    ranges: Vec<BatchRange>,
) -> Result<()> {
    let queue = engine.context.settings.queue.as_deref();
    if let Some(queue) = queue.filter(|_| !load.nested && !ranges.is_empty()) {
        return offer::run(engine, queue, load, &ranges).await;
    }
    let side_by_side = if load.serial { 1 } else { engine.pool.size() };
    let side_by_side = side_by_side.min(ranges.len());
    let queue = Arc::new(Mutex::new(VecDeque::from(ranges)));
    let stop = engine.context.cancel.child_token();
    let mut tasks = JoinSet::new();
    for _ in 0..side_by_side {
        let (context, load) = (engine.context.clone(), Arc::clone(load));
        let (queue, stop, pool) = (Arc::clone(&queue), stop.clone(), Arc::clone(&engine.pool));
        tasks.spawn(async move {
            let done = take_batches(&context, &load, &queue, &stop, &pool).await;
            if done.is_err() {
                stop.cancel();
            }
            done
        });
    }
    let mut first_error: Option<Error> = None;
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|e| Error::new(Kind::Internal, format!("a worker ended: {e}")))?;
        if let Err(error) = done {
            // What stopped the others says more than that they were stopped.
            match &first_error {
                Some(first) if first.kind() != Kind::Interrupted => {}
                _ => first_error = Some(error),
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn take_batches(
    context: &Context,
    load: &Arc<EntityLoad>,
    queue: &Mutex<VecDeque<BatchRange>>,
    stop: &CancellationToken,
    pool: &Pool,
) -> Result<()> {
    loop {
        let _turn = tokio::select! {
            () = stop.cancelled() => return Err(interrupted()),
            turn = context.pace.turn() => turn,
        };
        let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
        let Some(range) = next else { return Ok(()) };
        let mut worker = tokio::select! {
            () = stop.cancelled() => return Err(interrupted()),
            worker = pool.take() => worker?,
        };
        context.events.send(Event::BatchStarted {
            entity: load.model.name.clone(),
            batch: range.number,
        });
        let record = tokio::select! {
            // Dropping the batch closes its connections, and with them its transaction.
            () = stop.cancelled() => return Err(interrupted()),
            record = with_retries(context, load, &range, &mut worker) => record,
        };
        let record = record.map_err(|error| {
            error.in_entity(&load.model.name).in_batch(
                range.number,
                &range.low.to_string(),
                &range.high.to_string(),
            )
        })?;
        pool.put(worker);
        context.events.send(Event::BatchFinished {
            entity: load.model.name.clone(),
            batch: record.batch,
            rows: record.account.source_rows.unsigned_abs(),
        });
        context.events.send(Event::RowsDone {
            entity: load.model.name.clone(),
            batch: Some(record.batch),
            rows: record.account.source_rows.unsigned_abs(),
        });
    }
}

/// Moves one batch within the time that the settings allow.
pub(super) async fn once(
    context: &Context,
    load: &EntityLoad,
    range: &BatchRange,
    worker: &Worker,
) -> Result<BatchRecord> {
    let Some(limit) = context.settings.batch_timeout else {
        return process(worker, load, range).await;
    };
    match tokio::time::timeout(limit, process(worker, load, range)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(
            Kind::Data,
            format!("the batch took longer than MIGRATION_TIMEOUT ({} ms)", limit.as_millis()),
        )
        .hint("raise MIGRATION_TIMEOUT, or make batches smaller with --batch-size; what is done stays done")),
    }
}

/// Moves one batch; after a fault that may pass, asks the ledger whether it was done all the same,
/// and tries again if not.
async fn with_retries(
    context: &Context,
    load: &Arc<EntityLoad>,
    range: &BatchRange,
    worker: &mut Worker,
) -> Result<BatchRecord> {
    let mut attempt = 0;
    loop {
        let error = match once(context, load, range, worker).await {
            Ok(record) => return Ok(record),
            Err(error) => error,
        };
        let source_lost = worker.source.is_closed();
        let passing = error
            .database()
            .is_some_and(regraft_pg::Error::is_transient)
            || error.kind() == Kind::Unreachable;
        if load.nested || !passing || source_lost || attempt >= context.settings.retries {
            return Err(if passing {
                error
                    .hint("what is done stays done: run the same command again to go on from there")
            } else {
                error
            });
        }
        attempt += 1;
        context.events.send(Event::Retried {
            entity: Some(load.model.name.clone()),
            batch: Some(range.number),
            text: format!(
                "{}, batch {}: {} (attempt {attempt} of {} follows)",
                load.model.name,
                range.number,
                error.message(),
                context.settings.retries
            ),
        });
        tokio::time::sleep(Duration::from_millis(250 << attempt.min(6))).await;
        worker.target = Arc::new(loading_session(context).await?);
        let done = regraft_ledger::done_batch(
            &**worker.target,
            load.run_no,
            &load.model.name,
            range.number,
        )
        .await?;
        if let Some(record) = done {
            return Ok(record);
        }
    }
}
