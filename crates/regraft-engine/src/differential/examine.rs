//! Rows of a batch, column by column: what was agreed on, what the source says now, and what the
//! target holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use regraft_ledger::{STAGE_COLUMNS, UPDATE_STAGE, UpdatedTable};
use regraft_pg::Session;
use regraft_pg::copy::{Rows as Tuples, Tuple, Writer};
use regraft_pg::quote::{self, ident};
use uuid::Uuid;

use super::policy::{Change, Decision};
use super::tally::Tally;
use super::way::EntityWay;
use crate::error::{Error, Kind, Result};
use crate::keys::{Deriver, KeyMap, LegacyId};
use crate::load::{
    Merged, NULL_FINGERPRINT, Outcome, Reason, Rows, Sink, Transformer, column_types, id_array,
    read_rows,
};
use crate::model::{EntityModel, Output, OutputRule};

/// The columns of each run's fingerprints, by run number.
pub(super) type Layouts = HashMap<i32, Vec<String>>;

/// The fingerprint that was agreed on for a column, if ever one was.
pub(super) fn agreed(layouts: &Layouts, run: i32, prints: &[u8], column: &str) -> Option<[u8; 4]> {
    let at = layouts.get(&run)?.iter().position(|c| c == column)?;
    prints.get(4 * at..4 * at + 4)?.try_into().ok()
}

/// Looks at rows of one entity.
pub(super) struct Examiner<'a> {
    /// The entity, with references inside a cycle to be followed at once: all rows are in place.
    model: Arc<EntityModel>,
    /// The mapped columns but the key, with their types.
    columns: Vec<(String, String)>,
    /// Those of them that are looked at.
    looked_at: Vec<String>,
    transformer: Transformer,
    layouts: Layouts,
    way: &'a EntityWay,
}

/// A row and what is to be done about it; a digit for each column.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) id: String,
    pub(super) written: String,
    pub(super) undecided: String,
    /// Whether the target keeps something that the source says otherwise.
    pub(super) kept: bool,
    /// Whether a column that isn't looked at reads otherwise in the source than was agreed on.
    pub(super) more: bool,
    /// Whether both sides agree on something else than the ledger has.
    pub(super) news: bool,
}

/// What looking at a batch came to. The rows themselves are in the stage.
#[derive(Debug, Default)]
pub(super) struct Examination {
    pub(super) rows: Vec<Examined>,
    /// Rows that can't become what the source says, with every reason.
    pub(super) refused: Vec<(LegacyId, Vec<Reason>)>,
    /// Rows that the target has no more.
    pub(super) missing: Vec<LegacyId>,
}

/// A row as the target has it.
struct Current {
    key: Uuid,
    source_fingerprint: Vec<u8>,
    prints: Vec<u8>,
    agreed_run: i32,
    time: Option<i64>,
    values: Vec<Option<Vec<u8>>>,
}

/// Fields of a [`Current`] before its values.
const BEFORE_VALUES: usize = 7;

impl<'a> Examiner<'a> {
    /// An examiner; `parents` has the keys of every entity that this one refers to.
    pub(super) async fn new(
        target: &Session,
        model: &EntityModel,
        deriver: Option<Deriver>,
        parents: HashMap<String, Arc<KeyMap>>,
        merged: Arc<Merged>,
        way: &'a EntityWay,
    ) -> Result<Self> {
        let mut model = model.clone();
        model.only = None;
        for output in &mut model.outputs {
            if let OutputRule::Reference { later, .. } | OutputRule::ReferenceBy { later, .. } =
                &mut output.rule
            {
                *later = false;
            }
        }
        let types = column_types(target, &model.table).await?;
        let columns: Vec<(String, String)> = model
            .fingerprinted()
            .map(|output| {
                let of = types.get(&output.column).cloned().unwrap_or_default();
                (output.column.clone(), of)
            })
            .collect();
        let names = columns.iter().map(|(column, _)| column);
        let looked_at = names.filter(|c| way.looks_at(c)).cloned().collect();
        let layouts = regraft_ledger::layouts(&**target, &model.name).await?;
        let model = Arc::new(model);
        let mut transformer =
            Transformer::new(Arc::clone(&model), deriver, parents, Arc::default())?;
        transformer.merged = merged;
        Ok(Self {
            model,
            columns,
            looked_at,
            transformer,
            layouts,
            way,
        })
    }

    /// The table that is changed, for the ledger.
    pub(super) fn table<'t>(&'t self, name: &'t str) -> UpdatedTable<'t> {
        UpdatedTable {
            entity: &self.model.name,
            table: name,
            key: &self.model.key_column,
            numeric: self.model.numeric,
            columns: &self.columns,
            looked_at: &self.looked_at,
        }
    }

