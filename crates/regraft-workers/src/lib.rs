//! Workers on any number of hosts: batches of a run wait in a queue in the target, and whoever is free
//! takes the next.
//!
//! The queue only hands out work, and may hand it out twice: that a batch is written once is the
//! ledger's doing, which takes it in the transaction that writes its rows, under the epoch of its
//! checkpoint. A worker that is not heard of any more loses its batches to others, and its
//! transactions are ended.

mod queue;
mod worker;

pub use queue::{Queue, SCHEMA};
pub use worker::{WorkerOptions, serve};
