//! What would become of rows that the source has no more, under each policy and mode: the questions
//! that a deletion asks, asked before anything is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Table};
use regraft_pg::quote::ident;
use regraft_project::{Deletes, Policy};

use super::analysis::Analyst;
use super::cycle::can_come_back;
use super::deletion::referring;
use super::examine::{Examiner, in_place};
use super::grouping::Grouping;
use super::run::children_of;
use super::tally::{DeleteForecast, EntityDifferential, Tally};
use super::way::EntityWay;
use crate::error::{Error, Result};
use crate::keys::{Deriver, KeyMap, LegacyId};
use crate::load::{Merged, id_array, kept_condition};
use crate::model::{EntityModel, MissingKey, OutputRule};
use crate::transaction;

/// What a comparison has found out about an entity, as far as deletions go by it.
pub(super) struct Compared<'a> {
    pub(super) model: &'a EntityModel,
    pub(super) way: &'a EntityWay,
    pub(super) merged: Arc<Merged>,
    pub(super) grouping: Grouping,
    /// Rows that the source has no more.
    pub(super) deleted: Vec<LegacyId>,
    /// Those of them that somebody has changed in the target.
    pub(super) edited: HashSet<LegacyId>,
    /// Rows that would be moved.
    pub(super) arriving: HashSet<LegacyId>,
}

impl Compared<'_> {
    /// Whether a row stays under a policy whatever refers to it: somebody has changed it, or others
    /// are part of it.
    fn stays(&self, id: &LegacyId, policy: Policy) -> bool {
        policy != Policy::SourceWins && (self.edited.contains(id) || self.is_headless(id))
    }

    fn is_headless(&self, id: &LegacyId) -> bool {
        self.grouping.headless.contains_key(id)
    }

    /// Of rows that don't go, why: `held` are those that others refer to.
    fn count(&self, policy: Policy, held: i64) -> DeleteForecast {
        let mut forecast = DeleteForecast {
            referred: held,
            ..DeleteForecast::default()
        };
        for id in &self.deleted {
            if self.stays(id, policy) {
                match policy {
                    Policy::TargetWins => forecast.untouched += 1,
                    _ if self.is_headless(id) => forecast.referred += 1,
                    _ => forecast.edited += 1,
                }
            }
        }
        forecast
    }
}

/// A row that refers to a row that would be deleted.
struct Holder {
    parent: LegacyId,
    column: String,
    /// The entity and the row, where any run has moved it.
    owner: Option<(String, LegacyId)>,
}

/// Adds to what was found what each policy would do about deleted rows in each mode.
///
/// # Errors
/// A server that can't be reached.
pub(super) async fn forecast(
    analyst: &Analyst<'_>,
    compared: &[Compared<'_>],
    found: &mut [EntityDifferential],
) -> Result<()> {
    if compared.iter().all(|entity| entity.deleted.is_empty()) {
        return Ok(());
    }
    let catalog = Catalog::read(&**analyst.target, &[]).await?;
    for policy in Policy::ALL {
        let mut mirror = Mirror::new(analyst, &catalog, compared, policy);
        mirror.run().await?;
        for (entity, found) in compared.iter().zip(found.iter_mut()) {
            if entity.deleted.is_empty() {
                continue;
            }
            let name = policy.as_str().to_owned();
            let forecasts = &mut found.policies.entry(name).or_default().deletes;
            let mut add = |mode: Deletes, forecast| {
                forecasts.insert(mode.as_str().to_owned(), forecast);
            };
            let all = entity.deleted.len() as i64;
            add(Deletes::Mirror, {
                let mut forecast = entity.count(policy, mirror.held(entity));
                forecast.deleted = all - forecast.stay();
                forecast
            });
            if let Some(marked) = unmarked(analyst.target, entity, policy).await? {
                let mut forecast = entity.count(policy, 0);
                forecast.marked = marked;
                forecast.untouched += all - marked - forecast.stay();
                add(Deletes::Soft, forecast);
            }
            add(Deletes::Ignore, ignored(entity, policy));
        }
    }
    Ok(())
}

/// Where deleted rows are ignored, only those that others are part of need a decision.
fn ignored(entity: &Compared<'_>, policy: Policy) -> DeleteForecast {
    let asks = matches!(policy, Policy::Newest | Policy::Manual);
    let referred = match asks {
        true => entity.grouping.headless.len() as i64,
        false => 0,
    };
    DeleteForecast {
        referred,
        untouched: entity.deleted.len() as i64 - referred,
        ..DeleteForecast::default()
    }
}

/// How many rows would be marked as deleted, where the project says how.
async fn unmarked(target: &Session, entity: &Compared<'_>, policy: Policy) -> Result<Option<i64>> {
    let table = entity.model.table.sql_name();
    let Some(mark) = entity.way.mark(entity.model, &table) else {
        return Ok(None);
    };
    let ids = entity.deleted.iter();
    let ids: Vec<String> = ids
        .filter(|id| !entity.stays(id, policy))
        .map(LegacyId::to_string)
        .collect();
    Ok(Some(
        regraft_ledger::unmarked(&**target, &mark, &ids).await?,
    ))
}

/// An entity and a row of it.
type Row<'a> = (&'a str, LegacyId);

