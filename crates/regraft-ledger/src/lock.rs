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

/// Waits to be the only one who creates schemas that others may be creating too, until
/// [`unlock_installation`] or the end of the session.
pub async fn lock_installation(client: &impl GenericClient) -> Result<()> {
    client
        .batch_execute("select pg_advisory_lock(hashtext('regraft'), 8)")
        .await?;
    Ok(())
}

/// Lets others create schemas.
pub async fn unlock_installation(client: &impl GenericClient) -> Result<()> {
    client
        .batch_execute("select pg_advisory_unlock(hashtext('regraft'), 8)")
        .await?;
    Ok(())
}
