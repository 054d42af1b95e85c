//! When a job is due: words, intervals, and cron expressions, by the wall clock of a time zone.

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// What is wrong with a schedule or a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError(String);

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScheduleError {}

/// A schedule in its time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    times: Times,
    /// What a word means.
    meaning: Option<&'static str>,
    zone: TimeZone,
}

#[derive(Debug, Clone)]
enum Times {
    /// By an expression of five fields: minute, hour, day of month, month, day of week.
    Cron(Box<Cron>),
    /// So many minutes (hours too) after each other, whatever clocks do.
    Minutes(i64),
    /// At the same time of day, so many days apart.
    Days(i64),
}

/// The words, as cron expressions, and what they mean.
const WORDS: [(&str, &str, &str); 3] = [
    ("hourly", "0 * * * *", "at the start of every hour"),
    ("daily", "0 0 * * *", "every day at 00:00"),
    ("weekly", "0 0 * * MON", "every Monday at 00:00"),
];

/// The units of an interval: letter, most of them, how many minutes one is (0: it is days), days.
const UNITS: [(char, &str, i64, i64, i64); 4] = [
    ('m', "minutes", 60, 1, 0),
    ('h', "hours", 24, 60, 0),
    ('d', "days", 365, 0, 1),
    ('w', "weeks", 52, 0, 7),
];

impl Schedule {
    /// Reads a schedule: `hourly`, `daily`, `weekly` (at the start of each hour, day, Monday), an
    /// interval (`30m`, `2h`, `1d`, `1w`), or a cron expression of five fields. `zone` is a name of
    /// the time zone database.
    ///
    /// # Errors
    /// Why it is none, and what would be one.
    pub fn parse(text: &str, zone: &str) -> Result<Self, ScheduleError> {
        let zone = TimeZone::get(zone).map_err(|_| {
            ScheduleError(format!(
                "no time zone is named {zone:?}: write one like Europe/Berlin or UTC"
            ))
        })?;
        let word = WORDS.iter().find(|word| word.0 == text.trim());
        let times = match (word, text.trim()) {
            (Some((_, expression, _)), _) => cron(expression)?,
            (None, text) if text.split_whitespace().count() == 5 => cron(text)?,
            (None, text) => interval(text)?,
        };
        let meaning = word.map(|word| word.2);
        Ok(Self {
            times,
            meaning,
            zone,
        })
    }

    /// The first time after `now` that it is due. Intervals are counted from `anchor`, so that they
    /// don't drift.
    ///
    /// # Errors
    /// It is never due again.
    pub fn next_after(
        &self,
        anchor: Timestamp,
        now: Timestamp,
    ) -> Result<Timestamp, ScheduleError> {
        match &self.times {
            Times::Cron(cron) => {
                let now = now.to_zoned(self.zone.clone());
                cron.find_next_occurrence(&now, false)
                    .map(|next: Zoned| next.timestamp())
                    .map_err(|_| never())
            }
            Times::Minutes(minutes) => {
                let step = minutes * 60;
                let passed = now.duration_since(anchor).as_secs().div_euclid(step);
                anchor
                    .checked_add(SignedDuration::from_secs((passed + 1) * step))
                    .map_err(|_| never())
            }
            Times::Days(days) => {
                let anchor = anchor.to_zoned(self.zone.clone());
                let passed = now.duration_since(anchor.timestamp()).as_secs();
                // A day has 23 to 25 hours: begin a step early, and go on from there.
                let mut steps = (passed.div_euclid(days * 86_400) - 1).max(0);
                loop {
                    let next = anchor
                        .checked_add(Span::new().days(steps * days))
                        .map_err(|_| never())?
                        .timestamp();
                    if next > now {
                        return Ok(next);
                    }
                    steps += 1;
                }
            }
        }
    }

