//! The rows of both databases compared by sums: both servers hash what a row should be and is, and
//! add the hashes up by ranges of legacy ids. Only rows of ranges that differ have to be fetched:
//! over a slow link that is a thousandth of the bytes.
//!
//! Ids that are text have no ranges; a hash divides them into parts, and more of them the more rows
//! there are. Columns that only one of the servers could bring into a form to hash are fetched
//! apart, where that pays.

use std::time::{Duration, Instant};

use regraft_pg::Session;

use super::canonical::Sides;
use super::databases::Databases;
use super::expectation::Expectation;
use super::extent::{Extent, hashed_part};
use super::pass::{Pass, Passed};
use super::rows::{Meeting, Merge, Parts, Rows};
use super::subject::{KeptRows, Subject};
use crate::error::Result;

/// Ranges of numbers are of 2 to the power of so many ids.
const RANGE_BITS: u32 = 7;

/// Ids that are text are divided into parts of about so many rows.
const PART_ROWS: u64 = 64;

/// When more ranges than this differ, all rows are fetched at once.
const MOST_RANGES: usize = 2_000;

/// `hash_record_extended` came with PostgreSQL 14.
const SINCE: u32 = 140_000;

/// What is fetched to measure a link.
const PROBE_BYTES: u32 = 1 << 20;

/// Below so many bytes a second a link is slow: fetching the rows costs more than adding up hashes
/// for nothing. Measured with `cargo xtask bench proofs`.
const NEAR: f64 = 50e6;

/// Whether one of the servers is so far away that sums pay even where many ranges may differ.
///
/// # Errors
/// A connection is lost.
pub(super) async fn is_far(databases: &Databases<'_>) -> Result<bool> {
    let query = format!("select repeat('x', {PROBE_BYTES})");
    for session in databases.beside() {
        let started = Instant::now();
        session.simple_query(&query).await?;
        let took = started.elapsed().max(Duration::from_micros(1));
        if f64::from(PROBE_BYTES) / took.as_secs_f64() < NEAR {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether both servers can hash an entity's rows: what they hash came with PostgreSQL 14, and text
/// ids fall into the same parts only if their bytes are the same.
///
/// # Errors
/// A connection is lost.
pub(super) async fn can_be_used(pass: &Pass<'_>, databases: &Databases<'_>) -> Result<bool> {
    Ok(databases.oldest_version() >= SINCE
        && (pass.subject.numeric || databases.have_one_encoding().await?))
}

/// Compares all rows of a pass by sums, and fetches those of ranges that differ. Columns without a
/// form to hash are fetched besides. `None` when too many ranges differ. `rows` is about how many
/// rows the entity has.
pub(super) async fn run(
    pass: &Pass<'_>,
    databases: &Databases<'_>,
    rows: u64,
) -> Result<Option<Passed>> {
    let (hashed, apart) = hashed_and_apart(pass.columns);
    let summed = Pass {
        columns: hashed,
        ..*pass
    };
    let session = databases.source().await?;
    let division = Division::of(pass.subject, rows);
    let ranges = ranges(&summed, databases, &session, division).await?;
    databases.give_back(session);
    if ranges.different.len() > MOST_RANGES {
        return Ok(None);
    }
    let mut passed = Passed::default();
    if !ranges.different.is_empty() {
        let extent = division.opened(pass.extent, &ranges.different);
        let opened = Pass {
            extent: &extent,
            ..summed
        };
        passed = opened.run(databases).await?;
    }
    passed.followed.add_edges(ranges.edges);
    passed.compared.add_rows(ranges.rows);
    let fetched = Pass {
        references: &[],
        columns: apart,
        ..*pass
    };
    let fetched = fetched.run(databases).await?;
    passed.compared.add_columns(fetched.compared, hashed.len());
    Ok(Some(passed))
}

/// The columns that are hashed, and those that have no form to hash: they come last.
pub(super) fn hashed_and_apart<'a>(
    columns: &'a [Expectation<'a>],
) -> (&'a [Expectation<'a>], &'a [Expectation<'a>]) {
    columns.split_at(columns.partition_point(|column| column.sums.is_some()))
}

/// How the rows of an entity are divided into ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Division {
    /// By number.
    Numbers,
    /// By the bits of a hash of the text.
    Hash { mask: u64 },
}

impl Division {
    fn of(subject: &Subject<'_>, rows: u64) -> Self {
        if subject.numeric {
            return Self::Numbers;
        }
        Self::Hash {
            mask: (rows / PART_ROWS).next_power_of_two() - 1,
        }
    }

    /// SQL for the number of the range that a legacy id is in.
    fn range(self, id: &str) -> String {
        match self {
            Self::Numbers => format!("({id}) >> {RANGE_BITS}"),
            Self::Hash { mask } => hashed_part(id, mask),
        }
    }

    /// The rows of some ranges.
    fn opened(self, extent: &Extent, ranges: &[i64]) -> Extent {
        match self {
            Self::Numbers => {
                let ids = ranges.iter().flat_map(|range| {
                    let first = range << RANGE_BITS;
                    // Up to its last number: the one behind it may be too large for a bigint.
                    first..=first + ((1 << RANGE_BITS) - 1)
                });
                extent.within(ids.map(|id| id.to_string()).collect())
            }
            Self::Hash { mask } => extent.within_parts(mask, ranges.to_vec()),
        }
    }
}

