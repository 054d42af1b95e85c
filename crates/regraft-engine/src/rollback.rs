//! `rollback`: undoes what named runs wrote, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use regraft_ledger::{NewRun, Run, RunStatus};
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
use crate::receipt::{Undone, require_ledger};
use crate::transaction;

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
}

/// What a rollback does to one entity.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackStep {
    /// The entity.
    pub entity: String,
    /// The table.
    pub table: String,
    /// Rows to delete.
    pub rows: u64,
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
}

/// One entity's part, with what the deletion needs.
struct Part {
    step: RollbackStep,
    schema: String,
    table: String,
    key_column: String,
    numbers: Vec<i32>,
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

/// What a rollback would do, counted.
///
/// # Errors
/// An unknown run; a target without a ledger.
pub async fn preview_rollback(context: &Context, what: &RollbackTarget) -> Result<RollbackPreview> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let parts = parts(context, &target, what).await?;
    preview(&target, context, &parts).await
}

async fn preview(target: &Session, context: &Context, parts: &[Part]) -> Result<RollbackPreview> {
    let mut runs: Vec<String> = parts.iter().flat_map(|p| p.step.runs.clone()).collect();
    runs.sort();
    runs.dedup();
    Ok(RollbackPreview {
        runs,
        obstacles: obstacles(target, context, parts).await?,
        steps: parts.iter().map(|p| p.step.clone()).collect(),
    })
}

/// The entities to undo, children first, with the runs whose rows go.
async fn parts(context: &Context, target: &Session, what: &RollbackTarget) -> Result<Vec<Part>> {
    let project = &context.project;
    let numbers: BTreeMap<i32, String> = regraft_ledger::list_runs(&**target, 100_000)
        .await?
        .into_iter()
        .filter(|run| matches!(run.command.as_str(), "migrate" | "retry"))
        .map(|run| (run.run_no, run.run_id))
        .collect();
    let (only, entities): (Option<i32>, Vec<String>) = match what {
        RollbackTarget::Run(id) => {
            let run = regraft_ledger::find_run(&**target, id)
                .await?
                .filter(|r| numbers.contains_key(&r.run_no));
            if let Some(run) = regraft_ledger::find_run(&**target, id).await?
                && run.command == "backfill"
            {
                return Err(Error::new(
                    Kind::Usage,
                    format!("run {id} wrote columns of rows that were in place, which can't be undone by this version"),
                )
                .hint("what was there before is in regraft.migration_changes"));
            }
            let Some(run) = run else {
                let latest: Vec<&str> =
                    numbers.values().rev().take(5).map(String::as_str).collect();
                return Err(Error::new(
                    Kind::Usage,
                    format!("there is no migration `{id}` in this target"),
                )
                .hint(format!("the latest are {}", latest.join(", "))));
            };
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
        parts.push(Part {
            schema: schema.to_owned(),
            table: regraft_pg::quote::qualified(schema, table),
            key_column: entity.target.key.column.value.clone(),
            ..part
        });
    }
    let catalog = Catalog::read(&**target, &[]).await?;
    for at in 0..parts.len() {
        parts[at].back_references = back_references(&catalog, &parts, at);
    }
    Ok(parts)
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
    // Right after a load nothing is known of the mappings, and a join row by row is what the
    // server would take for the cheapest.
    target
        .batch_execute("set enable_nestloop = off; set work_mem = '64MB'")
        .await?;
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
                       on m.entity = $1 and m.new_id = c.{column} and m.run_no = any ($2)
                     where not exists (select 1 from regraft.migration_mappings o
                       where o.new_id = c.{own} and o.entity = any ($3) and o.run_no = any ($4))",
                    child = child.sql_name(),
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

/// Undoes what is named: in each entity, children first, the rows that the runs wrote, their
/// mappings and their quarantine, in one transaction per entity. What an interrupted bulk load took
/// off the table comes back.
///
/// # Errors
/// Obstacles ([`Kind::Data`]): rows that would stay and refer to rows that would go.
pub async fn rollback(context: &Context, what: &RollbackTarget) -> Result<RollbackDone> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    install_ledger(&target, false).await?;
    lock(context, &target).await?;
    let parts = parts(context, &target, what).await?;
    let preview = preview(&target, context, &parts).await?;
    if let Some(obstacle) = preview.obstacles.first() {
        return Err(Error::new(Kind::Data, obstacle.clone())
            .hint("add --with-dependents to undo what refers to it too; nothing was undone"));
    }
    let detail = detail(&preview, &parts, what);
    let run = regraft_ledger::begin_run(
        &*target,
        &NewRun {
            command: "rollback",
            detail: &detail,
        },
    )
    .await?;
    fence_off(&target, &parts).await?;
    let mut undone = Vec::new();
    for part in &parts {
        context.stop_requested()?;
        undone = undo(&target, part, run.run_no, undone)
            .await
            .map_err(|e| e.in_entity(&part.step.entity))?;
        context.events.send(Event::EntityFinished {
            entity: part.step.entity.clone(),
            inserted: 0,
            left: part.step.rows,
            seconds: 0.0,
        });
    }
    close_runs(&target, &undone_runs(&run)).await?;
    regraft_ledger::finish_run(&*target, run.run_no, RunStatus::Done).await?;
    close_earlier(&target).await?;
    Ok(RollbackDone {
        run_id: run.run_id,
        steps: preview.steps,
    })
}

/// What a rollback is recorded with: what it is about, and which runs it undoes in each entity, so
/// that what is left can be told if it dies.
fn detail(preview: &RollbackPreview, parts: &[Part], what: &RollbackTarget) -> serde_json::Value {
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
    }
    Ok(())
}

