//! One unchanging view of each database, for as long as a validation takes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regraft_pg::catalog::Catalog;
use regraft_pg::{Session, SessionOptions};
use regraft_project::Entity;
use serde::{Deserialize, Serialize};
use tokio_postgres::Statement;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::snapshot::{Snapshot, see};

/// Both databases. Everything is read from the views; the sessions beside them answer questions
/// about types, where a refusal must not end a view.
pub(super) struct Databases<'a> {
    context: &'a Context,
    limit: Option<Duration>,
    /// Holds the view of the source and runs nothing in it: an expression that the source refuses
    /// ends only the session that asked.
    source_view: Snapshot,
    /// The name of the target's view.
    target_view: String,
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
    /// Connects to both and fixes the views. No statement in them takes longer than `limit`.
    ///
    /// # Errors
    /// A server that can't be reached; a target without a ledger ([`Kind::Usage`]).
    pub(super) async fn open(context: &'a Context, limit: Option<Duration>) -> Result<Self> {
        Self::open_in(context, limit, None).await
    }

    /// Connects to both in views that another process holds.
    ///
    /// # Errors
    /// Those of [`Self::open`]; views that are gone.
    pub(super) async fn join(
        context: &'a Context,
        limit: Option<Duration>,
        views: &Views,
    ) -> Result<Self> {
        Self::open_in(context, limit, Some(views)).await
    }

    async fn open_in(
        context: &'a Context,
        limit: Option<Duration>,
        views: Option<&Views>,
    ) -> Result<Self> {
        let target = read_target(context).await?;
        let lookup = read_target(context).await?;
        let target_beside = read_target(context).await?;
        let source_beside = context.connect_source().await?;
        require_ledger(&target_beside).await?;
        for session in [&source_beside, &target_beside] {
            // Outside a transaction: for the whole session.
            let limit = time_limit(limit).replace("set local", "set");
            session.batch_execute(&limit).await?;
        }
        let source = context.connect_source().await?;
        let (source_view, target_view) = match views {
            Some(views) => {
                see(&target, &views.target).await?;
                (
                    Snapshot::joined(source, &views.source).await?,
                    views.target.clone(),
                )
            }
            None => (Snapshot::take(source).await?, export(&target).await?),
        };
        see(&lookup, &target_view).await?;
        for session in [&target, &lookup] {
            // The mappings are joined by hash; with the usual 4 MB a million of them would go
            // through files.
            session.batch_execute("set local work_mem = '64MB'").await?;
            session.batch_execute(&time_limit(limit)).await?;
        }
        let catalog = Catalog::read(&*target_beside, &[]).await?;
        let spare = Mutex::default();
        Ok(Self {
            context,
            limit,
            source_view,
            target_view,
            target,
            lookup,
            spare,
            source_beside,
            target_beside,
            catalog,
        })
    }

    /// The names by which others join the views.
    pub(super) fn views(&self) -> Views {
        Views {
            source: self.source_view.id().to_owned(),
            target: self.target_view.clone(),
        }
    }

    /// A session in the view of the source; whoever is done with it gives it back.
    pub(super) async fn source(&self) -> Result<Session> {
        if let Some(session) = self.spare().take() {
            return Ok(session);
        }
        let session = self.source_view.join(self.context).await?;
        session.batch_execute(&time_limit(self.limit)).await?;
        Ok(session)
    }

    /// How many rows an entity's source query gives, before filters.
    pub(super) async fn count_source(&self, entity: &Entity) -> Result<u64> {
        let source = self.source().await?;
        let query = format!("select count(*) from {}\n", entity.source.from.text);
        let rows: i64 = source.query_one(&query, &[]).await?.get(0);
        self.give_back(source);
        Ok(rows.unsigned_abs())
    }

    /// The version of the older of both servers, as a number: 150018 is 15.18.
    pub(super) fn oldest_version(&self) -> u32 {
        let versions = self.beside().map(Session::server_version_num);
        versions[0].min(versions[1])
    }

    /// Whether the bytes of equal texts are equal in both.
    pub(super) async fn have_one_encoding(&self) -> Result<bool> {
        let mut encodings: Vec<String> = Vec::new();
        for session in self.beside() {
            let query = "select pg_catalog.current_setting('server_encoding')";
            encodings.push(session.query_one(query, &[]).await?.get(0));
        }
        Ok(encodings[0] == encodings[1])
    }

    /// The sessions outside the views, source first.
    pub(super) fn beside(&self) -> [&Session; 2] {
        [&self.source_beside, &self.target_beside]
    }

    /// Marks the place in the view of the target to which [`Self::recover`] goes back.
    pub(super) async fn mark(&self) -> Result<()> {
        for session in [&self.target, &self.lookup] {
            session.batch_execute("savepoint regraft_entity").await?;
        }
        Ok(())
    }

    /// Makes the view of the target usable again after a statement in it was refused.
    pub(super) async fn recover(&self) -> Result<()> {
        for session in [&self.target, &self.lookup] {
            session
                .batch_execute("rollback to savepoint regraft_entity")
                .await?;
        }
        Ok(())
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

    /// A session beside the view of the source, for questions about queries.
    pub(super) fn beside_source(&self) -> &Session {
        &self.source_beside
    }

    /// A session for constants: the target reads them as it would read what is written to it.
    pub(super) fn beside_target(&self) -> &Session {
        &self.target_beside
    }
}

/// Views that a process holds, by the names of their snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Views {
    source: String,
    target: String,
}

/// Fixes the view of a session; its name.
async fn export(session: &Session) -> Result<String> {
    session
        .batch_execute("begin transaction isolation level repeatable read, read only")
        .await?;
    let row = session
        .query_one("select pg_export_snapshot()", &[])
        .await?;
    Ok(row.get(0))
}

/// The statement that keeps every later one of the transaction within a limit; none for none.
fn time_limit(limit: Option<Duration>) -> String {
    limit.map_or_else(String::new, |limit| {
        format!("set local statement_timeout = {}", limit.as_millis().max(1))
    })
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
