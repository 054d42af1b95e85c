//! Columns: each recomputed from the source and compared with what the target holds, over both
//! databases' rows streamed in the order of the legacy ids.

use std::collections::BTreeMap;

use regraft_pg::{Side, quote};
use regraft_project::Rule;
use tokio_postgres::types::Type;

use super::databases::Databases;
use super::declared::{expectation, key_expectation};
use super::distribution::{ColumnDistribution, Counts, Held};
use super::expectation::{Expectation, Verdict};
use super::report::{Check, Finding, Tallies, Tally};
use super::rows::Merge;
use super::subject::Subject;
use crate::error::{Error, Kind, Result};

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
pub(super) struct Plan<'a> {
    pub(super) expectations: Vec<Expectation<'a>>,
    findings: Vec<Finding>,
    pub(super) not_checked: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Works out what every mapped column should hold.
    pub(super) async fn new(databases: &Databases<'_>, subject: &Subject<'a>) -> Result<Self> {
        let mut plan = Self::default();
        if subject.table.is_some() {
            plan.fill(databases, subject).await?;
        } else {
            plan.not_checked.push(format!(
                "{}: its columns, because the table or its key is not there",
                subject.name()
            ));
        }
        Ok(plan)
    }

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
        // Those that can't be hashed are fetched apart from the others, if these are.
        self.expectations.sort_by_key(|e| e.sums.is_none());
        self.not_checked.extend(unmapped(subject));
        Ok(())
    }

    /// The check, with what a pass found or why the source could not be read.
    pub(super) fn check(&self, compared: &Result<Compared, Option<Finding>>) -> Check {
        let mut findings = self.findings.clone();
        let looked_at = match compared {
            Ok(compared) => {
                findings.extend(compared.findings(&self.expectations));
                compared.rows
            }
            Err(finding) => {
                findings.extend(finding.clone());
                0
            }
        };
        Check::new("columns", looked_at, findings)
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
pub(super) struct Compared {
    rows: u64,
    tallies: Tallies<(usize, Verdict)>,
    counts: Vec<Counts>,
}

impl Compared {
    /// Counts rows that were found right by other means.
    pub(super) fn add_rows(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Takes in what came of further columns of the same rows, which follow the first `before`.
    pub(super) fn add_columns(&mut self, further: Self, before: usize) {
        self.counts.resize(before, Counts::default());
        self.counts.extend(further.counts);
        for ((i, verdict), tally) in further.tallies {
            self.tallies.insert((before + i, verdict), tally);
        }
    }

    /// Compares the row that both streams stand at, from the given fields on.
    pub(super) fn row(
        &mut self,
        merge: &Merge<'_>,
        expectations: &[Expectation<'_>],
        (mut at_source, at_target): (usize, usize),
    ) {
        self.rows += 1;
        self.counts.resize(expectations.len(), Counts::default());
        for (i, expectation) in expectations.iter().enumerate() {
            let mut value = None;
            if expectation.source.is_some() {
                value = merge.source.field(at_source);
                at_source += 1;
            }
            let held = merge.target.field(at_target + i);
            let verdict = expectation.judge(value, held);
            self.counts[i].add(expectation.seen(value, held, verdict == Verdict::Right));
            if verdict != Verdict::Right {
                self.tallies.add((i, verdict), || merge.id());
            }
        }
    }

    /// How the values are distributed: over the rows that went by, or over all with what the table
    /// holds of each column.
    pub(super) fn distributions(
        &self,
        expectations: &[Expectation<'_>],
        held: &[Held],
    ) -> Vec<ColumnDistribution> {
        let none = Counts::default();
        let columns = expectations.iter().enumerate();
        columns
            .map(|(i, of)| {
                let counts = self.counts.get(i).unwrap_or(&none);
                counts.over(held.get(i), of.column, of.listed())
            })
            .collect()
    }

    /// What is wrong, by the number of the expectation.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (usize, Verdict)> {
        self.tallies.keys()
    }

    /// The legacy ids of all differences; `None` where there are too many to look at again.
    pub(super) fn suspects(&self) -> Option<Vec<String>> {
        self.tallies.ids()
    }

    /// Leaves out what a later look at the same legacy ids did not find; how much that is.
    pub(super) fn confirm(&mut self, later: &Self) -> u64 {
        self.tallies.confirm(&later.tallies)
    }

    fn findings(&self, expectations: &[Expectation<'_>]) -> Vec<Finding> {
        self.tallies
            .iter()
            .filter_map(|((i, verdict), tally)| {
                let column = expectations.get(i)?.column;
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
