//! `regraft quarantine list`, `show`, `retry`, `export` and `drop`

mod export;

use regraft_engine::{
    Error, Kind, Result, drop_quarantine, export_quarantine, preview_drop, quarantine,
    quarantine_summary, quarantined_row, retry_quarantine,
};
use regraft_ledger::{DropCount, QuarantineFilter, QuarantineRow, ReasonCount, RedriveFilter};
use regraft_project::Project;
use serde::Serialize;

use crate::arguments::{
    Format, QuarantineDropArguments, QuarantineExportArguments, QuarantineListArguments,
    QuarantineRetryArguments, QuarantineRows, QuarantineShowArguments,
};
use crate::diagnostics;
use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::{Invocation, Needs};
use crate::progress::Doing;
use crate::views::quarantine as view;
use crate::views::receipt;
use export::Export;

/// The JSON document of a list.
#[derive(Serialize)]
struct Listed {
    reasons: Vec<ReasonCount>,
    rows: Vec<QuarantineRow>,
}

/// The JSON document of a row.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    row: &'a QuarantineRow,
    behind: &'a [DropCount],
}

/// Lists reasons, and the rows of one entity or reason.
pub(super) async fn list(
    invocation: &Invocation,
    arguments: &QuarantineListArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    if let Some(entity) = arguments.entity() {
        known(&opened.project, entity)?;
    }
    let context = invocation.context(&opened, Needs::Target)?;
    let rows = quarantine(
        &context,
        &QuarantineFilter {
            entity: arguments.entity().map(str::to_owned),
            reason: arguments.reason.clone(),
            legacy_id: None,
            closed: arguments.resolved,
            values: false,
            limit: arguments.limit,
        },
    )
    .await?;
    let mut reasons = quarantine_summary(&context).await?;
    reasons.retain(|reason| wanted(reason, arguments));
    let listed = Listed { reasons, rows };
    let narrowed = arguments.entity().is_some() || arguments.reason.is_some() || arguments.resolved;
    let printer = &invocation.printer;
    printer.report(&listed, |width| {
        human(&listed, narrowed, arguments.limit, width)
    });
    printer.next_steps(&next_steps(&listed, narrowed));
    Ok(ExitStatus::Done)
}

/// Tries rows again, and prints the receipt.
pub(super) async fn retry(
    invocation: &Invocation,
    arguments: &QuarantineRetryArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let filter = filter(&opened.project, &arguments.rows, arguments.dropped)?;
    let named = is_named(&arguments.rows);
    if !named && !arguments.all {
        return Err(Error::new(Kind::Usage, "which rows are to be tried again?").hint(
            "name them with --entity, --reason or --legacy-id, or take --all; see `regraft quarantine list`",
        ));
    }
    let mut context = invocation.context(&opened, Needs::Both)?;
    if arguments.dry_run {
        context.events = invocation.events(Doing::Rehearsing);
    }
    let printer = &invocation.printer;
    let retried = retry_quarantine(&context, &filter, arguments.dry_run).await?;
    let gone = view::gone(&retried.gone, arguments.dry_run, printer.width());
    let Some(outcome) = &retried.outcome else {
        let document = serde_json::json!({ "nothing_to_do": true, "gone": retried.gone });
        printer.report(&document, |_| match gone.as_str() {
            "" => "nothing to do: no row in quarantine is like that".to_owned(),
            gone => gone.to_owned(),
        });
        return Ok(ExitStatus::Done);
    };
    printer.report(&retried, |width| {
        format!("{}{gone}", receipt::retried(outcome, width))
    });
    if outcome.within_budget {
        printer.next_steps(&[(
            "regraft validate".to_owned(),
            "prove it from both databases",
        )]);
        return Ok(ExitStatus::Done);
    }
    printer.next_steps(&[(
        "regraft quarantine list".to_owned(),
        "the rows that stayed behind, and why",
    )]);
    Ok(ExitStatus::Findings)
}

/// Shows one row with every reason.
pub(super) async fn show(
    invocation: &Invocation,
    arguments: &QuarantineShowArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    known(&opened.project, arguments.entity())?;
    let context = invocation.context(&opened, Needs::Target)?;
    let filter = QuarantineFilter {
        entity: Some(arguments.entity().to_owned()),
        legacy_id: Some(arguments.legacy_id().to_owned()),
        reason: None,
        closed: true,
        values: arguments.values,
        limit: 1,
    };
    let Some((row, behind)) = quarantined_row(&context, &filter).await? else {
        let what = format!(
            "row {} of {} is not in quarantine and never was",
            arguments.legacy_id(),
            arguments.entity()
        );
        let hint = format!("regraft quarantine list {}", arguments.entity());
        return Err(Error::new(Kind::Usage, what).hint(format!("see `{hint}`")));
    };
    let shown = Shown {
        row: &row,
        behind: &behind,
    };
    invocation.printer.report(&shown, |width| {
        format!("{}{}", view::row(&row, width), view::behind(&behind, width))
    });
    if !arguments.values {
        let command = format!(
            "regraft quarantine show {} {} --values",
            row.entity, row.legacy_id
        );
        invocation
            .printer
            .next_steps(&[(command, "with the row's values: they may be personal data")]);
    }
    Ok(ExitStatus::Done)
}

