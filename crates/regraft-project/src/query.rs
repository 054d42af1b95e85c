//! `queries/*.toml`: what the new database has to answer, and how fast.

use std::time::Duration;

use crate::document::{KeyName, Reading, Table, Value};
use crate::manifest_reading::bad_label;
use crate::name;
use crate::problem::Problem;
use crate::source_files::{FileId, Span, Spanned};
use crate::sql::Sql;
use crate::sql_check;

/// The folder of the queries' files.
pub(crate) const FOLDER: &str = "queries/";

/// The keys of a query.
pub(crate) const KEYS: &[&str] = &["description", "sql", "limit"];

/// A query that the users of the new database wait for.
#[derive(Debug, Clone)]
pub struct NamedQuery {
    /// Its name: the table's in its file.
    pub name: Spanned<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The query, for the modern database.
    pub sql: Sql,
    /// How long it may take.
    pub limit: Duration,
}

/// Whether a path is one of a queries' file.
pub(crate) fn is_queries_file(path: &str) -> bool {
    let stem = path
        .strip_prefix(FOLDER)
        .and_then(|name| name.strip_suffix(".toml"));
    stem.is_some_and(|stem| !stem.contains('/'))
}

/// Reads the queries of one file and adds them to `found`. Problems are reported.
pub(crate) fn read_queries(
    reading: &Reading<'_>,
    file: FileId,
    text: &str,
    found: &mut Vec<NamedQuery>,
) {
    let Some(document) = crate::document::parse(reading, file, text) else {
        return;
    };
    let start = Span::new(file, 0..0);
    let root = Table::new(reading, start, "the file", document.get_ref());
    for (key, value) in root.entries() {
        check_name(reading, key, found);
        found.extend(read_query(key, &value));
    }
}

fn check_name(reading: &Reading<'_>, key: KeyName<'_>, found: &[NamedQuery]) {
    if !name::is_label(key.text) {
        reading.report(bad_label("name of a query", key.text, key.span));
    }
    if let Some(first) = found.iter().find(|other| other.name.value == key.text) {
        let path = reading.sources.path(first.name.span.file);
        let line = reading.sources.position(first.name.span).line;
        reading.report(
            Problem::error(
                "project::duplicate-query",
                format!("two queries are named `{}`", key.text),
            )
            .at(key.span)
            .label(format!("the first one is in {path}, line {line}"))
            .hint("give each its own name: slow ones are told by it"),
        );
    }
}

fn read_query(key: KeyName<'_>, value: &Value<'_>) -> Option<NamedQuery> {
    let table = value.table(&format!("query `{}`", key.text), KEYS)?;
    let description = table.string("description").map(|text| text.value);
    let sql = table.required("sql", "sql = \"select ... from orders where ...\"");
    let limit = table.required("limit", "limit = \"50 ms\"");
    let value = sql?;
    let sql = value.sql_text()?;
    sql_check::query(value, &sql, &sql.text);
    Some(NamedQuery {
        name: Spanned::new(key.text.to_owned(), key.span),
        description,
        sql,
        limit: read_limit(&limit?)?,
    })
}

fn read_limit(value: &Value<'_>) -> Option<Duration> {
    let text = value.string()?;
    let limit = time(text.value.trim());
    if limit.is_none() {
        value.reading.report(
            Problem::error("project::bad-time", "this is no time")
                .at(value.span)
                .hint("write milliseconds or seconds: \"50 ms\", \"1.5 s\""),
        );
    }
    limit
}

/// A time above zero in `ms` or `s`.
fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let number = number.trim_end();
    let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let seconds: f64 = number.parse::<f64>().ok().filter(|_| plain)? * unit;
    let limit = Duration::try_from_secs_f64(seconds).ok()?;
    (!limit.is_zero()).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_milliseconds_or_seconds() {
        for (text, milliseconds) in [("50 ms", 50), ("50ms", 50), ("1.5 s", 1500), ("2s", 2000)] {
            assert_eq!(
                time(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in ["", "50", "0 ms", "-1 s", "1 min", "ms", "1e3 ms", "nan s"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
