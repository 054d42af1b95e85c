//! What a run inserted, changed and deleted is undone to the byte, and what others changed since is
//! left.
//!
//! The runs are made by the ledger's own functions, as a command that changes and deletes rows uses
//! them.

mod village;

use regraft_ledger::{
    Account, BatchRecord, DeletedRows, NewRun, OwnedTable, Run, RunStatus, UPDATE_STAGE,
    UpdatedTable,
};
use regraft_pg::quote::ident;
use regraft_pg::{Session, SessionOptions, Side};
use regraft_testkit::{
    Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers, block_on, endpoint_of, manifest,
};
use village::village;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "50")
}

#[track_caller]
fn migrated(folder: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), LEGACY);
    let finished = program(&rehearsal).run(&["migrate"]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
    rehearsal
}

/// The tables, the mappings and what was agreed on.
fn state(rehearsal: &Rehearsal<'_>) -> (Dump, Vec<Vec<String>>) {
    let mappings =
        "select entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no,
                    batch, merged_into, agreed_run from regraft.migration_mappings order by 1, 2";
    (
        Dump::of_tables(&rehearsal.modern_url()),
        rehearsal.modern_rows(mappings),
    )
}

#[track_caller]
fn assert_same(
    rehearsal: &Rehearsal<'_>,
    (tables, mappings): &(Dump, Vec<Vec<String>>),
    what: &str,
) {
    let (now, mapped) = state(rehearsal);
    now.assert_same(tables, what);
    assert_eq!(mapped, *mappings, "{what}");
}

/// A run that changes rows in place.
struct Changes {
    session: Session,
    run: Run,
}

impl Changes {
    async fn begin(url: &str, entities: &[&str]) -> Self {
        let endpoint = endpoint_of(url, Side::Target);
        let session = Session::connect(&endpoint, &SessionOptions::writing("test"))
            .await
            .expect("a session");
        let detail = serde_json::json!({ "entities": entities });
        let new = NewRun {
            command: "differential",
            detail: &detail,
        };
        let run = regraft_ledger::begin_run(&*session, &new)
            .await
            .expect("a run");
        session.batch_execute("begin").await.expect("begun");
        for entity in entities {
            let (no, id) = (run.run_no, run.run_id.as_str());
            let record = BatchRecord {
                batch: 1,
                low_key: String::new(),
                high_key: String::new(),
                account: Account::default(),
            };
            regraft_ledger::record_batch(&*session, no, id, "differential", entity, &record)
                .await
                .expect("recorded");
            regraft_ledger::record_entity(&*session, no, id, "differential", entity, "done")
                .await
                .expect("recorded");
        }
        Self { session, run }
    }

    async fn delete(&self, entity: &str, ids: &[&str]) -> DeletedRows {
        let names = "select attname::text from pg_attribute
            where attrelid = $1::text::regclass and attnum > 0 and not attisdropped order by attnum";
        let columns = self
            .session
            .query(names, &[&entity])
            .await
            .expect("columns");
        let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
        let owned = OwnedTable {
            entity,
            table: entity,
            key: "id",
            columns: &columns,
            numeric: true,
            merges: true,
        };
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        regraft_ledger::delete_rows(&*self.session, &owned, self.run.run_no, 1, &ids)
            .await
            .expect("deleted")
    }

