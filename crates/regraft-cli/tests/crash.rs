//! The program is killed at any moment, and what is there in the end is what would have been there
//! without.
//!
//! `REGRAFT_TEST_KILLS` is the number of kills at random moments (50 if not set),
//! `REGRAFT_TEST_SEED` the seed that a failed test printed. From 1000 kills on, every single commit
//! of a migration is cut, and not only some.
#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod village;

use regraft_testkit::{Dice, Dump, Finished, Legacy, Program, Rehearsal, Servers, dispatch};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

const DIRTY: Legacy = Legacy {
    scale: 0.05,
    seed: 7,
    dirt: 1.0,
};
const CLEAN: Legacy = Legacy {
    scale: 0.05,
    seed: 7,
    dirt: 0.0,
};

const CORE_IN_PLACE: [&str; 5] = ["migrate", "orders", "--with-deps", "--mode", "in-place"];
const CORE_IN_BULK: [&str; 5] = ["migrate", "orders", "--with-deps", "--mode", "bulk"];

fn kills() -> u64 {
    let given = std::env::var("REGRAFT_TEST_KILLS").ok();
    given.map_or(50, |n| n.parse().expect("REGRAFT_TEST_KILLS is a number"))
}

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "40")
}

/// What an undisturbed run leaves, how it ended, and how often it began to write.
struct Calm {
    dump: Dump,
    finished: Finished,
    attempts: Option<i64>,
}

fn undisturbed(rehearsal: &Rehearsal<'_>, arguments: &[&str], count_attempts: bool) -> Calm {
    let other = rehearsal.again();
    if count_attempts {
        other.count_attempts();
    }
    let finished = program(&other).run(arguments);
    assert!(
        matches!(finished.code, Some(0 | 1)),
        "the undisturbed run failed:\n{finished}"
    );
    Calm {
        dump: Dump::of(&other.modern_url()),
        attempts: count_attempts.then(|| other.attempts()),
        finished,
    }
}

/// Runs it until it is done, and holds what is there against `expected`.
#[track_caller]
fn finish(rehearsal: &Rehearsal<'_>, arguments: &[&str], expected: &Calm, what: &str) {
    let last = program(rehearsal).run(arguments);
    assert_eq!(
        last.code, expected.finished.code,
        "{what}: the last run:\n{last}"
    );
    Dump::of(&rehearsal.modern_url()).assert_same(&expected.dump, what);
    every_batch_once(rehearsal, what);
}

/// Every planned batch was committed once: the checkpoint counts commits.
#[track_caller]
fn every_batch_once(rehearsal: &Rehearsal<'_>, what: &str) {
    let wrong = rehearsal.modern_rows(
        "select p.entity, p.batches_done, c.batches from regraft.migration_checkpoints p
         join (select run_no, entity, count(*) as batches from regraft.migration_control
               where batch > 0 group by 1, 2) c using (run_no, entity)
         where p.batches_done <> c.batches",
    );
    assert!(
        wrong.is_empty(),
        "{what}: batches committed, batches planned: {wrong:?}"
    );
}

/// Whether the ledger says that the migration is done.
fn run_is_done(rehearsal: &Rehearsal<'_>) -> bool {
    let ledger = rehearsal.modern_rows(
        "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'regraft' and c.relname = 'migration_control'",
    );
    !ledger.is_empty()
        && !rehearsal
            .modern_rows(
                "select 1 from regraft.migration_control
                 where entity = '' and batch = 0 and status = 'done'",
            )
            .is_empty()
}

