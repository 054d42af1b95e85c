//! What a rollback would undo, and what it did.

use regraft_engine::{RollbackDone, RollbackPreview, RollbackStep, Undone};

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text};

/// What would be undone.
pub(crate) fn preview(preview: &RollbackPreview, width: usize) -> String {
    let mut out = String::new();
    if !preview.steps.is_empty() {
        out.push_str(&format!(
            "to undo, in this order, what {} wrote\n\n",
            figures::list(&preview.runs)
        ));
        out.push_str(&steps(&preview.steps, "rows to delete", width));
    }
    if preview.steps.iter().any(|step| step.restores_indexes) {
        out.push_str("  indexes and foreign keys that are still taken off are brought back\n");
    }
    for obstacle in &preview.obstacles {
        let line = figures::wrap(obstacle, width.saturating_sub(2), 2);
        out.push_str(&format!("\n{} {line}\n", paint(style::BAD, "✗")));
    }
    out
}

/// What was undone, in one line.
pub(crate) fn done(done: &RollbackDone) -> String {
    let rows: u64 = done.steps.iter().map(|step| step.rows).sum();
    format!(
        "{} undone: {} of {} ({})",
        paint(style::GOOD, "✓"),
        figures::counted(rows, "row"),
        figures::counted(done.steps.len() as u64, "entity"),
        done.run_id,
    )
}

fn steps(steps: &[RollbackStep], head: &str, width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .text("table")
        .number(head)
        .number("quarantine entries")
        .text("written by");
    for step in steps {
        table.row(vec![
            text(&step.entity),
            text(&step.table),
            count(step.rows),
            count(step.quarantine),
            text(figures::some(&step.runs, 2)),
        ]);
    }
    if steps.len() > 1 {
        table.total(vec![
            ("total".to_owned(), Tone::Strong),
            text(""),
            count(steps.iter().map(|step| step.rows).sum::<u64>()),
            count(steps.iter().map(|step| step.quarantine).sum::<u64>()),
            text(""),
        ]);
    }
    table.render(width, 2)
}

/// What a rollback took away, as its own record tells.
pub(crate) fn undone(parts: &[Undone], width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .text("table")
        .number("rows deleted")
        .number("quarantine entries")
        .text("written by");
    for part in parts {
        table.row(vec![
            text(&part.entity),
            text(&part.target_table),
            count(part.rows),
            count(part.quarantine),
            text(figures::some(&part.runs, 2)),
        ]);
    }
    if parts.len() > 1 {
        table.total(vec![
            ("total".to_owned(), Tone::Strong),
            text(""),
            count(parts.iter().map(|part| part.rows).sum::<u64>()),
            count(parts.iter().map(|part| part.quarantine).sum::<u64>()),
            text(""),
        ]);
    }
    table.render(width, 2)
}
