//! `cargo xtask check`: what CI checks, but the tests.

use std::io::Write as _;

use crate::docs;
use crate::workspace::cargo;

const STEPS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ],
];

/// Runs the steps, and stops at the first that fails.
///
/// # Errors
/// The step that failed.
pub(crate) fn run() -> Result<(), String> {
    for step in STEPS {
        let line = format!("cargo {}", step.join(" "));
        announce(&line);
        let status = cargo(step)
            .status()
            .map_err(|error| format!("`{line}` can't be started: {error}"))?;
        if !status.success() {
            return Err(format!("`{line}` failed ({status})"));
        }
    }
    announce("cargo xtask docs --check");
    docs::check()
}

fn announce(line: &str) {
    // A lost line of progress is no reason to stop.
    let _ = writeln!(std::io::stderr(), "== {line}");
}
