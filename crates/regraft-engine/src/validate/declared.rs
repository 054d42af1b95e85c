//! What a mapped column should hold, worked out from its rule: an expression for the source, one
//! for the target, and the form in which both are compared.

use regraft_pg::quote;
use regraft_project::{
    BadJson, Column, EmptyJson, JsonField, JsonObject, KeyStrategy, Rule, Spanned, Sql,
};
use tokio_postgres::types::Type;

use super::canonical;
use super::compare::{Comparison, Shape, base, comparison};
use super::databases::Databases;
use super::determinism::depends_on_more_than_the_row;
use super::expectation::{Checkable, Expectation, Expected, Listed, Outcome};
use super::rows::{Parts, Rows};
use super::subject::Subject;
use crate::error::Result;

/// What is expected of a mapped column whose rule is no reference; `of` is its type in the target.
pub(super) async fn expectation<'a>(
    databases: &Databases<'_>,
    subject: &Subject<'a>,
    column: &'a Column,
    of: &Type,
) -> Result<Checkable<Expectation<'a>>> {
    let changing = expressions(&column.rule)
        .into_iter()
        .find_map(|sql| depends_on_more_than_the_row(&sql.text));
    if let Some(function) = changing {
        return Ok(Err(format!(
            "its value depends on {function}, not on the row alone"
        )));
    }
    let name = column.name.value.as_str();
    match &column.rule {
        Rule::Sql(sql) => {
            let query = format!(
                "select ({}\n) from {}\n",
                sql.text, subject.entity.source.from.text
            );
            let described = match databases.describe_source(&query).await? {
                Ok(described) => described,
                Err(why) => return Ok(Err(format!("the source refuses its expression: {why}"))),
            };
            let Some(found) = described.columns().first() else {
                return Ok(Err("it has no value".to_owned()));
            };
            Ok(value(name, &sql.text, found.type_(), of))
        }
        Rule::Json(object) => Ok(value(name, &json_object(object), &Type::JSONB, of)),
        Rule::Value(constant) => Ok(match encode(databases, &constant.value, of).await? {
            Ok(bytes) => prepared(name, of, None, Expected::Constant(bytes)).map(|expectation| {
                let literal = canonical::literal(&constant.value, &type_name(of));
                let column = format!("t.{}", quote::ident(name));
                expectation.with_sums(of, canonical::constant(&column, &literal))
            }),
            Err(why) => Err(why),
        }),
        Rule::Map {
            from,
            map,
            null,
            otherwise,
        } => {
            case(
                databases,
                name,
                of,
                from,
                map,
                null.as_ref(),
                otherwise.as_ref(),
            )
            .await
        }
        Rule::Parse { from, bad, empty } => {
            let binary = *base(of) == Type::JSONB;
            if !binary && *base(of) != Type::JSON {
                return Ok(Err(format!(
                    "JSON can't be compared with type {}",
                    of.name()
                )));
            }
            let expected = Expected::Json {
                binary,
                bad: bad.clone(),
                empty: empty.clone(),
            };
            let text = format!("({}\n)::text", from.text);
            let sums = parsed(databases, &text, bad, empty)
                .filter(|_| binary)
                .map(|source| canonical::Sides {
                    source,
                    target: format!("t.{}::jsonb", quote::ident(name)),
                });
            Ok(
                prepared(name, of, Some(text), expected).map(|expectation| Expectation {
                    sums,
                    ..expectation
                }),
            )
        }
        Rule::Ref { .. } | Rule::RefBy { .. } => Ok(Err("it is a reference".to_owned())),
    }
}

/// `pg_input_is_valid` came with PostgreSQL 16.
const TELLS_JSON_SINCE: u32 = 160_000;

/// SQL for the document that the source's text becomes by its rule; `None` where the server has no
/// way to tell texts that are no JSON from others. For a row that should be in quarantine the server
/// fails: rows are fetched then, and tell which.
fn parsed(
    databases: &Databases<'_>,
    text: &str,
    bad: &BadJson,
    empty: &EmptyJson,
) -> Option<String> {
    let as_it_is = format!("({text})::jsonb");
    let invalid = match bad {
        BadJson::Quarantine => None,
        BadJson::Null => Some("null".to_owned()),
        BadJson::KeepAs(name) => Some(format!(
            "jsonb_build_object({}, {text})",
            quote::literal(name)
        )),
    };
    let invalid = match invalid {
        None => String::new(),
        Some(_) if databases.beside_source().server_version_num() < TELLS_JSON_SINCE => {
            return None;
        }
        Some(value) => {
            format!(" when not pg_catalog.pg_input_is_valid({text}, 'jsonb') then {value}")
        }
    };
    let blank = match empty {
        EmptyJson::Null => "null".to_owned(),
        EmptyJson::Value(value) => format!("{}::jsonb", quote::literal(value)),
        EmptyJson::Quarantine => as_it_is.clone(),
    };
    Some(format!(
        "(case when btrim({text}, E' \\t\\n\\r\\f') = '' then {blank}{invalid} else {as_it_is} end)"
    ))
}

