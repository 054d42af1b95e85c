//! What a plan says: the document that is printed, written and held against what is done.

use regraft_ledger::Bucket;
use serde::Serialize;

/// The ordered, checked, reviewable outcome of reading the project against both databases.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The project's name.
    pub project: String,
    /// Names this plan: the project, both catalogs and the selection (16 hexadecimal digits).
    /// Rows that come and go don't change it.
    pub hash: String,
    /// SHA-256 of the project.
    pub project_hash: String,
    /// SHA-256 of the source's catalog.
    pub source_catalog_hash: String,
    /// SHA-256 of the target's catalog.
    pub target_catalog_hash: String,
    /// Entities in the order they would be moved.
    pub entities: Vec<EntityPlan>,
    /// Seconds it may take.
    pub seconds_estimate: f64,
    /// What that number rests on.
    pub estimate_basis: String,
    /// Every table of the source, with the entities of the project that read it, whether or not they
    /// are part of this plan.
    pub source_tables: Vec<SourceTable>,
}

/// What would be done to one entity.
#[derive(Debug, Clone, Serialize)]
pub struct EntityPlan {
    /// The entity.
    pub entity: String,
    /// The table it fills.
    pub target_table: String,
    /// `bulk` or `in-place`.
    pub mode: String,
    /// How keys come about.
    pub key_strategy: String,
    /// The entities it refers to.
    pub depends_on: Vec<String>,
    /// Rows of the source query, before filters.
    pub source_rows: u64,
    /// Batches.
    pub batches: u64,
    /// Rows dropped, by filter.
    pub filters: Vec<FilterCount>,
    /// Rows that earlier runs moved.
    pub in_place_already: u64,
    /// Rows that would be written.
    pub to_move: u64,
    /// Rows that would become part of another row, by the entity's merge rule.
    pub merged: u64,
    /// Rows that can't satisfy the target.
    pub quarantined: u64,
    /// Rows whose parent can't be moved.
    pub blocked: u64,
    /// Those rows by reason; a row with several reasons stands under each.
    pub predictions: Vec<Prediction>,
    /// For each reference, how many rows survive each hop to their parent.
    pub funnels: Vec<Funnel>,
    /// For each constraint of the target, how many rows can't satisfy it.
    pub constraints: Vec<ConstraintPlan>,
    /// For each coded column, which values occur and what each becomes.
    pub codes: Vec<CodedColumn>,
    /// Tables of the source that it reads.
    pub reads: Vec<String>,
    /// How each column comes about.
    pub columns: Vec<ColumnPlan>,
    /// Target columns that are left to their defaults.
    pub not_written: Vec<String>,
    /// What is read from the source for a batch.
    pub sql: String,
    /// What is run on the target for a batch.
    pub copy: String,
    /// Seconds it may take.
    pub seconds_estimate: f64,
}

/// Rows that a filter drops.
#[derive(Debug, Clone, Serialize)]
pub struct FilterCount {
    /// Its name.
    pub name: String,
    /// Rows it drops (and no filter before it).
    pub rows: u64,
    /// Up to five legacy ids of them.
    pub examples: Vec<String>,
    /// Rows of this plan's entities that refer to such a row, and lose their parent by it.
    pub children: Vec<ChildLoss>,
}

/// Rows that lose their parent because a filter drops it.
#[derive(Debug, Clone, Serialize)]
pub struct ChildLoss {
    /// Their entity.
    pub entity: String,
    /// The column that refers to the parent.
    pub column: String,
    /// How many.
    pub rows: u64,
    /// What becomes of them: `quarantine`, `null` or `default`.
    pub missing: String,
}

/// How the rows of an entity get to their parents by one reference, hop by hop. The rows of a hop and
/// its losses add up to the rows of the hop before.
#[derive(Debug, Clone, Serialize)]
pub struct Funnel {
    /// The column.
    pub column: String,
    /// The entities it leads to; several where another value of the row chooses.
    pub parents: Vec<String>,
    /// What becomes of a row whose parent isn't there: `quarantine`, `null` or `default`.
    pub missing: String,
    /// The hops, in their order.
    pub hops: Vec<Hop>,
}

