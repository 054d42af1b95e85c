//! Columns that a project gains are filled in for rows that are in place.

use regraft_testkit::{Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

const SOURCE: &str = "
create table author (id integer primary key, name text);
create table book (id integer primary key, title text, author integer, pages integer, price numeric, kind integer, printed timestamptz);
";

/// Books 1 to 200; 13 has no title, 20 is of a kind that nobody knows, every seventh has no price.
const DATA: &str = "
insert into author select i, 'Author ' || i from generate_series(1, 20) i;
insert into book
select i, case when i <> 13 then 'Book ' || i end, 1 + i % 20, 100 + i, case when i % 7 > 0 then i * 1.50 end,
       case when i = 20 then 9 else i % 2 end, timestamptz '2020-01-01 00:00:00.123456+00' + i * interval '1 day'
from generate_series(1, 200) i;
";

const TARGET: &str = "
create type kind as enum ('novel', 'poem');
create table authors (id uuid primary key, name text, legacy_id integer unique);
create table books (id uuid primary key, title text not null, pages integer, author_id uuid references authors,
                    price numeric(8, 2), kind kind, printed timestamptz, extra jsonb, legacy_id integer unique);
";

const AUTHORS: &str = r#"
[source]
from = "author a"
key = "a.id"
[target]
table = "authors"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "a.name"
"#;

const BOOKS: &str = r#"
[source]
from = "book b"
key = "b.id"
[target]
table = "books"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
pages = "b.pages"
title = "b.title"
"#;

/// The columns that the project gains: before, between and after the others.
const GAINED: &str = r#"
[columns]
author_id = { ref = "authors", from = "b.author" }
pages = "b.pages"
price = "b.price"
title = "b.title"
kind = { from = "b.kind", map = { 0 = "novel", 1 = "poem" } }
printed = "b.printed"
extra = { json = { pages = "b.pages" } }
"#;

fn library() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("library", "50%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/authors.toml", AUTHORS),
        ("entities/books.toml", BOOKS),
    ])
}

/// Lets the project gain its columns.
fn grow(library: &ProjectFolder) {
    let (head, _) = BOOKS.split_once("[columns]").expect("columns");
    let grown = format!("{head}{}", GAINED.trim_start());
    std::fs::write(library.path().join("entities/books.toml"), grown).expect("it can be written");
}

const COLUMNS: &str = "author_id,price,kind,printed,extra";
const BACKFILL: [&str; 5] = ["backfill", "--entity", "books", "--columns", COLUMNS];

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "23")
}

