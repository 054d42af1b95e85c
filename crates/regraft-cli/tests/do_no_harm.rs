//! What users feel holds the work back: every reason is brought about on real servers, named in the
//! run's record, answered with less work, and forgotten when it has passed.

#![allow(clippy::print_stderr, reason = "what was measured is worth a look")]

mod quarter;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use quarter::{due_now, empty_on, fast, names, program, quarter, slow, with_jobs, with_jobs_on};
use regraft_engine::ValidationOptions;
use regraft_pg::managed::{Installation, Server, ServerOptions};
use regraft_pg::{Environment, Session, SessionOptions, Side};
use regraft_testkit::{Rehearsal, Running, Servers};
use serde_json::Value;

const SIGTERM: i32 = 15;

/// Sessions in the middle of a row that takes its time.
const WAITS: &str = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";

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
        rehearsal.modern_number(WAITS) > 0
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
    slow(&rehearsal, "shops1", 0.15);
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

/// A standby of a server: a copy that follows it.
fn standby_of(primary: &Server, url: &str) -> Server {
    let installation = Installation::find(None, &Environment::from_process()).expect("PostgreSQL");
    let copier = installation.bin_dir.join("pg_basebackup");
    let standby = Server::start(ServerOptions::new(installation, "standby")).expect("a server");
    standby.stop().expect("it stops");
    let data = standby.data_dir();
    let owner = fs::metadata(&data).expect("the folder");
    fs::remove_dir_all(&data).expect("it goes");
    let done = Command::new(copier)
        .args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--write-recovery-conf",
        ])
        .arg(format!("--pgdata={}", data.display()))
        .arg(format!("--dbname={url}"))
        .output()
        .expect("pg_basebackup is there");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    give(&data, &owner);
    assert_ne!(primary.port(), standby.port());
    standby.start_again().expect("it follows");
    standby
}

/// Gives a folder and all that is in it to an owner.
fn give(path: &Path, owner: &fs::Metadata) {
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
        .expect("a change of owner");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            give(&entry.expect("an entry").path(), owner);
        }
    }
}

/// A standby of the target has stopped to replay what comes, and replays it later.
#[test]
fn a_standby_lags() {
    let servers = Servers::pair();
    let folder = quarter(3_000);
    let rehearsal = with_jobs_on(&servers, &folder);
    let url = rehearsal.modern_url();
    let standby = standby_of(servers.modern(), &url);
    let port = |server: &Server| format!(":{}/", server.port());
    let beside = url.replace(&port(servers.modern()), &port(&standby));
    let endpoint = regraft_testkit::endpoint_of(&beside, Side::Target);
    let on_standby = |statement: &str| {
        regraft_testkit::block_on(async {
            let session = Session::connect(&endpoint, &SessionOptions::reading("test")).await;
            let session = session.expect("a connection");
            session.batch_execute(statement).await.expect("it works");
        });
    };
    let mut running = begin(&rehearsal, &["--max-replication-lag", "2s"]);
    let follows = "select count(*) from pg_stat_replication where state = 'streaming'";
    wait_until(&mut running, "it follows", || {
        rehearsal.modern_number(follows) == 1
    });
    on_standby("select pg_wal_replay_pause()");
    wait_until(&mut running, "lag", || {
        slower_by(&steps(&rehearsal), "replication_lag")
    });
    let why = steps(&rehearsal)[0]["why"].clone();
    assert!(
        why.as_str()
            .is_some_and(|why| why.contains("a standby of the target")),
        "{why}"
    );
    on_standby("select pg_wal_replay_resume()");
    wait_until(&mut running, "it comes back", || {
        at_full_speed(&steps(&rehearsal))
    });
    end(&rehearsal, running);
}

/// Every row that is written costs the server some work of its own.
const BUSY: &str = "create or replace function slow() returns trigger language plpgsql as
  $$ begin
    perform pg_sleep(seconds), (select count(*) from generate_series(1, 20000))
      from public.pace where relation = tg_table_name;
    return new;
  end $$";

const LOOKUP: &str =
    "select relname from pg_catalog.pg_class where oid < 20000 order by relname limit 20";

/// Statements of ours that are at work.
const OURS: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'regraft' and state = 'active'";

