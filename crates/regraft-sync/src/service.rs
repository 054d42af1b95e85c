//! The service: whatever is due is run, by this process or by another one like it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use regraft_engine::{Context, Event, JobEnd, Result};
use regraft_pg::Session;
use tokio::time::sleep;

use crate::jobs::{clock, ledger};
use crate::lease::{Taken, take_due};
use crate::notify::{Notifier, NotifyOptions};
use crate::retention::Retention;
use crate::work::{GONE, RunOptions, rows_of, run};

/// How the service works.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// How its runs are run.
    pub run: RunOptions,
    /// The longest that it waits before it looks for what is due.
    pub poll: Duration,
    /// Whom it tells of runs that need somebody.
    pub notify: NotifyOptions,
    /// After how many days records of what is over are removed from the ledger; `None` for never.
    pub ledger_days: Option<f64>,
}

/// Runs due jobs, one after the other, until the context is cancelled; then the run at work goes on
/// to its next checkpoint, and its job stays due. Two services on one ledger share the jobs.
///
/// A server that can't be reached is tried again, however long it takes.
///
/// # Errors
/// What can't pass by itself, when it begins: the databases or the ledger can't be used.
pub async fn serve(context: &Context, options: &ServiceOptions) -> Result<()> {
    let mut session = Some(ledger(context).await?);
    let mut notifier = Notifier::new(context, &options.notify);
    let mut retention = Retention::new(options.ledger_days);
    while !context.cancel.is_cancelled() {
        retention.turn(context).await;
        let wait = match turn(context, &mut session, options, &mut notifier).await {
            Ok(wait) => wait,
            Err(error) => {
                note(context, format!("{}; it is tried again", error.message()));
                session = None;
                options.poll
            }
        };
        tokio::select! {
            () = context.cancel.cancelled() => {}
            () = sleep(wait) => {}
        }
    }
    notifier.finish().await;
    Ok(())
}

/// Runs what has been due for longest; how long to wait before the next turn.
async fn turn(
    context: &Context,
    session: &mut Option<Session>,
    options: &ServiceOptions,
    notifier: &mut Notifier<'_>,
) -> Result<Duration> {
    let mut target = usable(context, session.take()).await?;
    let now = clock(&target).await?;
    for name in regraft_ledger::recover_sync_jobs(&*target, now, GONE).await? {
        note(context, format!("{name}: {GONE}; it is due again"));
        context.events.send(Event::JobEnded(JobEnd {
            job: name,
            run_type: "scheduled".to_owned(),
            outcome: "failed",
            seconds: None,
            written: 0,
            left_behind: 0,
            read: 0,
        }));
    }
    let taken = take_due(&target, now, &options.run.worker, options.run.lease).await?;
    let wait = match &taken {
        Some(_) => Duration::ZERO,
        None => until_due(&target, now, options.poll).await?,
    };
    if let Some(taken) = taken {
        carry_out(context, &taken, options).await?;
        // The run may have taken hours.
        target = usable(context, Some(target)).await?;
        let job = Some(taken.job.job_id);
        notifier.tell(&regraft_ledger::sync_runs(&*target, job, 3).await?);
    }
    *session = Some(target);
    Ok(wait)
}

/// The connection, or another one where it has ended.
async fn usable(context: &Context, session: Option<Session>) -> Result<Session> {
    match session {
        Some(session) if !session.is_closed() => Ok(session),
        _ => ledger(context).await,
    }
}

async fn until_due(target: &Session, now: Timestamp, poll: Duration) -> Result<Duration> {
    let next = regraft_ledger::next_sync_job_due(&**target).await?;
    let wait = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    Ok(wait.unwrap_or(poll).clamp(Duration::from_millis(50), poll))
}

async fn carry_out(context: &Context, taken: &Taken, options: &ServiceOptions) -> Result<()> {
    let name = &taken.job.name;
    note(context, format!("{name}: begins"));
    match run(context, taken, &options.run, true).await? {
        Ok(outcome) => {
            let [written, ..] = rows_of(&outcome);
            note(
                context,
                format!(
                    "{name}: done, {written} rows written, {} to be decided on ({})",
                    outcome.open, outcome.receipt.run_id
                ),
            );
        }
        Err(error) => context.events.send(Event::JobFailed {
            job: name.clone(),
            error: Arc::new(error),
        }),
    }
    Ok(())
}

fn note(context: &Context, text: String) {
    context.events.send(Event::Note(text));
}
