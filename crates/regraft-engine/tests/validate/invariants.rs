//! Invariants: what holds is not reported, what doesn't is, by name, group and both figures, and
//! nothing else.

use std::sync::Arc;
use std::time::Duration;

use regraft_engine::{Validation, ValidationOptions, ValidationType, check, validate};

use super::fixture::{Pair, project_with};

/// Over people, of whom 20, 21 and 23 are in quarantine and 22 is blocked.
const INVARIANTS: &str = r#"
[people-by-grade]
entity = "people"
by = "grade"
measure = ["count(*)", "sum(wage)", "max(joined)", "count(distinct temper)"]

[people-per-shop]
entity = "people"
by = ["shop_id", "active"]
measure = "count(*)"

[fallbacks]
entity = "messages"
by = "fallback_id"
measure = ["count(*)", "count(distinct person_id)"]

[bosses]
entity = "people"
by = "coalesce(boss_id, 'none')"
measure = ["count(*)", "min(legacy_id)", "max(id)"]

[low-wages]
entity = "people"
measure = "sum(wage) filter (where grade = 'low')"
tolerance = 0.5

[all-ranks]
entity = "people"
measure = "sum(total)"
tolerance = "1%"

[built]
entity = "people"
by = "built #>> '{inner,level}'"
measure = "count(*)"

[by-hand]
source = """
select p.level, sum(p.rank), count(*) from person p join {moved:people} m on m.legacy_id = p.id group by 1"""
target = """
select case p.grade when 'none' then 0 when 'low' then 1 when 'mid' then 2 when 'high' then 3 end, sum(p.rank), count(*)
from people p join {moved:people} m on m.new_id = p.id group by 1"""
keys = 1

[by-hand-with-text-ids]
source = "select max(m.legacy_id), count(*) from {moved:shops} m"
target = "select max(m.legacy_id), count(*) from {moved:shops} m"
keys = 0
"#;

async fn migrated(invariants: &str) -> Pair {
    let mut pair = Pair::migrated().await;
    pair.context.project = Arc::new(project_with("invariants/people.toml", invariants));
    pair
}

