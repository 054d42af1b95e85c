//! Writers keep writing on both sides while changes are carried over again and again, now and then
//! killed and resumed: whatever was carried over is of one moment of the source, and when the writers
//! have stopped both sides come to the same.
//!
//! `REGRAFT_TEST_SECONDS` is how long they write under each policy (4 if not set),
//! `REGRAFT_TEST_SEED` the seed of a failed test; the rest is up to the scheduler.
#![allow(clippy::print_stderr, reason = "a failed test tells its seed")]

mod town;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use regraft_pg::{Session, SessionOptions, Side};
use regraft_testkit::{Dice, Finished, Program, Rehearsal, Servers, block_on, endpoint_of};
use serde_json::Value;
use town::{Cursor, DATA, LEGACY, program, town};

/// A source that lets nobody write an orphan.
const CONSTRAINTS: &str = "
alter table house add foreign key (district) references district;
alter table room add foreign key (house) references house;
create index on room (house);
";

/// Houses and rooms of the first data; those of the writers have higher ids.
const HOUSES: u64 = 600;
const ROOMS: u64 = 900;
const BUILT: i64 = 1_000;
/// Houses and rooms up to this id are those that both sides write to.
const SHARED: u64 = 40;
/// What a house is let for that a writer has built: so much less is got for another one.
const RENT: &str = "5.00";

/// What ends a transaction that is as good as rolled back: a deadlock, a parent that was just
/// deleted.
const LOST: [&str; 2] = ["40P01", "23503"];

fn seconds() -> Duration {
    let given = std::env::var("REGRAFT_TEST_SECONDS").ok();
    let seconds = given.map_or(4, |n| n.parse().expect("REGRAFT_TEST_SECONDS is a number"));
    Duration::from_secs(seconds)
}

/// What the writers have in common.
#[derive(Default)]
struct Course {
    over: AtomicBool,
    committed: AtomicU64,
    rolled_back: AtomicU64,
}

impl Course {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Runs a transaction that stays open for a while; whether it was committed.
    async fn transaction(&self, session: &Session, sql: &str, open: Duration, keep: bool) -> bool {
        let written = session.batch_execute(&format!("begin; {sql}")).await;
        tokio::time::sleep(open).await;
        let end = if written.is_ok() && keep {
            "commit"
        } else {
            "rollback"
        };
        let ended = session.batch_execute(end).await;
        if let Err(error) = written.and(ended) {
            let state = error
                .code()
                .map_or(String::new(), |state| state.code().to_owned());
            let said = session.error(error);
            assert!(LOST.contains(&state.as_str()), "{}: {sql}", said.message());
            self.rolled_back.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let count = if keep {
            &self.committed
        } else {
            &self.rolled_back
        };
        count.fetch_add(1, Ordering::Relaxed);
        keep
    }
}

async fn connect(url: &str) -> Session {
    let endpoint = endpoint_of(url, Side::Target);
    let session = Session::connect(&endpoint, &SessionOptions::writing("writer")).await;
    session.unwrap_or_else(|e| panic!("no session: {}", e.message()))
}

/// A house of the first data that no filter drops.
fn house(dice: &mut Dice, of: u64) -> u64 {
    loop {
        let id = 1 + dice.below(of);
        if !id.is_multiple_of(50) {
            return id;
        }
    }
}

/// Writes to the source.
struct SourceWriter {
    number: u64,
    dice: Dice,
    /// Houses of its own that stand.
    built: Vec<i64>,
    last: i64,
}

impl SourceWriter {
    fn new(number: u64, seed: u64) -> Self {
        Self {
            number,
            dice: Dice::seeded(seed.wrapping_add(number)),
            built: Vec::new(),
            last: BUILT + number as i64 * 100_000,
        }
    }

