//! The way for batches that the server refuses: stage, find every fault of every row in set-based
//! passes, move the rest, and bisect only what no pass explains.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::Session;
use regraft_pg::catalog::{Index, Table};
use regraft_pg::quote::{ident, idents};

use super::batch::{Progress, Worker, is_about_rows, read_into};
use super::condition::{domain_conditions, row_conditions};
use super::read::{Rows, keys_of};
use super::sink::Sink;
use super::{Reason, Transformer};
use crate::error::Result;
use crate::model::EntityModel;

/// Number of a row in the staging table.
const NUMBER: &str = "regraft_row";

fn staging_table(model: &EntityModel) -> String {
    format!(
        "pg_temp.{}",
        ident(&format!("regraft_stage_{}", model.name))
    )
}

/// Moves a range by way of a staging table, within the transaction that is open.
pub(crate) async fn fill(
    worker: &Worker,
    model: &EntityModel,
    rows: &Rows,
    transformer: &mut Transformer,
) -> Result<Progress> {
    let target: &Session = &worker.target;
    let (mut progress, mut bad) = stage(&worker.source, target, model, rows, transformer).await?;
    delete(target, model, &bad).await?;
    insert_explained(target, model, progress.written.len() as i64, &mut bad).await?;
    target
        .batch_execute(&format!("truncate {}", staging_table(model)))
        .await?;
    take_out(&mut progress, &mut bad, 4 * model.fingerprinted().count());
    Ok(progress)
}

/// Finds the faults of a range by way of a staging table, within the transaction that is open,
/// without moving anything. Of foreign keys only those in `foreign` are looked at: the parents of the
/// others may not be there yet.
pub(crate) async fn examine(
    source: &Session,
    target: &Session,
    model: &EntityModel,
    rows: &Rows,
    foreign: &[(Reason, String)],
    transformer: &mut Transformer,
) -> Result<Progress> {
    let (mut progress, mut bad) = stage(source, target, model, rows, transformer).await?;
    for (reason, condition) in foreign {
        let sql = format!(
            "select {NUMBER} from {} s where {condition}",
            staging_table(model)
        );
        collect(target, &sql, &[], reason, &mut bad).await?;
    }
    find_duplicates(target, model, &mut bad).await?;
    take_out(&mut progress, &mut bad, 4 * model.fingerprinted().count());
    Ok(progress)
}

/// Stages a range and finds the rows that violate a check.
async fn stage(
    source: &Session,
    target: &Session,
    model: &EntityModel,
    rows: &Rows,
    transformer: &mut Transformer,
) -> Result<(Progress, BTreeMap<i64, Vec<Reason>>)> {
    create(target, model).await?;
    let mut progress = Progress::default();
    copy_to_stage(source, target, model, rows, transformer, &mut progress).await?;
    let mut bad = BTreeMap::new();
    find_by_condition(target, model, "check_violation", &mut bad).await?;
    Ok((progress, bad))
}

/// Inserts what is staged. Foreign keys and unique keys are held against every row only when the
/// server says that some row violates one: looking rows up in indexes costs as much as the insert
/// that follows.
async fn insert_explained(
    target: &Session,
    model: &EntityModel,
    rows: i64,
    bad: &mut BTreeMap<i64, Vec<Reason>>,
) -> Result<()> {
    let (mut keys_explained, mut parents_explained) = (false, false);
    loop {
        target.batch_execute("savepoint regraft_insert").await?;
        let refused = match target
            .execute(&insert_statement(model), &[&0_i64, &rows])
            .await
        {
            Ok(_) => {
                target
                    .batch_execute("release savepoint regraft_insert")
                    .await?;
                return Ok(());
            }
            Err(error) => crate::error::Error::from(target.error(error)),
        };
        if !is_about_rows(&refused) {
            return Err(refused);
        }
        target
            .batch_execute("rollback to savepoint regraft_insert")
            .await?;
        let known = bad.len();
        match refused.database().and_then(regraft_pg::Error::sqlstate) {
            Some("23505") if !keys_explained => {
                keys_explained = true;
                find_duplicates(target, model, bad).await?;
            }
            Some("23503") if !parents_explained => {
                parents_explained = true;
                find_by_condition(target, model, "foreign_key_violation", bad).await?;
            }
            _ => return insert_by_halves(target, model, rows, bad).await,
        }
        if bad.len() > known {
            delete(target, model, bad).await?;
        }
    }
}

