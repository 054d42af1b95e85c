//! Batches handed out to workers: four of them that are killed, frozen and cut off at random, and a
//! process that hands out and is killed itself. What is there in the end is what one undisturbed
//! process leaves.
//!
//! Each worker is on a host of its own, a network namespace; where those can't be had it stands for a
//! host and reaches the servers through fault proxies of its own.
//! `REGRAFT_TEST_KILLS` is the number of disturbances (16 if not set).
#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod town;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use regraft_testkit::{
    Dice, Dump, Finished, Legacy, Namespace, Program, Proxy, Rehearsal, Running, Servers, dispatch,
};
use serde_json::Value;
use town::{DATA, LEGACY, carry_over, in_step, town, validates};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");

const DIRTY: Legacy = Legacy {
    scale: 0.05,
    seed: 7,
    dirt: 1.0,
};

const IN_PLACE: [&str; 6] = [
    "migrate",
    "core-with-patients",
    "--mode",
    "in-place",
    "--distribute",
    "--workers=1",
];
const IN_BULK: [&str; 6] = [
    "migrate",
    "core-with-patients",
    "--mode",
    "bulk",
    "--distribute",
    "--workers=1",
];

const WORKER: [&str; 4] = ["worker", "--lease=1", "--workers=2", "--no-progress"];

fn disturbances() -> u64 {
    let given = std::env::var("REGRAFT_TEST_KILLS").ok();
    given.map_or(16, |n| n.parse().expect("REGRAFT_TEST_KILLS is a number"))
}

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "40")
}

/// What one process alone leaves.
fn undisturbed(rehearsal: &Rehearsal<'_>, arguments: &[&str]) -> (Dump, Finished) {
    let other = rehearsal.again();
    let alone: Vec<&str> = arguments
        .iter()
        .filter(|argument| **argument != "--distribute")
        .copied()
        .collect();
    let finished = program(&other).run(&alone);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    (Dump::of(&other.modern_url()), finished)
}

/// Every planned batch was committed once, and nothing is offered or queued any more.
#[track_caller]
fn every_batch_once(rehearsal: &Rehearsal<'_>) {
    let wrong = rehearsal.modern_rows(
        "select p.entity, p.batches_done, c.batches from regraft.migration_checkpoints p
         join (select run_no, entity, count(*) as batches from regraft.migration_control
               where batch > 0 group by 1, 2) c using (run_no, entity)
         where p.batches_done <> c.batches",
    );
    assert!(
        wrong.is_empty(),
        "batches committed, batches planned: {wrong:?}"
    );
    let offers = rehearsal.modern_rows("select entity from regraft.migration_offers");
    assert!(offers.is_empty(), "still offered: {offers:?}");
}

/// Batches that the workers say they have moved.
fn moved(rehearsal: &Rehearsal<'_>) -> Vec<i64> {
    let rows = rehearsal.modern_rows("select batches from regraft.migration_workers");
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

/// Starts workers and waits until they have told of themselves.
fn workers(rehearsal: &Rehearsal<'_>, how_many: usize) -> Vec<Running> {
    let mut workers: Vec<Running> = (0..how_many)
        .map(|_| program(rehearsal).start(&WORKER))
        .collect();
    let are_there = comes_true(|| {
        for worker in &mut workers {
            assert!(worker.is_running(), "{}", worker.said());
        }
        workers_seen(rehearsal) == how_many
    });
    let said: Vec<String> = workers.iter().map(Running::said).collect();
    assert!(are_there, "the workers are not there: {said:#?}");
    workers
}

fn wait_for(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(is_so), "{what}");
}

