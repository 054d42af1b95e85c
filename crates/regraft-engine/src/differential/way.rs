//! In which way an entity's changes are carried over: what the command says, and what the project
//! says otherwise.

use std::collections::{HashMap, HashSet};

use regraft_ledger::Mark;
use regraft_project::{Changes, Deleted, Deletes, Newest, Policy, Sql};

use super::policy::{Change, Decision, decide};
use crate::error::{Error, Kind, Result};
use crate::model::EntityModel;

/// The way of one entity.
#[derive(Debug, Clone)]
pub(super) struct EntityWay {
    default: Policy,
    columns: HashMap<String, Policy>,
    /// What tells which side was changed later.
    pub(super) newest: Option<Newest>,
    /// What grows with every change of the source.
    pub(super) cursor: Option<Sql>,
    /// What becomes of rows that the source has no more.
    pub(super) deletes: Deletes,
    /// How a row is marked as deleted.
    pub(super) deleted: Option<Deleted>,
    /// Whether only columns that both sides have changed are decided on.
    conflicts_only: bool,
    /// The columns that are looked at; `None` for all.
    only: Option<HashSet<String>>,
}

impl EntityWay {
    /// The way of an entity: what the command says goes before what the project says, except in
    /// columns that the project names.
    ///
    /// # Errors
    /// [`Kind::Usage`]: a column that isn't there; `newest` or `soft` without what it goes by.
    pub(super) fn new(
        model: &EntityModel,
        changes: &Changes,
        policy: Option<Policy>,
        deletes: Option<Deletes>,
    ) -> Result<Self> {
        let refuse = |what: String, hint: &str| {
            Err(Error::new(Kind::Usage, what)
                .hint(hint.to_owned())
                .in_entity(&model.name))
        };
        for (column, _) in &changes.columns {
            if !model.outputs.iter().any(|o| o.column == column.value) {
                return refuse(
                    format!(
                        "[changes.columns] names `{}`, which is not mapped",
                        column.value
                    ),
                    "name a column of [columns]",
                );
            }
        }
        let newest = changes.newest.as_ref().map(|n| &n.target.value);
        let deleted = changes.deleted.as_ref().map(|d| &d.column.value);
        for column in newest.into_iter().chain(deleted) {
            if model.table.column(column).is_none() {
                return refuse(
                    format!(
                        "[changes] names `{column}`, which table {} doesn't have",
                        model.table.name
                    ),
                    "name a column of the target's table",
                );
            }
        }
        let way = Self {
            default: policy.or(changes.conflicts).unwrap_or_default(),
            columns: changes
                .columns
                .iter()
                .map(|(column, policy)| (column.value.clone(), *policy))
                .collect(),
            newest: changes.newest.clone(),
            cursor: changes.cursor.clone(),
            deletes: deletes.or(changes.deletes).unwrap_or_default(),
            deleted: changes.deleted.clone(),
            conflicts_only: false,
            only: None,
        };
        refuse_without_means(&model.name, changes, policy, deletes)?;
        Ok(way)
    }

    /// The same, with every column that both sides have changed left open.
    pub(super) fn open(self) -> Self {
        self.taking(Policy::Manual)
    }

    /// The same, with one policy for all columns that both sides have changed, and for no others.
    pub(super) fn taking(self, policy: Policy) -> Self {
        Self {
            default: policy,
            columns: HashMap::new(),
            conflicts_only: true,
            ..self
        }
    }

    /// The same, if the command had said this policy.
    pub(super) fn under(self, policy: Policy) -> Self {
        Self {
            default: policy,
            ..self
        }
    }

    /// The same, with nothing done about other columns than these.
    pub(super) fn only(self, columns: &[String]) -> Self {
        Self {
            only: Some(columns.iter().cloned().collect()),
            ..self
        }
    }

    /// How rows of the entity are marked as deleted, where the project says; `table` is the quoted name
    /// of its table.
    pub(super) fn mark<'m>(&'m self, model: &'m EntityModel, table: &'m str) -> Option<Mark<'m>> {
        let deleted = self.deleted.as_ref()?;
        Some(Mark {
            entity: &model.name,
            table,
            key: &model.key_column,
            numeric: model.numeric,
            column: &deleted.column.value,
            value: &deleted.value.value,
        })
    }

    /// The same where a mark is ours to take off: the column is not mapped, and whole rows are looked
    /// at.
    pub(super) fn own_mark<'m>(
        &'m self,
        model: &'m EntityModel,
        table: &'m str,
    ) -> Option<Mark<'m>> {
        let mark = self.mark(model, table)?;
        let is_mapped = model.outputs.iter().any(|o| o.column == mark.column);
        (self.only.is_none() && !is_mapped).then_some(mark)
    }

    /// Whether a column is looked at.
    pub(super) fn looks_at(&self, column: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(column))
    }

    /// What is done about a column.
    pub(super) fn decide(
        &self,
        column: &str,
        change: Change,
        source_is_newer: Option<bool>,
    ) -> Decision {
        if !self.looks_at(column) {
            return Decision::Aside;
        }
        if self.conflicts_only && change == Change::Target {
            return Decision::Keep;
        }
        decide(self.policy(column), change, source_is_newer)
    }

    /// Who wins in a column.
    fn policy(&self, column: &str) -> Policy {
        self.columns.get(column).copied().unwrap_or(self.default)
    }

    /// Who wins in a column if the command said `policy`.
    pub(super) fn policy_under(&self, policy: Policy, column: &str) -> Policy {
        self.columns.get(column).copied().unwrap_or(policy)
    }

    /// Who wins where a row as a whole is at stake.
    pub(super) fn row_policy(&self) -> Policy {
        self.default
    }

    /// Whether what only the target has changed matters: somewhere the source wins over it.
    pub(super) fn looks_at_target(&self) -> bool {
        self.default == Policy::SourceWins
            || self.columns.values().any(|p| *p == Policy::SourceWins)
    }
}

/// Refuses a way that needs something which the project doesn't say.
///
/// # Errors
/// [`Kind::Usage`]: `newest` without what tells which side is newer, `soft` without a mark.
pub(super) fn refuse_without_means(
    entity: &str,
    changes: &Changes,
    policy: Option<Policy>,
    deletes: Option<Deletes>,
) -> Result<()> {
    let default = policy.or(changes.conflicts).unwrap_or_default();
    let deletes = deletes.or(changes.deletes).unwrap_or_default();
    let (what, hint) = if default == Policy::Newest && changes.newest.is_none() {
        (
            "`newest` wins, and the project doesn't say which side is newer",
            "newest = { source = \"t.updated_at\", target = \"updated_at\" }",
        )
    } else if deletes == Deletes::Soft && changes.deleted.is_none() {
        (
            "rows are to be marked as deleted, and the project doesn't say how",
            "deleted = { column = \"deleted_at\", value = \"now()\" }",
        )
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Usage, what)
        .hint(format!("add to the entity's file: [changes] {hint}"))
        .in_entity(entity))
}
