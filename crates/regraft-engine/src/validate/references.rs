//! References: every edge of the source goes between the mapped ends. The target's keys are turned
//! back into legacy ids through the parents' mappings, and compared in the source's key space.

use std::collections::BTreeMap;

use super::databases::Databases;
use super::edge::{Edge, Fault, Judged, Reference, references};
use super::parents::Known;
use super::report::{Check, Finding, Tallies, Tally};
use super::rows::Merge;
use super::subject::Subject;

/// Edges that are looked up together.
const LOOKUP: usize = 5_000;

/// The references of an entity that can be followed, and what is to be said of the others.
#[derive(Default)]
pub(super) struct Plan<'a> {
    pub(super) references: Vec<Reference<'a>>,
    findings: Vec<Finding>,
    pub(super) not_checked: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Looks at every reference of the project, whether the target declares it or not.
    pub(super) fn new(subject: &Subject<'a>) -> Self {
        let mut plan = Self::default();
        for reference in references(subject) {
            match reference {
                Err(why) => plan.not_checked.push(why),
                Ok(reference) => plan.add(subject, reference),
            }
        }
        plan
    }

    fn add(&mut self, subject: &Subject<'a>, reference: Reference<'a>) {
        let place = format!("{}.{}", subject.name(), reference.column);
        match column_type(subject, &reference) {
            Some("uuid") => self.references.push(reference),
            Some(other) => self.not_checked.push(format!(
                "{place}: a reference of type {other} can't be turned back into a legacy id"
            )),
            None if subject.table.is_none() => self
                .not_checked
                .push(format!("{place}: the table or its key is not there")),
            None => {
                let what = format!("the table has no column `{}`", reference.column);
                self.findings.extend(Tally::of(1, Vec::new()).finding(what));
            }
        }
    }

    /// The check, with what a pass found or why the source could not be read.
    pub(super) fn check(&self, followed: &Result<Followed, Option<Finding>>) -> Check {
        let mut findings = self.findings.clone();
        let looked_at = match followed {
            Ok(followed) => {
                findings.extend(followed.findings(&self.references));
                followed.edges
            }
            Err(finding) => {
                findings.extend(finding.clone());
                0
            }
        };
        Check::new("references", looked_at, findings)
    }
}

fn column_type<'a>(subject: &Subject<'a>, reference: &Reference<'_>) -> Option<&'a str> {
    Some(subject.table?.column(reference.column)?.type_name.as_str())
}

/// What following the edges came to.
#[derive(Default)]
pub(super) struct Followed {
    edges: u64,
    tallies: Tallies<(usize, usize, Fault)>,
    waiting: Vec<Waiting>,
}

impl Followed {
    /// Follows the references of the row that both streams stand at; the first fields after them.
    pub(super) fn row(
        &mut self,
        merge: &Merge<'_>,
        references: &[Reference<'_>],
    ) -> (usize, usize) {
        let (mut at_source, mut at_target) = (1, 1);
        for (i, reference) in references.iter().enumerate() {
            let read = reference.read(&merge.source, at_source, &merge.target, at_target);
            at_source += reference.source_width();
            at_target += reference.target_width();
            self.edges += u64::from(read.has_edge());
            match read.judge(reference) {
                Judged::Right => {}
                Judged::Wrong(parent, fault) => self.add(i, parent, fault, || merge.id()),
                Judged::Unknown(edge) => self.waiting.push(Waiting {
                    id: merge.id(),
                    reference: i,
                    edge,
                }),
            }
        }
        (at_source, at_target)
    }

    /// Counts edges that were found right by other means.
    pub(super) fn add_edges(&mut self, edges: u64) {
        self.edges += edges;
    }

    /// Whether enough edges wait for their parents to be looked up.
    pub(super) fn must_look_up(&self) -> bool {
        self.waiting.len() >= LOOKUP
    }

    /// Looks up the parents of all waiting edges, and judges them.
    pub(super) async fn settle(
        &mut self,
        databases: &Databases<'_>,
        subject: &Subject<'_>,
        references: &[Reference<'_>],
    ) -> crate::error::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let known = look_up(databases, subject, references, &waiting).await?;
        for Waiting {
            id,
            reference: i,
            edge,
        } in waiting
        {
            let reference = &references[i];
            let Some(known) = known.get(reference.parents[edge.parent]) else {
                continue;
            };
            if let Some(fault) = edge.settle(reference, known) {
                self.add(i, Some(edge.parent), fault, || id.clone());
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        reference: usize,
        parent: Option<usize>,
        fault: Fault,
        id: impl FnOnce() -> String,
    ) {
        // A fault that is about no particular parent is counted under the first.
        self.tallies
            .add((reference, parent.unwrap_or(0), fault), id);
    }

    /// What is wrong: the number of the reference, that of the parent, and the fault.
    pub(super) fn faults(&self) -> impl Iterator<Item = (usize, usize, Fault)> {
        self.tallies.keys()
    }

    /// The legacy ids of all differences; `None` where there are too many to look at again.
    pub(super) fn suspects(&self) -> Option<Vec<String>> {
        self.tallies.ids()
    }

    /// Leaves out what a later look at the same legacy ids did not find; how much that is.
    pub(super) fn confirm(&mut self, later: &Self) -> u64 {
        self.tallies.confirm(&later.tallies)
    }

    fn findings(&self, references: &[Reference<'_>]) -> Vec<Finding> {
        self.tallies
            .iter()
            .filter_map(|((reference, parent, fault), tally)| {
                let reference = references.get(reference)?;
                let parent = reference.parents.get(parent)?;
                tally.finding(fault.describe(reference.column, parent))
            })
            .collect()
    }
}

/// An edge that can't be judged before its parent is looked up.
struct Waiting {
    id: String,
    reference: usize,
    edge: Edge,
}

/// What the ledger knows of the parents that edges wait for, by entity.
async fn look_up(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    references: &[Reference<'_>],
    waiting: &[Waiting],
) -> crate::error::Result<BTreeMap<String, Known>> {
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Waiting {
        reference, edge, ..
    } in waiting
    {
        let parent = references[*reference].parents[edge.parent];
        wanted.entry(parent).or_default().push(&edge.wanted);
    }
    let mut known = BTreeMap::new();
    for (parent, mut ids) in wanted {
        ids.sort_unstable();
        ids.dedup();
        let found = Known::look_up(&databases.lookup, subject, parent, &ids).await?;
        known.insert(parent.to_owned(), found);
    }
    Ok(known)
}
