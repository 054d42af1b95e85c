//! Values in a form that both servers hash alike, so that the sums of the hashes can stand for the
//! values. Where the forms of equal values differ all the same, the rows are merely opened.

use std::collections::BTreeMap;

use regraft_pg::quote;
use tokio_postgres::types::Type;

use super::compare::{Shape, base};

/// What is hashed for one column on either side: SQL expressions of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) source: String,
    pub(super) target: String,
}

/// Types whose hash tells all that their binary form does.
const AS_THEY_ARE: &[Type] = &[
    Type::BOOL,
    Type::BYTEA,
    Type::DATE,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::TIME,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::UUID,
];

/// A value that both sides compute: `of` is the type of both after their casts.
pub(super) fn value(source: &str, target: &str, of: &Type, shape: &Shape) -> Sides {
    Sides {
        source: form(source, of, shape),
        target: form(target, of, shape),
    }
}

fn form(sql: &str, of: &Type, shape: &Shape) -> String {
    match shape {
        Shape::Padded => format!("rtrim(({sql})::text, ' ') collate \"C\""),
        // These hash by value, as they are compared.
        Shape::Numeric | Shape::Jsonb => sql.to_owned(),
        Shape::Bytes if AS_THEY_ARE.contains(base(of)) => sql.to_owned(),
        Shape::Bytes | Shape::Float | Shape::Array(_) => format!("({sql})::text collate \"C\""),
    }
}

/// A value that is the same in every row.
pub(super) fn constant(target: &str, literal: &str) -> Sides {
    Sides {
        source: "true".to_owned(),
        target: format!("{target} is not distinct from {literal}"),
    }
}

/// A value that depends on the number of a case: each outcome is a literal of the target's, or none
/// where the row should not be there. Outcomes that are the same literal are one.
pub(super) fn case(number: &str, target: &str, outcomes: &[Option<String>]) -> Sides {
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut of_case = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        of_case.push(match outcome {
            None => "-2".to_owned(),
            Some(literal) => {
                let next = classes.len();
                classes.entry(literal).or_insert(next).to_string()
            }
        });
    }
    let arms: String = classes
        .iter()
        .map(|(literal, class)| {
            format!("when {target} is not distinct from {literal} then {class} ")
        })
        .collect();
    let class = if arms.is_empty() {
        "-1".to_owned()
    } else {
        format!("case {arms}else -1 end")
    };
    Sides {
        source: format!("(array[{}])[{number} + 1]", of_case.join(", ")),
        target: format!("({class})::int4"),
    }
}

/// A constant of the project as a literal of the target's type.
pub(super) fn literal(text: &str, of: &str) -> String {
    format!("{}::{of}", quote::literal(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_with_one_outcome_are_one_class() {
        let literal = |text: &str| Some(format!("'{text}'::text"));
        let sides = case(
            "n",
            "t.a",
            &[literal("x"), literal("y"), literal("x"), None],
        );
        assert_eq!(sides.source, "(array[0, 1, 0, -2])[n + 1]");
        assert_eq!(
            sides.target,
            "(case when t.a is not distinct from 'x'::text then 0 \
             when t.a is not distinct from 'y'::text then 1 else -1 end)::int4"
        );
    }

    #[test]
    fn types_that_hash_less_than_they_say_go_as_text() {
        let of = |of: &Type| value("a", "b", of, &Shape::Bytes).source;
        assert_eq!(of(&Type::TIMESTAMPTZ), "a");
        // A day and 24 hours hash alike.
        assert_eq!(of(&Type::INTERVAL), "(a)::text collate \"C\"");
        assert_eq!(of(&Type::TEXT), "(a)::text collate \"C\"");
    }
}
