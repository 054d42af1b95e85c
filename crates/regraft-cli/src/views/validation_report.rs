//! The report of a validation: what was checked, how, what was not, and what was found.

mod content;
mod proofs;
mod written;

#[cfg(test)]
mod tests;

use regraft_engine::ValidationReport;

pub(crate) use written::{html, human, markdown};

/// What to type after reading a report, and why.
pub(crate) fn next(report: &ValidationReport) -> Vec<(String, &'static str)> {
    let validation = &report.validation;
    let mut steps = Vec::new();
    let validate = "regraft validate".to_owned();
    if !report.runs_since.is_empty() || !report.project_unchanged {
        let why = "the report is about the time before the latest run, or another project";
        steps.push((validate, why));
    } else if !validation.complete {
        let why = "to the end: with more time, or as a role that may read all of it";
        steps.push((validate, why));
    }
    if validation.passed {
        let why = "a file that proves what was migrated and validated";
        steps.push(("regraft certify --output certificate.json".to_owned(), why));
    } else if validation.complete {
        let why = "the account of the latest run";
        steps.push(("regraft receipt".to_owned(), why));
    }
    if report.history.is_none() {
        let command = "regraft report --comprehensive --output report.html";
        steps.push((command.to_owned(), "all that is known, as a page"));
    }
    steps
}
