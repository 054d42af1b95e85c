//! What a returning constraint or unique index refuses is taken out of the table and into
//! quarantine, found by one set-based pass per constraint.

use std::collections::{BTreeSet, HashMap};

use regraft_ledger::{MovedFrom, Phase};
use regraft_pg::Session;
use regraft_pg::catalog::Index;
use regraft_pg::quote::ident;
use tokio::try_join;
use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::keys::LegacyId;
use crate::load::{EntityLoad, Reason, parse_id, quarantined_rows, row_conditions};
use crate::model::EntityModel;
use crate::transaction;

/// Takes out the rows that violate any of the constraints that `refuses` is true of, each with every
/// check and foreign key that it violates.
pub(super) async fn settle_rows(
    target: &Session,
    source: &Session,
    load: &EntityLoad,
    refuses: impl Fn(&Reason) -> bool,
) -> Result<()> {
    let model = &load.model;
    let columns: BTreeSet<&str> = model
        .table
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    let conditions = row_conditions(&model.table, &columns);
    let mut faults: HashMap<Uuid, Vec<Reason>> = HashMap::new();
    let (own, others): (Vec<_>, Vec<_>) =
        conditions.iter().partition(|(reason, _)| refuses(reason));
    let select = format!(
        "select s.{key} from {table} s where",
        key = ident(&model.key_column),
        table = model.table.sql_name()
    );
    for (reason, condition) in own {
        for row in target.query(&format!("{select} {condition}"), &[]).await? {
            faults.entry(row.get(0)).or_default().push(reason.clone());
        }
    }
    let found: Vec<Uuid> = faults.keys().copied().collect();
    for (reason, condition) in others {
        let sql = format!(
            "{select} {condition} and s.{} = any ($1)",
            ident(&model.key_column)
        );
        for row in target.query(&sql, &[&found]).await? {
            faults.entry(row.get(0)).or_default().push(reason.clone());
        }
    }
    let keys: Vec<Uuid> = faults.keys().copied().collect();
    let doomed = written(target, load, &keys)
        .await?
        .into_iter()
        .filter_map(|row| faults.remove(&row.key).map(|reasons| (row, reasons)))
        .collect();
    remove(target, source, load, Phase::Settling, doomed).await
}

/// Takes out the rows that lose to an earlier one under the unique index that `restore` builds:
/// among all rows, or among those that equal one of `suspects`.
pub(super) async fn settle_unique(
    target: &Session,
    source: &Session,
    load: &EntityLoad,
    restore: &[String],
    suspects: Option<&[Uuid]>,
) -> Result<()> {
    let model = &load.model;
    let index = model
        .table
        .indexes
        .iter()
        .find(|i| Some(&i.definition) == restore.first());
    let Some(index) = index else {
        return Err(Error::new(
            Kind::Data,
            "two rows have the same legacy id: the entity's key is not unique in the source",
        )
        .in_entity(&model.name)
        .hint("a join in `source.from` multiplies rows, or `source.key` is not the row's own id"));
    };
    let sql = equal_rows(model, index, suspects.is_some());
    let rows = match &suspects {
        Some(suspects) => target.query(&sql, &[suspects]).await?,
        None => target.query(&sql, &[]).await?,
    };
    let groups: HashMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let keys: Vec<Uuid> = groups.keys().copied().collect();
    let mut equals = written(target, load, &keys).await?;
    equals.sort_by(|a, b| (groups[&a.key], &a.id).cmp(&(groups[&b.key], &b.id)));
    let name = index.constraint.as_deref().unwrap_or(&index.name);
    let reason = Reason::constraint("unique_violation", name);
    let (mut won, mut doomed) = (None, Vec::new());
    for row in equals {
        let group = groups[&row.key];
        if won == Some(group) {
            doomed.push((row, vec![reason.clone()]));
        }
        won = Some(group);
    }
    if doomed.is_empty() && suspects.is_none() {
        return Err(strangers(model, &reason));
    }
    remove(target, source, load, Phase::Settling, doomed).await
}

