//! Tables without borders: a bold head, two blanks between columns, numbers to the right.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table as Inner,
    Width,
};

use crate::figures;
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
    /// Left out where there isn't enough room for all columns.
    optional: bool,
}

/// Longest word that is never broken, in characters.
const UNBROKEN: usize = 30;

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
        self.columns.push(Column {
            head: head.to_owned(),
            right: false,
            optional: false,
        });
        self
    }

    /// Adds a column of numbers.
    #[must_use]
    pub(crate) fn number(mut self, head: &str) -> Self {
        self.columns.push(Column {
            head: head.to_owned(),
            right: true,
            optional: false,
        });
        self
    }

    /// Leaves the column added last out where there isn't enough room.
    #[must_use]
    pub(crate) fn optional(mut self) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.optional = true;
        }
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
        let room = width.saturating_sub(indent);
        let shown = self.shown(room);
        let mut inner = self.inner(&shown, room);
        for (at, column) in shown.iter().enumerate() {
            let last = at + 1 == shown.len();
            if let Some(inner) = inner.column_mut(at) {
                inner.set_padding((0, if last { 0 } else { 2 }));
                let padding = if last { 0 } else { 2 };
                let least = u16::try_from(self.least(*column) + padding).unwrap_or(u16::MAX);
                inner.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
                if self.columns[*column].right {
                    inner.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let mut lines: Vec<String> = inner
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        if self.total {
            let widest = lines
                .iter()
                .map(|line| figures::visible(line))
                .max()
                .unwrap_or(0);
            // A total is made of numbers and one word: it has one line, the last.
            lines.insert(lines.len() - 1, paint(style::QUIET, "─".repeat(widest)));
        }
        let blanks = " ".repeat(indent);
        lines
            .iter()
            .map(|line| format!("{blanks}{line}\n"))
            .collect()
    }

    fn inner(&self, shown: &[usize], room: usize) -> Inner {
        let mut inner = Inner::new();
        inner
            .load_style(comfy_table::presets::NOTHING)
            .force_no_tty()
            .enforce_styling()
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(room).unwrap_or(u16::MAX))
            .style_text_only();
        let heads = shown
            .iter()
            .map(|at| cell(&self.columns[*at].head, Tone::Strong));
        inner.set_header(heads.collect::<Vec<_>>());
        for row in &self.rows {
            let cells = shown.iter().filter_map(|at| row.get(*at));
            inner.add_row(
                cells
                    .map(|(text, tone)| cell(text, *tone))
                    .collect::<Vec<_>>(),
            );
        }
        inner
    }

    /// The columns that there is room for.
    fn shown(&self, room: usize) -> Vec<usize> {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let widths = all.iter().map(|at| self.widest(*at) + 2);
        if widths.sum::<usize>() <= room + 2 {
            return all;
        }
        all.into_iter()
            .filter(|at| !self.columns[*at].optional)
            .collect()
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        let cells = self
            .rows
            .iter()
            .filter_map(move |row| Some(row.get(column)?.0.as_str()));
        cells.chain([self.columns[column].head.as_str()])
    }

    fn widest(&self, column: usize) -> usize {
        self.cells(column)
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
    }

    /// The least width of a column: words and numbers are not broken.
    fn least(&self, column: usize) -> usize {
        let words = |text: &str| text.split(' ').map(|word| word.chars().count()).max();
        let head = words(&self.columns[column].head);
        let cells = self
            .rows
            .iter()
            .filter_map(|row| Some(row.get(column)?.0.as_str()));
        let widths = cells.map(|text| {
            let whole = text.chars().count();
            if self.columns[column].right {
                whole
            } else {
                words(text).unwrap_or(0).min(UNBROKEN)
            }
        });
        widths.chain(head).max().unwrap_or(0)
    }
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
    let tone = if number == 0 {
        Tone::Quiet
    } else {
        Tone::Plain
    };
    (figures::count(number), tone)
}

/// A cell with a count that deserves a look unless it is zero.
pub(crate) fn worry(number: impl Into<i128>) -> (String, Tone) {
    let number: i128 = number.into();
    let tone = if number == 0 {
        Tone::Quiet
    } else {
        Tone::Caution
    };
    (figures::count(number), tone)
}
