//! Whose turn it is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::controller::PaceRate;
use super::recorded::RecordedPace;

/// The longest rest between two batches of a worker that works a part of its time.
const LONGEST_REST: Duration = Duration::from_secs(3);

/// Rows of a transaction where somebody watches, at most: what is under way can't be slowed down.
const MOST_ROWS: usize = 2_000;

/// Rows of the first batch that is measured.
const FIRST_ROWS: usize = 200;

/// How long a measured batch is to take.
const FITTING: Duration = Duration::from_millis(500);

/// Rows of a measured batch at least.
const LEAST_FITTING: usize = 20;

/// At least a part like this is taken of the rows of a batch, in percent: smaller ones cost more than
/// they spare.
const LEAST_ROWS: u32 = 25;

/// After so long, whoever waits looks again.
const LOOK: Duration = Duration::from_secs(1);

/// The pace of a process: all its runs share it. Nothing is held back until a run is watched that has a
/// budget.
#[derive(Clone, Default)]
pub struct Pace(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// Held while somebody begins to watch.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    /// `None` while nothing is held back.
    pub(super) rate: Option<PaceRate>,
    /// What has come of it so far.
    pub(super) recorded: RecordedPace,
    at_work: usize,
    rest_until: Option<Instant>,
    /// Those who wait for their turn, in the order in which they came.
    waiting: BTreeSet<u64>,
    pub(super) members: Vec<Member>,
    next_id: u64,
    pub(super) watcher: Option<CancellationToken>,
}

/// A run that keeps the pace.
pub(super) struct Member {
    id: u64,
    /// Its number; `None` for what only looks.
    pub(super) run_no: Option<i32>,
    workers: usize,
    /// How many changes of the rate have been recorded with it.
    pub(super) recorded: u64,
}

impl State {
    /// Whether who waits under this number may go on; if not, after which time to ask again at the
    /// latest.
    fn may_go(&mut self, number: u64) -> Result<(), Duration> {
        if let Some(rate) = self.rate {
            let is_first = self.waiting.first() == Some(&number);
            if rate.stopped || self.at_work >= rate.workers || !is_first {
                return Err(LOOK);
            }
            let rest = self
                .rest_until
                .map(|at| at.saturating_duration_since(Instant::now()));
            if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
                return Err(rest);
            }
        }
        self.at_work += 1;
        Ok(())
    }

    /// Workers of all members.
    pub(super) fn workers(&self) -> usize {
        self.members.iter().map(|member| member.workers).sum()
    }
}

impl Pace {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn beginning(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.beginning.lock().await
    }

    /// Tells those who wait that something is other than before.
    pub(super) fn tell(&self) {
        self.0.changed.notify_waiters();
    }

    /// Waits until it may go on with the next batch. To be held until it is done, and never together
    /// with another turn.
    pub(crate) async fn turn(&self) -> Turn {
        let place = Place::last(self);
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let wait = match self.state().may_go(place.number) {
                Ok(()) => {
                    return Turn {
                        pace: self.clone(),
                        began: Instant::now(),
                    };
                }
                Err(wait) => wait,
            };
            let _ = tokio::time::timeout(wait, changed).await;
        }
    }

    /// How many rows to take at a time where it would be so many if nobody watched.
    pub(crate) fn rows(&self, full: usize) -> usize {
        let state = self.state();
        if state.watcher.is_none() {
            return full;
        }
        let percent = state.rate.map_or(100, |rate| rate.percent);
        (full.min(MOST_ROWS) * percent.max(LEAST_ROWS) as usize / 100).max(1)
    }

    /// The same for rows of which nobody knows how long they take, each batch of them being measured.
    pub(crate) fn measured(&self, full: usize) -> Measured {
        Measured {
            pace: self.clone(),
            full,
            fitting: FIRST_ROWS,
        }
    }

    pub(super) fn join(&self, run_no: Option<i32>, workers: usize) -> u64 {
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        state.members.push(Member {
            id,
            run_no,
            workers,
            recorded: 0,
        });
        id
    }

    /// The last one to leave ends the watching.
    pub(super) fn leave(&self, id: u64) {
        let mut state = self.state();
        state.members.retain(|member| member.id != id);
        if state.members.is_empty() {
            if let Some(watcher) = state.watcher.take() {
                watcher.cancel();
            }
            state.rate = None;
            state.rest_until = None;
            state.recorded = RecordedPace::default();
        }
        drop(state);
        self.tell();
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pace({:?})", self.state().rate)
    }
}

