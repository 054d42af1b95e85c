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
    place: (&Subject, &EdgeColumn),
    dice: &mut Dice,
) -> bool {
    let (subject, edge) = place;
    let column = format!("t.{}", quote::ident(&edge.name));
    for parent in shuffle(edge.parents.clone(), dice) {
        let Some(mappings) = round.ground.subject(&parent).map(|p| p.mappings.clone()) else {
            continue;
        };
        let condition = match class {
            Class::InventedEdge => format!("{column} is null"),
            _ => format!("exists (select from {mappings} p where p.new_id = {column})"),
        };
        let rows = round.candidates(session, subject, &condition, dice).await;
        let struck = if class == Class::SwappedParents {
            swap(round, session, place, &rows).await
        } else {
            let Some(row) = rows.into_iter().next() else {
                continue;
            };
            let Some(wrong) =
                wrong(round, session, class, (subject, edge, &row), &parent, dice).await
            else {
                continue;
            };
            point(round, session, class, place, &row, wrong).await
        };
        if struck {
            return true;
        }
    }
    false
}

/// What a reference holds instead of what it should.
struct Wrong {
    sql: String,
    /// The row that it leads to, which must stay.
    to: Option<(String, String)>,
    says: &'static str,
}

async fn wrong(
    round: &Round<'_>,
    session: &Session,
    class: Class,
    (subject, edge, row): (&Subject, &EdgeColumn, &Candidate),
    parent: &str,
    dice: &mut Dice,
) -> Option<Wrong> {
    let nothing = |sql: &str, says| Wrong {
        sql: sql.to_owned(),
        to: None,
        says,
    };
    let (held, says) = match class {
        Class::DroppedEdge => return Some(nothing("null", "is NULL, though")),
        Class::DanglingEdge => {
            let says = "holds a key that no mapping of";
            return Some(nothing("gen_random_uuid()", says));
        }
        Class::MovedChild => {
            let held = held(session, subject, edge, row).await;
            (Some(held), "points to another row of")
        }
        _ => (None, ""),
    };
    let to = parent_of(round, session, parent, held.as_deref(), dice).await?;
    Some(Wrong {
        sql: uuid(&to.key),
        to: Some((parent.to_owned(), to.id)),
        says,
    })
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

/// Lets the reference of a row hold something else.
async fn point(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    (subject, edge): (&Subject, &EdgeColumn),
    row: &Candidate,
    wrong: Wrong,
) -> bool {
    let update = format!(
        "update {} t set {} = {} where t.{} = {}",
        subject.table,
        quote::ident(&edge.name),
        wrong.sql,
        subject.key,
        uuid(&row.key)
    );
    if !change(session, &update, 1).await {
        return false;
    }
    round.touch(&subject.name, &row.id);
    if let Some((parent, id)) = &wrong.to {
        round.touch(parent, id);
    }
    let expected = Expected::of_row(&subject.name, "references", &edge.name, &row.id, wrong.says);
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
