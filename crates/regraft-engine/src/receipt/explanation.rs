//! Which statement gives which figure of a receipt.

use std::collections::BTreeMap;

use regraft_ledger::{Account, Figures};
use serde::Serialize;
use serde_json::{Value, json};

use super::{EntityReceipt, Receipt};

/// A statement over the ledger, with the figures of the receipt that it gives.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Its number in this receipt, from 1.
    pub number: usize,
    /// A word for it, the same in every receipt: `run`, `account`, ...
    pub name: &'static str,
    /// What it tells, for people.
    pub title: &'static str,
    /// The statement, whole, to be pasted into psql on the target.
    pub sql: String,
    /// The figures, each with the place in the statement's result where it is found.
    pub figures: Vec<Figure>,
}

/// A figure of a receipt.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The row of the statement's result: columns with the values that tell it apart. Empty where
    /// the result has one row.
    pub row: BTreeMap<&'static str, String>,
    /// The column of that row.
    pub column: &'static str,
    /// What it holds.
    pub value: Value,
}

/// The statements behind a receipt. Tables that are empty have none.
pub fn explain(receipt: &Receipt) -> Vec<Explanation> {
    let parts = [
        (Figures::Run, run(receipt)),
        (Figures::Undone, undone(receipt)),
        (Figures::UndoneTotal, undone_total(receipt)),
        (Figures::Account, accounts(receipt)),
        (Figures::Total, total(receipt)),
        (Figures::Rates, rates(receipt)),
        (Figures::Speed, speed(receipt)),
        (Figures::Filters, filters(receipt)),
        (Figures::Merges, merges(receipt)),
        (Figures::Reasons, reasons(receipt)),
    ];
    parts
        .into_iter()
        .filter(|(_, figures)| !figures.is_empty())
        .enumerate()
        .map(|(at, (statement, figures))| Explanation {
            number: at + 1,
            name: statement.name(),
            title: statement.title(),
            sql: statement.statement(&receipt.run_id),
            figures,
        })
        .collect()
}

