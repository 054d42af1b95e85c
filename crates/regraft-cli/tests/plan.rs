//! What the plan says of references, filters, constraints, codes and tables.

mod clinic;
mod planned;
mod village;

use std::collections::BTreeMap;

use clinic::clinic;
use planned::{assert_consistent, lines, list, named, number, program, rehearse};
use regraft_testkit::{Legacy, Rehearsal, Servers, dispatch};
use serde_json::{Value, json};

#[test]
fn funnels_say_where_each_row_is_lost() {
    let clinic = clinic();
    let plan = program(&rehearse(&clinic)).json(0, &["plan"]);
    assert_eq!(
        lines(&plan, "patients", "doctor_id"),
        [
            "source_rows 20",
            "kept 19",
            "- 1 filtered archived: 3",
            "set 18",
            "- 1 null: 19",
            "parent_in_source 17",
            "- 1 not_in_source doctors: 20",
            "parent_kept 15",
            "- 2 parent_filtered doctors inactive: 9 10",
            "parent_moved 13",
            "- 2 parent_quarantined doctors not_null:name: 8 18",
        ]
    );
    assert_eq!(
        lines(&plan, "comments", "patient_id"),
        [
            "source_rows 40",
            "kept 40",
            "set 40",
            "parent_in_source 39",
            "- 1 not_in_source patients: 40",
            "parent_kept 37",
            "- 2 parent_filtered patients archived: 3 23",
            "parent_moved 24",
            "- 5 parent_quarantined patients missing_parent:doctor_id: 9 10 20 29 30",
            "- 4 parent_blocked patients blocked_parent:doctor_id: 8 18 28 38",
            "- 2 parent_quarantined patients not_null:doctor_id: 19 39",
            "- 2 parent_quarantined patients unmapped_value:status: 5 25",
        ]
    );
    assert_consistent(&plan);
}

#[test]
fn funnels_follow_chosen_parents_and_cycles() {
    let clinic = clinic();
    let plan = program(&rehearse(&clinic)).json(0, &["plan"]);
    assert_eq!(
        lines(&plan, "comments", "about_id"),
        [
            "source_rows 40",
            "kept 40",
            "set 25",
            "- 15 null: 26 27 28 29 30",
            "parent_named 20",
            "- 5 not_named: 21 22 23 24 25",
            "parent_in_source 20",
            "parent_kept 17",
            "- 2 parent_filtered doctors inactive: 9 10",
            "- 1 parent_filtered patients archived: 13",
            "parent_moved 12",
            "- 2 parent_quarantined patients missing_parent:doctor_id: 19 20",
            "- 1 parent_quarantined doctors not_null:name: 8",
            "- 1 parent_quarantined patients unmapped_value:status: 15",
            "- 1 parent_blocked patients blocked_parent:doctor_id: 18",
        ]
    );
    // Doctors refer to doctors: what becomes of a mentor shows when all were read.
    assert_eq!(
        lines(&plan, "doctors", "mentor_id"),
        [
            "source_rows 10",
            "kept 8",
            "- 2 filtered inactive: 9 10",
            "set 5",
            "- 3 null: 1 7 8",
            "parent_in_source 4",
            "- 1 not_in_source doctors: 6",
            "parent_kept 3",
            "- 1 parent_filtered doctors inactive: 4",
            "parent_moved 2",
            "- 1 parent_quarantined doctors not_null:name: 5",
        ]
    );
}

