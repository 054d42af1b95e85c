//! Bulk loads: indexes and constraints come off a table, and come back exactly as they were.
//!
//! What comes off is noted in the checkpoint by the transaction that takes it off, with the
//! statements that bring it back, so that a crash at any point leaves a record of what is missing.
//! What a returning constraint refuses is taken out of the table and into quarantine, found by one
//! set-based pass per constraint.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use regraft_ledger::{MovedFrom, Phase};
use regraft_pg::catalog::{self, Constraint, Index, Table};
use regraft_pg::quote::{self, ident};
use regraft_pg::{ErrorKind, Session};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::failpoints;
use crate::keys::LegacyId;
use crate::load::{EntityLoad, Reason, parse_id, quarantined_rows, row_conditions};
use crate::model::EntityModel;
use crate::transaction;

/// Something that was taken off a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) kind: DroppedKind,
    /// Its name.
    pub(crate) name: String,
    /// The statements that bring it back, in order.
    pub(crate) restore: Vec<String>,
    /// The index as the catalog had it: a process that resumes finds it there no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Index>,
    /// The constraint as the catalog had it, also the one that rests on the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) constraint: Option<Constraint>,
}

impl Dropped {
    /// The statements that are still to be run to have it back as it was.
    pub(crate) fn missing(&self, present: &Present) -> &[String] {
        let there = |names: &HashSet<String>, name: &str| names.contains(name);
        match (self.kind, &self.constraint) {
            (DroppedKind::Index, _) if !there(&present.indexes, &self.name) => &self.restore,
            (DroppedKind::Index, Some(c)) if there(&present.constraints, &c.name) => &[],
            // The index is there; what rests on it, and comments, may not be.
            (DroppedKind::Index, _) => self.restore.get(1..).unwrap_or_default(),
            _ if there(&present.constraints, &self.name) => &[],
            _ => &self.restore,
        }
    }
}

/// The names of what a table has.
pub(crate) struct Present {
    indexes: HashSet<String>,
    constraints: HashSet<String>,
}

impl Present {
    pub(crate) async fn read(target: &Session, schema: &str, name: &str) -> Result<Self> {
        let names = catalog::names_on(&**target, &quote::qualified(schema, name)).await?;
        let Some((indexes, constraints)) = names else {
            return Err(Error::new(Kind::Data, format!("table {name} is gone")));
        };
        Ok(Self {
            indexes: indexes.into_iter().collect(),
            constraints: constraints.into_iter().collect(),
        })
    }
}

/// Adds to what the catalog says of a table what an interrupted load took off it, so that whoever
/// goes on knows the table as it was.
pub(crate) fn complete(table: &mut Table, dropped: &[Dropped]) {
    for object in dropped {
        if let Some(index) = &object.index
            && !table.indexes.iter().any(|i| i.name == index.name)
        {
            table.indexes.push(index.clone());
        }
        if let Some(constraint) = &object.constraint
            && !table.constraints.iter().any(|c| c.name == constraint.name)
        {
            table.constraints.push(constraint.clone());
        }
    }
    table.indexes.sort_by(|a, b| a.name.cmp(&b.name));
    table.constraints.sort_by(|a, b| a.name.cmp(&b.name));
}

/// What kind of thing it is; they come back in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DroppedKind {
    /// An index, with the unique constraint that may rest on it.
    Index,
    /// A check.
    Check,
    /// A foreign key.
    ForeignKey,
}

/// Takes secondary indexes, unique constraints, checks and foreign keys off a table and notes them
/// in the checkpoint, in one transaction. Primary keys, exclusion constraints and whatever another
/// table's foreign key, the replica identity or CLUSTER relies on stay.
pub(crate) async fn take_off(target: &Session, load: &EntityLoad) -> Result<Vec<Dropped>> {
    let table = &load.model.table;
    let (dropped, drops) = plan(table);
    if dropped.is_empty() {
        return Ok(dropped);
    }
    transaction::run(target, load.nested, async || {
        regraft_ledger::set_dropped(&**target, &load.checkpoint, &json!(dropped)).await?;
        Ok(target.batch_execute(&drops.join("; ")).await?)
    })
    .await?;
    failpoints::reach(failpoints::AFTER_DROP)?;
    Ok(dropped)
}

