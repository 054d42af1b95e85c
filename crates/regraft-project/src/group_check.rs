//! Groups: their members exist, and none contains itself.

use indexmap::IndexMap;

use crate::document::Reading;
use crate::graph::Graph;
use crate::manifest_reading::ALL;
use crate::name;
use crate::problem::Problem;
use crate::source_files::Spanned;

/// Reports unknown, repeated and circular members of `groups`.
pub(crate) fn check_groups(reading: &Reading<'_>, groups: &IndexMap<String, Vec<Spanned<String>>>) {
    let graph = Graph::new(
        groups.keys().map(String::as_str),
        groups.iter().flat_map(|(group, members)| {
            members
                .iter()
                .map(|member| (group.as_str(), member.value.as_str()))
        }),
    );
    for (group, members) in groups {
        for (index, member) in members.iter().enumerate() {
            if members[..index].contains(member) {
                reading.report(
                    Problem::warning(
                        "project::repeated-member",
                        format!("`{}` is in the group `{group}` twice", member.value),
                    )
                    .at(member.span)
                    .hint("remove one of the two"),
                );
            } else if groups.contains_key(&member.value) {
                check_circle(reading, &graph, group, member);
            } else {
                require_member(reading, groups, member);
            }
        }
    }
}

fn require_member(
    reading: &Reading<'_>,
    groups: &IndexMap<String, Vec<Spanned<String>>>,
    member: &Spanned<String>,
) {
    if reading.entities.contains(&member.value) {
        return;
    }
    if member.value == ALL {
        reading.report(
            Problem::error("project::bad-value", "`all` can't be part of a group")
                .at(member.span)
                .hint("use `all` itself on the command line, or name entities here"),
        );
        return;
    }
    let known = reading
        .entities
        .iter()
        .chain(groups.keys())
        .map(String::as_str);
    reading.report(
        Problem::error(
            "project::unknown-entity",
            format!("unknown entity or group `{}`", member.value),
        )
        .at(member.span)
        .label("neither an entity nor a group")
        .hint(name::suggestion(
            &member.value,
            "entities and groups",
            known,
        )),
    );
}

fn check_circle(reading: &Reading<'_>, graph: &Graph<'_>, group: &str, member: &Spanned<String>) {
    let Some(back) = graph.path(&member.value, group) else {
        return;
    };
    reading.report(
        Problem::error(
            "project::group-cycle",
            format!("group `{group}` contains itself"),
        )
        .at(member.span)
        .label(format!("{group} → {}", back.join(" → ")))
        .hint("remove one of these members"),
    );
}
