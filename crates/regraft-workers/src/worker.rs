//! A worker: takes batches from the queue for as long as it is let.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use graphile_worker::{IntoTaskHandlerResult, TaskHandler, WorkerContext, WorkerRecoveryConfig};
use regraft_engine::{Context, Crew, Error, Event, Kind, Moved, Result, Work};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::queue::{Queue, SCHEMA, TASK};

/// How often the queue is looked at for new batches, where nothing else wakes a worker.
const POLL: Duration = Duration::from_millis(200);

/// After so many attempts a fault that may pass ends the run.
const MOST_ATTEMPTS: i16 = 5;

/// Before a worker that lost the target tries to reach it again.
const AGAIN: Duration = Duration::from_secs(2);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The name that it goes by: host and process.
    pub name: String,
    /// After so long without a sign of life it is taken for gone, and others take its batches.
    pub lease: Duration,
    /// How long batches at work may go on when it is told to stop.
    pub grace: Duration,
    /// Leave when there was nothing to do for so long; `None` to stay.
    pub leave_after: Option<Duration>,
}

/// Work as the queue hands it out.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Task(Work);

/// What the batches of a worker share.
#[derive(Clone)]
struct Shared {
    id: Uuid,
    crew: Arc<Crew>,
    tally: Arc<Mutex<Tally>>,
    /// Batches at work.
    at_work: Arc<AtomicUsize>,
    /// Cancelled when the worker is to take no more batches.
    stop: CancellationToken,
    /// Why it can't help, where that is so.
    fault: Arc<Mutex<Option<Error>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What a worker has moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tally {
    run_id: Option<String>,
    batches: i64,
    rows: i64,
}

/// Counts a batch for as long as it is there.
struct AtWork(Arc<AtomicUsize>);

impl AtWork {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl TaskHandler for Task {
    const IDENTIFIER: &'static str = TASK;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let Some(shared) = context.get_ext::<Shared>().cloned() else {
            return Err("the worker has no crew".to_owned());
        };
        let last = *context.job().attempts() >= MOST_ATTEMPTS;
        let work = self.0;
        let _at_work = AtWork::begin(&shared.at_work);
        match shared.crew.carry_out(&work, last).await {
            Ok(moved) => {
                if let Moved::Rows(rows) = moved {
                    let mut tally = locked(&shared.tally);
                    tally.batches += 1;
                    tally.rows += rows;
                    tally.run_id = Some(work.part_of);
                }
                Ok(())
            }
            Err(error) => {
                // The queue keeps it with the batch, which somebody else is given.
                let kept = error.to_string();
                if error.kind() == Kind::Usage {
                    *locked(&shared.fault) = Some(error);
                    shared.stop.cancel();
                }
                Err(kept)
            }
        }
    }
}

/// Takes batches until the context is cancelled; those at work then have a while to be finished. A
/// target that can't be reached is tried again, however long it takes.
///
/// # Errors
/// [`Kind::Usage`] when this worker can't help with the runs there are: its project, program or secret is
/// another. What can't pass by itself, when it begins: the target or the queue can't be used.
pub async fn serve(context: &Context, options: &WorkerOptions) -> Result<()> {
    // Batches at work are not cut off when the worker is told to stop.
    let mut own = context.clone();
    own.cancel = CancellationToken::new();
    let shared = Shared {
        id: Uuid::new_v4(),
        crew: Arc::new(Crew::new(&own)),
        tally: Arc::default(),
        at_work: Arc::default(),
        stop: context.cancel.child_token(),
        fault: Arc::default(),
    };
    let mut queue = Some(Queue::open(&own, connections(&own)).await?);
    loop {
        let turn = match queue.take() {
            Some(queue) => Ok(queue),
            None => Queue::open(&own, connections(&own)).await,
        };
        let done = match turn {
            Ok(queue) => turn_of(&own, options, &shared, queue).await,
            Err(error) => Err(error),
        };
        if let Some(fault) = locked(&shared.fault).take() {
            return Err(fault);
        }
        if shared.stop.is_cancelled() {
            break;
        }
        if let Err(error) = done {
            let text = format!("{}; it is tried again", error.message());
            context.events.send(Event::Note(text));
        }
        tokio::select! {
            () = shared.stop.cancelled() => break,
            () = sleep(AGAIN) => {}
        }
    }
    let target = own.connect_target().await?;
    regraft_ledger::forget_worker(&*target, shared.id).await?;
    Ok(())
}

/// The queue needs a connection for each batch that ends, and some for signs of life.
fn connections(context: &Context) -> usize {
    context.settings.workers.min(4) + 2
}

async fn turn_of(
    context: &Context,
    options: &WorkerOptions,
    shared: &Shared,
    queue: Queue,
) -> Result<()> {
    let stop = shared.stop.clone();
    let worker = graphile_worker::WorkerOptions::default()
        .database(queue.database())
        .schema(SCHEMA)
        .concurrency(context.settings.workers)
        .poll_interval(POLL)
        .use_notification_delivery(false)
        .listen_os_shutdown_signals(false)
        .shutdown_signal(async move { stop.cancelled().await })
        .shutdown_grace_period(options.grace)
        .shutdown_interrupted_job_retry_delay(Duration::ZERO)
        .worker_recovery(recovery(options.lease))
        .add_extension(shared.clone())
        .define_job::<Task>()
        .init()
        .await
        .map_err(|error| lost(&error))?;
    let beating = beat(context, options, shared);
    tokio::select! {
        ended = worker.run() => ended.map_err(|error| lost(&error)),
        () = beating => Ok(()),
    }
}

fn recovery(lease: Duration) -> WorkerRecoveryConfig {
    WorkerRecoveryConfig::default()
        .heartbeat_interval(lease / 4)
        .sweep_interval(lease / 4)
        .sweep_threshold(lease)
        .recovery_delay(Duration::ZERO)
}

fn lost(error: &impl fmt::Display) -> Error {
    Error::new(
        Kind::Unreachable,
        format!("the queue of batches can't be used: {error}"),
    )
}

/// Tells of this worker now and then, and leaves runs that have nothing to hand out any more. Ends
/// never.
async fn beat(context: &Context, options: &WorkerOptions, shared: &Shared) {
    let slots = i32::try_from(context.settings.workers).unwrap_or(i32::MAX);
    let mut told = Tally::default();
    let mut session = None;
    let mut busy = Instant::now();
    loop {
        let tally = locked(&shared.tally).clone();
        if tally != told || shared.at_work.load(Relaxed) > 0 {
            busy = Instant::now();
        } else if options
            .leave_after
            .is_some_and(|idle| busy.elapsed() > idle)
        {
            shared.stop.cancel();
        }
        if tally != told {
            context.events.send(Event::Note(format!(
                "{} batches moved, {} rows ({})",
                tally.batches,
                tally.rows,
                tally.run_id.as_deref().unwrap_or("no run")
            )));
            told = tally.clone();
        }
        shared.crew.leave_finished().await;
        let open = match session.take() {
            Some(open) => Ok(open),
            None => context.connect_target().await,
        };
        if let Ok(open) = open {
            let (id, sum) = (
                shared.id,
                (tally.run_id.as_deref(), tally.batches, tally.rows),
            );
            let noted = regraft_ledger::note_worker(&*open, id, &options.name, slots, sum).await;
            // A connection that is lost is opened anew.
            session = noted.is_ok().then_some(open);
        }
        sleep(options.lease / 4).await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
