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
    if subject.table.is_none() {
        let what = format!("there is no table {} with a key {key}", plain_table_name(subject));
        let gone = Tally::of(census.mapped.max(1), Vec::new()).finding(what);
        return Ok(Check::new("counts", 0, gone.into_iter().collect()));
    }
    let name = plain_table_name(subject);
    let missing = Counted {
        from: format!(
            "regraft.migration_mappings m where m.entity = {} \
             and not exists (select from {table} t where t.{key} = m.new_id)",
            subject.literal()
        ),
        id: "m.legacy_id".to_owned(),
        order: subject.ledger_id("m"),
    };
    let mut findings: Vec<Option<Finding>> =
        vec![missing.count(target).await?.finding(format!("mapped, but table {name} has no such row"))];
    if answers_for_table {
        let unknown = unknown_rows(subject).count(target).await?;
        findings.push(unknown.finding(format!("rows in table {name} that no mapping knows")));
    }
    let rows: i64 = target.query_one(&format!("select count(*) from {table}"), &[]).await?.get(0);
    Ok(Check::new("counts", rows.unsigned_abs(), findings.into_iter().flatten().collect()))
}

/// Rows of the table that no entity put there; shown by the legacy id they bear, else by key.
fn unknown_rows(subject: &Subject<'_>) -> Counted {
    let (table, key) = (&subject.table_name, subject.key_column());
    let entities: Vec<String> = subject.fillers.iter().map(|name| quote::literal(name)).collect();
    let by_key = format!("'key ' || t.{key}::text");
    let id = match legacy_column(subject) {
        Some(legacy) => format!("coalesce(t.{}::text, {by_key})", quote::ident(legacy)),
        None => by_key,
    };
    Counted {
        from: format!(
            "{table} t where not exists (select from regraft.migration_mappings m \
             where m.entity in ({}) and m.new_id = t.{key})",
            entities.join(", ")
        ),
        order: id.clone(),
        id,
    }
}

/// The check `mapping`. That each mapping has its row is left to [`check_counts`].
pub(super) async fn check_mapping(
    target: &Session,
    subject: &Subject<'_>,
    census: &Census,
) -> Result<Check> {
    let entity = subject.literal();
    let shared = Counted {
        from: format!(
            "regraft.migration_mappings m where m.entity = {entity} and m.new_id in (
               select new_id from regraft.migration_mappings where entity = {entity}
               group by new_id having count(*) > 1)"
        ),
        id: "m.legacy_id".to_owned(),
        order: subject.ledger_id("m"),
    };
    let mut findings = vec![
        census.mapped_twice.finding("legacy ids with more than one mapping"),
        census.mapped_and_quarantined.finding("mapped, and in quarantine"),
        shared.count(target).await?.finding("several legacy ids are mapped to the same key"),
    ];
    if let Some(legacy) = &subject.entity.target.legacy
        && subject.table.is_some()
    {
        findings.push(legacy_ids(target, subject, &legacy.value).await?);
    }
    Ok(Check::new("mapping", census.mapped, findings.into_iter().flatten().collect()))
}

/// Rows that say they come from another legacy id than the one they are mapped under.
async fn legacy_ids(target: &Session, subject: &Subject<'_>, column: &str) -> Result<Option<Finding>> {
    if legacy_column(subject).is_none() {
        let what = format!("table {} has no column `{column}` for the legacy id", plain_table_name(subject));
        return Ok(Tally::of(1, Vec::new()).finding(what));
    }
    let wrong = Counted {
        from: format!(
            "regraft.migration_mappings m join {} t on t.{} = m.new_id \
             where m.entity = {} and t.{}::text collate \"C\" is distinct from m.legacy_id",
            subject.table_name,
            subject.key_column(),
            subject.literal(),
            quote::ident(column)
        ),
        id: "m.legacy_id".to_owned(),
        order: subject.ledger_id("m"),
    };
    Ok(wrong.count(target).await?.finding(format!("`{column}` is not the legacy id that the row is mapped under")))
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
struct Counted {
    from: String,
    id: String,
    order: String,
}

impl Counted {
    async fn count(&self, target: &Session) -> Result<Tally> {
        let rows: i64 = target.query_one(&format!("select count(*) from {}", self.from), &[]).await?.get(0);
        if rows == 0 {
            return Ok(Tally::default());
        }
        let query =
            format!("select {} from {} order by {} limit {EXAMPLES}", self.id, self.from, self.order);
        let examples = target.query(&query, &[]).await?.iter().map(|row| row.get(0)).collect();
        Ok(Tally::of(rows.unsigned_abs(), examples))
    }
}
