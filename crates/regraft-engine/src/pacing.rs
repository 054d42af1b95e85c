//! Doing no harm: what the users of both servers feel is measured once a second, and the work is held
//! to a rate at which it stays within a budget.
//!
//! A task of its own measures over two connections of its own (`watch`, `measure`); a pure function
//! decides (`controller`); whoever is about to do a batch asks for its turn first (`pace`).

mod budget;
mod controller;
pub(crate) mod measure;
mod pace;
mod reading;
mod recorded;
mod watch;

pub use budget::{Budget, Limit};
pub use controller::PaceRate;
pub use pace::Pace;
pub(crate) use pace::Turn;
pub use reading::PaceReason;
pub use recorded::{PaceChange, PaceStep, RecordedPace};
pub(crate) use watch::watch;
