//! The runs of an entity as one HTML page: no script, nothing loaded from elsewhere.

use regraft_engine::{EntityPerformance, RunPerformance};
use regraft_ledger::JobRun;

use super::series::{self, Series};
use super::{chart, left_behind, trend};
use crate::figures;
use crate::views::receipt::html::{STYLE, grid};
use crate::views::receipt::report::{Cell, Grid};
use crate::views::written::markup_free as escaped;

/// What the receipt's style doesn't have: lines and their dots.
const LINES: &str = ".course { fill: none; stroke: var(--time); stroke-width: 1.6; }\n\
                     .dot { fill: var(--time); }\n";

/// The page.
pub(crate) fn html(found: &EntityPerformance) -> String {
    let days = figures::counted(found.last_days, "day");
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"generator\" content=\"regraft {version}\"/>\n\
         <title>Performance: {entity}</title>\n<style>\n{STYLE}{LINES}</style>\n</head>\n<body>\n\
         <header>\n<h1>Performance of {entity}</h1>\n<p class=\"run\">its runs of the last {days}</p>\n\
         </header>\n<main>\n",
        version = env!("CARGO_PKG_VERSION"),
        entity = escaped(&found.entity),
    );
    if !found.job_runs.is_empty() {
        out.push_str("<section>\n<h2>Runs of jobs</h2>\n");
        remark(&mut out, &trend(found.job_trend.as_ref()));
        let runs = found.job_runs.iter();
        let jobs: Vec<Begun<'_>> = runs
            .map(|run| (run.run_id.as_str(), run.started_at.as_str()))
            .collect();
        for series in series::all(found) {
            out.push_str(&figure(&series, &jobs));
        }
        out.push_str(&grid(&job_table(found)));
        out.push_str("</section>\n");
    }
    out.push_str("<section>\n<h2>Runs of the entity</h2>\n");
    if found.runs.is_empty() {
        remark(&mut out, "There were none.");
    } else {
        remark(&mut out, &trend(found.trend.as_ref()));
        let runs = found.runs.iter().map(|run| &run.run);
        let runs: Vec<Begun<'_>> = runs
            .map(|run| (run.run_id.as_str(), run.started_at.as_str()))
            .collect();
        out.push_str(&figure(&rates(found), &runs));
        out.push_str(&grid(&table(found)));
    }
    out.push_str(
        "</section>\n</main>\n<footer><p>Written by regraft from its ledger alone. \
         It holds counts, names and times, and no row's values.</p></footer>\n</body>\n</html>\n",
    );
    out
}

fn remark(out: &mut String, text: &str) {
    out.push_str(&format!(
        "<p class=\"remark\">{}</p>\n",
        escaped(text.trim())
    ));
}

fn rates(found: &EntityPerformance) -> Series {
    Series {
        name: "rows/s",
        caption: "Source rows of the entity per second, of every run that is done and went through rows.",
        values: found.runs.iter().map(|run| run.rows_per_second).collect(),
        written: |rate| format!("{} rows/s", figures::rate(rate)),
    }
}

/// A run's id, and when it was begun.
type Begun<'r> = (&'r str, &'r str);

fn figure(series: &Series, runs: &[Begun<'_>]) -> String {
    if series.range().is_none() {
        return String::new();
    }
    let ids: Vec<String> = runs.iter().map(|(id, _)| (*id).to_owned()).collect();
    let moment = |run: Option<&Begun<'_>>| run.map_or(String::new(), |(_, at)| figures::moment(at));
    let (first, last) = (moment(runs.first()), moment(runs.last()));
    format!(
        "<figure>\n<h3>{}</h3>\n<div class=\"wide\">{}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
        escaped(series.name),
        chart::line(series, &ids, [&first, &last]),
        escaped(series.caption)
    )
}

fn table(found: &EntityPerformance) -> Grid {
    let row = |run: &RunPerformance| {
        let of = &run.run;
        vec![
            Cell::code(&of.run_id),
            Cell::text(of.status.replace('_', " ")),
            Cell::text(figures::moment(&of.started_at)),
            Cell::count(of.source_rows),
            Cell::text(of.seconds.map(figures::duration).unwrap_or_default()),
            Cell::text(left_behind(run)),
            Cell::text(run.rows_per_second.map(figures::rate).unwrap_or_default()),
        ]
    };
    Grid {
        heads: vec![
            ("run", false),
            ("status", false),
            ("begun", false),
            ("rows", true),
            ("time", true),
            ("left behind", true),
            ("rows/s", true),
        ],
        rows: found.runs.iter().rev().map(row).collect(),
        total: false,
    }
}

fn job_table(found: &EntityPerformance) -> Grid {
    let row = |run: &JobRun| {
        let memory = run
            .peak_memory_bytes
            .map(series::number)
            .map(series::memory);
        vec![
            Cell::text(&run.job),
            Cell::code(&run.run_id),
            Cell::text(&run.status),
            Cell::text(figures::moment(&run.started_at)),
            Cell::count(run.records_synced),
            Cell::text(figures::duration(run.seconds)),
            Cell::text(run.rows_per_second.map(figures::rate).unwrap_or_default()),
            Cell::text(memory.unwrap_or_default()),
            Cell::text(
                run.queue_depth
                    .map(|jobs| jobs.to_string())
                    .unwrap_or_default(),
            ),
        ]
    };
    Grid {
        heads: vec![
            ("job", false),
            ("run", false),
            ("status", false),
            ("begun", false),
            ("written", true),
            ("time", true),
            ("rows/s", true),
            ("peak memory", true),
            ("waiting jobs", true),
        ],
        rows: found.job_runs.iter().rev().map(row).collect(),
        total: false,
    }
}
