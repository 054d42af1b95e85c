//! `analyzer`: checkpoints, one entity, past runs and the servers, each as people and programs read
//! them.
//!
//! Of the contract of the old programs: statement 34 in
//! `a_run_that_was_killed_is_shown_reset_and_resumed_to_the_same_end`, 35 in
//! `debug_says_that_nothing_needs_doing`.

mod town;
mod village;

use std::time::{Duration, Instant};

use regraft_pg::{Session, SessionOptions, Side};
use regraft_testkit::{Dump, Legacy, Program, Rehearsal, Servers, block_on, endpoint_of};
use serde_json::Value;
use town::{DATA, town};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 0.04,
    seed: 5,
    dirt: 1.0,
};

/// Values of the village's and the town's rows, and of a condition of a filter.
const VALUES: [&str; 5] = ["unicorn", "@example.org", "PET 8", "House 1", "Room 1"];

const CUT: &str = "before-commit=12*off->return(abort)";
const ALL: [&str; 3] = ["analyzer", "checkpoint-status", "--all"];

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "20")
}

fn debug(entity: &str) -> [&str; 4] {
    ["analyzer", "debug", "--entity", entity]
}

fn reset<'a>(id: &'a str, way: &'a [&'a str]) -> Vec<&'a str> {
    [&["analyzer", "reset-checkpoint", "--id", id][..], way].concat()
}

/// The part of a document, as a list.
#[track_caller]
fn list<'a>(document: &'a Value, part: &str) -> &'a Vec<Value> {
    document[part]
        .as_array()
        .unwrap_or_else(|| panic!("no list {part} in {document:#}"))
}

/// The commands and reasons that a debug recommends.
fn recommended(document: &Value) -> Vec<String> {
    let items = list(document, "recommendations").iter();
    let text = |item: &Value| {
        let command = item["command"].as_str().unwrap_or_default();
        format!("{} [{command}]", item["what"].as_str().unwrap())
    };
    items.map(text).collect()
}

#[track_caller]
fn assert_has(found: &[String], parts: &[&str]) {
    let has = |text: &String| parts.iter().all(|part| text.contains(part));
    assert!(found.iter().any(has), "{parts:?}: {found:#?}");
}

/// Migrates the pets of a village whose people and houses are there, and dies in the middle.
fn cut_off(rehearsal: &Rehearsal<'_>) {
    program(rehearsal).expect(0, &["migrate", "people", "houses"]);
    let cut = program(rehearsal)
        .with("FAILPOINTS", CUT)
        .run(&["migrate", "pets", "--mode", "in-place"]);
    assert!(cut.signal.is_some(), "{cut}");
}

/// The checkpoint of an unfinished run.
#[track_caller]
fn unfinished(rehearsal: &Rehearsal<'_>) -> Value {
    let status = program(rehearsal).json(0, &ALL);
    let checkpoints = list(&status, "checkpoints").iter();
    let mut found = checkpoints.filter(|c| c["state"] == "unfinished");
    found
        .next()
        .unwrap_or_else(|| panic!("none is unfinished: {status:#}"))
        .clone()
}

#[test]
fn wrong_usage_is_refused() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    let nobody = "00000000-0000-4000-8000-000000000123";
    for arguments in [
        &["analyzer"][..],
        &["analyzer", "checkpoint-status"],
        &["analyzer", "checkpoint-status", "--all", "--entity", "pets"],
        &["analyzer", "checkpoint-status", "--entity", "nobody"],
        &["analyzer", "reset-checkpoint"],
        &[
            "analyzer",
            "reset-checkpoint",
            "--id",
            "checkpoint-uuid-123",
        ],
        &["analyzer", "reset-checkpoint", "--id", nobody, "--yes"],
        &["analyzer", "debug"],
        &["analyzer", "debug", "--entity", "nobody"],
        &["analyzer", "analyze-performance"],
        &[
            "analyzer",
            "analyze-performance",
            "--entity",
            "pets",
            "--last-days",
            "0",
        ],
        &[
            "analyzer",
            "analyze-performance",
            "--entity",
            "pets",
            "--last-days",
            "-1",
        ],
        &["analyzer", "system-health", "--entity", "pets"],
    ] {
        program(&rehearsal).expect(2, arguments);
    }
    program(&rehearsal).expect(0, &["migrate"]);
    let unknown = program(&rehearsal).expect(2, &reset(nobody, &["--yes"]));
    assert!(
        unknown.says("there is no checkpoint with the id"),
        "{unknown}"
    );
    assert!(unknown.says("checkpoint-status --all"), "{unknown}");
}

