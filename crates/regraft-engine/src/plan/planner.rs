//! Going through the entities in their order, each against what its parents came to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use regraft_pg::Session;
use regraft_project::Selection;

use super::codes::coded;
use super::constraints::constraints;
use super::describe::{columns, copy_text, high, low};
use super::document::{EntityPlan, FilterCount};
use super::fates::Fates;
use super::reading::Reading;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::{Deriver, KeyMap, KeyMapBuilder, LegacyId};
use crate::link;
use crate::load::{
    BatchRange, Classifier, EXAMPLES, Merged, Reason, Rows, add_dropped, dropped, duplicates,
    filter_examples, foreign_conditions, merged, partition, read_rows,
};
use crate::migrate::{ModeChoice, choose_mode, is_empty, load_keys};
use crate::model::{EntityModel, Model};
use crate::snapshot::Snapshot;

/// Writing rows takes about this many times as long as reading and transforming them.
pub(super) const WRITE_FACTOR: f64 = 3.0;

/// Plans one entity after the other.
pub(super) struct Planner<'a> {
    context: &'a Context,
    model: &'a Model,
    mode: ModeChoice,
    snapshot: Snapshot,
    target: Session,
    /// Keys of entities planned so far, as they would be.
    keys: HashMap<String, Arc<KeyMap>>,
    /// Rows of the component at hand that would be moved and have references inside it.
    moved: HashMap<String, KeyMapBuilder>,
    readings: HashMap<String, Reading>,
    /// Tables that entities planned so far would put rows into.
    filled: HashSet<String>,
    /// Why rows of entities that others refer to stay behind.
    fates: BTreeMap<String, Fates>,
}

impl<'a> Planner<'a> {
    /// A planner that has not seen any entity.
    pub(super) fn new(
        context: &'a Context,
        model: &'a Model,
        mode: ModeChoice,
        snapshot: Snapshot,
        target: Session,
    ) -> Self {
        Self {
            context,
            model,
            mode,
            snapshot,
            target,
            keys: HashMap::new(),
            moved: HashMap::new(),
            readings: HashMap::new(),
            filled: HashSet::new(),
            fates: BTreeMap::new(),
        }
    }

    /// Reads an entity. What depends on the rest of its cycle is added by [`Self::finish`].
    pub(super) async fn entity(&mut self, name: &str, selection: &Selection) -> Result<EntityPlan> {
        let started = Instant::now();
        let model = self.model_of(name)?;
        let size = self.context.settings.batch_size;
        let ranges = partition(&self.snapshot.session, model, size, &[]).await?;
        let rows: i64 = ranges.iter().map(|r| r.rows).sum();
        let kept: i64 = ranges.iter().map(|r| r.kept).sum();
        self.context.events.send(Event::PhaseStarted {
            entity: name.to_owned(),
            phase: format!("reading {kept} rows"),
        });
        let has_existing = self.has_existing(name).await?;
        let empty =
            !self.filled.contains(&model.table.sql_name()) && is_empty(&self.target, model).await?;
        let table = (empty, has_existing);
        let mode = choose_mode(self.model, model, self.mode, false, table, rows)?;
        let mut keys = self.is_wanted(name, selection).then(|| {
            self.fates.insert(name.to_owned(), Fates::default());
            KeyMapBuilder::new(model.numeric, self.context.settings.key_memory)
        });
        let merged = Arc::new(merged(&self.snapshot.session, model).await?);
        let reading = self
            .read(model, &ranges, has_existing, &merged, keys.as_mut())
            .await?;
        if reading.to_move > 0 {
            self.filled.insert(model.table.sql_name());
        }
        self.readings.insert(name.to_owned(), reading);
        if let Some(keys) = keys {
            self.remember(model, keys, &merged).await?;
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(EntityPlan {
            entity: name.to_owned(),
            target_table: model.table.name.clone(),
            mode: mode.as_str().to_owned(),
            key_strategy: model.key_strategy.to_owned(),
            depends_on: model.parents().into_iter().map(str::to_owned).collect(),
            source_rows: rows.unsigned_abs(),
            batches: ranges.len() as u64,
            filters: self.filters(model, &ranges).await?,
            in_place_already: 0,
            to_move: 0,
            merged: 0,
            quarantined: 0,
            blocked: 0,
            predictions: Vec::new(),
            funnels: Vec::new(),
            constraints: Vec::new(),
            codes: Vec::new(),
            reads: Vec::new(),
            columns: columns(model),
            not_written: model.defaulted.clone(),
            sql: read_rows(model, &Rows::Range(low(model), high(model))),
            copy: copy_text(model, mode),
            seconds_estimate: seconds * WRITE_FACTOR / self.context.settings.workers.max(1) as f64,
        })
    }

    fn model_of(&self, name: &str) -> Result<&'a EntityModel> {
        let model = self.model.entities.get(name);
        model.ok_or_else(|| Error::new(Kind::Internal, "the entity was not resolved"))
    }

