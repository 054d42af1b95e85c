//! The log: what happened, as one JSON document a line, in a file a day, kept for some days.
//!
//! It says what the terminal says, and no more: names, numbers and reasons, never a value of a row.
//! What can't be written stops nothing; it is told once.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use regraft_engine::{Error, Event, JobEnd, PaceChange};
use regraft_pg::Environment;
use serde_json::{Value, json};
use tracing_appender::rolling::{RollingFileAppender, Rotation};

use crate::diagnostics;
use crate::exit::ExitStatus;
use crate::printer::Printer;

/// The folder of the files; without it there is no log.
pub(crate) const FOLDER: &str = "REGRAFT_LOG_DIR";
/// How many days' files are kept.
pub(crate) const DAYS: &str = "REGRAFT_LOG_DAYS";

const DEFAULT_DAYS: usize = 14;

/// The log of one process. Nothing is written before it is opened.
pub(crate) struct Log {
    printer: Arc<Printer>,
    started: Instant,
    open: OnceLock<Mutex<Open>>,
}

struct Open {
    file: RollingFileAppender,
    /// Whether it was told that it can't be written.
    told: bool,
    /// The run that began last.
    operation: Option<String>,
    /// Of each entity the run that it was last part of.
    operations: HashMap<String, String>,
    entities: HashMap<String, Instant>,
}

impl Open {
    /// The run that something belongs to: that of its entity, or else the one run that is at work.
    fn operation_of(&self, entity: Option<&str>) -> Option<&String> {
        if let Some(operation) = entity.and_then(|entity| self.operations.get(entity)) {
            return Some(operation);
        }
        let mut at_work = self.entities.keys().filter_map(|e| self.operations.get(e));
        let last = self.operation.as_ref();
        match at_work.any(|operation| Some(operation) != last) {
            // Of several runs at work it is not known which.
            true => None,
            false => last,
        }
    }
}

impl Log {
    /// A log that is not open yet.
    pub(crate) fn new(printer: Arc<Printer>) -> Self {
        Self {
            printer,
            started: Instant::now(),
            open: OnceLock::new(),
        }
    }

    /// Opens it where the environment says.
    pub(crate) fn open(&self, environment: &Environment) {
        let folder = environment.get(FOLDER).filter(|folder| !folder.is_empty());
        let (Some(folder), None) = (folder, self.open.get()) else {
            return;
        };
        let days = match environment.get_parsed::<usize>(DAYS) {
            Ok(days) => days.unwrap_or(DEFAULT_DAYS).max(1),
            Err(error) => {
                self.printer.warning(error.message());
                DEFAULT_DAYS
            }
        };
        let built = RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix("regraft")
            .filename_suffix("jsonl")
            .max_log_files(days)
            .build(folder);
        match built {
            Ok(file) => {
                let open = Open {
                    file,
                    told: false,
                    operation: None,
                    operations: HashMap::new(),
                    entities: HashMap::new(),
                };
                let _ = self.open.set(Mutex::new(open));
                self.write("info", "started", json!({ "command": command() }));
            }
            Err(error) => self.printer.warning(format!(
                "there is no log: no file can be made in {FOLDER} ({error}); the work goes on"
            )),
        }
    }

