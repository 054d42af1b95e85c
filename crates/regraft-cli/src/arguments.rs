//! The command line as clap reads it: types and help, nothing else.

pub(crate) mod analyzer;
mod budget;
pub(crate) mod ledger;
mod sync;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use regraft_project::{Deletes, Policy};

use crate::style;
use analyzer::AnalyzerCommand;
pub(crate) use budget::BudgetArguments;
pub(crate) use ledger::LedgerCommand;
pub(crate) use sync::{
    CreateJobArguments, DeleteJobArguments, JobName, ListJobsArguments, RunJobArguments,
    ServiceCommand, ServiceStartArguments, SyncCommand, SyncRunsArguments,
};
use values::{
    dirt, examples, limit, records, rows, sampling_rate, scale, seconds, time_limit, uuid, workers,
};

/// Moves a living PostgreSQL database onto a new schema, and accounts for every row
///
/// A project folder says what is moved where; the environment or a `.env` file says between which
/// two databases.
#[derive(Debug, Parser)]
#[command(
    name = "regraft",
    version,
    styles = style::HELP,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    after_help = "Start with `regraft demo`. Exit codes and environment variables: docs/reference/commands.md"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// Folder of the project, or the name of a bundled one (dispatch); without it REGRAFT_PROJECT,
    /// else the current directory
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Results for people, or as one JSON document
    #[arg(long, global = true, default_value = "human", value_parser = plain_formats(), value_name = "FORM")]
    pub(crate) format: Format,
    /// Don't show progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Tell more about what is being done
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// The form of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // No help on the variants: it would stretch the help of every command over two screens.
    #[default]
    Human,
    Json,
    // These two are for receipts and reports only.
    Markdown,
    Html,
    // This one is for exports only.
    #[value(skip)]
    Csv,
}

/// The forms of an export.
fn export_formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["csv", "json"]).map(|name| match name.as_str() {
        "json" => Format::Json,
        _ => Format::Csv,
    })
}

/// The forms that every command has.
fn plain_formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["human", "json"]).try_map(|name| Format::from_str(&name, false))
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it all on two throw-away servers: generate, migrate, validate, account
    Demo(DemoArguments),
    /// Read the project and check it, against both databases where they can be reached
    Check,
    /// Create the target schema, or compare it with the live target
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Show what a migration would do: order, rows, time, what would be left behind and why
    Plan(PlanArguments),
    /// Migrate, or go on where an earlier migration stopped
    Migrate(MigrateArguments),
    /// Prove from both databases that what was migrated is complete and right
    ///
    /// Nothing is changed in either; the result is stored in the ledger, where `report` finds it.
    /// Exit code 1 means that something is wrong, or that not all of it could be looked at.
    Validate(ValidateArguments),
    /// Tell the whole life of one row, and what is wrong with it
    ///
    /// Exit code 1 means that something is wrong with it. That there is no such row is an answer, and
    /// exits with 0 (`"exists": false` in JSON).
    CheckRecord(CheckRecordArguments),
    /// Show what would be undone, then undo it
    Rollback(RollbackArguments),
    /// Show how far each entity is, and what is unfinished
    Status(StatusArguments),
    /// List what was run
    Runs(RunsArguments),
    /// Print the account of a run
    Receipt(ReceiptArguments),
    /// Report the latest validation: what was checked, how, what was not, and every difference
    ///
    /// It reads the ledger alone: `regraft validate` comes first. The exit code is that of the
    /// validation, 1 when something was found.
    Report(ReportArguments),
    /// Certify the migration, or check a certificate against the ledger
    ///
    /// A certificate needs a validation of all entities, with all proofs over all rows, that passed
    /// and is younger than every run: `regraft validate --final`. Without one it is refused, with
    /// exit code 1 and the reasons.
    Certify(CertifyArguments),
    /// Look at the rows that could not be moved
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Fill columns that the project has gained since, for rows already migrated
    Backfill(BackfillArguments),
    /// Find what has changed on either side since the last agreement, and carry it over
    #[command(subcommand)]
    Differential(DifferentialCommand),
    /// Look at the rows that both sides have changed
    #[command(subcommand)]
    Conflicts(ConflictsCommand),
    /// Carry changes over by the clock: jobs and their runs
    #[command(subcommand)]
    Sync(SyncCommand),
    /// Run jobs when they are due
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Take batches of runs that other processes hand out, on this host or on others
    Worker(WorkerArguments),
    /// Look after the ledger itself
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Look at the ledger's mappings, and bring them back in step with the target
    #[command(subcommand)]
    Mappings(MappingsCommand),
    /// Tell what a code of a result, an error or the log means, and what to do
    Explain {
        /// The code, such as missing_parent or unreachable
        #[arg(value_name = "CODE")]
        code: String,
    },
    /// Look at checkpoints, all that is known of an entity, past runs, and the servers
    #[command(subcommand)]
    Analyzer(AnalyzerCommand),
    /// Print a page of the reference in Markdown
    #[command(name = "__reference", hide = true)]
    Reference {
        /// Which page
        #[arg(value_enum, default_value_t)]
        page: Page,
    },
}

