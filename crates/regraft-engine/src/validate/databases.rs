//! One unchanging view of each database, for as long as a validation takes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use regraft_pg::catalog::Catalog;
use regraft_pg::{Session, SessionOptions, quote};
use tokio_postgres::Statement;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::snapshot::Snapshot;

/// Both databases. Everything is read from the views; the sessions beside them answer questions
/// about types, where a refusal must not end a view.
pub(super) struct Databases<'a> {
    context: &'a Context,
    /// Holds the view of the source and runs nothing in it: an expression that the source refuses
    /// ends only the session that asked.
    source_view: Snapshot,
    /// The view of the target, for one stream at a time.
    pub(super) target: Session,
    /// The same view, for lookups while a stream is open.
    pub(super) lookup: Session,
    spare: Mutex<Option<Session>>,
    source_beside: Session,
    target_beside: Session,
    /// What the target declares.
    pub(super) catalog: Catalog,
}

impl<'a> Databases<'a> {
    /// Connects to both and fixes the views.
    ///
    /// # Errors
    /// A server that can't be reached; a target without a ledger ([`Kind::Usage`]).
    pub(super) async fn open(context: &'a Context) -> Result<Self> {
        let target = read_target(context).await?;
        let lookup = read_target(context).await?;
        let target_beside = read_target(context).await?;
        let source_beside = context.connect_source().await?;
        require_ledger(&target_beside).await?;
        let source_view = Snapshot::take(context).await?;
        target
            .batch_execute("begin transaction isolation level repeatable read, read only")
            .await?;
        let id: String = target
            .query_one("select pg_export_snapshot()", &[])
            .await?
            .get(0);
        let join = format!(
            "begin transaction isolation level repeatable read, read only; set transaction snapshot {}",
            quote::literal(&id)
        );
        lookup.batch_execute(&join).await?;
        for session in [&target, &lookup] {
            // The mappings are joined by hash; with the usual 4 MB a million of them would go
            // through files.
            session.batch_execute("set local work_mem = '64MB'").await?;
        }
        let catalog = Catalog::read(&*target_beside, &[]).await?;
        let spare = Mutex::default();
        Ok(Self {
            context,
            source_view,
            target,
            lookup,
            spare,
            source_beside,
            target_beside,
            catalog,
        })
    }

    /// A session in the view of the source; whoever is done with it gives it back.
    pub(super) async fn source(&self) -> Result<Session> {
        if let Some(session) = self.spare().take() {
            return Ok(session);
        }
        self.source_view.join(self.context).await
    }

    /// Keeps a session for the next one who asks. One that ran into an error is of no more use.
    pub(super) fn give_back(&self, session: Session) {
        *self.spare() = Some(session);
    }

    fn spare(&self) -> MutexGuard<'_, Option<Session>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source's description of a query, or why it refuses it.
    pub(super) async fn describe_source(&self, query: &str) -> Result<Result<Statement, String>> {
        describe(&self.source_beside, query).await
    }

    /// The target's description of a query, or why it refuses it.
    pub(super) async fn describe_target(&self, query: &str) -> Result<Result<Statement, String>> {
        describe(&self.target_beside, query).await
    }

    /// A session for constants: the target reads them as it would read what is written to it.
    pub(super) fn beside_target(&self) -> &Session {
        &self.target_beside
    }
}

async fn read_target(context: &Context) -> Result<Session> {
    Ok(Session::connect(&context.target, &SessionOptions::reading("regraft")).await?)
}

async fn require_ledger(target: &Session) -> Result<()> {
    if regraft_ledger::installed_version(&**target)
        .await?
        .is_some()
    {
        return Ok(());
    }
    Err(nothing_migrated())
}

/// There is nothing to validate.
pub(super) fn nothing_migrated() -> Error {
    Error::new(
        Kind::Usage,
        "there is nothing to validate: none of these entities was migrated to this target",
    )
    .hint("see `regraft status`; migrate them with `regraft migrate`, or check TARGET_DB_NAME")
}

/// Asks a server about a query; the inner error is the server's refusal.
async fn describe(session: &Session, query: &str) -> Result<Result<Statement, String>> {
    match session.prepare(query).await {
        Ok(statement) => Ok(Ok(statement)),
        Err(error) => {
            let error = session.error(error);
            match error.sqlstate() {
                Some(_) => Ok(Err(error.message().to_owned())),
                None => Err(error.into()),
            }
        }
    }
}
