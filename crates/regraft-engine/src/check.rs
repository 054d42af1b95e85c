//! `check`: the project against both catalogs, as far as they can be reached.

use regraft_project::{Problems, Project};
use serde::Serialize;

use crate::context::Context;
use crate::error::{Kind, Result};
use crate::model::resolve;

/// What was checked and what was found.
#[derive(Debug, Serialize)]
pub struct CheckOutcome {
    /// Every problem.
    pub problems: Problems,
    /// What the project was held against.
    pub checked: Vec<String>,
    /// What it could not be held against, and why.
    pub skipped: Vec<(String, String)>,
    /// Entities of the project.
    pub entities: usize,
    /// Columns they map.
    pub columns: usize,
}

/// Checks a project that was read without problems against both catalogs; without a context only
/// tells what was read.
///
/// # Errors
/// Faults of the program or of a connection that was open. A server that can't be reached is told
/// under [`CheckOutcome::skipped`].
pub async fn check(context: Option<&Context>, project: &Project) -> Result<CheckOutcome> {
    let mut outcome = CheckOutcome {
        problems: project.warnings().clone(),
        checked: vec!["project files".to_owned()],
        skipped: Vec::new(),
        entities: project.entities().len(),
        columns: project.entities().iter().map(|e| e.columns.len()).sum(),
    };
    let Some(context) = context else {
        return Ok(outcome);
    };
    let mut sessions = Vec::new();
    for (name, attempt) in [
        ("source catalog", context.connect_source().await),
        ("target catalog", context.connect_target().await),
    ] {
        match attempt {
            Ok(session) => sessions.push((name, session)),
            Err(error) if error.kind() == Kind::Internal => return Err(error),
            Err(error) => outcome.skipped.push((name.to_owned(), error.to_string())),
        }
    }
    if let [(_, source), (_, target)] = sessions.as_slice() {
        let resolution = resolve(project, source, target).await?;
        outcome.problems.extend(resolution.problems.iter().cloned());
        outcome
            .checked
            .extend(["source catalog".to_owned(), "target catalog".to_owned()]);
    } else {
        for (name, _) in &sessions {
            outcome.skipped.push((
                (*name).to_owned(),
                "both servers are needed to hold the project against their catalogs".to_owned(),
            ));
        }
    }
    Ok(outcome)
}
