//! Random tables, how they refer to each other, and their rows.

use regraft_pg::quote::{ident, literal};

use super::table::{Edge, Merge, Missing, SourceKey, Strategy, Table};
use super::value;
use crate::dice::Dice;

/// Names of source tables, besides plain ones.
const ODD: &[&str] = &["Order Line", "select", "tablé", "x'y", "CamelCase"];

pub(super) fn tables(dice: &mut Dice) -> Vec<Table> {
    let count = number(1 + dice.below(15).min(dice.below(15) + 2));
    let dirt = [0, 0, 20, 60][number(dice.below(4))];
    let mut tables: Vec<Table> = (0..count).map(|i| bare(i, dice)).collect();
    for i in 0..count {
        share(&mut tables, i, dice);
    }
    for i in 0..count {
        let edges = match tables.iter().find(|t| t.name == tables[i].target) {
            Some(first) if first.name != tables[i].name => first.edges.clone(),
            _ => edges(&tables, i, dice),
        };
        tables[i].edges = edges;
    }
    for i in 0..count {
        same_as(&mut tables, i, dice);
    }
    for i in 0..count {
        tables[i].merge = merge(&tables, i, dice);
    }
    for i in 0..count {
        for n in 0..tables[i].edges.len() {
            // In a circle no row could be the first.
            let parents = tables[i].edges[n].parents.clone();
            if tables[i].edges[n].name != "id"
                && parents
                    .iter()
                    .any(|(_, p)| leads(&tables, p, &tables[i].name))
            {
                tables[i].edges[n].not_null = false;
            }
        }
    }
    for i in 0..count {
        fill(&mut tables, i, dirt, dice);
    }
    tables
}

fn number(rolled: u64) -> usize {
    usize::try_from(rolled).unwrap_or(0)
}

/// A table with its own values, and nothing yet that leads to others.
fn bare(i: usize, dice: &mut Dice) -> Table {
    let key = match dice.below(8) {
        0..=2 => SourceKey::Integer,
        3 => SourceKey::Bigint,
        4 => SourceKey::Text,
        5 => SourceKey::Uuid,
        _ => SourceKey::Composite,
    };
    let strategy = match (dice.below(4), key) {
        (0, SourceKey::Uuid) | (1, SourceKey::Uuid) => Strategy::Column,
        (0, _) => Strategy::V5,
        (1, _) => Strategy::V4,
        _ => Strategy::V7,
    };
    let values: Vec<_> = (0..dice.below(8))
        .map(|n| value::column(number(n), dice))
        .collect();
    let mut filters = Vec::new();
    if dice.below(3) == 0 {
        filters.push(("deleted".to_owned(), "not t.deleted".to_owned()));
    }
    if dice.below(5) == 0 {
        filters.push(("old-ones".to_owned(), "t.born > '1995-01-01Z'".to_owned()));
    }
    let odd = dice.below(4) == 0;
    let source = if odd {
        format!("{} {i}", ODD[i % ODD.len()])
    } else {
        format!("old_{i}")
    };
    let rows = match dice.below(8) {
        0 => 0,
        1 => 1 + dice.below(200),
        _ => 1 + dice.below(60),
    };
    Table {
        name: format!("e{i}"),
        target: format!("e{i}"),
        shared: false,
        source,
        key,
        strategy,
        legacy: dice.below(3) > 0,
        merge: None,
        filters,
        values,
        edges: Vec::new(),
        partitions: if dice.below(7) == 0 { 3 } else { 0 },
        identity: dice.below(5) == 0,
        unique: None,
        columns: Vec::new(),
        rows: Vec::new(),
        ids: ids(key, number(rows), dice),
    }
}

/// Lets some tables fill the target of an earlier one: with the same columns, references and kind of
/// key, and with rows, filters and keys of its own.
fn share(tables: &mut [Table], i: usize, dice: &mut Dice) {
    if i == 0 || dice.below(6) != 0 {
        return;
    }
    let first = number(dice.below(i as u64));
    if tables[first].shared {
        return;
    }
    tables[first].shared = true;
    let first = tables[first].clone();
    let table = &mut tables[i];
    table.ids = ids(first.key, table.ids.len(), dice);
    table.strategy = match dice.below(3) {
        0 => Strategy::V5,
        1 => Strategy::V4,
        _ => Strategy::V7,
    };
    (table.target, table.shared) = (first.name, true);
    (table.key, table.legacy) = (first.key, first.legacy);
    (table.values, table.partitions) = (first.values, first.partitions);
    table.identity = first.identity;
}

