//! Invariants written through an entity: the same figures over the same columns, which the target
//! reads from its table and the source computes by the entity's column rules.

use std::collections::BTreeMap;

use regraft_pg::quote;
use regraft_project::{Column, Entity, Figure, Invariant, Missing, Problem, Rule, Spanned, Sql};
use tokio_postgres::types::Type;

use super::super::compare::{base, comparison};
use super::super::declared::{expressions, json_object};
use super::super::determinism::depends_on_more_than_the_row;
use super::super::subject::filter_number;
use super::statement::{
    GROUPS, Parameter, Refusal, Servers, Statement, Statements, Translation, Wrong, as_text,
    describe, is_number,
};
use crate::error::Result;

/// A column that figures use, as each side has it.
struct Input<'a> {
    name: &'a str,
    /// On the FROM list of the entity.
    source: String,
    /// On `m`, the mapping, `t`, the row, and the mappings of parents.
    target: String,
    /// For a reference: the entity it leads to, and what becomes of an id that was not moved.
    parent: Option<(&'a str, Missing)>,
}

/// A reason why a column can't be used.
type Usable<T> = std::result::Result<T, String>;

pub(super) async fn statements(
    servers: &Servers<'_>,
    invariant: &Invariant,
    entity: &str,
    by: &[Figure],
    measures: &[Figure],
) -> Result<std::result::Result<Statements, Wrong>> {
    let Some(entity) = servers.project.entity(entity) else {
        return Ok(Err(Vec::new()));
    };
    let inputs = match inputs(servers, invariant, entity, by, measures).await? {
        Ok(inputs) => inputs,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let (source, translations, parameters) = source_rows(entity, &inputs);
    let target = target_rows(servers, entity, &inputs).await?;
    let figures = Figures {
        by,
        measures,
        name: quote::ident(&entity.name),
    };
    let source_types = figures.types(servers, &source, true).await?;
    let target_types = figures.types(servers, &target, false).await?;
    let (source_types, target_types) = match (source_types, target_types) {
        (Ok(source), Ok(target)) => (source, target),
        (source, target) => {
            // What both refuse is told once.
            let wrong = source.err().or(target.err()).unwrap_or_default();
            return Ok(Err(wrong
                .into_iter()
                .map(|p| placed(p, invariant))
                .collect()));
        }
    };
    let names = by.iter().chain(measures);
    Ok(Ok(Statements {
        source: Statement {
            sql: figures.statement(&source, &source_types),
            parameters,
            translations,
        },
        target: Statement {
            sql: figures.statement(&target, &target_types),
            parameters: Vec::new(),
            translations: Vec::new(),
        },
        names: names
            .map(|figure| figure.sql.text.trim().to_owned())
            .collect(),
        keys: by.len(),
        numeric: target_types[by.len()..].iter().map(is_number).collect(),
    }))
}

/// A problem without a place is about the invariant.
fn placed(problem: Problem, invariant: &Invariant) -> Problem {
    match problem.span {
        Some(_) => problem,
        None => problem.at(invariant.name.span),
    }
}

/// The figures over a relation.
struct Figures<'a> {
    by: &'a [Figure],
    measures: &'a [Figure],
    /// What the relation is called.
    name: String,
}

