//! Rows that are held against the ledger together, and how both servers find them.

use std::collections::BTreeMap;

use regraft_ledger::RANGE_BITS;
use regraft_pg::{Session, quote};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::keys::LegacyId;
use crate::load::{literal, read_all};
use crate::model::EntityModel;

/// Rows that are held against the ledger together: what bounds memory.
pub(super) const AT_ONCE: i64 = 200_000;

/// Ids in a range.
const WIDTH: i64 = 1 << RANGE_BITS;

/// How far the last of them is from the first: the first after it may be no number any more.
const LAST: i64 = WIDTH - 1;

/// Rows that are looked at together.
#[derive(Debug)]
pub(super) enum Window {
    /// All between two ids: above the first, up to the second.
    Span(Option<LegacyId>, Option<LegacyId>),
    /// Those of these ranges, whose ids can be looked up one by one.
    Few(Vec<i64>),
    /// Those of these ranges, which can be looked up one by one, but not their ids.
    Many(Vec<i64>),
    /// Those of these ranges, which are so large a part that it is best to go through all rows.
    Most(Vec<i64>),
}

/// Whether so many ranges are better looked up id by id than found by going through all rows: looking
/// an id up costs about as much as passing thirty.
pub(super) fn are_few(ranges: usize, total: i64) -> bool {
    let ids = ranges as i64 * WIDTH;
    ids.saturating_mul(30) <= total || ids <= 20_000
}

/// The windows of ranges (with the number of their rows) out of so many rows in all.
pub(super) fn windows_of(to_read: &BTreeMap<i64, i64>, total: i64) -> Vec<Window> {
    let kind = match (to_read.len() as i64).saturating_mul(WIDTH * 3) <= total {
        _ if are_few(to_read.len(), total) => Window::Few,
        // A row that is found by its range costs about three that are passed.
        true => Window::Many,
        false => Window::Most,
    };
    let mut windows = Vec::new();
    let (mut ranges, mut rows) = (Vec::new(), 0);
    let mut close = |ranges: &mut Vec<i64>| {
        let ranges = std::mem::take(ranges);
        match (ranges.first(), ranges.last()) {
            (Some(first), Some(last)) if last - first + 1 == ranges.len() as i64 => {
                let above = (first << RANGE_BITS).checked_sub(1).map(LegacyId::Number);
                let up_to = (last << RANGE_BITS) + LAST;
                windows.push(Window::Span(above, Some(LegacyId::Number(up_to))));
            }
            (None, _) | (_, None) => {}
            _ => windows.push(kind(ranges)),
        }
    };
    for (range, kept) in to_read {
        ranges.push(*range);
        rows += kept.max(&WIDTH);
        if rows >= AT_ONCE {
            close(&mut ranges);
            rows = 0;
        }
    }
    close(&mut ranges);
    windows
}

impl Window {
    /// The condition on a key.
    pub(super) fn condition(&self, key: &str) -> String {
        match self {
            Self::Span(above, up_to) => {
                let mut condition = String::from("true");
                for (bound, operator) in [(above, ">"), (up_to, "<=")] {
                    if let Some(bound) = bound {
                        condition.push_str(&format!(" and {key} {operator} {}", literal(bound)));
                    }
                }
                condition
            }
            Self::Few(ranges) => {
                let ids = ranges.iter().flat_map(|range| {
                    let first = range << RANGE_BITS;
                    first..=first + LAST
                });
                format!("{key} = any ({})", numbers(ids))
            }
            Self::Many(ranges) | Self::Most(ranges) => format!(
                "(({key})::int8 >> {RANGE_BITS}) = any ({})",
                numbers(ranges.iter().copied())
            ),
        }
    }

