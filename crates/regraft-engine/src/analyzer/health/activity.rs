//! What other sessions of a server do: long transactions, waits for locks, slots that keep WAL.

use regraft_pg::Session;

use super::HealthCheck;
use crate::error::Result;

/// Seconds after which a transaction is long.
const LONG: f64 = 300.0;

/// Bytes of WAL kept for a slot that are worth a word.
const KEPT: i64 = 1 << 30;

/// The checks of a server's other sessions. What they execute is not shown.
///
/// # Errors
/// What the server says to a statement.
pub(super) async fn check(session: &Session) -> Result<Vec<HealthCheck>> {
    Ok(vec![
        transactions(session).await?,
        waits(session).await?,
        slots(session).await?,
    ])
}

async fn transactions(session: &Session) -> Result<HealthCheck> {
    let rows = session
        .query(
            "select format('process %s (%s), %s s', pid, coalesce(nullif(application_name, ''), 'unnamed'),
                           extract(epoch from clock_timestamp() - xact_start)::int8)
             from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()
               and extract(epoch from clock_timestamp() - xact_start) > $1::float8
             union all
             select format('prepared by %s, %s s', owner,
                           extract(epoch from clock_timestamp() - prepared)::int8)
             from pg_prepared_xacts
             where database = current_database()
               and extract(epoch from clock_timestamp() - prepared) > $1::float8",
            &[&LONG],
        )
        .await?;
    let area = session.side().name();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if found.is_empty() {
        return Ok(HealthCheck::ok(
            area,
            "transactions",
            "none is open for more than 5 minutes",
        ));
    }
    Ok(HealthCheck::warning(
        area,
        "transactions",
        format!("open for more than 5 minutes: {}", found.join("; ")),
        "have those applications end them: they keep dead rows from being cleaned away, and locks",
    ))
}

async fn waits(session: &Session) -> Result<HealthCheck> {
    let rows = session
        .query(
            "select format('process %s waits for %s', pid, array_to_string(pg_blocking_pids(pid), ' and '))
             from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'
               and cardinality(pg_blocking_pids(pid)) > 0 order by 1",
            &[],
        )
        .await?;
    let area = session.side().name();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if found.is_empty() {
        return Ok(HealthCheck::ok(
            area,
            "lock waits",
            "no session waits for a lock of another",
        ));
    }
    Ok(HealthCheck::warning(
        area,
        "lock waits",
        found.join("; "),
        "look at the session that is waited for: `select * from pg_stat_activity where pid = …`",
    ))
}

async fn slots(session: &Session) -> Result<HealthCheck> {
    let rows = session
        .query(
            "select format('%s (%s MiB)', slot_name, kept / 1048576), not active or kept >= $1
             from (select slot_name, active,
                          coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                                        else pg_current_wal_lsn() end, restart_lsn), 0)::int8 as kept
                   from pg_replication_slots where not temporary) slot order by 1",
            &[&KEPT],
        )
        .await?;
    let area = session.side().name();
    let idle: Vec<String> = rows
        .iter()
        .filter(|row| row.get(1))
        .map(|row| row.get(0))
        .collect();
    if idle.is_empty() {
        let found = match rows.len() {
            0 => "there are none".to_owned(),
            slots => format!("{slots}, all of them in use"),
        };
        return Ok(HealthCheck::ok(area, "replication slots", found));
    }
    Ok(HealthCheck::warning(
        area,
        "replication slots",
        format!("unused, or far behind: {}", idle.join(", ")),
        "start what reads them, or drop them: the WAL they keep fills the disk",
    ))
}