impl Figures<'_> {
    fn all(&self) -> impl Iterator<Item = &Sql> {
        self.by
            .iter()
            .chain(self.measures)
            .map(|figure| &figure.sql)
    }

    fn grouped(&self) -> String {
        match self.by.len() {
            0 => String::new(),
            keys => {
                let numbers: Vec<String> = (1..=keys).map(|n| n.to_string()).collect();
                format!("\ngroup by {}", numbers.join(", "))
            }
        }
    }

    /// The statement; `having true` makes a figure that is no aggregate an error.
    fn select(&self, list: &[String], rows: &str, grouped: &str) -> String {
        let list = list.join(", ");
        format!(
            "select {list}\nfrom {rows} as {}{grouped}\nhaving true",
            self.name
        )
    }

    fn statement(&self, rows: &str, types: &[Type]) -> String {
        let list: Vec<String> = self
            .all()
            .zip(types)
            .map(|(sql, of)| as_text(&format!("({}\n)", sql.text), of))
            .collect();
        let limit = GROUPS + 1;
        format!(
            "{}\nlimit {limit}",
            self.select(&list, rows, &self.grouped())
        )
    }

    /// The types of all figures, as a server has them, or what it refuses.
    async fn types(
        &self,
        servers: &Servers<'_>,
        rows: &str,
        of_source: bool,
    ) -> Result<std::result::Result<Vec<Type>, Wrong>> {
        let session = if of_source {
            servers.source
        } else {
            servers.target
        };
        let list: Vec<String> = self.all().map(|sql| format!("({}\n)", sql.text)).collect();
        let whole = self.select(&list, rows, &self.grouped());
        let refusal = match describe(session, &whole).await? {
            Ok(statement) => {
                let columns = statement.columns().iter();
                return Ok(Ok(columns.map(|column| column.type_().clone()).collect()));
            }
            Err(refusal) => refusal,
        };
        let side = if of_source { "source" } else { "target" };
        let mut wrong = Vec::new();
        for (i, sql) in self.all().enumerate() {
            let grouped = if i < self.by.len() {
                "\ngroup by 1"
            } else {
                ""
            };
            let alone = self.select(&[format!("({}\n)", sql.text)], rows, grouped);
            if let Err(refusal) = describe(session, &alone).await? {
                wrong.push(refused(side, sql, &refusal));
            }
        }
        if wrong.is_empty() {
            wrong.push(Problem::error(
                "invariant::refused",
                format!("the {side} refuses this invariant: {}", refusal.message),
            ));
        }
        Ok(Err(wrong))
    }
}

/// The problem of a figure that a server refuses.
fn refused(side: &str, sql: &Sql, refusal: &Refusal) -> Problem {
    let head = "select (".len();
    let length = sql.text.chars().count();
    let at = refusal
        .position
        .and_then(|position| position.checked_sub(head));
    let span = match at.filter(|at| *at < length) {
        Some(at) => sql.span_at(at, 1),
        None => sql.span,
    };
    Problem::error(
        "invariant::refused",
        format!("the {side} refuses this: {}", refusal.message),
    )
    .at(span)
    .label("here, says PostgreSQL")
}

/// The columns that the figures use.
async fn inputs<'a>(
    servers: &Servers<'_>,
    invariant: &Invariant,
    entity: &'a Entity,
    by: &[Figure],
    measures: &[Figure],
) -> Result<std::result::Result<Vec<Input<'a>>, Wrong>> {
    let used = |name: &str| {
        let mut figures = by.iter().chain(measures);
        figures.any(|figure| figure.columns.iter().any(|column| column == name))
    };
    let columns: Vec<&Column> = entity
        .columns
        .iter()
        .filter(|column| used(&column.name.value))
        .collect();
    let mut inputs = identity(entity)
        .filter(|input| used(input.name))
        .collect::<Vec<_>>();
    let types = match types(servers, entity, &columns).await? {
        Ok(types) => types,
        Err(why) => {
            let problem = Problem::error("invariant::refused", why).at(invariant.name.span);
            return Ok(Err(vec![problem]));
        }
    };
    let mut wrong = Vec::new();
    for column in columns {
        match input(column, &types) {
            Ok(input) => inputs.push(input),
            Err(why) => wrong.push(
                Problem::error(
                    "invariant::unusable-column",
                    format!(
                        "`{}` can't be used in an invariant: {why}",
                        column.name.value
                    ),
                )
                .at(invariant.name.span)
                .hint("write a pair of queries instead: `source` and `target`"),
            ),
        }
    }
    Ok(if wrong.is_empty() {
        Ok(inputs)
    } else {
        Err(wrong)
    })
}

/// The key and the column for the legacy id: both stand for the legacy id.
fn identity(entity: &Entity) -> impl Iterator<Item = Input<'_>> {
    let source = format!("({}\n)::text", entity.source.key.text);
    let key = Input {
        name: &entity.target.key.column.value,
        source: source.clone(),
        target: "m.legacy_id".to_owned(),
        parent: None,
    };
    let legacy = entity.target.legacy.as_ref().map(|legacy| Input {
        name: &legacy.value,
        source,
        target: format!("t.{}::text", quote::ident(&legacy.value)),
        parent: None,
    });
    [Some(key), legacy].into_iter().flatten()
}

/// Of each column the type in the target, and that of its expression in the source.
type Types<'a> = BTreeMap<&'a str, (Type, Option<Type>)>;

