//! Writing what has changed: the columns that changed and no others, each row only while it holds
//! what it held when it was looked at.

use std::collections::HashSet;
use std::time::Instant;

use regraft_ledger::{Account, BatchRecord, Checkpoint, Noted, marking};
use regraft_project::Policy;
use serde_json::json;

use super::examine::{Examination, Examined, Examiner};
use super::tally::{EntityDifferential, Tally};
use super::way::EntityWay;
use crate::error::{Error, Kind, Result};
use crate::events::Event;
use crate::keys::LegacyId;
use crate::load::{Reason, is_about_rows};
use crate::migrate::Engine;
use crate::transaction;

/// How often a batch is looked at while somebody changes its rows.
const TRIES: u32 = 5;

/// Writes the changed rows of one entity.
pub(super) struct Updater<'a> {
    pub(super) engine: &'a Engine<'a>,
    pub(super) entity: &'a str,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) way: &'a EntityWay,
    /// The number of the batch that was recorded last.
    pub(super) batch: i32,
    /// Whether the run's account has the rows already.
    pub(super) accounted: bool,
}

/// What became of the rows.
#[derive(Debug, Default)]
pub(super) struct Updated {
    /// Rows that are not agreed on in the end.
    pub(super) unsettled: Vec<LegacyId>,
    /// Rows that could not become what the source says.
    pub(super) refused: Vec<LegacyId>,
    /// Rows that somebody has changed between being read and being written.
    pub(super) lost: i64,
}

