//! What is counted of an entity's rows as they come by: where its references lead, and which codes
//! occur.
//!
//! Memory is bounded: of what is lost only five examples are kept each, of a column's codes so many
//! are told apart, and ids of parents that weren't found are taken away between batches
//! ([`ReferenceSurvey::take_unresolved`]).

use std::collections::HashMap;
use std::sync::Arc;

use regraft_pg::copy::Tuple;

use crate::keys::{Found, KeyMap, LegacyId};
use crate::model::{EntityModel, KeyRule, MissingKey, OutputRule};

/// Examples that are kept of each kind of loss.
pub(crate) const EXAMPLES: usize = 5;
/// Values of a coded column that are told apart.
pub(crate) const MOST_CODES: usize = 1_000;

/// A number of rows, and the lowest of their legacy ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) rows: u64,
    pub(crate) ids: Vec<LegacyId>,
}

impl Sample {
    /// Adds a row.
    pub(crate) fn add(&mut self, id: &LegacyId) {
        self.rows += 1;
        let at = self.ids.partition_point(|known| known < id);
        if at < EXAMPLES {
            self.ids.insert(at, id.clone());
            self.ids.truncate(EXAMPLES);
        }
    }

    /// Adds the rows of another sample.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.ids.extend_from_slice(&other.ids);
        self.ids.sort();
        self.ids.truncate(EXAMPLES);
    }

    /// The examples as text.
    pub(crate) fn examples(&self) -> Vec<String> {
        self.ids.iter().map(LegacyId::to_string).collect()
    }
}

/// A parent that can't be referred to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Unresolved {
    /// The parent's entity, by its place in [`ReferenceSurvey::parents`].
    pub(crate) parent: usize,
    pub(crate) id: LegacyId,
    /// Whether it is known to stay behind; else it is not at hand, for whatever reason.
    pub(crate) stopped: bool,
}

/// Where the values of one reference lead.
#[derive(Debug)]
pub(crate) struct ReferenceSurvey {
    /// The target column.
    pub(crate) column: String,
    /// The place of its output in the model; `None` for a key that is another entity's.
    pub(crate) output: Option<usize>,
    /// The entities it may lead to.
    pub(crate) parents: Vec<String>,
    pub(crate) missing: MissingKey,
    /// The field that chooses the entity, and which value stands for which.
    by: Option<(usize, HashMap<Vec<u8>, usize>)>,
    field: usize,
    /// Whether it is followed only when its whole cycle was read.
    pub(crate) later: bool,
    /// Rows without a value.
    pub(crate) unset: Sample,
    /// Rows whose value leads to no entity, because nothing says to which.
    pub(crate) unnamed: Sample,
    /// Rows whose parent would be in the target.
    pub(crate) reached: u64,
    unresolved: HashMap<Unresolved, Sample>,
}

impl ReferenceSurvey {
    fn new(column: &str, field: usize, parents: Vec<String>, missing: MissingKey) -> Self {
        Self {
            column: column.to_owned(),
            output: None,
            parents,
            missing,
            by: None,
            field,
            later: false,
            unset: Sample::default(),
            unnamed: Sample::default(),
            reached: 0,
            unresolved: HashMap::new(),
        }
    }

    /// Takes note of where a row's reference leads.
    pub(crate) fn note(&mut self, id: &LegacyId, parent: usize, parent_id: LegacyId, found: Found) {
        let stopped = match found {
            Found::Key(_) => {
                self.reached += 1;
                return;
            }
            Found::Stopped => true,
            Found::Absent => false,
        };
        let unresolved = Unresolved {
            parent,
            id: parent_id,
            stopped,
        };
        self.unresolved.entry(unresolved).or_default().add(id);
    }

    /// Whether a value of the row chooses the entity.
    pub(crate) fn is_chosen(&self) -> bool {
        self.by.is_some()
    }

    /// The place of an entity among [`Self::parents`].
    pub(crate) fn parent(&self, entity: &str) -> Option<usize> {
        self.parents.iter().position(|parent| parent == entity)
    }

    /// Parents that were asked for and can't be referred to, once more than `most` are kept, with
    /// the rows that refer to them.
    pub(crate) fn take_unresolved(&mut self, most: usize) -> HashMap<Unresolved, Sample> {
        if self.unresolved.len() > most {
            std::mem::take(&mut self.unresolved)
        } else {
            HashMap::new()
        }
    }

    fn row(
        &mut self,
        id: &LegacyId,
        bytes: &[u8],
        tuple: &Tuple,
        keys: &HashMap<String, Arc<KeyMap>>,
    ) {
        let Some(value) = tuple.field(bytes, self.field + 1) else {
            self.unset.add(id);
            return;
        };
        let parent = match &self.by {
            None => Some(0),
            Some((by, cases)) => tuple
                .field(bytes, by + 1)
                .and_then(|by| cases.get(by).copied()),
        };
        let Some(parent) = parent else {
            self.unnamed.add(id);
            return;
        };
        if self.later {
            return;
        }
        let Some(map) = keys.get(&self.parents[parent]) else {
            return;
        };
        let found = match <[u8; 8]>::try_from(value) {
            Ok(number) if map.is_numeric() => map.number(i64::from_be_bytes(number)),
            _ => map.text(value),
        };
        if let Found::Key(_) = found {
            self.reached += 1;
            return;
        }
        self.note(id, parent, parent_id(map, value), found);
    }
}

