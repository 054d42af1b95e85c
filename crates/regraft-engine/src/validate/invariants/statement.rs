//! The two statements of an invariant, one for each database, from what the project says.

use regraft_pg::Session;
use regraft_project::{Invariant, InvariantForm, Missing, Problem, Project, Tolerance};
use tokio_postgres::types::{Kind as TypeKind, Type};

use super::pair;
use super::through_entity;
use crate::error::Result;

/// Groups that are compared at most. They are held in memory.
pub(super) const GROUPS: usize = 100_000;

/// Who is asked what a statement means, and what is known without asking.
pub(super) struct Servers<'a> {
    pub(super) project: &'a Project,
    /// A session of the source in which a refused statement does no harm.
    pub(super) source: &'a Session,
    /// One of the target.
    pub(super) target: &'a Session,
}

/// An invariant that both servers can compute.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) source: Statement,
    pub(super) target: Statement,
    /// What the columns of both are called, keys first.
    pub(super) names: Vec<String>,
    /// How many of them are the group's key.
    pub(super) keys: usize,
    /// For each figure whether it is a number.
    pub(super) numeric: Vec<bool>,
}

/// The statement of one side. All its columns are text.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    /// What its parameters are, from `$1` on; each is a `text[]`.
    pub(super) parameters: Vec<Parameter>,
    /// References of the source whose legacy ids are translated first.
    pub(super) translations: Vec<Translation>,
}

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameter {
    /// Legacy ids of an entity's rows that were not moved.
    LeftBehind(String),
    /// Legacy ids of a translation that stand for another one, or for nothing.
    Ids(usize),
    /// What they stand for, in the same order.
    Becomes(usize),
}

/// Legacy ids as the source has them, and what the target can have in their place.
#[derive(Debug)]
pub(super) struct Translation {
    /// The statement that gives each id once; `$1` are the rows left behind of `entity`.
    pub(super) distinct: String,
    /// The entity that refers.
    pub(super) entity: String,
    /// The entity that is referred to.
    pub(super) parent: String,
    /// What becomes of an id that was not moved.
    pub(super) missing: Missing,
}

/// What is wrong with an invariant.
pub(super) type Wrong = Vec<Problem>;

/// Both statements of an invariant, as the servers understand them; the inner error is what is
/// wrong with it.
///
/// # Errors
/// A connection that fails.
pub(super) async fn statements(
    servers: &Servers<'_>,
    invariant: &Invariant,
) -> Result<std::result::Result<Statements, Wrong>> {
    let statements = match &invariant.form {
        InvariantForm::Entity {
            entity,
            by,
            measures,
        } => through_entity::statements(servers, invariant, &entity.value, by, measures).await?,
        InvariantForm::Queries {
            source,
            target,
            keys,
            ..
        } => pair::statements(servers, invariant, source, target, *keys).await?,
    };
    Ok(statements.and_then(|statements| suits_tolerance(invariant, statements)))
}

/// A tolerance is for numbers.
fn suits_tolerance(
    invariant: &Invariant,
    statements: Statements,
) -> std::result::Result<Statements, Wrong> {
    if invariant.tolerance == Tolerance::Exact {
        return Ok(statements);
    }
    let figures = statements.names.iter().skip(statements.keys);
    let text = figures
        .zip(&statements.numeric)
        .find(|(_, numeric)| !**numeric);
    match text {
        None => Ok(statements),
        Some((name, _)) => Err(vec![
            Problem::error(
                "invariant::tolerance",
                format!("the tolerance is for numbers, and `{name}` is none"),
            )
            .at(invariant.name.span)
            .hint("leave the tolerance out, or make the figure a number"),
        ]),
    }
}

/// A server's refusal of a statement.
pub(in crate::validate) struct Refusal {
    pub(in crate::validate) message: String,
    /// The character it is about, from 0.
    pub(in crate::validate) position: Option<usize>,
}

/// A server's description of a statement, or its refusal.
///
/// # Errors
/// A connection that fails.
pub(in crate::validate) async fn describe(
    session: &Session,
    sql: &str,
) -> Result<std::result::Result<tokio_postgres::Statement, Refusal>> {
    match session.prepare(sql).await {
        Ok(statement) => Ok(Ok(statement)),
        Err(error) => {
            let error = session.error(error);
            if error.sqlstate().is_none() {
                return Err(error.into());
            }
            let position = error.position().map(|at| (at as usize).saturating_sub(1));
            Ok(Err(Refusal {
                message: error.message().to_owned(),
                position,
            }))
        }
    }
}

/// Whether values of a type are compared as numbers.
pub(super) fn is_number(of: &Type) -> bool {
    match of.kind() {
        TypeKind::Domain(inner) => is_number(inner),
        _ => matches!(
            *of,
            Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::NUMERIC
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::OID
        ),
    }
}

/// A value as text that is the same whenever the value is: numbers without trailing zeros.
pub(super) fn as_text(sql: &str, of: &Type) -> String {
    match of.kind() {
        TypeKind::Domain(inner) => as_text(sql, inner),
        _ if *of == Type::NUMERIC => format!("trim_scale({sql})::text"),
        _ => format!("{sql}::text"),
    }
}