    /// Writes until the course is over; `longest` is how long a transaction stays open at most.
    async fn write(mut self, url: String, course: &Course, longest: Duration) {
        let session = connect(&url).await;
        while !course.is_over() {
            let before = self.built.clone();
            let parts = 1 + self.dice.below(4);
            let sql: String = (0..parts).map(|_| self.statements()).collect();
            let open = self.dice.moment(longest);
            let keep = self.dice.below(5) > 0;
            if !course.transaction(&session, &sql, open, keep).await {
                self.built = before;
            }
            tokio::time::sleep(Duration::from_millis(self.dice.below(8))).await;
        }
        session.close().await;
    }

    /// One thing to do. Whatever it is, all rents add up to what they did, and a house that was
    /// built has its two rooms.
    fn statements(&mut self) -> String {
        let (number, dice) = (self.number, &mut self.dice);
        let (one, other) = (house(dice, HOUSES), house(dice, HOUSES));
        let room = 1 + dice.below(ROOMS);
        match dice.below(10) {
            0..=2 => {
                let amount = format!("{}.{:02}", dice.below(9), dice.below(100));
                format!(
                    "update house set rent = rent - {amount} where id = {one};
                     update house set rent = rent + {amount} where id = {other};"
                )
            }
            // Few, so that both sides hit the same ones.
            3 => {
                let id = house(dice, SHARED);
                format!("update house set label = 'Source {number}.{}' where id = {id};", dice.roll())
            }
            4 => format!("update room set name = 'Source {}' where id = {};", dice.roll(), 1 + dice.below(SHARED)),
            5 => self.move_room(room, one),
            6 => format!(
                "delete from room where id = {room};
                 insert into room select {room}, {one}, 'Again', 2, null where {} on conflict do nothing;",
                dice.below(2) == 0
            ),
            7 => format!("update house set district = {} where id = {one};", 1 + dice.below(20)),
            8 => self.build(one),
            _ => self.demolish(one),
        }
    }

    fn build(&mut self, payer: u64) -> String {
        self.last += 1 + self.dice.below(90) as i64;
        let id = self.last;
        self.built.push(id);
        // A district that nobody knows yet, now and then.
        let district = match self.dice.below(3) {
            0 => id,
            _ => 1 + self.dice.below(20) as i64,
        };
        format!(
            "update house set rent = rent - {RENT} where id = {payer};
             insert into district select {district}, 'New', null on conflict do nothing;
             insert into house (id, district, rent, state, built) values ({id}, {district}, {RENT}, 1, now());
             insert into room values ({first}, {id}, 'Pair', 1, null), ({first} + 1, {id}, 'Pair', 1, null);",
            first = 2 * id
        )
    }

    /// Rooms that people rename in the target stay in houses that nobody demolishes: a room that is
    /// kept there would keep its house.
    fn move_room(&mut self, room: u64, to: u64) -> String {
        let at = self.dice.below(2 * self.built.len() as u64 + 1) as usize;
        let house = match self.built.get(at) {
            Some(&own) if room > SHARED => own,
            _ => to as i64,
        };
        format!("update room set house = {house} where id = {room};")
    }

