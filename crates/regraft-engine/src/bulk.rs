//! Bulk loads: indexes and constraints come off a table, and come back exactly as they were.
//!
//! What comes off is noted in the checkpoint by the transaction that takes it off, with the
//! statements that bring it back, so that a crash at any point leaves a record of what is missing.
//! What a returning constraint refuses is settled first (`settle`).

mod settle;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use regraft_ledger::{Checkpoint, Phase};
use regraft_pg::catalog::{self, Constraint, Index, Table};
use regraft_pg::quote::{self, ident};
use regraft_pg::{ErrorKind, Session};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::try_join;

pub(crate) use settle::{remove, written};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::failpoints;
use crate::load::{EntityLoad, Reason};
use crate::transaction;
use settle::{settle_rows, settle_unique, strangers};

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
    /// The table that a foreign key leads to.
    fn parent(&self) -> Option<(&str, &str)> {
        let constraint = self.constraint.as_ref()?;
        constraint
            .foreign_schema
            .as_deref()
            .zip(constraint.foreign_table.as_deref())
    }

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
    /// Nothing that was taken off `load`'s table has come back: it was this process that took it
    /// off. Otherwise the catalog tells.
    async fn of(target: &Session, load: &EntityLoad) -> Result<Self> {
        if load.all_off {
            return Ok(Self {
                indexes: HashSet::new(),
                constraints: HashSet::new(),
            });
        }
        let table = &load.model.table;
        Self::read(target, &table.schema, &table.name).await
    }

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
/// in the checkpoint, within a transaction of the caller's. Primary keys, exclusion constraints and
/// whatever another table's foreign key, the replica identity or CLUSTER relies on stay.
pub(crate) async fn take_off(
    target: &Session,
    table: &Table,
    checkpoint: &Checkpoint,
) -> Result<Vec<Dropped>> {
    let (dropped, drops) = plan(table);
    if !dropped.is_empty() {
        let (noted, drops) = (json!(dropped), drops.join("; "));
        try_join!(
            regraft_ledger::set_dropped(&**target, checkpoint, &noted),
            async { Ok(target.batch_execute(&drops).await?) },
        )?;
    }
    Ok(dropped)
}

/// What can come off a table, and the statements that take it off.
fn plan(table: &Table) -> (Vec<Dropped>, Vec<String>) {
    let constraints = table.constraints.iter().filter(|c| !c.inherited);
    let (mut dropped, drops): (Vec<Dropped>, Vec<String>) = constraints
        .filter_map(|constraint| without_constraint(table, constraint))
        .chain(
            table
                .indexes
                .iter()
                .filter_map(|index| without_index(table, index)),
        )
        .unzip();
    dropped.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    (dropped, drops)
}

/// A check or foreign key as it is noted, and the statement that takes it off.
fn without_constraint(table: &Table, constraint: &Constraint) -> Option<(Dropped, String)> {
    let kind = match constraint.kind.as_str() {
        "f" => DroppedKind::ForeignKey,
        "c" => DroppedKind::Check,
        _ => return None,
    };
    let (name, own) = (table.sql_name(), ident(&constraint.name));
    let mut restore = vec![format!(
        "alter table {name} add constraint {own} {}",
        constraint.definition
    )];
    restore.extend(constraint_comment(&name, constraint));
    let dropped = Dropped {
        kind,
        name: constraint.name.clone(),
        restore,
        index: None,
        constraint: Some(constraint.clone()),
    };
    Some((dropped, format!("alter table {name} drop constraint {own}")))
}

