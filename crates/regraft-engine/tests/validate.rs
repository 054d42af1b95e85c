//! `validate` against real databases: nothing is found where nothing is wrong, and every way to
//! corrupt the target, the mappings or the ledger is found and named, and nothing else.

#[path = "validate/fixture.rs"]
mod fixture;
#[path = "validate/invariants.rs"]
mod invariants;
#[path = "validate/ledger.rs"]
mod ledger;
#[path = "validate/odd.rs"]
mod odd;
#[path = "validate/options.rs"]
mod options;

use fixture::{Pair, assert_found, findings};
use regraft_engine::{Kind, MigrateOptions, ValidationOptions, migrate, validate};

/// One corruption: statements for the target and what must be found.
type Mutation = (&'static str, &'static [&'static str]);

async fn each_is_found(mutations: &[Mutation]) {
    for (statements, expected) in mutations {
        let pair = Pair::migrated().await;
        // Constraints are no obstacle to whoever corrupts.
        pair.target(&format!(
            "set session_replication_role = replica; {statements}"
        ))
        .await;
        assert_found(&pair.validate().await, expected, statements);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_after_a_migration_and_after_another_run() {
    let pair = Pair::migrated().await;
    let validation = pair.validate().await;
    assert_eq!(findings(&validation), Vec::<String>::new());
    assert!(validation.passed);
    let rows: Vec<(&str, u64)> = validation
        .entities
        .iter()
        .map(|e| (e.entity.as_str(), e.rows))
        .collect();
    assert_eq!(
        rows,
        [
            ("shops", 10),
            ("people", 30),
            ("logins", 30),
            ("messages", 60),
            ("tokens", 30)
        ]
    );
    for entity in &validation.entities {
        let names: Vec<&str> = entity.checks.iter().map(|check| check.name).collect();
        assert_eq!(
            names,
            [
                "account",
                "counts",
                "mapping",
                "references",
                "columns",
                "performance"
            ]
        );
    }
    let looked_at = |entity: &str, check: &str| {
        let entity = validation
            .entities
            .iter()
            .find(|e| e.entity == entity)
            .unwrap();
        entity
            .checks
            .iter()
            .find(|c| c.name == check)
            .unwrap()
            .looked_at
    };
    // 20, 21 and 23 are in quarantine, 22 is blocked by 20.
    assert_eq!(
        (
            looked_at("people", "mapping"),
            looked_at("people", "columns")
        ),
        (26, 26)
    );
    assert_eq!(looked_at("people", "references"), 25 + 26);
    assert_eq!(looked_at("tokens", "columns"), 30);
    assert_eq!(
        validation.not_checked,
        [
            "people.made_at: its value depends on now, not on the row alone",
            "people: updated_at: the project says nothing about these columns",
        ]
    );
    pair.migrate().await;
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_results_are_kept_in_the_ledger() {
    let pair = Pair::migrated().await;
    pair.target("update people set name = name || ' ', grade = 'none' where legacy_id in (5, 6)")
        .await;
    let validation = pair.validate().await;
    let session = pair.session().await;
    let rows = session
        .query(
            "select entity, validation_type, validation_passed, discrepancies_found, records_validated,
                    discrepancy_details::text
             from regraft.migration_validation_reports where validation_id = $1::text::uuid and validation_type <> 'summary' order by 1, 2",
            &[&validation.validation_id],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 5 * 3);
    let failed: Vec<(String, String, i64, i64)> = rows
        .iter()
        .filter(|row| !row.get::<_, bool>(2))
        .map(|row| (row.get(0), row.get(1), row.get(3), row.get(4)))
        .collect();
    assert_eq!(
        failed,
        [("people".to_owned(), "data_integrity".to_owned(), 4, 26)]
    );
    let details: String = rows
        .iter()
        .find(|row| !row.get::<_, bool>(2))
        .unwrap()
        .get(5);
    assert!(
        details.contains("\"5\"") && details.contains("`name`") && !details.contains("Name"),
        "{details}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_value_is_found_in_its_column() {
    let changes: &[(&str, &str, &str)] = &[
        ("name", "name || ' '", "3"),
        ("name", "upper(name)", "3"),
        ("name", "''", "3"),
        ("name", "replace(name, 'é', 'e')", "13"),
        ("name", "rtrim(name)", "14"),
        ("email", "lower(email)", "13"),
        ("note", "null", "3"),
        ("note", "''", "5"),
        ("short", "'c4'", "3"),
        ("joined", "joined + interval '1 microsecond'", "4"),
        ("joined", "'infinity'", "11"),
        ("born", "born + 1", "4"),
        ("born", "'0045-03-15 BC'", "12"),
        ("local", "date_trunc('second', local)", "4"),
        ("clock", "date_trunc('second', clock)", "4"),
        ("span", "interval '1 day'", "12"),
        ("grade", "'high'", "4"),
        ("rank", "rank + 1", "4"),
        ("total", "total + 1", "12"),
        ("wage", "round(wage, 2)", "5"),
        ("wage", "wage - 0.00000000000000000001", "13"),
        ("wage", "null", "11"),
        ("wage", "0", "11"),
        ("ratio", "ratio + 1e-15", "4"),
        ("ratio", "0", "12"),
        ("ratio", "1.7976931348623157e308", "13"),
        ("ratio", "0", "11"),
        ("small", "4 / 3.0::float8", "4"),
        ("active", "not active", "4"),
        ("active", "null", "4"),
        ("token", "'00000000-0000-4000-8000-000000000099'", "4"),
        ("network", "'10.0.4.0/25'", "4"),
        ("raw", "raw || '\\x00'", "4"),
        ("raw", "null", "14"),
        ("bits", "bits || B'0'", "4"),
        ("tags", "array[tags[1], '', tags[3]]", "4"),
        ("tags", "array[tags[1], tags[3], tags[2]]", "4"),
        ("tags", "'{x,y}'", "14"),
        ("tags", "'{}'", "17"),
        ("marks", "array[marks[1] + 0.01, marks[2]]", "4"),
        ("marks", "null", "14"),
        ("grid", "array[4, 2, 3, 4]", "4"),
        ("temper", "'unknown'", "4"),
        ("temper", "'happy'", "17"),
        ("tempers", "array_reverse_of(tempers)", "4"),
        (
            "during",
            "daterange(lower(during), upper(during), '[]')",
            "4",
        ),
        ("extra", "extra || '{\"n\": 5}'", "4"),
        ("extra", "jsonb_set(extra, '{deep,x}', '6.01')", "4"),
        ("extra", "null", "15"),
        ("extra", "'{\"n\": \"1\"}'", "16"),
        ("built", "built - 'name'", "4"),
        ("built", "jsonb_set(built, '{inner,level}', 'null')", "4"),
        ("prefs", "prefs || '{\"size\": 4.11}'", "4"),
        ("prefs", "'{}'", "15"),
        ("prefs", "'{\"raw\": \"not json\"}'", "16"),
        ("prefs", "null", "16"),
        ("prefs", "'{\"deep\": []}'", "18"),
        ("strict_json", "'[4,\"x\"]'", "4"),
        ("origin", "'Legacy'", "4"),
        ("score", "1.6", "4"),
    ];
    let pair = Pair::migrated().await;
    pair.target("create function array_reverse_of(a temper[]) returns temper[] language sql as 'select array[a[2], a[1]]'")
        .await;
    pair.target("create table regraft.people_before as select * from people")
        .await;
    // In rounds, each of which changes a column once; then all is put back.
    let mut waiting = changes.to_vec();
    while !waiting.is_empty() {
        let mut round: Vec<(&str, &str, &str)> = Vec::new();
        waiting.retain(|change| {
            let again = round.iter().any(|(column, _, _)| *column == change.0);
            if !again {
                round.push(*change);
            }
            again
        });
        let (mut statements, mut expected) = (String::new(), Vec::new());
        for (column, value, id) in &round {
            statements.push_str(&format!(
                "update people set {column} = {value} where legacy_id = {id}; "
            ));
            expected.push(format!(
                "people columns: `{column}` is not what the source gives (1) [{id}]"
            ));
        }
        pair.target(&statements).await;
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert_found(&pair.validate_only("people").await, &expected, &statements);
        let all: Vec<String> = round
            .iter()
            .map(|(column, _, _)| format!("{column} = b.{column}"))
            .collect();
        pair.target(&format!(
            "update people p set {} from regraft.people_before b where b.id = p.id",
            all.join(", ")
        ))
        .await;
    }
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prints_differently_and_is_the_same_is_no_finding() {
    let pair = Pair::migrated().await;
    pair.target(
        "update people set wage = 5.31250, marks = array[5.5, 5.000], extra = '{\"n\": 5.0, \"deep\": {\"x\": 7.500}}',
                           short = 'c5' where legacy_id = 5;
         update people set wage = -0.0, score = 1.50 where legacy_id = 12;",
    )
    .await;
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_edge_is_found_at_its_ends() {
    each_is_found(&[
        (
            "update messages a set person_id = b.person_id from messages b
             where a.legacy_id in (1, 2) and b.legacy_id in (1, 2) and a.id <> b.id",
            &["messages references: `person_id` points to another row of `people` than the source does (2) [1, 2]"],
        ),
        (
            "update messages set person_id = (select id from people where legacy_id = 30) where legacy_id = 3",
            &["messages references: `person_id` points to another row of `people` than the source does (1) [3]"],
        ),
        (
            "update messages set person_id = null where legacy_id = 3",
            &["messages references: `person_id` is NULL, though the source points to a migrated row of `people` (1) [3]"],
        ),
        (
            "update messages set person_id = (select id from people where legacy_id = 1) where legacy_id = 7",
            &["messages references: `person_id` points to a row, where the source points to none (1) [7]"],
        ),
        (
            "update people set boss_id = (select id from people where legacy_id = 2) where legacy_id = 30",
            &["people references: `boss_id` points to another row of `people` than the source does (1) [30]"],
        ),
        (
            "update people set shop_id = (select id from shops where legacy_code = 'S1') where legacy_id = 8",
            &["people references: `shop_id` should be NULL: its row of `shops` was not migrated (1) [8]"],
        ),
        (
            "update people set shop_id = null where legacy_id = 3",
            &["people references: `shop_id` is NULL, though the source points to a migrated row of `shops` (1) [3]"],
        ),
        (
            "update messages set shop_id = gen_random_uuid() where legacy_id = 2",
            &["messages references: `shop_id` holds a key that no mapping of `shops` knows (1) [2]"],
        ),
        (
            "update messages set fallback_id = null where legacy_id = 11",
            &["messages references: `fallback_id` should be its rule's default: its row of `shops` was not migrated (1) [11]"],
        ),
        (
            // The row of a message, where the source means a login.
            "update messages set about_id = (select id from messages where legacy_id = 2) where legacy_id = 1",
            &["messages references: `about_id` holds a key that no mapping of `logins` knows (1) [1]"],
        ),
        (
            "update messages set about_id = (select id from people where legacy_id = 2) where legacy_id = 2",
            &["messages references: `about_id` points to a row, where the source points to none (1) [2]"],
        ),
        (
            "update messages set reply_id = (select id from messages where legacy_id = 2) where legacy_id = 15",
            &["messages references: `reply_id` points to another row of `messages` than the source does (1) [15]"],
        ),
        (
            "update messages set about_id = (select id from people where legacy_id = 2) where legacy_id = 3",
            &["messages references: `about_id` points to another row of `people` than the source does (1) [3]"],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_too_few_or_too_many_is_found() {
    each_is_found(&[
        (
            "delete from messages where legacy_id = 59",
            &["messages counts: mapped, but table `messages` has no such row (1) [59]"],
        ),
        (
            "insert into messages (id, legacy_id, body) values ('00000000-0000-4000-8000-000000000001', 999, 'x')",
            &["messages counts: rows in table `messages` that no mapping knows (1) [999]"],
        ),
        (
            "insert into tokens values ('00000000-0000-4000-8000-0000000000aa', 7)",
            &["tokens counts: rows in table `tokens` that no mapping knows (1) [key 00000000-0000-4000-8000-0000000000aa]"],
        ),
        (
            "insert into messages select gen_random_uuid(), legacy_id, person_id, about_id, reply_id, shop_id, fallback_id, body
             from messages where legacy_id = 4",
            &["messages counts: rows in table `messages` that no mapping knows (1) [4]"],
        ),
        (
            "alter table tokens drop constraint tokens_pkey; insert into tokens select * from tokens where rank = 3",
            &["tokens counts: rows in table `tokens` that share their key with another (2) [key 00000000-0000-4000-8000-000000000003, key 00000000-0000-4000-8000-000000000003]"],
        ),
        (
            // Its key is another now, so it is missing under the old one; nobody points to it.
            "update messages set id = gen_random_uuid() where legacy_id = 58",
            &[
                "messages counts: mapped, but table `messages` has no such row (1) [58]",
                "messages counts: rows in table `messages` that no mapping knows (1) [58]",
            ],
        ),
        (
            // A parent goes, and the foreign key with it: its children stay and point to nothing.
            "alter table people drop constraint people_shop_id_fkey;
             alter table messages drop constraint messages_shop_id_fkey;
             delete from shops where legacy_code = 'S5'",
            &[
                "shops counts: mapped, but table `shops` has no such row (1) [S5]",
                "people references: `shop_id` points to a row that is not in the table of `shops` (3) [4, 14, 24]",
                "messages references: `shop_id` points to a row that is not in the table of `shops` (4) [4, 16, 28, 40]",
                "messages references: `fallback_id` points to a row that is not in the table of `shops` (4) [4, 16, 28, 40]",
            ],
        ),
        ("drop table tokens", &["tokens counts: there is no table `tokens` with a key \"id\" (30) []"]),
        ("alter table tokens drop column id", &["tokens counts: there is no table `tokens` with a key \"id\" (30) []"]),
        ("alter table tokens drop column rank", &["tokens columns: the table has no column `rank` (1) []"]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_faults_are_all_found() {
    let pair = Pair::migrated().await;
    pair.target(
        "set session_replication_role = replica;
         update people set name = 'x' where legacy_id in (1, 2, 3, 4, 5, 6, 7);
         update people set email = null where legacy_id = 2;
         delete from messages where legacy_id = 59;
         update logins set email = email || 'x' where id = (select id from people where legacy_id = 9);
         update messages set person_id = null where legacy_id = 1;
         update regraft.migration_control set inserted = inserted + 1, source_rows = source_rows + 1
           where entity = 'tokens' and batch = 1",
    )
    .await;
    assert_found(
        &pair.validate().await,
        &[
            "people columns: `name` is not what the source gives (7) [1, 2, 3, 4, 5]",
            "people columns: `email` is not what the source gives (1) [2]",
            "messages counts: mapped, but table `messages` has no such row (1) [59]",
            "logins columns: `email` is not what the source gives (1) [9]",
            "messages references: `person_id` is NULL, though the source points to a migrated row of `people` (1) [1]",
            "tokens account: migrate_ ... (1) []",
            "tokens account: rows inserted, as the batches have it and as the mappings do: ... (1) []",
        ],
        "several",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_that_were_not_migrated_are_named_or_refused() {
    let pair = Pair::empty();
    let all = pair.context.project.select(&[], false).unwrap();
    pair.source(include_str!("validate/project/source.sql"))
        .await;
    pair.target(include_str!("validate/project/target.sql"))
        .await;
    let error = validate(&pair.context, &all, &ValidationOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{error}");
    let shops = pair
        .context
        .project
        .select(&["shops".to_owned()], false)
        .unwrap();
    migrate(&pair.context, &shops, &MigrateOptions::default())
        .await
        .unwrap();
    let validation = validate(&pair.context, &all, &ValidationOptions::default())
        .await
        .unwrap();
    assert!(validation.passed);
    assert_eq!(validation.entities.len(), 1);
    assert!(
        validation
            .not_checked
            .iter()
            .any(|what| what == "people: it was not migrated"),
        "{:?}",
        validation.not_checked
    );
    let people = pair
        .context
        .project
        .select(&["people".to_owned()], false)
        .unwrap();
    assert_eq!(
        validate(&pair.context, &people, &ValidationOptions::default())
            .await
            .unwrap_err()
            .kind(),
        Kind::Usage
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_honoured_and_stores_nothing() {
    let pair = Pair::migrated().await;
    // The table is locked, so that the validation waits.
    let blocker = pair.session().await;
    blocker
        .batch_execute("begin; lock table people in access exclusive mode")
        .await
        .unwrap();
    let cancel = pair.context.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        cancel.cancel();
    });
    let all = pair.context.project.select(&[], false).unwrap();
    let error = validate(&pair.context, &all, &ValidationOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted, "{error}");
    blocker.batch_execute("rollback").await.unwrap();
    let row = blocker
        .query_one(
            "select count(*) from regraft.migration_validation_reports",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}
