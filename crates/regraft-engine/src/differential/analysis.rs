//! What a differential migration would find, without writing anything but this record of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use regraft_ledger::marking;
use regraft_pg::Session;
use regraft_project::{Policy, Selection};
use serde::Serialize;
use serde_json::json;
use tokio::try_join;
use uuid::Uuid;

use super::cursor::{self, Reach};
use super::deletion::returned;
use super::detect::{Detected, Look, detect};
use super::examine::{Examiner, edits};
use super::forecast::{Compared, forecast};
use super::grouping::{self, Grouping};
use super::tally::{Count, EntityDifferential, Tally};
use super::way::EntityWay;
use super::{DifferentialOptions, ways};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::{Deriver, KeyMap, KeyMapBuilder, LegacyId};
use crate::load::{Merged, merged};
use crate::migrate::{add_mapped, check_same_secret, check_secret, install_ledger, resolved};
use crate::model::{EntityModel, Model};
use crate::pacing::watch;
use crate::receipt::require_ledger;
use crate::snapshot::Snapshot;
use crate::source_load::SourceLoad;
use crate::transaction;

/// How to analyze.
#[derive(Debug, Clone, Default)]
pub struct AnalysisOptions {
    /// Look at all rows of the target too, and keep the conflicts for somebody to decide.
    pub detect_conflicts: bool,
    /// Read every row of the source, whatever its sums and cursors say.
    pub every_row: bool,
    /// Only rows whose cursor is at this value or above it, in entities that have a cursor.
    pub since: Option<String>,
}

/// What has changed on either side.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// Its id; its record is in `data_differentials`.
    pub operation_id: String,
    /// Whether all rows of the target were looked at.
    pub detect_conflicts: bool,
    /// By entity.
    pub entities: Vec<EntityDifferential>,
    /// Rows that both sides have changed.
    pub conflicts: i64,
    /// Rows that the target has of these entities, as far as it was looked at.
    pub in_place: i64,
}

/// Finds out what has changed since the last agreement, entity by entity.
///
/// # Errors
/// A target without a ledger or a project that doesn't fit ([`Kind::Usage`]); a server that can't be
/// reached.
pub async fn analyze_differential(
    context: &Context,
    selection: &Selection,
    options: &AnalysisOptions,
) -> Result<Analysis> {
    let (source, target) = try_join!(context.connect_source(), context.connect_target())?;
    require_ledger(&target).await?;
    install_ledger(&target, false).await?;
    check_same_secret(context, &target).await?;
    let model = resolved(context, &source, &target).await?;
    check_secret(context, &model, selection)?;
    let _watched = watch(context, None).await?;
    let snapshot = Snapshot::take(source).await?;
    // Nobody wins: what both sides have changed is what is looked for.
    let nobody = DifferentialOptions {
        policy: Some(Policy::Manual),
        ..DifferentialOptions::default()
    };
    let ways = ways(context, &model, selection, &nobody)?;
    if let Some(since) = &options.since {
        for (name, way) in &ways {
            if let (Some(model), Some(cursor)) = (model.entities.get(name), &way.cursor) {
                cursor::check(&snapshot.session, model, &cursor.text, since).await?;
            }
        }
    }
    let mut analyst = Analyst {
        context,
        model: &model,
        source: &snapshot.session,
        target: &target,
        operation_id: regraft_ledger::new_analysis_id(&*target).await?,
        options,
        source_load: SourceLoad::new(context).await?,
        new: HashMap::new(),
        in_place: 0,
    };
    analyst.source_load.limit(&snapshot.session).await?;
    let (mut entities, mut compared) = (Vec::new(), Vec::new());
    for step in selection.entities() {
        context.stop_requested()?;
        let (Some(model), Some(way)) = (model.entities.get(&step.entity), ways.get(&step.entity))
        else {
            return Err(Error::new(Kind::Internal, "the entity was not resolved"));
        };
        context.events.send(Event::PhaseStarted {
            entity: model.name.clone(),
            phase: "comparing".to_owned(),
        });
        let found = analyst.entity(model, way).await;
        let (found, entity) = found.map_err(|e| e.in_entity(&model.name))?;
        entities.push(found);
        compared.push(entity);
    }
    forecast(&analyst, &compared, &mut entities).await?;
    for found in &entities {
        let (rows, detail) = (found.source_rows, json!(found));
        let (id, name) = (analyst.operation_id.as_str(), found.entity.as_str());
        regraft_ledger::record_differential(&*target, id, name, rows, &detail).await?;
    }
    Ok(Analysis {
        operation_id: analyst.operation_id,
        detect_conflicts: options.detect_conflicts,
        conflicts: entities.iter().map(|e| e.conflicts.rows).sum(),
        in_place: analyst.in_place,
        entities,
    })
}

