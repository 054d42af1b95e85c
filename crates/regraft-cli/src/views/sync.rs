//! Jobs and their runs.

use jiff::Timestamp;
use regraft_engine::{DifferentialOutcome, RecordedPace};
use regraft_ledger::SyncRun;
use regraft_sync::jobs::{Decision, JobStatus, JobView};

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};

/// A job that was created.
pub(crate) fn created(view: &JobView, width: usize) -> String {
    let job = &view.job;
    let mut lines = vec![
        format!(
            "{} job {} created: {}",
            paint(style::GOOD, "✓"),
            paint(style::HEADING, &job.name),
            figures::list(&job.entities)
        ),
        format!("id {}", job.job_id),
    ];
    lines.extend(when(view));
    wrapped(&lines, width)
}

/// When a job is due, in words and in times.
fn when(view: &JobView) -> Vec<String> {
    let mut lines = vec![format!(
        "due {}, by the clock of {}",
        view.schedule_in_words, view.job.timezone
    )];
    if !view.upcoming.is_empty() {
        lines.push(format!("next: {}", view.upcoming.join(", ")));
    }
    lines
}

fn wrapped(lines: &[String], width: usize) -> String {
    let wrapped = lines.iter().map(|line| figures::wrap(line, width, 2));
    wrapped.collect::<Vec<_>>().join("\n")
}

/// Jobs, by name.
pub(crate) fn jobs(jobs: &[JobView], status: Option<&str>, width: usize) -> String {
    if jobs.is_empty() {
        return match status {
            Some(status) => format!("no job is {status}"),
            None => "there are no jobs: `regraft sync create-job` creates one".to_owned(),
        };
    }
    let mut table = Table::new()
        .text("job")
        .text("status")
        .text("schedule")
        .text("next run")
        .text("entities");
    for view in jobs {
        let job = &view.job;
        table.row(vec![
            text(&job.name),
            (job.status.clone(), tone(&job.status)),
            text(&view.schedule_in_words),
            text(view.upcoming.first().cloned().unwrap_or_default()),
            text(figures::some(&job.entities, 4)),
        ]);
    }
    table.render(width, 0)
}

fn tone(status: &str) -> Tone {
    match status {
        "completed" => Tone::Good,
        "failed" => Tone::Bad,
        "cancelled" | "paused" => Tone::Caution,
        _ => Tone::Plain,
    }
}

/// A job with its latest runs.
pub(crate) fn status(status: &JobStatus, now: Timestamp, width: usize) -> String {
    let (view, job, summary) = (&status.view, &status.view.job, &status.summary);
    let mut lines = vec![
        format!("{}: {}", paint(style::HEADING, &job.name), job.status),
        format!("id {}", job.job_id),
        format!("carries over {}", figures::list(&job.entities)),
    ];
    if let (Some(worker), Some(until)) = (&job.leased_by, job.leased_until) {
        let alive = match until >= now {
            true => "alive",
            false => "not heard of any more: its job will be due again",
        };
        lines.push(format!("run by {worker}, {alive}"));
    }
    lines.extend(when(view));
    if let (Some(rate), Some(average)) = (summary.success_rate, summary.average_duration_ms) {
        lines.push(format!(
            "{} rows carried over in {}, {rate:.0} % of them completed, {} on average",
            figures::count(summary.records_synced),
            figures::counted(summary.runs, "run"),
            figures::duration(average / 1e3)
        ));
    }
    let mut out = wrapped(&lines, width);
    out.push_str("\n\n");
    out.push_str(&runs(&status.recent_runs, now, width));
    out
}

/// Runs of jobs, latest first.
pub(crate) fn runs(runs: &[SyncRun], now: Timestamp, width: usize) -> String {
    if runs.is_empty() {
        return "it has not run yet".to_owned();
    }
    let mut table = Table::new()
        .text("job")
        .text("status")
        .text("by")
        .text("started")
        .number("time")
        .number("rows")
        .number("left behind")
        .number("to decide")
        .text("run");
    for run in runs {
        let seconds = run
            .completed_at
            .map(|end| end.duration_since(run.started_at).as_secs_f64());
        table.row(vec![
            text(&run.job_name),
            (run.status.clone(), tone(&run.status)),
            text(match run.run_type.as_str() {
                "manual" => "hand",
                "retry" => "retry",
                _ => "schedule",
            }),
            text(figures::ago(&run.started_at.to_string(), now)),
            text(seconds.map(figures::duration).unwrap_or_default()),
            count(run.records_synced),
            worry(run.records_failed),
            worry(run.conflicts),
            text(run.run_id.clone().unwrap_or_default()),
        ]);
    }
    let mut out = table.render(width, 0);
    for run in runs.iter().filter(|run| run.status == "running") {
        let pace = run
            .pace
            .clone()
            .and_then(|pace| serde_json::from_value(pace).ok());
        if let Some(pace) = pace.and_then(|pace: RecordedPace| pace.held_back()) {
            out.push('\n');
            let line = format!("{} is held back: {pace}", run.job_name);
            out.push_str(&figures::wrap(&line, width, 2));
        }
    }
    for run in runs {
        if let Some(error) = &run.error_summary {
            let line = format!(
                "{} {}: {error}",
                run.job_name,
                figures::ago(&run.started_at.to_string(), now)
            );
            out.push('\n');
            out.push_str(&figures::wrap(&line, width, 2));
        }
    }
    out
}

/// A run that somebody has started.
pub(crate) fn run(run: &SyncRun, outcome: &DifferentialOutcome, width: usize) -> String {
    let mut out = format!(
        "job {}, run {}\n",
        paint(style::HEADING, &run.job_name),
        run.sync_run_id
    );
    out.push_str(&super::differential::outcome(outcome, width));
    out
}

/// What became of a job.
pub(crate) fn decided(view: &JobView, decision: Decision, width: usize) -> String {
    let (job, name) = (&view.job, paint(style::HEADING, &view.job.name));
    let running = job.status == "running";
    let mut lines = vec![match decision {
        Decision::Pause if running => format!("{name} will be paused when its run has ended"),
        Decision::Pause => format!("{name} is paused: `regraft sync resume-job` puts it back"),
        Decision::Resume => format!("{name} is scheduled"),
        Decision::Cancel if running => {
            format!("{name} is cancelled: its run stops at the next checkpoint")
        }
        Decision::Cancel => format!("{name} is cancelled"),
        Decision::Delete { .. } if running => {
            format!("{name} is deleted: its run stops at the next checkpoint")
        }
        Decision::Delete { .. } => format!("{name} is deleted, with its history"),
    }];
    if decision == Decision::Resume {
        lines.extend(when(view));
    }
    wrapped(&lines, width)
}
