//! One error type for everything that touches PostgreSQL: classified, so that callers know
//! whether to retry, to quarantine or to give up, and redacted, so that it can be printed, logged
//! and stored without carrying a value of anybody's row.

mod condition;

use std::error::Error as _;
use std::fmt;

use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::types::WrongType;

use crate::settings::Side;

/// A result whose error is [`Error`] unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong; callers choose their policy and exit code by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A setting is missing, malformed or contradicts another.
    Settings,
    /// No connection to the server could be made.
    Unreachable,
    /// The server did not accept the user or the password (class 28).
    Authentication,
    /// TLS could not be negotiated, or the certificate was not trusted.
    Tls,
    /// The user may not do this (42501), or the session is read-only (25006).
    Permission,
    /// An open connection broke or was ended by the server (class 08, 57P01 to 57P05).
    ConnectionLost,
    /// A lock was not granted in time (55P03).
    LockNotAvailable,
    /// The statement was cancelled or ran into `statement_timeout` (57014).
    QueryCanceled,
    /// A serialization failure or a deadlock (40001, 40P01).
    Serialization,
    /// A row violates a constraint (class 23, 44000).
    Constraint,
    /// A value does not fit its type (class 22), or a trigger rejected the row (P0001, P0004).
    Data,
    /// The server ran out of something (classes 53, 54, 58).
    Resource,
    /// The statement is wrong (class 42), and all codes that fit no other kind.
    Query,
    /// PostgreSQL's own programs are missing or could not be run.
    Install,
    /// A local file or process could not be used.
    Io,
    /// The server said something that could not be understood.
    Protocol,
}

/// An error of this crate.
///
/// PostgreSQL's DETAIL, HINT and CONTEXT are never kept, and the primary message only where its
/// SQLSTATE guarantees that it names objects rather than values. Neither `Display` nor `Debug`
/// shows anything else; there is no `source()`, because the driver's error would carry it all.
///
/// `{}` prints one line; `{:#}` adds the hint, if there is one, on a second.
#[derive(Clone)]
pub struct Error(Box<Report>);

/// What is known about an error.
#[derive(Debug, Clone)]
struct Report {
    kind: ErrorKind,
    side: Option<Side>,
    sqlstate: Option<String>,
    /// Already redacted.
    message: Option<String>,
    hint: Option<String>,
    schema: Option<String>,
    table: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
    position: Option<u32>,
    copy_line: Option<u64>,
}

