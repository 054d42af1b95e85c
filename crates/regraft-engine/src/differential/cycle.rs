//! Rows of several tables that hold each other by foreign keys, and that the source has no more: they
//! go together or not at all.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::Session;
use regraft_pg::catalog::Catalog;
use regraft_pg::quote::{self, ident};

use super::deletion::referring;
use crate::error::Result;
use crate::keys::LegacyId;
use crate::load::id_array;
use crate::model::EntityModel;

/// Rows of an entity that are to go, and that others refer to.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) model: &'a EntityModel,
    pub(super) ids: Vec<LegacyId>,
}

/// Leaves those rows that nobody else refers to.
///
/// # Errors
/// A target that can't be reached.
pub(super) async fn leave_referred(
    target: &Session,
    catalog: &Catalog,
    held: &mut [Held<'_>],
) -> Result<()> {
    loop {
        let before: usize = held.iter().map(|held| held.ids.len()).sum();
        for place in 0..held.len() {
            let referred = referred(target, catalog, held, &held[place]).await?;
            held[place].ids.retain(|id| !referred.contains_key(id));
        }
        if held.iter().map(|held| held.ids.len()).sum::<usize>() == before {
            return Ok(());
        }
    }
}

/// Rows of an entity to which a row refers that is none of `all`, and by which foreign key.
///
/// # Errors
/// A target that can't be reached.
pub(super) async fn referred(
    target: &Session,
    catalog: &Catalog,
    all: &[Held<'_>],
    held: &Held<'_>,
) -> Result<BTreeMap<LegacyId, String>> {
    let model = held.model;
    let mut referred = BTreeMap::new();
    for (child, key) in referring(catalog, &model.table) {
        let going: String = all
            .iter()
            .filter(|other| other.model.table.oid == child.oid)
            .map(|other| {
                format!(
                    " and not exists (select from regraft.migration_mappings g \
                      where g.entity = {} and g.new_id = c.{} and {})",
                    quote::literal(&other.model.name),
                    ident(&other.model.key_column),
                    among(other.model, "g", &other.ids)
                )
            })
            .collect();
        let sql = format!(
            "select {} from regraft.migration_mappings m
             where m.entity = $1 and m.merged_into is null and {}
               and exists (select from {} c where c.{} = m.new_id{going})",
            id_of(model, "m"),
            among(model, "m", &held.ids),
            child.sql_name(),
            ident(&key.columns[0]),
        );
        let rows = target.query(&sql, &[&model.name]).await?;
        let rows = rows.iter();
        referred
            .extend(rows.map(|row| (LegacyId::from_row(model.numeric, row, 0), key.name.clone())));
    }
    Ok(referred)
}

fn id_of(model: &EntityModel, mapping: &str) -> String {
    match model.numeric {
        true => format!("{mapping}.legacy_id::bigint"),
        false => format!("{mapping}.legacy_id"),
    }
}

fn among(model: &EntityModel, mapping: &str, ids: &[LegacyId]) -> String {
    format!("{} = any ({})", id_of(model, mapping), id_array(model, ids))
}

/// Whether rows of these entities can be brought back when they are gone: on every way from a table
/// back to itself there is a reference that can be empty until the others are there.
pub(super) fn can_come_back(catalog: &Catalog, models: &[&EntityModel]) -> bool {
    let oids: BTreeSet<i64> = models.iter().map(|model| model.table.oid).collect();
    // The tables that rows of a table can't be without.
    let mut needs: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for model in models {
        let parent = model.table.oid;
        needs.entry(parent).or_default();
        for (child, key) in referring(catalog, &model.table) {
            let is_needed = child.column(&key.columns[0]).is_some_and(|c| c.not_null);
            if is_needed && child.oid != parent && oids.contains(&child.oid) {
                needs.entry(child.oid).or_default().insert(parent);
            }
        }
    }
    while let Some(next) = needs.iter().find(|(_, of)| of.is_empty()).map(|(t, _)| *t) {
        needs.remove(&next);
        for of in needs.values_mut() {
            of.remove(&next);
        }
    }
    needs.is_empty()
}
