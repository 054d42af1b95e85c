//! Which rows of an entity are looked at.

use regraft_pg::quote;

/// A hash of so many bits decides which rows are in a sample.
const SAMPLE_BITS: u32 = 20;

/// All rows of an entity, or some of them. The choice depends on the legacy id alone, so that both
/// databases choose the same rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Extent {
    ids: Option<Vec<String>>,
    /// Of as many parts as the mask has numbers, those with these.
    parts: Option<(u64, Vec<i64>)>,
    /// Of every 2^[`SAMPLE_BITS`] rows.
    sample: Option<u32>,
}

impl Extent {
    /// Only the rows with these legacy ids.
    pub(super) fn only(ids: Vec<String>) -> Self {
        Self {
            ids: Some(ids),
            ..Self::default()
        }
    }

    /// Of its rows only those with these legacy ids.
    pub(super) fn within(&self, ids: Vec<String>) -> Self {
        Self {
            ids: Some(ids),
            ..self.clone()
        }
    }

    /// Of its rows only those in some parts of their texts' hashes.
    pub(super) fn within_parts(&self, mask: u64, parts: Vec<i64>) -> Self {
        Self {
            parts: Some((mask, parts)),
            ..self.clone()
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
            sample: (rate < 1.0).then_some((rate.max(0.0) * of) as u32),
            ..Self::default()
        }
    }

    /// The conditions on a legacy id that is written as `id`: a bigint, or a text in byte order.
    pub(super) fn conditions(&self, numeric: bool, id: &str) -> Vec<String> {
        let ids = self.ids.as_ref().map(|ids| {
            let of = if numeric { "int8" } else { "text" };
            let list = quote::array(ids.iter().map(String::as_str), of);
            format!("{id} = any ({list})")
        });
        let parts = self.parts.as_ref().map(|(mask, parts)| {
            let parts: Vec<String> = parts.iter().map(i64::to_string).collect();
            let list = quote::array(parts.iter().map(String::as_str), "int8");
            format!("{} = any ({list})", hashed_part(id, *mask))
        });
        let sample = self.sample.map(|part| {
            let hash = if numeric {
                format!("hashint8extended(({id})::int8, 0)")
            } else {
                format!("hashtextextended(({id})::text collate \"C\", 0)")
            };
            format!("{hash} & {} < {part}", (1_u32 << SAMPLE_BITS) - 1)
        });
        ids.into_iter().chain(parts).chain(sample).collect()
    }

    /// The same as a condition to append to others.
    pub(super) fn and(&self, numeric: bool, id: &str) -> String {
        let conditions = self.conditions(numeric, id).into_iter();
        conditions
            .map(|condition| format!(" and {condition}"))
            .collect()
    }
}

/// SQL for the part that a text falls into by its hash. Seeded otherwise than the hash that decides
/// on a sample, so that a sample is of all parts.
pub(super) fn hashed_part(id: &str, mask: u64) -> String {
    format!("hashtextextended(({id})::text collate \"C\", 1) & {mask}")
}