/// What is expected of the key, where the source has it.
pub(super) fn key_expectation<'a>(subject: &Subject<'a>) -> Option<Expectation<'a>> {
    let key = &subject.entity.target.key;
    let KeyStrategy::Column { from } = &key.strategy else {
        return None;
    };
    Some(Expectation {
        column: &key.column.value,
        target: format!("t.{}::uuid", quote::ident(&key.column.value)),
        source: Some(format!("({}\n)::text", from.text)),
        sums: Some(canonical::Sides {
            source: format!("({}\n)::text::uuid", from.text),
            target: format!("t.{}::uuid", quote::ident(&key.column.value)),
        }),
        shape: Shape::Bytes,
        expected: Expected::UuidText,
        listed: Listed::default(),
    })
}

/// The expressions that a rule is made of.
pub(super) fn expressions(rule: &Rule) -> Vec<&Sql> {
    fn of_object(object: &JsonObject) -> Vec<&Sql> {
        object
            .fields
            .iter()
            .flat_map(|(_, field)| of_field(field))
            .collect()
    }
    fn of_field(field: &JsonField) -> Vec<&Sql> {
        match field {
            JsonField::Sql(sql) => vec![sql],
            JsonField::Object(inner) => of_object(inner),
        }
    }
    match rule {
        Rule::Sql(sql) => vec![sql],
        Rule::Value(_) => Vec::new(),
        Rule::Map { from, .. } | Rule::Parse { from, .. } | Rule::Ref { from, .. } => vec![from],
        Rule::Json(object) => of_object(object),
        Rule::RefBy { by, from, .. } => vec![by, from],
    }
}

/// The source's value, compared as its type is.
fn value<'a>(column: &'a str, sql: &str, source: &Type, of: &Type) -> Checkable<Expectation<'a>> {
    let Some(Comparison {
        source_cast,
        target_cast,
        shape,
    }) = comparison(source, of)
    else {
        return Err(format!(
            "its expression is of type {}, the column of type {}",
            source.name(),
            of.name()
        ));
    };
    let target = cast(&format!("t.{}", quote::ident(column)), target_cast);
    let source_value = cast(&format!("({sql}\n)"), source_cast);
    // A cast makes both the same type; without one they are.
    let sums = match (source_cast, target_cast) {
        (Some("int8"), _) => canonical::value(&source_value, &target, &Type::INT8, &shape),
        (None, None) => canonical::value(&source_value, &target, of, &shape),
        _ => canonical::value(&source_value, &target, &Type::TEXT, &shape),
    };
    Ok(Expectation {
        column,
        target,
        source: Some(source_value),
        sums: Some(sums),
        shape,
        expected: Expected::Value,
        listed: Listed::default(),
    })
}

fn cast(sql: &str, to: Option<&str>) -> String {
    to.map_or_else(|| sql.to_owned(), |to| format!("{sql}::{to}"))
}

/// An expectation whose values are of the target's own making.
fn prepared<'a>(
    column: &'a str,
    of: &Type,
    source: Option<String>,
    expected: Expected,
) -> Checkable<Expectation<'a>> {
    let Some(Comparison {
        target_cast, shape, ..
    }) = comparison(of, of)
    else {
        return Err(incomparable(of));
    };
    Ok(Expectation {
        column,
        target: cast(&format!("t.{}", quote::ident(column)), target_cast),
        source,
        sums: None,
        shape,
        expected,
        listed: Listed::default(),
    })
}

fn incomparable(of: &Type) -> String {
    format!("values of type {} can't be compared", of.name())
}

