//! Which entities are selected, and in which order.

use insta::assert_snapshot;
use regraft_project::{Project, Selection, SelectionError};

use crate::fixture::{OFFICES, file};

/// A project of entities with references, and groups.
///
/// `a → b → c → a` is a circle, `d` refers to itself, `e → b`, `f` stands alone, `g` has the
/// key of `f` and a polymorphic reference to `e` and `g`.
fn project() -> Project {
    let manifest = "version = 1\nname = \"graph\"\n[groups]\n\
                    pair = [\"f\", \"g\"]\nnested = [\"pair\", \"d\"]\n";
    let entity = |columns: &str| OFFICES.replace("title = \"o.title\"", columns);
    let refer =
        |column: &str, to: &str| format!("{column} = {{ ref = \"{to}\", from = \"o.x\" }}\n");
    let same_as = "\"same_as\", entity = \"f\"";
    Project::from_files(
        "graph",
        vec![
            file("regraft.toml", manifest),
            file("entities/a.toml", &entity(&refer("b_id", "b"))),
            file(
                "entities/b.toml",
                &entity(&(refer("d_id", "d") + &refer("c_id", "c"))),
            ),
            file("entities/c.toml", &entity(&refer("a_id", "a"))),
            file(
                "entities/d.toml",
                &entity(&(refer("up", "d") + &refer("down", "d"))),
            ),
            file("entities/e.toml", &entity(&refer("b_id", "b"))),
            file("entities/f.toml", &entity("")),
            file(
                "entities/g.toml",
                &entity(
                    "any = { ref_by = \"o.t\", cases = { 1 = \"e\", 2 = \"g\" }, from = \"o.x\" }",
                )
                .replace("\"uuid_v5\"", same_as),
            ),
        ],
    )
    .unwrap_or_else(|problems| panic!("{problems}"))
}

fn select(names: &[&str], with_deps: bool) -> Result<Selection, SelectionError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    project().select(&names, with_deps)
}

/// The selection in one line: component number, name, cyclic columns.
fn shown(names: &[&str], with_deps: bool) -> String {
    let selection = select(names, with_deps).unwrap_or_else(|error| panic!("{error}"));
    let steps = selection.entities().iter().map(|step| {
        let cyclic = if step.cyclic.is_empty() {
            String::new()
        } else {
            format!("[{}]", step.cyclic.join(","))
        };
        format!("{}{}{cyclic}", step.component, step.entity)
    });
    steps.collect::<Vec<_>>().join(" ")
}

#[test]
fn everything_comes_after_what_it_refers_to() {
    let all = "0d[up,down] 1a[b_id] 1b[c_id] 1c[a_id] 2e 3f 4g[any]";
    assert_eq!(shown(&[], false), all);
    assert_eq!(shown(&["all"], false), all);
    assert_eq!(shown(&["g,all", "f"], true), all);
}

#[test]
fn names_groups_and_commas() {
    assert_eq!(shown(&["f"], false), "0f");
    assert_eq!(shown(&["e, f", "f"], false), "0e 1f");
    assert_eq!(shown(&["pair"], false), "0f 1g[any]");
    assert_eq!(shown(&["nested"], false), "0d[up,down] 1f 2g[any]");
}

#[test]
fn an_entity_that_was_not_chosen_closes_no_circle() {
    assert_eq!(shown(&["a", "b"], false), "0b 1a");
    assert_eq!(shown(&["a"], false), "0a");
}

#[test]
fn dependencies_come_along_when_asked_for() {
    assert_eq!(
        shown(&["e"], true),
        "0d[up,down] 1a[b_id] 1b[c_id] 1c[a_id] 2e"
    );
    assert_eq!(shown(&["f"], true), "0f");
    let project = project();
    assert_eq!(project.dependencies("b"), ["c", "d"]);
    assert_eq!(project.dependencies("d"), ["d"]);
    assert_eq!(project.dependencies("g"), ["e", "f", "g"]);
    assert!(project.dependencies("nobody").is_empty());
}

#[test]
fn unknown_names_are_all_named_with_what_there_is() {
    let error = select(&["a,nested1", "zebra", "f"], false).expect_err("unknown names");
    assert_snapshot!(error, @"no entity or group `nested1` (did you mean `nested`?), no entity or group `zebra`; entities: a, b, c, d, e, f, g; groups: pair, nested, all");
    assert_snapshot!(select(&[""], false).expect_err("an empty name"), @"an empty name stands for no entity; entities: a, b, c, d, e, f, g; groups: pair, nested, all");
}
