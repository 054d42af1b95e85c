//! The receipt: what became of every source row.

mod chart;
pub(super) mod html;
pub(super) mod markdown;
pub(super) mod report;

use std::collections::BTreeMap;

use regraft_engine::{EntityReceipt, Explanation, Outcome, Receipt};
use regraft_ledger::{Account, Detail, RunReason};
use regraft_project::{Budget, Limits};

pub(crate) use html::html;
pub(crate) use markdown::markdown;

use super::reasons::{self, Reason};
use super::rollback;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};

/// Reasons that a receipt shows at most.
const REASONS: usize = 15;

/// What is said of a run that has no account.
const NOTHING: &str = "this run read no source rows: there is nothing to account for";

/// What the statements are for.
const STATEMENTS: &str = "Each statement can be pasted into psql on the target as it stands. Its \
    columns bear the names of the figures; times, rates and shares are rounded in this receipt, and \
    whole in the statement's result.";

/// The receipt for people, in lines of at most `width` characters.
pub(crate) fn render(receipt: &Receipt, width: usize) -> String {
    explained(receipt, None, width)
}

/// The same, with the statements behind its figures.
pub(crate) fn explained(
    receipt: &Receipt,
    explanations: Option<&[Explanation]>,
    width: usize,
) -> String {
    let mark = Marks(explanations);
    let mut out = head(receipt, &mark);
    if !receipt.undone.is_empty() {
        let title = format!("what was undone{}", mark.of(&["undone", "undone_total"]));
        out.push_str(&format!("\n{}\n", paint(style::HEADING, title)));
        out.push_str(&rollback::undone(&receipt.undone, width));
    } else if receipt.entities.is_empty() && receipt.total.source_rows == 0 {
        out.push_str(&format!("\n{NOTHING}\n"));
    } else {
        if explanations.is_some() {
            let title = format!("the account{}", mark.of(&["account", "total", "speed"]));
            out.push_str(&format!("\n{}", paint(style::HEADING, title)));
        }
        out.push('\n');
        out.push_str(&entities(receipt, width));
        out.push('\n');
        out.push_str(&identity(&receipt.total, receipt.dry_run, width));
        let title = format!("filtered by rule{}", mark.of(&["filters"]));
        out.push_str(&by_rule(receipt, "filter", title, |d| &d.filters, width));
        let title = format!("merged by rule{}", mark.of(&["merges"]));
        out.push_str(&by_rule(receipt, "rule", title, |d| &d.merged, width));
        out.push_str(&made_up(receipt, width));
        if !receipt.reasons.is_empty() {
            out.push_str(&left_behind(receipt, &mark, width));
        }
    }
    if let Some(explanations) = explanations {
        out.push_str(&statements(explanations, width));
    }
    out
}

/// The numbers of the statements, where they are shown.
struct Marks<'a>(Option<&'a [Explanation]>);

impl Marks<'_> {
    /// ` [2] [3]`, or nothing.
    fn of(&self, names: &[&str]) -> String {
        self.0
            .into_iter()
            .flatten()
            .filter(|explanation| names.contains(&explanation.name))
            .map(|explanation| format!(" [{}]", explanation.number))
            .collect()
    }
}

fn statements(explanations: &[Explanation], width: usize) -> String {
    let mut out = format!(
        "\n{}\n{}\n",
        paint(style::HEADING, "where the figures come from"),
        figures::wrap(STATEMENTS, width, 0)
    );
    for explanation in explanations {
        out.push_str(&format!(
            "\n{} {}\n{}\n",
            paint(style::HEADING, format!("[{}]", explanation.number)),
            explanation.title,
            explanation.sql
        ));
    }
    out
}

