//! `rollback`: undoes what named runs wrote, and nothing else.
//!
//! What a run deleted comes back, parents first; then what it overwrote is put back; then the rows
//! that it inserted go, children first. In this order every foreign key holds all the way. What
//! others have changed since is left, and told.

mod kept;
mod reversal;

use std::collections::{BTreeMap, BTreeSet};

use regraft_ledger::{LeftRow, NewRun, Operation, Parent, Run, RunStatus, UndoneTable};
use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Table};
use regraft_pg::quote::ident;
use regraft_project::Selection;
use serde::Serialize;
use serde_json::json;

use crate::bulk::{Dropped, Present};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::failpoints;
use crate::migrate::{install_ledger, lock};
use crate::receipt::require_ledger;
use crate::transaction;
use reversal::Reversal;

/// What is to be undone.
#[derive(Debug, Clone)]
pub enum RollbackTarget {
    /// Every run's rows of these entities.
    Selection(Selection),
    /// One run.
    Run(String),
}

/// What a rollback would do.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackPreview {
    /// The runs that wrote the rows.
    pub runs: Vec<String>,
    /// Entity by entity, children first.
    pub steps: Vec<RollbackStep>,
    /// What stands in the way; nothing is undone while this isn't empty.
    pub obstacles: Vec<String>,
    /// What will be left as it is, row by row.
    pub left: Vec<LeftRow>,
}

/// What a rollback does to one entity.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackStep {
    /// The entity.
    pub entity: String,
    /// The table.
    pub table: String,
    /// Rows to delete: the runs had inserted them.
    pub rows: u64,
    /// Rows in which what the runs had overwritten is put back.
    pub put_back: u64,
    /// Rows that come back: the runs had deleted them.
    pub brought_back: u64,
    /// Rows that are left as they are.
    pub left: u64,
    /// Entries of the quarantine to delete.
    pub quarantine: u64,
    /// Whether indexes or constraints that an interrupted load took off are brought back.
    pub restores_indexes: bool,
    /// The runs that wrote them.
    pub runs: Vec<String>,
}

/// What a rollback did.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackDone {
    /// Its own run id.
    pub run_id: String,
    /// What was undone, in that order.
    pub steps: Vec<RollbackStep>,
    /// What was left as it is, row by row.
    pub left: Vec<LeftRow>,
}

/// One entity's part, with what the deletion needs.
struct Part {
    step: RollbackStep,
    schema: String,
    table: String,
    key_column: String,
    /// The runs whose rows go.
    numbers: Vec<i32>,
    /// Rows that these wrote.
    written: u64,
    /// The runs being undone that changed rows of others.
    changed_by: Vec<i32>,
    /// Rows of others that they deleted.
    deletes: u64,
    /// What undoing these changes needs.
    undone: UndoneTable,
    /// Runs that rebuilt mappings: what they mapped goes out of the ledger, but nobody knows that
    /// the rows are regraft's, so those stay.
    adopted: Vec<i32>,
    dropped: Vec<(i32, Vec<Dropped>)>,
    /// References from rows that go later, as in a cycle: (table, its key column, column, entity,
    /// its runs). They are emptied before this part goes.
    back_references: Vec<BackReference>,
}

struct BackReference {
    table: String,
    key_column: String,
    column: String,
    entity: String,
    numbers: Vec<i32>,
}

/// What a rollback would do, counted. What was changed is undone for it, in a transaction that is
/// rolled back: so it is told exactly what can be.
///
/// # Errors
/// An unknown run; a target without a ledger.
pub async fn preview_rollback(
    context: &Context,
    what: &RollbackTarget,
    force: bool,
) -> Result<RollbackPreview> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let mut parts = parts(context, &target, what).await?;
    preview(&target, context, &mut parts, what, force).await
}

