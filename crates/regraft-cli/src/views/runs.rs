//! What was run.

use regraft_ledger::Run;

use super::receipt;
use crate::figures;
use crate::table::{Table, count, text, worry};

/// Runs, latest first, for people.
pub(crate) fn render(runs: &[Run], now: jiff::Timestamp, width: usize) -> String {
    if runs.is_empty() {
        return "nothing was run against this target yet".to_owned();
    }
    let mut table = Table::new()
        .text("run")
        .text("status")
        .text("started")
        .number("time")
        .number("source rows")
        .number("inserted")
        .number("left behind");
    for run in runs {
        let account = &run.account;
        table.row(vec![
            text(&run.run_id),
            (
                run.status.as_str().replace('_', " "),
                receipt::status_tone(run.status.as_str()),
            ),
            text(figures::ago(&run.started_at, now)),
            text(run.seconds.map(figures::duration).unwrap_or_default()),
            count(account.source_rows),
            count(account.inserted),
            worry(account.quarantined + account.blocked),
        ]);
    }
    table.render(width, 0)
}
