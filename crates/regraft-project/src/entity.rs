//! `entities/NAME.toml`: one mapping from a source query to a target table.

use crate::changes::Changes;
use crate::column::Column;
use crate::source_files::{FileId, Spanned};
use crate::sql::Sql;

/// One entity, in the id space of the same name.
#[derive(Debug, Clone)]
pub struct Entity {
    /// The stem of its file.
    pub name: String,
    /// The file it is written in.
    pub file: FileId,
    /// What it is about.
    pub description: Option<String>,
    /// Where its rows come from.
    pub source: EntitySource,
    /// Where its rows go.
    pub target: EntityTarget,
    /// Its mapped columns, in file order; the key and the legacy column are not among them.
    pub columns: Vec<Column>,
    /// How later changes are carried over.
    pub changes: Changes,
}

/// The `[source]` table of an entity.
#[derive(Debug, Clone)]
pub struct EntitySource {
    /// A FROM list.
    pub from: Sql,
    /// Expression for the legacy id, unique over `from`.
    pub key: Sql,
    /// Which rows are kept, in file order.
    pub filters: Vec<Filter>,
    /// Which rows are one row of the target.
    pub merge: Option<Merge>,
}

/// The `[source.merge]` table: rows that are equal are moved as one, the one with the lowest
/// legacy id; the others' legacy ids are mapped to its key.
#[derive(Debug, Clone)]
pub struct Merge {
    /// The name merged rows are counted under.
    pub name: String,
    /// Rows are equal when all of these are; NULL equals NULL.
    pub by: Vec<Sql>,
    /// Only rows for which this is true are merged.
    pub when: Option<Sql>,
}

/// A named condition on source rows.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The name dropped rows are counted under.
    pub name: String,
    /// A row stays only when this is true.
    pub keep: Sql,
}

/// The `[target]` table of an entity.
#[derive(Debug, Clone)]
pub struct EntityTarget {
    /// `table` or `schema.table`.
    pub table: Spanned<String>,
    /// The target's key.
    pub key: Key,
    /// Column that receives the legacy id.
    pub legacy: Option<Spanned<String>>,
}

impl EntityTarget {
    /// Schema and name of the table; `namespace` is the manifest's, for a table without one.
    pub fn schema_and_table<'a>(&'a self, namespace: &'a str) -> (&'a str, &'a str) {
        self.table
            .value
            .split_once('.')
            .unwrap_or((namespace, &self.table.value))
    }
}

/// The key of the target's rows.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key column.
    pub column: Spanned<String>,
    /// How keys come about.
    pub strategy: KeyStrategy,
}

/// How the keys of the target's rows come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStrategy {
    /// Derived from the legacy id, ordered by a time of the source row.
    UuidV7 {
        /// Expression for the time.
        time: Sql,
    },
    /// Derived from the legacy id alone.
    UuidV5,
    /// Random; the mapping is stored.
    UuidV4,
    /// Read from the source.
    Column {
        /// Expression for the key (uuid or text).
        from: Sql,
    },
    /// The key of a row of another entity.
    SameAs {
        /// That entity.
        entity: Spanned<String>,
        /// Expression for the legacy id over there; `source.key` when absent.
        from: Option<Sql>,
    },
}
