//! Traces over OTLP/HTTP: a span for each run, below it one for each entity, and below that one for
//! each batch, with counts and times.
//!
//! There are none unless the environment names a collector. Spans are handed to a thread of their
//! own: a collector that hangs, or is away, costs spans and no time but a moment at the end. No span
//! holds a row's value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use regraft_engine::{Event, Kind};
use regraft_pg::Environment;

use crate::printer::Printer;

mod export;

/// The collector; without it there are no traces.
pub(crate) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// The collector of traces alone, with its path.
pub(crate) const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// The name that the spans are filed under.
pub(crate) const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// What requests to the collector are sent with.
pub(crate) const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// How long the end of the process waits for the last spans.
const LAST: Duration = Duration::from_secs(3);

/// The traces of one process. Nothing is traced before it is opened.
pub(crate) struct Traces {
    printer: Arc<Printer>,
    open: OnceLock<Open>,
}

struct Open {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    at_work: Mutex<AtWork>,
}

/// Spans that are not ended.
#[derive(Default)]
struct AtWork {
    /// By their ids: a service has several at work, of entities of their own.
    runs: HashMap<String, RunAtWork>,
    entities: HashMap<String, Context>,
    batches: HashMap<(String, i32), Span>,
    retries: HashMap<(String, i32), i64>,
    /// When something was last heard of: what tells only of its end began then.
    heard: Option<SystemTime>,
}

struct RunAtWork {
    context: Context,
    entities: Vec<String>,
}

impl Traces {
    /// Traces that are not open yet.
    pub(crate) fn new(printer: Arc<Printer>) -> Self {
        Self {
            printer,
            open: OnceLock::new(),
        }
    }

    /// Opens them where the environment says.
    pub(crate) fn open(&self, environment: &Environment) {
        if self.open.get().is_some() {
            return;
        }
        let exporter = match export::exporter(environment) {
            None => return,
            Some(Ok(exporter)) => exporter,
            Some(Err(why)) => {
                self.printer.warning(format!(
                    "there are no traces: {why}; the work goes on without them"
                ));
                return;
            }
        };
        let name = given(environment, SERVICE_NAME).unwrap_or("regraft");
        let resource = Resource::builder()
            .with_service_name(name.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("regraft");
        let _ = self.open.set(Open {
            provider,
            tracer,
            at_work: Mutex::default(),
        });
    }

    /// Traces what the engine tells.
    pub(crate) fn event(&self, event: &Event) {
        if let Some(open) = self.open.get() {
            let mut at_work = open.at_work.lock().unwrap_or_else(PoisonError::into_inner);
            at_work.take(&open.tracer, event);
            at_work.heard = Some(SystemTime::now());
        }
    }

    /// Delivers what is not delivered yet, and doesn't wait long for it.
    pub(crate) fn finish(&self) {
        let Some(open) = self.open.get() else { return };
        let mut at_work = open.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.cut_off(|_| true);
        drop(at_work);
        let delivered = open.provider.shutdown_with_timeout(LAST);
        if delivered.is_err() || export::failed() {
            self.printer.warning(
                "traces could not be delivered to the collector; the work is not touched by that",
            );
        }
    }
}

/// A variable that is set to something.
fn given<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment.get(name).filter(|value| !value.is_empty())
}

/// Entity and batch that an error is of.
type Fault<'f> = (Option<&'f str>, Option<i32>);

impl AtWork {
    fn take(&mut self, tracer: &SdkTracer, event: &Event) {
        match event {
            Event::RunStarted {
                run_id,
                resumed,
                entities,
                ..
            } => {
                // One whose end was not told was cut off.
                self.cut_off(|run| run.entities.iter().any(|entity| entities.contains(entity)));
                let command = run_id.split("_20").next().unwrap_or(run_id);
                let span = tracer
                    .span_builder("run")
                    .with_attributes([
                        text("regraft.run.id", run_id),
                        text("regraft.command", command),
                        KeyValue::new("regraft.run.resumed", *resumed),
                        KeyValue::new("regraft.entities", texts(entities)),
                    ])
                    .start_with_context(tracer, &Context::new());
                let run = RunAtWork {
                    context: Context::new().with_span(span),
                    entities: entities.clone(),
                };
                self.runs.insert(run_id.clone(), run);
            }
            Event::EntityStarted {
                entity,
                rows,
                batches,
                mode,
            } => {
                let context = self.entity(tracer, entity, SystemTime::now());
                let span = context.span();
                span.set_attribute(number("regraft.source_rows", *rows));
                span.set_attribute(number("regraft.batches", *batches));
                span.set_attribute(KeyValue::new("regraft.mode", *mode));
            }
            Event::PhaseStarted { entity, phase } => {
                if let Some(context) = self.entities.get(entity) {
                    let attributes = vec![text("regraft.phase", phase)];
                    context.span().add_event("phase", attributes);
                }
            }
            Event::BatchStarted { entity, batch } => self.batch_started(tracer, entity, *batch),
            Event::BatchFinished {
                entity,
                batch,
                rows,
            } => self.batch_finished((entity, *batch), *rows),
            Event::Retried { entity, batch, .. } => {
                if let (Some(entity), Some(batch)) = (entity, batch) {
                    let key = (entity.clone(), *batch);
                    *self.retries.entry(key).or_default() += 1;
                } else if let Some(run) = self.run_of(entity.as_deref()) {
                    run.context.span().add_event("retried", Vec::new());
                }
            }
            Event::EntityFinished {
                entity,
                inserted,
                left,
                ..
            } => {
                let since = self.heard.unwrap_or_else(SystemTime::now);
                let context = self.entity(tracer, entity, since);
                context
                    .span()
                    .set_attribute(number("regraft.rows.written", *inserted));
                context
                    .span()
                    .set_attribute(number("regraft.rows.left_behind", *left));
                self.entities.remove(entity);
                context.span().end();
            }
            Event::RunFinished { run_id, failed } => {
                let fault = failed
                    .as_ref()
                    .map(|(kind, place)| (*kind, Some((place.entity.as_deref(), place.batch))));
                self.end_run(run_id, fault);
            }
            Event::RowsDone { .. }
            | Event::PaceChanged(_)
            | Event::JobEnded(_)
            | Event::JobFailed { .. }
            | Event::Note(_) => {}
        }
    }

