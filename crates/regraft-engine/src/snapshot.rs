//! One consistent view of the source for everything that a run reads.

use std::sync::Arc;

use regraft_pg::Session;

use crate::context::Context;
use crate::error::Result;

/// A snapshot of the source, held open by its own connection and shared with others.
pub(crate) struct Snapshot {
    /// The connection that holds it; also reads through it.
    pub(crate) session: Arc<Session>,
    id: String,
    /// `pg_current_snapshot()` of it, for the record.
    pub(crate) position: String,
}

impl Snapshot {
    /// Takes a snapshot.
    pub(crate) async fn take(context: &Context) -> Result<Self> {
        let session = context.connect_source().await?;
        session
            .batch_execute("begin transaction isolation level repeatable read, read only")
            .await?;
        let row = session
            .query_one(
                "select pg_export_snapshot(), pg_current_snapshot()::text",
                &[],
            )
            .await?;
        Ok(Self {
            id: row.get(0),
            position: row.get(1),
            session: Arc::new(session),
        })
    }

    /// Another connection that sees the same.
    pub(crate) async fn join(&self, context: &Context) -> Result<Session> {
        let session = context.connect_source().await?;
        session
            .batch_execute(&format!(
                "begin transaction isolation level repeatable read, read only; \
                 set transaction snapshot {}",
                regraft_pg::quote::literal(&self.id)
            ))
            .await?;
        Ok(session)
    }
}
