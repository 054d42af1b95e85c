//! Asking the ledger, so that whoever looks is never kept waiting for long.

use std::time::Duration;

use regraft_engine::{Context, Result};
use regraft_ledger::Observed;
use regraft_pg::Session;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long the ledger may take to answer.
const LIMIT: Duration = Duration::from_secs(3);

/// A connection of its own that is kept from one time to the next.
pub(super) struct Asked {
    context: Context,
    session: Mutex<Option<Session>>,
}

impl Asked {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            session: Mutex::new(None),
        }
    }

    /// What the ledger says; `None` where it isn't there, can't be reached, or takes too long.
    pub(super) async fn observed(&self) -> Option<Observed> {
        let work = async {
            let mut kept = self.session.lock().await;
            let session = match kept.take() {
                Some(session) if !session.is_closed() => session,
                _ => self.connected().await.ok()?,
            };
            let observed = regraft_ledger::observe(&*session).await.ok()?;
            // A connection that was given up on is not used again: its answer may still come.
            *kept = Some(session);
            Some(observed)
        };
        timeout(LIMIT, work).await.ok().flatten()
    }

    async fn connected(&self) -> Result<Session> {
        let session = self.context.connect_target().await?;
        // Given up by the server too, where nobody waits for the answer any more.
        session
            .batch_execute("set statement_timeout = '3s'; set default_transaction_read_only = on")
            .await?;
        Ok(session)
    }
}
