//! Creating jobs, looking at them, and deciding what becomes of them.

use std::time::Duration;

use jiff::Timestamp;
use regraft_engine::{Context, DifferentialOptions, Error, Kind, Result, check_differential};
use regraft_ledger::{NewSyncJob, SyncJob, SyncRun, SyncSummary};
use regraft_pg::Session;
use regraft_project::{Deletes, Policy};
use serde::Serialize;
use uuid::Uuid;

use crate::schedule::Schedule;

/// How many times to come are told of a job.
const UPCOMING: usize = 5;

/// Which job is meant.
#[derive(Debug, Clone, Copy)]
pub enum JobKey<'a> {
    /// By its name.
    Name(&'a str),
    /// By its id.
    Id(Uuid),
}

/// A job to be created.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// Its name, 1 to 100 characters.
    pub name: String,
    /// When it is due, as [`Schedule::parse`] reads it.
    pub schedule: String,
    /// The time zone of the schedule.
    pub timezone: String,
    /// Entities or groups that it carries over.
    pub entities: Vec<String>,
    /// Who wins where both sides have changed; `None` for what the project says.
    pub policy: Option<Policy>,
    /// What becomes of rows that the source has no more; `None` for what the project says.
    pub deletes: Option<Deletes>,
    /// Rows per batch, 1,000 to 100,000.
    pub max_records: u32,
    /// How long a run may take.
    pub time_limit: Duration,
}

/// A job with what its schedule means.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    /// The job.
    #[serde(flatten)]
    pub job: SyncJob,
    /// Its schedule in words.
    pub schedule_in_words: String,
    /// The next times it is due, in its time zone; empty while it is paused or cancelled.
    pub upcoming: Vec<String>,
}

/// A job with what has come of it.
#[derive(Debug, Clone, Serialize)]
pub struct JobStatus {
    /// The job.
    #[serde(flatten)]
    pub view: JobView,
    /// Its runs in figures.
    pub summary: SyncSummary,
    /// Its latest runs, the last first.
    pub recent_runs: Vec<SyncRun>,
}

/// A connection to the ledger, which is created or brought up to date.
pub(crate) async fn ledger(context: &Context) -> Result<Session> {
    let target = context.connect_target().await?;
    in_transaction(&target, async || {
        Ok(regraft_ledger::install(&*target).await?)
    })
    .await?;
    // A process that is frozen while it takes a job must not keep it from others.
    target
        .batch_execute("set idle_in_transaction_session_timeout = '10s'")
        .await?;
    Ok(target)
}

/// Does `work` in a transaction, which is committed when it succeeds.
pub(crate) async fn in_transaction<T>(
    target: &Session,
    work: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    target.batch_execute("begin").await?;
    let done = work().await;
    if !target.is_closed() {
        let end = if done.is_ok() { "commit" } else { "rollback" };
        target.batch_execute(end).await?;
    }
    done
}

/// The time of the database.
pub(crate) async fn clock(target: &Session) -> Result<Timestamp> {
    let row = target.query_one("select clock_timestamp()", &[]).await?;
    Ok(row.get(0))
}

/// The schedule of a job.
///
/// # Errors
/// A schedule that this program can't read.
pub(crate) fn schedule_of(job: &SyncJob) -> Result<Schedule> {
    Schedule::parse(&job.schedule, &job.timezone).map_err(|error| {
        Error::new(
            Kind::Usage,
            format!("the schedule of job {:?} can't be used: {error}", job.name),
        )
        .hint("delete the job and create it anew")
    })
}

/// When a job is due after now.
pub(crate) fn next_of(job: &SyncJob, now: Timestamp) -> Result<Timestamp> {
    let schedule = schedule_of(job)?;
    schedule.next_after(job.created_at, now).map_err(unusable)
}

/// A job that this program can't run is told of all the same, with what is wrong with it.
fn view(job: SyncJob) -> JobView {
    let (words, upcoming) = match schedule_of(&job) {
        Ok(schedule) => (schedule.in_words(), upcoming(&job, &schedule)),
        Err(error) => (error.message().to_owned(), Vec::new()),
    };
    JobView {
        schedule_in_words: words,
        upcoming,
        job,
    }
}

fn upcoming(job: &SyncJob, schedule: &Schedule) -> Vec<String> {
    let Some(next) = job.next_run_at else {
        return Vec::new();
    };
    let mut times = vec![next.to_zoned(schedule.time_zone())];
    let more = schedule.upcoming(job.created_at, next, UPCOMING - 1);
    times.extend(more.unwrap_or_default());
    times
        .iter()
        .map(|time| time.strftime("%a %Y-%m-%d %H:%M %Z").to_string())
        .collect()
}

fn unusable(error: crate::schedule::ScheduleError) -> Error {
    Error::new(Kind::Usage, error.to_string())
}

