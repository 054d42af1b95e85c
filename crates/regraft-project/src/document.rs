//! TOML as a tree in which every key and value knows its place.
//!
//! Reading goes over this tree instead of through serde's derive, because a derive stops at the
//! first mistake, and a user wants to see all of them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use crate::name;
use crate::problem::Problem;
use crate::source_files::{FileId, SourceFiles, Span, Spanned};
use crate::sql::Sql;

/// What is known while a project is read, and where problems go.
pub(crate) struct Reading<'a> {
    /// The files.
    pub(crate) sources: &'a SourceFiles,
    /// Names of all entities, whether or not their files are sound.
    pub(crate) entities: BTreeSet<String>,
    /// Paths of files that are there, but could not be read.
    unread: Vec<String>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        sources: &'a SourceFiles,
        entities: BTreeSet<String>,
        unread: Vec<String>,
    ) -> Self {
        Reading {
            sources,
            entities,
            unread,
            problems: RefCell::default(),
        }
    }

    /// Whether the file at `path` is there, but could not be read.
    pub(crate) fn is_unread(&self, path: &str) -> bool {
        self.unread.iter().any(|unread| unread == path)
    }

    pub(crate) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Reports `entity` unless it is the name of an entity.
    pub(crate) fn require_entity(&self, entity: &Spanned<String>) {
        if self.entities.contains(&entity.value) {
            return;
        }
        let known = self.entities.iter().map(String::as_str);
        self.report(
            Problem::error(
                "project::unknown-entity",
                format!("unknown entity `{}`", entity.value),
            )
            .at(entity.span)
            .label("no file of this name in entities/")
            .hint(name::suggestion(&entity.value, "entities", known)),
        );
    }
}

/// Parses the text of `file`. Syntax errors are reported; `None` when what is left of the file
/// would only lead to further, misleading problems.
pub(crate) fn parse<'a>(
    reading: &Reading<'_>,
    file: FileId,
    text: &'a str,
) -> Option<toml::Spanned<DeTable<'a>>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut usable = true;
    for error in &errors {
        let range = error.span().unwrap_or(0..0);
        let span = Span::new(file, range.start.min(text.len())..range.end.min(text.len()));
        let problem = if error.message().starts_with("duplicate key") {
            let key = text.get(range).unwrap_or_default();
            Problem::error(
                "project::duplicate-key",
                format!("`{key}` is defined twice"),
            )
            .label("the second definition")
            .hint("remove or rename one of the two")
        } else {
            usable = false;
            syntax_problem(error.message())
        };
        reading.report(problem.at(span));
    }
    usable.then_some(table)
}

fn syntax_problem(message: &str) -> Problem {
    let problem = Problem::error("project::syntax", format!("not valid TOML: {message}"));
    if message.contains("dotted key") {
        problem.hint("a dot in a key means a table; put such a key in quotes: \"1.5\" = ...")
    } else if message.contains("string values must be quoted") {
        problem.hint("put the value in quotes; SQL with quotes in it fits between '''")
    } else {
        problem
    }
}

/// A value of the tree.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) reading: &'a Reading<'a>,
    /// The value as written.
    pub(crate) span: Span,
    /// The key it was found under, for messages.
    pub(crate) key: &'a str,
    node: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    fn new(
        reading: &'a Reading<'a>,
        file: FileId,
        key: &'a str,
        value: &'a toml::Spanned<DeValue<'a>>,
    ) -> Self {
        Value {
            reading,
            span: Span::new(file, value.span()),
            key,
            node: value.get_ref(),
        }
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self.node, DeValue::String(_))
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.node, DeValue::Table(_))
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.node, DeValue::Integer(_))
    }

    /// Reports that this should have been `wanted` ("a string").
    pub(crate) fn wrong_type(&self, wanted: &str) -> Problem {
        let found = match self.node {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        Problem::error(
            "project::wrong-type",
            format!("`{}` must be {wanted}, not {found}", self.key),
        )
        .at(self.span)
        .label(format!("this is {found}"))
    }

    /// A string.
    pub(crate) fn string(&self) -> Option<Spanned<String>> {
        let DeValue::String(text) = self.node else {
            let wanted = self.wrong_type("a string");
            self.reading.report(match self.node {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                    wanted.hint("put it in quotes")
                }
                _ => wanted,
            });
            return None;
        };
        self.without_nul(text)
    }

    /// A string, integer, float or boolean, in the text form PostgreSQL reads.
    pub(crate) fn scalar(&self) -> Option<Spanned<String>> {
        let text = match self.node {
            DeValue::String(text) => return self.without_nul(text),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Float(value) => float_text(value.as_str()),
            DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
                Ok(value) => value.to_string(),
                Err(_) => {
                    self.reading.report(
                        Problem::error("project::out-of-range", "this integer is too large")
                            .at(self.span)
                            .hint("write it as a string"),
                    );
                    return None;
                }
            },
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                let problem = self.wrong_type("a string, a number or a boolean");
                self.reading.report(match self.node {
                    DeValue::Datetime(_) => problem.hint("put it in quotes"),
                    _ => problem,
                });
                return None;
            }
        };
        Some(Spanned::new(text, self.span))
    }

    /// An integer that fits 64 bits.
    pub(crate) fn integer(&self) -> Option<i64> {
        let DeValue::Integer(value) = self.node else {
            self.reading.report(self.wrong_type("an integer"));
            return None;
        };
        // Saturates: every caller checks a range that is narrower.
        Some(i64::from_str_radix(value.as_str(), value.radix()).unwrap_or(i64::MAX))
    }

    /// A table whose keys are all among `known`; `what` names it in messages.
    pub(crate) fn table(&self, what: &str, known: &'static [&'static str]) -> Option<Table<'a>> {
        let table = self.open_table(what)?.knowing(known);
        table.reject_unknown(known);
        Some(table)
    }

    /// A table with keys of the user's own making.
    pub(crate) fn open_table(&self, what: &str) -> Option<Table<'a>> {
        let DeValue::Table(node) = self.node else {
            self.reading.report(self.wrong_type("a table"));
            return None;
        };
        Some(Table::new(self.reading, self.span, what, node))
    }

    /// The items of an array.
    pub(crate) fn array(&self, of: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(items) = self.node else {
            self.reading
                .report(self.wrong_type(&format!("an array of {of}")));
            return None;
        };
        Some(
            items
                .iter()
                .map(|item| Value::new(self.reading, self.span.file, self.key, item))
                .collect(),
        )
    }

    /// An array of strings; items that are something else are reported and left out.
    pub(crate) fn strings(&self) -> Vec<Spanned<String>> {
        let items = self.array("strings").unwrap_or_default();
        items.iter().filter_map(Value::string).collect()
    }

    /// SQL, not checked yet.
    pub(crate) fn sql_text(&self) -> Option<Sql> {
        let text = self.string()?;
        Some(Sql::in_file(text.value, text.span, self.reading.sources))
    }

    /// PostgreSQL has no text with a NUL in it, and TOML's escapes can write one.
    fn without_nul(&self, text: &str) -> Option<Spanned<String>> {
        if text.contains('\0') {
            self.reading.report(
                Problem::error(
                    "project::bad-value",
                    "PostgreSQL's text can't hold a NUL character",
                )
                .at(self.span)
                .hint("remove the \\u0000"),
            );
            return None;
        }
        Some(Spanned::new(text.to_owned(), self.span))
    }
}

