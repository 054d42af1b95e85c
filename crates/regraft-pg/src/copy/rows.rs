//! The rows of a query, read by COPY.

use std::pin::Pin;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio_postgres::CopyOutStream;

use super::{Corrupt, Reader, Tuple};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// The rows of a query in the binary format, one after the other, in bounded memory.
pub struct Rows<'a> {
    session: &'a Session,
    stream: Pin<Box<CopyOutStream>>,
    reader: Reader,
    tuple: Tuple,
    /// What is left of the last chunk, and the row at hand in front of it.
    rest: Bytes,
    used: usize,
    columns: usize,
}

/// One row, until the next is asked for.
pub struct Row<'a> {
    bytes: &'a [u8],
    tuple: &'a Tuple,
}

impl Row<'_> {
    /// Where its columns lie.
    pub fn tuple(&self) -> &Tuple {
        self.tuple
    }

    /// The whole row as it came, the count of its columns in front.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// The bytes of a column, counted from 0; `None` is NULL.
    pub fn get(&self, column: usize) -> Option<&[u8]> {
        self.tuple.field(self.bytes, column)
    }
}

impl<'a> Rows<'a> {
    /// Begins to read `query`, a SELECT of so many columns.
    ///
    /// # Errors
    /// Whatever the server refuses about it.
    pub async fn of(session: &'a Session, query: &str, columns: usize) -> Result<Rows<'a>> {
        let stream = session
            .copy_out(&format!("copy ({query}) to stdout (format binary)"))
            .await
            .map_err(|e| session.error(e))?;
        Ok(Self {
            session,
            stream: Box::pin(stream),
            reader: Reader::default(),
            tuple: Tuple::default(),
            rest: Bytes::new(),
            used: 0,
            columns,
        })
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// What the server reports on the way, and a stream that ends before its end marker.
    pub async fn next(&mut self) -> Result<Option<Row<'_>>> {
        self.rest.advance(self.used);
        self.used = 0;
        while self.rest.is_empty() {
            if self.reader.is_finished() {
                return Ok(None);
            }
            let Some(chunk) = self.stream.next().await else {
                return Err(self.corrupt(Corrupt::Truncated));
            };
            let chunk = chunk.map_err(|e| self.session.error(e))?;
            self.rest = self.reader.payload(&chunk).map_err(|e| self.corrupt(e))?;
        }
        match self.tuple.parse(&self.rest, self.columns) {
            Ok(Some(used)) => self.used = used,
            Ok(None) => {
                self.reader.finish();
                self.rest = Bytes::new();
                return Ok(None);
            }
            Err(error) => return Err(self.corrupt(error)),
        }
        Ok(Some(Row {
            bytes: &self.rest[..self.used],
            tuple: &self.tuple,
        }))
    }

    fn corrupt(&self, error: Corrupt) -> Error {
        Error::new(ErrorKind::Protocol, error.to_string()).with_side(self.session.side())
    }
}
