//! The ledger: its version, whether its accounts balance, and what is left open.

use regraft_ledger::{DifferingFilter, VERSION};
use regraft_pg::Session;
use regraft_project::Budget;

use super::{HealthCheck, some};
use crate::context::Context;
use crate::error::Result;
use crate::receipt::unfinished;

const AREA: &str = "ledger";

/// Seconds after which a worker is missed: it tells of itself several times within its lease, which is
/// seldom longer.
const SILENT: f64 = 60.0;

/// The checks of the ledger.
///
/// # Errors
/// What the target says to a statement.
pub(super) async fn check(context: &Context, target: &Session) -> Result<Vec<HealthCheck>> {
    let Some(installed) = regraft_ledger::installed_version(&**target).await? else {
        return Ok(vec![HealthCheck::ok(
            AREA,
            "version",
            "there is none yet: nothing was migrated into this target",
        )]);
    };
    let mut checks = vec![version(installed)];
    if installed > VERSION {
        return Ok(checks);
    }
    checks.push(accounts(target).await?);
    checks.extend(runs(context, target).await?);
    checks.push(quarantine(context, target).await?);
    if installed > 1 {
        checks.push(differences(target).await?);
    }
    if installed > 3 {
        checks.extend(jobs(target).await?);
    }
    checks.push(workers(target).await?);
    Ok(checks)
}

fn version(installed: i32) -> HealthCheck {
    if installed > VERSION {
        return HealthCheck::failure(
            AREA,
            "version",
            format!("it has version {installed}, and this program knows version {VERSION}"),
            "use the program that wrote it, or a later one",
        );
    }
    if installed < VERSION {
        return HealthCheck::warning(
            AREA,
            "version",
            format!("it has version {installed}, and this program writes version {VERSION}"),
            "nothing: the next command that writes upgrades it",
        );
    }
    HealthCheck::ok(AREA, "version", format!("{installed}, this program's own"))
}

/// Whether every source row of every run is in exactly one bucket.
async fn accounts(target: &Session) -> Result<HealthCheck> {
    let unbalanced = regraft_ledger::unbalanced(&**target).await?;
    if unbalanced.is_empty() {
        return Ok(HealthCheck::ok(
            AREA,
            "accounts",
            "the account of every entity in every finished run balances",
        ));
    }
    let list = unbalanced.iter().take(5);
    let list: Vec<String> = list
        .map(|(run, entity, rows)| format!("{entity} in {run} by {rows} rows"))
        .collect();
    Ok(HealthCheck::failure(
        AREA,
        "accounts",
        format!(
            "{} accounts do not balance: {}",
            unbalanced.len(),
            list.join(", ")
        ),
        "somebody has changed the ledger: bring it back from a backup, or roll those runs back",
    ))
}

/// Runs that are not finished, and what finished ones have not brought back.
async fn runs(context: &Context, target: &Session) -> Result<Vec<HealthCheck>> {
    let unfinished = unfinished(target, &context.project).await?;
    let mut checks = Vec::new();
    for run in &unfinished {
        checks.push(if run.working {
            HealthCheck::ok(
                AREA,
                "runs",
                format!("{}: a process is at work on it", run.run_id),
            )
        } else {
            HealthCheck::warning(
                AREA,
                "runs",
                format!(
                    "{} is unfinished, and no process is at work on it",
                    run.run_id
                ),
                format!("finish it: `{}`", run.finish),
            )
        });
    }
    for (run, entity) in regraft_ledger::taken_off(&**target).await? {
        if !unfinished.iter().any(|open| open.run_id == run) {
            checks.push(HealthCheck::failure(
                AREA,
                "runs",
                format!("{run} has taken indexes or constraints off the table of {entity} and not brought them back"),
                "`regraft schema diff` names them",
            ));
        }
    }
    if checks.is_empty() {
        checks.push(HealthCheck::ok(AREA, "runs", "none is unfinished"));
    }
    Ok(checks)
}

