//! The ledger: regraft's control tables in the target, and every statement that touches them.
//!
//! What the ledger says is the truth about everything that was done: a run that is not in it did
//! not happen, and a batch that is in it is durable together with its rows, because both were
//! written by one transaction.

mod account;
mod checkpoint;
mod mapping;
mod quarantine;
mod report;
mod run;
mod schema;

pub use account::{Account, Detail, BatchRecord, EntityRecord, done_batch, done_batches, entity_records, plan_batches, planned_batches, record_batch, record_entity};
pub use checkpoint::{Checkpoint, Mode, Phase, advance, checkpoints, open_checkpoint, set_dropped, set_phase, take_over};
pub use mapping::{
    MappingIndex, MappingRow, attach_index, copy_statement, create_partition, drop_partition,
    key_index_statement, mapped_rows, mapping_index, mapping_select, partition_name,
    partition_exists, encode as encode_mapping, delete_of_run,
};
pub use quarantine::{Bucket, QuarantineFilter, QuarantineRow, Quarantined, delete_quarantine_of_run, list as list_quarantine, open_ids, put as put_quarantine, resolve as resolve_quarantine, move_inserted, reason_keys, summary as quarantine_summary, ReasonCount};
pub use report::{ValidationRecord, record_validation};
pub use run::{NewRun, Run, RunStatus, begin_run, entities_of_run, find_run, finish_run, list_runs, set_run_detail, unfinished_run, run_lock, mark_entity_rolled_back, close_if_undone, runs_that_wrote};
pub use schema::{SCHEMA, VERSION, install, installed_version};
