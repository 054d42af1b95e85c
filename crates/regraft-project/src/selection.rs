//! Which entities a command is about, and in which order.

/// Entities in the order they can be moved: each after those it refers to, except inside a
/// cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub(crate) steps: Vec<EntityStep>,
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
    /// Columns that refer to an entity of the same component, itself included, in file order:
    /// what they refer to may not have been moved yet.
    pub cyclic: Vec<String>,
    /// Number of the component, from 0, in dependency order. Entities that refer to each other
    /// in a circle share one.
    pub component: usize,
}

/// A name that is neither an entity nor a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no entity or group named `{name}`")]
pub struct SelectionError {
    /// The unknown name.
    pub name: String,
    /// The known name that looks most like it.
    pub suggestion: Option<String>,
    /// All entities, sorted.
    pub entities: Vec<String>,
    /// All groups, in file order, `all` last.
    pub groups: Vec<String>,
}