#[track_caller]
fn migrate(rehearsal: &Rehearsal<'_>) {
    let finished = program(rehearsal).run(&["migrate"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
}

fn books(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    rehearsal.modern_rows("select * from books order by legacy_id")
}

/// What a migration with the grown project from the start gives; book 20 is in quarantine there.
fn expected(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    let fresh = rehearsal.again();
    migrate(&fresh);
    books(&fresh)
}

#[test]
fn rows_in_place_get_what_the_project_gained() {
    let library = library();
    let rehearsal = Rehearsal::new(Servers::shared(), library.path(), LEGACY);
    migrate(&rehearsal);
    grow(&library);
    let before = Dump::of(&rehearsal.modern_url());
    let dry = program(&rehearsal).expect(1, &[&BACKFILL[..], &["--dry-run"]].concat());
    assert!(dry.says("198 of 199 rows"), "{dry}");
    Dump::of(&rehearsal.modern_url()).assert_same(&before, "after a dry run");
    let done = program(&rehearsal).expect(1, &BACKFILL);
    assert!(done.says("unmapped_value:kind"), "{done}");
    assert!(done.says("legacy ids: 20"), "{done}");
    let mut filled = books(&rehearsal);
    filled.retain(|row| row.last().map(String::as_str) != Some("20"));
    assert_eq!(filled, expected(&rehearsal));
    // The ledger agrees with what a fresh migration notes, column by column.
    let prints = "select legacy_id, source_fingerprint, column_fingerprints
                  from regraft.migration_mappings where entity = 'books' and legacy_id <> '20' order by 1";
    let fresh = rehearsal.again();
    migrate(&fresh);
    assert_eq!(rehearsal.modern_rows(prints), fresh.modern_rows(prints));
    rehearsal.legacy("update book set kind = 1 where id = 20");
    program(&rehearsal).expect(0, &BACKFILL);
    program(&rehearsal).expect(0, &["validate"]);
    let before = Dump::of(&rehearsal.modern_url());
    let again = program(&rehearsal).expect(0, &BACKFILL);
    assert!(again.says("Nothing to do"), "{again}");
    Dump::of(&rehearsal.modern_url())
        .without_runs()
        .assert_same(&before.without_runs(), "a second run");
    let migrated = program(&rehearsal).run(&["migrate"]);
    assert!(migrated.says("Nothing to do"), "{migrated}");
}

/// What the application has written stays, and is told; what the ledger agreed on may change.
#[test]
fn what_others_wrote_stays() {
    let library = library();
    let rehearsal = Rehearsal::new(Servers::shared(), library.path(), LEGACY);
    rehearsal.legacy("update book set kind = 0 where id = 20");
    migrate(&rehearsal);
    grow(&library);
    rehearsal.modern(
        "update books set price = 7 where legacy_id = 30; update books set pages = 1 where legacy_id = 31",
    );
    rehearsal.legacy("update book set pages = pages + 1000 where id in (31, 32)");
    let done = program(&rehearsal).expect(
        1,
        &["backfill", "--entity", "books", "--columns", "price,pages"],
    );
    assert!(done.says("2 rows left"), "{done}");
    assert!(done.says("legacy ids: 30, 31"), "{done}");
    let rows = rehearsal.modern_rows(
        "select legacy_id, price, pages from books where legacy_id in (30, 31, 32) order by 1",
    );
    assert_eq!(
        rows,
        [
            ["30", "7.00", "130"],
            ["31", "", "1"],
            ["32", "48.00", "1132"]
        ]
    );
    let kept = rehearsal
        .modern_rows("select before, after from regraft.migration_changes where legacy_id = '32'");
    assert_eq!(
        kept,
        [[
            r#"{"pages": "132", "price": null}"#,
            r#"{"pages": "1132", "price": "48.00"}"#
        ]]
    );
}

/// Killed at some commit, the same command goes on, and ends where an undisturbed one does.
#[test]
fn killed_and_taken_up() {
    let library = library();
    let first = Rehearsal::new(Servers::shared(), library.path(), LEGACY);
    grow(&library);
    let expected = {
        std::fs::write(library.path().join("entities/books.toml"), BOOKS).expect("written");
        let calm = first.again();
        migrate(&calm);
        grow(&library);
        program(&calm).run(&BACKFILL);
        Dump::of(&calm.modern_url())
    };
    for point in ["before-commit", "after-commit"] {
        for n in [0, 1, 2, 4, 7, 10] {
            std::fs::write(library.path().join("entities/books.toml"), BOOKS).expect("written");
            let rehearsal = first.again();
            migrate(&rehearsal);
            grow(&library);
            let failpoint = format!("{point}={n}*off->return(abort)");
            let cut = program(&rehearsal)
                .with("FAILPOINTS", &failpoint)
                .run(&BACKFILL);
            assert!(cut.signal.is_some(), "{failpoint}: {cut}");
            let finished = program(&rehearsal).run(&BACKFILL);
            assert_eq!(finished.code, Some(1), "{failpoint}: {finished}");
            Dump::of(&rehearsal.modern_url()).assert_same(&expected, &failpoint);
        }
    }
}

/// The tables, and the mappings of what was filled; book 20 is left by every backfill.
fn state(rehearsal: &Rehearsal<'_>) -> (Dump, Vec<Vec<String>>) {
    let mappings = "select entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, agreed_run
                    from regraft.migration_mappings where legacy_id <> '20' order by 1, 2";
    (
        Dump::of_tables(&rehearsal.modern_url()),
        rehearsal.modern_rows(mappings),
    )
}

fn latest_backfill(rehearsal: &Rehearsal<'_>) -> String {
    let query = "select run_id from regraft.migration_control
                 where command = 'backfill' and entity = '' order by run_no desc limit 1";
    rehearsal.modern_rows(query).remove(0).remove(0)
}

/// Undone, nothing is left of a backfill; it can be done again, and what was migrated can be undone
/// after it.
#[test]
fn a_backfill_is_undone() {
    let library = library();
    let rehearsal = Rehearsal::new(Servers::shared(), library.path(), LEGACY);
    let empty = Dump::of_tables(&rehearsal.modern_url());
    migrate(&rehearsal);
    let before = state(&rehearsal);
    grow(&library);
    program(&rehearsal).expect(1, &BACKFILL);
    let filled = state(&rehearsal);
    let run = latest_backfill(&rehearsal);
    // What others wrote since stays, until it is wished otherwise.
    rehearsal.modern("update books set price = 7 where legacy_id = 30");
    let migration = rehearsal.modern_rows(
        "select run_id from regraft.migration_control where command = 'migrate' and entity = ''",
    );
    let earlier = program(&rehearsal).expect(2, &["rollback", "--run", &migration[0][0]]);
    assert!(earlier.says("changed them since"), "{earlier}");
    let left = program(&rehearsal).expect(1, &["rollback", "--run", &run, "--yes"]);
    assert!(left.says("somebody changed price since"), "{left}");
    let rows = "select price is null, kind is null from books where legacy_id in (30, 31) order by legacy_id";
    assert_eq!(rehearsal.modern_rows(rows), [["f", "f"], ["t", "t"]]);
    program(&rehearsal).expect(0, &["rollback", "--run", &run, "--yes", "--force"]);
    let (tables, mappings) = state(&rehearsal);
    tables.assert_same(&before.0, "undone");
    assert_eq!(mappings, before.1);
    program(&rehearsal).expect(1, &BACKFILL);
    state(&rehearsal).0.assert_same(&filled.0, "done again");
    let run = latest_backfill(&rehearsal);
    program(&rehearsal).expect(0, &["rollback", "--run", &run, "--yes"]);
    program(&rehearsal).expect(0, &["rollback", "--run", &migration[0][0], "--yes"]);
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&empty, "all of it");
}

/// Killed at some commit, the rollback of a backfill is finished by the same command; and a backfill
/// that was killed can be undone instead of finished.
#[test]
fn undoing_a_backfill_is_killed_and_taken_up() {
    let library = library();
    let first = Rehearsal::new(Servers::shared(), library.path(), LEGACY);
    for (point, n) in [
        ("before-rollback-commit", 0),
        ("before-rollback-commit", 1),
        ("after-commit", 1),
        ("after-commit", 2),
        ("before-commit", 5),
    ] {
        std::fs::write(library.path().join("entities/books.toml"), BOOKS).expect("written");
        let rehearsal = first.again();
        migrate(&rehearsal);
        let before = state(&rehearsal);
        grow(&library);
        let failpoint = format!("{point}={n}*off->return(abort)");
        let cut_backfill = point == "before-commit";
        let backfill = if cut_backfill {
            program(&rehearsal).with("FAILPOINTS", &failpoint)
        } else {
            program(&rehearsal)
        };
        backfill.run(&BACKFILL);
        let run = latest_backfill(&rehearsal);
        let undo = ["rollback", "--run", &run, "--yes"];
        if !cut_backfill {
            let cut = program(&rehearsal)
                .with("FAILPOINTS", &failpoint)
                .run(&undo);
            assert!(cut.signal.is_some(), "{failpoint}: {cut}");
        }
        program(&rehearsal).expect(0, &undo);
        let (tables, mappings) = state(&rehearsal);
        tables.assert_same(&before.0, &failpoint);
        assert_eq!(mappings, before.1, "{failpoint}");
    }
}

#[test]
fn wrong_usage() {
    let library = library();
    let rehearsal = Rehearsal::new(Servers::shared(), library.path(), LEGACY);
    migrate(&rehearsal);
    let run = |columns: &str, entity: &str| {
        program(&rehearsal).expect(2, &["backfill", "--entity", entity, "--columns", columns])
    };
    assert!(run("price", "books").says("maps no column `price`"));
    assert!(run("id", "books").says("is what a row is known by"));
    assert!(run("title", "boks").says("did you mean"));
    program(&rehearsal).expect(2, &["backfill", "--entity", "books"]);
}
