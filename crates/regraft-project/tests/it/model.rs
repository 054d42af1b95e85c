//! The model of a sound project.

use regraft_project::{
    BadJson, Budget, EmptyJson, Entity, JsonField, KeyStrategy, Missing, Project, Provenance, Rule,
    Spanned,
};

use crate::fixture::{MANIFEST, OFFICES, files, with, with_columns, with_orders};

fn sound(outcome: Result<Project, regraft_project::Problems>) -> Project {
    let project = outcome.unwrap_or_else(|problems| panic!("{problems}"));
    assert!(project.warnings().is_empty(), "{}", project.warnings());
    project
}

/// The rule and provenance of a column `a` written like this.
fn column(rule: &str) -> (Rule, Provenance) {
    let project = sound(with_columns(&format!("a = {rule}")));
    let column = &project.entity("orders").expect("orders").columns[0];
    (column.rule.clone(), column.provenance)
}

fn provenance(rule: &str) -> String {
    column(rule).1.to_string()
}

fn pairs(pairs: &[(Spanned<String>, Spanned<String>)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .collect()
}

#[test]
fn the_manifest_with_everything() {
    let text = r#"
version = 1
name = "dispatch-2"
description = "x"
[target]
schema = ["target/schema.sql"]
namespace = "app"
[limits]
quarantine = "0.5%"
[run]
batch_size = 20_000
workers = 2
[groups]
z = ["offices"]
a = ["z", "patients"]
"#;
    let project = sound(with("regraft.toml", text));
    let manifest = project.manifest();
    assert_eq!(
        (manifest.version, manifest.name.as_str()),
        (1, "dispatch-2")
    );
    assert_eq!(manifest.target.namespace, "app");
    assert_eq!(manifest.limits.quarantine, Budget::Fraction(0.005));
    assert_eq!(
        (manifest.run.batch_size, manifest.run.workers),
        (Some(20_000), Some(2))
    );
    assert_eq!(manifest.groups.keys().collect::<Vec<_>>(), ["z", "a"]);
    assert!(
        project
            .file_text("target/schema.sql")
            .is_some_and(|sql| sql.starts_with("create"))
    );
}

#[test]
fn what_the_manifest_leaves_out() {
    let project = sound(with("regraft.toml", "version = 1\nname = \"d\"\n"));
    let manifest = project.manifest();
    assert_eq!(manifest.target.namespace, "public");
    assert_eq!(manifest.limits.quarantine, Budget::Rows(0));
    assert_eq!(
        (manifest.run.batch_size, manifest.run.workers),
        (None, None)
    );
}

#[test]
fn an_entity_with_everything() {
    let project = sound(with_orders(
        r#"
description = "o"
[source]
from = "i join p on true"
key = "i.id"
[[source.filter]]
name = "soft-deleted"
keep = "not i.deleted"
[[source.filter]]
name = "test"
keep = "not i.test"
[target]
table = "app.orders"
key = { column = "uid", strategy = "same_as", entity = "offices" }
legacy = "legacy_id"
[columns]
z = "i.z"
a = "i.a"
"#,
    ));
    let orders = project.entity("orders").expect("orders");
    let filters: Vec<_> = orders
        .source
        .filters
        .iter()
        .map(|f| f.name.as_str())
        .collect();
    assert_eq!(filters, ["soft-deleted", "test"]);
    assert_eq!(orders.source.filters[0].keep.text, "not i.deleted");
    assert_eq!(orders.target.schema_and_table("public"), ("app", "orders"));
    assert_eq!(orders.target.key.column.value, "uid");
    assert!(matches!(
        &orders.target.key.strategy,
        KeyStrategy::SameAs { entity, from: None } if entity.value == "offices"
    ));
    let columns: Vec<_> = orders.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(columns, ["z", "a"], "in file order");
    let names: Vec<_> = project
        .entities()
        .iter()
        .map(|e: &Entity| e.name.as_str())
        .collect();
    assert_eq!(names, ["offices", "orders", "patients"]);
    assert_eq!(project.sources().path(orders.file), "entities/orders.toml");
}

#[test]
fn key_strategies() {
    let strategy = |key: &str| {
        let text = OFFICES.replace("strategy = \"uuid_v5\"", key);
        sound(with_orders(&text))
            .entity("orders")
            .expect("orders")
            .target
            .key
            .strategy
            .clone()
    };
    assert!(matches!(
        strategy("strategy = \"uuid_v7\", time = \"o.t\""),
        KeyStrategy::UuidV7 { time } if time.text == "o.t"
    ));
    assert_eq!(strategy("strategy = \"uuid_v5\""), KeyStrategy::UuidV5);
    assert_eq!(strategy("strategy = \"uuid_v4\""), KeyStrategy::UuidV4);
    assert!(matches!(
        strategy("strategy = \"column\", from = \"o.uid\""),
        KeyStrategy::Column { from } if from.text == "o.uid"
    ));
    assert!(matches!(
        strategy("strategy = \"same_as\", entity = \"patients\", from = \"o.p_id\""),
        KeyStrategy::SameAs { from: Some(from), .. } if from.text == "o.p_id"
    ));
}

#[test]
fn provenance_follows_from_the_rule_or_is_stated() {
    for copied in [
        "\"i.price\"",
        "\"price\"",
        "'\"I\".\"Price\" -- cents'",
        "\" i.x \"",
    ] {
        assert_eq!(provenance(copied), "copied", "{copied}");
    }
    for derived in [
        "\"i.a + 1\"",
        "\"(i.a)\"",
        "\"i.a::text\"",
        "\"now()\"",
        "\"'x'\"",
        "\"null\"",
    ] {
        assert_eq!(provenance(derived), "derived", "{derived}");
    }
    assert_eq!(provenance("{ sql = \"i.a\" }"), "copied");
    assert_eq!(
        provenance("{ sql = \"now()\", provenance = \"synthesised\" }"),
        "synthesised"
    );
    assert_eq!(
        provenance("{ sql = \"'x'\", provenance = \"defaulted\" }"),
        "defaulted"
    );
    assert_eq!(provenance("{ value = 1 }"), "defaulted");
    assert_eq!(
        provenance("{ from = \"i.a\", map = { 1 = \"x\" } }"),
        "mapped"
    );
    assert_eq!(provenance("{ json = { a = \"i.a\" } }"), "derived");
    assert_eq!(provenance("{ parse = \"i.a\" }"), "derived");
    assert_eq!(
        provenance("{ ref = \"offices\", from = \"i.a\" }"),
        "referenced"
    );
}

#[test]
fn keywords_that_stand_for_values_are_not_columns() {
    for keyword in ["current_date", "current_user", "localtimestamp", "true"] {
        assert_eq!(
            provenance(&format!("\"{keyword}\"")),
            "derived",
            "{keyword}"
        );
    }
}

#[test]
fn constants_in_their_text_form() {
    for (written, text) in [
        ("\"x\"", "x"),
        ("\"\"", ""),
        ("5", "5"),
        ("+5", "5"),
        ("1_000", "1000"),
        ("0xff", "255"),
        ("0b101", "5"),
        ("1.50", "1.50"),
        ("+1e3", "1e3"),
        ("-inf", "-Infinity"),
        ("nan", "NaN"),
        ("true", "true"),
    ] {
        let (rule, _) = column(&format!("{{ value = {written} }}"));
        assert!(
            matches!(&rule, Rule::Value(value) if value.value == text),
            "{written}: {rule:?}"
        );
    }
}

#[test]
fn maps_keep_their_order() {
    let rule = column(
        "{ from = \"i.s\", map = { 2 = \"b\", 1 = 7, \"1.5\" = true, x = \"\" }, null = \"n\", \
         otherwise = 0 }",
    );
    let Rule::Map {
        from,
        map,
        null,
        otherwise,
    } = rule.0
    else {
        panic!("a map")
    };
    assert_eq!(from.text, "i.s");
    assert_eq!(
        pairs(&map),
        [("2", "b"), ("1", "7"), ("1.5", "true"), ("x", "")]
    );
    assert_eq!(null.map(|v| v.value).as_deref(), Some("n"));
    assert_eq!(otherwise.map(|v| v.value).as_deref(), Some("0"));
}

#[test]
fn columns_may_be_tables_of_their_own() {
    let project = sound(with_columns(
        "z = \"i.z\"\n[columns.status]\nfrom = \"i.s\"\n[columns.status.map]\n1 = \"a\"\n0 = \"b\"",
    ));
    let columns = &project.entity("orders").expect("orders").columns;
    assert_eq!(columns[1].name.value, "status");
    assert!(
        matches!(&columns[1].rule, Rule::Map { map, .. } if pairs(map) == [("1", "a"), ("0", "b")])
    );
}

#[test]
fn json_objects_nest() {
    let (rule, _) = column("{ json = { z = \"i.z\", inner = { x = \"i.x\" }, a = \"1\" } }");
    let Rule::Json(object) = rule else {
        panic!("an object")
    };
    let names: Vec<_> = object
        .fields
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["z", "inner", "a"]);
    assert!(matches!(&object.fields[1].1, JsonField::Object(inner) if inner.fields.len() == 1));
}

