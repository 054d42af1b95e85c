//! Measuring a server over a connection of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use regraft_pg::{Session, Side};

use super::reading::{Lag, Reading};
use crate::context::Context;
use crate::error::{Error, Result};

/// A little work of the kind that an application asks for: an index lookup and a short sort.
pub(crate) const PROBE: &str =
    "select relname from pg_catalog.pg_class where oid < 20000 order by relname limit 20";

/// Probes whose median is what a server usually takes.
const FIRST_PROBES: usize = 15;

/// Time between them. Whoever has just waited is served first by most schedulers, so that probes in a
/// row are faster than what a user meets.
const BETWEEN_PROBES: Duration = Duration::from_millis(40);

/// A probe this short tells nothing: the noise of the network is as long.
const NOISE: Duration = Duration::from_micros(500);

/// The longest that a measurement may take; the probe counts as having taken so long then.
const LONGEST: Duration = Duration::from_secs(5);

/// Positions in the WAL that are remembered with the time at which they were written.
const REMEMBERED: usize = 3_600;

/// All but the probe, in one statement that reads no table. Who waits is asked of the locks, which
/// everybody may see, and for whom only where somebody does.
const STANDING: &str = "
select case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8 end,
       (select min(pg_wal_lsn_diff(replay_lsn, '0/0'))::int8 from pg_stat_replication
        where state in ('streaming', 'catchup')),
       current_setting('archive_mode') <> 'off' and a.last_failed_time is not null
         and a.last_failed_time > coalesce(a.last_archived_time, '-infinity'),
       case when current_setting('archive_mode') <> 'off' then a.last_archived_wal end,
       case when not pg_is_in_recovery() then pg_walfile_name(pg_current_wal_lsn()) end,
       pg_size_bytes(current_setting('wal_segment_size')),
       current_setting('max_connections')::int8
         - current_setting('superuser_reserved_connections')::int8
         - coalesce(current_setting('reserved_connections', true)::int8, 0)
         - (select coalesce(sum(numbackends), 0)::int8 from pg_stat_database),
       (select count(*)
        from (select distinct pid from pg_locks where not granted) waiting
        left join pg_stat_activity other on other.pid = waiting.pid
        where coalesce(other.application_name, '') <> 'regraft'
          and exists (select from unnest(pg_blocking_pids(waiting.pid)) holder
                      join pg_stat_activity ours on ours.pid = holder
                      where ours.application_name = 'regraft'))
from pg_stat_archiver a";

/// One server that is measured.
pub(super) struct Server {
    side: Side,
    session: Option<Session>,
    usual: Duration,
    /// Positions in the WAL, and when they were the last.
    written: VecDeque<(Instant, i64)>,
}

impl Server {
    /// Connects, and finds out what a probe takes usually.
    ///
    /// # Errors
    /// The server can't be reached.
    pub(super) async fn open(context: &Context, side: Side) -> Result<Self> {
        let session = connect(context, side).await?;
        let mut times = Vec::with_capacity(FIRST_PROBES);
        for _ in 0..FIRST_PROBES {
            tokio::time::sleep(BETWEEN_PROBES).await;
            times.push(probe(&session).await?);
        }
        times.sort_unstable();
        Ok(Self {
            side,
            session: Some(session),
            usual: times[FIRST_PROBES / 2].max(NOISE),
            written: VecDeque::new(),
        })
    }

    /// The connection, where there is one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Measures.
    ///
    /// # Errors
    /// The server can't be reached; the next measurement tries again.
    pub(super) async fn measure(&mut self, context: &Context) -> Result<Reading> {
        let session = match self.session.take() {
            Some(session) if !session.is_closed() => session,
            _ => connect(context, self.side).await?,
        };
        match tokio::time::timeout(LONGEST, self.read(&session)).await {
            Ok(Ok(reading)) => {
                self.session = Some(session);
                Ok(reading)
            }
            Ok(Err(error)) => Err(error),
            // The session is in the middle of an answer.
            Err(_) => Ok(Reading {
                side: self.side,
                probe: LONGEST,
                usual: self.usual,
                lag: None,
                archiving_fails: false,
                files_waiting: 0,
                waiting_for_us: 0,
                free: i64::MAX,
            }),
        }
    }

