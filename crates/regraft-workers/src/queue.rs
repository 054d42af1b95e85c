//! The queue: a schema of its own in the target, kept by a library that exists for that.

use std::fmt;
use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use graphile_worker::tokio_postgres::TokioPostgresDatabase;
use graphile_worker::{Database, JobSpecBuilder, RawJobSpec, WorkerUtils};
use regraft_engine::{Context, Error, Kind, Queued, Result, Work, WorkQueue};
use regraft_pg::{Session, SessionOptions};
use tokio_postgres::NoTls;

/// The schema that holds the queue.
pub const SCHEMA: &str = "regraft_queue";

/// What the queue knows our work by.
pub(crate) const TASK: &str = "regraft";

/// How often a batch is handed out before the queue forgets it. Its handler gives up long before.
const MOST_ATTEMPTS: i16 = 100;

/// The name by which the queue's connections go.
const APPLICATION: &str = "regraft queue";

/// The queue of a target.
#[derive(Clone)]
pub struct Queue {
    database: Database,
    utils: Arc<WorkerUtils>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Opens the queue of a target over at most `connections` connections. It is created where there is
    /// none, and so is the ledger.
    ///
    /// # Errors
    /// The target can't be reached; a privilege is missing.
    pub async fn open(context: &Context, connections: usize) -> Result<Self> {
        let session = context.connect_target().await?;
        let pool = pool(context, &session, connections)?;
        let database = Database::from(TokioPostgresDatabase::new(pool));
        let utils = WorkerUtils::new(database.clone(), SCHEMA);
        // Others may be creating it at the same time.
        regraft_ledger::lock_installation(&*session).await?;
        let created = utils.migrate().await;
        regraft_ledger::unlock_installation(&*session).await?;
        session.batch_execute("begin").await?;
        regraft_ledger::install(&*session).await?;
        session.batch_execute("commit").await?;
        created.map_err(|error| {
            Error::new(
                Kind::Permission,
                format!("the queue of batches can't be created in schema {SCHEMA}: {error}"),
            )
            .hint("the user of the target needs the right to create schemas in it")
        })?;
        Ok(Self {
            database,
            utils: Arc::new(utils),
        })
    }

    /// The connections.
    pub(crate) fn database(&self) -> Database {
        self.database.clone()
    }
}

/// Connections like regraft's own, with its TLS.
fn pool(context: &Context, session: &Session, connections: usize) -> Result<Pool> {
    let options = SessionOptions::writing(APPLICATION);
    let (config, tls) = session.settings_for_others(&context.target, &options);
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match tls {
        Some(tls) => Manager::from_config(config, tls, recycling),
        None => Manager::from_config(config, NoTls, recycling),
    };
    let pool = Pool::builder(manager).max_size(connections).build();
    pool.map_err(|error| Error::new(Kind::Internal, format!("no connections: {error}")))
}

impl WorkQueue for Queue {
    fn put(&self, work: Vec<Work>, one_by_one: bool) -> Queued<'_> {
        Box::pin(async move {
            let jobs: Vec<RawJobSpec> = work
                .iter()
                .map(|work| job(work, one_by_one))
                .collect::<Result<_>>()?;
            for jobs in jobs.chunks(500) {
                self.utils.add_raw_jobs(jobs).await.map_err(unreachable)?;
            }
            Ok(())
        })
    }

    fn withdraw(&self, work: Vec<Work>) -> Queued<'_> {
        Box::pin(async move {
            for work in &work {
                let removed = self.utils.remove_job(&work.key).await;
                removed.map_err(unreachable)?;
            }
            Ok(())
        })
    }
}

fn job(work: &Work, one_by_one: bool) -> Result<RawJobSpec> {
    let mut spec = JobSpecBuilder::new()
        .job_key(work.key.clone())
        .max_attempts(MOST_ATTEMPTS);
    if one_by_one {
        spec = spec.queue_name(work.group.clone());
    }
    let payload = serde_json::to_value(work)
        .map_err(|error| Error::new(Kind::Internal, format!("work can't be sent: {error}")))?;
    Ok(RawJobSpec {
        identifier: TASK.to_owned(),
        payload,
        spec: spec.build(),
    })
}

/// The queue's library doesn't tell one fault of the server from another.
fn unreachable(error: impl fmt::Display) -> Error {
    Error::new(
        Kind::Unreachable,
        format!("the queue of batches can't be used: {error}"),
    )
    .hint("what is done stays done: run the same command again to go on from there")
}
