//! Workers: pairs of connections that take batches from one queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regraft_ledger::BatchRecord;
use regraft_pg::Session;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::context::{Context, interrupted};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::load::{BatchRange, EntityLoad, Worker, process};

/// Opens the workers of a run.
pub(crate) async fn open(engine: &Engine<'_>) -> Result<Vec<Worker>> {
    if engine.options.dry_run {
        let source = engine.snapshot.join(engine.context).await?;
        return Ok(vec![Worker {
            source,
            target: Arc::clone(&engine.target),
        }]);
    }
    let mut workers = Vec::new();
    for _ in 0..engine.context.settings.workers {
        workers.push(Worker {
            source: engine.snapshot.join(engine.context).await?,
            target: Arc::new(loading_session(engine.context).await?),
        });
    }
    Ok(workers)
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

/// Moves batches side by side until none is left, and gives the workers back.
///
/// # Errors
/// The first error of any batch; the others are stopped at their next clean point.
pub(crate) async fn run(
    engine: &Engine<'_>,
    load: &Arc<EntityLoad>,
    ranges: Vec<BatchRange>,
    workers: Vec<Worker>,
) -> Result<Vec<Worker>> {
    let queue = Arc::new(Mutex::new(VecDeque::from(ranges)));
    let stop = engine.context.cancel.child_token();
    let mut tasks = JoinSet::new();
    let at_work = if load.serial { 1 } else { workers.len() };
    let mut back: Vec<Worker> = Vec::with_capacity(workers.len());
    for (number, worker) in workers.into_iter().enumerate() {
        if number >= at_work {
            back.push(worker);
            continue;
        }
        let (context, load) = (engine.context.clone(), Arc::clone(load));
        let (queue, stop) = (Arc::clone(&queue), stop.clone());
        tasks.spawn(async move {
            let done = take_batches(&context, &load, &queue, &stop, worker).await;
            if done.is_err() {
                stop.cancel();
            }
            done
        });
    }
    let mut first_error: Option<Error> = None;
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|e| Error::new(Kind::Internal, format!("a worker ended: {e}")))?;
        match done {
            Ok(worker) => back.push(worker),
            // What stopped the others says more than that they were stopped.
            Err(error) => match &first_error {
                Some(first) if first.kind() != Kind::Interrupted => {}
                _ => first_error = Some(error),
            },
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => Ok(back),
    }
}

async fn take_batches(
    context: &Context,
    load: &Arc<EntityLoad>,
    queue: &Mutex<VecDeque<BatchRange>>,
    stop: &CancellationToken,
    mut worker: Worker,
) -> Result<Worker> {
    loop {
        let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
        let Some(range) = next else { return Ok(worker) };
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
        context.events.send(Event::RowsDone {
            entity: load.model.name.clone(),
            rows: record.account.source_rows.unsigned_abs(),
        });
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
        let result = match context.settings.batch_timeout {
            None => process(worker, load, range).await,
            Some(limit) => match tokio::time::timeout(limit, process(worker, load, range)).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(
                    Kind::Data,
                    format!("the batch took longer than MIGRATION_TIMEOUT ({} ms)", limit.as_millis()),
                )
                .hint("raise MIGRATION_TIMEOUT, or make batches smaller with --batch-size; what is done stays done")),
            },
        };
        let error = match result {
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
        context.events.send(Event::Note(format!(
            "{}, batch {}: {} (attempt {attempt} of {} follows)",
            load.model.name,
            range.number,
            error.message(),
            context.settings.retries
        )));
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