/// Whether something is so within a minute.
fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > Duration::from_secs(60) {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn workers_seen(rehearsal: &Rehearsal<'_>) -> usize {
    let there = "select to_regclass('regraft.migration_workers') is not null";
    match rehearsal.modern_rows(there)[0][0].as_str() {
        "t" => moved(rehearsal).len(),
        _ => 0,
    }
}

#[test]
fn batches_are_shared_and_each_is_done_once() {
    for arguments in [IN_PLACE, IN_BULK] {
        let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
        let (expected, alone) = undisturbed(&rehearsal, &arguments);
        let workers = workers(&rehearsal, 3);
        let finished = program(&rehearsal).run(&arguments);
        assert_eq!(finished.code, alone.code, "{finished}");
        Dump::of(&rehearsal.modern_url()).assert_same(&expected, "three workers");
        every_batch_once(&rehearsal);
        wait_for("every worker has moved something", || {
            moved(&rehearsal).iter().filter(|n| **n > 0).count() >= 3
        });
        let again = ["migrate", "core-with-patients", "--distribute"];
        let again = program(&rehearsal).json(alone.code.unwrap(), &again);
        assert_eq!(again["nothing_to_do"], true, "{again}");
        for worker in workers {
            worker.signal(libc::SIGTERM);
            let left = worker.wait();
            assert_eq!(left.code, Some(0), "{left}");
            assert!(left.says("the worker has left"), "{left}");
        }
        assert_eq!(workers_seen(&rehearsal), 0, "who leaves is forgotten");
    }
}

/// Both servers, as hosts with networks of their own can reach them; `None` where there are no such
/// hosts.
fn reachable() -> Option<Servers> {
    if let Err(why) = Namespace::new() {
        eprintln!("hosts are proxies: {why}");
        return None;
    }
    let servers = Servers::pair();
    Namespace::admit(servers.legacy());
    Namespace::admit(servers.modern());
    Some(servers)
}

/// How a host is connected.
enum Network {
    Own(Namespace),
    Proxies { source: Proxy, target: Proxy },
}

/// A worker on a host of its own.
struct Host {
    network: Network,
    program: Program,
    running: Running,
}

impl Host {
    fn own(rehearsal: &Rehearsal<'_>) -> Self {
        let host = Namespace::new().expect("a host");
        let program = program(rehearsal)
            .with("SOURCE_DATABASE_URL", &host.url(&rehearsal.legacy_url()))
            .with("TARGET_DATABASE_URL", &host.url(&rehearsal.modern_url()))
            .on_host(&host);
        Self::with(Network::Own(host), program)
    }

    fn behind_proxies(rehearsal: &Rehearsal<'_>) -> Self {
        let servers = Servers::shared();
        let (legacy, modern) = (servers.legacy().port(), servers.modern().port());
        let (source, target) = (Proxy::to(legacy), Proxy::to(modern));
        let urls = [
            source.url(&rehearsal.legacy_url(), legacy),
            target.url(&rehearsal.modern_url(), modern),
        ];
        let program = program(rehearsal)
            .with("SOURCE_DATABASE_URL", &urls[0])
            .with("TARGET_DATABASE_URL", &urls[1]);
        Self::with(Network::Proxies { source, target }, program)
    }

    fn with(network: Network, program: Program) -> Self {
        let running = program.start(&WORKER);
        Self {
            network,
            program,
            running,
        }
    }

    fn disturb(&mut self, dice: &mut Dice) -> &'static str {
        // One that could not go on is there again, as a service manager would see to.
        if !self.running.is_running() {
            self.running = self.program.start(&WORKER);
        }
        match dice.below(4) {
            0 => {
                let fresh = self.program.start(&WORKER);
                std::mem::replace(&mut self.running, fresh).kill();
                "killed"
            }
            1 => {
                // Longer than its lease: its batches go to others.
                self.running.signal(libc::SIGSTOP);
                thread::sleep(Duration::from_millis(1_500 + dice.below(1_000)));
                self.running.signal(libc::SIGCONT);
                "frozen"
            }
            part => self.network.cut_off(part == 2, dice),
        }
    }
}

