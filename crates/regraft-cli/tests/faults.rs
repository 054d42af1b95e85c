//! Servers and networks that fail, privileges that are missing, and somebody else at work: a clear
//! error, the right exit code, and a run that goes on when the cause is gone.

#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod village;

use std::time::Duration;

use regraft_testkit::{Dice, Dump, Finished, Legacy, Program, Proxy, Rehearsal, Servers, dispatch};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const DIRTY: Legacy = Legacy {
    scale: 0.04,
    seed: 9,
    dirt: 1.0,
};

const MIGRATE: [&str; 3] = ["migrate", "--mode", "bulk"];
/// The part of the dispatch migration that has all of its difficulties.
const CORE: [&str; 5] = ["migrate", "orders", "--with-deps", "--mode", "bulk"];

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "40")
}

/// What an undisturbed run leaves, and how it ended.
fn undisturbed(rehearsal: &Rehearsal<'_>) -> (Dump, Finished) {
    let other = rehearsal.again();
    let finished = program(&other).run(&CORE);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    (Dump::of(&other.modern_url()), finished)
}

/// Runs it once more, to its end, and holds what is there against `expected`.
#[track_caller]
fn resume(rehearsal: &Rehearsal<'_>, expected: &(Dump, Finished), what: &str) {
    let last = program(rehearsal).run(&CORE);
    assert_eq!(last.code, expected.1.code, "{what}, the last run:\n{last}");
    Dump::of(&rehearsal.modern_url()).assert_same(&expected.0, what);
}

/// No message shows a password or a row's values.
#[track_caller]
fn assert_discreet(rehearsal: &Rehearsal<'_>, finished: &Finished) {
    for url in [rehearsal.legacy_url(), rehearsal.modern_url()] {
        let password = url
            .split(':')
            .nth(2)
            .and_then(|rest| rest.split('@').next());
        let password = password.expect("the URL has a password");
        assert!(
            !finished.says(password),
            "a password was printed:\n{finished}"
        );
    }
    assert!(!finished.says("Failing row contains"), "{finished}");
}

#[test]
fn a_connection_is_cut() {
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let servers = Servers::shared();
    let first = Rehearsal::new(servers, &dispatch(), DIRTY);
    let expected = undisturbed(&first);
    for side in ["SOURCE", "TARGET"] {
        let port = if side == "SOURCE" {
            servers.legacy().port()
        } else {
            servers.modern().port()
        };
        let direct = |r: &Rehearsal<'_>| {
            if side == "SOURCE" {
                r.legacy_url()
            } else {
                r.modern_url()
            }
        };
        // How many bytes an undisturbed run sends and gets.
        let calm = first.again();
        let proxy = Proxy::to(port);
        let variable = format!("{side}_DATABASE_URL");
        let through = |r: &Rehearsal<'_>, proxy: &Proxy| {
            program(r).with(&variable, &proxy.url(&direct(r), port))
        };
        let finished = through(&calm, &proxy).run(&CORE);
        assert_eq!(finished.code, expected.1.code, "{finished}");
        let bytes = proxy.passed();
        assert!(bytes > 100_000, "only {bytes} bytes passed");
        for _ in 0..2 {
            let rehearsal = first.again();
            let proxy = Proxy::to(port);
            let after = bytes / 10 + dice.below(bytes * 7 / 10);
            proxy.cut_after(after);
            let finished = through(&rehearsal, &proxy).run(&CORE);
            let what = format!(
                "{side} cut after {after} of {bytes} bytes, seed {}",
                dice.seed()
            );
            assert_eq!(proxy.cuts(), 1, "{what}:\n{finished}");
            // The connections that hold the snapshot and the lock are lost with the others.
            assert_eq!(finished.code, Some(3), "{what}:\n{finished}");
            assert!(
                finished.says("run the same command again"),
                "{what}: no hint:\n{finished}"
            );
            assert_discreet(&rehearsal, &finished);
            resume(&rehearsal, &expected, &what);
        }
    }
}

/// A server that isn't there: said within seconds, with its address.
#[test]
fn a_server_that_refuses_is_told_quickly() {
    let servers = Servers::shared();
    let village = village();
    let rehearsal = Rehearsal::new(servers, village.path(), DIRTY);
    let proxy = Proxy::to(servers.modern().port());
    proxy.refuse(true);
    let url = proxy.url(&rehearsal.modern_url(), servers.modern().port());
    let finished = program(&rehearsal)
        .with("TARGET_DATABASE_URL", &url)
        .run(&MIGRATE);
    assert_eq!(finished.code, Some(3), "{finished}");
    assert!(finished.time < Duration::from_secs(10), "{finished}");
    assert!(finished.says("127.0.0.1"), "{finished}");
    assert_discreet(&rehearsal, &finished);
}