/// What can come off a table, and the statements that take it off.
fn plan(table: &Table) -> (Vec<Dropped>, Vec<String>) {
    let name = table.sql_name();
    let (mut dropped, mut drops) = (Vec::new(), Vec::new());
    for constraint in table.constraints.iter().filter(|c| !c.inherited) {
        let kind = match constraint.kind.as_str() {
            "f" => DroppedKind::ForeignKey,
            "c" => DroppedKind::Check,
            _ => continue,
        };
        let mut restore = vec![format!(
            "alter table {name} add constraint {} {}",
            ident(&constraint.name),
            constraint.definition
        )];
        restore.extend(constraint_comment(
            &name,
            &constraint.name,
            constraint.comment.as_deref(),
        ));
        drops.push(format!(
            "alter table {name} drop constraint {}",
            ident(&constraint.name)
        ));
        dropped.push(Dropped {
            kind,
            name: constraint.name.clone(),
            restore,
            index: None,
            constraint: Some(constraint.clone()),
        });
    }
    for index in &table.indexes {
        let stays = index.primary
            || index.exclusion
            || index.referenced
            || index.clustered
            || index.replica_identity
            || index.inherited
            || !index.valid;
        if stays {
            continue;
        }
        let index_name = quote::qualified(&table.schema, &index.name);
        let mut restore = vec![index.definition.clone()];
        match &index.constraint {
            None => drops.push(format!("drop index {index_name}")),
            Some(constraint) => {
                let deferral = table
                    .constraints
                    .iter()
                    .find(|c| c.name == *constraint)
                    .and_then(|c| {
                        c.definition
                            .find("DEFERRABLE")
                            .map(|at| &c.definition[at..])
                    })
                    .unwrap_or_default();
                drops.push(format!(
                    "alter table {name} drop constraint {}",
                    ident(constraint)
                ));
                restore.push(format!(
                    "alter table {name} add constraint {} unique using index {} {deferral}",
                    ident(constraint),
                    ident(&index.name)
                ));
                let comment = table.constraints.iter().find(|c| c.name == *constraint);
                restore.extend(constraint_comment(
                    &name,
                    constraint,
                    comment.and_then(|c| c.comment.as_deref()),
                ));
            }
        }
        if let Some(comment) = &index.comment {
            restore.push(format!(
                "comment on index {index_name} is {}",
                quote::literal(comment)
            ));
        }
        for (column, goal) in &index.statistics {
            restore.push(format!(
                "alter index {index_name} alter column {column} set statistics {goal}"
            ));
        }
        let constraint = table
            .constraints
            .iter()
            .find(|c| Some(&c.name) == index.constraint.as_ref());
        dropped.push(Dropped {
            kind: DroppedKind::Index,
            name: index.name.clone(),
            restore,
            index: Some(index.clone()),
            constraint: constraint.cloned(),
        });
    }
    dropped.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    (dropped, drops)
}

fn constraint_comment(table: &str, name: &str, comment: Option<&str>) -> Option<String> {
    comment.map(|comment| {
        format!(
            "comment on constraint {} on {table} is {}",
            ident(name),
            quote::literal(comment)
        )
    })
}

