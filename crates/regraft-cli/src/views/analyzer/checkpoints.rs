//! Where checkpoints stand, and what setting one back did.

use jiff::Timestamp;
use regraft_engine::{CheckpointOverview, CheckpointProgress, CheckpointState, ResetDone};

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, text};

/// Checkpoints, run by run, for people.
pub(crate) fn render(
    overview: &CheckpointOverview,
    entity: Option<&str>,
    now: Timestamp,
    width: usize,
) -> String {
    if !overview.ledger_installed {
        return "nothing was migrated into this target yet: it has no ledger".to_owned();
    }
    if overview.checkpoints.is_empty() {
        return match entity {
            Some(entity) => format!("no run has a checkpoint of {entity}"),
            None => "no run has a checkpoint".to_owned(),
        };
    }
    let mut out = String::new();
    for run in overview.checkpoints.chunk_by(|a, b| a.run_id == b.run_id) {
        out.push_str(&of_run(run, entity.is_some(), now, width));
        out.push('\n');
    }
    out
}

fn of_run(run: &[CheckpointState], with_ids: bool, now: Timestamp, width: usize) -> String {
    let Some(first) = run.first() else {
        return String::new();
    };
    let state = match first.state {
        CheckpointProgress::Done => paint(style::GOOD, "done"),
        CheckpointProgress::Unfinished => paint(
            style::CAUTION,
            "unfinished, and no process is at work on it",
        ),
        CheckpointProgress::Working => {
            let holder = first.server_process.map_or_else(String::new, |process| {
                format!(" (server process {process})")
            });
            paint(style::CAUTION, format!("being worked on now{holder}"))
        }
    };
    let mut out = format!(
        "{} ({}), begun {}: {state}\n",
        paint(style::HEADING, &first.run_id),
        first.command,
        figures::ago(&first.started_at, now),
    );
    out.push_str(&table(run, now).render(width, 2));
    if with_ids || first.state != CheckpointProgress::Done {
        out.push_str(&ids(run).render(width, 2));
    }
    for checkpoint in run.iter().filter(|c| !c.taken_off.is_empty()) {
        let line = format!(
            "! off the table {}: {}",
            checkpoint.target_table,
            figures::some(&checkpoint.taken_off, 8)
        );
        out.push_str(&format!(
            "  {}\n",
            figures::wrap(&line, width.saturating_sub(4), 4)
        ));
    }
    out
}

fn table(run: &[CheckpointState], now: Timestamp) -> Table {
    let mut table = Table::new()
        .text("entity")
        .text("phase")
        .text("mode")
        .number("batches")
        .number("rows")
        .text("last legacy id")
        .text("moved");
    for checkpoint in run {
        let is_done = checkpoint.phase == regraft_ledger::Phase::Done;
        let tone = if is_done { Tone::Good } else { Tone::Caution };
        let last = checkpoint.last_legacy_id.clone().unwrap_or_default();
        table.row(vec![
            text(&checkpoint.entity),
            (checkpoint.phase.as_str().to_owned(), tone),
            text(checkpoint.mode.as_str()),
            text(batches(checkpoint)),
            text(rows(checkpoint)),
            text(last),
            text(figures::ago(&checkpoint.moved_at, now)),
        ]);
    }
    table
}

fn ids(run: &[CheckpointState]) -> Table {
    let mut table = Table::new()
        .text("entity")
        .text("checkpoint")
        .number("epoch");
    for checkpoint in run {
        table.row(vec![
            text(&checkpoint.entity),
            text(checkpoint.id.to_string()),
            text(checkpoint.epoch.to_string()),
        ]);
    }
    table
}

fn batches(checkpoint: &CheckpointState) -> String {
    let done = i64::from(checkpoint.batches_done);
    format!(
        "{} of {}",
        figures::count(done),
        figures::count(done + checkpoint.batches_left)
    )
}

fn rows(checkpoint: &CheckpointState) -> String {
    format!(
        "{} of {}",
        figures::count(checkpoint.rows_done),
        figures::count(checkpoint.rows_total.max(checkpoint.rows_done))
    )
}

/// A checkpoint that is to be set back.
pub(crate) fn preview(checkpoint: &CheckpointState, width: usize) -> String {
    let line = format!(
        "The checkpoint of {} in {}: {} batches and {} rows are committed and stay. Whoever holds it with epoch {} can't commit any more.",
        checkpoint.entity,
        checkpoint.run_id,
        batches(checkpoint),
        rows(checkpoint),
        checkpoint.epoch
    );
    figures::wrap(&line, width, 0)
}

/// What setting back did.
pub(crate) fn reset(done: &ResetDone, width: usize) -> String {
    let checkpoint = &done.checkpoint;
    let line = format!(
        "{} the checkpoint of {} in {} is set back to what is committed: {} batches, {} rows. Epoch {} was {}: whoever held it can't commit. {} left to do; no row was touched.",
        paint(style::GOOD, "✓"),
        checkpoint.entity,
        checkpoint.run_id,
        batches(checkpoint),
        rows(checkpoint),
        checkpoint.epoch,
        done.epoch_before,
        match checkpoint.batches_left {
            1 => "1 planned batch is".to_owned(),
            left => format!("{} planned batches are", figures::count(left)),
        }
    );
    figures::wrap(&line, width, 2)
}
