//! A ledger that says something else than is true.

use regraft_pg::{Session, quote};

use super::class::Class;
use super::verdict::Expected;
use super::{Round, shuffle};
use crate::dice::Dice;
use crate::servers::rows;

/// Figures of an account.
const FIGURES: [&str; 8] = [
    "source_rows",
    "inserted",
    "updated",
    "unchanged",
    "merged",
    "filtered",
    "quarantined",
    "blocked",
];

pub(super) async fn strike(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    dice: &mut Dice,
) -> bool {
    let subjects = round.ground.subjects.iter().collect();
    for subject in shuffle(subjects, dice) {
        // One figure of an entity at a time: what is wrong with others would be told in one.
        if subject.merges && class == Class::QuarantineEntry
            || !round.recounted.insert(subject.name.clone())
        {
            continue;
        }
        let name = quote::literal(&subject.name);
        let struck = match class {
            Class::QuarantineEntry => quarantine(round, session, &subject.name).await,
            Class::CheckpointCount => {
                let figure = ["batches_done", "rows_done"][usize::from(dice.below(2) == 1)];
                let update = format!(
                    "update regraft.migration_checkpoints set {figure} = {figure} + 1 where entity = {name}"
                );
                figure_of(
                    round,
                    session,
                    class,
                    &subject.name,
                    &update,
                    "the checkpoint",
                )
                .await
            }
            _ => {
                let figure = FIGURES[usize::try_from(dice.below(8)).unwrap_or(0)];
                let batch = if class == Class::AccountCount {
                    "= 0".to_owned()
                } else {
                    format!(
                        "= (select max(batch) from regraft.migration_control where entity = {name} and batch > 0)"
                    )
                };
                let update = format!(
                    "update regraft.migration_control set {figure} = {figure} + 1 where entity = {name} and batch {batch}"
                );
                figure_of(round, session, class, &subject.name, &update, "").await
            }
        };
        if struck {
            return true;
        }
    }
    false
}

async fn figure_of(
    round: &mut Round<'_>,
    session: &Session,
    class: Class,
    entity: &str,
    update: &str,
    says: &str,
) -> bool {
    let done = session.execute(update, &[]).await;
    let done = done.unwrap_or_else(|e| panic!("{}: {update}", session.error(e).message()));
    // An entity without rows has no batches.
    if done == 0 {
        return false;
    }
    let expected = Expected {
        entity: entity.to_owned(),
        check: "account",
        place: String::new(),
        id: None,
        says: says.to_owned(),
    };
    round.record(class, update.to_owned(), vec![expected]);
    true
}

/// Leaves a row out whose expressions the source can compute, as it would have to be compared.
async fn quarantine(round: &mut Round<'_>, session: &Session, entity: &str) -> bool {
    let delete = format!(
        "delete from regraft.migration_quarantine where id = (
           select id from regraft.migration_quarantine
           where entity = {} and state = 'open' and bucket = 'blocked' order by id limit 1)
         returning legacy_id",
        quote::literal(entity)
    );
    let Some(id) = rows(session, &delete).await.concat().pop().flatten() else {
        return false;
    };
    round.touch(entity, &id);
    let expected = Expected::of_row(entity, "account", "not accounted for", &id, "");
    round.record(
        Class::QuarantineEntry,
        format!("{entity} {id}"),
        vec![expected],
    );
    true
}
