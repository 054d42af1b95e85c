//! Columns that a project gains are filled in for rows that are in place.

mod village;

use regraft_testkit::{
    Dump, Finished, Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest,
};
use serde_json::Value;

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

/// A backfill of some columns of books, with more arguments.
fn backfill(rehearsal: &Rehearsal<'_>, code: i32, columns: &str, more: &[&str]) -> Finished {
    let arguments = ["backfill", "--entity", "books", "--columns", columns];
    program(rehearsal).expect(code, &[&arguments[..], more].concat())
}

fn differential(rehearsal: &Rehearsal<'_>, code: i32, more: &[&str]) -> Value {
    let arguments = ["differential", "migrate", "--entities", "books"];
    program(rehearsal).json(code, &[&arguments[..], more].concat())
}

/// The open rows: legacy id, kind and columns.
fn open(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    rehearsal.modern_rows(
        "select legacy_id, comparison_type, array_to_string(columns, ',') from regraft.data_differentials
         where legacy_id is not null and not resolved order by legacy_id::integer",
    )
}

/// A library in which all books are of a known kind, migrated and then grown.
fn grown(library: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), library.path(), LEGACY);
    rehearsal.legacy("update book set kind = 0 where id = 20");
    migrate(&rehearsal);
    grow(library);
    rehearsal
}

/// What both sides have changed is left column by column, and noted for a decision; the rest of the
/// row is written.
#[test]
fn what_both_sides_changed_is_left_for_a_decision() {
    let library = library();
    let rehearsal = grown(&library);
    rehearsal.modern(
        "update books set price = 7 where legacy_id = 30; update books set pages = 1 where legacy_id = 31",
    );
    rehearsal.legacy("update book set pages = pages + 1000 where id in (31, 32)");
    let dry = backfill(&rehearsal, 1, "price,pages", &["--dry-run"]);
    assert!(dry.says("2 rows left: both sides"), "{dry}");
    assert_eq!(open(&rehearsal), Vec::<Vec<String>>::new());
    let done = backfill(&rehearsal, 1, "price,pages", &[]);
    assert!(done.says("2 rows left: both sides"), "{done}");
    assert!(done.says("legacy ids: 30, 31"), "{done}");
    let rows = || {
        rehearsal.modern_rows(
            "select legacy_id, price, pages from books where legacy_id in (30, 31, 32) order by 1",
        )
    };
    assert_eq!(
        rows(),
        [
            ["30", "7.00", "130"],
            ["31", "46.50", "1"],
            ["32", "48.00", "1132"]
        ]
    );
    assert_eq!(
        open(&rehearsal),
        [["30", "conflict", "price"], ["31", "conflict", "pages"]]
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
    let source = ["conflicts", "resolve", "--entity", "books", "--take"];
    let resolved = program(&rehearsal).json(0, &[&source[..], &["source"]].concat());
    assert_eq!(resolved["written"], 2, "{resolved}");
    assert_eq!(rows()[0], ["30", "45.00", "130"]);
    assert_eq!(rows()[1], ["31", "46.50", "1131"]);
    backfill(&rehearsal, 0, "price,pages", &[]);
}

/// Who wins is what the command says, or the project, and in the columns that it names the project.
#[test]
fn policies_are_those_of_a_differential_migration() {
    let library = library();
    let first = Rehearsal::once(Servers::shared(), library.path(), LEGACY);
    first.legacy("update book set kind = 0 where id = 20");
    let path = library.path().join("entities/books.toml");
    let price = "select price::text from books where legacy_id in (30, 31, 35) order by legacy_id";
    // 30 was changed on both sides, 31 in the target alone, since it was filled; 35 in the source.
    for (project, command, code, expected) in [
        ("", "", 1, ["7.00", "8.00", "2.00"]),
        ("", "source_wins", 0, ["1.00", "46.50", "2.00"]),
        ("", "target_wins", 0, ["7.00", "8.00", "2.00"]),
        (
            "conflicts = \"source_wins\"",
            "",
            0,
            ["1.00", "46.50", "2.00"],
        ),
        (
            "conflicts = \"source_wins\"",
            "manual",
            1,
            ["7.00", "8.00", "2.00"],
        ),
        (
            "columns = { price = \"target_wins\" }",
            "source_wins",
            0,
            ["7.00", "8.00", "2.00"],
        ),
    ] {
        std::fs::write(&path, BOOKS).expect("written");
        let rehearsal = first.again();
        migrate(&rehearsal);
        grow(&library);
        let grown = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, format!("{grown}[changes]\n{project}\n")).expect("written");
        backfill(&rehearsal, 0, "price", &[]);
        rehearsal.legacy(
            "update book set price = 1 where id = 30; update book set price = 2 where id = 35",
        );
        rehearsal.modern(
            "update books set price = 7 where legacy_id = 30; update books set price = 8 where legacy_id = 31",
        );
        let more = ["--conflict-resolution", command];
        let more = if command.is_empty() { &[][..] } else { &more };
        let done = backfill(&rehearsal, code, "price", more);
        let case = format!("{project:?}, {command:?}: {done}");
        assert_eq!(rehearsal.modern_rows(price).concat(), expected, "{case}");
        let noted = open(&rehearsal);
        match code {
            0 => assert_eq!(noted, Vec::<Vec<String>>::new(), "{case}"),
            _ => assert_eq!(noted, [["30", "conflict", "price"]], "{case}"),
        }
        rehearsal.legacy("update book set price = id * 1.5 where id in (30, 35)");
    }
}