/// Kills the program at random moments, several times in one migration, and lets it go on.
fn kill_at_random(
    legacy: Legacy,
    arguments: &[&str],
    kills: u64,
    dice: &mut Dice,
    count_attempts: bool,
) {
    let first = Rehearsal::new(Servers::shared(), &dispatch(), legacy);
    let expected = undisturbed(&first, arguments, count_attempts);
    let (mut done, mut round) = (0, 0);
    while done < kills {
        round += 1;
        let rehearsal = first.again();
        if count_attempts {
            rehearsal.count_attempts();
        }
        let (mut here, mut completed) = (0, false);
        // Several in a row hit the resuming itself.
        while here < 4 && done < kills && !completed {
            let moment = dice.moment(expected.finished.time);
            let finished = program(&rehearsal).start(arguments).kill_after(moment);
            if finished.code.is_some() {
                assert_eq!(
                    finished.code, expected.finished.code,
                    "round {round}:\n{finished}"
                );
                completed = true;
            } else {
                (here, done) = (here + 1, done + 1);
                // The kill may have come between the run's last commit and the end of the program.
                completed = run_is_done(&rehearsal);
            }
        }
        let what = format!(
            "{arguments:?}, round {round}, {here} kills, seed {}",
            dice.seed()
        );
        if completed {
            Dump::of(&rehearsal.modern_url()).assert_same(&expected.dump, &what);
        } else {
            finish(&rehearsal, arguments, &expected, &what);
        }
        if let Some(needed) = expected.attempts {
            let again = rehearsal.attempts() - needed;
            let most = 2 * i64::from(here);
            assert!(
                again <= most,
                "{what}: {again} batches were begun again, at most {most} should be"
            );
        }
    }
}

#[test]
fn killed_at_random_moments_in_place() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    kill_at_random(DIRTY, &CORE_IN_PLACE, kills().div_ceil(3), &mut dice, false);
}

#[test]
fn killed_at_random_moments_in_bulk() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    kill_at_random(DIRTY, &CORE_IN_BULK, kills().div_ceil(3), &mut dice, false);
}

/// Without dirt each batch is one COPY, so that those that were begun again can be counted.
#[test]
fn a_kill_costs_one_batch_per_worker_at_most() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    kill_at_random(CLEAN, &CORE_IN_PLACE, kills().div_ceil(3), &mut dice, true);
}

/// Everything, from the first entity to the last, with as much in bulk as can be.
#[test]
fn killed_anywhere_in_the_whole_migration() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let whole = Legacy {
        scale: 0.02,
        ..DIRTY
    };
    let arguments = ["migrate", "--batch-size", "500"];
    kill_at_random(whole, &arguments, kills().div_ceil(5), &mut dice, false);
}

/// Ends the process at the `n`th time it comes to `point`; whether it came there.
fn abort_at(rehearsal: &Rehearsal<'_>, arguments: &[&str], point: &str, n: u64) -> bool {
    abort_with(
        rehearsal,
        arguments,
        &format!("{point}={n}*off->return(abort)"),
    )
}

/// The same for any points.
fn abort_with(rehearsal: &Rehearsal<'_>, arguments: &[&str], points: &str) -> bool {
    let program = program(rehearsal).with("FAILPOINTS", points);
    let finished = program.run(arguments);
    assert!(
        finished.signal.is_some() || matches!(finished.code, Some(0 | 1)),
        "{points}: neither done nor aborted:\n{finished}"
    );
    finished.signal.is_some()
}

/// Ends the process at every `step`th commit of a migration, and lets another one go on.
fn abort_at_commits(mode: &str, point: &str) {
    let (mut dice, step) = (Dice::from_environment(), step());
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let arguments = ["migrate", "--mode", mode];
    let village = village();
    let first = Rehearsal::new(Servers::shared(), village.path(), CLEAN);
    let expected = undisturbed(&first, &arguments, false);
    assert!(
        expected.dump.len_of("ledger: quarantine") > 0,
        "the village has its troubles"
    );
    let first_time = dice.below(step as u64);
    for (hit, n) in (first_time..).step_by(step).enumerate() {
        let rehearsal = first.again();
        let aborted = abort_at(&rehearsal, &arguments, point, n);
        let what = format!("{mode}, {point}, time {n}");
        if !aborted {
            assert!(hit > 20 / step, "only {hit} {point} were hit");
            Dump::of(&rehearsal.modern_url()).assert_same(&expected.dump, &what);
            return;
        }
        finish(&rehearsal, &arguments, &expected, &what);
    }
}

/// Every commit with many kills to spare, else some of them.
fn step() -> usize {
    match kills() {
        1_000.. => 1,
        200.. => 4,
        _ => 9,
    }
}

#[test]
fn aborted_before_commits_in_place() {
    abort_at_commits("in-place", "before-commit");
}

