//! How the values of a column are distributed, as they should be and as they are, side by side.

use serde::Serialize;

/// A column over all rows that were compared.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnDistribution {
    /// The column of the target.
    pub column: String,
    /// Rows in which it should be NULL.
    pub nulls_expected: u64,
    /// Rows in which it is NULL.
    pub nulls_held: u64,
    /// Of a column whose values the project lists, how often each should be there and is. The
    /// values are the project's own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueCount>,
    /// Rows with a value that the project doesn't list, where it lists them.
    pub other_held: u64,
}

/// One value of a column whose values the project lists.
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Clone, Default)]
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

    /// The distribution of a column whose listed values these are.
    pub(super) fn of(&self, column: &str, listed: &[String]) -> ColumnDistribution {
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
