//! Jobs at work at the same time: as many as the service may have, never two on one table, parents and
//! children among them; killed at random they come to what they would have come to.
//!
//! `REGRAFT_TEST_KILLS` is the number of kills at random moments (20 if not set).
#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod quarter;

use std::thread;
use std::time::{Duration, Instant};

use quarter::{create_jobs, due_now, empty_on, fast, names, program, quarter, slow, with_jobs};
use regraft_engine::ValidationOptions;
use regraft_testkit::{Dice, Dump, Program, Rehearsal, Running, Servers};
use serde_json::Value;

const SIGTERM: i32 = 15;

/// Runs that a session holds.
const HELD: &str = "select count(*) from pg_locks where locktype = 'advisory' and granted
    and classid::bigint = hashtext('regraft run')::bigint & 4294967295
    and database = (select oid from pg_database where datname = current_database())";

fn service(program: &Program, jobs: &str, lease: &str) -> Running {
    let how = ["--jobs", jobs, "--lease", lease];
    program.start(&[&["service", "start", "--poll", "1"], &how[..]].concat())
}

#[track_caller]
fn wait_until(running: &mut Running, what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(running.is_running(), "it has ended: {}", running.said());
        let late = began.elapsed() > Duration::from_secs(120);
        assert!(!late, "{what}: {}", running.said());
        thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn validates(rehearsal: &Rehearsal<'_>, what: &str) {
    let validation = rehearsal.validate(&[], &ValidationOptions::default());
    let checks = validation.entities.iter().flat_map(|e| &e.checks);
    let findings: Vec<_> = checks.flat_map(|check| &check.findings).collect();
    assert!(findings.is_empty(), "{what}: {findings:#?}");
}

fn completed(rehearsal: &Rehearsal<'_>, job: &str) -> i64 {
    rehearsal.modern_number(&format!(
        "select count(*) from regraft.sync_run_history join regraft.synchronization_jobs using (job_id)
         where job_name = '{job}' and sync_run_history.status = 'completed'"
    ))
}

/// No two runs of a job, and none of jobs that fill the same table, were at work at one time.
#[track_caller]
fn none_overlap(rehearsal: &Rehearsal<'_>) {
    let overlapping =
        "select count(*) from regraft.sync_run_history a join regraft.sync_run_history b
        on a.job_id = b.job_id and a.sync_run_id < b.sync_run_id
       and tstzrange(a.started_at, a.completed_at) && tstzrange(b.started_at, b.completed_at)";
    assert_eq!(rehearsal.modern_number(overlapping), 0);
    let twice =
        "select count(*) from (select from regraft.sync_run_history where run_type = 'scheduled'
        group by job_id, due_at having count(*) > 1) d";
    assert_eq!(rehearsal.modern_number(twice), 0);
    let numbers = "select count(*) - count(distinct run_no) from regraft.migration_control
        where entity = '' and batch = 0";
    assert_eq!(rehearsal.modern_number(numbers), 0);
}

