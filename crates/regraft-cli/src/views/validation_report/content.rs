//! What a report says, before it becomes text, Markdown or HTML.

use regraft_engine::{HistoryEntry, ReportedCheck, ReportedEntity, RunAccount, ValidationReport};

use crate::figures;
use crate::views::receipt::report::{Cell, Grid};

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

/// The checks of an entity and what they are, in the order they are shown in.
const CHECKS: &[(&str, &str, &str)] = &[
    (
        "account",
        "every source row is mapped, in quarantine or dropped by a filter, once; the ledger's figures say the same",
        "every legacy id of the source read in order and met with mappings and quarantine",
    ),
    (
        "counts",
        "every mapping leads to a row, every row has a mapping",
        "mappings joined with the table, in the target",
    ),
    (
        "mapping",
        "one legacy id, one key; the row agrees on where it came from",
        "mappings joined with the table, in the target",
    ),
    (
        "references",
        "every reference of the source goes between the mapped ends",
        "keys of the target turned back to legacy ids and met with the source's, row by row",
    ),
    (
        "columns",
        "every column holds what recomputing it from the source gives",
        "computed again from the project's rules and compared in binary form, row by row",
    ),
];

/// The checks of the migration as a whole.
const WHOLE: &[(&str, &str, &str)] = &[
    (
        "entities",
        "every entity was migrated by a run that finished",
        "the ledger, and the source's rows of those that were not",
    ),
    (
        "runs",
        "no run is unfinished, every account of every run balances",
        "the ledger's figures added up",
    ),
    (
        "quarantine",
        "what is left behind is within the project's limit",
        "counted in the ledger",
    ),
    (
        "catalog",
        "the target declares what it did when the latest migration finished",
        "hash of the target's catalog",
    ),
    (
        "invariants",
        "the project's own figures are the same in both databases",
        "computed in SQL by both servers over the rows that were moved",
    ),
];

/// The content of a report.
pub(super) fn of(report: &ValidationReport) -> Content {
    let comprehensive = report.history.is_some();
    let mut parts = vec![entities(report)];
    parts.extend(whole(report));
    parts.extend(comprehensive.then(|| invariants(report)).flatten());
    parts.push(differences(report));
    if comprehensive {
        parts.push(not_checked(report));
        parts.push(methods(report));
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
    if !validation.complete {
        return format!("NOT FINISHED: {scope}, {failed} failed; see what was not checked");
    }
    match (validation.passed, validation.asked.everything()) {
        (true, true) => format!("valid: {scope}, all passed"),
        (true, false) => format!("valid as far as asked for: {scope}, all passed"),
        (false, _) => format!("NOT VALID: {scope}, {} failed", figures::count(failed)),
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
            let rows: u64 = check.findings.iter().map(|finding| finding.rows).sum();
            Cell::text(format!("FAILED: {}", figures::count(rows)))
        }
    }
}

fn entities(report: &ValidationReport) -> Part {
    let validation = &report.validation;
    let mut heads = vec![("entity", false), ("rows", true)];
    heads.extend(CHECKS.iter().map(|(name, _, _)| (*name, false)));
    heads.extend([("compared by", false), ("time", true)]);
    let row = |entity: &ReportedEntity| {
        let mut cells = vec![Cell::code(&entity.entity), Cell::count(entity.rows)];
        cells.extend(CHECKS.iter().map(|(name, _, _)| {
            let mut checks = entity.checks.iter();
            outcome(checks.find(|check| check.name == *name))
        }));
        cells.push(Cell::text(match entity.method.as_deref() {
            Some("stream") => "rows",
            Some(other) => other,
            None => "–",
        }));
        cells.push(Cell::text(figures::duration(entity.seconds)));
        cells
    };
    let transient: u64 = validation
        .entities
        .iter()
        .map(|entity| entity.transient)
        .sum();
    let mut remarks = Vec::new();
    if transient > 0 {
        remarks.push(format!(
            "{} gone at a second look: somebody was writing. They are not findings.",
            figures::counted(transient, "difference")
        ));
    }
    Part {
        title: "Entity by entity",
        remarks,
        table: Some(Grid {
            heads,
            rows: validation.entities.iter().map(row).collect(),
            total: false,
        }),
    }
}

fn whole(report: &ValidationReport) -> Option<Part> {
    let checks = &report.validation.migration;
    let about = |name: &str| {
        let mut known = WHOLE.iter();
        known
            .find(|(known, _, _)| *known == name)
            .map_or("", |(_, about, _)| about)
    };
    let rows = checks
        .iter()
        .map(|check| {
            vec![
                Cell::code(&check.name),
                Cell::text(about(&check.name)),
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

fn differences(report: &ValidationReport) -> Part {
    let mut rows = Vec::new();
    for (entity, check) in report.validation.checks() {
        for finding in &check.findings {
            // What is about the migration names its entity or invariant, if any, in front.
            let (about, what) = match finding.what.split_once(": ") {
                Some((of, what)) if entity.is_empty() && !of.contains(' ') => (of, what),
                _ => (entity, finding.what.as_str()),
            };
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

fn not_checked(report: &ValidationReport) -> Part {
    let remarks = &report.validation.not_checked;
    let rows: Vec<Vec<Cell>> = remarks
        .iter()
        .map(|remark| {
            let (entity, what) = remark.split_once(": ").unwrap_or(("", remark));
            vec![Cell::code(entity), Cell::text(what)]
        })
        .collect();
    Part {
        title: "What was not checked",
        remarks: match rows.is_empty() {
            true => vec!["Nothing was left out.".to_owned()],
            false => Vec::new(),
        },
        table: (!rows.is_empty()).then(|| Grid {
            heads: vec![("where", false), ("what, and why", false)],
            rows,
            total: false,
        }),
    }
}

fn methods(report: &ValidationReport) -> Part {
    let rows = CHECKS
        .iter()
        .chain(WHOLE)
        .filter_map(|(name, about, how)| {
            let all = report.validation.checks();
            let looked_at: Vec<u64> = all
                .filter(|(_, check)| check.name == *name)
                .map(|(_, check)| check.looked_at)
                .collect();
            (!looked_at.is_empty()).then(|| {
                vec![
                    Cell::code(name),
                    Cell::text(*about),
                    Cell::text(*how),
                    Cell::count(looked_at.iter().sum::<u64>()),
                ]
            })
        })
        .collect();
    Part {
        title: "How it was checked",
        remarks: vec![
            "Both databases were read in one snapshot each; nothing of the loader was used. Entities \
             compared by rows were streamed from both servers in the order of their legacy ids; those \
             compared by sums were hashed by the servers, range by range, and ranges that differ were \
             streamed."
                .to_owned(),
        ],
        table: Some(Grid {
            heads: vec![
                ("check", false),
                ("what must hold", false),
                ("how", false),
                ("looked at", true),
            ],
            rows,
            total: false,
        }),
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
                Cell::text(match entry.whole {
                    true => "the whole",
                    false => "rows",
                }),
                Cell::count(entry.entities),
                Cell::text(match entry.passed {
                    true => "ok".to_owned(),
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
