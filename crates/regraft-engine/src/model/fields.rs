//! The fields that an entity reads from the source.

use regraft_project::{JsonField, JsonObject};

use super::Field;

/// The select list of an entity as it grows; equal expressions are read once.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<Field>);

impl Fields {
    /// The position of `sql` in the list, added if it is new.
    pub(crate) fn position(&mut self, column: &str, sql: String) -> usize {
        if let Some(at) = self.0.iter().position(|field| field.sql == sql) {
            return at;
        }
        self.0.push(Field {
            column: column.to_owned(),
            sql,
        });
        self.0.len() - 1
    }

    /// The list.
    pub(crate) fn into_vec(self) -> Vec<Field> {
        self.0
    }
}

/// `expression` in parentheses, on lines of its own so that a comment in it ends there, under a
/// cast if one is given.
pub(crate) fn cast(expression: &str, to: Option<&str>) -> String {
    let plain = if expression.contains("--") {
        format!("({expression}\n)")
    } else {
        format!("({expression})")
    };
    match to {
        Some(to) => format!("{plain}::{to}"),
        None => plain,
    }
}

/// The expressions inside a JSON object.
pub(crate) fn json_expressions(object: &JsonObject) -> Vec<&regraft_project::Sql> {
    object
        .fields
        .iter()
        .flat_map(|(_, field)| match field {
            JsonField::Sql(sql) => vec![sql],
            JsonField::Object(inner) => json_expressions(inner),
        })
        .collect()
}

/// The SQL that builds a JSON object on the source.
pub(crate) fn json_object(object: &JsonObject) -> String {
    // A function takes at most 100 arguments (FUNC_MAX_ARGS).
    let parts: Vec<String> = object
        .fields
        .chunks(40)
        .map(|fields| {
            let pairs: Vec<String> = fields
                .iter()
                .map(|(name, field)| {
                    let value = match field {
                        JsonField::Sql(sql) => cast(&sql.text, None),
                        JsonField::Object(inner) => json_object(inner),
                    };
                    format!("{}, {value}", regraft_pg::quote::literal(name))
                })
                .collect();
            format!("jsonb_build_object({})", pairs.join(", "))
        })
        .collect();
    if parts.is_empty() {
        "'{}'::jsonb".to_owned()
    } else {
        parts.join(" || ")
    }
}
