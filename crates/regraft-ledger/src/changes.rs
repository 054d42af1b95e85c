//! Changes of rows that were in place already, with what was there before.

use regraft_pg::Result;
use regraft_pg::quote::{self, ident};
use tokio_postgres::GenericClient;

/// The temporary table that holds the rows of a batch with what they are to become.
pub const STAGE: &str = "pg_temp.regraft_backfill";

/// A table of the target whose rows are changed, and the columns at stake.
#[derive(Debug, Clone)]
pub struct ChangedTable<'a> {
    /// Its quoted name.
    pub table: &'a str,
    /// Its key column.
    pub key: &'a str,
    /// The columns.
    pub columns: &'a [String],
}

impl ChangedTable<'_> {
    /// Creates [`STAGE`] for a transaction: `regraft_id`, `regraft_key`, `source_fingerprint`,
    /// `column_fingerprints`, `touched`, then the new values and the values they replace.
    pub async fn create_stage(&self, client: &impl GenericClient) -> Result<()> {
        let list: String = (0..self.columns.len())
            .map(|i| {
                let column = ident(&self.columns[i]);
                format!(", t.{column} as n{i}, t.{column} as b{i}")
            })
            .collect();
        client
            .batch_execute(&format!(
                "set local client_min_messages = warning;
                 drop table if exists {STAGE};
                 create temporary table regraft_backfill on commit drop as
                 select null::text as regraft_id, null::uuid as regraft_key, null::uuid as source_fingerprint,
                        null::bytea as column_fingerprints, null::boolean as touched{list}
                 from {} t where false",
                self.table
            ))
            .await?;
        Ok(())
    }

    /// Writes the touched rows of [`STAGE`] that still hold what they held when they were read,
    /// and keeps what was there and what is there now; how many were written.
    pub async fn write(
        &self,
        client: &impl GenericClient,
        run_no: i32,
        batch: i32,
        entity: &str,
    ) -> Result<u64> {
        let sets = self.list(|i, column| format!("{column} = s.n{i}"), ", ");
        let as_read = self.list(
            |i, column| format!("t.{column}::text is not distinct from s.b{i}::text"),
            " and ",
        );
        let names = || self.columns.iter().map(String::as_str);
        let sql = format!(
            "with done as (
               update {table} t set {sets} from {STAGE} s
               where t.{key} = s.regraft_key and s.touched and {as_read}
               returning s.regraft_id, {before} as before, {after} as after)
             insert into regraft.migration_changes
               (run_no, batch, entity, legacy_id, new_id, operation, columns, before, after,
                source_fingerprint, column_fingerprints, agreed_run)
             select $1, $2, $3, m.legacy_id, m.new_id, 'update', {columns}, d.before, d.after,
                    m.source_fingerprint, m.column_fingerprints, m.agreed_run
             from done d join regraft.migration_mappings m on m.entity = $3 and m.legacy_id = d.regraft_id",
            table = self.table,
            key = ident(self.key),
            columns = quote::array(names(), "text"),
            before = image(names(), |i, _| format!("s.b{i}")),
            after = image(names(), |_, column| format!("t.{column}")),
        );
        Ok(client.execute(&sql, &[&run_no, &batch, &entity]).await?)
    }

    fn list(&self, one: impl Fn(usize, &str) -> String, between: &str) -> String {
        let parts: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| one(i, &ident(column)))
            .collect();
        parts.join(between)
    }
}

/// Notes in the mappings what both sides now agree on, for every row of [`STAGE`] but those that
/// changed between reading and writing.
pub async fn agree(client: &impl GenericClient, run_no: i32, entity: &str) -> Result<()> {
    client
        .execute(
            &format!(
                "update regraft.migration_mappings m
                 set source_fingerprint = s.source_fingerprint, column_fingerprints = s.column_fingerprints,
                     agreed_run = $1
                 from {STAGE} s
                 where m.entity = $2 and m.legacy_id = s.regraft_id
                   and (m.source_fingerprint, m.column_fingerprints)
                       is distinct from (s.source_fingerprint, s.column_fingerprints)
                   and (not s.touched or exists (
                     select from regraft.migration_changes c
                     where c.run_no = $1 and c.entity = $2 and c.legacy_id = s.regraft_id))"
            ),
            &[&run_no, &entity],
        )
        .await?;
    Ok(())
}

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
    let among = |mapping: &str| {
        if owned.numeric {
            format!("{mapping}.legacy_id::bigint = any ($4::text[]::bigint[])")
        } else {
            format!("{mapping}.legacy_id = any ($4::text[])")
        }
    };
    let alone = if owned.merges {
        "and not exists (
           select from regraft.migration_mappings o
           where o.entity = $3 and o.merged_into = m.legacy_id and o.legacy_id <> all ($4::text[]))"
    } else {
        ""
    };
    let names = || owned.columns.iter().map(String::as_str);
    // An earlier process of the run may have changed the row, or have deleted it before it came again:
    // what counts is what was there before the run.
    let first_delete = |column: &str, otherwise: &str| {
        format!("case c.operation when 'delete' then c.{column} else {otherwise} end")
    };
    let sql = format!(
        "with chosen as materialized (
           select * from regraft.migration_mappings m where m.entity = $3 and {among} {alone}),
         gone as (
           delete from {table} t using chosen m
           where m.merged_into is null and t.{key} = m.new_id
           returning m.legacy_id, {before} as before),
         forgotten as (
           delete from regraft.migration_mappings m using chosen
           where m.entity = $3 and {among} and m.legacy_id = chosen.legacy_id)
         insert into regraft.migration_changes as c
           (run_no, batch, entity, legacy_id, new_id, operation, columns, before,
            source_fingerprint, column_fingerprints, agreed_run, written_run, written_batch, merged_into)
         select $1, $2, $3, m.legacy_id, m.new_id, 'delete',
                case when d.legacy_id is null then '{{}}' else {columns} end, coalesce(d.before, '{{}}'),
                m.source_fingerprint, m.column_fingerprints, m.agreed_run, m.run_no, m.batch, m.merged_into
         from chosen m left join gone d using (legacy_id)
         on conflict (run_no, entity, legacy_id) do update set
           operation = 'delete', after = null, columns = {columns_then}, before = {before_then},
           written_run = {written_run}, written_batch = {written_batch}, merged_into = {merged_into}
         returning legacy_id, columns <> '{{}}'",
        columns_then = first_delete("columns", "excluded.columns"),
        before_then = first_delete(
            "before",
            "case when excluded.columns = '{}' then '{}' else excluded.before || c.before end",
        ),
        written_run = first_delete("written_run", "excluded.written_run"),
        written_batch = first_delete("written_batch", "excluded.written_batch"),
        merged_into = first_delete("merged_into", "excluded.merged_into"),
        among = among("m"),
        table = owned.table,
        key = ident(owned.key),
        columns = quote::array(names(), "text"),
        before = image(names(), |_, column| format!("t.{column}")),
    );
    let rows = client
        .query(&sql, &[&run_no, &batch, &owned.entity, &ids])
        .await?;
    let mut deleted = DeletedRows::default();
    for row in &rows {
        if row.get(1) {
            deleted.rows.push(row.get(0));
        } else {
            deleted.mappings.push(row.get(0));
        }
    }
    Ok(deleted)
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