    /// Gives columns of some rows what an expression says; `o` is the row beside `t`.
    async fn update(&self, entity: &str, columns: &[(&str, &str)], rows: &str) {
        let names: Vec<String> = columns.iter().map(|(c, _)| (*c).to_owned()).collect();
        let mut typed = Vec::new();
        for name in &names {
            let of = "select format_type(case when t.typbasetype = 0 then a.atttypid else t.typbasetype end,
                       case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end)
                from pg_attribute a join pg_type t on t.oid = a.atttypid
                where a.attrelid = $1::text::regclass and a.attname = $2::text";
            let row = self.session.query_one(of, &[&entity, name]).await;
            typed.push((name.clone(), row.expect("a column").get(0)));
        }
        let changed = UpdatedTable {
            entity,
            table: entity,
            key: "id",
            numeric: true,
            columns: &typed,
            looked_at: &names,
        };
        changed.create_stage(&*self.session).await.expect("a stage");
        let pairs: String = columns
            .iter()
            .map(|(column, new)| format!(", {new}, t.{}", ident(column)))
            .collect();
        let (all, none) = ("1".repeat(names.len()), "0".repeat(names.len()));
        self.execute(&format!(
            "insert into {UPDATE_STAGE}
             select m.legacy_id, m.new_id, gen_random_uuid(), '\\xcafe', '', '{all}', '{none}'{pairs}
             from regraft.migration_mappings m join {entity} t on t.id = m.new_id
             left join {entity} o on o.legacy_id = t.legacy_id + 1
             where m.entity = '{entity}' and {rows}"
        ))
        .await;
        let run = (self.run.run_no, 1);
        let written = changed
            .write(&*self.session, run, &all, None)
            .await
            .expect("written");
        assert!(!written.is_empty(), "nothing was changed in {entity}");
        changed
            .agree(&*self.session, self.run.run_no, &written)
            .await
            .expect("agreed");
    }

    async fn execute(&self, sql: &str) {
        self.session.batch_execute(sql).await.expect(sql);
    }

    async fn finish(self) -> String {
        self.session
            .batch_execute("commit")
            .await
            .expect("committed");
        regraft_ledger::finish_run(&*self.session, self.run.run_no, RunStatus::Done)
            .await
            .expect("finished");
        self.session.close().await;
        self.run.run_id
    }
}

fn roll_back(rehearsal: &Rehearsal<'_>, code: i32, run: &str) -> serde_json::Value {
    program(rehearsal).json(
        code,
        &["rollback", "--run", run, "--yes", "--format", "json"],
    )
}

const THINGS: &str = r#"
[source]
from = "thing t"
key = "t.id"
[target]
table = "things"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
whole = "t.whole"
"#;

/// Columns of the types that are easily spoilt.
const ODD: &str = "
create type mood as enum ('sad', 'happy');
create type pair as (a integer, b text);
create domain euro as numeric(12, 2);
create table things (
  id uuid primary key, number bigint generated always as identity, whole integer, big numeric,
  exact numeric(8, 2), float double precision, small real, at timestamptz, day date, span interval,
  blob bytea, list integer[], texts text[], mood mood, pair pair, price euro, doc jsonb, raw json,
  code char(6), word varchar(10), \"odd \"\"name'\" text, bits bit varying(9), net inet, box int4range,
  doubled numeric generated always as (exact * 2) stored, legacy_id integer unique);
";

const VALUES: &str = r#"
update things set big = 'NaN', exact = 1.5, float = '-0', small = 'NaN', at = 'infinity', day = '-infinity',
  span = '-1 mon +2 days -03:04:05.000006', blob = '\x00ff5c', list = '[0:1]={1,null}', texts = '{"a,b",null,"","NULL"}',
  mood = 'sad', pair = row(null, 'x"y'), price = 12.30, doc = 'null', raw = '{"b":1,  "a":2, "a":3}',
  code = 'ab', word = '', "odd ""name'" = E'line\n\ttab \\ ''q''', bits = b'101', net = '10.0.0.1', box = 'empty'
where legacy_id % 3 = 1;
update things set big = 12345678901234567890.123456789000, float = 0.1::float8 + 0.2::float8, small = 1e-30,
  at = '2020-02-29 12:00:00.123456+00', day = '0044-03-15 BC', span = '1 day', blob = '', list = '{}', texts = '{{a,b},{c,d}}',
  mood = 'happy', pair = row(1, null), price = -0.01, doc = '{"a": [1.50, null, "x"]}', raw = 'null',
  code = '      ', word = 'ümläut', bits = b'', net = '10.0.0.0/8', box = '[1,10)'