/// Whether what is left behind of each entity is within the project's limit.
async fn quarantine(context: &Context, target: &Session) -> Result<HealthCheck> {
    let limit = context.project.manifest().limits.quarantine;
    let source_rows = regraft_ledger::last_source_rows(&**target).await?;
    let (mut over, mut left) = (Vec::new(), 0);
    for standing in regraft_ledger::standing(&**target).await? {
        let open = standing.left_behind - standing.dropped;
        let rows = source_rows.get(&standing.entity).copied().unwrap_or(0);
        left += open;
        if exceeds(limit, open, rows.max(standing.mapped + open)) {
            over.push(format!("{} ({open})", standing.entity));
        }
    }
    if over.is_empty() {
        let found = format!("{left} rows are left behind, within the project's limit");
        return Ok(HealthCheck::ok(AREA, "quarantine", found));
    }
    Ok(HealthCheck::failure(
        AREA,
        "quarantine",
        format!(
            "more rows are left behind than the project allows: {}",
            some(&over)
        ),
        "`regraft quarantine list` says why; repair them and `regraft quarantine retry --all`",
    ))
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no exactness")]
fn exceeds(limit: Budget, open: i64, rows: i64) -> bool {
    match limit {
        Budget::Rows(most) => open.unsigned_abs() > most,
        Budget::Fraction(share) => open as f64 > share * rows as f64,
    }
}

/// Whether jobs are run when they are due, and what came of their last runs.
async fn jobs(target: &Session) -> Result<Vec<HealthCheck>> {
    let standing = regraft_ledger::sync_standing(&**target).await?;
    if standing.jobs == 0 {
        return Ok(vec![HealthCheck::ok(AREA, "jobs", "there are none")]);
    }
    let mut checks = Vec::new();
    let mut warn = |names: &[String], what: &str, to_do: &str| {
        if !names.is_empty() {
            let found = format!("{what}: {}", some(names));
            checks.push(HealthCheck::warning(AREA, "jobs", found, to_do));
        }
    };
    warn(
        &standing.abandoned,
        "the process that ran them is not heard of any more",
        "`regraft service start` takes them up again",
    );
    warn(
        &standing.overdue,
        "due for more than five minutes, and not run",
        "`regraft service start` runs jobs when they are due",
    );
    warn(
        &standing.failing,
        "their last run has failed",
        "`regraft sync job-status --name` says why",
    );
    if checks.is_empty() {
        let found = format!("{}, all run when they are due", standing.jobs);
        checks.push(HealthCheck::ok(AREA, "jobs", found));
    }
    Ok(checks)
}

/// Whether the workers that have not left are heard of.
async fn workers(target: &Session) -> Result<HealthCheck> {
    let seen = regraft_ledger::workers_seen(&**target).await?;
    if seen.is_empty() {
        return Ok(HealthCheck::ok(AREA, "workers", "there are none"));
    }
    let silent: Vec<String> = seen
        .iter()
        .filter(|worker| worker.silent_seconds > SILENT)
        .map(|worker| worker.name.clone())
        .collect();
    if silent.is_empty() {
        let found = format!("{}, all heard of within a minute", seen.len());
        return Ok(HealthCheck::ok(AREA, "workers", found));
    }
    Ok(HealthCheck::warning(
        AREA,
        "workers",
        format!("not heard of for more than a minute: {}", some(&silent)),
        "their batches go to others; look at their hosts, and start `regraft worker` there again",
    ))
}

async fn differences(target: &Session) -> Result<HealthCheck> {
    let filter = DifferingFilter::default();
    let open = regraft_ledger::count_differing(&**target, &filter).await?;
    let rows: i64 = open.iter().map(|(_, _, rows)| rows).sum();
    if rows == 0 {
        return Ok(HealthCheck::ok(
            AREA,
            "differences",
            "no row waits for a decision",
        ));
    }
    Ok(HealthCheck::warning(
        AREA,
        "differences",
        format!("{rows} rows wait for a decision"),
        "`regraft conflicts list`, then `regraft conflicts resolve`",
    ))
}
