//! References inside a cycle (a table that refers to itself, or tables that refer to each other).
//!
//! Rows are loaded with such columns NULL; when the whole cycle is in place, this pass fills them
//! in. A row whose parent turns out not to be there is taken out again, and with it every row of
//! the cycle that hangs on it, before anything is linked, so that no half-linked row ever stays.
//!
//! References are read from the source as often as they are needed, never kept: only what can't
//! stay is held in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use regraft_ledger::Phase;
use regraft_pg::Session;
use regraft_pg::copy::Rows;
use regraft_pg::quote::ident;
use uuid::Uuid;

use crate::bulk;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::keys::{Found, KeyMap, LegacyId};
use crate::load::{EntityLoad, Reason, ReferenceSurvey, corrupt, fingerprint_of, wanted_condition};
use crate::model::{EntityModel, MissingKey, Model, OutputRule};

/// Keys by entity.
pub(crate) type Keys = HashMap<String, Arc<KeyMap>>;

/// Links the entities of one component, all of which are loaded.
pub(crate) async fn link(
    context: &Context,
    all: &Model,
    source: &Session,
    target: &Session,
    loads: &[Arc<EntityLoad>],
) -> Result<()> {
    let models: Vec<&EntityModel> = loads.iter().map(|load| &*load.model).collect();
    if models.iter().all(|model| model.later_columns().is_empty()) {
        return Ok(());
    }
    for model in &models {
        context.events.send(Event::PhaseStarted {
            entity: model.name.clone(),
            phase: "references in cycles".to_owned(),
        });
    }
    let mut keys = component_keys(context, all, target, &models).await?;
    let own = own_keys(context, target, loads).await?;
    let doomed = doomed(source, &models, &own, &keys).await?;
    for load in loads {
        if let Some(rows) = doomed.of(&load.model.name) {
            take_out(source, target, load, rows, &own).await?;
        }
    }
    if !doomed.is_empty() {
        keys = component_keys(context, all, target, &models).await?;
    }
    for load in loads {
        for column in load.model.later_columns() {
            write_links(context, (source, target), all, load, column, &own, &keys).await?;
        }
    }
    Ok(())
}

/// The keys of every entity that the component's rows refer to.
async fn component_keys(
    context: &Context,
    all: &Model,
    target: &Session,
    models: &[&EntityModel],
) -> Result<Keys> {
    let mut keys = HashMap::new();
    for parent in models.iter().flat_map(|model| model.parents()) {
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

/// The keys of the rows that this run wrote.
async fn own_keys(context: &Context, target: &Session, loads: &[Arc<EntityLoad>]) -> Result<Keys> {
    let mut own = HashMap::new();
    for load in loads {
        let budget = context.settings.key_memory;
        let map = crate::migrate::keys_of_run(target, &load.model, load.run_no, budget).await?;
        own.insert(load.model.name.clone(), Arc::new(map));
    }
    Ok(own)
}

/// A reference that waits for its cycle, as the project has it.
struct Reference<'a> {
    model: &'a EntityModel,
    column: usize,
    by: Option<usize>,
    field: usize,
    cases: HashMap<&'a [u8], &'a str>,
    missing: &'a MissingKey,
}

/// One reference of one row.
struct Edge<'a> {
    id: LegacyId,
    /// The row's own key.
    key: Uuid,
    parent: &'a str,
    /// The parent's legacy id as text.
    parent_id: String,
}

impl<'a> Reference<'a> {
    fn of(model: &'a EntityModel, column: usize) -> Option<Self> {
        let (by, field, cases, missing) = match &model.outputs[column].rule {
            OutputRule::Reference {
                field,
                entity,
                missing,
                ..
            } => (
                None,
                *field,
                HashMap::from([(&b""[..], entity.as_str())]),
                missing,
            ),
            OutputRule::ReferenceBy {
                by,
                field,
                cases,
                missing,
                ..
            } => {
                let cases = cases.iter().map(|(k, v)| (k.as_slice(), v.as_str()));
                (Some(*by), *field, cases.collect(), missing)
            }
            _ => return None,
        };
        Some(Self {
            model,
            column,
            by,
            field,
            cases,
            missing,
        })
    }

