//! `plan`: what a migration would do, without doing it.
//!
//! The prediction is no estimate: every row of the source is read in one snapshot and goes through
//! the same transformation as in a migration, and where the target has checks or foreign keys of
//! its own to say, through a temporary table on the target. Nothing is written to a table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use regraft_ledger::{Bucket, Mode};
use regraft_pg::Session;
use regraft_project::{Project, Selection};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::{Deriver, KeyMap, KeyMapBuilder, LegacyId};
use crate::link;
use crate::load::{
    Classifier, Faults, Reason, Rows, duplicates, foreign_conditions, partition, read_rows,
};
use crate::migrate::{ModeChoice, check_secret, choose_mode, load_keys, resolved};
use crate::model::{EntityModel, Model};
use crate::snapshot::Snapshot;

/// The ordered, checked, reviewable outcome of reading the project against both databases.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The project's name.
    pub project: String,
    /// Names this plan: the project, both catalogs and the selection (16 hexadecimal digits).
    /// Rows that come and go don't change it.
    pub hash: String,
    /// SHA-256 of the project.
    pub project_hash: String,
    /// SHA-256 of the source's catalog.
    pub source_catalog_hash: String,
    /// SHA-256 of the target's catalog.
    pub target_catalog_hash: String,
    /// Entities in the order they would be moved.
    pub entities: Vec<EntityPlan>,
    /// Seconds it may take.
    pub seconds_estimate: f64,
    /// What that number rests on.
    pub estimate_basis: String,
}

/// What would be done to one entity.
#[derive(Debug, Clone, Serialize)]
pub struct EntityPlan {
    /// The entity.
    pub entity: String,
    /// The table it fills.
    pub target_table: String,
    /// `bulk` or `in-place`.
    pub mode: String,
    /// How keys come about.
    pub key_strategy: String,
    /// The entities it refers to.
    pub depends_on: Vec<String>,
    /// Rows of the source query, before filters.
    pub source_rows: u64,
    /// Batches.
    pub batches: u64,
    /// Rows dropped, by filter.
    pub filters: Vec<FilterCount>,
    /// Rows that earlier runs moved.
    pub in_place_already: u64,
    /// Rows that would be written.
    pub to_move: u64,
    /// Rows that can't satisfy the target.
    pub quarantined: u64,
    /// Rows whose parent can't be moved.
    pub blocked: u64,
    /// Those rows by reason; a row with several reasons stands under each.
    pub predictions: Vec<Prediction>,
    /// How each column comes about.
    pub columns: Vec<ColumnPlan>,
    /// Target columns that are left to their defaults.
    pub not_written: Vec<String>,
    /// What is read from the source for a batch.
    pub sql: String,
    /// What is run on the target for a batch.
    pub copy: String,
    /// Seconds it may take.
    pub seconds_estimate: f64,
}

/// Rows that a filter drops.
#[derive(Debug, Clone, Serialize)]
pub struct FilterCount {
    /// Its name.
    pub name: String,
    /// Rows it drops (and no filter before it).
    pub rows: u64,
}

/// Rows that can't be moved, for one reason.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// Quarantined or blocked.
    pub bucket: Bucket,
    /// The reason's code.
    pub code: String,
    /// The column or constraint.
    pub place: Option<String>,
    /// The parent entity, for a missing or blocked parent.
    pub parent: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Up to five legacy ids.
    pub examples: Vec<String>,
}

/// How a column comes about.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnPlan {
    /// The target column.
    pub column: String,
    /// `copied`, `derived`, `mapped`, `referenced`, `defaulted` or `synthesised`.
    pub provenance: String,
    /// The rule, in one line.
    pub rule: String,
}

/// The hash that names a plan.
pub(crate) fn hash(project: &Project, selection: &Selection, model: &Model) -> String {
    let mut hash = Sha256::new();
    hash.update(project.hash());
    hash.update(&model.source_catalog_hash);
    hash.update(model.target_catalog.hash());
    for step in selection.entities() {
        hash.update(step.entity.as_bytes());
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..8])
}

