//! Rows of two tables that hold each other, and that the source has no more, go together.

use regraft_testkit::{Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

const SOURCE: &str = "
create table person (id integer primary key, name text, house integer);
create table house (id integer primary key, street text, owner integer);
create table pet (id integer primary key, person integer);
";

/// Person and house i belong to each other, but that 21 to 30 go in a ring of ten; pets are of 5 and 6.
const DATA: &str = "
insert into person select i, 'Person ' || i, i from generate_series(1, 300) i;
insert into house select i, 'Lane ' || i, case when i between 21 and 30 then 21 + (i - 20) % 10 else i end
from generate_series(1, 300) i;
insert into pet values (1, 5), (2, 6);
";

const TARGET: &str = "
create table people (id uuid primary key, name text, house_id uuid, legacy_id integer unique);
create table houses (id uuid primary key, street text, owner_id uuid references people, legacy_id integer unique);
alter table people add constraint lives_in foreign key (house_id) references houses (id);
create table pets (id uuid primary key, person_id uuid not null references people, legacy_id integer unique);
create index on people (house_id);
create index on houses (owner_id);
create index on pets (person_id);
";

const PEOPLE: &str = r#"
[source]
from = "person p"
key = "p.id"
[target]
table = "people"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "p.name"
house_id = { ref = "houses", from = "p.house" }
"#;

const HOUSES: &str = r#"
[source]
from = "house h"
key = "h.id"
[target]
table = "houses"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
street = "h.street"
owner_id = { ref = "people", from = "h.owner" }
"#;

const PETS: &str = r#"
[source]
from = "pet t"
key = "t.id"
[target]
table = "pets"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
person_id = { ref = "people", from = "t.person" }
"#;

fn village() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("village", "50%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/people.toml", PEOPLE),
        ("entities/houses.toml", HOUSES),
        ("entities/pets.toml", PETS),
    ])
}

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "37")
}

fn carry_over(rehearsal: &Rehearsal<'_>, code: i32) -> Value {
    let arguments = ["differential", "migrate", "--entities", "all"];
    program(rehearsal).json(code, &arguments)
}

fn ids(rehearsal: &Rehearsal<'_>, table: &str) -> Vec<Vec<String>> {
    let query = format!("select legacy_id from {table} where legacy_id < 32 order by 1");
    rehearsal.modern_rows(&query)
}

fn open(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    rehearsal.modern_rows(
        "select entity, legacy_id, comparison_type from regraft.data_differentials
         where legacy_id is not null and not resolved order by 1, legacy_id::integer",
    )
}

