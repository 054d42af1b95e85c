//! Reading single values of one row, each in its text form.

use regraft_pg::quote::{ident, literal};
use regraft_pg::{ErrorKind, Session};
use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

use super::document::{ColumnValue, Reading, TargetRow};
use crate::error::Result;
use crate::validate::extent::Extent;
use crate::validate::subject::Subject;

/// Where values of the row come from in the source.
pub(super) struct SourceReader<'a> {
    pub(super) session: &'a Session,
    pub(super) subject: &'a Subject<'a>,
    pub(super) extent: &'a Extent,
}

impl SourceReader<'_> {
    /// What an expression gives for the row; none where there is no row.
    pub(super) async fn value(&self, expression: &str) -> Result<Option<Reading>> {
        let query = self
            .subject
            .unfiltered_query(&format!("({expression}\n)::text"), self.extent);
        let rows = guarded(self.session, &query).await?;
        Ok(match rows {
            Err(state) => Some(Reading {
                value: None,
                fails_with: Some(state),
            }),
            Ok(rows) => rows.into_iter().next().map(|row| Reading {
                value: row.into_iter().next().and_then(|column| column.value),
                fails_with: None,
            }),
        })
    }

    /// Every column of the FROM list.
    pub(super) async fn whole_row(&self) -> Result<Vec<ColumnValue>> {
        let query = self.subject.unfiltered_query("*", self.extent);
        let rows = guarded(self.session, &query).await?.unwrap_or_default();
        Ok(rows.into_iter().next().unwrap_or_default())
    }
}

/// The rows of a query inside the session's transaction, which goes on when the server can't compute
/// one of them: then it is the SQLSTATE. The server's words are not kept, because they hold values.
async fn guarded(
    session: &Session,
    query: &str,
) -> Result<std::result::Result<Vec<Vec<ColumnValue>>, String>> {
    session.batch_execute("savepoint regraft_value").await?;
    let answer = session.simple_query(query).await;
    match answer {
        Ok(messages) => {
            session
                .batch_execute("release savepoint regraft_value")
                .await?;
            Ok(Ok(rows(&messages)))
        }
        Err(error) => {
            let error = session.error(error);
            let state = error.sqlstate().map(str::to_owned);
            match state {
                Some(state) if error.kind() != ErrorKind::Permission => {
                    session
                        .batch_execute("rollback to savepoint regraft_value")
                        .await?;
                    Ok(Err(state))
                }
                _ => Err(error.into()),
            }
        }
    }
}

fn rows(messages: &[SimpleQueryMessage]) -> Vec<Vec<ColumnValue>> {
    let of = |message: &SimpleQueryMessage| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        let columns = row.columns().iter().enumerate();
        Some(
            columns
                .map(|(at, column)| ColumnValue {
                    column: column.name().to_owned(),
                    value: row.get(at).map(str::to_owned),
                })
                .collect(),
        )
    };
    messages.iter().filter_map(of).collect()
}

/// The row of the target under a key.
pub(super) async fn target_row(
    target: &Session,
    subject: &Subject<'_>,
    key: Uuid,
) -> Result<Option<TargetRow>> {
    let condition = format!(
        "t.{} = {}::uuid",
        subject.key_column(),
        literal(&key.to_string())
    );
    Ok(target_rows(target, subject, &condition)
        .await?
        .into_iter()
        .next())
}

/// The rows of the target that name a legacy id.
pub(super) async fn rows_that_name(
    target: &Session,
    subject: &Subject<'_>,
    legacy_id: &str,
) -> Result<Vec<TargetRow>> {
    match subject.legacy_column() {
        Some(column) if subject.fillers.len() == 1 => {
            let condition = format!("t.{}::text = {}", ident(column), literal(legacy_id));
            target_rows(target, subject, &condition).await
        }
        _ => Ok(Vec::new()),
    }
}

async fn target_rows(
    target: &Session,
    subject: &Subject<'_>,
    condition: &str,
) -> Result<Vec<TargetRow>> {
    if subject.table.is_none() {
        return Ok(Vec::new());
    }
    let query = format!(
        "select t.xmin::text as regraft_xmin, t.{}::text as regraft_key, t.* from {} t where {condition} limit 5",
        subject.key_column(),
        subject.table_name
    );
    let messages = target
        .simple_query(&query)
        .await
        .map_err(|error| target.error(error))?;
    Ok(rows(&messages)
        .into_iter()
        .filter_map(|mut values| {
            let rest = values.split_off(2.min(values.len()));
            let [transaction, key] = <[ColumnValue; 2]>::try_from(values).ok()?;
            Some(TargetRow {
                key: Uuid::try_parse(&key.value?).ok()?,
                transaction: transaction.value.unwrap_or_default(),
                values: rest,
            })
        })
        .collect())
}