impl Network {
    fn cut_off(&self, longer: bool, dice: &mut Dice) -> &'static str {
        match self {
            // Longer than the lease, or shorter; neither side is told that the other is away.
            Self::Own(host) => {
                let least = if longer { 1_500 } else { 0 };
                host.cut(true);
                thread::sleep(Duration::from_millis(least + dice.below(1_000)));
                host.cut(false);
                "cut off"
            }
            Self::Proxies { target, .. } if longer => {
                target.cut_now();
                "cut off from the target"
            }
            Self::Proxies { source, .. } => {
                source.refuse(true);
                source.cut_now();
                thread::sleep(Duration::from_millis(dice.below(500)));
                source.refuse(false);
                "cut off from the source"
            }
        }
    }
}

/// Four hosts with networks of their own, at one of which something happens all the time. Where there
/// are no such hosts they are behind proxies, in bulk here and in place in the next test.
#[test]
fn hosts_that_are_killed_frozen_and_cut_off_change_nothing() {
    match reachable() {
        Some(servers) => are_disturbed(&servers, Host::own, &[IN_PLACE, IN_BULK]),
        None => are_disturbed(Servers::shared(), Host::behind_proxies, &[IN_BULK]),
    }
}

/// The same with connections that are cut, which both sides are told.
#[test]
fn workers_that_are_killed_frozen_and_cut_off_change_nothing() {
    are_disturbed(Servers::shared(), Host::behind_proxies, &[IN_PLACE]);
}

#[track_caller]
fn are_disturbed(servers: &Servers, host: fn(&Rehearsal<'_>) -> Host, ways: &[[&str; 6]]) {
    let mut dice = Dice::from_environment();
    let seed = dice.seed();
    for arguments in ways {
        let rehearsal = Rehearsal::new(servers, &dispatch(), DIRTY);
        let (expected, alone) = undisturbed(&rehearsal, arguments);
        let mut hosts: Vec<Host> = (0..4).map(|_| host(&rehearsal)).collect();
        wait_for("the workers are there", || {
            for host in &mut hosts {
                assert!(host.running.is_running(), "{}", host.running.said());
            }
            workers_seen(&rehearsal) == 4
        });
        let mut running = program(&rehearsal).start(arguments);
        let mut happened = Vec::new();
        for _ in 0..disturbances() / 2 {
            if !running.is_running() {
                break;
            }
            thread::sleep(Duration::from_millis(dice.below(400)));
            let at = usize::try_from(dice.below(4)).unwrap();
            happened.push(hosts[at].disturb(&mut dice));
        }
        let mut finished = running.wait();
        // A worker may have run out of attempts while its host was cut off: the run says so, and is
        // gone on with.
        for _ in 0..5 {
            if finished.code == alone.code {
                break;
            }
            assert_eq!(
                finished.code,
                Some(3),
                "seed {seed}, {happened:?}: {finished}"
            );
            finished = program(&rehearsal).run(arguments);
        }
        assert_eq!(
            finished.code, alone.code,
            "seed {seed}, {happened:?}: {finished}"
        );
        // Whoever was frozen has woken up by now, and has written nothing.
        thread::sleep(Duration::from_millis(500));
        let what = format!("seed {seed}, {happened:?}");
        Dump::of(&rehearsal.modern_url()).assert_same(&expected, &what);
        every_batch_once(&rehearsal);
        drop(hosts);
    }
}

/// The process that hands out is killed; its workers stay, and the next one goes on with them.
#[test]
fn who_hands_out_is_killed_and_the_next_one_goes_on() {
    let mut dice = Dice::from_environment();
    let seed = dice.seed();
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
    let (expected, alone) = undisturbed(&rehearsal, &IN_PLACE);
    let workers = workers(&rehearsal, 2);
    let mut ended = None;
    for _ in 0..disturbances() / 4 {
        let time = Duration::from_millis(200 + dice.below(2_500));
        let finished = program(&rehearsal).start(&IN_PLACE).kill_after(time);
        // It may have been done before it was to be killed.
        if finished.code.is_some() {
            ended = Some(finished);
            break;
        }
    }
    let finished = ended.unwrap_or_else(|| program(&rehearsal).run(&IN_PLACE));
    assert_eq!(finished.code, alone.code, "seed {seed}: {finished}");
    Dump::of(&rehearsal.modern_url()).assert_same(&expected, &format!("seed {seed}"));
    every_batch_once(&rehearsal);
    drop(workers);
}

/// Data that stands in the way ends the run with the error of the worker that met it.
#[test]
fn what_a_worker_cannot_get_past_ends_the_run() {
    let town = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), town.path(), LEGACY);
    let worker = workers(&rehearsal, 1);
    // The trigger swallows rows, which no staging can mend.
    rehearsal.modern(
        "create table swallowing (n integer); insert into swallowing values (1);
         create function swallow() returns trigger language plpgsql as
           'begin if exists (select from swallowing) then return null; end if; return new; end';
         create trigger swallow before insert on houses for each row execute function swallow()",
    );
    let failed = program(&rehearsal).expect(4, &["migrate", "--distribute", "--mode=in-place"]);
    assert!(failed.says("swallows rows"), "{failed}");
    assert!(failed.says("houses, batch "), "{failed}");
    rehearsal.modern("delete from swallowing");
    program(&rehearsal).expect(0, &["migrate", "--distribute", "--mode=in-place"]);
    drop(worker);
}

