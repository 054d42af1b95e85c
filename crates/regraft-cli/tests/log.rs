//! The log: what it tells, that it is cleaned up, that it stops nothing, and that no value of a row is
//! in it or in anything else that is printed, whatever goes wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

/// Whose name this is must never be told.
const SECRET: &str = "Zebulon";

/// Every way in which a row can fail, each with the name in it.
const SOURCE: &str = "
create table person (id integer primary key, name text, mail text, born text, note text, code text,
  boss integer, amount numeric, hidden text);
";

const DATA: &str = "
insert into person select i, 'Person ' || i, 'mail' || i, '2000-01-01', '{}', 'a', null, 1, '1'
from generate_series(1, 50) i;
insert into person values
  (101, repeat('Zebulon', 20), 'm101', '2000-01-01', '{}', 'a', null, 1, '1'),
  (102, 'Zebulon', 'mail1', '2000-01-01', '{}', 'a', null, 1, '1'),
  (103, 'Zebulon check', 'm103', '2000-01-01', '{}', 'a', null, 1, '1'),
  (104, 'Zebulon raise', 'm104', '2000-01-01', '{}', 'a', null, 1, '1'),
  (105, 'Zebulon', 'm105', 'born Zebulon', '{}', 'a', null, 1, '1'),
  (106, 'Zebulon', 'm106', '2000-01-01', '{\"Zebulon\": ', 'a', null, 1, '1'),
  (107, 'Zebulon', 'm107', '2000-01-01', '{}', 'odd', null, 1, '1'),
  (108, 'Zebulon', 'm108', '2000-01-01', '{}', 'a', 999, 1, '1'),
  (109, 'Zebulon', 'm109', '2000-01-01', '{}', 'a', 108, 1, '1'),
  (110, 'Zebulon', null, '2000-01-01', '{}', 'a', null, 1, '1'),
  (111, 'Zebulon', 'm111', '2000-01-01', '{}', 'a', null, 12345678901, '1'),
  (112, 'Zebulon good', 'm112', '2000-01-01', '{\"of\": \"Zebulon\"}', 'a', null, 1, '1');
";

const TARGET: &str = "
create table people (id uuid primary key, name varchar(60) not null check (name not like '%check'),
  mail text not null unique, born date, note jsonb, kind text, boss_id uuid references people,
  amount numeric(6, 2), legacy_id integer unique);
create function refuse() returns trigger language plpgsql as $$
begin
  if new.name like '%raise' then raise exception 'nobody is called %', new.name; end if;
  return new;
end $$;
create trigger refuse before insert or update on people for each row execute function refuse();
";

const PEOPLE: &str = r#"
[source]
from = "person p"
key = "p.id"
[target]
table = "people"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "p.name"
mail = "p.mail"
born = "p.born::date"
note = { parse = "p.note", bad = "quarantine" }
kind = { from = "p.code", map = { a = "first" } }
boss_id = { ref = "people", from = "p.boss" }
amount = "p.amount"
"#;

fn project() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("people", "100%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/people.toml", PEOPLE),
    ])
}

fn program(rehearsal: &Rehearsal<'_>, log: &Path) -> Program {
    Program::on(REGRAFT, rehearsal)
        .with("BATCH_SIZE", "10")
        .with("REGRAFT_LOG_DIR", log.to_str().expect("a path"))
}

/// All records of a folder's files.
fn records(folder: &Path) -> Vec<Value> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("it can be read");
        records.extend(text.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{line}: {e}"))
        }));
    }
    records
}

#[test]
fn it_tells_what_was_done() {
    let (project, folder) = (project(), tempfile::tempdir().expect("a folder"));
    let rehearsal = Rehearsal::new(Servers::shared(), project.path(), LEGACY);
    let log = folder.path().join("log");
    let done = program(&rehearsal, &log).json(0, &["migrate"]);
    let records = records(&log);
    let of = |name: &str| {
        records
            .iter()
            .filter(|r| r["event"] == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("started")[0]["command"], "migrate");
    let run = &done["receipt"]["run_id"];
    assert_eq!(&of("run_started")[0]["operation_id"], run);
    assert_eq!(of("entity_started")[0]["entity"], "people");
    let batches = of("rows_done");
    let rows: i64 = batches
        .iter()
        .filter_map(|batch| batch["rows"].as_i64())
        .sum();
    assert_eq!(rows, 62);
    assert!(batches.len() > 5 && batches.iter().all(|batch| batch["batch"].is_i64()));
    assert!(batches.iter().all(|batch| &batch["operation_id"] == run));
    let finished = of("entity_finished")[0];
    assert_eq!(finished["written"], done["receipt"]["total"]["inserted"]);
    assert!(finished["duration_ms"].is_u64(), "{finished}");
    assert_eq!(of("ended")[0]["exit_code"], 0);
    for record in &records {
        for field in ["time", "level", "event", "process"] {
            assert!(!record[field].is_null(), "{field} of {record}");
        }
    }
    // An error has its category, where it was, and what to do.
    rehearsal.legacy("alter table person rename to someone");
    program(&rehearsal, &log).expect(2, &["migrate"]);
    let failed = self::records(&log);
    let failed = failed
        .iter()
        .find(|r| r["event"] == "failed")
        .expect("a record");
    assert_eq!(
        (&failed["level"], &failed["kind"]),
        (&"error".into(), &"usage".into())
    );
    assert_eq!(failed["exit_code"], 2);
}

#[test]
fn old_files_go() {
    let (project, folder) = (project(), tempfile::tempdir().expect("a folder"));
    let rehearsal = Rehearsal::new(Servers::shared(), project.path(), LEGACY);
    for day in 1..=9 {
        let name = format!("regraft.2020-01-0{day}.jsonl");
        fs::write(folder.path().join(name), "{}\n").expect("it can be written");
    }
    fs::write(folder.path().join("mine.txt"), "kept").expect("it can be written");
    let program = program(&rehearsal, folder.path()).with("REGRAFT_LOG_DAYS", "3");
    program.expect(0, &["migrate"]);
    let names = fs::read_dir(folder.path()).expect("the folder is there");
    let logs = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("regraft."));
    assert_eq!(logs.count(), 3);
    assert!(folder.path().join("mine.txt").exists());
}

