//! Projects on disk.

use std::path::Path;

use regraft_project::Project;

use crate::fixture::{files, said};

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
    std::fs::write(path, bytes).expect("a new file");
}

fn sound_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files() {
        write(folder.path(), &path, text.as_bytes());
    }
    folder
}

/// What is said of the project in a folder, with the folder's own name taken out.
fn said_of(root: &Path) -> String {
    said(Project::load(root)).replace(&root.display().to_string(), "ROOT")
}

#[test]
fn a_folder_gives_the_same_project_as_its_files() {
    let folder = sound_folder();
    let project = Project::load(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(project.warnings().is_empty());
    assert_eq!(project.root(), folder.path());
    let embedded = Project::from_files("x", files()).expect("a sound project");
    assert_eq!(project.hash(), embedded.hash());
    assert!(project.file_text("target/schema.sql").is_some());
}

#[test]
fn a_folder_without_a_manifest() {
    let folder = tempfile::tempdir().expect("a folder");
    insta::assert_snapshot!(said_of(folder.path()), @r#"
    project::no-manifest

      × there is no regraft.toml in `ROOT`
      help: go to the project's folder, or name it with --project FOLDER
    "#);
    let nowhere = folder.path().join("nowhere");
    assert!(said_of(&nowhere).contains("--project"));
}

#[test]
fn files_that_are_no_text() {
    let folder = sound_folder();
    write(
        folder.path(),
        "entities/offices.toml",
        b"[source]\nfrom = \"\xff\"\n",
    );
    insta::assert_snapshot!(said_of(folder.path()), @r#"
    project::unreadable-file

      × `entities/offices.toml` can't be read: it is not UTF-8 text (byte 17)
      help: save the file as UTF-8
    "#);
}

#[test]
fn strangers_among_the_entities() {
    let folder = sound_folder();
    write(folder.path(), "entities/old/orders.toml", b"");
    write(folder.path(), "entities/orders.yaml", b"");
    write(folder.path(), "entities/.offices.toml.swp", b"");
    insta::assert_snapshot!(said_of(folder.path()), @r#"
    project::ignored-file

      ⚠ `entities/old` is ignored
      help: only files entities/NAME.toml describe entities

    project::ignored-file

      ⚠ `entities/orders.yaml` is ignored
      help: only files entities/NAME.toml describe entities

    2 warnings
    "#);
}

#[test]
fn a_schema_file_that_is_not_there() {
    let folder = sound_folder();
    std::fs::remove_file(folder.path().join("target/schema.sql")).expect("removed");
    insta::assert_snapshot!(said_of(folder.path()), @r#"
    project::missing-file

      × no file `target/schema.sql`
       ╭─[ROOT/regraft.toml:5:11]
     4 │ [target]
     5 │ schema = ["target/schema.sql"]
       ·           ─────────┬─────────
       ·                    ╰── not there
     6 │
       ╰────
      help: paths are relative to the project's folder
    "#);
}
