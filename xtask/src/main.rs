//! What developers run: `cargo xtask check`, `docs`, `picture`, `bench`.

mod bench;
mod check;
mod docs;
mod ledger;
mod picture;
mod terminal;
mod workspace;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of this repository
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints and generated documents; everything CI checks but the tests
    Check,
    /// Write docs/reference from the program itself
    Docs {
        /// Change nothing; fail and name the files that are not up to date
        #[arg(long)]
        check: bool,
    },
    /// Run the demo in a terminal (tmux) and draw its end into docs/images/demo.svg
    Picture,
    /// Measure the data path against raw COPY and other ways
    Bench {
        /// Arguments of the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench { arguments } => return bench::run(&arguments),
        Task::Check => check::run(),
        Task::Docs { check: false } => docs::write(),
        Task::Docs { check: true } => docs::check(),
        Task::Picture => picture::draw(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Nothing is left to do if the message can't be written either.
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}
