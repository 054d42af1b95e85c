//! Moving batches: from the source's bytes to the target's, with everything that could go wrong.

mod batch;
mod classify;
mod condition;
mod doubles;
mod dropped;
mod json;
mod merge;
mod numeric;
mod read;
mod reason;
mod row;
mod sink;
mod stage;
mod survey;
mod unique;

pub(crate) use batch::{
    EntityLoad, Progress, Worker, is_about_rows, process, quarantined_rows, read_into,
};
pub(crate) use classify::{Classifier, foreign_conditions};
pub(crate) use condition::row_conditions;
pub(crate) use doubles::Doubles;
pub(crate) use dropped::{add_dropped, dropped};
pub(crate) use merge::{Merged, merged, send_merged, write_merged};
pub(crate) use read::MappedRow;
pub(crate) use read::{
    BatchRange, Rows, filter_case, filter_examples, filters_of, id_array, kept_condition, keys_of,
    literal, parse_id, partition, planned_ranges, read_all, read_rows, wanted_condition,
};
pub(crate) use reason::{DROPPED, Faults, Reason};
pub(crate) use row::{NULL_FINGERPRINT, Outcome, Transformer, corrupt, fingerprint_of};
pub(crate) use sink::Sink;
pub(crate) use stage::column_types;
pub(crate) use survey::{CodeSurvey, EXAMPLES, ReferenceSurvey, Sample, Survey};
pub(crate) use unique::{duplicates, order_decides};
