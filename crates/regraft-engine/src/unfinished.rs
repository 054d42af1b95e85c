//! Runs that were begun and not finished: what stands in the way of others, and which command
//! finishes each.

use regraft_ledger::{OpenRun, Run};
use regraft_pg::Session;
use regraft_project::Project;

use crate::error::{Error, Kind, Result};
use crate::migrate::{Claim, tables_of};

/// The runs that were begun and not finished, and that stand in the way of whoever holds this claim:
/// all of them, for who has the target for itself. Who shares it goes side by side with differential
/// migrations of other tables, whether they are at work or were left in the middle.
pub(crate) async fn in_the_way(
    target: &Session,
    project: &Project,
    claim: &Claim,
) -> Result<Vec<OpenRun>> {
    let mut open = regraft_ledger::open_runs(&**target).await?;
    open.retain(|open| {
        let about = tables_of(project, entities(&open.run));
        open.run.command != "differential" || claim.meets(&about)
    });
    Ok(open)
}

/// Refuses to begin while a run of another command is unfinished: what it left half done would be
/// taken for what is there. Runs of `command` itself are its own to take up.
pub(crate) async fn refuse_others(
    target: &Session,
    project: &Project,
    command: &str,
) -> Result<()> {
    let open = regraft_ledger::open_runs(&**target).await?;
    match open.iter().find(|open| open.run.command != command) {
        None => Ok(()),
        Some(open) => Err(refused(project, open)),
    }
}

/// The refusal because of a run.
pub(crate) fn refused(project: &Project, open: &OpenRun) -> Error {
    let finish = finishing_command(project, open);
    let id = &open.run.run_id;
    let hint = match open.run.command.as_str() {
        "migrate" | "retry" | "backfill" | "differential" => {
            format!(
                "finish it with `{finish}`, or undo it with `regraft rollback --run {id}`; then try again"
            )
        }
        _ => format!("finish it with `{finish}`; then try again"),
    };
    Error::new(Kind::Usage, format!("run {id} is unfinished")).hint(hint)
}

/// What to type to have a run finished.
pub(crate) fn finishing_command(project: &Project, open: &OpenRun) -> String {
    let run = &open.run;
    match run.command.as_str() {
        "retry" => retry_command(run),
        "differential" => format!("regraft differential resume --operation-id {}", run.run_id),
        "backfill" => backfill_command(run),
        "mappings" => of_entities("regraft mappings rebuild", project, open),
        "rollback" => match run.detail.get("of_run").and_then(|id| id.as_str()) {
            Some(id) => format!("regraft rollback --run {id}{}", force(run)),
            None => format!(
                "{}{}",
                of_entities("regraft rollback", project, open),
                force(run)
            ),
        },
        _ => "regraft migrate".to_owned(),
    }
}

fn force(rollback: &Run) -> &'static str {
    match rollback.detail.get("force") {
        Some(_) => " --force",
        None => "",
    }
}

fn retry_command(run: &Run) -> String {
    let rows = run.detail.get("rows").and_then(|rows| rows.as_object());
    let entities: Vec<&str> = rows
        .into_iter()
        .flatten()
        .map(|(e, _)| e.as_str())
        .collect();
    match entities.as_slice() {
        [] => "regraft quarantine retry --all".to_owned(),
        entities => format!("regraft quarantine retry --entity {}", entities.join(",")),
    }
}

fn backfill_command(run: &Run) -> String {
    let of = |field: &str| run.detail.pointer(&format!("/backfilled/{field}"));
    let columns: Vec<&str> = of("columns")
        .and_then(|list| list.as_array())
        .into_iter()
        .flatten()
        .filter_map(|column| column.as_str())
        .collect();
    let policy = of("policy").and_then(|policy| policy.as_str());
    format!(
        "regraft backfill --entity {} --columns {}{}",
        of("entity").and_then(|e| e.as_str()).unwrap_or_default(),
        columns.join(","),
        policy.map_or(String::new(), |p| format!(" --conflict-resolution {p}"))
    )
}

/// A command with the entities that a run was about; none are named where it was about all.
fn of_entities(command: &str, project: &Project, open: &OpenRun) -> String {
    let all = project.entities();
    let about: Vec<&str> = entities(&open.run).collect();
    if all.iter().all(|e| about.contains(&e.name.as_str())) {
        return command.to_owned();
    }
    let left: Vec<&str> = open.left.iter().map(String::as_str).collect();
    let names = if left.is_empty() { about } else { left };
    format!("{command} {}", names.join(" "))
}

/// The entities that a run was begun for.
pub(crate) fn entities(run: &Run) -> impl Iterator<Item = &str> {
    run.detail
        .get("entities")
        .and_then(|list| list.as_array())
        .into_iter()
        .flatten()
        .filter_map(|entity| entity.as_str())
}
