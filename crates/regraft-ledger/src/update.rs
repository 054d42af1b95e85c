//! Rows in place that are changed, with what was there before, and those that somebody has to
//! decide on.

use std::collections::BTreeSet;

use regraft_pg::Result;
use regraft_pg::quote::{self, ident};
use tokio_postgres::GenericClient;

use crate::changes::image;
use crate::mapping::{among, partition};

/// The temporary table that holds the rows of a batch: `regraft_id`, `regraft_key`,
/// `source_fingerprint`, `column_fingerprints` (what is agreed on when the row is written),
/// `agreed` (what was, in the same order), `written` and `undecided` (a digit for each column), then
/// for each column what it is to become and what it holds.
pub const STAGE: &str = "pg_temp.regraft_update";

/// Columns of the stage before those of the table.
pub const STAGE_COLUMNS: usize = 7;

/// A table of the target whose rows are changed, and the columns that the project maps to.
#[derive(Debug, Clone, Copy)]
pub struct UpdatedTable<'a> {
    /// The entity.
    pub entity: &'a str,
    /// The table's quoted name.
    pub table: &'a str,
    /// Its key column.
    pub key: &'a str,
    /// Whether the legacy ids are numbers, which the mappings' index is on then.
    pub numeric: bool,
    /// The columns, and the type of each without its domain.
    pub columns: &'a [(String, String)],
    /// Those of them that are looked at: conflicts that were noted over others stay as they are.
    pub looked_at: &'a [String],
}

