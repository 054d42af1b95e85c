//! Asking the source what type an expression has, and where it is wrong.

use regraft_pg::Session;
use regraft_project::{Entity, Problem, Problems, Sql};
use tokio_postgres::types::Type;

use super::fields::cast;
use super::transfer::{base, integer_width, is_text};
use crate::error::Result;

/// What the source says of an expression.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) of: Type,
    pub(crate) modifier: i32,
}

/// Asks the source for the types of expressions over a FROM list; problems are reported at the
/// expression, with the position PostgreSQL gives.
pub(crate) async fn describe(
    source: &Session,
    from: &Sql,
    expressions: &[&Sql],
    problems: &mut Problems,
) -> Result<Vec<Option<Described>>> {
    let list: Vec<String> = expressions.iter().map(|e| cast(&e.text, None)).collect();
    let all = format!("select {} from {}\n", list.join(", "), from.text);
    if let Ok(statement) = source.prepare(&all).await {
        return Ok(statement
            .columns()
            .iter()
            .map(|c| {
                Some(Described {
                    of: c.type_().clone(),
                    modifier: c.type_modifier(),
                })
            })
            .collect());
    }
    let mut described = Vec::with_capacity(expressions.len());
    let mut from_reported = false;
    for expression in expressions {
        let head = "select (";
        let sql = format!("{head}{}\n) from {}\n", expression.text, from.text);
        match source.prepare(&sql).await {
            Ok(statement) => described.push(statement.columns().first().map(|c| Described {
                of: c.type_().clone(),
                modifier: c.type_modifier(),
            })),
            Err(e) => {
                described.push(None);
                let error = source.error(e);
                // No fault of the expression: every other one would meet it too.
                if error.sqlstate().is_none() || error.kind() == regraft_pg::ErrorKind::Permission {
                    return Err(error.into());
                }
                let position = error.position().map_or(0, |p| p as usize).saturating_sub(1);
                let length = expression.text.chars().count();
                let in_expression = position.saturating_sub(head.len()) <= length;
                let (sql, offset) = if in_expression {
                    (*expression, position.saturating_sub(head.len()))
                } else {
                    (
                        from,
                        position.saturating_sub(head.len() + length + ") from ".len() + 1),
                    )
                };
                if !in_expression {
                    if from_reported {
                        continue;
                    }
                    from_reported = true;
                }
                problems.push(
                    Problem::error(
                        "source::expression",
                        format!("the source refuses this: {}", error.message()),
                    )
                    .at(sql.span_at(offset, 1))
                    .label("here, says PostgreSQL"),
                );
            }
        }
    }
    Ok(described)
}

/// Whether an entity's legacy ids are numbers; `None` when they can't be used.
pub(crate) async fn key_kind(
    source: &Session,
    entity: &Entity,
    problems: &mut Problems,
) -> Result<Option<bool>> {
    let described = describe(source, &entity.source.from, &[&entity.source.key], problems).await?;
    let Some(Some(key)) = described.into_iter().next() else {
        return Ok(None);
    };
    if integer_width(&key.of).is_some() {
        return Ok(Some(true));
    }
    if is_text(&key.of) || *base(&key.of) == Type::UUID {
        return Ok(Some(false));
    }
    problems.push(
        Problem::error("source::key-type", format!("a key of type {} can't be used", key.of.name()))
            .at(entity.source.key.span)
            .hint("a key is a smallint, integer, bigint, text, varchar or uuid; cast it, for example to text"),
    );
    Ok(None)
}
