//! Coded columns: which values occur, and what each becomes.

use regraft_project::{Entity, Rule, Spanned};

use super::document::{CodeCount, CodedColumn};
use crate::load::CodeSurvey;
use crate::model::{EntityModel, OutputRule};

/// Longer values are cut: what is that long is no code.
const LONGEST: usize = 80;

/// What the values of a coded column become.
struct Translation {
    /// Value and what it becomes.
    map: Vec<(String, String)>,
    null: Option<String>,
    otherwise: Option<String>,
}

/// The values of a coded column with what each becomes.
pub(super) fn coded(model: &EntityModel, entity: &Entity, survey: &CodeSurvey) -> CodedColumn {
    let translation = translation(model, entity, &survey.column);
    let mut values: Vec<CodeCount> = survey
        .values
        .iter()
        .map(|(value, rows)| translation.value(&String::from_utf8_lossy(value), *rows))
        .collect();
    if survey.unset > 0 {
        values.push(if survey.chooses() {
            // Something is referred to, and nothing says of which entity.
            CodeCount {
                value: None,
                ..translation.value("", survey.unset)
            }
        } else {
            CodeCount {
                value: None,
                rows: survey.unset,
                becomes: translation.null.clone(),
                rule: "null",
            }
        });
    }
    if survey.more == 0 {
        let unused = translation
            .map
            .iter()
            .filter(|(value, _)| !survey.values.contains_key(value.as_bytes()));
        values.extend(unused.map(|(value, _)| translation.value(value, 0)));
    }
    values.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.value.cmp(&b.value)));
    CodedColumn {
        column: survey.column.clone(),
        more_rows: survey.more,
        unmapped_rows: values
            .iter()
            .filter(|value| value.rule == "unmapped")
            .map(|value| value.rows)
            .sum(),
        values,
    }
}

impl Translation {
    fn value(&self, value: &str, rows: u64) -> CodeCount {
        let mapped = self.map.iter().find(|(known, _)| known == value);
        let (becomes, rule) = match (mapped, &self.otherwise) {
            (Some((_, becomes)), _) => (Some(becomes.clone()), "mapped"),
            (None, Some(otherwise)) => (Some(otherwise.clone()), "otherwise"),
            (None, None) => (None, "unmapped"),
        };
        CodeCount {
            value: Some(cut(value)),
            rows,
            becomes,
            rule,
        }
    }
}

fn cut(value: &str) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

/// The project's own words for what a column's values become; the model has only their bytes.
fn translation(model: &EntityModel, entity: &Entity, column: &str) -> Translation {
    let rule = entity
        .columns
        .iter()
        .find(|known| known.name.value == column)
        .map(|known| &known.rule);
    let plain = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.value.clone());
    let pairs = |pairs: &[(Spanned<String>, Spanned<String>)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(from, to)| (from.value.clone(), to.value.clone()))
            .collect()
    };
    match rule {
        Some(Rule::Map {
            map,
            null,
            otherwise,
            ..
        }) => Translation {
            map: pairs(map),
            null: plain(null),
            otherwise: plain(otherwise),
        },
        Some(Rule::RefBy { cases, missing, .. }) => Translation {
            map: pairs(cases),
            null: None,
            otherwise: match missing {
                regraft_project::Missing::Quarantine => None,
                regraft_project::Missing::Null => Some("NULL".to_owned()),
                regraft_project::Missing::Default(key) => Some(key.value.clone()),
            },
        },
        _ => Translation {
            map: labels(model, column),
            null: None,
            otherwise: None,
        },
    }
}

/// The labels of the target's enum that a text must be one of.
fn labels(model: &EntityModel, column: &str) -> Vec<(String, String)> {
    let output = model.outputs.iter().find(|output| output.column == column);
    let Some(OutputRule::Label { labels, .. }) = output.map(|output| &output.rule) else {
        return Vec::new();
    };
    labels
        .iter()
        .map(|label| String::from_utf8_lossy(label).into_owned())
        .map(|label| (label.clone(), label))
        .collect()
}
