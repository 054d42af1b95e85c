//! The colours, by meaning. No meaning is carried by colour alone: the words say it too.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;

/// Headings of sections and tables.
pub(crate) const HEADING: Style = Style::new().bold();
/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What deserves a look.
pub(crate) const CAUTION: Style = AnsiColor::Yellow.on_default();
/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What can be typed as it stands.
pub(crate) const LITERAL: Style = AnsiColor::Cyan.on_default();
/// What is there for completeness.
pub(crate) const QUIET: Style = Style::new().dimmed();

/// The styles of help and usage errors.
pub(crate) const HELP: Styles = Styles::styled()
    .header(HEADING)
    .usage(HEADING)
    .literal(LITERAL)
    .placeholder(QUIET)
    .error(BAD)
    .valid(GOOD)
    .invalid(CAUTION);

/// `text` in `style`.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
