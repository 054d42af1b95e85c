//! What a report says, before it becomes text, Markdown or HTML.

use regraft_engine::{HistoryEntry, ReportedCheck, ReportedEntity, RunAccount, ValidationReport};

use super::proofs::{self, Proof};
use crate::figures;
use crate::views::receipt::report::{Cell, Grid};
use crate::views::validation::{SERVING, faults, folded, in_words};

/// A report as it is written.
pub(super) struct Content {
    pub(super) passed: bool,
    pub(super) verdict: String,
    pub(super) facts: Vec<(&'static str, Cell)>,
    pub(super) parts: Vec<Part>,
}

/// A part of it.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) remarks: Vec<String>,
    pub(super) table: Option<Grid>,
}

/// The content of a report.
pub(super) fn of(report: &ValidationReport) -> Content {
    let comprehensive = report.history.is_some();
    let mut parts = vec![entities(report)];
    parts.extend(whole(report));
    parts.extend(comprehensive.then(|| invariants(report)).flatten());
    parts.push(differences(report));
    parts.extend(serving(report));
    parts.extend(advice(report));
    // What is missing is the first question about a validation that did not come to its end.
    if comprehensive || !report.validation.complete {
        parts.push(not_checked(report));
    }
    if comprehensive {
        parts.push(proofs::methods(report));
        parts.extend(report.runs.as_deref().map(runs));
        parts.extend(report.history.as_deref().map(history));
    }
    Content {
        passed: report.validation.passed,
        verdict: verdict(report),
        facts: facts(report),
        parts,
    }
}

fn verdict(report: &ValidationReport) -> String {
    let validation = &report.validation;
    let checks = validation.checks().count() as u64;
    let failed = validation.checks().filter(|(_, c)| !c.passed).count() as u64;
    let rows: u64 = validation.entities.iter().map(|entity| entity.rows).sum();
    let scope = format!(
        "{} over {} of {}",
        figures::counted(checks, "check"),
        figures::counted(rows, "row"),
        figures::counted(validation.entities.len() as u64, "entity")
    );
    let whole = validation.asked.whole && !validation.migration.is_empty();
    let results = validation
        .checks()
        .map(|(_, c)| (c.name.as_str(), c.passed));
    let result = in_words(validation.complete, whole, results);
    match (validation.complete, validation.passed) {
        (false, _) => {
            let failed = figures::count(failed);
            format!("{result}: {scope}, {failed} failed; what is missing is below")
        }
        (_, true) if validation.asked.everything() => format!("{result}: {scope}, all passed"),
        (_, true) => format!("{result} as far as asked for: {scope}, all passed"),
        (_, false) => format!("{result}: {scope}, {} failed", figures::count(failed)),
    }
}

fn facts(report: &ValidationReport) -> Vec<(&'static str, Cell)> {
    let validation = &report.validation;
    let asked = &validation.asked;
    let mut facts = vec![
        ("validation", Cell::code(&validation.validation_id)),
        (
            "made",
            Cell::text(figures::moment(&validation.generated_at)),
        ),
        ("took", Cell::text(figures::duration(validation.seconds))),
        ("project", Cell::text(&asked.project)),
        ("project hash", Cell::code(&asked.project_hash)),
        ("program version", Cell::code(&asked.program_version)),
        ("asked for", Cell::text(asked_for(report))),
    ];
    if !report.project_unchanged {
        let text = "changed since: this report is about the project as it was";
        facts.push(("project now", Cell::text(text)));
    }
    if !report.runs_since.is_empty() {
        facts.push(("runs since", Cell::Codes(report.runs_since.clone())));
    }
    facts
}

fn asked_for(report: &ValidationReport) -> String {
    let asked = &report.validation.asked;
    let mut text = match asked.types.as_slice() {
        [] => "all proofs".to_owned(),
        types => types.join(", "),
    };
    if asked.whole {
        text.push_str(", the migration as a whole");
    }
    if asked.sampling_rate < 1.0 {
        text.push_str(&format!(", {}% of the rows", asked.sampling_rate * 100.0));
    }
    if let Some(most) = asked.max_records {
        text.push_str(&format!(
            ", {} rows of an entity at most",
            figures::count(most)
        ));
    }
    if let Some(method @ ("stream" | "sums")) = asked.method.as_deref() {
        let by = if method == "stream" { "rows" } else { "sums" };
        text.push_str(&format!(", compared by {by}"));
    }
    if let Some(seconds) = asked.timeout_seconds {
        text.push_str(&format!(", within {}", figures::duration(seconds)));
    }
    text
}

/// `ok`, or how many rows were found.
fn outcome(check: Option<&ReportedCheck>) -> Cell {
    match check {
        None => Cell::text("–"),
        Some(check) if check.passed => Cell::text("ok"),
        Some(check) => {
            let rows = check.findings.iter().map(|finding| finding.rows);
            let found = faults(&check.name, rows);
            Cell::text(format!("FAILED: {}", figures::count(found)))
        }
    }
}