    fn demolish(&mut self, heir: u64) -> String {
        let at = self.dice.below(self.built.len() as u64 + 1) as usize;
        if at >= self.built.len() {
            return String::new();
        }
        let id = self.built.swap_remove(at);
        format!(
            "update room set house = {heir} where house = {id} and id <= {ROOMS};
             delete from room where house = {id};
             delete from house where id = {id};
             update house set rent = rent + {RENT} where id = {heir};"
        )
    }
}

/// Writes to the target, also to columns that the source knows nothing of; what it has left in those.
async fn write_target(url: String, course: &Course, seed: u64) -> BTreeMap<u64, String> {
    let session = connect(&url).await;
    let mut dice = Dice::seeded(seed);
    let mut touched = BTreeMap::new();
    while !course.is_over() {
        let id = house(&mut dice, SHARED);
        let hour = format!("2024-01-01 {:02}:{:02}:00", dice.below(24), dice.below(60));
        let (sql, touch) = match dice.below(6) {
            0 => (
                format!(
                    "update houses set label = 'Target {}' where legacy_id = {id}",
                    dice.roll()
                ),
                None,
            ),
            1 => (
                format!(
                    "update houses set notes = '{{\"ours\": {}}}' where legacy_id = {id}",
                    dice.roll()
                ),
                None,
            ),
            2 => (
                format!(
                    "update rooms set name = 'Target {}' where legacy_id = {id}",
                    dice.roll()
                ),
                None,
            ),
            // In no order: a deadlock may end any side's transaction.
            3 => (
                format!(
                    "update houses set label = 'Target' where legacy_id = {id}; select pg_sleep(0.01);
                     update houses set label = 'Target' where legacy_id = {}",
                    house(&mut dice, SHARED)
                ),
                None,
            ),
            _ => (
                format!(
                    "update houses set touched = timestamptz '{hour}Z', label = 'Target' where legacy_id = {id}"
                ),
                Some((id, hour)),
            ),
        };
        let open = match dice.below(8) {
            0 => dice.moment(Duration::from_millis(80)),
            _ => Duration::ZERO,
        };
        let keep = dice.below(6) > 0;
        if course.transaction(&session, &sql, open, keep).await {
            touched.extend(touch);
        }
        tokio::time::sleep(Duration::from_millis(dice.below(10))).await;
    }
    session.close().await;
    touched
}

/// Both sides, and what is true of the source at every moment.
struct Town<'a> {
    rehearsal: Rehearsal<'a>,
    policy: &'static str,
    rents: String,
}

/// What came of the runs while there were writers.
#[derive(Debug, Default)]
struct Runs {
    finished: u64,
    killed: u64,
    resumed: u64,
    /// Rows that were open after some run.
    open: i64,
}

