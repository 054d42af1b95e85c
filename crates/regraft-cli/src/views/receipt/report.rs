//! What a written receipt says, before it becomes Markdown or HTML: facts, tables, remarks.

use std::collections::BTreeMap;

use regraft_engine::{Explanation, Rate, Receipt, Undone};
use regraft_ledger::{Account, Detail};

use crate::figures;
use crate::views::reasons::{advice, phrase, words};
use crate::views::written::prose;

/// A written receipt.
pub(super) struct Report<'a> {
    /// What kind of run it is the receipt of.
    pub(super) title: &'static str,
    /// What the run was: name and value.
    pub(super) facts: Vec<(&'static str, Cell)>,
    /// Whether every row is accounted for.
    pub(super) balances: bool,
    /// The account in one sentence.
    pub(super) verdict: String,
    /// Its parts, in order.
    pub(super) sections: Vec<Section>,
    /// Commands to type next, and why.
    pub(super) next: Vec<(String, &'static str)>,
    /// The statements behind the figures, where they were asked for.
    pub(super) explanations: Option<&'a [Explanation]>,
}

/// What a section is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Undone,
    Account,
    Rates,
    Rules,
    Reasons,
    Advice,
    Notes,
    Time,
}

/// A part of a receipt.
pub(super) struct Section {
    pub(super) topic: Topic,
    pub(super) title: &'static str,
    /// Sentences before the table.
    pub(super) remarks: Vec<String>,
    pub(super) table: Option<Grid>,
    /// Names of the statements that give its figures.
    pub(super) statements: &'static [&'static str],
}

/// A table.
pub(crate) struct Grid {
    /// Heads, and whether the column holds numbers.
    pub(crate) heads: Vec<(&'static str, bool)>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Whether the last row is the total.
    pub(crate) total: bool,
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// Words of this program's own, in which backquotes mark what can be typed.
    Prose(&'static str),
    /// A name, an id, something to type.
    Code(String),
    /// Several of these.
    Codes(Vec<String>),
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn code(text: &str) -> Self {
        Self::Code(text.to_owned())
    }

    pub(crate) fn count(number: impl Into<i128>) -> Self {
        Self::Text(figures::count(number))
    }

    /// The cell in a document whose words and spans of code are written so.
    pub(super) fn written(
        &self,
        words: impl Fn(&str) -> String,
        code: impl Fn(&str) -> String,
    ) -> String {
        match self {
            Self::Text(text) => words(text),
            Self::Prose(text) => prose(text, words, code),
            Self::Code(text) => code(text),
            Self::Codes(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| code(text)).collect();
                texts.join(", ")
            }
        }
    }
}

impl Report<'_> {
    /// The numbers of the statements with these names.
    pub(super) fn numbers(&self, names: &[&str]) -> Vec<usize> {
        self.explanations
            .into_iter()
            .flatten()
            .filter(|explanation| names.contains(&explanation.name))
            .map(|explanation| explanation.number)
            .collect()
    }
}

/// The receipt as it is written.
pub(super) fn of<'a>(receipt: &Receipt, explanations: Option<&'a [Explanation]>) -> Report<'a> {
    let rollback = receipt.command == "rollback";
    let sections = [
        undone(receipt),
        account(receipt),
        rates(receipt),
        reasons(receipt),
        advices(receipt),
        filters(receipt),
        merges(receipt),
        notes(receipt),
        time(receipt),
    ];
    Report {
        title: if rollback {
            "Receipt of a rollback"
        } else {
            "Receipt of a migration"
        },
        facts: facts(receipt),
        balances: receipt.total.balances(),
        verdict: verdict(receipt),
        sections: sections.into_iter().flatten().collect(),
        next: super::next(receipt, explanations.is_some()),
        explanations,
    }
}

