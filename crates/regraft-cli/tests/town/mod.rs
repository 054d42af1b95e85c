//! A small project for differential migrations: districts, houses that stand in one of them, may
//! have an overseer's district and a twin among the houses, and rooms of houses.
#![allow(dead_code, reason = "not every test binary needs all of it")]

use regraft_engine::ValidationOptions;
use regraft_testkit::{Legacy, Program, ProjectFolder, Rehearsal, Servers, manifest};

const REGRAFT: &str = env!("CARGO_BIN_EXE_regraft");
pub(crate) const LEGACY: Legacy = Legacy {
    scale: 1.0,
    seed: 1,
    dirt: 1.0,
};

/// Every row bears when the transaction that wrote it last began, and a number that grows with every
/// write: what a cursor may go by.
const SOURCE: &str = "
create sequence versions;
create table district (id integer primary key, name text, changed timestamptz,
  updated_at timestamptz, version bigint);
create table house (id integer primary key, district integer, overseer integer, twin integer, rent numeric,
  state integer, notes text, built timestamptz not null, label text, changed timestamptz,
  hidden boolean not null default false, updated_at timestamptz, version bigint);
create table room (id integer primary key, house integer, name text, area numeric, changed timestamptz,
  updated_at timestamptz, version bigint);
create function stamp() returns trigger language plpgsql as
  $$ begin new.updated_at := now(); new.version := nextval('versions'); return new; end $$;
create trigger stamp before insert or update on district for each row execute function stamp();
create trigger stamp before insert or update on house for each row execute function stamp();
create trigger stamp before insert or update on room for each row execute function stamp();
";

const TARGET: &str = "
create type state as enum ('free', 'let', 'sold');
create table districts (id uuid primary key, name text not null, touched timestamptz, gone timestamptz,
  legacy_id integer unique);
create table houses (id uuid primary key, district_id uuid not null references districts,
  overseer_id uuid references districts, twin_id uuid references houses, rent numeric(8, 2), state state,
  notes jsonb, built timestamptz, label text, touched timestamptz, gone timestamptz, legacy_id integer unique);
create table rooms (id uuid primary key, house_id uuid not null references houses, name text not null,
  area numeric(8, 2), touched timestamptz, gone timestamptz, legacy_id integer unique);
create index on houses (district_id);
create index on houses (overseer_id);
create index on houses (twin_id);
create index on rooms (house_id);
";

const DISTRICTS: &str = r#"
[source]
from = "district d"
key = "d.id"
[target]
table = "districts"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
name = "d.name"
[changes]
newest = { source = "d.changed", target = "touched" }
deleted = { column = "gone", value = "timestamptz '2024-05-06 07:08:09+00'" }
"#;

const HOUSES: &str = r#"
[source]
from = "house h"
key = "h.id"
[[source.filter]]
name = "hidden"
keep = "not h.hidden"
[target]
table = "houses"
key = { column = "id", strategy = "uuid_v7", time = "h.built" }
legacy = "legacy_id"
[columns]
district_id = { ref = "districts", from = "h.district" }
overseer_id = { ref = "districts", from = "h.overseer", missing = "null" }
twin_id = { ref = "houses", from = "h.twin", missing = "null" }
rent = "h.rent"
state = { from = "h.state", map = { 0 = "free", 1 = "let", 2 = "sold" } }
notes = { parse = "h.notes" }
built = "h.built"
label = "h.label"
[changes]
newest = { source = "h.changed", target = "touched" }
deleted = { column = "gone", value = "timestamptz '2024-05-06 07:08:09+00'" }
"#;

const ROOMS: &str = r#"
[source]
from = "room r"
key = "r.id"
[target]
table = "rooms"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
house_id = { ref = "houses", from = "r.house" }
name = "r.name"
area = "r.area"
[changes]
newest = { source = "r.changed", target = "touched" }
deleted = { column = "gone", value = "timestamptz '2024-05-06 07:08:09+00'" }
"#;

/// Districts 1 to 20, houses 1 to 600 and rooms 1 to 900; every fifth house has a twin.
pub(crate) const DATA: &str = r#"
insert into district select i, 'District ' || i, null from generate_series(1, 20) i;
insert into house
select i, 1 + i % 20, case when i % 3 = 0 then 1 + i % 7 end, case when i % 5 = 0 then i - 3 end, i * 1.5, i % 3,
       case when i % 4 = 0 then '{"b":1,"a":[' || i || ']}' end,
       timestamptz '2020-01-01 00:00:00.123456+00' + i * interval '1 day', 'House ' || i, null, i % 50 = 0
from generate_series(1, 600) i;
insert into room select i, 1 + i % 600, 'Room ' || i, i % 30, null from generate_series(1, 900) i
where (1 + i % 600) % 50 <> 0;
"#;

/// A column of the source's tables that a cursor goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// When the transaction that wrote the row last began.
    UpdatedAt,
    /// Drawn from a sequence by the statement that wrote the row last.
    Version,
}

impl Cursor {
    fn column(self) -> &'static str {
        match self {
            Self::UpdatedAt => "updated_at",
            Self::Version => "version",
        }
    }
}

/// The project, with a source that holds `data`; `policies` are those of columns of houses, each as
/// `column = "policy"`; `cursor` is that of every entity.
pub(crate) fn town(data: &str, policies: &[&str], cursor: Option<Cursor>) -> ProjectFolder {
    // `[changes]` is the last table of each file.
    let with_cursor = |entity: &str, alias: &str| match cursor {
        Some(cursor) => format!("{entity}cursor = \"{alias}.{}\"\n", cursor.column()),
        None => entity.to_owned(),
    };
    let mut houses = with_cursor(HOUSES, "h");
    if !policies.is_empty() {
        houses.push_str(&format!("columns = {{ {} }}\n", policies.join(", ")));
    }
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("town", "100%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", data),
        ("target/schema.sql", TARGET),
        ("entities/districts.toml", &with_cursor(DISTRICTS, "d")),
        ("entities/houses.toml", &houses),
        ("entities/rooms.toml", &with_cursor(ROOMS, "r")),
    ])
}

/// The program, with batches that are small against the town.
pub(crate) fn program(rehearsal: &Rehearsal<'_>) -> Program {
    Program::on(REGRAFT, rehearsal).with("BATCH_SIZE", "20")
}

/// The arguments of a differential migration of everything, done in some way.
pub(crate) fn carry_over<'a>(way: &[&'a str]) -> Vec<&'a str> {
    [&["differential", "migrate", "--entities", "all"], way].concat()
}

/// Migrated and compared once.
pub(crate) fn in_step(folder: &ProjectFolder) -> Rehearsal<'static> {
    let rehearsal = Rehearsal::once(Servers::shared(), folder.path(), LEGACY);
    program(&rehearsal).expect(0, &["migrate"]);
    program(&rehearsal).expect(0, &carry_over(&[]));
    rehearsal
}

/// Whether the target is what the source says, as validation sees it.
#[track_caller]
pub(crate) fn validates(rehearsal: &Rehearsal<'_>, what: &str) {
    let validation = rehearsal.validate(&[], &ValidationOptions::default());
    let checks = validation.entities.iter().flat_map(|e| &e.checks);
    let findings: Vec<_> = checks.flat_map(|check| &check.findings).collect();
    assert!(findings.is_empty(), "{what}: {findings:#?}");
}
