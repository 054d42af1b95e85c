//! A differential migration that is killed or doubled comes to what it would have come to without; and
//! what it did can be undone.
//!
//! `REGRAFT_TEST_KILLS` is the number of kills at random moments (20 if not set),
//! `REGRAFT_TEST_SEED` the seed that a failed test printed.
#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod town;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use regraft_pg::{Session, SessionOptions, Side};
use regraft_testkit::{
    Dice, Dump, Finished, ProjectFolder, Rehearsal, Running, block_on, endpoint_of,
};
use serde_json::Value;
use town::{Cursor, DATA, carry_over, in_step, program, town, validates};

const SEED: u64 = 4_711;

/// Everything a source can come up with: new rows (of which some can't go in), changes, other
/// parents, rows gone, hidden and shown again, twins of rows that come only now.
const CHANGES: &str = "
insert into district values (21, 'New district', null);
insert into house select i, 21, 1 + i % 20, i + 1, i, i % 4, '[]', timestamptz '2023-01-01Z' + i * interval '1 hour',
  'New ' || i, null, false from generate_series(1001, 1060) i;
insert into room select i, i, 'New ' || i, 3, null from generate_series(1001, 1060) i;
update house set rent = rent + 1, label = label || '!' where id % 7 = 0;
update house set district = 21 where id % 31 = 0;
update house set twin = 1001 + id % 40 where id % 11 = 0;
update house set hidden = not hidden where id in (50, 100, 150, 33, 34);
update room set house = 1001 where id in (700, 701) or house in (33, 34);
update room set house = 1 where id % 13 = 0;
delete from room where id % 17 = 0;
delete from room where house in (201, 202, 203);
delete from house where id in (201, 202, 203);
update house set overseer = null where overseer = 5;
update house set district = 6 where district = 5;
update house set district = 6, label = 'last of it' where district = 7;
delete from district where id in (5, 7);
";

/// What people do in the target meanwhile.
const EDITS: &str = "
update houses set label = 'Ours', touched = timestamptz '2024-01-01Z' where legacy_id % 14 = 0;
update houses set notes = '{\"ours\": true}' where legacy_id % 5 = 0;
update rooms set name = 'Ours' where legacy_id % 34 = 0;
update houses set twin_id = null where legacy_id % 22 = 0;
delete from rooms where legacy_id % 26 = 0;
update districts set name = 'Ours' where legacy_id in (7, 8);
";

const SOURCE_WINS: [&str; 4] = [
    "--conflict-resolution",
    "source_wins",
    "--deletes",
    "mirror",
];
const RESUME: [&str; 4] = ["differential", "resume", "--entity", "houses"];
const MANUAL: [&str; 4] = ["--conflict-resolution", "manual", "--deletes", "mirror"];
const SOFT: [&str; 4] = ["--conflict-resolution", "target_wins", "--deletes", "soft"];

fn kills() -> u64 {
    let given = std::env::var("REGRAFT_TEST_KILLS").ok();
    given.map_or(20, |n| n.parse().expect("REGRAFT_TEST_KILLS is a number"))
}

fn dice() -> Dice {
    let given = std::env::var("REGRAFT_TEST_SEED").is_ok();
    let dice = if given {
        Dice::from_environment()
    } else {
        Dice::seeded(SEED)
    };
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    dice
}

/// In step, and then changed on both sides. The second look lets the third one go by a cursor.
fn changed(folder: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = in_step(folder);
    program(&rehearsal).expect(0, &carry_over(&[]));
    rehearsal.legacy(CHANGES);
    rehearsal.modern(EDITS);
    rehearsal
}

/// Tables, mappings, quarantine and what is left to be decided, without what the number of processes
/// decides.
#[derive(PartialEq)]
struct State {
    tables: Dump,
    ledger: Vec<Vec<String>>,
}

impl State {
    fn of(rehearsal: &Rehearsal<'_>) -> Self {
        let ledger = [
            "select 'mapping', entity, legacy_id, new_id, source_fingerprint, column_fingerprints
             from regraft.migration_mappings order by 2, 3",
            "select 'quarantine', entity, legacy_id, bucket, reasons, state
             from regraft.migration_quarantine order by 2, 3",
            "select 'open', entity, legacy_id, comparison_type, columns, detail
             from regraft.data_differentials where legacy_id is not null and not resolved order by 2, 3",
        ];
        Self {
            tables: Dump::of_tables(&rehearsal.modern_url()),
            ledger: ledger
                .iter()
                .flat_map(|query| rehearsal.modern_rows(query))
                .collect(),
        }
    }

