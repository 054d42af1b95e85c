//! Transactions on the target, with the places where a test may cut them.

use std::time::Duration;

use regraft_pg::Session;

use crate::context::Context;
use crate::error::Result;
use crate::events::Event;
use crate::failpoints;

/// Runs `work` in a transaction: committed when it succeeds, rolled back when it doesn't. `nested`
/// makes it a savepoint of a transaction that the caller holds open (a dry run).
///
/// # Errors
/// What `work` returns, or what the server says to the commit. After a connection that was lost
/// during the commit only the ledger knows whether it was carried out.
pub(crate) async fn run<T>(
    target: &Session,
    nested: bool,
    work: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    beginning_with(target, nested, "", work).await
}

/// The same, again where the server has ended it because a transaction of others was in its way (a
/// deadlock, say), as often as the settings allow. `work` has to begin anew each time.
///
/// # Errors
/// Those of [`run`].
pub(crate) async fn run_again<T>(
    context: &Context,
    target: &Session,
    nested: bool,
    mut work: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut attempt = 0;
    loop {
        let error = match run(target, nested, async || work().await).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let passing = error.database().is_some_and(|e| e.is_transient());
        if !passing || target.is_closed() || attempt >= context.settings.retries {
            return Err(error);
        }
        attempt += 1;
        context.events.send(Event::Retried {
            entity: error.place().entity.clone(),
            batch: error.place().batch,
            text: format!(
                "{} (attempt {attempt} of {} follows)",
                error.message(),
                context.settings.retries
            ),
        });
        tokio::time::sleep(Duration::from_millis(50 << attempt.min(6))).await;
    }
}

/// [`run`] with statements that go to the server together with the one that begins it.
///
/// # Errors
/// Those of [`run`], and what the server says to the statements.
pub(crate) async fn beginning_with<T>(
    target: &Session,
    nested: bool,
    first: &str,
    work: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    let [begin, commit, rollback] = if nested {
        [
            "savepoint regraft",
            "release savepoint regraft",
            "rollback to savepoint regraft",
        ]
    } else {
        ["begin", "commit", "rollback"]
    };
    let begun = target.batch_execute(&format!("{begin}; {first}")).await;
    let done = match begun {
        Ok(()) => work().await,
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(value) => {
            failpoints::reach(failpoints::BEFORE_COMMIT)?;
            target.batch_execute(commit).await?;
            failpoints::reach(failpoints::COMMIT_ANSWER_LOST)?;
            failpoints::reach(failpoints::AFTER_COMMIT)?;
            Ok(value)
        }
        Err(error) => {
            if !target.is_closed() {
                target.batch_execute(rollback).await?;
            }
            Err(error)
        }
    }
}
