//! The documents of differential migrations, with the names that the contract of the old programs has
//! for some of their figures beside our own.

pub(crate) mod analyzer;
pub(crate) mod jobs;

use regraft_engine::{Analysis, DifferentialOutcome, EntityDifferential, Resolution};
use serde::Serialize;

/// An analysis.
#[derive(Serialize)]
pub(crate) struct Analyzed<'a> {
    #[serde(flatten)]
    analysis: &'a Analysis,
    missing_records: i64,
    conflicted_records: i64,
    total_source_records: i64,
    total_target_records: i64,
}

impl<'a> Analyzed<'a> {
    /// With the other names.
    pub(crate) fn of(analysis: &'a Analysis) -> Self {
        let sum = |of: fn(&EntityDifferential) -> i64| analysis.entities.iter().map(of).sum();
        Self {
            analysis,
            missing_records: sum(|entity| entity.new.rows + entity.gaps.rows),
            conflicted_records: analysis.conflicts,
            total_source_records: sum(|entity| entity.source_rows),
            total_target_records: analysis.in_place,
        }
    }
}

/// What a differential migration came to.
#[derive(Serialize)]
pub(crate) struct CarriedOver<'a> {
    #[serde(flatten)]
    outcome: &'a DifferentialOutcome,
    #[serde(rename = "operationId")]
    operation_id: &'a str,
    #[serde(rename = "totalProcessed")]
    total_processed: i64,
    successful: i64,
    failed: i64,
    skipped: i64,
    /// In milliseconds.
    duration: Option<i64>,
    checkpoints: Vec<Checkpoint<'a>>,
    resumed_from_checkpoint: bool,
    can_resume: bool,
}

/// How far an entity has come.
#[derive(Serialize)]
struct Checkpoint<'a> {
    entity: &'a str,
    status: &'a str,
    batches: u64,
    processed: i64,
}

impl<'a> CarriedOver<'a> {
    /// With the other names.
    pub(crate) fn of(outcome: &'a DifferentialOutcome) -> Self {
        let receipt = &outcome.receipt;
        let total = &receipt.total;
        Self {
            outcome,
            operation_id: &receipt.run_id,
            total_processed: total.source_rows,
            successful: total.inserted + total.updated,
            failed: total.quarantined + total.blocked,
            skipped: total.unchanged + total.merged + total.filtered,
            duration: receipt.seconds.map(|seconds| (seconds * 1e3) as i64),
            checkpoints: receipt
                .entities
                .iter()
                .map(|entity| Checkpoint {
                    entity: &entity.entity,
                    status: &entity.status,
                    batches: entity.batches,
                    processed: entity.account.source_rows,
                })
                .collect(),
            resumed_from_checkpoint: outcome.resumed,
            // A run that was not finished has no outcome.
            can_resume: false,
        }
    }
}

/// What deciding on conflicts came to.
#[derive(Serialize)]
pub(crate) struct Resolved<'a> {
    #[serde(flatten)]
    resolution: &'a Resolution,
    conflicts_resolved: i64,
    resolution_strategy: &'a str,
}

impl<'a> Resolved<'a> {
    /// With the other names.
    pub(crate) fn of(resolution: &'a Resolution) -> Self {
        Self {
            resolution,
            conflicts_resolved: resolution.resolved,
            resolution_strategy: resolution.strategy,
        }
    }
}
