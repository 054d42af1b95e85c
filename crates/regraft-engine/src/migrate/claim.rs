//! What a run holds of the target while it writes.
//!
//! Runs that carry changes over go side by side where they fill other tables. All else has the target
//! for itself: a load takes indexes off, an undo takes rows away that others build on.

use std::collections::BTreeSet;
use std::time::Duration;

use regraft_ledger::Run;
use regraft_pg::{Session, quote};
use regraft_project::{Project, Selection};

use super::Task;
use crate::context::{Context, interrupted};
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::model::{EntityModel, KeyRule, Model, OutputRule};
use crate::unfinished;

/// What a run holds of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// All of it.
    Whole,
    /// These tables, beside runs that hold others.
    Tables {
        /// Those that it fills.
        own: BTreeSet<String>,
        /// Those that nobody may fill meanwhile, because it refers to their rows by nothing that the
        /// server watches over.
        unguarded: BTreeSet<String>,
    },
}

impl Claim {
    /// What a run of these entities needs. A rehearsal keeps everything in one open transaction, which
    /// others would wait for.
    pub(super) fn of(
        project: &Project,
        model: &Model,
        names: &[String],
        task: &Task,
        dry_run: bool,
    ) -> Self {
        if dry_run || !matches!(task, Task::Differential(_)) {
            return Self::Whole;
        }
        let own = tables_of(project, names.iter().map(String::as_str));
        let about: Vec<&EntityModel> = names.iter().filter_map(|n| model.entities.get(n)).collect();
        let unguarded = about.iter().flat_map(|m| unguarded_parents(model, m));
        let unguarded = tables_of(project, unguarded);
        Self::Tables {
            unguarded: unguarded.difference(&own).cloned().collect(),
            own,
        }
    }

    /// Whether it is about one of these tables, as one that is filled.
    pub(crate) fn meets(&self, tables: &BTreeSet<String>) -> bool {
        match self {
            Self::Whole => true,
            Self::Tables { own, .. } => !own.is_disjoint(tables),
        }
    }

    async fn attempt(&self, target: &Session) -> Result<bool> {
        Ok(match self {
            Self::Whole => regraft_ledger::run_lock(&**target).await?,
            Self::Tables { own, unguarded } => {
                let list = |tables: &BTreeSet<String>| tables.iter().cloned().collect::<Vec<_>>();
                regraft_ledger::share_run_lock(&**target, &list(own), &list(unguarded)).await?
            }
        })
    }

    /// Takes it. A process that has just died leaves its connection for a moment, so this waits a little
    /// before it gives up; it holds nothing while it waits.
    ///
    /// # Errors
    /// [`Kind::Busy`] when it is another's.
    pub(crate) async fn take(&self, context: &Context, target: &Session) -> Result<()> {
        let place = match self {
            Self::Whole => "this target",
            Self::Tables { .. } => "this target, on tables that this run is about",
        };
        for attempt in 0..20 {
            if self.attempt(target).await? {
                return Ok(());
            }
            if attempt == 4 {
                context.events.send(Event::Note(format!(
                    "another process is at work on {place}: waiting for it to end"
                )));
            }
            tokio::select! {
                () = context.cancel.cancelled() => return Err(interrupted()),
                () = tokio::time::sleep(Duration::from_millis(250)) => {}
            }
        }
        Err(
            Error::new(Kind::Busy, format!("another process is at work on {place}"))
                .hint("see `regraft status`; run the same command again when it is done"),
        )
    }
}

/// Takes what a run of these entities needs, and of those that an unfinished run of the same command
/// has besides, which it will go on with.
///
/// # Errors
/// [`Kind::Busy`] when it is another's.
pub(crate) async fn claim(
    context: &Context,
    target: &Session,
    selection: &Selection,
    model: &Model,
    (task, dry_run): (&Task, bool),
) -> Result<Claim> {
    let project = &context.project;
    let steps = selection.entities().iter();
    let mut names: Vec<String> = steps.map(|step| step.entity.clone()).collect();
    loop {
        let claim = Claim::of(project, model, &names, task, dry_run);
        claim.take(context, target).await?;
        let own = unfinished::in_the_way(target, project, &claim).await?;
        let mut own = own.iter().filter(|open| open.run.command == task.command());
        // With more than one of them nothing can be gone on with: that is refused later.
        let (Some(one), None) = (own.next(), own.next()) else {
            return Ok(claim);
        };
        let before = names.len();
        add_entities(&mut names, &one.run);
        if claim == Claim::Whole || names.len() == before {
            return Ok(claim);
        }
        regraft_ledger::release_run_lock(&**target).await?;
    }
}

/// Adds the entities of a run to others.
fn add_entities(names: &mut Vec<String>, run: &Run) {
    for entity in unfinished::entities(run) {
        if !names.iter().any(|name| name == entity) {
            names.push(entity.to_owned());
        }
    }
}

/// The tables that entities fill; those of entities that the project doesn't have are left out.
pub(crate) fn tables_of<'e>(
    project: &Project,
    entities: impl IntoIterator<Item = &'e str>,
) -> BTreeSet<String> {
    let namespace = project.manifest().target.namespace.as_str();
    let declared = entities.into_iter().filter_map(|name| project.entity(name));
    declared
        .map(|entity| {
            let (schema, table) = entity.target.schema_and_table(namespace);
            quote::qualified(schema, table)
        })
        .collect()
}

/// The parents of an entity that rows of it can refer to although they are gone: no foreign key of the
/// target watches over it. Whoever takes such a parent away may not be at work meanwhile.
fn unguarded_parents<'m>(all: &'m Model, model: &'m EntityModel) -> BTreeSet<&'m str> {
    let is_guarded = |column: &str, parent: &str| {
        let Some(parent) = all.entities.get(parent) else {
            return false;
        };
        model.table.constraints.iter().any(|key| {
            key.kind == "f"
                && key.columns == [column]
                && key.foreign_table.as_deref() == Some(parent.table.name.as_str())
                && key.foreign_schema.as_deref() == Some(parent.table.schema.as_str())
        })
    };
    let mut parents = BTreeSet::new();
    for output in &model.outputs {
        let referred: Vec<&str> = match &output.rule {
            OutputRule::Reference { entity, .. } => vec![entity],
            OutputRule::ReferenceBy { cases, .. } => cases.values().map(String::as_str).collect(),
            _ => continue,
        };
        let unguarded = referred.into_iter();
        parents.extend(unguarded.filter(|parent| !is_guarded(&output.column, parent)));
    }
    if let KeyRule::SameAs { entity, .. } = &model.key_rule
        && !is_guarded(&model.key_column, entity)
    {
        parents.insert(entity.as_str());
    }
    parents
}