where legacy_id % 3 = 2;
update things set doc = '"text"', float = 'infinity', raw = '"x"' where legacy_id % 6 = 3;
"#;

fn things() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("odd", "50%")),
        (
            "source/schema.sql",
            "create table thing (id integer primary key, whole integer);",
        ),
        (
            "source/data.sql",
            "insert into thing select i, i from generate_series(1, 24) i;",
        ),
        ("target/schema.sql", ODD),
        ("entities/things.toml", THINGS),
    ])
}

#[test]
fn every_value_comes_back_as_it_was() {
    let folder = things();
    let rehearsal = migrated(&folder);
    rehearsal.modern(VALUES);
    let before = state(&rehearsal);
    let url = rehearsal.modern_url();
    let columns = [
        "big",
        "exact",
        "float",
        "small",
        "at",
        "day",
        "span",
        "blob",
        "list",
        "texts",
        "mood",
        "pair",
        "price",
        "doc",
        "raw",
        "code",
        "word",
        "odd \"name'",
        "bits",
        "net",
        "box",
    ];
    let run = block_on(async {
        let changes = Changes::begin(&url, &["things"]).await;
        let new: Vec<String> = columns.iter().map(|c| format!("o.{}", ident(c))).collect();
        let pairs: Vec<(&str, &str)> = columns
            .iter()
            .zip(&new)
            .map(|(column, new)| (*column, new.as_str()))
            .collect();
        changes
            .update("things", &pairs, "t.legacy_id between 1 and 12")
            .await;
        let gone = changes
            .delete("things", &["13", "14", "15", "16", "17", "18", "99"])
            .await;
        assert_eq!(gone.rows.len(), 6, "{gone:?}");
        changes.finish().await
    });
    assert_eq!(rehearsal.modern_number("select count(*) from things"), 18);
    let done = roll_back(&rehearsal, 0, &run);
    assert_eq!(done["done"]["steps"][0]["brought_back"], 6, "{done}");
    assert_eq!(done["done"]["steps"][0]["put_back"], 12, "{done}");
    assert_same(&rehearsal, &before, "after the rollback");
    let left = rehearsal.modern_number("select count(*) from regraft.migration_changes");
    assert_eq!(left, 0, "nothing of it is remembered");
    let status = rehearsal.modern_rows(&format!(
        "select status from regraft.migration_control where run_id = '{run}' and entity = '' and batch = 0"
    ));
    assert_eq!(status, [["rolled_back"]]);
}

/// One run inserts a person, lets pets of others go to it, lets houses lose their owners, and
/// deletes people with who works for them.
async fn shuffle(url: &str) -> String {
    let changes = Changes::begin(url, &["people", "houses", "pets"]).await;
    let no = changes.run.run_no;
    changes
        .execute(&format!(
            "insert into people (id, name, email, born, legacy_id)
             values ('00000000-0000-4000-8000-000000000001', 'New', 'p300@example.com', '2024-01-01Z', 1000);
             insert into regraft.migration_mappings
               (entity, legacy_id, new_id, source_fingerprint, column_fingerprints, run_no, batch)
             values ('people', '1000', '00000000-0000-4000-8000-000000000001', gen_random_uuid(), '', {no}, 1)"
        ))
        .await;
    changes
        .update(
            "pets",
            &[
                ("person_id", "'00000000-0000-4000-8000-000000000001'::uuid"),
                ("name", "'Moved ' || t.legacy_id"),
            ],
            "t.legacy_id in (5, 6)",
        )
        .await;
    changes
        .update(
            "houses",
            &[("owner_id", "null::uuid")],
            "t.owner_id in (select id from people where legacy_id = 101)",
        )
        .await;
    let doomed = [
        changes.delete("pets", &["299", "100", "400"]).await,
        // 101 is the boss of 300 alone.
        changes.delete("people", &["300", "101"]).await,
    ];
    assert_eq!(doomed.map(|d| d.rows.len()), [3, 2]);
    changes.finish().await
}

