//! One server: version, connections, settings, TLS, clock, size and privileges.

use std::time::Duration;

use regraft_pg::{ErrorKind, Session, Side, quote};

use super::{HealthCheck, some};
use crate::context::Context;
use crate::error::{Error, Result};

/// The oldest version that this program is made for.
const OLDEST: u32 = 130_000;

/// Connections that a run has besides those of its batches.
const BESIDE: i64 = 3;

/// Seconds that a clock may be off.
const OFF: f64 = 5.0;

/// That a server was reached.
pub(super) fn reached(context: &Context, side: Side, time: Duration) -> HealthCheck {
    let endpoint = match side {
        Side::Source => &context.source,
        Side::Target => &context.target,
    };
    let milliseconds = time.as_millis();
    HealthCheck::ok(
        side.name(),
        "reachable",
        format!(
            "{}, database {}, connected in {milliseconds} ms",
            endpoint.address(),
            endpoint.database()
        ),
    )
}

/// What a server says of itself.
struct Facts {
    version: String,
    most: i32,
    reserved: i32,
    used: i64,
    bytes: i64,
    standby: bool,
    read_only: bool,
    statement_timeout: String,
    idle_timeout: String,
    tls: Option<String>,
    /// Seconds that its clock is ahead of ours.
    ahead: f64,
}

/// The checks of a server that was reached.
///
/// # Errors
/// What the server says to a statement.
pub(super) async fn check(context: &Context, session: &Session) -> Result<Vec<HealthCheck>> {
    let facts = Facts::read(session).await?;
    let side = session.side();
    let mut checks = vec![
        version(session, &facts),
        connections(context, side, &facts),
        settings(side, &facts),
        tls(context, side, &facts),
        clock(side, &facts),
        HealthCheck::ok(side.name(), "size", size(facts.bytes)),
    ];
    match side {
        Side::Source => checks.push(may_read(context, session).await?),
        Side::Target => {
            checks.push(writable(&facts));
            checks.extend(may_write(context, session).await?);
        }
    }
    Ok(checks)
}

impl Facts {
    #[expect(clippy::cast_precision_loss, reason = "a clock needs no exactness")]
    async fn read(session: &Session) -> Result<Self> {
        let begun = std::time::Instant::now();
        let now: f64 = session
            .query_one("select extract(epoch from clock_timestamp())::float8", &[])
            .await?
            .get(0);
        let half = begun.elapsed().as_secs_f64() / 2.0;
        let here = jiff::Timestamp::now().as_microsecond() as f64 / 1e6 - half;
        let row = session
            .query_one(
                "select current_setting('server_version'), current_setting('max_connections')::int4,
                        current_setting('superuser_reserved_connections')::int4,
                        (select count(*) from pg_stat_activity where backend_type = 'client backend'),
                        pg_database_size(current_database()), pg_is_in_recovery(),
                        (select reset_val = 'on' from pg_settings where name = 'default_transaction_read_only'),
                        (select reset_val from pg_settings where name = 'statement_timeout'),
                        (select reset_val from pg_settings where name = 'idle_in_transaction_session_timeout'),
                        (select version from pg_stat_ssl where pid = pg_backend_pid() and ssl)",
                &[],
            )
            .await?;
        Ok(Self {
            version: row.get(0),
            most: row.get(1),
            reserved: row.get(2),
            used: row.get(3),
            bytes: row.get(4),
            standby: row.get(5),
            read_only: row.get(6),
            statement_timeout: row.get(7),
            idle_timeout: row.get(8),
            tls: row.get(9),
            ahead: now - here,
        })
    }
}

fn version(session: &Session, facts: &Facts) -> HealthCheck {
    let (area, found) = (
        session.side().name(),
        format!("PostgreSQL {}", facts.version),
    );
    if session.server_version_num() >= OLDEST {
        return HealthCheck::ok(area, "version", found);
    }
    HealthCheck::warning(
        area,
        "version",
        format!("{found}, older than any this program was tried with"),
        "rehearse with a copy before you rely on it",
    )
}

