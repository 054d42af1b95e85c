//! Columns of an entity: the rule that makes the value, and where the value comes from.

use crate::source_files::{Span, Spanned};
use crate::sql::Sql;

/// One mapped target column.
#[derive(Debug, Clone)]
pub struct Column {
    /// The target column.
    pub name: Spanned<String>,
    /// How its value is made.
    pub rule: Rule,
    /// Where its value comes from.
    pub provenance: Provenance,
    /// The rule as written.
    pub span: Span,
}

/// Where a column's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// A source column as it is.
    Copied,
    /// Computed from the source row.
    Derived,
    /// Translated by a table of values.
    Mapped,
    /// A constant of the project.
    Defaulted,
    /// Guessed from the source row by a rule of thumb.
    Heuristic,
    /// Made up: nothing in the source says so.
    Synthesised,
    /// The key of a row in another id space.
    Referenced,
}

impl std::fmt::Display for Provenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Provenance::Copied => "copied",
            Provenance::Derived => "derived",
            Provenance::Mapped => "mapped",
            Provenance::Defaulted => "defaulted",
            Provenance::Heuristic => "heuristic",
            Provenance::Synthesised => "synthesised",
            Provenance::Referenced => "referenced",
        })
    }
}

/// How a column's value is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// An SQL expression on the source row.
    Sql(Sql),
    /// A constant, in its text form.
    Value(Spanned<String>),
    /// A source value translated by a table of values.
    Map {
        /// Expression for the source value.
        from: Sql,
        /// Source value (text form) and target value, in file order.
        map: Vec<(Spanned<String>, Spanned<String>)>,
        /// What NULL becomes; NULL when absent.
        null: Option<Spanned<String>>,
        /// What a value that is not in the map becomes; such rows are quarantined when absent.
        otherwise: Option<Spanned<String>>,
    },
    /// A JSON object built from SQL expressions.
    Json(JsonObject),
    /// A source text that holds JSON.
    Parse {
        /// Expression for the text.
        from: Sql,
        /// What to do with text that is not JSON.
        bad: BadJson,
        /// What to do with empty text.
        empty: EmptyJson,
    },
    /// The key of a row of another entity.
    Ref {
        /// That entity.
        entity: Spanned<String>,
        /// Expression for the legacy id over there; NULL gives NULL.
        from: Sql,
        /// What to do when there is no such row.
        missing: Missing,
    },
    /// The key of a row of one of several entities, chosen by a value of the row.
    RefBy {
        /// Expression for the value that chooses.
        by: Sql,
        /// Value (text form) and entity, in file order.
        cases: Vec<(Spanned<String>, Spanned<String>)>,
        /// Expression for the legacy id over there; NULL gives NULL.
        from: Sql,
        /// What to do when there is no such row.
        missing: Missing,
    },
}

/// A JSON object to build: names and what they hold, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonObject {
    /// The fields.
    pub fields: Vec<(String, JsonField)>,
}

/// What a field of a [`JsonObject`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonField {
    /// The value of an SQL expression.
    Sql(Sql),
    /// An object in the object.
    Object(JsonObject),
}

/// What to do with text that should hold JSON and doesn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadJson {
    /// Quarantine the row.
    Quarantine,
    /// Use NULL.
    Null,
    /// Keep the text in an object under this name.
    KeepAs(String),
}

/// What to do with empty text that should hold JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmptyJson {
    /// Use NULL.
    Null,
    /// Quarantine the row.
    Quarantine,
    /// Use this JSON text.
    Value(String),
}

/// What to do when a reference names a row that was not migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Quarantine the row, or block it when the parent is in quarantine.
    Quarantine,
    /// Use NULL.
    Null,
    /// Use this literal.
    Default(Spanned<String>),
}
