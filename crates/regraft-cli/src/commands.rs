//! From the command line to the work and back to an exit code.

mod analyzer;
mod backfill;
mod certify;
mod check;
mod check_record;
mod conflicts;
mod demo;
mod differential;
mod explain;
mod ledger;
mod mappings;
mod migrate;
mod plan;
mod quarantine;
mod receipt;
mod report;
mod rollback;
mod runs;
mod schema;
mod service;
mod status;
mod sync;
mod validate;
mod worker;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind as UsageKind;
use regraft_engine::{Error, Kind, Result};
use tokio_util::sync::CancellationToken;

use crate::arguments::{
    Arguments, Color, Command, ConflictsCommand, DifferentialCommand, Format, GlobalOptions,
    LedgerCommand, MappingsCommand, Page, QuarantineCommand, SchemaCommand, ServiceCommand,
    SyncCommand,
};
use crate::exit::ExitStatus;
use crate::interrupts::{self, Stop};
use crate::invocation::Invocation;
use crate::log::Log;
use crate::printer::Printer;
use crate::traces::Traces;
use crate::{diagnostics, reference};

/// Runs the program with the process's arguments.
pub(crate) fn run() -> ExitStatus {
    let given: Vec<OsString> = std::env::args_os().collect();
    let arguments = match Arguments::try_parse_from(&given) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&given, &error),
    };
    let printer = Arc::new(Printer::new(&arguments.global));
    let status = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let status = runtime.block_on(execute(printer.clone(), arguments));
            // Threads that still end a server are given the time for it.
            runtime.shutdown_timeout(Duration::from_secs(10));
            status
        }
        Err(error) => {
            let error = Error::new(Kind::Internal, format!("threads can't be started: {error}"));
            diagnostics::print(&printer, &error)
        }
    };
    printer.finish(status)
}

async fn execute(printer: Arc<Printer>, arguments: Arguments) -> ExitStatus {
    let invocation = Invocation {
        printer: printer.clone(),
        log: Arc::new(Log::new(printer.clone())),
        traces: Arc::new(Traces::new(printer.clone())),
        cancel: CancellationToken::new(),
        project: arguments.global.project,
    };
    let command = arguments.command;
    let stop = stop_of(&command);
    let work = dispatch(&invocation, command);
    let done = interrupts::guard(&printer, &invocation.cancel, stop, work).await;
    let status = match &done {
        Ok(status) => *status,
        Err(error) => diagnostics::print(&printer, error),
    };
    invocation.traces.finish();
    invocation.log.end(done.err().as_ref(), status);
    status
}

