//! References that go somewhere else than the source's.

use regraft_pg::{Session, quote};

use super::class::Class;
use super::ground::{EdgeColumn, Subject};
use super::verdict::Expected;
use super::{Candidate, Round, change, shuffle, uuid};
use crate::dice::Dice;
use crate::servers::rows;

pub(super) async fn strike(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    dice: &mut Dice,
) -> bool {
    let mut places = Vec::new();
    for subject in &round.ground.subjects {
        places.extend(subject.edges.iter().map(|edge| (subject, edge)));
    }
    let rows = if class == Class::SwappedParents { 2 } else { 1 };
    for (subject, edge) in shuffle(places, dice) {
        if round.has_room(&subject.name, "references", &edge.name, rows)
            && at(round, session, class, (subject, edge), dice).await
        {
            return true;
        }
    }
    false
}

async fn at(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    (subject, edge): (&Subject, &EdgeColumn),
    dice: &mut Dice,
) -> bool {
    let column = format!("t.{}", quote::ident(&edge.name));
    if class == Class::InventedEdge {
        let fresh = round
            .candidates(session, subject, &format!("{column} is null"), dice)
            .await;
        let Some(parent) = edge.parents.first() else {
            return false;
        };
        let Some(to) = parent_of(round, session, parent, None, dice).await else {
            return false;
        };
        return point(
            round,
            session,
            class,
            (subject, edge),
            fresh,
            &uuid(&to.key),
            (parent, &to.id),
            "",
        )
        .await;
    }
    for parent in shuffle(edge.parents.clone(), dice) {
        let Some(mappings) = round.ground.subject(&parent).map(|p| p.mappings.clone()) else {
            continue;
        };
        let points = format!("exists (select from {mappings} p where p.new_id = {column})");
        let fresh = round.candidates(session, subject, &points, dice).await;
        let struck = match class {
            Class::DroppedEdge => {
                point(
                    round,
                    session,
                    class,
                    (subject, edge),
                    fresh,
                    "null",
                    (&parent, ""),
                    "is NULL, though",
                )
                .await
            }
            Class::DanglingEdge => {
                let says = "holds a key that no mapping of";
                point(
                    round,
                    session,
                    class,
                    (subject, edge),
                    fresh,
                    "gen_random_uuid()",
                    (&parent, ""),
                    says,
                )
                .await
            }
            Class::MovedChild => {
                let Some(first) = fresh.into_iter().next() else {
                    continue;
                };
                let held = held(session, subject, edge, &first).await;
                let Some(to) = parent_of(round, session, &parent, Some(&held), dice).await else {
                    continue;
                };
                let says = "points to another row of";
                point(
                    round,
                    session,
                    class,
                    (subject, edge),
                    vec![first],
                    &uuid(&to.key),
                    (&parent, &to.id),
                    says,
                )
                .await
            }
            _ => swap(round, session, (subject, edge), &fresh).await,
        };
        if struck {
            return true;
        }
    }
    false
}

/// A mapped row of an entity under another key than the given one.
async fn parent_of(
    round: &Round<'_>,
    session: &Session,
    parent: &str,
    other_than: Option<&str>,
    dice: &mut Dice,
) -> Option<Candidate> {
    let subject = round.ground.subject(parent)?;
    let condition = other_than.map_or_else(
        || "true".to_owned(),
        |key| format!("m.new_id <> {}", uuid(key)),
    );
    let found = round.candidates(session, subject, &condition, dice).await;
    found.into_iter().next()
}

async fn held(session: &Session, subject: &Subject, edge: &EdgeColumn, row: &Candidate) -> String {
    let query = format!(
        "select t.{}::text from {} t where t.{} = {}",
        quote::ident(&edge.name),
        subject.table,
        subject.key,
        uuid(&row.key)
    );
    let mut rows = rows(session, &query).await;
    rows.pop()
        .and_then(|mut row| row.pop())
        .flatten()
        .unwrap_or_default()
}

/// Lets the reference of the first of some rows hold something else.
#[expect(
    clippy::too_many_arguments,
    reason = "one call for each kind of strike"
)]
async fn point(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    (subject, edge): (&Subject, &EdgeColumn),
    rows: Vec<Candidate>,
    to: &str,
    parent: (&str, &str),
    says: &str,
) -> bool {
    let Some(row) = rows.into_iter().next() else {
        return false;
    };
    let update = format!(
        "update {} t set {} = {to} where t.{} = {}",
        subject.table,
        quote::ident(&edge.name),
        subject.key,
        uuid(&row.key)
    );
    if !change(session, &update, 1).await {
        return false;
    }
    round.touch(&subject.name, &row.id);
    // Who is pointed to must stay.
    round.touch(parent.0, parent.1);
    let expected = Expected::of_row(&subject.name, "references", &edge.name, &row.id, says);
    let what = format!("{}.{} of {}", subject.name, edge.name, row.id);
    round.record(class, what, vec![expected]);
    true
}

/// Lets two rows have each other's parent.
async fn swap(
    round: &mut Round<'_>,
    session: &Session,
    (subject, edge): (&Subject, &EdgeColumn),
    rows: &[Candidate],
) -> bool {
    let Some((first, others)) = rows.split_first() else {
        return false;
    };
    let of_first = held(session, subject, edge, first).await;
    for other in others {
        let of_other = held(session, subject, edge, other).await;
        if of_other == of_first {
            continue;
        }
        let mut expected = Vec::new();
        for (row, to) in [(first, &of_other), (other, &of_first)] {
            let update = format!(
                "update {} t set {} = {} where t.{} = {}",
                subject.table,
                quote::ident(&edge.name),
                uuid(to),
                subject.key,
                uuid(&row.key)
            );
            assert!(change(session, &update, 1).await, "{update}");
            round.touch(&subject.name, &row.id);
            let says = "points to another row of";
            expected.push(Expected::of_row(
                &subject.name,
                "references",
                &edge.name,
                &row.id,
                says,
            ));
        }
        let what = format!(
            "{}.{} of {} and {}",
            subject.name, edge.name, first.id, other.id
        );
        round.record(Class::SwappedParents, what, expected);
        return true;
    }
    false
}
