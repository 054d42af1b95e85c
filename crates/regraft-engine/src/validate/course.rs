//! The course of a validation: entity after entity, then the invariants and the project's queries,
//! as far as the time and the privileges allow.

use std::time::{Duration, Instant};

use regraft_project::Selection;
use serde::{Deserialize, Serialize};

use super::databases::Databases;
use super::examination::Examination;
use super::invariants;
use super::options::{ValidationOptions, ValidationType};
use super::performance;
use super::report::{Advice, Check, Checked};
use super::storage::Timed;
use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// What a validation has come to.
#[derive(Default)]
pub(super) struct Done {
    pub(super) entities: Vec<Timed>,
    pub(super) not_checked: Vec<String>,
    /// Entities that could not be examined to the end.
    pub(super) unfinished: usize,
    /// The time is over: the connections are in the middle of something.
    pub(super) late: bool,
    pub(super) invariants: Checked,
    pub(super) queries: Option<(Check, Duration)>,
    pub(super) advice: Advice,
}

impl Done {
    /// Notes that the time was over before or within something.
    pub(super) fn stop(&mut self, what: &str, place: &str) {
        self.late = true;
        self.unfinished += 1;
        self.not_checked
            .push(format!("{what}: the time limit was reached {place} it"));
    }

    /// Examines an entity; what the time or a privilege doesn't allow is noted.
    pub(super) async fn examine<'c>(
        &mut self,
        examination: &Examination<'_, 'c>,
        databases: &mut Databases<'c>,
        left: Option<Duration>,
    ) -> Result<()> {
        let name = examination.subject.name();
        if self.late || left.is_some_and(|left| left.is_zero()) {
            self.stop(name, "before");
            return Ok(());
        }
        let examined = examine(examination, databases, left).await?;
        self.add(name, examined);
        Ok(())
    }

    /// Adds what came of an entity.
    pub(super) fn add(&mut self, name: &str, examined: Examined) {
        match examined {
            Examined::Done { mut timed, remarks } => {
                self.advice.add(std::mem::take(&mut timed.advice));
                self.entities.push(*timed);
                self.not_checked.extend(remarks);
            }
            Examined::Refused(why) => {
                self.unfinished += 1;
                self.not_checked.push(format!("{name}: {why}"));
            }
            Examined::Late => self.stop(name, "within"),
        }
    }

    /// Measures the project's queries, where performance is asked for.
    pub(super) async fn measure_queries(
        &mut self,
        context: &Context,
        databases: &Databases<'_>,
        options: &ValidationOptions,
    ) -> Result<()> {
        let queries = context.project.queries();
        if !options.wants(ValidationType::PerformanceCheck) || queries.is_empty() {
            return Ok(());
        }
        if self.late {
            self.stop("queries", "before");
            return Ok(());
        }
        let started = Instant::now();
        let check = performance::of_queries(databases, queries).await?;
        self.queries = check.map(|check| (check, started.elapsed()));
        Ok(())
    }

    /// Checks the invariants of the selection, as far as the time allows.
    pub(super) async fn hold_invariants(
        &mut self,
        context: &Context,
        databases: &Databases<'_>,
        selection: &Selection,
        migrated: &[&str],
        options: &ValidationOptions,
    ) -> Result<()> {
        if !options.wants(ValidationType::DataIntegrity) || context.project.invariants().is_empty()
        {
            return Ok(());
        }
        if self.late {
            self.stop("invariants", "before");
            return Ok(());
        }
        let (limit, remarks) = (options.timeout, &mut self.not_checked);
        let checked =
            invariants::check(context, databases, selection, migrated, limit, remarks).await;
        match checked {
            Ok(checked) => self.invariants = checked,
            Err(error) if is_late(&error, options.timeout) => self.stop("invariants", "within"),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What came of an entity.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Examined {
    /// It was examined to the end; what could not be looked at is in the remarks.
    Done {
        timed: Box<Timed>,
        remarks: Vec<String>,
    },
    /// A privilege is missing.
    Refused(String),
    /// The time was over within it.
    Late,
}

/// Examines an entity within the time that is left.
///
/// # Errors
/// What is neither a matter of time nor of a privilege.
pub(super) async fn examine<'c>(
    examination: &Examination<'_, 'c>,
    databases: &mut Databases<'c>,
    left: Option<Duration>,
) -> Result<Examined> {
    databases.mark().await?;
    let mut remarks = Vec::new();
    let work = examination.run(databases, &mut remarks);
    let examined = match left {
        Some(left) => tokio::time::timeout(left, work).await.ok(),
        None => Some(work.await),
    };
    match examined {
        Some(Ok(timed)) => Ok(Examined::Done {
            timed: Box::new(timed),
            remarks,
        }),
        Some(Err(error)) if error.kind() == Kind::Permission => {
            databases.recover().await?;
            Ok(Examined::Refused(error.message().to_owned()))
        }
        Some(Err(error)) if !is_late(&error, left) => Err(error),
        _ => Ok(Examined::Late),
    }
}

/// Whether a server gave up because of the time limit that it was given.
fn is_late(error: &Error, left: Option<Duration>) -> bool {
    let cancelled = error.database().and_then(|e| e.sqlstate()) == Some("57014");
    left.is_some() && cancelled
}
