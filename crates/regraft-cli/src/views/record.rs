//! The whole life of one row.

use std::fmt::Write as _;

use regraft_engine::{
    ChildExample, ChildRecord, ColumnRecord, ColumnVerdict, ParentRecord, Reading, Record,
    RecordState,
};
use regraft_ledger::RowState;
use serde_json::Value;

use super::reasons;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text};

/// Characters of a value that are shown; all of it is in the JSON document.
const LONGEST: usize = 120;

/// The record for people.
pub(crate) fn render(record: &Record, width: usize) -> String {
    let mut out = head(record, width);
    if !record.exists {
        return out;
    }
    let parts = [
        ("in the source", source(record, width)),
        ("column by column", columns(record, width)),
        ("rules", rules(record, width)),
        ("the rows it refers to", parents(&record.parents, width)),
        ("how it was written", written(record, width)),
        (
            "in the target, columns that no rule fills",
            others(record, width),
        ),
        ("quarantine", quarantine(record, width)),
        ("changed since", changes(record, width)),
        (
            "the rows that refer to it",
            children(&record.children, width),
        ),
        ("what the validator says", checks(record, width)),
    ];
    for (title, part) in parts {
        if !part.is_empty() {
            let _ = write!(out, "\n{}\n{part}", paint(style::HEADING, title));
        }
    }
    out
}

/// What it is, where it stands, and what is wrong with it.
fn head(record: &Record, width: usize) -> String {
    let id = match (&record.legacy_id, &record.key) {
        (Some(id), _) => id.clone(),
        (None, Some(key)) => key.to_string(),
        (None, None) => String::new(),
    };
    let mut out = format!(
        "{} {}: {}\n",
        paint(style::HEADING, &record.entity),
        paint(style::HEADING, id),
        state(record)
    );
    if let (Some(key), Some(_)) = (&record.key, &record.legacy_id) {
        let _ = writeln!(out, "key {key} in table {}", record.target_table);
    }
    for remark in &record.remarks {
        let _ = writeln!(out, "{}", figures::wrap(remark, width, 0));
    }
    if record.passed && record.exists {
        let _ = writeln!(out, "{} all is right with it", paint(style::GOOD, "✓"));
    }
    for problem in &record.problems {
        let line = figures::wrap(problem, width.saturating_sub(2), 0);
        let line = line.replace('\n', "\n  ");
        let _ = writeln!(out, "{} {line}", paint(style::BAD, "✗"));
    }
    out
}

fn state(record: &Record) -> String {
    let filter = record.source.as_ref().and_then(|row| row.filter.as_deref());
    let into = record
        .mappings
        .first()
        .and_then(|m| m.merged_into.as_deref());
    match (record.state, filter, into) {
        (RecordState::Merged, _, Some(into)) => format!("merged into row {into}"),
        (state, filter, _) => state_words(state, filter),
    }
}

fn state_words(state: RecordState, filter: Option<&str>) -> String {
    match (state, filter) {
        (RecordState::Filtered, Some(filter)) => return format!("dropped by filter `{filter}`"),
        (RecordState::Migrated, _) => "migrated",
        (RecordState::Merged, _) => "merged into another row",
        (RecordState::Quarantined, _) => "in quarantine",
        (RecordState::Blocked, _) => "blocked by its parent",
        (RecordState::Filtered, None) => "dropped by a filter",
        (RecordState::NotMigrated, _) => "not migrated",
        (RecordState::GoneFromSource, _) => "not in the source any more",
        (RecordState::Foreign, _) => "in the target, and migrated by nobody",
        (RecordState::Nowhere, _) => "nowhere",
    }
    .to_owned()
}

fn source(record: &Record, width: usize) -> String {
    let Some(row) = &record.source else {
        return String::new();
    };
    let mut out = match &row.filter {
        Some(filter) => format!("  filter `{filter}` drops it\n"),
        None => "  every filter keeps it\n".to_owned(),
    };
    if row.rows > 1 {
        let _ = writeln!(
            out,
            "  {} have this id; the first:",
            figures::counted(row.rows, "row")
        );
    }
    if !row.values.is_empty() {
        let mut table = Table::new().text("column").text("value");
        for value in &row.values {
            table.row(vec![text(&value.column), shown(value.value.as_deref())]);
        }
        out.push_str(&table.render(width, 2));
    }
    if !row.unread.is_empty() {
        let line = format!("not read by the project: {}", row.unread.join(", "));
        let _ = writeln!(
            out,
            "  {}",
            figures::wrap(&line, width.saturating_sub(2), 4)
        );
    }
    out
}

fn columns(record: &Record, width: usize) -> String {
    let (from, held) = (
        record.with_values && record.source.is_some(),
        record.target.is_some(),
    );
    if !(from || held) || record.columns.is_empty() {
        return String::new();
    }
    let mut table = Table::new().text("column");
    if from {
        table = table.text("the source gives");
    }
    if held {
        if record.with_values {
            table = table.text("the target holds");
        }
        table = table.text("is it right");
    }
    for column in &record.columns {
        let mut cells = vec![text(&column.column)];
        if from {
            cells.push(read(column.source.as_ref()));
        }
        if held {
            if record.with_values {
                cells.push(read(column.target.as_ref()));
            }
            cells.push(verdict(column));
        }
        table.row(cells);
    }
    table.render(width, 2)
}