fn entities(report: &ValidationReport) -> Part {
    let validation = &report.validation;
    let mut heads = vec![("entity", false), ("rows", true)];
    let made: Vec<&Proof> = proofs::OF_ENTITIES
        .iter()
        .filter(|known| {
            let mut all = validation.entities.iter().flat_map(|e| &e.checks);
            all.any(|check| check.name == known.name)
        })
        .collect();
    heads.extend(made.iter().map(|known| (known.name, false)));
    heads.extend([("compared", false), ("time", true)]);
    let row = |entity: &ReportedEntity| {
        let mut cells = vec![Cell::code(&entity.entity), Cell::count(entity.rows)];
        cells.extend(made.iter().map(|known| {
            let mut checks = entity.checks.iter();
            outcome(checks.find(|check| check.name == known.name))
        }));
        cells.push(Cell::text(match entity.method.as_deref() {
            Some("stream") => "rows",
            Some(other) => other,
            None => "–",
        }));
        cells.push(Cell::text(figures::duration(entity.seconds)));
        cells
    };
    Part {
        title: "Entity by entity",
        remarks: transient(report).into_iter().collect(),
        table: Some(Grid {
            heads,
            rows: validation.entities.iter().map(row).collect(),
            total: false,
        }),
    }
}

/// What was gone at a second look, by entity and invariant.
fn transient(report: &ValidationReport) -> Option<String> {
    let entities = report.validation.entities.iter();
    let invariants = report.validation.invariants.iter();
    let changing: Vec<(&str, u64)> = entities
        .map(|entity| (entity.entity.as_str(), entity.transient))
        .chain(invariants.map(|invariant| (invariant.name.as_str(), invariant.transient)))
        .filter(|(_, transient)| *transient > 0)
        .collect();
    let of_each: Vec<String> = changing
        .iter()
        .map(|(name, transient)| format!("{name} {}", figures::count(*transient)))
        .collect();
    let all: u64 = changing.iter().map(|(_, transient)| transient).sum();
    (all > 0).then(|| {
        format!(
            "{} gone at a second look ({}): somebody was writing. They are not findings.",
            figures::counted(all, "difference"),
            of_each.join(", ")
        )
    })
}

fn whole(report: &ValidationReport) -> Option<Part> {
    let checks = &report.validation.migration;
    let rows = checks
        .iter()
        .map(|check| {
            vec![
                Cell::code(&check.name),
                Cell::text(proofs::about(&check.name)),
                Cell::count(check.looked_at),
                outcome(Some(check)),
            ]
        })
        .collect();
    (!checks.is_empty()).then(|| Part {
        title: "The migration as a whole",
        remarks: Vec::new(),
        table: Some(Grid {
            heads: vec![
                ("check", false),
                ("what must hold", false),
                ("looked at", true),
                ("result", false),
            ],
            rows,
            total: false,
        }),
    })
}

fn invariants(report: &ValidationReport) -> Option<Part> {
    let all = &report.validation.invariants;
    let rows = all
        .iter()
        .map(|found| {
            vec![
                Cell::code(&found.name),
                Cell::text(found.description.clone().unwrap_or_default()),
                Cell::text(match found.form.as_str() {
                    "entity" => "through the mappings",
                    _ => "a query per side",
                }),
                Cell::text(&found.tolerance),
                Cell::count(found.groups),
                Cell::text(match found.passed {
                    true => "ok".to_owned(),
                    false => format!("FAILED: {}", figures::count(found.differences)),
                }),
            ]
        })
        .collect();
    (!all.is_empty()).then(|| Part {
        title: "Invariants",
        remarks: vec![
            "Figures of the project's own, computed by both servers over the rows that were moved."
                .to_owned(),
        ],
        table: Some(Grid {
            heads: vec![
                ("invariant", false),
                ("about", false),
                ("computed", false),
                ("compared", false),
                ("groups", true),
                ("result", false),
            ],
            rows,
            total: false,
        }),
    })
}

/// What a finding is about, and what is wrong: one of the migration as a whole names its entity,
/// invariant or query, if any, in front.
fn located<'a>(entity: &'a str, what: &'a str) -> (&'a str, &'a str) {
    match what.split_once(": ") {
        Some((of, what)) if entity.is_empty() && !of.contains(' ') => (of, what),
        _ => (entity, what),
    }
}

fn differences(report: &ValidationReport) -> Part {
    let mut rows = Vec::new();
    let checks = report.validation.checks();
    for (entity, check) in checks.filter(|(_, c)| !SERVING.contains(&c.name.as_str())) {
        for finding in &check.findings {
            let (about, what) = located(entity, &finding.what);
            rows.push(vec![
                Cell::code(about),
                Cell::code(&check.name),
                Cell::count(finding.rows),
                Cell::text(what),
                Cell::Codes(finding.examples.clone()),
            ]);
        }
    }
    let remark = match rows.is_empty() {
        true => "None.",
        false => {
            "Rows that differ, with the first of their legacy ids. No value of a row is shown."
        }
    };
    Part {
        title: "Differences",
        remarks: vec![remark.to_owned()],
        table: (!rows.is_empty()).then(|| Grid {
            heads: vec![
                ("where", false),
                ("check", false),
                ("rows", true),
                ("difference", false),
                ("legacy ids", false),
            ],
            rows,
            total: false,
        }),
    }
}