async fn preview(
    target: &Session,
    context: &Context,
    parts: &mut [Part],
    what: &RollbackTarget,
    force: bool,
) -> Result<RollbackPreview> {
    target.batch_execute("begin").await?;
    let rehearsed = rehearse(target, context, parts, what, force).await;
    if !target.is_closed() {
        target.batch_execute("rollback").await?;
    }
    let (left, obstacles) = rehearsed?;
    let mut runs: Vec<String> = parts.iter().flat_map(|p| p.step.runs.clone()).collect();
    runs.sort();
    runs.dedup();
    Ok(RollbackPreview {
        runs,
        obstacles,
        steps: parts.iter().map(|p| p.step.clone()).collect(),
        left,
    })
}

/// Counts what can be undone, by undoing it as far as that tells something: what is left, and what
/// stands in the way.
async fn rehearse(
    target: &Session,
    context: &Context,
    parts: &mut [Part],
    what: &RollbackTarget,
    force: bool,
) -> Result<(Vec<LeftRow>, Vec<String>)> {
    regraft_ledger::install(&**target).await?;
    regraft_ledger::create_left(&**target).await?;
    let runs = changing_runs(parts);
    let mut reversal = Reversal {
        context,
        target,
        parts,
        runs: &runs,
        force,
        run_no: None,
        undone: Vec::new(),
    };
    reversal.changes().await?;
    if matches!(what, RollbackTarget::Run(_)) {
        kept::leave_inserts(target, parts_of(&reversal), force).await?;
    }
    // What was deleted may wait for its place, which a row has that goes.
    if (0..reversal.parts.len()).any(|at| reversal.waits(at)) {
        target.batch_execute("savepoint regraft_rows").await?;
        let mut deleted = true;
        for part in reversal.parts {
            // An obstacle is told in its own words.
            deleted = deleted && delete_rows(target, part).await.is_ok();
        }
        if deleted {
            reversal.changes().await?;
        }
        reversal.leave_deletes().await?;
        let left = regraft_ledger::left_rows(&**target).await;
        target
            .batch_execute("rollback to savepoint regraft_rows")
            .await?;
        let undone = std::mem::take(&mut reversal.undone);
        count(parts, &undone, left.as_deref().unwrap_or_default());
        let obstacles = obstacles(target, context, parts).await?;
        return Ok((left?, obstacles));
    }
    let undone = std::mem::take(&mut reversal.undone);
    let left = regraft_ledger::left_rows(&**target).await?;
    count(parts, &undone, &left);
    let obstacles = obstacles(target, context, parts).await?;
    Ok((left, obstacles))
}

fn parts_of<'a>(reversal: &Reversal<'a>) -> &'a [Part] {
    reversal.parts
}

/// The runs that changed rows of others, latest first.
fn changing_runs(parts: &[Part]) -> Vec<i32> {
    let runs: BTreeSet<i32> = parts.iter().flat_map(|p| p.changed_by.clone()).collect();
    runs.into_iter().rev().collect()
}

/// Enters into the steps what was found out.
fn count(parts: &mut [Part], undone: &[crate::receipt::Undone], left: &[LeftRow]) {
    for part in parts {
        let entity = part.step.entity.as_str();
        let of = |operation| reversal::count(left, entity, operation);
        let found = undone.iter().find(|entry| entry.entity == entity);
        part.step.put_back = found.map_or(0, |entry| entry.put_back);
        part.step.brought_back = found.map_or(0, |entry| entry.brought_back);
        part.step.rows = part.written.saturating_sub(of(Operation::Insert));
        part.step.left = of(Operation::Insert) + of(Operation::Update) + of(Operation::Delete);
    }
}