#[test]
fn a_target_without_a_ledger_is_told_plainly() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    let status = program(&rehearsal).expect(0, &ALL);
    assert!(status.says("it has no ledger"), "{status}");
    let status = program(&rehearsal).json(0, &ALL);
    assert_eq!(status["ledger_installed"], false);
    let performance = ["analyzer", "analyze-performance", "--entity", "pets"];
    let none = program(&rehearsal).expect(0, &performance);
    assert!(
        none.says("no run was about pets in the last 7 days"),
        "{none}"
    );
    let found = program(&rehearsal).json(1, &debug("pets"));
    assert_has(
        &recommended(&found),
        &["never moved", "regraft migrate pets"],
    );
    let health = program(&rehearsal).expect(0, &["analyzer", "system-health"]);
    assert!(
        health.says("nothing was migrated into this target"),
        "{health}"
    );
    let made = "select count(*) from pg_namespace where nspname = 'regraft'";
    assert_eq!(rehearsal.modern_number(made), 0, "looking created it");
}

#[test]
fn a_run_that_was_killed_is_shown_reset_and_resumed_to_the_same_end() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    let calm = rehearsal.again();
    program(&calm).expect(0, &["migrate", "people", "houses"]);
    program(&calm).expect(0, &["migrate", "pets", "--mode", "in-place"]);

    cut_off(&rehearsal);
    let checkpoint = unfinished(&rehearsal);
    let id = checkpoint["id"].as_str().expect("an id");
    assert_eq!(checkpoint["entity"], "pets");
    assert_eq!(checkpoint["phase"], "loading");
    assert_eq!(checkpoint["finish"], "regraft migrate");
    let committed = checkpoint["batches_done"].as_i64().expect("a count");
    let left = checkpoint["batches_left"].as_i64().expect("a count");
    assert!(committed > 0 && left > 0, "{checkpoint:#}");
    let shown = program(&rehearsal).expect(0, &ALL);
    assert!(
        shown.says(id) && shown.says("no process is at work"),
        "{shown}"
    );
    assert!(
        shown.says("next:") && shown.says("go on from what is committed"),
        "{shown}"
    );
    of_one_entity(&rehearsal, id);
    let found = program(&rehearsal).json(1, &debug("pets"));
    assert_has(
        &recommended(&found),
        &["is unfinished", "[regraft migrate]"],
    );
    assert_eq!(found["checkpoint_details"]["status"], "unfinished");

    // A batch in a state that no run of this program goes on from.
    rehearsal.modern(
        "update regraft.migration_control set status = 'failed'
         where (entity, batch) = (select entity, min(batch) from regraft.migration_control
           where batch > 0 and status = 'pending' group by entity)",
    );
    let before = Dump::of_tables(&rehearsal.modern_url());
    let unasked = program(&rehearsal).expect(2, &reset(id, &[]));
    assert!(
        unasked.says("no terminal to ask on; nothing was changed"),
        "{unasked}"
    );
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, "before it was confirmed");
    let done = program(&rehearsal).json(0, &reset(id, &["--yes"]));
    assert_eq!(done["epoch_before"], checkpoint["epoch"]);
    assert_eq!(
        done["checkpoint"]["epoch"].as_i64(),
        checkpoint["epoch"].as_i64().map(|epoch| epoch + 1)
    );
    assert_eq!(done["checkpoint"]["batches_done"], committed);
    assert_eq!(done["checkpoint"]["batches_left"], left);
    assert_eq!(done["batches_set_back"], 1);

    program(&rehearsal).expect(0, &["migrate"]);
    Dump::of(&rehearsal.modern_url())
        .without_runs()
        .assert_same(&Dump::of(&calm.modern_url()).without_runs(), "resumed");
    let refused = program(&rehearsal).expect(2, &reset(id, &["--yes"]));
    assert!(
        refused.says("is done") && refused.says("nothing left"),
        "{refused}"
    );
    let shown = program(&rehearsal).expect(0, &ALL);
    assert!(!shown.says("unfinished") && !shown.says("next:"), "{shown}");
}

