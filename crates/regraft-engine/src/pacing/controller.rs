//! How fast the work may go, given what was measured. Nothing here asks anybody or waits.
//!
//! The rate is halved when a limit is exceeded, and rises slowly while all is calm. What lies between
//! calm and too much leaves it as it is. What only comes once may be chance.

use regraft_pg::Side;
use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::reading::{PaceReason, Reading, WAITING_FILES};

/// The least that is done, as a part of what one worker does.
const LEAST: f64 = 1.0 / 16.0;

/// Measurements for which a new rate is given time to show.
const SETTLE: u32 = 2;

/// Calm measurements before the rate rises.
const CALM: u32 = 3;

/// Up to this part of a limit all is calm.
const NEAR: f64 = 0.8;

/// How fast the work may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceRate {
    /// Batches at work side by side, 1 or more.
    pub workers: usize,
    /// Of so many.
    pub of: usize,
    /// The part of its time that a single worker works, and of the rows it takes at a time: percent.
    pub percent: u32,
    /// Whether nothing new is begun for now.
    pub stopped: bool,
}

impl PaceRate {
    /// Whether nothing is held back.
    pub fn is_full(&self) -> bool {
        !self.stopped && self.workers == self.of && self.percent == 100
    }
}

impl std::fmt::Display for PaceRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { stopped: true, .. } => f.write_str("nothing new is begun"),
            rate if rate.is_full() => f.write_str("full speed"),
            Self {
                workers,
                of,
                percent: 100,
                ..
            } => write!(f, "{workers} of {of} workers"),
            Self { of, percent, .. } => write!(f, "1 of {of} workers, {percent} % of its time"),
        }
    }
}

/// A change of the rate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) rate: PaceRate,
    /// Whether it is less than before.
    pub(super) slower: bool,
    pub(super) reason: PaceReason,
}

/// What is remembered from one measurement to the next.
#[derive(Debug, Clone)]
pub(super) struct Controller {
    budget: Budget,
    /// Workers that there are.
    of: usize,
    /// Workers that may work, and below 1 the part of its time that the last one does.
    level: f64,
    stopped: bool,
    /// Measurements until the last rate has shown.
    settling: u32,
    calm: u32,
    /// Where something was over its limit the last time that may have been chance.
    suspected: Vec<(Side, &'static str)>,
}

impl Controller {
    /// At full speed, for so many workers.
    pub(super) fn new(budget: Budget, of: usize) -> Self {
        let of = of.max(1);
        Self {
            budget,
            of,
            level: of as f64,
            stopped: false,
            settling: 0,
            calm: 0,
            suspected: Vec::new(),
        }
    }

    /// There are so many workers now. Whoever was not held back isn't.
    pub(super) fn resize(&mut self, of: usize) {
        let (before, of) = (self.of as f64, of.max(1));
        self.of = of;
        self.level = match self.level >= before {
            true => of as f64,
            false => self.level.min(of as f64),
        };
    }

