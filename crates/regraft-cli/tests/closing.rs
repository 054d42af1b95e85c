//! `validate --final`: one verdict on the whole migration, and every way in which it is not finished.

mod village;

use regraft_testkit::{Legacy, Program, Rehearsal, Servers};
use serde_json::Value;
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "50")
}

/// The final validation; its findings as `check: what`, without those of single entities.
#[track_caller]
fn verdict(rehearsal: &Rehearsal<'_>, code: i32) -> Vec<String> {
    let found = program(rehearsal).json(code, &["validate", "--final"]);
    assert_eq!(found["passed"], code == 0, "{found}");
    findings(&found["migration"])
}

fn findings(checks: &Value) -> Vec<String> {
    let checks = checks.as_array().expect("checks");
    assert_eq!(checks.len(), 4, "{checks:?}");
    let mut found = Vec::new();
    for check in checks {
        for finding in check["findings"].as_array().expect("findings") {
            found.push(format!(
                "{}: {}",
                check["name"].as_str().unwrap(),
                finding["what"].as_str().unwrap()
            ));
        }
    }
    found
}

#[track_caller]
fn assert_only(found: &[String], parts: &[&str]) {
    assert_eq!(found.len(), 1, "{found:#?}");
    for part in parts {
        assert!(found[0].contains(part), "{part}: {found:#?}");
    }
}

#[test]
fn a_finished_migration_is_called_finished_and_recorded() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let finished = program(&rehearsal).expect(0, &["validate", "--final"]);
    assert!(finished.says("complete and valid"), "{finished}");
    let records = "select count(*) from regraft.migration_validation_reports
                   where validation_type = 'final_check' and entity = '' and validation_passed";
    assert_eq!(rehearsal.modern_number(records), 1);
    // The validation of entities is another thing, and says nothing of the whole.
    let part = program(&rehearsal).json(0, &["validate"]);
    assert!(part.get("migration").is_none(), "{part}");
}

#[test]
fn what_was_not_migrated_or_is_unfinished_is_named() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(2, &["validate", "--final"]);
    program(&rehearsal).expect(0, &["migrate", "people", "houses"]);
    assert_only(
        &verdict(&rehearsal, 1),
        &["entities: pets", "gives 400 rows", "regraft migrate pets"],
    );
    let cut = program(&rehearsal)
        .with("FAILPOINTS", "after-commit=6*off->return(abort)")
        .run(&["migrate", "pets"]);
    assert!(cut.signal.is_some(), "{cut}");
    let found = verdict(&rehearsal, 1);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[1].contains("is running with pets"), "{found:#?}");
    program(&rehearsal).expect(0, &["migrate"]);
    assert_eq!(verdict(&rehearsal, 0), Vec::<String>::new());
    program(&rehearsal).expect(0, &["rollback", "pets", "--yes"]);
    assert_only(&verdict(&rehearsal, 1), &["entities: pets"]);
}

#[test]
fn a_catalog_that_changed_and_figures_that_do_not_balance_are_named() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.modern("drop index people_boss");
    assert_only(&verdict(&rehearsal, 1), &["catalog: ", "schema diff"]);
    rehearsal.modern("create index people_boss on people (boss_id) where boss_id is not null; comment on index people_boss is 'who works for whom'");
    assert_eq!(verdict(&rehearsal, 0), Vec::<String>::new());
    rehearsal.modern(
        "update regraft.migration_control set source_rows = source_rows + 3, filtered = filtered + 3
         where entity = 'pets' and batch = 0",
    );
    assert_only(&verdict(&rehearsal, 1), &["runs: the account of pets"]);
}

#[test]
fn more_in_quarantine_than_the_project_allows_is_named_with_the_limit() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let manifest = village.path().join("regraft.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"50%\"", "3")).unwrap();
    let found = verdict(&rehearsal, 1);
    assert!(
        found
            .iter()
            .any(|what| what.starts_with("quarantine: pets:")
                && what.contains("the project allows 3")),
        "{found:#?}"
    );
    // An entity that the project no longer has is not passed over.
    std::fs::write(&manifest, &text).unwrap();
    std::fs::remove_file(village.path().join("entities/pets.toml")).unwrap();
    let found = verdict(&rehearsal, 1);
    assert_only(&found, &["entities: pets: it is no entity of this project"]);
}