/// The names of the contract, beside our own.
fn of_one_entity(rehearsal: &Rehearsal<'_>, id: &str) {
    let one = ["analyzer", "checkpoint-status", "--entity", "pets"];
    let status = program(rehearsal).json(0, &one);
    assert_eq!(status["checkpoint_id"], id);
    assert_eq!(status["entity_type"], "pets");
    assert_eq!(status["can_resume"], true);
    assert_eq!(status["status"], "unfinished");
    assert!(status["records_processed"].as_i64() > Some(0), "{status:#}");
    assert!(status["last_processed_id"].is_string(), "{status:#}");
    assert!(status["started_at"].is_string(), "{status:#}");
    let progress = status["progress_percentage"].as_f64().expect("a number");
    assert!(progress > 0.0 && progress < 100.0, "{status:#}");
    let human = program(rehearsal).expect(0, &one);
    assert!(human.says(id) && human.says("loading"), "{human}");
    let houses = ["analyzer", "checkpoint-status", "--entity", "houses"];
    let houses = program(rehearsal).json(0, &houses);
    assert_eq!(houses["can_resume"], false);
    assert_eq!(houses["progress_percentage"].as_f64(), Some(100.0));
}

#[test]
fn a_reset_is_refused_while_another_process_works() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    cut_off(&rehearsal);
    let id = unfinished(&rehearsal)["id"].as_str().unwrap().to_owned();
    let mut at_work = program(&rehearsal)
        .with("FAILPOINTS", "before-finish=sleep(60000)")
        .start(&["migrate"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        let status = program(&rehearsal).json(0, &ALL);
        let mut checkpoints = list(&status, "checkpoints").iter();
        let moved = checkpoints.any(|c| c["id"] == id && c["phase"] == "done");
        // Nothing moves any more: the process sleeps just before it ends its run.
        if moved && !status["at_work"].is_null() {
            break status;
        }
        assert!(
            at_work.is_running() && Instant::now() < deadline,
            "{status:#}"
        );
    };
    assert_eq!(status["at_work"]["application_name"], "regraft");
    let states: Vec<&Value> = list(&status, "checkpoints")
        .iter()
        .map(|c| &c["state"])
        .collect();
    assert!(states.contains(&&Value::from("working")), "{status:#}");
    for checkpoint in list(&status, "checkpoints") {
        let expected = match checkpoint["state"] == "working" {
            true => &status["at_work"]["pid"],
            false => &Value::Null,
        };
        assert_eq!(&checkpoint["server_process"], expected, "{status:#}");
    }
    let epoch = format!("select epoch from regraft.migration_checkpoints where id = '{id}'");
    let shown = program(&rehearsal).expect(0, &ALL);
    assert!(shown.says("being worked on now"), "{shown}");
    for way in [&["--yes"][..], &[]] {
        let before = rehearsal.modern_number(&epoch);
        let refused = program(&rehearsal).expect(6, &reset(&id, way));
        assert!(refused.says("another process is at work"), "{refused}");
        assert_eq!(rehearsal.modern_number(&epoch), before);
    }
    let killed = at_work.kill();
    assert!(killed.signal.is_some(), "{killed}");
    program(&rehearsal).expect(0, &reset(&id, &["--yes"]));
    program(&rehearsal).expect(0, &["migrate"]);
}

