//! Finding out what would become of a range without writing it: what `plan` rests on.

use std::collections::HashMap;
use std::sync::Arc;

use regraft_pg::Session;

use super::batch::{Progress, Sink, existing, is_about_rows, read_into};
use super::read::{BatchRange, Rows};
use super::{Reason, Transformer, stage};
use crate::error::Result;
use crate::keys::{Deriver, KeyMap, LegacyId};
use crate::model::EntityModel;

/// Classifies the rows of one entity.
pub(crate) struct Classifier {
    model: Arc<EntityModel>,
    transformer: Transformer,
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
        has_existing: bool,
        nested: bool,
    ) -> Result<Self> {
        let staged = model.table.constraints.iter().any(|c| c.kind == "c")
            || model.table.columns.iter().any(|c| c.is_domain);
        let transformer = Transformer::new(Arc::clone(&model), deriver, parents, Arc::default())?;
        Ok(Self {
            model,
            transformer,
            has_existing,
            nested,
            staged,
        })
    }

    /// The entity.
    pub(crate) fn model(&self) -> &Arc<EntityModel> {
        &self.model
    }

    /// Also refuses these rows from now on.
    pub(crate) fn refuse(&mut self, losers: HashMap<LegacyId, Vec<Reason>>) {
        self.transformer.losers = Arc::new(losers);
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
        let staged = stage::examine(source, target, &self.model, rows, &mut self.transformer).await;
        target.batch_execute(back).await?;
        staged
    }
}