/// Source types whose values can be equal, and are now and then.
const COMPARED: &[&str] = &["text", "integer", "boolean", "mood", "date"];

/// Makes equal rows of some tables one row.
fn merge(tables: &[Table], i: usize, dice: &mut Dice) -> Option<Merge> {
    let table = &tables[i];
    let same_keys = |other: &Table| other.strategy == Strategy::SameAs(table.name.clone());
    let mut parents = table.edges.iter().flat_map(|edge| &edge.parents);
    // In a circle a row could wait for one that it is part of; the keys that another table has would
    // be several rows'.
    if dice.below(4) != 0
        || parents.any(|(_, parent)| leads(tables, parent, &table.name))
        || matches!(table.strategy, Strategy::SameAs(_))
        || tables.iter().any(same_keys)
    {
        return None;
    }
    let pools = table
        .values
        .iter()
        .filter_map(|value| value.source.as_ref());
    let mut by: Vec<String> = pools
        .filter(|pool| COMPARED.contains(&pool.of.as_str()))
        .map(|pool| format!("t.{}", ident(&pool.name)))
        .take(1 + number(dice.below(2)))
        .collect();
    if by.is_empty() || dice.below(2) == 0 {
        by.push("date_trunc('year', t.born)".to_owned());
    }
    let when = [
        None,
        Some("t.deleted is not null"),
        Some("t.born > '2000-01-01Z'"),
    ];
    let when = when[number(dice.below(3))].map(str::to_owned);
    Some(Merge { by, when })
}

/// Legacy ids, each once, in no order.
fn ids(key: SourceKey, count: usize, dice: &mut Dice) -> Vec<Vec<String>> {
    const PREFIXES: &[&str] = &["k", "K-", "é", "ß ", "it's ", "日", "a_b", "\\", " "];
    let mut ids: Vec<Vec<String>> = (0..count)
        .map(|n| match key {
            SourceKey::Integer => vec![(n as i64 * 3 - 20).to_string()],
            SourceKey::Bigint => vec![literal(&match n {
                0 => i64::MIN.to_string(),
                1 => i64::MAX.to_string(),
                _ => (n as i64 * 5_000_000_019 - 7).to_string(),
            })],
            SourceKey::Text if n == 3 => vec![literal("")],
            SourceKey::Text if n == 5 => vec![literal(&"long ".repeat(99))],
            SourceKey::Text => vec![literal(&format!("{}{n}", PREFIXES[n % PREFIXES.len()]))],
            SourceKey::Uuid => {
                let (a, b) = (dice.roll(), dice.roll());
                let text = format!("{a:016x}{b:016x}");
                let parts = [
                    &text[..8],
                    &text[8..12],
                    &text[13..16],
                    &text[17..20],
                    &text[20..],
                ];
                let [a, b, c, d, e] = parts;
                vec![literal(&format!("{a}-{b}-4{c}-a{d}-{e}"))]
            }
            SourceKey::Composite => vec![literal(PREFIXES[n % 4]), (n / 4).to_string()],
        })
        .collect();
    for i in (1..ids.len()).rev() {
        ids.swap(i, number(dice.below(i as u64 + 1)));
    }
    ids
}

fn edges(tables: &[Table], i: usize, dice: &mut Dice) -> Vec<Edge> {
    let mut edges = Vec::new();
    for n in 0..dice.below(4) {
        let n = number(n);
        // Later tables make cycles, the table itself a tree.
        let parent = match dice.below(6) {
            0 => i,
            1 => number(dice.below(tables.len() as u64)),
            _ if i == 0 => continue,
            _ => number(dice.below(i as u64)),
        };
        let missing = match dice.below(5) {
            0 | 1 => Missing::Null,
            2 => Missing::Default("00000000-0000-4000-8000-00000000dead".to_owned()),
            _ => Missing::Quarantine,
        };
        let strict = missing == Missing::Quarantine;
        let columns: Vec<String> = tables[parent]
            .key
            .columns()
            .iter()
            .map(|(name, _)| format!("r{n}_{name}"))
            .collect();
        let mut edge = Edge {
            name: format!("r{n}"),
            parents: vec![(0, tables[parent].name.clone())],
            by: None,
            from: tables[parent].key.expression(&columns),
            columns,
            not_null: strict && parent < i && dice.below(3) == 0,
            declared: !matches!(missing, Missing::Default(_)) && dice.below(3) > 0,
            missing,
        };
        polymorphic(&mut edge, tables, i, n, dice);
        edges.push(edge);
    }
    edges
}

