//! What reading an entity comes to: rows by what would become of them, and why.

use std::collections::{BTreeMap, HashSet};

use regraft_ledger::Bucket;
use regraft_pg::Session;

use super::document::{EntityPlan, Prediction};
use super::fates::Fates;
use super::funnel::{Losses, funnel};
use crate::error::Result;
use crate::keys::LegacyId;
use crate::load::{EXAMPLES, Faults, Reason, Sample, Survey};
use crate::model::Model;

/// What reading an entity came to.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) to_move: u64,
    pub(super) in_place: u64,
    /// Rows that would be merged into others.
    pub(super) merged: u64,
    /// All rows that the entity's rule merges, there already or not.
    pub(super) all_merged: Sample,
    quarantined: u64,
    blocked: u64,
    predictions: BTreeMap<(Bucket, String, Option<String>, Option<String>), Prediction>,
    /// Rows that the source can't compute: nothing but their id is known.
    unread: Sample,
    pub(super) unread_ids: HashSet<LegacyId>,
    pub(super) survey: Option<Survey>,
    /// What became of the references in the survey, in their order.
    losses: Vec<Losses>,
}

impl Reading {
    /// Takes note of a row that stays behind.
    pub(super) fn note(&mut self, id: &LegacyId, reasons: &[Reason]) {
        let bucket = Faults::bucket(reasons);
        match bucket {
            Bucket::Quarantined => self.quarantined += 1,
            Bucket::Blocked => self.blocked += 1,
        }
        for reason in reasons {
            if reason.code == "source_error" && self.unread_ids.insert(id.clone()) {
                self.unread.add(id);
            }
            let place = reason.constraint.clone().or_else(|| reason.column.clone());
            let key = (
                bucket,
                reason.code.to_owned(),
                place.clone(),
                reason.parent.clone(),
            );
            let prediction = self.predictions.entry(key).or_insert_with(|| Prediction {
                bucket,
                code: reason.code.to_owned(),
                place,
                parent: reason.parent.clone(),
                rows: 0,
                examples: Vec::new(),
            });
            prediction.rows += 1;
            if prediction.examples.len() < EXAMPLES {
                prediction.examples.push(id.to_string());
            }
        }
    }

    /// Finds out why parents were not found: of references that are followed in the end
    /// (`later`), or of the others. All of them `at_end`, else only where there are many.
    pub(super) async fn resolve(
        &mut self,
        source: &Session,
        model: &Model,
        fates: &BTreeMap<String, Fates>,
        survey: &mut Survey,
        later: bool,
        at_end: bool,
    ) -> Result<()> {
        self.losses
            .resize_with(survey.references.len(), Losses::default);
        for (reference, losses) in survey.references.iter_mut().zip(&mut self.losses) {
            if reference.later == later {
                losses
                    .resolve(source, model, fates, reference, at_end)
                    .await?;
            }
        }
        Ok(())
    }

    /// Puts all of it into the plan.
    pub(super) fn write_to(&self, plan: &mut EntityPlan) {
        plan.in_place_already = self.in_place;
        plan.to_move = self.to_move;
        plan.merged = self.merged;
        plan.quarantined = self.quarantined;
        plan.blocked = self.blocked;
        plan.predictions = self.ordered();
        let references = self.survey.iter().flat_map(|survey| &survey.references);
        plan.funnels = references
            .zip(&self.losses)
            .map(|(reference, losses)| {
                funnel(
                    plan.source_rows,
                    &plan.filters,
                    &self.all_merged,
                    &self.unread,
                    reference,
                    losses,
                )
            })
            .collect();
    }

    fn ordered(&self) -> Vec<Prediction> {
        let mut predictions: Vec<Prediction> = self.predictions.values().cloned().collect();
        predictions.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.code.cmp(&b.code)));
        predictions
    }
}
