//! What the contract of the old programs says about differential migration, statement by statement (1 to
//! 16: the command line; 41 to 58: finding, carrying over, recovering, volume), and the quickstart
//! scenarios 2 and 3 of the brief.
//!
//! | statement | test, or why there is none |
//! |---|---|
//! | 1, 3 | `an_analysis_is_one_document_with_the_names_of_the_contract` |
//! | 2, 4, 12 | `entities_are_named_in_either_way_and_must_be_known` |
//! | 5 | `a_batch_may_be_larger_than_the_contract_allows`: 1001 is accepted on purpose; what it protected the old programs from, the memory of a batch, doesn't grow with it here |
//! | 6 | `a_dry_run_says_so_and_changes_nothing` |
//! | 7, 8 | `a_migration_gives_the_names_of_the_contract`; an operation's id is that of its run, and no UUID |
//! | 9 | `scenario_2_a_large_migration_is_resumed` |
//! | 10 | `the_help_names_what_there_is` |
//! | 11 | `a_database_that_does_not_answer_is_told_quickly` |
//! | 13 | `sync` is the scheduler's (sync.rs); `differential migrate` counts conflicts by column |
//! | 14, 15 | `scenario_3_conflicts_are_resolved`, `conflicts_are_decided_on_by_entity`: a kind of conflict is no option, because only rows that both sides have changed are decided on by `conflicts resolve`; `missing_records` and `deleted_records` are what `differential migrate` and `--deletes` are for. A report tells no strategy: each row may have been decided on in its own way |
//! | 16 | `a_row_altered_in_the_target_is_put_back` |
//! | 41, 57 | `known_changes_are_found_exactly_day_after_day` |
//! | 42 | no confidence: a row is compared, and not guessed at |
//! | 43 | `nothing_changed_is_nothing_to_do` (differential.rs) for equal content; hashes are not switched off but gone past by `--full` (differential_cursor.rs). Dates in the future and inverted pairs are values like any other: checks of the target, or invariants of the project, judge them |
//! | 44 | `many_analyses_at_once_count_the_same` |
//! | 45 | no configuration of a detector: it needs no column of times, and batches and workers have the bounds of every command (usage.rs) |
//! | 46 | `the_order_of_the_entities_is_corrected`. A first migration moves independent entities side by side; later changes are too few to gain by it |
//! | 47 | `a_bad_row_costs_itself`; every kind of fault: dirt.rs, retry.rs |
//! | 48 | faults.rs (`the_target_says_no`, `a_connection_is_cut`): what failed, where, and what to type next is in the message; nobody estimates the time of a repair |
//! | 49, 50 | `paused_and_resumed_or_cancelled`: a pause is Ctrl-C, cancelling is a rollback of the run |
//! | 51, 52 | no checkpoint outside of the database: it is committed with the rows that it is of, or not at all, so that none can be corrupt, expire, or have a second copy. A run that is gone on with although project, catalogs or program have changed is refused (`a_run_is_not_gone_on_with_under_another_project`, differential_disturbed.rs) |
//! | 53 | the tests here that move rows end with `validate` over all of them; mutation.rs for what it finds |
//! | 54 to 56 | `known_changes_are_found_exactly_day_after_day`; memory and rates are the benchmarks' (`cargo xtask bench`), as is how even they are: tests share a machine |
//! | 58 | `a_backlog_is_carried_over`; which of independent entities goes first makes no difference to it |

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use regraft_testkit::{Finished, Legacy, Program, Rehearsal, Running, Servers, dispatch};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 0.01,
    seed: 1,
    dirt: 0.0,
};
const CLINIC: [&str; 5] = [
    "offices",
    "profiles",
    "doctors",
    "doctor_offices",
    "patients",
];

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal)
}

/// What orders refer to is migrated.
fn clinic() -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), LEGACY);
    program(&rehearsal).expect(0, &[&["migrate"], &CLINIC[..]].concat());
    rehearsal
}

fn differential(rehearsal: &Rehearsal<'_>, code: i32, line: &str) -> Value {
    let arguments: Vec<&str> = line.split(' ').collect();
    program(rehearsal).json(code, &[&["differential"], &arguments[..]].concat())
}

