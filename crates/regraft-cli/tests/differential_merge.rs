//! Merge rules under later changes: rows that are no longer one, rows that have become one, and rows
//! that are gone while others are part of them.

use regraft_testkit::{Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};
use serde_json::Value;

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

const SOURCE: &str = "
create table shop (id integer primary key, name text, street text);
create table sale (id integer primary key, shop integer, pickup integer);
";

/// Shops 1 to 400 in as many streets, but that 201 to 210 are in those of 1 to 10, and 301 to 305 in
/// those of 1 to 5. Each has two sales, and every fourth sale is picked up elsewhere.
const DATA: &str = "
insert into shop select i, 'Shop ' || i,
  'Street ' || case when i between 201 and 210 then i - 200 when i between 301 and 305 then i - 300 else i end
from generate_series(1, 400) i;
insert into sale select i, 1 + i % 400, case when i % 4 = 0 then 1 + (i + 200) % 400 end
from generate_series(1, 800) i;
";

const TARGET: &str = "
create table shops (id uuid primary key, name text not null, street text, legacy_id integer unique);
create table sales (id uuid primary key, shop_id uuid not null references shops, pickup_id uuid references shops,
                    legacy_id integer unique);
create index on sales (shop_id);
create index on sales (pickup_id);
";

const SHOPS: &str = r#"
[source]
from = "shop s"
key = "s.id"
[source.merge]
name = "same-street"
by = ["lower(s.street)"]
[target]
table = "shops"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "s.name"
street = "s.street"
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
shop_id = { ref = "shops", from = "s.shop" }
pickup_id = { ref = "shops", from = "s.pickup", missing = "null" }
"#;

fn market() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("market", "0%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/shops.toml", SHOPS),
        ("entities/sales.toml", SALES),
    ])
}

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "37")
}

