//! Jobs by the command line and by the service: statements 17 to 27 of the customer's contract, the
//! brief's first scenario, and services that are killed, stopped and doubled.
//!
//! `REGRAFT_TEST_KILLS` is the number of kills at random moments (20 if not set).
#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod town;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use regraft_testkit::{Dice, Dump, Program, Rehearsal, Running};
use serde_json::{Value, json};
use town::{DATA, in_step, program, town, validates};

fn create<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let arguments = ["sync", "create-job", "--name", name, "--entities", "all"];
    [&arguments[..], more].concat()
}

const DAILY: [&str; 2] = ["--schedule", "daily"];

/// Statements 17 to 20: what a job may be.
#[test]
fn what_is_a_job() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    let job = program.json(0, &create("a", &DAILY));
    assert_eq!(job["jobName"], "a");
    assert_eq!(job["status"], "scheduled");
    for field in ["jobId", "nextRunAt", "createdAt"] {
        assert!(job[field].is_string(), "{field} of {job}");
    }
    assert_eq!(job["upcoming"].as_array().map(Vec::len), Some(5));
    let twice = program.expect(2, &create("a", &DAILY));
    assert!(twice.says("there is a job named \"a\" already"), "{twice}");
    program.expect(
        2,
        &["sync", "create-job", "--name", "b", "--entities", "all"],
    );
    program.expect(
        2,
        &["sync", "create-job", "--name", "b", "--schedule", "daily"],
    );
    program.expect(
        2,
        &[
            "sync",
            "create-job",
            "--schedule",
            "daily",
            "--entities",
            "all",
        ],
    );
    program.expect(2, &create("", &DAILY));
    for (at, good) in ["hourly", "weekly", "2h", "30m", "1d", "0 3 * * MON-FRI"]
        .iter()
        .enumerate()
    {
        program.expect(0, &create(&format!("good {at}"), &["--schedule", good]));
    }
    for bad in ["sometimes", "25h", "61m", "", "0 25 * * *"] {
        let refused = program.expect(2, &create("bad", &["--schedule", bad]));
        assert!(
            refused.says("no schedule") || refused.says("no cron"),
            "{bad}: {refused}"
        );
    }
    for policy in ["source_wins", "target_wins", "manual"] {
        let more = [&DAILY[..], &["--conflict-resolution", policy]].concat();
        let job = program.json(0, &create(policy, &more));
        assert_eq!(job["conflictResolution"], policy);
    }
    let bounds = [
        ("25000", 0),
        ("1000", 0),
        ("100000", 0),
        ("0", 2),
        ("500", 2),
        ("150000", 2),
    ];
    for (rows, code) in bounds {
        let more = [&DAILY[..], &["--max-records", rows]].concat();
        program.expect(code, &create(&format!("of {rows}"), &more));
    }
    program.expect(
        2,
        &create(
            "c",
            &[&DAILY[..], &["--conflict-resolution", "mine"]].concat(),
        ),
    );
    program.expect(
        2,
        &create(
            "c",
            &[&DAILY[..], &["--timezone", "Europe/Atlantis"]].concat(),
        ),
    );
    let nobody = [
        "sync",
        "create-job",
        "--name",
        "d",
        "--entities",
        "castles",
        "--schedule",
        "1d",
    ];
    let nobody = program.expect(2, &nobody);
    assert!(nobody.says("castles"), "{nobody}");
    // Statement 22: the row as it is stored.
    let stored = rehearsal.modern_rows(
        "select job_type, entities_to_sync, conflict_resolution, max_records_per_batch
         from regraft.synchronization_jobs where job_name = 'source_wins'",
    );
    assert_eq!(
        stored,
        [["scheduled_sync", "[\"all\"]", "source_wins", "50000"]]
    );
}

