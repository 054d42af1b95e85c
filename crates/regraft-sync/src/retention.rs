//! Keeping the ledger from growing for ever.

use std::time::Duration;

use regraft_engine::{Context, Event, Events, Kind, prune_ledger};
use regraft_ledger::Pruned;
use tokio::time::Instant;

/// How often it is looked, at most and at least: a part of what is kept, within these.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(3_600);

/// Removes records of what is over, now and then.
pub(crate) struct Retention {
    days: Option<f64>,
    next: Instant,
}

impl Retention {
    /// What ended more than `days` days ago is removed; nothing is without it.
    pub(crate) fn new(days: Option<f64>) -> Self {
        Self {
            days,
            next: Instant::now(),
        }
    }

    /// Removes what is old enough, where it is time to look. While another process is at work on the
    /// target it is left for the next time; what goes wrong is told, and stops nothing.
    pub(crate) async fn turn(&mut self, context: &Context) {
        let Some(days) = self.days.filter(|_| Instant::now() >= self.next) else {
            return;
        };
        let day = Duration::from_secs(86_400).as_secs_f64();
        let often = Duration::try_from_secs_f64(days * day / 24.0).unwrap_or(SELDOM);
        let mut quiet = context.clone();
        quiet.events = Events::none();
        match prune_ledger(&quiet, days, false).await {
            Ok(pruned) if pruned.is_nothing() => {}
            Ok(pruned) => note(context, told(&pruned, days)),
            Err(error) if matches!(error.kind(), Kind::Busy | Kind::Interrupted) => {}
            Err(error) => note(
                context,
                format!(
                    "old records stay in the ledger for now: {}",
                    error.message()
                ),
            ),
        }
        self.next = Instant::now() + often.clamp(OFTEN, SELDOM);
    }
}

fn told(pruned: &Pruned, days: f64) -> String {
    format!(
        "removed from the ledger what was older than {days} days: {} runs, {} before-images, {} \
         settled differences, {} results of validations, {} runs of jobs",
        pruned.runs,
        pruned.before_images,
        pruned.differences,
        pruned.validation_results,
        pruned.job_runs
    )
}

fn note(context: &Context, text: String) {
    context.events.send(Event::Note(text));
}