/// Brings back what a table lacks of `dropped`: indexes side by side over `sessions`, then checks
/// and foreign keys, and the unique index of the mappings. Rows that are refused go to quarantine.
pub(crate) async fn bring_back(
    context: &Context,
    source: &Session,
    sessions: &[Arc<Session>],
    load: &Arc<EntityLoad>,
    dropped: &[Dropped],
) -> Result<()> {
    let Some(first) = sessions.first() else {
        return Ok(());
    };
    failpoints::reach(failpoints::BEFORE_REBUILD)?;
    regraft_ledger::set_phase(&***first, &load.checkpoint, Phase::Settling).await?;
    let model = &load.model;
    let present = Present::read(first, &model.table.schema, &model.table.name).await?;
    // Rows that a check or foreign key refuses go first: their equals must not lose to them.
    for kind in [DroppedKind::Check, DroppedKind::ForeignKey] {
        let of_kind: Vec<&Dropped> = dropped
            .iter()
            .filter(|d| d.kind == kind && !d.missing(&present).is_empty())
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        let phase = if kind == DroppedKind::Check {
            "checks"
        } else {
            "foreign keys"
        };
        context.events.send(Event::PhaseStarted {
            entity: model.name.clone(),
            phase: phase.to_owned(),
        });
        for object in of_kind {
            context.stop_requested()?;
            if let Err(error) = restore_one(first, &object.restore).await {
                if !is_violation(&error) {
                    return Err(error);
                }
                settle_rows(first, source, load, kind).await?;
                restore_one(first, &object.restore).await.map_err(|error| {
                    if is_violation(&error) {
                        strangers(model, &Reason::constraint("constraint", &object.name))
                    } else {
                        error
                    }
                })?;
            }
            failpoints::reach(failpoints::DURING_REBUILD)?;
        }
    }
    context.events.send(Event::PhaseStarted {
        entity: model.name.clone(),
        phase: "indexes".to_owned(),
    });
    let mut builds: Vec<Vec<String>> = vec![vec![regraft_ledger::key_index_statement(
        &model.name,
        model.numeric,
    )]];
    let indexes: Vec<(&Dropped, &[String])> = dropped
        .iter()
        .filter(|d| d.kind == DroppedKind::Index)
        .map(|d| (d, d.missing(&present)))
        .collect();
    // Suspects are looked up before the index is built: building it in vain costs as much as
    // building it.
    if let Some(doubles) = &load.doubles {
        for (object, missing) in &indexes {
            let suspects = doubles.suspects(&object.name).unwrap_or_default();
            if missing.len() == object.restore.len() && !suspects.is_empty() {
                settle_unique(first, source, load, missing, Some(&suspects)).await?;
            }
        }
    }
    // Only building goes side by side. A constraint that rests on an index locks the whole table:
    // two sessions that build and then attach would wait for each other.
    builds.extend(
        indexes
            .iter()
            .filter(|(d, missing)| missing.len() == d.restore.len())
            .map(|(d, _)| d.restore[..1].to_vec()),
    );
    let refused = build_side_by_side(sessions, builds).await?;
    for restore in refused {
        settle_unique(first, source, load, &restore, None).await?;
        restore_one(first, &restore).await?;
    }
    for (object, missing) in &indexes {
        let built = usize::from(missing.len() == object.restore.len());
        if missing.len() > built {
            restore_one(first, &missing[built..]).await?;
            failpoints::reach(failpoints::DURING_REBUILD)?;
        }
    }
    Ok(())
}

/// Runs groups of statements, one group per session at a time; the groups that met duplicates.
async fn build_side_by_side(
    sessions: &[Arc<Session>],
    builds: Vec<Vec<String>>,
) -> Result<Vec<Vec<String>>> {
    let queue = Arc::new(std::sync::Mutex::new(std::collections::VecDeque::from(
        builds,
    )));
    let mut tasks = JoinSet::new();
    for session in sessions {
        let (session, queue) = (Arc::clone(session), Arc::clone(&queue));
        tasks.spawn(async move {
            let mut refused = Vec::new();
            loop {
                let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                let Some(build) = next else {
                    return Ok::<_, Error>(refused);
                };
                match restore_one(&session, &build).await {
                    Ok(()) => {}
                    Err(error) if is_violation(&error) => refused.push(build),
                    Err(error) => return Err(error),
                }
                failpoints::reach(failpoints::DURING_REBUILD)?;
            }
        });
    }
    let mut refused = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
        refused.extend(done?);
    }
    Ok(refused)
}

/// Runs the statements that bring one object back, all or none.
async fn restore_one(target: &Session, restore: &[String]) -> Result<()> {
    transaction::run(target, false, async || {
        let statements = format!(
            "set local maintenance_work_mem = '256MB'; {}",
            restore.join("; ")
        );
        Ok(target.batch_execute(&statements).await?)
    })
    .await
}

