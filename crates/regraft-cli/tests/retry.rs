//! Rows of the quarantine are tried again: they, what they wait for and what waits for them.

mod village;

use regraft_testkit::{Dice, Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "3")
}

#[track_caller]
fn migrated(village: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    migrate(&rehearsal);
    rehearsal
}

#[track_caller]
fn migrate(rehearsal: &Rehearsal<'_>) {
    let finished = Program::on(REGRAFT, rehearsal).run(&["migrate"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
}

fn open(rehearsal: &Rehearsal<'_>, entity: &str) -> Vec<String> {
    let query = format!(
        "select legacy_id from regraft.migration_quarantine
         where entity = '{entity}' and state = 'open' order by legacy_id::integer"
    );
    let rows = rehearsal.modern_rows(&query);
    rows.into_iter().map(|mut row| row.remove(0)).collect()
}

/// The boss of 17 is somebody after all, and new people and pets have come meanwhile.
const MEND: &str = "
update person set boss = 2 where id = 17;
insert into person values (1000, 'New', 1, 1, 'new@example.org', '2024-01-01Z');
insert into pet values (1000, 1000, 'Late', 'cat', 1, 'T1000');
update pet set weight = 5 where id = 89";

#[test]
fn a_row_and_all_that_wait_for_it_and_nothing_else() {
    let village = village();
    let rehearsal = migrated(&village);
    let waiting = open(&rehearsal, "people");
    assert!(waiting.len() > 5, "{waiting:?}");
    rehearsal.legacy(MEND);
    let finished = program(&rehearsal).run(&[
        "quarantine",
        "retry",
        "--entity",
        "people",
        "--legacy-id",
        "17",
    ]);
    // Pet 89 would do as well, but nobody asked for it.
    assert_eq!(open(&rehearsal, "people"), ["120", "250"], "{finished}");
    assert!(open(&rehearsal, "pets").contains(&"89".to_owned()));
    let new = rehearsal.modern_number("select count(*) from people where legacy_id = 1000");
    assert_eq!(new, 0, "new rows are not this command's business");
    let unlinked = rehearsal
        .modern_number("select count(*) from people p where p.boss_id is null and p.legacy_id > 5");
    assert_eq!(unlinked, 0, "bosses are filled in");
    let validated = program(&rehearsal).run(&["validate", "pets"]);
    assert!(
        validated.says("not accounted for"),
        "the pet that came is missing, and is told:\n{validated}"
    );
    rehearsal.legacy("delete from pet where id = 1000; delete from person where id = 1000");
    program(&rehearsal).expect(0, &["validate", "pets"]);
    let again = program(&rehearsal).expect(
        0,
        &[
            "quarantine",
            "retry",
            "--entity",
            "people",
            "--legacy-id",
            "17",
        ],
    );
    assert!(again.says("nothing to do"), "{again}");
}

/// A blocked row brings the row it waits for along.
#[test]
fn what_it_waits_for_comes_first() {
    let village = village();
    let rehearsal = migrated(&village);
    rehearsal.legacy("update person set boss = 2 where id = 17");
    let before = open(&rehearsal, "pets").len();
    program(&rehearsal).run(&["quarantine", "retry", "--reason", "blocked_parent"]);
    assert_eq!(open(&rehearsal, "people"), ["120", "250"]);
    assert!(open(&rehearsal, "pets").len() < before);
    let fresh = rehearsal.again();
    migrate(&fresh);
    for table in ["people", "pets"] {
        let query = match table {
            "people" => "select id, name, boss_id, email, born from people order by id",
            _ => "select * from pets order by id",
        };
        assert_eq!(
            rehearsal.modern_rows(query),
            fresh.modern_rows(query),
            "{table}"
        );
    }
}

#[test]
fn by_reason_and_dry() {
    let village = village();
    let rehearsal = migrated(&village);
    rehearsal.legacy("update pet set weight = 5 where id % 89 = 0");
    let before = Dump::of(&rehearsal.modern_url());
    let arguments = ["quarantine", "retry", "--reason", "check_violation:heavy"];
    let dry = program(&rehearsal).expect(0, &[&arguments[..], &["--dry-run"]].concat());
    assert!(dry.says("No changes were made"), "{dry}");
    Dump::of(&rehearsal.modern_url()).assert_same(&before, "after a dry run");
    program(&rehearsal).expect(0, &arguments);
    let heavy = rehearsal.modern_number(
        "select count(*) from regraft.migration_quarantine
         where state = 'open' and reasons::text like '%heavy%'",
    );
    assert_eq!(heavy, 0);
    let runs = program(&rehearsal).expect(0, &["runs"]);
    assert!(runs.says("retry_"), "{runs}");
    let run = rehearsal.modern_rows(
        "select run_id from regraft.migration_control where command = 'retry' and entity = ''",
    );
    program(&rehearsal).expect(0, &["rollback", "--run", &run[0][0], "--yes"]);
    let pets = "select * from pets order by id";
    let fresh = rehearsal.again();
    fresh.legacy("update pet set weight = -1 where id % 89 = 0");
    migrate(&fresh);
    assert_eq!(rehearsal.modern_rows(pets), fresh.modern_rows(pets));
}

/// Killed at some commit, it is finished by whatever comes next.
#[test]
fn killed_and_finished_by_the_next() {
    let mut dice = Dice::from_environment();
    let village = village();
    let first = migrated(&village);
    first.legacy("update person set boss = 2 where id = 17");
    let arguments = ["quarantine", "retry", "--all"];
    program(&first).run(&arguments);
    let tables = ["people", "pets", "houses"];
    let rows = |rehearsal: &Rehearsal<'_>| {
        tables.map(|t| rehearsal.modern_rows(&format!("select * from {t} order by id")))
    };
    let expected = rows(&first);
    for next in [&["migrate"][..], &arguments] {
        for point in ["before-commit", "after-commit"] {
            let n = dice.below(14);
            let rehearsal = first.again();
            rehearsal.legacy("update person set boss = 9999 where id = 17");
            migrate(&rehearsal);
            rehearsal.legacy("update person set boss = 2 where id = 17");
            let failpoint = format!("{point}={n}*off->return(abort)");
            program(&rehearsal)
                .with("FAILPOINTS", &failpoint)
                .run(&arguments);
            let finished = program(&rehearsal).run(next);
            assert!(
                matches!(finished.code, Some(0 | 1)),
                "{failpoint}: {finished}"
            );
            assert_eq!(rows(&rehearsal), expected, "{failpoint}, {next:?}");
        }
    }
}

#[test]
fn wrong_usage() {
    let village = village();
    let rehearsal = migrated(&village);
    let finished = program(&rehearsal).expect(2, &["quarantine", "retry"]);
    assert!(finished.says("--all"), "{finished}");
    let finished = program(&rehearsal).expect(2, &["quarantine", "retry", "--entity", "peple"]);
    assert!(finished.says("did you mean"), "{finished}");
}