#[test]
fn parsing_json() {
    let parse = |more: &str| match column(&format!("{{ parse = \"i.x\"{more} }}")).0 {
        Rule::Parse { bad, empty, .. } => (bad, empty),
        other => panic!("{other:?}"),
    };
    assert_eq!(parse(""), (BadJson::Quarantine, EmptyJson::Null));
    assert_eq!(
        parse(", bad = \"null\", empty = \"quarantine\""),
        (BadJson::Null, EmptyJson::Quarantine)
    );
    assert_eq!(
        parse(", bad = { keep_as = \"raw\" }, empty = '[]'"),
        (
            BadJson::KeepAs("raw".to_owned()),
            EmptyJson::Value("[]".to_owned())
        )
    );
}

#[test]
fn references() {
    let missing =
        |more: &str| match column(&format!("{{ ref = \"offices\", from = \"i.x\"{more} }}")).0 {
            Rule::Ref { missing, .. } => missing,
            other => panic!("{other:?}"),
        };
    assert_eq!(missing(""), Missing::Quarantine);
    assert_eq!(missing(", missing = \"null\""), Missing::Null);
    assert!(matches!(
        missing(", missing = { default = \"none\" }"),
        Missing::Default(literal) if literal.value == "none"
    ));
    let (rule, provenance) = column(
        "{ ref_by = \"i.t\", cases = { 58 = \"offices\", 11 = \"patients\" }, from = \"i.x\" }",
    );
    let Rule::RefBy {
        by,
        cases,
        from,
        missing,
    } = rule
    else {
        panic!("ref_by")
    };
    assert_eq!((by.text.as_str(), from.text.as_str()), ("i.t", "i.x"));
    assert_eq!(pairs(&cases), [("58", "offices"), ("11", "patients")]);
    assert_eq!(
        (missing, provenance),
        (Missing::Quarantine, Provenance::Referenced)
    );
}

