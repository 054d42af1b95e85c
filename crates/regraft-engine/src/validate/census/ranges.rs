//! The census by ranges of 128 numbers: each server tells which ids of a range it has, as one bit
//! each, for every filter of the source and every standing in the target. That says as much as the
//! ids themselves in a fraction of the bytes. Only where a server has an id twice under the same
//! head its rows have to be read.

use super::{Case, Census, Standing, filter_of, known};
use crate::error::Result;
use crate::validate::databases::Databases;
use crate::validate::extent::Extent;
use crate::validate::rows::{Meeting, Merge, Parts, Rows};
use crate::validate::subject::Subject;
use regraft_pg::Session;

/// Ranges are of 2 to the power of so many ids, each of which is a bit of a `u128`.
const RANGE_BITS: u32 = 7;

/// When more ranges than this have to be read, all rows are.
const MOST_RANGES: usize = 2_000;

/// Ids of a range that have something in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids<T> {
    of: T,
    rows: u64,
    bits: u128,
}

/// All that both databases have in one range.
#[derive(Debug, Default)]
struct Range {
    number: i64,
    source: Vec<Ids<usize>>,
    known: Vec<Ids<Standing>>,
}

/// Counts all rows of an entity but those of ranges that have to be read, whose ids it gives; `None`
/// where these are too many.
pub(super) async fn count(
    census: &mut Census,
    databases: &Databases<'_>,
    subject: &Subject<'_>,
) -> Result<Option<Vec<String>>> {
    let source = databases.source().await?;
    let opened = count_over(census, databases, &source, subject).await?;
    databases.give_back(source);
    Ok((opened.len() <= MOST_RANGES).then(|| opened.into_iter().flat_map(all_ids).collect()))
}

async fn count_over(
    census: &mut Census,
    databases: &Databases<'_>,
    source: &Session,
    subject: &Subject<'_>,
) -> Result<Vec<i64>> {
    let rows = Rows::new(source, Parts::One(Some(source_query(subject))), 5);
    let query = target_query(subject);
    let known = Rows::new(&databases.target, Parts::One(Some(query)), 9);
    let mut merge = Merge::new(rows, known, true);
    let (mut range, mut opened): (Option<Range>, Vec<i64>) = (None, Vec::new());
    while let Some(meeting) = merge.next().await? {
        let Some(number) = merge.key().and_then(|key| key.try_into().ok()) else {
            let rows = merge.source.number(2).unsigned_abs();
            census.source_rows(filter_of(&merge.source), rows);
            for _ in 0..rows {
                census.keyless.add(|| merge.id());
            }
            continue;
        };
        let number = i64::from_be_bytes(number);
        if range.as_ref().is_none_or(|range| range.number != number) {
            let next = Range {
                number,
                ..Range::default()
            };
            if let Some(done) = range.replace(next) {
                opened.extend(done.settle(census));
            }
        }
        let Some(range) = &mut range else { continue };
        if meeting != Meeting::Target {
            range.source.push(Ids {
                of: filter_of(&merge.source),
                rows: merge.source.number(2).unsigned_abs(),
                bits: bits(&merge.source, 3),
            });
        }
        if meeting != Meeting::Source {
            range.known.push(Ids {
                of: Standing::of(&merge.target),
                rows: merge.target.number(6).unsigned_abs(),
                bits: bits(&merge.target, 7),
            });
        }
    }
    if let Some(done) = range {
        opened.extend(done.settle(census));
    }
    Ok(opened)
}

/// The lower and the upper half of a range, from the given field on.
fn bits(rows: &Rows<'_>, field: usize) -> u128 {
    let half = |field: usize| u128::from(rows.number(field).cast_unsigned());
    half(field + 1) << 64 | half(field)
}

fn all_ids(range: i64) -> impl Iterator<Item = String> {
    let first = range << RANGE_BITS;
    // Up to its last number: the one behind it may be too large for a bigint.
    (first..=first + ((1 << RANGE_BITS) - 1)).map(|id| id.to_string())
}

impl<T> Ids<T> {
    /// Whether each id is there once.
    fn are_single(&self) -> bool {
        self.rows == u64::from(self.bits.count_ones())
    }
}

impl Range {
    /// Adds the range to the census; its number where its rows have to be read.
    fn settle(&self, census: &mut Census) -> Option<i64> {
        let single = self.source.iter().all(Ids::are_single);
        if !single || !self.known.iter().all(Ids::are_single) {
            return Some(self.number);
        }
        for ids in &self.source {
            census.source_rows(ids.of, ids.rows);
        }
        for ids in &self.known {
            census.known_rows(ids.of, ids.rows);
        }
        if !self.is_in_order() {
            self.settle_each(census);
        }
        None
    }

