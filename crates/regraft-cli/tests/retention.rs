//! Records of what is over are removed, and nothing that is needed: validation still holds, nothing is
//! carried over twice, a single run whose before-images are gone is not undone, and a run at work is
//! not disturbed. And the soak: a service that carries changes over for a while keeps its memory and
//! its ledger within bounds.
//!
//! `REGRAFT_TEST_SOAK_SECONDS` is how long it soaks (20 if not set; a day is 86400),
//! `REGRAFT_TEST_ROUNDS` how often a pruned ledger is held against one that is not (12 if not set).
#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod town;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use regraft_engine::ValidationOptions;
use regraft_testkit::{Dice, Dump, Program, Rehearsal};
use serde_json::{Value, json};
use town::{DATA, carry_over, in_step, program, town, validates};

const SIGTERM: i32 = 15;
const PRUNE: [&str; 5] = ["ledger", "prune", "--days", "0", "--yes"];

/// What must never go: tables whole, and what is open.
const PROTECTED: [&str; 6] = [
    "select entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch, merged_into
     from regraft.migration_mappings order by 1, 2",
    "select * from regraft.migration_cursors order by 1, 2",
    "select * from regraft.migration_quarantine order by id",
    "select * from regraft.data_differentials where legacy_id is not null and not resolved order by id",
    "select run_no, entity, status, source_rows from regraft.migration_control
     where status not in ('done', 'rolled_back') order by 1, 2",
    "select job_name, status, schedule from regraft.synchronization_jobs order by 1",
];

fn protected(rehearsal: &Rehearsal<'_>) -> Vec<Vec<Vec<String>>> {
    PROTECTED
        .iter()
        .map(|query| rehearsal.modern_rows(query))
        .collect()
}

fn count(rehearsal: &Rehearsal<'_>, table: &str) -> i64 {
    rehearsal.modern_number(&format!("select count(*) from regraft.{table}"))
}

/// Runs that change, add and delete, with rows that can't be moved and rows to be decided on.
fn life(rehearsal: &Rehearsal<'_>, program: &Program) {
    rehearsal.legacy(
        "insert into house select 5000, 1, null, null, 5, 9, null, built, 'House', null, false from house where id = 1",
    );
    for round in 1..=6 {
        rehearsal.legacy(&format!(
            "update house set rent = rent + 1 where id between {round} and {round} + 20;
             delete from room where id = {round} * 7;
             insert into room values (2000 + {round}, 1, 'Room', 3, null);
             delete from room where id = 2000 + {round} - 2"
        ));
        program.expect(0, &carry_over(&["--conflict-resolution", "source_wins"]));
    }
    // One that both have changed is left for a decision.
    rehearsal.legacy("update house set rent = 7 where id = 101");
    rehearsal.modern("update houses set rent = 8 where legacy_id = 101");
    program.expect(1, &carry_over(&["--conflict-resolution", "manual"]));
}