/// The entities to undo, children first, with the runs whose rows go.
async fn parts(context: &Context, target: &Session, what: &RollbackTarget) -> Result<Vec<Part>> {
    let project = &context.project;
    let numbers: BTreeMap<i32, String> = regraft_ledger::list_runs(&**target, 100_000)
        .await?
        .into_iter()
        .filter(|run| {
            matches!(
                run.command.as_str(),
                "migrate" | "retry" | "backfill" | "differential" | "resolve"
            )
        })
        .map(|run| (run.run_no, run.run_id))
        .collect();
    let (only, entities): (Option<i32>, Vec<String>) = match what {
        RollbackTarget::Run(id) => {
            let run = regraft_ledger::find_run(&**target, id)
                .await?
                .filter(|r| numbers.contains_key(&r.run_no));
            let Some(run) = run else {
                let latest: Vec<&str> =
                    numbers.values().rev().take(5).map(String::as_str).collect();
                return Err(Error::new(
                    Kind::Usage,
                    format!("there is no run `{id}` in this target that can be undone"),
                )
                .hint(format!("the latest are {}", latest.join(", "))));
            };
            if run.detail.get(regraft_ledger::IMAGES_REMOVED).is_some() {
                return Err(images_removed(id));
            }
            let entities = regraft_ledger::entities_of_run(&**target, run.run_no).await?;
            (Some(run.run_no), entities)
        }
        RollbackTarget::Selection(selection) => (
            None,
            selection
                .entities()
                .iter()
                .map(|s| s.entity.clone())
                .collect(),
        ),
    };
    let all = project
        .select(&[], false)
        .map_err(|e| Error::new(Kind::Usage, e.to_string()))?;
    let namespace = project.manifest().target.namespace.as_str();
    let catalog = Catalog::read(&**target, &[]).await?;
    let mut parts = Vec::new();
    for step in all
        .entities()
        .iter()
        .rev()
        .filter(|step| entities.contains(&step.entity))
    {
        let Some(entity) = project.entity(&step.entity) else {
            continue;
        };
        let (schema, table) = entity.target.schema_and_table(namespace);
        let part = part(target, &step.entity, table, only, &numbers).await?;
        let mut part = Part {
            schema: schema.to_owned(),
            table: regraft_pg::quote::qualified(schema, table),
            key_column: entity.target.key.column.value.clone(),
            ..part
        };
        part.undone = undone_table(&catalog, &part);
        find_changes(target, &mut part, only, &numbers).await?;
        parts.push(part);
    }
    for at in 0..parts.len() {
        parts[at].back_references = back_references(&catalog, &parts, at);
    }
    Ok(parts)
}

/// What undoing changes of a part's rows needs to know of their table.
/// Of later runs, too, it is not known any more which rows they changed.
fn images_removed(run_id: &str) -> Error {
    Error::new(
        Kind::Usage,
        format!(
            "run `{run_id}` can't be undone: what rows were before it, and before the runs after it, \
             was removed from the ledger by its age"
        ),
    )
    .hint(
        "`regraft rollback ENTITY` undoes all runs of an entity; REGRAFT_LEDGER_DAYS says for how long \
         single runs can be undone",
    )
}

fn undone_table(catalog: &Catalog, part: &Part) -> UndoneTable {
    let table = catalog.tables.iter().find(|t| t.sql_name() == part.table);
    let columns = table.into_iter().flat_map(|t| &t.columns);
    let constraints = table.into_iter().flat_map(|t| &t.constraints);
    UndoneTable {
        entity: part.step.entity.clone(),
        table: part.table.clone(),
        key: part.key_column.clone(),
        columns: columns
            .filter(|column| !column.is_generated())
            .map(|column| (column.name.clone(), column.type_name.clone()))
            .collect(),
        parents: constraints
            .filter(|c| c.kind == "f")
            .filter_map(|c| {
                let schema = c.foreign_schema.as_deref()?;
                let may_be_null = |name: &String| {
                    let column = table.and_then(|t| t.column(name));
                    column.is_some_and(|column| !column.not_null)
                };
                Some(Parent {
                    columns: c.columns.clone(),
                    table: regraft_pg::quote::qualified(schema, c.foreign_table.as_deref()?),
                    foreign: c.foreign_columns.clone()?,
                    nullable: c.columns.iter().all(may_be_null),
                })
            })
            .collect(),
        deleted_runs: part.numbers.clone(),
    }
}

