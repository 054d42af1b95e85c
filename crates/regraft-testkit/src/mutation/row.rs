//! Rows that are gone, there twice, nobody's, or another's.

use regraft_pg::{Session, quote};

use super::class::Class;
use super::ground::{Kind, Subject};
use super::verdict::Expected;
use super::{Candidate, EXAMPLES, Round, change, shuffle, uuid};
use crate::dice::Dice;
use crate::servers::rows;

pub(super) async fn strike(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    dice: &mut Dice,
) -> bool {
    let subjects = round.ground.subjects.iter().collect();
    for subject in shuffle(subjects, dice) {
        let struck = match class {
            Class::DuplicatedRow | Class::ForeignRow => {
                insert(round, session, subject, class, dice).await
            }
            Class::MissingRow => missing(round, session, subject, dice).await,
            Class::MissingParent => missing_parent(round, session, subject, dice).await,
            Class::SwappedMappings => swapped(round, session, subject, dice).await,
            Class::MissingMapping => unmapped(round, session, subject, dice).await,
            _ => disowned(round, session, subject, dice).await,
        };
        if struck {
            return true;
        }
    }
    false
}

/// SQL for rows that nothing refers to, and whose key no other legacy id has.
fn leaf(round: &Round<'_>, subject: &Subject) -> String {
    let mut condition = alone(subject);
    for (child, column) in round.ground.children(&subject.name) {
        let column = quote::ident(column);
        condition.push_str(&format!(
            " and not exists (select from {} x where x.{column} = m.new_id)",
            child.table
        ));
    }
    condition
}

fn alone(subject: &Subject) -> String {
    format!(
        "m.new_id not in (select o.new_id from {} o group by 1 having count(*) > 1)",
        subject.mappings
    )
}

const UNKNOWN: &str = "that no mapping knows";

/// The finding about a row that no mapping knows.
async fn unknown(session: &Session, subject: &Subject, key: &str) -> Expected {
    let (answers, legacy) = &subject.answers;
    let legacy = legacy.as_ref().map_or_else(
        || "null".to_owned(),
        |legacy| format!("t.{}::text", quote::ident(legacy)),
    );
    let query = format!(
        "select coalesce({legacy}, 'key ' || t.{key_column}::text) from {} t where t.{key_column} = {}",
        subject.table,
        uuid(key),
        key_column = subject.key,
    );
    let mut rows = rows(session, &query).await;
    let id = rows.pop().and_then(|mut row| row.pop()).flatten();
    let says = format!("rows in table `{}`", subject.table_plain);
    Expected::of_row(answers, "counts", UNKNOWN, &id.unwrap_or_default(), &says)
}

async fn insert(
    round: &mut Round<'_>,
    session: &Session,
    subject: &Subject,
    class: Class,
    dice: &mut Dice,
) -> bool {
    if !round.has_room(&subject.answers.0, "counts", UNKNOWN, 1) {
        return false;
    }
    let id = rows(session, "select gen_random_uuid()::text").await;
    let key = id.concat().pop().flatten().unwrap_or_default();
    let (statement, what) = if class == Class::ForeignRow {
        let insert = format!(
            "insert into {} ({}) values ({})",
            subject.table,
            subject.key,
            uuid(&key)
        );
        (insert, format!("{} {key}", subject.name))
    } else {
        let found = round.candidates(session, subject, "true", dice).await;
        let Some(row) = found.into_iter().next() else {
            return false;
        };
        // Its double keeps the legacy id; the row itself must not change any more.
        round.touch(&subject.name, &row.id);
        let others = subject
            .writable
            .iter()
            .filter(|column| **column != subject.key_plain);
        let others = quote::idents(others.map(String::as_str));
        let insert = format!(
            "insert into {table} ({key_column}, {others}) select {}, {others} from {table} t where t.{key_column} = {}",
            uuid(&key),
            uuid(&row.key),
            table = subject.table,
            key_column = subject.key,
        );
        (insert, format!("{} {}", subject.name, row.id))
    };
    // A partitioned table may have no place for a row of defaults.
    if !change(session, &statement, 1).await {
        return false;
    }
    let expected = unknown(session, subject, &key).await;
    round.record(class, what, vec![expected]);
    true
}

const NO_ROW: &str = "mapped, but table";

