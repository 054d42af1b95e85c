//! Why a row can't be moved.

use regraft_ledger::Bucket;
use serde::Serialize;

use crate::keys::LegacyId;

/// The code of a row that was taken out of the quarantine for good.
pub(crate) const DROPPED: &str = "dropped";

/// One reason. Holds names and ids, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Reason {
    /// `not_null`, `value_too_long`, `numeric_out_of_range`, `numeric_scale`, `time_precision`,
    /// `unmapped_value`, `missing_parent`, `blocked_parent`, `invalid_json`, `invalid_uuid`,
    /// `duplicate_key`, `check_violation`, `unique_violation`, `foreign_key_violation`,
    /// `exclusion_violation`, `target_refused`, `source_error`, `dropped`.
    pub(crate) code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) constraint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sqlstate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent_id: Option<String>,
}

impl Reason {
    /// A reason about a column.
    pub(crate) fn column(code: &'static str, column: &str) -> Self {
        Self {
            column: Some(column.to_owned()),
            ..Self::bare(code)
        }
    }

    /// A reason about a constraint.
    pub(crate) fn constraint(code: &'static str, constraint: &str) -> Self {
        Self {
            constraint: Some(constraint.to_owned()),
            ..Self::bare(code)
        }
    }

    /// A parent that isn't there, or is in quarantine itself.
    pub(crate) fn parent(code: &'static str, column: &str, parent: &str, id: String) -> Self {
        Self {
            parent: Some(parent.to_owned()),
            parent_id: Some(id),
            ..Self::column(code, column)
        }
    }

    pub(crate) fn bare(code: &'static str) -> Self {
        Self {
            code,
            column: None,
            constraint: None,
            sqlstate: None,
            parent: None,
            parent_id: None,
        }
    }

    /// What a server's refusal of a single row says.
    pub(crate) fn refused(error: &regraft_pg::Error, fallback: &'static str) -> Self {
        let state = error.sqlstate().unwrap_or_default();
        let code = match state {
            "23502" => "not_null",
            "23503" => "foreign_key_violation",
            "23505" => "unique_violation",
            "23514" => "check_violation",
            "23P01" => "exclusion_violation",
            "22001" => "value_too_long",
            "22003" => "numeric_out_of_range",
            _ => fallback,
        };
        Self {
            code,
            column: error.column().map(str::to_owned),
            constraint: error.constraint().map(str::to_owned),
            sqlstate: Some(state.to_owned()).filter(|s| !s.is_empty()),
            parent: None,
            parent_id: None,
        }
    }

    /// As the account counts it: `code:constraint` or `code:column`.
    pub(crate) fn key(&self) -> String {
        match self.constraint.as_ref().or(self.column.as_ref()) {
            Some(place) => format!("{}:{place}", self.code),
            None => self.code.to_owned(),
        }
    }
}

/// The faulty rows of a batch with all their reasons.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) rows: Vec<(LegacyId, Vec<Reason>)>,
}

impl Faults {
    pub(crate) fn add(&mut self, id: LegacyId, reasons: Vec<Reason>) {
        self.rows.push((id, reasons));
    }

    /// Blocked when nothing is wrong but a parent that can't be moved either.
    pub(crate) fn bucket(reasons: &[Reason]) -> Bucket {
        let mut own = reasons.iter().filter(|reason| reason.code != DROPPED);
        let blocked = |reason: &Reason| reason.code == "blocked_parent";
        if own.clone().next().is_some() && own.all(blocked) {
            Bucket::Blocked
        } else {
            Bucket::Quarantined
        }
    }
}