/// Eight of nine jobs go at once in one process, with few connections and little memory; what needs the
/// target for itself is told to come later, and a run at work is nobody's to finish.
#[test]
fn eight_jobs_at_once() {
    let folder = quarter(200);
    let rehearsal = with_jobs(&folder);
    let program = program(&rehearsal);
    for name in names() {
        slow(&rehearsal, &name, 0.2);
    }
    for shop in 1..=8 {
        rehearsal.legacy(&format!(
            "update shop{shop} set sales = sales + 1 where id <= 190"
        ));
    }
    for shop in 2..=4 {
        rehearsal.legacy(&format!(
            "insert into shop{shop} select i, 1, null, i from generate_series(1001, 1040) i"
        ));
    }
    rehearsal.legacy("update area set name = name || '!'; insert into area select i, 'Area' from generate_series(100, 250) i");
    due_now(&rehearsal, None);
    let mut running = service(&program, "8", "30");
    wait_until(&mut running, "eight at once", || {
        rehearsal.modern_number(HELD) == 8
    });
    let ours = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name like 'regraft%'";
    let most = rehearsal.modern_number(ours);
    assert!(most <= 8 * 5 + 1, "{most} connections");
    let status = program.json(0, &["status"]);
    let unfinished = status["unfinished"].as_array().expect("runs");
    assert!(!unfinished.is_empty(), "{status}");
    assert!(
        unfinished.iter().all(|run| run["working"] == true),
        "{status}"
    );
    // Whoever wants to know who is at work on which is told the right one of the eight.
    // Only new rows have checkpoints.
    let open = "select count(*) from regraft.migration_checkpoints p
        join regraft.migration_control c on c.run_no = p.run_no and c.entity = '' and c.batch = 0
        where c.status = 'running'";
    wait_until(&mut running, "two checkpoints", || {
        rehearsal.modern_number(open) > 1
    });
    let status = program.json(0, &["analyzer", "checkpoint-status", "--all"]);
    let checkpoints = status["checkpoints"].as_array().expect("checkpoints");
    let working: Vec<&Value> = checkpoints
        .iter()
        .filter(|c| c["state"] == "working")
        .collect();
    assert!(working.len() > 1, "{status:#}");
    for checkpoint in working {
        let (run, process) = (&checkpoint["run_id"], &checkpoint["server_process"]);
        let holds = rehearsal.modern_number(&format!(
            "select count(*) from pg_locks l join regraft.migration_control c
               on c.entity = '' and c.batch = 0 and c.run_no = l.objid::int8
             where l.locktype = 'advisory' and l.objsubid = 2 and l.pid = {process}
               and l.classid::int8 = hashtext('regraft run')::int8 & 4294967295
               and c.run_id = '{}'",
            run.as_str().expect("an id")
        ));
        assert_eq!(holds, 1, "{run} by {process}");
    }
    for alone in [
        &["migrate"][..],
        &["differential", "resume", "--entity", "shops1"],
    ] {
        program.expect(6, alone);
    }
    let same = ["differential", "migrate", "--entities", "shops1"];
    let refused = program.expect(6, &same);
    assert!(refused.says("another process is at work"), "{refused}");
    fast(&rehearsal);
    wait_until(&mut running, "all jobs", || {
        names().iter().all(|name| completed(&rehearsal, name) > 0)
    });
    running.signal(SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    let memory = rehearsal.modern_number(
        "select max((performance_metrics ->> 'peak_memory_bytes')::int8) from regraft.sync_run_history",
    );
    assert!(memory < 512 << 20, "{memory} bytes");
    none_overlap(&rehearsal);
    validates(&rehearsal, "after all jobs");
}

/// One job at a time is what it says.
#[test]
fn one_job_at_a_time() {
    let folder = quarter(40);
    let rehearsal = with_jobs(&folder);
    let program = program(&rehearsal);
    due_now(&rehearsal, None);
    let mut running = service(&program, "1", "30");
    wait_until(&mut running, "all jobs", || {
        assert!(rehearsal.modern_number(HELD) <= 1);
        names().iter().all(|name| completed(&rehearsal, name) > 0)
    });
    running.signal(SIGTERM);
    assert_eq!(running.wait().code, Some(0));
    let beside = "select count(*) from regraft.sync_run_history a join regraft.sync_run_history b
        on a.sync_run_id < b.sync_run_id
       and tstzrange(a.started_at, a.completed_at) && tstzrange(b.started_at, b.completed_at)";
    assert_eq!(rehearsal.modern_number(beside), 0);
}

/// What came of a run; rows that somebody has to decide on are no failure.
#[track_caller]
fn run_job(program: &Program, name: &str) -> Value {
    let run = program.run(&["--format", "json", "sync", "run-job", "--name", name]);
    assert!(matches!(run.code, Some(0 | 1)), "{run}");
    serde_json::from_str(&run.stdout).expect("a document")
}

/// Children that come while their parents are on the way: those that need one are blocked, those that
/// may do without go in without, and the next run makes both what the source says. A parent that is
/// still referred to stays until its children are gone.
#[test]
fn parents_and_children_side_by_side() {
    let folder = quarter(60);
    let rehearsal = with_jobs(&folder);
    let program = program(&rehearsal);
    rehearsal.legacy(
        "insert into area select i, 'Area ' || i from generate_series(41, 60) i;
         insert into shop1 values (1001, 60, null, 5), (1002, 1, 60, 5);
         update shop1 set second = 59 where id = 1",
    );
    slow(&rehearsal, "areas", 0.5);
    let mut parents = program.start(&["sync", "run-job", "--name", "areas"]);
    // Its rows are on the way, and nobody sees them yet.
    wait_until(&mut parents, "the parents' run", || {
        rehearsal
            .modern_number("select count(*) from pg_stat_activity where wait_event = 'PgSleep'")
            > 0
    });
    let run = run_job(&program, "shops1");
    assert_eq!(
        rehearsal.modern_number(HELD),
        1,
        "the parents' run has ended too early"
    );
    assert_eq!(run["recordsFailed"], 1, "{run}");
    let bucket = "select bucket from regraft.migration_quarantine where legacy_id = '1001' and state = 'open'";
    assert_eq!(rehearsal.modern_rows(bucket), [["blocked"]]);
    let without = "select count(*) from shops1 where legacy_id in (1, 1002) and second_id is null";
    assert_eq!(rehearsal.modern_number(without), 2);
    assert_eq!(parents.wait().code, Some(0));
    let run = run_job(&program, "shops1");
    assert_eq!(run["recordsSynced"], 3, "{run}");
    assert_eq!(rehearsal.modern_number(without), 0);
    validates(&rehearsal, "when both have come");
    // Parents go, and one that is still referred to stays.
    rehearsal.legacy("delete from shop1 where area = 60; delete from area where id in (58, 60)");
    rehearsal.legacy("update shop1 set second = null where second >= 58");
    fast(&rehearsal);
    let run = run_job(&program, "areas");
    assert_eq!(run["recordsSynced"], 1, "{run}");
    run_job(&program, "shops1");
    run_job(&program, "areas");
    validates(&rehearsal, "when both have gone");
}

/// A child that comes to refer to a parent just as it goes: the server lets only one of both be, and
/// nobody loses a row for it.
#[test]
fn a_parent_goes_as_children_come() {
    let folder = quarter(60);
    let rehearsal = with_jobs(&folder);
    let program = program(&rehearsal);
    rehearsal.legacy("insert into area values (70, 'Area 70')");
    run_job(&program, "areas");
    rehearsal.legacy("insert into shop1 values (2001, 70, null, 5)");
    slow(&rehearsal, "shops1", 3.0);
    let mut children = program.start(&["sync", "run-job", "--name", "shops1"]);
    wait_until(&mut children, "the children's run", || {
        rehearsal
            .modern_number("select count(*) from pg_stat_activity where wait_event = 'PgSleep'")
            > 0
    });
    rehearsal.legacy("delete from shop1 where id = 2001; delete from area where id = 70");
    let parents = run_job(&program, "areas");
    let ended = children.wait();
    assert_eq!(ended.code, Some(0), "{ended} beside {parents}");
    fast(&rehearsal);
    for name in ["shops1", "areas"] {
        run_job(&program, name);
    }
    let left = "select (select count(*) from areas where legacy_id = 70)
                     + (select count(*) from shops1 where legacy_id = 2001)";
    assert_eq!(rehearsal.modern_number(left), 0);
    validates(&rehearsal, "after both");
}

/// Jobs of entities that nobody has migrated make their places in the ledger side by side, and children
/// follow their parents from run to run.
#[test]
fn nothing_was_migrated_before() {
    let folder = quarter(100);
    let rehearsal = empty_on(Servers::shared(), &folder);
    create_jobs(&rehearsal);
    let mut running = service(&program(&rehearsal), "8", "30");
    let busy = "select count(*) from regraft.synchronization_jobs
        where status <> 'scheduled' or next_run_at <= clock_timestamp()";
    for _ in 0..4 {
        due_now(&rehearsal, None);
        wait_until(&mut running, "a job is stuck", || {
            rehearsal.modern_number(busy) == 0
        });
    }
    running.signal(SIGTERM);
    assert_eq!(running.wait().code, Some(0));
    let failed = "select count(*) from regraft.sync_run_history where status <> 'completed'";
    assert_eq!(rehearsal.modern_number(failed), 0);
    let left = "select count(*) from regraft.migration_quarantine where state = 'open'";
    assert_eq!(rehearsal.modern_number(left), 0);
    assert_eq!(rehearsal.modern_number("select count(*) from shops8"), 100);
    none_overlap(&rehearsal);
    validates(&rehearsal, "after four rounds");
}

fn kills() -> u64 {
    let given = std::env::var("REGRAFT_TEST_KILLS").ok();
    given.map_or(20, |n| n.parse().expect("REGRAFT_TEST_KILLS is a number"))
}

/// New areas with new shops, areas that go with their shops, and changes of what is there.
fn change(rehearsal: &Rehearsal<'_>, round: u64) {
    let new = 1_000 + round;
    let mut statements = format!("insert into area values ({new}, 'Area {new}');");
    for shop in 1..=7 {
        statements.push_str(&format!(
            "insert into shop{shop} values ({new}, {new}, {new}, 1);
             update shop{shop} set sales = sales + 1 where id % 7 = {0};
             delete from shop{shop} where id = {0} + 300;
             update shop{shop} set second = case when id % 2 = 0 then {new} end where id % 11 = {0};",
            round % 7
        ));
    }
    statements.push_str(&format!(
        "insert into shop8 values ({new}, {new}, {new}, 2);
         delete from shop8 where shop1 in (select id from shop1 where id between 20 and 20 + {round});"
    ));
    if round % 3 == 2 {
        let old = new - 1;
        statements.push_str(&format!(
            "delete from shop8 where shop1 = {old} or id = {old};"
        ));
        for shop in 1..=8 {
            statements.push_str(&format!(
                "update shop{shop} set second = null where second = {old};"
            ));
        }
        for shop in 1..=7 {
            statements.push_str(&format!("delete from shop{shop} where area = {old};"));
        }
        statements.push_str(&format!("delete from area where id = {old};"));
    }
    rehearsal.legacy(&statements);
}

/// Killed at random with eight jobs at work, one service or two: the target comes to what it would have
/// come to.
#[test]
fn jobs_side_by_side_that_are_killed() {
    let folder = quarter(310);
    let rehearsal = with_jobs(&folder);
    let twin = rehearsal.copied();
    let mut dice = Dice::seeded(8_192);
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    for round in 0..kills() {
        change(&rehearsal, round);
        due_now(&rehearsal, None);
        let first = service(&program(&rehearsal), "8", "2");
        let second = (dice.below(2) == 0).then(|| service(&program(&rehearsal), "8", "2"));
        thread::sleep(Duration::from_millis(dice.below(2_500)));
        drop(first.kill());
        drop(second.map(Running::kill));
    }
    let mut last = service(&program(&rehearsal), "8", "2");
    let busy = "select count(*) from regraft.synchronization_jobs
        where status <> 'scheduled' or next_run_at <= clock_timestamp()";
    // Children follow their parents run by run: areas, shops 1, shop 8, and back for those that go.
    for _ in 0..4 {
        due_now(&rehearsal, None);
        wait_until(&mut last, "a job is stuck", || {
            rehearsal.modern_number(busy) == 0
        });
    }
    last.signal(SIGTERM);
    assert_eq!(last.wait().code, Some(0));
    none_overlap(&rehearsal);
    validates(&rehearsal, "after all kills");
    let way = ["differential", "migrate", "--entities", "all"];
    let wins = ["--conflict-resolution", "source_wins"];
    program(&twin).json(0, &[&way[..], &wins].concat());
    let undisturbed = Dump::of_tables(&twin.modern_url());
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&undisturbed, "killed jobs");
}
