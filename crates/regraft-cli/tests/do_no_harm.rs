//! What users feel holds the work back: every reason is brought about on real servers, named in the
//! run's record, answered with less work, and forgotten when it has passed.

mod quarter;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use quarter::{due_now, fast, names, program, quarter, slow, with_jobs, with_jobs_on};
use regraft_engine::ValidationOptions;
use regraft_pg::{Session, SessionOptions, Side};
use regraft_testkit::{Rehearsal, Running, Servers};
use serde_json::Value;

const SIGTERM: i32 = 15;

/// The changes of the rate that the latest run has kept, the first of them first.
fn steps(rehearsal: &Rehearsal<'_>) -> Vec<Value> {
    let kept = rehearsal.modern_rows(
        "select coalesce(detail #> '{pace,last}', '[]') from regraft.migration_control
         where entity = '' and batch = 0 order by run_no desc limit 1",
    );
    serde_json::from_str(&kept[0][0]).expect("a list")
}

fn slower_by(steps: &[Value], reason: &str) -> bool {
    let mut steps = steps.iter();
    steps.any(|step| step["slower"] == true && step["reason"] == reason)
}

fn at_full_speed(steps: &[Value]) -> bool {
    steps.last().is_some_and(|last| {
        last["workers"] == last["of"] && last["percent"] == 100 && last["stopped"] == false
    })
}

#[track_caller]
fn wait_until(running: &mut Running, what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(running.is_running(), "{what}: {}", running.said());
        let late = began.elapsed() > Duration::from_secs(120);
        assert!(!late, "{what}: {}", running.said());
        thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn validates(rehearsal: &Rehearsal<'_>) {
    let validation = rehearsal.validate(&[], &ValidationOptions::default());
    let checks = validation.entities.iter().flat_map(|e| &e.checks);
    let findings: Vec<_> = checks.flat_map(|check| &check.findings).collect();
    assert!(findings.is_empty(), "{findings:#?}");
}

/// A differential migration of one entity with thousands of rows to write, each of which takes its time.
fn begin(rehearsal: &Rehearsal<'_>, budget: &[&str]) -> Running {
    rehearsal.legacy("update shop1 set sales = sales + 1");
    slow(rehearsal, "shops1", 0.03);
    let command = [
        "differential",
        "migrate",
        "--entities",
        "shops1",
        "--batch-size",
        "100",
    ];
    let wins = ["--conflict-resolution", "source_wins"];
    let program = program(rehearsal).with("REGRAFT_WORKERS", "2");
    let mut running = program.start(&[&command[..], &wins, budget].concat());
    wait_until(&mut running, "it has begun", || {
        rehearsal
            .modern_number("select count(*) from pg_stat_activity where wait_event = 'PgSleep'")
            > 0
    });
    running
}

/// Lets a run come to its end, which has to be a good one.
#[track_caller]
fn end(rehearsal: &Rehearsal<'_>, running: Running) {
    fast(rehearsal);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    validates(rehearsal);
}

/// Too few free connections: nothing new is begun, and it says so in every place, until they are free.
#[test]
fn connections_run_out() {
    let servers = Servers::pair();
    let folder = quarter(3_000);
    let rehearsal = with_jobs_on(&servers, &folder);
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).expect("a folder");
    rehearsal.legacy("update shop1 set sales = sales + 1");
    slow(&rehearsal, "shops1", 0.03);
    let command = [
        "differential",
        "migrate",
        "--entities",
        "shops1",
        "--batch-size",
        "50",
    ];
    let program = program(&rehearsal);
    let logging = program
        .clone()
        .with("REGRAFT_LOG_DIR", logs.to_str().expect("a path"));
    let mut running = logging.start(&[&command[..], &["--keep-connections", "150"]].concat());
    let done = "select coalesce(max(batches_done), 0) from regraft.migration_checkpoints
        where run_no = (select max(run_no) from regraft.migration_control)";
    wait_until(&mut running, "a batch", || {
        rehearsal.modern_number(done) > 0
    });
    assert_eq!(steps(&rehearsal), [] as [Value; 0], "all is calm");
    thread::scope(|scope| {
        for _ in 0..70 {
            scope.spawn(|| rehearsal.modern("select pg_sleep(14)"));
        }
        wait_until(&mut running, "it stops", || {
            steps(&rehearsal)
                .last()
                .is_some_and(|step| step["stopped"] == true)
        });
        assert!(slower_by(&steps(&rehearsal), "connections"));
        // The batch that was at work comes to its end, and no other begins.
        thread::sleep(Duration::from_secs(3));
        let before = rehearsal.modern_number(done);
        thread::sleep(Duration::from_secs(3));
        assert_eq!(rehearsal.modern_number(done), before, "it goes on");
        let status = program.json(0, &["status"]);
        let last = &status["unfinished"][0]["pace"]["last"][0];
        assert_eq!(last["reason"], "connections", "{status}");
        for tells in [
            &["status"][..],
            &["analyzer", "debug", "--entity", "shops1"],
        ] {
            let told = program.run(tells);
            assert!(told.says("held back: nothing new"), "{told}");
        }
    });
    wait_until(&mut running, "it comes back", || {
        at_full_speed(&steps(&rehearsal))
    });
    assert!(rehearsal.modern_number(done) > 0);
    assert!(
        running
            .said()
            .contains("free connections, where 150 are to be left")
    );
    end(&rehearsal, running);
    let log: String = fs::read_dir(&logs)
        .expect("the folder")
        .map(|file| fs::read_to_string(file.expect("a file").path()).expect("text"))
        .collect();
    let told: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let paces: Vec<&Value> = told
        .iter()
        .filter(|e| e["event"] == "pace_changed")
        .collect();
    assert_eq!(paces[0]["reason"], "connections");
    assert!(paces[0]["message"].is_string() && paces[0]["stopped"] == true);
    assert_eq!(paces[paces.len() - 1]["reason"], "calm");
}

