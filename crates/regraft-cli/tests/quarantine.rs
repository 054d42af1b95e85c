//! Rows of the quarantine are shown with all that is known of them, exported for those who repair
//! the data, dropped for good, and closed when there is nothing to move any more.

use std::os::unix::fs::PermissionsExt as _;

use regraft_testkit::{Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

const SOURCE: &str = "
create table customer (id integer primary key, name text, remark text, deleted boolean not null default false);
create table sale (id integer primary key, customer integer, price numeric);
";

/// Customers 1 to 30: 10, 20 and 30 have no name. Sales 1 to 60, two of each; sale 7 has no price.
const DATA: &str = r#"
insert into customer select i, case when i % 10 > 0 then 'Customer ' || i end, 'fine' from generate_series(1, 30) i;
update customer set remark = E'=HYPERLINK("x"), "quoted"\nand a second line' where id = 10;
update customer set remark = '-5' where id = 20;
update customer set remark = null where id = 30;
insert into sale select i, 1 + i % 30, case when i <> 7 then i end from generate_series(1, 60) i;
"#;

const TARGET: &str = "
create table customers (id uuid primary key, name text not null, remark text, legacy_id integer unique);
create table sales (id uuid primary key, customer_id uuid not null references customers, price numeric not null,
                    legacy_id integer unique);
";

const CUSTOMERS: &str = r#"
[source]
from = "customer c"
key = "c.id"
[[source.filter]]
name = "deleted"
keep = "not c.deleted"
[target]
table = "customers"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "c.name"
remark = "c.remark"
"#;

const SALES: &str = r#"
[source]
from = "sale s"
key = "s.id"
[target]
table = "sales"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
customer_id = { ref = "customers", from = "s.customer" }
price = "s.price"
"#;

fn shop() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("shop", "0%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/customers.toml", CUSTOMERS),
        ("entities/sales.toml", SALES),
    ])
}

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "7")
}

#[track_caller]
fn migrated(folder: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), folder.path(), LEGACY);
    program(&rehearsal).expect(1, &["migrate"]);
    rehearsal
}

fn states(rehearsal: &Rehearsal<'_>) -> Vec<String> {
    let query = "select entity || ' ' || legacy_id || ' ' || bucket || ' ' || state
                 from regraft.migration_quarantine order by entity, legacy_id::integer";
    let rows = rehearsal.modern_rows(query);
    rows.into_iter().map(|mut row| row.remove(0)).collect()
}

#[test]
fn a_row_is_shown_with_what_it_blocks() {
    let shop = shop();
    let rehearsal = migrated(&shop);
    let shown = [
        "quarantine",
        "show",
        "--entity",
        "customers",
        "--legacy-id",
        "10",
    ];
    let row = program(&rehearsal).json(0, &[&shown[..], &["--format", "json"]].concat());
    assert_eq!(row["reasons"][0]["code"], "not_null");
    assert_eq!(row["state"], "open");
    assert_eq!(row["tries"], 1);
    assert_eq!(row["source_row"], Value::Null, "values are not asked for");
    assert_eq!(row["behind"][0]["entity"], "sales");
    assert_eq!(row["behind"][0]["rows"], 2);
    assert_eq!(row["behind"][0]["examples"], serde_json::json!(["9", "39"]));
    let text = program(&rehearsal).expect(0, &shown);
    assert!(text.says("it blocks"), "{text}");
    assert!(!text.says("HYPERLINK"), "{text}");
    let values = program(&rehearsal).expect(0, &[&shown[..], &["--values"]].concat());
    assert!(values.says("HYPERLINK"), "{values}");
    program(&rehearsal).expect(2, &["quarantine", "show", "--entity", "customers"]);
    program(&rehearsal).expect(2, &["quarantine", "show", "customers", "11"]);
}

/// The rows of a CSV file, by the names of its columns.
fn table(text: &[u8]) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text);
    let rows = reader.deserialize::<std::collections::BTreeMap<String, String>>();
    rows.map(|row| row.expect("a row of CSV")).collect()
}

