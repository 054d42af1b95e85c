//! Rarer things: other types, JSON of every kind with the server as the judge, rows that the source
//! can't compute, more quarantine than one query takes.

use std::sync::Arc;

use regraft_engine::{Method, ValidationOptions, validate};
use regraft_project::Project;

use crate::fixture::{Pair, assert_found, findings};

/// A pair with a project of its own: one entity per (name, text), a namespace, empty databases.
pub(crate) async fn pair(entities: &[(&str, &str)], source: &str, target: &str) -> Pair {
    let manifest = "version = 1\nname = \"odd\"\n[limits]\nquarantine = \"100%\"\n";
    let mut files = vec![("regraft.toml".to_owned(), manifest.to_owned())];
    files.extend(
        entities
            .iter()
            .map(|(name, text)| (format!("entities/{name}.toml"), (*text).to_owned())),
    );
    let project = Project::from_files("odd", files)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false, 100)));
    let mut pair = Pair::empty();
    pair.context.project = Arc::new(project);
    pair.context.settings.batch_size = 5_000;
    pair.source(source).await;
    pair.target(target).await;
    pair
}

/// An entity from `table` to `table_new` with a random key and these columns.
pub(crate) fn entity(table: &str, columns: &str) -> String {
    format!(
        "[source]\nfrom = \"{table} x\"\nkey = \"x.id\"\n[target]\ntable = \"{table}_new\"\n\
         key = {{ column = \"id\", strategy = \"uuid_v4\" }}\nlegacy = \"legacy_id\"\n[columns]\n{columns}"
    )
}

