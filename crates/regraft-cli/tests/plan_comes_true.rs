//! What the plan foresees is what then happens, also where the target demands too much.

mod demanding;
mod planned;
mod street;

use std::path::Path;

use planned::{assert_consistent, lines, list, named, number, program, rehearse};
use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers, dispatch};
use serde_json::Value;
use street::street;

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
            ("merged", "merged"),
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

/// Of shops 1 and 2 with the same street one is moved; 4 waits for 3, which has no name.
#[test]
fn rows_that_are_merged_are_planned_as_such() {
    let project = street();
    let rehearsal = rehearse(&project);
    let plan = assert_comes_true(&program(&rehearsal), &[]);
    let shops = named(&plan, "entities", "entity", "shops");
    let of = |name: &str| number(shops, name);
    let buckets = [
        of("to_move"),
        of("merged"),
        of("quarantined"),
        of("blocked"),
    ];
    assert_eq!(buckets, [2, 1, 1, 1]);
    assert_eq!(
        lines(&plan, "sales", "shop_id")[2..],
        [
            "set 5",
            "parent_in_source 5",
            "parent_kept 5",
            "parent_moved 3",
            "- 1 parent_quarantined shops not_null:name: 3",
            "- 1 parent_blocked shops blocked_parent:id: 4",
        ]
    );
    assert_eq!(
        lines(&plan, "shops", "town_id"),
        [
            "source_rows 5",
            "kept 3",
            "- 2 merged: 2 4",
            "set 1",
            "- 2 null: 1 3",
            "parent_in_source 1",
            "parent_kept 1",
            "parent_moved 1",
        ]
    );
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