    /// Whether an entity of the selection refers to this one.
    fn is_wanted(&self, name: &str, selection: &Selection) -> bool {
        selection.entities().iter().any(|step| {
            let model = self.model.entities.get(&step.entity);
            model.is_some_and(|model| model.parents().contains(&name))
        })
    }

    async fn filters(
        &self,
        model: &EntityModel,
        ranges: &[BatchRange],
    ) -> Result<Vec<FilterCount>> {
        let mut filters = Vec::new();
        for (at, (name, _)) in model.filters.iter().enumerate() {
            let counts = ranges.iter().filter_map(|range| range.filtered.get(name));
            let source = &self.snapshot.session;
            let examples = filter_examples(source, model, ranges, at, EXAMPLES).await?;
            filters.push(FilterCount {
                name: name.clone(),
                rows: counts.map(|count| count.unsigned_abs()).sum(),
                examples: examples.iter().map(LegacyId::to_string).collect(),
                children: Vec::new(),
            });
        }
        Ok(filters)
    }

    /// What becomes of references inside a cycle shows when all of the cycle was read: rows without
    /// a required parent stay behind, and with them all that require one of those.
    pub(super) async fn close_component(&mut self) -> Result<()> {
        let mut own = HashMap::new();
        for (entity, keys) in std::mem::take(&mut self.moved) {
            own.insert(entity, Arc::new(keys.finish()?));
        }
        let all = self.model;
        let models: Vec<&EntityModel> = all
            .entities
            .values()
            .filter(|model| own.contains_key(&model.name))
            .collect();
        for parent in models.iter().flat_map(|model| model.parents()) {
            self.parent_keys(parent).await?;
        }
        let doomed = link::doomed(&self.snapshot.session, &models, &own, &self.keys).await?;
        for model in &models {
            let Some(reading) = self.readings.get_mut(&model.name) else {
                continue;
            };
            for (id, reasons) in doomed.of(&model.name).into_iter().flatten() {
                let reasons: Vec<Reason> = reasons.values().cloned().collect();
                reading.to_move -= 1;
                reading.note(id, &reasons);
                if let Some(fates) = self.fates.get_mut(&model.name) {
                    fates.add(id, &reasons);
                }
                if let Some(keys) = self.keys.get_mut(&model.name).and_then(Arc::get_mut) {
                    keys.stop([id]);
                }
            }
        }
        for model in models {
            self.follow_later(model).await?;
        }
        Ok(())
    }

    /// Counts where the references inside a cycle lead, now that it is known what becomes of all its
    /// rows.
    async fn follow_later(&mut self, model: &EntityModel) -> Result<()> {
        let Some(reading) = self.readings.get_mut(&model.name) else {
            return Ok(());
        };
        let Some(mut survey) = reading.survey.take() else {
            return Ok(());
        };
        let source = &self.snapshot.session;
        for reference in survey.references.iter_mut().filter(|r| r.later) {
            link::follow(source, model, reference, &self.keys, &reading.unread_ids).await?;
        }
        reading
            .resolve(source, self.model, &self.fates, &mut survey, true, true)
            .await?;
        reading.survey = Some(survey);
        Ok(())
    }

    /// Adds to an entity's plan what was counted while it and its cycle were read.
    pub(super) fn finish(&mut self, plan: &mut EntityPlan) {
        let Some(reading) = self.readings.remove(&plan.entity) else {
            return;
        };
        reading.write_to(plan);
        let Some(model) = self.model.entities.get(&plan.entity) else {
            return;
        };
        plan.constraints = constraints(&self.model.target_catalog, model, &plan.predictions);
        if let (Some(survey), Some(entity)) =
            (&reading.survey, self.context.project.entity(&plan.entity))
        {
            let codes = survey.codes.iter();
            plan.codes = codes.map(|code| coded(model, entity, code)).collect();
        }
    }

    async fn has_existing(&self, entity: &str) -> Result<bool> {
        if regraft_ledger::installed_version(&*self.target)
            .await?
            .is_none()
            || !regraft_ledger::partition_exists(&*self.target, entity).await?
        {
            return Ok(false);
        }
        let row = self
            .target
            .query_one(
                "select exists (select 1 from regraft.migration_mappings where entity = $1)",
                &[&entity],
            )
            .await?;
        Ok(row.get(0))
    }