/// TOML's spelling of a float, as PostgreSQL spells it.
fn float_text(written: &str) -> String {
    match written.trim_start_matches('+') {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        "nan" | "-nan" => "NaN".to_owned(),
        number => number.to_owned(),
    }
}

/// A key as written.
#[derive(Clone, Copy)]
pub(crate) struct KeyName<'a> {
    pub(crate) text: &'a str,
    pub(crate) span: Span,
}

impl KeyName<'_> {
    pub(crate) fn spanned(&self) -> Spanned<String> {
        Spanned::new(self.text.to_owned(), self.span)
    }
}

/// A table of the tree.
pub(crate) struct Table<'a> {
    pub(crate) reading: &'a Reading<'a>,
    /// The header of the table, or the inline table as written.
    pub(crate) span: Span,
    what: String,
    node: &'a DeTable<'a>,
    known: &'static [&'static str],
}

impl<'a> Table<'a> {
    pub(crate) fn new(
        reading: &'a Reading<'a>,
        span: Span,
        what: &str,
        node: &'a DeTable<'a>,
    ) -> Self {
        Table {
            reading,
            span,
            what: what.to_owned(),
            node,
            known: &[],
        }
    }

    /// The table as one whose keys should be among `known`.
    pub(crate) fn knowing(mut self, known: &'static [&'static str]) -> Self {
        self.known = known;
        self
    }

    /// Keys and values in the order they are written in.
    pub(crate) fn entries(&self) -> Vec<(KeyName<'a>, Value<'a>)> {
        let mut entries: Vec<_> = self
            .node
            .iter()
            .map(|(key, value)| {
                let name = KeyName {
                    text: key.get_ref().as_ref(),
                    span: Span::new(self.span.file, key.span()),
                };
                (
                    name,
                    Value::new(self.reading, self.span.file, name.text, value),
                )
            })
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.node.is_empty()
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.node.contains_key(key)
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        let value = self.node.get(key)?;
        Some(Value::new(self.reading, self.span.file, key, value))
    }

    /// The value of `key`, reported when missing; `example` shows how to write it. A key that
    /// looks like a mistyped `key` is report enough.
    pub(crate) fn required(&self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() && !self.has_mistyped(key) {
            self.reading.report(
                Problem::error(
                    "project::missing-key",
                    format!("{} lacks `{key}`", self.what),
                )
                .at(self.span)
                .label(format!("`{key}` is missing"))
                .hint(format!("add it, like this: {example}")),
            );
        }
        value
    }

    fn has_mistyped(&self, key: &str) -> bool {
        self.entries().iter().any(|(found, _)| {
            !self.known.contains(&found.text)
                && name::nearest(found.text, self.known.iter().copied()) == Some(key)
        })
    }

    /// A string under `key`, if there.
    pub(crate) fn string(&self, key: &'static str) -> Option<Spanned<String>> {
        self.get(key)?.string()
    }

    /// Reports keys that are not among `known`.
    pub(crate) fn reject_unknown(&self, known: &[&'static str]) {
        for (key, _) in self.entries() {
            if !known.contains(&key.text) {
                self.reading.report(self.unknown_key(key, known));
            }
        }
    }

    /// The problem of a key that is not among `known`.
    pub(crate) fn unknown_key(&self, key: KeyName<'_>, known: &[&'static str]) -> Problem {
        let message = format!("unknown key `{}` in {}", key.text, self.what);
        Problem::error("project::unknown-key", message)
            .at(key.span)
            .label("not known here")
            .hint(name::suggestion(
                key.text,
                "known keys",
                known.iter().copied(),
            ))
    }
}
