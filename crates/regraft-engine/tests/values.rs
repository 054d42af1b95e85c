//! Random values of every supported type cross from one cluster to the other and come out the
//! same; the servers themselves are the judges. The seed comes from REGRAFT_TEST_SEED, the number
//! of rows from REGRAFT_TEST_VALUES.

use std::sync::{Arc, LazyLock};

use regraft_engine::{
    AnalysisOptions, Context, Events, KeySecret, MigrateOptions, ModeChoice, Pace, Settings,
    analyze_differential, migrate,
};
use regraft_pg::managed::{Installation, Server, ServerOptions};
use regraft_pg::{Environment, Session, SessionOptions, Side};
use regraft_project::Project;
use tokio_util::sync::CancellationToken;

static SERVERS: LazyLock<(Server, Server)> = LazyLock::new(|| {
    let installation =
        Installation::find(None, &Environment::from_process()).expect("a PostgreSQL to test with");
    let start = |name: &str| {
        Server::start(ServerOptions::new(installation.clone(), name))
            .expect("a server for the test")
    };
    (start("values-source"), start("values-target"))
});

/// Column type, and an SQL expression that makes a random value of it (n is the row's number).
const TYPES: &[(&str, &str)] = &[
    ("boolean", "random() < 0.5"),
    ("smallint", "(random() * 65535 - 32768)::int::smallint"),
    (
        "integer",
        "case n % 7 when 0 then 2147483647 when 1 then -2147483648 else (random() * 1e9)::int end",
    ),
    (
        "bigint",
        "case n % 5 when 0 then 9223372036854775807 else (random() * 1e18)::bigint end",
    ),
    (
        "real",
        "case n % 9 when 0 then 'NaN' when 1 then '-Infinity' when 2 then '-0' else (random() * 1e10)::text end::real",
    ),
    (
        "double precision",
        "case n % 9 when 0 then 'NaN' when 1 then 'Infinity' when 2 then '-0' else (random() / 3)::text end::float8",
    ),
    (
        "numeric",
        "case n % 9 when 0 then 'NaN' when 1 then '-Infinity' when 2 then repeat('9', 300) || '.' || repeat('7', 200) when 3 then '0.' || repeat('0', 150) || '1' when 4 then '-1.500000' else (random() * 1e12)::text end::numeric",
    ),
    ("numeric(12,3)", "(random() * 1e8)::numeric(12,3)"),
    (
        "text",
        "(select string_agg(chr(case when random() < 0.7 then 32 + (random() * 90)::int when random() < 0.5 then 12353 + (random() * 80)::int else 128512 + (random() * 60)::int end), '') from generate_series(1, (random() * 40)::int + n * 0))",
    ),
    ("varchar(20)", "left(md5(random()::text) || '日本語', 20)"),
    ("character(8)", "left(md5(random()::text), (n % 9)::int)"),
    ("bytea", "decode(repeat(md5(random()::text), n % 4), 'hex')"),
    (
        "date",
        "case n % 7 when 0 then date 'infinity' when 1 then date '-infinity' when 2 then date '4713-01-01 BC' else date '2000-01-01' + (random() * 1e6 - 5e5)::int end",
    ),
    ("time", "time '00:00' + random() * interval '24 hours'"),
    (
        "timetz",
        "(time '00:00' + random() * interval '24 hours')::timetz",
    ),
    (
        "timestamp",
        "case n % 7 when 0 then 'infinity' when 1 then timestamp '0044-03-15 12:00 BC' else timestamp '2000-01-01' + random() * interval '20000 days' end",
    ),
    (
        "timestamptz",
        "case n % 7 when 0 then '-infinity' else timestamptz '1999-12-31 23:59:59.999999+14' + random() * interval '20000 days' end",
    ),
    (
        "timestamptz(3)",
        "date_trunc('milliseconds', now() + random() * interval '9 days')",
    ),
    (
        "interval",
        "random() * interval '300 days 11:22:33.444555' - interval '14 months'",
    ),
    ("uuid", "gen_random_uuid()"),
    (
        "json",
        r#"('{"b" : 1.50, "a": [null, "' || md5(random()::text) || '"], "a": 2}')::json"#,
    ),
    (
        "jsonb",
        r#"jsonb_build_object('x', random(), 'y', array[n, null], 'z', '日本' || n)"#,
    ),
    ("inet", "('10.' || n % 256 || '.3.4/' || 8 + n % 25)::inet"),
    ("cidr", "('2001:db8:' || to_hex(n) || '::/48')::cidr"),
    (
        "macaddr",
        "('08:00:2b:01:02:' || lpad(to_hex(n % 256), 2, '0'))::macaddr",
    ),
    ("bit(12)", "(n % 4096)::bit(12)"),
    ("bit varying", "(n % 4096)::bit(12)::varbit << (n % 5)"),
    ("point", "point(random(), -random() * 1e20)"),
    ("polygon", "polygon(box(point(0, 0), point(random(), n)))"),
    (
        "tsvector",
        "to_tsvector('simple', 'a word ' || n || ' in a row')",
    ),
    ("pg_lsn", "('0/' || to_hex(n * 1000))::pg_lsn"),
    (
        "xml",
        "('<a n=\"' || n || '\">' || md5(random()::text) || '</a>')::xml",
    ),
    (
        "int4range",
        "case n % 4 when 0 then 'empty' when 1 then '(,5]' else int4range(n, n + 10)::text end::int4range",
    ),
    ("numrange", "numrange((random() * 10)::numeric, null)"),
    (
        "tstzrange",
        "tstzrange(now(), now() + random() * interval '1 day', '[]')",
    ),
    (
        "int4multirange",
        "int4multirange(int4range(n, n + 3), int4range(n + 10, n + 20))",
    ),
    (
        "integer[]",
        "case n % 4 when 0 then '{}' when 1 then '[-2:1]={1,2,NULL,4}' when 2 then '{{1,2},{3,4}}' else array[n, null]::text end::int[]",
    ),
    (
        "text[]",
        "array['a \"quoted\" text', null, md5(random()::text)]",
    ),
    ("numeric[]", "array[random()::numeric, 'NaN', null]"),
    (
        "mood",
        "(array['sad', 'ok', 'very happy'])[1 + n % 3]::mood",
    ),
    (
        "mood[]",
        "array['ok', null, (array['sad', 'very happy'])[1 + n % 2]]::mood[]",
    ),
    ("positive", "1 + n % 1000"),
    ("positive[]", "array[1, n]::positive[]"),
    (
        "pair",
        "row(n, (array['sad', 'ok'])[1 + n % 2]::mood, array['x', null])::pair",
    ),
    (
        "pair[]",
        "array[row(n, 'ok', null)::pair, null, row(null, null, array[]::text[])::pair]",
    ),
    ("span", "span(random()::float8, 2.5)"),
];