    async fn read(&mut self, session: &Session) -> Result<Reading> {
        let probe = probe(session).await?;
        let row = session
            .query_one(STANDING, &[])
            .await
            .map_err(|error| Error::from(session.error(error)))?;
        let (written, replayed): (Option<i64>, Option<i64>) = (row.get(0), row.get(1));
        let (archived, current): (Option<String>, Option<String>) = (row.get(3), row.get(4));
        let archived = archived.zip(current);
        Ok(Reading {
            side: self.side,
            probe,
            usual: self.usual,
            lag: written.and_then(|written| self.lag(Instant::now(), written, replayed)),
            archiving_fails: row.get(2),
            files_waiting: archived.map_or(0, |(archived, current)| {
                files_between(&archived, &current, row.get(5))
            }),
            waiting_for_us: row.get(7),
            free: row.get(6),
        })
    }

    /// How far a standby is behind that has replayed so much. Servers don't tell the time of one that
    /// has come to a stop: it is since when there has been WAL that it has not replayed.
    fn lag(&mut self, now: Instant, written: i64, replayed: Option<i64>) -> Option<Lag> {
        if self.written.back().is_none_or(|(_, last)| *last < written) {
            self.written.push_back((now, written));
        }
        while self.written.len() > REMEMBERED {
            self.written.pop_front();
        }
        let replayed = replayed?;
        let since = self.written.iter().find(|(_, at)| *at > replayed);
        Some(Lag {
            time: since.map_or(Duration::ZERO, |(since, _)| now.duration_since(*since)),
            bytes: (written - replayed).max(0),
        })
    }
}

async fn connect(context: &Context, side: Side) -> Result<Session> {
    match side {
        Side::Source => context.connect_source().await,
        Side::Target => context.connect_target().await,
    }
}

/// How long the probe takes, of two: one that is slow may be chance.
async fn probe(session: &Session) -> Result<Duration> {
    Ok(time(session).await?.min(time(session).await?))
}

/// How long the probe takes now.
///
/// # Errors
/// The server can't be reached.
pub(crate) async fn time(session: &Session) -> Result<Duration> {
    let started = Instant::now();
    session
        .simple_query(PROBE)
        .await
        .map_err(|error| Error::from(session.error(error)))?;
    Ok(started.elapsed())
}

/// Files of WAL between the one that was archived last and the one that is written to; 0 where that
/// can't be told by their names.
fn files_between(archived: &str, current: &str, size: i64) -> i64 {
    let number = |name: &str| {
        let high = i64::from_str_radix(name.get(8..16)?, 16).ok()?;
        let low = i64::from_str_radix(name.get(16..24)?, 16).ok()?;
        Some(high * ((1 << 32) / size.max(1)) + low)
    };
    let same_timeline = archived.get(..8) == current.get(..8);
    match (number(archived), number(current)) {
        (Some(archived), Some(current)) if same_timeline => (current - archived - 1).max(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_their_names() {
        let size = 16 << 20;
        let of = |archived: &str, current: &str| files_between(archived, current, size);
        let current = "000000010000000200000003";
        assert_eq!(of("000000010000000200000002", current), 0);
        assert_eq!(of("000000010000000200000000", current), 2);
        assert_eq!(of("0000000100000001000000FE", current), 4);
        assert_eq!(of("0000000100000001000000FE.00000028.backup", current), 4);
        assert_eq!(of("000000020000000200000000", current), 0);
        assert_eq!(of("00000002.history", current), 0);
    }

    #[test]
    fn a_standby_that_stands_still_falls_behind() {
        let mut server = Server {
            side: Side::Target,
            session: None,
            usual: NOISE,
            written: VecDeque::new(),
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(server.lag(at(0), 100, None), None);
        let lag = server.lag(at(1), 200, Some(200)).expect("a standby");
        assert_eq!((lag.time.as_secs(), lag.bytes), (0, 0));
        let lag = server.lag(at(2), 300, Some(200)).expect("a standby");
        assert_eq!((lag.time.as_secs(), lag.bytes), (0, 100));
        // Nothing more is written, and it has still not replayed what there is.
        let lag = server.lag(at(9), 300, Some(250)).expect("a standby");
        assert_eq!((lag.time.as_secs(), lag.bytes), (7, 50));
        let lag = server.lag(at(10), 300, Some(300)).expect("a standby");
        assert_eq!((lag.time.as_secs(), lag.bytes), (0, 0));
    }
}
