//! Whether both servers, the ledger and the project are in order.

mod activity;
mod ledger;
mod server;
mod thorough;

use std::time::Duration;

use regraft_pg::{Session, Side};
use serde::Serialize;

use super::dont_wait;
use crate::context::Context;
use crate::error::{Error, Kind, Result};

/// Things of one kind that are named.
const NAMED: usize = 5;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// In order.
    Ok,
    /// Works, and deserves a look.
    Warning,
    /// Stands in the way of work.
    Failure,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct HealthCheck {
    /// `source`, `target`, `ledger` or `project`.
    pub area: &'static str,
    /// What was looked at.
    pub check: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, unless it is in order.
    pub to_do: Option<String>,
}

impl HealthCheck {
    fn ok(area: &'static str, check: &'static str, found: impl Into<String>) -> Self {
        Self {
            area,
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            to_do: None,
        }
    }

    fn warning(
        area: &'static str,
        check: &'static str,
        found: impl Into<String>,
        to_do: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warning,
            to_do: Some(to_do.into()),
            ..Self::ok(area, check, found)
        }
    }

    fn failure(
        area: &'static str,
        check: &'static str,
        found: impl Into<String>,
        to_do: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Failure,
            ..Self::warning(area, check, found, to_do)
        }
    }
}

/// Whether all is in order.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Whether catalogs, tables and other sessions were looked at too.
    pub comprehensive: bool,
    /// Whether both servers answered.
    pub reachable: bool,
    /// Whether nothing failed.
    pub healthy: bool,
    /// Checks that deserve a look.
    pub warnings: usize,
    /// Checks that failed.
    pub failures: usize,
    /// All that was looked at.
    pub checks: Vec<HealthCheck>,
}

/// Looks at both servers, the ledger and, if it is to be `comprehensive`, at the catalogs, the tables
/// and other sessions.
///
/// # Errors
/// Faults of this program. A server that can't be reached is told under [`Health::checks`].
pub async fn system_health(context: &Context, comprehensive: bool) -> Result<Health> {
    let (mut checks, mut reachable) = (Vec::new(), true);
    let (source, target) = tokio::join!(
        connect(context, Side::Source),
        connect(context, Side::Target)
    );
    for (side, connected) in [(Side::Source, &source), (Side::Target, &target)] {
        match connected {
            Ok((session, time)) => {
                checks.push(server::reached(context, side, *time));
                let found = server::check(context, session).await;
                reachable &= add(&mut checks, side.name(), "server", found)?;
            }
            Err(error) => {
                reachable &= error.kind() != Kind::Unreachable;
                checks.push(failed(side.name(), "reachable", error)?);
            }
        }
    }
    if let Ok((session, _)) = &target {
        let found = ledger::check(context, session).await;
        reachable &= add(&mut checks, "ledger", "ledger", found)?;
    }
    if comprehensive {
        for session in [&source, &target].into_iter().flatten().map(|(s, _)| s) {
            let found = activity::check(session).await;
            reachable &= add(&mut checks, session.side().name(), "sessions", found)?;
        }
        if let (Ok((source, _)), Ok((target, _))) = (&source, &target) {
            let found = thorough::check(context, source, target).await;
            reachable &= add(&mut checks, "project", "catalogs", found)?;
        }
    }
    let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
    let (warnings, failures) = (count(Verdict::Warning), count(Verdict::Failure));
    Ok(Health {
        comprehensive,
        reachable,
        healthy: failures == 0,
        warnings,
        failures,
        checks,
    })
}

async fn connect(context: &Context, side: Side) -> Result<(Session, Duration)> {
    let begun = std::time::Instant::now();
    let session = match side {
        Side::Source => context.connect_source().await?,
        Side::Target => context.connect_target().await?,
    };
    let time = begun.elapsed();
    dont_wait(&session).await?;
    Ok((session, time))
}

/// Adds what was found, or that it could not be looked at. Whether the server was there.
fn add(
    checks: &mut Vec<HealthCheck>,
    area: &'static str,
    check: &'static str,
    found: Result<Vec<HealthCheck>>,
) -> Result<bool> {
    match found {
        Ok(found) => {
            checks.extend(found);
            Ok(true)
        }
        Err(error) => {
            checks.push(failed(area, check, &error)?);
            Ok(error.kind() != Kind::Unreachable)
        }
    }
}

/// The failure of something that could not be looked at.
fn failed(area: &'static str, check: &'static str, error: &Error) -> Result<HealthCheck> {
    if error.kind() == Kind::Internal {
        return Err(Error::new(Kind::Internal, error.to_string()));
    }
    let of_database = error.database().and_then(|database| database.hint());
    let to_do = error
        .hint_text()
        .or(of_database)
        .unwrap_or(match error.kind() {
            Kind::Permission => "give the user the right to see it, or use another one",
            Kind::Busy => "another session holds a lock: `regraft analyzer debug` names who holds one on an entity's table",
            _ => "look into the server's log",
        });
    Ok(HealthCheck::failure(area, check, error.to_string(), to_do))
}

/// The first few of a list, and how many more there are.
fn some(list: &[String]) -> String {
    let shown = list.iter().take(NAMED).map(String::as_str);
    let shown: Vec<&str> = shown.collect();
    match list.len().saturating_sub(NAMED) {
        0 => shown.join("; "),
        more => format!("{} and {more} more", shown.join("; ")),
    }
}
