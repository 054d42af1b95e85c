//! `schema apply` and `schema diff`: the target's tables from the project.

use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Table};
use regraft_pg::quote::{ident, literal};
use regraft_project::Project;
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// What applying the schema came to.
#[derive(Debug, Clone, Serialize)]
pub struct SchemaApplied {
    /// Whether anything was created; `false` when all of it was there already.
    pub applied: bool,
    /// The tables of the schema.
    pub tables: Vec<String>,
}

/// How the live target differs from the project's schema.
#[derive(Debug, Clone, Serialize)]
pub struct SchemaDiff {
    /// Every difference; empty when they agree.
    pub differences: Vec<SchemaDifference>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaDifference {
    /// What differs, such as `table orders, column amount`.
    pub object: String,
    /// `missing` in the target, `extra` in it, or `different`.
    pub change: &'static str,
    /// As the project has it.
    pub expected: Option<String>,
    /// As the target has it.
    pub found: Option<String>,
}

/// The project's target schema as (file, SQL).
fn scripts(project: &Project) -> Result<Vec<(String, String)>> {
    let files = &project.manifest().target.schema;
    if files.is_empty() {
        return Err(Error::new(Kind::Usage, "the project declares no target schema")
            .hint("name its SQL files under [target] in regraft.toml: schema = [\"target/schema.sql\"]"));
    }
    files
        .iter()
        .map(|file| {
            let text = project
                .file_text(file)
                .ok_or_else(|| Error::new(Kind::Usage, format!("{file} can't be read")))?;
            Ok((file.clone(), text.to_owned()))
        })
        .collect()
}

/// Creates the target schema, all of it or nothing. Where it is there already, nothing is done.
///
/// # Errors
/// A target that has some of it, or something else under the same names: with the differences.
pub async fn apply_schema(context: &Context) -> Result<SchemaApplied> {
    let project = &context.project;
    let scripts = scripts(project)?;
    let target = context.connect_target().await?;
    let namespace = project.manifest().target.namespace.as_str();
    let expected = expected(&target, namespace, &scripts).await?;
    let tables: Vec<String> = expected.tables.iter().map(|t| t.name.clone()).collect();
    let live = Catalog::read(&*target, &[namespace]).await?;
    let known = expected
        .tables
        .iter()
        .filter(|t| live.table(namespace, &t.name).is_some())
        .count();
    if known > 0 {
        let differences = differences(&expected, &live, namespace);
        let missing = differences.iter().filter(|d| d.change != "extra").count();
        if missing == 0 {
            return Ok(SchemaApplied {
                applied: false,
                tables,
            });
        }
        return Err(Error::new(
            Kind::Data,
            format!(
                "the target has {known} of the {} tables already, with {missing} differences",
                tables.len()
            ),
        )
        .hint("see `regraft schema diff`; regraft creates a schema, it does not alter one"));
    }
    target.batch_execute("begin").await?;
    target
        .batch_execute(&format!("create schema if not exists {}", ident(namespace)))
        .await?;
    run_scripts(&target, namespace, &scripts).await?;
    target.batch_execute("commit").await?;
    Ok(SchemaApplied {
        applied: true,
        tables,
    })
}

/// How the live target differs from what the project's schema would create.
///
/// # Errors
/// A schema that doesn't run on this server.
pub async fn diff_schema(context: &Context) -> Result<SchemaDiff> {
    let scripts = scripts(&context.project)?;
    let target = context.connect_target().await?;
    let namespace = context.project.manifest().target.namespace.as_str();
    let expected = expected(&target, namespace, &scripts).await?;
    let live = Catalog::read(&*target, &[namespace]).await?;
    Ok(SchemaDiff {
        differences: differences(&expected, &live, namespace),
    })
}

async fn run_scripts(
    target: &Session,
    namespace: &str,
    scripts: &[(String, String)],
) -> Result<()> {
    target
        .batch_execute(&format!(
            "set local search_path = {}; set local client_min_messages = warning",
            ident(namespace)
        ))
        .await?;
    for (file, sql) in scripts {
        if let Err(e) = target.batch_execute(sql).await {
            let error = target.error(e);
            let line = error
                .position()
                .map(|p| 1 + sql.chars().take(p as usize).filter(|c| *c == '\n').count());
            let place = line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"));
            let kind = Error::from(error.clone()).kind();
            return Err(Error::new(
                if kind == Kind::Data {
                    Kind::Usage
                } else {
                    kind
                },
                format!("{place}: {}", error.message()),
            )
            .hint("nothing was created; the file names its tables without a schema"));
        }
    }
    Ok(())
}

/// What the project's schema creates, found by creating it under another name in a transaction
/// that is rolled back.
async fn expected(
    target: &Session,
    namespace: &str,
    scripts: &[(String, String)],
) -> Result<Catalog> {
    let scratch = format!("regraft_scratch_{}", std::process::id());
    target.batch_execute("begin").await?;
    let work = async {
        target
            .batch_execute(&format!("create schema {}", ident(&scratch)))
            .await?;
        run_scripts(target, &scratch, scripts).await?;
        let catalog = Catalog::read(&**target, &[&scratch]).await?;
        renamed(&catalog, &scratch, namespace)
    };
    let catalog = work.await;
    target.batch_execute("rollback").await?;
    catalog
}

/// The catalog with one schema under the name of another, wherever it is named.
fn renamed(catalog: &Catalog, from: &str, to: &str) -> Result<Catalog> {
    let text = serde_json::to_string(catalog)
        .map_err(|e| Error::new(Kind::Internal, e.to_string()))?
        .replace(from, to);
    serde_json::from_str(&text).map_err(|e| Error::new(Kind::Internal, e.to_string()))
}

fn differences(expected: &Catalog, live: &Catalog, namespace: &str) -> Vec<SchemaDifference> {
    let mut found = Vec::new();
    // Definitions name other objects with or without their schema, depending on the search path
    // they were printed under; names within the one schema mean the same either way.
    let strip = |text: &str| {
        text.replace(&format!("{}.", ident(namespace)), "")
            .replace(&format!("{namespace}."), "")
    };
    let mut differ = |object: String, want: Option<&Value>, have: Option<&Value>| {
        let want = want.map(|v| strip(&shown(v)));
        let have = have.map(|v| strip(&shown(v)));
        if want == have {
            return;
        }
        found.push(SchemaDifference {
            object,
            change: match (&want, &have) {
                (Some(_), None) => "missing",
                (None, _) => "extra",
                _ => "different",
            },
            expected: want,
            found: have,
        });
    };
    for want in &expected.types {
        let have = live.types.iter().find(|t| t.name == want.name);
        differ(
            format!("type {}", want.name),
            as_value(want).as_ref(),
            have.and_then(as_value).as_ref(),
        );
    }
    for have in live
        .types
        .iter()
        .filter(|h| !expected.types.iter().any(|w| w.name == h.name))
    {
        differ(format!("type {}", have.name), None, as_value(have).as_ref());
    }
    for want in &expected.tables {
        match live.table(namespace, &want.name) {
            None => differ(
                format!("table {}", want.name),
                Some(&Value::from("table")),
                None,
            ),
            Some(have) => {
                let (want, have) = (parts(want), parts(have));
                let mut names: Vec<&String> = want.keys().chain(have.keys()).collect();
                names.sort();
                names.dedup();
                for name in names {
                    differ(name.clone(), want.get(name), have.get(name));
                }
            }
        }
    }
    for have in live
        .tables
        .iter()
        .filter(|h| !expected.tables.iter().any(|w| w.name == h.name))
    {
        differ(
            format!("table {}", have.name),
            None,
            Some(&Value::from("table")),
        );
    }
    found
}

fn as_value(of: &impl Serialize) -> Option<Value> {
    serde_json::to_value(of).ok()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("definition").and_then(Value::as_str) {
            Some(definition) => definition.to_owned(),
            None => fields
                .iter()
                .filter(|(_, v)| {
                    !v.is_null() && v.as_str() != Some("") && v.as_bool() != Some(false)
                })
                .map(|(k, v)| {
                    format!(
                        "{k} {}",
                        v.as_str().map_or_else(|| v.to_string(), str::to_owned)
                    )
                })
                .collect::<Vec<_>>()
                .join(", "),
        },
        other => other.to_string(),
    }
}

