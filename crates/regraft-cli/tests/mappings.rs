//! `mappings rebuild`: what the ledger lost or has wrong is brought back, when the target proves it.

mod village;

use regraft_testkit::{Dump, Legacy, Program, Rehearsal, Servers};
use serde_json::Value;
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};
const MAPPINGS: &str =
    "select entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch
                        from regraft.migration_mappings order by entity, legacy_id";

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "50")
}

#[track_caller]
fn rebuild(rehearsal: &Rehearsal<'_>, code: i32, arguments: &[&str]) -> Value {
    program(rehearsal).json(code, &[&["mappings", "rebuild"], arguments].concat())
}

#[track_caller]
fn assert_whole(rehearsal: &Rehearsal<'_>) {
    program(rehearsal).expect(0, &["validate", "--final"]);
    let again = rebuild(rehearsal, 0, &["--yes"]);
    assert_eq!(again["nothing_to_do"], true, "{again}");
    assert_eq!(again["run_id"], Value::Null, "{again}");
}

fn entity<'a>(rebuilt: &'a Value, name: &str) -> &'a Value {
    let entities = rebuilt["entities"].as_array().expect("entities");
    let found = entities.iter().find(|entity| entity["entity"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {rebuilt}"))
}

#[test]
fn lost_mappings_come_back_to_the_last_byte() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let nothing = rebuild(&rehearsal, 0, &[]);
    assert_eq!(nothing["nothing_to_do"], true, "{nothing}");
    let tables = Dump::of_tables(&rehearsal.modern_url());
    let before = rehearsal.modern_rows(MAPPINGS);
    rehearsal.modern(
        "truncate regraft.migration_mappings_people, regraft.migration_mappings_houses;
         drop table regraft.migration_mappings_pets",
    );
    // Nothing is written without an answer, nor by a dry run.
    let refused = program(&rehearsal).expect(2, &["mappings", "rebuild"]);
    assert!(refused.says("--yes"), "{refused}");
    let preview = rebuild(&rehearsal, 0, &["--dry-run"]);
    assert_eq!(preview["run_id"], Value::Null);
    assert_eq!(rehearsal.modern_rows(MAPPINGS).len(), 0);
    let rebuilt = rebuild(&rehearsal, 0, &["--yes"]);
    assert_eq!(rebuilt["proven"], true, "{rebuilt}");
    let missing: u64 = ["people", "houses", "pets"]
        .iter()
        .map(|name| entity(&rebuilt, name)["missing"].as_u64().unwrap())
        .sum();
    assert_eq!(missing, before.len() as u64);
    // One run wrote them all, so that there is no doubt about their batches either.
    assert_eq!(rehearsal.modern_rows(MAPPINGS), before);
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&tables, "rows of the target");
    let account = "select count(*) from regraft.migration_control
                   where command = 'mappings' and entity <> '' and batch = 0 and status = 'done'
                     and source_rows = unchanged and source_rows > 0";
    assert_eq!(rehearsal.modern_number(account), 3);
    assert_whole(&rehearsal);
    let second = program(&rehearsal).expect(0, &["migrate"]);
    assert!(second.says("Nothing to do"), "{second}");
    program(&rehearsal).expect(0, &["rollback", "--yes"]);
    assert_eq!(rehearsal.modern_number("select count(*) from people"), 0);
}

#[test]
fn wrong_mappings_are_replaced_and_right_ones_left_alone() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let before = rehearsal.modern_rows(MAPPINGS);
    // Two of them lead to each other's row, one to none, one is there twice, one is somebody else's.
    rehearsal.modern(
        "drop index regraft.migration_mappings_pets_key;
         update regraft.migration_mappings m set new_id = o.new_id from regraft.migration_mappings o
         where m.entity = 'pets' and o.entity = 'pets'
           and (m.legacy_id, o.legacy_id) in (('10', '11'), ('11', '10'));
         update regraft.migration_mappings set new_id = gen_random_uuid() where entity = 'pets' and legacy_id = '20';
         insert into regraft.migration_mappings select * from regraft.migration_mappings where entity = 'pets' and legacy_id = '30';
         insert into regraft.migration_mappings select entity, '100000', new_id, source_fingerprint, column_fingerprints, run_no, batch
         from regraft.migration_mappings where entity = 'pets' and legacy_id = '31'",
    );
    program(&rehearsal).expect(1, &["validate", "pets"]);
    let rebuilt = rebuild(&rehearsal, 0, &["pets", "--yes"]);
    let pets = entity(&rebuilt, "pets");
    assert_eq!(
        (&pets["wrong"], &pets["missing"]),
        (&5.into(), &3.into()),
        "{pets}"
    );
    assert_eq!(rehearsal.modern_rows(MAPPINGS), before);
    assert_whole(&rehearsal);
}

