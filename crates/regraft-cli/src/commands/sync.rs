//! `regraft sync`

use std::time::Duration;

use regraft_engine::{Context, Result};
use regraft_sync::jobs::{self, Decision, JobKey, JobRequest};
use regraft_sync::notify::NotifyOptions;
use regraft_sync::{RunOptions, run_now};

use super::service::notify_options;
use super::worker::process_name;

use crate::arguments::{
    CreateJobArguments, DeleteJobArguments, JobName, ListJobsArguments, RunJobArguments,
    SyncCommand, SyncRunsArguments,
};
use crate::contract::jobs as contract;
use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::{Invocation, Needs};
use crate::views::sync as view;

/// After so long without a sign of life a process that runs a job by hand is taken for gone.
const LEASE: Duration = Duration::from_secs(30);

/// How this process runs jobs.
pub(super) fn run_options(lease: Duration) -> RunOptions {
    RunOptions {
        lease,
        worker: process_name(),
    }
}

/// Runs a subcommand.
pub(super) async fn run(invocation: &Invocation, command: &SyncCommand) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let needs = match command {
        SyncCommand::RunJob(_) => Needs::Both,
        _ => Needs::Target,
    };
    let context = invocation.context(&opened, needs)?;
    match command {
        SyncCommand::CreateJob(arguments) => create(invocation, &context, arguments).await,
        SyncCommand::ListJobs(arguments) => list(invocation, &context, arguments).await,
        SyncCommand::JobStatus(job) => status(invocation, &context, job).await,
        SyncCommand::RunJob(arguments) => {
            let notify = notify_options(&opened.environment);
            run_job(invocation, &context, &notify, arguments).await
        }
        SyncCommand::PauseJob(job) => decide(invocation, &context, job, Decision::Pause).await,
        SyncCommand::ResumeJob(job) => decide(invocation, &context, job, Decision::Resume).await,
        SyncCommand::CancelJob(job) => decide(invocation, &context, job, Decision::Cancel).await,
        SyncCommand::DeleteJob(arguments) => delete(invocation, &context, arguments).await,
        SyncCommand::Runs(arguments) => runs(invocation, &context, arguments).await,
    }
}

async fn create(
    invocation: &Invocation,
    context: &Context,
    arguments: &CreateJobArguments,
) -> Result<ExitStatus> {
    let request = JobRequest {
        name: arguments.name.clone(),
        schedule: arguments.schedule.clone(),
        timezone: arguments.timezone.clone(),
        entities: arguments.entities.clone(),
        policy: arguments.conflict_resolution,
        deletes: arguments.deletes,
        max_records: arguments.max_records,
        time_limit: arguments.timeout,
    };
    let job = jobs::create(context, &request).await?;
    let printer = &invocation.printer;
    printer.report(&contract::Job::of(&job), |width| view::created(&job, width));
    let name = &job.job.name;
    printer.next_steps(&[
        (
            format!("regraft sync run-job --name {name:?} --manual"),
            "try it now",
        ),
        (
            "regraft service start".to_owned(),
            "run jobs when they are due",
        ),
    ]);
    Ok(ExitStatus::Done)
}

async fn list(
    invocation: &Invocation,
    context: &Context,
    arguments: &ListJobsArguments,
) -> Result<ExitStatus> {
    let status = arguments.status.map(|status| status.as_str());
    let jobs = jobs::list(context, status).await?;
    let document: Vec<_> = jobs.iter().map(contract::Job::of).collect();
    invocation
        .printer
        .report(&document, |width| view::jobs(&jobs, status, width));
    Ok(ExitStatus::Done)
}

async fn status(invocation: &Invocation, context: &Context, job: &JobName) -> Result<ExitStatus> {
    let status = jobs::status(context, job.key()).await?;
    let now = jiff::Timestamp::now();
    invocation
        .printer
        .report(&contract::Status::of(&status), |width| {
            view::status(&status, now, width)
        });
    Ok(ExitStatus::Done)
}

async fn run_job(
    invocation: &Invocation,
    context: &Context,
    notify: &NotifyOptions,
    arguments: &RunJobArguments,
) -> Result<ExitStatus> {
    let how = (&run_options(LEASE), notify);
    let (run, outcome) = run_now(context, arguments.job.key(), how, arguments.force).await?;
    let printer = &invocation.printer;
    printer.report(&contract::Run::of(&run), |width| {
        view::run(&run, &outcome, width)
    });
    if outcome.open > 0 {
        printer.next_steps(&[(
            "regraft conflicts list".to_owned(),
            "the rows that somebody has to decide on",
        )]);
    }
    Ok(if outcome.open > 0 || !outcome.within_budget {
        ExitStatus::Findings
    } else {
        ExitStatus::Done
    })
}

async fn decide(
    invocation: &Invocation,
    context: &Context,
    job: &JobName,
    decision: Decision,
) -> Result<ExitStatus> {
    let job = jobs::decide(context, job.key(), decision).await?;
    invocation
        .printer
        .report(&contract::Job::of(&job), |width| {
            view::decided(&job, decision, width)
        });
    Ok(ExitStatus::Done)
}

async fn delete(
    invocation: &Invocation,
    context: &Context,
    arguments: &DeleteJobArguments,
) -> Result<ExitStatus> {
    if !arguments.force && !arguments.yes {
        let status = jobs::status(context, arguments.job.key()).await?;
        let name = &status.view.job.name;
        let question = format!(
            "Delete job {name:?} with the history of {}?",
            figures::counted(status.summary.runs, "run")
        );
        let printer = &invocation.printer;
        printer.confirm(&question, "a job goes with its history", "the job was kept")?;
    }
    let force = arguments.force;
    decide(
        invocation,
        context,
        &arguments.job,
        Decision::Delete { force },
    )
    .await
}

async fn runs(
    invocation: &Invocation,
    context: &Context,
    arguments: &SyncRunsArguments,
) -> Result<ExitStatus> {
    let key = match (&arguments.name, arguments.job_id) {
        (_, Some(id)) => Some(JobKey::Id(id)),
        (Some(name), None) => Some(JobKey::Name(name)),
        (None, None) => None,
    };
    let runs = jobs::runs(context, key, arguments.limit).await?;
    let document: Vec<_> = runs.iter().map(contract::Run::of).collect();
    let now = jiff::Timestamp::now();
    invocation
        .printer
        .report(&document, |width| view::runs(&runs, now, width));
    Ok(ExitStatus::Done)
}