/// What the source has changed besides is left, and not hidden: a differential migration finds it.
#[test]
fn changes_of_other_columns_are_found_later() {
    let library = library();
    let rehearsal = grown(&library);
    rehearsal.legacy("update book set title = 'Another', price = 3 where id = 40");
    rehearsal.modern("update books set title = 'Mine' where legacy_id = 41");
    backfill(&rehearsal, 0, "price", &[]);
    let book = |id: i32| {
        let query = format!("select title, price, kind is null from books where legacy_id = {id}");
        rehearsal.modern_rows(&query).concat()
    };
    assert_eq!(book(40), ["Book 40", "3.00", "t"]);
    backfill(&rehearsal, 0, "printed", &[]);
    let before = Dump::of(&rehearsal.modern_url());
    let again = backfill(&rehearsal, 0, "price,printed", &[]);
    assert!(again.says("Nothing to do"), "{again}");
    Dump::of(&rehearsal.modern_url())
        .without_runs()
        .assert_same(&before.without_runs(), "a second run");
    let done = differential(&rehearsal, 0, &[]);
    assert_eq!(done["open"], 0, "{done}");
    assert_eq!(book(40), ["Another", "3.00", "f"]);
    assert_eq!(book(41)[0], "Mine", "only the target had changed it");
    // The columns that were gained and not named are filled in as well: nobody has agreed on them.
    rehearsal.modern("update books set title = 'Book 41' where legacy_id = 41");
    assert_eq!(books(&rehearsal), expected(&rehearsal));
    program(&rehearsal).expect(0, &["validate"]);
}

/// A conflict over a column that isn't named stays noted, beside those that are.
#[test]
fn conflicts_over_other_columns_stay_noted() {
    let library = library();
    let rehearsal = grown(&library);
    differential(&rehearsal, 0, &[]);
    rehearsal.legacy("update book set title = 'S', price = 1, pages = 5 where id in (50, 51)");
    rehearsal.modern("update books set title = 'T', price = 2 where legacy_id in (50, 51)");
    differential(&rehearsal, 1, &[]);
    let both = [
        ["50", "conflict", "title,price"],
        ["51", "conflict", "title,price"],
    ];
    let mut noted = open(&rehearsal);
    for row in &mut noted {
        assert_eq!(row[2].len(), "title,price".len(), "{row:?}");
        row[2] = "title,price".to_owned();
    }
    assert_eq!(noted, both);
    backfill(
        &rehearsal,
        0,
        "price",
        &["--conflict-resolution", "source_wins"],
    );
    let title = [["50", "conflict", "title"], ["51", "conflict", "title"]];
    assert_eq!(open(&rehearsal), title);
    rehearsal.legacy("update book set price = 4 where id = 50");
    rehearsal.modern("update books set price = 3 where legacy_id = 50");
    backfill(&rehearsal, 1, "price", &[]);
    assert_eq!(open(&rehearsal)[0], ["50", "conflict", "title,price"]);
    let shown = program(&rehearsal).json(1, &["conflicts", "list"]);
    let id = shown["rows"][0]["id"].as_str().expect("an id").to_owned();
    let shown = program(&rehearsal).json(1, &["conflicts", "show", "--id", &id]);
    assert_eq!(
        shown["detail"]["columns"]["title"]["source"], "S",
        "{shown}"
    );
    assert_eq!(
        shown["detail"]["columns"]["price"]["source"], "4.00",
        "{shown}"
    );
    rehearsal.modern("update books set price = 4 where legacy_id = 50");
    backfill(&rehearsal, 0, "price", &[]);
    assert_eq!(open(&rehearsal), title, "both sides came to the same price");
    let take = ["conflicts", "resolve", "--all", "--take", "source"];
    program(&rehearsal).expect(0, &take);
    assert_eq!(open(&rehearsal), Vec::<Vec<String>>::new());
    assert_eq!(books(&rehearsal), expected(&rehearsal));
}

/// Rows that the target has no more, and rows that the source has no more, are not its business.
#[test]
fn rows_that_are_gone_on_a_side_are_left_alone() {
    let library = library();
    let rehearsal = grown(&library);
    rehearsal.modern("delete from books where legacy_id = 60");
    rehearsal.legacy("delete from book where id = 61");
    let done = backfill(
        &rehearsal,
        0,
        "price",
        &["--conflict-resolution", "source_wins"],
    );
    assert!(done.says("of 197 rows in place"), "{done}");
    let prices = "select count(*) from books where legacy_id = 61 and price is null";
    assert_eq!(rehearsal.modern_number(prices), 1);
    assert_eq!(open(&rehearsal), Vec::<Vec<String>>::new());
}

/// References inside a cycle are filled in like others: all rows are in place.
#[test]
fn references_inside_a_cycle_are_filled_in() {
    let village = village::village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    migrate(&rehearsal);
    let houses = "select legacy_id, house_id, boss_id from people order by 1";
    let before = rehearsal.modern_rows(houses);
    rehearsal.modern("update people set house_id = null, boss_id = null where legacy_id < 30");
    let people = [
        "backfill",
        "--entity",
        "people",
        "--columns",
        "house_id,boss_id",
    ];
    let kept = program(&rehearsal).json(0, &people);
    assert_eq!(kept["account"]["updated"], 0, "{kept}");
    let wins = ["--conflict-resolution", "source_wins"];
    program(&rehearsal).expect(0, &[&people[..], &wins].concat());
    assert_eq!(rehearsal.modern_rows(houses), before);
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
