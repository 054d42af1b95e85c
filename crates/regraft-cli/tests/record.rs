//! `check-record`: the whole life of one row, and everything that can be wrong with it.

mod village;

use std::fs;

use regraft_testkit::{Finished, Legacy, Program, ProjectFolder, Rehearsal, Servers, dispatch};
use serde_json::{Value, json};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 0.02,
    seed: 5,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "100")
}

/// The village, migrated.
#[track_caller]
fn migrated(village: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal
}

/// The record of a row as JSON.
#[track_caller]
fn record(rehearsal: &Rehearsal<'_>, code: i32, entity: &str, id: &str) -> Value {
    let arguments = ["check-record", "--entity", entity, "--legacy-id", id];
    program(rehearsal).json(code, &arguments)
}

#[track_caller]
fn by_key(rehearsal: &Rehearsal<'_>, code: i32, entity: &str, key: &str) -> Value {
    let arguments = ["check-record", "--entity", entity, "--uuid-id", key];
    program(rehearsal).json(code, &arguments)
}

fn of<'a>(list: &'a Value, field: &str, name: &str) -> &'a Value {
    let mut all = list.as_array().expect("a list").iter();
    all.find(|one| one[field] == name)
        .unwrap_or_else(|| panic!("no {name} in {list:#}"))
}

/// A row that is nowhere: nothing is wrong, and a remark says so.
#[track_caller]
fn assert_nowhere(told: &Value, remark: &str) {
    assert_eq!(
        (&told["state"], &told["exists"], &told["passed"]),
        (&json!("nowhere"), &json!(false), &json!(true)),
        "{told:#}"
    );
    let remarks = told["remarks"].as_array().expect("remarks");
    let text = remarks.iter().filter_map(Value::as_str);
    assert!(text.clone().any(|text| text.contains(remark)), "{told:#}");
    assert_eq!(told["problems"], json!([]), "{told:#}");
}

#[track_caller]
fn assert_problem(record: &Value, part: &str) {
    let problems = record["problems"].as_array().expect("problems");
    assert!(
        problems.iter().any(|p| p.as_str().unwrap().contains(part)),
        "{part}: {problems:#?}"
    );
}

/// The columns whose verdict is `wrong`.
fn wrong(record: &Value) -> Vec<&str> {
    let columns = record["columns"].as_array().expect("columns");
    columns
        .iter()
        .filter(|column| column["verdict"] == "wrong")
        .map(|column| column["column"].as_str().unwrap())
        .collect()
}

