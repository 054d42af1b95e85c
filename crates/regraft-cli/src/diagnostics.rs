//! Errors as people and programs read them: what happened, where, what to do next.

use regraft_engine::{Error, Kind};
use regraft_project::{ProblemRecord, Problems, SelectionError};
use serde::Serialize;

use crate::exit::ExitStatus;
use crate::figures;
use crate::printer::{Printer, wrapped};
use crate::style::{self, paint};

/// Prints an error and gives the status to end with.
pub(crate) fn print(printer: &Printer, error: &Error) -> ExitStatus {
    let status = ExitStatus::from(error.kind());
    if printer.is_json() {
        printer.error_document(&Document {
            error: Record::new(error, status),
        });
    } else {
        printer.error(&human(printer, error));
    }
    status
}

/// The JSON document of an error.
#[derive(Serialize)]
struct Document<'a> {
    error: Record<'a>,
}

#[derive(Serialize)]
struct Record<'a> {
    kind: &'static str,
    exit_code: u8,
    code: Option<&'a str>,
    message: &'a str,
    entity: Option<&'a str>,
    batch: Option<i32>,
    legacy_ids: Option<&'a str>,
    constraint: Option<&'a str>,
    hint: Option<&'a str>,
    problems: Vec<ProblemRecord<'a>>,
}

impl<'a> Record<'a> {
    fn new(error: &'a Error, status: ExitStatus) -> Self {
        let place = error.place();
        Self {
            kind: error.kind().as_str(),
            exit_code: status.code(),
            code: error.database().and_then(|database| database.sqlstate()),
            message: error.message(),
            entity: place.entity.as_deref(),
            batch: place.batch,
            legacy_ids: place.legacy_ids.as_deref(),
            constraint: error.database().and_then(|database| database.constraint()),
            hint: hint(error),
            problems: error
                .project_problems()
                .map(Problems::records)
                .unwrap_or_default(),
        }
    }
}

/// An error as a document, as the log has it.
pub(crate) fn record(error: &Error) -> serde_json::Value {
    let record = Record::new(error, ExitStatus::from(error.kind()));
    serde_json::to_value(record).unwrap_or_default()
}

/// An error for people, with what to do next on lines of its own.
pub(crate) fn human(printer: &Printer, error: &Error) -> String {
    if let Some(problems) = error.project_problems() {
        let mut text = problems.render(printer.colours_errors(), printer.error_width());
        push_hint(&mut text, printer, hint(error));
        return text;
    }
    let label = match error.kind() {
        Kind::Interrupted => paint(style::CAUTION, "stopped"),
        Kind::Busy => paint(style::CAUTION, "busy"),
        _ => paint(style::BAD, "error"),
    };
    let mut text = format!("{label}: {error}\n");
    if error.kind() == Kind::Internal {
        text.push_str("This is a fault of regraft, not of your data.\n");
    }
    push_hint(&mut text, printer, hint(error));
    text
}

fn push_hint(text: &mut String, printer: &Printer, hint: Option<&str>) {
    for line in hint.unwrap_or_default().lines() {
        let line = wrapped(printer, &format!("hint: {line}"), 6);
        text.push_str(&line.replacen("hint:", &paint(style::LITERAL, "hint:"), 1));
        text.push('\n');
    }
}

fn hint(error: &Error) -> Option<&str> {
    let database = error.database().and_then(|database| database.hint());
    error
        .hint_text()
        .or(database)
        .or_else(|| by_kind(error.kind()))
}

/// What to do next where nothing closer is known.
fn by_kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Permission => Some(
            "the source's user needs SELECT on the tables it reads; the target's user must own the \
             target tables, and needs CREATE on the database for the schema `regraft`",
        ),
        _ => None,
    }
}

/// The error of names that are neither entities nor groups.
pub(crate) fn unknown_name(error: &SelectionError) -> Error {
    let names: Vec<String> = error
        .unknown
        .iter()
        .map(|unknown| format!("`{}`", unknown.name))
        .collect();
    let mut hint = String::new();
    for unknown in &error.unknown {
        if let Some(near) = &unknown.suggestion {
            hint.push_str(&format!("did you mean `{near}`?\n"));
        }
    }
    hint.push_str(&format!("entities: {}\n", error.entities.join(", ")));
    hint.push_str(&format!("groups: {}", error.groups.join(", ")));
    let message = format!("there is no entity or group named {}", names.join(" or "));
    Error::new(Kind::Usage, message).hint(hint)
}

/// How many problems there are, in words.
pub(crate) fn problem_count(problems: &Problems) -> String {
    let warnings = problems
        .iter()
        .filter(|problem| problem.severity == regraft_project::Severity::Warning)
        .count();
    let errors = problems.len() - warnings;
    match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        (errors, 0) => figures::counted(errors as u64, "error"),
        (0, warnings) => figures::counted(warnings as u64, "warning"),
        (errors, warnings) => format!(
            "{}, {}",
            figures::counted(errors as u64, "error"),
            figures::counted(warnings as u64, "warning")
        ),
    }
}
