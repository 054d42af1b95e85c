//! One reference of one row: what the source says, what the target holds, and whether the two agree.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::quote;
use regraft_project::{KeyStrategy, Missing, Rule, Spanned, Sql};
use uuid::Uuid;

use super::canonical::Sides;
use super::parents::Known;
use super::rows::Rows;
use super::subject::Subject;

/// A column that holds the key of a row of another entity, or the key itself where it is one.
pub(super) struct Reference<'a> {
    /// The target column.
    pub(super) column: &'a str,
    /// The entities it may point into, each once.
    pub(super) parents: Vec<&'a str>,
    /// The value that chooses the entity, and the entity it chooses.
    by: Option<(&'a Sql, BTreeMap<&'a str, usize>)>,
    from: &'a Sql,
    fallback: Fallback,
}

/// What the column holds when the row it should point to was not migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fallback {
    /// Nothing: the row is not in the target either.
    StaysBehind,
    Null,
    Key(Uuid),
}

/// The references of an entity, or why one can't be followed.
pub(super) fn references<'a>(subject: &Subject<'a>) -> Vec<Result<Reference<'a>, String>> {
    let entity = subject.entity;
    let key = &entity.target.key;
    let mut references = Vec::new();
    if let KeyStrategy::SameAs {
        entity: parent,
        from,
    } = &key.strategy
    {
        references.push(Ok(Reference {
            column: &key.column.value,
            parents: vec![&parent.value],
            by: None,
            from: from.as_ref().unwrap_or(&entity.source.key),
            fallback: Fallback::StaysBehind,
        }));
    }
    for column in &entity.columns {
        let name = column.name.value.as_str();
        let reference = match &column.rule {
            Rule::Ref {
                entity: parent,
                from,
                missing,
            } => fallback(missing).map(|fallback| Reference {
                column: name,
                parents: vec![&parent.value],
                by: None,
                from,
                fallback,
            }),
            Rule::RefBy {
                by,
                cases,
                from,
                missing,
            } => fallback(missing).map(|fallback| {
                let (parents, cases) = numbered(cases);
                Reference {
                    column: name,
                    parents,
                    by: Some((by, cases)),
                    from,
                    fallback,
                }
            }),
            _ => continue,
        };
        references.push(reference.map_err(|why| format!("{}.{name}: {why}", subject.name())));
    }
    references
}

/// The entities of a list of cases, each once, and the number of the one that each value chooses.
fn numbered(cases: &[(Spanned<String>, Spanned<String>)]) -> (Vec<&str>, BTreeMap<&str, usize>) {
    let parents: BTreeSet<&str> = cases
        .iter()
        .map(|(_, parent)| parent.value.as_str())
        .collect();
    let parents: Vec<&str> = parents.into_iter().collect();
    let numbers = cases
        .iter()
        .filter_map(|(value, parent)| {
            Some((
                value.value.as_str(),
                parents.binary_search(&parent.value.as_str()).ok()?,
            ))
        })
        .collect();
    (parents, numbers)
}

fn fallback(missing: &Missing) -> Result<Fallback, String> {
    match missing {
        Missing::Quarantine => Ok(Fallback::StaysBehind),
        Missing::Null => Ok(Fallback::Null),
        Missing::Default(text) => Uuid::try_parse(text.value.trim())
            .map(Fallback::Key)
            .map_err(|_| "the default of its rule is no uuid".to_owned()),
    }
}

/// A query for every key of an entity: the legacy id behind it, and whether the row is there. It is
/// asked once for each parent and not for each child, which costs a fraction.
fn keys_turned_back(subject: &Subject<'_>, parent: &str) -> String {
    let mappings = subject.mappings_of(parent);
    let (there, join) = match subject.parent_place(parent) {
        Some((table, key)) => (
            format!("bool_or(parent.{key} is not null)"),
            format!(" left join {table} parent on parent.{key} = m.new_id"),
        ),
        None => ("false".to_owned(), String::new()),
    };
    format!(
        "select m.new_id, min(m.legacy_id) as legacy_id, {there} as there
         from {mappings} m{join} group by m.new_id"
    )
}

/// What is wrong with a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// NULL, though the parent was migrated.
    Lost,
    /// Not NULL, though the source's is.
    Invented,
    /// Between the wrong ends.
    OtherRow,
    /// A key that no mapping knows.
    UnknownKey,
    /// The mapped row is not in the table.
    Orphan,
    /// Should be NULL, because the parent was not migrated.
    NotNull,
    /// Should be the default, because the parent was not migrated.
    NotDefault,
    /// Should not be in the target, because the parent is in quarantine.
    ParentInQuarantine,
    /// Should not be in the target, because the parent was not migrated.
    ParentMissing,
    /// Should not be in the target, because no entity is chosen.
    NoCase,
}

