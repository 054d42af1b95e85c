//! All that is known of one entity, gathered in one place, and what follows from it.

mod advice;
mod locks;
mod servers;

use regraft_ledger::{DifferingFilter, EntityRun, ReasonCount};
use regraft_pg::Session;
use serde::Serialize;

use super::checkpoints::{CheckpointState, states};
use super::dont_wait;
use crate::context::Context;
use crate::error::Result;
use crate::receipt::{UnfinishedRun, table_of, unfinished};
use crate::validation_report::ReportedValidation;

pub use advice::Recommendation;
pub use locks::TableLock;
pub use servers::{Drift, PlanNode, QueryPlan};

/// Runs that are listed.
const RUNS: i64 = 5;

/// All that is known of one entity. No value of a row is in it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EntityDebug {
    /// The entity.
    pub entity: String,
    /// The table it fills.
    pub target_table: String,
    /// Whether the target has a ledger.
    pub ledger_installed: bool,
    /// Its last runs, latest first.
    pub runs: Vec<EntityRun>,
    /// The runs about it that were begun and not finished.
    pub unfinished: Vec<UnfinishedRun>,
    /// Its checkpoint in the latest run that has one.
    pub checkpoint: Option<CheckpointState>,
    /// Its open quarantine by reason, most rows first.
    pub quarantine: Vec<ReasonCount>,
    /// Rows that somebody has to decide on, by kind.
    pub differences: Vec<OpenDifference>,
    /// The latest validation that is about it.
    pub validation: Option<LastValidation>,
    /// Locks on its table that other sessions hold or wait for.
    pub locks: Vec<TableLock>,
    /// What is other than it was when it was last moved.
    pub drift: Drift,
    /// Errors of the project against both catalogs, those of other entities among them.
    pub problems: Vec<String>,
    /// What its table lacks, or has that is of no use, with the statement that helps.
    pub index_faults: Vec<String>,
    /// How the source would read a batch; only where it was asked for.
    pub plan: Option<QueryPlan>,
    /// What could not be looked at, and why.
    pub not_looked_at: Vec<String>,
    /// What to do next; empty when nothing needs doing.
    pub recommendations: Vec<Recommendation>,
}

/// Rows that somebody has to decide on.
#[derive(Debug, Clone, Serialize)]
pub struct OpenDifference {
    /// `conflict`, `changed_in_target`, `deleted_in_source`, `deleted_in_target`, `merged_in_source`
    /// or `refused`.
    pub kind: String,
    /// How many rows.
    pub rows: i64,
}

/// What the latest validation says of an entity.
#[derive(Debug, Clone, Serialize)]
pub struct LastValidation {
    /// Its id.
    pub validation_id: String,
    /// When it was stored; RFC 3339, UTC.
    pub generated_at: String,
    /// Whether it came to its end.
    pub complete: bool,
    /// The runs since, about which it says nothing.
    pub runs_since: Vec<String>,
    /// The checks of this entity that found something.
    pub failed: Vec<FailedCheck>,
}

/// A check that found something.
#[derive(Debug, Clone, Serialize)]
pub struct FailedCheck {
    /// Its name.
    pub check: String,
    /// What is wrong.
    pub what: String,
    /// How many rows.
    pub rows: u64,
}

/// Gathers what is known of an entity; `with_plan` adds how the source would read a batch of it.
///
/// # Errors
/// A target that can't be reached. What the source can't say is told under
/// [`EntityDebug::not_looked_at`].
pub async fn debug_entity(context: &Context, entity: &str, with_plan: bool) -> Result<EntityDebug> {
    let target = context.connect_target().await?;
    dont_wait(&target).await?;
    let version = regraft_ledger::installed_version(&*target).await?;
    let mut found = EntityDebug {
        entity: entity.to_owned(),
        target_table: table_of(&context.project, entity),
        ledger_installed: version.is_some(),
        ..EntityDebug::default()
    };
    if found.ledger_installed {
        of_ledger(context, &target, &mut found).await?;
    }
    // Ledgers of version 1 have none, until a command that writes upgrades them.
    if version >= Some(2) {
        found.differences = differences(&target, entity).await?;
    }
    found.locks = locks::on_table(context, &target, entity).await?;
    if let Err(error) = servers::look(context, &target, &mut found, with_plan).await {
        found
            .not_looked_at
            .push(format!("the project against both catalogs: {error}"));
    }
    found.recommendations = advice::of(&found);
    Ok(found)
}

async fn of_ledger(context: &Context, target: &Session, found: &mut EntityDebug) -> Result<()> {
    let entity = found.entity.clone();
    let about = |run: &UnfinishedRun| {
        run.left.contains(&entity) || run.entities.iter().any(|c| c.entity == entity)
    };
    found.runs = regraft_ledger::entity_runs(&**target, &entity, None, RUNS).await?;
    found.unfinished = unfinished(target, &context.project).await?;
    found.unfinished.retain(about);
    let checkpoints = states(target, &context.project, Some(&entity)).await?;
    found.checkpoint = checkpoints.into_iter().next();
    found.quarantine = regraft_ledger::quarantine_summary(&**target).await?;
    found.quarantine.retain(|reason| reason.entity == entity);
    found.validation = last_validation(target, &entity).await?;
    Ok(())
}

async fn differences(target: &Session, entity: &str) -> Result<Vec<OpenDifference>> {
    let filter = DifferingFilter {
        entities: vec![entity.to_owned()],
        ..DifferingFilter::default()
    };
    let open = regraft_ledger::count_differing(&**target, &filter).await?;
    let open = open.into_iter();
    Ok(open
        .map(|(_, kind, rows)| OpenDifference { kind, rows })
        .collect())
}

async fn last_validation(target: &Session, entity: &str) -> Result<Option<LastValidation>> {
    for stored in regraft_ledger::stored_validations(&**target).await? {
        let validation = ReportedValidation::of(&stored)?;
        if !validation.is_about(entity) {
            continue;
        }
        let checks = validation.checks().filter(|(of, _)| *of == entity);
        let failed = checks.flat_map(|(_, check)| {
            check.findings.iter().map(|finding| FailedCheck {
                check: check.name.clone(),
                what: finding.what.clone(),
                rows: finding.rows,
            })
        });
        return Ok(Some(LastValidation {
            validation_id: validation.validation_id.clone(),
            generated_at: validation.generated_at.clone(),
            complete: validation.complete,
            runs_since: regraft_ledger::runs_since_validation(&**target, stored.validation_id)
                .await?,
            failed: failed.collect(),
        }));
    }
    Ok(None)
}
