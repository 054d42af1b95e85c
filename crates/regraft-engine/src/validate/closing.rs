//! The migration as a whole: what must hold besides the rows of each entity before it can be
//! called finished.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::Session;
use regraft_project::{Budget, Project};

use super::databases::Databases;
use super::report::{Check, EntityValidation, Finding};
use crate::error::Result;
use crate::unfinished::finishing_command;

/// The checks `entities`, `runs`, `quarantine` and `catalog`, in this order.
pub(super) async fn check(
    project: &Project,
    databases: &Databases<'_>,
    validated: &[EntityValidation],
) -> Result<Vec<Check>> {
    let ledger = &databases.target;
    let standing = Standing::read(ledger).await?;
    Ok(vec![
        entities(project, databases, &standing).await?,
        runs(project, ledger).await?,
        quarantine(project, &standing, validated),
        catalog(databases).await?,
    ])
}

/// What the ledger says of each entity.
struct Standing {
    rows: BTreeMap<String, regraft_ledger::Standing>,
    finished: BTreeSet<String>,
}

impl Standing {
    async fn read(ledger: &Session) -> Result<Self> {
        let rows = regraft_ledger::standing(&**ledger).await?;
        let finished = regraft_ledger::finished_entities(&**ledger).await?;
        Ok(Self {
            rows: rows
                .into_iter()
                .map(|standing| (standing.entity.clone(), standing))
                .collect(),
            finished: finished.into_iter().collect(),
        })
    }
}

fn finding(what: String, rows: u64) -> Finding {
    Finding {
        what,
        // A finding about something that has no rows counts as itself.
        rows: rows.max(1),
        examples: Vec::new(),
    }
}

/// Every entity of the project was migrated by a run that finished, and nothing else was.
async fn entities(
    project: &Project,
    databases: &Databases<'_>,
    standing: &Standing,
) -> Result<Check> {
    let mut findings = Vec::new();
    for entity in project.entities() {
        if standing.finished.contains(&entity.name) {
            continue;
        }
        let rows = databases.count_source(entity).await?;
        let name = &entity.name;
        findings.push(finding(
            format!(
                "{name}: no run has finished it, and its source query gives {rows} rows; see `regraft migrate {name}`"
            ),
            rows,
        ));
    }
    for (name, rows) in &standing.rows {
        let (mapped, open) = (rows.mapped, rows.left_behind);
        if project.entity(name).is_none() {
            findings.push(finding(
                format!("{name}: it is no entity of this project, and the ledger has {mapped} mapped rows and {open} in quarantine of it"),
                (mapped + open).unsigned_abs(),
            ));
        }
    }
    let looked_at = project.entities().len() as u64;
    Ok(Check::new("entities", looked_at, findings))
}

/// Nothing is unfinished, and every account of every run balances.
async fn runs(project: &Project, ledger: &Session) -> Result<Check> {
    let mut findings = Vec::new();
    for open in regraft_ledger::open_runs(&**ledger).await? {
        let entities = match open.left.as_slice() {
            [] => String::new(),
            names => format!(" with {}", names.join(", ")),
        };
        findings.push(finding(
            format!(
                "{} is {}{entities}; finish it with `{}`",
                open.run.run_id,
                open.run.status.as_str(),
                finishing_command(project, &open)
            ),
            open.left.len() as u64,
        ));
    }
    for (run, entity) in regraft_ledger::taken_off(&**ledger).await? {
        findings.push(finding(
            format!("{run} has taken indexes or constraints off the table of {entity} and not brought them back"),
            1,
        ));
    }
    for (run, entity, rows) in regraft_ledger::unbalanced(&**ledger).await? {
        findings.push(finding(
            format!("the account of {entity} in {run} does not balance"),
            rows.unsigned_abs(),
        ));
    }
    let runs = regraft_ledger::list_runs(&**ledger, i64::from(i32::MAX)).await?;
    Ok(Check::new("runs", runs.len() as u64, findings))
}

/// What is left behind of each entity now is within the project's limit.
fn quarantine(project: &Project, standing: &Standing, validated: &[EntityValidation]) -> Check {
    let limit = project.manifest().limits.quarantine;
    let mut findings = Vec::new();
    for entity in validated {
        let left = standing
            .rows
            .get(&entity.entity)
            .map_or(0, |rows| open(rows).unsigned_abs());
        let allowed = match limit {
            Budget::Rows(rows) => rows,
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "part of a count of rows"
            )]
            Budget::Fraction(share) => (share * entity.rows as f64).floor() as u64,
        };
        if left > allowed {
            let name = &entity.entity;
            findings.push(finding(
                format!("{name}: left behind, where the project allows {allowed}"),
                left,
            ));
        }
    }
    let left: i64 = standing.rows.values().map(open).sum();
    Check::new("quarantine", left.unsigned_abs(), findings)
}

/// Rows that nobody has decided about yet.
fn open(rows: &regraft_ledger::Standing) -> i64 {
    rows.left_behind - rows.dropped
}

/// The target declares what it did when the latest migration finished.
async fn catalog(databases: &Databases<'_>) -> Result<Check> {
    let tables = databases.catalog.tables.len() as u64;
    let recorded = regraft_ledger::recorded_catalog(&*databases.target).await?;
    let findings = match recorded {
        Some((run, hash)) if hash != databases.catalog.hash() => vec![finding(
            format!(
                "tables, constraints, indexes or triggers of the target are not what {run} left; see `regraft schema diff`"
            ),
            1,
        )],
        _ => Vec::new(),
    };
    Ok(Check::new("catalog", tables, findings))
}
