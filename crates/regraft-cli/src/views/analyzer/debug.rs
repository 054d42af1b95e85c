//! All that is known of one entity.

use jiff::Timestamp;
use regraft_engine::{EntityDebug, LastValidation, QueryPlan};

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, count, text, worry};
use crate::views::reasons::{self, Reason};
use crate::views::status::held_back;

/// What is known of an entity, for people.
pub(crate) fn render(found: &EntityDebug, now: Timestamp, width: usize) -> String {
    let mut out = format!(
        "{} → {}\n",
        paint(style::HEADING, &found.entity),
        found.target_table
    );
    if !found.ledger_installed {
        out.push_str("\nnothing was migrated into this target yet: it has no ledger\n");
    }
    for (title, part) in [
        ("last runs", runs(found, now, width)),
        ("unfinished", unfinished(found, width)),
        ("checkpoint", checkpoint(found, now, width)),
        ("quarantine", quarantine(found, width)),
        ("open differences", differences(found, width)),
        ("last validation", validation(found, now, width)),
        ("locks on its table", locks(found, width)),
        ("changed since", drift(found, width)),
        ("project", list(&found.problems, width)),
        ("indexes", list(&found.index_faults, width)),
        (
            "plan of a batch",
            found
                .plan
                .as_ref()
                .map_or_else(String::new, |plan| self::plan(plan, width)),
        ),
        ("not looked at", list(&found.not_looked_at, width)),
        ("what to do next", recommendations(found, width)),
    ] {
        if !part.is_empty() {
            out.push_str(&format!("\n{}\n{part}", paint(style::HEADING, title)));
        }
    }
    out
}

fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>, width: usize) -> String {
    let lines = lines.into_iter().map(|line| {
        let wrapped = figures::wrap(line.as_ref(), width.saturating_sub(2), 4);
        format!("  {wrapped}\n")
    });
    lines.collect()
}

fn list(items: &[String], width: usize) -> String {
    lines(items.iter().map(|item| format!("! {item}")), width)
}

fn runs(found: &EntityDebug, now: Timestamp, width: usize) -> String {
    if found.runs.is_empty() {
        return lines(["none"], width);
    }
    let mut table = Table::new()
        .text("run")
        .text("outcome")
        .text("begun")
        .number("time")
        .number("source rows")
        .number("left behind");
    for run in &found.runs {
        table.row(vec![
            text(&run.run_id),
            (
                run.status.replace('_', " "),
                crate::views::receipt::status_tone(&run.status),
            ),
            text(figures::ago(&run.started_at, now)),
            text(run.seconds.map(figures::duration).unwrap_or_default()),
            count(run.source_rows),
            worry(run.left_behind),
        ]);
    }
    let failed = found.runs.iter().filter_map(|run| {
        let error = run.error.as_ref()?;
        let of = |field: &str| error.get(field).filter(|value| !value.is_null());
        let mut text = format!("{} failed: {}", run.run_id, of("message")?.as_str()?);
        for (field, name) in [
            ("code", "SQLSTATE"),
            ("entity", "in"),
            ("batch", "batch"),
            ("legacy_ids", "legacy ids"),
        ] {
            if let Some(value) = of(field) {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                text.push_str(&format!(", {name} {value}"));
            }
        }
        Some(text)
    });
    table.render(width, 2) + &lines(failed, width)
}

fn unfinished(found: &EntityDebug, width: usize) -> String {
    let runs = found.unfinished.iter().map(|run| {
        let state = match run.working {
            true => "a process is at work on it",
            false => "no process is at work on it",
        };
        let pace = held_back(run).map_or(String::new(), |pace| format!("; held back: {pace}"));
        format!(
            "{}: {}, and {state}{pace}",
            run.run_id,
            run.status.replace('_', " ")
        )
    });
    lines(runs, width)
}

fn checkpoint(found: &EntityDebug, now: Timestamp, width: usize) -> String {
    let Some(checkpoint) = &found.checkpoint else {
        return String::new();
    };
    let mut parts = vec![format!(
        "{} in {}: {}, {}, {} of {} rows, moved {}",
        checkpoint.id,
        checkpoint.run_id,
        checkpoint.phase.as_str(),
        checkpoint.mode.as_str(),
        figures::count(checkpoint.rows_done),
        figures::count(checkpoint.rows_total.max(checkpoint.rows_done)),
        figures::ago(&checkpoint.moved_at, now)
    )];
    if !checkpoint.taken_off.is_empty() {
        parts.push(format!(
            "off the table: {}",
            figures::some(&checkpoint.taken_off, 8)
        ));
    }
    lines(parts, width)
}