/// The pages of the reference that the program writes.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Page {
    /// The command line
    #[default]
    Commands,
    /// The metrics of the service
    Metrics,
}

/// Which entities a command is about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EntityNames {
    /// Entities or groups; all of the project if none is named
    #[arg(value_name = "ENTITY or GROUP")]
    names: Vec<String>,
    /// The same, as a list with commas
    #[arg(
        long,
        visible_alias = "entity",
        value_name = "LIST",
        value_delimiter = ','
    )]
    entities: Vec<String>,
}

impl EntityNames {
    /// The names given, in order; empty when none was.
    pub(crate) fn list(&self) -> Vec<String> {
        let lists = self
            .names
            .iter()
            .flat_map(|name| name.split(','))
            .map(str::to_owned);
        let mut names: Vec<String> = Vec::new();
        for name in lists.chain(self.entities.iter().cloned()) {
            let name = name.trim();
            if !name.is_empty() && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Size of the legacy data; 1 is the real size, about seven million rows
    #[arg(long, default_value_t = 0.2, value_parser = scale, value_name = "FACTOR")]
    pub(crate) scale: f64,
    /// Seed of the generated data; the same seed gives the same data
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: i64,
    /// How much dirt to put into the data: 1 is the real rate, 0 is none
    #[arg(long, default_value_t = 1.0, value_parser = dirt, value_name = "FACTOR")]
    pub(crate) dirt: f64,
    /// Folder for the servers and the project; a fresh temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Leave servers and data in place, with a `.env` for the other commands
    #[arg(long)]
    pub(crate) keep: bool,
    /// Stop the servers of a kept demo and remove what it made
    #[arg(long, conflicts_with_all = ["keep", "scale", "seed", "dirt", "pg_bin"])]
    pub(crate) stop: bool,
    /// Folder of PostgreSQL's programs (initdb, postgres) to use
    #[arg(long, value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
}

/// The subcommands of `schema`.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Create the target schema from the project's files
    Apply,
    /// Show how the live target differs from the project's schema
    Diff,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// Add everything that the named entities refer to
    #[arg(long)]
    pub(crate) with_deps: bool,
    /// Show funnels, filters, constraints and codes of every entity in full, and who reads which
    /// source table; done for one to three named entities anyway
    #[arg(long)]
    pub(crate) details: bool,
    /// Show the SQL that will run
    #[arg(long)]
    pub(crate) sql: bool,
    /// Write the whole plan to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// Add everything that the named entities refer to
    #[arg(long)]
    pub(crate) with_deps: bool,
    /// Go through every row and say what would become of it, without a change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only work if the plan still has this hash (see `regraft plan`)
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Source rows per transaction
    #[arg(long, value_name = "N", value_parser = rows)]
    pub(crate) batch_size: Option<u32>,
    /// Batches at work side by side
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<u16>,
    /// How rows are loaded
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub(crate) mode: Mode,
    /// Hand the batches out: `regraft worker` on any number of hosts takes its share
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) distribute: bool,
    #[command(flatten)]
    pub(crate) budget: BudgetArguments,
}

/// Arguments of `worker`.
#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// Batches at work side by side
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<u16>,
    /// After so many seconds without a sign of life a worker is taken for gone, and others take its
    /// batches
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = seconds)]
    pub(crate) lease: u64,
    /// Leave when there was nothing to do for so many seconds, instead of waiting for the next run
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) leave_after: Option<u64>,
    /// Serve metrics for Prometheus at this address, under /metrics, and /healthz: HOST:PORT, or a
    /// port alone, which is then only reached from this machine
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<String>,
}

