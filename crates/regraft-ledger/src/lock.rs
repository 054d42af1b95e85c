//! Who is at work on a target, without getting in anybody's way.

use regraft_pg::Result;
use serde::Serialize;
use tokio_postgres::GenericClient;

/// The process that holds the lock of those who write ([`crate::run_lock`]).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LockHolder {
    /// Its server process.
    pub pid: i32,
    /// What it calls itself; `None` where the user may not see it.
    pub application_name: Option<String>,
    /// Seconds since it connected; `None` where the user may not see it.
    pub seconds: Option<f64>,
}

/// Who holds the lock of those who write. Unlike [`crate::run_lock`] this takes nothing.
pub async fn run_lock_holder(client: &impl GenericClient) -> Result<Option<LockHolder>> {
    let row = client
        .query_opt(
            "select l.pid, nullif(a.application_name, ''),
                    extract(epoch from clock_timestamp() - a.backend_start)::float8
             from pg_locks l left join pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.objid = 1
               and l.classid::bigint = hashtext('regraft')::bigint & 4294967295
               and l.database = (select oid from pg_database where datname = current_database())
             limit 1",
            &[],
        )
        .await?;
    Ok(row.map(|row| LockHolder {
        pid: row.get(0),
        application_name: row.get(1),
        seconds: row.get(2),
    }))
}