impl UpdatedTable<'_> {
    /// Creates [`STAGE`] for a transaction.
    pub async fn create_stage(&self, client: &impl GenericClient) -> Result<()> {
        let list: String = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (_, of))| format!(", n{i} {of}, b{i} {of}"))
            .collect();
        client
            .batch_execute(&format!(
                "set local client_min_messages = warning;
                 drop table if exists {STAGE};
                 create temporary table regraft_update (
                   regraft_id text, regraft_key uuid, source_fingerprint uuid, column_fingerprints bytea,
                   agreed bytea, written text, undecided text{list}) on commit drop"
            ))
            .await?;
        Ok(())
    }

    /// Tells the server how many rows are staged, and of which kinds.
    pub async fn stage_is_full(&self, client: &impl GenericClient) -> Result<()> {
        client
            .batch_execute(&format!("analyze {STAGE}"))
            .await
            .map_err(Into::into)
    }

    /// Writes those columns of the staged rows that `mask` marks, for rows with exactly this mask
    /// (of these ids, if any are given) that still hold what they held when they were read, and
    /// keeps what was there. The legacy ids of the rows written.
    pub async fn write(
        &self,
        client: &impl GenericClient,
        (run_no, batch): (i32, i32),
        mask: &str,
        ids: Option<&[String]>,
    ) -> Result<Vec<String>> {
        let at = marked(mask);
        let list = |one: &dyn Fn(usize, &str) -> String, between: &str| {
            let parts: Vec<String> = at
                .iter()
                .map(|&i| one(i, &ident(&self.columns[i].0)))
                .collect();
            parts.join(between)
        };
        let sets = list(&|i, column| format!("{column} = s.n{i}"), ", ");
        let as_read = list(
            &|i, column| format!("t.{column}::text is not distinct from s.b{i}::text"),
            " and ",
        );
        let names = || at.iter().map(|&i| self.columns[i].0.as_str());
        let sql = format!(
            "with done as (
               update {table} t set {sets} from {STAGE} s
               where t.{key} = s.regraft_key and s.written = $4 and {as_read}
                 and ($5::text[] is null or s.regraft_id = any ($5))
               returning s.regraft_id, {before} as before, {after} as after)
             insert into regraft.migration_changes as c
               (run_no, batch, entity, legacy_id, new_id, operation, columns, before, after,
                source_fingerprint, column_fingerprints, agreed_run)
             select $1, $2, $3, m.legacy_id, m.new_id, 'update', {columns}, d.before, d.after,
                    m.source_fingerprint, m.column_fingerprints, m.agreed_run
             from done d join {mappings} m on {same_id}
             on conflict (run_no, entity, legacy_id) do update set
               columns = array(select distinct unnest(c.columns || excluded.columns)),
               before = excluded.before || c.before, after = c.after || excluded.after
             returning legacy_id",
            table = self.table,
            key = ident(self.key),
            mappings = partition(self.entity),
            same_id = same_id(self.numeric, "m.legacy_id", "d.regraft_id"),
            before = image(names(), |i, _| format!("s.b{}", at[i])),
            after = image(names(), |_, column| format!("t.{column}")),
            columns = quote::array(names(), "text"),
        );
        let rows = client
            .query(&sql, &[&run_no, &batch, &self.entity, &mask, &ids])
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Notes staged rows with this mask of undecided columns as open conflicts, in place of what was
    /// open for the same rows and columns.
    pub async fn note_conflicts(
        &self,
        client: &impl GenericClient,
        operation_id: &str,
        mask: &str,
    ) -> Result<()> {
        let at = marked(mask);
        let objects: Vec<String> = at
            .chunks(40)
            .map(|part| {
                let pairs: Vec<String> = part
                    .iter()
                    .map(|&i| {
                        format!(
                            "{}, jsonb_build_object('source', s.n{i}::text, 'target', s.b{i}::text, \
                             'agreed', encode(substring(s.agreed from {} for 4), 'hex'))",
                            quote::literal(&self.columns[i].0),
                            4 * i + 1
                        )
                    })
                    .collect();
                format!("jsonb_build_object({})", pairs.join(", "))
            })
            .collect();
        let names = at.iter().map(|&i| self.columns[i].0.as_str());
        client
            .execute(
                &format!(
                    "insert into regraft.data_differentials as d
                       (operation_id, entity, comparison_type, legacy_id, new_id, columns, detail)
                     select $1, $2, 'conflict', s.regraft_id, s.regraft_key, {columns},
                            jsonb_build_object('columns', {values})
                     from {STAGE} s where s.undecided = $3
                     on conflict (entity, legacy_id) where legacy_id is not null and not resolved do update set
                       operation_id = excluded.operation_id, comparison_type = excluded.comparison_type,
                       new_id = excluded.new_id, created_at = excluded.created_at,
                       columns = array(select c from unnest(d.columns) c where c <> all ($4)) || excluded.columns,
                       detail = jsonb_build_object('columns',
                         coalesce((d.detail -> 'columns') - $4::text[], '{{}}') || (excluded.detail -> 'columns'))",
                    columns = quote::array(names, "text"),
                    values = objects.join(" || "),
                ),
                &[&operation_id, &self.entity, &mask, &self.looked_at],
            )
            .await?;
        Ok(())
    }

    /// Takes the columns that are looked at out of the open conflicts of these rows, which are
    /// closed by a strategy where nothing else is left of them.
    pub async fn close_columns(
        &self,
        client: &impl GenericClient,
        ids: &[String],
        strategy: &str,
    ) -> Result<()> {
        client
            .execute(
                "update regraft.data_differentials d
                 set columns = case when r.none then d.columns else r.rest end,
                     detail = case when r.none then d.detail - 'columns'
                                   else jsonb_build_object('columns', (d.detail -> 'columns') - $4::text[]) end,
                     resolved = r.none, resolved_at = case when r.none then clock_timestamp() end,
                     resolution_strategy = case when r.none then $3 end
                 from (select o.id, n.rest, n.rest = '{}' as none
                       from regraft.data_differentials o,
                            lateral (select array(select c from unnest(o.columns) c where c <> all ($4)) as rest) n
                       where o.entity = $1 and o.legacy_id = any ($2) and not o.resolved
                         and o.comparison_type = 'conflict') r
                 where d.id = r.id",
                &[&self.entity, &ids, &strategy, &self.looked_at],
            )
            .await?;
        Ok(())
    }

    /// Staged rows with an open conflict of which both sides still say what they said when it was
    /// noted.
    pub async fn still_as_noted(&self, client: &impl GenericClient) -> Result<Vec<String>> {
        let same: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (column, _))| {
                let of = |side: &str| {
                    format!(
                        "d.detail #>> {}",
                        quote::array(["columns", column.as_str(), side].into_iter(), "text")
                    )
                };
                format!(
                    "(not d.columns @> array[{}::text] or (s.n{i}::text is not distinct from {} and s.b{i}::text is not distinct from {}))",
                    quote::literal(column),
                    of("source"),
                    of("target")
                )
            })
            .collect();
        let rows = client
            .query(
                &format!(
                    "select s.regraft_id from {STAGE} s join regraft.data_differentials d
                       on d.entity = $1 and d.legacy_id = s.regraft_id and not d.resolved
                          and d.comparison_type = 'conflict'
                     where {}",
                    same.join(" and ")
                ),
                &[&self.entity],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Lets a column of all staged rows become a value, given in the text form of its type.
    pub async fn set_value(
        &self,
        client: &impl GenericClient,
        column: &str,
        value: Option<&str>,
    ) -> Result<()> {
        let found = self
            .columns
            .iter()
            .enumerate()
            .find(|(_, (c, _))| c == column);
        if let Some((i, (_, of))) = found {
            client
                .execute(
                    &format!("update {STAGE} set n{i} = cast($1::text as {of})"),
                    &[&value],
                )
                .await?;
        }
        Ok(())
    }

    /// Notes in the mappings what both sides now agree on, for these staged rows.
    pub async fn agree(
        &self,
        client: &impl GenericClient,
        run_no: i32,
        ids: &[String],
    ) -> Result<()> {
        client
            .execute(
                &format!(
                    "update {} m
                     set source_fingerprint = s.source_fingerprint,
                         column_fingerprints = s.column_fingerprints, agreed_run = $1
                     from {STAGE} s
                     where {} and s.regraft_id = any ($2)",
                    partition(self.entity),
                    same_id(self.numeric, "m.legacy_id", "s.regraft_id")
                ),
                &[&run_no, &ids],
            )
            .await?;
        Ok(())
    }
}

