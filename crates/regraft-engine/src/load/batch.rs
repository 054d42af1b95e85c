//! One batch: read, transformed, written, accounted for and committed, all or nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use futures_util::{StreamExt, pin_mut};
use regraft_ledger::{Account, BatchRecord, Bucket, Checkpoint, MappingRow, Quarantined};
use regraft_pg::copy::{Reader, Tuple, Writer};
use regraft_pg::{ErrorKind, Session};
use regraft_project::Provenance;
use serde_json::json;
use tokio::sync::RwLock;
use tokio::try_join;
use uuid::Uuid;

use super::read::{self, BatchRange, MappedRow, Rows, parse_id, raw_values};
use super::sink::Sink;
use super::{Doubles, Faults, Merged, Outcome, Reason, Transformer, stage};
use crate::bulk::Dropped;
use crate::error::{Error, Kind, Result};
use crate::keys::{Deriver, KeyMap, LegacyId};
use crate::model::EntityModel;
use crate::transaction;

/// Deferred constraints are checked at once, so that a fault belongs to a statement and not to the
/// commit.
const IMMEDIATE: &str = "set constraints all immediate";

/// What the batches of an entity share.
pub(crate) struct EntityLoad {
    pub(crate) model: Arc<EntityModel>,
    pub(crate) run_no: i32,
    pub(crate) run_id: String,
    pub(crate) command: String,
    pub(crate) checkpoint: Checkpoint,
    /// When this process began with it.
    pub(crate) started: Instant,
    /// What is off its table while it is loaded.
    pub(crate) dropped: Vec<Dropped>,
    /// Whether it was this process that took it off, so that nothing of it has come back yet.
    pub(crate) all_off: bool,
    pub(crate) deriver: Option<Deriver>,
    pub(crate) parents: HashMap<String, Arc<KeyMap>>,
    /// Rows that lose to an earlier one under a unique constraint.
    pub(crate) losers: Arc<HashMap<LegacyId, Vec<Reason>>>,
    /// Rows that are merged into others.
    pub(crate) merged: Arc<Merged>,
    /// Rows that may have an equal under a unique index; for a bulk load.
    pub(crate) doubles: Option<Arc<Doubles>>,
    /// See `Engine::gate`.
    pub(crate) gate: Arc<RwLock<()>>,
    /// Whether its batches go one after the other.
    pub(crate) serial: bool,
    /// Whether its batches are handed out to workers of several processes.
    pub(crate) offered: bool,
    /// Whether earlier runs moved rows of this entity.
    pub(crate) has_existing: bool,
    /// Whether no row of this entity has ever been in quarantine.
    pub(crate) first_quarantine: bool,
    /// Rows of this entity that are in quarantine.
    pub(crate) quarantined: HashSet<String>,
    /// Within a transaction of the caller's (a dry run).
    pub(crate) nested: bool,
    /// Batches in a row that the server refused as a whole: after a few, the rest is staged from
    /// the start.
    pub(crate) refused: AtomicU32,
}

impl EntityLoad {
    /// What the transaction of a batch begins with.
    fn begins(&self, batch: i32) -> String {
        if !self.offered {
            return IMMEDIATE.to_owned();
        }
        let named = regraft_ledger::offered_batch_begins(self.checkpoint.id, batch);
        format!("{IMMEDIATE}; {named}")
    }
}

/// A pair of connections that moves batches.
pub(crate) struct Worker {
    pub(crate) source: Session,
    pub(crate) target: Arc<Session>,
}

/// A row that was written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) id: LegacyId,
    pub(crate) key: Uuid,
    pub(crate) fingerprint: u128,
}

/// What a batch has come to so far.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) written: Vec<Written>,
    /// Column fingerprints of the written rows, one after the other.
    pub(crate) fingerprints: Vec<u8>,
    pub(crate) faults: Faults,
    pub(crate) in_place: i64,
    pub(crate) changed: i64,
    /// Rows that are merged into others; their mappings follow when those are all in place.
    pub(crate) merged: i64,
}

impl Progress {
    /// Rows seen.
    pub(crate) fn seen(&self) -> usize {
        self.written.len()
            + self.faults.rows.len()
            + (self.in_place + self.merged).unsigned_abs() as usize
    }
}

