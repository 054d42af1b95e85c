//! What has changed on either side, and what was carried over.

use std::collections::BTreeMap;

use regraft_engine::{
    Analysis, ConflictReport, Count, DifferentialOutcome, EntityDifferential, OperationStatus,
    Resolution,
};
use regraft_ledger::Differing;

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, count, text, worry};
use crate::views::receipt;

/// An analysis for people.
pub(crate) fn analysis(analysis: &Analysis, width: usize) -> String {
    let mut out = format!("{}\n\n", paint(style::HEADING, &analysis.operation_id));
    out.push_str(&entities(&analysis.entities, width));
    out.push_str(&details(&analysis.entities, width));
    out.push_str(&policies(&analysis.entities, width));
    out.push_str(&deletes(&analysis.entities, width));
    if !analysis.detect_conflicts {
        out.push_str(&line(
            "Of the target only rows that the source has changed were looked at: --detect-conflicts looks at all of them",
            width,
        ));
    }
    out.push_str("Nothing was written but this analysis's own record\n");
    out
}

/// One line for each entity.
fn entities(entities: &[EntityDifferential], width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .number("source")
        .number("unchanged")
        .number("new")
        .number("gaps")
        .number("changed")
        .number("moved")
        .number("deleted")
        .number("in target")
        .number("conflicts");
    for entity in entities {
        table.row(vec![
            text(&entity.entity),
            count(entity.source_rows),
            count(entity.unchanged),
            count(entity.new.rows),
            count(entity.gaps.rows),
            count(entity.changed.rows),
            count(entity.moved_parents.rows),
            count(entity.deleted.rows),
            count(entity.changed_in_target.rows + entity.deleted_in_target.rows),
            worry(entity.conflicts.rows),
        ]);
    }
    table.render(width, 0) + "\n"
}

