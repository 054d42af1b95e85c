//! Which entities a command is about, and in which order.

use std::collections::BTreeSet;

use crate::graph::Graph;
use crate::manifest_reading::ALL;
use crate::name;
use crate::project::Project;
use crate::references::{column_references, references};

/// Entities in the order they can be moved: each after those it refers to, except inside a
/// cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    steps: Vec<EntityStep>,
}

impl Selection {
    /// The entities, dependencies first.
    pub fn entities(&self) -> &[EntityStep] {
        &self.steps
    }

    /// Whether `entity` was selected.
    pub fn contains(&self, entity: &str) -> bool {
        self.steps.iter().any(|step| step.entity == entity)
    }
}

/// One entity of a [`Selection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityStep {
    /// The entity's name.
    pub entity: String,
    /// Columns that refer to a selected entity of the same component, itself included, in file
    /// order: what they refer to may not have been moved yet.
    pub cyclic: Vec<String>,
    /// Number of the component, from 0, in dependency order. Entities that refer to each other
    /// in a circle share one.
    pub component: usize,
}

/// Names that are neither entities nor groups.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct SelectionError {
    /// The unknown names, in the order given.
    pub unknown: Vec<UnknownName>,
    /// All entities, sorted.
    pub entities: Vec<String>,
    /// All groups, in file order, the built-in `all` last.
    pub groups: Vec<String>,
}

/// A name that is neither an entity nor a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    /// The name as given.
    pub name: String,
    /// The known name that looks most like it.
    pub suggestion: Option<String>,
}

impl SelectionError {
    fn describe(&self) -> String {
        let unknown = self
            .unknown
            .iter()
            .map(|unknown| match &unknown.suggestion {
                _ if unknown.name.is_empty() => "an empty name stands for no entity".to_owned(),
                Some(near) => {
                    format!(
                        "no entity or group `{}` (did you mean `{near}`?)",
                        unknown.name
                    )
                }
                None => format!("no entity or group `{}`", unknown.name),
            });
        format!(
            "{}; entities: {}; groups: {}",
            unknown.collect::<Vec<_>>().join(", "),
            self.entities.join(", "),
            self.groups.join(", "),
        )
    }
}

/// Selects `names` of `project`; see [`Project::select`].
pub(crate) fn select(
    project: &Project,
    names: &[String],
    with_deps: bool,
) -> Result<Selection, SelectionError> {
    let mut chosen = named_entities(project, names)?;
    if with_deps {
        chosen = reference_graph(project, &all_entities(project)).reach(chosen);
    }
    let graph = reference_graph(project, &chosen);
    let steps = graph
        .components()
        .into_iter()
        .enumerate()
        .flat_map(|(number, component)| {
            let members: BTreeSet<&str> = component.iter().copied().collect();
            component
                .into_iter()
                .filter_map(move |name| step(project, name, number, &members))
        });
    Ok(Selection {
        steps: steps.collect(),
    })
}

/// Selects `names` of `project` and every entity that refers to one of them, at once or by way of
/// others; see [`Project::select_with_dependents`].
pub(crate) fn select_with_dependents(
    project: &Project,
    names: &[String],
) -> Result<Selection, SelectionError> {
    let chosen = named_entities(project, names)?;
    let entities = project.entities().iter();
    let edges = entities.flat_map(|entity| references(entity).map(|to| (to, entity.name.as_str())));
    let reached = Graph::new(all_entities(project), edges).reach(chosen);
    let reached: Vec<String> = reached.into_iter().map(str::to_owned).collect();
    select(project, &reached, false)
}

fn all_entities(project: &Project) -> BTreeSet<&str> {
    project
        .entities()
        .iter()
        .map(|entity| entity.name.as_str())
        .collect()
}

/// References among `chosen`; an entity that was not chosen can't be waited for.
fn reference_graph<'a>(project: &'a Project, chosen: &BTreeSet<&'a str>) -> Graph<'a> {
    let entities = project.entities().iter();
    let edges = entities.flat_map(|entity| references(entity).map(|to| (entity.name.as_str(), to)));
    Graph::new(chosen.iter().copied(), edges)
}

fn step(
    project: &Project,
    name: &str,
    component: usize,
    members: &BTreeSet<&str>,
) -> Option<EntityStep> {
    let columns = project.entity(name)?.columns.iter();
    let cyclic = columns
        .filter(|column| {
            column_references(column)
                .iter()
                .any(|entity| members.contains(entity.value.as_str()))
        })
        .map(|column| column.name.value.clone())
        .collect();
    Some(EntityStep {
        entity: name.to_owned(),
        cyclic,
        component,
    })
}

/// The entities that `names` stand for.
fn named_entities<'a>(
    project: &'a Project,
    names: &[String],
) -> Result<BTreeSet<&'a str>, SelectionError> {
    if names.is_empty() {
        return Ok(all_entities(project));
    }
    let mut chosen = BTreeSet::new();
    let mut unknown: Vec<&str> = Vec::new();
    for name in names.iter().flat_map(|name| name.split(',')).map(str::trim) {
        if name == ALL {
            chosen.extend(all_entities(project));
        } else if let Some(entity) = project.entity(name) {
            chosen.insert(entity.name.as_str());
        } else if project.manifest().groups.contains_key(name) {
            chosen.extend(group_members(project, name));
        } else if !unknown.contains(&name) {
            unknown.push(name);
        }
    }
    if unknown.is_empty() {
        Ok(chosen)
    } else {
        Err(selection_error(project, &unknown))
    }
}

/// The entities of a group, those of the groups in it included.
fn group_members<'a>(project: &'a Project, group: &str) -> BTreeSet<&'a str> {
    let groups = &project.manifest().groups;
    let mut chosen = BTreeSet::new();
    let mut seen = BTreeSet::from([group]);
    let mut open = vec![group];
    while let Some(members) = open.pop().and_then(|group| groups.get(group)) {
        for member in members {
            if let Some(entity) = project.entity(&member.value) {
                chosen.insert(entity.name.as_str());
            } else if seen.insert(&member.value) {
                open.push(&member.value);
            }
        }
    }
    chosen
}

fn selection_error(project: &Project, unknown: &[&str]) -> SelectionError {
    let entities: Vec<String> = project.entities().iter().map(|e| e.name.clone()).collect();
    let groups: Vec<String> = project
        .manifest()
        .groups
        .keys()
        .cloned()
        .chain([ALL.to_owned()])
        .collect();
    let unknown = unknown
        .iter()
        .map(|unknown| {
            let known = entities.iter().chain(&groups).map(String::as_str);
            UnknownName {
                name: (*unknown).to_owned(),
                suggestion: name::nearest(unknown, known).map(str::to_owned),
            }
        })
        .collect();
    SelectionError {
        unknown,
        entities,
        groups,
    }
}
