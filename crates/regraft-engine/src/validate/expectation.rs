//! What a column should hold, and how what it holds is judged.

use regraft_project::{BadJson, EmptyJson};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::canonical::Sides;
use super::compare::{Shape, base};
use super::distribution::Seen;
use super::json::{self, Strings};

/// What is expected of one column.
pub(super) struct Expectation<'a> {
    /// The target column.
    pub(super) column: &'a str,
    /// What is selected from the table `t` of the target.
    pub(super) target: String,
    /// What is selected from the source, where anything is.
    pub(super) source: Option<String>,
    /// What is hashed to compare sums; `None` where only the values themselves tell.
    pub(super) sums: Option<Sides>,
    pub(super) shape: Shape,
    pub(super) expected: Expected,
    /// The values that the project lists, each once, and for each case which of them it is.
    pub(super) listed: Listed,
}

/// The values that a project lists for a column, and the binary form of each.
#[derive(Default)]
pub(super) struct Listed {
    values: Vec<String>,
    forms: Vec<Vec<u8>>,
    literals: Vec<String>,
    of_case: Vec<Option<usize>>,
}

impl Listed {
    /// Adds a case that becomes a value.
    pub(super) fn add(&mut self, value: Option<(&str, &[u8])>, literal: &str) {
        let place = value.map(|(value, form)| {
            let known = self.values.iter().position(|other| other == value);
            known.unwrap_or_else(|| {
                self.values.push(value.to_owned());
                self.forms.push(form.to_vec());
                self.literals.push(literal.to_owned());
                self.values.len() - 1
            })
        });
        self.of_case.push(place);
    }
}

/// Where the expected value comes from.
pub(super) enum Expected {
    /// It is the source's value.
    Value,
    /// The same in every row.
    Constant(Option<Vec<u8>>),
    /// The source's value is the number of a case.
    Case(Vec<Outcome>),
    /// The source's value is text that may be JSON.
    Json {
        binary: bool,
        bad: BadJson,
        empty: EmptyJson,
    },
    /// The source's value is a uuid in its text form.
    UuidText,
}

/// What a case makes of a value.
pub(super) enum Outcome {
    Becomes(Option<Vec<u8>>),
    StaysBehind,
}

/// What a row's value turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// What it should be.
    Right,
    /// Something else.
    Different,
    /// By its rule the row should not be in the target at all.
    ShouldStayBehind,
}

/// The answer to "can this be checked": if not, why.
pub(super) type Checkable<T> = std::result::Result<T, String>;

impl Expectation<'_> {
    /// The same with what is hashed; json has no equality, so that only its values tell.
    pub(super) fn with_sums(mut self, of: &Type, sums: Sides) -> Self {
        self.sums = (*base(of) != Type::JSON).then_some(sums);
        self
    }

    /// What a row adds to the distribution of the column.
    pub(super) fn seen(&self, source: Option<&[u8]>, target: Option<&[u8]>, right: bool) -> Seen {
        let null_held = target.is_none();
        let case = || {
            let case = i32::from_be_bytes(source?.try_into().ok()?);
            usize::try_from(case).ok()
        };
        match &self.expected {
            Expected::Case(_) => {
                let expected = case().and_then(|case| self.listed.of_case.get(case).copied()?);
                let held = match right {
                    true => expected,
                    false => target
                        .and_then(|held| self.listed.forms.iter().position(|form| form == held)),
                };
                Seen {
                    null_expected: expected.is_none(),
                    null_held,
                    listed: Some((expected, held)),
                }
            }
            Expected::Constant(value) => Seen {
                null_expected: value.is_none(),
                null_held,
                listed: None,
            },
            Expected::Value | Expected::Json { .. } | Expected::UuidText => Seen {
                null_expected: if right { null_held } else { source.is_none() },
                null_held,
                listed: None,
            },
        }
    }

    /// The same as literals of the target's type.
    pub(super) fn listed_literals(&self) -> &[String] {
        &self.listed.literals
    }

    /// The values that the project lists for the column.
    pub(super) fn listed(&self) -> &[String] {
        &self.listed.values
    }

    /// Holds a row's values against each other.
    pub(super) fn judge(&self, source: Option<&[u8]>, target: Option<&[u8]>) -> Verdict {
        let same = match &self.expected {
            Expected::Value => self.shape.same(source, target),
            Expected::Constant(value) => self.shape.same(value.as_deref(), target),
            Expected::Case(outcomes) => {
                let case = source
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(i32::from_be_bytes);
                let outcome = case.and_then(|case| outcomes.get(usize::try_from(case).ok()?));
                match outcome {
                    Some(Outcome::Becomes(value)) => self.shape.same(value.as_deref(), target),
                    _ => return Verdict::ShouldStayBehind,
                }
            }
            Expected::Json { binary, bad, empty } => match parsed(source, *binary, bad, empty) {
                Some(document) => document.is_in(target, *binary),
                None => return Verdict::ShouldStayBehind,
            },
            Expected::UuidText => {
                let key = source.and_then(|text| Uuid::try_parse_ascii(text).ok());
                match key {
                    Some(key) => target == Some(key.as_bytes().as_slice()),
                    None => return Verdict::ShouldStayBehind,
                }
            }
        };
        if same {
            Verdict::Right
        } else {
            Verdict::Different
        }
    }
}

