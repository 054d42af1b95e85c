//! Removing records of what is over from the ledger.

use regraft_ledger::Pruned;

use crate::context::Context;
use crate::error::Result;
use crate::migrate::{install_ledger, lock};
use crate::receipt::require_ledger;
use crate::transaction;

/// Removes records of what ended more than `days` days ago and nothing leans on; with `rehearse` says
/// what would be removed, and removes nothing. One process writes to a target at a time: while a run
/// is at work this is refused.
///
/// # Errors
/// [`Kind::Busy`](crate::Kind::Busy) while a run is at work; a target without a ledger, or that can't be
/// reached.
pub async fn prune_ledger(context: &Context, days: f64, rehearse: bool) -> Result<Pruned> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    install_ledger(&target, false).await?;
    lock(context, &target).await?;
    let marks: Vec<(String, String)> = context
        .project
        .entities()
        .iter()
        .filter_map(|entity| {
            let deleted = entity.changes.deleted.as_ref()?;
            Some((entity.name.clone(), deleted.column.value.clone()))
        })
        .collect();
    if rehearse {
        target.batch_execute("begin").await?;
        let pruned = regraft_ledger::prune(&*target, days, &marks).await;
        target.batch_execute("rollback").await?;
        return Ok(pruned?);
    }
    transaction::run(&target, false, async || {
        Ok(regraft_ledger::prune(&*target, days, &marks).await?)
    })
    .await
}
