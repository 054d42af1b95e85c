//! Which of the rows that a run wrote stay all the same, because somebody has changed them since.

use std::collections::HashSet;

use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Column, Table};
use regraft_pg::copy::Rows;

use super::Part;
use crate::error::{Error, Kind, Result};
use crate::load::fingerprint_of;

/// Notes the rows of one run that stay: those that others changed since, and those that rows which
/// stay refer to.
pub(super) async fn leave_inserts(target: &Session, parts: &[Part], force: bool) -> Result<()> {
    let catalog = Catalog::read(&**target, &[]).await?;
    if !force {
        for part in parts.iter().filter(|part| part.written > 0) {
            let entity = &part.step.entity;
            regraft_ledger::leave_inserts_changed_later(&**target, entity, &part.numbers).await?;
            if let Some(table) = table_of(&catalog, part) {
                let cycles = in_cycles(parts, part);
                let rows = changed_rows(target, part, table, &cycles).await?;
                regraft_ledger::leave_changed_inserts(&**target, entity, &rows).await?;
            }
        }
    }
    loop {
        let mut more = 0;
        for parent in parts.iter().filter(|part| part.written > 0) {
            for child in parts {
                for column in references(&catalog, child, parent) {
                    more += regraft_ledger::leave_referred(
                        &**target,
                        &parent.undone,
                        &child.undone,
                        column,
                    )
                    .await?;
                }
            }
        }
        if more == 0 {
            return Ok(());
        }
    }
}

fn table_of<'a>(catalog: &'a Catalog, part: &Part) -> Option<&'a Table> {
    catalog.tables.iter().find(|t| t.sql_name() == part.table)
}

/// The columns of an entity that a rollback empties before their rows go.
fn in_cycles<'a>(parts: &'a [Part], part: &Part) -> HashSet<&'a str> {
    parts
        .iter()
        .flat_map(|p| &p.back_references)
        .filter(|reference| reference.entity == part.step.entity)
        .map(|reference| reference.column.as_str())
        .collect()
}

/// The columns of a child's table that refer to the key of a parent's.
fn references<'a>(catalog: &'a Catalog, child: &Part, parent: &Part) -> Vec<&'a str> {
    let Some(table) = table_of(catalog, child) else {
        return Vec::new();
    };
    table
        .constraints
        .iter()
        .filter(|c| {
            c.kind == "f"
                && c.columns.len() == 1
                && c.foreign_table.as_deref() == Some(parent.step.table.as_str())
                && c.foreign_columns.as_deref() == Some(std::slice::from_ref(&parent.key_column))
        })
        .map(|c| c.columns[0].as_str())
        .collect()
}

/// The rows of a part that hold something else than the ledger agreed on, with the columns that do.
///
/// What a `jsonb` column is sent is not what it holds: the server puts it into an order of its own.
/// So nothing follows from these.
async fn changed_rows(
    target: &Session,
    part: &Part,
    table: &Table,
    passed_over: &HashSet<&str>,
) -> Result<Vec<(String, Vec<String>)>> {
    let layouts = regraft_ledger::layouts(&**target, &part.step.entity).await?;
    let compared: Vec<&Column> = table
        .columns
        .iter()
        .filter(|c| !passed_over.contains(c.name.as_str()))
        .filter(|c| !matches!(c.type_name.as_str(), "jsonb" | "json"))
        .filter(|c| layouts.values().any(|layout| layout.contains(&c.name)))
        .collect();
    let columns: Vec<String> = compared.iter().map(|c| c.name.clone()).collect();
    let query = regraft_ledger::written_rows_select(&part.undone, &columns);
    let mut rows = Rows::of(target, &query, 3 + columns.len()).await?;
    let mut changed = Vec::new();
    while let Some(row) = rows.next().await? {
        let prints = row.get(1).unwrap_or_default();
        let run = row.get(2).and_then(|b| b.try_into().ok());
        let Some(layout) = run.and_then(|run| layouts.get(&i32::from_be_bytes(run))) else {
            continue;
        };
        let differs = |(at, column): (usize, &&Column)| {
            let place = layout.iter().position(|name| *name == column.name)?;
            let agreed: [u8; 4] = prints.get(4 * place..4 * place + 4)?.try_into().ok()?;
            (!is_agreed(agreed, row.get(3 + at), column)).then(|| column.name.clone())
        };
        let differing: Vec<String> = compared.iter().enumerate().filter_map(differs).collect();
        if !differing.is_empty() {
            let id = row.get(0).and_then(|id| std::str::from_utf8(id).ok());
            let id = id.ok_or_else(|| Error::new(Kind::Internal, "a legacy id is not text"))?;
            changed.push((id.to_owned(), differing));
        }
    }
    Ok(changed)
}

/// Whether a column holds what was agreed on. The server gives a `numeric` the scale that its column
/// says, and fills a `char` up: these are what was sent, for all that.
fn is_agreed(agreed: [u8; 4], value: Option<&[u8]>, column: &Column) -> bool {
    let Some(value) = value else {
        return agreed == [0; 4];
    };
    if fingerprint_of(value) == agreed {
        return true;
    }
    let of = |name: &str| column.is_domain || column.type_name.starts_with(name);
    let unfilled = value.trim_ascii_end();
    (of("character(") && fingerprint_of(unfilled) == agreed)
        || (of("numeric") && scales(value).any(|value| fingerprint_of(&value) == agreed))
}

/// A number in PostgreSQL's binary form with every scale that may have been sent. The scale is how
/// many digits after the point are shown: two bytes after the number of digits, the weight and the
/// sign.
fn scales(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let scales = if value.len() < 8 { 0 } else { SCALES };
    let value = value.to_vec();
    (0..scales).map(move |scale| {
        let mut value = value.clone();
        value[6..8].copy_from_slice(&scale.to_be_bytes());
        value
    })
}

/// More digits after the point than that are not looked for.
const SCALES: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_in_every_scale() {
        // 5.00: one digit, weight 0, positive, scale 2.
        let value = [0, 1, 0, 0, 0, 0, 0, 2, 0, 5];
        let sent = [0, 1, 0, 0, 0, 0, 0, 0, 0, 5];
        assert!(scales(&value).any(|other| other == sent));
        assert!(scales(&sent).any(|other| other == value));
        assert!(scales(&value).all(|other| other[8..] == value[8..]));
        assert_eq!(scales(&[1, 2]).count(), 0);
    }
}
