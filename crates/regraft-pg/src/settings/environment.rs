//! Variables of the process over those of a `.env` file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The variables that settings are read from: those of the process, and for names it doesn't
/// have, those of a `.env` file.
///
/// A variable that is set to nothing counts as not set, as in a `.env` that was copied from
/// `.env.example` and not filled in yet. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment {
    process: BTreeMap<String, String>,
    file: BTreeMap<String, FileEntry>,
    path: Option<PathBuf>,
}

#[derive(Clone)]
struct FileEntry {
    value: String,
    line: usize,
}

impl Environment {
    /// The variables of this process over those of `.env` in `dir`, if there is such a file.
    ///
    /// Fails if the file can't be read or a line of it can't be understood; the error names the
    /// line and never shows its content.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(".env");
        let mut environment = Self::from_process();
        match fs::read_to_string(&path) {
            Ok(text) => {
                environment.file = parse(&text, &path)?;
                environment.path = Some(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::new(
                    ErrorKind::Settings,
                    format!("{} can't be read: {error}", path.display()),
                ));
            }
        }
        Ok(environment)
    }

    /// The variables of this process alone. Those that aren't UTF-8 are left out.
    pub fn from_process() -> Self {
        Self::from_pairs(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// These variables and no others.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            process: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..Self::default()
        }
    }

    /// The same variables with these on top.
    #[must_use]
    pub fn with<N: Into<String>, V: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.process.extend(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        self
    }

    /// The `.env` file that was read, if there was one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The value of a variable; `None` if it is not set or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = match self.process.get(name) {
            Some(value) => value,
            None => &self.file.get(name)?.value,
        };
        (!value.trim().is_empty()).then_some(value)
    }

    /// The value of a variable as a `T`; `None` if it is not set or empty. The error names the
    /// variable and where it was set, not its value.
    pub fn get_parsed<T>(&self, name: &str) -> Result<Option<T>>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value.trim().parse().map(Some).map_err(|error| {
            Error::new(
                ErrorKind::Settings,
                format!("{}: {error}", self.origin(name)),
            )
        })
    }

    /// The variable and where it was set, for messages: `BATCH_SIZE (.env, line 12)`.
    pub fn origin(&self, name: &str) -> String {
        match (
            self.process.contains_key(name),
            self.file.get(name),
            &self.path,
        ) {
            (false, Some(entry), Some(path)) => {
                format!("{name} ({}, line {})", path.display(), entry.line)
            }
            _ => name.to_owned(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("process", &self.process.keys())
            .field("file", &self.file.keys())
            .field("path", &self.path)
            .finish()
    }
}

/// Reads a `.env` file: `KEY=value` lines, optionally after `export`; values plain, in single
/// quotes (escapes `\'` and `\\`) or in double quotes (also `\n`, `\r`, `\t`, `\"`, `\$`), which
/// may span lines; comments from `#` at the start of a line or after white space. `$NAME` is not
/// expanded.
fn parse(text: &str, path: &Path) -> Result<BTreeMap<String, FileEntry>> {
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
        path,
    };
    let mut entries = BTreeMap::new();
    while let Some((name, entry)) = reader.entry()? {
        entries.insert(name, entry);
    }
    Ok(entries)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    path: &'a Path,
}