/// The brief's first scenario, and statements 21 and 23 to 26.
#[test]
fn a_job_from_its_creation_to_its_end() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    let more = [
        "--schedule",
        "daily",
        "--conflict-resolution",
        "source_wins",
    ];
    let id = program.json(0, &create("daily-sync", &more))["jobId"].clone();
    let id = id.as_str().expect("an id").to_owned();
    rehearsal
        .legacy("update house set rent = rent + 1 where id <= 10; delete from room where id = 3");
    rehearsal.modern("update houses set rent = 5 where legacy_id = 1");
    let run = ["sync", "run-job", "--name", "daily-sync", "--manual"];
    let run = program.json(0, &run);
    assert_eq!(run["status"], "completed");
    assert_eq!(run["runType"], "manual");
    assert_eq!(run["recordsSynced"], 11);
    assert!(
        run["runId"].is_string() && run["startedAt"].is_string(),
        "{run}"
    );
    validates(&rehearsal, "after the run");
    let status = program.json(0, &["sync", "job-status", "--name", "daily-sync"]);
    assert_eq!(
        status["status"], "scheduled",
        "a job is always scheduled again"
    );
    assert_eq!(status["totalRecordsSynced"], 11);
    assert_eq!(status["successRate"], 100.0);
    assert!(
        status["averageDuration"]
            .as_f64()
            .is_some_and(|time| time > 0.0)
    );
    assert_eq!(status["recentRuns"][0]["runId"], run["runId"]);
    assert!(status["nextRunAt"].is_string() && status["lastRunAt"].is_string());
    // The run is one of the ledger's.
    let operation = run["operationId"].as_str().expect("a run of the ledger");
    program.expect(0, &["receipt", operation]);
    assert_eq!(program.json(0, &["sync", "runs"])[0]["runId"], run["runId"]);
    let listed = |status: &str| program.json(0, &["sync", "list-jobs", "--status", status]);
    assert_eq!(listed("scheduled").as_array().map(Vec::len), Some(1));
    let by_id = |verb: &str, code| program.json(code, &["sync", verb, "--job-id", &id]);
    assert_eq!(by_id("pause-job", 0)["status"], "paused");
    assert_eq!(listed("paused").as_array().map(Vec::len), Some(1));
    let paused = program.expect(2, &["sync", "run-job", "--job-id", &id]);
    assert!(paused.says("is paused"), "{paused}");
    let forced = program.json(0, &["sync", "run-job", "--job-id", &id, "--force"]);
    assert_eq!(forced["recordsSynced"], 0);
    assert_eq!(
        by_id("job-status", 0)["status"],
        "paused",
        "forced once, paused still"
    );
    assert_eq!(by_id("resume-job", 0)["status"], "scheduled");
    program.expect(2, &["sync", "resume-job", "--job-id", &id]);
    assert_eq!(by_id("cancel-job", 0)["status"], "cancelled");
    assert_eq!(by_id("resume-job", 0)["status"], "scheduled");
    // Statement 24.
    let unknown = "00000000-0000-4000-8000-000000000000";
    for verb in [
        "job-status",
        "run-job",
        "cancel-job",
        "pause-job",
        "resume-job",
    ] {
        program.expect(2, &["sync", verb]);
        program.expect(2, &["sync", verb, "--job-id", "no-uuid"]);
        program.expect(2, &["sync", verb, "--job-id", unknown]);
        program.expect(2, &["sync", verb, "--name", "nobody"]);
    }
    let asked = program.expect(2, &["sync", "delete-job", "--name", "daily-sync"]);
    assert!(asked.says("the job was kept"), "{asked}");
    program.expect(
        0,
        &["sync", "delete-job", "--name", "daily-sync", "--force"],
    );
    assert_eq!(program.json(0, &["sync", "list-jobs"]), json!([]));
    assert_eq!(
        rehearsal.modern_number("select count(*) from regraft.sync_run_history"),
        0
    );
}

/// A run that fails says why, and the job is scheduled again.
#[test]
fn a_run_that_fails() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    program.expect(0, &create("a", &DAILY));
    rehearsal.legacy("alter table house rename to castle");
    program.expect(2, &["sync", "run-job", "--name", "a"]);
    let status = program.json(0, &["sync", "job-status", "--name", "a"]);
    assert_eq!(status["status"], "scheduled");
    assert_eq!(status["successRate"], 0.0);
    let run = &status["recentRuns"][0];
    assert_eq!(run["status"], "failed");
    assert!(run["error"].is_string(), "{run}");
    let health = |what: &str| {
        let health = program.run(&["analyzer", "system-health"]);
        assert!(health.says(what), "{health}");
    };
    health("their last run has failed: a");
    rehearsal.legacy("alter table castle rename to house");
    program.expect(0, &["sync", "run-job", "--name", "a"]);
    health("1, all run when they are due");
    rehearsal.modern(
        "update regraft.synchronization_jobs set next_run_at = clock_timestamp() - interval '1 hour'",
    );
    health("due for more than five minutes, and not run: a");
    rehearsal.modern(
        "update regraft.synchronization_jobs set status = 'running', leased_until = '2020-01-01Z'",
    );
    health("not heard of any more: a");
    program.expect(0, &["sync", "run-job", "--name", "a"]);
    let status = program.json(0, &["sync", "job-status", "--name", "a"]);
    assert_eq!(status["successRate"].as_f64().map(f64::round), Some(67.0));
}