/// What a user meets for some seconds.
#[derive(Debug)]
struct Met {
    /// How long a lookup takes, the faster of two, as a budget counts it: the median.
    lookup: Duration,
    /// Statements of ours at work beside it, on average.
    ours: f64,
}

impl Met {
    fn by(rehearsal: &Rehearsal<'_>) -> Self {
        let endpoint = regraft_testkit::endpoint_of(&rehearsal.modern_url(), Side::Target);
        let (mut times, counts) = regraft_testkit::block_on(async {
            let session = Session::connect(&endpoint, &SessionOptions::writing("a user")).await;
            let session = session.expect("a connection");
            let (mut times, mut counts) = (Vec::new(), Vec::new());
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(3) {
                let mut two = [Duration::ZERO; 2];
                for time in &mut two {
                    let asked = Instant::now();
                    session.simple_query(LOOKUP).await.expect("an answer");
                    *time = asked.elapsed();
                }
                times.push(two[0].min(two[1]));
                let row = session.query_one(OURS, &[]).await.expect("a row");
                counts.push(row.get::<_, i64>(0));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (times, counts)
        });
        times.sort_unstable();
        Self {
            lookup: times[times.len() / 2],
            ours: counts.iter().sum::<i64>() as f64 / counts.len() as f64,
        }
    }
}

/// A user, who always wants to know something.
fn use_it(rehearsal: &Rehearsal<'_>, over: &AtomicBool) {
    let endpoint = regraft_testkit::endpoint_of(&rehearsal.modern_url(), Side::Target);
    regraft_testkit::block_on(async {
        let session = Session::connect(&endpoint, &SessionOptions::writing("a user")).await;
        let session = session.expect("a connection");
        while !over.load(Relaxed) {
            let work = "select sum(sqrt(i)) from generate_series(1, 300000) i";
            session.simple_query(work).await.expect("an answer");
        }
    });
}

/// Carries changes of all shops over, eight jobs at once, on a server that users keep busy; what a user
/// meets, looked at again and again until it is `enough`. All jobs come to their end.
#[track_caller]
fn beside_users(
    rehearsal: &Rehearsal<'_>,
    budget: &[&str],
    enough: impl Fn(&Met) -> bool,
) -> (Met, String) {
    for shop in 1..=8 {
        rehearsal.legacy(&format!("update shop{shop} set sales = sales + 1"));
    }
    for name in names() {
        slow(rehearsal, &name, 0.0);
    }
    rehearsal.modern("delete from regraft.sync_run_history");
    let over = AtomicBool::new(false);
    let at_work = "select count(*) from regraft.migration_control
        where entity = '' and batch = 0 and status = 'running'";
    let (met, mut running) = thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| use_it(rehearsal, &over));
        }
        // What is usual is measured when the first job begins: beside users, and before the others.
        rehearsal.legacy("update area set name = name || ' again'");
        slow(rehearsal, "areas", 0.3);
        due_now(rehearsal, Some("areas"));
        let service = ["service", "start", "--poll", "1"];
        let mut running = program(rehearsal).start(&[&service[..], budget].concat());
        wait_until(&mut running, "the first at work", || {
            rehearsal.modern_number(WAITS) > 0
        });
        due_now(rehearsal, None);
        wait_until(&mut running, "eight at work", || {
            rehearsal.modern_number(at_work) >= 7
        });
        let mut met = Met::by(rehearsal);
        for _ in 0..40 {
            if enough(&met) {
                break;
            }
            met = Met::by(rehearsal);
        }
        over.store(true, Relaxed);
        (met, running)
    });
    fast(rehearsal);
    let completed = "select count(distinct job_id) from regraft.sync_run_history
        where status = 'completed'";
    wait_until(&mut running, "all jobs", || {
        rehearsal.modern_number(completed) == 9
    });
    running.signal(SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    (met, ended.stderr)
}

/// How long a probe may take, as the latest run was told when it was held back for it: both servers
/// are on this machine.
fn allowed(rehearsal: &Rehearsal<'_>) -> Option<Duration> {
    let steps = steps(rehearsal);
    let mut whys = steps.iter().filter_map(|step| step["why"].as_str());
    let why = whys.find(|why| why.contains("answers a probe"))?;
    let (_, limit) = why.split_once("where ")?;
    let milliseconds: f64 = limit.split_once(" ms")?.0.parse().ok()?;
    Some(Duration::from_secs_f64(milliseconds / 1e3))
}

