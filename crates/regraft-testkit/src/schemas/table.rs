//! A table of a random project: its source, its target, and the rules between the two.

use regraft_pg::quote;

/// A table of the source that becomes one of the target.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// The entity.
    pub(super) name: String,
    /// The table of the target: its own, or that of an earlier entity that fills it too.
    pub(super) target: String,
    /// Whether other entities fill the same table.
    pub(super) shared: bool,
    /// The source table.
    pub(super) source: String,
    pub(super) key: SourceKey,
    pub(super) strategy: Strategy,
    /// A column of the target for the legacy id.
    pub(super) legacy: bool,
    /// Which rows are one, if any are.
    pub(super) merge: Option<Merge>,
    /// Conditions on the source row `t`, with their names.
    pub(super) filters: Vec<(String, String)>,
    pub(super) values: Vec<ValueColumn>,
    pub(super) edges: Vec<Edge>,
    /// Parts of the target table by a hash of the key; 0 for a table that is not partitioned.
    pub(super) partitions: usize,
    /// A number that the target gives to each row itself.
    pub(super) identity: bool,
    /// The value column that is unique in the target.
    pub(super) unique: Option<usize>,
    /// Columns of the source with their types.
    pub(super) columns: Vec<(String, String)>,
    /// Rows of literals, as many as columns.
    pub(super) rows: Vec<Vec<String>>,
    /// The legacy ids as literals to refer to: one or, for a composite key, two.
    pub(super) ids: Vec<Vec<String>>,
}

/// A rule by which rows of the source are one row of the target.
#[derive(Debug, Clone)]
pub(super) struct Merge {
    /// Expressions over `t` that are equal.
    pub(super) by: Vec<String>,
    /// Which rows are compared at all.
    pub(super) when: Option<String>,
}

/// What a source row is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKey {
    Integer,
    Bigint,
    Text,
    Uuid,
    /// A text and a number.
    Composite,
}

/// How keys of the target come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Strategy {
    V7,
    V5,
    V4,
    /// The source's own.
    Column,
    /// That of the row that the first edge leads to.
    SameAs(String),
}

impl SourceKey {
    /// Columns of the key and their types.
    pub(super) fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Integer => &[("id", "integer")],
            Self::Bigint => &[("id", "bigint")],
            Self::Text => &[("id", "text")],
            Self::Uuid => &[("id", "uuid")],
            Self::Composite => &[("area", "text"), ("number", "integer")],
        }
    }

    /// The expression of the legacy id over columns of `t` with these names.
    pub(super) fn expression(self, columns: &[String]) -> String {
        let columns: Vec<String> = columns
            .iter()
            .map(|column| format!("t.{}", quote::ident(column)))
            .collect();
        columns.join(" || '/' || ")
    }

    /// The type of a target column that holds the legacy id.
    pub(super) fn legacy_type(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Bigint => "bigint",
            Self::Text | Self::Composite | Self::Uuid => "text",
        }
    }
}

impl Table {
    /// The expression of the legacy id.
    pub(super) fn id(&self) -> String {
        let columns = self.key.columns();
        let columns: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.key.expression(&columns)
    }

    /// SQL for whether a row passes all filters.
    pub(super) fn kept(&self) -> String {
        let all = self
            .filters
            .iter()
            .map(|(_, keep)| format!(" and ({keep}) is true"));
        format!("true{}", all.collect::<String>())
    }

    /// The legacy id as rows are ordered by it: numbers by value, all else by its bytes.
    pub(super) fn order(&self) -> String {
        match self.key {
            SourceKey::Integer | SourceKey::Bigint => self.id(),
            SourceKey::Text | SourceKey::Uuid | SourceKey::Composite => {
                format!("({})::text collate \"C\"", self.id())
            }
        }
    }

    /// Whether it is the first to fill its table of the target.
    pub(super) fn is_first(&self) -> bool {
        self.target == self.name
    }

    /// The FROM list.
    pub(super) fn from(&self) -> String {
        format!("{} t", quote::ident(&self.source))
    }
}

/// A column whose value comes from the source row alone.
#[derive(Debug, Clone)]
pub(super) struct ValueColumn {
    /// The target column.
    pub(super) name: String,
    pub(super) target: String,
    pub(super) not_null: bool,
    /// A condition of the target's, and its name.
    pub(super) check: Option<(String, String)>,
    /// The rule in TOML.
    pub(super) rule: String,
    /// SQL over `t` for the text form of what the target must hold.
    pub(super) expected: String,
    /// Why a row can't be moved (`code:place`), and SQL over `t` for when.
    pub(super) faults: Vec<(String, String)>,
    /// The source column: its name, type, and literals for good and for bad values.
    pub(super) source: Option<Pool>,
}

/// The values of a source column.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) of: String,
    pub(super) good: Vec<String>,
    pub(super) bad: Vec<String>,
}

/// A reference.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    /// The target column.
    pub(super) name: String,
    /// The entities it may lead to: with the code that says so where there are several.
    pub(super) parents: Vec<(i64, String)>,
    /// The source column that holds the code.
    pub(super) by: Option<String>,
    /// The source columns that hold the parent's legacy id.
    pub(super) columns: Vec<String>,
    /// The parent's legacy id.
    pub(super) from: String,
    pub(super) missing: Missing,
    pub(super) not_null: bool,
    /// Whether the target has a foreign key for it.
    pub(super) declared: bool,
}

/// What becomes of a reference to a row that is not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    Quarantine,
    Null,
    Default(String),
}
