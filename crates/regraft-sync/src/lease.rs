//! Taking a job, and holding it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use regraft_engine::{Context, Error, Kind, Result};
use regraft_ledger::{SyncJob, SyncLease};
use regraft_pg::Session;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::jobs::{JobKey, clock, find, in_transaction, next_of};

/// A job that is this process's to run.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The job as it was before.
    pub job: SyncJob,
    /// The run that was begun.
    pub sync_run_id: Uuid,
    /// The epoch of the lease.
    pub epoch: i64,
    /// `scheduled`, `manual` or `retry`.
    pub run_type: &'static str,
}

impl Taken {
    /// What the ledger knows the lease by.
    pub(crate) fn lease(&self) -> (Uuid, i64) {
        (self.job.job_id, self.epoch)
    }
}

/// Takes the job that has been due for longest and is none of `passed_over`, and sets its next time: the
/// first of its schedule after `now`, however many have passed.
///
/// # Errors
/// A server that can't be reached; a schedule that this program can't read.
pub async fn take_due(
    target: &Session,
    now: Timestamp,
    worker: &str,
    lease: Duration,
    passed_over: &[Uuid],
) -> Result<Option<Taken>> {
    in_transaction(target, async || {
        let due = regraft_ledger::lock_due_sync_job(&**target, now, passed_over).await?;
        let Some(job) = due else {
            return Ok(None);
        };
        if let Err(error) = next_of(&job, now) {
            // It would be the first that is due for ever, and no other job would have its turn.
            let (id, why) = (job.job_id, error.message());
            regraft_ledger::give_up_sync_job(&**target, id, worker, now, why).await?;
            return Ok(None);
        }
        let run_type = if job.is_retry { "retry" } else { "scheduled" };
        let taken = take(target, job, (now, lease), worker, run_type).await?;
        Ok(Some(taken))
    })
    .await
}

/// Takes a job because somebody wants it run now. With `force` also one that is paused or cancelled,
/// which it stays.
///
/// # Errors
/// [`Kind::Usage`] for a job that isn't there, is paused or cancelled; [`Kind::Busy`] for one with a
/// run at work.
pub(crate) async fn take_now(
    target: &Session,
    key: JobKey<'_>,
    worker: &str,
    lease: Duration,
    force: bool,
) -> Result<Taken> {
    in_transaction(target, async || {
        let job = find(target, key, true).await?;
        let idle = job.status == "paused" || job.status == "cancelled";
        if job.status == "running" {
            return Err(Error::new(
                Kind::Busy,
                format!("a run of job {:?} is at work already", job.name),
            )
            .hint("see `regraft sync job-status`; `regraft sync cancel-job` stops it"));
        }
        if idle && !force {
            return Err(
                Error::new(Kind::Usage, format!("job {:?} is {}", job.name, job.status))
                    .hint("`regraft sync resume-job` puts it back; --force runs it this once"),
            );
        }
        let (status, id) = (job.status.clone(), job.job_id);
        let now = clock(target).await?;
        let taken = take(target, job, (now, lease), worker, "manual").await?;
        if idle {
            regraft_ledger::set_sync_job_after_run(&**target, id, &status, false).await?;
        }
        Ok(taken)
    })
    .await
}

async fn take(
    target: &Session,
    job: SyncJob,
    (now, lease): (Timestamp, Duration),
    worker: &str,
    run_type: &'static str,
) -> Result<Taken> {
    let next = next_of(&job, now)?;
    let lease = SyncLease {
        run_type,
        due_at: (run_type == "scheduled")
            .then_some(job.next_run_at)
            .flatten(),
        next_run_at: Some(next),
        worker,
        now,
        until: after(now, lease),
    };
    let (sync_run_id, epoch) =
        regraft_ledger::begin_sync_run(&**target, job.job_id, &lease).await?;
    Ok(Taken {
        job,
        sync_run_id,
        epoch,
        run_type,
    })
}

fn after(now: Timestamp, time: Duration) -> Timestamp {
    SignedDuration::try_from(time)
        .ok()
        .and_then(|time| now.checked_add(time).ok())
        .unwrap_or(Timestamp::MAX)
}

/// A run of the ledger that has begun: its id, and the server process that holds its lock.
pub(crate) type Begun = (String, i32);

/// Prolongs a lease for as long as it is polled; ends when the lease is lost: it is another's by now,
/// the job is gone, or the ledger could not be reached for half of its time. `asked` is cancelled when
/// somebody wants the run to stop. What comes through `begun` is noted.
pub(crate) async fn hold(
    context: &Context,
    lease: (Uuid, i64),
    time: Duration,
    asked: &CancellationToken,
    mut begun: UnboundedReceiver<Begun>,
) {
    let mut session: Option<Session> = None;
    let mut noted: Option<Begun> = None;
    let mut prolonged = Instant::now();
    loop {
        tokio::select! {
            () = sleep(time / 4) => {}
            Some(run) = begun.recv() => noted = Some(run),
        }
        match prolong(context, &mut session, lease, time, &mut noted).await {
            Ok(Some(is_asked)) => {
                prolonged = Instant::now();
                if is_asked {
                    asked.cancel();
                }
            }
            Ok(None) => return,
            // Others take the job for abandoned when the lease has run out: be gone by then.
            Err(_) if prolonged.elapsed() * 2 >= time => return,
            Err(_) => session = None,
        }
    }
}

async fn prolong(
    context: &Context,
    session: &mut Option<Session>,
    lease: (Uuid, i64),
    time: Duration,
    noted: &mut Option<Begun>,
) -> Result<Option<bool>> {
    let work = async {
        let target = match session.take() {
            Some(target) if !target.is_closed() => target,
            _ => context.connect_target().await?,
        };
        let until = after(clock(&target).await?, time);
        let asked = regraft_ledger::prolong_sync_lease(&*target, lease, until).await?;
        if let Some((run_id, backend)) = noted.as_ref() {
            regraft_ledger::note_sync_run(&*target, lease, run_id, *backend).await?;
        }
        *session = Some(target);
        Ok(asked)
    };
    let done = match timeout(time / 4, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(Kind::Unreachable, "the ledger doesn't answer")),
    };
    if done.is_ok() {
        *noted = None;
    }
    done
}
