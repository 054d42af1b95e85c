//! Rows that the source has changed since they were moved, told by their fingerprints.
//!
//! This is the loader's own reading of a row: it says why a difference may be there, never whether
//! there is one.

use std::collections::{BTreeSet, HashMap};

use regraft_pg::Session;
use regraft_pg::copy::Rows as Tuples;
use tokio::sync::OnceCell;
use xxhash_rust::xxh3::xxh3_128;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::keys::LegacyId;
use crate::load::{Rows, read_rows};
use crate::migrate::resolved;
use crate::model::Model;

/// Tells them; the project is held against the servers once, when it is first asked.
pub(crate) struct Drift<'c> {
    context: &'c Context,
    opened: OnceCell<Opened>,
}

struct Opened {
    source: Session,
    target: Session,
    model: Model,
}

impl<'c> Drift<'c> {
    /// Connects to nothing yet.
    pub(crate) fn new(context: &'c Context) -> Self {
        Self {
            context,
            opened: OnceCell::new(),
        }
    }

    async fn open(&self) -> Result<Opened> {
        let source = self.context.connect_source().await?;
        let target = self.context.connect_target().await?;
        let model = resolved(self.context, &source, &target).await?;
        Ok(Opened {
            source,
            target,
            model,
        })
    }

    /// Which of some rows of an entity are not what they were when they were last moved or agreed
    /// on. Rows that were not moved, or are gone from the source, are not among them.
    ///
    /// # Errors
    /// A project that no longer fits ([`Kind::Usage`]); a server that can't be reached; a row that
    /// the source can't compute ([`Kind::Data`]).
    pub(crate) async fn changed_since(
        &self,
        entity: &str,
        ids: &[String],
    ) -> Result<BTreeSet<String>> {
        let opened = self.opened.get_or_try_init(|| self.open()).await?;
        let Some(model) = opened.model.entities.get(entity) else {
            let error = Error::new(Kind::Internal, "the entity was not resolved");
            return Err(error.in_entity(entity));
        };
        let (source, target) = (&opened.source, &opened.target);
        let agreed: HashMap<String, u128> =
            regraft_ledger::mapped_among(&**target, entity, model.numeric, ids)
                .await?
                .into_iter()
                .collect();
        let wanted = ids
            .iter()
            .filter_map(|id| LegacyId::parse(model.numeric, id.clone()))
            .collect();
        let query = read_rows(model, &Rows::Ids(wanted));
        let mut rows = Tuples::of(source, &query, model.fields.len() + 1).await?;
        let mut changed = BTreeSet::new();
        while let Some(row) = rows.next().await? {
            let Some(id) = LegacyId::from_field(model.numeric, row.get(0)) else {
                continue;
            };
            let id = id.to_string();
            let print = agreed.get(&id);
            if print.is_some_and(|print| *print != xxh3_128(row.bytes())) {
                changed.insert(id);
            }
        }
        Ok(changed)
    }
}
