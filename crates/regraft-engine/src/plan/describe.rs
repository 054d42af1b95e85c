//! How an entity is moved, in words and in SQL.

use regraft_ledger::Mode;

use super::document::ColumnPlan;
use crate::keys::LegacyId;
use crate::model::EntityModel;

/// How each column comes about.
pub(super) fn columns(model: &EntityModel) -> Vec<ColumnPlan> {
    model
        .outputs
        .iter()
        .map(|output| ColumnPlan {
            column: output.column.clone(),
            provenance: output.provenance.to_string(),
            rule: output.shown.clone(),
        })
        .collect()
}

/// The lowest legacy id, for a query that is shown.
pub(super) fn low(model: &EntityModel) -> LegacyId {
    if model.numeric {
        LegacyId::Number(i64::MIN)
    } else {
        LegacyId::Text("LOW".to_owned())
    }
}

/// The highest legacy id, for a query that is shown.
pub(super) fn high(model: &EntityModel) -> LegacyId {
    if model.numeric {
        LegacyId::Number(i64::MAX)
    } else {
        LegacyId::Text("HIGH".to_owned())
    }
}

/// What is run on the target for a batch.
pub(super) fn copy_text(model: &EntityModel, mode: Mode) -> String {
    let note = match mode {
        Mode::Bulk => {
            "-- secondary indexes, checks and foreign keys are taken off before the first batch and brought back after the last\n"
        }
        Mode::InPlace => "",
    };
    format!(
        "{note}copy {} ({}) from stdin (format binary)",
        model.table.sql_name(),
        model.column_list()
    )
}
