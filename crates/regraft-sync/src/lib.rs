//! Jobs that carry changes over by the clock: schedules, who runs which when, and the service that
//! does it.
//!
//! A job is a row of `synchronization_jobs`, and always scheduled again: when a run begins, the next
//! time is set, by the wall clock of the job's time zone. Whoever runs it holds a lease, which it
//! prolongs; a process that doesn't is taken for gone, and the job is due again. Times that have
//! passed while no service was there count as one.

pub mod jobs;
mod lease;
mod memory;
pub mod metrics;
pub mod notify;
mod retention;
pub mod schedule;
mod service;
mod work;

pub use lease::{Taken, take_due};
pub use service::{MOST_JOBS, ServiceOptions, serve};
pub use work::{RunOptions, run_now};
