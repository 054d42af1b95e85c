//! Random changes on both sides are carried over, round after round, and a model in plain maps says
//! what the target must hold then and what is left for somebody to decide.
//!
//! `REGRAFT_TEST_ROUNDS` is the number of rounds (200 if not set), twenty to a pair of databases;
//! `REGRAFT_TEST_SEED` repeats what a failed test printed, from those databases on.

#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod town;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use regraft_testkit::{Dice, Program, Rehearsal, Servers};
use town::{Cursor, LEGACY, town};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
const SEED: u64 = 20_260;
/// Rounds for each pair of databases.
const ROUNDS: u64 = 20;

/// A value as text; `None` is NULL.
type Cell = Option<String>;
type Id = i64;

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of these: what the source says, and what the target holds then (`None`: a fault).
    Plain(&'static [(Option<&'static str>, Option<Option<&'static str>>)]),
    /// A row of this table.
    Reference { table: usize, required: bool },
}

#[derive(Debug)]
struct Column {
    name: &'static str,
    source: &'static str,
    kind: Kind,
}

struct Description {
    entity: &'static str,
    source: &'static str,
    columns: &'static [Column],
    /// All legacy ids that may be.
    ids: fn(u64) -> Id,
    many: u64,
}

const fn same(text: &'static str) -> (Option<&'static str>, Option<Option<&'static str>>) {
    (Some(text), Some(Some(text)))
}

const fn becomes(
    said: &'static str,
    held: &'static str,
) -> (Option<&'static str>, Option<Option<&'static str>>) {
    (Some(said), Some(Some(held)))
}

const fn fault(text: &'static str) -> (Option<&'static str>, Option<Option<&'static str>>) {
    (Some(text), None)
}

const NULL: (Option<&str>, Option<Option<&str>>) = (None, Some(None));

const NAME: Kind = Kind::Plain(&[
    same("North"),
    same("South"),
    same(""),
    same("it's"),
    same("ä ö"),
    same("East"),
    (None, None),
]);
const AMOUNT: Kind = Kind::Plain(&[
    becomes("10", "10.00"),
    becomes("10.0", "10.00"),
    same("10.00"),
    becomes("0", "0.00"),
    becomes("-3.5", "-3.50"),
    same("999999.99"),
    same("7.25"),
    NULL,
    fault("12345678"),
]);
const STATE: Kind = Kind::Plain(&[
    becomes("0", "free"),
    becomes("1", "let"),
    becomes("2", "sold"),
    NULL,
    fault("9"),
]);
const NOTES: Kind = Kind::Plain(&[
    becomes("{\"a\":1}", "{\"a\": 1}"),
    becomes("{ \"a\" : 1 }", "{\"a\": 1}"),
    becomes("[1,2]", "[1, 2]"),
    same("null"),
    same("\"x\""),
    NULL,
    fault("{"),
]);
const BUILT: Kind = Kind::Plain(&[
    same("2020-01-01 00:00:00.123456+00"),
    same("2021-06-01 12:00:00.000001+00"),
    same("2021-06-01 12:00:00.000002+00"),
    same("1999-12-31 23:59:59.999999+00"),
]);
const LABEL: Kind = Kind::Plain(&[
    same("a"),
    same("A"),
    same("a "),
    same(""),
    same("line\nend"),
    NULL,
]);

const DISTRICT: usize = 0;
const HOUSE: usize = 1;
const ROOM: usize = 2;

/// The column of houses that their keys' time comes from.
const BUILT_AT: usize = 6;
/// The column of houses that refers to houses.
const TWIN_AT: usize = 2;

const fn column(name: &'static str, source: &'static str, kind: Kind) -> Column {
    Column { name, source, kind }
}

const fn reference(
    name: &'static str,
    source: &'static str,
    table: usize,
    required: bool,
) -> Column {
    Column {
        name,
        source,
        kind: Kind::Reference { table, required },
    }
}

const TABLES: [Description; 3] = [
    Description {
        entity: "districts",
        source: "district",
        columns: &[column("name", "name", NAME)],
        ids: |n| n as Id,
        many: 9,
    },
    Description {
        entity: "houses",
        source: "house",
        columns: &[
            reference("district_id", "district", DISTRICT, true),
            reference("overseer_id", "overseer", DISTRICT, false),
            reference("twin_id", "twin", HOUSE, false),
            column("rent", "rent", AMOUNT),
            column("state", "state", STATE),
            column("notes", "notes", NOTES),
            column("built", "built", BUILT),
            column("label", "label", LABEL),
        ],
        // Over several ranges of ids.
        ids: |n| n as Id * 41,
        many: 24,
    },
    Description {
        entity: "rooms",
        source: "room",
        columns: &[
            reference("house_id", "house", HOUSE, true),
            column("name", "name", NAME),
            column("area", "area", AMOUNT),
        ],
        ids: |n| n as Id + 120,
        many: 20,
    },
];