    /// The query for the source's rows, key first, in key order.
    ///
    /// # Errors
    /// A server that can't be reached.
    pub(super) async fn source_query(
        &self,
        source: &Session,
        model: &EntityModel,
    ) -> Result<String> {
        let (all, key) = (read_all(model), model.key_order());
        if let Some(ranges) = self.as_rows() {
            let lookup = format!(
                "select x.* from {ranges} cross join lateral (\n{all}\n  \
                 and {key} >= regraft_range.first and {key} <= regraft_range.first + {LAST}\n\
                 order by {key}) x"
            );
            source.batch_execute("savepoint regraft_explain").await?;
            let by_index = is_by_index(source, &lookup).await;
            source
                .batch_execute(
                    "rollback to savepoint regraft_explain; release savepoint regraft_explain",
                )
                .await?;
            // What the source can't even plan is told when it is read.
            if by_index.unwrap_or(false) {
                return Ok(lookup);
            }
        }
        let condition = self.condition(&key);
        Ok(format!("{all}\n  and {condition}\norder by {key}"))
    }

    /// The query for what the ledger knows of the rows, in key order.
    ///
    /// # Errors
    /// A server that can't be reached.
    pub(super) async fn ledger_query(
        &self,
        target: &Session,
        model: &EntityModel,
    ) -> Result<String> {
        if let Some(ranges) = self.as_rows() {
            let lookup = regraft_ledger::fingerprints_in_ranges(&model.name, &ranges, LAST);
            if is_by_index(target, &lookup).await? {
                return Ok(lookup);
            }
        }
        let key = match model.numeric {
            true => "legacy_id::bigint",
            false => "legacy_id",
        };
        let condition = self.condition(key);
        Ok(regraft_ledger::fingerprints_where(
            &model.name,
            key,
            &condition,
        ))
    }

    /// The first ids of ranges that can be looked up one by one, as rows in order.
    fn as_rows(&self) -> Option<String> {
        let (Self::Few(ranges) | Self::Many(ranges)) = self else {
            return None;
        };
        let first = ranges.iter().map(|range| range << RANGE_BITS);
        Some(format!("unnest({}) regraft_range (first)", numbers(first)))
    }
}

fn numbers(of: impl Iterator<Item = i64>) -> String {
    let texts: Vec<String> = of.map(|n| n.to_string()).collect();
    quote::array(texts.iter().map(String::as_str), "int8")
}

/// Whether the server takes the ranges one after the other and looks each up by indexes alone. It
/// can't know how small they are, so that its own estimate of the costs says nothing.
async fn is_by_index(session: &Session, query: &str) -> Result<bool> {
    let row = session
        .query_one(&format!("explain (format json) {query}"), &[])
        .await;
    let plan: Value = row.map_err(|e| Error::from(session.error(e)))?.get(0);
    let root = plan.pointer("/0/Plan").unwrap_or(&Value::Null);
    let first = root.pointer("/Plans/0/Node Type").and_then(Value::as_str);
    let in_order = root["Node Type"] == "Nested Loop" && first == Some("Function Scan");
    Ok(in_order && looks_up(root))
}

fn looks_up(node: &Value) -> bool {
    let itself = match node["Node Type"].as_str() {
        Some("Function Scan") => node["Alias"] == "regraft_range",
        Some("Index Scan" | "Index Only Scan" | "Bitmap Index Scan") => {
            node.get("Index Cond").is_some()
        }
        Some(
            "Nested Loop" | "Bitmap Heap Scan" | "Sort" | "Incremental Sort" | "Result"
            | "Subquery Scan" | "Memoize" | "Limit",
        ) => true,
        _ => false,
    };
    let mut inner = node["Plans"].as_array().into_iter().flatten();
    itself && inner.all(looks_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_window_follows_from_its_share() {
        let of = |ranges: i64, step: i64, total| {
            let to_read = (0..ranges).map(|n| (n * step, WIDTH)).collect();
            windows_of(&to_read, total)
        };
        assert!(matches!(of(300, 2, 10)[..], [Window::Few(_)]));
        assert!(matches!(of(1_000, 16, 1_000_000)[..], [Window::Many(_)]));
        assert!(matches!(of(15_000, 2, 1_000_000)[0], Window::Most(_)));
        assert!(matches!(of(1_000, 1, 1_000_000)[..], [Window::Span(..)]));
        assert!(of(0, 1, 10).is_empty());
    }
}
