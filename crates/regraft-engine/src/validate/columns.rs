//! Columns: each recomputed from the source and compared with what the target holds, over both
//! databases' rows streamed in the order of the legacy ids.

use std::collections::BTreeMap;

use regraft_pg::{Session, Side, quote};
use regraft_project::Rule;
use tokio_postgres::types::Type;

use super::databases::Databases;
use super::expectation::{Expectation, Verdict, expectation, key_expectation};
use super::report::{Check, Finding, Tally};
use super::rows::{Meeting, Merge, Parts, Rows};
use super::subject::{KeptRows, Subject};
use crate::error::{Error, Kind, Result};

/// The check, and what it could not look at.
pub(super) async fn check(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
) -> Result<(Check, Vec<String>)> {
    let mut plan = Plan::default();
    if subject.table.is_none() {
        plan.not_checked.push(format!(
            "{}: its columns, because the table or its key is not there",
            subject.name()
        ));
        return Ok((Check::new("columns", 0, Vec::new()), plan.not_checked));
    }
    plan.fill(databases, subject).await?;
    let mut findings = plan.findings;
    let looked_at = match compare(databases, subject, &plan.expectations).await {
        Ok(compared) => {
            findings.extend(compared.findings(&plan.expectations));
            compared.rows
        }
        Err(error) => {
            findings.extend(refused(&error).ok_or(error)?);
            0
        }
    };
    Ok((Check::new("columns", looked_at, findings), plan.not_checked))
}

/// The finding for a source that can't compute its expressions any more. A row that made an
/// expression fail when it was migrated is in quarantine and isn't asked for, so this is another.
pub(super) fn refused(error: &Error) -> Option<Option<Finding>> {
    let database = error.database()?;
    if error.kind() != Kind::Data || database.side() != Some(Side::Source) {
        return None;
    }
    let state = database.sqlstate()?;
    let what = format!(
        "nothing could be compared: the source can't compute a row that is not in quarantine ({state} {})",
        database.message()
    );
    Some(Tally::of(1, Vec::new()).finding(what))
}

/// What is compared of an entity, and what isn't.
#[derive(Default)]
struct Plan<'a> {
    expectations: Vec<Expectation<'a>>,
    findings: Vec<Finding>,
    not_checked: Vec<String>,
}

impl<'a> Plan<'a> {
    async fn fill(&mut self, databases: &Databases<'_>, subject: &Subject<'a>) -> Result<()> {
        self.expectations.extend(key_expectation(subject));
        let types = column_types(databases, subject).await?;
        for column in &subject.entity.columns {
            let name = column.name.value.as_str();
            if matches!(column.rule, Rule::Ref { .. } | Rule::RefBy { .. }) {
                continue;
            }
            let Some(of) = types.get(name) else {
                self.findings.extend(
                    Tally::of(1, Vec::new()).finding(format!("the table has no column `{name}`")),
                );
                continue;
            };
            match expectation(databases, subject, column, of).await? {
                Ok(expectation) => self.expectations.push(expectation),
                Err(why) => self
                    .not_checked
                    .push(format!("{}.{name}: {why}", subject.name())),
            }
        }
        self.not_checked.extend(unmapped(subject));
        Ok(())
    }
}

/// The types of the mapped columns that the table has.
async fn column_types(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
) -> Result<BTreeMap<String, Type>> {
    let mapped = subject
        .entity
        .columns
        .iter()
        .map(|column| column.name.value.as_str());
    let there: Vec<&str> = mapped
        .filter(|name| subject.table.is_some_and(|t| t.column(name).is_some()))
        .collect();
    if there.is_empty() {
        return Ok(BTreeMap::new());
    }
    let query = format!(
        "select {} from {}",
        quote::idents(there),
        subject.table_name
    );
    let described = databases
        .describe_target(&query)
        .await?
        .map_err(|why| Error::new(Kind::Data, format!("the target refuses to be read: {why}")))?;
    Ok(described
        .columns()
        .iter()
        .map(|c| (c.name().to_owned(), c.type_().clone()))
        .collect())
}

