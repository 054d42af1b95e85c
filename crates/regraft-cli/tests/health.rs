//! `analyzer system-health` warns: each warning about a server is brought about on a real one.

mod quarter;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use quarter::{program, quarter, with_jobs, with_jobs_on};
use regraft_testkit::{Program, Rehearsal, Servers};
use serde_json::Value;

const HEALTH: [&str; 3] = ["analyzer", "system-health", "--comprehensive"];

/// What a check of one area says: its verdict, what was found, and what to do.
#[track_caller]
fn told(program: &Program, code: i32, area: &str, check: &str) -> (String, String, String) {
    let health = program.json(code, &HEALTH);
    let checks = health["checks"].as_array().expect("checks");
    let found = checks
        .iter()
        .find(|c| c["area"] == area && c["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {area} {check} in {health:#}"));
    let part = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (part("verdict"), part("found"), part("to_do"))
}

#[track_caller]
fn warns(program: &Program, (area, check): (&str, &str), what: &str, to_do: &str) {
    let (verdict, found, hint) = told(program, 0, area, check);
    assert_eq!(verdict, "warning", "{area} {check}: {found}");
    assert!(found.contains(what), "{area} {check}: {found}");
    assert!(hint.contains(to_do), "{area} {check}: {hint}");
}

#[track_caller]
fn is_fine(program: &Program, area: &str, check: &str) {
    let (verdict, found, _) = told(program, 0, area, check);
    assert_eq!(verdict, "ok", "{area} {check}: {found}");
}

/// A slot that nobody reads.
#[test]
fn a_replication_slot_that_nobody_reads() {
    let servers = Servers::pair();
    let folder = quarter(20);
    let rehearsal = with_jobs_on(&servers, &folder);
    let program = program(&rehearsal);
    is_fine(&program, "target", "replication slots");
    rehearsal.modern("select pg_create_physical_replication_slot('forgotten', true)");
    warns(
        &program,
        ("target", "replication slots"),
        "forgotten (",
        "drop them",
    );
    is_fine(&program, "source", "replication slots");
    rehearsal.modern("select pg_drop_replication_slot('forgotten')");
    is_fine(&program, "target", "replication slots");
}

/// Fewer connections are free than a run takes.
#[test]
fn connections_are_nearly_used_up() {
    let servers = Servers::pair();
    let folder = quarter(20);
    let rehearsal = with_jobs_on(&servers, &folder);
    let program = program(&rehearsal).with("REGRAFT_WORKERS", "64");
    is_fine(&program, "target", "connections");
    thread::scope(|scope| {
        for _ in 0..150 {
            scope.spawn(|| rehearsal.modern("select pg_sleep(12)"));
        }
        let used = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
        let began = Instant::now();
        while rehearsal.modern_number(used) < 150 {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "they don't connect"
            );
        }
        let what = "of 200 connections are free, and a run takes up to 67";
        warns(&program, ("target", "connections"), what, "REGRAFT_WORKERS");
        is_fine(&program, "source", "connections");
    });
}

/// A clock that the sessions of a database see, so many minutes ahead of what it is.
fn set_clock(rehearsal: &Rehearsal<'_>, minutes: i32) {
    rehearsal.modern(&format!(
        "create schema if not exists another;
         create or replace function another.clock_timestamp() returns timestamptz language sql volatile as
           $$ select pg_catalog.clock_timestamp() + make_interval(mins => {minutes}) $$;
         alter database {} set search_path = another, pg_catalog, public",
        rehearsal.modern_name()
    ));
}

/// The target's clock is off, either way.
#[test]
fn a_clock_that_is_off() {
    let folder = quarter(20);
    let rehearsal = with_jobs(&folder);
    let program = program(&rehearsal);
    is_fine(&program, "target", "clock");
    set_clock(&rehearsal, 10);
    warns(
        &program,
        ("target", "clock"),
        "ahead of this machine's",
        "NTP",
    );
    set_clock(&rehearsal, -10);
    warns(
        &program,
        ("target", "clock"),
        "behind this machine's",
        "NTP",
    );
    is_fine(&program, "source", "clock");
}

/// A transaction that has been open for longer than five minutes, by the clock of its server.
#[test]
fn a_transaction_that_is_forgotten() {
    let folder = quarter(20);
    let rehearsal = with_jobs(&folder);
    let program = program(&rehearsal);
    thread::scope(|scope| {
        scope.spawn(|| rehearsal.modern("begin; select pg_sleep(8); commit"));
        let asleep = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event = 'PgSleep'";
        let began = Instant::now();
        while rehearsal.modern_number(asleep) == 0 {
            assert!(began.elapsed() < Duration::from_secs(5), "it doesn't begin");
        }
        is_fine(&program, "target", "transactions");
        set_clock(&rehearsal, 6);
        let what = "open for more than 5 minutes: process ";
        warns(
            &program,
            ("target", "transactions"),
            what,
            "have those applications end them",
        );
    });
    is_fine(&program, "target", "transactions");
}

/// Somebody waits for a lock of another.
#[test]
fn sessions_that_wait_for_each_other() {
    let folder = quarter(20);
    let rehearsal = with_jobs(&folder);
    let program = program(&rehearsal);
    is_fine(&program, "target", "lock waits");
    thread::scope(|scope| {
        let holds = "begin; lock table shops1 in exclusive mode; select pg_sleep(6); commit";
        scope.spawn(|| rehearsal.modern(holds));
        thread::sleep(Duration::from_millis(500));
        scope.spawn(|| rehearsal.modern("update shops1 set sales = sales where legacy_id = 1"));
        let waits = "select count(*) from pg_locks where not granted";
        let began = Instant::now();
        while rehearsal.modern_number(waits) == 0 {
            assert!(began.elapsed() < Duration::from_secs(5), "nobody waits");
        }
        warns(
            &program,
            ("target", "lock waits"),
            " waits for ",
            "pg_stat_activity",
        );
    });
    is_fine(&program, "target", "lock waits");
}

/// A connection without TLS to an address that is not known to be this machine's.
#[test]
fn a_connection_that_is_not_encrypted() {
    let folder = quarter(20);
    let rehearsal = with_jobs(&folder);
    is_fine(&program(&rehearsal), "target", "tls");
    // The same server, by an address that has nothing of a loopback address but where it leads.
    let url = rehearsal
        .modern_url()
        .replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let program = program(&rehearsal)
        .with("TARGET_DATABASE_URL", &url)
        .with("TARGET_DB_SSLMODE", "disable");
    warns(
        &program,
        ("target", "tls"),
        "is not encrypted",
        "verify-full",
    );
    is_fine(&program, "source", "tls");
}

/// The target is a standby: a server in recovery that takes readers.
#[test]
fn a_target_that_is_a_standby() {
    let servers = Servers::pair();
    let folder = quarter(20);
    let rehearsal = with_jobs_on(&servers, &folder);
    let program = program(&rehearsal);
    is_fine(&program, "target", "writable");
    servers.modern().stop().expect("it stops");
    let signal = servers.modern().data_dir().join("standby.signal");
    fs::write(&signal, "").expect("a file");
    servers.modern().start_again().expect("it starts");
    let (verdict, found, to_do) = told(&program, 1, "target", "writable");
    assert_eq!(verdict, "failure");
    assert!(
        found.contains("is a standby") && to_do.contains("primary"),
        "{found}: {to_do}"
    );
    let health: Value = program.json(1, &HEALTH);
    assert_eq!(health["healthy"], false);
}