impl Fault {
    /// The fault for people.
    pub(super) fn describe(self, column: &str, parent: &str) -> String {
        let behind = "this row should have stayed behind";
        match self {
            Self::Lost => format!(
                "`{column}` is NULL, though the source points to a migrated row of `{parent}`"
            ),
            Self::Invented => {
                format!("`{column}` points to a row, where the source points to none")
            }
            Self::OtherRow => {
                format!("`{column}` points to another row of `{parent}` than the source does")
            }
            Self::UnknownKey => {
                format!("`{column}` holds a key that no mapping of `{parent}` knows")
            }
            Self::Orphan => {
                format!("`{column}` points to a row that is not in the table of `{parent}`")
            }
            Self::NotNull => {
                format!("`{column}` should be NULL: its row of `{parent}` was not migrated")
            }
            Self::NotDefault => {
                format!(
                    "`{column}` should be its rule's default: its row of `{parent}` was not migrated"
                )
            }
            Self::ParentInQuarantine => {
                format!("`{column}`: its row of `{parent}` is in quarantine, {behind}")
            }
            Self::ParentMissing => {
                format!("`{column}`: its row of `{parent}` was not migrated, {behind}")
            }
            Self::NoCase => format!("`{column}`: the source's value chooses no entity, {behind}"),
        }
    }
}

/// Both sides of a reference as they were read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'r> {
    /// The entity that the source points into.
    parent: Option<usize>,
    /// The legacy id over there.
    wanted: Option<&'r [u8]>,
    /// The key that the target holds.
    held: Option<Uuid>,
    /// The legacy id behind that key, if it is one of that entity.
    back: Option<&'r [u8]>,
    /// Whether that entity's table has the row.
    there: bool,
}

/// What can be said of a reference at once.
pub(super) enum Judged {
    Right,
    Wrong(Option<usize>, Fault),
    /// It depends on whether the parent was migrated.
    Unknown(Edge),
}

/// A reference that can't be judged before its parent is looked up.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    /// Which of the reference's entities.
    pub(super) parent: usize,
    /// The legacy id over there.
    pub(super) wanted: String,
    held: Option<Uuid>,
    back: bool,
    there: bool,
}

