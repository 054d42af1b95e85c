//! The rules of an entity's columns in words, with the place where each is written.

use std::collections::BTreeSet;

use regraft_project::{KeyStrategy, Missing, Project, Provenance, Rule, Span, Sql};

use super::document::{ColumnRecord, ColumnVerdict};
use crate::validate::declared::json_object;
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
        if column.provenance == Provenance::Copied {
            rule.record.rule = "the column as it is".to_owned();
        }
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
                words: "a JSON object".to_owned(),
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

/// SQL in one line: blanks and line ends outside of quotes are one blank. With a comment in it, it
/// stays as it is.
fn tidy(sql: &str) -> String {
    if sql.contains("--") {
        return sql.trim().to_owned();
    }
    let (mut out, mut quote) = (String::with_capacity(sql.len()), None);
    for c in sql.trim().chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out.replace(" )", ")")
}

/// Every identifier in the SQL that an entity reads its rows with, in lower case. Names that only
/// occur in texts are among them, which does no harm.
pub(super) fn names_read(subject: &Subject<'_>) -> BTreeSet<String> {
    let entity = subject.entity;
    let source = &entity.source;
    let mut texts: Vec<String> = vec![source.key.text.clone()];
    texts.extend(source.filters.iter().map(|filter| filter.keep.text.clone()));
    if let Some(merge) = &source.merge {
        texts.extend(
            merge
                .by
                .iter()
                .chain(&merge.when)
                .map(|sql| sql.text.clone()),
        );
    }
    texts.extend(key_rule(&entity.target.key.strategy, &source.key).1);
    for column in &entity.columns {
        let (described, sql) = column_rule(&column.rule);
        texts.extend(described.expressions);
        texts.extend(sql);
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    texts
        .iter()
        .flat_map(|text| text.split(move |c| !word(c)))
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn sql_is_told_in_one_line_with_its_texts_as_they_are() {
        assert_eq!(
            tidy("a\n  ||  'x  y'\n || \"b  c\"\n"),
            "a || 'x  y' || \"b  c\""
        );
        assert_eq!(tidy("f('it''s  so',\n a\n)"), "f('it''s  so', a)");
        assert_eq!(tidy("a -- not\n b"), "a -- not\n b");
    }
}
