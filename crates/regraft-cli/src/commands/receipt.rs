//! `regraft receipt`

use regraft_engine::{Result, receipt};

use crate::arguments::ReceiptArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::views;

/// Prints the account of a run.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &ReceiptArguments,
) -> Result<ExitStatus> {
    let context = invocation.context(&invocation.open()?, Needs::Target)?;
    let receipt = receipt(&context, &arguments.run).await?;
    invocation
        .printer
        .report(&receipt, |width| views::receipt::render(&receipt, width));
    Ok(ExitStatus::Done)
}
