//! `regraft report`

use std::path::Path;

use regraft_engine::{Error, Kind, Result, ValidationReport, report_validation};

use crate::arguments::{Format, ReportArguments};
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, select};
use crate::views::validation_report;

/// A file has no terminal's width.
const FILE_WIDTH: usize = 100;

/// Reports the latest validation.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &ReportArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, false)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let report = report_validation(&context, &selection, arguments.comprehensive).await?;
    let printer = &invocation.printer;
    match &arguments.output {
        Some(path) => {
            let format = form(arguments.format, path);
            printer.save(path, &text(format, &report, FILE_WIDTH)?)?;
        }
        None => printer.data(&text(arguments.format, &report, printer.width())?),
    }
    if arguments.format == Format::Human {
        printer.next_steps(&validation_report::next(&report));
    }
    Ok(match report.validation.passed {
        true => ExitStatus::Done,
        false => ExitStatus::Findings,
    })
}

/// The form of a file: the one asked for, or what its ending says.
fn form(asked: Format, path: &Path) -> Format {
    let ending = path.extension().and_then(|ending| ending.to_str());
    match (asked, ending) {
        (Format::Human, Some("json")) => Format::Json,
        (Format::Human, Some("md" | "markdown")) => Format::Markdown,
        (Format::Human, Some("html" | "htm")) => Format::Html,
        (asked, _) => asked,
    }
}

fn text(format: Format, report: &ValidationReport, width: usize) -> Result<String> {
    Ok(match format {
        Format::Human | Format::Csv => validation_report::human(report, width),
        Format::Markdown => validation_report::markdown(report),
        Format::Html => validation_report::html(report),
        Format::Json => serde_json::to_string_pretty(report).map_err(|error| {
            Error::new(
                Kind::Internal,
                format!("the report can't be written: {error}"),
            )
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_ending_says_its_form() {
        let of = |asked, path: &str| form(asked, Path::new(path));
        assert_eq!(of(Format::Human, "a.json"), Format::Json);
        assert_eq!(of(Format::Human, "a.md"), Format::Markdown);
        assert_eq!(of(Format::Human, "a.html"), Format::Html);
        assert_eq!(of(Format::Human, "a"), Format::Human);
        assert_eq!(of(Format::Html, "a.json"), Format::Html);
    }
}
