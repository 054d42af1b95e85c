//! Looking at the quarantine, and taking rows out of it for good.

use regraft_ledger::{
    DropCount, DropPreview, QuarantineFilter, QuarantineRow, ReasonCount, RedriveFilter,
};

use crate::context::Context;
use crate::error::Result;
use crate::migrate::{install_ledger, lock};
use crate::receipt::require_ledger;
use crate::{transaction, unfinished};

/// Rows that are read at once for an export.
const AT_ONCE: i64 = 2_000;

/// Rows of the quarantine.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn quarantine(
    context: &Context,
    filter: &QuarantineFilter,
) -> Result<Vec<QuarantineRow>> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    Ok(regraft_ledger::list_quarantine(&*target, filter).await?)
}

/// The quarantine by entity and reason.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn quarantine_summary(context: &Context) -> Result<Vec<ReasonCount>> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    Ok(regraft_ledger::quarantine_summary(&*target).await?)
}

/// A row in quarantine with what waits for it.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn quarantined_row(
    context: &Context,
    filter: &QuarantineFilter,
) -> Result<Option<(QuarantineRow, Vec<DropCount>)>> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let mut rows = regraft_ledger::list_quarantine(&*target, filter).await?;
    let Some(row) = rows.pop() else {
        return Ok(None);
    };
    let behind = regraft_ledger::behind_quarantined(&*target, &row.entity, &row.legacy_id).await?;
    Ok(Some((row, behind)))
}

/// Gives rows of the quarantine with their values to `take`, so many at a time, and before that the
/// names of all their values. How many rows.
///
/// # Errors
/// A target that can't be reached, or without a ledger; what `take` says.
pub async fn export_quarantine(
    context: &Context,
    filter: &RedriveFilter,
    mut take: impl FnMut(&[String], &[QuarantineRow]) -> Result<()>,
) -> Result<u64> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let columns = regraft_ledger::quarantine_value_columns(&*target, filter).await?;
    let (mut after, mut rows) = (0, 0);
    loop {
        let page = regraft_ledger::quarantine_page(&*target, filter, after, AT_ONCE).await?;
        let Some(last) = page.last() else {
            return Ok(rows);
        };
        after = last.id;
        rows += page.len() as u64;
        take(&columns, &page)?;
    }
}

/// What dropping open rows of the quarantine would mean.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn preview_drop(context: &Context, filter: &RedriveFilter) -> Result<DropPreview> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    Ok(regraft_ledger::drop_quarantine_preview(&*target, filter).await?)
}

/// Drops open rows of the quarantine: no migration moves them any more, and they still count under
/// their bucket. How many.
///
/// # Errors
/// An unfinished run ([`crate::Kind::Usage`]); another process at work.
pub async fn drop_quarantine(
    context: &Context,
    filter: &RedriveFilter,
    note: Option<&str>,
) -> Result<u64> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    install_ledger(&target, false).await?;
    lock(context, &target).await?;
    unfinished::refuse_others(&target, &context.project, "").await?;
    transaction::run(&target, false, async || {
        Ok(regraft_ledger::drop_quarantine(&*target, filter, note).await?)
    })
    .await
}
