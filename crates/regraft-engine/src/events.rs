//! What the engine tells while it works, for progress bars and plain lines.

use std::sync::Arc;

use crate::pacing::PaceChange;

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// A run began, or an earlier one is continued.
    RunStarted {
        /// Its id.
        run_id: String,
        /// Whether it was begun by an earlier process.
        resumed: bool,
        /// Entities in order.
        entities: Vec<String>,
        /// The server process of the target connection that holds the run's lock.
        backend: i32,
    },
    /// An entity began.
    EntityStarted {
        /// The entity.
        entity: String,
        /// Source rows to go through (filtered rows included).
        rows: u64,
        /// Batches to go through.
        batches: u64,
        /// `bulk` or `in-place`.
        mode: &'static str,
    },
    /// Source rows of an entity are done for good: their batch is committed.
    RowsDone {
        /// The entity.
        entity: String,
        /// Their batch, where they are of one.
        batch: Option<i32>,
        /// How many.
        rows: u64,
    },
    /// An entity went to another phase, such as `indexes` or `foreign keys`.
    PhaseStarted {
        /// The entity.
        entity: String,
        /// What is being done, for people.
        phase: String,
    },
    /// An entity is done.
    EntityFinished {
        /// The entity.
        entity: String,
        /// Rows written.
        inserted: u64,
        /// Rows in quarantine or blocked.
        left: u64,
        /// Seconds it took.
        seconds: f64,
    },
    /// The work goes slower or faster than before.
    PaceChanged(PaceChange),
    /// Something worth telling that stops nothing.
    Note(String),
}

/// Where events go.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Sends every event to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells an event.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