impl Town<'_> {
    fn arguments(&self) -> [&'static str; 6] {
        [
            "differential",
            "migrate",
            "--entities",
            "all",
            "--conflict-resolution",
            self.policy,
        ]
    }

    fn program(&self) -> Program {
        // People's transactions get in the way more than once.
        program(&self.rehearsal).with("MAX_RETRY_ATTEMPTS", "8")
    }

    /// Carries over again and again until the time is up, twice at least. A killed run is resumed, sometimes after it
    /// was killed again.
    fn carry_over(&self, until: Instant, dice: &mut Dice) -> Runs {
        let mut runs = Runs::default();
        let mut usual = Duration::from_millis(500);
        while Instant::now() < until || runs.finished < 2 {
            let json = ["--format", "json"];
            let all = [&json[..], &self.arguments()].concat();
            let resume = [&json[..], &["differential", "resume", "--entity", "houses"]].concat();
            let mut finished = if dice.below(3) == 0 {
                runs.killed += 1;
                self.program().start(&all).kill_after(dice.moment(usual))
            } else {
                self.program().run(&all)
            };
            while finished.code.is_none() {
                let running = self.program().start(&resume);
                finished = match dice.below(3) {
                    0 => running.kill_after(dice.moment(usual)),
                    _ => running.wait(),
                };
                if finished.says("none was left unfinished") {
                    finished = self.program().run(&all);
                } else if finished.code.is_some() {
                    runs.resumed += 1;
                }
            }
            usual = finished.time;
            assert!(matches!(finished.code, Some(0 | 1)), "{finished}");
            runs.finished += 1;
            let document = document(&finished);
            runs.open = runs.open.max(document["open"].as_i64().expect("open"));
            accounts_are_of_all_rows(&document);
            self.is_of_one_moment(&format!("{runs:?}\n{finished}"));
        }
        runs
    }

    /// Whether what was carried over is what the source held at one moment.
    #[track_caller]
    fn is_of_one_moment(&self, what: &str) {
        let rows = |query: &str| self.rehearsal.modern_rows(query);
        assert_eq!(
            rows("select sum(rent) from houses")[0][0],
            self.rents,
            "{what}"
        );
        let torn = rows(&format!(
            "select h.legacy_id, count(r.id) from houses h left join rooms r on r.house_id = h.id and r.name = 'Pair'
             where h.legacy_id > {BUILT} group by 1 having count(r.id) <> 2"
        ));
        assert!(
            torn.is_empty(),
            "{what}: houses without their two rooms: {torn:?}"
        );
        let left = rows(
            "select entity, legacy_id, reasons from regraft.migration_quarantine where state = 'open'",
        );
        assert!(left.is_empty(), "{what}: rows without a parent: {left:?}");
        let unbalanced = rows(
            "select run_no, entity, batch, source_rows from regraft.migration_control
             where entity <> '' and status = 'done' and source_rows <>
               inserted + updated + unchanged + merged + filtered + quarantined + blocked",
        );
        assert!(unbalanced.is_empty(), "{what}: {unbalanced:?}");
    }

    /// The columns that nobody writes in the target are what the source says.
    fn columns_of_the_source_are_equal(&self) {
        let source = self.rehearsal.legacy_rows(
            "select 'house', id, district, rent, state, built from house where not hidden
             union all select 'room', r.id, r.house, r.area, null, null from room r order by 1, 2",
        );
        let target = self.rehearsal.modern_rows(
            "select 'house', h.legacy_id, d.legacy_id, h.rent, case h.state when 'free' then 0 when 'let' then 1 else 2 end,
                    h.built from houses h join districts d on d.id = h.district_id
             union all select 'room', r.legacy_id, h.legacy_id, r.area, null, null from rooms r
             join houses h on h.id = r.house_id order by 1, 2",
        );
        let lines = |rows: Vec<Vec<String>>| -> BTreeSet<Vec<String>> {
            rows.into_iter().map(rounded).collect()
        };
        let (source, target) = (lines(source), lines(target));
        let differing: Vec<_> = source.symmetric_difference(&target).take(6).collect();
        assert!(differing.is_empty(), "{differing:#?}");
    }

    /// Nothing is done any more, and nothing that is for somebody to decide comes and goes.
    #[track_caller]
    fn has_nothing_to_do(&self) {
        let again = self
            .program()
            .run(&[&["--format", "json"], &self.arguments()[..]].concat());
        assert_eq!(document(&again)["nothing_to_do"], true, "{again}");
    }
}

/// Amounts as the target writes them.
fn rounded(mut row: Vec<String>) -> Vec<String> {
    if let Ok(amount) = row[3].parse::<f64>() {
        row[3] = format!("{amount:.2}");
    }
    row
}

/// Whether every entity's account is of the rows that the source had, also of a run that an earlier
/// process began.
#[track_caller]
fn accounts_are_of_all_rows(document: &Value) {
    let list = |at: &str| document.pointer(at).and_then(Value::as_array).cloned();
    let accounts = list("/receipt/entities").expect("accounts");
    for found in list("/entities").expect("entities") {
        let account = accounts.iter().find(|a| a["entity"] == found["entity"]);
        let account = &account.expect("its account")["account"];
        assert_eq!(account["source_rows"], found["source_rows"], "{document:#}");
    }
}

fn document(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {finished}"))
}