    #[track_caller]
    fn assert_same(&self, other: &Self, what: &str) {
        self.tables.assert_same(&other.tables, what);
        let lines = |state: &Self| state.ledger.iter().cloned().collect::<BTreeSet<_>>();
        let (mine, theirs) = (lines(self), lines(other));
        let differing: Vec<_> = mine.symmetric_difference(&theirs).take(6).collect();
        assert!(differing.is_empty(), "{what}: {differing:#?}");
    }
}

/// The accounts of the last run, by entity.
fn accounts(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    rehearsal.modern_rows(
        "select entity, source_rows, inserted, updated, unchanged, merged, filtered, quarantined, blocked,
                detail ->> 'deleted'
         from regraft.migration_control
         where batch = 0 and entity <> '' and command = 'differential'
           and run_no = (select max(run_no) from regraft.migration_control where command = 'differential')
         order by entity",
    )
}

/// Every account adds up, in batches and in all.
#[track_caller]
fn balanced(rehearsal: &Rehearsal<'_>, what: &str) {
    let unbalanced = rehearsal.modern_rows(
        "select run_no, entity, batch, source_rows from regraft.migration_control
         where entity <> '' and status = 'done' and source_rows <>
           inserted + updated + unchanged + merged + filtered + quarantined + blocked",
    );
    assert!(unbalanced.is_empty(), "{what}: {unbalanced:?}");
    let rows = [
        ("districts", "district"),
        ("houses", "house"),
        ("rooms", "room"),
    ];
    for (account, (entity, table)) in accounts(rehearsal).iter().zip(rows) {
        let count = rehearsal.legacy_rows(&format!("select count(*) from {table}"));
        assert_eq!(account[0], entity, "{what}");
        assert_eq!(account[1], count[0][0], "{what}: {account:?}");
    }
}

/// Goes on with what was left unfinished, or begins again where nothing was.
fn go_on(rehearsal: &Rehearsal<'_>, arguments: &[&str]) -> Finished {
    let resumed = program(rehearsal).run(&RESUME);
    if resumed.code == Some(2) && resumed.says("none was left unfinished") {
        program(rehearsal).run(arguments)
    } else {
        resumed
    }
}

fn kill_at_random(way: &[&str], cursor: Option<Cursor>, kills: u64, in_step_then: bool) {
    let mut dice = dice();
    let folder = town(DATA, &[], cursor);
    let first = changed(&folder);
    let arguments = carry_over(way);
    let calm = first.copied();
    let finished = program(&calm).run(&arguments);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let expected = State::of(&calm);
    let account = accounts(&calm);
    balanced(&calm, "undisturbed");
    if in_step_then {
        validates(&calm, "undisturbed");
    }
    let (mut done, mut round) = (0, 0);
    while done < kills {
        round += 1;
        let rehearsal = first.copied();
        let mut here = 0;
        // Several in a row hit the resuming itself.
        let most = 1 + dice.below(3);
        while here < most && done < kills {
            let moment = dice.moment(finished.time);
            let running = if here == 0 {
                program(&rehearsal).start(&arguments)
            } else {
                program(&rehearsal).start(&RESUME)
            };
            let killed = running.kill_after(moment);
            if killed.code.is_some() {
                break;
            }
            (here, done) = (here + 1, done + 1);
        }
        let what = format!("{way:?}, round {round}, {here} kills, seed {}", dice.seed());
        let ran_before = rehearsal.modern_number(
            "select count(*) from regraft.migration_control
             where command = 'differential' and entity = '' and batch = 0 and status = 'done'",
        );
        let last = go_on(&rehearsal, &arguments);
        assert_eq!(last.code, finished.code, "{what}:\n{last}");
        State::of(&rehearsal).assert_same(&expected, &what);
        balanced(&rehearsal, &what);
        // Otherwise the run was done when it was killed, and another one had nothing to do.
        if ran_before == 1 {
            assert_eq!(accounts(&rehearsal), account, "{what}");
        }
        if in_step_then {
            validates(&rehearsal, &what);
        }
    }
}