fn is_violation(error: &Error) -> bool {
    error
        .database()
        .is_some_and(|e| e.kind() == ErrorKind::Constraint)
}

/// Takes out the rows that violate any constraint of a kind, each with every check and foreign key
/// that it violates.
async fn settle_rows(
    target: &Session,
    source: &Session,
    load: &EntityLoad,
    kind: DroppedKind,
) -> Result<()> {
    let model = &load.model;
    let columns: BTreeSet<&str> = model
        .table
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    let conditions = row_conditions(&model.table, &columns);
    let mut faults: HashMap<Uuid, Vec<Reason>> = HashMap::new();
    let of_kind =
        |reason: &Reason| (reason.code == "check_violation") == (kind == DroppedKind::Check);
    let (own, others): (Vec<_>, Vec<_>) =
        conditions.iter().partition(|(reason, _)| of_kind(reason));
    let select = format!(
        "select s.{key} from {table} s where",
        key = ident(&model.key_column),
        table = model.table.sql_name()
    );
    for (reason, condition) in own {
        for row in target.query(&format!("{select} {condition}"), &[]).await? {
            faults.entry(row.get(0)).or_default().push(reason.clone());
        }
    }
    let found: Vec<Uuid> = faults.keys().copied().collect();
    for (reason, condition) in others {
        let sql = format!(
            "{select} {condition} and s.{} = any ($1)",
            ident(&model.key_column)
        );
        for row in target.query(&sql, &[&found]).await? {
            faults.entry(row.get(0)).or_default().push(reason.clone());
        }
    }
    let keys: Vec<Uuid> = faults.keys().copied().collect();
    let doomed = written(target, load, &keys)
        .await?
        .into_iter()
        .filter_map(|row| faults.remove(&row.key).map(|reasons| (row, reasons)))
        .collect();
    remove(target, source, load, Phase::Settling, doomed).await
}

/// Takes out the rows that lose to an earlier one under the unique index that `restore` builds:
/// among all rows, or among those that equal one of `suspects`.
async fn settle_unique(
    target: &Session,
    source: &Session,
    load: &EntityLoad,
    restore: &[String],
    suspects: Option<&[Uuid]>,
) -> Result<()> {
    let model = &load.model;
    let index = model
        .table
        .indexes
        .iter()
        .find(|i| Some(&i.definition) == restore.first());
    let Some(index) = index else {
        return Err(Error::new(
            Kind::Data,
            "two rows have the same legacy id: the entity's key is not unique in the source",
        )
        .in_entity(&model.name)
        .hint("a join in `source.from` multiplies rows, or `source.key` is not the row's own id"));
    };
    let sql = equal_rows(model, index, suspects.is_some());
    let rows = match &suspects {
        Some(suspects) => target.query(&sql, &[suspects]).await?,
        None => target.query(&sql, &[]).await?,
    };
    let groups: HashMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let keys: Vec<Uuid> = groups.keys().copied().collect();
    let mut equals = written(target, load, &keys).await?;
    equals.sort_by(|a, b| (groups[&a.key], &a.id).cmp(&(groups[&b.key], &b.id)));
    let name = index.constraint.as_deref().unwrap_or(&index.name);
    let reason = Reason::constraint("unique_violation", name);
    let (mut won, mut doomed) = (None, Vec::new());
    for row in equals {
        let group = groups[&row.key];
        if won == Some(group) {
            doomed.push((row, vec![reason.clone()]));
        }
        won = Some(group);
    }
    if doomed.is_empty() && suspects.is_none() {
        return Err(strangers(model, &reason));
    }
    remove(target, source, load, Phase::Settling, doomed).await
}

