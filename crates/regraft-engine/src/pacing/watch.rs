//! The task that measures, decides and tells.

use std::time::Duration;

use regraft_pg::Side;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::controller::Controller;
use super::measure::Server;
use super::pace::Pace;
use super::recorded::{FIELD, PaceChange};
use crate::context::Context;
use crate::error::Result;
use crate::events::Event;

/// Time between two measurements.
const EVERY: Duration = Duration::from_secs(1);

/// Watches the servers for a run, as long as it lives.
pub(crate) struct Watched(Option<(Pace, u64)>);

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((pace, id)) = self.0.take() {
            pace.leave(id);
        }
    }
}

/// Has the servers watched for a run, where the settings have a budget. What a probe takes before the
/// first run begins counts as usual.
///
/// # Errors
/// A server that can't be reached.
pub(crate) async fn watch(context: &Context, run_no: Option<i32>) -> Result<Watched> {
    if !context.settings.budget.is_set() {
        return Ok(Watched(None));
    }
    let pace = &context.pace;
    let _alone = pace.beginning().await;
    if pace.state().watcher.is_none() {
        let (source, target) = tokio::try_join!(
            Server::open(context, Side::Source),
            Server::open(context, Side::Target)
        )?;
        let stop = CancellationToken::new();
        pace.state().watcher = Some(stop.clone());
        let watcher = Watcher {
            context: context.clone(),
            controller: Controller::new(context.settings.budget, context.settings.workers),
            servers: [source, target],
            stop: stop.clone(),
            is_blind: false,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watcher.run() => {}
            }
        });
    }
    let id = pace.join(run_no, context.settings.workers);
    Ok(Watched(Some((pace.clone(), id))))
}

struct Watcher {
    context: Context,
    controller: Controller,
    servers: [Server; 2],
    /// Cancelled when the last run has left.
    stop: CancellationToken,
    /// Whether the last measurement failed, which was told then.
    is_blind: bool,
}

impl Watcher {
    async fn run(mut self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
            self.record().await;
        }
    }

    async fn look(&mut self) {
        let [source, target] = &mut self.servers;
        let context = &self.context;
        let readings = tokio::join!(source.measure(context), target.measure(context));
        let readings = match readings {
            (Ok(source), Ok(target)) => [source, target],
            (Err(error), _) | (_, Err(error)) => {
                if !self.is_blind {
                    self.note(format!(
                        "what users feel can't be measured: {}",
                        error.message()
                    ));
                }
                self.is_blind = true;
                return;
            }
        };
        self.is_blind = false;
        self.controller.resize(context.pace.state().workers());
        let change = self.controller.take(&readings);
        let change = change.as_ref().map(PaceChange::of);
        {
            let mut state = context.pace.state();
            // Whoever has just ended the watching wants nothing held back, and another may watch.
            if self.stop.is_cancelled() {
                return;
            }
            state.rate = Some(self.controller.rate()).filter(|rate| !rate.is_full());
            if let Some(change) = &change {
                state.recorded.add(change);
            }
        }
        if let Some(change) = change {
            context.pace.tell();
            context.events.send(Event::PaceChanged(change));
        }
    }

    /// Keeps what has changed with the runs that it concerns.
    async fn record(&self) {
        let (recorded, runs) = {
            let state = self.context.pace.state();
            let changes = state.recorded.changes;
            let behind = state.members.iter().filter(|m| m.recorded < changes);
            let runs: Vec<i32> = behind.filter_map(|member| member.run_no).collect();
            (state.recorded.clone(), runs)
        };
        let (Some(target), Ok(value)) =
            (self.servers[1].session(), serde_json::to_value(&recorded))
        else {
            return;
        };
        for run_no in runs {
            let kept = regraft_ledger::set_run_detail(&**target, run_no, FIELD, &value);
            // Whoever holds the run's row for longer is tried again.
            if !matches!(tokio::time::timeout(EVERY, kept).await, Ok(Ok(()))) {
                return;
            }
            let mut state = self.context.pace.state();
            let members = state.members.iter_mut();
            for member in members.filter(|member| member.run_no == Some(run_no)) {
                member.recorded = recorded.changes;
            }
        }
    }

    fn note(&self, text: String) {
        self.context.events.send(Event::Note(text));
    }
}
