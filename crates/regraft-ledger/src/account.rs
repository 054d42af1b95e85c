//! The account: what became of every source row, per batch and per entity.

use std::collections::BTreeMap;

use regraft_pg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

/// The buckets of the account. For a finished batch or entity
/// `source_rows = inserted + updated + unchanged + merged + filtered + quarantined + blocked`
/// (design, section 5); the table refuses anything else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Rows of the source query, before filters.
    pub source_rows: i64,
    /// Rows written.
    pub inserted: i64,
    /// Rows overwritten.
    pub updated: i64,
    /// Rows that were in place already.
    pub unchanged: i64,
    /// Rows joined into another by a rule.
    pub merged: i64,
    /// Rows dropped by a filter.
    pub filtered: i64,
    /// Rows that could not be moved.
    pub quarantined: i64,
    /// Rows whose parent could not be moved.
    pub blocked: i64,
    /// Values that no source row holds, by explicit rule of the project (counted per row and column).
    pub synthesised: i64,
    /// Filtered rows by filter, and quarantined or blocked rows by reason.
    pub detail: Detail,
}

/// What the numbers of an [`Account`] are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// Rows dropped, by the filter's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, i64>,
    /// Rows merged into others, by the rule's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub merged: BTreeMap<String, i64>,
    /// Rows in quarantine or blocked, by reason. A row with several reasons counts under each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, i64>,
    /// Rows counted as unchanged because the application has changed what was to be overwritten.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed_in_target: i64,
    /// Rows counted as unchanged whose source row differs from what was migrated.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed_in_source: i64,
    /// Rows counted as unchanged because both sides changed them, and somebody has to decide.
    #[serde(skip_serializing_if = "is_zero")]
    pub conflicts: i64,
    /// Rows of the target that were deleted, or marked so, because the source has them no more.
    /// They are no source rows, and so in no bucket.
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Account {
    /// Adds another account, bucket by bucket.
    pub fn add(&mut self, other: &Self) {
        self.source_rows += other.source_rows;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.merged += other.merged;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
        self.blocked += other.blocked;
        self.synthesised += other.synthesised;
        for (name, count) in &other.detail.filters {
            *self.detail.filters.entry(name.clone()).or_default() += count;
        }
        for (name, count) in &other.detail.merged {
            *self.detail.merged.entry(name.clone()).or_default() += count;
        }
        for (name, count) in &other.detail.reasons {
            *self.detail.reasons.entry(name.clone()).or_default() += count;
        }
        self.detail.changed_in_source += other.detail.changed_in_source;
        self.detail.changed_in_target += other.detail.changed_in_target;
        self.detail.conflicts += other.detail.conflicts;
        self.detail.deleted += other.detail.deleted;
    }

    /// The sum of the buckets.
    pub fn accounted(&self) -> i64 {
        self.inserted
            + self.updated
            + self.unchanged
            + self.merged
            + self.filtered
            + self.quarantined
            + self.blocked
    }

    /// Whether every source row is in exactly one bucket.
    pub fn balances(&self) -> bool {
        self.source_rows == self.accounted()
    }
}

/// A finished batch: its key range and its account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Number within the entity and run, from 1.
    pub batch: i32,
    /// First legacy id of the range.
    pub low_key: String,
    /// Last legacy id of the range.
    pub high_key: String,
    /// Its account.
    pub account: Account,
}

/// An entity of a run with its account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntityRecord {
    /// The entity.
    pub entity: String,
    /// `running`, `interrupted`, `failed`, `done` or `rolled_back`.
    pub status: String,
    /// Its account.
    pub account: Account,
    /// Seconds from its start to its end.
    pub seconds: Option<f64>,
}

const BUCKETS: &str = "source_rows, inserted, updated, unchanged, merged, filtered, quarantined, \
                       blocked, synthesised, detail";