/// Waits until a query gives something else than zero.
fn wait_for(rehearsal: &Rehearsal<'_>, running: &mut Running, query: &str) {
    let began = Instant::now();
    while rehearsal.modern_number(query) == 0 {
        assert!(running.is_running(), "it has ended: {}", running.said());
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{query}: {}",
            running.said()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn due_now(rehearsal: &Rehearsal<'_>) {
    rehearsal.modern(
        "update regraft.synchronization_jobs set next_run_at = clock_timestamp() where status = 'scheduled'",
    );
}

/// A service; a machine under load may keep it from giving signs of life for a while, which only
/// tests of that are to notice.
fn service(program: &Program, lease: &str) -> Running {
    program.start(&["service", "start", "--poll", "1", "--lease", lease])
}

const COMPLETED: &str = "select count(*) from regraft.sync_run_history where status = 'completed'";
const SIGTERM: i32 = 15;
const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// It runs what is due, again and again, and ends in good order.
#[test]
fn the_service_runs_what_is_due() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    program.expect(
        0,
        &create(
            "a",
            &[&DAILY[..], &["--conflict-resolution", "source_wins"]].concat(),
        ),
    );
    let mut running = service(&program, "30");
    for round in 1..=3 {
        rehearsal.legacy("update house set rent = rent + 1 where id <= 10");
        due_now(&rehearsal);
        wait_for(
            &rehearsal,
            &mut running,
            &format!("select ({COMPLETED}) / {round}"),
        );
    }
    running.signal(SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    validates(&rehearsal, "after three runs");
    let status = program.json(0, &["sync", "job-status", "--name", "a"]);
    assert_eq!(status["totalRecordsSynced"], 30);
    assert_eq!(status["recentRuns"][0]["runType"], "scheduled");
}

/// A run that another process holds up: it waits, can't be doubled, is kept from being deleted, and
/// stops when it is cancelled or takes too long.
#[test]
fn a_run_at_work() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    program.expect(
        0,
        &create("slow", &[&DAILY[..], &["--timeout", "3s"]].concat()),
    );
    // Every row of houses takes its time.
    rehearsal.modern(SLOW);
    rehearsal.legacy("update house set rent = rent + 1");
    let mut running = program.start(&["sync", "run-job", "--name", "slow"]);
    let at_work = "select count(*) from regraft.synchronization_jobs where status = 'running'";
    wait_for(&rehearsal, &mut running, at_work);
    let double = program.expect(6, &["sync", "run-job", "--name", "slow", "--force"]);
    assert!(double.says("at work already"), "{double}");
    program.expect(2, &["sync", "delete-job", "--name", "slow", "--yes"]);
    let stopped = running.wait();
    assert_ne!(stopped.code, Some(0));
    let run = &program.json(0, &["sync", "runs", "--name", "slow"])[0];
    assert_eq!(run["status"], "failed");
    assert!(
        run["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("time-out")),
        "{run}"
    );
    // Cancelled, it stops too, and is not due any more.
    let mut running = program.start(&["sync", "run-job", "--name", "slow"]);
    wait_for(&rehearsal, &mut running, at_work);
    program.expect(0, &["sync", "cancel-job", "--name", "slow"]);
    assert_ne!(running.wait().code, Some(0));
    let status = program.json(0, &["sync", "job-status", "--name", "slow"]);
    assert_eq!(status["status"], "cancelled");
    let ended = status["recentRuns"][0]["status"].as_str();
    assert!(matches!(ended, Some("cancelled" | "failed")), "{status}");
    // Nothing of it works on in the database.
    let busy = "select count(*) from pg_stat_activity where datname = current_database()
                and state = 'active' and pid <> pg_backend_pid() and application_name like 'regraft%'";
    let began = Instant::now();
    while rehearsal.modern_number(busy) > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "its statements go on"
        );
        thread::sleep(Duration::from_millis(50));
    }
    rehearsal.modern("update pace set seconds = 0");
    program.expect(0, &["sync", "resume-job", "--name", "slow"]);
    program.expect(0, &["sync", "run-job", "--name", "slow"]);
    validates(&rehearsal, "once nothing is slow any more");
}

