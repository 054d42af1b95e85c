//! `regraft differential analyze`, `migrate`, `resume` and `status`

use std::time::Duration;

use regraft_engine::{
    AnalysisOptions, Context, DifferentialOptions, DifferentialOutcome, Error, Kind, Result,
    Settings, analyze_differential, migrate_differential, operation_status,
    unfinished_differential,
};
use regraft_project::Selection;

use super::worker::handing_out;
use crate::arguments::{
    DifferentialAnalyzeArguments, DifferentialMigrateArguments, DifferentialResumeArguments,
    DifferentialStatusArguments, EntityNames,
};
use crate::contract::{Analyzed, CarriedOver};
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, Opened, select};
use crate::progress::Doing;
use crate::views::differential as view;

/// The entities, at least one of which has to be named.
fn selected(opened: &Opened, entities: &EntityNames, verb: &str) -> Result<Selection> {
    if entities.list().is_empty() {
        return Err(
            Error::new(Kind::Usage, "no entities are named").hint(format!(
                "name them, or type `regraft differential {verb} --entities all`"
            )),
        );
    }
    select(&opened.project, entities, false)
}

/// Tells what has changed on either side.
pub(super) async fn analyze(
    invocation: &Invocation,
    arguments: &DifferentialAnalyzeArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = selected(&opened, &arguments.entities, "analyze")?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    context.events = invocation.events(Doing::Rehearsing);
    context.settings.max_source_load = arguments.looking.max_source_load;
    context.settings.budget = arguments.looking.budget.over(context.settings.budget);
    let options = AnalysisOptions {
        detect_conflicts: arguments.detect_conflicts,
        every_row: arguments.looking.full,
        since: arguments.since.clone(),
    };
    let analysis = analyze_differential(&context, &selection, &options).await?;
    let printer = &invocation.printer;
    let document = Analyzed::of(&analysis);
    if let Some(path) = &arguments.output {
        let document = serde_json::to_string_pretty(&document)
            .map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
        printer.save(path, &(document + "\n"))?;
    }
    printer.report(&document, |width| view::analysis(&analysis, width));
    let names = arguments.entities.list().join(",");
    let mut steps = vec![(
        format!("regraft differential migrate --entities {names}"),
        "carry over what has changed",
    )];
    if analysis.conflicts > 0 {
        let command = "regraft conflicts report --last-analysis".to_owned();
        steps.insert(0, (command, "what both sides have changed"));
    }
    printer.next_steps(&steps);
    Ok(if arguments.detect_conflicts && analysis.conflicts > 0 {
        ExitStatus::Findings
    } else {
        ExitStatus::Done
    })
}

/// Carries over what has changed.
pub(super) async fn migrate(
    invocation: &Invocation,
    arguments: &DifferentialMigrateArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = selected(&opened, &arguments.entities, "migrate")?;
    let options = DifferentialOptions {
        policy: arguments.conflict_resolution,
        deletes: arguments.deletes,
        dry_run: arguments.dry_run,
        every_row: arguments.looking.full,
        only_resume: None,
    };
    let settings = |settings: &mut Settings| {
        settings.max_source_load = arguments.looking.max_source_load;
        settings.budget = arguments.looking.budget.over(settings.budget);
        if let Some(rows) = arguments.batch_size {
            settings.batch_size = rows;
        }
    };
    let how = (options, arguments.distribute);
    carry_over(invocation, &opened, &selection, how, settings).await
}

async fn carry_over(
    invocation: &Invocation,
    opened: &Opened,
    selection: &Selection,
    (options, distribute): (DifferentialOptions, bool),
    set: impl FnOnce(&mut Settings),
) -> Result<ExitStatus> {
    let mut context = invocation.context(opened, Needs::Both)?;
    set(&mut context.settings);
    context.settings = context.settings.checked()?;
    if options.dry_run {
        context.events = invocation.events(Doing::Rehearsing);
    }
    let work = async |context: &Context| migrate_differential(context, selection, &options).await;
    let outcome = match distribute {
        true => handing_out(&mut context, work).await?,
        false => work(&context).await?,
    };
    let printer = &invocation.printer;
    let document = CarriedOver::of(&outcome);
    printer.report(&document, |width| view::outcome(&outcome, width));
    printer.next_steps(&next_steps(&outcome));
    Ok(if outcome.open > 0 || !outcome.within_budget {
        ExitStatus::Findings
    } else {
        ExitStatus::Done
    })
}

fn next_steps(outcome: &DifferentialOutcome) -> Vec<(String, &'static str)> {
    if outcome.receipt.dry_run {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if outcome.open > 0 {
        let command = "regraft conflicts list".to_owned();
        steps.push((command, "the rows that somebody has to decide on"));
    }
    if outcome.receipt.total.quarantined > 0 {
        let command = "regraft quarantine list".to_owned();
        steps.push((command, "the rows that stayed behind, and why"));
    }
    if !outcome.nothing_to_do {
        let command = format!("regraft rollback --run {}", outcome.receipt.run_id);
        steps.push((command, "undo exactly this run"));
    }
    steps
}

/// Goes on with the differential migration that was left unfinished.
pub(super) async fn resume(
    invocation: &Invocation,
    arguments: &DifferentialResumeArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let context = invocation.context(&opened, Needs::Both)?;
    let operation = arguments.operation_id.as_deref();
    let (run, options) =
        unfinished_differential(&context, operation, arguments.entity.as_deref()).await?;
    let from = operation_status(&context, Some(&run.run_id)).await?;
    invocation
        .printer
        .note(view::resuming(&run.run_id, &run.started_at, from.as_ref()));
    let names: Vec<String> = run
        .detail
        .get("entities")
        .and_then(|names| serde_json::from_value(names.clone()).ok())
        .unwrap_or_default();
    let selection = opened
        .project
        .select(&names, false)
        .map_err(|e| Error::new(Kind::Usage, e.to_string()))?;
    carry_over(invocation, &opened, &selection, (options, false), |_| {}).await
}

/// Tells how a differential migration stands; with `--watch`, again and again until it has ended.
pub(super) async fn status(
    invocation: &Invocation,
    arguments: &DifferentialStatusArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let context = invocation.context(&opened, Needs::Target)?;
    loop {
        let status = operation_status(&context, arguments.operation_id.as_deref()).await?;
        let printer = &invocation.printer;
        printer.report(&status, |width| view::status(status.as_ref(), width));
        let ended = status
            .as_ref()
            .is_none_or(|status| status.finished_at.is_some());
        if !arguments.watch || ended {
            return Ok(ExitStatus::Done);
        }
        tokio::select! {
            () = invocation.cancel.cancelled() => return Ok(ExitStatus::Done),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}
