//! Quarantine: rows that could not be moved, each with every reason and its raw values.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{SinkExt, pin_mut};
use regraft_pg::Result;
use regraft_pg::copy::Writer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::{Client, GenericClient};

use crate::account::MovedFrom;

/// Why a row stays behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    /// The row itself is at fault.
    Quarantined,
    /// Only its parent is; it follows when the parent is moved.
    Blocked,
}

impl Bucket {
    /// As it is stored; also the name of its column in the account.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quarantined => "quarantined",
            Self::Blocked => "blocked",
        }
    }
}

/// A row to be put into quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// Its legacy id.
    pub legacy_id: String,
    /// Its bucket.
    pub bucket: Bucket,
    /// Every reason: a JSON list of objects with at least `code`, as text.
    pub reasons: String,
    /// The values the source query gave, by column: a JSON object as text.
    pub source_row: Option<String>,
    /// The batch it is of.
    pub batch: i32,
}

/// A row in quarantine as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuarantineRow {
    /// Number in the quarantine.
    pub id: i64,
    /// The entity.
    pub entity: String,
    /// The legacy id.
    pub legacy_id: String,
    /// Its bucket.
    pub bucket: Bucket,
    /// Every reason.
    pub reasons: Value,
    /// Raw values; only where they were asked for.
    pub source_row: Option<Value>,
    /// `open`, `resolved` or `dropped`.
    pub state: String,
    /// The run that put it here.
    pub run_id: Option<String>,
    /// The batch.
    pub batch: i32,
    /// How many runs tried it.
    pub tries: i32,
    /// RFC 3339.
    pub first_seen_at: String,
    /// RFC 3339.
    pub last_tried_at: String,
    /// When it was resolved or dropped. RFC 3339.
    #[serde(default)]
    pub closed_at: Option<String>,
    /// Why it was dropped, or resolved without being moved.
    #[serde(default)]
    pub note: Option<String>,
}

/// Whether the quarantine of an entity holds any row, whatever its state.
pub async fn any(client: &impl GenericClient, entity: &str) -> Result<bool> {
    let row = client
        .query_one(
            "select exists (select from regraft.migration_quarantine where entity = $1)",
            &[&entity],
        )
        .await?;
    Ok(row.get(0))
}

/// Puts rows into quarantine that can't be there yet: faster than [`put`], and an error if one is.
pub async fn put_first(
    client: &Client,
    run_no: i32,
    entity: &str,
    rows: &[Quarantined],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = "legacy_id, bucket, reasons, source_row, batch, entity, run_no";
    let statement =
        format!("copy regraft.migration_quarantine ({columns}) from stdin (format binary)");
    copy_rows(client, &statement, rows, 7, |block| {
        block.field(entity.as_bytes());
        block.field(&run_no.to_be_bytes());
    })
    .await
}

/// Puts rows into quarantine. A row that is there already with the same reasons is left as it is,
/// so that a repeated run writes nothing, or only opened again: it stays the finding of the run
/// that found it first. One that was dropped stays so, unless it was asked for by name (`asked`).
pub async fn put(
    client: &Client,
    run_no: i32,
    entity: &str,
    rows: &[Quarantined],
    asked: bool,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    client
        .batch_execute(
            "set local client_min_messages = warning;
             create temp table if not exists regraft_quarantine
               (legacy_id text, bucket text, reasons jsonb, source_row jsonb, batch integer, place integer);
             truncate pg_temp.regraft_quarantine",
        )
        .await?;
    let mut place = 0_i32;
    copy_rows(
        client,
        "copy pg_temp.regraft_quarantine from stdin (format binary)",
        rows,
        6,
        |block| {
            place = place.saturating_add(1);
            block.field(&place.to_be_bytes());
        },
    )
    .await?;
    client
        .execute(
            "insert into regraft.migration_quarantine as q
               (entity, legacy_id, bucket, reasons, source_row, run_no, batch)
             select $1, r.legacy_id, r.bucket, r.reasons, r.source_row, $2, r.batch
             from pg_temp.regraft_quarantine r order by r.place
             on conflict (entity, legacy_id) do update set
               bucket = excluded.bucket, reasons = excluded.reasons, source_row = excluded.source_row,
               state = 'open', closed_at = null, note = null,
               run_no = case when q.reasons = excluded.reasons then q.run_no else excluded.run_no end,
               batch = case when q.reasons = excluded.reasons then q.batch else excluded.batch end,
               tries = q.tries + (q.reasons <> excluded.reasons)::integer, last_tried_at = now()
             where (q.state <> 'dropped' or $3)
               and (q.state <> 'open' or q.reasons <> excluded.reasons or q.bucket <> excluded.bucket)",
            &[&entity, &run_no, &asked],
        )
        .await?;
    if !asked {
        client
            .execute(
                "update regraft.migration_quarantine q set bucket = r.bucket
                 from pg_temp.regraft_quarantine r
                 where q.entity = $1 and q.legacy_id = r.legacy_id and q.state = 'dropped'
                   and q.bucket <> r.bucket",
                &[&entity],
            )
            .await?;
    }
    Ok(())
}

