//! What the source says of every range of legacy ids, summed up by the source itself: ranges whose
//! sums are those last agreed on need not be read.
//!
//! This is the loader's own reading of rows, and has nothing to do with the sums that validation
//! compares both sides by.

use std::collections::BTreeMap;

use regraft_ledger::{AgreedRange, RANGE_BITS};
use regraft_pg::Session;
use tokio_postgres::Row;
use tokio_postgres::types::{Kind, Type};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};
use crate::load::{filter_case, is_about_rows, read_all};
use crate::model::EntityModel;

/// `hash_record_extended` came with PostgreSQL 14.
const SINCE: u32 = 140_000;

/// What the source says of one range.
#[derive(Debug, Clone)]
pub(super) struct SourceRange {
    pub(super) said: AgreedRange,
    /// Rows dropped, by filter.
    pub(super) filtered: BTreeMap<String, i64>,
}

/// How an entity is summed up.
pub(super) struct Sums<'a> {
    source: &'a Session,
    model: &'a EntityModel,
    hashed: Vec<String>,
    /// Tells apart sums of other queries.
    pub(super) layout: String,
}

impl<'a> Sums<'a> {
    /// `None` where sums can't be had: legacy ids that are no numbers, a server that can't hash rows.
    pub(super) async fn of(source: &'a Session, model: &'a EntityModel) -> Result<Option<Self>> {
        if !model.numeric || source.server_version_num() < SINCE {
            return Ok(None);
        }
        let hashed = hashed_fields(source, model).await?;
        let of = format!("{}\n{}", read_all(model), hashed.join(","));
        Ok(Some(Self {
            source,
            model,
            hashed,
            layout: format!("{:032x}", xxh3_128(of.as_bytes())),
        }))
    }

    /// The sums over all rows, or those that `condition` holds of, in order of the ranges; `None`
    /// where the source can't compute some row.
    ///
    /// A row is hashed with its legacy id as the seed: `hash_record_extended` is linear in the hashes
    /// of the columns, so that under one seed values which two rows have swapped would add up to the
    /// same.
    ///
    /// An aggregate looks at its filter first: what a filter of the project keeps from an expression
    /// is kept from it here too.
    pub(super) async fn read(&self, condition: Option<&str>) -> Result<Option<Vec<SourceRange>>> {
        let key = self.model.key_value();
        let sum = match self.hashed.as_slice() {
            [] => format!("hashint8extended({key}, 0)"),
            hashed => format!("hash_record_extended(row({}), {key})", hashed.join(", ")),
        };
        let kept = kept(self.model);
        let list = format!("coalesce(sum({sum}){kept}, 0)::text");
        let rows = aggregate(self.source, self.model, &list, condition).await?;
        Ok(rows.map(|rows| {
            rows.into_iter()
                .map(|counted| SourceRange {
                    said: AgreedRange {
                        range: counted.range,
                        source_rows: counted.source_rows,
                        kept_rows: counted.kept_rows,
                        source_sum: counted.row.get(0),
                    },
                    filtered: counted.filtered,
                })
                .collect()
        }))
    }
}

/// A range with its rows counted; `row` begins with what else was asked for.
pub(super) struct Counted {
    pub(super) range: i64,
    pub(super) source_rows: i64,
    pub(super) kept_rows: i64,
    /// Rows dropped, by filter.
    pub(super) filtered: BTreeMap<String, i64>,
    pub(super) row: Row,
}

/// Where rows that the filters keep are meant, inside an aggregate.
fn kept(model: &EntityModel) -> String {
    if model.filters.is_empty() {
        String::new()
    } else {
        format!(" filter (where {} = 0)", filter_case(model))
    }
}

/// Counts the rows of every range, and whatever else is asked for, in order of the ranges; `None`
/// where the source can't compute some row.
pub(super) async fn aggregate(
    source: &Session,
    model: &EntityModel,
    list: &str,
    condition: Option<&str>,
) -> Result<Option<Vec<Counted>>> {
    let case = filter_case(model);
    let counts: String = (1..=model.filters.len())
        .map(|i| format!(", count(*) filter (where {case} = {i})"))
        .collect();
    let sql = format!(
        "select {list}, {} >> {RANGE_BITS} as range, count(*){counts}\nfrom {}{}\ngroup by range",
        model.key_value(),
        model.from,
        condition.map_or(String::new(), |condition| format!("\nwhere {condition}")),
    );
    source.batch_execute("savepoint regraft_sums").await?;
    let rows = hashed(source, model, &sql, condition).await;
    if !source.is_closed() {
        source
            .batch_execute("rollback to savepoint regraft_sums; release savepoint regraft_sums")
            .await?;
    }
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) if is_about_rows(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let names = || model.filters.iter().map(|(name, _)| name.clone());
    let first = rows.first().map_or(0, |row| row.len())
        - usize::from(!rows.is_empty()) * (2 + model.filters.len());
    let mut counted: Vec<Counted> = rows
        .into_iter()
        .map(|row| {
            let source_rows = row.get(first + 1);
            let filtered: BTreeMap<String, i64> = names()
                .enumerate()
                .map(|(i, name)| (name, row.get(first + 2 + i)))
                .filter(|(_, count)| *count > 0)
                .collect();
            Counted {
                range: row.get(first),
                source_rows,
                kept_rows: source_rows - filtered.values().sum::<i64>(),
                filtered,
                row,
            }
        })
        .collect();
    counted.sort_unstable_by_key(|counted| counted.range);
    Ok(Some(counted))
}