/// The keys of rows that are equal under an index, and a number for each group of equals. With
/// `suspects` only rows that equal one of `$1`.
fn equal_rows(model: &EntityModel, index: &Index, suspects: bool) -> String {
    let list: Vec<String> = index
        .keys
        .iter()
        .enumerate()
        .map(|(i, key)| format!("({key}) as k{i}"))
        .collect();
    let names: Vec<String> = (0..list.len()).map(|i| format!("k{i}")).collect();
    let (operator, present) = if index.nulls_not_distinct {
        ("is not distinct from", "true".to_owned())
    } else {
        let present: Vec<String> = names.iter().map(|n| format!("{n} is not null")).collect();
        ("=", present.join(" and "))
    };
    let same: Vec<String> = names
        .iter()
        .map(|n| format!("r.{n} {operator} t.{n}"))
        .collect();
    let names = names.join(", ");
    // Which values occur twice is found by hashing alone; only their rows are put in order.
    let twice = if suspects {
        format!("select distinct {names} from rows where regraft_id = any ($1) and {present}")
    } else {
        format!("select {names} from rows where {present} group by {names} having count(*) > 1")
    };
    format!(
        "with rows as not materialized (select {key} as regraft_id, {list} from {table} where {condition}), \
         twice as materialized ({twice}), \
         candidates as materialized (select r.* from rows r join twice t on {same}) \
         select regraft_id, dense_rank() over (order by {names}) from candidates",
        key = ident(&model.key_column),
        list = list.join(", "),
        table = model.table.sql_name(),
        condition = index.predicate.as_deref().unwrap_or("true"),
        same = same.join(" and "),
    )
}

/// A row of the table that this migration wrote.
pub(crate) struct WrittenRow {
    pub(crate) id: LegacyId,
    pub(crate) batch: i32,
    pub(crate) key: Uuid,
}

/// What the mappings say of rows of the table; rows that others wrote are not among the result.
pub(crate) async fn written(
    target: &Session,
    load: &EntityLoad,
    keys: &[Uuid],
) -> Result<Vec<WrittenRow>> {
    let model = &load.model;
    let rows = target
        .query(
            "select legacy_id, batch, new_id from regraft.migration_mappings \
             where entity = $1 and new_id = any ($2)",
            &[&model.name, &keys],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(WrittenRow {
                id: parse_id(model, row.get(0))?,
                batch: row.get(1),
                key: row.get(2),
            })
        })
        .collect()
}

/// Rows of others keep an index or a constraint from coming back.
pub(super) fn strangers(model: &EntityModel, reason: &Reason) -> Error {
    Error::new(
        Kind::Data,
        format!(
            "rows that this migration did not write stand in the way of {}",
            reason.key()
        ),
    )
    .in_entity(&model.name)
    .hint("they were written to the target while it was loaded in bulk mode; remove them, then run the same command again")
}

/// Moves rows of the table into quarantine, with the accounts of their batches corrected, in one
/// transaction under the checkpoint's fence.
pub(crate) async fn remove(
    target: &Session,
    source: &Session,
    load: &EntityLoad,
    phase: Phase,
    doomed: Vec<(WrittenRow, Vec<Reason>)>,
) -> Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    let model = &load.model;
    let keys: Vec<Uuid> = doomed.iter().map(|(row, _)| row.key).collect();
    let mut faulty: Vec<_> = doomed
        .into_iter()
        .map(|(row, reasons)| (row.batch, row.id, reasons))
        .collect();
    faulty.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    transaction::run(target, load.nested, async || {
        regraft_ledger::set_phase(&**target, &load.checkpoint, phase).await?;
        // Both servers are at work at once.
        let (quarantined, ()) = try_join!(
            quarantined_rows(source, model, faulty),
            delete_rows(target, model, &keys),
        )?;
        Ok(regraft_ledger::move_to_quarantine(
            target,
            load.run_no,
            &model.name,
            &quarantined,
            load.first_quarantine,
            MovedFrom::Inserted,
        )
        .await?)
    })
    .await
}

/// Deletes rows by their keys, with their mappings, inside the caller's transaction.
async fn delete_rows(target: &Session, model: &EntityModel, keys: &[Uuid]) -> Result<()> {
    for keys in keys.chunks(20_000) {
        target
            .execute(
                &format!(
                    "delete from {} where {} = any ($1)",
                    model.table.sql_name(),
                    ident(&model.key_column)
                ),
                &[&keys],
            )
            .await?;
        target
            .execute(
                "delete from regraft.migration_mappings where entity = $1 and new_id = any ($2)",
                &[&model.name, &keys],
            )
            .await?;
    }
    Ok(())
}
