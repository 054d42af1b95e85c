//! `regraft conflicts list`, `show` and `report`

use regraft_engine::{Error, Kind, Result, conflict_report, differing_rows};
use regraft_ledger::{Differing, DifferingFilter};
use serde::Serialize;

use crate::arguments::{ConflictsListArguments, ConflictsReportArguments, ConflictsShowArguments};
use crate::exit::ExitStatus;
use crate::invocation::{Invocation, Needs, select, selected_names};
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