/// What is compared, and with what.
pub(super) struct Analyst<'a> {
    pub(super) context: &'a Context,
    pub(super) model: &'a Model,
    pub(super) source: &'a Session,
    pub(super) target: &'a Session,
    operation_id: String,
    options: &'a AnalysisOptions,
    source_load: SourceLoad<'a>,
    /// Rows of each entity that would be moved.
    new: HashMap<String, Vec<LegacyId>>,
    /// Rows that the target has of all entities so far.
    in_place: i64,
}

impl Analyst<'_> {
    async fn entity<'m>(
        &mut self,
        model: &'m EntityModel,
        way: &'m EntityWay,
    ) -> Result<(EntityDifferential, Compared<'m>)> {
        let (source, target) = (self.source, self.target);
        if !regraft_ledger::partition_exists(&**target, &model.name).await? {
            transaction::run(target, false, async || {
                Ok(regraft_ledger::create_partition(&**target, &model.name).await?)
            })
            .await?;
        }
        let merged = Arc::new(merged(source, model).await?);
        let look = Look {
            every_row: self.options.every_row,
            cursor: self.cursor(model, way).await?,
            ..Look::default()
        };
        let mut detected = detect(source, target, model, &merged, &look, &self.source_load).await?;
        let mut tally = Tally::default();
        tally.found.deleted = Count::of(&detected.deleted);
        let deleted = detected.deleted.clone();
        tally.found.returned = Count::of(&returned(target, model, way, &deleted).await?);
        let policy = way.row_policy();
        let grouping = Grouping::look(target, model, &merged, &detected.deleted, policy).await?;
        grouping.sort_out(&mut detected, &mut tally.found);
        let mut touched: HashSet<LegacyId> = detected.changed.iter().cloned().collect();
        let mut unchanged = detected.unchanged;
        if self.options.detect_conflicts {
            let gone: HashSet<&LegacyId> = detected.deleted.iter().collect();
            let edits = edits(target, model, way, None).await?;
            for id in edits.edited.into_iter().filter(|id| !gone.contains(id)) {
                unchanged -= i64::from(touched.insert(id));
            }
            let missing: Vec<LegacyId> = edits
                .gone
                .into_iter()
                .filter(|id| !gone.contains(id))
                .collect();
            for id in &missing {
                unchanged -= i64::from(!touched.remove(id));
            }
            tally.found.deleted_in_target = Count::of(&missing);
        }
        let mut touched: Vec<LegacyId> = touched.into_iter().collect();
        touched.sort_unstable();
        if !touched.is_empty() {
            self.examine(model, way, &merged, &touched, &mut tally)
                .await?;
        }
        if self.options.detect_conflicts {
            let (name, id) = (model.name.as_str(), self.operation_id.as_str());
            grouping::note(target, name, id, &grouping, policy).await?;
            regraft_ledger::close_others(&**target, name, id).await?;
        }
        let found = self.sum_up(model, &detected, tally, unchanged);
        self.in_place += in_place(&detected, &merged) - found.deleted_in_target.rows;
        let arriving = detected.new.iter().chain(&detected.left).cloned();
        let compared = Compared {
            arriving: arriving.collect(),
            edited: self.edited(model, way, &deleted).await?,
            model,
            way,
            merged,
            grouping,
            deleted,
        };
        self.new.insert(model.name.clone(), detected.new);
        Ok((found, compared))
    }

    /// Those of some rows that somebody has changed in the target.
    async fn edited(
        &self,
        model: &EntityModel,
        way: &EntityWay,
        ids: &[LegacyId],
    ) -> Result<HashSet<LegacyId>> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let edits = edits(self.target, model, way, Some(ids)).await?;
        Ok(edits.edited.into_iter().collect())
    }

    /// From where on the cursor of an entity is read: what was asked for goes before what is known.
    async fn cursor(&self, model: &EntityModel, way: &EntityWay) -> Result<Option<Reach>> {
        if self.options.every_row {
            return Ok(None);
        }
        match (&self.options.since, &way.cursor) {
            (None, _) => cursor::reach(self.target, model, way).await,
            (Some(since), Some(cursor)) => Ok(Some(Reach::since(&cursor.text, since))),
            (Some(_), None) => {
                self.context.events.send(Event::Note(format!(
                    "{} has no cursor to tell since when: all of its rows are looked at",
                    model.name
                )));
                Ok(None)
            }
        }
    }

    fn sum_up(
        &self,
        model: &EntityModel,
        detected: &Detected,
        tally: Tally,
        unchanged: i64,
    ) -> EntityDifferential {
        EntityDifferential {
            entity: model.name.clone(),
            source_rows: detected.source_rows,
            rows_read: detected.read,
            unchanged: unchanged + tally.found.unchanged,
            new: Count::of(&detected.new),
            gaps: Count::of(&detected.left),
            target_looked_at: self.options.detect_conflicts,
            ..tally.found
        }
    }

    async fn examine(
        &self,
        model: &EntityModel,
        way: &EntityWay,
        merged: &Arc<Merged>,
        ids: &[LegacyId],
        tally: &mut Tally,
    ) -> Result<()> {
        let secret = self.context.settings.secret.as_ref();
        let deriver = secret.map(|secret| Deriver::new(secret, &model.name));
        let parents = self.parents(model).await?;
        let target = self.target;
        let mut examiner =
            Examiner::new(target, model, deriver, parents, Arc::clone(merged), way).await?;
        let name = model.table.sql_name();
        for part in ids.chunks(self.context.settings.batch_size as usize) {
            self.context.stop_requested()?;
            transaction::run(target, false, async || {
                let examination = examiner.examine(self.source, target, part, tally).await?;
                tally.found.refused.rows += examination.refused.len() as i64;
                if self.options.detect_conflicts {
                    let table = examiner.table(&name);
                    for mask in marking(examination.rows.iter().map(|row| &row.undecided)) {
                        table
                            .note_conflicts(&**target, &self.operation_id, &mask)
                            .await?;
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The keys of the parents, with those of rows that would be moved: these have no key yet, so
    /// that any will do which no row has.
    pub(super) async fn parents(
        &self,
        model: &EntityModel,
    ) -> Result<HashMap<String, Arc<KeyMap>>> {
        let mut parents = HashMap::new();
        for parent in model.parents() {
            let Some(of) = self.model.entities.get(parent) else {
                continue;
            };
            let budget = self.context.settings.key_memory;
            let mut builder = KeyMapBuilder::new(of.numeric, budget);
            if regraft_ledger::partition_exists(&**self.target, parent).await? {
                add_mapped(self.target, parent, of.numeric, &mut builder).await?;
            }
            for id in self.new.get(parent).into_iter().flatten() {
                builder.add(id, Uuid::nil())?;
            }
            parents.insert(parent.to_owned(), Arc::new(builder.finish()?));
        }
        Ok(parents)
    }
}

/// Rows that the ledger has in the target; one that was merged into another has no row of its own.
fn in_place(detected: &Detected, merged: &Merged) -> i64 {
    let rows = [&detected.changed, &detected.unreadable, &detected.deleted];
    let rows: usize = rows.iter().map(|ids| ids.len()).sum();
    let new = detected.new.iter().chain(&detected.left);
    let merged = merged.len() - new.filter(|id| merged.contains_key(id)).count();
    detected.unchanged + rows as i64 - merged as i64
}