/// Others wait for rows that a batch has written.
#[test]
fn others_wait_for_locks() {
    let servers = Servers::pair();
    let folder = quarter(3_000);
    let rehearsal = with_jobs_on(&servers, &folder);
    let mut running = begin(&rehearsal, &["--max-load", "1000"]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for user in 1..=4 {
            let (rehearsal, over) = (&rehearsal, &over);
            scope.spawn(move || {
                // Whoever is in the batch at work waits for it.
                for turn in 0_i64.. {
                    if over.load(Relaxed) {
                        return;
                    }
                    let id = 1 + (turn * 50 + user * 12) % 3_000;
                    rehearsal.modern(&format!(
                        "begin; set local session_replication_role = replica;
                        update shops1 set sales = sales where legacy_id = {id}; commit"
                    ));
                }
            });
        }
        wait_until(&mut running, "lock waits", || {
            slower_by(&steps(&rehearsal), "lock_waits")
        });
        over.store(true, Relaxed);
    });
    wait_until(&mut running, "it comes back", || {
        at_full_speed(&steps(&rehearsal))
    });
    end(&rehearsal, running);
}

/// The target's WAL isn't archived.
#[test]
fn the_archive_fails() {
    let servers = Servers::pair();
    servers
        .modern()
        .execute("postgres", "alter system set archive_mode = on")
        .expect("a setting");
    servers
        .modern()
        .execute("postgres", "alter system set archive_command = 'true'")
        .expect("a setting");
    servers.modern().restart().expect("a restart");
    let folder = quarter(3_000);
    let rehearsal = with_jobs_on(&servers, &folder);
    let mut running = begin(&rehearsal, &["--max-replication-lag", "1h"]);
    let archive = |command: &str| {
        rehearsal.modern(&format!("alter system set archive_command = '{command}'"));
        rehearsal.modern("select pg_reload_conf()");
        rehearsal.modern(
            "create table if not exists written (); drop table written; select pg_switch_wal()",
        );
    };
    archive("false");
    wait_until(&mut running, "archiving", || {
        slower_by(&steps(&rehearsal), "archiving")
    });
    assert!(steps(&rehearsal).iter().any(|step| step["stopped"] == true));
    archive("true");
    wait_until(&mut running, "it comes back", || {
        at_full_speed(&steps(&rehearsal))
    });
    end(&rehearsal, running);
}

