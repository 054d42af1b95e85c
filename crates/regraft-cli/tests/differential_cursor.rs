//! How the source is looked at: what is committed late is found with a cursor and without, a cursor
//! saves work and nothing else, and whoever asks can have all rows read, or slowly.

mod town;

use std::fs;

use regraft_pg::{Session, SessionOptions, Side};
use regraft_testkit::{Dump, ProjectFolder, Rehearsal, block_on, endpoint_of};
use serde_json::Value;
use town::{Cursor, DATA, carry_over, in_step, program, town, validates};

/// Runs after which a cursor is gone by.
const LOOKS: usize = 2;

/// A transaction in the source that is not committed yet.
struct Late(Session);

impl Late {
    async fn begin(url: &str) -> Self {
        let endpoint = endpoint_of(url, Side::Target);
        let session = Session::connect(&endpoint, &SessionOptions::writing("late")).await;
        let session = session.unwrap_or_else(|e| panic!("no session: {}", e.message()));
        let late = Self(session);
        late.write("begin").await;
        late
    }

    async fn write(&self, sql: &str) {
        let done = self.0.batch_execute(sql).await;
        done.unwrap_or_else(|e| panic!("{}: {sql}", self.0.error(e).message()));
    }

    async fn commit(self) {
        self.write("commit").await;
        self.0.close().await;
    }
}

/// What the transaction of this number writes: a change, new rows, a row deleted, and one deleted
/// while another comes in the same range of ids, so that the range has as many rows as before.
fn statements(number: usize) -> String {
    let (gone, free) = [(520, 549), (650, 699), (780, 799), (790, 849)][number];
    format!(
        "update house set label = 'late {number}' where id = {};
         insert into district values ({district}, 'Late', null);
         insert into house (id, district, built) values ({}, {district}, timestamptz '2022-02-02Z');
         delete from room where id = {};
         delete from room where id = {gone};
         insert into room values ({free}, 77, 'In its place', 1, null)",
        77 + number,
        700 + number,
        400 + number,
        district = 30 + number,
    )
}

/// What a run has written: rows updated, inserted and deleted.
fn written(run: &Value) -> (i64, i64, i64) {
    let total = &run["receipt"]["total"];
    let count = |of: &Value| of.as_i64().expect("a count");
    (
        count(&total["updated"]),
        count(&total["inserted"]),
        // What is nothing is left out of the detail.
        total["detail"]["deleted"].as_i64().unwrap_or(0),
    )
}

/// Rows whose values a run has read, of all entities.
fn rows_read(document: &Value) -> i64 {
    let entities = document["entities"].as_array().expect("entities");
    let read = entities.iter().map(|entity| entity["rows_read"].as_i64());
    read.map(|rows| rows.expect("a count")).sum()
}

fn run(rehearsal: &Rehearsal<'_>) -> Value {
    program(rehearsal).json(0, &carry_over(&[]))
}

/// In step, with as many looks as a cursor takes, each at rows that came after the others.
fn looked_at(folder: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = in_step(folder);
    for look in 0..LOOKS {
        rehearsal.legacy(&format!(
            "update district set name = 'Look {look}' where id = 20;
             update house set label = 'Look {look}' where id = 599;
             update room set name = 'Look {look}' where id = 898"
        ));
        assert_eq!(written(&run(&rehearsal)), (3, 0, 0));
    }
    rehearsal
}