/// A folder that can't be made, and a disk that is full: the migration goes on, and says so.
#[test]
fn it_stops_nothing() {
    let (project, folder) = (project(), tempfile::tempdir().expect("a folder"));
    let rehearsal = Rehearsal::new(Servers::shared(), project.path(), LEGACY);
    let file = folder.path().join("a file");
    fs::write(&file, "").expect("it can be written");
    let done = program(&rehearsal, &file.join("log")).expect(0, &["migrate"]);
    assert!(
        done.says("there is no log") && done.says("the work goes on"),
        "{done}"
    );
    let full = folder.path().join("full");
    fs::create_dir(&full).expect("it can be made");
    let today = jiff::Timestamp::now();
    for hours in [0, 24] {
        let day = today + jiff::SignedDuration::from_hours(hours);
        let name = format!("regraft.{}.jsonl", day.strftime("%Y-%m-%d"));
        symlink("/dev/full", full.join(name)).expect("a link");
    }
    let done = program(&rehearsal, &full).expect(0, &["rollback", "--yes"]);
    assert!(done.says("can't be written"), "{done}");
    assert_eq!(
        done.stderr.matches("can't be written").count(),
        1,
        "told once: {done}"
    );
    assert_eq!(rehearsal.modern_number("select count(*) from people"), 0);
}

#[test]
fn no_value_of_a_row_is_told() {
    let (project, folder) = (project(), tempfile::tempdir().expect("a folder"));
    let rehearsal = Rehearsal::new(Servers::shared(), project.path(), LEGACY);
    let log = folder.path().join("log");
    let program = program(&rehearsal, &log);
    let silent = |arguments: &[&str]| {
        for form in [&[][..], &["--format", "json"], &["--verbose"]] {
            let done = program.run(&[arguments, form].concat());
            assert!(!done.says(SECRET), "{arguments:?} {form:?}: {done}");
            assert_ne!(done.code, Some(7), "{done}");
        }
    };
    silent(&["plan"]);
    silent(&["migrate"]);
    assert_eq!(rehearsal.modern_number("select count(*) from people"), 51);
    silent(&["quarantine", "list"]);
    silent(&["receipt"]);
    silent(&["validate"]);
    silent(&["quarantine", "retry", "--entity", "people"]);
    // Both sides change, and what the source says now is refused in each way.
    rehearsal.legacy(
        "update person set name = 'Zebulon now' where id between 1 and 5;
         update person set name = 'Zebulon raise' where id = 6;
         update person set name = 'Zebulon check' where id = 7;
         update person set born = 'Zebulon' where id = 8;
         update person set mail = 'mail10' where id = 9;
         update person set note = 'Zebulon' where id = 11;
         update person set name = repeat('Zebulon', 20) where id = 12;
         update person set code = 'odd' where id = 13",
    );
    rehearsal.modern("update people set name = 'Zebulon here' where legacy_id between 4 and 6");
    silent(&[
        "differential",
        "analyze",
        "--entities",
        "all",
        "--detect-conflicts",
    ]);
    silent(&["differential", "migrate", "--entities", "all", "--dry-run"]);
    silent(&["differential", "migrate", "--entities", "all"]);
    silent(&["conflicts", "list"]);
    silent(&["differential", "status"]);
    silent(&[
        "sync",
        "create-job",
        "--name",
        "a",
        "--schedule",
        "1d",
        "--entities",
        "all",
    ]);
    silent(&["sync", "run-job", "--name", "a"]);
    silent(&["sync", "job-status", "--name", "a"]);
    // What stops a run as a whole.
    rehearsal.modern(
        "create or replace function refuse() returns trigger language plpgsql as $$
           begin raise exception 'nobody is called %', new.name; end $$",
    );
    silent(&["quarantine", "retry", "--entity", "people"]);
    silent(&["sync", "run-job", "--name", "a"]);
    silent(&["validate"]);
    silent(&["report"]);
    silent(&["status"]);
    let records = records(&log);
    assert!(records.len() > 100);
    let told = records
        .iter()
        .find(|record| record.to_string().contains(SECRET));
    assert_eq!(told, None);
    // Nor is it in what the ledger says of errors.
    let ledger = "select coalesce(string_agg(t, ''), '') from (
          select detail::text as t from regraft.migration_control
          union all select reasons::text from regraft.migration_quarantine
          union all select error_summary from regraft.sync_run_history
          union all select discrepancy_details::text from regraft.migration_validation_reports) told";
    assert!(
        !rehearsal
            .modern_rows(ledger)
            .concat()
            .concat()
            .contains(SECRET)
    );
}
