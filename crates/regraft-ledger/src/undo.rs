//! Undoing what a run changed, row by row, by what was there before.
//!
//! What can't be undone is noted in a temporary table, [`LEFT`], and stays in the ledger, so that
//! the same can be tried again.

use regraft_pg::Result;
use regraft_pg::quote::{self, ident};
use serde::Serialize;
use tokio_postgres::GenericClient;

/// The temporary table of what was left: `entity`, `legacy_id`, `operation`, `of_run` (whose change
/// it is; NULL for a row that was inserted), `why`, `by_run`, `columns`.
const LEFT: &str = "pg_temp.regraft_left";

/// What a run did to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It wrote the row.
    Insert,
    /// It changed columns of it.
    Update,
    /// It deleted it.
    Delete,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Why something that a run did to a row is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Columns hold something else than the run had written.
    Changed,
    /// A later run changed the row again.
    LaterRun,
    /// The row is gone.
    Gone,
    /// A row that refers to it is left.
    Referred,
    /// The row that it would refer to is gone.
    NoParent,
    /// Its key, or something else that is unique, is another row's now.
    Taken,
    /// A column that was written is not in the table any more.
    NoColumn,
    /// The first version of the control tables kept what was there in a form that doesn't give it
    /// back exactly.
    OldForm,
}

impl Why {
    const ALL: [Self; 8] = [
        Self::Changed,
        Self::LaterRun,
        Self::Gone,
        Self::Referred,
        Self::NoParent,
        Self::Taken,
        Self::NoColumn,
        Self::OldForm,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::LaterRun => "later_run",
            Self::Gone => "gone",
            Self::Referred => "referred",
            Self::NoParent => "no_parent",
            Self::Taken => "taken",
            Self::NoColumn => "no_column",
            Self::OldForm => "old_form",
        }
    }

    /// Whether it can be undone all the same, if that is wished.
    pub fn yields(self) -> bool {
        matches!(self, Self::Changed | Self::LaterRun)
    }
}

/// A row of which something that a run did is left as it is.
#[derive(Debug, Clone, Serialize)]
pub struct LeftRow {
    /// The entity.
    pub entity: String,
    /// The row.
    pub legacy_id: String,
    /// What the run had done.
    pub operation: Operation,
    /// Why that is left.
    pub why: Why,
    /// The later run that changed the row.
    pub by_run: Option<String>,
    /// The columns that hold something else.
    pub columns: Vec<String>,
}

/// A foreign key of a table.
#[derive(Debug, Clone)]
pub struct Parent {
    /// The columns.
    pub columns: Vec<String>,
    /// The quoted name of the table that they point to.
    pub table: String,
    /// The columns there.
    pub foreign: Vec<String>,
    /// Whether a row may do without.
    pub nullable: bool,
}

/// An entity of which something is undone.
#[derive(Debug, Clone)]
pub struct UndoneTable {
    /// The entity.
    pub entity: String,
    /// The quoted name of its table.
    pub table: String,
    /// The table's key column.
    pub key: String,
    /// The columns that can be written, each with its type.
    pub columns: Vec<(String, String)>,
    /// The foreign keys.
    pub parents: Vec<Parent>,
    /// The runs whose rows are deleted: what was changed in these isn't put back first.
    pub deleted_runs: Vec<i32>,
}

