//! What a database declares: tables, columns, constraints, indexes, triggers and types.
//!
//! Read with one statement per kind of object from `pg_catalog`; compared and hashed by names and
//! definitions, never by OIDs, so that two clusters can be held against each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

use crate::error::{Error, ErrorKind, Result};
use crate::quote;

/// The declared objects of some schemas of one database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Tables by (schema, name).
    pub tables: Vec<Table>,
    /// Enum and domain types.
    pub types: Vec<UserType>,
}

/// A table or partitioned table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub name: String,
    /// OID, for lookups within this cluster only.
    pub oid: i64,
    /// `r` for a table, `p` for a partitioned one.
    pub kind: String,
    /// Whether the table is a partition of another.
    pub is_partition: bool,
    /// Whether row-level security is enabled.
    pub row_security: bool,
    /// Whether row-level security holds for the owner too.
    pub force_row_security: bool,
    /// `pg_class.relreplident`.
    pub replica_identity: String,
    /// Pages by the last analysis.
    pub pages: i64,
    /// Rows by the last analysis; below zero where there was none.
    pub rows: f64,
    /// Columns in their order.
    pub columns: Vec<Column>,
    /// Constraints by name.
    pub constraints: Vec<Constraint>,
    /// Indexes by name.
    pub indexes: Vec<Index>,
    /// User triggers by name.
    pub triggers: Vec<Trigger>,
    /// Row-level security policies by name.
    pub policies: Vec<Policy>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// `pg_attribute.attnum`.
    pub number: i32,
    /// The type as `format_type` prints it.
    pub type_name: String,
    /// Type modifier; that of the base type for a domain.
    pub type_modifier: i32,
    /// Whether NULL is refused (by the column or by its domain).
    pub not_null: bool,
    /// Default or generation expression.
    pub default: Option<String>,
    /// `a` always, `d` by default, empty for no identity.
    pub identity: String,
    /// `s` for a stored generated column, else empty.
    pub generated: String,
    /// Whether the type is a domain.
    pub is_domain: bool,
    /// Collation, where it is not the type's own.
    pub collation: Option<String>,
}

impl Column {
    /// Whether PostgreSQL computes the value itself, so that nothing can be written to it.
    pub fn is_generated(&self) -> bool {
        !self.generated.is_empty()
    }

    /// Whether a row may leave the column out.
    pub fn has_default(&self) -> bool {
        self.default.is_some() || !self.identity.is_empty()
    }
}

/// A constraint of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// Name.
    pub name: String,
    /// `p` primary key, `u` unique, `f` foreign key, `c` check, `x` exclusion.
    pub kind: String,
    /// As `pg_get_constraintdef` prints it.
    pub definition: String,
    /// Constrained columns.
    pub columns: Vec<String>,
    /// The expression of a check.
    pub expression: Option<String>,
    /// Schema of the table a foreign key points to.
    pub foreign_schema: Option<String>,
    /// Table a foreign key points to.
    pub foreign_table: Option<String>,
    /// Columns a foreign key points to.
    pub foreign_columns: Option<Vec<String>>,
    /// The index behind a key, or the referenced index of a foreign key.
    pub index: Option<String>,
    /// Whether existing rows were checked.
    pub validated: bool,
    /// Whether it comes from a parent table.
    pub inherited: bool,
    /// Its comment.
    pub comment: Option<String>,
}

/// An index of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Name.
    pub name: String,
    /// As `pg_get_indexdef` prints it.
    pub definition: String,
    /// Whether it refuses equal keys.
    pub unique: bool,
    /// Whether it is the primary key's.
    pub primary: bool,
    /// Whether it belongs to an exclusion constraint.
    pub exclusion: bool,
    /// Whether it is usable.
    pub valid: bool,
    /// Whether uniqueness is checked at once (not deferrable).
    pub immediate: bool,
    /// Whether NULLs count as equal (PostgreSQL 15 and later).
    pub nulls_not_distinct: bool,
    /// Whether the table was clustered on it.
    pub clustered: bool,
    /// Whether it is the replica identity.
    pub replica_identity: bool,
    /// The key expressions as SQL.
    pub keys: Vec<String>,
    /// The key columns; `None` where the key is an expression.
    pub plain_columns: Vec<Option<String>>,
    /// Condition of a partial index.
    pub predicate: Option<String>,
    /// The constraint it belongs to.
    pub constraint: Option<String>,
    /// Whether a foreign key relies on it.
    pub referenced: bool,
    /// Whether it is part of a partitioned index.
    pub inherited: bool,
    /// Its comment.
    pub comment: Option<String>,
    /// Statistics targets of expression columns, by number.
    pub statistics: BTreeMap<String, i64>,
}

/// A user trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Name.
    pub name: String,
    /// As `pg_get_triggerdef` prints it.
    pub definition: String,
    /// `pg_trigger.tgenabled`.
    pub enabled: String,
    /// Hash of the function's source text.
    pub function_hash: String,
}