#[test]
fn who_holds_a_checkpoint_is_fenced_off_by_a_reset() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    let calm = rehearsal.again();
    program(&calm).expect(0, &["migrate", "people", "houses"]);
    program(&calm).expect(0, &["migrate", "pets", "--mode", "in-place"]);

    program(&rehearsal).expect(0, &["migrate", "people", "houses"]);
    let batches = "select sum(batches_done) from regraft.migration_checkpoints";
    let before = rehearsal.modern_number(batches);
    let mut at_work = program(&rehearsal)
        .with("FAILPOINTS", "before-commit=sleep(300)")
        .start(&["migrate", "pets", "--mode", "in-place"]);
    rehearsal.wait_for_batches(&mut at_work, before + 2);
    // It hangs, and the connection that holds the lock is gone.
    at_work.signal(libc::SIGSTOP);
    let status = program(&rehearsal).json(0, &ALL);
    let holder = status["at_work"]["pid"].as_i64().expect("a process");
    rehearsal.modern(&format!("select pg_terminate_backend({holder})"));
    let id = "select id from regraft.migration_checkpoints where entity = 'pets'";
    let id = rehearsal.modern_rows(id)[0][0].clone();
    let held = program(&rehearsal).expect(6, &reset(&id, &["--yes"]));
    assert!(held.says("in an open transaction"), "{held}");
    // It wakes up, and is told at its next commit that it is too late.
    at_work.signal(libc::SIGCONT);
    program(&rehearsal).expect(0, &reset(&id, &["--yes"]));
    let committed = rehearsal.modern_number(batches);
    let fenced = at_work.wait();
    assert!(!matches!(fenced.code, Some(0) | None), "{fenced}");
    assert_eq!(rehearsal.modern_number(batches), committed, "{fenced}");
    program(&rehearsal).expect(0, &["migrate"]);
    Dump::of(&rehearsal.modern_url())
        .without_runs()
        .assert_same(&Dump::of(&calm.modern_url()).without_runs(), "resumed");
}

#[test]
fn debug_says_that_nothing_needs_doing() {
    let folder = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    program(&rehearsal).expect(0, &["validate"]);
    let found = program(&rehearsal).json(0, &debug("houses"));
    assert_eq!(recommended(&found), Vec::<String>::new());
    assert_eq!(list(&found, "runs").len(), 1);
    assert_eq!(found["runs"][0]["source_rows"], 600);
    assert_eq!(list(&found["validation"], "failed").len(), 0);
    assert!(found["plan"].is_null(), "{found:#}");
    assert_eq!(
        found["checkpoint_details"]["progress"].as_f64(),
        Some(100.0)
    );
    assert!(found["database_state"]["locks"].is_number(), "{found:#}");

    let verbose = [&debug("houses")[..], &["--verbose"]].concat();
    let found = program(&rehearsal).json(0, &verbose);
    assert!(found["plan"]["cost"].as_f64() > Some(0.0), "{found:#}");
    let tables = list(&found["plan"], "steps")
        .iter()
        .map(|step| &step["table"]);
    assert!(
        tables.into_iter().any(|table| table == "house"),
        "{found:#}"
    );
    let human = program(&rehearsal).expect(0, &verbose);
    assert!(
        human.says("plan of a batch") && human.says("on house"),
        "{human}"
    );
    assert!(
        human.says("nothing: all that was looked at is in order"),
        "{human}"
    );
    for value in VALUES {
        assert!(
            !human.says(value) && !found.to_string().contains(value),
            "{value}"
        );
    }
}

/// What a run has failed of is kept, with its SQLSTATE and where it was, until it is finished.
#[test]
fn debug_names_what_a_run_failed_of() {
    let folder = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    rehearsal.modern(
        "create table disk (is_full boolean);
         insert into disk values (true);
         create function refuse() returns trigger language plpgsql as $$ begin
           if (select is_full from disk) and new.legacy_id = 301 then
             raise exception 'no space left for %', new.label using errcode = '53100';
           end if;
           return new; end $$;
         create trigger refuse before insert on houses for each row execute function refuse()",
    );
    program(&rehearsal).expect(4, &["migrate"]);
    let found = program(&rehearsal).json(1, &debug("houses"));
    let error = &found["runs"][0]["error"];
    assert_eq!(
        (&error["code"], &error["entity"]),
        (&"53100".into(), &"houses".into())
    );
    assert!(
        error["batch"].is_i64() && error["message"].is_string(),
        "{error}"
    );
    let human = program(&rehearsal).expect(1, &debug("houses")[..4]);
    assert!(
        human.says("failed:") && human.says("SQLSTATE 53100"),
        "{human}"
    );
    assert!(!human.says("House 301") && !found.to_string().contains("House 301"));
    rehearsal.modern("update disk set is_full = false");
    program(&rehearsal).expect(0, &["migrate"]);
    let found = program(&rehearsal).run(&[&debug("houses")[..], &["--format", "json"]].concat());
    assert!(!found.says("53100"), "{found}");
}

