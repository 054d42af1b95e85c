//! Text that goes into documents other programs show.

/// `text` with a mark in place of each character that can't be seen and may do something: line
/// ends, escapes, and those that turn the direction of writing.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => '\u{fffd}',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

/// `text` with its words written by `words`, and what stands between backquotes by `code`.
pub(crate) fn prose(
    text: &str,
    words: impl Fn(&str) -> String,
    code: impl Fn(&str) -> String,
) -> String {
    text.split('`')
        .enumerate()
        .map(|(at, part)| match at % 2 {
            0 => words(part),
            _ => code(part),
        })
        .collect()
}

/// `text` for an HTML page, in which nothing of it is markup.
pub(crate) fn markup_free(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(
            super::markup_free("<b title=\"x\">&'\u{1b}"),
            "&lt;b title=&quot;x&quot;&gt;&amp;&#39;\u{fffd}"
        );
    }
}
