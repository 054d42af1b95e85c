//! What is said about SQL, and where the caret goes.

use insta::assert_snapshot;
use regraft_project::{Problems, Project, Severity};

use crate::fixture::{OFFICES, said, with_columns, with_orders};

/// What is said of one expression.
fn expression(sql: &str) -> String {
    said(with_columns(&format!("a = '''{sql}'''")))
}

fn from(list: &str) -> Result<Project, Problems> {
    with_orders(&OFFICES.replace("\"office o\"", &format!("'''{list}'''")))
}

#[test]
fn sound_expressions_give_no_word() {
    for sql in [
        "i.price",
        "i.price -- in cents",
        "/* why */ coalesce(i.a, i.b)::text || '; not the end'",
        "case when i.status in (1, 2) then 'x' else e'it''s \\'' end",
        "(select count(*) from t where t.id = i.id)",
        "exists (select 1 from t where t.id = i.id and t.kind = any (array['a', 'b']))",
        "i.data ->> 'a'",
        "i.data #>> '{a,b}'",
        "i.tags @> array['x']::text[]",
        "i.created at time zone 'UTC'",
        "interval '1 day' * i.days + i.created",
        "i.names[1]",
        "$tag$ any; text $tag$ || i.x",
        "i.\"Weird;Name\"",
        "i.delete",
        "extract(epoch from i.created)",
        "i.a is distinct from i.b",
        "row_number() over (partition by i.a order by i.b desc)",
        "string_agg(i.a, ',' order by i.b) filter (where i.c)",
        "i.name ~* '^a' and i.name not ilike 'b%'",
        "cast(i.a as numeric(12, 2))",
        "jsonb_build_object('a', i.a)",
        "substring(i.a from 1 for 3)",
        "i.data ? 'key'",
        "'ä→' || i.x",
        "(with q as (select 1 as a) select a from q)",
        "current_date",
    ] {
        assert_eq!(expression(sql), "", "{sql}");
    }
}

#[test]
fn sound_from_lists_give_no_word() {
    for list in [
        "office",
        "legacy.office o",
        "a join b on b.id = a.b_id left join lateral (select 1 as x) c on true",
        "a, b",
        "(select * from a union all select * from b) as q",
        "generate_series(1, 10) as g(n)",
        "only a",
        "a cross join unnest(a.tags) with ordinality as t(tag, nr)",
        "(values (1, 'a'), (2, 'b')) as v(id, name) -- few",
    ] {
        assert_eq!(said(from(list)), "", "{list}");
    }
}

#[test]
fn statements_are_errors() {
    assert_snapshot!(expression("i.a; drop table i"), @"");
    assert_snapshot!(expression("select i.a"), @"");
}

#[test]
fn several_expressions_are_errors() {
    assert_snapshot!(expression("i.a, i.b"), @"");
    assert_snapshot!(expression("i.a as b"), @"");
    assert_snapshot!(expression("i.a from t"), @"");
}

#[test]
fn no_expression_is_an_error() {
    assert_snapshot!(expression(" -- later"), @"");
}

#[test]
fn breaking_out_of_parentheses_is_an_error() {
    assert_snapshot!(expression("i.a) from t union select (1"), @"");
    assert_snapshot!(expression("coalesce(i.a, (i.b)"), @"");
    assert_snapshot!(expression("i.a[1)"), @"");
}

#[test]
fn open_quotes_are_errors() {
    assert_snapshot!(expression("i.a || 'x"), @"");
    for sql in ["\"i", "$$ x", "/* x", "e'\\'"] {
        assert!(
            expression(sql).contains("never ends"),
            "{sql}: {}",
            expression(sql)
        );
    }
}

#[test]
fn parameters_are_errors() {
    assert_snapshot!(expression("i.a + $1"), @"");
}

#[test]
fn writing_is_an_error() {
    assert_snapshot!(expression("(with d as (delete from i returning id) select id from d)"), @"");
    for sql in [
        "(with d as (insert into t values (1) returning id) select id from d)",
        "(with d as (update t set a = 1 returning id) select id from d)",
        "(with d as (merge into t using u on true when matched then delete) select 1)",
        "(select id from t for update)",
        "(select id from t for share)",
        "(select id into x from t)",
        "coalesce(i.a, (select id from (select id from t for no key update) q))",
        "i.a ??? (delete from t)",
    ] {
        assert!(
            expression(sql).contains("project::sql-writes"),
            "{sql}: {}",
            expression(sql)
        );
    }
}

#[test]
fn unknown_syntax_is_a_warning() {
    let project = with_columns("a = \"i.a <+&+> i.b i.c\"").expect("a usable project");
    assert!(
        project
            .warnings()
            .iter()
            .all(|problem| problem.severity == Severity::Warning)
    );
    assert_snapshot!(project.warnings().render(false, 100), @"");
    assert_snapshot!(expression("case when i.a then"), @"");
}

#[test]
fn from_lists() {
    assert_snapshot!(said(from("office o where o.deleted")), @"");
    assert_snapshot!(said(from("select * from office")), @"");
    for (list, message) in [
        ("office o; drop table x", "more than one SQL statement"),
        ("office o group by o.id", "does not belong here"),
        ("office o union select 1", "does not belong here"),
        ("", "a FROM list is needed here"),
        ("a) q, (select 1", "unbalanced parentheses"),
        (
            "(with d as (delete from a returning *) select * from d) q",
            "project::sql-writes",
        ),
    ] {
        assert!(
            said(from(list)).contains(message),
            "{list}: {}",
            said(from(list))
        );
    }
}

#[test]
fn carets_are_right_in_multi_line_sql() {
    assert_snapshot!(
        said(with_columns("a = '''\ncase i.a\n  when 1 then 'ä' || i.b, 2\nend'''")),
        @""
    );
    assert_snapshot!(
        said(with_columns("a = \"\"\"\r\n  'ä' ||\r\n  i.b; x\"\"\"")),
        @""
    );
}

#[test]
fn escapes_make_the_caret_cover_the_string() {
    assert_snapshot!(said(with_columns("a = \"'\\u00e4' || i.a; x\"")), @"");
}

#[test]
fn deep_and_long_expressions_are_left_to_the_server() {
    let long = vec!["i.a"; 100_000].join("||");
    assert_eq!(expression(&long), "");
    let deep = format!("{}i.a{}", "(".repeat(300), ")".repeat(300));
    assert!(expression(&deep).contains("nested too deep"));
    let chain = vec!["a"; 1_900].join("+");
    assert_eq!(expression(&chain), "");
}
