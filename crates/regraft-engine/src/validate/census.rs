//! The census: every legacy id of the source held against the mappings, their rows in the target,
//! and the quarantine. One pass over both databases in the order of the legacy ids.

use std::collections::BTreeMap;

use regraft_pg::{Session, quote};

use super::databases::Databases;
use super::extent::Extent;
use super::report::{Finding, Tally};
use super::rows::{Meeting, Merge, Parts, Rows, id_text};
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
    /// Mappings by the run and batch that they name.
    pub(super) written: BTreeMap<(i32, i32), u64>,
    /// Mappings without a row in the target.
    pub(super) without_row: Tally,
    /// Mappings whose row says that it comes from another legacy id.
    pub(super) disowned: Tally,
    /// Under more than one mapping.
    pub(super) mapped_twice: Tally,
    /// Mapped and in quarantine.
    pub(super) mapped_and_quarantined: Tally,
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
}

/// All that both databases have under one legacy id.
#[derive(Debug, Default)]
struct Case {
    id: Vec<u8>,
    /// The filters of its source rows: 0 for a row that is kept.
    source: Vec<usize>,
    mapped: u64,
    quarantined: bool,
}

impl Census {
    /// Takes the census of an entity.
    pub(super) async fn take(
        databases: &Databases<'_>,
        subject: &Subject<'_>,
        extent: &Extent,
    ) -> Result<Self> {
        let source = databases.source().await?;
        let census = Self::count(databases, &source, subject, extent).await?;
        databases.give_back(source);
        Ok(census)
    }

    async fn count(
        databases: &Databases<'_>,
        source: &Session,
        subject: &Subject<'_>,
        extent: &Extent,
    ) -> Result<Self> {
        let filters = subject.entity.source.filters.len();
        let mut census = Self {
            filtered: vec![0; filters],
            mapped_and_filtered: vec![Tally::default(); filters],
            quarantined_and_filtered: vec![Tally::default(); filters],
            ..Self::default()
        };
        let rows = Rows::new(source, Parts::One(Some(subject.census_query(extent))), 2);
        let query = known_query(subject, extent);
        let known = Rows::new(&databases.target, Parts::One(Some(query)), 6);
        let mut merge = Merge::new(rows, known, subject.numeric);
        let mut case: Option<Case> = None;
        while let Some(meeting) = merge.next().await? {
            let Some(id) = merge.key() else {
                census.source_row(&merge);
                census.keyless.add(|| merge.id());
                continue;
            };
            if case.as_ref().is_none_or(|case| case.id != id) {
                let next = Case {
                    id: id.to_vec(),
                    ..Case::default()
                };
                if let Some(done) = case.replace(next) {
                    census.settle(&done, subject.numeric);
                }
            }
            let Some(case) = &mut case else { continue };
            if meeting != Meeting::Target {
                case.source.push(census.source_row(&merge));
            }
            if meeting != Meeting::Source {
                census.known_row(case, &merge);
            }
        }
        if let Some(done) = case {
            census.settle(&done, subject.numeric);
        }
        Ok(census)
    }

    /// Counts a row of the source; the number of the filter that drops it.
    fn source_row(&mut self, merge: &Merge<'_>) -> usize {
        self.source_rows += 1;
        let filter = usize::try_from(merge.source.number(1)).unwrap_or(0);
        match filter.checked_sub(1) {
            None => self.kept += 1,
            Some(filter) => self.filtered[filter] += 1,
        }
        filter
    }

    /// Counts a mapping, or an entry of the quarantine.
    fn known_row(&mut self, case: &mut Case, merge: &Merge<'_>) {
        let known = &merge.target;
        if known.flag(5) {
            case.quarantined = true;
            return;
        }
        case.mapped += 1;
        self.mapped += 1;
        *self
            .written
            .entry((known.small_number(1), known.small_number(2)))
            .or_default() += 1;
        if !known.flag(3) {
            self.without_row.add(|| merge.id());
        } else if !known.flag(4) {
            self.disowned.add(|| merge.id());
        }
    }

