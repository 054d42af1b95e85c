//! PostgreSQL as regraft needs it: connection settings, sessions with TLS, classified and
//! redacted errors, catalogs, quoting, the binary COPY codec, and managed servers for the demo
//! and the tests.

pub mod catalog;
pub mod copy;
pub mod error;
pub mod managed;
pub mod quote;
pub mod session;
pub mod settings;
mod tls;

pub use error::{Error, ErrorKind, Result};
pub use session::{Session, SessionOptions};
pub use settings::{Endpoint, Environment, Side};