/// An index as it is noted, with the unique constraint that rests on it, and the statement that
/// takes both off; `None` for one that stays.
fn without_index(table: &Table, index: &Index) -> Option<(Dropped, String)> {
    let stays = index.primary
        || index.exclusion
        || index.referenced
        || index.clustered
        || index.replica_identity
        || index.inherited
        || !index.valid;
    if stays {
        return None;
    }
    let (name, own) = (
        table.sql_name(),
        quote::qualified(&table.schema, &index.name),
    );
    let constraint = table
        .constraints
        .iter()
        .find(|c| Some(&c.name) == index.constraint.as_ref());
    let mut restore = vec![index.definition.clone()];
    let mut drop = format!("drop index {own}");
    if let Some(constraint) = &index.constraint {
        let constraint = ident(constraint);
        drop = format!("alter table {name} drop constraint {constraint}");
        restore.push(format!(
            "alter table {name} add constraint {constraint} unique using index {} {}",
            ident(&index.name),
            constraint_deferral(table, index).unwrap_or_default()
        ));
    }
    restore.extend(constraint.and_then(|c| constraint_comment(&name, c)));
    if let Some(comment) = &index.comment {
        restore.push(format!(
            "comment on index {own} is {}",
            quote::literal(comment)
        ));
    }
    for (column, goal) in &index.statistics {
        restore.push(format!(
            "alter index {own} alter column {column} set statistics {goal}"
        ));
    }
    let dropped = Dropped {
        kind: DroppedKind::Index,
        name: index.name.clone(),
        restore,
        index: Some(index.clone()),
        constraint: constraint.cloned(),
    };
    Some((dropped, drop))
}

/// How the constraint that rests on an index is deferred, as it is written.
fn constraint_deferral<'a>(table: &'a Table, index: &Index) -> Option<&'a str> {
    let mut constraints = table.constraints.iter();
    let constraint = constraints.find(|c| Some(&c.name) == index.constraint.as_ref())?;
    let definition = &constraint.definition;
    definition.find("DEFERRABLE").map(|at| &definition[at..])
}

fn constraint_comment(table: &str, constraint: &Constraint) -> Option<String> {
    let comment = constraint.comment.as_deref()?;
    Some(format!(
        "comment on constraint {} on {table} is {}",
        ident(&constraint.name),
        quote::literal(comment)
    ))
}

/// Up to so many source rows everything comes back in one transaction: what it takes is answers
/// waited for, not work that several connections could share.
const SMALL: i64 = 30_000;

/// Whether an entity is too small for its indexes to be built side by side.
pub(crate) fn is_small(load: &EntityLoad) -> bool {
    load.checkpoint.rows_total <= SMALL
}

/// Brings back what a table lacks of what was taken off, with the unique index of the mappings, and
/// notes in the checkpoint that nothing is off any more.
pub(crate) async fn bring_back(
    context: &Context,
    source: &Session,
    sessions: &[Arc<Session>],
    load: &EntityLoad,
) -> Result<()> {
    let Some(first) = sessions.first() else {
        return Ok(());
    };
    failpoints::reach(failpoints::BEFORE_REBUILD)?;
    let mut present = Present::of(first, load).await?;
    // Rows that a check refuses go first: their equals must not lose to them, and no index is built
    // in vain.
    bring_back_checks(context, source, first, load, &mut present).await?;
    let mut settled = false;
    loop {
        match together_if_possible(context, first, load, &present).await? {
            Together::Done => return Ok(()),
            // Once its rows are out no foreign key is in the way any more.
            Together::Refused(DroppedKind::ForeignKey) if !settled => {
                regraft_ledger::set_phase(&***first, &load.checkpoint, Phase::Settling).await?;
                settle_rows(first, source, load, is_of_foreign_key).await?;
                settled = true;
            }
            Together::Refused(_) | Together::NotTried => break,
        }
    }
    one_by_one(context, source, sessions, load, &present).await?;
    transaction::run(first, load.nested, async || {
        Ok(regraft_ledger::set_dropped(&***first, &load.checkpoint, &json!([])).await?)
    })
    .await
}