    /// Judges a legacy id when all of it was seen.
    fn settle(&mut self, case: &Case, numeric: bool) {
        let id = || id_text(numeric, Some(&case.id));
        if case.mapped > 1 {
            self.mapped_twice.add(id);
        }
        if case.mapped > 0 && case.quarantined {
            self.mapped_and_quarantined.add(id);
        }
        for _ in 1..case.source.len() {
            self.repeated.add(id);
        }
        let (mapped, quarantined) = match case.source.first() {
            None => (&mut self.vanished, &mut self.vanished_from_quarantine),
            Some(0) => {
                if case.mapped == 0 && !case.quarantined {
                    self.unaccounted.add(id);
                }
                return;
            }
            Some(filter) => (
                &mut self.mapped_and_filtered[filter - 1],
                &mut self.quarantined_and_filtered[filter - 1],
            ),
        };
        if case.mapped > 0 {
            mapped.add(id);
        }
        if case.quarantined {
            quarantined.add(id);
        }
    }

    /// Every tally of legacy ids, always in the same order.
    fn tallies(&mut self) -> impl Iterator<Item = &mut Tally> {
        let own = [
            &mut self.without_row,
            &mut self.disowned,
            &mut self.mapped_twice,
            &mut self.mapped_and_quarantined,
            &mut self.unaccounted,
            &mut self.repeated,
            &mut self.vanished,
            &mut self.vanished_from_quarantine,
        ];
        own.into_iter()
            .chain(&mut self.mapped_and_filtered)
            .chain(&mut self.quarantined_and_filtered)
    }

    /// The legacy ids of all that is out of order; none where there are too many to look at again.
    pub(super) fn suspects(&mut self) -> Vec<String> {
        let ids: Option<Vec<&[String]>> = self.tallies().map(|tally| tally.ids()).collect();
        ids.unwrap_or_default().concat()
    }

    /// Leaves out what a later look at the same legacy ids did not find; how much that is.
    pub(super) fn confirm(&mut self, later: &mut Self) -> u64 {
        let pairs = self.tallies().zip(later.tallies());
        pairs.map(|(first, later)| first.confirm(Some(later))).sum()
    }

    /// Kept rows that the ledger lacks.
    pub(super) fn missing(&self) -> u64 {
        self.unaccounted.rows
    }

    /// Rows that the source has beyond what the ledger knows.
    pub(super) fn appeared(&self) -> u64 {
        self.unaccounted.rows + self.keyless.rows + self.repeated.rows
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

/// Every mapping and every open entry of the quarantine, in the order of the legacy ids: the run
/// and batch that wrote it, whether its row is there and agrees on the legacy id, and whether it
/// is the quarantine's.
fn known_query(subject: &Subject<'_>, extent: &Extent) -> String {
    let (mapping, quarantine) = (subject.ledger_id("m"), subject.ledger_id("q"));
    let order = if subject.numeric {
        "regraft_id"
    } else {
        "regraft_id collate \"C\""
    };
    let (there, agrees, join) = held_against_the_table(subject);
    format!(
        "select regraft_id, run_no, batch, there, agrees, quarantined from (
           select {mapping} as regraft_id, m.run_no, m.batch, {there} as there, {agrees} as agrees, false as quarantined
           from {mappings} m{join} where true{mapped}
           union all
           select {quarantine}, 0, 0, false, true, true
           from regraft.migration_quarantine q where q.entity = {} and q.state <> 'resolved'{stopped}) known
         order by {order}",
        subject.literal(),
        mapped = extent.and(subject.numeric, &mapping),
        stopped = extent.and(subject.numeric, &quarantine),
        mappings = subject.mappings_of(subject.name()),
    )
}

/// SQL for whether a mapping's row is there, whether it agrees, and the join that both need.
fn held_against_the_table(subject: &Subject<'_>) -> (String, String, String) {
    if subject.table.is_none() {
        return ("true".to_owned(), "true".to_owned(), String::new());
    }
    let key = subject.key_column();
    let legacy = subject.legacy_column().map(quote::ident);
    let table = if subject.key_is_unique() {
        subject.table_name.clone()
    } else {
        // One row per key, so that the join doesn't multiply mappings.
        let legacy: String = legacy
            .iter()
            .map(|column| format!(", min({column}) as {column}"))
            .collect();
        format!(
            "(select {key}{legacy} from {} group by {key})",
            subject.table_name
        )
    };
    let agrees = match legacy {
        Some(legacy) => format!(
            "t.{legacy}::text collate \"C\" is not distinct from coalesce(m.merged_into, m.legacy_id)"
        ),
        None => "true".to_owned(),
    };
    (
        format!("t.{key} is not null"),
        agrees,
        format!(" left join {table} t on t.{key} = m.new_id"),
    )
}
