//! The receipt: what became of every source row.

use regraft_engine::{EntityReceipt, Outcome, Receipt};
use regraft_ledger::{Account, ReasonCount};
use regraft_project::{Budget, Limits};

use super::quarantine;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};

/// Reasons that a receipt shows at most.
const REASONS: usize = 15;

/// The receipt for people, in lines of at most `width` characters.
pub(crate) fn render(receipt: &Receipt, width: usize) -> String {
    let mut out = head(receipt);
    if receipt.entities.is_empty() && receipt.total.source_rows == 0 {
        out.push_str("\nthis run read no source rows: there is nothing to account for\n");
        return out;
    }
    out.push('\n');
    out.push_str(&entities(receipt, width));
    out.push('\n');
    out.push_str(&identity(&receipt.total, receipt.dry_run, width));
    out.push_str(&filters(receipt, width));
    out.push_str(&made_up(receipt, width));
    if !receipt.quarantine.is_empty() {
        out.push_str(&left_behind(receipt, width));
    }
    out
}

/// The receipt of a migration that just ended, with what it came to.
pub(crate) fn outcome(outcome: &Outcome, limits: &Limits, width: usize) -> String {
    let mut out = render(&outcome.receipt, width);
    if outcome.nothing_to_do {
        out.push_str("\nNothing to do: every row that can be moved is in place already\n");
    }
    if !outcome.within_budget {
        let line = figures::wrap(&over_budget(outcome, limits), width.saturating_sub(2), 2);
        out.push_str(&format!("\n{} {line}\n", paint(style::BAD, "✗")));
    }
    if outcome.receipt.dry_run {
        let mark = paint(style::CAUTION, "DRY RUN");
        out.push_str(&format!("\n{mark}: No changes were made\n"));
    }
    out
}

/// Which entities left more behind than the project's budget allows.
pub(crate) fn over_budget(outcome: &Outcome, limits: &Limits) -> String {
    let budget = match limits.quarantine {
        Budget::Rows(rows) => figures::counted(rows, "row"),
        Budget::Fraction(part) => format!("{}% of the source rows", part * 100.0),
    };
    let entities: Vec<String> = outcome
        .receipt
        .entities
        .iter()
        .filter(|entity| outcome.over_budget.contains(&entity.entity))
        .map(|entity| {
            let account = &entity.account;
            format!(
                "{} {} of {}",
                entity.entity,
                figures::count(account.quarantined + account.blocked),
                figures::count(account.source_rows)
            )
        })
        .collect();
    format!(
        "more rows left behind than the project's budget of {budget} of an entity allows: {}",
        figures::list(&entities)
    )
}

fn head(receipt: &Receipt) -> String {
    let title = if receipt.dry_run {
        format!("{}: what a run would do", paint(style::CAUTION, "DRY RUN"))
    } else {
        format!("receipt of {}", paint(style::HEADING, &receipt.run_id))
    };
    let mut facts = Vec::new();
    if !receipt.project.is_empty() {
        facts.push(format!("project {}", receipt.project));
    }
    facts.push(figures::moment(&receipt.started_at));
    if let Some(seconds) = receipt.seconds {
        facts.push(figures::duration(seconds));
    }
    if !receipt.dry_run {
        facts.push(status(&receipt.status));
    }
    format!("{title}\n{}\n", facts.join(" · "))
}

/// A status in words, coloured.
pub(crate) fn status(status: &str) -> String {
    let words = status.replace('_', " ");
    match status {
        "done" => paint(style::GOOD, words),
        "failed" => paint(style::BAD, words),
        "interrupted" | "running" => paint(style::CAUTION, words),
        _ => words,
    }
}

/// How a status colours a table's cell.
pub(crate) fn status_tone(status: &str) -> Tone {
    match status {
        "done" => Tone::Good,
        "failed" => Tone::Bad,
        "interrupted" | "running" => Tone::Caution,
        _ => Tone::Plain,
    }
}

/// Which of the buckets that are mostly empty have a column.
struct Shown {
    updated: bool,
    unchanged: bool,
    merged: bool,
    filtered: bool,
    quarantined: bool,
    blocked: bool,
    status: bool,
}

impl Shown {
    fn of(receipt: &Receipt) -> Self {
        let total = &receipt.total;
        Self {
            updated: total.updated != 0,
            unchanged: total.unchanged != 0,
            merged: total.merged != 0,
            filtered: total.filtered != 0,
            quarantined: total.quarantined != 0,
            blocked: total.blocked != 0,
            status: receipt
                .entities
                .iter()
                .any(|entity| entity.status != "done"),
        }
    }
}

fn entities(receipt: &Receipt, width: usize) -> String {
    let shown = Shown::of(receipt);
    let mut table = Table::new()
        .text("entity")
        .number("source rows")
        .number("inserted")
        .number_if(shown.updated, "updated")
        .number_if(shown.unchanged, "unchanged")
        .number_if(shown.merged, "merged")
        .number_if(shown.filtered, "filtered")
        .number_if(shown.quarantined, "quarantined")
        .number_if(shown.blocked, "blocked")
        .number("rows/s")
        .optional()
        .number("time");
    if shown.status {
        table = table.text("status");
    }
    for entity in &receipt.entities {
        table.row(entity_cells(entity, &shown));
    }
    if receipt.entities.len() > 1 {
        table.total(total_cells(receipt, &shown));
    }
    table.render(width, 2)
}

