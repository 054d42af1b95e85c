//! The `[changes]` table of an entity: who wins where both sides have changed, and what becomes of
//! rows that the source has no more.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{Table, Value};
use crate::problem::Problem;
use crate::source_files::Spanned;
use crate::sql::Sql;
use crate::sql_check;

pub(crate) const CHANGES_KEYS: &[&str] = &[
    "conflicts",
    "columns",
    "newest",
    "cursor",
    "deletes",
    "deleted",
];
pub(crate) const NEWEST_KEYS: &[&str] = &["source", "target"];
pub(crate) const DELETED_KEYS: &[&str] = &["column", "value"];

/// What becomes of columns that both sides have changed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The source's value is written over whatever the target holds, also where only the target was
    /// changed.
    SourceWins,
    /// What the target holds stays.
    TargetWins,
    /// The side that was changed later, by the times that the project names.
    Newest,
    /// Nothing is written; somebody decides.
    #[default]
    Manual,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::SourceWins,
        Self::TargetWins,
        Self::Newest,
        Self::Manual,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceWins => "source_wins",
            Self::TargetWins => "target_wins",
            Self::Newest => "newest",
            Self::Manual => "manual",
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|p| p.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is none of source_wins, target_wins, newest, manual"))
    }
}

/// What becomes of rows that the source has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletes {
    /// They are deleted from the target too.
    #[default]
    Mirror,
    /// They are marked as deleted, in the column that the project names.
    Soft,
    /// They stay.
    Ignore,
}

impl Deletes {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mirror, Self::Soft, Self::Ignore];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Soft => "soft",
            Self::Ignore => "ignore",
        }
    }
}

impl FromStr for Deletes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|d| d.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is none of mirror, soft, ignore"))
    }
}

/// How an entity's later changes are carried over.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Who wins, for columns without a policy of their own; `None` for what the command says.
    pub conflicts: Option<Policy>,
    /// Policies of columns.
    pub columns: Vec<(Spanned<String>, Policy)>,
    /// What tells which side was changed later.
    pub newest: Option<Newest>,
    /// Expression on the source that grows with every change of a row.
    pub cursor: Option<Sql>,
    /// What becomes of rows that the source has no more; `None` for what the command says.
    pub deletes: Option<Deletes>,
    /// How a row is marked as deleted.
    pub deleted: Option<Deleted>,
}

/// The times that tell which side was changed later.
#[derive(Debug, Clone)]
pub struct Newest {
    /// Expression on the source.
    pub source: Sql,
    /// Column of the target.
    pub target: Spanned<String>,
}

/// What marks a row of the target as deleted.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// The column, which the project doesn't map; a row is not marked while it is NULL or false.
    pub column: Spanned<String>,
    /// Expression on the target for the mark.
    pub value: Spanned<String>,
}

/// Reads `[changes]`. Problems are reported.
pub(crate) fn read_changes(value: &Value<'_>) -> Option<Changes> {
    let table = value.table("[changes]", CHANGES_KEYS)?;
    let columns = table
        .get("columns")
        .and_then(|value| value.open_table("[changes.columns]"))
        .map(|columns| {
            let entries = columns.entries().into_iter();
            entries
                .filter_map(|(key, value)| Some((key.spanned(), parsed(&value)?)))
                .collect()
        })
        .unwrap_or_default();
    let changes = Changes {
        conflicts: table.get("conflicts").and_then(|value| parsed(&value)),
        columns,
        newest: table.get("newest").and_then(|value| read_newest(&value)),
        cursor: table
            .get("cursor")
            .and_then(sql_check::expression)
            .map(|(sql, _)| sql),
        deletes: table.get("deletes").and_then(|value| parsed(&value)),
        deleted: table.get("deleted").and_then(|value| read_deleted(&value)),
    };
    report_missing(&table, &changes);
    Some(changes)
}

/// A policy without what it goes by would only be found out about in the middle of a run.
fn report_missing(table: &Table<'_>, changes: &Changes) {
    let newest = changes.conflicts == Some(Policy::Newest)
        || changes.columns.iter().any(|(_, p)| *p == Policy::Newest);
    let span = |key| table.get(key).map(|value| value.span);
    if newest && !table.contains("newest") {
        let at = span("conflicts").or_else(|| span("columns"));
        let problem = Problem::error(
            "project::newest-by-what",
            "`newest` wins, and nothing says which side is newer",
        )
        .hint("write newest = { source = \"t.updated_at\", target = \"updated_at\" }");
        table.reading.report(match at {
            Some(at) => problem.at(at),
            None => problem,
        });
    }
    if changes.deletes == Some(Deletes::Soft)
        && !table.contains("deleted")
        && let Some(at) = span("deletes")
    {
        table.reading.report(
            Problem::error(
                "project::deleted-by-what",
                "rows are to be marked as deleted, and nothing says how",
            )
            .at(at)
            .hint("write deleted = { column = \"deleted_at\", value = \"now()\" }"),
        );
    }
}

fn parsed<T: FromStr<Err = String>>(value: &Value<'_>) -> Option<T> {
    let text = value.string()?;
    match text.value.parse() {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            value
                .reading
                .report(Problem::error("project::bad-value", error).at(text.span));
            None
        }
    }
}

fn read_newest(value: &Value<'_>) -> Option<Newest> {
    let table = value.table("`newest`", NEWEST_KEYS)?;
    let source = table
        .required("source", "source = \"t.updated_at\"")
        .and_then(sql_check::expression)
        .map(|(sql, _)| sql);
    let target = table
        .required("target", "target = \"updated_at\"")
        .and_then(|v| v.string());
    Some(Newest {
        source: source?,
        target: target?,
    })
}

fn read_deleted(value: &Value<'_>) -> Option<Deleted> {
    let table = value.table("`deleted`", DELETED_KEYS)?;
    let column = table
        .required("column", "column = \"deleted_at\"")
        .and_then(|v| v.string());
    let value = table
        .required("value", "value = \"now()\"")
        .and_then(|v| sql_check::expression(v).and(v.string()));
    Some(Deleted {
        column: column?,
        value: value?,
    })
}