/// Moves one batch.
///
/// # Errors
/// Whatever stops the batch as a whole; its transaction has not committed then, unless the error
/// is a lost connection, after which only the ledger knows.
pub(crate) async fn process(
    worker: &Worker,
    load: &EntityLoad,
    range: &BatchRange,
) -> Result<BatchRecord> {
    let _at_work = load.gate.read().await;
    let mut transformer = Transformer::new(
        Arc::clone(&load.model),
        load.deriver.clone(),
        load.parents.clone(),
        Arc::clone(&load.losers),
    )?;
    transformer.doubles.clone_from(&load.doubles);
    transformer.merged = Arc::clone(&load.merged);
    if load.has_existing {
        transformer.existing = existing(&worker.target, &load.model, range).await?;
    }
    let target = &worker.target;
    let first = load.begins(range.number);
    if load.refused.load(Ordering::Relaxed) < 2 {
        let direct = transaction::beginning_with(target, load.nested, &first, async || {
            let progress = copy_range(worker, load, range, &mut transformer).await?;
            finish(worker, load, range, progress).await
        })
        .await;
        match direct {
            Err(error) if is_about_rows(&error) => load.refused.fetch_add(1, Ordering::Relaxed),
            Ok(record) => {
                load.refused.store(0, Ordering::Relaxed);
                return Ok(record);
            }
            Err(error) => return Err(error),
        };
    }
    transaction::beginning_with(target, load.nested, &first, async || {
        let progress = stage::fill(worker, &load.model, &range.to_rows(), &mut transformer).await?;
        finish(worker, load, range, progress).await
    })
    .await
}

/// Whether a fault lies in some rows, so that the others can still be moved.
pub(crate) fn is_about_rows(error: &Error) -> bool {
    error.database().is_some_and(|e| match e.kind() {
        ErrorKind::Constraint | ErrorKind::Data => true,
        ErrorKind::Query => matches!(e.sqlstate(), Some(state) if state.starts_with("P0")),
        _ => false,
    })
}

/// The rows of a range that are in place already.
pub(crate) async fn existing(
    target: &Session,
    model: &EntityModel,
    range: &BatchRange,
) -> Result<HashMap<LegacyId, MappedRow>> {
    if let Some(ids) = &model.only {
        let within = ids
            .iter()
            .filter(|id| (&range.low..=&range.high).contains(id));
        let within: Vec<String> = within.map(LegacyId::to_string).collect();
        let rows =
            regraft_ledger::mapped_among(&**target, &model.name, model.numeric, &within).await?;
        return rows
            .into_iter()
            .map(|(id, fingerprint)| Ok((parse_id(model, id)?, MappedRow { fingerprint })))
            .collect();
    }
    let rows = regraft_ledger::mapped_rows(
        &**target,
        &model.name,
        model.numeric,
        &range.low.to_string(),
        &range.high.to_string(),
    )
    .await?;
    rows.into_iter()
        .map(|(id, _, fingerprint)| Ok((parse_id(model, id)?, MappedRow { fingerprint })))
        .collect()
}

/// The direct way: COPY out of the source, COPY into the table.
async fn copy_range(
    worker: &Worker,
    load: &EntityLoad,
    range: &BatchRange,
    transformer: &mut Transformer,
) -> Result<Progress> {
    let model = &load.model;
    let copy = format!(
        "copy {} ({}) from stdin (format binary)",
        model.table.sql_name(),
        model.column_list()
    );
    let mut progress = Progress::default();
    let sent = {
        let mut sink = Sink::new(&worker.target, copy);
        let rows = range.to_rows();
        read_into(
            &worker.source,
            model,
            &rows,
            transformer,
            &mut progress,
            &mut sink,
            false,
        )
        .await?;
        sink.finish().await?
    };
    if sent != progress.written.len() as u64 {
        return Err(Error::new(
            Kind::Data,
            format!(
                "the target took {sent} of {} rows: a trigger or rule of table {} swallows rows",
                progress.written.len(),
                model.table.name
            ),
        ));
    }
    Ok(progress)
}

/// Reads rows and appends what becomes of them to a sink. `numbered` rows begin with
/// their number, for staging.
///
/// The source's transaction stays usable whatever happens: an error in it only takes back a
/// savepoint.
pub(crate) async fn read_into(
    source: &Session,
    model: &EntityModel,
    rows: &Rows,
    transformer: &mut Transformer,
    progress: &mut Progress,
    sink: &mut Sink<'_>,
    numbered: bool,
) -> Result<()> {
    // The query is on its way before the savepoint is answered.
    let (saved, read) = tokio::join!(
        source.batch_execute("savepoint regraft_read"),
        read_rows(source, model, rows, transformer, progress, sink, numbered),
    );
    saved?;
    if read.is_ok() {
        source
            .batch_execute("release savepoint regraft_read")
            .await?;
    } else if !source.is_closed() {
        source
            .batch_execute("rollback to savepoint regraft_read")
            .await?;
    }
    read
}

