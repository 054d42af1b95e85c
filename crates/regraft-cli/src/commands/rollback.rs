//! `regraft rollback`

use regraft_engine::{
    Error, Kind, Result, RollbackDone, RollbackPreview, RollbackStep, RollbackTarget,
    preview_rollback, rollback,
};
use regraft_project::Project;
use serde::Serialize;

use crate::arguments::RollbackArguments;
use crate::diagnostics;
use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::{Invocation, Needs, select};
use crate::progress::{Doing, Step};
use crate::views::rollback as view;

/// The JSON document of a rollback.
#[derive(Serialize)]
struct Document<'a> {
    preview: &'a RollbackPreview,
    done: Option<&'a RollbackDone>,
}

/// Shows what would be undone, asks, and undoes it.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &RollbackArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let target = target(&opened.project, arguments)?;
    let mut context = invocation.context(&opened, Needs::Target)?;
    context.events = invocation.events(Doing::Undoing);
    let preview = preview_rollback(&context, &target, arguments.force).await?;
    let printer = &invocation.printer;
    let preview_text = view::preview(&preview, printer.error_width());
    // The question is asked on the terminal, so what it is about belongs there too.
    let unasked = printer.is_json() && arguments.yes;
    if !(preview_text.is_empty() || unasked) {
        printer.note(preview_text.trim_end());
    }
    if let Some(obstacle) = preview.obstacles.first() {
        return Err(Error::new(
            Kind::Data,
            format!("the rollback can't be done: {obstacle}"),
        )
        .hint(if arguments.run.is_some() {
            "undo the runs that wrote those rows first, or this one's entities with --with-dependents"
        } else {
            "add --with-dependents to undo what refers to it too; nothing was undone"
        }));
    }
    if preview.steps.is_empty() {
        let document = Document {
            preview: &preview,
            done: None,
        };
        printer.report(&document, |_| {
            "nothing to undo: these entities hold no rows of any run".to_owned()
        });
        return Ok(ExitStatus::Done);
    }
    if !arguments.yes {
        confirm(invocation, &preview)?;
    }
    let step = Step::begin(printer, "undoing");
    let done = rollback(&context, &target, arguments.force).await?;
    drop(step);
    let document = Document {
        preview: &preview,
        done: Some(&done),
    };
    printer.report(&document, |width| view::done(&done, width));
    printer.next_steps(&[("regraft status".to_owned(), "how far each entity is now")]);
    Ok(if done.left.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

fn target(project: &Project, arguments: &RollbackArguments) -> Result<RollbackTarget> {
    match &arguments.run {
        Some(run) => Ok(RollbackTarget::Run(run.clone())),
        None if arguments.with_dependents => project
            .select_with_dependents(&arguments.entities.list())
            .map(RollbackTarget::Selection)
            .map_err(|error| diagnostics::unknown_name(&error)),
        None => select(project, &arguments.entities, false).map(RollbackTarget::Selection),
    }
}

fn confirm(invocation: &Invocation, preview: &RollbackPreview) -> Result<()> {
    let sum = |of: fn(&RollbackStep) -> u64| preview.steps.iter().map(of).sum::<u64>();
    let changed = sum(|step| step.put_back) + sum(|step| step.brought_back);
    let mut question = format!(
        "\nDelete {} from the target",
        figures::counted(sum(|step| step.rows), "row")
    );
    if changed > 0 {
        question.push_str(&format!(
            ", and restore {} to what they were",
            figures::counted(changed, "row")
        ));
    }
    question.push('?');
    invocation
        .printer
        .confirm(&question, "a rollback deletes rows", "nothing was undone")
}