    /// The span of an entity; a new one that began at `since` where there is none.
    fn entity(&mut self, tracer: &SdkTracer, entity: &str, since: SystemTime) -> Context {
        if let Some(context) = self.entities.get(entity) {
            return context.clone();
        }
        let parent = self.run_of(Some(entity)).map(|run| run.context.clone());
        let span = tracer
            .span_builder("entity")
            .with_start_time(since)
            .with_attributes([text("regraft.entity", entity)])
            .start_with_context(tracer, &parent.unwrap_or_default());
        let context = Context::new().with_span(span);
        self.entities.insert(entity.to_owned(), context.clone());
        context
    }

    fn batch_started(&mut self, tracer: &SdkTracer, entity: &str, batch: i32) {
        let key = (entity.to_owned(), batch);
        // It was given up: what it was about is begun again in another cut.
        self.batches.remove(&key);
        let parent = self.entity(tracer, entity, SystemTime::now());
        let span = tracer
            .span_builder("batch")
            .with_attributes([
                text("regraft.entity", entity),
                KeyValue::new("regraft.batch", i64::from(batch)),
            ])
            .start_with_context(tracer, &parent);
        self.batches.insert(key, span);
    }

    fn batch_finished(&mut self, (entity, batch): (&str, i32), rows: u64) {
        let key = (entity.to_owned(), batch);
        let Some(mut span) = self.batches.remove(&key) else {
            return;
        };
        span.set_attribute(number("regraft.rows", rows));
        let retries = self.retries.remove(&key).unwrap_or(0);
        span.set_attribute(KeyValue::new("regraft.retries", retries));
        span.end();
    }

    /// The run that something is part of: that of its entity, or else the only one.
    fn run_of(&self, entity: Option<&str>) -> Option<&RunAtWork> {
        let is_its = |run: &&RunAtWork| {
            entity.is_some_and(|entity| run.entities.iter().any(|its| its == entity))
        };
        let only = || self.runs.values().next().filter(|_| self.runs.len() == 1);
        self.runs.values().find(is_its).or_else(only)
    }

    /// Ends runs that were cut off, and all that is at work in them.
    fn cut_off(&mut self, is_one: impl Fn(&RunAtWork) -> bool) {
        let runs = self.runs.iter().filter(|(_, run)| is_one(run));
        let ids: Vec<String> = runs.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end_run(&id, Some((Kind::Interrupted, None)));
        }
    }

    /// Ends a run and everything that is at work in it, with the error's kind where it is the error's.
    fn end_run(&mut self, run_id: &str, failed: Option<(Kind, Option<Fault<'_>>)>) {
        let Some(run) = self.runs.remove(run_id) else {
            return;
        };
        let alone = self.runs.is_empty();
        let is_its = |entity: &String| alone || run.entities.contains(entity);
        let fault = failed.and_then(|(_, fault)| fault).unwrap_or_default();
        for ((entity, batch), mut span) in self.batches.extract_if(|(entity, _), _| is_its(entity))
        {
            let retries = self.retries.remove(&(entity.clone(), batch)).unwrap_or(0);
            span.set_attribute(KeyValue::new("regraft.retries", retries));
            if let Some((kind, _)) = failed
                && fault == (Some(entity.as_str()), Some(batch))
            {
                span.set_attribute(KeyValue::new("error.type", kind.as_str()));
                span.set_status(Status::error(kind.as_str()));
            }
            span.end();
        }
        self.retries.retain(|(entity, _), _| !is_its(entity));
        for (entity, context) in self.entities.extract_if(|entity, _| is_its(entity)) {
            if let Some((kind, _)) = failed
                && fault.0 == Some(entity.as_str())
            {
                fail(&context, kind);
            }
            context.span().end();
        }
        match failed {
            Some((kind, _)) => fail(&run.context, kind),
            None => run.context.span().set_status(Status::Ok),
        }
        run.context.span().end();
    }
}

fn fail(context: &Context, kind: Kind) {
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", kind.as_str()));
    span.set_status(Status::error(kind.as_str()));
}

fn text(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, value.to_owned())
}

fn texts(values: &[String]) -> Value {
    let values: Vec<StringValue> = values.iter().cloned().map(StringValue::from).collect();
    Value::Array(values.into())
}

fn number(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))
}
