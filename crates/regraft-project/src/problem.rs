//! What is wrong with a project, said so that it can be repaired: file, line, caret, hint.

use serde::{Serialize, Serializer};

use crate::source_files::{SourceFiles, Span};

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The project can't be used.
    Error,
    /// The project can be used, but this is likely a mistake.
    Warning,
}

/// One thing that is wrong with a project.
#[derive(Debug, Clone)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of the kind of problem, such as `project::unknown-key`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where, if it is at one place.
    pub span: Option<Span>,
    /// What is written under the caret.
    pub label: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem that makes the project unusable.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// A problem that is worth a look.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    fn new(severity: Severity, code: &'static str, message: String) -> Self {
        Problem {
            severity,
            code,
            message,
            span: None,
            label: None,
            hint: None,
        }
    }

    /// Says where it is.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// Says what is at that place: shown next to the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All problems found together, with the files they are about.
#[derive(Debug, Clone)]
pub struct Problems {
    sources: SourceFiles,
    problems: Vec<Problem>,
}

impl Problems {
    /// No problems yet.
    pub fn new(sources: SourceFiles) -> Self {
        Problems {
            sources,
            problems: Vec::new(),
        }
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Adds all problems of `others`.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Problem>) {
        self.problems.extend(others);
    }

    /// Whether nothing was found, not even a warning.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Number of problems, warnings included.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether any of them makes the project unusable.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// The problems, in the order they are shown.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// The files the problems are about.
    pub fn sources(&self) -> &SourceFiles {
        &self.sources
    }

    /// `value` when there is no error among the problems.
    ///
    /// # Errors
    /// All problems, warnings included, when one of them is an error.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.has_errors() {
            Err(self)
        } else {
            Ok(value)
        }
    }

    /// The problems in the form programs read.
    pub fn records(&self) -> Vec<ProblemRecord<'_>> {
        self.problems
            .iter()
            .map(|p| ProblemRecord::new(p, &self.sources))
            .collect()
    }

    /// The problems in the form people read, `width` characters wide.
    pub fn render(&self, colour: bool, width: usize) -> String {
        crate::rendering::render(&self.problems, &self.sources, colour, width)
    }
}

/// One problem in the form programs read (`--format json`).
#[derive(Debug, Clone, Serialize)]
pub struct ProblemRecord<'a> {
    /// `error` or `warning`.
    pub severity: Severity,
    /// Stable name of the kind of problem.
    pub code: &'static str,
    /// What is wrong.
    pub message: &'a str,
    /// Path relative to the project's folder.
    pub file: Option<&'a str>,
    /// Line, from 1.
    pub line: Option<usize>,
    /// Character in the line, from 1.
    pub column: Option<usize>,
    /// Number of characters the problem covers.
    pub length: Option<usize>,
    /// What to do.
    pub hint: Option<&'a str>,
}

impl<'a> ProblemRecord<'a> {
    fn new(problem: &'a Problem, sources: &'a SourceFiles) -> Self {
        let position = problem.span.map(|span| sources.position(span));
        ProblemRecord {
            severity: problem.severity,
            code: problem.code,
            message: &problem.message,
            file: problem.span.map(|span| sources.path(span.file)),
            line: position.map(|p| p.line),
            column: position.map(|p| p.column),
            length: problem.span.map(|span| sources.slice(span).chars().count()),
            hint: problem.hint.as_deref(),
        }
    }
}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.records())
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false, 100))
    }
}

impl std::error::Error for Problems {}
