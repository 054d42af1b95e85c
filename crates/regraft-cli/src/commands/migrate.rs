//! `regraft migrate`

use regraft_engine::{Context, MigrateOptions, ModeChoice, Outcome, Result, migrate};

use super::worker::handing_out;
use crate::arguments::{MigrateArguments, Mode};
use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::{Invocation, Needs, select, selected_names};
use crate::progress::Doing;
use crate::views::receipt;

/// Migrates, and prints the receipt.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &MigrateArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, arguments.with_deps)?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    if let Some(rows) = arguments.batch_size {
        context.settings.batch_size = rows;
    }
    if let Some(workers) = arguments.workers {
        context.settings.workers = usize::from(workers);
    }
    context.settings.budget = arguments.budget.over(context.settings.budget);
    context.settings = context.settings.checked()?;
    if arguments.dry_run {
        context.events = invocation.events(Doing::Rehearsing);
    }
    if arguments.entities.list().is_empty() {
        let names = selected_names(&selection);
        invocation.printer.note(format!(
            "all entities of the project: {}",
            figures::list(&names)
        ));
    }
    let options = MigrateOptions {
        dry_run: arguments.dry_run,
        mode: mode(arguments.mode),
        plan_hash: arguments.plan.clone(),
        only_resume: None,
    };
    let work = async |context: &Context| migrate(context, &selection, &options).await;
    let outcome = match arguments.distribute {
        true => handing_out(&mut context, work).await?,
        false => work(&context).await?,
    };
    let limits = context.project.manifest().limits.clone();
    invocation
        .printer
        .report(&outcome, |width| receipt::outcome(&outcome, &limits, width));
    invocation
        .printer
        .next_steps(&next_steps(&outcome, arguments));
    Ok(if outcome.within_budget {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

fn mode(mode: Mode) -> ModeChoice {
    match mode {
        Mode::Auto => ModeChoice::Auto,
        Mode::Bulk => ModeChoice::Bulk,
        Mode::InPlace => ModeChoice::InPlace,
    }
}

fn next_steps(outcome: &Outcome, arguments: &MigrateArguments) -> Vec<(String, &'static str)> {
    let names = arguments.entities.list().join(" ");
    let named = |verb: &str| format!("regraft {verb} {names}").trim_end().to_owned();
    if outcome.receipt.dry_run {
        return vec![(named("migrate"), "do it")];
    }
    let mut steps = vec![(named("validate"), "prove it from both databases")];
    if outcome.receipt.total.quarantined > 0 {
        steps.push((
            "regraft quarantine list".to_owned(),
            "the rows that stayed behind, and why",
        ));
    }
    if !outcome.nothing_to_do {
        let command = format!("regraft rollback --run {}", outcome.receipt.run_id);
        steps.push((command, "undo exactly this run"));
    }
    steps
}
