//! References inside a cycle (a table that refers to itself, or tables that refer to each other).
//!
//! Rows are loaded with such columns NULL; when the whole cycle is in place, this pass fills them
//! in. A row whose parent turns out not to be there is taken out again, and with it every row of
//! the cycle that hangs on it, before anything is linked, so that no half-linked row ever stays.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, pin_mut};
use regraft_ledger::Phase;
use regraft_pg::Session;
use regraft_pg::copy::{Reader, Tuple};
use regraft_pg::quote::ident;
use uuid::Uuid;

use crate::bulk::delete_rows;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::{Found, KeyMap, LegacyId};
use crate::load::{EntityLoad, Faults, Reason, fingerprint_of, kept_condition, quarantined_rows};
use crate::model::{EntityModel, MissingKey, Model, OutputRule};

/// One reference of one row, as the source has it.
pub(crate) struct Edge {
    entity: String,
    id: LegacyId,
    column: usize,
    parent: String,
    parent_id: LegacyId,
    /// Whether the row can't be without it.
    required: bool,
    fallback: Option<Uuid>,
}

/// Links the entities of one component, all of which are loaded.
pub(crate) async fn link(
    context: &Context,
    all: &Model,
    source: &Session,
    target: &Session,
    loads: &[Arc<EntityLoad>],
) -> Result<()> {
    let loads: Vec<&Arc<EntityLoad>> = loads.iter().collect();
    if loads
        .iter()
        .all(|load| load.model.later_columns().is_empty())
    {
        return Ok(());
    }
    let keys = component_keys(context, all, target, &loads).await?;
    let own = own_rows(target, &loads).await?;
    let mut edges = Vec::new();
    for load in &loads {
        context.events.send(Event::PhaseStarted {
            entity: load.model.name.clone(),
            phase: "references in cycles".to_owned(),
        });
        for column in load.model.later_columns() {
            read_edges(source, &load.model, column, &own, &mut edges).await?;
        }
    }
    let doomed = closure(&edges, &keys);
    for load in &loads {
        take_out(source, target, load, &doomed, &own).await?;
    }
    let keys = if doomed.is_empty() {
        keys
    } else {
        component_keys(context, all, target, &loads).await?
    };
    for load in &loads {
        write_links(target, load, &edges, &keys, &own).await?;
    }
    Ok(())
}

/// The keys of every entity that the component's rows refer to.
async fn component_keys(
    context: &Context,
    all: &Model,
    target: &Session,
    loads: &[&Arc<EntityLoad>],
) -> Result<HashMap<String, Arc<KeyMap>>> {
    let mut keys = HashMap::new();
    for parent in loads.iter().flat_map(|load| load.model.parents()) {
        let Some(model) = all
            .entities
            .get(parent)
            .filter(|_| !keys.contains_key(parent))
        else {
            continue;
        };
        let budget = context.settings.key_memory;
        let map = crate::migrate::load_keys(target, parent, model.numeric, budget).await?;
        keys.insert(parent.to_owned(), Arc::new(map));
    }
    Ok(keys)
}

/// What this run wrote: (entity, legacy id) with key and batch.
pub(crate) type OwnRows = HashMap<(String, LegacyId), (Uuid, i32)>;

async fn own_rows(target: &Session, loads: &[&Arc<EntityLoad>]) -> Result<OwnRows> {
    let mut own = HashMap::new();
    for load in loads {
        let rows = target
            .query(
                "select legacy_id, new_id, batch from regraft.migration_mappings
                 where entity = $1 and run_no = $2",
                &[&load.model.name, &load.run_no],
            )
            .await?;
        for row in rows {
            let id = crate::load::parse_id(&load.model, row.get(0))?;
            own.insert((load.model.name.clone(), id), (row.get(1), row.get(2)));
        }
    }
    Ok(own)
}

