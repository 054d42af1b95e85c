//! The census: every legacy id of the source held against the mappings and the quarantine.

use regraft_pg::Session;

use super::databases::Databases;
use super::report::{Finding, Tally};
use super::rows::{Meeting, Merge, Parts, Rows};
use super::subject::Subject;
use crate::error::Result;

/// Where the legacy ids of an entity are.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Rows of the source before filters.
    pub(super) source_rows: u64,
    /// Rows that pass every filter.
    pub(super) kept: u64,
    /// Rows dropped, by filter in file order.
    pub(super) filtered: Vec<u64>,
    /// Mappings.
    pub(super) mapped: u64,
    /// Kept rows that are neither mapped nor in quarantine.
    unaccounted: Tally,
    /// Rows of the source without a legacy id.
    keyless: Tally,
    /// Rows of the source under a legacy id that an earlier row has.
    repeated: Tally,
    /// Mapped, but the source has no such row.
    vanished: Tally,
    /// In quarantine, but the source has no such row.
    vanished_from_quarantine: Tally,
    /// Mapped, but dropped by a filter; by filter.
    mapped_and_filtered: Vec<Tally>,
    /// In quarantine, but dropped by a filter; by filter.
    quarantined_and_filtered: Vec<Tally>,
    /// Under more than one mapping.
    pub(super) mapped_twice: Tally,
    /// Mapped and in quarantine.
    pub(super) mapped_and_quarantined: Tally,
}

impl Census {
    /// Counts, over both databases in the order of the legacy ids.
    pub(super) async fn take(databases: &Databases<'_>, subject: &Subject<'_>) -> Result<Self> {
        let source = databases.source().await?;
        let census = Self::count(databases, &source, subject).await?;
        databases.give_back(source);
        Ok(census)
    }

    async fn count(
        databases: &Databases<'_>,
        source: &Session,
        subject: &Subject<'_>,
    ) -> Result<Self> {
        let filters = subject.entity.source.filters.len();
        let mut census = Self {
            filtered: vec![0; filters],
            mapped_and_filtered: vec![Tally::default(); filters],
            quarantined_and_filtered: vec![Tally::default(); filters],
            ..Self::default()
        };
        let rows = Rows::new(source, Parts::One(Some(subject.census_query())), 2);
        let known = Rows::new(&databases.target, Parts::One(Some(known_query(subject))), 3);
        let mut merge = Merge::new(rows, known, subject.numeric);
        let mut previous: Option<Vec<u8>> = None;
        while let Some(meeting) = merge.next().await? {
            match meeting {
                Meeting::Target => census.only_known(&merge),
                _ => {
                    let repeated =
                        previous.is_some() && previous.as_deref() == merge.source.field(0);
                    census.in_source(&merge, meeting == Meeting::Both, repeated);
                    remember(&mut previous, merge.source.field(0));
                }
            }
        }
        Ok(census)
    }

    fn in_source(&mut self, merge: &Merge<'_>, known: bool, repeated: bool) {
        self.source_rows += 1;
        let filter = usize::try_from(merge.source.number(1)).unwrap_or(0);
        match filter.checked_sub(1) {
            None => self.kept += 1,
            Some(filter) => self.filtered[filter] += 1,
        }
        if repeated {
            return self.repeated.add(|| merge.id());
        }
        if merge.source.field(0).is_none() {
            return self.keyless.add(|| merge.id());
        }
        let (mapped, quarantined) = if known {
            (merge.target.number(1), merge.target.number(2))
        } else {
            (0, 0)
        };
        self.count_known(merge, mapped, quarantined);
        match filter.checked_sub(1) {
            None if mapped == 0 && quarantined == 0 => self.unaccounted.add(|| merge.id()),
            None => {}
            Some(filter) => {
                if mapped > 0 {
                    self.mapped_and_filtered[filter].add(|| merge.id());
                }
                if quarantined > 0 {
                    self.quarantined_and_filtered[filter].add(|| merge.id());
                }
            }
        }
    }

    fn only_known(&mut self, merge: &Merge<'_>) {
        let (mapped, quarantined) = (merge.target.number(1), merge.target.number(2));
        self.count_known(merge, mapped, quarantined);
        if mapped > 0 {
            self.vanished.add(|| merge.id());
        }
        if quarantined > 0 {
            self.vanished_from_quarantine.add(|| merge.id());
        }
    }

    fn count_known(&mut self, merge: &Merge<'_>, mapped: i64, quarantined: i64) {
        self.mapped += mapped.unsigned_abs();
        if mapped > 1 {
            self.mapped_twice.add(|| merge.id());
        }
        if mapped > 0 && quarantined > 0 {
            self.mapped_and_quarantined.add(|| merge.id());
        }
    }

    /// Kept rows that the ledger lacks.
    pub(super) fn missing(&self) -> u64 {
        self.unaccounted.rows
    }

    /// Rows that the ledger has beyond what the source asks for.
    pub(super) fn surplus(&self) -> u64 {
        let by_filter: u64 = self
            .mapped_and_filtered
            .iter()
            .chain(&self.quarantined_and_filtered)
            .map(|t| t.rows)
            .sum();
        by_filter
            + self.vanished.rows
            + self.vanished_from_quarantine.rows
            + self.mapped_twice.rows
            + self.mapped_and_quarantined.rows
    }

    /// What the account says of it: every source row in exactly one place.
    pub(super) fn findings(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let mut findings: Vec<Option<Finding>> = vec![
            self.unaccounted.finding(
                "not accounted for: neither mapped, nor in quarantine, nor dropped by a filter",
            ),
            self.keyless
                .finding("rows of the source have no legacy id (NULL)"),
            self.repeated
                .finding("the source has more than one row under the same legacy id"),
            self.vanished
                .finding("mapped, but the source has no such row"),
            self.vanished_from_quarantine
                .finding("in quarantine, but the source has no such row"),
        ];
        for (i, filter) in subject.entity.source.filters.iter().enumerate() {
            let name = &filter.name;
            findings.push(
                self.mapped_and_filtered[i]
                    .finding(format!("mapped, but filter `{name}` drops it")),
            );
            findings.push(
                self.quarantined_and_filtered[i]
                    .finding(format!("in quarantine, but filter `{name}` drops it")),
            );
        }
        findings.into_iter().flatten().collect()
    }
}

/// Every legacy id that the ledger knows, in key order: under how many mappings, and whether it is
/// in quarantine.
fn known_query(subject: &Subject<'_>) -> String {
    let (mapping, quarantine) = (subject.ledger_id("m"), subject.ledger_id("q"));
    let (mappings, entity) = (subject.mappings(), subject.literal());
    let order = if subject.numeric {
        "regraft_id"
    } else {
        "regraft_id collate \"C\""
    };
    format!(
        "select regraft_id, sum(mapped)::int8, sum(quarantined)::int8 from (
           select {mapping} as regraft_id, 1 as mapped, 0 as quarantined
           from {mappings} m
           union all
           select {quarantine}, 0, 1
           from regraft.migration_quarantine q where q.entity = {entity} and q.state = 'open') known
         group by regraft_id order by {order}"
    )
}

fn remember(previous: &mut Option<Vec<u8>>, key: Option<&[u8]>) {
    match (previous, key) {
        (Some(buffer), Some(key)) => {
            buffer.clear();
            buffer.extend_from_slice(key);
        }
        (previous, key) => *previous = key.map(<[u8]>::to_vec),
    }
}