#[test]
fn what_is_over_goes_and_what_is_needed_stays() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    program.expect(
        0,
        &[
            "sync",
            "create-job",
            "--name",
            "a",
            "--entities",
            "all",
            "--schedule",
            "daily",
            "--conflict-resolution",
            "manual",
        ],
    );
    life(&rehearsal, &program);
    for _ in 0..6 {
        program.run(&["sync", "run-job", "--name", "a"]);
    }
    let runs = program.json(0, &["runs"]);
    let ids: Vec<&str> = runs
        .as_array()
        .expect("runs")
        .iter()
        .filter_map(|r| r["run_id"].as_str())
        .collect();
    let before = protected(&rehearsal);
    let found = findings(&rehearsal);
    assert_eq!(found.len(), 1, "the open conflict: {found:#?}");
    let figures = ["migration_control", "migration_changes", "sync_run_history"];
    let counts = figures.map(|table| count(&rehearsal, table));
    // The preview says what will go, asks, and removes nothing.
    let asked = program.expect(2, &["ledger", "prune", "--days", "0"]);
    assert!(
        asked.says("before-images") && asked.says("nothing was removed"),
        "{asked}"
    );
    assert_eq!(figures.map(|table| count(&rehearsal, table)), counts);
    // Nothing is that old.
    let none = program.json(0, &["ledger", "prune", "--days", "1", "--yes"]);
    assert_eq!(
        (&none["runs"], &none["before_images"]),
        (&json!(0), &json!(0))
    );
    let pruned = program.json(0, &PRUNE);
    for part in [
        "runs",
        "run_records",
        "before_images",
        "differences",
        "job_runs",
    ] {
        assert!(
            pruned[part].as_i64().is_some_and(|n| n > 0),
            "{part}: {pruned}"
        );
    }
    assert_eq!(protected(&rehearsal), before);
    assert_eq!(count(&rehearsal, "migration_changes"), 0);
    assert_eq!(
        count(&rehearsal, "sync_run_history"),
        3,
        "the last of the job stay"
    );
    let left = count(&rehearsal, "migration_control");
    assert_eq!(
        counts[0] - left,
        pruned["run_records"].as_i64().expect("a number")
    );
    // Again, there is nothing.
    let again = program.json(0, &PRUNE);
    assert_eq!(again["runs"], 0, "{again}");
    // Runs that stay have their account, and those that wrote rows which are there stay.
    assert_eq!(findings(&rehearsal), found);
    for run in program.json(0, &["runs"]).as_array().expect("runs") {
        let receipt = program.json(0, &["receipt", run["run_id"].as_str().expect("an id")]);
        let total = &receipt["total"];
        let of = |bucket: &str| total[bucket].as_i64().expect("a figure");
        let buckets = [
            "inserted",
            "updated",
            "unchanged",
            "merged",
            "filtered",
            "quarantined",
            "blocked",
        ];
        assert_eq!(
            buckets.into_iter().map(of).sum::<i64>(),
            of("source_rows"),
            "{receipt}"
        );
    }
    let unknown = "select count(*) from regraft.migration_mappings m where not exists (
        select from regraft.migration_control c where c.run_no = m.run_no and c.entity = m.entity and c.batch = m.batch)";
    assert_eq!(rehearsal.modern_number(unknown), 0);
    let layouts = "select count(*) from regraft.migration_mappings m where not exists (
        select from regraft.migration_control c where c.run_no = coalesce(m.agreed_run, m.run_no)
          and c.entity = '' and c.detail -> 'columns' ? m.entity)";
    assert_eq!(rehearsal.modern_number(layouts), 0);
    // Nothing is carried over twice; what changes later is found all the same, and so is the conflict.
    let nothing = program.json(1, &carry_over(&["--conflict-resolution", "manual"]));
    assert_eq!(written(&nothing), 0, "{nothing:#}");
    assert_eq!(nothing["open"], 1);
    rehearsal.legacy(
        "update house set rent = rent + 1 where id in (3, 301); delete from room where id in (14, 700)",
    );
    let later = program.json(0, &carry_over(&["--conflict-resolution", "source_wins"]));
    assert_eq!(written(&later), 4, "{later:#}");
    validates(&rehearsal, "after later changes");
    program.expect(0, &["validate", "--final"]);
    // A single old run can't be undone any more, a later one can.
    let stays = |id: &&&str| {
        rehearsal.modern_number(&format!(
            "select count(*) from regraft.migration_control where run_id = '{id}'"
        )) > 0
    };
    let (old, gone): (Vec<&&str>, Vec<&&str>) = ids.iter().partition(stays);
    assert!(!old.is_empty() && !gone.is_empty(), "{old:?} {gone:?}");
    for id in old {
        let refused = program.expect(2, &["rollback", "--run", id, "--yes"]);
        assert!(
            refused.says("can't be undone") && refused.says("hint: "),
            "{refused}"
        );
    }
    program.expect(2, &["rollback", "--run", gone[0], "--yes"]);
    let last = program.json(0, &["runs"])[0]["run_id"].clone();
    program.expect(
        0,
        &["rollback", "--run", last.as_str().expect("a run"), "--yes"],
    );
    assert_eq!(
        rehearsal.modern_number("select count(*) from rooms where legacy_id = 700"),
        1
    );
    // All of an entity can.
    program.expect(0, &["rollback", "--entities", "rooms", "--yes"]);
    assert_eq!(rehearsal.modern_number("select count(*) from rooms"), 0);
    program.expect(0, &["migrate"]);
    program.expect(0, &carry_over(&["--conflict-resolution", "source_wins"]));
    validates(&rehearsal, "after undoing an entity and doing it again");
}

