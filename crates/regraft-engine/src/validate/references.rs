//! References: every edge of the source goes between the mapped ends. The target's keys are turned
//! back into legacy ids through the parents' mappings, and compared in the source's key space.

use std::collections::BTreeMap;

use regraft_pg::{Session, quote};

use super::columns::refused;
use super::databases::Databases;
use super::edge::{Edge, Fault, Judged, Reference, references};
use super::parents::Known;
use super::report::{Check, Finding, Tally};
use super::rows::{Meeting, Merge, Parts, Rows};
use super::subject::{KeptRows, Subject};
use crate::error::Result;

/// Edges that are looked up together.
const LOOKUP: usize = 5_000;

/// The check, and what it could not look at.
pub(super) async fn check(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
) -> Result<(Check, Vec<String>)> {
    let (mut list, mut findings, mut not_checked) = (Vec::new(), Vec::new(), Vec::new());
    for reference in references(subject) {
        match reference {
            Err(why) => not_checked.push(why),
            Ok(reference) => match column_type(subject, &reference) {
                Some("uuid") => list.push(reference),
                Some(other) => not_checked.push(format!(
                    "{}.{}: a reference of type {other} can't be turned back into a legacy id",
                    subject.name(),
                    reference.column
                )),
                None if subject.table.is_none() => {
                    not_checked.push(format!(
                        "{}.{}: the table or its key is not there",
                        subject.name(),
                        reference.column
                    ));
                }
                None => {
                    let what = format!("the table has no column `{}`", reference.column);
                    findings.extend(Tally::of(1, Vec::new()).finding(what));
                }
            },
        }
    }
    let mut looked_at = 0;
    if !list.is_empty() {
        match follow(databases, subject, &list).await {
            Ok(followed) => {
                looked_at = followed.edges;
                findings.extend(followed.findings(&list));
            }
            Err(error) => findings.extend(refused(&error).ok_or(error)?),
        }
    }
    Ok((Check::new("references", looked_at, findings), not_checked))
}

fn column_type<'a>(subject: &Subject<'a>, reference: &Reference<'_>) -> Option<&'a str> {
    Some(subject.table?.column(reference.column)?.type_name.as_str())
}

/// What following the edges came to.
struct Followed {
    edges: u64,
    tallies: BTreeMap<(usize, usize, Fault), Tally>,
}

impl Followed {
    fn add(
        &mut self,
        reference: usize,
        parent: Option<usize>,
        fault: Fault,
        id: impl FnOnce() -> String,
    ) {
        // A fault that is about no particular parent is counted under the first.
        self.tallies
            .entry((reference, parent.unwrap_or(0), fault))
            .or_default()
            .add(id);
    }

    fn findings(&self, references: &[Reference<'_>]) -> Vec<Finding> {
        self.tallies
            .iter()
            .filter_map(|((reference, parent, fault), tally)| {
                let reference = references.get(*reference)?;
                let parent = reference.parents.get(*parent)?;
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

async fn follow(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    references: &[Reference<'_>],
) -> Result<Followed> {
    let session = databases.source().await?;
    let followed = follow_over(databases, &session, subject, references).await?;
    databases.give_back(session);
    Ok(followed)
}

async fn follow_over(
    databases: &Databases<'_>,
    session: &Session,
    subject: &Subject<'_>,
    references: &[Reference<'_>],
) -> Result<Followed> {
    let list: Vec<String> = references.iter().flat_map(Reference::source_list).collect();
    let fields = list.len() + 1;
    let parts = Parts::Kept(KeptRows::new(subject, list, &databases.lookup));
    let source = Rows::new(session, parts, fields);
    let width = 1 + references
        .iter()
        .map(Reference::target_width)
        .sum::<usize>();
    let query = target_query(subject, references);
    let target = Rows::new(&databases.target, Parts::One(Some(query)), width);
    let mut merge = Merge::new(source, target, subject.numeric);
    let mut followed = Followed {
        edges: 0,
        tallies: BTreeMap::new(),
    };
    let mut waiting = Vec::new();
    while let Some(meeting) = merge.next().await? {
        if meeting == Meeting::Both {
            follow_row(&mut followed, &merge, references, &mut waiting);
            if waiting.len() >= LOOKUP {
                settle(databases, subject, references, &mut followed, &mut waiting).await?;
            }
        }
    }
    settle(databases, subject, references, &mut followed, &mut waiting).await?;
    Ok(followed)
}

fn follow_row(
    followed: &mut Followed,
    merge: &Merge<'_>,
    references: &[Reference<'_>],
    waiting: &mut Vec<Waiting>,
) {
    let (mut at_source, mut at_target) = (1, 1);
    for (i, reference) in references.iter().enumerate() {
        let read = reference.read(&merge.source, at_source, &merge.target, at_target);
        at_source += reference.source_width();
        at_target += reference.target_width();
        followed.edges += u64::from(read.has_edge());
        match read.judge(reference) {
            Judged::Right => {}
            Judged::Wrong(parent, fault) => followed.add(i, parent, fault, || merge.id()),
            Judged::Unknown(edge) => waiting.push(Waiting {
                id: merge.id(),
                reference: i,
                edge,
            }),
        }
    }
}

/// Looks up the parents of all waiting edges, and judges them.
async fn settle(
    databases: &Databases<'_>,
    subject: &Subject<'_>,
    references: &[Reference<'_>],
    followed: &mut Followed,
    waiting: &mut Vec<Waiting>,
) -> Result<()> {
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Waiting {
        reference, edge, ..
    } in waiting.iter()
    {
        wanted
            .entry(references[*reference].parents[edge.parent])
            .or_default()
            .push(&edge.wanted);
    }
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for (parent, mut ids) in wanted {
        ids.sort_unstable();
        ids.dedup();
        known.insert(
            parent.to_owned(),
            Known::look_up(&databases.lookup, subject, parent, &ids).await?,
        );
    }
    for Waiting {
        id,
        reference: i,
        edge,
    } in waiting.drain(..)
    {
        let reference = &references[i];
        let Some(known) = known.get(reference.parents[edge.parent]) else {
            continue;
        };
        if let Some(fault) = edge.settle(reference, known) {
            followed.add(i, Some(edge.parent), fault, || id.clone());
        }
    }
    Ok(())
}

/// The mapped rows of the target under their legacy ids; for each reference the key it holds, and
/// for each entity that the key may be of, the legacy id behind it and whether the row is there.
fn target_query(subject: &Subject<'_>, references: &[Reference<'_>]) -> String {
    let id = subject.ledger_id("m");
    let (mut list, mut joins) = (id.clone(), String::new());
    for (i, reference) in references.iter().enumerate() {
        let column = format!("t.{}", quote::ident(reference.column));
        list.push_str(&format!(", {column}"));
        for (j, parent) in reference.parents.iter().enumerate() {
            let exists = match subject.parent_place(parent) {
                Some((table, key)) => {
                    format!("exists (select from {table} parent where parent.{key} = {column})")
                }
                None => "false".to_owned(),
            };
            list.push_str(&format!(", back_{i}_{j}.legacy_id, {exists}"));
            joins.push_str(&format!(
                "\nleft join (select new_id, min(legacy_id) as legacy_id from {} all_back group by new_id) back_{i}_{j}
                   on back_{i}_{j}.new_id = {column}",
                subject.mappings_of(parent)
            ));
        }
    }
    format!(
        "select {list} from {} m join {} t on t.{} = m.new_id{joins}\norder by {id}",
        subject.mappings(),
        subject.table_name,
        subject.key_column()
    )
}
