//! A small project with what makes a migration hard: a table that refers to itself, two tables that
//! refer to each other, unique keys, checks and foreign keys that only the target knows, and rows
//! that violate them.
#![allow(dead_code, reason = "not every test binary needs all of it")]

use regraft_testkit::{ProjectFolder, manifest};

const SOURCE: &str = "
create table person (id integer primary key, name text, boss integer, house integer, email text,
                     born timestamptz not null);
create table house (id integer primary key, street text, owner integer);
create table pet (id integer primary key, person integer, name text, kind text, weight numeric, tag text);
";

/// People 1 to 300 in houses 1 to 100 with pets 1 to 400. The boss of 17 is nobody (so 17, and
/// who works for 17, stay behind), house 40 belongs to nobody known, and pets have the same tag,
/// the same name but for its letters' case, no weight to speak of, or are of a kind that the target doesn't know.
const DATA: &str = "
insert into person
select i, 'Person ' || i, case when i > 5 then 1 + i / 3 end, 1 + i % 100, 'p' || i || '@example.org',
       '2020-01-01T00:00:00Z'::timestamptz + make_interval(hours => i)
from generate_series(1, 300) i;
update person set boss = 9999 where id = 17;
update person set email = 'p20@example.org' where id in (120, 250);
insert into house select i, 'Lane ' || i, 1 + i * 2 from generate_series(1, 100) i;
update house set owner = 8888 where id = 40;
insert into pet
select i, 1 + i % 300, 'Pet ' || i, (array['cat', 'dog'])[1 + i % 2], 1 + i % 30, 'T' || i
from generate_series(1, 400) i;
update pet set kind = 'unicorn' where id % 97 = 0;
update pet set weight = -1 where id % 89 = 0;
update pet set tag = 'T5' where id % 101 = 0;
update pet set name = null where id = 333;
update pet set name = 'PET 8' where id in (210, 330);
";

const TARGET: &str = "
create table species (code text primary key);
insert into species values ('cat'), ('dog');
create table people (
  id uuid primary key, name text not null, boss_id uuid references people, house_id uuid,
  email text, born timestamptz, legacy_id integer unique, created_at timestamptz not null default now(),
  constraint one_email unique (email));
create table houses (id uuid primary key, street text, owner_id uuid references people, legacy_id integer unique);
alter table people add constraint lives_in foreign key (house_id) references houses (id);
create index people_house on people (house_id);
create index people_boss on people (boss_id) where boss_id is not null;
comment on index people_boss is 'who works for whom';
create table pets (
  id uuid primary key, person_id uuid not null references people, name text not null,
  kind text references species, weight numeric(6, 2) constraint heavy check (weight > 0),
  tag text, legacy_id integer unique);
create unique index pets_tag on pets (tag);
create unique index pets_name on pets (lower(name)) where name <> '';
create index pets_person on pets (person_id);
";

const PEOPLE: &str = r#"
[source]
from = "person p"
key = "p.id"
[target]
table = "people"
key = { column = "id", strategy = "uuid_v7", time = "p.born" }
legacy = "legacy_id"
[columns]
name = "p.name"
boss_id = { ref = "people", from = "p.boss" }
house_id = { ref = "houses", from = "p.house", missing = "null" }
email = "p.email"
born = "p.born"
"#;

const HOUSES: &str = r#"
[source]
from = "house h"
key = "h.id"
[target]
table = "houses"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
street = "h.street"
owner_id = { ref = "people", from = "h.owner" }
"#;

const PETS: &str = r#"
[source]
from = "pet t"
key = "t.id"
[[source.filter]]
name = "goldfish"
keep = "t.id % 50 <> 7"
[target]
table = "pets"
key = { column = "id", strategy = "uuid_v5" }
legacy = "legacy_id"
[columns]
person_id = { ref = "people", from = "t.person" }
name = "t.name"
kind = "t.kind"
weight = "t.weight"
tag = "t.tag"
"#;

/// The project.
pub(crate) fn village() -> ProjectFolder {
    ProjectFolder::new(&[
        ("regraft.toml", &manifest("village", "50%")),
        ("source/schema.sql", SOURCE),
        ("source/data.sql", DATA),
        ("target/schema.sql", TARGET),
        ("entities/people.toml", PEOPLE),
        ("entities/houses.toml", HOUSES),
        ("entities/pets.toml", PETS),
    ])
}
