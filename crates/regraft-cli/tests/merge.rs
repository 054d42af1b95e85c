//! Merge rules: several rows of the source that are one row of the target.

use regraft_testkit::{Dump, Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

const SOURCE: &str = "
create table shop (id integer primary key, name text, street text, unit text, closed boolean not null);
create table sale (id integer primary key, shop integer);
";

/// Shops 1 to 40 with the same streets as 41 to 60 in other letters; of 7 and 47 and 50 three are
/// one; 3 has no name, so 43 waits for it; 5 is closed, so 45 stands for itself; 10 and 60 have no
/// street and are not compared. Each shop has three sales.
const DATA: &str = "
insert into shop select i, 'Shop ' || i, 'Lane ' || i, case when i % 2 = 0 then 'A' end, i = 5
from generate_series(1, 40) i;
insert into shop select i + 40, 'Shop ' || i || ' again', 'LANE ' || i, case when i % 2 = 0 then 'A' end, false
from generate_series(1, 20) i;
update shop set street = 'lane 7', unit = null where id = 50;
update shop set name = null where id = 3;
update shop set street = null where id in (10, 60);
insert into sale select i, 1 + i % 60 from generate_series(1, 180) i;
";

const TARGET: &str = "
create table shops (id uuid primary key, name text not null, street text, unit text, legacy_id integer unique);
create unique index one_place on shops (lower(street), coalesce(unit, ''));
create table sales (id uuid primary key, shop_id uuid not null references shops, legacy_id integer unique);
";

const SHOPS: &str = r#"
[source]
from = "shop s"
key = "s.id"
[[source.filter]]
name = "closed"
keep = "not s.closed"
[source.merge]
name = "same-place"
by = ["lower(s.street)", "s.unit"]
when = "s.street <> ''"
[target]
table = "shops"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "s.name"
street = "s.street"
unit = "s.unit"
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
"#;

fn town() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("town", "50%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/shops.toml", SHOPS),
        ("entities/sales.toml", SALES),
    ])
}

fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "9")
}

#[track_caller]
fn migrate(rehearsal: &Rehearsal<'_>, mode: &str) {
    let finished = program(rehearsal).run(&["migrate", "--mode", mode]);
    assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
}

fn merged(rehearsal: &Rehearsal<'_>) -> Vec<Vec<String>> {
    rehearsal.modern_rows(
        "select m.legacy_id, m.merged_into, (o.new_id = m.new_id)::text
         from regraft.migration_mappings m join regraft.migration_mappings o
           on o.entity = m.entity and o.legacy_id = m.merged_into
         where m.entity = 'shops' and m.merged_into is not null order by m.legacy_id::integer",
    )
}

fn account(rehearsal: &Rehearsal<'_>, run: i32) -> Vec<Vec<String>> {
    rehearsal.modern_rows(&format!(
        "select source_rows, inserted, unchanged, merged, filtered, quarantined, blocked, detail -> 'merged' ->> 'same-place'
         from regraft.migration_control where entity = 'shops' and batch = 0 and run_no = {run}"
    ))
}

/// 20 rows begin again at 41; 43 waits for 3, 45 and 60 stand for themselves, and 50 is of 7.
fn expected() -> Vec<Vec<String>> {
    (41..=60)
        .filter(|id| ![43, 45, 60].contains(id))
        .map(|id| {
            let into = if id == 50 { 7 } else { id - 40 };
            vec![id.to_string(), into.to_string(), "true".to_owned()]
        })
        .collect()
}

