//! Merge rules: several rows of the source that are one row of the target.
//!
//! Of equal rows the one with the lowest legacy id is moved like any other; the others are only
//! counted on the way. When all rows are in place, the legacy ids of the others are mapped to the
//! key of the row they are merged into, so that whatever refers to them finds it. A row whose
//! survivor stayed behind is blocked by it.

use std::collections::HashMap;
use std::sync::Arc;

use regraft_ledger::{Candidate, MappingRow, MovedFrom, Phase, Quarantined};
use regraft_pg::Session;
use regraft_pg::copy::{Rows as CopiedRows, Writer};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::Reason;
use super::batch::{EntityLoad, is_about_rows, quarantined_rows};
use super::read::{PlannedRange, Rows, kept_condition, planned_ranges, read_rows};
use super::row::corrupt;
use super::sink::Sink;
use crate::error::Result;
use crate::keys::{Found, KeyMap, LegacyId};
use crate::model::EntityModel;
use crate::transaction;

/// Rows that are merged, each with the row it is merged into.
pub(crate) type Merged = HashMap<LegacyId, LegacyId>;

/// Rows whose mappings are written together.
const AT_ONCE: usize = 5_000;

/// Finds the rows that an entity's rule merges, among those that its filters keep. Memory grows
/// with their number, not with that of all rows.
pub(crate) async fn merged(source: &Session, model: &EntityModel) -> Result<Merged> {
    let Some(rule) = &model.merge else {
        return Ok(Merged::new());
    };
    let names: Vec<String> = (0..rule.by.len()).map(|i| format!("v{i}")).collect();
    let list: String = rule
        .by
        .iter()
        .zip(&names)
        .map(|(by, name)| format!(", ({by}\n) as {name}"))
        .collect();
    let when = rule
        .when
        .as_ref()
        .map_or(String::new(), |when| format!(" and ({when}\n)"));
    let sql = format!(
        "select k, first from (select k, first_value(k) over same as first, row_number() over same as place\n\
         from (select {key} as k, {order} as o{list} from {from}\nwhere {kept}{when}) rows \
         window same as (partition by {names} order by o)) placed\n\
         where place > 1",
        key = model.key_value(),
        order = model.key_order(),
        from = model.from,
        kept = kept_condition(model),
        names = names.join(", "),
    );
    let rows = source.query(&sql, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let id = |at| LegacyId::from_row(model.numeric, row, at);
            (id(0), id(1))
        })
        .collect())
}

/// A row that this run merges.
struct Row {
    id: LegacyId,
    into: LegacyId,
    batch: i32,
    fingerprint: u128,
}

/// Writes the mappings of the rows that this run merged, and puts those whose survivor is not there
/// into quarantine; all in one transaction, which is marked by the phase of the checkpoint.
pub(crate) async fn write_merged(
    source: &Session,
    target: &Arc<Session>,
    load: &EntityLoad,
) -> Result<()> {
    let model = &load.model;
    let Some(rule) = &model.merge else {
        return Ok(());
    };
    let budget = AT_ONCE * 64;
    let keys = crate::migrate::load_keys(target, &model.name, model.numeric, budget).await?;
    let (mut found, mut stopped) = (Vec::new(), Vec::new());
    for row in rows(source, target, load, &keys).await? {
        match keys.find_id(&row.into) {
            Found::Key(key) => found.push((row, key)),
            Found::Stopped | Found::Absent => stopped.push(row),
        }
    }
    let faulty = stopped
        .into_iter()
        .map(|row| {
            let reason = Reason::parent(
                "blocked_parent",
                &model.key_column,
                &model.name,
                row.into.to_string(),
            );
            (row.batch, row.id, vec![reason])
        })
        .collect();
    let quarantined: Vec<Quarantined> = quarantined_rows(source, model, faulty).await?;
    transaction::run(target, load.nested, async || {
        regraft_ledger::set_phase(&***target, &load.checkpoint, Phase::Merging).await?;
        write_mappings(target, load, &found).await?;
        let moved: Vec<String> = found
            .iter()
            .map(|(row, _)| row.id.to_string())
            .filter(|id| load.quarantined.contains(id))
            .collect();
        regraft_ledger::resolve_quarantine(&***target, &model.name, &moved).await?;
        let from = MovedFrom::Merged(&rule.name);
        regraft_ledger::move_to_quarantine(
            target,
            load.run_no,
            &model.name,
            &quarantined,
            load.first_quarantine,
            from,
        )
        .await?;
        Ok(())
    })
    .await
}