const SOURCE_TYPES: &str = "
  create type mood as enum ('sad', 'ok', 'very happy');
  create domain positive as integer check (value > 0);
  create type pair as (number integer, feeling mood, words text[]);
  create type span as range (subtype = float8);";

/// The same types, after others and in another order, so that no OID is the same by chance.
const TARGET_TYPES: &str = "
  create type other as enum ('x');
  create table elsewhere (id serial primary key, o other);
  create type span as range (subtype = float8);
  create type mood as enum ('ok', 'sad', 'very happy', 'new');
  create domain positive as integer check (value > 0);
  create type pair as (number integer, feeling mood, words text[]);";

fn columns() -> Vec<String> {
    (0..TYPES.len()).map(|i| format!("c{i}")).collect()
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn create(database: &str, seed: f64, rows: u64) {
    let (source, target) = &*SERVERS;
    let list = |head: &str| {
        let columns: Vec<String> = TYPES
            .iter()
            .enumerate()
            .map(|(i, (of, _))| format!("c{i} {of}"))
            .collect();
        format!("{head}, {})", columns.join(", "))
    };
    source.create_database(database, None).unwrap();
    source.execute(database, SOURCE_TYPES).unwrap();
    source
        .execute(
            database,
            &list(
                "create table val (id integer primary key, made timestamptz not null, awkward text",
            ),
        )
        .unwrap();
    // Every tenth value is NULL.
    let values: Vec<String> = TYPES
        .iter()
        .enumerate()
        .map(|(i, (of, value))| {
            format!("case when (n + {i}) % 10 = 0 then null else ({value})::{of} end")
        })
        .collect();
    source
        .execute(
            database,
            &format!(
                "select setseed({seed}); insert into val select n, now(), chr(1 + n % 127) || '\\n\"' || chr(31) || 'é' || n, {} from generate_series(1, {rows}) n",
                values.join(", ")
            ),
        )
        .unwrap();
    target.create_database(database, None).unwrap();
    target.execute(database, TARGET_TYPES).unwrap();
    target
        .execute(
            database,
            &list("create table vals (id uuid primary key, legacy_id integer not null unique, document jsonb"),
        )
        .unwrap();
}

fn project() -> Project {
    // The same values as members of a document, which is put together on the way.
    let members: String = columns()
        .iter()
        .map(|c| format!("{c} = \"v.{c}\"\n"))
        .collect();
    let columns: String = columns()
        .iter()
        .map(|c| format!("{c} = \"v.{c}\"\n"))
        .collect();
    let entity = format!(
        "[source]\nfrom = \"val v\"\nkey = \"v.id\"\n\n[target]\ntable = \"vals\"\n\
         key = {{ column = \"id\", strategy = \"uuid_v7\", time = \"v.made\" }}\nlegacy = \"legacy_id\"\n\n\
         [columns]\n{columns}\n[columns.document.json]\n{members}\n\
         [columns.document.json.deep]\n\"\\\"quoted\\\" naïve\" = \"v.awkward\"\nnothing = {{}}\nword = \"'a word'\"\n"
    );
    Project::from_files(
        "values",
        vec![
            (
                "regraft.toml".to_owned(),
                "version = 1\nname = \"values\"\n".to_owned(),
            ),
            ("entities/vals.toml".to_owned(), entity),
        ],
    )
    .unwrap()
}

async fn texts(side: Side, database: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    let (source, target) = &*SERVERS;
    let server = if side == Side::Source { source } else { target };
    let session = Session::connect(
        &server.endpoint(side, database),
        &SessionOptions::reading("test"),
    )
    .await
    .unwrap();
    let rows = session.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| (0..row.len()).map(|i| row.get(i)).collect())
        .collect()
}