#[test]
fn debug_names_quarantine_differences_and_drift() {
    let village = village();
    let rehearsal = Rehearsal::once(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    rehearsal.modern("update pets set tag = 'wrong' where legacy_id = 11");
    program(&rehearsal).expect(1, &["validate", "pets"]);
    rehearsal.legacy("alter table pet add column colour text");
    rehearsal.modern("create index something_new on pets (name)");
    let pets = village.path().join("entities/pets.toml");
    let text = std::fs::read_to_string(&pets).unwrap();
    std::fs::write(&pets, format!("{text}# a remark\n")).unwrap();

    let verbose = [&debug("pets")[..], &["--verbose"]].concat();
    let found = program(&rehearsal).json(1, &verbose);
    let items = recommended(&found);
    assert_has(
        &items,
        &["the source's schema (public.pet)", "regraft check"],
    );
    assert_has(
        &items,
        &["the target's schema (public.pets)", "regraft schema diff"],
    );
    assert_has(
        &items,
        &["the project (entities/pets.toml)", "regraft plan pets"],
    );
    assert_has(&items, &["left behind", "regraft quarantine list pets"]);
    assert_has(&items, &["latest validation found", "regraft report pets"]);
    assert!(!list(&found, "quarantine").is_empty(), "{found:#}");
    assert!(
        !list(&found["validation"], "failed").is_empty(),
        "{found:#}"
    );
    let human = program(&rehearsal).expect(1, &verbose);
    for part in [
        "quarantine",
        "what to do",
        "changed since",
        "last validation",
    ] {
        assert!(human.says(part), "{part}: {human}");
    }
    for value in VALUES {
        assert!(
            !human.says(value) && !found.to_string().contains(value),
            "{value}"
        );
    }
    // Each command that it names is one.
    for item in list(&found, "recommendations") {
        let command = item["command"].as_str().expect("a command");
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        assert_ne!(
            program(&rehearsal).run(&arguments).code,
            Some(2),
            "{command}"
        );
    }
}

#[test]
fn debug_names_who_holds_a_lock_and_does_not_wait_for_it() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let url = rehearsal.modern_url();
    for mode in ["share row exclusive", "access exclusive"] {
        block_on(async {
            let endpoint = endpoint_of(&url, Side::Target);
            let options = SessionOptions::writing("a forgotten shell");
            let session = Session::connect(&endpoint, &options)
                .await
                .expect("a session");
            let lock = format!("begin; lock table pets in {mode} mode");
            session.batch_execute(&lock).await.expect("a lock");
            let pid = session.backend_pid().to_string();
            let begun = Instant::now();
            let found = program(&rehearsal).json(1, &debug("pets"));
            assert!(begun.elapsed() < Duration::from_secs(20), "it waited");
            assert_has(&recommended(&found), &[&pid, "a forgotten shell", "pets"]);
            let lock = &list(&found, "locks")[0];
            assert_eq!(lock["state"], "idle in transaction");
            assert!(lock.get("query").is_none(), "{lock}");
            let human = program(&rehearsal).expect(1, &debug("pets"));
            assert!(
                human.says(&pid) && human.says("locks on its table"),
                "{human}"
            );
            session.close().await;
        });
    }
    let found = program(&rehearsal).json(1, &debug("pets"));
    assert_eq!(list(&found, "locks").len(), 0);
}

