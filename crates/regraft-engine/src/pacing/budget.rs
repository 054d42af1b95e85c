//! What our work may cost the users of both servers.

use std::str::FromStr;
use std::time::Duration;

/// A limit, or none. One that nobody has set can be set by somebody else; one that is off can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit<T> {
    /// Nobody has said anything.
    #[default]
    Unset,
    /// There is none.
    Off,
    /// It is this.
    At(T),
}

impl<T: Copy> Limit<T> {
    /// This one, or the other where nobody has said anything.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Unset => other,
            said => said,
        }
    }

    /// The limit, where there is one.
    pub fn get(self) -> Option<T> {
        match self {
            Self::At(limit) => Some(limit),
            Self::Unset | Self::Off => None,
        }
    }
}

/// What our work may cost the users of both servers. Without any limit nothing is measured. With one,
/// WAL that isn't archived and locks that others wait for hold the work back too.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// How many times as long as at first a probe query of either server may take.
    pub load: Limit<f64>,
    /// How far a standby of either server may be behind.
    pub replication_lag: Limit<Duration>,
    /// Connections of either server that stay free for others.
    pub connections: Limit<u32>,
}

impl Budget {
    /// The budget of jobs that nobody watches: they may take longer, and whoever uses the databases
    /// was not asked.
    pub const OF_JOBS: Self = Self {
        load: Limit::At(4.0),
        replication_lag: Limit::At(Duration::from_secs(30)),
        connections: Limit::At(5),
    };

    /// This budget, with the limits of another where it has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            load: self.load.or(other.load),
            replication_lag: self.replication_lag.or(other.replication_lag),
            connections: self.connections.or(other.connections),
        }
    }

    /// Whether there is any limit.
    pub fn is_set(&self) -> bool {
        self.load.get().is_some()
            || self.replication_lag.get().is_some()
            || self.connections.get().is_some()
    }
}

impl FromStr for Limit<f64> {
    type Err = String;

    /// A factor above 1, or `off`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.parse::<f64>() {
            Ok(factor) if factor > 1.0 && factor <= 1_000.0 => Ok(Self::At(factor)),
            _ => Err("a number above 1, and 1000 at most, is needed, or `off`".to_owned()),
        }
    }
}

impl FromStr for Limit<Duration> {
    type Err = String;

    /// A time such as `30s` or `2m`, 1 second to 1 day, or `off`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let time = text.parse::<jiff::SignedDuration>().ok();
        match time.and_then(|time| Duration::try_from(time).ok()) {
            Some(time) if (1..=86_400).contains(&time.as_secs()) => Ok(Self::At(time)),
            _ => Err(
                "a time from 1 second to a day is needed, such as `30s` or `2m`, or `off`"
                    .to_owned(),
            ),
        }
    }
}

impl FromStr for Limit<u32> {
    type Err = String;

    /// A number of connections, 1 to 10,000, or `off`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.parse::<u32>() {
            Ok(number) if (1..=10_000).contains(&number) => Ok(Self::At(number)),
            _ => Err("a whole number from 1 to 10000 is needed, or `off`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!("2.5".parse(), Ok(Limit::At(2.5)));
        assert_eq!("off".parse(), Ok(Limit::<f64>::Off));
        for bad in ["1", "0", "-3", "NaN", "inf", "1001", ""] {
            assert!(bad.parse::<Limit<f64>>().is_err(), "{bad}");
        }
        assert_eq!("90s".parse(), Ok(Limit::At(Duration::from_secs(90))));
        for bad in ["0s", "30", "2 days", "-5s"] {
            assert!(bad.parse::<Limit<Duration>>().is_err(), "{bad}");
        }
        assert_eq!("5".parse(), Ok(Limit::At(5_u32)));
        assert!("0".parse::<Limit<u32>>().is_err());
    }

    #[test]
    fn what_is_off_stays_off() {
        let said = Budget {
            load: Limit::Off,
            ..Budget::default()
        };
        let both = said.or(Budget::OF_JOBS);
        assert_eq!(both.load, Limit::Off);
        assert_eq!(both.connections, Budget::OF_JOBS.connections);
        assert!(!Budget::default().is_set() && both.is_set());
    }
}
