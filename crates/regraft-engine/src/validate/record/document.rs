//! What is told of one row.

use regraft_ledger::{QuarantineRow, RowBatch, RowChange, RowMapping, RowState};
use regraft_project::Provenance;
use serde::Serialize;
use uuid::Uuid;

use crate::validate::Check;

/// What a row is named by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordId {
    /// Its id in the source.
    Legacy(String),
    /// Its key in the target.
    Key(Uuid),
}

/// The whole life of one row.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The entity.
    pub entity: String,
    /// The table it fills.
    pub target_table: String,
    /// Its id in the source; none for a row of the target that nobody migrated.
    pub legacy_id: Option<String>,
    /// Its key in the target, where it has one.
    pub key: Option<Uuid>,
    /// Whether the source, the ledger or the target knows it. That there is no such row is an answer,
    /// and nothing is wrong then.
    pub exists: bool,
    /// Where it stands.
    pub state: RecordState,
    /// Whether the values of the row are in it, as asked for.
    pub with_values: bool,
    /// What the source says.
    pub source: Option<SourceRow>,
    /// What becomes of it, column by column.
    pub columns: Vec<ColumnRecord>,
    /// The rows it refers to.
    pub parents: Vec<ParentRecord>,
    /// Its mappings: one, unless the ledger is broken.
    pub mappings: Vec<RowMapping>,
    /// The batch that wrote it.
    pub batch: Option<RowBatch>,
    /// Legacy ids of rows that were merged into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<String>,
    /// What the target holds.
    pub target: Option<TargetRow>,
    /// Its entry in the quarantine, open or closed.
    pub quarantine: Option<QuarantineRow>,
    /// What was changed after it was written, oldest first.
    pub changes: Vec<RowChange>,
    /// The entities whose references point to it.
    pub children: Vec<ChildRecord>,
    /// What the validator says of it.
    pub checks: Vec<Check>,
    /// What the validator could not look at.
    pub not_checked: Vec<String>,
    /// What else is good to know of it; without values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What is wrong, in words; without values.
    pub problems: Vec<String>,
    /// Whether nothing is wrong.
    pub passed: bool,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// It has a row of its own in the target.
    Migrated,
    /// It is part of another row, by a rule of the project.
    Merged,
    /// In quarantine for its own faults.
    Quarantined,
    /// In quarantine because of its parent.
    Blocked,
    /// Dropped by a filter of the project.
    Filtered,
    /// In the source, and neither mapped nor in quarantine.
    NotMigrated,
    /// Known to the ledger, and not in the source any more.
    GoneFromSource,
    /// In the target, and known to no mapping.
    Foreign,
    /// Neither in the source, nor in the ledger, nor in the target.
    Nowhere,
}

/// A value under its column, in its text form; `None` is NULL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnValue {
    /// The column's name.
    pub column: String,
    /// Its value.
    pub value: Option<String>,
}

/// A row as the entity's source query gives it.
#[derive(Debug, Clone, Serialize)]
pub struct SourceRow {
    /// Rows under this legacy id: one, unless the key is not unique.
    pub rows: u64,
    /// The filter that drops it.
    pub filter: Option<String>,
    /// The columns of its FROM list that the project reads; empty where values were not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ColumnValue>,
    /// The names of those that it doesn't read; their values are nobody's business here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// What an expression gives for the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// The value in its text form; NULL where there is none.
    pub value: Option<String>,
    /// The SQLSTATE of the source's refusal to compute it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails_with: Option<String>,
}

/// What becomes of one column.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnRecord {
    /// The target column.
    pub column: String,
    /// The rule in words.
    pub rule: String,
    /// The SQL that it reads from the source, as the project has it.
    pub expressions: Vec<String>,
    /// File and line.
    pub place: String,
    /// Where its values come from; none for the key and the legacy id.
    pub provenance: Option<Provenance>,
    /// What its (last) expression gives for the row; none without a row, without an expression, or
    /// where values were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Reading>,
    /// What the target holds; as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Reading>,
    /// What the validator says of it.
    pub verdict: ColumnVerdict,
    /// Why, where it is not right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What the validator says of a column of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnVerdict {
    /// It is what the source gives.
    Right,
    /// It is something else.
    Wrong,
    /// It was not compared: there is no row of its own, or its rule can't be recomputed.
    NotCompared,
}

/// A reference of the row, and what is found over there.
#[derive(Debug, Clone, Serialize)]
pub struct ParentRecord {
    /// The target column.
    pub column: String,
    /// The entity it points into; none where no case chooses one.
    pub entity: Option<String>,
    /// The legacy id over there; none where the source has NULL.
    pub legacy_id: Option<String>,
    /// Where that row stands; none without one.
    pub state: Option<RecordState>,
    /// The filter that drops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Its key.
    pub key: Option<Uuid>,
}

/// What the target holds.
#[derive(Debug, Clone, Serialize)]
pub struct TargetRow {
    /// Its key.
    pub key: Uuid,
    /// The transaction that wrote the row as it is now (`xmin`). What was written
    /// after a savepoint has a number of its own, beside its transaction's.
    pub transaction: String,
    /// Every column; empty where values were not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ColumnValue>,
}

/// The rows of an entity that refer to the row by one of their columns.
#[derive(Debug, Clone, Serialize)]
pub struct ChildRecord {
    /// The entity.
    pub entity: String,
    /// Its column.
    pub column: String,
    /// Rows of the source that refer to it, and to the rows merged with it.
    pub source_rows: u64,
    /// Those of them that no filter drops.
    pub kept: u64,
    /// Those of them that are in quarantine or blocked; none where there are too many to look up.
    pub left_behind: Option<u64>,
    /// Rows of the target that refer to it.
    pub target_rows: u64,
    /// Some of the source's, those that are not in the target first.
    pub examples: Vec<ChildExample>,
}

/// A row that refers to the row.
#[derive(Debug, Clone, Serialize)]
pub struct ChildExample {
    /// Its legacy id.
    pub legacy_id: String,
    /// Where it stands by the ledger.
    pub ledger: Option<RowState>,
    /// The filter that drops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}