    async fn read<'s>(&self, source: &'s Session) -> Result<Rows<'s>> {
        let model = self.model;
        let field = &model.fields[self.field].sql;
        let query = format!(
            "select {}, {}, ({field})::text from {}\nwhere {} and {field} is not null",
            model.key_value(),
            self.by
                .map_or("''::text", |by| model.fields[by].sql.as_str()),
            model.from,
            wanted_condition(model),
        );
        Ok(Rows::of(source, &query, 3).await?)
    }

    /// The next reference of a row that is among `own`.
    async fn next(&self, rows: &mut Rows<'_>, own: &KeyMap) -> Result<Option<Edge<'a>>> {
        while let Some((id, parent, parent_id)) = self.next_of_any(rows).await? {
            if let Found::Key(key) = own.find_id(&id) {
                return Ok(Some(Edge {
                    id,
                    key,
                    parent,
                    parent_id,
                }));
            }
        }
        Ok(None)
    }

    /// The next row with a reference: its id, the parent's entity and the parent's id as text.
    async fn next_of_any(
        &self,
        rows: &mut Rows<'_>,
    ) -> Result<Option<(LegacyId, &'a str, String)>> {
        while let Some(row) = rows.next().await? {
            if let Some(parent) = self.cases.get(row.get(1).unwrap_or_default()) {
                let id = LegacyId::from_field(self.model.numeric, row.get(0))
                    .ok_or_else(|| corrupt(&self.model.name))?;
                let text = String::from_utf8_lossy(row.get(2).unwrap_or_default());
                return Ok(Some((id, parent, text.into_owned())));
            }
        }
        Ok(None)
    }
}

/// Counts where a reference that waits for its cycle leads, for every kept row but those in
/// `unread`; `keys` are those of all entities when the cycle was read.
pub(crate) async fn follow(
    source: &Session,
    model: &EntityModel,
    survey: &mut ReferenceSurvey,
    keys: &Keys,
    unread: &HashSet<LegacyId>,
) -> Result<()> {
    let Some(reference) = survey.output.and_then(|at| Reference::of(model, at)) else {
        return Ok(());
    };
    let mut rows = reference.read(source).await?;
    while let Some((id, entity, parent_id)) = reference.next_of_any(&mut rows).await? {
        if unread.contains(&id) {
            continue;
        }
        let (parent_id, found) = find(keys, entity, parent_id);
        if let (Some(parent), Some(parent_id)) = (survey.parent(entity), parent_id) {
            survey.note(&id, parent, parent_id, found);
        }
    }
    Ok(())
}

fn find(keys: &Keys, parent: &str, parent_id: String) -> (Option<LegacyId>, Found) {
    let Some(map) = keys.get(parent) else {
        return (None, Found::Absent);
    };
    let id = if map.is_numeric() {
        parent_id.parse().ok().map(LegacyId::Number)
    } else {
        Some(LegacyId::Text(parent_id))
    };
    let found = id.as_ref().map_or(Found::Absent, |id| map.find_id(id));
    (id, found)
}

/// The rows of a cycle that can't stay, with the columns at fault and why.
#[derive(Default)]
pub(crate) struct Doomed {
    rows: BTreeMap<String, BTreeMap<LegacyId, BTreeMap<usize, Reason>>>,
    reasons: usize,
}

impl Doomed {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Those of one entity.
    pub(crate) fn of(&self, entity: &str) -> Option<&BTreeMap<LegacyId, BTreeMap<usize, Reason>>> {
        self.rows.get(entity)
    }

    fn contains(&self, entity: &str, id: Option<&LegacyId>) -> bool {
        let rows = self.rows.get(entity);
        id.is_some_and(|id| rows.is_some_and(|rows| rows.contains_key(id)))
    }

    fn add(&mut self, reference: &Reference<'_>, edge: Edge<'_>, code: &'static str) {
        let model = reference.model;
        let rows = self.rows.entry(model.name.clone()).or_default();
        let column = &model.outputs[reference.column].column;
        let reason = Reason::parent(code, column, edge.parent, edge.parent_id);
        let reasons = rows.entry(edge.id).or_default();
        if reasons.insert(reference.column, reason).is_none() {
            self.reasons += 1;
        }
    }
}

/// Finds the rows among `own` that can't stay: those without a required parent, and all that
/// require one of those.
///
/// Reads the references until a pass finds no more. A parent mostly comes before its children, so
/// that one pass finds a whole branch and a second one that there is nothing left.
pub(crate) async fn doomed(
    source: &Session,
    models: &[&EntityModel],
    own: &Keys,
    keys: &Keys,
) -> Result<Doomed> {
    let mut doomed = Doomed::default();
    loop {
        let before = doomed.reasons;
        for model in models {
            let Some(own) = own.get(&model.name) else {
                continue;
            };
            let references = model.later_columns().into_iter();
            for reference in references.filter_map(|column| Reference::of(model, column)) {
                if *reference.missing != MissingKey::Quarantine {
                    continue;
                }
                let mut rows = reference.read(source).await?;
                while let Some(edge) = reference.next(&mut rows, own).await? {
                    match find(keys, edge.parent, edge.parent_id.clone()) {
                        (_, Found::Stopped) => doomed.add(&reference, edge, "blocked_parent"),
                        (_, Found::Absent) => doomed.add(&reference, edge, "missing_parent"),
                        (id, Found::Key(_)) if doomed.contains(edge.parent, id.as_ref()) => {
                            doomed.add(&reference, edge, "blocked_parent");
                        }
                        (_, Found::Key(_)) => {}
                    }
                }
            }
        }
        if doomed.reasons == before {
            return Ok(doomed);
        }
    }
}