/// A row-level security policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Name.
    pub name: String,
    /// The command it holds for.
    pub command: String,
    /// Permissive or restrictive.
    pub permissive: bool,
    /// The condition on rows read.
    pub using: Option<String>,
    /// The condition on rows written.
    pub check: Option<String>,
}

/// An enum or domain type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserType {
    /// Schema name.
    pub schema: String,
    /// Type name.
    pub name: String,
    /// `e` enum, `d` domain.
    pub kind: String,
    /// Labels of an enum, in their order.
    pub labels: Option<Vec<String>>,
    /// Base type of a domain.
    pub base: Option<String>,
    /// Whether a domain refuses NULL.
    pub not_null: bool,
    /// Constraints of a domain.
    pub constraints: Option<Vec<TypeConstraint>>,
}

/// A constraint of a domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeConstraint {
    /// Name.
    pub name: String,
    /// As `pg_get_constraintdef` prints it.
    pub definition: String,
}

impl Catalog {
    /// Reads the catalog of `schemas`, or of every schema that is not PostgreSQL's own and not
    /// regraft's when the list is empty.
    pub async fn read(client: &impl GenericClient, schemas: &[&str]) -> Result<Self> {
        let schemas = if schemas.is_empty() {
            user_schemas(client).await?
        } else {
            schemas.iter().map(|s| (*s).to_owned()).collect()
        };
        Ok(Self {
            tables: documents(client, include_str!("catalog/tables.sql"), &schemas).await?,
            types: documents(client, include_str!("catalog/types.sql"), &schemas).await?,
        })
    }

    /// The table `schema.name`.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Table> {
        self.tables
            .iter()
            .find(|t| t.schema == schema && t.name == name)
    }

    /// SHA-256 over what is declared of each table, by its qualified name.
    pub fn table_hashes(&self) -> BTreeMap<String, String> {
        let hashes = self.tables.iter().map(|table| {
            let mut declared = table.clone();
            declared.forget_statistics();
            let document = serde_json::to_vec(&declared).unwrap_or_default();
            let name = format!("{}.{}", table.schema, table.name);
            (name, hex::encode(Sha256::digest(document)))
        });
        hashes.collect()
    }

    /// SHA-256 over all that is declared (hexadecimal). Row counts and OIDs don't count.
    pub fn hash(&self) -> String {
        let mut declared = self.clone();
        for table in &mut declared.tables {
            table.forget_statistics();
        }
        // Serialising plain structs of strings and numbers can't fail; an empty document would
        // still give a hash that differs from every real one.
        let document = serde_json::to_vec(&declared).unwrap_or_default();
        hex::encode(Sha256::digest(document))
    }
}

impl Table {
    /// The quoted, qualified name.
    pub fn sql_name(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }

    /// The column `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The primary key's constraint.
    pub fn primary_key(&self) -> Option<&Constraint> {
        self.constraints.iter().find(|c| c.kind == "p")
    }

    /// The foreign keys on exactly this one column.
    pub fn foreign_keys_of<'a>(&'a self, column: &'a str) -> impl Iterator<Item = &'a Constraint> {
        self.constraints
            .iter()
            .filter(move |c| c.kind == "f" && c.columns.len() == 1 && c.columns[0] == column)
    }

    /// Clears what changes without a change of the schema, and what only this cluster knows.
    pub fn forget_statistics(&mut self) {
        self.oid = 0;
        self.pages = 0;
        self.rows = 0.0;
        // A column dropped and added again has another number but the same place.
        for (place, column) in self.columns.iter_mut().enumerate() {
            column.number = place as i32 + 1;
        }
    }
}

async fn user_schemas(client: &impl GenericClient) -> Result<Vec<String>> {
    let rows = client
        .query(
            "select nspname::text from pg_namespace
             where nspname not like 'pg\\_%' and nspname not in ('information_schema', 'regraft', 'regraft_queue')
             order by 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn documents<T: for<'de> Deserialize<'de>>(
    client: &impl GenericClient,
    sql: &str,
    schemas: &[String],
) -> Result<Vec<T>> {
    let rows = client.query(sql, &[&schemas]).await?;
    rows.iter()
        .map(|row| {
            let document: serde_json::Value = row.get(0);
            serde_json::from_value(document).map_err(|e| {
                Error::new(
                    ErrorKind::Protocol,
                    format!("the catalog can't be read: {e}"),
                )
            })
        })
        .collect()
}
/// The names of the valid indexes and of the constraints of one table, given by its quoted name;
/// `None` where there is no such table. Unlike [`Catalog::read`] this is safe beside sessions that
/// change other tables at the same time.
///
/// # Errors
/// A connection that fails.
pub async fn names_on(
    client: &impl GenericClient,
    table: &str,
) -> Result<Option<(Vec<String>, Vec<String>)>> {
    let row = client
        .query_typed_one(
            "select to_regclass($1) is not null,
                    array(select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
                          where i.indrelid = to_regclass($1) and i.indisvalid),
                    array(select conname::text from pg_constraint where conrelid = to_regclass($1))",
            &[(&table, Type::TEXT)],
        )
        .await?;
    let there: bool = row.get(0);
    Ok(there.then(|| (row.get(1), row.get(2))))
}
