//! What every operation works with.

use std::sync::Arc;
use std::time::Duration;

use regraft_pg::{Endpoint, Environment, Session, SessionOptions};
use regraft_project::Project;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::events::Events;
use crate::pacing::{Budget, Limit, Pace, Turn};
use crate::work_queue::WorkQueue;

/// The secret that target keys are derived with. Whoever has it can compute every key from the
/// legacy ids; whoever has it not can't guess one.
#[derive(Clone)]
pub struct KeySecret(Vec<u8>);

impl KeySecret {
    /// A secret from its text form; at least 16 bytes.
    ///
    /// # Errors
    /// [`Kind::Usage`] when it is too short to keep anything secret.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() < 16 {
            return Err(Error::new(Kind::Usage, "the key secret has fewer than 16 characters")
                .hint("set REGRAFT_KEY_SECRET to a long random text, for example from `openssl rand -hex 32`, and keep it: the target's keys are derived from it"));
        }
        Ok(Self(text.as_bytes().to_vec()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySecret(hidden)")
    }
}

/// How to work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Rows per batch: the unit of transaction, checkpoint and retry.
    pub batch_size: u32,
    /// Batches at work side by side, each with a connection to both servers.
    pub workers: usize,
    /// How often a batch is tried again after a fault that may pass, such as a lost connection.
    pub retries: u32,
    /// How long one batch, and one statement of `differential` on the source, may take before it is
    /// given up; `None` is without limit.
    pub batch_timeout: Option<Duration>,
    /// The secret that keys are derived with.
    pub secret: Option<KeySecret>,
    /// Bytes that the keys of migrated parents may take in memory before they move to a mapped file.
    pub key_memory: usize,
    /// How many times as long as at first a probe query of the source may take before we hold back;
    /// `None` for never.
    pub max_source_load: Option<f64>,
    /// Where work is handed out to workers on this and other hosts; `None` for workers of this
    /// process alone.
    pub queue: Option<Arc<dyn WorkQueue>>,
    /// What the work may cost the users of both servers.
    pub budget: Budget,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_size: 20_000,
            workers: 2,
            retries: 3,
            batch_timeout: None,
            secret: None,
            key_memory: 32 << 20,
            max_source_load: None,
            queue: None,
            budget: Budget::default(),
        }
    }
}

impl Settings {
    /// The settings of a project under the environment: `BATCH_SIZE`, `MAX_RETRY_ATTEMPTS`,
    /// `MIGRATION_TIMEOUT` (milliseconds per batch, 0 for none), `REGRAFT_WORKERS`,
    /// `REGRAFT_KEY_SECRET`, and the budget: `REGRAFT_MAX_LOAD`, `REGRAFT_MAX_REPLICATION_LAG`,
    /// `REGRAFT_KEEP_CONNECTIONS`.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a variable that isn't what it should be.
    pub fn from_environment(project: &Project, environment: &Environment) -> Result<Self> {
        let mut settings = Self::default();
        let run = &project.manifest().run;
        settings.batch_size = run.batch_size.unwrap_or(settings.batch_size);
        settings.workers = run.workers.map_or(settings.workers, |n| n as usize);
        if let Some(size) = environment.get_parsed::<u32>("BATCH_SIZE")? {
            settings.batch_size = size;
        }
        if let Some(workers) = environment.get_parsed::<usize>("REGRAFT_WORKERS")? {
            settings.workers = workers;
        }
        if let Some(retries) = environment.get_parsed::<u32>("MAX_RETRY_ATTEMPTS")? {
            settings.retries = retries;
        }
        if let Some(milliseconds) = environment.get_parsed::<u64>("MIGRATION_TIMEOUT")? {
            settings.batch_timeout =
                (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
        }
        settings.budget = Budget {
            load: limit(environment, "REGRAFT_MAX_LOAD")?,
            replication_lag: limit(environment, "REGRAFT_MAX_REPLICATION_LAG")?,
            connections: limit(environment, "REGRAFT_KEEP_CONNECTIONS")?,
        };
        if let Some(secret) = environment
            .get("REGRAFT_KEY_SECRET")
            .filter(|s| !s.is_empty())
        {
            settings.secret = Some(KeySecret::new(secret)?);
        }
        settings.checked()
    }

    /// Refuses settings that can't work.
    ///
    /// # Errors
    /// [`Kind::Usage`] naming the setting and its range.
    pub fn checked(self) -> Result<Self> {
        if !(1..=1_000_000).contains(&self.batch_size) {
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "a batch size of {} is outside 1 to 1000000",
                    self.batch_size
                ),
            ));
        }
        if !(1..=64).contains(&self.workers) {
            return Err(Error::new(
                Kind::Usage,
                format!("{} workers are outside 1 to 64", self.workers),
            ));
        }
        Ok(self)
    }
}

/// A limit of the budget, as a variable of the environment has it.
fn limit<T>(environment: &Environment, name: &str) -> Result<Limit<T>>
where
    Limit<T>: std::str::FromStr<Err = String> + Default,
{
    match environment.get(name).filter(|text| !text.is_empty()) {
        None => Ok(Limit::default()),
        Some(text) => text
            .trim()
            .parse()
            .map_err(|why| Error::new(Kind::Usage, format!("{name}: {why}"))),
    }
}

/// The project, both databases, the settings, and how to stop and be heard.
#[derive(Debug, Clone)]
pub struct Context {
    /// The project.
    pub project: std::sync::Arc<Project>,
    /// The legacy database.
    pub source: Endpoint,
    /// The modern database.
    pub target: Endpoint,
    /// How to work.
    pub settings: Settings,
    /// Cancelled to stop at the next clean point.
    pub cancel: CancellationToken,
    /// Where events go.
    pub events: Events,
    /// How fast it may go, shared by all runs of the process.
    pub pace: Pace,
}

impl Context {
    pub(crate) async fn connect_source(&self) -> Result<Session> {
        Ok(Session::connect(&self.source, &SessionOptions::reading("regraft")).await?)
    }

    /// A connection to the modern database.
    ///
    /// # Errors
    /// [`Kind::Unreachable`], or what else stands in the way.
    pub async fn connect_target(&self) -> Result<Session> {
        Ok(Session::connect(&self.target, &SessionOptions::writing("regraft")).await?)
    }

    /// Waits until it may go on with the next batch ([`Pace::turn`]).
    ///
    /// # Errors
    /// A stop was asked for.
    pub(crate) async fn turn(&self) -> Result<Turn> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted()),
            turn = self.pace.turn() => Ok(turn),
        }
    }

    pub(crate) fn stop_requested(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(interrupted());
        }
        Ok(())
    }
}

/// The error of a stop on request.
pub(crate) fn interrupted() -> Error {
    Error::new(
        Kind::Interrupted,
        "stopped on request at a clean checkpoint",
    )
    .hint("run the same command again to go on from there")
}
