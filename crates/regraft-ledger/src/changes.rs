//! Changes of rows that were in place already, with what was there before.

use regraft_pg::Result;
use regraft_pg::quote::{self, ident};
use tokio_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use crate::mapping::among;

/// The image of a row: a JSON object of its columns, each value in the text form of its type.
///
/// JSON's own forms lose what isn't JSON: `null` in a `jsonb` column would come back as NULL, the
/// sign of a zero and the bounds of an array would be gone.
pub(crate) fn image<'a>(
    columns: impl Iterator<Item = &'a str> + Clone,
    value: impl Fn(usize, &str) -> String,
) -> String {
    let values: Vec<String> = columns
        .clone()
        .enumerate()
        .map(|(i, column)| format!("{}::text", value(i, &ident(column))))
        .collect();
    format!(
        "jsonb_object({}, array[{}]::text[])",
        quote::array(columns, "text"),
        values.join(", ")
    )
}

/// An entity of the ledger with the table that holds its rows.
#[derive(Debug, Clone, Copy)]
pub struct OwnedTable<'a> {
    /// The entity.
    pub entity: &'a str,
    /// The quoted name of its table.
    pub table: &'a str,
    /// The table's key column.
    pub key: &'a str,
    /// All columns of the table.
    pub columns: &'a [String],
    /// Whether the legacy ids are numbers.
    pub numeric: bool,
    /// Whether rows of the entity can be merged into others.
    pub merges: bool,
}

/// What [`delete_rows`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletedRows {
    /// Legacy ids whose row and mapping went.
    pub rows: Vec<String>,
    /// Legacy ids of which there was only a mapping: of a row that was merged into another, or of
    /// one that somebody else had deleted.
    pub mappings: Vec<String>,
}

/// Locks rows of an entity until the transaction ends: whoever is about to refer to one of them waits,
/// and finds it gone. Who refers to them already can be asked for then, and stays an answer.
pub async fn lock_rows(
    client: &impl GenericClient,
    owned: &OwnedTable<'_>,
    ids: &[String],
) -> Result<()> {
    let sql = format!(
        "select 1 from regraft.migration_mappings m join {table} t on t.{key} = m.new_id
         where m.entity = $1 and {among} and m.merged_into is null
         order by t.{key} for update of t",
        table = owned.table,
        key = ident(owned.key),
        among = among(owned.numeric, "m", "$2"),
    );
    client.execute(&sql, &[&owned.entity, &ids]).await?;
    Ok(())
}

/// Deletes rows of an entity with their mappings, inside the caller's transaction, and keeps what
/// was there, so that the run can be undone. Ids that have no mapping are passed over, and so are
/// rows that others are merged into which are not deleted with them.
///
/// Whoever refers to the rows must be gone: a foreign key that cascades would take rows along of
/// which nothing is kept.
pub async fn delete_rows(
    client: &impl GenericClient,
    owned: &OwnedTable<'_>,
    run_no: i32,
    batch: i32,
    ids: &[String],
) -> Result<DeletedRows> {
    let mut deleted = delete_together(client, run_no, &[(owned, batch, ids)]).await?;
    Ok(deleted.pop().unwrap_or_default())
}

