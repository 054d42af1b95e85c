//! Undoing what runs changed in rows that others had written: what they deleted comes back, parents
//! first, and then what they overwrote.

use regraft_ledger::Operation;
use regraft_pg::Session;
use serde_json::json;

use super::Part;
use crate::context::Context;
use crate::error::Result;
use crate::failpoints;
use crate::receipt::Undone;
use crate::transaction;

/// What a rollback does, as it goes on: its own record lists what is committed.
pub(super) struct Reversal<'a> {
    pub(super) context: &'a Context,
    pub(super) target: &'a Session,
    /// Children first.
    pub(super) parts: &'a [Part],
    /// The runs that are undone, latest first.
    pub(super) runs: &'a [i32],
    pub(super) force: bool,
    /// The rollback's own run; none in a rehearsal, which happens inside one transaction.
    pub(super) run_no: Option<i32>,
    /// In the order of the parts.
    pub(super) undone: Vec<Undone>,
}

impl Reversal<'_> {
    /// Undoes what was changed, as far as it can be.
    pub(super) async fn changes(&mut self) -> Result<()> {
        for run in self.runs {
            self.bring_back(*run).await?;
            for at in 0..self.parts.len() {
                self.put_back(at, *run).await?;
            }
        }
        Ok(())
    }

    /// Whether something that was deleted has not come back.
    pub(super) fn waits(&self, at: usize) -> bool {
        let back = self.entry(at).map_or(0, |entry| entry.brought_back);
        self.parts[at].deletes > back
    }

    /// Rows may wait for each other: the parts are gone through until none comes back any more.
    async fn bring_back(&mut self, run: i32) -> Result<()> {
        let some: Vec<usize> = (0..self.parts.len())
            .rev()
            .filter(|at| self.parts[*at].deletes > 0)
            .collect();
        let mut by_half = false;
        loop {
            let mut back = 0;
            for at in &some {
                loop {
                    let rows = self.bring_back_part(*at, run, by_half).await?;
                    back += rows;
                    if rows == 0 {
                        break;
                    }
                }
            }
            match (back, by_half) {
                (0, true) => return Ok(()),
                (0, false) => by_half = true,
                _ => by_half = false,
            }
            if !some.iter().any(|at| self.waits(*at)) {
                return Ok(());
            }
        }
    }

    async fn bring_back_part(&mut self, at: usize, run: i32, by_half: bool) -> Result<u64> {
        let (part, target) = (&self.parts[at], self.target);
        let rehearsed = self.run_no.is_none();
        commit(target, rehearsed, async || {
            self.context.stop_requested()?;
            let rows = part.undone.bring_back(&**target, run, by_half).await?;
            if rows > 0 {
                regraft_ledger::forget_agreed_ranges(&**target, &part.step.entity).await?;
                self.note(at, |entry| entry.brought_back += rows).await?;
            }
            Ok(rows)
        })
        .await
        .map_err(|e| e.in_entity(&part.step.entity))
    }

    async fn put_back(&mut self, at: usize, run: i32) -> Result<()> {
        let (part, target, force) = (&self.parts[at], self.target, self.force);
        if !part.changed_by.contains(&run) {
            return Ok(());
        }
        let rehearsed = self.run_no.is_none();
        commit(target, rehearsed, async || {
            self.context.stop_requested()?;
            let rows = part.undone.put_back(&**target, run, force).await?;
            if rows > 0 {
                regraft_ledger::forget_agreed_ranges(&**target, &part.step.entity).await?;
                self.note(at, |entry| entry.put_back += rows).await?;
            }
            Ok(())
        })
        .await
        .map_err(|e| e.in_entity(&part.step.entity))
    }

    /// The entry of a part in the rollback's record.
    fn entry(&self, at: usize) -> Option<&Undone> {
        let entity = &self.parts[at].step.entity;
        self.undone.iter().find(|entry| entry.entity == *entity)
    }

    /// Changes the entry of a part, in the transaction that does what it tells.
    pub(super) async fn note(&mut self, at: usize, change: impl FnOnce(&mut Undone)) -> Result<()> {
        let place = |entity: &str| {
            let is = |part: &Part| part.step.entity == entity;
            self.parts.iter().position(is)
        };
        let step = &self.parts[at].step;
        let found = self.undone.iter().position(|e| e.entity == step.entity);
        let index = found.unwrap_or_else(|| {
            let before = |entry: &Undone| place(&entry.entity) < Some(at);
            let index = self.undone.iter().filter(|entry| before(entry)).count();
            self.undone.insert(
                index,
                Undone {
                    entity: step.entity.clone(),
                    target_table: step.table.clone(),
                    runs: step.runs.clone(),
                    ..Undone::default()
                },
            );
            index
        });
        change(&mut self.undone[index]);
        if let Some(run_no) = self.run_no {
            let list = json!(self.undone);
            regraft_ledger::set_run_detail(&**self.target, run_no, "undone", &list).await?;
        }
        Ok(())
    }

    /// Notes what has not come back; in the receipt too.
    pub(super) async fn leave_deletes(&self) -> Result<()> {
        for part in self.parts.iter().filter(|part| part.deletes > 0) {
            for run in self.runs {
                part.undone.leave_deletes(&**self.target, *run).await?;
            }
        }
        Ok(())
    }

    /// Notes in the record how many rows were left.
    pub(super) async fn note_left(&mut self, left: &[regraft_ledger::LeftRow]) -> Result<()> {
        for at in 0..self.parts.len() {
            let entity = self.parts[at].step.entity.as_str();
            let rows = left.iter().filter(|row| row.entity == entity).count() as u64;
            if rows > 0 {
                self.note(at, |entry| entry.left = rows).await?;
            }
        }
        Ok(())
    }
}

/// A step as a transaction of its own; in a rehearsal as part of that.
async fn commit<T>(
    target: &Session,
    rehearsed: bool,
    work: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    if rehearsed {
        return work().await;
    }
    transaction::run(target, false, async || {
        let done = work().await?;
        failpoints::reach(failpoints::BEFORE_ROLLBACK_COMMIT)?;
        Ok(done)
    })
    .await
}

/// How many rows were left of one operation on an entity.
pub(super) fn count(left: &[regraft_ledger::LeftRow], entity: &str, operation: Operation) -> u64 {
    left.iter()
        .filter(|row| row.entity == entity && row.operation == operation)
        .count() as u64
}
