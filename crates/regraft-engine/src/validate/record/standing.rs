//! Where one row stands: in the source, in the ledger.

use regraft_ledger::{RowMapping, RowState};

use super::document::RecordState;
use crate::error::Result;
use crate::validate::databases::Databases;
use crate::validate::extent::Extent;
use crate::validate::subject::Subject;

/// What both sides say of a legacy id.
pub(super) struct Standing {
    /// Rows of the source under it.
    pub(super) source_rows: u64,
    /// The filter that drops the first of them.
    pub(super) filter: Option<String>,
    pub(super) mappings: Vec<RowMapping>,
    pub(super) ledger: Option<RowState>,
}

impl Standing {
    /// Looks a legacy id up. One that can't be an id of the entity stands nowhere.
    pub(super) async fn of(
        databases: &Databases<'_>,
        subject: &Subject<'_>,
        legacy_id: &str,
    ) -> Result<Self> {
        let mut standing = Self {
            source_rows: 0,
            filter: None,
            mappings: Vec::new(),
            ledger: None,
        };
        if subject.numeric && legacy_id.parse::<i64>().is_err() {
            return Ok(standing);
        }
        let extent = Extent::only(vec![legacy_id.to_owned()]);
        let source = databases.source().await?;
        let found = source.query(&subject.census_query(&extent), &[]).await;
        let found = found.map_err(|error| source.error(error))?;
        databases.give_back(source);
        standing.source_rows = found.len() as u64;
        standing.filter = found
            .first()
            .and_then(|row| filter_name(subject, row.get(1)));
        let (ledger, name) = (&*databases.lookup, subject.name());
        standing.mappings =
            regraft_ledger::mappings_of_row(ledger, name, subject.numeric, legacy_id).await?;
        let ids = [legacy_id.to_owned()];
        let states = regraft_ledger::row_states(ledger, name, subject.numeric, &ids).await?;
        standing.ledger = states.into_values().next();
        Ok(standing)
    }

    /// Both together.
    pub(super) fn state(&self) -> RecordState {
        match self.ledger {
            Some(_) if self.source_rows == 0 => RecordState::GoneFromSource,
            Some(RowState::Migrated) => RecordState::Migrated,
            Some(RowState::Merged) => RecordState::Merged,
            Some(RowState::Quarantined) => RecordState::Quarantined,
            Some(RowState::Blocked) => RecordState::Blocked,
            None if self.source_rows == 0 => RecordState::Nowhere,
            None if self.filter.is_some() => RecordState::Filtered,
            None => RecordState::NotMigrated,
        }
    }
}

/// The name of a filter by its number, from 1; 0 is none.
pub(super) fn filter_name(subject: &Subject<'_>, number: i64) -> Option<String> {
    let at = usize::try_from(number).ok()?.checked_sub(1)?;
    let filter = subject.entity.source.filters.get(at)?;
    Some(filter.name.clone())
}