/// The types of columns; the inner error is a server's refusal.
async fn types<'a>(
    servers: &Servers<'_>,
    entity: &'a Entity,
    columns: &[&'a Column],
) -> Result<Usable<Types<'a>>> {
    if columns.is_empty() {
        return Ok(Ok(Types::new()));
    }
    let names = columns.iter().map(|column| column.name.value.as_str());
    let query = format!(
        "select {} from {}",
        quote::idents(names),
        table(servers, entity)
    );
    let of_target = match describe(servers.target, &query).await? {
        Ok(described) => described,
        Err(refusal) => {
            return Ok(Err(format!(
                "the target refuses to be read: {}",
                refusal.message
            )));
        }
    };
    let mut types = Types::new();
    for (column, found) in columns.iter().zip(of_target.columns()) {
        let mut source = None;
        if let Rule::Sql(sql) = &column.rule {
            let query = format!("select ({}\n) from {}\n", sql.text, entity.source.from.text);
            match describe(servers.source, &query).await? {
                Ok(described) => source = described.columns().first().map(|c| c.type_().clone()),
                Err(refusal) => {
                    return Ok(Err(format!(
                        "the source refuses the expression of `{}`: {}",
                        column.name.value, refusal.message
                    )));
                }
            }
        }
        types.insert(&column.name.value, (found.type_().clone(), source));
    }
    Ok(Ok(types))
}

/// The quoted name of the table.
fn table(servers: &Servers<'_>, entity: &Entity) -> String {
    let namespace = &servers.project.manifest().target.namespace;
    let (schema, name) = entity.target.schema_and_table(namespace);
    quote::qualified(schema, name)
}

/// A column as both sides have it.
fn input<'a>(column: &'a Column, types: &Types<'_>) -> Usable<Input<'a>> {
    let name = column.name.value.as_str();
    let Some((of, source_type)) = types.get(name) else {
        return Err("the target has no such column".to_owned());
    };
    let mut rules = expressions(&column.rule).into_iter();
    if let Some(function) = rules.find_map(|sql| depends_on_more_than_the_row(&sql.text)) {
        return Err(format!(
            "its value depends on {function}, not on the row alone"
        ));
    }
    let held = format!("t.{}", quote::ident(name));
    let compared = |sql: &str, source: &Type| {
        let found = comparison(source, of).ok_or_else(|| {
            let (source, of) = (source.name(), of.name());
            format!("its expression is of type {source}, the column of type {of}")
        })?;
        Ok(Input {
            name,
            source: cast(&format!("({sql}\n)"), found.source_cast),
            target: cast(&held, found.target_cast),
            parent: None,
        })
    };
    let constant = |sql: &str| {
        let found = comparison(of, of)
            .ok_or_else(|| format!("values of type {} can't be compared", of.name()))?;
        let base = base(of);
        let to = found.target_cast.map_or_else(
            || quote::qualified(base.schema(), base.name()),
            str::to_owned,
        );
        Ok(Input {
            name,
            source: format!("({sql})::{to}"),
            target: cast(&held, found.target_cast),
            parent: None,
        })
    };
    match &column.rule {
        Rule::Sql(sql) => compared(&sql.text, source_type.as_ref().unwrap_or(of)),
        Rule::Json(object) => compared(&json_object(object), &Type::JSONB),
        Rule::Value(value) => constant(&quote::literal(&value.value)),
        Rule::Map {
            from,
            map,
            null,
            otherwise,
        } => constant(&mapped(from, map, null.as_ref(), otherwise.as_ref())),
        Rule::Ref {
            entity,
            from,
            missing,
        } => Ok(Input {
            name,
            source: format!("({}\n)::text", from.text),
            target: held,
            parent: Some((&entity.value, missing.clone())),
        }),
        Rule::Parse { .. } | Rule::RefBy { .. } => {
            Err("its rule is no expression that the source can compute".to_owned())
        }
    }
}

fn cast(sql: &str, to: Option<&str>) -> String {
    to.map_or_else(|| sql.to_owned(), |to| format!("{sql}::{to}"))
}

