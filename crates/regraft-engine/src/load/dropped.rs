//! Rows that were taken out of the quarantine for good: they are not moved, whatever has become of
//! them, and still count under their bucket.

use std::collections::HashMap;

use regraft_pg::Session;

use super::{DROPPED, Reason, parse_id};
use crate::error::Result;
use crate::keys::LegacyId;
use crate::model::EntityModel;

/// The rows of an entity that were dropped, but those that a retry asks for by name.
pub(crate) async fn dropped(
    target: &Session,
    model: &EntityModel,
) -> Result<HashMap<LegacyId, Vec<Reason>>> {
    let mut dropped = HashMap::new();
    for id in regraft_ledger::dropped_ids(&**target, &model.name).await? {
        let id = parse_id(model, id)?;
        let asked = |only: &Vec<LegacyId>| only.binary_search(&id).is_ok();
        if !model.only.as_deref().is_some_and(asked) {
            dropped.insert(id, vec![Reason::bare(DROPPED)]);
        }
    }
    Ok(dropped)
}

/// Adds them to rows that are refused for other reasons.
pub(crate) fn add_dropped(
    refused: &mut HashMap<LegacyId, Vec<Reason>>,
    dropped: HashMap<LegacyId, Vec<Reason>>,
) {
    for (id, reasons) in dropped {
        refused.entry(id).or_default().extend(reasons);
    }
}