/// Sends rows of so many fields: those of [`Quarantined`] in its order, then what `rest` adds.
async fn copy_rows(
    client: &Client,
    statement: &str,
    rows: &[Quarantined],
    fields: i16,
    mut rest: impl FnMut(&mut Writer),
) -> Result<()> {
    let sink = client.copy_in::<_, Bytes>(statement).await?;
    pin_mut!(sink);
    let mut block = Writer::new();
    let mut document = Vec::new();
    for row in rows {
        block.tuple(fields);
        block.field(row.legacy_id.as_bytes());
        block.field(row.bucket.as_str().as_bytes());
        block.field(jsonb(&row.reasons, &mut document));
        match &row.source_row {
            Some(values) => block.field(jsonb(values, &mut document)),
            None => block.null(),
        }
        block.field(&row.batch.to_be_bytes());
        rest(&mut block);
        if block.len() >= 128 << 10 {
            sink.send(block.take()).await?;
        }
    }
    block.end();
    sink.send(block.take()).await?;
    sink.finish().await?;
    Ok(())
}

/// The binary form of jsonb: a version byte, then the text.
fn jsonb<'a>(text: &str, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    buffer.clear();
    buffer.push(1);
    buffer.extend_from_slice(text.as_bytes());
    buffer
}

/// Moves rows of finished batches into quarantine after all: their constraint came back and
/// refused them, or their parent did not come. `first` as for [`put_first`].
pub async fn move_to_quarantine(
    client: &Client,
    run_no: i32,
    entity: &str,
    rows: &[Quarantined],
    first: bool,
    from: MovedFrom<'_>,
) -> Result<()> {
    if first {
        put_first(client, run_no, entity, rows).await?;
    } else {
        put(client, run_no, entity, rows, false).await?;
    }
    let mut moved: BTreeMap<(i32, Bucket), (i64, BTreeMap<String, i64>)> = BTreeMap::new();
    for row in rows {
        let (count, reasons) = moved.entry((row.batch, row.bucket)).or_default();
        *count += 1;
        let list = serde_json::from_str(&row.reasons).unwrap_or_default();
        for reason in reason_keys(&list) {
            *reasons.entry(reason).or_insert(0) += 1;
        }
    }
    for ((batch, bucket), (count, reasons)) in moved {
        crate::account::move_out(
            client,
            run_no,
            entity,
            batch,
            from,
            (bucket, count, &reasons),
        )
        .await?;
    }
    Ok(())
}