/// What validation finds.
fn findings(rehearsal: &Rehearsal<'_>) -> Vec<String> {
    let validation = rehearsal.validate(&[], &ValidationOptions::default());
    let checks = validation.entities.iter().flat_map(|e| &e.checks);
    let findings = checks.flat_map(|check| &check.findings);
    findings.map(|finding| format!("{finding:?}")).collect()
}

/// Rows inserted, updated or deleted by a run.
fn written(document: &Value) -> i64 {
    let total = &document["receipt"]["total"];
    let of = |name: &str| total[name].as_i64().unwrap_or(0);
    of("inserted") + of("updated") + total["detail"]["deleted"].as_i64().unwrap_or(0)
}

/// What happens in one round: SQL for the source, and for both targets.
fn happening(dice: &mut Dice, round: u64) -> (String, String) {
    let house = |dice: &mut Dice| dice.below(600) + 1;
    let (a, b, c, d) = (house(dice), house(dice), house(dice), dice.below(900) + 1);
    let mut source = format!(
        "update house set rent = rent + 1 where id between {a} and {a} + 5;
         update room set area = 7 + {round} where id between {d} and {d} + 9;
         insert into room values (3000 + {round}, {b}, 'Room', 3, null);"
    );
    if dice.below(2) == 0 {
        source.push_str(&format!(
            "delete from room where id between {d} and {d} + 3;"
        ));
    }
    if dice.below(2) == 0 {
        // It goes, and comes back in a later round with another key.
        source.push_str(&format!(
            "insert into away select * from house where id = {c}; delete from house where id = {c};"
        ));
    }
    if dice.below(2) == 0 {
        source.push_str(
            "insert into house select distinct on (id) id, district, overseer, twin, rent, state, notes,
               built + interval '1 day', label, changed, hidden, updated_at, version from away
             where id not in (select id from house);
             delete from away;",
        );
    }
    let target = format!(
        "update houses set rent = 5 where legacy_id between {b} and {b} + 1;
         update rooms set name = 'Chamber' where legacy_id = {d} + 20"
    );
    (source, target)
}

/// What validation finds, without the words, which name runs.
fn figures(rehearsal: &Rehearsal<'_>) -> Vec<(u64, Vec<String>)> {
    let validation = rehearsal.validate(&[], &ValidationOptions::default());
    let checks = validation.entities.iter().flat_map(|e| &e.checks);
    let findings = checks.flat_map(|check| &check.findings);
    findings
        .map(|finding| (finding.rows, finding.examples.clone()))
        .collect()
}

/// Two targets of one source live through the same; the ledger of one is pruned after every run. Both
/// come to the same, run by run, whatever is carried over, and validation says the same of both.
#[test]
fn a_pruned_ledger_leads_to_the_same_target() {
    let rounds = std::env::var("REGRAFT_TEST_ROUNDS").ok();
    let rounds: u64 = rounds.map_or(12, |n| n.parse().expect("REGRAFT_TEST_ROUNDS is a number"));
    let town = town(DATA, &[], None);
    let pruned = in_step(&town);
    pruned.legacy("create table away as select * from house where false");
    let whole = pruned.copied();
    let mut dice = Dice::from_environment();
    eprintln!("REGRAFT_TEST_SEED={}", dice.seed());
    let mut removed = 0;
    for round in 0..rounds {
        let (source, target) = happening(&mut dice, round);
        pruned.legacy(&source);
        let entities = ["all", "houses", "rooms", "all"][dice.below(4) as usize];
        let policy = ["source_wins", "target_wins", "manual"][dice.below(3) as usize];
        let deletes = ["mirror", "mirror", "soft"][dice.below(3) as usize];
        let way = [
            "differential",
            "migrate",
            "--entities",
            entities,
            "--conflict-resolution",
            policy,
            "--deletes",
            deletes,
        ];
        let codes = [&pruned, &whole].map(|rehearsal| {
            rehearsal.modern(&target);
            program(rehearsal).run(&way).code
        });
        assert_eq!(codes[0], codes[1], "round {round}: {way:?}");
        let said = program(&pruned).json(0, &PRUNE);
        removed += said["runs"].as_i64().expect("a number");
        Dump::of_tables(&pruned.modern_url()).assert_same(
            &Dump::of_tables(&whole.modern_url()),
            &format!("round {round}"),
        );
        assert_eq!(figures(&pruned), figures(&whole), "round {round}: {way:?}");
    }
    assert!(removed > 0, "no run was ever old enough");
    for rehearsal in [&pruned, &whole] {
        rehearsal.legacy("insert into house select distinct on (id) * from away where id not in (select id from house); delete from away");
        program(rehearsal).run(&carry_over(&["--conflict-resolution", "source_wins"]));
    }
    Dump::of_tables(&pruned.modern_url())
        .assert_same(&Dump::of_tables(&whole.modern_url()), "at the end");
}