fn connections(context: &Context, side: Side, facts: &Facts) -> HealthCheck {
    let free = i64::from(facts.most - facts.reserved) - facts.used;
    let needed = context.settings.workers as i64 + BESIDE;
    let found = format!("{free} of {} connections are free", facts.most);
    if free >= needed {
        return HealthCheck::ok(side.name(), "connections", found);
    }
    HealthCheck::warning(
        side.name(),
        "connections",
        format!("{found}, and a run takes up to {needed}"),
        "use fewer workers (REGRAFT_WORKERS), or raise max_connections",
    )
}

/// Time limits of the server's, which this program's own sessions lift.
fn settings(side: Side, facts: &Facts) -> HealthCheck {
    let limit = |value: &str| match value {
        "0" => "none".to_owned(),
        milliseconds => format!("{milliseconds} ms"),
    };
    HealthCheck::ok(
        side.name(),
        "settings",
        format!(
            "time limit of statements {}, of idle transactions {}; our own sessions have none",
            limit(&facts.statement_timeout),
            limit(&facts.idle_timeout)
        ),
    )
}

fn tls(context: &Context, side: Side, facts: &Facts) -> HealthCheck {
    let endpoint = match side {
        Side::Source => &context.source,
        Side::Target => &context.target,
    };
    match &facts.tls {
        Some(version) => HealthCheck::ok(
            side.name(),
            "tls",
            format!("{version}, sslmode {}", endpoint.sslmode()),
        ),
        None if endpoint.host().is_local() => HealthCheck::ok(
            side.name(),
            "tls",
            "not used: the server is on this machine",
        ),
        None => HealthCheck::warning(
            side.name(),
            "tls",
            "the connection to another machine is not encrypted",
            "set sslmode to verify-full for this server, and have it offer TLS",
        ),
    }
}

fn clock(side: Side, facts: &Facts) -> HealthCheck {
    let found = match facts.ahead {
        ahead if ahead >= 0.0 => format!("{ahead:.1} s ahead of this machine's"),
        ahead => format!("{:.1} s behind this machine's", -ahead),
    };
    if facts.ahead.abs() <= OFF {
        return HealthCheck::ok(side.name(), "clock", found);
    }
    HealthCheck::warning(
        side.name(),
        "clock",
        found,
        "set both clocks by NTP: times in the ledger are the target's, `newest` compares the servers' times",
    )
}

fn writable(facts: &Facts) -> HealthCheck {
    if facts.standby {
        return HealthCheck::failure(
            "target",
            "writable",
            "the server is a standby, which nobody can write to",
            "set TARGET_DB_HOST to the primary server",
        );
    }
    if facts.read_only {
        return HealthCheck::failure(
            "target",
            "writable",
            "transactions are read-only by a setting (default_transaction_read_only)",
            "take that setting off the database or the user",
        );
    }
    HealthCheck::ok("target", "writable", "it is no standby, and not read-only")
}

/// Whether the source's user may read what every entity reads.
async fn may_read(context: &Context, session: &Session) -> Result<HealthCheck> {
    let mut refused = Vec::new();
    let mut broken = Vec::new();
    for entity in context.project.entities() {
        let nothing = format!("select from {}\nwhere false", entity.source.from.text);
        let Err(error) = session.batch_execute(&nothing).await else {
            continue;
        };
        let error = session.error(error);
        match error.kind() {
            ErrorKind::Permission => refused.push(entity.name.clone()),
            ErrorKind::LockNotAvailable => return Err(Error::from(error)),
            _ if error.sqlstate().is_some() => broken.push(entity.name.clone()),
            _ => return Err(Error::from(error)),
        }
    }
    let entities = context.project.entities().len();
    Ok(if !refused.is_empty() {
        HealthCheck::failure(
            "source",
            "privileges",
            format!(
                "the user may not read what these entities read: {}",
                some(&refused)
            ),
            "grant it SELECT on their tables and USAGE on their schemas",
        )
    } else if !broken.is_empty() {
        HealthCheck::failure(
            "source",
            "privileges",
            format!(
                "the tables of these entities can't be read: {}",
                some(&broken)
            ),
            "`regraft check` says why",
        )
    } else {
        HealthCheck::ok(
            "source",
            "privileges",
            format!("the user may read the tables of all {entities} entities"),
        )
    })
}

