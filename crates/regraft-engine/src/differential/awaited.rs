//! Parents that have not come yet: rows of an entity that this run is not about, which the source has
//! and nobody has moved. Another run may be about to. Rows that refer to them are blocked, not faulty,
//! and follow with the next run.

use std::collections::HashSet;
use std::sync::Arc;

use regraft_pg::Session;

use crate::error::{Error, Kind, Result};
use crate::keys::{Found, KeyMap, LegacyId};
use crate::load::{EntityLoad, Rows, id_array, kept_condition, keys_of};
use crate::migrate::Engine;
use crate::model::EntityModel;
use crate::unfinished;

/// Rows that are asked for in one statement.
const PART: usize = 20_000;

/// Lets the parents that an entity's rows wait for count as stopped ones, where they are of entities
/// that the run is not about.
pub(super) async fn note(engine: &Engine<'_>, load: &mut Arc<EntityLoad>) -> Result<()> {
    let about: HashSet<&str> = unfinished::entities(&engine.run).collect();
    let model = Arc::clone(&load.model);
    let moved = model.only.as_deref().map(Vec::as_slice).unwrap_or_default();
    for (parent, field) in model.references() {
        let Some(parent_model) = engine.model.entities.get(parent) else {
            continue;
        };
        if moved.is_empty() || about.contains(parent) {
            continue;
        }
        let Some(keys) = load.parents.get(parent) else {
            continue;
        };
        let absent = absent(&engine.source, &model, (field, moved), (parent_model, keys)).await?;
        let awaited = present(&engine.source, parent_model, &absent).await?;
        if awaited.is_empty() {
            continue;
        }
        let busy = || Error::new(Kind::Internal, "the keys of a parent are in use already");
        let load = Arc::get_mut(load).ok_or_else(busy)?;
        let keys = load.parents.get_mut(parent).and_then(Arc::get_mut);
        keys.ok_or_else(busy)?.add_stopped(&awaited);
    }
    Ok(())
}

/// The parents that rows name in a field, and that were not moved.
async fn absent(
    source: &Session,
    model: &EntityModel,
    (field, moved): (usize, &[LegacyId]),
    (parent, keys): (&EntityModel, &KeyMap),
) -> Result<Vec<LegacyId>> {
    let mut absent = HashSet::new();
    for part in moved.chunks(PART) {
        let sql = format!(
            "select distinct ({})::text from {}\nwhere {} and {} = any ({})",
            model.fields[field].sql,
            model.from,
            kept_condition(model),
            model.key_order(),
            id_array(model, part),
        );
        let rows = source
            .query(&sql, &[])
            .await
            .map_err(|e| Error::from(source.error(e)))?;
        let named = rows
            .iter()
            .filter_map(|row| row.get::<_, Option<String>>(0));
        let named = named.filter_map(|id| LegacyId::parse(parent.numeric, id));
        absent.extend(named.filter(|id| keys.find_id(id) == Found::Absent));
    }
    Ok(absent.into_iter().collect())
}

/// Of some rows of an entity, those that the source has and no filter drops.
async fn present(source: &Session, model: &EntityModel, ids: &[LegacyId]) -> Result<Vec<LegacyId>> {
    let mut present = Vec::new();
    for part in ids.chunks(PART) {
        present.extend(keys_of(source, model, &Rows::Ids(part.to_vec())).await?);
    }
    Ok(present)
}
