//! What an analysis says that each policy would do about rows that the source has no more is what a
//! migration then does, in each mode.

mod town;

use regraft_testkit::{Legacy, Program, Rehearsal, Servers};
use serde_json::Value;
use town::town;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

/// Rows go on all three levels. Of what refers to them, some goes too, some moves elsewhere, some is
/// edited, some stays, some is new, and some is nobody's business.
const GONE: &str = "
delete from room where house in (3, 4, 5) or id in (700, 701, 702);
delete from house where id in (3, 4, 5, 6, 7, 8, 9, 13, 110, 112);
update room set house = 11 where house = 8;
insert into room values (2001, 9, 'New', 1, null);
update house set hidden = true where id in (21, 22);
update house set district = 2 where district = 20 and id % 2 = 0;
delete from district where id in (18, 19, 20);
delete from room where house in (select id from house where district = 19);
delete from house where district = 19;
";

/// Rooms 5 and 702 and houses 4, 7 and 110 are edited; room 900 was put into house 13, which only the
/// source's winning undoes; a table of the application's own refers to house 5, and house 112 is gone.
const EDITED: &str = "
create table leases (id integer primary key, house_id uuid references houses);
insert into leases select 1, id from houses where legacy_id = 5;
update rooms set name = 'Mine' where legacy_id in (4, 702);
update houses set label = 'Mine' where legacy_id in (4, 7, 110);
delete from rooms where house_id = (select id from houses where legacy_id = 13);
update rooms set house_id = (select id from houses where legacy_id = 13) where legacy_id = 899;
update houses set gone = now() where legacy_id = 6;
update houses set twin_id = null where twin_id = (select id from houses where legacy_id = 112);
delete from rooms where house_id = (select id from houses where legacy_id = 112);
delete from houses where legacy_id = 112;
";

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "97")
}

/// What a migration has done: by entity the rows deleted or marked, those left because they were
/// edited, and those left because others refer to them.
fn done(rehearsal: &Rehearsal<'_>, outcome: &Value) -> Vec<(String, i64, i64, i64)> {
    let noted = |entity: &str, why: &str| {
        rehearsal.modern_number(&format!(
            "select count(*) from regraft.data_differentials
             where entity = '{entity}' and comparison_type = 'deleted_in_source' and not resolved
               and legacy_id is not null and detail ? '{why}'"
        ))
    };
    let entities = outcome["receipt"]["entities"].as_array().expect("entities");
    let mut all: Vec<_> = entities
        .iter()
        .map(|entity| {
            let name = entity["entity"].as_str().expect("a name");
            let deleted = entity["account"]["detail"]["deleted"].as_i64().unwrap_or(0);
            let (edited, held) = (noted(name, "edited"), noted(name, "still_referenced_by"));
            (name.to_owned(), deleted, edited, held)
        })
        .collect();
    all.sort();
    all
}

fn foretold(analysis: &Value, policy: &str, mode: &str) -> Vec<(String, i64, i64, i64)> {
    let entities = analysis["entities"].as_array().expect("entities");
    let mut all: Vec<_> = entities
        .iter()
        .map(|entity| {
            let would = &entity["policies"][policy]["deletes"][mode];
            let count = |what: &str| would[what].as_i64().expect("a number");
            let sum = ["deleted", "marked", "edited", "referred", "untouched"].map(count);
            assert_eq!(
                Some(sum.iter().sum()),
                entity["deleted"]["rows"].as_i64(),
                "each row is counted once: {would}"
            );
            let name = entity["entity"].as_str().expect("a name").to_owned();
            (
                name,
                count("deleted") + count("marked"),
                count("edited"),
                count("referred"),
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_foretold_is_what_is_done() {
    let town = town(town::DATA, &[], None);
    let rehearsal = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    program(&rehearsal).expect(0, &["differential", "migrate", "--entities", "all"]);
    rehearsal.legacy(GONE);
    rehearsal.modern(EDITED);
    let analyze = ["differential", "analyze", "--entities", "all"];
    let analysis = program(&rehearsal).json(0, &analyze);
    let human = program(&rehearsal).expect(0, &analyze);
    assert!(human.says("left: referred to"), "{human}");
    let mut different = Vec::new();
    for policy in ["source_wins", "target_wins", "newest", "manual"] {
        for mode in ["mirror", "soft", "ignore"] {
            let other = rehearsal.copied();
            let arguments = [
                "differential",
                "migrate",
                "--entities",
                "all",
                "--conflict-resolution",
                policy,
                "--deletes",
                mode,
                "--format",
                "json",
            ];
            let outcome = program(&other).run(&arguments);
            assert!(matches!(outcome.code, Some(0 | 1)), "{outcome}");
            let outcome: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
            let foretold = foretold(&analysis, policy, mode);
            assert_eq!(foretold, done(&other, &outcome), "{policy}, {mode}");
            different.push(foretold);
        }
    }
    different.sort();
    different.dedup();
    assert!(different.len() > 5, "the cases differ: {different:#?}");
}
