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