fn context(project: Arc<Project>, database: &str) -> Context {
    let (source, target) = &*SERVERS;
    Context {
        project,
        source: source.endpoint(Side::Source, database),
        target: target.endpoint(Side::Target, database),
        settings: Settings {
            secret: Some(KeySecret::new("the secret of the tests").unwrap()),
            batch_size: 64,
            ..Settings::default()
        },
        cancel: CancellationToken::new(),
        events: Events::none(),
        pace: Pace::default(),
    }
}

async fn crosses(mode: ModeChoice) {
    let seed = number("REGRAFT_TEST_SEED", 42);
    let rows = number("REGRAFT_TEST_VALUES", 300);
    let database = format!("values_{}", mode.as_str().replace('-', "_"));
    create(&database, (seed % 1000) as f64 / 1000.0, rows);
    let project = Arc::new(project());
    let selection = project.select(&[], false).unwrap();
    let context = context(project, &database);
    let options = MigrateOptions {
        mode,
        ..MigrateOptions::default()
    };
    let outcome = migrate(&context, &selection, &options).await.unwrap();
    assert_eq!(
        outcome.receipt.total.inserted.unsigned_abs(),
        rows,
        "{:?}",
        outcome.receipt
    );

    let list: Vec<String> = columns().iter().map(|c| format!("{c}::text")).collect();
    let list = list.join(", ");
    let before = texts(
        Side::Source,
        &database,
        &format!("select id::text, {list} from val order by id"),
    )
    .await;
    let after = texts(
        Side::Target,
        &database,
        &format!("select legacy_id::text, {list} from vals order by legacy_id"),
    )
    .await;
    assert_eq!(before.len(), after.len());
    for (a, b) in before.iter().zip(&after) {
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            let of = i.checked_sub(1).map_or("key", |i| TYPES[i].0);
            assert_eq!(x, y, "row {:?}, type {of}, seed {seed}", a[0]);
        }
    }
    documents_are_those_of_the_source(&database).await;
    let looked = AnalysisOptions {
        every_row: true,
        detect_conflicts: true,
        ..AnalysisOptions::default()
    };
    let analysis = analyze_differential(&context, &selection, &looked).await;
    let found = analysis.unwrap();
    let unchanged = found.entities[0].unchanged.unsigned_abs();
    assert_eq!((unchanged, found.conflicts), (rows, 0), "{found:?}");
}

