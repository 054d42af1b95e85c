//! Which rows of an entity are not what the ledger last agreed on: found by the source's own sums
//! where they tell, and by the fingerprints of rows in the ranges where they don't.

use std::collections::{BTreeMap, HashMap, HashSet};

use regraft_ledger::{AgreedRange, Bucket, RANGE_BITS};
use regraft_pg::Session;
use regraft_pg::copy::Rows as Tuples;
use tokio::try_join;
use xxhash_rust::xxh3::xxh3_128;

use super::cursor::Reach;
use super::sums::{SourceRange, Sums, aggregate};
use super::window::{AT_ONCE, Window, are_few, windows_of};
use crate::error::{Error, Kind, Result};
use crate::keys::LegacyId;
use crate::load::{Merged, Rows, corrupt, is_about_rows, partition, read_rows, wanted_condition};
use crate::model::EntityModel;
use crate::source_load::SourceLoad;

/// What has changed in the source since the last agreement.
#[derive(Debug, Default)]
pub(super) struct Detected {
    /// Rows before filters.
    pub(super) source_rows: i64,
    /// Rows dropped, by filter.
    pub(super) filtered: BTreeMap<String, i64>,
    /// Rows whose values were read, not only summed up.
    pub(super) read: i64,
    /// Rows that are in place and as they were.
    pub(super) unchanged: i64,
    /// Rows that nobody has seen yet.
    pub(super) new: Vec<LegacyId>,
    /// Rows that earlier runs left behind, and that are in quarantine.
    pub(super) left: Vec<LegacyId>,
    /// Rows that earlier runs left behind, and that the source has no more.
    pub(super) left_and_gone: Vec<String>,
    /// Rows that somebody decided not to move: those in quarantine, and those blocked.
    pub(super) dropped: (i64, i64),
    /// Rows in place that read otherwise now.
    pub(super) changed: Vec<LegacyId>,
    /// Rows in place that the source has no more, or that a filter drops now.
    pub(super) deleted: Vec<LegacyId>,
    /// Of rows in place, those that the source can't compute any more.
    pub(super) unreadable: Vec<LegacyId>,
    /// The ranges that were read, as the source says they are.
    pub(super) ranges: Vec<AgreedRange>,
    /// The ranges that were known and have no rows in the source any more.
    pub(super) ranges_gone: Vec<i64>,
    /// What the ranges are of; empty where there are none.
    pub(super) layout: String,
}

impl Detected {
    /// Rows that the filters keep.
    pub(super) fn kept(&self) -> i64 {
        self.source_rows - self.filtered.values().sum::<i64>()
    }
}

/// The number of the range that a legacy id is in.
pub(super) fn range_of(id: &LegacyId) -> Option<i64> {
    match id {
        LegacyId::Number(number) => Some(number >> RANGE_BITS),
        LegacyId::Text(_) => None,
    }
}

/// How to look at the source of an entity.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Rows to be taken for changed whatever their own values say: rows that they refer to have come
    /// or gone.
    pub(super) revisited: HashSet<LegacyId>,
    /// The run that looks, with whether it was begun by an earlier process.
    pub(super) run: Option<(i32, bool)>,
    /// Read every row, whatever sums say.
    pub(super) every_row: bool,
    /// The cursor and from which value on rows may have changed.
    pub(super) cursor: Option<Reach>,
}