/// What the runs changed in rows of others.
async fn find_changes(
    target: &Session,
    part: &mut Part,
    only: Option<i32>,
    names: &BTreeMap<i32, String>,
) -> Result<()> {
    let entity = part.step.entity.clone();
    for run in regraft_ledger::runs_that_changed(&**target, &entity).await? {
        if only.is_some_and(|only| only != run) {
            continue;
        }
        let (updates, deletes) =
            regraft_ledger::changes_to_undo(&**target, &entity, run, &part.numbers).await?;
        if updates + deletes == 0 {
            continue;
        }
        part.changed_by.push(run);
        part.deletes += deletes.unsigned_abs();
        let name = names.get(&run);
        part.step
            .runs
            .extend(name.filter(|n| !part.step.runs.contains(n)).cloned());
    }
    Ok(())
}

/// The references to a part's rows from parts that are undone after it.
fn back_references(catalog: &Catalog, parts: &[Part], at: usize) -> Vec<BackReference> {
    let mut found = Vec::new();
    for later in &parts[at + 1..] {
        let Some(table) = catalog.tables.iter().find(|t| t.sql_name() == later.table) else {
            continue;
        };
        for key in table
            .constraints
            .iter()
            .filter(|c| c.kind == "f" && c.columns.len() == 1)
        {
            let to = key
                .foreign_schema
                .as_deref()
                .zip(key.foreign_table.as_deref());
            let to = to.map(|(schema, name)| regraft_pg::quote::qualified(schema, name));
            let column = &key.columns[0];
            let nullable = table.column(column).is_some_and(|c| !c.not_null);
            if nullable && to.as_deref() == Some(parts[at].table.as_str()) {
                found.push(BackReference {
                    table: later.table.clone(),
                    key_column: later.key_column.clone(),
                    column: column.clone(),
                    entity: later.step.entity.clone(),
                    numbers: later.numbers.clone(),
                });
            }
        }
    }
    found
}

async fn part(
    target: &Session,
    entity: &str,
    table: &str,
    only: Option<i32>,
    names: &BTreeMap<i32, String>,
) -> Result<Part> {
    let (written, adopted): (Vec<_>, Vec<_>) = regraft_ledger::runs_that_wrote(&**target, entity)
        .await?
        .into_iter()
        .filter(|(number, _)| only.is_none_or(|only| only == *number))
        .partition(|(number, _)| names.contains_key(number));
    let mut numbers: Vec<i32> = written.iter().map(|(number, _)| *number).collect();
    numbers.extend(only.filter(|only| !numbers.contains(only)));
    let mut dropped = Vec::new();
    for number in names.keys().filter(|n| only.is_none_or(|only| only == **n)) {
        let checkpoint = regraft_ledger::checkpoints(&**target, *number)
            .await?
            .into_iter()
            .find(|c| c.entity == entity);
        let Some(checkpoint) = checkpoint else {
            continue;
        };
        let off: Vec<Dropped> = serde_json::from_value(checkpoint.dropped).unwrap_or_default();
        if !off.is_empty() {
            dropped.push((*number, off));
        }
        if !numbers.contains(number) {
            numbers.push(*number);
        }
    }
    let quarantine: i64 = target
        .query_one(
            "select count(*) from regraft.migration_quarantine where entity = $1 and run_no = any ($2)",
            &[&entity, &numbers],
        )
        .await?
        .get(0);
    Ok(Part {
        step: RollbackStep {
            entity: entity.to_owned(),
            table: table.to_owned(),
            rows: written.iter().map(|(_, rows)| rows.unsigned_abs()).sum(),
            put_back: 0,
            brought_back: 0,
            left: 0,
            quarantine: quarantine.unsigned_abs(),
            restores_indexes: !dropped.is_empty(),
            runs: written
                .iter()
                .filter_map(|(n, _)| names.get(n).cloned())
                .collect(),
        },
        schema: String::new(),
        table: String::new(),
        key_column: String::new(),
        written: written.iter().map(|(_, rows)| rows.unsigned_abs()).sum(),
        changed_by: Vec::new(),
        deletes: 0,
        undone: UndoneTable {
            entity: entity.to_owned(),
            table: String::new(),
            key: String::new(),
            columns: Vec::new(),
            parents: Vec::new(),
            deleted_runs: Vec::new(),
        },
        numbers,
        adopted: adopted.into_iter().map(|(number, _)| number).collect(),
        dropped,
        back_references: Vec::new(),
    })
}