/// A row of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    cells: Vec<Cell>,
    hidden: bool,
    /// When it was changed last, as hours.
    changed: Option<u64>,
}

/// What both sides have agreed on about a row in place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapped {
    /// What stands for its key: other times make other keys.
    key: String,
    /// What the source said.
    said: Vec<Cell>,
    /// What that came to in the target.
    agreed: Vec<Cell>,
}

/// A row of the target; references as what stands for the parent's key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    cells: Vec<Cell>,
    touched: Option<u64>,
    marked: bool,
}

/// What somebody has to decide on: the kind, and the columns at stake.
type Open = (&'static str, Vec<&'static str>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Table {
    source: BTreeMap<Id, Said>,
    mapped: BTreeMap<Id, Mapped>,
    target: BTreeMap<Id, Held>,
    open: BTreeMap<Id, Open>,
}

impl Table {
    fn kept(&self, id: Id) -> bool {
        self.source.get(&id).is_some_and(|row| !row.hidden)
    }

    /// Rows in place that somebody has changed in the target.
    fn edited(&self, id: Id) -> bool {
        match (self.mapped.get(&id), self.target.get(&id)) {
            (Some(mapped), Some(held)) => mapped.agreed != held.cells,
            _ => false,
        }
    }

    /// Rows in place that the source has no more.
    fn deleted(&self) -> BTreeSet<Id> {
        let ids = self.mapped.keys().copied();
        ids.filter(|id| !self.kept(*id)).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    SourceWins,
    TargetWins,
    Newest,
    Manual,
}

impl Policy {
    const ALL: [Self; 4] = [
        Self::SourceWins,
        Self::TargetWins,
        Self::Newest,
        Self::Manual,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::SourceWins => "source_wins",
            Self::TargetWins => "target_wins",
            Self::Newest => "newest",
            Self::Manual => "manual",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletes {
    Mirror,
    Soft,
    Ignore,
}

impl Deletes {
    const ALL: [Self; 3] = [Self::Mirror, Self::Soft, Self::Ignore];

    fn as_str(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Soft => "soft",
            Self::Ignore => "ignore",
        }
    }
}

/// How a round is done.
#[derive(Debug, Clone, Copy)]
struct Way {
    policy: Policy,
    deletes: Deletes,
}

/// Both sides and what they have agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct World {
    tables: [Table; 3],
    /// Policies of columns of houses.
    columns: Vec<(usize, &'static str)>,
}

impl World {
    fn policy(&self, way: Way, table: usize, column: usize) -> Policy {
        let own = self
            .columns
            .iter()
            .find(|(at, _)| table == HOUSE && *at == column);
        own.map_or(way.policy, |(_, name)| {
            let named = Policy::ALL.into_iter().find(|p| p.as_str() == *name);
            named.expect("a policy")
        })
    }

    /// Whether edits in the target matter for a table even where the source says nothing new.
    fn source_wins_somewhere(&self, way: Way, table: usize) -> bool {
        let columns = 0..TABLES[table].columns.len();
        way.policy == Policy::SourceWins
            || columns
                .into_iter()
                .any(|c| self.policy(way, table, c) == Policy::SourceWins)
    }

    /// The parent of a reference, unless it isn't in place or is among those that go.
    fn parent(&self, table: usize, id: &str, going: &[BTreeSet<Id>; 3]) -> Option<String> {
        let id: Id = id.parse().expect("an id");
        let mapped = self.tables[table].mapped.get(&id)?;
        (!going[table].contains(&id)).then(|| mapped.key.clone())
    }

    /// What a row of the source comes to in the target; `None` where it can't be there.
    fn comes_to(
        &self,
        table: usize,
        said: &[Cell],
        going: &[BTreeSet<Id>; 3],
    ) -> Option<Vec<Cell>> {
        let cells = TABLES[table].columns.iter().zip(said);
        let cells = cells.map(|(column, cell)| match (column.kind, cell) {
            (Kind::Plain(values), _) => {
                let value = values.iter().find(|(said, _)| *said == cell.as_deref());
                let (_, held) = value.expect("one of the values");
                held.map(|held| held.map(str::to_owned))
            }
            (Kind::Reference { required: true, .. }, None) => None,
            (Kind::Reference { .. }, None) => Some(None),
            (Kind::Reference { table, required }, Some(id)) => {
                match self.parent(table, id, going) {
                    None if required => None,
                    key => Some(key),
                }
            }
        });
        cells.collect()
    }

    /// Whether the target has the rows that these columns refer to.
    fn parents_are_there(
        &self,
        table: usize,
        cells: &[Cell],
        written: impl Fn(usize) -> bool,
    ) -> bool {
        let columns = TABLES[table].columns.iter().zip(cells).enumerate();
        columns
            .filter(|(at, _)| written(*at))
            .all(|(_, (column, cell))| match (column.kind, cell) {
                (Kind::Reference { table, .. }, Some(key)) => self.holds(table, key),
                _ => true,
            })
    }

    fn holds(&self, table: usize, key: &str) -> bool {
        let id = legacy_id(key).parse().expect("an id");
        let table = &self.tables[table];
        table.target.contains_key(&id) && table.mapped.get(&id).is_some_and(|m| m.key == key)
    }

    /// Rows of a table that the source keeps and that name one of these rows of `parents`.
    fn naming(&self, table: usize, parents: usize, ids: &BTreeSet<Id>) -> BTreeSet<Id> {
        let rows = self.tables[table].source.iter();
        let names = |said: &Said| {
            let columns = TABLES[table].columns.iter().zip(&said.cells);
            columns.into_iter().any(|(column, cell)| {
                let of = matches!(column.kind, Kind::Reference { table, .. } if table == parents);
                let id = cell.as_ref().filter(|_| of);
                id.is_some_and(|id| ids.contains(&id.parse().expect("an id")))
            })
        };
        rows.filter(|(_, said)| !said.hidden && names(said))
            .map(|(id, _)| *id)
            .collect()
    }

    /// A differential migration, or the first one.
    fn carry_over(&mut self, way: Way) {
        let mut going: [BTreeSet<Id>; 3] = Default::default();
        let mut arrived: [BTreeSet<Id>; 3] = Default::default();
        let deleted: [BTreeSet<Id>; 3] = [0, 1, 2].map(|at| self.tables[at].deleted());
        for at in [DISTRICT, HOUSE, ROOM] {
            let mut looked_at: BTreeSet<Id> = self.tables[at].open.keys().copied().collect();
            for (id, mapped) in &self.tables[at].mapped {
                let is_new = |said: &Said| said.cells != mapped.said && !said.hidden;
                if self.tables[at].source.get(id).is_some_and(is_new)
                    || self.source_wins_somewhere(way, at) && self.tables[at].edited(*id)
                {
                    looked_at.insert(*id);
                }
            }
            // Rows that were marked as deleted, and are back.
            let marked = self.tables[at]
                .target
                .iter()
                .filter(|(_, held)| held.marked);
            looked_at.extend(marked.map(|(id, _)| *id));
            if way.policy == Policy::SourceWins {
                let table = &mut self.tables[at];
                let missing: Vec<Id> = table
                    .mapped
                    .keys()
                    .copied()
                    .filter(|id| !table.target.contains_key(id) && table.kept(*id))
                    .collect();
                for id in missing {
                    table.mapped.remove(&id);
                    table.open.remove(&id);
                }
            }
            arrived[at] = self.insert(at);
            if way.deletes == Deletes::Mirror {
                let stay = way.policy != Policy::SourceWins;
                let ids = deleted[at].iter().copied();
                let table = &self.tables[at];
                going[at] = ids.filter(|id| !(stay && table.edited(*id))).collect();
            }
            for parents in [DISTRICT, HOUSE, ROOM] {
                looked_at.extend(self.naming(at, parents, &going[parents]));
                let named = self.naming(at, parents, &arrived[parents]);
                looked_at.extend(named.difference(&arrived[at]));
            }
            looked_at
                .retain(|id| self.tables[at].kept(*id) && self.tables[at].mapped.contains_key(id));
            for id in looked_at {
                self.examine(way, at, id, &going);
            }
        }
        if way.deletes != Deletes::Ignore {
            for at in [ROOM, HOUSE, DISTRICT] {
                self.delete(way, at, &deleted[at]);
            }
        }
    }

    /// Rows that are not in place go in, where they can; which.
    fn insert(&mut self, at: usize) -> BTreeSet<Id> {
        let none: [BTreeSet<Id>; 3] = Default::default();
        let rows = self.tables[at].source.iter();
        let new: Vec<(Id, Said)> = rows
            .filter(|(id, said)| !said.hidden && !self.tables[at].mapped.contains_key(id))
            .map(|(id, said)| (*id, said.clone()))
            .collect();
        let mut arrived = BTreeSet::new();
        for (id, said) in &new {
            let mut alone = said.cells.clone();
            if at == HOUSE {
                alone[TWIN_AT] = None;
            }
            let Some(cells) = self.comes_to(at, &alone, &none) else {
                continue;
            };
            if !self.parents_are_there(at, &cells, |_| true) {
                continue;
            }
            let key = match at {
                HOUSE => format!(
                    "{id}@{}",
                    said.cells[BUILT_AT].as_deref().unwrap_or_default()
                ),
                _ => id.to_string(),
            };
            let table = &mut self.tables[at];
            table.mapped.insert(
                *id,
                Mapped {
                    key,
                    said: said.cells.clone(),
                    agreed: cells.clone(),
                },
            );
            let held = Held {
                cells,
                touched: None,
                marked: false,
            };
            table.target.insert(*id, held);
            arrived.insert(*id);
        }
        // Twins when all are there.
        if at == HOUSE {
            for (id, said) in new.iter().filter(|(id, _)| arrived.contains(id)) {
                let cells = self.comes_to(at, &said.cells, &none);
                let twin = cells.expect("it is in place")[TWIN_AT].clone();
                let twin = twin.filter(|key| self.holds(HOUSE, key));
                let table = &mut self.tables[at];
                let mapped = table.mapped.get_mut(id).expect("it is in place");
                mapped.agreed[TWIN_AT].clone_from(&twin);
                let held = table.target.get_mut(id).expect("it is in place");
                held.cells[TWIN_AT] = twin;
            }
        }
        arrived
    }

    /// A row in place, column by column.
    fn examine(&mut self, way: Way, at: usize, id: Id, going: &[BTreeSet<Id>; 3]) {
        let said = self.tables[at].source[&id].clone();
        let Some(held) = self.tables[at].target.get(&id).cloned() else {
            if way.policy == Policy::TargetWins {
                self.tables[at].open.remove(&id);
            } else {
                self.open(at, id, "deleted_in_target", &[]);
            }
            return;
        };
        let Some(cells) = self.comes_to(at, &said.cells, going) else {
            self.open(at, id, "refused", &[]);
            return;
        };
        let mapped = self.tables[at].mapped[&id].clone();
        let newer = match (said.changed, held.touched) {
            (Some(source), Some(target)) if source != target => Some(source > target),
            _ => None,
        };
        let (mut result, mut agreed) = (held.cells.clone(), mapped.agreed.clone());
        let mut undecided = Vec::new();
        let mut written = BTreeSet::new();
        for column in 0..cells.len() {
            let (new, old, there) = (&cells[column], &mapped.agreed[column], &held.cells[column]);
            if new == there {
                agreed[column].clone_from(new);
                continue;
            }
            let (by_source, by_target) = (new != old, there != old);
            let policy = self.policy(way, at, column);
            let writes = match (by_source, by_target) {
                (true, false) => Some(true),
                (false, _) => Some(policy == Policy::SourceWins),
                (true, true) => match policy {
                    Policy::SourceWins => Some(true),
                    Policy::TargetWins => Some(false),
                    Policy::Newest => newer,
                    Policy::Manual => None,
                },
            };
            match writes {
                None => undecided.push(TABLES[at].columns[column].name),
                Some(writes) => {
                    agreed[column].clone_from(new);
                    if writes {
                        result[column].clone_from(new);
                        written.insert(column);
                    }
                }
            }
        }
        if !self.parents_are_there(at, &cells, |column| written.contains(&column)) {
            self.open(at, id, "refused", &[]);
            return;
        }
        let table = &mut self.tables[at];
        let held = table.target.get_mut(&id).expect("it is there");
        held.cells = result;
        held.marked = false;
        let mapped = table.mapped.get_mut(&id).expect("it is in place");
        mapped.agreed = agreed;
        if undecided.is_empty() {
            mapped.said = said.cells;
            table.open.remove(&id);
        } else {
            self.open(at, id, "conflict", &undecided);
        }
    }

    /// Rows that the source has no more.
    fn delete(&mut self, way: Way, at: usize, deleted: &BTreeSet<Id>) {
        let mut go = deleted.clone();
        if way.policy != Policy::SourceWins {
            go.retain(|id| !self.tables[at].edited(*id));
            for id in deleted.difference(&go) {
                if way.policy == Policy::TargetWins {
                    self.tables[at].open.remove(id);
                } else {
                    self.open(at, *id, "deleted_in_source", &[]);
                }
            }
        }
        if way.deletes == Deletes::Soft {
            for id in go {
                let table = &mut self.tables[at];
                table.open.remove(&id);
                if let Some(held) = table.target.get_mut(&id) {
                    held.marked = true;
                }
            }
            return;
        }
        loop {
            let held: Vec<Id> = go
                .iter()
                .copied()
                .filter(|id| self.is_referred_to(at, *id, &go))
                .collect();
            if held.is_empty() {
                break;
            }
            for id in held {
                go.remove(&id);
                self.open(at, id, "deleted_in_source", &[]);
            }
        }
        for id in go {
            let table = &mut self.tables[at];
            table.target.remove(&id);
            table.mapped.remove(&id);
            table.open.remove(&id);
        }
    }

    /// Whether a row of the target that doesn't go with it refers to this one.
    fn is_referred_to(&self, at: usize, id: Id, going: &BTreeSet<Id>) -> bool {
        let key = &self.tables[at].mapped[&id].key;
        (0..3).any(|child| {
            let columns = TABLES[child].columns.iter().enumerate();
            let columns: Vec<usize> = columns
                .filter(|(_, c)| matches!(c.kind, Kind::Reference { table, .. } if table == at))
                .map(|(place, _)| place)
                .collect();
            let rows = self.tables[child].target.iter();
            rows.filter(|(id, _)| child != at || !going.contains(id))
                .any(|(_, held)| columns.iter().any(|c| held.cells[*c].as_ref() == Some(key)))
        })
    }

    /// Accounts that are not of all rows of the source.
    fn misaccounted(&self, document: &serde_json::Value) -> String {
        let mut text = String::new();
        let accounts = document["receipt"]["entities"].as_array();
        for (account, table) in accounts.into_iter().flatten().zip(&self.tables) {
            if account["account"]["source_rows"] != table.source.len() {
                let _ = writeln!(text, "of {} rows: {account}", table.source.len());
            }
        }
        text
    }

    fn open(&mut self, at: usize, id: Id, kind: &'static str, columns: &[&'static str]) {
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        self.tables[at].open.insert(id, (kind, columns));
    }
}

/// The legacy id of what stands for a key.
fn legacy_id(key: &str) -> &str {
    key.split('@').next().unwrap_or(key)
}

/// A random value for a column: what the source says.
fn random_value(dice: &mut Dice, world: &World, kind: Kind, careful: bool) -> Cell {
    match kind {
        Kind::Plain(values) => loop {
            let (said, held) = values[dice.below(values.len() as u64) as usize];
            // Faults are rare.
            if held.is_some() || !careful && dice.below(6) == 0 {
                return said.map(str::to_owned);
            }
        },
        Kind::Reference { table, required } => {
            if !required && dice.below(3) == 0 {
                return None;
            }
            let existing: Vec<Id> = world.tables[table].source.keys().copied().collect();
            let any = (TABLES[table].ids)(1 + dice.below(TABLES[table].many));
            let id = if existing.is_empty() || !careful && dice.below(12) == 0 {
                any
            } else {
                existing[dice.below(existing.len() as u64) as usize]
            };
            Some(id.to_string())
        }
    }
}

fn random_row(dice: &mut Dice, world: &World, at: usize, careful: bool) -> Said {
    let columns = TABLES[at].columns.iter();
    let cells: Vec<Cell> = columns
        .map(|column| random_value(dice, world, column.kind, careful))
        .collect();
    Said {
        cells,
        hidden: at == HOUSE && dice.below(8) == 0,
        changed: (dice.below(3) > 0).then(|| dice.below(6)),
    }
}

fn pick<'a, T>(dice: &mut Dice, from: &'a [T]) -> Option<&'a T> {
    from.get(dice.below(from.len() as u64) as usize)
}

