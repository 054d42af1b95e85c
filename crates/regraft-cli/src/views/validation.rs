//! What a validation found.

use regraft_engine::{Check, EntityValidation, Validation};

use super::reasons::examples;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text};

/// As many remarks that say the same are shown one by one.
const FEW: usize = 3;

/// The checks that are about what the new database needs to serve, and not about its rows.
pub(crate) const SERVING: [&str; 2] = ["performance", "queries"];

/// The result of a validation for people.
pub(crate) fn render(validation: &Validation, width: usize) -> String {
    format!(
        "{}\n{}{}{}{}{}\n",
        entities(validation, width),
        migration(validation, width),
        findings(validation, width),
        not_checked(validation, width),
        advice(validation, width),
        figures::wrap(&verdict(validation), width, 2)
    )
}

/// What was found, and the result in one line.
pub(crate) fn summary(validation: &Validation, width: usize) -> String {
    format!(
        "{}{}\n",
        findings(validation, width),
        figures::wrap(&verdict(validation), width, 2)
    )
}

/// The checks of the migration as a whole, where they were asked for.
fn migration(validation: &Validation, width: usize) -> String {
    if validation.migration.is_empty() {
        return String::new();
    }
    let mut table = Table::new().text("the whole");
    for check in &validation.migration {
        table = table.text(check.name);
    }
    let mut cells = vec![text("migration")];
    cells.extend(validation.migration.iter().map(|check| shown(Some(check))));
    table.row(cells);
    format!("{}\n", table.render(width, 2))
}

/// Every check with the entity it is about; none for those of the migration as a whole.
fn checks(validation: &Validation) -> impl Iterator<Item = (&str, &Check)> {
    let of_entities = validation.entities.iter().flat_map(|entity| {
        entity
            .checks
            .iter()
            .map(move |check| (entity.entity.as_str(), check))
    });
    of_entities.chain(validation.migration.iter().map(|check| ("", check)))
}

fn not_checked(validation: &Validation, width: usize) -> String {
    if validation.not_checked.is_empty() {
        return String::new();
    }
    remarks("not checked", &validation.not_checked, width)
}

/// What is no fault but good to know.
fn advice(validation: &Validation, width: usize) -> String {
    if validation.advice.is_empty() {
        return String::new();
    }
    remarks("advice", &validation.advice, width)
}

fn remarks(title: &str, remarks: &[String], width: usize) -> String {
    let mut table = Table::new().text("entity").text(title);
    for (about, what) in folded(remarks) {
        table.row(vec![text(about), text(what)]);
    }
    format!("{}\n", table.render(width, 2))
}

/// Remarks, with what they are about in front of each; where more than a few say the same, in one.
pub(crate) fn folded(remarks: &[String]) -> Vec<(String, String)> {
    let mut same: Vec<(&str, Vec<&str>)> = Vec::new();
    for remark in remarks {
        let (about, what) = remark.split_once(": ").unwrap_or(("", remark));
        match same.iter_mut().find(|(other, _)| *other == what) {
            Some((_, all)) => all.push(about),
            None => same.push((what, vec![about])),
        }
    }
    let line = |(what, all): (&str, Vec<&str>)| match all.len() {
        number if number > FEW => {
            let columns = all.iter().any(|about| about.contains('.'));
            let noun = if columns { "columns" } else { "entities" };
            vec![(
                format!("{number} {noun}"),
                format!("{what}: {}", all.join(", ")),
            )]
        }
        _ => all
            .into_iter()
            .map(|about| (about.to_owned(), what.to_owned()))
            .collect(),
    };
    same.into_iter().flat_map(line).collect()
}

/// What a validation came to, in words: `results` are its checks and whether they passed. `whole` is
/// for one of the migration as a whole.
pub(crate) fn in_words<'a>(
    complete: bool,
    whole: bool,
    results: impl Iterator<Item = (&'a str, bool)>,
) -> &'static str {
    let (serving, rows): (Vec<_>, Vec<_>) = results.partition(|(name, _)| SERVING.contains(name));
    let passed = |results: &[(&str, bool)]| results.iter().all(|(_, passed)| *passed);
    match (complete, passed(&rows), passed(&serving)) {
        (false, ..) => "NOT FINISHED",
        (_, false, _) if whole => "NOT COMPLETE",
        (_, false, _) => "NOT VALID",
        (_, _, true) if whole => "the migration is complete and valid",
        (_, _, true) if rows.is_empty() => "ready to serve",
        (_, _, true) => "valid",
        (_, _, false) if whole => {
            "the migration is complete and valid, but the target is NOT READY TO SERVE"
        }
        (_, _, false) if rows.is_empty() => "the target is NOT READY TO SERVE",
        (_, _, false) => "the rows are valid, but the target is NOT READY TO SERVE",
    }
}

