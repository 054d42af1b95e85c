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

#[cfg(test)]
mod tests {
    use super::is_valid;

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
}