/// A map: the source says which case a row is, the target what the case's value looks like.
async fn case<'a>(
    databases: &Databases<'_>,
    column: &'a str,
    of: &Type,
    from: &Sql,
    map: &[(Spanned<String>, Spanned<String>)],
    null: Option<&Spanned<String>>,
    otherwise: Option<&Spanned<String>>,
) -> Result<Checkable<Expectation<'a>>> {
    let text = format!("({}\n)::text", from.text);
    let mut outcomes = Vec::with_capacity(map.len() + 2);
    let mut literals = Vec::with_capacity(map.len() + 2);
    let mut listed = Listed::default();
    let literal = |text: &Spanned<String>| canonical::literal(&text.value, &type_name(of));
    let mut arms = String::new();
    for (i, (key, becomes)) in map.iter().enumerate() {
        arms.push_str(&format!("when {} then {i} ", quote::literal(&key.value)));
        literals.push(Some(literal(becomes)));
        match encode(databases, &becomes.value, of).await? {
            Ok(bytes) => {
                let form = bytes.as_deref();
                listed.add(
                    form.map(|form| (becomes.value.as_str(), form)),
                    &literal(becomes),
                );
                outcomes.push(Outcome::Becomes(bytes));
            }
            Err(why) => return Ok(Err(why)),
        }
    }
    for (value, absent) in [
        (otherwise, Outcome::StaysBehind),
        (null, Outcome::Becomes(None)),
    ] {
        let no_value = match absent {
            Outcome::Becomes(_) => Some("null".to_owned()),
            Outcome::StaysBehind => None,
        };
        literals.push(value.map_or(no_value, |value| Some(literal(value))));
        outcomes.push(match value {
            None => absent,
            Some(value) => match encode(databases, &value.value, of).await? {
                Ok(bytes) => Outcome::Becomes(bytes),
                Err(why) => return Ok(Err(why)),
            },
        });
        let own = match (value, outcomes.last()) {
            (Some(value), Some(Outcome::Becomes(Some(form)))) => {
                Some((value.value.as_str(), form.as_slice()))
            }
            _ => None,
        };
        listed.add(own, &value.map(literal).unwrap_or_default());
    }
    let (otherwise, null) = (map.len(), map.len() + 1);
    let whole = if arms.is_empty() {
        otherwise.to_string()
    } else {
        format!("case {text} {arms}else {otherwise} end")
    };
    let number = format!("(case when {text} is null then {null} else {whole} end)::int4");
    let sums = canonical::case(&number, &format!("t.{}", quote::ident(column)), &literals);
    Ok(
        prepared(column, of, Some(number), Expected::Case(outcomes)).map(|expectation| {
            Expectation {
                listed,
                ..expectation.with_sums(of, sums)
            }
        }),
    )
}

/// A constant of the project as the target reads it, in the form that the column is compared in.
async fn encode(
    databases: &Databases<'_>,
    text: &str,
    of: &Type,
) -> Result<Checkable<Option<Vec<u8>>>> {
    let Some(Comparison { target_cast, .. }) = comparison(of, of) else {
        return Ok(Err(incomparable(of)));
    };
    let name = type_name(of);
    let query = format!(
        "select {}",
        cast(&format!("{}::{name}", quote::literal(text)), target_cast)
    );
    let mut row = Rows::new(databases.beside_target(), Parts::One(Some(query)), 1);
    match row.advance().await {
        Ok(true) => {
            let bytes = row.field(0).map(<[u8]>::to_vec);
            while row.advance().await? {}
            Ok(Ok(bytes))
        }
        Ok(false) => Ok(Ok(None)),
        Err(error) if error.database().is_some_and(|e| e.sqlstate().is_some()) => Ok(Err(format!(
            "a constant of its rule is no value of type {}",
            of.name()
        ))),
        Err(error) => Err(error),
    }
}

/// The type that a constant is written with: character(n) would be cut without its length, and as
/// text is what was written.
fn type_name(of: &Type) -> String {
    if *base(of) == Type::BPCHAR {
        "text".to_owned()
    } else {
        quote::qualified(of.schema(), of.name())
    }
}

/// The SQL that builds a JSON object.
pub(super) fn json_object(object: &JsonObject) -> String {
    // 100 arguments at most (FUNC_MAX_ARGS).
    let parts: Vec<String> = object.fields.chunks(50).map(json_part).collect();
    if parts.is_empty() {
        "jsonb '{}'".to_owned()
    } else {
        parts.join(" || ")
    }
}

fn json_part(fields: &[(String, JsonField)]) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, field)| match field {
            JsonField::Sql(sql) => format!("{}, ({}\n)", quote::literal(name), sql.text),
            JsonField::Object(inner) => {
                format!("{}, ({})", quote::literal(name), json_object(inner))
            }
        })
        .collect();
    format!("jsonb_build_object({})", pairs.join(", "))
}