/// What the numbers are made of.
fn details(entities: &[EntityDifferential], width: usize) -> String {
    let mut out = String::new();
    for entity in entities {
        let mut lines = Vec::new();
        for (what, of, columns) in [
            ("new", &entity.new, None),
            ("left by earlier runs", &entity.gaps, None),
            ("changed", &entity.changed, Some(&entity.changed_columns)),
            ("with another parent", &entity.moved_parents, None),
            ("gone from the source", &entity.deleted, None),
            ("marked as deleted and back", &entity.returned, None),
            ("merged otherwise than before", &entity.regrouped, None),
            (
                "that the merge rule makes part of another",
                &entity.absorbed,
                None,
            ),
            (
                "changed in the target",
                &entity.changed_in_target,
                Some(&entity.target_columns),
            ),
            ("gone from the target", &entity.deleted_in_target, None),
            (
                "in conflict",
                &entity.conflicts,
                Some(&entity.conflict_columns),
            ),
            (
                "that can't become what the source says",
                &entity.refused,
                None,
            ),
        ] {
            lines.extend(detail(what, of, columns));
        }
        if !lines.is_empty() {
            out.push_str(&format!("{}\n", paint(style::HEADING, &entity.entity)));
            for detail in lines {
                out.push_str(&figures::wrap(&format!("  {detail}"), width, 4));
                out.push('\n');
            }
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn detail(what: &str, of: &Count, columns: Option<&BTreeMap<String, i64>>) -> Option<String> {
    if of.rows == 0 {
        return None;
    }
    let mut line = format!("{} {what}", figures::counted(of.rows, "row"));
    if let Some(columns) = columns.filter(|columns| !columns.is_empty()) {
        let columns: Vec<String> = columns
            .iter()
            .map(|(column, rows)| format!("{column} {}", figures::count(*rows)))
            .collect();
        line.push_str(&format!(" ({})", columns.join(", ")));
    }
    line.push_str(&format!(": legacy ids {}", of.examples.join(", ")));
    if of.rows > of.examples.len() as i64 {
        line.push_str(", …");
    }
    Some(line)
}

/// What each policy would do, where they differ at all.
fn policies(entities: &[EntityDifferential], width: usize) -> String {
    let mut sums: BTreeMap<&str, [i64; 4]> = BTreeMap::new();
    for (policy, forecast) in entities.iter().flat_map(|entity| &entity.policies) {
        let sum = sums.entry(policy).or_default();
        for (sum, rows) in sum.iter_mut().zip([
            forecast.writes,
            forecast.loses_target_edits,
            forecast.keeps_target,
            forecast.leaves_open,
        ]) {
            *sum += rows;
        }
    }
    if sums.values().all(|sum| *sum == [0; 4]) {
        return String::new();
    }
    let mut table = Table::new()
        .text("policy")
        .number("writes rows")
        .number("losing newer edits in the target")
        .number("keeps the target's values")
        .number("leaves open");
    for (policy, [writes, loses, keeps, open]) in sums {
        table.row(vec![
            text(policy),
            count(writes),
            worry(loses),
            count(keeps),
            worry(open),
        ]);
    }
    table.render(width, 0) + "\n"
}

/// What each policy would do about rows that the source has no more, in each mode.
fn deletes(entities: &[EntityDifferential], width: usize) -> String {
    let mut table = Table::new()
        .text("gone from the source")
        .text("policy")
        .text("deletes")
        .number("deleted")
        .number("marked")
        .number("left: edited")
        .number("left: referred to")
        .number("untouched");
    let mut is_empty = true;
    for entity in entities {
        for (policy, forecast) in &entity.policies {
            for (mode, would) in &forecast.deletes {
                is_empty = false;
                table.row(vec![
                    text(&entity.entity),
                    text(policy),
                    text(mode),
                    count(would.deleted),
                    count(would.marked),
                    worry(would.edited),
                    worry(would.referred),
                    count(would.untouched),
                ]);
            }
        }
    }
    if is_empty {
        return String::new();
    }
    table.render(width, 0) + "\n"
}

fn line(text: &str, width: usize) -> String {
    figures::wrap(text, width, 2) + "\n"
}

/// What a differential migration came to.
pub(crate) fn outcome(outcome: &DifferentialOutcome, width: usize) -> String {
    let mut out = entities(&outcome.entities, width);
    out.push_str(&details(&outcome.entities, width));
    out.push_str(&receipt::render(&outcome.receipt, width));
    let deleted: i64 = outcome
        .receipt
        .entities
        .iter()
        .map(|e| e.account.detail.deleted)
        .sum();
    if deleted > 0 {
        out.push_str(&line(
            &format!(
                "{} of the target deleted or marked as deleted: the source has them no more",
                figures::counted(deleted, "row")
            ),
            width,
        ));
    }
    if outcome.open > 0 {
        out.push_str(&line(
            &format!(
                "{} {} for somebody to decide",
                paint(style::BAD, "✗"),
                figures::counted(outcome.open, "row")
            ),
            width,
        ));
    }
    if outcome.receipt.dry_run {
        out.push_str(&format!(
            "{}: No changes were made\n",
            paint(style::CAUTION, "DRY RUN")
        ));
    } else if outcome.nothing_to_do {
        out.push_str("Nothing to do: the target has what the source says\n");
    }
    out
}

/// What a run is taken up from.
pub(crate) fn resuming(run_id: &str, begun: &str, status: Option<&OperationStatus>) -> String {
    let entities = status
        .map(|status| status.entities.as_slice())
        .unwrap_or_default();
    let stands: Vec<String> = entities
        .iter()
        .map(|entity| {
            let rows = figures::counted(entity.rows_done, "row");
            format!("{}: {}, {rows} done", entity.entity, entity.phase)
        })
        .collect();
    let from = if stands.is_empty() {
        "no entity had been begun".to_owned()
    } else {
        stands.join("; ")
    };
    format!(
        "resuming {run_id}, begun {} ({from})",
        figures::moment(begun)
    )
}

/// How a differential run stands.
pub(crate) fn status(status: Option<&OperationStatus>, width: usize) -> String {
    let Some(status) = status else {
        return "There was no differential migration yet\n".to_owned();
    };
    let mut out = format!(
        "{}: {}, begun {}{}\n\n",
        paint(style::HEADING, &status.operation_id),
        status.status,
        figures::moment(&status.started_at),
        status
            .finished_at
            .as_ref()
            .map_or(String::new(), |at| format!(
                ", ended {}",
                figures::moment(at)
            )),
    );
    let mut table = Table::new()
        .text("entity")
        .text("phase")
        .number("rows done");
    for entity in &status.entities {
        table.row(vec![
            text(&entity.entity),
            text(&entity.phase),
            count(entity.rows_done),
        ]);
    }
    out.push_str(&table.render(width, 0));
    out
}

/// A report on conflicts.
pub(crate) fn report(report: &ConflictReport, width: usize) -> String {
    let mut out = format!("{}\n\n", paint(style::HEADING, &report.operation_id));
    out.push_str(&entities(&report.entities, width));
    out.push_str(&details(&report.entities, width));
    out.push_str(&policies(&report.entities, width));
    out.push_str(&deletes(&report.entities, width));
    out.push_str(&open(&report.open, width));
    out
}

fn open(counts: &[(String, String, i64)], width: usize) -> String {
    if counts.is_empty() {
        return "Nothing is open\n".to_owned();
    }
    let mut table = Table::new().text("entity").text("open").number("rows");
    for (entity, kind, rows) in counts {
        table.row(vec![text(entity), text(kind), worry(*rows)]);
    }
    table.render(width, 0)
}

/// Open rows as a list.
pub(crate) fn list(
    rows: &[Differing],
    counts: &[(String, String, i64)],
    limit: i64,
    width: usize,
) -> String {
    let mut out = open(counts, width);
    if rows.is_empty() {
        return out;
    }
    let mut table = Table::new()
        .text("id")
        .text("entity")
        .text("legacy id")
        .text("what")
        .text("columns")
        .text("found");
    for row in rows {
        table.row(vec![
            text(row.id.to_string()),
            text(&row.entity),
            text(&row.legacy_id),
            text(&row.comparison_type),
            text(row.columns.join(", ")),
            text(figures::moment(&row.found_at)),
        ]);
    }
    out.push('\n');
    out.push_str(&table.render(width, 0));
    if rows.len() as i64 >= limit {
        out.push_str("There may be more: --limit N shows so many\n");
    }
    out
}

/// One open row, column by column.
pub(crate) fn show(row: &Differing, width: usize) -> String {
    let mut out = format!(
        "{}\n{} of {}, legacy id {}, found {} by {}\n\n",
        paint(style::HEADING, row.id),
        row.comparison_type,
        row.entity,
        row.legacy_id,
        figures::moment(&row.found_at),
        row.operation_id
    );
    let columns = row.detail.get("columns").and_then(|c| c.as_object());
    if let Some(columns) = columns {
        let mut table = Table::new()
            .text("column")
            .text("the source says")
            .text("the target holds")
            .text("agreed (fingerprint)");
        let value = |of: &serde_json::Value, side: &str| match of.get(side) {
            Some(serde_json::Value::String(value)) => value.clone(),
            _ => "NULL".to_owned(),
        };
        for (column, of) in columns {
            table.row(vec![
                text(column),
                text(value(of, "source")),
                text(value(of, "target")),
                text(value(of, "agreed")),
            ]);
        }
        out.push_str(&table.render(width, 0));
    } else {
        let what = regraft_engine::what_to_do(&row.comparison_type);
        out.push_str(&format!("{}\n{}", row.detail, line(what, width)));
    }
    out
}

/// What deciding on conflicts came to.
pub(crate) fn resolution(resolution: &Resolution, width: usize) -> String {
    let mut out = String::new();
    if let Some(run) = &resolution.run_id {
        out.push_str(&format!("{}\n", paint(style::HEADING, run)));
    }
    out.push_str(&format!(
        "{} decided on ({}), {} of the target written\n",
        figures::counted(resolution.resolved, "row"),
        resolution.strategy,
        figures::counted(resolution.written, "row")
    ));
    if resolution.resolved == 0 && resolution.still_open.is_empty() {
        out.push_str("There is no open conflict to decide on\n");
    }
    if !resolution.still_open.is_empty() {
        let mut table = Table::new()
            .text("entity")
            .text("legacy id")
            .text("stays open");
        for row in &resolution.still_open {
            table.row(vec![text(&row.entity), text(&row.legacy_id), text(row.why)]);
        }
        out.push('\n');
        out.push_str(&table.render(width, 0));
    }
    out
}