    /// Tells what the engine tells.
    pub(crate) fn event(&self, event: &Event) {
        if self.open.get().is_none() {
            return;
        }
        let (name, fields) = match event {
            Event::RunStarted {
                run_id,
                resumed,
                entities,
                ..
            } => {
                self.with(|open| {
                    open.operation = Some(run_id.clone());
                    let of = entities.iter().map(|e| (e.clone(), run_id.clone()));
                    open.operations.extend(of);
                });
                let fields = json!({
                    "operation_id": run_id, "resumed": resumed, "entities": entities,
                });
                ("run_started", fields)
            }
            Event::EntityStarted {
                entity,
                rows,
                batches,
                mode,
            } => {
                self.with(|open| open.entities.insert(entity.clone(), Instant::now()));
                let fields =
                    json!({ "entity": entity, "rows": rows, "batches": batches, "mode": mode });
                ("entity_started", fields)
            }
            Event::RowsDone {
                entity,
                batch,
                rows,
            } => {
                let fields = json!({ "entity": entity, "batch": batch, "rows": rows });
                ("rows_done", fields)
            }
            Event::PhaseStarted { entity, phase } => {
                ("phase_started", json!({ "entity": entity, "phase": phase }))
            }
            Event::EntityFinished {
                entity,
                inserted,
                left,
                ..
            } => {
                let began = self.with(|open| open.entities.remove(entity)).flatten();
                let duration = began.map(|began| began.elapsed().as_millis() as u64);
                let fields = json!({
                    "entity": entity, "written": inserted, "left_behind": left, "duration_ms": duration,
                });
                ("entity_finished", fields)
            }
            Event::Retried {
                entity,
                batch,
                text,
            } => {
                let fields = json!({ "entity": entity, "batch": batch, "message": text });
                ("retried", fields)
            }
            Event::RunFinished { run_id, failed } => {
                let kind = failed.as_ref().map(|(kind, _)| kind.as_str());
                ("run_finished", json!({ "run_id": run_id, "error": kind }))
            }
            Event::JobEnded(end) => ("job_ended", job_ended(end)),
            Event::JobFailed { job, error } => {
                let mut fields = diagnostics::record(error);
                fields["job"] = json!(job);
                self.write("error", "failed", fields);
                return;
            }
            Event::PaceChanged(change) => {
                let PaceChange {
                    rate,
                    slower,
                    reason,
                } = change;
                let fields = json!({
                    "slower": slower, "workers": rate.workers, "of": rate.of, "percent": rate.percent,
                    "stopped": rate.stopped, "reason": reason.code(), "message": reason.to_string(),
                });
                ("pace_changed", fields)
            }
            Event::Note(text) => ("note", json!({ "message": text })),
            // Its rows are told when they are done.
            Event::BatchStarted { .. } | Event::BatchFinished { .. } => return,
        };
        self.write("info", name, fields);
    }

    /// Tells how the process ends.
    pub(crate) fn end(&self, error: Option<&Error>, status: ExitStatus) {
        if let Some(error) = error {
            self.write("error", "failed", diagnostics::record(error));
        }
        let fields = json!({
            "exit_code": status.code(),
            "duration_ms": self.started.elapsed().as_millis() as u64,
        });
        self.write("info", "ended", fields);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Open) -> T) -> Option<T> {
        let open = self.open.get()?;
        Some(work(
            &mut open.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    fn write(&self, level: &str, event: &str, fields: Value) {
        let failed = self.with(|open| {
            let entity = fields.get("entity").and_then(Value::as_str);
            let mut record = json!({
                "time": Timestamp::now().to_string(),
                "level": level,
                "event": event,
                "process": std::process::id(),
                "operation_id": open.operation_of(entity),
            });
            if let (Some(record), Value::Object(fields)) = (record.as_object_mut(), fields) {
                record.extend(fields);
            }
            let line = format!("{record}\n");
            let written = open.file.write_all(line.as_bytes());
            let first = written.is_err() && !open.told;
            open.told |= written.is_err();
            first.then_some(written.err()).flatten()
        });
        if let Some(Some(error)) = failed {
            self.printer.warning(format!(
                "the log in {FOLDER} can't be written ({error}); the work goes on without it"
            ));
        }
    }
}

fn job_ended(end: &JobEnd) -> Value {
    json!({
        "job": end.job,
        "run_type": end.run_type,
        "outcome": end.outcome,
        "duration_ms": end.seconds.map(|seconds| (seconds * 1e3).round()),
        "written": end.written,
        "left_behind": end.left_behind,
        "source_rows": end.read,
    })
}

/// The words of the command, without options and what they are about.
fn command() -> String {
    let with_value = ["--project", "--format", "--color"];
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        if with_value.contains(&word.as_str()) {
            arguments.next();
        } else if !word.starts_with('-') {
            words.push(word);
        }
    }
    let verbs = match words.first().map(String::as_str) {
        Some(
            "schema" | "quarantine" | "mappings" | "differential" | "conflicts" | "sync"
            | "service" | "analyzer" | "ledger",
        ) => 2,
        _ => 1,
    };
    words.truncate(verbs);
    words.join(" ")
}
