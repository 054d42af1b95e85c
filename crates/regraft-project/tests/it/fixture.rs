//! A sound project to start from, and ways to break it.

use regraft_project::{Problems, Project};

pub(crate) const MANIFEST: &str = r#"version = 1
name = "dispatch"

[target]
schema = ["target/schema.sql"]

[groups]
core = ["offices", "patients"]
"#;

pub(crate) const OFFICES: &str = r#"[source]
from = "office o"
key = "o.id"

[target]
table = "offices"
key = { column = "id", strategy = "uuid_v5" }

[columns]
title = "o.title"
"#;

pub(crate) const PATIENTS: &str = r#"[source]
from = "patient p"
key = "p.id"

[target]
table = "patients"
key = { column = "id", strategy = "uuid_v7", time = "p.created" }

[columns]
office_id = { ref = "offices", from = "p.office_id" }
"#;

/// The sound project's files.
pub(crate) fn files() -> Vec<(String, String)> {
    vec![
        file("regraft.toml", MANIFEST),
        file("entities/offices.toml", OFFICES),
        file("entities/patients.toml", PATIENTS),
        file(
            "target/schema.sql",
            "create table offices (id uuid primary key);\n",
        ),
    ]
}

pub(crate) fn file(path: &str, text: &str) -> (String, String) {
    (path.to_owned(), text.to_owned())
}

/// The sound project with the file at `path` replaced or added.
pub(crate) fn with(path: &str, text: &str) -> Result<Project, Problems> {
    let mut files = files();
    files.retain(|(other, _)| other != path);
    files.push(file(path, text));
    Project::from_files("demo", files)
}

/// The sound project with another entity, `orders`.
pub(crate) fn with_orders(text: &str) -> Result<Project, Problems> {
    with("entities/orders.toml", text)
}

/// The sound project with an entity `orders` that has these lines as its columns.
pub(crate) fn with_columns(columns: &str) -> Result<Project, Problems> {
    with_orders(&format!(
        r#"[source]
from = "instruction i"
key = "i.id"
[target]
table = "orders"
key = {{ column = "id", strategy = "uuid_v5" }}
legacy = "legacy_id"
[columns]
{columns}
"#
    ))
}

/// What is said of a project, problems or warnings, without colour, 100 wide.
pub(crate) fn said(outcome: Result<Project, Problems>) -> String {
    match outcome {
        Ok(project) => project.warnings().render(false, 100),
        Err(problems) => problems.render(false, 100),
    }
}
