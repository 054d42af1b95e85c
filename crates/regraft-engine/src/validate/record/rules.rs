//! The rules of an entity's columns in words, with the place where each is written.

use regraft_project::{KeyStrategy, Missing, Project, Rule, Span, Sql};

use super::document::{ColumnRecord, ColumnVerdict};
use crate::validate::expectation::json_object;
use crate::validate::subject::Subject;

/// A rule in words, with the SQL that it reads from the source.
struct Described {
    words: String,
    expressions: Vec<String>,
}

/// A rule that is about to be applied: what is told of it, and the SQL of its value in the source.
pub(super) struct Applied {
    pub(super) record: ColumnRecord,
    pub(super) sql: Option<String>,
}

/// Every rule: the key's, the legacy id's, then the columns' in file order.
pub(super) fn rules(project: &Project, subject: &Subject<'_>) -> Vec<Applied> {
    let entity = subject.entity;
    let key = &entity.target.key;
    let (described, sql) = key_rule(&key.strategy, &entity.source.key);
    let mut rules = vec![applied(
        project,
        &key.column.value,
        key.column.span,
        described,
        sql,
    )];
    if let Some(legacy) = &entity.target.legacy {
        let described = Described {
            words: "the legacy id".to_owned(),
            expressions: vec![tidy(&entity.source.key.text)],
        };
        let sql = Some(entity.source.key.text.clone());
        rules.push(applied(project, &legacy.value, legacy.span, described, sql));
    }
    for column in &entity.columns {
        let (described, sql) = column_rule(&column.rule);
        let mut rule = applied(
            project,
            &column.name.value,
            column.name.span,
            described,
            sql,
        );
        rule.record.provenance = Some(column.provenance);
        rules.push(rule);
    }
    rules
}

fn applied(
    project: &Project,
    column: &str,
    span: Span,
    described: Described,
    sql: Option<String>,
) -> Applied {
    let sources = project.sources();
    let line = sources.position(span).line;
    Applied {
        record: ColumnRecord {
            column: column.to_owned(),
            rule: described.words,
            expressions: described.expressions,
            place: format!("{}:{line}", sources.path(span.file)),
            provenance: None,
            source: None,
            target: None,
            verdict: ColumnVerdict::NotCompared,
            why: None,
        },
        sql,
    }
}

fn key_rule(strategy: &KeyStrategy, source_key: &Sql) -> (Described, Option<String>) {
    let (words, from) = match strategy {
        KeyStrategy::UuidV7 { time } => {
            ("uuid_v7 of the legacy id and a time".to_owned(), Some(time))
        }
        KeyStrategy::UuidV5 => ("uuid_v5 of the legacy id".to_owned(), Some(source_key)),
        KeyStrategy::UuidV4 => ("uuid_v4, random".to_owned(), None),
        KeyStrategy::Column { from } => ("a key that the source has".to_owned(), Some(from)),
        KeyStrategy::SameAs { entity, from } => (
            format!("the key of {}", entity.value),
            Some(from.as_ref().unwrap_or(source_key)),
        ),
    };
    one(words, from)
}

fn column_rule(rule: &Rule) -> (Described, Option<String>) {
    match rule {
        Rule::Sql(sql) => one("an expression".to_owned(), Some(sql)),
        Rule::Value(value) => one(format!("the constant `{}`", value.value), None),
        Rule::Map { from, map, .. } => one(format!("a map of {} values", map.len()), Some(from)),
        Rule::Parse { from, .. } => one("JSON in a text".to_owned(), Some(from)),
        Rule::Json(object) => {
            let sql = json_object(object);
            let described = Described {
                words: format!("a JSON object of {} fields", object.fields.len()),
                expressions: vec![tidy(&sql)],
            };
            (described, Some(sql))
        }
        Rule::Ref {
            entity,
            from,
            missing,
        } => one(
            format!("the key of {}{}", entity.value, otherwise(missing)),
            Some(from),
        ),
        Rule::RefBy {
            by,
            cases,
            from,
            missing,
        } => {
            let mut entities: Vec<&str> = cases.iter().map(|(_, e)| e.value.as_str()).collect();
            entities.sort_unstable();
            entities.dedup();
            let described = Described {
                words: format!("the key of {}{}", entities.join(" or "), otherwise(missing)),
                expressions: vec![tidy(&by.text), tidy(&from.text)],
            };
            (described, Some(from.text.clone()))
        }
    }
}

fn otherwise(missing: &Missing) -> &'static str {
    match missing {
        Missing::Quarantine => "",
        Missing::Null => ", NULL if it was not migrated",
        Missing::Default(_) => ", a default if it was not migrated",
    }
}

fn one(words: String, sql: Option<&Sql>) -> (Described, Option<String>) {
    let described = Described {
        words,
        expressions: sql.iter().map(|sql| tidy(&sql.text)).collect(),
    };
    (described, sql.map(|sql| sql.text.clone()))
}

/// SQL in one line, where that doesn't change what it means.
fn tidy(sql: &str) -> String {
    if sql.contains("--") || sql.contains('\'') {
        return sql.trim().to_owned();
    }
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}
