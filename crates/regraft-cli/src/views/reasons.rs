//! Why rows stay behind, in words, and what can be done about it.

use crate::table::{Table, count, text};

/// A reason with the rows that have it.
pub(crate) struct Reason<'a> {
    pub(crate) entity: &'a str,
    pub(crate) rows: i64,
    pub(crate) code: &'a str,
    /// The column or constraint it is about.
    pub(crate) place: Option<&'a str>,
    /// The parent entity, for a missing or blocked parent.
    pub(crate) parent: Option<&'a str>,
    /// Legacy ids of some of the `open` rows that have it now.
    pub(crate) examples: &'a [String],
    pub(crate) open: i64,
}

/// Reasons with numbers and examples.
pub(crate) fn table<'a>(reasons: impl Iterator<Item = Reason<'a>>, width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .number("rows")
        .text("reason")
        .text("legacy ids");
    for reason in reasons {
        table.row(vec![
            text(reason.entity),
            count(reason.rows),
            text(phrase(reason.code, reason.place, reason.parent)),
            text(examples(reason.examples, reason.open)),
        ]);
    }
    table.render(width, 2)
}

/// Example ids, with dots where there are more.
pub(crate) fn examples(ids: &[String], rows: i64) -> String {
    let shown = ids
        .iter()
        .take(3)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if usize::try_from(rows).is_ok_and(|rows| rows > ids.len().min(3)) {
        format!("{shown}, …")
    } else {
        shown
    }
}

/// A line of advice for each code.
pub(crate) fn what_to_do<'a>(codes: impl Iterator<Item = &'a str>, width: usize) -> String {
    let mut codes: Vec<&str> = codes.collect();
    codes.sort_unstable();
    codes.dedup();
    if codes.is_empty() {
        return String::new();
    }
    let mut table = Table::new().text("code").text("what to do");
    for code in codes {
        table.row(vec![
            text(code),
            text(format!("{}: {}", words(code), advice(code))),
        ]);
    }
    format!("\n{}", table.render(width, 2))
}

/// A reason as it stands in a table: `status: value not in the map`.
pub(crate) fn phrase(code: &str, place: Option<&str>, parent: Option<&str>) -> String {
    let what = match (code, parent) {
        ("missing_parent", Some(parent)) => format!("no such row in {parent}"),
        ("blocked_parent", Some(parent)) => format!("its row of {parent} could not be moved"),
        _ => words(code).to_owned(),
    };
    match place {
        Some(place) => format!("{place}: {what}"),
        None => what,
    }
}

/// The codes of reasons.
#[cfg(test)]
pub(crate) const CODES: [&str; 18] = [
    "not_null",
    "value_too_long",
    "numeric_out_of_range",
    "numeric_scale",
    "time_precision",
    "unmapped_value",
    "missing_parent",
    "blocked_parent",
    "invalid_json",
    "invalid_uuid",
    "duplicate_key",
    "check_violation",
    "unique_violation",
    "foreign_key_violation",
    "exclusion_violation",
    "target_refused",
    "source_error",
    "dropped",
];

/// What a reason's code means.
pub(crate) fn words(code: &str) -> &str {
    match code {
        "not_null" => "NULL where a value is needed",
        "value_too_long" => "text too long for the column",
        "numeric_out_of_range" => "number too large for the column",
        "numeric_scale" => "more decimals than the column keeps",
        "time_precision" => "finer time than the column keeps",
        "unmapped_value" => "value not in the map",
        "missing_parent" => "no such parent row",
        "blocked_parent" => "the parent row could not be moved",
        "invalid_json" => "text is not valid JSON",
        "invalid_uuid" => "text is not a UUID",
        "duplicate_key" => "the legacy id occurs more than once",
        "check_violation" => "refused by a check constraint",
        "unique_violation" => "another row has the same value",
        "foreign_key_violation" => "refused by a foreign key",
        "exclusion_violation" => "refused by an exclusion constraint",
        "target_refused" => "refused by the target",
        "source_error" => "an expression fails on this row",
        "dropped" => "it was decided not to move it",
        other => other,
    }
}

/// What can be done about rows with this code.
pub(crate) fn advice(code: &str) -> &'static str {
    match code {
        "not_null" => "repair the source, or write an expression that always has a value",
        "value_too_long" | "numeric_out_of_range" | "numeric_scale" | "time_precision" => {
            "repair it, cut it in the expression, or widen the column"
        }
        "unmapped_value" => "find out what the code means and add it to the column's map",
        "missing_parent" => "repair the source, or set `missing` on the reference",
        "blocked_parent" => "the row follows when its parent is moved",
        "invalid_json" => "repair the text, or set `bad` on the column to keep or drop it",
        "invalid_uuid" => "repair the text, or derive the key instead of taking it from the source",
        "duplicate_key" => {
            "make the entity's `from` give each legacy id once: a join may double rows"
        }
        "check_violation" | "exclusion_violation" | "target_refused" => {
            "repair the source, or change the expression or the target's rule"
        }
        "unique_violation" => "decide which of the rows is right, and repair or filter the others",
        "foreign_key_violation" => {
            "map the column as a reference to its entity, or repair the source"
        }
        "dropped" => "`regraft quarantine retry --dropped` tries it again",
        "source_error" => "guard the expression (a cast or a division fails), or repair the source",
        _ => "look at the rows with `regraft quarantine show`",
    }
}
