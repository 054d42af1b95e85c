//! One entity under examination: all proofs that were asked for, and a second look at what they
//! found before it is reported.

use std::time::{Duration, Instant};

use regraft_project::Column;

use super::account::{self, History};
use super::census::Census;
use super::columns;
use super::databases::Databases;
use super::declared::expressions;
use super::determinism::depends_on_more_than_the_row;
use super::distribution::{self, ColumnDistribution};
use super::edge::Reference;
use super::extent::Extent;
use super::options::{Method, ValidationOptions, ValidationType};
use super::pass::{Pass, Passed};
use super::report::{Advice, Check, EntityValidation, Finding};
use super::storage::Timed;
use super::subject::Subject;
use super::{mapping, merges, performance, references, sums};
use crate::context::Context;
use crate::drift::Drift;
use crate::error::Result;
use crate::events::Event;

/// How often the census is taken anew because somebody wrote meanwhile.
const ATTEMPTS: usize = 3;

/// An entity, and what is wanted of it.
pub(super) struct Examination<'a, 'c> {
    pub(super) context: &'c Context,
    pub(super) options: &'a ValidationOptions,
    pub(super) subject: &'a Subject<'a>,
    pub(super) history: &'a History,
    pub(super) drift: &'a Drift<'c>,
    /// Whether a server is far away.
    pub(super) far: bool,
    /// Whether it answers for rows of its table that nobody migrated.
    pub(super) answers_for_table: bool,
}

/// What was found of an entity so far.
#[derive(Default)]
struct Found {
    rows: u64,
    checks: Vec<Check>,
    method: Option<Method>,
    fetched_columns: Vec<String>,
    distributions: Vec<ColumnDistribution>,
    transient: u64,
    completeness: Duration,
    pass: Duration,
    advice: Advice,
    /// Rows that differ, as far as they are known one by one.
    suspects: Vec<String>,
    changed_since: Option<u64>,
}