#[test]
fn equal_rows_are_one_row_and_whatever_refers_to_them_finds_it() {
    let town = town();
    for mode in ["in-place", "bulk"] {
        let rehearsal = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
        let empty = Dump::of_tables(&rehearsal.modern_url());
        migrate(&rehearsal, mode);
        assert_eq!(merged(&rehearsal), expected(), "{mode}");
        assert_eq!(
            account(&rehearsal, 1),
            [["60", "40", "0", "17", "1", "1", "1", "17"]],
            "{mode}"
        );
        let sales = rehearsal.modern_number("select count(*) from sales");
        assert_eq!(sales, 180 - 9, "the sales of 3, 43 and 5 stay behind");
        program(&rehearsal).expect(0, &["validate"]);
        let before = Dump::of(&rehearsal.modern_url());
        let again = program(&rehearsal).run(&["migrate"]);
        assert!(again.says("Nothing to do"), "{mode}: {again}");
        Dump::of(&rehearsal.modern_url())
            .without_runs()
            .assert_same(&before.without_runs(), "a second run");
        assert_eq!(
            account(&rehearsal, 2),
            [["60", "0", "57", "0", "1", "1", "1", ""]].map(|row| row.map(str::to_owned).to_vec()),
            "{mode}"
        );
        program(&rehearsal).expect(0, &["rollback", "--yes"]);
        Dump::of_tables(&rehearsal.modern_url()).assert_same(&empty, mode);
    }
}

/// What waited for its survivor is merged when that one is mended.
#[test]
fn a_row_whose_survivor_is_mended_follows() {
    let town = town();
    let rehearsal = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
    migrate(&rehearsal, "bulk");
    rehearsal.legacy("update shop set name = 'Shop 3' where id = 3");
    migrate(&rehearsal, "auto");
    let fresh = rehearsal.again();
    migrate(&fresh, "in-place");
    assert_eq!(merged(&rehearsal), merged(&fresh));
    let sales = "select * from sales order by id";
    assert_eq!(rehearsal.modern_rows(sales), fresh.modern_rows(sales));
    program(&rehearsal).expect(0, &["validate"]);
}

/// Killed at every commit, it ends where an undisturbed run does.
#[test]
fn killed_while_merging() {
    let town = town();
    let first = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
    let calm = first.again();
    migrate(&calm, "bulk");
    let expected = Dump::of(&calm.modern_url());
    for point in ["before-commit", "after-commit"] {
        for n in [8, 9, 10, 11, 12, 13, 14] {
            let rehearsal = first.again();
            let failpoint = format!("{point}={n}*off->return(abort)");
            program(&rehearsal)
                .with("FAILPOINTS", &failpoint)
                .run(&["migrate", "--mode", "bulk"]);
            migrate(&rehearsal, "bulk");
            Dump::of(&rehearsal.modern_url()).assert_same(&expected, &failpoint);
        }
    }
}

/// Lost or wrong, the mappings of merged rows come back; what the source says otherwise now is told.
#[test]
fn mappings_of_merged_rows_are_rebuilt() {
    const MAPPINGS: &str =
        "select * from regraft.migration_mappings where entity = 'shops' order by legacy_id";
    let town = town();
    let first = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
    let rebuild = ["mappings", "rebuild", "shops", "--yes"];
    for meddle in [
        "truncate regraft.migration_mappings_shops",
        "delete from regraft.migration_mappings where merged_into is not null",
        "delete from regraft.migration_mappings where entity = 'shops' and merged_into is null",
        "update regraft.migration_mappings set merged_into = '8' where entity = 'shops' and legacy_id in ('41', '50')",
        "update regraft.migration_mappings set merged_into = null where entity = 'shops' and legacy_id = '42'",
        "update regraft.migration_mappings m set new_id = (select id from shops where legacy_id = 9)
         where entity = 'shops' and legacy_id = '42'",
    ] {
        let rehearsal = first.again();
        migrate(&rehearsal, "bulk");
        let before = rehearsal.modern_rows(MAPPINGS);
        let tables = Dump::of_tables(&rehearsal.modern_url());
        rehearsal.modern(meddle);
        let rebuilt = program(&rehearsal).json(0, &rebuild);
        assert_eq!(rebuilt["entities"][0]["merged"], 17, "{meddle}: {rebuilt}");
        assert_eq!(rehearsal.modern_rows(MAPPINGS), before, "{meddle}");
        assert_eq!(merged(&rehearsal), expected(), "{meddle}");
        Dump::of_tables(&rehearsal.modern_url()).assert_same(&tables, meddle);
        program(&rehearsal).expect(0, &["validate", "--final"]);
        let again = program(&rehearsal).json(0, &rebuild);
        assert_eq!(again["nothing_to_do"], true, "{meddle}: {again}");
    }
}

