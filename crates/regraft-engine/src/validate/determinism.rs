//! Expressions whose value depends on more than the row: computing them again proves nothing.

/// Functions that give another value each time, or each transaction.
const FUNCTIONS: &[&str] = &[
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "random_normal",
    "gen_random_uuid",
    "gen_random_bytes",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "nextval",
    "currval",
    "lastval",
    "txid_current",
    "pg_current_xact_id",
    "pg_backend_pid",
    "current_setting",
];

/// Functions that are written without parentheses.
const WORDS: &[&str] = &[
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "current_role",
];

/// The first function in an expression that makes its value depend on more than the row.
pub(super) fn depends_on_more_than_the_row(sql: &str) -> Option<&'static str> {
    let bytes = sql.as_bytes();
    let mut at = 0;
    let mut before = b' ';
    while at < bytes.len() {
        let start = at;
        at = end_of_token(bytes, at);
        if is_name_start(bytes[start]) {
            let name = sql[start..at].to_ascii_lowercase();
            let called = bytes[at..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'(');
            let found = FUNCTIONS
                .iter()
                .filter(|_| called)
                .chain(WORDS.iter().filter(|_| before != b'.'))
                .find(|known| **known == name);
            if let Some(found) = found {
                return Some(found);
            }
        }
        if !bytes[start].is_ascii_whitespace() {
            before = bytes[start];
        }
    }
    None
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Where the token that begins at `at` ends; quoted text and comments are one token each.
fn end_of_token(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after = |found: Option<usize>, len: usize| found.map_or(bytes.len(), |i| at + i + len);
    match rest {
        [b'\'' | b'"', ..] => after(closing(rest, rest[0], false), 1),
        [b'e' | b'E', b'\'', ..] => after(closing(&rest[1..], b'\'', true), 2),
        [b'-', b'-', ..] => after(rest.iter().position(|b| *b == b'\n'), 1),
        [b'/', b'*', ..] => after(find(&rest[2..], b"*/"), 4),
        [b'$', ..] => match dollar_tag(rest) {
            Some(tag) => after(find(&rest[tag.len()..], tag), 2 * tag.len()),
            None => at + 1,
        },
        [first, ..] if is_name_start(*first) => {
            at + rest
                .iter()
                .take_while(|b| is_name_start(**b) || b.is_ascii_digit() || **b == b'$')
                .count()
        }
        _ => at + 1,
    }
}

/// The position of the quote that ends the text which begins with one; a doubled one is part of it.
fn closing(text: &[u8], quote: u8, escapes: bool) -> Option<usize> {
    let mut at = 1;
    while at < text.len() {
        if escapes && text[at] == b'\\' {
            at += 2;
        } else if text[at] != quote {
            at += 1;
        } else if text.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return Some(at);
        }
    }
    None
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}

/// `$tag$` at the beginning of a text.
fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let name = text[1..]
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
        .count();
    (text.get(1 + name) == Some(&b'$')).then(|| &text[..name + 2])
}

#[cfg(test)]
mod tests {
    use super::depends_on_more_than_the_row as found;

    #[test]
    fn finds_what_is_called_and_nothing_else() {
        assert_eq!(found("coalesce(i.at, now())"), Some("now"));
        assert_eq!(found("pg_catalog.now ()"), Some("now"));
        assert_eq!(found("CURRENT_DATE - i.born"), Some("current_date"));
        assert_eq!(
            found("'x' || gen_random_uuid()::text"),
            Some("gen_random_uuid")
        );
        assert_eq!(found("$q$a$q$ || random()"), Some("random"));
        for fixed in [
            "i.now",
            "i.current_date",
            "'now()'",
            "\"now\" + 1",
            "i.a -- now()\n + 1",
            "i.a /* now() */ + 1",
            "$$now()$$",
            "$t$ random() $t$",
            "E'it\\'s now()'",
            "'it''s now()'",
            "known(i.a)",
            "i.a - now_at",
            "lower(i.name)",
            "",
        ] {
            assert_eq!(found(fixed), None, "{fixed}");
        }
    }

    #[test]
    fn survives_what_is_not_closed() {
        for open in ["'", "\"a", "$$", "/*", "--", "E'\\", "$", "é", "'é"] {
            let _ = found(open);
        }
    }
}