async fn read_rows(
    source: &Session,
    model: &EntityModel,
    rows: &Rows,
    transformer: &mut Transformer,
    progress: &mut Progress,
    sink: &mut Sink<'_>,
    numbered: bool,
) -> Result<()> {
    let sql = format!(
        "copy ({}) to stdout (format binary)",
        read::read_rows(model, rows)
    );
    // Whose fault it is decides what is said of a row, so an error carries its side.
    let of_source = |e| Error::from(source.error(e));
    let stream = source.copy_out(&sql).await.map_err(of_source)?;
    pin_mut!(stream);
    let (mut reader, mut tuple) = (Reader::default(), Tuple::default());
    let fields = model.fields.len() + 1;
    let mut fingerprints = Vec::new();
    let mut previous: Option<LegacyId> = None;
    while let Some(chunk) = stream.next().await {
        let payload = reader.payload(&chunk.map_err(of_source)?)?;
        let mut rest: &[u8] = &payload;
        while !rest.is_empty() {
            let Some(used) = tuple.parse(rest, fields)? else {
                reader.finish();
                break;
            };
            let id = transformer.legacy_id(rest, &tuple)?;
            if previous.as_ref() == Some(&id) {
                return Err(duplicate_key(model, &id));
            }
            let row = &rest[..used];
            let block = sink.block();
            let mark = block.mark();
            match transformer.row(&id, row, &tuple, block, &mut fingerprints)? {
                Outcome::Written { key, fingerprint } => {
                    if numbered {
                        number_row(
                            block,
                            mark,
                            progress.written.len() as i64,
                            model.outputs.len(),
                        );
                    }
                    progress.fingerprints.extend_from_slice(&fingerprints);
                    progress.written.push(Written {
                        id: id.clone(),
                        key,
                        fingerprint,
                    });
                }
                Outcome::InPlace { changed } => {
                    progress.in_place += 1;
                    progress.changed += i64::from(changed);
                }
                Outcome::Merged => progress.merged += 1,
                Outcome::Faulty(reasons) => progress.faults.add(id.clone(), reasons),
            }
            previous = Some(id);
            rest = &rest[used..];
            sink.send_if_full().await?;
        }
    }
    if !reader.is_finished() {
        return Err(Error::new(
            Kind::Unreachable,
            "the source's data ended before its end marker",
        )
        .in_entity(&model.name));
    }
    Ok(())
}

/// Puts a row's number in front of its fields: the staging table has one column more.
fn number_row(block: &mut Writer, mark: usize, number: i64, fields: usize) {
    let row = block.since(mark + 2).to_vec();
    block.truncate(mark);
    block.tuple(fields as i16 + 1);
    block.field(&number.to_be_bytes());
    block.raw(&row);
}

fn duplicate_key(model: &EntityModel, id: &LegacyId) -> Error {
    Error::new(
        Kind::Data,
        format!("legacy id {id} comes more than once out of the source: the key is not unique"),
    )
    .in_entity(&model.name)
    .hint("a join in `source.from` multiplies rows, or `source.key` is not the row's own id")
}

