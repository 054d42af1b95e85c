//! `regraft schema apply` and `regraft schema diff`

use regraft_engine::{Result, apply_schema, diff_schema};

use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::views::schema;

/// Creates the target schema.
pub(super) async fn apply(invocation: &Invocation) -> Result<ExitStatus> {
    let context = invocation.context(&invocation.open()?, Needs::Target)?;
    let applied = apply_schema(&context).await?;
    invocation
        .printer
        .report(&applied, |_| schema::applied(&applied));
    invocation.printer.next_steps(&[
        (
            "regraft check".to_owned(),
            "the project against both catalogs",
        ),
        ("regraft plan".to_owned(), "what a migration would do"),
    ]);
    Ok(ExitStatus::Done)
}

/// Compares the target schema with the live target.
pub(super) async fn diff(invocation: &Invocation) -> Result<ExitStatus> {
    let context = invocation.context(&invocation.open()?, Needs::Target)?;
    let diff = diff_schema(&context).await?;
    invocation
        .printer
        .report(&diff, |width| schema::differences(&diff, width));
    if diff.differences.is_empty() {
        return Ok(ExitStatus::Done);
    }
    Ok(ExitStatus::Findings)
}