fn facts(receipt: &Receipt) -> Vec<(&'static str, Cell)> {
    let code = |text: &str| (!text.is_empty()).then(|| Cell::code(text));
    let number = |number: Option<i64>| number.map(Cell::count);
    let all = [
        ("run", code(&receipt.run_id)),
        ("command", code(&format!("regraft {}", receipt.command))),
        ("status", Some(Cell::text(receipt.status.replace('_', " ")))),
        (
            "started",
            Some(Cell::text(figures::moment(&receipt.started_at))),
        ),
        (
            "finished",
            receipt
                .finished_at
                .as_deref()
                .map(|at| Cell::text(figures::moment(at))),
        ),
        (
            "took",
            receipt.seconds.map(|s| Cell::text(figures::duration(s))),
        ),
        (
            "project",
            (!receipt.project.is_empty()).then(|| Cell::text(&receipt.project)),
        ),
        ("project hash", code(&receipt.project_hash)),
        (
            "source catalog",
            receipt.source_catalog.as_deref().and_then(code),
        ),
        (
            "target catalog",
            receipt.target_catalog.as_deref().and_then(code),
        ),
        ("plan hash", receipt.plan_hash.as_deref().and_then(code)),
        ("program version", code(&receipt.program_version)),
        ("mode", receipt.mode.as_deref().map(Cell::text)),
        ("batch size", number(receipt.batch_size)),
        ("workers", number(receipt.workers)),
        ("snapshot", receipt.snapshot.as_deref().and_then(code)),
    ];
    all.into_iter()
        .filter_map(|(name, cell)| Some((name, cell?)))
        .collect()
}

fn verdict(receipt: &Receipt) -> String {
    if !receipt.undone.is_empty() {
        let sum = |of: fn(&Undone) -> u64| receipt.undone.iter().map(of).sum::<u64>();
        let mut text = format!(
            "{} deleted from {}",
            figures::counted(sum(|part| part.rows), "row"),
            figures::counted(receipt.undone.len() as u64, "entity")
        );
        for (rows, what) in [
            (sum(|part| part.put_back), "put back"),
            (sum(|part| part.brought_back), "brought back"),
            (sum(|part| part.left), "left"),
        ] {
            if rows > 0 {
                text.push_str(&format!(", {} {what}", figures::count(rows)));
            }
        }
        return text;
    }
    if receipt.entities.is_empty() {
        return super::NOTHING.to_owned();
    }
    super::sum(&receipt.total, receipt.dry_run)
}

/// A figure of what was undone of an entity.
type Figure = fn(&Undone) -> u64;

fn undone(receipt: &Receipt) -> Option<Section> {
    if receipt.undone.is_empty() {
        return None;
    }
    let parts = &receipt.undone;
    // Figures that are zero throughout are left out, but for the first.
    let figures: Vec<(&str, Figure)> = [
        ("rows deleted", (|part| part.rows) as Figure),
        ("rows put back", |part| part.put_back),
        ("rows brought back", |part| part.brought_back),
        ("rows left", |part| part.left),
    ]
    .into_iter()
    .enumerate()
    .filter(|(at, (_, of))| *at == 0 || parts.iter().any(|part| of(part) > 0))
    .map(|(_, figure)| figure)
    .collect();
    let mut rows: Vec<Vec<Cell>> = parts
        .iter()
        .map(|part| {
            let mut cells = vec![Cell::code(&part.entity), Cell::code(&part.target_table)];
            cells.extend(figures.iter().map(|(_, of)| Cell::count(of(part))));
            cells.push(Cell::count(part.quarantine));
            cells.push(Cell::Codes(part.runs.clone()));
            cells
        })
        .collect();
    let mut total = vec![Cell::text("total"), Cell::text("")];
    let sum = |of: fn(&Undone) -> u64| parts.iter().map(of).sum::<u64>();
    total.extend(figures.iter().map(|(_, of)| Cell::count(sum(*of))));
    total.push(Cell::count(sum(|part| part.quarantine)));
    total.push(Cell::text(""));
    rows.push(total);
    let mut heads = vec![("entity", false), ("table", false)];
    heads.extend(figures.iter().map(|(head, _)| (*head, true)));
    heads.push(("quarantine entries deleted", true));
    heads.push(("written by", false));
    Some(Section {
        topic: Topic::Undone,
        title: "What was undone",
        remarks: vec!["In this order, children first.".to_owned()],
        table: Some(Grid {
            heads,
            rows,
            total: true,
        }),
        statements: &["undone", "undone_total"],
    })
}