/// Undoes a part and adds it to what the rollback's own record lists, all in one transaction: what
/// its receipt says is what was done.
async fn undo(
    target: &Session,
    part: &Part,
    run_no: i32,
    mut undone: Vec<Undone>,
) -> Result<Vec<Undone>> {
    let entity = &part.step.entity;
    transaction::run(target, false, async || {
        empty_back_references(target, part).await?;
        let rows = target
            .execute(
                &format!(
                    "delete from {} t using regraft.migration_mappings m \
                     where m.entity = $1 and m.run_no = any ($2) and m.merged_into is null and t.{} = m.new_id",
                    part.table,
                    ident(&part.key_column)
                ),
                &[entity, &part.numbers],
            )
            .await?;
        regraft_ledger::reopen_quarantine(&**target, entity, &part.numbers).await?;
        let mut quarantine = 0;
        for number in part.numbers.iter().chain(&part.adopted) {
            if regraft_ledger::partition_exists(&**target, entity).await? {
                regraft_ledger::delete_of_run(&**target, entity, *number).await?;
            }
            quarantine +=
                regraft_ledger::delete_quarantine_of_run(&**target, entity, *number).await?;
        }
        regraft_ledger::forget_changes(&**target, entity).await?;
        regraft_ledger::forget_agreed_ranges(&**target, entity).await?;
        restore(target, part).await?;
        let numbers = [part.numbers.as_slice(), &part.adopted].concat();
        regraft_ledger::mark_entity_rolled_back(&**target, entity, &numbers).await?;
        undone.push(Undone {
            entity: entity.clone(),
            target_table: part.step.table.clone(),
            rows,
            quarantine,
            runs: part.step.runs.clone(),
        });
        regraft_ledger::set_run_detail(&**target, run_no, "undone", &json!(undone)).await?;
        failpoints::reach(failpoints::BEFORE_ROLLBACK_COMMIT)?;
        Ok(undone)
    })
    .await
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
                       and c.{column} in (select new_id from regraft.migration_mappings \
                                          where entity = $3 and run_no = any ($4))",
                    reference.table,
                    ident(&reference.key_column)
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