    /// Puts rows into the stage with what is to become of them, inside the caller's transaction.
    pub(super) async fn examine(
        &mut self,
        source: &Session,
        target: &Session,
        ids: &[LegacyId],
        tally: &mut Tally,
    ) -> Result<Examination> {
        let name = self.model.table.sql_name();
        self.table(&name).create_stage(&**target).await?;
        let mut current = self.current(target, ids).await?;
        let times = self.source_times(source, ids).await?;
        let mut examination = Examination::default();
        let model = Arc::clone(&self.model);
        let query = read_rows(&model, &Rows::Ids(ids.to_vec()));
        let mut rows = Tuples::of(source, &query, model.fields.len() + 1).await?;
        let copy = format!("copy {UPDATE_STAGE} from stdin (format binary)");
        let mut sink = Sink::new(target, copy);
        let (mut block, mut parsed, mut prints) = (Writer::new(), Tuple::default(), Vec::new());
        while let Some(row) = rows.next().await? {
            let id = self.transformer.legacy_id(row.bytes(), row.tuple())?;
            let Some(now) = current.remove(&id) else {
                examination.missing.push(id);
                continue;
            };
            let mark = block.mark();
            let outcome =
                self.transformer
                    .row(&id, row.bytes(), row.tuple(), &mut block, &mut prints)?;
            match outcome {
                Outcome::Written { fingerprint, .. } => {
                    let new = block.since(mark);
                    parsed.parse(new, model.outputs.len())?;
                    let new = New {
                        id: &id,
                        bytes: new,
                        tuple: &parsed,
                        prints: &prints,
                        fingerprint,
                        newer: newer(times.get(&id).copied().flatten(), now.time),
                    };
                    let judged = self.judge(&now, &new, tally);
                    examination
                        .rows
                        .push(self.stage(&mut sink, &now, &new, &judged));
                    sink.send_if_full().await?;
                }
                Outcome::Faulty(reasons) => examination.refused.push((id, reasons)),
                Outcome::Merged | Outcome::InPlace { .. } => {}
            }
            block.truncate(mark);
        }
        sink.finish().await?;
        self.table(&name).stage_is_full(&**target).await?;
        Ok(examination)
    }

    /// What has become of each column, and what is done about it.
    fn judge(&self, now: &Current, new: &New<'_>, tally: &mut Tally) -> Vec<(Change, Decision)> {
        let outputs = self.model.outputs.iter().enumerate();
        let mapped = outputs.filter(|(_, o)| !matches!(o.rule, OutputRule::Key));
        let judged: Vec<(Change, Decision)> = mapped
            .zip(&now.values)
            .zip(new.prints.chunks(4))
            .map(|(((place, output), held), print)| {
                let said = new.tuple.field(new.bytes, place);
                let agreed = agreed(&self.layouts, now.agreed_run, &now.prints, &output.column);
                let same = output.rule.is_same(said, held.as_deref());
                let print = print.try_into().unwrap_or_default();
                let change = Change::of(same, agreed, print, print_of(output, held.as_deref()));
                (change, self.way.decide(&output.column, change, new.newer))
            })
            .collect();
        let changes: Vec<(&Output, Change)> = self
            .model
            .fingerprinted()
            .zip(&judged)
            .filter(|(_, (_, decision))| *decision != Decision::Aside)
            .map(|(output, (change, _))| (output, *change))
            .collect();
        tally.row(new.id, &changes, new.newer, self.way);
        judged
    }

    /// Puts a row into the stage.
    fn stage(
        &self,
        sink: &mut Sink<'_>,
        now: &Current,
        new: &New<'_>,
        judged: &[(Change, Decision)],
    ) -> Examined {
        let mask = |of: Decision| -> String {
            let digits = judged.iter().map(|(_, d)| if *d == of { '1' } else { '0' });
            digits.collect()
        };
        let (written, undecided) = (mask(Decision::Write), mask(Decision::Open));
        let mut agreed_now = Vec::with_capacity(new.prints.len());
        let mut agreed_before = Vec::with_capacity(new.prints.len());
        let mut more = false;
        let mapped = self.model.fingerprinted().zip(new.prints.chunks(4));
        for ((output, print), (_, decision)) in mapped.zip(judged) {
            let before = agreed(&self.layouts, now.agreed_run, &now.prints, &output.column);
            let before = before.unwrap_or(NULL_FINGERPRINT);
            agreed_before.extend_from_slice(&before);
            more |= *decision == Decision::Aside && before != print;
            // Of what the target keeps, it is agreed that the source has said this.
            agreed_now.extend_from_slice(match decision {
                Decision::Open | Decision::Aside => &before,
                Decision::Same | Decision::Write | Decision::Keep => print,
            });
        }
        // A row that is not decided on, or not as a whole, is looked at again.
        let fingerprint = new.fingerprint.to_be_bytes();
        let fingerprint = match more || undecided.contains('1') {
            true => now.source_fingerprint.as_slice(),
            false => &fingerprint,
        };
        let block = sink.block();
        block.tuple((STAGE_COLUMNS + 2 * self.columns.len()) as i16);
        block.field(new.id.to_string().as_bytes());
        block.field(now.key.as_bytes());
        block.field(fingerprint);
        block.field(&agreed_now);
        block.field(&agreed_before);
        block.field(written.as_bytes());
        block.field(undecided.as_bytes());
        let places = self.model.outputs.iter().enumerate();
        let places = places.filter(|(_, o)| !matches!(o.rule, OutputRule::Key));
        for ((place, _), held) in places.zip(&now.values) {
            block.optional(new.tuple.field(new.bytes, place));
            block.optional(held.as_deref());
        }
        Examined {
            id: new.id.to_string(),
            written,
            undecided,
            kept: judged.iter().any(|(_, d)| *d == Decision::Keep),
            more,
            news: agreed_now != now.prints
                || fingerprint != now.source_fingerprint
                || !self.is_laid_out(now.agreed_run),
        }
    }