fn parent_id(map: &KeyMap, value: &[u8]) -> LegacyId {
    match <[u8; 8]>::try_from(value) {
        Ok(number) if map.is_numeric() => LegacyId::Number(i64::from_be_bytes(number)),
        _ => LegacyId::Text(String::from_utf8_lossy(value).into_owned()),
    }
}

/// Which values of a coded column occur.
#[derive(Debug)]
pub(crate) struct CodeSurvey {
    /// The target column.
    pub(crate) column: String,
    field: usize,
    /// Only rows with a value here are counted: what chooses the entity of a reference is of no
    /// account where nothing is referred to.
    chooses_for: Option<usize>,
    /// Rows by value.
    pub(crate) values: HashMap<Vec<u8>, u64>,
    /// Rows without a value.
    pub(crate) unset: u64,
    /// Rows with yet other values.
    pub(crate) more: u64,
}

impl CodeSurvey {
    /// Whether its values choose the entity of a reference.
    pub(crate) fn chooses(&self) -> bool {
        self.chooses_for.is_some()
    }

    fn row(&mut self, bytes: &[u8], tuple: &Tuple) {
        if let Some(field) = self.chooses_for
            && tuple.field(bytes, field + 1).is_none()
        {
            return;
        }
        let Some(value) = tuple.field(bytes, self.field + 1) else {
            self.unset += 1;
            return;
        };
        if let Some(rows) = self.values.get_mut(value) {
            *rows += 1;
        } else if self.values.len() < MOST_CODES {
            self.values.insert(value.to_vec(), 1);
        } else {
            self.more += 1;
        }
    }
}

/// What is counted of an entity.
#[derive(Debug)]
pub(crate) struct Survey {
    last: Option<LegacyId>,
    /// Rows that came by.
    pub(crate) rows: u64,
    pub(crate) references: Vec<ReferenceSurvey>,
    pub(crate) codes: Vec<CodeSurvey>,
}

impl Survey {
    /// A survey of what the entity has.
    pub(crate) fn of(model: &EntityModel) -> Self {
        let mut references = Vec::new();
        if let KeyRule::SameAs { entity, field } = &model.key_rule {
            references.push(ReferenceSurvey::new(
                &model.key_column,
                *field,
                vec![entity.clone()],
                MissingKey::Quarantine,
            ));
        }
        let mut codes = Vec::new();
        for (at, output) in model.outputs.iter().enumerate() {
            references.extend(reference(&output.column, &output.rule, at));
            let (field, chooses_for) = match &output.rule {
                OutputRule::Map { field, .. } | OutputRule::Label { field, .. } => (*field, None),
                OutputRule::ReferenceBy { by, field, .. } => (*by, Some(*field)),
                _ => continue,
            };
            codes.push(CodeSurvey {
                column: output.column.clone(),
                field,
                chooses_for,
                values: HashMap::new(),
                unset: 0,
                more: 0,
            });
        }
        Self {
            last: None,
            rows: 0,
            references,
            codes,
        }
    }

    /// Looks at a row. A range that has to be read again, whole or in halves, is counted once:
    /// rows come in the order of their ids.
    pub(crate) fn row(
        &mut self,
        id: &LegacyId,
        bytes: &[u8],
        tuple: &Tuple,
        keys: &HashMap<String, Arc<KeyMap>>,
    ) {
        if self.last.as_ref().is_some_and(|last| last >= id) {
            return;
        }
        self.last = Some(id.clone());
        self.rows += 1;
        for reference in &mut self.references {
            reference.row(id, bytes, tuple, keys);
        }
        for code in &mut self.codes {
            code.row(bytes, tuple);
        }
    }
}

fn reference(column: &str, rule: &OutputRule, output: usize) -> Option<ReferenceSurvey> {
    let mut survey = match rule {
        OutputRule::Reference {
            field,
            entity,
            missing,
            later,
        } => ReferenceSurvey {
            later: *later,
            ..ReferenceSurvey::new(column, *field, vec![entity.clone()], missing.clone())
        },
        OutputRule::ReferenceBy {
            by,
            field,
            cases,
            missing,
            later,
        } => {
            let mut parents: Vec<String> = cases.values().cloned().collect();
            parents.sort();
            parents.dedup();
            let place = |entity: &String| parents.iter().position(|parent| parent == entity);
            let cases = cases
                .iter()
                .filter_map(|(value, entity)| Some((value.clone(), place(entity)?)))
                .collect();
            ReferenceSurvey {
                by: Some((*by, cases)),
                later: *later,
                ..ReferenceSurvey::new(column, *field, parents, missing.clone())
            }
        }
        _ => return None,
    };
    survey.output = Some(output);
    Some(survey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_keep_the_lowest_ids_whatever_the_order() {
        let sample = |ids: &[i64]| {
            let mut sample = Sample::default();
            for id in ids {
                sample.add(&LegacyId::Number(*id));
            }
            sample
        };
        let (low, high) = (sample(&[9, 4, 1]), sample(&[8, 7, 2, 3, 6, 5]));
        for (mut first, second) in [(low.clone(), high.clone()), (high, low)] {
            first.merge(&second);
            assert_eq!(first.rows, 9);
            assert_eq!(first.examples(), ["1", "2", "3", "4", "5"]);
        }
    }
}
