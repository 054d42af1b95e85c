//! What a rollback would undo, and what it did.

use std::collections::BTreeMap;

use regraft_engine::{RollbackDone, RollbackPreview, Undone};
use regraft_ledger::{LeftRow, Operation, Why};

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text};

/// How many rows that are left are named for each reason.
const EXAMPLES: usize = 5;

/// What would be undone.
pub(crate) fn preview(preview: &RollbackPreview, width: usize) -> String {
    let mut out = String::new();
    if !preview.steps.is_empty() {
        out.push_str(&format!(
            "to undo, in this order, what {} wrote\n\n",
            figures::list(&preview.runs)
        ));
        let steps = preview.steps.iter().map(|step| Line {
            entity: &step.entity,
            table: &step.table,
            figures: [step.rows, step.put_back, step.brought_back, step.left],
            quarantine: step.quarantine,
            runs: &step.runs,
        });
        let heads = [
            "rows to delete",
            "to put back",
            "to bring back",
            "left as they are",
        ];
        out.push_str(&table(&steps.collect::<Vec<_>>(), heads, width));
    }
    if preview.steps.iter().any(|step| step.restores_indexes) {
        out.push_str("  indexes and foreign keys that are still taken off are brought back\n");
    }
    out.push_str(&left(&preview.left, width));
    for obstacle in &preview.obstacles {
        let line = figures::wrap(obstacle, width.saturating_sub(2), 2);
        out.push_str(&format!("\n{} {line}\n", paint(style::BAD, "✗")));
    }
    out
}

/// What was undone, in one line, and what was not.
pub(crate) fn done(done: &RollbackDone, width: usize) -> String {
    let sum = |of: fn(&regraft_engine::RollbackStep) -> u64| done.steps.iter().map(of).sum::<u64>();
    let rows = sum(|step| step.rows) + sum(|step| step.put_back) + sum(|step| step.brought_back);
    let mut out = format!(
        "{} undone: {} of {} ({})",
        paint(style::GOOD, "✓"),
        figures::counted(rows, "row"),
        figures::counted(done.steps.len() as u64, "entity"),
        done.run_id,
    );
    if !done.left.is_empty() {
        out.push('\n');
        out.push_str(&left(&done.left, width));
    }
    out
}

/// Rows that are left, by entity and reason, with examples.
fn left(rows: &[LeftRow], width: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut kinds: BTreeMap<(&str, &str, Why), Vec<&LeftRow>> = BTreeMap::new();
    for row in rows {
        let kind = (row.entity.as_str(), done_to(row.operation), row.why);
        kinds.entry(kind).or_default().push(row);
    }
    let mut table = Table::new()
        .text("entity")
        .number("rows left")
        .text("the run had")
        .text("but")
        .text("legacy ids");
    for ((entity, done, why), rows) in &kinds {
        let ids: Vec<String> = rows.iter().map(|row| row.legacy_id.clone()).collect();
        table.row(vec![
            text(*entity),
            count(rows.len() as u64),
            text(*done),
            text(because(*why, rows)),
            text(figures::some(&ids, EXAMPLES)),
        ]);
    }
    let mut out = format!("\n{}", table.render(width, 2));
    if rows.iter().any(|row| row.why.yields()) {
        out.push_str(
            "  --force undoes what was changed since, too; --format json lists every row\n",
        );
    }
    out
}

fn done_to(operation: Operation) -> &'static str {
    match operation {
        Operation::Insert => "inserted them",
        Operation::Update => "changed them",
        Operation::Delete => "deleted them",
    }
}

fn because(why: Why, rows: &[&LeftRow]) -> String {
    let names = |of: &dyn Fn(&LeftRow) -> Vec<String>| {
        let mut names: Vec<String> = rows.iter().flat_map(|row| of(row)).collect();
        names.sort();
        names.dedup();
        figures::some(&names, 3)
    };
    match why {
        Why::Changed => format!(
            "somebody changed {} since",
            names(&|row| row.columns.clone())
        ),
        Why::LaterRun => format!(
            "{} changed them since: undo that first",
            names(&|row| row.by_run.iter().cloned().collect())
        ),
        Why::Gone => "somebody deleted them since".to_owned(),
        Why::Referred => "rows that are left refer to them".to_owned(),
        Why::NoParent => "the rows that they would refer to are gone".to_owned(),
        Why::Taken => "other rows have their keys, or values that must be unique".to_owned(),
        Why::NoColumn => "the table has lost a column that was written".to_owned(),
        Why::OldForm => {
            "an earlier version of this program kept what was there, not exactly enough".to_owned()
        }
    }
}

/// A line of what is undone.
struct Line<'a> {
    entity: &'a str,
    table: &'a str,
    /// Deleted, put back, brought back, left.
    figures: [u64; 4],
    quarantine: u64,
    runs: &'a [String],
}

/// The lines as a table; figures that are zero throughout are left out, but for the first.
fn table(lines: &[Line<'_>], heads: [&'static str; 4], width: usize) -> String {
    let shown: Vec<usize> = (0..heads.len())
        .filter(|at| *at == 0 || lines.iter().any(|line| line.figures[*at] > 0))
        .collect();
    let mut table = Table::new().text("entity").text("table");
    for at in &shown {
        table = table.number(heads[*at]);
    }
    table = table.number("quarantine entries").text("written by");
    for line in lines {
        let mut cells = vec![text(line.entity), text(line.table)];
        cells.extend(shown.iter().map(|at| count(line.figures[*at])));
        cells.push(count(line.quarantine));
        cells.push(text(figures::some(line.runs, 2)));
        table.row(cells);
    }
    if lines.len() > 1 {
        let mut cells = vec![("total".to_owned(), Tone::Strong), text("")];
        let sum = |at: usize| lines.iter().map(|line| line.figures[at]).sum::<u64>();
        cells.extend(shown.iter().map(|at| count(sum(*at))));
        cells.push(count(lines.iter().map(|line| line.quarantine).sum::<u64>()));
        cells.push(text(""));
        table.total(cells);
    }
    table.render(width, 2)
}

/// What a rollback took away, as its own record tells.
pub(crate) fn undone(parts: &[Undone], width: usize) -> String {
    let lines = parts.iter().map(|part| Line {
        entity: &part.entity,
        table: &part.target_table,
        figures: [part.rows, part.put_back, part.brought_back, part.left],
        quarantine: part.quarantine,
        runs: &part.runs,
    });
    let heads = ["rows deleted", "put back", "brought back", "left"];
    table(&lines.collect::<Vec<_>>(), heads, width)
}