/// Makes some references lead to one of several tables: those with the same kind of key.
fn polymorphic(edge: &mut Edge, tables: &[Table], i: usize, n: usize, dice: &mut Dice) {
    if dice.below(4) != 0 {
        return;
    }
    let is_number = |table: &&Table| table.key == SourceKey::Integer;
    let first = tables.iter().find(|table| table.name == edge.parents[0].1);
    if !first.is_some_and(|table| is_number(&table)) {
        return;
    }
    let others = tables[..i].iter().filter(is_number);
    let names: Vec<String> = others
        .map(|t| t.name.clone())
        .filter(|name| *name != edge.parents[0].1)
        .collect();
    if names.is_empty() {
        return;
    }
    edge.by = Some(format!("r{n}_kind"));
    edge.parents.extend(
        names
            .into_iter()
            .take(2)
            .enumerate()
            .map(|(k, name)| (k as i64 + 7, name)),
    );
    edge.declared = false;
}

/// Whether references lead from a table to another, over any number of them.
pub(super) fn leads(tables: &[Table], from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (std::collections::BTreeSet::new(), vec![from]);
    while let Some(name) = next.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            let table = tables.iter().filter(|table| table.name == name);
            let edges = table.flat_map(|table| &table.edges);
            next.extend(edges.flat_map(|edge| edge.parents.iter().map(|(_, p)| p.as_str())));
        }
    }
    false
}

/// Lets some tables have the keys of another one: one row for each of its rows at most.
fn same_as(tables: &mut [Table], i: usize, dice: &mut Dice) {
    if i == 0 || dice.below(6) != 0 {
        return;
    }
    let parent = number(dice.below(i as u64));
    let taken = matches!(tables[parent].strategy, Strategy::SameAs(_));
    // Of several tables that one has the keys of, a key could be anybody's.
    let shared = tables[i].shared || tables[parent].shared;
    if taken || shared || leads(tables, &tables[parent].name, &tables[i].name) {
        return;
    }
    let (name, key) = (tables[parent].name.clone(), tables[parent].key);
    let columns: Vec<String> = key
        .columns()
        .iter()
        .map(|(column, _)| format!("same_{column}"))
        .collect();
    // Nothing may lead to one of several tables of which two have the same keys.
    let is_ambiguous = |edge: &Edge| edge.parents.len() > 1;
    if tables
        .iter()
        .flat_map(|table| &table.edges)
        .any(is_ambiguous)
    {
        return;
    }
    let table = &mut tables[i];
    table.strategy = Strategy::SameAs(name.clone());
    table.edges.insert(
        0,
        Edge {
            name: "id".to_owned(),
            parents: vec![(0, name)],
            by: None,
            from: key.expression(&columns),
            columns,
            missing: Missing::Quarantine,
            not_null: true,
            declared: false,
        },
    );
}

/// Gives a table its columns and its rows; of a thousand values, about `dirt` are bad.
fn fill(tables: &mut [Table], i: usize, dirt: u64, dice: &mut Dice) {
    let table = &tables[i];
    let key = table.key.columns().iter();
    let mut columns: Vec<(String, String)> = key
        .map(|(name, of)| ((*name).to_owned(), (*of).to_owned()))
        .collect();
    columns.push(("born".to_owned(), "timestamptz".to_owned()));
    columns.push(("deleted".to_owned(), "boolean".to_owned()));
    let pools = table
        .values
        .iter()
        .filter_map(|value| value.source.as_ref());
    columns.extend(pools.map(|pool| (pool.name.clone(), pool.of.clone())));
    for edge in &table.edges {
        columns.extend(edge.by.iter().map(|by| (by.clone(), "integer".to_owned())));
        let parent = tables
            .iter()
            .find(|parent| parent.name == edge.parents[0].1);
        let of = parent.map_or(&[][..], |parent| parent.key.columns());
        columns.extend(
            edge.columns
                .iter()
                .cloned()
                .zip(of.iter().map(|(_, of)| (*of).to_owned())),
        );
    }
    let rows = (0..table.ids.len())
        .map(|row| self::row(tables, i, row, dirt, dice))
        .collect();
    let unique = unique(&tables[i], dice);
    let table = &mut tables[i];
    (table.columns, table.rows, table.unique) = (columns, rows, unique);
}