/// Takes rows that turned out faulty out of the written ones.
fn take_out(progress: &mut Progress, bad: &mut BTreeMap<i64, Vec<Reason>>, width: usize) {
    if bad.is_empty() {
        return;
    }
    let written = std::mem::take(&mut progress.written);
    let fingerprints = std::mem::take(&mut progress.fingerprints);
    for (number, row) in written.into_iter().enumerate() {
        let columns = &fingerprints[number * width..][..width];
        match bad.remove(&(number as i64)) {
            Some(reasons) => progress.faults.add(row.id, reasons),
            None => {
                progress.written.push(row);
                progress.fingerprints.extend_from_slice(columns);
            }
        }
    }
    progress.faults.rows.sort_by(|a, b| a.0.cmp(&b.0));
}

/// The types of a table's columns; domains are replaced by the types under them.
pub(crate) async fn column_types(
    target: &Session,
    table: &Table,
) -> Result<BTreeMap<String, String>> {
    let rows = target
        .query(
            "with recursive under as (
               select a.attname, t.oid, t.typtype, t.typbasetype,
                      case when t.typtype = 'd' then t.typtypmod else a.atttypmod end as typmod
               from pg_attribute a join pg_type t on t.oid = a.atttypid
               where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
               union all
               select u.attname, t.oid, t.typtype, t.typbasetype,
                      case when t.typtype = 'd' then t.typtypmod else u.typmod end
               from under u join pg_type t on t.oid = u.typbasetype where u.typtype = 'd')
             select attname::text, format_type(oid, typmod) from under where typtype <> 'd'",
            &[&(table.oid as u32)],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The staging table has the written columns without any constraint; domains are replaced by the
/// types under them, for the same reason.
async fn create(target: &Session, model: &EntityModel) -> Result<()> {
    let table = staging_table(model);
    let names: Vec<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
    let types = column_types(target, &model.table).await?;
    let columns: String = names
        .iter()
        .filter_map(|name| Some(format!(", {} {}", ident(name), types.get(*name)?)))
        .collect();
    target
        .batch_execute(&format!(
            "set local client_min_messages = warning; \
             create temp table if not exists {} ({NUMBER} bigint{columns}) on commit preserve rows; \
             truncate {table}",
            ident(&format!("regraft_stage_{}", model.name)),
        ))
        .await?;
    Ok(())
}

/// Copies a range into the staging table. What can't even get there (a value the server's own
/// input refuses, a row the source can't compute) is found by halving the range.
async fn copy_to_stage(
    source: &Session,
    target: &Session,
    model: &EntityModel,
    rows: &Rows,
    transformer: &mut Transformer,
    progress: &mut Progress,
) -> Result<()> {
    let mut waiting = vec![rows.clone()];
    while let Some(rows) = waiting.pop() {
        let marks = (
            progress.written.len(),
            progress.fingerprints.len(),
            progress.faults.rows.len(),
            progress.in_place,
            progress.changed,
            progress.merged,
        );
        target.batch_execute("savepoint regraft_stage").await?;
        let attempt = copy_once(source, target, model, &rows, transformer, progress).await;
        let error = match attempt {
            Ok(()) => {
                target
                    .batch_execute("release savepoint regraft_stage")
                    .await?;
                continue;
            }
            Err(error) if is_about_rows(&error) => error,
            Err(error) => return Err(error),
        };
        target
            .batch_execute("rollback to savepoint regraft_stage")
            .await?;
        progress.written.truncate(marks.0);
        progress.fingerprints.truncate(marks.1);
        progress.faults.rows.truncate(marks.2);
        progress.in_place = marks.3;
        progress.changed = marks.4;
        progress.merged = marks.5;
        // The order in which halves are taken keeps the rows numbered in key order.
        let keys = keys_of(source, model, &rows).await?;
        match keys.as_slice() {
            [] => {}
            [only] => {
                let side = error.database().and_then(regraft_pg::Error::side);
                let fallback = if side == Some(regraft_pg::Side::Source) {
                    "source_error"
                } else {
                    "target_refused"
                };
                let reason = error.database().map_or_else(
                    || Reason::bare(fallback),
                    |e| {
                        let mut reason = Reason::refused(e, fallback);
                        if fallback == "source_error" {
                            reason.code = fallback;
                        }
                        reason
                    },
                );
                progress.faults.add(only.clone(), vec![reason]);
            }
            keys => {
                if let Some((first, second)) = rows.halves(keys) {
                    waiting.push(second);
                    waiting.push(first);
                }
            }
        }
    }
    Ok(())
}

async fn copy_once(
    source: &Session,
    target: &Session,
    model: &EntityModel,
    rows: &Rows,
    transformer: &mut Transformer,
    progress: &mut Progress,
) -> Result<()> {
    let statement = format!(
        "copy {} ({NUMBER}, {}) from stdin (format binary)",
        staging_table(model),
        model.column_list()
    );
    let mut sink = Sink::new(target, statement);
    // A source that fails in the middle of its rows must not leave the COPY hanging: dropping the
    // sink ends it, and the savepoint takes the rows back.
    let read = read_into(source, model, rows, transformer, progress, &mut sink, true).await;
    match read {
        Ok(()) => {
            sink.finish().await?;
            Ok(())
        }
        Err(error) => {
            drop(sink);
            Err(error)
        }
    }
}

/// Finds the staged rows that violate a check or a foreign key (`code` says which).
async fn find_by_condition(
    target: &Session,
    model: &EntityModel,
    code: &str,
    bad: &mut BTreeMap<i64, Vec<Reason>>,
) -> Result<()> {
    let stage = staging_table(model);
    let written: BTreeSet<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
    for (reason, condition) in row_conditions(&model.table, &written) {
        if reason.code == code {
            let sql = format!("select {NUMBER} from {stage} s where {condition}");
            collect(target, &sql, &[], &reason, bad).await?;
        }
    }
    if code == "check_violation" && model.table.columns.iter().any(|c| c.is_domain) {
        for (reason, condition) in domain_conditions(target, &model.table, &written).await? {
            let sql = format!("select {NUMBER} from {stage} s where {condition}");
            collect(target, &sql, &[], &reason, bad).await?;
        }
    }
    Ok(())
}

/// Finds the staged rows that lose under a unique index, to a row of the table or to an earlier
/// one of the stage. Rows that are out already win against nobody.
async fn find_duplicates(
    target: &Session,
    model: &EntityModel,
    bad: &mut BTreeMap<i64, Vec<Reason>>,
) -> Result<()> {
    let stage = staging_table(model);
    let written: BTreeSet<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
    for index in unique_indexes(&model.table, &written) {
        let name = index.constraint.as_deref().unwrap_or(&index.name);
        let reason = Reason::constraint("unique_violation", name);
        for sql in unique_queries(&model.table, index, &stage) {
            let excluded: Vec<i64> = bad.keys().copied().collect();
            collect(target, &sql, &[&excluded], &reason, bad).await?;
        }
    }
    Ok(())
}

/// The unique indexes whose columns are all written.
pub(crate) fn unique_indexes<'a>(
    table: &'a Table,
    columns: &'a BTreeSet<&str>,
) -> impl Iterator<Item = &'a Index> {
    table.indexes.iter().filter(|index| {
        index.unique
            && index.valid
            && index
                .plain_columns
                .iter()
                .all(|column| column.as_deref().is_none_or(|c| columns.contains(c)))
    })
}

