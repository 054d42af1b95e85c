//! What is said about mistakes in columns.

use insta::assert_snapshot;

use crate::fixture::{said, with_columns};

fn columns(lines: &str) -> String {
    said(with_columns(lines))
}

#[test]
fn a_constant_without_its_table() {
    assert_snapshot!(columns("a = 5\nb = [\"x\"]"), @r#"
    project::wrong-type

      × `a` must be an SQL expression or a table, not an integer
        ╭─[demo/entities/orders.toml:9:5]
      8 │ [columns]
      9 │ a = 5
        ·     ┬
        ·     ╰── this is an integer
     10 │ b = ["x"]
        ╰────
      help: for a constant write a = { value = ... }

    project::wrong-type

      × `b` must be an SQL expression or a table, not an array
        ╭─[demo/entities/orders.toml:10:5]
      9 │ a = 5
     10 │ b = ["x"]
        ·     ──┬──
        ·       ╰── this is an array
        ╰────
      help: for a constant write b = { value = ... }

    2 errors
    "#);
}

#[test]
fn a_table_without_a_rule() {
    assert_snapshot!(columns("a = { from = \"i.x\" }\nb = { refs = \"offices\", from = \"i.y\" }"), @r#"
    project::missing-key

      × this column has no rule
        ╭─[demo/entities/orders.toml:9:5]
      8 │ [columns]
      9 │ a = { from = "i.x" }
        ·     ────────┬───────
        ·             ╰── no key here tells where the value comes from
     10 │ b = { refs = "offices", from = "i.y" }
        ╰────
      help: add one of `sql`, `value`, `map`, `json`, `parse`, `ref`, `ref_by`

    project::unknown-key

      × unknown key `refs` in column `b`
        ╭─[demo/entities/orders.toml:10:7]
      9 │ a = { from = "i.x" }
     10 │ b = { refs = "offices", from = "i.y" }
        ·       ──┬─
        ·         ╰── not known here
        ╰────
      help: did you mean `ref`?

    2 errors
    "#);
}

#[test]
fn two_rules() {
    assert_snapshot!(columns("a = { sql = \"i.x\", value = 1 }"), @r#"
    project::two-rules

      × column `a` has both `sql` and `value`
       ╭─[demo/entities/orders.toml:9:5]
     8 │ [columns]
     9 │ a = { sql = "i.x", value = 1 }
       ·     ──────────────────────────
       ╰────
      help: a column has one rule; keep one of them
    "#);
}

#[test]
fn keys_of_another_form() {
    assert_snapshot!(
        columns("a = { from = \"i.x\", map = { 1 = \"a\" }, missing = \"null\", otherwize = \"b\" }"),
        @r#"
    project::unknown-key

      × unknown key `missing` in column `a`
       ╭─[demo/entities/orders.toml:9:40]
     8 │ [columns]
     9 │ a = { from = "i.x", map = { 1 = "a" }, missing = "null", otherwize = "b" }
       ·                                        ───┬───
       ·                                           ╰── goes with `ref`, not with `map`
       ╰────
      help: known keys: `from`, `map`, `null`, `otherwise`

    project::unknown-key

      × unknown key `otherwize` in column `a`
       ╭─[demo/entities/orders.toml:9:58]
     8 │ [columns]
     9 │ a = { from = "i.x", map = { 1 = "a" }, missing = "null", otherwize = "b" }
       ·                                                          ────┬────
       ·                                                              ╰── not known here
       ╰────
      help: did you mean `otherwise`?

    2 errors
    "#
    );
}

#[test]
fn provenance() {
    assert_snapshot!(
        columns("a = { sql = \"now()\", provenance = \"synthesized\" }\n\
                 b = { sql = \"now()\", provenance = \"mapped\" }"),
        @r#"
    project::bad-value

      × unknown provenance `synthesized`
        ╭─[demo/entities/orders.toml:9:35]
      8 │ [columns]
      9 │ a = { sql = "now()", provenance = "synthesized" }
        ·                                   ─────────────
     10 │ b = { sql = "now()", provenance = "mapped" }
        ╰────
      help: did you mean `synthesised`?

    project::bad-value

      × unknown provenance `mapped`
        ╭─[demo/entities/orders.toml:10:35]
      9 │ a = { sql = "now()", provenance = "synthesized" }
     10 │ b = { sql = "now()", provenance = "mapped" }
        ·                                   ────────
        ╰────
      help: provenances: `copied`, `derived`, `defaulted`, `heuristic`, `synthesised`

    2 errors
    "#
    );
}

#[test]
fn constants() {
    assert_snapshot!(
        columns("a = { value = 2024-01-01 }\nb = { value = [] }\nc = { value = \"x\\u0000\" }\n\
                 d = { value = 99999999999999999999 }"),
        @r#"
    project::wrong-type

      × `value` must be a string, a number or a boolean, not a date or time
        ╭─[demo/entities/orders.toml:9:15]
      8 │ [columns]
      9 │ a = { value = 2024-01-01 }
        ·               ─────┬────
        ·                    ╰── this is a date or time
     10 │ b = { value = [] }
        ╰────
      help: put it in quotes

    project::wrong-type

      × `value` must be a string, a number or a boolean, not an array
        ╭─[demo/entities/orders.toml:10:15]
      9 │ a = { value = 2024-01-01 }
     10 │ b = { value = [] }
        ·               ─┬
        ·                ╰── this is an array
     11 │ c = { value = "x\u0000" }
        ╰────

    project::bad-value

      × PostgreSQL's text can't hold a NUL character
        ╭─[demo/entities/orders.toml:11:15]
     10 │ b = { value = [] }
     11 │ c = { value = "x\u0000" }
        ·               ─────────
     12 │ d = { value = 99999999999999999999 }
        ╰────
      help: remove the \u0000

    project::out-of-range

      × this integer is too large
        ╭─[demo/entities/orders.toml:12:15]
     11 │ c = { value = "x\u0000" }
     12 │ d = { value = 99999999999999999999 }
        ·               ────────────────────
        ╰────
      help: write it as a string

    4 errors
    "#
    );
}

#[test]
fn maps() {
    assert_snapshot!(columns("a = { from = \"i.x\", map = {} }"), @r#"
    project::empty-map

      × `map` is empty
       ╭─[demo/entities/orders.toml:9:27]
     8 │ [columns]
     9 │ a = { from = "i.x", map = {} }
       ·                           ─┬
       ·                            ╰── no value is named here
       ╰────
      help: write at least one: map = { 0 = "..." }
    "#);
    assert_snapshot!(columns("a = { map = { 1 = \"a\", 1 = \"b\", 1.5 = \"c\", x = [] } }"), @r#"
    project::duplicate-key

      × `1` is defined twice
       ╭─[demo/entities/orders.toml:9:24]
     8 │ [columns]
     9 │ a = { map = { 1 = "a", 1 = "b", 1.5 = "c", x = [] } }
       ·                        ┬
       ·                        ╰── the second definition
       ╰────
      help: remove or rename one of the two

    project::syntax

      × not valid TOML: cannot extend value of type string with a dotted key
       ╭─[demo/entities/orders.toml:9:33]
     8 │ [columns]
     9 │ a = { map = { 1 = "a", 1 = "b", 1.5 = "c", x = [] } }
       ·                                 ─
       ╰────
      help: a dot in a key means a table; put such a key in quotes: "1.5" = ...

    2 errors
    "#);
}

#[test]
fn json() {
    assert_snapshot!(columns("a = { json = { b = 1, c = { d = \"i.x,\" } } }\nb = { json = \"i.x\" }"), @r#"
    project::wrong-type

      × `b` must be an SQL expression or a table of them, not an integer
        ╭─[demo/entities/orders.toml:9:20]
      8 │ [columns]
      9 │ a = { json = { b = 1, c = { d = "i.x," } } }
        ·                    ┬
        ·                    ╰── this is an integer
     10 │ b = { json = "i.x" }
        ╰────
      help: put a constant in quotes: it is an SQL expression, too

    project::sql

      × more than one SQL expression
        ╭─[demo/entities/orders.toml:9:37]
      8 │ [columns]
      9 │ a = { json = { b = 1, c = { d = "i.x," } } }
        ·                                     ┬
        ·                                     ╰── a second one begins here
     10 │ b = { json = "i.x" }
        ╰────
      help: one expression makes one value; use `||` or a function to join values

    project::wrong-type

      × `json` must be a table, not a string
        ╭─[demo/entities/orders.toml:10:14]
      9 │ a = { json = { b = 1, c = { d = "i.x," } } }
     10 │ b = { json = "i.x" }
        ·              ──┬──
        ·                ╰── this is a string
        ╰────

    3 errors
    "#);
}

#[test]
fn parse() {
    assert_snapshot!(
        columns("a = { parse = \"i.x\", bad = \"nul\", empty = \"{\" }\n\
                 b = { parse = \"i.x\", bad = { keepas = \"raw\" }, empty = { value = \"{}\" } }"),
        @r#"
    project::bad-value

      × `bad` can't be `nul`
        ╭─[demo/entities/orders.toml:9:28]
      8 │ [columns]
      9 │ a = { parse = "i.x", bad = "nul", empty = "{" }
        ·                            ──┬──
        ·                              ╰── not known here
     10 │ b = { parse = "i.x", bad = { keepas = "raw" }, empty = { value = "{}" } }
        ╰────
      help: did you mean "null"?

    project::bad-value

      × `empty` can't be `{`
        ╭─[demo/entities/orders.toml:9:43]
      8 │ [columns]
      9 │ a = { parse = "i.x", bad = "nul", empty = "{" }
        ·                                           ─┬─
        ·                                            ╰── not known here
     10 │ b = { parse = "i.x", bad = { keepas = "raw" }, empty = { value = "{}" } }
        ╰────
      help: write "null", "quarantine" or JSON text such as "{}"

    project::unknown-key

      × unknown key `keepas` in `bad`
        ╭─[demo/entities/orders.toml:10:30]
      9 │ a = { parse = "i.x", bad = "nul", empty = "{" }
     10 │ b = { parse = "i.x", bad = { keepas = "raw" }, empty = { value = "{}" } }
        ·                              ───┬──
        ·                                 ╰── not known here
        ╰────
      help: did you mean `keep_as`?

    project::wrong-type

      × `empty` must be "null", "quarantine" or JSON text such as "{}", not a table
        ╭─[demo/entities/orders.toml:10:56]
      9 │ a = { parse = "i.x", bad = "nul", empty = "{" }
     10 │ b = { parse = "i.x", bad = { keepas = "raw" }, empty = { value = "{}" } }
        ·                                                        ────────┬───────
        ·                                                                ╰── this is a table
        ╰────

    4 errors
    "#
    );
}

#[test]
fn references() {
    assert_snapshot!(
        columns("a = { ref = \"office\", from = \"i.x\" }\n\
                 b = { ref = \"tasks\", from = \"i.x\", missing = \"ignore\" }\n\
                 c = { ref = \"offices\", missing = { defaults = \"x\" } }"),
        @r#"
    project::unknown-entity

      × unknown entity `office`
        ╭─[demo/entities/orders.toml:9:13]
      8 │ [columns]
      9 │ a = { ref = "office", from = "i.x" }
        ·             ────┬───
        ·                 ╰── no file of this name in entities/
     10 │ b = { ref = "tasks", from = "i.x", missing = "ignore" }
        ╰────
      help: did you mean `offices`?

    project::unknown-entity

      × unknown entity `tasks`
        ╭─[demo/entities/orders.toml:10:13]
      9 │ a = { ref = "office", from = "i.x" }
     10 │ b = { ref = "tasks", from = "i.x", missing = "ignore" }
        ·             ───┬───
        ·                ╰── no file of this name in entities/
     11 │ c = { ref = "offices", missing = { defaults = "x" } }
        ╰────
      help: entities: `offices`, `orders`, `patients`

    project::bad-value

      × `missing` can't be `ignore`
        ╭─[demo/entities/orders.toml:10:46]
      9 │ a = { ref = "office", from = "i.x" }
     10 │ b = { ref = "tasks", from = "i.x", missing = "ignore" }
        ·                                              ────┬───
        ·                                                  ╰── not known here
     11 │ c = { ref = "offices", missing = { defaults = "x" } }
        ╰────
      help: write "quarantine", "null" or { default = "..." }

    project::missing-key

      × column `c` lacks `from`
        ╭─[demo/entities/orders.toml:11:5]
     10 │ b = { ref = "tasks", from = "i.x", missing = "ignore" }
     11 │ c = { ref = "offices", missing = { defaults = "x" } }
        ·     ────────────────────────┬────────────────────────
        ·                             ╰── `from` is missing
        ╰────
      help: add it, like this: from = "i.patient_id"

    project::unknown-key

      × unknown key `defaults` in `missing`
        ╭─[demo/entities/orders.toml:11:36]
     10 │ b = { ref = "tasks", from = "i.x", missing = "ignore" }
     11 │ c = { ref = "offices", missing = { defaults = "x" } }
        ·                                    ────┬───
        ·                                        ╰── not known here
        ╰────
      help: did you mean `default`?

    5 errors
    "#
    );
}

#[test]
fn polymorphic_references() {
    assert_snapshot!(
        columns("a = { ref_by = \"i.t\", from = \"i.x\" }\n\
                 b = { ref_by = \"i.t\", from = \"i.x\", cases = {} }\n\
                 c = { ref_by = \"i.t\", from = \"i.x\", cases = { 1 = \"offices\", 2 = \"doctors\" } }"),
        @r#"
    project::missing-key

      × column `a` lacks `cases`
        ╭─[demo/entities/orders.toml:9:5]
      8 │ [columns]
      9 │ a = { ref_by = "i.t", from = "i.x" }
        ·     ────────────────┬───────────────
        ·                     ╰── `cases` is missing
     10 │ b = { ref_by = "i.t", from = "i.x", cases = {} }
        ╰────
      help: add it, like this: cases = { 11 = "patients", 58 = "profiles" }

    project::empty-map

      × `cases` is empty
        ╭─[demo/entities/orders.toml:10:45]
      9 │ a = { ref_by = "i.t", from = "i.x" }
     10 │ b = { ref_by = "i.t", from = "i.x", cases = {} }
        ·                                             ─┬
        ·                                              ╰── no value is named here
     11 │ c = { ref_by = "i.t", from = "i.x", cases = { 1 = "offices", 2 = "doctors" } }
        ╰────
      help: write at least one: cases = { 0 = "..." }

    project::unknown-entity

      × unknown entity `doctors`
        ╭─[demo/entities/orders.toml:11:66]
     10 │ b = { ref_by = "i.t", from = "i.x", cases = {} }
     11 │ c = { ref_by = "i.t", from = "i.x", cases = { 1 = "offices", 2 = "doctors" } }
        ·                                                                  ────┬────
        ·                                                                      ╰── no file of this name in entities/
        ╰────
      help: entities: `offices`, `orders`, `patients`

    3 errors
    "#
    );
}

#[test]
fn column_names() {
    assert_snapshot!(columns("\"\" = \"i.a\"\n\"a\\\"b\" = \"i.b\""), @r#"
    project::bad-name

      × a column name is empty
        ╭─[demo/entities/orders.toml:9:1]
      8 │ [columns]
      9 │ "" = "i.a"
        · ──
     10 │ "a\"b" = "i.b"
        ╰────

    project::bad-name

      × a column name holds a quote; names are quoted for you
        ╭─[demo/entities/orders.toml:10:1]
      9 │ "" = "i.a"
     10 │ "a\"b" = "i.b"
        · ──────
        ╰────

    2 errors
    "#);
}

#[test]
fn map_keys_with_a_dot() {
    assert_snapshot!(columns("a = { from = \"i.x\", map = { 1.5 = \"c\", x = [] } }"), @r#"
    project::wrong-type

      × `1` is a table here
       ╭─[demo/entities/orders.toml:9:29]
     8 │ [columns]
     9 │ a = { from = "i.x", map = { 1.5 = "c", x = [] } }
       ·                             ┬
       ·                             ╰── TOML reads a dot in a key as a table in a table
       ╰────
      help: put keys with a dot in quotes: "1.5" = ...

    project::wrong-type

      × `x` must be a string, a number or a boolean, not an array
       ╭─[demo/entities/orders.toml:9:44]
     8 │ [columns]
     9 │ a = { from = "i.x", map = { 1.5 = "c", x = [] } }
       ·                                            ─┬
       ·                                             ╰── this is an array
       ╰────

    2 errors
    "#);
}
