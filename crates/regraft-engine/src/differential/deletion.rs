//! Rows that the source has no more: deleted from the target, marked, or left, children first.

use std::collections::HashSet;

use regraft_ledger::{Account, BatchRecord, Checkpoint, Noted, OwnedTable};
use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Constraint, Table};
use regraft_project::{Deletes, Policy};
use serde_json::json;

use super::cycle::{Held, referred};
use super::examine::edits;
use super::way::EntityWay;
use crate::error::Result;
use crate::events::Event;
use crate::keys::LegacyId;
use crate::migrate::Engine;
use crate::model::EntityModel;
use crate::transaction;

/// What is to be done about the rows of one entity that are gone from the source.
pub(super) struct Deletion<'a> {
    pub(super) engine: &'a Engine<'a>,
    pub(super) model: &'a EntityModel,
    pub(super) way: &'a EntityWay,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) ids: &'a [LegacyId],
}

/// Which rows of a batch go and which don't.
#[derive(Debug, Default)]
struct Choice {
    go: Vec<LegacyId>,
    /// Rows that others refer to.
    held: Vec<LegacyId>,
}

impl Deletion<'_> {
    /// Does it, batch by batch; the rows that were deleted or marked, and those that others refer to.
    /// `batch` is the number of the batch that was recorded last.
    pub(super) async fn run(
        &self,
        catalog: &Catalog,
        batch: &mut i32,
    ) -> Result<(Vec<LegacyId>, Vec<LegacyId>)> {
        let mut deleted = Vec::new();
        if self.way.deletes == Deletes::Ignore {
            return Ok((deleted, Vec::new()));
        }
        let mut size = self.engine.context.settings.batch_size as usize;
        let mut waiting = self.ids.to_vec();
        // Rows that others of the same table refer to go when those have gone, or with them.
        while !waiting.is_empty() {
            let mut held = Vec::new();
            for part in waiting.rchunks(size) {
                let _turn = self.engine.context.turn().await?;
                let (choice, done) = self.part(catalog, part, *batch + 1).await?;
                *batch += 1;
                held.extend(choice.held);
                deleted.extend(done);
            }
            if held.len() == waiting.len() {
                if size >= held.len() {
                    break;
                }
                size = held.len();
            }
            held.sort_unstable();
            waiting = held;
        }
        Ok((deleted, waiting))
    }

    async fn part(
        &self,
        catalog: &Catalog,
        part: &[LegacyId],
        batch: i32,
    ) -> Result<(Choice, Vec<LegacyId>)> {
        let (context, target) = (self.engine.context, &self.engine.target);
        let entity = &self.model.name;
        context.events.send(Event::BatchStarted {
            entity: entity.clone(),
            batch,
        });
        let done =
            transaction::run_again(context, target, self.engine.options.dry_run, async || {
                let choice = self.choose(catalog, part).await?;
                let done = self.carry_out(&choice.go, batch).await?;
                self.record(batch, part, done.len()).await?;
                Ok((choice, done))
            })
            .await?;
        context.events.send(Event::BatchFinished {
            entity: entity.clone(),
            batch,
            rows: part.len() as u64,
        });
        Ok(done)
    }

    /// Which rows may go. Rows that somebody has changed in the target stay unless the source wins,
    /// and rows that others still refer to stay in any case: nothing is known of those others.
    async fn choose(&self, catalog: &Catalog, part: &[LegacyId]) -> Result<Choice> {
        let target = &self.engine.target;
        let mut noted = Vec::new();
        let mut all_held = Vec::new();
        let mut go: Vec<LegacyId> = part.to_vec();
        if self.way.row_policy() != Policy::SourceWins {
            let edits = edits(target, self.model, self.way, Some(part)).await?;
            go.retain(|id| !edits.edited.contains(id));
            noted.extend(
                edits
                    .edited
                    .iter()
                    .map(|id| note(id, json!({ "edited": true }))),
            );
        }
        if self.way.deletes == Deletes::Mirror {
            lock_rows(target, self.model, &go).await?;
            // What stays may refer to what was to go.
            loop {
                let going = [Held {
                    model: self.model,
                    ids: go.clone(),
                }];
                let held = referred(target, catalog, &going, &going[0]).await?;
                if held.is_empty() {
                    break;
                }
                go.retain(|id| !held.contains_key(id));
                let notes = held.iter();
                noted.extend(notes.map(|(id, by)| note(id, json!({ "still_referenced_by": by }))));
                all_held.extend(held.into_keys());
            }
        }
        let run_id = &self.engine.run.run_id;
        if self.way.row_policy() == Policy::TargetWins {
            let is_edited = |row: &Noted| row.detail.get("edited").is_some();
            let edited = noted.iter().filter(|row| is_edited(row));
            let edited: Vec<String> = edited.map(|row| row.legacy_id.clone()).collect();
            let strategy = Policy::TargetWins.as_str();
            regraft_ledger::close_rows(&***target, &self.model.name, &edited, strategy).await?;
            noted.retain(|row| !is_edited(row));
        }
        regraft_ledger::note_rows(&***target, run_id, &self.model.name, &noted).await?;
        Ok(Choice { go, held: all_held })
    }

    async fn carry_out(&self, ids: &[LegacyId], batch: i32) -> Result<Vec<LegacyId>> {
        let (model, target) = (self.model, &self.engine.target);
        let run_no = self.engine.run.run_no;
        let texts: Vec<String> = ids.iter().map(LegacyId::to_string).collect();
        let table = model.table.sql_name();
        let done = match (self.way.deletes, self.way.mark(model, &table)) {
            (Deletes::Soft, Some(mark)) => {
                regraft_ledger::mark_deleted(&***target, &mark, (run_no, batch), &texts).await?
            }
            _ => take_away(target, model, (run_no, batch), &texts).await?,
        };
        // Rows that bear the mark already need no decision either.
        self.close(ids).await?;
        let done: HashSet<String> = done.into_iter().collect();
        let gone = ids.iter().filter(|id| done.contains(&id.to_string()));
        Ok(gone.cloned().collect())
    }

    /// Closes what was noted of rows.
    pub(super) async fn close(&self, ids: &[LegacyId]) -> Result<()> {
        let (target, name) = (&self.engine.target, self.model.name.as_str());
        let texts: Vec<String> = ids.iter().map(LegacyId::to_string).collect();
        regraft_ledger::close_rows(&***target, name, &texts, Policy::SourceWins.as_str()).await?;
        Ok(())
    }

    pub(super) async fn record(&self, batch: i32, part: &[LegacyId], done: usize) -> Result<()> {
        let run = &self.engine.run;
        let mut account = Account::default();
        account.detail.deleted = done as i64;
        let key = |id: Option<&LegacyId>| id.map(ToString::to_string).unwrap_or_default();
        let record = BatchRecord {
            batch,
            low_key: key(part.first()),
            high_key: key(part.last()),
            account,
        };
        regraft_ledger::record_batch(
            &**self.engine.target,
            run.run_no,
            &run.run_id,
            &run.command,
            &self.model.name,
            &record,
        )
        .await?;
        regraft_ledger::advance(&**self.engine.target, self.checkpoint, 0, &record.high_key)
            .await?;
        Ok(())
    }
}