/// What the new database lacks to serve, where that was asked for.
fn serving(report: &ValidationReport) -> Option<Part> {
    let of_serving = |check: &ReportedCheck| SERVING.contains(&check.name.as_str());
    let checks = report.validation.checks();
    let made: Vec<_> = checks.filter(|(_, check)| of_serving(check)).collect();
    let rows: Vec<Vec<Cell>> = made
        .iter()
        .flat_map(|(entity, check)| {
            check.findings.iter().map(|finding| {
                let (about, what) = located(entity, &finding.what);
                vec![Cell::code(about), Cell::code(&check.name), Cell::text(what)]
            })
        })
        .collect();
    let remark = match rows.is_empty() {
        true => "Nothing is missing.",
        false => "No row is wrong because of these, but users will wait.",
    };
    (!made.is_empty()).then(|| Part {
        title: "What the target lacks to serve",
        remarks: vec![remark.to_owned()],
        table: listed(
            rows,
            vec![("where", false), ("check", false), ("what", false)],
        ),
    })
}

/// What is no fault, but good to know before users come.
fn advice(report: &ValidationReport) -> Option<Part> {
    let advice = &report.validation.advice;
    (!advice.is_empty()).then(|| Part {
        title: "Advice",
        remarks: vec!["No faults, but good to know before users come.".to_owned()],
        table: listed(remarks(advice), vec![("about", false), ("what", false)]),
    })
}

/// Remarks that name in front what they are about.
fn remarks(remarks: &[String]) -> Vec<Vec<Cell>> {
    folded(remarks)
        .into_iter()
        .map(|(about, what)| vec![Cell::code(&about), Cell::text(what)])
        .collect()
}

/// A table, unless it is empty.
fn listed(rows: Vec<Vec<Cell>>, heads: Vec<(&'static str, bool)>) -> Option<Grid> {
    (!rows.is_empty()).then_some(Grid {
        heads,
        rows,
        total: false,
    })
}

fn not_checked(report: &ValidationReport) -> Part {
    let rows = remarks(&report.validation.not_checked);
    Part {
        title: "What was not checked",
        remarks: match rows.is_empty() {
            true => vec!["Nothing was left out.".to_owned()],
            false => Vec::new(),
        },
        table: listed(rows, vec![("where", false), ("what, and why", false)]),
    }
}

fn runs(runs: &[RunAccount]) -> Part {
    let rows = runs
        .iter()
        .map(|run| {
            let account = &run.account;
            vec![
                Cell::code(&run.run_id),
                Cell::text(run.status.replace('_', " ")),
                Cell::count(account.source_rows),
                Cell::count(account.inserted),
                Cell::count(account.updated + account.unchanged),
                Cell::count(account.merged),
                Cell::count(account.filtered),
                Cell::count(account.quarantined + account.blocked),
                Cell::text(match account.balances() {
                    true => "balances",
                    false => "DOES NOT BALANCE",
                }),
            ]
        })
        .collect();
    Part {
        title: "The account of the latest runs",
        remarks: vec![
            "Latest first. Source rows = inserted + in place already + merged + filtered + left behind."
                .to_owned(),
        ],
        table: Some(Grid {
            heads: vec![
                ("run", false),
                ("status", false),
                ("source rows", true),
                ("inserted", true),
                ("in place", true),
                ("merged", true),
                ("filtered", true),
                ("left behind", true),
                ("account", false),
            ],
            rows,
            total: false,
        }),
    }
}

fn history(entries: &[HistoryEntry]) -> Part {
    let rows = entries
        .iter()
        .map(|entry| {
            vec![
                Cell::text(figures::moment(&entry.generated_at)),
                Cell::code(&entry.validation_id),
                Cell::text(match (entry.whole, entry.types.as_slice()) {
                    (true, _) => "the whole".to_owned(),
                    (false, []) => "all proofs".to_owned(),
                    (false, types) => types.join(", "),
                }),
                Cell::count(entry.entities),
                Cell::text(match entry.passed {
                    true => "ok".to_owned(),
                    false if !entry.complete => "NOT FINISHED".to_owned(),
                    false => format!("FAILED: {}", figures::count(entry.discrepancies)),
                }),
                Cell::text(figures::duration(entry.seconds)),
            ]
        })
        .collect();
    Part {
        title: "Validations so far",
        remarks: vec!["As far as they are kept; latest first.".to_owned()],
        table: Some(Grid {
            heads: vec![
                ("made", false),
                ("validation", false),
                ("about", false),
                ("entities", true),
                ("result", false),
                ("time", true),
            ],
            rows,
            total: false,
        }),
    }
}
