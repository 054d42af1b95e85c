//! Mappings, quarantine and accounts that don't fit, and a source that has moved on.

use regraft_engine::{RollbackTarget, rollback};

use crate::fixture::{Pair, assert_found, findings};
use crate::{Mutation, each_is_found};

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
                "messages account: migrate_ ...  in 7 (1) []",
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
            &[
                "shops account: rows filter `hidden` drops: 2 by the account of migrate_ ... 1 now (1) []",
                "shops account: migrate_ ... in 1 (1) []",
            ],
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
            &[
                "tokens account: migrate_ ... inserted 20 against 30 (10) []",
                "tokens account: migrate_ ... in 2 (10) []",
            ],
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

    rollback(
        &pair.context,
        &RollbackTarget::Run(outcome.receipt.run_id),
        false,
    )
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