/// Lets people write on both sides for a while and carries over meanwhile; what people have left in the
/// column that the project doesn't know.
fn write_and_carry_over(town: &Town<'_>, seed: u64) -> (Runs, BTreeMap<u64, String>) {
    let course = Course::default();
    let (legacy, modern) = (town.rehearsal.legacy_url(), town.rehearsal.modern_url());
    thread::scope(|scope| {
        let mut writers = Vec::new();
        for (number, longest) in [(1, 3), (2, 40), (3, 700)] {
            let (url, course) = (legacy.clone(), &course);
            let writer = SourceWriter::new(number, seed);
            writers.push(scope.spawn(move || {
                block_on(writer.write(url, course, Duration::from_millis(longest)));
            }));
        }
        let target = scope.spawn(|| block_on(write_target(modern, &course, seed)));
        let runs = thread::scope(|inner| {
            let work = inner.spawn(|| {
                let mut dice = Dice::seeded(seed);
                town.carry_over(Instant::now() + seconds(), &mut dice)
            });
            work.join()
        });
        // Also where a run was not what it should have been: the writers would go on for ever.
        course.over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().expect("the writers of the source write");
        }
        let touched = target.join().expect("the writer of the target writes");
        let runs = runs.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (committed, lost) = (count(&course.committed), count(&course.rolled_back));
        eprintln!(
            "{}: {runs:?}, {committed} transactions committed, {lost} rolled back",
            town.policy
        );
        assert!(committed > 50 && lost > 5);
        (runs, touched)
    })
}

fn town_with(policy: &'static str, data: &regraft_testkit::ProjectFolder) -> Town<'static> {
    let rehearsal = Rehearsal::once(Servers::shared(), data.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    let rents = rehearsal
        .modern_rows("select sum(rent) from houses")
        .remove(0)
        .remove(0);
    Town {
        rehearsal,
        policy,
        rents,
    }
}

fn seed() -> u64 {
    let seed = Dice::from_environment().seed();
    eprintln!("REGRAFT_TEST_SEED={seed}");
    seed
}

#[track_caller]
fn untouched(town: &Town<'_>, touched: &BTreeMap<u64, String>) {
    let found = town.rehearsal.modern_rows(
        "select legacy_id, to_char(touched at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') from houses where touched is not null",
    );
    let found: BTreeMap<u64, String> = found
        .into_iter()
        .map(|mut row| (row[0].parse().expect("an id"), row.remove(1)))
        .collect();
    assert_eq!(&found, touched, "a column that the project doesn't map");
}

/// With a cursor, which takes rows for unchanged that no open transaction can have written.
#[test]
fn where_the_source_wins_both_sides_end_equal() {
    let folder = town(
        &format!("{DATA}{CONSTRAINTS}"),
        &[],
        Some(Cursor::UpdatedAt),
    );
    let town = town_with("source_wins", &folder);
    let (_, touched) = write_and_carry_over(&town, seed());
    town.program().expect(0, &town.arguments());
    town.is_of_one_moment("when the writers have stopped");
    town.columns_of_the_source_are_equal();
    untouched(&town, &touched);
    town.program().expect(0, &["validate"]);
    town.has_nothing_to_do();
}

#[test]
fn where_nobody_wins_what_is_open_can_be_decided_on() {
    let folder = town(&format!("{DATA}{CONSTRAINTS}"), &[], None);
    let town = town_with("manual", &folder);
    let (runs, touched) = write_and_carry_over(&town, seed());
    assert!(runs.open > 0, "nobody has written what another one has");
    let last = town.program().run(&town.arguments());
    assert!(matches!(last.code, Some(0 | 1)), "{last}");
    town.is_of_one_moment("when the writers have stopped");
    let resolved = town
        .program()
        .run(&["conflicts", "resolve", "--all", "--take", "source"]);
    assert!(matches!(resolved.code, Some(0 | 1)), "{resolved}");
    town.has_nothing_to_do();
    let open = town.rehearsal.modern_rows(
        "select distinct comparison_type from regraft.data_differentials where legacy_id is not null and not resolved",
    );
    assert!(
        open.iter().all(|kind| kind[0] == "deleted_in_source"),
        "{open:?}"
    );
    untouched(&town, &touched);
    // What is left are people's own edits, and the rows that they kept.
    let source_wins = Town {
        policy: "source_wins",
        ..town
    };
    source_wins.program().expect(0, &source_wins.arguments());
    source_wins.columns_of_the_source_are_equal();
    source_wins.program().expect(0, &["validate"]);
    source_wins.has_nothing_to_do();
}