/// Somebody who replicates the target can't follow.
#[test]
fn a_replica_lags() {
    let servers = Servers::pair();
    let folder = quarter(3_000);
    let rehearsal = with_jobs_on(&servers, &folder);
    rehearsal.modern("create table news (id integer primary key)");
    rehearsal.modern("create publication news for table news");
    rehearsal.legacy("create table news (id integer primary key)");
    rehearsal.legacy(&format!(
        "create subscription news connection '{}' publication news",
        rehearsal.modern_url()
    ));
    let mut running = begin(&rehearsal, &["--max-replication-lag", "2s"]);
    let follows = "select count(*) from pg_stat_replication where state = 'streaming'";
    wait_until(&mut running, "it follows", || {
        rehearsal.modern_number(follows) > 0
    });
    thread::scope(|scope| {
        let lock = "begin; lock table news in access exclusive mode; select pg_sleep(8); commit";
        scope.spawn(|| rehearsal.legacy(lock));
        thread::sleep(Duration::from_millis(500));
        rehearsal.modern("insert into news select generate_series(1, 1000)");
        wait_until(&mut running, "lag", || {
            slower_by(&steps(&rehearsal), "replication_lag")
        });
    });
    wait_until(&mut running, "it comes back", || {
        at_full_speed(&steps(&rehearsal))
    });
    end(&rehearsal, running);
    rehearsal.legacy("alter subscription news disable");
    rehearsal.legacy("drop subscription news");
}

/// Eight jobs at once on a machine that users keep busy: all of them come to their end, what users feel
/// is measured and answered, and when they have gone the rate comes back.
#[test]
fn users_keep_the_target_busy() {
    let servers = Servers::pair();
    let folder = quarter(1_500);
    let rehearsal = with_jobs_on(&servers, &folder);
    let change = || {
        for shop in 1..=8 {
            rehearsal.legacy(&format!("update shop{shop} set sales = sales + 1"));
        }
    };
    change();
    for name in names() {
        slow(&rehearsal, &name, 0.005);
    }
    due_now(&rehearsal, None);
    let (over, seen) = (AtomicBool::new(false), std::sync::Mutex::new(Vec::new()));
    let service = ["service", "start", "--poll", "1", "--max-load", "1.5"];
    let mut running = program(&rehearsal).start(&service);
    wait_until(&mut running, "runs", || {
        rehearsal
            .modern_number("select count(*) from regraft.sync_run_history where run_id is not null")
            >= 2
    });
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    rehearsal.modern("select sum(sqrt(i)) from generate_series(1, 300000) i");
                }
            });
        }
        let slowed = "select count(*) from regraft.migration_control
            where detail #>> '{pace,last}' like '%\"reason\": \"probe\"%'";
        wait_until(&mut running, "a slow probe", || {
            let taken = Instant::now();
            rehearsal.modern_number("select count(*) from areas where legacy_id = 1");
            seen.lock().expect("no panic").push(taken.elapsed());
            rehearsal.modern_number(slowed) > 0
        });
        let status = program(&rehearsal).json(0, &["sync", "job-status", "--name", "shops1"]);
        assert!(status["recentRuns"].is_array());
        over.store(true, Relaxed);
    });
    fast(&rehearsal);
    let completed =
        "select count(distinct job_id) from regraft.sync_run_history where status = 'completed'";
    wait_until(&mut running, "all jobs", || {
        rehearsal.modern_number(completed) == 9
    });
    running.signal(SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.says("answers a probe in"), "{ended}");
    validates(&rehearsal);
}

/// Every row that is written costs the server some work of its own.
const BUSY: &str = "create or replace function slow() returns trigger language plpgsql as
  $$ begin
    if exists (select from public.pace where relation = tg_table_name) then
      perform count(*) from generate_series(1, 20000);
    end if;
    return new;
  end $$";

