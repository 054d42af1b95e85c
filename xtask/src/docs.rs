//! `cargo xtask docs`: the generated part of the documentation.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::ledger;
use crate::workspace::{cargo, output, root};

/// A generated file.
struct Page {
    /// Its path, from the repository's folder.
    path: &'static str,
    text: String,
}

impl Page {
    fn new(path: &'static str, text: String) -> Self {
        Self { path, text }
    }

    fn file(&self) -> PathBuf {
        root().join(self.path)
    }

    fn is_up_to_date(&self) -> bool {
        fs::read_to_string(self.file()).is_ok_and(|text| text == self.text)
    }
}

/// Writes every generated file that is not up to date.
///
/// # Errors
/// The program can't be run, or a file can't be written.
pub(crate) fn write() -> Result<(), String> {
    for page in pages()?.iter().filter(|page| !page.is_up_to_date()) {
        let file = page.file();
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        fs::write(&file, &page.text).map_err(|error| format!("{}: {error}", page.path))?;
        // The files are written whether or not their names can be.
        let _ = writeln!(std::io::stdout(), "{}", page.path);
    }
    Ok(())
}

/// Compares the generated files with what would be generated.
///
/// # Errors
/// The names of those that differ.
pub(crate) fn check() -> Result<(), String> {
    let pages = pages()?;
    let stale: Vec<&str> = pages
        .iter()
        .filter(|page| !page.is_up_to_date())
        .map(|page| page.path)
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not up to date: {}; run `cargo xtask docs` and commit what it writes",
        stale.join(", ")
    ))
}

fn pages() -> Result<Vec<Page>, String> {
    let program = ["run", "--quiet", "--package", "regraft-cli", "--"];
    let reference = |page| output(cargo(&program).args(["__reference", page]));
    let tables = ledger_sql()?;
    Ok(vec![
        Page::new("docs/reference/commands.md", reference("commands")?),
        Page::new("docs/reference/metrics.md", reference("metrics")?),
        Page::new(
            "docs/reference/regraft.schema.json",
            json(&regraft_project::json_schema_manifest())?,
        ),
        Page::new(
            "docs/reference/entity.schema.json",
            json(&regraft_project::json_schema_entity())?,
        ),
        Page::new(
            "docs/reference/invariants.schema.json",
            json(&regraft_project::json_schema_invariants())?,
        ),
        Page::new(
            "docs/reference/queries.schema.json",
            json(&regraft_project::json_schema_queries())?,
        ),
        Page::new("docs/reference/ledger.md", ledger::markdown(&tables)),
    ])
}

/// The ledger's SQL, all versions of it in their order.
fn ledger_sql() -> Result<String, String> {
    let mut sql = String::new();
    for version in 1.. {
        let file = format!("crates/regraft-ledger/src/schema/{version}.sql");
        match fs::read_to_string(root().join(&file)) {
            Ok(text) => sql.push_str(&text),
            Err(error) if version > 1 && error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) => return Err(format!("{file}: {error}")),
        }
    }
    Ok(sql)
}

fn json(value: &Value) -> Result<String, String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| format!("a JSON schema can't be written: {error}"))
}
