//! Validation (in progress).
use crate::{Context, Result};
use regraft_project::Selection;
/// A validation.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Validation { /// Passed.
 pub passed: bool, /// Entities.
 pub entities: Vec<EntityValidation>, /// Not checked.
 pub not_checked: Vec<String>, /// Seconds.
 pub seconds: f64, /// Id.
 pub validation_id: String }
/// An entity.
#[derive(Debug, Clone, serde::Serialize)]
pub struct EntityValidation { /// Entity.
 pub entity: String, /// Rows.
 pub rows: u64, /// Checks.
 pub checks: Vec<Check>, /// Seconds.
 pub seconds: f64 }
/// A check.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Check { /// Name.
 pub name: &'static str, /// Passed.
 pub passed: bool, /// Looked at.
 pub looked_at: u64, /// Findings.
 pub findings: Vec<Finding> }
/// A finding.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding { /// What.
 pub what: String, /// Rows.
 pub rows: u64, /// Examples.
 pub examples: Vec<String> }
/// Validates.
pub async fn validate(_context: &Context, _selection: &Selection) -> Result<Validation> { Err(crate::Error::new(crate::Kind::Internal, "validation is being written")) }
