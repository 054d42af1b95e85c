//! The documents of jobs and their runs, with the names that the contract of the old programs has.

use jiff::Timestamp;
use regraft_ledger::SyncRun;
use regraft_sync::jobs::{JobStatus, JobView};
use serde::Serialize;
use uuid::Uuid;

/// A job.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job<'a> {
    job_id: Uuid,
    job_name: &'a str,
    status: &'a str,
    schedule: &'a str,
    schedule_in_words: &'a str,
    timezone: &'a str,
    entities: &'a [String],
    conflict_resolution: Option<&'a str>,
    deletes: Option<&'a str>,
    max_records: i32,
    time_limit_seconds: i64,
    next_run_at: Option<Timestamp>,
    upcoming: &'a [String],
    last_run_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl<'a> Job<'a> {
    /// With the contract's names.
    pub(crate) fn of(view: &'a JobView) -> Self {
        let job = &view.job;
        Self {
            job_id: job.job_id,
            job_name: &job.name,
            status: &job.status,
            schedule: &job.schedule,
            schedule_in_words: &view.schedule_in_words,
            timezone: &job.timezone,
            entities: &job.entities,
            conflict_resolution: job.conflict_resolution.as_deref(),
            deletes: job.deletes.as_deref(),
            max_records: job.max_records,
            time_limit_seconds: job.time_limit,
            next_run_at: job.next_run_at,
            upcoming: &view.upcoming,
            last_run_at: job.last_run_at,
            created_at: job.created_at,
        }
    }
}

/// A job with what has come of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status<'a> {
    #[serde(flatten)]
    job: Job<'a>,
    total_records_synced: i64,
    runs: i64,
    /// In percent.
    success_rate: Option<f64>,
    /// In milliseconds.
    average_duration: Option<f64>,
    recent_runs: Vec<Run<'a>>,
}

impl<'a> Status<'a> {
    /// With the contract's names.
    pub(crate) fn of(status: &'a JobStatus) -> Self {
        let summary = &status.summary;
        Self {
            job: Job::of(&status.view),
            total_records_synced: summary.records_synced,
            runs: summary.runs,
            success_rate: summary.success_rate,
            average_duration: summary.average_duration_ms,
            recent_runs: status.recent_runs.iter().map(Run::of).collect(),
        }
    }
}

/// A run of a job.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run<'a> {
    run_id: Uuid,
    job_id: Uuid,
    job_name: &'a str,
    run_type: &'a str,
    status: &'a str,
    due_at: Option<Timestamp>,
    started_at: Timestamp,
    completed_at: Option<Timestamp>,
    records_synced: i64,
    records_failed: i64,
    conflicts: i64,
    error: Option<&'a str>,
    /// Its run in the ledger, as `regraft receipt` takes it.
    operation_id: Option<&'a str>,
    performance: &'a serde_json::Value,
    worker: &'a str,
    /// How its rate has changed, where it was held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pace: Option<&'a serde_json::Value>,
}

impl<'a> Run<'a> {
    /// With the contract's names.
    pub(crate) fn of(run: &'a SyncRun) -> Self {
        Self {
            run_id: run.sync_run_id,
            job_id: run.job_id,
            job_name: &run.job_name,
            run_type: &run.run_type,
            status: &run.status,
            due_at: run.due_at,
            started_at: run.started_at,
            completed_at: run.completed_at,
            records_synced: run.records_synced,
            records_failed: run.records_failed,
            conflicts: run.conflicts,
            error: run.error_summary.as_deref(),
            operation_id: run.run_id.as_deref(),
            performance: &run.performance_metrics,
            worker: &run.worker,
            pace: run.pace.as_ref(),
        }
    }
}
