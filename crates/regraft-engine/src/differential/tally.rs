//! What a comparison of both sides comes to.

use std::collections::BTreeMap;

use regraft_project::Policy;
use serde::{Deserialize, Serialize};

use super::policy::{Change, Decision, decide};
use super::way::EntityWay;
use crate::keys::LegacyId;
use crate::model::{Output, OutputRule};

/// Legacy ids that are shown of each kind.
const EXAMPLES: usize = 5;

/// Rows of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub rows: i64,
    /// Up to five of their legacy ids.
    pub examples: Vec<String>,
}

impl Count {
    pub(super) fn add(&mut self, id: &impl ToString) {
        self.rows += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(id.to_string());
        }
    }

    pub(super) fn of(ids: &[LegacyId]) -> Self {
        let mut count = Self::default();
        for id in ids {
            count.add(id);
        }
        count
    }
}

/// What a policy would do about the rows in place that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyForecast {
    /// Rows that it would write.
    pub writes: i64,
    /// Of these, rows that would lose what somebody has changed in the target.
    pub loses_target_edits: i64,
    /// Rows in which the target would keep something that the source says otherwise.
    pub keeps_target: i64,
    /// Rows that it would leave for somebody to decide.
    pub leaves_open: i64,
    /// What it would do about rows that the source has no more, by mode; nothing where there are
    /// none. A mode that the project doesn't say how to do is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deletes: BTreeMap<String, DeleteForecast>,
}

/// What would become of the rows that the source has no more: each is counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteForecast {
    /// Rows that would be deleted.
    pub deleted: i64,
    /// Rows that would be marked as deleted.
    pub marked: i64,
    /// Rows left for a decision: somebody has changed them in the target.
    pub edited: i64,
    /// Rows left for a decision: others refer to them, or are part of them.
    pub referred: i64,
    /// Rows that would stay as they are, without a decision.
    pub untouched: i64,
}

impl DeleteForecast {
    /// Rows that would neither be deleted nor marked.
    pub(super) fn stay(&self) -> i64 {
        self.edited + self.referred + self.untouched
    }
}

/// What has changed in an entity on either side since the last agreement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EntityDifferential {
    /// The entity.
    pub entity: String,
    /// Rows of the source, before filters.
    pub source_rows: i64,
    /// Rows whose values were read; the others were found unchanged by their sums.
    pub rows_read: i64,
    /// Rows in place that no side has changed, as far as was looked.
    pub unchanged: i64,
    /// Rows of the source that nobody has seen yet.
    pub new: Count,
    /// Rows that earlier runs left behind.
    pub gaps: Count,
    /// Rows in place that read otherwise in the source.
    pub changed: Count,
    /// Of these, by column.
    pub changed_columns: BTreeMap<String, i64>,
    /// Of the changed rows, those that refer to another parent now.
    pub moved_parents: Count,
    /// Rows in place that the source has no more, or that a filter drops now.
    pub deleted: Count,
    /// Rows that were marked as deleted, and that the source has again.
    #[serde(default)]
    pub returned: Count,
    /// Rows that the merge rule makes part of another row than before, or of none.
    #[serde(default)]
    pub regrouped: Count,
    /// Rows with a row of their own that the merge rule makes part of another.
    #[serde(default)]
    pub absorbed: Count,
    /// Whether all rows of the target were looked at, and not only those that the source has
    /// changed.
    pub target_looked_at: bool,
    /// Rows in place that somebody has changed in the target.
    pub changed_in_target: Count,
    /// Of these, by column.
    pub target_columns: BTreeMap<String, i64>,
    /// Rows that somebody has deleted from the target.
    pub deleted_in_target: Count,
    /// Rows that both sides have changed in the same column, and not to the same.
    pub conflicts: Count,
    /// Of these, by column.
    pub conflict_columns: BTreeMap<String, i64>,
    /// Rows in place that can't become what the source says.
    pub refused: Count,
    /// What each policy would do.
    pub policies: BTreeMap<String, PolicyForecast>,
}

/// Counts rows as they are examined.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) found: EntityDifferential,
}

impl Tally {
    /// Counts a row by what has become of its columns.
    pub(super) fn row(
        &mut self,
        id: &LegacyId,
        changes: &[(&Output, Change)],
        newer: Option<bool>,
        way: &EntityWay,
    ) {
        let found = &mut self.found;
        let (mut source, mut moved, mut target, mut both) = (false, false, false, false);
        for &(output, change) in changes {
            let by_source = matches!(change, Change::Source | Change::Both);
            let by_target = matches!(change, Change::Target | Change::Both);
            source |= by_source;
            target |= by_target;
            both |= change == Change::Both;
            let is_reference = matches!(
                output.rule,
                OutputRule::Reference { .. } | OutputRule::ReferenceBy { .. }
            );
            moved |= by_source && is_reference;
            for (counts, counted) in [
                (&mut found.changed_columns, by_source),
                (&mut found.target_columns, by_target),
                (&mut found.conflict_columns, change == Change::Both),
            ] {
                if counted {
                    *counts.entry(output.column.clone()).or_default() += 1;
                }
            }
        }
        for (count, counted) in [
            (&mut found.changed, source),
            (&mut found.moved_parents, moved),
            (&mut found.changed_in_target, target),
            (&mut found.conflicts, both),
        ] {
            if counted {
                count.add(id);
            }
        }
        if !source && !target {
            found.unchanged += 1;
        }
        for policy in Policy::ALL {
            let forecast = found
                .policies
                .entry(policy.as_str().to_owned())
                .or_default();
            forecast.row(policy, changes, newer, way);
        }
    }
}

impl PolicyForecast {
    fn row(
        &mut self,
        policy: Policy,
        changes: &[(&Output, Change)],
        newer: Option<bool>,
        way: &EntityWay,
    ) {
        let (mut writes, mut loses, mut keeps, mut open) = (false, false, false, false);
        for &(output, change) in changes {
            let policy = way.policy_under(policy, &output.column);
            match decide(policy, change, newer) {
                Decision::Same | Decision::Aside => {}
                Decision::Write => {
                    writes = true;
                    loses |= change != Change::Source;
                }
                Decision::Keep => keeps = true,
                Decision::Open => open = true,
            }
        }
        for (count, counted) in [
            (&mut self.writes, writes),
            (&mut self.loses_target_edits, loses),
            (&mut self.keeps_target, keeps),
            (&mut self.leaves_open, open),
        ] {
            *count += i64::from(counted);
        }
    }
}