/// The keys of rows that are equal under an index, and a number for each group of equals. With
/// `suspects` only rows that equal one of `$1`.
fn equal_rows(model: &EntityModel, index: &Index, suspects: bool) -> String {
    let list: Vec<String> = index
        .keys
        .iter()
        .enumerate()
        .map(|(i, key)| format!("({key}) as k{i}"))
        .collect();
    let names: Vec<String> = (0..list.len()).map(|i| format!("k{i}")).collect();
    let (operator, present) = if index.nulls_not_distinct {
        ("is not distinct from", "true".to_owned())
    } else {
        let present: Vec<String> = names.iter().map(|n| format!("{n} is not null")).collect();
        ("=", present.join(" and "))
    };
    let same: Vec<String> = names
        .iter()
        .map(|n| format!("r.{n} {operator} t.{n}"))
        .collect();
    let names = names.join(", ");
    // Which values occur twice is found by hashing alone; only their rows are put in order.
    let twice = if suspects {
        format!("select distinct {names} from rows where regraft_id = any ($1) and {present}")
    } else {
        format!("select {names} from rows where {present} group by {names} having count(*) > 1")
    };
    format!(
        "with rows as not materialized (select {key} as regraft_id, {list} from {table} where {condition}), \
         twice as materialized ({twice}), \
         candidates as materialized (select r.* from rows r join twice t on {same}) \
         select regraft_id, dense_rank() over (order by {names}) from candidates",
        key = ident(&model.key_column),
        list = list.join(", "),
        table = model.table.sql_name(),
        condition = index.predicate.as_deref().unwrap_or("true"),
        same = same.join(" and "),
    )
}

/// A row of the table that this migration wrote.
pub(crate) struct WrittenRow {
    pub(crate) id: LegacyId,
    pub(crate) batch: i32,
    pub(crate) key: Uuid,
}

/// What the mappings say of rows of the table; rows that others wrote are not among the result.
pub(crate) async fn written(
    target: &Session,
    load: &EntityLoad,
    keys: &[Uuid],
) -> Result<Vec<WrittenRow>> {
    let model = &load.model;
    let rows = target
        .query(
            "select legacy_id, batch, new_id from regraft.migration_mappings \
             where entity = $1 and new_id = any ($2)",
            &[&model.name, &keys],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(WrittenRow {
                id: parse_id(model, row.get(0))?,
                batch: row.get(1),
                key: row.get(2),
            })
        })
        .collect()
}

fn strangers(model: &EntityModel, reason: &Reason) -> Error {
    Error::new(
        Kind::Data,
        format!(
            "rows that this migration did not write stand in the way of {}",
            reason.key()
        ),
    )
    .in_entity(&model.name)
    .hint("they were written to the target while it was loaded in bulk mode; remove them, then run the same command again")
}

/// Moves rows of the table into quarantine, with the accounts of their batches corrected, in one
/// transaction under the checkpoint's fence.
pub(crate) async fn remove(
    target: &Session,
    source: &Session,
    load: &EntityLoad,
    phase: Phase,
    doomed: Vec<(WrittenRow, Vec<Reason>)>,
) -> Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    let model = &load.model;
    let keys: Vec<Uuid> = doomed.iter().map(|(row, _)| row.key).collect();
    let mut faulty: Vec<_> = doomed
        .into_iter()
        .map(|(row, reasons)| (row.batch, row.id, reasons))
        .collect();
    faulty.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let quarantined = quarantined_rows(source, model, faulty).await?;
    transaction::run(target, load.nested, async || {
        regraft_ledger::set_phase(&**target, &load.checkpoint, phase).await?;
        delete_rows(target, model, &keys).await?;
        Ok(regraft_ledger::move_to_quarantine(
            target,
            load.run_no,
            &model.name,
            &quarantined,
            load.first_quarantine,
            MovedFrom::Inserted,
        )
        .await?)
    })
    .await
}

/// Deletes rows by their keys, with their mappings, inside the caller's transaction.
pub(crate) async fn delete_rows(
    target: &Session,
    model: &EntityModel,
    keys: &[Uuid],
) -> Result<()> {
    for keys in keys.chunks(20_000) {
        target
            .execute(
                &format!(
                    "delete from {} where {} = any ($1)",
                    model.table.sql_name(),
                    ident(&model.key_column)
                ),
                &[&keys],
            )
            .await?;
        target
            .execute(
                "delete from regraft.migration_mappings where entity = $1 and new_id = any ($2)",
                &[&model.name, &keys],
            )
            .await?;
    }
    Ok(())
}
