//! `regraft backfill`

use regraft_engine::{Result, backfill};

use crate::arguments::BackfillArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::progress::Doing;
use crate::views::backfill as view;

/// Fills columns of rows that are in place, and tells what was written and what was left.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &BackfillArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    super::quarantine::known(&opened.project, &arguments.entity)?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    if arguments.dry_run {
        context.events = invocation.events(Doing::Rehearsing);
    }
    let done = backfill(
        &context,
        &arguments.entity,
        &arguments.columns,
        arguments.dry_run,
    )
    .await?;
    let printer = &invocation.printer;
    printer.report(&done, |width| view::render(&done, width));
    let left = done.account.detail.changed_in_target > 0 || !done.account.detail.reasons.is_empty();
    if !arguments.dry_run {
        let validate = format!("regraft validate {}", arguments.entity);
        printer.next_steps(&[(validate, "prove it from both databases")]);
    }
    Ok(if left {
        ExitStatus::Findings
    } else {
        ExitStatus::Done
    })
}
