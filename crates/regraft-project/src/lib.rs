//! Project files → checked model.
//!
//! A project is a folder that describes a migration: `regraft.toml`, `entities/*.toml`,
//! `invariants/*.toml`, `queries/*.toml` and the SQL of both schemas. [`Project::load`] reads all of it and either returns a model in which
//! every name resolves and every value has its type, or all [`Problems`] at once, each with
//! file, line, caret and hint.
//!
//! The model keeps the place of everything that a later check (against the databases) may
//! complain about: [`Sql::span_at`] turns a position in an expression into a place in its file.

mod changes;
mod column;
mod column_reading;
mod document;
mod entity;
mod entity_reading;
mod folder;
mod graph;
mod group_check;
mod invariant;
mod invariant_reading;
mod manifest;
mod manifest_reading;
mod name;
mod problem;
mod project;
mod query;
mod references;
mod rendering;
mod schema;
mod selection;
mod source_files;
mod sql;
mod sql_check;

pub use changes::{Changes, Deleted, Deletes, Newest, Policy};
pub use column::{BadJson, Column, EmptyJson, JsonField, JsonObject, Missing, Provenance, Rule};
pub use entity::{Entity, EntitySource, EntityTarget, Filter, Key, KeyStrategy, Merge};
pub use invariant::{Figure, Invariant, InvariantForm, InvariantQuery, Tolerance};
pub use manifest::{
    Budget, Limits, Manifest, ManifestSource, ManifestTarget, RunSettings, ValidationSettings,
};
pub use name::nearest;
pub use problem::{Problem, ProblemRecord, Problems, Severity};
pub use project::Project;
pub use query::NamedQuery;
pub use schema::{
    json_schema_entity, json_schema_invariants, json_schema_manifest, json_schema_queries,
};
pub use selection::{EntityStep, Selection, SelectionError, UnknownName};
pub use source_files::{FileId, Position, SourceFiles, Span, Spanned};
pub use sql::Sql;
