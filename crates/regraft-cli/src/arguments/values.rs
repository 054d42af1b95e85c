//! Values of options, with their bounds.

use std::time::Duration;

use regraft_sync::MOST_JOBS;

pub(super) fn scale(text: &str) -> Result<f64, String> {
    factor(text, 0.001, 100.0)
}

pub(super) fn dirt(text: &str) -> Result<f64, String> {
    factor(text, 0.0, 50.0)
}

pub(super) fn rows(text: &str) -> Result<u32, String> {
    whole(text, 1, 1_000_000)
}

pub(super) fn workers(text: &str) -> Result<u16, String> {
    whole(text, 1, 64)
}

pub(super) fn sampling_rate(text: &str) -> Result<f64, String> {
    factor(text, 0.01, 1.0)
}

pub(super) fn records(text: &str) -> Result<u64, String> {
    whole(text, 1, 1_000_000_000_000)
}

pub(super) fn examples(text: &str) -> Result<u64, String> {
    whole(text, 0, 10_000)
}

pub(super) fn time_limit(text: &str) -> Result<Duration, String> {
    let limit = match text.parse::<u64>() {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .map_err(|_| ())
            .and_then(|time| Duration::try_from(time).map_err(|_| ())),
    };
    match limit {
        Ok(limit) if limit >= Duration::from_secs(1) => Ok(limit),
        _ => Err(
            "a time of one second or more is needed, such as `30s`, `10m` or `1h30m`; a number alone is milliseconds"
                .to_owned(),
        ),
    }
}

/// Rows per batch of a job (statement 20 of the customer's contract).
pub(super) fn per_batch(text: &str) -> Result<u32, String> {
    whole(text, 1_000, 100_000)
}

pub(super) fn seconds(text: &str) -> Result<u64, String> {
    whole(text, 1, 3_600)
}

pub(super) fn jobs(text: &str) -> Result<usize, String> {
    whole(text, 1, MOST_JOBS)
}

pub(super) fn limit(text: &str) -> Result<i64, String> {
    whole(text, 1, 1_000_000)
}

pub(super) fn days(text: &str) -> Result<i32, String> {
    whole(text, 1, 3650)
}

/// Days that something is kept, with parts of days.
pub(super) fn retention(text: &str) -> Result<f64, String> {
    factor(text, 0.0, 36_500.0)
}

fn whole<N>(text: &str, low: N, high: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match text.parse::<N>() {
        Ok(number) if (&low..=&high).contains(&&number) => Ok(number),
        _ => Err(format!("a whole number from {low} to {high} is needed")),
    }
}

fn factor(text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("a number from {low} to {high} is needed")),
    }
}

/// A UUID in one of its usual forms.
pub(super) fn uuid(text: &str) -> Result<uuid::Uuid, String> {
    uuid::Uuid::try_parse(text.trim())
        .map_err(|_| "this is no UUID: it takes 32 hexadecimal digits".to_owned())
}
