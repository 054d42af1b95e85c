//! `regraft worker`, and commands that hand their batches out to workers.

use std::sync::Arc;
use std::time::Duration;

use regraft_engine::{Context, Error, Events, Kind, Result};
use regraft_workers::{Queue, WorkerOptions, serve};
use tokio_util::sync::CancellationToken;

use super::service::metered;
use crate::arguments::WorkerArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};

/// How long a worker that is told to stop may go on with the batches at work.
const GRACE: Duration = Duration::from_secs(30);

/// After so long without a sign of life the process that hands batches out is taken for gone as a
/// worker, and others take the batches it was at.
const LEASE: Duration = Duration::from_secs(15);

/// The name of this process: its host and its number.
pub(super) fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// Takes batches of other processes' runs until it is told to stop.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &WorkerArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    if let Some(workers) = arguments.workers {
        context.settings.workers = usize::from(workers);
    }
    context.settings = context.settings.checked()?;
    let options = WorkerOptions {
        name: process_name(),
        lease: Duration::from_secs(arguments.lease),
        grace: GRACE,
        leave_after: arguments.leave_after.map(Duration::from_secs),
    };
    let printer = &invocation.printer;
    if let Some(address) = &arguments.metrics {
        let address = metered(&mut context, address).await?;
        printer.note(format!("metrics are at http://{address}/metrics"));
    }
    printer.note(format!(
        "{} takes batches, {} side by side; Ctrl-C lets it finish those at work",
        options.name, context.settings.workers
    ));
    serve(&context, &options).await?;
    printer.note("the worker has left");
    Ok(ExitStatus::Done)
}

/// Does `work`, whose batches are handed out to workers on this host and on others; one of them is this
/// process.
///
/// # Errors
/// What `work` returns; the queue can't be used.
pub(super) async fn handing_out<T>(
    context: &mut Context,
    work: impl AsyncFnOnce(&Context) -> Result<T>,
) -> Result<T> {
    let mut own = context.clone();
    own.cancel = CancellationToken::new();
    own.events = Events::none();
    context.settings.queue = Some(Arc::new(Queue::open(context, 2).await?));
    let options = WorkerOptions {
        name: process_name(),
        lease: LEASE,
        // Whatever is at work then is of a run that has ended.
        grace: Duration::ZERO,
        leave_after: None,
    };
    let (work, helping) = (work(context), serve(&own, &options));
    tokio::pin!(work, helping);
    let done = tokio::select! {
        done = &mut work => done,
        ended = &mut helping => return Err(ended.err().unwrap_or_else(|| {
            Error::new(Kind::Internal, "the worker of this process has left")
        })),
    };
    own.cancel.cancel();
    helping.await?;
    done
}