impl Error {
    /// An error of this program's own making. The message must not hold row values or passwords.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Report {
            message: Some(message.into()),
            ..Report::of_kind(kind)
        }))
    }

    /// The same error, known to concern this side.
    #[must_use]
    pub fn with_side(mut self, side: Side) -> Self {
        self.0.side = Some(side);
        self
    }

    /// The same error with advice on what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error under another kind, where the caller knows better what it means.
    #[must_use]
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same error with another message; the SQLSTATE and all names stay.
    #[must_use]
    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// A failure to use a local file or process: `doing` says what was tried, as in
    /// `reading /etc/x`.
    pub(crate) fn io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{doing}: {error}"))
    }

    /// The same error with an SQLSTATE that the server gave for it.
    #[must_use]
    pub(crate) fn with_sqlstate(mut self, sqlstate: Option<&str>) -> Self {
        self.0.sqlstate = sqlstate.map(str::to_owned);
        self
    }

    /// Classifies and redacts an error of the driver.
    pub fn from_postgres(side: Option<Side>, error: tokio_postgres::Error) -> Self {
        Self::of_postgres(side, &error)
    }

    pub(crate) fn of_postgres(side: Option<Side>, error: &tokio_postgres::Error) -> Self {
        let mut report = match error.as_db_error() {
            Some(db) => Report::of_server(db),
            None => Report::of_driver(error),
        };
        report.side = side;
        Self(Box::new(report))
    }

    /// What sort of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The database it happened in, where that is known.
    pub fn side(&self) -> Option<Side> {
        self.0.side
    }

    /// The five-character SQLSTATE, for errors that the server reported.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// The standard name of the SQLSTATE, as in `unique_violation`.
    pub fn condition(&self) -> Option<&'static str> {
        condition::name(self.sqlstate()?)
    }

    /// The violated constraint.
    pub fn constraint(&self) -> Option<&str> {
        self.0.constraint.as_deref()
    }

    /// The schema of the table or constraint concerned.
    pub fn schema(&self) -> Option<&str> {
        self.0.schema.as_deref()
    }

    /// The table concerned, without its schema.
    pub fn table(&self) -> Option<&str> {
        self.0.table.as_deref()
    }

    /// The column concerned: named by the server, or the one COPY was reading.
    pub fn column(&self) -> Option<&str> {
        self.0.column.as_deref()
    }

    /// Where in the statement the error lies: characters, the first is 1.
    pub fn position(&self) -> Option<u32> {
        self.0.position
    }

    /// The row of a COPY that failed: the first is 1.
    pub fn copy_line(&self) -> Option<u64> {
        self.0.copy_line
    }

    /// What happened, free of row values; the condition's name where the server's own message
    /// could not be kept.
    pub fn message(&self) -> &str {
        match &self.0.message {
            Some(message) => message,
            None => self.condition().unwrap_or("unknown condition"),
        }
    }

    /// What to do next, where there is something to say.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether the same thing may well succeed when tried again, on a new connection if need be.
    pub fn is_transient(&self) -> bool {
        match self.0.kind {
            ErrorKind::ConnectionLost => self.sqlstate() != Some("57P04"),
            ErrorKind::Serialization | ErrorKind::LockNotAvailable => true,
            ErrorKind::Resource => self.sqlstate().is_some_and(|code| code.starts_with("53")),
            // The server is there and starts up, or shuts down.
            ErrorKind::Unreachable => self.sqlstate() == Some("57P03"),
            _ => false,
        }
    }
}

impl Report {
    fn of_kind(kind: ErrorKind) -> Self {
        Self {
            kind,
            side: None,
            sqlstate: None,
            message: None,
            hint: None,
            schema: None,
            table: None,
            column: None,
            constraint: None,
            position: None,
            copy_line: None,
        }
    }

    fn of_server(db: &DbError) -> Self {
        let sqlstate = db.code().code();
        let kept = condition::message_is_safe(sqlstate, db.file());
        let (copy_line, copy_column) = db.where_().map(copy_position).unwrap_or_default();
        let mut report = Self {
            sqlstate: Some(sqlstate.to_owned()),
            message: kept.then(|| db.message().to_owned()),
            schema: db.schema().map(str::to_owned),
            table: db.table().map(str::to_owned),
            column: db.column().map(str::to_owned).or(copy_column),
            constraint: db.constraint().map(str::to_owned),
            position: match db.position() {
                Some(ErrorPosition::Original(position)) => Some(*position),
                // A position in a function's own statement says nothing about ours.
                Some(ErrorPosition::Internal { .. }) | None => None,
            },
            copy_line,
            ..Self::of_kind(condition::kind(sqlstate))
        };
        if report.message.is_none() {
            report.message = report.substitute();
        }
        report
    }