fn validates(rehearsal: &Rehearsal<'_>, entities: &str) {
    program(rehearsal).expect(0, &["validate", "--entities", entities]);
}

/// Rows of some tables of the target.
fn rows(rehearsal: &Rehearsal<'_>, tables: &[&str]) -> i64 {
    let count = |table: &&str| rehearsal.modern_number(&format!("select count(*) from {table}"));
    tables.iter().map(count).sum()
}

fn number(document: &Value, field: &str) -> i64 {
    let found = document[field].as_i64();
    found.unwrap_or_else(|| panic!("`{field}` is no number in {document}"))
}

fn entity<'a>(document: &'a Value, name: &str) -> &'a Value {
    let entities = document["entities"].as_array().expect("entities");
    let found = entities.iter().find(|entity| entity["entity"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {document}"))
}

/// Times the orders of the first data that make a migration worth to be interrupted.
const ENOUGH: i32 = 30;

/// A statement for new offices with these ids.
fn offices(ids: std::ops::Range<i32>) -> String {
    format!(
        "insert into dispatch_office (id, name, address, apt, city, state, zip, country, phone, sq_customer_id, emails)
         select i, 'Office ' || i, i || ' Street', '', 'City', 'ST', '1', 'USA', '1', '', true
         from generate_series({}, {}) i;",
        ids.start,
        ids.end - 1
    )
}

/// A statement for so many times the orders that there are, with other ids.
fn orders(times: i32) -> String {
    let columns = "patient_id, course_id, status, deleted, submitted_at, updated_at, price, notes, complaint,
        objective, conditions, scanner_notes, model, scanner, cbct, comprehensive, accept_extraction, \"order\",
        suffix, upper_jaw_id, lower_jaw_id, exports";
    format!(
        "insert into dispatch_instruction (id, {columns})
         select id + 1000000 * i, {columns} from dispatch_instruction, generate_series(1, {times}) i;"
    )
}

#[test]
fn an_analysis_is_one_document_with_the_names_of_the_contract() {
    let rehearsal = clinic();
    let tables = ["offices", "doctors", "patients"];
    let analysis = differential(&rehearsal, 0, "analyze --entities offices,doctors,patients");
    assert_eq!(number(&analysis, "missing_records"), 0);
    assert_eq!(number(&analysis, "conflicted_records"), 0);
    assert_eq!(
        number(&analysis, "total_target_records"),
        rows(&rehearsal, &tables)
    );
    let source = rehearsal.legacy_rows(
        "select (select count(*) from dispatch_office) + (select count(*) from auth_user)
              + (select count(*) from dispatch_patient p join auth_user u on u.id = p.user_id)",
    );
    assert_eq!(
        number(&analysis, "total_source_records").to_string(),
        source[0][0]
    );
    rehearsal.legacy(&offices(900_001..900_004));
    let analysis = differential(&rehearsal, 0, "analyze --entities offices");
    assert_eq!(number(&analysis, "missing_records"), 3);
    assert_eq!(
        number(&analysis, "total_target_records"),
        rows(&rehearsal, &["offices"])
    );
}

#[test]
fn entities_are_named_in_either_way_and_must_be_known() {
    let rehearsal = clinic();
    for option in ["--entities", "--entity"] {
        program(&rehearsal).expect(0, &["differential", "analyze", option, "offices"]);
        program(&rehearsal).expect(0, &["differential", "migrate", option, "offices"]);
    }
    for verb in ["analyze", "migrate"] {
        let refused =
            program(&rehearsal).expect(2, &["differential", verb, "--entities", "dragons"]);
        assert!(refused.says("dragons"), "{refused}");
        let refused = program(&rehearsal).expect(2, &["differential", verb]);
        assert!(refused.says("--entities"), "{refused}");
    }
}

#[test]
fn a_batch_may_be_larger_than_the_contract_allows() {
    let rehearsal = clinic();
    rehearsal.legacy(&offices(900_001..902_003));
    let migrate = |size: &str, code: i32| {
        let line = [
            "differential",
            "migrate",
            "--entities",
            "offices",
            "--dry-run",
            "--batch-size",
            size,
        ];
        program(&rehearsal).expect(code, &[&["--format", "json"], &line[..]].concat())
    };
    for (size, batches) in [("100", 21), ("1001", 2)] {
        let done: Value = serde_json::from_str(&migrate(size, 0).stdout).expect("a document");
        // The rows that nobody had to touch are a batch of their own.
        assert_eq!(
            number(&done["checkpoints"][0], "batches"),
            batches + 1,
            "{done}"
        );
    }
    for size in ["0", "1000001"] {
        migrate(size, 2);
    }
}

#[test]
fn a_dry_run_says_so_and_changes_nothing() {
    let rehearsal = clinic();
    rehearsal.legacy(&offices(900_001..900_004));
    let before = rows(&rehearsal, &CLINIC);
    let line = [
        "differential",
        "migrate",
        "--entities",
        "offices,doctors",
        "--dry-run",
    ];
    let dry = program(&rehearsal).expect(0, &line);
    assert!(
        dry.stdout.contains("DRY RUN") && dry.stdout.contains("No changes were made"),
        "{dry}"
    );
    assert_eq!(rows(&rehearsal, &CLINIC), before);
}

#[test]
fn a_migration_gives_the_names_of_the_contract() {
    let rehearsal = clinic();
    rehearsal.legacy(&(offices(900_001..900_004) + &orders(1)));
    let tables = ["offices", "orders"];
    let before = rows(&rehearsal, &tables);
    let done = differential(&rehearsal, 0, "migrate --entities offices,orders");
    assert_eq!(done["operationId"], done["receipt"]["run_id"]);
    let [total, successful, failed, skipped] =
        ["totalProcessed", "successful", "failed", "skipped"].map(|field| number(&done, field));
    assert_eq!(total, successful + failed + skipped);
    assert_eq!(rows(&rehearsal, &tables) - before, successful);
    assert!(successful > 100 && number(&done, "duration") > 0, "{done}");
    let checkpoints = done["checkpoints"].as_array().expect("checkpoints");
    let named: Vec<&Value> = checkpoints
        .iter()
        .map(|checkpoint| &checkpoint["entity"])
        .collect();
    assert_eq!(named, ["offices", "orders"]);
    assert_eq!(done["resumed_from_checkpoint"], false);
    validates(&rehearsal, "offices,orders");
}

#[test]
fn the_help_names_what_there_is() {
    let program = Program::new(REGRAFT);
    let help = program.expect(0, &["differential", "--help"]);
    for verb in ["analyze", "migrate", "resume", "status"] {
        assert!(help.stdout.contains(verb), "{verb}: {help}");
    }
    let help = program.expect(0, &["differential", "migrate", "--help"]);
    for option in [
        "--entities",
        "--batch-size",
        "--dry-run",
        "--conflict-resolution",
    ] {
        assert!(help.stdout.contains(option), "{option}: {help}");
    }
}

#[test]
fn a_database_that_does_not_answer_is_told_quickly() {
    let rehearsal = clinic();
    let before = rows(&rehearsal, &CLINIC);
    let nobody = program(&rehearsal).with(
        "SOURCE_DATABASE_URL",
        "postgresql://nobody@127.0.0.1:1/nothing",
    );
    for line in ["analyze", "migrate"] {
        let failed = nobody.expect(3, &["differential", line, "--entities", "offices"]);
        assert!(failed.time < Duration::from_secs(10), "{failed}");
    }
    assert_eq!(rows(&rehearsal, &CLINIC), before);
}

/// Doctors with preferences, as their legacy ids.
fn doctors(rehearsal: &Rehearsal<'_>, many: usize) -> Vec<String> {
    let found = rehearsal.legacy_rows(&format!(
        "select user_id from dispatch_doctorsetting order by user_id limit {many}"
    ));
    assert_eq!(found.len(), many);
    found.into_iter().flatten().collect()
}

/// Both sides change the preferences of doctors.
fn both_change(rehearsal: &Rehearsal<'_>, doctors: &[String]) {
    let ids = doctors.join(", ");
    rehearsal.legacy(&format!(
        "update dispatch_doctorsetting set clinical_preferences = '{{\"by\": \"source\"}}' where user_id in ({ids})"
    ));
    rehearsal.modern(&format!(
        "update doctors set clinical_preferences = '{{\"by\": \"target\"}}' where legacy_user_id in ({ids})"
    ));
}

/// How many doctors have preferences that a side has written.
fn preferences_by(rehearsal: &Rehearsal<'_>, side: &str) -> i64 {
    rehearsal.modern_number(&format!(
        "select count(*) from doctors where clinical_preferences ->> 'by' = '{side}'"
    ))
}

#[test]
fn conflicts_are_decided_on_by_entity() {
    let rehearsal = clinic();
    both_change(&rehearsal, &doctors(&rehearsal, 3));
    differential(
        &rehearsal,
        1,
        "migrate --entities doctors --conflict-resolution manual",
    );
    assert_eq!(preferences_by(&rehearsal, "target"), 3);
    let resolve = [
        "conflicts",
        "resolve",
        "--entity",
        "doctors",
        "--take",
        "source",
    ];
    let resolved = program(&rehearsal).json(0, &resolve);
    assert_eq!(number(&resolved, "conflicts_resolved"), 3);
    assert_eq!(resolved["resolution_strategy"], "source_wins");
    assert_eq!(preferences_by(&rehearsal, "source"), 3);
    let again = program(&rehearsal).json(0, &resolve);
    assert_eq!(number(&again, "conflicts_resolved"), 0);
    validates(&rehearsal, "doctors");
}

#[test]
fn a_row_altered_in_the_target_is_put_back() {
    let rehearsal = clinic();
    let doctors = doctors(&rehearsal, 2);
    both_change(&rehearsal, &doctors[..1]);
    rehearsal.modern(&format!(
        "update doctors set doctor_number = 'DR' where legacy_user_id = {}",
        doctors[1]
    ));
    differential(
        &rehearsal,
        1,
        "analyze --entities doctors --detect-conflicts",
    );
    let done = differential(
        &rehearsal,
        0,
        "migrate --entities doctors --conflict-resolution source_wins",
    );
    assert_eq!(number(&done, "successful"), 2);
    assert_eq!(preferences_by(&rehearsal, "source"), 1);
    let audit = rehearsal.modern_rows(
        "select legacy_id, resolution_strategy from regraft.data_differentials
         where comparison_type = 'conflict' and resolved and resolved_at is not null and record_count > 0",
    );
    assert_eq!(audit, [[doctors[0].as_str(), "source_wins"]]);
    let before = rehearsal.modern_rows(
        "select legacy_id, coalesce(before ->> 'doctor_number', (before ->> 'clinical_preferences')::jsonb ->> 'by')
         from regraft.migration_changes where entity = 'doctors' order by length(legacy_id), legacy_id",
    );
    assert_eq!(
        before,
        [[doctors[0].as_str(), "target"], [doctors[1].as_str(), "DR"]]
    );
    validates(&rehearsal, "doctors");
}

/// Five days, each with other changes of which every single one is known.
#[test]
fn known_changes_are_found_exactly_day_after_day() {
    let rehearsal = clinic();
    rehearsal.legacy(&orders(2));
    differential(&rehearsal, 0, "migrate --entities offices,orders");
    let kept = "select id from dispatch_instruction where not deleted and id > 1000000 order by id";
    for day in 0..5 {
        let (new, changed, deleted) = (3 + 40 * day, 2 + 25 * day, 1 + 10 * day);
        rehearsal.legacy(&format!(
            "{offices}
             update dispatch_instruction set price = coalesce(price, 0) + 1 where id in ({kept} limit {changed});
             delete from dispatch_instruction where id in ({kept} desc limit {deleted});",
            offices = offices(900_000 + 1_000 * day..900_000 + 1_000 * day + new),
        ));
        let started = Instant::now();
        let analysis = differential(&rehearsal, 0, "analyze --entities offices,orders");
        let found = |of: &str, kind: &str| number(&entity(&analysis, of)[kind], "rows");
        let of = |name: &str| ["new", "changed", "deleted"].map(|kind| found(name, kind));
        assert_eq!(of("offices"), [i64::from(new), 0, 0], "day {day}");
        assert_eq!(
            of("orders"),
            [0, i64::from(changed), i64::from(deleted)],
            "day {day}"
        );
        let done = differential(&rehearsal, 0, "migrate --entities offices,orders");
        assert!(
            started.elapsed() < Duration::from_secs(300),
            "day {day}: {:?}",
            started.elapsed()
        );
        assert_eq!(number(&done, "successful"), i64::from(new + changed));
        assert_eq!(
            number(&done["receipt"]["total"]["detail"], "deleted"),
            i64::from(deleted)
        );
        let run = done["operationId"].as_str().expect("an id");
        let kept = rehearsal.modern_number(&format!(
            "select count(*) from regraft.migration_changes c join regraft.migration_control r using (run_no)
             where r.run_id = '{run}' and r.entity = '' and r.batch = 0"
        ));
        assert_eq!(
            kept,
            i64::from(changed + deleted),
            "what was there before is kept"
        );
        let idle = differential(&rehearsal, 0, "migrate --entities offices,orders");
        assert_eq!(
            (&idle["nothing_to_do"], number(&idle, "successful")),
            (&true.into(), 0)
        );
    }
    validates(&rehearsal, "offices,orders");
}

#[test]
fn many_analyses_at_once_count_the_same() {
    let rehearsal = clinic();
    rehearsal.legacy(&offices(900_001..900_006));
    let line = [
        "--format",
        "json",
        "differential",
        "analyze",
        "--entities",
        "offices,doctors,patients",
    ];
    let running: Vec<Running> = (0..10).map(|_| program(&rehearsal).start(&line)).collect();
    let finished: Vec<Finished> = running.into_iter().map(Running::wait).collect();
    let mut counts = Vec::new();
    for finished in finished {
        assert_eq!(finished.code, Some(0), "{finished}");
        let document: Value = serde_json::from_str(&finished.stdout).expect("a document");
        counts.push((
            number(&document, "missing_records"),
            document["entities"].clone(),
        ));
    }
    assert_eq!(counts[0].0, 5);
    assert!(
        counts.iter().all(|count| *count == counts[0]),
        "{counts:#?}"
    );
}

#[test]
fn the_order_of_the_entities_is_corrected() {
    let rehearsal = Rehearsal::new(Servers::shared(), &dispatch(), LEGACY);
    program(&rehearsal).expect(0, &["migrate", "offices"]);
    let done = differential(
        &rehearsal,
        0,
        "migrate --entities patients,doctors,profiles,offices",
    );
    assert_eq!(number(&done, "failed"), 0);
    let order = done["checkpoints"].as_array().expect("checkpoints").iter();
    let order: Vec<&Value> = order.map(|checkpoint| &checkpoint["entity"]).collect();
    let at = |name: &str| {
        order
            .iter()
            .position(|entity| *entity == name)
            .expect("it is among them")
    };
    assert!(
        at("profiles") < at("doctors") && at("doctors") < at("patients"),
        "{order:?}"
    );
    validates(&rehearsal, "offices,profiles,doctors,patients");
}

#[test]
fn a_bad_row_costs_itself() {
    let rehearsal = clinic();
    rehearsal.legacy(&(orders(1) + "update dispatch_instruction set status = 3 where id in (
        select id from dispatch_instruction where not deleted and id > 1000000 order by id limit 2)"));
    let done = program(&rehearsal).run(&[
        "--format",
        "json",
        "differential",
        "migrate",
        "--entities",
        "orders",
    ]);
    let done: Value = serde_json::from_str(&done.stdout).expect("a document");
    assert_eq!(number(&done, "failed"), 2);
    assert!(
        number(&done, "successful") > 100,
        "the others are there: {done}"
    );
    let listed = program(&rehearsal).json(0, &["quarantine", "list", "--entity", "orders"]);
    let bad = listed["rows"].as_array().expect("rows");
    assert_eq!(bad.len(), 2, "{listed}");
    for row in bad {
        let id = row["legacy_id"].as_str().expect("an id");
        let shown = program(&rehearsal).json(0, &["quarantine", "show", "orders", id]);
        assert_eq!(shown["reasons"][0]["column"], "status", "{shown}");
    }
    rehearsal.legacy("update dispatch_instruction set status = 4 where status = 3 and id % 2 = 0");
    rehearsal.legacy("update dispatch_instruction set status = 1 where status = 3");
    let again = differential(&rehearsal, 0, "migrate --entities orders");
    assert_eq!(
        (number(&again, "failed"), number(&again, "successful")),
        (0, 2)
    );
    validates(&rehearsal, "orders");
}

/// A differential migration of many orders, at work: some of its batches are committed.
fn at_work(rehearsal: &Rehearsal<'_>) -> Running {
    rehearsal.legacy(&orders(ENOUGH));
    let done = "select coalesce(sum(batches_done), 0) from regraft.migration_checkpoints";
    let before = rehearsal.modern_number(done);
    let line = [
        "differential",
        "migrate",
        "--entities",
        "orders",
        "--batch-size",
        "100",
    ];
    let mut running = program(rehearsal).start(&line);
    rehearsal.wait_for_batches(&mut running, before + 12);
    running
}

/// Every order that the source keeps is there once, with its patient.
#[track_caller]
fn every_order_is_there(rehearsal: &Rehearsal<'_>) {
    let expected =
        rehearsal.legacy_rows("select count(*) from dispatch_instruction where not deleted");
    let there = rehearsal.modern_rows(
        "select count(distinct legacy_instruction_id) from orders o join patients p on p.id = o.patient_id",
    );
    assert_eq!(there, expected);
    assert_eq!(rows(rehearsal, &["orders"]).to_string(), expected[0][0]);
}

#[test]
fn paused_and_resumed_or_cancelled() {
    let rehearsal = clinic();
    let running = at_work(&rehearsal);
    running.signal(libc::SIGINT);
    let paused = running.wait();
    assert_eq!(paused.code, Some(6), "{paused}");
    let cancelled = rehearsal.copied();
    let status = differential(&rehearsal, 0, "status");
    assert_eq!(
        (&status["status"], &status["can_resume"]),
        (&"interrupted".into(), &true.into())
    );
    let id = status["operation_id"].as_str().expect("an id");
    let done = differential(&rehearsal, 0, &format!("resume --operation-id {id}"));
    assert_eq!(done["resumed_from_checkpoint"], true);
    every_order_is_there(&rehearsal);
    validates(&rehearsal, "orders");

    assert!(rows(&cancelled, &["orders"]) >= 1_200, "at work");
    program(&cancelled).expect(0, &["rollback", "--run", id, "--yes"]);
    assert_eq!(rows(&cancelled, &["orders"]), 0);
    let status = differential(&cancelled, 0, &format!("status --operation-id {id}"));
    assert_eq!(
        (&status["status"], &status["can_resume"]),
        (&"rolled_back".into(), &false.into())
    );
    program(&cancelled).expect(2, &["differential", "resume", "--operation-id", id]);
}

#[test]
fn a_backlog_is_carried_over() {
    let rehearsal = clinic();
    rehearsal.legacy(&(offices(900_001..900_501) + &orders(50)));
    let line = "migrate --entities offices,doctors,orders --batch-size 1000";
    let done = differential(&rehearsal, 0, line);
    let (rows, milliseconds) = (number(&done, "successful"), number(&done, "duration"));
    assert!(rows > 10_000, "{done}");
    assert!(
        rows * 1_000 / milliseconds > 200,
        "{rows} rows in {milliseconds} ms"
    );
    let batches = done["checkpoints"].as_array().expect("checkpoints").iter();
    let batches: i64 = batches
        .map(|checkpoint| number(checkpoint, "batches"))
        .sum();
    assert!((2..50).contains(&batches), "{batches} batches");
    every_order_is_there(&rehearsal);
    validates(&rehearsal, "offices,doctors,orders");
}

/// Runs a scenario's commands; what each ended with is expected beside it. What they said.
fn scenario(rehearsal: &Rehearsal<'_>, commands: &[(&str, i32)]) -> String {
    let mut said = String::new();
    for (command, code) in commands {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let finished = program(rehearsal).expect(*code, &arguments);
        let _ = writeln!(said, "$ {command}\n{}{}", finished.stdout, finished.stderr);
    }
    said
}

#[test]
fn scenario_2_a_large_migration_is_resumed() {
    let rehearsal = clinic();
    let killed = at_work(&rehearsal).kill();
    assert!(killed.code.is_none(), "{killed}");
    let committed = rows(&rehearsal, &["orders"]);
    assert!(committed >= 1_200, "{committed} orders were committed");
    let other = rehearsal.copied();
    let said = scenario(
        &rehearsal,
        &[
            ("regraft status --entity orders", 0),
            ("regraft differential resume --entity orders", 0),
            (
                "regraft validate --entities orders --type completeness_check",
                0,
            ),
        ],
    );
    assert!(
        said.contains("differential resume"),
        "the status says how to go on: {said}"
    );
    every_order_is_there(&rehearsal);

    let status = differential(&other, 0, "status");
    assert_eq!(status["can_resume"], true, "{status}");
    let resumed = differential(&other, 0, "resume --entity orders");
    assert_eq!(resumed["resumed_from_checkpoint"], true);
    assert_eq!(resumed["can_resume"], false);
    let all = rows(&other, &["orders"]);
    assert_eq!(
        number(&resumed, "successful"),
        all,
        "rows of both processes are one run's"
    );
    let again = number(
        entity(&resumed, "orders").pointer("/new").expect("new"),
        "rows",
    );
    assert_eq!(
        again,
        all - committed,
        "what was committed is not moved again"
    );
    assert_eq!(differential(&other, 0, "status")["can_resume"], false);
    program(&other).expect(2, &["differential", "resume", "--entity", "orders"]);
    every_order_is_there(&other);
}

/// A first migration that was killed is finished by the command that began it, and the refusal says so.
#[test]
fn a_killed_first_migration_is_finished_by_migrate() {
    let rehearsal = clinic();
    rehearsal.legacy(&orders(ENOUGH));
    let done = "select coalesce(sum(batches_done), 0) from regraft.migration_checkpoints";
    let before = rehearsal.modern_number(done);
    let line = [
        "migrate",
        "orders",
        "--mode",
        "in-place",
        "--batch-size",
        "100",
    ];
    let mut running = program(&rehearsal).start(&line);
    rehearsal.wait_for_batches(&mut running, before + 12);
    assert!(running.kill().code.is_none());
    let refused = program(&rehearsal).expect(2, &["differential", "resume", "--entity", "orders"]);
    assert!(
        refused.says("is unfinished") && refused.says("regraft migrate"),
        "{refused}"
    );
    program(&rehearsal).expect(0, &["migrate"]);
    every_order_is_there(&rehearsal);
    validates(&rehearsal, "orders");
}

#[test]
fn scenario_3_conflicts_are_resolved() {
    let rehearsal = clinic();
    both_change(&rehearsal, &doctors(&rehearsal, 5));
    let said = scenario(
        &rehearsal,
        &[
            (
                "regraft differential analyze --entities doctors --detect-conflicts",
                1,
            ),
            ("regraft conflicts report --last-analysis", 1),
        ],
    );
    assert!(said.contains("clinical_preferences 5"), "{said}");
    let report = program(&rehearsal).json(1, &["conflicts", "report", "--last-analysis"]);
    assert_eq!(
        (
            number(&report, "conflicts_detected"),
            number(&report, "conflicts_resolved")
        ),
        (5, 0)
    );
    scenario(
        &rehearsal,
        &[
            (
                "regraft differential migrate --entities doctors --conflict-resolution source_wins",
                0,
            ),
            (
                "regraft validate --entities doctors --type data_integrity",
                0,
            ),
            ("regraft conflicts report --last-analysis", 0),
        ],
    );
    assert_eq!(preferences_by(&rehearsal, "source"), 5);
    let analysis = report["operation_id"].as_str().expect("an id");
    let report = program(&rehearsal).json(0, &["conflicts", "report", "--operation-id", analysis]);
    assert_eq!(
        (
            number(&report, "conflicts_detected"),
            number(&report, "conflicts_resolved")
        ),
        (5, 5)
    );
}
