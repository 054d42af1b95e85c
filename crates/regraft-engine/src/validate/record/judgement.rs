//! What the validator says of one row: its own checks, restricted to one legacy id.

use std::collections::BTreeMap;

use super::document::{ColumnRecord, ColumnVerdict};
use crate::error::Result;
use crate::validate::census::Census;
use crate::validate::columns;
use crate::validate::databases::Databases;
use crate::validate::expectation::Verdict;
use crate::validate::extent::Extent;
use crate::validate::merges;
use crate::validate::pass::{Pass, Passed};
use crate::validate::references;
use crate::validate::report::{Check, Finding};
use crate::validate::subject::Subject;

/// The verdict.
pub(super) struct Judgement {
    pub(super) checks: Vec<Check>,
    pub(super) not_checked: Vec<String>,
    /// What is wrong, by column; columns that were compared and are not here are right.
    wrong: BTreeMap<String, String>,
    compared: Vec<String>,
    /// What is said of a key that the source doesn't have.
    key: Option<String>,
}

impl Judgement {
    /// Examines the row under a legacy id.
    pub(super) async fn of(
        databases: &Databases<'_>,
        subject: &Subject<'_>,
        legacy_id: &str,
        extent: &Extent,
    ) -> Result<Self> {
        let census = Census::take(databases, subject, extent).await?;
        let mut checks = vec![Check::new(
            "account",
            census.source_rows,
            census.findings(subject),
        )];
        checks.push(mapping(databases, subject, &census, legacy_id).await?);
        let references = references::Plan::new(subject);
        let columns = columns::Plan::new(databases, subject).await?;
        let pass = Pass {
            subject,
            references: &references.references,
            columns: &columns.expectations,
            extent,
        };
        let mut judgement = Self {
            checks,
            not_checked: [&*references.not_checked, &*columns.not_checked].concat(),
            wrong: BTreeMap::new(),
            compared: Vec::new(),
            key: None,
        };
        judgement.identity(subject, &census);
        match pass.run(databases).await {
            Ok(passed) => {
                judgement.name_faults(&pass, &passed);
                let Passed { followed, compared } = passed;
                let both = [
                    references.check(&Ok(followed)),
                    columns.check(&Ok(compared)),
                ];
                judgement.add(both, &pass, census.kept > 0);
            }
            Err(error) => {
                let finding = columns::refused(&error).ok_or(error)?;
                let check = Check::new("columns", 0, finding.into_iter().collect());
                judgement.checks.push(check);
            }
        }
        Ok(judgement)
    }

    /// Notes what is wrong under the columns that it is about.
    fn name_faults(&mut self, pass: &Pass<'_>, passed: &Passed) {
        for (at, parent, fault) in passed.followed.faults() {
            if let Some(reference) = pass.references.get(at) {
                let parent = reference.parents.get(parent).copied().unwrap_or_default();
                let what = fault.describe(reference.column, parent);
                self.wrong.insert(reference.column.to_owned(), what);
            }
        }
        for (at, verdict) in passed.compared.verdicts() {
            if let Some(expectation) = pass.columns.get(at) {
                let what = match verdict {
                    Verdict::ShouldStayBehind => {
                        "its rule has no value for this row, which should be in quarantine"
                    }
                    _ => "it is not what the source gives",
                };
                self.wrong
                    .insert(expectation.column.to_owned(), what.to_owned());
            }
        }
    }

    fn add(&mut self, checks: [Check; 2], pass: &Pass<'_>, there: bool) {
        // A row without columns to compare is met all the same.
        if there && checks.iter().any(|check| check.looked_at > 0) {
            let references = pass.references.iter().map(|r| r.column.to_owned());
            let columns = pass.columns.iter().map(|c| c.column.to_owned());
            self.compared.extend(references.chain(columns));
        }
        self.checks.extend(checks);
    }

    /// The key and the legacy id, which are the mapping's business and not the columns'.
    fn identity(&mut self, subject: &Subject<'_>, census: &Census) {
        if census.mapped == 0 || census.without_row.rows > 0 {
            return;
        }
        if let Some(legacy) = subject.legacy_column() {
            let disowned = "it is another than the one that the row is mapped under";
            match census.disowned.rows {
                0 => self.compared.push(legacy.to_owned()),
                _ => drop(self.wrong.insert(legacy.to_owned(), disowned.to_owned())),
            }
        }
        self.key = Some(subject.entity.target.key.column.value.clone());
    }

    /// Says of each column what it is.
    pub(super) fn mark(&self, entity: &str, columns: &mut [ColumnRecord]) {
        for record in columns {
            if let Some(why) = self.wrong.get(&record.column) {
                record.verdict = ColumnVerdict::Wrong;
                record.why = Some(why.clone());
            } else if self.compared.contains(&record.column) {
                record.verdict = ColumnVerdict::Right;
            } else if self.key.as_ref() == Some(&record.column) {
                record.why = Some("its mapping leads to it".to_owned());
            } else {
                let place = format!("{entity}.{}: ", record.column);
                let mut remarks = self.not_checked.iter();
                let remark = remarks.find_map(|remark| remark.strip_prefix(&place));
                record.why = remark.map(str::to_owned);
            }
        }
    }

    /// What is wrong, in words.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.checks
            .iter()
            .flat_map(|check| &check.findings)
            .map(|finding| finding.what.clone())
    }
}

/// One legacy id, one key, one row that agrees; for a merged row, the row that the rule says.
async fn mapping(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    census: &Census,
    legacy_id: &str,
) -> Result<Check> {
    let mut findings: Vec<Finding> = [
        census
            .without_row
            .finding("mapped, but the table has no such row"),
        census
            .disowned
            .finding("the row names another legacy id than the one it is mapped under"),
        census
            .mapped_twice
            .finding("the legacy id has more than one mapping"),
        census
            .mapped_and_quarantined
            .finding("mapped, and in quarantine"),
    ]
    .into_iter()
    .flatten()
    .collect();
    findings.extend(merges::check_row(databases, subject, legacy_id).await?);
    Ok(Check::new("mapping", census.mapped, findings))
}
