//! Trying rows of the quarantine again: a migration of these rows and no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use regraft_ledger::RedriveFilter;
use regraft_project::Selection;

use super::{MigrateOptions, ModeChoice, Outcome, Task};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::keys::LegacyId;
use crate::load::parse_id;
use crate::model::Model;
use crate::receipt::require_ledger;
use crate::unfinished;

/// The rows that are tried again, by entity.
pub(crate) type Rows = BTreeMap<String, Vec<String>>;

/// Tries rows of the quarantine again: those that the filter chooses, those that they wait for, and
/// all that wait for them; parents first, and nothing else. A retry that was left unfinished is
/// finished first. `None` when the filter chooses nothing.
///
/// # Errors
/// As [`crate::migrate`]; [`Kind::Usage`] when a run of another command is unfinished.
pub async fn retry_quarantine(
    context: &Context,
    filter: &RedriveFilter,
    dry_run: bool,
) -> Result<Option<Outcome>> {
    if !dry_run {
        finish_unfinished(context).await?;
    }
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    unfinished::refuse_others(&target, &context.project, "retry").await?;
    let rows = regraft_ledger::redrive_set(&*target, filter).await?;
    drop(target);
    if rows.is_empty() {
        return Ok(None);
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
    Ok(Some(outcome))
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
