//! The census: every legacy id of the source held against the mappings, their rows in the target,
//! and the quarantine. One pass over both databases in the order of the legacy ids, row by row or,
//! where ids are numbers, range by range.

mod ranges;

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

/// What the ledger and the table say of a mapping, or of an entry of the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    run_no: i32,
    batch: i32,
    there: bool,
    agrees: bool,
    quarantined: bool,
}

impl Standing {
    /// The fields of a row that follow the id.
    fn of(known: &Rows<'_>) -> Self {
        Self {
            run_no: known.small_number(1),
            batch: known.small_number(2),
            there: known.flag(3),
            agrees: known.flag(4),
            quarantined: known.flag(5),
        }
    }

    /// Whether it is a mapping about which nothing is wrong.
    fn is_sound(self) -> bool {
        !self.quarantined && self.there && self.agrees
    }

    fn add_to(self, case: &mut Case) {
        if self.quarantined {
            case.quarantined = true;
        } else {
            case.mapped += 1;
        }
    }

    /// Counts what is wrong with a mapping on its own.
    fn tell(self, census: &mut Census, id: impl FnOnce() -> String) {
        if self.quarantined {
            return;
        }
        if !self.there {
            census.without_row.add(id);
        } else if !self.agrees {
            census.disowned.add(id);
        }
    }
}

/// The filter that drops the row the source stands at; 0 for none.
fn filter_of(source: &Rows<'_>) -> usize {
    usize::try_from(source.number(1)).unwrap_or(0)
}

impl Census {
    /// Takes the census of an entity row by row.
    pub(super) async fn take(
        databases: &Databases<'_>,
        subject: &Subject<'_>,
        extent: &Extent,
    ) -> Result<Self> {
        let mut census = Self::of_nothing(subject);
        census.count(databases, subject, extent).await?;
        Ok(census)
    }

    /// Takes the census of all rows of an entity whose ids are numbers, range by range: a fraction
    /// of the bytes, and the same result.
    pub(super) async fn take_by_ranges(
        databases: &Databases<'_>,
        subject: &Subject<'_>,
    ) -> Result<Self> {
        let mut census = Self::of_nothing(subject);
        match ranges::count(&mut census, databases, subject).await? {
            Some(opened) if opened.is_empty() => {}
            Some(opened) => {
                let extent = Extent::only(opened);
                census.count(databases, subject, &extent).await?;
            }
            None => return Self::take(databases, subject, &Extent::default()).await,
        }
        Ok(census)
    }

    fn of_nothing(subject: &Subject<'_>) -> Self {
        let filters = subject.entity.source.filters.len();
        Self {
            filtered: vec![0; filters],
            mapped_and_filtered: vec![Tally::default(); filters],
            quarantined_and_filtered: vec![Tally::default(); filters],
            ..Self::default()
        }
    }

    /// Adds the rows of an extent.
    async fn count(
        &mut self,
        databases: &Databases<'_>,
        subject: &Subject<'_>,
        extent: &Extent,
    ) -> Result<()> {
        let source = databases.source().await?;
        self.count_over(databases, &source, subject, extent).await?;
        databases.give_back(source);
        Ok(())
    }

    async fn count_over(
        &mut self,
        databases: &Databases<'_>,
        source: &Session,
        subject: &Subject<'_>,
        extent: &Extent,
    ) -> Result<()> {
        let rows = Rows::new(source, Parts::One(Some(subject.census_query(extent))), 2);
        let query = known_query(subject, extent);
        let known = Rows::new(&databases.target, Parts::One(Some(query)), 6);
        let mut merge = Merge::new(rows, known, subject.numeric);
        let mut case: Option<Case> = None;
        while let Some(meeting) = merge.next().await? {
            let Some(id) = merge.key() else {
                self.source_rows(filter_of(&merge.source), 1);
                self.keyless.add(|| merge.id());
                continue;
            };
            if case.as_ref().is_none_or(|case| case.id != id) {
                let next = Case {
                    id: id.to_vec(),
                    ..Case::default()
                };
                if let Some(done) = case.replace(next) {
                    self.settle(&done, subject.numeric);
                }
            }
            let Some(case) = &mut case else { continue };
            if meeting != Meeting::Target {
                let filter = filter_of(&merge.source);
                self.source_rows(filter, 1);
                case.source.push(filter);
            }
            if meeting != Meeting::Source {
                let known = Standing::of(&merge.target);
                self.known_rows(known, 1);
                known.add_to(case);
                known.tell(self, || merge.id());
            }
        }
        if let Some(done) = case {
            self.settle(&done, subject.numeric);
        }
        Ok(())
    }

    /// Counts rows of the source under the number of the filter that drops them.
    fn source_rows(&mut self, filter: usize, rows: u64) {
        self.source_rows += rows;
        match filter.checked_sub(1) {
            None => self.kept += rows,
            Some(filter) => self.filtered[filter] += rows,
        }
    }

    /// Counts mappings; entries of the quarantine are the account's.
    fn known_rows(&mut self, known: Standing, rows: u64) {
        if !known.quarantined {
            self.mapped += rows;
            *self.written.entry((known.run_no, known.batch)).or_default() += rows;
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

/// Every mapping and every open entry of the quarantine, in the order of the legacy ids.
fn known_query(subject: &Subject<'_>, extent: &Extent) -> String {
    let order = if subject.numeric {
        "regraft_id"
    } else {
        "regraft_id collate \"C\""
    };
    format!(
        "select regraft_id, run_no, batch, there, agrees, quarantined from ({}) known order by {order}",
        known(subject, extent)
    )
}

/// A query for every mapping and every open entry of the quarantine: the run and batch that wrote
/// it, whether its row is there and agrees on the legacy id, and whether it is the quarantine's.
fn known(subject: &Subject<'_>, extent: &Extent) -> String {
    let (mapping, quarantine) = (subject.ledger_id("m"), subject.ledger_id("q"));
    let (there, agrees, join) = held_against_the_table(subject);
    format!(
        "select {mapping} as regraft_id, m.run_no, m.batch, {there} as there, {agrees} as agrees, false as quarantined
         from {mappings} m{join} where true{mapped}
         union all
         select {quarantine}, 0, 0, false, true, true
         from regraft.migration_quarantine q where q.entity = {} and q.state <> 'resolved'{stopped}",
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