/// Brings back checks, one after the other. Only those that refuse a row are asked for its like, and
/// come back again when such rows are in quarantine.
async fn bring_back_checks(
    context: &Context,
    source: &Session,
    target: &Session,
    load: &EntityLoad,
    present: &mut Present,
) -> Result<()> {
    let checks = begin_phase(context, load, present, DroppedKind::Check, "checks");
    let mut refusing = Vec::new();
    for check in &checks {
        context.stop_requested()?;
        match restore_check(target, load, check).await {
            Err(error) if is_violation(&error) => refusing.push(*check),
            restored => restored?,
        }
        failpoints::reach(failpoints::DURING_REBUILD)?;
    }
    if !refusing.is_empty() {
        let refuses = |reason: &Reason| {
            let mut names = refusing.iter().map(|check| &check.name);
            reason.code == "check_violation"
                && names.any(|name| reason.constraint.as_ref() == Some(name))
        };
        settle_rows(target, source, load, refuses).await?;
        for check in refusing {
            let restored = restore_check(target, load, check).await;
            restored.map_err(|error| stranger_or(error, load, check))?;
        }
    }
    let names = checks.iter().map(|check| check.name.clone());
    present.constraints.extend(names);
    Ok(())
}

/// What the table lacks of a kind; if it is anything, the phase of bringing it back begins.
fn begin_phase<'l>(
    context: &Context,
    load: &'l EntityLoad,
    present: &Present,
    kind: DroppedKind,
    phase: &str,
) -> Vec<&'l Dropped> {
    let missing: Vec<&Dropped> = load
        .dropped
        .iter()
        .filter(|d| d.kind == kind && !d.missing(present).is_empty())
        .collect();
    if !missing.is_empty() {
        context.events.send(Event::PhaseStarted {
            entity: load.model.name.clone(),
            phase: phase.to_owned(),
        });
    }
    missing
}

/// Brings one check back, under the checkpoint's fence.
async fn restore_check(target: &Session, load: &EntityLoad, check: &Dropped) -> Result<()> {
    let statements = check.restore.join("; ");
    transaction::beginning_with(target, load.nested, MEMORY, async || {
        let ((), ()) = try_join!(
            async {
                Ok::<_, Error>(
                    regraft_ledger::set_phase(&**target, &load.checkpoint, Phase::Settling).await?,
                )
            },
            async { Ok(target.batch_execute(&statements).await?) },
        )?;
        Ok(())
    })
    .await
}

fn is_of_foreign_key(reason: &Reason) -> bool {
    reason.code != "check_violation"
}

/// What to say where a constraint still refuses a row when all of ours that it refuses are out.
fn stranger_or(error: Error, load: &EntityLoad, object: &Dropped) -> Error {
    match is_violation(&error) {
        true => strangers(&load.model, &Reason::constraint("constraint", &object.name)),
        false => error,
    }
}

/// What came of bringing everything else back at once.
enum Together {
    Done,
    /// Nothing came back: rows are in the way of something of this kind, the first that was met.
    Refused(DroppedKind),
    /// It can't be done at once, or whatever refused it isn't known.
    NotTried,
}

/// Brings everything back in one transaction, where the table is small and nothing is known to be
/// in the way.
async fn together_if_possible(
    context: &Context,
    target: &Session,
    load: &EntityLoad,
    present: &Present,
) -> Result<Together> {
    let suspects = |object: &Dropped| {
        let doubles = load.doubles.as_ref();
        let found = doubles.and_then(|doubles| doubles.suspects(&object.name));
        found.is_some_and(|found| !found.is_empty())
    };
    if !is_small(load)
        || load.dropped.iter().any(suspects)
        || failpoints::reach(failpoints::REBUILD_TOGETHER).is_err()
    {
        return Ok(Together::NotTried);
    }
    context.events.send(Event::PhaseStarted {
        entity: load.model.name.clone(),
        phase: "indexes and constraints".to_owned(),
    });
    match together(target, load, present).await {
        Ok(()) => Ok(Together::Done),
        Err(error) if is_violation(&error) => Ok(refused_by(load, &error)),
        Err(error) if is_deadlock(&error) => Ok(Together::NotTried),
        Err(error) => Err(error),
    }
}

/// Which of the things that were taken off a violation is about.
fn refused_by(load: &EntityLoad, error: &Error) -> Together {
    let name = error.database().and_then(|e| e.constraint());
    let object = load.dropped.iter().find(|d| Some(d.name.as_str()) == name);
    object.map_or(Together::NotTried, |d| Together::Refused(d.kind))
}

