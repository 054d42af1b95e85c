//! How fast the runs of an entity were, from the ledger's own record of them.

use regraft_ledger::{EntityRun, JobRun};
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;

/// Runs that are looked at, the latest ones.
const MOST: i64 = 500;

/// A change of the rate that is worth a word: a part of the median.
const NOTABLE: f64 = 0.1;

/// The runs of an entity over some days.
#[derive(Debug, Clone, Serialize)]
pub struct EntityPerformance {
    /// The entity.
    pub entity: String,
    /// How many days back was looked.
    pub last_days: i32,
    /// Whether the target has a ledger.
    pub ledger_installed: bool,
    /// The runs, oldest first.
    pub runs: Vec<RunPerformance>,
    /// The median of their rates, in source rows per second.
    pub median_rows_per_second: Option<f64>,
    /// The best of their rates, in source rows per second.
    pub best_rows_per_second: Option<f64>,
    /// The run with the best rate.
    pub best_run: Option<String>,
    /// The last run against those before it.
    pub trend: Option<Trend>,
    /// The runs of jobs that carried it over, oldest first.
    pub job_runs: Vec<JobRun>,
    /// The last of these that went through rows against the earlier ones of its job.
    pub job_trend: Option<Trend>,
}

/// One run of the entity.
#[derive(Debug, Clone, Serialize)]
pub struct RunPerformance {
    /// What the ledger says of it.
    #[serde(flatten)]
    pub run: EntityRun,
    /// Source rows per second; none of a run that is not done or had no rows.
    pub rows_per_second: Option<f64>,
    /// Rows in quarantine or blocked, in percent of its source rows.
    pub left_behind_percent: Option<f64>,
}

/// The last run with a rate against the earlier ones of the same command or job: others do other
/// work.
#[derive(Debug, Clone, Serialize)]
pub struct Trend {
    /// The command, or the job.
    pub command: String,
    /// The rate of the last run, in source rows per second.
    pub last: f64,
    /// The median of those before, in source rows per second.
    pub median_before: f64,
    /// How many these are.
    pub runs_before: usize,
    /// By how many percent of the median before the last one is faster; negative when it is slower.
    pub change_percent: f64,
    /// `faster`, `slower` or `steady` (within 10 percent).
    pub verdict: &'static str,
}

/// How fast the runs of an entity in the last `days` days were.
///
/// # Errors
/// A target that can't be reached.
pub async fn entity_performance(
    context: &Context,
    entity: &str,
    days: i32,
) -> Result<EntityPerformance> {
    let target = context.connect_target().await?;
    let version = regraft_ledger::installed_version(&*target).await?;
    let ledger_installed = version.is_some();
    let (mut runs, mut job_runs) = (Vec::new(), Vec::new());
    if ledger_installed {
        runs = regraft_ledger::entity_runs(&*target, entity, Some(days), MOST).await?;
        runs.reverse();
    }
    // Jobs came with the fourth version of the ledger.
    if version >= Some(4) {
        job_runs = regraft_ledger::job_runs(&*target, entity, days, MOST).await?;
        job_runs.reverse();
    }
    let runs: Vec<RunPerformance> = runs.into_iter().map(measured).collect();
    let rates: Vec<f64> = runs.iter().filter_map(|run| run.rows_per_second).collect();
    let rated = runs.iter().filter(|run| run.rows_per_second.is_some());
    let best = rated.max_by(|a, b| {
        a.rows_per_second
            .partial_cmp(&b.rows_per_second)
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    Ok(EntityPerformance {
        entity: entity.to_owned(),
        last_days: days,
        ledger_installed,
        median_rows_per_second: median(rates),
        best_rows_per_second: best.and_then(|run| run.rows_per_second),
        best_run: best.map(|run| run.run.run_id.clone()),
        trend: trend(&of_commands(&runs)),
        runs,
        job_trend: trend(&of_jobs(&job_runs)),
        job_runs,
    })
}

#[expect(clippy::cast_precision_loss, reason = "rates need no exactness")]
fn measured(run: EntityRun) -> RunPerformance {
    let rows = run.source_rows as f64;
    let counts = run.status == "done" && run.source_rows > 0;
    RunPerformance {
        rows_per_second: run
            .seconds
            .filter(|seconds| counts && *seconds > 0.0)
            .map(|seconds| rows / seconds),
        left_behind_percent: (run.source_rows > 0).then(|| 100.0 * run.left_behind as f64 / rows),
        run,
    }
}

fn median(mut rates: Vec<f64>) -> Option<f64> {
    rates.sort_by(f64::total_cmp);
    let (low, high) = (
        rates.get(rates.len().checked_sub(1)? / 2)?,
        rates.get(rates.len() / 2)?,
    );
    Some(f64::midpoint(*low, *high))
}

/// What was measured: the name of the command or job, and source rows per second.
type Rated<'r> = (&'r str, f64);

fn of_commands(runs: &[RunPerformance]) -> Vec<Rated<'_>> {
    let runs = runs.iter();
    runs.filter_map(|run| Some((run.run.command.as_str(), run.rows_per_second?)))
        .collect()
}

fn of_jobs(runs: &[JobRun]) -> Vec<Rated<'_>> {
    let runs = runs.iter().filter(|run| run.status == "completed");
    runs.filter_map(|run| Some((run.job.as_str(), run.rows_per_second?)))
        .filter(|(_, rate)| *rate > 0.0)
        .collect()
}

fn trend(rated: &[Rated<'_>]) -> Option<Trend> {
    let (command, _) = *rated.last()?;
    let same = rated.iter().filter(|(of, _)| *of == command);
    let mut rates: Vec<f64> = same.map(|(_, rate)| *rate).collect();
    let last = rates.pop()?;
    let runs_before = rates.len();
    let median_before = median(rates)?;
    let change = last / median_before - 1.0;
    Some(Trend {
        command: command.to_owned(),
        last,
        median_before,
        runs_before,
        change_percent: 100.0 * change,
        verdict: match change {
            change if change > NOTABLE => "faster",
            change if change < -NOTABLE => "slower",
            _ => "steady",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &str, rows: i64, seconds: f64) -> RunPerformance {
        measured(EntityRun {
            run_id: format!("{command}_{rows}"),
            command: command.to_owned(),
            status: "done".to_owned(),
            run_status: "done".to_owned(),
            started_at: String::new(),
            seconds: Some(seconds),
            source_rows: rows,
            left_behind: 0,
            error: None,
        })
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0]), Some(5.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn a_trend_is_of_one_command() {
        let runs = [
            run("migrate", 100, 1.0),
            run("differential", 9_000, 1.0),
            run("migrate", 300, 1.0),
            run("migrate", 100, 1.0),
        ];
        let trend = trend(&of_commands(&runs)).expect("there are runs before");
        assert_eq!((trend.command.as_str(), trend.runs_before), ("migrate", 2));
        assert_eq!((trend.median_before, trend.verdict), (200.0, "slower"));
        assert_eq!(trend.change_percent, -50.0);
        assert!(
            super::trend(&of_commands(&runs[..2])).is_none(),
            "the first of its command"
        );
    }

    #[test]
    fn a_run_without_rows_has_no_rate() {
        assert_eq!(run("migrate", 0, 1.0).rows_per_second, None);
        assert_eq!(run("migrate", 0, 1.0).left_behind_percent, None);
    }
}