/// Rows of the stage that lose under a unique index: against rows that are in the table, then
/// against earlier rows of the stage. `$1` holds the rows that are out already.
fn unique_queries(table: &Table, index: &Index, stage: &str) -> [String; 2] {
    let keys: Vec<String> = index
        .keys
        .iter()
        .enumerate()
        .map(|(i, key)| format!("({key}) as regraft_key_{i}"))
        .collect();
    let names: Vec<String> = (0..keys.len())
        .map(|i| format!("regraft_key_{i}"))
        .collect();
    let condition = index.predicate.as_deref().unwrap_or("true");
    let operator = if index.nulls_not_distinct {
        "is not distinct from"
    } else {
        "="
    };
    let equal: Vec<String> = index
        .keys
        .iter()
        .zip(&names)
        .map(|(key, name)| format!("({key}) {operator} s.{name}"))
        .collect();
    let present = if index.nulls_not_distinct {
        "true".to_owned()
    } else {
        names
            .iter()
            .map(|n| format!("{n} is not null"))
            .collect::<Vec<_>>()
            .join(" and ")
    };
    let staged = format!(
        "(select {NUMBER}, {} from {stage} where {NUMBER} <> all ($1) and ({condition})) s",
        keys.join(", ")
    );
    [
        format!(
            "select {NUMBER} from {staged} where exists (select 1 from {} where {} and ({condition}))",
            table.sql_name(),
            equal.join(" and ")
        ),
        format!(
            "select {NUMBER} from (select {NUMBER}, row_number() over (partition by {} order by {NUMBER}) as place \
             from {staged} where {present}) d where place > 1",
            names.join(", ")
        ),
    ]
}