#[test]
fn a_row_that_was_migrated_is_told_from_end_to_end() {
    let village = village();
    let rehearsal = migrated(&village);
    let pet = record(&rehearsal, 0, "pets", "8");
    assert_eq!(pet["state"], "migrated");
    assert_eq!(
        (&pet["passed"], &pet["problems"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(
        of(&pet["source"]["values"], "column", "name")["value"],
        "Pet 8"
    );
    let name = of(&pet["columns"], "column", "name");
    assert_eq!(
        (
            &name["verdict"],
            &name["source"]["value"],
            &name["target"]["value"]
        ),
        (&json!("right"), &json!("Pet 8"), &json!("Pet 8"))
    );
    assert_eq!(
        (&name["place"], &name["expressions"], &name["provenance"]),
        (
            &json!("entities/pets.toml:14"),
            &json!(["t.name"]),
            &json!("copied")
        )
    );
    let owner = of(&pet["parents"], "column", "person_id");
    assert_eq!(
        (&owner["legacy_id"], &owner["state"]),
        (&json!("9"), &json!("migrated"))
    );
    let held = of(&pet["columns"], "column", "person_id");
    assert_eq!(
        held["target"]["value"], owner["key"],
        "the key that was found is the key that is held"
    );
    let numbers = [&pet["target"], &pet["mappings"][0], &pet["batch"]];
    for of in numbers {
        let transaction: u32 = of["transaction"].as_str().unwrap().parse().unwrap();
        assert!(transaction > 2, "{of}");
    }
    assert_eq!(pet["batch"]["status"], "done");
    let run = &rehearsal
        .modern_rows("select run_id from regraft.migration_control where entity = ''")[0][0];
    assert_eq!(pet["mappings"][0]["run_id"], run.as_str());
    // The other way round: who refers to its owner.
    let person = record(&rehearsal, 0, "people", "9");
    assert_eq!(person["key"], owner["key"]);
    let pets = of(&person["children"], "entity", "pets");
    assert_eq!(
        (&pets["source_rows"], &pets["kept"], &pets["target_rows"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert_eq!(pets["examples"][0]["ledger"], "migrated");
    // By its key it is the same.
    assert_eq!(
        by_key(&rehearsal, 0, "people", person["key"].as_str().unwrap()),
        person
    );
}

#[test]
fn each_state_has_its_name_and_its_exit_code() {
    let village = village();
    let rehearsal = migrated(&village);
    rehearsal.legacy(
        "insert into pet values (1000, 9, 'Late', 'cat', 1, 'T1000'); delete from pet where id = 12",
    );
    for (entity, id, code, state, problem) in [
        (
            "people",
            "17",
            1,
            "quarantined",
            "`boss_id`: row 9999 of people is not in the source",
        ),
        (
            "people",
            "48",
            1,
            "blocked",
            "`boss_id`: row 17 of people is in quarantine",
        ),
        ("pets", "97", 1, "quarantined", "it is in quarantine"),
        ("pets", "1000", 1, "not_migrated", "not accounted for"),
        (
            "pets",
            "12",
            1,
            "gone_from_source",
            "the source has no such row",
        ),
    ] {
        let told = record(&rehearsal, code, entity, id);
        assert_eq!(
            (&told["state"], &told["exists"]),
            (&json!(state), &json!(true)),
            "{entity} {id}: {told:#}"
        );
        assert_problem(&told, problem);
    }
    // That there is no such row is an answer, and nothing is wrong.
    for id in ["5000", "-1"] {
        let told = record(&rehearsal, 0, "pets", id);
        assert_nowhere(
            &told,
            &format!(
                "there is no row {id} of pets: neither in the source, nor in the ledger, nor in the target"
            ),
        );
    }
    let human = program(&rehearsal).expect(
        0,
        &["check-record", "--entity", "pets", "--legacy-id", "5000"],
    );
    assert!(human.says("there is no row 5000 of pets"), "{human}");
    assert!(!human.says("all is right"), "{human}");
    let filtered = record(&rehearsal, 0, "pets", "57");
    assert_eq!(
        (&filtered["state"], &filtered["source"]["filter"]),
        (&json!("filtered"), &json!("goldfish"))
    );
    let quarantined = record(&rehearsal, 1, "pets", "97");
    assert_eq!(quarantined["quarantine"]["state"], "open");
    assert_eq!(
        quarantined["quarantine"]["reasons"][0]["code"],
        "foreign_key_violation"
    );
    let boss = record(&rehearsal, 1, "people", "17");
    let staff = of(&boss["children"], "column", "boss_id");
    assert_eq!(
        (
            &staff["source_rows"],
            &staff["left_behind"],
            &staff["target_rows"]
        ),
        (&json!(3), &json!(3), &json!(0))
    );
    assert_eq!(
        staff["examples"][0],
        json!({ "legacy_id": "48", "ledger": "blocked" })
    );
}

#[test]
fn keys_that_no_mapping_knows() {
    let village = village();
    let rehearsal = migrated(&village);
    let nobody = "00000000-0000-4000-8000-000000000001";
    let nowhere = by_key(&rehearsal, 0, "pets", nobody);
    assert_nowhere(&nowhere, "no mapping of pets knows this key");
    rehearsal.modern(&format!(
        "insert into pets (id, person_id, name) select '{nobody}', id, 'of the application' from people where legacy_id = 9"
    ));
    let foreign = by_key(&rehearsal, 1, "pets", nobody);
    assert_eq!(foreign["state"], "foreign");
    assert_eq!(
        of(&foreign["target"]["values"], "column", "name")["value"],
        "of the application"
    );
    let person = record(&rehearsal, 0, "people", "9");
    let of_another = by_key(&rehearsal, 0, "pets", person["key"].as_str().unwrap());
    assert_nowhere(&of_another, "it is the key of a row of people");
    // A row whose mapping is lost is found by the legacy id that it names.
    rehearsal
        .modern("delete from regraft.migration_mappings where entity = 'pets' and legacy_id = '8'");
    let lost = record(&rehearsal, 1, "pets", "8");
    assert_eq!(lost["state"], "not_migrated");
    assert_problem(&lost, "names this legacy id, and the ledger has no mapping");
    assert_eq!(
        of(&lost["target"]["values"], "column", "name")["value"],
        "Pet 8"
    );
}

/// Of very many children, their number is told, and no figure that was not counted.
#[test]
fn a_row_with_very_many_children() {
    let village = village();
    let rehearsal = migrated(&village);
    rehearsal.legacy(
        "insert into pet select 10000 + i, 9, 'Pet', 'cat', 1, 'U' || i from generate_series(1, 10000) i",
    );
    let person = record(&rehearsal, 0, "people", "9");
    let pets = of(&person["children"], "entity", "pets");
    assert_eq!(
        (&pets["source_rows"], &pets["target_rows"]),
        (&json!(10_002), &json!(2))
    );
    assert_eq!(
        (&pets["kept"], &pets["left_behind"]),
        (&json!(9_802), &Value::Null)
    );
    assert_eq!(pets["examples"].as_array().unwrap().len(), 5);
}

/// Each kind of damage is told at the row and the column that has it, and at no other row.
#[test]
fn what_is_damaged_is_named() {
    let village = village();
    let first = migrated(&village);
    let other_owner = "(select id from people where legacy_id = 30)";
    for (damage, columns, problem) in [
        ("update pets set name = name || ' ' where legacy_id = 8".to_owned(), vec!["name"], "`name` is not what the source gives"),
        ("update pets set weight = weight + 0.01 where legacy_id = 8".to_owned(), vec!["weight"], "`weight` is not what"),
        (format!("update pets set person_id = {other_owner} where legacy_id = 8"), vec!["person_id"], "points to another row of `people`"),
        ("update pets set legacy_id = 8000 where legacy_id = 8".to_owned(), vec!["legacy_id"], "names another legacy id"),
        ("delete from pets where legacy_id = 8".to_owned(), vec![], "the table has no such row"),
        (
            "insert into regraft.migration_quarantine (entity, legacy_id, bucket, reasons, run_no, batch)
             values ('pets', '8', 'quarantined', '[]', 1, 1)".to_owned(),
            vec![],
            "mapped, and in quarantine",
        ),
    ] {
        let rehearsal = first.again();
        program(&rehearsal).expect(0, &["migrate"]);
        rehearsal.modern(&damage);
        let pet = record(&rehearsal, 1, "pets", "8");
        assert_eq!(wrong(&pet), columns, "{damage}: {pet:#}");
        assert_problem(&pet, problem);
        record(&rehearsal, 0, "pets", "9");
    }
}

/// What the source can't compute of a row doesn't hide the rest of it.
#[test]
fn an_expression_that_fails_is_told_with_its_state() {
    let village = village();
    let path = village.path().join("entities/pets.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("\"t.weight\"", "\"t.weight * 10 / (t.id - 10)\""),
    )
    .unwrap();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).run(&["migrate"]);
    let pet = record(&rehearsal, 1, "pets", "10");
    assert_eq!(pet["state"], "quarantined", "{pet:#}");
    let weight = &of(&pet["columns"], "column", "weight")["source"];
    assert_eq!(weight, &json!({ "value": null, "fails_with": "22012" }));
    assert_eq!(
        of(&pet["columns"], "column", "name")["source"]["value"],
        "Pet 10"
    );
}

/// What a backfill changed, with what was there before.
#[test]
fn later_changes_are_told() {
    let village = village();
    let rehearsal = migrated(&village);
    rehearsal.legacy("update pet set name = 'Rex' where id = 8");
    assert_eq!(wrong(&record(&rehearsal, 1, "pets", "8")), ["name"]);
    program(&rehearsal).expect(0, &["backfill", "--entity", "pets", "--columns", "name"]);
    let pet = record(&rehearsal, 0, "pets", "8");
    let change = &pet["changes"][0];
    assert_eq!(
        (
            &change["operation"],
            &change["columns"],
            &change["before"],
            &change["after"]
        ),
        (
            &json!("update"),
            &json!(["name"]),
            &json!({ "name": "Pet 8" }),
            &json!({ "name": "Rex" })
        )
    );
    assert_eq!(pet["mappings"][0]["agreed_run"], change["run_id"]);
}

/// The values are for standard output and only there, and not even there when nobody wants them.
#[test]
fn values_go_to_standard_output_or_nowhere() {
    let village = village();
    let rehearsal = migrated(&village);
    rehearsal.modern("update pets set name = 'Changed' where legacy_id = 8");
    let arguments = ["check-record", "--entity", "pets", "--legacy-id", "8"];
    for format in ["human", "json"] {
        let told = |more: &[&str]| -> Finished {
            program(&rehearsal).expect(1, &[&["--format", format], &arguments[..], more].concat())
        };
        let with = told(&["--verbose"]);
        assert!(
            with.stdout.contains("Pet 8") && with.stdout.contains("Changed"),
            "{with}"
        );
        assert!(
            !with.stderr.contains("Pet 8") && !with.stderr.contains("Changed"),
            "{with}"
        );
        let without = told(&["--no-values", "--verbose"]);
        for value in ["Pet 8", "Changed", "T8"] {
            assert!(!without.to_string().contains(value), "{value}: {without}");
        }
        assert!(
            without
                .stdout
                .contains("`name` is not what the source gives"),
            "{without}"
        );
        let file = village.path().join(format!("record.{format}"));
        let path = file.display().to_string();
        let saved = told(&["--output", &path]);
        assert!(saved.stdout.is_empty(), "{saved}");
        assert_eq!(
            fs::read_to_string(&file).unwrap().trim(),
            told(&[]).stdout.trim()
        );
    }
}

#[test]
fn wrong_usage() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    for (arguments, says) in [
        (
            &["--entity", "petz", "--legacy-id", "8"][..],
            "did you mean `pets`",
        ),
        (&["--entity", "pets"], "--legacy-id"),
        (&["--legacy-id", "8"], "--entity"),
        (
            &["--entity", "pets", "--uuid-id", "patient-uuid-123"],
            "this is no UUID",
        ),
        (
            &[
                "--entity",
                "pets",
                "--legacy-id",
                "8",
                "--uuid-id",
                "00000000-0000-4000-8000-000000000001",
            ],
            "cannot be used with",
        ),
        // There is no ledger yet.
        (&["--entity", "pets", "--legacy-id", "8"], "migrate"),
    ] {
        let refused = program(&rehearsal).expect(2, &[&["check-record"], arguments].concat());
        assert!(refused.says(says), "{arguments:?}: {refused}");
    }
    program(&rehearsal).expect(0, &["migrate"]);
    let refused =
        program(&rehearsal).expect(2, &["check-record", "--entity", "pets", "--legacy-id", "x"]);
    assert!(refused.says("whole numbers"), "{refused}");
}

/// The bundled project: rows of every state of many entities, as the ledger has them.
#[test]
fn rows_of_the_bundled_project() {
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), LEGACY);
    let finished = program(&rehearsal).with("BATCH_SIZE", "50000").run(&[
        "migrate",
        "orders",
        "messages",
        "tasks",
        "--with-deps",
    ]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let mapped = rehearsal.modern_rows(
        "select distinct on (entity) entity, legacy_id, new_id from regraft.migration_mappings order by entity, md5(legacy_id)",
    );
    assert!(mapped.len() > 5, "{mapped:?}");
    for row in &mapped {
        let told = record(&rehearsal, 0, &row[0], &row[1]);
        assert_eq!(told["key"], row[2].as_str(), "{told:#}");
        assert!(!told["columns"].as_array().unwrap().is_empty());
    }
    let stopped = rehearsal.modern_rows(
        "select distinct on (entity, bucket) entity, legacy_id, bucket from regraft.migration_quarantine
         where state = 'open' order by entity, bucket, md5(legacy_id)",
    );
    assert!(stopped.len() > 3, "{stopped:?}");
    for row in &stopped {
        let told = record(&rehearsal, 1, &row[0], &row[1]);
        assert_eq!(told["state"], row[2].as_str(), "{told:#}");
    }
    // What the project doesn't read of a person is not shown, the hash of a password least of all.
    let profile = &mapped
        .iter()
        .find(|row| row[0] == "profiles")
        .expect("a profile")[1];
    let told = record(&rehearsal, 0, "profiles", profile).to_string();
    assert!(
        told.contains("\"password\"") && !told.contains("pbkdf2"),
        "{told}"
    );
}

#[test]
fn as_people_read_it() {
    let village = village();
    let rehearsal = migrated(&village);
    let filters = [
        (r"migrate_\d{8}_\d{6}_[0-9a-f]{4}", "migrate_[RUN]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\s+UTC", "[TIME]"),
        (r"(mapping|batch|row) \d{3,}", "${1} [TRANSACTION]"),
    ];
    for (name, entity, id) in [
        ("migrated", "pets", "8"),
        ("blocked", "people", "48"),
        ("filtered", "pets", "57"),
    ] {
        let told =
            program(&rehearsal).run(&["check-record", "--entity", entity, "--legacy-id", id]);
        insta::with_settings!({ filters => filters, omit_expression => true }, {
            insta::assert_snapshot!(format!("record_{name}"), told.stdout);
        });
    }
}
