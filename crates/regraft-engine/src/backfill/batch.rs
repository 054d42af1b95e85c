//! One batch of a backfill: what the source gives now, held against what the target has.

use std::collections::HashMap;

use regraft_ledger::{Account, BatchRecord, ChangedTable, Checkpoint, Run};
use regraft_pg::Session;
use regraft_pg::copy::{Rows as CopiedRows, Tuple, Writer};
use regraft_pg::quote::{self, ident};
use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::keys::LegacyId;
use crate::load::{BatchRange, Outcome, Reason, Sink, Transformer, fingerprint_of, read_rows};
use crate::model::EntityModel;

/// Which columns the fingerprints of a run's mappings are of, by run number.
pub(super) type Layouts = HashMap<i32, Vec<String>>;

/// Fills the columns of an entity's rows, batch by batch.
pub(super) struct Filler<'a> {
    model: &'a EntityModel,
    columns: &'a [String],
    /// Where the columns stand among the outputs.
    positions: Vec<usize>,
    transformer: Transformer,
    layouts: Layouts,
}

/// A row as the target has it.
struct Current {
    key: Uuid,
    /// The fingerprints last agreed on, and whose they are.
    agreed: Vec<u8>,
    agreed_run: i32,
    values: Vec<Option<Vec<u8>>>,
}

impl<'a> Filler<'a> {
    pub(super) fn new(
        model: &'a EntityModel,
        columns: &'a [String],
        transformer: Transformer,
        layouts: Layouts,
    ) -> Self {
        let positions = columns
            .iter()
            .filter_map(|c| model.outputs.iter().position(|o| o.column == *c))
            .collect();
        Self {
            model,
            columns,
            positions,
            transformer,
            layouts,
        }
    }

    /// Fills a batch inside the caller's transaction; legacy ids of rows that were left.
    pub(super) async fn fill(
        &mut self,
        source: &Session,
        target: &Session,
        run: &Run,
        checkpoint: &Checkpoint,
        range: &BatchRange,
    ) -> Result<Vec<String>> {
        let model = self.model;
        let table = model.table.sql_name();
        let changed = ChangedTable {
            table: &table,
            key: &model.key_column,
            columns: self.columns,
        };
        changed.create_stage(&**target).await?;
        let current = self.current(target, range).await?;
        let mut account = Account::default();
        let mut left = Vec::new();
        let touched = self
            .stage(source, target, range, current, (&mut account, &mut left))
            .await?;
        let written = changed
            .write(&**target, run.run_no, range.number, &model.name)
            .await?;
        regraft_ledger::agree(&**target, run.run_no, &model.name).await?;
        if written > 0 {
            regraft_ledger::forget_agreed_ranges(&**target, &model.name).await?;
        }
        account.updated = written as i64;
        account.unchanged = account.source_rows - account.updated;
        account.detail.changed_in_target += touched - account.updated;
        let record = BatchRecord {
            batch: range.number,
            low_key: range.low.to_string(),
            high_key: range.high.to_string(),
            account,
        };
        let (run_no, rows) = (run.run_no, record.account.source_rows);
        regraft_ledger::record_batch(
            &**target,
            run_no,
            &run.run_id,
            &run.command,
            &model.name,
            &record,
        )
        .await?;
        regraft_ledger::advance(&**target, checkpoint, rows, &record.high_key).await?;
        Ok(left)
    }

    /// The rows of a range that are in place.
    async fn current(
        &self,
        target: &Session,
        range: &BatchRange,
    ) -> Result<HashMap<LegacyId, Current>> {
        let model = self.model;
        let (id, of) = if model.numeric {
            ("m.legacy_id::bigint", "int8")
        } else {
            ("m.legacy_id", "text")
        };
        let bound = |id: &LegacyId| format!("{}::{of}", quote::literal(&id.to_string()));
        let list: String = self
            .columns
            .iter()
            .map(|c| format!(", t.{}", ident(c)))
            .collect();
        let query =
            format!(
            "select {id}, m.new_id, m.column_fingerprints, coalesce(m.agreed_run, m.run_no){list}
             from {} m join {} t on t.{} = m.new_id
             where m.merged_into is null and {id} >= {} and {id} <= {}",
            quote::qualified(regraft_ledger::SCHEMA, &regraft_ledger::partition_name(&model.name)),
            model.table.sql_name(),
            ident(&model.key_column),
            bound(&range.low),
            bound(&range.high),
        );
        let mut rows = CopiedRows::of(target, &query, 4 + self.columns.len()).await?;
        let mut current = HashMap::new();
        while let Some(row) = rows.next().await? {
            let id = LegacyId::from_field(model.numeric, row.get(0)).ok_or_else(unreadable)?;
            current.insert(
                id,
                Current {
                    key: row
                        .get(1)
                        .and_then(|b| Uuid::from_slice(b).ok())
                        .unwrap_or_default(),
                    agreed: row.get(2).unwrap_or_default().to_vec(),
                    agreed_run: row
                        .get(3)
                        .and_then(|b| b.try_into().ok())
                        .map_or(0, i32::from_be_bytes),
                    values: (0..self.columns.len())
                        .map(|i| row.get(4 + i).map(<[u8]>::to_vec))
                        .collect(),
                },
            );
        }
        Ok(current)
    }

