//! What a validation is asked to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kinds of proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationType {
    /// Each source row is where the ledger says, and the accounts of all runs balance.
    CompletenessCheck,
    /// Every reference goes between the mapped ends.
    RelationshipIntegrity,
    /// Every column holds what recomputing it from the source gives.
    DataIntegrity,
    /// The new database has what it needs to serve.
    PerformanceCheck,
}

impl ValidationType {
    /// All of them, in the order in which they are carried out.
    pub const ALL: [Self; 4] = [
        Self::CompletenessCheck,
        Self::RelationshipIntegrity,
        Self::DataIntegrity,
        Self::PerformanceCheck,
    ];

    /// As it is written and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CompletenessCheck => "completeness_check",
            Self::RelationshipIntegrity => "relationship_integrity",
            Self::DataIntegrity => "data_integrity",
            Self::PerformanceCheck => "performance_check",
        }
    }
}

/// How the rows of both databases are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By sums where they are likely to tell: of entities whose references all have to be there, and
    /// of all others where the link to a server, which is measured, is slow.
    #[default]
    Auto,
    /// All rows are fetched and met in key order.
    Stream,
    /// Both servers add up hashes of their rows, and only rows of ranges that differ are fetched.
    /// Entities whose columns the servers can't hash alike are streamed all the same.
    Sums,
}

/// What a validation looks at, how closely, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationOptions {
    /// The kinds of proof; all when there is none.
    pub types: Vec<ValidationType>,
    /// The part of the rows whose references and columns are looked at, above 0 and up to 1. Which
    /// rows these are depends on their legacy ids alone. Completeness is always about all rows.
    pub sampling_rate: f64,
    /// At most about so many rows of each entity, where the references and columns of rows are
    /// looked at.
    pub max_records: Option<u64>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How many legacy ids a finding shows.
    pub examples: usize,
    /// How rows are compared.
    pub method: Method,
}

impl Default for ValidationOptions {
    fn default() -> Self {
        Self {
            types: Vec::new(),
            sampling_rate: 1.0,
            max_records: None,
            timeout: None,
            examples: 5,
            method: Method::Auto,
        }
    }
}

impl ValidationOptions {
    /// Whether a kind of proof is asked for.
    pub(super) fn wants(&self, of: ValidationType) -> bool {
        self.types.is_empty() || self.types.contains(&of)
    }

    /// The part of an entity's rows that is looked at.
    #[expect(clippy::cast_precision_loss, reason = "a part of a count of rows")]
    pub(super) fn rate(&self, rows: u64) -> f64 {
        let most = self.max_records.unwrap_or(u64::MAX);
        if most >= rows {
            return self.sampling_rate;
        }
        self.sampling_rate.min(most as f64 / rows as f64)
    }
}
