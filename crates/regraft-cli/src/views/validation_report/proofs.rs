//! The checks there are: what each holds the databases to, and how it does.

use regraft_engine::ValidationReport;

use super::content::Part;
use crate::views::receipt::report::{Cell, Grid};

/// A check: its name, what must hold, and how that is found out.
pub(super) struct Proof {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    how: &'static str,
}

const fn proof(name: &'static str, about: &'static str, how: &'static str) -> Proof {
    Proof { name, about, how }
}

/// The checks of an entity, in the order they are shown in.
pub(super) const OF_ENTITIES: &[Proof] = &[
    proof(
        "account",
        "every source row is mapped, in quarantine or dropped by a filter, once; the ledger's figures say the same",
        "every legacy id of the source read in order and met with mappings and quarantine; the ledger's figures counted anew",
    ),
    proof(
        "counts",
        "every mapping leads to a row, every row has a mapping",
        "mappings and rows of the table, met in the target",
    ),
    proof(
        "mapping",
        "one legacy id, one key; the row agrees on where it came from",
        "mappings and rows of the table, met in the target; merge rules worked out anew",
    ),
    proof(
        "references",
        "every reference of the source goes between the mapped ends",
        "keys of the target turned back to legacy ids and met with the source's, row by row or by sums",
    ),
    proof(
        "columns",
        "every column holds what recomputing it from the source gives",
        "computed again from the project's rules and compared as its type compares, row by row or by sums",
    ),
    proof(
        "performance",
        "the table has the indexes and statistics that queries need, and few dead rows",
        "indexes and statistics that the target declares, held against the references; 1,000 rows and more",
    ),
];

/// The checks of the migration as a whole.
pub(super) const OF_THE_WHOLE: &[Proof] = &[
    proof(
        "entities",
        "every entity was migrated by a run that finished",
        "the ledger, and the source's rows of those that were not",
    ),
    proof(
        "runs",
        "no run is unfinished, every account of every run balances",
        "the ledger's figures added up",
    ),
    proof(
        "quarantine",
        "what is left behind is within the project's limit",
        "counted in the ledger",
    ),
    proof(
        "catalog",
        "the target declares what it did when the latest migration finished",
        "hash of the target's catalog",
    ),
    proof(
        "invariants",
        "the project's own figures are the same in both databases",
        "computed in SQL by both servers over the rows that were moved",
    ),
    proof(
        "queries",
        "the target answers the project's own queries within their limits",
        "run twice in the target; the second time counts",
    ),
];

/// What must hold for a check to pass; nothing for one that is not known.
pub(super) fn about(name: &str) -> &'static str {
    let mut all = OF_ENTITIES.iter().chain(OF_THE_WHOLE);
    all.find(|known| known.name == name)
        .map_or("", |known| known.about)
}

/// How each check that was made works, and over how much.
pub(super) fn methods(report: &ValidationReport) -> Part {
    let row = |known: &Proof| {
        let all = report.validation.checks();
        let looked_at: Vec<u64> = all
            .filter(|(_, check)| check.name == known.name)
            .map(|(_, check)| check.looked_at)
            .collect();
        (!looked_at.is_empty()).then(|| {
            vec![
                Cell::code(known.name),
                Cell::text(known.about),
                Cell::text(known.how),
                Cell::count(looked_at.iter().sum::<u64>()),
            ]
        })
    };
    let known = OF_ENTITIES.iter().chain(OF_THE_WHOLE);
    Part {
        title: "How it was checked",
        remarks: remarks(report),
        table: Some(Grid {
            heads: vec![
                ("check", false),
                ("what must hold", false),
                ("how", false),
                ("looked at", true),
            ],
            rows: known.filter_map(row).collect(),
            total: false,
        }),
    }
}

fn remarks(report: &ValidationReport) -> Vec<String> {
    let mut remarks = vec![
        "Nothing of the loader was used. Each database was read in one snapshot; what differed was \
         looked at once more, in later snapshots of both, before it was called a difference."
            .to_owned(),
    ];
    let entities = &report.validation.entities;
    let compared_by = |method: &str| entities.iter().any(|e| e.method.as_deref() == Some(method));
    if compared_by("stream") {
        let text = "Compared by rows: both servers sent them in the order of their legacy ids, and \
                    each was met with its other half.";
        remarks.push(text.to_owned());
    }
    if compared_by("sums") {
        let text = "Compared by sums: both servers added up two hashes of 64 bits of each row, by \
                    ranges of 128 legacy ids or parts of about 64 rows where ids are text, and the \
                    rows of ranges that differ were fetched.";
        remarks.push(text.to_owned());
    }
    for entity in entities.iter().filter(|e| !e.fetched_columns.is_empty()) {
        remarks.push(format!(
            "{}: {} fetched row by row besides, because the servers can't bring both sides into one \
             form to hash.",
            entity.entity,
            entity.fetched_columns.join(", ")
        ));
    }
    remarks
}