impl Updater<'_> {
    /// Brings rows in place up to date, batch by batch. A batch with a row that the server refuses
    /// is done by halves, so that the row costs itself alone.
    pub(super) async fn run(
        &mut self,
        examiner: &mut Examiner<'_>,
        ids: &[LegacyId],
        tally: &mut Tally,
    ) -> Result<Updated> {
        let mut updated = Updated::default();
        let size = self.engine.context.settings.batch_size as usize;
        let mut measured = self.engine.context.pace.measured(size);
        // Rows whose unique values another row still holds go again when the others are done.
        let mut waiting: Vec<(Vec<LegacyId>, bool)> = Vec::new();
        waiting.extend(ids.chunks(size).rev().map(|part| (part.to_vec(), true)));
        let mut later: Vec<LegacyId> = Vec::new();
        while let Some((mut part, may_wait)) = waiting.pop() {
            let _turn = self.engine.context.turn().await?;
            let rows = measured.rows();
            if part.len() > rows {
                waiting.push((part.split_off(rows), may_wait));
            }
            let began = Instant::now();
            let before = std::mem::take(&mut tally.found);
            tally.found = before.clone();
            match self.batch(examiner, &part, tally, &mut updated).await {
                Ok(()) => measured.took(part.len(), began.elapsed()),
                Err(error) if is_about_rows(&error) => {
                    tally.found = before;
                    if part.len() > 1 {
                        let (first, second) = part.split_at(part.len() / 2);
                        waiting.push((second.to_vec(), may_wait));
                        waiting.push((first.to_vec(), may_wait));
                    } else if may_wait && is_unique(&error) {
                        later.extend(part);
                    } else {
                        self.refuse(&part, &error, &mut updated).await?;
                    }
                }
                Err(error) => return Err(error.in_entity(self.entity)),
            }
            if waiting.is_empty() && !later.is_empty() {
                waiting.push((std::mem::take(&mut later), false));
            }
        }
        Ok(updated)
    }

    async fn batch(
        &mut self,
        examiner: &mut Examiner<'_>,
        ids: &[LegacyId],
        tally: &mut Tally,
        updated: &mut Updated,
    ) -> Result<()> {
        let (context, target) = (self.engine.context, &self.engine.target);
        let number = self.batch + 1;
        let before = tally.found.clone();
        context.events.send(Event::BatchStarted {
            entity: self.entity.to_owned(),
            batch: number,
        });
        let (examination, written) =
            transaction::run_again(context, target, self.engine.options.dry_run, async || {
                target
                    .batch_execute("set constraints all immediate")
                    .await?;
                let (examination, written) = self
                    .examine_and_write(examiner, ids, (tally, &before), number)
                    .await?;
                let unmarked = self.unmark(&examination, number).await?;
                let mut account = account(&examination, &written, ids);
                let unmarked = unmarked.difference(&written).count() as i64;
                account.updated += unmarked;
                account.unchanged -= unmarked;
                self.record(number, ids, account).await?;
                Ok((examination, written))
            })
            .await?;
        self.batch = number;
        context.events.send(Event::BatchFinished {
            entity: self.entity.to_owned(),
            batch: number,
            rows: ids.len() as u64,
        });
        tally.found.refused.rows += examination.refused.len() as i64;
        for (id, _) in &examination.refused {
            updated.refused.push(id.clone());
        }
        let rows = examination.rows.iter();
        updated.lost += rows.filter(|row| lost(row, &written)).count() as i64;
        let by_text: HashSet<&str> = examination
            .rows
            .iter()
            .filter(|row| row.undecided.contains('1') || lost(row, &written))
            .map(|row| row.id.as_str())
            .collect();
        let unsettled = ids
            .iter()
            .filter(|id| by_text.contains(id.to_string().as_str()));
        updated.unsettled.extend(unsettled.cloned());
        updated
            .unsettled
            .extend(examination.refused.into_iter().map(|(id, _)| id));
        updated.unsettled.extend(examination.missing);
        Ok(())
    }

    /// Looks at rows and writes them; again where somebody has changed one in between, so that the
    /// target becomes what the source said at one moment. `before` is what was counted of the others.
    async fn examine_and_write(
        &self,
        examiner: &mut Examiner<'_>,
        ids: &[LegacyId],
        (tally, before): (&mut Tally, &EntityDifferential),
        number: i32,
    ) -> Result<(Examination, HashSet<String>)> {
        let (source, target) = (&self.engine.source, &self.engine.target);
        target.batch_execute("savepoint regraft_examined").await?;
        for tries_left in (0..TRIES).rev() {
            tally.found.clone_from(before);
            let examination = examiner.examine(source, target, ids, tally).await?;
            let written = self.write(examiner, &examination, number).await?;
            if tries_left == 0 || !examination.rows.iter().any(|row| lost(row, &written)) {
                return Ok((examination, written));
            }
            target
                .batch_execute("rollback to savepoint regraft_examined")
                .await?;
        }
        Err(Error::new(Kind::Internal, "a batch was not tried"))
    }

    /// Writes what is staged and notes what both sides agree on; the legacy ids of rows written.
    async fn write(
        &self,
        examiner: &Examiner<'_>,
        examination: &Examination,
        number: i32,
    ) -> Result<HashSet<String>> {
        let target = &self.engine.target;
        let run = &self.engine.run;
        let model = &self.engine.model.entities[self.entity];
        let name = model.table.sql_name();
        let table = examiner.table(&name);
        let mut written = HashSet::new();
        for mask in marking(examination.rows.iter().map(|row| &row.written)) {
            let ids = table
                .write(&***target, (run.run_no, number), &mask, None)
                .await?;
            written.extend(ids);
        }
        let settled: Vec<String> = examination
            .rows
            .iter()
            .filter(|row| row.news && !lost(row, &written))
            .map(|row| row.id.clone())
            .collect();
        table.agree(&***target, run.run_no, &settled).await?;
        for mask in marking(examination.rows.iter().map(|row| &row.undecided)) {
            table.note_conflicts(&***target, &run.run_id, &mask).await?;
        }
        self.note(examination).await?;
        let rows = examination.rows.iter();
        let (more, decided): (Vec<_>, Vec<_>) = rows
            .filter(|row| !row.undecided.contains('1') && !lost(row, &written))
            .partition(|row| row.more);
        let ids = |rows: Vec<&Examined>| -> Vec<String> {
            rows.into_iter().map(|row| row.id.clone()).collect()
        };
        let strategy = self.way.row_policy().as_str();
        regraft_ledger::close_rows(&***target, self.entity, &ids(decided), strategy).await?;
        table
            .close_columns(&***target, &ids(more), strategy)
            .await?;
        Ok(written)
    }

    /// Notes rows that can't become what the source says, and rows that are gone, for a decision.
    async fn note(&self, examination: &Examination) -> Result<()> {
        let (target, run) = (&self.engine.target, &self.engine.run);
        let refused = examination.refused.iter();
        let mut noted: Vec<Noted> = refused.map(|(id, reasons)| refusal(id, reasons)).collect();
        let policy = self.way.row_policy();
        let missing = examination.missing.iter().map(LegacyId::to_string);
        if policy == Policy::TargetWins {
            let missing: Vec<String> = missing.collect();
            let strategy = policy.as_str();
            regraft_ledger::close_rows(&***target, self.entity, &missing, strategy).await?;
        } else {
            noted.extend(missing.map(|legacy_id| Noted {
                comparison_type: "deleted_in_target",
                legacy_id,
                detail: json!({}),
            }));
        }
        regraft_ledger::note_rows(&***target, &run.run_id, self.entity, &noted).await?;
        Ok(())
    }

    /// Takes the mark off rows that were marked as deleted: the source has them. Which.
    async fn unmark(&self, examination: &Examination, number: i32) -> Result<HashSet<String>> {
        let (target, run_no) = (&self.engine.target, self.engine.run.run_no);
        let model = &self.engine.model.entities[self.entity];
        let table = model.table.sql_name();
        let Some(mark) = self.way.own_mark(model, &table) else {
            return Ok(HashSet::new());
        };
        let of = model
            .table
            .column(mark.column)
            .map(|c| c.type_name.as_str());
        let ids: Vec<String> = examination.rows.iter().map(|row| row.id.clone()).collect();
        let (of, run) = (of.unwrap_or("text"), (run_no, number));
        let unmarked = regraft_ledger::unmark(&***target, &mark, of, run, &ids).await?;
        Ok(unmarked.into_iter().collect())
    }

    /// Records a batch under the checkpoint's fence.
    async fn record(&self, number: i32, ids: &[LegacyId], account: Account) -> Result<()> {
        let account = if self.accounted {
            Account::default()
        } else {
            account
        };
        let target = &self.engine.target;
        let run = &self.engine.run;
        let (Some(low), Some(high)) = (ids.first(), ids.last()) else {
            return Ok(());
        };
        let record = BatchRecord {
            batch: number,
            low_key: low.to_string(),
            high_key: high.to_string(),
            account,
        };
        regraft_ledger::record_batch(
            &***target,
            run.run_no,
            &run.run_id,
            &run.command,
            self.entity,
            &record,
        )
        .await?;
        let rows = record.account.source_rows;
        regraft_ledger::advance(&***target, self.checkpoint, rows, &record.high_key).await?;
        Ok(())
    }

    /// Notes a single row that the server refuses; it stays as it is.
    async fn refuse(
        &mut self,
        ids: &[LegacyId],
        error: &Error,
        updated: &mut Updated,
    ) -> Result<()> {
        let reason = error.database().map_or_else(
            || Reason::bare("target_refused"),
            |e| Reason::refused(e, "target_refused"),
        );
        let reasons = [reason];
        let noted: Vec<Noted> = ids.iter().map(|id| refusal(id, &reasons)).collect();
        let mut account = Account {
            source_rows: ids.len() as i64,
            unchanged: ids.len() as i64,
            ..Account::default()
        };
        *account.detail.reasons.entry(reasons[0].key()).or_default() += ids.len() as i64;
        let number = self.batch + 1;
        let target = &self.engine.target;
        transaction::run(target, self.engine.options.dry_run, async || {
            regraft_ledger::note_rows(&***target, &self.engine.run.run_id, self.entity, &noted)
                .await?;
            self.record(number, ids, account).await
        })
        .await?;
        self.batch = number;
        updated.refused.extend_from_slice(ids);
        updated.unsettled.extend_from_slice(ids);
        Ok(())
    }
}