/// How many changes a run noted of rows of an entity that other runs wrote: (updates, deletes).
pub async fn changes_to_undo(
    client: &impl GenericClient,
    entity: &str,
    run_no: i32,
    deleted_runs: &[i32],
) -> Result<(i64, i64)> {
    let row = client
        .query_one(
            "select count(*) filter (where c.operation = 'update' and m.run_no is null),
                    count(*) filter (where c.operation = 'delete'
                      and coalesce((to_jsonb(c) ->> 'written_run')::integer <> all ($3), true))
             from regraft.migration_changes c
             left join regraft.migration_mappings m
               on m.entity = $1 and m.legacy_id = c.legacy_id and m.run_no = any ($3)
             where c.entity = $1 and c.run_no = $2",
            &[&entity, &run_no, &deleted_runs],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// The runs that noted changes of an entity's rows, latest first.
pub async fn runs_that_changed(client: &impl GenericClient, entity: &str) -> Result<Vec<i32>> {
    let rows = client
        .query(
            "select distinct run_no from regraft.migration_changes where entity = $1 order by 1 desc",
            &[&entity],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Creates the empty table of what was left.
pub async fn create_left(client: &impl GenericClient) -> Result<()> {
    client
        .batch_execute(&format!(
            "drop table if exists {LEFT};
             create temp table regraft_left (
               entity text not null, legacy_id text collate \"C\" not null, operation text not null,
               of_run integer, why text not null, by_run integer, columns text[] not null default '{{}}')"
        ))
        .await?;
    Ok(())
}

/// What was left.
pub async fn left_rows(client: &impl GenericClient) -> Result<Vec<LeftRow>> {
    let rows = client
        .query(
            &format!(
                "select l.entity, l.legacy_id, l.operation, l.why, r.run_id, l.columns
                 from {LEFT} l
                 left join regraft.migration_control r on r.run_no = l.by_run and r.entity = '' and r.batch = 0
                 order by l.entity, length(l.legacy_id), l.legacy_id, l.operation"
            ),
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| LeftRow {
            entity: row.get(0),
            legacy_id: row.get(1),
            operation: match row.get(2) {
                "insert" => Operation::Insert,
                "update" => Operation::Update,
                _ => Operation::Delete,
            },
            why: Why::ALL
                .into_iter()
                .find(|why| why.as_str() == row.get::<_, &str>(3))
                .unwrap_or(Why::Changed),
            by_run: row.get(4),
            columns: row.get(5),
        })
        .collect())
}

/// Notes rows that stay although the run being undone wrote them, because these columns hold
/// something else now.
pub async fn leave_changed_inserts(
    client: &impl GenericClient,
    entity: &str,
    rows: &[(String, Vec<String>)],
) -> Result<()> {
    for chunk in rows.chunks(10_000) {
        let ids: Vec<&str> = chunk.iter().map(|(id, _)| id.as_str()).collect();
        let columns: Vec<String> = chunk.iter().map(|(_, list)| list.join("\u{1f}")).collect();
        client
            .execute(
                &format!(
                    "insert into {LEFT} (entity, legacy_id, operation, why, columns)
                     select $1, r.id, 'insert', 'changed', string_to_array(r.list, chr(31))
                     from unnest($2::text[], $3::text[]) r (id, list)
                     where not exists (select from {LEFT} l
                       where l.entity = $1 and l.legacy_id = r.id and l.operation = 'insert')"
                ),
                &[&entity, &ids, &columns],
            )
            .await?;
    }
    Ok(())
}

/// Notes rows that stay although one of `runs` wrote them, because a later run changed them.
pub async fn leave_inserts_changed_later(
    client: &impl GenericClient,
    entity: &str,
    runs: &[i32],
) -> Result<()> {
    client
        .execute(
            &format!(
                "insert into {LEFT} (entity, legacy_id, operation, why, by_run, columns)
                 select distinct on (c.legacy_id) $1, c.legacy_id, 'insert', 'later_run', c.run_no, c.columns
                 from regraft.migration_changes c
                 join regraft.migration_mappings m
                   on m.entity = $1 and m.legacy_id = c.legacy_id and m.run_no = any ($2)
                 where c.entity = $1 and c.operation = 'update' and c.run_no <> all ($2)
                 order by c.legacy_id, c.run_no"
            ),
            &[&entity, &runs],
        )
        .await?;
    Ok(())
}

/// Notes rows of `parent` that stay because rows of `child` that are left refer to them by
/// `column`; how many more.
pub async fn leave_referred(
    client: &impl GenericClient,
    parent: &UndoneTable,
    child: &UndoneTable,
    column: &str,
) -> Result<u64> {
    Ok(client
        .execute(
            &format!(
                "insert into {LEFT} (entity, legacy_id, operation, why)
                 select distinct $1, m.legacy_id, 'insert', 'referred'
                 from {LEFT} l
                 join regraft.migration_mappings cm on cm.entity = l.entity and cm.legacy_id = l.legacy_id
                 join {} c on c.{} = cm.new_id
                 join regraft.migration_mappings m
                   on m.entity = $1 and m.new_id = c.{} and m.run_no = any ($3)
                 where l.entity = $2 and l.operation in ('insert', 'update')
                   and not exists (select from {LEFT} o
                     where o.entity = $1 and o.legacy_id = m.legacy_id and o.operation = 'insert')",
                child.table,
                ident(&child.key),
                ident(column)
            ),
            &[&parent.entity, &child.entity, &parent.deleted_runs],
        )
        .await?)
}

/// A condition on a mapping `m`: its row is not among those that stay.
pub const NOT_LEFT: &str = "not exists (select from pg_temp.regraft_left l \
    where l.entity = m.entity and l.legacy_id = m.legacy_id and l.operation = 'insert')";

/// How many rows that a run wrote stay.
pub async fn left_inserts(client: &impl GenericClient, entity: &str) -> Result<i64> {
    let sql = format!("select count(*) from {LEFT} where entity = $1 and operation = 'insert'");
    Ok(client.query_one(&sql, &[&entity]).await?.get(0))
}

/// Removes from what was left what is about one operation on an entity: it is tried again.
async fn forget_left(
    client: &impl GenericClient,
    entity: &str,
    operation: Operation,
    run_no: i32,
) -> Result<()> {
    client
        .execute(
            &format!("delete from {LEFT} where entity = $1 and operation = $2 and of_run = $3"),
            &[&entity, &operation.as_str(), &run_no],
        )
        .await?;
    Ok(())
}

/// The update changes `c` of run `$2` whose rows aren't deleted anyway.
const UPDATES: &str = "c.entity = $1 and c.run_no = $2 and c.operation = 'update'
    and not exists (select from regraft.migration_mappings o
      where o.entity = $1 and o.legacy_id = c.legacy_id and o.run_no = any ($3))";

/// The same of deletes.
const DELETES: &str = "c.entity = $1 and c.run_no = $2 and c.operation = 'delete'
    and c.written_run <> all ($3)";

impl UndoneTable {
    /// Puts back what a run overwrote, and what the ledger had agreed on then; how many rows. A row
    /// whose columns hold something else now, or that a later run changed, is left, unless `force`
    /// is given; and so is a row that is gone, or whose parent is.
    pub async fn put_back(
        &self,
        client: &impl GenericClient,
        run_no: i32,
        force: bool,
    ) -> Result<u64> {
        forget_left(client, &self.entity, Operation::Update, run_no).await?;
        let changed = self.changed_columns(client, run_no).await?;
        self.leave_updates(client, run_no, force, &changed).await?;
        if changed.is_empty() {
            return Ok(0);
        }
        let sets: Vec<String> = changed
            .iter()
            .map(|(name, of)| {
                let column = ident(name);
                let literal = quote::literal(name);
                format!(
                    "{column} = case when {literal} = any (c.columns) then {} else t.{column} end",
                    value("before", name, of)
                )
            })
            .collect();
        let unchanged: String = if force {
            String::new()
        } else {
            changed
                .iter()
                .map(|(name, of)| format!(" and not ({})", differs(name, of)))
                .collect()
        };
        let sql = format!(
            "with todo as materialized (
               select c.* from regraft.migration_changes c
               where {UPDATES} and not exists (select from {LEFT} l
                 where l.entity = $1 and l.legacy_id = c.legacy_id and l.operation = 'update'
                   and l.of_run = $2)),
             put as (
               update {table} t set {sets} from todo c
               where t.{key} = c.new_id{unchanged} returning c.legacy_id),
             agreed as (
               update regraft.migration_mappings m
               set source_fingerprint = c.source_fingerprint, column_fingerprints = c.column_fingerprints,
                   agreed_run = c.agreed_run
               from todo c join put using (legacy_id)
               where m.entity = $1 and m.legacy_id = c.legacy_id)
             delete from regraft.migration_changes c using put
             where c.entity = $1 and c.run_no = $2 and c.legacy_id = put.legacy_id",
            table = self.table,
            key = ident(&self.key),
            sets = sets.join(", "),
        );
        Ok(client
            .execute(&sql, &[&self.entity, &run_no, &self.deleted_runs])
            .await?)
    }

    /// The columns that a run overwrote and that are still there, with their types.
    async fn changed_columns(
        &self,
        client: &impl GenericClient,
        run_no: i32,
    ) -> Result<Vec<(String, String)>> {
        let sql = format!(
            "select distinct unnest(c.columns) from regraft.migration_changes c where {UPDATES}"
        );
        let rows = client
            .query(&sql, &[&self.entity, &run_no, &self.deleted_runs])
            .await?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok(self
            .columns
            .iter()
            .filter(|(name, _)| names.contains(name))
            .cloned()
            .collect())
    }

    /// Notes the rows of which nothing can be put back.
    async fn leave_updates(
        &self,
        client: &impl GenericClient,
        run_no: i32,
        force: bool,
        changed: &[(String, String)],
    ) -> Result<()> {
        let names = quote::array(changed.iter().map(|(name, _)| name.as_str()), "text");
        let differing: Vec<String> = changed
            .iter()
            .map(|(name, of)| {
                let literal = quote::literal(name);
                format!("case when {} then {literal} end", differs(name, of))
            })
            .collect();
        let orphan = self.parentless(changed, |column, of| {
            format!(
                "case when {} = any (c.columns) then {} else t.{} end",
                quote::literal(column),
                value("before", column, of),
                ident(column)
            )
        });
        let forced = Why::ALL
            .into_iter()
            .filter(|why| force && why.yields())
            .map(Why::as_str);
        let sql = format!(
            "insert into {LEFT} (entity, legacy_id, operation, of_run, why, by_run, columns)
             select $1, legacy_id, 'update', $2, why, by_run,
                    case when why = 'changed' then columns else '{{}}' end
             from (
               select c.legacy_id, later.run_no as by_run, d.columns,
                      case when c.form <> 'text' then 'old_form'
                           when not c.columns <@ {names} then 'no_column'
                           when t.{key} is null then 'gone'
                           when {orphan} then 'no_parent'
                           when later.run_no is not null then 'later_run'
                           when d.columns <> '{{}}' then 'changed' end as why
               from regraft.migration_changes c
               left join {table} t on t.{key} = c.new_id
               left join lateral (
                 select min(l.run_no) as run_no from regraft.migration_changes l
                 where l.entity = $1 and l.legacy_id = c.legacy_id and l.run_no > $2) later on true
               cross join lateral (
                 select array_remove(array[{differing}]::text[], null) as columns) d
               where {UPDATES}) found
             where why is not null and why <> all ({forced})",
            table = self.table,
            key = ident(&self.key),
            differing = differing.join(", "),
            forced = quote::array(forced, "text"),
        );
        client
            .execute(&sql, &[&self.entity, &run_no, &self.deleted_runs])
            .await?;
        Ok(())
    }

    /// Inserts rows again that a run deleted, and their mappings, as far as their parents are there
    /// and nothing has taken their place; how many. Call it until there are no more: a row may be
    /// the parent of another.
    ///
    /// With `by_half`, rows go in whose missing parents are to come back as well: their references
    /// stay empty, and what they are to hold becomes a change that [`Self::put_back`] undoes.
    pub async fn bring_back(
        &self,
        client: &impl GenericClient,
        run_no: i32,
        by_half: bool,
    ) -> Result<u64> {
        let mut back = 0;
        for columns in self.images(client, run_no).await? {
            back += if columns.is_empty() {
                self.bring_back_mappings(client, run_no).await?
            } else {
                self.bring_back_rows(client, run_no, &columns, by_half)
                    .await?
            };
        }
        Ok(back)
    }

    /// The column lists of the rows that a run deleted.
    async fn images(&self, client: &impl GenericClient, run_no: i32) -> Result<Vec<Vec<String>>> {
        let sql = format!(
            "select distinct c.columns from regraft.migration_changes c where {DELETES}
             order by c.columns desc"
        );
        let rows = client
            .query(&sql, &[&self.entity, &run_no, &self.deleted_runs])
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn bring_back_rows(
        &self,
        client: &impl GenericClient,
        run_no: i32,
        image: &[String],
        by_half: bool,
    ) -> Result<u64> {
        let columns: Vec<&(String, String)> = self
            .columns
            .iter()
            .filter(|(name, _)| image.contains(name))
            .collect();
        let values: String = columns
            .iter()
            .map(|(name, of)| format!(", {} as {}", value("before", name, of), ident(name)))
            .collect();
        let names = quote::idents(columns.iter().map(|(name, _)| name.as_str()));
        let mut conditions = String::new();
        let mut empty: Vec<(&str, String)> = Vec::new();
        for parent in self.parents.iter().filter(|p| p.within(&columns)) {
            let missing = parent.missing(|column| format!("i.{}", ident(column)));
            match parent.columns.as_slice() {
                [column] if by_half && parent.nullable => {
                    let pending = format!(
                        "exists (select from regraft.migration_changes p
                           where p.run_no = $2 and p.operation = 'delete' and p.new_id::text = i.{}::text)",
                        ident(column)
                    );
                    conditions.push_str(&format!(" and (not ({missing}) or {pending})"));
                    empty.push((column, missing));
                }
                _ => conditions.push_str(&format!(" and not ({missing})")),
            }
        }
        let chosen: Vec<String> = columns
            .iter()
            .map(|(name, _)| {
                let emptied: Vec<&str> = empty
                    .iter()
                    .filter(|(column, _)| column == name)
                    .map(|(_, missing)| missing.as_str())
                    .collect();
                let column = ident(name);
                if emptied.is_empty() {
                    format!("i.{column}")
                } else {
                    format!(
                        "case when not ({}) then i.{column} end",
                        emptied.join(" or ")
                    )
                }
            })
            .collect();
        let halves: Vec<String> = empty
            .iter()
            .map(|(column, missing)| {
                format!("case when {missing} then {} end", quote::literal(column))
            })
            .collect();
        let sql = format!(
            "with image as materialized (
               select c.legacy_id as regraft_id, c.new_id as regraft_key{values}
               from regraft.migration_changes c
               where {DELETES} and c.columns = $4 and c.form = 'text'
                 and not exists (select from regraft.migration_mappings o
                   where o.entity = $1 and o.legacy_id = c.legacy_id)),
             ready as materialized (
               select i.*, array_remove(array[{halves}]::text[], null) as regraft_half
               from image i where true{conditions}),
             put as (
               insert into {table} ({names}) overriding system value
               select {chosen} from ready i on conflict do nothing returning {key} as regraft_key),
             back as materialized (
               select r.regraft_id, r.regraft_half from ready r join put using (regraft_key)),
             mapped as (
               insert into regraft.migration_mappings
                 (entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch,
                  merged_into, agreed_run)
               select c.entity, c.legacy_id, c.new_id, c.source_fingerprint, c.column_fingerprints,
                      c.written_run, c.written_batch, c.merged_into, c.agreed_run
               from regraft.migration_changes c join back b on b.regraft_id = c.legacy_id
               where c.entity = $1 and c.run_no = $2),
             halved as (
               update regraft.migration_changes c
               set operation = 'update', columns = b.regraft_half,
                   before = (select jsonb_object_agg(n, c.before -> n) from unnest(b.regraft_half) n),
                   after = (select jsonb_object_agg(n, null::text) from unnest(b.regraft_half) n)
               from back b
               where c.entity = $1 and c.run_no = $2 and c.legacy_id = b.regraft_id and b.regraft_half <> '{{}}'),
             done as (
               delete from regraft.migration_changes c using back b
               where c.entity = $1 and c.run_no = $2 and c.legacy_id = b.regraft_id and b.regraft_half = '{{}}')
             select count(*) from back",
            table = self.table,
            key = ident(&self.key),
            halves = halves.join(", "),
            chosen = chosen.join(", "),
        );
        let row = client
            .query_one(&sql, &[&self.entity, &run_no, &self.deleted_runs, &image])
            .await?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// Inserts mappings again that a run deleted where there was no row, as of merged rows.
    async fn bring_back_mappings(&self, client: &impl GenericClient, run_no: i32) -> Result<u64> {
        let sql = format!(
            "with back as (
               insert into regraft.migration_mappings
                 (entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch,
                  merged_into, agreed_run)
               select c.entity, c.legacy_id, c.new_id, c.source_fingerprint, c.column_fingerprints,
                      c.written_run, c.written_batch, c.merged_into, c.agreed_run
               from regraft.migration_changes c
               where {DELETES} and c.columns = '{{}}'
                 and not exists (select from regraft.migration_mappings o
                   where o.entity = $1 and o.legacy_id = c.legacy_id)
                 and (c.merged_into is null or exists (
                   select from regraft.migration_mappings o
                   where o.entity = $1 and o.legacy_id = c.merged_into and o.new_id = c.new_id))
               returning legacy_id)
             delete from regraft.migration_changes c using back
             where c.entity = $1 and c.run_no = $2 and c.legacy_id = back.legacy_id"
        );
        Ok(client
            .execute(&sql, &[&self.entity, &run_no, &self.deleted_runs])
            .await?)
    }

    /// Notes the rows that did not come back; how many.
    pub async fn leave_deletes(&self, client: &impl GenericClient, run_no: i32) -> Result<u64> {
        forget_left(client, &self.entity, Operation::Delete, run_no).await?;
        let orphan = self.parentless(&self.columns, |column, of| value("before", column, of));
        let sql = format!(
            "insert into {LEFT} (entity, legacy_id, operation, of_run, why)
             select $1, c.legacy_id, 'delete', $2,
                    case when c.form <> 'text' then 'old_form'
                         when exists (select from regraft.migration_mappings o
                           where o.entity = $1 and o.legacy_id = c.legacy_id) then 'taken'
                         when c.columns = '{{}}' or {orphan} then 'no_parent'
                         else 'taken' end
             from regraft.migration_changes c where {DELETES}"
        );
        Ok(client
            .execute(&sql, &[&self.entity, &run_no, &self.deleted_runs])
            .await?)
    }

    /// The condition that a reference over some of `columns` has no row to point to.
    fn parentless(
        &self,
        columns: &[(String, String)],
        value: impl Fn(&str, &str) -> String,
    ) -> String {
        let mut conditions = vec!["false".to_owned()];
        for parent in &self.parents {
            let touched = parent
                .columns
                .iter()
                .any(|column| columns.iter().any(|(name, _)| name == column));
            if touched {
                conditions.push(parent.missing(|column| {
                    let of = self.columns.iter().find(|(name, _)| name == column);
                    of.map_or_else(
                        || format!("t.{}", ident(column)),
                        |(_, of)| value(column, of),
                    )
                }));
            }
        }
        format!("({})", conditions.join(" or "))
    }
}

impl Parent {
    /// Whether a row that is made of some columns has all of this key.
    fn within(&self, columns: &[&(String, String)]) -> bool {
        self.columns
            .iter()
            .all(|column| columns.iter().any(|(name, _)| name == column))
    }

    /// The condition that no row is there that the values would point to.
    fn missing(&self, value: impl Fn(&str) -> String) -> String {
        let mut given = Vec::new();
        let mut equal = Vec::new();
        for (column, foreign) in self.columns.iter().zip(&self.foreign) {
            let value = value(column);
            given.push(format!("({value}) is not null"));
            equal.push(format!("f.{} = {value}", ident(foreign)));
        }
        format!(
            "{} and not exists (select from {} f where {})",
            given.join(" and "),
            self.table,
            equal.join(" and ")
        )
    }
}

/// A value of an image of a change `c`, as a value of its type; NULL where the image hasn't got it or
/// is of the old form.
fn value(image: &str, column: &str, of: &str) -> String {
    format!(
        "(case when c.form = 'text' then c.{image} ->> {} end)::{of}",
        quote::literal(column)
    )
}

/// The condition that a column of `t` which a change `c` wrote holds something else now.
fn differs(column: &str, of: &str) -> String {
    format!(
        "({} = any (c.columns) and t.{}::text is distinct from ({})::text)",
        quote::literal(column),
        ident(column),
        value("after", column, of)
    )
}

/// Forgets the changes of rows that some runs wrote, once these are undone, and all that is noted
/// of rows that are gone with them. What is noted of a row that another run deleted stays: it can
/// come back.
pub async fn forget_undone(client: &impl GenericClient, entity: &str, runs: &[i32]) -> Result<()> {
    client
        .execute(
            "delete from regraft.migration_changes
             where entity = $1 and operation = 'delete' and written_run = any ($2)",
            &[&entity, &runs],
        )
        .await?;
    client
        .execute(
            "delete from regraft.migration_changes c
             where c.entity = $1 and c.operation = 'update'
               and not exists (select from regraft.migration_mappings m
                 where m.entity = $1 and m.legacy_id = c.legacy_id)
               and not exists (select from regraft.migration_changes d
                 where d.entity = $1 and d.legacy_id = c.legacy_id and d.operation = 'delete')",
            &[&entity],
        )
        .await?;
    Ok(())
}

/// The fingerprints of the rows that some runs wrote, with the rows, as a query to copy from:
/// legacy id (text), fingerprints, the run that noted them, then the columns.
pub fn written_rows_select(undone: &UndoneTable, columns: &[String]) -> String {
    let list: String = columns
        .iter()
        .map(|c| format!(", t.{}", ident(c)))
        .collect();
    let runs: Vec<String> = undone.deleted_runs.iter().map(i32::to_string).collect();
    format!(
        "select m.legacy_id, m.column_fingerprints, coalesce(m.agreed_run, m.run_no){list}
         from {} m join {} t on t.{} = m.new_id
         where m.merged_into is null and m.run_no = any (array[{}]::integer[])",
        quote::qualified(crate::SCHEMA, &crate::partition_name(&undone.entity)),
        undone.table,
        ident(&undone.key),
        runs.join(", ")
    )
}
