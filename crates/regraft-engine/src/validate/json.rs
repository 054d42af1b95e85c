//! JSON in a form in which equal means equal: keys in order, the last of equal keys, numbers as
//! decimals, characters unescaped. Written for the proof: it agrees with what PostgreSQL's jsonb
//! takes and holds to be equal, shares nothing with the loader, and doesn't nest, so that no
//! document is too deep.

use std::collections::BTreeMap;
use std::ops::Range;

/// What may stand in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strings {
    /// Only characters, as jsonb demands: neither `\u0000` nor half of a surrogate pair.
    Characters,
    /// Any escape, as json takes it.
    Any,
}

/// The canonical form of a JSON text; `None` when it is none.
pub(super) fn canonical(text: &[u8], strings: Strings) -> Option<Vec<u8>> {
    let mut parser = Parser {
        text,
        at: 0,
        out: Vec::with_capacity(text.len()),
        open: Vec::new(),
        strings,
    };
    parser.document()?;
    Some(parser.out)
}

/// The canonical form of `{name: text}`.
pub(super) fn canonical_object(name: &str, text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'{'];
    string(&mut out, name.as_bytes());
    string(&mut out, text);
    out.push(b'}');
    out
}

/// A container that is being read; positions are in the output.
enum Open {
    Array,
    Object {
        start: usize,
        members: Vec<(Range<usize>, Range<usize>)>,
        key: Range<usize>,
    },
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
    open: Vec<Open>,
    strings: Strings,
}

impl Parser<'_> {
    fn document(&mut self) -> Option<()> {
        loop {
            self.space();
            let complete = self.value()?;
            if complete && self.after_value()? {
                break;
            }
        }
        self.space();
        (self.at == self.text.len()).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    /// Reads a value, or the beginning of one: `false` when its first part comes next.
    fn value(&mut self) -> Option<bool> {
        match self.peek()? {
            b'{' => {
                self.at += 1;
                let start = self.out.len();
                self.out.push(b'{');
                self.space();
                if self.take(b'}').is_some() {
                    self.out.push(b'}');
                    return Some(true);
                }
                let key = self.key()?;
                self.open.push(Open::Object {
                    start,
                    members: Vec::new(),
                    key,
                });
                Some(false)
            }
            b'[' => {
                self.at += 1;
                self.out.push(b'[');
                self.space();
                if self.take(b']').is_some() {
                    self.out.push(b']');
                    return Some(true);
                }
                self.open.push(Open::Array);
                Some(false)
            }
            b'"' => self.string().map(|()| true),
            b't' => self.word(b"true", b't'),
            b'f' => self.word(b"false", b'f'),
            b'n' => self.word(b"null", b'n'),
            _ => self.number().map(|()| true),
        }
    }

    /// After a value: ends every container that ends here. `true` when nothing is open any more,
    /// `false` when another value has to follow.
    fn after_value(&mut self) -> Option<bool> {
        loop {
            self.space();
            let end = self.out.len();
            match self.open.last_mut() {
                None => return Some(true),
                Some(Open::Array) => match self.peek()? {
                    b',' => {
                        self.at += 1;
                        return Some(false);
                    }
                    b']' => {
                        self.at += 1;
                        self.out.push(b']');
                        self.open.pop();
                    }
                    _ => return None,
                },
                Some(Open::Object { members, key, .. }) => {
                    members.push((key.clone(), key.end..end));
                    match self.peek()? {
                        b',' => {
                            self.at += 1;
                            self.space();
                            let next = self.key()?;
                            if let Some(Open::Object { key, .. }) = self.open.last_mut() {
                                *key = next;
                            }
                            return Some(false);
                        }
                        b'}' => {
                            self.at += 1;
                            self.close_object();
                        }
                        _ => return None,
                    }
                }
            }
        }
    }

    /// Puts the members of the innermost object in order, the last of equal keys winning.
    fn close_object(&mut self) {
        if let Some(Open::Object { start, members, .. }) = self.open.pop() {
            let sorted: BTreeMap<&[u8], &[u8]> = members
                .iter()
                .map(|(key, value)| (&self.out[key.clone()], &self.out[value.clone()]))
                .collect();
            let mut object = Vec::with_capacity(self.out.len() - start + 1);
            object.push(b'{');
            for (key, value) in sorted {
                object.extend_from_slice(key);
                object.extend_from_slice(value);
            }
            object.push(b'}');
            self.out.truncate(start);
            self.out.append(&mut object);
        }
    }

    fn key(&mut self) -> Option<Range<usize>> {
        let start = self.out.len();
        self.string()?;
        let key = start..self.out.len();
        self.space();
        self.take(b':')?;
        Some(key)
    }

    fn word(&mut self, word: &[u8], tag: u8) -> Option<bool> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            self.out.push(tag);
            true
        })
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        let mut characters = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.escape(&mut characters)?,
                0..0x20 => return None,
                _ => characters.push(byte),
            }
        }
        string(&mut self.out, &characters);
        Some(())
    }

    fn escape(&mut self, characters: &mut Vec<u8>) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        characters.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.code(characters),
            _ => return None,
        });
        Some(())
    }

    /// The code of a `\u` escape, with the second half of a pair.
    fn code(&mut self, characters: &mut Vec<u8>) -> Option<()> {
        let code = self.hex()?;
        let mut point = u32::from(code);
        if (0xd800..0xdc00).contains(&code) && self.text[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                point = 0x10000 + ((point - 0xd800) << 10) + (u32::from(low) - 0xdc00);
            } else {
                self.at = before;
            }
        }
        match char::from_u32(point) {
            Some('\0') | None if self.strings == Strings::Characters => return None,
            Some(character) => {
                characters.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            // Half of a pair: no character, but json keeps the escape, and it equals itself.
            None => {
                characters.extend_from_slice(&[0xff, code.to_be_bytes()[0], code.to_be_bytes()[1]])
            }
        }
        Some(())
    }

    fn hex(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        self.at += 4;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    fn digits(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(start..self.at)
    }

    fn number(&mut self) -> Option<()> {
        let negative = self.take(b'-').is_some();
        let whole = self.digits()?;
        if whole.len() > 1 && self.text[whole.start] == b'0' {
            return None;
        }
        let mut digits = self.text[whole].to_vec();
        let mut exponent = 0_i64;
        if self.take(b'.').is_some() {
            let fraction = self.digits()?;
            exponent -= i64::try_from(fraction.len()).ok()?;
            digits.extend_from_slice(&self.text[fraction]);
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let minus = self.take(b'-').is_some();
            if !minus {
                let _ = self.take(b'+');
            }
            let power = self.digits()?;
            let power: i64 = std::str::from_utf8(&self.text[power]).ok()?.parse().ok()?;
            exponent = exponent.checked_add(if minus { -power } else { power })?;
        }
        decimal(&mut self.out, negative, &digits, exponent);
        Some(())
    }
}

