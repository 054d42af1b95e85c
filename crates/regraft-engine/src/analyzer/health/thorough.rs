//! The project against both catalogs, and the state of the target's tables.

use regraft_pg::Session;
use regraft_project::Severity;

use super::{HealthCheck, some};
use crate::analyzer::tables::{bloated, index_faults};
use crate::context::Context;
use crate::error::Result;
use crate::model::{Model, resolve};

/// The checks of catalogs and tables.
///
/// # Errors
/// What a server says to a statement.
pub(super) async fn check(
    context: &Context,
    source: &Session,
    target: &Session,
) -> Result<Vec<HealthCheck>> {
    let resolution = resolve(&context.project, source, target).await?;
    let of = |severity| {
        let problems = resolution.problems.iter();
        let found = problems.filter(move |problem| problem.severity == severity);
        found.map(|problem| problem.message.clone()).collect()
    };
    let (errors, warnings): (Vec<String>, Vec<String>) =
        (of(Severity::Error), of(Severity::Warning));
    let mut checks = vec![catalogs(&errors, &warnings)];
    checks.push(indexes(&resolution.model));
    checks.push(dead_rows(target, &resolution.model).await?);
    checks.extend(left_by_last_run(target, &resolution.model).await?);
    Ok(checks)
}

fn catalogs(errors: &[String], warnings: &[String]) -> HealthCheck {
    if !errors.is_empty() {
        return HealthCheck::failure(
            "project",
            "catalogs",
            some(errors),
            "`regraft check` tells where",
        );
    }
    if !warnings.is_empty() {
        return HealthCheck::warning(
            "project",
            "catalogs",
            some(warnings),
            "`regraft check` tells where",
        );
    }
    HealthCheck::ok("project", "catalogs", "the project fits both catalogs")
}

fn indexes(model: &Model) -> HealthCheck {
    let mut faults: Vec<String> = model
        .entities
        .values()
        .flat_map(|entity| index_faults(&entity.table))
        .collect();
    faults.sort();
    faults.dedup();
    if faults.is_empty() {
        return HealthCheck::ok(
            "target",
            "indexes",
            "none is invalid, and none is missing on a reference",
        );
    }
    HealthCheck::warning(
        "target",
        "indexes",
        some(&faults),
        "run the statement that stands with each",
    )
}

async fn dead_rows(target: &Session, model: &Model) -> Result<HealthCheck> {
    let mut tables: Vec<String> = model
        .entities
        .values()
        .map(|entity| entity.table.sql_name())
        .collect();
    tables.sort();
    tables.dedup();
    let found = bloated(target, &tables).await?;
    if found.is_empty() {
        return Ok(HealthCheck::ok("target", "dead rows", "no table has many"));
    }
    let list: Vec<String> = found
        .iter()
        .map(|(table, dead)| format!("{table} has {dead} dead rows"))
        .collect();
    Ok(HealthCheck::warning(
        "target",
        "dead rows",
        some(&list),
        "`vacuum` them, or see that autovacuum does",
    ))
}

/// Whether the target declares what the latest migration left.
async fn left_by_last_run(target: &Session, model: &Model) -> Result<Option<HealthCheck>> {
    if regraft_ledger::installed_version(&**target)
        .await?
        .is_none()
    {
        return Ok(None);
    }
    let Some((run, hash)) = regraft_ledger::recorded_catalog(&**target).await? else {
        return Ok(None);
    };
    let open = regraft_ledger::open_runs(&**target).await?;
    Ok(Some(if hash == model.target_catalog.hash() {
        HealthCheck::ok("target", "schema", format!("it is what {run} left"))
    } else if open.is_empty() {
        HealthCheck::warning(
            "target",
            "schema",
            format!("tables, constraints, indexes or triggers are not what {run} left"),
            "`regraft schema diff` names them",
        )
    } else {
        HealthCheck::ok("target", "schema", "an unfinished run may have changed it")
    }))
}
