//! Results as people read them, one module for each.

pub(crate) mod analyzer;
pub(crate) mod backfill;
pub(crate) mod certificate;
pub(crate) mod check;
pub(crate) mod differential;
pub(crate) mod ledger;
pub(crate) mod mappings;
pub(crate) mod plan;
pub(crate) mod quarantine;
pub(crate) mod reasons;
pub(crate) mod receipt;
pub(crate) mod record;
pub(crate) mod rollback;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod validation;
pub(crate) mod validation_report;
mod written;