/// The ring goes as a whole, and 3 and 4 go; 5 stays with its house because of a pet, 7 because its
/// house was edited.
#[test]
fn rows_that_hold_each_other_go_together() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    carry_over(&rehearsal, 0);
    rehearsal.legacy(
        "delete from person where id in (3, 4, 5, 7) or id between 21 and 30;
             delete from house where id in (3, 4, 5, 7) or id between 21 and 30",
    );
    rehearsal.modern("update houses set street = 'Mine' where legacy_id = 7");
    let before = Dump::of_tables(&rehearsal.modern_url());
    let analysis = program(&rehearsal).json(0, &["differential", "analyze", "--entities", "all"]);
    let done = carry_over(&rehearsal, 1);
    for entity in done["receipt"]["entities"].as_array().expect("entities") {
        let name = entity["entity"].as_str().expect("a name");
        let foretold = analysis["entities"].as_array().expect("entities").iter();
        let foretold = foretold.filter(|e| e["entity"] == name);
        for foretold in foretold {
            let would = &foretold["policies"]["manual"]["deletes"]["mirror"]["deleted"];
            let deleted = &entity["account"]["detail"]["deleted"];
            assert_eq!(
                would.as_i64().unwrap_or(0),
                deleted.as_i64().unwrap_or(0),
                "{name}"
            );
        }
    }
    let left: Vec<String> = (1..32)
        .filter(|id| ![3, 4].contains(id) && !(21..=30).contains(id))
        .map(|id| id.to_string())
        .collect();
    assert_eq!(ids(&rehearsal, "people").concat(), left);
    assert_eq!(ids(&rehearsal, "houses").concat(), left);
    assert_eq!(
        open(&rehearsal),
        [
            ["houses", "5", "deleted_in_source"],
            ["houses", "7", "deleted_in_source"],
            ["people", "5", "deleted_in_source"],
            ["people", "7", "deleted_in_source"],
            ["pets", "1", "refused"],
        ]
    );
    // Who only looks can't tell that any of these is settled.
    let noted = open(&rehearsal);
    let look = [
        "differential",
        "analyze",
        "--entities",
        "all",
        "--detect-conflicts",
    ];
    program(&rehearsal).expect(0, &look);
    assert_eq!(open(&rehearsal), noted);
    let run = done["receipt"]["run_id"].as_str().expect("a run");
    program(&rehearsal).expect(0, &["rollback", "--run", run, "--yes"]);
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, "undone");
    carry_over(&rehearsal, 1);
    rehearsal.legacy("delete from pet where id = 1");
    rehearsal.modern("update houses set street = 'Lane 7' where legacy_id = 7");
    carry_over(&rehearsal, 0);
    assert_eq!(ids(&rehearsal, "people").len(), left.len() - 2);
    assert_eq!(ids(&rehearsal, "houses").len(), left.len() - 2);
    program(&rehearsal).expect(0, &["validate"]);
}

/// Where neither side could come back first, they stay.
#[test]
fn rows_that_could_not_come_back_stay() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.modern(
        "alter table people add home uuid references houses;
         alter table houses add keeper uuid references people;
         update people set home = house_id; update houses set keeper = owner_id;
         alter table people alter home set not null, alter home set default gen_random_uuid();
         alter table houses alter keeper set not null, alter keeper set default gen_random_uuid()",
    );
    rehearsal.legacy("delete from person where id = 3; delete from house where id = 3");
    let before = Dump::of_tables(&rehearsal.modern_url());
    let analysis = program(&rehearsal).json(0, &["differential", "analyze", "--entities", "all"]);
    let entities = analysis["entities"].as_array().expect("entities");
    for entity in entities.iter().filter(|e| e["entity"] != "pets") {
        let would = &entity["policies"]["manual"]["deletes"]["mirror"];
        assert_eq!(would["referred"], 1, "{entity}");
    }
    carry_over(&rehearsal, 1);
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, "they stay");
    assert_eq!(
        open(&rehearsal),
        [
            ["houses", "3", "deleted_in_source"],
            ["people", "3", "deleted_in_source"]
        ]
    );
}

/// Killed at some commit, the same command ends where an undisturbed one does.
#[test]
fn killed_while_they_go() {
    let village = village();
    let arguments = ["differential", "migrate", "--entities", "all"];
    let mut cut_off = 0;
    for n in [6, 8, 10, 11, 12, 13, 14, 15] {
        let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
        program(&rehearsal).expect(0, &["migrate"]);
        carry_over(&rehearsal, 0);
        let gone = "delete from person where id between 21 and 30; delete from house where id between 21 and 30";
        rehearsal.legacy(gone);
        let failpoint = format!("before-commit={n}*off->return(abort)");
        let cut = program(&rehearsal)
            .with("FAILPOINTS", &failpoint)
            .run(&arguments);
        cut_off += usize::from(cut.signal.is_some());
        program(&rehearsal).expect(0, &arguments);
        assert_eq!(ids(&rehearsal, "people").len(), 21, "{failpoint}");
        assert_eq!(ids(&rehearsal, "houses").len(), 21, "{failpoint}");
        program(&rehearsal).expect(0, &["validate"]);
    }
    assert!(cut_off > 2, "{cut_off} were cut off");
}
