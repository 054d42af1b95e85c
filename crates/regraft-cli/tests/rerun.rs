//! A second run: nothing to do, or only what has become possible since.

mod village;

use regraft_testkit::{Dump, Legacy, Program, Rehearsal, Servers, dispatch};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const DIRTY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "1000")
}

#[track_caller]
fn migrate(rehearsal: &Rehearsal<'_>, mode: &str) -> serde_json::Value {
    let finished = program(rehearsal).run(&["--format", "json", "migrate", "--mode", mode]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    serde_json::from_str(&finished.stdout).expect("JSON")
}

/// Migrates orders and all that they rest on, in whatever mode fits.
#[track_caller]
fn core(rehearsal: &Rehearsal<'_>) {
    let finished = program(rehearsal).run(&["migrate", "orders", "--with-deps"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
}

#[test]
fn a_second_run_changes_no_byte_and_says_so() {
    let dispatch = dispatch();
    let village = village();
    for project in [dispatch.as_path(), village.path()] {
        for mode in ["in-place", "bulk"] {
            let rehearsal = Rehearsal::new(Servers::shared(), project, DIRTY);
            let empty = Dump::of_tables(&rehearsal.modern_url());
            let first = migrate(&rehearsal, mode);
            assert_eq!(first["nothing_to_do"], false);
            let before = Dump::of(&rehearsal.modern_url());
            before
                .catalog()
                .assert_same(&empty.catalog(), "the catalog after a run");
            let finished = program(&rehearsal).run(&["migrate"]);
            assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
            assert!(finished.says("Nothing to do"), "{finished}");
            let after = Dump::of(&rehearsal.modern_url());
            after
                .without_runs()
                .assert_same(&before.without_runs(), "after a second run");
            let written = rehearsal.modern_number(
                "select sum(inserted + updated)::bigint from regraft.migration_control where run_no = 2",
            );
            assert_eq!(written, 0);
        }
    }
}

/// The cause is mended in the source: the row follows, and everything that hung on it. In the end
/// the target is what it would have been with a sound source.
#[test]
fn mended_rows_follow_with_their_children() {
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
    core(&rehearsal);
    let open = "select count(*) from regraft.migration_quarantine where state = 'open'";
    let before = rehearsal.modern_number(open);
    let blocked = "select count(*) from regraft.migration_quarantine where state = 'open' and bucket = 'blocked'";
    let blocked_before = rehearsal.modern_number(blocked);
    rehearsal.legacy(
        "update auth_user set last_name = 'Short' where id in
           (select legacy_id::bigint from regraft_generator.regraft_dirt where kind = 'doctor_name_too_long');
         update dispatch_patient set suffix = 'X1' where id in
           (select legacy_id::bigint from regraft_generator.regraft_dirt
            where kind = 'suffix_too_long' and entity = 'patients');
         update dispatch_instruction set price = 1 where id in
           (select legacy_id::bigint from regraft_generator.regraft_dirt where kind = 'price_negative')",
    );
    core(&rehearsal);
    assert!(rehearsal.modern_number(open) < before);
    assert!(
        rehearsal.modern_number(blocked) < blocked_before,
        "children follow"
    );
    let left = rehearsal.modern_number(
        "select count(*) from regraft.migration_quarantine q join regraft.migration_mappings m
           using (entity, legacy_id) where q.state = 'open'",
    );
    assert_eq!(left, 0, "what was moved is no longer in quarantine");
    let fresh = rehearsal.again();
    core(&fresh);
    let fresh_dump = Dump::of_tables(&fresh.modern_url());
    Dump::of_tables(&rehearsal.modern_url())
        .assert_same(&fresh_dump, "mended against sound from the start");
    assert_eq!(rehearsal.modern_number(open), fresh.modern_number(open));
}

/// The same in a cycle: the boss of 17 is somebody after all.
#[test]
fn mended_rows_of_a_cycle_follow() {
    let village = village();
    for mode in ["in-place", "bulk"] {
        let rehearsal = Rehearsal::new(Servers::shared(), village.path(), DIRTY);
        migrate(&rehearsal, mode);
        rehearsal.legacy("update person set boss = 2 where id = 17; update pet set kind = 'cat' where kind = 'unicorn'");
        migrate(&rehearsal, "auto");
        let ids = "select legacy_id from regraft.migration_quarantine
                   where entity = 'people' and state = 'open' order by legacy_id::integer";
        assert_eq!(rehearsal.modern_rows(ids), [["120"], ["250"]], "{mode}");
        let fresh = rehearsal.again();
        migrate(&fresh, mode);
        // Homes that were in quarantine when their people were moved are a change of the people's
        // rows, and changes are not this command's business: they are left out of the comparison.
        let people = "select id, name, boss_id, email, born, legacy_id from people order by id";
        let pets = "select * from pets order by id";
        assert_eq!(
            rehearsal.modern_rows(people),
            fresh.modern_rows(people),
            "{mode}"
        );
        assert_eq!(
            rehearsal.modern_rows(pets),
            fresh.modern_rows(pets),
            "{mode}"
        );
    }
}

/// New rows of the source are moved, and only they.
#[test]
fn new_rows_are_added() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), DIRTY);
    migrate(&rehearsal, "bulk");
    rehearsal.legacy(
        "insert into person values (1000, 'New', 1, 1, 'new@example.org', '2024-01-01Z');
         insert into pet values (0, 1000, 'Early', 'cat', 1, 'T0'), (1000, 1000, 'Late', 'dog', 1, 'T1000')",
    );
    let outcome = migrate(&rehearsal, "auto");
    assert_eq!(outcome["receipt"]["total"]["inserted"], 3);
    assert_eq!(outcome["receipt"]["total"]["updated"], 0);
    assert_eq!(migrate(&rehearsal, "auto")["nothing_to_do"], true);
}

/// Without the index that makes it idempotent it refuses, and says how to get it back.
#[test]
fn without_the_index_of_its_mappings_it_refuses() {
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
    migrate(&rehearsal, "in-place");
    let before = Dump::of_tables(&rehearsal.modern_url());
    rehearsal.modern("drop index regraft.migration_mappings_patients_key");
    let refused = program(&rehearsal).expect(4, &["migrate"]);
    assert!(
        refused.says("moved twice") && refused.says("create unique index"),
        "{refused}"
    );
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, "after it refused");
    rehearsal.modern(
        "create unique index migration_mappings_patients_key on regraft.migration_mappings_patients ((legacy_id::bigint))",
    );
    assert_eq!(migrate(&rehearsal, "auto")["nothing_to_do"], true);
}
