//! The work: check, plan, migrate, validate, undo.
//!
//! Every entry point takes a [`Context`] (the project, both endpoints, the settings) and gives
//! back a value that can be printed or serialised. Nothing here prints.

mod analyzer;
mod bulk;
mod certificate;
mod check;
mod context;
mod crew;
mod differential;
mod drift;
mod error;
mod events;
mod failpoints;
mod keys;
mod link;
mod load;
mod mappings;
mod migrate;
mod model;
mod pacing;
mod plan;
mod prune;
mod quarantine;
mod receipt;
mod rehearsal;
mod rollback;
mod schema;
mod snapshot;
mod source_load;
mod transaction;
mod unfinished;
mod validate;
mod validation_report;
mod work_queue;

pub use analyzer::{
    CheckpointOverview, CheckpointProgress, CheckpointState, Drift, EntityDebug, EntityPerformance,
    FailedCheck, Health, HealthCheck, LastValidation, OpenDifference, PlanNode, QueryPlan,
    Recommendation, ResetDone, RunPerformance, TableLock, Trend, Verdict, checkpoint_status,
    checkpoint_to_reset, debug_entity, entity_performance, reset_checkpoint, system_health,
};
pub use certificate::{
    Certificate, Certification, Verification, certify, read_certificate, verify_certificate,
};
pub use check::{CheckOutcome, check};
pub use context::{Context, KeySecret, Settings};
pub use crew::{Crew, Moved};
pub use differential::{
    Analysis, AnalysisOptions, BackfillOptions, Backfilled, ConflictReport, Count, DeleteForecast,
    DifferentialOptions, DifferentialOutcome, EntityDifferential, OpenDifferential,
    OperationStatus, PolicyForecast, Resolution, StillOpen, Take, analyze_differential, backfill,
    check_differential, conflict_report, differing_rows, filled_tables, migrate_differential,
    open_differentials, operation_status, resolve_conflicts, unfinished_differential, what_to_do,
};
pub use error::{Error, Kind, Place, Result};
pub use events::{Event, Events, JobEnd};
pub use mappings::{MappingsEntity, MappingsRebuilt, merged_rows, rebuild_mappings};
pub use migrate::{Gone, MigrateOptions, ModeChoice, Outcome, Retried, migrate, retry_quarantine};
pub use pacing::{Budget, Limit, Pace, PaceChange, PaceRate, PaceReason, PaceStep, RecordedPace};
pub use plan::{
    ChildLoss, CodeCount, CodedColumn, ColumnPlan, ConstraintPlan, EntityPlan, FilterCount, Funnel,
    Hop, Loss, Plan, Prediction, SourceTable, plan,
};
pub use prune::prune_ledger;
pub use quarantine::{
    drop_quarantine, export_quarantine, preview_drop, quarantine, quarantine_summary,
    quarantined_row,
};
pub use receipt::{
    EntityReceipt, EntityStatus, Explanation, Figure, Rate, Receipt, Status, Undone, UnfinishedRun,
    explain, receipt, runs, status,
};
pub use rehearsal::{GenerateOptions, generate_source};
pub use rollback::{
    RollbackDone, RollbackPreview, RollbackStep, RollbackTarget, preview_rollback, rollback,
};
pub use schema::{SchemaApplied, SchemaDiff, SchemaDifference, apply_schema, diff_schema};
pub use validate::{
    Check, ChildExample, ChildRecord, ColumnDistribution, ColumnRecord, ColumnValue, ColumnVerdict,
    EntityValidation, Finding, InvariantOutcome, Method, ParentRecord, Reading, Record, RecordId,
    RecordState, SourceRow, TargetRow, Validation, ValidationOptions, ValidationType, ValueCount,
    check_record, validate, validate_final,
};
pub use validation_report::{
    HistoryEntry, ReportedCheck, ReportedEntity, ReportedFinding, ReportedValidation, RunAccount,
    ValidationReport, report_validation,
};
pub use work_queue::{Queued, Work, WorkKind, WorkQueue};
