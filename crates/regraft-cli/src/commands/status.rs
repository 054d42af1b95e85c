//! `regraft status`

use regraft_engine::{Result, Status, status};

use crate::arguments::StatusArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, select};
use crate::views;

/// Prints how far each entity is.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &StatusArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, false)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let status = status(&context, &selection).await?;
    invocation
        .printer
        .report(&status, |width| views::status::render(&status, width));
    invocation.printer.next_steps(&next_steps(&status));
    Ok(ExitStatus::Done)
}

fn next_steps(status: &Status) -> Vec<(String, &'static str)> {
    let mut steps = Vec::new();
    for run in status.unfinished.iter().filter(|run| !run.working) {
        steps.push((run.finish.clone(), "go on where it stopped"));
    }
    if !status.ledger_installed {
        steps.push(("regraft plan".to_owned(), "what a migration would do"));
    }
    if status.entities.iter().any(|entity| entity.quarantined > 0) {
        steps.push((
            "regraft quarantine list".to_owned(),
            "the rows that stayed behind, and why",
        ));
    }
    steps
}
