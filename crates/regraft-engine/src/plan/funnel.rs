//! Funnels: how many rows survive each hop to their parent, and why the others don't.

use std::collections::BTreeMap;

use regraft_ledger::Bucket;
use regraft_pg::Session;

use super::document::{FilterCount, Funnel, Hop, Loss};
use super::fates::Fates;
use crate::error::Result;
use crate::keys::LegacyId;
use crate::load::{ReferenceSurvey, Sample, filters_of};
use crate::model::{EntityModel, MissingKey, Model};

/// Ids of parents that are kept before the source is asked about them.
const ASK_AT: usize = 50_000;

/// Why rows don't reach their parent. The order is that of the output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    NotInSource,
    Filtered(String),
    Quarantined(String),
    Blocked(String),
    StaysBehind,
    NotPlanned,
}

/// The losses of one reference, resolved so far.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<(Cause, String), Sample>);

impl Losses {
    /// Finds out about the parents that a survey has not found. Asks the source only when there are
    /// many, or at the end.
    pub(super) async fn resolve(
        &mut self,
        source: &Session,
        model: &Model,
        fates: &BTreeMap<String, Fates>,
        survey: &mut ReferenceSurvey,
        at_end: bool,
    ) -> Result<()> {
        let unresolved = survey.take_unresolved(if at_end { 0 } else { ASK_AT });
        let mut absent: Vec<Vec<(LegacyId, Sample)>> = vec![Vec::new(); survey.parents.len()];
        for (row, sample) in unresolved {
            if row.stopped {
                let entity = &survey.parents[row.parent];
                let cause = match fates.get(entity).and_then(|fates| fates.of(&row.id)) {
                    Some((Bucket::Quarantined, why)) => Cause::Quarantined(why.clone()),
                    Some((Bucket::Blocked, why)) => Cause::Blocked(why.clone()),
                    None => Cause::StaysBehind,
                };
                self.add(cause, entity, &sample);
            } else {
                absent[row.parent].push((row.id, sample));
            }
        }
        for (entity, rows) in survey.parents.iter().zip(absent) {
            if let Some(parent) = model.entities.get(entity)
                && !rows.is_empty()
            {
                self.ask(source, parent, rows).await?;
            }
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        source: &Session,
        parent: &EntityModel,
        rows: Vec<(LegacyId, Sample)>,
    ) -> Result<()> {
        let ids: Vec<LegacyId> = rows.iter().map(|(id, _)| id.clone()).collect();
        let filters = filters_of(source, parent, &ids).await?;
        for (id, sample) in rows {
            let cause = match filters.get(&id) {
                None => Cause::NotInSource,
                Some(None) => Cause::NotPlanned,
                Some(Some(filter)) => Cause::Filtered(parent.filters[*filter].0.clone()),
            };
            self.add(cause, &parent.name, &sample);
        }
        Ok(())
    }

    fn add(&mut self, cause: Cause, parent: &str, sample: &Sample) {
        let known = self.0.entry((cause, parent.to_owned())).or_default();
        known.merge(sample);
    }

    fn of(&self, wanted: impl Fn(&Cause) -> bool) -> Vec<Loss> {
        let mut losses: Vec<Loss> = self
            .0
            .iter()
            .filter(|((cause, _), _)| wanted(cause))
            .map(|((cause, parent), sample)| {
                let (reason, filter, because) = match cause {
                    Cause::NotInSource => ("not_in_source", None, None),
                    Cause::Filtered(name) => ("parent_filtered", Some(name), None),
                    Cause::Quarantined(why) => ("parent_quarantined", None, Some(why)),
                    Cause::Blocked(why) => ("parent_blocked", None, Some(why)),
                    Cause::StaysBehind => ("parent_stays_behind", None, None),
                    Cause::NotPlanned => ("parent_not_planned", None, None),
                };
                Loss {
                    parent: Some(parent.clone()),
                    filter: filter.cloned(),
                    because: because.cloned(),
                    ..loss(reason, sample)
                }
            })
            .collect();
        losses.sort_by_key(|loss| std::cmp::Reverse(loss.rows));
        losses
    }
}

fn loss(reason: &'static str, sample: &Sample) -> Loss {
    Loss {
        reason,
        parent: None,
        filter: None,
        because: None,
        rows: sample.rows,
        examples: sample.examples(),
    }
}

/// The word for what becomes of a row without its parent.
pub(super) fn missing_word(missing: &MissingKey) -> &'static str {
    match missing {
        MissingKey::Quarantine => "quarantine",
        MissingKey::Null => "null",
        MissingKey::Key(_) => "default",
    }
}

/// The funnel of a reference. `merged` are rows that become part of others, `unread` are rows that the source can't compute.
pub(super) fn funnel(
    source_rows: u64,
    filters: &[FilterCount],
    merged: &Sample,
    unread: &Sample,
    survey: &ReferenceSurvey,
    losses: &Losses,
) -> Funnel {
    let mut hops = vec![Hop {
        hop: "source_rows",
        rows: source_rows,
        lost: 0,
        losses: Vec::new(),
    }];
    let filtered = filters.iter().map(|filter| Loss {
        filter: Some(filter.name.clone()),
        rows: filter.rows,
        examples: filter.examples.clone(),
        ..loss("filtered", &Sample::default())
    });
    let dropped = filtered.chain([loss("merged", merged)]);
    add_hop(&mut hops, "kept", dropped.collect());
    let unset = [loss("source_error", unread), loss("null", &survey.unset)];
    add_hop(&mut hops, "set", unset.into());
    if survey.is_chosen() {
        add_hop(
            &mut hops,
            "parent_named",
            vec![loss("not_named", &survey.unnamed)],
        );
    }
    let absent = losses.of(|cause| matches!(cause, Cause::NotInSource));
    add_hop(&mut hops, "parent_in_source", absent);
    let dropped = losses.of(|cause| matches!(cause, Cause::Filtered(_)));
    add_hop(&mut hops, "parent_kept", dropped);
    let stopped = losses.of(|cause| !matches!(cause, Cause::NotInSource | Cause::Filtered(_)));
    add_hop(&mut hops, "parent_moved", stopped);
    if let Some(last) = hops.last_mut() {
        // Counted by themselves, so that the funnel can be checked: nothing may be missing from it.
        last.rows = survey.reached;
    }
    Funnel {
        column: survey.column.clone(),
        parents: survey.parents.clone(),
        missing: missing_word(&survey.missing).to_owned(),
        hops,
    }
}

fn add_hop(hops: &mut Vec<Hop>, hop: &'static str, mut losses: Vec<Loss>) {
    losses.retain(|loss| loss.rows > 0);
    let lost = losses.iter().map(|loss| loss.rows).sum();
    let before = hops.last().map_or(0, |hop| hop.rows);
    hops.push(Hop {
        hop,
        rows: before.saturating_sub(lost),
        lost,
        losses,
    });
}
