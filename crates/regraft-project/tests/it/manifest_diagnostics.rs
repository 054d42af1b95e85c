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
    assert_snapshot!(manifest("version = 1\nname = \"dispatch\n[target]\n"), @r#"
    project::syntax

      × not valid TOML: invalid basic string, expected `"`
       ╭─[demo/regraft.toml:2:17]
     1 │ version = 1
     2 │ name = "dispatch
       ·                 ▲
     3 │ [target]
       ╰────
    "#);
}

#[test]
fn unknown_keys_with_and_without_a_near_one() {
    assert_snapshot!(manifest("version = 1\nname = \"d\"\ndescripton = \"\"\nowner = \"x\"\n"), @r#"
    project::unknown-key

      × unknown key `descripton` in regraft.toml
       ╭─[demo/regraft.toml:3:1]
     2 │ name = "d"
     3 │ descripton = ""
       · ─────┬────
       ·      ╰── not known here
     4 │ owner = "x"
       ╰────
      help: did you mean `description`?

    project::unknown-key

      × unknown key `owner` in regraft.toml
       ╭─[demo/regraft.toml:4:1]
     3 │ descripton = ""
     4 │ owner = "x"
       · ──┬──
       ·   ╰── not known here
       ╰────
      help: known keys: `version`, `name`, `description`, `source`, `target`, `limits`, `run`,
            `validation`, `groups`

    2 errors
    "#);
}

#[test]
fn wrong_types() {
    assert_snapshot!(
        manifest("version = \"1\"\nname = 5\nsource = []\ngroups = { a = \"offices\" }\n"),
        @r#"
    project::wrong-type

      × `version` must be an integer, not a string
       ╭─[demo/regraft.toml:1:11]
     1 │ version = "1"
       ·           ─┬─
       ·            ╰── this is a string
     2 │ name = 5
       ╰────

    project::wrong-type

      × `name` must be a string, not an integer
       ╭─[demo/regraft.toml:2:8]
     1 │ version = "1"
     2 │ name = 5
       ·        ┬
       ·        ╰── this is an integer
     3 │ source = []
       ╰────
      help: put it in quotes

    project::wrong-type

      × `source` must be a table, not an array
       ╭─[demo/regraft.toml:3:10]
     2 │ name = 5
     3 │ source = []
       ·          ─┬
       ·           ╰── this is an array
     4 │ groups = { a = "offices" }
       ╰────

    project::wrong-type

      × `a` must be an array of strings, not a string
       ╭─[demo/regraft.toml:4:16]
     3 │ source = []
     4 │ groups = { a = "offices" }
       ·                ────┬────
       ·                    ╰── this is a string
       ╰────

    4 errors
    "#
    );
}

#[test]
fn missing_keys() {
    assert_snapshot!(manifest("description = \"nothing else\"\n"), @r#"
    project::missing-key

      × regraft.toml lacks `version`
       ╭─[demo/regraft.toml:1:1]
     1 │ description = "nothing else"
       · ▲
       · ╰── `version` is missing
       ╰────
      help: add it, like this: version = 1

    project::missing-key

      × regraft.toml lacks `name`
       ╭─[demo/regraft.toml:1:1]
     1 │ description = "nothing else"
       · ▲
       · ╰── `name` is missing
       ╰────
      help: add it, like this: name = "dispatch"

    2 errors
    "#);
}

#[test]
fn unsupported_version() {
    assert_snapshot!(manifest("version = 2\nname = \"d\"\n"), @r#"
    project::unsupported-version

      × version 2 of the project format is not supported
       ╭─[demo/regraft.toml:1:11]
     1 │ version = 2
       ·           ┬
       ·           ╰── not supported
     2 │ name = "d"
       ╰────
      help: this program reads version 1; a newer one is needed for this project
    "#);
}

#[test]
fn bad_names() {
    assert_snapshot!(
        manifest("version = 1\nname = \"My Project\"\n[target]\nnamespace = \"a\\\"b\"\n\
                  [groups]\nCore = [\"offices\"]\n"),
        @r#"
    project::bad-name

      × `My Project` can't be a name
       ╭─[demo/regraft.toml:2:8]
     1 │ version = 1
     2 │ name = "My Project"
       ·        ──────┬─────
       ·              ╰── not a name
     3 │ [target]
       ╰────
      help: names are lower-case letters, digits, `_` and `-`, and begin with a letter

    project::bad-name

      × `namespace` holds a quote; names are quoted for you
       ╭─[demo/regraft.toml:4:13]
     3 │ [target]
     4 │ namespace = "a\"b"
       ·             ──────
     5 │ [groups]
       ╰────

    project::bad-name

      × `Core` can't be a group's name
       ╭─[demo/regraft.toml:6:1]
     5 │ [groups]
     6 │ Core = ["offices"]
       · ──┬─
       ·   ╰── not a name
       ╰────
      help: names are lower-case letters, digits, `_` and `-`, and begin with a letter

    3 errors
    "#
    );
}

#[test]
fn duplicate_key() {
    assert_snapshot!(manifest("version = 1\nname = \"a\"\nname = \"b\"\n"), @r#"
    project::duplicate-key

      × `name` is defined twice
       ╭─[demo/regraft.toml:3:1]
     2 │ name = "a"
     3 │ name = "b"
       · ──┬─
       ·   ╰── the second definition
       ╰────
      help: remove or rename one of the two
    "#);
}

#[test]
fn schema_files_that_are_not_there_or_outside() {
    assert_snapshot!(
        manifest("version = 1\nname = \"d\"\n[target]\n\
                  schema = [\"target/shema.sql\", \"seeds.sql\", \"../x.sql\"]\n"),
        @r#"
    project::missing-file

      × no file `target/shema.sql`
       ╭─[demo/regraft.toml:4:11]
     3 │ [target]
     4 │ schema = ["target/shema.sql", "seeds.sql", "../x.sql"]
       ·           ─────────┬────────
       ·                    ╰── not there
       ╰────
      help: did you mean `target/schema.sql`?

    project::missing-file

      × no file `seeds.sql`
       ╭─[demo/regraft.toml:4:31]
     3 │ [target]
     4 │ schema = ["target/shema.sql", "seeds.sql", "../x.sql"]
       ·                               ─────┬─────
       ·                                    ╰── not there
       ╰────
      help: paths are relative to the project's folder

    project::bad-path

      × this path leads out of the project
       ╭─[demo/regraft.toml:4:44]
     3 │ [target]
     4 │ schema = ["target/shema.sql", "seeds.sql", "../x.sql"]
       ·                                            ─────┬────
       ·                                                 ╰── must be relative, without `..`
       ╰────
      help: move the file into the project, so that all of it is reviewed together

    3 errors
    "#
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
    assert_snapshot!(manifest_and("[limits]\nquarantine = \"120%\"\n"), @r#"
    project::bad-budget

      × this is no limit for the quarantine
        ╭─[demo/regraft.toml:10:14]
      9 │ [limits]
     10 │ quarantine = "120%"
        ·              ──────
        ╰────
      help: write a number of rows (100) or a percentage from 0 to 100 ("0.5%")
    "#);
}

#[test]
fn run_settings_out_of_range() {
    assert_snapshot!(manifest_and("[run]\nbatch_size = 0\nworkers = 65\n"), @r#"
    project::out-of-range

      × `batch_size` can't be 0
        ╭─[demo/regraft.toml:10:14]
      9 │ [run]
     10 │ batch_size = 0
        ·              ┬
        ·              ╰── out of range
     11 │ workers = 65
        ╰────
      help: it must be from 1 to 1000000

    project::out-of-range

      × `workers` can't be 65
        ╭─[demo/regraft.toml:11:11]
     10 │ batch_size = 0
     11 │ workers = 65
        ·           ─┬
        ·            ╰── out of range
        ╰────
      help: it must be from 1 to 64

    2 errors
    "#);
    for good in ["batch_size = 1", "batch_size = 1_000_000", "workers = 64"] {
        assert_eq!(manifest_and(&format!("[run]\n{good}\n")), "");
    }
}

#[test]
fn unknown_group_members() {
    assert_snapshot!(manifest_and("more = [\"patient\", \"cor\", \"x\", \"all\"]\nnone = []\n"), @r#"
    project::unknown-entity

      × unknown entity or group `patient`
        ╭─[demo/regraft.toml:9:9]
      8 │ core = ["offices", "patients"]
      9 │ more = ["patient", "cor", "x", "all"]
        ·         ────┬────
        ·             ╰── neither an entity nor a group
     10 │ none = []
        ╰────
      help: did you mean `patients`?

    project::unknown-entity

      × unknown entity or group `cor`
        ╭─[demo/regraft.toml:9:20]
      8 │ core = ["offices", "patients"]
      9 │ more = ["patient", "cor", "x", "all"]
        ·                    ──┬──
        ·                      ╰── neither an entity nor a group
     10 │ none = []
        ╰────
      help: did you mean `core`?

    project::unknown-entity

      × unknown entity or group `x`
        ╭─[demo/regraft.toml:9:27]
      8 │ core = ["offices", "patients"]
      9 │ more = ["patient", "cor", "x", "all"]
        ·                           ─┬─
        ·                            ╰── neither an entity nor a group
     10 │ none = []
        ╰────
      help: entities and groups: `offices`, `patients`, `core`, `more`, `none`

    project::bad-value

      × `all` can't be part of a group
        ╭─[demo/regraft.toml:9:32]
      8 │ core = ["offices", "patients"]
      9 │ more = ["patient", "cor", "x", "all"]
        ·                                ─────
     10 │ none = []
        ╰────
      help: use `all` itself on the command line, or name entities here

    project::empty-group

      × group `none` is empty
        ╭─[demo/regraft.toml:10:8]
      9 │ more = ["patient", "cor", "x", "all"]
     10 │ none = []
        ·        ──
        ╰────
      help: name entities or other groups, or remove the group

    5 errors
    "#);
}

#[test]
fn groups_named_like_something_else() {
    assert_snapshot!(manifest_and("offices = [\"patients\"]\nall = [\"offices\"]\n"), @r#"
    project::name-clash

      × `offices` is an entity, too
        ╭─[demo/regraft.toml:9:1]
      8 │ core = ["offices", "patients"]
      9 │ offices = ["patients"]
        · ───┬───
        ·    ╰── a group can't have an entity's name
     10 │ all = ["offices"]
        ╰────
      help: rename the group

    project::name-clash

      × the group `all` is built in
        ╭─[demo/regraft.toml:10:1]
      9 │ offices = ["patients"]
     10 │ all = ["offices"]
        · ─┬─
        ·  ╰── can't be defined
        ╰────
      help: remove it: `all` is every entity

    2 errors
    "#);
}

#[test]
fn group_cycles() {
    assert_snapshot!(manifest_and("a = [\"b\"]\nb = [\"c\", \"core\"]\nc = [\"a\"]\ns = [\"s\"]\n"), @r#"
    project::group-cycle

      × group `a` contains itself
        ╭─[demo/regraft.toml:9:6]
      8 │ core = ["offices", "patients"]
      9 │ a = ["b"]
        ·      ─┬─
        ·       ╰── a → b → c → a
     10 │ b = ["c", "core"]
        ╰────
      help: remove one of these members

    project::group-cycle

      × group `b` contains itself
        ╭─[demo/regraft.toml:10:6]
      9 │ a = ["b"]
     10 │ b = ["c", "core"]
        ·      ─┬─
        ·       ╰── b → c → a → b
     11 │ c = ["a"]
        ╰────
      help: remove one of these members

    project::group-cycle

      × group `c` contains itself
        ╭─[demo/regraft.toml:11:6]
     10 │ b = ["c", "core"]
     11 │ c = ["a"]
        ·      ─┬─
        ·       ╰── c → a → b → c
     12 │ s = ["s"]
        ╰────
      help: remove one of these members

    project::group-cycle

      × group `s` contains itself
        ╭─[demo/regraft.toml:12:6]
     11 │ c = ["a"]
     12 │ s = ["s"]
        ·      ─┬─
        ·       ╰── s → s
        ╰────
      help: remove one of these members

    4 errors
    "#);
}

#[test]
fn a_repeated_member_is_a_warning() {
    assert_snapshot!(manifest_and("twice = [\"offices\", \"offices\"]\n"), @r#"
    project::repeated-member

      ⚠ `offices` is in the group `twice` twice
       ╭─[demo/regraft.toml:9:21]
     8 │ core = ["offices", "patients"]
     9 │ twice = ["offices", "offices"]
       ·                     ─────────
       ╰────
      help: remove one of the two
    "#);
}

#[test]
fn no_manifest() {
    let rest = files()
        .into_iter()
        .filter(|(path, _)| path != "regraft.toml")
        .collect();
    assert_snapshot!(said(Project::from_files("demo", rest)), @r#"
    project::no-manifest

      × there is no regraft.toml in `demo`
      help: go to the project's folder, or name it with --project FOLDER
    "#);
}

#[test]
fn no_entities() {
    let only = vec![file("regraft.toml", "version = 1\nname = \"d\"\n")];
    assert_snapshot!(said(Project::from_files("demo", only)), @r#"
    project::no-entities

      × the project has no entities
       ╭─[demo/regraft.toml:1:1]
     1 │ version = 1
       · ▲
     2 │ name = "d"
       ╰────
      help: describe each in a file of its own: entities/orders.toml
    "#);
}

#[test]
fn a_file_given_twice() {
    let mut files = files();
    files.push(files[1].clone());
    assert_snapshot!(said(Project::from_files("demo", files)), @r#"
    project::duplicate-file

      × the file `entities/offices.toml` was given twice
    "#);
}