/// The condition that two legacy ids are the same, as the index of the mappings answers it.
fn same_id(numeric: bool, mapped: &str, other: &str) -> String {
    if numeric {
        format!("{mapped}::bigint = {other}::bigint")
    } else {
        format!("{mapped} = {other}")
    }
}

/// The places of the columns that a mask marks.
fn marked(mask: &str) -> Vec<usize> {
    mask.bytes()
        .enumerate()
        .filter(|(_, digit)| *digit == b'1')
        .map(|(i, _)| i)
        .collect()
}

/// The masks among some rows that mark anything.
pub fn marking<'a>(masks: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    masks.filter(|mask| mask.contains('1')).cloned().collect()
}

/// How rows of an entity are marked as deleted.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'a> {
    /// The entity.
    pub entity: &'a str,
    /// The quoted name of its table.
    pub table: &'a str,
    /// The table's key column.
    pub key: &'a str,
    /// Whether the legacy ids are numbers.
    pub numeric: bool,
    /// The column that bears the mark; a row is not marked while it is NULL or false.
    pub column: &'a str,
    /// SQL for the mark.
    pub value: &'a str,
}

/// Marks rows as deleted that are not marked yet, and keeps what was there; which.
pub async fn mark_deleted(
    client: &impl GenericClient,
    mark: &Mark<'_>,
    (run_no, batch): (i32, i32),
    ids: &[String],
) -> Result<Vec<String>> {
    let sql = format!(
        "with chosen as (
           select m.*, {image} as before from regraft.migration_mappings m
           join {table} t on t.{key} = m.new_id
           where m.entity = $3 and {among} and m.merged_into is null
             and coalesce(t.{column}::text, 'false') = 'false'),
         done as (
           update {table} t set {column} = {value} from chosen m where t.{key} = m.new_id
           returning m.legacy_id, {image} as after)
         {kept}",
        table = mark.table,
        among = among(mark.numeric, "m", "$4"),
        key = ident(mark.key),
        column = ident(mark.column),
        value = mark.value,
        image = mark.image(),
        kept = mark.kept(),
    );
    let rows = client
        .query(&sql, &[&run_no, &batch, &mark.entity, &ids])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