#[test]
fn rows_come_back_before_those_that_refer_to_them() {
    let folder = village();
    let rehearsal = migrated(&folder);
    let before = state(&rehearsal);
    let url = rehearsal.modern_url();
    let run = block_on(shuffle(&url));
    let after = state(&rehearsal);
    let asked = program(&rehearsal).expect(2, &["rollback", "--run", &run]);
    assert!(
        asked.says("to bring back") && asked.says("to put back"),
        "{asked}"
    );
    assert_same(&rehearsal, &after, "after it asked");
    let done = roll_back(&rehearsal, 0, &run);
    assert_eq!(done["done"]["left"], serde_json::json!([]), "{done}");
    assert_same(&rehearsal, &before, "after the rollback");
    let undoing = done["done"]["run_id"].as_str().expect("a run");
    let receipt = program(&rehearsal).expect(0, &["receipt", undoing]);
    assert!(receipt.says("brought back"), "{receipt}");
}

/// Killed at some commit, the same command finishes it.
#[test]
fn killed_and_finished_by_the_same_command() {
    let folder = village();
    let first = migrated(&folder);
    for point in ["before-rollback-commit", "after-commit"] {
        for n in 0..8 {
            let rehearsal = first.again();
            program(&rehearsal).run(&["migrate"]);
            let before = state(&rehearsal);
            let url = rehearsal.modern_url();
            let run = block_on(shuffle(&url));
            let failpoint = format!("{point}={n}*off->return(abort)");
            let arguments = ["rollback", "--run", &run, "--yes"];
            let cut = program(&rehearsal)
                .with("FAILPOINTS", &failpoint)
                .run(&arguments);
            if cut.signal.is_none() {
                assert!(n > 4, "{failpoint}: {cut}");
                break;
            }
            let begun = rehearsal.modern_number(
                "select count(*) from regraft.migration_control where command = 'rollback'",
            );
            if begun > 0 {
                let refused = program(&rehearsal).expect(2, &["migrate"]);
                assert!(refused.says(&format!("rollback --run {run}")), "{refused}");
            }
            program(&rehearsal).expect(0, &arguments);
            assert_same(&rehearsal, &before, &failpoint);
        }
    }
}

#[test]
fn what_others_changed_since_is_left_and_listed() {
    let folder = village();
    let rehearsal = migrated(&folder);
    let before = state(&rehearsal);
    let url = rehearsal.modern_url();
    let run = block_on(async {
        let changes = Changes::begin(&url, &["people", "pets"]).await;
        changes
            .update(
                "pets",
                &[
                    ("name", "'x' || t.legacy_id"),
                    ("tag", "'y' || t.legacy_id"),
                ],
                "t.legacy_id in (5, 6, 8)",
            )
            .await;
        changes.delete("pets", &["299", "100", "400", "11"]).await;
        changes.delete("people", &["300"]).await;
        changes.finish().await
    });
    // 5 got another tag, 6 is gone, 11's tag and the email of 300 are somebody else's.
    rehearsal.modern(
        "update pets set tag = 'ours' where legacy_id = 5;
         delete from pets where legacy_id = 6;
         insert into pets (id, person_id, name, tag)
         select gen_random_uuid(), id, 'taken', 'T11' from people where legacy_id = 1;
         insert into people (id, name, email, born) values (gen_random_uuid(), 'Other', 'p300@example.org', now())",
    );
    let changed = state(&rehearsal);
    let asked = program(&rehearsal).expect(2, &["rollback", "--run", &run]);
    assert!(asked.says("somebody changed tag since"), "{asked}");
    assert_same(&rehearsal, &changed, "after it asked");
    let done = roll_back(&rehearsal, 1, &run);
    let left: Vec<String> = done["done"]["left"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {}",
                row["entity"], row["legacy_id"], row["why"], row["columns"]
            )
        })
        .collect();
    // The pet 299 is that of 300.
    assert_eq!(
        left,
        [
            r#""people" "300" "taken" []"#,
            r#""pets" "5" "changed" ["tag"]"#,
            r#""pets" "6" "gone" []"#,
            r#""pets" "11" "taken" []"#,
            r#""pets" "299" "no_parent" []"#,
        ]
    );
    assert_eq!(done["preview"]["left"], done["done"]["left"]);
    // What stood in the way goes: then the rest comes back too, but for the row that is gone.
    rehearsal
        .modern("delete from pets where name = 'taken'; delete from people where name = 'Other'");
    let forced = program(&rehearsal).json(
        1,
        &[
            "rollback", "--run", &run, "--yes", "--force", "--format", "json",
        ],
    );
    assert_eq!(
        forced["done"]["left"].as_array().map(Vec::len),
        Some(1),
        "{forced}"
    );
    let rows = "select to_jsonb(p) from pets p where legacy_id <> 6 order by legacy_id";
    let fresh = rehearsal.again();
    program(&fresh).run(&["migrate"]);
    assert_eq!(rehearsal.modern_rows(rows), fresh.modern_rows(rows));
    let but_of_6 = |(_, mut mappings): (Dump, Vec<Vec<String>>)| {
        mappings.retain(|row| row[..2] != ["pets", "6"]);
        mappings
    };
    assert_eq!(but_of_6(state(&rehearsal)), but_of_6(before));
}

