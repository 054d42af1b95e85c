//! Decisions on rows that both sides have changed: written only where both sides still say what they
//! said when the row was noted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use regraft_ledger::{
    Account, BatchRecord, Differing, DifferingFilter, NewRun, RunStatus, marking,
};
use regraft_pg::Session;
use regraft_project::Policy;
use serde::Serialize;
use serde_json::json;

use super::examine::Examiner;
use super::tally::Tally;
use super::way::EntityWay;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::{Deriver, LegacyId};
use crate::load::{merged, parse_id};
use crate::migrate::{
    MigrateOptions, check_same_secret, check_secret, install_ledger, lock, parent_keys, resolved,
    run_detail,
};
use crate::model::{EntityModel, Model};
use crate::receipt::require_ledger;
use crate::snapshot::Snapshot;
use crate::transaction;
use crate::unfinished;

/// Rows that are decided on together.
const MOST: i64 = 1_000_000;

/// What is taken for the columns in conflict.
#[derive(Debug, Clone)]
pub enum Take {
    /// What the source says.
    Source,
    /// What the target holds.
    Target,
    /// Columns that only one side has changed are taken from that side; the others stay open.
    Merge,
    /// These values, by column, in the text form of the column's type; `None` is NULL.
    Values(BTreeMap<String, Option<String>>),
}

impl Take {
    fn policy(&self) -> Policy {
        match self {
            Self::Source | Self::Values(_) => Policy::SourceWins,
            Self::Target => Policy::TargetWins,
            Self::Merge => Policy::Manual,
        }
    }

    fn strategy(&self) -> &'static str {
        match self {
            Self::Source => "source_wins",
            Self::Target => "target_wins",
            Self::Merge => "merge",
            Self::Values(_) => "value",
        }
    }
}

/// A row that stays open, and why.
#[derive(Debug, Clone, Serialize)]
pub struct StillOpen {
    /// The entity.
    pub entity: String,
    /// The row.
    pub legacy_id: String,
    /// Why it was not decided on.
    pub why: &'static str,
}

/// What deciding came to.
#[derive(Debug, Clone, Serialize)]
pub struct Resolution {
    /// Its run; `None` where there was nothing to decide on.
    pub run_id: Option<String>,
    /// How the rows were decided on.
    pub strategy: &'static str,
    /// Rows that were decided on.
    pub resolved: i64,
    /// Of these, rows of the target that were written.
    pub written: i64,
    /// Rows that stay open.
    pub still_open: Vec<StillOpen>,
}

/// Decides on the open conflicts under a filter, all or nothing. A row of which either side says
/// something else than when it was noted is not written: it is noted anew, as it is now.
///
/// # Errors
/// [`Kind::Usage`]: values for columns that are not in conflict, or a run of another command that is
/// unfinished; a value that its column can't hold ([`Kind::Data`]).
pub async fn resolve_conflicts(
    context: &Context,
    filter: &DifferingFilter,
    take: &Take,
) -> Result<Resolution> {
    let source = context.connect_source().await?;
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    install_ledger(&target, false).await?;
    lock(context, &target).await?;
    check_same_secret(context, &target).await?;
    unfinished::refuse_others(&target, &context.project, "resolve").await?;
    let rows = regraft_ledger::open_differing(&*target, filter, MOST).await?;
    let mut resolution = Resolution {
        run_id: None,
        strategy: take.strategy(),
        resolved: 0,
        written: 0,
        still_open: Vec::new(),
    };
    let mut by_entity: BTreeMap<String, Vec<Differing>> = BTreeMap::new();
    for row in rows {
        match row.comparison_type.as_str() {
            "conflict" => by_entity.entry(row.entity.clone()).or_default().push(row),
            other => resolution.still_open.push(StillOpen {
                entity: row.entity,
                legacy_id: row.legacy_id,
                why: what_to_do(other),
            }),
        }
    }
    if by_entity.is_empty() {
        return Ok(resolution);
    }
    let model = resolved(context, &source, &target).await?;
    let names: Vec<String> = by_entity.keys().cloned().collect();
    let selection = context
        .project
        .select(&names, false)
        .map_err(|e| Error::new(Kind::Usage, e.to_string()))?;
    check_secret(context, &model, &selection)?;
    let snapshot = Snapshot::take(source).await?;
    let options = MigrateOptions::default();
    let mut detail = run_detail(context, &selection, &model, &options, &snapshot.position);
    detail["resolved"] = json!({ "take": take.strategy() });
    let before = resolution.clone();
    let done = transaction::run_again(context, &target, false, async || {
        resolution.clone_from(&before);
        let new = NewRun {
            command: "resolve",
            detail: &detail,
        };
        let run = regraft_ledger::begin_run(&*target, &new).await?;
        context.events.send(Event::RunStarted {
            run_id: run.run_id.clone(),
            resumed: false,
            entities: names.clone(),
            backend: target.backend_pid(),
        });
        resolution.run_id = Some(run.run_id.clone());
        let mut resolver = Resolver {
            context,
            all: &model,
            source: &snapshot.session,
            target: &target,
            run: &run,
            take,
            resolution: &mut resolution,
        };
        for (entity, rows) in &by_entity {
            let done = resolver.entity(entity, rows).await;
            done.map_err(|e| e.in_entity(entity))?;
        }
        regraft_ledger::finish_run(&*target, run.run_no, RunStatus::Done).await?;
        Ok(())
    })
    .await;
    if let Some(run_id) = resolution.run_id.clone() {
        context.events.run_finished(run_id, done.as_ref().err());
    }
    done.map(|()| resolution)
}

