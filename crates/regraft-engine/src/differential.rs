//! `differential`: what has changed on either side since both last agreed, and carrying it over.
//!
//! Nothing but SELECT is asked of the source. What has changed there is found by sums over ranges of
//! legacy ids and by the fingerprints of rows (`detect`), what has changed in the target by the
//! fingerprints of columns (`examine`); who wins where both have is the project's and the command's
//! to say (`way`, `policy`).

mod analysis;
mod awaited;
mod backfill;
mod conflicts;
mod cursor;
mod cycle;
mod deletion;
mod detect;
mod examine;
mod forecast;
mod grouping;
mod policy;
mod resolve;
mod run;
mod sums;
mod tally;
mod update;
mod way;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use regraft_ledger::{OpenRun, Run};
use regraft_project::{Deletes, Policy, Project, Selection};
use serde::Serialize;
use serde_json::json;

pub(crate) use cursor::PREPARED;

pub use analysis::{Analysis, AnalysisOptions, analyze_differential};
pub use backfill::{BackfillOptions, Backfilled, backfill};
pub use conflicts::{
    ConflictReport, OperationStatus, conflict_report, differing_rows, operation_status,
};
pub use resolve::{Resolution, StillOpen, Take, resolve_conflicts, what_to_do};
pub use tally::{Count, DeleteForecast, EntityDifferential, PolicyForecast};

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::migrate::{MigrateOptions, ModeChoice, Task, tables_of, with_engine};
use crate::model::Model;
use crate::receipt::{Receipt, require_ledger};
use crate::unfinished;
use way::{EntityWay, refuse_without_means};

/// How a differential migration is to be done.
#[derive(Debug, Clone, Default)]
pub struct DifferentialOptions {
    /// Who wins where both sides have changed; `None` for what the project says, or else nobody.
    pub policy: Option<Policy>,
    /// What becomes of rows that the source has no more; `None` for what the project says, or else
    /// they are deleted.
    pub deletes: Option<Deletes>,
    /// Do everything inside a transaction that is rolled back.
    pub dry_run: bool,
    /// Read every row of the source, whatever its sums and cursors say.
    pub every_row: bool,
    /// Only go on with this run, which was left unfinished; refuse when it is none any more.
    pub only_resume: Option<String>,
}

/// What a differential migration came to.
#[derive(Debug, Clone, Serialize)]
pub struct DifferentialOutcome {
    /// The account.
    pub receipt: Receipt,
    /// What had changed, by entity; those that an earlier process of the run had done are missing.
    pub entities: Vec<EntityDifferential>,
    /// Rows that somebody has to decide on, in the selected entities.
    pub open: i64,
    /// Whether it went on with a run that an earlier process had begun.
    pub resumed: bool,
    /// Whether nothing was written.
    pub nothing_to_do: bool,
    /// Whether quarantine stayed within the project's limit for every entity.
    pub within_budget: bool,
}

/// Carries over what has changed in the source since the last agreement: new rows go in, changed
/// columns are written, and rows that are gone go too, each under the policy that holds for it. A
/// differential migration that was left unfinished is finished as part of this one.
///
/// # Errors
/// As [`crate::migrate`]; [`Kind::Usage`] when the unfinished run was begun in another way.
pub async fn migrate_differential(
    context: &Context,
    selection: &Selection,
    options: &DifferentialOptions,
) -> Result<DifferentialOutcome> {
    check_differential(&context.project, selection, options)?;
    let task = Task::Differential(json!({
        "policy": options.policy.map(Policy::as_str),
        "deletes": options.deletes.map(Deletes::as_str),
    }));
    let migrate = MigrateOptions {
        dry_run: options.dry_run,
        mode: ModeChoice::InPlace,
        plan_hash: None,
        only_resume: options.only_resume.clone(),
    };
    let work = async |engine: &crate::migrate::Engine<'_>, selection: &Selection| {
        let ways = ways(context, engine.model, selection, options)?;
        let entities = run::run(engine, selection, &ways, options.every_row).await?;
        let names = names(selection);
        let filter = regraft_ledger::DifferingFilter {
            entities: names,
            ..regraft_ledger::DifferingFilter::default()
        };
        let open = regraft_ledger::count_differing(&**engine.target, &filter).await?;
        let open = open.iter().map(|(_, _, rows)| rows).sum::<i64>();
        Ok((entities, open, engine.resumed))
    };
    let ((entities, open, resumed), outcome) =
        with_engine(context, selection, &migrate, &task, work).await?;
    let deleted: i64 = outcome
        .receipt
        .entities
        .iter()
        .map(|e| e.account.detail.deleted)
        .sum();
    Ok(DifferentialOutcome {
        nothing_to_do: outcome.nothing_to_do && deleted == 0,
        within_budget: outcome.within_budget,
        receipt: outcome.receipt,
        entities,
        open,
        resumed,
    })
}