/// How rows are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Bulk into empty tables, in place otherwise
    #[default]
    Auto,
    /// Take indexes and foreign keys off and rebuild them at the end
    Bulk,
    /// Leave the tables as they are
    InPlace,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// The whole migration: every entity, every run, what is left behind, the target's catalog. With
    /// all proofs
    #[arg(long = "final", conflicts_with_all = ["names", "entities", "types"])]
    pub(crate) whole: bool,
    /// Only this kind of proof, not all of them; may be given several times, or as a list with commas
    #[arg(long = "type", value_enum, value_name = "TYPE", value_delimiter = ',')]
    pub(crate) types: Vec<ProofType>,
    /// Look at the references and columns of this part of the rows (0.01 to 1)
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = sampling_rate, value_name = "RATE")]
    pub(crate) sampling_rate: f64,
    /// Look at the references and columns of about so many rows of each entity at most
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = records)]
    pub(crate) max_records: Option<u64>,
    /// How long it may take, a second or more: `30s`, `10m`; a number alone is milliseconds. What is
    /// not reached by then is named, and the exit code is 1
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub(crate) timeout: Option<Duration>,
    /// How many legacy ids each finding shows
    #[arg(long, default_value_t = 5, value_name = "N", allow_negative_numbers = true, value_parser = examples)]
    pub(crate) examples: u64,
    /// How the rows of both databases are compared
    #[arg(long, value_enum, default_value_t, value_name = "METHOD")]
    pub(crate) method: CompareMethod,
    /// Hand the entities out: `regraft worker` on any number of hosts takes its share
    #[arg(long)]
    pub(crate) distribute: bool,
    /// Write the result to a file instead of standard output; with `--format json` as JSON
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How rows are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompareMethod {
    /// By whichever suits the link to the servers, which is measured
    #[default]
    Auto,
    /// Fetch all rows, in key order
    Stream,
    /// Let both servers add up hashes of their rows, and fetch only ranges that differ
    Sums,
}

/// Arguments of `check-record`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("row").required(true).args(["legacy_id", "uuid_id"]))]
pub(crate) struct CheckRecordArguments {
    /// The entity that the row is of
    #[arg(long, value_name = "ENTITY")]
    pub(crate) entity: String,
    /// The row with this id in the source
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub(crate) legacy_id: Option<String>,
    /// The row with this key in the target
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    pub(crate) uuid_id: Option<uuid::Uuid>,
    /// Leave the values of the row out: they may be personal data
    #[arg(long)]
    pub(crate) no_values: bool,
    /// Write the result to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// The kinds of proof as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ProofType {
    /// Each source row is where the ledger says, and all accounts balance
    CompletenessCheck,
    /// Every reference goes between the mapped ends
    RelationshipIntegrity,
    /// Every column holds what recomputing it from the source gives
    DataIntegrity,
    /// The new database has what it needs to serve: indexes, statistics, queries in time
    PerformanceCheck,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// Undo what this run inserted, changed or deleted (see `regraft runs`)
    #[arg(long, value_name = "ID", conflicts_with_all = ["names", "entities"])]
    pub(crate) run: Option<String>,
    /// Undo what refers to these entities too, before them
    #[arg(long, conflicts_with = "run")]
    pub(crate) with_dependents: bool,
    /// Undo it in rows too that others changed since; without it such rows are left and listed
    #[arg(long)]
    pub(crate) force: bool,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
}

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub(crate) struct RunsArguments {
    /// How many to list, latest first
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = limit)]
    pub(crate) limit: i64,
}

/// Arguments of `receipt`.
#[derive(Debug, Args)]
pub(crate) struct ReceiptArguments {
    /// The run's id, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub(crate) run: String,
    // Stands for the option of every command, which knows fewer forms.
    /// The receipt for people, as one JSON document, as Markdown, or as one HTML page with charts
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) format: Format,
    /// Write the receipt to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Add the SQL that gives each figure, to be pasted into psql on the target
    #[arg(long)]
    pub(crate) explain: bool,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// Everything: how it was checked, invariants, what was not checked, the accounts of the latest
    /// runs, earlier validations
    #[arg(long)]
    pub(crate) comprehensive: bool,
    // Stands for the option of every command, which knows fewer forms.
    /// The report for people, as one JSON document, as Markdown, or as one HTML page
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) format: Format,
    /// Write the report to a file instead of standard output; the form follows the file's ending
    /// where `--format` is not given
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Arguments of `certify`.
#[derive(Debug, Args)]
pub(crate) struct CertifyArguments {
    /// Write the certificate to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Check a certificate: whether it is what was written, and whether the ledger still says so
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    pub(crate) verify: Option<PathBuf>,
}

