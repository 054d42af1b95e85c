//! Parents: which of the rows that references point to were migrated.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::{Session, quote};
use uuid::Uuid;

use super::subject::Subject;
use crate::error::Result;

/// What the ledger knows of some rows of a parent.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Their keys; several where a legacy id is mapped more than once.
    pub(super) keys: BTreeMap<String, BTreeSet<Uuid>>,
    /// Those that are in quarantine.
    pub(super) quarantined: BTreeSet<String>,
}

impl Known {
    /// Looks legacy ids up among the mappings and in the quarantine.
    pub(super) async fn look_up(
        ledger: &Session,
        subject: &Subject<'_>,
        parent: &str,
        ids: &[&str],
    ) -> Result<Self> {
        // Numbers are indexed as numbers; what is none has no mapping.
        let numbers: Vec<i64> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        let mappings = format!(
            "select legacy_id, new_id from {} m",
            subject.mappings_of(parent)
        );
        let rows = if subject.is_numeric(parent) {
            ledger
                .query(
                    &format!("{mappings} where legacy_id::bigint = any ($1)"),
                    &[&numbers],
                )
                .await?
        } else {
            ledger
                .query(&format!("{mappings} where legacy_id = any ($1)"), &[&ids])
                .await?
        };
        let mut known = Self::default();
        for row in &rows {
            known.keys.entry(row.get(0)).or_default().insert(row.get(1));
        }
        let open = format!(
            "select legacy_id from regraft.migration_quarantine
             where entity = {} and state <> 'resolved' and legacy_id = any ($1)",
            quote::literal(parent)
        );
        known.quarantined = ledger
            .query(&open, &[&ids])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        Ok(known)
    }
}