#[test]
fn aborted_before_commits_in_bulk() {
    abort_at_commits("bulk", "before-commit");
}

#[test]
fn aborted_after_commits_in_place() {
    abort_at_commits("in-place", "after-commit");
}

#[test]
fn aborted_after_commits_in_bulk() {
    abort_at_commits("bulk", "after-commit");
}

/// The commit was carried out, and the program is told that the connection was lost. In a batch it
/// finds out by itself; elsewhere it stops and the next process does.
#[test]
fn the_answer_to_a_commit_is_lost() {
    for mode in ["in-place", "bulk"] {
        let arguments = ["migrate", "--mode", mode];
        let village = village();
        let first = Rehearsal::new(Servers::shared(), village.path(), CLEAN);
        let expected = undisturbed(&first, &arguments, false);
        let mut went_on = 0;
        for point in ["commit-answer-lost", "before-commit"] {
            for n in (0..60).step_by(step()) {
                let rehearsal = first.again();
                let lossy =
                    program(&rehearsal).with("FAILPOINTS", &format!("{point}={n}*off->1*return"));
                let finished = lossy.run(&arguments);
                let what = format!("{mode}, {point}, time {n}");
                match finished.code {
                    Some(0 | 1) => {
                        went_on += u32::from(finished.stderr.contains("attempt 1"));
                        Dump::of(&rehearsal.modern_url()).assert_same(&expected.dump, &what);
                        every_batch_once(&rehearsal, &what);
                    }
                    Some(3) => finish(&rehearsal, &arguments, &expected, &what),
                    _ => panic!("{what}:\n{finished}"),
                }
            }
        }
        assert!(went_on > 0, "{mode}: no batch met a lost answer");
    }
}

/// Killed between taking indexes off and bringing them back, all in one transaction as for small
/// tables.
#[test]
fn indexes_come_back() {
    come_back("");
}

/// The same where they come back one by one, as for large tables.
#[test]
fn indexes_come_back_one_by_one() {
    come_back(";rebuild-together=return");
}

fn come_back(also: &str) {
    let arguments = ["migrate", "--mode", "bulk"];
    let village = village();
    let first = Rehearsal::new(Servers::shared(), village.path(), CLEAN);
    let before = Dump::of_tables(&first.modern_url()).catalog();
    let expected = undisturbed(&first, &arguments, false);
    let points = [
        ("after-drop", 3),
        ("before-rebuild", 3),
        ("during-rebuild", 12),
        ("before-finish", 1),
    ];
    for (point, times) in points {
        for n in (0..times).step_by(if times > 3 { 3 } else { 1 }) {
            let rehearsal = first.again();
            let what = format!("{point}{also}, time {n}");
            let points = format!("{point}={n}*off->return(abort){also}");
            assert!(
                abort_with(&rehearsal, &arguments, &points),
                "{what} was not come to"
            );
            let off = Dump::of_tables(&rehearsal.modern_url()).catalog();
            if matches!(point, "after-drop" | "before-rebuild") {
                assert!(
                    !off.difference(&before).is_empty(),
                    "{what}: nothing was taken off"
                );
                let status = program(&rehearsal).expect(0, &["status"]);
                assert!(status.says("index"), "the status tells of it:\n{status}");
            }
            finish(&rehearsal, &arguments, &expected, &what);
            Dump::of_tables(&rehearsal.modern_url())
                .catalog()
                .assert_same(&before, &what);
        }
    }
}

/// Ctrl-C: a clean checkpoint, its own exit code, and the next run goes on.
#[test]
fn interrupted_at_a_clean_checkpoint() {
    let arguments = CORE_IN_BULK;
    let first = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
    let expected = undisturbed(&first, &arguments, false);
    let rehearsal = first.again();
    let mut running = program(&rehearsal).start(&arguments);
    rehearsal.wait_for_batches(&mut running, 15);
    running.signal(libc::SIGINT);
    let finished = running.wait();
    assert_eq!(finished.code, Some(6), "{finished}");
    assert!(finished.says("run the same command again"), "{finished}");
    finish(&rehearsal, &arguments, &expected, "after Ctrl-C");
}
