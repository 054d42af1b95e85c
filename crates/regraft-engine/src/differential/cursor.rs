//! A cursor of the source (a column that grows with every change) as a shortcut: only ranges of
//! legacy ids with rows from some value on are summed up.
//!
//! The value that a row bears may be older than the moment when others can see the row: its
//! transaction had begun long before it was committed. So every look notes which transactions were
//! open just before its snapshot, and the next one reaches back to before the oldest of those that
//! were still open began. No clock is asked, only the values of the cursor and the transactions'
//! own numbers.

use regraft_ledger::CursorLook;
use regraft_pg::{Session, quote};
use regraft_project::Sql;

use super::way::EntityWay;
use crate::error::{Error, Kind, Result};
use crate::model::EntityModel;
use crate::snapshot::Snapshot;

/// From where on a cursor is read.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    cursor: String,
    from: String,
}

impl Reach {
    /// From a value that somebody names.
    pub(super) fn since(cursor: &str, from: &str) -> Self {
        Self {
            cursor: cursor.to_owned(),
            from: from.to_owned(),
        }
    }

    /// SQL that tells of a group of rows whether one may have changed; one without a value may.
    pub(super) fn touched(&self) -> String {
        let Self { cursor, from } = self;
        let from = quote::literal(from);
        format!("bool_or(coalesce(({cursor}\n) >= {from}, true))")
    }
}

/// From where on the cursor of an entity is to be read; `None` where all rows are to be looked at:
/// there is no cursor, nobody has looked at all rows under it within a day, or what was open then
/// can't be known.
pub(super) async fn reach(
    target: &Session,
    model: &EntityModel,
    way: &EntityWay,
) -> Result<Option<Reach>> {
    let Some(cursor) = &way.cursor else {
        return Ok(None);
    };
    let looks = regraft_ledger::cursor_looks(&**target, &model.name, &cursor.text).await?;
    if !looks.iter().any(|look| look.complete && look.within_a_day) {
        return Ok(None);
    }
    Ok(reach_of(&looks).map(|(from, _)| Reach::since(&cursor.text, from)))
}

/// The value from which on rows may have been changed by transactions that the last of some looks
/// (the latest first) did not see, and the run whose snapshot it is of.
///
/// Such a transaction was open at the last look, or began after it. If none that was open at the
/// last was open at an earlier look too, all of them began after that one had noted what was open,
/// and so after the snapshot of the look before it: their values are above its highest.
fn reach_of(looks: &[CursorLook]) -> Option<(&str, i32)> {
    let last = looks.first()?.open.as_ref()?;
    if last.iter().any(|id| id.starts_with(PREPARED)) {
        return None;
    }
    let began_after = looks.iter().enumerate().find_map(|(at, look)| {
        let open = look.open.as_ref()?;
        let apart =
            at == 0 && last.is_empty() || at > 0 && !last.iter().any(|id| open.contains(id));
        apart.then_some(at)
    })?;
    let before = looks.get(began_after + 1)?;
    Some((before.mark.as_deref()?, before.run_no))
}

/// What a prepared transaction is noted as: when it began can't be known.
pub(crate) const PREPARED: &str = "prepared ";

/// Notes how far a run has read a cursor, and forgets looks that no later one can need.
pub(super) async fn note(
    target: &Session,
    snapshot: &Snapshot,
    model: &EntityModel,
    way: &EntityWay,
    (run_no, complete, mark): (i32, bool, Option<String>),
) -> Result<()> {
    let Some(cursor) = &way.cursor else {
        return Ok(());
    };
    let look = CursorLook {
        run_no,
        mark,
        open: snapshot.open.clone(),
        complete,
        within_a_day: true,
    };
    let (name, layout, position) = (&model.name, &cursor.text, &snapshot.position);
    regraft_ledger::note_cursor_look(&**target, name, layout, position, &look).await?;
    let looks = regraft_ledger::cursor_looks(&**target, name, layout).await?;
    if let Some((_, needed)) = reach_of(&looks) {
        regraft_ledger::forget_cursor_looks(&**target, name, needed).await?;
    }
    Ok(())
}

/// The highest value of an entity's cursor in the snapshot of `source`; `None` where there is none.
///
/// # Errors
/// What the source says to the expression.
pub(super) async fn highest(
    source: &Session,
    model: &EntityModel,
    way: &EntityWay,
) -> Result<Option<String>> {
    let Some(Sql { text: cursor, .. }) = &way.cursor else {
        return Ok(None);
    };
    let sql = format!("select max(({cursor}\n))::text from {}", model.from);
    let row = source
        .query_one(&sql, &[])
        .await
        .map_err(|error| Error::from(source.error(error)).in_entity(&model.name))?;
    Ok(row.get(0))
}

/// Refuses a value that the cursor of an entity can't be compared with.
pub(super) async fn check(
    source: &Session,
    model: &EntityModel,
    cursor: &str,
    from: &str,
) -> Result<()> {
    let sql = format!(
        "select ({cursor}\n) >= {} from {} where false",
        quote::literal(from),
        model.from
    );
    source.query(&sql, &[]).await.map(drop).map_err(|error| {
        Error::new(
            Kind::Usage,
            format!(
                "`{from}` can't be compared with the cursor of `{}`: {}",
                model.name,
                source.error(error)
            ),
        )
        .hint(
            "name a time as 2026-03-01 or '2026-03-01 08:00+01', or whatever the cursor counts by",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(run_no: i32, mark: &str, open: &[&str]) -> CursorLook {
        CursorLook {
            run_no,
            mark: Some(mark.to_owned()),
            open: Some(open.iter().map(|id| (*id).to_owned()).collect()),
            complete: true,
            within_a_day: true,
        }
    }

    #[test]
    fn a_look_reaches_back_to_before_what_was_open_began() {
        let quiet = [look(3, "c", &[]), look(2, "b", &[]), look(1, "a", &[])];
        assert_eq!(reach_of(&quiet), Some(("b", 2)));
        let new = [
            look(3, "c", &["5/1"]),
            look(2, "b", &["4/7"]),
            look(1, "a", &[]),
        ];
        assert_eq!(reach_of(&new), Some(("a", 1)), "5/1 began after look 2");
        let old = [
            look(3, "c", &["4/7"]),
            look(2, "b", &["4/7"]),
            look(1, "a", &[]),
        ];
        assert_eq!(reach_of(&old), None, "4/7 may have begun before look 1");
        let prepared = [
            look(3, "c", &["prepared 812"]),
            look(2, "b", &[]),
            look(1, "a", &[]),
        ];
        assert_eq!(reach_of(&prepared), None);
        let mut unknown = quiet;
        unknown[0].open = None;
        assert_eq!(reach_of(&unknown), None);
    }
}
