//! One run of a job.

use std::time::Duration;

use regraft_engine::{
    Context, DifferentialOptions, DifferentialOutcome, Error, Event, Events, JobEnd, Kind,
    OpenDifferential, Result, migrate_differential, open_differentials,
};
use regraft_ledger::{SyncJob, SyncRun, SyncRunEnd};
use regraft_project::Selection;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::jobs::{JobKey, clock, ledger};
use crate::lease::{Begun, Taken, hold, take_now};
use crate::memory;
use crate::notify::{Notifier, NotifyOptions};

/// How long a run that was told to stop may go on to its next checkpoint before its connections are
/// cut, which the servers notice within a second.
const GRACE: Duration = Duration::from_secs(10);

/// Before a run looks again whether another process has ended.
const AGAIN: Duration = Duration::from_secs(2);

/// How a job is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// After so long without a sign of life a process is taken for gone.
    pub lease: Duration,
    /// The name that this process goes by.
    pub worker: String,
}

/// Runs a job now, whatever its schedule says, and tells of it where somebody wants to be told.
///
/// # Errors
/// [`Kind::Usage`] for a job that isn't there, or is paused or cancelled and not forced;
/// [`Kind::Busy`] for one with a run at work; what the run itself failed of.
pub async fn run_now(
    context: &Context,
    key: JobKey<'_>,
    (options, notify): (&RunOptions, &NotifyOptions),
    force: bool,
) -> Result<(SyncRun, DifferentialOutcome)> {
    let target = ledger(context).await?;
    let now = clock(&target).await?;
    regraft_ledger::recover_sync_jobs(&*target, now, GONE).await?;
    let taken = take_now(&target, key, &options.worker, options.lease, force).await?;
    let done = run(context, &taken, options, false).await?;
    // The run may have taken hours.
    let target = ledger(context).await?;
    let runs = regraft_ledger::sync_runs(&*target, Some(taken.job.job_id), 100).await?;
    let mut notifier = Notifier::new(context, notify);
    notifier.tell(&runs);
    notifier.finish().await;
    let run = runs
        .into_iter()
        .find(|run| run.sync_run_id == taken.sync_run_id);
    let outcome = done?;
    let run =
        run.ok_or_else(|| Error::new(Kind::Busy, "the job was deleted while its run was at work"))?;
    Ok((run, outcome))
}

/// What is said of runs whose process is gone.
pub(crate) const GONE: &str =
    "the process that ran it is gone: it was killed, or could not reach the database any more";

/// What a run is cut off by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutOff {
    TimeLimit,
    Asked,
    LeaseLost,
    /// The process itself is to stop.
    Interrupted,
}

/// Runs a job that was taken, and records what came of it. With `stays_due` its job is due again when
/// this process is stopped. The outer error is one of recording it.
pub(crate) async fn run(
    context: &Context,
    taken: &Taken,
    options: &RunOptions,
    stays_due: bool,
) -> Result<Result<DifferentialOutcome>> {
    let started = Instant::now();
    memory::forget_peak();
    let (result, cut_off) = guarded(context, taken, options).await;
    let seconds = started.elapsed().as_secs_f64();
    if cut_off == Some(CutOff::LeaseLost) {
        // Whoever has the job now has recorded what it knows of this run.
        return Ok(result.map(|done| done.outcome));
    }
    let mut end = end_of(&taken.job, &result, cut_off, seconds);
    tell(context, taken, &end, seconds);
    let target = ledger(context).await?;
    let now = clock(&target).await?;
    let queue = regraft_ledger::sync_queue(&*target).await?;
    end.metrics["queue_depth"] = json!(queue.waiting);
    end.metrics["queue_oldest_ms"] = json!((queue.oldest_seconds * 1e3).round());
    let is_cut = cut_off == Some(CutOff::Interrupted) && result.is_err();
    let again = (stays_due && is_cut).then_some(now);
    regraft_ledger::end_sync_run(&*target, taken.lease(), &end, now, again).await?;
    Ok(result.map(|done| done.outcome))
}