/// Writes mappings, quarantine, account and checkpoint; the transaction commits next.
async fn finish(
    worker: &Worker,
    load: &EntityLoad,
    range: &BatchRange,
    mut progress: Progress,
) -> Result<BatchRecord> {
    if progress.seen() as i64 != range.kept {
        return Err(Error::new(
            Kind::Data,
            format!(
                "the source counted {} rows and gave {}: something between here and there cuts \
                 results short",
                range.kept,
                progress.seen()
            ),
        ));
    }
    let model = &load.model;
    let record = BatchRecord {
        batch: range.number,
        low_key: range.low.to_string(),
        high_key: range.high.to_string(),
        account: account(load, range, &progress),
    };
    let faulty = std::mem::take(&mut progress.faults.rows)
        .into_iter()
        .map(|(id, reasons)| (range.number, id, reasons))
        .collect();
    // Both servers are at work at once.
    let ((), rows) = try_join!(
        write_mappings(&worker.target, load, range.number, &progress),
        quarantined_rows(&worker.source, model, faulty),
    )?;
    if load.first_quarantine {
        regraft_ledger::put_first_quarantine(&worker.target, load.run_no, &model.name, &rows)
            .await?;
    } else {
        // A retry is about rows that were asked for by name.
        let asked = load.model.only.is_some();
        let (target, run_no) = (&worker.target, load.run_no);
        regraft_ledger::put_quarantine(target, run_no, &model.name, &rows, asked).await?;
    }
    if !load.quarantined.is_empty() {
        let moved: Vec<String> = progress
            .written
            .iter()
            .map(|row| row.id.to_string())
            .filter(|id| load.quarantined.contains(id))
            .collect();
        if !moved.is_empty() {
            regraft_ledger::resolve_quarantine(&**worker.target, &model.name, &moved).await?;
        }
    }
    // Neither needs the other's answer, and without both the transaction isn't committed.
    try_join!(
        regraft_ledger::record_batch(
            &**worker.target,
            load.run_no,
            &load.run_id,
            &load.command,
            &model.name,
            &record,
        ),
        regraft_ledger::advance(
            &**worker.target,
            &load.checkpoint,
            record.account.source_rows,
            &record.high_key,
        )
    )?;
    Ok(record)
}

async fn write_mappings(
    target: &Session,
    load: &EntityLoad,
    batch: i32,
    progress: &Progress,
) -> Result<()> {
    let model = &load.model;
    let width = model.print_width();
    let mut sink = Sink::new(target, regraft_ledger::copy_statement(&model.name));
    let mut id = String::new();
    for (number, row) in progress.written.iter().enumerate() {
        let columns = &progress.fingerprints[number * width..][..width];
        id.clear();
        match &row.id {
            LegacyId::Number(n) => id.push_str(itoa::Buffer::new().format(*n)),
            LegacyId::Text(text) => id.push_str(text),
        }
        let mapping = MappingRow {
            legacy_id: &id,
            new_id: row.key,
            source_fingerprint: row.fingerprint,
            column_fingerprints: columns,
            run_no: load.run_no,
            batch,
        };
        regraft_ledger::encode_mapping(sink.block(), &model.name, &mapping);
        sink.send_if_full().await?;
    }
    let taken = sink.finish().await?;
    if taken != progress.written.len() as u64 {
        return Err(Error::new(
            Kind::Internal,
            format!(
                "{taken} mappings were taken for {} rows",
                progress.written.len()
            ),
        ));
    }
    Ok(())
}

fn account(load: &EntityLoad, range: &BatchRange, progress: &Progress) -> Account {
    let mut account = range.account();
    account.inserted = progress.written.len() as i64;
    account.unchanged = progress.in_place;
    account.merged = progress.merged;
    if let (Some(rule), 1..) = (&load.model.merge, progress.merged) {
        account
            .detail
            .merged
            .insert(rule.name.clone(), progress.merged);
    }
    account.detail.changed_in_source = progress.changed;
    for (_, reasons) in &progress.faults.rows {
        match Faults::bucket(reasons) {
            Bucket::Quarantined => account.quarantined += 1,
            Bucket::Blocked => account.blocked += 1,
        }
        let mut keys: Vec<String> = reasons.iter().map(Reason::key).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            *account.detail.reasons.entry(key).or_default() += 1;
        }
    }
    let synthesised = load
        .model
        .outputs
        .iter()
        .filter(|output| output.provenance == Provenance::Synthesised)
        .count() as i64;
    account.synthesised = synthesised * account.inserted;
    account
}

/// Faulty rows of batches with their raw values, ready for the quarantine.
pub(crate) async fn quarantined_rows(
    source: &Session,
    model: &EntityModel,
    faulty: Vec<(i32, LegacyId, Vec<Reason>)>,
) -> Result<Vec<Quarantined>> {
    if faulty.is_empty() {
        return Ok(Vec::new());
    }
    // A row that the source can't compute has no values to show.
    let readable: Vec<LegacyId> = faulty
        .iter()
        .filter(|(_, _, reasons)| reasons.iter().all(|r| r.code != "source_error"))
        .map(|(_, id, _)| id.clone())
        .collect();
    let mut values = raw_values(source, model, &readable).await?;
    Ok(faulty
        .into_iter()
        .map(|(batch, id, reasons)| Quarantined {
            source_row: values.remove(&id),
            legacy_id: id.to_string(),
            bucket: Faults::bucket(&reasons),
            reasons: json!(reasons).to_string(),
            batch,
        })
        .collect())
}
