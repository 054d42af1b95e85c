//! What a certificate says, read from the ledger.

use regraft_pg::Session;
use regraft_pg::catalog::Catalog;
use regraft_project::Project;
use serde_json::{Value, json};

use super::chained;
use crate::error::Result;
use crate::receipt;
use crate::validation_report::ReportedValidation;

/// The project, the catalogs, the receipts of all runs, and where each entity stands.
pub(super) async fn of(target: &Session, project: &Project) -> Result<Value> {
    let (mut receipts, mut before) = (Vec::new(), String::new());
    let mut runs = regraft_ledger::list_runs(&**target, i64::from(i32::MAX)).await?;
    runs.reverse();
    for run in &runs {
        let receipt = receipt_of(target, project, &run.run_id).await?;
        let hash = chained(&before, &receipt);
        receipts.push(json!({ "receipt": receipt, "hash": hash }));
        before = hash;
    }
    let last = runs.iter().rev().find(|run| run.command == "migrate");
    Ok(json!({
        "project": { "name": project.manifest().name, "hash": project.hash() },
        "catalogs": {
            "source": last.map(|run| run.detail["source_catalog"].clone()),
            "target": Catalog::read(&**target, &[]).await?.hash(),
        },
        "standing": standing(target, project).await?,
        "runs": receipts,
    }))
}

/// The receipt of a run, as far as it doesn't change with the time it is read at.
async fn receipt_of(target: &Session, project: &Project, run_id: &str) -> Result<Value> {
    let receipt = receipt::read(target, project, run_id).await?;
    let entities: Vec<Value> = receipt
        .entities
        .iter()
        .map(|entity| {
            json!({
                "entity": entity.entity,
                "status": entity.status,
                "batches": entity.batches,
                "account": entity.account,
            })
        })
        .collect();
    Ok(json!({
        "run_id": receipt.run_id,
        "command": receipt.command,
        "status": receipt.status,
        "project": receipt.project,
        "project_hash": receipt.project_hash,
        "source_catalog": receipt.source_catalog,
        "target_catalog": receipt.target_catalog,
        "plan_hash": receipt.plan_hash,
        "program_version": receipt.program_version,
        "started_at": receipt.started_at,
        "finished_at": receipt.finished_at,
        "entities": entities,
        "total": receipt.total,
        "undone": receipt.undone,
    }))
}

/// Where each entity stands now.
async fn standing(target: &Session, project: &Project) -> Result<Vec<Value>> {
    let rows = regraft_ledger::standing(&**target).await?;
    let entities = project.entities().iter();
    Ok(entities
        .map(|entity| {
            let row = rows.iter().find(|row| row.entity == entity.name).cloned();
            let row = row.unwrap_or_default();
            json!({
                "entity": entity.name,
                "target_table": entity.target.table.value,
                "mapped": row.mapped,
                "left_behind": row.left_behind,
            })
        })
        .collect())
}

/// The validation that the certificate rests on.
pub(super) fn validation(validation: &ReportedValidation) -> Value {
    let checks = validation.checks().count();
    let rows: u64 = validation.entities.iter().map(|entity| entity.rows).sum();
    let invariants: Vec<Value> = validation
        .invariants
        .iter()
        .map(|outcome| {
            json!({
                "name": outcome.name,
                "tolerance": outcome.tolerance,
                "groups": outcome.groups,
                "passed": outcome.passed,
            })
        })
        .collect();
    json!({
        "validation_id": validation.validation_id,
        "generated_at": validation.generated_at,
        "passed": validation.passed,
        "final": validation.asked.whole,
        "project_hash": validation.asked.project_hash,
        "program_version": validation.asked.program_version,
        "entities": validation.entities.len(),
        "rows": rows,
        "checks": checks,
        "invariants": invariants,
        "not_checked": validation.not_checked,
    })
}
