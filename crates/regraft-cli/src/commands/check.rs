//! `regraft check`

use regraft_engine::{Context, Events, Pace, Result, Settings, check};
use regraft_pg::{Endpoint, Environment, Side};
use regraft_project::{Problems, Project};

use crate::exit::ExitStatus;
use crate::invocation::{self, Invocation};
use crate::views::check::{Checked, Skipped, render};

/// Checks the project, offline and against whichever database can be reached.
pub(super) async fn run(invocation: &Invocation) -> Result<ExitStatus> {
    let (project, environment) = invocation.find()?;
    let checked = match project {
        Ok(project) => against_servers(invocation, project, &environment).await?,
        Err(problems) => offline_only(problems),
    };
    let printer = &invocation.printer;
    printer.report(&checked, |width| {
        render(&checked, printer.colours_results(), width)
    });
    Ok(if checked.usable {
        ExitStatus::Done
    } else {
        ExitStatus::Usage
    })
}

async fn against_servers(
    invocation: &Invocation,
    project: Project,
    environment: &Environment,
) -> Result<Checked> {
    let source = Endpoint::from_environment(Side::Source, environment);
    let target = Endpoint::from_environment(Side::Target, environment);
    let unset: Vec<(Side, String)> = [(Side::Source, &source), (Side::Target, &target)]
        .into_iter()
        .filter_map(|(side, endpoint)| Some((side, endpoint.as_ref().err()?.message().to_owned())))
        .collect();
    let project = std::sync::Arc::new(project);
    let context = Context {
        project: project.clone(),
        source: source.unwrap_or_else(|_| invocation::not_configured(Side::Source)),
        target: target.unwrap_or_else(|_| invocation::not_configured(Side::Target)),
        settings: Settings::from_environment(&project, environment)?,
        cancel: invocation.cancel.clone(),
        events: Events::none(),
        pace: Pace::default(),
    };
    let outcome = check(
        if unset.len() == 2 {
            None
        } else {
            Some(&context)
        },
        &project,
    )
    .await?;
    Ok(Checked {
        usable: !outcome.problems.has_errors(),
        skipped: skipped(outcome.skipped, &unset),
        checked: outcome.checked,
        entities: Some(outcome.entities),
        columns: Some(outcome.columns),
        problems: outcome.problems,
    })
}

/// What was skipped, with the setting that is missing instead of the connection that failed for it.
fn skipped(found: Vec<(String, String)>, unset: &[(Side, String)]) -> Vec<Skipped> {
    let mut skipped: Vec<Skipped> = found
        .into_iter()
        .filter(|(what, _)| !unset.iter().any(|(side, _)| what.starts_with(side.name())))
        .map(|(what, why)| Skipped { what, why })
        .collect();
    skipped.extend(unset.iter().map(|(side, why)| Skipped {
        what: format!("{side} catalog"),
        why: why.clone(),
    }));
    skipped
}

fn offline_only(problems: Problems) -> Checked {
    let why = "the project's files have to be right first".to_owned();
    Checked {
        usable: false,
        problems,
        checked: vec!["project files".to_owned()],
        skipped: [Side::Source, Side::Target]
            .map(|side| Skipped {
                what: format!("{side} catalog"),
                why: why.clone(),
            })
            .into(),
        entities: None,
        columns: None,
    }
}
