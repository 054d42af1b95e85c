//! The project's invariants: figures that both databases compute over the rows that were moved, and
//! that must be the same.

mod difference;
mod pair;
mod statement;
mod through_entity;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use regraft_pg::Session;
use regraft_project::{Invariant, InvariantForm, Missing, Problem, Project, Selection};
use tokio_postgres::types::ToSql;

use super::databases::Databases;
use super::report::{Check, Checked, Finding, InvariantOutcome, Tally};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use difference::{Differences, Groups};
pub(super) use statement::describe;
use statement::{GROUPS, Parameter, Servers, Statement, Statements, Translation};

/// How often an invariant is computed at most because somebody writes meanwhile.
const ATTEMPTS: usize = 3;

/// Runs the invariants whose entities are all selected. One that differs is computed once more in
/// later views before that is reported, and again as long as its figures move. `migrated` are the entities that the ledger
/// knows rows of; an invariant about another is not checked.
pub(super) async fn check(
    context: &Context,
    databases: &Databases<'_>,
    selection: &Selection,
    migrated: &[&str],
    limit: Option<Duration>,
    not_checked: &mut Vec<String>,
) -> Result<Checked> {
    let project = &context.project;
    let servers = Servers {
        project,
        source: databases.beside_source(),
        target: databases.beside_target(),
    };
    let (mut outcomes, mut findings) = (Vec::new(), Vec::new());
    for invariant in project.invariants() {
        let entities = entities(project, invariant);
        if !entities.iter().all(|entity| selection.contains(entity)) {
            continue;
        }
        if let Some(missing) = entities.iter().find(|entity| !migrated.contains(entity)) {
            let name = &invariant.name.value;
            not_checked.push(format!("{missing}: invariant {name}: it was not migrated"));
            continue;
        }
        context.events.send(Event::PhaseStarted {
            entity: invariant.name.value.clone(),
            phase: "validating invariant".to_owned(),
        });
        let started = Instant::now();
        let sound = statement::statements(&servers, invariant).await?;
        let (compared, transient) = match &sound {
            Ok(statements) => look(context, databases, limit, (invariant, statements)).await?,
            Err(wrong) => (unsound(invariant, wrong), 0),
        };
        let found = compared.findings(invariant, sound.as_ref().ok());
        let differences: u64 = found.iter().map(|found| found.rows).sum();
        outcomes.push(InvariantOutcome {
            name: invariant.name.value.clone(),
            description: invariant.description.clone(),
            form: match invariant.form {
                InvariantForm::Entity { .. } => "entity".to_owned(),
                InvariantForm::Queries { .. } => "queries".to_owned(),
            },
            entities: invariant
                .entities()
                .iter()
                .map(|e| (*e).to_owned())
                .collect(),
            tolerance: invariant.tolerance.to_string(),
            groups: compared.groups,
            differences,
            passed: differences == 0,
            transient,
            seconds: started.elapsed().as_secs_f64(),
        });
        findings.extend(found);
    }
    let groups = outcomes.iter().map(|outcome| outcome.groups).sum();
    let check = (!outcomes.is_empty()).then(|| Check::new("invariants", groups, findings));
    Ok(Checked { check, outcomes })
}

/// The entities that an invariant is about.
fn entities<'a>(project: &'a Project, invariant: &'a Invariant) -> Vec<&'a str> {
    let named = invariant.entities();
    if !named.is_empty() {
        return named;
    }
    let all = project.entities().iter();
    all.map(|entity| entity.name.as_str()).collect()
}

/// What is wrong with the project's invariants, as far as the servers can tell.
///
/// # Errors
/// A connection that fails.
pub(crate) async fn problems(
    project: &Project,
    source: &Session,
    target: &Session,
) -> Result<Vec<Problem>> {
    let servers = Servers {
        project,
        source,
        target,
    };
    let mut problems = Vec::new();
    for invariant in project.invariants() {
        if let Err(wrong) = statement::statements(&servers, invariant).await? {
            problems.extend(wrong);
        }
    }
    Ok(problems)
}

/// The groups of an invariant, and those that differ.
#[derive(Default)]
struct Compared {
    groups: u64,
    different: Differences,
    /// Why it could not be computed.
    failed: Option<Finding>,
}

impl Compared {
    /// An invariant that could not be computed.
    fn not_computed(invariant: &Invariant, why: &str) -> Self {
        let what = format!("{}: it can't be computed: {why}", invariant.name.value);
        Self {
            failed: Tally::of(1, Vec::new()).finding(what),
            ..Self::default()
        }
    }

    fn findings(&self, invariant: &Invariant, statements: Option<&Statements>) -> Vec<Finding> {
        let different = statements.map(|statements| self.different.findings(invariant, statements));
        let different = different.into_iter().flatten();
        self.failed.iter().cloned().chain(different).collect()
    }
}

/// An invariant whose statements the servers don't take.
fn unsound(invariant: &Invariant, wrong: &[Problem]) -> Compared {
    let first = wrong
        .first()
        .map_or("it is not sound", |p| p.message.as_str());
    Compared::not_computed(invariant, &format!("{first}; see `regraft check`"))
}

/// Computes an invariant; what differs is looked at again in later views. How many groups did not
/// differ any more then is the second figure.
async fn look(
    context: &Context,
    databases: &Databases<'_>,
    limit: Option<Duration>,
    of: (&Invariant, &Statements),
) -> Result<(Compared, u64)> {
    let mut compared = compare(databases, of).await?;
    let mut transient = 0;
    for _ in 1..ATTEMPTS {
        if compared.different.is_empty() {
            break;
        }
        let later = Databases::open(context, limit).await?;
        let again = compare(&later, of).await?;
        if again.failed.is_some() {
            break;
        }
        let confirmed = compared.different.confirm(again.different);
        compared.groups = again.groups;
        transient += confirmed.gone;
        if !confirmed.moved {
            break;
        }
    }
    Ok((compared, transient))
}