impl Reader<'_> {
    /// The next variable, after any blank lines and comments.
    fn entry(&mut self) -> Result<Option<(String, FileEntry)>> {
        loop {
            self.skip_blanks();
            match self.rest.chars().next() {
                None => return Ok(None),
                Some('#') => {
                    self.take_line();
                }
                Some('\n') => self.advance(1),
                Some('\r') => self.advance(1),
                Some(_) => break,
            }
        }
        let line = self.line;
        let name = self.name()?;
        let value = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            _ => self.plain(),
        };
        Ok(Some((name, FileEntry { value, line })))
    }

    fn name(&mut self) -> Result<String> {
        let mut name = self.word();
        if name == "export" && self.rest.starts_with([' ', '\t']) {
            self.skip_blanks();
            name = self.word();
        }
        self.skip_blanks();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error("expected a variable's name"));
        }
        if !self.rest.starts_with('=') {
            return Err(self.error("expected NAME=value"));
        }
        self.advance(1);
        self.skip_blanks();
        Ok(name)
    }

    fn word(&mut self) -> String {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
            .unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.advance(end);
        word
    }

    fn plain(&mut self) -> String {
        let line = self.take_line();
        let mut end = line.len();
        if line.starts_with('#') {
            end = 0;
        }
        for (at, _) in line.match_indices('#') {
            if line[..at].ends_with([' ', '\t']) {
                end = end.min(at);
            }
        }
        line[..end].trim().to_owned()
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        let opened = self.line;
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        let end = loop {
            match chars.next() {
                Some((at, c)) if c == quote => break at + 1,
                Some((_, '\\')) => match chars.next() {
                    Some((_, c)) => unescape(quote, c, &mut value),
                    None => return Err(self.error_at(opened, "a quote is not closed")),
                },
                Some((_, c)) => value.push(c),
                None => return Err(self.error_at(opened, "a quote is not closed")),
            }
        };
        self.advance(end);
        let tail = self.take_line();
        if tail.trim().is_empty() || tail.trim_start().starts_with('#') {
            Ok(value)
        } else {
            Err(self.error_at(opened, "there is text after the closing quote"))
        }
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
        self.advance(blanks);
    }

    /// Takes what is left of the line, not its end.
    fn take_line(&mut self) -> String {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = self.rest[..end].trim_end_matches('\r').to_owned();
        self.rest = &self.rest[end..];
        line
    }

    fn advance(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }

    fn error(&self, what: &str) -> Error {
        self.error_at(self.line, what)
    }

    fn error_at(&self, line: usize, what: &str) -> Error {
        Error::new(
            ErrorKind::Settings,
            format!("{}, line {line}: {what}", self.path.display()),
        )
    }
}

fn unescape(quote: char, escaped: char, value: &mut String) {
    match (quote, escaped) {
        ('"', 'n') => value.push('\n'),
        ('"', 'r') => value.push('\r'),
        ('"', 't') => value.push('\t'),
        ('"', '"' | '$' | '\\') | ('\'', '\'' | '\\') => value.push(escaped),
        _ => value.extend(['\\', escaped]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>> {
        Ok(parse(text, Path::new(".env"))?
            .into_iter()
            .map(|(name, entry)| (name, entry.value))
            .collect())
    }

    #[test]
    fn every_form_of_line_is_understood() {
        let text = "\u{feff}# a comment\n\
            A=plain\r\n\
            export B = spaced value   # a comment\n\
            \tC='sing#le \\' $x\\n'\n\
            D=\"dou\\\"ble\\n\\$x # no comment\" # a comment\n\
            E=\n\
            F=a#b\n\
            G=\"two\nlines\"\n\
            H=# nothing\n\
            exported=1";
        let expected = [
            ("A", "plain"),
            ("B", "spaced value"),
            ("C", "sing#le ' $x\\n"),
            ("D", "dou\"ble\n$x # no comment"),
            ("E", ""),
            ("F", "a#b"),
            ("G", "two\nlines"),
            ("H", ""),
            ("exported", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for (text, expected) in [
            ("A=1\nhunter2\n", ".env, line 2: expected NAME=value"),
            ("\n\n=hunter2", ".env, line 3: expected a variable's name"),
            (
                "A=\"x\ny\"\nB='hunter2\n\n",
                ".env, line 3: a quote is not closed",
            ),
            (
                "B='a' hunter2",
                ".env, line 1: there is text after the closing quote",
            ),
            ("1A=hunter2", ".env, line 1: expected a variable's name"),
            ("A='hunter2\\", ".env, line 1: a quote is not closed"),
            ("é=hunter2", ".env, line 1: expected a variable's name"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.kind(), ErrorKind::Settings);
        }
    }

    #[test]
    fn the_process_wins_over_the_file_and_empty_is_unset() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join(".env"),
            "PATH=file\nREGRAFT_TEST_ONLY=12\nREGRAFT_TEST_EMPTY=\nREGRAFT_TEST_BAD=secret\n",
        )
        .unwrap();
        let environment = Environment::load(dir.path()).unwrap();
        assert_ne!(environment.get("PATH"), Some("file"));
        assert_eq!(
            environment.get_parsed("REGRAFT_TEST_ONLY").unwrap(),
            Some(12_u32)
        );
        assert_eq!(environment.get("REGRAFT_TEST_EMPTY"), None);
        assert_eq!(
            environment.get_parsed::<u32>("REGRAFT_TEST_NONE").unwrap(),
            None
        );
        let error = environment
            .get_parsed::<u32>("REGRAFT_TEST_BAD")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("REGRAFT_TEST_BAD (") && error.contains(", line 4)"),
            "{error}"
        );
        assert!(!format!("{error}{environment:?}").contains("secret"));
    }
}