    /// Whether every id that the filters keep is soundly mapped or in quarantine, once, and no other.
    fn is_in_order(&self) -> bool {
        let kept = self.source.iter().filter(|ids| ids.of == 0);
        let kept = kept.fold(0, |kept, ids| kept | ids.bits);
        let (mut known, mut rows) = (0, 0);
        for ids in &self.known {
            if !ids.of.is_sound() && !ids.of.quarantined {
                return false;
            }
            known |= ids.bits;
            rows += ids.rows;
        }
        let all = self.source.iter().fold(0, |all, ids| all | ids.bits);
        let in_source: u64 = self.source.iter().map(|ids| ids.rows).sum();
        known == kept
            && rows == u64::from(known.count_ones())
            && in_source == u64::from(all.count_ones())
    }

    /// Judges one id after the other.
    fn settle_each(&self, census: &mut Census) {
        for place in 0..1_u32 << RANGE_BITS {
            let bit = 1_u128 << place;
            let id = (self.number << RANGE_BITS) + i64::from(place);
            let mut case = Case {
                id: id.to_be_bytes().to_vec(),
                ..Case::default()
            };
            let filters = self.source.iter().filter(|ids| ids.bits & bit != 0);
            case.source.extend(filters.map(|ids| ids.of));
            for ids in self.known.iter().filter(|ids| ids.bits & bit != 0) {
                ids.of.add_to(&mut case);
                ids.of.tell(census, || id.to_string());
            }
            census.settle(&case, true);
        }
    }
}

/// SQL for the ids of a range as bits: how many rows, the lower half, and the upper one.
fn as_bits(id: &str) -> String {
    let half = |is_lower: &str| {
        format!(
            "coalesce(bit_or(1::int8 << ({id} & 63)::int4) filter (where {id} & 64 {is_lower} 0), 0)::int8"
        )
    };
    format!("count(*), {}, {}", half("="), half("<>"))
}

fn source_query(subject: &Subject<'_>) -> String {
    let (ids, filter) = subject.filtered_ids();
    format!(
        "select id >> {RANGE_BITS}, filter, {} from (select {ids} as id, {filter} as filter from {}\n offset '0') rows
         group by 1, 2 order by 1, 2",
        as_bits("id"),
        subject.entity.source.from.text,
    )
}

fn target_query(subject: &Subject<'_>) -> String {
    format!(
        "select regraft_id >> {RANGE_BITS}, run_no, batch, there, agrees, quarantined, {}
         from ({}\n offset '0') known group by 1, 2, 3, 4, 5, 6 order by 1",
        as_bits("regraft_id"),
        known(subject, &Extent::default()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::report::Tally;

    fn standing(there: bool, quarantined: bool) -> Standing {
        Standing {
            run_no: 1,
            batch: 2,
            there,
            agrees: true,
            quarantined,
        }
    }

    fn ids<T>(of: T, bits: u128) -> Ids<T> {
        Ids {
            of,
            rows: u64::from(bits.count_ones()),
            bits,
        }
    }

    fn census(range: &Range) -> Census {
        let mut census = Census {
            filtered: vec![0],
            mapped_and_filtered: vec![Tally::default()],
            quarantined_and_filtered: vec![Tally::default()],
            ..Census::default()
        };
        assert_eq!(range.settle(&mut census), None);
        census
    }

    #[test]
    fn ids_are_known_by_their_bits() {
        let range = Range {
            number: -1,
            source: vec![ids(0, 0b0111), ids(1, 0b1000)],
            known: vec![
                ids(standing(true, false), 0b0011),
                ids(standing(false, true), 0b0100),
            ],
        };
        let mut census = census(&range);
        assert_eq!(
            (census.source_rows, census.kept, census.filtered[0]),
            (4, 3, 1)
        );
        assert_eq!((census.mapped, census.written[&(1, 2)]), (2, 2));
        assert!(census.suspects().is_empty());
    }

    #[test]
    fn whatever_is_out_of_order_is_named() {
        let range = Range {
            number: -1,
            source: vec![ids(0, 0b0111), ids(1, 0b1001)],
            known: vec![
                ids(standing(true, false), 0b1000 | 1 << 127),
                ids(standing(false, false), 0b0001),
                ids(standing(true, true), 0b0001),
            ],
        };
        let mut census = census(&range);
        assert_eq!(census.without_row.ids(), Some(&["-128".to_owned()][..]));
        assert_eq!(census.repeated.ids(), Some(&["-128".to_owned()][..]));
        assert_eq!(census.mapped_and_quarantined.rows, 1);
        assert_eq!(
            census.unaccounted.ids(),
            Some(&["-127".to_owned(), "-126".to_owned()][..])
        );
        assert_eq!(census.vanished.ids(), Some(&["-1".to_owned()][..]));
        assert_eq!(
            census.mapped_and_filtered[0].ids(),
            Some(&["-125".to_owned()][..])
        );
        assert_eq!(census.suspects().len(), 7);
    }

    #[test]
    fn a_range_with_an_id_twice_is_read() {
        let twice = Range {
            number: 3,
            source: vec![Ids {
                of: 0,
                rows: 2,
                bits: 1,
            }],
            known: Vec::new(),
        };
        assert_eq!(twice.settle(&mut Census::default()), Some(3));
        assert_eq!(
            all_ids(i64::MAX >> RANGE_BITS).last(),
            Some(i64::MAX.to_string())
        );
    }
}
