//! Numbers, times and rates as people read them.

/// A count with separators: `1,234,567`.
pub(crate) fn count(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        out.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 row`, `2,000 rows`.
pub(crate) fn counted(number: impl Into<i128>, noun: &str) -> String {
    let number: i128 = number.into();
    let plural = match (number, noun) {
        (1, _) => noun.to_owned(),
        (_, noun) => plural(noun),
    };
    format!("{} {plural}", count(number))
}

/// The plural of a regular noun.
fn plural(noun: &str) -> String {
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if noun.ends_with("ch") => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// A time span: `40 ms`, `12.3 s`, `2 min 05 s`, `3 h 07 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and saturating is fine"
    )]
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
}

/// A time span to come, which nobody knows to the tenth: `4 s`, `2 min 05 s`.
pub(crate) fn span(seconds: f64) -> String {
    if (0.0..60.0).contains(&seconds) {
        return format!("{:.0} s", seconds.ceil());
    }
    duration(seconds)
}

/// Rows per second, in as many digits as mean something: `87`, `1,250`, `482,000`.
pub(crate) fn rate(rows_per_second: f64) -> String {
    if !rows_per_second.is_finite() || rows_per_second < 0.0 {
        return "?".to_owned();
    }
    let step = match rows_per_second {
        r if r >= 100_000.0 => 1_000.0,
        r if r >= 10_000.0 => 100.0,
        r if r >= 1_000.0 => 10.0,
        _ => 1.0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "saturating is fine")]
    let rounded = ((rows_per_second / step).round() * step) as i64;
    count(rounded)
}

/// `items` as a phrase: `a`, `a and b`, `a, b and c`.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// The first `most` of `items` with commas, and how many more there are.
pub(crate) fn some<T: AsRef<str>>(items: &[T], most: usize) -> String {
    let shown: Vec<&str> = items.iter().take(most).map(AsRef::as_ref).collect();
    match items.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), count(more as u64)),
    }
}

/// A point in time of the ledger (RFC 3339) as people read it: `2026-11-22 10:15:00 UTC`.
pub(crate) fn moment(rfc3339: &str) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// How long ago a point in time of the ledger (RFC 3339) was: `5 min ago`.
pub(crate) fn ago(rfc3339: &str, now: jiff::Timestamp) -> String {
    let Ok(at) = rfc3339.parse::<jiff::Timestamp>() else {
        return rfc3339.to_owned();
    };
    match now.as_second() - at.as_second() {
        ..1 => "just now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} ago", counted(seconds / 86_400, "day")),
    }
}

/// `text` broken at blanks into lines of at most `width` characters, further lines indented.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = visible(word);
        if used > 0 && used + 1 + length > width.max(20) {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            used = indent;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// The characters of a text that can be seen: without colours.
pub(crate) fn visible(text: &str) -> usize {
    anstream::adapter::strip_str(text)
        .to_string()
        .chars()
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (123_456, "123,456"),
            (1_234_567, "1,234,567"),
            (-1_000, "-1,000"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(2, "entity"), "2 entities");
        assert_eq!(counted(0, "day"), "0 days");
        assert_eq!(counted(3, "batch"), "3 batches");
    }

    #[test]
    fn durations_and_rates_have_few_digits() {
        for (seconds, text) in [
            (0.04, "40 ms"),
            (0.9996, "1.0 s"),
            (12.34, "12.3 s"),
            (59.96, "1 min 00 s"),
            (125.0, "2 min 05 s"),
            (11_220.0, "3 h 07 min"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(rate(482_345.0), "482,000");
        assert_eq!(rate(87.4), "87");
        assert_eq!(rate(f64::INFINITY), "?");
    }

    #[test]
    fn lists_read_as_phrases() {
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(some(&["1", "2", "3"], 2), "1, 2 and 1 more");
        assert_eq!(some(&["1", "2"], 2), "1, 2");
    }

    #[test]
    fn long_lines_are_broken_at_blanks() {
        assert_eq!(
            wrap("aaaa bbbb cccc dddd eeee ffff", 20, 2),
            "aaaa bbbb cccc dddd\n  eeee ffff"
        );
    }

    #[test]
    fn moments_are_told_from_now() {
        let now: jiff::Timestamp = "2026-11-22T10:15:00Z".parse().unwrap();
        assert_eq!(ago("2026-11-22T10:14:18Z", now), "42 s ago");
        assert_eq!(ago("2026-11-22T08:14:18Z", now), "2 h ago");
        assert_eq!(ago("2026-11-20T08:14:18Z", now), "2 days ago");
        assert_eq!(moment("2026-11-22T10:14:18Z"), "2026-11-22 10:14:18 UTC");
    }
}