#[test]
fn rows_are_exported_with_their_values() {
    let shop = shop();
    let rehearsal = migrated(&shop);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, "older").expect("written");
    let name = file.to_str().expect("a name");
    let export = ["quarantine", "export", "--output", name];
    let said = program(&rehearsal).expect(0, &export);
    assert!(said.says("personal data"), "{said}");
    let mode = std::fs::metadata(&file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let rows = table(&std::fs::read(&file).expect("a file"));
    assert_eq!(rows.len(), states(&rehearsal).len());
    let of = |entity: &str, id: &str| {
        let is = |row: &&std::collections::BTreeMap<String, String>| {
            row["entity"] == entity && row["legacy_id"] == id
        };
        rows.iter().find(is).expect("the row").clone()
    };
    let ten = of("customers", "10");
    assert_eq!(
        ten["source.remark"],
        "'=HYPERLINK(\"x\"), \"quoted\"\nand a second line"
    );
    assert_eq!(ten["source.name"], "");
    assert_eq!(ten["reasons"], "not_null:name");
    assert_eq!(ten["source.price"], "", "a column of sales");
    assert_eq!(of("customers", "20")["source.remark"], "-5", "a number");
    assert_eq!(of("customers", "30")["source.remark"], "");
    let blocked = of("sales", "9");
    assert_eq!(blocked["bucket"], "blocked");
    assert_eq!(blocked["parents"], "customers 10");
    assert_eq!(blocked["source.price"], "9");
    program(&rehearsal).expect(
        0,
        &[&export[..], &["--verbatim", "--reason", "not_null"]].concat(),
    );
    let rows = table(&std::fs::read(&file).expect("a file"));
    assert_eq!(rows.len(), 4);
    let remark = |row: &std::collections::BTreeMap<String, String>| row["source.remark"].clone();
    assert!(rows.iter().any(|row| remark(row).starts_with("=HYPERLINK")));
    let json = program(&rehearsal).json(
        0,
        &[
            "quarantine",
            "export",
            "--entity",
            "customers",
            "--legacy-id",
            "10,30",
            "--format",
            "json",
        ],
    );
    assert_eq!(json.as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!(json[1]["source_row"]["remark"], Value::Null);
    let none = program(&rehearsal).json(
        0,
        &[
            "quarantine",
            "export",
            "--reason",
            "none",
            "--format",
            "json",
        ],
    );
    assert_eq!(none, serde_json::json!([]));
}

#[test]
fn dropped_rows_stay_where_they_are_and_are_accounted_for() {
    let shop = shop();
    let rehearsal = migrated(&shop);
    let before = Dump::of(&rehearsal.modern_url());
    let arguments = [
        "quarantine",
        "drop",
        "--entity",
        "customers",
        "--legacy-id",
        "10,20",
        "--note",
        "tests",
    ];
    let asked = program(&rehearsal).expect(2, &arguments);
    assert!(asked.says("stay blocked"), "{asked}");
    Dump::of(&rehearsal.modern_url()).assert_same(&before, "after it asked");
    program(&rehearsal).expect(2, &["quarantine", "drop", "--yes"]);
    let dropped = program(&rehearsal).json(
        0,
        &[&arguments[..], &["--yes", "--format", "json"]].concat(),
    );
    assert_eq!(dropped["dropped"], 2);
    assert_eq!(dropped["preview"]["behind"][0]["rows"], 4);
    program(&rehearsal).expect(0, &["validate"]);
    let shown = program(&rehearsal).expect(0, &["quarantine", "show", "customers", "10"]);
    assert!(shown.says("dropped") && shown.says("tests"), "{shown}");
    let status = program(&rehearsal).json(0, &["status", "customers", "--format", "json"]);
    assert_eq!(status["entities"][0]["dropped"], 2, "{status}");
    assert_eq!(status["entities"][0]["quarantined"], 1, "{status}");
    let listed = program(&rehearsal).expect(0, &["quarantine", "list", "customers"]);
    assert!(listed.says("30") && !listed.says("10,"), "{listed}");
    // Repaired, they would move; but it was decided that they don't.
    rehearsal.legacy("update customer set name = 'Named' where id in (10, 20, 30); update sale set price = 1 where id = 7");
    let plan = program(&rehearsal).json(0, &["plan", "--format", "json"]);
    let migrated = program(&rehearsal).expect(1, &["migrate"]);
    assert!(migrated.says("it was decided not to move it"), "{migrated}");
    assert_eq!(
        rehearsal.modern_number("select count(*) from customers"),
        28
    );
    assert_eq!(
        states(&rehearsal),
        [
            "customers 10 quarantined dropped",
            "customers 20 quarantined dropped",
            "customers 30 quarantined resolved",
            "sales 7 quarantined resolved",
            "sales 9 blocked open",
            "sales 19 blocked open",
            "sales 29 blocked resolved",
            "sales 39 blocked open",
            "sales 49 blocked open",
            "sales 59 blocked resolved",
        ]
    );
    let planned = plan.to_string();
    assert!(
        planned.contains("\"dropped\""),
        "the plan says so too: {planned}"
    );
    program(&rehearsal).expect(0, &["validate"]);
    let before = Dump::of(&rehearsal.modern_url());
    let again = program(&rehearsal).run(&["migrate"]);
    assert!(again.says("Nothing to do"), "{again}");
    Dump::of(&rehearsal.modern_url())
        .without_runs()
        .assert_same(&before.without_runs(), "a second run");
    let retry = [
        "quarantine",
        "retry",
        "--entity",
        "customers",
        "--legacy-id",
        "10",
    ];
    let none = program(&rehearsal).expect(0, &retry);
    assert!(none.says("nothing to do"), "{none}");
    program(&rehearsal).expect(0, &[&retry[..], &["--dropped"]].concat());
    assert_eq!(
        rehearsal.modern_number("select count(*) from customers"),
        29
    );
    assert_eq!(
        rehearsal.modern_number("select count(*) from sales"),
        58,
        "what waited for it too"
    );
    program(&rehearsal).expect(0, &["validate"]);
}

/// The budget is for rows that nobody has decided about.
#[test]
fn dropped_rows_are_not_over_budget() {
    let shop = shop();
    let rehearsal = migrated(&shop);
    program(&rehearsal).expect(1, &["migrate"]);
    program(&rehearsal).expect(0, &["quarantine", "drop", "--reason", "not_null", "--yes"]);
    let open = program(&rehearsal).expect(1, &["migrate"]);
    assert!(open.says("sales"), "those that wait are open: {open}");
    program(&rehearsal).expect(
        0,
        &["quarantine", "drop", "--reason", "blocked_parent", "--yes"],
    );
    program(&rehearsal).expect(0, &["migrate"]);
    assert!(
        states(&rehearsal)
            .iter()
            .all(|state| state.ends_with("dropped"))
    );
    assert!(states(&rehearsal).contains(&"sales 9 blocked dropped".to_owned()));
    program(&rehearsal).expect(0, &["validate", "--final"]);
    // A dropped row that is tried again and is still faulty is open again.
    let retry = [
        "quarantine",
        "retry",
        "--entity",
        "customers",
        "--legacy-id",
        "10",
        "--dropped",
    ];
    program(&rehearsal).expect(1, &retry);
    assert!(states(&rehearsal).contains(&"customers 10 quarantined open".to_owned()));
}

#[test]
fn rows_without_a_source_are_closed() {
    let shop = shop();
    let rehearsal = migrated(&shop);
    rehearsal.legacy(
        "delete from customer where id = 10; update customer set deleted = true where id = 20; delete from sale where id = 7",
    );
    let retry = ["quarantine", "retry", "--all"];
    let before = Dump::of(&rehearsal.modern_url());
    let dry = program(&rehearsal).expect(1, &[&retry[..], &["--dry-run"]].concat());
    assert!(
        dry.says("to close") && dry.says("the source has no such row any more"),
        "{dry}"
    );
    Dump::of(&rehearsal.modern_url()).assert_same(&before, "after a dry run");
    let done = program(&rehearsal).json(1, &[&retry[..], &["--format", "json"]].concat());
    assert_eq!(done["gone"].as_array().map(Vec::len), Some(3), "{done}");
    let closed = rehearsal.modern_rows(
        "select entity, legacy_id, state, note from regraft.migration_quarantine where note is not null order by 1, 2",
    );
    let gone = "the source has no such row any more";
    assert_eq!(
        closed,
        [
            ["customers", "10", "resolved", gone],
            ["customers", "20", "resolved", "filter `deleted` drops it"],
            ["sales", "7", "resolved", gone],
        ]
    );
    // What waited for them waits for nothing any more: its parent is missing.
    let missing = rehearsal.modern_rows(
        "select legacy_id from regraft.migration_quarantine
         where state = 'open' and reasons @> '[{\"code\": \"missing_parent\"}]' order by legacy_id::integer",
    );
    assert_eq!(missing, [["9"], ["19"], ["39"], ["49"]]);
    // The account of the migration is about the source as it was; the next one's fits again.
    program(&rehearsal).expect(1, &["migrate"]);
    program(&rehearsal).expect(0, &["validate"]);
    let again = program(&rehearsal).expect(
        0,
        &[
            "quarantine",
            "retry",
            "--entity",
            "customers",
            "--legacy-id",
            "10,20",
        ],
    );
    assert!(again.says("nothing to do"), "{again}");
}
