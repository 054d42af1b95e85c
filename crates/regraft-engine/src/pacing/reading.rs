//! What was measured on a server, and why the rate of the work is another than before.

use std::time::Duration;

use regraft_pg::Side;
use serde::Serialize;

/// Files of WAL, 16 MB each unless the server was built otherwise, that may wait to be archived.
pub(super) const WAITING_FILES: i64 = 16;

/// What was measured on one server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// The server.
    pub(super) side: Side,
    /// How long the probe query took.
    pub(super) probe: Duration,
    /// How long it takes usually.
    pub(super) usual: Duration,
    /// How far the standby that is furthest behind is; `None` where there is none to be seen.
    pub(super) lag: Option<Lag>,
    /// Whether the last attempt to archive a file of WAL has failed.
    pub(super) archiving_fails: bool,
    /// Files of WAL that wait to be archived.
    pub(super) files_waiting: i64,
    /// Sessions of others that wait for locks of ours.
    pub(super) waiting_for_us: i64,
    /// Connections that are free.
    pub(super) free: i64,
}

/// How far a standby is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lag {
    /// Since when there is something that it has not replayed.
    pub(super) time: Duration,
    /// How much.
    pub(super) bytes: i64,
}

/// Why the rate of the work is another than before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaceReason {
    /// A probe query takes too long.
    Probe {
        /// Where.
        side: Side,
        /// Milliseconds that it took.
        milliseconds: f64,
        /// Milliseconds that it may take.
        limit: f64,
    },
    /// A standby is too far behind.
    ReplicationLag {
        /// Whose.
        side: Side,
        /// Seconds.
        seconds: f64,
        /// Bytes.
        bytes: i64,
        /// Seconds that it may be.
        limit: f64,
    },
    /// WAL isn't archived.
    Archiving {
        /// Where.
        side: Side,
        /// Whether the last attempt has failed.
        fails: bool,
        /// Files that wait.
        files: i64,
    },
    /// Others wait for locks of ours.
    LockWaits {
        /// Where.
        side: Side,
        /// Their sessions.
        sessions: i64,
    },
    /// Too few connections are left.
    Connections {
        /// Where.
        side: Side,
        /// So many are.
        free: i64,
        /// So many should be.
        keep: u32,
    },
    /// Nothing is over its limit any more.
    Calm,
}

impl PaceReason {
    /// What [`PaceReason::code`] may be.
    pub const CODES: [&str; 6] = [
        "probe",
        "replication_lag",
        "archiving",
        "lock_waits",
        "connections",
        "calm",
    ];

    /// As it is logged: `probe`, `replication_lag`, `archiving`, `lock_waits`, `connections`, `calm`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Probe { .. } => "probe",
            Self::ReplicationLag { .. } => "replication_lag",
            Self::Archiving { .. } => "archiving",
            Self::LockWaits { .. } => "lock_waits",
            Self::Connections { .. } => "connections",
            Self::Calm => "calm",
        }
    }

    /// Whether nothing is done while it lasts: what is short would be gone, and a disk would be full.
    pub(super) fn stops(&self) -> bool {
        matches!(self, Self::Archiving { .. } | Self::Connections { .. })
    }
}

impl std::fmt::Display for PaceReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Probe {
                side,
                milliseconds,
                limit,
            } => write!(
                f,
                "the {} answers a probe in {milliseconds:.1} ms, where {limit:.1} ms are allowed",
                side.name()
            ),
            Self::ReplicationLag {
                side,
                seconds,
                bytes,
                limit,
            } => write!(
                f,
                "a standby of the {} is {seconds:.0} s ({:.1} MB) behind, where {limit:.0} s are allowed",
                side.name(),
                *bytes as f64 / 1e6
            ),
            Self::Archiving {
                side, fails: true, ..
            } => write!(f, "the {} can't archive its WAL", side.name()),
            Self::Archiving { side, files, .. } => write!(
                f,
                "{files} files of the {}'s WAL wait to be archived",
                side.name()
            ),
            Self::LockWaits { side, sessions } => write!(
                f,
                "{sessions} {} of others {} for locks of ours on the {}",
                if *sessions == 1 {
                    "session"
                } else {
                    "sessions"
                },
                if *sessions == 1 { "waits" } else { "wait" },
                side.name()
            ),
            Self::Connections { side, free, keep } => write!(
                f,
                "the {} has {free} free connections, where {keep} are to be left",
                side.name()
            ),
            Self::Calm => f.write_str("all is calm"),
        }
    }
}
