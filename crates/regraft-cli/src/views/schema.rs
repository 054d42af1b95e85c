//! The target schema: what was created, and how the live one differs.

use regraft_engine::{SchemaApplied, SchemaDiff};

use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, text};

/// What `schema apply` did, in one line.
pub(crate) fn applied(applied: &SchemaApplied) -> String {
    let tables = figures::counted(applied.tables.len() as u64, "table");
    if !applied.applied {
        format!(
            "{} target schema is in place already: {tables}; nothing to do",
            paint(style::GOOD, "✓")
        )
    } else {
        format!(
            "{} target schema created: {tables}",
            paint(style::GOOD, "✓")
        )
    }
}

/// How the live target differs from the project's schema.
pub(crate) fn differences(diff: &SchemaDiff, width: usize) -> String {
    if diff.differences.is_empty() {
        return format!(
            "{} the live target is as the project's schema says",
            paint(style::GOOD, "✓")
        );
    }
    let mut table = Table::new()
        .text("object")
        .text("is")
        .text("project's schema")
        .text("live target");
    for difference in &diff.differences {
        let tone = if difference.change == "extra" {
            Tone::Plain
        } else {
            Tone::Caution
        };
        table.row(vec![
            text(&difference.object),
            (difference.change.to_owned(), tone),
            text(
                difference
                    .expected
                    .clone()
                    .unwrap_or_else(|| "–".to_owned()),
            ),
            text(difference.found.clone().unwrap_or_else(|| "–".to_owned())),
        ]);
    }
    format!(
        "{}\n{} the live target differs from the project's schema in {}",
        table.render(width, 0),
        paint(style::CAUTION, "!"),
        figures::counted(diff.differences.len() as u64, "object")
    )
}