/// Plans the selected entities.
///
/// # Errors
/// The project's problems; a server that can't be reached; a mode that can't be had.
pub async fn plan(context: &Context, selection: &Selection, mode: ModeChoice) -> Result<Plan> {
    let source = context.connect_source().await?;
    let target = context.connect_target().await?;
    let model = resolved(context, &source, &target).await?;
    check_secret(context, &model, selection)?;
    drop(source);
    let snapshot = Snapshot::take(context).await?;
    let mut planner = Planner {
        context,
        model: &model,
        mode,
        snapshot,
        target,
        keys: HashMap::new(),
        moved: HashMap::new(),
        readings: HashMap::new(),
    };
    let mut entities = Vec::new();
    for (at, step) in selection.entities().iter().enumerate() {
        context.stop_requested()?;
        let planned = planner.entity(&step.entity, selection).await;
        entities.push(planned.map_err(|e| e.in_entity(&step.entity))?);
        let next = selection.entities().get(at + 1);
        if next.is_none_or(|next| next.component != step.component) {
            planner.close_component().await?;
        }
    }
    for entity in &mut entities {
        if let Some(reading) = planner.readings.remove(&entity.entity) {
            reading.write_to(entity);
        }
    }
    Ok(Plan {
        project: context.project.manifest().name.clone(),
        hash: hash(&context.project, selection, &model),
        project_hash: context.project.hash().to_owned(),
        source_catalog_hash: model.source_catalog_hash.clone(),
        target_catalog_hash: model.target_catalog.hash(),
        seconds_estimate: entities.iter().map(|e| e.seconds_estimate).sum(),
        estimate_basis: format!(
            "the time this plan took to read and transform every row, times {WRITE_FACTOR} for writing"
        ),
        entities,
    })
}

/// Writing rows takes about this many times as long as reading and transforming them.
const WRITE_FACTOR: f64 = 3.0;

struct Planner<'a> {
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
}

/// What reading an entity came to.
#[derive(Default)]
struct Reading {
    to_move: u64,
    in_place: u64,
    quarantined: u64,
    blocked: u64,
    predictions: BTreeMap<(Bucket, String, Option<String>, Option<String>), Prediction>,
}

impl Planner<'_> {
    async fn entity(&mut self, name: &str, selection: &Selection) -> Result<EntityPlan> {
        let started = Instant::now();
        let model = self
            .model
            .entities
            .get(name)
            .ok_or_else(|| Error::new(Kind::Internal, "the entity was not resolved"))?;
        let ranges = partition(
            &self.snapshot.session,
            model,
            self.context.settings.batch_size,
            &[],
        )
        .await?;
        let rows: i64 = ranges.iter().map(|r| r.rows).sum();
        let kept: i64 = ranges.iter().map(|r| r.kept).sum();
        self.context.events.send(Event::PhaseStarted {
            entity: name.to_owned(),
            phase: format!("reading {kept} rows"),
        });
        let has_existing = self.has_existing(name).await?;
        let mode = choose_mode(
            &self.target,
            self.model,
            model,
            self.mode,
            false,
            has_existing,
            rows,
        )
        .await?;
        let wanted = selection.entities().iter().any(|step| {
            self.model
                .entities
                .get(&step.entity)
                .is_some_and(|m| m.parents().contains(&name))
        });
        let mut keys =
            wanted.then(|| KeyMapBuilder::new(model.numeric, self.context.settings.key_memory));
        let reading = self
            .read(model, &ranges, has_existing, keys.as_mut())
            .await?;
        let mut filters: BTreeMap<&String, u64> = BTreeMap::new();
        for range in &ranges {
            for (filter, count) in &range.filtered {
                *filters.entry(filter).or_default() += count.unsigned_abs();
            }
        }
        let plan = EntityPlan {
            entity: name.to_owned(),
            target_table: model.table.name.clone(),
            mode: mode.as_str().to_owned(),
            key_strategy: model.key_strategy.to_owned(),
            depends_on: model.parents().into_iter().map(str::to_owned).collect(),
            source_rows: rows.unsigned_abs(),
            batches: ranges.len() as u64,
            filters: filters
                .into_iter()
                .map(|(name, rows)| FilterCount {
                    name: name.clone(),
                    rows,
                })
                .collect(),
            in_place_already: 0,
            to_move: 0,
            quarantined: 0,
            blocked: 0,
            predictions: Vec::new(),
            columns: columns(model),
            not_written: model.defaulted.clone(),
            sql: read_rows(model, &Rows::Range(low(model), high(model))),
            copy: copy_text(model, mode),
            seconds_estimate: started.elapsed().as_secs_f64() * WRITE_FACTOR
                / self.context.settings.workers.max(1) as f64,
        };
        self.readings.insert(name.to_owned(), reading);
        if let Some(keys) = keys {
            self.remember(model, keys).await?;
        }
        Ok(plan)
    }

    /// What becomes of references inside a cycle shows when all of the cycle was read: rows without
    /// a required parent stay behind, and with them all that require one of those.
    async fn close_component(&mut self) -> Result<()> {
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
        for model in models {
            let Some(reading) = self.readings.get_mut(&model.name) else {
                continue;
            };
            for (id, reasons) in doomed.of(&model.name).into_iter().flatten() {
                let reasons: Vec<Reason> = reasons.values().cloned().collect();
                reading.to_move -= 1;
                reading.note(id, &reasons);
                if let Some(keys) = self.keys.get_mut(&model.name).and_then(Arc::get_mut) {
                    keys.stop([id]);
                }
            }
        }
        Ok(())
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
        ranges: &[crate::load::BatchRange],
        has_existing: bool,
        mut keys: Option<&mut KeyMapBuilder>,
    ) -> Result<Reading> {
        let mut parents = HashMap::new();
        for parent in model.parents() {
            parents.insert(parent.to_owned(), self.parent_keys(parent).await?);
        }
        let foreign = foreign_conditions(self.model, model);
        let model = Arc::new(model.clone());
        let budget = self.context.settings.key_memory;
        let mut moved =
            (!model.later_columns().is_empty()).then(|| KeyMapBuilder::new(model.numeric, budget));
        let deriver = self
            .context
            .settings
            .secret
            .as_ref()
            .map(|s| Deriver::new(s, &model.name));
        let mut classifier =
            Classifier::new(model, deriver, parents, foreign, has_existing, false)?;
        let losers = duplicates(&self.snapshot.session, &self.target, &mut classifier).await?;
        classifier.refuse(losers);
        let mut reading = Reading::default();
        for range in ranges {
            self.context.stop_requested()?;
            let progress = classifier
                .classify(&self.snapshot.session, &self.target, range)
                .await?;
            reading.to_move += progress.written.len() as u64;
            reading.in_place += progress.in_place.unsigned_abs();
            if let Some(moved) = &mut moved {
                for row in &progress.written {
                    moved.add(&row.id, row.key)?;
                }
            }
            if let Some(keys) = keys.as_deref_mut() {
                for row in &progress.written {
                    keys.add(&row.id, row.key)?;
                }
                for (id, _) in &progress.faults.rows {
                    keys.add_stopped(id);
                }
            }
            for (id, reasons) in &progress.faults.rows {
                reading.note(id, reasons);
            }
        }
        if let Some(moved) = moved {
            self.moved.insert(classifier.model().name.clone(), moved);
        }
        Ok(reading)
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
            load_keys(&self.target, parent, numeric, budget).await?
        } else {
            KeyMapBuilder::new(numeric, budget).finish()?
        };
        let keys = Arc::new(keys);
        self.keys.insert(parent.to_owned(), Arc::clone(&keys));
        Ok(keys)
    }

    /// Keeps which rows of an entity would be in the target, for those that refer to it.
    async fn remember(&mut self, model: &EntityModel, mut keys: KeyMapBuilder) -> Result<()> {
        if self.has_existing(&model.name).await? {
            crate::migrate::add_mapped(&self.target, &model.name, model.numeric, &mut keys).await?;
        }
        self.keys
            .insert(model.name.clone(), Arc::new(keys.finish()?));
        Ok(())
    }
}

