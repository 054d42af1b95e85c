//! `regraft service start`

use std::time::Duration;

use regraft_engine::{Budget, Result};
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

/// Runs due jobs until it is told to stop.
pub(super) async fn start(
    invocation: &Invocation,
    arguments: &ServiceStartArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let mut context = invocation.context(&opened, Needs::Both)?;
    let given = arguments.budget.over(context.settings.budget);
    context.settings.budget = given.or(Budget::OF_JOBS);
    let given = |name: &str| {
        let value = opened
            .environment
            .get(name)
            .filter(|value| !value.is_empty());
        value.map(|value| value.to_string())
    };
    let options = ServiceOptions {
        run: run_options(Duration::from_secs(arguments.lease)),
        poll: Duration::from_secs(arguments.poll),
        jobs: arguments.jobs,
        notify: NotifyOptions {
            url: given(NOTIFY_URL),
            secret: given(NOTIFY_SECRET),
            command: given(NOTIFY_COMMAND),
        },
    };
    let printer = &invocation.printer;
    printer.note(format!(
        "{} looks for due jobs every {} s and runs up to {} at once; Ctrl-C ends it at the next checkpoint",
        options.run.worker, arguments.poll, arguments.jobs
    ));
    serve(&context, &options).await?;
    printer.note("the service has ended; what is due stays due");
    Ok(ExitStatus::Done)
}
