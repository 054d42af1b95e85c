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
    /// and keeps what was there; how many were written.
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
        let pairs = |prefix: &str| {
            self.list(
                |i, column| {
                    let name = quote::literal(&self.columns[i]);
                    let _ = column;
                    format!("{name}, s.{prefix}{i}")
                },
                ", ",
            )
        };
        let columns = quote::array(self.columns.iter().map(String::as_str), "text");
        let sql = format!(
            "with done as (
               update {table} t set {sets} from {STAGE} s
               where t.{key} = s.regraft_key and s.touched and {as_read}
               returning s.regraft_id, jsonb_build_object({before}) as before, jsonb_build_object({after}) as after)
             insert into regraft.migration_changes
               (run_no, batch, entity, legacy_id, new_id, operation, columns, before, after,
                source_fingerprint, column_fingerprints, agreed_run)
             select $1, $2, $3, m.legacy_id, m.new_id, 'update', {columns}, d.before, d.after,
                    m.source_fingerprint, m.column_fingerprints, m.agreed_run
             from done d join regraft.migration_mappings m on m.entity = $3 and m.legacy_id = d.regraft_id",
            table = self.table,
            key = ident(self.key),
            before = pairs("b"),
            after = pairs("n"),
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

/// Forgets the changes of rows that are no longer there.
pub async fn forget_changes(client: &impl GenericClient, entity: &str) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_changes c where entity = $1 and not exists (
               select from regraft.migration_mappings m
               where m.entity = $1 and m.legacy_id = c.legacy_id)",
            &[&entity],
        )
        .await?;
    Ok(())
}