/// Changes the source at random.
fn change_source(dice: &mut Dice, world: &mut World) {
    for _ in 0..2 + dice.below(22) {
        let at = [DISTRICT, HOUSE, HOUSE, HOUSE, ROOM, ROOM][dice.below(6) as usize];
        let existing: Vec<Id> = world.tables[at].source.keys().copied().collect();
        match dice.below(10) {
            0..=2 => {
                let id = (TABLES[at].ids)(1 + dice.below(TABLES[at].many));
                // Also where there is one: deleted, and another one with its id.
                let row = random_row(dice, world, at, false);
                world.tables[at].source.insert(id, row);
            }
            3..=6 => {
                let Some(id) = pick(dice, &existing) else {
                    continue;
                };
                let column = dice.below(TABLES[at].columns.len() as u64) as usize;
                let kind = TABLES[at].columns[column].kind;
                let value = random_value(dice, world, kind, false);
                let row = world.tables[at].source.get_mut(id).expect("it exists");
                row.cells[column] = value;
                row.changed = (dice.below(3) > 0).then(|| dice.below(6));
            }
            7 if at == HOUSE => {
                if let Some(id) = pick(dice, &existing) {
                    let row = world.tables[at].source.get_mut(id).expect("it exists");
                    row.hidden = !row.hidden;
                }
            }
            _ => {
                if let Some(id) = pick(dice, &existing) {
                    world.tables[at].source.remove(id);
                    if dice.below(4) > 0 {
                        mind_children(dice, world, at, *id);
                    }
                }
            }
        }
    }
}