impl<'c> Examination<'_, 'c> {
    /// Carries it out. `databases` is replaced by later views when somebody wrote meanwhile.
    pub(super) async fn run(
        &self,
        databases: &mut Databases<'c>,
        not_checked: &mut Vec<String>,
    ) -> Result<Timed> {
        let started = Instant::now();
        let mut found = Found::default();
        if self.options.wants(ValidationType::CompletenessCheck) {
            self.completeness(databases, &mut found).await?;
            not_checked.extend(self.history.not_checked(self.subject.name()));
            found.completeness = started.elapsed();
        }
        self.rows(databases, &mut found, not_checked).await?;
        self.tell_changes(&mut found).await;
        found.pass = started.elapsed() - found.completeness;
        if self.options.wants(ValidationType::PerformanceCheck) {
            self.phase("performance");
            if found.checks.is_empty() {
                found.rows = databases.count_source(self.subject.entity).await?;
            }
            let performance = performance::of_table(databases, self.subject).await?;
            found.checks.push(performance.check);
            found.advice.add(performance.advice);
        }
        Ok(Timed {
            validation: EntityValidation {
                entity: self.subject.name().to_owned(),
                rows: found.rows,
                checks: found.checks,
                method: found.method,
                fetched_columns: found.fetched_columns,
                distributions: found.distributions,
                transient: found.transient,
                changed_since: found.changed_since,
                seconds: started.elapsed().as_secs_f64(),
            },
            completeness: found.completeness,
            pass: found.pass,
            performance: started.elapsed() - found.completeness - found.pass,
            advice: found.advice,
        })
    }

    fn phase(&self, phase: &str) {
        self.context.events.send(Event::PhaseStarted {
            entity: self.subject.name().to_owned(),
            phase: format!("validating {phase}"),
        });
    }

    /// Later views of both databases.
    async fn later(&self) -> Result<Databases<'c>> {
        Databases::open(self.context, self.options.timeout).await
    }

    async fn completeness(&self, databases: &mut Databases<'c>, found: &mut Found) -> Result<()> {
        self.phase("completeness");
        let mut census = self.census(databases).await?;
        for _ in 1..ATTEMPTS {
            let suspects = census.suspects();
            if suspects.is_empty() {
                break;
            }
            let later = self.later().await?;
            later.mark().await?;
            let extent = Extent::only(suspects);
            let mut again = Census::take(&later, self.subject, &extent).await?;
            let gone = census.confirm(&mut again);
            if gone == 0 {
                break;
            }
            // The figures of the account belong to one view: all of it is counted again.
            found.transient += gone;
            *databases = later;
            census = self.census(databases).await?;
        }
        let (target, subject) = (&databases.target, self.subject);
        let account = account::check(target, subject, &census, self.history).await?;
        let (counts, mapping) =
            mapping::check(target, subject, &census, self.answers_for_table).await?;
        let mapping = mapping.with(merges::check(databases, subject).await?);
        found.rows = census.source_rows;
        found.checks.extend([account, counts, mapping]);
        Ok(())
    }

    /// The census of all rows. By ranges unless rows are to be fetched in any case.
    async fn census(&self, databases: &Databases<'_>) -> Result<Census> {
        if self.subject.numeric && self.options.method != Method::Stream {
            return Census::take_by_ranges(databases, self.subject).await;
        }
        Census::take(databases, self.subject, &Extent::default()).await
    }

    /// References and columns, in one pass over the rows.
    async fn rows(
        &self,
        databases: &Databases<'_>,
        found: &mut Found,
        not_checked: &mut Vec<String>,
    ) -> Result<()> {
        let wants_references = self.options.wants(ValidationType::RelationshipIntegrity);
        let wants_columns = self.options.wants(ValidationType::DataIntegrity);
        if !wants_references && !wants_columns {
            return Ok(());
        }
        let references = match wants_references {
            true => references::Plan::new(self.subject),
            false => references::Plan::default(),
        };
        let columns = match wants_columns {
            true => columns::Plan::new(databases, self.subject).await?,
            false => columns::Plan::default(),
        };
        not_checked.extend(references.not_checked.iter().cloned());
        not_checked.extend(columns.not_checked.iter().cloned());
        let extent = self.extent(databases, found, not_checked).await?;
        let pass = Pass {
            subject: self.subject,
            references: &references.references,
            columns: &columns.expectations,
            extent: &extent,
        };
        self.phase("rows");
        let summed = self.by_sums(&pass, databases, found.rows).await?;
        if summed.is_some() {
            let (_, apart) = sums::hashed_and_apart(pass.columns);
            found.fetched_columns = apart.iter().map(|of| of.column.to_owned()).collect();
        }
        found.method = Some(if summed.is_some() {
            Method::Sums
        } else {
            Method::Stream
        });
        let (mut followed, mut compared) = match summed {
            Some(passed) => (Ok(passed.followed), Ok(passed.compared)),
            None => self.both(&pass, databases).await?,
        };
        found.transient += self.look_again(&pass, &mut followed, &mut compared).await?;
        if wants_references {
            found.checks.push(references.check(&followed));
        }
        if let (Ok(followed), Ok(compared)) = (&followed, &compared) {
            let suspects = followed.suspects().into_iter().chain(compared.suspects());
            found.suspects = suspects.flatten().collect();
        }
        if let Ok(compared) = &compared {
            let of = &columns.expectations;
            found.distributions = match found.method {
                Some(Method::Stream) => compared.distributions(of, &[]),
                // Rows whose sums are equal are what they should be: counting them on one side tells.
                _ if self.is_table_its_own(found) => {
                    let held = distribution::held(databases, self.subject, of).await?;
                    compared.distributions(of, &held)
                }
                _ => Vec::new(),
            };
        }
        if wants_columns {
            found.checks.push(columns.check(&compared));
        }
        Ok(())
    }

    /// Whether all rows of the table are this entity's, as far as is known, and all are looked at.
    fn is_table_its_own(&self, found: &Found) -> bool {
        self.subject.fillers.len() == 1
            && self.options.rate(found.rows) >= 1.0
            && found.checks.iter().any(|check| check.name == "counts")
            && found
                .checks
                .iter()
                .all(|check| check.name == "references" || check.passed)
    }

    /// Tells which of the rows that differ were changed in the source since they were moved. What
    /// can't be told leaves the differences as they are.
    async fn tell_changes(&self, found: &mut Found) {
        // Where a value depends on more than the row, every reading of it is another.
        let mut columns = self.subject.entity.columns.iter();
        if found.suspects.is_empty() || columns.any(is_volatile) {
            return;
        }
        found.suspects.sort_unstable();
        found.suspects.dedup();
        let name = self.subject.name();
        let changed = self.drift.changed_since(name, &found.suspects).await;
        let Ok(changed) = changed else { return };
        found.changed_since = Some(changed.len() as u64);
        if !changed.is_empty() {
            let shown: Vec<&str> = changed.iter().map(String::as_str).take(5).collect();
            found.advice.changed.push(format!(
                "{name}: the source has changed {} of the {} rows that differ since they were moved: {}{}",
                changed.len(),
                found.suspects.len(),
                shown.join(", "),
                if changed.len() > shown.len() { ", ..." } else { "" }
            ));
        }
    }

    /// The rows whose references and columns are looked at.
    async fn extent(
        &self,
        databases: &Databases<'_>,
        found: &mut Found,
        not_checked: &mut Vec<String>,
    ) -> Result<Extent> {
        if found.checks.is_empty() {
            found.rows = databases.count_source(self.subject.entity).await?;
        }
        let rate = self.options.rate(found.rows);
        if rate < 1.0 {
            not_checked.push(format!(
                "{}: references and columns of all but {:.3} % of its {} rows: a sample was asked for",
                self.subject.name(),
                rate * 100.0,
                found.rows
            ));
        }
        Ok(Extent::sample(rate))
    }

    /// What sums tell, where they are wanted and possible. A source that refuses to compute them
    /// says more when the rows are fetched.
    async fn by_sums(
        &self,
        pass: &Pass<'_>,
        databases: &Databases<'_>,
        rows: u64,
    ) -> Result<Option<Passed>> {
        let (hashed, apart) = sums::hashed_and_apart(pass.columns);
        let mut references = pass.references.iter();
        let wanted = match self.options.method {
            _ if hashed.is_empty() && pass.references.is_empty() => false,
            Method::Stream => false,
            Method::Sums => true,
            // Where some columns are fetched in any case, the others may as well come with them.
            Method::Auto => {
                self.far || (apart.is_empty() && references.all(Reference::is_told_by_the_source))
            }
        };
        if !wanted || !sums::can_be_used(pass, databases).await? {
            return Ok(None);
        }
        Ok(refusable(sums::run(pass, databases, rows).await)?.unwrap_or_default())
    }

    /// What a pass finds; where the source can't compute a row, each of the two by itself.
    async fn both(&self, pass: &Pass<'_>, databases: &Databases<'_>) -> Result<Both> {
        match refusable(pass.run(databases).await)? {
            Ok(Passed { followed, compared }) => Ok((Ok(followed), Ok(compared))),
            Err(finding) if pass.references.is_empty() => {
                Ok((Ok(references::Followed::default()), Err(finding)))
            }
            Err(finding) if pass.columns.is_empty() => {
                Ok((Err(finding), Ok(columns::Compared::default())))
            }
            Err(_) => {
                let (references, columns) = (pass.without_columns(), pass.without_references());
                let followed = refusable(references.run(databases).await)?;
                let compared = refusable(columns.run(databases).await)?;
                Ok((followed.map(|p| p.followed), compared.map(|p| p.compared)))
            }
        }
    }

    /// Looks at the rows that differ once more, in later views; how many differences were gone.
    async fn look_again(
        &self,
        pass: &Pass<'_>,
        followed: &mut Result<references::Followed, Option<Finding>>,
        compared: &mut Result<columns::Compared, Option<Finding>>,
    ) -> Result<u64> {
        let (Ok(followed), Ok(compared)) = (followed, compared) else {
            return Ok(0);
        };
        let (Some(mut ids), Some(more)) = (followed.suspects(), compared.suspects()) else {
            return Ok(0);
        };
        ids.extend(more);
        if ids.is_empty() {
            return Ok(0);
        }
        ids.sort_unstable();
        ids.dedup();
        let extent = Extent::only(ids);
        let later = self.later().await?;
        let pass = Pass {
            extent: &extent,
            ..*pass
        };
        match refusable(pass.run(&later).await)? {
            Ok(again) => Ok(followed.confirm(&again.followed) + compared.confirm(&again.compared)),
            Err(_) => Ok(0),
        }
    }
}

/// Whether a column's rule gives another value each time.
fn is_volatile(column: &Column) -> bool {
    let mut expressions = expressions(&column.rule).into_iter();
    expressions.any(|sql| depends_on_more_than_the_row(&sql.text).is_some())
}

type Both = (
    Result<references::Followed, Option<Finding>>,
    Result<columns::Compared, Option<Finding>>,
);

/// A source that can't compute a row any more is a finding, not an error.
fn refusable<T>(passed: Result<T>) -> Result<Result<T, Option<Finding>>> {
    match passed {
        Ok(passed) => Ok(Ok(passed)),
        Err(error) => Ok(Err(columns::refused(&error).ok_or(error)?)),
    }
}
