//! Finding out what would become of a range without writing it: what `plan` rests on.

use std::collections::HashMap;
use std::sync::Arc;

use regraft_pg::Session;

use super::batch::{Progress, existing, is_about_rows, read_into};
use super::read::{BatchRange, Rows};
use super::sink::Sink;
use super::{Merged, Reason, Survey, Transformer, stage};
use crate::error::Result;
use crate::keys::{Deriver, KeyMap, LegacyId};
use crate::model::{EntityModel, Model, OutputRule};

/// Classifies the rows of one entity.
pub(crate) struct Classifier {
    model: Arc<EntityModel>,
    transformer: Transformer,
    /// Foreign keys that hold already or never will: their parents are none of this project's.
    foreign: Vec<(Reason, String)>,
    has_existing: bool,
    /// Within a transaction of the caller's (a dry run).
    nested: bool,
    /// Whether the target has something to say that the catalogs alone don't tell.
    staged: bool,
}

impl Classifier {
    pub(crate) fn new(
        model: Arc<EntityModel>,
        deriver: Option<Deriver>,
        parents: HashMap<String, Arc<KeyMap>>,
        foreign: Vec<(Reason, String)>,
        has_existing: bool,
        nested: bool,
    ) -> Result<Self> {
        let staged = !foreign.is_empty()
            || model.table.constraints.iter().any(|c| c.kind == "c")
            || model.table.columns.iter().any(|c| c.is_domain)
            // Texts in an array may be no labels of the enum that the target has there.
            || model.outputs.iter().any(|o| matches!(o.rule, OutputRule::Recode { .. }));
        let transformer = Transformer::new(Arc::clone(&model), deriver, parents, Arc::default())?;
        Ok(Self {
            model,
            transformer,
            foreign,
            has_existing,
            nested,
            staged,
        })
    }

    /// The entity.
    pub(crate) fn model(&self) -> &Arc<EntityModel> {
        &self.model
    }

    /// Takes these rows to be merged into others.
    pub(crate) fn merge(&mut self, merged: Arc<Merged>) {
        self.transformer.merged = merged;
    }

    /// Whether a row is merged into another.
    pub(crate) fn merges(&self, id: &LegacyId) -> bool {
        self.transformer.merged.contains_key(id)
    }

    /// Also refuses these rows from now on.
    pub(crate) fn refuse(&mut self, losers: HashMap<LegacyId, Vec<Reason>>) {
        self.transformer.losers = Arc::new(losers);
    }

    /// Counts the rows that are classified from now on.
    pub(crate) fn begin_survey(&mut self) {
        self.transformer.survey = Some(Survey::of(&self.model));
    }

    /// What was counted so far.
    pub(crate) fn survey(&mut self) -> Option<&mut Survey> {
        self.transformer.survey.as_mut()
    }

    /// Ends the counting.
    pub(crate) fn end_survey(&mut self) -> Option<Survey> {
        self.transformer.survey.take()
    }

    /// Classifies a range. References are taken to hold where the parent would be moved; the rows
    /// of the range are held against the target's checks in a temporary table.
    pub(crate) async fn classify(
        &mut self,
        source: &Session,
        target: &Session,
        range: &BatchRange,
    ) -> Result<Progress> {
        if self.has_existing {
            self.transformer.existing = existing(target, &self.model, range).await?;
        }
        self.classify_rows(source, target, &range.to_rows()).await
    }

    /// Classifies rows, none of which is in place already.
    pub(crate) async fn classify_rows(
        &mut self,
        source: &Session,
        target: &Session,
        rows: &Rows,
    ) -> Result<Progress> {
        if !self.staged {
            let mut progress = Progress::default();
            let mut sink = Sink::nowhere();
            let read = read_into(
                source,
                &self.model,
                rows,
                &mut self.transformer,
                &mut progress,
                &mut sink,
                false,
            );
            match read.await {
                Ok(()) => return Ok(progress),
                // A row that the source can't compute is found by halving, on the staged way.
                Err(error) if is_about_rows(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let [begin, back] = if self.nested {
            [
                "savepoint regraft_classify",
                "rollback to savepoint regraft_classify",
            ]
        } else {
            ["begin", "rollback"]
        };
        target.batch_execute(begin).await?;
        let staged = stage::examine(
            source,
            target,
            &self.model,
            rows,
            &self.foreign,
            &mut self.transformer,
        )
        .await;
        target.batch_execute(back).await?;
        staged
    }
}

/// The foreign keys that a plan can hold rows against: those of values that are no reference of the
/// project, into tables that the project doesn't fill.
pub(crate) fn foreign_conditions(all: &Model, model: &EntityModel) -> Vec<(Reason, String)> {
    let referring: Vec<&str> = model
        .outputs
        .iter()
        .filter(|o| {
            matches!(
                o.rule,
                OutputRule::Reference { .. } | OutputRule::ReferenceBy { .. } | OutputRule::Key
            )
        })
        .map(|o| o.column.as_str())
        .collect();
    let filled = |name: &str| all.entities.values().any(|other| other.table.name == name);
    let mut table = model.table.clone();
    table.constraints.retain(|c| {
        c.kind == "f"
            && !c
                .columns
                .iter()
                .any(|column| referring.contains(&column.as_str()))
            && !c.foreign_table.as_deref().is_some_and(filled)
    });
    let written = model.outputs.iter().map(|o| o.column.as_str()).collect();
    super::condition::row_conditions(&table, &written)
}
