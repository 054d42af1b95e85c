//! The documents of the analyzer.

use regraft_engine::{
    CheckpointOverview, CheckpointProgress, CheckpointState, EntityDebug, OpenDifference,
};
use serde::Serialize;

/// Checkpoints; of one entity with those of its latest run beside them.
#[derive(Serialize)]
pub(crate) struct Checkpoints<'a> {
    #[serde(flatten)]
    overview: &'a CheckpointOverview,
    #[serde(flatten)]
    latest: Option<Latest<'a>>,
}

/// A checkpoint under the names of the contract.
#[derive(Serialize)]
struct Latest<'a> {
    checkpoint_id: String,
    entity_type: &'a str,
    /// Of the source rows to go through, 0 to 100.
    progress_percentage: f64,
    can_resume: bool,
    last_processed_id: Option<&'a str>,
    status: CheckpointProgress,
    records_processed: i64,
    started_at: &'a str,
}

impl<'a> Checkpoints<'a> {
    /// With the other names, where it is about one entity.
    pub(crate) fn of(overview: &'a CheckpointOverview, one_entity: bool) -> Self {
        let latest = overview.checkpoints.first().filter(|_| one_entity);
        Self {
            overview,
            latest: latest.map(Latest::of),
        }
    }
}

impl<'a> Latest<'a> {
    fn of(checkpoint: &'a CheckpointState) -> Self {
        Self {
            checkpoint_id: checkpoint.id.to_string(),
            entity_type: &checkpoint.entity,
            progress_percentage: checkpoint.percent_of_rows(),
            can_resume: checkpoint.can_resume(),
            last_processed_id: checkpoint.last_legacy_id.as_deref(),
            status: checkpoint.state,
            records_processed: checkpoint.rows_done,
            started_at: &checkpoint.started_at,
        }
    }
}

/// What is known of one entity. `recommendations` is among our own names already.
#[derive(Serialize)]
pub(crate) struct Debugged<'a> {
    #[serde(flatten)]
    found: &'a EntityDebug,
    checkpoint_details: Option<CheckpointDetails<'a>>,
    database_state: DatabaseState<'a>,
}

#[derive(Serialize)]
struct CheckpointDetails<'a> {
    status: CheckpointProgress,
    /// Of the source rows to go through, in percent.
    progress: f64,
    timing: Timing<'a>,
}

#[derive(Serialize)]
struct Timing<'a> {
    started_at: &'a str,
    last_moved_at: &'a str,
}

#[derive(Serialize)]
struct DatabaseState<'a> {
    locks: usize,
    schema_changes: &'a [String],
    index_faults: &'a [String],
    open_differences: &'a [OpenDifference],
}

impl<'a> Debugged<'a> {
    /// With the other names.
    pub(crate) fn of(found: &'a EntityDebug) -> Self {
        let details = |checkpoint: &'a CheckpointState| CheckpointDetails {
            status: checkpoint.state,
            progress: checkpoint.percent_of_rows(),
            timing: Timing {
                started_at: &checkpoint.started_at,
                last_moved_at: &checkpoint.moved_at,
            },
        };
        Self {
            found,
            checkpoint_details: found.checkpoint.as_ref().map(details),
            database_state: DatabaseState {
                locks: found.locks.len(),
                schema_changes: &found.drift.changed,
                index_faults: &found.index_faults,
                open_differences: &found.differences,
            },
        }
    }
}
