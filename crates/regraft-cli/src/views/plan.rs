//! The plan: what a migration would do.

mod codes;
mod detail;
mod references;

use regraft_engine::{EntityPlan, Plan};
use regraft_ledger::ReasonCount;

use super::quarantine;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};

/// The plan for people; with everything that was counted of the entities in `details`.
pub(crate) fn render(plan: &Plan, details: &[String], width: usize) -> String {
    let rows: u64 = plan.entities.iter().map(|entity| entity.to_move).sum();
    let mut out = format!(
        "plan {} of project {}\n",
        paint(style::HEADING, &plan.hash),
        plan.project
    );
    let line = format!(
        "{} to move for {}, about {} ({})",
        figures::counted(rows, "row"),
        figures::counted(plan.entities.len() as u64, "entity"),
        figures::duration(plan.seconds_estimate),
        plan.estimate_basis,
    );
    out.push_str(&format!("{}\n\n", figures::wrap(&line, width, 0)));
    out.push_str(&entities(plan, width));
    out.push_str(&filters(plan, width));
    out.push_str(&predictions(plan, width));
    out.push_str(&references::overview(plan, width));
    out.push_str(&codes::overview(plan, width));
    for entity in &plan.entities {
        if details.contains(&entity.entity) {
            out.push_str(&detail::render(entity, width));
        }
    }
    out.push_str(&not_written(plan, width));
    out.push_str(&coverage(plan, width));
    out
}

fn heading(text: &str) -> String {
    format!("\n{}\n", paint(style::HEADING, text))
}

/// Which tables of the source nobody reads.
fn coverage(plan: &Plan, width: usize) -> String {
    let unread: Vec<String> = plan
        .source_tables
        .iter()
        .filter(|table| table.entities.is_empty())
        .map(|table| match table.empty {
            Some(true) => format!("{} (empty)", table.table),
            _ => table.table.clone(),
        })
        .collect();
    let all = figures::counted(plan.source_tables.len() as u64, "table");
    let line = if unread.is_empty() {
        format!("all {all} of the source are read by some entity")
    } else {
        format!(
            "{} of the {all} of the source are read by no entity: {}",
            figures::count(unread.len() as u64),
            unread.join(", ")
        )
    };
    format!("\n{}\n", figures::wrap(&line, width, 2))
}

/// Which entities read each table of the source.
pub(crate) fn tables(plan: &Plan, width: usize) -> String {
    let mut table = Table::new().text("source table").text("read by");
    for source in &plan.source_tables {
        let readers = match (source.entities.is_empty(), source.empty) {
            (true, Some(true)) => ("no entity (the table is empty)".to_owned(), Tone::Quiet),
            (true, _) => ("no entity".to_owned(), Tone::Caution),
            _ => text(source.entities.join(", ")),
        };
        table.row(vec![text(&source.table), readers]);
    }
    format!("\n{}", table.render(width, 2))
}

fn entities(plan: &Plan, width: usize) -> String {
    let any =
        |number: fn(&EntityPlan) -> u64| plan.entities.iter().any(|entity| number(entity) > 0);
    let already = any(|entity| entity.in_place_already);
    let filtered = any(dropped);
    let merged = any(|entity| entity.merged);
    let stuck = any(left);
    let mut table = Table::new()
        .number("")
        .text("entity")
        .text("key")
        .text("mode")
        .number("source rows")
        .number_if(already, "there already")
        .number_if(filtered, "filtered")
        .number_if(merged, "merged")
        .number_if(stuck, "stay behind")
        .number("to move")
        .number("batches")
        .optional()
        .number("about");
    for (at, entity) in plan.entities.iter().enumerate() {
        let mut cells = vec![
            ((at + 1).to_string(), Tone::Quiet),
            text(&entity.entity),
            text(&entity.key_strategy),
            text(&entity.mode),
            count(entity.source_rows),
        ];
        if already {
            cells.push(count(entity.in_place_already));
        }
        if filtered {
            cells.push(count(dropped(entity)));
        }
        if merged {
            cells.push(count(entity.merged));
        }
        if stuck {
            cells.push(worry(left(entity)));
        }
        cells.push(count(entity.to_move));
        cells.push(count(entity.batches));
        cells.push(text(figures::duration(entity.seconds_estimate)));
        table.row(cells);
    }
    table.render(width, 2)
}

fn dropped(entity: &EntityPlan) -> u64 {
    entity.filters.iter().map(|filter| filter.rows).sum()
}

fn left(entity: &EntityPlan) -> u64 {
    entity.quarantined + entity.blocked
}

fn filters(plan: &Plan, width: usize) -> String {
    let with_children = plan
        .entities
        .iter()
        .flat_map(|entity| &entity.filters)
        .any(|filter| !filter.children.is_empty());
    let mut table = Table::new().text("entity").number("rows").text("filter");
    if with_children {
        table = table.text("whose parent it drops");
    }
    let mut any = false;
    for entity in &plan.entities {
        for filter in entity.filters.iter().filter(|filter| filter.rows > 0) {
            any = true;
            let mut cells = vec![text(&entity.entity), count(filter.rows), text(&filter.name)];
            if with_children {
                cells.push(text(detail::children(filter)));
            }
            table.row(cells);
        }
    }
    if !any {
        return String::new();
    }
    heading("dropped by filters") + &table.render(width, 2)
}

fn predictions(plan: &Plan, width: usize) -> String {
    let reasons: Vec<ReasonCount> = plan
        .entities
        .iter()
        .flat_map(|entity| {
            entity.predictions.iter().map(|prediction| ReasonCount {
                entity: entity.entity.clone(),
                bucket: prediction.bucket,
                code: prediction.code.clone(),
                place: prediction.place.clone(),
                parent: prediction.parent.clone(),
                rows: i64::try_from(prediction.rows).unwrap_or(i64::MAX),
                examples: prediction.examples.clone(),
            })
        })
        .collect();
    if reasons.is_empty() {
        return String::new();
    }
    format!(
        "\n{}\n{}",
        paint(style::HEADING, "can't be moved as they are"),
        quarantine::summary(&reasons, width)
    )
}

fn not_written(plan: &Plan, width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .text("columns left to their defaults");
    let mut any = false;
    for entity in plan
        .entities
        .iter()
        .filter(|entity| !entity.not_written.is_empty())
    {
        any = true;
        table.row(vec![
            text(&entity.entity),
            text(entity.not_written.join(", ")),
        ]);
    }
    if any {
        format!("\n{}", table.render(width, 2))
    } else {
        String::new()
    }
}

/// How each column comes about.
pub(crate) fn columns(plan: &Plan, width: usize) -> String {
    let mut out = String::new();
    for entity in &plan.entities {
        let title = format!("{} → {}", entity.entity, entity.target_table);
        out.push_str(&format!("\n{}\n", paint(style::HEADING, title)));
        let mut table = Table::new().text("column").text("provenance").text("rule");
        for column in &entity.columns {
            table.row(vec![
                text(&column.column),
                text(&column.provenance),
                text(&column.rule),
            ]);
        }
        out.push_str(&table.render(width, 2));
    }
    out
}

/// The SQL that runs, ready to be pasted.
pub(crate) fn sql(plan: &Plan) -> String {
    let mut out = String::new();
    for entity in &plan.entities {
        out.push_str(&format!(
            "\n-- {}: on the source, for each batch\n{}\n\n-- {}: on the target, for each batch\n{}\n",
            entity.entity,
            statement(&entity.sql),
            entity.entity,
            statement(&entity.copy),
        ));
    }
    out
}

fn statement(sql: &str) -> String {
    format!("{};", sql.trim().trim_end_matches(';'))
}
