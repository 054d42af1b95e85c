//! Whether a text is JSON that PostgreSQL will take.

/// Whether `text` is valid JSON. For jsonb, escapes that it can't hold (`\u0000`, half of a
/// surrogate pair) make it invalid too; json keeps its text and takes them.
///
/// Texts nested deeper than this reader goes are passed on: the server decides.
pub(crate) fn is_valid(text: &[u8], binary: bool) -> bool {
    match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        Ok(_) => !binary || escapes_are_characters(text),
        Err(error) => error.to_string().starts_with("recursion limit"),
    }
}

/// Looks at every `\u` escape of a text that is known to be JSON.
fn escapes_are_characters(text: &[u8]) -> bool {
    let mut at = 0;
    let mut high_before = false;
    while at < text.len() {
        if text[at] != b'\\' {
            if high_before {
                return false;
            }
            at += 1;
            continue;
        }
        if text.get(at + 1) != Some(&b'u') {
            if high_before {
                return false;
            }
            at += 2;
            continue;
        }
        let code = text
            .get(at + 2..at + 6)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let Some(code) = code else { return false };
        let low = (0xdc00..0xe000).contains(&code);
        if low != high_before || code == 0 {
            return false;
        }
        high_before = (0xd800..0xdc00).contains(&code);
        at += 6;
    }
    !high_before
}

/// A text that is the same for all texts which say the same as jsonb: the members of an object in
/// the order of their names, the last of equal names, numbers without needless zeros. `None` for what
/// is no JSON, or nested too deeply for this reader.
pub(crate) fn canonical(text: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    let mut canonical = Vec::with_capacity(text.len());
    write_canonical(&value, &mut canonical)?;
    Some(canonical)
}

fn write_canonical(value: &serde_json::Value, into: &mut Vec<u8>) -> Option<()> {
    use serde_json::Value;
    match value {
        Value::Number(number) => {
            into.extend_from_slice(plain_number(&number.to_string()).as_bytes())
        }
        Value::Array(items) => {
            into.push(b'[');
            for item in items {
                write_canonical(item, into)?;
                into.push(b',');
            }
            into.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            into.push(b'{');
            for (name, value) in members {
                serde_json::to_writer(&mut *into, name).ok()?;
                into.push(b':');
                write_canonical(value, into)?;
                into.push(b',');
            }
            into.push(b'}');
        }
        other => serde_json::to_writer(into, other).ok()?,
    }
    Some(())
}

/// A number as its significant digits and the power of ten of the last of them.
fn plain_number(text: &str) -> String {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let dropped = digits.len() - digits.trim_end_matches('0').len();
    let power = exponent - fraction.len() as i64 + dropped as i64;
    format!("{sign}{significant}e{power}")
}

#[cfg(test)]
mod tests {
    use super::{canonical, is_valid};

    #[test]
    fn agrees_with_postgresql_on_the_edges() {
        for good in [
            r#"{"a":[1,2.5e3,null,true]}"#,
            r#""\u00e9""#,
            r#""\ud83d\ude00""#,
            " 1 ",
            r#""a\\u0000""#,
        ] {
            assert!(is_valid(good.as_bytes(), true), "{good}");
        }
        for bad in [
            "",
            "{",
            "{'a':1}",
            "[1,]",
            "nul",
            r#""\x""#,
            r#""\u12"#,
            "01",
            r#""\u0000""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx\ude00""#,
        ] {
            assert!(!is_valid(bad.as_bytes(), true), "{bad}");
        }
        assert!(is_valid(br#""\u0000""#, false), "json keeps the text");
    }

    #[test]
    fn what_says_the_same_has_one_canonical_form() {
        let same: &[(&str, &str)] = &[
            (r#"{"b":1,"a":[1,2]}"#, r#"{ "a": [1, 2], "b": 1.0 }"#),
            (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
            ("100", "1e2"),
            ("-0.50", "-5E-1"),
            ("0", "-0.00"),
            (r#""\u0041\/""#, r#""A/""#),
        ];
        for (one, other) in same {
            let form = canonical(one.as_bytes());
            assert!(form.is_some(), "{one}");
            assert_eq!(form, canonical(other.as_bytes()), "{one} and {other}");
        }
        let different: &[(&str, &str)] = &[
            ("1", "10"),
            ("[1,2]", "[2,1]"),
            (r#""1""#, "1"),
            ("[]", "{}"),
            ("12", "1.2"),
            ("-1", "1"),
        ];
        for (one, other) in different {
            assert_ne!(
                canonical(one.as_bytes()),
                canonical(other.as_bytes()),
                "{one} and {other}"
            );
        }
        assert_eq!(canonical(b"{"), None);
    }
}