/// Whatever command died, it is reported until its own finishes it, and nothing else begins before.
#[test]
fn a_run_of_any_command_that_died_is_told_of_until_it_is_finished() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.legacy("update pet set weight = 5 where id = 89");
    let retry = [
        "quarantine",
        "retry",
        "--entity",
        "pets",
        "--legacy-id",
        "89",
    ];
    let backfill = ["backfill", "--entity", "pets", "--columns", "name"];
    let migrate = ["migrate"];
    for (die, others, finish) in [
        (
            &retry[..],
            &[&backfill[..]][..],
            "regraft quarantine retry --entity pets",
        ),
        (
            &backfill[..],
            &[&retry[..], &migrate],
            "regraft backfill --entity pets --columns name",
        ),
    ] {
        let cut = program(&rehearsal)
            .with("FAILPOINTS", "before-commit=3*off->return(abort)")
            .run(die);
        assert!(cut.signal.is_some(), "{die:?}: {cut}");
        for other in others
            .iter()
            .chain([&&["mappings", "rebuild", "--yes"][..]])
        {
            let refused = program(&rehearsal).expect(2, other);
            assert!(
                refused.says("is unfinished") && refused.says(finish),
                "{die:?}, {other:?}: {refused}"
            );
        }
        let dry = program(&rehearsal).expect(2, &["migrate", "--dry-run"]);
        assert!(dry.says(finish), "{die:?}: {dry}");
        let status = program(&rehearsal).expect(0, &["status"]);
        assert!(
            status.says(finish) && status.says("no process is at work"),
            "{die:?}: {status}"
        );
        let found = verdict(&rehearsal, 1);
        assert!(
            found.iter().any(|f| f.starts_with("runs: ")
                && f.contains("is running with pets")
                && f.contains(finish)),
            "{found:#?}"
        );
        let line: Vec<&str> = finish.split(' ').skip(1).collect();
        let finished = program(&rehearsal).run(&line);
        assert!(matches!(finished.code, Some(0 | 1)), "{die:?}: {finished}");
        let status = program(&rehearsal).json(0, &["status"]);
        assert_eq!(status["unfinished"], serde_json::json!([]), "{die:?}");
    }
}

/// A rollback that died, and a later run that is done: what was left is still left.
#[test]
fn a_rollback_that_died_is_told_of_until_nothing_of_it_is_left() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let cut = program(&rehearsal)
        .with("FAILPOINTS", "before-rollback-commit=1*off->return(abort)")
        .run(&["rollback", "--yes"]);
    assert!(cut.signal.is_some(), "{cut}");
    let refused = program(&rehearsal).expect(2, &["migrate"]);
    assert!(
        refused.says("finish it with `regraft rollback`"),
        "{refused}"
    );
    // A later run that is done does not hide it.
    rehearsal.modern(
        "insert into regraft.migration_control (run_no, run_id, command, status)
         values (50, 'migrate_later', 'migrate', 'done')",
    );
    let found = verdict(&rehearsal, 1);
    assert!(
        found
            .iter()
            .any(|f| f.starts_with("runs: rollback_")
                && f.contains("is running with houses, people")),
        "{found:#?}"
    );
    rehearsal.modern("delete from regraft.migration_control where run_no = 50");
    // Part of the rest is not all of it.
    program(&rehearsal).expect(0, &["rollback", "pets", "--yes"]);
    let status = program(&rehearsal).json(0, &["status"]);
    assert_eq!(
        status["unfinished"][0]["left"],
        serde_json::json!(["houses", "people"]),
        "{status}"
    );
    program(&rehearsal).expect(0, &["rollback", "--yes"]);
    let status = program(&rehearsal).json(0, &["status"]);
    assert_eq!(status["unfinished"], serde_json::json!([]), "{status}");
    program(&rehearsal).expect(0, &["migrate"]);
    assert_eq!(verdict(&rehearsal, 0), Vec::<String>::new());
}