/// What is put together on the way is what the source's own functions make of the same members.
async fn documents_are_those_of_the_source(database: &str) {
    let members: Vec<String> = columns().iter().map(|c| format!("'{c}', {c}")).collect();
    let parts: Vec<String> = members
        .chunks(40)
        .map(|members| format!("jsonb_build_object({})", members.join(", ")))
        .collect();
    let deep = r#"jsonb_build_object('deep', jsonb_build_object('"quoted" naïve', awkward, 'nothing', '{}'::jsonb, 'word', 'a word'))"#;
    let sql = format!(
        "select id::text, ({} || {deep})::text from val order by id",
        parts.join(" || ")
    );
    let made = texts(Side::Source, database, &sql).await;
    let sql = "select legacy_id::text, document::text from vals order by legacy_id";
    let stored = texts(Side::Target, database, sql).await;
    assert_eq!(made, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_crosses_in_bulk_mode() {
    crosses(ModeChoice::Bulk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_crosses_in_place() {
    crosses(ModeChoice::InPlace).await;
}

/// A row that the source can't compute costs itself, not its batch, and is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_the_source_cannot_compute_is_quarantined() {
    let (source, target) = &*SERVERS;
    for mode in [ModeChoice::Bulk, ModeChoice::InPlace] {
        let database = format!("uncomputable_{}", mode.as_str().replace('-', "_"));
        source.create_database(&database, None).unwrap();
        source
            .execute(
                &database,
                "create table val (id integer primary key, txt text);
                 insert into val select n, case when n % 97 = 0 then 'no number' else n::text end
                 from generate_series(1, 500) n",
            )
            .unwrap();
        target.create_database(&database, None).unwrap();
        target
            .execute(
                &database,
                "create table vals (id uuid primary key, n integer not null)",
            )
            .unwrap();
        let entity = "[source]\nfrom = \"val v\"\nkey = \"v.id\"\n[target]\ntable = \"vals\"\n\
                      key = { column = \"id\", strategy = \"uuid_v5\" }\n[columns]\nn = \"v.txt::integer\"\n";
        let project = Project::from_files(
            "uncomputable",
            vec![
                (
                    "regraft.toml".to_owned(),
                    "version = 1\nname = \"uncomputable\"\n".to_owned(),
                ),
                ("entities/vals.toml".to_owned(), entity.to_owned()),
            ],
        )
        .unwrap();
        let selection = project.select(&[], false).unwrap();
        let context = context(Arc::new(project), &database);
        let options = MigrateOptions {
            mode,
            ..MigrateOptions::default()
        };
        let outcome = migrate(&context, &selection, &options).await.unwrap();
        assert_eq!(outcome.receipt.total.inserted, 495);
        assert_eq!(outcome.receipt.total.quarantined, 5);
        let ids = texts(
            Side::Target,
            &database,
            "select legacy_id::text from regraft.migration_quarantine
             where reasons @> '[{\"code\": \"source_error\", \"sqlstate\": \"22P02\"}]' order by legacy_id::bigint",
        )
        .await;
        let ids: Vec<&str> = ids.iter().filter_map(|row| row[0].as_deref()).collect();
        assert_eq!(ids, ["97", "194", "291", "388", "485"], "{mode:?}");
    }
}
