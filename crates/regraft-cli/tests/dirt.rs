//! What is wrong in the legacy data is found and named, row by row, and nothing else is.

mod village;

use std::collections::{BTreeMap, BTreeSet};

use regraft_testkit::{Legacy, Program, Rehearsal, Servers, dispatch};
use serde_json::Value;
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

/// (entity, legacy id) with its bucket and every reason, in the words of the manifest.
type Findings = BTreeMap<(String, String), (String, BTreeSet<String>)>;

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "400")
}

/// Migrates, whether or not more stays behind than the project's budget allows.
fn migrate(rehearsal: &Rehearsal<'_>, mode: &str) {
    let finished = program(rehearsal).run(&["migrate", "--mode", mode]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
}

/// What the generator's manifest says of every row that can't be moved.
fn injected(rehearsal: &Rehearsal<'_>) -> Findings {
    let rows = rehearsal.legacy_rows(
        "select d.entity, d.legacy_id, e.bucket, d.expect
         from regraft_generator.regraft_dirt d
         join regraft_generator.expected e using (entity, legacy_id)
         where e.bucket in ('quarantined', 'blocked') and d.expect ~ '^(quarantined|blocked):'",
    );
    collect(rows)
}

/// What the program found.
fn found(rehearsal: &Rehearsal<'_>) -> Findings {
    let rows = rehearsal.modern_rows(
        "select q.entity, q.legacy_id, q.bucket,
                case when r ->> 'code' = 'blocked_parent' then 'blocked:' || (r ->> 'parent')
                     else 'quarantined:' || (r ->> 'code') || ':' || coalesce(r ->> 'constraint', r ->> 'column', '')
                end
         from regraft.migration_quarantine q, jsonb_array_elements(q.reasons) r
         where q.state = 'open'",
    );
    collect(rows)
}

fn collect(rows: Vec<Vec<String>>) -> Findings {
    let mut findings = Findings::new();
    for row in rows {
        let [entity, id, bucket, reason] = <[String; 4]>::try_from(row).expect("four columns");
        let finding = findings
            .entry((entity, id))
            .or_insert((bucket, BTreeSet::new()));
        finding.1.insert(reason);
    }
    findings
}

#[track_caller]
fn assert_found(expected: &Findings, found: &Findings, what: &str) {
    let mut wrong = Vec::new();
    for (row, finding) in expected {
        match found.get(row) {
            Some(other) if other == finding => {}
            other => wrong.push(format!("{row:?}: injected {finding:?}, found {other:?}")),
        }
    }
    let clean = found.iter().filter(|(row, _)| !expected.contains_key(row));
    wrong.extend(
        clean.map(|(row, finding)| format!("{row:?}: nothing injected, found {finding:?}")),
    );
    let shown = wrong
        .iter()
        .take(20)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        wrong.is_empty(),
        "{what}: {} rows are wrong:\n{shown}",
        wrong.len()
    );
}

/// Every kind of fault that keeps a row of the core out.
fn kinds(rehearsal: &Rehearsal<'_>) -> usize {
    let query = "select distinct kind from regraft_generator.regraft_dirt
                 where entity is not null and expect ~ '^(quarantined|blocked):'";
    rehearsal.legacy_rows(query).len()
}

#[test]
fn every_fault_is_named_and_no_clean_row_is() {
    for (seed, dirt, mode) in [(1, 1.0, "in-place"), (2, 6.0, "bulk")] {
        let legacy = Legacy {
            scale: 0.04,
            seed,
            dirt,
        };
        let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), legacy);
        let expected = injected(&rehearsal);
        assert!(
            kinds(&rehearsal) > 25,
            "the generator injects what it should"
        );
        migrate(&rehearsal, mode);
        assert_found(
            &expected,
            &found(&rehearsal),
            &format!("{legacy:?}, {mode}"),
        );
        every_other_row_is_there(&rehearsal);
    }
}

/// Rows that the manifest expects to be kept have a mapping, and rows to be filtered have none.
fn every_other_row_is_there(rehearsal: &Rehearsal<'_>) {
    let expected = rehearsal.legacy_rows(
        "select entity, legacy_id, bucket from regraft_generator.expected where bucket in ('kept', 'filtered')",
    );
    let mapped: BTreeSet<(String, String)> = rehearsal
        .modern_rows("select entity, legacy_id from regraft.migration_mappings")
        .into_iter()
        .map(|mut row| (row.remove(0), row.remove(0)))
        .collect();
    let wrong: Vec<&Vec<String>> = expected
        .iter()
        .filter(|row| mapped.contains(&(row[0].clone(), row[1].clone())) != (row[2] == "kept"))
        .collect();
    assert!(wrong.is_empty(), "not as the manifest says: {wrong:?}");
}