fn quarantine(found: &EntityDebug, width: usize) -> String {
    if found.quarantine.is_empty() {
        return String::new();
    }
    let of = found.quarantine.iter().map(|reason| Reason {
        entity: &reason.entity,
        rows: reason.rows,
        code: &reason.code,
        place: reason.place.as_deref(),
        parent: reason.parent.as_deref(),
        examples: &reason.examples,
        open: reason.rows,
    });
    let codes = found.quarantine.iter().map(|reason| reason.code.as_str());
    format!(
        "{}{}",
        reasons::table(of, width),
        reasons::what_to_do(codes, width)
    )
}

fn differences(found: &EntityDebug, width: usize) -> String {
    let open = found.differences.iter().map(|open| {
        let rows = figures::counted(open.rows, "row");
        format!("{}: {rows}", open.kind.replace('_', " "))
    });
    lines(open, width)
}

fn validation(found: &EntityDebug, now: Timestamp, width: usize) -> String {
    if !found.ledger_installed {
        return String::new();
    }
    match &found.validation {
        None => lines(["none is stored that is about it"], width),
        Some(validation) => of_validation(validation, now, width),
    }
}

fn of_validation(validation: &LastValidation, now: Timestamp, width: usize) -> String {
    let outcome = match (validation.failed.is_empty(), validation.complete) {
        (false, _) => "differences were found",
        (true, false) => "nothing was found, but it did not come to its end",
        (true, true) => "nothing was found",
    };
    let mut parts = vec![format!(
        "{}: {outcome}",
        figures::ago(&validation.generated_at, now)
    )];
    if !validation.runs_since.is_empty() {
        let runs = figures::counted(validation.runs_since.len() as u64, "run");
        parts.push(format!("it says nothing of {runs} since"));
    }
    let failed = validation.failed.iter().map(|failed| {
        let rows = figures::counted(failed.rows, "row");
        format!("! {}: {} ({rows})", failed.check, failed.what)
    });
    parts.extend(failed);
    lines(parts, width)
}

fn locks(found: &EntityDebug, width: usize) -> String {
    if found.locks.is_empty() {
        return String::new();
    }
    let mut table = Table::new()
        .number("process")
        .text("application")
        .text("state")
        .text("lock")
        .number("for");
    for lock in &found.locks {
        let mode = match lock.held {
            true => lock.mode.clone(),
            false => {
                let pids: Vec<String> = lock.waits_for.iter().map(i32::to_string).collect();
                format!("{}, waiting for {}", lock.mode, figures::list(&pids))
            }
        };
        table.row(vec![
            text(lock.pid.to_string()),
            text(lock.application.as_deref().unwrap_or("?")),
            text(lock.state.as_deref().unwrap_or("?")),
            text(mode),
            text(lock.seconds.map(figures::span).unwrap_or_default()),
        ]);
    }
    table.render(width, 2)
}

fn drift(found: &EntityDebug, width: usize) -> String {
    let Some(since) = &found.drift.since else {
        return String::new();
    };
    if found.drift.changed.is_empty() {
        return lines([format!("{since}: nothing")], width);
    }
    let changed = found.drift.changed.iter();
    lines(changed.map(|what| format!("! {since}: {what}")), width)
}

fn plan(plan: &QueryPlan, width: usize) -> String {
    let mut table = Table::new()
        .text("step")
        .number("estimated rows")
        .number("estimated cost");
    for step in &plan.steps {
        let mut what = format!("{}{}", "· ".repeat(step.depth), step.what);
        if let Some(index) = &step.index {
            what.push_str(&format!(" using {index}"));
        }
        if let Some(of) = &step.table {
            what.push_str(&format!(" on {of}"));
        }
        table.row(vec![
            text(what),
            text(format!("{:.0}", step.rows)),
            text(format!("{:.0}", step.cost)),
        ]);
    }
    format!(
        "{}{}",
        lines([format!("of {}, on the source", plan.of)], width),
        table.render(width, 2)
    )
}

fn recommendations(found: &EntityDebug, width: usize) -> String {
    if found.recommendations.is_empty() {
        return lines(["nothing: all that was looked at is in order"], width);
    }
    let items = found.recommendations.iter().zip(1..);
    let items = items.map(|(item, number)| match &item.command {
        Some(command) => format!("{number}. {}: `{command}`", item.what),
        None => format!("{number}. {}", item.what),
    });
    lines(items, width)
}