async fn delete(session: &Session, subject: &Subject, row: &Candidate) {
    let delete = format!(
        "delete from {} t where t.{} = {}",
        subject.table,
        subject.key,
        uuid(&row.key)
    );
    assert!(change(session, &delete, 1).await, "{delete}");
}

async fn missing(
    round: &mut Round<'_>,
    session: &Session,
    subject: &Subject,
    dice: &mut Dice,
) -> bool {
    if !round.has_room(&subject.name, "counts", NO_ROW, 1) {
        return false;
    }
    let leaf = leaf(round, subject);
    let found = round.candidates(session, subject, &leaf, dice).await;
    let Some(row) = found.into_iter().next() else {
        return false;
    };
    delete(session, subject, &row).await;
    round.touch(&subject.name, &row.id);
    let expected = Expected::of_row(&subject.name, "counts", NO_ROW, &row.id, "has no such row");
    let what = format!("{} {}", subject.name, row.id);
    round.record(Class::MissingRow, what, vec![expected]);
    true
}

/// The findings about all rows that refer to one, if there are any, and all of them can be told.
async fn orphans(
    round: &Round<'_>,
    session: &Session,
    subject: &Subject,
    row: &Candidate,
) -> Option<Vec<Expected>> {
    let mut orphans = Vec::new();
    for (child, column) in round.ground.children(&subject.name) {
        let query = format!(
            "select c.legacy_id from {} c join {} x on x.{} = c.new_id
             where x.{} = {} and c.merged_into is null limit {}",
            child.mappings,
            child.table,
            child.key,
            quote::ident(column),
            uuid(&row.key),
            EXAMPLES + 1
        );
        let ids = rows(session, &query).await.concat();
        let ids: Vec<String> = ids.into_iter().flatten().collect();
        // A row that refers to itself is gone with the reference.
        let is_itself = |id: &String| child.name == subject.name && *id == row.id;
        let told = |id: &String| round.is_fresh(&child.name, id) && !is_itself(id);
        if !round.has_room(&child.name, "references", column, ids.len()) || !ids.iter().all(told) {
            return None;
        }
        let says = "points to a row that is not in the table of";
        let orphan = |id: &String| Expected::of_row(&child.name, "references", column, id, says);
        orphans.extend(ids.iter().map(orphan));
    }
    (!orphans.is_empty()).then_some(orphans)
}

async fn missing_parent(
    round: &mut Round<'_>,
    session: &Session,
    subject: &Subject,
    dice: &mut Dice,
) -> bool {
    let children = round.ground.children(&subject.name);
    if children.is_empty() || !round.has_room(&subject.name, "counts", NO_ROW, 1) {
        return false;
    }
    let condition = alone(subject);
    for row in round.candidates(session, subject, &condition, dice).await {
        let mut expected = vec![Expected::of_row(
            &subject.name,
            "counts",
            NO_ROW,
            &row.id,
            "has no such row",
        )];
        let Some(orphans) = orphans(round, session, subject, &row).await else {
            continue;
        };
        expected.extend(orphans);
        delete(session, subject, &row).await;
        for one in &expected {
            round.touch(&one.entity, one.id.as_deref().unwrap_or_default());
        }
        round.record(
            Class::MissingParent,
            format!("{} {}", subject.name, row.id),
            expected,
        );
        return true;
    }
    false
}

async fn unmapped(
    round: &mut Round<'_>,
    session: &Session,
    subject: &Subject,
    dice: &mut Dice,
) -> bool {
    const NOWHERE: &str = "not accounted for";
    if subject.merges
        || !round.has_room(&subject.name, "account", NOWHERE, 1)
        || !round.has_room(&subject.answers.0, "counts", UNKNOWN, 1)
        || !round.recounted.insert(subject.name.clone())
    {
        return false;
    }
    let leaf = leaf(round, subject);
    let found = round.candidates(session, subject, &leaf, dice).await;
    let Some(row) = found.into_iter().next() else {
        return false;
    };
    let delete = format!(
        "delete from regraft.migration_mappings where entity = {} and new_id = {}",
        quote::literal(&subject.name),
        uuid(&row.key)
    );
    assert!(change(session, &delete, 1).await, "{delete}");
    round.touch(&subject.name, &row.id);
    let expected = vec![
        Expected::of_row(&subject.name, "account", NOWHERE, &row.id, ""),
        unknown(session, subject, &row.key).await,
    ];
    round.record(
        Class::MissingMapping,
        format!("{} {}", subject.name, row.id),
        expected,
    );
    true
}

