//! `validate`: proves from both databases that what was migrated is complete and right.
//!
//! It shares no code with the loader. The project's declaration is the specification, and each
//! check turns it into queries of its own: what the source says now, what the target holds now,
//! the two met under the legacy ids. Streams are read in key order, so that memory does not grow
//! with the tables. What can't be compared is named, never passed over.

mod account;
mod census;
mod closing;
mod columns;
mod compare;
mod databases;
mod determinism;
mod edge;
mod expectation;
mod json;
mod mapping;
mod merges;
mod parents;
mod references;
mod report;
mod rows;
mod subject;

use std::time::Instant;

use regraft_project::Selection;
use uuid::Uuid;

pub use report::{Check, EntityValidation, Finding, Validation};

use account::History;
use census::Census;
use databases::{Databases, nothing_migrated};
use report::{Timed, Whole};
use subject::{IdSpaces, Subject};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;

/// Validates the selected entities against both databases as they are now, and stores the results
/// in the ledger. What is found is in the result, not an error.
///
/// The source is read in one snapshot, the target in another; while somebody writes to either, the
/// result is about those moments.
///
/// # Errors
/// [`Kind::Usage`] when none of the entities was migrated; a server that can't be reached;
/// [`Kind::Interrupted`] when a stop was asked for, and then nothing is stored.
pub async fn validate(context: &Context, selection: &Selection) -> Result<Validation> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(stopped()),
        validation = run(context, selection, Scope::Selection) => validation,
    }
}

/// Validates the migration as a whole: every entity as [`validate`] does, and besides that every
/// entity was migrated, nothing is unfinished, every account of every run balances, what is in
/// quarantine is within the project's limit, and the target's catalog is what the latest migration
/// left.
///
/// # Errors
/// As of [`validate`].
pub async fn validate_final(context: &Context) -> Result<Validation> {
    let all = context
        .project
        .select(&[], false)
        .map_err(|error| Error::new(Kind::Usage, error.to_string()))?;
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(stopped()),
        validation = run(context, &all, Scope::Migration) => validation,
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

async fn run(context: &Context, selection: &Selection, scope: Scope) -> Result<Validation> {
    let started = Instant::now();
    let databases = Databases::open(context).await?;
    let spaces = IdSpaces::read(&context.project, &databases).await?;
    let (mut subjects, mut not_checked) = (Vec::new(), Vec::new());
    for step in selection.entities() {
        let Some(entity) = context.project.entity(&step.entity) else {
            continue;
        };
        let history = History::read(&databases.target, &entity.name).await?;
        if history.is_empty() && !has_rows(&databases, &entity.name).await? {
            not_checked.push(format!("{}: it was not migrated", entity.name));
            continue;
        }
        subjects.push((
            Subject::new(&context.project, entity, &databases.catalog, &spaces)?,
            history,
        ));
    }
    if subjects.is_empty() {
        return Err(nothing_migrated());
    }
    let mut entities: Vec<Timed> = Vec::new();
    for (subject, history) in &subjects {
        // Where several entities fill a table, one of them answers for rows that nobody migrated.
        let first = subjects
            .iter()
            .find(|(other, _)| other.table_name == subject.table_name);
        let answers_for_table = first.is_some_and(|(other, _)| other.name() == subject.name());
        let timed = entity(
            context,
            &databases,
            subject,
            history,
            answers_for_table,
            &mut not_checked,
        );
        entities.push(
            timed
                .await
                .map_err(|error| error.in_entity(subject.name()))?,
        );
    }
    conclude(context, &databases, entities, not_checked, scope, started).await
}

/// Adds what is about the migration as a whole, stores it all, and comes to the verdict.
async fn conclude(
    context: &Context,
    databases: &Databases<'_>,
    entities: Vec<Timed>,
    not_checked: Vec<String>,
    scope: Scope,
    started: Instant,
) -> Result<Validation> {
    let validation_id = Uuid::new_v4();
    let closing = Instant::now();
    let validated: Vec<EntityValidation> = entities
        .iter()
        .map(|timed| timed.validation.clone())
        .collect();
    let migration = match scope {
        Scope::Selection => Vec::new(),
        Scope::Migration => closing::check(&context.project, databases, &validated).await?,
    };
    let whole = Whole {
        checks: &migration,
        took: closing.elapsed(),
    };
    let target = context.connect_target().await?;
    report::record(&target, validation_id, &entities, &whole).await?;
    Ok(Validation {
        validation_id: validation_id.to_string(),
        passed: validated
            .iter()
            .flat_map(|entity| &entity.checks)
            .chain(&migration)
            .all(|check| check.passed),
        entities: validated,
        migration,
        not_checked,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Whether the ledger has anything of an entity.
async fn has_rows(databases: &Databases<'_>, entity: &str) -> Result<bool> {
    let row = databases
        .target
        .query_one(
            "select exists (select from regraft.migration_mappings where entity = $1)
                 or exists (select from regraft.migration_quarantine where entity = $1 and state = 'open')",
            &[&entity],
        )
        .await?;
    Ok(row.get(0))
}

/// All checks of one entity.
async fn entity(
    context: &Context,
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    history: &History,
    answers_for_table: bool,
    not_checked: &mut Vec<String>,
) -> Result<Timed> {
    let phase = |phase: &str| {
        let (entity, phase) = (subject.name().to_owned(), format!("validating {phase}"));
        context.events.send(Event::PhaseStarted { entity, phase });
    };
    let target = &databases.target;
    let started = Instant::now();
    phase("completeness");
    let census = Census::take(databases, subject).await?;
    let account = account::check(target, subject, &census, history).await?;
    not_checked.extend(history.not_checked(subject.name()));
    let (counts, mapping) = mapping::check(target, subject, &census, answers_for_table).await?;
    let mapping = mapping.with(merges::check(databases, subject).await?);
    let completeness = started.elapsed();
    phase("references");
    let (references, unseen) = references::check(databases, subject).await?;
    not_checked.extend(unseen);
    let relationships = started.elapsed() - completeness;
    phase("columns");
    let (columns, unseen) = columns::check(databases, subject).await?;
    not_checked.extend(unseen);
    let took = started.elapsed();
    Ok(Timed {
        validation: EntityValidation {
            entity: subject.name().to_owned(),
            rows: census.source_rows,
            checks: vec![account, counts, mapping, references, columns],
            seconds: took.as_secs_f64(),
        },
        completeness,
        relationships,
        integrity: took - completeness - relationships,
    })
}
