//! `regraft conflicts list`, `show`, `report` and `resolve`

use std::path::Path;

use regraft_engine::{
    Error, Kind, Result, Take, conflict_report, differing_rows, resolve_conflicts,
};
use regraft_ledger::{Differing, DifferingFilter};
use serde::Serialize;

use crate::arguments::{
    ConflictsListArguments, ConflictsReportArguments, ConflictsResolveArguments,
    ConflictsShowArguments,
};
use crate::contract::Resolved;
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, select, selected_names};
use crate::progress::Doing;
use crate::views::differential as view;

/// The JSON document of a list.
#[derive(Serialize)]
struct Listed {
    open: Vec<(String, String, i64)>,
    rows: Vec<Differing>,
}

/// Lists the rows that somebody has to decide on, without their values.
pub(super) async fn list(
    invocation: &Invocation,
    arguments: &ConflictsListArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let selection = select(&opened.project, &arguments.entities, false)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let filter = DifferingFilter {
        entities: selected_names(&selection)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..DifferingFilter::default()
    };
    let (mut rows, open) = differing_rows(&context, &filter, arguments.limit).await?;
    // Values are shown row by row, on demand.
    for row in &mut rows {
        if let Some(detail) = row.detail.as_object_mut() {
            detail.remove("columns");
        }
    }
    let listed = Listed { open, rows };
    let printer = &invocation.printer;
    printer.report(&listed, |width| {
        view::list(&listed.rows, &listed.open, arguments.limit, width)
    });
    if let Some(first) = listed.rows.first() {
        let command = format!("regraft conflicts show --id {}", first.id);
        printer.next_steps(&[(command, "what each side says")]);
    }
    Ok(if listed.open.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

/// Shows one row, column by column.
pub(super) async fn show(
    invocation: &Invocation,
    arguments: &ConflictsShowArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let context = invocation.context(&opened, Needs::Target)?;
    let filter = DifferingFilter {
        id: Some(arguments.id),
        ..DifferingFilter::default()
    };
    let (rows, _) = differing_rows(&context, &filter, 1).await?;
    let Some(row) = rows.first() else {
        return Err(Error::new(
            Kind::Usage,
            format!("there is no open conflict {}", arguments.id),
        )
        .hint("see `regraft conflicts list`"));
    };
    invocation
        .printer
        .report(row, |width| view::show(row, width));
    Ok(ExitStatus::Findings)
}

/// Reports what a comparison has found.
pub(super) async fn report(
    invocation: &Invocation,
    arguments: &ConflictsReportArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let context = invocation.context(&opened, Needs::Target)?;
    let report = conflict_report(&context, arguments.operation_id.as_deref()).await?;
    invocation
        .printer
        .report(&report, |width| view::report(&report, width));
    Ok(if report.open.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

/// Decides on conflicts.
pub(super) async fn resolve(
    invocation: &Invocation,
    arguments: &ConflictsResolveArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    for entity in &arguments.entity {
        super::quarantine::known(&opened.project, entity)?;
    }
    let take = take(&arguments.take)?;
    if matches!(take, Take::Values(_)) && arguments.id.is_none() {
        return Err(Error::new(Kind::Usage, "values are for one row").hint("name it with --id"));
    }
    let mut context = invocation.context(&opened, Needs::Both)?;
    context.events = invocation.events(Doing::Deciding);
    let filter = DifferingFilter {
        entities: arguments.entity.clone(),
        id: arguments.id,
        ..DifferingFilter::default()
    };
    let resolution = resolve_conflicts(&context, &filter, &take).await?;
    let printer = &invocation.printer;
    let document = Resolved::of(&resolution);
    printer.report(&document, |width| view::resolution(&resolution, width));
    if let Some(run) = &resolution.run_id {
        let command = format!("regraft rollback --run {run}");
        printer.next_steps(&[(command, "undo exactly this run")]);
    }
    Ok(if resolution.still_open.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Findings
    })
}

fn take(text: &str) -> Result<Take> {
    match text {
        "source" => return Ok(Take::Source),
        "target" => return Ok(Take::Target),
        "merge" => return Ok(Take::Merge),
        _ => {}
    }
    let hint = "write source, target, merge, or the path of a JSON file such as {\"notes\": \"a text\", \"shelf\": null}";
    let path = Path::new(text);
    let json = std::fs::read_to_string(path)
        .map_err(|error| crate::files::failed("reading", path, &error).hint(hint))?;
    serde_json::from_str(&json)
        .map(Take::Values)
        .map_err(|error| {
            // What stands in the file is a row's values.
            Error::new(
                Kind::Usage,
                format!(
                    "{} is no JSON object of texts and nulls (line {})",
                    path.display(),
                    error.line()
                ),
            )
            .hint(hint)
        })
}
