//! One row of an entity, as the ledger knows it.

use std::collections::BTreeMap;

use regraft_pg::Result;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// The mapping of a row.
#[derive(Debug, Clone, Serialize)]
pub struct RowMapping {
    /// The legacy id.
    pub legacy_id: String,
    /// The key in the target.
    pub new_id: Uuid,
    /// The legacy id of the row that it was merged into.
    pub merged_into: Option<String>,
    /// The run that wrote it; `None` when the ledger has lost it.
    pub run_id: Option<String>,
    /// Its number.
    pub run_no: i32,
    /// The batch.
    pub batch: i32,
    /// The run that noted what both sides agree on, where that is a later one.
    pub agreed_run: Option<String>,
    /// The transaction that wrote the mapping as it is now (`xmin`). What was written
    /// after a savepoint has a number of its own, beside its transaction's.
    pub transaction: String,
}

/// The batch that wrote a row.
#[derive(Debug, Clone, Serialize)]
pub struct RowBatch {
    /// The run's command.
    pub command: String,
    /// `pending`, `done` or `rolled_back`.
    pub status: String,
    /// First legacy id of the batch.
    pub low_key: Option<String>,
    /// Last legacy id of the batch.
    pub high_key: Option<String>,
    /// Source rows of the batch.
    pub source_rows: i64,
    /// RFC 3339, UTC.
    pub finished_at: Option<String>,
    /// The transaction that wrote the record of the batch as it is now (`xmin`).
    pub transaction: String,
}

/// A change of a row after it was written.
#[derive(Debug, Clone, Serialize)]
pub struct RowChange {
    /// The run that made it.
    pub run_id: Option<String>,
    /// The batch.
    pub batch: i32,
    /// `update` or `delete`.
    pub operation: String,
    /// The columns at stake.
    pub columns: Vec<String>,
    /// Their values before; only where values were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Their values after; only where values were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// RFC 3339, UTC.
    pub at: Option<String>,
}

/// Where a row stands by the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// It has a mapping of its own.
    Migrated,
    /// It has the mapping of the row that it is part of.
    Merged,
    /// In quarantine for its own faults.
    Quarantined,
    /// In quarantine because of its parent.
    Blocked,
}

const MAPPING: &str = "select m.legacy_id, m.new_id, m.merged_into, c.run_id, m.run_no, m.batch, a.run_id, m.xmin::text
  from regraft.migration_mappings m
  left join regraft.migration_control c on c.run_no = m.run_no and c.entity = '' and c.batch = 0
  left join regraft.migration_control a on a.run_no = m.agreed_run and a.entity = '' and a.batch = 0";

/// The mappings of a legacy id: one, unless the ledger is broken.
pub async fn mappings_of_row(
    client: &impl GenericClient,
    entity: &str,
    numeric: bool,
    legacy_id: &str,
) -> Result<Vec<RowMapping>> {
    let sql = format!("{MAPPING} where m.entity = $1 and {}", is_id(numeric));
    let rows = client.query(&sql, &[&entity, &legacy_id]).await?;
    Ok(rows.iter().map(mapping).collect())
}

/// The mappings to a key of the target: that of the row's own legacy id first, then those of the
/// rows that were merged into it.
pub async fn mappings_of_key(
    client: &impl GenericClient,
    entity: &str,
    key: Uuid,
) -> Result<Vec<RowMapping>> {
    let sql = format!(
        "{MAPPING} where m.entity = $1 and m.new_id = $2
         order by m.merged_into nulls first, length(m.legacy_id), m.legacy_id"
    );
    let rows = client.query(&sql, &[&entity, &key]).await?;
    Ok(rows.iter().map(mapping).collect())
}

/// The entities that map a row to a key.
pub async fn entities_of_key(client: &impl GenericClient, key: Uuid) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select distinct entity from regraft.migration_mappings where new_id = $1 order by 1",
            &[&key],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn is_id(numeric: bool) -> &'static str {
    // Numbers are indexed as numbers.
    if numeric {
        "m.legacy_id::bigint = $2::text::bigint"
    } else {
        "m.legacy_id = $2"
    }
}

fn mapping(row: &tokio_postgres::Row) -> RowMapping {
    RowMapping {
        legacy_id: row.get(0),
        new_id: row.get(1),
        merged_into: row.get(2),
        run_id: row.get(3),
        run_no: row.get(4),
        batch: row.get(5),
        agreed_run: row.get(6),
        transaction: row.get(7),
    }
}

/// The record of a batch.
pub async fn row_batch(
    client: &impl GenericClient,
    run_no: i32,
    entity: &str,
    batch: i32,
) -> Result<Option<RowBatch>> {
    let row = client
        .query_opt(
            "select command, status, low_key, high_key, source_rows,
                    to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), xmin::text
             from regraft.migration_control where run_no = $1 and entity = $2 and batch = $3",
            &[&run_no, &entity, &batch],
        )
        .await?;
    Ok(row.map(|row| RowBatch {
        command: row.get(0),
        status: row.get(1),
        low_key: row.get(2),
        high_key: row.get(3),
        source_rows: row.get(4),
        finished_at: row.get(5),
        transaction: row.get(6),
    }))
}

/// The recorded changes of a row, oldest first; with values only where they are wanted.
pub async fn changes_of_row(
    client: &impl GenericClient,
    entity: &str,
    legacy_id: &str,
    values: bool,
) -> Result<Vec<RowChange>> {
    let rows = client
        .query(
            "select r.run_id, c.batch, c.operation, c.columns, case when $3 then c.before end,
                    case when $3 then c.after end,
                    to_char(coalesce(b.finished_at, r.finished_at) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
             from regraft.migration_changes c
             left join regraft.migration_control r on r.run_no = c.run_no and r.entity = '' and r.batch = 0
             left join regraft.migration_control b on b.run_no = c.run_no and b.entity = c.entity and b.batch = c.batch
             where c.entity = $1 and c.legacy_id = $2 order by c.run_no",
            &[&entity, &legacy_id, &values],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| RowChange {
            run_id: row.get(0),
            batch: row.get(1),
            operation: row.get(2),
            columns: row.get(3),
            before: row.get(4),
            after: row.get(5),
            at: row.get(6),
        })
        .collect())
}

/// Where rows stand; those that the ledger doesn't know are left out.
pub async fn row_states(
    client: &impl GenericClient,
    entity: &str,
    numeric: bool,
    ids: &[String],
) -> Result<BTreeMap<String, RowState>> {
    let among = if numeric {
        "legacy_id::bigint = any ($2::text[]::bigint[])"
    } else {
        "legacy_id = any ($2)"
    };
    let sql = format!(
        "select legacy_id, bucket from regraft.migration_quarantine
         where entity = $1 and state <> 'resolved' and legacy_id = any ($2)
         union all
         select legacy_id, case when merged_into is null then 'migrated' else 'merged' end
         from regraft.migration_mappings where entity = $1 and {among}"
    );
    let rows = client.query(&sql, &[&entity, &ids]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let state = match row.get(1) {
                "quarantined" => RowState::Quarantined,
                "blocked" => RowState::Blocked,
                "merged" => RowState::Merged,
                _ => RowState::Migrated,
            };
            (row.get(0), state)
        })
        .collect())
}