/// Everything is migrated, and compared once, so that ranges are agreed on.
fn migrated(market: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::new(Servers::shared(), market.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    carry_over(&rehearsal, 0, "all", &[]);
    rehearsal
}

fn carry_over(rehearsal: &Rehearsal<'_>, code: i32, entities: &str, more: &[&str]) -> Value {
    let arguments = ["differential", "migrate", "--entities", entities];
    program(rehearsal).json(code, &[&arguments[..], more].concat())
}

/// The tables, and which legacy id stands for which row.
fn state(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    let mut all = rehearsal.modern_rows(
        "select entity, legacy_id, new_id, coalesce(merged_into, '-') from regraft.migration_mappings
         order by 1, 2",
    );
    for table in ["shops", "sales"] {
        all.extend(rehearsal.modern_rows(&format!("select * from {table} order by id")));
    }
    all
}

#[track_caller]
fn assert_state(rehearsal: &Rehearsal<'_>, expected: &[Vec<String>], what: &str) {
    let state = state(rehearsal);
    let wrong: Vec<_> = state.iter().filter(|row| !expected.contains(row)).collect();
    let missing: Vec<_> = expected.iter().filter(|row| !state.contains(row)).collect();
    assert!(
        wrong.is_empty() && missing.is_empty(),
        "{what}: is {wrong:#?}, should be {missing:#?}"
    );
}

/// What a migration from the start gives now.
#[track_caller]
fn assert_as_fresh(rehearsal: &Rehearsal<'_>, what: &str) {
    let fresh = rehearsal.again();
    program(&fresh).expect(0, &["migrate"]);
    assert_state(rehearsal, &state(&fresh), what);
    program(rehearsal).expect(0, &["validate"]);
    assert_eq!(open(rehearsal), Vec::<Vec<String>>::new());
    let again = carry_over(rehearsal, 0, "all", &[]);
    assert_eq!(again["nothing_to_do"], true, "{again}");
}

/// The open rows: entity, legacy id and kind.
fn open(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    rehearsal.modern_rows(
        "select entity, legacy_id, comparison_type from regraft.data_differentials
         where legacy_id is not null and not resolved order by 1, legacy_id::integer",
    )
}

const WINS: [&str; 2] = ["--conflict-resolution", "source_wins"];

/// 202 moves away from 2, and 1 from 201 and 301, of which the first is the shop of the other now.
/// Whatever refers to them follows.
#[test]
fn rows_that_are_no_longer_one_get_rows_of_their_own() {
    let market = market();
    let rehearsal = migrated(&market);
    let before = state(&rehearsal);
    rehearsal.legacy(
        "update shop set street = 'Elsewhere' where id = 202;
         update shop set street = 'Far away' where id = 1",
    );
    let analysis = program(&rehearsal).json(0, &["differential", "analyze", "--entities", "all"]);
    let shops = &analysis["entities"][0];
    assert_eq!(shops["regrouped"]["rows"], 3, "{shops}");
    assert_eq!(
        shops["regrouped"]["examples"],
        serde_json::json!(["201", "202", "301"])
    );
    let dry = carry_over(&rehearsal, 0, "all", &["--dry-run"]);
    assert_eq!(dry["receipt"]["total"]["inserted"], 2, "{dry}");
    assert_state(&rehearsal, &before, "a dry run writes nothing");
    let done = carry_over(&rehearsal, 0, "all", &[]);
    assert_eq!(done["receipt"]["total"]["inserted"], 2, "{done}");
    assert_eq!(done["receipt"]["total"]["merged"], 1, "{done}");
    assert_as_fresh(&rehearsal, "in the end");
    let run = done["receipt"]["run_id"].as_str().expect("a run");
    program(&rehearsal).expect(0, &["rollback", "--run", run, "--yes"]);
    assert_state(&rehearsal, &before, "undone");
}

/// References follow also when their entity is looked at only later.
#[test]
fn references_follow_when_they_are_looked_at_later() {
    let market = market();
    let rehearsal = migrated(&market);
    rehearsal.legacy("update shop set street = 'Elsewhere' where id in (203, 303)");
    carry_over(&rehearsal, 0, "shops", &[]);
    let of_203 =
        "select count(*) from sales s join shops h on h.id = s.shop_id where h.legacy_id = 203";
    assert_eq!(rehearsal.modern_number(of_203), 0);
    // Who is looked at later is told by before-images, whatever their age.
    let prune = ["ledger", "prune", "--days", "0", "--yes"];
    program(&rehearsal).expect(0, &prune);
    carry_over(&rehearsal, 0, "sales", &[]);
    assert_eq!(rehearsal.modern_number(of_203), 4, "303 is one with it now");
    assert_as_fresh(&rehearsal, "in the end");
}

/// Killed at some commit, the same command ends where an undisturbed one does.
#[test]
fn killed_while_rows_are_regrouped() {
    let market = market();
    let rehearsal = migrated(&market);
    let arguments = ["differential", "migrate", "--entities", "all"];
    for point in ["before-commit", "after-commit"] {
        for n in 3..9 {
            rehearsal.legacy("update shop set street = 'Street 1' where id = 1");
            let other = rehearsal.again();
            program(&other).expect(0, &["migrate"]);
            carry_over(&other, 0, "all", &[]);
            rehearsal.legacy("update shop set street = 'Far away' where id = 1");
            let failpoint = format!("{point}={n}*off->return(abort)");
            let cut = program(&other)
                .with("FAILPOINTS", &failpoint)
                .run(&arguments);
            assert!(cut.signal.is_some(), "{failpoint}: {cut}");
            program(&other).expect(0, &arguments);
            assert_as_fresh(&other, &failpoint);
        }
    }
}

/// The values of a row that is part of another are not in the target: that they change is nothing.
#[test]
fn what_changes_in_a_merged_row_is_no_change() {
    let market = market();
    let rehearsal = migrated(&market);
    rehearsal.legacy("update shop set name = 'Renamed' where id in (204, 304)");
    let before = Dump::of_tables(&rehearsal.modern_url());
    for more in [&[][..], &WINS] {
        let done = carry_over(&rehearsal, 0, "all", more);
        assert_eq!(done["nothing_to_do"], true, "{done}");
    }
    Dump::of_tables(&rehearsal.modern_url()).assert_same(&before, "nothing is written");
    assert_as_fresh(&rehearsal, "in the end");
}

/// 40 comes to the street of 30: both have rows, and which of them is right is not for us to say.
#[test]
fn a_row_that_became_part_of_another_is_left_for_a_decision() {
    let market = market();
    let rehearsal = migrated(&market);
    let before = state(&rehearsal);
    rehearsal.legacy("update shop set street = 'Street 30', name = 'Moved' where id = 40");
    for more in [&[][..], &WINS] {
        let done = carry_over(&rehearsal, 1, "all", more);
        assert_eq!(done["open"], 1, "{done}");
        assert_eq!(done["entities"][0]["absorbed"]["rows"], 1, "{done}");
        assert_eq!(open(&rehearsal), [["shops", "40", "merged_in_source"]]);
        assert_state(&rehearsal, &before, "nothing is written");
    }
    let analyze = [
        "differential",
        "analyze",
        "--entities",
        "all",
        "--detect-conflicts",
    ];
    program(&rehearsal).expect(0, &analyze);
    let listed = program(&rehearsal).json(1, &["conflicts", "list"]);
    assert_eq!(listed["rows"][0]["detail"]["into"], "30", "{listed}");
    let id = listed["rows"][0]["id"].as_str().expect("an id");
    let shown = program(&rehearsal).expect(1, &["conflicts", "show", "--id", id]);
    assert!(
        shown.says("part of another, and the target has both"),
        "{shown}"
    );
    let take = ["conflicts", "resolve", "--all", "--take", "source"];
    assert!(program(&rehearsal).expect(1, &take).says("part of another"));
    let target = ["--conflict-resolution", "target_wins"];
    let left = carry_over(&rehearsal, 0, "all", &target);
    assert_eq!(left["open"], 0, "{left}");
    // The source takes it back.
    carry_over(&rehearsal, 1, "all", &[]);
    rehearsal.legacy("update shop set street = 'Street 40', name = 'Shop 40' where id = 40");
    carry_over(&rehearsal, 0, "all", &[]);
    assert_as_fresh(&rehearsal, "in the end");
}

/// Somebody makes them one in the target, in the way that is right there.
#[test]
fn rows_that_became_one_are_made_one_in_the_target() {
    let market = market();
    let rehearsal = migrated(&market);
    rehearsal.legacy("update shop set street = 'Street 30' where id = 40");
    carry_over(&rehearsal, 1, "all", &[]);
    rehearsal.modern(
        "update sales set shop_id = (select id from shops where legacy_id = 30)
         where shop_id = (select id from shops where legacy_id = 40);
         update sales set pickup_id = (select id from shops where legacy_id = 30)
         where pickup_id = (select id from shops where legacy_id = 40);
         delete from shops where legacy_id = 40",
    );
    let done = carry_over(&rehearsal, 0, "all", &[]);
    assert_eq!(done["receipt"]["total"]["merged"], 1, "{done}");
    assert_as_fresh(&rehearsal, "in the end");
}

/// 5 is gone, and 205 and 305 are part of it: its row stays until the source wins.
#[test]
fn a_row_that_others_are_part_of_is_gone() {
    let market = market();
    let rehearsal = migrated(&market);
    let before = state(&rehearsal);
    rehearsal.legacy("delete from shop where id = 5; update sale set shop = 205 where shop = 5; update sale set pickup = null where pickup = 5");
    for more in [&[][..], &["--deletes", "ignore"]] {
        let left = carry_over(&rehearsal, 1, "all", more);
        assert_eq!(left["entities"][0]["deleted"]["rows"], 1, "{left}");
        assert_eq!(open(&rehearsal), [["shops", "5", "deleted_in_source"]]);
    }
    let shops = "select * from shops order by id";
    let rows = rehearsal.modern_rows(shops);
    let detail = "select detail ->> 'merged_into_it' from regraft.data_differentials where not resolved and legacy_id = '5'";
    assert_eq!(rehearsal.modern_rows(detail), [["[\"205\", \"305\"]"]]);
    // It comes back.
    rehearsal.legacy("insert into shop values (5, 'Shop 5', 'Street 5')");
    carry_over(&rehearsal, 0, "all", &[]);
    assert_eq!(rehearsal.modern_rows(shops), rows);
    assert_as_fresh(&rehearsal, "in the end");
    // It is gone for good.
    rehearsal.legacy("delete from shop where id = 5");
    carry_over(&rehearsal, 1, "all", &[]);
    let before_last = state(&rehearsal);
    let done = carry_over(&rehearsal, 0, "all", &WINS);
    assert_eq!(done["receipt"]["total"]["inserted"], 1, "{done}");
    assert_eq!(done["receipt"]["total"]["merged"], 1, "{done}");
    assert_as_fresh(&rehearsal, "in the end");
    let run = done["receipt"]["run_id"].as_str().expect("a run");
    program(&rehearsal).expect(0, &["rollback", "--run", run, "--yes"]);
    assert_state(&rehearsal, &before_last, "undone");
    assert_ne!(before, before_last, "sales of 5 and 205 differ");
}

/// A row that others are part of, deleted from the target: they come back with it.
#[test]
fn a_row_that_others_are_part_of_comes_back() {
    let market = market();
    let rehearsal = migrated(&market);
    rehearsal.modern(
        "delete from sales where legacy_id in
           (select legacy_id from sales where shop_id = (select id from shops where legacy_id = 8)
                                           or pickup_id = (select id from shops where legacy_id = 8));
         delete from shops where legacy_id = 8",
    );
    carry_over(&rehearsal, 0, "all", &WINS);
    assert_as_fresh(&rehearsal, "in the end");
}
