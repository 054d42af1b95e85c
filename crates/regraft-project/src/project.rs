//! A project as a whole: read, checked, and fingerprinted.

use std::path::{Path, PathBuf};

use crate::entity::Entity;
use crate::manifest::Manifest;
use crate::problem::{Problem, Problems};
use crate::selection::{Selection, SelectionError};
use crate::source_files::SourceFiles;

/// A checked project.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
    manifest: Manifest,
    entities: Vec<Entity>,
    sources: SourceFiles,
    hash: String,
    warnings: Problems,
}

impl Project {
    /// Reads and checks the project in the folder `root`.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load(root: &Path) -> Result<Project, Problems> {
        Self::from_files(&root.display().to_string(), Vec::new())
    }

    /// Checks a project given as relative paths and texts.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn from_files(root_label: &str, files: Vec<(String, String)>) -> Result<Project, Problems> {
        let mut sources = SourceFiles::new(root_label);
        for (path, text) in files {
            sources.add(path, text);
        }
        let mut problems = Problems::new(sources);
        problems.push(Problem::error(
            "project::no-manifest",
            "there is no regraft.toml",
        ));
        Err(problems)
    }

    /// The project's folder (or the label given instead of one).
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `regraft.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All entities, sorted by name.
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// The entity with this name.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.name == name)
    }

    /// The project's files.
    pub fn sources(&self) -> &SourceFiles {
        &self.sources
    }

    /// What looked odd but didn't make the project unusable.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// SHA-256 (hexadecimal) over the files that define the migration.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Entities named by `names`, in dependency order.
    ///
    /// # Errors
    /// A name that is neither an entity nor a group.
    pub fn select(&self, names: &[String], with_deps: bool) -> Result<Selection, SelectionError> {
        let _ = (names, with_deps);
        Ok(Selection { steps: Vec::new() })
    }

    /// Entities that `entity` refers to, sorted.
    pub fn dependencies(&self, entity: &str) -> Vec<&str> {
        let _ = entity;
        Vec::new()
    }
}
