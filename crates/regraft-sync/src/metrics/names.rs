//! The names of the metrics and what they mean: the one place that says so. What is served and what
//! the reference documents both come from here.

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises; begins at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often a value was in which range.
    Histogram,
}

impl MetricKind {
    /// As the format names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name that it is served under; units are in the name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, without a full stop.
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: MetricKind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        labels,
        help,
    }
}

// What this process has done.

pub(super) const RUNS: Metric = counter(
    "regraft_job_runs_total",
    &["job", "outcome"],
    "Runs of jobs that have ended, by outcome: completed, failed or cancelled",
);
pub(super) const RETRIED_RUNS: Metric = counter(
    "regraft_job_retries_total",
    &["job"],
    "Runs of jobs that were begun because the one before was cut off",
);
pub(super) const SECONDS: Metric = Metric {
    name: "regraft_job_run_duration_seconds",
    kind: MetricKind::Histogram,
    labels: &["job"],
    help: "How long runs of jobs took",
};
pub(super) const WRITTEN: Metric = counter(
    "regraft_job_rows_written_total",
    &["job"],
    "Rows of the target that runs of jobs have inserted, updated or deleted",
);
pub(super) const LEFT_BEHIND: Metric = counter(
    "regraft_job_rows_left_behind_total",
    &["job"],
    "Rows that runs of jobs could not move",
);
pub(super) const READ: Metric = counter(
    "regraft_job_source_rows_total",
    &["job"],
    "Source rows that runs of jobs went through",
);
pub(super) const ROWS: Metric = counter(
    "regraft_rows_done_total",
    &["entity"],
    "Source rows that are done and committed",
);
pub(super) const BATCHES: Metric = counter(
    "regraft_batches_total",
    &["entity"],
    "Batches that are committed",
);
pub(super) const RETRIES: Metric = counter(
    "regraft_retries_total",
    &[],
    "Batches and transactions that were tried again after a fault that may pass",
);

// What the ledger says, the same whichever process is asked.

pub(super) const LEDGER_UP: Metric = gauge(
    "regraft_ledger_up",
    &[],
    "Whether the ledger answered when it was asked for what follows: 1 or 0; without an answer its figures are left out",
);
pub(super) const JOBS: Metric = gauge(
    "regraft_jobs",
    &["status"],
    "Jobs by status: scheduled, running, paused or cancelled",
);
pub(super) const WAITING: Metric = gauge(
    "regraft_jobs_due",
    &[],
    "Jobs that are due and wait for a process",
);
pub(super) const OLDEST: Metric = gauge(
    "regraft_jobs_due_oldest_seconds",
    &[],
    "How long the first of them has been due",
);
pub(super) const SINCE_SUCCESS: Metric = gauge(
    "regraft_job_last_success_age_seconds",
    &["job"],
    "Time since a run of the job last completed; left out for a job that never did",
);
pub(super) const CONFLICTS: Metric = gauge(
    "regraft_conflicts_open",
    &["entity"],
    "Rows that somebody has to decide on",
);
pub(super) const QUARANTINE: Metric = gauge(
    "regraft_quarantine_open",
    &["entity"],
    "Rows that could not be moved and are not decided on",
);
pub(super) const UNFINISHED: Metric = gauge(
    "regraft_runs_unfinished",
    &[],
    "Runs that were begun and are not finished, those at work among them",
);

// The process.

pub(super) const RESIDENT: Metric = gauge(
    "process_resident_memory_bytes",
    &[],
    "The memory that the process has now",
);
pub(super) const PEAK: Metric = gauge(
    "regraft_process_peak_memory_bytes",
    &[],
    "The most memory that the process has had since its last run of a job began",
);
pub(super) const BUILD: Metric = gauge(
    "regraft_build_info",
    &["version"],
    "Always 1; the label says which version runs",
);

/// All of them, in the order of the reference.
pub const METRICS: &[Metric] = &[
    RUNS,
    RETRIED_RUNS,
    SECONDS,
    WRITTEN,
    LEFT_BEHIND,
    READ,
    ROWS,
    BATCHES,
    RETRIES,
    LEDGER_UP,
    JOBS,
    WAITING,
    OLDEST,
    SINCE_SUCCESS,
    CONFLICTS,
    QUARANTINE,
    UNFINISHED,
    RESIDENT,
    PEAK,
    BUILD,
];