/// Runs a query with one row for each range, by hashing.
///
/// The server takes every expression to have as many values as there are rows. It would sort them to
/// group them, and not do so in parallel; there are few groups, and hashing them is what is meant.
async fn hashed(
    source: &Session,
    model: &EntityModel,
    sql: &str,
    condition: Option<&str>,
) -> Result<Vec<Row>> {
    let memory = memory(source, model, condition).await?;
    source
        .batch_execute(&format!(
            "set local enable_sort = off; set local parallel_tuple_cost = 0.001; \
             set local parallel_setup_cost = 10; set local work_mem = '{memory}MB'"
        ))
        .await?;
    let rows = source.query(sql, &[]).await;
    rows.map_err(|e| Error::from(source.error(e)))
}

/// How much memory to allow for the groups, in MB: half a kilobyte for each range that the rows may
/// fill. The server takes each row for a group of its own and lays out as large a table as it may
/// for them, in every process, before it begins.
async fn memory(source: &Session, model: &EntityModel, condition: Option<&str>) -> Result<u64> {
    let sql = format!(
        "explain (format json) select from {}{}",
        model.from,
        condition.map_or(String::new(), |condition| format!("\nwhere {condition}")),
    );
    let row = source.query_one(&sql, &[]).await;
    let plan: serde_json::Value = row.map_err(|e| Error::from(source.error(e)))?.get(0);
    let rows = plan.pointer("/0/Plan/Plan Rows");
    let rows = rows.and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX);
    Ok((rows >> RANGE_BITS >> 11).clamp(8, 64))
}

/// The fields as they are hashed: without the cast that the loader needs where the value itself tells
/// as much, and a value whose type has forms that are equal and not the same (1.0 and 1.00), or that
/// has no hash, by its binary or its text form.
///
/// A jsonb document is hashed as its type compares it: 1.0 and 1.00 inside of one are the same.
async fn hashed_fields(source: &Session, model: &EntityModel) -> Result<Vec<String>> {
    if model.fields.is_empty() {
        return Ok(Vec::new());
    }
    let fields = model.fields.iter();
    let list: Vec<&str> = fields
        .flat_map(|field| [field.sql.as_str(), field.uncast()])
        .collect();
    let sql = format!(
        "select {} from {}\nwhere false",
        list.join(", "),
        model.from
    );
    let statement = source
        .prepare(&sql)
        .await
        .map_err(|e| Error::from(source.error(e)))?;
    let read = list.chunks(2).zip(statement.columns().chunks(2));
    Ok(read
        .map(
            |(sql, types)| match (under(types[0].type_()), under(types[1].type_())) {
                (_, uncast) if tells_its_text(uncast) => sql[1].to_owned(),
                // A literal has no type of its own inside a row.
                (&Type::TEXT, _) => format!("({})::text", sql[0]),
                (read, _) if is_exact(read) => sql[0].to_owned(),
                (&Type::NUMERIC, _) => format!("numeric_send({}::numeric)", sql[0]),
                _ => format!("({})::text", sql[0]),
            },
        )
        .collect())
}

/// Types that hash fast, and whose values are equal exactly when what they are cast to is.
fn tells_its_text(of: &Type) -> bool {
    matches!(
        *of,
        Type::BOOL | Type::INT2 | Type::INT4 | Type::INT8 | Type::UUID
    )
}

fn under(of: &Type) -> &Type {
    match of.kind() {
        Kind::Domain(inner) => under(inner),
        _ => of,
    }
}

/// Types that hash, and whose values are equal only when they are the same.
fn is_exact(of: &Type) -> bool {
    matches!(
        *of,
        Type::BOOL
            | Type::INT2
            | Type::INT4
            | Type::INT8
            | Type::TEXT
            | Type::VARCHAR
            | Type::NAME
            | Type::BYTEA
            | Type::UUID
            | Type::DATE
            | Type::TIME
            | Type::TIMETZ
            | Type::TIMESTAMP
            | Type::TIMESTAMPTZ
            | Type::OID
            | Type::JSONB
    )
}