/// Rows of other tables that refer to rows which would go, and would not go themselves.
async fn obstacles(target: &Session, context: &Context, parts: &[Part]) -> Result<Vec<String>> {
    let mut obstacles = Vec::new();
    for part in parts {
        let left =
            regraft_ledger::merged_into_others(&**target, &part.step.entity, &part.numbers).await?;
        if left > 0 {
            obstacles.push(format!(
                "{left} rows of {} that later runs merged into these would lose their row",
                part.step.entity
            ));
        }
    }
    let catalog = Catalog::read(&**target, &[]).await?;
    let namespace = context.project.manifest().target.namespace.as_str();
    target.batch_execute(LARGE_JOINS).await?;
    for child in &catalog.tables {
        // A partition has the foreign keys of its table, under whose name its rows go or stay.
        if child.is_partition
            || !refers_to(child, parts)
            || goes_as_a_whole(target, parts, child, namespace).await?
        {
            continue;
        }
        for part in parts.iter().filter(|p| p.step.rows > 0) {
            for key in child.constraints.iter().filter(|c| {
                c.kind == "f"
                    && c.foreign_table.as_deref() == Some(part.step.table.as_str())
                    && c.columns.len() == 1
                    && c.foreign_columns.as_deref() == Some(std::slice::from_ref(&part.key_column))
            }) {
                let goes = goes_too(parts, &child.name, child.schema == namespace);
                let sql = format!(
                    "select count(*) from {child} c join regraft.migration_mappings m
                       on m.entity = $1 and m.new_id = c.{column} and m.run_no = any ($2) and {not_left}
                     where not exists (select 1 from regraft.migration_mappings o
                       where o.new_id = c.{own} and o.entity = any ($3) and o.run_no = any ($4))",
                    child = child.sql_name(),
                    not_left = regraft_ledger::NOT_LEFT,
                    column = ident(&key.columns[0]),
                    own = ident(
                        &own_key(context, &child.name).unwrap_or_else(|| key.columns[0].clone())
                    ),
                );
                let (entities, numbers) = goes;
                let left: i64 = target
                    .query_one(
                        &sql,
                        &[&part.step.entity, &part.numbers, &entities, &numbers],
                    )
                    .await?
                    .get(0);
                if left > 0 {
                    obstacles.push(format!(
                        "{left} rows of {} refer to {} (foreign key {}) and would stay",
                        child.name, part.step.table, key.name
                    ));
                }
            }
        }
    }
    Ok(obstacles)
}

/// Whether a foreign key of the table points to a table of which rows go.
fn refers_to(child: &Table, parts: &[Part]) -> bool {
    child.constraints.iter().any(|c| {
        c.kind == "f"
            && parts.iter().any(|p| {
                p.step.rows > 0 && c.foreign_table.as_deref() == Some(p.step.table.as_str())
            })
    })
}

/// Whether every row of a table goes: then none can stay.
async fn goes_as_a_whole(
    target: &Session,
    parts: &[Part],
    child: &Table,
    namespace: &str,
) -> Result<bool> {
    let going: u64 = parts
        .iter()
        .filter(|p| child.schema == namespace && p.step.table == child.name)
        .map(|p| p.step.rows)
        .sum();
    let sql = format!("select count(*) from {}", child.sql_name());
    let rows: i64 = target.query_one(&sql, &[]).await?.get(0);
    Ok(rows.unsigned_abs() == going)
}

