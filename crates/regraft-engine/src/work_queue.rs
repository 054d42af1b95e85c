//! Work that a process hands out, and the queue that it goes through to workers on any host.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// A piece of work as it waits in the queue: what finds the rows, and nothing of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// A name that nothing else has at the same time.
    pub key: String,
    /// The run or validation that it is a part of.
    pub part_of: String,
    /// What it belongs to: pieces of equal ones may have to go one after the other.
    pub group: String,
    /// What is to be done.
    pub kind: WorkKind,
    /// What it is about.
    pub detail: Value,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// A batch is to be moved.
    Batch,
    /// An entity is to be examined.
    Entity,
}

impl Work {
    pub(crate) fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        serde_json::from_value(self.detail.clone()).map_err(|_| {
            Error::new(Kind::Usage, "the work in the queue can't be read")
                .hint("let all workers be of the same version of this program")
        })
    }
}

/// What a queue's operations give back.
pub type Queued<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A queue that outlives the process which fills it, and that hands each piece of work to one worker at
/// a time, and to another one when that is lost.
pub trait WorkQueue: fmt::Debug + Send + Sync {
    /// Puts work in. With `one_by_one` no two pieces of a group are handed out at a time.
    ///
    /// # Errors
    /// The queue can't be reached.
    fn put(&self, work: Vec<Work>, one_by_one: bool) -> Queued<'_>;

    /// Takes out what nobody has taken yet.
    ///
    /// # Errors
    /// The queue can't be reached.
    fn withdraw(&self, work: Vec<Work>) -> Queued<'_>;
}