/// Writes rows with their reasons and values to a file.
pub(super) async fn export(
    invocation: &Invocation,
    arguments: &QuarantineExportArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let filter = filter(&opened.project, &arguments.rows, arguments.dropped)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let mut export = match arguments.format {
        Format::Json => Export::json(arguments.output.as_deref())?,
        _ => Export::csv(arguments.output.as_deref(), arguments.verbatim)?,
    };
    let rows = export_quarantine(&context, &filter, |columns, page| {
        export.write(columns, page)
    })
    .await?;
    export.finish()?;
    let printer = &invocation.printer;
    match &arguments.output {
        Some(path) => printer.note(format!(
            "{} in {}: they hold values, which may be personal data",
            figures::counted(rows, "row"),
            path.display()
        )),
        None => printer.note(figures::counted(rows, "row")),
    }
    Ok(ExitStatus::Done)
}

/// Shows what dropping rows means, asks, and drops them.
pub(super) async fn drop(
    invocation: &Invocation,
    arguments: &QuarantineDropArguments,
) -> Result<ExitStatus> {
    let opened = invocation.open()?;
    let filter = filter(&opened.project, &arguments.rows, false)?;
    if !is_named(&arguments.rows) {
        return Err(
            Error::new(Kind::Usage, "which rows are to be dropped?").hint(
                "name them with --entity, --reason or --legacy-id; see `regraft quarantine list`",
            ),
        );
    }
    let context = invocation.context(&opened, Needs::Target)?;
    let preview = preview_drop(&context, &filter).await?;
    let printer = &invocation.printer;
    let rows: i64 = preview.entities.iter().map(|count| count.rows).sum();
    if rows == 0 {
        printer.report(
            &serde_json::json!({ "preview": preview, "dropped": 0 }),
            |_| "nothing to do: no open row in quarantine is like that".to_owned(),
        );
        return Ok(ExitStatus::Done);
    }
    if !(printer.is_json() && arguments.yes) {
        printer.note(view::dropping(&preview, printer.error_width()).trim_end());
    }
    if !arguments.yes {
        let question = format!("\nDrop {}?", figures::counted(rows, "row"));
        let why = "rows that are dropped are not moved any more";
        printer.confirm(&question, why, "nothing was dropped")?;
    }
    let dropped = drop_quarantine(&context, &filter, arguments.note.as_deref()).await?;
    let document = serde_json::json!({ "preview": preview, "dropped": dropped });
    printer.report(&document, |_| view::dropped(dropped));
    printer.next_steps(&[(
        "regraft quarantine list --resolved".to_owned(),
        "what was resolved or dropped",
    )]);
    Ok(ExitStatus::Done)
}

fn filter(project: &Project, rows: &QuarantineRows, dropped: bool) -> Result<RedriveFilter> {
    for entity in &rows.entities {
        known(project, entity)?;
    }
    Ok(RedriveFilter {
        entities: rows.entities.clone(),
        reason: rows.reason.clone(),
        legacy_ids: rows.legacy_ids.clone(),
        dropped,
    })
}

/// Whether any rows are named.
fn is_named(rows: &QuarantineRows) -> bool {
    !rows.entities.is_empty() || rows.reason.is_some() || !rows.legacy_ids.is_empty()
}

/// Refuses a name that isn't an entity of the project.
pub(super) fn known(project: &Project, entity: &str) -> Result<()> {
    if project.entity(entity).is_some() {
        return Ok(());
    }
    match project.select(&[entity.to_owned()], false) {
        Err(error) => Err(diagnostics::unknown_name(&error)),
        Ok(_) => {
            let what = format!("`{entity}` is a group; this is done entity by entity");
            Err(Error::new(Kind::Usage, what).hint("name one entity, or none for all"))
        }
    }
}

fn wanted(reason: &ReasonCount, arguments: &QuarantineListArguments) -> bool {
    let entity = arguments
        .entity()
        .is_none_or(|entity| reason.entity == entity);
    let code = arguments
        .reason
        .as_deref()
        .is_none_or(|wanted| match wanted.split_once(':') {
            Some((code, place)) => reason.code == code && reason.place.as_deref() == Some(place),
            None => reason.code == wanted,
        });
    entity && code
}

fn human(listed: &Listed, narrowed: bool, limit: i64, width: usize) -> String {
    if listed.reasons.is_empty() && listed.rows.is_empty() {
        return "no rows are in quarantine".to_owned();
    }
    let mut text = view::summary(&listed.reasons, width);
    if narrowed {
        text.push('\n');
        text.push_str(&view::rows(&listed.rows, width));
        if i64::try_from(listed.rows.len()).is_ok_and(|rows| rows == limit) {
            text.push_str(&format!(
                "  … the first {}; --limit N shows more\n",
                figures::count(limit)
            ));
        }
    }
    text
}

fn next_steps(listed: &Listed, narrowed: bool) -> Vec<(String, &'static str)> {
    match (narrowed, listed.reasons.first(), listed.rows.first()) {
        (false, Some(reason), _) => {
            vec![(
                format!("regraft quarantine list {}", reason.entity),
                "its rows, one by one",
            )]
        }
        (true, _, Some(row)) => vec![(
            format!("regraft quarantine show {} {}", row.entity, row.legacy_id),
            "one row with every reason",
        )],
        _ => Vec::new(),
    }
}