#[test]
fn runs_are_undone_newest_first() {
    let folder = village();
    let rehearsal = migrated(&folder);
    let before = state(&rehearsal);
    let url = rehearsal.modern_url();
    let [first, second] = block_on(async {
        let mut runs = Vec::new();
        for name in ["'first ' || t.legacy_id", "'second ' || t.legacy_id"] {
            let changes = Changes::begin(&url, &["pets"]).await;
            changes
                .update("pets", &[("name", name)], "t.legacy_id in (5, 6)")
                .await;
            if name.contains("second") {
                changes.delete("pets", &["8"]).await;
            } else {
                changes
                    .update("pets", &[("tag", "'z' || t.legacy_id")], "t.legacy_id = 8")
                    .await;
            }
            runs.push(changes.finish().await);
        }
        [runs.remove(0), runs.remove(0)]
    });
    let changed = state(&rehearsal);
    let done = roll_back(&rehearsal, 1, &first);
    let left = done["done"]["left"].as_array().expect("a list");
    assert_eq!(left.len(), 3, "{done}");
    assert_eq!(left[0]["why"], "later_run");
    assert_eq!(left[0]["by_run"], second.as_str());
    assert_eq!(left[2]["why"], "gone", "8 is deleted: {done}");
    assert_same(&rehearsal, &changed, "the earlier one alone");
    roll_back(&rehearsal, 0, &second);
    roll_back(&rehearsal, 0, &first);
    assert_same(&rehearsal, &before, "both");
}

/// All of some entities is undone, whatever later runs did.
#[test]
fn a_selection_returns_to_nothing() {
    let folder = village();
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), LEGACY);
    let empty = Dump::of_tables(&rehearsal.modern_url());
    program(&rehearsal).run(&["migrate"]);
    let url = rehearsal.modern_url();
    block_on(shuffle(&url));
    rehearsal.modern(
        "insert into regraft.migration_agreed_ranges values ('pets', 1, 1, 1, 1, 1, ''), ('others', 1, 1, 1, 1, 1, '')",
    );
    program(&rehearsal).expect(0, &["rollback", "--yes"]);
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&empty, "after the rollback");
    for table in ["migration_changes", "migration_mappings"] {
        let rows = rehearsal.modern_number(&format!("select count(*) from regraft.{table}"));
        assert_eq!(rows, 0, "{table}");
    }
    let ranges = rehearsal.modern_rows("select entity from regraft.migration_agreed_ranges");
    assert_eq!(ranges, [["others"]]);
}