/// Batches that are as large as fits into a short time, where somebody watches.
pub(crate) struct Measured {
    pace: Pace,
    full: usize,
    fitting: usize,
}

impl Measured {
    /// How many rows to take now.
    pub(crate) fn rows(&self) -> usize {
        let rows = self.pace.rows(self.full);
        match self.pace.state().watcher.is_none() {
            true => rows,
            false => rows.min(self.fitting),
        }
    }

    /// So many rows took so long.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded before it is used"
    )]
    pub(crate) fn took(&mut self, rows: usize, time: Duration) {
        let fitting = rows as f64 * FITTING.as_secs_f64() / time.as_secs_f64().max(1e-6);
        self.fitting = (fitting as usize).clamp(LEAST_FITTING, MOST_ROWS);
    }
}

/// The place of somebody who waits.
struct Place<'a> {
    pace: &'a Pace,
    number: u64,
}

impl<'a> Place<'a> {
    fn last(pace: &'a Pace) -> Self {
        let mut state = pace.state();
        state.next_id += 1;
        let number = state.next_id;
        state.waiting.insert(number);
        Self { pace, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pace.state().waiting.remove(&self.number);
        self.pace.tell();
    }
}

/// The right to do a batch.
pub(crate) struct Turn {
    pace: Pace,
    began: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.at_work = state.at_work.saturating_sub(1);
        if let Some(rate) = state.rate.filter(|rate| rate.percent < 100) {
            let rest = f64::from(100 - rate.percent) / f64::from(rate.percent);
            let rest = self.began.elapsed().mul_f64(rest).min(LONGEST_REST);
            state.rest_until = Some(Instant::now() + rest);
        }
        drop(state);
        self.pace.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(workers: usize, percent: u32, stopped: bool) -> PaceRate {
        PaceRate {
            workers,
            of: 4,
            percent,
            stopped,
        }
    }

    #[tokio::test]
    async fn so_many_go_at_a_time() {
        let pace = Pace::default();
        let (_one, _two) = (pace.turn().await, pace.turn().await);
        pace.state().rate = Some(rate(2, 100, false));
        let third = tokio::time::timeout(Duration::from_millis(50), pace.turn()).await;
        assert!(third.is_err(), "three at a time");
        drop(_one);
        pace.turn().await;
        pace.state().rate = Some(rate(2, 100, true));
        let more = tokio::time::timeout(Duration::from_millis(50), pace.turn()).await;
        assert!(more.is_err(), "although it is stopped");
        pace.state().rate = None;
        pace.tell();
        pace.turn().await;
    }

    #[tokio::test]
    async fn a_part_of_the_time_is_rested() {
        let pace = Pace::default();
        pace.state().rate = Some(rate(1, 25, false));
        let turn = pace.turn().await;
        tokio::time::sleep(Duration::from_millis(40)).await;
        let worked = turn.began.elapsed();
        drop(turn);
        let rested = Instant::now();
        pace.turn().await;
        assert!(
            rested.elapsed() >= worked * 2,
            "{:?} after {worked:?}",
            rested.elapsed()
        );
    }

    #[test]
    fn batches_are_as_large_as_fits() {
        let pace = Pace::default();
        assert_eq!(pace.rows(50_000), 50_000, "nobody watches");
        let mut measured = pace.measured(50_000);
        assert_eq!(measured.rows(), 50_000, "nobody watches");
        pace.state().watcher = Some(CancellationToken::new());
        assert_eq!((pace.rows(50_000), pace.rows(100)), (2_000, 100));
        assert_eq!(measured.rows(), FIRST_ROWS);
        assert_eq!(pace.measured(1_000).rows(), FIRST_ROWS);
        measured.took(200, Duration::from_secs(2));
        assert_eq!(measured.rows(), 50);
        measured.took(50, Duration::from_micros(10));
        assert_eq!(measured.rows(), 2_000);
        pace.state().rate = Some(rate(1, 10, false));
        assert_eq!(pace.rows(50_000), 500);
    }
}
