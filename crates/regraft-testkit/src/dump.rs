//! What a run left behind, to be held against what another one left.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use futures_util::{StreamExt, pin_mut};
use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Table};
use regraft_pg::quote::ident;
use sha2::{Digest, Sha256};

use crate::servers::{block_on, session};

/// Differences shown per part.
const SHOWN: usize = 5;

/// Everything in a target that does not depend on the clock or on chance: the bytes of every
/// table, the mappings, the ledger and the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// The lines of each part, in order.
    parts: BTreeMap<String, Vec<String>>,
}

impl Dump {
    /// Tables, mappings, ledger and catalog.
    pub fn of(url: &str) -> Self {
        block_on(async {
            let session = session(url).await;
            let mut dump = tables_of(&session).await;
            let installed: bool = session
                .query_one(
                    "select to_regclass('regraft.migration_control') is not null",
                    &[],
                )
                .await
                .expect("the catalog can be read")
                .get(0);
            if installed {
                for (part, query) in LEDGER {
                    dump.parts
                        .insert((*part).to_owned(), lines(&session, query).await);
                }
            }
            session.close().await;
            dump
        })
    }

    /// Tables and catalog alone: what a rollback brings back.
    pub fn of_tables(url: &str) -> Self {
        block_on(async {
            let session = session(url).await;
            let dump = tables_of(&session).await;
            session.close().await;
            dump
        })
    }

    /// The catalog alone.
    #[must_use]
    pub fn catalog(&self) -> Self {
        let mut parts = self.parts.clone();
        parts.retain(|name, _| name.starts_with("catalog"));
        Self { parts }
    }

    /// All but runs, batches and checkpoints: what a run that has nothing to do leaves alone.
    #[must_use]
    pub fn without_runs(&self) -> Self {
        let mut parts = self.parts.clone();
        parts.retain(|name, _| !matches!(name.as_str(), "ledger: control" | "ledger: checkpoints"));
        Self { parts }
    }

    /// The number of lines of a part, such as `table public.orders`.
    pub fn len_of(&self, part: &str) -> usize {
        self.parts.get(part).map_or(0, Vec::len)
    }

    /// SHA-256 of each part.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        let hash = |lines: &Vec<String>| {
            let mut hasher = Sha256::new();
            for line in lines {
                hasher.update(line.as_bytes());
                hasher.update([b'\n']);
            }
            hex::encode(hasher.finalize())
        };
        self.parts
            .iter()
            .map(|(name, lines)| (name.clone(), hash(lines)))
            .collect()
    }

    /// Fails the test unless both are the same, and shows where they differ.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, what: &str) {
        let difference = self.difference(other);
        assert!(difference.is_empty(), "{what}:\n{difference}");
    }

    /// Where the other one differs, for people; empty if nowhere.
    pub fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        let names: std::collections::BTreeSet<&String> =
            self.parts.keys().chain(other.parts.keys()).collect();
        for name in names {
            let empty = Vec::new();
            let (mine, theirs) = (
                self.parts.get(name).unwrap_or(&empty),
                other.parts.get(name).unwrap_or(&empty),
            );
            if mine == theirs {
                continue;
            }
            let _ = writeln!(
                text,
                "{name}: {} lines against {}",
                mine.len(),
                theirs.len()
            );
            describe(&mut text, '-', mine, theirs);
            describe(&mut text, '+', theirs, mine);
        }
        text
    }
}

/// The first lines that the other one lacks.
fn describe(text: &mut String, sign: char, lines: &[String], other: &[String]) {
    let mut left: std::collections::HashMap<&String, usize> = std::collections::HashMap::new();
    for line in other {
        *left.entry(line).or_default() += 1;
    }
    let mut missing = lines.iter().filter(|line| match left.get_mut(line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    for line in missing.by_ref().take(SHOWN) {
        let _ = writeln!(text, "  {sign} {line}");
    }
    let more = missing.count();
    if more > 0 {
        let _ = writeln!(text, "  {sign} and {more} more");
    }
}

/// Mappings and ledger without what the clock, chance or the number of processes decide: run ids,
/// times, epochs, the snapshot's position, and which batch happened to end last.
const LEDGER: &[(&str, &str)] = &[
    (
        "mappings",
        "select entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch, merged_into
         from regraft.migration_mappings order by entity, legacy_id, new_id",
    ),
    (
        "ledger: control",
        "select run_no, entity, batch, command, status, low_key, high_key, source_rows, inserted, updated,
                unchanged, merged, filtered, quarantined, blocked, synthesised, detail - 'snapshot'
         from regraft.migration_control order by run_no, entity, batch",
    ),
    (
        "ledger: checkpoints",
        "select run_no, entity, mode, phase, batches_done, rows_done, dropped
         from regraft.migration_checkpoints order by run_no, entity",
    ),
    (
        "ledger: quarantine",
        "select entity, legacy_id, bucket, reasons, source_row, state, run_no, batch, tries
         from regraft.migration_quarantine order by entity, legacy_id",
    ),
];

async fn tables_of(session: &Session) -> Dump {
    let mut catalog = Catalog::read(&**session, &[])
        .await
        .expect("the catalog can be read");
    catalog.tables.retain(|table| table.schema != "testkit");
    let mut parts = BTreeMap::new();
    for table in &mut catalog.tables {
        let query = format!(
            "select * from {} order by {}",
            table.sql_name(),
            order(table)
        );
        parts.insert(
            format!("table {}.{}", table.schema, table.name),
            lines(session, &query).await,
        );
        table.forget_statistics();
        parts.insert(
            format!("catalog {}.{}", table.schema, table.name),
            declared(table),
        );
    }
    parts.insert("catalog hash".to_owned(), vec![catalog.hash()]);
    Dump { parts }
}

fn order(table: &Table) -> String {
    match table.primary_key() {
        Some(key) => key
            .columns
            .iter()
            .map(|c| ident(c))
            .collect::<Vec<_>>()
            .join(", "),
        None => (1..=table.columns.len())
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn declared(table: &Table) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(table.columns.iter().map(|c| format!("column {c:?}")));
    lines.extend(
        table
            .constraints
            .iter()
            .map(|c| format!("constraint {c:?}")),
    );
    lines.extend(table.indexes.iter().map(|i| format!("index {i:?}")));
    lines.extend(table.triggers.iter().map(|t| format!("trigger {t:?}")));
    lines.extend(table.policies.iter().map(|p| format!("policy {p:?}")));
    lines
}

/// The lines of a COPY in text form.
async fn lines(session: &Session, query: &str) -> Vec<String> {
    let stream = session.copy_out(&format!("copy ({query}) to stdout")).await;
    let stream = stream.unwrap_or_else(|e| panic!("{}: {query}", session.error(e).message()));
    pin_mut!(stream);
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.expect("the rows can be read"));
    }
    // A text COPY escapes line ends inside of values.
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}
