//! One consistent view of the source for everything that a run reads.

use std::sync::Arc;

use regraft_pg::Session;

use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// A snapshot of the source, held open by its own connection and shared with others.
pub(crate) struct Snapshot {
    /// The connection that holds it; also reads through it.
    pub(crate) session: Arc<Session>,
    id: String,
    /// `pg_current_snapshot()` of it, for the record.
    pub(crate) position: String,
    /// Transactions of others that were open just before it was taken; `None` where that can't be
    /// known.
    pub(crate) open: Option<Vec<String>>,
}

impl Snapshot {
    /// Takes a snapshot over a connection to the source.
    pub(crate) async fn take(session: Session) -> Result<Self> {
        let open = open_transactions(&session).await?;
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
            open,
            session: Arc::new(session),
        })
    }

    /// The name by which others join it, on this host or on another.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// A snapshot that another process holds, joined by a connection to the source.
    pub(crate) async fn joined(session: Session, id: &str) -> Result<Self> {
        see(&session, id).await?;
        let row = session
            .query_one("select pg_current_snapshot()::text", &[])
            .await?;
        Ok(Self {
            id: id.to_owned(),
            position: row.get(0),
            open: None,
            session: Arc::new(session),
        })
    }

    /// Another connection that sees the same.
    pub(crate) async fn join(&self, context: &Context) -> Result<Session> {
        let session = context.connect_source().await?;
        see(&session, &self.id).await?;
        Ok(session)
    }
}

/// Lets a connection see what a snapshot shows.
///
/// # Errors
/// [`Kind::Unreachable`] when nobody holds it any more.
pub(crate) async fn see(session: &Session, id: &str) -> Result<()> {
    let seen = session
        .batch_execute(&format!(
            "begin transaction isolation level repeatable read, read only; \
             set transaction snapshot {}",
            regraft_pg::quote::literal(id)
        ))
        .await;
    let Err(error) = seen else { return Ok(()) };
    let error = session.error(error);
    // ImportSnapshot (snapmgr.c): there is no file of that name.
    if error.sqlstate() == Some("22023") {
        return Err(Error::new(
            Kind::Unreachable,
            format!(
                "the snapshot that is read is not there on the {}: the process that holds it has ended, or this is another server",
                session.side()
            ),
        )
        .hint("run the same command again; let all workers reach the same servers"));
    }
    Err(error.into())
}

/// The virtual ids of all transactions that others have open in this database, and its prepared ones.
/// A process without a user, such as autovacuum, writes no rows of anybody's.
/// Everybody may read these; a standby doesn't know those of its primary.
async fn open_transactions(session: &Session) -> Result<Option<Vec<String>>> {
    let row = session
        .query_one(
            &format!(
                "select pg_is_in_recovery(), array(
                   select virtualtransaction from pg_locks l
                   where locktype = 'virtualxid' and pid is distinct from pg_backend_pid()
                     and not exists (select from pg_stat_activity a
                                     where a.pid = l.pid
                                       and (a.datname <> current_database() or a.usesysid is null))
                   union select '{}' || transaction::text from pg_prepared_xacts
                   where database = current_database() order by 1)",
                crate::differential::PREPARED
            ),
            &[],
        )
        .await?;
    let is_standby: bool = row.get(0);
    Ok((!is_standby).then(|| row.get(1)))
}
