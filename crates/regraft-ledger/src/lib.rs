//! The ledger: regraft's control tables in the target, and every statement that touches them.
//!
//! What the ledger says is the truth about everything that was done: a run that is not in it did
//! not happen, and a batch that is in it is durable together with its rows, because both were
//! written by one transaction.

mod account;
mod agreed;
mod changes;
mod checkpoint;
mod checkpoint_of_run;
mod closing;
mod cursor;
mod differential;
mod explain;
mod history;
mod lock;
mod mapping;
mod moved;
mod observed;
mod offer;
mod proof;
mod prune;
mod quarantine;
mod rebuild;
mod record;
mod report;
mod run;
mod schema;
mod sync;
mod undo;
mod update;
mod worker;

pub use account::{
    Account, BatchRecord, Detail, EntityRecord, MovedFrom, done_batch, done_batches,
    entity_records, plan_batches, planned_batches, record_batch, record_entity,
};
pub use agreed::{
    AgreedRange, KnownRange, RANGE_BITS, agree_on_ranges, disagree_on_ranges, forget_ranges,
    known_ranges,
};
pub use changes::{
    DeletedRows, OwnedTable, delete_rows, delete_together, forget_agreed_ranges, lock_rows,
};
pub use checkpoint::{
    Checkpoint, Mode, Phase, advance, checkpoints, checkpoints_of, open_checkpoint, set_dropped,
    set_phase, settled, take_over,
};
pub use checkpoint_of_run::{
    CheckpointOfRun, CheckpointReset, checkpoints_of_runs, find_checkpoint, reset_checkpoint,
};
pub use closing::{Standing, finished_entities, recorded_catalog, standing, taken_off, unbalanced};
pub use cursor::{CursorLook, cursor_looks, forget_cursor_looks, note_cursor_look};
pub use differential::{
    Differing, DifferingFilter, Noted, accounted_in, close_others, close_rows, count_differing,
    differing_ids, ever_merged, looked_at_by, mapped_since, new_analysis_id, note_rows,
    open_differing, plan_anew, record_differential, rekeyed_since, summaries,
};
pub use explain::Figures;
pub use history::{EntityRun, JobRun, entity_runs, job_runs, last_source_rows};
pub use lock::{
    LockHolder, hold_run, lock_installation, release_run_lock, run_lock, run_lock_holder,
    share_run_lock, unlock_installation,
};
pub use mapping::{
    MappingIndex, MappingRow, MergedRow, attach_index, copy_merged_statement, copy_statement,
    create_partition, delete_of_run, drop_partition, encode as encode_mapping, encode_merged,
    fingerprints_in_ranges, fingerprints_where, key_index_statement, mapped_among, mapped_by_run,
    mapped_rows, mapping_index, mapping_select, merged_into_others, merged_rows, partition_exists,
    partition_name,
};
pub use moved::{left_behind, legacy_id_of, moved_rows, stand_for};
pub use observed::{Observed, SyncQueue, observe, sync_queue};
pub use offer::{
    DoneOffer, Offer, close_gate, end_batch_of_others, fail_offer, find_offer, is_batch_wanted,
    is_offered, offer_progress, offered_batch_begins, put_offer, withdraw_offer, withdraw_offers,
};
pub use proof::{answer_proof, answered_proofs, is_proof_wanted, offer_proofs, withdraw_proofs};
pub use prune::{DELETED_SINCE, IMAGES_REMOVED, Pruned, prune};
pub use quarantine::{
    Bucket, DropCount, DropPreview, QuarantineFilter, QuarantineRow, Quarantined, ReasonCount,
    RedriveFilter, RunReason, any as any_quarantine, behind as behind_quarantined,
    close as close_quarantine, delete_quarantine_of_run, drop_preview as drop_quarantine_preview,
    drop_rows as drop_quarantine, dropped_ids, list as list_quarantine, move_to_quarantine,
    open_reasons, page as quarantine_page, put as put_quarantine,
    put_first as put_first_quarantine, reason_keys, reasons_of_run, redrive_set,
    reopen as reopen_quarantine, resolve as resolve_quarantine, stopped_ids, stopped_rows,
    summary as quarantine_summary, value_columns as quarantine_value_columns,
};
pub use rebuild::{
    Candidate, MappingDrift, PROVEN, create_proven, encode_proven, mapping_drift, no_longer_merged,
    prove_merged, proven_copy_statement, rebuilding_runs, replace_mappings,
};
pub use record::{
    RowBatch, RowChange, RowMapping, RowState, changes_of_row, entities_of_key, mappings_of_key,
    mappings_of_row, row_batch, row_states,
};
pub use report::{
    SUMMARY, StoredValidation, ValidationRecord, delete_validations_before, now, record_validation,
    runs_since_validation, stored_validations,
};
pub use run::{
    NewRun, OpenRun, Run, RunStatus, begin_run, close_if_undone, entities_of_run, find_run,
    finish_run, last_secret_check, layouts, list_runs, mark_entity_rolled_back, open_runs,
    runs_that_wrote, set_run_detail, unfinished_run,
};
pub use schema::{SCHEMA, VERSION, install, installed_version};
pub use sync::{
    NewSyncJob, SyncJob, SyncLease, SyncRun, SyncRunEnd, SyncStanding, SyncSummary, begin_sync_run,
    create_sync_job, delete_sync_job, end_sync_run, give_up_sync_job, lock_due_sync_job,
    next_sync_job_due, note_sync_run, prolong_sync_lease, recover_sync_jobs, set_sync_job,
    set_sync_job_after_run, sync_job, sync_jobs, sync_runs, sync_standing, sync_summary,
};
pub use undo::{
    LeftRow, NOT_LEFT, Operation, Parent, UndoneTable, Why, changes_to_undo, create_left,
    forget_undone, leave_changed_inserts, leave_inserts_changed_later, leave_referred,
    left_inserts, left_rows, runs_that_changed, written_rows_select,
};
pub use update::{
    Mark, STAGE as UPDATE_STAGE, STAGE_COLUMNS, UpdatedTable, mark_deleted, marked_rows, marking,
    unmark, unmarked,
};
pub use worker::{WorkerSeen, forget_worker, note_worker, workers_seen};