/// Under a budget no more batches are handed out at a time than it allows.
#[test]
fn a_budget_holds_all_workers() {
    let folder = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    let workers = workers(&rehearsal, 2);
    // Each look at the queue while the run is at work: how many batches are in it.
    let budget = [
        "migrate",
        "--distribute",
        "--mode=in-place",
        "--workers=1",
        "--max-load=1000",
    ];
    let mut running = program(&rehearsal).start(&budget);
    let mut most = 0;
    while running.is_running() {
        let queued = rehearsal.modern_rows("select count(*) from regraft_queue._private_jobs");
        most = most.max(queued[0][0].parse::<i64>().unwrap());
        thread::sleep(Duration::from_millis(5));
    }
    let finished = running.wait();
    assert_eq!(finished.code, Some(0), "{finished}");
    assert_eq!(most, 1, "batches in the queue at a time");
    every_batch_once(&rehearsal);
    drop(workers);
}

/// A worker with another project or secret takes no part, and says why.
#[test]
fn a_worker_with_other_things_is_refused() {
    let town = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), town.path(), LEGACY);
    let other = program(&rehearsal)
        .with("REGRAFT_KEY_SECRET", "a secret that the run does not have")
        .start(&WORKER);
    wait_for("the worker is there", || workers_seen(&rehearsal) == 1);
    // It takes a batch sooner or later, and gives it back.
    for _ in 0..20 {
        let finished = program(&rehearsal).run(&["migrate", "--distribute", "--workers=1"]);
        assert_eq!(finished.code, Some(0), "{finished}");
        if other.said().contains("REGRAFT_KEY_SECRET") {
            let refused = other.wait();
            assert_eq!(refused.code, Some(2), "{refused}");
            return;
        }
        program(&rehearsal).expect(0, &["rollback", "all", "--yes"]);
    }
    panic!("the worker never took a batch: {}", other.kill());
}