/// Arguments of `backfill`.
#[derive(Debug, Args)]
pub(crate) struct BackfillArguments {
    /// The entity
    #[arg(long, value_name = "ENTITY")]
    pub(crate) entity: String,
    /// The columns (a list with commas)
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    pub(crate) columns: Vec<String>,
    /// Do everything inside a transaction that is rolled back
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Who wins where both sides have changed: source_wins, target_wins, newest or manual
    ///
    /// As for `differential migrate`.
    #[arg(long, value_name = "POLICY", value_parser = policy())]
    pub(crate) conflict_resolution: Option<Policy>,
}

/// The subcommands of `differential`.
#[derive(Debug, Subcommand)]
pub(crate) enum DifferentialCommand {
    /// Tell what has changed, and what each policy would do; writes nothing but its own record
    Analyze(DifferentialAnalyzeArguments),
    /// Carry over what has changed in the source: new rows, changed columns, rows that are gone
    Migrate(DifferentialMigrateArguments),
    /// Go on with the one that was left unfinished
    Resume(DifferentialResumeArguments),
    /// Tell how one stands
    Status(DifferentialStatusArguments),
}

/// Arguments of `differential analyze`.
#[derive(Debug, Args)]
pub(crate) struct DifferentialAnalyzeArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// Look at all rows of the target too, and keep what both sides have changed for a decision
    #[arg(long)]
    pub(crate) detect_conflicts: bool,
    /// Only rows whose cursor is at this value or above it, such as a time; of entities without a
    /// cursor, all rows are looked at
    #[arg(long, value_name = "TIME", conflicts_with = "full")]
    pub(crate) since: Option<String>,
    #[command(flatten)]
    pub(crate) looking: LookingArguments,
    /// Write the result to a file too, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How `differential` looks at the source.
#[derive(Debug, Args)]
pub(crate) struct LookingArguments {
    /// Read every row of the source, instead of going by sums and cursors
    #[arg(long)]
    pub(crate) full: bool,
    /// Hold back while a probe query of the source takes more than N times what it took at first
    #[arg(long, value_name = "N", value_parser = factor)]
    pub(crate) max_source_load: Option<f64>,
    #[command(flatten)]
    pub(crate) budget: BudgetArguments,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (1.0..=1000.0).contains(&factor) && factor > 1.0 {
        Ok(factor)
    } else {
        Err("it has to be above 1, and 1000 at most".to_owned())
    }
}

/// Arguments of `differential migrate`.
#[derive(Debug, Args)]
pub(crate) struct DifferentialMigrateArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// Source rows per transaction
    #[arg(long, value_name = "N", value_parser = rows)]
    pub(crate) batch_size: Option<u32>,
    /// Do everything inside a transaction that is rolled back, and tell what came of it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Hand out batches of new rows: `regraft worker` on any number of hosts takes its share
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) distribute: bool,
    #[command(flatten)]
    pub(crate) looking: LookingArguments,
    /// Who wins where both sides have changed: source_wins, target_wins, newest or manual
    ///
    /// It goes before what the entities' files say, except in columns that they name. Default:
    /// what they say, or else manual, which leaves such columns to be decided on.
    #[arg(long, value_name = "POLICY", value_parser = policy())]
    pub(crate) conflict_resolution: Option<Policy>,
    /// What becomes of rows that the source has no more: mirror, soft or ignore
    ///
    /// Default: what the entities' files say, or else mirror, which deletes them.
    #[arg(long, value_name = "MODE", value_parser = deletes())]
    pub(crate) deletes: Option<Deletes>,
}

/// Arguments of `differential resume`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct DifferentialResumeArguments {
    /// The one that is about this entity
    #[arg(long, value_name = "ENTITY")]
    pub(crate) entity: Option<String>,
    /// The one with this id (see `regraft runs`)
    #[arg(long, value_name = "ID")]
    pub(crate) operation_id: Option<String>,
}

