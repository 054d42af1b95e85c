//! Values that are another than the source gives.

use regraft_pg::{Session, quote};

use super::class::Class;
use super::ground::Kind;
use super::verdict::Expected;
use super::{Round, change, shuffle, uuid};
use crate::dice::Dice;

pub(super) async fn strike(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    dice: &mut Dice,
) -> bool {
    let mut places = Vec::new();
    for subject in &round.ground.subjects {
        places.extend(subject.values.iter().map(|column| (subject, column)));
    }
    for (subject, column) in shuffle(places, dice) {
        if !round.has_room(&subject.name, "columns", &column.name, 1) {
            continue;
        }
        let place = format!("t.{}", quote::ident(&column.name));
        let Some((wrong, condition)) = corruption(class, &column.kind, &place, dice) else {
            continue;
        };
        // The wrong value is only computed where it can be; and a blank or a microsecond that has no room is no
        // longer there when it is written.
        let written = match column.kind {
            Kind::Text | Kind::Timestamp => format!("({wrong})::{}", column.declared),
            _ => format!("({wrong})"),
        };
        let condition =
            format!("case when {condition} then {written} is distinct from {place} else false end");
        for candidate in round.candidates(session, subject, &condition, dice).await {
            let update = format!(
                "update {} t set {} = {wrong} where t.{} = {}",
                subject.table,
                quote::ident(&column.name),
                subject.key,
                uuid(&candidate.key)
            );
            if !change(session, &update, 1).await {
                continue;
            }
            round.touch(&subject.name, &candidate.id);
            round.record(
                class,
                format!("{}.{} of {}", subject.name, column.name, candidate.id),
                vec![Expected::of_row(
                    &subject.name,
                    "columns",
                    &column.name,
                    &candidate.id,
                    "is not what the source gives",
                )],
            );
            return true;
        }
    }
    false
}

/// An expression for a wrong value of a column, and where it applies.
fn corruption(class: Class, kind: &Kind, c: &str, dice: &mut Dice) -> Option<(String, String)> {
    let there = format!("{c} is not null");
    if class == Class::NullForValue {
        return Some(("null".to_owned(), there));
    }
    match kind {
        Kind::Text => text(class, c, dice),
        Kind::Padded if !matches!(class, Class::TrailingBlank) => text(class, c, dice),
        Kind::Jsonb => document(class, c, dice),
        _ => {
            let wrong = match (class, kind) {
                (Class::Rounded, Kind::Numeric(_)) => {
                    return Some((
                        format!("round({c}, scale(trim_scale({c})) - 1)"),
                        format!("scale(trim_scale({c})) > 0 and {c} <> 'NaN'"),
                    ));
                }
                (Class::LeastDigit, Kind::Numeric(digits)) => {
                    format!("{c} + 1 / 10 ^ {}::numeric", digits.unwrap_or(9))
                }
                (Class::LeastDigit, Kind::Float) => format!("{c} + greatest(abs({c}), 1) * 1e-6"),
                (Class::IntegerBit, Kind::Integer) => {
                    format!("({c} # {})", 1_u32 << dice.below(13))
                }
                (Class::Microsecond, Kind::Timestamp) => {
                    format!("{c} + interval '1 microsecond'")
                }
                (Class::Zone, Kind::Timestamp) => {
                    let hours = [-8, -1, 1, 2][usize::try_from(dice.below(4)).ok()?];
                    format!("{c} + interval '{hours} hours'")
                }
                (Class::Day, Kind::Date) => format!("{c} + 1"),
                (Class::EnumLabel, Kind::Enum(labels)) => {
                    let label =
                        labels.get(usize::try_from(dice.below(labels.len() as u64)).ok()?)?;
                    quote::literal(label)
                }
                (Class::Boolean, Kind::Boolean) => format!("not {c}"),
                (Class::Byte, Kind::Bytea) => {
                    return Some((
                        format!("set_bit({c}, 0, 1 - get_bit({c}, 0))"),
                        format!("length({c}) > 0"),
                    ));
                }
                (Class::ArrayElement, Kind::Array) => {
                    let wrong = match dice.below(3) {
                        0 => format!("trim_array({c}, 1)"),
                        1 => format!("{c} || {c}[1:1]"),
                        _ => format!("{c}[2:] || {c}[1:1]"),
                    };
                    return Some((wrong, format!("cardinality({c}) > 0")));
                }
                _ => return None,
            };
            Some((wrong, there))
        }
    }
}

fn text(class: Class, c: &str, dice: &mut Dice) -> Option<(String, String)> {
    Some(match class {
        Class::TextBit => {
            // A letter or a digit stays printable, whichever of the five lowest bits changes.
            let letter = format!("(1 + {} % char_length({c}))", dice.below(1_000));
            let bit = 1 << dice.below(5);
            (
                format!(
                    "overlay({c} placing chr(ascii(substr({c}, {letter}, 1)) # {bit}) from {letter} for 1)"
                ),
                format!(
                    "{c} <> '' and case when {c} <> '' then substr({c}, {letter}, 1) ~ '[0-9A-Za-z]' end"
                ),
            )
        }
        Class::TrailingBlank => (format!("{c} || ' '"), format!("{c} is not null")),
        Class::LookAlike => {
            let pairs = [
                ("a", "а"),
                ("e", "е"),
                ("o", "о"),
                ("c", "с"),
                ("A", "А"),
                ("-", "‐"),
            ];
            let (letter, other) = pairs[usize::try_from(dice.below(6)).ok()?];
            (
                format!("regexp_replace({c}, '{letter}', '{other}')"),
                format!("position('{letter}' in {c}) > 0"),
            )
        }
        Class::NormalForm => (
            format!(
                "case when normalize({c}, nfd) <> {c} then normalize({c}, nfd) else normalize({c}, nfc) end"
            ),
            format!("{c} ~ '[^\\x01-\\x7f]'"),
        ),
        Class::Shortened => (format!("left({c}, -1)"), format!("{c} <> ''")),
        Class::NullForEmpty => ("null".to_owned(), format!("{c} = ''")),
        Class::EmptyForNull => ("''".to_owned(), format!("{c} is null")),
        _ => return None,
    })
}

fn document(class: Class, c: &str, dice: &mut Dice) -> Option<(String, String)> {
    let (pattern, other) = match class {
        Class::JsonKey => (r#""([^"\\]+)":"#, r#""\1_":"#),
        // A number becomes a text that looks the same.
        Class::JsonValue => (r": (-?[0-9]+)(?=[,}])", r#": "\1""#),
        Class::JsonNulls => {
            let without = format!("jsonb_strip_nulls({c})");
            return Some((without, format!("{c} is not null")));
        }
        Class::JsonElement => {
            let array = format!("jsonb_typeof({c}) = 'array' and {c} <> '[]'");
            return Some((format!("{c} - 0"), array));
        }
        _ => return None,
    };
    // Which of the document's keys or values, at any depth; what looks like one inside of a text
    // has a backslash before its quote.
    let count = format!("regexp_count({c}::text, '{pattern}')");
    let nth = format!("(1 + {} % {count})", dice.below(1_000));
    Some((
        format!("regexp_replace({c}::text, '{pattern}', '{other}', 1, {nth})::jsonb"),
        format!("{count} > 0"),
    ))
}