async fn compare(
    databases: &Databases<'_>,
    (invariant, statements): (&Invariant, &Statements),
) -> Result<Compared> {
    let of_source = match source_groups(databases, statements).await {
        Ok(groups) => groups,
        Err(error) => return refused(invariant, error),
    };
    let of_target = match target_groups(databases, statements).await {
        Ok(groups) => groups,
        Err(error) => return refused(invariant, error),
    };
    if of_source.len() > GROUPS || of_target.len() > GROUPS {
        let why = format!("it has more than {GROUPS} groups");
        return Ok(Compared::not_computed(invariant, &why));
    }
    let groups = Groups::meet(of_source, of_target, statements.keys);
    Ok(Compared {
        groups: groups.len(),
        different: groups
            .differences(databases.beside_target(), invariant, statements)
            .await?,
        failed: None,
    })
}

/// A statement that a server could not carry out is a finding; anything else is an error.
fn refused(invariant: &Invariant, error: Error) -> Result<Compared> {
    let state = error.database().and_then(|database| database.sqlstate());
    let side = match error.database().and_then(regraft_pg::Error::side) {
        Some(regraft_pg::Side::Source) => "source",
        _ => "target",
    };
    match state {
        // The server gave up because of the time limit.
        Some("57014") => Err(error),
        Some(state) if matches!(error.kind(), Kind::Data | Kind::Permission) => {
            let message = error.database().map_or("", regraft_pg::Error::message);
            let why = format!("the {side} says {state} {message}");
            Ok(Compared::not_computed(invariant, &why))
        }
        _ => Err(error),
    }
}

/// A row of a statement: key and figures.
type Row = Vec<Option<String>>;

async fn source_groups(databases: &Databases<'_>, statements: &Statements) -> Result<Vec<Row>> {
    let session = databases.source().await?;
    let values = parameters(databases, &session, &statements.source).await?;
    let rows = rows(&session, &statements.source, &values).await?;
    databases.give_back(session);
    Ok(rows)
}

/// A statement that fails must not end the view.
async fn target_groups(databases: &Databases<'_>, statements: &Statements) -> Result<Vec<Row>> {
    let session = &databases.target;
    session.batch_execute("savepoint regraft_invariant").await?;
    let found = rows(session, &statements.target, &[]).await;
    let end = match found {
        Ok(_) => "release savepoint regraft_invariant",
        Err(_) => "rollback to savepoint regraft_invariant",
    };
    session.batch_execute(end).await?;
    found
}

async fn rows(
    session: &Session,
    statement: &Statement,
    values: &[Vec<Option<String>>],
) -> Result<Vec<Row>> {
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    let rows = session
        .query(&statement.sql, &values)
        .await
        .map_err(|error| session.error(error))?;
    Ok(rows
        .iter()
        .map(|row| (0..row.len()).map(|at| row.get(at)).collect())
        .collect())
}

/// The values of a statement's parameters.
async fn parameters(
    databases: &Databases<'_>,
    source: &Session,
    statement: &Statement,
) -> Result<Vec<Vec<Option<String>>>> {
    let mut left_behind: BTreeMap<&str, Vec<Option<String>>> = BTreeMap::new();
    for parameter in &statement.parameters {
        if let Parameter::LeftBehind(entity) = parameter {
            let ids = regraft_ledger::left_behind(&*databases.lookup, entity).await?;
            left_behind.insert(entity, ids.into_iter().map(Some).collect());
        }
    }
    let mut translated = Vec::new();
    for translation in &statement.translations {
        let without = left_behind.get(translation.entity.as_str());
        let without = without.cloned().unwrap_or_default();
        translated.push(translate(databases, source, translation, &without).await?);
    }
    Ok(statement
        .parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::LeftBehind(entity) => left_behind.get(entity.as_str()).cloned(),
            Parameter::Ids(number) => translated.get(*number).map(|(ids, _)| ids.clone()),
            Parameter::Becomes(number) => translated.get(*number).map(|(_, to)| to.clone()),
        })
        .map(Option::unwrap_or_default)
        .collect())
}

/// The ids that stand for something else than themselves, and what they stand for.
async fn translate(
    databases: &Databases<'_>,
    source: &Session,
    translation: &Translation,
    without: &Vec<Option<String>>,
) -> Result<(Vec<Option<String>>, Vec<Option<String>>)> {
    let found = source
        .query(&translation.distinct, &[without])
        .await
        .map_err(|error| source.error(error))?;
    let ids: Vec<String> = found.iter().filter_map(|row| row.get(0)).collect();
    let parent = translation.parent.as_str();
    let mapped = regraft_ledger::stand_for(&*databases.lookup, parent, &ids).await?;
    let mapped: BTreeMap<String, String> = mapped.into_iter().collect();
    let missing = match &translation.missing {
        Missing::Quarantine => None,
        Missing::Null => Some(None),
        Missing::Default(key) => {
            let key = &key.value;
            let legacy = regraft_ledger::legacy_id_of(&*databases.lookup, parent, key).await?;
            Some(Some(legacy.unwrap_or_else(|| key.clone())))
        }
    };
    let (mut from, mut becomes) = (Vec::new(), Vec::new());
    for id in ids {
        let other = match mapped.get(&id) {
            Some(same) if *same == id => continue,
            Some(other) => Some(other.clone()),
            None => match &missing {
                // Its row should not be here: the difference is to be seen.
                None => continue,
                Some(value) => value.clone(),
            },
        };
        from.push(Some(id));
        becomes.push(other);
    }
    Ok((from, becomes))
}
