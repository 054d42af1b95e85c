//! How the values of a column are distributed, as they should be and as they are, side by side.

use regraft_pg::quote;
use serde::{Deserialize, Serialize};

use super::databases::Databases;
use super::expectation::Expectation;
use super::subject::Subject;
use crate::error::Result;

/// PostgreSQL gives 1,664 columns at most.
const MOST_COUNTS: usize = 1_600;

/// A column over all rows that were compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ColumnDistribution {
    /// The column of the target.
    pub column: String,
    /// Rows in which it should be NULL.
    pub nulls_expected: u64,
    /// Rows in which it is NULL.
    pub nulls_held: u64,
    /// Of a column whose values the project lists, how often each should be there and is. The
    /// values are the project's own words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueCount>,
    /// Rows with a value that the project doesn't list, where it lists them.
    pub other_held: u64,
}

/// One value of a column whose values the project lists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ValueCount {
    /// The value as the project writes it.
    pub value: String,
    /// Rows in which it should be.
    pub expected: u64,
    /// Rows in which it is.
    pub held: u64,
}

/// What one row adds to a distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) null_expected: bool,
    pub(super) null_held: bool,
    /// Which of the listed values should be there, and which is.
    pub(super) listed: Option<(Option<usize>, Option<usize>)>,
}

/// Counts as rows go by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    nulls_expected: u64,
    nulls_held: u64,
    expected: Vec<u64>,
    held: Vec<u64>,
    other_held: u64,
}

impl Counts {
    /// Counts a row.
    pub(super) fn add(&mut self, seen: Seen) {
        self.nulls_expected += u64::from(seen.null_expected);
        self.nulls_held += u64::from(seen.null_held);
        let Some((expected, held)) = seen.listed else {
            return;
        };
        if let Some(expected) = expected {
            increment(&mut self.expected, expected);
        }
        match held {
            Some(held) => increment(&mut self.held, held),
            None if seen.null_held => {}
            None => self.other_held += 1,
        }
    }

    /// The same counts with what the whole table holds: rows that did not go by are what they should
    /// be.
    fn with_the_rest(&self, held: &Held) -> Self {
        let rest = |all: u64, seen: u64| all.saturating_sub(seen);
        let at = |counts: &[u64], i: usize| counts.get(i).copied().unwrap_or(0);
        let others: Vec<u64> = held
            .values
            .iter()
            .enumerate()
            .map(|(i, all)| rest(*all, at(&self.held, i)))
            .collect();
        let nulls = rest(held.nulls, self.nulls_held);
        let add = |counts: &[u64]| {
            (0..others.len())
                .map(|i| at(counts, i) + others[i])
                .collect()
        };
        Self {
            nulls_expected: self.nulls_expected + nulls,
            nulls_held: self.nulls_held + nulls,
            expected: add(&self.expected),
            held: add(&self.held),
            other_held: self.other_held,
        }
    }

    /// The distribution of a column whose listed values these are, over the rows that went by or,
    /// with what the table holds, over all.
    pub(super) fn over(
        &self,
        held: Option<&Held>,
        column: &str,
        listed: &[String],
    ) -> ColumnDistribution {
        match held {
            Some(held) => self.with_the_rest(held).of(column, listed),
            None => self.of(column, listed),
        }
    }

    /// The distribution of a column whose listed values these are.
    fn of(&self, column: &str, listed: &[String]) -> ColumnDistribution {
        let at = |counts: &[u64], i: usize| counts.get(i).copied().unwrap_or(0);
        let values = listed.iter().enumerate().map(|(i, value)| ValueCount {
            value: value.clone(),
            expected: at(&self.expected, i),
            held: at(&self.held, i),
        });
        ColumnDistribution {
            column: column.to_owned(),
            nulls_expected: self.nulls_expected,
            nulls_held: self.nulls_held,
            values: values.collect(),
            other_held: self.other_held,
        }
    }
}

fn increment(counts: &mut Vec<u64>, at: usize) {
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    counts[at] += 1;
}

/// What a whole table holds of a column.
#[derive(Debug, Default)]
pub(super) struct Held {
    nulls: u64,
    values: Vec<u64>,
}

/// Counts what the table of an entity holds, column by column, in one pass on the server.
pub(super) async fn held(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    expectations: &[Expectation<'_>],
) -> Result<Vec<Held>> {
    let mut list = Vec::new();
    for expectation in expectations {
        let column = format!("t.{}", quote::ident(expectation.column));
        list.push(format!("count(*) - count({column})"));
        for literal in expectation.listed_literals() {
            list.push(format!(
                "count(*) filter (where {column} is not distinct from {literal})"
            ));
        }
    }
    if list.is_empty() || list.len() > MOST_COUNTS {
        return Ok(Vec::new());
    }
    let query = format!("select {} from {} t", list.join(", "), subject.table_name);
    let row = databases.target.query_one(&query, &[]).await?;
    let mut next = 0..row.len();
    let mut count = || {
        next.next()
            .map_or(0, |at| row.get::<_, i64>(at).unsigned_abs())
    };
    Ok(expectations
        .iter()
        .map(|expectation| Held {
            nulls: count(),
            values: expectation
                .listed_literals()
                .iter()
                .map(|_| count())
                .collect(),
        })
        .collect())
}
