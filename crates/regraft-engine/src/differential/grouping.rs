//! Rows that a merge rule makes one: what has become of their groups since they were merged.
//!
//! The ranges of legacy ids don't tell: a row can be merged otherwise because another row has
//! changed. So all merged rows are held against what the rule says now.

use std::collections::{BTreeMap, HashSet};

use regraft_ledger::Noted;
use regraft_pg::Session;
use regraft_project::Policy;
use serde_json::json;

use super::detect::Detected;
use super::examine::in_place;
use super::tally::{Count, EntityDifferential};
use crate::error::Result;
use crate::keys::LegacyId;
use crate::load::{Merged, parse_id};
use crate::model::EntityModel;

/// What has become of the groups of an entity.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    /// Merged rows, each with the row that it was merged into.
    before: Merged,
    /// Rows to be moved anew: the rule merges them into another row than they were merged into, or
    /// into none. Also those whose own row somebody has deleted from the target since the rule made
    /// them part of another.
    pub(super) regrouped: Vec<LegacyId>,
    /// Rows with a row of their own that the rule makes part of another, each with that one.
    absorbed: Vec<(LegacyId, LegacyId)>,
    /// Rows that the source has no more and that others were merged into, each with those others,
    /// where it is for somebody to decide what becomes of them.
    pub(super) headless: BTreeMap<LegacyId, Vec<LegacyId>>,
}

impl Grouping {
    /// Holds the rule's word against the ledger's. Only where the source wins, a row that is gone
    /// takes with it the key that others have had in common with it.
    ///
    /// # Errors
    /// A target that can't be reached; a ledger whose legacy ids are no numbers any more.
    pub(super) async fn look(
        target: &Session,
        model: &EntityModel,
        merged: &Merged,
        deleted: &[LegacyId],
        policy: Policy,
    ) -> Result<Self> {
        if model.merge.is_none() && !regraft_ledger::ever_merged(&**target, &model.name).await? {
            return Ok(Self::default());
        }
        let mut grouping = Self::default();
        let names = [model.name.clone()];
        for row in regraft_ledger::merged_rows(&**target, &names, i64::MAX).await? {
            let (id, into) = (row.legacy_id, row.merged_into);
            grouping
                .before
                .insert(parse_id(model, id)?, parse_id(model, into)?);
        }
        let gone: HashSet<&LegacyId> = deleted.iter().collect();
        for (id, into) in &grouping.before {
            if gone.contains(id) || merged.get(id) == Some(into) {
                continue;
            }
            if gone.contains(into) && policy != Policy::SourceWins {
                let headless = grouping.headless.entry(into.clone()).or_default();
                headless.push(id.clone());
            } else {
                grouping.regrouped.push(id.clone());
            }
        }
        grouping.absorb(target, model, merged).await?;
        grouping.regrouped.sort_unstable();
        for members in grouping.headless.values_mut() {
            members.sort_unstable();
        }
        Ok(grouping)
    }

    /// Finds the rows that have become part of another.
    async fn absorb(
        &mut self,
        target: &Session,
        model: &EntityModel,
        merged: &Merged,
    ) -> Result<()> {
        let fresh = merged.keys().filter(|id| !self.before.contains_key(id));
        let fresh: Vec<String> = fresh.map(LegacyId::to_string).collect();
        let mapped =
            regraft_ledger::mapped_among(&**target, &model.name, model.numeric, &fresh).await?;
        let mut own = Vec::with_capacity(mapped.len());
        for (id, _) in mapped {
            own.push(parse_id(model, id)?);
        }
        own.sort_unstable();
        let there: HashSet<LegacyId> = in_place(target, model, &own).await?.into_iter().collect();
        for id in own {
            match merged.get(&id) {
                Some(into) if there.contains(&id) => self.absorbed.push((id, into.clone())),
                _ => self.regrouped.push(id),
            }
        }
        Ok(())
    }

    /// The rows that were merged into one of these.
    pub(super) fn members(&self, of: &[LegacyId]) -> Vec<LegacyId> {
        let of: HashSet<&LegacyId> = of.iter().collect();
        let members = self.before.iter().filter(|(_, into)| of.contains(into));
        members.map(|(id, _)| id.clone()).collect()
    }

    /// Whether a row has no row of its own in the target that could be changed.
    pub(super) fn is_merged(&self, id: &LegacyId) -> bool {
        self.before.contains_key(id)
    }

    /// Takes what is not to be looked at row by row out of what was detected, and counts it.
    pub(super) fn sort_out(&self, detected: &mut Detected, found: &mut EntityDifferential) {
        let changed = detected.changed.len();
        detected.changed.retain(|id| !self.is_merged(id));
        let unchanged = (changed - detected.changed.len()) as i64;
        detected.unchanged += unchanged - self.regrouped.len() as i64;
        detected
            .deleted
            .retain(|id| !self.headless.contains_key(id));
        found.regrouped = Count::of(&self.regrouped);
        let absorbed: Vec<LegacyId> = self.absorbed.iter().map(|(id, _)| id.clone()).collect();
        found.absorbed = Count::of(&absorbed);
    }

    /// The rows that somebody has to decide on.
    pub(super) fn open(&self) -> Vec<LegacyId> {
        let absorbed = self.absorbed.iter().map(|(id, _)| id.clone());
        absorbed.chain(self.headless.keys().cloned()).collect()
    }

    /// The same as they are noted.
    pub(super) fn notes(&self) -> Vec<Noted> {
        let absorbed = self.absorbed.iter().map(|(id, into)| Noted {
            comparison_type: "merged_in_source",
            legacy_id: id.to_string(),
            detail: json!({ "into": into.to_string() }),
        });
        let headless = self.headless.iter().map(|(id, members)| {
            let members: Vec<String> = members.iter().map(LegacyId::to_string).collect();
            Noted {
                comparison_type: "deleted_in_source",
                legacy_id: id.to_string(),
                detail: json!({ "merged_into_it": members }),
            }
        });
        absorbed.chain(headless).collect()
    }
}

/// Notes these rows, or, where the target wins, closes what was noted of them.
///
/// # Errors
/// A target that can't be reached.
pub(super) async fn note(
    target: &Session,
    entity: &str,
    operation_id: &str,
    grouping: &Grouping,
    policy: Policy,
) -> Result<()> {
    let notes = grouping.notes();
    if policy == Policy::TargetWins {
        let ids: Vec<String> = notes.into_iter().map(|note| note.legacy_id).collect();
        regraft_ledger::close_rows(&**target, entity, &ids, policy.as_str()).await?;
    } else {
        regraft_ledger::note_rows(&**target, operation_id, entity, &notes).await?;
    }
    Ok(())
}
