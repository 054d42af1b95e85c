//! The groups of both sides held against each other.

use std::collections::BTreeMap;

use regraft_pg::Session;
use regraft_project::{Invariant, Tolerance};

use super::super::report::Finding;
use super::Row;
use super::statement::Statements;
use crate::error::Result;

/// Groups that are named at most, of each invariant.
const NAMED: usize = 20;

/// The figures of a group on both sides.
#[derive(Default)]
struct Group {
    source: Vec<Row>,
    target: Vec<Row>,
}

/// The groups of both sides under their keys.
pub(super) struct Groups(BTreeMap<Row, Group>);

/// A figure that differs as text: where it is, and what both sides have.
struct Candidate<'a> {
    key: &'a Row,
    figure: usize,
    source: Option<&'a str>,
    target: Option<&'a str>,
}

impl Groups {
    /// Brings the rows of both sides together; the first `keys` columns are a group's key.
    pub(super) fn meet(source: Vec<Row>, target: Vec<Row>, keys: usize) -> Self {
        let mut groups: BTreeMap<Row, Group> = BTreeMap::new();
        for mut row in source {
            let figures = row.split_off(keys.min(row.len()));
            groups.entry(row).or_default().source.push(figures);
        }
        for mut row in target {
            let figures = row.split_off(keys.min(row.len()));
            groups.entry(row).or_default().target.push(figures);
        }
        Self(groups)
    }

    /// How many groups either side has.
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// The groups that differ, and how.
    pub(super) async fn differences(
        &self,
        target: &Session,
        invariant: &Invariant,
        statements: &Statements,
    ) -> Result<Differences> {
        let mut found: BTreeMap<Row, Vec<String>> = BTreeMap::new();
        let mut candidates = Vec::new();
        for (key, group) in &self.0 {
            match (group.source.as_slice(), group.target.as_slice()) {
                ([source], [target]) => candidates.extend(differing(key, source, target)),
                (source, target) => {
                    found.insert(key.clone(), vec![one_sided(source, target, statements)]);
                }
            }
        }
        let apart = apart(target, &candidates, statements, &invariant.tolerance).await?;
        for candidate in apart {
            let text = candidate.told(statements);
            found.entry(candidate.key.clone()).or_default().push(text);
        }
        Ok(Differences(found))
    }
}

/// The groups that differ under their keys, and how they do.
#[derive(Debug, Default)]
pub(super) struct Differences(BTreeMap<Row, Vec<String>>);

/// What a later look at the same figures came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// Groups that don't differ any more.
    pub(super) gone: u64,
    /// Whether some differ in another way than before: somebody is writing.
    pub(super) moved: bool,
}

impl Differences {
    /// Whether no group differs.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves out the groups that a later look did not find, and takes its word for the others.
    pub(super) fn confirm(&mut self, mut later: Self) -> Confirmed {
        let before = self.0.len();
        let mut moved = false;
        self.0.retain(|key, told| match later.0.remove(key) {
            None => false,
            Some(now) => {
                moved |= *told != now;
                *told = now;
                true
            }
        });
        Confirmed {
            gone: (before - self.0.len()) as u64,
            moved,
        }
    }

    /// One finding for each group that differs, up to a limit, and one for the rest of them.
    pub(super) fn findings(&self, invariant: &Invariant, statements: &Statements) -> Vec<Finding> {
        findings(invariant, statements, &self.0)
    }
}

/// The figures of a group that differ as text.
fn differing<'a>(
    key: &'a Row,
    source: &'a Row,
    target: &'a Row,
) -> impl Iterator<Item = Candidate<'a>> {
    let pairs = source.iter().zip(target).enumerate();
    pairs
        .filter(|(_, (source, target))| source != target)
        .map(move |(figure, (source, target))| Candidate {
            key,
            figure,
            source: source.as_deref(),
            target: target.as_deref(),
        })
}

impl Candidate<'_> {
    fn told(&self, statements: &Statements) -> String {
        let name = statements.names.get(statements.keys + self.figure);
        format!(
            "{} is {} in the source and {} in the target",
            name.map_or("a figure", String::as_str),
            shown(self.source),
            shown(self.target)
        )
    }
}

fn shown(value: Option<&str>) -> &str {
    value.unwrap_or("NULL")
}