/// What the check `invariants` found, one line for each finding.
fn found(validation: &Validation) -> Vec<String> {
    let mut checks = validation.migration.iter();
    let check = checks.find(|check| check.name == "invariants");
    let check = check.expect("the invariants were checked");
    assert_eq!(check.passed, check.findings.is_empty());
    let findings = check.findings.iter();
    findings
        .map(|finding| format!("{} ({})", finding.what, finding.rows))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_is_no_finding_in_spite_of_quarantine() {
    let pair = migrated(INVARIANTS).await;
    let validation = pair.validate().await;
    assert_eq!(found(&validation), Vec::<String>::new());
    assert!(validation.passed);
    let names: Vec<(&str, bool)> = validation
        .invariants
        .iter()
        .map(|outcome| (outcome.name.as_str(), outcome.passed && outcome.groups > 0))
        .collect();
    assert_eq!(names.len(), 9);
    assert!(names.iter().all(|(_, passed)| *passed), "{names:?}");
    let checked = check(Some(&pair.context), &pair.context.project)
        .await
        .unwrap();
    assert_eq!(checked.problems.render(false, 100), "");
    let session = pair.session().await;
    let row = session
        .query_one(
            "select validation_passed, records_validated from regraft.migration_validation_reports
             where entity = '' and validation_type = 'data_integrity' limit 1",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, i64>(1) > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_figure_that_differs_is_named_with_its_group_and_both_figures() {
    let mutations: &[(&str, &[&str])] = &[
        (
            "update people set wage = wage + 0.01 where legacy_id = 5",
            &["people-by-grade: grade low: sum(wage) is "],
        ),
        (
            "update people set wage = wage + 0.51 where legacy_id = 5",
            &[
                "people-by-grade: grade low: sum(wage) is ",
                "low-wages: sum(wage) filter (where grade = 'low') is ",
            ],
        ),
        (
            "update people set grade = 'none' where legacy_id = 5",
            &[
                "people-by-grade: grade low: count(*) is ",
                "people-by-grade: grade none: count(*) is ",
                "by-hand: case 0: sum is ",
                "by-hand: case 1: sum is ",
                "low-wages: ",
            ],
        ),
        (
            "update people set shop_id = (select id from shops where legacy_code = 'S5') where legacy_id = 3",
            &[
                "people-per-shop: shop_id S4, active ",
                "people-per-shop: shop_id S5, active ",
            ],
        ),
        (
            "update messages set fallback_id = null where legacy_id = 11",
            &[
                "fallbacks: fallback_id NULL: ",
                "fallbacks: fallback_id 00000000-0000-4000-8000-0000000000ff: ",
            ],
        ),
        (
            "update people set built = jsonb_set(built, '{inner,level}', '9') where legacy_id = 5",
            &[
                "built: built #>> '{inner,level}' 1: count(*) is ",
                "built: built #>> '{inner,level}' 9: only the target has this group: count(*) 1",
            ],
        ),
    ];
    for (statement, expected) in mutations {
        let pair = migrated(INVARIANTS).await;
        pair.target(statement).await;
        let mut found = found(&pair.validate().await);
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found.len(), expected.len(), "{statement}: {found:#?}");
        for (line, beginning) in found.iter().zip(&expected) {
            assert!(
                line.starts_with(beginning) && line.ends_with("(1)"),
                "{statement}: {line}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariants_go_with_their_entities() {
    let pair = migrated(INVARIANTS).await;
    let names = |validation: &Validation| -> Vec<String> {
        let all = validation.invariants.iter();
        all.map(|outcome| outcome.name.clone()).collect()
    };
    assert_eq!(names(&pair.validate_only("messages").await), ["fallbacks"]);
    let shops = pair.validate_only("shops").await;
    assert_eq!(names(&shops), ["by-hand-with-text-ids"]);
    let tokens = pair.validate_only("tokens").await;
    assert!(tokens.invariants.is_empty() && tokens.migration.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_servers_refuse_is_told_at_its_place_and_by_validate() {
    let pair = migrated(
        r#"
[bad-figures]
entity = "people"
by = ["grade", "nosuch(rank)"]
measure = ["sum(rank)", "total", "sum(name)"]

[time-of-run]
entity = "people"
measure = "max(made_at)"

[bad-queries]
source = "select count(*) from {moved:people} m join person p on p.id = m.old_id"
target = "select count(*) from {moved:people} m join people p on p.idd = m.new_id"

[columns]
source = "select 1, 2"
target = "select 1"

[no-figure]
source = "select 1, 2"
target = "select 1, 2"
keys = 2

[no-number]
entity = "people"
measure = "max(name)"
tolerance = "1%"
"#,
    )
    .await;
    let checked = check(Some(&pair.context), &pair.context.project)
        .await
        .unwrap();
    let places: Vec<(&str, Option<usize>, Option<usize>)> = checked
        .problems
        .records()
        .iter()
        .map(|problem| (problem.code, problem.line, problem.column))
        .collect();
    assert_eq!(
        places,
        [
            ("invariant::refused", Some(4), Some(17)),
            ("invariant::refused", Some(5), Some(26)),
            ("invariant::refused", Some(5), Some(35)),
            ("invariant::unusable-column", Some(7), Some(2)),
            ("invariant::refused", Some(12), Some(73)),
            ("invariant::refused", Some(13), Some(66)),
            ("invariant::columns", Some(17), Some(10)),
            ("invariant::columns", Some(19), Some(2)),
            ("invariant::tolerance", Some(24), Some(2)),
        ],
        "{}",
        checked.problems.render(false, 100)
    );
    let found = found(&pair.validate().await);
    assert_eq!(found.len(), 6, "{found:#?}");
    for line in &found {
        assert!(
            line.contains(": it can't be computed: ") && line.contains("see `regraft check`"),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_while_it_is_computed_is_a_finding_and_ends_nothing_else() {
    let pair = migrated(
        r#"
[a-fails-in-the-target]
source = "select 1"
target = "select 1 / (count(*) - count(*)) from people"
entities = ["people"]
[b-fails-in-the-source]
source = "select 1 / (count(*) - count(*)) from person"
target = "select 1"
entities = ["people"]
[c-holds]
entity = "people"
measure = "count(*)"
[d-twice]
source = "select 1, 2"
target = "select 1, 2 union all select 1, 3"
entities = ["people"]
"#,
    )
    .await;
    assert_eq!(
        found(&pair.validate_only("people").await),
        [
            "a-fails-in-the-target: it can't be computed: the target says 22012 division_by_zero (1)",
            "b-fails-in-the-source: it can't be computed: the source says 22012 division_by_zero (1)",
            "d-twice: ?column? 1: the source's query gives this group 1 times, the target's 2 times (1)",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invariant_that_is_right_again_at_a_second_look_is_no_finding() {
    let pair = migrated(
        "[wages]\nentity = \"people\"\nby = \"grade\"\nmeasure = \"sum(wage)\"\n\
         [heads]\nentity = \"people\"\nmeasure = \"min(legacy_id)\"\n",
    )
    .await;
    pair.target(
        "set session_replication_role = replica;
         create table set_aside as select * from people where legacy_id = 1;
         update people set wage = wage + 1 where legacy_id = 1",
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
            .batch_execute(
                "update people p set wage = s.wage from set_aside s where p.id = s.id; commit",
            )
            .await
            .unwrap();
    };
    let all = pair.context.project.select(&[], false).unwrap();
    let options = ValidationOptions {
        types: vec![ValidationType::DataIntegrity],
        ..ValidationOptions::default()
    };
    let (validation, ()) = tokio::join!(validate(&pair.context, &all, &options), mend);
    let validation = validation.unwrap();
    assert_eq!(found(&validation), Vec::<String>::new());
    let transient: Vec<u64> = validation.invariants.iter().map(|i| i.transient).collect();
    assert_eq!(transient, [1, 0]);
    pair.target("update people set wage = wage + 1 where legacy_id = 1")
        .await;
    let validation = validate(&pair.context, &all, &options).await.unwrap();
    assert_eq!(found(&validation).len(), 1, "{:?}", found(&validation));
}
