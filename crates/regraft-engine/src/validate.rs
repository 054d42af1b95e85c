//! `validate`: proves from both databases that what was migrated is complete and right.
//!
//! It shares no code with the loader. The project's declaration is the specification, and each
//! check turns it into queries of its own: what the source says now, what the target holds now,
//! the two met under the legacy ids. Streams are read in key order, so that memory does not grow
//! with the tables. What can't be compared is named, never passed over.

mod account;
mod canonical;
mod census;
mod closing;
mod columns;
mod compare;
mod course;
mod databases;
mod declared;
mod determinism;
mod distribution;
mod edge;
mod examination;
mod expectation;
mod extent;
mod handed_out;
mod invariants;
mod json;
mod mapping;
mod merges;
mod options;
mod parents;
mod pass;
mod performance;
mod record;
mod references;
mod report;
mod rows;
mod storage;
mod subject;
mod sums;

use std::time::Instant;

use regraft_project::Selection;
use uuid::Uuid;

pub use distribution::{ColumnDistribution, ValueCount};
pub(crate) use handed_out::examine_offered;
pub(crate) use invariants::problems as invariant_problems;
pub use options::{Method, ValidationOptions, ValidationType};
pub(crate) use performance::{
    DEAD as DEAD_ROWS, finds as index_finds, is_large, problems as query_problems,
};
pub use record::{
    ChildExample, ChildRecord, ColumnRecord, ColumnValue, ColumnVerdict, ParentRecord, Reading,
    Record, RecordId, RecordState, SourceRow, TargetRow, check_record,
};
pub use report::{Check, EntityValidation, Finding, InvariantOutcome, Validation};

use account::History;
use course::Done;
use databases::{Databases, nothing_migrated};
use examination::Examination;
use storage::{Summary, Whole};
use subject::{IdSpaces, Subject};

use crate::context::Context;
use crate::drift::Drift;
use crate::error::{Error, Kind, Result};

/// Validates the selected entities against both databases as they are now, and stores the results
/// in the ledger. What is found is in the result, not an error.
///
/// The source is read in one snapshot, the target in another; what differs is looked at again in
/// later ones before it is reported, so that a change on its way is no finding.
///
/// # Errors
/// [`Kind::Usage`] when none of the entities was migrated; a server that can't be reached;
/// [`Kind::Interrupted`] when a stop was asked for, and then nothing is stored.
pub async fn validate(
    context: &Context,
    selection: &Selection,
    options: &ValidationOptions,
) -> Result<Validation> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(stopped()),
        validation = run(context, selection, options, Scope::Selection) => validation,
    }
}

/// Validates the migration as a whole: every entity as [`validate`] does, and besides that every
/// entity was migrated, nothing is unfinished, every account of every run balances, what is in
/// quarantine is within the project's limit, and the target's catalog is what the latest migration
/// left.
///
/// # Errors
/// As of [`validate`].
pub async fn validate_final(context: &Context, options: &ValidationOptions) -> Result<Validation> {
    let all = context
        .project
        .select(&[], false)
        .map_err(|error| Error::new(Kind::Usage, error.to_string()))?;
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(stopped()),
        validation = run(context, &all, options, Scope::Migration) => validation,
    }
}

/// What a validation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The rows of the selected entities.
    Selection,
    /// Those of all entities, and the migration as a whole.
    Migration,
}

fn stopped() -> Error {
    Error::new(
        Kind::Interrupted,
        "stopped on request: the validation is not finished, and nothing of it was stored",
    )
    .hint("run the same command again")
}