/// Arguments of `differential status`.
#[derive(Debug, Args)]
pub(crate) struct DifferentialStatusArguments {
    /// The one with this id; the latest if none is given
    #[arg(long, value_name = "ID")]
    pub(crate) operation_id: Option<String>,
    /// Tell again every two seconds until it has ended
    #[arg(long)]
    pub(crate) watch: bool,
}

fn policy() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::ALL.map(Policy::as_str))
        .try_map(|name| name.parse::<Policy>())
}

fn deletes() -> impl TypedValueParser<Value = Deletes> {
    PossibleValuesParser::new(Deletes::ALL.map(Deletes::as_str))
        .try_map(|name| name.parse::<Deletes>())
}

/// The subcommands of `conflicts`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List the rows that somebody has to decide on
    List(ConflictsListArguments),
    /// Show what each side says of a row
    Show(ConflictsShowArguments),
    /// Report what a comparison has found, and what of it is still open
    Report(ConflictsReportArguments),
    /// Decide on conflicts: a row is written only while both sides say what they said when it was noted
    Resolve(ConflictsResolveArguments),
}

/// Arguments of `conflicts resolve`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "entity", "all"]))]
pub(crate) struct ConflictsResolveArguments {
    /// This one (see `regraft conflicts list`)
    #[arg(long, value_name = "ID", value_parser = uuid)]
    pub(crate) id: Option<uuid::Uuid>,
    /// Those of these entities (a list with commas)
    #[arg(
        long,
        visible_alias = "entities",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub(crate) entity: Vec<String>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
    /// What is taken for the columns in conflict: source, target, merge, or a file with values
    ///
    /// merge takes columns that only one side has changed from that side and leaves the others open.
    /// A file is a JSON object of columns and values, each as text or null, for one row.
    #[arg(long, value_name = "source|target|merge|FILE")]
    pub(crate) take: String,
}

/// Arguments of `conflicts list`.
#[derive(Debug, Args)]
pub(crate) struct ConflictsListArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// How many rows to list
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = limit)]
    pub(crate) limit: i64,
}

/// Arguments of `conflicts show`.
#[derive(Debug, Args)]
pub(crate) struct ConflictsShowArguments {
    /// The conflict (see `regraft conflicts list`)
    #[arg(long, value_name = "ID", value_parser = uuid)]
    pub(crate) id: uuid::Uuid,
}

/// Arguments of `conflicts report`.
#[derive(Debug, Args)]
pub(crate) struct ConflictsReportArguments {
    /// On the latest comparison (the default)
    #[arg(long, conflicts_with = "operation_id")]
    pub(crate) last_analysis: bool,
    /// On the comparison or run with this id
    #[arg(long, value_name = "ID")]
    pub(crate) operation_id: Option<String>,
}

/// Arguments of `mappings merged`.
#[derive(Debug, Args)]
pub(crate) struct MappingsMergedArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// How many rows to list
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = limit)]
    pub(crate) limit: i64,
}

/// The subcommands of `mappings`.
#[derive(Debug, Subcommand)]
pub(crate) enum MappingsCommand {
    /// Compute them again from the source, prove them on the target, and write what differs
    Rebuild(MappingsRebuildArguments),
    /// List the rows that were merged into others by a rule of the project
    Merged(MappingsMergedArguments),
}

/// Arguments of `mappings rebuild`.
#[derive(Debug, Args)]
pub(crate) struct MappingsRebuildArguments {
    #[command(flatten)]
    pub(crate) entities: EntityNames,
    /// Show what would be written, without a change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// The subcommands of `quarantine`.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List reasons, and the rows of one entity or reason
    List(QuarantineListArguments),
    /// Show one row with every reason, and what waits for it
    Show(QuarantineShowArguments),
    /// Try rows again, with what they wait for and what waits for them, and nothing else
    Retry(QuarantineRetryArguments),
    /// Write rows with their reasons and values to a file, for those who repair the data
    Export(QuarantineExportArguments),
    /// Decide that rows are not moved: show what that means, then do it
    ///
    /// No later migration moves them. They still count as quarantined or blocked, so that every
    /// source row stays accounted for. `quarantine retry --dropped` tries them again.
    Drop(QuarantineDropArguments),
}

