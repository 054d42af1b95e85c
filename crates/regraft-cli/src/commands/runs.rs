//! `regraft runs`

use regraft_engine::{Result, runs};

use crate::arguments::RunsArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::views;

/// Lists what was run.
pub(super) async fn run(invocation: &Invocation, arguments: &RunsArguments) -> Result<ExitStatus> {
    let context = invocation.context(&invocation.open()?, Needs::Target)?;
    let runs = runs(&context, arguments.limit).await?;
    let now = jiff::Timestamp::now();
    invocation
        .printer
        .report(&runs, |width| views::runs::render(&runs, now, width));
    if let Some(latest) = runs.first() {
        invocation
            .printer
            .next_steps(&[(format!("regraft receipt {}", latest.run_id), "its account")]);
    }
    Ok(ExitStatus::Done)
}