    /// Whether a run's fingerprints are of the columns as they are mapped now.
    fn is_laid_out(&self, run: i32) -> bool {
        let columns = self.columns.iter().map(|(column, _)| column);
        self.layouts
            .get(&run)
            .is_some_and(|layout| layout.iter().eq(columns))
    }

    /// The rows as the target has them.
    async fn current(
        &self,
        target: &Session,
        ids: &[LegacyId],
    ) -> Result<HashMap<LegacyId, Current>> {
        let numeric = self.model.numeric;
        let (key, query) = (
            if numeric {
                "m.legacy_id::bigint"
            } else {
                "m.legacy_id"
            },
            current_query(&self.model, self.way, "join"),
        );
        let query = format!("{query} and {key} = any ({})", id_array(&self.model, ids));
        let fields = BEFORE_VALUES + self.columns.len();
        let mut rows = Tuples::of(target, &query, fields).await?;
        let mut current = HashMap::new();
        while let Some(row) = rows.next().await? {
            let id = LegacyId::from_field(numeric, row.get(0)).ok_or_else(unreadable)?;
            current.insert(
                id,
                Current {
                    key: row
                        .get(1)
                        .and_then(|b| Uuid::from_slice(b).ok())
                        .ok_or_else(unreadable)?,
                    source_fingerprint: row.get(2).unwrap_or_default().to_vec(),
                    prints: row.get(3).unwrap_or_default().to_vec(),
                    agreed_run: number(row.get(4)),
                    time: row
                        .get(6)
                        .and_then(|b| b.try_into().ok())
                        .map(i64::from_be_bytes),
                    values: (0..self.columns.len())
                        .map(|i| row.get(BEFORE_VALUES + i).map(<[u8]>::to_vec))
                        .collect(),
                },
            );
        }
        Ok(current)
    }

    /// When the rows were changed in the source, where the project says how to tell.
    async fn source_times(
        &self,
        source: &Session,
        ids: &[LegacyId],
    ) -> Result<HashMap<LegacyId, Option<i64>>> {
        let Some(newest) = &self.way.newest else {
            return Ok(HashMap::new());
        };
        let model = &self.model;
        let query = format!(
            "select {}, ({}\n)::timestamptz from {}\nwhere {} = any ({})",
            model.key_value(),
            newest.source.text,
            model.from,
            model.key_order(),
            id_array(model, ids)
        );
        let mut rows = Tuples::of(source, &query, 2).await?;
        let mut times = HashMap::new();
        while let Some(row) = rows.next().await? {
            let id = LegacyId::from_field(model.numeric, row.get(0)).ok_or_else(unreadable)?;
            let time = row
                .get(1)
                .and_then(|b| b.try_into().ok())
                .map(i64::from_be_bytes);
            times.insert(id, time);
        }
        Ok(times)
    }
}

/// A row as the source has it.
struct New<'a> {
    id: &'a LegacyId,
    bytes: &'a [u8],
    tuple: &'a Tuple,
    prints: &'a [u8],
    fingerprint: u128,
    newer: Option<bool>,
}

/// Whether the source was changed later than the target; equal times don't tell.
fn newer(source: Option<i64>, target: Option<i64>) -> Option<bool> {
    let (source, target) = (source?, target?);
    (source != target).then_some(source > target)
}

/// The fingerprint of what the target holds.
pub(super) fn print_of(output: &Output, held: Option<&[u8]>) -> [u8; 4] {
    held.map_or(NULL_FINGERPRINT, |bytes| output.rule.fingerprint(bytes))
}