/// Whatever looks, decides, retries or undoes comes to the same when it is killed and done again.
#[test]
fn killed_at_random_moments_while_looking_deciding_retrying_and_undoing() {
    let mut dice = dice();
    let folder = town(DATA, &[], None);
    let first = changed(&folder);
    program(&first).run(&carry_over(&MANUAL));
    let run = last_run(&first);
    // What kept rows in quarantine is mended.
    first.legacy("update house set state = 0 where state = 3");
    let analyze = [
        "differential",
        "analyze",
        "--entities",
        "all",
        "--detect-conflicts",
    ];
    let scripts: [&[&[&str]]; 2] = [
        &[
            &analyze,
            &["conflicts", "resolve", "--all", "--take", "source"],
            &["quarantine", "retry", "--entity", "houses"],
        ],
        &[&["rollback", "--run", &run, "--yes"]],
    ];
    for (steps, kills) in scripts.into_iter().zip([kills(), kills().div_ceil(4)]) {
        let calm = first.copied();
        let mut times = Vec::new();
        for step in steps {
            let done = program(&calm).run(step);
            assert!(matches!(done.code, Some(0 | 1)), "{step:?}: {done}");
            times.push(done.time);
        }
        let expected = State::of(&calm);
        for round in 0..kills {
            let rehearsal = first.copied();
            let killed = usize::try_from(round).expect("it fits") % steps.len();
            for (at, step) in steps.iter().enumerate() {
                if at == killed {
                    program(&rehearsal)
                        .start(step)
                        .kill_after(dice.moment(times[at]));
                }
                // One that had done it when it was killed leaves nothing to do.
                let done = program(&rehearsal).run(step);
                assert!(matches!(done.code, Some(0..=2)), "{step:?}: {done}");
            }
            let what = format!("{:?}, round {round}, seed {}", steps[killed], dice.seed());
            State::of(&rehearsal).assert_same(&expected, &what);
        }
    }
}

#[test]
fn killed_at_random_moments_where_the_source_wins() {
    kill_at_random(&SOURCE_WINS, None, kills().div_ceil(2), true);
}

#[test]
fn killed_at_random_moments_where_nobody_wins() {
    kill_at_random(&MANUAL, Some(Cursor::Version), kills().div_ceil(4), false);
}

#[test]
fn killed_at_random_moments_with_soft_deletes() {
    kill_at_random(&SOFT, None, kills().div_ceil(4), false);
}

/// Whatever a run has committed when it is killed, the one that goes on with it sees children and
/// parents as they are by then: no row is left without a parent that came in between.
#[test]
fn a_resumed_run_is_of_one_moment() {
    let folder = town(DATA, &[], None);
    let first = in_step(&folder);
    first.legacy("update room set name = 'Changed' where id = 1; delete from room where id = 2");
    for commits in 0.. {
        let rehearsal = first.copied();
        let point = format!("after-commit={commits}*off->return(abort)");
        let killed = program(&rehearsal).with("FAILPOINTS", &point);
        if killed.run(&carry_over(&[])).signal.is_none() {
            assert!(commits > 5, "only {commits} commits");
            break;
        }
        let what = format!("after {commits} commits");
        rehearsal.legacy(&format!(
            "insert into district values (100 + {commits}, 'New', null);
             insert into house (id, district, built) values (1000 + {commits}, 100 + {commits}, '2022-02-02Z');
             insert into room values (2000 + {commits}, 1000 + {commits}, 'New', 1, null)"
        ));
        let last = go_on(&rehearsal, &carry_over(&[]));
        assert_eq!(last.code, Some(0), "{what}:\n{last}");
        let left =
            "select entity, legacy_id from regraft.migration_quarantine where state = 'open'";
        assert!(rehearsal.modern_rows(left).is_empty(), "{what}:\n{last}");
        // If only the end was not recorded, the next one finds what came after it.
        program(&rehearsal).expect(0, &carry_over(&[]));
        balanced(&rehearsal, &what);
    }
}

#[test]
fn of_two_at_once_one_is_refused() {
    let folder = town(DATA, &[], None);
    let first = changed(&folder);
    let arguments = carry_over(&MANUAL);
    let calm = first.copied();
    let finished = program(&calm).run(&arguments);
    let rehearsal = first.copied();
    block_on(async {
        let holder = Holder::of(&rehearsal, "lock table rooms in share row exclusive mode").await;
        let mut running = program(&rehearsal).start(&arguments);
        wait_for_a_lock(&rehearsal, &mut running);
        for other in [&arguments[..], &RESUME[..]] {
            let refused = program(&rehearsal).expect(6, other);
            assert!(refused.says("another process is at work"), "{refused}");
        }
        holder.let_go().await;
        let last = running.wait();
        assert_eq!(last.code, finished.code, "{last}");
    });
    State::of(&rehearsal).assert_same(&State::of(&calm), "after two at once");
    balanced(&rehearsal, "after two at once");
    assert_eq!(accounts(&rehearsal), accounts(&calm));
}