/// Which rows of the quarantine a command is about.
#[derive(Debug, Args)]
pub(crate) struct QuarantineRows {
    /// Rows of these entities (a list with commas)
    #[arg(
        long = "entity",
        visible_alias = "entities",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub(crate) entities: Vec<String>,
    /// Rows with this reason: a code, or code:column, or code:constraint
    #[arg(long, value_name = "CODE")]
    pub(crate) reason: Option<String>,
    /// Rows with these legacy ids (a list with commas)
    #[arg(
        long = "legacy-id",
        value_name = "LIST",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) legacy_ids: Vec<String>,
}

/// Arguments of `quarantine export`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineExportArguments {
    #[command(flatten)]
    pub(crate) rows: QuarantineRows,
    /// Rows that were dropped, too
    #[arg(long)]
    pub(crate) dropped: bool,
    // Stands for the option of every command, which knows other forms.
    /// One table for spreadsheets, or one JSON document
    #[arg(long, default_value = "csv", value_parser = export_formats(), value_name = "FORM")]
    pub(crate) format: Format,
    /// Write to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Leave texts in CSV as they are that a spreadsheet would take for a formula; without it they
    /// begin with an apostrophe
    #[arg(long)]
    pub(crate) verbatim: bool,
}

/// Arguments of `quarantine drop`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineDropArguments {
    #[command(flatten)]
    pub(crate) rows: QuarantineRows,
    /// Why; it is kept with the rows
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Arguments of `quarantine retry`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineRetryArguments {
    #[command(flatten)]
    pub(crate) rows: QuarantineRows,
    /// All rows
    #[arg(long, conflicts_with_all = ["entities", "reason", "legacy_ids"])]
    pub(crate) all: bool,
    /// Rows that were dropped, too
    #[arg(long)]
    pub(crate) dropped: bool,
    /// Do everything inside a transaction that is rolled back
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `quarantine list`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineListArguments {
    /// Only rows of this entity
    #[arg(value_name = "ENTITY")]
    entity: Option<String>,
    /// The same
    #[arg(long = "entity", value_name = "ENTITY", conflicts_with = "entity")]
    entity_option: Option<String>,
    /// Only rows with this reason: a code, or code:column, or code:constraint
    #[arg(long, value_name = "CODE")]
    pub(crate) reason: Option<String>,
    /// Rows that were resolved or dropped since, too
    #[arg(long)]
    pub(crate) resolved: bool,
    /// How many rows to list
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = limit)]
    pub(crate) limit: i64,
}

impl QuarantineListArguments {
    /// The entity, however it was given.
    pub(crate) fn entity(&self) -> Option<&str> {
        self.entity.as_deref().or(self.entity_option.as_deref())
    }
}

/// Arguments of `quarantine show`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineShowArguments {
    /// The entity
    #[arg(value_name = "ENTITY", required_unless_present = "entity_option")]
    entity: Option<String>,
    /// The row's legacy id
    #[arg(
        value_name = "LEGACY_ID",
        allow_negative_numbers = true,
        required_unless_present = "legacy_id_option"
    )]
    legacy_id: Option<String>,
    /// The same
    #[arg(
        long = "entity",
        value_name = "ENTITY",
        conflicts_with = "entity",
        requires = "legacy_id_option"
    )]
    entity_option: Option<String>,
    /// The same
    #[arg(
        long = "legacy-id",
        value_name = "ID",
        allow_negative_numbers = true,
        conflicts_with = "legacy_id",
        requires = "entity_option"
    )]
    legacy_id_option: Option<String>,
    /// Show the row's values too; they may be personal data
    #[arg(long)]
    pub(crate) values: bool,
}

impl QuarantineShowArguments {
    /// The entity, however it was given.
    pub(crate) fn entity(&self) -> &str {
        let given = self.entity.as_deref().or(self.entity_option.as_deref());
        given.unwrap_or_default()
    }

    /// The legacy id, however it was given.
    pub(crate) fn legacy_id(&self) -> &str {
        let given = self.legacy_id.as_deref();
        given
            .or(self.legacy_id_option.as_deref())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn entities_may_be_given_in_every_form_of_the_brief() {
        for line in [
            "regraft migrate offices doctors",
            "regraft migrate --entities offices,doctors",
            "regraft migrate --entity offices --entity doctors",
            "regraft migrate offices,doctors --entities offices",
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let Command::Migrate(migrate) = arguments.command else {
                panic!("{line}")
            };
            assert_eq!(migrate.entities.list(), ["offices", "doctors"], "{line}");
        }
    }
}
