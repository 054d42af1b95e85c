//! `sync` and `service`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use regraft_project::{Deletes, Policy};
use regraft_sync::MOST_JOBS;
use regraft_sync::jobs::JobKey;
use uuid::Uuid;

use super::values::{jobs, limit, per_batch, seconds, time_limit, uuid};
use super::{BudgetArguments, deletes, policy};

/// The subcommands of `sync`.
#[derive(Debug, Subcommand)]
pub(crate) enum SyncCommand {
    /// Create a job that carries changes over by a schedule
    CreateJob(CreateJobArguments),
    /// List jobs
    ListJobs(ListJobsArguments),
    /// Tell how a job stands, when it is due, and what has come of its runs
    JobStatus(JobName),
    /// Run a job now
    RunJob(RunJobArguments),
    /// Keep a job from being due until it is resumed; a run at work ends first
    PauseJob(JobName),
    /// Let a job be due again by its schedule
    ResumeJob(JobName),
    /// End a job, and stop its run at the next checkpoint; resume-job brings it back
    CancelJob(JobName),
    /// Delete a job with the history of its runs
    DeleteJob(DeleteJobArguments),
    /// List runs of jobs, latest first
    Runs(SyncRunsArguments),
}

/// The subcommands of `service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Run jobs when they are due, until it is told to stop (Ctrl-C, SIGTERM)
    Start(ServiceStartArguments),
}

/// Which job is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct JobName {
    /// The job with this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The job with this id
    #[arg(long, value_name = "ID", value_parser = uuid)]
    pub(crate) job_id: Option<Uuid>,
}

impl JobName {
    /// As the jobs are looked up.
    pub(crate) fn key(&self) -> JobKey<'_> {
        match (&self.name, self.job_id) {
            (_, Some(id)) => JobKey::Id(id),
            (name, None) => JobKey::Name(name.as_deref().unwrap_or_default()),
        }
    }
}

/// Arguments of `sync create-job`.
#[derive(Debug, Args)]
pub(crate) struct CreateJobArguments {
    /// Its name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// When it is due: hourly, daily, weekly, an interval (30m, 2h, 1d, 1w), or a cron expression
    ///
    /// `hourly`, `daily` and `weekly` mean the start of each hour, day and Monday. An interval has 1
    /// to 60 minutes, 1 to 24 hours, 1 to 365 days or 1 to 52 weeks, counted from the job's
    /// creation; days and weeks keep the time of day over changes of the clock. A cron expression
    /// has five fields: minute, hour, day of month, month, day of week ("30 2 * * MON-FRI").
    #[arg(long, value_name = "SCHEDULE")]
    pub(crate) schedule: String,
    /// Entities or groups that it carries over, as a list with commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    pub(crate) entities: Vec<String>,
    /// Who wins where both sides have changed: source_wins, target_wins, newest or manual
    ///
    /// Default: what the entities' files say, or else manual.
    #[arg(long, value_name = "POLICY", value_parser = policy())]
    pub(crate) conflict_resolution: Option<Policy>,
    /// What becomes of rows that the source has no more: mirror, soft or ignore
    #[arg(long, value_name = "MODE", value_parser = deletes())]
    pub(crate) deletes: Option<Deletes>,
    /// Rows per batch, 1,000 to 100,000
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = per_batch)]
    pub(crate) max_records: u32,
    /// The time zone that its schedule goes by
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) timezone: String,
    /// How long a run may take before it is stopped at a checkpoint, where the next one goes on
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = time_limit)]
    pub(crate) timeout: Duration,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum JobState {
    Scheduled,
    Running,
    Paused,
    Cancelled,
}

impl JobState {
    /// As it is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Arguments of `sync list-jobs`.
#[derive(Debug, Args)]
pub(crate) struct ListJobsArguments {
    /// Only those that stand like this
    #[arg(long, value_enum, value_name = "STATUS")]
    pub(crate) status: Option<JobState>,
}

/// Arguments of `sync run-job`.
#[derive(Debug, Args)]
pub(crate) struct RunJobArguments {
    #[command(flatten)]
    pub(crate) job: JobName,
    /// Say that it is run by hand, as every run of this command is
    #[arg(long)]
    pub(crate) manual: bool,
    /// Although it is paused or cancelled, which it stays
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `sync delete-job`.
#[derive(Debug, Args)]
pub(crate) struct DeleteJobArguments {
    #[command(flatten)]
    pub(crate) job: JobName,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Don't ask, and stop a run at work
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `sync runs`.
#[derive(Debug, Args)]
#[group(multiple = true)]
pub(crate) struct SyncRunsArguments {
    /// Only runs of the job with this name
    #[arg(long, value_name = "NAME", conflicts_with = "job_id")]
    pub(crate) name: Option<String>,
    /// Only runs of the job with this id
    #[arg(long, value_name = "ID", value_parser = uuid)]
    pub(crate) job_id: Option<Uuid>,
    /// How many to list
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = limit)]
    pub(crate) limit: i64,
}

/// Arguments of `service start`.
#[derive(Debug, Args)]
pub(crate) struct ServiceStartArguments {
    /// Run up to so many jobs at once, 1 to 8; those that fill the same tables go one after the other
    #[arg(long, value_name = "N", default_value_t = MOST_JOBS, value_parser = jobs)]
    pub(crate) jobs: usize,
    /// Look for due jobs at least every so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = seconds)]
    pub(crate) poll: u64,
    /// After so many seconds without a sign of life a process is taken for gone, and its job is due
    /// again
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds)]
    pub(crate) lease: u64,
    /// Serve metrics for Prometheus at this address, under /metrics, and /healthz: HOST:PORT, or a
    /// port alone, which is then only reached from this machine
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<String>,
    #[command(flatten)]
    pub(crate) budget: BudgetArguments,
}