impl Mark<'_> {
    /// The image of the column in the table `t`.
    fn image(&self) -> String {
        image(std::iter::once(self.column), |_, column| {
            format!("t.{column}")
        })
    }

    /// The statement that keeps what was there before, of the rows `done` among those `chosen`.
    fn kept(&self) -> String {
        format!(
            "insert into regraft.migration_changes as c
               (run_no, batch, entity, legacy_id, new_id, operation, columns, before, after,
                source_fingerprint, column_fingerprints, agreed_run)
             select $1, $2, $3, m.legacy_id, m.new_id, 'update', {columns}, m.before, d.after,
                    m.source_fingerprint, m.column_fingerprints, m.agreed_run
             from done d join chosen m using (legacy_id)
             on conflict (run_no, entity, legacy_id) do update set
               columns = array(select distinct unnest(c.columns || excluded.columns)),
               before = excluded.before || c.before, after = c.after || excluded.after
             returning legacy_id",
            columns = quote::array(std::iter::once(self.column), "text"),
        )
    }

    /// The query for the rows of the entity `$n` that runs have marked, as `legacy_id`, `was` and
    /// `became`: what the column held before, and the mark.
    fn marked(&self, entity: &str) -> String {
        format!(
            "select * from (
               select distinct on (legacy_id) legacy_id, before ->> {column} as was, after ->> {column} as became
               from regraft.migration_changes
               where entity = {entity} and operation = 'update' and form = 'text'
                 and columns @> array[{column}]::text[]
               order by legacy_id, run_no desc) latest
             where coalesce(was, 'false') = 'false' and coalesce(became, 'false') <> 'false'",
            column = quote::literal(self.column),
        )
    }
}

/// Rows of an entity that runs have marked as deleted, and that still bear the mark.
pub async fn marked_rows(client: &impl GenericClient, mark: &Mark<'_>) -> Result<Vec<String>> {
    let sql = format!(
        "select d.legacy_id from ({marked}) d
         join regraft.migration_mappings m on m.entity = $1 and m.legacy_id = d.legacy_id
         join {table} t on t.{key} = m.new_id
         where t.{column}::text = d.became",
        marked = mark.marked("$1"),
        table = mark.table,
        key = ident(mark.key),
        column = ident(mark.column),
    );
    let rows = client.query(&sql, &[&mark.entity]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Takes the mark off those of these rows that runs have marked and that still bear it: the column,
/// of type `of`, becomes what it was. Which.
pub async fn unmark(
    client: &impl GenericClient,
    mark: &Mark<'_>,
    of: &str,
    (run_no, batch): (i32, i32),
    ids: &[String],
) -> Result<Vec<String>> {
    let sql = format!(
        "with chosen as (
           select m.*, d.was, d.became, {image} as before from ({marked}) d
           join regraft.migration_mappings m on m.entity = $3 and m.legacy_id = d.legacy_id
           join {table} t on t.{key} = m.new_id
           where {among} and t.{column}::text = d.became),
         done as (
           update {table} t set {column} = cast(m.was as {of}) from chosen m
           where t.{key} = m.new_id and t.{column}::text = m.became
           returning m.legacy_id, {image} as after)
         {kept}",
        marked = mark.marked("$3"),
        among = among(mark.numeric, "m", "$4"),
        table = mark.table,
        key = ident(mark.key),
        column = ident(mark.column),
        image = mark.image(),
        kept = mark.kept(),
    );
    let rows = client
        .query(&sql, &[&run_no, &batch, &mark.entity, &ids])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// How many of these rows are in place and not marked as deleted yet.
pub async fn unmarked(client: &impl GenericClient, mark: &Mark<'_>, ids: &[String]) -> Result<i64> {
    let sql = format!(
        "select count(*) from regraft.migration_mappings m join {table} t on t.{key} = m.new_id
         where m.entity = $1 and {among} and m.merged_into is null
           and coalesce(t.{column}::text, 'false') = 'false'",
        among = among(mark.numeric, "m", "$2"),
        table = mark.table,
        key = ident(mark.key),
        column = ident(mark.column),
    );
    let row = client.query_one(&sql, &[&mark.entity, &ids]).await?;
    Ok(row.get(0))
}