async fn collect(
    target: &Session,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    reason: &Reason,
    bad: &mut BTreeMap<i64, Vec<Reason>>,
) -> Result<()> {
    for number in attempt(target, sql, parameters).await? {
        let reasons = bad.entry(number).or_default();
        if !reasons.contains(reason) {
            reasons.push(reason.clone());
        }
    }
    Ok(())
}

/// Runs a pass; one that can't run here (an expression over columns that aren't staged, a
/// function that fails on some row) explains nothing, and its rows are found by bisection.
async fn attempt(
    target: &Session,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<i64>> {
    target.batch_execute("savepoint regraft_pass").await?;
    match target.query(sql, parameters).await {
        Ok(rows) => {
            target
                .batch_execute("release savepoint regraft_pass")
                .await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        }
        Err(error) => {
            let error = target.error(error);
            if error.sqlstate().is_none() || error.is_transient() {
                return Err(error.into());
            }
            target
                .batch_execute("rollback to savepoint regraft_pass")
                .await?;
            Ok(Vec::new())
        }
    }
}

async fn delete(
    target: &Session,
    model: &EntityModel,
    bad: &BTreeMap<i64, Vec<Reason>>,
) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = bad.keys().copied().collect();
    target
        .execute(
            &format!(
                "delete from {} where {NUMBER} = any ($1)",
                staging_table(model)
            ),
            &[&numbers],
        )
        .await?;
    Ok(())
}

/// Moves the staged rows numbered from `$1` to `$2` into the table.
fn insert_statement(model: &EntityModel) -> String {
    let overriding = model.outputs.iter().any(|o| {
        model
            .table
            .column(&o.column)
            .is_some_and(|c| c.identity == "a")
    });
    let columns = idents(model.outputs.iter().map(|o| o.column.as_str()));
    format!(
        "insert into {} ({columns}) {}select {columns} from {} where {NUMBER} between $1 and $2 order by {NUMBER}",
        model.table.sql_name(),
        if overriding {
            "overriding system value "
        } else {
            ""
        },
        staging_table(model)
    )
}

/// Inserts what is staged a part at a time: a part that the server refuses is halved until single
/// rows are left, and those are noted with what the server says of them.
async fn insert_by_halves(
    target: &Session,
    model: &EntityModel,
    rows: i64,
    bad: &mut BTreeMap<i64, Vec<Reason>>,
) -> Result<()> {
    let statement = insert_statement(model);
    let mut waiting = vec![(0, rows - 1)];
    while let Some((first, last)) = waiting.pop() {
        if first > last {
            continue;
        }
        target.batch_execute("savepoint regraft_insert").await?;
        let error = match target.execute(&statement, &[&first, &last]).await {
            Ok(_) => {
                target
                    .batch_execute("release savepoint regraft_insert")
                    .await?;
                continue;
            }
            Err(error) => crate::error::Error::from(target.error(error)),
        };
        if !is_about_rows(&error) {
            return Err(error);
        }
        target
            .batch_execute("rollback to savepoint regraft_insert")
            .await?;
        if first == last {
            if let Some(database) = error.database() {
                bad.entry(first)
                    .or_default()
                    .push(Reason::refused(database, "target_refused"));
            }
            continue;
        }
        let middle = first + (last - first) / 2;
        waiting.push((middle + 1, last));
        waiting.push((first, middle));
    }
    Ok(())
}
