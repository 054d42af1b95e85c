//! `regraft explain`

use regraft_engine::{Error, Kind, Result};
use serde::Serialize;

use crate::exit::ExitStatus;
use crate::figures;
use crate::invocation::Invocation;
use crate::style::{self, paint};

/// The pages, which are part of the documentation: a heading of the second level and a text each.
const PAGES: &str = include_str!("../../../../docs/reference/codes.md");

/// A page.
#[derive(Serialize)]
struct Page {
    code: &'static str,
    text: String,
}

fn pages() -> impl Iterator<Item = Page> {
    PAGES.split("\n## ").skip(1).filter_map(|page| {
        let (code, text) = page.split_once('\n')?;
        // What follows a page may be the heading of the next part.
        let text = text.split("\n# ").next()?.trim();
        Some(Page {
            code: code.trim(),
            text: text.to_owned(),
        })
    })
}

/// Prints the page of a code.
pub(super) fn run(invocation: &Invocation, code: &str) -> Result<ExitStatus> {
    let wanted = code.trim().to_lowercase().replace('-', "_");
    let Some(page) = pages().find(|page| page.code == wanted) else {
        let known: Vec<&str> = pages().map(|page| page.code).collect();
        return Err(
            Error::new(Kind::Usage, format!("there is no code {code:?}"))
                .hint(format!("codes: {}", known.join(", "))),
        );
    };
    invocation.printer.report(&page, |width| {
        let text = figures::wrap(&page.text, width, 0);
        format!("{}\n{text}", paint(style::HEADING, page.code))
    });
    Ok(ExitStatus::Done)
}

#[cfg(test)]
mod tests {
    use regraft_engine::{Kind, PaceReason};

    use super::pages;
    use crate::views::reasons;

    #[test]
    fn every_code_has_its_page() {
        let told: Vec<&str> = pages().map(|page| page.code).collect();
        let codes = Kind::ALL
            .iter()
            .map(|kind| kind.as_str())
            .chain(reasons::CODES)
            .chain(PaceReason::CODES);
        let codes: Vec<&str> = codes.collect();
        assert_eq!(told, codes);
        assert!(pages().all(|page| page.text.len() > 80));
    }
}