/// Name, type in the source, type in the target, a value, another value that is different.
const TYPES: &[(&str, &str, &str, &str, &str)] = &[
    ("folded", "citext", "citext", "'Abc'", "'abc'"),
    ("unfolded", "text", "citext", "'Abc'", "'ABC'"),
    (
        "pair",
        "pair",
        "pair",
        "row(1.50, null, 'a,\"b')",
        "row(1.50, '', 'a,\"b')",
    ),
    (
        "pairs",
        "pair[]",
        "pair[]",
        "array[row(1, 'x', 'y')::pair]",
        "array[row(1, 'x', 'z')::pair]",
    ),
    ("span", "textspan", "textspan", "'[a,b)'", "'[a,b]'"),
    ("code", "code", "code", "'ab'", "'ac'"),
    ("cash", "money", "money", "12.34", "12.35"),
    (
        "mac",
        "macaddr",
        "macaddr",
        "'08:00:2b:01:02:03'",
        "'08:00:2b:01:02:04'",
    ),
    ("net", "cidr", "cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    (
        "zoned",
        "timetz",
        "timetz",
        "'10:00:00+02'",
        "'09:00:00+01'",
    ),
    (
        "place",
        "point",
        "point",
        "'(1,2)'",
        "'(1,2.0000000000000004)'",
    ),
    ("words", "tsvector", "tsvector", "'a:1 b:2'", "'a:1 b:3'"),
    (
        "spans",
        "int4multirange",
        "int4multirange",
        "'{[1,3),[5,7)}'",
        "'{[1,3),[5,8)}'",
    ),
    (
        "prices",
        "numrange",
        "numrange",
        "'[1.5,2.5)'",
        "'[1.5,2.5]'",
    ),
    ("fixed", "bit(4)", "bit(4)", "B'1010'", "B'1011'"),
    ("label", "name", "text", "'some'", "'some '"),
    ("padded", "char(4)", "char(6)", "'ab'", "'abc'"),
    ("unpadded", "char(4)", "text", "'ab'", "'ab '"),
    (
        "letters",
        "text[]",
        "varchar[]",
        "array['a', 'b ']",
        "array['a', 'b']",
    ),
    (
        "times",
        "timestamptz[]",
        "timestamptz[]",
        "array['2020-01-01 00:00:00.000001+00', 'infinity']::timestamptz[]",
        "array['2020-01-01+00', 'infinity']::timestamptz[]",
    ),
    (
        "floats",
        "float8[]",
        "float8[]",
        "array['NaN', '-0', 1.5]::float8[]",
        "array['NaN', '0', 1.5]::float8[]",
    ),
    (
        "docs",
        "jsonb[]",
        "jsonb[]",
        "array['{\"a\": 1.0}']::jsonb[]",
        "array['{\"a\": 1.1}']::jsonb[]",
    ),
    (
        "whole",
        "json",
        "jsonb",
        "'{\"b\": 1, \"a\": 2}'",
        "'{\"b\": 1, \"a\": 3}'",
    ),
    (
        "plain",
        "jsonb",
        "json",
        "'{\"a\": 2, \"b\": 1}'",
        "'{\"a\": 2,\"b\": 1}'",
    ),
    ("text_json", "json", "json", "'{\"b\":1}'", "'{\"b\": 1}'"),
    ("wide", "smallint", "bigint", "5", "6"),
    ("exact", "int", "numeric(12,2)", "5", "5.01"),
    ("approximate", "int", "float8", "5", "5.000000000000001"),
    ("big", "numeric", "numeric", "1e200", "1e200 + 1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_compared_as_itself() {
    let own = "create extension citext; create type pair as (n numeric, a text, b text);
               create type textspan as range (subtype = text); create domain code as text check (length(value) = 2);";
    let columns = |of: fn(&(&str, &str, &str, &str, &str)) -> String| {
        TYPES.iter().map(of).collect::<Vec<_>>().join(", ")
    };
    let source = format!(
        "{own} create table odd (id int primary key, {}); insert into odd values (1, {}); insert into odd (id) values (2)",
        columns(|t| format!("{} {}", t.0, t.1)),
        columns(|t| t.3.to_owned()),
    );
    // A type of another number than in the source.
    let target = format!(
        "create type first as enum ('a'); {own} create table odd_new (id uuid primary key, legacy_id int, {})",
        columns(|t| format!("{} {}", t.0, t.2)),
    );
    let mapped: String = TYPES
        .iter()
        .map(|t| format!("{0} = \"x.{0}\"\n", t.0))
        .collect();
    let pair = pair(&[("odd", &entity("odd", &mapped))], &source, &target).await;
    pair.migrate().await;
    let validation = pair.validate().await;
    assert_eq!(findings(&validation), Vec::<String>::new());
    assert_eq!(validation.not_checked, Vec::<String>::new());
    type Statement = fn(&str, &str) -> String;
    let changes: [(Statement, i32); 3] = [
        (|_, other| other.to_owned(), 1),
        (|_, _| "null".to_owned(), 1),
        (|value, _| value.to_owned(), 2),
    ];
    for (change, id) in changes {
        let sets: Vec<String> = TYPES
            .iter()
            .map(|(column, _, _, value, other)| format!("{column} = {}", change(value, other)))
            .collect();
        pair.target(&format!(
            "update odd_new set {} where legacy_id = {id}",
            sets.join(", ")
        ))
        .await;
        let lines: Vec<String> = TYPES
            .iter()
            .map(|(column, ..)| {
                format!("odd columns: `{column}` is not what the source gives (1) [{id}]")
            })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_found(&pair.validate().await, &lines, &sets.join(", "));
        let back: Vec<String> = TYPES
            .iter()
            .map(|(column, _, _, value, _)| {
                format!("{column} = {}", if id == 1 { value } else { "null" })
            })
            .collect();
        pair.target(&format!(
            "update odd_new set {} where legacy_id = {id}",
            back.join(", ")
        ))
        .await;
    }
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());
}

