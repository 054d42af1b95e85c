//! One run of a job.

use std::time::Duration;

use regraft_engine::{
    Context, DifferentialOptions, DifferentialOutcome, Error, Event, Kind, Result,
    migrate_differential, unfinished_differential,
};
use regraft_ledger::{SyncJob, SyncRun, SyncRunEnd};
use regraft_project::Selection;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::jobs::{JobKey, clock, ledger};
use crate::lease::{Stopped, Taken, hold, take_now};

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

/// Runs a job now, whatever its schedule says.
///
/// # Errors
/// [`Kind::Usage`] for a job that isn't there, or is paused or cancelled and not forced;
/// [`Kind::Busy`] for one with a run at work; what the run itself failed of.
pub async fn run_now(
    context: &Context,
    key: JobKey<'_>,
    options: &RunOptions,
    force: bool,
) -> Result<(SyncRun, DifferentialOutcome)> {
    let target = ledger(context).await?;
    let now = clock(&target).await?;
    regraft_ledger::recover_sync_jobs(&*target, now, GONE).await?;
    let taken = take_now(&target, key, &options.worker, options.lease, force).await?;
    let done = run(context, &taken, options).await?;
    let runs = regraft_ledger::sync_runs(&*target, Some(taken.job.job_id), 100).await?;
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
    Service,
}

/// Runs a job that was taken, and records what came of it. The outer error is one of recording it.
pub(crate) async fn run(
    context: &Context,
    taken: &Taken,
    options: &RunOptions,
) -> Result<Result<DifferentialOutcome>> {
    let started = Instant::now();
    let (result, cut_off) = guarded(context, taken, options).await;
    let seconds = started.elapsed().as_secs_f64();
    if cut_off == Some(CutOff::LeaseLost) {
        // Whoever has the job now has recorded what it knows of this run.
        return Ok(result);
    }
    let end = end_of(&taken.job, &result, cut_off, seconds);
    let target = ledger(context).await?;
    let now = clock(&target).await?;
    // A service that is to stop leaves the job due, for the next one to go on with.
    let again = (cut_off == Some(CutOff::Service)).then_some(now);
    regraft_ledger::end_sync_run(&*target, taken.lease(), &end, now, again).await?;
    Ok(result)
}

async fn guarded(
    context: &Context,
    taken: &Taken,
    options: &RunOptions,
) -> (Result<DifferentialOutcome>, Option<CutOff>) {
    let stop = CancellationToken::new();
    let mut own = context.clone();
    own.cancel = stop.clone();
    own.settings.batch_size =
        u32::try_from(taken.job.max_records).unwrap_or(own.settings.batch_size);
    let work = carry_over(&own, &taken.job);
    let held = hold(context, taken.lease(), options.lease, &stop);
    let limit = Duration::from_secs(taken.job.time_limit.unsigned_abs());
    tokio::pin!(work, held);
    let cut_off = tokio::select! {
        result = &mut work => return (result, None),
        stopped = &mut held => match stopped {
            Stopped::Asked => CutOff::Asked,
            Stopped::Lost => CutOff::LeaseLost,
        },
        () = sleep(limit) => CutOff::TimeLimit,
        () = context.cancel.cancelled() => CutOff::Service,
    };
    stop.cancel();
    // The lease was prolonged a quarter of it ago at most, and is not prolonged any more.
    let grace = GRACE.min(options.lease / 2);
    let result = tokio::select! {
        result = &mut work => Some(result),
        () = sleep(grace) => None,
    };
    let result = result.unwrap_or_else(|| {
        Err(Error::new(
            Kind::Interrupted,
            "stopped at once; what was not committed is rolled back",
        ))
    });
    (result, Some(cut_off))
}

async fn carry_over(context: &Context, job: &SyncJob) -> Result<DifferentialOutcome> {
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
    finish_unfinished(context).await?;
    patiently(context, &selection, &options).await
}

/// A differential migration that was cut off is finished first, in the way that it was begun.
async fn finish_unfinished(context: &Context) -> Result<()> {
    // Where there is none, or something else is unfinished, the run itself says so.
    let Ok((run, options)) = unfinished_differential(context, None, None).await else {
        return Ok(());
    };
    let names = run.detail.get("entities").cloned().unwrap_or_default();
    let names: Vec<String> = serde_json::from_value(names).unwrap_or_default();
    let Ok(selection) = context.project.select(&names, false) else {
        return Ok(());
    };
    context.events.send(Event::Note(format!(
        "{} was left unfinished: it is finished first",
        run.run_id
    )));
    patiently(context, &selection, &options).await.map(drop)
}

/// Waits while another process is at work on the target: there is one at a time.
async fn patiently(
    context: &Context,
    selection: &Selection,
    options: &DifferentialOptions,
) -> Result<DifferentialOutcome> {
    loop {
        match migrate_differential(context, selection, options).await {
            Err(error) if error.kind() == Kind::Busy => tokio::select! {
                () = context.cancel.cancelled() => return Err(error),
                () = sleep(AGAIN) => {}
            },
            done => return done,
        }
    }
}

fn end_of(
    job: &SyncJob,
    result: &Result<DifferentialOutcome>,
    cut_off: Option<CutOff>,
    seconds: f64,
) -> SyncRunEnd {
    let mut end = SyncRunEnd {
        metrics: json!({ "duration_ms": (seconds * 1e3).round(), "peak_memory_bytes": peak_memory() }),
        entities: job.entities.clone(),
        ..SyncRunEnd::default()
    };
    match (result, cut_off) {
        (Ok(outcome), _) => {
            let total = &outcome.receipt.total;
            let synced = total.inserted + total.updated + total.detail.deleted;
            end.status = "completed";
            end.run_id = Some(outcome.receipt.run_id.clone());
            end.records_synced = synced;
            end.records_failed = total.quarantined + total.blocked;
            end.conflicts = outcome.open;
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no exactness")]
            let rate = total.source_rows as f64 / seconds.max(1e-3);
            end.metrics["source_rows"] = json!(total.source_rows);
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
        (Err(_), Some(CutOff::Service)) => {
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

/// The most memory that this process has had, in bytes; 0 where the system doesn't tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
