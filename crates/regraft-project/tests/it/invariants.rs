//! What is understood of invariants, and what is said of those that are wrong.

use insta::assert_snapshot;
use regraft_project::{InvariantForm, Problems, Project, Tolerance};

use crate::fixture::{file, files, said};

fn with(text: &str) -> Result<Project, Problems> {
    let mut files = files();
    files.push(file("invariants/money.toml", text));
    files.push(file(
        "entities/payments.toml",
        r#"[source]
from = "payment y"
key = "y.id"
[target]
table = "payments"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
status = { from = "y.status", map = { 1 = "paid" } }
amount = "y.amount"
office_id = { ref = "offices", from = "y.office_id" }
note = { parse = "y.note" }
item_id = { ref_by = "y.kind", cases = { 1 = "offices" }, from = "y.item" }
"#,
    ));
    Project::from_files("demo", files)
}

#[test]
fn both_forms_are_understood() {
    let project = with(
        r#"[by-status]
description = "to the cent"
entity = "payments"
by = "status"
measure = ["count(*)", "sum(amount) filter (where Status <> 'void')"]

[by-hand]
source = "select p.kind, count(*), 1 from patient p join {moved:patients} m on m.legacy_id = p.id group by 1"
target = """
with a as (select 1) select k, count(*), 1 from {moved:patients} m join patients p on p.id = m.new_id group by 1"""
keys = 1
entities = ["offices"]
tolerance = "0.5 %"
"#,
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let [first, second] = project.invariants() else {
        panic!("{:?}", project.invariants());
    };
    let InvariantForm::Entity { by, measures, .. } = &first.form else {
        panic!("{first:?}");
    };
    let columns: Vec<&[String]> = by
        .iter()
        .chain(measures)
        .map(|figure| &figure.columns[..])
        .collect();
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        columns,
        [named(&["status"]), named(&[]), named(&["amount", "status"])]
    );
    assert_eq!(first.tolerance, Tolerance::Exact);
    assert_eq!(first.entities(), ["payments"]);
    assert_eq!(second.tolerance, Tolerance::Percent("0.5".to_owned()));
    assert_eq!(second.entities(), ["offices", "patients"]);
    let InvariantForm::Queries { target, keys, .. } = &second.form else {
        panic!("{second:?}");
    };
    assert_eq!(*keys, Some(1));
    assert!(
        target
            .expand(|entity| format!("<{entity}>"))
            .contains("from <patients> m")
    );
}

#[test]
fn invariants_are_part_of_the_projects_hash() {
    let of = |measure: &str| {
        with(&format!(
            "[a]\nentity = \"payments\"\nmeasure = \"{measure}\"\n"
        ))
        .unwrap_or_else(|problems| panic!("{problems}"))
        .hash()
        .to_owned()
    };
    assert_ne!(of("count(*)"), of("count(amount)"));
    assert_eq!(of("count(*)"), of("count(*)"));
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    assert_snapshot!(said(with(
        r#"[a]
entity = "payment"
measure = "count(*)"
[b]
entity = "payments"
by = ["statsu"]
measure = ["sum(amout)", "count(note)", "count(distinct item_id)"]
[c]
entity = "payments"
measure = []
[d]
entity = "payments"
measure = ["sum(p.amount)", "(select 1)", "sum(amount) from x"]
[e]
entity = "payments"
measure = "count(*)"
source = "select 1"
[f]
source = "select 1"
keys = 1
by = "status"
[g]
source = "delete from x"
target = "select count(*) from {moved:patiens} m join {legacy:offices} o on true"
tolerance = "a bit"
[h]
source = "select 1; select 2"
target = "with x as (delete from offices returning 1) select 1 from {moved:offices} o"
keys = -1
"#
    )));
}

#[test]
fn names_are_given_once() {
    let mut files = files();
    let text = "[Rows]\nentity = \"offices\"\nmeasure = \"count(*)\"\n[all]\nentity = \"offices\"\nmeasure = \"count(*)\"\n";
    files.push(file("invariants/a.toml", text));
    files.push(file("invariants/b.toml", &text.replace("Rows", "rows")));
    files.push(file("invariants/c.toml", "# none yet\n"));
    assert_snapshot!(said(Project::from_files("demo", files)));
}