/// Eight jobs at once beside users who wait longer than a budget allows: with it their lookups come to
/// take no longer than that while the jobs go on, and there is less of us beside them than without. All
/// jobs come to their end.
#[test]
fn eight_jobs_beside_users() {
    let servers = Servers::pair();
    let folder = quarter(3_000);
    let rehearsal = with_jobs_on(&servers, &folder);
    rehearsal.modern(BUSY);
    let none = [
        "--max-load",
        "off",
        "--max-replication-lag",
        "off",
        "--keep-connections",
        "off",
    ];
    let (without, said) = beside_users(&rehearsal, &none, |_| true);
    assert!(!said.contains("slower, "), "{said}");
    let within = |met: &Met| {
        let is_held = met.ours > 0.0 && met.ours < without.ours;
        is_held && allowed(&rehearsal).is_some_and(|limit| met.lookup <= limit)
    };
    let (with, said) = beside_users(&rehearsal, &["--max-load", "1.5"], within);
    let limit = allowed(&rehearsal);
    let [with_it, without_it] = [&with, &without].map(|met| {
        let Met { lookup, ours } = met;
        format!("lookups in {lookup:?}, {ours:.1} of ours")
    });
    let what = format!("{limit:?} allowed; with a budget {with_it}; without one {without_it}");
    eprintln!("{what}");
    assert!(with.ours > 0.0, "all was over: {what}");
    assert!(
        limit.is_some_and(|limit| with.lookup <= limit),
        "{what}: {said}"
    );
    assert!(with.lookup < without.lookup, "{what}");
    assert!(with.ours < without.ours, "{what}");
    validates(&rehearsal);
}

/// A first load is held back too, can be stopped while it is, and goes on from there.
#[test]
fn a_first_load_is_held_back() {
    let servers = Servers::pair();
    let folder = quarter(3_000);
    let rehearsal = empty_on(&servers, &folder);
    let program = program(&rehearsal);
    slow(&rehearsal, "areas", 0.2);
    let command = ["migrate", "--batch-size", "20", "--keep-connections", "150"];
    let mut running = program.start(&command);
    wait_until(&mut running, "it has begun", || {
        rehearsal.modern_number(WAITS) > 0
    });
    thread::scope(|scope| {
        for _ in 0..70 {
            scope.spawn(|| rehearsal.modern("select pg_sleep(10)"));
        }
        wait_until(&mut running, "it stops", || {
            slower_by(&steps(&rehearsal), "connections")
        });
        fast(&rehearsal);
        running.signal(SIGTERM);
        let stopped = running.wait();
        assert_eq!(stopped.code, Some(6), "{stopped}");
        assert!(stopped.time < Duration::from_secs(60), "{stopped}");
    });
    program.expect(0, &command);
    validates(&rehearsal);
}

/// Users with no more rights than regraft needs can measure all but standbys.
#[test]
fn measuring_takes_no_rights() {
    let folder = quarter(40);
    let rehearsal = with_jobs(&folder);
    rehearsal.legacy(
        "create role looker login password 'looker';
         grant usage on schema public to looker; grant select on all tables in schema public to looker",
    );
    let source = regraft_testkit::endpoint_of(&rehearsal.legacy_url(), Side::Source);
    let source = source.with_user("looker", Some("looker".to_owned())).url();
    let program = program(&rehearsal).with("SOURCE_DATABASE_URL", &source);
    rehearsal.legacy("update shop1 set sales = sales + 1");
    slow(&rehearsal, "shops1", 0.1);
    let all = [
        "differential",
        "migrate",
        "--entities",
        "all",
        "--max-load",
        "1000",
    ];
    let done = program.expect(0, &all);
    assert!(
        done.time > Duration::from_secs(2),
        "it measured nothing: {done}"
    );
    assert!(!done.says("can't be measured"), "{done}");
    assert_eq!(steps(&rehearsal), [] as [Value; 0]);
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
