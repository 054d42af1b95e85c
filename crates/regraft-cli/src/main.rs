//! The binary `regraft`: arguments, rendering, exit codes. The work is the engine's.

mod arguments;
mod bundled;
mod commands;
mod contract;
mod diagnostics;
mod environment;
mod exit;
mod figures;
mod files;
mod interrupts;
mod invocation;
mod log;
mod printer;
mod progress;
mod reference;
mod style;
mod table;
mod traces;
mod views;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Both TLS stacks of the dependency tree are built without a default; a second call is harmless.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    commands::run().into()
}