impl Reference<'_> {
    /// What is selected from the source.
    pub(super) fn source_list(&self) -> Vec<String> {
        let by = self
            .by
            .as_ref()
            .map(|(by, _)| format!("({}\n)::text", by.text));
        by.into_iter()
            .chain([format!("({}\n)::text", self.from.text)])
            .collect()
    }

    /// Whether the source alone says what the target should hold: not where an edge to a row that was
    /// not migrated becomes NULL or a default.
    pub(super) fn is_told_by_the_source(&self) -> bool {
        self.fallback == Fallback::StaysBehind
    }

    /// What is hashed for the reference of this number, and the joins that the target needs: whether
    /// there is an edge at all, and for each entity it may go to, the legacy id over there.
    pub(super) fn sums(&self, subject: &Subject<'_>, number: usize) -> (Vec<Sides>, String) {
        let (_, joins) = self.target_list(subject, number);
        let column = format!("t.{}", quote::ident(self.column));
        let wanted = format!("({}\n)::text collate \"C\"", self.from.text);
        let mut sides = vec![Sides {
            source: self.has_edge(),
            target: format!("{column} is not null"),
        }];
        for j in 0..self.parents.len() {
            let chosen = match &self.by {
                None => wanted.clone(),
                Some((by, cases)) => {
                    let values = cases.iter().filter(|(_, parent)| **parent == j);
                    let values = quote::array(values.map(|(value, _)| *value), "text");
                    format!(
                        "case when ({}\n)::text = any ({values}) then {wanted} end",
                        by.text
                    )
                }
            };
            let back = format!("back_{number}_{j}");
            sides.push(Sides {
                source: chosen,
                target: format!("case when {back}.there then {back}.legacy_id end collate \"C\""),
            });
        }
        (sides, joins)
    }

    /// SQL for whether the source has an edge that goes to some entity.
    fn has_edge(&self) -> String {
        let wanted = format!("({}\n) is not null", self.from.text);
        match &self.by {
            None => wanted,
            Some((by, cases)) => {
                let values = quote::array(cases.keys().copied(), "text");
                format!(
                    "({wanted} and coalesce(({}\n)::text = any ({values}), false))",
                    by.text
                )
            }
        }
    }

    /// SQL for how many edges the source's row has: one or none.
    pub(super) fn counted(&self) -> String {
        format!("(({}\n) is not null)::int", self.from.text)
    }

    /// How many fields are selected from the source.
    pub(super) fn source_width(&self) -> usize {
        1 + usize::from(self.by.is_some())
    }

    /// What is selected from the target for the reference of this number, and the joins it needs:
    /// the key it holds, and for each entity that the key may be of, the legacy id behind it and
    /// whether the row is there.
    pub(super) fn target_list(&self, subject: &Subject<'_>, number: usize) -> (String, String) {
        let column = format!("t.{}", quote::ident(self.column));
        let (mut list, mut joins) = (format!(", {column}"), String::new());
        for (j, parent) in self.parents.iter().enumerate() {
            let back = format!("back_{number}_{j}");
            list.push_str(&format!(", {back}.legacy_id, {back}.there"));
            joins.push_str(&format!(
                "\nleft join ({}) {back} on {back}.new_id = {column}",
                keys_turned_back(subject, parent)
            ));
        }
        (list, joins)
    }

    /// How many fields are selected from the target.
    pub(super) fn target_width(&self) -> usize {
        1 + 2 * self.parents.len()
    }

    /// Reads both sides of the current rows, from the given fields on.
    pub(super) fn read<'r>(
        &self,
        source: &'r Rows<'_>,
        at_source: usize,
        target: &'r Rows<'_>,
        at_target: usize,
    ) -> Read<'r> {
        let (parent, wanted) = match &self.by {
            None => (Some(0), source.field(at_source)),
            Some((_, cases)) => {
                let value = source
                    .field(at_source)
                    .and_then(|value| std::str::from_utf8(value).ok());
                (
                    value.and_then(|value| cases.get(value).copied()),
                    source.field(at_source + 1),
                )
            }
        };
        let at_parent = parent.map(|parent| at_target + 1 + 2 * parent);
        Read {
            parent,
            wanted,
            held: target
                .field(at_target)
                .and_then(|key| Uuid::from_slice(key).ok()),
            back: at_parent.and_then(|at| target.field(at)),
            there: at_parent.and_then(|at| target.field(at + 1)) == Some(&[1]),
        }
    }
}

impl Read<'_> {
    /// Whether the source points to a row.
    pub(super) fn has_edge(&self) -> bool {
        self.wanted.is_some()
    }

    /// Judges as far as that needs no lookup.
    pub(super) fn judge(&self, reference: &Reference<'_>) -> Judged {
        let Some(wanted) = self.wanted else {
            return match self.held {
                None => Judged::Right,
                Some(_) => Judged::Wrong(None, Fault::Invented),
            };
        };
        let Some(parent) = self.parent else {
            let fault = match reference.fallback {
                Fallback::StaysBehind => Some(Fault::NoCase),
                Fallback::Null => self.held.map(|_| Fault::Invented),
                Fallback::Key(key) => (self.held != Some(key)).then_some(Fault::NotDefault),
            };
            return fault.map_or(Judged::Right, |fault| Judged::Wrong(None, fault));
        };
        if self.back == Some(wanted) {
            return if self.there {
                Judged::Right
            } else {
                Judged::Wrong(Some(parent), Fault::Orphan)
            };
        }
        Judged::Unknown(Edge {
            parent,
            wanted: String::from_utf8_lossy(wanted).into_owned(),
            held: self.held,
            back: self.back.is_some(),
            there: self.there,
        })
    }
}

impl Edge {
    /// Judges with what is known of the parents; `None` when nothing is wrong.
    pub(super) fn settle(&self, reference: &Reference<'_>, known: &Known) -> Option<Fault> {
        if let Some(keys) = known.keys.get(&self.wanted) {
            return match self.held {
                None => Some(Fault::Lost),
                Some(held) if keys.contains(&held) => (!self.there).then_some(Fault::Orphan),
                Some(_) if self.back => Some(Fault::OtherRow),
                Some(_) => Some(Fault::UnknownKey),
            };
        }
        match reference.fallback {
            Fallback::StaysBehind if known.quarantined.contains(&self.wanted) => {
                Some(Fault::ParentInQuarantine)
            }
            Fallback::StaysBehind => Some(Fault::ParentMissing),
            Fallback::Null => self.held.map(|_| Fault::NotNull),
            Fallback::Key(key) => (self.held != Some(key)).then_some(Fault::NotDefault),
        }
    }
}

