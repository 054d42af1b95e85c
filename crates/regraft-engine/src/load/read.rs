//! Reading the source: how an entity is cut into batches, and the query of a batch.

use std::collections::{BTreeMap, HashMap};

use regraft_ledger::Account;
use regraft_pg::Session;
use regraft_pg::quote;
use tokio_postgres::Row;

use crate::error::{Error, Kind, Result};
use crate::keys::LegacyId;
use crate::model::EntityModel;

/// A row that is in place already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MappedRow {
    /// XXH3-128 of the source row when it was moved.
    pub(crate) fingerprint: u128,
}

/// A key range of an entity, with what the source counts in it.
#[derive(Debug, Clone)]
pub(crate) struct BatchRange {
    /// Number within the entity and run, from 1.
    pub(crate) number: i32,
    /// First and last legacy id, both included.
    pub(crate) low: LegacyId,
    pub(crate) high: LegacyId,
    /// Rows before filters.
    pub(crate) rows: i64,
    /// Rows that pass every filter.
    pub(crate) kept: i64,
    /// Rows dropped, by filter.
    pub(crate) filtered: BTreeMap<String, i64>,
}

impl BatchRange {
    /// Its rows.
    pub(crate) fn to_rows(&self) -> Rows {
        Rows::Range(self.low.clone(), self.high.clone())
    }

    /// The account as far as the source's own count tells it.
    pub(crate) fn account(&self) -> Account {
        let mut account = Account {
            source_rows: self.rows,
            filtered: self.rows - self.kept,
            ..Account::default()
        };
        account.detail.filters.clone_from(&self.filtered);
        account
    }
}

/// A range that an earlier process planned for this run.
#[derive(Debug, Clone)]
pub(crate) struct PlannedRange {
    pub(crate) number: i32,
    pub(crate) low: LegacyId,
    pub(crate) high: LegacyId,
    pub(crate) done: bool,
}

/// A legacy id from its text form in the ledger.
pub(crate) fn parse_id(model: &EntityModel, text: String) -> Result<LegacyId> {
    LegacyId::parse(model.numeric, text).ok_or_else(|| {
        Error::new(Kind::Data, "the ledger has a legacy id that is no number")
            .in_entity(&model.name)
            .hint("the type of the entity's key has changed since its rows were moved: roll them back first")
    })
}

/// The ranges that an entity of a run was cut into by this or an earlier process, by their keys.
pub(crate) async fn planned_ranges(
    target: &Session,
    run_no: i32,
    model: &EntityModel,
) -> Result<Vec<PlannedRange>> {
    let rows = regraft_ledger::planned_batches(&**target, run_no, &model.name).await?;
    let mut planned = Vec::with_capacity(rows.len());
    for (number, low, high, done) in rows {
        planned.push(PlannedRange {
            number,
            low: parse_id(model, low)?,
            high: parse_id(model, high)?,
            done,
        });
    }
    planned.sort_by(|a, b| a.low.cmp(&b.low));
    Ok(planned)
}

/// The number of the first filter that drops a row, 0 for a row that is kept.
pub(crate) fn filter_case(model: &EntityModel) -> String {
    if model.filters.is_empty() {
        return "0".to_owned();
    }
    let arms: Vec<String> = model
        .filters
        .iter()
        .enumerate()
        .map(|(i, (_, keep))| format!("when ({keep}\n) is not true then {}", i + 1))
        .collect();
    format!("case {} else 0 end", arms.join(" "))
}

pub(crate) fn literal(id: &LegacyId) -> String {
    match id {
        LegacyId::Number(n) => format!("'{n}'::int8"),
        LegacyId::Text(text) => format!("{}::text", quote::literal(text)),
    }
}