    /// The rate now.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1/16 and the number of workers"
    )]
    pub(super) fn rate(&self) -> PaceRate {
        PaceRate {
            workers: (self.level.floor() as usize).clamp(1, self.of),
            of: self.of,
            percent: (self.level * 100.0).round().clamp(1.0, 100.0) as u32,
            stopped: self.stopped,
        }
    }

    /// Takes a measurement of the servers; the change that follows from it, if any does.
    pub(super) fn take(&mut self, readings: &[Reading]) -> Option<Change> {
        let before = self.rate();
        let reason = self.judge(readings)?;
        let rate = self.rate();
        (rate != before).then(|| Change {
            rate,
            slower: reason != PaceReason::Calm,
            reason,
        })
    }

    fn judge(&mut self, readings: &[Reading]) -> Option<PaceReason> {
        self.settling = self.settling.saturating_sub(1);
        let found: Vec<PaceReason> = readings.iter().flat_map(|r| self.over(r)).collect();
        let suspected = std::mem::take(&mut self.suspected);
        let mut reasons = Vec::new();
        for reason in found {
            match chance(&reason) {
                Some(place) => {
                    if suspected.contains(&place) {
                        reasons.push(reason);
                    }
                    self.suspected.push(place);
                }
                None => reasons.push(reason),
            }
        }
        let stop = reasons.iter().position(PaceReason::stops);
        if let Some(reason) = stop.map(|at| reasons.swap_remove(at)) {
            self.calm = 0;
            if !self.stopped {
                self.stopped = true;
                self.halve();
            }
            return Some(reason);
        }
        if self.stopped {
            // Whatever else is too much, it is no reason to stand still.
            self.calm += 1;
            if self.calm >= SETTLE {
                self.stopped = false;
                self.calm = 0;
            }
            return Some(PaceReason::Calm);
        }
        if let Some(reason) = reasons.into_iter().next() {
            self.calm = 0;
            if self.settling == 0 {
                self.halve();
            }
            return Some(reason);
        }
        if !self.suspected.is_empty() || readings.iter().any(|r| self.is_near(r)) {
            self.calm = 0;
            return None;
        }
        self.calm += 1;
        if self.calm >= CALM {
            self.calm = 0;
            self.raise();
        }
        Some(PaceReason::Calm)
    }

    fn halve(&mut self) {
        self.level = (self.level / 2.0).max(LEAST);
        self.settling = SETTLE;
    }

    fn raise(&mut self) {
        let step = match self.level < 1.0 {
            true => 0.125,
            false => (self.of as f64 / 16.0).max(0.25),
        };
        self.level = (self.level + step).min(self.of as f64);
    }

    /// What is over its limit on a server, the worst first.
    fn over(&self, reading: &Reading) -> Vec<PaceReason> {
        let side = reading.side;
        let mut over = Vec::new();
        if let Some(keep) = self.budget.connections.get()
            && reading.free < i64::from(keep)
        {
            let free = reading.free.max(0);
            over.push(PaceReason::Connections { side, free, keep });
        }
        if reading.archiving_fails || reading.files_waiting > WAITING_FILES {
            over.push(PaceReason::Archiving {
                side,
                fails: reading.archiving_fails,
                files: reading.files_waiting,
            });
        }
        if let (Some(limit), Some(lag)) = (self.budget.replication_lag.get(), reading.lag)
            && lag.time > limit
        {
            over.push(PaceReason::ReplicationLag {
                side,
                seconds: lag.time.as_secs_f64(),
                bytes: lag.bytes,
                limit: limit.as_secs_f64(),
            });
        }
        if reading.waiting_for_us > 0 {
            over.push(PaceReason::LockWaits {
                side,
                sessions: reading.waiting_for_us,
            });
        }
        if let Some(factor) = self.budget.load.get()
            && reading.probe > reading.usual.mul_f64(factor)
        {
            over.push(PaceReason::Probe {
                side,
                milliseconds: reading.probe.as_secs_f64() * 1e3,
                limit: reading.usual.mul_f64(factor).as_secs_f64() * 1e3,
            });
        }
        over
    }

    /// Whether something is so near to its limit that going faster would exceed it.
    fn is_near(&self, reading: &Reading) -> bool {
        let probe = self
            .budget
            .load
            .get()
            .is_some_and(|factor| reading.probe > reading.usual.mul_f64(factor * NEAR));
        let limit = self.budget.replication_lag.get();
        let lag = limit
            .zip(reading.lag)
            .is_some_and(|(limit, lag)| lag.time > limit.mul_f64(NEAR));
        probe || lag
    }
}

/// What may be chance when it comes once, and where.
fn chance(reason: &PaceReason) -> Option<(Side, &'static str)> {
    match reason {
        PaceReason::Probe { side, .. } | PaceReason::LockWaits { side, .. } => {
            Some((*side, reason.code()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