/// Rows that earlier runs have marked as deleted, and that the source has again.
pub(super) async fn returned(
    target: &Session,
    model: &EntityModel,
    way: &EntityWay,
    deleted: &[LegacyId],
) -> Result<Vec<LegacyId>> {
    let table = model.table.sql_name();
    let Some(mark) = way.own_mark(model, &table) else {
        return Ok(Vec::new());
    };
    let deleted: HashSet<&LegacyId> = deleted.iter().collect();
    let marked = regraft_ledger::marked_rows(&**target, &mark).await?;
    let marked = marked.into_iter();
    let marked = marked.filter_map(|id| LegacyId::parse(model.numeric, id));
    let mut returned: Vec<LegacyId> = marked.filter(|id| !deleted.contains(id)).collect();
    returned.sort_unstable();
    Ok(returned)
}

/// The foreign keys that point to a table, each with its own table.
pub(super) fn referring<'c>(
    catalog: &'c Catalog,
    table: &'c Table,
) -> impl Iterator<Item = (&'c Table, &'c Constraint)> {
    let tables = catalog.tables.iter().filter(|child| !child.is_partition);
    tables.flat_map(move |child| {
        let keys = child.constraints.iter().filter(move |key| {
            key.kind == "f"
                && key.foreign_table.as_deref() == Some(table.name.as_str())
                && key.foreign_schema.as_deref() == Some(table.schema.as_str())
                && key.columns.len() == 1
        });
        keys.map(move |key| (child, key))
    })
}