/// What is to be done about open rows of a kind that are not decided on by taking values.
pub fn what_to_do(kind: &str) -> &'static str {
    match kind {
        "refused" => {
            "the row can't become what the source says: mend the cause, then `regraft differential migrate`"
        }
        "deleted_in_source" => {
            "the source has the row no more: `regraft differential migrate` with source_wins deletes it, with target_wins leaves it"
        }
        "merged_in_source" => {
            "the merge rule makes the row part of another, and the target has both: let references in the target name the other and delete this one there, or let the rule tell them apart; then `regraft differential migrate`"
        }
        _ => {
            "the target has the row no more: `regraft differential migrate` with source_wins brings it back"
        }
    }
}

struct Resolver<'a> {
    context: &'a Context,
    all: &'a Model,
    source: &'a Session,
    target: &'a Session,
    run: &'a regraft_ledger::Run,
    take: &'a Take,
    resolution: &'a mut Resolution,
}

impl Resolver<'_> {
    async fn entity(&mut self, name: &str, rows: &[Differing]) -> Result<()> {
        let (Some(model), Some(entity)) = (
            self.all.entities.get(name),
            self.context.project.entity(name),
        ) else {
            return Err(Error::new(
                Kind::Usage,
                "the project has no such entity any more",
            ));
        };
        check_values(model, self.take, rows)?;
        let open = EntityWay::new(model, &entity.changes, Some(Policy::Manual), None)?.open();
        let taken = EntityWay::new(model, &entity.changes, Some(Policy::Manual), None)?
            .taking(self.take.policy());
        let mut ids = Vec::with_capacity(rows.len());
        for row in rows {
            ids.push(parse_id(model, row.legacy_id.clone())?);
        }
        ids.sort_unstable();
        let noted: HashMap<&str, &Differing> = rows
            .iter()
            .map(|row| (row.legacy_id.as_str(), row))
            .collect();
        let mut examiner = self.examiner(model, &open).await?;
        let moved = self.moved(&mut examiner, model, &ids, &noted).await?;
        ids.retain(|id| !moved.contains(&id.to_string()));
        let mut examiner = self.examiner(model, &taken).await?;
        let done = self.write(&mut examiner, model, &ids).await?;
        self.record(name, ids.len() as i64, done).await
    }

    async fn examiner<'w>(&self, model: &EntityModel, way: &'w EntityWay) -> Result<Examiner<'w>> {
        let parents = parent_keys(self.context, self.target, self.all, model).await?;
        let secret = self.context.settings.secret.as_ref();
        let deriver = secret.map(|secret| Deriver::new(secret, &model.name));
        let merged = Arc::new(merged(self.source, model).await?);
        Examiner::new(self.target, model, deriver, parents, merged, way).await
    }

    /// Rows of which either side says something else than when they were noted; they are noted anew.
    async fn moved(
        &mut self,
        examiner: &mut Examiner<'_>,
        model: &EntityModel,
        ids: &[LegacyId],
        noted: &HashMap<&str, &Differing>,
    ) -> Result<HashSet<String>> {
        let mut tally = Tally::default();
        let examination = examiner
            .examine(self.source, self.target, ids, &mut tally)
            .await?;
        let name = model.table.sql_name();
        let table = examiner.table(&name);
        let same: HashSet<String> = table
            .still_as_noted(&**self.target)
            .await?
            .into_iter()
            .collect();
        let is_same = |id: &str, undecided: &str| {
            let now: BTreeSet<&str> = undecided
                .bytes()
                .zip(table.columns)
                .filter(|(digit, _)| *digit == b'1')
                .map(|(_, (column, _))| column.as_str())
                .collect();
            let before = noted
                .get(id)
                .map(|row| row.columns.iter().map(String::as_str));
            same.contains(id) && before.is_some_and(|before| before.collect::<BTreeSet<_>>() == now)
        };
        let rows = examination.rows.iter();
        let unmoved: HashSet<&str> = rows
            .filter(|row| is_same(&row.id, &row.undecided))
            .map(|row| row.id.as_str())
            .collect();
        let moved: HashSet<String> = ids
            .iter()
            .map(ToString::to_string)
            .filter(|id| !unmoved.contains(id.as_str()))
            .collect();
        for mask in marking(examination.rows.iter().map(|row| &row.undecided)) {
            table
                .note_conflicts(&**self.target, &self.run.run_id, &mask)
                .await?;
        }
        self.resolution
            .still_open
            .extend(moved.iter().map(|id| StillOpen {
                entity: model.name.clone(),
                legacy_id: id.clone(),
                why: "a side has changed since it was noted: look at it again",
            }));
        Ok(moved)
    }

    /// Writes what was decided; how many rows of the target were written.
    async fn write(
        &mut self,
        examiner: &mut Examiner<'_>,
        model: &EntityModel,
        ids: &[LegacyId],
    ) -> Result<i64> {
        let mut tally = Tally::default();
        let examination = examiner
            .examine(self.source, self.target, ids, &mut tally)
            .await?;
        let name = model.table.sql_name();
        let table = examiner.table(&name);
        if let Take::Values(values) = self.take {
            for (column, value) in values {
                table
                    .set_value(&**self.target, column, value.as_deref())
                    .await?;
            }
        }
        let mut written = HashSet::new();
        for mask in marking(examination.rows.iter().map(|row| &row.written)) {
            let run = (self.run.run_no, 1);
            written.extend(table.write(&**self.target, run, &mask, None).await?);
        }
        let rows = examination.rows.iter();
        let (settled, open): (Vec<_>, Vec<_>) = rows
            .filter(|row| !row.written.contains('1') || written.contains(&row.id))
            .partition(|row| !row.undecided.contains('1'));
        let ids_of = |rows: &[&super::examine::Examined]| -> Vec<String> {
            rows.iter().map(|row| row.id.clone()).collect()
        };
        let all = [settled.as_slice(), &open].concat();
        table
            .agree(&**self.target, self.run.run_no, &ids_of(&all))
            .await?;
        let settled = ids_of(&settled);
        regraft_ledger::close_rows(&**self.target, &model.name, &settled, self.take.strategy())
            .await?;
        let done: HashSet<&String> = settled.iter().collect();
        let left = ids.iter().map(ToString::to_string);
        let left = left.filter(|id| !done.contains(id)).map(|id| StillOpen {
            entity: model.name.clone(),
            legacy_id: id,
            why: "both sides have changed the same column: take source, target or values",
        });
        self.resolution.still_open.extend(left);
        self.resolution.resolved += settled.len() as i64;
        self.resolution.written += written.len() as i64;
        Ok(written.len() as i64)
    }

    /// The account of an entity, in one batch.
    async fn record(&self, entity: &str, rows: i64, written: i64) -> Result<()> {
        let account = Account {
            source_rows: rows,
            updated: written,
            unchanged: rows - written,
            ..Account::default()
        };
        let record = BatchRecord {
            batch: 1,
            low_key: String::new(),
            high_key: String::new(),
            account,
        };
        let (target, run) = (&**self.target, self.run);
        let (number, id, command) = (run.run_no, run.run_id.as_str(), run.command.as_str());
        regraft_ledger::record_batch(target, number, id, command, entity, &record).await?;
        regraft_ledger::record_entity(target, number, id, command, entity, "done").await?;
        Ok(())
    }
}

/// Values are for one row, and for all of its columns in conflict.
fn check_values(model: &EntityModel, take: &Take, rows: &[Differing]) -> Result<()> {
    let Take::Values(values) = take else {
        return Ok(());
    };
    let wanted: BTreeSet<&str> = values.keys().map(String::as_str).collect();
    for row in rows {
        let columns: BTreeSet<&str> = row.columns.iter().map(String::as_str).collect();
        if columns != wanted {
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "row {} of {} is in conflict over {}, and the values are for {}",
                    row.legacy_id,
                    model.name,
                    row.columns.join(", "),
                    values.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            )
            .hint("give a value for each column in conflict, and for no other"));
        }
    }
    Ok(())
}