/// A document that a column should hold.
enum Document<'a> {
    Null,
    /// A json column keeps the text.
    Text(&'a [u8]),
    Canonical(Vec<u8>),
}

impl Document<'_> {
    fn is_in(&self, target: Option<&[u8]>, binary: bool) -> bool {
        match (self, target) {
            (Self::Null, None) => true,
            (Self::Text(text), Some(held)) => *text == held,
            (Self::Canonical(form), Some(held)) => {
                let text = if binary {
                    held.strip_prefix(&[1])
                } else {
                    Some(held)
                };
                text.and_then(|text| json::canonical(text, strings(binary)))
                    .as_ref()
                    == Some(form)
            }
            _ => false,
        }
    }
}

fn strings(binary: bool) -> Strings {
    if binary {
        Strings::Characters
    } else {
        Strings::Any
    }
}

/// What a text becomes under the rule; `None` when the row should be in quarantine.
fn parsed<'a>(
    text: Option<&'a [u8]>,
    binary: bool,
    bad: &BadJson,
    empty: &EmptyJson,
) -> Option<Document<'a>> {
    let Some(text) = text else {
        return Some(Document::Null);
    };
    if text.trim_ascii().is_empty() {
        return match empty {
            EmptyJson::Null => Some(Document::Null),
            EmptyJson::Quarantine => None,
            EmptyJson::Value(value) => {
                json::canonical(value.as_bytes(), strings(binary)).map(Document::Canonical)
            }
        };
    }
    match (json::canonical(text, strings(binary)), bad) {
        (Some(_), _) if !binary => Some(Document::Text(text)),
        (Some(form), _) => Some(Document::Canonical(form)),
        (None, BadJson::Null) => Some(Document::Null),
        (None, BadJson::Quarantine) => None,
        (None, BadJson::KeepAs(name)) => {
            Some(Document::Canonical(json::canonical_object(name, text)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(
        text: Option<&str>,
        bad: &BadJson,
        empty: &EmptyJson,
        target: Option<&str>,
    ) -> Option<bool> {
        let held = target.map(|t| [b"\x01", t.as_bytes()].concat());
        let document = parsed(text.map(str::as_bytes), true, bad, empty)?;
        Some(document.is_in(held.as_deref(), true))
    }

    #[test]
    fn texts_become_json_by_their_rule() {
        let (bad, empty) = (BadJson::KeepAs("raw".to_owned()), EmptyJson::Null);
        assert_eq!(
            holds(
                Some(r#"{"b":1.0,"a":2}"#),
                &bad,
                &empty,
                Some(r#"{"a": 2, "b": 1}"#)
            ),
            Some(true)
        );
        assert_eq!(
            holds(
                Some(r#"{"b":1.0,"a":2}"#),
                &bad,
                &empty,
                Some(r#"{"a": 2, "b": 1.1}"#)
            ),
            Some(false)
        );
        assert_eq!(
            holds(Some("it's"), &bad, &empty, Some(r#"{"raw": "it's"}"#)),
            Some(true)
        );
        assert_eq!(holds(Some("it's"), &bad, &empty, None), Some(false));
        assert_eq!(holds(Some("  "), &bad, &empty, None), Some(true));
        assert_eq!(
            holds(
                Some(""),
                &bad,
                &EmptyJson::Value("[]".to_owned()),
                Some("[]")
            ),
            Some(true)
        );
        assert_eq!(holds(Some(""), &bad, &EmptyJson::Quarantine, None), None);
        assert_eq!(holds(Some("{"), &BadJson::Quarantine, &empty, None), None);
        assert_eq!(holds(Some("{"), &BadJson::Null, &empty, None), Some(true));
        assert_eq!(
            holds(None, &BadJson::Quarantine, &EmptyJson::Quarantine, None),
            Some(true)
        );
    }
}
