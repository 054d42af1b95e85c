//! The project resolved against both catalogs: what is read from the source, and how each byte of
//! it becomes a byte of the target.

mod columns;
mod constants;
mod describe;
mod document;
mod fields;
mod resolve;
mod transfer;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regraft_pg::catalog::{Catalog, Table};
use regraft_project::Provenance;

use crate::keys::LegacyId;

pub(crate) use document::Document;
pub(crate) use resolve::resolve;
pub(crate) use transfer::{Limit, Recode, apply as recode};

/// Every entity of the project, resolved.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) entities: BTreeMap<String, EntityModel>,
    pub(crate) source_catalog_hash: String,
    /// What is declared of each table of the source, as hashes.
    pub(crate) source_tables: BTreeMap<String, String>,
    pub(crate) target_catalog: Catalog,
}

/// One entity, resolved.
#[derive(Debug, Clone)]
pub(crate) struct EntityModel {
    pub(crate) name: String,
    pub(crate) table: Table,
    pub(crate) key_column: String,
    /// Whether legacy ids are numbers.
    pub(crate) numeric: bool,
    /// The FROM list.
    pub(crate) from: String,
    /// The key expression as the project has it.
    pub(crate) key: String,
    /// Filters: name and condition.
    pub(crate) filters: Vec<(String, String)>,
    /// Only these rows are read, as far as they are there; `None` for all.
    pub(crate) only: Option<Arc<Vec<LegacyId>>>,
    /// Which rows are one row of the target.
    pub(crate) merge: Option<MergeRule>,
    /// What is selected after the key, as SQL, with a name for the quarantine.
    pub(crate) fields: Vec<Field>,
    pub(crate) key_rule: KeyRule,
    pub(crate) key_strategy: &'static str,
    /// Target columns in the order they are written; the key column first.
    pub(crate) outputs: Vec<Output>,
    /// Target columns that are left to their defaults.
    pub(crate) defaulted: Vec<String>,
}

/// Rows that are equal are one row of the target: the one with the lowest legacy id.
#[derive(Debug, Clone)]
pub(crate) struct MergeRule {
    pub(crate) name: String,
    /// What must be equal; NULL equals NULL.
    pub(crate) by: Vec<String>,
    /// The condition under which a row is merged.
    pub(crate) when: Option<String>,
}

/// A selected field of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// The target column it is for.
    pub(crate) column: String,
    pub(crate) sql: String,
}

impl Field {
    /// The expression as it is before it is cast to what the loader reads.
    pub(crate) fn uncast(&self) -> &str {
        match self.sql.rsplit_once(")::") {
            Some((before, to)) if self.sql.starts_with('(') && !to.contains([')', ' ']) => {
                &self.sql[..=before.len()]
            }
            _ => &self.sql,
        }
    }
}

/// How the key of a row comes about. Numbers are positions in [`EntityModel::fields`].
#[derive(Debug, Clone)]
pub(crate) enum KeyRule {
    V7 { time: usize },
    V5,
    V4,
    Uuid { field: usize },
    UuidText { field: usize },
    SameAs { entity: String, field: usize },
}

/// A target column and how its bytes come about.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) column: String,
    pub(crate) rule: OutputRule,
    pub(crate) not_null: bool,
    pub(crate) limit: Limit,
    pub(crate) provenance: Provenance,
    /// The rule for people.
    pub(crate) shown: String,
}

/// How the bytes of a target column come about.
#[derive(Debug, Clone)]
pub(crate) enum OutputRule {
    /// The row's key.
    Key,
    /// The legacy id, as an integer of so many bytes, or as text for 0.
    LegacyId { width: usize },
    /// The source's bytes as they are.
    Copy { field: usize },
    /// The source's integer of 8 bytes, which must fit into fewer.
    Narrow { field: usize, width: usize },
    /// The source's bytes with the OIDs of this cluster's types exchanged.
    Recode { field: usize, recode: Recode },
    /// Text that must be one of an enum's labels.
    Label {
        field: usize,
        labels: std::collections::HashSet<Vec<u8>>,
    },
    /// The same bytes in every row; `None` is NULL.
    Constant(Option<Vec<u8>>),
    /// A coded value, by the source value's text form.
    Map {
        field: usize,
        map: HashMap<Vec<u8>, Vec<u8>>,
        null: Option<Vec<u8>>,
        otherwise: Option<Vec<u8>>,
    },
    /// A jsonb document that is put together out of several fields.
    Document(Document),
    /// Text that must be JSON.
    Json {
        field: usize,
        binary: bool,
        bad: BadText,
        empty: EmptyText,
    },
    /// The key of a row of another entity.
    Reference {
        field: usize,
        entity: String,
        missing: MissingKey,
        later: bool,
    },
    /// The key of a row of the entity that another value chooses.
    ReferenceBy {
        by: usize,
        field: usize,
        cases: HashMap<Vec<u8>, String>,
        missing: MissingKey,
        later: bool,
    },
}