/// Children of a row that the source has no more go with it or to another one.
fn mind_children(dice: &mut Dice, world: &mut World, at: usize, id: Id) {
    let gone = BTreeSet::from([id]);
    for child in [HOUSE, ROOM] {
        for row in world.naming(child, at, &gone) {
            if dice.below(2) == 0 {
                world.tables[child].source.remove(&row);
                mind_children(dice, world, child, row);
                continue;
            }
            for (column, described) in TABLES[child].columns.iter().enumerate() {
                let Kind::Reference { table, .. } = described.kind else {
                    continue;
                };
                let value = random_value(dice, world, described.kind, true);
                let Some(said) = world.tables[child].source.get_mut(&row) else {
                    continue;
                };
                if table == at && said.cells[column] == Some(id.to_string()) {
                    said.cells[column] = value;
                }
            }
        }
    }
}

/// Changes the target at random; the statements.
fn change_target(dice: &mut Dice, world: &mut World) -> String {
    let mut sql = String::new();
    for _ in 0..dice.below(12) {
        let at = [DISTRICT, HOUSE, HOUSE, HOUSE, ROOM, ROOM][dice.below(6) as usize];
        let existing: Vec<Id> = world.tables[at].target.keys().copied().collect();
        let Some(&id) = pick(dice, &existing) else {
            continue;
        };
        let entity = TABLES[at].entity;
        if dice.below(5) == 0 {
            if world.tables[at].mapped.contains_key(&id)
                && !world.is_referred_to(at, id, &BTreeSet::new())
            {
                world.tables[at].target.remove(&id);
                let _ = writeln!(sql, "delete from {entity} where legacy_id = {id};");
            }
            continue;
        }
        let column = dice.below(TABLES[at].columns.len() as u64) as usize;
        let described = &TABLES[at].columns[column];
        let said = world.tables[at].source.get(&id).cloned();
        let value = match described.kind {
            Kind::Plain(values) => {
                let same = said.filter(|_| dice.below(3) == 0);
                let said = match same {
                    Some(said) => said.cells[column].clone(),
                    None => random_value(dice, world, described.kind, true),
                };
                let held = values.iter().find(|(text, _)| *text == said.as_deref());
                let Some(held) = held.and_then(|(_, held)| *held) else {
                    continue;
                };
                held.map(str::to_owned)
            }
            Kind::Reference { table, required } => {
                let parents = &world.tables[table];
                let there: Vec<String> = parents
                    .target
                    .keys()
                    .filter_map(|id| Some(parents.mapped.get(id)?.key.clone()))
                    .collect();
                match pick(dice, &there) {
                    Some(key) if required || dice.below(3) > 0 => Some(key.clone()),
                    _ if required => continue,
                    _ => None,
                }
            }
        };
        let literal = match (&value, described.kind) {
            (None, _) => "null".to_owned(),
            (Some(key), Kind::Reference { table, .. }) => format!(
                "(select id from {} where legacy_id = {})",
                TABLES[table].entity,
                legacy_id(key)
            ),
            (Some(text), Kind::Plain(_)) => quoted(text),
        };
        let touched = (dice.below(3) > 0).then(|| dice.below(6));
        let _ = writeln!(
            sql,
            "update {entity} set {} = {literal}, touched = {} where legacy_id = {id};",
            described.name,
            time(touched)
        );
        let held = world.tables[at].target.get_mut(&id).expect("it is there");
        held.cells[column] = value;
        held.touched = touched;
    }
    sql
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn time(hours: Option<u64>) -> String {
    hours.map_or("null".to_owned(), |hours| {
        format!("timestamptz '2024-01-01 {hours:02}:00:00+00'")
    })
}

/// The statements that make the source of one world that of another.
fn source_statements(before: &World, after: &World) -> String {
    let mut sql = String::new();
    for (at, described) in TABLES.iter().enumerate() {
        let (old, new) = (&before.tables[at].source, &after.tables[at].source);
        let ids: BTreeSet<&Id> = old.keys().chain(new.keys()).collect();
        for id in ids.into_iter().filter(|id| old.get(id) != new.get(id)) {
            if old.contains_key(id) {
                let _ = writeln!(sql, "delete from {} where id = {id};", described.source);
            }
            let Some(row) = new.get(id) else {
                continue;
            };
            let (mut names, mut values) = (String::new(), String::new());
            for (column, cell) in described.columns.iter().zip(&row.cells) {
                let _ = write!(names, ", {}", column.source);
                let cell = cell.as_deref().map_or("null".to_owned(), quoted);
                let _ = write!(values, ", {cell}");
            }
            if at == HOUSE {
                names.push_str(", hidden");
                let _ = write!(values, ", {}", row.hidden);
            }
            let _ = writeln!(
                sql,
                "insert into {} (id{names}, changed) values ({id}{values}, {});",
                described.source,
                time(row.changed)
            );
        }
    }
    sql
}

/// What a target holds: by entity and legacy id the cells and whether it is marked, and the open rows.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    rows: BTreeMap<(String, Id), Vec<String>>,
    open: BTreeSet<String>,
}