async fn guarded(
    context: &Context,
    taken: &Taken,
    options: &RunOptions,
) -> (Result<Done>, Option<CutOff>) {
    let (stop, asked) = (CancellationToken::new(), CancellationToken::new());
    let (begun, begins) = unbounded_channel();
    let mut own = context.clone();
    own.cancel = stop.clone();
    own.settings.batch_size =
        u32::try_from(taken.job.max_records).unwrap_or(own.settings.batch_size);
    own.events = telling(context, begun);
    let work = carry_over(&own, &taken.job);
    let held = hold(context, taken.lease(), options.lease, &asked, begins);
    let limit = Duration::from_secs(taken.job.time_limit.unsigned_abs());
    tokio::pin!(work, held);
    let cut_off = tokio::select! {
        result = &mut work => return (result, None),
        () = &mut held => CutOff::LeaseLost,
        () = asked.cancelled() => CutOff::Asked,
        () = sleep(limit) => CutOff::TimeLimit,
        () = context.cancel.cancelled() => CutOff::Interrupted,
    };
    stop.cancel();
    let lost = cut_off == CutOff::LeaseLost;
    // A lease that can't be prolonged any more still has half of its time.
    let grace = if lost {
        GRACE.min(options.lease / 4)
    } else {
        GRACE
    };
    let (result, cut_off) = tokio::select! {
        result = &mut work => (result, cut_off),
        () = sleep(grace) => (Err(stopped()), cut_off),
        () = &mut held, if !lost => (Err(stopped()), CutOff::LeaseLost),
    };
    (result, Some(cut_off))
}

fn stopped() -> Error {
    Error::new(
        Kind::Interrupted,
        "stopped at once; what was not committed is rolled back",
    )
}

/// Events as they are told anyway, and the runs that begin to whom it concerns.
fn telling(context: &Context, begun: UnboundedSender<Begun>) -> Events {
    let told = context.events.clone();
    Events::new(move |event| {
        if let Event::RunStarted {
            run_id, backend, ..
        } = &event
        {
            let _ = begun.send((run_id.clone(), *backend));
        }
        told.send(event);
    })
}

/// What a run of a job came to.
struct Done {
    outcome: DifferentialOutcome,
    /// Rows written, left behind, and gone through by a run that had to be finished first.
    before: [i64; 3],
}

/// Rows written, left behind, and gone through.
pub(crate) fn rows_of(outcome: &DifferentialOutcome) -> [i64; 3] {
    let total = &outcome.receipt.total;
    [
        total.inserted + total.updated + total.detail.deleted,
        total.quarantined + total.blocked,
        total.source_rows,
    ]
}

/// Carries over what the job is about. There is one process at a time on a table: while another one
/// is at work on one of them this waits. A differential migration of such tables that was left
/// unfinished is gone on with: as part of this one where it was begun in the same way, and before it
/// where it was begun in another, or where there are several.
async fn carry_over(context: &Context, job: &SyncJob) -> Result<Done> {
    let selection = context
        .project
        .select(&job.entities, false)
        .map_err(|error| Error::new(Kind::Usage, error.to_string()))?;
    let policy = job.conflict_resolution.as_deref();
    let options = DifferentialOptions {
        policy: policy.and_then(|policy| policy.parse().ok()),
        deletes: job.deletes.as_deref().and_then(|mode| mode.parse().ok()),
        ..DifferentialOptions::default()
    };
    let mut before = [0; 3];
    loop {
        let error = match migrate_differential(context, &selection, &options).await {
            Ok(outcome) => return Ok(Done { outcome, before }),
            Err(error) => error,
        };
        match error.kind() {
            Kind::Busy => {}
            Kind::Usage => match finish_other(context, &selection, &options).await? {
                Some(rows) => {
                    before = std::array::from_fn(|i| before[i] + rows[i]);
                    continue;
                }
                None => return Err(error),
            },
            _ => return Err(error),
        }
        tokio::select! {
            () = context.cancel.cancelled() => return Err(error),
            () = sleep(AGAIN) => {}
        }
    }
}

