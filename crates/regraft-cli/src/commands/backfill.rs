//! `regraft backfill`

use regraft_engine::{BackfillOptions, Result, backfill};

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
    let options = BackfillOptions {
        columns: arguments.columns.clone(),
        policy: arguments.conflict_resolution,
        dry_run: arguments.dry_run,
    };
    let done = backfill(&context, &arguments.entity, &options).await?;
    let printer = &invocation.printer;
    printer.report(&done, |width| view::render(&done, width));
    if let Some(run) = &done.run_id {
        let validate = format!("regraft validate {}", arguments.entity);
        let mut steps = vec![(validate, "prove it from both databases")];
        if done.open > 0 {
            let list = format!("regraft conflicts list {}", arguments.entity);
            steps.insert(0, (list, "the rows that somebody has to decide on"));
        }
        if done.account.updated > 0 {
            let undo = format!("regraft rollback --run {run}");
            steps.push((undo, "undo exactly this run"));
        }
        printer.next_steps(&steps);
    }
    Ok(if done.open > 0 {
        ExitStatus::Findings
    } else {
        ExitStatus::Done
    })
}
