//! PostgreSQL servers that this program runs itself, for the demo and the tests.
//!
//! [`Installation::find`] looks for PostgreSQL's programs, or gets them; [`Server::start`] makes a
//! cluster in a directory of its own and runs it there, on loopback and a Unix socket only. All of
//! it blocks, and may be called from async code for as long as that can wait.
//!
//! A server lives no longer than the process that started it, however that ends, unless it is
//! started with `keep`: then it is found again by [`Server::attach`] and ended by [`stop_kept`].

mod account;
mod cluster;
mod installation;
mod marker;
mod package;
mod postmaster;
mod server;
mod watcher;

pub use installation::{Installation, Origin, Version};
pub use server::{Server, ServerOptions, stop_kept};