/// Appends a string with its length in front, so that nothing in it can be taken for structure.
fn string(out: &mut Vec<u8>, characters: &[u8]) {
    out.push(b's');
    out.extend_from_slice(&(characters.len() as u64).to_be_bytes());
    out.extend_from_slice(characters);
}

/// Appends a number without zeros at either end: 1.50 and 15e-1 are the same.
fn decimal(out: &mut Vec<u8>, negative: bool, digits: &[u8], mut exponent: i64) {
    let start = digits
        .iter()
        .position(|digit| *digit != b'0')
        .unwrap_or(digits.len());
    let end = digits
        .iter()
        .rposition(|digit| *digit != b'0')
        .map_or(start, |last| last + 1);
    let significant = &digits[start..end];
    let mut text = Vec::with_capacity(significant.len() + 8);
    if significant.is_empty() {
        text.push(b'0');
    } else {
        exponent = exponent.saturating_add(i64::try_from(digits.len() - end).unwrap_or(0));
        if negative {
            text.push(b'-');
        }
        text.extend_from_slice(significant);
        text.push(b'e');
        text.extend_from_slice(exponent.to_string().as_bytes());
    }
    out.push(b'd');
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Option<Vec<u8>> {
        canonical(text.as_bytes(), Strings::Characters)
    }

    #[test]
    fn equal_documents_have_one_form() {
        for (a, b) in [
            ("1", " 1.0 "),
            ("1.50", "15e-1"),
            ("100", "1E2"),
            ("-0", "0.000"),
            ("0e5", "0"),
            (r#"{"a":1,"b":[]}"#, r#"{ "b" : [ ] , "a" : 1.0 }"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#""\u00e9\n""#, "\"é\\n\""),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (
                r#"[{"k":{"y":1,"x":[true,null]}}]"#,
                r#"[{"k":{"x":[true,null],"y":1}}]"#,
            ),
        ] {
            assert!(form(a).is_some(), "{a}");
            assert_eq!(form(a), form(b), "{a} {b}");
        }
        assert_eq!(
            form(r#"{"raw":"{x"}"#),
            Some(canonical_object("raw", b"{x"))
        );
    }

    #[test]
    fn different_documents_have_different_forms() {
        let documents = [
            "1",
            "10",
            "0.1",
            "-1",
            "true",
            "false",
            "null",
            "\"\"",
            "\"1\"",
            "[]",
            "{}",
            "[[]]",
            "[1]",
            "[1,2]",
            "[2,1]",
            "[12]",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"b":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":null}"#,
            r#"{"a":1,"b":1}"#,
            "\"a \"",
            "\"a\"",
            "12345678901234567890.1",
            "12345678901234567890.2",
        ];
        for (i, a) in documents.iter().enumerate() {
            for b in &documents[i + 1..] {
                assert_ne!(form(a).unwrap(), form(b).unwrap(), "{a} {b}");
            }
        }
    }

    #[test]
    fn what_is_no_json_has_none() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "[,1]",
            "{'a':1}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "nul",
            "truee",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "\"",
            r#""\x""#,
            r#""\u12""#,
            "\"\n\"",
            "1 2",
            "[1 2]",
            "NaN",
            r#""\u0000""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            "[}",
            "{]",
            "[1}",
        ] {
            assert_eq!(form(text), None, "{text}");
        }
        for text in [r#""\u0000""#, r#""\ud83d""#, r#""\ud83d\u0041""#] {
            assert!(
                canonical(text.as_bytes(), Strings::Any).is_some(),
                "json takes {text}"
            );
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert!(form(&deep).is_some());
        let deep = "{\"a\":".repeat(3_000) + "1" + &"}".repeat(3_000);
        assert!(form(&deep).is_some());
    }
}
