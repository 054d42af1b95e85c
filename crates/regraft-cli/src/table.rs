//! Tables without borders: a bold head, two blanks between columns, numbers to the right.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table as Inner};

use crate::style::{self, paint};

/// How a cell is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As everything else.
    #[default]
    Plain,
    /// There for completeness.
    Quiet,
    /// Went well.
    Good,
    /// Deserves a look.
    Caution,
    /// Went wrong.
    Bad,
    /// Stands out.
    Strong,
}

/// One column.
#[derive(Debug, Clone)]
struct Column {
    head: String,
    right: bool,
}

/// A table in the making.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Tone)>>,
    total: bool,
}

impl Table {
    /// A table with no columns yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a column of text.
    #[must_use]
    pub(crate) fn text(mut self, head: &str) -> Self {
        self.columns.push(Column { head: head.to_owned(), right: false });
        self
    }

    /// Adds a column of numbers.
    #[must_use]
    pub(crate) fn number(mut self, head: &str) -> Self {
        self.columns.push(Column { head: head.to_owned(), right: true });
        self
    }

    /// Adds a column of numbers, if it is wanted.
    #[must_use]
    pub(crate) fn number_if(self, wanted: bool, head: &str) -> Self {
        if wanted { self.number(head) } else { self }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<(String, Tone)>) {
        self.rows.push(cells);
    }

    /// Adds a last row under a rule.
    pub(crate) fn total(&mut self, cells: Vec<(String, Tone)>) {
        self.rows.push(cells);
        self.total = true;
    }

    /// The table as lines of at most `width` characters, each after `indent` blanks. Text that
    /// doesn't fit is broken inside its column.
    pub(crate) fn render(&self, width: usize, indent: usize) -> String {
        let mut inner = Inner::new();
        inner
            .load_style(comfy_table::presets::NOTHING)
            .force_no_tty()
            .enforce_styling()
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(width.saturating_sub(indent)).unwrap_or(u16::MAX));
        inner.set_header(
            self.columns
                .iter()
                .map(|column| Cell::new(&column.head).add_attribute(Attribute::Bold))
                .collect::<Vec<_>>(),
        );
        for row in &self.rows {
            inner.add_row(row.iter().map(|(text, tone)| cell(text, *tone)).collect::<Vec<_>>());
        }
        for (at, column) in self.columns.iter().enumerate() {
            if let Some(inner) = inner.column_mut(at) {
                inner.set_padding((0, if at + 1 == self.columns.len() { 0 } else { 2 }));
                if column.right {
                    inner.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let mut lines: Vec<String> =
            inner.lines().map(|line| line.trim_end().to_owned()).collect();
        if self.total {
            let widest = lines.iter().map(|line| visible_width(line)).max().unwrap_or(0);
            // A total is made of numbers and one word: it has one line, the last.
            lines.insert(lines.len() - 1, paint(style::QUIET, "─".repeat(widest)));
        }
        let blanks = " ".repeat(indent);
        lines.iter().map(|line| format!("{blanks}{line}\n")).collect()
    }
}

/// The characters of a line that can be seen: without colours.
fn visible_width(line: &str) -> usize {
    anstream::adapter::strip_str(line).to_string().chars().count()
}

fn cell(text: &str, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Quiet => cell.add_attribute(Attribute::Dim),
        Tone::Good => cell.fg(Color::Green),
        Tone::Caution => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Tone::Strong => cell.add_attribute(Attribute::Bold),
    }
}

/// A cell of text.
pub(crate) fn text(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

/// A cell with a count; zero is there for completeness only.
pub(crate) fn count(number: impl Into<i128>) -> (String, Tone) {
    let number: i128 = number.into();
    let tone = if number == 0 { Tone::Quiet } else { Tone::Plain };
    (crate::figures::count(number), tone)
}

/// A cell with a count that deserves a look unless it is zero.
pub(crate) fn worry(number: impl Into<i128>) -> (String, Tone) {
    let number: i128 = number.into();
    let tone = if number == 0 { Tone::Quiet } else { Tone::Caution };
    (crate::figures::count(number), tone)
}
