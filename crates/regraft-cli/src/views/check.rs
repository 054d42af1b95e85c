//! What a check of the project found.

use regraft_project::Problems;
use serde::Serialize;

use crate::diagnostics::problem_count;
use crate::figures;
use crate::style::{self, paint};

/// What was checked, and everything that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// Everything that is wrong or odd.
    pub(crate) problems: Problems,
    /// What was looked at.
    pub(crate) checked: Vec<String>,
    /// What could not be looked at.
    pub(crate) skipped: Vec<Skipped>,
    /// Entities of the project; not known when its files can't be read.
    pub(crate) entities: Option<usize>,
    /// Columns of those entities.
    pub(crate) columns: Option<usize>,
    /// Whether the project can be used, as far as could be checked.
    pub(crate) usable: bool,
}

/// Something that could not be looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    /// What.
    pub(crate) what: String,
    /// Why.
    pub(crate) why: String,
}

/// The outcome of a check for people.
pub(crate) fn render(checked: &Checked, colours: bool, width: usize) -> String {
    let mut out = String::new();
    if !checked.problems.is_empty() {
        out.push_str(&checked.problems.render(colours, width));
        out.push('\n');
    }
    for skipped in &checked.skipped {
        let line = format!("{} was not checked: {}", skipped.what, skipped.why);
        let line = figures::wrap(&line, width.saturating_sub(2), 2);
        out.push_str(&format!("{} {line}\n", paint(style::CAUTION, "!")));
    }
    out.push_str(&figures::wrap(&verdict(checked), width, 2));
    out
}

/// The outcome in one line.
pub(crate) fn verdict(checked: &Checked) -> String {
    let mut size = String::new();
    if let (Some(entities), Some(columns)) = (checked.entities, checked.columns) {
        size = format!(
            ": {}, {}",
            figures::counted(entities as u64, "entity"),
            figures::counted(columns as u64, "column"),
        );
    }
    let against = figures::list(&checked.checked);
    let found = problem_count(&checked.problems);
    if checked.usable && checked.skipped.is_empty() {
        format!(
            "{} project is usable{size}; {found} (checked: {against})",
            paint(style::GOOD, "✓")
        )
    } else if checked.usable {
        format!(
            "{} project is usable as far as was checked{size}; {found} (checked: {against})",
            paint(style::GOOD, "✓")
        )
    } else {
        format!(
            "{} project can't be used{size}; {found} (checked: {against})",
            paint(style::BAD, "✗")
        )
    }
}