#[test]
fn parents_outside_of_the_plan_are_told_from_missing_ones() {
    let clinic = clinic();
    let rehearsal = rehearse(&clinic);
    let alone = program(&rehearsal).json(0, &["plan", "patients"]);
    let expected = [
        "source_rows 20",
        "kept 19",
        "- 1 filtered archived: 3",
        "set 18",
        "- 1 null: 19",
        "parent_in_source 17",
        "- 1 not_in_source doctors: 20",
        "parent_kept 15",
        "- 2 parent_filtered doctors inactive: 9 10",
    ];
    let mut none = expected.to_vec();
    none.extend([
        "parent_moved 0",
        "- 15 parent_not_planned doctors: 1 2 4 5 6",
    ]);
    assert_eq!(lines(&alone, "patients", "doctor_id"), none);
    // With the doctors in place the ledger tells what became of them.
    program(&rehearsal).expect(0, &["migrate", "doctors"]);
    let after = program(&rehearsal).json(0, &["plan", "patients"]);
    let mut stopped = expected.to_vec();
    stopped.extend([
        "parent_moved 13",
        "- 2 parent_quarantined doctors not_null:name: 8 18",
    ]);
    assert_eq!(lines(&after, "patients", "doctor_id"), stopped);
    assert_consistent(&after);
}

#[test]
fn a_row_that_is_read_again_is_counted_once() {
    let clinic = clinic();
    let rehearsal = rehearse(&clinic);
    // An expression that fails on patient 6, and with it on every range that holds it.
    let patients = std::fs::read_to_string(clinic.path().join("entities/patients.toml")).unwrap();
    let failing = patients.replace("\"p.status\"", "\"p.status + 0 / (p.id - 6)\"");
    assert_ne!(patients, failing);
    clinic.write("entities/patients.toml", &failing);
    let plan = program(&rehearsal)
        .with("BATCH_SIZE", "1000")
        .json(0, &["plan"]);
    let found = lines(&plan, "patients", "doctor_id");
    assert_eq!(
        found[3..6],
        ["set 17", "- 1 source_error: 6", "- 1 null: 19"],
        "{found:?}"
    );
    assert_eq!(
        found.last().unwrap(),
        "- 2 parent_quarantined doctors not_null:name: 8 18"
    );
    assert_consistent(&plan);
}

#[test]
fn filters_tell_which_children_they_cost() {
    let clinic = clinic();
    let plan = program(&rehearse(&clinic)).json(0, &["plan"]);
    let filter = |entity: &str, name: &str| {
        let entity = named(&plan, "entities", "entity", entity);
        named(entity, "filters", "name", name).clone()
    };
    let child = |entity: &str, column: &str, rows: i64, missing: &str| json!({ "entity": entity, "column": column, "rows": rows, "missing": missing });
    assert_eq!(
        filter("doctors", "inactive"),
        json!({ "name": "inactive", "rows": 2, "examples": ["9", "10"], "children": [
            child("doctors", "mentor_id", 1, "null"),
            child("patients", "doctor_id", 2, "quarantine"),
            child("comments", "about_id", 2, "null"),
        ]})
    );
    assert_eq!(
        filter("patients", "archived"),
        json!({ "name": "archived", "rows": 1, "examples": ["3"], "children": [
            child("comments", "patient_id", 2, "quarantine"),
            child("comments", "about_id", 1, "null"),
        ]})
    );
    assert_eq!(filter("patients", "nobody")["rows"], 0);
}