/// Creates a job.
///
/// # Errors
/// [`Kind::Usage`] for a name that is taken or too long, a schedule or time zone that is none,
/// entities that the project doesn't have, a policy that it doesn't say enough for.
pub async fn create(context: &Context, request: &JobRequest) -> Result<JobView> {
    let length = request.name.chars().count();
    if request.name.trim().is_empty() || length > 100 {
        return Err(Error::new(
            Kind::Usage,
            "a job's name has 1 to 100 characters",
        ));
    }
    let schedule = Schedule::parse(&request.schedule, &request.timezone).map_err(unusable)?;
    let selection = context
        .project
        .select(&request.entities, false)
        .map_err(|error| Error::new(Kind::Usage, error.to_string()))?;
    let options = DifferentialOptions {
        policy: request.policy,
        deletes: request.deletes,
        ..DifferentialOptions::default()
    };
    check_differential(&context.project, &selection, &options)?;
    let target = ledger(context).await?;
    let now = clock(&target).await?;
    let next = schedule.next_after(now, now).map_err(unusable)?;
    let new = NewSyncJob {
        name: &request.name,
        schedule: request.schedule.trim(),
        timezone: &request.timezone,
        entities: &request.entities,
        conflict_resolution: request.policy.map(Policy::as_str),
        deletes: request.deletes.map(Deletes::as_str),
        max_records: i32::try_from(request.max_records).unwrap_or(i32::MAX),
        time_limit: i64::try_from(request.time_limit.as_secs()).unwrap_or(i64::MAX),
    };
    match regraft_ledger::create_sync_job(&*target, &new, now, next).await? {
        Some(job) => Ok(view(job)),
        None => Err(Error::new(
            Kind::Usage,
            format!("there is a job named {:?} already", request.name),
        )
        .hint("choose another name, or see `regraft sync list-jobs`")),
    }
}

/// All jobs, or those with a status, by name.
///
/// # Errors
/// A server that can't be reached.
pub async fn list(context: &Context, status: Option<&str>) -> Result<Vec<JobView>> {
    let target = ledger(context).await?;
    let jobs = regraft_ledger::sync_jobs(&*target, status).await?;
    Ok(jobs.into_iter().map(view).collect())
}

/// How a job stands, with its latest runs.
///
/// # Errors
/// [`Kind::Usage`] for a job that isn't there.
pub async fn status(context: &Context, key: JobKey<'_>) -> Result<JobStatus> {
    let target = ledger(context).await?;
    let job = find(&target, key, false).await?;
    let summary = regraft_ledger::sync_summary(&*target, job.job_id).await?;
    let recent_runs = regraft_ledger::sync_runs(&*target, Some(job.job_id), 10).await?;
    Ok(JobStatus {
        view: view(job),
        summary,
        recent_runs,
    })
}

/// The latest runs, of one job or of all, the last begun first.
///
/// # Errors
/// [`Kind::Usage`] for a job that isn't there.
pub async fn runs(context: &Context, key: Option<JobKey<'_>>, most: i64) -> Result<Vec<SyncRun>> {
    let target = ledger(context).await?;
    let job = match key {
        Some(key) => Some(find(&target, key, false).await?.job_id),
        None => None,
    };
    Ok(regraft_ledger::sync_runs(&*target, job, most).await?)
}

/// The job; with `lock` it is locked until the caller's transaction ends.
pub(crate) async fn find(target: &Session, key: JobKey<'_>, lock: bool) -> Result<SyncJob> {
    let (name, id) = match key {
        JobKey::Name(name) => (Some(name), None),
        JobKey::Id(id) => (None, Some(id)),
    };
    let job = regraft_ledger::sync_job(&**target, name, id, lock).await?;
    job.ok_or_else(|| {
        let which = match key {
            JobKey::Name(name) => format!("named {name:?}"),
            JobKey::Id(id) => format!("with the id {id}"),
        };
        Error::new(Kind::Usage, format!("there is no job {which}"))
            .hint("see `regraft sync list-jobs`")
    })
}

/// What is to become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is not due until it is resumed. A run at work ends first.
    Pause,
    /// It is due again by its schedule.
    Resume,
    /// It is not due any more, and a run at work stops at its next checkpoint.
    Cancel,
    /// It goes, with its history; one with a run at work only by force, which stops that run too.
    Delete {
        /// Although a run is at work.
        force: bool,
    },
}

/// Carries a decision out; the job as it is then, or was.
///
/// # Errors
/// [`Kind::Usage`] for a job that isn't there, or isn't in a state for it.
pub async fn decide(context: &Context, key: JobKey<'_>, decision: Decision) -> Result<JobView> {
    let target = ledger(context).await?;
    let before = in_transaction(&target, async || carry_out(&target, key, decision).await).await?;
    match decision {
        Decision::Delete { .. } => Ok(view(before)),
        _ => Ok(view(find(&target, JobKey::Id(before.job_id), false).await?)),
    }
}

async fn carry_out(target: &Session, key: JobKey<'_>, decision: Decision) -> Result<SyncJob> {
    let job = find(target, key, true).await?;
    let (id, running) = (job.job_id, job.status == "running");
    let refuse = |why: &str, hint: &str| {
        Err(Error::new(Kind::Usage, format!("job {:?} {why}", job.name)).hint(hint))
    };
    match decision {
        Decision::Pause | Decision::Cancel => {
            let status = match decision {
                Decision::Pause => "paused",
                _ => "cancelled",
            };
            if running {
                let stop = decision == Decision::Cancel;
                regraft_ledger::set_sync_job_after_run(&**target, id, status, stop).await?;
            } else {
                regraft_ledger::set_sync_job(&**target, id, status, None).await?;
            }
        }
        Decision::Resume if running => {
            regraft_ledger::set_sync_job_after_run(&**target, id, "scheduled", false).await?;
        }
        Decision::Resume if job.status == "scheduled" => {
            return refuse(
                "is scheduled: there is nothing to resume",
                "see `regraft sync job-status`",
            );
        }
        Decision::Resume => {
            let next = next_of(&job, clock(target).await?)?;
            regraft_ledger::set_sync_job(&**target, id, "scheduled", Some(next)).await?;
        }
        Decision::Delete { force: false } if running => {
            return refuse(
                "has a run at work",
                "wait for it, or add --force, which stops the run at its next checkpoint",
            );
        }
        Decision::Delete { .. } => regraft_ledger::delete_sync_job(&**target, id).await?,
    }
    Ok(job)
}