/// The rows that this run merges: those of the rule that have no mapping yet.
async fn rows(
    source: &Session,
    target: &Session,
    load: &EntityLoad,
    keys: &KeyMap,
) -> Result<Vec<Row>> {
    let model = &load.model;
    let mut wanted: Vec<&LegacyId> = load
        .merged
        .keys()
        .filter(|id| !matches!(keys.find_id(id), Found::Key(_)))
        .collect();
    wanted.sort_unstable();
    let batches = planned_ranges(target, load.run_no, model).await?;
    let mut rows = Vec::with_capacity(wanted.len());
    for part in wanted.chunks(AT_ONCE) {
        let ids = part.iter().map(|id| (*id).clone()).collect();
        for (id, fingerprint) in fingerprints(source, model, ids).await? {
            let (Some(into), Some(batch)) = (load.merged.get(&id), batch_of(&batches, &id)) else {
                continue;
            };
            rows.push(Row {
                into: into.clone(),
                batch,
                fingerprint,
                id,
            });
        }
    }
    Ok(rows)
}

/// The fingerprints of rows of the source, in the order of their legacy ids. A row that the source
/// can't compute is in quarantine for that and stays there: it has none.
async fn fingerprints(
    source: &Session,
    model: &EntityModel,
    ids: Vec<LegacyId>,
) -> Result<Vec<(LegacyId, u128)>> {
    let (mut found, mut waiting) = (Vec::with_capacity(ids.len()), vec![ids]);
    while let Some(mut ids) = waiting.pop() {
        source.batch_execute("savepoint regraft_merge").await?;
        match fingerprints_at_once(source, model, ids.clone()).await {
            Ok(all) => {
                source
                    .batch_execute("release savepoint regraft_merge")
                    .await?;
                found.extend(all);
            }
            Err(error) if is_about_rows(&error) => {
                source
                    .batch_execute("rollback to savepoint regraft_merge")
                    .await?;
                let second = ids.split_off(ids.len() / 2);
                if !ids.is_empty() {
                    waiting.extend([second, ids]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn fingerprints_at_once(
    source: &Session,
    model: &EntityModel,
    ids: Vec<LegacyId>,
) -> Result<Vec<(LegacyId, u128)>> {
    let mut found = Vec::with_capacity(ids.len());
    let query = read_rows(model, &Rows::Ids(ids));
    let mut copied = CopiedRows::of(source, &query, model.fields.len() + 1).await?;
    while let Some(row) = copied.next().await? {
        let id = LegacyId::from_field(model.numeric, row.get(0));
        let id = id.ok_or_else(|| corrupt(&model.name))?;
        found.push((id, xxh3_128(row.bytes())));
    }
    Ok(found)
}

/// Sends every merged row of an entity to the table of rows to be proven, each with the row that it
/// is merged into.
pub(crate) async fn send_merged(
    source: &Session,
    target: &Session,
    model: &EntityModel,
    merged: &Merged,
) -> Result<()> {
    let mut wanted: Vec<&LegacyId> = merged.keys().collect();
    wanted.sort_unstable();
    let mut sink = Sink::new(target, regraft_ledger::proven_copy_statement());
    for part in wanted.chunks(AT_ONCE) {
        let ids = part.iter().map(|id| (*id).clone()).collect();
        for (id, fingerprint) in fingerprints(source, model, ids).await? {
            let Some(into) = merged.get(&id) else {
                continue;
            };
            let (id, into) = (id.to_string(), into.to_string());
            let candidate = Candidate {
                legacy_id: &id,
                source_fingerprint: fingerprint,
                merged_into: Some(&into),
                ..Candidate::default()
            };
            regraft_ledger::encode_proven(sink.block(), &candidate);
            sink.send_if_full().await?;
        }
    }
    sink.finish().await?;
    Ok(())
}

fn batch_of(batches: &[PlannedRange], id: &LegacyId) -> Option<i32> {
    let at = batches.partition_point(|range| range.low <= *id);
    let range = batches.get(at.checked_sub(1)?)?;
    (*id <= range.high).then_some(range.number)
}

async fn write_mappings(target: &Session, load: &EntityLoad, rows: &[(Row, Uuid)]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let entity = &load.model.name;
    let mut sink = Sink::new(target, regraft_ledger::copy_merged_statement(entity));
    for (row, key) in rows {
        let (id, into) = (row.id.to_string(), row.into.to_string());
        let mapping = MappingRow {
            legacy_id: &id,
            new_id: *key,
            source_fingerprint: row.fingerprint,
            column_fingerprints: &[],
            run_no: load.run_no,
            batch: row.batch,
        };
        let block: &mut Writer = sink.block();
        regraft_ledger::encode_merged(block, entity, &mapping, &into);
        sink.send_if_full().await?;
    }
    sink.finish().await?;
    Ok(())
}