const OTHER_ID: &str = "is not the legacy id that the row is mapped under";

async fn disowned(
    round: &mut Round<'_>,
    session: &Session,
    subject: &Subject,
    dice: &mut Dice,
) -> bool {
    let Some(legacy) = &subject.legacy else {
        return false;
    };
    if !round.has_room(&subject.name, "mapping", legacy, 1) {
        return false;
    }
    let condition = alone(subject);
    let found = round.candidates(session, subject, &condition, dice).await;
    let Some(row) = found.into_iter().next() else {
        return false;
    };
    let column = quote::ident(legacy);
    let wrong = if subject.legacy_is_text {
        format!("{column} || ' '")
    } else {
        format!("{column} + 1")
    };
    let update = format!(
        "update {} set {column} = {wrong} where {} = {}",
        subject.table,
        subject.key,
        uuid(&row.key)
    );
    if !change(session, &update, 1).await {
        return false;
    }
    round.touch(&subject.name, &row.id);
    let expected = Expected::of_row(&subject.name, "mapping", legacy, &row.id, OTHER_ID);
    round.record(
        Class::LegacyId,
        format!("{} {}", subject.name, row.id),
        vec![expected],
    );
    true
}

/// Lets two legacy ids have each other's key: every column in which the two rows differ is wrong
/// for both.
async fn swapped(
    round: &mut Round<'_>,
    session: &Session,
    subject: &Subject,
    dice: &mut Dice,
) -> bool {
    let leaf = leaf(round, subject);
    let found = round.candidates(session, subject, &leaf, dice).await;
    let [first, second, ..] = found.as_slice() else {
        return false;
    };
    let places = places(subject);
    let differs: Vec<String> = places
        .iter()
        .map(|(_, column, cast)| {
            let column = quote::ident(column);
            format!("(a.{column}{cast} is distinct from b.{column}{cast})::int::text")
        })
        .collect();
    let query = format!(
        "select {} from {table} a, {table} b where a.{key} = {} and b.{key} = {}",
        differs.join(", "),
        uuid(&first.key),
        uuid(&second.key),
        table = subject.table,
        key = subject.key,
    );
    let differ = rows(session, &query).await.pop().unwrap_or_default();
    let mut expected = Vec::new();
    for ((check, column, _), differs) in places.iter().zip(differ) {
        if differs.as_deref() != Some("1") {
            continue;
        }
        if !round.has_room(&subject.name, check, column, 2) {
            return false;
        }
        for row in [first, second] {
            expected.push(Expected::of_row(&subject.name, check, column, &row.id, ""));
        }
    }
    // Two rows that are the same in everything can be swapped.
    if expected.is_empty() {
        return false;
    }
    let update = format!(
        "update regraft.migration_mappings set new_id = case new_id when {a} then {b} else {a} end
         where entity = {} and new_id in ({a}, {b})",
        quote::literal(&subject.name),
        a = uuid(&first.key),
        b = uuid(&second.key),
    );
    assert!(change(session, &update, 2).await, "{update}");
    for row in [first, second] {
        round.touch(&subject.name, &row.id);
    }
    let what = format!("{} {} and {}", subject.name, first.id, second.id);
    round.record(Class::SwappedMappings, what, expected);
    true
}

/// What is compared of a row: the check, the column, and what it is cast to where it has no
/// equality of its own.
fn places(subject: &Subject) -> Vec<(&'static str, &str, &'static str)> {
    let mut places: Vec<(&'static str, &str, &'static str)> = Vec::new();
    for column in &subject.values {
        let cast = if column.kind == Kind::Other {
            "::text"
        } else {
            ""
        };
        places.push(("columns", &column.name, cast));
    }
    for edge in &subject.edges {
        places.push(("references", &edge.name, ""));
    }
    if let Some(legacy) = &subject.legacy {
        places.push(("mapping", legacy, ""));
    }
    if subject.same_as.is_some() {
        places.push(("references", &subject.key_plain, ""));
    }
    if subject.key_from_source {
        places.push(("columns", &subject.key_plain, ""));
    }
    places
}
