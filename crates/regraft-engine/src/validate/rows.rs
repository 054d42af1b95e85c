//! Rows of `COPY ... TO STDOUT`, one at a time, and two such streams met in key order. Memory does
//! not grow with the number of rows.

use std::cmp::Ordering;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join;
use regraft_pg::Session;
use regraft_pg::copy::{Reader, Tuple};
use tokio_postgres::CopyOutStream;

use super::subject::KeptRows;
use crate::error::{Error, Kind, Result};

/// Where the statements of a stream come from.
pub(super) enum Parts<'a> {
    /// One query.
    One(Option<String>),
    /// The kept rows of the source, in as many parts as the quarantine makes necessary.
    Kept(KeptRows<'a>),
}

impl Parts<'_> {
    async fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::One(query) => Ok(query.take()),
            Self::Kept(rows) => rows.next_part().await,
        }
    }
}

/// A stream of rows, standing at one of them.
pub(super) struct Rows<'a> {
    session: &'a Session,
    parts: Parts<'a>,
    fields: usize,
    open: Option<Pin<Box<CopyOutStream>>>,
    reader: Reader,
    tuple: Tuple,
    chunk: Bytes,
    at: usize,
    next: usize,
}

impl<'a> Rows<'a> {
    /// The rows that `parts` give over `session`, each of so many fields.
    pub(super) fn new(session: &'a Session, parts: Parts<'a>, fields: usize) -> Self {
        Self {
            session,
            parts,
            fields,
            open: None,
            reader: Reader::default(),
            tuple: Tuple::default(),
            chunk: Bytes::new(),
            at: 0,
            next: 0,
        }
    }

    /// Goes to the next row; `false` after the last one.
    pub(super) async fn advance(&mut self) -> Result<bool> {
        loop {
            if self.next < self.chunk.len() {
                self.at = self.next;
                if let Some(used) = self.tuple.parse(&self.chunk[self.at..], self.fields)? {
                    self.next = self.at + used;
                    return Ok(true);
                }
                self.reader.finish();
                self.next = self.chunk.len();
            } else if !self.receive().await? {
                return Ok(false);
            }
        }
    }

    /// Waits for the next chunk, or begins the next part; `false` when there is neither.
    async fn receive(&mut self) -> Result<bool> {
        let Some(stream) = &mut self.open else {
            let Some(query) = self.parts.next().await? else {
                return Ok(false);
            };
            let statement = format!("copy ({query}\n) to stdout (format binary)");
            let stream = self
                .session
                .copy_out(&statement)
                .await
                .map_err(|e| self.session.error(e))?;
            self.open = Some(Box::pin(stream));
            self.reader = Reader::default();
            return Ok(true);
        };
        match stream.next().await {
            Some(chunk) => {
                let chunk = chunk.map_err(|e| self.session.error(e))?;
                self.chunk = self.reader.payload(&chunk)?;
                self.next = 0;
            }
            None if self.reader.is_finished() => self.open = None,
            None => {
                let message = format!(
                    "the {}'s data ended before its end marker",
                    self.session.side().name()
                );
                return Err(Error::new(Kind::Unreachable, message));
            }
        }
        Ok(true)
    }

    /// A field of the row it stands at; `None` is NULL.
    pub(super) fn field(&self, index: usize) -> Option<&[u8]> {
        self.tuple.field(&self.chunk[self.at..], index)
    }

    /// A field that holds a bigint; 0 for anything else.
    pub(super) fn number(&self, index: usize) -> i64 {
        self.field(index)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, i64::from_be_bytes)
    }

    /// A field that holds an integer; 0 for anything else.
    pub(super) fn small_number(&self, index: usize) -> i32 {
        self.field(index)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, i32::from_be_bytes)
    }

    /// Whether a field holds a boolean that is true.
    pub(super) fn flag(&self, index: usize) -> bool {
        self.field(index) == Some(&[1])
    }
}

/// Which of two streams has a row under the key that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// Only the source.
    Source,
    /// Only the target.
    Target,
    /// Both.
    Both,
}

/// Two streams in the order of their first field, the legacy id.
pub(super) struct Merge<'a> {
    /// The source's rows.
    pub(super) source: Rows<'a>,
    /// The target's rows.
    pub(super) target: Rows<'a>,
    numeric: bool,
    last: Option<Meeting>,
    has_source: bool,
    has_target: bool,
}

impl<'a> Merge<'a> {
    /// Meets two streams whose legacy ids are bigints, or text in byte order.
    pub(super) fn new(source: Rows<'a>, target: Rows<'a>, numeric: bool) -> Self {
        Self {
            source,
            target,
            numeric,
            last: None,
            has_source: false,
            has_target: false,
        }
    }

    /// Goes to the next legacy id; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Meeting>> {
        match self.last {
            None => {
                // Both servers begin to work at the same time.
                (self.has_source, self.has_target) =
                    try_join(self.source.advance(), self.target.advance()).await?;
            }
            Some(Meeting::Source) => self.has_source = self.source.advance().await?,
            Some(Meeting::Target) => self.has_target = self.target.advance().await?,
            Some(Meeting::Both) => {
                self.has_source = self.source.advance().await?;
                self.has_target = self.target.advance().await?;
            }
        }
        self.last = match (self.has_source, self.has_target) {
            (false, false) => None,
            (true, false) => Some(Meeting::Source),
            (false, true) => Some(Meeting::Target),
            (true, true) => Some(
                match compare(self.numeric, self.source.field(0), self.target.field(0)) {
                    Ordering::Less => Meeting::Source,
                    Ordering::Greater => Meeting::Target,
                    Ordering::Equal => Meeting::Both,
                },
            ),
        };
        Ok(self.last)
    }

    /// The legacy id it stands at, as it was read.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match self.last {
            Some(Meeting::Target) => self.target.field(0),
            _ => self.source.field(0),
        }
    }

    /// The legacy id it stands at, as text.
    pub(super) fn id(&self) -> String {
        id_text(self.numeric, self.key())
    }
}

/// Legacy ids in their order; NULL comes last, as the servers sort it.
fn compare(numeric: bool, a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) if numeric => number(a).cmp(&number(b)),
        (Some(a), Some(b)) => a.cmp(b),
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

/// A legacy id as text.
pub(super) fn id_text(numeric: bool, field: Option<&[u8]>) -> String {
    match field {
        None => "NULL".to_owned(),
        Some(bytes) if numeric => number(bytes).map_or_else(String::new, |n| n.to_string()),
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_ids_are_ordered_as_the_servers_order_them() {
        let number = |n: i64| n.to_be_bytes();
        assert_eq!(
            compare(true, Some(&number(-5)), Some(&number(3))),
            Ordering::Less
        );
        assert_eq!(
            compare(true, Some(&number(10)), Some(&number(9))),
            Ordering::Greater
        );
        assert_eq!(compare(false, Some(b"10"), Some(b"9")), Ordering::Less);
        assert_eq!(compare(false, None, Some(b"zzz")), Ordering::Greater);
        assert_eq!(id_text(true, Some(&number(-7))), "-7");
    }
}
