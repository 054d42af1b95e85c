//! Counts and mapping: every mapping leads to a row of its own, and every row has a mapping. Asked
//! of the target alone, in SQL.

use regraft_pg::{Session, quote};

use super::census::Census;
use super::report::{Check, EXAMPLES, Finding, Tally};
use super::subject::Subject;
use crate::error::Result;

/// The check `counts`. `answers_for_table` is false where another entity of this validation fills
/// the same table and reports its foreign rows.
pub(super) async fn check_counts(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
    answers_for_table: bool,
) -> Result<Check> {
    let (table, key) = (&subject.table_name, subject.key_column());
    let name = plain_table_name(subject);
    if subject.table.is_none() {
        let what = format!("there is no table {name} with a key {key}");
        let gone = Tally::of(census.mapped.max(1), Vec::new()).finding(what);
        return Ok(Check::new("counts", 0, gone.into_iter().collect()));
    }
    let missing = Rows {
        from: format!(
            "{} m where not exists (select from {table} t where t.{key} = m.new_id)",
            subject.mappings()
        ),
        ..Rows::of_mappings(subject)
    };
    let mut findings = vec![
        missing
            .count(target)
            .await?
            .finding(format!("mapped, but table {name} has no such row")),
    ];
    if answers_for_table {
        let unknown = unknown_rows(subject).count(target).await?;
        findings.push(unknown.finding(format!("rows in table {name} that no mapping knows")));
        if !key_is_unique(subject) {
            let shared = rows_with_shared_keys(subject).count(target).await?;
            findings.push(shared.finding(format!(
                "rows in table {name} that share their key with another"
            )));
        }
    }
    let rows: i64 = target
        .query_one(&format!("select count(*) from {table}"), &[])
        .await?
        .get(0);
    Ok(Check::new(
        "counts",
        rows.unsigned_abs(),
        findings.into_iter().flatten().collect(),
    ))
}

/// Rows of the table that no entity put there.
fn unknown_rows(subject: &Subject<'_>) -> Rows {
    let key = subject.key_column();
    let known: String = subject
        .fillers
        .iter()
        .map(|entity| {
            let mappings = subject.mappings_of(entity);
            format!(" and not exists (select from {mappings} m where m.new_id = t.{key})")
        })
        .collect();
    Rows {
        from: format!("{} t where true{known}", subject.table_name),
        ..Rows::of_table(subject)
    }
}

fn rows_with_shared_keys(subject: &Subject<'_>) -> Rows {
    let (table, key) = (&subject.table_name, subject.key_column());
    let from = format!(
        "{table} t where t.{key} in (select {key} from {table} group by 1 having count(*) > 1)"
    );
    Rows {
        from,
        ..Rows::of_table(subject)
    }
}

/// Whether the target itself sees to it that no two rows share a key.
fn key_is_unique(subject: &Subject<'_>) -> bool {
    let key = Some(subject.entity.target.key.column.value.clone());
    subject.table.is_some_and(|table| {
        table.indexes.iter().any(|index| {
            index.unique
                && index.valid
                && index.predicate.is_none()
                && index.plain_columns == [key.clone()]
        })
    })
}

/// The check `mapping`. That each mapping has its row is left to [`check_counts`].
pub(super) async fn check_mapping(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
) -> Result<Check> {
    let mappings = subject.mappings();
    let shared = Rows {
        from: format!(
            "{mappings} m where m.new_id in (select new_id from {mappings} m group by new_id having count(*) > 1)"
        ),
        ..Rows::of_mappings(subject)
    };
    let mut findings = vec![
        census
            .mapped_twice
            .finding("legacy ids with more than one mapping"),
        census
            .mapped_and_quarantined
            .finding("mapped, and in quarantine"),
        shared
            .count(target)
            .await?
            .finding("several legacy ids are mapped to the same key"),
    ];
    if let Some(legacy) = &subject.entity.target.legacy
        && subject.table.is_some()
    {
        findings.push(legacy_ids(target, subject, &legacy.value).await?);
    }
    Ok(Check::new(
        "mapping",
        census.mapped,
        findings.into_iter().flatten().collect(),
    ))
}

/// Rows that say they come from another legacy id than the one they are mapped under.
async fn legacy_ids(
    target: &Session,
    subject: &Subject<'_>,
    column: &str,
) -> Result<Option<Finding>> {
    if legacy_column(subject).is_none() {
        let what = format!(
            "table {} has no column `{column}` for the legacy id",
            plain_table_name(subject)
        );
        return Ok(Tally::of(1, Vec::new()).finding(what));
    }
    let wrong = Rows {
        from: format!(
            "{} m join {} t on t.{} = m.new_id where t.{}::text collate \"C\" is distinct from m.legacy_id",
            subject.mappings(),
            subject.table_name,
            subject.key_column(),
            quote::ident(column)
        ),
        ..Rows::of_mappings(subject)
    };
    Ok(wrong.count(target).await?.finding(format!(
        "`{column}` is not the legacy id that the row is mapped under"
    )))
}

/// The column for the legacy id, if it is declared and there.
fn legacy_column<'a>(subject: &'a Subject<'_>) -> Option<&'a str> {
    let name = subject.entity.target.legacy.as_ref()?.value.as_str();
    subject.table?.column(name)?;
    Some(name)
}

fn plain_table_name(subject: &Subject<'_>) -> String {
    format!("`{}`", subject.entity.target.table.value)
}

/// Rows to be counted, with the first few shown.
struct Rows {
    from: String,
    id: String,
    order: String,
}

impl Rows {
    /// Mappings `m`, shown by their legacy ids.
    fn of_mappings(subject: &Subject<'_>) -> Self {
        Self {
            from: String::new(),
            id: "m.legacy_id".to_owned(),
            order: subject.ledger_id("m"),
        }
    }

    /// Rows `t` of the table, shown by the legacy ids they bear, else by their keys.
    fn of_table(subject: &Subject<'_>) -> Self {
        let by_key = format!("'key ' || t.{}::text", subject.key_column());
        let id = match legacy_column(subject) {
            Some(legacy) => format!("coalesce(t.{}::text, {by_key})", quote::ident(legacy)),
            None => by_key,
        };
        Self {
            from: String::new(),
            order: id.clone(),
            id,
        }
    }

    async fn count(&self, target: &Session) -> Result<Tally> {
        let rows: i64 = target
            .query_one(&format!("select count(*) from {}", self.from), &[])
            .await?
            .get(0);
        if rows == 0 {
            return Ok(Tally::default());
        }
        let query = format!(
            "select {} from {} order by {} limit {EXAMPLES}",
            self.id, self.from, self.order
        );
        let examples = target
            .query(&query, &[])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        Ok(Tally::of(rows.unsigned_abs(), examples))
    }
}