#[test]
fn debug_says_what_it_could_not_look_at() {
    let village = village();
    let rehearsal = Rehearsal::new(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let away = program(&rehearsal).with("SOURCE_DATABASE_URL", "postgres://x@127.0.0.1:1/x");
    let found = away.json(1, &debug("pets"));
    assert_eq!(list(&found, "not_looked_at").len(), 1);
    assert_has(
        &recommended(&found),
        &["could be looked at", "system-health"],
    );
    assert!(!list(&found, "quarantine").is_empty(), "{found:#}");
}

#[test]
fn the_performance_of_runs_is_that_of_the_ledger() {
    let folder = town(DATA, &[], None);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    let look = ["analyzer", "analyze-performance", "--entity", "houses"];
    program(&rehearsal).expect(0, &["migrate"]);
    let one = program(&rehearsal).json(0, &look);
    assert_eq!(list(&one, "runs").len(), 1);
    assert!(one["trend"].is_null(), "{one:#}");
    program(&rehearsal).expect(0, &["rollback", "--yes"]);
    program(&rehearsal).expect(0, &["migrate"]);
    program(&rehearsal).expect(0, &["rollback", "--yes"]);
    program(&rehearsal).expect(0, &["migrate"]);
    // Runs of 2, 4 and 8 seconds, the first of which is a month old.
    for (run, seconds, days) in [(1, 2, 30), (3, 4, 2), (5, 8, 1)] {
        rehearsal.modern(&format!(
            "update regraft.migration_control
             set started_at = now() - interval '{days} days', status = 'done',
                 finished_at = now() - interval '{days} days' + interval '{seconds} s'
             where entity = 'houses' and batch = 0
               and run_no = (select run_no from regraft.migration_control
                             where entity = 'houses' and batch = 0 and command = 'migrate'
                             order by run_no offset {} limit 1)",
            (run - 1) / 2
        ));
    }
    let week = program(&rehearsal).json(0, &look);
    let rates: Vec<Option<f64>> = list(&week, "runs")
        .iter()
        .map(|r| r["rows_per_second"].as_f64())
        .collect();
    assert_eq!(rates, [Some(150.0), Some(75.0)], "{week:#}");
    assert_eq!(week["median_rows_per_second"].as_f64(), Some(112.5));
    assert_eq!(week["best_rows_per_second"].as_f64(), Some(150.0));
    assert_eq!(week["best_run"], week["runs"][0]["run_id"]);
    assert_eq!(week["trend"]["verdict"], "slower");
    assert_eq!(week["trend"]["change_percent"].as_f64(), Some(-50.0));
    let month = [&look[..], &["--last-days", "60"]].concat();
    assert_eq!(list(&program(&rehearsal).json(0, &month), "runs").len(), 3);
    let human = program(&rehearsal).expect(0, &month);
    assert!(
        human.says("████████████████████") && human.says("█████\n"),
        "{human}"
    );
    assert!(
        human.says("67% slower") && human.says("300 rows/s"),
        "{human}"
    );
    let none =
        program(&rehearsal).expect(0, &[&look[..3], &["rooms", "--last-days", "1"]].concat());
    assert!(none.says("rooms"), "{none}");
}

/// The checks of a health that have a verdict, as `area check: found`.
fn with_verdict(health: &Value, verdict: &str) -> Vec<String> {
    let checks = list(health, "checks")
        .iter()
        .filter(|c| c["verdict"] == verdict);
    let text = |check: &Value| {
        let part = |name: &str| check[name].as_str().unwrap().to_owned();
        assert_eq!(check["to_do"].is_null(), verdict == "ok", "{check}");
        format!("{} {}: {}", part("area"), part("check"), part("found"))
    };
    checks.map(text).collect()
}

const HEALTH: [&str; 2] = ["analyzer", "system-health"];
const WHOLE: [&str; 3] = ["analyzer", "system-health", "--comprehensive"];

#[test]
fn health_is_told_by_check() {
    let village = village();
    let rehearsal = Rehearsal::once(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let health = program(&rehearsal).json(0, &HEALTH);
    assert_eq!(health["healthy"], true, "{health:#}");
    let plain = list(&health, "checks").len();
    let whole = program(&rehearsal).json(0, &WHOLE);
    assert!(list(&whole, "checks").len() > plain + 5, "{whole:#}");
    assert_eq!(with_verdict(&whole, "failure"), Vec::<String>::new());
    let fine = with_verdict(&whole, "ok");
    for part in [
        "source version: PostgreSQL",
        "target version: PostgreSQL",
        "source privileges: ",
        "target connections: ",
        "target clock: ",
        "source tls: ",
        "ledger accounts: ",
        "project catalogs: ",
        "target schema: ",
        "source replication slots: ",
    ] {
        assert_has(&fine, &[part]);
    }
    let human = program(&rehearsal).expect(0, &WHOLE);
    assert!(
        human.says("in order") && human.says("ok      reachable"),
        "{human}"
    );
}

#[test]
fn health_fails_with_what_fails() {
    let village = village();
    let rehearsal = Rehearsal::once(Servers::shared(), village.path(), LEGACY);
    cut_off(&rehearsal);
    let health = program(&rehearsal).json(0, &HEALTH);
    assert_has(
        &with_verdict(&health, "warning"),
        &["ledger runs", "is unfinished"],
    );
    program(&rehearsal).expect(0, &["migrate"]);

    rehearsal.modern(
        "update regraft.migration_control set source_rows = source_rows + 3, filtered = filtered + 3
         where entity = 'pets' and batch = 0",
    );
    let health = program(&rehearsal).json(1, &HEALTH);
    let failures = with_verdict(&health, "failure");
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_has(
        &failures,
        &["ledger accounts", "pets in migrate_", "by 3 rows"],
    );
    let human = program(&rehearsal).expect(1, &HEALTH);
    assert!(
        human.says("failure accounts") && human.says("what to do:"),
        "{human}"
    );
    rehearsal.modern(
        "update regraft.migration_control set source_rows = source_rows - 3, filtered = filtered - 3
         where entity = 'pets' and batch = 0",
    );

    let manifest = village.path().join("regraft.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"50%\"", "3")).unwrap();
    let failures = with_verdict(&program(&rehearsal).json(1, &HEALTH), "failure");
    assert_has(&failures, &["ledger quarantine", "pets ("]);
    std::fs::write(&manifest, &text).unwrap();

    rehearsal
        .modern("update pg_index set indisvalid = false where indexrelid = 'pets_tag'::regclass");
    let warnings = with_verdict(&program(&rehearsal).json(0, &WHOLE), "warning");
    assert_has(&warnings, &["target indexes", "\"pets_tag\" is invalid"]);
    assert_has(&warnings, &["target schema", "are not what migrate_"]);
    rehearsal.modern("alter table pets drop column tag");
    let failures = with_verdict(&program(&rehearsal).json(1, &WHOLE), "failure");
    assert_has(&failures, &["project catalogs", "tag"]);
    rehearsal.legacy("alter table pet rename to animal");
    let failures = with_verdict(&program(&rehearsal).json(1, &HEALTH), "failure");
    assert_has(&failures, &["source privileges", "can't be read: pets"]);
}

#[test]
fn health_tells_missing_rights_and_servers_that_are_away() {
    let village = village();
    let rehearsal = Rehearsal::once(Servers::shared(), village.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let away = program(&rehearsal).with("TARGET_DATABASE_URL", "postgres://x@127.0.0.1:1/x");
    let health = away.json(3, &HEALTH);
    assert_eq!(health["reachable"], false);
    assert_has(
        &with_verdict(&health, "failure"),
        &["target reachable", "can't be reached"],
    );
    assert_has(&with_verdict(&health, "ok"), &["source version"]);
    assert!(away.expect(3, &WHOLE).says("a server can't be reached"));

    let role = format!("reader_{}", std::process::id());
    // Both databases may be of one server.
    let make = format!(
        "do $$ begin create role {role} login password 'long enough';
         exception when duplicate_object then null; end $$;
         grant usage on schema public to {role}"
    );
    rehearsal.legacy(&make);
    rehearsal.modern(&make);
    let as_reader = |url: &str, side| {
        let endpoint = endpoint_of(url, side);
        endpoint
            .with_user(&role, Some("long enough".to_owned()))
            .url()
    };
    let weak = program(&rehearsal)
        .with(
            "SOURCE_DATABASE_URL",
            &as_reader(&rehearsal.legacy_url(), Side::Source),
        )
        .with(
            "TARGET_DATABASE_URL",
            &as_reader(&rehearsal.modern_url(), Side::Target),
        );
    let health = weak.json(1, &HEALTH);
    let failures = with_verdict(&health, "failure");
    assert_has(&failures, &["source privileges", "may not read", "people"]);
    assert_has(
        &failures,
        &["target privileges", "may not read and write", "pets"],
    );
    assert_has(&failures, &["target ledger", "may not use"]);
}
