//! The command line of `ledger`.

use clap::{Args, Subcommand};

use super::values::retention;

/// The subcommands of `ledger`.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Remove records of what is long over: old runs, before-images, settled differences
    ///
    /// Mappings, cursors, open conflicts, quarantine, unfinished runs and what any of these lean on
    /// stay, whatever their age. A run whose before-images are gone can't be undone alone any more.
    /// `regraft service start` does the same by itself where REGRAFT_LEDGER_DAYS is set.
    Prune(PruneArguments),
}

/// Arguments of `ledger prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Remove what ended more than so many days ago; parts of days may be given
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = retention)]
    pub(crate) days: f64,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}
