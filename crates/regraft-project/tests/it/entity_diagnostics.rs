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
    assert_snapshot!(orders(""), @"");
}

#[test]
fn missing_keys_in_tables() {
    assert_snapshot!(orders("[source]\n[target]\n[columns]\n"), @"");
}

#[test]
fn unknown_keys() {
    assert_snapshot!(
        orders(&OFFICES
            .replace("table =", "tables =")
            .replace("[columns]", "[colums]")
            .replace("key = \"o.id\"", "key = \"o.id\"\nwhere = \"x\"")),
        @""
    );
}

#[test]
fn syntax_errors_do_not_hide_other_files() {
    let mut files = crate::fixture::files();
    files[1].1 = OFFICES.replace("\"office o\"", "office o");
    files[2].1 = files[2].1.replace("\"offices\"", "\"ofices\"");
    assert_snapshot!(said(regraft_project::Project::from_files("demo", files)), @"");
}

#[test]
fn bad_file_stems() {
    assert_snapshot!(said(with("entities/Doctor-Offices.toml", OFFICES)), @"");
    assert_snapshot!(said(with("entities/1.toml", OFFICES)), @"");
    assert_snapshot!(said(with("entities/all.toml", OFFICES)), @"");
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
        @""
    );
    assert_snapshot!(
        orders(&OFFICES.replace("[target]", "filter = { name = \"a\", keep = \"b\" }\n[target]")),
        @""
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
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"uuidv7\" }"), @"");
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"uuid_v7\" }"), @"");
    assert_snapshot!(
        with_key("{ column = \"id\", strategy = \"uuid_v4\", time = \"o.t\", entity = \"offices\" }"),
        @""
    );
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"column\" }"), @"");
    assert_snapshot!(with_key("{ column = \"id\", strategy = \"same_as\" }"), @"");
    assert_snapshot!(with_key("{ strategy = \"same_as\", entity = \"profiles\" }"), @"");
    assert_snapshot!(with_key("\"id\""), @"");
}

#[test]
fn same_as_cycles() {
    let same_as = |entity: &str| {
        OFFICES.replace(
            "\"uuid_v5\"",
            &format!("\"same_as\", entity = \"{entity}\""),
        )
    };
    assert_snapshot!(orders(&same_as("orders")), @"");

    // Through a reference: patients → offices → patients.
    assert_snapshot!(said(with("entities/offices.toml", &same_as("patients"))), @"");
}

#[test]
fn columns_written_twice() {
    let twice = OFFICES
        .replace(
            "[columns]",
            "legacy = \"legacy_id\"\n[columns]\nid = \"o.id\"",
        )
        .replace("title =", "legacy_id = \"o.id\"\ntitle = \"o.a\"\ntitle =");
    assert_snapshot!(orders(&twice), @"");
    assert_snapshot!(orders(&OFFICES.replace("[columns]", "legacy = \"id\"\n[columns]")), @"");
}
