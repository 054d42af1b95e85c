//! Why rows of an entity stay behind, for those that refer to them.

use std::collections::HashMap;

use regraft_ledger::Bucket;
use regraft_pg::Session;

use crate::error::Result;
use crate::keys::LegacyId;
use crate::load::{Faults, Reason};
use crate::migrate::ledger_id_text;

/// Rows whose reasons are kept for one entity; of further ones only that they stay behind is known.
const MOST: usize = 250_000;

/// The rows of an entity that stay behind.
#[derive(Debug, Default)]
pub(super) struct Fates {
    rows: HashMap<LegacyId, u32>,
    causes: Vec<(Bucket, String)>,
    numbers: HashMap<(Bucket, String), u32>,
}

impl Fates {
    /// Takes note of a row with its reasons.
    pub(super) fn add(&mut self, id: &LegacyId, reasons: &[Reason]) {
        let mut keys: Vec<String> = reasons.iter().map(Reason::key).collect();
        keys.sort();
        keys.dedup();
        self.insert(id, (Faults::bucket(reasons), keys.join(", ")));
    }

    /// The rows of an entity that is not part of the plan, as the ledger has them.
    pub(super) async fn of_ledger(target: &Session, entity: &str, numeric: bool) -> Result<Self> {
        let mut fates = Self::default();
        let rows = regraft_ledger::open_reasons(&**target, entity, MOST as i64).await?;
        for (id, bucket, reasons) in rows {
            fates.insert(&ledger_id_text(numeric, id)?, (bucket, reasons));
        }
        Ok(fates)
    }

    fn insert(&mut self, id: &LegacyId, cause: (Bucket, String)) {
        if self.rows.len() >= MOST {
            return;
        }
        let next = self.causes.len() as u32;
        let number = *self.numbers.entry(cause.clone()).or_insert(next);
        if number == next {
            self.causes.push(cause);
        }
        self.rows.insert(id.clone(), number);
    }

    /// Why a row stays behind.
    pub(super) fn of(&self, id: &LegacyId) -> Option<&(Bucket, String)> {
        self.causes.get(*self.rows.get(id)? as usize)
    }
}