/// What the target's user may do, by table.
struct Rights {
    tables: usize,
    missing: Vec<String>,
    /// Tables that it may not read and write.
    refused: Vec<String>,
    /// Tables of another owner.
    foreign: Vec<String>,
    /// Whether it may use the ledger's schema, or create it.
    ledger: bool,
}

impl Rights {
    async fn read(context: &Context, session: &Session) -> Result<Self> {
        let namespace = context.project.manifest().target.namespace.as_str();
        let entities = context.project.entities().iter();
        let mut tables: Vec<String> = entities
            .map(|entity| {
                let (schema, table) = entity.target.schema_and_table(namespace);
                quote::qualified(schema, table)
            })
            .collect();
        tables.sort();
        tables.dedup();
        let row = session
            .query_one(
                "with wanted as (select name, to_regclass(name) as oid from unnest($1::text[]) t (name))
                 select array(select name from wanted where oid is null order by 1),
                        array(select name from wanted where oid is not null and not
                                (has_table_privilege(oid, 'select') and has_table_privilege(oid, 'insert')
                                 and has_table_privilege(oid, 'update') and has_table_privilege(oid, 'delete'))
                              order by 1),
                        array(select name from wanted join pg_class c on c.oid = wanted.oid
                              where not pg_has_role(c.relowner, 'usage') order by 1),
                        case when to_regnamespace('regraft') is null
                          then has_database_privilege(current_database(), 'create')
                          else has_schema_privilege('regraft', 'usage') end",
                &[&tables],
            )
            .await?;
        Ok(Self {
            tables: tables.len(),
            missing: row.get(0),
            refused: row.get(1),
            foreign: row.get(2),
            ledger: row.get(3),
        })
    }
}

/// Whether the target's user may write every entity's table, and the ledger.
async fn may_write(context: &Context, session: &Session) -> Result<Vec<HealthCheck>> {
    let rights = Rights::read(context, session).await?;
    let mut checks = Vec::new();
    if !rights.missing.is_empty() {
        checks.push(HealthCheck::failure(
            "target",
            "tables",
            format!("these are not there: {}", some(&rights.missing)),
            "`regraft schema apply` creates them, or `regraft check` says what the project expects",
        ));
    }
    checks.push(if !rights.refused.is_empty() {
        HealthCheck::failure(
            "target",
            "privileges",
            format!("the user may not read and write {}", some(&rights.refused)),
            "connect as the owner of the target's tables, or grant it SELECT, INSERT, UPDATE and DELETE",
        )
    } else if !rights.foreign.is_empty() {
        HealthCheck::warning(
            "target",
            "privileges",
            format!("the user does not own {}", some(&rights.foreign)),
            "connect as their owner, or migrate with `--mode in-place`: a bulk load takes indexes off",
        )
    } else {
        HealthCheck::ok(
            "target",
            "privileges",
            format!(
                "the user owns the {} tables of the project that are there",
                rights.tables - rights.missing.len()
            ),
        )
    });
    if !rights.ledger {
        checks.push(HealthCheck::failure(
            "target",
            "ledger",
            "the user may not use the schema of the ledger, or create it",
            "grant it CREATE on the database, or connect as the user who migrated",
        ));
    }
    Ok(checks)
}

#[expect(clippy::cast_precision_loss, reason = "a size needs no exactness")]
fn size(bytes: i64) -> String {
    let mut amount = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            return format!("the database takes {amount:.0} {unit}");
        }
        amount /= 1024.0;
    }
    format!("the database takes {amount:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!(size(512), "the database takes 512 bytes");
        assert_eq!(size(9 << 20), "the database takes 9 MiB");
        assert_eq!(size(3 << 40), "the database takes 3.0 TiB");
    }
}
