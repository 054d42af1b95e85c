//! What changes in the source reaches the target, exactly, and what people have done in the target
//! stays unless a policy says otherwise.

use regraft_engine::ValidationOptions;
use regraft_testkit::{Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

const SOURCE: &str = "
create table author (id integer primary key, name text not null);
create table book (id integer primary key, title text, author integer, sequel integer, editor integer,
  price numeric, code text, notes text, printed timestamptz, withdrawn boolean not null default false);
";

/// Authors 1 to 20, books 1 to 1,000; every fifth book continues another, and editor 99 is nobody.
const DATA: &str = r#"
insert into author select i, 'Author ' || i from generate_series(1, 20) i;
insert into book
select i, 'Book ' || i, 1 + i % 20, case when i % 5 = 0 then i - 3 end, case when i % 10 = 0 then 99 end,
       i * 1.5, case when i % 3 = 0 then 'ab ' end, case when i % 4 = 0 then '{"b":1.0,"a":[' || i || ']}' end,
       timestamptz '2020-01-01 00:00:00.123456+00' + i * interval '1 day', i % 50 = 0
from generate_series(1, 1000) i;
"#;

const TARGET: &str = "
create table authors (id uuid primary key, name text not null, legacy_id integer unique);
create table books (id uuid primary key, title text not null, author_id uuid not null references authors,
  sequel_to uuid references books, editor_id uuid references authors, price numeric(8, 2), code character(6),
  notes jsonb, printed timestamptz, legacy_id integer unique, shelf text);
create index on books (author_id);
create index on books (sequel_to);
create index on books (editor_id);
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
from = "book b join author a on a.id = b.author"
key = "b.id"
[[source.filter]]
name = "withdrawn"
keep = "not b.withdrawn"
[target]
table = "books"
key = { column = "id", strategy = "uuid_v7", time = "b.printed" }
legacy = "legacy_id"
[columns]
title = "b.title"
author_id = { ref = "authors", from = "b.author" }
sequel_to = { ref = "books", from = "b.sequel", missing = "null" }
editor_id = { ref = "authors", from = "b.editor", missing = "null" }
price = "b.price"
code = "b.code"
notes = { parse = "b.notes" }
printed = "b.printed"
"#;

fn library() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("library", "0%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/authors.toml", AUTHORS),
        ("entities/books.toml", BOOKS),
    ])
}

struct Library<'a> {
    rehearsal: Rehearsal<'a>,
}

impl Library<'_> {
    /// Everything is migrated, and compared once.
    fn migrated(folder: &ProjectFolder) -> Self {
        let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
        let library = Library { rehearsal };
        library.program().expect(0, &["migrate"]);
        library
    }

    fn program(&self) -> Program {
        Program::on(REGRAFT, &self.rehearsal).with("BATCH_SIZE", "97")
    }

    fn analyze(&self, code: i32) -> Value {
        let arguments = [
            "differential",
            "analyze",
            "--entities",
            "all",
            "--detect-conflicts",
        ];
        self.program().json(code, &arguments)
    }

    fn carry_over(&self, code: i32, more: &[&str]) -> Value {
        let arguments = ["differential", "migrate", "--entities", "all"];
        self.program().json(code, &[&arguments[..], more].concat())
    }

    /// What the target holds, by legacy ids.
    fn books(&self) -> Vec<Vec<String>> {
        self.rehearsal.modern_rows(
            "select b.legacy_id::text, b.title, a.legacy_id::text, coalesce(s.legacy_id::text, '-'),
                    coalesce(e.legacy_id::text, '-'), coalesce(b.price::text, '-'), coalesce(b.code, '-'),
                    coalesce(b.notes::text, '-'), b.printed::text
             from books b join authors a on a.id = b.author_id left join books s on s.id = b.sequel_to
             left join authors e on e.id = b.editor_id order by b.legacy_id",
        )
    }

    /// The same of the source, in plain SQL.
    fn expected(&self) -> Vec<Vec<String>> {
        self.rehearsal.legacy_rows(
            "select b.id::text, b.title, b.author::text,
                    coalesce((select s.id::text from book s where s.id = b.sequel and not s.withdrawn), '-'),
                    coalesce((select e.id::text from author e where e.id = b.editor), '-'),
                    coalesce(b.price::numeric(8, 2)::text, '-'), coalesce(b.code::character(6), '-'),
                    coalesce(b.notes::jsonb::text, '-'), b.printed::text
             from book b where not b.withdrawn order by b.id",
        )
    }

    #[track_caller]
    fn is_in_step(&self) {
        assert_eq!(self.books(), self.expected());
        let validation = self.rehearsal.validate(&[], &ValidationOptions::default());
        let findings: Vec<String> = validation
            .entities
            .iter()
            .flat_map(|e| e.checks.iter().map(move |c| (e, c)))
            .flat_map(|(e, c)| {
                c.findings
                    .iter()
                    .map(move |f| format!("{}, {}: {f:?}", e.entity, c.name))
            })
            .collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}

