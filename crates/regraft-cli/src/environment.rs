//! The environment variables the program reads, and where they come from.

use std::path::Path;

use regraft_engine::Result;
use regraft_pg::Environment;

/// An environment variable of the program's interface.
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) meaning: &'static str,
    /// Its part of the reference.
    pub(crate) part: Part,
}

/// What a variable is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// One of the two databases.
    Database,
    /// How a migration works.
    Work,
    /// The program's surroundings.
    Program,
}

const fn database(name: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        meaning,
        part: Part::Database,
    }
}

const fn work(name: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        meaning,
        part: Part::Work,
    }
}

const fn program(name: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        meaning,
        part: Part::Program,
    }
}

/// All of them, as the reference lists them.
pub(crate) const VARIABLES: &[Variable] = &[
    database(
        "SOURCE_DATABASE_URL",
        "The legacy database, as a `postgresql://` URL or a `key=value` list. Wins over the `SOURCE_DB_*` variables that say the same.",
    ),
    database(
        "SOURCE_DB_HOST",
        "Host of the legacy database; a path is the directory of a Unix socket.",
    ),
    database("SOURCE_DB_PORT", "Its port; 5432 if not set."),
    database(
        "SOURCE_DB_USER",
        "The user to log in as. A user that can only read is enough.",
    ),
    database("SOURCE_DB_PASSWORD", "The user's password."),
    database(
        "SOURCE_DB_PASSWORD_FILE",
        "A file that holds the password, instead of the variable.",
    ),
    database("SOURCE_DB_NAME", "The database's name."),
    database(
        "SOURCE_DB_SSLMODE",
        "`disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`, as for libpq. If not set: `verify-full`, except on this machine.",
    ),
    database(
        "SOURCE_DB_SSLROOTCERT",
        "PEM file with the authorities to trust, or `system`.",
    ),
    database(
        "TARGET_DATABASE_URL",
        "The modern database, as a `postgresql://` URL or a `key=value` list. Wins over the `TARGET_DB_*` variables that say the same.",
    ),
    database(
        "TARGET_DB_HOST",
        "Host of the modern database; a path is the directory of a Unix socket.",
    ),
    database("TARGET_DB_PORT", "Its port; 5432 if not set."),
    database(
        "TARGET_DB_USER",
        "The user to log in as; it must own the target tables.",
    ),
    database("TARGET_DB_PASSWORD", "The user's password."),
    database(
        "TARGET_DB_PASSWORD_FILE",
        "A file that holds the password, instead of the variable.",
    ),
    database(
        "TARGET_DB_NAME",
        "The database's name; `postgres` if not set.",
    ),
    database("TARGET_DB_SSLMODE", "As `SOURCE_DB_SSLMODE`."),
    database("TARGET_DB_SSLROOTCERT", "As `SOURCE_DB_SSLROOTCERT`."),
    work(
        "BATCH_SIZE",
        "Source rows per transaction, 1 to 1000000. The project's own setting if not set.",
    ),
    work(
        "MAX_RETRY_ATTEMPTS",
        "How often a batch is tried again after a fault that may pass; 3 if not set.",
    ),
    work(
        "MIGRATION_TIMEOUT",
        "Milliseconds one batch may take; 0, or not set, is without limit.",
    ),
    work(
        "REGRAFT_WORKERS",
        "Batches at work side by side, 1 to 64. The project's own setting if not set.",
    ),
    work(
        "REGRAFT_MAX_LOAD",
        "How many times as long as at first a probe query of either server may take before the work goes slower, or `off`; as `--max-load`.",
    ),
    work(
        "REGRAFT_MAX_REPLICATION_LAG",
        "How far a standby of either server may be behind, such as `30s`, or `off`; as `--max-replication-lag`.",
    ),
    work(
        "REGRAFT_KEEP_CONNECTIONS",
        "How many connections of either server stay free for others, or `off`; as `--keep-connections`.",
    ),
    work(
        "REGRAFT_KEY_SECRET",
        "The secret the target's keys are derived from: 16 characters or more. Keep it: with another one the keys would be others.",
    ),
    work(
        "REGRAFT_PROJECT",
        "The project's folder, when `--project` is not given.",
    ),
    program(
        "REGRAFT_LOG_DIR",
        "A folder for the log: one JSON document a line, a file a day (by the date in UTC), never a value of a row. No log if not set.",
    ),
    program(
        "REGRAFT_LOG_DAYS",
        "How many days' files of the log are kept; 14 if not set.",
    ),
    program(
        "REGRAFT_NOTIFY_URL",
        "A URL that `regraft service start` and `regraft sync run-job` tell, by POST of a JSON document, of runs of jobs that fail, leave rows to be decided on, or work again.",
    ),
    program(
        "REGRAFT_NOTIFY_SECRET",
        "What these documents are signed with: `X-Regraft-Signature: sha256=` and the HMAC-SHA256 of the body in hexadecimal digits.",
    ),
    program(
        "REGRAFT_NOTIFY_COMMAND",
        "A shell command that gets them on its standard input, beside the URL or in its place.",
    ),
    program(
        "REGRAFT_LEDGER_DAYS",
        "After how many days `regraft service start` removes records of what is over from the ledger (parts of days may be given). All are kept if not set.",
    ),
    program(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "The OpenTelemetry collector that runs are traced to, over OTLP/HTTP, such as `http://localhost:4318`; `/v1/traces` is added. No traces if not set.",
    ),
    program(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "The same with its whole path; wins over the other.",
    ),
    program(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers of the requests to the collector, as `name=value,name=value`.",
    ),
    program(
        "OTEL_SERVICE_NAME",
        "The name that traces are filed under; `regraft` if not set.",
    ),
    program("NO_COLOR", "No colours, if set to anything."),
    program(
        "COLUMNS",
        "Width of the output where it can't be asked of a terminal.",
    ),
    program(
        "REGRAFT_PG_BIN",
        "Folder of PostgreSQL's programs for `regraft demo`.",
    ),
];

/// The variables of this process, over those of `.env` in the current directory, over those of
/// `.env` in the project's folder.
pub(crate) fn load(project: Option<&Path>) -> Result<Environment> {
    let here = Path::new(".");
    let current = Environment::load(here)?;
    let Some(project) = project.filter(|project| !same_folder(here, project)) else {
        return Ok(current);
    };
    let fallback = Environment::load(project)?;
    if fallback.path().is_none() {
        return Ok(current);
    }
    if current.path().is_none() {
        return Ok(fallback);
    }
    let given: Vec<(&str, String)> = VARIABLES
        .iter()
        .filter_map(|variable| Some((variable.name, current.get(variable.name)?.to_owned())))
        .collect();
    Ok(fallback.with(given))
}

fn same_folder(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
