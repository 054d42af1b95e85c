//! Tests of `regraft-project` from outside, in one binary.

mod column_diagnostics;
mod entity_diagnostics;
mod fixture;
mod folder;
mod invariants;
mod manifest_diagnostics;
mod model;
mod queries;
mod robustness;
mod selection;
mod sql_diagnostics;