/// Whether the entities' files say what these options take for granted.
///
/// # Errors
/// [`Kind::Usage`] for an entity that doesn't say which side is newer, or how a row is marked.
pub fn check_differential(
    project: &Project,
    selection: &Selection,
    options: &DifferentialOptions,
) -> Result<()> {
    for name in names(selection) {
        if let Some(entity) = project.entity(&name) {
            refuse_without_means(&name, &entity.changes, options.policy, options.deletes)?;
        }
    }
    Ok(())
}

/// The differential migration that was left unfinished, as the options that it was begun with and
/// the entities that it is about. `operation` and `entity` say which one is meant; without them it is
/// the latest, and one that nobody is at work on where there is one.
///
/// # Errors
/// [`Kind::Usage`] when there is none, or it is another one.
pub async fn unfinished_differential(
    context: &Context,
    operation: Option<&str>,
    entity: Option<&str>,
) -> Result<(Run, DifferentialOptions)> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    unfinished::refuse_others(&target, &context.project, "differential").await?;
    let mut open = regraft_ledger::open_runs(&*target).await?;
    // One that is at work is only meant where no other can be: whoever goes on with it is told so.
    open.sort_by_key(|open| !open.at_work());
    let is_meant = |open: &&OpenRun| {
        let mut about = unfinished::entities(&open.run);
        operation.is_none_or(|id| id == open.run.run_id)
            && entity.is_none_or(|entity| about.any(|about| about == entity))
    };
    let meant = open.iter().rev().find(is_meant);
    if let Some(OpenRun { run, .. }) = meant {
        return Ok((run.clone(), begun_with(run)));
    }
    let Some(OpenRun { run, .. }) = open.last() else {
        return Err(Error::new(
            Kind::Usage,
            "there is no differential migration to resume: none was left unfinished",
        )
        .hint("see `regraft runs`; `regraft differential migrate` carries over what has changed"));
    };
    let about: Vec<&str> = unfinished::entities(run).collect();
    Err(Error::new(
        Kind::Usage,
        format!(
            "the run to resume is {}, of {}",
            run.run_id,
            about.join(", ")
        ),
    )
    .hint(format!(
        "type `regraft differential resume --operation-id {}`",
        run.run_id
    )))
}

/// The options that a differential migration was begun with.
fn begun_with(run: &Run) -> DifferentialOptions {
    let way = |field: &str| {
        let value = run.detail.get("differential")?.get(field)?.as_str()?;
        Some(value.to_owned())
    };
    DifferentialOptions {
        policy: way("policy").and_then(|policy| policy.parse().ok()),
        deletes: way("deletes").and_then(|deletes| deletes.parse().ok()),
        ..DifferentialOptions::default()
    }
}

/// A differential migration that was begun and not finished.
#[derive(Debug, Clone)]
pub struct OpenDifferential {
    /// Its run.
    pub run: Run,
    /// The options that it was begun with, and that it alone is to be gone on with.
    pub options: DifferentialOptions,
    /// The entities that it is about.
    pub entities: Vec<String>,
    /// Whether a process is at work on it.
    pub at_work: bool,
}

/// The differential migrations that were begun and not finished, and that fill tables which these
/// entities fill, oldest first.
///
/// # Errors
/// A target that can't be reached, or without a ledger.
pub async fn open_differentials(
    context: &Context,
    entities: &[String],
) -> Result<Vec<OpenDifferential>> {
    let target = context.connect_target().await?;
    require_ledger(&target).await?;
    let own = filled_tables(&context.project, entities);
    let open = regraft_ledger::open_runs(&*target).await?.into_iter();
    let open = open.filter(|open| {
        let about = tables_of(&context.project, unfinished::entities(&open.run));
        open.run.command == "differential" && !own.is_disjoint(&about)
    });
    Ok(open
        .map(|open| OpenDifferential {
            options: DifferentialOptions {
                only_resume: Some(open.run.run_id.clone()),
                ..begun_with(&open.run)
            },
            entities: unfinished::entities(&open.run).map(str::to_owned).collect(),
            at_work: open.at_work(),
            run: open.run,
        })
        .collect())
}

/// The tables that entities fill. Differential migrations that fill other tables go side by side.
pub fn filled_tables(project: &Project, entities: &[String]) -> BTreeSet<String> {
    tables_of(project, entities.iter().map(String::as_str))
}

fn names(selection: &Selection) -> Vec<String> {
    let steps = selection.entities().iter();
    steps.map(|step| step.entity.clone()).collect()
}

/// The way of every selected entity.
fn ways(
    context: &Context,
    model: &Model,
    selection: &Selection,
    options: &DifferentialOptions,
) -> Result<BTreeMap<String, EntityWay>> {
    let mut ways = BTreeMap::new();
    for name in names(selection) {
        let (Some(model), Some(entity)) =
            (model.entities.get(&name), context.project.entity(&name))
        else {
            continue;
        };
        let way = EntityWay::new(model, &entity.changes, options.policy, options.deletes)?;
        ways.insert(name, way);
    }
    Ok(ways)
}
