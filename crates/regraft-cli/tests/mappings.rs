//! `mappings rebuild`: what the ledger lost or has wrong is brought back, when the target proves it.

#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod village;

use regraft_testkit::{Dice, Dump, Legacy, Program, Rehearsal, Servers};
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

/// Killed between any two commits of it, the next rebuild finishes, and nothing else may begin before.
#[test]
fn a_rebuild_that_was_killed_is_finished_by_the_next() {
    let village = village();
    let first = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    let before = migrated_and_robbed(&first);
    rebuild(&first, 0, &["--yes"]);
    assert_eq!(first.modern_rows(MAPPINGS), before);
    for (point, times) in [
        ("before-commit", 4),
        ("after-commit", 4),
        ("before-finish", 1),
    ] {
        for n in 0..times {
            let rehearsal = first.again();
            migrated_and_robbed(&rehearsal);
            let failpoint = format!("{point}={n}*off->return(abort)");
            let cut = program(&rehearsal)
                .with("FAILPOINTS", &failpoint)
                .run(&["mappings", "rebuild", "--yes"]);
            assert!(cut.signal.is_some(), "{failpoint}: {cut}");
            finish_rebuilding(&rehearsal, &before, &failpoint);
        }
    }
}

/// The same at random moments.
#[test]
fn a_rebuild_that_was_killed_at_random_is_finished_by_the_next() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let village = village();
    let first = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    let before = migrated_and_robbed(&first);
    let calm = program(&first).run(&["mappings", "rebuild", "--yes"]);
    assert_eq!(calm.code, Some(0), "{calm}");
    for _ in 0..5 {
        let rehearsal = first.again();
        migrated_and_robbed(&rehearsal);
        let moment = dice.moment(calm.time);
        program(&rehearsal)
            .start(&["mappings", "rebuild", "--yes"])
            .kill_after(moment);
        let what = format!("seed {}, killed after {moment:?}", dice.seed());
        finish_rebuilding(&rehearsal, &before, &what);
    }
}

/// Migrates, and loses the mappings of all entities; what they were.
#[track_caller]
fn migrated_and_robbed(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    program(rehearsal).expect(0, &["migrate"]);
    let before = rehearsal.modern_rows(MAPPINGS);
    rehearsal.modern("truncate regraft.migration_mappings");
    before
}

#[track_caller]
fn finish_rebuilding(rehearsal: &Rehearsal<'_>, before: &[Vec<String>], what: &str) {
    let open = rehearsal.modern_rows(
        "select run_id from regraft.migration_control
         where command = 'mappings' and entity = '' and status = 'running'",
    );
    if let [run] = open.as_slice() {
        let status = program(rehearsal).expect(0, &["status"]);
        assert!(status.says(&run[0]), "{what}: {status}");
        assert!(status.says("regraft mappings rebuild"), "{what}: {status}");
        let refused = program(rehearsal).expect(2, &["migrate"]);
        assert!(
            refused.says("regraft mappings rebuild"),
            "{what}: {refused}"
        );
        let told = program(rehearsal).expect(1, &["validate", "--final"]);
        assert!(
            told.says(&format!("{} is running", run[0])),
            "{what}: {told}"
        );
    }
    rebuild(rehearsal, 0, &["--yes"]);
    assert_eq!(rehearsal.modern_rows(MAPPINGS), before, "{what}");
    assert_whole(rehearsal);
}

/// A rebuild of one entity says nothing of what an earlier one left of the others.
#[test]
fn a_rebuild_of_other_entities_does_not_finish_one_that_died() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    migrated_and_robbed(&rehearsal);
    let cut = program(&rehearsal)
        .with("FAILPOINTS", "after-commit=1*off->return(abort)")
        .run(&["mappings", "rebuild", "people", "pets", "--yes"]);
    assert!(cut.signal.is_some(), "{cut}");
    rebuild(&rehearsal, 0, &["houses", "--yes"]);
    let status = program(&rehearsal).json(0, &["status"]);
    let unfinished = status["unfinished"].as_array().unwrap();
    assert_eq!(unfinished.len(), 1, "{status}");
    assert_eq!(unfinished[0]["command"], "mappings", "{status}");
    assert_eq!(
        unfinished[0]["left"],
        serde_json::json!(["pets"]),
        "{status}"
    );
    let told = program(&rehearsal).expect(1, &["validate", "--final"]);
    assert!(told.says("is running with pets"), "{told}");
    rebuild(&rehearsal, 0, &["people", "pets", "--yes"]);
    assert_whole(&rehearsal);
}

/// Several legacy ids of the bundled project's offices lead to one row.
#[test]
fn merged_rows_are_mapped_again_to_the_row_they_are_part_of() {
    let rehearsal = Rehearsal::new(Servers::shared(), &regraft_testkit::dispatch(), LEGACY);
    // Two offices are under the name and at the address of a third, which can be moved.
    rehearsal.legacy(
        "update dispatch_office o
         set name = upper(f.name), address = f.address, apt = f.apt, city = f.city, state = f.state, zip = f.zip
         from (select * from dispatch_office where id = 13) f where o.id in (14, 18)",
    );
    let program = || program(&rehearsal).with("BATCH_SIZE", "5000");
    let finished = program().run(&["migrate", "offices"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let mappings = "select legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch, merged_into
                    from regraft.migration_mappings where entity = 'offices' order by 1";
    let before = rehearsal.modern_rows(mappings);
    let merged = before.iter().filter(|row| !row[6].is_empty()).count();
    assert_eq!(merged, 2, "{finished} {before:?}");
    let validated = program().run(&["validate", "offices"]);
    rehearsal.modern("truncate regraft.migration_mappings_offices");
    let rebuilt = rebuild(&rehearsal, 0, &["offices", "--yes"]);
    assert_eq!(entity(&rebuilt, "offices")["merged"], merged, "{rebuilt}");
    assert_eq!(rehearsal.modern_rows(mappings), before);
    assert_eq!(program().run(&["validate", "offices"]).code, validated.code);
    let again = rebuild(&rehearsal, 0, &["offices", "--yes"]);
    assert_eq!(again["nothing_to_do"], true, "{again}");
}