/// Texts that are JSON, nearly JSON, or equal to another in other words.
fn documents() -> Vec<String> {
    let mut documents: Vec<String> = [
        "null",
        "true",
        " 1 ",
        "1.0",
        "1.00",
        "-0",
        "0",
        "1e2",
        "100",
        "1E+2",
        "0.1e-3",
        "12345678901234567890.123456789",
        "12345678901234567890.123456788",
        "[]",
        "[ ]",
        "{}",
        "[1,2]",
        "[2,1]",
        "[1, 2 ]",
        "[[[]]]",
        r#"{"a":1,"b":2}"#,
        r#"{"b":2,"a":1}"#,
        r#"{"a":1,"a":3}"#,
        r#"{"a":3}"#,
        r#"{"a":{"b":[1,{"c":null}]}}"#,
        r#""""#,
        r#"" ""#,
        r#""é""#,
        r#""\u00e9""#,
        r#""\ud83d\ude00""#,
        "\"😀\"",
        r#""\n""#,
        "\"\\u000a\"",
        r#""\/""#,
        r#""/""#,
        r#"{"$serde_json::private::Number":"1"}"#,
        r#"{"":""}"#,
        r#"{" a":1}"#,
        "1e400",
        "-1e-400",
        "\"\\\\\"",
        // No JSON, or none that jsonb takes.
        "",
        " ",
        "{",
        "[1,]",
        "{'a':1}",
        "nul",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "\"\t\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u0000""#,
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83d\u0041""#,
        "[1 2]",
        "{\"a\"}",
        "NaN",
        "\u{c}",
        "\u{a0}1",
        "// x\n1",
        "1 1",
        "\u{feff}1",
    ]
    .map(str::to_owned)
    .into();
    // And what random cuts and joins make of them.
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let seeds = documents.clone();
    for _ in 0..600 {
        let pick = |i: usize| seeds[i].clone();
        let (a, b) = (pick(random(seeds.len())), pick(random(seeds.len())));
        documents.push(match random(5) {
            0 => format!("[{a},{b}]"),
            1 => format!("{{\"x\":{a},\"y\":{b}}}"),
            2 => format!("{{\"y\":{b},\"x\":{a}}}"),
            3 => a
                .chars()
                .enumerate()
                .filter(|(i, _)| i % 3 != 1)
                .map(|(_, c)| c)
                .collect(),
            _ => format!("{a}{b}"),
        });
    }
    documents
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_what_the_server_says_it_is() {
    let columns = "b = { parse = \"x.t\", bad = { keep_as = \"raw\" } }\nc = { parse = \"x.t\", bad = \"null\", empty = \"[0]\" }\n\
                   j = { parse = \"x.t\", bad = { keep_as = \"raw\" } }\n";
    let mut rows = String::new();
    for (i, document) in documents().iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        rows.push_str(&format!(
            "{comma} ({i}, {})",
            regraft_pg::quote::literal(document)
        ));
    }
    let pair = pair(
        &[("doc", &entity("doc", columns))],
        &format!("create table doc (id int primary key, t text); insert into doc values {rows}"),
        "create table doc_new (id uuid primary key, legacy_id int, b jsonb, c jsonb, j json)",
    )
    .await;
    pair.migrate().await;
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());

    // Each row gets the documents of the next one: the server counts how many differ by that.
    let session = pair.session().await;
    let next = "create table regraft.next as select legacy_id, lead(b) over w as b, lead(j) over w as j from doc_new
                window w as (order by legacy_id)";
    session.batch_execute(next).await.unwrap();
    let changed: i64 = session
        .query_one("select count(*) from doc_new d join regraft.next n using (legacy_id) where d.b is distinct from n.b", &[])
        .await
        .unwrap()
        .get(0);
    session
        .batch_execute(
            "update doc_new d set b = n.b from regraft.next n where n.legacy_id = d.legacy_id",
        )
        .await
        .unwrap();
    assert!(changed > 300, "{changed}");
    let line = format!("doc columns: `b` is not what the source gives ({changed}) ... ");
    assert_found(
        &pair.validate().await,
        &[line.trim_end_matches(" ... ")],
        "next",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_source_cannot_compute_stops_nothing_when_it_is_in_quarantine() {
    let pair = pair(
        &[("fact", &entity("fact", "n = \"x.t::int\"\n")), ("other", &entity("other", "t = \"x.t\"\n"))],
        "create table fact (id int primary key, t text); insert into fact values (1, '1'), (3, '3');
         create table other (id text primary key, t text); insert into other values ('a', 'a'), ('B', 'b'), ('é', 'c')",
        "create table fact_new (id uuid primary key, legacy_id int, n int);
         create table other_new (id uuid primary key, legacy_id text, t text)",
    )
    .await;
    pair.migrate().await;
    // Row 2 as if it had been there and had been quarantined for what the source says of it.
    pair.source("insert into fact values (2, 'x')").await;
    pair.target(
        "insert into regraft.migration_quarantine (entity, legacy_id, bucket, reasons, run_no, batch)
         values ('fact', '2', 'quarantined', '[]', 1, 1);
         update regraft.migration_control set quarantined = 1, source_rows = 3 where entity = 'fact';
         update regraft.migration_checkpoints set rows_done = 3 where entity = 'fact'",
    )
    .await;
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());
    pair.source("update fact set t = 'y' where id = 3").await;
    pair.target("update other_new set t = 'x' where legacy_id = 'é'")
        .await;
    let found = findings(&pair.validate().await);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("fact columns: nothing could be compared")
            && !found[0].contains("\"y\""),
        "{found:#?}"
    );
    assert_eq!(
        found[1],
        "other columns: `t` is not what the source gives (1) [é]"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_summed_in_parts_and_json_where_the_server_can() {
    let columns = "a = \"x.a\"\ndoc = { parse = \"x.doc\", bad = \"quarantine\", empty = \"null\" }\n\
                   any = { parse = \"x.doc\", bad = { keep_as = \"raw\" }, empty = \"null\" }\n";
    let pair = pair(
        &[("many", &entity("many", columns))],
        "create table many (id text primary key, a text, doc text);
         insert into many select 'k ' || n, 'a' || n, case n % 3 when 0 then '{\"n\": 1.0}' when 1 then E' \\f' end
         from generate_series(1, 3000) n",
        "create table many_new (id uuid primary key, legacy_id text, a text, doc jsonb, \"any\" jsonb)",
    )
    .await;
    pair.migrate().await;
    let by_sums = async || {
        let all = pair.context.project.select(&[], false).unwrap();
        let options = ValidationOptions {
            method: Method::Sums,
            ..ValidationOptions::default()
        };
        validate(&pair.context, &all, &options).await.unwrap()
    };
    let clean = by_sums().await;
    assert_eq!(findings(&clean), Vec::<String>::new());
    assert_eq!(clean.entities[0].method, Some(Method::Sums));
    let fetched: &[&str] = match pair.session().await.server_version_num() {
        ..160_000 => &["any"],
        _ => &[],
    };
    assert_eq!(clean.entities[0].fetched_columns, fetched);
    pair.target(
        "update many_new set a = 'x' where legacy_id = 'k 7';
         update many_new set doc = '{\"n\": 1.5}' where legacy_id = 'k 9';
         update many_new set \"any\" = null where legacy_id = 'k 12'",
    )
    .await;
    assert_found(
        &pair.validate().await,
        &[
            "many columns: `a` is not what the source gives (1) [k 7]",
            "many columns: `doc` is not what the source gives (1) [k 9]",
            "many columns: `any` is not what the source gives (1) [k 12]",
        ],
        "texts",
    );
    // Rows that two ids have swapped, which sums of linear hashes would not tell.
    pair.target(
        "update many_new set a = 'a7' where legacy_id = 'k 7';
         update many_new set doc = '{\"n\": 1}' where legacy_id = 'k 9';
         update many_new set \"any\" = '{\"n\": 1}' where legacy_id = 'k 12';
         update many_new t set a = o.a from many_new o where (t.legacy_id, o.legacy_id) in (('k 1', 'k 2'), ('k 2', 'k 1'))",
    )
    .await;
    assert_eq!(by_sums().await.entities[0].method, Some(Method::Sums));
    assert_found(
        &pair.validate().await,
        &["many columns: `a` is not what the source gives (2) [k 1, k 2]"],
        "swapped",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_larger_than_one_query_is_left_out_in_parts() {
    for (of, value) in [("int", "n"), ("text", "'k' || n")] {
        let pair = pair(
            &[("many", &entity("many", "a = \"x.a::int\"\nb = { from = \"x.b\", map = { 1 = \"one\" } }\n"))],
            &format!(
                "create table many (id {of} primary key, a text, b int);
                 insert into many select {value}, case when n % 10 = 0 then n::text else 'bad' end, 1 from generate_series(1, 45000) n"
            ),
            &format!("create table many_new (id uuid primary key, legacy_id {of}, a int, b text)"),
        )
        .await;
        // As if migrated: what can be read is mapped, the rest is in quarantine.
        pair.source("alter table many rename to whole; create table many as select * from whole where id = whole.id and a <> 'bad'").await;
        pair.migrate().await;
        pair.source("drop table many; alter table whole rename to many")
            .await;
        pair.target(&format!(
            "insert into regraft.migration_quarantine (entity, legacy_id, bucket, reasons, run_no, batch)
             select 'many', {value}, 'quarantined', '[]', 1, 1 from generate_series(1, 45000) n where n % 10 <> 0"
        ))
        .await;
        let clean = pair.validate().await;
        let columns = clean.entities[0]
            .checks
            .iter()
            .find(|check| check.name == "columns")
            .unwrap();
        assert_eq!(
            (columns.looked_at, columns.passed),
            (4_500, true),
            "{of}: {:?}",
            findings(&clean)
        );
        pair.target("update many_new set a = a + 1 where a in (10, 22220, 45000)")
            .await;
        let found = findings(&pair.validate().await);
        let prefix = "many columns: `a` is not what the source gives (3) [";
        assert!(
            found.iter().any(|line| line.starts_with(prefix)),
            "{of}: {found:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_share_a_legacy_id_or_have_none_are_found() {
    let pair = pair(
        &[("loose", &entity("loose", "t = \"x.t\"\n"))],
        "create table loose (id int, t text); insert into loose values (1, 'a'), (2, 'b')",
        "create table loose_new (id uuid primary key, legacy_id int, t text)",
    )
    .await;
    pair.migrate().await;
    pair.source("insert into loose values (2, 'b'), (2, 'c'), (null, 'd')")
        .await;
    assert_found(
        &pair.validate().await,
        &[
            "loose account: rows of the source have no legacy id (NULL) (1) [NULL]",
            "loose account: the source has more than one row under the same legacy id (2) [2, 2]",
        ],
        "loose",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_several_entities_is_answered_for_once() {
    let of =
        |table: &str| entity(table, "t = \"x.t\"\n").replace(&format!("{table}_new"), "own.things");
    let pair = pair(
        &[("cat", &of("cat")), ("dog", &of("dog"))],
        "create table cat (id int primary key, t text); insert into cat values (1, 'a'), (2, 'b');
         create table dog (id int primary key, t text); insert into dog values (1, 'c')",
        "create schema own; create table own.things (id uuid primary key, legacy_id int, t text)",
    )
    .await;
    pair.migrate().await;
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());
    pair.target("insert into own.things values (gen_random_uuid(), 5, 'x'); update own.things set t = 'y' where t = 'c'").await;
    assert_found(
        &pair.validate().await,
        &[
            "cat counts: rows in table `own.things` that no mapping knows (1) [5]",
            "dog columns: `t` is not what the source gives (1) [1]",
        ],
        "shared",
    );
    assert_found(
        &pair.validate_only("dog").await,
        &[
            "dog counts: rows in table `own.things` that no mapping knows (1) [5]",
            "dog columns: `t` is not what the source gives (1) [1]",
        ],
        "shared, one alone",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_may_go_to_its_own_entity_or_to_another() {
    let pair = pair(
        &[
            ("leaf", &entity("leaf", "t = \"x.t\"\n")),
            (
                "node",
                &entity(
                    "node",
                    "up = { ref_by = \"x.kind\", cases = { node = \"node\", leaf = \"leaf\" }, from = \"x.up\", missing = \"null\" }\n",
                ),
            ),
        ],
        "create table leaf (id int primary key, t text); insert into leaf values (1, 'a');
         create table node (id int primary key, kind text, up int);
         insert into node values (1, 'leaf', 1), (2, 'node', 1), (3, 'none', 1), (4, 'node', 9)",
        "create table leaf_new (id uuid primary key, legacy_id int, t text);
         create table node_new (id uuid primary key, legacy_id int, up uuid)",
    )
    .await;
    pair.migrate().await;
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());
}
