//! Creation and upgrade of the control tables.

use regraft_pg::{Error, ErrorKind, Result};
use tokio_postgres::GenericClient;

/// The schema that holds the control tables.
pub const SCHEMA: &str = "regraft";

/// The version of the control tables that this program reads and writes.
pub const VERSION: i32 = 5;

const STEPS: &[(i32, &str)] = &[
    (1, include_str!("schema/1.sql")),
    (2, include_str!("schema/2.sql")),
    (3, include_str!("schema/3.sql")),
    (4, include_str!("schema/4.sql")),
    (5, include_str!("schema/5.sql")),
];

/// The version of the control tables in the database; `None` where there are none.
pub async fn installed_version(client: &impl GenericClient) -> Result<Option<i32>> {
    // Not by to_regclass: what it didn't find before, it doesn't find in the same transaction again.
    let exists: bool = client
        .query_one(
            "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                            where n.nspname = 'regraft' and c.relname = 'ledger_version')",
            &[],
        )
        .await?
        .get(0);
    if !exists {
        return Ok(None);
    }
    let row = client
        .query_one("select max(version) from regraft.ledger_version", &[])
        .await?;
    Ok(row.get(0))
}

/// Creates the control tables, or brings them up to [`VERSION`]. Safe to call at every start and
/// by two programs at once. Must run inside a transaction of the caller.
///
/// # Errors
/// A ledger written by a later program is refused.
pub async fn install(client: &impl GenericClient) -> Result<()> {
    // Who upgrades waits for others; who has nothing to do doesn't.
    if installed_version(client).await? == Some(VERSION) {
        return Ok(());
    }
    client
        .batch_execute("select pg_advisory_xact_lock(hashtext('regraft'), 0)")
        .await?;
    let installed = installed_version(client).await?.unwrap_or(0);
    if installed > VERSION {
        return Err(Error::new(
            ErrorKind::Settings,
            format!(
                "the ledger in this target has version {installed}, this program knows version \
                 {VERSION}: use the program that wrote it, or a later one"
            ),
        ));
    }
    for (version, sql) in STEPS.iter().filter(|(version, _)| *version > installed) {
        client.batch_execute(sql).await?;
        client
            .execute(
                "insert into regraft.ledger_version (version, program) values ($1, $2)",
                &[version, &env!("CARGO_PKG_VERSION")],
            )
            .await?;
    }
    Ok(())
}