/// Transactions begin before a run and are committed after it, one of them after five: each is found
/// by the next run, and by none before.
#[track_caller]
fn late_commits_are_found(cursor: Option<Cursor>) {
    const EARLY: (i64, i64, i64) = (2, 1, 0);
    const LATE: (i64, i64, i64) = (1, 3, 2);
    let folder = town(DATA, &[], cursor);
    let rehearsal = looked_at(&folder);
    let url = rehearsal.legacy_url();
    let look = || run(&rehearsal);
    block_on(async {
        let long = Late::begin(&url).await;
        for round in 0..3 {
            let late = Late::begin(&url).await;
            late.write(&statements(round)).await;
            rehearsal.legacy(&format!(
                "update house set label = 'early {round}' where id in (176, 178);
                 insert into room values ({}, 78, 'Early', 1, null)",
                2_000 + round
            ));
            let meanwhile = look();
            assert_eq!(
                written(&meanwhile),
                EARLY,
                "{cursor:?}, round {round}: {meanwhile}"
            );
            late.commit().await;
            if round == 1 {
                long.write(&statements(3)).await;
            }
            let found = look();
            assert_eq!(written(&found), LATE, "{cursor:?}, round {round}: {found}");
            let label = format!("select label from houses where legacy_id = {}", 77 + round);
            assert_eq!(rehearsal.modern_rows(&label)[0][0], format!("late {round}"));
        }
        long.commit().await;
        let found = look();
        assert_eq!(written(&found), LATE, "{cursor:?}, the long one: {found}");
    });
    validates(&rehearsal, "after late commits");
    assert_eq!(look()["nothing_to_do"], true, "{cursor:?}");
}

#[test]
fn late_commits_are_found_without_a_cursor() {
    late_commits_are_found(None);
}

#[test]
fn late_commits_are_found_behind_a_time() {
    late_commits_are_found(Some(Cursor::UpdatedAt));
}

#[test]
fn late_commits_are_found_behind_a_number() {
    late_commits_are_found(Some(Cursor::Version));
}

/// Changes a row that its cursor doesn't tell of.
fn change_unnoticed(rehearsal: &Rehearsal<'_>, label: &str) {
    rehearsal.legacy(&format!(
        "alter table house disable trigger stamp;
         update house set label = '{label}' where id = 301;
         alter table house enable trigger stamp"
    ));
}

/// A cursor that doesn't do what it promises shows what is gone by: rows that it doesn't point out are
/// not looked at, until a day has passed, something is open, or somebody asks for all of them.
#[test]
fn a_cursor_saves_looking_at_rows() {
    let folder = town(DATA, &[], Some(Cursor::UpdatedAt));
    let rehearsal = looked_at(&folder);
    assert_eq!(rows_read(&run(&rehearsal)), 0);
    change_unnoticed(&rehearsal, "unnoticed");
    let idle = run(&rehearsal);
    assert_eq!(
        (rows_read(&idle), &idle["nothing_to_do"]),
        (0, &true.into()),
        "{idle}"
    );
    // A row that is pointed out is read with its range of ids, and no other.
    rehearsal.legacy("update house set label = 'noticed' where id = 501");
    let noticed = run(&rehearsal);
    assert_eq!(written(&noticed), (1, 0, 0), "{noticed}");
    assert!((1..=128).contains(&rows_read(&noticed)), "{noticed}");

    let all = ["differential", "analyze", "--entities", "all"];
    let analyzed = |more: &[&str]| {
        let document = program(&rehearsal).json(0, &[&all[..], more].concat());
        let houses = &document["entities"][1];
        assert_eq!(houses["entity"], "houses");
        (
            houses["changed"]["rows"].as_i64().expect("a count"),
            rows_read(&document),
        )
    };
    assert_eq!(analyzed(&[]), (0, 0));
    let (changed, read) = analyzed(&["--full"]);
    let kept = rehearsal.legacy_rows(
        "select (select count(*) from district) + (select count(*) from house where not hidden)
              + (select count(*) from room)",
    );
    assert_eq!((changed, read.to_string()), (1, kept[0][0].clone()));
    let full = program(&rehearsal).json(0, &carry_over(&["--full"]));
    assert_eq!(written(&full), (1, 0, 0), "{full}");

    change_unnoticed(&rehearsal, "unnoticed for a day");
    rehearsal
        .modern("update regraft.migration_cursors set looked_at = looked_at - interval '25 hours'");
    assert_eq!(
        written(&run(&rehearsal)),
        (1, 0, 0),
        "all rows are looked at once a day"
    );
    validates(&rehearsal, "in the end");
}

