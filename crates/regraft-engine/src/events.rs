//! What the engine tells while it works, for progress bars and plain lines.

use std::sync::Arc;

use crate::error::{Error, Kind, Place};
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
    /// A batch is begun, perhaps not for the first time.
    BatchStarted {
        /// The entity.
        entity: String,
        /// Its number.
        batch: i32,
    },
    /// A batch is committed.
    BatchFinished {
        /// The entity.
        entity: String,
        /// Its number.
        batch: i32,
        /// Rows it was about.
        rows: u64,
    },
    /// Something failed of a fault that may pass, and is tried again.
    Retried {
        /// The entity, where it is about one.
        entity: Option<String>,
        /// The batch, where it is about one.
        batch: Option<i32>,
        /// What it failed of, and how often it is still tried, for people.
        text: String,
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
    /// A run ended, or is left for another process to go on with.
    RunFinished {
        /// Its id.
        run_id: String,
        /// What kind of error ended it, and where that happened; `None` where it is done.
        failed: Option<(Kind, Place)>,
    },
    /// A run of a job ended.
    JobEnded(JobEnd),
    /// A run of a job failed, and nobody else is told why.
    JobFailed {
        /// The job.
        job: String,
        /// Why.
        error: Arc<Error>,
    },
    /// The work goes slower or faster than before.
    PaceChanged(PaceChange),
    /// Something worth telling that stops nothing.
    Note(String),
}

/// What came of a run of a job.
#[derive(Debug, Clone)]
pub struct JobEnd {
    /// The job.
    pub job: String,
    /// `scheduled`, `manual` or `retry`.
    pub run_type: String,
    /// `completed`, `failed` or `cancelled`.
    pub outcome: &'static str,
    /// Seconds it took; `None` where the process that ran it is gone.
    pub seconds: Option<f64>,
    /// Rows inserted, updated or deleted.
    pub written: u64,
    /// Rows in quarantine or blocked.
    pub left_behind: u64,
    /// Source rows it went through.
    pub read: u64,
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

    /// Tells that a run ended, with this error or without one.
    pub(crate) fn run_finished(&self, run_id: String, error: Option<&Error>) {
        self.send(Event::RunFinished {
            run_id,
            failed: error.map(|error| (error.kind(), error.place().clone())),
        });
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}
