//! The service: whatever is due is run, by this process or by another one like it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use regraft_engine::{Context, Event, JobEnd, Result, filled_tables};
use regraft_ledger::SyncJob;
use regraft_pg::Session;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use uuid::Uuid;

use crate::jobs::{clock, ledger};
use crate::lease::{Taken, take_due};
use crate::notify::{Notifier, NotifyOptions};
use crate::retention::Retention;
use crate::work::{GONE, RunOptions, rows_of, run};

/// The most jobs that one service has at work at a time.
pub const MOST_JOBS: usize = 8;

/// Bytes that the keys of a parent may take in the memory of a run at least, however many runs share it.
const LEAST_KEY_MEMORY: usize = 4 << 20;

/// How the service works.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// How its runs are run.
    pub run: RunOptions,
    /// The longest that it waits before it looks for what is due.
    pub poll: Duration,
    /// Jobs that it has at work at a time, 1 to [`MOST_JOBS`].
    pub jobs: usize,
    /// Whom it tells of runs that need somebody.
    pub notify: NotifyOptions,
    /// After how many days records of what is over are removed from the ledger; `None` for never.
    pub ledger_days: Option<f64>,
}

/// Runs due jobs until the context is cancelled; then the runs at work go on to their next checkpoint,
/// and their jobs stay due. Jobs that fill the same table go one after the other. Two services on one
/// ledger share the jobs.
///
/// A server that can't be reached is tried again, however long it takes.
///
/// # Errors
/// What can't pass by itself, when it begins: the databases or the ledger can't be used.
pub async fn serve(context: &Context, options: &ServiceOptions) -> Result<()> {
    let mut service = Service {
        context,
        options,
        session: Some(ledger(context).await?),
        at_work: JoinSet::new(),
        busy: Vec::new(),
        notifier: Notifier::new(context, &options.notify),
        retention: Retention::new(options.ledger_days),
    };
    while !context.cancel.is_cancelled() {
        let wait = match service.turn().await {
            Ok(wait) => wait,
            Err(error) => {
                note(context, format!("{}; it is tried again", error.message()));
                service.session = None;
                options.poll
            }
        };
        let ended = tokio::select! {
            () = context.cancel.cancelled() => None,
            () = sleep(wait) => None,
            Some(ended) = service.at_work.join_next() => Some(ended.ok()),
        };
        if let Some(ended) = ended {
            service.ended(ended).await;
        }
    }
    while let Some(ended) = service.at_work.join_next().await {
        service.ended(ended.ok()).await;
    }
    service.notifier.finish().await;
    Ok(())
}

/// A job at work, and the tables that it fills.
struct Busy {
    job_id: Uuid,
    tables: BTreeSet<String>,
}

struct Service<'a> {
    context: &'a Context,
    options: &'a ServiceOptions,
    session: Option<Session>,
    /// Runs at work; each gives the id of its job.
    at_work: JoinSet<Uuid>,
    busy: Vec<Busy>,
    notifier: Notifier<'a>,
    retention: Retention,
}

