//! Columns of enums and codes: labels as they are, in arrays, and translated.

use regraft_pg::quote::literal;

use super::value::{Maker, pick, strings};
use super::writing::toml;
use crate::dice::Dice;

pub(super) fn label(maker: &mut Maker, dice: &mut Dice) {
    let to = *pick(&["mood", "text"], dice);
    maker.set(
        "mood",
        to,
        strings(&["sad", "so so", "happy", "Überglücklich"]),
        Vec::new(),
    );
}

pub(super) fn text_label(maker: &mut Maker, _: &mut Dice) {
    maker.set(
        "text",
        "mood",
        strings(&["sad", "so so", "Überglücklich"]),
        strings(&["Happy", "", "sad "]),
    );
    maker.fault(
        "unmapped_value",
        "$ not in ('sad', 'so so', 'happy', 'Überglücklich')",
    );
}

pub(super) fn coded(maker: &mut Maker, dice: &mut Dice) {
    let c = maker.c.clone();
    let (of, to) = *pick(
        &[
            ("integer", "mood"),
            ("text", "mood"),
            ("integer", "text"),
            ("boolean", "mood"),
        ],
        dice,
    );
    let codes = if of == "boolean" {
        ["true", "false", "true"]
    } else {
        ["0", "1", "-2"]
    };
    let labels = ["sad", "happy", "so so"];
    let count = if of == "boolean" { 2 } else { 3 };
    let good = codes[..count].iter().map(|code| literal(code)).collect();
    let bad = if of == "boolean" {
        Vec::new()
    } else {
        vec!["'9'".to_owned(), "'77'".to_owned()]
    };
    maker.set(of, to, good, bad);
    let mut rule = format!("{{ from = {}, map = {{ ", toml(&c));
    let mut expected = format!("case {c}::text ");
    for (code, label) in codes[..count].iter().zip(labels) {
        rule.push_str(&format!("\"{code}\" = \"{label}\", "));
        expected.push_str(&format!("when '{code}' then '{label}' "));
    }
    rule.truncate(rule.len() - 2);
    rule.push_str(" }");
    let mut null = "null";
    if dice.below(2) == 0 {
        rule.push_str(", null = \"sad\"");
        null = "'sad'";
    }
    let known = codes[..count]
        .iter()
        .map(|code| literal(code))
        .collect::<Vec<_>>()
        .join(", ");
    if dice.below(2) == 0 {
        rule.push_str(", otherwise = \"happy\"");
        expected.push_str("else 'happy' end");
    } else {
        maker.fault("unmapped_value", &format!("$::text not in ({known})"));
        expected.push_str("end");
    }
    maker.column.rule = format!("{rule} }}");
    maker.column.expected = format!("case when {c} is null then {null} else {expected} end");
}

/// Only the target knows which texts are labels when they are in an array.
pub(super) fn labels(maker: &mut Maker, _: &mut Dice) {
    maker.set(
        "text[]",
        "mood[]",
        strings(&["{}", "{sad,NULL}", "{happy}"]),
        strings(&["{purple}", "{sad,\"\"}"]),
    );
    maker.fault("target_refused", "$ && array['purple', '']");
}