const SLOW: &str = "
create table pace (seconds float8);
insert into pace values (0.5);
create function slow() returns trigger language plpgsql as
  $$ begin perform pg_sleep(seconds) from pace; return new; end $$;
create trigger slow before update on houses for each row execute function slow();
";

/// Frozen in the middle of a run, its job goes to another; when it wakes, it writes nothing.
#[test]
fn a_service_that_is_frozen() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    program.expect(0, &create("a", &DAILY));
    rehearsal.modern(SLOW);
    rehearsal.legacy("update house set rent = rent + 1");
    due_now(&rehearsal);
    let mut frozen = service(&program, "5");
    let noted = "select count(*) from regraft.sync_run_history where backend_pid is not null";
    wait_for(&rehearsal, &mut frozen, noted);
    frozen.signal(SIGSTOP);
    let mut other = service(&program, "5");
    let retried = "select count(*) from regraft.sync_run_history where run_type = 'retry'";
    wait_for(&rehearsal, &mut other, retried);
    rehearsal.modern("update pace set seconds = 0");
    wait_for(&rehearsal, &mut other, COMPLETED);
    let runs = program.json(0, &["sync", "runs"]);
    frozen.signal(SIGCONT);
    thread::sleep(Duration::from_secs(4));
    for running in [frozen, other] {
        running.signal(SIGTERM);
        assert_eq!(running.wait().code, Some(0));
    }
    let told: Vec<_> = runs.as_array().expect("runs").iter().collect();
    assert_eq!(told.len(), 2, "{runs}");
    assert_eq!(
        (&told[0]["status"], &told[1]["status"]),
        (&json!("completed"), &json!("failed"))
    );
    // All rows are in one account, the frozen one's too.
    assert_eq!(told[0]["recordsSynced"], 588);
    assert_eq!(
        program.json(0, &["sync", "runs"]),
        runs,
        "it has written nothing late"
    );
    validates(&rehearsal, "after it woke");
}

/// A job that can't be run any more keeps no other one from its turn.
#[test]
fn a_job_that_cannot_be_run() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    program.expect(0, &create("bad", &DAILY));
    program.expect(0, &create("good", &DAILY));
    rehearsal.modern(
        "update regraft.synchronization_jobs set schedule = 'at times' where job_name = 'bad'",
    );
    due_now(&rehearsal);
    let mut running = service(&program, "30");
    wait_for(&rehearsal, &mut running, COMPLETED);
    running.signal(SIGTERM);
    assert_eq!(running.wait().code, Some(0));
    let bad = program.json(0, &["sync", "job-status", "--name", "bad"]);
    assert_eq!(
        (&bad["status"], &bad["recentRuns"][0]["status"]),
        (&json!("paused"), &json!("failed"))
    );
    assert!(
        bad["recentRuns"][0]["error"]
            .as_str()
            .is_some_and(|why| why.contains("at times"))
    );
    program.expect(0, &["sync", "list-jobs"]);
    program.expect(0, &["sync", "delete-job", "--name", "bad", "--force"]);
}

/// Signatures and bodies, in the order in which they came.
type Documents = Arc<Mutex<Vec<(String, String)>>>;

/// A web server that takes documents: it refuses the first, and keeps the others with their
/// signatures. With `hangs` it never answers.
fn web(hangs: bool) -> (String, Documents) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&taken);
    thread::spawn(move || {
        let mut open = Vec::new();
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            if hangs {
                open.push(stream);
                continue;
            }
            let (mut signature, mut length) = (String::new(), 0);
            let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                let Some((name, value)) = line.trim().split_once(": ") else {
                    if line.trim().is_empty() {
                        break;
                    }
                    continue;
                };
                match name.to_lowercase().as_str() {
                    "x-regraft-signature" => signature = value.to_owned(),
                    "content-length" => length = value.parse().expect("a number"),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let answer = match at {
                0 => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                _ => "HTTP/1.1 204 Taken\r\nConnection: close\r\n\r\n",
            };
            if at > 0 {
                let body = String::from_utf8(body).expect("text");
                kept.lock().expect("no panic").push((signature, body));
            }
            stream.write_all(answer.as_bytes()).expect("an answer");
        }
    });
    (url, taken)
}