async fn run(
    context: &Context,
    selection: &Selection,
    options: &ValidationOptions,
    scope: Scope,
) -> Result<Validation> {
    let started = Instant::now();
    let mut databases = Databases::open(context, options.timeout).await?;
    let catalog = databases.catalog.clone();
    let spaces = IdSpaces::read(&context.project, &databases).await?;
    let mut done = Done::default();
    let mut subjects = Vec::new();
    for step in selection.entities() {
        let Some(entity) = context.project.entity(&step.entity) else {
            continue;
        };
        let history = History::read(&databases.target, &entity.name).await?;
        if history.is_empty() && !has_rows(&databases, &entity.name).await? {
            done.not_checked
                .push(format!("{}: it was not migrated", entity.name));
            continue;
        }
        let subject = Subject::new(&context.project, entity, &catalog, &spaces)?;
        subjects.push((subject, history));
    }
    if subjects.is_empty() {
        return Err(nothing_migrated());
    }
    let far = options.method == Method::Auto && sums::is_far(&databases).await?;
    let drift = Drift::new(context);
    let mut examinations = Vec::new();
    for (subject, history) in &subjects {
        // Where several entities fill a table, one of them answers for rows that nobody migrated.
        let first = subjects
            .iter()
            .find(|(other, _)| other.table_name == subject.table_name);
        examinations.push(Examination {
            context,
            options,
            subject,
            history,
            drift: &drift,
            far,
            answers_for_table: first.is_some_and(|(other, _)| other.name() == subject.name()),
        });
    }
    let left = || {
        let limit = options.timeout;
        limit.map(|limit| limit.saturating_sub(started.elapsed()))
    };
    if let Some(queue) = context.settings.queue.as_deref() {
        let left = left();
        handed_out::examine_all(context, queue, &databases, &examinations, left, &mut done).await?;
    } else {
        for examination in &examinations {
            done.examine(examination, &mut databases, left())
                .await
                .map_err(|error| error.in_entity(examination.subject.name()))?;
        }
    }
    let migrated: Vec<&str> = subjects.iter().map(|(subject, _)| subject.name()).collect();
    done.hold_invariants(context, &databases, selection, &migrated, options)
        .await?;
    done.measure_queries(context, &databases, options).await?;
    conclude(context, &databases, done, options, scope, started).await
}

/// Adds what is about the migration as a whole, stores it all, and comes to the verdict.
async fn conclude(
    context: &Context,
    databases: &Databases<'_>,
    done: Done,
    options: &ValidationOptions,
    scope: Scope,
    started: Instant,
) -> Result<Validation> {
    let Done {
        mut entities,
        mut not_checked,
        unfinished,
        late,
        invariants,
        queries,
        advice,
    } = done;
    let closing = Instant::now();
    for finding in entities
        .iter_mut()
        .flat_map(|timed| &mut timed.validation.checks)
        .flat_map(|check| &mut check.findings)
    {
        finding.examples.truncate(options.examples);
    }
    let validated: Vec<EntityValidation> = entities
        .iter()
        .map(|timed| timed.validation.clone())
        .collect();
    let mut migration = match scope {
        Scope::Migration if late => {
            not_checked.push("migration: the time limit was reached before it".to_owned());
            Vec::new()
        }
        Scope::Migration => closing::check(&context.project, databases, &validated).await?,
        Scope::Selection => Vec::new(),
    };
    let whole = Whole {
        checks: &migration.clone(),
        took: closing.elapsed(),
        invariants: &invariants,
        queries: queries.as_ref().map(|(check, took)| (check, *took)),
    };
    let complete = unfinished == 0;
    migration.extend(invariants.check.clone());
    migration.extend(queries.as_ref().map(|(check, _)| check.clone()));
    let mut checks = validated
        .iter()
        .flat_map(|entity| &entity.checks)
        .chain(&migration);
    let validation_id = Uuid::new_v4();
    let passed = complete && checks.all(|check| check.passed);
    let mut validation = Validation {
        validation_id: validation_id.to_string(),
        complete,
        passed,
        entities: validated,
        migration,
        invariants: invariants.outcomes.clone(),
        not_checked,
        advice: advice.remarks(),
        seconds: started.elapsed().as_secs_f64(),
    };
    let summary = Summary {
        validation: &validation,
        unfinished: unfinished as u64,
        context: asked_for(context, options, scope),
        keep_days: context.project.manifest().validation.keep_days,
    };
    let target = context.connect_target().await?;
    match storage::record(&target, validation_id, &entities, &whole, &summary).await {
        Err(error) if error.kind() == Kind::Permission => validation
            .not_checked
            .push("ledger: this role may not write to it, so the result is not stored".to_owned()),
        recorded => recorded?,
    }
    Ok(validation)
}

/// What a validation was: the project, the program, and what was asked for.
fn asked_for(context: &Context, options: &ValidationOptions, scope: Scope) -> serde_json::Value {
    serde_json::json!({
        "project": context.project.manifest().name,
        "project_hash": context.project.hash(),
        "program_version": env!("CARGO_PKG_VERSION"),
        "final": scope == Scope::Migration,
        "types": options.types,
        "sampling_rate": options.sampling_rate,
        "max_records": options.max_records,
        "timeout_seconds": options.timeout.map(|limit| limit.as_secs_f64()),
        "method": options.method,
    })
}

/// Whether the ledger has anything of an entity.
async fn has_rows(databases: &Databases<'_>, entity: &str) -> Result<bool> {
    let row = databases
        .target
        .query_one(
            "select exists (select from regraft.migration_mappings where entity = $1)
                 or exists (select from regraft.migration_quarantine where entity = $1 and state <> 'resolved')",
            &[&entity],
        )
        .await?;
    Ok(row.get(0))
}