/// Rows that a migration wrote and somebody has changed since stay, with those they refer to.
#[test]
fn inserted_rows_that_others_changed_stay() {
    let folder = village();
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), LEGACY);
    let empty = Dump::of_tables(&rehearsal.modern_url());
    program(&rehearsal).run(&["migrate"]);
    let run = rehearsal.modern_rows(
        "select run_id from regraft.migration_control where run_no = 1 and entity = ''",
    );
    let run = run[0][0].as_str();
    rehearsal.modern("update people set name = 'Ours', house_id = null where legacy_id = 3");
    let kept = "select * from people order by legacy_id";
    let asked = program(&rehearsal).expect(2, &["rollback", "--run", run]);
    assert!(
        asked.says("somebody changed house_id, name since"),
        "{asked}"
    );
    let done = roll_back(&rehearsal, 1, run);
    let left = done["done"]["left"].as_array().expect("a list");
    assert_eq!(left.len(), 1, "{done}");
    assert_eq!(left[0]["legacy_id"], "3");
    assert_eq!(rehearsal.modern_rows(kept).len(), 1);
    let mapped = "select legacy_id from regraft.migration_mappings";
    assert_eq!(rehearsal.modern_rows(mapped), [["3"]]);
    // It is still known: nothing is moved twice.
    program(&rehearsal).run(&["migrate"]);
    let ours = "select count(*) from people where legacy_id = 3 and name = 'Ours'";
    assert_eq!(rehearsal.modern_number(ours), 1);
    rehearsal.modern("update people set name = 'Again' where legacy_id in (1, 300)");
    let second = rehearsal.modern_rows(
        "select run_id from regraft.migration_control where command = 'migrate' and entity = '' order by run_no desc limit 1",
    );
    let done = roll_back(&rehearsal, 1, &second[0][0]);
    let why: Vec<String> = done["done"]["left"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| format!("{} {} {}", row["entity"], row["legacy_id"], row["why"]))
        .collect();
    // 300 works for 101, who works for 34, and so on; they live in houses, which people own.
    assert!(
        why.contains(&r#""people" "300" "changed""#.to_owned()),
        "{why:?}"
    );
    assert!(
        why.contains(&r#""people" "101" "referred""#.to_owned()),
        "{why:?}"
    );
    assert!(
        why.contains(&r#""houses" "1" "referred""#.to_owned()),
        "{why:?}"
    );
    program(&rehearsal).expect(0, &["rollback", "--run", &second[0][0], "--yes", "--force"]);
    program(&rehearsal).expect(0, &["rollback", "--run", run, "--yes", "--force"]);
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&empty, "by force");
}

/// The ledger of an earlier version becomes what a new one is.
#[test]
fn a_ledger_of_version_1_is_upgraded() {
    const FIRST: &str = include_str!("../../regraft-ledger/src/schema/1.sql");
    let folder = village();
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), LEGACY);
    rehearsal.modern(FIRST);
    rehearsal.modern("insert into regraft.ledger_version (version, program) values (1, 'old')");
    rehearsal.modern(
        "insert into regraft.migration_changes
         values (1, 1, 'pets', '1', gen_random_uuid(), 'update', '{name}', '{\"name\": \"a\"}', '{\"name\": \"b\"}',
                 gen_random_uuid(), '', null)",
    );
    program(&rehearsal).run(&["migrate"]);
    let fresh = rehearsal.again();
    program(&fresh).run(&["migrate"]);
    let columns = "select table_name, column_name, data_type, is_nullable, column_default
                   from information_schema.columns where table_schema = 'regraft' order by 1, ordinal_position";
    assert_eq!(rehearsal.modern_rows(columns), fresh.modern_rows(columns));
    let versions = "select version from regraft.ledger_version order by 1";
    assert_eq!(rehearsal.modern_rows(versions), fresh.modern_rows(versions));
    let form = "select form from regraft.migration_changes";
    assert_eq!(rehearsal.modern_rows(form), [["json"]]);
}