/// The figures of one row of a result, without those that have no value.
fn row<const N: usize>(
    key: &[(&'static str, &str)],
    values: [(&'static str, Value); N],
) -> impl Iterator<Item = Figure> {
    let key: BTreeMap<&'static str, String> = key
        .iter()
        .map(|(column, value)| (*column, (*value).to_owned()))
        .collect();
    values
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(move |(column, value)| Figure {
            row: key.clone(),
            column,
            value,
        })
}

fn run(receipt: &Receipt) -> Vec<Figure> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let values = [
        ("run_id", json!(receipt.run_id)),
        ("command", json!(receipt.command)),
        ("status", json!(receipt.status)),
        ("started_at", json!(receipt.started_at)),
        ("finished_at", json!(receipt.finished_at)),
        ("seconds", json!(receipt.seconds)),
        ("project", json!(some(&receipt.project))),
        ("project_hash", json!(some(&receipt.project_hash))),
        ("source_catalog", json!(receipt.source_catalog)),
        ("target_catalog", json!(receipt.target_catalog)),
        ("plan_hash", json!(receipt.plan_hash)),
        ("program_version", json!(some(&receipt.program_version))),
        ("mode", json!(receipt.mode)),
        ("batch_size", json!(receipt.batch_size)),
        ("workers", json!(receipt.workers)),
        ("snapshot", json!(receipt.snapshot)),
    ];
    row(&[], values).collect()
}

/// The columns of an account.
fn buckets(account: &Account) -> [(&'static str, Value); 11] {
    [
        ("source_rows", json!(account.source_rows)),
        ("inserted", json!(account.inserted)),
        ("updated", json!(account.updated)),
        ("unchanged", json!(account.unchanged)),
        ("merged", json!(account.merged)),
        ("filtered", json!(account.filtered)),
        ("quarantined", json!(account.quarantined)),
        ("blocked", json!(account.blocked)),
        ("left_behind", json!(account.quarantined + account.blocked)),
        ("synthesised", json!(account.synthesised)),
        ("changed_in_source", json!(account.detail.changed_in_source)),
    ]
}

fn accounts(receipt: &Receipt) -> Vec<Figure> {
    let figures = |entity: &EntityReceipt| {
        let key = [("entity", entity.entity.as_str())];
        let status = row(&key, [("status", json!(entity.status))]);
        let buckets = row(&key, buckets(&entity.account));
        status.chain(buckets).collect::<Vec<_>>()
    };
    receipt.entities.iter().flat_map(figures).collect()
}

fn total(receipt: &Receipt) -> Vec<Figure> {
    if receipt.entities.is_empty() {
        return Vec::new();
    }
    let values = [
        ("entities", json!(receipt.entities.len())),
        ("accounted", json!(receipt.total.accounted())),
        ("rows_per_second", json!(receipt.rows_per_second)),
    ];
    let buckets = row(&[], buckets(&receipt.total));
    buckets.chain(row(&[], values)).collect()
}

fn rates(receipt: &Receipt) -> Vec<Figure> {
    if receipt.entities.is_empty() {
        return Vec::new();
    }
    let figures = |rate: &super::Rate| {
        let values = [
            ("rows", json!(rate.rows)),
            ("denominator", json!(rate.denominator)),
            ("denominator_rows", json!(rate.denominator_rows)),
            ("percent", json!(rate.percent)),
        ];
        row(&[("rate", rate.rate)], values).collect::<Vec<_>>()
    };
    receipt.rates.iter().flat_map(figures).collect()
}

fn speed(receipt: &Receipt) -> Vec<Figure> {
    let figures = |entity: &EntityReceipt| {
        let values = [
            ("mode", json!(entity.mode)),
            ("batches", json!(entity.batches)),
            ("seconds", json!(entity.seconds)),
            ("rows_per_second", json!(entity.rows_per_second)),
        ];
        row(&[("entity", entity.entity.as_str())], values).collect::<Vec<_>>()
    };
    receipt.entities.iter().flat_map(figures).collect()
}

fn filters(receipt: &Receipt) -> Vec<Figure> {
    let mut figures = Vec::new();
    for entity in &receipt.entities {
        for (name, rows) in &entity.account.detail.filters {
            let key = [("entity", entity.entity.as_str()), ("filter", name)];
            figures.extend(row(&key, [("rows", json!(rows))]));
        }
    }
    figures
}

fn merges(receipt: &Receipt) -> Vec<Figure> {
    let mut figures = Vec::new();
    for entity in &receipt.entities {
        for (rule, rows) in &entity.account.detail.merged {
            let key = [("entity", entity.entity.as_str()), ("rule", rule)];
            figures.extend(row(&key, [("rows", json!(rows))]));
        }
    }
    figures
}

fn reasons(receipt: &Receipt) -> Vec<Figure> {
    let figures = |reason: &regraft_ledger::RunReason| {
        let key = [
            ("entity", reason.entity.as_str()),
            ("reason", reason.reason.as_str()),
        ];
        let values = [
            ("parent", json!(reason.parent)),
            ("rows", json!(reason.rows)),
            ("open_now", json!(reason.open_now)),
            ("examples", json!(reason.examples)),
        ];
        row(&key, values).collect::<Vec<_>>()
    };
    receipt.reasons.iter().flat_map(figures).collect()
}

fn undone(receipt: &Receipt) -> Vec<Figure> {
    let figures = |part: &super::Undone| {
        let values = [
            ("target_table", json!(part.target_table)),
            ("rows", json!(part.rows)),
            ("put_back", json!(part.put_back)),
            ("brought_back", json!(part.brought_back)),
            ("left", json!(part.left)),
            ("quarantine", json!(part.quarantine)),
            ("runs", json!(part.runs)),
        ];
        row(&[("entity", part.entity.as_str())], values).collect::<Vec<_>>()
    };
    receipt.undone.iter().flat_map(figures).collect()
}

fn undone_total(receipt: &Receipt) -> Vec<Figure> {
    if receipt.undone.is_empty() {
        return Vec::new();
    }
    let parts = &receipt.undone;
    let sum = |of: fn(&super::Undone) -> u64| json!(parts.iter().map(of).sum::<u64>());
    let values = [
        ("entities", json!(parts.len())),
        ("rows", sum(|part| part.rows)),
        ("put_back", sum(|part| part.put_back)),
        ("brought_back", sum(|part| part.brought_back)),
        ("left", sum(|part| part.left)),
        ("quarantine", sum(|part| part.quarantine)),
    ];
    row(&[], values).collect()
}