/// Notes the key ranges that an entity of a run is cut into, before any of them is moved, so that a
/// later process goes on with the same ones.
pub async fn plan_batches(
    client: &impl GenericClient,
    run_no: i32,
    run_id: &str,
    command: &str,
    entity: &str,
    ranges: &[(i32, String, String)],
) -> Result<()> {
    let numbers: Vec<i32> = ranges.iter().map(|r| r.0).collect();
    let lows: Vec<&str> = ranges.iter().map(|r| r.1.as_str()).collect();
    let highs: Vec<&str> = ranges.iter().map(|r| r.2.as_str()).collect();
    client
        .execute_typed(
            "insert into regraft.migration_control
               (run_no, entity, batch, run_id, command, status, low_key, high_key)
             select $1, $2, r.batch, $3, $4, 'pending', r.low, r.high
             from unnest($5::int4[], $6::text[], $7::text[]) r (batch, low, high)
             on conflict (run_no, entity, batch) do nothing",
            &[
                (&run_no, Type::INT4),
                (&entity, Type::TEXT),
                (&run_id, Type::TEXT),
                (&command, Type::TEXT),
                (&numbers, Type::INT4_ARRAY),
                (&lows, Type::TEXT_ARRAY),
                (&highs, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

/// The key ranges of an entity in a run: number, first and last legacy id, and whether it is done.
pub async fn planned_batches(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
) -> Result<Vec<(i32, String, String, bool)>> {
    let rows = client
        .query_typed(
            "select batch, low_key, high_key, status = 'done' from regraft.migration_control
             where run_no = $1 and entity = $2 and batch > 0 order by batch",
            &[(&run_no, Type::INT4), (&entity, Type::TEXT)],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect())
}

/// Whether a batch is done: what to ask after the answer to its COMMIT was lost.
pub async fn done_batch(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    batch: i32,
) -> Result<Option<BatchRecord>> {
    Ok(done_batches(client, run_no, entity)
        .await?
        .into_iter()
        .find(|b| b.batch == batch))
}

/// Records a finished batch, in the transaction that wrote its rows.
///
/// # Errors
/// A batch that is done already: its rows must not be written twice.
pub async fn record_batch(
    client: &impl GenericClient,
    run_no: i32,
    run_id: &str,
    command: &str,
    entity: &str,
    record: &BatchRecord,
) -> Result<()> {
    let account = &record.account;
    let recorded = client
        .execute_typed(
            &format!(
                "insert into regraft.migration_control as c
                   (run_no, entity, batch, run_id, command, status, low_key, high_key, {BUCKETS}, finished_at)
                 values ($1, $2, $3, $4, $5, 'done', $6, $7,
                         $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, clock_timestamp())
                 on conflict (run_no, entity, batch) do update set
                   status = 'done', low_key = excluded.low_key, high_key = excluded.high_key,
                   source_rows = excluded.source_rows, inserted = excluded.inserted,
                   updated = excluded.updated, unchanged = excluded.unchanged,
                   merged = excluded.merged, filtered = excluded.filtered,
                   quarantined = excluded.quarantined, blocked = excluded.blocked,
                   synthesised = excluded.synthesised, detail = excluded.detail,
                   finished_at = excluded.finished_at
                 where c.status in ('pending', 'rolled_back')"
            ),
            &[
                (&run_no, Type::INT4),
                (&entity, Type::TEXT),
                (&record.batch, Type::INT4),
                (&run_id, Type::TEXT),
                (&command, Type::TEXT),
                (&record.low_key, Type::TEXT),
                (&record.high_key, Type::TEXT),
                (&account.source_rows, Type::INT8),
                (&account.inserted, Type::INT8),
                (&account.updated, Type::INT8),
                (&account.unchanged, Type::INT8),
                (&account.merged, Type::INT8),
                (&account.filtered, Type::INT8),
                (&account.quarantined, Type::INT8),
                (&account.blocked, Type::INT8),
                (&account.synthesised, Type::INT8),
                (&json!(account.detail), Type::JSONB),
            ],
        )
        .await?;
    if recorded == 1 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::LockNotAvailable,
        format!(
            "batch {} of {entity} is done already: another process works on this run",
            record.batch
        ),
    ))
}

/// The finished batches of an entity in a run, by key range.
pub async fn done_batches(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
) -> Result<Vec<BatchRecord>> {
    let rows = client
        .query_typed(
            &format!(
                "select batch, low_key, high_key, {BUCKETS} from regraft.migration_control
                 where run_no = $1 and entity = $2 and batch > 0 and status = 'done' order by batch"
            ),
            &[(&run_no, Type::INT4), (&entity, Type::TEXT)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(BatchRecord {
                batch: row.get(0),
                low_key: row.get(1),
                high_key: row.get(2),
                account: read_account(row, 3)?,
            })
        })
        .collect()
}

/// The bucket that rows leave when they turn out not to be movable after all.
#[derive(Debug, Clone, Copy)]
pub enum MovedFrom<'a> {
    /// They had been written.
    Inserted,
    /// They had been counted as merged by this rule.
    Merged(&'a str),
}

/// Takes `rows` rows of a finished batch out of `inserted` and into `bucket` under `reasons`:
/// they were found faulty when the constraints came back. Their synthesised values, as many in
/// every row, go with them.
pub(crate) async fn move_out(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    batch: i32,
    from: MovedFrom<'_>,
    to: (crate::Bucket, i64, &BTreeMap<String, i64>),
) -> Result<()> {
    let (bucket, rows, reasons) = to;
    let row = client
        .query_one(
            "select detail from regraft.migration_control
             where run_no = $1 and entity = $2 and batch = $3 for update",
            &[&run_no, &entity, &batch],
        )
        .await?;
    let mut detail: Detail = crate::run::decode(row.get(0))?;
    for (reason, count) in reasons {
        *detail.reasons.entry(reason.clone()).or_default() += count;
    }
    let column = bucket.as_str();
    let (from, synthesised) = match from {
        MovedFrom::Inserted => (
            "inserted",
            "synthesised / greatest(inserted, 1) * (inserted - $4)",
        ),
        MovedFrom::Merged(rule) => {
            *detail.merged.entry(rule.to_owned()).or_default() -= rows;
            detail.merged.retain(|_, count| *count != 0);
            ("merged", "synthesised")
        }
    };
    client
        .execute(
            &format!(
                "update regraft.migration_control
                 set {from} = {from} - $4, {column} = {column} + $4, detail = $5,
                     synthesised = {synthesised}
                 where run_no = $1 and entity = $2 and batch = $3"
            ),
            &[&run_no, &entity, &batch, &rows, &json!(detail)],
        )
        .await?;
    Ok(())
}

/// Writes the account of an entity as the sum of its batches; `status` `done` only passes when it
/// balances.
pub async fn record_entity(
    client: &impl GenericClient,
    run_no: i32,
    run_id: &str,
    command: &str,
    entity: &str,
    status: &str,
) -> Result<Account> {
    let mut account = Account::default();
    for batch in done_batches(client, run_no, entity).await? {
        account.add(&batch.account);
    }
    client
        .execute_typed(
            &format!(
                "insert into regraft.migration_control
                   (run_no, entity, batch, run_id, command, status, {BUCKETS}, finished_at)
                 values ($1, $2, 0, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                         case when $5 <> 'running' then clock_timestamp() end)
                 on conflict (run_no, entity, batch) do update set
                   status = excluded.status, source_rows = excluded.source_rows,
                   inserted = excluded.inserted, updated = excluded.updated,
                   unchanged = excluded.unchanged, merged = excluded.merged,
                   filtered = excluded.filtered, quarantined = excluded.quarantined,
                   blocked = excluded.blocked, synthesised = excluded.synthesised,
                   detail = excluded.detail, finished_at = excluded.finished_at"
            ),
            &[
                (&run_no, Type::INT4),
                (&entity, Type::TEXT),
                (&run_id, Type::TEXT),
                (&command, Type::TEXT),
                (&status, Type::TEXT),
                (&account.source_rows, Type::INT8),
                (&account.inserted, Type::INT8),
                (&account.updated, Type::INT8),
                (&account.unchanged, Type::INT8),
                (&account.merged, Type::INT8),
                (&account.filtered, Type::INT8),
                (&account.quarantined, Type::INT8),
                (&account.blocked, Type::INT8),
                (&account.synthesised, Type::INT8),
                (&json!(account.detail), Type::JSONB),
            ],
        )
        .await?;
    Ok(account)
}

/// The entities of a run with their accounts, in the order they were begun.
pub async fn entity_records(client: &impl GenericClient, run_no: i32) -> Result<Vec<EntityRecord>> {
    let rows = client
        .query(
            &format!(
                "select entity, status, extract(epoch from finished_at - started_at)::float8, {BUCKETS}
                 from regraft.migration_control
                 where run_no = $1 and entity <> '' and batch = 0 order by started_at, entity"
            ),
            &[&run_no],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(EntityRecord {
                entity: row.get(0),
                status: row.get(1),
                seconds: row.get(2),
                account: read_account(row, 3)?,
            })
        })
        .collect()
}

fn read_account(row: &tokio_postgres::Row, first: usize) -> Result<Account> {
    Ok(Account {
        source_rows: row.get(first),
        inserted: row.get(first + 1),
        updated: row.get(first + 2),
        unchanged: row.get(first + 3),
        merged: row.get(first + 4),
        filtered: row.get(first + 5),
        quarantined: row.get(first + 6),
        blocked: row.get(first + 7),
        synthesised: row.get(first + 8),
        detail: crate::run::decode(row.get(first + 9))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_balances_only_when_every_row_is_in_one_bucket() {
        let mut account = Account {
            source_rows: 10,
            inserted: 6,
            filtered: 3,
            quarantined: 1,
            ..Account::default()
        };
        assert!(account.balances());
        account.inserted = 7;
        assert!(!account.balances(), "too many is as wrong as too few");
        account.inserted = 5;
        assert!(!account.balances());
    }
}
