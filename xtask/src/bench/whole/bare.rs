//! The baseline of one entity: raw COPY of its own rows into its bare table, then everything that
//! the table has to offer: indexes, unique constraints, checks and foreign keys.

use std::time::Instant;

use regraft_pg::{Session, quote};

use super::super::{Result, baseline};

/// The rows of one entity in a migrated target.
pub(super) struct OwnRows<'a> {
    /// Schema of its table.
    pub(super) schema: &'a str,
    /// Its table.
    pub(super) table: &'a str,
    /// Where several entities share the table: the column that only this one's rows have.
    pub(super) only: Option<&'a str>,
}

/// One measurement.
pub(super) struct Copied {
    /// Wall time of COPY, indexes and constraints.
    pub(super) seconds: f64,
    /// Rows copied.
    pub(super) rows: u64,
}

const COPY: &str = "bench_copy";

/// Columns that COPY can write: the server computes generated ones itself.
const COLUMNS: &str = "
  select attname::text from pg_attribute
  where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''
  order by attnum";

/// What to build afterwards, in this order. Whether the column may be NULL is part of the bare
/// table. An index that stands for a constraint comes with it.
const PARTS: &str = "
  select definition, is_index, is_unique from (
    select case contype when 'c' then 3 when 'f' then 4 else 1 end as step, conname as name,
           pg_get_constraintdef(oid) as definition, false as is_index, false as is_unique
    from pg_constraint
    where conrelid = $1::text::regclass and contype in ('p', 'u', 'x', 'c', 'f')
    union all
    select 2, c.relname, pg_get_indexdef(c.oid), true, i.indisunique
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = $1::text::regclass
      and not exists (select from pg_constraint k
                      where k.conindid = c.oid and k.conrelid = i.indrelid
                        and k.contype in ('p', 'u', 'x'))
  ) parts order by step, name";

/// Indexes and constraints of a table.
const COUNTS: &str = "
  select (select count(*) from pg_index where indrelid = $1::text::regclass),
         (select count(*) from pg_constraint where conrelid = $1::text::regclass and contype <> 't')";

/// Copies the rows once, between two connections to the migrated target, and removes the copy.
///
/// # Errors
/// The server refuses a statement, an index is defined in a form that is not known here, or the
/// copy has not as many indexes and constraints as the table.
pub(super) async fn copy(out: &Session, into: &Session, own: &OwnRows<'_>) -> Result<Copied> {
    let table = quote::qualified(own.schema, own.table);
    let copy = quote::qualified(own.schema, COPY);
    let rows = out.query(COLUMNS, &[&table]).await?;
    let columns: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let columns = quote::idents(columns.iter().map(String::as_str));
    let parts = parts(into, &table, &copy).await?;
    let condition = own
        .only
        .map(|column| format!(" where {} is not null", quote::ident(column)));
    into.batch_execute(&format!(
        "drop table if exists {copy};
         create table {copy} (like {table} including defaults including generated including identity);
         checkpoint"
    ))
    .await?;
    let started = Instant::now();
    let rows = baseline::forward(
        out,
        into,
        &format!(
            "copy (select {columns} from {table}{}) to stdout (format binary)",
            condition.unwrap_or_default()
        ),
        &format!("copy {copy} ({columns}) from stdin (format binary)"),
    )
    .await?;
    for part in parts {
        into.batch_execute(&part)
            .await
            .map_err(|e| format!("{}: {part}", into.error(e).message()))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (wanted, built) = (counts(into, &table).await?, counts(into, &copy).await?);
    if wanted != built {
        return Err(format!(
            "{table} has {wanted:?} indexes and constraints, but its copy {built:?}"
        )
        .into());
    }
    into.batch_execute(&format!("drop table {copy}")).await?;
    Ok(Copied { seconds, rows })
}

async fn counts(session: &Session, table: &str) -> Result<(i64, i64)> {
    let row = session.query_one(COUNTS, &[&table]).await?;
    Ok((row.get(0), row.get(1)))
}

/// The statements that give the copy the table's indexes and constraints, under names that the
/// server chooses.
async fn parts(session: &Session, table: &str, copy: &str) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for row in session.query(PARTS, &[&table]).await? {
        let (definition, is_index, is_unique): (String, bool, bool) =
            (row.get(0), row.get(1), row.get(2));
        statements.push(if is_index {
            let (_, how) = definition
                .split_once(" USING ")
                .ok_or_else(|| format!("an index without a method: {definition}"))?;
            let unique = if is_unique { "unique " } else { "" };
            format!("create {unique}index on {copy} using {how}")
        } else {
            // Without the ending it is validated as it is added.
            let definition = definition.strip_suffix(" NOT VALID").unwrap_or(&definition);
            format!("alter table {copy} add {definition}")
        });
    }
    Ok(statements)
}
