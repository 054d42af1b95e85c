//! Metrics in the text format of Prometheus.
//!
//! What this process does is counted as the engine tells it; what the ledger knows is asked for each
//! time that somebody looks. No metric holds a row's value: labels are names of jobs, entities and
//! outcomes.

mod http;
mod ledger;
mod names;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric as Registered, Registry};
use regraft_engine::{Event, Events, JobEnd};
use regraft_ledger::Observed;

use crate::memory;

pub use http::serve_metrics;
pub use names::{METRICS, Metric, MetricKind};

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// The upper ends of the ranges of the duration, in seconds.
const SECONDS: [f64; 12] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

#[derive(Clone)]
struct BySeconds;

impl MetricConstructor<Histogram> for BySeconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    runs: Counters,
    retried_runs: Counters,
    seconds: Family<Labels, Histogram, BySeconds>,
    written: Counters,
    left_behind: Counters,
    read: Counters,
    rows: Counters,
    batches: Counters,
    retries: Counters,
    ledger_up: Gauges,
    jobs: Gauges,
    waiting: Gauges,
    oldest: Gauges,
    since_success: Gauges,
    conflicts: Gauges,
    quarantine: Gauges,
    unfinished: Gauges,
    resident: Gauges,
    peak: Gauges,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// Registers a metric under the name and help that [`METRICS`] has.
fn add<M: Registered + Clone>(registry: &mut Registry, metric: &Metric, value: M) -> M {
    // The format's own endings are added to the name when it is written, and a full stop to the help.
    let name = metric.name.trim_end_matches("_total");
    registry.register(name, metric.help, value.clone());
    value
}

impl Metrics {
    /// Metrics of a process that has done nothing yet; `version` is the program's.
    pub fn new(version: &str) -> Arc<Self> {
        let mut all = Registry::default();
        let registry = &mut all;
        let counters = |registry: &mut Registry, metric| add(registry, metric, Counters::default());
        let gauges = |registry: &mut Registry, metric| add(registry, metric, Gauges::default());
        let seconds = Family::new_with_constructor(BySeconds);
        let metrics = Self {
            runs: counters(registry, &names::RUNS),
            retried_runs: counters(registry, &names::RETRIED_RUNS),
            seconds: add(registry, &names::SECONDS, seconds),
            written: counters(registry, &names::WRITTEN),
            left_behind: counters(registry, &names::LEFT_BEHIND),
            read: counters(registry, &names::READ),
            rows: counters(registry, &names::ROWS),
            batches: counters(registry, &names::BATCHES),
            retries: counters(registry, &names::RETRIES),
            ledger_up: gauges(registry, &names::LEDGER_UP),
            jobs: gauges(registry, &names::JOBS),
            waiting: gauges(registry, &names::WAITING),
            oldest: gauges(registry, &names::OLDEST),
            since_success: gauges(registry, &names::SINCE_SUCCESS),
            conflicts: gauges(registry, &names::CONFLICTS),
            quarantine: gauges(registry, &names::QUARANTINE),
            unfinished: gauges(registry, &names::UNFINISHED),
            resident: gauges(registry, &names::RESIDENT),
            peak: gauges(registry, &names::PEAK),
            registry: {
                let build = gauges(registry, &names::BUILD);
                build
                    .get_or_create(&vec![("version", version.to_owned())])
                    .set(1.0);
                all
            },
        };
        // A counter that is not there until it rises looks like one that is not served.
        drop(metrics.retries.get_or_create(&Vec::new()));
        Arc::new(metrics)
    }

    /// A sink that counts events and hands them on to `events`.
    pub fn listening(self: &Arc<Self>, events: Events) -> Events {
        let metrics = Arc::clone(self);
        Events::new(move |event| {
            metrics.count(&event);
            events.send(event);
        })
    }

    fn count(&self, event: &Event) {
        match event {
            Event::RowsDone { entity, rows, .. } => raise(&self.rows, ("entity", entity), *rows),
            Event::BatchFinished { entity, .. } => raise(&self.batches, ("entity", entity), 1),
            Event::Retried { .. } => {
                self.retries.get_or_create(&Vec::new()).inc();
            }
            Event::JobEnded(end) => self.job_ended(end),
            _ => {}
        }
    }

    fn job_ended(&self, end: &JobEnd) {
        let job = ("job", end.job.as_str());
        let labels = vec![
            ("job", end.job.clone()),
            ("outcome", end.outcome.to_owned()),
        ];
        self.runs.get_or_create(&labels).inc();
        raise(&self.retried_runs, job, u64::from(end.run_type == "retry"));
        raise(&self.written, job, end.written);
        raise(&self.left_behind, job, end.left_behind);
        raise(&self.read, job, end.read);
        if let Some(seconds) = end.seconds {
            let labels = vec![("job", end.job.clone())];
            self.seconds.get_or_create(&labels).observe(seconds);
        }
    }

    /// All metrics as text, with what the ledger says; `None` where it doesn't answer.
    fn text(&self, observed: Option<&Observed>) -> String {
        set_one(&self.resident, bytes(memory::resident()));
        set_one(&self.peak, bytes(memory::peak()));
        set_one(&self.ledger_up, f64::from(u8::from(observed.is_some())));
        self.observed(observed);
        let mut text = String::new();
        // Only a sink that fails could fail it.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn observed(&self, observed: Option<&Observed>) {
        let none = Observed::default();
        let found = observed.unwrap_or(&none);
        set(&self.jobs, "status", numbers(&found.jobs));
        set(
            &self.since_success,
            "job",
            found.since_success.iter().cloned(),
        );
        set(&self.conflicts, "entity", numbers(&found.open_differences));
        set(&self.quarantine, "entity", numbers(&found.open_quarantine));
        let single = [
            (&self.waiting, number(found.queue.waiting)),
            (&self.oldest, found.queue.oldest_seconds),
            (&self.unfinished, number(found.unfinished_runs)),
        ];
        for (gauge, value) in single {
            gauge.clear();
            if observed.is_some() {
                set_one(gauge, value);
            }
        }
    }
}

fn raise(counters: &Counters, (label, value): (&'static str, &str), by: u64) {
    let labels = vec![(label, value.to_owned())];
    counters.get_or_create(&labels).inc_by(by);
}

fn set_one(gauges: &Gauges, value: f64) {
    gauges.get_or_create(&Vec::new()).set(value);
}

fn set(gauges: &Gauges, label: &'static str, values: impl Iterator<Item = (String, f64)>) {
    gauges.clear();
    for (name, value) in values {
        gauges.get_or_create(&vec![(label, name)]).set(value);
    }
}

fn numbers(counts: &[(String, i64)]) -> impl Iterator<Item = (String, f64)> {
    counts
        .iter()
        .map(|(name, count)| (name.clone(), number(*count)))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format has no other numbers"
)]
fn number(count: i64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format has no other numbers"
)]
fn bytes(count: u64) -> f64 {
    count as f64
}
