//! What the source says of every range of legacy ids, summed up by the source itself: ranges whose
//! sums are those last agreed on need not be read.
//!
//! This is the loader's own reading of rows, and has nothing to do with the sums that validation
//! compares both sides by.

use std::collections::BTreeMap;

use regraft_ledger::{AgreedRange, RANGE_BITS};
use regraft_pg::Session;
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

/// The sums of an entity, and what they are of.
pub(super) struct Sums {
    pub(super) ranges: Vec<SourceRange>,
    /// Tells apart sums of other queries.
    pub(super) layout: String,
}

/// The sums over all rows of an entity; `None` where they can't be had: legacy ids that are no
/// numbers, a server that can't hash rows, a row that the source can't compute.
pub(super) async fn sums(source: &Session, model: &EntityModel) -> Result<Option<Sums>> {
    if !model.numeric || source.server_version_num() < SINCE {
        return Ok(None);
    }
    let hashed = hashed_fields(source, model).await?;
    let sql = query(model, &hashed);
    source.batch_execute("savepoint regraft_sums").await?;
    let rows = source.query(&sql, &[]).await;
    let rows = match rows.map_err(|e| Error::from(source.error(e))) {
        Ok(rows) => rows,
        Err(error) if is_about_rows(&error) => {
            source
                .batch_execute("rollback to savepoint regraft_sums")
                .await?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    source
        .batch_execute("release savepoint regraft_sums")
        .await?;
    let ranges = rows
        .iter()
        .map(|row| SourceRange {
            said: AgreedRange {
                range: row.get(0),
                source_rows: row.get(1),
                kept_rows: row.get(2),
                source_sum: row.get(3),
            },
            filtered: model
                .filters
                .iter()
                .enumerate()
                .map(|(i, (name, _))| (name.clone(), row.get::<_, i64>(4 + i)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        })
        .collect();
    let of = format!("{}\n{}", read_all(model), hashed.join(","));
    Ok(Some(Sums {
        ranges,
        layout: format!("{:032x}", xxh3_128(of.as_bytes())),
    }))
}

/// Sums up by range. `hash_record_extended` is linear in the hashes of the columns, so that values
/// which two rows have swapped would add up to the same: each row's hash is mixed with a hash of
/// its id, by an operation that isn't linear with a sum.
///
/// An aggregate looks at its filter first: what a filter of the project keeps from an expression is
/// kept from it here too.
fn query(model: &EntityModel, hashed: &[String]) -> String {
    let key = model.key_value();
    let row = match hashed {
        [] => format!("row({key})"),
        hashed => format!("row({key}, {})", hashed.join(", ")),
    };
    let case = filter_case(model);
    let kept = if model.filters.is_empty() {
        String::new()
    } else {
        format!(" filter (where {case} = 0)")
    };
    let counts: String = (1..=model.filters.len())
        .map(|i| format!(", count(*) filter (where {case} = {i})"))
        .collect();
    format!(
        "select {key} >> {RANGE_BITS}, count(*), count(*){kept}, \
         coalesce(sum(hash_record_extended({row}, 0) # hashint8extended({key}, 0)){kept}, 0)::text{counts}\n\
         from {} group by 1 order by 1",
        model.from
    )
}

/// The fields as they are hashed: a value whose type has forms that are equal and not the same (1.0
/// and 1.00), or that has no hash, by its binary or its text form.
async fn hashed_fields(source: &Session, model: &EntityModel) -> Result<Vec<String>> {
    let list: Vec<&str> = model.fields.iter().map(|f| f.sql.as_str()).collect();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select {} from {}\nwhere false",
        list.join(", "),
        model.from
    );
    let statement = source
        .prepare(&sql)
        .await
        .map_err(|e| Error::from(source.error(e)))?;
    Ok(statement
        .columns()
        .iter()
        .enumerate()
        .map(|(i, column)| match under(column.type_()) {
            t if is_exact(t) => list[i].to_owned(),
            &Type::NUMERIC => format!("numeric_send({}::numeric)", list[i]),
            _ => format!("({})::text", list[i]),
        })
        .collect())
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
    )
}
