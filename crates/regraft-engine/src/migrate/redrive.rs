//! Trying rows of the quarantine again: a migration of these rows and no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use regraft_ledger::RedriveFilter;
use regraft_pg::Session;
use regraft_project::Selection;
use serde::Serialize;

use super::{MigrateOptions, ModeChoice, Outcome, Task, install_ledger, lock, resolved};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::keys::LegacyId;
use crate::load::{filters_of, parse_id};
use crate::model::Model;
use crate::receipt::require_ledger;
use crate::{transaction, unfinished};

/// The rows that are tried again, by entity.
pub(crate) type Rows = BTreeMap<String, Vec<String>>;

/// What trying rows again came to.
#[derive(Debug, Clone, Serialize)]
pub struct Retried {
    /// What became of the rows that were tried; `None` where there were none.
    #[serde(flatten)]
    pub outcome: Option<Outcome>,
    /// Rows that there is nothing to try of any more: they were closed, with this reason.
    pub gone: Vec<Gone>,
}

/// Rows of the quarantine that are not to be moved any more.
#[derive(Debug, Clone, Serialize)]
pub struct Gone {
    /// The entity.
    pub entity: String,
    /// Why.
    pub note: String,
    /// Their legacy ids.
    pub legacy_ids: Vec<String>,
}

/// Tries rows of the quarantine again: those that the filter chooses, those that they wait for, and
/// all that wait for them; parents first, and nothing else. Rows that the source doesn't have any
/// more, or that a filter drops by now, are closed. A retry that was left unfinished is finished
/// first.
///
/// # Errors
/// As [`crate::migrate`]; [`Kind::Usage`] when a run of another command is unfinished.
pub async fn retry_quarantine(
    context: &Context,
    filter: &RedriveFilter,
    dry_run: bool,
) -> Result<Retried> {
    if !dry_run {
        finish_unfinished(context).await?;
    }
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    unfinished::refuse_others(&target, &context.project, "retry").await?;
    let mut rows = regraft_ledger::redrive_set(&*target, filter).await?;
    let gone = take_gone(context, &target, &mut rows).await?;
    if !dry_run && !gone.is_empty() {
        close(context, &target, &gone).await?;
    }
    // What this session holds, such as the lock, is the run's to take.
    target.close().await;
    if rows.is_empty() {
        return Ok(Retried {
            outcome: None,
            gone,
        });
    }
    let options = MigrateOptions {
        dry_run,
        ..in_place()
    };
    let selection = selection(context, &rows)?;
    let mut outcome = super::run(context, &selection, &options, &Task::Retry(rows)).await?;
    // Whatever stays behind is a finding: these rows were meant to move.
    outcome.over_budget = outcome
        .receipt
        .entities
        .iter()
        .filter(|entity| entity.account.quarantined + entity.account.blocked > 0)
        .map(|entity| entity.entity.clone())
        .collect();
    outcome.within_budget = outcome.over_budget.is_empty();
    Ok(Retried {
        outcome: Some(outcome),
        gone,
    })
}

/// Takes out the rows that the source doesn't have any more, and those that a filter drops by now.
async fn take_gone(context: &Context, target: &Session, rows: &mut Rows) -> Result<Vec<Gone>> {
    let mut gone = Vec::new();
    if rows.is_empty() {
        return Ok(gone);
    }
    let source = context.connect_source().await?;
    let model = resolved(context, &source, target).await?;
    for (entity, ids) in rows.iter_mut() {
        let Some(model) = model.entities.get(entity) else {
            continue;
        };
        let mut parsed = Vec::with_capacity(ids.len());
        for id in ids.iter() {
            parsed.push(parse_id(model, id.clone())?);
        }
        let found = filters_of(&source, model, &parsed).await?;
        let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (id, text) in parsed.iter().zip(ids.iter()) {
            let note = match found.get(id) {
                Some(None) => continue,
                Some(Some(filter)) => match model.filters.get(*filter) {
                    Some((name, _)) => format!("filter `{name}` drops it"),
                    None => continue,
                },
                None => "the source has no such row any more".to_owned(),
            };
            notes.entry(note).or_default().push(text.clone());
        }
        for (note, legacy_ids) in notes {
            ids.retain(|id| !legacy_ids.contains(id));
            gone.push(Gone {
                entity: entity.clone(),
                note,
                legacy_ids,
            });
        }
    }
    rows.retain(|_, ids| !ids.is_empty());
    Ok(gone)
}

async fn close(context: &Context, target: &Session, gone: &[Gone]) -> Result<()> {
    install_ledger(target, false).await?;
    lock(context, target).await?;
    transaction::run(target, false, async || {
        for rows in gone {
            let (entity, ids) = (&rows.entity, &rows.legacy_ids);
            regraft_ledger::close_quarantine(&**target, entity, ids, &rows.note).await?;
        }
        Ok(())
    })
    .await
}

/// Finishes a retry that was left unfinished, if there is one.
pub(crate) async fn finish_unfinished(context: &Context) -> Result<()> {
    let target = context.connect_target().await?;
    if regraft_ledger::installed_version(&*target).await?.is_none() {
        return Ok(());
    }
    let Some(run) = regraft_ledger::unfinished_run(&*target, "retry").await? else {
        return Ok(());
    };
    drop(target);
    let rows: Rows = run
        .detail
        .get("rows")
        .and_then(|rows| serde_json::from_value(rows.clone()).ok())
        .ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("the ledger doesn't say what run {} was about", run.run_id),
            )
        })?;
    let selection = selection(context, &rows)?;
    super::run(context, &selection, &in_place(), &Task::Retry(rows)).await?;
    Ok(())
}

fn in_place() -> MigrateOptions {
    MigrateOptions {
        mode: ModeChoice::InPlace,
        ..MigrateOptions::default()
    }
}

fn selection(context: &Context, rows: &Rows) -> Result<Selection> {
    let names: Vec<String> = rows.keys().cloned().collect();
    context.project.select(&names, false).map_err(|error| {
        Error::new(Kind::Usage, error.to_string())
            .hint("rows of an entity that the project doesn't have any more can't be tried again")
    })
}

/// Restricts a model to the rows of a task.
pub(crate) fn restrict(model: &mut Model, task: &Task) -> Result<()> {
    let Task::Retry(rows) = task else {
        return Ok(());
    };
    for (entity, ids) in rows {
        let Some(model) = model.entities.get_mut(entity) else {
            continue;
        };
        let mut only = Vec::with_capacity(ids.len());
        for id in ids {
            only.push(parse_id(model, id.clone())?);
        }
        only.sort_unstable();
        model.only = Some(Arc::<Vec<LegacyId>>::new(only));
    }
    Ok(())
}