/// A step on the way to a parent.
#[derive(Debug, Clone, Serialize)]
pub struct Hop {
    /// `source_rows`, `kept` by the entity's own filters and not merged into another row, `set` (the reference is not NULL), `parent_named`
    /// (only where a value chooses the entity), `parent_in_source`, `parent_kept` by its filters,
    /// `parent_moved`.
    pub hop: &'static str,
    /// Rows that get this far.
    pub rows: u64,
    /// Rows that got to the hop before, and not here.
    pub lost: u64,
    /// Those rows by reason.
    pub losses: Vec<Loss>,
}

/// Rows that don't survive a hop, for one reason.
#[derive(Debug, Clone, Serialize)]
pub struct Loss {
    /// `filtered` by the entity's own filter, `merged` into another row, `source_error` (the source can't compute the row),
    /// `null`, `not_named` (the value that chooses the entity is not in the list), `not_in_source`,
    /// `parent_filtered`, `parent_quarantined`, `parent_blocked`, `parent_stays_behind` (one or the
    /// other; the reasons of a parent are kept for its first 250,000 such rows), `parent_not_planned` (neither moved yet nor part of this plan).
    pub reason: &'static str,
    /// The parent's entity.
    pub parent: Option<String>,
    /// The filter that drops the row, or its parent.
    pub filter: Option<String>,
    /// Why the parent stays behind, as the account counts it: `code:column`, several with commas.
    pub because: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Up to five legacy ids of them, the lowest.
    pub examples: Vec<String>,
}

/// A constraint of the target, and how many rows can't satisfy it.
#[derive(Debug, Clone, Serialize)]
pub struct ConstraintPlan {
    /// `not_null`, `foreign_key`, `reference` (without a foreign key in the target), `check`, `enum`,
    /// `map`, `unique`, `exclusion`, `type` (length, range, precision, JSON), or `other`.
    pub kind: &'static str,
    /// The constraint's name, or the column's for one that has none.
    pub name: String,
    /// The columns it is about.
    pub columns: Vec<String>,
    /// Rows that can't satisfy it.
    pub rows: u64,
    /// Up to five legacy ids of them.
    pub examples: Vec<String>,
}

/// The values of a coded column, among the rows that the filters keep. Of a reference whose entity is
/// chosen by a value these are the values that choose, among the rows that refer to something.
#[derive(Debug, Clone, Serialize)]
pub struct CodedColumn {
    /// The column.
    pub column: String,
    /// Values with what each becomes, the most frequent first; then those of the map that don't occur.
    pub values: Vec<CodeCount>,
    /// Rows with values beyond the first thousand different ones, which aren't told apart.
    pub more_rows: u64,
    /// Rows whose value is not in the map, and that can't be moved therefore.
    pub unmapped_rows: u64,
}

/// A value of a coded column.
#[derive(Debug, Clone, Serialize)]
pub struct CodeCount {
    /// The source's value as text; `None` is NULL.
    pub value: Option<String>,
    /// Rows.
    pub rows: u64,
    /// What it becomes; `None` is NULL, or nothing where it is unmapped.
    pub becomes: Option<String>,
    /// `mapped`, `otherwise` (not in the map, which has a value for all others), `null`, or `unmapped`.
    pub rule: &'static str,
}

/// A table of the source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceTable {
    /// Its name, with the schema unless that is `public`.
    pub table: String,
    /// Entities that read it.
    pub entities: Vec<String>,
    /// Whether it has no rows; known only of tables that no entity reads.
    pub empty: Option<bool>,
}

/// Rows that can't be moved, for one reason.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// Quarantined or blocked.
    pub bucket: Bucket,
    /// The reason's code.
    pub code: String,
    /// The column or constraint.
    pub place: Option<String>,
    /// The parent entity, for a missing or blocked parent.
    pub parent: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Up to five legacy ids.
    pub examples: Vec<String>,
}

/// How a column comes about.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// The target column.
    pub column: String,
    /// `copied`, `derived`, `mapped`, `referenced`, `defaulted` or `synthesised`.
    pub provenance: String,
    /// The rule, in one line.
    pub rule: String,
}