/// The reasons of a row as the account counts them: `code:column` or `code:constraint`.
pub fn reason_keys(reasons: &Value) -> Vec<String> {
    let mut keys: Vec<String> = reasons
        .as_array()
        .into_iter()
        .flatten()
        .map(|reason| {
            let code = reason
                .get("code")
                .and_then(Value::as_str)
                .unwrap_or("unknown");
            let place = ["constraint", "column"]
                .iter()
                .find_map(|field| reason.get(field).and_then(Value::as_str));
            match place {
                Some(place) => format!("{code}:{place}"),
                None => code.to_owned(),
            }
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Which rows of the quarantine are meant.
#[derive(Debug, Clone, Default)]
pub struct RedriveFilter {
    /// Of these entities; empty for all.
    pub entities: Vec<String>,
    /// With this reason: a code, or code:column, or code:constraint.
    pub reason: Option<String>,
    /// With these legacy ids; empty for all.
    pub legacy_ids: Vec<String>,
    /// Those that were dropped too, not only the open ones.
    pub dropped: bool,
}

impl RedriveFilter {
    fn states(&self) -> &'static [&'static str] {
        if self.dropped {
            &["open", "dropped"]
        } else {
            &["open"]
        }
    }
}

/// The rows `q` that a filter chooses: entities `$1`, legacy ids `$2`, reason `$3`, states `$4`.
const CHOSEN: &str = "q.state = any ($4)
    and (cardinality($1::text[]) = 0 or q.entity = any ($1))
    and (cardinality($2::text[]) = 0 or q.legacy_id = any ($2))
    and ($3::text is null or exists (
      select from jsonb_array_elements(q.reasons) r
      where r ->> 'code' = $3
         or (r ->> 'code') || ':' || coalesce(r ->> 'constraint', r ->> 'column') = $3))";

/// Which rows wait for which: `entity`, `legacy_id`, `parent`, `parent_id`, among those that are open.
const EDGES: &str =
    "select q.entity, q.legacy_id, r ->> 'parent' as parent, r ->> 'parent_id' as parent_id
    from regraft.migration_quarantine q, jsonb_array_elements(q.reasons) r
    where q.state = 'open' and r ->> 'code' = 'blocked_parent'";

/// The rows that a filter chooses, the open rows that these wait for, and all rows behind them, by
/// entity.
pub async fn redrive_set(
    client: &impl GenericClient,
    filter: &RedriveFilter,
) -> Result<BTreeMap<String, Vec<String>>> {
    let rows = client
        .query(
            &format!(
                "with recursive edge as materialized ({EDGES}),
                 chosen as (
                   select q.entity, q.legacy_id from regraft.migration_quarantine q where {CHOSEN}),
                 waiting as (
                   select entity, legacy_id, parent, parent_id from edge
                   union all
                   select q.entity, q.legacy_id, r ->> 'parent', r ->> 'parent_id'
                   from regraft.migration_quarantine q
                   join chosen c on c.entity = q.entity and c.legacy_id = q.legacy_id,
                   jsonb_array_elements(q.reasons) r
                   where q.state = 'dropped' and r ->> 'code' = 'blocked_parent'),
                 above as (
                   select entity, legacy_id from chosen
                   union
                   select q.entity, q.legacy_id from above a
                   join waiting e on e.entity = a.entity and e.legacy_id = a.legacy_id
                   join regraft.migration_quarantine q
                     on q.entity = e.parent and q.legacy_id = e.parent_id and q.state = 'open'),
                 behind as (
                   select entity, legacy_id from above
                   union
                   select e.entity, e.legacy_id from behind b
                   join edge e on e.parent = b.entity and e.parent_id = b.legacy_id)
                 select entity, legacy_id from behind order by entity, legacy_id"
            ),
            &[
                &filter.entities,
                &filter.legacy_ids,
                &filter.reason,
                &filter.states(),
            ],
        )
        .await?;
    let mut set: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        set.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(set)
}

/// Marks rows as resolved: they have been moved.
pub async fn resolve(
    client: &impl GenericClient,
    entity: &str,
    legacy_ids: &[String],
) -> Result<()> {
    client
        .execute(
            "update regraft.migration_quarantine
             set state = 'resolved', last_tried_at = now(), closed_at = now(), note = null
             where entity = $1 and legacy_id = any($2) and state <> 'resolved'",
            &[&entity, &legacy_ids],
        )
        .await?;
    Ok(())
}

/// Closes rows that are not to be moved any more, with the reason why.
pub async fn close(
    client: &impl GenericClient,
    entity: &str,
    legacy_ids: &[String],
    note: &str,
) -> Result<()> {
    client
        .execute(
            "update regraft.migration_quarantine
             set state = 'resolved', last_tried_at = now(), closed_at = now(), note = $3
             where entity = $1 and legacy_id = any($2) and state <> 'resolved'",
            &[&entity, &legacy_ids, &note],
        )
        .await?;
    Ok(())
}

/// Rows of an entity that are to be dropped.
#[derive(Debug, Clone, Serialize)]
pub struct DropCount {
    /// The entity.
    pub entity: String,
    /// How many.
    pub rows: i64,
    /// Up to five legacy ids.
    pub examples: Vec<String>,
}

/// What dropping rows means.
#[derive(Debug, Clone, Serialize)]
pub struct DropPreview {
    /// The rows, by entity.
    pub entities: Vec<DropCount>,
    /// Rows that wait for these and stay open, by entity: they are blocked for as long.
    pub behind: Vec<DropCount>,
}

/// What dropping the rows that a filter chooses would mean.
pub async fn drop_preview(
    client: &impl GenericClient,
    filter: &RedriveFilter,
) -> Result<DropPreview> {
    let rows = client
        .query(
            &format!(
                "with recursive edge as materialized ({EDGES}),
                 chosen as materialized (
                   select q.entity, q.legacy_id from regraft.migration_quarantine q where {CHOSEN}),
                 behind as (
                   select entity, legacy_id from chosen
                   union
                   select e.entity, e.legacy_id from behind b
                   join edge e on e.parent = b.entity and e.parent_id = b.legacy_id)
                 select b.entity, c.legacy_id is not null, count(*),
                        (array_agg(b.legacy_id order by length(b.legacy_id), b.legacy_id))[1:5]
                 from behind b left join chosen c using (entity, legacy_id)
                 group by 1, 2 order by 1"
            ),
            &[
                &filter.entities,
                &filter.legacy_ids,
                &filter.reason,
                &filter.states(),
            ],
        )
        .await?;
    let mut preview = DropPreview {
        entities: Vec::new(),
        behind: Vec::new(),
    };
    for row in &rows {
        let count = DropCount {
            entity: row.get(0),
            rows: row.get(2),
            examples: row.get(3),
        };
        if row.get(1) {
            preview.entities.push(count);
        } else {
            preview.behind.push(count);
        }
    }
    Ok(preview)
}

/// Drops the open rows that a filter chooses: it is decided that they are not moved. They still
/// count under their bucket. How many.
pub async fn drop_rows(
    client: &impl GenericClient,
    filter: &RedriveFilter,
    note: Option<&str>,
) -> Result<u64> {
    Ok(client
        .execute(
            &format!(
                "update regraft.migration_quarantine q
                 set state = 'dropped', closed_at = now(), note = $5 where {CHOSEN}"
            ),
            &[
                &filter.entities,
                &filter.legacy_ids,
                &filter.reason,
                &filter.states(),
                &note,
            ],
        )
        .await?)
}

/// The legacy ids of an entity's rows that were dropped.
pub async fn dropped_ids(client: &impl GenericClient, entity: &str) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select legacy_id from regraft.migration_quarantine where entity = $1 and state = 'dropped'",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The open rows that wait for a row, by entity.
pub async fn behind(
    client: &impl GenericClient,
    entity: &str,
    legacy_id: &str,
) -> Result<Vec<DropCount>> {
    let rows = client
        .query(
            &format!(
                "with recursive edge as materialized ({EDGES}),
                 behind as (
                   select e.entity, e.legacy_id from edge e where e.parent = $1 and e.parent_id = $2
                   union
                   select e.entity, e.legacy_id from behind b
                   join edge e on e.parent = b.entity and e.parent_id = b.legacy_id)
                 select entity, count(*), (array_agg(legacy_id order by length(legacy_id), legacy_id))[1:5]
                 from behind where (entity, legacy_id) <> ($1, $2) group by 1 order by 1"
            ),
            &[&entity, &legacy_id],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| DropCount {
            entity: row.get(0),
            rows: row.get(1),
            examples: row.get(2),
        })
        .collect())
}

/// The names of the values that rows in quarantine have, in the order in which the source query
/// gives them.
pub async fn value_columns(
    client: &impl GenericClient,
    filter: &RedriveFilter,
) -> Result<Vec<String>> {
    let rows = client
        .query(
            &format!(
                "select v.name from regraft.migration_quarantine q,
                   jsonb_object_keys(q.source_row) with ordinality v (name, place)
                 where {CHOSEN} and jsonb_typeof(q.source_row) = 'object'
                 group by v.name order by min(q.entity), min(v.place), v.name"
            ),
            &[
                &filter.entities,
                &filter.legacy_ids,
                &filter.reason,
                &filter.states(),
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Rows of the quarantine with their values, `most` of them, after a number in the quarantine.
pub async fn page(
    client: &impl GenericClient,
    filter: &RedriveFilter,
    after: i64,
    most: i64,
) -> Result<Vec<QuarantineRow>> {
    let rows = client
        .query(
            &format!(
                "{} where q.id > $6 and {CHOSEN} order by q.id limit $7",
                select("$5")
            ),
            &[
                &filter.entities,
                &filter.legacy_ids,
                &filter.reason,
                &filter.states(),
                &true,
                &after,
                &most,
            ],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

/// Opens the entries of rows again that some runs had moved: those runs are being undone. Call it
/// while their mappings are still there.
pub async fn reopen(client: &impl GenericClient, entity: &str, runs: &[i32]) -> Result<()> {
    client
        .execute(
            "update regraft.migration_quarantine set state = 'open', closed_at = null, note = null
             where entity = $1 and state = 'resolved' and legacy_id in
               (select legacy_id from regraft.migration_mappings where entity = $1 and run_no = any ($2))",
            &[&entity, &runs],
        )
        .await?;
    Ok(())
}

/// The legacy ids of an entity that are in quarantine or blocked, or were dropped.
pub async fn stopped_ids(client: &impl GenericClient, entity: &str) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select legacy_id from regraft.migration_quarantine
             where entity = $1 and state <> 'resolved'",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Rows of an entity that are open or dropped, `most` of them, each with its bucket and its reasons as
/// the account counts them: `code:place`, several with commas.
pub async fn open_reasons(
    client: &impl GenericClient,
    entity: &str,
    most: i64,
) -> Result<Vec<(String, Bucket, String)>> {
    let rows = client
        .query(
            "select legacy_id, bucket,
                    (select string_agg(distinct ((r ->> 'code')
                       || coalesce(':' || coalesce(r ->> 'constraint', r ->> 'column'), '')) collate \"C\", ', ')
                     from jsonb_array_elements(reasons) r)
             from regraft.migration_quarantine
             where entity = $1 and state <> 'resolved' order by legacy_id limit $2",
            &[&entity, &most],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let bucket = if row.get::<_, &str>(1) == "blocked" {
                Bucket::Blocked
            } else {
                Bucket::Quarantined
            };
            let reasons: Option<String> = row.get(2);
            (row.get(0), bucket, reasons.unwrap_or_default())
        })
        .collect())
}

/// Which rows of the quarantine to list.
#[derive(Debug, Clone, Default)]
pub struct QuarantineFilter {
    /// Only this entity.
    pub entity: Option<String>,
    /// Only rows with a reason of this code, or `code:place`.
    pub reason: Option<String>,
    /// Only this legacy id.
    pub legacy_id: Option<String>,
    /// Rows that are resolved or dropped too.
    pub closed: bool,
    /// With raw values.
    pub values: bool,
    /// At most so many rows.
    pub limit: i64,
}

/// Lists the quarantine.
pub async fn list(
    client: &impl GenericClient,
    filter: &QuarantineFilter,
) -> Result<Vec<QuarantineRow>> {
    let code = filter
        .reason
        .as_deref()
        .map(|r| r.split(':').next().unwrap_or(r).to_owned());
    let place = filter
        .reason
        .as_deref()
        .and_then(|r| r.split_once(':'))
        .map(|(_, p)| p.to_owned());
    let rows = client
        .query(
            &format!(
                "{}
             where ($1::text is null or q.entity = $1)
               and ($2::text is null or q.legacy_id = $2)
               and ($4 or q.state = 'open')
               and ($3::text is null or exists (
                     select 1 from jsonb_array_elements(q.reasons) r
                     where r ->> 'code' = $3
                       and ($7::text is null or r ->> 'constraint' = $7 or r ->> 'column' = $7)))
             order by q.entity, q.id limit $6",
                select("$5")
            ),
            &[
                &filter.entity,
                &filter.legacy_id,
                &code,
                &filter.closed,
                &filter.values,
                &filter.limit,
                &place,
            ],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

/// The columns of a row in quarantine; `values` says whether its values are among them.
fn select(values: &str) -> String {
    format!(
        "select q.id, q.entity, q.legacy_id, q.bucket, q.reasons,
                case when {values} then q.source_row end, q.state, c.run_id, q.batch, q.tries,
                to_char(q.first_seen_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                to_char(q.last_tried_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                to_char((to_jsonb(q) ->> 'closed_at')::timestamptz at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                to_jsonb(q) ->> 'note'
         from regraft.migration_quarantine q
         left join regraft.migration_control c
           on c.run_no = q.run_no and c.entity = '' and c.batch = 0"
    )
}

fn read(row: &tokio_postgres::Row) -> QuarantineRow {
    QuarantineRow {
        id: row.get(0),
        entity: row.get(1),
        legacy_id: row.get(2),
        bucket: if row.get::<_, &str>(3) == "blocked" {
            Bucket::Blocked
        } else {
            Bucket::Quarantined
        },
        reasons: row.get(4),
        source_row: row.get(5),
        state: row.get(6),
        run_id: row.get(7),
        batch: row.get(8),
        tries: row.get(9),
        first_seen_at: row.get(10),
        last_tried_at: row.get(11),
        closed_at: row.get(12),
        note: row.get(13),
    }
}

/// How many open rows an entity has under one reason, with examples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The entity.
    pub entity: String,
    /// Quarantined or blocked.
    pub bucket: Bucket,
    /// The reason's code.
    pub code: String,
    /// The column or constraint it is about.
    pub place: Option<String>,
    /// The parent entity, for a missing or blocked parent.
    pub parent: Option<String>,
    /// Rows that have it.
    pub rows: i64,
    /// Up to five legacy ids.
    pub examples: Vec<String>,
}

/// The open quarantine by entity and reason, most rows first.
pub async fn summary(client: &impl GenericClient) -> Result<Vec<ReasonCount>> {
    let rows = client
        .query(
            "select entity, bucket, r ->> 'code', coalesce(r ->> 'constraint', r ->> 'column'),
                    r ->> 'parent', count(*), (array_agg(legacy_id))[1:5]
             from regraft.migration_quarantine, jsonb_array_elements(reasons) r
             where state = 'open'
             group by 1, 2, 3, 4, 5 order by 1, 6 desc, 3, 4",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let bucket: String = row.get(1);
            ReasonCount {
                entity: row.get(0),
                bucket: if bucket == "blocked" {
                    Bucket::Blocked
                } else {
                    Bucket::Quarantined
                },
                code: row.get(2),
                place: row.get(3),
                parent: row.get(4),
                rows: row.get(5),
                examples: row.get(6),
            }
        })
        .collect())
}

/// How many rows of a run stayed behind for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReason {
    /// The entity.
    pub entity: String,
    /// The reason as the account counts it: `code:column`, `code:constraint` or `code`.
    pub reason: String,
    /// The parent entity, for a missing or blocked parent, as far as the quarantine still tells.
    pub parent: Option<String>,
    /// Rows that had it at the end of the run. A row with several reasons counts under each.
    pub rows: i64,
    /// Rows of the entity that are in quarantine or blocked with it now, by whatever run.
    pub open_now: i64,
    /// Up to five legacy ids of these.
    pub examples: Vec<String>,
}

impl RunReason {
    /// The reason's code.
    pub fn code(&self) -> &str {
        self.reason
            .split_once(':')
            .map_or(self.reason.as_str(), |(code, _)| code)
    }

    /// The column or constraint it is about.
    pub fn place(&self) -> Option<&str> {
        self.reason.split_once(':').map(|(_, place)| place)
    }
}

/// Why rows of a run stayed behind, entity by entity, most rows first.
pub async fn reasons_of_run(client: &impl GenericClient, run_id: &str) -> Result<Vec<RunReason>> {
    let rows = client.query(crate::explain::REASONS, &[&run_id]).await?;
    rows.iter()
        .map(|row| {
            Ok(RunReason {
                entity: row.get(0),
                reason: row.get(1),
                parent: row.get(2),
                rows: row.get(3),
                open_now: row.get(4),
                examples: crate::run::decode(row.get(5))?,
            })
        })
        .collect()
}

/// Deletes what a run put into quarantine for an entity.
pub async fn delete_quarantine_of_run(
    client: &impl GenericClient,
    entity: &str,
    run_no: i32,
) -> Result<u64> {
    Ok(client
        .execute(
            "delete from regraft.migration_quarantine where entity = $1 and run_no = $2",
            &[&entity, &run_no],
        )
        .await?)
}

/// The rows of an entity that are open or dropped: legacy id, bucket, and whether they are dropped.
pub async fn stopped_rows(
    client: &impl GenericClient,
    entity: &str,
) -> Result<Vec<(String, Bucket, bool)>> {
    let rows = client
        .query(
            "select legacy_id, bucket = 'blocked', state = 'dropped' from regraft.migration_quarantine
             where entity = $1 and state in ('open', 'dropped')",
            &[&entity],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let bucket = if row.get(1) {
                Bucket::Blocked
            } else {
                Bucket::Quarantined
            };
            (row.get(0), bucket, row.get(2))
        })
        .collect())
}
