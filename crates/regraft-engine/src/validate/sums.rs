//! The rows of both databases compared by sums: both servers hash what a row should be and is, and
//! add the hashes up by ranges of legacy ids. Only rows of ranges that differ have to be fetched:
//! over a slow link that is a thousandth of the bytes.

use std::time::{Duration, Instant};

use regraft_pg::Session;

use super::canonical::Sides;
use super::databases::Databases;
use super::pass::{Pass, Passed};
use super::rows::{Meeting, Merge, Parts, Rows};
use super::subject::KeptRows;
use crate::error::Result;

/// Ranges are of 2 to the power of so many ids.
const RANGE_BITS: u32 = 7;

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

/// Whether an entity's rows can be compared by sums: every column and reference has a form that
/// both servers can hash, and ids come in ranges.
pub(super) fn can_be_used(pass: &Pass<'_>, databases: &Databases<'_>) -> bool {
    pass.subject.numeric
        && databases.oldest_version() >= SINCE
        && pass.columns.iter().all(|column| column.sums.is_some())
}

/// Compares all rows of a pass by sums, and fetches those of ranges that differ. `None` when too
/// many of them do.
pub(super) async fn run(pass: &Pass<'_>, databases: &Databases<'_>) -> Result<Option<Passed>> {
    let session = databases.source().await?;
    let ranges = ranges(pass, databases, &session).await?;
    databases.give_back(session);
    let Some(ids) = ranges.ids() else {
        return Ok(None);
    };
    let mut passed = Passed::default();
    if !ids.is_empty() {
        let extent = pass.extent.within(ids);
        let opened = Pass {
            extent: &extent,
            ..*pass
        };
        passed = opened.run(databases).await?;
    }
    passed.followed.add_edges(ranges.edges);
    passed.compared.add_rows(ranges.rows);
    Ok(Some(passed))
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

impl Ranges {
    /// The legacy ids of all ranges that differ; `None` for too many.
    fn ids(&self) -> Option<Vec<String>> {
        (self.different.len() <= MOST_RANGES).then(|| {
            let ids = self.different.iter().flat_map(|range| {
                let first = range << RANGE_BITS;
                // Up to its last number: the one behind it may be too large for a bigint.
                first..=first + ((1 << RANGE_BITS) - 1)
            });
            ids.map(|id| id.to_string()).collect()
        })
    }
}

async fn ranges(pass: &Pass<'_>, databases: &Databases<'_>, session: &Session) -> Result<Ranges> {
    let (list, target) = queries(pass);
    let kept = KeptRows::new(pass.subject, list, pass.extent, &databases.lookup).summed(SUMS);
    let source = Rows::new(session, Parts::Kept(kept), 5);
    let target = Rows::new(&databases.target, Parts::One(Some(target)), 5);
    let mut merge = Merge::new(source, target, true);
    let mut ranges = Ranges::default();
    while let Some(meeting) = merge.next().await? {
        // What only one of the databases has is the account's business.
        if meeting != Meeting::Both {
            continue;
        }
        let (source, target) = (&merge.source, &merge.target);
        if (1..4).all(|field| source.field(field) == target.field(field)) {
            ranges.rows += source.number(1).unsigned_abs();
            ranges.edges += source.number(4).unsigned_abs();
        } else {
            ranges.different.push(source.number(0));
        }
    }
    Ok(ranges)
}

/// Sums up the rows of a query that gives the legacy id as `id`, what is hashed as `r`, and the
/// number of its references as `edges`: two hashes of 64 bits each.
///
/// `hash_record_extended` multiplies and adds the hashes of the columns, so that values which two
/// rows of a range have swapped would add up to the same; hashing its result once more, as digits,
/// makes it tell.
const SUMS: &str = "id >> 7, count(*), \
                    sum(hash_numeric_extended(hash_record_extended(r, 0)::numeric, 0))::text, \
                    sum(hash_numeric_extended(hash_record_extended(r, 1)::numeric, 1))::text, \
                    sum(edges)::int8";

/// What is selected from the source beside the legacy id, and the query for the target.
fn queries(pass: &Pass<'_>) -> (Vec<String>, String) {
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
    // Columns are cheap to read twice, and without a fence all processors may be at it.
    let query = format!(
        "select {SUMS} from (select {id} as id, {} as r, 0 as edges from {} m join {} t on t.{} = m.new_id{joins}\n\
         where true{}) s group by 1 order by 1",
        row(&id, &target),
        subject.mappings(),
        subject.table_name,
        subject.key_column(),
        pass.extent.and(true, &id),
    );
    let list = vec![
        format!("{} as r", row(&subject.source_id(), &source)),
        format!("{} as edges", edges.join(" + ")),
    ];
    (list, query)
}
