//! What the plan says of references, filters, constraints, codes and tables, and that it comes true.

mod clinic;
mod demanding;
mod village;

use std::collections::BTreeMap;
use std::path::Path;

use clinic::clinic;
use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers, dispatch};
use serde_json::{Value, json};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

/// The data of projects that bring their own.
const AS_IS: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    // Several batches, so that what is counted has to be put together.
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "7")
}

fn rehearse(project: &ProjectFolder) -> Rehearsal<'static> {
    Rehearsal::new(Servers::shared(), project.path(), AS_IS)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let found = value[name].as_array();
    found.unwrap_or_else(|| panic!("no list {name}: {value}"))
}

fn number(value: &Value, name: &str) -> i64 {
    let found = value[name].as_i64();
    found.unwrap_or_else(|| panic!("no number {name}: {value}"))
}

/// The element of a list with this name.
#[track_caller]
fn named<'a>(value: &'a Value, all: &str, key: &str, name: &str) -> &'a Value {
    let found = list(value, all).iter().find(|one| one[key] == name);
    found.unwrap_or_else(|| panic!("{all} have no {name}: {value}"))
}

/// A funnel as lines: `hop rows`, then `- rows reason parent filter because: ids` for each loss.
fn lines(plan: &Value, entity: &str, column: &str) -> Vec<String> {
    let entity = named(plan, "entities", "entity", entity);
    let funnel = named(entity, "funnels", "column", column);
    let mut lines = Vec::new();
    for hop in list(funnel, "hops") {
        lines.push(format!("{} {}", hop["hop"].as_str().unwrap(), hop["rows"]));
        for loss in list(hop, "losses") {
            let words: Vec<&str> = ["reason", "parent", "filter", "because"]
                .iter()
                .filter_map(|name| loss[*name].as_str())
                .collect();
            let ids: Vec<&str> = list(loss, "examples")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            lines.push(format!(
                "- {} {}: {}",
                loss["rows"],
                words.join(" "),
                ids.join(" ")
            ));
        }
    }
    lines
}

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

/// Every funnel adds up, from hop to hop, and agrees with what is predicted of its column.
#[track_caller]
fn assert_consistent(plan: &Value) {
    for entity in list(plan, "entities") {
        let name = entity["entity"].as_str().unwrap();
        let filters = list(entity, "filters").iter();
        let dropped: i64 = filters.map(|filter| number(filter, "rows")).sum();
        let kept = number(entity, "source_rows") - dropped;
        for funnel in list(entity, "funnels") {
            let place = format!("{name}.{}", funnel["column"]);
            let hops = list(funnel, "hops");
            assert_eq!(number(&hops[1], "rows"), kept, "{place}");
            for pair in hops.windows(2) {
                let losses = list(&pair[1], "losses").iter();
                let lost: i64 = losses.map(|loss| number(loss, "rows")).sum();
                assert_eq!(number(&pair[1], "lost"), lost, "{place}: {funnel:#}");
                let sum = number(&pair[1], "rows") + lost;
                assert_eq!(sum, number(&pair[0], "rows"), "{place}: {funnel:#}");
            }
            assert_eq!(
                lost_parents(funnel),
                predicted_parents(entity, funnel),
                "{place}: {funnel:#}"
            );
        }
        for column in list(entity, "codes") {
            let values = list(column, "values").iter();
            let rows: i64 = values.map(|value| number(value, "rows")).sum();
            let counted = rows + number(column, "more_rows");
            assert_eq!(
                counted,
                coded(entity, column, kept),
                "{name}.{}",
                column["column"]
            );
        }
    }
}

/// The rows among which the values of a coded column are counted.
fn coded(entity: &Value, column: &Value, kept: i64) -> i64 {
    let funnels = list(entity, "funnels").iter();
    let chosen = funnels.filter(|funnel| funnel["column"] == column["column"]);
    let set = chosen.flat_map(|funnel| list(funnel, "hops"));
    match set.into_iter().find(|hop| hop["hop"] == "set") {
        Some(hop) => number(hop, "rows"),
        None => kept - reasons(entity, |p| p["code"] == "source_error"),
    }
}

/// Rows whose parent a funnel loses, where that keeps them out of the target.
fn lost_parents(funnel: &Value) -> i64 {
    if funnel["missing"] != "quarantine" {
        return 0;
    }
    let hops = list(funnel, "hops").iter();
    hops.filter(|hop| hop["hop"].as_str().unwrap().starts_with("parent_"))
        .map(|hop| number(hop, "lost"))
        .sum()
}

fn reasons(entity: &Value, wanted: impl Fn(&Value) -> bool) -> i64 {
    let predictions = list(entity, "predictions").iter();
    predictions
        .filter(|prediction| wanted(prediction))
        .map(|prediction| number(prediction, "rows"))
        .sum()
}

