//! Which tables of the source are read by which entities, and which by none.
//!
//! The source itself says so: of the query that reads an entity's rows `EXPLAIN (FORMAT JSON,
//! VERBOSE)` names every table, behind views and inside of subqueries too. Partitions stand for
//! the table they are parts of.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::Session;
use regraft_pg::quote::qualified;
use serde_json::Value;

use super::document::SourceTable;
use crate::error::Result;
use crate::load::read_all;
use crate::model::Model;

/// The schema of the rehearsal's generator: what is in it describes the data and is not of it.
const GENERATOR: &str = "regraft_generator";

/// Schema and name.
type TableName = (String, String);

/// The tables of the source and who reads them.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    readers: BTreeMap<TableName, Vec<String>>,
    empty: BTreeMap<TableName, bool>,
}

impl Coverage {
    /// Finds out for every entity of the project, in the transaction that is open.
    pub(super) async fn read(source: &Session, model: &Model) -> Result<Self> {
        let (tables, partitions) = tables(source).await?;
        let mut coverage = Self::default();
        for table in tables {
            coverage.readers.insert(table, Vec::new());
        }
        for entity in model.entities.values() {
            for table in relations(source, &read_all(entity)).await? {
                let table = partitions.get(&table).cloned().unwrap_or(table);
                let readers = coverage.readers.entry(table).or_default();
                if !readers.contains(&entity.name) {
                    readers.push(entity.name.clone());
                }
            }
        }
        let unread: Vec<TableName> = coverage
            .readers
            .iter()
            .filter(|(_, readers)| readers.is_empty())
            .map(|(table, _)| table.clone())
            .collect();
        for table in unread {
            if let Some(empty) = is_empty(source, &table).await? {
                coverage.empty.insert(table, empty);
            }
        }
        Ok(coverage)
    }

    /// The tables that an entity reads.
    pub(super) fn of(&self, entity: &str) -> Vec<String> {
        self.readers
            .iter()
            .filter(|(_, readers)| readers.iter().any(|reader| reader == entity))
            .map(|(table, _)| shown(table))
            .collect()
    }

    /// All tables.
    pub(super) fn tables(&self) -> Vec<SourceTable> {
        self.readers
            .iter()
            .map(|(table, readers)| SourceTable {
                table: shown(table),
                entities: readers.clone(),
                empty: self.empty.get(table).copied(),
            })
            .collect()
    }
}

fn shown((schema, name): &TableName) -> String {
    if schema == "public" {
        name.clone()
    } else {
        format!("{schema}.{name}")
    }
}

/// The tables of the source but partitions, and for each partition the table it is part of.
async fn tables(source: &Session) -> Result<(Vec<TableName>, BTreeMap<TableName, TableName>)> {
    let rows = source
        .query(
            "select n.nspname::text, c.relname::text, rn.nspname::text, r.relname::text
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             left join pg_class r on c.relispartition and r.oid = pg_partition_root(c.oid)
             left join pg_namespace rn on rn.oid = r.relnamespace
             where c.relkind in ('r', 'p', 'f', 'm') and n.nspname not like 'pg\\_%'
               and n.nspname not in ('information_schema', 'regraft', $1)
             order by 1, 2",
            &[&GENERATOR],
        )
        .await?;
    let (mut tables, mut partitions) = (Vec::new(), BTreeMap::new());
    for row in &rows {
        let table = (row.get(0), row.get(1));
        match (row.get(2), row.get(3)) {
            (Some(schema), Some(name)) => {
                partitions.insert(table, (schema, name));
            }
            _ => tables.push(table),
        }
    }
    Ok((tables, partitions))
}

/// The tables in the plan of a query.
async fn relations(source: &Session, query: &str) -> Result<BTreeSet<TableName>> {
    // Without these two, tables that the planner can prove to hold no row of the answer would be
    // missing from it.
    source
        .batch_execute(
            "savepoint regraft_explain; set local constraint_exclusion = off; \
             set local enable_partition_pruning = off",
        )
        .await?;
    let rows = source
        .query(&format!("explain (format json, verbose) {query}"), &[])
        .await?;
    source
        .batch_execute("rollback to savepoint regraft_explain; release savepoint regraft_explain")
        .await?;
    let mut found = BTreeSet::new();
    for row in &rows {
        collect(&row.get::<_, Value>(0), &mut found);
    }
    found.retain(|(schema, _)| !schema.starts_with("pg_") && schema != "information_schema");
    Ok(found)
}

fn collect(node: &Value, found: &mut BTreeSet<TableName>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            if let (Some(name), Some(schema)) = (
                fields.get("Relation Name").and_then(Value::as_str),
                fields.get("Schema").and_then(Value::as_str),
            ) {
                found.insert((schema.to_owned(), name.to_owned()));
            }
            fields.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}

/// Whether a table has no rows; `None` where this user may not look.
async fn is_empty(source: &Session, (schema, name): &TableName) -> Result<Option<bool>> {
    source.batch_execute("savepoint regraft_look").await?;
    let sql = format!(
        "select not exists (select from {})",
        qualified(schema, name)
    );
    let looked = source.query_one(&sql, &[]).await;
    source
        .batch_execute("rollback to savepoint regraft_look; release savepoint regraft_look")
        .await?;
    Ok(looked.ok().map(|row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_at_any_depth_of_a_plan() {
        let plan = serde_json::json!([{ "Plan": {
            "Node Type": "Hash Join",
            "Plans": [
                { "Node Type": "Seq Scan", "Relation Name": "a", "Schema": "public" },
                { "Node Type": "Hash", "Plans": [
                    { "Node Type": "Index Scan", "Relation Name": "b", "Schema": "other" },
                    { "Node Type": "CTE Scan", "CTE Name": "c" },
                ]},
            ],
        }}]);
        let mut found = BTreeSet::new();
        collect(&plan, &mut found);
        let named = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
        assert_eq!(
            found,
            BTreeSet::from([named("public", "a"), named("other", "b")])
        );
    }
}
