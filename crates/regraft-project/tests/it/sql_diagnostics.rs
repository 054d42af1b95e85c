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
    assert_snapshot!(expression("i.a; drop table i"), @r#"
    project::sql

      × more than one SQL statement
       ╭─[demo/entities/orders.toml:9:11]
     8 │ [columns]
     9 │ a = '''i.a; drop table i'''
       ·           ┬
       ·           ╰── a statement ends here
       ╰────
      help: remove the `;`: this is pasted into a larger statement
    "#);
    assert_snapshot!(expression("select i.a"), @r#"
    project::sql

      × a query where an SQL expression is needed
       ╭─[demo/entities/orders.toml:9:8]
     8 │ [columns]
     9 │ a = '''select i.a'''
       ·        ───┬──
       ·           ╰── a query begins here
       ╰────
      help: put a sub-select in parentheses: "(select ...)"
    "#);
}

#[test]
fn several_expressions_are_errors() {
    assert_snapshot!(expression("i.a, i.b"), @r#"
    project::sql

      × more than one SQL expression
       ╭─[demo/entities/orders.toml:9:11]
     8 │ [columns]
     9 │ a = '''i.a, i.b'''
       ·           ┬
       ·           ╰── a second one begins here
       ╰────
      help: one expression makes one value; use `||` or a function to join values
    "#);
    assert_snapshot!(expression("i.a as b"), @r#"
    project::sql

      × an expression has no name here
       ╭─[demo/entities/orders.toml:9:12]
     8 │ [columns]
     9 │ a = '''i.a as b'''
       ·            ─┬
       ·             ╰── a name begins here
       ╰────
      help: the column is named by its key; remove the `as ...`
    "#);
    assert_snapshot!(expression("i.a from t"), @r#"
    project::sql

      × `from` does not belong here
       ╭─[demo/entities/orders.toml:9:12]
     8 │ [columns]
     9 │ a = '''i.a from t'''
       ·            ──┬─
       ·              ╰── the expression ends before this
       ╰────
      help: put a sub-select in parentheses: "(select ...)"
    "#);
}

#[test]
fn no_expression_is_an_error() {
    assert_snapshot!(expression(" -- later"), @r#"
    project::sql

      × an SQL expression is needed here
       ╭─[demo/entities/orders.toml:9:5]
     8 │ [columns]
     9 │ a = ''' -- later'''
       ·     ───────┬───────
       ·            ╰── there is no SQL in this string
       ╰────
    "#);
}

#[test]
fn breaking_out_of_parentheses_is_an_error() {
    assert_snapshot!(expression("i.a) from t union select (1"), @r#"
    project::sql

      × unbalanced parentheses
       ╭─[demo/entities/orders.toml:9:11]
     8 │ [columns]
     9 │ a = '''i.a) from t union select (1'''
       ·           ┬
       ·           ╰── this one closes nothing
       ╰────
    "#);
    assert_snapshot!(expression("coalesce(i.a, (i.b)"), @r#"
    project::sql

      × unbalanced parentheses
       ╭─[demo/entities/orders.toml:9:16]
     8 │ [columns]
     9 │ a = '''coalesce(i.a, (i.b)'''
       ·                ┬
       ·                ╰── this one is never closed
       ╰────
    "#);
    assert_snapshot!(expression("i.a[1)"), @r#"
    project::sql

      × unbalanced parentheses
       ╭─[demo/entities/orders.toml:9:13]
     8 │ [columns]
     9 │ a = '''i.a[1)'''
       ·             ┬
       ·             ╰── this one closes nothing
       ╰────
    "#);
}

#[test]
fn open_quotes_are_errors() {
    assert_snapshot!(expression("i.a || 'x"), @r#"
    project::sql

      × a quote or a comment in this SQL never ends
       ╭─[demo/entities/orders.toml:9:15]
     8 │ [columns]
     9 │ a = '''i.a || 'x'''
       ·               ┬
       ·               ╰── unterminated string literal
       ╰────
    "#);
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
    assert_snapshot!(expression("i.a + $1"), @r#"
    project::sql

      × `$1` has no value here
       ╭─[demo/entities/orders.toml:9:14]
     8 │ [columns]
     9 │ a = '''i.a + $1'''
       ·              ─┬
       ·               ╰── a parameter
       ╰────
      help: write the constant itself
    "#);
}

#[test]
fn writing_is_an_error() {
    assert_snapshot!(expression("(with d as (delete from i returning id) select id from d)"), @r#"
    project::sql-writes

      × this SQL would write to the source, or lock it
       ╭─[demo/entities/orders.toml:9:20]
     8 │ [columns]
     9 │ a = '''(with d as (delete from i returning id) select id from d)'''
       ·                    ───┬──
       ·                       ╰── not a plain read
       ╰────
      help: the source is only read; compute the value with a plain SELECT
    "#);
    for sql in [
        "(with d as (insert into t values (1) returning id) select id from d)",
        "(with d as (update t set a = 1 returning id) select id from d)",
        "(with d as (merge into t using u on true when matched then delete) select 1)",
        "(select id from t for update)",
        "(select id from t for share)",
        "(select id into x from t)",
        "coalesce(i.a, (select id from (select id from t for update) q))",
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
    assert_snapshot!(project.warnings().render(false, 100), @r#"
    project::unchecked-sql

      ⚠ this SQL can't be checked here
       ╭─[demo/entities/orders.toml:9:12]
     8 │ [columns]
     9 │ a = "i.a <+&+> i.b i.c"
       ·            ─┬─
       ·             ╰── expected: an expression, found: &+>
       ╰────
      help: PostgreSQL may know more than this check: the source server decides when the plan is made
    "#);
    assert_snapshot!(expression("case when i.a then"), @r#"
    project::unchecked-sql

      ⚠ this SQL can't be checked here
       ╭─[demo/entities/orders.toml:9:13]
     8 │ [columns]
     9 │ a = '''case when i.a then'''
       ·             ──┬─
       ·               ╰── `when` was not expected
       ╰────
      help: PostgreSQL may know more than this check: the source server decides when the plan is made
    "#);
}

#[test]
fn from_lists() {
    assert_snapshot!(said(from("office o where o.deleted")), @r#"
    project::sql

      × `from` is only a FROM list
       ╭─[demo/entities/orders.toml:2:20]
     1 │ [source]
     2 │ from = '''office o where o.deleted'''
       ·                    ──┬──
       ·                      ╰── a condition begins here
     3 │ key = "o.id"
       ╰────
      help: drop rows with a named [[source.filter]], so that they are counted
    "#);
    assert_snapshot!(said(from("select * from office")), @r#"
    project::sql

      × a query where a FROM list is needed
       ╭─[demo/entities/orders.toml:2:11]
     1 │ [source]
     2 │ from = '''select * from office'''
       ·           ───┬──
       ·              ╰── a query begins here
     3 │ key = "o.id"
       ╰────
      help: put it in parentheses and name it: "(select ...) as q"
    "#);
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
        @r#"
    project::sql

      × more than one SQL expression
        ╭─[demo/entities/orders.toml:11:26]
     10 │ case i.a
     11 │   when 1 then 'ä' || i.b, 2
        ·                         ┬
        ·                         ╰── a second one begins here
     12 │ end'''
        ╰────
      help: one expression makes one value; use `||` or a function to join values
    "#
    );
    assert_snapshot!(
        said(with_columns("a = \"\"\"\r\n  'ä' ||\r\n  i.b; x\"\"\"")),
        @r#"
    project::sql

      × more than one SQL statement
        ╭─[demo/entities/orders.toml:11:6]
     10 │   'ä' ||
     11 │   i.b; x"""
        ·      ┬
        ·      ╰── a statement ends here
        ╰────
      help: remove the `;`: this is pasted into a larger statement
    "#
    );
}

#[test]
fn escapes_make_the_caret_cover_the_string() {
    assert_snapshot!(said(with_columns("a = \"'\\u00e4' || i.a; x\"")), @r#"
    project::sql

      × more than one SQL statement
       ╭─[demo/entities/orders.toml:9:5]
     8 │ [columns]
     9 │ a = "'\u00e4' || i.a; x"
       ·     ──────────┬─────────
       ·               ╰── a statement ends here
       ╰────
      help: remove the `;`: this is pasted into a larger statement
    "#);
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
