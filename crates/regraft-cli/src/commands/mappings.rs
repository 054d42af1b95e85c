//! `regraft mappings`

use regraft_engine::{Context, MappingsRebuilt, Result, merged_rows, rebuild_mappings};
use regraft_project::Selection;

use crate::arguments::{MappingsMergedArguments, MappingsRebuildArguments};
use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::{Invocation, Needs, select};
use crate::progress::Step;
use crate::views::mappings as view;

/// Lists merged rows, for review.
pub(super) async fn merged(
    invocation: &Invocation,
    arguments: &MappingsMergedArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, false)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let rows = merged_rows(&context, &selection, arguments.limit).await?;
    invocation
        .printer
        .report(&rows, |width| view::merged(&rows, arguments.limit, width));
    Ok(ExitStatus::Done)
}

/// Rebuilds mappings: the proof first, then the question, then the writing.
pub(super) async fn rebuild(
    invocation: &Invocation,
    arguments: &MappingsRebuildArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, false)?;
    let context = invocation.context(&opened, Needs::Both)?;
    if !(arguments.dry_run || arguments.yes) {
        let preview = work(invocation, &context, &selection, true).await?;
        if preview.nothing_to_do || !view::writes(&preview) {
            return Ok(report(invocation, &preview));
        }
        let text = view::render(&preview, invocation.printer.error_width());
        invocation.printer.note(text.trim_end());
        confirm(invocation, &preview)?;
    }
    let rebuilt = work(invocation, &context, &selection, arguments.dry_run).await?;
    Ok(report(invocation, &rebuilt))
}

async fn work(
    invocation: &Invocation,
    context: &Context,
    selection: &Selection,
    dry_run: bool,
) -> Result<MappingsRebuilt> {
    let mut context = context.clone();
    let step = Step::begin(&invocation.printer, "tracing rows to their source");
    context.events = invocation.told(step.events());
    rebuild_mappings(&context, selection, dry_run).await
}

fn report(invocation: &Invocation, rebuilt: &MappingsRebuilt) -> ExitStatus {
    invocation
        .printer
        .report(rebuilt, |width| view::render(rebuilt, width));
    if rebuilt.run_id.is_some() {
        invocation.printer.next_steps(&[(
            "regraft validate".to_owned(),
            "compare the rows themselves, too",
        )]);
    }
    if rebuilt.proven {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    }
}

fn confirm(invocation: &Invocation, preview: &MappingsRebuilt) -> Result<()> {
    let (gone, written) = view::changes(preview);
    let question = format!(
        "\nRemove {} from the ledger and write {}?",
        figures::counted(gone, "mapping"),
        figures::counted(written, "mapping")
    );
    invocation.printer.confirm(
        &question,
        "mappings would be replaced",
        "nothing was written",
    )
}
