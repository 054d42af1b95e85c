//! `regraft validate`

use regraft_engine::{Result, validate, validate_final};

use crate::arguments::ValidateArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, select};
use crate::progress::Step;
use crate::views::validation;

/// Proves from both databases that what was migrated is complete and right.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &ValidateArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, false)?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    let step = Step::begin(&invocation.printer, "comparing both databases");
    context.events = step.events();
    let found = if arguments.whole {
        validate_final(&context).await?
    } else {
        validate(&context, &selection).await?
    };
    drop(step);
    invocation
        .printer
        .report(&found, |width| validation::render(&found, width));
    Ok(if found.passed {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}
