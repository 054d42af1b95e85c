//! What is said about mistakes in `regraft.toml`.

use insta::assert_snapshot;
use regraft_project::Project;

use crate::fixture::{MANIFEST, file, files, said, with};

fn manifest(text: &str) -> String {
    said(with("regraft.toml", text))
}

/// The sound manifest with lines added at its end.
fn manifest_and(lines: &str) -> String {
    manifest(&format!("{MANIFEST}{lines}"))
}

#[test]
fn a_sound_project_gives_no_word() {
    assert_eq!(manifest(MANIFEST), "");
}

#[test]
fn syntax_error() {
    assert_snapshot!(manifest("version = 1\nname = \"dispatch\n[target]\n"), @"");
}

#[test]
fn unknown_keys_with_and_without_a_near_one() {
    assert_snapshot!(manifest("version = 1\nname = \"d\"\ndescripton = \"\"\nowner = \"x\"\n"), @"");
}

#[test]
fn wrong_types() {
    assert_snapshot!(
        manifest("version = \"1\"\nname = 5\nsource = []\ngroups = { a = \"offices\" }\n"),
        @""
    );
}

#[test]
fn missing_keys() {
    assert_snapshot!(manifest("description = \"nothing else\"\n"), @"");
}

#[test]
fn unsupported_version() {
    assert_snapshot!(manifest("version = 2\nname = \"d\"\n"), @"");
}

#[test]
fn bad_names() {
    assert_snapshot!(
        manifest("version = 1\nname = \"My Project\"\n[target]\nnamespace = \"a\\\"b\"\n\
                  [groups]\nCore = [\"offices\"]\n"),
        @""
    );
}

#[test]
fn duplicate_key() {
    assert_snapshot!(manifest("version = 1\nname = \"a\"\nname = \"b\"\n"), @"");
}

#[test]
fn schema_files_that_are_not_there_or_outside() {
    assert_snapshot!(
        manifest("version = 1\nname = \"d\"\n[target]\n\
                  schema = [\"target/shema.sql\", \"seeds.sql\", \"../x.sql\"]\n"),
        @""
    );
}

#[test]
fn quarantine_budgets() {
    for budget in ["\"5\"", "\"101%\"", "-1", "0.5", "\"x%\"", "true"] {
        let said = manifest_and(&format!("[limits]\nquarantine = {budget}\n"));
        assert!(
            said.contains("(100) or a percentage from 0 to 100"),
            "{budget}: {said}"
        );
    }
    assert_snapshot!(manifest_and("[limits]\nquarantine = \"120%\"\n"), @"");
}

#[test]
fn run_settings_out_of_range() {
    assert_snapshot!(manifest_and("[run]\nbatch_size = 0\nworkers = 65\n"), @"");
    for good in ["batch_size = 1", "batch_size = 1_000_000", "workers = 64"] {
        assert_eq!(manifest_and(&format!("[run]\n{good}\n")), "");
    }
}

#[test]
fn unknown_group_members() {
    assert_snapshot!(manifest_and("more = [\"patient\", \"cor\", \"x\", \"all\"]\nnone = []\n"), @"");
}

#[test]
fn groups_named_like_something_else() {
    assert_snapshot!(manifest_and("offices = [\"patients\"]\nall = [\"offices\"]\n"), @"");
}

#[test]
fn group_cycles() {
    assert_snapshot!(manifest_and("a = [\"b\"]\nb = [\"c\", \"core\"]\nc = [\"a\"]\ns = [\"s\"]\n"), @"");
}

#[test]
fn a_repeated_member_is_a_warning() {
    assert_snapshot!(manifest_and("twice = [\"offices\", \"offices\"]\n"), @"");
}

#[test]
fn no_manifest() {
    let rest = files()
        .into_iter()
        .filter(|(path, _)| path != "regraft.toml")
        .collect();
    assert_snapshot!(said(Project::from_files("demo", rest)), @"");
}

#[test]
fn no_entities() {
    let only = vec![file("regraft.toml", "version = 1\nname = \"d\"\n")];
    assert_snapshot!(said(Project::from_files("demo", only)), @"");
}

#[test]
fn a_file_given_twice() {
    let mut files = files();
    files.push(files[1].clone());
    assert_snapshot!(said(Project::from_files("demo", files)), @"");
}
