//! Invariants that are a query for each side.

use std::collections::BTreeMap;

use regraft_project::{Invariant, InvariantQuery, Problem};
use tokio_postgres::types::Type;

use super::super::subject::is_integer;
use super::statement::{
    GROUPS, Parameter, Servers, Statement, Statements, Wrong, as_text, describe, is_number,
};
use super::through_entity::moved_without;
use crate::error::Result;

pub(super) async fn statements(
    servers: &Servers<'_>,
    invariant: &Invariant,
    source: &InvariantQuery,
    target: &InvariantQuery,
    keys: Option<usize>,
) -> Result<std::result::Result<Statements, Wrong>> {
    let numeric = match numeric_ids(servers, source, target).await? {
        Ok(numeric) => numeric,
        Err(problem) => return Ok(Err(vec![problem.at(invariant.name.span)])),
    };
    let (relations, parameters) = source_relations(servers, source);
    let of_source = columns(servers, source, &relations, true).await?;
    let relations = target_relations(servers, target, &numeric).await?;
    let of_target = columns(servers, target, &relations, false).await?;
    let (of_source, of_target) = match (of_source, of_target) {
        (Ok(source), Ok(target)) => (source, target),
        (source, target) => {
            let wrong = [source.err(), target.err()];
            return Ok(Err(wrong.into_iter().flatten().collect()));
        }
    };
    let keys = match keys_of(invariant, target, &of_source, &of_target, keys) {
        Ok(keys) => keys,
        Err(problem) => return Ok(Err(vec![*problem])),
    };
    Ok(Ok(Statements {
        source: Statement {
            sql: of_source.statement(),
            parameters,
            translations: Vec::new(),
        },
        target: Statement {
            sql: of_target.statement(),
            parameters: Vec::new(),
            translations: Vec::new(),
        },
        numeric: of_target.types[keys..].iter().map(is_number).collect(),
        names: of_target.names,
        keys,
    }))
}

/// How many of the columns are the group's key.
fn keys_of(
    invariant: &Invariant,
    target: &InvariantQuery,
    of_source: &Columns,
    of_target: &Columns,
    keys: Option<usize>,
) -> std::result::Result<usize, Box<Problem>> {
    let (source, columns) = (of_source.types.len(), of_target.types.len());
    if source != columns {
        return Err(Box::new(
            Problem::error(
                "invariant::columns",
                format!("the queries give {source} and {columns} columns"),
            )
            .at(target.sql.span)
            .label("must give as many as the source's")
            .hint("both give the group's key first, then the figures, in the same order"),
        ));
    }
    let keys = keys.unwrap_or_else(|| columns.saturating_sub(1));
    if keys >= columns {
        return Err(Box::new(
            Problem::error(
                "invariant::columns",
                format!("of {columns} columns {keys} are the group's key: no figure is left"),
            )
            .at(invariant.name.span)
            .hint("`keys` says how many of the first columns are the key"),
        ));
    }
    Ok(keys)
}

/// Of each entity that the queries name, whether its legacy ids are numbers.
async fn numeric_ids(
    servers: &Servers<'_>,
    source: &InvariantQuery,
    target: &InvariantQuery,
) -> Result<std::result::Result<BTreeMap<String, bool>, Problem>> {
    let mut numeric = BTreeMap::new();
    for (_, name) in source.moved.iter().chain(&target.moved) {
        let Some(entity) = servers.project.entity(&name.value) else {
            continue;
        };
        let (key, from) = (&entity.source.key.text, &entity.source.from.text);
        let query = format!("select ({key}\n) from {from}\n");
        match describe(servers.source, &query).await? {
            Ok(described) => {
                let column = described.columns().first();
                let integer = column.is_some_and(|column| is_integer(column.type_()));
                numeric.insert(name.value.clone(), integer);
            }
            Err(refusal) => {
                return Ok(Err(Problem::error(
                    "invariant::refused",
                    format!(
                        "the source refuses the query of entity `{}`: {}",
                        name.value, refusal.message
                    ),
                )));
            }
        }
    }
    Ok(Ok(numeric))
}

/// What `{moved:...}` stands for, by entity.
type Relations = BTreeMap<String, String>;

fn source_relations(servers: &Servers<'_>, query: &InvariantQuery) -> (Relations, Vec<Parameter>) {
    let (mut relations, mut parameters) = (Relations::new(), Vec::new());
    for (_, name) in &query.moved {
        if relations.contains_key(&name.value) {
            continue;
        }
        let Some(entity) = servers.project.entity(&name.value) else {
            continue;
        };
        parameters.push(Parameter::LeftBehind(name.value.clone()));
        let list = format!("({}\n) as legacy_id", entity.source.key.text);
        let rows = moved_without(entity, &list, parameters.len());
        relations.insert(name.value.clone(), format!("({rows})"));
    }
    (relations, parameters)
}

async fn target_relations(
    servers: &Servers<'_>,
    query: &InvariantQuery,
    numeric: &BTreeMap<String, bool>,
) -> Result<Relations> {
    let mut relations = Relations::new();
    for (_, name) in &query.moved {
        let rows = regraft_ledger::moved_rows(&**servers.target, &name.value).await?;
        let of = match numeric.get(&name.value) {
            Some(true) => "bigint",
            _ => "text",
        };
        relations.insert(
            name.value.clone(),
            format!("(select legacy_id::{of} as legacy_id, new_id from {rows} as moved)"),
        );
    }
    Ok(relations)
}

/// A query with what its columns are.
struct Columns {
    sql: String,
    names: Vec<String>,
    types: Vec<Type>,
}

impl Columns {
    fn statement(&self) -> String {
        let numbers: Vec<String> = (1..=self.types.len()).map(|n| format!("c{n}")).collect();
        let list: Vec<String> = numbers
            .iter()
            .zip(&self.types)
            .map(|(name, of)| as_text(&format!("q.{name}"), of))
            .collect();
        format!(
            "select {} from ({}\n) as q ({}) limit {}",
            list.join(", "),
            self.sql,
            numbers.join(", "),
            GROUPS + 1
        )
    }
}

async fn columns(
    servers: &Servers<'_>,
    query: &InvariantQuery,
    relations: &Relations,
    of_source: bool,
) -> Result<std::result::Result<Columns, Problem>> {
    let relation = |entity: &str| relations.get(entity).cloned().unwrap_or_default();
    let sql = query.expand(relation);
    let (session, side) = match of_source {
        true => (servers.source, "source"),
        false => (servers.target, "target"),
    };
    Ok(match describe(session, &sql).await? {
        Ok(described) => Ok(Columns {
            names: names(&described),
            types: described
                .columns()
                .iter()
                .map(|c| c.type_().clone())
                .collect(),
            sql,
        }),
        Err(refusal) => {
            let at = refusal.position.map(|at| query.original(at, relation));
            let span = at.map_or(query.sql.span, |at| query.sql.span_at(at, 1));
            Err(Problem::error(
                "invariant::refused",
                format!("the {side} refuses this: {}", refusal.message),
            )
            .at(span)
            .label("here, says PostgreSQL"))
        }
    })
}

/// The names of the columns.
fn names(described: &tokio_postgres::Statement) -> Vec<String> {
    let columns = described.columns().iter();
    columns.map(|column| column.name().to_owned()).collect()
}
