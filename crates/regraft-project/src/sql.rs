//! SQL as a user wrote it, and where.

use crate::source_files::{SourceFiles, Span};

/// A piece of SQL in a project file: an expression, or a FROM list.
///
/// The text is the user's own, never reprinted. It may end in a `--` comment: whoever pastes it
/// into a statement must put a line break behind it.
#[derive(Debug, Clone)]
pub struct Sql {
    /// The SQL.
    pub text: String,
    /// The whole TOML string, quotes included.
    pub span: Span,
    /// Byte of the file where `text` begins, when the file holds `text` letter by letter.
    content_start: Option<usize>,
}

impl Sql {
    /// SQL written in the TOML string at `span`. [`Sql::span_at`] is exact when the string is
    /// between single quotes and holds no escapes; [`Sql::in_file`] is exact more often.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        let text = text.into();
        // An escape is always longer than what it stands for, so equal lengths mean none.
        let content_start = (span.len() == text.len() + 2).then_some(span.start + 1);
        Sql {
            text,
            span,
            content_start,
        }
    }

    /// SQL written in the TOML string at `span`, looked up in its file so that
    /// [`Sql::span_at`] is exact for multi-line strings too, unless they hold escapes.
    pub fn in_file(text: impl Into<String>, span: Span, sources: &SourceFiles) -> Self {
        let text = text.into();
        let written = sources.slice(span);
        let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") {
            3
        } else {
            1
        };
        let content_start = written.get(quotes..).and_then(|content| {
            // TOML drops a line break right after the opening quotes of a multi-line string.
            let skipped = match quotes {
                3 if content.starts_with("\r\n") => 2,
                3 if content.starts_with('\n') => 1,
                _ => 0,
            };
            let quoted = content[skipped..].strip_suffix(&written[..quotes])?;
            (quoted == text).then_some(span.start + quotes + skipped)
        });
        Sql {
            text,
            span,
            content_start,
        }
    }

    /// The place in the file of `len` characters of the SQL from `char_position` on, counted in
    /// characters from 0 (PostgreSQL counts from 1: subtract one). Falls back to the whole
    /// string when the file doesn't hold the SQL letter by letter (escapes).
    pub fn span_at(&self, char_position: usize, len: usize) -> Span {
        let Some(content_start) = self.content_start else {
            return self.span;
        };
        let byte_of = |chars: usize| {
            self.text
                .char_indices()
                .nth(chars)
                .map_or(self.text.len(), |(byte, _)| byte)
        };
        let start = byte_of(char_position);
        let end = byte_of(char_position.saturating_add(len)).max(start);
        Span {
            start: content_start + start,
            end: content_start + end,
            ..self.span
        }
    }
}

/// Two pieces of SQL are equal when their texts are, wherever they were written.
impl PartialEq for Sql {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Sql {}
