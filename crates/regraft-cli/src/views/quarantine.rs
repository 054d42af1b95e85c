//! The quarantine: reasons with their numbers, rows, and one row in full.

use regraft_engine::Gone;
use regraft_ledger::{Bucket, DropCount, DropPreview, QuarantineRow, ReasonCount};
use serde_json::Value;

use super::reasons::{self, Reason, advice, phrase, what_to_do};
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, count, text};

/// Reasons with numbers and examples, and what to do about each.
pub(crate) fn summary(counts: &[ReasonCount], width: usize) -> String {
    let merged = merged(counts);
    let lines = merged.iter().map(|reason| Reason {
        entity: &reason.entity,
        rows: reason.rows,
        code: &reason.code,
        place: reason.place.as_deref(),
        parent: reason.parent.as_deref(),
        examples: &reason.examples,
        open: reason.rows,
    });
    let mut out = reasons::table(lines, width);
    out.push_str(&what_to_do(
        counts.iter().map(|reason| reason.code.as_str()),
        width,
    ));
    out
}

/// One line for each reason of an entity: the ledger counts blocked rows apart from rows in
/// quarantine.
fn merged(reasons: &[ReasonCount]) -> Vec<ReasonCount> {
    let mut merged: Vec<ReasonCount> = Vec::new();
    for reason in reasons {
        let same = merged.iter_mut().find(|known| {
            known.entity == reason.entity
                && known.code == reason.code
                && known.place == reason.place
                && known.parent == reason.parent
        });
        match same {
            Some(known) => {
                known.rows += reason.rows;
                known.examples.extend(reason.examples.iter().cloned());
            }
            None => merged.push(reason.clone()),
        }
    }
    merged
}

/// Rows of the quarantine as a list.
pub(crate) fn rows(rows: &[QuarantineRow], width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .text("legacy id")
        .text("reasons")
        .number("tries");
    let closed = rows.iter().any(|row| row.state != "open");
    if closed {
        table = table.text("state");
    }
    for row in rows {
        let mut cells = vec![
            text(&row.entity),
            text(&row.legacy_id),
            text(
                reason_objects(row)
                    .map(reason_phrase)
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
            count(row.tries),
        ];
        if closed {
            cells.push(text(&row.state));
        }
        table.row(cells);
    }
    table.render(width, 2)
}

/// One row with every reason and, where they were asked for, its values.
pub(crate) fn row(row: &QuarantineRow, width: usize) -> String {
    let bucket = match row.bucket {
        Bucket::Quarantined => "in quarantine",
        Bucket::Blocked => "blocked by its parent",
    };
    let state = if row.state == "open" {
        bucket
    } else {
        row.state.as_str()
    };
    let mut out = format!(
        "{} {}: {state}\n",
        paint(style::HEADING, &row.entity),
        paint(style::HEADING, &row.legacy_id)
    );
    let run = row.run_id.as_deref().unwrap_or("a run that is gone");
    out.push_str(&format!("put here by {run}, batch {}\n", row.batch));
    out.push_str(&format!(
        "first seen {} · tried {}, last {}\n\n",
        figures::moment(&row.first_seen_at),
        figures::counted(row.tries, "time"),
        figures::moment(&row.last_tried_at),
    ));
    if let Some(at) = &row.closed_at {
        let note = row.note.as_deref().map(|note| format!(": {note}"));
        out.push_str(&format!(
            "{} {}{}\n\n",
            row.state,
            figures::moment(at),
            note.unwrap_or_default()
        ));
    }
    let mut table = Table::new().text("code").text("reason").text("what to do");
    for reason in reason_objects(row) {
        let code = field(reason, "code").unwrap_or("unknown");
        let mut why = reason_phrase(reason);
        if let Some(id) = field(reason, "parent_id") {
            why.push_str(&format!(" (legacy id {id})"));
        }
        if let Some(sqlstate) = field(reason, "sqlstate") {
            why.push_str(&format!(" ({sqlstate})"));
        }
        table.row(vec![text(code), text(why), text(advice(code))]);
    }
    out.push_str(&table.render(width, 2));
    if let Some(Value::Object(values)) = &row.source_row {
        let mut table = Table::new().text("column").text("value in the source");
        for (column, value) in values {
            let shown = match value {
                Value::String(text) => text.clone(),
                Value::Null => "NULL".to_owned(),
                other => other.to_string(),
            };
            table.row(vec![text(column), text(shown)]);
        }
        out.push_str(&format!("\n{}", table.render(width, 2)));
    }
    out
}

/// What waits for a row.
pub(crate) fn behind(behind: &[DropCount], width: usize) -> String {
    if behind.is_empty() {
        return String::new();
    }
    format!("\n  it blocks\n{}", counts(behind, "rows blocked", width))
}

/// What would be dropped.
pub(crate) fn dropping(preview: &DropPreview, width: usize) -> String {
    let mut out = String::from("to drop: rows that are not to be moved\n\n");
    out.push_str(&counts(&preview.entities, "rows to drop", width));
    if !preview.behind.is_empty() {
        out.push_str("\n  these wait for them, and stay blocked:\n");
        out.push_str(&counts(&preview.behind, "rows blocked", width));
    }
    out
}

/// What was dropped, in one line.
pub(crate) fn dropped(rows: u64) -> String {
    format!(
        "{} {} dropped: no migration moves them, and they still count as left behind",
        paint(style::GOOD, "✓"),
        figures::counted(rows, "row")
    )
}

/// Rows that there is nothing to move of any more.
pub(crate) fn gone(gone: &[Gone], dry_run: bool, width: usize) -> String {
    if gone.is_empty() {
        return String::new();
    }
    let mut table = Table::new()
        .text("entity")
        .number(if dry_run { "to close" } else { "closed" })
        .text("because")
        .text("legacy ids");
    for rows in gone {
        table.row(vec![
            text(&rows.entity),
            count(rows.legacy_ids.len() as u64),
            text(&rows.note),
            text(figures::some(&rows.legacy_ids, 5)),
        ]);
    }
    format!("\n{}", table.render(width, 2))
}

fn counts(counts: &[DropCount], head: &'static str, width: usize) -> String {
    let mut table = Table::new().text("entity").number(head).text("legacy ids");
    for of in counts {
        table.row(vec![
            text(&of.entity),
            count(of.rows),
            text(reasons::examples(&of.examples, of.rows)),
        ]);
    }
    table.render(width, 2)
}

fn reason_objects(row: &QuarantineRow) -> impl Iterator<Item = &Value> {
    row.reasons.as_array().into_iter().flatten()
}

fn reason_phrase(reason: &Value) -> String {
    let place = field(reason, "constraint").or_else(|| field(reason, "column"));
    phrase(
        field(reason, "code").unwrap_or("unknown"),
        place,
        field(reason, "parent"),
    )
}

fn field<'a>(reason: &'a Value, name: &str) -> Option<&'a str> {
    reason.get(name).and_then(Value::as_str)
}
