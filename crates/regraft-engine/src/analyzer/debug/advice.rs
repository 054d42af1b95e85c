//! What to do next, from what was found.

use serde::Serialize;

use super::EntityDebug;
use crate::analyzer::checkpoints::CheckpointProgress;

/// Something that needs doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recommendation {
    /// Why.
    pub what: String,
    /// What to type, where a command of this program does it or tells more.
    pub command: Option<String>,
}

fn item(what: impl Into<String>, command: impl Into<String>) -> Recommendation {
    Recommendation {
        what: what.into(),
        command: Some(command.into()),
    }
}

/// What needs doing, the most pressing first.
pub(super) fn of(found: &EntityDebug) -> Vec<Recommendation> {
    let mut list = Vec::new();
    list.extend(servers(found));
    list.extend(locks(found));
    list.extend(drift(found));
    list.extend(runs(found));
    list.extend(rows(found));
    list.extend(found.index_faults.iter().map(|fault| Recommendation {
        what: fault.clone(),
        command: None,
    }));
    list
}

fn servers(found: &EntityDebug) -> Vec<Recommendation> {
    let mut list = Vec::new();
    if !found.not_looked_at.is_empty() {
        list.push(item(
            "not everything could be looked at",
            "regraft analyzer system-health",
        ));
    }
    if !found.problems.is_empty() {
        list.push(item(
            "the project does not fit the two databases",
            "regraft check",
        ));
    }
    list
}

fn locks(found: &EntityDebug) -> Vec<Recommendation> {
    let mut holders: Vec<_> = found
        .locks
        .iter()
        .filter(|lock| lock.is_in_the_way())
        .collect();
    holders.dedup_by_key(|lock| lock.pid);
    let items = holders.iter().map(|lock| {
        let application = lock.application.as_deref().unwrap_or("an unnamed session");
        Recommendation {
            what: format!(
                "process {} ({application}) holds {} on {}: have it end its transaction, or `select pg_terminate_backend({})` on the target",
                lock.pid, lock.mode, found.target_table, lock.pid
            ),
            command: None,
        }
    });
    items.collect()
}

fn drift(found: &EntityDebug) -> Vec<Recommendation> {
    let Some(since) = &found.drift.since else {
        return Vec::new();
    };
    let unfinished = found.unfinished.iter().any(|run| run.run_id == *since);
    let items = found.drift.changed.iter().map(|what| {
        if unfinished {
            return item(
                format!("{what} changed since {since} was begun, which can't go on: bring it back, or undo the run"),
                format!("regraft rollback --run {since}"),
            );
        }
        let command = if what.starts_with("the target") {
            "regraft schema diff".to_owned()
        } else if what.starts_with("the source") {
            "regraft check".to_owned()
        } else {
            format!("regraft plan {}", found.entity)
        };
        item(format!("{what} changed since {since}: see what that means"), command)
    });
    items.collect()
}

fn runs(found: &EntityDebug) -> Vec<Recommendation> {
    let mut list = Vec::new();
    for run in found.unfinished.iter().filter(|run| !run.working) {
        list.push(item(
            format!(
                "{} is unfinished, and no process is at work on it",
                run.run_id
            ),
            run.finish.clone(),
        ));
    }
    let off = found.checkpoint.as_ref().filter(|checkpoint| {
        checkpoint.state == CheckpointProgress::Done && !checkpoint.taken_off.is_empty()
    });
    if let Some(checkpoint) = off {
        list.push(item(
            format!(
                "{} has taken {} off the table and not brought it back",
                checkpoint.run_id,
                checkpoint.taken_off.join(", ")
            ),
            "regraft schema diff",
        ));
    }
    if found.runs.is_empty() && found.unfinished.is_empty() {
        list.push(item(
            "it was never moved",
            format!("regraft migrate {}", found.entity),
        ));
    }
    list
}

fn rows(found: &EntityDebug) -> Vec<Recommendation> {
    let entity = &found.entity;
    let mut list = Vec::new();
    if !found.quarantine.is_empty() {
        list.push(item(
            "rows are left behind: see why, repair what is wrong, then have them tried again",
            format!("regraft quarantine list {entity}"),
        ));
    }
    if !found.differences.is_empty() {
        list.push(item(
            "rows wait for a decision",
            format!("regraft conflicts list {entity}"),
        ));
    }
    let Some(validation) = &found.validation else {
        return list;
    };
    if !validation.failed.is_empty() {
        let command = match validation.runs_since.is_empty() {
            true => format!("regraft report {entity}"),
            false => format!("regraft validate {entity}"),
        };
        list.push(item("the latest validation found differences", command));
    }
    list
}
