//! Counts and mapping: every mapping leads to a row of its own, and every row has a mapping. What
//! the census has not seen is asked of the target alone, in SQL.

use regraft_pg::Session;

use super::census::Census;
use super::report::{Check, Finding, KEPT, Tally};
use super::subject::Subject;
use crate::error::Result;

/// The rows of a table.
struct TableRows {
    rows: u64,
    /// Rows that no mapping of any entity knows; `None` where another entity answers for them.
    unknown: Option<Tally>,
}

/// The checks `counts` and `mapping`. `answers_for_table` is false where another entity of this
/// validation fills the same table and reports its foreign rows.
pub(super) async fn check(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
    answers_for_table: bool,
) -> Result<(Check, Check)> {
    let table = table_rows(target, subject, answers_for_table).await?;
    let counts = check_counts(target, subject, census, table.as_ref()).await?;
    let mapping = check_mapping(target, subject, census, table.as_ref()).await?;
    Ok((counts, mapping))
}

async fn table_rows(
    target: &Session,
    subject: &Subject<'_>,
    answers_for_table: bool,
) -> Result<Option<TableRows>> {
    if subject.table.is_none() {
        return Ok(None);
    }
    let query = format!("select count(*) from {}", subject.table_name);
    let rows: i64 = target.query_one(&query, &[]).await?.get(0);
    let unknown = if answers_for_table {
        Some(unknown_rows(target, subject).await?)
    } else {
        None
    };
    Ok(Some(TableRows {
        rows: rows.unsigned_abs(),
        unknown,
    }))
}

async fn check_counts(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
    table: Option<&TableRows>,
) -> Result<Check> {
    let name = plain_table_name(subject);
    let Some(table) = table else {
        let what = format!(
            "there is no table {name} with a key {}",
            subject.key_column()
        );
        let gone = Tally::of(census.mapped.max(1), Vec::new()).finding(what);
        return Ok(Check::new("counts", 0, gone.into_iter().collect()));
    };
    let mut findings = vec![
        census
            .without_row
            .finding(format!("mapped, but table {name} has no such row")),
    ];
    if let Some(unknown) = &table.unknown {
        findings.push(unknown.finding(format!("rows in table {name} that no mapping knows")));
        if !subject.key_is_unique() {
            let shared = rows_with_shared_keys(target, subject).await?;
            findings.push(shared.finding(format!(
                "rows in table {name} that share their key with another"
            )));
        }
    }
    Ok(Check::new(
        "counts",
        table.rows,
        findings.into_iter().flatten().collect(),
    ))
}

/// Rows of the table that no entity put there.
async fn unknown_rows(target: &Session, subject: &Subject<'_>) -> Result<Tally> {
    let key = subject.key_column();
    let unknown: Vec<String> = subject
        .fillers
        .iter()
        .map(|entity| {
            let mappings = subject.mappings_of(entity);
            format!("not exists (select from {mappings} m where m.new_id = t.{key})")
        })
        .collect();
    count_rows(target, subject, &unknown.join(" and ")).await
}

async fn rows_with_shared_keys(target: &Session, subject: &Subject<'_>) -> Result<Tally> {
    let (table, key) = (&subject.table_name, subject.key_column());
    let shared = format!("t.{key} in (select {key} from {table} group by 1 having count(*) > 1)");
    count_rows(target, subject, &shared).await
}

/// Rows of the table under a condition, shown by the legacy ids they bear, else by their keys.
async fn count_rows(target: &Session, subject: &Subject<'_>, condition: &str) -> Result<Tally> {
    let by_key = format!("'key ' || t.{}::text", subject.key_column());
    let id = match subject.legacy_column() {
        Some(legacy) => format!(
            "coalesce(t.{}::text, {by_key})",
            regraft_pg::quote::ident(legacy)
        ),
        None => by_key,
    };
    count(
        target,
        &format!("{} t where {condition}", subject.table_name),
        &id,
        &id,
    )
    .await
}

async fn check_mapping(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
    table: Option<&TableRows>,
) -> Result<Check> {
    let mut findings = vec![
        census
            .mapped_twice
            .finding("legacy ids with more than one mapping"),
        census
            .mapped_and_quarantined
            .finding("mapped, and in quarantine"),
    ];
    if !is_proven_injective(subject, census, table) {
        let mappings = subject.mappings();
        let shared = format!(
            "{mappings} m where m.new_id in (select new_id from {mappings} m group by new_id having count(*) > 1)"
        );
        let shared = count(target, &shared, "m.legacy_id", &subject.ledger_id("m")).await?;
        findings.push(shared.finding("several legacy ids are mapped to the same key"));
    }
    findings.push(legacy_ids(subject, census));
    Ok(Check::new(
        "mapping",
        census.mapped,
        findings.into_iter().flatten().collect(),
    ))
}

/// Whether counting alone shows that no two mappings share a key: each has a row, keys are unique
/// in the table, and as many rows have a mapping as there are mappings.
fn is_proven_injective(subject: &Subject<'_>, census: &Census, table: Option<&TableRows>) -> bool {
    let Some(TableRows {
        rows,
        unknown: Some(unknown),
    }) = table
    else {
        return false;
    };
    subject.key_is_unique()
        && subject.fillers.len() == 1
        && census.without_row.rows == 0
        && rows.checked_sub(unknown.rows) == Some(census.mapped)
}

/// Rows that say they come from another legacy id than the one they are mapped under.
fn legacy_ids(subject: &Subject<'_>, census: &Census) -> Option<Finding> {
    let column = &subject.entity.target.legacy.as_ref()?.value;
    if subject.table.is_some() && subject.legacy_column().is_none() {
        let what = format!(
            "table {} has no column `{column}` for the legacy id",
            plain_table_name(subject)
        );
        return Tally::of(1, Vec::new()).finding(what);
    }
    census.disowned.finding(format!(
        "`{column}` is not the legacy id that the row is mapped under"
    ))
}

fn plain_table_name(subject: &Subject<'_>) -> String {
    format!("`{}`", subject.entity.target.table.value)
}

/// Counts what `from` gives, and takes the first few ids.
async fn count(target: &Session, from: &str, id: &str, order: &str) -> Result<Tally> {
    let rows: i64 = target
        .query_one(&format!("select count(*) from {from}"), &[])
        .await?
        .get(0);
    if rows == 0 {
        return Ok(Tally::default());
    }
    let query = format!("select {id} from {from} order by {order} limit {KEPT}");
    let examples = target
        .query(&query, &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    Ok(Tally::of(rows.unsigned_abs(), examples))
}