/// The entities that fill `table` and are rolled back too, with their runs.
fn goes_too(parts: &[Part], table: &str, ours: bool) -> (Vec<String>, Vec<i32>) {
    let matching: Vec<&Part> = parts
        .iter()
        .filter(|p| ours && p.step.table == table)
        .collect();
    (
        matching.iter().map(|p| p.step.entity.clone()).collect(),
        matching.iter().flat_map(|p| p.numbers.clone()).collect(),
    )
}

fn own_key(context: &Context, table: &str) -> Option<String> {
    context
        .project
        .entities()
        .iter()
        .find(|e| e.target.table.value.rsplit('.').next() == Some(table))
        .map(|e| e.target.key.column.value.clone())
}

/// Undoes what is named: what was deleted comes back, what was overwritten is put back, and in each
/// entity, children first, the rows that the runs wrote go with their mappings and their quarantine,
/// in one transaction per entity and step. What an interrupted bulk load took off the table comes
/// back.
///
/// Of one run, rows that others changed since are left, unless `force` is given. It stays in the
/// ledger what they were, so that the same can be tried again.
///
/// # Errors
/// Obstacles ([`Kind::Data`]): rows that would stay and refer to rows that would go.
pub async fn rollback(
    context: &Context,
    what: &RollbackTarget,
    force: bool,
) -> Result<RollbackDone> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    install_ledger(&target, false).await?;
    lock(context, &target).await?;
    let mut parts = parts(context, &target, what).await?;
    let preview = preview(&target, context, &mut parts, what, force).await?;
    if let Some(obstacle) = preview.obstacles.first() {
        return Err(Error::new(Kind::Data, obstacle.clone())
            .hint("add --with-dependents to undo what refers to it too; nothing was undone"));
    }
    let detail = detail(&preview, &parts, what, force);
    let run = regraft_ledger::begin_run(
        &*target,
        &NewRun {
            command: "rollback",
            detail: &detail,
        },
    )
    .await?;
    context.events.send(Event::RunStarted {
        run_id: run.run_id.clone(),
        resumed: false,
        entities: parts.iter().map(|part| part.step.entity.clone()).collect(),
        backend: target.backend_pid(),
    });
    let run_id = run.run_id.clone();
    let done = carry_out(context, &target, what, force, (run, &parts)).await;
    context.events.run_finished(run_id, done.as_ref().err());
    done
}

async fn carry_out(
    context: &Context,
    target: &Session,
    what: &RollbackTarget,
    force: bool,
    (run, parts): (Run, &[Part]),
) -> Result<RollbackDone> {
    fence_off(target, parts).await?;
    target.batch_execute(LARGE_JOINS).await?;
    regraft_ledger::create_left(&**target).await?;
    let runs = changing_runs(parts);
    let mut reversal = Reversal {
        context,
        target,
        parts,
        runs: &runs,
        force,
        run_no: Some(run.run_no),
        undone: Vec::new(),
    };
    reversal.changes().await?;
    if matches!(what, RollbackTarget::Run(_)) {
        kept::leave_inserts(target, parts, force).await?;
    }
    for (at, part) in parts.iter().enumerate() {
        context.stop_requested()?;
        undo(&mut reversal, at)
            .await
            .map_err(|e| e.in_entity(&part.step.entity))?;
        context.events.send(Event::EntityFinished {
            entity: part.step.entity.clone(),
            inserted: 0,
            left: part.step.rows + part.step.put_back + part.step.brought_back,
            seconds: 0.0,
        });
    }
    finish_waiting(&mut reversal).await?;
    let left = regraft_ledger::left_rows(&**target).await?;
    reversal.note_left(&left).await?;
    close_runs(target, &undone_runs(&run)).await?;
    regraft_ledger::finish_run(&**target, run.run_no, RunStatus::Done).await?;
    close_earlier(target).await?;
    Ok(RollbackDone {
        run_id: run.run_id,
        steps: done_steps(parts, &reversal.undone, &left),
        left,
    })
}