/// What to do with text that is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadText {
    Quarantine,
    Null,
    KeepAs(String),
}

/// What to do with empty text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EmptyText {
    Null,
    Quarantine,
    Value(Vec<u8>),
}

/// What to do with a reference to a row that isn't there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MissingKey {
    Quarantine,
    Null,
    Key(Vec<u8>),
}

impl Model {
    /// Whether other entities fill the same table.
    pub(crate) fn shares_table(&self, model: &EntityModel) -> bool {
        self.entities.values().any(|other| {
            other.name != model.name && other.table.sql_name() == model.table.sql_name()
        })
    }
}

impl EntityModel {
    /// The entities whose keys are looked up when this one is moved, each once.
    pub(crate) fn parents(&self) -> Vec<&str> {
        let mut parents: Vec<&str> = Vec::new();
        for output in &self.outputs {
            match &output.rule {
                OutputRule::Reference { entity, .. } => parents.push(entity),
                OutputRule::ReferenceBy { cases, .. } => {
                    parents.extend(cases.values().map(String::as_str));
                }
                _ => {}
            }
        }
        if let KeyRule::SameAs { entity, .. } = &self.key_rule {
            parents.push(entity);
        }
        parents.sort_unstable();
        parents.dedup();
        parents
    }

    /// References: the entity and the position of its id among the fields.
    pub(crate) fn references(&self) -> Vec<(&str, usize)> {
        self.references_where(|_| true)
    }

    /// References that stay empty, or get a default, where the parent isn't there.
    pub(crate) fn optional_references(&self) -> Vec<(&str, usize)> {
        self.references_where(|missing| *missing != MissingKey::Quarantine)
    }

    fn references_where(&self, wanted: impl Fn(&MissingKey) -> bool) -> Vec<(&str, usize)> {
        let mut found = Vec::new();
        for output in &self.outputs {
            match &output.rule {
                OutputRule::Reference {
                    field,
                    entity,
                    missing,
                    ..
                } if wanted(missing) => found.push((entity.as_str(), *field)),
                OutputRule::ReferenceBy {
                    field,
                    cases,
                    missing,
                    ..
                } if wanted(missing) => {
                    found.extend(cases.values().map(|entity| (entity.as_str(), *field)));
                }
                _ => {}
            }
        }
        found
    }

    /// The key as an expression that compares and sorts the way legacy ids do in the ledger:
    /// numbers as numbers, all else as text in byte order.
    pub(crate) fn key_order(&self) -> String {
        if self.numeric {
            format!("({})", self.key)
        } else {
            format!("({})::text collate \"C\"", self.key)
        }
    }

    /// The key as it is selected.
    pub(crate) fn key_value(&self) -> String {
        if self.numeric {
            format!("({})::int8", self.key)
        } else {
            format!("({})::text", self.key)
        }
    }

    /// The target columns that are written, quoted.
    pub(crate) fn column_list(&self) -> String {
        regraft_pg::quote::idents(self.outputs.iter().map(|o| o.column.as_str()))
    }

    /// The columns that carry a fingerprint: all that are written but the key.
    pub(crate) fn fingerprinted(&self) -> impl Iterator<Item = &Output> {
        self.outputs
            .iter()
            .filter(|o| !matches!(o.rule, OutputRule::Key))
    }

    /// Bytes of the column fingerprints of a row.
    pub(crate) fn print_width(&self) -> usize {
        4 * self.fingerprinted().count()
    }

    /// Columns that are filled in when the whole cycle they are part of is in place.
    pub(crate) fn later_columns(&self) -> Vec<usize> {
        self.outputs
            .iter()
            .enumerate()
            .filter(|(_, output)| {
                matches!(
                    output.rule,
                    OutputRule::Reference { later: true, .. }
                        | OutputRule::ReferenceBy { later: true, .. }
                )
            })
            .map(|(i, _)| i)
            .collect()
    }
}
