//! Who holds locks on the table of an entity, or waits for one.

use regraft_pg::{Session, quote};
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;

/// A lock on a table. What its session executes is left out: statements hold values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableLock {
    /// The server process of the session.
    pub pid: i32,
    /// What the session calls itself; `None` where our user may not see it.
    pub application: Option<String>,
    /// `active`, `idle in transaction` and so on; `None` where our user may not see it.
    pub state: Option<String>,
    /// The lock, such as `AccessExclusiveLock`.
    pub mode: String,
    /// Whether it is held; if not, it is waited for.
    pub held: bool,
    /// Seconds since the session's transaction began; `None` where our user may not see it.
    pub seconds: Option<f64>,
    /// The sessions that it waits for.
    pub waits_for: Vec<i32>,
}

/// Seconds of an open transaction in which nothing happens that are worth a word.
const FORGOTTEN: f64 = 60.0;

impl TableLock {
    /// Whether it keeps others from writing, or its session has been forgotten, and the session is
    /// none of ours.
    pub fn is_in_the_way(&self) -> bool {
        if !self.held || self.application.as_deref() == Some("regraft") {
            return false;
        }
        let excludes = [
            "ShareLock",
            "ShareRowExclusiveLock",
            "ExclusiveLock",
            "AccessExclusiveLock",
        ];
        let idle = self.state.as_deref() == Some("idle in transaction");
        excludes.contains(&self.mode.as_str())
            || (idle && self.seconds.is_some_and(|seconds| seconds >= FORGOTTEN))
    }
}

/// The locks of other sessions on the table of an entity, those held first.
pub(super) async fn on_table(
    context: &Context,
    target: &Session,
    entity: &str,
) -> Result<Vec<TableLock>> {
    let Some(declared) = context.project.entity(entity) else {
        return Ok(Vec::new());
    };
    let namespace = context.project.manifest().target.namespace.as_str();
    let (schema, table) = declared.target.schema_and_table(namespace);
    let rows = target
        .query(
            "select l.pid, nullif(a.application_name, ''), a.state, l.mode, l.granted,
                    extract(epoch from clock_timestamp() - a.xact_start)::float8,
                    case when l.granted then '{}' else pg_blocking_pids(l.pid) end
             from pg_locks l left join pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'relation' and l.relation = to_regclass($1)
               and l.database = (select oid from pg_database where datname = current_database())
               and l.pid <> pg_backend_pid()
             order by l.granted desc, l.pid, l.mode",
            &[&quote::qualified(schema, table)],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| TableLock {
            pid: row.get(0),
            application: row.get(1),
            state: row.get(2),
            mode: row.get(3),
            held: row.get(4),
            seconds: row.get(5),
            waits_for: row.get(6),
        })
        .collect())
}
