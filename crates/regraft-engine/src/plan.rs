//! `plan`: what a migration would do, without doing it.
//!
//! The prediction is no estimate: every row of the source is read in one snapshot and goes through
//! the same transformation as in a migration, and where the target has checks or foreign keys of
//! its own to say, through a temporary table on the target. Nothing is written to a table.

mod codes;
mod constraints;
mod coverage;
mod describe;
mod document;
mod fates;
mod funnel;
mod planner;
mod reading;

use regraft_project::{Project, Selection};
use sha2::{Digest, Sha256};
use tokio::try_join;

use crate::context::Context;
use crate::error::Result;
use crate::migrate::{ModeChoice, check_secret, resolved};
use crate::model::Model;
use crate::snapshot::Snapshot;

use coverage::Coverage;
use planner::{Planner, WRITE_FACTOR};

pub use document::{
    ChildLoss, CodeCount, CodedColumn, ColumnPlan, ConstraintPlan, EntityPlan, FilterCount, Funnel,
    Hop, Loss, Plan, Prediction, SourceTable,
};

/// The hash that names a plan.
pub(crate) fn hash(project: &Project, selection: &Selection, model: &Model) -> String {
    let mut hash = Sha256::new();
    hash.update(project.hash());
    hash.update(&model.source_catalog_hash);
    hash.update(model.target_catalog.hash());
    for step in selection.entities() {
        hash.update(step.entity.as_bytes());
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..8])
}

/// Plans the selected entities.
///
/// # Errors
/// The project's problems; a server that can't be reached; a mode that can't be had.
pub async fn plan(context: &Context, selection: &Selection, mode: ModeChoice) -> Result<Plan> {
    let (source, target) = try_join!(context.connect_source(), context.connect_target())?;
    let model = resolved(context, &source, &target).await?;
    check_secret(context, &model, selection)?;
    let snapshot = Snapshot::take(source).await?;
    let coverage = Coverage::read(&snapshot.session, &model).await?;
    let mut planner = Planner::new(context, &model, mode, snapshot, target);
    let mut entities = Vec::new();
    for (at, step) in selection.entities().iter().enumerate() {
        context.stop_requested()?;
        let planned = planner.entity(&step.entity, selection).await;
        entities.push(planned.map_err(|e| e.in_entity(&step.entity))?);
        let next = selection.entities().get(at + 1);
        if next.is_none_or(|next| next.component != step.component) {
            planner.close_component().await?;
        }
    }
    for entity in &mut entities {
        planner.finish(entity);
        entity.reads = coverage.of(&entity.entity);
    }
    lost_children(&mut entities);
    Ok(Plan {
        project: context.project.manifest().name.clone(),
        hash: hash(&context.project, selection, &model),
        project_hash: context.project.hash().to_owned(),
        source_catalog_hash: model.source_catalog_hash.clone(),
        target_catalog_hash: model.target_catalog.hash(),
        seconds_estimate: entities.iter().map(|e| e.seconds_estimate).sum(),
        estimate_basis: format!(
            "the time this plan took to read and transform every row, times {WRITE_FACTOR} for writing"
        ),
        entities,
        source_tables: coverage.tables(),
    })
}

/// Puts beside each filter the rows that lose their parent by it.
fn lost_children(entities: &mut [EntityPlan]) {
    let mut lost = Vec::new();
    for entity in &*entities {
        for funnel in &entity.funnels {
            for loss in funnel.hops.iter().flat_map(|hop| &hop.losses) {
                if let (Some(parent), Some(filter)) = (&loss.parent, &loss.filter) {
                    let child = ChildLoss {
                        entity: entity.entity.clone(),
                        column: funnel.column.clone(),
                        rows: loss.rows,
                        missing: funnel.missing.clone(),
                    };
                    lost.push((parent.clone(), filter.clone(), child));
                }
            }
        }
    }
    for (parent, filter, child) in lost {
        let filters = entities
            .iter_mut()
            .filter(|entity| entity.entity == parent)
            .flat_map(|entity| &mut entity.filters);
        for known in filters.filter(|known| known.name == filter) {
            known.children.push(child.clone());
        }
    }
}