/// Rows that are only marked as deleted are known as such, whatever was removed.
#[test]
fn marks_of_deleted_rows_are_kept() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    rehearsal.legacy("create table away as select * from room where id in (3, 5); delete from room where id in (3, 5)");
    program.expect(0, &carry_over(&["--deletes", "soft"]));
    rehearsal.legacy("update house set rent = rent + 1 where id <= 10");
    program.expect(
        0,
        &carry_over(&["--deletes", "soft", "--conflict-resolution", "source_wins"]),
    );
    program.expect(0, &PRUNE);
    let marked = "select count(*) from rooms where gone is not null";
    assert_eq!(rehearsal.modern_number(marked), 2);
    // They are not marked again, and unmarked when they come back.
    let document = program.json(0, &carry_over(&["--deletes", "soft"]));
    assert_eq!(written(&document), 0, "{document:#}");
    rehearsal.legacy("insert into room select * from away");
    program.expect(0, &carry_over(&["--deletes", "soft"]));
    assert_eq!(rehearsal.modern_number(marked), 0);
    validates(&rehearsal, "once they are back");
}

/// A time that can't be meant is refused before anything is looked at; so is a target without a ledger.
#[test]
fn times_that_cannot_be_meant() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    for days in ["-1", "soon", "1000000"] {
        let refused = program(&rehearsal)
            .with("REGRAFT_LEDGER_DAYS", days)
            .expect(2, &["service", "start"]);
        assert!(refused.says("REGRAFT_LEDGER_DAYS"), "{refused}");
        program(&rehearsal).expect(2, &["ledger", "prune", "--days", days, "--yes"]);
    }
    program(&rehearsal).expect(2, &["ledger", "prune"]);
    rehearsal.modern("drop schema regraft cascade");
    let nothing = program(&rehearsal).run(&PRUNE);
    assert!(matches!(nothing.code, Some(1..=6)), "{nothing}");
    let schemas = "select count(*) from pg_namespace where nspname = 'regraft'";
    assert_eq!(rehearsal.modern_number(schemas), 0);
}

/// A run that is at work, or half done, is not disturbed.
#[test]
fn beside_a_run_at_work_and_a_run_half_done() {
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    let program = program(&rehearsal);
    life(&rehearsal, &program);
    // Every row takes its time, until the pace is set to nothing.
    rehearsal.modern(
        "create table pace (seconds float8);
         insert into pace values (0.1);
         create function slow() returns trigger language plpgsql as
           $$ begin perform pg_sleep(seconds) from pace; return new; end $$;
         create trigger slow before update on houses for each row execute function slow()",
    );
    rehearsal.legacy("update house set rent = rent + 1 where id <= 140");
    let way = carry_over(&["--conflict-resolution", "source_wins"]);
    let running = program.start(&way);
    let at_work =
        "select count(*) from regraft.migration_control where status = 'running' and entity = ''";
    let committed = "select count(*) from regraft.migration_changes c
        join regraft.migration_control r on r.run_no = c.run_no and r.entity = '' and r.batch = 0
        where r.status = 'running'";
    let began = Instant::now();
    while rehearsal.modern_number(committed) == 0 {
        assert!(began.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(20));
    }
    let before = count(&rehearsal, "migration_control");
    let busy = program.expect(6, &PRUNE);
    assert!(busy.says("another process is at work"), "{busy}");
    assert!(count(&rehearsal, "migration_control") >= before);
    // Killed in the middle, it is unfinished: it stays with all that came after it, and is finished.
    let killed = running.kill();
    assert_ne!(killed.code, Some(0));
    rehearsal.modern("update pace set seconds = 0");
    program.expect(0, &PRUNE);
    assert_eq!(rehearsal.modern_number(at_work), 1);
    assert!(
        rehearsal.modern_number(committed) > 0,
        "those of the unfinished run"
    );
    program.expect(0, &way);
    validates(&rehearsal, "once it is finished");
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.expect("its memory")
}

