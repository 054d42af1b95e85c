//! The quarantine as a file for those who repair the data.
//!
//! In CSV (RFC 4180) all rows are in one table: what the ledger knows of a row, then a column for each
//! value that any of the rows has, under the name `source.` and that of the value. A row that hasn't
//! got a value has an empty cell there, as it has for NULL.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use regraft_engine::{Error, Kind, Result};
use regraft_ledger::{QuarantineRow, reason_keys};
use serde_json::Value;

use crate::files;

/// What the ledger knows of a row.
const HEAD: [&str; 12] = [
    "entity",
    "legacy_id",
    "bucket",
    "state",
    "reasons",
    "parents",
    "run_id",
    "batch",
    "tries",
    "first_seen_at",
    "last_tried_at",
    "note",
];

/// A file that is being written.
pub(super) enum Export {
    Csv {
        writer: Box<csv::Writer<Box<dyn Write>>>,
        begun: bool,
        verbatim: bool,
    },
    Json {
        writer: Box<dyn Write>,
        begun: bool,
    },
}

impl Export {
    pub(super) fn csv(output: Option<&Path>, verbatim: bool) -> Result<Self> {
        let writer = csv::WriterBuilder::new()
            .terminator(csv::Terminator::CRLF)
            .from_writer(sink(output)?);
        Ok(Self::Csv {
            writer: Box::new(writer),
            begun: false,
            verbatim,
        })
    }

    pub(super) fn json(output: Option<&Path>) -> Result<Self> {
        let writer = sink(output)?;
        Ok(Self::Json {
            writer,
            begun: false,
        })
    }

    /// Writes rows; `columns` are the names of all values there are.
    pub(super) fn write(&mut self, columns: &[String], rows: &[QuarantineRow]) -> Result<()> {
        match self {
            Self::Csv {
                writer,
                begun,
                verbatim,
            } => {
                if !std::mem::replace(begun, true) {
                    let names = columns.iter().map(|name| format!("source.{name}"));
                    let head = HEAD.iter().map(|name| (*name).to_owned()).chain(names);
                    writer.write_record(head).map_err(of_csv)?;
                }
                for row in rows {
                    let cells = cells(row, columns);
                    if *verbatim {
                        writer.write_record(cells).map_err(of_csv)?;
                    } else {
                        let tame = cells.into_iter().map(tame);
                        writer.write_record(tame).map_err(of_csv)?;
                    }
                }
            }
            Self::Json { writer, begun } => {
                for row in rows {
                    let before = if std::mem::replace(begun, true) {
                        ",\n"
                    } else {
                        "[\n"
                    };
                    let text = serde_json::to_string(row).map_err(io::Error::other);
                    let text = text.map_err(|e| failed(&e))?;
                    write!(writer, "{before}{text}").map_err(|e| failed(&e))?;
                }
            }
        }
        Ok(())
    }

    /// Ends the file.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Csv {
                mut writer, begun, ..
            } => {
                if !begun {
                    writer.write_record(HEAD).map_err(of_csv)?;
                }
                writer.flush().map_err(|e| failed(&e))
            }
            Self::Json { mut writer, begun } => {
                let end = if begun { "\n]\n" } else { "[]\n" };
                writer
                    .write_all(end.as_bytes())
                    .and_then(|()| writer.flush())
                    .map_err(|e| failed(&e))
            }
        }
    }
}

/// The file, which only its owner may read: it holds values.
fn sink(output: Option<&Path>) -> Result<Box<dyn Write>> {
    let Some(path) = output else {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    };
    let file = private(path).map_err(|error| files::failed("writing", path, &error))?;
    Ok(Box::new(BufWriter::new(file)))
}

fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path)?;
    // It may have been there, for others to read.
    if file.metadata()?.is_file() {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn cells(row: &QuarantineRow, columns: &[String]) -> Vec<String> {
    let bucket = row.bucket.as_str();
    let mut cells = vec![
        row.entity.clone(),
        row.legacy_id.clone(),
        bucket.to_owned(),
        row.state.clone(),
        reason_keys(&row.reasons).join("; "),
        parents(&row.reasons),
        row.run_id.clone().unwrap_or_default(),
        row.batch.to_string(),
        row.tries.to_string(),
        row.first_seen_at.clone(),
        row.last_tried_at.clone(),
        row.note.clone().unwrap_or_default(),
    ];
    for column in columns {
        let value = row.source_row.as_ref().and_then(|row| row.get(column));
        cells.push(match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
    }
    cells
}

/// The rows that a row waits for or looks for in vain: `patients 17`.
fn parents(reasons: &Value) -> String {
    let of = |reason: &Value, field: &str| reason.get(field)?.as_str().map(str::to_owned);
    let parents: Vec<String> = reasons
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|reason| {
            Some(format!(
                "{} {}",
                of(reason, "parent")?,
                of(reason, "parent_id")?
            ))
        })
        .collect();
    parents.join("; ")
}

/// A text that a spreadsheet would compute as a formula, with an apostrophe before it. Numbers stay.
fn tame(cell: String) -> String {
    let suspicious = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if suspicious && cell.parse::<f64>().is_err() {
        return format!("'{cell}");
    }
    cell
}

fn of_csv(error: csv::Error) -> Error {
    failed(&io::Error::other(error))
}

/// Never with a value: what the formats complain about is the file.
fn failed(error: &io::Error) -> Error {
    Error::new(Kind::Usage, format!("writing the export failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::tame;

    #[test]
    fn formulas_are_tamed_and_numbers_are_not() {
        for (cell, expected) in [
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("+49 30 1234", "'+49 30 1234"),
            ("-5.20", "-5.20"),
            ("+5", "+5"),
            ("-cmd", "'-cmd"),
            ("\tx", "'\tx"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(tame(cell.to_owned()), expected);
        }
    }
}