#[test]
fn a_run_is_not_gone_on_with_under_another_project() {
    let folder = town(DATA, &[], None);
    let rehearsal = in_step(&folder);
    rehearsal.legacy("update room set name = 'Changed' where id = 1");
    let killed = program(&rehearsal).with("FAILPOINTS", "before-finish=return(abort)");
    assert!(killed.run(&carry_over(&[])).signal.is_some());
    let rooms = std::fs::read_to_string(folder.path().join("entities/rooms.toml"));
    let rooms = rooms.expect("the entity's file");
    folder.write(
        "entities/rooms.toml",
        &rooms.replace("\"r.name\"", "\"upper(r.name)\""),
    );
    let refused = program(&rehearsal).expect(2, &RESUME);
    assert!(
        refused.says("the project (entities/rooms.toml) changed since"),
        "{refused}"
    );
    folder.write("entities/rooms.toml", &rooms);
    program(&rehearsal).expect(0, &RESUME);
    validates(&rehearsal, "under its own project");
}

/// A row that a killed run has changed, and that the run that goes on with it deletes, comes back as it
/// was before both.
#[test]
fn a_row_changed_and_deleted_by_one_run_is_brought_back() {
    let folder = town(DATA, &[], None);
    let first = in_step(&folder);
    let before = State::of(&first);
    first.legacy("update room set name = 'Changed' where id in (1, 2)");
    let is_written = "select count(*) from rooms where name = 'Changed'";
    let killed = (0..).map(|commits| {
        let rehearsal = first.copied();
        let point = format!("after-commit={commits}*off->return(abort)");
        let finished = program(&rehearsal)
            .with("FAILPOINTS", &point)
            .run(&carry_over(&[]));
        assert!(
            finished.signal.is_some(),
            "never killed after it was written"
        );
        rehearsal
    });
    let mut killed = killed.skip_while(|rehearsal| rehearsal.modern_number(is_written) == 0);
    let rehearsal = killed.next().expect("the range has no end");
    rehearsal.legacy("delete from room where id = 1");
    program(&rehearsal).expect(0, &RESUME);
    let gone = "select count(*) from rooms where legacy_id = 1";
    assert_eq!(rehearsal.modern_number(gone), 0);
    assert_eq!(rehearsal.modern_number(is_written), 1);
    let run = last_run(&rehearsal);
    program(&rehearsal).expect(0, &["rollback", "--run", &run, "--yes"]);
    let undone = State::of(&rehearsal);
    undone.tables.assert_same(&before.tables, "undone");
}

/// A transaction that somebody holds open in the target.
struct Holder(Session);

impl Holder {
    async fn of(rehearsal: &Rehearsal<'_>, statements: &str) -> Self {
        let endpoint = endpoint_of(&rehearsal.modern_url(), Side::Target);
        let session = Session::connect(&endpoint, &SessionOptions::writing("test")).await;
        let session = session.unwrap_or_else(|e| panic!("no session: {}", e.message()));
        let holder = Self(session);
        holder.write(&format!("begin; {statements}")).await;
        holder
    }

    async fn write(&self, statements: &str) {
        let done = self.0.batch_execute(statements).await;
        done.unwrap_or_else(|e| panic!("{}: {statements}", self.0.error(e).message()));
    }

    async fn let_go(self) {
        self.write("commit").await;
        self.0.close().await;
    }
}

