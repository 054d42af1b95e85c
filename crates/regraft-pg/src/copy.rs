//! The binary COPY format, walked and written in place.
//!
//! Layout (PostgreSQL documentation, "COPY", binary format): an 11 byte signature, flags and an
//! extension length (32 bit each); then per tuple a 16 bit field count and per field a 32 bit
//! length (-1 is NULL) and that many bytes; a field count of -1 ends the stream.

mod rows;

use bytes::{BufMut, Bytes, BytesMut};

pub use rows::{Row, Rows};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// What is wrong with a binary COPY stream. Never holds row values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// The stream does not begin with the signature of the binary format.
    #[error("not a binary COPY stream")]
    Signature,
    /// A tuple or field is cut off.
    #[error("a binary COPY tuple is cut off")]
    Truncated,
    /// A tuple has another number of fields than the query has columns.
    #[error("a binary COPY tuple has {found} fields where {expected} were expected")]
    FieldCount {
        /// Number of columns of the query.
        expected: usize,
        /// Number of fields in the tuple.
        found: usize,
    },
}

/// One tuple of a stream: borrowed bytes and where its fields lie.
///
/// The list of field positions is reused from row to row, so a walk allocates nothing.
#[derive(Debug, Default)]
pub struct Tuple {
    fields: Vec<(u32, i32)>,
}

impl Tuple {
    /// Reads one tuple of `expected` fields from the start of `bytes`; the number of bytes it
    /// takes, or `None` at the end-of-stream marker.
    pub fn parse(&mut self, bytes: &[u8], expected: usize) -> Result<Option<usize>, Corrupt> {
        self.fields.clear();
        let count = i16::from_be_bytes(
            bytes
                .get(..2)
                .and_then(|b| b.try_into().ok())
                .ok_or(Corrupt::Truncated)?,
        );
        if count == -1 {
            return Ok(None);
        }
        if count < 0 || count as usize != expected {
            return Err(Corrupt::FieldCount {
                expected,
                found: count.max(0) as usize,
            });
        }
        let mut at = 2usize;
        for _ in 0..count {
            let len = i32::from_be_bytes(
                bytes
                    .get(at..at + 4)
                    .and_then(|b| b.try_into().ok())
                    .ok_or(Corrupt::Truncated)?,
            );
            at += 4;
            self.fields.push((at as u32, len));
            if len >= 0 {
                at += len as usize;
                if at > bytes.len() {
                    return Err(Corrupt::Truncated);
                }
            }
        }
        Ok(Some(at))
    }

    /// The bytes of field `index` within the `bytes` this tuple was parsed from; `None` is NULL.
    #[inline]
    pub fn field<'a>(&self, bytes: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let (start, len) = self.fields[index];
        (len >= 0).then(|| &bytes[start as usize..start as usize + len as usize])
    }
}

/// Splits the chunks of a `COPY ... TO STDOUT (FORMAT binary)` into tuples.
///
/// PostgreSQL sends a row per message and glues the header to the first one; this reader takes
/// any number of whole rows per chunk.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    finished: bool,
}

impl Reader {
    /// The part of `chunk` that holds tuples: the header is checked and cut off once.
    pub fn payload(&mut self, chunk: &Bytes) -> Result<Bytes, Corrupt> {
        if self.started {
            return Ok(chunk.clone());
        }
        if chunk.len() < 19 || &chunk[..11] != SIGNATURE {
            return Err(Corrupt::Signature);
        }
        let extension = u32::from_be_bytes([chunk[15], chunk[16], chunk[17], chunk[18]]) as usize;
        if chunk.len() < 19 + extension {
            return Err(Corrupt::Truncated);
        }
        self.started = true;
        Ok(chunk.slice(19 + extension..))
    }

    /// Notes that the end marker was seen.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether the stream ended with its end marker: one that did not was cut.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

/// Builds a binary COPY stream for `COPY ... FROM STDIN (FORMAT binary)` in one growing block.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
}

impl Writer {
    /// A writer whose block begins with the stream header.
    pub fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(192 << 10);
        buffer.put_slice(SIGNATURE);
        buffer.put_u32(0);
        buffer.put_u32(0);
        Self { buffer }
    }

    /// Bytes waiting in the block.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Begins a tuple of `fields` fields.
    #[inline]
    pub fn tuple(&mut self, fields: i16) {
        self.buffer.put_i16(fields);
    }

    /// Appends a NULL field.
    #[inline]
    pub fn null(&mut self) {
        self.buffer.put_i32(-1);
    }

    /// Appends a field.
    #[inline]
    pub fn field(&mut self, bytes: &[u8]) {
        self.buffer.put_i32(bytes.len() as i32);
        self.buffer.put_slice(bytes);
    }

    /// Appends a field or NULL.
    #[inline]
    pub fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.field(bytes),
            None => self.null(),
        }
    }

    /// Appends whole tuples that are already encoded.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Marks where the block stands, to come back to with [`Writer::truncate`].
    #[inline]
    pub fn mark(&self) -> usize {
        self.buffer.len()
    }

    /// Drops all that was appended since `mark`.
    #[inline]
    pub fn truncate(&mut self, mark: usize) {
        self.buffer.truncate(mark);
    }

    /// The bytes appended since `mark`.
    #[inline]
    pub fn since(&self, mark: usize) -> &[u8] {
        &self.buffer[mark..]
    }

    /// The same, to be changed in place.
    #[inline]
    pub fn since_mut(&mut self, mark: usize) -> &mut [u8] {
        &mut self.buffer[mark..]
    }

    /// Takes the block away to be sent, leaving an empty one.
    pub fn take(&mut self) -> Bytes {
        let full = self.buffer.split().freeze();
        self.buffer.reserve(full.len().min(192 << 10));
        full
    }

    /// Appends the end marker.
    pub fn end(&mut self) {
        self.buffer.put_i16(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Bytes {
        let mut writer = Writer::new();
        writer.tuple(3);
        writer.field(b"abc");
        writer.null();
        writer.field(b"");
        writer.end();
        writer.take()
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let mut reader = Reader::default();
        let bytes = reader.payload(&stream()).unwrap();
        let mut tuple = Tuple::default();
        let used = tuple.parse(&bytes, 3).unwrap().unwrap();
        assert_eq!(tuple.field(&bytes, 0), Some(&b"abc"[..]));
        assert_eq!(tuple.field(&bytes, 1), None);
        assert_eq!(tuple.field(&bytes, 2), Some(&b""[..]));
        assert_eq!(tuple.parse(&bytes[used..], 3).unwrap(), None);
    }

    #[test]
    fn every_cut_is_an_error_and_never_a_panic() {
        let whole = stream();
        let mut tuple = Tuple::default();
        for end in 0..whole.len() - 2 {
            let cut = whole.slice(..end);
            let mut reader = Reader::default();
            let outcome = reader
                .payload(&cut)
                .and_then(|bytes| tuple.parse(&bytes, 3));
            assert!(
                outcome.is_err(),
                "a stream cut after {end} bytes was accepted"
            );
        }
        assert_eq!(
            tuple.parse(&[0, 2, 0, 0, 0, 0, 0, 0, 0, 0], 3),
            Err(Corrupt::FieldCount {
                expected: 3,
                found: 2
            })
        );
    }
}
