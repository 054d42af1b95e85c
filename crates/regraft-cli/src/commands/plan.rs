//! `regraft plan`

use std::fs;

use regraft_engine::{Error, Kind, ModeChoice, Plan, Result, plan};

use crate::arguments::PlanArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, select};
use crate::{files, views};

/// Prints what a migration would do.
pub(super) async fn run(invocation: &Invocation, arguments: &PlanArguments) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, arguments.with_deps)?;
    let context = invocation.context(&opened, Needs::Both)?;
    let plan = plan(&context, &selection, ModeChoice::Auto).await?;
    if let Some(path) = &arguments.out {
        let text = document(&plan)?;
        fs::write(path, text).map_err(|error| files::failed("writing", path, &error))?;
        invocation
            .printer
            .note(format!("the whole plan is in {}", path.display()));
    }
    let verbose = invocation.printer.is_verbose();
    invocation.printer.report(&plan, |width| {
        let details = detailed(arguments, &plan);
        let mut text = views::plan::render(&plan, &details, width);
        if arguments.details {
            text.push_str(&views::plan::tables(&plan, width));
        }
        if verbose {
            text.push_str(&views::plan::columns(&plan, width));
        }
        if arguments.sql {
            text.push_str(&views::plan::sql(&plan));
        }
        text
    });
    let mut steps = Vec::new();
    if let Some(entity) = plan.entities.iter().find(|e| e.quarantined + e.blocked > 0)
        && detailed(arguments, &plan).is_empty()
    {
        let command = format!("regraft plan {}", entity.entity);
        steps.push((command, "see where its rows are lost, hop by hop"));
    }
    if plan.entities.iter().any(|entity| entity.to_move > 0) {
        steps.push((
            migrate_command(arguments, &plan, true),
            "go through every row without a change",
        ));
        steps.push((migrate_command(arguments, &plan, false), "do exactly this"));
    }
    invocation.printer.next_steps(&steps);
    Ok(ExitStatus::Done)
}

/// More named entities than this are shown as an overview.
const NAMED: usize = 3;

/// The entities to show in full.
fn detailed(arguments: &PlanArguments, plan: &Plan) -> Vec<String> {
    let planned = || plan.entities.iter().map(|entity| entity.entity.clone());
    if arguments.details {
        return planned().collect();
    }
    let names = arguments.entities.list();
    if names.len() > NAMED {
        return Vec::new();
    }
    planned().filter(|entity| names.contains(entity)).collect()
}

fn document(plan: &Plan) -> Result<String> {
    let text = serde_json::to_string_pretty(plan).map_err(|error| {
        Error::new(
            Kind::Internal,
            format!("the plan can't be written: {error}"),
        )
    })?;
    Ok(format!("{text}\n"))
}

/// The command that carries the plan out.
fn migrate_command(arguments: &PlanArguments, plan: &Plan, dry_run: bool) -> String {
    let mut command = String::from("regraft migrate");
    for name in arguments.entities.list() {
        command.push_str(&format!(" {name}"));
    }
    if arguments.with_deps {
        command.push_str(" --with-deps");
    }
    if dry_run {
        command.push_str(" --dry-run");
    } else {
        command.push_str(&format!(" --plan {}", plan.hash));
    }
    command
}