/// Waits until the program waits for somebody.
#[track_caller]
fn wait_for_a_lock(rehearsal: &Rehearsal<'_>, running: &mut Running) {
    let waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    let deadline = Instant::now() + Duration::from_secs(60);
    while rehearsal.modern_rows(waiting).is_empty() {
        assert!(running.is_running() && Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Somebody's transaction wants what a batch has written, and the batch what that one has: the batch
/// gives way, and is done again.
#[test]
fn a_batch_that_loses_a_deadlock_is_done_again() {
    let folder = town(DATA, &[], None);
    let rehearsal = in_step(&folder);
    rehearsal.legacy("update house set rent = 7 where id between 71 and 80");
    block_on(async {
        let holder = Holder::of(
            &rehearsal,
            "update houses set label = 'Held' where legacy_id = 80",
        )
        .await;
        let mut running = program(&rehearsal).start(&carry_over(&MANUAL));
        wait_for_a_lock(&rehearsal, &mut running);
        // The one that has waited longest looks for the deadlock first.
        holder
            .write("update houses set label = 'Held' where legacy_id between 71 and 79")
            .await;
        holder.let_go().await;
        let finished = running.wait();
        assert_eq!(finished.code, Some(0), "{finished}");
        assert!(finished.says("deadlock detected"), "{finished}");
    });
    let both = "select count(*) from houses where rent = 7 and label = 'Held'";
    assert_eq!(rehearsal.modern_number(both), 10);
    balanced(&rehearsal, "after a deadlock");
}

/// A row that somebody changes between the look at it and its writing is looked at again: no run ends
/// with half of what the source said.
#[test]
fn a_row_changed_while_it_is_written_is_looked_at_again() {
    for (way, code, label) in [(&MANUAL, 1, "Held"), (&SOURCE_WINS, 0, "Source")] {
        let folder = town(DATA, &[], None);
        let rehearsal = in_step(&folder);
        rehearsal.legacy("update house set label = 'Source', rent = 7 where id in (77, 78)");
        block_on(async {
            let holder = Holder::of(
                &rehearsal,
                "update houses set label = 'Held' where legacy_id = 77",
            )
            .await;
            let mut running = program(&rehearsal).start(&carry_over(way));
            wait_for_a_lock(&rehearsal, &mut running);
            holder.let_go().await;
            let finished = running.wait();
            assert_eq!(finished.code, Some(code), "{way:?}:\n{finished}");
        });
        let houses =
            "select label, rent from houses where legacy_id in (77, 78) order by legacy_id";
        let expected = [[label, "7.00"], ["Source", "7.00"]];
        assert_eq!(rehearsal.modern_rows(houses), expected, "{way:?}");
        balanced(&rehearsal, "with a row changed meanwhile");
    }
}

/// A row that people have deleted from the target is nobody's parent there: who names it waits or
/// stays as it is, and all else is carried over.
#[test]
fn a_row_deleted_from_the_target_holds_up_nobody_else() {
    let folder = town(DATA, &[], None);
    let rehearsal = in_step(&folder);
    rehearsal.modern(
        "delete from rooms where house_id in (select id from houses where legacy_id in (301, 303));
         delete from houses where legacy_id in (301, 303)",
    );
    rehearsal.legacy(
        "insert into house (id, district, twin, built) values (701, 1, 301, '2022-02-02Z'), (702, 1, null, '2022-02-02Z');
         insert into room values (1001, 303, 'Of a house that is gone', 1, null), (1002, 702, 'Other', 1, null);
         update house set twin = 303, label = 'twin' where id = 401;
         update house set label = 'other' where id = 402;
         update room set house = 301 where id = 500",
    );
    let done = program(&rehearsal).json(1, &carry_over(&MANUAL));
    assert_eq!(done["receipt"]["total"]["updated"], 1, "{done}");
    let there = "select count(*) from houses where legacy_id in (701, 702) and twin_id is null";
    assert_eq!(rehearsal.modern_number(there), 2);
    let open = "select entity, legacy_id, comparison_type from regraft.data_differentials
                where legacy_id is not null and not resolved order by 1, 2";
    assert_eq!(
        rehearsal.modern_rows(open),
        [["houses", "401", "refused"], ["rooms", "500", "refused"]]
    );
    balanced(&rehearsal, "with parents gone");
    let again = program(&rehearsal).json(1, &carry_over(&MANUAL));
    assert_eq!(again["nothing_to_do"], true, "{again}");
    program(&rehearsal).expect(0, &carry_over(&SOURCE_WINS));
    validates(&rehearsal, "when the source wins");
}

fn last_run(rehearsal: &Rehearsal<'_>) -> String {
    let query = "select run_id from regraft.migration_control where entity = '' and batch = 0
                 order by run_no desc limit 1";
    rehearsal.modern_rows(query).remove(0).remove(0)
}

/// The tables are what they were before the run; carried over again, they are what they were after.
#[test]
fn a_run_is_undone_to_the_byte() {
    let folder = town(DATA, &[], Some(Cursor::Version));
    let first = changed(&folder);
    for way in [&SOURCE_WINS, &MANUAL, &SOFT] {
        let rehearsal = first.copied();
        let before = State::of(&rehearsal);
        let finished = program(&rehearsal).run(&carry_over(way));
        assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
        let after = State::of(&rehearsal);
        let what = format!("{way:?}");
        assert!(after != before, "{what}: nothing was done");
        let run = last_run(&rehearsal);
        program(&rehearsal).expect(0, &["rollback", "--run", &run, "--yes"]);
        let undone = State::of(&rehearsal);
        undone.tables.assert_same(&before.tables, &what);
        let mapped = |state: &State| -> BTreeSet<Vec<String>> {
            let lines = state.ledger.iter().filter(|line| line[0] == "mapping");
            lines.map(|line| line[..4].to_vec()).collect()
        };
        let (is, was) = (mapped(&undone), mapped(&before));
        let differing: Vec<_> = is.symmetric_difference(&was).take(6).collect();
        assert!(differing.is_empty(), "{what}: {differing:?}");
        let again = program(&rehearsal).run(&carry_over(way));
        assert_eq!(again.code, finished.code, "{what}:\n{again}");
        State::of(&rehearsal).assert_same(&after, &format!("{what}, again"));
    }
}

/// The rows of the tables by entity and legacy id, as text.
fn rows(rehearsal: &Rehearsal<'_>) -> BTreeSet<(String, String, String)> {
    let tables = ["districts", "houses", "rooms"];
    let rows = tables.iter().flat_map(|table| {
        let rows = rehearsal.modern_rows(&format!("select legacy_id, t::text from {table} t"));
        rows.into_iter()
            .map(|row| ((*table).to_owned(), row[0].clone(), row[1].clone()))
    });
    rows.collect()
}

/// What people have changed since stays and is listed; all else is what it was.
#[test]
fn what_was_edited_since_a_run_is_left_and_listed() {
    let folder = town(DATA, &[], None);
    let first = changed(&folder);
    for way in [&SOURCE_WINS, &MANUAL] {
        let rehearsal = first.copied();
        let before = rows(&rehearsal);
        let finished = program(&rehearsal).run(&carry_over(way));
        assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
        // Two rows that the run wrote columns of, one of these in a column that it did not write;
        // one that it inserted.
        rehearsal.modern(
            "update houses set rent = 4.25 where legacy_id = 77;
             update houses set touched = timestamptz '2024-03-03Z' where legacy_id = 91;
             update rooms set name = 'Since' where legacy_id = 1010",
        );
        let edited = rows(&rehearsal);
        let run = last_run(&rehearsal);
        let undone =
            program(&rehearsal).run(&["--format", "json", "rollback", "--run", &run, "--yes"]);
        assert!(matches!(undone.code, Some(0 | 1)), "{undone}");
        let document: Value = serde_json::from_str(&undone.stdout).expect("a document");
        let left: BTreeSet<(String, String)> = document["done"]["left"]
            .as_array()
            .expect("what was left")
            .iter()
            .map(|row| {
                let text = |field: &str| row[field].as_str().expect("a text").to_owned();
                (text("entity"), text("legacy_id"))
            })
            .collect();
        let of = |entity: &str, id: &str| (entity.to_owned(), id.to_owned());
        assert!(left.contains(&of("houses", "77")), "{way:?}: {left:?}");
        assert!(left.contains(&of("rooms", "1010")), "{way:?}: {left:?}");
        assert!(!left.contains(&of("houses", "91")), "{way:?}: {left:?}");
        let now = rows(&rehearsal);
        let is_left = |row: &(String, String, String)| left.contains(&of(&row.0, &row.1));
        let is_91 = |row: &(String, String, String)| row.0 == "houses" && row.1 == "91";
        let differing: Vec<_> = now
            .symmetric_difference(&before)
            .filter(|row| !is_left(row) && !is_91(row))
            .take(6)
            .collect();
        assert!(differing.is_empty(), "{way:?}: {differing:#?}");
        let changed: Vec<_> = now
            .symmetric_difference(&edited)
            .filter(|row| is_left(row))
            .take(6)
            .collect();
        assert!(
            changed.is_empty(),
            "{way:?}, rows that were left: {changed:#?}"
        );
    }
}