/// Right after a load nothing is known of the mappings, and a join row by row is what the server
/// would take for the cheapest.
const LARGE_JOINS: &str = "set enable_nestloop = off; set work_mem = '64MB'";

/// The steps as they were carried out.
fn done_steps(
    parts: &[Part],
    undone: &[crate::receipt::Undone],
    left: &[LeftRow],
) -> Vec<RollbackStep> {
    let step = |part: &Part| {
        let mut step = part.step.clone();
        let entry = undone.iter().find(|entry| entry.entity == step.entity);
        step.rows = entry.map_or(0, |entry| entry.rows);
        step.put_back = entry.map_or(0, |entry| entry.put_back);
        step.brought_back = entry.map_or(0, |entry| entry.brought_back);
        step.left = left.iter().filter(|row| row.entity == step.entity).count() as u64;
        step
    };
    parts.iter().map(step).collect()
}

/// What was deleted and found its place taken by a row that is gone now comes back after all.
async fn finish_waiting(reversal: &mut Reversal<'_>) -> Result<()> {
    let waiting: Vec<usize> = (0..reversal.parts.len())
        .filter(|at| reversal.waits(*at))
        .collect();
    if waiting.is_empty() {
        return Ok(());
    }
    reversal.changes().await?;
    reversal.leave_deletes().await?;
    let target = reversal.target;
    for at in waiting {
        let part = &reversal.parts[at];
        mark_rolled_back(target, part).await?;
    }
    Ok(())
}

async fn mark_rolled_back(target: &Session, part: &Part) -> Result<()> {
    let numbers = [part.numbers.as_slice(), &part.adopted].concat();
    let entity = &part.step.entity;
    Ok(regraft_ledger::mark_entity_rolled_back(&**target, entity, &numbers).await?)
}

/// What a rollback is recorded with: what it is about, and which runs it undoes in each entity, so
/// that what is left can be told if it dies.
fn detail(
    preview: &RollbackPreview,
    parts: &[Part],
    what: &RollbackTarget,
    force: bool,
) -> serde_json::Value {
    let undoes: BTreeMap<&str, Vec<i32>> = parts
        .iter()
        .map(|p| {
            let numbers = [p.numbers.as_slice(), &p.adopted].concat();
            (p.step.entity.as_str(), numbers)
        })
        .collect();
    let entities: Vec<&str> = parts.iter().map(|p| p.step.entity.as_str()).collect();
    let mut detail = json!({ "runs": preview.runs, "entities": entities, "undoes": undoes });
    if let RollbackTarget::Run(id) = what {
        detail["of_run"] = json!(id);
    }
    if force {
        detail["force"] = json!(true);
    }
    detail
}

/// Ends rollbacks that died and have nothing left to undo. What they undid is whole, entity by
/// entity, and what they left this or another rollback has undone.
async fn close_earlier(target: &Session) -> Result<()> {
    for open in regraft_ledger::open_runs(&**target).await? {
        if open.run.command == "rollback" && open.left.is_empty() {
            let number = open.run.run_no;
            close_runs(target, &undone_runs(&open.run)).await?;
            regraft_ledger::finish_run(&**target, number, RunStatus::Done).await?;
        }
    }
    Ok(())
}

/// The numbers of the runs that a rollback undoes.
fn undone_runs(rollback: &Run) -> Vec<i32> {
    let undoes = rollback.detail.get("undoes").cloned().unwrap_or_default();
    let undoes: BTreeMap<String, Vec<i32>> = serde_json::from_value(undoes).unwrap_or_default();
    undoes.into_values().flatten().collect()
}

/// A process that still works on one of the runs can't commit any more.
async fn fence_off(target: &Session, parts: &[Part]) -> Result<()> {
    let mut numbers: Vec<i32> = parts.iter().flat_map(|p| p.numbers.clone()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        regraft_ledger::take_over(&**target, number).await?;
        regraft_ledger::withdraw_offers(&**target, number).await?;
    }
    Ok(())
}

