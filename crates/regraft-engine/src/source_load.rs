//! Holding back while the users of the source would feel us: a probe query is timed now and then,
//! and nothing is read while it takes much longer than it did at first.

use std::time::Duration;

use regraft_ledger::RANGE_BITS;
use regraft_pg::Session;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::keys::LegacyId;
use crate::load::literal;
use crate::model::EntityModel;
use crate::pacing::measure::time;

/// Probes whose median is what the source usually takes.
const FIRST_PROBES: usize = 7;

/// A probe this short tells nothing: the noise of the network is as long.
const NOISE: Duration = Duration::from_micros(500);

/// The longest pause between two probes.
const LONGEST: Duration = Duration::from_secs(5);

/// Legacy ids that are summed up at once where the source is to be spared.
const AT_ONCE: i64 = 1 << (RANGE_BITS + 11);

/// Statements that an entity is summed up in at most.
const SPANS: i64 = 10_000;

/// What may be asked of the source.
pub(crate) struct SourceLoad<'a> {
    context: &'a Context,
    probe: Option<Probe>,
}

struct Probe {
    session: Session,
    /// How long the probe may take.
    limit: Duration,
}

impl<'a> SourceLoad<'a> {
    /// As the settings say: without a limit nothing is probed.
    ///
    /// # Errors
    /// The source can't be reached.
    pub(crate) async fn new(context: &'a Context) -> Result<Self> {
        let Some(factor) = context.settings.max_source_load else {
            return Ok(Self {
                context,
                probe: None,
            });
        };
        let session = context.connect_source().await?;
        let mut times = Vec::with_capacity(FIRST_PROBES);
        for _ in 0..FIRST_PROBES {
            times.push(time(&session).await?);
        }
        times.sort_unstable();
        let usual = times[FIRST_PROBES / 2].max(NOISE);
        Ok(Self {
            context,
            probe: Some(Probe {
                session,
                limit: usual.mul_f64(factor),
            }),
        })
    }

    /// Lets the source end statements of a session that take longer than a batch may.
    ///
    /// # Errors
    /// The source can't be reached.
    pub(crate) async fn limit(&self, source: &Session) -> Result<()> {
        if let Some(limit) = self.context.settings.batch_timeout {
            let set = format!("set statement_timeout = {}", limit.as_millis());
            source.batch_execute(&set).await?;
        }
        Ok(())
    }

    /// Waits for its turn, and while the probe takes too long, and says so.
    ///
    /// # Errors
    /// The source can't be reached; a stop was asked for.
    pub(crate) async fn wait(&self) -> Result<()> {
        drop(self.context.turn().await?);
        let Some(probe) = &self.probe else {
            return Ok(());
        };
        let mut pause = Duration::from_millis(50);
        let mut waited = Duration::ZERO;
        loop {
            self.context.stop_requested()?;
            // One slow probe may be chance.
            let took = time(&probe.session).await?.min(time(&probe.session).await?);
            if took <= probe.limit {
                break;
            }
            if waited.is_zero() {
                self.context.events.send(Event::Note(format!(
                    "the source answers a probe in {:.1} ms, more than the {:.1} ms that --max-source-load allows: waiting",
                    took.as_secs_f64() * 1e3,
                    probe.limit.as_secs_f64() * 1e3
                )));
            }
            tokio::select! {
                () = self.context.cancel.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            waited += pause;
            pause = (pause * 2).min(LONGEST);
        }
        if !waited.is_zero() {
            self.context.events.send(Event::Note(format!(
                "the source answers as usual again, after {:.1} s",
                waited.as_secs_f64()
            )));
        }
        Ok(())
    }

    /// The conditions under which an entity is gone through piece by piece: one that holds of all
    /// rows where the source needn't be spared.
    ///
    /// # Errors
    /// What the source says to the query for the lowest and the highest legacy id.
    pub(crate) async fn spans(
        &self,
        source: &Session,
        model: &EntityModel,
    ) -> Result<Vec<Option<String>>> {
        if self.probe.is_none() && self.context.settings.budget.load.get().is_none() {
            return Ok(vec![None]);
        }
        let key = model.key_order();
        let sql = format!(
            "select min({key})::int8, max({key})::int8 from {}",
            model.from
        );
        let row = source.query_one(&sql, &[]).await;
        let row = row.map_err(|error| Error::from(source.error(error)))?;
        let (Some(low), Some(high)) = (row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1))
        else {
            return Ok(vec![None]);
        };
        Ok(cut(low, high)
            .into_iter()
            .map(|(low, high)| {
                let [low, high] = [low, high].map(|id| literal(&LegacyId::Number(id)));
                Some(format!("{key} >= {low} and {key} <= {high}"))
            })
            .collect())
    }
}

/// Cuts legacy ids into spans along the borders of ranges.
fn cut(low: i64, high: i64) -> Vec<(i64, i64)> {
    let wide = (i128::from(high) - i128::from(low)) / i128::from(SPANS);
    let wide = i64::try_from(wide).unwrap_or(i64::MAX / 4);
    let mut bits = AT_ONCE.trailing_zeros();
    while 1_i64 << bits < wide && bits < 61 {
        bits += 1;
    }
    (low >> bits..=high >> bits)
        .map(|span| (span << bits, (span << bits) + ((1 << bits) - 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_every_id_once() {
        for (low, high) in [
            (1, 1),
            (-5, 3_000_000),
            (0, 131_071),
            (i64::MIN, i64::MAX),
            (-1, 131_072),
        ] {
            let spans = cut(low, high);
            assert!(spans.len() <= 2 * SPANS as usize, "{} spans", spans.len());
            assert!(spans[0].0 <= low && spans[spans.len() - 1].1 >= high);
            assert!(
                spans
                    .windows(2)
                    .all(|pair| pair[0].1.checked_add(1) == Some(pair[1].0))
            );
        }
    }
}
