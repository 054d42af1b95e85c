//! Why rows of an entity stay behind, for those that refer to them.

use std::collections::HashMap;

use regraft_ledger::Bucket;

use crate::keys::LegacyId;
use crate::load::{Faults, Reason};

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
        if self.rows.len() >= MOST {
            return;
        }
        let mut keys: Vec<String> = reasons.iter().map(Reason::key).collect();
        keys.sort();
        keys.dedup();
        let cause = (Faults::bucket(reasons), keys.join(", "));
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
