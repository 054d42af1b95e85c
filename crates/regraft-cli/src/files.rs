//! Files and folders on disk.

use std::io;
use std::path::Path;

use regraft_engine::{Error, Kind};

/// The error of a file that can't be used; `doing` says what was tried.
pub(crate) fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(
        Kind::Usage,
        format!("{doing} {} failed: {error}", path.display()),
    )
}