/// Reads one cyclic column of the rows that this run wrote.
pub(crate) async fn read_edges(
    source: &Session,
    model: &EntityModel,
    column: usize,
    own: &OwnRows,
    edges: &mut Vec<Edge>,
) -> Result<()> {
    let output = &model.outputs[column];
    let (by, field, cases, missing) = match &output.rule {
        OutputRule::Reference {
            field,
            entity,
            missing,
            ..
        } => (
            None,
            *field,
            HashMap::from([(Vec::new(), entity.clone())]),
            missing,
        ),
        OutputRule::ReferenceBy {
            by,
            field,
            cases,
            missing,
            ..
        } => (Some(*by), *field, cases.clone(), missing),
        _ => return Ok(()),
    };
    let by_sql = by.map_or("''::text", |by| model.fields[by].sql.as_str());
    let sql = format!(
        "copy (select {}, {by_sql}, ({})::text from {}\nwhere {} and {} is not null) to stdout (format binary)",
        model.key_value(),
        model.fields[field].sql,
        model.from,
        kept_condition(model),
        model.fields[field].sql,
    );
    let stream = source.copy_out(&sql).await?;
    pin_mut!(stream);
    let (mut reader, mut tuple) = (Reader::default(), Tuple::default());
    while let Some(chunk) = stream.next().await {
        let payload = reader.payload(&chunk?)?;
        let mut rest: &[u8] = &payload;
        while !rest.is_empty() {
            let Some(used) = tuple.parse(rest, 3)? else {
                break;
            };
            let id = id_of(model.numeric, tuple.field(rest, 0))?;
            let case = tuple.field(rest, 1).unwrap_or_default();
            if own.contains_key(&(model.name.clone(), id.clone()))
                && let Some(parent) = cases.get(case)
            {
                let text =
                    String::from_utf8_lossy(tuple.field(rest, 2).unwrap_or_default()).into_owned();
                edges.push(Edge {
                    entity: model.name.clone(),
                    id,
                    column,
                    parent: parent.clone(),
                    parent_id: LegacyId::Text(text),
                    required: *missing == MissingKey::Quarantine,
                    fallback: match missing {
                        MissingKey::Key(key) => Uuid::from_slice(key).ok(),
                        _ => None,
                    },
                });
            }
            rest = &rest[used..];
        }
    }
    Ok(())
}

fn id_of(numeric: bool, field: Option<&[u8]>) -> Result<LegacyId> {
    let corrupt = || {
        Error::new(
            Kind::Internal,
            "the source sent a key that is not laid out as its type says",
        )
    };
    let field = field.ok_or_else(corrupt)?;
    if numeric {
        return Ok(LegacyId::Number(i64::from_be_bytes(
            field.try_into().map_err(|_| corrupt())?,
        )));
    }
    Ok(LegacyId::Text(
        std::str::from_utf8(field)
            .map_err(|_| corrupt())?
            .to_owned(),
    ))
}

fn find(keys: &HashMap<String, Arc<KeyMap>>, entity: &str, id: &LegacyId) -> Found {
    let (Some(map), LegacyId::Text(text)) = (keys.get(entity), id) else {
        return Found::Absent;
    };
    if map.is_numeric() {
        text.parse().map_or(Found::Absent, |n| map.number(n))
    } else {
        map.text(text.as_bytes())
    }
}

/// The rows that can't stay, each with its reasons: those without a required parent, and all that
/// require one of those.
pub(crate) fn closure(
    edges: &[Edge],
    keys: &HashMap<String, Arc<KeyMap>>,
) -> BTreeMap<(String, LegacyId), Vec<(usize, Reason)>> {
    let mut doomed: BTreeMap<(String, LegacyId), Vec<(usize, Reason)>> = BTreeMap::new();
    let mut children: HashMap<(&str, &LegacyId), Vec<&Edge>> = HashMap::new();
    let mut waiting: Vec<(String, String)> = Vec::new();
    let doom = |doomed: &mut BTreeMap<_, Vec<_>>, waiting: &mut Vec<_>, edge: &Edge, code| {
        let reason = Reason::parent(code, "", &edge.parent, edge.parent_id.to_string());
        let reasons = doomed
            .entry((edge.entity.clone(), edge.id.clone()))
            .or_default();
        if reasons.is_empty() {
            waiting.push((edge.entity.clone(), edge.id.to_string()));
        }
        reasons.push((edge.column, reason));
    };
    for edge in edges.iter().filter(|e| e.required) {
        children
            .entry((edge.parent.as_str(), &edge.parent_id))
            .or_default()
            .push(edge);
        match find(keys, &edge.parent, &edge.parent_id) {
            Found::Key(_) => {}
            Found::Stopped => doom(&mut doomed, &mut waiting, edge, "blocked_parent"),
            Found::Absent => doom(&mut doomed, &mut waiting, edge, "missing_parent"),
        }
    }
    let mut seen: HashSet<(String, String)> = HashSet::new();
    while let Some((entity, id)) = waiting.pop() {
        if !seen.insert((entity.clone(), id.clone())) {
            continue;
        }
        let id = LegacyId::Text(id);
        for edge in children.get(&(entity.as_str(), &id)).into_iter().flatten() {
            doom(&mut doomed, &mut waiting, edge, "blocked_parent");
        }
    }
    doomed
}

