//! Which rows of an entity are looked at.

use regraft_pg::quote;

/// A hash of so many bits decides which rows are in a sample.
const SAMPLE_BITS: u32 = 20;

/// All rows of an entity, or some of them. The choice depends on the legacy id alone, so that both
/// databases choose the same rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Extent {
    ids: Option<Vec<String>>,
    /// Of every 2^[`SAMPLE_BITS`] rows.
    sample: Option<u32>,
}

impl Extent {
    /// Only the rows with these legacy ids.
    pub(super) fn only(ids: Vec<String>) -> Self {
        Self {
            ids: Some(ids),
            sample: None,
        }
    }

    /// Of its rows only those with these legacy ids.
    pub(super) fn within(&self, ids: Vec<String>) -> Self {
        Self {
            ids: Some(ids),
            sample: self.sample,
        }
    }

    /// About this part of all rows, always the same ones; all of them from 1 on.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of 2^20"
    )]
    pub(super) fn sample(rate: f64) -> Self {
        let of = f64::from(1_u32 << SAMPLE_BITS);
        Self {
            ids: None,
            sample: (rate < 1.0).then_some((rate.max(0.0) * of) as u32),
        }
    }

    /// The conditions on a legacy id that is written as `id`: a bigint, or a text in byte order.
    pub(super) fn conditions(&self, numeric: bool, id: &str) -> Vec<String> {
        let ids = self.ids.as_ref().map(|ids| {
            let of = if numeric { "int8" } else { "text" };
            let list = quote::array(ids.iter().map(String::as_str), of);
            format!("{id} = any ({list})")
        });
        let sample = self.sample.map(|part| {
            let hash = if numeric {
                format!("hashint8extended(({id})::int8, 0)")
            } else {
                format!("hashtextextended(({id})::text collate \"C\", 0)")
            };
            format!("{hash} & {} < {part}", (1_u32 << SAMPLE_BITS) - 1)
        });
        ids.into_iter().chain(sample).collect()
    }

    /// The same as a condition to append to others.
    pub(super) fn and(&self, numeric: bool, id: &str) -> String {
        let conditions = self.conditions(numeric, id).into_iter();
        conditions
            .map(|condition| format!(" and {condition}"))
            .collect()
    }
}
