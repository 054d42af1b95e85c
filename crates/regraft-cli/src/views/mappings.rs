//! What came of rebuilding mappings.

use regraft_engine::{MappingsEntity, MappingsRebuilt};
use regraft_ledger::MergedRow;

use super::reasons::examples;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, count, text};

/// Whether mappings of any entity change.
pub(crate) fn writes(rebuilt: &MappingsRebuilt) -> bool {
    let (gone, written) = changes(rebuilt);
    gone + written > 0
}

/// Mappings that go and mappings that are written, over the entities that were proven.
pub(crate) fn changes(rebuilt: &MappingsRebuilt) -> (u64, u64) {
    let proven = || {
        let entities = rebuilt.entities.iter();
        entities.filter(|entity| entity.findings.is_empty())
    };
    (
        proven().map(|entity| entity.wrong).sum(),
        proven().map(|entity| entity.missing).sum(),
    )
}

/// The result for people.
pub(crate) fn render(rebuilt: &MappingsRebuilt, width: usize) -> String {
    format!(
        "{}\n{}{}\n",
        entities(&rebuilt.entities, width),
        findings(&rebuilt.entities, width),
        figures::wrap(&verdict(rebuilt), width, 2)
    )
}

fn entities(entities: &[MappingsEntity], width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .number("rows in the target")
        .number("traced to the source")
        .number("merged into them")
        .number("mappings right")
        .number("wrong")
        .number("missing");
    for entity in entities {
        table.row(vec![
            text(&entity.entity),
            count(entity.table_rows),
            count(entity.proven),
            count(entity.merged),
            count(entity.right),
            count(entity.wrong),
            count(entity.missing),
        ]);
    }
    table.render(width, 2)
}

fn findings(entities: &[MappingsEntity], width: usize) -> String {
    let mut table = Table::new()
        .text("entity")
        .number("rows")
        .text("can't be mapped")
        .text("legacy ids");
    let mut any = false;
    for entity in entities {
        for finding in &entity.findings {
            any = true;
            let rows = i64::try_from(finding.rows).unwrap_or(i64::MAX);
            table.row(vec![
                text(&entity.entity),
                count(finding.rows),
                text(&finding.what),
                text(match finding.examples.as_slice() {
                    [] => String::new(),
                    ids => examples(ids, rows),
                }),
            ]);
        }
    }
    if any {
        format!("{}\n", table.render(width, 2))
    } else {
        String::new()
    }
}

/// The result in one line.
fn verdict(rebuilt: &MappingsRebuilt) -> String {
    let (gone, written) = changes(rebuilt);
    let of = |mark, text: String| format!("{mark} {text}");
    let failed = rebuilt
        .entities
        .iter()
        .filter(|entity| !entity.findings.is_empty())
        .count() as u64;
    let done = match (&rebuilt.run_id, gone + written) {
        (Some(run), _) => format!(
            "{} written, {} removed ({run})",
            figures::counted(written, "mapping"),
            figures::count(gone)
        ),
        (None, 0) => "nothing was written".to_owned(),
        (None, _) => format!(
            "{} would be written, {} removed; nothing was changed",
            figures::counted(written, "mapping"),
            figures::count(gone)
        ),
    };
    if failed > 0 {
        let what = format!(
            "NOT PROVEN: {} stay as they are; {done}",
            figures::counted(failed, "entity")
        );
        return of(paint(style::BAD, "✗"), what);
    }
    if rebuilt.nothing_to_do {
        let what = "nothing to do: every mapping is right".to_owned();
        return of(paint(style::GOOD, "✓"), what);
    }
    of(paint(style::GOOD, "✓"), format!("proven: {done}"))
}

/// Merged rows for people.
pub(crate) fn merged(rows: &[MergedRow], limit: i64, width: usize) -> String {
    if rows.is_empty() {
        return "no rows were merged".to_owned();
    }
    let mut table = Table::new()
        .text("entity")
        .text("legacy id")
        .text("merged into")
        .text("key");
    for row in rows {
        table.row(vec![
            text(&row.entity),
            text(&row.legacy_id),
            text(&row.merged_into),
            text(row.key.to_string()),
        ]);
    }
    let mut out = table.render(width, 2);
    if rows.len() as i64 == limit {
        out.push_str("\n  there may be more: see --limit\n");
    }
    out
}