#[cfg(test)]
mod tests {
    use regraft_project::Span;

    use super::*;

    const RIGHT: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn verdict(
        fallback: Fallback,
        held: Option<Uuid>,
        back: Option<&[u8]>,
        there: bool,
    ) -> Option<Fault> {
        let from = sql();
        let reference = Reference {
            column: "c",
            parents: vec!["p"],
            by: None,
            from: &from,
            fallback,
        };
        let read = Read {
            parent: Some(0),
            wanted: Some(b"5"),
            held,
            back,
            there,
        };
        settled(&reference, read)
    }

    fn settled(reference: &Reference<'_>, read: Read<'_>) -> Option<Fault> {
        let known = Known {
            keys: BTreeMap::from([("5".to_owned(), BTreeSet::from([RIGHT]))]),
            quarantined: BTreeSet::from(["6".to_owned()]),
        };
        match read.judge(reference) {
            Judged::Right => None,
            Judged::Wrong(_, fault) => Some(fault),
            Judged::Unknown(edge) => edge.settle(reference, &known),
        }
    }

    fn sql() -> Sql {
        let project = regraft_project::Project::from_files("t", files()).unwrap();
        let file = project.entities()[0].file;
        Sql::new(
            "x",
            Span {
                file,
                start: 0,
                end: 3,
            },
        )
    }

    fn files() -> Vec<(String, String)> {
        let entity = "[source]\nfrom = \"t\"\nkey = \"id\"\n[target]\ntable = \"t\"\n\
                      key = { column = \"id\", strategy = \"uuid_v4\" }\n[columns]\na = \"a\"\n";
        vec![
            (
                "regraft.toml".to_owned(),
                "version = 1\nname = \"t\"\n".to_owned(),
            ),
            ("entities/t.toml".to_owned(), entity.to_owned()),
        ]
    }

    #[test]
    fn a_mapped_parent_must_be_the_one_that_is_held() {
        for fallback in [Fallback::StaysBehind, Fallback::Null, Fallback::Key(OTHER)] {
            assert_eq!(verdict(fallback, Some(RIGHT), Some(b"5"), true), None);
            assert_eq!(
                verdict(fallback, Some(RIGHT), Some(b"5"), false),
                Some(Fault::Orphan)
            );
            assert_eq!(verdict(fallback, None, None, false), Some(Fault::Lost));
            assert_eq!(
                verdict(fallback, Some(OTHER), Some(b"7"), true),
                Some(Fault::OtherRow)
            );
            assert_eq!(
                verdict(fallback, Some(OTHER), None, true),
                Some(Fault::UnknownKey)
            );
            // Two legacy ids share the key: the mapping's fault, not this row's.
            assert_eq!(verdict(fallback, Some(RIGHT), Some(b"4"), true), None);
        }
    }

    #[test]
    fn a_parent_that_was_not_migrated_leaves_what_the_rule_says() {
        let from = sql();
        let of = |fallback, wanted, held: Option<Uuid>| {
            let reference = Reference {
                column: "c",
                parents: vec!["p"],
                by: None,
                from: &from,
                fallback,
            };
            settled(
                &reference,
                Read {
                    parent: Some(0),
                    wanted,
                    held,
                    back: held.map(|_| &b"9"[..]),
                    there: true,
                },
            )
        };
        assert_eq!(of(Fallback::Null, Some(b"8"), None), None);
        assert_eq!(
            of(Fallback::Null, Some(b"8"), Some(OTHER)),
            Some(Fault::NotNull)
        );
        assert_eq!(of(Fallback::Key(OTHER), Some(b"8"), Some(OTHER)), None);
        assert_eq!(
            of(Fallback::Key(OTHER), Some(b"8"), None),
            Some(Fault::NotDefault)
        );
        assert_eq!(
            of(Fallback::StaysBehind, Some(b"8"), None),
            Some(Fault::ParentMissing)
        );
        assert_eq!(
            of(Fallback::StaysBehind, Some(b"6"), None),
            Some(Fault::ParentInQuarantine)
        );
        assert_eq!(of(Fallback::StaysBehind, None, None), None);
        assert_eq!(of(Fallback::Null, None, Some(OTHER)), Some(Fault::Invented));
    }
}
