//! What a run wrote can be taken back, and nothing else is.

#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod village;

use std::path::Path;

use regraft_testkit::{Dice, Dump, Legacy, Program, Rehearsal, Servers, dispatch};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const DIRTY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "50")
}

#[track_caller]
fn migrate(rehearsal: &Rehearsal<'_>, arguments: &[&str]) {
    let finished = program(rehearsal).run(&[&["migrate"], arguments].concat());
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
}

fn run_id(rehearsal: &Rehearsal<'_>, number: i32) -> String {
    let query = format!(
        "select run_id from regraft.migration_control where run_no = {number} and entity = '' and batch = 0"
    );
    rehearsal.modern_rows(&query).remove(0).remove(0)
}

/// Nothing of any run is left in the ledger's mappings and quarantine.
#[track_caller]
fn assert_forgotten(rehearsal: &Rehearsal<'_>) {
    for table in [
        "migration_mappings",
        "migration_quarantine",
        "migration_checkpoints",
    ] {
        let rows = rehearsal.modern_number(&format!("select count(*) from regraft.{table}"));
        assert_eq!(rows, 0, "{table}");
    }
}

#[test]
fn the_target_is_what_it_was() {
    let dispatch = dispatch();
    let village = village();
    for project in [dispatch.as_path(), village.path()] {
        for mode in ["in-place", "bulk"] {
            let rehearsal = Rehearsal::new(Servers::shared(), project, DIRTY);
            let before = Dump::of_tables(&rehearsal.modern_url());
            migrate(&rehearsal, &["--mode", mode, "--batch-size", "2000"]);
            let migrated = Dump::of_tables(&rehearsal.modern_url());
            let run = run_id(&rehearsal, 1);
            program(&rehearsal).expect(0, &["rollback", "--run", &run, "--yes"]);
            Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, "after the rollback");
            assert_forgotten(&rehearsal);
            migrate(&rehearsal, &["--mode", mode, "--batch-size", "2000"]);
            Dump::of_tables(&rehearsal.modern_url())
                .assert_same(&migrated, "after migrating again");
        }
    }
}

/// Without --yes and without a terminal it shows what it would do and does nothing.
#[test]
fn it_asks_first() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), DIRTY);
    migrate(&rehearsal, &[]);
    let before = Dump::of(&rehearsal.modern_url());
    let finished = program(&rehearsal).expect(2, &["rollback"]);
    assert!(finished.says("--yes"), "{finished}");
    Dump::of(&rehearsal.modern_url()).assert_same(&before, "after it asked");
}

#[test]
fn only_the_named_run_is_undone() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), DIRTY);
    migrate(&rehearsal, &[]);
    let first = Dump::of(&rehearsal.modern_url());
    rehearsal.legacy(
        "insert into person values (1000, 'New', 1, 1, 'new@example.org', '2024-01-01Z');
         insert into pet values (1000, 1000, 'New', 'cat', 1, 'T1000'), (1001, 3, 'Other', 'dog', 1, 'T1001')",
    );
    migrate(&rehearsal, &[]);
    assert_eq!(
        rehearsal.modern_number("select count(*) from pets where legacy_id >= 1000"),
        2
    );
    let second = run_id(&rehearsal, 2);
    program(&rehearsal).expect(0, &["rollback", "--run", &second, "--yes"]);
    let after = Dump::of(&rehearsal.modern_url());
    after
        .without_runs()
        .assert_same(&first.without_runs(), "after undoing the second run");
    // What one run of an entity wrote goes by the entity's name as well, its children with it.
    program(&rehearsal).expect(0, &["rollback", "pets", "--yes"]);
    assert_eq!(rehearsal.modern_number("select count(*) from pets"), 0);
    assert!(rehearsal.modern_number("select count(*) from people") > 0);
}