    async fn read(
        &mut self,
        model: &EntityModel,
        ranges: &[BatchRange],
        has_existing: bool,
        merged: &Arc<Merged>,
        mut keys: Option<&mut KeyMapBuilder>,
    ) -> Result<Reading> {
        let mut classifier = self.classifier(model, has_existing, merged).await?;
        let survivors: HashSet<&LegacyId> = merged.values().collect();
        let mut stopped = HashSet::new();
        let budget = self.context.settings.key_memory;
        let mut moved =
            (!model.later_columns().is_empty()).then(|| KeyMapBuilder::new(model.numeric, budget));
        let mut reading = Reading::default();
        for range in ranges {
            self.context.stop_requested()?;
            let source = &self.snapshot.session;
            let progress = classifier.classify(source, &self.target, range).await?;
            reading.to_move += progress.written.len() as u64;
            reading.in_place += progress.in_place.unsigned_abs();
            reading.merged += progress.merged.unsigned_abs();
            for row in &progress.written {
                for map in [moved.as_mut(), keys.as_deref_mut()].into_iter().flatten() {
                    map.add(&row.id, row.key)?;
                }
            }
            for (id, reasons) in &progress.faults.rows {
                self.stays(model, &mut reading, keys.as_deref_mut(), id, reasons);
                if survivors.contains(id) {
                    stopped.insert(id.clone());
                }
            }
            if let Some(survey) = classifier.survey() {
                let source = &self.snapshot.session;
                reading
                    .resolve(source, self.model, &self.fates, survey, false, false)
                    .await?;
            }
        }
        if let Some(moved) = moved {
            self.moved.insert(model.name.clone(), moved);
        }
        for (id, into) in merged.iter() {
            reading.all_merged.add(id);
            if stopped.contains(into) {
                // The row that it would become part of stays behind.
                let (column, name) = (&model.key_column, &model.name);
                let reason = Reason::parent("blocked_parent", column, name, into.to_string());
                reading.merged = reading.merged.saturating_sub(1);
                self.stays(model, &mut reading, keys.as_deref_mut(), id, &[reason]);
            }
        }
        let source = &self.snapshot.session;
        if let Some(mut survey) = classifier.end_survey() {
            reading
                .resolve(source, self.model, &self.fates, &mut survey, false, true)
                .await?;
            reading.survey = Some(survey);
        }
        Ok(reading)
    }

    /// Takes note of a row that stays behind.
    fn stays(
        &mut self,
        model: &EntityModel,
        reading: &mut Reading,
        keys: Option<&mut KeyMapBuilder>,
        id: &LegacyId,
        reasons: &[Reason],
    ) {
        if let Some(keys) = keys {
            keys.add_stopped(id);
        }
        if let Some(fates) = self.fates.get_mut(&model.name) {
            fates.add(id, reasons);
        }
        reading.note(id, reasons);
    }

    /// A classifier that knows the rows' parents and counts what it sees.
    async fn classifier(
        &mut self,
        model: &EntityModel,
        has_existing: bool,
        merged: &Arc<Merged>,
    ) -> Result<Classifier> {
        let mut parents = HashMap::new();
        for parent in model.parents() {
            parents.insert(parent.to_owned(), self.parent_keys(parent).await?);
        }
        let foreign = foreign_conditions(self.model, model);
        let secret = self.context.settings.secret.as_ref();
        let deriver = secret.map(|secret| Deriver::new(secret, &model.name));
        let model = Arc::new(model.clone());
        let of_dropped = Arc::clone(&model);
        let mut classifier =
            Classifier::new(model, deriver, parents, foreign, has_existing, false)?;
        classifier.merge(Arc::clone(merged));
        let installed = regraft_ledger::installed_version(&*self.target).await?;
        let dropped = match installed {
            Some(_) => dropped(&self.target, &of_dropped).await?,
            None => HashMap::new(),
        };
        classifier.refuse(dropped.clone());
        let mut losers = duplicates(&self.snapshot.session, &self.target, &mut classifier).await?;
        add_dropped(&mut losers, dropped);
        classifier.refuse(losers);
        classifier.begin_survey();
        Ok(classifier)
    }

    /// The keys of a parent: as this plan would leave them, or as the ledger has them.
    async fn parent_keys(&mut self, parent: &str) -> Result<Arc<KeyMap>> {
        if let Some(keys) = self.keys.get(parent) {
            return Ok(Arc::clone(keys));
        }
        let numeric = self.model.entities.get(parent).is_some_and(|m| m.numeric);
        let budget = self.context.settings.key_memory;
        let keys = if regraft_ledger::installed_version(&*self.target)
            .await?
            .is_some()
        {
            if !self.fates.contains_key(parent) {
                let fates = Fates::of_ledger(&self.target, parent, numeric).await?;
                self.fates.insert(parent.to_owned(), fates);
            }
            load_keys(&self.target, parent, numeric, budget).await?
        } else {
            KeyMapBuilder::new(numeric, budget).finish()?
        };
        let keys = Arc::new(keys);
        self.keys.insert(parent.to_owned(), Arc::clone(&keys));
        Ok(keys)
    }

    /// Keeps which rows of an entity would be in the target, for those that refer to it.
    async fn remember(
        &mut self,
        model: &EntityModel,
        mut keys: KeyMapBuilder,
        merged: &Merged,
    ) -> Result<()> {
        if self.has_existing(&model.name).await? {
            crate::migrate::add_mapped(&self.target, &model.name, model.numeric, &mut keys).await?;
        }
        let mut keys = keys.finish()?;
        for (id, into) in merged {
            keys.alias(id, into);
        }
        self.keys.insert(model.name.clone(), Arc::new(keys));
        Ok(())
    }
}