/// Of two runs whose ranges overlap, nobody can say which wrote a row; it is mapped all the same.
#[test]
fn where_two_runs_may_have_written_a_row_the_mapping_is_the_rebuilds_own() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    rehearsal.legacy("create table later as select * from pet where id % 3 = 0; delete from pet where id % 3 = 0");
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.legacy("insert into pet select * from later");
    program(&rehearsal).expect(0, &["migrate"]);
    let query = "select legacy_id, new_id, source_fingerprint, column_fingerprints from regraft.migration_mappings
                 where entity = 'pets' order by 1";
    let before = rehearsal.modern_rows(query);
    rehearsal.modern("truncate regraft.migration_mappings_pets");
    rebuild(&rehearsal, 0, &["pets", "--yes"]);
    assert_eq!(rehearsal.modern_rows(query), before);
    assert!(
        rehearsal.modern_number(
            "select count(*) from regraft.migration_mappings where entity = 'pets' and run_no = 3"
        ) > 0
    );
    assert_whole(&rehearsal);
    // Rows that can't be told from the application's own are not deleted.
    let own = rehearsal.modern_number(
        "select count(*) from regraft.migration_mappings where entity = 'pets' and run_no = 3",
    );
    program(&rehearsal).expect(0, &["rollback", "pets", "--yes"]);
    assert_eq!(rehearsal.modern_number("select count(*) from pets"), own);
    let left = "select count(*) from regraft.migration_mappings where entity = 'pets'";
    assert_eq!(rehearsal.modern_number(left), 0);
}

#[test]
fn what_can_not_be_traced_is_named_and_nothing_is_written() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.modern(
        "truncate regraft.migration_mappings_pets;
         update pets set id = gen_random_uuid() where legacy_id = 10;
         update pets set legacy_id = 123456 where legacy_id = 12;
         insert into pets (id, person_id, name) select gen_random_uuid(), id, 'of the application' from people limit 1",
    );
    let rebuilt = rebuild(&rehearsal, 1, &["pets", "--yes"]);
    let pets = entity(&rebuilt, "pets");
    assert_eq!(pets["own"], 1, "{pets}");
    let found: Vec<(&str, u64, &str)> = pets["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| {
            (
                f["what"].as_str().unwrap(),
                f["rows"].as_u64().unwrap(),
                f["examples"][0].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].0.contains("another key than the one derived")
            && found[0].1 == 1
            && found[0].2 == "10",
        "{found:#?}"
    );
    assert!(
        found[1].0.contains("name another") && found[1].2 == "12",
        "{found:#?}"
    );
    assert!(
        found[2].0.contains("no row that the project takes") && found[2].2 == "123456",
        "{found:#?}"
    );
    assert_eq!(
        rehearsal
            .modern_number("select count(*) from regraft.migration_mappings where entity = 'pets'"),
        0
    );
    assert_eq!(
        rehearsal.modern_number(
            "select count(*) from regraft.migration_control where command = 'mappings'"
        ),
        0
    );
    rehearsal.modern("delete from pets where legacy_id is null or legacy_id in (10, 123456)");
    rebuild(&rehearsal, 0, &["pets", "--yes"]);
}

/// A target that was filled without this ledger: its keys are proven, or refused as another secret's.
#[test]
fn a_target_filled_elsewhere_is_taken_over_only_with_its_own_secret() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.modern("drop schema regraft cascade");
    let other = program(&rehearsal).with("REGRAFT_KEY_SECRET", "quite another secret for this");
    let refused = other.expect(1, &["mappings", "rebuild", "houses", "--yes"]);
    assert!(refused.says("another secret"), "{refused}");
    let count = "select count(*) from regraft.migration_mappings";
    assert_eq!(rehearsal.modern_number(count), 0);
    rebuild(&rehearsal, 0, &["--yes"]);
    // What was refused before has not left a run behind that would stand for the other secret.
    program(&rehearsal).expect(0, &["migrate"]);
    program(&rehearsal).expect(0, &["validate", "--final"]);
    // Nobody knows that regraft wrote these rows, so it does not delete them.
    let rows = rehearsal.modern_number("select count(*) from pets");
    program(&rehearsal).expect(0, &["rollback", "--yes"]);
    assert_eq!(rehearsal.modern_number("select count(*) from pets"), rows);
}

#[test]
fn random_keys_are_found_again_by_the_legacy_id() {
    let village = village();
    let path = village.path().join("entities/pets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let random = text.replace("uuid_v5", "uuid_v4");
    std::fs::write(&path, &random).unwrap();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let before = rehearsal.modern_rows(MAPPINGS);
    rehearsal.modern("truncate regraft.migration_mappings_pets");
    rebuild(&rehearsal, 0, &["pets", "--yes"]);
    assert_eq!(rehearsal.modern_rows(MAPPINGS), before);
    std::fs::write(&path, random.replace("legacy = \"legacy_id\"", "")).unwrap();
    let refused = program(&rehearsal).expect(2, &["mappings", "rebuild", "pets", "--yes"]);
    assert!(refused.says("nothing tells which source row"), "{refused}");
}

/// A merged row leads to another's: proven by its own key it would look wrong.
#[test]
fn entities_with_a_rule_of_merging_are_left_as_they_are_and_named() {
    let rehearsal = Rehearsal::new(Servers::shared(), &regraft_testkit::dispatch(), LEGACY);
    let finished = program(&rehearsal)
        .with("BATCH_SIZE", "5000")
        .run(&["migrate", "offices"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let before = rehearsal.modern_rows(MAPPINGS);
    let rebuilt = rebuild(&rehearsal, 1, &["offices", "--yes"]);
    let found = &entity(&rebuilt, "offices")["findings"][0]["what"];
    assert!(
        found.as_str().unwrap().contains("merged by a rule"),
        "{found}"
    );
    assert_eq!(rehearsal.modern_rows(MAPPINGS), before);
}
