//! Rows of a bulk load that may have an equal under a unique index.
//!
//! In bulk mode the index isn't there while rows come in. Finding equal rows afterwards costs a
//! pass over the table and an index that is built in vain; a Bloom filter on the way costs next to
//! nothing. It never decides: a suspect is looked up in the table, and an equal row that it missed
//! (rows of an earlier process, values that are equal but not in their bytes) makes the index
//! refuse, and is found then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::stage::unique_indexes;
use crate::model::{EntityModel, OutputRule};

/// Bits of the filter per row: with eight probes, one false suspect in about two million rows.
const BITS_PER_ROW: u64 = 32;
const PROBES: u32 = 8;
/// The filter of one index is never larger than this (bytes).
const LARGEST: u64 = 32 << 20;
/// With more suspects than this the table is better searched as a whole.
const MOST_SUSPECTS: usize = 1 << 20;

/// What is kept on the way of the rows of one entity.
pub(crate) struct Doubles {
    watched: Vec<Watched>,
}

struct Watched {
    index: String,
    /// Positions of the index's columns in the written row, ascending.
    outputs: Vec<usize>,
    nulls_equal: bool,
    bits: Vec<AtomicU64>,
    suspects: Mutex<Vec<Uuid>>,
}

impl Doubles {
    /// Watches the unique indexes whose columns are written as they are; `None` where there are
    /// none. An index on the key or the legacy id is unique because the entity's key is.
    pub(crate) fn watch(model: &EntityModel, rows: i64) -> Option<Self> {
        let written = model.outputs.iter().map(|o| o.column.as_str()).collect();
        let watched: Vec<Watched> = unique_indexes(&model.table, &written)
            .filter(|index| index.predicate.is_none() && !index.primary)
            .filter_map(|index| {
                Some(Watched {
                    index: index.name.clone(),
                    outputs: positions(model, &index.plain_columns)?,
                    nulls_equal: index.nulls_not_distinct,
                    bits: filter(rows.unsigned_abs()),
                    suspects: Mutex::new(Vec::new()),
                })
            })
            .collect();
        (!watched.is_empty()).then_some(Self { watched })
    }

    /// Takes note of a row in the COPY format and its key.
    pub(crate) fn note(&self, row: &[u8], key: Uuid) {
        for watched in &self.watched {
            if let Some(hash) = watched.hash(row)
                && watched.seen(hash)
                && let Ok(mut suspects) = watched.suspects.lock()
                && suspects.len() <= MOST_SUSPECTS
            {
                suspects.push(key);
            }
        }
    }

    /// The keys of rows that may have an equal under an index; `None` where nothing is known.
    pub(crate) fn suspects(&self, index: &str) -> Option<Vec<Uuid>> {
        let watched = self.watched.iter().find(|w| w.index == index)?;
        let suspects = watched.suspects.lock().ok()?;
        (suspects.len() <= MOST_SUSPECTS).then(|| suspects.clone())
    }
}

impl Watched {
    /// A hash of the index's columns; `None` where a NULL makes the row equal to none.
    fn hash(&self, row: &[u8]) -> Option<u64> {
        let (mut at, mut field, mut hash) = (2, 0, 0);
        for &wanted in &self.outputs {
            loop {
                let length = i32::from_be_bytes(row.get(at..at + 4)?.try_into().ok()?);
                at += 4;
                let value = usize::try_from(length)
                    .ok()
                    .and_then(|length| row.get(at..at + length));
                at += value.map_or(0, <[u8]>::len);
                field += 1;
                if field - 1 == wanted {
                    hash = match value {
                        Some(value) => xxh3_64_with_seed(value, hash),
                        None if self.nulls_equal => xxh3_64_with_seed(&[], hash ^ 1),
                        None => return None,
                    };
                    break;
                }
            }
        }
        Some(hash)
    }

    /// Whether the hash was there before; it is from now on.
    fn seen(&self, hash: u64) -> bool {
        let slots = self.bits.len() as u64 * 64;
        let (mut slot, step) = (hash, hash.rotate_left(32) | 1);
        let mut seen = true;
        for _ in 0..PROBES {
            // The high half of the product spreads the hash over the slots without a division.
            let at = ((u128::from(slot) * u128::from(slots)) >> 64) as u64;
            let bit = 1 << (at % 64);
            let before = self.bits[(at / 64) as usize].fetch_or(bit, Ordering::Relaxed);
            seen &= before & bit != 0;
            slot = slot.wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        seen
    }
}

fn filter(rows: u64) -> Vec<AtomicU64> {
    let bytes = (rows * BITS_PER_ROW / 8).clamp(4 << 10, LARGEST);
    (0..bytes / 8).map(|_| AtomicU64::new(0)).collect()
}

fn positions(model: &EntityModel, columns: &[Option<String>]) -> Option<Vec<usize>> {
    let mut positions = Vec::with_capacity(columns.len());
    for column in columns {
        let at = model
            .outputs
            .iter()
            .position(|o| Some(&o.column) == column.as_ref())?;
        match model.outputs[at].rule {
            OutputRule::Key | OutputRule::LegacyId { .. } => return None,
            // Written later: the row doesn't have its value yet.
            OutputRule::Reference { later: true, .. }
            | OutputRule::ReferenceBy { later: true, .. } => return None,
            _ => positions.push(at),
        }
    }
    positions.sort_unstable();
    Some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(rows: u64, outputs: &[usize], nulls_equal: bool) -> Watched {
        Watched {
            index: "i".to_owned(),
            outputs: outputs.to_vec(),
            nulls_equal,
            bits: filter(rows),
            suspects: Mutex::new(Vec::new()),
        }
    }

    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut block = regraft_pg::copy::Writer::new();
        let mark = block.mark();
        block.tuple(i16::try_from(fields.len()).expect("few"));
        for field in fields {
            match field {
                Some(value) => block.field(value),
                None => block.null(),
            }
        }
        block.since(mark).to_vec()
    }

    #[test]
    fn equal_rows_are_suspects_and_hardly_any_other() {
        let index = watched(200_000, &[1], false);
        let suspect = |n: u32| {
            index.seen(
                index
                    .hash(&row(&[Some(b"x"), Some(&n.to_be_bytes())]))
                    .expect("no NULL"),
            )
        };
        let false_suspects = (0..200_000).filter(|n| suspect(*n)).count();
        assert!(false_suspects < 10, "{false_suspects}");
        assert!((0..200_000).all(suspect));
    }

    #[test]
    fn null_equals_nothing_unless_the_index_says_so() {
        let with_null = row(&[None, Some(b"a")]);
        assert_eq!(watched(1, &[0, 1], false).hash(&with_null), None);
        let index = watched(1, &[0, 1], true);
        let hash = index.hash(&with_null).expect("a hash");
        assert_ne!(Some(hash), index.hash(&row(&[Some(b""), Some(b"a")])));
        assert!(!index.seen(hash));
        assert!(index.seen(hash));
    }

    #[test]
    fn columns_are_told_apart() {
        let index = watched(1, &[0, 1], false);
        let one = index.hash(&row(&[Some(b"ab"), Some(b"c")]));
        let other = index.hash(&row(&[Some(b"a"), Some(b"bc")]));
        assert_ne!(one, other);
    }
}