#[test]
fn positions_in_sql_lead_back_to_the_file() {
    let project = sound(with_columns(
        "a = \"i.ä + i.b\"\nb = '''\ni.c\n  + i.d'''\nc = \"i.e + '\\u0041'\"",
    ));
    let sources = project.sources();
    let columns = &project.entity("orders").expect("orders").columns;
    let at = |column: usize, position: usize, len: usize| {
        let Rule::Sql(sql) = &columns[column].rule else {
            panic!("SQL")
        };
        sources.slice(sql.span_at(position, len))
    };
    assert_eq!(at(0, 6, 3), "i.b");
    assert_eq!(at(1, 8, 3), "i.d");
    assert_eq!(
        at(2, 0, 3),
        "\"i.e + '\\u0041'\"",
        "the whole string: it has an escape"
    );
    assert_eq!(at(0, 99, 3), "");
}

#[test]
fn the_hash_depends_on_what_defines_the_migration() {
    let hash = |files| sound(Project::from_files("x", files)).hash().to_owned();
    let base = hash(files());
    assert_eq!(base.len(), 64);
    assert_eq!(
        base,
        sound(Project::from_files("elsewhere", files())).hash()
    );

    let mut reversed = files();
    reversed.reverse();
    assert_eq!(base, hash(reversed), "the order of files");
    let crlf = files()
        .into_iter()
        .map(|(p, t)| (p, t.replace('\n', "\r\n")))
        .collect();
    assert_eq!(base, hash(crlf), "line ends");
    let mut more = files();
    more.push(("notes.txt".to_owned(), "x".to_owned()));
    assert_eq!(base, hash(more), "files that define nothing");

    for index in 0..files().len() {
        let mut changed = files();
        changed[index]
            .1
            .push_str(if index == 3 { "-- x\n" } else { "# x\n" });
        assert_ne!(base, hash(changed), "{}", files()[index].0);
    }
}

#[test]
fn problems_have_a_form_for_programs() {
    let text = MANIFEST.replace("\"offices\", \"patients\"", "\"office\"");
    let problems = with("regraft.toml", &text).expect_err("an unknown member");
    insta::assert_snapshot!(serde_json::to_string_pretty(&problems).expect("JSON"), @r#"
    [
      {
        "severity": "error",
        "code": "project::unknown-entity",
        "message": "unknown entity or group `office`",
        "file": "regraft.toml",
        "line": 8,
        "column": 9,
        "length": 8,
        "hint": "did you mean `offices`?"
      }
    ]
    "#);
}

#[test]
fn a_byte_order_mark_is_no_problem() {
    let project = sound(with_orders(&format!("\u{feff}{OFFICES}")));
    let orders = project.entity("orders").expect("orders");
    assert_eq!(
        project.sources().slice(orders.source.from.span),
        "\"office o\""
    );
}
