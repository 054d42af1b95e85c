//! What a validation can be asked for: types, a part of the rows, a time limit; what it does when
//! somebody writes meanwhile, and where a privilege is missing.

use std::time::Duration;

use regraft_engine::{
    Method, MigrateOptions, Validation, ValidationOptions, ValidationType, check, migrate, validate,
};

use crate::fixture::{Pair, findings};
use crate::odd::{entity, pair};

async fn with(pair: &Pair, options: &ValidationOptions) -> Validation {
    let all = pair.context.project.select(&[], false).unwrap();
    let validation = validate(&pair.context, &all, options).await;
    validation.unwrap_or_else(|error| panic!("{error}"))
}

fn of(types: &[ValidationType]) -> ValidationOptions {
    ValidationOptions {
        types: types.to_vec(),
        ..ValidationOptions::default()
    }
}

fn looked_at(validation: &Validation, entity: &str, check: &str) -> u64 {
    let entity = validation.entities.iter().find(|e| e.entity == entity);
    let mut checks = entity.unwrap().checks.iter();
    checks.find(|c| c.name == check).unwrap().looked_at
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_is_checked() {
    let pair = Pair::migrated().await;
    pair.target(
        "set session_replication_role = replica;
         update people set name = 'x' where legacy_id = 1;
         update messages set person_id = null where legacy_id = 1;
         delete from messages where legacy_id = 59",
    )
    .await;
    let expected = [
        (
            ValidationType::CompletenessCheck,
            vec!["account", "counts", "mapping"],
            "messages counts: mapped, but table `messages` has no such row (1) [59]",
        ),
        (
            ValidationType::RelationshipIntegrity,
            vec!["references"],
            "messages references: `person_id` is NULL, though the source points to a migrated row of `people` (1) [1]",
        ),
        (
            ValidationType::DataIntegrity,
            vec!["columns"],
            "people columns: `name` is not what the source gives (1) [1]",
        ),
    ];
    for (of_type, names, finding) in expected {
        let validation = with(&pair, &of(&[of_type])).await;
        for entity in &validation.entities {
            let checks: Vec<&str> = entity.checks.iter().map(|check| check.name).collect();
            assert_eq!(checks, names, "{}", entity.entity);
        }
        assert_eq!(findings(&validation), [finding]);
        let row = pair
            .session()
            .await
            .query_one(
                "select count(*) from regraft.migration_validation_reports
                 where validation_id = $1::text::uuid and entity <> '' and validation_type <> $2",
                &[&validation.validation_id, &of_type.as_str()],
            )
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), 0, "stored under its type only");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_a_part_and_always_the_same() {
    let pair = pair(
        &[("thing", &entity("thing", "t = \"x.t\"\n"))],
        "create table thing (id int primary key, t text);
         insert into thing select n, 'thing ' || n from generate_series(1, 4000) n",
        "create table thing_new (id uuid primary key, legacy_id int, t text)",
    )
    .await;
    pair.migrate().await;
    let rate = |sampling_rate, max_records| ValidationOptions {
        sampling_rate,
        max_records,
        ..ValidationOptions::default()
    };
    let tenth = with(&pair, &rate(0.1, None)).await;
    let again = with(&pair, &rate(0.1, None)).await;
    let compared = looked_at(&tenth, "thing", "columns");
    assert!((200..800).contains(&compared), "{compared}");
    assert_eq!(compared, looked_at(&again, "thing", "columns"));
    // Completeness is never sampled.
    assert_eq!(looked_at(&tenth, "thing", "account"), 4000);
    assert!(
        tenth
            .not_checked
            .iter()
            .any(|what| what.contains("a sample was asked for")),
        "{:?}",
        tenth.not_checked
    );
    let most = with(&pair, &rate(1.0, Some(1000))).await;
    let compared = looked_at(&most, "thing", "columns");
    assert!((800..1200).contains(&compared), "{compared}");
    let all = with(&pair, &rate(1.0, Some(4000))).await;
    assert_eq!(looked_at(&all, "thing", "columns"), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_time_does_not_allow_is_named_and_nothing_is_called_valid() {
    let slow = entity("b_slow", "t = \"x.t\"\n").replace("b_slow x", "b_slow_view x");
    let pair = pair(
        &[
            ("a_fast", &entity("a_fast", "t = \"x.t\"\n")),
            ("b_slow", &slow),
            ("c_later", &entity("c_later", "t = \"x.t\"\n")),
        ],
        "create table a_fast as select 1 as id, 'a' as t;
         create table b_slow as select 1 as id, 'b' as t;
         create table c_later as select 1 as id, 'c' as t;
         create view b_slow_view as select * from b_slow",
        "create table a_fast_new (id uuid primary key, legacy_id int, t text);
         create table b_slow_new (id uuid primary key, legacy_id int, t text);
         create table c_later_new (id uuid primary key, legacy_id int, t text)",
    )
    .await;
    pair.migrate().await;
    pair.source("create or replace view b_slow_view as select b.* from b_slow b, pg_sleep(60)")
        .await;
    let options = ValidationOptions {
        timeout: Some(Duration::from_secs(3)),
        ..ValidationOptions::default()
    };
    let validation = with(&pair, &options).await;
    assert!(!validation.complete && !validation.passed);
    let done: Vec<&str> = validation
        .entities
        .iter()
        .map(|e| e.entity.as_str())
        .collect();
    assert_eq!(done, ["a_fast"]);
    for (entity, place) in [("b_slow", "within"), ("c_later", "before")] {
        let remark = format!("{entity}: the time limit was reached {place} it");
        let remarks = &validation.not_checked;
        assert!(remarks.contains(&remark), "{remarks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_that_is_mended_meanwhile_is_no_finding() {
    let pair = Pair::migrated().await;
    let right = "select name from people where legacy_id = 1";
    let right = pair.session().await.query_one(right, &[]).await.unwrap();
    let name: String = right.get(0);
    pair.target(
        "set session_replication_role = replica;
         update people set name = 'x' where legacy_id = 1;
         update people set email = 'kept@wrong.test' where legacy_id = 2",
    )
    .await;
    // The validation's view is fixed when it waits for the lock; what it then sees is old.
    let writer = pair.session().await;
    writer
        .batch_execute("begin; lock table people in access exclusive mode")
        .await
        .unwrap();
    let mend = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        writer
            .execute("update people set name = $1 where legacy_id = 1", &[&name])
            .await
            .unwrap();
        writer.batch_execute("commit").await.unwrap();
    };
    let options = ValidationOptions::default();
    let (validation, ()) = tokio::join!(with(&pair, &options), mend);
    assert_eq!(
        findings(&validation),
        ["people columns: `email` is not what the source gives (1) [2]"]
    );
    let people = validation.entities.iter().find(|e| e.entity == "people");
    assert_eq!(people.unwrap().transient, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_may_not_see_is_named() {
    let mut pair = Pair::migrated().await;
    pair.target(
        "create role auditor_of_part login password 'only for a test';
         grant usage on schema regraft, public to auditor_of_part;
         grant select on all tables in schema regraft, public to auditor_of_part;
         revoke select on people from auditor_of_part",
    )
    .await;
    let password = Some("only for a test".to_owned());
    pair.context.target = pair.context.target.with_user("auditor_of_part", password);
    let validation = with(&pair, &ValidationOptions::default()).await;
    assert!(!validation.complete && !validation.passed);
    let has = |start: &str| {
        validation
            .not_checked
            .iter()
            .any(|what| what.starts_with(start))
    };
    assert!(has("people: "), "{:?}", validation.not_checked);
    assert!(
        has("ledger: this role may not write to it"),
        "{:?}",
        validation.not_checked
    );
    assert!(validation.entities.iter().any(|e| e.entity == "shops"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_new_database_lacks_to_serve_is_named() {
    let child = entity(
        "child",
        "parent_id = { ref = \"parent\", from = \"x.parent_id\" }\n",
    );
    let mut pair = pair(
        &[("parent", &entity("parent", "t = \"x.t\"\n")), ("child", &child)],
        "create table parent (id int primary key, t text);
         insert into parent select n, 'parent ' || n from generate_series(1, 1200) n;
         create table child (id int primary key, parent_id int);
         insert into child select n, n % 1200 + 1 from generate_series(1, 1500) n",
        "create table parent_new (id uuid primary key, legacy_id int, t text);
         create index parent_t on parent_new (t);
         create table child_new (id uuid primary key, legacy_id int, parent_id uuid references parent_new (id))",
    )
    .await;
    let files: Vec<(String, String)> = [
        ("regraft.toml", "version = 1\nname = \"odd\"\n".to_owned()),
        ("entities/parent.toml", entity("parent", "t = \"x.t\"\n")),
        ("entities/child.toml", child.clone()),
        (
            "queries/pages.toml",
            "[fast]\nsql = \"select 1\"\nlimit = \"10 s\"\n\
             [slow]\nsql = \"select count(*) from child_new, pg_sleep(0.02)\"\nlimit = \"5 ms\"\n\
             [gone]\nsql = \"select * from nowhere\"\nlimit = \"5 ms\"\n"
                .to_owned(),
        ),
    ]
    .map(|(path, text)| (path.to_owned(), text))
    .to_vec();
    let project = regraft_project::Project::from_files("odd", files);
    pair.context.project = std::sync::Arc::new(
        project.unwrap_or_else(|problems| panic!("{}", problems.render(false, 100))),
    );
    let all = pair.context.project.select(&[], false).unwrap();
    migrate(&pair.context, &all, &MigrateOptions::default())
        .await
        .unwrap();
    pair.target(
        "update pg_index set indisvalid = false where indexrelid = 'parent_t'::regclass;
         analyze",
    )
    .await;
    let checked = check(Some(&pair.context), &pair.context.project)
        .await
        .unwrap();
    let told = checked.problems.render(false, 100);
    assert!(
        told.contains("the target refuses query `gone`") && told.contains("pages.toml:8"),
        "{told}"
    );
    let validation = with(&pair, &of(&[ValidationType::PerformanceCheck])).await;
    let found = findings(&validation);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("index \"parent_t\" is invalid"),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with("child performance: `parent_id` refers to other rows"),
        "{found:#?}"
    );
    let queries = validation
        .migration
        .iter()
        .find(|check| check.name == "queries")
        .unwrap();
    let slow: Vec<&str> = queries.findings.iter().map(|f| f.what.as_str()).collect();
    assert_eq!((queries.looked_at, slow.len()), (3, 2), "{slow:?}");
    assert!(
        slow[0].starts_with("slow: it took ") && slow[0].contains("it reads all of"),
        "{slow:?}"
    );
    assert!(
        slow[1].starts_with("gone: the target refuses it"),
        "{slow:?}"
    );
    pair.target("create index on child_new (parent_id); reindex index parent_t")
        .await;
    assert_eq!(
        findings(&with(&pair, &of(&[ValidationType::PerformanceCheck])).await),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_counted_as_they_should_be_and_as_they_are() {
    let pair = Pair::migrated().await;
    // Sums tell how values are distributed where the counts are known besides.
    let options = ValidationOptions {
        method: Method::Stream,
        ..of(&[ValidationType::DataIntegrity])
    };
    let grades = async || {
        let validation = with(&pair, &options).await;
        let people = validation
            .entities
            .into_iter()
            .find(|e| e.entity == "people");
        let people = people.unwrap();
        let compared = people.checks[0].looked_at;
        let wrong: u64 = people.checks[0]
            .findings
            .iter()
            .filter(|finding| finding.what.starts_with("`grade`"))
            .map(|finding| finding.rows)
            .sum();
        let of_grade = people
            .distributions
            .into_iter()
            .find(|d| d.column == "grade");
        (of_grade.unwrap(), compared, wrong)
    };
    let (clean, compared, wrong) = grades().await;
    assert_eq!(wrong, 0);
    assert!(
        clean
            .values
            .iter()
            .all(|value| value.expected == value.held),
        "{clean:?}"
    );
    let listed: u64 = clean.values.iter().map(|value| value.expected).sum();
    assert_eq!(listed + clean.nulls_expected, compared, "{clean:?}");
    pair.target("update people set grade = 'none'").await;
    let (changed, _, wrong) = grades().await;
    assert!(wrong > 0);
    let none = changed
        .values
        .iter()
        .find(|value| value.value == "none")
        .unwrap();
    assert_eq!(
        (none.held, none.held - none.expected),
        (compared, wrong),
        "{changed:?}"
    );
    assert_eq!((changed.nulls_held, changed.other_held), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_has_changed_since_is_told_apart() {
    let columns = "t = \"x.t\"\nu = \"x.u\"\n";
    let pair = pair(
        &[("thing", &entity("thing", columns))],
        "create table thing (id int primary key, t text, u text);
         insert into thing select n, 'thing ' || n, 'u' from generate_series(1, 9) n",
        "create table thing_new (id uuid primary key, legacy_id int, t text, u text)",
    )
    .await;
    pair.migrate().await;
    pair.source("update thing set t = 'another' where id = 1")
        .await;
    pair.target("update thing_new set u = 'wrong' where legacy_id = 2")
        .await;
    let validation = with(&pair, &ValidationOptions::default()).await;
    assert_eq!(
        findings(&validation),
        [
            "thing columns: `t` is not what the source gives (1) [1]",
            "thing columns: `u` is not what the source gives (1) [2]",
        ]
    );
    assert_eq!(validation.entities[0].changed_since, Some(1));
    let told = "thing: the source has changed 1 of the 2 rows that differ since they were moved: 1";
    assert!(
        validation.advice.iter().any(|advice| advice == told),
        "{:?}",
        validation.advice
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_by_itself_does_not_tell_whether_the_source_has_changed() {
    // A column of people is computed with now().
    let pair = Pair::migrated().await;
    pair.target("update people set email = 'other@wrong.test' where legacy_id = 2")
        .await;
    let validation = with(&pair, &ValidationOptions::default()).await;
    let people = validation.entities.iter().find(|e| e.entity == "people");
    assert_eq!(people.unwrap().changed_since, None);
}
