//! A receipt as Markdown, in GitHub's flavour.

use regraft_engine::{Explanation, Receipt};

use super::report::{self, Cell, Grid, Report};
use crate::views::written::plain;

/// The receipt as Markdown.
pub(crate) fn markdown(receipt: &Receipt, explanations: Option<&[Explanation]>) -> String {
    let report = report::of(receipt, explanations);
    let mark = if report.balances { "✓" } else { "✗" };
    let mut out = format!(
        "# {}\n\n**{mark} {}**\n\n",
        report.title,
        escaped(&report.verdict)
    );
    out.push_str(&facts(&report));
    for section in &report.sections {
        out.push_str(&format!("\n## {}\n\n", section.title));
        match section.remarks.as_slice() {
            [only] => out.push_str(&format!("{}\n", escaped(only))),
            more => {
                for remark in more {
                    out.push_str(&format!("- {}\n", escaped(remark)));
                }
            }
        }
        if let Some(table) = &section.table {
            if !section.remarks.is_empty() {
                out.push('\n');
            }
            out.push_str(&grid(table));
        }
        out.push_str(&source(&report, section.statements));
    }
    out.push_str(&next(&report));
    if let Some(explanations) = report.explanations {
        out.push_str(&statements(explanations));
    }
    out
}

fn facts(report: &Report<'_>) -> String {
    let mut out = String::from("| | |\n|---|---|\n");
    for (name, value) in &report.facts {
        out.push_str(&format!("| {name} | {} |\n", cell(value)));
    }
    out.push_str(&source(report, &["run"]));
    out
}

pub(crate) fn grid(table: &Grid) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(table.heads.iter().map(|(head, _)| escaped(head)).collect());
    out.push('|');
    for (_, number) in &table.heads {
        out.push_str(if *number { "---:|" } else { "---|" });
    }
    out.push('\n');
    for (at, row) in table.rows.iter().enumerate() {
        let last = table.total && at + 1 == table.rows.len();
        let cells = row
            .iter()
            .map(cell)
            .map(|text| match last && !text.is_empty() {
                true => format!("**{text}**"),
                false => text,
            });
        out.push_str(&line(cells.collect()));
    }
    out
}

pub(crate) fn cell(cell: &Cell) -> String {
    cell.written(escaped, code)
}

/// Where the figures above come from.
fn source(report: &Report<'_>, names: &[&str]) -> String {
    let numbers: Vec<String> = report
        .numbers(names)
        .iter()
        .map(ToString::to_string)
        .collect();
    match numbers.as_slice() {
        [] => String::new(),
        [one] => format!("\n*Figures: statement {one}.*\n"),
        more => format!("\n*Figures: statements {}.*\n", more.join(", ")),
    }
}

fn next(report: &Report<'_>) -> String {
    let mut out = String::from("\n## What to type next\n\n");
    for (command, why) in &report.next {
        out.push_str(&format!("- {}: {}\n", code(command), escaped(why)));
    }
    out
}

fn statements(explanations: &[Explanation]) -> String {
    let mut out = format!(
        "\n## Where the figures come from\n\n{}\n",
        escaped(super::STATEMENTS)
    );
    for explanation in explanations {
        out.push_str(&format!(
            "\n### Statement {}: {}\n\n```sql\n{}\n```\n",
            explanation.number,
            escaped(explanation.title),
            explanation.sql
        ));
    }
    out
}

/// Text in which nothing is markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '$' | '#' | '@'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A span of code that holds `text` as it is, in a table too.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let text = plain(text).replace('|', "\\|");
    let longest = text
        .split(|c| c != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    match text.starts_with('`') || text.ends_with('`') {
        true => format!("{fence} {text} {fence}"),
        false => format!("{fence}{text}{fence}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(
            escaped("a|b *c* <d>\n#1"),
            "a\\|b \\*c\\* \\<d\\>\u{fffd}\\#1"
        );
        assert_eq!(code("a|`b"), "``a\\|`b``");
        assert_eq!(code("`x"), "`` `x ``");
        assert_eq!(code("a\u{1b}[31m"), "`a\u{fffd}[31m`");
    }
}