async fn take_out(
    source: &Session,
    target: &Session,
    load: &EntityLoad,
    doomed: &BTreeMap<LegacyId, BTreeMap<usize, Reason>>,
    own: &Keys,
) -> Result<()> {
    let own = own.get(&load.model.name);
    let keys: Vec<Uuid> = doomed
        .keys()
        .filter_map(|id| match own?.find_id(id) {
            Found::Key(key) => Some(key),
            _ => None,
        })
        .collect();
    let rows = bulk::written(target, load, &keys).await?;
    let faulty = rows
        .into_iter()
        .filter_map(|row| {
            let reasons = doomed.get(&row.id)?.values().cloned().collect();
            Some((row, reasons))
        })
        .collect();
    bulk::remove(target, source, load, Phase::Linking, faulty).await
}

/// Fills in a reference, a part at a time, each part in a transaction under the checkpoint's
/// fence. What is filled in already is left alone, so that this can be done again.
async fn write_links(
    context: &Context,
    (source, target): (&Session, &Session),
    all: &Model,
    load: &EntityLoad,
    column: usize,
    own: &Keys,
    keys: &Keys,
) -> Result<()> {
    let model = &load.model;
    let (Some(reference), Some(own)) = (Reference::of(model, column), own.get(&model.name)) else {
        return Ok(());
    };
    let fallback = match reference.missing {
        MissingKey::Key(key) => Uuid::from_slice(key).ok(),
        _ => None,
    };
    let mut rows = reference.read(source).await?;
    let mut links: Vec<Link<'_>> = Vec::new();
    loop {
        let edge = reference.next(&mut rows, own).await?;
        if links.len() >= LINKS_AT_ONCE || edge.is_none() && !links.is_empty() {
            let written = transaction(context, target, load, async || {
                update(target, model, column, &links).await
            });
            match written.await {
                Err(error)
                    if is_about_a_parent(&error)
                        && *reference.missing != MissingKey::Quarantine =>
                {
                    keep_those_there(target, all, &mut links).await?;
                    transaction(context, target, load, async || {
                        update(target, model, column, &links).await
                    })
                    .await?;
                }
                written => written?,
            }
            links.clear();
        }
        let Some(edge) = edge else { return Ok(()) };
        let parent = match find(keys, edge.parent, edge.parent_id).1 {
            Found::Key(key) => Some(key),
            _ => fallback,
        };
        links.extend(parent.map(|parent| Link {
            child: edge.key,
            parent,
            of: edge.parent,
        }));
    }
}

/// A reference to be filled in.
struct Link<'a> {
    child: Uuid,
    parent: Uuid,
    /// The parent's entity.
    of: &'a str,
}

/// Whether a row that was to be referred to is not in the target: somebody has deleted it.
fn is_about_a_parent(error: &Error) -> bool {
    let state = error.database().and_then(regraft_pg::Error::sqlstate);
    state == Some("23503")
}

/// Drops the references to rows that somebody has deleted from the target.
async fn keep_those_there(target: &Session, all: &Model, links: &mut Vec<Link<'_>>) -> Result<()> {
    let mut there: HashSet<Uuid> = HashSet::new();
    let entities: HashSet<&str> = links.iter().map(|link| link.of).collect();
    for entity in entities {
        let Some(model) = all.entities.get(entity) else {
            continue;
        };
        let of = links.iter().filter(|link| link.of == entity);
        let parents: Vec<Uuid> = of.map(|link| link.parent).collect();
        let key = ident(&model.key_column);
        let sql = format!(
            "select {key} from {} where {key} = any ($1)",
            model.table.sql_name()
        );
        let rows = target.query(&sql, &[&parents]).await?;
        there.extend(rows.iter().map(|row| row.get::<_, Uuid>(0)));
    }
    links.retain(|link| there.contains(&link.parent));
    Ok(())
}

/// References that are filled in by one statement.
const LINKS_AT_ONCE: usize = 20_000;

/// Where a column's 4 bytes begin among the column fingerprints, counted from 1 as SQL does.
pub(crate) fn fingerprint_position(model: &EntityModel, column: usize) -> i32 {
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
    links: &[Link<'_>],
) -> Result<()> {
    let (children, parents): (Vec<Uuid>, Vec<Uuid>) =
        links.iter().map(|link| (link.child, link.parent)).unzip();
    let name = ident(&model.outputs[column].column);
    let position = fingerprint_position(model, column);
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

/// Runs `work` in a transaction that commits only under the checkpoint's fence; again where an
/// application stood in its way, which may lock the same rows in another order.
async fn transaction(
    context: &Context,
    target: &Session,
    load: &EntityLoad,
    mut work: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    crate::transaction::run_again(context, target, load.nested, async || {
        regraft_ledger::set_phase(&**target, &load.checkpoint, Phase::Linking).await?;
        work().await
    })
    .await
}