/// Entities without a cursor are looked at in full; a value that no cursor can be compared with is
/// refused before anything is looked at.
#[test]
fn since_is_for_entities_with_a_cursor() {
    let folder = town(DATA, &[], Some(Cursor::UpdatedAt));
    let rooms = folder.path().join("entities/rooms.toml");
    let with = fs::read_to_string(&rooms).expect("the entity's file");
    let without = with.replace("cursor = \"r.updated_at\"\n", "");
    assert_ne!(with, without);
    folder.write("entities/rooms.toml", &without);
    let rehearsal = looked_at(&folder);
    rehearsal.legacy(
        "update house set label = 'changed' where id in (1, 401);
         update room set name = 'changed' where id in (1, 401)",
    );
    let changed = |since: &str| {
        let arguments = [
            "differential",
            "analyze",
            "--entities",
            "all",
            "--since",
            since,
        ];
        let finished =
            program(&rehearsal).expect(0, &[&["--format", "json"], &arguments[..]].concat());
        assert!(
            finished.says("rooms has no cursor to tell since when"),
            "{finished}"
        );
        assert!(!finished.says("houses has no cursor"), "{finished}");
        let document: Value = serde_json::from_str(&finished.stdout).expect("a document");
        let rows = |at: usize| {
            document["entities"][at]["changed"]["rows"]
                .as_i64()
                .expect("a count")
        };
        (rows(1), rows(2))
    };
    assert_eq!(changed("2001-01-01"), (2, 2));
    assert_eq!(changed("2999-01-01 00:00+00"), (0, 2));

    // Districts are looked at first, and have no cursor that it could be compared with.
    let districts = fs::read_to_string(folder.path().join("entities/districts.toml"))
        .expect("the entity's file");
    folder.write(
        "entities/districts.toml",
        &districts.replace("cursor = \"d.updated_at\"\n", ""),
    );
    let records = "select count(*) from regraft.data_differentials";
    let before = rehearsal.modern_number(records);
    let refused = program(&rehearsal).expect(
        2,
        &[
            "differential",
            "analyze",
            "--entities",
            "all",
            "--since",
            "yesterday evening",
        ],
    );
    assert!(
        refused.says("can't be compared with the cursor of `houses`"),
        "{refused}"
    );
    assert!(
        refused.says("2026-03-01"),
        "what can be said instead: {refused}"
    );
    assert_eq!(
        rehearsal.modern_number(records),
        before,
        "it was refused before anything else"
    );
    program(&rehearsal).expect(
        2,
        &[
            "differential",
            "analyze",
            "--entities",
            "all",
            "--since",
            "2001-01-01",
            "--full",
        ],
    );
}

/// Held back by the source's load or not, the same is done.
#[test]
fn a_source_that_is_spared_is_carried_over_all_the_same() {
    let folder = town(DATA, &[], Some(Cursor::UpdatedAt));
    let spared = looked_at(&folder);
    let plain = spared.copied();
    spared.legacy(
        "update house set label = 'changed' where id % 9 = 0;
         delete from room where id % 11 = 0;
         insert into room select i, 7, 'New', 1, null from generate_series(3001, 3400) i",
    );
    let slowly = ["--max-source-load", "1.5"];
    let analysis = |rehearsal: &Rehearsal<'_>, more: &[&str]| {
        let all = [
            "differential",
            "analyze",
            "--entities",
            "all",
            "--detect-conflicts",
        ];
        program(rehearsal).json(0, &[&all[..], more].concat())["entities"].clone()
    };
    assert_eq!(analysis(&spared, &slowly), analysis(&plain, &[]));
    let (one, other) = (program(&spared).json(0, &carry_over(&slowly)), run(&plain));
    assert_eq!(one["entities"], other["entities"]);
    assert_eq!(written(&one), written(&other));
    let tables = |rehearsal: &Rehearsal<'_>| Dump::of_tables(&rehearsal.modern_url());
    tables(&spared).assert_same(&tables(&plain), "with --max-source-load");
    validates(&spared, "with --max-source-load");
    for load in ["1", "0", "-2", "1001", "much"] {
        let option = format!("--max-source-load={load}");
        let refused = program(&spared).expect(2, &carry_over(&[&option]));
        assert!(refused.says("--max-source-load"), "{refused}");
    }
}