/// One round of simulated changes: rows change, come and go, and there are about as many of them.
fn changes(rehearsal: &Rehearsal<'_>, dice: &mut Dice, round: u64) {
    let (low, room) = (dice.below(500) + 1, dice.below(800) + 1);
    rehearsal.legacy(&format!(
        "update house set rent = rent + 1 where id between {low} and {low} + 10;
         update room set area = coalesce(area, 0) + 1 where id between {room} and {room} + 5;
         insert into room select 100000 + {round}, 1 + {low} % 49, 'Room', 3, null;
         delete from room where id = 100000 + {round} - 5"
    ));
}

/// The most that a figure was in the second half of the soak, against the most in its second quarter.
fn growth(figures: &[u64]) -> f64 {
    let quarter = figures.len() / 4;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0) as f64;
    most(&figures[2 * quarter..]) / most(&figures[quarter..2 * quarter]).max(1.0)
}

#[test]
fn a_service_that_soaks_keeps_its_memory_and_its_ledger_within_bounds() {
    let seconds = std::env::var("REGRAFT_TEST_SOAK_SECONDS").ok();
    let seconds: u64 = seconds.map_or(20, |text| text.parse().expect("a number of seconds"));
    let town = town(DATA, &[], None);
    let rehearsal = in_step(&town);
    // A record is kept for a twentieth of the soak.
    let days = seconds as f64 / 20.0 / 86_400.0;
    let program = program(&rehearsal).with("REGRAFT_LEDGER_DAYS", &format!("{days:.9}"));
    let job = [
        "sync",
        "create-job",
        "--name",
        "often",
        "--schedule",
        "1m",
        "--entities",
        "all",
    ];
    program.expect(
        0,
        &[&job[..], &["--conflict-resolution", "source_wins"]].concat(),
    );
    let mut running = program.start(&["service", "start", "--poll", "1"]);
    let mut dice = Dice::from_environment();
    let (mut memory, mut records, mut round) = (Vec::new(), Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        assert!(running.is_running(), "it has ended: {}", running.said());
        round += 1;
        changes(&rehearsal, &mut dice, round);
        rehearsal.modern(
            "update regraft.synchronization_jobs set next_run_at = clock_timestamp() where status = 'scheduled'",
        );
        thread::sleep(Duration::from_millis(250));
        memory.push(resident(running.process()));
        let tables = [
            "migration_control",
            "migration_changes",
            "data_differentials",
            "sync_run_history",
            "migration_checkpoints",
        ];
        records.push(
            tables
                .iter()
                .map(|table| count(&rehearsal, table))
                .sum::<i64>()
                .unsigned_abs(),
        );
    }
    running.signal(SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    let ever: i64 = rehearsal.modern_number("select max(run_no) from regraft.migration_control");
    let told = format!(
        "{ever} runs, memory {:.3} of what it was, records {:.3}: {records:?}",
        growth(&memory),
        growth(&records)
    );
    assert!(ever > 6, "{told}");
    assert!(growth(&memory) < 1.15, "{told} {memory:?}");
    assert!(growth(&records) < 1.3, "{told}");
    program.run(&carry_over(&["--conflict-resolution", "source_wins"]));
    validates(&rehearsal, "after the soak");
}
