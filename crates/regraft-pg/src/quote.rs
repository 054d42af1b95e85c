//! The only place where identifiers and literals are quoted for SQL text.
//!
//! Values go to the server as parameters; literals are quoted here only where PostgreSQL takes
//! no parameter (`COPY (select ...)`, DDL, `set`).

use std::fmt::Write as _;

/// An SQL identifier, always in double quotes, so that reserved words, capitals and quotes in
/// names need no special case. NUL can't occur in a PostgreSQL name and is dropped.
pub fn ident(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for c in name.chars().filter(|c| *c != '\0') {
        if c == '"' {
            quoted.push('"');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// `"schema"."name"`.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A comma-separated list of quoted identifiers.
pub fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for name in names {
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(&ident(name));
    }
    list
}

/// A string literal that reads the same whatever `standard_conforming_strings` says.
pub fn literal(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 3);
    if value.contains('\\') {
        quoted.push_str(" E");
    }
    quoted.push('\'');
    for c in value.chars().filter(|c| *c != '\0') {
        if c == '\'' || c == '\\' {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// A `text[]` or other array literal of strings, as `array['a', 'b']::type[]`.
pub fn array<'a>(values: impl IntoIterator<Item = &'a str>, element_type: &str) -> String {
    let mut list = String::from("array[");
    for (i, value) in values.into_iter().enumerate() {
        if i > 0 {
            list.push_str(", ");
        }
        list.push_str(&literal(value));
    }
    let _ = write!(list, "]::{element_type}[]");
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_could_break_out() {
        assert_eq!(ident("order"), "\"order\"");
        assert_eq!(
            ident("a\"; drop table x; --"),
            "\"a\"\"; drop table x; --\""
        );
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(array(["a", "b'c"], "text"), "array['a', 'b''c']::text[]");
    }
}
