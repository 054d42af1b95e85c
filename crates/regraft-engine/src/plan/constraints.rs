//! Per constraint of the target, how many rows can't satisfy it.

use regraft_pg::catalog::Catalog;

use super::document::{ConstraintPlan, Prediction};
use crate::model::{EntityModel, OutputRule};

/// Every constraint that an entity's rows meet in the target, with the rows that are predicted to
/// fail it.
pub(super) fn constraints(
    catalog: &Catalog,
    model: &EntityModel,
    predictions: &[Prediction],
) -> Vec<ConstraintPlan> {
    let mut all = declared(catalog, model);
    for prediction in predictions {
        let (kind, name) = place(catalog, model, prediction);
        let known = all
            .iter_mut()
            .find(|known| known.kind == kind && known.name == name);
        match known {
            Some(known) => add(known, prediction),
            None => {
                let mut new = constraint(kind, &name, prediction.place.iter().cloned().collect());
                add(&mut new, prediction);
                all.push(new);
            }
        }
    }
    all
}

fn add(known: &mut ConstraintPlan, prediction: &Prediction) {
    known.rows += prediction.rows;
    for id in &prediction.examples {
        if known.examples.len() < crate::load::EXAMPLES && !known.examples.contains(id) {
            known.examples.push(id.clone());
        }
    }
}

fn constraint(kind: &'static str, name: &str, columns: Vec<String>) -> ConstraintPlan {
    ConstraintPlan {
        kind,
        name: name.to_owned(),
        columns,
        rows: 0,
        examples: Vec::new(),
    }
}

fn declared(catalog: &Catalog, model: &EntityModel) -> Vec<ConstraintPlan> {
    let mut all = Vec::new();
    for output in &model.outputs {
        let column = || vec![output.column.clone()];
        if output.not_null {
            all.push(constraint("not_null", &output.column, column()));
        }
        if is_reference(&output.rule) && foreign_key(model, &output.column).is_none() {
            all.push(constraint("reference", &output.column, column()));
        }
        if is_enum(catalog, model, &output.column) {
            all.push(constraint("enum", &output.column, column()));
        } else if matches!(output.rule, OutputRule::Map { .. }) {
            all.push(constraint("map", &output.column, column()));
        }
    }
    let written = |columns: &[String]| {
        let mut columns = columns.iter();
        columns.all(|column| model.outputs.iter().any(|o| o.column == *column))
    };
    for declared in &model.table.constraints {
        let kind = match declared.kind.as_str() {
            "f" if written(&declared.columns) => "foreign_key",
            "c" => "check",
            "p" | "u" if written(&declared.columns) => "unique",
            "x" => "exclusion",
            _ => continue,
        };
        all.push(constraint(kind, &declared.name, declared.columns.clone()));
    }
    for index in &model.table.indexes {
        if index.unique && index.constraint.is_none() {
            let columns = index.plain_columns.iter().flatten().cloned().collect();
            all.push(constraint("unique", &index.name, columns));
        }
    }
    all
}

/// The constraint that a prediction is about.
fn place(
    catalog: &Catalog,
    model: &EntityModel,
    prediction: &Prediction,
) -> (&'static str, String) {
    let place = prediction.place.clone().unwrap_or_default();
    let kind = match prediction.code.as_str() {
        "not_null" => "not_null",
        "missing_parent" | "blocked_parent" => match foreign_key(model, &place) {
            Some(name) => return ("foreign_key", name.to_owned()),
            None => "reference",
        },
        "foreign_key_violation" => "foreign_key",
        "check_violation" => "check",
        "unique_violation" | "duplicate_key" => "unique",
        "exclusion_violation" => "exclusion",
        "unmapped_value" => {
            let output = model.outputs.iter().find(|output| output.column == place);
            match output.map(|output| &output.rule) {
                Some(OutputRule::ReferenceBy { .. }) => match foreign_key(model, &place) {
                    Some(name) => return ("foreign_key", name.to_owned()),
                    None => "reference",
                },
                Some(OutputRule::Label { .. }) => "enum",
                _ if is_enum(catalog, model, &place) => "enum",
                _ => "map",
            }
        }
        "value_too_long"
        | "numeric_out_of_range"
        | "numeric_scale"
        | "time_precision"
        | "invalid_json"
        | "invalid_uuid" => "type",
        _ => "other",
    };
    let name = if place.is_empty() {
        prediction.code.clone()
    } else {
        place
    };
    (kind, name)
}

fn is_reference(rule: &OutputRule) -> bool {
    matches!(
        rule,
        OutputRule::Reference { .. } | OutputRule::ReferenceBy { .. }
    )
}

fn foreign_key<'a>(model: &'a EntityModel, column: &'a str) -> Option<&'a str> {
    let mut keys = model.table.foreign_keys_of(column);
    keys.next().map(|key| key.name.as_str())
}

fn is_enum(catalog: &Catalog, model: &EntityModel, column: &str) -> bool {
    let Some(column) = model.table.column(column) else {
        return false;
    };
    catalog.types.iter().any(|known| {
        known.kind == "e"
            && [
                known.name.clone(),
                format!("{}.{}", known.schema, known.name),
                regraft_pg::quote::qualified(&known.schema, &known.name),
            ]
            .contains(&column.type_name)
    })
}
