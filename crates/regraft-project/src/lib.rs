//! Project files → checked model.
//!
//! A project is a folder that describes a migration: `regraft.toml`, `entities/*.toml` and the
//! SQL of both schemas. [`Project::load`] reads all of it and either returns a model in which
//! every name resolves and every value has its type, or all [`Problems`] at once, each with
//! file, line, caret and hint.

mod column;
mod entity;
mod manifest;
mod problem;
mod project;
mod rendering;
mod schema;
mod selection;
mod source_files;
mod sql;

pub use column::{BadJson, Column, EmptyJson, JsonField, JsonObject, Missing, Provenance, Rule};
pub use entity::{Entity, EntitySource, EntityTarget, Filter, Key, KeyStrategy};
pub use manifest::{Budget, Limits, Manifest, ManifestSource, ManifestTarget, RunSettings};
pub use problem::{Problem, ProblemRecord, Problems, Severity};
pub use project::Project;
pub use schema::{json_schema_entity, json_schema_manifest};
pub use selection::{EntityStep, Selection, SelectionError};
pub use source_files::{FileId, Position, SourceFiles, Span, Spanned};
pub use sql::Sql;