/// The buckets of an account, by name.
pub(super) fn buckets(account: &Account) -> [(&'static str, i64); 7] {
    [
        ("inserted", account.inserted),
        ("updated", account.updated),
        ("unchanged", account.unchanged),
        ("merged", account.merged),
        ("filtered", account.filtered),
        ("quarantined", account.quarantined),
        ("blocked", account.blocked),
    ]
}

fn account(receipt: &Receipt) -> Option<Section> {
    if receipt.entities.is_empty() {
        return None;
    }
    let totals = buckets(&receipt.total);
    let status = receipt.entities.iter().any(|e| e.status != "done");
    let synthesised = receipt.total.synthesised != 0;
    let mut heads = vec![("entity", false), ("source rows", true)];
    let held = totals.iter().filter(|(_, rows)| *rows != 0);
    heads.extend(held.map(|(name, _)| (*name, true)));
    if synthesised {
        heads.push(("synthesised values", true));
    }
    if status {
        heads.push(("status", false));
    }
    let row = |name: Cell, account: &Account, state: &str| {
        let mut cells = vec![name, Cell::count(account.source_rows)];
        let shown = buckets(account).into_iter().zip(&totals);
        let shown = shown.filter(|(_, (_, total))| *total != 0);
        cells.extend(shown.map(|((_, rows), _)| Cell::count(rows)));
        if synthesised {
            cells.push(Cell::count(account.synthesised));
        }
        if status {
            cells.push(Cell::text(state.replace('_', " ")));
        }
        cells
    };
    let mut rows: Vec<Vec<Cell>> = receipt
        .entities
        .iter()
        .map(|entity| row(Cell::code(&entity.entity), &entity.account, &entity.status))
        .collect();
    rows.push(row(Cell::text("total"), &receipt.total, ""));
    Some(Section {
        topic: Topic::Account,
        title: "The account",
        remarks: vec![account_in_words(receipt)],
        table: Some(Grid {
            heads,
            rows,
            total: true,
        }),
        statements: &["account", "total"],
    })
}

/// How to read the account, and which of its columns are not shown.
fn account_in_words(receipt: &Receipt) -> String {
    let mut text = String::from(
        "Every source row is in exactly one bucket: source rows = inserted + updated + unchanged + \
         merged by a rule + filtered by a rule + quarantined + blocked by a parent.",
    );
    let empty: Vec<&str> = buckets(&receipt.total)
        .into_iter()
        .filter(|(_, rows)| *rows == 0)
        .map(|(name, _)| name)
        .collect();
    if !empty.is_empty() {
        text.push_str(&format!(" 0 in every entity: {}.", figures::list(&empty)));
    }
    text.push_str(match receipt.total.synthesised {
        0 => " Synthesised values, which no source row holds: 0.",
        _ => {
            " Synthesised values are no rows: they are values that no source row holds, by an \
             explicit rule of the project."
        }
    });
    text
}

fn rates(receipt: &Receipt) -> Option<Section> {
    if receipt.total.source_rows == 0 {
        return None;
    }
    let rows = receipt
        .rates
        .iter()
        .map(|rate| {
            vec![
                Cell::text(rate.rate),
                Cell::count(rate.rows),
                Cell::text(format!(
                    "{} {}",
                    figures::count(rate.denominator_rows),
                    rate.denominator
                )),
                Cell::text(percent(rate)),
            ]
        })
        .collect();
    Some(Section {
        topic: Topic::Rates,
        title: "Rates",
        remarks: vec![
            "Rows to move are the source rows that no filter drops. In place are those that were \
             inserted, updated, unchanged or merged; left behind, quarantined or blocked."
                .to_owned(),
        ],
        table: Some(Grid {
            heads: vec![
                ("rate", false),
                ("rows", true),
                ("of", true),
                ("share", true),
            ],
            rows,
            total: false,
        }),
        statements: &["rates"],
    })
}

/// A share that is 100 % only when it is all, and 0 % only when it is nothing.
pub(super) fn percent(rate: &Rate) -> String {
    let Some(percent) = rate.percent else {
        return "none to count".to_owned();
    };
    let shown = format!("{percent:.2}");
    match shown.as_str() {
        "100.00" if rate.rows != rate.denominator_rows => "over 99.99 %".to_owned(),
        "0.00" if rate.rows != 0 => "under 0.01 %".to_owned(),
        "100.00" => "100 %".to_owned(),
        "0.00" => "0 %".to_owned(),
        _ => format!("{shown} %"),
    }
}

fn filters(receipt: &Receipt) -> Option<Section> {
    Some(Section {
        topic: Topic::Rules,
        title: "Filtered, by rule",
        remarks: vec![
            "A row counts under the first filter of its entity that drops it.".to_owned(),
        ],
        table: Some(rules(receipt, "filter", |detail| &detail.filters)?),
        statements: &["filters"],
    })
}

fn merges(receipt: &Receipt) -> Option<Section> {
    Some(Section {
        topic: Topic::Rules,
        title: "Merged, by rule",
        remarks: vec![
            "Rows that became one row of the target with others: their legacy ids lead to it."
                .to_owned(),
        ],
        table: Some(rules(receipt, "rule", |detail| &detail.merged)?),
        statements: &["merges"],
    })
}

/// Rows by the name of the rule that took them; none where there is no such row.
fn rules(
    receipt: &Receipt,
    head: &'static str,
    named: impl Fn(&Detail) -> &BTreeMap<String, i64>,
) -> Option<Grid> {
    let mut rows = Vec::new();
    for entity in &receipt.entities {
        for (name, taken) in named(&entity.account.detail) {
            rows.push(vec![
                Cell::code(&entity.entity),
                Cell::code(name),
                Cell::count(*taken),
            ]);
        }
    }
    (!rows.is_empty()).then(|| Grid {
        heads: vec![("entity", false), (head, false), ("rows", true)],
        rows,
        total: false,
    })
}

fn reasons(receipt: &Receipt) -> Option<Section> {
    let rows: Vec<Vec<Cell>> = receipt
        .reasons
        .iter()
        .map(|reason| {
            vec![
                Cell::code(&reason.entity),
                Cell::text(phrase(
                    reason.code(),
                    reason.place(),
                    reason.parent.as_deref(),
                )),
                Cell::code(reason.code()),
                Cell::count(reason.rows),
                Cell::count(reason.open_now),
                Cell::Codes(reason.examples.clone()),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| Section {
        topic: Topic::Reasons,
        title: "Left behind, by reason",
        remarks: vec![
            "Rows as the run counted them; open now is what the quarantine holds at the moment of \
             this receipt. A row with several reasons counts under each. Examples are legacy ids \
             of rows that are open now, five at most."
                .to_owned(),
        ],
        table: Some(Grid {
            heads: vec![
                ("entity", false),
                ("reason", false),
                ("code", false),
                ("rows", true),
                ("open now", true),
                ("examples", false),
            ],
            rows,
            total: false,
        }),
        statements: &["reasons"],
    })
}

fn advices(receipt: &Receipt) -> Option<Section> {
    let mut codes: Vec<&str> = receipt.reasons.iter().map(|reason| reason.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    let rows = codes
        .iter()
        .map(|code| {
            vec![
                Cell::code(code),
                Cell::text(words(code)),
                Cell::Prose(advice(code)),
            ]
        })
        .collect();
    (!codes.is_empty()).then(|| Section {
        topic: Topic::Advice,
        title: "What to do about them",
        remarks: Vec::new(),
        table: Some(Grid {
            heads: vec![("code", false), ("meaning", false), ("what to do", false)],
            rows,
            total: false,
        }),
        statements: &[],
    })
}

fn notes(receipt: &Receipt) -> Option<Section> {
    let mut remarks = super::deserving_a_line(receipt);
    if receipt.status == "rolled_back" {
        let gone = "This run was rolled back: what it inserted is no longer there. The account is \
                    that of the run as it was.";
        remarks.insert(0, gone.to_owned());
    }
    (!remarks.is_empty()).then_some(Section {
        topic: Topic::Notes,
        title: "Worth knowing",
        remarks,
        table: None,
        statements: &["account"],
    })
}

fn time(receipt: &Receipt) -> Option<Section> {
    if receipt.entities.is_empty() {
        return None;
    }
    let span =
        |seconds: Option<f64>| Cell::text(seconds.map(figures::duration).unwrap_or_default());
    let pace = |rate: Option<f64>| Cell::text(rate.map(figures::rate).unwrap_or_default());
    let mut rows: Vec<Vec<Cell>> = receipt
        .entities
        .iter()
        .map(|entity| {
            vec![
                Cell::code(&entity.entity),
                Cell::code(&entity.target_table),
                Cell::text(&entity.mode),
                Cell::count(entity.batches),
                Cell::count(entity.account.source_rows),
                span(entity.seconds),
                pace(entity.rows_per_second),
            ]
        })
        .collect();
    rows.push(vec![
        Cell::text("whole run"),
        Cell::text(""),
        Cell::text(""),
        Cell::text(""),
        Cell::count(receipt.total.source_rows),
        span(receipt.seconds),
        pace(receipt.rows_per_second),
    ]);
    Some(Section {
        topic: Topic::Time,
        title: "Time",
        remarks: vec![
            "From the beginning to the end of each entity; a run that was interrupted counts the \
             pause, too. Rows per second are source rows, and rounded."
                .to_owned(),
        ],
        table: Some(Grid {
            heads: vec![
                ("entity", false),
                ("table", false),
                ("mode", false),
                ("batches", true),
                ("source rows", true),
                ("time", true),
                ("rows per second", true),
            ],
            rows,
            total: true,
        }),
        statements: &["run", "account", "total", "speed"],
    })
}