fn entity_cells(entity: &EntityReceipt, shown: &Shown) -> Vec<(String, Tone)> {
    let mut cells = vec![text(&entity.entity)];
    cells.extend(buckets(&entity.account, shown));
    cells.push(text(
        entity
            .rows_per_second
            .map(figures::rate)
            .unwrap_or_default(),
    ));
    cells.push(text(
        entity.seconds.map(figures::duration).unwrap_or_default(),
    ));
    if shown.status {
        cells.push((entity.status.replace('_', " "), status_tone(&entity.status)));
    }
    cells
}

fn total_cells(receipt: &Receipt, shown: &Shown) -> Vec<(String, Tone)> {
    let mut cells = vec![("total".to_owned(), Tone::Strong)];
    cells.extend(buckets(&receipt.total, shown));
    let seconds = receipt.seconds.filter(|seconds| *seconds > 0.0);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = seconds.map(|seconds| receipt.total.source_rows as f64 / seconds);
    cells.push(text(rate.map(figures::rate).unwrap_or_default()));
    cells.push(text(seconds.map(figures::duration).unwrap_or_default()));
    if shown.status {
        cells.push(text(""));
    }
    cells
}

fn buckets(account: &Account, shown: &Shown) -> Vec<(String, Tone)> {
    let mut cells = vec![count(account.source_rows), count(account.inserted)];
    for (wanted, number) in [
        (shown.updated, account.updated),
        (shown.unchanged, account.unchanged),
        (shown.merged, account.merged),
        (shown.filtered, account.filtered),
    ] {
        if wanted {
            cells.push(count(number));
        }
    }
    for (wanted, number) in [
        (shown.quarantined, account.quarantined),
        (shown.blocked, account.blocked),
    ] {
        if wanted {
            cells.push(worry(number));
        }
    }
    cells
}

/// The account as a sum that can be added up by hand.
fn identity(total: &Account, dry_run: bool, width: usize) -> String {
    let buckets = [
        (total.inserted, "inserted"),
        (total.updated, "updated"),
        (total.unchanged, "unchanged"),
        (total.merged, "merged"),
        (total.filtered, "filtered"),
        (total.quarantined, "quarantined"),
        (total.blocked, "blocked"),
    ];
    let mut parts: Vec<String> = buckets
        .iter()
        .filter(|(rows, _)| *rows != 0)
        .map(|(rows, name)| format!("{} {name}", figures::count(*rows)))
        .collect();
    if parts.is_empty() {
        parts.push("0".to_owned());
    }
    let rows = figures::counted(total.source_rows, "source row");
    let sum = parts.join(" + ");
    let (mark, words) = if total.balances() {
        let every = if dry_run {
            "every row would be accounted for"
        } else {
            "every row is accounted for"
        };
        (paint(style::GOOD, "✓"), format!("{rows} = {sum}: {every}"))
    } else {
        let off = total.source_rows - total.accounted();
        (
            paint(style::BAD, "✗"),
            format!(
                "{rows}, but {sum} is {}: THE ACCOUNT DOES NOT BALANCE, {} off",
                figures::count(total.accounted()),
                figures::count(off.abs())
            ),
        )
    };
    format!(
        "{mark} {}\n",
        figures::wrap(&words, width.saturating_sub(2), 2)
    )
}

fn filters(receipt: &Receipt, width: usize) -> String {
    let mut table = Table::new().text("entity").number("rows").text("filter");
    let mut any = false;
    for entity in &receipt.entities {
        for (name, rows) in &entity.account.detail.filters {
            any = true;
            table.row(vec![text(&entity.entity), count(*rows), text(name)]);
        }
    }
    if !any {
        return String::new();
    }
    format!(
        "\n{}\n{}",
        paint(style::HEADING, "filtered by rule"),
        table.render(width, 2)
    )
}

/// Values and differences that deserve a line of their own.
fn made_up(receipt: &Receipt, width: usize) -> String {
    let mut out = String::new();
    for entity in &receipt.entities {
        let account = &entity.account;
        if account.synthesised > 0 {
            let line = format!(
                "{}: {} made up by an explicit rule of the project: no source row holds them",
                entity.entity,
                figures::counted(account.synthesised, "value"),
            );
            out.push_str(&format!(
                "! {}\n",
                figures::wrap(&line, width.saturating_sub(2), 2)
            ));
        }
        if account.detail.changed_in_source > 0 {
            let line = format!(
                "{}: {} changed in the source since they were migrated; a migration does not overwrite them",
                entity.entity,
                figures::counted(account.detail.changed_in_source, "row"),
            );
            out.push_str(&format!(
                "! {}\n",
                figures::wrap(&line, width.saturating_sub(2), 2)
            ));
        }
    }
    if out.is_empty() {
        out
    } else {
        format!("\n{out}")
    }
}

/// The reasons that most rows have; all of them are for `quarantine list`.
fn left_behind(receipt: &Receipt, width: usize) -> String {
    let all = quarantine::merged(&receipt.quarantine);
    let mut most: Vec<&ReasonCount> = all.iter().collect();
    most.sort_by_key(|reason| std::cmp::Reverse(reason.rows));
    most.truncate(REASONS);
    let position = |reason: &ReasonCount| {
        receipt
            .entities
            .iter()
            .position(|entity| entity.entity == reason.entity)
    };
    most.sort_by_key(|reason| position(reason));
    let mut out = format!(
        "\n{}\n{}",
        paint(style::HEADING, "left behind, by reason"),
        quarantine::table(&most, width)
    );
    if all.len() > most.len() {
        let more = figures::counted((all.len() - most.len()) as u64, "more reason");
        let command = paint(style::LITERAL, "regraft quarantine list");
        out.push_str(&format!("  … and {more} with fewer rows: {command}\n"));
    }
    out.push_str(&quarantine::what_to_do(
        most.iter().map(|reason| reason.code.as_str()),
        width,
    ));
    out
}

#[cfg(test)]
mod tests;