/// Rows of another run, or of nobody's, that refer to what would go stop a rollback.
#[test]
fn children_of_others_stand_in_the_way() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), DIRTY);
    migrate(&rehearsal, &["people", "houses"]);
    migrate(&rehearsal, &["pets"]);
    let before = Dump::of(&rehearsal.modern_url());
    let first = run_id(&rehearsal, 1);
    let refused = program(&rehearsal).expect(4, &["rollback", "--run", &first, "--yes"]);
    assert!(
        refused.says("pets") && refused.says("would stay"),
        "{refused}"
    );
    Dump::of(&rehearsal.modern_url()).assert_same(&before, "after it refused");
    program(&rehearsal).expect(0, &["rollback", "pets", "--yes"]);
    rehearsal.modern(
        "insert into pets (id, person_id, name) select gen_random_uuid(), id, 'ours' from people limit 1",
    );
    program(&rehearsal).expect(4, &["rollback", "--run", &first, "--yes"]);
    rehearsal.modern("delete from pets");
    program(&rehearsal).expect(0, &["rollback", "--run", &first, "--yes"]);
    assert_eq!(rehearsal.modern_number("select count(*) from people"), 0);
    assert_forgotten(&rehearsal);
}

/// Ends a bulk load in the middle, then undoes it: rows gone, indexes and constraints back.
fn undo_what_was_cut(project: &Path, entities: &[&str], failpoint: Option<&str>, dice: &mut Dice) {
    let selection = [entities, &["--mode", "bulk"]].concat();
    let arguments = [&["migrate"], &*selection].concat();
    let rehearsal = Rehearsal::new(Servers::shared(), project, DIRTY);
    let before = Dump::of_tables(&rehearsal.modern_url());
    let what = match failpoint {
        Some(point) => {
            let finished = program(&rehearsal)
                .with("FAILPOINTS", point)
                .run(&arguments);
            assert!(finished.signal.is_some(), "{point}:\n{finished}");
            point.to_owned()
        }
        None => {
            let moment = std::time::Duration::from_millis(250 + dice.below(1_000));
            program(&rehearsal).start(&arguments).kill_after(moment);
            format!("killed after {moment:?}, seed {}", dice.seed())
        }
    };
    if rehearsal
        .modern_rows("select 1 from pg_namespace where nspname = 'regraft'")
        .is_empty()
    {
        return;
    }
    let finished = program(&rehearsal).expect(0, &["rollback", "--yes"]);
    let after = Dump::of_tables(&rehearsal.modern_url());
    after.assert_same(&before, &format!("{what}, then:\n{finished}"));
    // The slate is clean: a migration begins anew and ends well.
    migrate(&rehearsal, &selection);
    let fresh = rehearsal.again();
    migrate(&fresh, &selection);
    Dump::of_tables(&rehearsal.modern_url())
        .assert_same(&Dump::of_tables(&fresh.modern_url()), &what);
}

#[test]
fn a_bulk_load_that_was_killed_is_undone_with_its_indexes() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let village = village();
    for point in [
        "after-drop=return(abort)",
        "after-drop=2*off->return(abort)",
        "before-commit=12*off->return(abort)",
        "during-rebuild=4*off->return(abort)",
        "before-finish=return(abort)",
    ] {
        undo_what_was_cut(village.path(), &[], Some(point), &mut dice);
    }
    for _ in 0..2 {
        undo_what_was_cut(&dispatch(), &["orders", "--with-deps"], None, &mut dice);
    }
}

/// A rollback that dies before a commit is done by the next one.
#[test]
fn a_rollback_that_was_killed_is_finished_by_the_next() {
    let village = village();
    for n in 0..3 {
        let rehearsal = Rehearsal::new(Servers::shared(), village.path(), DIRTY);
        let before = Dump::of_tables(&rehearsal.modern_url());
        migrate(&rehearsal, &["--mode", "bulk"]);
        let point = format!("before-rollback-commit={n}*off->return(abort)");
        let cut = program(&rehearsal)
            .with("FAILPOINTS", &point)
            .run(&["rollback", "--yes"]);
        assert!(cut.signal.is_some(), "{point}:\n{cut}");
        program(&rehearsal).expect(0, &["rollback", "--yes"]);
        Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, &point);
        assert_forgotten(&rehearsal);
    }
}