fn entity<'a>(document: &'a Value, name: &str) -> &'a Value {
    let entities = document["entities"].as_array().expect("entities");
    let found = entities.iter().find(|e| e["entity"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {document}"))
}

fn rows(document: &Value, name: &str, what: &str) -> i64 {
    entity(document, name)[what]["rows"].as_i64().expect(what)
}

#[test]
fn nothing_changed_is_nothing_to_do() {
    let folder = library();
    let library = Library::migrated(&folder);
    let before = Dump::of(&library.rehearsal.modern_url());
    for round in 0..3 {
        let done = library.carry_over(0, &[]);
        assert_eq!(done["nothing_to_do"], true, "{done}");
        let books = entity(&done, "books");
        assert_eq!(books["unchanged"], 980, "{books}");
        // The first looks at all rows; later ones only at their sums.
        let read = books["rows_read"].as_i64().expect("a number");
        assert_eq!(read, if round == 0 { 980 } else { 0 });
    }
    let after = Dump::of(&library.rehearsal.modern_url());
    let difference = before.without_runs().difference(&after.without_runs());
    assert!(
        difference.is_empty() || !difference.contains("books"),
        "{difference}"
    );
    library.is_in_step();
}

#[test]
fn changes_of_the_source_arrive() {
    let folder = library();
    let library = Library::migrated(&folder);
    library.carry_over(0, &[]);
    library.rehearsal.legacy(
        "insert into author values (21, 'Author 21'), (99, 'The editor');
         insert into book select i, 'New ' || i, 21, i - 1, null, 7.25, null, null, now() from generate_series(1001, 1003) i;
         update book set title = title || '!' where id % 100 = 7;
         update book set price = price + 0.01, author = 3 where id = 8;
         update book set notes = '{\"a\" : 2}', code = 'xyz' where id = 12;
         update book set sequel = 11 where id = 20;
         update book set withdrawn = true where id = 31;
         update book set withdrawn = false where id = 50;
         delete from book where id in (41, 42, 1000);
         update author set name = 'Renamed' where id = 5;",
    );
    let analysis = library.analyze(0);
    assert_eq!(rows(&analysis, "authors", "new"), 2);
    assert_eq!(rows(&analysis, "authors", "changed"), 1);
    assert_eq!(
        rows(&analysis, "books", "new"),
        4,
        "three and the one that came back"
    );
    assert_eq!(
        rows(&analysis, "books", "deleted"),
        3,
        "1000 had been withdrawn"
    );
    assert_eq!(rows(&analysis, "books", "conflicts"), 0);
    assert_eq!(entity(&analysis, "books")["changed_columns"]["title"], 10);
    let dry = library.carry_over(0, &["--dry-run"]);
    assert_eq!(dry["receipt"]["total"]["inserted"], 6);
    let before = library.books();
    assert_ne!(before, library.expected(), "a dry run writes nothing");
    let done = library.carry_over(0, &[]);
    assert_eq!(done["receipt"]["total"], {
        let mut total = dry["receipt"]["total"].clone();
        total["detail"] = done["receipt"]["total"]["detail"].clone();
        total
    });
    library.is_in_step();
    let again = library.carry_over(0, &[]);
    assert_eq!(again["nothing_to_do"], true, "{again}");
}

#[test]
fn what_people_do_in_the_target_stays_until_the_source_wins() {
    let folder = library();
    let library = Library::migrated(&folder);
    library.carry_over(0, &[]);
    library.rehearsal.legacy(
        "update book set title = 'Source', price = 1 where id in (1, 2, 3);
         update book set title = 'Same' where id = 4;
         delete from book where id = 6",
    );
    library.rehearsal.modern(
        "update books set title = 'Target' where legacy_id in (1, 5);
         update books set notes = '{\"edited\": true}', shelf = 'B' where legacy_id = 2;
         update books set title = 'Same' where legacy_id = 4;
         update books set title = 'Kept' where legacy_id = 6;
         update books set price = price where legacy_id = 7",
    );
    let analysis = library.analyze(1);
    assert_eq!(rows(&analysis, "books", "changed"), 3);
    assert_eq!(rows(&analysis, "books", "conflicts"), 1);
    assert_eq!(entity(&analysis, "books")["conflict_columns"]["title"], 1);
    assert_eq!(
        rows(&analysis, "books", "changed_in_target"),
        3,
        "1, 2 and 5"
    );
    let forecast = &entity(&analysis, "books")["policies"];
    assert_eq!(forecast["source_wins"]["writes"], 4);
    assert_eq!(forecast["source_wins"]["loses_target_edits"], 3);
    assert_eq!(forecast["manual"]["leaves_open"], 1);

    let manual = library.carry_over(1, &[]);
    assert_eq!(
        manual["open"], 2,
        "a conflict and a deleted row that was edited: {manual}"
    );
    let book = |id: i32| {
        let query = format!(
            "select title, price::text, coalesce(notes::text, '-') from books where legacy_id = {id}"
        );
        library.rehearsal.modern_rows(&query).concat()
    };
    assert_eq!(
        book(1),
        ["Target", "1.00", "-"],
        "columns that only the source changed merge"
    );
    assert_eq!(book(2), ["Source", "1.00", "{\"edited\": true}"]);
    assert_eq!(book(5)[0], "Target");
    assert_eq!(book(6)[0], "Kept");
    let listed = library.program().expect(1, &["conflicts", "list"]);
    assert!(
        listed.says("deleted_in_source") && !listed.says("Target"),
        "{listed}"
    );

    let target_wins = library.carry_over(0, &["--conflict-resolution", "target_wins"]);
    assert_eq!(target_wins["open"], 0, "{target_wins}");
    assert_eq!(book(1)[0], "Target");

    library.carry_over(0, &["--conflict-resolution", "source_wins"]);
    library.is_in_step();
    let images = library.rehearsal.modern_number(
        "select count(*) from regraft.migration_changes where entity = 'books' and before ->> 'title' = 'Target'",
    );
    assert_eq!(images, 2, "what was overwritten is kept");
}

#[test]
fn rows_deleted_from_the_target_come_back_only_when_the_source_wins() {
    let folder = library();
    let library = Library::migrated(&folder);
    library.carry_over(0, &[]);
    library
        .rehearsal
        .modern("delete from books where legacy_id = 9");
    let analysis = library.analyze(0);
    assert_eq!(rows(&analysis, "books", "deleted_in_target"), 1);
    library.carry_over(0, &[]);
    assert_eq!(library.books().len(), 979);
    library.carry_over(0, &["--conflict-resolution", "source_wins"]);
    library.is_in_step();
}

#[test]
fn conflicts_are_decided_on_unless_a_side_has_moved() {
    let folder = library();
    let library = Library::migrated(&folder);
    library.carry_over(0, &[]);
    library
        .rehearsal
        .legacy("update book set title = 'S', price = 3 where id in (1, 2, 3, 4)");
    library
        .rehearsal
        .modern("update books set title = 'T', price = 4 where legacy_id in (1, 2, 3, 4)");
    library.carry_over(1, &[]);
    let listed = library.program().json(1, &["conflicts", "list"]);
    let id = |legacy: &str| {
        let rows = listed["rows"].as_array().expect("rows");
        let row = rows
            .iter()
            .find(|row| row["legacy_id"] == legacy)
            .expect("the row");
        row["id"].as_str().expect("an id").to_owned()
    };
    let (one, two, three) = (id("1"), id("2"), id("3"));
    let shown = library
        .program()
        .expect(1, &["conflicts", "show", "--id", &one]);
    assert!(shown.says("title") && shown.says("price"), "{shown}");
    let values = folder.path().join("values.json");
    std::fs::write(&values, r#"{"title": "Both", "price": null}"#).expect("it can be written");
    let path = values.to_str().expect("a path");
    let resolve = |id: &str, take: &str, code: i32| {
        library
            .program()
            .json(code, &["conflicts", "resolve", "--id", id, "--take", take])
    };
    let source = resolve(&one, "source", 0);
    assert_eq!(
        (&source["resolved"], &source["written"]),
        (&1.into(), &1.into())
    );
    let target = resolve(&two, "target", 0);
    assert_eq!(
        (&target["resolved"], &target["written"]),
        (&1.into(), &0.into())
    );
    assert_eq!(resolve(&three, path, 0)["written"], 1);
    library
        .program()
        .expect(2, &["conflicts", "resolve", "--all", "--take", path]);
    assert_eq!(resolve(&id("4"), "merge", 1)["resolved"], 0);
    library
        .rehearsal
        .modern("update books set title = 'Moved' where legacy_id = 4");
    let moved = resolve(&id("4"), "source", 1);
    assert_eq!(moved["resolved"], 0, "{moved}");
    let titles = library.rehearsal.modern_rows(
        "select title, coalesce(price::text, '-') from books where legacy_id <= 4 order by legacy_id",
    );
    assert_eq!(
        titles,
        [
            ["S", "3.00"],
            ["T", "4.00"],
            ["Both", "-"],
            ["Moved", "4.00"]
        ]
    );
    library.carry_over(1, &[]);
    let open = library.program().json(1, &["conflicts", "list"]);
    assert_eq!(open["rows"].as_array().map(Vec::len), Some(1), "{open}");
    let undone = source["run_id"].as_str().expect("a run");
    library
        .rehearsal
        .modern("update books set title = 'T' where legacy_id = 4");
    for run in [moved["run_id"].as_str(), Some(undone)]
        .into_iter()
        .flatten()
    {
        library
            .program()
            .expect(0, &["rollback", "--run", run, "--yes"]);
    }
    let book = library
        .rehearsal
        .modern_rows("select title, price::text from books where legacy_id = 1");
    assert_eq!(book, [["T", "4.00"]]);
}