/// What a user feels meanwhile: how long a lookup takes, again and again, until `over`; the median.
fn felt(rehearsal: &Rehearsal<'_>, over: impl Fn() -> bool + Send + Sync) -> Duration {
    let endpoint = regraft_testkit::endpoint_of(&rehearsal.modern_url(), Side::Target);
    let mut times = regraft_testkit::block_on(async {
        let session = Session::connect(&endpoint, &SessionOptions::writing("a user")).await;
        let session = session.expect("a connection");
        let mut times = Vec::new();
        while !over() {
            let began = Instant::now();
            session.simple_query(LOOKUP).await.expect("an answer");
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        times
    });
    times.sort_unstable();
    times[times.len() / 2]
}

const LOOKUP: &str =
    "select relname from pg_catalog.pg_class where oid < 20000 order by relname limit 20";

/// With a budget, users feel less of eight jobs at once than without one, and all jobs get on.
#[test]
fn users_feel_less_of_eight_jobs() {
    let servers = Servers::pair();
    let folder = quarter(1_500);
    let rehearsal = with_jobs_on(&servers, &folder);
    rehearsal.modern(BUSY);
    let round = |budget: &[&str], slowed: bool| {
        for shop in 1..=8 {
            rehearsal.legacy(&format!("update shop{shop} set sales = sales + 1"));
        }
        for name in names() {
            slow(&rehearsal, &name, 0.0);
        }
        rehearsal.modern("delete from regraft.sync_run_history");
        due_now(&rehearsal, None);
        let service = [
            "service",
            "start",
            "--poll",
            "1",
            "--max-replication-lag",
            "off",
        ];
        let mut running = program(&rehearsal).start(&[&service[..], budget].concat());
        let at_work = "select count(*) from regraft.migration_control
            where entity = '' and batch = 0 and status = 'running'";
        wait_until(&mut running, "eight at work", || {
            rehearsal.modern_number(at_work) >= 7
        });
        if slowed {
            // It has had the time to find its rate.
            wait_until(&mut running, "it is held back", || {
                steps(&rehearsal).iter().any(|step| step["workers"] == 1)
            });
        }
        let began = Instant::now();
        let felt = felt(&rehearsal, || began.elapsed() > Duration::from_secs(5));
        fast(&rehearsal);
        let completed = "select count(distinct job_id) from regraft.sync_run_history
            where status = 'completed'";
        wait_until(&mut running, "all jobs", || {
            rehearsal.modern_number(completed) == 9
        });
        running.signal(SIGTERM);
        let ended = running.wait();
        assert_eq!(ended.code, Some(0), "{ended}");
        felt
    };
    let unpaced = round(&["--max-load", "off", "--keep-connections", "off"], false);
    let paced = round(&["--max-load", "1.2"], true);
    assert!(
        paced <= unpaced,
        "{paced:?} with a budget, {unpaced:?} without"
    );
    validates(&rehearsal);
}

/// Without a budget nothing is measured, and what can't be one is refused.
#[test]
fn no_budget_no_measurement() {
    let folder = quarter(40);
    let rehearsal = with_jobs(&folder);
    let all = ["differential", "migrate", "--entities", "all"];
    for bad in [
        "--max-load=1",
        "--max-replication-lag=0s",
        "--keep-connections=none",
    ] {
        let refused = program(&rehearsal).expect(2, &[&all[..], &[bad]].concat());
        assert!(
            refused.says("is needed, or `off`") || refused.says("such as"),
            "{refused}"
        );
    }
    let refused = program(&rehearsal)
        .with("REGRAFT_MAX_LOAD", "much")
        .expect(2, &all);
    assert!(
        refused.says("REGRAFT_MAX_LOAD: a number above 1"),
        "{refused}"
    );
    // The option goes before the variable: with this one it would stand still.
    let program = program(&rehearsal).with("REGRAFT_KEEP_CONNECTIONS", "10000");
    program.expect(0, &[&all[..], &["--keep-connections", "off"]].concat());
    assert_eq!(steps(&rehearsal), [] as [Value; 0]);
}
