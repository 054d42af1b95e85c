//! Ctrl-C: the first asks to stop at a clean point, the second stops at once.

use std::future::Future;
use std::io;

use regraft_engine::{Error, Kind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::printer::Printer;

/// What a command does when it is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It only reads: it is dropped where it stands.
    AtOnce,
    /// It writes: it goes on to its next checkpoint.
    AtCheckpoint,
}

/// Runs `work`; signals cancel it through `cancel` or drop it. Dropping is safe: what was not
/// committed is rolled back by the server, and managed servers stop when their owner is dropped.
pub(crate) async fn guard<T>(
    printer: &Printer,
    cancel: &CancellationToken,
    stop: Stop,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut signals = Signals::listen().map_err(|error| {
        Error::new(Kind::Internal, format!("signals can't be watched: {error}"))
    })?;
    tokio::pin!(work);
    let mut asked = false;
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = signals.next() => {
                if asked || stop == Stop::AtOnce {
                    return Err(dropped(stop));
                }
                asked = true;
                printer.note("stopping at the next checkpoint; Ctrl-C again stops at once");
                cancel.cancel();
            }
        }
    }
}

fn dropped(stop: Stop) -> Error {
    match stop {
        Stop::AtOnce => Error::new(Kind::Interrupted, "interrupted; nothing was changed"),
        Stop::AtCheckpoint => Error::new(
            Kind::Interrupted,
            "stopped at once; what was not committed is rolled back",
        )
        .hint("run the same command again to go on from the last checkpoint"),
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