fn verdict(column: &ColumnRecord) -> (String, Tone) {
    match (column.verdict, &column.why) {
        (ColumnVerdict::Right, _) => ("✓".to_owned(), Tone::Good),
        (ColumnVerdict::Wrong, Some(why)) => (format!("✗ {why}"), Tone::Bad),
        (ColumnVerdict::Wrong, None) => ("✗".to_owned(), Tone::Bad),
        (ColumnVerdict::NotCompared, Some(why)) => (why.clone(), Tone::Quiet),
        (ColumnVerdict::NotCompared, None) => ("not compared".to_owned(), Tone::Quiet),
    }
}

fn read(reading: Option<&Reading>) -> (String, Tone) {
    match reading {
        None => (String::new(), Tone::Quiet),
        Some(Reading {
            fails_with: Some(state),
            ..
        }) => (format!("can't be computed ({state})"), Tone::Bad),
        Some(reading) => shown(reading.value.as_deref()),
    }
}

/// A value in one line.
fn shown(value: Option<&str>) -> (String, Tone) {
    let Some(value) = value else {
        return ("NULL".to_owned(), Tone::Quiet);
    };
    if value.is_empty() {
        return ("(empty)".to_owned(), Tone::Quiet);
    }
    let visible = super::written::plain(value);
    match visible.char_indices().nth(LONGEST) {
        Some((at, _)) => text(format!("{}…", &visible[..at])),
        None => text(visible),
    }
}

fn rules(record: &Record, width: usize) -> String {
    if record.columns.is_empty() {
        return String::new();
    }
    let mut table = Table::new().text("column").text("rule").text("written in");
    for column in &record.columns {
        let mut rule = column.rule.clone();
        if let Some(provenance) = column.provenance {
            let _ = write!(rule, " ({provenance})");
        }
        let read: Vec<String> = column
            .expressions
            .iter()
            .map(|sql| shown(Some(&sql.replace('\n', " "))).0)
            .collect();
        if !read.is_empty() {
            let _ = write!(rule, ": {}", read.join("; "));
        }
        table.row(vec![text(&column.column), text(rule), text(&column.place)]);
    }
    table.render(width, 2)
}

fn parents(parents: &[ParentRecord], width: usize) -> String {
    if parents.is_empty() {
        return String::new();
    }
    let mut table = Table::new()
        .text("column")
        .text("of")
        .text("wanted")
        .text("found")
        .text("key");
    for parent in parents {
        let found = match (&parent.entity, &parent.legacy_id, parent.state) {
            (_, None, _) => ("the source has NULL".to_owned(), Tone::Quiet),
            (None, _, _) => ("no case of the rule".to_owned(), Tone::Caution),
            (_, _, Some(state)) => (
                state_words(state, parent.filter.as_deref()),
                match state {
                    RecordState::Migrated | RecordState::Merged => Tone::Good,
                    _ => Tone::Caution,
                },
            ),
            _ => text(""),
        };
        table.row(vec![
            text(&parent.column),
            text(parent.entity.clone().unwrap_or_default()),
            text(parent.legacy_id.clone().unwrap_or_default()),
            found,
            text(parent.key.map_or_else(String::new, |key| key.to_string())),
        ]);
    }
    table.render(width, 2)
}

/// Run, batch and transactions.
fn written(record: &Record, width: usize) -> String {
    let mut out = String::new();
    for mapping in &record.mappings {
        let run = mapping.run_id.as_deref().unwrap_or("a run that is gone");
        let mut line = format!("by {run}, batch {}", mapping.batch);
        if let Some(batch) = &record.batch {
            if let (Some(low), Some(high)) = (&batch.low_key, &batch.high_key) {
                let _ = write!(line, " (legacy ids {low} to {high}");
                let _ = write!(
                    line,
                    ", {})",
                    figures::counted(batch.source_rows, "source row")
                );
            }
            if let Some(at) = &batch.finished_at {
                let _ = write!(line, ", {}", figures::moment(at));
            }
        }
        if let Some(agreed) = &mapping.agreed_run {
            let _ = write!(
                line,
                "; what both sides agree on was last noted by {agreed}"
            );
        }
        let _ = writeln!(
            out,
            "  {}",
            figures::wrap(&line, width.saturating_sub(2), 2)
        );
        let mut transactions = vec![format!("mapping {}", mapping.transaction)];
        transactions.extend(
            record
                .batch
                .iter()
                .map(|b| format!("batch {}", b.transaction)),
        );
        transactions.extend(
            record
                .target
                .iter()
                .map(|t| format!("row {}", t.transaction)),
        );
        let _ = writeln!(
            out,
            "  transactions that wrote them as they are now: {}",
            transactions.join(", ")
        );
    }
    if !record.merged.is_empty() {
        let ids = figures::some(&record.merged, 10);
        let _ = writeln!(out, "  merged into it: {ids}");
    }
    if let (Some(row), true) = (&record.target, record.mappings.is_empty()) {
        let _ = writeln!(
            out,
            "  by transaction {}; no mapping knows it",
            row.transaction
        );
    }
    out
}