/// Who is to be told is told of a run that fails, of conflicts, and when it works again; signed, and
/// again when it isn't taken. A web server that hangs holds nothing up.
#[test]
fn who_is_to_be_told_is_told() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let told = town.path().join("told.jsonl");
    let (url, taken) = web(false);
    let program = program(&rehearsal)
        .with("REGRAFT_NOTIFY_URL", &url)
        .with("REGRAFT_NOTIFY_SECRET", "for a test")
        .with(
            "REGRAFT_NOTIFY_COMMAND",
            &format!("cat >> '{0}'; echo >> '{0}'", told.display()),
        );
    program.expect(0, &create("a", &DAILY));
    let mut running = service(&program, "30");
    let ended = "select count(*) from regraft.sync_run_history where status <> 'running'";
    let mut runs = 0;
    let mut run = |running: &mut Running| {
        runs += 1;
        due_now(&rehearsal);
        wait_for(&rehearsal, running, &format!("select ({ended}) / {runs}"));
    };
    run(&mut running);
    rehearsal.legacy("alter table house rename to castle");
    run(&mut running);
    rehearsal.legacy("alter table castle rename to house");
    run(&mut running);
    rehearsal.legacy("update house set rent = 7 where id = 1");
    rehearsal.modern("update houses set rent = 8 where legacy_id = 1");
    run(&mut running);
    run(&mut running);
    running.signal(SIGTERM);
    assert_eq!(running.wait().code, Some(0));
    let expected = ["failed", "recovered", "conflicts"];
    let occasions = |documents: &[Value]| {
        let occasion = |document: &Value| document["occasion"].as_str().map(str::to_owned);
        let mut found: Vec<String> = documents.iter().filter_map(occasion).collect();
        found.sort_by_key(|occasion| expected.iter().position(|e| e == occasion));
        found
    };
    let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("a document");
    let by_command = fs::read_to_string(&told).expect("the command was run");
    let by_command: Vec<Value> = by_command.lines().map(parsed).collect();
    assert_eq!(occasions(&by_command), expected);
    assert_eq!(by_command[0]["run"]["job_name"], "a");
    let taken = taken.lock().expect("no panic");
    let by_web: Vec<Value> = taken.iter().map(|(_, body)| parsed(body)).collect();
    assert_eq!(occasions(&by_web), expected);
    for (signature, body) in taken.iter() {
        assert_eq!(
            *signature,
            regraft_sync::notify::signature("for a test", body)
        );
    }
    // One that hangs, and a command that fails.
    let (hanging, _) = web(true);
    let program = program
        .with("REGRAFT_NOTIFY_URL", &hanging)
        .with("REGRAFT_NOTIFY_COMMAND", "exit 3");
    rehearsal.legacy("alter table house rename to castle");
    let mut running = service(&program, "30");
    run(&mut running);
    rehearsal.legacy("alter table castle rename to house");
    run(&mut running);
    run(&mut running);
    let began = Instant::now();
    while !running
        .said()
        .contains("could not be delivered by the command")
    {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{}",
            running.said()
        );
        thread::sleep(Duration::from_millis(50));
    }
    running.signal(SIGTERM);
    assert_eq!(running.wait().code, Some(0));
}

/// A run by hand sends the notices that one of the service would.
#[test]
fn who_is_to_be_told_is_told_of_a_run_by_hand() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let told = town.path().join("told.jsonl");
    let command = format!("cat >> '{0}'; echo >> '{0}'", told.display());
    let program = program(&rehearsal).with("REGRAFT_NOTIFY_COMMAND", &command);
    program.expect(0, &create("a", &DAILY));
    let run = ["sync", "run-job", "--name", "a"];
    program.expect(0, &run);
    assert!(!told.exists(), "there is nothing to tell of");
    rehearsal.legacy("alter table house rename to castle");
    program.expect(2, &run);
    rehearsal.legacy("alter table castle rename to house");
    program.expect(0, &run);
    // It has been told when the command ends.
    let told = fs::read_to_string(&told).expect("the command was run");
    let told: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document"))
        .collect();
    let occasions: Vec<&Value> = told.iter().map(|notice| &notice["occasion"]).collect();
    assert_eq!(occasions, [&json!("failed"), &json!("recovered")]);
    assert_eq!(told[0]["run"]["run_type"], "manual");
}

