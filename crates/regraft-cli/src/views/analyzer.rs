//! What the analyzer found, for people.

pub(crate) mod checkpoints;
pub(crate) mod debug;
pub(crate) mod health;
pub(crate) mod performance;
