//! `regraft analyzer checkpoint-status`, `reset-checkpoint`, `debug`, `analyze-performance` and
//! `system-health`

use regraft_engine::{
    CheckpointOverview, CheckpointProgress, Error, Health, Kind, Result, checkpoint_status,
    checkpoint_to_reset, debug_entity, entity_performance, reset_checkpoint, system_health,
};

use super::quarantine::known;
use crate::arguments::analyzer::{
    AnalyzePerformanceArguments, AnalyzerCommand, CheckpointStatusArguments, DebugArguments,
    ResetCheckpointArguments, SystemHealthArguments,
};
use crate::contract::analyzer::{Checkpoints, Debugged};
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};
use crate::progress::Step;
use crate::views::analyzer as view;

/// A file has no terminal's width.
const FILE_WIDTH: usize = 100;

/// Does one of its commands.
pub(super) async fn run(invocation: &Invocation, command: AnalyzerCommand) -> Result<ExitStatus> {
    match command {
        AnalyzerCommand::CheckpointStatus(arguments) => checkpoints(invocation, &arguments).await,
        AnalyzerCommand::ResetCheckpoint(arguments) => reset(invocation, &arguments).await,
        AnalyzerCommand::Debug(arguments) => debug(invocation, &arguments).await,
        AnalyzerCommand::AnalyzePerformance(arguments) => performance(invocation, &arguments).await,
        AnalyzerCommand::SystemHealth(arguments) => health(invocation, &arguments).await,
    }
}

/// Shows where checkpoints stand.
async fn checkpoints(
    invocation: &Invocation,
    arguments: &CheckpointStatusArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let entity = arguments.entity.as_deref();
    if let Some(entity) = entity {
        known(&opened.project, entity)?;
    }
    let context = invocation.context(&opened, Needs::Target)?;
    let overview = checkpoint_status(&context, entity).await?;
    let document = Checkpoints::of(&overview, entity.is_some());
    let now = jiff::Timestamp::now();
    invocation.printer.report(&document, |width| {
        view::checkpoints::render(&overview, entity, now, width)
    });
    invocation.printer.next_steps(&next_steps(&overview));
    Ok(ExitStatus::Done)
}

fn next_steps(overview: &CheckpointOverview) -> Vec<(String, &'static str)> {
    let unfinished = overview
        .checkpoints
        .iter()
        .filter(|checkpoint| checkpoint.state == CheckpointProgress::Unfinished);
    let mut commands: Vec<String> = unfinished.filter_map(|c| c.finish.clone()).collect();
    commands.dedup();
    let of = |command| (command, "go on from what is committed");
    commands.into_iter().map(of).collect()
}

/// Shows a checkpoint, asks, and sets it back to what is committed.
async fn reset(
    invocation: &Invocation,
    arguments: &ResetCheckpointArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let context = invocation.context(&opened, Needs::Target)?;
    let printer = &invocation.printer;
    if !arguments.yes {
        let checkpoint = checkpoint_to_reset(&context, arguments.id).await?;
        printer.note(view::checkpoints::preview(
            &checkpoint,
            printer.error_width(),
        ));
        printer.confirm(
            "\nSet it back to what is committed?",
            "a reset ends the work of whoever holds the checkpoint",
            "nothing was changed",
        )?;
    }
    let done = reset_checkpoint(&context, arguments.id).await?;
    printer.report(&done, |width| view::checkpoints::reset(&done, width));
    if let Some(finish) = &done.checkpoint.finish {
        printer.next_steps(&[(finish.clone(), "go on from what is committed")]);
    }
    Ok(ExitStatus::Done)
}

/// Gathers what is known of one entity.
async fn debug(invocation: &Invocation, arguments: &DebugArguments) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    known(&opened.project, &arguments.entity)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let printer = &invocation.printer;
    let step = Step::begin(printer, "looking");
    let found = debug_entity(&context, &arguments.entity, printer.is_verbose()).await?;
    drop(step);
    let now = jiff::Timestamp::now();
    printer.report(&Debugged::of(&found), |width| {
        view::debug::render(&found, now, width)
    });
    Ok(if found.recommendations.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

/// Shows how fast the runs of an entity were.
async fn performance(
    invocation: &Invocation,
    arguments: &AnalyzePerformanceArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    known(&opened.project, &arguments.entity)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let found = entity_performance(&context, &arguments.entity, arguments.last_days).await?;
    let now = jiff::Timestamp::now();
    let printer = &invocation.printer;
    let Some(file) = &arguments.output else {
        printer.report(&found, |width| {
            view::performance::render(&found, now, width)
        });
        return Ok(ExitStatus::Done);
    };
    let ending = file.extension().and_then(|ending| ending.to_str());
    let text = match ending {
        Some("html" | "htm") => view::performance::html(&found),
        ending if ending == Some("json") || printer.is_json() => {
            serde_json::to_string_pretty(&found).map_err(|error| {
                Error::new(
                    Kind::Internal,
                    format!("the figures can't be written: {error}"),
                )
            })?
        }
        _ => view::performance::render(&found, now, FILE_WIDTH),
    };
    printer.save(file, &text)?;
    Ok(ExitStatus::Done)
}

/// Checks both servers and the ledger.
async fn health(invocation: &Invocation, arguments: &SystemHealthArguments) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let context = invocation.context(&opened, Needs::Both)?;
    let step = Step::begin(&invocation.printer, "looking");
    let found = system_health(&context, arguments.comprehensive).await?;
    drop(step);
    invocation
        .printer
        .report(&found, |width| view::health::render(&found, width));
    Ok(status(&found))
}

fn status(found: &Health) -> ExitStatus {
    match (found.reachable, found.healthy) {
        (false, _) => ExitStatus::Unreachable,
        (true, false) => ExitStatus::Findings,
        (true, true) => ExitStatus::Done,
    }
}