/// Holds an entity's source against the ledger.
///
/// # Errors
/// A server that can't be reached; a query that the source refuses.
pub(super) async fn detect(
    source: &Session,
    target: &Session,
    model: &EntityModel,
    merged: &Merged,
    look: &Look,
    load: &SourceLoad<'_>,
) -> Result<Detected> {
    let entity = model.name.as_str();
    let stopped = regraft_ledger::stopped_rows(&**target, entity).await?;
    let (dropped, open): (Vec<_>, Vec<_>) = stopped.into_iter().partition(|(.., dropped)| *dropped);
    let open: HashSet<String> = open.into_iter().map(|(id, ..)| id).collect();
    let dropped = dropped
        .into_iter()
        .map(|(id, bucket, _)| (id, bucket))
        .collect();
    let mut detected = Detected::default();
    let ranges = Ranges {
        source,
        target,
        model,
        look,
        load,
    };
    let windows = match ranges.windows(&mut detected).await? {
        Some(windows) => windows,
        None => by_spans(source, model, &mut detected).await?,
    };
    let walk = Walk {
        source,
        target,
        model,
        merged,
        revisited: &look.revisited,
        open: &open,
        dropped: &dropped,
    };
    for window in windows {
        load.wait().await?;
        walk.window(&window, &mut detected).await?;
    }
    // A range with a row in quarantine is never agreed on, so that all of these were looked for.
    let found: HashSet<String> = detected.left.iter().map(ToString::to_string).collect();
    detected.left_and_gone = open.difference(&found).cloned().collect();
    Ok(detected)
}

/// Looks for ranges that are not as they were agreed on.
struct Ranges<'a> {
    source: &'a Session,
    target: &'a Session,
    model: &'a EntityModel,
    look: &'a Look,
    load: &'a SourceLoad<'a>,
}

impl Ranges<'_> {
    /// The windows of ranges to be read; `None` where sums can't be had.
    async fn windows(&self, detected: &mut Detected) -> Result<Option<Vec<Window>>> {
        let Some(sums) = Sums::of(self.source, self.model).await? else {
            return Ok(None);
        };
        let known = async {
            let (layout, run) = (sums.layout.as_str(), self.look.run);
            let known =
                regraft_ledger::known_ranges(&**self.target, &self.model.name, layout, run).await?;
            let known = known.into_iter().map(|known| (known.range, known.agreed));
            Ok::<_, Error>(known.collect::<BTreeMap<_, _>>())
        };
        let (known, said) = match &self.look.cursor {
            None => try_join!(known, self.sum_up(&sums))?,
            Some(reach) => {
                let known = known.await?;
                let said = self.by_cursor(&sums, reach, &known).await?;
                (known, said)
            }
        };
        let Some(said) = said else {
            return Ok(None);
        };
        detected.layout = sums.layout;
        Ok(Some(self.differing(known, said, detected)))
    }

    /// What the source says of all ranges.
    async fn sum_up(&self, sums: &Sums<'_>) -> Result<Option<Vec<SourceRange>>> {
        let mut said = Vec::new();
        for span in self.load.spans(self.source, self.model).await? {
            self.load.wait().await?;
            match sums.read(span.as_deref()).await? {
                Some(ranges) => said.extend(ranges),
                None => return Ok(None),
            }
        }
        Ok(Some(said))
    }

    /// What the source says of all ranges, where those that the cursor doesn't point out are taken to
    /// be as they were agreed on while they have as many rows.
    async fn by_cursor(
        &self,
        sums: &Sums<'_>,
        reach: &Reach,
        known: &BTreeMap<i64, Option<AgreedRange>>,
    ) -> Result<Option<Vec<SourceRange>>> {
        let mut counted = Vec::new();
        for span in self.load.spans(self.source, self.model).await? {
            self.load.wait().await?;
            let touched = reach.touched();
            match aggregate(self.source, self.model, &touched, span.as_deref()).await? {
                Some(ranges) => counted.extend(ranges),
                None => return Ok(None),
            }
        }
        let (mut said, mut touched) = (Vec::new(), Vec::new());
        for range in counted {
            let agreed = known.get(&range.range).and_then(Option::as_ref);
            match agreed
                .filter(|a| a.source_rows == range.source_rows && !range.row.get::<_, bool>(0))
            {
                Some(agreed) => said.push(SourceRange {
                    said: agreed.clone(),
                    filtered: range.filtered,
                }),
                None => touched.push(range.range),
            }
        }
        let total = said.iter().map(|range| range.said.source_rows).sum();
        let few = are_few(touched.len(), total);
        for touched in touched.chunks(if few { 1_000 } else { 100_000 }) {
            self.load.wait().await?;
            let window = match few {
                true => Window::Few(touched.to_vec()),
                false => Window::Many(touched.to_vec()),
            };
            let condition = window.condition(&self.model.key_order());
            match sums.read(Some(&condition)).await? {
                Some(ranges) => said.extend(ranges),
                None => return Ok(None),
            }
        }
        said.sort_unstable_by_key(|range| range.said.range);
        Ok(Some(said))
    }

    /// The windows of those ranges that are not as they were agreed on.
    fn differing(
        &self,
        mut known: BTreeMap<i64, Option<AgreedRange>>,
        said: Vec<SourceRange>,
        detected: &mut Detected,
    ) -> Vec<Window> {
        let revisited: HashSet<i64> = self.look.revisited.iter().filter_map(range_of).collect();
        let mut to_read = BTreeMap::new();
        let mut total = 0;
        for SourceRange { said, filtered } in said {
            let agreed = known.remove(&said.range).flatten();
            total += said.source_rows;
            detected.source_rows += said.source_rows;
            for (name, count) in filtered {
                *detected.filtered.entry(name).or_default() += count;
            }
            let same = agreed.as_ref() == Some(&said) && !self.look.every_row;
            if same && !revisited.contains(&said.range) {
                detected.unchanged += said.kept_rows;
            } else {
                to_read.insert(said.range, said.kept_rows);
                detected.ranges.push(said);
            }
        }
        // What was known and has no rows any more isn't among what the source says.
        detected.ranges_gone = known.into_keys().collect();
        to_read.extend(detected.ranges_gone.iter().map(|range| (*range, 0)));
        windows_of(&to_read, total)
    }
}