#[test]
fn a_server_crashes_and_comes_back() {
    let servers = Servers::pair();
    let first = Rehearsal::new(&servers, &dispatch(), DIRTY);
    let expected = undisturbed(&first);
    for side in ["modern", "legacy", "modern"] {
        let server = if side == "modern" {
            servers.modern()
        } else {
            servers.legacy()
        };
        let rehearsal = first.again();
        let mut running = program(&rehearsal).start(&CORE);
        rehearsal.wait_for_batches(&mut running, 12);
        server.stop_immediate().expect("the server stops");
        let finished = running.wait();
        server.start_again().expect("the server starts");
        assert_eq!(finished.code, Some(3), "{side}:\n{finished}");
        assert_discreet(&rehearsal, &finished);
        resume(&rehearsal, &expected, &format!("the {side} server crashed"));
    }
}

/// A server that refuses to go on, as with a full disk or a limit that is exceeded.
#[test]
fn the_target_says_no() {
    let first = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
    let expected = undisturbed(&first);
    for (state, code) in [("53100", 4), ("53400", 4), ("54000", 4), ("57014", 4)] {
        let rehearsal = first.again();
        // From the 60th batch of any table on.
        rehearsal.modern(&format!(
            "create schema testkit; create sequence testkit.batches;
             create table testkit.full_disk as select 1;
             create function testkit.refuse() returns trigger language plpgsql as $$ begin
               if exists (select from testkit.full_disk) and nextval('testkit.batches') > 60 then
                 raise exception 'simulated' using errcode = '{state}';
               end if; return null; end $$;
             create trigger testkit_refuse before insert on patients
               for each statement execute function testkit.refuse();
             create trigger testkit_refuse before insert on orders
               for each statement execute function testkit.refuse()"
        ));
        let finished = program(&rehearsal).with("BATCH_SIZE", "10").run(&CORE);
        assert_eq!(finished.code, Some(code), "{state}:\n{finished}");
        assert!(finished.says(state), "{state} is named:\n{finished}");
        assert!(
            finished.says("batch"),
            "{state}: the place is named:\n{finished}"
        );
        assert_discreet(&rehearsal, &finished);
        rehearsal.modern("truncate testkit.full_disk");
        let last = program(&rehearsal).with("BATCH_SIZE", "10").run(&CORE);
        assert_eq!(last.code, expected.1.code, "{state}:\n{last}");
        for table in [
            "offices",
            "profiles",
            "doctors",
            "doctor_offices",
            "patients",
            "courses",
            "orders",
        ] {
            let part = format!("table public.{table}");
            let after = Dump::of(&rehearsal.modern_url());
            assert_eq!(
                after.hashes()[&part],
                expected.0.hashes()[&part],
                "{state}: {table}"
            );
        }
    }
}

/// One works, the other is told; what is there in the end is what one alone would have left.
#[test]
fn two_processes_on_one_target() {
    let servers = Servers::shared();
    let first = Rehearsal::new(servers, &dispatch(), DIRTY);
    let expected = undisturbed(&first);
    let rehearsal = first.again();
    let proxy = Proxy::to(servers.modern().port());
    proxy.delay(Duration::from_millis(25));
    let slow = proxy.url(&rehearsal.modern_url(), servers.modern().port());
    let mut one = program(&rehearsal)
        .with("TARGET_DATABASE_URL", &slow)
        .start(&CORE);
    rehearsal.wait_for_batches(&mut one, 3);
    let two = program(&rehearsal).run(&CORE);
    assert_eq!(two.code, Some(6), "{two}");
    assert!(two.says("another process"), "{two}");
    let undoing = program(&rehearsal).run(&["rollback", "--yes"]);
    assert_eq!(
        undoing.code,
        Some(6),
        "nor can it be undone meanwhile:\n{undoing}"
    );
    let status = program(&rehearsal).expect(0, &["status"]);
    assert!(status.says("a process is at work"), "{status}");
    proxy.delay(Duration::ZERO);
    let one = one.wait();
    assert_eq!(one.code, expected.1.code, "{one}");
    Dump::of(&rehearsal.modern_url()).assert_same(&expected.0, "after two processes");
}

/// A process that was away while another one finished its run can't write any more.
#[test]
fn a_process_that_comes_back_from_the_dead_writes_nothing() {
    let first = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
    let expected = undisturbed(&first);
    let rehearsal = first.again();
    let mut one = program(&rehearsal).start(&CORE);
    rehearsal.wait_for_batches(&mut one, 5);
    one.signal(libc::SIGSTOP);
    // Its server processes go, as after a network that was gone for long; it doesn't know yet.
    Servers::shared()
        .modern()
        .execute(
            "postgres",
            &format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
                rehearsal.modern_name()
            ),
        )
        .expect("the backends end");
    resume(&rehearsal, &expected, "the second process");
    one.signal(libc::SIGCONT);
    let finished = one.wait();
    assert!(matches!(finished.code, Some(3 | 4 | 6)), "{finished}");
    Dump::of(&rehearsal.modern_url()).assert_same(&expected.0, "after the first came back");
}