/// Deletes a part's rows and adds it to what the rollback's own record lists, all in one
/// transaction: what its receipt says is what was done.
async fn undo(reversal: &mut Reversal<'_>, at: usize) -> Result<()> {
    let (target, part) = (reversal.target, &reversal.parts[at]);
    let waits = reversal.waits(at);
    let entity = &part.step.entity;
    transaction::run(target, false, async || {
        let (rows, quarantine) = delete_rows(target, part).await?;
        regraft_ledger::forget_undone(&**target, entity, &part.numbers).await?;
        regraft_ledger::forget_agreed_ranges(&**target, entity).await?;
        restore(target, part).await?;
        if !waits {
            mark_rolled_back(target, part).await?;
        }
        reversal
            .note(at, |entry| {
                entry.rows = rows;
                entry.quarantine = quarantine;
            })
            .await?;
        failpoints::reach(failpoints::BEFORE_ROLLBACK_COMMIT)
    })
    .await
}

/// Deletes the rows that a part's runs wrote, their mappings and what they put into quarantine:
/// how many rows, and how many entries of the quarantine.
async fn delete_rows(target: &Session, part: &Part) -> Result<(u64, u64)> {
    let entity = &part.step.entity;
    empty_back_references(target, part).await?;
    let rows = target
        .execute(
            &format!(
                "delete from {} t using regraft.migration_mappings m \
                 where m.entity = $1 and m.run_no = any ($2) and m.merged_into is null and t.{} = m.new_id and {}",
                part.table,
                ident(&part.key_column),
                regraft_ledger::NOT_LEFT
            ),
            &[entity, &part.numbers],
        )
        .await?;
    regraft_ledger::reopen_quarantine(&**target, entity, &part.numbers).await?;
    let mut quarantine = 0;
    let mapped = regraft_ledger::partition_exists(&**target, entity).await?;
    for number in part.numbers.iter().chain(&part.adopted) {
        if mapped {
            regraft_ledger::delete_of_run(&**target, entity, *number).await?;
        }
        quarantine += regraft_ledger::delete_quarantine_of_run(&**target, entity, *number).await?;
    }
    Ok((rows, quarantine))
}

/// In a cycle no order of deletion suits every foreign key: references from rows that go later are
/// emptied first.
async fn empty_back_references(target: &Session, part: &Part) -> Result<()> {
    for reference in &part.back_references {
        let column = ident(&reference.column);
        target
            .execute(
                &format!(
                    "update {} c set {column} = null from regraft.migration_mappings m \
                     where m.entity = $1 and m.run_no = any ($2) and m.new_id = c.{} \
                       and {not_left} \
                       and c.{column} in (select new_id from regraft.migration_mappings \
                                          where entity = $3 and run_no = any ($4))",
                    reference.table,
                    ident(&reference.key_column),
                    not_left = regraft_ledger::NOT_LEFT,
                ),
                &[
                    &reference.entity,
                    &reference.numbers,
                    &part.step.entity,
                    &part.numbers,
                ],
            )
            .await?;
    }
    Ok(())
}

/// Brings back what an interrupted bulk load took off.
async fn restore(target: &Session, part: &Part) -> Result<()> {
    for (_, dropped) in &part.dropped {
        let present = Present::read(target, &part.schema, &part.step.table).await?;
        for object in dropped {
            let missing = object.missing(&present);
            if !missing.is_empty() {
                target.batch_execute(&missing.join("; ")).await?;
            }
        }
    }
    Ok(())
}

/// A run none of whose rows are left counts as rolled back.
async fn close_runs(target: &Session, numbers: &[i32]) -> Result<()> {
    let numbers: BTreeSet<i32> = numbers.iter().copied().collect();
    for number in numbers {
        regraft_ledger::close_if_undone(&**target, number).await?;
    }
    Ok(())
}
