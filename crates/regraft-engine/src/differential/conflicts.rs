//! Rows that somebody has to decide on, as they are kept.

use regraft_ledger::{Differing, DifferingFilter, RunStatus};
use serde::Serialize;

use super::tally::EntityDifferential;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::receipt::require_ledger;

/// The open rows under a filter, `limit` of them, and how many there are by entity and kind.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn differing_rows(
    context: &Context,
    filter: &DifferingFilter,
    limit: i64,
) -> Result<(Vec<Differing>, Vec<(String, String, i64)>)> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    crate::migrate::install_ledger(&target, false).await?;
    let rows = regraft_ledger::open_differing(&*target, filter, limit).await?;
    let counts = regraft_ledger::count_differing(&*target, filter).await?;
    Ok((rows, counts))
}

/// What a comparison has found, and what of it is still open.
#[derive(Debug, Clone, Serialize)]
pub struct ConflictReport {
    /// The comparison.
    pub operation_id: String,
    /// What it found, by entity.
    pub entities: Vec<EntityDifferential>,
    /// Rows that both sides had changed.
    pub conflicts_detected: i64,
    /// Of these, rows that are not open any more.
    pub conflicts_resolved: i64,
    /// Of all rows that were ever found in these entities, those still open: entity, kind, rows.
    pub open: Vec<(String, String, i64)>,
}

/// The report on the latest comparison, or on one of them.
///
/// # Errors
/// [`Kind::Usage`] where nothing was compared yet.
pub async fn conflict_report(
    context: &Context,
    operation_id: Option<&str>,
) -> Result<ConflictReport> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    crate::migrate::install_ledger(&target, false).await?;
    let Some((operation_id, summaries)) = regraft_ledger::summaries(&*target, operation_id).await?
    else {
        let what = match operation_id {
            Some(id) => format!("there is no comparison `{id}` in this target"),
            None => "nothing was compared yet".to_owned(),
        };
        return Err(Error::new(Kind::Usage, what)
            .hint("type `regraft differential analyze --entities all --detect-conflicts`"));
    };
    let entities: Vec<EntityDifferential> = summaries
        .into_iter()
        .filter_map(|(_, detail)| serde_json::from_value(detail).ok())
        .collect();
    let filter = DifferingFilter {
        entities: entities.iter().map(|e| e.entity.clone()).collect(),
        ..DifferingFilter::default()
    };
    let open = regraft_ledger::count_differing(&*target, &filter).await?;
    let detected: i64 = entities.iter().map(|e| e.conflicts.rows).sum();
    let conflicts = open.iter().filter(|(_, kind, _)| kind == "conflict");
    let undecided: i64 = conflicts.map(|(.., rows)| rows).sum();
    Ok(ConflictReport {
        conflicts_detected: detected,
        conflicts_resolved: (detected - undecided).max(0),
        open,
        operation_id,
        entities,
    })
}

/// How a differential run stands.
#[derive(Debug, Clone, Serialize)]
pub struct OperationStatus {
    /// The run.
    pub operation_id: String,
    /// Its status.
    pub status: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: Option<String>,
    /// Whether it was left unfinished.
    pub can_resume: bool,
    /// Entity, phase, rows done and rows in all.
    pub entities: Vec<OperationEntity>,
}

/// How an entity of a run stands.
#[derive(Debug, Clone, Serialize)]
pub struct OperationEntity {
    /// The entity.
    pub entity: String,
    /// The phase it is in.
    pub phase: String,
    /// Rows done.
    pub rows_done: i64,
}

/// How a differential run stands: the latest, or the one of this id. `None` where there is none.
///
/// # Errors
/// [`Kind::Usage`] for an unknown id.
pub async fn operation_status(
    context: &Context,
    operation_id: Option<&str>,
) -> Result<Option<OperationStatus>> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let run = match operation_id {
        Some(id) => regraft_ledger::find_run(&*target, id).await?,
        None => regraft_ledger::list_runs(&*target, 1_000)
            .await?
            .into_iter()
            .find(|run| run.command == "differential"),
    };
    let Some(run) = run else {
        return match operation_id {
            Some(id) => Err(Error::new(
                Kind::Usage,
                format!("there is no run `{id}` in this target"),
            )
            .hint("see `regraft runs`")),
            None => Ok(None),
        };
    };
    let checkpoints = regraft_ledger::checkpoints(&*target, run.run_no).await?;
    Ok(Some(OperationStatus {
        operation_id: run.run_id,
        can_resume: !matches!(run.status, RunStatus::Done | RunStatus::RolledBack),
        status: run.status.as_str().to_owned(),
        started_at: run.started_at,
        finished_at: run.finished_at,
        entities: checkpoints
            .into_iter()
            .map(|checkpoint| OperationEntity {
                phase: checkpoint.phase.as_str().to_owned(),
                rows_done: checkpoint.rows_done,
                entity: checkpoint.entity,
            })
            .collect(),
    }))
}
