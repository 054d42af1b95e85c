//! What tables of the target lack, read from its catalog and its statistics.

use regraft_pg::catalog::Table;
use regraft_pg::{Session, quote};

use crate::error::Result;
use crate::validate::{DEAD_ROWS, index_finds, is_large};

/// Indexes that are invalid, and references of large tables that no index leads to; each with the
/// statement that helps.
pub(super) fn index_faults(table: &Table) -> Vec<String> {
    let invalid = table.indexes.iter().filter(|index| !index.valid);
    let mut faults: Vec<String> = invalid
        .map(|index| {
            let name = quote::ident(&index.name);
            format!("index {name} is invalid: it is kept up and never used; `reindex index {name}`")
        })
        .collect();
    if !is_large(table.rows) {
        return faults;
    }
    let references = table.constraints.iter().filter(|c| c.kind == "f");
    for column in references.filter_map(|constraint| constraint.columns.first()) {
        if !table.indexes.iter().any(|index| index_finds(index, column)) {
            let column = quote::ident(column);
            faults.push(format!(
                "{column} refers to other rows, and no index begins with it; `create index on {} ({column})`",
                table.sql_name()
            ));
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// Tables with more dead rows than is good: (table, dead rows).
pub(super) async fn bloated(target: &Session, tables: &[String]) -> Result<Vec<(String, i64)>> {
    let (least, part) = DEAD_ROWS;
    let rows = target
        .query(
            "select t.name, s.n_dead_tup::int8
             from unnest($1::text[]) t (name) join pg_stat_all_tables s on s.relid = to_regclass(t.name)
             where s.n_dead_tup >= $2 and s.n_dead_tup >= $3::float8 * (s.n_live_tup + s.n_dead_tup)
             order by 2 desc",
            &[&tables, &least, &part],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
