//! `validate` against real databases: nothing is found where nothing is wrong, and every way to
//! corrupt the target, the mappings or the ledger is found and named, and nothing else.

#[path = "validate/fixture.rs"]
mod fixture;
#[path = "validate/odd.rs"]
mod odd;

use fixture::{Pair, assert_found, findings};
use regraft_engine::{Kind, MigrateOptions, RollbackTarget, migrate, rollback, validate};

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
            ["account", "counts", "mapping", "references", "columns"]
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
             from regraft.migration_validation_reports where validation_id = $1::text::uuid order by 1, 2",
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
async fn a_mapping_that_is_wrong_is_found() {
    each_is_found(&[
        (
            "delete from regraft.migration_mappings where entity = 'messages' and legacy_id = '59'",
            &[
                "messages account: not accounted for: neither mapped, nor in quarantine, nor dropped by a filter (1) [59]",
                "messages counts: rows in table `messages` that no mapping knows (1) [59]",
            ],
        ),
        (
            // Two mappings change places.
            "update regraft.migration_mappings a set new_id = b.new_id from regraft.migration_mappings b
             where a.entity = 'tokens' and b.entity = 'tokens' and a.legacy_id <> b.legacy_id
               and a.legacy_id in ('p3@example.org', 'p4@example.org') and b.legacy_id in ('p3@example.org', 'p4@example.org')",
            &[
                "tokens columns: `id` is not what the source gives (2) [p3@example.org, p4@example.org]",
                "tokens columns: `rank` is not what the source gives (2) [p3@example.org, p4@example.org]",
            ],
        ),
        (
            // The key itself is a reference.
            "update regraft.migration_mappings a set new_id = b.new_id from regraft.migration_mappings b
             where a.entity = 'logins' and b.entity = 'logins' and a.legacy_id <> b.legacy_id
               and a.legacy_id in ('3', '4') and b.legacy_id in ('3', '4')",
            &[
                "logins references: `id` points to another row of `people` than the source does (2) [3, 4]",
                "logins columns: `email` is not what the source gives (2) [3, 4]",
            ],
        ),
        (
            // One row under two legacy ids.
            "update regraft.migration_mappings set new_id = (select new_id from regraft.migration_mappings
               where entity = 'messages' and legacy_id = '58') where entity = 'messages' and legacy_id = '59'",
            &[
                "messages counts: rows in table `messages` that no mapping knows (1) [59]",
                "messages mapping: several legacy ids are mapped to the same key (2) [58, 59]",
                "messages mapping: `legacy_id` is not the legacy id that the row is mapped under (1) [59]",
                "messages references: `person_id` points to another row of `people` than the source does (1) [59]",
                "messages references: `about_id` points to a row, where the source points to none (1) [59]",
                "messages references: `reply_id` should be NULL: its row of `messages` was not migrated (1) [59]",
                "messages columns: `body` is not what the source gives (1) [59]",
            ],
        ),
        (
            "update messages set legacy_id = 1000 where legacy_id = 59",
            &["messages mapping: `legacy_id` is not the legacy id that the row is mapped under (1) [59]"],
        ),
        (
            "update messages set legacy_id = null where legacy_id = 59",
            &["messages mapping: `legacy_id` is not the legacy id that the row is mapped under (1) [59]"],
        ),
        (
            "drop index regraft.migration_mappings_messages_key;
             insert into regraft.migration_mappings select entity, legacy_id, gen_random_uuid(), source_fingerprint,
               column_fingerprints, run_no, batch from regraft.migration_mappings where entity = 'messages' and legacy_id = '59'",
            &[
                "messages counts: mapped, but table `messages` has no such row (1) [59]",
                "messages mapping: legacy ids with more than one mapping (1) [59]",
            ],
        ),
        (
            "insert into regraft.migration_mappings select entity, '777', gen_random_uuid(), source_fingerprint,
               column_fingerprints, run_no, batch from regraft.migration_mappings where entity = 'messages' and legacy_id = '59'",
            &[
                "messages account: mapped, but the source has no such row (1) [777]",
                "messages counts: mapped, but table `messages` has no such row (1) [777]",
            ],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_is_wrong_is_found() {
    each_is_found(&[
        (
            "delete from regraft.migration_quarantine where entity = 'people' and legacy_id = '21'",
            &["people account: not accounted for: neither mapped, nor in quarantine, nor dropped by a filter (1) [21]"],
        ),
        (
            "update regraft.migration_quarantine set state = 'resolved' where entity = 'people' and legacy_id = '20'",
            &["people account: not accounted for: neither mapped, nor in quarantine, nor dropped by a filter (1) [20]"],
        ),
        (
            "update regraft.migration_quarantine set bucket = 'quarantined' where entity = 'people' and legacy_id = '22'",
            &[
                "people account: rows quarantined: 3 by the account of migrate_ ... 4 now (1) []",
                "people account: rows blocked: 1 by the account of migrate_ ... 0 now (1) []",
            ],
        ),
        (
            "insert into regraft.migration_quarantine (entity, legacy_id, bucket, reasons, run_no, batch)
             values ('tokens', 'p3@example.org', 'quarantined', '[]', 1, 1)",
            &["tokens mapping: mapped, and in quarantine (1) [p3@example.org]"],
        ),
        (
            "insert into regraft.migration_quarantine (entity, legacy_id, bucket, reasons, run_no, batch)
             values ('shops', 'S9', 'quarantined', '[]', 1, 1), ('shops', 'S99', 'quarantined', '[]', 1, 1)",
            &[
                "shops account: in quarantine, but the source has no such row (1) [S99]",
                "shops account: in quarantine, but filter `hidden` drops it (1) [S9]",
            ],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_a_quarantined_parent_is_found() {
    let pair = Pair::migrated().await;
    pair.target(
        "insert into people (id, legacy_id, joined, grade, origin, score) values
           ('00000000-0000-4000-8000-000000000022', 22, now(), 'none', 'legacy', 2);
         delete from regraft.migration_quarantine where entity = 'people' and legacy_id = '22';
         insert into regraft.migration_mappings
           select 'people', '22', '00000000-0000-4000-8000-000000000022', source_fingerprint, column_fingerprints, run_no, batch
           from regraft.migration_mappings where entity = 'people' and legacy_id = '2'",
    )
    .await;
    let found = findings(&pair.validate().await);
    let expected = "people references: `boss_id`: its row of `people` is in quarantine, this row should have stayed behind (1) [22]";
    assert!(found.iter().any(|line| line == expected), "{found:#?}");
    let ledger = found
        .iter()
        .filter(|line| line.starts_with("people account"))
        .count();
    assert!(ledger >= 1, "the ledger says something else: {found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_altered_is_found() {
    each_is_found(&[
        (
            // Only a batch.
            "update regraft.migration_control set inserted = inserted + 1, source_rows = source_rows + 1
             where entity = 'messages' and batch = 2",
            &[
                "messages account: migrate_ ...  against 52 (1) []",
                "messages account: rows inserted, as the batches have it and as the mappings do: batch 2 of migrate_ ... (1) []",
            ],
        ),
        (
            // Only the account.
            "update regraft.migration_control set inserted = inserted + 1, source_rows = source_rows + 1
             where entity = 'tokens' and batch = 0",
            &[
                "tokens account: migrate_ ... (1) []",
                "tokens account: rows the filters keep: 31 by the account of migrate_ ... 30 now (1) []",
                "tokens account: rows in place: 31 by the account of migrate_ ... 30 now (1) []",
            ],
        ),
        (
            // Both, so that they add up.
            "update regraft.migration_control set filtered = filtered + 1, source_rows = source_rows + 1,
               detail = jsonb_set(detail, '{filters}', jsonb_build_object('hidden', filtered + 1))
             where entity = 'shops' and (batch = 0 or batch = 1)",
            &["shops account: rows filter `hidden` drops: 2 by the account of migrate_ ... 1 now (1) []"],
        ),
        (
            "alter table regraft.migration_control drop constraint account_balances;
             update regraft.migration_control set unchanged = unchanged + 2 where entity = 'tokens' and batch in (0, 1)",
            &[
                "tokens account: migrate_ ... 30 source rows, and 32 in the buckets (2) []",
                "tokens account: batch 1 of migrate_ ... in the buckets (2) []",
                "tokens account: rows in place: 32 by the account of migrate_ ... 30 now (2) []",
            ],
        ),
        (
            "update regraft.migration_control set status = 'pending' where entity = 'tokens' and batch = 1",
            &["tokens account: migrate_ ... inserted 20 against 30 (10) []"],
        ),
        (
            "update regraft.migration_control set status = 'interrupted' where entity = 'tokens' and batch = 0",
            &["tokens account: no run has finished this entity; migrate_ ... has begun (30) []"],
        ),
        (
            "delete from regraft.migration_control where entity = 'tokens'",
            &[
                "tokens account: the ledger has mappings or quarantine of this entity, and no run that made them (30) []",
                "tokens account: rows inserted, as the batches have it and as the mappings do: batch 1 of a run ... (30) []",
            ],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_moved_on_is_found() {
    let cases: &[Mutation] = &[
        (
            "insert into message (id, person, body) values (61, 1, 'new')",
            &[
                "messages account: not accounted for: neither mapped, nor in quarantine, nor dropped by a filter (1) [61]",
            ],
        ),
        (
            "delete from message where id = 59",
            &["messages account: mapped, but the source has no such row (1) [59]"],
        ),
        (
            "update shop set hidden = true where code = 'S3'",
            &["shops account: mapped, but filter `hidden` drops it (1) [S3]"],
        ),
        (
            "update shop set hidden = false where code = 'S9'",
            &[
                "shops account: not accounted for: neither mapped, nor in quarantine, nor dropped by a filter (1) [S9]",
            ],
        ),
        (
            "update message set body = 'other' where id = 3",
            &["messages columns: `body` is not what the source gives (1) [3]"],
        ),
        (
            "update message set person = 1 where id = 3",
            &[
                "messages references: `person_id` points to another row of `people` than the source does (1) [3]",
            ],
        ),
        (
            "update person set level = 9 where id = 3",
            &[
                "people columns: `grade`: its rule has no value for these rows, which should be in quarantine (1) [3]",
                "people columns: `built` is not what the source gives (1) [3]",
            ],
        ),
    ];
    for (statements, expected) in cases {
        let pair = Pair::migrated_with_own_source().await;
        pair.source(statements).await;
        assert_found(&pair.validate().await, expected, statements);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_runs_and_their_rollback_are_told_apart() {
    let pair = Pair::migrated_with_own_source().await;
    // New rows, one of them faulty; and a repaired one, that others wait for.
    pair.source(
        "insert into shop values ('S50', 'Shop 50', 1), ('S51', null, 1);
         update person set level = 1 where id = 20;
         update message set reply_to = null where reply_to in (19, 21, 49, 51);
         insert into message (id, person, body) values (61, 1, 'new')",
    )
    .await;
    let line = "not accounted for: neither mapped, nor in quarantine, nor dropped by a filter";
    assert_found(
        &pair.validate().await,
        &[
            &format!("shops account: {line} (2) [S50, S51]"),
            &format!("messages account: {line} (1) [61]"),
        ],
        "before the second run",
    );
    let outcome = pair.migrate().await;
    assert_eq!(findings(&pair.validate().await), Vec::<String>::new());

    rollback(&pair.context, &RollbackTarget::Run(outcome.receipt.run_id))
        .await
        .unwrap();
    let found = findings(&pair.validate().await);
    assert!(
        found.contains(&format!("shops account: {line} (2) [S50, S51]")),
        "{found:#?}"
    );
    assert!(found.iter().all(|f| f.contains(" account: ")), "{found:#?}");
    pair.target(
        "insert into regraft.migration_control (run_no, entity, batch, run_id, command, status)
         values (77, 'tokens', 0, 'migrate_later', 'migrate', 'running')",
    )
    .await;
    let later = pair.validate_only("tokens").await;
    assert!(
        later.passed
            && later
                .not_checked
                .iter()
                .any(|what| what.contains("migrate_later has begun")),
        "{later:#?}"
    );
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
    let error = validate(&pair.context, &all).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{error}");
    let shops = pair
        .context
        .project
        .select(&["shops".to_owned()], false)
        .unwrap();
    migrate(&pair.context, &shops, &MigrateOptions::default())
        .await
        .unwrap();
    let validation = validate(&pair.context, &all).await.unwrap();
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
        validate(&pair.context, &people).await.unwrap_err().kind(),
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
    let error = validate(&pair.context, &all).await.unwrap_err();
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