/// What to type after reading a receipt, and why.
pub(crate) fn next(receipt: &Receipt, explained: bool) -> Vec<(String, &'static str)> {
    let mut steps: Vec<(String, &'static str)> = Vec::new();
    match receipt.status.as_str() {
        "running" | "interrupted" | "failed" => {
            steps.push(("regraft status".to_owned(), "where it stands"));
            steps.push((format!("regraft {}", receipt.command), "go on"));
        }
        "rolled_back" => steps.push(("regraft plan".to_owned(), "what a new migration would do")),
        _ if receipt.command == "rollback" => {
            steps.push(("regraft status".to_owned(), "how far each entity is now"));
        }
        _ => {
            if receipt.reasons.iter().any(|reason| reason.open_now > 0) {
                let why = "the rows left behind, and what to do about them";
                steps.push(("regraft quarantine list".to_owned(), why));
            }
            let why = "prove from both databases that the rest is complete and right";
            steps.push(("regraft validate".to_owned(), why));
        }
    }
    if !explained {
        let command = format!("regraft receipt {} --explain", receipt.run_id);
        steps.push((command, "the SQL behind every figure"));
    }
    steps
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

/// What trying rows of the quarantine again came to.
pub(crate) fn retried(outcome: &Outcome, width: usize) -> String {
    let mut out = render(&outcome.receipt, width);
    let total = &outcome.receipt.total;
    let left = total.quarantined + total.blocked;
    let line = if left == 0 {
        let moved = figures::counted(total.inserted + total.merged, "row");
        format!(
            "{} {moved} moved, none stayed behind",
            paint(style::GOOD, "✓")
        )
    } else {
        let text = format!(
            "{} of {} stayed behind",
            figures::count(left),
            figures::counted(total.source_rows, "row")
        );
        format!("{} {text}", paint(style::BAD, "✗"))
    };
    out.push_str(&format!("\n{line}\n"));
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

fn head(receipt: &Receipt, mark: &Marks<'_>) -> String {
    let title = if receipt.dry_run {
        format!("{}: what a run would do", paint(style::CAUTION, "DRY RUN"))
    } else {
        let run = paint(style::HEADING, &receipt.run_id);
        format!("receipt of {run}{}", mark.of(&["run"]))
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

/// The account as a sum that can be added up by hand, with a mark for whether it is right.
fn identity(total: &Account, dry_run: bool, width: usize) -> String {
    let mark = match total.balances() {
        true => paint(style::GOOD, "✓"),
        false => paint(style::BAD, "✗"),
    };
    let words = sum(total, dry_run);
    format!(
        "{mark} {}\n",
        figures::wrap(&words, width.saturating_sub(2), 2)
    )
}

/// The account in one sentence.
fn sum(total: &Account, dry_run: bool) -> String {
    let mut parts: Vec<String> = report::buckets(total)
        .iter()
        .filter(|(_, rows)| *rows != 0)
        .map(|(name, rows)| format!("{} {name}", figures::count(*rows)))
        .collect();
    if parts.is_empty() {
        parts.push("0".to_owned());
    }
    let rows = figures::counted(total.source_rows, "source row");
    let sum = parts.join(" + ");
    if total.balances() {
        let every = match dry_run {
            true => "every row would be accounted for",
            false => "every row is accounted for",
        };
        return format!("{rows} = {sum}: {every}");
    }
    let off = total.source_rows - total.accounted();
    format!(
        "{rows}, but {sum} is {}: THE ACCOUNT DOES NOT BALANCE, {} off",
        figures::count(total.accounted()),
        figures::count(off.abs())
    )
}

/// Rows that rules of the project took, by entity and rule.
fn by_rule(
    receipt: &Receipt,
    head: &str,
    title: String,
    named: impl Fn(&Detail) -> &BTreeMap<String, i64>,
    width: usize,
) -> String {
    let mut table = Table::new().text("entity").number("rows").text(head);
    let mut any = false;
    for entity in &receipt.entities {
        for (name, rows) in named(&entity.account.detail) {
            any = true;
            table.row(vec![text(&entity.entity), count(*rows), text(name)]);
        }
    }
    if !any {
        return String::new();
    }
    format!(
        "\n{}\n{}",
        paint(style::HEADING, title),
        table.render(width, 2)
    )
}

/// Values and differences that deserve a line of their own.
fn made_up(receipt: &Receipt, width: usize) -> String {
    let lines: String = deserving_a_line(receipt)
        .iter()
        .map(|line| format!("! {}\n", figures::wrap(line, width.saturating_sub(2), 2)))
        .collect();
    match lines.is_empty() {
        true => lines,
        false => format!("\n{lines}"),
    }
}

fn deserving_a_line(receipt: &Receipt) -> Vec<String> {
    let mut lines = Vec::new();
    for entity in &receipt.entities {
        let account = &entity.account;
        if account.synthesised > 0 {
            lines.push(format!(
                "{}: {} made up by an explicit rule of the project: no source row holds them",
                entity.entity,
                figures::counted(account.synthesised, "value"),
            ));
        }
        if account.detail.changed_in_source > 0 {
            lines.push(format!(
                "{}: {} changed in the source since they were migrated; a migration does not overwrite them",
                entity.entity,
                figures::counted(account.detail.changed_in_source, "row"),
            ));
        }
    }
    lines
}

/// The reasons that most rows have; all of them are for `quarantine list`.
fn left_behind(receipt: &Receipt, mark: &Marks<'_>, width: usize) -> String {
    let all = &receipt.reasons;
    let mut most: Vec<&RunReason> = all.iter().collect();
    most.sort_by_key(|reason| std::cmp::Reverse(reason.rows));
    most.truncate(REASONS);
    let position = |reason: &RunReason| {
        receipt
            .entities
            .iter()
            .position(|entity| entity.entity == reason.entity)
    };
    most.sort_by_key(|reason| position(reason));
    let title = format!("left behind, by reason{}", mark.of(&["reasons"]));
    let lines = most.iter().map(|reason| Reason {
        entity: &reason.entity,
        rows: reason.rows,
        code: reason.code(),
        place: reason.place(),
        parent: reason.parent.as_deref(),
        examples: &reason.examples,
        open: reason.open_now,
    });
    let mut out = format!(
        "\n{}\n{}",
        paint(style::HEADING, title),
        reasons::table(lines, width)
    );
    if all.len() > most.len() {
        let more = figures::counted((all.len() - most.len()) as u64, "more reason");
        let command = paint(style::LITERAL, "regraft quarantine list");
        out.push_str(&format!("  … and {more} with fewer rows: {command}\n"));
    }
    out.push_str(&reasons::what_to_do(
        most.iter().map(|reason| reason.code()),
        width,
    ));
    out
}

#[cfg(test)]
mod tests;