/// A map as text. A value without a case is NULL: such a row should be in quarantine.
fn mapped(
    from: &Sql,
    map: &[(Spanned<String>, Spanned<String>)],
    null: Option<&Spanned<String>>,
    otherwise: Option<&Spanned<String>>,
) -> String {
    let text = format!("({}\n)::text", from.text);
    let constant = |value: Option<&Spanned<String>>| {
        value.map_or_else(|| "null".to_owned(), |value| quote::literal(&value.value))
    };
    let arms: String = map
        .iter()
        .map(|(key, becomes)| {
            let (key, becomes) = (quote::literal(&key.value), quote::literal(&becomes.value));
            format!("when {text} = {key} then {becomes} ")
        })
        .collect();
    format!(
        "case when {text} is null then {} {arms}else {} end",
        constant(null),
        constant(otherwise)
    )
}

/// The rows of the source that were moved, with the columns that figures use: a relation, what has
/// to be translated before, and its parameters.
fn source_rows(
    entity: &Entity,
    inputs: &[Input<'_>],
) -> (String, Vec<Translation>, Vec<Parameter>) {
    let list: Vec<String> = inputs
        .iter()
        .map(|input| format!("{} as {}", input.source, quote::ident(input.name)))
        .collect();
    let mut parameters = vec![Parameter::LeftBehind(entity.name.clone())];
    let mut translations = Vec::new();
    let (mut outer, mut joins) = (Vec::new(), String::new());
    for input in inputs {
        let name = quote::ident(input.name);
        let Some((parent, missing)) = &input.parent else {
            outer.push(format!("r.{name}"));
            continue;
        };
        let number = translations.len();
        let (ids, becomes) = (parameters.len() + 1, parameters.len() + 2);
        parameters.extend([Parameter::Ids(number), Parameter::Becomes(number)]);
        outer.push(format!(
            "case when x{number}.id is null then r.{name} else x{number}.becomes end as {name}"
        ));
        joins.push_str(&format!(
            "\nleft join unnest(${ids}::text[], ${becomes}::text[]) as x{number} (id, becomes) on x{number}.id = r.{name}"
        ));
        translations.push(Translation {
            distinct: moved(entity, &format!("distinct {}", input.source)),
            entity: entity.name.clone(),
            parent: (*parent).to_owned(),
            missing: missing.clone(),
        });
    }
    let inner = moved(entity, &list.join(",\n  "));
    let rows = format!("(select {} from ({inner}) as r{joins})", outer.join(", "));
    (rows, translations, parameters)
}

/// The rows of the source that were moved; `$1` are the ids of those left behind.
pub(super) fn moved(entity: &Entity, list: &str) -> String {
    moved_without(entity, list, 1)
}

/// The same with another number for the parameter.
pub(super) fn moved_without(entity: &Entity, list: &str, parameter: usize) -> String {
    let key = &entity.source.key.text;
    format!(
        "select {list}\nfrom {}\nwhere ({}) = 0\n  and ({key}\n) is not null\n  and not exists \
         (select from unnest(${parameter}::text[]) as regraft_left (regraft_id) where regraft_left.regraft_id = ({key}\n)::text)",
        entity.source.from.text,
        filter_number(entity),
    )
}

/// The moved rows of the target, with the columns that figures use. A reference is turned back to
/// the legacy id it leads to; a key that no mapping knows stays what it is.
async fn target_rows(
    servers: &Servers<'_>,
    entity: &Entity,
    inputs: &[Input<'_>],
) -> Result<String> {
    let (mut list, mut joins) = (Vec::new(), String::new());
    for (i, input) in inputs.iter().enumerate() {
        let name = quote::ident(input.name);
        let Some((parent, _)) = &input.parent else {
            list.push(format!("{} as {name}", input.target));
            continue;
        };
        let mappings = regraft_ledger::moved_rows(&**servers.target, parent).await?;
        list.push(format!(
            "coalesce(p{i}.legacy_id, {}::text) as {name}",
            input.target
        ));
        joins.push_str(&format!(
            "\nleft join {mappings} as p{i} on p{i}.new_id = {}",
            input.target
        ));
    }
    let own = regraft_ledger::moved_rows(&**servers.target, &entity.name).await?;
    Ok(format!(
        "(select {}\nfrom {own} as m join {} as t on t.{} = m.new_id{joins})",
        list.join(", "),
        table(servers, entity),
        quote::ident(&entity.target.key.column.value),
    ))
}
