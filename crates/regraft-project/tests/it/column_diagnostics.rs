//! What is said about mistakes in columns.

use insta::assert_snapshot;

use crate::fixture::{said, with_columns};

fn columns(lines: &str) -> String {
    said(with_columns(lines))
}

#[test]
fn a_constant_without_its_table() {
    assert_snapshot!(columns("a = 5\nb = [\"x\"]"), @"");
}

#[test]
fn a_table_without_a_rule() {
    assert_snapshot!(columns("a = { from = \"i.x\" }\nb = { refs = \"offices\", from = \"i.y\" }"), @"");
}

#[test]
fn two_rules() {
    assert_snapshot!(columns("a = { sql = \"i.x\", value = 1 }"), @"");
}

#[test]
fn keys_of_another_form() {
    assert_snapshot!(
        columns("a = { from = \"i.x\", map = { 1 = \"a\" }, missing = \"null\", otherwize = \"b\" }"),
        @""
    );
}

#[test]
fn provenance() {
    assert_snapshot!(
        columns("a = { sql = \"now()\", provenance = \"synthesized\" }\n\
                 b = { sql = \"now()\", provenance = \"mapped\" }"),
        @""
    );
}

#[test]
fn constants() {
    assert_snapshot!(
        columns("a = { value = 2024-01-01 }\nb = { value = [] }\nc = { value = \"x\\u0000\" }\n\
                 d = { value = 99999999999999999999 }"),
        @""
    );
}

#[test]
fn maps() {
    assert_snapshot!(columns("a = { from = \"i.x\", map = {} }"), @"");
    assert_snapshot!(columns("a = { map = { 1 = \"a\", 1 = \"b\", 1.5 = \"c\", x = [] } }"), @"");
}

#[test]
fn json() {
    assert_snapshot!(columns("a = { json = { b = 1, c = { d = \"i.x,\" } } }\nb = { json = \"i.x\" }"), @"");
}

#[test]
fn parse() {
    assert_snapshot!(
        columns("a = { parse = \"i.x\", bad = \"nul\", empty = \"{\" }\n\
                 b = { parse = \"i.x\", bad = { keepas = \"raw\" }, empty = { value = \"{}\" } }"),
        @""
    );
}

#[test]
fn references() {
    assert_snapshot!(
        columns("a = { ref = \"office\", from = \"i.x\" }\n\
                 b = { ref = \"tasks\", from = \"i.x\", missing = \"ignore\" }\n\
                 c = { ref = \"offices\", missing = { defaults = \"x\" } }"),
        @""
    );
}

#[test]
fn polymorphic_references() {
    assert_snapshot!(
        columns("a = { ref_by = \"i.t\", from = \"i.x\" }\n\
                 b = { ref_by = \"i.t\", from = \"i.x\", cases = {} }\n\
                 c = { ref_by = \"i.t\", from = \"i.x\", cases = { 1 = \"offices\", 2 = \"doctors\" } }"),
        @""
    );
}

#[test]
fn column_names() {
    assert_snapshot!(columns("\"\" = \"i.a\"\n\"a\\\"b\" = \"i.b\""), @"");
}