/// The same for rows of several entities that may refer to each other, in one statement: foreign
/// keys are checked when all are gone. Each part is an entity, the number of its batch, and its ids.
pub async fn delete_together(
    client: &impl GenericClient,
    run_no: i32,
    parts: &[(&OwnedTable<'_>, i32, &[String])],
) -> Result<Vec<DeletedRows>> {
    let (mut steps, mut results) = (Vec::new(), Vec::new());
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&run_no];
    for (place, (owned, batch, ids)) in parts.iter().enumerate() {
        steps.push(owned.deletion(place, values.len()));
        results.push(format!(
            "select {place}, legacy_id, columns <> '{{}}' from kept{place}"
        ));
        values.extend([batch as &(dyn ToSql + Sync), &owned.entity, ids]);
    }
    let sql = format!(
        "with {}\n{}",
        steps.join(",\n"),
        results.join(" union all ")
    );
    let mut deleted = vec![DeletedRows::default(); parts.len()];
    for row in client.query(&sql, &values).await? {
        let place: i32 = row.get(0);
        let deleted = &mut deleted[place.unsigned_abs() as usize];
        match row.get(2) {
            true => deleted.rows.push(row.get(1)),
            false => deleted.mappings.push(row.get(1)),
        }
    }
    Ok(deleted)
}

impl OwnedTable<'_> {
    /// The steps of a statement that delete rows: `$1` is the run, and the parameters after the first
    /// `before` are the batch, the entity and the ids. The last step, `kept`, returns what was kept.
    fn deletion(&self, place: usize, before: usize) -> String {
        let (batch, entity, ids) = (before + 1, before + 2, before + 3);
        let alone = if self.merges {
            format!(
                "and not exists (
                   select from regraft.migration_mappings o
                   where o.entity = ${entity} and o.merged_into = m.legacy_id
                     and o.legacy_id <> all (${ids}::text[]))"
            )
        } else {
            String::new()
        };
        let names = || self.columns.iter().map(String::as_str);
        // An earlier process of the run may have changed the row, or have deleted it before it came
        // again: what counts is what was there before the run.
        let first_delete = |column: &str, otherwise: &str| {
            format!("case old.operation when 'delete' then old.{column} else {otherwise} end")
        };
        format!(
            "chosen{place} as materialized (
               select * from regraft.migration_mappings m where m.entity = ${entity} and {among} {alone}),
             gone{place} as (
               delete from {table} t using chosen{place} m
               where m.merged_into is null and t.{key} = m.new_id
               returning m.legacy_id, {before} as before),
             forgotten{place} as (
               delete from regraft.migration_mappings m using chosen{place} c
               where m.entity = ${entity} and {among} and m.legacy_id = c.legacy_id),
             kept{place} as (
               insert into regraft.migration_changes as old
                 (run_no, batch, entity, legacy_id, new_id, operation, columns, before,
                  source_fingerprint, column_fingerprints, agreed_run, written_run, written_batch, merged_into)
               select $1, ${batch}, ${entity}, m.legacy_id, m.new_id, 'delete',
                      case when d.legacy_id is null then '{{}}' else {columns} end, coalesce(d.before, '{{}}'),
                      m.source_fingerprint, m.column_fingerprints, m.agreed_run, m.run_no, m.batch, m.merged_into
               from chosen{place} m left join gone{place} d using (legacy_id)
               on conflict (run_no, entity, legacy_id) do update set
                 operation = 'delete', after = null, columns = {columns_then}, before = {before_then},
                 written_run = {written_run}, written_batch = {written_batch},
                 merged_into = {merged_into}
               returning legacy_id, columns)",
            columns_then = first_delete("columns", "excluded.columns"),
            before_then = first_delete(
                "before",
                "case when excluded.columns = '{}' then '{}' else excluded.before || old.before end",
            ),
            written_run = first_delete("written_run", "excluded.written_run"),
            written_batch = first_delete("written_batch", "excluded.written_batch"),
            merged_into = first_delete("merged_into", "excluded.merged_into"),
            among = among(self.numeric, "m", &format!("${ids}")),
            table = self.table,
            key = ident(self.key),
            columns = quote::array(names(), "text"),
            before = image(names(), |_, column| format!("t.{column}")),
        )
    }
}

/// Forgets in which key ranges of an entity both sides agreed. To be called in the transaction that
/// deletes or replaces mappings of it, or writes its rows.
pub async fn forget_agreed_ranges(client: &impl GenericClient, entity: &str) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_agreed_ranges where entity = $1",
            &[&entity],
        )
        .await?;
    Ok(())
}
