//! `regraft ledger prune`

use regraft_engine::{Result, prune_ledger};

use crate::arguments::ledger::PruneArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::views::ledger as view;

/// Shows what would be removed, asks, and removes it.
pub(super) async fn prune(
    invocation: &Invocation,
    arguments: &PruneArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let context = invocation.context(&opened, Needs::Target)?;
    let printer = &invocation.printer;
    let days = arguments.days;
    if !arguments.yes {
        let preview = prune_ledger(&context, days, true).await?;
        if preview.is_nothing() {
            printer.report(&preview, |_| view::pruned(&preview, days));
            return Ok(ExitStatus::Done);
        }
        printer.note(view::preview(&preview, days));
        printer.confirm(
            "Remove these records?",
            "records that are removed don't come back",
            "nothing was removed",
        )?;
    }
    let pruned = prune_ledger(&context, days, false).await?;
    printer.report(&pruned, |_| view::pruned(&pruned, days));
    Ok(ExitStatus::Done)
}
