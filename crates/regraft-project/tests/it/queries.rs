//! What is understood of named queries, and what is said of those that are wrong.

use std::time::Duration;

use insta::assert_snapshot;
use regraft_project::{Problems, Project};

use crate::fixture::{file, files, said};

fn with(text: &str) -> Result<Project, Problems> {
    let mut files = files();
    files.push(file("queries/pages.toml", text));
    Project::from_files("demo", files)
}

#[test]
fn a_query_has_a_name_and_a_limit() {
    let project = with(
        r#"[first-page]
description = "the latest fifty"
sql = "select id from offices order by id limit 50"
limit = "1.5 s"
"#,
    );
    let project = project.unwrap_or_else(|problems| panic!("{}", problems.render(false, 100)));
    let query = &project.queries()[0];
    assert_eq!(query.name.value, "first-page");
    assert_eq!(query.limit, Duration::from_millis(1500));
    // It is no part of the migration.
    let other = with("[other]\nsql = \"select 1\"\nlimit = \"1 s\"\n");
    assert_eq!(
        other.map(|p| p.hash().to_owned()).ok(),
        Some(project.hash().to_owned())
    );
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    assert_snapshot!(said(with(
        r#"[First]
sql = "select 1"
limit = "soon"

[writes]
sql = "delete from offices"
limit = "1 s"

[no-limit]
sql = "select 1"
speed = "fast"
"#,
    )));
}
