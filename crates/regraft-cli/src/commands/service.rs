//! `regraft service start`

use std::net::SocketAddr;
use std::time::Duration;

use regraft_engine::{Budget, Context, Error, Kind, Result};
use regraft_pg::Environment;
use regraft_sync::metrics::{Metrics, serve_metrics};
use regraft_sync::notify::NotifyOptions;
use regraft_sync::{ServiceOptions, serve};

use super::sync::run_options;
use crate::arguments::ServiceStartArguments;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs};

/// A URL that takes notices.
const NOTIFY_URL: &str = "REGRAFT_NOTIFY_URL";
/// What they are signed with.
const NOTIFY_SECRET: &str = "REGRAFT_NOTIFY_SECRET";
/// A command that gets them.
const NOTIFY_COMMAND: &str = "REGRAFT_NOTIFY_COMMAND";

/// After how many days the ledger's records of what is over are removed.
const LEDGER_DAYS: &str = "REGRAFT_LEDGER_DAYS";

/// Runs due jobs until it is told to stop.
pub(super) async fn start(
    invocation: &Invocation,
    arguments: &ServiceStartArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    let ledger_days = ledger_days(&opened.environment)?;
    let given = arguments.budget.over(context.settings.budget);
    context.settings.budget = given.or(Budget::OF_JOBS);
    let options = ServiceOptions {
        ledger_days,
        run: run_options(Duration::from_secs(arguments.lease)),
        poll: Duration::from_secs(arguments.poll),
        jobs: arguments.jobs,
        notify: notify_options(&opened.environment),
    };
    let printer = &invocation.printer;
    if let Some(address) = &arguments.metrics {
        let address = metered(&mut context, address).await?;
        printer.note(format!("metrics are at http://{address}/metrics"));
    }
    printer.note(format!(
        "{} looks for due jobs every {} s and runs up to {} at once; Ctrl-C ends it at the next checkpoint",
        options.run.worker, arguments.poll, arguments.jobs
    ));
    serve(&context, &options).await?;
    printer.note("the service has ended; what is due stays due");
    Ok(ExitStatus::Done)
}

/// Counts what happens from now on, and serves it. The address that it is served at.
pub(super) async fn metered(context: &mut Context, address: &str) -> Result<SocketAddr> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    context.events = metrics.listening(context.events.clone());
    serve_metrics(context, &metrics, address).await
}

/// How long records are kept, where the environment says so.
pub(super) fn ledger_days(environment: &Environment) -> Result<Option<f64>> {
    match environment.get_parsed::<f64>(LEDGER_DAYS)? {
        Some(days) if !(0.0..=36_500.0).contains(&days) => Err(Error::new(
            Kind::Usage,
            format!("{LEDGER_DAYS} is {days}, which is no number of days from 0 to 36500"),
        )),
        days => Ok(days),
    }
}

/// Whom runs of jobs that need somebody are told to.
pub(super) fn notify_options(environment: &Environment) -> NotifyOptions {
    let given = |name: &str| {
        let value = environment.get(name).filter(|value| !value.is_empty());
        value.map(|value| value.to_string())
    };
    NotifyOptions {
        url: given(NOTIFY_URL),
        secret: given(NOTIFY_SECRET),
        command: given(NOTIFY_COMMAND),
    }
}
