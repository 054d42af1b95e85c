//! Corruption of a migrated target, one thing at a time and at random, and the comparison of what a
//! validation finds with what was corrupted: each named, and nothing else.
//!
//! A [`Ground`] is the migrated target with what can be corrupted in it. A [`Round`] works on a
//! copy of it: it strikes any number of times, never twice at the same row, so that each strike can
//! be held against the findings on its own.

mod class;
mod edge;
mod ground;
mod ledger;
mod row;
mod value;
mod verdict;

pub use class::Class;
pub use ground::Ground;

use std::collections::{BTreeMap, BTreeSet};

use regraft_engine::{Method, Validation, ValidationOptions, ValidationType};
use regraft_pg::{Session, quote};

use crate::dice::Dice;
use crate::servers::{block_on, rows, session};
use ground::Subject;
use verdict::Expected;

/// Ids that a finding has to show: strikes beyond them that lead to the same finding could not be
/// told apart.
const EXAMPLES: usize = 20;

/// Rows that are tried for one strike.
const CANDIDATES: usize = 12;

/// One thing that was corrupted.
#[derive(Debug)]
struct Strike {
    class: Class,
    what: String,
    /// What a validation has to report of it, each.
    expected: Vec<Expected>,
}

/// Strikes at one copy of a migrated target.
#[derive(Debug)]
pub struct Round<'a> {
    ground: &'a Ground,
    url: String,
    strikes: Vec<Strike>,
    /// Rows that something was done to, or that something depends on: (entity, legacy id).
    touched: BTreeSet<(String, String)>,
    /// Entities whose rows are counted otherwise already.
    recounted: BTreeSet<String>,
    /// How many rows each finding will name.
    named: BTreeMap<(String, &'static str, String), usize>,
}

/// A row that can be struck: its legacy id and its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    id: String,
    key: String,
}

impl<'a> Round<'a> {
    /// A round on the target at `url`, a copy of the ground's.
    pub fn new(ground: &'a Ground, url: String) -> Self {
        Self {
            ground,
            url,
            strikes: Vec::new(),
            touched: BTreeSet::new(),
            recounted: BTreeSet::new(),
            named: BTreeMap::new(),
        }
    }

    /// Corrupts one thing of each of these classes; gives the classes for which nothing was left
    /// that could be.
    pub fn strike(&mut self, classes: &[Class], dice: &mut Dice) -> Vec<Class> {
        let url = self.url.clone();
        block_on(async {
            let session = session(&url).await;
            // No trigger and no foreign key says anything.
            let replica = session.batch_execute("set session_replication_role = replica");
            replica.await.expect("a superuser may");
            let mut left = Vec::new();
            for class in classes {
                if !self.one(&session, *class, dice).await {
                    left.push(*class);
                }
            }
            session.close().await;
            left
        })
    }

    async fn one(&mut self, session: &Session, class: Class, dice: &mut Dice) -> bool {
        match class {
            Class::DroppedEdge
            | Class::MovedChild
            | Class::SwappedParents
            | Class::DanglingEdge
            | Class::InventedEdge => edge::strike(self, session, class, dice).await,
            Class::DuplicatedRow
            | Class::MissingRow
            | Class::MissingParent
            | Class::ForeignRow
            | Class::SwappedMappings
            | Class::MissingMapping
            | Class::LegacyId => row::strike(self, session, class, dice).await,
            Class::AccountCount
            | Class::BatchCount
            | Class::CheckpointCount
            | Class::QuarantineEntry => ledger::strike(self, session, class, dice).await,
            _ => value::strike(self, session, class, dice).await,
        }
    }

    /// Takes everything back that was done; the ground must have been kept.
    pub fn undo(&mut self) {
        let tables: BTreeSet<&str> = self.strikes.iter().map(|s| self.table_of(s)).collect();
        let url = &self.url;
        block_on(async {
            let session = session(url).await;
            let replica = session.batch_execute("set session_replication_role = replica");
            replica.await.expect("a superuser may");
            for table in tables {
                ground::restore(&session, table).await;
            }
            session.close().await;
        });
        *self = Self::new(self.ground, self.url.clone());
    }

