//! Coded columns: which values occur and what each becomes.

use regraft_engine::{CodeCount, CodedColumn, EntityPlan, Plan};

use super::heading;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};

/// Values of a column that are shown.
const SHOWN: usize = 25;

/// The values that no map knows.
pub(super) fn overview(plan: &Plan, width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .text("column")
        .number("rows")
        .text("values");
    let mut any = false;
    for entity in &plan.entities {
        for column in entity.codes.iter().filter(|c| c.unmapped_rows > 0) {
            any = true;
            let unmapped: Vec<String> = column
                .values
                .iter()
                .filter(|value| value.rule == "unmapped")
                .map(|value| format!("{} ({})", shown(value), figures::count(value.rows)))
                .collect();
            table.row(vec![
                text(&entity.entity),
                text(&column.column),
                worry(column.unmapped_rows),
                text(figures::some(&unmapped, 5)),
            ]);
        }
    }
    if !any {
        return String::new();
    }
    heading("coded values that no map knows") + &table.render(width, 2)
}

/// The coded columns of an entity, value by value.
pub(super) fn detail(entity: &EntityPlan, width: usize) -> String {
    entity
        .codes
        .iter()
        .map(|column| values(column, width))
        .collect()
}

fn values(column: &CodedColumn, width: usize) -> String {
    let title = paint(style::HEADING, format!("values of {}", column.column));
    let mut out = format!("\n  {title}\n");
    let mut table = Table::new()
        .text("in the source")
        .number("rows")
        .text("becomes");
    let occurring = column.values.iter().filter(|value| value.rows > 0);
    for value in occurring.clone().take(SHOWN) {
        table.row(vec![text(shown(value)), count(value.rows), becomes(value)]);
    }
    out.push_str(&table.render(width, 4));
    let hidden = occurring.skip(SHOWN);
    let (more, rows) = hidden.fold((0, 0), |(n, rows), value| (n + 1, rows + value.rows));
    if more > 0 {
        let values = figures::counted(more, "more value");
        let rows = figures::counted(rows, "row");
        out.push_str(&format!("    and {values} with {rows} (all are in JSON)\n"));
    }
    if column.more_rows > 0 {
        let rows = figures::counted(column.more_rows, "row");
        out.push_str(&format!(
            "    and {rows} with yet other values, which aren't told apart\n"
        ));
    }
    let unused: Vec<String> = column
        .values
        .iter()
        .filter(|value| value.rows == 0)
        .map(shown)
        .collect();
    if !unused.is_empty() {
        let line = format!("never occur: {}", figures::some(&unused, SHOWN));
        let line = figures::wrap(&line, width.saturating_sub(4), 4);
        out.push_str(&format!("    {line}\n"));
    }
    out
}

fn shown(value: &CodeCount) -> String {
    match value.value.as_deref() {
        None => "NULL".to_owned(),
        Some("") => "''".to_owned(),
        Some(text) => text.to_owned(),
    }
}

fn becomes(value: &CodeCount) -> (String, Tone) {
    let becomes = value.becomes.as_deref().unwrap_or("NULL");
    match value.rule {
        "unmapped" => ("not in the map: left behind".to_owned(), Tone::Bad),
        "otherwise" => (
            format!("{becomes} (as all that are not in the map)"),
            Tone::Caution,
        ),
        _ => text(becomes),
    }
}