/// What the sums say.
#[derive(Default)]
struct Ranges {
    /// Rows of ranges whose sums are equal.
    rows: u64,
    /// References of these that are not NULL.
    edges: u64,
    /// The numbers of ranges that differ.
    different: Vec<i64>,
}

async fn ranges(
    pass: &Pass<'_>,
    databases: &Databases<'_>,
    session: &Session,
    division: Division,
) -> Result<Ranges> {
    let (list, target) = queries(pass, division);
    let kept = KeptRows::new(pass.subject, list, pass.extent, &databases.lookup).summed(summed);
    let source = Rows::new(session, Parts::Kept(kept), 5);
    let target = Rows::new(&databases.target, Parts::One(Some(target)), 5);
    let mut merge = Merge::new(source, target, true);
    let mut ranges = Ranges::default();
    while let Some(meeting) = merge.next().await? {
        let (source, target) = (&merge.source, &merge.target);
        match (meeting, division) {
            (Meeting::Both, _) => {}
            // What only one of the databases has is the account's business.
            (_, Division::Numbers) => continue,
            // A large quarantine makes the source give its rows in several turns, each of them about
            // all parts: what it doesn't have in one may come in another.
            (Meeting::Source, Division::Hash { .. }) => {
                ranges.different.push(source.number(0));
                continue;
            }
            (Meeting::Target, Division::Hash { .. }) => {
                ranges.different.push(target.number(0));
                continue;
            }
        }
        if (1..4).all(|field| source.field(field) == target.field(field)) {
            ranges.rows += source.number(1).unsigned_abs();
            ranges.edges += source.number(4).unsigned_abs();
        } else {
            ranges.different.push(source.number(0));
        }
    }
    ranges.different.sort_unstable();
    ranges.different.dedup();
    Ok(ranges)
}

/// Sums up the rows that a query gives by ranges of them, in the order of the ranges: how many they
/// are, two hashes of 64 bits each, and the number of their references. The query gives the number
/// of the range as `range`, what is hashed as `r`, and the number of references as `edges`.
///
/// `hash_record_extended` multiplies and adds the hashes of the columns, so that values which two
/// rows of a range have swapped would add up to the same. Multiplying one half of its result by the
/// other tells them apart, never leaves a bigint, and costs a fraction of hashing once more:
/// `hashint8extended` would fold the result to 32 bits first, and a numeric is made digit by digit.
///
/// The fences keep columns and hashes from being worked out once for every mention, and hide from the
/// planner that ids are unique: a table of so many groups it would sort, whole rows at a time. As a
/// bare `0` they would have to be cast, and no plan above them could be parallel.
fn summed(query: &str) -> String {
    let mixed = |hash: &str| format!("sum(({hash} & 4294967295) * ({hash} >> 32))::text");
    format!(
        "select range, count(*), {}, {}, sum(edges)::int8\n\
         from (select range, hash_record_extended(r, 0) as a, hash_record_extended(r, 1) as b, edges\n\
         from ({query}\n offset '0') s offset '0') h group by 1 order by 1",
        mixed("a"),
        mixed("b")
    )
}

/// What is selected from the source beside the legacy id, and the query for the target.
fn queries(pass: &Pass<'_>, division: Division) -> (Vec<String>, String) {
    let subject = pass.subject;
    let (mut source, mut target) = (Vec::new(), Vec::new());
    let (mut edges, mut joins) = (vec!["0".to_owned()], String::new());
    for (i, reference) in pass.references.iter().enumerate() {
        let (sides, joined) = reference.sums(subject, i);
        edges.push(reference.counted());
        joins.push_str(&joined);
        for Sides {
            source: s,
            target: t,
        } in sides
        {
            source.push(s);
            target.push(t);
        }
    }
    for sides in pass
        .columns
        .iter()
        .filter_map(|column| column.sums.as_ref())
    {
        source.push(sides.source.clone());
        target.push(sides.target.clone());
    }
    let id = subject.ledger_id("m");
    let row = |id: &str, list: &[String]| match list {
        [] => format!("row({id})"),
        list => format!("row({id}, {})", list.join(", ")),
    };
    let query = summed(&format!(
        "select {} as range, {} as r, 0 as edges from {} m join {} t on t.{} = m.new_id{joins}\n\
         where true{}",
        division.range(&id),
        row(&id, &target),
        subject.mappings(),
        subject.table_name,
        subject.key_column(),
        pass.extent.and(subject.numeric, &id),
    ));
    let list = vec![
        format!("{} as range", division.range(&subject.source_id())),
        format!("{} as r", row(&subject.source_id(), &source)),
        format!("{} as edges", edges.join(" + ")),
    ];
    (list, query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_texts_grow_with_the_rows() {
        let of = |rows: u64| (rows / PART_ROWS).next_power_of_two() - 1;
        assert_eq!((of(0), of(100), of(200), of(1_000_000)), (0, 0, 3, 16_383));
        let division = Division::Hash { mask: 3 };
        assert_eq!(
            division.range("t.id"),
            "hashtextextended((t.id)::text collate \"C\", 1) & 3"
        );
    }

    #[test]
    fn a_range_of_numbers_ends_with_its_last_number() {
        let opened = Division::Numbers.opened(&Extent::default(), &[i64::MAX >> RANGE_BITS]);
        let condition = opened.and(true, "id");
        assert!(condition.contains(&i64::MAX.to_string()), "{condition}");
    }
}
