//! What both servers say of an entity now: whether its project and catalogs are those of its last run,
//! what its table lacks, and how the source would read a batch.

use regraft_pg::Session;
use serde::Serialize;
use serde_json::Value;

use super::EntityDebug;
use crate::analyzer::dont_wait;
use crate::analyzer::tables::index_faults;
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::load::{Rows, parse_id, read_all, read_rows};
use crate::migrate::changed_since;
use crate::model::{EntityModel, Model, resolve};

/// What is other than it was when an entity was last moved.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Drift {
    /// The run it is held against: the latest about the entity that noted project and catalogs.
    pub since: Option<String>,
    /// What has changed, with the names of the files and tables.
    pub changed: Vec<String>,
}

/// How a server would carry out a query, without its text and its values.
#[derive(Debug, Clone, Serialize)]
pub struct QueryPlan {
    /// What it is the plan of.
    pub of: String,
    /// The planner's estimate of the whole, in its own unit (1 is a page read in sequence).
    pub cost: f64,
    /// The planner's estimate of the rows.
    pub rows: f64,
    /// Its steps, outermost first.
    pub steps: Vec<PlanNode>,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanNode {
    /// How deep it is, 0 for the outermost.
    pub depth: usize,
    /// What it does, such as `Index Scan`.
    pub what: String,
    /// The table it reads.
    pub table: Option<String>,
    /// The index it uses.
    pub index: Option<String>,
    /// The planner's estimate up to its end, in its own unit.
    pub cost: f64,
    /// The planner's estimate of its rows.
    pub rows: f64,
}

/// Looks at both servers.
///
/// # Errors
/// The source can't be reached, or a statement fails.
pub(super) async fn look(
    context: &Context,
    target: &Session,
    found: &mut EntityDebug,
    with_plan: bool,
) -> Result<()> {
    let source = context.connect_source().await?;
    dont_wait(&source).await?;
    let resolution = resolve(&context.project, &source, target).await?;
    let errors = resolution.problems.iter();
    found.problems = errors
        .filter(|problem| problem.severity == regraft_project::Severity::Error)
        .map(|problem| problem.message.clone())
        .collect();
    found.drift = drift(context, target, found, &resolution.model).await?;
    let Some(model) = resolution.model.entities.get(&found.entity) else {
        return Ok(());
    };
    found.index_faults = index_faults(&model.table);
    if with_plan {
        found.plan = Some(plan(&source, target, found, model).await?);
    }
    Ok(())
}

async fn drift(
    context: &Context,
    target: &Session,
    found: &EntityDebug,
    model: &Model,
) -> Result<Drift> {
    for run in &found.runs {
        if run.run_status == "rolled_back" {
            continue;
        }
        let Some(run) = regraft_ledger::find_run(&**target, &run.run_id).await? else {
            continue;
        };
        if run.detail.get("source_catalog").is_none() {
            continue;
        }
        // What an unfinished bulk load has taken off the target comes back.
        let bulk = found
            .checkpoint
            .as_ref()
            .is_some_and(|c| !c.taken_off.is_empty());
        let others = found
            .unfinished
            .iter()
            .any(|run| !run.indexes_off.is_empty());
        return Ok(Drift {
            changed: changed_since(context, &run, model, !(bulk || others)),
            since: Some(run.run_id),
        });
    }
    Ok(Drift::default())
}

/// The plan of the query that reads a batch: of the latest planned one, or of all rows where none is.
async fn plan(
    source: &Session,
    target: &Session,
    found: &EntityDebug,
    model: &EntityModel,
) -> Result<QueryPlan> {
    let (of, query) = match latest_range(target, found, model).await? {
        Some(range) => ("one batch", read_rows(model, &range)),
        None => ("all rows: no batch is planned yet", read_all(model)),
    };
    let row = source
        .query_one(&format!("explain (format json)\n{query}"), &[])
        .await
        .map_err(|error| Error::from(source.error(error)))?;
    let document: Value = row.get(0);
    let outermost = &document[0]["Plan"];
    if outermost.is_null() {
        return Err(Error::new(
            Kind::Internal,
            "the source's plan can't be read",
        ));
    }
    let mut steps = Vec::new();
    collect(outermost, 0, &mut steps);
    Ok(QueryPlan {
        of: of.to_owned(),
        cost: number(outermost, "Total Cost"),
        rows: number(outermost, "Plan Rows"),
        steps,
    })
}

async fn latest_range(
    target: &Session,
    found: &EntityDebug,
    model: &EntityModel,
) -> Result<Option<Rows>> {
    let runs = found.runs.iter().filter(|run| run.status != "rolled_back");
    for run in runs {
        let Some(run) = regraft_ledger::find_run(&**target, &run.run_id).await? else {
            continue;
        };
        let planned = regraft_ledger::planned_batches(&**target, run.run_no, &model.name).await?;
        if let Some((_, low, high, _)) = planned.into_iter().next() {
            let range = Rows::Range(parse_id(model, low)?, parse_id(model, high)?);
            return Ok(Some(range));
        }
    }
    Ok(None)
}

/// Takes from a plan what holds no values: conditions and expressions stay behind.
fn collect(node: &Value, depth: usize, steps: &mut Vec<PlanNode>) {
    let text = |name: &str| node[name].as_str().map(str::to_owned);
    steps.push(PlanNode {
        depth,
        what: text("Node Type").unwrap_or_default(),
        table: text("Relation Name"),
        index: text("Index Name"),
        cost: number(node, "Total Cost"),
        rows: number(node, "Plan Rows"),
    });
    for below in node["Plans"].as_array().into_iter().flatten() {
        collect(below, depth + 1, steps);
    }
}

fn number(node: &Value, name: &str) -> f64 {
    node[name].as_f64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_shown_without_conditions() {
        let plan = serde_json::json!({
            "Node Type": "Sort", "Total Cost": 9.5, "Plan Rows": 3, "Sort Key": ["(secret)"],
            "Plans": [{
                "Node Type": "Index Scan", "Relation Name": "person", "Index Name": "person_pkey",
                "Index Cond": "(id = 42)", "Filter": "(name = 'Secret')", "Total Cost": 8.25, "Plan Rows": 3,
            }],
        });
        let mut steps = Vec::new();
        collect(&plan, 0, &mut steps);
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[1].depth, steps[1].cost), (1, 8.25));
        assert_eq!(steps[1].table.as_deref(), Some("person"));
        let shown = serde_json::to_string(&steps).expect("it can be written");
        assert!(!shown.contains("ecret") && !shown.contains("42"), "{shown}");
    }
}