/// The query for rows of an entity as the ledger and the target have them: legacy id, key, source
/// fingerprint, column fingerprints and the run they are of, whether the row is gone, when it was
/// changed, then its columns. `join` is `join` or `left join`.
pub(super) fn current_query(model: &EntityModel, way: &EntityWay, join: &str) -> String {
    let list: String = model
        .fingerprinted()
        .map(|output| {
            let name = ident(&output.column);
            let of = model
                .table
                .column(&output.column)
                .map(|c| c.type_name.as_str());
            // Without the blanks that fill it up, which the fingerprints are without too.
            let cast = if of.is_some_and(|of| of.starts_with("character(")) {
                "::text"
            } else {
                ""
            };
            format!(", t.{name}{cast}")
        })
        .collect();
    let time = way.newest.as_ref().map_or("null".to_owned(), |n| {
        format!("t.{}", ident(&n.target.value))
    });
    format!(
        "select {id}, m.new_id, m.source_fingerprint, m.column_fingerprints, \
                coalesce(m.agreed_run, m.run_no), t.{key} is null, {time}::timestamptz{list}\n\
         from {mappings} m {join} {table} t on t.{key} = m.new_id\n\
         where m.merged_into is null",
        id = if model.numeric {
            "m.legacy_id::bigint"
        } else {
            "m.legacy_id"
        },
        key = ident(&model.key_column),
        mappings = mappings(model),
        table = model.table.sql_name(),
    )
}

/// Those of these rows that the target has under a mapping of their own.
pub(super) async fn in_place(
    target: &Session,
    model: &EntityModel,
    ids: &[LegacyId],
) -> Result<Vec<LegacyId>> {
    let id = match model.numeric {
        true => "m.legacy_id::bigint",
        false => "m.legacy_id",
    };
    let query = format!(
        "select {id} from {mappings} m join {table} t on t.{key} = m.new_id\n\
         where m.merged_into is null and {id} = any ({ids}) order by {id}",
        mappings = mappings(model),
        table = model.table.sql_name(),
        key = ident(&model.key_column),
        ids = id_array(model, ids),
    );
    let rows = target.query(&query, &[]).await?;
    let ids = rows.iter();
    Ok(ids
        .map(|row| LegacyId::from_row(model.numeric, row, 0))
        .collect())
}

/// The table of an entity's mappings.
fn mappings(model: &EntityModel) -> String {
    let partition = regraft_ledger::partition_name(&model.name);
    quote::qualified(regraft_ledger::SCHEMA, &partition)
}

/// Rows whose columns hold something else than what was agreed on, and rows that are gone.
#[derive(Debug, Default)]
pub(super) struct Edits {
    pub(super) edited: BTreeSet<LegacyId>,
    pub(super) gone: Vec<LegacyId>,
}

/// Looks through all rows of an entity in the target, or some, for what somebody else has done to
/// them.
///
/// # Errors
/// The target can't be reached; a mapping can't be read.
pub(super) async fn edits(
    target: &Session,
    model: &EntityModel,
    way: &EntityWay,
    ids: Option<&[LegacyId]>,
) -> Result<Edits> {
    let layouts = regraft_ledger::layouts(&**target, &model.name).await?;
    let mut query = current_query(model, way, "left join");
    if let Some(ids) = ids {
        let key = if model.numeric {
            "m.legacy_id::bigint"
        } else {
            "m.legacy_id"
        };
        query.push_str(&format!(" and {key} = any ({})", id_array(model, ids)));
    }
    let outputs: Vec<&Output> = model.fingerprinted().collect();
    let mut rows = Tuples::of(target, &query, BEFORE_VALUES + outputs.len()).await?;
    let mut edits = Edits::default();
    while let Some(row) = rows.next().await? {
        let id = LegacyId::from_field(model.numeric, row.get(0)).ok_or_else(unreadable)?;
        if row.get(5) == Some(&[1]) {
            edits.gone.push(id);
            continue;
        }
        let (prints, run) = (row.get(3).unwrap_or_default(), number(row.get(4)));
        let is_edited = outputs.iter().enumerate().any(|(i, output)| {
            let agreed = agreed(&layouts, run, prints, &output.column);
            agreed.is_some_and(|agreed| agreed != print_of(output, row.get(BEFORE_VALUES + i)))
        });
        if is_edited {
            edits.edited.insert(id);
        }
    }
    Ok(edits)
}

fn number(field: Option<&[u8]>) -> i32 {
    field
        .and_then(|b| b.try_into().ok())
        .map_or(0, i32::from_be_bytes)
}

fn unreadable() -> Error {
    Error::new(Kind::Internal, "a mapping of the ledger can't be read")
}
