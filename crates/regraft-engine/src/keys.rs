//! Target keys: how they are derived from legacy ids, and where those of migrated rows are found.

mod derive;
mod map;

pub(crate) use derive::{Deriver, LegacyId};
pub(crate) use map::{Found, KeyMap, KeyMapBuilder};