#[test]
fn each_constraint_of_the_target_is_counted() {
    let clinic = clinic();
    let plan = program(&rehearse(&clinic)).json(0, &["plan"]);
    let counted = |entity: &str| -> Vec<String> {
        let entity = named(&plan, "entities", "entity", entity);
        let constraints = list(entity, "constraints").iter();
        let mut lines: Vec<String> = constraints
            .map(|c| {
                let text = |name: &str| c[name].as_str().unwrap().to_owned();
                format!("{} {} {}", text("kind"), text("name"), c["rows"])
            })
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(
        counted("patients"),
        [
            "enum status 1",
            "foreign_key patients_doctor_id_fkey 5",
            "not_null doctor_id 1",
            "not_null id 0",
            "not_null status 0",
            "unique patients_legacy_id_key 0",
            "unique patients_pkey 0",
        ]
    );
    assert_eq!(
        counted("comments"),
        [
            "check text_given 1",
            "foreign_key comments_patient_id_fkey 16",
            "map kind 0",
            "not_null id 0",
            "not_null patient_id 0",
            "reference about_id 0",
            "unique comments_legacy_id_key 0",
            "unique comments_pkey 0",
        ]
    );
}

#[test]
fn codes_are_counted_with_what_each_becomes() {
    let clinic = clinic();
    let plan = program(&rehearse(&clinic)).json(0, &["plan"]);
    let codes = |entity: &str, column: &str| {
        let entity = named(&plan, "entities", "entity", entity);
        named(entity, "codes", "column", column).clone()
    };
    let value = |value: Value, rows: i64, becomes: Value, rule: &str| json!({ "value": value, "rows": rows, "becomes": becomes, "rule": rule });
    assert_eq!(
        codes("patients", "status"),
        // Patient 3 has status 2 and is dropped by a filter; 5 has the status that no map knows.
        json!({ "column": "status", "more_rows": 0, "unmapped_rows": 1, "values": [
            value(json!("1"), 10, json!("new"), "mapped"),
            value(json!("2"), 8, json!("known"), "mapped"),
            value(json!("7"), 1, json!(null), "unmapped"),
            value(json!("3"), 0, json!("gone"), "mapped"),
        ]})
    );
    assert_eq!(
        codes("comments", "kind")["values"],
        json!([
            value(json!(null), 10, json!("none"), "null"),
            value(json!("1"), 10, json!("note"), "mapped"),
            value(json!("2"), 10, json!("call"), "mapped"),
            value(json!("9"), 10, json!("other"), "otherwise"),
            value(json!("5"), 0, json!("visit"), "mapped"),
        ])
    );
    assert_eq!(
        codes("comments", "about_id")["values"],
        json!([
            value(json!("doctor"), 10, json!("doctors"), "mapped"),
            value(json!("patient"), 10, json!("patients"), "mapped"),
            value(json!("planet"), 5, json!("NULL"), "otherwise"),
        ])
    );
}

#[test]
fn more_codes_than_can_be_told_apart_are_still_counted() {
    let clinic = clinic();
    let rehearsal = rehearse(&clinic);
    rehearsal
        .legacy("create table comment_more partition of comment for values from (1000) to (9000)");
    rehearsal.legacy("insert into comment select i, 1, 'C', i from generate_series(1001, 2500) i");
    let plan = program(&rehearsal)
        .with("BATCH_SIZE", "500")
        .json(0, &["plan"]);
    let entity = named(&plan, "entities", "entity", "comments");
    let kind = named(entity, "codes", "column", "kind");
    let told: i64 = list(kind, "values").iter().map(|v| number(v, "rows")).sum();
    // 1, 2 and 9 came first, NULL is counted apart.
    assert_eq!(told, 40 + 997);
    assert_eq!(number(kind, "more_rows"), 1500 - 997);
}

#[test]
fn every_table_of_the_source_is_listed_with_its_readers() {
    let clinic = clinic();
    let rehearsal = rehearse(&clinic);
    // A plan of one entity shows the readers of the whole project.
    let plan = program(&rehearsal).json(0, &["plan", "doctors"]);
    let table = |table: &str, entities: &[&str], empty: Value| json!({ "table": table, "entities": entities, "empty": empty });
    assert_eq!(
        plan["source_tables"],
        json!([
            table("comment", &["comments"], json!(null)),
            table("doctor", &["doctors"], json!(null)),
            table("leftover", &[], json!(true)),
            table("log", &[], json!(false)),
            table("patient", &["patients"], json!(null)),
        ])
    );
    let text = program(&rehearsal).expect(0, &["plan"]).stdout;
    assert!(
        text.contains(
            "2 of the 5 tables of the source are read by no entity: leftover (empty), log"
        ),
        "{text}"
    );
}

#[test]
fn people_see_an_overview_and_named_entities_in_full() {
    let clinic = clinic();
    let rehearsal = rehearse(&clinic);
    let show = |arguments: &[&str]| program(&rehearsal).expect(0, arguments).stdout;
    // Hash, times and the width of their column differ from run to run.
    let filters = [
        (r"[0-9a-f]{16}", "[HASH]"),
        // Where the line is broken depends on how long the span is.
        (
            r"(?s)about [^(]*\(the time this plan took[^)]*\)",
            "about [SPAN] [BASIS]",
        ),
        (r" +\d+(\.\d+)? (ms|s)\b", " [SPAN]"),
        (r" +about\n", " about\n"),
    ];
    insta::with_settings!({ filters => filters, omit_expression => true }, {
        insta::assert_snapshot!("plan_overview", show(&["plan"]));
        insta::assert_snapshot!("plan_named", show(&["plan", "patients", "--with-deps"]));
    });
    let all = show(&["plan", "--details"]);
    for title in [
        "doctors → doctors",
        "patients → patients",
        "comments → comments",
    ] {
        assert!(all.contains(title), "{all}");
    }
}

#[test]
fn funnels_of_a_village_with_cycles_add_up() {
    let village = village::village();
    let rehearsal = rehearse(&village);
    let program = program(&rehearsal).with("BATCH_SIZE", "50");
    assert_consistent(&program.json(0, &["plan"]));
    // Of rows that are in place already the references are counted all the same.
    program.run(&["migrate"]);
    assert_consistent(&program.json(0, &["plan"]));
}

/// What the generator's manifest says, by entity and `code:column`.
fn manifest(rehearsal: &Rehearsal<'_>) -> BTreeMap<(String, String), i64> {
    let rows = rehearsal.legacy_rows(
        "select entity, substr(expect, 13), count(distinct legacy_id) from regraft_generator.regraft_dirt
         where entity is not null and expect ~ '^quarantined:(missing_parent|unmapped_value):' group by 1, 2",
    );
    rows.into_iter()
        .map(|row| ((row[0].clone(), row[1].clone()), row[2].parse().unwrap()))
        .collect()
}

/// The same of the plan: parents that aren't there, and codes that no map knows.
fn planned(plan: &Value) -> BTreeMap<(String, String), i64> {
    let mut counts = BTreeMap::new();
    for entity in list(plan, "entities") {
        let mut add = |code: &str, column: &Value, rows: i64| {
            if rows > 0 {
                let name = entity["entity"].as_str().unwrap().to_owned();
                let key = format!("{code}:{}", column.as_str().unwrap());
                *counts.entry((name, key)).or_default() += rows;
            }
        };
        for funnel in list(entity, "funnels") {
            let hops = list(funnel, "hops").iter();
            let missing =
                hops.filter(|hop| hop["hop"] == "parent_in_source" || hop["hop"] == "parent_kept");
            if funnel["missing"] == "quarantine" {
                let rows = missing.map(|hop| number(hop, "lost")).sum();
                add("missing_parent", &funnel["column"], rows);
            }
        }
        for column in list(entity, "codes") {
            add(
                "unmapped_value",
                &column["column"],
                number(column, "unmapped_rows"),
            );
        }
    }
    counts
}

#[test]
fn funnels_of_dispatch_add_up_and_name_what_was_injected() {
    let legacy = Legacy {
        scale: 0.02,
        seed: 5,
        dirt: 3.0,
    };
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), legacy);
    let plan = program(&rehearsal)
        .with("BATCH_SIZE", "900")
        .json(0, &["plan"]);
    assert_consistent(&plan);
    let manifest = manifest(&rehearsal);
    assert!(manifest.len() > 10, "{manifest:?}");
    assert_eq!(planned(&plan), manifest);
    let unread = list(&plan, "source_tables").iter();
    let unread = unread.filter(|table| list(table, "entities").is_empty());
    assert!(unread.count() < list(&plan, "source_tables").len() / 2);
}