#[test]
fn a_privilege_is_missing() {
    let servers = Servers::shared();
    let village = village();
    let rehearsal = Rehearsal::new(servers, village.path(), DIRTY);
    let role = "create role weak login password 'weakpassword'";
    servers
        .modern()
        .execute("postgres", role)
        .expect("the role is made");
    let as_weak = |url: &str| {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (_, host) = rest.split_once('@').expect("a URL with a user");
        format!("{scheme}://weak:weakpassword@{host}")
    };
    rehearsal.modern("grant select on all tables in schema public to weak");
    let program = program(&rehearsal);
    let target = program
        .clone()
        .with("TARGET_DATABASE_URL", &as_weak(&rehearsal.modern_url()));
    let refused = target.expect(5, &MIGRATE);
    assert!(refused.says("may not insert into"), "{refused}");
    // May it read the source? Only one of the tables.
    rehearsal.legacy("grant select on person, house to weak");
    let source = program
        .clone()
        .with("SOURCE_DATABASE_URL", &as_weak(&rehearsal.legacy_url()));
    let refused = source.expect(5, &MIGRATE);
    assert!(refused.says("pet"), "the table is named:\n{refused}");
    let wrong = as_weak(&rehearsal.modern_url()).replace("weakpassword", "wrongpassword");
    let refused = program
        .clone()
        .with("TARGET_DATABASE_URL", &wrong)
        .expect(5, &MIGRATE);
    assert!(!refused.says("wrongpassword"), "{refused}");
    // A policy that hides rows from the reader is no smaller source.
    rehearsal.legacy(
        "grant select on pet to weak; alter table pet enable row level security;
         create policy few on pet to weak using (id < 10)",
    );
    let refused = source.run(&MIGRATE);
    assert_eq!(refused.code, Some(5), "{refused}");
    assert!(
        refused.says("row-level security") || refused.says("row security"),
        "{refused}"
    );
}

#[test]
fn a_target_that_is_not_empty_and_not_ours() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), DIRTY);
    rehearsal.modern("insert into houses values (gen_random_uuid(), 'Somebody else''s')");
    let before = Dump::of_tables(&rehearsal.modern_url());
    for mode in ["auto", "bulk"] {
        let refused = program(&rehearsal).run(&["migrate", "--mode", mode]);
        assert_eq!(
            refused.code,
            Some(if mode == "auto" { 4 } else { 2 }),
            "{refused}"
        );
        assert!(
            refused.says("houses") && refused.says("not empty"),
            "{refused}"
        );
        assert!(refused.says("--mode in-place"), "{refused}");
        let after = Dump::of_tables(&rehearsal.modern_url());
        assert_eq!(after.len_of("table public.houses"), 1, "{mode}");
        after.catalog().assert_same(&before.catalog(), mode);
    }
    let beside = program(&rehearsal).run(&["migrate", "--mode", "in-place"]);
    assert!(matches!(beside.code, Some(0 | 1)), "{beside}");
    let left = rehearsal.modern_number("select count(*) from houses where legacy_id is null");
    assert_eq!(left, 1, "what was there stays");
}

/// A source that goes on living: one snapshot is moved, and the next run brings the rest.
#[test]
fn rows_that_come_during_a_run_come_with_the_next() {
    let servers = Servers::shared();
    let village = village();
    let rehearsal = Rehearsal::new(servers, village.path(), DIRTY);
    let proxy = Proxy::to(servers.modern().port());
    proxy.delay(Duration::from_millis(10));
    let slow = proxy.url(&rehearsal.modern_url(), servers.modern().port());
    let mut running = program(&rehearsal)
        .with("TARGET_DATABASE_URL", &slow)
        .start(&MIGRATE);
    rehearsal.wait_for_batches(&mut running, 1);
    rehearsal.legacy("insert into pet values (1000, 1, 'Late', 'cat', 1, 'T1000'), (0, 1, 'Low', 'cat', 1, 'T0')");
    proxy.delay(Duration::ZERO);
    let finished = running.wait();
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    let late = "select count(*) from pets where legacy_id in (0, 1000)";
    assert_eq!(
        rehearsal.modern_number(late),
        0,
        "they are not in the snapshot"
    );
    let next = program(&rehearsal).run(&["migrate"]);
    assert!(matches!(next.code, Some(0 | 1)), "{next}");
    assert_eq!(rehearsal.modern_number(late), 2);
}
