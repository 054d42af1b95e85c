//! What was measured of the runs of jobs, one after the other.

use regraft_engine::EntityPerformance;

use crate::figures;

/// One figure of the runs, oldest first; nothing where it was not measured.
pub(super) struct Series {
    /// What it is.
    pub(super) name: &'static str,
    /// What it means, for a page.
    pub(super) caption: &'static str,
    /// Of each run.
    pub(super) values: Vec<Option<f64>>,
    /// How a value is written.
    pub(super) written: fn(f64) -> String,
}

impl Series {
    /// The least and the most.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        let measured = || self.values.iter().flatten().copied();
        let least = measured().min_by(f64::total_cmp)?;
        Some((least, measured().max_by(f64::total_cmp)?))
    }
}

/// The figures that a trend is seen in.
pub(super) fn all(found: &EntityPerformance) -> Vec<Series> {
    let runs = || found.job_runs.iter();
    vec![
        Series {
            name: "rows/s",
            caption: "Source rows per second that each run went through, of all its entities.",
            values: runs().map(|run| run.rows_per_second).collect(),
            written: |rate| format!("{} rows/s", figures::rate(rate)),
        },
        Series {
            name: "time",
            caption: "How long each run took.",
            values: runs().map(|run| Some(run.seconds)).collect(),
            written: figures::duration,
        },
        Series {
            name: "peak memory",
            caption: "The most memory of the process while the run was at work.",
            values: runs()
                .map(|run| run.peak_memory_bytes.map(number))
                .collect(),
            written: memory,
        },
        Series {
            name: "waiting jobs",
            caption: "Jobs that were due and waited for a process when the run ended.",
            values: runs().map(|run| run.queue_depth.map(number)).collect(),
            written: |jobs| format!("{jobs:.0}"),
        },
    ]
}

/// Bytes as text, for people.
pub(super) fn memory(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

/// A count as a drawing needs it.
#[expect(clippy::cast_precision_loss, reason = "a drawing needs no exactness")]
pub(super) fn number(count: i64) -> f64 {
    count as f64
}
