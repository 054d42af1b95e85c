//! What can go wrong, by what the user has to do about it.

use std::fmt;

use regraft_project::Problems;
use serde_json::{Value, json};

/// The result of the engine's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The classes of errors; each has its exit code (design, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or the project is at fault: nothing was written.
    Usage,
    /// A server can't be reached or the connection was lost for good.
    Unreachable,
    /// Data or a constraint stands in the way.
    Data,
    /// A privilege is missing.
    Permission,
    /// Stopped on request at a clean checkpoint.
    Interrupted,
    /// Another process holds the run; nothing was done.
    Busy,
    /// A fault of this program.
    Internal,
}

impl Kind {
    /// As results, the log and the ledger name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Data => "data",
            Self::Permission => "permission",
            Self::Interrupted => "interrupted",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Usage,
        Self::Unreachable,
        Self::Data,
        Self::Permission,
        Self::Interrupted,
        Self::Busy,
        Self::Internal,
    ];
}

/// Where it happened. Ids only, never values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The entity.
    pub entity: Option<String>,
    /// The batch.
    pub batch: Option<i32>,
    /// The legacy id, or the range of them.
    pub legacy_ids: Option<String>,
}

/// An error with its place and what to do next.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    place: Place,
    hint: Option<String>,
    problems: Option<Problems>,
    source: Option<regraft_pg::Error>,
}

impl Error {
    /// An error of `kind`; `message` says what happened.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            place: Place::default(),
            hint: None,
            problems: None,
            source: None,
        }))
    }

    /// The project can't be used; `problems` says why, each with file and line.
    pub fn problems(problems: Problems) -> Self {
        let mut error = Self::new(
            Kind::Usage,
            format!("the project has {} problems", problems.len()),
        );
        error.0.problems = Some(problems);
        error
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the entity it happened in, unless one is named already.
    #[must_use]
    pub fn in_entity(mut self, entity: &str) -> Self {
        self.0.place.entity.get_or_insert_with(|| entity.to_owned());
        self
    }

    /// Adds the batch and its range of legacy ids.
    #[must_use]
    pub fn in_batch(mut self, batch: i32, low: &str, high: &str) -> Self {
        self.0.place.batch.get_or_insert(batch);
        self.0
            .place
            .legacy_ids
            .get_or_insert_with(|| format!("{low}..{high}"));
        self
    }

    /// Its class.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it happened.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The problems of the project, where that is the error.
    pub fn project_problems(&self) -> Option<&Problems> {
        self.0.problems.as_ref()
    }

    /// The database's error behind it.
    pub fn database(&self) -> Option<&regraft_pg::Error> {
        self.0.source.as_ref()
    }
}

impl Error {
    /// What the ledger keeps of it. No value of a row is in it.
    pub(crate) fn to_note(&self) -> Value {
        let place = self.place();
        json!({
            "kind": self.kind().as_str(),
            "message": self.message(),
            "code": self.database().and_then(|e| e.sqlstate()),
            "entity": place.entity,
            "batch": place.batch,
            "legacy_ids": place.legacy_ids,
            "hint": self.hint_text(),
        })
    }

    /// An error that another process has noted.
    pub(crate) fn from_note(note: &Value) -> Self {
        let text = |field: &str| note.get(field).and_then(Value::as_str);
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| text("kind") == Some(kind.as_str()));
        let mut error = Self::new(
            kind.unwrap_or(Kind::Internal),
            text("message").unwrap_or("a worker could not go on"),
        );
        error.0.hint = text("hint").map(str::to_owned);
        error.0.place = Place {
            entity: text("entity").map(str::to_owned),
            batch: note
                .get("batch")
                .and_then(Value::as_i64)
                .and_then(|n| n.try_into().ok()),
            legacy_ids: text("legacy_ids").map(str::to_owned),
        };
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.0.place;
        if let Some(entity) = &place.entity {
            write!(f, "{entity}")?;
            if let Some(batch) = place.batch {
                write!(f, ", batch {batch}")?;
            }
            if let Some(ids) = &place.legacy_ids {
                write!(f, " (legacy ids {ids})")?;
            }
            write!(f, ": ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl From<regraft_pg::Error> for Error {
    fn from(source: regraft_pg::Error) -> Self {
        use regraft_pg::ErrorKind as K;
        let kind = match source.kind() {
            K::Settings | K::Install => Kind::Usage,
            K::Unreachable | K::ConnectionLost | K::Tls => Kind::Unreachable,
            K::Authentication | K::Permission => Kind::Permission,
            K::LockNotAvailable => Kind::Busy,
            // This program cancels no statement: a time limit of the server or somebody else did,
            // which is no stop on request.
            K::QueryCanceled => Kind::Data,
            K::Serialization | K::Constraint | K::Data | K::Resource | K::Query => Kind::Data,
            K::Io | K::Protocol => Kind::Internal,
        };
        let mut error = Self::new(kind, source.to_string());
        if source.kind() == K::ConnectionLost {
            error = error.hint(
                "when the server is back, run the same command again: what was committed stays",
            );
        }
        error.0.source = Some(source);
        error
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(source: tokio_postgres::Error) -> Self {
        regraft_pg::Error::from(source).into()
    }
}

impl From<regraft_pg::copy::Corrupt> for Error {
    fn from(source: regraft_pg::copy::Corrupt) -> Self {
        Self::new(Kind::Internal, source.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        Self::new(Kind::Internal, source.to_string())
    }
}
