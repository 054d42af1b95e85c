//! How far each entity is.

use regraft_engine::{RecordedPace, Status, UnfinishedRun};
use regraft_ledger::Phase;

use super::receipt;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};

/// The status for people.
pub(crate) fn render(status: &Status, width: usize) -> String {
    if !status.ledger_installed {
        return "nothing was migrated into this target yet: it has no ledger".to_owned();
    }
    let mut out = entities(status, width);
    for run in &status.unfinished {
        out.push('\n');
        out.push_str(&unfinished(run, width));
    }
    if !status.workers.is_empty() {
        out.push('\n');
        out.push_str(&workers(status, width));
    }
    out
}

/// Processes that take batches.
fn workers(status: &Status, width: usize) -> String {
    let mut table = Table::new()
        .text("worker")
        .number("side by side")
        .number("batches moved")
        .number("rows")
        .text("of run")
        .number("heard of (s ago)");
    for worker in &status.workers {
        table.row(vec![
            text(&worker.name),
            count(worker.slots),
            count(worker.batches),
            count(worker.rows),
            text(worker.run_id.clone().unwrap_or_default()),
            text(format!("{:.0}", worker.silent_seconds)),
        ]);
    }
    table.render(width, 0)
}

fn entities(status: &Status, width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .text("table")
        .optional()
        .number("migrated")
        .number("in quarantine")
        .number("blocked");
    let dropped = status.entities.iter().any(|entity| entity.dropped > 0);
    if dropped {
        table = table.number("dropped");
    }
    table = table.text("last run");
    for entity in &status.entities {
        let (last, tone) = match (&entity.last_run, &entity.last_status) {
            (Some(run), Some(status)) if status == "done" => (run.clone(), Tone::Plain),
            (Some(run), Some(status)) => (
                format!("{run} ({})", status.replace('_', " ")),
                receipt::status_tone(status),
            ),
            (Some(run), None) => (run.clone(), Tone::Plain),
            (None, _) => ("never".to_owned(), Tone::Quiet),
        };
        let mut cells = vec![
            text(&entity.entity),
            text(&entity.target_table),
            count(entity.mapped),
            worry(entity.quarantined),
            worry(entity.blocked),
        ];
        if dropped {
            cells.push(count(entity.dropped));
        }
        cells.push((last, tone));
        table.row(cells);
    }
    table.render(width, 0)
}

/// How fast a run at work goes, where that is not as fast as it could, and why.
pub(crate) fn held_back(run: &UnfinishedRun) -> Option<String> {
    let pace = run.pace.as_ref().filter(|_| run.working);
    pace.and_then(RecordedPace::held_back)
}

fn unfinished(run: &UnfinishedRun, width: usize) -> String {
    let state = if run.working {
        "a process is at work on it".to_owned()
    } else {
        format!(
            "{}, and no process is at work on it",
            run.status.replace('_', " ")
        )
    };
    let mut out = format!(
        "{} {}: {state}\n",
        paint(style::CAUTION, "unfinished:"),
        run.run_id
    );
    if let Some(pace) = held_back(run) {
        let line = format!("  held back: {pace}");
        out.push_str(&format!("{}\n", figures::wrap(&line, width, 4)));
    }
    if run.entities.is_empty() {
        if !run.left.is_empty() {
            let line = format!("  not done: {}", figures::list(&run.left));
            out.push_str(&format!("{}\n", figures::wrap(&line, width, 4)));
        }
        return out;
    }
    let mut table = Table::new()
        .text("entity")
        .text("phase")
        .number("rows done")
        .number("of")
        .number("batches done")
        .text("last legacy id");
    for checkpoint in &run.entities {
        let tone = if checkpoint.phase == Phase::Done {
            Tone::Good
        } else {
            Tone::Caution
        };
        table.row(vec![
            text(&checkpoint.entity),
            (checkpoint.phase.as_str().to_owned(), tone),
            count(checkpoint.rows_done),
            count(checkpoint.rows_total),
            count(checkpoint.batches_done),
            text(checkpoint.last_key.clone().unwrap_or_default()),
        ]);
    }
    out.push_str(&table.render(width, 2));
    if !run.indexes_off.is_empty() {
        let line = format!(
            "indexes and foreign keys are still taken off: {}",
            figures::list(&run.indexes_off)
        );
        out.push_str(&format!(
            "! {}\n",
            figures::wrap(&line, width.saturating_sub(2), 2)
        ));
    }
    out
}
