//! A report as text for a terminal, as Markdown, and as one HTML page without scripts.

use regraft_engine::ValidationReport;

use super::content::{self, Content};
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone};
use crate::views::receipt::report::{Cell, Grid};
use crate::views::receipt::{html as page, markdown as marked};
use crate::views::written::markup_free as escaped;

const TITLE: &str = "Validation report";
/// What a report holds, for whoever is handed it.
const FOOTER: &str = "Written by regraft from its ledger alone. It holds counts, names, legacy ids \
    and the figures of invariants, and no row's values.";

/// The report for people, in lines of at most `width` characters.
pub(crate) fn human(report: &ValidationReport, width: usize) -> String {
    let content = content::of(report);
    let mark = match content.passed {
        true => paint(style::GOOD, "✓"),
        false => paint(style::BAD, "✗"),
    };
    let mut out = format!(
        "{mark} {}\n\n",
        figures::wrap(&content.verdict, width - 2, 2)
    );
    for (name, value) in &content.facts {
        let text = figures::wrap(&shown(value), width.saturating_sub(18), 18);
        out.push_str(&format!("  {name:<15} {text}\n"));
    }
    for part in &content.parts {
        out.push_str(&format!(
            "\n{}\n",
            paint(style::HEADING, part.title.to_lowercase())
        ));
        for remark in &part.remarks {
            out.push_str(&format!(
                "  {}\n",
                figures::wrap(remark, width.saturating_sub(2), 2)
            ));
        }
        if let Some(grid) = &part.table {
            out.push_str(&table(grid, width));
        }
    }
    out
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) | Cell::Code(text) => text.clone(),
        Cell::Prose(text) => (*text).to_owned(),
        Cell::Codes(texts) => texts.join(", "),
    }
}

fn table(grid: &Grid, width: usize) -> String {
    let mut table = Table::new();
    for (head, number) in &grid.heads {
        table = match number {
            true => table.number(head),
            false => table.text(head),
        };
    }
    for row in &grid.rows {
        table.row(row.iter().map(|cell| (shown(cell), tone(cell))).collect());
    }
    table.render(width, 2)
}

fn tone(cell: &Cell) -> Tone {
    match cell {
        Cell::Text(text) if text == "ok" => Tone::Good,
        Cell::Text(text) if text.starts_with("FAILED") || text == "NOT FINISHED" => Tone::Bad,
        _ => Tone::Plain,
    }
}

/// The report as Markdown.
pub(crate) fn markdown(report: &ValidationReport) -> String {
    let content = content::of(report);
    let mark = if content.passed { "✓" } else { "✗" };
    let mut out = format!(
        "# {TITLE}\n\n**{mark} {}**\n\n| | |\n|---|---|\n",
        marked::escaped(&content.verdict)
    );
    for (name, value) in &content.facts {
        out.push_str(&format!("| {name} | {} |\n", marked::cell(value)));
    }
    for part in &content.parts {
        out.push_str(&format!("\n## {}\n", part.title));
        for remark in &part.remarks {
            out.push_str(&format!("\n{}\n", marked::escaped(remark)));
        }
        if let Some(table) = &part.table {
            out.push_str(&format!("\n{}", marked::grid(table)));
        }
    }
    out.push_str(&format!("\n*{}*\n", marked::escaped(FOOTER)));
    out
}

/// The report as a page: no script, nothing loaded from elsewhere.
pub(crate) fn html(report: &ValidationReport) -> String {
    let content = content::of(report);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"generator\" content=\"regraft {version}\"/>\n\
         <title>{TITLE}: {project}</title>\n<style>\n{style}</style>\n</head>\n<body>\n",
        version = env!("CARGO_PKG_VERSION"),
        project = escaped(&report.validation.asked.project),
        style = page::STYLE,
    );
    out.push_str(&head(&content, report));
    out.push_str("<main>\n");
    for part in &content.parts {
        out.push_str(&format!("<section>\n<h2>{}</h2>\n", escaped(part.title)));
        for remark in &part.remarks {
            out.push_str(&format!("<p class=\"remark\">{}</p>\n", escaped(remark)));
        }
        if let Some(table) = &part.table {
            out.push_str(&coloured(&page::grid(table)));
        }
        out.push_str("</section>\n");
    }
    out.push_str(&format!(
        "</main>\n<footer><p>{}</p></footer>\n</body>\n</html>\n",
        escaped(FOOTER)
    ));
    out
}

fn head(content: &Content, report: &ValidationReport) -> String {
    let (class, mark) = match content.passed {
        true => ("good", "✓"),
        false => ("bad", "✗"),
    };
    let mut out = format!(
        "<header>\n<h1>{TITLE}</h1>\n<p class=\"run\">{}, {}</p>\n\
         <p class=\"verdict {class}\"><span class=\"mark\">{mark}</span> {}</p>\n<dl>\n",
        escaped(&report.validation.asked.project),
        escaped(&figures::moment(&report.validation.generated_at)),
        escaped(&content.verdict)
    );
    for (name, value) in &content.facts {
        out.push_str(&format!(
            "<div><dt>{name}</dt><dd>{}</dd></div>\n",
            page::cell(value)
        ));
    }
    out.push_str("</dl>\n</header>\n");
    out
}

/// Results in colour; they are told by their words as well.
fn coloured(table: &str) -> String {
    table
        .replace("<td>ok</td>", "<td class=\"good\">ok</td>")
        .replace("<td>FAILED", "<td class=\"bad\">FAILED")
        .replace("<td>NOT FINISHED", "<td class=\"bad\">NOT FINISHED")
}