/// The result in one line.
fn verdict(validation: &Validation) -> String {
    let number = checks(validation).count();
    let rows: u64 = validation.entities.iter().map(|entity| entity.rows).sum();
    let failed = checks(validation)
        .filter(|(_, check)| !check.passed)
        .count();
    let whole = validation
        .migration
        .iter()
        .any(|check| check.name == "entities");
    let results = checks(validation).map(|(_, check)| (check.name, check.passed));
    let result = in_words(validation.complete, whole, results);
    let scope = format!(
        "{} over {} of {}",
        figures::counted(number as u64, "check"),
        figures::counted(rows, "row"),
        figures::counted(validation.entities.len() as u64, "entity"),
    );
    let time = figures::duration(validation.seconds);
    let mut remarks = String::new();
    if !validation.not_checked.is_empty() {
        let number = figures::counted(validation.not_checked.len() as u64, "remark");
        remarks = format!("; {number} on what was not checked");
    }
    if validation.passed {
        let mark = paint(style::GOOD, "✓");
        format!("{mark} {result}: {scope}, all passed{remarks} ({time})")
    } else {
        format!(
            "{} {result}: {scope}, {} failed{remarks} ({time})",
            paint(style::BAD, "✗"),
            figures::count(failed as u64)
        )
    }
}

fn entities(validation: &Validation, width: usize) -> String {
    let mut names: Vec<&str> = Vec::new();
    for check in validation.entities.iter().flat_map(|entity| &entity.checks) {
        let name = check.name;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut table = Table::new().text("entity").number("rows");
    for name in &names {
        table = table.text(name);
    }
    table = table.number("time");
    for entity in &validation.entities {
        let mut cells = vec![text(&entity.entity), count(entity.rows)];
        cells.extend(names.iter().map(|name| outcome(entity, name)));
        cells.push(text(figures::duration(entity.seconds)));
        table.row(cells);
    }
    table.render(width, 2)
}

fn outcome(entity: &EntityValidation, name: &str) -> (String, Tone) {
    shown(entity.checks.iter().find(|check| check.name == name))
}

fn shown(check: Option<&Check>) -> (String, Tone) {
    match check {
        None => ("–".to_owned(), Tone::Quiet),
        Some(check) if check.passed => ("ok".to_owned(), Tone::Good),
        Some(check) => {
            let rows = check.findings.iter().map(|finding| finding.rows);
            let found = faults(check.name, rows);
            (format!("FAILED: {}", figures::count(found)), Tone::Bad)
        }
    }
}

/// How much a check found: rows, but where it is not about rows as they are, things to do.
pub(crate) fn faults(check: &str, rows: impl Iterator<Item = u64>) -> u64 {
    match SERVING.contains(&check) {
        true => rows.count() as u64,
        false => rows.sum(),
    }
}

fn findings(validation: &Validation, width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .text("check")
        .number("rows")
        .text("finding")
        .text("legacy ids");
    let mut any = false;
    for (entity, check) in checks(validation) {
        for finding in &check.findings {
            let rows = i64::try_from(finding.rows).unwrap_or(i64::MAX);
            any = true;
            // What is about the migration names its entity, if any, in front.
            let (entity, what) = match finding.what.split_once(": ") {
                Some((of, what)) if entity.is_empty() && !of.contains(' ') => (of, what),
                _ => (entity, finding.what.as_str()),
            };
            let ids = match finding.examples.as_slice() {
                [] => String::new(),
                ids => examples(ids, rows),
            };
            table.row(vec![
                text(entity),
                text(check.name.to_string()),
                count(finding.rows),
                text(what),
                text(ids),
            ]);
        }
    }
    if !any {
        return String::new();
    }
    format!(
        "{}\n{}\n",
        paint(style::HEADING, "findings"),
        table.render(width, 2)
    )
}
