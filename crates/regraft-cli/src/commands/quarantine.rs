//! `regraft quarantine list`, `show` and `retry`

use regraft_engine::{Error, Kind, Result, quarantine, quarantine_summary, retry_quarantine};
use regraft_ledger::{QuarantineFilter, QuarantineRow, ReasonCount, RedriveFilter};
use regraft_project::Project;
use serde::Serialize;

use crate::arguments::{
    QuarantineListArguments, QuarantineRetryArguments, QuarantineShowArguments,
};
use crate::diagnostics;
use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::{Invocation, Needs};
use crate::progress::Doing;
use crate::views::quarantine as view;
use crate::views::receipt;

/// The JSON document of a list.
#[derive(Serialize)]
struct Listed {
    reasons: Vec<ReasonCount>,
    rows: Vec<QuarantineRow>,
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
    for entity in &arguments.entities {
        known(&opened.project, entity)?;
    }
    let named = !arguments.entities.is_empty()
        || arguments.reason.is_some()
        || !arguments.legacy_ids.is_empty();
    if !named && !arguments.all {
        return Err(Error::new(Kind::Usage, "which rows are to be tried again?").hint(
            "name them with --entity, --reason or --legacy-id, or take --all; see `regraft quarantine list`",
        ));
    }
    let mut context = invocation.context(&opened, Needs::Both)?;
    if arguments.dry_run {
        context.events = invocation.events(Doing::Rehearsing);
    }
    let filter = RedriveFilter {
        entities: arguments.entities.clone(),
        reason: arguments.reason.clone(),
        legacy_ids: arguments.legacy_ids.clone(),
    };
    let printer = &invocation.printer;
    let Some(outcome) = retry_quarantine(&context, &filter, arguments.dry_run).await? else {
        printer.report(&serde_json::json!({ "nothing_to_do": true }), |_| {
            "nothing to do: no row in quarantine is like that".to_owned()
        });
        return Ok(ExitStatus::Done);
    };
    printer.report(&outcome, |width| receipt::retried(&outcome, width));
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
    known(&opened.project, &arguments.entity)?;
    let context = invocation.context(&opened, Needs::Target)?;
    let rows = quarantine(
        &context,
        &QuarantineFilter {
            entity: Some(arguments.entity.clone()),
            legacy_id: Some(arguments.legacy_id.clone()),
            reason: None,
            closed: true,
            values: arguments.values,
            limit: 1,
        },
    )
    .await?;
    let Some(row) = rows.first() else {
        let what = format!(
            "row {} of {} is not in quarantine and never was",
            arguments.legacy_id, arguments.entity
        );
        let hint = format!("regraft quarantine list {}", arguments.entity);
        return Err(Error::new(Kind::Usage, what).hint(format!("see `{hint}`")));
    };
    invocation
        .printer
        .report(row, |width| view::row(row, width));
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
