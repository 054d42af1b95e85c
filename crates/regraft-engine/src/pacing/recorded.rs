//! What is told of the rate, and kept with the runs that it held.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::controller::{Change, PaceRate};
use super::reading::PaceReason;

/// The field of a run's detail.
pub(crate) const FIELD: &str = "pace";

/// Changes that are kept with a run: the last ones.
const KEPT: usize = 20;

/// A change of the rate.
#[derive(Debug, Clone, PartialEq)]
pub struct PaceChange {
    /// How fast the work goes now.
    pub rate: PaceRate,
    /// Whether that is slower than before.
    pub slower: bool,
    /// Why.
    pub reason: PaceReason,
}

impl PaceChange {
    pub(super) fn of(change: &Change) -> Self {
        Self {
            rate: change.rate,
            slower: change.slower,
            reason: change.reason.clone(),
        }
    }
}

impl std::fmt::Display for PaceChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = if self.slower { "slower" } else { "faster" };
        write!(f, "{way}, {}: {}", self.rate, self.reason)
    }
}

/// The rate of a run at one time, and why it is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaceStep {
    /// Since when; RFC 3339, UTC.
    pub since: String,
    /// How fast.
    #[serde(flatten)]
    pub rate: PaceRate,
    /// Whether that was slower than before.
    pub slower: bool,
    /// `probe`, `replication_lag`, `archiving`, `lock_waits`, `connections` or `calm`.
    pub reason: String,
    /// The reason in words.
    pub why: String,
}

/// How the rate of a run has changed, as it is kept with the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedPace {
    /// How often it has changed.
    pub changes: u64,
    /// The last changes, the latest last.
    pub last: VecDeque<PaceStep>,
}

impl RecordedPace {
    /// What the detail of a run says; `None` where nothing has been held back.
    pub(crate) fn of(detail: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(detail.get(FIELD)?.clone()).ok()
    }

    pub(super) fn add(&mut self, change: &PaceChange) {
        self.changes += 1;
        self.last.push_back(PaceStep {
            since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            rate: change.rate,
            slower: change.slower,
            reason: change.reason.code().to_owned(),
            why: change.reason.to_string(),
        });
        while self.last.len() > KEPT {
            self.last.pop_front();
        }
    }

    /// How fast the work goes and why, in words, while it is held back.
    pub fn held_back(&self) -> Option<String> {
        let now = self.last.back().filter(|now| !now.rate.is_full())?;
        let slower = self.last.iter().rev().find(|step| step.slower);
        let why = slower.map_or(&now.why, |step| &step.why);
        let since = slower.map_or(&now.since, |step| &step.since);
        Some(format!("{}, because {why} (since {since})", now.rate))
    }
}