async fn dispatch(invocation: &Invocation, command: Command) -> Result<ExitStatus> {
    match command {
        Command::Demo(arguments) => demo::run(invocation, &arguments).await,
        Command::Check => check::run(invocation).await,
        Command::Schema(SchemaCommand::Apply) => schema::apply(invocation).await,
        Command::Schema(SchemaCommand::Diff) => schema::diff(invocation).await,
        Command::Plan(arguments) => plan::run(invocation, &arguments).await,
        Command::Migrate(arguments) => migrate::run(invocation, &arguments).await,
        Command::Validate(arguments) => validate::run(invocation, &arguments).await,
        Command::CheckRecord(arguments) => check_record::run(invocation, &arguments).await,
        Command::Rollback(arguments) => rollback::run(invocation, &arguments).await,
        Command::Status(arguments) => status::run(invocation, &arguments).await,
        Command::Runs(arguments) => runs::run(invocation, &arguments).await,
        Command::Receipt(arguments) => receipt::run(invocation, &arguments).await,
        Command::Report(arguments) => report::run(invocation, &arguments).await,
        Command::Certify(arguments) => certify::run(invocation, &arguments).await,
        Command::Quarantine(QuarantineCommand::List(arguments)) => {
            quarantine::list(invocation, &arguments).await
        }
        Command::Quarantine(QuarantineCommand::Show(arguments)) => {
            quarantine::show(invocation, &arguments).await
        }
        Command::Quarantine(QuarantineCommand::Retry(arguments)) => {
            quarantine::retry(invocation, &arguments).await
        }
        Command::Quarantine(QuarantineCommand::Export(arguments)) => {
            quarantine::export(invocation, &arguments).await
        }
        Command::Quarantine(QuarantineCommand::Drop(arguments)) => {
            quarantine::drop(invocation, &arguments).await
        }
        Command::Mappings(MappingsCommand::Rebuild(arguments)) => {
            mappings::rebuild(invocation, &arguments).await
        }
        Command::Mappings(MappingsCommand::Merged(arguments)) => {
            mappings::merged(invocation, &arguments).await
        }
        Command::Backfill(arguments) => backfill::run(invocation, &arguments).await,
        Command::Differential(DifferentialCommand::Analyze(arguments)) => {
            differential::analyze(invocation, &arguments).await
        }
        Command::Differential(DifferentialCommand::Migrate(arguments)) => {
            differential::migrate(invocation, &arguments).await
        }
        Command::Differential(DifferentialCommand::Resume(arguments)) => {
            differential::resume(invocation, &arguments).await
        }
        Command::Differential(DifferentialCommand::Status(arguments)) => {
            differential::status(invocation, &arguments).await
        }
        Command::Conflicts(ConflictsCommand::List(arguments)) => {
            conflicts::list(invocation, &arguments).await
        }
        Command::Conflicts(ConflictsCommand::Show(arguments)) => {
            conflicts::show(invocation, &arguments).await
        }
        Command::Conflicts(ConflictsCommand::Report(arguments)) => {
            conflicts::report(invocation, &arguments).await
        }
        Command::Conflicts(ConflictsCommand::Resolve(arguments)) => {
            conflicts::resolve(invocation, &arguments).await
        }
        Command::Explain { code } => explain::run(invocation, &code),
        Command::Sync(command) => sync::run(invocation, &command).await,
        Command::Service(ServiceCommand::Start(arguments)) => {
            service::start(invocation, &arguments).await
        }
        Command::Worker(arguments) => worker::run(invocation, &arguments).await,
        Command::Ledger(LedgerCommand::Prune(arguments)) => {
            ledger::prune(invocation, &arguments).await
        }
        Command::Analyzer(command) => analyzer::run(invocation, command).await,
        Command::Reference { page } => {
            let text = match page {
                Page::Commands => reference::markdown(),
                Page::Metrics => reference::metrics(),
            };
            invocation.printer.data(&text);
            Ok(ExitStatus::Done)
        }
    }
}

fn stop_of(command: &Command) -> Stop {
    match command {
        Command::Demo(_)
        | Command::Migrate(_)
        | Command::Rollback(_)
        | Command::Mappings(_)
        | Command::Differential(DifferentialCommand::Migrate(_) | DifferentialCommand::Resume(_))
        | Command::Sync(SyncCommand::RunJob(_))
        | Command::Service(_)
        | Command::Worker(_)
        | Command::Schema(SchemaCommand::Apply) => Stop::AtCheckpoint,
        _ => Stop::AtOnce,
    }
}

/// Help, the version, or a command line that can't be understood.
fn usage(given: &[OsString], error: &clap::Error) -> ExitStatus {
    let printer = Printer::new(&options_of(given));
    let text = error.render().ansi().to_string();
    match error.kind() {
        UsageKind::DisplayHelp | UsageKind::DisplayVersion => {
            printer.data(&text);
            printer.finish(ExitStatus::Done)
        }
        // The program's name alone: the help, but no work was done.
        UsageKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            printer.error(&text);
            ExitStatus::Usage
        }
        _ if printer.is_json() => {
            let text = error.render().to_string();
            let message = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
            diagnostics::print(&printer, &Error::new(Kind::Usage, message))
        }
        _ => {
            printer.error(&text);
            ExitStatus::Usage
        }
    }
}

/// The options that matter for printing, out of a command line that can't be understood.
fn options_of(given: &[OsString]) -> GlobalOptions {
    let words: Vec<&str> = given.iter().filter_map(|word| word.to_str()).collect();
    let value = |name: &str| {
        words
            .iter()
            .enumerate()
            .find_map(|(at, word)| match word.strip_prefix(name)? {
                "" => words.get(at + 1).copied(),
                rest => rest.strip_prefix('='),
            })
    };
    GlobalOptions {
        project: None,
        format: if value("--format") == Some("json") {
            Format::Json
        } else {
            Format::Human
        },
        no_progress: true,
        quiet: false,
        verbose: false,
        color: match value("--color") {
            Some("always") => Color::Always,
            Some("never") => Color::Never,
            _ => Color::Auto,
        },
    }
}