/// Rows by entity.
type Rows<'a> = BTreeMap<&'a str, HashSet<LegacyId>>;

/// Deletes row by row under one policy, in thought.
struct Mirror<'a> {
    analyst: &'a Analyst<'a>,
    catalog: &'a Catalog,
    compared: &'a [Compared<'a>],
    policy: Policy,
    /// Rows to which a row refers that stays.
    held: Rows<'a>,
    /// Rows to which a row refers that is to go too: entity and row, and that one's.
    holding: Vec<(Row<'a>, Row<'a>)>,
    /// Rows that go.
    gone: Rows<'a>,
}

impl<'a> Mirror<'a> {
    fn new(
        analyst: &'a Analyst<'a>,
        catalog: &'a Catalog,
        compared: &'a [Compared<'a>],
        policy: Policy,
    ) -> Self {
        Self {
            analyst,
            catalog,
            compared,
            policy,
            held: Rows::new(),
            holding: Vec::new(),
            gone: Rows::new(),
        }
    }

    /// Goes through all entities, children first; then what holds each other goes together.
    async fn run(&mut self) -> Result<()> {
        for entity in self.compared {
            self.look(entity).await?;
        }
        for entity in self.compared.iter().rev() {
            let going = self.going(entity).into_iter().collect();
            let gone = self.free(Rows::from([(entity.model.name.as_str(), going)]));
            self.gone.extend(gone);
        }
        let mut left = Rows::new();
        let mut models = Vec::new();
        for entity in self.compared.iter().filter(|entity| self.held(entity) > 0) {
            let name = entity.model.name.as_str();
            let is_left = |id: &LegacyId| !has(&self.gone, name, id);
            left.insert(
                name,
                self.going(entity).into_iter().filter(is_left).collect(),
            );
            models.push(entity.model);
        }
        if models.len() > 1 && can_come_back(self.catalog, &models) {
            for (name, ids) in self.free(left) {
                self.gone.entry(name).or_default().extend(ids);
            }
        }
        Ok(())
    }

    /// How many rows of an entity stay because others refer to them.
    fn held(&self, entity: &Compared<'_>) -> i64 {
        let gone = self.gone.get(entity.model.name.as_str());
        (self.going(entity).len() - gone.map_or(0, HashSet::len)) as i64
    }

    /// Of these rows, those to which only rows refer that go with them or are gone.
    fn free(&self, mut rows: Rows<'a>) -> Rows<'a> {
        for (name, rows) in &mut rows {
            rows.retain(|id| !has(&self.held, name, id));
        }
        loop {
            let staying = |holder: &Row<'a>| {
                !has(&rows, holder.0, &holder.1) && !has(&self.gone, holder.0, &holder.1)
            };
            let held: Vec<&Row<'a>> = self
                .holding
                .iter()
                .filter(|(parent, holder)| has(&rows, parent.0, &parent.1) && staying(holder))
                .map(|(parent, _)| parent)
                .collect();
            if held.is_empty() {
                return rows;
            }
            for (name, id) in held {
                if let Some(rows) = rows.get_mut(name) {
                    rows.remove(id);
                }
            }
        }
    }

    /// The rows that are to be deleted, unless others refer to them.
    fn going(&self, entity: &Compared<'_>) -> Vec<LegacyId> {
        let ids = entity.deleted.iter();
        ids.filter(|id| !entity.stays(id, self.policy))
            .cloned()
            .collect()
    }

    /// Finds out what refers to the rows of an entity that are to be deleted.
    async fn look(&mut self, entity: &'a Compared<'a>) -> Result<()> {
        let name = entity.model.name.as_str();
        let going = self.going(entity);
        if going.is_empty() {
            return Ok(());
        }
        let mut held = self.arriving(entity, &going).await?;
        for holder in self.staying(entity, &going).await? {
            let owner = holder.owner.and_then(|(owner, id)| {
                let owner = self.compared.iter().find(|c| c.model.name == owner)?;
                let goes =
                    owner.deleted.binary_search(&id).is_ok() && !owner.stays(&id, self.policy);
                goes.then_some((owner.model.name.as_str(), id))
            });
            match owner {
                Some(owner) => self.holding.push(((name, holder.parent), owner)),
                None => {
                    held.insert(holder.parent);
                }
            }
        }
        self.held.insert(name, held);
        Ok(())
    }

    /// Rows of the target that would still refer to these when all else is done.
    async fn staying(&self, entity: &Compared<'_>, going: &[LegacyId]) -> Result<Vec<Holder>> {
        let mut staying = Vec::new();
        let mut to_examine: BTreeMap<&str, Vec<Holder>> = BTreeMap::new();
        for (child, key) in referring(self.catalog, &entity.model.table) {
            for holder in self.holders(entity, going, child, &key.columns[0]).await? {
                let Some((owner, id)) = &holder.owner else {
                    staying.push(holder);
                    continue;
                };
                let owner = self.compared.iter().find(|c| c.model.name == *owner);
                match owner {
                    Some(owner) if owner.deleted.binary_search(id).is_err() => {
                        let name = owner.model.name.as_str();
                        to_examine.entry(name).or_default().push(holder);
                    }
                    _ => staying.push(holder),
                }
            }
        }
        for (owner, holders) in to_examine {
            staying.extend(self.keeping(owner, holders).await?);
        }
        Ok(staying)
    }

    /// Rows of a table that refer to these.
    async fn holders(
        &self,
        entity: &Compared<'_>,
        going: &[LegacyId],
        child: &Table,
        column: &str,
    ) -> Result<Vec<Holder>> {
        let model = entity.model;
        let all = self.analyst.model.entities.values();
        let owners: Vec<&EntityModel> = all.filter(|m| m.table.oid == child.oid).collect();
        let names: Vec<&str> = owners.iter().map(|m| m.name.as_str()).collect();
        let key = owners.first().map_or("null::uuid".to_owned(), |owner| {
            format!("c.{}", ident(&owner.key_column))
        });
        let id = match model.numeric {
            true => "m.legacy_id::bigint",
            false => "m.legacy_id",
        };
        let sql = format!(
            "select {id}, e.entity, e.legacy_id from regraft.migration_mappings m
             join {} c on c.{} = m.new_id
             left join regraft.migration_mappings e
               on e.entity = any ($2) and e.merged_into is null and e.new_id = {key}
             where m.entity = $1 and m.merged_into is null and {id} = any ({})",
            child.sql_name(),
            ident(column),
            id_array(model, going),
        );
        let rows = self
            .analyst
            .target
            .query(&sql, &[&model.name, &names])
            .await?;
        let owner_of = |row: &tokio_postgres::Row| {
            let (owner, id): (Option<String>, Option<String>) = (row.get(1), row.get(2));
            let (owner, id) = (owner?, id?);
            let numeric = self.analyst.model.entities.get(&owner)?.numeric;
            Some((owner, LegacyId::parse(numeric, id)?))
        };
        Ok(rows
            .iter()
            .map(|row| Holder {
                parent: LegacyId::from_row(model.numeric, row, 0),
                column: column.to_owned(),
                owner: owner_of(row),
            })
            .collect())
    }

    /// Those of an entity's rows that would not get another value in the column that refers.
    async fn keeping(&self, owner: &str, holders: Vec<Holder>) -> Result<Vec<Holder>> {
        let Some(owner) = self.compared.iter().find(|c| c.model.name == owner) else {
            return Ok(holders);
        };
        let mut ids: Vec<LegacyId> = holders
            .iter()
            .filter_map(|holder| Some(holder.owner.as_ref()?.1.clone()))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let written = self.written(owner, &ids).await?;
        let following = self.following(owner).await?;
        let columns = owner.model.fingerprinted();
        let places: HashMap<&str, usize> = columns
            .enumerate()
            .map(|(place, output)| (output.column.as_str(), place))
            .collect();
        let keeps = |holder: &Holder| {
            let Some((_, id)) = &holder.owner else {
                return true;
            };
            let place = places.get(holder.column.as_str());
            let mask = written.get(&id.to_string());
            let is_written = match (place, mask) {
                (Some(&place), Some(mask)) => mask.as_bytes().get(place) == Some(&b'1'),
                _ => false,
            };
            !is_written && !following.contains(id)
        };
        Ok(holders.into_iter().filter(keeps).collect())
    }

    /// Which columns of rows would be written, a digit for each.
    async fn written(
        &self,
        owner: &Compared<'_>,
        ids: &[LegacyId],
    ) -> Result<HashMap<String, String>> {
        let (context, target) = (self.analyst.context, self.analyst.target);
        let mut parents = self.analyst.parents(owner.model).await?;
        for (parent, keys) in &mut parents {
            let parent = self.compared.iter().find(|c| c.model.name == *parent);
            if let (Some(parent), Some(keys)) = (parent, Arc::<KeyMap>::get_mut(keys)) {
                keys.stop(&self.going(parent));
            }
        }
        let secret = context.settings.secret.as_ref();
        let deriver = secret.map(|secret| Deriver::new(secret, &owner.model.name));
        let (way, merged) = (owner.way.clone().under(self.policy), &owner.merged);
        let mut examiner = Examiner::new(
            target,
            owner.model,
            deriver,
            parents,
            Arc::clone(merged),
            &way,
        )
        .await?;
        let mut written = HashMap::new();
        for part in ids.chunks(context.settings.batch_size as usize) {
            let mut tally = Tally::default();
            let source = self.analyst.source;
            let examination = transaction::run(target, false, async || {
                examiner.examine(source, target, part, &mut tally).await
            })
            .await?;
            let rows = examination.rows.into_iter();
            written.extend(rows.map(|row| (row.id, row.written)));
        }
        Ok(written)
    }

    /// Rows that follow a parent which is merged otherwise.
    async fn following(&self, owner: &Compared<'_>) -> Result<HashSet<LegacyId>> {
        let mut moved = HashMap::new();
        for parent in self.compared {
            let mut ids = parent.grouping.regrouped.clone();
            if self.policy == Policy::SourceWins {
                ids.extend(parent.grouping.headless.values().flatten().cloned());
            }
            moved.insert(parent.model.name.clone(), ids);
        }
        let (source, model) = (self.analyst.source, owner.model);
        let rows = children_of(source, model, model.references(), &moved).await?;
        Ok(rows.into_iter().collect())
    }

    /// Those of these rows that rows which are still to be moved have to refer to.
    async fn arriving(
        &self,
        entity: &Compared<'_>,
        going: &[LegacyId],
    ) -> Result<HashSet<LegacyId>> {
        let mut held = HashSet::new();
        // Nothing can refer to a row that isn't there.
        let there = in_place(self.analyst.target, entity.model, going).await?;
        let texts: Vec<String> = there.iter().map(LegacyId::to_string).collect();
        for child in self.compared {
            for field in required(child.model, &entity.model.name) {
                let naming = self.naming(child.model, field, &texts).await?;
                let ids: Vec<LegacyId> = naming.iter().map(|(id, _)| id.clone()).collect();
                let back = self.coming_back(child.model, &ids).await?;
                let arrives = |id: &LegacyId| child.arriving.contains(id) || back.contains(id);
                let parents = naming.into_iter().filter(|(id, _)| arrives(id));
                held.extend(
                    parents.filter_map(|(_, parent)| LegacyId::parse(entity.model.numeric, parent)),
                );
            }
        }
        Ok(held)
    }

    /// Rows of the source with one of these values in a field, each with its value.
    async fn naming(
        &self,
        model: &EntityModel,
        field: usize,
        values: &[String],
    ) -> Result<Vec<(LegacyId, String)>> {
        let field = &model.fields[field].sql;
        let sql = format!(
            "select {}, ({field})::text from {}\nwhere {} and ({field})::text = any ($1)",
            model.key_value(),
            model.from,
            kept_condition(model),
        );
        let source = self.analyst.source;
        let rows = source.query(&sql, &[&values]).await;
        let rows = rows.map_err(|e| Error::from(source.error(e)))?;
        let rows = rows.iter();
        Ok(rows
            .map(|row| (LegacyId::from_row(model.numeric, row, 0), row.get(1)))
            .collect())
    }

    /// Those of these rows that somebody has deleted from the target, where the source wins.
    async fn coming_back(
        &self,
        model: &EntityModel,
        ids: &[LegacyId],
    ) -> Result<HashSet<LegacyId>> {
        if self.policy != Policy::SourceWins {
            return Ok(HashSet::new());
        }
        let (target, numeric) = (self.analyst.target, model.numeric);
        let texts: Vec<String> = ids.iter().map(LegacyId::to_string).collect();
        let mapped = regraft_ledger::mapped_among(&**target, &model.name, numeric, &texts).await?;
        let there: HashSet<LegacyId> = in_place(target, model, ids).await?.into_iter().collect();
        let mapped = mapped.into_iter();
        let mapped = mapped.filter_map(|(id, _)| LegacyId::parse(numeric, id));
        Ok(mapped.filter(|id| !there.contains(id)).collect())
    }
}

fn has(rows: &Rows<'_>, entity: &str, id: &LegacyId) -> bool {
    rows.get(entity).is_some_and(|rows| rows.contains(id))
}

/// The fields of references to an entity without which a row can't be moved.
fn required(model: &EntityModel, parent: &str) -> Vec<usize> {
    let outputs = model.outputs.iter();
    outputs
        .filter_map(|output| match &output.rule {
            OutputRule::Reference {
                field,
                entity,
                missing: MissingKey::Quarantine,
                ..
            } if entity == parent => Some(*field),
            _ => None,
        })
        .collect()
}