/// Columns that the project says nothing about.
fn unmapped(subject: &Subject<'_>) -> Option<String> {
    let target = &subject.entity.target;
    let mapped = |name: &str| {
        name == target.key.column.value
            || target
                .legacy
                .as_ref()
                .is_some_and(|legacy| legacy.value == name)
            || subject
                .entity
                .columns
                .iter()
                .any(|column| column.name.value == name)
    };
    let left: Vec<&str> = subject
        .table?
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .filter(|name| !mapped(name))
        .collect();
    (!left.is_empty()).then(|| {
        format!(
            "{}: {}: the project says nothing about these columns",
            subject.name(),
            left.join(", ")
        )
    })
}

/// What comparing came to.
#[derive(Default)]
struct Compared {
    rows: u64,
    tallies: BTreeMap<(usize, Verdict), Tally>,
}

impl Compared {
    fn findings(&self, expectations: &[Expectation<'_>]) -> Vec<Finding> {
        self.tallies
            .iter()
            .filter_map(|((i, verdict), tally)| {
                let column = expectations.get(*i)?.column;
                tally.finding(match verdict {
                    Verdict::ShouldStayBehind => format!(
                        "`{column}`: its rule has no value for these rows, which should be in quarantine"
                    ),
                    _ => format!("`{column}` is not what the source gives"),
                })
            })
            .collect()
    }
}

/// Compares all rows that both databases have; those that only one has are the account's business.
async fn compare(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    expectations: &[Expectation<'_>],
) -> Result<Compared> {
    if expectations.is_empty() {
        return Ok(Compared::default());
    }
    let session = databases.source().await?;
    let compared = compare_over(databases, &session, subject, expectations).await?;
    databases.give_back(session);
    Ok(compared)
}

async fn compare_over(
    databases: &Databases<'_>,
    session: &Session,
    subject: &Subject<'_>,
    expectations: &[Expectation<'_>],
) -> Result<Compared> {
    let list: Vec<String> = expectations
        .iter()
        .filter_map(|e| e.source.clone())
        .collect();
    let fields = list.len() + 1;
    let parts = Parts::Kept(KeptRows::new(subject, list, &databases.lookup));
    let source = Rows::new(session, parts, fields);
    let query = target_query(subject, expectations);
    let target = Rows::new(
        &databases.target,
        Parts::One(Some(query)),
        expectations.len() + 1,
    );
    let mut merge = Merge::new(source, target, subject.numeric);
    let mut compared = Compared::default();
    while let Some(meeting) = merge.next().await? {
        if meeting == Meeting::Both {
            compared.rows += 1;
            compare_row(&mut compared, &merge, expectations);
        }
    }
    Ok(compared)
}

fn compare_row(compared: &mut Compared, merge: &Merge<'_>, expectations: &[Expectation<'_>]) {
    let mut next = 1;
    for (i, expectation) in expectations.iter().enumerate() {
        let mut value = None;
        if expectation.source.is_some() {
            value = merge.source.field(next);
            next += 1;
        }
        let verdict = expectation.judge(value, merge.target.field(i + 1));
        if verdict != Verdict::Right {
            compared
                .tallies
                .entry((i, verdict))
                .or_default()
                .add(|| merge.id());
        }
    }
}

/// The mapped rows of the target under their legacy ids.
fn target_query(subject: &Subject<'_>, expectations: &[Expectation<'_>]) -> String {
    let id = subject.ledger_id("m");
    let mut list = id.clone();
    for expectation in expectations {
        list.push_str(", ");
        list.push_str(&expectation.target);
    }
    format!(
        "select {list} from {} m join {} t on t.{} = m.new_id order by {id}",
        subject.mappings(),
        subject.table_name,
        subject.key_column()
    )
}