#[test]
fn without_dirt_nothing_stays_behind() {
    let legacy = Legacy {
        scale: 0.04,
        seed: 3,
        dirt: 0.0,
    };
    for mode in ["in-place", "bulk"] {
        let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), legacy);
        program(&rehearsal).expect(0, &["migrate", "--mode", mode]);
        assert_eq!(found(&rehearsal), Findings::new(), "{mode}");
        let wrong = rehearsal.modern_number(
            "select count(*) from regraft.migration_control
             where inserted + filtered <> source_rows or synthesised <> 0",
        );
        assert_eq!(wrong, 0, "{mode}: every source row was moved or filtered");
    }
}

/// Sums of money by status to the cent, and times to the microsecond, as each server has them.
#[test]
fn money_and_times_are_the_same_to_the_last_digit() {
    let legacy = Legacy {
        scale: 0.04,
        seed: 4,
        dirt: 0.0,
    };
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), legacy);
    program(&rehearsal).expect(0, &["migrate", "payments", "--with-deps"]);
    let sums = |columns: [&str; 5]| -> String {
        let sums = columns.map(|c| format!(", trim_scale(coalesce(sum({c}), 0))"));
        sums.concat()
    };
    let before = rehearsal.legacy_rows(&format!(
        "select case when canceled then 'cancelled' when paid then 'completed' else 'pending' end as status,
                count(*){} from dispatch_payment group by 1 order by 1",
        sums(["total_price", "subtotal_price", "tax_value", "paid_price", "used_credit"])
    ));
    let after = rehearsal.modern_rows(&format!(
        "select status::text, count(*){} from payments group by 1 order by 1",
        sums([
            "total_amount",
            "subtotal_amount",
            "tax_amount",
            "paid_amount",
            "credit_used"
        ])
    ));
    assert_eq!(before.len(), 3, "payments of every status: {before:?}");
    assert_eq!(after, before);
    let times = |id: &str| {
        format!(
            "select count(*), md5(string_agg({id} || ' ' || coalesce(extract(epoch from submitted_at)::text, '-'),
                             ',' order by {id}))"
        )
    };
    let before =
        rehearsal.legacy_rows(&(times("id") + " from dispatch_instruction where not deleted"));
    let after = rehearsal.modern_rows(&(times("legacy_instruction_id") + " from orders"));
    assert_eq!(after, before);
}

/// Rows by entity, bucket and reason, as the plan predicts them.
fn predicted(plan: &Value) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for entity in plan["entities"].as_array().expect("entities") {
        let name = entity["entity"].as_str().expect("a name");
        counts.insert(
            format!("{name} to move"),
            entity["to_move"].as_i64().expect("a number"),
        );
        counts.insert(
            format!("{name} rows"),
            entity["source_rows"].as_i64().expect("a number"),
        );
        for filter in entity["filters"].as_array().expect("filters") {
            let key = format!("{name} filter {}", filter["name"].as_str().expect("a name"));
            let rows = filter["rows"].as_i64().expect("a number");
            if rows > 0 {
                counts.insert(key, rows);
            }
        }
        for prediction in entity["predictions"].as_array().expect("predictions") {
            let code = prediction["code"].as_str().expect("a code");
            let place = prediction["place"]
                .as_str()
                .map(|p| format!(":{p}"))
                .unwrap_or_default();
            let rows = prediction["rows"].as_i64().expect("a number");
            *counts.entry(format!("{name} {code}{place}")).or_default() += rows;
        }
    }
    counts
}

/// The same of what the migration did.
fn done(outcome: &Value) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for entity in outcome["receipt"]["entities"].as_array().expect("entities") {
        let name = entity["entity"].as_str().expect("a name");
        let account = &entity["account"];
        counts.insert(
            format!("{name} to move"),
            account["inserted"].as_i64().expect("a number"),
        );
        counts.insert(
            format!("{name} rows"),
            account["source_rows"].as_i64().expect("a number"),
        );
        for (kind, prefix) in [("filters", "filter "), ("reasons", "")] {
            for (key, rows) in account["detail"][kind].as_object().into_iter().flatten() {
                counts.insert(
                    format!("{name} {prefix}{key}"),
                    rows.as_i64().expect("a number"),
                );
            }
        }
    }
    counts
}

