//! What is said about mistakes in an entity's file, its columns apart.

use insta::assert_snapshot;

use crate::fixture::{OFFICES, said, with, with_orders};

fn orders(text: &str) -> String {
    said(with_orders(text))
}

/// An entity with this key and otherwise nothing special.
fn with_key(key: &str) -> String {
    orders(&OFFICES.replace("{ column = \"id\", strategy = \"uuid_v5\" }", key))
}

#[test]
fn an_empty_file_lacks_everything() {
    assert_snapshot!(orders(""), @r#"
    project::missing-key

      × entity `orders` lacks `source`
       ╭─[demo/entities/orders.toml:1:1]
       ╰────
      help: add it, like this: [source] with `from` and `key`

    project::missing-key

      × entity `orders` lacks `target`
       ╭─[demo/entities/orders.toml:1:1]
       ╰────
      help: add it, like this: [target] with `table` and `key`

    project::missing-key

      × entity `orders` lacks `columns`
       ╭─[demo/entities/orders.toml:1:1]
       ╰────
      help: add it, like this: [columns] with one line for each target column

    3 errors
    "#);
}

#[test]
fn missing_keys_in_tables() {
    assert_snapshot!(orders("[source]\n[target]\n[columns]\n"), @r#"
    project::missing-key

      × [source] lacks `from`
       ╭─[demo/entities/orders.toml:1:1]
     1 │ [source]
       · ────┬───
       ·     ╰── `from` is missing
     2 │ [target]
       ╰────
      help: add it, like this: from = "legacy_table t"

    project::missing-key

      × [source] lacks `key`
       ╭─[demo/entities/orders.toml:1:1]
     1 │ [source]
       · ────┬───
       ·     ╰── `key` is missing
     2 │ [target]
       ╰────
      help: add it, like this: key = "t.id"

    project::missing-key

      × [target] lacks `table`
       ╭─[demo/entities/orders.toml:2:1]
     1 │ [source]
     2 │ [target]
       · ────┬───
       ·     ╰── `table` is missing
     3 │ [columns]
       ╰────
      help: add it, like this: table = "orders"

    project::missing-key

      × [target] lacks `key`
       ╭─[demo/entities/orders.toml:2:1]
     1 │ [source]
     2 │ [target]
       · ────┬───
       ·     ╰── `key` is missing
     3 │ [columns]
       ╰────
      help: add it, like this: key = { column = "id", strategy = "uuid_v5" }

    4 errors
    "#);
}

#[test]
fn unknown_keys() {
    assert_snapshot!(
        orders(&OFFICES
            .replace("table =", "tables =")
            .replace("[columns]", "[colums]")
            .replace("key = \"o.id\"", "key = \"o.id\"\nwhere = \"x\"")),
        @r#"
    project::unknown-key

      × unknown key `where` in [source]
       ╭─[demo/entities/orders.toml:4:1]
     3 │ key = "o.id"
     4 │ where = "x"
       · ──┬──
       ·   ╰── not known here
     5 │
       ╰────
      help: known keys: `from`, `key`, `filter`, `merge`

    project::unknown-key

      × unknown key `tables` in [target]
       ╭─[demo/entities/orders.toml:7:1]
     6 │ [target]
     7 │ tables = "offices"
       · ───┬──
       ·    ╰── not known here
     8 │ key = { column = "id", strategy = "uuid_v5" }
       ╰────
      help: did you mean `table`?

    project::unknown-key

      × unknown key `colums` in entity `orders`
        ╭─[demo/entities/orders.toml:10:2]
      9 │
     10 │ [colums]
        ·  ───┬──
        ·     ╰── not known here
     11 │ title = "o.title"
        ╰────
      help: did you mean `columns`?

    3 errors
    "#
    );
}

#[test]
fn syntax_errors_do_not_hide_other_files() {
    let mut files = crate::fixture::files();
    files[1].1 = OFFICES.replace("\"office o\"", "office o");
    files[2].1 = files[2].1.replace("\"offices\"", "\"ofices\"");
    assert_snapshot!(said(regraft_project::Project::from_files("demo", files)), @r#"
    project::syntax

      × not valid TOML: string values must be quoted, expected literal string
       ╭─[demo/entities/offices.toml:2:8]
     1 │ [source]
     2 │ from = office o
       ·        ────────
     3 │ key = "o.id"
       ╰────
      help: put the value in quotes; SQL with quotes in it fits between '''

    project::unknown-entity

      × unknown entity `ofices`
        ╭─[demo/entities/patients.toml:10:21]
      9 │ [columns]
     10 │ office_id = { ref = "ofices", from = "p.office_id" }
        ·                     ────┬───
        ·                         ╰── no file of this name in entities/
        ╰────
      help: did you mean `offices`?

    2 errors
    "#);
}

#[test]
fn bad_file_stems() {
    assert_snapshot!(said(with("entities/Doctor-Offices.toml", OFFICES)), @r#"
    project::bad-name

      × `Doctor-Offices` can't be an entity's name
       ╭─[demo/entities/Doctor-Offices.toml:1:1]
     1 │ [source]
       · ▲
       · ╰── the name comes from the file's
     2 │ from = "office o"
       ╰────
      help: rename the file to entities/doctor_offices.toml
    "#);
    assert_snapshot!(said(with("entities/1.toml", OFFICES)), @r#"
    project::bad-name

      × `1` can't be an entity's name
       ╭─[demo/entities/1.toml:1:1]
     1 │ [source]
       · ▲
       · ╰── the name comes from the file's
     2 │ from = "office o"
       ╰────
      help: rename the file: lower-case letters, digits and `_`, beginning with a letter, 63
            characters at most
    "#);
    assert_snapshot!(said(with("entities/all.toml", OFFICES)), @r#"
    project::name-clash

      × an entity can't be named `all`
       ╭─[demo/entities/all.toml:1:1]
     1 │ [source]
       · ▲
     2 │ from = "office o"
       ╰────
      help: `all` is the built-in group of every entity; rename the file
    "#);
}

#[test]
fn filters() {
    assert_snapshot!(
        orders(&OFFICES.replace(
            "[target]",
            "[[source.filter]]\nname = \"gone\"\nkeep = \"not o.gone\"\n\
             [[source.filter]]\nname = \"gone\"\nkeep = \"o.x > 0\"\n\
             [[source.filter]]\nname = \"So Gone\"\n\
             [target]",
        )),
        @r#"
    project::duplicate-filter

      × two filters are named `gone`
        ╭─[demo/entities/orders.toml:9:8]
      8 │ [[source.filter]]
      9 │ name = "gone"
        ·        ───┬──
        ·           ╰── the first one is in line 6
     10 │ keep = "o.x > 0"
        ╰────
      help: rows are counted under the filter that drops them: give each its own name

    project::missing-key

      × a [[source.filter]] lacks `keep`
        ╭─[demo/entities/orders.toml:11:1]
     10 │ keep = "o.x > 0"
     11 │ [[source.filter]]
        · ────────┬────────
        ·         ╰── `keep` is missing
     12 │ name = "So Gone"
        ╰────
      help: add it, like this: keep = "not t.deleted"

    project::bad-name

      × `So Gone` can't be a filter's name
        ╭─[demo/entities/orders.toml:12:8]
     11 │ [[source.filter]]
     12 │ name = "So Gone"
        ·        ────┬────
        ·            ╰── not a name
     13 │ [target]
        ╰────
      help: names are lower-case letters, digits, `_` and `-`, and begin with a letter

    3 errors
    "#
    );
    assert_snapshot!(
        orders(&OFFICES.replace("[target]", "filter = { name = \"a\", keep = \"b\" }\n[target]")),
        @r#"
    project::wrong-type

      × `filter` must be an array of tables; write [[source.filter]], not a table
       ╭─[demo/entities/orders.toml:5:10]
     4 │
     5 │ filter = { name = "a", keep = "b" }
       ·          ─────────────┬────────────
       ·                       ╰── this is a table
     6 │ [target]
       ╰────
    "#
    );
}

#[test]
fn table_names() {
    for (name, fault) in [
        ("a.b.c", "more than one dot"),
        ("", "is empty"),
        ("public.", "is empty"),
        ("\\\"Orders\\\"", "names are quoted for you"),
        (" orders", "begins or ends with a space"),
        (&"o".repeat(64), "longer than the 63 bytes"),
    ] {
        let said = orders(&OFFICES.replace("table = \"offices\"", &format!("table = \"{name}\"")));
        assert!(said.contains(fault), "{name}: {said}");
    }
    assert_eq!(
        orders(&OFFICES.replace("\"offices\"", "\"app.Orders\"")),
        ""
    );
}

#[test]
fn key_strategies() {
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"uuidv7\" }"), @r#"
    project::bad-value

      × unknown key strategy `uuidv7`
       ╭─[demo/entities/orders.toml:7:35]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "uuidv7" }
       ·                                   ────┬───
       ·                                       ╰── not known
     8 │
       ╰────
      help: did you mean `uuid_v7`?
    "#);
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"uuid_v7\" }"), @r#"
    project::missing-key

      × strategy `uuid_v7` needs `time`
       ╭─[demo/entities/orders.toml:7:7]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "uuid_v7" }
       ·       ───────────────────┬───────────────────
       ·                          ╰── `time` is missing
     8 │
       ╰────
      help: add it, like this: time = "t.created_at"
    "#);
    assert_snapshot!(
        with_key("{ column = \"id\", strategy = \"uuid_v4\", time = \"o.t\", entity = \"offices\" }"),
        @r#"
    project::unexpected-key

      × strategy `uuid_v4` takes no `time`
       ╭─[demo/entities/orders.toml:7:46]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "uuid_v4", time = "o.t", entity = "offices" }
       ·                                              ──┬─
       ·                                                ╰── has no meaning here
     8 │
       ╰────
      help: remove it; it goes with `uuid_v7`

    project::unexpected-key

      × strategy `uuid_v4` takes no `entity`
       ╭─[demo/entities/orders.toml:7:60]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "uuid_v4", time = "o.t", entity = "offices" }
       ·                                                            ───┬──
       ·                                                               ╰── has no meaning here
     8 │
       ╰────
      help: remove it; it goes with `same_as`

    2 errors
    "#
    );
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"column\" }"), @r#"
    project::missing-key

      × strategy `column` needs `from`
       ╭─[demo/entities/orders.toml:7:7]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "column" }
       ·       ───────────────────┬──────────────────
       ·                          ╰── `from` is missing
     8 │
       ╰────
      help: add it, like this: from = "t.uid"
    "#);
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"same_as\" }"), @r#"
    project::missing-key

      × strategy `same_as` needs `entity`
       ╭─[demo/entities/orders.toml:7:7]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "same_as" }
       ·       ───────────────────┬───────────────────
       ·                          ╰── `entity` is missing
     8 │
       ╰────
      help: add it, like this: entity = "profiles"
    "#);
    assert_snapshot!(with_key("{ strategy = \"same_as\", entity = \"profiles\" }"), @r#"
    project::missing-key

      × the key lacks `column`
       ╭─[demo/entities/orders.toml:7:7]
     6 │ table = "offices"
     7 │ key = { strategy = "same_as", entity = "profiles" }
       ·       ──────────────────────┬──────────────────────
       ·                             ╰── `column` is missing
     8 │
       ╰────
      help: add it, like this: column = "id"

    project::unknown-entity

      × unknown entity `profiles`
       ╭─[demo/entities/orders.toml:7:40]
     6 │ table = "offices"
     7 │ key = { strategy = "same_as", entity = "profiles" }
       ·                                        ─────┬────
       ·                                             ╰── no file of this name in entities/
     8 │
       ╰────
      help: entities: `offices`, `orders`, `patients`

    2 errors
    "#);
    assert_snapshot!(with_key("\"id\""), @r#"
    project::wrong-type

      × `key` must be a table, not a string
       ╭─[demo/entities/orders.toml:7:7]
     6 │ table = "offices"
     7 │ key = "id"
       ·       ──┬─
       ·         ╰── this is a string
     8 │
       ╰────
    "#);
}

#[test]
fn same_as_cycles() {
    let same_as = |entity: &str| {
        OFFICES.replace(
            "\"uuid_v5\"",
            &format!("\"same_as\", entity = \"{entity}\""),
        )
    };
    assert_snapshot!(orders(&same_as("orders")), @r#"
    project::same-as-cycle

      × the key of `orders` depends on itself
       ╭─[demo/entities/orders.toml:7:55]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "same_as", entity = "orders" }
       ·                                                       ────┬───
       ·                                                           ╰── orders → orders
     8 │
       ╰────
      help: `same_as` can't be part of a circle; derive one of these keys (uuid_v5)
    "#);

    // Through a reference: patients → offices → patients.
    assert_snapshot!(said(with("entities/offices.toml", &same_as("patients"))), @r#"
    project::same-as-cycle

      × the key of `offices` depends on itself
       ╭─[demo/entities/offices.toml:7:55]
     6 │ table = "offices"
     7 │ key = { column = "id", strategy = "same_as", entity = "patients" }
       ·                                                       ─────┬────
       ·                                                            ╰── offices → patients → offices
     8 │
       ╰────
      help: `same_as` can't be part of a circle; derive one of these keys (uuid_v5)
    "#);
}

#[test]
fn columns_written_twice() {
    let twice = OFFICES
        .replace(
            "[columns]",
            "legacy = \"legacy_id\"\n[columns]\nid = \"o.id\"",
        )
        .replace("title =", "legacy_id = \"o.id\"\ntitle = \"o.a\"\ntitle =");
    assert_snapshot!(orders(&twice), @r#"
    project::duplicate-column

      × column `id` is written twice
        ╭─[demo/entities/orders.toml:11:1]
     10 │ [columns]
     11 │ id = "o.id"
        · ─┬
        ·  ╰── this is the key column already
     12 │ legacy_id = "o.id"
        ╰────
      help: remove one of the two

    project::duplicate-column

      × column `legacy_id` is written twice
        ╭─[demo/entities/orders.toml:12:1]
     11 │ id = "o.id"
     12 │ legacy_id = "o.id"
        · ────┬────
        ·     ╰── this is the column of the legacy id already
     13 │ title = "o.a"
        ╰────
      help: remove one of the two

    project::duplicate-key

      × `title` is defined twice
        ╭─[demo/entities/orders.toml:14:1]
     13 │ title = "o.a"
     14 │ title = "o.title"
        · ──┬──
        ·   ╰── the second definition
        ╰────
      help: remove or rename one of the two

    3 errors
    "#);
    assert_snapshot!(orders(&OFFICES.replace("[columns]", "legacy = \"id\"\n[columns]")), @r#"
    project::duplicate-column

      × column `id` is written twice
        ╭─[demo/entities/orders.toml:9:10]
      8 │
      9 │ legacy = "id"
        ·          ──┬─
        ·            ╰── this is the key column already
     10 │ [columns]
        ╰────
      help: remove one of the two
    "#);
}
