//! Columns of JSON: as it is, out of texts that may be none, and built from values.

use super::value::{Maker, TEXTS, strings};
use super::writing::toml;
use crate::dice::Dice;

const DOCUMENTS: &[&str] = &[
    "{}",
    "[]",
    "null",
    "1",
    "\"text\"",
    "{\"b\": 1, \"a\": {\"c\": [1, 2, {\"d\": null}]}}",
    "[1.0, 1.00, 1e3]",
    "{\"é\": \"\\u00e9\", \"\": \"\"}",
    "{\"a\": 1, \"a\": 2}",
    "12345678901234567890.123456789",
    " [ true , false ] ",
];

pub(super) fn document(maker: &mut Maker, dice: &mut Dice) {
    if dice.below(2) == 0 {
        maker.set("jsonb", "jsonb", strings(DOCUMENTS), Vec::new());
    } else {
        // What json takes and jsonb doesn't.
        maker.set(
            "json",
            "jsonb",
            strings(DOCUMENTS),
            strings(&["[\"\\u0000\"]"]),
        );
        let when = format!("position('u0000' in {}::text) > 0", maker.c);
        maker.column.faults.push(("source_error".to_owned(), when));
    }
    maker.column.expected = format!("{}::jsonb::text", maker.c);
}

const NO_DOCUMENTS: &[&str] = &[
    "{",
    "nul",
    "{'a': 1}",
    "[1,]",
    "01",
    "\"\\u0000\"",
    "{\"a\" 1}",
    "\"unclosed",
    "{\"a\": 1} x",
    "\u{a0}1",
    "\"tab\there\"",
    "\"\\ud800\"",
];

pub(super) fn parsed(maker: &mut Maker, dice: &mut Dice) {
    let c = maker.c.clone();
    let mut good = strings(DOCUMENTS);
    good.extend(strings(&["", " \n"]));
    maker.set("text", "jsonb", good, strings(NO_DOCUMENTS));
    let bad_list = strings(NO_DOCUMENTS).join(", ");
    let is_bad = format!("{c} in ({bad_list})");
    let is_empty = format!("{c} in ('', E' \\n')");
    let (bad, bad_value) = match dice.below(3) {
        0 => {
            maker.fault("invalid_json", &is_bad);
            ("\"quarantine\"", "null".to_owned())
        }
        1 => ("\"null\"", "null".to_owned()),
        _ => (
            "{ keep_as = \"raw text\" }",
            format!("jsonb_build_object('raw text', {c})::text"),
        ),
    };
    let (empty, empty_value) = match dice.below(3) {
        0 => {
            maker.fault("invalid_json", &is_empty);
            ("\"quarantine\"", "null".to_owned())
        }
        1 => ("\"null\"", "null".to_owned()),
        _ => ("'{\"empty\": true}'", "'{\"empty\": true}'".to_owned()),
    };
    maker.column.rule = format!("{{ parse = {}, bad = {bad}, empty = {empty} }}", toml(&c));
    maker.column.expected = format!(
        "case when {is_bad} then {bad_value} when {is_empty} then {empty_value} else {c}::jsonb::text end"
    );
}

pub(super) fn object(maker: &mut Maker, _: &mut Dice) {
    let c = maker.c.clone();
    maker.set("text", "jsonb", strings(TEXTS), Vec::new());
    let (length, bare) = (toml(&format!("char_length({c})")), toml(&c));
    maker.column.rule = format!(
        "{{ json = {{ text = {bare}, more = {{ length = {length}, \"a b\" = \"1.50\" }} }} }}"
    );
    maker.column.expected = format!(
        "jsonb_build_object('text', {c}, 'more', jsonb_build_object('length', char_length({c}), 'a b', 1.50))::text"
    );
}