async fn together(target: &Session, load: &EntityLoad, present: &Present) -> Result<()> {
    let model = &load.model;
    // Taking foreign keys off another table locks parents in an order of its own.
    let _at_work = load.gate.read().await;
    let mut objects: Vec<&Dropped> = load.dropped.iter().collect();
    // Whoever brings back foreign keys at the same time locks the parents in the same order.
    objects.sort_by_key(|object| (object.kind, object.parent()));
    let mut groups: Vec<String> = objects
        .iter()
        .map(|object| object.missing(present).join("; "))
        .filter(|statements| !statements.is_empty())
        .collect();
    groups.push(regraft_ledger::key_index_statement(
        &model.name,
        model.numeric,
    ));
    transaction::beginning_with(target, load.nested, MEMORY, async || {
        // All are on their way before the first is answered; after one that fails the server
        // refuses the rest.
        let mut answers: FuturesOrdered<_> = groups
            .iter()
            .map(|statements| target.batch_execute(statements))
            .collect();
        while let Some(answer) = answers.next().await {
            answer?;
            failpoints::reach(failpoints::DURING_REBUILD)?;
        }
        Ok(regraft_ledger::settled(&**target, &load.checkpoint).await?)
    })
    .await
}

/// Brings back indexes side by side over `sessions`, and before them foreign keys. Rows that are
/// refused go to quarantine.
async fn one_by_one(
    context: &Context,
    source: &Session,
    sessions: &[Arc<Session>],
    load: &EntityLoad,
    present: &Present,
) -> Result<()> {
    let Some(first) = sessions.first() else {
        return Ok(());
    };
    regraft_ledger::set_phase(&***first, &load.checkpoint, Phase::Settling).await?;
    let model = &load.model;
    // Rows that a foreign key refuses go first: their equals must not lose to them.
    bring_back_foreign_keys(context, source, first, load, present).await?;
    context.events.send(Event::PhaseStarted {
        entity: model.name.clone(),
        phase: "indexes".to_owned(),
    });
    bring_back_indexes(source, sessions, load, present).await
}

/// Foreign keys, one after the other.
async fn bring_back_foreign_keys(
    context: &Context,
    source: &Session,
    target: &Session,
    load: &EntityLoad,
    present: &Present,
) -> Result<()> {
    let kind = DroppedKind::ForeignKey;
    for object in begin_phase(context, load, present, kind, "foreign keys") {
        context.stop_requested()?;
        if let Err(error) = restore_one(target, &object.restore).await {
            if !is_violation(&error) {
                return Err(error);
            }
            settle_rows(target, source, load, is_of_foreign_key).await?;
            let restored = restore_one(target, &object.restore).await;
            restored.map_err(|error| stranger_or(error, load, object))?;
        }
        failpoints::reach(failpoints::DURING_REBUILD)?;
    }
    Ok(())
}

/// Indexes side by side, then the constraints that rest on them, and the mappings' own index.
async fn bring_back_indexes(
    source: &Session,
    sessions: &[Arc<Session>],
    load: &EntityLoad,
    present: &Present,
) -> Result<()> {
    let Some(first) = sessions.first() else {
        return Ok(());
    };
    let (model, dropped) = (&load.model, &load.dropped);
    let mut builds: Vec<Vec<String>> = vec![vec![regraft_ledger::key_index_statement(
        &model.name,
        model.numeric,
    )]];
    let indexes: Vec<(&Dropped, &[String])> = dropped
        .iter()
        .filter(|d| d.kind == DroppedKind::Index)
        .map(|d| (d, d.missing(present)))
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
    let statements = format!("{MEMORY}; {}", restore.join("; "));
    transaction::beginning_with(target, false, &statements, async || Ok(())).await
}

/// For building indexes.
const MEMORY: &str = "set local maintenance_work_mem = '256MB'";

/// Whether two transactions waited for each other: an application that writes to parents may lock
/// them in another order.
fn is_deadlock(error: &Error) -> bool {
    error
        .database()
        .is_some_and(|e| e.kind() == ErrorKind::Serialization)
}

fn is_violation(error: &Error) -> bool {
    error
        .database()
        .is_some_and(|e| e.kind() == ErrorKind::Constraint)
}