/// A text that must be unique in the target: where nothing else keeps rows back, so that it is
/// plain which row is the first that can be moved.
fn unique(table: &Table, dice: &mut Dice) -> Option<usize> {
    let strict = table
        .edges
        .iter()
        .any(|edge| edge.missing == Missing::Quarantine);
    if strict
        || table.shared
        || table.merge.is_some()
        || table.partitions > 0
        || table.key != SourceKey::Integer
        || dice.below(2) == 0
    {
        return None;
    }
    table
        .values
        .iter()
        .position(|value| value.target == "text" && value.source.is_some())
}

fn row(tables: &[Table], i: usize, row: usize, dirt: u64, dice: &mut Dice) -> Vec<String> {
    let table = &tables[i];
    let is_bad = |dice: &mut Dice| dice.below(1_000) < dirt;
    let mut literals = table.ids[row].clone();
    let day = dice.below(12_000);
    let born = format!("timestamptz '1990-01-01Z' + interval '{day} days 00:00:00.{day:06}'");
    literals.push(if is_bad(dice) && is_bad(dice) {
        "null".to_owned()
    } else {
        born
    });
    literals.push(["true", "false", "false", "false", "null"][number(dice.below(5))].to_owned());
    for value in &table.values {
        let Some(pool) = &value.source else { continue };
        let null = if value.not_null {
            is_bad(dice)
        } else {
            dice.below(6) == 0
        };
        let from = if !pool.bad.is_empty() && is_bad(dice) {
            &pool.bad
        } else {
            &pool.good
        };
        literals.push(if null {
            "null".to_owned()
        } else {
            from[number(dice.below(from.len() as u64))].clone()
        });
    }
    for edge in &table.edges {
        let which = number(dice.below(edge.parents.len() as u64));
        if edge.by.is_some() {
            let unknown = dice.below(1_000) < dirt;
            let code = if unknown {
                "99".to_owned()
            } else {
                edge.parents[which].0.to_string()
            };
            literals.push(if is_bad(dice) {
                "null".to_owned()
            } else {
                code
            });
        }
        literals.extend(target_of(tables, table, edge, which, row, dirt, dice));
    }
    literals
}

/// The parent of a row, as literals.
fn target_of(
    tables: &[Table],
    table: &Table,
    edge: &Edge,
    which: usize,
    row: usize,
    dirt: u64,
    dice: &mut Dice,
) -> Vec<String> {
    let nothing = vec!["null".to_owned(); edge.columns.len()];
    let parent = tables
        .iter()
        .find(|parent| parent.name == edge.parents[which].1);
    let Some(parent) = parent else { return nothing };
    let nobody = || match parent.key {
        SourceKey::Integer | SourceKey::Bigint => vec!["987654321".to_owned()],
        SourceKey::Text => vec!["'nobody'".to_owned()],
        SourceKey::Uuid => vec!["'00000000-0000-4000-8000-000000000001'".to_owned()],
        SourceKey::Composite => vec!["'nobody'".to_owned(), "1".to_owned()],
    };
    if matches!(&table.strategy, Strategy::SameAs(_)) && edge.name == "id" {
        // Each parent once; who is beyond them has none.
        return parent.ids.get(row).cloned().unwrap_or_else(nobody);
    }
    let null = if edge.not_null {
        dice.below(1_000) < dirt
    } else {
        dice.below(5) == 0
    };
    if null || (parent.ids.is_empty() && dirt == 0) {
        return nothing;
    }
    if parent.ids.is_empty() || dice.below(1_000) < dirt {
        return nobody();
    }
    parent.ids[number(dice.below(parent.ids.len() as u64))].clone()
}