    /// What to say instead of a message that had to be withheld.
    fn substitute(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(constraint) = &self.constraint {
            parts.push(format!("constraint \"{constraint}\""));
        }
        if let Some(column) = &self.column {
            parts.push(format!("column \"{column}\""));
        }
        if let Some(table) = &self.table {
            parts.push(format!("table \"{table}\""));
        }
        if let Some(line) = self.copy_line {
            parts.push(format!("row {line} of the COPY"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// The driver keeps the kind of its own errors to itself, but each has a fixed text.
    fn of_driver(error: &tokio_postgres::Error) -> Self {
        let text = error.to_string();
        let cause = || error.source().map(ToString::to_string);
        let (kind, message) = match text.as_str() {
            _ if error.is_closed() => (
                ErrorKind::ConnectionLost,
                "the connection is closed".to_owned(),
            ),
            "error communicating with the server" => (
                ErrorKind::ConnectionLost,
                with_cause("the connection broke", cause()),
            ),
            "error connecting to server" => {
                (ErrorKind::Unreachable, with_cause("no connection", cause()))
            }
            "timeout waiting for server" => (ErrorKind::Unreachable, text),
            "error performing TLS handshake" => (ErrorKind::Tls, with_cause("TLS failed", cause())),
            "authentication error" => (
                ErrorKind::Authentication,
                with_cause("the log-in failed", cause()),
            ),
            "invalid configuration" if cause().is_some_and(|cause| cause == "password missing") => {
                (
                    ErrorKind::Authentication,
                    "the server wants a password, and none is set".to_owned(),
                )
            }
            "invalid configuration" | "invalid connection string" => {
                (ErrorKind::Settings, with_cause(&text, cause()))
            }
            _ => {
                // Of conversions, only a mismatch of types is free of values.
                let mismatch = error.source().filter(|cause| cause.is::<WrongType>());
                let cause = mismatch.map(ToString::to_string);
                (ErrorKind::Protocol, with_cause(&text, cause))
            }
        };
        Self {
            message: Some(message),
            ..Self::of_kind(kind)
        }
    }
}

fn with_cause(what: &str, cause: Option<String>) -> String {
    match cause {
        Some(cause) => format!("{what}: {cause}"),
        None => what.to_owned(),
    }
}

/// The row and column out of COPY's CONTEXT, `COPY orders, line 3, column amount: "abc"`, leaving
/// the value behind.
fn copy_position(context: &str) -> (Option<u64>, Option<String>) {
    let Some(copy) = context
        .lines()
        .find_map(|line| line.strip_prefix("COPY "))
        .and_then(|copy| copy.split_once(", line "))
        .map(|(_table, rest)| rest)
    else {
        return (None, None);
    };
    let digits = copy
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(copy.len());
    let (number, rest) = copy.split_at(digits);
    let column = rest
        .strip_prefix(", column ")
        .map(|column| column.split(':').next().unwrap_or(column).to_owned());
    (number.parse().ok(), column)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(side) = self.0.side {
            write!(f, "{side}: ")?;
        }
        match (self.sqlstate(), self.condition(), &self.0.message) {
            (Some(code), Some(name), Some(message)) => write!(f, "{code} {name}: {message}")?,
            (Some(code), Some(name), None) => write!(f, "{code} {name}")?,
            (Some(code), None, _) => write!(f, "{code}: {}", self.message())?,
            (None, ..) => f.write_str(self.message())?,
        }
        if f.alternate()
            && let Some(hint) = self.hint()
        {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from_postgres(None, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_position_leaves_the_value_behind() {
        let column = |text: &str| Some(text.to_owned());
        for (context, expected) in [
            (
                "COPY orders, line 3, column amount: \"abc\"",
                (Some(3), column("amount")),
            ),
            (
                "COPY orders, line 12, column amount",
                (Some(12), column("amount")),
            ),
            (
                "COPY orders, line 7: \"1, column secret: x\"",
                (Some(7), None),
            ),
            ("COPY orders, line 7", (Some(7), None)),
            (
                "SQL statement \"x\"\nCOPY t, line 2, column a",
                (Some(2), column("a")),
            ),
            ("PL/pgSQL function f() line 3 at RAISE", (None, None)),
            ("", (None, None)),
        ] {
            assert_eq!(copy_position(context), expected, "{context}");
        }
    }

    #[test]
    fn the_hint_is_shown_in_the_long_form_only() {
        let error = Error::new(ErrorKind::Unreachable, "no answer")
            .with_side(Side::Source)
            .with_hint("start it");
        assert_eq!(error.to_string(), "source: no answer");
        assert_eq!(format!("{error:#}"), "source: no answer\nhint: start it");
    }

    #[test]
    fn transient_errors_are_those_that_pass() {
        let server = |code: &str| {
            Error(Box::new(Report {
                sqlstate: Some(code.to_owned()),
                ..Report::of_kind(condition::kind(code))
            }))
        };
        for code in [
            "40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03", "08006",
        ] {
            assert!(server(code).is_transient(), "{code}");
        }
        for code in [
            "23505", "22P02", "42P01", "54000", "57014", "57P04", "28P01",
        ] {
            assert!(!server(code).is_transient(), "{code}");
        }
    }
}
