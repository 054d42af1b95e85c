//! How fast the runs of an entity were, as a table with bars and charts.

mod chart;
mod page;
mod series;

use jiff::Timestamp;
use regraft_engine::{EntityPerformance, RunPerformance, Trend};

pub(crate) use page::html;

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, text};

/// Characters of the longest bar.
const LONGEST: f64 = 20.0;

/// The runs for people, oldest first.
pub(crate) fn render(found: &EntityPerformance, now: Timestamp, width: usize) -> String {
    let days = figures::counted(found.last_days, "day");
    if found.runs.is_empty() {
        return format!("no run was about {} in the last {days}", found.entity);
    }
    let mut out = of_entity(found, &days, now, width);
    if !found.job_runs.is_empty() {
        out.push_str(&of_jobs(found));
    }
    out
}

fn of_entity(found: &EntityPerformance, days: &str, now: Timestamp, width: usize) -> String {
    let mut out = format!(
        "{}, its runs of the last {days}\n\n",
        paint(style::HEADING, &found.entity)
    );
    out.push_str(&table(found, now).render(width, 0));
    out.push('\n');
    let (Some(median), Some(best)) = (found.median_rows_per_second, found.best_rows_per_second)
    else {
        out.push_str("no finished run went through rows, so there is no rate\n");
        return out;
    };
    out.push_str(&format!("median  {} rows/s\n", figures::rate(median)));
    let run = found.best_run.as_deref().unwrap_or_default();
    out.push_str(&format!(
        "best    {} rows/s in {run}\n",
        figures::rate(best)
    ));
    out.push_str(&trend(found.trend.as_ref()));
    out
}

/// The runs of jobs that carried the entity over, as a chart of their rates and the range of the
/// other figures.
fn of_jobs(found: &EntityPerformance) -> String {
    let runs = figures::counted(found.job_runs.len() as u64, "run");
    let mut out = format!(
        "\n{}, oldest first\n\n",
        paint(style::HEADING, format!("{runs} of jobs"))
    );
    for (at, series) in series::all(found).iter().enumerate() {
        if at == 0 {
            out.push_str(&chart::columns(series));
        }
        let Some((least, most)) = series.range() else {
            continue;
        };
        let (least, most) = ((series.written)(least), (series.written)(most));
        let last = series.values.last().copied().flatten();
        let last = last.map_or("not measured".to_owned(), series.written);
        out.push_str(&format!(
            "{:<13} {least} to {most}, last {last}\n",
            series.name
        ));
    }
    out.push_str(&trend(found.job_trend.as_ref()));
    out
}

fn table(found: &EntityPerformance, now: Timestamp) -> Table {
    let mut table = Table::new()
        .text("run")
        .text("begun")
        .number("rows")
        .number("time")
        .number("left behind")
        .number("rows/s")
        .text("");
    let best = found.best_rows_per_second.unwrap_or(0.0);
    for run in &found.runs {
        let of = &run.run;
        let name = match of.status.as_str() {
            "done" => of.run_id.clone(),
            status => format!("{} ({})", of.run_id, status.replace('_', " ")),
        };
        table.row(vec![
            text(name),
            text(figures::ago(&of.started_at, now)),
            text(figures::count(of.source_rows)),
            text(of.seconds.map(figures::duration).unwrap_or_default()),
            text(left_behind(run)),
            text(run.rows_per_second.map(figures::rate).unwrap_or_default()),
            text(
                run.rows_per_second
                    .map_or_else(String::new, |rate| bar(rate, best)),
            ),
        ]);
    }
    table
}

/// The share of the source rows that stayed behind.
fn left_behind(run: &RunPerformance) -> String {
    match run.left_behind_percent {
        Some(percent) if run.run.left_behind > 0 => format!("{percent:.1}% of rows"),
        Some(_) => "0".to_owned(),
        None => String::new(),
    }
}

fn bar(rate: f64, best: f64) -> String {
    if best <= 0.0 {
        return String::new();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most the longest"
    )]
    let length = (LONGEST * rate / best).round().clamp(1.0, LONGEST) as usize;
    "█".repeat(length)
}

fn trend(trend: Option<&Trend>) -> String {
    let Some(trend) = trend else {
        return "trend   unknown: it takes two finished runs of the same command\n".to_owned();
    };
    let change = match trend.verdict {
        "steady" => "steady".to_owned(),
        verdict => format!("{:.0}% {verdict}", trend.change_percent.abs()),
    };
    format!(
        "trend   {change}: the last {} {} rows/s, the median of the {} before {} rows/s\n",
        trend.command,
        figures::rate(trend.last),
        trend.runs_before,
        figures::rate(trend.median_before)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_to_the_best() {
        assert_eq!(bar(100.0, 100.0).chars().count(), 20);
        assert_eq!(bar(50.0, 100.0).chars().count(), 10);
        assert_eq!(bar(0.1, 100.0).chars().count(), 1, "none is invisible");
    }
}