    /// The table that a strike changed.
    fn table_of(&self, strike: &Strike) -> &'a str {
        match strike.class {
            Class::SwappedMappings | Class::MissingMapping => "regraft.migration_mappings",
            Class::AccountCount | Class::BatchCount => "regraft.migration_control",
            Class::CheckpointCount => "regraft.migration_checkpoints",
            Class::QuarantineEntry => "regraft.migration_quarantine",
            _ => {
                let first = strike.expected.first();
                let subject = first.and_then(|first| self.ground.subject(&first.entity));
                subject.map_or("", |subject| subject.table.as_str())
            }
        }
    }

    /// The classes of what was corrupted.
    pub fn classes(&self) -> impl Iterator<Item = Class> {
        self.strikes.iter().map(|strike| strike.class)
    }

    /// How a round must be validated: all rows, and all that is found is shown. Whoever corrupts
    /// takes indexes off, so that performance is not asked for.
    pub fn options(method: Method) -> ValidationOptions {
        ValidationOptions {
            types: ValidationType::ALL
                .into_iter()
                .filter(|of| *of != ValidationType::PerformanceCheck)
                .collect(),
            examples: EXAMPLES,
            method,
            ..ValidationOptions::default()
        }
    }

    /// What is wrong with a validation of the corrupted target: strikes that it did not find, and
    /// findings that are of no strike.
    pub fn faults(&self, validation: &Validation) -> Vec<String> {
        verdict::faults(&self.strikes, validation)
    }

    /// Whether this row is still as it was migrated, and nothing hangs on it.
    fn is_fresh(&self, entity: &str, id: &str) -> bool {
        !self.touched.contains(&(entity.to_owned(), id.to_owned()))
    }

    fn touch(&mut self, entity: &str, id: &str) {
        self.touched.insert((entity.to_owned(), id.to_owned()));
    }

    /// Whether findings can still name this many more rows at this place.
    fn has_room(&self, entity: &str, check: &'static str, place: &str, rows: usize) -> bool {
        let key = (entity.to_owned(), check, place.to_owned());
        self.named.get(&key).copied().unwrap_or(0) + rows <= EXAMPLES
    }

    fn record(&mut self, class: Class, what: String, expected: Vec<Expected>) {
        for one in expected.iter().filter(|one| one.id.is_some()) {
            let key = (one.entity.clone(), one.check, one.place.clone());
            *self.named.entry(key).or_default() += 1;
        }
        self.strikes.push(Strike {
            class,
            what,
            expected,
        });
    }

    /// Mapped rows of an entity that fulfil a condition on `t` (the row) and `m` (its mapping), a
    /// few of them, at random, fresh ones only.
    async fn candidates(
        &self,
        session: &Session,
        subject: &Subject,
        condition: &str,
        dice: &mut Dice,
    ) -> Vec<Candidate> {
        let query = format!(
            "select m.legacy_id, m.new_id::text from {} m join {} t on t.{} = m.new_id
             where m.merged_into is null and ({condition}) order by md5(m.legacy_id || '{}') limit {CANDIDATES}",
            subject.mappings,
            subject.table,
            subject.key,
            dice.roll()
        );
        let rows = rows(session, &query).await;
        rows.into_iter()
            .map(|mut row| Candidate {
                key: row.pop().flatten().unwrap_or_default(),
                id: row.pop().flatten().unwrap_or_default(),
            })
            .filter(|candidate| self.is_fresh(&subject.name, &candidate.id))
            .collect()
    }
}

/// Runs a statement that must change so many rows; `false`, and nothing is changed, when the server
/// refuses it: a longer text may not fit.
async fn change(session: &Session, statement: &str, expected: u64) -> bool {
    match session.execute(statement, &[]).await {
        Ok(changed) => {
            assert_eq!(changed, expected, "{statement}");
            true
        }
        Err(error) => {
            let error = session.error(error);
            let state = error.sqlstate().unwrap_or_default().to_owned();
            // Data exceptions (a text too long, a number too large) and constraints of domains.
            assert!(
                state.starts_with("22") || state.starts_with("23"),
                "{}: {statement}",
                error.message()
            );
            false
        }
    }
}

/// Puts things in an order of chance.
fn shuffle<T>(mut things: Vec<T>, dice: &mut Dice) -> Vec<T> {
    for i in (1..things.len()).rev() {
        let other = usize::try_from(dice.below(i as u64 + 1)).unwrap_or(0);
        things.swap(i, other);
    }
    things
}

fn uuid(key: &str) -> String {
    format!("{}::uuid", quote::literal(key))
}
