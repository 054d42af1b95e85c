//! Merge rules: which rows of the source are equal by the rule, worked out anew in SQL, held against
//! what the mappings say was merged into what, and under which key.

use std::collections::BTreeMap;

use regraft_pg::Session;
use uuid::Uuid;

use super::databases::Databases;
use super::report::{Finding, Tally};
use super::subject::Subject;
use crate::error::Result;

/// A merged row as the ledger has it.
struct Merged {
    into: String,
    key: Uuid,
    /// The key of the row it is merged into.
    survivor: Option<Uuid>,
}

/// What is wrong with the merged rows of an entity; nothing where it has no rule.
pub(super) async fn check(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
) -> Result<Vec<Finding>> {
    check_those(databases, subject, |_| true).await
}

/// What is wrong with a row of an entity that has a rule.
pub(super) async fn check_row(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    legacy_id: &str,
) -> Result<Vec<Finding>> {
    check_those(databases, subject, |id| id == legacy_id).await
}

async fn check_those(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    chosen: impl Fn(&str) -> bool,
) -> Result<Vec<Finding>> {
    let Some(query) = subject.equal_rows_query() else {
        return Ok(Vec::new());
    };
    let source = databases.source().await?;
    let rows = source.query(&query, &[]).await;
    databases.give_back(source);
    let wanted: BTreeMap<String, String> =
        rows?.iter().map(|row| (row.get(0), row.get(1))).collect();
    let merged = merged(&databases.target, subject).await?;
    let waiting = waiting(&databases.target, subject).await?;
    let (mut apart, mut elsewhere, mut without_rule, mut other_key) = (
        Tally::default(),
        Tally::default(),
        Tally::default(),
        Tally::default(),
    );
    for (id, into) in wanted.iter().filter(|(id, _)| chosen(id)) {
        match merged.get(id) {
            Some(found) if found.into != *into => elsewhere.add(|| id.clone()),
            Some(_) => {}
            None if waiting.contains(id) => {}
            None => apart.add(|| id.clone()),
        }
    }
    for (id, found) in merged.iter().filter(|(id, _)| chosen(id)) {
        if !wanted.contains_key(id) {
            without_rule.add(|| id.clone());
        }
        if found.survivor != Some(found.key) {
            other_key.add(|| id.clone());
        }
    }
    Ok([
        apart.finding("equal to an earlier row by the merge rule, but not merged into it"),
        elsewhere.finding("merged into another row than the merge rule says"),
        without_rule.finding("merged, but by the merge rule equal to no earlier row"),
        other_key.finding("merged, but mapped to another key than the row it is merged into"),
    ]
    .into_iter()
    .flatten()
    .collect())
}

async fn merged(target: &Session, subject: &Subject<'_>) -> Result<BTreeMap<String, Merged>> {
    let mappings = subject.mappings_of(subject.name());
    let query = format!(
        "select m.legacy_id, m.merged_into, m.new_id, o.new_id
         from {mappings} m left join {mappings} o on o.legacy_id = m.merged_into and o.merged_into is null
         where m.merged_into is not null"
    );
    Ok(target
        .query(&query, &[])
        .await?
        .iter()
        .map(|row| {
            let merged = Merged {
                into: row.get(1),
                key: row.get(2),
                survivor: row.get(3),
            };
            (row.get(0), merged)
        })
        .collect())
}

/// Rows in quarantine: those that wait for the row they are to be merged into are among them.
async fn waiting(
    target: &Session,
    subject: &Subject<'_>,
) -> Result<std::collections::BTreeSet<String>> {
    let query = format!(
        "select legacy_id from regraft.migration_quarantine where entity = {} and state <> 'resolved'",
        subject.literal()
    );
    let rows = target.query(&query, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
