//! A receipt as one HTML page: no script, nothing loaded from elsewhere.

use regraft_engine::{Explanation, Receipt};

use super::chart;
use super::report::{self, Cell, Grid, Report, Section, Topic};
use crate::views::written::markup_free as escaped;

pub(crate) const STYLE: &str = include_str!("receipt.css");

/// The receipt as a page.
pub(crate) fn html(receipt: &Receipt, explanations: Option<&[Explanation]>) -> String {
    let report = report::of(receipt, explanations);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"generator\" content=\"regraft {version}\"/>\n\
         <title>{title}: {run}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        version = env!("CARGO_PKG_VERSION"),
        title = escaped(report.title),
        run = escaped(&receipt.run_id),
    );
    out.push_str(&chart::textures());
    out.push_str(&head(&report, receipt));
    out.push_str("<main>\n");
    for part in &report.sections {
        out.push_str(&section(&report, part, receipt));
    }
    out.push_str(&next(&report));
    if let Some(explanations) = report.explanations {
        out.push_str(&statements(explanations));
    }
    out.push_str(
        "</main>\n<footer><p>Written by regraft from its ledger alone. \
         It holds counts, names and legacy ids, and no row's values.</p></footer>\n</body>\n</html>\n",
    );
    out
}

fn head(report: &Report<'_>, receipt: &Receipt) -> String {
    let (class, mark) = match report.balances {
        true => ("good", "✓"),
        false => ("bad", "✗"),
    };
    let mut out = format!(
        "<header>\n<h1>{}</h1>\n<p class=\"run\"><code>{}</code> <span class=\"status {}\">{}</span></p>\n\
         <p class=\"verdict {class}\"><span class=\"mark\">{mark}</span> {}</p>\n<dl>\n",
        escaped(report.title),
        escaped(&receipt.run_id),
        status_class(&receipt.status),
        escaped(&receipt.status.replace('_', " ")),
        escaped(&report.verdict),
    );
    // These two stand in the line above already.
    let facts = report.facts.iter();
    for (name, value) in facts.filter(|(name, _)| !matches!(*name, "run" | "status")) {
        out.push_str(&format!(
            "<div><dt>{name}</dt><dd>{}</dd></div>\n",
            cell(value)
        ));
    }
    out.push_str("</dl>\n");
    out.push_str(&source(report, &["run"]));
    out.push_str("</header>\n");
    out
}

fn status_class(status: &str) -> &'static str {
    match status {
        "done" => "good",
        "failed" => "bad",
        _ => "caution",
    }
}

fn section(report: &Report<'_>, section: &Section, receipt: &Receipt) -> String {
    let mut out = format!("<section>\n<h2>{}</h2>\n", escaped(section.title));
    if section.topic == Topic::Notes {
        out.push_str("<ul>\n");
        for remark in &section.remarks {
            out.push_str(&format!("<li>{}</li>\n", escaped(remark)));
        }
        out.push_str("</ul>\n");
    } else {
        for remark in &section.remarks {
            out.push_str(&format!("<p class=\"remark\">{}</p>\n", escaped(remark)));
        }
    }
    out.push_str(&picture(section.topic, receipt));
    if let Some(table) = &section.table {
        out.push_str(&grid(table));
    }
    out.push_str(&source(report, section.statements));
    out.push_str("</section>\n");
    out
}

/// The chart of a section that has one.
fn picture(topic: Topic, receipt: &Receipt) -> String {
    let (chart, caption) = match topic {
        Topic::Account => (
            format!(
                "{}{}",
                chart::legend(&receipt.total),
                chart::accounts(receipt)
            ),
            "Each bar is the source rows of one entity, as parts of a whole. Parts too small to be \
             seen are drawn wider than they are; the figures are exact.",
        ),
        Topic::Reasons => (
            chart::reasons(receipt),
            match receipt.reasons.len() > chart::REASONS {
                true => "The reasons that most rows have; all of them are in the table.",
                false => "Every reason, by the rows that have it.",
            },
        ),
        Topic::Time => (
            chart::durations(receipt),
            "Time of each entity, and source rows per second.",
        ),
        _ => return String::new(),
    };
    format!(
        "<figure>\n<div class=\"wide\">{chart}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
        escaped(caption)
    )
}

pub(crate) fn grid(table: &Grid) -> String {
    let narrow = if table.heads.len() < 5 {
        " class=\"narrow\""
    } else {
        ""
    };
    let mut out = format!("<div class=\"wide\"><table{narrow}>\n<thead><tr>");
    let class = |number: bool| if number { " class=\"number\"" } else { "" };
    for (head, number) in &table.heads {
        out.push_str(&format!(
            "<th scope=\"col\"{}>{}</th>",
            class(*number),
            escaped(head)
        ));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (at, row) in table.rows.iter().enumerate() {
        let last = table.total && at + 1 == table.rows.len();
        out.push_str(if last { "<tr class=\"total\">" } else { "<tr>" });
        for (value, (_, number)) in row.iter().zip(&table.heads) {
            let zero = matches!(value, Cell::Text(text) if text == "0");
            let class = match (number, zero) {
                (true, true) => " class=\"number zero\"",
                (number, _) => class(*number),
            };
            out.push_str(&format!("<td{class}>{}</td>", cell(value)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}

pub(crate) fn cell(cell: &Cell) -> String {
    cell.written(escaped, |text| match text {
        "" => String::new(),
        text => format!("<code>{}</code>", escaped(text)),
    })
}

/// Where the figures above come from.
fn source(report: &Report<'_>, names: &[&str]) -> String {
    let links: Vec<String> = report
        .numbers(names)
        .iter()
        .map(|number| format!("<a href=\"#statement-{number}\">{number}</a>"))
        .collect();
    match links.len() {
        0 => String::new(),
        1 => format!("<p class=\"source\">Figures: statement {}</p>\n", links[0]),
        _ => format!(
            "<p class=\"source\">Figures: statements {}</p>\n",
            links.join(", ")
        ),
    }
}

fn next(report: &Report<'_>) -> String {
    let mut out = String::from("<section>\n<h2>What to type next</h2>\n<dl class=\"next\">\n");
    for (command, why) in &report.next {
        out.push_str(&format!(
            "<div><dt><code>{}</code></dt><dd>{}</dd></div>\n",
            escaped(command),
            escaped(why)
        ));
    }
    out.push_str("</dl>\n</section>\n");
    out
}

fn statements(explanations: &[Explanation]) -> String {
    let mut out = format!(
        "<section class=\"statements\">\n<h2>Where the figures come from</h2>\n<p class=\"remark\">{}</p>\n",
        escaped(super::STATEMENTS)
    );
    for explanation in explanations {
        out.push_str(&format!(
            "<article id=\"statement-{number}\">\n<h3>Statement {number}: {}</h3>\n<pre><code>{}</code></pre>\n</article>\n",
            escaped(explanation.title),
            lines(&explanation.sql),
            number = explanation.number,
        ));
    }
    out.push_str("</section>\n");
    out
}

/// A text of several lines.
fn lines(text: &str) -> String {
    text.lines().map(escaped).collect::<Vec<_>>().join("\n")
}
