//! Problems as text for people: lines of the file with carets under them.

use std::fmt::{self, Write as _};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

use crate::problem::{Problem, Severity};
use crate::source_files::SourceFiles;

/// Renders `problems` one after the other, followed by their number when there are several.
pub(crate) fn render(
    problems: &[Problem],
    sources: &SourceFiles,
    colour: bool,
    width: usize,
) -> String {
    let theme = if colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width.max(20))
        .with_links(false)
        .with_context_lines(1);
    let mut out = String::new();
    for problem in problems {
        let report = Report::new(problem, sources);
        if handler.render_report(&mut out, &report).is_err() {
            // Rendering only fails for a span outside its file; the words matter more.
            let _ = writeln!(out, "{}: {}", problem.code, problem.message);
        }
        out.push('\n');
    }
    if problems.len() > 1 {
        out.push_str(&count_line(problems));
    }
    trim_line_ends(&out)
}

fn count_line(problems: &[Problem]) -> String {
    let errors = problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count();
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (errors, problems.len() - errors) {
        (errors, 0) => format!("{}\n", plural(errors, "error")),
        (0, warnings) => format!("{}\n", plural(warnings, "warning")),
        (errors, warnings) => {
            format!(
                "{}, {}\n",
                plural(errors, "error"),
                plural(warnings, "warning")
            )
        }
    }
}

fn trim_line_ends(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A problem dressed up as a miette diagnostic.
struct Report<'a> {
    problem: &'a Problem,
    source: Option<NamedSource<String>>,
}

impl<'a> Report<'a> {
    fn new(problem: &'a Problem, sources: &SourceFiles) -> Self {
        let source = problem.span.map(|span| {
            NamedSource::new(
                sources.display_path(span.file),
                sources.text(span.file).to_owned(),
            )
        });
        Report { problem, source }
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.problem.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.problem
            .hint
            .as_ref()
            .map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span?;
        let label = LabeledSpan::new(self.problem.label.clone(), span.start, span.len());
        Some(Box::new(std::iter::once(label)))
    }
}
