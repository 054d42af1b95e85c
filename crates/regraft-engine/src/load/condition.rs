//! What a row must fulfil besides what its own columns are declared as: conditions that only the
//! target can evaluate, as SQL over rows that are not in their table yet.

use std::collections::BTreeSet;

use regraft_pg::Session;
use regraft_pg::catalog::Table;
use regraft_pg::quote::ident;

use super::Reason;
use crate::error::Result;

/// The conditions under which a row violates a check or a foreign key of a table, over a relation
/// with the table's column names and the alias `s`.
pub(crate) fn row_conditions(table: &Table, columns: &BTreeSet<&str>) -> Vec<(Reason, String)> {
    let mut conditions = Vec::new();
    for constraint in &table.constraints {
        if !constraint
            .columns
            .iter()
            .all(|c| columns.contains(c.as_str()))
        {
            continue;
        }
        match (constraint.kind.as_str(), &constraint.expression) {
            ("c", Some(expression)) => conditions.push((
                Reason::constraint("check_violation", &constraint.name),
                format!("({expression}) is false"),
            )),
            ("f", _) => {
                if let Some(condition) = orphan_condition(constraint) {
                    conditions.push((
                        Reason::constraint("foreign_key_violation", &constraint.name),
                        condition,
                    ));
                }
            }
            _ => {}
        }
    }
    conditions
}

fn orphan_condition(constraint: &regraft_pg::catalog::Constraint) -> Option<String> {
    let (schema, parent) = (
        constraint.foreign_schema.as_ref()?,
        constraint.foreign_table.as_ref()?,
    );
    let foreign = constraint.foreign_columns.as_ref()?;
    let present: Vec<String> = constraint
        .columns
        .iter()
        .map(|c| format!("s.{} is not null", ident(c)))
        .collect();
    let equal: Vec<String> = constraint
        .columns
        .iter()
        .zip(foreign)
        .map(|(c, f)| format!("p.{} = s.{}", ident(f), ident(c)))
        .collect();
    Some(format!(
        "{} and not exists (select 1 from {} p where {})",
        present.join(" and "),
        regraft_pg::quote::qualified(schema, parent),
        equal.join(" and ")
    ))
}

/// The conditions under which a row violates a check of a domain, which the staging table has not.
/// A domain's check calls what it checks VALUE, and that is the name of a column everywhere else.
pub(super) async fn domain_conditions(
    target: &Session,
    table: &Table,
    columns: &BTreeSet<&str>,
) -> Result<Vec<(Reason, String)>> {
    let rows = target
        .query(
            "with recursive over as (
               select a.attname, t.oid, t.typbasetype from pg_attribute a join pg_type t on t.oid = a.atttypid
               where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped and t.typtype = 'd'
               union all
               select o.attname, t.oid, t.typbasetype from over o join pg_type t on t.oid = o.typbasetype
               where t.typtype = 'd')
             select o.attname::text, k.conname::text, pg_get_expr(k.conbin, 0)
             from over o join pg_constraint k on k.contypid = o.oid and k.contype = 'c' order by 1, 2",
            &[&(table.oid as u32)],
        )
        .await?;
    let conditions = rows.iter().filter_map(|row| {
        let (column, name, check): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        columns.contains(column.as_str()).then(|| {
            (
                Reason::constraint("check_violation", &name),
                format!(
                    "exists (select from (select s.{} as value) d where ({check}) is false)",
                    ident(&column)
                ),
            )
        })
    });
    Ok(conditions.collect())
}