#[track_caller]
fn assert_counts(plan: &BTreeMap<String, i64>, done: &BTreeMap<String, i64>, what: &str) {
    let keys: BTreeSet<&String> = plan.keys().chain(done.keys()).collect();
    let wrong: Vec<String> = keys
        .iter()
        .filter(|key| plan.get(**key) != done.get(**key))
        .map(|key| {
            format!(
                "{key}: planned {:?}, done {:?}",
                plan.get(*key),
                done.get(*key)
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// Holds what a plan predicts against what a migration then does.
fn plan_and_migrate(project: &std::path::Path, mode: &str) {
    let legacy = Legacy {
        scale: 0.04,
        seed: 2,
        dirt: 6.0,
    };
    let rehearsal = Rehearsal::new(Servers::shared(), project, legacy);
    let program = program(&rehearsal);
    let plan = predicted(&program.json(0, &["plan"]));
    let finished = program.run(&["--format", "json", "migrate", "--mode", mode]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let outcome = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_counts(&plan, &done(&outcome), mode);
}

#[test]
fn the_plan_says_what_then_happens() {
    for mode in ["in-place", "bulk"] {
        plan_and_migrate(&dispatch(), mode);
    }
}

#[test]
fn the_plan_says_what_then_happens_in_a_village() {
    let village = village();
    for mode in ["in-place", "bulk"] {
        plan_and_migrate(village.path(), mode);
    }
}

/// Of rows that are equal under a unique key the first is moved: the first that can be.
#[test]
fn a_row_whose_double_stays_behind_is_moved() {
    let village = village();
    let legacy = Legacy {
        scale: 1.0,
        seed: 1,
        dirt: 1.0,
    };
    for mode in ["in-place", "bulk"] {
        let rehearsal = Rehearsal::new(Servers::shared(), village.path(), legacy);
        // Pets 101, 202 and 303 have the tag of 5.
        rehearsal.legacy("update pet set weight = -1 where id = 5");
        migrate(&rehearsal, mode);
        let moved = rehearsal.modern_rows("select legacy_id from pets where tag = 'T5'");
        assert_eq!(moved, [["101"]], "{mode}");
    }
}

/// A dry run gives the same account and leaves nothing, not even a ledger.
#[test]
fn a_dry_run_says_what_then_happens_and_leaves_nothing() {
    let legacy = Legacy {
        scale: 0.04,
        seed: 2,
        dirt: 6.0,
    };
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), legacy);
    let before = regraft_testkit::Dump::of(&rehearsal.modern_url());
    let run = |arguments: &[&str]| {
        let finished = program(&rehearsal).run(arguments);
        assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
        done(&serde_json::from_str(&finished.stdout).expect("JSON"))
    };
    let rehearsed = run(&["--format", "json", "migrate", "--dry-run"]);
    regraft_testkit::Dump::of(&rehearsal.modern_url()).assert_same(&before, "after the dry run");
    let migrated = run(&["--format", "json", "migrate"]);
    assert_counts(&rehearsed, &migrated, "dry run against migration");
}

/// The village's faults are known by hand: in both modes the same rows stay behind.
#[test]
fn both_modes_leave_the_same_rows_behind() {
    let village = village();
    let legacy = Legacy {
        scale: 1.0,
        seed: 1,
        dirt: 1.0,
    };
    let mut by_mode = Vec::new();
    for mode in ["in-place", "bulk"] {
        let rehearsal = Rehearsal::new(Servers::shared(), village.path(), legacy);
        migrate(&rehearsal, mode);
        let found = found(&rehearsal);
        let reason = |entity: &str, id: &str| {
            let finding = found.get(&(entity.to_owned(), id.to_owned()));
            finding
                .map(|(_, reasons)| reasons.iter().cloned().collect::<Vec<_>>().join(" "))
                .unwrap_or_default()
        };
        assert_eq!(
            reason("people", "17"),
            "quarantined:missing_parent:boss_id",
            "{mode}"
        );
        assert_eq!(reason("people", "48"), "blocked:people", "{mode}");
        assert_eq!(
            reason("people", "120"),
            "quarantined:unique_violation:one_email",
            "{mode}"
        );
        assert_eq!(
            reason("houses", "40"),
            "quarantined:missing_parent:owner_id",
            "{mode}"
        );
        assert_eq!(
            reason("pets", "97"),
            "quarantined:foreign_key_violation:pets_kind_fkey",
            "{mode}"
        );
        assert_eq!(
            reason("pets", "89"),
            "quarantined:check_violation:heavy",
            "{mode}"
        );
        assert_eq!(
            reason("pets", "101"),
            "quarantined:unique_violation:pets_tag",
            "{mode}"
        );
        for pet in ["210", "330"] {
            assert_eq!(
                reason("pets", pet),
                "quarantined:unique_violation:pets_name",
                "{mode}"
            );
        }
        assert_eq!(reason("pets", "333"), "quarantined:not_null:name", "{mode}");
        assert_eq!(reason("pets", "16"), "blocked:people", "{mode}");
        by_mode.push(found);
    }
    assert_found(&by_mode[0], &by_mode[1], "in place against bulk");
}