/// A run of the service that fails is an error like others, on the terminal and in the log: with its
/// kind and what to do next.
#[test]
fn the_service_tells_why_a_run_failed() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let folder = town.path().join("log");
    let program = program(&rehearsal).with("REGRAFT_LOG_DIR", folder.to_str().expect("a name"));
    program.expect(0, &create("a", &DAILY));
    rehearsal.legacy("alter table house rename to castle");
    let by_hand = program.run(&["sync", "run-job", "--name", "a"]);
    due_now(&rehearsal);
    let mut running = service(&program, "30");
    let failed = "select count(*) / 2 from regraft.sync_run_history where status = 'failed'";
    wait_for(&rehearsal, &mut running, failed);
    running.signal(SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    for line in by_hand.stderr.lines() {
        assert!(
            ended.says(line.trim()),
            "{line:?} of {by_hand} is not in {ended}"
        );
    }
    let file = fs::read_dir(folder)
        .expect("a folder")
        .next()
        .expect("a file");
    let log = fs::read_to_string(file.expect("a file").path()).expect("the log");
    let log: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document"))
        .collect();
    let errors: Vec<&Value> = log
        .iter()
        .filter(|record| record["level"] == "error")
        .collect();
    let [by_hand, by_service] = errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!(by_service["job"], "a");
    for field in [
        "event",
        "kind",
        "message",
        "hint",
        "exit_code",
        "code",
        "entity",
    ] {
        assert_eq!(by_service[field], by_hand[field], "{field}");
    }
    assert_eq!(by_service["kind"], "usage");
    let ends: Vec<&Value> = log.iter().filter(|r| r["event"] == "job_ended").collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(
        (&ends[1]["job"], &ends[1]["outcome"]),
        (&json!("a"), &json!("failed"))
    );
}

fn kills() -> u64 {
    let given = std::env::var("REGRAFT_TEST_KILLS").ok();
    given.map_or(20, |n| n.parse().expect("REGRAFT_TEST_KILLS is a number"))
}

/// Killed at random, one after the other and two at a time: no job is lost or stuck, none runs twice
/// at a time, and the target comes to what it would have come to.
#[test]
fn services_that_are_killed() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let twin = rehearsal.copied();
    let mut dice = Dice::seeded(8_128);
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    for name in ["a", "b", "c"] {
        let more = ["--schedule", "30m", "--conflict-resolution", "source_wins"];
        program(&rehearsal).expect(0, &create(name, &more));
    }
    for round in 0..kills() {
        let change = format!(
            "update house set rent = rent + 1 where id % 7 = {0}; delete from room where id = {0} * 20 + 1",
            round % 7
        );
        rehearsal.legacy(&change);
        due_now(&rehearsal);
        let first = service(&program(&rehearsal), "2");
        let second = (dice.below(2) == 0).then(|| service(&program(&rehearsal), "2"));
        thread::sleep(Duration::from_millis(dice.below(1_500)));
        drop(first.kill());
        drop(second.map(Running::kill));
    }
    due_now(&rehearsal);
    let mut last = service(&program(&rehearsal), "2");
    let unfinished =
        "select count(*) from regraft.synchronization_jobs j where status <> 'scheduled'
        or next_run_at <= clock_timestamp()";
    let began = Instant::now();
    while rehearsal.modern_number(unfinished) > 0 {
        assert!(last.is_running(), "{}", last.said());
        assert!(
            began.elapsed() < Duration::from_secs(90),
            "a job is stuck: {}",
            last.said()
        );
        thread::sleep(Duration::from_millis(50));
    }
    last.signal(SIGTERM);
    assert_eq!(last.wait().code, Some(0));
    let overlapping =
        "select count(*) from regraft.sync_run_history a join regraft.sync_run_history b
        on a.job_id = b.job_id and a.sync_run_id < b.sync_run_id
       and tstzrange(a.started_at, a.completed_at) && tstzrange(b.started_at, b.completed_at)";
    assert_eq!(
        rehearsal.modern_number(overlapping),
        0,
        "two runs of a job at a time"
    );
    let twice =
        "select count(*) from (select from regraft.sync_run_history where run_type = 'scheduled'
        group by job_id, due_at having count(*) > 1) d";
    assert_eq!(rehearsal.modern_number(twice), 0);
    validates(&rehearsal, "after all kills");
    let way = [
        "differential",
        "migrate",
        "--entities",
        "all",
        "--conflict-resolution",
        "source_wins",
    ];
    let twin_of: Value = program(&twin).json(0, &way);
    assert!(twin_of["receipt"]["run_id"].is_string());
    let undisturbed = Dump::of_tables(&twin.modern_url());
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&undisturbed, "killed services");
}