impl Service<'_> {
    /// Takes what has been due for longest, if there is room for it; how long to wait before the next
    /// turn.
    async fn turn(&mut self) -> Result<Duration> {
        let target = self.usable().await?;
        let (context, run) = (self.context, &self.options.run);
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
        // It has the target to itself: runs at work here come to their end first.
        if self.at_work.is_empty() {
            self.retention.turn(context).await;
        }
        let mut wait = self.options.poll;
        if self.at_work.len() < self.options.jobs.clamp(1, MOST_JOBS) {
            let passed_over = self.passed_over(&target).await?;
            let taken = take_due(&target, now, &run.worker, run.lease, &passed_over).await?;
            wait = match taken {
                Some(taken) => {
                    self.begin(taken);
                    Duration::ZERO
                }
                None => until_due(&target, now, self.options.poll, &passed_over).await?,
            };
        }
        self.session = Some(target);
        Ok(wait)
    }

    /// The connection, or another one where it has ended.
    async fn usable(&mut self) -> Result<Session> {
        match self.session.take() {
            Some(session) if !session.is_closed() => Ok(session),
            _ => ledger(self.context).await,
        }
    }

    fn tables(&self, job: &SyncJob) -> BTreeSet<String> {
        let project = &self.context.project;
        // What the project doesn't have, the run will say.
        let Ok(selection) = project.select(&job.entities, false) else {
            return BTreeSet::new();
        };
        let steps = selection.entities().iter();
        let names: Vec<String> = steps.map(|step| step.entity.clone()).collect();
        filled_tables(project, &names)
    }

    /// Jobs that fill a table which one at work here fills: a run of them would only wait.
    async fn passed_over(&self, target: &Session) -> Result<Vec<Uuid>> {
        if self.busy.is_empty() {
            return Ok(Vec::new());
        }
        let scheduled = regraft_ledger::sync_jobs(&**target, Some("scheduled")).await?;
        let meets = |job: &&SyncJob| {
            let tables = self.tables(job);
            let mut busy = self.busy.iter();
            busy.any(|busy| !busy.tables.is_disjoint(&tables))
        };
        Ok(scheduled.iter().filter(meets).map(|j| j.job_id).collect())
    }

    /// Begins the run of a job, on a thread of its own: comparing rows leaves no room for others on it.
    fn begin(&mut self, taken: Taken) {
        let job_id = taken.job.job_id;
        let tables = self.tables(&taken.job);
        self.busy.push(Busy { job_id, tables });
        let (mut context, options) = (self.context.clone(), self.options.run.clone());
        let share = context.settings.key_memory / self.options.jobs.max(1);
        context.settings.key_memory = share.max(LEAST_KEY_MEMORY);
        let runtime = Handle::current();
        self.at_work.spawn(async move {
            let work = move || runtime.block_on(carry_out(&context, &taken, &options));
            // One that has panicked has told so; its lease runs out.
            let _ = spawn_blocking(work).await;
            job_id
        });
    }

    /// Tells what came of a run that has ended.
    async fn ended(&mut self, job_id: Option<Uuid>) {
        let Some(job_id) = job_id else { return };
        self.busy.retain(|busy| busy.job_id != job_id);
        if let Err(error) = self.tell(job_id).await {
            note(self.context, error.message().to_owned());
        }
    }

    async fn tell(&mut self, job_id: Uuid) -> Result<()> {
        // The run may have taken hours.
        let target = self.usable().await?;
        let runs = regraft_ledger::sync_runs(&*target, Some(job_id), 3).await?;
        self.notifier.tell(&runs);
        self.session = Some(target);
        Ok(())
    }
}

async fn until_due(
    target: &Session,
    now: Timestamp,
    poll: Duration,
    passed_over: &[Uuid],
) -> Result<Duration> {
    let next = regraft_ledger::next_sync_job_due(&**target, passed_over).await?;
    let wait = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    Ok(wait.unwrap_or(poll).clamp(Duration::from_millis(50), poll))
}

/// Runs a job, and tells what came of it.
async fn carry_out(context: &Context, taken: &Taken, options: &RunOptions) {
    let name = &taken.job.name;
    note(context, format!("{name}: begins"));
    let text = match run(context, taken, options, true).await {
        Ok(Ok(outcome)) => {
            let [written, ..] = rows_of(&outcome);
            format!(
                "{name}: done, {written} rows written, {} to be decided on ({})",
                outcome.open, outcome.receipt.run_id
            )
        }
        Ok(Err(error)) => {
            return context.events.send(Event::JobFailed {
                job: name.clone(),
                error: Arc::new(error),
            });
        }
        Err(error) => format!(
            "{name}: what came of it is not recorded: {}",
            error.message()
        ),
    };
    note(context, text);
}

fn note(context: &Context, text: String) {
    context.events.send(Event::Note(text));
}