/// Finishes a differential migration that is in the way of one of this selection, because it was begun
/// in another way than `options` or is one of several. The rows of its account; `None` where there is
/// none such.
async fn finish_other(
    context: &Context,
    selection: &Selection,
    options: &DifferentialOptions,
) -> Result<Option<[i64; 3]>> {
    let steps = selection.entities().iter();
    let names: Vec<String> = steps.map(|step| step.entity.clone()).collect();
    let open = open_differentials(context, &names).await?;
    let several = open.len() > 1;
    let other = |open: &OpenDifferential| {
        let its = &open.options;
        several || (its.policy, its.deletes) != (options.policy, options.deletes)
    };
    let Some(first) = open.into_iter().find(other) else {
        return Ok(None);
    };
    let Ok(its) = context.project.select(&first.entities, false) else {
        return Ok(None);
    };
    let id = &first.run.run_id;
    context.events.send(Event::Note(format!(
        "{id} was left unfinished: it is finished first"
    )));
    let error = match migrate_differential(context, &its, &first.options).await {
        Ok(outcome) => return Ok(Some(rows_of(&outcome))),
        Err(error) => error,
    };
    // Somebody else may be at it, or have done it, meanwhile.
    let left = open_differentials(context, &names).await?;
    let left = left.iter().find(|left| left.run.run_id == *id);
    match error.kind() {
        Kind::Busy => Ok(Some([0; 3])),
        Kind::Usage if left.is_none_or(|left| left.at_work) => Ok(Some([0; 3])),
        _ => Err(error),
    }
}

fn end_of(
    job: &SyncJob,
    result: &Result<Done>,
    cut_off: Option<CutOff>,
    seconds: f64,
) -> SyncRunEnd {
    let mut end = SyncRunEnd {
        metrics: json!({
            "duration_ms": (seconds * 1e3).round(),
            "memory_bytes": memory::resident(),
            "peak_memory_bytes": memory::peak(),
        }),
        entities: job.entities.clone(),
        ..SyncRunEnd::default()
    };
    match (result, cut_off) {
        (Ok(done), _) => {
            let rows = rows_of(&done.outcome);
            let [synced, failed, read] = std::array::from_fn(|i| rows[i] + done.before[i]);
            end.status = "completed";
            end.run_id = Some(done.outcome.receipt.run_id.clone());
            end.records_synced = synced;
            end.records_failed = failed;
            end.conflicts = done.outcome.open;
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no exactness")]
            let rate = read as f64 / seconds.max(1e-3);
            end.metrics["source_rows"] = json!(read);
            end.metrics["rows_per_second"] = json!(rate.round());
        }
        (Err(_), Some(CutOff::TimeLimit)) => {
            end.status = "failed";
            end.error_summary = Some(format!(
                "time-out: it took longer than {} s and was stopped at a checkpoint; the next run goes on there",
                job.time_limit
            ));
        }
        (Err(_), Some(CutOff::Asked)) => {
            end.status = "cancelled";
            end.error_summary = Some("cancelled: stopped at a checkpoint".to_owned());
        }
        (Err(_), Some(CutOff::Interrupted)) => {
            end.status = "cancelled";
            end.error_summary = Some(
                "the service was stopped: the next one goes on from the checkpoint".to_owned(),
            );
        }
        (Err(error), _) => {
            end.status = "failed";
            end.error_summary = Some(error.message().to_owned());
        }
    }
    end
}

/// Tells what came of a run.
fn tell(context: &Context, taken: &Taken, end: &SyncRunEnd, seconds: f64) {
    let read = end.metrics.get("source_rows").and_then(Value::as_u64);
    context.events.send(Event::JobEnded(JobEnd {
        job: taken.job.name.clone(),
        run_type: taken.run_type.to_owned(),
        outcome: end.status,
        seconds: Some(seconds),
        written: end.records_synced.unsigned_abs(),
        left_behind: end.records_failed.unsigned_abs(),
        read: read.unwrap_or(0),
    }));
}
