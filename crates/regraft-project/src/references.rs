//! References between entities.

use crate::column::{Column, Rule};
use crate::document::Reading;
use crate::entity::{Entity, KeyStrategy};
use crate::entity_reading::Draft;
use crate::graph::Graph;
use crate::problem::Problem;
use crate::source_files::Spanned;

/// Entities whose keys may end up in `column`.
pub(crate) fn column_references(column: &Column) -> Vec<&Spanned<String>> {
    match &column.rule {
        Rule::Ref { entity, .. } => vec![entity],
        Rule::RefBy { cases, .. } => cases.iter().map(|(_, entity)| entity).collect(),
        _ => Vec::new(),
    }
}

/// The entity a key is taken from, for `same_as`.
fn key_reference(strategy: &KeyStrategy) -> Option<&Spanned<String>> {
    match strategy {
        KeyStrategy::SameAs { entity, .. } => Some(entity),
        _ => None,
    }
}

/// Everything `entity` refers to, columns first; names may repeat.
pub(crate) fn references(entity: &Entity) -> impl Iterator<Item = &str> {
    all_references(Some(&entity.target.key.strategy), &entity.columns)
}

fn all_references<'a>(
    strategy: Option<&'a KeyStrategy>,
    columns: &'a [Column],
) -> impl Iterator<Item = &'a str> {
    columns
        .iter()
        .flat_map(column_references)
        .chain(strategy.and_then(key_reference))
        .map(|entity| entity.value.as_str())
}

/// Reports keys that are taken from an entity which, directly or not, refers back: a key must
/// be known before the row is written, so no order of the entities could work.
pub(crate) fn check_same_as(reading: &Reading<'_>, drafts: &[Draft]) {
    let graph = Graph::new(
        drafts.iter().map(|draft| draft.name.as_str()),
        drafts.iter().flat_map(|draft| {
            all_references(draft.strategy(), &draft.columns)
                .map(|entity| (draft.name.as_str(), entity))
        }),
    );
    for draft in drafts {
        let Some(entity) = draft.strategy().and_then(key_reference) else {
            continue;
        };
        let Some(back) = graph.path(&entity.value, &draft.name) else {
            continue;
        };
        reading.report(
            Problem::error(
                "project::same-as-cycle",
                format!("the key of `{}` depends on itself", draft.name),
            )
            .at(entity.span)
            .label(format!("{} → {}", draft.name, back.join(" → ")))
            .hint("`same_as` can't be part of a circle; derive one of these keys (uuid_v5)"),
        );
    }
}