impl Reading {
    fn write_to(&self, plan: &mut EntityPlan) {
        plan.in_place_already = self.in_place;
        plan.to_move = self.to_move;
        plan.quarantined = self.quarantined;
        plan.blocked = self.blocked;
        plan.predictions = ordered(self);
    }

    fn note(&mut self, id: &LegacyId, reasons: &[Reason]) {
        let bucket = Faults::bucket(reasons);
        match bucket {
            Bucket::Quarantined => self.quarantined += 1,
            Bucket::Blocked => self.blocked += 1,
        }
        for reason in reasons {
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
            if prediction.examples.len() < 5 {
                prediction.examples.push(id.to_string());
            }
        }
    }
}

fn ordered(reading: &Reading) -> Vec<Prediction> {
    let mut predictions: Vec<Prediction> = reading.predictions.values().cloned().collect();
    predictions.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.code.cmp(&b.code)));
    predictions
}

fn columns(model: &EntityModel) -> Vec<ColumnPlan> {
    model
        .outputs
        .iter()
        .map(|output| ColumnPlan {
            column: output.column.clone(),
            provenance: output.provenance.to_string(),
            rule: output.shown.clone(),
        })
        .collect()
}

fn low(model: &EntityModel) -> LegacyId {
    if model.numeric {
        LegacyId::Number(i64::MIN)
    } else {
        LegacyId::Text("LOW".to_owned())
    }
}

fn high(model: &EntityModel) -> LegacyId {
    if model.numeric {
        LegacyId::Number(i64::MAX)
    } else {
        LegacyId::Text("HIGH".to_owned())
    }
}

fn copy_text(model: &EntityModel, mode: Mode) -> String {
    let note = match mode {
        Mode::Bulk => {
            "-- secondary indexes, checks and foreign keys are taken off before the first batch and brought back after the last\n"
        }
        Mode::InPlace => "",
    };
    format!(
        "{note}copy {} ({}) from stdin (format binary)",
        model.table.sql_name(),
        model.column_list()
    )
}
