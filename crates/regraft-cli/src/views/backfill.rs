//! What a backfill came to.

use regraft_engine::Backfilled;

use crate::figures;
use crate::style::{self, paint};

/// The result for people.
pub(crate) fn render(done: &Backfilled, width: usize) -> String {
    let account = &done.account;
    let columns = done.columns.join(", ");
    let mut lines = vec![match &done.run_id {
        Some(run) => format!(
            "{}: {columns} of {}",
            paint(style::HEADING, run),
            done.entity
        ),
        None => format!(
            "{}: {columns} of {}; no changes were made",
            paint(style::CAUTION, "DRY RUN"),
            done.entity
        ),
    }];
    lines.push(format!(
        "{} of {} in place written, {} unchanged",
        figures::count(account.updated),
        figures::counted(account.source_rows, "row"),
        figures::count(account.unchanged)
    ));
    let kept = account.detail.changed_in_target;
    if kept > 0 {
        lines.push(format!(
            "{} left: somebody has written these columns in the target",
            figures::counted(kept, "row"),
        ));
    }
    let conflicts = account.detail.conflicts;
    if conflicts > 0 {
        lines.push(format!(
            "{} {} left: both sides have changed these columns",
            paint(style::BAD, "✗"),
            figures::counted(conflicts, "row")
        ));
    }
    for (reason, rows) in &account.detail.reasons {
        lines.push(format!(
            "{} {} left: {reason}",
            paint(style::BAD, "✗"),
            figures::counted(*rows, "row")
        ));
    }
    if !done.examples.is_empty() {
        lines.push(format!("legacy ids: {}", done.examples.join(", ")));
    }
    if account.updated == 0 && kept == 0 && done.open == 0 {
        lines.push("Nothing to do: every row holds what the source gives".to_owned());
    }
    let wrapped: Vec<String> = lines
        .iter()
        .map(|line| figures::wrap(line, width, 2))
        .collect();
    wrapped.join("\n") + "\n"
}