/// The rows that are predicted to stay behind for want of the funnel's parent.
fn predicted_parents(entity: &Value, funnel: &Value) -> i64 {
    let chosen = list(funnel, "hops")
        .iter()
        .any(|hop| hop["hop"] == "parent_named");
    reasons(entity, |prediction| {
        let code = prediction["code"].as_str().unwrap();
        let about = code == "missing_parent"
            || code == "blocked_parent"
            || chosen && code == "unmapped_value";
        about && prediction["place"] == funnel["column"]
    })
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

/// Rows to move, quarantined and blocked, by entity: as planned, and as done.
fn assert_comes_true(program: &Program, names: &[&str]) -> Value {
    let command = |verb: &'static str| [&[verb], names].concat();
    let plan = program.json(0, &command("plan"));
    let all = [&["--format", "json"], command("migrate").as_slice()].concat();
    let finished = program.run(&all);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let outcome: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    for entity in list(&plan, "entities") {
        let name = entity["entity"].as_str().unwrap();
        let done = &named(&outcome["receipt"], "entities", "entity", name)["account"];
        for (planned, happened) in [
            ("source_rows", "source_rows"),
            ("to_move", "inserted"),
            ("quarantined", "quarantined"),
            ("blocked", "blocked"),
        ] {
            assert_eq!(
                number(entity, planned),
                number(done, happened),
                "{name}: {planned}"
            );
        }
    }
    plan
}

#[test]
fn the_plan_foresees_what_a_demanding_target_loses() {
    let project = demanding::price_lists();
    let rehearsal = rehearse(&project);
    let plan = assert_comes_true(&program(&rehearsal).with("BATCH_SIZE", "200"), &[]);
    let offers = named(&plan, "entities", "entity", "offers");
    assert_eq!(number(offers, "to_move"), 393);
    assert_eq!(number(offers, "quarantined"), 395);
    assert_eq!(
        number(named(offers, "constraints", "name", "order_id"), "rows"),
        395
    );
    assert_eq!(
        lines(&plan, "offers", "order_id")[..4],
        [
            "source_rows 788",
            "kept 788",
            "set 393",
            "- 395 null: 394 395 396 397 398",
        ]
    );
    assert_eq!(
        lines(&plan, "discounts", "offer_id")[4..],
        [
            "parent_kept 151",
            "parent_moved 135",
            "- 16 parent_quarantined offers not_null:order_id: 1 2 3 4 5",
        ]
    );
}

#[test]
fn a_model_that_demands_no_order_loses_no_offer() {
    let project = demanding::price_lists();
    demanding::without_order(&project);
    let rehearsal = rehearse(&project);
    let plan = assert_comes_true(&program(&rehearsal).with("BATCH_SIZE", "200"), &[]);
    for (entity, rows) in [("offers", 788), ("discounts", 151)] {
        assert_eq!(
            number(named(&plan, "entities", "entity", entity), "to_move"),
            rows
        );
    }
}

#[test]
fn dispatch_with_offers_that_demand_an_order_loses_what_the_plan_says() {
    let project = ProjectFolder::new(&[]);
    copy(&dispatch(), Path::new(""), &project);
    demanding::demand_orders(&project);
    let legacy = Legacy {
        scale: 0.04,
        seed: 1,
        dirt: 1.0,
    };
    let rehearsal = Rehearsal::new(Servers::shared(), project.path(), legacy);
    let names = ["discounts", "--with-deps"];
    let plan = assert_comes_true(&program(&rehearsal).with("BATCH_SIZE", "900"), &names);
    assert_consistent(&plan);
    let offers = named(&plan, "entities", "entity", "offers");
    // Counted by the source itself.
    let idle = rehearsal.legacy_rows(
        "select count(*) from dispatch_offer o where not exists (
           select from dispatch_instruction i join dispatch_patient p on p.id = i.patient_id
           where p.doctor_id = o.doctor_id and not i.deleted)",
    );
    let idle: i64 = idle[0][0].parse().unwrap();
    assert!(idle > 0, "the data has no doctor without an order");
    assert_eq!(
        number(named(offers, "constraints", "name", "order_id"), "rows"),
        idle
    );
}

fn copy(from: &Path, at: &Path, to: &ProjectFolder) {
    for entry in std::fs::read_dir(from.join(at)).unwrap() {
        let name = at.join(entry.unwrap().file_name());
        if from.join(&name).is_dir() {
            copy(from, &name, to);
        } else {
            let text = std::fs::read_to_string(from.join(&name)).unwrap();
            to.write(&name.display().to_string(), &text);
        }
    }
}
