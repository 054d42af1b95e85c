//! The command line of `analyzer`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::{days, uuid};

/// The subcommands of `analyzer`.
#[derive(Debug, Subcommand)]
pub(crate) enum AnalyzerCommand {
    /// Show where checkpoints stand: what is committed, what is left, who is at work
    CheckpointStatus(CheckpointStatusArguments),
    /// Fence off whoever holds a checkpoint, and have its run go on from what is committed
    ///
    /// A checkpoint is committed together with its rows, so it is never wrong, and no row is touched.
    /// It is refused for a run that is done, and while a process is at work on the target.
    ResetCheckpoint(ResetCheckpointArguments),
    /// Gather all that is known of one entity, and say what to do next
    ///
    /// With `--verbose` also how the source would read a batch. Exit code 1 means that something needs
    /// doing.
    Debug(DebugArguments),
    /// Show how fast the runs of an entity were, from the ledger
    ///
    /// With the runs of jobs that carried it over: their rates as a chart, and time, memory and how
    /// many jobs waited.
    AnalyzePerformance(AnalyzePerformanceArguments),
    /// Check both servers and the ledger
    ///
    /// Exit code 1 means that something stands in the way of work, 3 that a server can't be reached;
    /// warnings alone exit with 0.
    SystemHealth(SystemHealthArguments),
}

/// Arguments of `analyzer checkpoint-status`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct CheckpointStatusArguments {
    /// The checkpoints of all entities
    #[arg(long)]
    pub(crate) all: bool,
    /// The checkpoints of this entity
    #[arg(long, value_name = "ENTITY")]
    pub(crate) entity: Option<String>,
}

/// Arguments of `analyzer reset-checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct ResetCheckpointArguments {
    /// The checkpoint (see `regraft analyzer checkpoint-status`)
    #[arg(long, value_name = "ID", value_parser = uuid)]
    pub(crate) id: uuid::Uuid,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Arguments of `analyzer debug`.
#[derive(Debug, Args)]
pub(crate) struct DebugArguments {
    /// The entity
    #[arg(long, value_name = "ENTITY")]
    pub(crate) entity: String,
}

/// Arguments of `analyzer analyze-performance`.
#[derive(Debug, Args)]
pub(crate) struct AnalyzePerformanceArguments {
    /// The entity
    #[arg(long, value_name = "ENTITY")]
    pub(crate) entity: String,
    /// How many days to look back
    #[arg(long, default_value_t = 7, value_name = "N", allow_negative_numbers = true, value_parser = days)]
    pub(crate) last_days: i32,
    /// Write it to a file: as one HTML page with charts or one JSON document where its name ends in
    /// .html or .json, else as text
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Arguments of `analyzer system-health`.
#[derive(Debug, Args)]
pub(crate) struct SystemHealthArguments {
    /// Also hold the project against both catalogs, and look at tables, indexes, other sessions and
    /// replication slots
    #[arg(long)]
    pub(crate) comprehensive: bool,
}