/// A row that was merged, and by the source is a row of its own now, or the other way round: which
/// of the two is right is not for a rebuild to say.
#[test]
fn a_merge_that_the_source_has_changed_since_is_named_and_nothing_is_written() {
    let town = town();
    let rehearsal = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
    migrate(&rehearsal, "bulk");
    rehearsal.legacy(
        "update shop set street = 'Elsewhere' where id = 44;
         update shop set street = 'Lane 9', unit = null where id = 21",
    );
    rehearsal.modern(
        "delete from regraft.migration_mappings where entity = 'shops' and legacy_id = '8'",
    );
    let mappings = "select * from regraft.migration_mappings order by entity, legacy_id";
    let before = rehearsal.modern_rows(mappings);
    let rebuilt = program(&rehearsal).json(1, &["mappings", "rebuild", "shops", "--yes"]);
    let found: Vec<(String, String)> = rebuilt["entities"][0]["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|f| (f["what"].to_string(), f["examples"].to_string()))
        .collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].0.contains("merged into others by a rule") && found[0].1 == "[\"21\"]",
        "{found:#?}"
    );
    assert!(
        found[1].0.contains("rows of their own now") && found[1].1 == "[\"44\"]",
        "{found:#?}"
    );
    assert_eq!(rehearsal.modern_rows(mappings), before);
}

/// Whoever meddles with what was merged is found out.
#[test]
fn a_wrong_merge_is_found() {
    let town = town();
    let rehearsal = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
    migrate(&rehearsal, "bulk");
    for (meddle, told) in [
        (
            "update regraft.migration_mappings set merged_into = '8' where entity = 'shops' and legacy_id = '41'",
            "merged into another row than the merge rule says",
        ),
        (
            "update regraft.migration_mappings set new_id = (select id from shops where legacy_id = 9)
             where entity = 'shops' and legacy_id = '42'",
            "merged, but mapped to another key",
        ),
    ] {
        let other = rehearsal.again();
        migrate(&other, "bulk");
        other.modern(meddle);
        let finished = program(&other).expect(1, &["validate", "shops"]);
        assert!(finished.says(told), "{finished}");
    }
    rehearsal.legacy("update shop set street = 'Elsewhere' where id = 44");
    let finished = program(&rehearsal).expect(1, &["validate", "shops"]);
    assert!(
        finished.says("merged, but by the merge rule equal to no earlier row"),
        "{finished}"
    );
}

/// A row that is part of another is told with that one, and that one with it.
#[test]
fn a_merged_row_is_told_with_the_row_it_is_part_of() {
    let town = town();
    let rehearsal = Rehearsal::new(Servers::shared(), town.path(), LEGACY);
    migrate(&rehearsal, "bulk");
    let record = |code, id: &str| {
        let arguments = ["check-record", "--entity", "shops", "--legacy-id", id];
        program(&rehearsal).json(code, &arguments)
    };
    let (merged, survivor) = (record(0, "50"), record(0, "7"));
    assert_eq!(
        (merged["state"].as_str(), survivor["state"].as_str()),
        (Some("merged"), Some("migrated"))
    );
    assert_eq!(merged["mappings"][0]["merged_into"], "7");
    assert_eq!(merged["key"], survivor["key"]);
    assert_eq!(survivor["merged"], serde_json::json!(["47", "50"]));
    // By the key it is the survivor that is told.
    let key = survivor["key"].as_str().expect("a key");
    let by_key =
        program(&rehearsal).json(0, &["check-record", "--entity", "shops", "--uuid-id", key]);
    assert_eq!(by_key, survivor);
    // Sales of all three are sales of the one row.
    let sales = &survivor["children"][0];
    assert_eq!(
        (&sales["source_rows"], &sales["target_rows"]),
        (&9.into(), &9.into()),
        "{sales}"
    );
    assert_eq!(record(1, "43")["state"], "blocked");
    rehearsal.modern("update regraft.migration_mappings set merged_into = '8' where entity = 'shops' and legacy_id = '50'");
    let told = record(1, "50");
    assert!(
        told["problems"]
            .to_string()
            .contains("merged into another row than the merge rule says"),
        "{told}"
    );
}