impl Seen {
    fn expected(world: &World) -> Self {
        let mut seen = Self {
            rows: BTreeMap::new(),
            open: BTreeSet::new(),
        };
        for (table, described) in world.tables.iter().zip(&TABLES) {
            for (id, held) in &table.target {
                let columns = described.columns.iter().zip(&held.cells);
                let mut cells: Vec<String> = columns
                    .map(|(column, cell)| match (column.kind, cell) {
                        (_, None) => "NULL".to_owned(),
                        (Kind::Reference { .. }, Some(key)) => format!("={}", legacy_id(key)),
                        (_, Some(text)) => format!("={text}"),
                    })
                    .collect();
                cells.push(format!("={}", held.marked));
                seen.rows.insert((described.entity.to_owned(), *id), cells);
            }
            for (id, (kind, columns)) in &table.open {
                let columns = columns.join(",");
                seen.open
                    .insert(format!("{} {id}: {kind} {columns}", described.entity));
            }
        }
        seen
    }

    fn of(rehearsal: &Rehearsal<'_>) -> Self {
        let mut seen = Self {
            rows: BTreeMap::new(),
            open: BTreeSet::new(),
        };
        let tables: String = TABLES.iter().map(rows_of).collect();
        // One connection for all: opening it takes longer than these few rows.
        let query = format!(
            "{tables} select '', 0, json_build_array(entity || ' ' || legacy_id || ': ' || comparison_type || ' ' ||
               coalesce((select string_agg(c, ',' order by c collate \"C\") from unnest(columns) c), ''))
             from regraft.data_differentials where legacy_id is not null and not resolved"
        );
        for row in rehearsal.modern_rows(&query) {
            let cells: Vec<String> = serde_json::from_str(&row[2]).expect("a list of texts");
            if row[0].is_empty() {
                seen.open.extend(cells);
            } else {
                let id = row[1].parse().expect("an id");
                seen.rows.insert((row[0].clone(), id), cells);
            }
        }
        seen
    }

    /// Where the program's doing differs from what was expected.
    fn differences(&self, expected: &Self) -> String {
        let mut text = String::new();
        let keys: BTreeSet<_> = self.rows.keys().chain(expected.rows.keys()).collect();
        for key in keys {
            let (is, should) = (self.rows.get(key), expected.rows.get(key));
            if is != should {
                let _ = writeln!(text, "{key:?}\n  is     {is:?}\n  should {should:?}");
            }
        }
        for open in self.open.difference(&expected.open) {
            let _ = writeln!(text, "open, and should not be: {open}");
        }
        for open in expected.open.difference(&self.open) {
            let _ = writeln!(text, "not open, and should be: {open}");
        }
        text
    }
}

/// The first part of a query: what a table of the target holds, by legacy id.
fn rows_of(described: &Description) -> String {
    let value = |column: &Column| match column.kind {
        Kind::Reference { table, .. } => format!(
            "(select p.legacy_id from {} p where p.id = t.{})",
            TABLES[table].entity, column.name
        ),
        Kind::Plain(_) if column.name == "built" => {
            "to_char(t.built at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US\"+00\"')".to_owned()
        }
        Kind::Plain(_) => format!("t.{}", column.name),
    };
    let columns: String = described
        .columns
        .iter()
        .map(|column| format!("coalesce('=' || ({})::text, 'NULL'), ", value(column)))
        .collect();
    format!(
        "select '{entity}', t.legacy_id, json_build_array({columns}'=' || (t.gone is not null)::text)
         from {entity} t union all ",
        entity = described.entity
    )
}

fn rounds() -> u64 {
    let given = std::env::var("REGRAFT_TEST_ROUNDS").ok();
    given.map_or(200, |n| n.parse().expect("REGRAFT_TEST_ROUNDS is a number"))
}

fn first_seed() -> u64 {
    let given = std::env::var("REGRAFT_TEST_SEED").is_ok();
    if given {
        Dice::from_environment().seed()
    } else {
        SEED
    }
}

/// Two pairs of databases at a time.
#[test]
fn random_changes_come_to_what_the_model_says() {
    let (first, next) = (first_seed(), AtomicU64::new(0));
    eprintln!("REGRAFT_TEST_SEED={first}");
    let work = || {
        let mut failed = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number * ROUNDS >= rounds() || failed.len() > 2 {
                return failed;
            }
            let seed = first.wrapping_add(number);
            let rounds = ROUNDS.min(rounds() - number * ROUNDS);
            let mut log = String::new();
            let tried = catch_unwind(AssertUnwindSafe(|| one(seed, rounds, &mut log)));
            let wrong = match tried {
                Ok(None) => continue,
                Ok(Some(wrong)) => wrong,
                Err(panic) => match panic.downcast_ref::<String>() {
                    Some(text) => text.clone(),
                    None => "a panic".to_owned(),
                },
            };
            failed.push(format!(
                "REGRAFT_TEST_SEED={seed} REGRAFT_TEST_ROUNDS={rounds}\n{log}\n{wrong}"
            ));
        }
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut failed = work();
        failed.extend(other.join().expect("it catches panics"));
        failed
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Rounds on a pair of databases; what went wrong in the first one that did, and in `log` what was
/// done in it.
fn one(seed: u64, rounds: u64, log: &mut String) -> Option<String> {
    let mut dice = Dice::seeded(seed);
    let mut world = World::default();
    for at in [DISTRICT, HOUSE, ROOM] {
        for n in 1..=TABLES[at].many {
            if dice.below(3) > 0 {
                let row = random_row(&mut dice, &world, at, true);
                world.tables[at].source.insert((TABLES[at].ids)(n), row);
            }
        }
    }
    let policies: &[&str] = match dice.below(3) {
        0 => {
            world.columns = vec![(7, "target_wins"), (3, "source_wins")];
            &["label = \"target_wins\"", "rent = \"source_wins\""]
        }
        _ => &[],
    };
    // A cursor is a shortcut and nothing else: the model knows of none.
    let cursor = match seed % 4 {
        0 => Some(Cursor::UpdatedAt),
        1 => Some(Cursor::Version),
        _ => None,
    };
    let source = source_statements(&World::default(), &world);
    let folder = town(&source, policies, cursor);
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    let program = Program::on(REGRAFT, &rehearsal)
        .with("BATCH_SIZE", &(2 + dice.below(30)).to_string())
        .with("REGRAFT_WORKERS", &(1 + dice.below(3)).to_string());
    let first = program.run(&["migrate"]);
    assert!(matches!(first.code, Some(0 | 1)), "{first}");
    world.carry_over(Way {
        policy: Policy::Manual,
        deletes: Deletes::Ignore,
    });
    for round in 0..rounds {
        let before = world.clone();
        change_source(&mut dice, &mut world);
        let source = source_statements(&before, &world);
        let target = change_target(&mut dice, &mut world);
        let way = Way {
            policy: *pick(&mut dice, &Policy::ALL).expect("a policy"),
            deletes: *pick(&mut dice, &Deletes::ALL).expect("a mode"),
        };
        let (policy, deletes) = (way.policy.as_str(), way.deletes.as_str());
        *log = format!(
            "round {round}, {policy}, {deletes}, {cursor:?}\n-- source\n{source}-- target\n{target}"
        );
        let open: Vec<String> = Seen::expected(&before).open.into_iter().collect();
        let _ = writeln!(log, "-- open before: {open:?}");
        rehearsal.legacy(&source);
        rehearsal.modern(&target);
        world.carry_over(way);
        let mut arguments = vec!["--format", "json", "differential", "migrate"];
        arguments.extend(["--entities", "all", "--deletes", deletes]);
        arguments.extend(["--conflict-resolution", policy]);
        let expected = Seen::expected(&world);
        // A second time costs as much as the first, and seldom tells more.
        let times = if dice.below(3) == 0 { 2 } else { 1 };
        for again in [false, true].into_iter().take(times) {
            let finished = program.run(&arguments);
            let mut differences = match finished.code {
                Some(0 | 1) => Seen::of(&rehearsal).differences(&expected),
                _ => finished.to_string(),
            };
            let document: serde_json::Value =
                serde_json::from_str(&finished.stdout).unwrap_or_default();
            let idle = document["nothing_to_do"] == true;
            differences.push_str(&world.misaccounted(&document));
            if !differences.is_empty()
                || again && !idle
                || finished.code == Some(0) && !expected.open.is_empty()
            {
                let what = if again {
                    "the second time"
                } else {
                    "the first time"
                };
                return Some(format!(
                    "{what}, nothing to do: {idle}, code {:?}:\n{differences}",
                    finished.code
                ));
            }
        }
        let mut fixed = world.clone();
        fixed.carry_over(way);
        assert_eq!(fixed, world, "the model itself does more the second time");
    }
    None
}