/// Cuts an entity into batches of about `size` kept rows, along its keys, in one pass over the
/// source. Ranges that were planned before stay as they are (those that are done are left out);
/// what lies between and after them is cut anew.
///
/// # Errors
/// A row without a key.
pub(crate) async fn partition(
    source: &Session,
    model: &EntityModel,
    size: u32,
    planned: &[PlannedRange],
) -> Result<Vec<BatchRange>> {
    let rows = source
        .query(&partition_sql(model, size, planned), &[])
        .await?;
    let mut ranges: Vec<BatchRange> = Vec::new();
    let mut next = planned.iter().map(|p| p.number).max().unwrap_or(0) + 1;
    let mut open: Option<i32> = None;
    for row in &rows {
        let place: i32 = row.get(0);
        let inside: bool = row.get(1);
        let bucket = read_bucket(model, row)?;
        if inside {
            let range = &planned[place as usize - 1];
            open = None;
            if !range.done {
                ranges.push(BatchRange {
                    number: range.number,
                    low: range.low.clone(),
                    high: range.high.clone(),
                    ..bucket
                });
            }
            continue;
        }
        match ranges.last_mut() {
            Some(last) if open == Some(place) && fits(last, &bucket, size) => join(last, bucket),
            _ => {
                ranges.push(BatchRange {
                    number: next,
                    ..bucket
                });
                next += 1;
                open = Some(place);
            }
        }
    }
    Ok(ranges)
}

fn fits(range: &BatchRange, bucket: &BatchRange, size: u32) -> bool {
    range.kept + bucket.kept <= i64::from(size) && range.rows + bucket.rows <= 20 * i64::from(size)
}

fn join(range: &mut BatchRange, bucket: BatchRange) {
    range.high = bucket.high;
    range.rows += bucket.rows;
    range.kept += bucket.kept;
    for (name, count) in bucket.filtered {
        *range.filtered.entry(name).or_default() += count;
    }
}

fn partition_sql(model: &EntityModel, size: u32, planned: &[PlannedRange]) -> String {
    let key = model.key_value();
    let (compare, bucket) = if model.numeric {
        // Buckets of a power of two of ids, a quarter of a batch at most, joined afterwards.
        let shift = (size / 4).max(1).ilog2();
        ("k", format!("k >> {shift}"))
    } else {
        (
            "k collate \"C\"",
            format!("(rank() over (order by k collate \"C\") - 1) / {size}"),
        )
    };
    let (place, inside) = if planned.is_empty() {
        ("0".to_owned(), "false".to_owned())
    } else {
        let of = if model.numeric { "int8" } else { "text" };
        let list = |pick: fn(&PlannedRange) -> &LegacyId| {
            let texts: Vec<String> = planned.iter().map(|p| pick(p).to_string()).collect();
            quote::array(texts.iter().map(String::as_str), of)
        };
        let place = format!("width_bucket({compare}, {})", list(|p| &p.low));
        let inside = format!(
            "coalesce({compare} <= ({})[{place}], false)",
            list(|p| &p.high)
        );
        (place, inside)
    };
    let counts: String = (1..=model.filters.len())
        .map(|i| format!(", count(*) filter (where f = {i})"))
        .collect();
    format!(
        "select p, i, min(k {collate}), max(k {collate}), count(*), count(*) filter (where f = 0){counts}\n\
         from (select k, f, p, i, case when i then null else b end as b from (\n\
           select k, f, {place} as p, {inside} as i, {bucket} as b from (\n\
             select {key} as k, {case} as f from {from}\nwhere {only}) rows) placed) cut\n\
         group by p, i, b order by p, i desc, min(k {collate})",
        collate = if model.numeric { "" } else { "collate \"C\"" },
        case = filter_case(model),
        from = model.from,
        only = only_condition(model),
    )
}

fn read_bucket(model: &EntityModel, row: &Row) -> Result<BatchRange> {
    let id = |at: usize| -> Result<LegacyId> {
        let id = if model.numeric {
            row.get::<_, Option<i64>>(at).map(LegacyId::Number)
        } else {
            row.get::<_, Option<String>>(at).map(LegacyId::Text)
        };
        id.ok_or_else(|| {
            Error::new(Kind::Data, "the source has rows without a key (NULL)")
                .in_entity(&model.name)
                .hint("filter such rows out by name in the project, or choose another key")
        })
    };
    let filtered = model
        .filters
        .iter()
        .enumerate()
        .map(|(i, (name, _))| (name.clone(), row.get::<_, i64>(6 + i)))
        .filter(|(_, count)| *count > 0)
        .collect();
    Ok(BatchRange {
        number: 0,
        low: id(2)?,
        high: id(3)?,
        rows: row.get(4),
        kept: row.get(5),
        filtered,
    })
}

