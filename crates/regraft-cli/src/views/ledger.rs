//! What was removed from the ledger, for people.

use regraft_ledger::Pruned;

use crate::figures;

/// What would be removed.
pub(crate) fn preview(found: &Pruned, days: f64) -> String {
    format!("older than {}:\n{}", age(days), list(found))
}

/// What was removed.
pub(crate) fn pruned(found: &Pruned, days: f64) -> String {
    if found.is_nothing() {
        return format!(
            "nothing in the ledger is older than {} and not needed any more",
            age(days)
        );
    }
    format!(
        "removed what was older than {}:\n{}",
        age(days),
        list(found)
    )
}

fn age(days: f64) -> String {
    format!("{days} {}", if days == 1.0 { "day" } else { "days" })
}

fn list(found: &Pruned) -> String {
    let runs = format!(
        "{} ({})",
        figures::counted(found.runs, "run"),
        figures::counted(found.run_records, "record")
    );
    let lines = [
        (found.runs, runs),
        (
            found.before_images,
            figures::counted(found.before_images, "before-image"),
        ),
        (
            found.differences,
            figures::counted(found.differences, "settled difference"),
        ),
        (
            found.validation_results,
            figures::counted(found.validation_results, "result") + " of validations",
        ),
        (
            found.job_runs,
            figures::counted(found.job_runs, "run") + " of jobs",
        ),
    ];
    let there = lines.iter().filter(|(count, _)| *count > 0);
    there.map(|(_, line)| format!("  {line}\n")).collect()
}