    /// Puts every row of the range that is in place into the staging table, with what it is to
    /// become; how many are to be written.
    async fn stage(
        &mut self,
        source: &Session,
        target: &Session,
        range: &BatchRange,
        mut current: HashMap<LegacyId, Current>,
        (account, left): (&mut Account, &mut Vec<String>),
    ) -> Result<i64> {
        let model = self.model;
        let query = read_rows(model, &range.to_rows());
        let mut rows = CopiedRows::of(source, &query, model.fields.len() + 1).await?;
        let copy = format!(
            "copy {} from stdin (format binary)",
            regraft_ledger::BACKFILL_STAGE
        );
        let mut sink = Sink::new(target, copy);
        let (mut block, mut parsed, mut prints) = (Writer::new(), Tuple::default(), Vec::new());
        let mut touched = 0;
        while let Some(row) = rows.next().await? {
            let id = self.transformer.legacy_id(row.bytes(), row.tuple())?;
            let Some(now) = current.remove(&id) else {
                continue;
            };
            account.source_rows += 1;
            let mark = block.mark();
            let outcome =
                self.transformer
                    .row(&id, row.bytes(), row.tuple(), &mut block, &mut prints)?;
            match outcome {
                Outcome::Written { fingerprint, .. } => {
                    let written = block.since(mark);
                    parsed.parse(written, model.outputs.len())?;
                    let verdict = self.judge(&now, written, &parsed);
                    if verdict == Verdict::Left {
                        account.detail.changed_in_target += 1;
                        left.push(id.to_string());
                    }
                    let write = verdict == Verdict::Write;
                    touched += i64::from(write);
                    let prints = self.prints(&now, &prints, verdict);
                    let tuple = sink.block();
                    tuple.tuple(5 + 2 * self.columns.len() as i16);
                    tuple.field(id.to_string().as_bytes());
                    tuple.field(now.key.as_bytes());
                    tuple.field(&fingerprint.to_be_bytes());
                    tuple.field(&prints);
                    tuple.field(&[u8::from(write)]);
                    for (&position, before) in self.positions.iter().zip(&now.values) {
                        tuple.optional(parsed.field(written, position));
                        tuple.optional(before.as_deref());
                    }
                    sink.send_if_full().await?;
                }
                Outcome::Faulty(reasons) => {
                    note(account, &reasons);
                    left.push(id.to_string());
                }
                Outcome::Merged | Outcome::InPlace { .. } => {}
            }
            block.truncate(mark);
        }
        sink.finish().await?;
        Ok(touched)
    }

    /// What is to become of a row.
    fn judge(&self, now: &Current, written: &[u8], parsed: &Tuple) -> Verdict {
        let mut verdict = Verdict::Same;
        for ((&position, column), value) in self.positions.iter().zip(self.columns).zip(&now.values)
        {
            if parsed.field(written, position) == value.as_deref() {
                continue;
            }
            let untouched = match value {
                None => true,
                Some(value) => self.agreed(now, column) == Some(fingerprint_of(value)),
            };
            if !untouched {
                return Verdict::Left;
            }
            verdict = Verdict::Write;
        }
        verdict
    }

    /// The fingerprint of a column that both sides last agreed on, if they ever did.
    fn agreed(&self, now: &Current, column: &str) -> Option<[u8; 4]> {
        let layout = self.layouts.get(&now.agreed_run)?;
        let at = layout.iter().position(|c| c == column)?;
        now.agreed.get(4 * at..4 * at + 4)?.try_into().ok()
    }

    /// The fingerprints of a row in the order of the project as it is now: of what was written, and
    /// of a column that was left what had been agreed on before.
    fn prints(&self, now: &Current, new: &[u8], verdict: Verdict) -> Vec<u8> {
        let mut prints = Vec::with_capacity(new.len());
        for (output, new) in self.model.fingerprinted().zip(new.chunks(4)) {
            let filled = self.columns.contains(&output.column);
            let kept = match verdict {
                Verdict::Left if filled => self.agreed(now, &output.column).or(Some([0; 4])),
                // What this run doesn't touch stays as it was agreed on.
                _ if !filled => self.agreed(now, &output.column),
                _ => None,
            };
            prints.extend_from_slice(kept.as_ref().map_or(new, |kept| kept.as_slice()));
        }
        prints
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Write,
    Left,
}

/// A row that is in place stays there, whatever its columns can't take.
fn note(account: &mut Account, reasons: &[Reason]) {
    for reason in reasons {
        *account.detail.reasons.entry(reason.key()).or_default() += 1;
    }
}

fn unreadable() -> Error {
    Error::new(
        Kind::Internal,
        "a legacy id is not laid out as its type says",
    )
}