/// Whether a row was to be written and was not: somebody has changed it in between.
fn lost(row: &Examined, written: &HashSet<String>) -> bool {
    row.written.contains('1') && !written.contains(&row.id)
}

fn refusal(id: &LegacyId, reasons: &[Reason]) -> Noted {
    Noted {
        comparison_type: "refused",
        legacy_id: id.to_string(),
        detail: json!({ "reasons": reasons }),
    }
}

fn is_unique(error: &Error) -> bool {
    let state = error.database().and_then(regraft_pg::Error::sqlstate);
    state == Some("23505")
}

/// The account of a batch of rows in place.
fn account(examination: &Examination, written: &HashSet<String>, ids: &[LegacyId]) -> Account {
    let rows = &examination.rows;
    let count = |of: &dyn Fn(&Examined) -> bool| rows.iter().filter(|row| of(row)).count() as i64;
    let mut account = Account {
        source_rows: ids.len() as i64,
        updated: written.len() as i64,
        ..Account::default()
    };
    account.unchanged = account.source_rows - account.updated;
    account.detail.conflicts = count(&|row| row.undecided.contains('1'));
    account.detail.changed_in_target = count(&|row| {
        !row.undecided.contains('1')
            && (lost(row, written) || row.kept && !row.written.contains('1'))
    });
    for (_, reasons) in &examination.refused {
        for reason in reasons {
            *account.detail.reasons.entry(reason.key()).or_default() += 1;
        }
    }
    account
}