async fn take_out(
    source: &Session,
    target: &Session,
    load: &EntityLoad,
    doomed: &BTreeMap<(String, LegacyId), Vec<(usize, Reason)>>,
    own: &OwnRows,
) -> Result<()> {
    let model = &load.model;
    let mut by_batch: BTreeMap<i32, Faults> = BTreeMap::new();
    let mut keys = Vec::new();
    for ((_, id), reasons) in doomed
        .iter()
        .filter(|((entity, _), _)| *entity == model.name)
    {
        let Some((key, batch)) = own.get(&(model.name.clone(), id.clone())) else {
            continue;
        };
        keys.push(*key);
        let reasons = reasons
            .iter()
            .map(|(column, reason)| Reason {
                column: Some(model.outputs[*column].column.clone()),
                ..reason.clone()
            })
            .collect();
        by_batch.entry(*batch).or_default().add(id.clone(), reasons);
    }
    if keys.is_empty() {
        return Ok(());
    }
    let mut quarantined = Vec::new();
    for (batch, faults) in by_batch {
        quarantined.push((batch, quarantined_rows(source, model, faults).await?));
    }
    transaction(target, load, async || {
        delete_rows(target, model, &keys).await?;
        for (batch, rows) in &quarantined {
            regraft_ledger::move_inserted(target, load.run_no, *batch, &model.name, rows).await?;
        }
        Ok(())
    })
    .await
}

/// Fills in the references of an entity, a part at a time, each part in a transaction under the
/// checkpoint's fence. What is filled in already is left alone, so that this can be done again.
async fn write_links(
    target: &Session,
    load: &EntityLoad,
    edges: &[Edge],
    keys: &HashMap<String, Arc<KeyMap>>,
    own: &OwnRows,
) -> Result<()> {
    let model = &load.model;
    for column in model.later_columns() {
        let mut links: Vec<(Uuid, Uuid)> = Vec::new();
        for edge in edges
            .iter()
            .filter(|e| e.entity == model.name && e.column == column)
        {
            let child = own.get(&(model.name.clone(), edge.id.clone()));
            let parent = match find(keys, &edge.parent, &edge.parent_id) {
                Found::Key(key) => Some(key),
                _ => edge.fallback,
            };
            if let (Some((child, _)), Some(parent)) = (child, parent) {
                links.push((*child, parent));
            }
        }
        let position = fingerprint_position(model, column);
        for part in links.chunks(20_000) {
            transaction(target, load, async || {
                update(target, model, column, position, part).await
            })
            .await?;
        }
    }
    Ok(())
}

/// Where a column's 4 bytes begin among the column fingerprints, counted from 1 as SQL does.
fn fingerprint_position(model: &EntityModel, column: usize) -> i32 {
    let before = model.outputs[..column]
        .iter()
        .filter(|o| !matches!(o.rule, OutputRule::Key))
        .count();
    4 * before as i32 + 1
}

async fn update(
    target: &Session,
    model: &EntityModel,
    column: usize,
    position: i32,
    links: &[(Uuid, Uuid)],
) -> Result<()> {
    let (children, parents): (Vec<Uuid>, Vec<Uuid>) = links.iter().copied().unzip();
    let name = ident(&model.outputs[column].column);
    target
        .execute(
            &format!(
                "update {} t set {name} = l.parent from unnest($1::uuid[], $2::uuid[]) l (child, parent) \
                 where t.{} = l.child and t.{name} is distinct from l.parent",
                model.table.sql_name(),
                ident(&model.key_column)
            ),
            &[&children, &parents],
        )
        .await?;
    let prints: Vec<Vec<u8>> = parents
        .iter()
        .map(|parent| fingerprint_of(parent.as_bytes()).to_vec())
        .collect();
    target
        .execute(
            "update regraft.migration_mappings m
             set column_fingerprints = overlay(m.column_fingerprints placing l.print from $4 for 4)
             from unnest($1::uuid[], $2::bytea[]) l (child, print)
             where m.entity = $3 and m.new_id = l.child
               and substring(m.column_fingerprints from $4 for 4) <> l.print",
            &[&children, &prints, &model.name, &position],
        )
        .await?;
    Ok(())
}

/// Runs `work` in a transaction that commits only under the checkpoint's fence.
async fn transaction(
    target: &Session,
    load: &EntityLoad,
    work: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    crate::transaction::run(target, load.nested, async || {
        regraft_ledger::set_phase(&**target, &load.checkpoint, Phase::Linking).await?;
        work().await
    })
    .await
}