/// Locks rows that are to go, so that nobody comes to refer to them any more.
pub(super) async fn lock_rows(
    target: &Session,
    model: &EntityModel,
    ids: &[LegacyId],
) -> Result<()> {
    let (table, texts) = (model.table.sql_name(), texts_of(ids));
    let owned = owned(model, &table, &[]);
    Ok(regraft_ledger::lock_rows(&**target, &owned, &texts).await?)
}

fn texts_of(ids: &[LegacyId]) -> Vec<String> {
    ids.iter().map(LegacyId::to_string).collect()
}

/// Deletes rows and mappings with what is needed to bring them back; the legacy ids of those that
/// were there.
pub(super) async fn take_away(
    target: &Session,
    model: &EntityModel,
    (run_no, batch): (i32, i32),
    ids: &[String],
) -> Result<Vec<String>> {
    let (table, columns) = (model.table.sql_name(), kept_columns(model));
    let owned = owned(model, &table, &columns);
    let deleted = regraft_ledger::delete_rows(&**target, &owned, run_no, batch, ids).await?;
    Ok([deleted.rows, deleted.mappings].concat())
}

/// The same for rows of several entities that may refer to each other.
pub(super) async fn take_away_together(
    target: &Session,
    run_no: i32,
    parts: &[(&EntityModel, i32, &[LegacyId])],
) -> Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let texts: Vec<Vec<String>> = parts
        .iter()
        .map(|(_, _, ids)| ids.iter().map(LegacyId::to_string).collect())
        .collect();
    let tables: Vec<(String, Vec<String>)> = parts
        .iter()
        .map(|(model, ..)| (model.table.sql_name(), kept_columns(model)))
        .collect();
    let owned: Vec<OwnedTable<'_>> = parts
        .iter()
        .zip(&tables)
        .map(|((model, ..), (table, columns))| owned(model, table, columns))
        .collect();
    let parts: Vec<(&OwnedTable<'_>, i32, &[String])> = owned
        .iter()
        .zip(parts)
        .zip(&texts)
        .map(|((owned, (_, batch, _)), ids)| (owned, *batch, ids.as_slice()))
        .collect();
    regraft_ledger::delete_together(&**target, run_no, &parts).await?;
    Ok(())
}

/// The columns of which is kept what was there: all that can be written again.
pub(super) fn kept_columns(model: &EntityModel) -> Vec<String> {
    let columns = model.table.columns.iter();
    columns
        .filter(|column| !column.is_generated())
        .map(|column| column.name.clone())
        .collect()
}

/// An entity's table, for the ledger.
pub(super) fn owned<'o>(
    model: &'o EntityModel,
    table: &'o str,
    columns: &'o [String],
) -> OwnedTable<'o> {
    OwnedTable {
        entity: &model.name,
        table,
        key: &model.key_column,
        columns,
        numeric: model.numeric,
        merges: model.merge.is_some(),
    }
}

fn note(id: &LegacyId, detail: serde_json::Value) -> Noted {
    Noted {
        comparison_type: "deleted_in_source",
        legacy_id: id.to_string(),
        detail,
    }
}