/// The parts of a table by name, each as what makes it equal to another.
fn parts(table: &Table) -> std::collections::BTreeMap<String, Value> {
    let name = &table.name;
    let mut parts = std::collections::BTreeMap::new();
    for column in &table.columns {
        let mut value = as_value(column).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            // Where a column stands does not matter, and its name is in the object's name.
            for field in ["number", "name", "type_modifier"] {
                fields.remove(field);
            }
        }
        parts.insert(format!("table {name}, column {}", column.name), value);
    }
    for constraint in &table.constraints {
        let text = if constraint.validated {
            constraint.definition.clone()
        } else {
            format!("{} (not validated)", constraint.definition)
        };
        parts.insert(
            format!("table {name}, constraint {}", constraint.name),
            Value::from(text),
        );
    }
    for index in table.indexes.iter().filter(|i| i.constraint.is_none()) {
        let text = if index.valid {
            index.definition.clone()
        } else {
            format!("{} (invalid)", index.definition)
        };
        parts.insert(
            format!("table {name}, index {}", index.name),
            Value::from(text),
        );
    }
    for trigger in &table.triggers {
        parts.insert(
            format!("table {name}, trigger {}", trigger.name),
            Value::from(format!(
                "{} (enabled {}, function {})",
                trigger.definition, trigger.enabled, trigger.function_hash
            )),
        );
    }
    for policy in &table.policies {
        parts.insert(
            format!("table {name}, policy {}", policy.name),
            as_value(policy).unwrap_or_default(),
        );
    }
    if table.row_security {
        parts.insert(
            format!("table {name}, row security"),
            Value::from(literal("on")),
        );
    }
    parts
}