/// Windows over all rows, where sums don't tell.
async fn by_spans(
    source: &Session,
    model: &EntityModel,
    detected: &mut Detected,
) -> Result<Vec<Window>> {
    let size = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
    let parts = partition(source, model, size, &[]).await?;
    let mut windows = Vec::new();
    let mut above = None;
    for (at, part) in parts.iter().enumerate() {
        detected.source_rows += part.rows;
        for (name, count) in &part.filtered {
            *detected.filtered.entry(name.clone()).or_default() += count;
        }
        // What lies between parts is the ledger's alone, if anything is there.
        let up_to = (at + 1 < parts.len()).then(|| part.high.clone());
        windows.push(Window::Span(above, up_to.clone()));
        above = up_to;
    }
    if windows.is_empty() {
        windows.push(Window::Span(None, None));
    }
    Ok(windows)
}

/// A row as the ledger knows it.
struct Known {
    id: LegacyId,
    fingerprint: u128,
}

/// Goes through windows.
struct Walk<'a> {
    source: &'a Session,
    target: &'a Session,
    model: &'a EntityModel,
    merged: &'a Merged,
    revisited: &'a HashSet<LegacyId>,
    open: &'a HashSet<String>,
    dropped: &'a HashMap<String, Bucket>,
}

impl Walk<'_> {
    async fn window(&self, window: &Window, detected: &mut Detected) -> Result<()> {
        let (rows, known) = try_join!(self.source_rows(window), self.known(window))?;
        let mut known = known.into_iter().peekable();
        for (id, print) in rows {
            while let Some(gone) = known.next_if(|known| known.id < id) {
                detected.deleted.push(gone.id);
            }
            detected.read += 1;
            let in_place = known.next_if(|known| known.id == id);
            match (in_place, print) {
                (None, _) if self.dropped.contains_key(&id.to_string()) => {
                    match self.dropped.get(&id.to_string()) {
                        Some(Bucket::Blocked) => detected.dropped.1 += 1,
                        _ => detected.dropped.0 += 1,
                    }
                }
                (None, _) if self.open.contains(&id.to_string()) => detected.left.push(id),
                (None, _) => detected.new.push(id),
                (Some(_), None) => detected.unreadable.push(id),
                (Some(known), Some(print)) => {
                    let same = known.fingerprint == print && !self.revisited.contains(&id);
                    // A merged row has no row of its own that could be changed.
                    if same || self.merged.contains_key(&id) {
                        detected.unchanged += 1;
                    } else {
                        detected.changed.push(id);
                    }
                }
            }
        }
        detected.deleted.extend(known.map(|known| known.id));
        Ok(())
    }

    /// The kept rows of a window, in order, with the fingerprints of those that can be computed.
    async fn source_rows(&self, window: &Window) -> Result<Vec<(LegacyId, Option<u128>)>> {
        let query = window.source_query(self.source, self.model).await?;
        match self.prints(&query).await {
            Ok(rows) => return Ok(rows),
            Err(error) if is_about_rows(&error) => {}
            Err(error) => return Err(error),
        }
        // Some row can't be computed: which ones is found by halves.
        let keys = self
            .keys(&window.condition(&self.model.key_order()))
            .await?;
        let mut rows = Vec::with_capacity(keys.len());
        let mut waiting = vec![keys];
        while let Some(ids) = waiting.pop() {
            let query = read_rows(self.model, &Rows::Ids(ids.clone()));
            match self.prints(&query).await {
                Ok(found) => rows.extend(found),
                Err(error) if is_about_rows(&error) && ids.len() > 1 => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    waiting.push(second.to_vec());
                    waiting.push(first.to_vec());
                }
                Err(error) if is_about_rows(&error) => {
                    rows.extend(ids.into_iter().map(|id| (id, None)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }

    async fn keys(&self, condition: &str) -> Result<Vec<LegacyId>> {
        let (source, model) = (self.source, self.model);
        let sql = format!(
            "select {} from {}\nwhere {} and {condition} order by {}",
            model.key_value(),
            model.from,
            wanted_condition(model),
            model.key_order(),
        );
        let rows = source.query(&sql, &[]).await?;
        let ids = rows.iter();
        Ok(ids
            .map(|row| LegacyId::from_row(model.numeric, row, 0))
            .collect())
    }

    /// Fingerprints of the rows of a query; an error leaves the source's transaction usable.
    async fn prints(&self, query: &str) -> Result<Vec<(LegacyId, Option<u128>)>> {
        let source = self.source;
        source.batch_execute("savepoint regraft_detect").await?;
        let read = self.read_prints(query).await;
        let then = match &read {
            Ok(_) => "release savepoint regraft_detect",
            Err(_) if source.is_closed() => return read,
            Err(_) => "rollback to savepoint regraft_detect",
        };
        source.batch_execute(then).await?;
        read
    }

    async fn read_prints(&self, query: &str) -> Result<Vec<(LegacyId, Option<u128>)>> {
        let model = self.model;
        let mut tuples = Tuples::of(self.source, query, model.fields.len() + 1).await?;
        let mut rows: Vec<(LegacyId, Option<u128>)> = Vec::new();
        while let Some(row) = tuples.next().await? {
            let id = LegacyId::from_field(model.numeric, row.get(0));
            let id = id.ok_or_else(|| corrupt(&model.name))?;
            if rows.last().is_some_and(|(last, _)| *last == id) {
                return Err(Error::new(
                    Kind::Usage,
                    format!("legacy id {id} comes more than once out of the source: the key is not unique"),
                )
                .hint("a join in `source.from` multiplies rows, or `source.key` is not the row's own id"));
            }
            rows.push((id, Some(xxh3_128(row.bytes()))));
        }
        Ok(rows)
    }

    /// What the ledger knows of a window, in order.
    async fn known(&self, window: &Window) -> Result<Vec<Known>> {
        let numeric = self.model.numeric;
        let query = window.ledger_query(self.target, self.model).await?;
        let mut tuples = Tuples::of(self.target, &query, 2).await?;
        let mut known = Vec::new();
        while let Some(row) = tuples.next().await? {
            let id = LegacyId::from_field(numeric, row.get(0));
            let print = row.get(1).and_then(|bytes| bytes.try_into().ok());
            let (Some(id), Some(print)) = (id, print) else {
                return Err(Error::new(
                    Kind::Internal,
                    "a mapping of the ledger can't be read",
                ));
            };
            known.push(Known {
                id,
                fingerprint: u128::from_be_bytes(print),
            });
        }
        Ok(known)
    }
}
