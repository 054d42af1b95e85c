//! One entity in full: what it reads, its filters, references, constraints and codes.

use std::collections::BTreeMap;

use regraft_engine::{ConstraintPlan, EntityPlan, FilterCount};

use super::{codes, heading, references};
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};
use crate::views::reasons::examples;

/// Everything that was counted of an entity.
pub(super) fn render(entity: &EntityPlan, width: usize) -> String {
    let mut out = heading(&format!("{} → {}", entity.entity, entity.target_table));
    let line = format!("reads {}", figures::list(&entity.reads));
    let line = figures::wrap(&line, width.saturating_sub(2), 4);
    out.push_str(&format!("  {line}\n"));
    out.push_str(&filters(entity, width));
    out.push_str(&references::detail(entity, width));
    out.push_str(&constraints(entity, width));
    out.push_str(&codes::detail(entity, width));
    out
}

fn filters(entity: &EntityPlan, width: usize) -> String {
    if entity.filters.is_empty() {
        return String::new();
    }
    let mut table = Table::new()
        .text("filter")
        .number("drops")
        .text("legacy ids")
        .text("whose parent it drops");
    for filter in &entity.filters {
        let rows = i64::try_from(filter.rows).unwrap_or(i64::MAX);
        table.row(vec![
            text(&filter.name),
            count(filter.rows),
            text(examples(&filter.examples, rows)),
            text(children(filter)),
        ]);
    }
    format!("\n{}", table.render(width, 2))
}

/// The rows that lose their parent by a filter, as a phrase.
pub(super) fn children(filter: &FilterCount) -> String {
    let children: Vec<String> = filter
        .children
        .iter()
        .map(|child| {
            let rows = figures::count(child.rows);
            format!("{rows} of {} ({})", child.entity, child.column)
        })
        .collect();
    figures::list(&children)
}

fn constraints(entity: &EntityPlan, width: usize) -> String {
    let mut table = Table::new()
        .text("constraint")
        .text("kind")
        .number("can't satisfy it")
        .text("legacy ids");
    let mut satisfied: BTreeMap<&str, u64> = BTreeMap::new();
    let mut any = false;
    for constraint in &entity.constraints {
        if constraint.rows == 0 {
            *satisfied.entry(kind(constraint)).or_default() += 1;
            continue;
        }
        any = true;
        let rows = i64::try_from(constraint.rows).unwrap_or(i64::MAX);
        table.row(vec![
            text(&constraint.name),
            (kind(constraint).to_owned(), Tone::Quiet),
            worry(constraint.rows),
            text(examples(&constraint.examples, rows)),
        ]);
    }
    let kinds: Vec<String> = satisfied
        .iter()
        .map(|(kind, number)| format!("{number} {kind}"))
        .collect();
    let mut out = format!(
        "\n  {}\n",
        paint(style::HEADING, "constraints of the target")
    );
    if any {
        out.push_str(&table.render(width, 4));
    }
    let number: u64 = satisfied.values().sum();
    if number > 0 {
        let line = format!(
            "every row satisfies {}{} ({})",
            if any { "the other " } else { "all " },
            figures::count(number),
            kinds.join(", ")
        );
        let line = figures::wrap(&line, width.saturating_sub(4), 4);
        out.push_str(&format!("    {line}\n"));
    }
    out
}

fn kind(constraint: &ConstraintPlan) -> &'static str {
    match constraint.kind {
        "not_null" => "not null",
        "foreign_key" => "foreign key",
        "reference" => "reference without a foreign key",
        "map" => "map of codes",
        "type" => "type of the column",
        other => other,
    }
}