    /// The next times after `now`, in its zone.
    ///
    /// # Errors
    /// It is never due again.
    pub fn upcoming(
        &self,
        anchor: Timestamp,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Zoned>, ScheduleError> {
        let mut times = Vec::with_capacity(most);
        let mut last = now;
        for _ in 0..most {
            last = self.next_after(anchor, last)?;
            times.push(last.to_zoned(self.zone.clone()));
        }
        Ok(times)
    }

    /// It in words.
    pub fn in_words(&self) -> String {
        let every = |n: i64, one: &str| match n {
            1 => format!("every {one}"),
            n => format!("every {n} {one}s"),
        };
        match (&self.times, self.meaning) {
            (_, Some(meaning)) => meaning.to_owned(),
            (Times::Cron(cron), None) => {
                let words = cron.describe();
                let mut characters = words.trim_end_matches('.').chars();
                let first = characters.next().into_iter().flat_map(char::to_lowercase);
                first.chain(characters.as_str().chars()).collect()
            }
            (Times::Minutes(n), None) if n % 60 == 0 => every(n / 60, "hour"),
            (Times::Minutes(n), None) => every(*n, "minute"),
            (Times::Days(n), None) if n % 7 == 0 => every(n / 7, "week"),
            (Times::Days(n), None) => every(*n, "day"),
        }
    }

    /// Its time zone.
    pub fn time_zone(&self) -> TimeZone {
        self.zone.clone()
    }
}

fn never() -> ScheduleError {
    ScheduleError("the schedule is never due: no date fits it".to_owned())
}

fn cron(text: &str) -> Result<Times, ScheduleError> {
    Cron::from_str(text)
        .map(|cron| Times::Cron(Box::new(cron)))
        .map_err(|error| ScheduleError(format!("{text:?} is no cron expression: {error}")))
}

fn interval(text: &str) -> Result<Times, ScheduleError> {
    let unknown = || {
        ScheduleError(format!(
            "{text:?} is no schedule: write hourly, daily, weekly, an interval (30m, 2h, 1d, 1w), or a \
             cron expression of five fields (\"30 2 * * MON-FRI\")"
        ))
    };
    let letter = text.chars().last().ok_or_else(unknown)?;
    let unit = UNITS.iter().find(|unit| unit.0 == letter);
    let &(_, name, most, minutes, days) = unit.ok_or_else(unknown)?;
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unknown());
    }
    let number: i64 = digits.parse().map_err(|_| unknown())?;
    if !(1..=most).contains(&number) {
        return Err(ScheduleError(format!(
            "{text:?} is no schedule: an interval has 1 to {most} {name}"
        )));
    }
    Ok(match days {
        0 => Times::Minutes(number * minutes),
        days => Times::Days(number * days),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn all(schedule: &str, zone: &str, from: &str, to: &str) -> Vec<Zoned> {
        let schedule = Schedule::parse(schedule, zone).expect("a schedule");
        let (anchor, to) = (at(from), at(to));
        let mut times = Vec::new();
        let mut now = anchor;
        loop {
            now = schedule.next_after(anchor, now).expect("a time");
            if now >= to {
                return times;
            }
            times.push(now.to_zoned(schedule.zone.clone()));
        }
    }

    /// Statement 18 of the customer's contract, and the edges of each unit.
    #[test]
    fn what_is_a_schedule() {
        for good in [
            "hourly",
            "daily",
            "weekly",
            "2h",
            "30m",
            "1d",
            "24h",
            "60m",
            "1w",
            "365d",
            "30 2 * * *",
            "*/15 8-17 * * MON-FRI",
        ] {
            assert!(Schedule::parse(good, "UTC").is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "25h",
            "61m",
            "0m",
            "sometimes",
            "h",
            "-1h",
            "1.5h",
            "2 h",
            "1y",
            "366d",
            "53w",
            "61 * * * *",
            "* * * *",
            "* * 32 * *",
            "monthly",
            "9999999999999999999m",
            "1ä",
        ] {
            let error = Schedule::parse(bad, "UTC").expect_err(bad);
            assert!(
                error.to_string().contains("no schedule") || error.to_string().contains("no cron"),
                "{error}"
            );
        }
        assert!(Schedule::parse("daily", "Europe/Atlantis").is_err());
    }

    #[test]
    fn a_date_that_never_comes_is_told() {
        let never = Schedule::parse("0 0 30 2 *", "UTC").expect("it can be read");
        assert!(
            never
                .next_after(at("2026-01-01T00:00Z"), at("2026-01-01T00:00Z"))
                .is_err()
        );
    }

    /// Over both changes of the clock each day has its one run, and each hour too.
    #[test]
    fn a_year_with_both_changes_of_the_clock() {
        let (from, to) = ("2026-01-01T00:00:30+01", "2027-01-01T00:00:30+01");
        for daily in ["daily", "30 2 * * *", "0 2 * * *", "15 3 * * *"] {
            let times = all(daily, "Europe/Berlin", from, to);
            let mut days: Vec<_> = times.iter().map(Zoned::date).collect();
            days.dedup();
            assert_eq!((days.len(), times.len()), (365, 365), "{daily}");
        }
        assert_eq!(all("hourly", "Europe/Berlin", from, to).len(), 8760);
        assert_eq!(all("weekly", "Europe/Berlin", from, to).len(), 52);
        let days = all(
            "1d",
            "Europe/Berlin",
            "2026-03-20T06:15+01",
            "2026-11-20T00:00Z",
        );
        assert!(days.iter().all(|day| (day.hour(), day.minute()) == (6, 15)));
        assert_eq!(days.len(), 244);
        assert_eq!(all("2h", "Europe/Berlin", from, to).len(), 365 * 12 - 1);
    }

    #[test]
    fn in_words() {
        let words = |text: &str| Schedule::parse(text, "UTC").expect(text).in_words();
        assert_eq!(words("30m"), "every 30 minutes");
        assert_eq!(words("60m"), "every hour");
        assert_eq!(words("2w"), "every 2 weeks");
        assert!(
            words("30 2 * * *").contains("02:30"),
            "{}",
            words("30 2 * * *")
        );
    }
}