/// The condition that a row passes every filter.
pub(crate) fn kept_condition(model: &EntityModel) -> String {
    let mut condition = String::from("true");
    for (_, keep) in &model.filters {
        condition.push_str(&format!(" and ({keep}\n)"));
    }
    condition
}

/// The condition that a row is one of those asked for, if not all are.
fn only_condition(model: &EntityModel) -> String {
    match &model.only {
        None => "true".to_owned(),
        Some(ids) => format!("{} = any ({})", model.key_order(), id_array(model, ids)),
    }
}

/// The condition that a row passes every filter, and is asked for.
pub(crate) fn wanted_condition(model: &EntityModel) -> String {
    match &model.only {
        None => kept_condition(model),
        Some(_) => format!("{} and {}", kept_condition(model), only_condition(model)),
    }
}

/// Which rows of an entity to read.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// Those of a key range, both ends included.
    Range(LegacyId, LegacyId),
    /// These.
    Ids(Vec<LegacyId>),
}

impl Rows {
    /// The condition on an entity's key.
    fn condition(&self, model: &EntityModel) -> String {
        let order = model.key_order();
        match self {
            Self::Range(low, high) => {
                format!(
                    "{order} >= {}\n  and {order} <= {}",
                    literal(low),
                    literal(high)
                )
            }
            Self::Ids(ids) => format!("{order} = any ({})", id_array(model, ids)),
        }
    }

    /// The condition on an entity's key, for those that are asked for if not all are. A batch of very
    /// many rows that are asked for names its own alone.
    fn wanted(&self, model: &EntityModel) -> String {
        let Some(only) = &model.only else {
            return self.condition(model);
        };
        let within = match self {
            Self::Range(low, high) => {
                let first = only.partition_point(|id| id < low);
                let last = only.partition_point(|id| id <= high);
                only.get(first..last).unwrap_or_default().to_vec()
            }
            Self::Ids(ids) => {
                let asked = ids.iter().filter(|id| only.binary_search(id).is_ok());
                asked.cloned().collect()
            }
        };
        Self::Ids(within).condition(model)
    }

    /// The same rows in two halves; `None` when there is nothing to halve.
    pub(crate) fn halves(&self, keys: &[LegacyId]) -> Option<(Self, Self)> {
        if keys.len() < 2 {
            return None;
        }
        let (first, second) = keys.split_at(keys.len() / 2);
        let part = |keys: &[LegacyId]| match self {
            Self::Range(..) => Self::Range(keys[0].clone(), keys[keys.len() - 1].clone()),
            Self::Ids(_) => Self::Ids(keys.to_vec()),
        };
        Some((part(first), part(second)))
    }
}

pub(crate) fn id_array(model: &EntityModel, ids: &[LegacyId]) -> String {
    let texts: Vec<String> = ids.iter().map(LegacyId::to_string).collect();
    let of = if model.numeric { "int8" } else { "text" };
    quote::array(texts.iter().map(String::as_str), of)
}

/// The query of a batch: the key, then the fields, of every kept row that is asked for, in key
/// order.
pub(crate) fn read_rows(model: &EntityModel, rows: &Rows) -> String {
    format!(
        "{}\n  and {}\norder by {}",
        read_where(model, &kept_condition(model)),
        rows.wanted(model),
        model.key_order(),
    )
}

/// The query of a batch without its range.
pub(crate) fn read_all(model: &EntityModel) -> String {
    read_where(model, &wanted_condition(model))
}

fn read_where(model: &EntityModel, condition: &str) -> String {
    let mut list = model.key_value();
    for field in &model.fields {
        list.push_str(",\n       ");
        list.push_str(&field.sql);
    }
    format!("select {list}\nfrom {}\nwhere {condition}", model.from)
}

