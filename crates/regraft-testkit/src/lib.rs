//! For tests only: servers, rehearsals of a project, the program as a process, what a run left
//! behind, and a network that fails.
//!
//! Tests are told of a failure by a panic, so what is in here panics where it can't go on, and
//! says why.

mod dice;
mod dump;
mod folder;
mod mutation;
mod namespace;
mod program;
mod proxy;
mod rehearsal;
mod schemas;
mod servers;

pub use dice::Dice;
pub use dump::Dump;
pub use folder::{ProjectFolder, manifest};
pub use mutation::{Class, Ground, Round};
pub use namespace::Namespace;
pub use program::{Finished, Program, Running};
pub use proxy::Proxy;
pub use rehearsal::{Legacy, Rehearsal, dispatch};
pub use schemas::RandomProject;
pub use servers::{Servers, block_on, endpoint_of};
