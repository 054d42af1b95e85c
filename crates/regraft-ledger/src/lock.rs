//! Who may write to a target, and who is at work on it.
//!
//! All locks are advisory ones of the session: they are gone when its process is. Whoever writes
//! holds the target, alone or together with others. Those who share it each hold the tables that they
//! fill, so that no two of them fill the same; and every run is held by the session that coordinates
//! it, which is how a run at work is told from one that was left unfinished.

use std::collections::HashMap;

use regraft_pg::Result;
use serde::Serialize;
use tokio_postgres::GenericClient;

/// The process that holds the lock of those who write ([`run_lock`]).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LockHolder {
    /// Its server process.
    pub pid: i32,
    /// What it calls itself; `None` where the user may not see it.
    pub application_name: Option<String>,
    /// Seconds since it connected; `None` where the user may not see it.
    pub seconds: Option<f64>,
}

/// Tries to become the one process that writes to this target.
pub async fn run_lock(client: &impl GenericClient) -> Result<bool> {
    let row = client
        .query_one("select pg_try_advisory_lock(hashtext('regraft'), 1)", &[])
        .await?;
    Ok(row.get(0))
}

/// Tries to become one of the processes that write to this target at the same time: the one that fills
/// the tables `own`, and one of those for whom nobody fills `others`. Whether all of it could be had; if
/// not, the session holds nothing, what it held before included.
pub async fn share_run_lock(
    client: &impl GenericClient,
    own: &[String],
    others: &[String],
) -> Result<bool> {
    // In an order: the first that can't be had ends it, and nobody waits for anybody.
    let row = client
        .query_one(
            "select pg_try_advisory_lock_shared(hashtext('regraft'), 1)",
            &[],
        )
        .await?;
    let mut all: bool = row.get(0);
    if all {
        let row = client
            .query_one(
                "select coalesce(bool_and(pg_try_advisory_lock(hashtext('regraft table'), hashtext(t))), true)
                 from unnest($1::text[]) t",
                &[&own],
            )
            .await?;
        all = row.get(0);
    }
    if all {
        let row = client
            .query_one(
                "select coalesce(bool_and(pg_try_advisory_lock_shared(hashtext('regraft table'), hashtext(t))), true)
                 from unnest($1::text[]) t",
                &[&others],
            )
            .await?;
        all = row.get(0);
    }
    if !all {
        release_run_lock(client).await?;
    }
    Ok(all)
}

/// Gives back all that [`run_lock`] or [`share_run_lock`] got, and the run that is held.
pub async fn release_run_lock(client: &impl GenericClient) -> Result<()> {
    client
        .execute("select pg_advisory_unlock_all()", &[])
        .await?;
    Ok(())
}

/// Holds a run: as long as the session lives, the run is at work. Whoever held it before has to be gone
/// or about to go: this waits for it. The caller holds what the run writes to.
pub async fn hold_run(client: &impl GenericClient, run_no: i32) -> Result<()> {
    client
        .execute(
            "select pg_advisory_lock(hashtext('regraft run'), $1)",
            &[&run_no],
        )
        .await?;
    Ok(())
}

/// Until the end of the transaction, nobody else begins a run.
pub(crate) async fn one_at_a_time(client: &impl GenericClient) -> Result<()> {
    client
        .execute("select pg_advisory_xact_lock(hashtext('regraft'), 2)", &[])
        .await?;
    Ok(())
}

/// The runs that are at work.
pub(crate) struct HeldRuns {
    /// The server process of each by its run's number.
    by_number: HashMap<i32, i32>,
    /// Somebody has the target for itself: whatever is unfinished is its business.
    alone: Option<i32>,
}

impl HeldRuns {
    /// The server process of whoever is at work on this run.
    pub(crate) fn holder(&self, run_no: i32) -> Option<i32> {
        self.by_number.get(&run_no).copied().or(self.alone)
    }
}

/// The runs that are at work now.
pub(crate) async fn held_runs(client: &impl GenericClient) -> Result<HeldRuns> {
    let row = client
        .query_one(
            "select min(pid) filter (where is_target and objid = 1 and mode = 'ExclusiveLock'
                                       and pid <> pg_backend_pid()),
                    coalesce(array_agg(objid order by objid) filter (where is_run), '{}'),
                    coalesce(array_agg(pid order by objid) filter (where is_run), '{}')
             from (select l.pid, l.mode, l.objid::bigint::int4 as objid,
                          l.classid::bigint = hashtext('regraft')::bigint & 4294967295 as is_target,
                          l.classid::bigint = hashtext('regraft run')::bigint & 4294967295 as is_run
                   from pg_locks l
                   where l.locktype = 'advisory' and l.granted and l.objsubid = 2
                     and l.database = (select oid from pg_database where datname = current_database())
                  ) held",
            &[],
        )
        .await?;
    Ok(HeldRuns {
        alone: row.get(0),
        by_number: row
            .get::<_, Vec<i32>>(1)
            .into_iter()
            .zip(row.get::<_, Vec<i32>>(2))
            .collect(),
    })
}

/// Who holds the lock of those who write; the first of them where several share it. Unlike [`run_lock`] this takes nothing.
pub async fn run_lock_holder(client: &impl GenericClient) -> Result<Option<LockHolder>> {
    let row = client
        .query_opt(
            "select l.pid, nullif(a.application_name, ''),
                    extract(epoch from clock_timestamp() - a.backend_start)::float8
             from pg_locks l left join pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.objid = 1
               and l.classid::bigint = hashtext('regraft')::bigint & 4294967295
               and l.database = (select oid from pg_database where datname = current_database())
             order by l.pid limit 1",
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