/// What the filters do with these rows: the place of the first filter that drops each, `None` where
/// all keep it. Rows that the source doesn't have are left out.
pub(crate) async fn filters_of(
    source: &Session,
    model: &EntityModel,
    ids: &[LegacyId],
) -> Result<HashMap<LegacyId, Option<usize>>> {
    let mut found = HashMap::new();
    for ids in ids.chunks(20_000) {
        let sql = format!(
            "select {}, {} from {}\nwhere {} = any ({})",
            model.key_value(),
            filter_case(model),
            model.from,
            model.key_order(),
            id_array(model, ids)
        );
        for row in source.query(&sql, &[]).await? {
            let filter: i32 = row.get(1);
            let place = usize::try_from(filter).ok().and_then(|f| f.checked_sub(1));
            found.insert(LegacyId::from_row(model.numeric, &row, 0), place);
        }
    }
    Ok(found)
}

/// The lowest legacy ids, `most` of them, that a filter drops (and no filter before it). `filter` is
/// its place.
pub(crate) async fn filter_examples(
    source: &Session,
    model: &EntityModel,
    ranges: &[BatchRange],
    filter: usize,
    most: usize,
) -> Result<Vec<LegacyId>> {
    let mut examples = Vec::new();
    let name = &model.filters[filter].0;
    for range in ranges.iter().filter(|r| r.filtered.contains_key(name)) {
        let sql = format!(
            "select {} from {}\nwhere {} and ({}) = {} order by {} limit {}",
            model.key_value(),
            model.from,
            range.to_rows().condition(model),
            filter_case(model),
            filter + 1,
            model.key_order(),
            most - examples.len()
        );
        let rows = source.query(&sql, &[]).await?;
        examples.extend(
            rows.iter()
                .map(|row| LegacyId::from_row(model.numeric, row, 0)),
        );
        if examples.len() >= most {
            break;
        }
    }
    Ok(examples)
}

/// The legacy ids of the kept rows among those asked for, in order.
pub(crate) async fn keys_of(
    source: &Session,
    model: &EntityModel,
    rows: &Rows,
) -> Result<Vec<LegacyId>> {
    let sql = format!(
        "select {} from {}\nwhere {} and {} order by {}",
        model.key_value(),
        model.from,
        kept_condition(model),
        rows.wanted(model),
        model.key_order(),
    );
    let rows = source.query(&sql, &[]).await;
    let rows = rows.map_err(|error| Error::from(source.error(error)))?;
    Ok(rows
        .iter()
        .map(|row| LegacyId::from_row(model.numeric, row, 0))
        .collect())
}

/// The raw values of rows, as JSON by column in text form, for the quarantine.
pub(crate) async fn raw_values(
    source: &Session,
    model: &EntityModel,
    ids: &[LegacyId],
) -> Result<BTreeMap<LegacyId, String>> {
    let pairs: Vec<String> = model
        .fields
        .iter()
        .map(|field| format!("{}, {}", quote::literal(&field.column), field.sql))
        .collect();
    // A function takes at most 100 arguments (FUNC_MAX_ARGS). Only jsonb can be put together of
    // several objects, but costs more.
    let object = if pairs.len() <= 40 {
        format!("json_build_object({})", pairs.join(", "))
    } else {
        let objects: Vec<String> = pairs
            .chunks(40)
            .map(|pairs| format!("jsonb_build_object({})", pairs.join(", ")))
            .collect();
        objects.join(" || ")
    };
    let order = model.key_order();
    let mut values = BTreeMap::new();
    for ids in ids.chunks(5_000) {
        let sql = format!(
            "select {}, ({object})::text from {}\nwhere {order} = any ({})",
            model.key_value(),
            model.from,
            id_array(model, ids)
        );
        for row in source.query(&sql, &[]).await? {
            values.insert(LegacyId::from_row(model.numeric, &row, 0), row.get(1));
        }
    }
    Ok(values)
}
