//! `invariants/*.toml`: figures that must be the same on both sides, whatever was done to the rows.

use std::ops::Range;

use crate::source_files::Spanned;
use crate::sql::Sql;

/// Figures that must be the same in both databases.
#[derive(Debug, Clone)]
pub struct Invariant {
    /// Its name: the table's in its file.
    pub name: Spanned<String>,
    /// What it is about.
    pub description: Option<String>,
    /// What is computed.
    pub form: InvariantForm,
    /// How far the figures may be apart.
    pub tolerance: Tolerance,
}

/// What an invariant computes.
#[derive(Debug, Clone)]
pub enum InvariantForm {
    /// Figures over the moved rows of an entity, written once on the columns of the target; the
    /// source computes them over the entity's own column rules.
    Entity {
        /// The entity.
        entity: Spanned<String>,
        /// What the rows are grouped by; nothing for one group of all rows.
        by: Vec<Figure>,
        /// The figures; one at least.
        measures: Vec<Figure>,
    },
    /// One query for each side.
    Queries {
        /// The query of the legacy database.
        source: InvariantQuery,
        /// The query of the modern database.
        target: InvariantQuery,
        /// How many of the first columns are the group's key; all but the last when absent.
        keys: Option<usize>,
        /// Entities that it is about, besides those that the queries name.
        entities: Vec<Spanned<String>>,
    },
}

/// An SQL expression on columns of a target table.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The expression.
    pub sql: Sql,
    /// The columns it uses, each once.
    pub columns: Vec<String>,
}

/// How far two figures may be apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tolerance {
    /// Not at all.
    Exact,
    /// At most by this much: a decimal number.
    Absolute(String),
    /// At most by this part of the source's figure: a decimal number of percent.
    Percent(String),
}

impl std::fmt::Display for Tolerance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tolerance::Exact => f.write_str("exact"),
            Tolerance::Absolute(most) => write!(f, "within {most}"),
            Tolerance::Percent(most) => write!(f, "within {most}%"),
        }
    }
}

/// A query that may name the moved rows of entities: `{moved:payments}`.
#[derive(Debug, Clone)]
pub struct InvariantQuery {
    /// The query as written.
    pub sql: Sql,
    /// Where it names moved rows: the bytes of the text, and the entity. In the text's order.
    pub moved: Vec<(Range<usize>, Spanned<String>)>,
}

impl InvariantQuery {
    /// The query with what `relation` gives for an entity in place of each `{moved:...}`.
    pub fn expand(&self, mut relation: impl FnMut(&str) -> String) -> String {
        let mut text = String::with_capacity(self.sql.text.len());
        let mut at = 0;
        for (range, entity) in &self.moved {
            text.push_str(&self.sql.text[at..range.start]);
            text.push_str(&relation(&entity.value));
            at = range.end;
        }
        text.push_str(&self.sql.text[at..]);
        text
    }

    /// The character of the query as written that a character of the expanded one belongs to; both
    /// count from 0. A place inside a relation is the place where it is named.
    pub fn original(&self, position: usize, mut relation: impl FnMut(&str) -> String) -> usize {
        let chars = |text: &str| text.chars().count();
        let (mut at, mut written, mut expanded) = (0, 0, 0);
        for (range, entity) in &self.moved {
            let before = chars(&self.sql.text[at..range.start]);
            if position < expanded + before {
                break;
            }
            (written, expanded) = (written + before, expanded + before);
            let length = chars(&relation(&entity.value));
            if position < expanded + length {
                return written;
            }
            (written, expanded) = (
                written + chars(&self.sql.text[range.clone()]),
                expanded + length,
            );
            at = range.end;
        }
        written + position.saturating_sub(expanded)
    }
}

impl Invariant {
    /// The entities it is about, each once, sorted. Empty for a pair of queries that names none:
    /// such a pair is about the whole project.
    pub fn entities(&self) -> Vec<&str> {
        let mut names: Vec<&str> = match &self.form {
            InvariantForm::Entity { entity, .. } => vec![entity.value.as_str()],
            InvariantForm::Queries {
                source,
                target,
                entities,
                ..
            } => {
                let moved = source.moved.iter().chain(&target.moved);
                moved
                    .map(|(_, entity)| entity)
                    .chain(entities)
                    .map(|entity| entity.value.as_str())
                    .collect()
            }
        };
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source_files::{SourceFiles, Span};

    #[test]
    fn places_of_the_expanded_query_lead_back() {
        let text = "select ä from {moved:a} m join {moved:b} n on m.x = n.y";
        let mut files = SourceFiles::new("");
        let file = files.add("a.toml", text);
        let span = Span::new(file, 0..0);
        let place = |needle: &str| {
            let start = text.find(needle).expect("it is there");
            start..start + needle.len()
        };
        let entity = |name: &str| Spanned::new(name.to_owned(), span);
        let query = InvariantQuery {
            sql: Sql::new(text, span),
            moved: vec![
                (place("{moved:a}"), entity("a")),
                (place("{moved:b}"), entity("b")),
            ],
        };
        let relation = |name: &str| format!("(select legacy_id from the_rows_of_{name})");
        let expanded = query.expand(relation);
        assert!(expanded.starts_with("select ä from (select legacy_id from the_rows_of_a) m join"));
        let chars = |text: &str, needle: &str| {
            text[..text.find(needle).expect("it is there")]
                .chars()
                .count()
        };
        for (needle, written) in [
            ("select ä", "select ä"),
            (" m join", " m join"),
            ("m.x", "m.x"),
            ("n.y", "n.y"),
            ("the_rows_of_a", "{moved:a}"),
            ("the_rows_of_b", "{moved:b}"),
        ] {
            assert_eq!(
                query.original(chars(&expanded, needle), relation),
                chars(text, written),
                "{needle}"
            );
        }
    }
}