/// What the target holds beside the mapped columns.
fn others(record: &Record, width: usize) -> String {
    let Some(row) = &record.target else {
        return String::new();
    };
    let mapped = |name: &str| record.columns.iter().any(|column| column.column == name);
    let mut table = Table::new().text("column").text("value");
    let mut any = false;
    for value in row.values.iter().filter(|value| !mapped(&value.column)) {
        any = true;
        table.row(vec![text(&value.column), shown(value.value.as_deref())]);
    }
    match any {
        true => table.render(width, 2),
        false => String::new(),
    }
}

fn quarantine(record: &Record, width: usize) -> String {
    let Some(row) = &record.quarantine else {
        return String::new();
    };
    let run = row.run_id.as_deref().unwrap_or("a run that is gone");
    let mut out = format!(
        "  {}; first seen {} by {run}, tried {}, last {}\n",
        row.state,
        figures::moment(&row.first_seen_at),
        figures::counted(row.tries, "time"),
        figures::moment(&row.last_tried_at),
    );
    for reason in row.reasons.as_array().into_iter().flatten() {
        let field = |name: &str| reason.get(name).and_then(Value::as_str);
        let place = field("constraint").or_else(|| field("column"));
        let code = field("code").unwrap_or("unknown");
        let phrase = reasons::phrase(code, place, field("parent"));
        let parent = field("parent_id").map_or_else(String::new, |id| format!(" (legacy id {id})"));
        let line = format!("- {phrase}{parent}");
        let _ = writeln!(
            out,
            "  {}",
            figures::wrap(&line, width.saturating_sub(2), 4)
        );
    }
    out
}

fn changes(record: &Record, width: usize) -> String {
    let mut out = String::new();
    for change in &record.changes {
        let run = change.run_id.as_deref().unwrap_or("a run that is gone");
        let at = change
            .at
            .as_deref()
            .map_or_else(String::new, figures::moment);
        let _ = writeln!(out, "  {} by {run} {at}", change.operation);
        let mut table = Table::new().text("column").text("before").text("after");
        for column in &change.columns {
            let value = |of: &Option<Value>| match of.as_ref().and_then(|all| all.get(column)) {
                None => text(""),
                Some(Value::Null) => shown(None),
                Some(Value::String(value)) => shown(Some(value)),
                Some(other) => shown(Some(&other.to_string())),
            };
            table.row(vec![
                text(column),
                value(&change.before),
                value(&change.after),
            ]);
        }
        out.push_str(&table.render(width, 4));
    }
    out
}

fn children(children: &[ChildRecord], width: usize) -> String {
    if children.is_empty() {
        return String::new();
    }
    let mut table = Table::new()
        .text("entity")
        .text("column")
        .number("source")
        .number("kept")
        .number("behind")
        .number("target")
        .text("legacy ids");
    for child in children {
        let examples: Vec<String> = child.examples.iter().map(example).collect();
        let left = match child.left_behind {
            None => ("unknown".to_owned(), Tone::Quiet),
            Some(0) => count(0_u64),
            Some(rows) => (figures::count(rows), Tone::Caution),
        };
        table.row(vec![
            text(&child.entity),
            text(&child.column),
            count(child.source_rows),
            count(child.kept),
            left,
            count(child.target_rows),
            text(examples.join(", ")),
        ]);
    }
    table.render(width, 2)
}

fn example(child: &ChildExample) -> String {
    let state = match (child.ledger, &child.filter) {
        (Some(RowState::Migrated), _) => return child.legacy_id.clone(),
        (Some(RowState::Merged), _) => "merged",
        (Some(RowState::Quarantined), _) => "in quarantine",
        (Some(RowState::Blocked), _) => "blocked",
        (None, Some(_)) => "filtered",
        (None, None) => "not migrated",
    };
    format!("{} ({state})", child.legacy_id)
}

fn checks(record: &Record, width: usize) -> String {
    if record.checks.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for check in &record.checks {
        let (mark, words) = match (check.passed, check.looked_at) {
            (true, 0) => (paint(style::QUIET, "-"), "nothing to look at".to_owned()),
            (true, _) => (paint(style::GOOD, "✓"), "right".to_owned()),
            (false, _) => {
                let findings: Vec<&str> = check.findings.iter().map(|f| f.what.as_str()).collect();
                (paint(style::BAD, "✗"), findings.join("; "))
            }
        };
        let line = format!("{}: {words}", check.name);
        let _ = writeln!(
            out,
            "  {mark} {}",
            figures::wrap(&line, width.saturating_sub(4), 4)
        );
    }
    for remark in &record.not_checked {
        let line = format!("not looked at: {remark}");
        let _ = writeln!(
            out,
            "  {}",
            figures::wrap(&line, width.saturating_sub(2), 4)
        );
    }
    out
}