/// What is said of a group that one side lacks, or has more than once.
fn one_sided(source: &[Row], target: &[Row], statements: &Statements) -> String {
    let figures = |rows: &[Row]| {
        let names = statements.names.iter().skip(statements.keys);
        let first = rows.first().into_iter().flatten();
        let list: Vec<String> = names
            .zip(first)
            .map(|(name, value)| format!("{name} {}", shown(value.as_deref())))
            .collect();
        list.join(", ")
    };
    match (source.len(), target.len()) {
        (_, 0) => format!("only the source has this group: {}", figures(source)),
        (0, _) => format!("only the target has this group: {}", figures(target)),
        (in_source, in_target) => format!(
            "the source's query gives this group {in_source} times, the target's {in_target} times"
        ),
    }
}

/// The candidates that are further apart than allowed. The target does the arithmetic: its numbers
/// are exact.
async fn apart<'a>(
    target: &Session,
    candidates: &'a [Candidate<'a>],
    statements: &Statements,
    tolerance: &Tolerance,
) -> Result<Vec<&'a Candidate<'a>>> {
    let is_number = |candidate: &Candidate<'_>| {
        let numeric = statements.numeric.get(candidate.figure);
        numeric.copied().unwrap_or(false)
            && candidate.source.is_some()
            && candidate.target.is_some()
    };
    let numbers: Vec<&Candidate<'_>> = candidates.iter().filter(|c| is_number(c)).collect();
    let mut found: Vec<&Candidate<'_>> = candidates.iter().filter(|c| !is_number(c)).collect();
    let source: Vec<Option<&str>> = numbers.iter().map(|candidate| candidate.source).collect();
    let held: Vec<Option<&str>> = numbers.iter().map(|candidate| candidate.target).collect();
    let (most, condition) = match tolerance {
        Tolerance::Exact => ("0", "a <> b"),
        Tolerance::Absolute(most) => (most.as_str(), "a <> b and abs(a - b) > most"),
        Tolerance::Percent(most) => (most.as_str(), "a <> b and abs(a - b) > abs(a) * most / 100"),
    };
    let sql = format!(
        "select number from (
           select number::int4, source::numeric as a, target::numeric as b, $3::text::numeric as most
           from unnest($1::text[], $2::text[]) with ordinality as pair (source, target, number)) pairs
         where {condition} order by number"
    );
    let rows = target
        .query(&sql, &[&source, &held, &most])
        .await
        .map_err(|error| target.error(error))?;
    for row in &rows {
        let number: i32 = row.get(0);
        let at = usize::try_from(number - 1).ok();
        found.extend(at.and_then(|at| numbers.get(at)));
    }
    found.sort_by(|a, b| (a.key, a.figure).cmp(&(b.key, b.figure)));
    Ok(found)
}

fn findings(
    invariant: &Invariant,
    statements: &Statements,
    found: &BTreeMap<Row, Vec<String>>,
) -> Vec<Finding> {
    let name = &invariant.name.value;
    let mut findings: Vec<Finding> = found
        .iter()
        .take(NAMED)
        .map(|(key, what)| {
            let group = group(key, statements);
            Finding {
                what: format!("{name}: {group}{}", what.join("; ")),
                rows: 1,
                examples: Vec::new(),
            }
        })
        .collect();
    let more = found.len().saturating_sub(NAMED);
    if more > 0 {
        findings.push(Finding {
            what: format!("{name}: further groups that differ"),
            rows: more as u64,
            examples: Vec::new(),
        });
    }
    findings
}

/// A group in words: `status completed, office_id 7: `; nothing where there is only one.
fn group(key: &Row, statements: &Statements) -> String {
    if key.is_empty() {
        return String::new();
    }
    let parts: Vec<String> = statements
        .names
        .iter()
        .zip(key)
        .map(|(name, value)| format!("{name} {}", shown(value.as_deref())))
        .collect();
    format!("{}: ", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(of: &[(&str, &str)]) -> Differences {
        let groups = of.iter().map(|(key, told)| {
            let key = vec![Some((*key).to_owned())];
            (key, vec![(*told).to_owned()])
        });
        Differences(groups.collect())
    }

    #[test]
    fn a_later_look_confirms_what_it_finds_itself() {
        let mut found = differences(&[("a", "1 and 2"), ("b", "3 and 4"), ("c", "5 and 6")]);
        let later = differences(&[("a", "1 and 2"), ("b", "3 and 5"), ("d", "7 and 8")]);
        let confirmed = found.confirm(later);
        assert_eq!(
            confirmed,
            Confirmed {
                gone: 1,
                moved: true
            }
        );
        assert_eq!(
            found.0,
            differences(&[("a", "1 and 2"), ("b", "3 and 5")]).0
        );
        let same = differences(&[("a", "1 and 2"), ("b", "3 and 5")]);
        assert!(!found.confirm(same).moved);
        assert_eq!(found.confirm(Differences::default()).gone, 2);
        assert!(found.is_empty());
    }
}
