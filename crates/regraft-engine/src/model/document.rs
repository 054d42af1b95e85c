//! jsonb documents that are put together here out of their members: the source would spend more on
//! building them than on all else of a row.
//!
//! What is written is, byte for byte, what `jsonb_send` makes of `jsonb_build_object`: members by the
//! length of their names, then by their bytes (jsonb_util.c, `lengthCompareJsonbString`), one blank
//! after each colon and comma (jsonb.c, `JsonbToCString`). A value can then be compared with what
//! the target sends back.

use regraft_project::{JsonField, JsonObject};
use tokio_postgres::types::Type;

use super::fields::{Fields, cast};

/// The version of jsonb's binary form (jsonb.c, `jsonb_send`).
const VERSION: u8 = 1;

/// A document of one shape, whose members are fields of the source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// Braces, names, colons and commas.
    Text(Vec<u8>),
    Member {
        /// Its position among the fields.
        field: usize,
        form: Form,
    },
}

/// How the binary form of a member becomes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Integer,
    Boolean,
    Text,
    /// The source has made jsonb of it.
    Document,
}

impl Document {
    /// The document of an object; `types` are those of its expressions, in their order.
    pub(crate) fn of(
        object: &JsonObject,
        types: &mut impl Iterator<Item = Type>,
        column: &str,
        fields: &mut Fields,
    ) -> Self {
        let mut document = Self::default();
        document.text(&[VERSION]);
        document.object(object, types, column, fields);
        document
    }

    fn object(
        &mut self,
        object: &JsonObject,
        types: &mut impl Iterator<Item = Type>,
        path: &str,
        fields: &mut Fields,
    ) {
        // Types come in the order in which the members are written in the project.
        let mut members: Vec<(&str, Self)> = Vec::new();
        for (name, field) in &object.fields {
            let path = format!("{path}.{name}");
            let mut value = Self::default();
            match field {
                JsonField::Object(inner) => value.object(inner, types, &path, fields),
                JsonField::Sql(sql) => {
                    let of = types.next().unwrap_or(Type::UNKNOWN);
                    let (form, sql) = read(&sql.text, &of);
                    let field = fields.position(&path, sql);
                    value.parts.push(Part::Member { field, form });
                }
            }
            members.push((name, value));
        }
        members.sort_by_key(|(name, _)| (name.len(), *name));
        self.text(b"{");
        for (i, (name, value)) in members.into_iter().enumerate() {
            if i > 0 {
                self.text(b", ");
            }
            let mut written = Vec::new();
            escape(name.as_bytes(), &mut written);
            self.text(&written);
            self.text(b": ");
            for part in value.parts {
                match part {
                    Part::Text(text) => self.text(&text),
                    member @ Part::Member { .. } => self.parts.push(member),
                }
            }
        }
        self.text(b"}");
    }

    fn text(&mut self, text: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Text(before)) => before.extend_from_slice(text),
            _ => self.parts.push(Part::Text(text.to_vec())),
        }
    }

    /// Appends the binary form of a row's document; `None` when a field isn't laid out as its type
    /// says.
    pub(crate) fn write<'a>(
        &self,
        of: impl Fn(&usize) -> Option<&'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Member { field, form } => match of(field) {
                    Some(value) => form.write(value, out)?,
                    None => out.extend_from_slice(b"null"),
                },
            }
        }
        Some(())
    }
}

/// How an expression of this type is read, and what becomes of it.
fn read(text: &str, of: &Type) -> (Form, String) {
    match *of {
        Type::INT2 | Type::INT4 | Type::INT8 => (Form::Integer, cast(text, None)),
        Type::BOOL => (Form::Boolean, cast(text, None)),
        Type::TEXT | Type::VARCHAR => (Form::Text, cast(text, None)),
        Type::UNKNOWN => (Form::Text, cast(text, Some("text"))),
        Type::JSONB => (Form::Document, cast(text, None)),
        _ => (Form::Document, format!("to_jsonb({})", cast(text, None))),
    }
}

impl Form {
    fn write(self, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Integer => {
                let number = match value.len() {
                    2 => i64::from(i16::from_be_bytes(value.try_into().ok()?)),
                    4 => i64::from(i32::from_be_bytes(value.try_into().ok()?)),
                    _ => i64::from_be_bytes(value.try_into().ok()?),
                };
                out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            Self::Boolean => match value {
                [0] => out.extend_from_slice(b"false"),
                [1] => out.extend_from_slice(b"true"),
                _ => return None,
            },
            Self::Text => escape(value, out),
            Self::Document => {
                let (version, text) = value.split_first()?;
                (*version == VERSION).then_some(())?;
                out.extend_from_slice(text);
            }
        }
        Some(())
    }
}

/// A JSON string as PostgreSQL writes it (json.c, `escape_json`).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => *byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => 0,
            _ => continue,
        };
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        match short {
            0 => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            short => out.extend_from_slice(&[b'\\', short]),
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}