/// What a differential migration has to move anew is handed out too; the rest is as without workers.
#[test]
fn new_rows_of_a_differential_migration_are_handed_out() {
    let folder = town(DATA, &[], None);
    let rehearsal = in_step(&folder);
    rehearsal.legacy(
        "insert into house select i, 1 + i % 20, null, i - 1, 1, 0, null, timestamptz '2022-01-01 00:00:00+00', 'n', null, false
         from generate_series(1001, 1400) i;
         insert into room select i, i, 'Room', 1, null from generate_series(1001, 1400) i;
         update house set label = 'other' where id % 7 = 0;
         delete from room where id % 11 = 0",
    );
    let other = rehearsal.copied();
    let alone = program(&other).run(&carry_over(&[]));
    let mut workers = workers(&rehearsal, 2);
    let handed_out = program(&rehearsal).run(&carry_over(&["--distribute"]));
    assert_eq!(handed_out.code, alone.code, "{handed_out}");
    wait_for("somebody else has moved something", || {
        moved(&rehearsal).iter().sum::<i64>() > 0
    });
    for worker in workers.drain(..) {
        worker.signal(libc::SIGTERM);
        assert_eq!(worker.wait().code, Some(0));
    }
    let rows = "select legacy_id, h.label, h.district_id, h.twin_id from houses h order by 1";
    assert_eq!(rehearsal.modern_rows(rows), other.modern_rows(rows));
    let rows = "select legacy_id, house_id from rooms order by 1";
    assert_eq!(rehearsal.modern_rows(rows), other.modern_rows(rows));
    every_batch_once(&rehearsal);
    validates(&rehearsal, "after it");
}

/// A worker that is to leave when there is nothing to do is shown while it is there, and leaves.
#[test]
fn a_worker_is_shown_and_leaves_when_there_is_nothing_to_do() {
    let folder = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    let worker = program(&rehearsal).start(&["worker", "--lease=2", "--leave-after=3"]);
    wait_for("the worker is there", || workers_seen(&rehearsal) == 1);
    let status = program(&rehearsal).json(0, &["status"]);
    assert_eq!(status["workers"][0]["slots"], 2, "{status}");
    let shown = program(&rehearsal).expect(0, &["status"]);
    assert!(shown.says("side by side"), "{shown}");
    let left = worker.wait();
    assert_eq!(left.code, Some(0), "{left}");
    assert!(left.says("the worker has left"), "{left}");
}

/// What the manifests start is a command line that the program knows.
#[test]
fn the_manifests_start_commands_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    let program = Program::new(REGRAFT);
    let mut started = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let Some(list) = line.trim_start().strip_prefix("args: ") else {
                continue;
            };
            let arguments: Vec<String> = serde_json::from_str(list).unwrap();
            let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            // A command line is read before its help is printed.
            arguments.push("--help");
            program.expect(0, &arguments);
            started += 1;
        }
    }
    assert_eq!(started, 2);
}

/// A validation that is handed out finds what one process finds, while workers are killed.
#[test]
fn a_validation_is_handed_out_and_finds_the_same() {
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), DIRTY);
    program(&rehearsal).run(&["migrate", "core-with-patients"]);
    rehearsal.modern(
        "update profiles set first_name = 'Somebody' where legacy_user_id % 50 = 0;
         delete from orders where legacy_instruction_id % 97 = 0",
    );
    let of = |validation: &Value| {
        let mut entities = validation["entities"].as_array().unwrap().clone();
        for entity in &mut entities {
            entity["seconds"] = Value::Null;
        }
        (
            entities,
            validation["passed"].clone(),
            validation["not_checked"].clone(),
        )
    };
    let alone = program(&rehearsal).json(1, &["validate", "core-with-patients"]);
    let mut workers = workers(&rehearsal, 2);
    let handed_out = [
        "validate",
        "core-with-patients",
        "--distribute",
        "--format=json",
    ];
    let running = program(&rehearsal).start(&handed_out);
    thread::sleep(Duration::from_millis(700));
    workers.remove(0).kill();
    let finished = running.wait();
    assert_eq!(finished.code, Some(1), "{finished}");
    let found: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(of(&found), of(&alone));
    wait_for("the other worker has done a part", || {
        moved(&rehearsal).iter().sum::<i64>() > 0
    });
    let left = rehearsal.modern_rows("select entity from regraft.migration_proofs");
    assert!(left.is_empty(), "{left:?}");
    // Statements of the views are over: nothing holds a snapshot of the target any more.
    for worker in workers {
        worker.signal(libc::SIGTERM);
        assert_eq!(worker.wait().code, Some(0));
    }
}
