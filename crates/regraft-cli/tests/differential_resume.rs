//! A differential migration that was left unfinished says what it goes on from, and refuses to go on
//! with anything else than what it was begun with.

mod town;

use regraft_testkit::{Rehearsal, Servers};
use town::{DATA, LEGACY, program, town};

const MIGRATE: [&str; 4] = ["differential", "migrate", "--entities", "all"];
const RESUME: [&str; 4] = ["differential", "resume", "--entity", "houses"];

/// What can't be done is refused before a run is begun.
#[test]
fn a_way_without_means_leaves_no_run() {
    let folder = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let entities = folder.path().join("entities");
    for file in std::fs::read_dir(entities).expect("the folder is there") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("it is there");
        let without = text.lines().filter(|line| !line.starts_with("newest"));
        let without: String = without.map(|line| format!("{line}\n")).collect();
        std::fs::write(path, without).expect("it can be written");
    }
    let runs = "select count(*) from regraft.migration_control";
    let before = rehearsal.modern_number(runs);
    let newest = [&MIGRATE[..], &["--conflict-resolution", "newest"]].concat();
    let refused = program(&rehearsal).expect(2, &newest);
    assert!(refused.says("doesn't say which side is newer"), "{refused}");
    assert_eq!(rehearsal.modern_number(runs), before);
}

#[test]
fn what_changed_in_between_is_named_and_refused() {
    let folder = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.legacy("update house set label = 'other ' || id");
    let interrupted = program(&rehearsal).with("FAILPOINTS", "before-commit=12*off->1*return");
    let stopped = interrupted.run(&MIGRATE);
    assert_ne!(
        stopped.code,
        Some(0),
        "the failpoint was not reached: {stopped}"
    );

    let houses = folder.path().join("entities/houses.toml");
    let text = std::fs::read_to_string(&houses).expect("it is there");
    let other = format!("{text}# a remark\n");
    std::fs::write(&houses, other).expect("it can be written");
    let refused = program(&rehearsal).expect(2, &RESUME);
    assert!(
        refused.says("the project (entities/houses.toml) changed since"),
        "{refused}"
    );
    std::fs::write(&houses, text).expect("it can be written");

    rehearsal.legacy("alter table room add column floor integer");
    let refused = program(&rehearsal).expect(2, &RESUME);
    assert!(
        refused.says("the source's schema (public.room) changed since"),
        "{refused}"
    );
    rehearsal.legacy("alter table room drop column floor");

    rehearsal.modern("create index something_new on rooms (id)");
    let refused = program(&rehearsal).expect(2, &RESUME);
    assert!(
        refused.says("the target's schema (public.rooms) changed since"),
        "{refused}"
    );
    rehearsal.modern("drop index something_new");

    let resumed = program(&rehearsal).expect(0, &RESUME);
    assert!(resumed.says("resuming differential_"), "{resumed}");
    assert!(resumed.says("houses: "), "{resumed}");
    let labels = "select count(*) from houses where label = 'other ' || legacy_id";
    let expected = "select count(*) from house where id % 50 <> 0";
    let expected: i64 = rehearsal.legacy_rows(expected)[0][0]
        .parse()
        .expect("a number");
    assert_eq!(rehearsal.modern_number(labels), expected);
    let again = program(&rehearsal).expect(0, &MIGRATE);
    assert!(again.says("Nothing to do"), "{again}");
}
